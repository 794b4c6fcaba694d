"""The marks of a history as they stood: what a replay believes, and the same in columns.

`models.graph.marks` writes them beside the payments. A snapshot is believed by payments that arrive after it was taken,
until the next one. So no payment is marked by itself, or by anything later.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from numpy.typing import NDArray

from fraud.counters.in_memory import InMemoryCounters
from fraud.marks.mark import PARTIES, SIDES, Mark
from models.datasets.history import MARKS, HistoryError
from models.training.recorded import Payments

COLUMNS = {"account", "view", "shape", "lift", "as_of", "expires_at", "snapshot"}


class Published(NamedTuple):
    """A snapshot, with the mark of each account that it marks."""

    number: int
    as_of: datetime
    marks: Mapping[str, Mark]

    def put(self, counters: InMemoryCounters) -> None:
        """Write the marks to the profiles, on the side of the snapshot, and believe them."""
        side = list(SIDES.values())[self.number % len(SIDES)]
        for account, mark in self.marks.items():
            counters.profiles[f"account#{account}"][side] = mark.row
        counters.snapshot = self.number


def read(directory: Path) -> list[Published]:
    """Return the snapshots of a history in their order; none if it has no marks. Raises HistoryError."""
    path = directory / MARKS
    if not path.exists():
        return []
    try:
        table = pyarrow.parquet.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise HistoryError(f"{path}: cannot be read: {' '.join(str(error).split())[:200]}") from error
    if missing := COLUMNS - set(table.column_names):
        raise HistoryError(f"{path}: lacks the columns {', '.join(sorted(missing))}")
    return of(table)


def of(table: pa.Table) -> list[Published]:
    """Return the snapshots of rows as `models.graph.marks` writes them. Raises HistoryError for other times."""
    found: dict[int, tuple[datetime, dict[str, Mark]]] = {}
    for row in table.to_pylist():
        as_of, marks = found.setdefault(row["snapshot"], (row["as_of"], {}))
        if as_of != row["as_of"] or as_of.tzinfo is None:
            raise HistoryError(f"{MARKS}: snapshot {row['snapshot']} needs one time, with a time zone")
        account = row.pop("account")
        if account is not None:
            marks[account] = Mark(**{name: row[name] for name in Mark._fields})
    snapshots = [Published(number, *found[number]) for number in sorted(found)]
    times = [each.as_of for each in snapshots]
    if times != sorted(set(times)):
        raise HistoryError(f"{MARKS}: the numbers of snapshots are not in the order of their times")
    return snapshots


class Marked(NamedTuple):
    """The marks of payments' accounts in columns.

    lifts     a row of `features.Lifts` for each payment
    standing  what `rules.standing` says of marks, by name: a value for each payment
    """

    lifts: NDArray[np.float64]
    standing: Mapping[str, NDArray[Any]]


def marked(snapshots: Sequence[Published], payments: Payments) -> Marked:
    """Return the marks that a replay finds: lifts, payments x roles, and columns for rules; 0 and `""` for no mark."""
    number = len(payments)
    lifts, names = np.zeros((number, len(PARTIES))), np.full((number, len(PARTIES)), "", object)
    taken = np.array([_micros(each.as_of) for each in snapshots], np.int64)
    in_force = np.searchsorted(taken, payments.arrived_at) - 1
    for place in np.unique(in_force[in_force >= 0]).tolist():
        within = (in_force == place) & (payments.occurred_at >= taken[place])
        for side, role in enumerate(PARTIES):
            accounts = payments.fields[f"{role}_id"]
            held = [snapshots[place].marks.get(account) for account in accounts.values]
            ends = np.array([-1 if mark is None else _micros(mark.expires_at) for mark in held])
            rows = np.flatnonzero(within & (payments.occurred_at < ends[accounts.codes]))
            of_rows = [held[code] for code in accounts.codes[rows].tolist()]
            lifts[rows, side] = [mark.lift for mark in of_rows if mark]
            names[rows, side] = [mark.name for mark in of_rows if mark]
    columns = {f"{role}_mark": names[:, side] for side, role in enumerate(PARTIES)}
    return Marked(lifts, columns | {f"{role}_mark_lift": lifts[:, side] for side, role in enumerate(PARTIES)})


def _micros(time: datetime) -> int:
    return int(np.datetime64(time.replace(tzinfo=None), "us").astype(np.int64))
