"""Engines that run the SQL program of `models.training.sql` over a HISTORY_DIR.

DuckDB reads the history, gives numbers to its ids, and counts in one process: `memory` bounds it, and what does not fit
is spilled to a directory. Spark takes the tables from there and runs the same program.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time
from typing import Any, NamedTuple, Protocol, Self

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from tqdm import tqdm

from fraud.counters.keys import DECLARED
from fraud.counters.layout import (
    CLASSES,
    DAY,
    PAIR,
    PAYER,
    RECEIVING,
    SCALES,
    Kind,
    State,
    least_of_class,
    log_size,
    size_class,
)
from fraud.counters.windows import (
    ABSENT,
    DISTINCT,
    FRAUD_SIDES,
    IDLE_CAP,
    MATURE_SIDES,
    MATURE_WINDOWS,
    MATURITY_DAYS,
    NAMES,
    OF_KIND,
    PAIR_WINDOWS,
)
from fraud.labels.label import Label, LabelHistory, Parties
from fraud.transaction import COUNT_CAP, NEEDS_PAYEE, UNITS, Transaction
from models.datasets import history
from models.datasets.history import Finding, HistoryError
from models.training import sql
from models.training.replay import RANKING, LabelledPayment, Row
from models.training.vectors import vectors

Columns = Mapping[str, NDArray[Any]]

AT_ONCE = 50_000
"""Payments whose counters are in memory at one time."""

_OPTIONAL = ("payee_id", "instrument_id", "device_id", "attempt_of")
_BITMAPS = {"bits": "CAST(1 AS HUGEINT) << CAST({0}.slot AS INTEGER)", "low": "{0}.low", "high": "{0}.high"}
"""A bitmap with the slot of an id, by the column that holds it or its half."""


class Moved(NamedTuple):
    """A change of a fraud bucket. `since` is the number of the first payment that sees it."""

    prefix: str
    account: str
    day: int
    change: int
    since: int


class Engine(Protocol):
    """Counts the payments of a history.

    seconds  CPU seconds by table
    twice    transaction ids that stand twice
    """

    seconds: dict[str, float]
    twice: frozenset[str]

    def stage(self, directory: Path, first: int, end: int, *, labels: bool) -> int:
        """Read the payments in [first, end), epoch seconds, and their labels. Return the number of payments."""

    def run(self, *, quiet: bool) -> int:
        """Run the program. Return the number of payments of which online may estimate a counter."""

    def rows(self, table: str, first: int, last: int) -> Columns:
        """Return the columns of a table for the payments with numbers in [first, last], in any order."""


class DuckDb:
    """The engine in one process."""

    dialect = sql.DUCKDB

    def __init__(self, memory: str = "4GB", threads: int = 1) -> None:
        self._spill = TemporaryDirectory(prefix="windows-")
        self.place = Path(self._spill.name)
        self.connection = duckdb.connect()
        self.connection.execute(f"SET memory_limit = '{memory}'")
        self.connection.execute(f"SET threads = {threads}")
        self.connection.execute(f"SET temp_directory = '{self.place / 'spill'}'")
        self.seconds: dict[str, float] = {}
        self.twice: frozenset[str] = frozenset()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the tables."""
        self.connection.close()
        self._spill.cleanup()

    def stage(self, directory: Path, first: int, end: int, *, labels: bool = True) -> int:
        """Make the tables `payments` and `moves` of the payments in [first, end), epoch seconds."""
        start = process_time()
        self._stage_payments(directory, first, end)
        self._stage_moves(directory, first, labels=labels)
        self.seconds["stage"] = process_time() - start
        return int(self._one("SELECT count(*) FROM payments")[0])

    def run(self, *, quiet: bool = True) -> int:
        """Run the program, and drop tables that only lead to a result."""
        number, late, amount = self._one(
            "SELECT count(*), coalesce(max(late), 0), coalesce(sum(amount), 0) FROM payments"
        )
        shape = sql.Shape.of(self.dialect, late=bool(late), payments=number, amount=int(amount))
        tables = list(sql.Program(self.dialect, shape).tables())
        for name, query in tqdm(tables, desc="tables", unit="", disable=quiet or None):
            start = process_time()
            self.make(name, query)
            self.seconds[name] = process_time() - start
            if name.endswith("_counted"):
                part = name.removesuffix("_counted")
                for other, _ in tables:
                    if other.startswith(f"{part}_") and other.removeprefix(f"{part}_") in sql.STEPS:
                        self.drop(other)
        return len(self.rows(f"({sql.ESTIMATED})", 1, number)["n"])

    def make(self, name: str, query: str) -> None:
        """Make a table of the program."""
        self.connection.execute(f"CREATE OR REPLACE TABLE {name} AS {query}")

    def drop(self, name: str) -> None:
        """Drop a table of the program."""
        self.connection.execute(f"DROP TABLE {name}")

    def rows(self, table: str, first: int, last: int) -> Columns:
        """Return the columns of a table for the payments with numbers in [first, last], in any order."""
        found = self.connection.execute(f"SELECT * FROM {table} AS t WHERE n BETWEEN {first} AND {last}").fetchnumpy()
        return {name: np.ma.getdata(values) for name, values in found.items()}

    def _one(self, query: str) -> tuple[Any, ...]:
        found = self.connection.execute(query).fetchone()
        assert found is not None
        return found

    def _column(self, query: str) -> NDArray[Any]:
        """Return the only column of a query."""
        (values,) = self.connection.execute(query).fetchnumpy().values()
        return np.ma.getdata(values)

    def _stage_payments(self, directory: Path, first: int, end: int) -> None:
        source = f"read_parquet('{directory / history.TRANSACTIONS}', file_row_number = true)"
        names = {row[0] for row in self.connection.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()}
        arrival = history.ARRIVED_AT if history.ARRIVED_AT in names else "occurred_at"
        # Text of spaces only means that an optional field is absent (`fraud.transaction.absent`).
        optional = ", ".join(
            f"nullif(trim({name}), '') AS {name}" if name in names else f"CAST(NULL AS VARCHAR) AS {name}"
            for name in _OPTIONAL
        )
        self.make("raw", (
            f"SELECT row_number() OVER (ORDER BY file_row_number) AS n, transaction_id, type, payer_id, {optional},"
            f" amount, currency, epoch_us(occurred_at) // 1000000 AS e, epoch_us({arrival}) AS clock FROM {source}"
            f" WHERE epoch_us(occurred_at) >= {first * 1_000_000} AND epoch_us(occurred_at) < {end * 1_000_000}"
        ))  # fmt: skip
        currencies = self._column("SELECT currency FROM raw GROUP BY currency ORDER BY min(n)").tolist()
        if len(currencies) != 1:
            raise HistoryError(f"{directory}: amounts in {' and '.join(currencies[:2])}: one is needed")
        twice = self._column("SELECT transaction_id FROM raw GROUP BY transaction_id HAVING count(*) > 1")
        self.twice = frozenset(twice.tolist())
        unit = UNITS[currencies[0]]
        capped = f"least(amount, {COUNT_CAP * unit})"
        self.connection.register("amounts", _sizes(self._column(f"SELECT DISTINCT {capped} FROM raw").tolist(), unit))
        for name, table in self._ids().items():
            self.connection.register(f"{name}_ids", table)
        self.make("payments", _payments_of(self.dialect, capped))

    def _ids(self) -> dict[str, pa.Table]:
        """Return the ids of each kind of profile. Their numbers differ between kinds, too."""
        queries = {
            "account": "SELECT payer_id FROM raw UNION SELECT payee_id FROM raw WHERE payee_id IS NOT NULL",
            "instrument": "SELECT DISTINCT instrument_id FROM raw WHERE instrument_id IS NOT NULL",
            "device": "SELECT DISTINCT device_id FROM raw WHERE device_id IS NOT NULL",
        }
        tables: dict[str, pa.Table] = {}
        first = 1
        for kind, query in queries.items():
            values = self._column(query).tolist()
            tables[kind] = _ids(values, kind, first)
            first += len(values)
        return tables

    def _stage_moves(self, directory: Path, first: int, *, labels: bool) -> None:
        findings = history.findings(directory) if labels else {}
        self.connection.register("found", pa.table({"transaction_id": pa.array(list(findings), pa.string())}))
        paid = self.connection.execute(
            "SELECT transaction_id, n, type, payer_id, payee_id, e FROM raw JOIN found USING (transaction_id)"
        ).fetchall()
        moved = list(moves(findings, paid, self._column("SELECT clock FROM raw ORDER BY n"), first))
        kinds = [pa.string(), pa.string(), pa.int64(), pa.int64(), pa.int64()]
        arrays = [pa.array([move[place] for move in moved], kind) for place, kind in enumerate(kinds)]
        table = pa.table(arrays, names=list(Moved._fields))
        self.connection.register("moved", table.append_column("number", pa.array(range(len(moved)), pa.int64())))
        parts = " ".join(f"WHEN '{prefix}' THEN '{role}'" for role, prefix in FRAUD_SIDES.items())
        keys = " ".join(
            f"WHEN '{prefix}' THEN id * {sql.OF_DIGIT} + {sql.RECEIVERS.index(kind)}"
            for kind, prefix in MATURE_SIDES.items()
        )
        self.make("moves", (
            f"SELECT CASE prefix {parts} ELSE 'mature' END AS part, CASE prefix {keys} ELSE id END AS account,"
            " day, change, since, number FROM moved JOIN account_ids ON value = account"
        ))  # fmt: skip
        self.connection.execute("DROP TABLE raw")


