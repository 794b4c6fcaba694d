"""The story of a payment: read state, segment, features, score, rules, decision, commit.

Pure, because everything that touches a network or a clock is an argument; the Protocols below are what it asks of
them. Three sequential network steps at most: state (count and read), model, commit. `evaluate` is for a caller who
waits and always gets an answer; `evaluate_all` for a batch that may come again: it shares the steps, and looks up first
what is decided already.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from functools import partial
from typing import NamedTuple, Protocol, Self

from fraud.counters import windows
from fraud.counters.layout import Key, State
from fraud.decisions.decision import Decision, ModelUsed, StepTimes
from fraud.decisions.record import DecisionRecord, StoredDecision
from fraud.decisions.waves import Batch
from fraud.errors import (
    ConflictingBodyError,
    Fallback,
    Fault,
    FraudError,
    InvalidRequestError,
    ServiceError,
    UndecidedError,
)
from fraud.outcome import ADVICE, Hit, Outcome, Reason, by_score, retryable, worst
from fraud.rules import rule_book as rules
from fraud.rules.rule_book import PolicyResult, RuleBook
from fraud.rules.standing import silenced
from fraud.scoring import features
from fraud.scoring.score import Scoring
from fraud.transaction import MAX_AGE, Transaction

REASONS_OF_THE_MODEL = 4
"""How many reason codes the model may give: an analyst reads the strongest, not thirty."""

STATE_SHARE, MODEL_SHARE = 0.5, 0.75
"""By when, as shares of the time there is, the state and then the model must have come: the rest is the commit's."""


class StateRead(NamedTuple):
    """What the state step brings: the counters' state, and the decision if this transaction id has one.

    uncounted  items whose update nobody has acknowledged; it may have happened nevertheless
    read       whether profiles and decision could be read
    failure    the first error, if something is missing from the state
    large      items of its own that have grown too large
    """

    state: State
    stored: StoredDecision | None
    uncounted: tuple[Key, ...] = ()
    read: bool = True
    failure: ServiceError | None = None
    large: tuple[Key, ...] = ()


class Store(Protocol):
    """Counts attempts, keeps decisions. `until` is a reading of `time.monotonic` at which it gives up."""

    def count(self, transactions: Sequence[Transaction], until: float | None = None) -> list[StateRead]:
        """Count each attempt once and read all that the decisions need, in one round trip. No two may share an item or
        an id. Never raises: what failed is in the Sight.
        """

    def find(self, transaction_id: str, until: float | None = None) -> StoredDecision | None:
        """The decision under this id, read consistently; nothing is counted. Raises ServiceError."""

    def find_all(self, transaction_ids: AbstractSet[str]) -> dict[str, StoredDecision]:
        """The decisions under these ids, at most 100; an id without one is left out. Raises ServiceError."""

    def commit(
        self, records: Sequence[DecisionRecord], until: float | None = None
    ) -> list[StoredDecision | ServiceError | None]:
        """Store each decision unless its id has one. Of each None, the decision that was there first, or the error."""


class Scorer(Protocol):
    """A model: probability of fraud, and why."""

    def score(self, vectors: Sequence[features.Vector], until: float | None = None) -> Scoring:
        """Score one vector or more with one call, by one model, until a reading of `time.monotonic`. Never raises."""


class Evaluation(NamedTuple):
    """The answer's bytes, and the decision behind them; None when an earlier answer is repeated.

    cause  the service's word for why the decision had to do without its counters
    large  kinds of its counters whose item has grown too large
    """

    answer: bytes
    decision: Decision | None
    cause: str | None = None
    large: tuple[str, ...] = ()

    @classmethod
    def repeated(cls, transaction: Transaction, stored: StoredDecision, uncounted: ServiceError | None = None) -> Self:
        """The stored answer again. Raises ConflictingBodyError when it answered another body, or what kept this attempt
        from being counted: no row tells of it, so that nobody but its caller can send it again.
        """
        if stored.identity != transaction.identity:
            raise uncounted or ConflictingBodyError
        return cls(stored.answer, None)


class Assessed(NamedTuple):
    """A payment between its state and its decision."""

    transaction: Transaction
    state_read: StateRead
    values: dict[str, float]
    vector: features.Vector
    policy_result: PolicyResult

    @property
    def asks_model(self) -> bool:
        """Whether the model has a say: its segment wants it, and there are counters to look at."""
        return self.policy_result.segment.model and self.state_read.failure is None


class ModelResult(NamedTuple):
    """The model's part in one decision: its score, and a hit where it objects."""

    score: float
    hits: tuple[Hit, ...]
    version: str
    degraded: bool


class UncommittedDecision(NamedTuple):
    """A decision before its commit: what is to be stored of it, why it had to do without its counters (if it had), and
    the kinds of those whose item has grown too large.
    """

    decision: Decision
    record: DecisionRecord
    failure: ServiceError | None
    large: tuple[str, ...]


