"""The decision: what is answered, stored and shown, and how hits and score become one outcome.

The stored body is the answer, byte for byte, for as long as the decision is kept; so everything that shaped it
(versions, degradation, step times) is in it. Only `advice` is meant for the payer: reasons would teach a fraudster.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field

from fraud.transaction import Id, Instant, Transaction


class Outcome(StrEnum):
    """What the app should do, from mildest to most severe; the most severe of all opinions wins.

    >>> max(Outcome.DECLINE, Outcome.APPROVE, key=Outcome.severity)
    <Outcome.DECLINE: 'decline'>
    """

    APPROVE = "approve"
    CHALLENGE = "challenge"
    REVIEW = "review"
    DECLINE = "decline"

    def severity(self) -> int:
        """Rank from 0, the mildest."""
        return list(Outcome).index(self)


Advice = Literal["none", "verify_identity", "contact_support"]
ADVICE: dict[Outcome, Advice] = {
    Outcome.APPROVE: "none",
    Outcome.CHALLENGE: "verify_identity",
    Outcome.REVIEW: "none",
    Outcome.DECLINE: "contact_support",
}
"""What the payer may be told. A payment under review waits for us, not for the payer."""

PENDING: frozenset[Outcome] = frozenset({Outcome.CHALLENGE, Outcome.REVIEW})
"""Outcomes that somebody has still to settle."""

Thresholds = Mapping[str, float]


class Hit(NamedTuple):
    """One opinion: a rule that matched, or the model above a threshold.

    `retryable`: a later attempt may fare better. `protected`: no allow entry silences it.
    """

    outcome: Outcome
    source: str
    reasons: tuple["Reason", ...]
    retryable: bool
    protected: bool = False

    def silenced_by(self, codes: AbstractSet[str]) -> bool:
        """Whether an allow entry that names these codes (`model` for the model) takes this opinion out."""
        names = {"model"} if self.source == "model" else {reason.code for reason in self.reasons}
        return not self.protected and bool(names & codes)


class Reason(BaseModel):
    """Why, for analysts. `source` is `model` or the rule with its version; `contribution` is the model's, in log
    odds.
    """

    model_config = ConfigDict(frozen=True)

    code: str
    text: str
    source: str
    contribution: float | None = None


class ModelUsed(BaseModel):
    """The model whose score and thresholds decided; null where none was asked."""

    version: str | None


class Steps(BaseModel):
    """Milliseconds spent in each step before the commit."""

    state: float
    model: float
    rules: float


class Decision(BaseModel):
    """The answer of POST /decisions."""

    transaction_id: Id
    outcome: Outcome
    score: float | None = Field(ge=0, le=1, description="Probability of fraud; null where the segment skips the model.")
    reasons: list[Reason] = Field(description="Internal: never shown to the payer.")
    suppressed: list[Reason] = Field(description="What would have been a reason, silenced by an allow entry.")
    advice: Advice = Field(description="The only field meant for the payer.")
    segment: str
    model: ModelUsed
    degraded: list[str] = Field(
        description="What was missing: `profile` when counters are behind, `model` when the embedded one stood in for"
        " the endpoint, `rule:<id>` for a rule or segment that failed."
    )
    recounted: bool = Field(
        description="An earlier or concurrent try had counted the attempt before this decision was made."
    )
    policy_version: str
    retryable: bool = Field(description="False: no new id will help.")
    decided_at: Instant
    steps_ms: Steps


class DecisionMade(BaseModel):
    """The event that a decision leaves on the bus. `event_id` is the same however often it is published."""

    version: Literal["1"] = "1"
    event_id: str
    transaction_id: Id
    type: str
    payer_id: Id
    payee_id: Id | None
    amount: int
    currency: str
    occurred_at: str
    decided_at: str
    outcome: Outcome
    score: float | None
    codes: list[str]
    segment: str
    degraded: list[str]
    recounted: bool
    model_version: str | None
    policy_version: str

    @classmethod
    def of(cls, row: Mapping[str, str]) -> Self:
        """From the string attributes of a decision's row."""
        transaction, answer = json.loads(row["transaction"]), json.loads(row["answer"])
        copied = {name: (transaction | answer).get(name) for name in cls.model_fields}
        identity = hashlib.sha256(f"{row['pk']} {row['decided_at']}".encode()).hexdigest()[:32]
        return cls.model_validate(
            copied
            | {
                "version": "1",
                "event_id": identity,
                "codes": [reason["code"] for reason in answer["reasons"]],
                "model_version": answer["model"]["version"],
            }
        )


class Turn(BaseModel):
    """One step in the life of a decision."""

    at: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    outcome: Outcome
    by: str


class DecisionView(BaseModel):
    """The answer of GET /decisions/{transaction_id}: the decision as it was given, and what has become of it."""

    decision: Decision
    status: Literal["final", "pending"]
    outcome_now: Outcome
    history: list[Turn]


class Record(NamedTuple):
    """What one commit stores: the answer and all that is needed to replay it."""

    transaction: Transaction
    answer: bytes
    outcome: Outcome
    decided_at: datetime
    counters: Mapping[str, float]
    features: bytes
    fingerprint: str
    uncounted: tuple[str, ...] = ()
    """Kinds of counters whose update nobody has acknowledged: to be sent again."""


class Stored(NamedTuple):
    """A decision as the table holds it: whose body it answered, and the answer's bytes."""

    identity: bytes
    answer: bytes


def by_score(score: float, thresholds: Thresholds) -> Outcome:
    """The most severe outcome whose threshold the score reaches.

    >>> by_score(0.4, {"challenge": 0.1, "review": 0.3, "decline": 0.8})
    <Outcome.REVIEW: 'review'>
    """
    reached = [Outcome(name) for name, threshold in thresholds.items() if score >= threshold]
    return worst(reached)


def worst(outcomes: Sequence[Outcome]) -> Outcome:
    """The most severe outcome; approve where there is none."""
    return max(outcomes, key=Outcome.severity, default=Outcome.APPROVE)


def retryable(outcome: Outcome, hits: Sequence[Hit]) -> bool:
    """A new attempt may fare better only if every opinion as severe as the outcome says so of itself."""
    return outcome is not Outcome.APPROVE and all(hit.retryable for hit in hits if hit.outcome is outcome)


def view(stored: Stored) -> bytes:
    """The answer of GET: the stored bytes unchanged inside, status and history around them."""
    decision = json.loads(stored.answer)
    outcome = Outcome(decision["outcome"])
    around = {
        "status": "pending" if outcome in PENDING else "final",
        "outcome_now": outcome,
        "history": [{"at": decision["decided_at"], "outcome": outcome, "by": "decision"}],
    }
    return b'{"decision":' + stored.answer + b"," + json.dumps(around, separators=(",", ":")).encode()[1:]
