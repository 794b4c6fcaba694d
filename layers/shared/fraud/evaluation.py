"""The story of one payment: read state, segment, features, score, rules, decision, commit.

Pure, because everything that touches a network or a clock is an argument; the Protocols below are what it asks of
them. Three sequential network steps at most: state (count and read), model, commit.
"""

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from time import perf_counter
from typing import NamedTuple, Protocol, Self

from fraud import features, rules, windows
from fraud.counters import State
from fraud.decision import (
    ADVICE,
    Decision,
    Hit,
    ModelUsed,
    Outcome,
    Reason,
    Record,
    Steps,
    Stored,
    Thresholds,
    by_score,
    retryable,
    worst,
)
from fraud.errors import ConflictingBodyError, Fault, InvalidRequestError
from fraud.rules import RuleBook
from fraud.transaction import MAX_AGE, Transaction

REASONS_OF_THE_MODEL = 4
"""How many reason codes the model may give: an analyst reads the strongest, not thirty."""


class Sight(NamedTuple):
    """What the state step brings: the counters' state, and the decision if this transaction id has one."""

    state: State
    stored: Stored | None


class Store(Protocol):
    """Counts attempts, keeps decisions."""

    def count(self, transaction: Transaction) -> Sight:
        """Count the attempt once and read all that the decision needs, in one round trip."""

    def find(self, transaction_id: str) -> Stored | None:
        """The decision under this id, read consistently; nothing is counted."""

    def find_all(self, transaction_ids: AbstractSet[str]) -> dict[str, Stored]:
        """The decisions under these ids, at most 100; an id without one is left out."""

    def commit(self, record: Record) -> Stored | None:
        """Store the decision unless the id has one. Returns None, or the decision that was there first."""


class Scoring(NamedTuple):
    """What one model says of some vectors, in their order.

    scores         probability of fraud, in [0, 1]
    contributions  features that raised the score, in log odds, largest first; empty below the lowest threshold, because
                   exact ones cost more than the score
    degraded       another model was to be asked, and this one stood in
    """

    version: str
    thresholds: Thresholds
    scores: Sequence[float]
    contributions: Sequence[Sequence[tuple[str, float]]]
    degraded: bool = False


class Scorer(Protocol):
    """A model: probability of fraud, and why."""

    def score(self, vectors: Sequence[features.Vector], until: float | None = None) -> Scoring:
        """Score one vector or more with one call, by one model, until a reading of `time.monotonic`. Never raises."""


class Evaluation(NamedTuple):
    """The answer's bytes, and the decision behind them; None when an earlier answer is repeated."""

    answer: bytes
    decision: Decision | None

    @classmethod
    def repeated(cls, transaction: Transaction, stored: Stored) -> Self:
        """The stored answer again. Raises ConflictingBodyError when it answered another body."""
        if stored.identity != transaction.identity:
            raise ConflictingBodyError
        return cls(stored.answer, None)


class Evaluator:
    """Decides payments. One instance serves every request of its process."""

    def __init__(self, store: Store, scorer: Scorer, rule_book: RuleBook, clock: Callable[[], datetime]) -> None:
        self.store = store
        self.scorer = scorer
        self.rule_book = rule_book
        self.clock = clock

    def evaluate(self, transaction: Transaction) -> Evaluation:
        """Decide one payment, or repeat its decision.

        Raises ConflictingBodyError when another body is decided under its id, InvalidRequestError when it is too old.
        """
        now, started = self.clock(), perf_counter()
        if transaction.occurred_at < now - MAX_AGE:
            return _answer_late(transaction, self.store.find(transaction.transaction_id))
        state, stored = self.store.count(transaction)
        if stored is not None:
            return Evaluation.repeated(transaction, stored)
        counted = perf_counter()

        values = windows.measure(transaction, state)
        vector = features.vector(transaction, values)
        ruling = self.rule_book.judge(rules.inputs(transaction, values, vector, state))
        judged = perf_counter()
        scoring = self.scorer.score([vector]) if ruling.segment.model else None
        opinions = ruling.hits if scoring is None else (*ruling.hits, *self._opinion(scoring))
        scored = perf_counter()

        silenced = rules.silenced(transaction, state)
        hits = [hit for hit in opinions if not hit.silenced_by(silenced)]
        outcome = worst([hit.outcome for hit in hits])
        decision = Decision(
            transaction_id=transaction.transaction_id,
            outcome=outcome,
            score=scoring and scoring.scores[0],
            reasons=_reasons(hits),
            suppressed=_reasons([hit for hit in opinions if hit.silenced_by(silenced)]),
            advice=ADVICE[outcome],
            segment=ruling.segment.id,
            model=ModelUsed(version=scoring and scoring.version),
            degraded=[
                *(["profile"] if state.stale else []),
                *(["model"] if scoring and scoring.degraded else []),
                *(f"rule:{name}" for name in ruling.failed),
            ],
            recounted=state.recounted,
            policy_version=self.rule_book.version,
            retryable=retryable(outcome, hits),
            decided_at=now,
            steps_ms=Steps(state=_ms(started, counted), model=_ms(judged, scored), rules=_ms(counted, judged)),
        )
        answer = decision.model_dump_json().encode()
        winner = self.store.commit(
            Record(transaction, answer, outcome, now, values, features.pack(vector), features.fingerprint())
        )
        return Evaluation(answer, decision) if winner is None else Evaluation.repeated(transaction, winner)

    def _opinion(self, scoring: Scoring) -> tuple[Hit, ...]:
        """The model as one more hit, by the thresholds that came with its score."""
        outcome = by_score(scoring.scores[0], scoring.thresholds)
        return () if outcome is Outcome.APPROVE else (self.rule_book.explain(outcome, scoring.contributions[0]),)


def _reasons(hits: Sequence[Hit]) -> list[Reason]:
    """Reasons of the most severe opinions first; the model's are its strongest few."""
    ordered = sorted(hits, key=lambda hit: -hit.outcome.severity())
    return [reason for hit in ordered for reason in hit.reasons[:REASONS_OF_THE_MODEL]]


def _answer_late(transaction: Transaction, stored: Stored | None) -> Evaluation:
    """Too old to be counted: a stored decision is still the answer, a new one would rest on closed counters."""
    if stored is None:
        raise InvalidRequestError((Fault("occurred_at", "occurred_at_too_old", "must be at most 12 hours back"),))
    return Evaluation.repeated(transaction, stored)


def _ms(start: float, end: float) -> float:
    return round((end - start) * 1000, 3)
