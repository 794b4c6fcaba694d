"""Facts: what a reason rests on, in words and numbers, such as "9 payers of this receiver within 2 hours".

A reason names what it rests on as the policy's expressions do: `features.<name>` for the model, and what the expression
of a rule reads. FEATURES, COUNTERS and OTHERS are the only wording of each name. Words say what is true of the value at
hand. A fact is left out where the value is missing, where its counters do not have the payment, and where it would say
nothing. No fact has an id, a name or an address. Pure.
"""

import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cached_property, partial

from fraud.counters.layout import DAY, HORIZON_DAYS, KINDS, PAIR, RECEIVING, State
from fraud.counters.sampling import CLOSE
from fraud.counters.windows import DISTINCT, IDLE_CAP, MATURE_WINDOWS, MATURITY_DAYS, NAMES, kind_of
from fraud.marks.mark import PARTIES, marks
from fraud.outcome import Fact
from fraud.rules.numbers import duration, money, number, share, span, times
from fraud.rules.standing import ROLES, standing
from fraud.scoring import features
from fraud.transaction import COUNT_CAP, Transaction

MOST_FACTS = 4
"""Most facts of one reason: an analyst reads the first few."""

EXACT_UP_TO = 20
"""Distinct counts are estimates. Above this number they are said with `about`."""


class Subject:
    """The payment that facts are told of, as it was judged.

    counters  by name; NaN where they could not be read
    vector    of `features.vector`
    state     that the counters were measured from
    away      names of the kinds whose counters do not have the payment: nothing is told of them
    """

    def __init__(  # a dataclass would take a millisecond of each cold start
        self,
        transaction: Transaction,
        counters: Mapping[str, float],
        vector: Sequence[float],
        state: State,
        away: Collection[str] = (),
    ) -> None:
        self.transaction = transaction
        self.counters = counters
        self.vector = vector
        self.state = state
        self.away = away

    @cached_property
    def receiver(self) -> str:
        """The name of the kind under which the counterparty is counted."""
        return RECEIVING[self.transaction.type].name

    @cached_property
    def kinds(self) -> frozenset[str]:
        """The names of the kinds under which the payment is counted, and whose counters have it."""
        device = {"device"} if self.transaction.device_id is not None else set()
        return frozenset({"payer", self.receiver, PAIR.name, *device} - {*self.away})

    @cached_property
    def estimated(self) -> Collection[str]:
        """The names of the kinds whose counters are estimates."""
        return self.state.estimated

    def feature(self, name: str) -> float:
        """Return the value of a feature; NaN when it is missing, or when its counters do not have the payment."""
        is_away = bool(self.away) and not features.kinds_of(name).isdisjoint(self.away)
        return math.nan if is_away else self.vector[features.NAMES.index(name)]

    def money(self, minor: float) -> str:
        """Return an amount of the payment's currency in words."""
        return money(round(minor), self.transaction.currency)

    def about(self, kind: str) -> str:
        """Return `about ` if the counters of a kind are estimates, else nothing."""
        return "about " if kind in self.estimated else ""


Words = Callable[[Subject, float], str | None]
"""Says a value in words; None where there is nothing to say."""


def facts(names: Iterable[str], subject: Subject) -> list[Fact]:
    """Return the facts of a reason that rests on these names, in their order, at most MOST_FACTS.

    The payment's amount follows when none of them says a number: every reason has one.
    """
    found: dict[str, Fact] = {}
    for name in names:
        if (fact := told(name, subject)) is not None:
            found.setdefault(fact.text, fact)
        if len(found) == MOST_FACTS:
            break
    said = list(found.values())
    if not any(map(_NUMBER.search, found)):
        said += filter(None, [told("transaction.amount", subject)])
    return said


_NUMBER = re.compile(r"\d")