def _payments_of(dialect: sql.Dialect, capped: str) -> str:
    """Return the SELECT of the table `payments`: numbers in place of ids, and every bucket of the payment's time.

    capped  expression of the amount as counters see it
    """
    pays = f"type IN ({', '.join(repr(kind) for kind in sorted(NEEDS_PAYEE))})"
    code = " ".join(f"WHEN '{kind}' THEN {sql.RECEIVERS.index(of)}" for kind, of in RECEIVING.items())
    buckets = ", ".join(f"r.e // {width} AS {scale}" for scale, width in sql.WIDTHS.items())
    bitmaps = ", ".join(
        f"{_BITMAPS[half].format('p')} AS payer_{half},"
        f" coalesce({_BITMAPS[half].format('b')}, {_BITMAPS[half].format('i')}) AS other_{half}"
        for half in dialect.halves
    )
    other = "coalesce(b.id, i.id)"
    return (
        f"SELECT r.n, r.e, r.kind, r.e * {sql.TIE} + r.n AS k, CASE WHEN r.e < latest THEN 1 ELSE 0 END AS late,"
        f" {buckets}, r.type, r.attempt_of IS NOT NULL AS attempt_of, r.amount AS paid, a.amount, a.log_size, a.class,"
        f" p.id AS payer, {bitmaps}, c.id AS payee, {other} * {sql.OF_DIGIT} + kind AS receiver,"
        f" p.id * {sql.TIE} + {other} AS pair, d.id AS device, p.id * {SLOT_TIE} + d.slot AS payer_device,"
        f" CASE WHEN {pays} THEN b.id * {sql.OF_DIGIT} + kind END AS mature"
        " FROM (SELECT *, max(e) OVER (ORDER BY n ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS latest,"
        f" CASE type {code} END AS kind, {capped} AS capped FROM raw) AS r"
        " JOIN amounts AS a ON a.amount = r.capped JOIN account_ids AS p ON p.value = r.payer_id"
        " LEFT JOIN account_ids AS c ON c.value = r.payee_id"
        f" LEFT JOIN account_ids AS b ON b.value = CASE WHEN {pays} THEN r.payee_id END"
        f" LEFT JOIN instrument_ids AS i ON i.value = CASE WHEN NOT {pays} THEN r.instrument_id END"
        " LEFT JOIN device_ids AS d ON d.value = r.device_id ORDER BY n"
    )


