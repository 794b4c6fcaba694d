"""The feature vector: the only definition of the model's inputs, online and in training.

`FEATURES` is an ordered table of name and function over a `Payment` (transaction and counters). `vector` evaluates it
and rounds each value to float32: xgboost compares in float32, so an unrounded value could take another branch of a
tree. `fingerprint` identifies the definition that a model was trained with. A model with another fingerprint must not
score.
"""

import hashlib
import itertools
import math
import struct
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from typing import NamedTuple

from fraud.counters.in_memory import InMemoryCounters
from fraud.counters.layout import DAY, KINDS, LOG_STEPS, RECEIVING, State, log_size
from fraud.counters.windows import MATURE_WINDOWS, kind_of, measure
from fraud.counters.windows import NAMES as COUNTERS
from fraud.marks.mark import marks
from fraud.transaction import COUNT_CAP, NEEDS_PAYEE, UNITS, Transaction

NAN = math.nan
Counts = Mapping[str, float]

MOST_ACCOUNTS = 50
"""The most accounts that may share a device within 30 days. A device of more accounts tells nothing about one of them.
"""


class Lifts(NamedTuple):
    """Lifts of the marks of the payment's accounts; 0 without a mark (D-179).

    A mark's lift is the lower bound that earned it, so it is never 0 by itself.
    """

    payer: float = 0.0
    payee: float = 0.0


UNMARKED = Lifts()


def lifts_of(transaction: Transaction, state: State) -> Lifts:
    """Return the lifts of the marks that stand at the payment's own time."""
    if not state.snapshot:
        return UNMARKED
    return Lifts(**{role: mark.lift for role, mark in marks(transaction, state).items()})


class Payment(NamedTuple):
    """The inputs of a feature: the transaction, its counters, and the kind under which its counterparty is counted.

    lifts  of the marks that stand beside the counters
    """

    transaction: Transaction
    counters: Counts
    receiver: str
    lifts: Lifts = UNMARKED

    def payer(self, counter: str) -> float:
        """Return a counter of the payer, by its name without the prefix: `count_1h`."""
        return self.counters[f"payer_{counter}"]

    def device(self, counter: str) -> float:
        """Return a counter of the device, by its name without the prefix; NaN when no device tells anything.

        The payment names none, or one that so many accounts share that it is no device: a placeholder, or a proxy.
        """
        tells_nothing = self.transaction.device_id is None or self.counters["device_distinct_30d"] > MOST_ACCOUNTS
        return NAN if tells_nothing else self.counters[f"device_{counter}"]

    def counterparty(self, counter: str) -> float:
        """Return a counter of the receiver: the payee, the merchant or the instrument."""
        return self.counters[f"{self.receiver}_{counter}"]


def _ratio(numerator: float, denominator: float) -> float:
    """Return the quotient, or NaN when the denominator is 0: the trees have a branch for missing values.

    >>> _ratio(1, 4), _ratio(1, 0)
    (0.25, nan)
    """
    return numerator / denominator if denominator else NAN


def _against_others(payment: Payment, read: Callable[[str], float], window: str) -> float:
    """Return the amount over the mean of the same entity's other payments in the window; NaN when there are none."""
    amount = payment.transaction.amount
    others = read(f"count_{window}") - 1
    sum_of_others = read(f"sum_{window}") - payment.transaction.counted_amount
    return _ratio(amount * others, max(sum_of_others, 0)) if others > 0 else NAN


USUAL_SPREAD = LOG_STEPS / 2
"""Standard deviation of log sizes that counts like one more payment, so that two equal amounts do not make a third one
look impossible: a factor of 1.6.
"""


def _deviation(payment: Payment) -> float:
    """Return how many standard deviations the amount's log size lies above the payer's other payments of 30 days.

    NaN when there are none. The variance is that of the other payments and one more that lies USUAL_SPREAD off.
    """
    size, others = log_size(payment.transaction.counted_amount), payment.payer("count_30d") - 1
    if not others > 0:
        return NAN
    total = payment.payer("log_sum_30d") - size
    squares = payment.payer("log_squares_30d") - size * size - total * total / others
    return (size - total / others) / math.sqrt((max(squares, 0) + USUAL_SPREAD**2) / (others + 1))