def told(name: str, subject: Subject) -> Fact | None:
    """Return the fact of one name, or None where there is nothing to say.

    A feature that is a counter, or the logarithm of one, is told as that counter.
    """
    root, _, member = name.partition(".")
    if root == "counters":
        return _counter(member, subject)
    if root == "features":
        words = FEATURES[member]
        if not isinstance(words, str):
            value = subject.feature(member)
            return _fact(name, value, words(subject, value))
        name = words.format(receiver=subject.receiver)
        if name in COUNTERS:
            unknown = name.startswith("device") and subject.counters["device_distinct_30d"] > features.MOST_ACCOUNTS
            return _counter("device_distinct_30d" if unknown else name, subject)
    if name not in OTHERS:
        return None
    value, text = OTHERS[name](subject)
    return _fact(name, value, text)


def _counter(name: str, subject: Subject) -> Fact | None:
    """Return the fact of a counter. Without a device it is that there is none."""
    if name.startswith("device") and subject.transaction.device_id is None:
        return told("transaction.device_id", subject)
    kind, value = kind_of(name), subject.counters[name]
    takes_part = (
        subject.transaction.payee_id is not None or name.startswith("payer") if kind is None else kind in subject.kinds
    )
    return _fact(f"counters.{name}", value, COUNTERS[name](subject, value) if takes_part and value == value else None)  # noqa: PLR0124


def _fact(name: str, value: float, text: str | None) -> Fact | None:
    return None if text is None else Fact(name=name, value=round(value, 4) if math.isfinite(value) else None, text=text)


# ---- counters ------------------------------------------------------------------------------------------------------

OF_KIND: dict[str, str] = {
    "payer": "of this payer",
    "payee": "to this receiver",
    "merchant": "to this merchant",
    "device": "with this device",
    "instrument": "with this instrument",
}
"""Completes `payments ...` of a kind of counters."""

OTHER_SIDE: dict[str, tuple[str, str, str]] = {
    "payer": ("receiver", "receivers", "of this payer"),
    "payee": ("payer", "payers", "of this receiver"),
    "merchant": ("payer", "payers", "of this merchant"),
    "device": ("account", "accounts", "on this device"),
    "instrument": ("account", "accounts", "on this instrument"),
}
"""The distinct ones that a kind counts: one, several, and of what."""


def _payments(kind: str, subject: Subject) -> str:
    """Complete `payments ...` for a kind.

    The kind pair has the words of both sides.
    """
    return OF_KIND[kind] if kind != PAIR.name else f"of this payer {OF_KIND[subject.receiver]}"


def _count(kind: str, window: str, subject: Subject, value: float) -> str | None:
    about, payments = subject.about(kind), _payments(kind, subject)
    if value < 1:
        return None
    if value == 1 and not about:
        first = f"this payer's first payment {OF_KIND[subject.receiver]} in {span(window)}"
        return first if kind == PAIR.name else f"no other payment {payments} within {span(window)}"
    return f"{about}{number(value, 'payment', 'payments')} {payments} within {span(window)}"


def _sum(kind: str, window: str, subject: Subject, value: float) -> str | None:
    if value < 1:
        return None
    # A counter takes a part of an absurd amount only. Below that limit no amount in it can have been cut.
    least = "at least " if value >= COUNT_CAP * subject.transaction.unit else ""
    about = subject.about(kind) or least
    return f"payments {_payments(kind, subject)} within {span(window)} come to {about}{subject.money(value)}"


def _void(kind: str, window: str, subject: Subject, value: float) -> str | None:
    if value < 1:
        return None
    return (
        f"payments {_payments(kind, subject)} within {span(window)} that moved no money come to {subject.money(value)}"
    )


def _distinct(kind: str, window: str, subject: Subject, value: float) -> str | None:
    one, many, whose = OTHER_SIDE[kind]
    if round(value) < 1:
        return None
    if value >= DISTINCT[-1]:
        return f"{value:,.0f} or more {many} {whose} within {span(window)}"
    about = "about " if value > EXACT_UP_TO else subject.about(kind)
    return f"{about}{number(value, one, many)} {whose} within {span(window)}"


def _decayed(kind: str, window: str, subject: Subject, value: float) -> str | None:
    if value < 1:
        return None
    return f"payments {_payments(kind, subject)}, halved every {span(window)}, come to about {subject.money(value)}"


def _age(kind: str, window: str, subject: Subject, value: float) -> str | None:
    del window, subject
    if value < 60:  # noqa: PLR2004 - a minute
        return f"no payment {OF_KIND[kind]} is known from before the last minute"
    return f"first known payment {OF_KIND[kind]} {duration(value)} ago"


