"""What people send to the API of cases, and what they see. Pure.

ACTIONS has the body of each change: a body says what happened to which version of the case, and becomes an event of the
case.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

from fraud.body import RequestBody
from fraud.cases.case import (
    MOST_ALERTS,
    MOST_NOTE,
    Alert,
    Case,
    CaseEvent,
    Change,
    Finding,
    Level,
    Look,
    OutreachAnswer,
    SubjectIs,
    SubjectKind,
)
from fraud.cases.evidence import Joined
from fraud.cases.moves import CaseKind, EventKind, State
from fraud.cases.report import CaseReport
from fraud.errors import Fault, InvalidRequestError
from fraud.person import MOST_NAME, is_person
from fraud.transaction import Id, Instant, Transaction, faults_of

ME = "me"
"""The assignee that means the caller."""

BY_HAND = "BY_HAND"
"""The leading reason of an alert that a person has made."""

Words = Annotated[str, StringConstraints(min_length=1, max_length=MOST_NOTE, strip_whitespace=True)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=MOST_NAME)]


def _person(value: str) -> str:
    if not is_person(value):
        raise PydanticCustomError("form", "must be the name of a person, as a token has it")
    return value


PersonName = Annotated[Name, AfterValidator(_person)]


# ---- requests ------------------------------------------------------------------------------------------------------


class _CaseRequest(RequestBody):
    """A change of a case: the event that it causes, and the version of the case that the person has seen."""

    kind: ClassVar[EventKind]

    version: int = Field(ge=1, description="The version of the case that the person has seen.", examples=[3])

    @property
    def event(self) -> CaseEvent:
        """The event that the request asks for."""
        return CaseEvent.model_validate({"kind": self.kind} | self.said)

    @property
    def said(self) -> dict[str, Any]:
        """The fields of the body but the version, by the names that the event gives them."""
        names = {"reason": "note"}
        return {names.get(name, name): value for name, value in self if name != "version"}


class TakeRequest(_CaseRequest):
    """The body of POST /cases/{case_id}/take: the caller takes a case that waits."""

    kind = "taken"


class ReleaseRequest(_CaseRequest):
    """The body of POST /cases/{case_id}/release: the case goes back to the queue."""

    kind = "released"
    reason: Words


class ReassignRequest(_CaseRequest):
    """The body of POST /cases/{case_id}/reassign: the case goes to another analyst."""

    kind = "reassigned"
    assignee: PersonName = Field(description="The `sub` of the other analyst's token.", examples=["jun"])
    reason: Words


class EscalateRequest(_CaseRequest):
    """The body of POST /cases/{case_id}/escalate: a lead should look at the case."""

    kind = "escalated"
    reason: Words


class NoteRequest(_CaseRequest):
    """The body of POST /cases/{case_id}/notes: something that the next reader of the case should know."""

    kind = "noted"
    note: Words


class OutreachRequest(_CaseRequest):
    """The body of POST /cases/{case_id}/outreach: the payer should be asked about the payments."""

    kind = "outreach_asked"
    reason: Words


class AttemptRequest(_CaseRequest):
    """The body of POST /cases/{case_id}/outreach/attempts: the payer was tried to be reached."""

    kind = "outreach_attempted"
    note: Words = Field(description="How it was tried, and what came of it.", examples=["called, nobody answered"])


class AnswerRequest(_CaseRequest):
    """The body of POST /cases/{case_id}/outreach/answer: what the payer said."""

    kind = "outreach_answered"
    answer: OutreachAnswer
    note: Words | None = None


class VerdictRequest(_CaseRequest):
    """The body of POST /cases/{case_id}/verdict: what the case was found to be, and why."""

    kind = "judged"
    finding: Finding
    subject_is: SubjectIs | None = Field(
        None,
        description="Only of `fraud`: whether the case's subject is the `offender`, whose account is stopped, or the"
        " `victim`. Without it a payee is the offender, and a payer the victim. A blind case ignores it.",
    )
    reason: Words
    transaction_ids: Annotated[tuple[Id, ...], Field(min_length=1, max_length=MOST_ALERTS)] | None = Field(
        None, description="The payments that the finding holds for; without it, all payments of the case."
    )

    @field_validator("subject_is")
    @classmethod
    def _of_fraud(cls, value: SubjectIs | None, info: ValidationInfo) -> SubjectIs | None:
        if value is not None and info.data.get("finding", "fraud") != "fraud":
            raise PydanticCustomError("form", "must be left out where the finding is not fraud")
        return value


ACTIONS: Mapping[str, type[_CaseRequest]] = {
    "take": TakeRequest,
    "release": ReleaseRequest,
    "reassign": ReassignRequest,
    "escalate": EscalateRequest,
    "notes": NoteRequest,
    "outreach": OutreachRequest,
    "outreach/attempts": AttemptRequest,
    "outreach/answer": AnswerRequest,
    "verdict": VerdictRequest,
}
"""The body of each change of a case, by the end of its route."""


class OpenRequest(RequestBody):
    """The body of POST /cases: a case is opened by hand, for a payment that was decided."""

    transaction_id: Id
    subject_kind: SubjectKind = Field(description="Whom the case is about: the payment's payer or its payee.")
    reason: Words

    def alert(self, payment: Transaction) -> Alert:
        """Return the alert for the payment. Raises InvalidRequestError for the payee of a payment without one."""
        subject = payment.payee_id if self.subject_kind == "payee" else payment.payer_id
        if subject is None:
            raise InvalidRequestError((Fault("subject_kind", "contradiction", "is not a party of this payment"),))
        return Alert(
            transaction_id=self.transaction_id,
            subject_kind=self.subject_kind,
            subject_id=subject,
            occurred_at=payment.occurred_at,
            reason=BY_HAND,
        )


class NextRequest(RequestBody):
    """The body of POST /cases/next: the caller takes the case that is due first."""

    request_id: Id | None = Field(
        None,
        description="An id of the caller's choice. The same id gets the same case again, for a day: so a request whose"
        " response was lost can be repeated. Without it each request takes another case.",
        examples=["r-17"],
    )


class CaseQuery(BaseModel):
    """The query of GET /cases: one list of cases, and what of it to show.

    The list is that of a subject, else of an assignee, else of a level (the queue). Everything else that is asked for
    leaves cases of a page out, so a page costs the same with it. A state that the list never has is refused.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    level: Level | None = None
    assignee: Name | None = None
    subject_kind: SubjectKind | None = None
    subject_id: Id | None = None
    state: State | None = None
    reason: Annotated[str, StringConstraints(max_length=64)] | None = None
    sort: Literal["earliest", "latest"] | None = None
    cursor: Annotated[str, StringConstraints(max_length=1_000)] | None = None

    @classmethod
    def parse(cls, query: Mapping[str, str], caller: str) -> Self:
        """Parse a query of a person. Raises InvalidRequestError with every fault at once."""
        try:
            asked = cls.model_validate(dict(query))
        except ValidationError as error:
            raise InvalidRequestError(faults_of(error)) from None
        faults = []
        if asked.subject_id is not None and asked.subject_kind is None:
            faults.append(Fault("subject_kind", "missing", "is required beside subject_id"))
        if asked.state is not None and asked.state not in asked._states:  # noqa: SLF001 - its own class
            states = " or ".join(asked._states)  # noqa: SLF001
            said = f"must be {states} in this list; with a subject any state may be asked for"
            faults.append(Fault("state", "invalid", said))
        if faults:
            raise InvalidRequestError(tuple(faults))
        return asked.model_copy(update={"assignee": caller}) if asked.assignee == ME else asked

    @property
    def _states(self) -> tuple[State, ...]:
        """The states of the cases in the list."""
        if self.subject_id is not None:
            return tuple(State)
        return (State.QUEUED,) if self.assignee is None else (State.ASSIGNED, State.OUTREACH)

    @property
    def latest_first(self) -> bool:
        """The order of the list: by opening for a subject, the latest first, else by due time, the earliest first."""
        return self.subject_id is not None if self.sort is None else self.sort == "latest"

    def shows(self, case: Case) -> bool:
        """Tell whether a case of the list is to be shown."""
        wanted = {name: getattr(self, name) for name in ("state", "level", "assignee", "subject_kind")}
        if any(value not in {None, getattr(case, name)} for name, value in wanted.items()):
            return False
        return self.reason is None or self.reason in case.reasons