def _fraud_share(payment: Payment, window: str) -> float:
    """Return the share of known fraud among the receiver's payments of mature days; NaN when it had none."""
    return min(
        _ratio(payment.counters[f"payee_mature_frauds_{window}"], payment.counters[f"payee_mature_count_{window}"]), 1
    )


def _day_angle(payment: Payment) -> float:
    """Return the time of day in UTC as an angle in radians. By its sine and cosine midnight stays next to 23:59."""
    return payment.transaction.epoch % DAY * (2 * math.pi / DAY)


Table = tuple[tuple[str, Callable[[Payment], float]], ...]

FEATURES: Table = (
    # The payment itself, compared with what is usual for this payer and this receiver.
    ("amount_log", lambda p: math.log1p(p.transaction.amount)),
    ("amount_to_payer_normal_30d", lambda p: _against_others(p, p.payer, "30d")),
    ("amount_to_counterparty_normal_30d", lambda p: _against_others(p, p.counterparty, "30d")),
    ("amount_deviation_of_payer_30d", _deviation),
    ("amount_to_payer_largest_30d", lambda p: _ratio(p.transaction.amount, p.payer("largest_30d"))),
    ("amount_share_of_payer_24h", lambda p: _ratio(p.transaction.amount, p.payer("sum_24h"))),
    ("is_merchant", lambda p: float(p.transaction.type == "merchant")),
    ("is_cash_out", lambda p: float(p.transaction.type == "cash_out")),
    ("is_top_up", lambda p: float(p.transaction.type == "top_up")),
    ("is_retry", lambda p: float(p.transaction.attempt_of is not None)),
    ("time_of_day_sin", lambda p: math.sin(_day_angle(p))),
    ("time_of_day_cos", lambda p: math.cos(_day_angle(p))),
    # How fast the payer pays, and how that compares with the month.
    ("payer_count_1m", lambda p: p.payer("count_1m")),
    ("payer_count_1h", lambda p: p.payer("count_1h")),
    ("payer_count_24h", lambda p: p.payer("count_24h")),
    ("payer_count_24h_share_of_30d", lambda p: _ratio(p.payer("count_24h"), p.payer("count_30d"))),
    ("payer_decayed_sum_6h_log", lambda p: math.log1p(p.payer("decayed_sum_6h"))),
    ("payer_distinct_2h", lambda p: p.payer("distinct_2h")),
    ("payer_distinct_24h", lambda p: p.payer("distinct_24h")),
    ("payer_idle_log", lambda p: math.log1p(p.payer("idle"))),
    ("payer_age_log", lambda p: math.log1p(p.payer("age"))),
    # Novelty of the relation and of the device.
    ("pair_count_30d", lambda p: p.counters["pair_count_30d"]),
    ("pair_age_days", lambda p: p.counters["pair_age_days"]),
    ("device_new", lambda p: p.device("new")),
    ("device_count_1h", lambda p: p.device("count_1h")),
    ("device_distinct_24h", lambda p: p.device("distinct_24h")),
    # The receiver's risk: fan-in, speed, freshness, and the amounts it usually sees.
    ("counterparty_count_1h", lambda p: p.counterparty("count_1h")),
    ("counterparty_distinct_2h", lambda p: p.counterparty("distinct_2h")),
    ("counterparty_distinct_24h", lambda p: p.counterparty("distinct_24h")),
    ("counterparty_sum_24h_log", lambda p: math.log1p(p.counterparty("sum_24h"))),
    ("counterparty_mean_24h_log", lambda p: math.log1p(_ratio(p.counterparty("sum_24h"), p.counterparty("count_24h")))),
    ("counterparty_age_log", lambda p: math.log1p(p.counterparty("age"))),
    ("counterparty_idle_log", lambda p: math.log1p(p.counterparty("idle"))),
    # Confirmed fraud, as far as it was known at the time of the payment.
    ("payee_frauds_2d", lambda p: p.counters["payee_frauds_2d"]),
    ("payee_frauds_7d", lambda p: p.counters["payee_frauds_7d"]),
    ("payee_frauds_30d", lambda p: p.counters["payee_frauds_30d"]),
    *[(f"payee_fraud_share_{window}", partial(_fraud_share, window=window)) for window in MATURE_WINDOWS],
    ("payer_frauds_30d", lambda p: p.counters["payer_frauds_30d"]),
    # Marks: how much more often accounts of the same shape in the graph turned out to be fraudulent.
    ("payer_mark_lift", lambda p: p.lifts.payer),
    ("payee_mark_lift", lambda p: p.lifts.payee),
)