SLOT_TIE = 128
"""More than there are slots."""


def _ids(values: Sequence[str], kind: str, first: int) -> pa.Table:
    """Return a table of ids of one kind of profile: value, number from `first` on, slot, and slot as a bitmap."""
    slots = [DECLARED.slot(kind, value) for value in values]
    halves = np.array([(1 << slot & (1 << 64) - 1, 1 << slot >> 64) for slot in slots], np.uint64).reshape(-1, 2)
    return pa.table({
        "value": pa.array(values, pa.string()),
        "id": pa.array(range(first, first + len(values)), pa.int64()),
        "slot": pa.array(slots, pa.int64()),
        "low": pa.array(halves[:, 0].copy().view(np.int64)),
        "high": pa.array(halves[:, 1].copy().view(np.int64)),
    })  # fmt: skip


def _sizes(amounts: Sequence[int], unit: int) -> pa.Table:
    """Return log size and size class of each amount."""
    return pa.table({
        "amount": pa.array(amounts, pa.int64()),
        "log_size": pa.array([log_size(amount) for amount in amounts], pa.int64()),
        "class": pa.array([size_class(amount, unit) for amount in amounts], pa.int64()),
    })  # fmt: skip


def moves(
    findings: Mapping[str, Finding], paid: Iterable[tuple[Any, ...]], clock: NDArray[np.int64], first: int
) -> Iterator[Moved]:
    """Yield the changes of fraud buckets, in order of each payment's labels.

    paid   transaction id, number, type, payer, payee and epoch seconds of the payments that have findings
    clock  microseconds since the epoch of each payment's arrival, ascending
    first  epoch seconds: findings of payments before it wait from the beginning
    """
    arrived = {
        name: (number, Parties(payer, payee, datetime.fromtimestamp(epoch, UTC), kind))
        for name, number, kind, payer, payee, epoch in paid
    }
    for name, finding in findings.items():
        number, parties = arrived.get(name, (0, finding.parties))
        if not number and finding.parties.occurred_at >= datetime.fromtimestamp(first, UTC):
            continue
        labels = LabelHistory(parties)
        for label in finding.labels:
            labels, changes = labels.accept(label, RANKING)
            known = (label.known_at - EPOCH) // MICROSECOND
            since = max(number, int(np.searchsorted(clock, known))) + 1
            for change in changes:
                yield Moved(change.prefix, change.account, change.day, change.change, since)


