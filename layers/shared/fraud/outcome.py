"""The outcome of a payment: the four outcomes, the hits that ask for them, and the rule that the most severe one wins.

Rules, model and decision all use these terms. Pure, and below all of them.
"""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from enum import StrEnum
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field


class Outcome(StrEnum):
    """The action that the app should take, from mildest to most severe. The most severe of all hits wins.

    >>> max(Outcome.DECLINE, Outcome.APPROVE, key=Outcome.severity)
    <Outcome.DECLINE: 'decline'>
    """

    APPROVE = "approve"
    CHALLENGE = "challenge"
    REVIEW = "review"
    DECLINE = "decline"

    def severity(self) -> int:
        """Return the rank of the outcome: 0 for the mildest, 3 for the most severe."""
        return _RANKS[self]


_RANKS: dict[Outcome, int] = {outcome: rank for rank, outcome in enumerate(Outcome)}

Advice = Literal["none", "verify_identity", "contact_support"]
ADVICE: dict[Outcome, Advice] = {
    Outcome.APPROVE: "none",
    Outcome.CHALLENGE: "verify_identity",
    Outcome.REVIEW: "none",
    Outcome.DECLINE: "contact_support",
}
"""The advice that the payer may see. A payment under review waits for an analyst, not for the payer."""

PENDING: frozenset[Outcome] = frozenset({Outcome.CHALLENGE, Outcome.REVIEW})
"""Outcomes that are not final: the payer has to pass a challenge, or an analyst has to review the payment."""

Thresholds = Mapping[str, float]
"""The least score, a probability of fraud in [0, 1], by outcome name: challenge, review, decline."""


NOTHING: Mapping[str, Sequence[str]] = {}


class Hit(NamedTuple):
    """A rule that holds, or the model above a threshold: the outcome that it asks for, with its reasons.

    source     `rule`, `model` or `outage`
    reasons    one for each reason code, still without facts
    retryable  a later attempt may fare better
    protected  no allow entry silences it
    about      names of what each reason rests on, by its code: `fraud.rules.facts` says them in words
    """

    outcome: Outcome
    source: str
    reasons: tuple["Reason", ...]
    retryable: bool
    protected: bool = False
    about: Mapping[str, Sequence[str]] = NOTHING

    def silenced_by(self, codes: AbstractSet[str]) -> bool:
        """Tell whether an allow entry that names these codes (`model` for the model) silences this hit.

        >>> hit = Hit(Outcome.REVIEW, "model", (), retryable=False)
        >>> hit.silenced_by({"model"}), hit._replace(protected=True).silenced_by({"model"})
        (True, False)
        """
        names = {"model"} if self.source == "model" else {reason.code for reason in self.reasons}
        return not self.protected and bool(names & codes)


class Fact(BaseModel):
    """One value that a reason rests on, for a machine and in words. It names no person and has no id."""

    model_config = ConfigDict(frozen=True)

    name: str = Field(
        description="What the value is, as in expressions of the policy: `features.<name>`, `counters.<name>`,"
        " `transaction.<field>`, `standing.<name>`. Or a part that was missing, as in `degraded`, or `flooded:<kind>`.",
        examples=["features.amount_to_payer_normal_30d"],
    )
    value: float | None = Field(
        description="The value by which the payment was judged. Amounts are minor units, ages and idle times seconds;"
        " true is 1. Null where it is missing or no number.",
        examples=[14.2],
    )
    text: str = Field(
        description="The value in words; they may change.",
        examples=["amount 120,000 JPY, 14 x this payer's usual of 30 days (8,450 JPY)"],
    )


class Reason(BaseModel):
    """A reason of an outcome, for analysts."""

    model_config = ConfigDict(frozen=True)

    code: str = Field(description="A code of the policy.", examples=["VELOCITY"])
    text: str = Field(description="The policy's words for the code; they may change.")
    source: str = Field(
        description="`model`, the id and version of a rule (`<id>@<version>`), or `outage:<policy>`.",
        examples=["velocity@2"],
    )
    contribution: float | None = Field(
        None,
        description="What the features of the code together added to the score, in log odds: the sum of their exact"
        " contributions; null unless the source is the model.",
        examples=[0.9767],
    )
    facts: list[Fact] = Field(
        default_factory=list,
        description="What the reason rests on, in numbers of this payment; of the model's features those that raised"
        " the score most.",
    )


def by_score(score: float, thresholds: Thresholds) -> Outcome:
    """Return the most severe outcome whose threshold the score reaches; approve when it reaches none.

    >>> by_score(0.4, {"challenge": 0.1, "review": 0.3, "decline": 0.8})
    <Outcome.REVIEW: 'review'>
    """
    reached = [Outcome(name) for name, threshold in thresholds.items() if score >= threshold]
    return worst(reached)


def worst(outcomes: Sequence[Outcome]) -> Outcome:
    """Return the most severe outcome; approve when there is none.

    >>> worst([Outcome.CHALLENGE, Outcome.REVIEW]), worst([])
    (<Outcome.REVIEW: 'review'>, <Outcome.APPROVE: 'approve'>)
    """
    return max(outcomes, key=Outcome.severity, default=Outcome.APPROVE)


def retryable(outcome: Outcome, hits: Sequence[Hit]) -> bool:
    """Tell whether a new attempt may fare better: every hit with this outcome must be retryable.

    >>> velocity = Hit(Outcome.DECLINE, "rule", (), retryable=True)
    >>> denied = velocity._replace(retryable=False)
    >>> retryable(Outcome.DECLINE, [velocity]), retryable(Outcome.DECLINE, [velocity, denied])
    (True, False)
    """
    return outcome is not Outcome.APPROVE and all(hit.retryable for hit in hits if hit.outcome is outcome)
