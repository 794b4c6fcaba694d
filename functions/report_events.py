"""The reader of the reports table's stream: it archives every report, and puts an event on the bus for every new one.

So no report is lost between its row and the case that follows from it. The stream carries keys only, and the rows are
read without their texts. What comes again has the same event_id, in the archive and on the bus.
"""

from collections.abc import Sequence
from typing import Any

from fraud import assembly, clock
from fraud.aws.changes import Record, all_changes
from fraud.cases.report_events import ReportReceived, report_row
from fraud.cases.report_store import ReportStore
from fraud.decisions.events import Outbox
from fraud.settings import Settings

DOOR = "report_events"

_settings = Settings.from_environment()
_reports = ReportStore(_settings)
_outbox = Outbox(_settings)
_stack, _delivery = assembly.row_archive(_settings, _settings.report_delivery)


def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """Handle a batch of the DynamoDB stream, with ReportBatchItemFailures. A failed batch comes again as a whole."""
    return all_changes(event, _taken, DOOR)


def _taken(records: Sequence[Record]) -> bool:
    """Archive the reports, and publish the new ones."""
    keys = [(record["eventName"], record["dynamodb"]["Keys"]["pk"]["S"]) for record in records]
    new = {key for name, key in keys if name == "INSERT"}
    _stack.prepare(clock.now())
    rows = _reports.without_texts([key for _, key in keys])
    archived = _delivery.put([report_row(_stack.keys, row) for row in rows])
    refused = _outbox.publish([ReportReceived.of(row) for row in rows if row.report_id in new])
    return archived == len(rows) and not refused
