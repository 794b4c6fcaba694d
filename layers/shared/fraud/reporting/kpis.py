"""THE definition of the KPIs, as data: what is counted, by which clock, and what each figure says. Pure.

A KPI is one entry of KPIS: a quotient of two quantities of a relation, for a UTC day and a segment. A relation is a
query of the archive (`*.sql`, in the SQL that Athena and DuckDB share) with a row for each payment, verdict, waiting
case and so on. `query` sums the quantities of a relation; each is a whole number, so any other way to count them must
give the same. `figures` makes quotients and intervals of the counts. Queries, metrics, tables, docs/kpis.md and the
plots follow from these entries.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

from fraud.archive.record import microseconds
from fraud.reporting.intervals import Interval, clopper_pearson
from fraud.reporting.weighted import weighted

ALL = "all"
"""The segment that stands for all of them."""

ENOUGH = 5
"""From so many frauds on, the upper end of the fraud rate's interval is determinable."""

LABELS_DAYS = 30
"""Days after a payment until most of its labels are there: figures that rest on labels are preliminary before."""

RESULTS_DAYS = 2
"""Days after a payment until challenges and reviews have ended and the app has told the result."""

REACH = timedelta(days=31)
"""How long before the first day a case or an action may have begun that counts in the span."""

HERE = Path(__file__).parent

SHARED = ("segments", "blind_findings")
"""Files with a named relation that several queries begin with."""


class Quantity(NamedTuple):
    """What is counted: in words, and as an expression of SQL over the rows of its relation, a whole number or null."""

    words: str
    expression: str
    aggregate: Literal["sum", "max"] = "sum"

    def sql(self, name: str) -> str:
        """Return the column of a query that counts it."""
        return f"{self.aggregate}({self.expression}) AS {name}"


def _if(condition: str, value: str = "1") -> str:
    return f"CASE WHEN {condition} THEN {value} ELSE 0 END"


_AMOUNT = "CAST(amount AS decimal(38, 0))"
_SQUARE = "CAST(amount AS decimal(19, 0)) * CAST(amount AS decimal(19, 0))"


class Relation(NamedTuple):
    """A query of the archive with a row for each thing that is counted, and the quantities over its rows.

    segmented  whether its rows have segments; if not, all rows are of the segment `all`
    """

    clock: str
    quantities: Mapping[str, Quantity]
    segmented: bool = True