def _idle(kind: str, window: str, subject: Subject, value: float) -> str | None:
    del window, subject
    if value >= IDLE_CAP:
        return f"no other payment {OF_KIND[kind]} for {HORIZON_DAYS} days or more"
    return f"last payment {OF_KIND[kind]} {duration(value)} before this one"


def _closed(kind: str, window: str, subject: Subject, value: float) -> str | None:
    del window, subject
    period = "a day (UTC)" if KINDS[kind].period == DAY else "an hour"
    return f"more than {CLOSE:,} payments {OF_KIND[kind]} in {period}" if value else None


def _pair_age(kind: str, window: str, subject: Subject, value: float) -> str | None:
    del kind, window
    whom = OF_KIND[subject.receiver]
    if value < 1:
        return f"no payment of this payer {whom} on an earlier day of the last {HORIZON_DAYS}"
    return f"first payment of this payer {whom} at least {number(value, 'day', 'days')} ago"


def _new(kind: str, window: str, subject: Subject, value: float) -> str | None:
    """Say that the device is new. That it is known is not said: two devices may share a slot."""
    del kind, window, subject
    return f"this payer's first payment with this device in {HORIZON_DAYS} days" if value else None


def _frauds(kind: str, window: str, subject: Subject, value: float) -> str | None:
    del subject
    said = number(value, "payment", "payments") if value >= 1 else "no payment"
    return f"{said} {OF_KIND[kind]} became known as fraud within {span(window)}"


def _largest(kind: str, window: str, subject: Subject, value: float) -> str | None:
    if value < 1:
        return None
    return f"the largest other payment {OF_KIND[kind]} within {span(window)} is about {subject.money(value)}"


def _mature_count(kind: str, window: str, subject: Subject, value: float) -> str | None:
    if value < 1:
        return None
    about = subject.about(subject.receiver)
    return f"{about}{number(value, 'payment', 'payments')} {OF_KIND[kind]} {_mature(window)}"


def _mature_frauds(kind: str, window: str, subject: Subject, value: float) -> str | None:
    if subject.counters[f"payee_mature_count_{window}"] < 1:
        return None
    said = number(value, "payment", "payments") if value >= 1 else "no payment"
    return f"{said} {OF_KIND[kind]} {_mature(window)} {'are' if value > 1 else 'is'} known as fraud"


def _mature(window: str) -> str:
    """Say the days of a receiver's mature window."""
    days = MATURE_WINDOWS[window]
    ago = f"{MATURITY_DAYS} days ago" if days == 1 else f"{MATURITY_DAYS} to {MATURITY_DAYS + days - 1} days ago"
    return f"of {ago}"


def _nothing(kind: str, window: str, subject: Subject, value: float) -> None:
    """Say nothing: the number means nothing to a person, and the feature that is made of it has words."""
    del kind, window, subject, value


AGGREGATIONS: dict[str, Callable[[str, str, Subject, float], str | None]] = {
    "count": _count,
    "sum": _sum,
    "distinct": _distinct,
    "decayed_sum": _decayed,
    "age": _age,
    "idle": _idle,
    "closed": _closed,
    "age_days": _pair_age,
    "new": _new,
    "frauds": _frauds,
    "log_sum": _nothing,
    "log_squares": _nothing,
    "largest": _largest,
    "mature_count": _mature_count,
    "mature_frauds": _mature_frauds,
    "void": _void,
}
"""The words of a counter by what it counts. They take the counter's kind and window (may be empty) first."""

_PARTS = re.compile(r"(?P<kind>[a-z]+)_(?P<what>[a-z_]+?)(_(?P<window>\d+[mhd]))?")


def _words_of(name: str) -> Words:
    parts = _PARTS.fullmatch(name)
    assert parts is not None, name  # noqa: S101 - the names are ours
    return partial(AGGREGATIONS[parts["what"]], parts["kind"], parts["window"] or "")


COUNTERS: dict[str, Words] = {name: _words_of(name) for name in NAMES}
"""The words of every counter."""


