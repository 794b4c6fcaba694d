"""Engines that run the SQL program of `models.training.sql` over a HISTORY_DIR.

DuckDB reads the history, gives numbers to its ids, and counts in one process: `memory` bounds it, and what does not fit
is spilled to a directory. Spark takes the tables from there and runs the same program.
"""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time
from typing import Any, Protocol, Self

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from tqdm import tqdm

from fraud.counters.windows import FRAUD_SIDES, MATURE_SIDES
from fraud.transaction import COUNT_CAP, UNITS
from models.datasets import history
from models.datasets.history import HistoryError
from models.training import measures, sql, staged
from models.training.counted import Block, Columns, block
from models.training.recorded import AT_ONCE
from models.training.staged import Moved


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

    dialect = measures.DUCKDB

    def __init__(self, memory: str = "4GB", threads: int = 1) -> None:
        self._spill = TemporaryDirectory(prefix="windows-")
        self.place = Path(self._spill.name)
        self.connection = duckdb.connect(
            config={"memory_limit": memory, "threads": threads, "temp_directory": str(self.place / "spill")}
        )
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
        shape = measures.Shape.of(self.dialect, late=bool(late), payments=number, amount=int(amount))
        tables = list(sql.Program(self.dialect, shape).tables())
        for name, query in tqdm(tables, desc="tables", unit="", disable=quiet or None):
            start = process_time()
            self.make(name, f"{query} ORDER BY n" if name in sql.READ else query)
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
        (found,) = self.connection.execute(query).fetchall()  # to its end: a result half read blocks relations
        return tuple(found)

    def _column(self, query: str) -> NDArray[Any]:
        """Return the only column of a query."""
        (values,) = self.connection.execute(query).fetchnumpy().values()
        return np.ma.getdata(values)

    def _stage_payments(self, directory: Path, first: int, end: int) -> None:
        # A path in the text of a query would have to be quoted, and `x=1` in it would be read as a column.
        known = self.connection.read_parquet(
            str(directory / history.TRANSACTIONS), file_row_number=True, hive_partitioning=False
        )
        known.create_view("file", replace=True)
        names = set(known.columns)
        arrival = history.ARRIVED_AT if history.ARRIVED_AT in names else "occurred_at"
        # Text of spaces only means that an optional field is absent (`fraud.transaction.absent`).
        optional = ", ".join(
            f"nullif(trim({name}), '') AS {name}" if name in names else f"CAST(NULL AS VARCHAR) AS {name}"
            for name in staged.OPTIONAL
        )
        occurred, arrived = (f"epoch_us(CAST({name} AS TIMESTAMPTZ))" for name in ("occurred_at", arrival))
        self.make("raw", (
            f"SELECT row_number() OVER (ORDER BY file_row_number) AS n, transaction_id, type, payer_id, {optional},"
            f" amount, currency, {occurred} // 1000000 AS e, {arrived} AS clock FROM file"
            f" WHERE {occurred} >= {first * 1_000_000} AND {occurred} < {end * 1_000_000}"
        ))  # fmt: skip
        currencies = self._column("SELECT currency FROM raw GROUP BY currency ORDER BY min(n)").tolist()
        if unknown := [each for each in currencies if each not in UNITS]:
            raise ValueError(f"{directory}: amounts in {unknown[0]}, which has no unit")
        if len(currencies) != 1:
            raise HistoryError(f"{directory}: amounts in {' and '.join(currencies[:2])}: one is needed")
        twice = self._column("SELECT transaction_id FROM raw GROUP BY transaction_id HAVING count(*) > 1")
        self.twice = frozenset(twice.tolist())
        unit = UNITS[currencies[0]]
        capped = f"least(amount, {COUNT_CAP * unit})"
        self.connection.register(
            "amounts", staged.sizes(self._column(f"SELECT DISTINCT {capped} FROM raw").tolist(), unit)
        )
        for name, table in self._ids().items():
            self.connection.register(f"{name}_ids", table)
        self.make("payments", staged.payments_of(self.dialect, capped))

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
            tables[kind] = staged.ids(values, kind, first)
            first += len(values)
        return tables

    def _stage_moves(self, directory: Path, first: int, *, labels: bool) -> None:
        findings = history.findings(directory) if labels else {}
        self.connection.register("found", pa.table({"transaction_id": pa.array(list(findings), pa.string())}))
        paid = self.connection.execute(
            "SELECT transaction_id, n, type, payer_id, payee_id, e FROM raw JOIN found USING (transaction_id)"
        ).fetchall()
        moved = list(staged.moves(findings, paid, self._column("SELECT clock FROM raw ORDER BY n"), first))
        kinds = [pa.string(), pa.string(), pa.int64(), pa.int64(), pa.int64()]
        arrays = [pa.array([move[place] for move in moved], kind) for place, kind in enumerate(kinds)]
        table = pa.table(arrays, names=list(Moved._fields))
        self.connection.register("moved", table.append_column("number", pa.array(range(len(moved)), pa.int64())))
        parts = " ".join(f"WHEN '{prefix}' THEN '{role}'" for role, prefix in FRAUD_SIDES.items())
        keys = " ".join(
            f"WHEN '{prefix}' THEN id * {measures.OF_DIGIT} + {measures.RECEIVERS.index(kind)}"
            for kind, prefix in MATURE_SIDES.items()
        )
        self.make("moves", (
            f"SELECT CASE prefix {parts} ELSE 'mature' END AS part, CASE prefix {keys} ELSE id END AS account,"
            " day, change, since, number FROM moved JOIN account_ids ON value = account"
        ))  # fmt: skip
        self.connection.execute("DROP TABLE raw")


class Counted:
    """The payments of a HISTORY_DIR in [first, end), epoch seconds, which an engine has counted.

    number     of payments
    estimated  payments of which online may estimate a counter
    twice      transaction ids that stand twice

    Raises HistoryError for a history that cannot be read.
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
        self.twice = engine.twice

    def block(self, first: int, last: int, unit: int, lifts: NDArray[np.float64] | None = None) -> Block:
        """Return counters and vectors of the payments with numbers in [first, last], from 1 on.

        unit   of the currency, in minor units
        lifts  of the marks that stood, a row of `features.Lifts` for each payment; None: no account is marked
        """
        return block(lambda table: self._engine.rows(table, first, last), unit, lifts)

    def blocks(self, unit: int) -> Iterator[Block]:
        """Yield counters and vectors of all payments, AT_ONCE payments at one time."""
        for first in range(1, self.number + 1, AT_ONCE):
            yield self.block(first, min(first + AT_ONCE - 1, self.number), unit)