_LET = "is_fraud = 1 AND is_carried_out = 1"
RELATIONS: Mapping[str, Relation] = {
    "payments": Relation(
        "the payment's own time, occurred_at",
        {
            "payments": Quantity("decided payments", "1"),
            "carried_out": Quantity(
                "payments that were approved in the end, and neither failed nor reversed", "is_carried_out"
            ),
            "frauds": Quantity("payments of these that count as fraud by their last label", _if(_LET)),
            "value": Quantity("amount of the payments that were carried out", _if("is_carried_out = 1", _AMOUNT)),
            "fraud_value": Quantity("amount of the frauds among them", _if(_LET, _AMOUNT)),
            "fraud_squares": Quantity("squares of the amounts of these frauds", _if(_LET, _SQUARE)),
            "largest": Quantity(
                "largest amount of a payment that was carried out", _if("is_carried_out = 1", "amount"), "max"
            ),
            "complaints": Quantity("reports of users about the payments", "complaints"),
            "disputes": Quantity("reports that ended as a dispute", "disputes"),
            "challenged": Quantity("payments whose decision was to challenge", _if("outcome = 'challenge'")),
            "reviewed": Quantity("payments whose decision was to review", _if("outcome = 'review'")),
            "declined": Quantity("payments whose decision was to decline", _if("outcome = 'decline'")),
            "honest": Quantity("payments that do not count as fraud", _if("is_fraud = 0")),
            "honest_disturbed": Quantity(
                "payments of these that were challenged, reviewed or declined",
                _if("is_fraud = 0 AND outcome <> 'approve'"),
            ),
            "labelled_declines": Quantity(
                "declined payments that have a label", _if("outcome = 'decline' AND is_labelled = 1")
            ),
            "right_declines": Quantity(
                "payments of these that count as fraud", _if("outcome = 'decline' AND is_fraud = 1")
            ),
            "degraded": Quantity("decisions that had to do without a part", "is_degraded"),
            "estimated": Quantity("decisions with a counter that was estimated from a sample", "is_estimated"),
            "nano_usd": Quantity("list price of the decisions by their type, in nano-dollars", "nano_usd"),
        },
    ),
    "samples": Relation(
        "the payment's own time, occurred_at",
        {
            "judged_samples": Quantity("declined payments that were drawn and judged in a blind review", "is_judged"),
            "fraud_samples": Quantity("payments of these that were found to be fraud", "is_fraud"),
        },
    ),
    "verdicts": Relation(
        "the verdict's time",
        {
            "verdicts": Quantity("verdicts that people gave, blind reviews apart", "1"),
            "verdict_time": Quantity("microseconds from the opening of their cases to the verdicts", "took"),
        },
    ),
    "queue": Relation(
        "the end of the day",
        {
            "waiting": Quantity("cases without a verdict, blind reviews apart", "1"),
            "waited": Quantity("microseconds since these were opened", "age"),
            "oldest": Quantity("microseconds since the oldest of them was opened", "age", "max"),
        },
    ),
    "deactivations": Relation(
        "the time of the deactivation",
        {
            "deactivated": Quantity("accounts that were deactivated", "1"),
            "reinstated": Quantity("accounts of these that were reinstated since", "is_reinstated"),
        },
    ),
    "slots": Relation(
        "the time of the intervention",
        {
            "interventions": Quantity(
                "accounts that were held or deactivated: slots of the cap", _if("place = 1", "number")
            ),
            "cap": Quantity("most accounts of a day, parameter CapDayAll", _if("place = 1", "cap")),
        },
        segmented=False,
    ),
}
"""The relations by name: each is the query in the file of this name."""


class Unit(NamedTuple):
    """The unit of a KPI, and the factor that makes it of the quotient."""

    name: str
    factor: float
    digits: int = 2


PER_TEN_MILLION, PER_MILLION = Unit("per ten million", 1e7), Unit("per million", 1e6)
PERCENT, MINUTES, NUMBER = Unit("%", 100), Unit("minutes", 1 / 60e6, 1), Unit("", 1, 0)
USD_PER_MILLION = Unit("USD per million", 1e-3)


class Kpi(NamedTuple):
    """A KPI: the quotient of two quantities of a relation; of one quantity alone if there is no denominator.

    matures_days  days after the day of its clock until the figure hardly changes any more
    better        whether a lower or a higher figure is better; `stable` where a change in either way needs a look
    interval      of what the interval is: a rate of things that are counted, or of amounts; None: the figure is a fact
    bound         the worst figure that is still in order, in its unit; None: there is none that holds for every stack
    is_early      whether yesterday's figure says enough already: what is still to come can hardly make it worse
    says          what a reader learns from it
    """

    name: str
    relation: str
    numerator: str
    denominator: str | None
    unit: Unit
    matures_days: int
    better: Literal["lower", "higher", "stable"]
    says: str
    interval: Literal["rate", "rare rate", "value"] | None = None
    bound: float | None = None
    is_early: bool = False

    def told_of(self, last: date) -> date:
        """Return the day whose figure is published when `last` has ended: the latest one that says enough.

        >>> BY_NAME["friction"].told_of(date(2026, 3, 31)).isoformat()
        '2026-03-31'
        >>> BY_NAME["reinstatement_rate"].told_of(date(2026, 3, 31)).isoformat()
        '2026-03-01'
        """
        return last if self.is_early else last - timedelta(days=self.matures_days)

    @property
    def quantities(self) -> tuple[str, ...]:
        """The quantities that it needs."""
        more = ("frauds", "fraud_squares", "largest") if self.interval == "value" else ()
        return tuple(name for name in (self.numerator, self.denominator, *more) if name is not None)

    def words(self, quantity: str | None) -> str:
        """Return a quantity in words."""
        return "" if quantity is None else RELATIONS[self.relation].quantities[quantity].words


