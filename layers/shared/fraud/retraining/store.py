"""The store of retrainings: their rows, the turn of the one at work, and the pointer that a step changes.

Every change is one DynamoDB transaction: the row on condition of its version, the next row of the audit chain `models`,
and all that the step does: the turn, the name of a model, the registry's pointer. So nothing is ever half done,
whatever the point of death. Of two writers at once one reads again and is judged anew.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from typing import NamedTuple, TypeVar

from pynamodb.exceptions import DoesNotExist, PynamoDBException
from pynamodb.transactions import TransactWrite

from fraud.audit.store import DocumentRow, Trail
from fraud.aws import tables
from fraud.aws.boto import retry_conflicts, translate_errors
from fraud.aws.cursor import cursor_of, parts_of
from fraud.aws.followed import FollowedStore, actions_of
from fraud.counters.layout import MODELS
from fraud.errors import ModelConflictError, NotFoundError, RetrainingConflictError, UndecidableError
from fraud.retraining.moves import ENDED
from fraud.retraining.retraining import (
    SYSTEM,
    Actor,
    Retraining,
    RetrainingCause,
    RetrainingEvent,
    Terms,
    of_decision,
    of_rollback,
)
from fraud.retraining.rows import MODEL, OWED, RETRAINING, TURN, OwnedRow, RetrainingRow
from fraud.scoring.registry import ModelPointer
from fraud.scoring.store import Registry
from fraud.settings import Settings
from fraud.transaction import utc

CHAIN = "models"
"""The audit chain of all retrainings and of the pointer: few changes, and their order tells."""

PER_PAGE = 20

MOST_READ = 100_000
"""Most rows of the chain that are read to find its last pointer: some decades of retrainings."""

Pointing = Callable[[ModelPointer], ModelPointer]
"""What a step does to the registry's pointer."""

T = TypeVar("T")


class Page(NamedTuple):
    """A page of the history, the latest first."""

    retrainings: list[Retraining]
    cursor: str | None


