"""The case as its row has it: what was said, when the clock acts on it next, and its names. Pure.

A case is about one account, its subject, and joins the alerts of one day. An analyst takes it, may have the payer
asked, and gives a verdict. Its machine is in `cases.moves`.
"""

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field

from fraud.cases.moves import (
    ENDED,
    MOVES,
    NEVER,
    PATIENCE,
    SLA,
    WAITS,
    CaseKind,
    EventKind,
    Role,
    State,
)
from fraud.errors import CaseNow
from fraud.executions import CHECK_AGAIN, LOOK_AGAIN, UNTOLD
from fraud.transaction import Id, Instant, utc

Level = Literal["analyst", "lead"]
Finding = Literal["fraud", "legitimate", "dispute", "inconclusive"]
OutreachAnswer = Literal["denies", "confirms", "not_reached"]
SubjectKind = Literal["payee", "payer"]
SubjectIs = Literal["offender", "victim"]
USUALLY: Mapping[SubjectKind, SubjectIs] = {"payee": "offender", "payer": "victim"}
"""What the subject of a fraud is where nobody has said so. A payer's account is stopped only where somebody has."""

PAYEE_SIDE = frozenset({"CONFIRMED_FRAUD", "FAN_IN_BURST", "RECEIVER_BEHAVIOUR"})
"""Reason codes that tell of the payee. A decision whose first reason is one of them makes a case about the payee."""

MOST_ALERTS = 500
"""Most payments, and most reports, that one case joins; the next one opens another case."""

MOST_NOTE = 2_000
"""Most characters of a note or a reason."""


class Terms(NamedTuple):
    """The stack's times: `sla` from the opening to the due time, `lease` for which an analyst has a case."""

    sla: timedelta
    lease: timedelta


class Actor(NamedTuple):
    """The cause of an event: the `sub` of a person's token, and the role; the system's name is `system`."""

    name: str
    role: Role


SYSTEM = Actor("system", "system")


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class Tactics(_Part):
    """Accounts of a kind that have multiplied: what has opened a case with the reason `TACTICS_CHANGED`."""

    sentence: str = Field(description="What has changed.")
    accounts: int = Field(description="Accounts of the kind in all.")
    account_ids: tuple[Id, ...] = Field(description="Those of them that are named: some, without erased ones.")


class Alert(_Part):
    """A payment to look at, and the account that it tells of. It opens a case or joins one."""

    transaction_id: Id
    subject_kind: SubjectKind
    subject_id: Id
    occurred_at: Instant = Field(description="The payment's own time.")
    reason: str = Field(
        description="The leading reason code; `REPORT` for a report, `BY_HAND` for a person's alert, `SAMPLE` for a"
        " payment that was drawn; `TACTICS_CHANGED` for accounts of a kind that have multiplied."
    )
    report_id: str | None = None
    kind: CaseKind = "alert"
    tactics: Tactics | None = Field(None, description="The accounts of `TACTICS_CHANGED`; null for other reasons.")

    @property
    def subject(self) -> str:
        """The subject as `<kind>#<id>`."""
        return f"{self.subject_kind}#{self.subject_id}"

    def case_id(self, day: datetime | None = None, number: int = 1) -> str:
        """Return the name of the alert's case. `day`: of the case, if it is another one than the payment's."""
        if self.kind == "sample":
            return sample_id(self.transaction_id)
        return case_id(self.subject, day or self.occurred_at, number)


class CaseEvent(_Part):
    """An event of a case with what was said."""

    kind: EventKind
    note: str | None = Field(None, max_length=MOST_NOTE)
    assignee: str | None = Field(None, max_length=128, description="To whom the case goes.")
    finding: Finding | None = None
    subject_is: SubjectIs | None = None
    transaction_ids: tuple[str, ...] | None = Field(None, description="The payments that a verdict is about.")
    answer: OutreachAnswer | None = None
    alert: Alert | None = None


class Verdict(_Part):
    """A finding with its reason and author. `by` is `system` for triage and for a case that timed out."""

    finding: Finding
    subject_is: SubjectIs | None = Field(
        None,
        description="Of fraud: whether the subject is the offender, whose account is stopped, or the victim.",
    )
    reason: str
    by: str
    at: Instant
    transaction_ids: tuple[str, ...] = Field(description="The payments that the finding holds for.")