KPIS: tuple[Kpi, ...] = (
    Kpi("fraud_rate", "payments", "frauds", "carried_out", PER_TEN_MILLION, LABELS_DAYS, "lower",
        "How many payments that went through were fraud.", "rare rate"),
    Kpi("fraud_rate_by_value", "payments", "fraud_value", "value", PER_TEN_MILLION, LABELS_DAYS, "lower",
        "How much of the money that moved was fraud.", "value"),
    Kpi("complaints", "payments", "complaints", "payments", PER_MILLION, LABELS_DAYS, "lower",
        "How often users complain about a payment, be it fraud or not.", "rate"),
    Kpi("dispute_share", "payments", "disputes", "complaints", PERCENT, LABELS_DAYS, "stable",
        "Which part of the complaints is dissatisfaction and no deceit.", "rate"),
    Kpi("challenged_share", "payments", "challenged", "payments", PERCENT, 0, "stable",
        "Which part of all payments was challenged.", "rate"),
    Kpi("reviewed_share", "payments", "reviewed", "payments", PERCENT, 0, "stable",
        "Which part of all payments waited for an analyst.", "rate"),
    Kpi("declined_share", "payments", "declined", "payments", PERCENT, 0, "stable",
        "Which part of all payments was declined.", "rate"),
    Kpi("friction", "payments", "honest_disturbed", "honest", PERCENT, LABELS_DAYS, "lower",
        "Which part of honest payments was challenged, reviewed or declined. The budget is 1 %.", "rate", 1.0,
        is_early=True),
    Kpi("decline_precision", "payments", "right_declines", "labelled_declines", PERCENT, LABELS_DAYS, "higher",
        "Which part of the declined payments that have a label was fraud. Who complains about a decline is seldom a"
        " fraudster, so it says too little: drawn cases say more.", "rate"),
    Kpi("sampled_precision", "samples", "fraud_samples", "judged_samples", PERCENT, LABELS_DAYS, "higher",
        "Which part of the declined payments that were drawn blind was fraud. So it holds for all declined payments.",
        "rate"),
    Kpi("reinstatement_rate", "deactivations", "reinstated", "deactivated", PERCENT, LABELS_DAYS, "lower",
        "Which part of the deactivated accounts had to be taken back. About 1 % is good.", "rate", 5.0),
    Kpi("time_to_verdict", "verdicts", "verdict_time", "verdicts", MINUTES, 0, "lower",
        "How long a case takes from its opening to a person's verdict, on average."),
    Kpi("queue_age", "queue", "waited", "waiting", MINUTES, 0, "lower",
        "How long the cases that wait have waited, on average."),
    Kpi("queue_oldest", "queue", "oldest", None, MINUTES, 0, "lower",
        "How long the case has waited that waits longest."),
    Kpi("queue_length", "queue", "waiting", None, NUMBER, 0, "lower",
        "How many cases have no verdict yet."),
    Kpi("cap_used", "slots", "interventions", "cap", PERCENT, 0, "lower",
        "How much of the day's cap on interventions was used.", None, 80.0),
    Kpi("degraded_share", "payments", "degraded", "payments", PERCENT, 0, "lower",
        "Which part of the decisions had to do without a part of the system.", "rate", 1.0),
    Kpi("estimated_share", "payments", "estimated", "payments", PERCENT, 0, "stable",
        "Which part of the decisions read a counter of a busy account that is estimated from a sample.", "rate"),
    Kpi("cost_per_decision", "payments", "nano_usd", "payments", USD_PER_MILLION, 0, "lower",
        "What a decision costs at list prices: request units as metered by the benchmark, by type of payment."),
)  # fmt: skip
"""Every KPI, in the order of tables and pages."""

BY_NAME: Mapping[str, Kpi] = {kpi.name: kpi for kpi in KPIS}


# ---- queries ---------------------------------------------------------------------------------------------------------


