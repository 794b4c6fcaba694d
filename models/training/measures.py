"""What the SQL program measures: parts, their measures, and how each engine spells a window.

The measures are made from the tables of `windows` and `layout`; no window stands here.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from fraud.counters.layout import DAY, DEVICE, HORIZON_DAYS, PAIR, PAYER, RECEIVING, SCALES, Kind
from fraud.counters.windows import (
    DAY_WINDOWS,
    HOUR_WINDOWS,
    LAST_DAY,
    MATURE_WINDOWS,
    MATURITY_DAYS,
    PAIR_WINDOWS,
    WINDOWS,
)

TIE = 2**32
"""Most payments of a history: `k` is epoch seconds * TIE + the number of the arrival."""

WIDTHS: dict[str, int] = {scale: SCALES[scale] for scale in PAYER.scales} | {"d": DAY, "p": PAIR.period}
"""Width of a bucket in seconds, by the column that holds its number: scales, `d` a day, `p` the period of a pair."""

SETTLED = 2
"""Days before the payment's own from which on no update can be missing."""


class Measure(NamedTuple):
    """One column of a part: an aggregate of a column over buckets of one scale.

    aggregate  sum, min, max or bit_or
    value      column of the part's payments; 1 counts
    scale      key of WIDTHS
    first      buckets before the payment's own with which the window begins; None: with the first payment of all
    others     leave the payment itself out
    until      scale of the bucket with which the window ends, if it is another one: hours of today, or the whole day
    """

    name: str
    aggregate: str
    value: str
    scale: str
    first: int | None
    others: bool = False
    until: str = ""

    @property
    def is_sum(self) -> bool:
        """Tell whether a payment can be taken away from the aggregate."""
        return self.aggregate == "sum"

    def condition(self) -> str:
        """Return the condition under which a payment `r` of the join changes the measure of `p`."""
        since = "" if self.first is None else f" AND r.{self.scale} >= p.{self.scale} - {self.first}"
        until = self.until or ("h" if self.scale == "d" else self.scale)
        arrived = "" if self.is_sum else " AND r.n < p.n"
        return f"r.{until} <= p.{until}{since}{arrived}"

    def change(self) -> str:
        """Return what a payment `r` of the join adds to the measure of `p`.

        A frame of a sum holds what has an earlier time, and should hold what had arrived.
        """
        if not self.is_sum:
            return f"r.{self.value}"
        return f"(CASE WHEN r.n < p.n THEN 1 ELSE 0 END - CASE WHEN r.k < p.k THEN 1 ELSE 0 END) * r.{self.value}"


@dataclass(frozen=True)
class Dialect:
    """The spelling of SQL by one engine.

    frames  frames may begin at another distance for each row; otherwise at literal distances in whole buckets
    halves  names of the columns of a bitmap: one of 128 bits, or two halves of 64
    wide    integer type of at least 120 bits
    divide  operator of integer division
    """

    name: str
    frames: bool
    halves: tuple[str, ...]
    wide: str
    divide: str

    def over(self, measure: Measure, value: str) -> str:
        """Return the aggregate of a value over the measure's window."""
        aggregate, scale, first = measure.aggregate, measure.scale, measure.first
        until = "1 PRECEDING" if measure.others else "CURRENT ROW"
        if first is None and value == "e":  # ascends with k
            return f"{'lag' if measure.others else 'first_value'}(e) OVER (PARTITION BY key ORDER BY k)"
        if first is None:
            return (
                f"{aggregate}({value}) OVER (PARTITION BY key ORDER BY k ROWS BETWEEN UNBOUNDED PRECEDING AND {until})"
            )
        if self.frames:
            since = f"((e % {WIDTHS[scale]} + {first * WIDTHS[scale]}) * {TIE} + n)"
            return (
                f"{aggregate}({value}) OVER (PARTITION BY key ORDER BY k RANGE BETWEEN {since} PRECEDING AND {until})"
            )
        rows = f"ORDER BY k ROWS BETWEEN UNBOUNDED PRECEDING AND {until}"
        parts = [f"{aggregate}({value}) OVER (PARTITION BY key, {scale} {rows})"]
        if first:
            parts.append(
                f"{aggregate}({value}) OVER (PARTITION BY key ORDER BY {scale}"
                f" RANGE BETWEEN {first} PRECEDING AND 1 PRECEDING)"
            )
        return joined(aggregate, parts)

    def lookup(self, values: Sequence[float], index: str) -> str:
        """Return the element of a list of numbers at an index from 0 on."""
        listed = ", ".join(f"{value!r}e0" for value in values)
        return f"[{listed}][{index} + 1]" if self.frames else f"array({listed})[CAST({index} AS INT)]"


DUCKDB = Dialect("duckdb", frames=True, halves=("bits",), wide="HUGEINT", divide="//")
SPARK = Dialect("spark", frames=False, halves=("low", "high"), wide="DECIMAL(38, 0)", divide="div")