EPOCH = datetime.fromtimestamp(0, UTC)
MICROSECOND = datetime.resolution


# ---- from columns to counters ---------------------------------------------------------------------------------------

_DISTINCTS = np.array(DISTINCT)
_PLACES = {name: place for place, name in enumerate(NAMES)}


def counters(read: Callable[[str], Columns], payments: Columns, unit: int) -> NDArray[np.float64]:
    """Return every counter of each payment, as `windows.measure` returns them: len(NAMES) rows, a column a payment.

    read      returns the columns of a table of `sql.RESULTS` for these payments, in any order
    payments  columns n, e and kind of payments with consecutive numbers, in order
    unit      of the currency, in minor units
    """
    values = np.repeat(np.array([[ABSENT[name]] for name in NAMES], float), len(payments["n"]), axis=1)
    places = _Places(int(payments["n"][0]), values)
    for part, kinds in sql.ITEMS.items():
        columns = read(f"{part}_counted")
        closed = read(f"{part}_closed")
        for place, kind in enumerate(kinds):
            of_kind, closed_of_kind = (_of_kind(each, payments, place, len(kinds)) for each in (columns, closed))
            epoch = payments["e"][of_kind["n"] - places.first]
            put = partial(places.put, rows=of_kind["n"])
            (_put_pair if kind is PAIR else partial(_put_entity, kind))(of_kind, epoch, put)
            if kind is PAYER:
                _put_sizes(of_kind, unit, put)
            if kind in MATURE_SIDES:
                _put_mature(of_kind, put)
            if kind in OF_KIND:
                places.put(OF_KIND[kind].closed, 1, closed_of_kind["n"])
    columns = read("payer_device_counted")
    places.put("device_new", columns["uses"] == 1, columns["n"])
    for part, named in sql.FRAUDS.items():
        columns = read(f"{part}_known")
        for name in named:
            places.put(name, columns[name], columns["n"])
    return values


