"""The story of a payment: read state, segment, features, score, rules, decision, commit.

This module is pure: the store, the scorer and the clock are arguments, and the Protocols below name the calls to them.
A payment takes at most three sequential network steps: state (count and read), model, commit.

`evaluate` serves a caller who waits, and always answers. `evaluate_all` serves a batch that may come again: its
payments share the steps, and it first looks up which of them are decided already.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from functools import partial
from typing import NamedTuple, Protocol, Self

from fraud.counters import windows
from fraud.decisions.decision import Decision, ModelUsed, StepTimes
from fraud.decisions.record import DecisionRecord, StateRead, StoredDecision
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
"""Most reason codes that the model may give: an analyst reads the strongest few, not thirty."""

STATE_SHARE, MODEL_SHARE = 0.5, 0.75
"""Shares of the deadline after which the state, then the model, must have answered. The rest is left to the commit."""


class Store(Protocol):
    """Counts attempts and keeps decisions. `until` is a reading of `time.monotonic` at which it gives up."""

    def count(self, transactions: Sequence[Transaction], until: float | None = None) -> list[StateRead]:
        """Count each attempt once and read all that its decision needs, in one round trip.

        No two transactions may share an item or an id. Never raises: each StateRead says what failed.
        """

    def find(self, transaction_id: str, until: float | None = None) -> StoredDecision | None:
        """Return the decision of this id, or None, by a consistent read; count nothing. Raises ServiceError."""

    def find_all(self, transaction_ids: AbstractSet[str]) -> dict[str, StoredDecision]:
        """Return the decisions of at most 100 ids; leave out an id without one. Raises ServiceError."""

    def commit(
        self, records: Sequence[DecisionRecord], until: float | None = None
    ) -> list[StoredDecision | ServiceError | None]:
        """Store each decision unless its id has one.

        Return for each None when it was stored, the decision that was there first, or the error.
        """


class Scorer(Protocol):
    """A model: the probability of fraud, and the features that raised it."""

    def score(self, vectors: Sequence[features.Vector], until: float | None = None) -> Scoring:
        """Score one or more vectors by one model with one call. Never raises.

        until  reading of `time.monotonic` by which the scores must be there
        """


class Evaluation(NamedTuple):
    """The bytes of an answer, and the decision behind them.

    decision  None when an earlier answer is repeated
    cause     the service's code, when the decision had to do without its counters
    large     kinds of counters whose item has grown too large
    """

    answer: bytes
    decision: Decision | None
    cause: str | None = None
    large: tuple[str, ...] = ()

    @classmethod
    def repeated(cls, transaction: Transaction, stored: StoredDecision, uncounted: ServiceError | None = None) -> Self:
        """Repeat the stored answer.

        Raises ConflictingBodyError when the stored decision is that of another body. When the attempt with this body
        could not be counted, raises the reason (`uncounted`) instead: no row tells of the attempt, so only its caller
        can send it again.
        """
        if stored.identity != transaction.identity:
            raise uncounted or ConflictingBodyError
        return cls(stored.answer, None)


class Assessed(NamedTuple):
    """A payment between its state and its decision: counters, features, segment and rule hits."""

    transaction: Transaction
    state_read: StateRead
    values: dict[str, float]
    vector: features.Vector
    policy_result: PolicyResult

    @property
    def asks_model(self) -> bool:
        """Whether the model is asked: the segment wants it, and the counters are complete."""
        return self.policy_result.segment.model and self.state_read.failure is None


class ModelResult(NamedTuple):
    """The model's part in one decision: its score, and a hit if the score reaches a threshold."""

    score: float
    hits: tuple[Hit, ...]
    version: str
    degraded: bool


class UncommittedDecision(NamedTuple):
    """A decision before its commit.

    record   all that the commit stores
    failure  the error for which the decision had to do without its counters; None when it had them
    large    kinds of counters whose item has grown too large
    """

    decision: Decision
    record: DecisionRecord
    failure: ServiceError | None
    large: tuple[str, ...]


