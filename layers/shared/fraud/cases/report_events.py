"""The event of a stored report on the bus. It has no text: a case reads that in the report's row."""

import hashlib
from typing import Literal, Self

from pydantic import BaseModel, Field

from fraud.cases.report import Role, Verdict
from fraud.cases.report_store import ReportRow
from fraud.transaction import Id, Timestamp, utc


class ReportReceived(BaseModel):
    """A user reported a payment. `event_id` stays the same however often the event is published."""

    version: Literal["1"] = "1"
    event_id: str = Field(examples=["5b1fd0cc4f2d2a5f4c1d0f7d2b3f7a90"])
    report_id: Id
    transaction_id: Id
    reporter_id: Id
    role: Role
    payer_id: Id | None = Field(description="Null where no decision is stored for the payment, as payee_id.")
    payee_id: Id | None
    occurred_at: Timestamp | None = Field(description="The payment's time; null where no decision is stored.")
    reported_at: Timestamp
    received_at: Timestamp
    category: str
    verdict: Verdict = Field(description="What triage said. A dispute is answered; the others go to a case.")
    probability: float = Field(description="Probability that the report is about fraud.")

    @classmethod
    def of(cls, row: ReportRow) -> Self:
        """Build the event from a row, with or without its text."""
        return cls(
            event_id=hashlib.sha256(f"report {row.report_id}".encode()).hexdigest()[:32],
            report_id=row.report_id,
            transaction_id=row.transaction_id,
            reporter_id=row.reporter_id,
            role=row.role,
            payer_id=row.payer_id,
            payee_id=row.payee_id,
            occurred_at=None if row.occurred_at is None else utc(row.occurred_at),
            reported_at=utc(row.reported_at),
            received_at=utc(row.received_at),
            category=row.category,
            verdict=row.verdict,
            probability=float(row.probability),
        )
