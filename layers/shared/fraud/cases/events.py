"""The events of cases on the bus. `event_id` stays the same however often an event is published.

`Notices` publishes them, each under the name of its class. No event has a note or a task token.
"""

import hashlib
from datetime import datetime
from typing import ClassVar, Literal, Self

from pydantic import BaseModel, Field

from fraud.cases.case import Case
from fraud.cases.moves import State
from fraud.decisions.events import Outbox
from fraud.errors import UnavailableError
from fraud.transaction import Id, Timestamp, utc


class _CaseEvent(BaseModel):
    """The fields that every event of a case has. `once`: a case has this event at most once."""

    once: ClassVar[bool] = False

    version: Literal["1"] = "1"
    event_id: str = Field(examples=["0f343b0931126a20f133d67c2b018a3b"])
    case_id: str
    subject_kind: Literal["payee", "payer"] = Field(description="The side that the case is about.")
    subject_id: Id = Field(description="The account that the case is about.")
    transaction_ids: list[str] = Field(description="The payments of the case.")
    at: Timestamp

    @classmethod
    def of(cls, case: Case, at: datetime, **fields: object) -> Self:
        """Build the event of a case. Its identity is a hash of its kind, the case and, unless `once`, the time."""
        said = f"{cls.__name__} {case.case_id}" if cls.once else f"{cls.__name__} {case.case_id} {utc(at)}"
        common = {
            "event_id": hashlib.sha256(said.encode()).hexdigest()[:32],
            "case_id": case.case_id,
            "subject_kind": case.subject_kind,
            "subject_id": case.subject_id,
            "transaction_ids": case.alerts,
            "at": utc(at),
        }
        return cls.model_validate(common | fields)


class HoldRequested(_CaseEvent):
    """The subject's account should be held at once, before an analyst has looked at the case."""

    reasons: list[str] = Field(description="Why, in words.")


class OutreachRequested(_CaseEvent):
    """The payer should be asked whether the payments are the payer's own."""

    payer_ids: list[Id] = Field(description="Payers of the payments, the latest first.")
    not_before: Timestamp = Field(
        description="The app must not contact the payer before: at night it is the next morning, by the stack's hours."
    )
    due: Timestamp = Field(description="From then on the payer counts as not reached.")
    attempts: int = Field(description="How often the payer was tried in earlier outreaches of this case.")
    attempts_allowed: int = Field(description="How often the payer may be tried about this case in all.")


class CaseClosed(_CaseEvent):
    """A case has ended with a finding, and what follows from it is done. `at` is the time of the verdict."""

    finding: Literal["fraud", "legitimate", "dispute", "inconclusive"]
    subject_is: Literal["offender", "victim"] | None = Field(
        None, description="Of fraud: the offender's account is stopped, the victim's is not."
    )
    judged_ids: list[str] = Field(description="The payments that the finding holds for: all of the case, or some.")
    report_ids: list[str] = Field(description="The reports of the case, about whichever of its payments.")
    opened_at: Timestamp


class CaseFailed(_CaseEvent):
    """The execution of a case has failed: a lead must open it again. `at` is the time of the case's last change."""

    once = True


class Notices:
    """Tells the bus of cases. Raises UnavailableError when the bus does not take an event."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    def publish(self, event: BaseModel) -> None:
        """Put an event on the bus."""
        if self._outbox.publish([event]):
            raise UnavailableError("PutEvents")

    def failed(self, case: Case) -> None:
        """Tell of a case that has failed; nothing for a case in another state."""
        if case.state is State.FAILED:
            self.publish(CaseFailed.of(case, case.changed_at))
