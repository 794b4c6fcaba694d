"""The reader of the reports table's stream: it puts an event on the bus for every new report.

So no report is lost between its row and the case that follows from it. The stream carries keys only, and the rows are
read without their texts. An event that comes again has the same event_id.
"""

from typing import Any

from fraud.aws.metrics import log_refusal
from fraud.cases.report_events import ReportReceived
from fraud.cases.report_store import ReportStore
from fraud.decisions.events import Outbox
from fraud.errors import ServiceError
from fraud.settings import Settings

DOOR = "report_events"

_settings = Settings.from_environment()
_reports = ReportStore(_settings)
_outbox = Outbox(_settings)


def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """Handle a batch of the DynamoDB stream, with ReportBatchItemFailures. A failed batch comes again as a whole."""
    changes = [record["dynamodb"] for record in event["Records"]]
    try:
        rows = _reports.without_texts([change["Keys"]["pk"]["S"] for change in changes])
        complete = not _outbox.publish([ReportReceived.of(row) for row in rows])
    except ServiceError as error:
        log_refusal(error, DOOR)
        complete = False
    failed = [] if complete else changes[:1]
    return {"batchItemFailures": [{"itemIdentifier": one["SequenceNumber"]} for one in failed]}