class Evaluator:
    """Decides payments. One instance serves every request of its process. `deadline_s`: seconds for `evaluate`."""

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

        When the state is late or incomplete, the outage policy decides, the decision says `degraded`, and the record
        names the updates that were not acknowledged.

        Raises ConflictingBodyError when another body is decided under this id, InvalidRequestError when the payment is
        too old, and UndecidedError when no decision could be stored: the same request may be sent again.
        """
        started, now = self.monotonic(), self.clock()
        try:
            if transaction.occurred_at < now - MAX_AGE:
                return _recall(transaction, self.store.find(transaction.transaction_id, started + self.deadline_s))
            (state_read,) = self.store.count([transaction], started + self.deadline_s * STATE_SHARE)
            if state_read.stored is not None:
                return Evaluation.repeated(
                    transaction, state_read.stored, state_read.failure if state_read.uncounted else None
                )
            counted = self.monotonic()
            assessed = [self._assess(transaction, state_read)]
            (uncommitted,) = self._decide(assessed, now, (started, counted), started + self.deadline_s * MODEL_SHARE)
            (kept,) = self.store.commit([uncommitted.record], started + self.deadline_s)
            return _finish(uncommitted, kept)
        except ServiceError as error:
            raise UndecidedError(error.code, self.fallback(transaction)) from error

    def evaluate_all(self, payments: Sequence[Transaction | InvalidRequestError]) -> list[Evaluation | FraudError]:
        """Decide at most 100 payments in their order, or repeat their decisions.

        Return for each the evaluation, or the error in its place; a payment that could not be parsed is its error
        already. Nothing is counted under an id that is decided already; when the decisions cannot be looked up, all
        payments fail. Payments that share nothing take each step together, and one call scores all of them. When a
        service fails a payment, every later payment that shares something with it fails too. Otherwise the later one
        would overtake the failed one.
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
        uncommitted = dict(zip(assessed, made, strict=True))
        for wave in batch.waves:
            free = batch.free(wave)
            for n, kept in zip(free, self.store.commit([uncommitted[n].record for n in free]), strict=True):
                batch.settle(n, partial(_finish, uncommitted[n], kept))
        return [batch.results[n] for n in range(len(payments))]

    def fallback(self, transaction: Transaction) -> Fallback:
        """Return the outcome to follow while no decision can be stored: a pure function of payment and policy."""
        policy_result = self.rule_book.judge_blind(transaction, None)
        return Fallback(
            outcome=worst([hit.outcome for hit in policy_result.hits]), policy_version=self.rule_book.version
        )

    def _assess(self, transaction: Transaction, state_read: StateRead) -> Assessed:
        """Find segment and rule hits by the counters or, when those are incomplete, by the outage policy."""
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
        """Score the payments that ask the model with one call, and decide all payments.

        state  readings of `monotonic` at which the state step began and ended
        """
        asked = self.monotonic()
        vectors = [each.vector for each in assessed if each.asks_model]
        scoring = self.scorer.score(vectors, until) if vectors else None
        steps = StepTimes(state=_ms(*state), rules=_ms(state[1], asked), model=_ms(asked, self.monotonic()))
        places = iter(range(len(vectors)))
        model_results = [
            self._model_result(scoring, next(places)) if scoring and each.asks_model else None for each in assessed
        ]
        return [
            self._combine(each, model_result, now, steps)
            for each, model_result in zip(assessed, model_results, strict=True)
        ]

    def _model_result(self, scoring: Scoring, place: int) -> ModelResult:
        """Return the model's result for the payment at `place`, by the thresholds that came with the scores."""
        outcome = by_score(scoring.scores[place], scoring.thresholds)
        is_hit = outcome is not Outcome.APPROVE
        hits = (self.rule_book.explain(outcome, scoring.contributions[place]),) if is_hit else ()
        return ModelResult(scoring.scores[place], hits, scoring.version, scoring.degraded)

    def _combine(
        self, assessed: Assessed, model_result: ModelResult | None, now: datetime, steps: StepTimes
    ) -> UncommittedDecision:
        """Combine the hits of rules and model into one decision and its record."""
        transaction, state_read, values, vector, policy_result = assessed
        every_hit = policy_result.hits if model_result is None else (*policy_result.hits, *model_result.hits)
        allowed = silenced(transaction, state_read.state)
        hits = [hit for hit in every_hit if not hit.silenced_by(allowed)]
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
            suppressed=_reasons([hit for hit in every_hit if hit.silenced_by(allowed)]),
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
    """Deal the payments that are to be counted into waves, and settle the others at once."""
    batch: Batch[Evaluation] = Batch()
    for n, payment in enumerate(payments):
        if isinstance(payment, InvalidRequestError):
            batch.results[n] = payment
        elif payment.transaction_id in known or payment.occurred_at < oldest:
            batch.settle(n, partial(_recall, payment, known.get(payment.transaction_id)))
        else:
            batch.add(n, payment)
    return batch


def _recall(transaction: Transaction, stored: StoredDecision | None) -> Evaluation:
    """Answer a payment that is not to be counted with its stored decision, however old that is.

    Raises InvalidRequestError when the payment has no stored decision: it is too old then, and a new decision would
    rest on closed counters. Raises ConflictingBodyError when another body was decided.
    """
    if stored is None:
        raise InvalidRequestError((Fault("occurred_at", "occurred_at_too_old", "must be at most 12 hours back"),))
    return Evaluation.repeated(transaction, stored)


def _finish(uncommitted: UncommittedDecision, kept: StoredDecision | ServiceError | None) -> Evaluation:
    """Answer with the decision that was stored, or with the one that was there first.

    Raises the error of the commit, and the errors of `Evaluation.repeated`.
    """
    if isinstance(kept, ServiceError):
        raise kept
    own = StoredDecision(uncommitted.record.transaction.identity, uncommitted.record.answer)
    if kept in (None, own):  # its own row: the response to the first commit was lost
        cause = None if uncommitted.failure is None else uncommitted.failure.code
        return Evaluation(own.answer, uncommitted.decision, cause, uncommitted.large)
    uncounted = uncommitted.failure if uncommitted.record.uncounted else None
    return Evaluation.repeated(uncommitted.record.transaction, kept, uncounted)


def _reasons(hits: Sequence[Hit]) -> list[Reason]:
    """Return the reasons, those of the most severe hits first, and of the model only the strongest few."""
    ordered = sorted(hits, key=lambda hit: -hit.outcome.severity())
    return [reason for hit in ordered for reason in hit.reasons[:REASONS_OF_THE_MODEL]]


def _ms(start: float, end: float) -> float:
    return round((end - start) * 1000, 3)
