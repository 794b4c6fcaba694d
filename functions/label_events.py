"""The reader of the labels table's stream: it archives every label that was accepted.

So the caller of a label never waits for the archive, and no label is lost between the two. A label that comes again has
the same event_id in the archive.
"""

from collections.abc import Sequence
from typing import Any

from fraud import assembly, clock
from fraud.aws.changes import Record, all_changes
from fraud.labels.archived import label_rows
from fraud.settings import Settings

DOOR = "label_events"

_settings = Settings.from_environment()
_stack, _delivery = assembly.row_archive(_settings, _settings.label_delivery)


def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """Handle a batch of the DynamoDB stream, with ReportBatchItemFailures. A failed batch comes again as a whole."""
    return all_changes(event, _archived, DOOR)


def _archived(records: Sequence[Record]) -> bool:
    _stack.prepare(clock.now())
    changes = [record["dynamodb"] for record in records]
    rows = [row for change in changes for row in label_rows(_stack.keys, change["NewImage"], change.get("OldImage"))]
    return _delivery.put(rows) == len(rows)
