"""The events that begin a retraining, or change the one at work: they come from EventBridge through a queue.

The schedule and alarms of drift begin a retraining. An alarm of the canary takes the model back that is tried. An
execution that ended before its retraining did is followed by another one. A failed message comes again, and at last
goes to the queue of failures; nothing is done twice by that.
"""

from typing import Any

from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord

from fraud import assembly, clock
from fraud.aws.messages import each_message
from fraud.retraining.metrics import log_retraining_event
from fraud.settings import Settings

DOOR = "retraining_events"

_intake = assembly.retraining_intake(Settings.from_environment())


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:  # noqa: ANN401 - Lambda's context has no public type
    """Handle messages of the SQS queue, with ReportBatchItemFailures. Return the messages that failed."""
    return each_message(event, context, _take, DOOR)


def _take(record: SQSRecord) -> None:
    event = record.json_body
    taken = _intake.take(event, clock.now())
    log_retraining_event(event["detail-type"], None if taken is None else taken.retraining_id, DOOR)
