"""Reports of users about payments: the request, its categories, its answer, and the state of a stored report. Pure.

A report is a claim. It is no label: what it becomes is said by triage, or by the case that it goes to. Its text is
personal and stands in the report's row and in a case, nowhere else.
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from fraud.body import RequestBody, refused_alone
from fraud.errors import Fault, InvalidRequestError
from fraud.transaction import MAX_AHEAD, Id, Instant, OrNone, Timestamp, not_ahead, utc

MAX_REPORTS = 100
"""Most reports of one request."""

MAX_TEXT = 2_000
"""Most characters of a report's text."""

MAX_REPORTS_BYTES = MAX_REPORTS * 26_000
"""Most bytes of a request: each report may have MAX_TEXT characters, and JSON may spell each of them in 12 bytes."""

Verdict = Literal["fraud", "dispute", "unsure"]
"""What triage says of a report. Unsure and fraud go to a case; only a dispute is answered at once."""

ReportStatus = Literal["open", "dispute", "fraud", "legitimate", "inconclusive"]
"""A report is open until triage takes it for a dispute, or until its case is closed with a finding."""

Role = Literal["payer", "payee", "other"]
"""The reporter's part in the payment."""


class Category(NamedTuple):
    """A category of reports.

    usual  what most reports of the category are: `fraud`, `dispute` or `unsure`. It is a hint: users err.
    """

    usual: Verdict
    words: str


CATEGORIES: Mapping[str, Category] = {
    "item_not_received": Category("dispute", "the item or the service never came"),
    "not_as_described": Category("dispute", "the item is not what was described"),
    "service_quality": Category("dispute", "the quality of a service"),
    "price_or_refund": Category("dispute", "the price, or a refund that does not come"),
    "unknown_payment": Category("fraud", "a payment that the user does not know"),
    "account_taken_over": Category("fraud", "somebody else used the account"),
    "impersonation": Category("fraud", "somebody posed as another person or an office"),
    "fake_shop": Category("fraud", "a shop that does not exist"),
    "investment_or_romance_scam": Category("fraud", "an investment or a romance that was a pretext"),
    "asked_to_pay_to_receive": Category("fraud", "a payment that was asked for as the condition of a larger one"),
    "sent_to_wrong_person": Category("dispute", "the user paid the wrong person"),
    "other": Category("unsure", "anything else"),
}
"""The categories that a user may choose. A new category is a row here; triage knows it once it is trained again."""


def _category(value: str) -> str:
    if value not in CATEGORIES:
        raise PydanticCustomError("unknown_value", "must be one of {names}", {"names": ", ".join(CATEGORIES)})
    return value


CategoryName = Annotated[
    str, AfterValidator(_category), WithJsonSchema({"type": "string", "enum": [*CATEGORIES]}, mode="validation")
]
Text = Annotated[str, StringConstraints(max_length=MAX_TEXT)]


class ReportRequest(BaseModel):
    """One report of POST /reports: a user's claim about one payment.

    >>> said = {"report_id": "r-1", "transaction_id": "t-1", "reporter_id": "a", "category": "fake_shop"}
    >>> ReportRequest(**said, text=" ", reported_at="2026-03-04T12:00:00Z").text is None
    True
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    report_id: Id = Field(description="The idempotency key.", examples=["r-20260304-1"])
    transaction_id: Id
    reporter_id: Id = Field(description="The account of the user who reports, usually the payer.", examples=["payer-1"])
    category: CategoryName = Field(description="What the user chose; triage also finds a user's wrong choice.")
    text: OrNone[Text] = Field(
        None, description=f"The user's own words, in any language; at most {MAX_TEXT:,} characters. Personal."
    )
    reported_at: Annotated[Instant, not_ahead("reported_at_ahead")] = Field(
        description="When the user reported; not before the payment, and at most 5 minutes ahead. Send the same time"
        " again when you send the same report again."
    )

    @property
    def identity(self) -> str:
        """A hash of all fields: two bodies of one report_id are the same report only if it is equal."""
        fields = self.model_dump(exclude={"reported_at"}) | {"reported_at": utc(self.reported_at)}
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:32]

    def check(self, occurred_at: datetime) -> None:
        """Raise InvalidRequestError when the report lies before its payment, by more than two clocks may differ."""
        if self.reported_at + MAX_AHEAD < occurred_at:
            fault = Fault("reported_at", "before_payment", "must not lie before the payment's occurred_at")
            raise InvalidRequestError((fault,))


# ---- what triage says, and the state -------------------------------------------------------------------------------


class TriageReason(BaseModel):
    """A reason of triage, in words that hold no part of the report's text."""

    model_config = ConfigDict(frozen=True)

    code: str = Field(
        description="A rule's id, or what the classifier weighed: `category`, `words` or a fact's name.",
        examples=["payee_reporters"],
    )
    text: str = Field(description="For people; its words may change.")


