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

from collections.abc import Callable, Iterator, Mapping, Sequence

from fraud.counters.layout import DAY, PAIR, Kind
from fraud.counters.sampling import BURST, CAPS, CLOSE, EXACT, QUIET
from fraud.counters.windows import DECAY, FRAUD_SIDES, FRAUD_WINDOWS, LAST_DAY, MATURE_WINDOWS, MATURITY_DAYS
from models.training.measures import ITEMS, OF_DIGIT, PARTS, SETTLED, TIE, WIDTHS, Dialect, Measure, Part, Shape, joined

FRACTION = 2**56
"""A decayed sum is whole minor units and units of 1 / FRACTION: no weight is below 1 / 16, so every product of a weight
and an amount has an exact fraction.
"""


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
        yield seen, _seen(at, moves, counters)


def _seen(at: str, moves: str, counters: Mapping[str, tuple[int, int]]) -> str:
    """Return the SELECT of each payment's counters: those of its account's version and of its day."""
    columns = ", ".join(f"v.{counter} AS {counter}" for counter in counters)
    sums = ", ".join(
        f"CAST(coalesce(sum(CASE WHEN m.day <= g.d - {first} AND m.day > g.d - {first + days}"
        f" THEN m.change END), 0) AS BIGINT) AS {counter}"
        for counter, (first, days) in counters.items()
    )
    return (
        f"SELECT a.n AS n, {columns} FROM {at} AS a"
        f" JOIN (SELECT g.account AS who, g.d AS on_day, g.version AS version, {sums}"
        f" FROM (SELECT DISTINCT account, d, version FROM {at} WHERE step = 0) AS g"
        f" JOIN {moves} AS m ON m.account = g.account AND m.place <= g.version"
        " GROUP BY g.account, g.d, g.version"
        ") AS v ON v.who = a.account AND v.on_day = a.d AND v.version = a.version WHERE a.step = 0"
    )


RESULTS: tuple[str, ...] = (*(f"{part.name}_counted" for part in PARTS), *(f"{account}_known" for account in FRAUDS))
"""Tables that hold the result. A payment that is missing in one has none of its counters."""

READ: frozenset[str] = frozenset(RESULTS) | {f"{part}_closed" for part in ITEMS}
"""Tables that are read a block of payments at a time: in the order of n, a block is found without reading all of it."""

ESTIMATED = " UNION ".join(f"SELECT n FROM {part}_estimated" for part in ITEMS)
"""SELECT of the payments of which online may estimate a counter that the program counts."""

STEPS: frozenset[str] = frozenset(
    {"side", "late", "extra", "days", "settled", "hours", "decayed", "decayed_late", "held"}
)
"""Tables of a part, by their last words, that only lead to its result."""

STAGED: frozenset[str] = frozenset({"raw", "payments", "moves"})
"""Tables that must be there before the program runs."""