class Outreach(_Part):
    """The attempt to ask the payer: since when, how often it was tried, and what the payer said."""

    asked_at: Instant
    asked_by: str
    attempts: int = 0
    earlier_attempts: int = Field(0, description="How often the payer was tried in earlier outreaches of the case.")
    answer: OutreachAnswer | None = None


class Change(_Part):
    """One event of a case on record. `version` is that of the case after it."""

    version: int
    at: Instant
    by: str
    role: Role
    event: CaseEvent


class Look(_Part):
    """A person's look at the evidence of a case."""

    by: str
    at: Instant


class Case(_Part):
    """A case as it stands. The row in the table is the truth, and the execution follows it."""

    case_id: str
    kind: CaseKind = "alert"
    subject_kind: SubjectKind
    subject_id: Id
    opened_at: Instant
    state: State = State.COLLECTING
    level: Level = "analyst"
    assignee: str | None = None
    lease_until: Instant | None = None
    due: Instant
    sla_from: Instant = Field(description="From then on the time to the due time runs.")
    sla_step: int = Field(0, description="Steps of the service level that were taken.")
    alerts: tuple[str, ...] = Field(description="The payments, by transaction_id.")
    reports: tuple[str, ...] = ()
    reasons: tuple[str, ...] = Field(description="The leading reason code of each alert, each once.")
    outreach: Outreach | None = None
    verdict: Verdict | None = None
    changed_at: Instant
    version: int = 1

    @classmethod
    def for_alert(cls, case_id: str, alert: Alert, now: datetime, terms: Terms) -> Self:
        """Open a case for an alert."""
        return cls(
            case_id=case_id,
            kind=alert.kind,
            subject_kind=alert.subject_kind,
            subject_id=alert.subject_id,
            opened_at=now,
            due=now + terms.sla * PATIENCE[alert.kind],
            sla_from=now,
            alerts=(alert.transaction_id,),
            reports=() if alert.report_id is None else (alert.report_id,),
            reasons=(alert.reason,),
            changed_at=now,
        )

    @property
    def subject(self) -> str:
        """The subject as `<kind>#<id>`."""
        return f"{self.subject_kind}#{self.subject_id}"

    @property
    def name(self) -> str:
        """The key of the row."""
        return self.case_id

    @property
    def execution(self) -> str | None:
        """The name of the execution, while it may be missing: it begins with the evidence."""
        return self.case_id if self.state is State.COLLECTING else None

    @property
    def follower(self) -> str | None:
        """The name of the execution that follows the row; None for a case that has ended."""
        return None if self.state in ENDED else self.case_id

    @property
    def payload(self) -> dict[str, Any]:
        """The input of the execution."""
        return {"case_id": self.case_id}

    @property
    def now(self) -> CaseNow:
        """The state of the case, as the answer to a refused change has it."""
        finding, by = (None, None) if self.verdict is None else (self.verdict.finding, self.verdict.by)
        return CaseNow(state=self.state, version=self.version, assignee=self.assignee, finding=finding, judged_by=by)

    @property
    def blames_subject(self) -> bool:
        """Whether the verdict is that the subject has deceived somebody: then its account is stopped."""
        if self.verdict is None or self.verdict.finding != "fraud" or self.kind == "sample":
            return False
        return (self.verdict.subject_is or USUALLY[self.subject_kind]) == "offender"

    @property
    def joins(self) -> bool:
        """Whether another alert may join this case."""
        return self.allows("alerted") and max(len(self.alerts), len(self.reports)) < MOST_ALERTS

    @property
    def is_blind(self) -> bool:
        """Whether nobody may know the decision on the case's payment yet: it was drawn, and has no verdict."""
        return self.kind == "sample" and self.verdict is None and self.state is not State.FAILED

    def allows(self, kind: EventKind) -> bool:
        """Whether an event may happen in the state of the case."""
        return kind in MOVES[self.state] and kind not in NEVER[self.kind]

    @property
    def wait(self) -> str | None:
        """The wait of an execution that follows the case: for whom, and for the payer since which outreach.

        A second outreach is another wait than the first, so an execution that was not told of the first answer is told.
        """
        whom = WAITS.get(self.state)
        return f"{whom} {utc(self.outreach.asked_at)}" if whom == "payer" and self.outreach is not None else whom

    def knows(self, alert: Alert) -> bool:
        """Whether the alert has joined already."""
        return alert.transaction_id in self.alerts and (alert.report_id is None or alert.report_id in self.reports)

    def step_at(self, index: int) -> datetime:
        """Return the time of a step of SLA."""
        return self.sla_from + (self.due - self.sla_from) * SLA[index].share

    def clock_events(self, now: datetime) -> tuple[CaseEvent, ...]:
        """Return the events that the clock causes by now, in their order.

        >>> from datetime import UTC
        >>> noon = datetime(2026, 3, 4, 12, tzinfo=UTC)
        >>> alert = Alert(transaction_id="t", subject_kind="payer", subject_id="a", occurred_at=noon, reason="VELOCITY")
        >>> case = Case.for_alert("C", alert, noon, Terms(timedelta(hours=4), timedelta(minutes=30)))
        >>> case = case.model_copy(update={"state": State.QUEUED})
        >>> [event.kind for event in case.clock_events(noon + timedelta(hours=4))]
        ['warned', 'raised']
        """
        if self.state not in {State.QUEUED, State.ASSIGNED}:
            return ()
        due = [CaseEvent(kind=SLA[n].event) for n in range(self.sla_step, len(SLA)) if self.step_at(n) <= now]
        if self.state is State.ASSIGNED and self.lease_until is not None and self.lease_until <= now:
            due.append(CaseEvent(kind="lease_ended"))
        return tuple(due)

    def next_look(self) -> datetime | None:
        """Return when the sweep must look at the case next; None when the case has ended.

        A case that has just changed its wait is looked at after a minute, in case its execution was not told.
        """
        if self.state in ENDED:
            return None
        if self.state in {State.COLLECTING, State.OUTREACH, State.CONCLUDING}:
            return self.changed_at + UNTOLD
        return min((*self._times, self.changed_at + CHECK_AGAIN))

    def looks_again(self, now: datetime) -> datetime:
        """Return when the sweep must look again, after a look by which nothing has changed."""
        if self.wait is None:
            return now + LOOK_AGAIN
        return min((*(at for at in self._times if at > now), now + CHECK_AGAIN))

    @property
    def _times(self) -> tuple[datetime, ...]:
        """The times at which the clock causes something next: a step of the service level, the end of the lease."""
        if self.state not in {State.QUEUED, State.ASSIGNED}:
            return ()
        steps = [self.step_at(self.sla_step)] if self.sla_step < len(SLA) else []
        leases = [self.lease_until] if self.state is State.ASSIGNED and self.lease_until is not None else []
        return (*steps, *leases)