class Triaged(BaseModel):
    """What triage says of a report."""

    model_config = ConfigDict(frozen=True)

    verdict: Verdict
    probability: float = Field(ge=0, le=1, description="Probability that the report is about fraud.")
    reasons: list[TriageReason]


class _StoredReport(BaseModel):
    report_id: Id
    transaction_id: Id
    reporter_id: Id
    role: Role = Field(description="The reporter's part in the payment; `other` too where no decision is stored.")
    category: str
    reported_at: Timestamp
    received_at: Timestamp
    known: bool = Field(description="Whether a decision is stored under the transaction_id.")
    status: ReportStatus = Field(
        description="`open`: a case looks at it. `dispute`: no deceit, so answer the user as for a dispute. Or the"
        " finding of its case."
    )
    ended_at: Timestamp | None = Field(description="When it got its status; null while it is open.")


class ReportView(_StoredReport):
    """A stored report as it is now, without its text. Internal: who sees what triage says could learn to mislead it."""

    triage: Triaged


class CaseReport(_StoredReport):
    """A report as the analyst of its case reads it. Personal: no log line and no event has it."""

    triage: Triaged | None = Field(description="Null while the payment is in a blind review.")
    text: str | None = Field(description="The user's own words; null for none.")

    def without(self, hidden: Collection[str]) -> Self:
        """Return the same without what triage says if its payment is hidden: verdict and probability, too, follow from
        score and outcome.
        """
        return self.model_copy(update={"triage": None}) if self.transaction_id in hidden else self


class ReportResult(BaseModel):
    """The result of one report. `report_id` is null when the report's own `report_id` is faulty."""

    report_id: Id | None
    status: Literal["accepted", "duplicate", "conflict", "refused"] = Field(
        description="`duplicate`: the same report is stored. `conflict`: another one is stored under this report_id."
    )
    errors: list[Fault] = Field([], description="Why it was refused.")
    report: ReportView | None = Field(None, description="The stored report; null for a refused one.")


class ReportResults(BaseModel):
    """The response of POST /reports: one result for each report, in the order of the reports."""

    results: list[ReportResult]


class ReportBatch(RequestBody):
    """The body of POST /reports. A faulty report is refused on its own; the others are accepted all the same."""

    most_bytes = MAX_REPORTS_BYTES

    reports: Annotated[
        list[ReportRequest | ReportResult],  # a request holds only the first; the second is a refusal
        refused_alone(ReportRequest, "report_id", partial(ReportResult, status="refused"), MAX_REPORTS),
    ]


# ---- earlier reports -----------------------------------------------------------------------------------------------

REPORTER_WINDOW, PAYEE_WINDOW = timedelta(days=365), timedelta(days=30)
"""How far back triage looks at reports of the same reporter, and at reports about the same payee."""


def begins(window: timedelta, end: datetime) -> datetime:
    """Return the begin of a window; that of the calendar for a window that begins before it.

    >>> begins(timedelta(days=30), datetime(1, 1, 2, tzinfo=UTC)).isoformat()
    '0001-01-01T00:00:00+00:00'
    """
    first = datetime.min.replace(tzinfo=UTC)
    return end - min(window, end - first)


class EarlierReport(NamedTuple):
    """The part of a stored report that triage of another one reads."""

    report_id: str
    transaction_id: str
    reporter_id: str
    reported_at: datetime
    status: str
