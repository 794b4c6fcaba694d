"""The one reader of the decision table's stream: what follows from a decision hangs here, not on the caller's time.

It sends updates again that nobody had acknowledged when the payment was decided, and publishes DecisionMade for each
new decision. Redelivery does both again: updates are counted once, and consumers drop an event_id that they know.
"""

from collections.abc import Mapping, Sequence
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
    complete = _complete(contents, rows)
    done = _published([Event("DecisionMade", event) for event in made[:complete]])
    # A stream restarts from the lowest failed record and sees none before it again: those must be through with all.
    return {"batchItemFailures": [{"itemIdentifier": one["SequenceNumber"]} for one in records[done : done + 1]]}


def _complete(contents: Sequence[Contents], rows: Sequence[Mapping[str, Any]]) -> int:
    """How many, from the first on, have all their updates acknowledged."""
    for n, (each, row) in enumerate(zip(contents, rows, strict=True)):
        try:
            _count_again(each, row)
        except ServiceError as error:
            telemetry.refused(error, error.status, DOOR)
            return n
    return len(rows)


def _published(events: Sequence[Event]) -> int:
    """How many, from the first on, the bus took."""
    try:
        return min(_outbox.publish(events), default=len(events))
    except ServiceError as error:
        telemetry.refused(error, error.status, DOOR)
        return 0


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
