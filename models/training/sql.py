"""The counters of `fraud.counters.windows` as a SQL program: every counter of every payment of a history at once.

The program is rendered from the tables of `windows`, `layout` and `sampling`; no window stands here. `Dialect` holds
what DuckDB and Spark spell differently.

A window is a number of whole buckets, as far as updates had arrived: it ends with the payment itself. Payments of one
key are ordered by `k`, their own time and then their arrival. In this order a window is one frame, from the start of
its first bucket to the payment, as long as payments arrive in the order of their times. A payment that does not is
`late`. A join of late payments corrects sums: it takes away what had not arrived, and adds what had. Other aggregates
leave late payments out of their frames, and the join adds those that had arrived. From the day before yesterday back
every late payment has arrived (`fraud.transaction.MAX_AGE`), so older days are frames over all payments.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from fraud.counters.layout import DAY, DEVICE, HORIZON_DAYS, PAIR, PAYER, RECEIVING, SCALES, Kind
from fraud.counters.sampling import BURST, CAPS, CLOSE, EXACT, QUIET
from fraud.counters.windows import (
    DAY_WINDOWS,
    DECAY,
    FRAUD_SIDES,
    FRAUD_WINDOWS,
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

FRACTION = 2**56
"""A decayed sum is whole minor units and units of 1 / FRACTION: no weight is below 1 / 16, so every product of a weight
and an amount has an exact fraction.
"""

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


def _by_kind(kinds: Sequence[Kind], of: Callable[[Kind], object]) -> str:
    """Return an expression that depends on the kind of a key."""
    if len(kinds) == 1:
        return str(of(kinds[0]))
    cases = " ".join(f"WHEN {place} THEN {of(kind)}" for place, kind in enumerate(kinds))
    return f"CASE key % {OF_DIGIT} {cases} END"


def _sampled(part: str, side: str) -> Iterator[tuple[str, str]]:
    """Yield the tables of payments whose counters online may estimate, and of those that find a closed item.

    An item holds all its attempts up to the one with which it is raised or closed (`sampling.upkeep`). From then on
    every payment of the key counts as concerned, which is more than are.
    """
    kinds = ITEMS[part]
    scales = {PAIR.period: "p", DAY: "d", 3600: "h"}
    item = _by_kind(kinds, lambda kind: scales[kind.period])
    cap = _by_kind(kinds, lambda kind: CLOSE if kind.name in EXACT else CAPS[kind.sk])
    burst = _by_kind(kinds, lambda kind: TIE if kind.name in EXACT else BURST)
    closes = _by_kind(kinds, lambda kind: CLOSE + 1 if kind.name in EXACT else TIE)
    before = "ORDER BY n ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW"
    yield (
        f"{part}_held",
        (
            f"SELECT n, key, count(*) OVER (PARTITION BY key, item {before}) AS held,"
            f" count(*) OVER (PARTITION BY key, s {before}) AS at_once"
            f" FROM (SELECT n, key, s, {item} AS item FROM {side}"
            f" WHERE key IN (SELECT key FROM {side} GROUP BY key, {item} HAVING count(*) > {QUIET})) AS busy"
        ),
    )
    yield (
        f"{part}_estimated",
        (
            f"SELECT h.n AS n FROM {part}_held AS h JOIN (SELECT key, min(n) AS since FROM {part}_held"
            f" WHERE held > {cap} OR at_once > {burst} GROUP BY key) AS c ON c.key = h.key AND h.n > c.since"
        ),
    )
    yield f"{part}_closed", f"SELECT n FROM {part}_held WHERE held > {closes}"


class Program:
    """The SQL program of one history in one dialect. The tables `payments` and `moves` must be there.

    `models.training.engines` makes them and runs `tables` in order.
    """

    def __init__(self, dialect: Dialect, shape: Shape) -> None:
        self.dialect = dialect
        self.shape = shape

    def tables(self) -> Iterator[tuple[str, str]]:
        """Yield (name, SELECT) of each table that is to be made. Those of `RESULTS` have a row for each payment n."""
        for part in PARTS:
            yield from self._part(part)
        yield from _frauds()

    def _part(self, part: Part) -> Iterator[tuple[str, str]]:
        """Yield the tables of one part; the last one is `<part>_counted`."""
        name, side, late = part.name, f"{part.name}_side", self.shape.late
        yield side, self._side(part)
        if late:
            yield from self._extra(part)
        kept = ["n", "key", "h", "d", "late", *(each.value for each in self._own(part) if late and not each.is_sum)]
        tables = f"(SELECT {', '.join([*dict.fromkeys(kept), *self._frames(part)])} FROM {side}) AS w"
        columns = [column for each in self._measures(part) for column in self._outputs(part, each)]
        if part.entity:
            yield from self._settled(part)
            tables += f" JOIN {name}_settled AS s ON s.key = w.key AND s.d = w.d"
            yield from _decayed(name, self.dialect, late=late)
            tables += f" LEFT JOIN {name}_decayed AS y ON y.key = w.key AND y.h = w.h"
            sums = [f"coalesce(y.{column}, 0)" for column in DECAYED]
            if late:
                tables += f" LEFT JOIN {name}_decayed_late AS z ON z.n = w.n"
                sums = [f"{one} + coalesce(z.{column}, 0)" for one, column in zip(sums, DECAYED, strict=True)]
            columns += [f"{one} AS {column}" for one, column in zip(sums, DECAYED, strict=True)]
        if late:
            tables += f" LEFT JOIN {name}_extra AS x ON x.n = w.n"
        if name in ITEMS:
            yield from _sampled(name, side)
        yield f"{name}_counted", f"SELECT w.n AS n, {', '.join(columns)} FROM {tables}"

    def _side(self, part: Part) -> str:
        """Return the SELECT of the payments as a part sees them."""
        values = ["n", "e", "k", "late", *WIDTHS, "1 AS one"]
        for value in part.values:
            if "{}" in value:
                values += [f"{value.format(half)} AS bitmap_{half}" for half in self.dialect.halves]
            else:
                values.append(value)
        values.append(f"CAST(amount AS {self.shape.number}) * {self.shape.factor} + 1 AS total")
        return f"SELECT {part.key} AS key, {', '.join(values)} FROM payments WHERE {part.where}"

    def _measures(self, part: Part) -> Iterator[Measure]:
        """Yield the measures of a part; those of a bitmap once for each of its columns."""
        for each in part.measures:
            if each.value == "bitmap":
                for half in self.dialect.halves:
                    yield each._replace(name=f"{each.name}_{half}", value=f"bitmap_{half}")
            else:
                yield each

    def _is_settling(self, part: Part, measure: Measure) -> bool:
        """Tell whether the window has days of which every late payment has arrived, so that whole days are counted.

        Without late payments the first and the last payment of all are found at once.
        """
        settles = self.shape.late if measure.first is None else measure.first >= SETTLED
        return part.entity and measure.scale == "d" and settles

    def _own(self, part: Part) -> list[Measure]:
        """Return what is measured payment by payment: all but settled days."""
        measures = (self._recent(each) if self._is_settling(part, each) else each for each in self._measures(part))
        return list(dict.fromkeys(measures))

    def _recent(self, measure: Measure) -> Measure:
        """Return the measure of the days of a window that are not settled: the same one for windows of any length."""
        if measure.first is None:
            return measure
        return measure._replace(name=f"recent_{measure.value}", first=SETTLED - 1)

    def _sized(self, measure: Measure, value: str) -> str:
        """Return a value in as few bits as it needs: DuckDB sums into 128, which are slow to add and to divide."""
        if not measure.is_sum:
            return value
        return f"CAST({value} AS {self.shape.number if measure.value == 'total' else 'BIGINT'})"

    def _settled(self, part: Part) -> Iterator[tuple[str, str]]:
        """Yield the tables of whole days, and of the settled days of each window, by key and day of the payment."""
        chosen = [each for each in self._measures(part) if self._is_settling(part, each)]
        of_day = {f"{each.aggregate}_{each.value}": each for each in chosen}
        values = ", ".join(
            f"{self._sized(each, f'{each.aggregate}({each.value})')} AS {name}" for name, each in of_day.items()
        )
        yield f"{part.name}_days", f"SELECT key, d, {values} FROM {part.name}_side GROUP BY key, d"
        frames = ", ".join(f"{self._sized(each, self._of_days(each))} AS s_{each.name}" for each in chosen)
        yield f"{part.name}_settled", f"SELECT key, d, {frames} FROM {part.name}_days"

    def _of_days(self, measure: Measure) -> str:
        """Return the aggregate of a window's settled days."""
        since = "UNBOUNDED" if measure.first is None else measure.first
        days = f"(PARTITION BY key ORDER BY d RANGE BETWEEN {since} PRECEDING AND {SETTLED} PRECEDING)"
        return f"{measure.aggregate}({measure.aggregate}_{measure.value}) OVER {days}"

    def _frames(self, part: Part) -> Iterator[str]:
        """Yield the frames of a part's measures.

        With late payments a sum's frame holds some that had not arrived, and the join takes them away again. Nothing
        can be taken from other aggregates, so late payments are left out of their frames.
        """
        for each in self._own(part):
            if not self.shape.late or each.is_sum:
                yield f"{self._sized(each, self.dialect.over(each, each.value))} AS f_{each.name}"
                continue
            yield f"{self.dialect.over(each, f'CASE WHEN late = 0 THEN {each.value} END')} AS f_{each.name}"
            if each.scale == "p":
                yield f"{self.dialect.over(each, each.value)} AS g_{each.name}"

    def _outputs(self, part: Part, measure: Measure) -> Iterator[str]:
        """Yield the columns that a measure gives: a total gives count and sum, a bitmap the number of its bits."""
        value, name = joined(measure.aggregate, self._values(measure)), measure.name
        if self._is_settling(part, measure):
            value = joined(measure.aggregate, [*self._values(self._recent(measure)), f"s.s_{name}"])
        if measure.value == "total":
            window = name.removeprefix("total_")
            yield f"CAST({value} % {self.shape.factor} AS BIGINT) AS count_{window}"
            yield f"CAST({value} {self.dialect.divide} {self.shape.factor} AS BIGINT) AS sum_{window}"
        elif measure.aggregate == "bit_or":
            yield f"CAST(bit_count({value}) AS BIGINT) AS {name}"
        else:
            yield f"CAST(coalesce({value}, {NOTHING}) AS BIGINT) AS {name}"

    def _values(self, measure: Measure) -> list[str]:
        """Return what makes a measure together: its frame, and what is counted beside it."""
        name = measure.name
        if not self.shape.late:
            return [f"w.f_{name}"]
        parts = [f"w.f_{name}", f"x.f_{name}"]
        if not measure.is_sum and not measure.others:
            parts.append(f"CASE WHEN w.late = 1 THEN w.{measure.value} END")
        if measure.scale == "p":  # the first day of all is settled, or it is one of the others
            parts.append(f"CASE WHEN w.g_{name} <= w.d - {SETTLED} THEN w.g_{name} END")
        return parts

    def _extra(self, part: Part) -> Iterator[tuple[str, str]]:
        """Yield the table of what frames leave out and had arrived, without what sums hold and had not arrived.

        It comes from late payments. A late payment also finds payments of its own buckets with a later time than its
        own.
        """
        side, late = f"{part.name}_side", f"{part.name}_late"
        yield late, " UNION ALL ".join(f"SELECT *, d + {after} AS seen FROM {side} WHERE late = 1" for after in (0, 1))
        measures = self._own(part)
        values = ", ".join(f"CASE WHEN {one.condition()} THEN {one.change()} END AS f_{one.name}" for one in measures)
        sums = ", ".join(f"{self._sized(one, f'{one.aggregate}(f_{one.name})')} AS f_{one.name}" for one in measures)
        yield (
            f"{part.name}_extra",
            (
                f"SELECT n, {sums} FROM ("
                f"SELECT p.n, {values} FROM {side} AS p JOIN {late} AS r"
                " ON r.key = p.key AND r.seen = p.d AND r.n <> p.n AND (r.n < p.n OR r.k < p.k)"
                f" UNION ALL SELECT p.n, {values} FROM {late} AS p JOIN {side} AS r ON r.key = p.key AND r.d = p.d"
                " AND r.n < p.n AND r.k > p.k WHERE p.seen = p.d AND r.late = 0) AS pairs GROUP BY n"
            ),
        )


