"""The one reader of the decision table's stream: what follows from a decision hangs here, not on the caller's time.

It sends updates again that nobody had acknowledged when the payment was decided, and publishes DecisionMade for each
new decision. Redelivery does both again: updates are counted once, and consumers drop an event_id that they know.
"""

from collections.abc import Mapping
from typing import Any

from fraud import assembly, telemetry
from fraud.decision import Contents, DecisionMade
from fraud.errors import ServiceError
from fraud.fold_queue import SqsQueue
from fraud.outbox import Event, Outbox
from fraud.rows import opened
from fraud.settings import Settings
from fraud.transaction import Transaction

DOOR = "decision_events"

FULL = "ValidationException"
"""DynamoDB's word for an item that would exceed 400 KB. No retry mends that, and nobody else's decision may wait for
it: the update is given up, with a line in the log; the decision's row goes on saying that it is `uncounted`.
"""

_settings = Settings.from_environment()
_outbox = Outbox(_settings)
_store = assembly.store(_settings)
_folding = assembly.folding(_settings, SqsQueue(_settings.fold_queue_url))


def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """DynamoDB stream mapping with ReportBatchItemFailures, filtered to new decisions by template.yaml."""
    records = [record["dynamodb"] for record in event["Records"]]
    rows = [record["NewImage"] for record in records]
    contents = list(map(opened, rows))
    made = [DecisionMade.of(each, row["decided_at"]["S"]) for each, row in zip(contents, rows, strict=True)]
    done = 0
    try:
        for each, row in zip(contents, rows, strict=True):
            _count_again(each, row)
            done += 1
        failed = _outbox.publish([Event("DecisionMade", event) for event in made])
    except ServiceError as error:
        telemetry.refused(error, error.status, DOOR)
        failed = [done % len(rows)]  # past the last it was the publishing: all again
    # A stream restarts from the lowest failed record, so naming that one is enough; what follows is published again.
    return {"batchItemFailures": [{"itemIdentifier": records[n]["SequenceNumber"]} for n in failed[:1]]}


def _count_again(contents: Contents, row: Mapping[str, Any]) -> None:
    """Have acknowledged what was not, and items of closed periods folded again. Raises ServiceError."""
    counted = 0
    for kind in row.get("uncounted", {}).get("S", "").split():
        try:
            for key in _store.count_again(Transaction.model_validate_json(contents.transaction), [kind]):
                _folding.refold(key)
            counted += 1
        except ServiceError as error:
            if error.code != FULL:
                raise
            telemetry.refused(error, error.status, DOOR)
    if counted:
        telemetry.recounted(counted)