class _Places(NamedTuple):
    """Counters of payments with consecutive numbers from `first` on."""

    first: int
    values: NDArray[np.float64]

    def put(self, name: str, column: NDArray[Any] | float, rows: NDArray[np.int64]) -> None:
        """Set one counter of the payments with these numbers."""
        self.values[_PLACES[name], rows - self.first] = column


def _of_kind(columns: Columns, payments: Columns, place: int, kinds: int) -> Columns:
    """Return the rows of one of several kinds of receivers."""
    if kinds == 1:
        return columns
    chosen = payments["kind"][columns["n"] - payments["n"][0]] == place
    return {name: column[chosen] for name, column in columns.items()}


def _put_pair(columns: Columns, epoch: NDArray[np.int64], put: Callable[..., None]) -> None:
    """Put what `windows._measure_pair` sets."""
    for window in PAIR_WINDOWS:
        for what in ("count", "sum"):
            put(f"pair_{what}_{window}", columns[f"{what}_{window}"])
    put("pair_age_days", epoch // DAY - columns["first_day"])


def _put_entity(kind: Kind, columns: Columns, epoch: NDArray[np.int64], put: Callable[..., None]) -> None:
    """Put what `windows._measure_entity` sets."""
    names = OF_KIND[kind]
    for name in (name for pair in names.totals for name in pair):
        put(name, columns[name.removeprefix(f"{kind.name}_")])
    for name in names.distinct:
        put(name, _DISTINCTS[_filled(columns, name.rpartition("_")[2])])
    put(names.decayed, _decayed(columns["own_hour"], columns["whole"], columns["fraction"]))
    start, width = epoch // kind.period * kind.period, SCALES["s"]

    def seen(second: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the start of the bucket as the kind's items tell it: of 10 seconds in the payment's own item."""
        return np.where(second < start, second // 3600 * 3600, second // width * width)

    put(names.age, epoch - seen(columns["first_seen"]))
    last = columns["last_seen"]
    put(names.idle, np.where(last < 0, IDLE_CAP, np.minimum(epoch - seen(last), IDLE_CAP)))


def _put_sizes(columns: Columns, unit: int, put: Callable[..., None]) -> None:
    """Put what `windows._measure_sizes` sets."""
    for measured in ("log_sum_30d", "log_squares_30d"):
        put(f"payer_{measured}", columns[measured])
    least = np.array([0, *(least_of_class(number, unit) for number in range(CLASSES))])
    put("payer_largest_30d", least[columns["largest_30d"] + 1])


def _put_mature(columns: Columns, put: Callable[..., None]) -> None:
    """Put the payments of mature days."""

    def since(days: int) -> NDArray[np.int64]:
        return columns[f"since_{days}d" if f"since_{days}d" in columns else f"count_{days}d"]

    for window, length in MATURE_WINDOWS.items():
        put(f"payee_mature_count_{window}", since(MATURITY_DAYS + length) - since(MATURITY_DAYS))


def _filled(columns: Columns, window: str) -> NDArray[np.int64]:
    """Return the number of bits of a window's bitmap."""
    parts = [column for name, column in columns.items() if name.startswith(f"filled_{window}_")]
    return np.sum(parts, axis=0, dtype=np.int64)


def _decayed(own: NDArray[np.int64], whole: NDArray[np.int64], fraction: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return own + whole + fraction / FRACTION, rounded once, as `math.fsum` rounds."""
    sums = (own + whole).astype(float)
    (rows,) = np.nonzero(fraction)
    half = 1 << 28
    parts = ((own + whole)[rows], fraction[rows] // half, fraction[rows] % half)
    exact = zip(*(part.tolist() for part in parts), strict=True)
    sums[rows] = [math.fsum((units, large / half, small / sql.FRACTION)) for units, large, small in exact]
    return sums


_REAL = frozenset(name for name in NAMES if "_distinct_" in name or "_decayed_" in name)
"""Counters that are no integers."""


class Block(NamedTuple):
    """Counters (a row for each of NAMES) and feature vectors of payments with consecutive numbers."""

    counters: NDArray[np.float64]
    vectors: NDArray[np.float32]


class Counted:
    """Takes the place of a `Replay`: the rows of a HISTORY_DIR's payments, which an engine has counted before.

    Payments come in the order of the file. Raises HistoryError for a history that cannot be read.
    """

    def __init__(  # noqa: PLR0913 - a run
        self, engine: Engine, directory: Path, first: int, end: int, *, labels: bool = True, quiet: bool = True
    ) -> None:
        self._engine = engine
        try:
            self.number = engine.stage(directory, first, end, labels=labels)
        except HistoryError:
            raise
        except Exception:
            for _ in history.payments(directory):  # says which row is wrong
                pass
            raise
        self.estimated = engine.run(quiet=quiet) if self.number else 0
        self._twice, self._seen = engine.twice, set[bytes]()
        self._rows: Iterator[tuple[dict[str, float], tuple[float, ...]]] | None = None

    def blocks(self, unit: int) -> Iterator[Block]:
        """Yield counters and vectors of all payments, AT_ONCE payments at one time."""
        for first in range(1, self.number + 1, AT_ONCE):
            yield self._block(first, min(first + AT_ONCE - 1, self.number), unit)

    def _block(self, first: int, last: int, unit: int) -> Block:
        read = partial(self._engine.rows, first=first, last=last)
        paid = read("(SELECT n, e, kind, type, paid, amount, device IS NOT NULL AS device, attempt_of FROM payments)")
        order = np.argsort(paid["n"])
        paid = {name: column[order] for name, column in paid.items()}
        values = counters(read, paid, unit)
        columns = {
            "type": paid["type"], "amount": paid["paid"], "counted_amount": paid["amount"], "epoch": paid["e"],
            "device_id": paid["device"].astype(bool), "attempt_of": paid["attempt_of"].astype(bool),
        }  # fmt: skip
        return Block(values, vectors(columns, dict(zip(NAMES, values, strict=True))))

    def row(self, payment: LabelledPayment, arrived_at: datetime | None = None) -> Row:
        """Return the row of the next payment; its state holds no items. `arrived_at` stands in the file."""
        del arrived_at
        transaction = Transaction.model_validate(payment.transaction)
        if self._rows is None:
            self._rows = self._all_rows(transaction.unit)
        values, vector = next(self._rows)
        return Row(transaction, values, vector, self._state(transaction))

    def count(self, payment: LabelledPayment, arrived_at: datetime | None = None) -> tuple[Transaction, State]:
        """Pass over the next payment, as `Replay.count`."""
        row = self.row(payment, arrived_at)
        return row.transaction, row.state

    def expect(self, parties: Parties, labels: Sequence[Label]) -> None:
        """Do nothing: the engine reads all labels from the history."""

    def _state(self, transaction: Transaction) -> State:
        """Return a state without items. It tells whether the same attempt came before."""
        recounted = False
        if transaction.transaction_id in self._twice:
            recounted = transaction.identity in self._seen
            self._seen.add(transaction.identity)
        return State({}, {}, recounted)

    def _all_rows(self, unit: int) -> Iterator[tuple[dict[str, float], tuple[float, ...]]]:
        for block in self.blocks(unit):
            columns = [
                (column if name in _REAL else column.astype(np.int64)).tolist()
                for name, column in zip(NAMES, block.counters, strict=True)
            ]
            for values, vector in zip(zip(*columns, strict=True), block.vectors.tolist(), strict=True):
                yield dict(zip(NAMES, values, strict=True)), tuple(vector)
