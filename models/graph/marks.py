"""Whom all views together mark at a time, and the marks of a history as they stood.

`marks_at` says what a graph job publishes, and a test compares both. `python -m models.graph.marks HISTORY_DIR
[OUT.parquet] [--every 7]` writes what would have been published every so many days, with nothing that happened or
became known later. A history with this file beside its payments is replayed with the mark that stood at the time of
each payment.

OUT has a row for each mark: account, view, shape, lift (the bound that earned it), as_of, expires_at, and the number of
its snapshot. A snapshot takes the place of the one before, so one that marks nobody is a row without an account.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet
from tqdm import tqdm

from models.datasets.history import MARKS, HistoryError
from models.graph import lift
from models.graph.__main__ import LONGEST, whole
from models.graph.lift import Kept, Marked, Policy
from models.graph.views import VIEWS, HistoryTables, View, snapshot

TIME = pa.timestamp("us", "UTC")
SCHEMA = pa.schema([
    ("account", pa.string()), ("view", pa.string()), ("shape", pa.string()), ("lift", pa.float64()), ("as_of", TIME),
    ("expires_at", TIME), ("snapshot", pa.int64()),
])  # fmt: skip


class AccountMark(NamedTuple):
    """The mark of an account: `shape` as `Marked.name`, `lift` the lower bound that earned it."""

    account: str
    view: str
    shape: str
    lift: float
    as_of: datetime
    expires_at: datetime


class Marks(NamedTuple):
    """The marks of all views at a time.

    marks     one for an account, by account
    accounts  accounts that are in some view, marked or not
    earned    lower bound of lift of each shape that marks its accounts, by `view/shape`
    """

    as_of: datetime
    marks: tuple[AccountMark, ...]
    accounts: int
    earned: Mapping[str, float]


def marks_at(
    tables: HistoryTables,
    as_of: datetime,
    rules: Policy | None = None,
    views: Mapping[str, View] = VIEWS,
    kept: Kept | None = None,
) -> Marks:
    """Return whom the views mark at a time, by labels that were known then. An account keeps its highest bound.

    rules  by default the packaged policy. Its `alpha` is that of all views together
    kept   matured snapshots of earlier calls with the same tables and rules
    """
    shared = (rules or lift.policy()).shared(len(views))
    found: list[tuple[str, Marked]] = []
    accounts: set[str] = set()
    for name, view in views.items():
        matured, _ = lift.units(tables, view, as_of, shared, kept=kept)
        now = snapshot(tables, view, as_of)
        accounts.update(now.accounts[now.counted].tolist(), now.left_out)
        rows = lift.lifts(matured, shared, directed=view.directed)
        found += [(name, each) for each in lift.to_mark(now, rows, shared)]
    marks = [
        AccountMark(each.account, name, each.name, each.bound, as_of, each.expires_at)
        for name, each in lift.strongest(found)
    ]
    return Marks(as_of, tuple(marks), len(accounts), {f"{name}/{each.name}": each.bound for name, each in found})


def snapshots(tables: HistoryTables, every: timedelta) -> list[datetime]:
    """Return the times of snapshots of a history: midnights (UTC) from `every` after its first payment on."""
    first, (_, last) = tables.first_payment(), tables.span()
    if first is None:
        return []
    at = first.replace(hour=0, minute=0, second=0, microsecond=0) + every
    return [at + number * every for number in range(max((last - at) // every + 1, 0))]


def stood(
    tables: HistoryTables,
    times: Iterable[datetime],
    rules: Policy | None = None,
    views: Mapping[str, View] = VIEWS,
) -> Iterator[Marks]:
    """Yield the marks that would have been published at each time."""
    kept: Kept = {}
    for at in times:
        yield marks_at(tables, at, rules, views, kept)


def table_of(published: Iterable[Marks]) -> pa.Table:
    """Return the marks of snapshots, which are numbered from 1 on, as rows of SCHEMA."""
    rows = []
    for number, each in enumerate(published, 1):
        nobody = [{"as_of": each.as_of, "expires_at": each.as_of}]
        rows += [row | {"snapshot": number} for row in [mark._asdict() for mark in each.marks] or nobody]
    return pa.Table.from_pylist(rows, SCHEMA)


def write(directory: Path, out: Path | None = None, every: timedelta = timedelta(days=7)) -> pa.Table:
    """Write and return the marks of a history as they stood; by default beside its payments. Raises HistoryError."""
    with HistoryTables(directory) as tables:
        times = tqdm(snapshots(tables, every), desc="snapshots", file=sys.stderr, disable=None)
        table = table_of(stood(tables, times))
    pyarrow.parquet.write_table(table, out or directory / MARKS)
    return table


def main(arguments: list[str] | None = None) -> int:
    """Write the marks of a history as they stood. Returns the exit status: 2 for what cannot be read or written."""
    parser = argparse.ArgumentParser(
        prog="python -m models.graph.marks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("history", type=Path, metavar="HISTORY_DIR")
    parser.add_argument("out", type=Path, nargs="?", metavar="OUT.parquet", help=f"default: HISTORY_DIR/{MARKS}")
    parser.add_argument(
        "--every", type=whole(1, LONGEST), default=7, metavar="DAYS", help="between snapshots; default: %(default)s"
    )
    options = parser.parse_args(arguments)
    try:
        table = write(options.history, options.out, timedelta(days=options.every))
    except (HistoryError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    marked = table.filter(pa.compute.is_valid(table["account"]))
    number = pa.compute.count_distinct(table["snapshot"]).as_py()
    accounts = pa.compute.count_distinct(marked["account"]).as_py()
    print(f"{options.out or options.history / MARKS}: {number:,} snapshots, {accounts:,} accounts marked in some")
    return 0


if __name__ == "__main__":
    sys.exit(main())
