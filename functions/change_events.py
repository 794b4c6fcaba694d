"""The readers of the streams of the cases table and the accounts table: they archive every change.

So nobody who works on a case or an account waits for the archive, and no change is lost between the two. A change that
comes again has the same event_id in the archive. Each stream has a function of its own, so one does not stop for the
other.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from fraud import assembly, clock
from fraud.accounts.archived import action_rows, intervention_rows
from fraud.archive.record import ArchiveRow
from fraud.aws.changes import Record, all_changes
from fraud.cases.archived import case_rows
from fraud.settings import Settings

DOOR = "change_events"

_settings = Settings.from_environment()
_stack, _deliveries = assembly.change_archive(_settings)

Change = Mapping[str, Any]
"""The part of a stream's record that tells of a row."""


def cases(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """Handle a batch of the stream of cases, with ReportBatchItemFailures. A failed batch comes again as a whole."""
    return all_changes(event, _archived, DOOR)


def accounts(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """Handle a batch of the stream of accounts, with ReportBatchItemFailures. A failed batch comes again as a whole."""
    return all_changes(event, _archived, DOOR)


def _archived(records: Sequence[Record]) -> bool:
    """Archive the changes, each kind of row in its own stream. Return whether all are taken."""
    _stack.prepare(clock.now())
    changes = [record["dynamodb"] for record in records]
    return all(_archived_of(kind, changes) for kind in ROWS)


def _archived_of(kind: str, changes: Sequence[Change]) -> bool:
    rows = [row for change in changes if change["Keys"]["sk"]["S"] == kind for row in ROWS[kind](change)]
    return not rows or _deliveries[kind].put(rows) == len(rows)


def _of_case(change: Change) -> Iterator[ArchiveRow]:
    return case_rows(_stack.keys, change["NewImage"], change.get("OldImage"))


def _of_action(change: Change) -> Iterator[ArchiveRow]:
    return action_rows(_stack.keys, change["NewImage"], change.get("OldImage"))


def _of_cap(change: Change) -> Iterator[ArchiveRow]:
    return intervention_rows(_stack.keys, change["NewImage"], _settings.cap_day_all)


ROWS: Mapping[str, Callable[[Change], Iterator[ArchiveRow]]] = {"case": _of_case, "action": _of_action, "cap": _of_cap}
"""How the row of each sort key becomes rows of the archive. Other rows of the tables are not archived."""
