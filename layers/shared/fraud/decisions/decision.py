"""The response to POST /decisions.

The stored body is the response, byte for byte, for as long as the decision is kept. So everything that shaped the
decision (versions, degradation, step times) is in it. Only `advice` is meant for the payer: reasons would teach a
fraudster.
"""

from pydantic import BaseModel, Field

from fraud.outcome import Advice, Outcome, Reason
from fraud.transaction import Id, Instant


class ModelUsed(BaseModel):
    """The model whose score and thresholds decided. Null: the segment asks no model, or the counters failed."""

    version: str | None = Field(examples=["embedded-3f2a9c01"])


class StepTimes(BaseModel):
    """Milliseconds spent in each step before the commit."""

    state: float
    model: float
    rules: float


class Decision(BaseModel):
    """The response to POST /decisions."""

    transaction_id: Id
    outcome: Outcome
    score: float | None = Field(ge=0, le=1, description="Probability of fraud; null where no model was asked.")
    reasons: list[Reason] = Field(description="Internal: never shown to the payer.")
    suppressed: list[Reason] = Field(description="Reasons that an allow entry silenced: they did not decide.")
    advice: Advice = Field(description="The only field meant for the payer.")
    segment: str = Field(description="The policy's name for payments of this kind.", examples=["standard"])
    model: ModelUsed
    degraded: list[str] = Field(
        description="The parts that were missing: `state` when counters could not be had in time and the outage policy"
        " decided, `counter:<kind>` for a counter that does not have this payment yet, `profile` when the windows of 7"
        " and 30 days are behind, `slots` when distinct counts are distorted because the id key was replaced, `model`"
        " when the embedded one stood in for the endpoint, `rule:<id>` for a rule or segment that failed."
    )
    estimated: list[str] = Field(
        description="Kinds of counters that are unbiased estimates: an item of theirs is so busy that it counts a"
        " sample of its payments. A payer, instrument or pair is listed when it has more attempts than are counted."
    )
    recounted: bool = Field(
        description="An earlier or concurrent try had counted the attempt before this decision was made."
    )
    policy_version: str = Field(description="Name and hash of the policy.", examples=["packaged-1-5d41402a"])
    retryable: bool = Field(description="False: another attempt under a new id will not help.")
    decided_at: Instant
    steps_ms: StepTimes
    hold_out: float | None = Field(
        None,
        gt=0,
        le=1,
        exclude_if=lambda share: share is None,
        description="Only where the stack lets a random share of small declines go through, to learn their truth: the"
        " chance of a payment like this one. Its outcome is approve if it was drawn, and decline if not.",
    )
