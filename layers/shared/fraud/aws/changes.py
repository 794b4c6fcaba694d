"""The changes of a DynamoDB stream, a batch taken as a whole: when it fails, all of it comes again."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fraud.aws.metrics import log_refusal
from fraud.errors import ServiceError

Record = Mapping[str, Any]
"""A record of the stream: its `dynamodb` has the keys of a row, and the images that the stream carries."""


def all_changes(event: Mapping[str, Any], take: Callable[[Sequence[Record]], bool], door: str) -> dict[str, Any]:
    """Take a batch. Return its first record if it has failed, as ReportBatchItemFailures wants it.

    take  takes the records and tells whether all are taken. A ServiceError of it is logged
    door  under which errors are logged
    """
    records = event["Records"]
    try:
        complete = take(records)
    except ServiceError as error:
        log_refusal(error, door)
        complete = False
    failed = [] if complete else records[:1]
    return {"batchItemFailures": [{"itemIdentifier": one["dynamodb"]["SequenceNumber"]} for one in failed]}
