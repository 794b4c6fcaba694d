"""The events of cases on the bus. `event_id` stays the same however often an event is published.

`decisions.events.Outbox` publishes them, each under the name of its class. No event has a note or a task token.
"""

import hashlib
from typing import Literal, Self

from pydantic import BaseModel, Field

from fraud.transaction import Id, Timestamp


class _CaseEvent(BaseModel):
    """The fields that every event of a case has."""

    version: Literal["1"] = "1"
    event_id: str = Field(examples=["0f343b0931126a20f133d67c2b018a3b"])
    case_id: str
    subject_kind: Literal["payee", "payer"] = Field(description="The side that the case is about.")
    subject_id: Id = Field(description="The account that the case is about.")
    transaction_ids: list[str] = Field(description="The payments of the case.")
    at: Timestamp

    @classmethod
    def identified(cls, *parts: object, **fields: object) -> Self:
        """Build an event whose identity is a hash of its class and of `parts`."""
        said = " ".join(map(str, (cls.__name__, *parts)))
        return cls.model_validate(fields | {"event_id": hashlib.sha256(said.encode()).hexdigest()[:32]})


class HoldRequested(_CaseEvent):
    """The subject's account should be held at once, before an analyst has looked at the case."""

    reasons: list[str] = Field(description="Why, in words.")


class OutreachRequested(_CaseEvent):
    """The payer should be asked whether the payments are the payer's own."""

    payer_ids: list[Id] = Field(description="Payers of the payments, the latest first.")
    due: Timestamp = Field(description="From then on the payer counts as not reached.")


class CaseClosed(_CaseEvent):
    """A case has ended with a finding, and what follows from it is done."""

    finding: Literal["fraud", "legitimate", "dispute", "inconclusive"]
    report_ids: list[str] = Field(description="The reports of the case.")
    opened_at: Timestamp


class CaseFailed(_CaseEvent):
    """The execution of a case has failed: a lead must open it again."""
