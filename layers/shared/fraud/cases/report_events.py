"""The event of a stored report on the bus, and its row of the archive. Neither has the text: only a case reads it."""

import hashlib
from typing import Literal, Self

from pydantic import BaseModel, Field

from fraud.archive.record import ArchiveRow, dated, keyed_row, microseconds, pseudonym
from fraud.cases.report import Role, Verdict
from fraud.cases.report_store import ReportRow
from fraud.counters.keys import Keys
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


def report_row(keys: Keys, report: ReportRow) -> ArchiveRow:
    """Return the row of a report's present status. A status that it had before has a row of its own."""
    at = report.ended_at or report.received_at
    said = f"{report.report_id} {report.status} {microseconds(at)}"
    row = {
        **keyed_row(keys, report.transaction_id, report.payer_id, report.payee_id, report.occurred_at),
        "event_id": pseudonym(keys, "report", said),
        "report": pseudonym(keys, "report", report.report_id),
        "role": report.role,
        "category": report.category,
        "reported_at": microseconds(report.reported_at),
        "received_at": microseconds(report.received_at),
        "verdict": report.verdict,
        "probability": float(report.probability),
        "status": report.status,
        "changed_at": microseconds(at),
    }
    return dated(row, at)