NAMES: tuple[str, ...] = tuple(name for name, _ in FEATURES)
_FLOATS = struct.Struct(f"<{len(FEATURES)}f")

Vector = tuple[float, ...]


def vector(transaction: Transaction, counters: Counts, lifts: Lifts = UNMARKED, *, table: Table = FEATURES) -> Vector:
    """Return the features of a transaction: one value per name in NAMES, rounded to float32; a missing value is NaN.

    >>> from fraud.counters.windows import ABSENT
    >>> values = dict(zip(NAMES, vector(_probes()[0], ABSENT), strict=True))
    >>> values["is_merchant"], values["amount_to_payer_normal_30d"]
    (0.0, nan)
    """
    payment = Payment(transaction, counters, RECEIVING[transaction.type].name, lifts)
    return _FLOATS.unpack(_FLOATS.pack(*[feature(payment) for _, feature in table]))


def without(counters: Counts, kinds: Collection[str]) -> dict[str, float]:
    """Return the counters with NaN for each counter of these kinds: the items of the kinds could not be read.

    `device_new` goes with the payer, because the payer's item holds it. Fraud counters are read from profiles and stay.

    >>> without({"payer_age": 60, "device_new": 1, "payer_frauds_2d": 0, "pair_age_days": 2}, ["payer"])
    {'payer_age': nan, 'device_new': nan, 'payer_frauds_2d': 0, 'pair_age_days': 2}
    """
    return {name: NAN if kind_of(name) in kinds else value for name, value in counters.items()}


@cache
def kinds_of(feature: str) -> frozenset[str]:
    """Return the names of the kinds of counters without which a feature is missing.

    >>> sorted(kinds_of("pair_age_days")), sorted(kinds_of("counterparty_age_log")), sorted(kinds_of("amount_log"))
    (['pair'], ['instrument', 'merchant', 'payee'], [])
    """
    place, counters = NAMES.index(feature), dict.fromkeys(COUNTERS, 1e6) | {"device_distinct_30d": 1.0}
    payments = [_probe(0, kind, "payer", "payee", "device", 0) for kind in RECEIVING]
    return frozenset(
        kind for kind in KINDS if any(math.isnan(vector(each, without(counters, [kind]))[place]) for each in payments)
    )


def pack(values: Vector) -> bytes:
    """Return the snapshot that a decision stores: little-endian float32 in the order of NAMES.

    Raises struct.error for a vector of another length.

    >>> snapshot = pack((0.1,) * len(NAMES))
    >>> len(snapshot) == 4 * len(NAMES), unpack(snapshot)[0]
    (True, 0.10000000149011612)
    """
    return _FLOATS.pack(*values)


def unpack(snapshot: bytes) -> Vector:
    """Return the vector that a decision was made on. Raises struct.error for a snapshot of another length."""
    return _FLOATS.unpack(snapshot)


@cache
def fingerprint(table: Table = FEATURES) -> str:
    """Return 16 hex digits: a hash of the features' names and of their vectors for a probe history.

    A changed definition, in this module or in `fraud.counters`, changes the fingerprint.

    >>> fingerprint(FEATURES[::-1]) == fingerprint()
    False
    """
    digest = hashlib.sha256(" ".join(name for name, _ in table).encode())
    digest.update(f"{sorted(UNITS.items())} {COUNT_CAP} {MOST_ACCOUNTS}".encode())
    for values in probed(table):
        digest.update(pack(values))
    return digest.hexdigest()[:16]