_CASE_ID = re.compile(r"[A-Z2-7]{26}(-[1-9][0-9]{0,4})?")


# ---- names -----------------------------------------------------------------------------------------------------------


def case_id(subject: str, occurred_at: datetime, number: int = 1) -> str:
    """Return the name of the case of a subject and a day: the same for every alert of that day.

    subject  `<kind>#<id>`
    number   2 and more: the cases that follow one which takes no more alerts

    >>> from datetime import UTC
    >>> name = case_id("payer#hanako", datetime(2026, 3, 4, 12, tzinfo=UTC))
    >>> len(name), case_id("payer#hanako", datetime(2026, 3, 4, 23, tzinfo=UTC), 2) == f"{name}-2"
    (26, True)
    """
    kind, _, value = subject.partition("#")
    name = _name(kind, value, utc(occurred_at)[:10])
    return name if number == 1 else f"{name}-{number}"


def sample_id(transaction_id: str) -> str:
    """Return the name of the case in which a payment that was drawn is judged, beside any case of its alerts.

    >>> len(sample_id("t-1")), sample_id("t-1") == sample_id("t-2")
    (26, False)
    """
    return _name("sample", transaction_id)


def _name(*parts: str) -> str:
    return base64.b32encode(hashlib.sha256("\n".join(parts).encode()).digest()).decode()[:26]


def is_case_id(text: str) -> bool:
    """Tell whether a text can be the id of a case.

    >>> is_case_id("A" * 26), is_case_id("A" * 26 + "-2"), is_case_id("next")
    (True, True, False)
    """
    return _CASE_ID.fullmatch(text) is not None


def subject_kind(payee_id: str | None, codes: Sequence[str]) -> SubjectKind:
    """Return the side that a decision's case is about, by the first of its reasons.

    >>> subject_kind("shop", ["FAN_IN_BURST", "VELOCITY"]), subject_kind(None, ["FAN_IN_BURST"])
    ('payee', 'payer')
    """
    return "payee" if payee_id is not None and codes and codes[0] in PAYEE_SIDE else "payer"