class Span(NamedTuple):
    """Days, the first and the last included, as they are seen at a time."""

    first: date
    last: date
    seen_at: datetime

    @classmethod
    def ended(cls, days: int, now: datetime) -> Self:
        """Return the last days that have ended.

        >>> span = Span.ended(2, datetime(2026, 3, 4, 0, 30, tzinfo=UTC))
        >>> f"{span.first} {span.last}"
        '2026-03-02 2026-03-03'
        """
        today = now.astimezone(UTC).date()
        return cls(today - timedelta(days=days), today - timedelta(days=1), now)

    @property
    def days(self) -> list[date]:
        """Every day."""
        return [self.first + timedelta(days=n) for n in range((self.last - self.first).days + 1)]


def query(relation: str, span: Span, nano_usd: Mapping[str, int]) -> str:
    """Return the query of a relation: a row for each day and segment of the span, with a column for each quantity.

    nano_usd  list price of a decision by type of payment; `other` is for any other type
    """
    prices = " ".join(f"WHEN '{name}' THEN {price}" for name, price in nano_usd.items() if name != "other")
    rows = _rows(relation, _parameters(span) | {"units": f"{prices} ELSE {nano_usd['other']}"})
    said = RELATIONS[relation]
    columns = ",\n  ".join(quantity.sql(name) for name, quantity in said.quantities.items())
    segment, groups = ("segment", "GROUPING SETS ((day, segment), (day))") if said.segmented else ("NULL", "day")
    return (
        f"SELECT day, coalesce({segment}, '{ALL}') AS segment,\n  {columns}\n"
        f"FROM (\n{rows}) AS counted\nGROUP BY {groups}\nORDER BY 1, 2\n"
    )


def strata(span: Span) -> str:
    """Return the query of the strata of blind reviews: a row for each, with the fields of `precision.Reviews`."""
    return _rows("strata", _parameters(span))


def _rows(relation: str, parameters: dict[str, Any]) -> str:
    """Return the query in a relation's file, with its parameters and the relations that several files share."""
    shared = {name: _text(name).strip().format_map(parameters) for name in SHARED}
    return _text(relation).format_map(parameters | shared)


def _text(name: str) -> str:
    return (HERE / f"{name}.sql").read_text(encoding="utf-8")


def _parameters(span: Span) -> dict[str, Any]:
    begins = {day: microseconds(datetime.combine(day, time(), UTC)) for day in [*span.days, span.last + timedelta(1)]}
    seen = microseconds(span.seen_at)
    return {
        "first": span.first,
        "last": span.last,
        "before": span.first - timedelta(days=1),
        "reach": span.first - REACH,
        "days": ", ".join(f"('{day}', {begins[day]}, {begins[day + timedelta(1)]})" for day in span.days),
        "seen": ", ".join(f"('{day}', {min(begins[day + timedelta(1)], seen)})" for day in span.days),
    }


# ---- figures ---------------------------------------------------------------------------------------------------------


class Figure(NamedTuple):
    """A KPI of a day and a segment. Value and bounds are in its unit; None: not determinable.

    mature  whether the figure hardly changes any more
    """

    day: str
    segment: str
    kpi: str
    numerator: int
    denominator: int | None
    value: float | None
    low: float | None
    high: float | None
    mature: bool

    @property
    def is_out_of_bounds(self) -> bool:
        """Whether the figure is worse than the KPI's bound, its whole interval included."""
        bound = BY_NAME[self.kpi].bound
        if bound is None or self.value is None:
            return False
        return bound < (self.value if self.low is None else self.low)


Counts = Mapping[str, int]
"""The quantities of a relation in a day and a segment, by name."""


def figures(counted: Mapping[str, Mapping[tuple[str, str], Counts]], span: Span) -> list[Figure]:
    """Return the figures of counts, in the order of days, segments and KPIS.

    counted  counts by relation, then by day and segment. A day on which anything was counted has every KPI
    """
    days = {day for counts in counted.values() for day, _ in counts}
    found = [
        _figure(kpi, day, segment, counts, span)
        for kpi in KPIS
        for (day, segment), counts in {**_nothing(kpi.relation, days), **counted[kpi.relation]}.items()
    ]
    order = [kpi.name for kpi in KPIS]
    return sorted(found, key=lambda each: (each.day, each.segment != ALL, each.segment, order.index(each.kpi)))


