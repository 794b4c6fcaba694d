"""The messages of an SQS queue, each handled on its own by Powertools: a faulty message does not fail the others."""

from collections.abc import Callable
from typing import Any

from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, ExceptionInfo, FailureResponse
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord

from fraud.aws.metrics import log_refusal


def each_message(
    event: dict[str, Any],
    context: Any,  # noqa: ANN401 - Lambda's context has no public type
    take: Callable[..., None],
    door: str,
) -> dict[str, Any]:
    """Take each message of a batch. Return those that failed, as ReportBatchItemFailures wants them: they come again.

    take  takes an SQSRecord, and Lambda's context if it has a parameter `lambda_context`. An error of it is logged
    door  under which errors are logged
    """
    with _Messages(door)(event["Records"], take, context) as batch:
        batch.process()
    return dict(batch.response())


class _Messages(BatchProcessor):
    def __init__(self, door: str) -> None:
        super().__init__(EventType.SQS, raise_on_entire_batch_failure=False)
        self._door = door

    def failure_handler(self, record: SQSRecord, exception: ExceptionInfo) -> FailureResponse:
        """Log the error by its class and code only, because its text could quote the message."""
        if isinstance(error := exception[1], Exception):
            log_refusal(error, self._door)
        return super().failure_handler(record, exception)