# ---- features ------------------------------------------------------------------------------------------------------


def _payer_normal(subject: Subject, value: float) -> str | None:
    if math.isnan(value):
        return _count("payer", "30d", subject, 1) if subject.counters["payer_count_30d"] <= 1 else None
    amount, usual = subject.money(subject.transaction.amount), subject.money(subject.transaction.amount / value)
    return f"amount {amount}, {times(value)} this payer's usual of {HORIZON_DAYS} days ({usual})"


def _counterparty_normal(subject: Subject, value: float) -> str | None:
    whom, about = OF_KIND[subject.receiver], subject.about(subject.receiver)
    if math.isnan(value):
        count = subject.counters[f"{subject.receiver}_count_30d"]
        return _count(subject.receiver, "30d", subject, 1) if count <= 1 else None
    usual = subject.money(subject.transaction.amount / value)
    return f"amount {about}{times(value)} the usual payment {whom} of {HORIZON_DAYS} days ({usual})"


def _payer_share(subject: Subject, value: float) -> str | None:
    del subject
    # Above 1 the counter took a part of the amount only, so the share is not known.
    return f"{share(value)} of what this payer paid within 24 hours" if value <= 1 else None


def _count_share(subject: Subject, value: float) -> str | None:
    day, month = (subject.counters[f"payer_count_{window}"] for window in ("24h", "30d"))
    if not value <= 1:
        return None
    return (
        f"{day:,.0f} of {number(month, 'payment', 'payments')} of this payer within 30 days came in the last 24 hours"
    )


def _payer_deviation(subject: Subject, value: float) -> str | None:
    del subject
    if math.isnan(value):
        return None
    side = "above" if value >= 0 else "below"
    return f"amount {abs(value):.1f} standard deviations {side} this payer's usual of {HORIZON_DAYS} days"


def _payer_largest(subject: Subject, value: float) -> str | None:
    if math.isnan(value):
        return None
    largest = subject.money(subject.transaction.amount / value)
    return f"amount {times(value)} this payer's largest other payment of {HORIZON_DAYS} days (about {largest})"


def _fraud_share(window: str, subject: Subject, value: float) -> str | None:
    if math.isnan(value):
        return None
    about, whom = subject.about(subject.receiver), OF_KIND[subject.receiver]
    return f"{about}{share(value)} of the payments {whom} {_mature(window)} are known as fraud"


def _mean(subject: Subject, value: float) -> str | None:
    if math.isnan(value):
        return None
    mean = f"{subject.about(subject.receiver)}{subject.money(math.expm1(value))}"
    return f"payments {OF_KIND[subject.receiver]} within 24 hours average {mean}"


TYPES: dict[str, str] = {
    "p2p": "payment between users",
    "merchant": "payment to a merchant",
    "cash_out": "cash-out",
    "top_up": "top-up",
}


def _type(subject: Subject, value: float) -> str | None:
    del value
    return f"{TYPES[subject.transaction.type]} of {subject.money(subject.transaction.amount)}"


