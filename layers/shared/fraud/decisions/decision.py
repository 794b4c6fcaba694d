"""The decision as it is answered and shown: POST /decisions, GET /decisions/{id} and what happened since.

The stored body is the answer, byte for byte, for as long as the decision is kept; so everything that shaped it
(versions, degradation, step times) is in it. Only `advice` is meant for the payer: reasons would teach a fraudster.
"""

import hashlib
import json
import zlib
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import BaseModel, Field

from fraud.counters import windows
from fraud.outcome import PENDING, Advice, Outcome, Reason
from fraud.transaction import Id, Instant, Transaction


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
