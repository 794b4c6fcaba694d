"""The events that lead to an action against an account, or let one go on: they come from the bus through a queue.

A case that was closed as fraud opens an action against its subject. A case that asks for a hold gets one. An execution
that ended before its action did is followed by another one. A failed message comes again, and at last goes to the queue
of failures; nothing is done twice by that.
"""

from typing import Any

from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord

from fraud import assembly, clock
from fraud.accounts.action import Action
from fraud.accounts.metrics import log_taken
from fraud.aws.messages import each_message
from fraud.settings import Settings

DOOR = "account_events"

_intake = assembly.account_intake(Settings.from_environment())


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:  # noqa: ANN401 - Lambda's context has no public type
    """Handle messages of the SQS queue, with ReportBatchItemFailures. Return the messages that failed."""
    return each_message(event, context, _take, DOOR)


def _take(record: SQSRecord) -> None:
    event = record.json_body
    taken = _intake.take(event, clock.now())
    log_taken(event["detail-type"], taken.action_id if isinstance(taken, Action) else None, DOOR)
