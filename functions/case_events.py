"""The events that open a case or end its execution: they come from the bus through a queue.

A decision that needs an analyst, a failed challenge and a report become an alert, which opens a case or joins one. An
execution that ended without closing its case marks the case as failed. A failed message comes again, and at last goes
to the queue of failures; nothing is done twice by that.
"""

from typing import Any

from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord

from fraud import assembly, clock
from fraud.aws.messages import each_message
from fraud.cases.metrics import log_taken
from fraud.settings import Settings

DOOR = "case_events"

_intake = assembly.case_intake(Settings.from_environment())


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:  # noqa: ANN401 - Lambda's context has no public type
    """Handle messages of the SQS queue, with ReportBatchItemFailures. Return the messages that failed."""
    return each_message(event, context, _take, DOOR)


def _take(record: SQSRecord) -> None:
    event = record.json_body
    case = _intake.take(event, clock.now())
    log_taken(event["detail-type"], None if case is None else case.case_id, DOOR)
