"""The table of cases, with PynamoDB: the case, each of its changes, and who has looked at its evidence.

A change of a case and its record are written in one DynamoDB transaction, conditioned on the version that was read. Of
two changes at once one reads again and is judged anew, so no verdict is lost. Four sparse indexes answer the questions
that people and the sweep ask. A case that is taken leaves the queue's index, so the next case costs one read however
many cases are open. The token of a waiting execution is a secret: it is in the case's row and nowhere else.
"""

import contextlib
import json
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple

from pynamodb.exceptions import DoesNotExist, PutError, PynamoDBException
from pynamodb.transactions import TransactWrite

from fraud.audit.store import DocumentRow, Trail
from fraud.aws import tables
from fraud.aws.boto import CONFLICTS, retry_conflicts, translate_errors
from fraud.aws.cursor import NO_CURSOR, cursor_of, parts_of
from fraud.aws.dynamodb import malformed_as_unavailable
from fraud.aws.followed import FollowedStore, actions_of
from fraud.cases.case import SYSTEM, Actor, Alert, Case, CaseEvent, Change, Level, Look, Terms, sample_id
from fraud.cases.console import CaseQuery
from fraud.cases.evidence_store import Snapshots
from fraud.cases.moves import ENDED
from fraud.cases.rows import (
    CASE,
    EVIDENCE,
    INDEX_KEYS,
    WAITING,
    CaseRow,
    ChangeRow,
    GivenRow,
    LookRow,
    PartRow,
    PaymentRow,
    ReportDayRow,
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

if TYPE_CHECKING:
    from pynamodb.expressions.condition import Condition

CASES_PER_PAGE = 10
CHANGES_PER_PAGE = 100
LOOKS_PER_PAGE = 100

OFFERED, MOST_OFFERS = 3, 20
"""Cases that are read to give one of them to an analyst, and how often that is done when others are faster."""

GIVEN_S = 86_400
"""Seconds for which a request for the next case may be sent again."""


class _Read(NamedTuple):
    """A case as it was read, and its row."""

    row: CaseRow
    case: Case

    def leaves_wait(self, after: Case) -> bool:
        """Whether an execution may have to be told once the case is `after`.

        It must if the case no longer waits for the same person then, or has left a token behind before.
        """
        untold = self.row.token is not None and self.row.waits_for != after.wait
        return untold or self.case.wait not in {None, after.wait}


class Page(NamedTuple):
    """Some cases of a list, and where the next ones begin; None when there are no more."""

    cases: Sequence[Case]
    cursor: str | None


class Cases(FollowedStore[Case]):
    """The store of cases.

    Every method raises UnavailableError when the table does not respond, and ServiceError when it refuses a request.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(tables.bound(CaseRow, settings.cases_table), CASE, WAITING, "case_id")
        self._changes = tables.bound(ChangeRow, settings.cases_table)
        self._looks = tables.bound(LookRow, settings.cases_table)
        self._days = tables.bound(ReportDayRow, settings.cases_table)
        self._parts = tables.bound(PartRow, settings.cases_table)
        self._snapshots = Snapshots(settings)
        self._given = tables.bound(GivenRow, settings.cases_table)
        self._decisions = tables.bound(PaymentRow, settings.decisions_table)
        self._trail = Trail(DocumentRow, settings.audit_table)
        self._connection = tables.connection()
        sla, lease = settings.case_sla_seconds, settings.case_lease_seconds
        self._terms = Terms(timedelta(seconds=sla), timedelta(seconds=lease))
        self._kept_s = settings.case_retention_days * 86_400

    def open(
        self,
        alert: Alert,
        now: datetime,
        actor: Actor = SYSTEM,
        note: str | None = None,
        *,
        day: datetime | None = None,
    ) -> Case:
        """Open a case for an alert, or let the alert join the case of its subject and day. Once more alters nothing.

        A case that takes no more alerts, because it has ended or is full, is followed by another one.

        note  why a person opens it
        day   of the case, if it is another one than the payment's
        """
        event = CaseEvent(kind="alerted", alert=alert, note=note)
        number = 1
        while True:
            name = alert.case_id(day, number)
            case = retry_conflicts(partial(self._open, name, event, alert, now, actor), PynamoDBException)
            if case is not None:
                return case
            number += 1

    def _open(
        self, name: str, event: CaseEvent, alert: Alert, now: datetime, actor: Actor, _attempt: int
    ) -> Case | None:
        """Open or join one case; None when it takes no more alerts and does not know this one."""
        try:
            read = self.read(name)
        except NotFoundError:
            begun = Case.for_alert(name, alert, now, self._terms)
            self._write(None, begun, event, actor)
            return begun
        case = read.case
        if case.knows(alert) and (actor == SYSTEM or case.state not in ENDED):
            return case  # a person opens a case again that has ended
        if not case.joins:
            return None
        after = apply_event(case, event, actor, now, self._terms)
        self._write(read, after, event, actor)
        return after

    def report_day(self, alert: Alert, now: datetime, window: timedelta) -> datetime:
        """Return the day whose case a report opens or joins: that of the first report about its subject in a window.

        Of reports at once one names the day, and the others get it (D-123).
        """
        row = self._days(f"reports#{alert.subject}", "day", day=utc(alert.occurred_at), since=utc(now))
        row.ttl = int((now + window).timestamp())
        for _ in range(CONFLICTS):
            with translate_errors(PynamoDBException):
                condition: Condition = self._days.pk.does_not_exist()
                with contextlib.suppress(DoesNotExist):
                    kept = self._days.get(row.pk, row.sk, consistent_read=True)
                    if now - datetime.fromisoformat(kept.since) < window:
                        return datetime.fromisoformat(kept.day)
                    condition = self._days.since == kept.since
                try:
                    row.save(condition=condition)
                except PutError as error:
                    if error.cause_response_code != "ConditionalCheckFailedException":
                        raise
                else:
                    return alert.occurred_at
        raise UnavailableError("Conflicts")

    def get(self, name: str) -> Case:
        """Read a case consistently. Raises NotFoundError."""
        return self.followed(name)

    def change(self, name: str, event: CaseEvent, actor: Actor, now: datetime, seen: int | None = None) -> Case:
        """Carry an event out and return the case after it. The same event once more alters nothing.

        seen  the version that a person has seen; None for the system, which means the present one

        Raises NotFoundError, ForbiddenError, InvalidRequestError, and CaseConflictError when the case has changed since
        or does not allow the event.
        """

        def attempt(_: int) -> Case:
            read = self.read(name)
            case = read.case
            if seen is not None and seen != case.version:
                if self._has_said(name, seen + 1, event, actor):
                    return case
                raise CaseConflictError(case.now)
            _check_payments(case, event)
            after = apply_event(case, event, actor, now, self._terms)
            if after is not case:
                self._write(read, after, event, actor)
            return after

        changed = retry_conflicts(attempt, PynamoDBException)
        if changed.state in ENDED and actor == SYSTEM:
            self._limit(changed)
        return changed

    def by_clock(self, name: str, event: CaseEvent, now: datetime) -> Case:
        """Carry an event of the clock out. Raises as `change` does."""
        return self.change(name, event, SYSTEM, now)

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

    def look(self, name: str, actor: Actor, now: datetime) -> tuple[Case, list[Look]]:
        """Record that a person looks at the evidence. Return the case and the latest looks, this one among them.

        Looks of one person within a minute are one. Raises NotFoundError.
        """
        at = utc(now.replace(second=0, microsecond=0))
        with translate_errors(PynamoDBException):
            look = self._looks(name, f"look#{at}#{actor.name}", by=actor.name, at=at)
            look.save()
            case = self.read(name).case  # afterwards: a case that ends later gives this row its end
            if case.state in ENDED:
                look.update(actions=[self._looks.ttl.set(self._end(now))])
            found = self._looks.query(
                name,
                self._looks.sk.startswith("look#"),
                limit=LOOKS_PER_PAGE,
                scan_index_forward=False,
                consistent_read=True,
            )
            return case, [Look(by=row.by, at=row.at) for row in found]

    def payment(self, transaction_id: str) -> Transaction:
        """Read a payment as it was decided. Raises NotFoundError."""
        with translate_errors(PynamoDBException):
            try:
                row = self._decisions.get(transaction_id, consistent_read=True)
            except DoesNotExist:
                raise NotFoundError from None
        return Transaction.model_validate_json(Contents.unpacked(row.packed).transaction)

    def blind(self, transaction_ids: Iterable[str]) -> frozenset[str]:
        """Return those payments that are in a blind review: nobody may see their decisions yet."""
        names = {sample_id(each): each for each in transaction_ids}
        with translate_errors(PynamoDBException):
            rows = self._rows.batch_get([(name, CASE) for name in names], consistent_read=True)
            return frozenset(names[row.case_id] for row in rows if _case_of(row.document).is_blind)

    # ---- lists ---------------------------------------------------------------------------------------------------

    def listed(self, asked: CaseQuery) -> Page:
        """Read a page of the list that a query asks for. Raises InvalidRequestError for a cursor that is none."""
        cursor, latest_first = asked.cursor, asked.latest_first
        if asked.subject_id is not None:
            return self.of_subject(f"{asked.subject_kind}#{asked.subject_id}", cursor, latest_first=latest_first)
        if asked.assignee is not None:
            return self.assigned(asked.assignee, cursor, latest_first=latest_first)
        return self.queue(asked.level or "analyst", cursor, latest_first=latest_first)

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
                return self.read(given.document)[1]
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

    def _take(self, offered: Case, actor: Actor, now: datetime, given: GivenRow | None) -> Case:
        """Give an offered case to the actor, and record for which request. Raises as `change` does."""
        event = CaseEvent(kind="taken")

        def attempt(_: int) -> Case:
            read = self.read(offered.case_id)
            case = read.case
            if case.version != offered.version:
                raise CaseConflictError(case.now)
            after = apply_event(case, event, actor, now, self._terms)
            if given is not None:
                given.document, given.ttl = after.case_id, int(now.timestamp()) + GIVEN_S
            self._write(read, after, event, actor, given)
            return after

        return retry_conflicts(attempt, PynamoDBException)

    # ---- rows ----------------------------------------------------------------------------------------------------

    def read(self, name: str) -> _Read:
        """Read a case consistently, with its row. Raises NotFoundError and PynamoDB's errors."""
        try:
            row = self._rows.get(name, CASE, consistent_read=True)
        except DoesNotExist:
            raise NotFoundError from None
        return _Read(row, _case_of(row.document))

    def _has_said(self, name: str, version: int, event: CaseEvent, actor: Actor) -> bool:
        """Whether the change to a version was this event by this actor: then it is the same request once more."""
        try:
            row = self._changes.get(name, change_key(version), consistent_read=True)
        except DoesNotExist:
            return False
        said = Change.model_validate_json(row.document)
        return (said.event, said.by) == (event, actor.name)

    def _write(
        self, read: _Read | None, after: Case, event: CaseEvent, actor: Actor, given: GivenRow | None = None
    ) -> None:
        """Write a case, the record of its change and its audit row together, or nothing if another changed the case.

        read   the case as it was read; None for a new one
        given  written with them, if no request has got it before

        The row is updated and not put, so the token of an execution that began to wait in the meantime stays.
        """
        condition = self._rows.case_id.does_not_exist() if read is None else self._rows.version == read.case.version
        values = attributes_of(after, untold=read is not None and read.leaves_wait(after))
        if after.state in ENDED and (read is None or read.case.state not in ENDED):
            values["ttl"] = self._end(after.changed_at)
        said = Change(version=after.version, at=after.changed_at, by=actor.name, role=actor.role, event=event)
        record = self._changes(
            after.case_id,
            change_key(after.version),
            document=said.model_dump_json(exclude_defaults=True),
            ttl=self._end(after.changed_at) if after.state in ENDED else None,
        )
        head = self._trail.head(f"case#{after.case_id}")
        document = _audited(after, said, record.document)
        audited = self._trail.row(head, head.next_at(after.changed_at), by=actor.name, document=document)
        with TransactWrite(connection=self._connection) as transaction:
            self._trail.add(transaction, audited)
            transaction.update(
                self._rows(after.case_id, CASE), actions=actions_of(self._rows, values), condition=condition
            )
            transaction.save(record, condition=self._changes.case_id.does_not_exist())
            if given is not None:
                transaction.save(given, condition=self._given.pk.does_not_exist())

    def _end(self, at: datetime) -> int:
        """Return when a row expires whose time runs from `at`, in epoch seconds."""
        return int(at.timestamp()) + self._kept_s

    def _limit(self, case: Case) -> None:
        """Let the rows of an ended case expire with it. Until then they have no end, so none expires before its case.

        A call that died is made up for: the event that ended the case comes again, and alters nothing but this.
        """
        with translate_errors(PynamoDBException):
            end = self.read(case.case_id).row.ttl
            endless = self._parts.ttl.does_not_exist()
            for part in self._parts.query(case.case_id, filter_condition=endless, consistent_read=True):
                if part.sk == EVIDENCE:
                    self._snapshots.limit(case.case_id)
                part.update(actions=[self._parts.ttl.set(end)])

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


def _audited(case: Case, said: Change, record: str) -> str:
    """Return what the audit row of a change says: no note, but the SHA-256 of the record that has it."""
    finding = None if case.verdict is None else case.verdict.finding
    row = {"what": said.event.kind, "of": "case", "state": case.state, "version": case.version, "role": said.role}
    return json.dumps(row | {"finding": finding, "record_sha256": sha256(record.encode()).hexdigest()}, sort_keys=True)


def _check_payments(case: Case, event: CaseEvent) -> None:
    """Raise InvalidRequestError for a verdict on a payment that is not of the case."""
    if event.transaction_ids is not None and not set(event.transaction_ids) <= set(case.alerts):
        raise InvalidRequestError((Fault("transaction_ids", "unknown_value", "must be payments of the case"),))