class Shape(NamedTuple):
    """The properties of a history on which the program depends.

    late    any payment is late; without, the program is shorter
    factor  more than its payments: a total is the sum of minor units * factor + the number of payments, as
            `layout.packed`, so that one frame counts both
    number  type of a total
    """

    late: bool
    factor: int
    number: str

    @classmethod
    def of(cls, dialect: Dialect, *, late: bool, payments: int, amount: int) -> "Shape":
        """Return the shape of a history with so many payments and, in all, so many counted minor units.

        >>> Shape.of(DUCKDB, late=False, payments=10**6, amount=10**10)
        Shape(late=False, factor=1048576, number='BIGINT')
        """
        factor = 1 << payments.bit_length()
        return cls(late, factor, "BIGINT" if (amount + 1) * factor < 1 << 63 else dialect.wide)


def joined(aggregate: str, parts: Sequence[str]) -> str:
    """Return one value of the same aggregate over several parts, any of which may be NULL.

    >>> joined("sum", ["a", "b"]), joined("max", ["a", "b"]), joined("min", ["a"])
    ('(coalesce(a, 0) + coalesce(b, 0))', 'greatest(a, b)', 'a')
    """
    if len(parts) == 1 and aggregate in {"min", "max"}:
        return parts[0]
    if aggregate in {"min", "max"}:
        return f"{'least' if aggregate == 'min' else 'greatest'}({', '.join(parts)})"
    return "(" + {"sum": " + ", "bit_or": " | "}[aggregate].join(f"coalesce({part}, 0)" for part in parts) + ")"


class Part(NamedTuple):
    """The payments as one of their keys sees them: a SELECT of columns `key`, n and values, and what is measured.

    source    SELECT with n, e, k, late, day and bucket columns, and the values
    measures  columns of the part's table
    entity    whether decayed sums are computed, too, and windows of days by way of whole days
    """

    name: str
    key: str
    where: str
    values: tuple[str, ...]
    measures: tuple[Measure, ...]
    entity: bool = False


def _totals(windows: dict[str, tuple[str, int]], until: str = "") -> Iterator[Measure]:
    """Yield the total of each window, which is a scale and a number of buckets."""
    for window, (scale, length) in windows.items():
        yield Measure(f"total_{window}", "sum", "total", scale, length - 1, until=until)


def _of_scale(scale: str, windows: dict[str, int]) -> dict[str, tuple[str, int]]:
    return {window: (scale, length) for window, length in windows.items()}


ENTITY: tuple[Measure, ...] = (
    *_totals(WINDOWS | {"24h": ("h", LAST_DAY)} | _of_scale("d", DAY_WINDOWS)),
    *(
        Measure(f"filled_{window}", "bit_or", "bitmap", scale, length - 1)
        for window, (scale, length) in (_of_scale("h", HOUR_WINDOWS) | _of_scale("d", DAY_WINDOWS)).items()
    ),
    Measure("own_hour", "sum", "amount", "h", 0),
    Measure("first_seen", "min", "e", "d", None, until="s"),
    Measure("last_seen", "max", "e", "d", None, others=True, until="s"),
)
"""What is measured of every entity, as `windows._measure_entity` does."""

SIZES: tuple[Measure, ...] = (
    Measure("log_sum_30d", "sum", "log_size", "d", HORIZON_DAYS - 1),
    Measure("log_squares_30d", "sum", "square", "d", HORIZON_DAYS - 1),
    Measure("largest_30d", "max", "class", "d", HORIZON_DAYS - 1, others=True, until="d"),
)

MATURE_DAYS: tuple[int, ...] = tuple(
    sorted({MATURITY_DAYS, *(MATURITY_DAYS + length for length in MATURE_WINDOWS.values())})
)
"""Lengths of windows of days, today included. The mature days are the difference of two of them: the days that are
younger than MATURITY_DAYS are left out.
"""

MATURE: tuple[Measure, ...] = tuple(
    _totals(_of_scale("d", {f"{days}d": days for days in MATURE_DAYS if f"{days}d" not in DAY_WINDOWS}))
)

PARTS: tuple[Part, ...] = (
    Part("payer", "payer", "true", ("amount", "other_{}", "log_size", "log_size * log_size AS square", "class"),
         (*ENTITY, *SIZES), entity=True),
    Part("receiver", "receiver", "true", ("amount", "payer_{}"), (*ENTITY, *MATURE), entity=True),
    Part("device", "device", "device IS NOT NULL", ("amount", "payer_{}"), ENTITY, entity=True),
    Part("pair", "pair", "true", ("amount",), (
        *_totals(_of_scale("d", PAIR_WINDOWS), until="d"), Measure("first_day", "min", "d", "p", 1, until="d"),
    )),
    Part("payer_device", "payer_device", "device IS NOT NULL", ("amount",), (
        Measure("uses", "sum", "one", "d", HORIZON_DAYS - 1, until="d"),
    )),
)  # fmt: skip
"""The keys by which payments are counted. `{}` in a value stands for the columns of a bitmap."""


RECEIVERS: tuple[Kind, ...] = tuple(dict.fromkeys(RECEIVING.values()))
"""Kinds of receivers. The place of a kind is the last digit of a receiver's key, because an account may be both payee
and merchant.
"""

OF_DIGIT = 4
"""A receiver's key is the number of its id * OF_DIGIT + the place of its kind."""

ITEMS: dict[str, tuple[Kind, ...]] = {"payer": (PAYER,), "receiver": RECEIVERS, "device": (DEVICE,), "pair": (PAIR,)}
"""Kinds of items by part. Where online samples or closes an item, the program counts on."""