# ---- views ---------------------------------------------------------------------------------------------------------


class CaseSummary(BaseModel):
    """A case in a list."""

    case_id: str
    kind: CaseKind
    subject_kind: SubjectKind
    subject_id: Id
    state: State
    level: Level
    assignee: str | None
    lease_until: Instant | None
    opened_at: Instant
    due: Instant
    reasons: tuple[str, ...]
    alerts: int = Field(description="How many payments the case has.")
    reports: int = Field(description="How many reports the case has.")
    finding: Finding | None
    version: int

    @classmethod
    def of(cls, case: Case) -> Self:
        """Sum a case up."""
        own = {name: getattr(case, name) for name in cls.model_fields if name != "finding"}
        finding = None if case.verdict is None else case.verdict.finding
        return cls.model_validate(own | {"alerts": len(case.alerts), "reports": len(case.reports), "finding": finding})


class CasePage(BaseModel):
    """A page of a list. A page of a list with filters may be short, or empty, and still have a cursor."""

    cases: list[CaseSummary]
    cursor: str | None = Field(description="Leads to the next page; null on the last one.")

    @classmethod
    def of(cls, cases: Sequence[Case], cursor: str | None, asked: CaseQuery) -> Self:
        """Sum those cases of a list up that the query wants to see."""
        return cls(cases=[CaseSummary.of(case) for case in cases if asked.shows(case)], cursor=cursor)


class CaseView(BaseModel):
    """A case as it stands, and a page of its changes in their order."""

    case: Case
    changes: list[Change]
    cursor: str | None = Field(description="Leads to the next changes; null when there are no more.")


class NextCase(BaseModel):
    """The case that the caller has got; null when none waits."""

    case: Case | None


class EvidenceView(BaseModel):
    """The evidence of a case as it was collected, what has joined the case since, and who has looked at it."""

    evidence: Mapping[str, Any] = Field(
        description="The decisions and accounts of the case, earlier cases and reports, in the form of the release that"
        " collected them. Of a payment in a blind review it has no decision before the verdict there."
    )
    joined: Joined
    reports: list[CaseReport] = Field(
        description="The latest reports of the case, as they are now, with their users' own words. Personal."
    )
    looks: list[Look] = Field(description="The latest looks; those of one person within a minute are one.")


def evidence_view(document: str, joined: Joined, reports: Sequence[CaseReport], looks: Sequence[Look]) -> str:
    """Return an `EvidenceView` as JSON: the stored document byte for byte, and what stands beside it now."""
    beside: Mapping[str, Sequence[BaseModel]] = {"reports": reports, "looks": looks}
    said = (f'"{name}":[{",".join(each.model_dump_json() for each in values)}]' for name, values in beside.items())
    return f'{{"evidence":{document},"joined":{joined.model_dump_json()},{",".join(said)}}}'
