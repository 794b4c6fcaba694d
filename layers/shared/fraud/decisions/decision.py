"""The decision: what is answered, stored and shown, and how hits and score become one outcome.

The stored body is the answer, byte for byte, for as long as the decision is kept; so everything that shaped it
(versions, degradation, step times) is in it. Only `advice` is meant for the payer: reasons would teach a fraudster.
"""

import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field

from fraud.counters import windows
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
    """The model whose score and thresholds decided; null where none was asked: by the segment, or for want of state."""

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
    def of(cls, contents: "Contents", decided_at: str) -> Self:
        """From what a decision's row holds packed, and its time as the row spells it."""
        transaction, answer = json.loads(contents.transaction), json.loads(contents.answer)
        copied = {name: (transaction | answer).get(name) for name in cls.model_fields}
        identity = hashlib.sha256(f"{transaction['transaction_id']} {decided_at}".encode()).hexdigest()[:32]
        return cls.model_validate(
            copied
            | {
                "version": "1",
                "event_id": identity,
                "codes": [reason["code"] for reason in answer["reasons"]],
                "model_version": answer["model"]["version"],
            }
        )


class StatusChange(BaseModel):
    """One step in the life of a decision."""

    at: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    outcome: Outcome
    by: str


class DecisionView(BaseModel):
    """The answer of GET /decisions/{transaction_id}: the decision as it was given, and what has become of it."""

    decision: Decision
    status: Literal["final", "pending"]
    outcome_now: Outcome
    history: list[StatusChange]


class DecisionRecord(NamedTuple):
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


PACKED = "z1"
"""Attribute of a decision's row that holds its `Contents`, named with the version of their dictionary."""

_DICTIONARY = (
    b'.000000,"","payer_name":"","payee_name":"","ip":"","metadata":{"":"","country":"","campaign_id":"","attempt_of":"'
    b'"reasons":[{"code":"","text":"","source":"","source":"model","contribution":null},"contribution":1.'
    b'"outcome":"challenge","outcome":"review","outcome":"decline","advice":"verify_identity","advice":"contact_support"'
    b',"retryable":true,"recounted":true,"degraded":["state"],"degraded":["profile"],"degraded":["model"],"score":null,'
    b'"suppressed":[{"code":"'
    b'"type":"cash_out","type":"top_up","type":"merchant","instrument_id":"'
    b'{"amount":1","channel":"web","channel":"app","currency":"JPY","device_id":"","occurred_at":"2026-","payee_id":"",'
    b'"payer_id":"","transaction_id":"","type":"p2p"}\n'
    b"[1.0,1.0,1.0,1.0,2592000,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,2592000]\n"
    b'{"transaction_id":"","outcome":"approve","score":0.00,"reasons":[],"suppressed":[],"advice":"none","segment":'
    b'"standard","model":{"version":"embedded-"},"degraded":[],"recounted":false,"policy_version":"packaged-1-",'
    b'"retryable":false,"decided_at":"2026-","steps_ms":{"state":4.1,"model":0.1,"rules":0.5}}'
)
"""What nearly every row would say again, the most usual last. Never changed, or rows that are kept become unreadable: a
better one takes another name beside this one.
"""


class Contents(NamedTuple):
    """What a decision's row holds packed, each as its exact bytes.

    transaction  canonical JSON
    counters     JSON list in the order of windows.NAMES
    answer       what the caller got, whatever it is
    """

    transaction: bytes
    counters: bytes
    answer: bytes

    @classmethod
    def of(cls, record: DecisionRecord) -> Self:
        """What is to be stored of a record."""
        counters = json.dumps([record.counters[name] for name in windows.NAMES], separators=(",", ":"))
        return cls(record.transaction.canonical, counters.encode(), record.answer)

    def packed(self) -> bytes:
        """Raw deflate with a dictionary: a row of a usual payment takes one write unit instead of two."""
        deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS, zdict=_DICTIONARY)
        return deflate.compress(b"\n".join(self)) + deflate.flush()

    @classmethod
    def unpacked(cls, packed: bytes) -> Self:
        """The same bytes again: neither the transaction nor the counters contain a line feed."""
        inflate = zlib.decompressobj(wbits=-zlib.MAX_WBITS, zdict=_DICTIONARY)
        return cls._make((inflate.decompress(packed) + inflate.flush()).split(b"\n", 2))


class StoredDecision(NamedTuple):
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


def view(stored: StoredDecision) -> bytes:
    """The answer of GET: the stored bytes unchanged inside, status and history around them."""
    decision = json.loads(stored.answer)
    outcome = Outcome(decision["outcome"])
    around = {
        "status": "pending" if outcome in PENDING else "final",
        "outcome_now": outcome,
        "history": [{"at": decision["decided_at"], "outcome": outcome, "by": "decision"}],
    }
    return b'{"decision":' + stored.answer + b"," + json.dumps(around, separators=(",", ":")).encode()[1:]
