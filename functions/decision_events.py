"""The one reader of the decision table's stream: everything that follows from a decision starts here.

So the caller of a decision never waits for what follows from it. The door sends the updates again that were not
acknowledged when the payment was decided, writes links and timelines, and publishes DecisionMade for each new decision.
Redelivery does all again: an update is counted once, a link and a timeline stay as they are, and consumers drop an
event_id that they already have.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from fraud import assembly, clock
from fraud.aws.metrics import log_refusal
from fraud.decisions.events import DecisionMade, Outbox
from fraud.decisions.metrics import log_repair
from fraud.decisions.record import Contents
from fraud.decisions.repair import repair
from fraud.decisions.store import contents_of
from fraud.errors import ServiceError
from fraud.settings import Settings
from fraud.transaction import Transaction

DOOR = "decision_events"

_settings = Settings.from_environment()
_outbox = Outbox(_settings)
_store = assembly.store(_settings)
_folding = assembly.fold_worker(_settings)
_activity = assembly.activity(_settings)


def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """Handle a batch of the DynamoDB stream, with ReportBatchItemFailures.

    template.yaml filters the stream to new decisions.
    """
    records = [record["dynamodb"] for record in event["Records"]]
    rows = [record["NewImage"] for record in records]
    contents = list(map(contents_of, rows))
    made = [DecisionMade.of(each, row["decided_at"]["S"]) for each, row in zip(contents, rows, strict=True)]
    done = _published(made[: _remembered(contents[: _complete(contents, rows)])])
    # A stream restarts at the lowest failed record. The records before it do not come again, so for them the updates,
    # the links and timelines, and the event must be complete.
    return {"batchItemFailures": [{"itemIdentifier": one["SequenceNumber"]} for one in records[done : done + 1]]}


def _complete(contents: Sequence[Contents], rows: Sequence[Mapping[str, Any]]) -> int:
    """Send missing updates; return how many records, from the first on, have all their updates acknowledged."""
    for n, (each, row) in enumerate(zip(contents, rows, strict=True)):
        try:
            _repair(each, row)
        except ServiceError as error:
            log_refusal(error, DOOR)
            return n
    return len(rows)


def _remembered(contents: Sequence[Contents]) -> int:
    """Write links and timelines; return how many records, from the first on, have all of theirs."""
    for n, error in enumerate(_activity.remember(contents)):
        if error is not None:
            log_refusal(error, DOOR)
            return n
    return len(contents)


def _published(events: Sequence[DecisionMade]) -> int:
    """Publish the events; return how many of them, from the first on, the bus accepted."""
    try:
        return min(_outbox.publish(events), default=len(events))
    except ServiceError as error:
        log_refusal(error, DOOR)
        return 0


def _repair(contents: Contents, row: Mapping[str, Any]) -> None:
    """Send the updates again that were not acknowledged, as far as they can still be counted.

    Raises ServiceError when an update must be sent once more.
    """
    kinds = row.get("uncounted", {}).get("S", "").split()
    if not kinds:
        return
    transaction = Transaction.model_validate_json(contents.transaction)
    given_up = repair(_store, _folding, transaction, kinds, clock.now())
    for error in given_up:
        log_refusal(error, DOOR)
    if len(given_up) < len(kinds):
        log_repair(len(kinds) - len(given_up))