class Retrainings(FollowedStore[Retraining]):
    """The store of retrainings.

    Every method raises UnavailableError when a table does not respond, and ServiceError when it refuses a request.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(tables.bound(RetrainingRow, settings.retraining_table), RETRAINING, RETRAINING)
        self._owned = tables.bound(OwnedRow, settings.retraining_table)
        self._registry = Registry(settings)
        self._trail = Trail(DocumentRow, settings.audit_table)
        self._connection = tables.connection()
        seconds = settings.approval_seconds, settings.shadow_seconds, settings.canary_seconds
        self._terms = Terms(*(timedelta(seconds=each) for each in seconds))

    def read(self, name: str) -> tuple[RetrainingRow, Retraining]:
        """Read a retraining consistently, with its row. Raises NotFoundError and PynamoDB's errors."""
        try:
            row = self._rows.get(name, RETRAINING, consistent_read=True)
        except DoesNotExist:
            raise NotFoundError from None
        return row, Retraining.model_validate_json(row.document)

    def of_model(self, version: str) -> Retraining:
        """Read the retraining whose model a lead approves or rejects. Raises NotFoundError for a model of none."""
        return of_decision(self._made(version))

    def _made(self, version: str) -> list[Retraining]:
        """Read all retrainings that have made a model. Raises NotFoundError for a model of none."""
        with translate_errors(PynamoDBException):
            try:
                found = self._owned.get(f"{MODEL}#{version}", MODEL, consistent_read=True)
            except DoesNotExist:
                raise NotFoundError from None
            return [self.read(name)[1] for name in found.names]

    def at_work(self) -> Retraining | None:
        """Read the retraining that has the turn; None while there is none."""
        with translate_errors(PynamoDBException):
            try:
                found = self._owned.get(TURN, TURN, consistent_read=True)
            except DoesNotExist:
                return None
            return self.read(found.retraining_id)[1]

    def history(self, cursor: str | None = None) -> Page:
        """Read a page of all retrainings, the latest first. Raises InvalidRequestError for no cursor."""
        start = None
        if cursor is not None:
            opened_at, name = parts_of(cursor, 2)
            start = {"sk": {"S": RETRAINING}, "opened_at": {"S": opened_at}, "pk": {"S": name}}
        with translate_errors(PynamoDBException):
            found = self._rows.history.query(
                RETRAINING, scan_index_forward=False, limit=PER_PAGE, last_evaluated_key=start
            )
            rows = [Retraining.model_validate_json(row.document) for row in found]
            return Page(rows, cursor_of(found.last_evaluated_key, "opened_at", "pk"))

    def open(self, cause: RetrainingCause, actor: Actor, now: datetime) -> Retraining:
        """Open the retraining of a cause. Once more alters nothing.

        Raises RetrainingConflictError when the cause of that name was another one, such as another reason of a lead.
        """

        def attempt() -> Retraining:
            new = Retraining.for_cause(cause, now)
            try:
                known = self.read(new.retraining_id)[1]
            except NotFoundError:
                self._write(None, new, RetrainingEvent(kind="resumed", reason=cause.reason), actor, "opened")
                return new
            if known.cause != cause:
                raise RetrainingConflictError(known.now)
            return known

        return _retried(attempt)

    def change(
        self, name: str, event: RetrainingEvent, actor: Actor, now: datetime, pointing: Pointing | None = None
    ) -> Retraining:
        """Carry an event out, and what it does to the pointer. The same event once more alters nothing.

        Raises NotFoundError, ForbiddenError, RetrainingConflictError when the retraining does not allow the event, and
        ModelConflictError when the pointer does not allow what it does.
        """

        def attempt() -> Retraining:
            before = self.read(name)[1]
            after = before.after(event, actor, now, self._terms)
            if after is not before:
                self._write(before, after, event, actor, event.kind, pointing)
            return after

        return _retried(attempt)

    def by_clock(self, name: str, event: RetrainingEvent, now: datetime) -> Retraining:
        """Carry an event of the clock out. Raises as `change` does."""
        return self.change(name, event, SYSTEM, now)

    def roll_back(self, version: str, reason: str, actor: Actor, now: datetime) -> Retraining:
        """Bring back the champion before this one, or end the trial of this model, in one call (D-173).

        Once more alters nothing. Raises NotFoundError for a model of no retraining, ForbiddenError for anybody but a
        lead, RetrainingConflictError for a model that is not tried and never was the champion, and ModelConflictError
        for a former champion.
        """
        row = of_rollback(self._made(version), decides=_is_champion(self._registry.read(), version))

        def pointing(pointer: ModelPointer) -> ModelPointer:
            if _is_champion(pointer, version):
                return pointer.roll_back(version)
            if row.has_ended:
                raise ModelConflictError(pointer.now)
            return pointer.withdraw(version)

        return self.change(row.retraining_id, RetrainingEvent(kind="rolled_back", reason=reason), actor, now, pointing)

    def mend_pointer(self, now: datetime) -> bool:
        """Write the registry's pointer again if it cannot be read, as the audit chain names it last (D-185).

        Returns whether it was written. Once more alters nothing. Raises UndecidableError when the chain's pointer
        cannot be read either: then a newer release has written both.
        """

        def attempt() -> bool:
            item = self._registry.item()
            with suppress(UndecidableError):
                self._registry.parsed(item)
                return False
            head = self._trail.head(CHAIN)
            last = self._last_pointer()
            mended = last.model_copy(update={"revision": last.revision + 1})  # who has read it before is refused
            document = {"what": "pointer_mended", "of": MODELS, "id": MODELS, "role": SYSTEM.role}
            text = json.dumps(document | {"pointer": mended.model_dump(mode="json")}, sort_keys=True)
            row = self._trail.row(head, head.next_at(now), by=SYSTEM.name, document=text)
            with TransactWrite(connection=self._connection) as transaction:
                self._registry.replace(transaction, item, mended)
                self._trail.add(transaction, row)
            return True

        return _retried(attempt)

    def _last_pointer(self) -> ModelPointer:
        """Read the pointer that the audit chain names last; without any, the one of a new stack.

        Raises UndecidableError when it cannot be read.
        """
        for row in self._trail.latest(CHAIN, None, MOST_READ):
            pointer = json.loads(row.document).get("pointer")
            if pointer is not None:
                return ModelPointer.parse({"pointer": json.dumps(pointer), "revision": pointer.get("revision")})
        return ModelPointer()

    def _write(  # noqa: PLR0913, PLR0917 - what is written and what is said of it
        self,
        before: Retraining | None,
        after: Retraining,
        event: RetrainingEvent,
        actor: Actor,
        what: str,
        pointing: Pointing | None = None,
    ) -> None:
        """Write a retraining after an event, and what belongs to it, or nothing if another writer was faster."""
        head = self._trail.head(CHAIN)
        pointer = self._registry.read() if pointing is not None else None
        pointed = pointing(pointer) if pointing is not None and pointer is not None else None
        said = event.model_dump(include={"reason", "job", "step", "run", "package"}, exclude_none=True)
        if event.model is not None:
            said["model"] = event.model.version
        if event.report is not None:
            said["failed_checks"] = event.report.failed
        if pointed is not None and pointed != pointer:
            said |= {"pointer": pointed.model_dump(mode="json")}
        document = {"what": what, "of": RETRAINING, "id": after.retraining_id, "state": after.state, "role": actor.role}
        text = json.dumps(document | {"version": after.version} | said, sort_keys=True)
        row = self._trail.row(head, head.next_at(after.changed_at), by=actor.name, document=text)
        with TransactWrite(connection=self._connection) as transaction:
            self._add(transaction, before, after)
            if pointer is not None and pointed is not None and pointed != pointer:
                self._registry.add(transaction, pointer, pointed)
            self._trail.add(transaction, row)

    def _add(self, transaction: TransactWrite, before: Retraining | None, after: Retraining) -> None:
        """Add the row, the turn that it takes or gives back, and the name of its model."""
        ends = after.state in ENDED
        owned, look = self._owned, after.next_look()
        values = {
            "document": after.model_dump_json(),
            "version": after.version,
            "opened_at": utc(after.opened_at),
            "waits": OWED if ends else RETRAINING,
            "act_at": utc(look or after.changed_at),
        }
        condition = self._rows.pk.does_not_exist() if before is None else self._rows.version == before.version
        row = self._rows(after.retraining_id, RETRAINING)
        transaction.update(row, actions=actions_of(self._rows, values), condition=condition)
        had = before is not None and before.has_turn
        if after.has_turn and not had:
            transaction.save(owned(TURN, TURN, retraining_id=after.retraining_id), condition=owned.pk.does_not_exist())
        if had and not after.has_turn:
            transaction.delete(owned(TURN, TURN), condition=owned.retraining_id == after.retraining_id)
        if after.model is not None and (before is None or before.model is None):
            first = owned.retraining_id.set(owned.retraining_id | after.retraining_id)  # the one that is there stays
            row_of_model = owned(f"{MODEL}#{after.model.version}", MODEL)
            transaction.update(row_of_model, actions=[first, owned.later.add({after.retraining_id})])

    def due_ends(self, now: datetime) -> Iterator[tuple[str, datetime]]:
        """Yield the retrainings of whose end the bus must still be told, by id, and the time to look at them."""
        yield from self.due_in(OWED, now)

    def end_later(self, row: Retraining, at: datetime) -> None:
        """Let the sweep look at an end later. A changed row stays as it is."""
        values = {"waits": OWED, "act_at": utc(at)}
        self._update_if(row.name, self._rows.version == row.version, actions_of(self._rows, values))

    def end_told(self, row: Retraining) -> None:
        """Note that the bus was told of the end of a retraining."""
        self.look_again(row, None)


def _is_champion(pointer: ModelPointer, version: str) -> bool:
    return pointer.champion is not None and pointer.champion.version == version


def _retried(attempt: Callable[[], T]) -> T:
    return retry_conflicts(lambda _: attempt(), PynamoDBException)
