"""The one reader of the decision table's stream: everything that follows from a decision starts here.

So the caller of a decision never waits for what follows from it. The door sends the updates again that were not
acknowledged when the payment was decided, voids attempts that moved no money, writes links and timelines, archives
every new decision, publishes what readers of the bus want, and counts all decisions for their denominators. For a
change of a decision's status it voids, archives the change and publishes it, and does nothing else.

Redelivery does everything again: an update is counted once, an attempt is void once, links and timelines stay as they
are, readers drop an event_id that they already have, and only the denominators count twice.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from fraud import assembly, clock
from fraud.aws.metrics import log_refusal
from fraud.decisions.events import Outbox, RowChange
from fraud.decisions.metrics import log_marked, log_repair
from fraud.decisions.repair import repair
from fraud.decisions.void import void
from fraud.errors import ServiceError
from fraud.settings import Settings
from fraud.transaction import Transaction

DOOR = "decision_events"

_settings = Settings.from_environment()
_outbox = Outbox(_settings)
_store = assembly.store(_settings)
_folding = assembly.fold_worker(_settings)
_activity = assembly.activity(_settings)
_archive = assembly.archive(_settings)


def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """Handle a batch of the DynamoDB stream, with ReportBatchItemFailures.

    template.yaml filters the stream to new decisions and to rows that have a status. A filter cannot compare two
    images, so a row whose status is as before is dropped here.
    """
    changes = [change for change in map(RowChange.of, event["Records"]) if change.is_new or change.changes_status]
    # A stream restarts at the lowest failed record. The records before it do not come again, so for them every step
    # must be complete: a step is given those only for which the steps before it are.
    done = changes
    for step in STEPS:
        done = done[: _completed(step, done)]
    return {"batchItemFailures": [{"itemIdentifier": one.sequence} for one in changes[len(done) : len(done) + 1]]}


Step = Callable[[Sequence[RowChange]], int]
"""A step returns for how many changes, from the first on, it is complete."""


def _completed(step: Step, changes: Sequence[RowChange]) -> int:
    try:
        return step(changes)
    except ServiceError as error:
        log_refusal(error, DOOR)
        return 0


def _complete(changes: Sequence[RowChange], errors: Iterable[tuple[int, ServiceError | None]]) -> int:
    """Return how many changes are complete: those before the first one with an error, which is logged."""
    for n, error in errors:
        if error is not None:
            log_refusal(error, DOOR)
            return n
    return len(changes)


def _repaired(changes: Sequence[RowChange]) -> int:
    """Send the missing updates of new decisions, up to the first that is not acknowledged."""
    return _complete(changes, enumerate(map(_repair, changes)))


def _voided(changes: Sequence[RowChange]) -> int:
    """Void attempts that moved no money, up to the first that cannot be voided. All of them are counted by now."""
    return _complete(changes, enumerate(void(_store, changes, clock.now())))


def _remembered(changes: Sequence[RowChange]) -> int:
    """Write the links and timelines of new decisions, up to the first that cannot be written."""
    new = [(n, change.contents) for n, change in enumerate(changes) if change.is_new]
    errors = _activity.remember([contents for _, contents in new])
    return _complete(changes, ((n, error) for (n, _), error in zip(new, errors, strict=True)))


def _archived(changes: Sequence[RowChange]) -> int:
    return _archive.keep(changes, clock.now())


def _published(changes: Sequence[RowChange]) -> int:
    """Publish the events that readers of the bus want."""
    wanted = [
        (n, event)
        for n, change in enumerate(changes)
        for event in change.events(_settings.published_share, is_sampled=_archive.samples(change))
    ]
    refused = _outbox.publish([event for _, event in wanted])
    return min((wanted[place][0] for place in refused), default=len(changes))


def _counted(changes: Sequence[RowChange]) -> int:
    """Count the new decisions: last, so that a batch which fails before is counted only as far as it is done."""
    _archive.count(changes)
    for change in changes:
        if change.is_new:
            for role, mark in change.marks.items():
                log_marked(role, mark.view)
    return len(changes)


STEPS: tuple[Step, ...] = (_repaired, _voided, _remembered, _archived, _published, _counted)


def _repair(change: RowChange) -> ServiceError | None:
    """Send the updates again that were not acknowledged, as far as they can still be counted.

    Return the error for which they must be sent once more.
    """
    if not change.is_new or not (kinds := change.uncounted):
        return None
    try:
        transaction = Transaction.model_validate_json(change.contents.transaction)
        given_up = repair(_store, _folding, transaction, kinds, clock.now())
    except ServiceError as error:
        return error
    for each in given_up:
        log_refusal(each, DOOR)
    if len(given_up) < len(kinds):
        log_repair(len(kinds) - len(given_up))
    return None