NOTHING = -1
"""Value of a maximum over no payment."""


DECAYED = ("whole", "fraction")
"""Columns of the decayed sum of earlier hours: whole minor units, and units of 1 / FRACTION."""


def _decayed(name: str, dialect: Dialect, *, late: bool) -> Iterator[tuple[str, str]]:
    """Yield the tables of decayed sums over the hours before the payment's own.

    Each product of a weight and an hour's sum is rounded as `windows.measure` rounds it. Their sum is exact, as its
    `math.fsum`: whole units and fractions are added apart, as integers.
    """
    side, hours = f"{name}_side", f"{name}_hours"
    on_time = "CASE WHEN late = 0 THEN amount END"
    yield (
        hours,
        f"SELECT key, d, h, CAST(sum({on_time}) AS BIGINT) AS total FROM {side} GROUP BY key, d, h",
    )
    yield (
        f"{name}_decayed",
        (
            f"SELECT key, h, {_split_sums('product')} FROM (SELECT g.key AS key, g.h AS h,"
            f" {dialect.lookup(DECAY, '(g.h - r.h)')} * CAST(r.total AS DOUBLE) AS product FROM {hours} AS g JOIN ("
            f"SELECT key, h, total, d AS seen FROM {hours} UNION ALL SELECT key, h, total, d + 1 AS seen FROM {hours}"
            f") AS r ON r.key = g.key AND r.seen = g.d AND r.h < g.h AND r.h > g.h - {LAST_DAY}"
            " WHERE r.total IS NOT NULL) AS products GROUP BY key, h"
        ),
    )
    if late:
        weight = dialect.lookup(DECAY, "age")
        total = "CAST(coalesce(o.total, 0) AS DOUBLE)"
        both = "CAST(coalesce(o.total, 0) + l.added AS DOUBLE)"
        yield f"{name}_decayed_late", (
            "SELECT n, " + ", ".join(
                f"CAST(sum({_part_of(column, 'after')} - {_part_of(column, 'before')}) AS BIGINT) AS {column}"
                for column in DECAYED
            ) +
            f" FROM (SELECT l.n AS n, {weight} * {both} AS after, {weight} * {total} AS before FROM ("
            "SELECT p.n AS n, r.key AS key, r.h AS h, p.h - r.h AS age, CAST(sum(r.amount) AS BIGINT) AS added"
            f" FROM {side} AS p JOIN {name}_late AS r ON r.key = p.key AND r.seen = p.d AND r.n < p.n AND r.h < p.h"
            f" AND r.h > p.h - {LAST_DAY} GROUP BY p.n, r.key, r.h, p.h) AS l"
            f" LEFT JOIN {hours} AS o ON o.key = l.key AND o.h = l.h) AS products GROUP BY n"
        )  # fmt: skip