def probed(table: Table = FEATURES) -> Iterator[Vector]:
    """Yield the vectors of the probe history. It has a payment on both sides of every limit in the definition."""
    counters = InMemoryCounters()
    for account, prefix, age, change in _frauds():
        counters.learn(account, prefix, int(PRESENT.timestamp()) // DAY - age, change)
    for number, probe in enumerate(_probes()):
        lifts = Lifts(number % 3, number % 5) if number % 2 else UNMARKED
        yield vector(probe, measure(probe, counters.count(probe)), lifts, table=table)


PRESENT = datetime(2026, 1, 5, 21, 50, 7, tzinfo=UTC)
"""The present of the probe history. Everything in the history has an age relative to it."""

DAYS_AGO = (43, 30, 29, 2)
"""Ages on both sides of two limits: the end of the longest window, and the last day that is read from items."""

HOURS_AGO = (47, 46, 45, 33, 20, 16, 15, 2)
"""Ages for a merchant: the day before yesterday, yesterday's first hour, and both sides of the live hours' limit."""

MATURE_DAYS_AGO = (31, 30, 29, 14, 13, 8, 7, 6)
"""Ages on both sides of the limits of a receiver's mature days."""

SECONDS_AGO = (DAY, DAY - 3600, 7200, 3600, 3300, 60, 50, 0)
"""Ages on both sides of the limit of every short window."""


def _frauds() -> Iterator[tuple[str, str, int, int]]:
    """Yield the known frauds as (account, prefix, age in days, change).

    Every day has two changes, because they must add up. Age -1 is tomorrow, which no window may count.
    """
    for n, (account, prefix) in enumerate(itertools.product(("payer", "payee"), ("fo", "fi")), start=1):
        for age in (-1, 1, 2, 6, 7, 29, 30):
            yield from ((account, prefix, age, n), (account, prefix, age, age + 2))
    for account, prefix, most in (("payee", "ki", 3), ("payee", "km", 2), ("shop", "km", 3), ("shop", "ki", 2)):
        yield from ((account, prefix, age, change) for age in MATURE_DAYS_AGO for change in (most, age % 3 - 2))


def _probes() -> list[Transaction]:
    """Return the probe history. Its short form is a list of (type, payer, counterparty, device, age in seconds)."""
    story: list[tuple[str, str, str, str | None, int]] = []
    for days in DAYS_AGO:
        story += [
            ("p2p", "payer", "payee", f"device-{days}", days * DAY),
            ("p2p", "payee", "payer", None, days * DAY),
            ("top_up", "friend-1", "card", None, days * DAY),
            ("p2p", "friend-1", "friend-2", None, days * DAY),
        ]
    for days in MATURE_DAYS_AGO:
        story += [("p2p", f"friend-{n}", "payee", None, days * DAY) for n in range(2 + days % 4)]
        story += [("merchant", f"friend-{n}", "shop", None, days * DAY) for n in range(3 + days % 3)]
    for hours in HOURS_AGO:
        story += [("merchant", f"client-{hours}", "shop", None, hours * 3600)]
    for age in SECONDS_AGO:
        story += [
            ("p2p", "payer", f"payee-{age}", f"device-{age // DAY}", age),
            ("p2p", f"payer-{age}", "payee", None, age),
            ("p2p", f"guest-{age}", f"host-{age}", "device", age),
        ]
    story += [("p2p", "payer", "stranger", f"device-{days}", 0) for days in (1, 29, 30, 30)]
    story += [("p2p", payer, payee, None, 0) for payer, payee in (("friend-1", "friend-2"), ("payee", "payer"))]
    story += [(kind, "payer", "payee", None, -2) for kind in ("merchant", "p2p", "merchant")]
    story += [(kind, "stranger", "card", None, -2) for kind in ("cash_out", "top_up", "cash_out")]
    story += [("merchant", "payer", "shop", None, -2), ("p2p", "payer", "shop", None, -2)]
    story += [("p2p", "payer", "stranger", None, 7200)]  # it comes late
    story += [("p2p", "rich", "host", None, -2)] * 2  # amounts beyond what counters count
    return [_probe(n, *each) for n, each in enumerate(story)]


def _probe(n: int, kind: str, payer: str, counterparty: str, device: str | None, age: int) -> Transaction:  # noqa: PLR0913, PLR0917 - a payment
    """Return payment `n` of the probe history from its short form."""
    return Transaction.model_validate(
        {
            "transaction_id": f"probe-{n}",
            "type": kind,
            "payer_id": payer,
            "payee_id" if kind in NEEDS_PAYEE else "instrument_id": counterparty,
            "amount": 10**11 if payer == "rich" else 100 + 7_919 * n % 5_000,
            "currency": "JPY",
            "occurred_at": PRESENT - timedelta(seconds=age),
            "device_id": device,
            "attempt_of": f"probe-{n - 1}" if n % 9 == 1 else None,
        }
    )