def _nothing(relation: str, days: Iterable[str]) -> dict[tuple[str, str], Counts]:
    return {(day, ALL): dict.fromkeys(RELATIONS[relation].quantities, 0) for day in days}


def _figure(kpi: Kpi, day: str, segment: str, counts: Counts, span: Span) -> Figure:
    numerator = counts[kpi.numerator]
    denominator = None if kpi.denominator is None else counts[kpi.denominator]
    value = numerator * kpi.unit.factor if denominator is None else None
    low, high = None, None
    if denominator:
        value = numerator / denominator * kpi.unit.factor
        low, high = _bounds(kpi, counts, denominator)
    ended = datetime.combine(date.fromisoformat(day) + timedelta(days=1 + kpi.matures_days), time(), UTC)
    return Figure(day, segment, kpi.name, numerator, denominator, value, low, high, ended <= span.seen_at)


def _bounds(kpi: Kpi, counts: Counts, denominator: int) -> tuple[float | None, float | None]:
    """Return the interval's bounds in the KPI's unit; None for one that is not determinable."""
    found: Interval
    if kpi.interval == "value":
        found = weighted(counts["fraud_value"], counts["fraud_squares"], counts["largest"]).scaled(1 / denominator)
    elif kpi.interval is None or counts[kpi.numerator] > denominator:  # a payment may have several complaints
        return None, None
    else:
        found = clopper_pearson(counts[kpi.numerator], denominator)
    low, high = Interval(found.low, min(found.high, 1.0)).scaled(kpi.unit.factor)  # no more was lost than moved
    is_rare = kpi.interval in {"rare rate", "value"} and counts["frauds"] < ENOUGH
    return low, None if is_rare else high


# ---- as text ---------------------------------------------------------------------------------------------------------

NOT_DETERMINABLE = "not determinable"


def in_words(kpi: Kpi, value: float | None) -> str:
    """Return a value in a KPI's unit.

    >>> in_words(BY_NAME["friction"], 0.8712), in_words(BY_NAME["friction"], None)
    ('0.87 %', 'not determinable')
    """
    if value is None:
        return NOT_DETERMINABLE
    return f"{value:,.{kpi.unit.digits}f} {kpi.unit.name}".strip()


def interval_in_words(each: Figure) -> str:
    """Return the interval of a figure in words; empty for a figure without one.

    >>> interval_in_words(Figure("2026-03-04", "all", "fraud_rate", 1, 1_000, 1e4, 253.2, None, True))
    '253.20 to not determinable'
    """
    kpi = BY_NAME[each.kpi]
    if each.low is None:
        return ""
    low, high = (
        NOT_DETERMINABLE if value is None else f"{value:,.{kpi.unit.digits}f}" for value in (each.low, each.high)
    )
    return f"{low} to {high}"


def table(figures: Iterable[Figure]) -> Iterator[str]:
    """Yield figures as lines of a table: the KPI, its value, its interval, and of how many it is."""
    for each in figures:
        kpi = BY_NAME[each.kpi]
        of = f"{each.numerator:,}" if each.denominator is None else f"{each.numerator:,} of {each.denominator:,}"
        counted = "" if kpi.unit in {MINUTES, NUMBER, USD_PER_MILLION} else of
        preliminary = "" if each.mature else "preliminary"
        yield (
            f"{each.kpi:20} {in_words(kpi, each.value):>26}  {interval_in_words(each):32} {counted:24} {preliminary}"
        ).rstrip()


def of_day(figures: Sequence[Figure], day: str, segment: str = ALL) -> list[Figure]:
    """Return the figures of a day and a segment."""
    return [each for each in figures if (each.day, each.segment) == (day, segment)]