FEATURES: dict[str, str | Words] = {
    "amount_log": "transaction.amount",
    "amount_to_payer_normal_30d": _payer_normal,
    "amount_to_counterparty_normal_30d": _counterparty_normal,
    "amount_deviation_of_payer_30d": _payer_deviation,
    "amount_to_payer_largest_30d": _payer_largest,
    "amount_share_of_payer_24h": _payer_share,
    "is_merchant": _type,
    "is_cash_out": _type,
    "is_top_up": _type,
    "is_retry": "transaction.attempt_of",
    "time_of_day_sin": "transaction.occurred_at",
    "time_of_day_cos": "transaction.occurred_at",
    "payer_count_1m": "payer_count_1m",
    "payer_count_1h": "payer_count_1h",
    "payer_count_24h": "payer_count_24h",
    "payer_count_24h_share_of_30d": _count_share,
    "payer_decayed_sum_6h_log": "payer_decayed_sum_6h",
    "payer_distinct_2h": "payer_distinct_2h",
    "payer_distinct_24h": "payer_distinct_24h",
    "payer_idle_log": "payer_idle",
    "payer_age_log": "payer_age",
    "pair_count_30d": "pair_count_30d",
    "pair_age_days": "pair_age_days",
    "device_new": "device_new",
    "device_count_1h": "device_count_1h",
    "device_distinct_24h": "device_distinct_24h",
    "counterparty_count_1h": "{receiver}_count_1h",
    "counterparty_distinct_2h": "{receiver}_distinct_2h",
    "counterparty_distinct_24h": "{receiver}_distinct_24h",
    "counterparty_sum_24h_log": "{receiver}_sum_24h",
    "counterparty_mean_24h_log": _mean,
    "counterparty_age_log": "{receiver}_age",
    "counterparty_idle_log": "{receiver}_idle",
    "payee_frauds_2d": "payee_frauds_2d",
    "payee_frauds_7d": "payee_frauds_7d",
    "payee_frauds_30d": "payee_frauds_30d",
    **{f"payee_fraud_share_{window}": partial(_fraud_share, window) for window in MATURE_WINDOWS},
    "payer_frauds_30d": "payer_frauds_30d",
    **{f"{role}_mark_lift": f"standing.{role}_mark_lift" for role in PARTIES},
}
"""The words of every feature: its own, or the name of the counter or of the field that it is told as."""


# ---- the payment, its parties, and what was missing ----------------------------------------------------------------


def _amount(subject: Subject) -> tuple[float, str | None]:
    """Say the amount, beside this payer's usual if that is known: in the same words as the feature of it."""
    amount, normal = subject.transaction.amount, subject.feature("amount_to_payer_normal_30d")
    return amount, f"amount {subject.money(amount)}" if math.isnan(normal) else _payer_normal(subject, normal)


def _time(subject: Subject) -> tuple[float, str]:
    return math.nan, f"paid at {subject.transaction.occurred_at:%H:%M} UTC"


def _attempt(subject: Subject) -> tuple[float, str]:
    which = "first" if subject.transaction.attempt_of is None else "another"
    return math.nan, f"{which} attempt to pay {subject.money(subject.transaction.amount)}"


def _device(subject: Subject) -> tuple[float, str | None]:
    amount = subject.money(subject.transaction.amount)
    return math.nan, f"payment of {amount} without a device" if subject.transaction.device_id is None else None


def _denied(role: str, subject: Subject) -> tuple[float, str | None]:
    held = standing(subject.transaction, subject.state)[f"{role}_denied"]
    who = "IP address" if role == "ip" else role
    return float(held), f"the {who} is on the deny list" if held else None


def _status(role: str, subject: Subject) -> tuple[float, str | None]:
    held = standing(subject.transaction, subject.state)[f"{role}_status"]
    return math.nan, None if held == "active" else f"the {role}'s account is not active"


def _mark(role: str, subject: Subject) -> tuple[float, str | None]:
    mark = marks(subject.transaction, subject.state).get(role)
    if mark is None:
        return 0.0, None
    often = f"such accounts turn out fraudulent at least {mark.lift:.1f} times as often as others"
    return mark.lift, f"the {role}'s account is marked by its place among others ({mark.name}): {often}"


def _missing(text: str, subject: Subject) -> tuple[float, str]:
    del subject
    return math.nan, text


OTHERS: dict[str, Callable[[Subject], tuple[float, str | None]]] = {
    "transaction.amount": _amount,
    "transaction.occurred_at": _time,
    "transaction.attempt_of": _attempt,
    "transaction.device_id": _device,
    **{f"standing.{role}_denied": partial(_denied, role) for role in ROLES},
    **{f"standing.{role}_status": partial(_status, role) for role in PARTIES},
    **{f"standing.{role}_{name}": partial(_mark, role) for name in ("mark", "mark_lift") for role in PARTIES},
    "state": partial(_missing, "no counters could be read in time"),
    **{
        f"counter:{kind}": partial(_missing, f"counters of the {kind} could not be written or read in time")
        for kind in KINDS
    },
    **{f"flooded:{kind}": partial(_missing, f"more attempts name this {kind} than can be counted") for kind in KINDS},
}
"""Value and words of whatever else a reason may rest on. Other fields of a payment could name a person."""