class Evaluator:
    """Decides payments. One instance serves every request of its process. `deadline_s` is what `evaluate` may take."""

    def __init__(  # noqa: PLR0913, PLR0917 - all that deciding takes
        self,
        store: Store,
        scorer: Scorer,
        rule_book: RuleBook,
        clock: Callable[[], datetime],
        deadline_s: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.store = store
        self.scorer = scorer
        self.rule_book = rule_book
        self.clock = clock
        self.deadline_s = deadline_s
        self.monotonic = monotonic

    def evaluate(self, transaction: Transaction) -> Evaluation:
        """Decide one payment, or repeat its decision, before the deadline.

        A state that is late or incomplete is answered by the outage policy, `degraded`, and the record says which
        updates nobody has acknowledged. Raises ConflictingBodyError when another body is decided under its id,
        InvalidRequestError when it is too old, UndecidedError when no decision could be stored: the same request may
        be sent again.
        """
        started, now = self.monotonic(), self.clock()
        try:
            if transaction.occurred_at < now - MAX_AGE:
                return _recalled(transaction, self.store.find(transaction.transaction_id, started + self.deadline_s))
            (state_read,) = self.store.count([transaction], started + self.deadline_s * STATE_SHARE)
            if state_read.stored is not None:
                return Evaluation.repeated(
                    transaction, state_read.stored, state_read.failure if state_read.uncounted else None
                )
            counted = self.monotonic()
            assessed = [self._assess(transaction, state_read)]
            (decided,) = self._decide(assessed, now, (started, counted), started + self.deadline_s * MODEL_SHARE)
            (kept,) = self.store.commit([decided.record], started + self.deadline_s)
            return _committed(decided, kept)
        except ServiceError as error:
            raise UndecidedError(error.code, self.fallback(transaction)) from error

    def evaluate_all(self, payments: Sequence[Transaction | InvalidRequestError]) -> list[Evaluation | FraudError]:
        """Decide payments in their order, or repeat their decisions; of each the evaluation, or the error in its place.

        At most 100; what could not be parsed has its error already. Nothing is counted under an id that is decided
        already, and when that cannot be looked up, all fail. Payments that share nothing take each step together, and
        one call scores all. Of one that cannot be decided for want of a service, everything behind it that shares
        something with it fails alike: it would overtake.
        """
        try:
            known = self.store.find_all({each.transaction_id for each in payments if isinstance(each, Transaction)})
        except ServiceError as error:
            return [error] * len(payments)
        started, now = self.monotonic(), self.clock()
        batch = _begin_batch(payments, known, now - MAX_AGE)
        assessed: dict[int, Assessed] = {}
        for wave in batch.waves:
            free = batch.free(wave)
            for n, state_read in zip(free, self.store.count([batch.transactions[n] for n in free]), strict=True):
                if state_read.failure is not None:
                    batch.fail(n, state_read.failure)
                elif state_read.stored is not None:
                    batch.settle(n, partial(Evaluation.repeated, batch.transactions[n], state_read.stored))
                else:
                    assessed[n] = self._assess(batch.transactions[n], state_read)
        made = self._decide(list(assessed.values()), now, (started, self.monotonic()), None)
        decided = dict(zip(assessed, made, strict=True))
        for wave in batch.waves:
            free = batch.free(wave)
            for n, kept in zip(free, self.store.commit([decided[n].record for n in free]), strict=True):
                batch.settle(n, partial(_committed, decided[n], kept))
        return [batch.results[n] for n in range(len(payments))]

    def fallback(self, transaction: Transaction) -> Fallback:
        """What the caller may do while nothing can be stored: a pure function of payment and policy."""
        policy_result = self.rule_book.judge_blind(transaction, None)
        return Fallback(
            outcome=worst([hit.outcome for hit in policy_result.hits]), policy_version=self.rule_book.version
        )

    def _assess(self, transaction: Transaction, state_read: StateRead) -> Assessed:
        """Segment and rules: by the counters or, where those are incomplete, by the outage policy."""
        if state_read.failure is not None:
            values = dict(windows.ABSENT)
            vector = features.vector(transaction, values)
            policy_result = self.rule_book.judge_blind(transaction, state_read.state if state_read.read else None)
        else:
            values = windows.measure(transaction, state_read.state)
            vector = features.vector(transaction, values)
            policy_result = self.rule_book.judge(rules.inputs(transaction, values, vector, state_read.state))
        return Assessed(transaction, state_read, values, vector, policy_result)

    def _decide(
        self, assessed: Sequence[Assessed], now: datetime, state: tuple[float, float], until: float | None
    ) -> list[UncommittedDecision]:
        """Score together those of whom the model has a say, and decide. `state`: when that step began and ended."""
        asked = self.monotonic()
        vectors = [each.vector for each in assessed if each.asks_model]
        scoring = self.scorer.score(vectors, until) if vectors else None
        steps = StepTimes(state=_ms(*state), rules=_ms(state[1], asked), model=_ms(asked, self.monotonic()))
        places = iter(range(len(vectors)))
        opinions = [
            self._model_result(scoring, next(places)) if scoring and each.asks_model else None for each in assessed
        ]
        return [
            self._decided(each, model_result, now, steps) for each, model_result in zip(assessed, opinions, strict=True)
        ]

    def _model_result(self, scoring: Scoring, place: int) -> ModelResult:
        """What the model says of one payment, by the thresholds that came with its score."""
        outcome = by_score(scoring.scores[place], scoring.thresholds)
        said = outcome is not Outcome.APPROVE
        hits = (self.rule_book.explain(outcome, scoring.contributions[place]),) if said else ()
        return ModelResult(scoring.scores[place], hits, scoring.version, scoring.degraded)

    def _decided(
        self, assessed: Assessed, model_result: ModelResult | None, now: datetime, steps: StepTimes
    ) -> UncommittedDecision:
        transaction, state_read, values, vector, policy_result = assessed
        opinions = policy_result.hits if model_result is None else (*policy_result.hits, *model_result.hits)
        allowed = silenced(transaction, state_read.state)
        hits = [hit for hit in opinions if not hit.silenced_by(allowed)]
        outcome = worst([hit.outcome for hit in hits])
        missing = {
            "state": state_read.failure is not None,
            "profile": state_read.state.stale,
            "model": model_result is not None and model_result.degraded,
        }
        decision = Decision(
            transaction_id=transaction.transaction_id,
            outcome=outcome,
            score=model_result and model_result.score,
            reasons=_reasons(hits),
            suppressed=_reasons([hit for hit in opinions if hit.silenced_by(allowed)]),
            advice=ADVICE[outcome],
            segment=policy_result.segment.id,
            model=ModelUsed(version=model_result and model_result.version),
            degraded=[*(part for part, is_missing in missing.items() if is_missing)]
            + [f"rule:{name}" for name in policy_result.failed],
            recounted=state_read.state.recounted,
            policy_version=self.rule_book.version,
            retryable=retryable(outcome, hits),
            decided_at=now,
            steps_ms=steps,
        )
        record = DecisionRecord(
            transaction,
            decision.model_dump_json().encode(),
            outcome,
            now,
            values,
            features.pack(vector),
            features.fingerprint(),
            tuple(key.kind.name for key in state_read.uncounted),
        )
        return UncommittedDecision(
            decision, record, state_read.failure, tuple(key.kind.name for key in state_read.large)
        )


def _begin_batch(
    payments: Sequence[Transaction | InvalidRequestError], known: Mapping[str, StoredDecision], oldest: datetime
) -> Batch[Evaluation]:
    """The batch of those that are to be counted, with what comes of the others."""
    batch: Batch[Evaluation] = Batch()
    for n, payment in enumerate(payments):
        if isinstance(payment, InvalidRequestError):
            batch.results[n] = payment
        elif payment.transaction_id in known or payment.occurred_at < oldest:
            batch.settle(n, partial(_recalled, payment, known.get(payment.transaction_id)))
        else:
            batch.add(n, payment)
    return batch


def _recalled(transaction: Transaction, stored: StoredDecision | None) -> Evaluation:
    """One that is not to be counted: a stored decision is the answer however old, a new one would rest on closed
    counters. Raises InvalidRequestError when it has none, because it is too old then, and ConflictingBodyError.
    """
    if stored is None:
        raise InvalidRequestError((Fault("occurred_at", "occurred_at_too_old", "must be at most 12 hours back"),))
    return Evaluation.repeated(transaction, stored)


def _committed(decided: UncommittedDecision, kept: StoredDecision | ServiceError | None) -> Evaluation:
    """The decision, or the one that was there first. Raises what the commit failed of, and as `repeated` does."""
    if isinstance(kept, ServiceError):
        raise kept
    own = StoredDecision(decided.record.transaction.identity, decided.record.answer)
    if kept in (None, own):  # its own: the first answer to the commit was lost
        cause = None if decided.failure is None else decided.failure.code
        return Evaluation(own.answer, decided.decision, cause, decided.large)
    uncounted = decided.failure if decided.record.uncounted else None
    return Evaluation.repeated(decided.record.transaction, kept, uncounted)


def _reasons(hits: Sequence[Hit]) -> list[Reason]:
    """Reasons of the most severe opinions first; the model's are its strongest few."""
    ordered = sorted(hits, key=lambda hit: -hit.outcome.severity())
    return [reason for hit in ordered for reason in hit.reasons[:REASONS_OF_THE_MODEL]]


def _ms(start: float, end: float) -> float:
    return round((end - start) * 1000, 3)
