"""The events that open a case or end its execution: they come from the bus through a queue.

A decision that needs an analyst, a failed challenge and a report become an alert, which opens a case or joins one. An
execution that ended without closing its case marks the case as failed. A failed message comes again, and at last goes
to the queue of failures; nothing is done twice by that.
"""

from typing import Any

from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, ExceptionInfo, FailureResponse
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord

from fraud import assembly, clock
from fraud.aws.metrics import log_refusal
from fraud.cases.metrics import log_taken
from fraud.settings import Settings

DOOR = "case_events"

_intake = assembly.case_intake(Settings.from_environment())


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:  # noqa: ANN401 - Lambda's context has no public type
    """Handle messages of the SQS queue, with ReportBatchItemFailures. Return the messages that failed."""
    with _Messages(EventType.SQS, raise_on_entire_batch_failure=False)(event["Records"], _take, context) as batch:
        batch.process()
    return dict(batch.response())


def _take(record: SQSRecord) -> None:
    event = record.json_body
    case = _intake.take(event, clock.now())
    log_taken(event["detail-type"], None if case is None else case.case_id, DOOR)


class _Messages(BatchProcessor):
    """A processor that handles each message on its own: a faulty message must not fail the others."""

    def failure_handler(self, record: SQSRecord, exception: ExceptionInfo) -> FailureResponse:
        """Log the error by its class and code only, because its text could quote the message."""
        if isinstance(error := exception[1], Exception):
            log_refusal(error, DOOR)
        return super().failure_handler(record, exception)