def _part_of(column: str, product: str) -> str:
    """Return the whole part of a product, or its fraction, as an integer."""
    if column == "whole":
        return f"CAST(floor({product}) AS BIGINT)"
    return f"CAST(({product} - floor({product})) * {float(FRACTION)!r} AS BIGINT)"


def _split_sums(product: str) -> str:
    return ", ".join(f"CAST(sum({_part_of(column, product)}) AS BIGINT) AS {column}" for column in DECAYED)


FRAUDS: dict[str, dict[str, tuple[int, int]]] = {
    **{role: {f"{role}_frauds_{window}": (0, days) for window, days in FRAUD_WINDOWS.items()} for role in FRAUD_SIDES},
    "mature": {f"payee_mature_frauds_{window}": (MATURITY_DAYS, days) for window, days in MATURE_WINDOWS.items()},
}
"""Fraud counters by column of the account in `payments`: first age in days and number of days, by counter."""


def _frauds() -> Iterator[tuple[str, str]]:
    """Yield the tables of confirmed frauds as each payment knew them, for accounts that ever had one.

    `moves` are the changes of buckets in order of effect (`since`, number of the first payment that sees it). Payments
    between the same two moves, on the same day, see the same.
    """
    for account, counters in FRAUDS.items():
        moves, at, seen = f"{account}_moves", f"{account}_at", f"{account}_known"
        yield (
            moves,
            (
                "SELECT account, day, change, since,"
                " row_number() OVER (PARTITION BY account ORDER BY since, number) AS place"
                f" FROM moves WHERE part = '{account}'"
            ),
        )
        yield (
            at,
            (
                "SELECT n, account, d, sum(step) OVER (PARTITION BY account ORDER BY n, step DESC"
                " ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS version, step FROM ("
                f"SELECT n, {account} AS account, d, 0 AS step FROM payments"
                f" WHERE {account} IN (SELECT account FROM {moves})"
                f" UNION ALL SELECT since AS n, account, NULL AS d, 1 AS step FROM {moves}) AS events"
            ),
        )
        columns = ", ".join(f"v.{counter} AS {counter}" for counter in counters)
        sums = ", ".join(
            f"CAST(coalesce(sum(CASE WHEN m.day <= g.d - {first} AND m.day > g.d - {first + days}"
            f" THEN m.change END), 0) AS BIGINT) AS {counter}"
            for counter, (first, days) in counters.items()
        )
        yield (
            seen,
            (
                f"SELECT a.n AS n, {columns} FROM {at} AS a"
                f" JOIN (SELECT g.account AS who, g.d AS on_day, g.version AS version, {sums}"
                f" FROM (SELECT DISTINCT account, d, version FROM {at} WHERE step = 0) AS g"
                f" JOIN {moves} AS m ON m.account = g.account AND m.place <= g.version"
                " GROUP BY g.account, g.d, g.version"
                ") AS v ON v.who = a.account AND v.on_day = a.d AND v.version = a.version WHERE a.step = 0"
            ),
        )


RESULTS: tuple[str, ...] = (*(f"{part.name}_counted" for part in PARTS), *(f"{account}_known" for account in FRAUDS))
"""Tables that hold the result. A payment that is missing in one has none of its counters."""

ESTIMATED = " UNION ".join(f"SELECT n FROM {part}_estimated" for part in ITEMS)
"""SELECT of the payments of which online may estimate a counter that the program counts."""

STEPS: frozenset[str] = frozenset(
    {"side", "late", "extra", "days", "settled", "hours", "decayed", "decayed_late", "held"}
)
"""Tables of a part, by their last words, that only lead to its result."""

STAGED: frozenset[str] = frozenset({"raw", "payments", "moves"})
"""Tables that must be there before the program runs."""
