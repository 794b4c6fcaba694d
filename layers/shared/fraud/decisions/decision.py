"""The decision as it is answered and shown: POST /decisions, GET /decisions/{id} and what happened since.

The stored body is the answer, byte for byte, for as long as the decision is kept; so everything that shaped it
(versions, degradation, step times) is in it. Only `advice` is meant for the payer: reasons would teach a fraudster.
"""

import json
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from fraud.decisions.record import StoredDecision
from fraud.outcome import PENDING, Advice, Outcome, Reason
from fraud.transaction import Id, Instant


class ModelUsed(BaseModel):
    """The model whose score and thresholds decided. Null: none was asked, by the segment or because counters failed."""

    version: str | None


class StepTimes(BaseModel):
    """Milliseconds spent in each step before the commit."""

    state: float
    model: float
    rules: float


class Decision(BaseModel):
    """The answer of POST /decisions."""

    transaction_id: Id
    outcome: Outcome
    score: float | None = Field(ge=0, le=1, description="Probability of fraud; null where no model was asked.")
    reasons: list[Reason] = Field(description="Internal: never shown to the payer.")
    suppressed: list[Reason] = Field(description="What would have been a reason, silenced by an allow entry.")
    advice: Advice = Field(description="The only field meant for the payer.")
    segment: str
    model: ModelUsed
    degraded: list[str] = Field(
        description="What was missing: `state` when counters could not be had in time and the outage policy decided,"
        " `profile` when the windows of 7 and 30 days are behind, `model` when the embedded one stood in for the"
        " endpoint, `rule:<id>` for a rule or segment that failed."
    )
    recounted: bool = Field(
        description="An earlier or concurrent try had counted the attempt before this decision was made."
    )
    policy_version: str
    retryable: bool = Field(description="False: no new id will help.")
    decided_at: Instant
    steps_ms: StepTimes


class StatusChange(BaseModel):
    """One change of a decision's status."""

    at: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    outcome: Outcome
    by: str


class DecisionView(BaseModel):
    """The answer of GET /decisions/{transaction_id}: the decision as it was given, and its status now."""

    decision: Decision
    status: Literal["final", "pending"]
    outcome_now: Outcome
    history: list[StatusChange]


def view(stored: StoredDecision) -> bytes:
    """Return the answer of GET: the stored bytes unchanged inside, status and history around them."""
    decision = json.loads(stored.answer)
    outcome = Outcome(decision["outcome"])
    around = {
        "status": "pending" if outcome in PENDING else "final",
        "outcome_now": outcome,
        "history": [{"at": decision["decided_at"], "outcome": outcome, "by": "decision"}],
    }
    return b'{"decision":' + stored.answer + b"," + json.dumps(around, separators=(",", ":")).encode()[1:]
