"""The table of cases, with PynamoDB: the case, each of its changes, and who has looked at its evidence.

A change of a case and its record are written in one DynamoDB transaction, conditioned on the version that was read. Of
two changes at once one reads again and is judged anew, so no verdict is lost. Four sparse indexes answer the questions
that people and the sweep ask. A case that is taken leaves the queue's index, so the next case costs one read however
many cases are open. The token of a waiting execution is a secret: it is in the case's row and nowhere else.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any, NamedTuple

from pynamodb.exceptions import DoesNotExist, PynamoDBException, UpdateError
from pynamodb.expressions.condition import Condition
from pynamodb.expressions.update import Action
from pynamodb.transactions import TransactWrite

from fraud.aws import tables
from fraud.aws.boto import CONFLICTS, retry_conflicts, translate_errors
from fraud.aws.cursor import NO_CURSOR, cursor_of, parts_of
from fraud.aws.dynamodb import malformed_as_unavailable
from fraud.cases.case import (
    SYSTEM,
    WAITS,
    Actor,
    Alert,
    Case,
    CaseEvent,
    Change,
    Level,
    Look,
    State,
    Terms,
    case_id,
)
from fraud.cases.rows import (
    CASE,
    INDEX_KEYS,
    WAITING,
    CaseRow,
    ChangeRow,
    DueIndex,
    GivenRow,
    LookRow,
    PaymentRow,
    attributes_of,
    change_key,
)
from fraud.cases.transition import apply_event
from fraud.decisions.record import Contents
from fraud.errors import (
    CaseConflictError,
    Fault,
    ForbiddenError,
    InvalidRequestError,
    NotFoundError,
    UnavailableError,
)
from fraud.settings import Settings
from fraud.transaction import Transaction, utc

CASES_PER_PAGE = 10
CHANGES_PER_PAGE = 100
LOOKS_PER_PAGE = 100
DUE_PER_PAGE = 100

OFFERED, MOST_OFFERS = 3, 20
"""Cases that are read to give one of them to an analyst, and how often that is done when others are faster."""

GIVEN_S = 86_400
"""Seconds for which a request for the next case may be sent again."""

ENDED = frozenset({State.CLOSED, State.FAILED})


class Wait(NamedTuple):
    """The wait of an execution: its token, and what it waits for: `analyst` or `payer`, in a row as `Case.wait`."""

    token: str
    waits_for: str


class Page(NamedTuple):
    """Some cases of a list, and where the next ones begin; None when there are no more."""

    cases: Sequence[Case]
    cursor: str | None


class Cases:
    """The store of cases.

    Every method raises UnavailableError when the table does not respond, and ServiceError when it refuses a request.
    """

    def __init__(self, settings: Settings) -> None:
        self._rows = tables.bound(CaseRow, settings.cases_table)
        self._changes = tables.bound(ChangeRow, settings.cases_table)
        self._looks = tables.bound(LookRow, settings.cases_table)
        self._given = tables.bound(GivenRow, settings.cases_table)
        self._decisions = tables.bound(PaymentRow, settings.decisions_table)
        self._connection = tables.connection()
        sla, lease = settings.case_sla_seconds, settings.case_lease_seconds
        self._terms = Terms(timedelta(seconds=sla), timedelta(seconds=lease))
        self._kept_s = settings.case_retention_days * 86_400

    def open(self, alert: Alert, now: datetime, actor: Actor = SYSTEM, note: str | None = None) -> Case:
        """Open a case for an alert, or let the alert join the case of its subject and day. Once more alters nothing.

        A case that takes no more alerts, because it has ended or is full, is followed by another one.

        note  why a person opens it
        """
        event = CaseEvent(kind="alerted", alert=alert, note=note)
        number = 1
        while True:
            name = case_id(alert.subject, alert.occurred_at, number)
            case = retry_conflicts(partial(self._open, name, event, alert, now, actor), PynamoDBException)
            if case is not None:
                return case
            number += 1

    def _open(
        self, name: str, event: CaseEvent, alert: Alert, now: datetime, actor: Actor, _attempt: int
    ) -> Case | None:
        """Open or join one case; None when it takes no more alerts and does not know this one."""
        try:
            _, case = self._read(name)
        except NotFoundError:
            begun = Case.for_alert(name, alert, now, self._terms)
            self._write(None, begun, event, actor)
            return begun
        if case.knows(alert) and (actor == SYSTEM or case.state not in ENDED):
            return case  # a person opens a case again that has ended
        if not case.joins:
            return None
        after = apply_event(case, event, actor, now, self._terms)
        self._write(case, after, event, actor)
        return after

    def get(self, name: str) -> Case:
        """Read a case consistently. Raises NotFoundError."""
        with translate_errors(PynamoDBException):
            return self._read(name)[1]

    def change(self, name: str, event: CaseEvent, actor: Actor, now: datetime, seen: int | None = None) -> Case:
        """Carry an event out and return the case after it. The same event once more alters nothing.

        seen  the version that a person has seen; None for the system, which means the present one

        Raises NotFoundError, ForbiddenError, InvalidRequestError, and CaseConflictError when the case has changed since
        or does not allow the event.
        """

        def attempt(_: int) -> Case:
            case = self._read(name)[1]
            if seen is not None and seen != case.version:
                if self._has_said(name, seen + 1, event, actor):
                    return case
                raise CaseConflictError(case.now)
            _check_payments(case, event)
            after = apply_event(case, event, actor, now, self._terms)
            if after is not case:
                self._write(case, after, event, actor)
            return after

        return retry_conflicts(attempt, PynamoDBException)

    def changes(self, name: str, cursor: str | None = None) -> tuple[list[Change], str | None]:
        """Read the changes of a case in their order, a page at a time. Raises InvalidRequestError for no cursor."""
        start = None
        if cursor is not None:
            (sk,) = parts_of(cursor, 1)
            start = {"pk": {"S": name}, "sk": {"S": sk}}
            if not sk.startswith("change#"):
                raise InvalidRequestError((NO_CURSOR,))
        with translate_errors(PynamoDBException):
            found = self._changes.query(
                name, self._changes.sk.startswith("change#"), limit=CHANGES_PER_PAGE, last_evaluated_key=start
            )
            said = [Change.model_validate_json(row.document) for row in found]
            return said, cursor_of(found.last_evaluated_key, "sk")

    # ---- evidence ------------------------------------------------------------------------------------------------

    def look(self, name: str, actor: Actor, now: datetime) -> list[Look]:
        """Record that a person looks at the evidence, and return the latest looks, this one among them.

        Looks of one person within a minute are one.
        """
        ttl, at = int(now.timestamp()) + self._kept_s, utc(now.replace(second=0, microsecond=0))
        with translate_errors(PynamoDBException):
            self._looks(name, f"look#{at}#{actor.name}", by=actor.name, at=at, ttl=ttl).save()
            found = self._looks.query(
                name,
                self._looks.sk.startswith("look#"),
                limit=LOOKS_PER_PAGE,
                scan_index_forward=False,
                consistent_read=True,
            )
            return [Look(by=row.by, at=row.at) for row in found]

    def payment(self, transaction_id: str) -> Transaction:
        """Read a payment as it was decided. Raises NotFoundError."""
        with translate_errors(PynamoDBException):
            try:
                row = self._decisions.get(transaction_id, consistent_read=True)
            except DoesNotExist:
                raise NotFoundError from None
        return Transaction.model_validate_json(Contents.unpacked(row.packed).transaction)

    # ---- lists ---------------------------------------------------------------------------------------------------

    def queue(self, level: Level, cursor: str | None = None, *, latest_first: bool = False) -> Page:
        """Read a page of the cases that wait at a level, by their due times."""
        return self._page(self._rows.by_level, level, cursor, latest_first=latest_first)

    def assigned(self, assignee: str, cursor: str | None = None, *, latest_first: bool = False) -> Page:
        """Read a page of the open cases that an analyst has, by their due times."""
        return self._page(self._rows.by_assignee, assignee, cursor, latest_first=latest_first)

    def of_subject(self, subject: str, cursor: str | None = None, *, latest_first: bool = True) -> Page:
        """Read a page of a subject's cases, by the times at which they were opened. subject: `<kind>#<id>`."""
        return self._page(self._rows.by_subject, subject, cursor, latest_first=latest_first)

    def take_next(self, actor: Actor, now: datetime, request_id: str | None = None) -> Case | None:
        """Give the actor the case that is due first; None when no case waits. A lead gets the leads' cases first.

        request_id  the same id of the same actor gets the same case again

        Of two people at once each gets another case.
        """
        given = None if request_id is None else self._given(f"next#{request_id}#{actor.name}", "next")
        if given is not None:
            with translate_errors(PynamoDBException), contextlib.suppress(DoesNotExist):
                given.refresh(consistent_read=True)
                return self._read(given.document)[1]
        levels: tuple[Level, ...] = ("lead", "analyst") if actor.role == "lead" else ("analyst",)
        for level in levels:
            cursor = None
            for _ in range(MOST_OFFERS):
                page = self._page(self._rows.by_level, level, cursor, limit=OFFERED)
                for case in page.cases:
                    with contextlib.suppress(CaseConflictError, ForbiddenError):  # somebody else was faster
                        return self._take(case, actor, now, given)
                cursor = page.cursor
                if cursor is None:
                    break
            else:
                raise UnavailableError("Conflicts")
        return None

    def _take(self, offered: Case, actor: Actor, now: datetime, given: "GivenRow | None") -> Case:
        """Give an offered case to the actor, and record for which request. Raises as `change` does."""
        event = CaseEvent(kind="taken")

        def attempt(_: int) -> Case:
            case = self._read(offered.case_id)[1]
            if case.version != offered.version:
                raise CaseConflictError(case.now)
            after = apply_event(case, event, actor, now, self._terms)
            if given is not None:
                given.document, given.ttl = after.case_id, int(now.timestamp()) + GIVEN_S
            self._write(case, after, event, actor, given)
            return after

        return retry_conflicts(attempt, PynamoDBException)

    # ---- the execution -------------------------------------------------------------------------------------------

    def await_token(self, name: str, wait: Wait) -> bool:
        """Keep the token of an execution that waits, if the case is still in a state of that wait.

        False: the case has moved on, so the caller must tell the execution at once.
        """
        for _ in range(CONFLICTS):
            case = self.get(name)
            if WAITS.get(case.state) != wait.waits_for:
                return False
            actions = [self._rows.token.set(wait.token), self._rows.waits_for.set(case.wait or wait.waits_for)]
            if self._update_if(name, self._rows.version == case.version, actions):
                return True
        raise UnavailableError("Conflicts")

    def untold(self, name: str) -> Wait | None:
        """Return the wait that a case has left behind, and whose execution must be told so; None if there is none."""
        with translate_errors(PynamoDBException):
            row, case = self._read(name)
        if row.token is None or row.waits_for is None or case.wait == row.waits_for:
            return None
        return Wait(row.token, row.waits_for)

    def told(self, name: str, wait: Wait) -> None:
        """Forget a token whose execution was told. A later token stays."""
        actions = [self._rows.token.remove(), self._rows.waits_for.remove()]
        self._update_if(name, self._rows.token == wait.token, actions)

    # ---- the sweep -----------------------------------------------------------------------------------------------

    def due(self, now: datetime) -> Iterator[tuple[str, datetime]]:
        """Yield the cases at which the sweep must look by now, with the time for it, the earliest first."""
        with translate_errors(PynamoDBException):
            found = self._rows.by_time.query(WAITING, DueIndex.act_at <= utc(now), page_size=DUE_PER_PAGE)
            for row in found:
                yield row.case_id, datetime.fromisoformat(row.act_at)

    def look_again(self, case: Case, at: datetime | None) -> None:
        """Let the sweep look at a case later, or not before the case changes again. A changed case stays as it is."""
        values = {"waits": None, "act_at": None} if at is None else {"waits": WAITING, "act_at": utc(at)}
        self._update_if(case.case_id, self._rows.version == case.version, self._actions(values))

    # ---- rows ----------------------------------------------------------------------------------------------------

    def _read(self, name: str) -> tuple[CaseRow, Case]:
        try:
            row = self._rows.get(name, CASE, consistent_read=True)
        except DoesNotExist:
            raise NotFoundError from None
        return row, _case_of(row.document)

    def _has_said(self, name: str, version: int, event: CaseEvent, actor: Actor) -> bool:
        """Whether the change to a version was this event by this actor: then it is the same request once more."""
        try:
            row = self._changes.get(name, change_key(version), consistent_read=True)
        except DoesNotExist:
            return False
        said = Change.model_validate_json(row.document)
        return (said.event, said.by) == (event, actor.name)

    def _write(
        self, before: Case | None, after: Case, event: CaseEvent, actor: Actor, given: "GivenRow | None" = None
    ) -> None:
        """Write a case and the record of its change together, or nothing if the case was changed by another.

        given  written with them, if no request has got it before

        The row is updated and not put, so the token of an execution that began to wait in the meantime stays.
        """
        condition = self._rows.case_id.does_not_exist() if before is None else self._rows.version == before.version
        ttl = int(after.changed_at.timestamp()) + self._kept_s
        values = attributes_of(after) | {"ttl": ttl if after.state in ENDED else None}
        said = Change(version=after.version, at=after.changed_at, by=actor.name, role=actor.role, event=event)
        record = self._changes(
            after.case_id,
            change_key(after.version),
            document=said.model_dump_json(exclude_defaults=True),
            ttl=ttl,
        )
        with TransactWrite(connection=self._connection) as transaction:
            transaction.update(self._rows(after.case_id, CASE), actions=self._actions(values), condition=condition)
            transaction.save(record, condition=self._changes.case_id.does_not_exist())
            if given is not None:
                transaction.save(given, condition=self._given.pk.does_not_exist())

    def _actions(self, values: Mapping[str, Any]) -> list[Action]:
        """Return the actions that set attributes, and remove those whose value is None."""
        columns = {name: getattr(self._rows, name) for name in values}
        return [columns[name].remove() if value is None else columns[name].set(value) for name, value in values.items()]

    def _update_if(self, name: str, condition: Condition, actions: Sequence[Action]) -> bool:
        """Update a row if a condition holds, and tell whether it did."""
        with translate_errors(PynamoDBException):
            try:
                self._rows(name, CASE).update(actions=list(actions), condition=condition)
            except UpdateError as error:
                if error.cause_response_code == "ConditionalCheckFailedException":
                    return False
                raise
        return True

    def _page(
        self,
        index: Any,  # noqa: ANN401 - one of the indexes above
        value: str,
        cursor: str | None,
        *,
        latest_first: bool = False,
        limit: int = CASES_PER_PAGE,
    ) -> Page:
        """Read a page of an index. Raises InvalidRequestError for a cursor that is none."""
        (hash_name,) = (name for name in INDEX_KEYS if hasattr(type(index), name))
        start = None
        if cursor is not None:
            sort, name = parts_of(cursor, 2)
            key = {hash_name: value, INDEX_KEYS[hash_name]: sort, "pk": name, "sk": CASE}
            start = {attribute: {"S": text} for attribute, text in key.items()}
        with translate_errors(PynamoDBException):
            found = index.query(value, scan_index_forward=not latest_first, limit=limit, last_evaluated_key=start)
            cases = [_case_of(row.document) for row in found]
            return Page(cases, cursor_of(found.last_evaluated_key, INDEX_KEYS[hash_name], "pk"))


def _case_of(document: str) -> Case:
    """Read a case. Raises UnavailableError for one in a form of another release that is not known here."""
    with malformed_as_unavailable():
        return Case.model_validate_json(document)


def _check_payments(case: Case, event: CaseEvent) -> None:
    """Raise InvalidRequestError for a verdict on a payment that is not of the case."""
    if event.transaction_ids is not None and not set(event.transaction_ids) <= set(case.alerts):
        raise InvalidRequestError((Fault("transaction_ids", "unknown_value", "must be payments of the case"),))
