"""What the clock starts: every quarter of an hour a look at the fold's watermarks, and the work that it queues, if any.

A message of the queue is one slice, one item to fold again, or somebody's order to split an entity. What fails comes
again, by the queue or with the next tick; nothing is lost and nothing is counted twice by it.
"""

import json
from typing import Any

from fraud import assembly
from fraud.aws.metrics import log_refusal
from fraud.aws.queue import SqsQueue
from fraud.counters.metrics import DOOR, log_fold, log_tick
from fraud.errors import ServiceError
from fraud.settings import Settings

_settings = Settings.from_environment()
_folding = assembly.folding(_settings, SqsQueue(_settings.fold_queue_url))


def tick(_event: object, _context: object) -> dict[str, int]:
    """EventBridge schedule: fold what is little, queue the slices that have more."""
    try:
        due = _folding.tick()
    except ServiceError as error:
        log_refusal(error, DOOR)
        raise
    log_tick(due)
    return due._asdict()


def fold(event: dict[str, Any], context: Any) -> dict[str, Any]:  # noqa: ANN401 - Lambda's context has no public type
    """SQS with ReportBatchItemFailures: fold slices, or items again, or split an entity; the messages that failed."""
    failed = []
    for record in event["Records"]:
        try:
            done = _folding.work(json.loads(record["body"]), context.get_remaining_time_in_millis)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with one message is not the others'
            log_refusal(error, DOOR)
            failed.append({"itemIdentifier": record["messageId"]})
        else:
            log_fold(done)
    return {"batchItemFailures": failed}
