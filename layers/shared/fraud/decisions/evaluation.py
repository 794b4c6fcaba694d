"""The story of a payment: read state, segment, features, score, rules, decision, commit.

This module is pure: the store, the scorer and the clock are arguments, and the Protocols below name the calls to them.
A payment takes at most three sequential network steps: state (count and read), model, commit.

`evaluate` serves a caller who waits, and always answers. `evaluate_all` serves a batch that may come again: its
payments share the steps, and it first looks up which of them are decided already.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self

from fraud.counters import windows
from fraud.counters.layout import Update
from fraud.decisions.decision import Decision, ModelUsed, StepTimes
from fraud.decisions.record import WAITS, DecisionRecord, StateRead, StoredDecision, Waits
from fraud.decisions.waves import Batch
from fraud.errors import (
    ConflictingBodyError,
    Fallback,
    Fault,
    FraudError,
    InvalidRequestError,
    ServiceError,
    UnavailableError,
    UndecidedError,
)
from fraud.marks.mark import marks
from fraud.outcome import ADVICE, Hit, Outcome, by_score, worst
from fraud.rules import rule_book as rules
from fraud.rules.conclusion import conclude
from fraud.rules.facts import Subject
from fraud.rules.rule_book import PolicyResult, RuleBook
from fraud.scoring import features
from fraud.scoring.score import Beside, Scoring
from fraud.transaction import MAX_AGE, Transaction, utc

if TYPE_CHECKING:
    from fraud.decisions.hold_out import HoldOut  # most stacks have none, and do not load it

FLOOD_FACTOR = 1.5
"""Factor of the odds by which a payment with a flooded key is judged: the key's counters lack attempts (D-029)."""

STATE_SHARE, MODEL_SHARE = 0.5, 0.75
"""Shares of the deadline after which the state, then the model, must have answered. The rest is left to the commit."""


class Store(Protocol):
    """Counts attempts and keeps decisions. `until` is a reading of `time.monotonic` at which it gives up."""

    def count(self, transactions: Sequence[Transaction], until: float | None = None) -> list[StateRead]:
        """Count each attempt once and read all that its decision needs, in one round trip.

        Of several transactions that share an item, each may see the others or not. Never raises: each StateRead says
        what failed.
        """

    def take_back(self, counted: Sequence[tuple[Update, int]], until: float | None = None) -> None:
        """Take back counted updates, each with the level at which it was counted. Raises ServiceError."""

    def sampled(self, transaction: Transaction) -> AbstractSet[str]:
        """Return the keys of the payment's entities whose items are known to be sampled or closed, without a call."""

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
    """A model: the probability of fraud, and the features that raised or lowered it."""

    def score(
        self, vectors: Sequence[features.Vector], until: float | None = None, payers: Sequence[str] = ()
    ) -> Scoring:
        """Score one or more vectors with one call. Never raises.

        until   reading of `time.monotonic` by which the scores must be there
        payers  of the vectors: a canary holds payers, so that each meets one model only
        """


class Evaluation(NamedTuple):
    """The bytes of an answer, and the decision behind them.

    decision  None when an earlier answer is repeated
    cause     the service's code, when the decision had to do without counters
    variant   `champion` or `challenger`, the role of the model that decided beside another one; None without one
    """

    answer: bytes
    decision: Decision | None
    cause: str | None = None
    variant: str | None = None

    @classmethod
    def repeated(cls, transaction: Transaction, stored: StoredDecision) -> Self:
        """Repeat the stored answer. Raises ConflictingBodyError when the stored decision is that of another body."""
        if stored.identity != transaction.identity:
            raise ConflictingBodyError(_differences(transaction, stored))
        return cls(stored.answer, None)


class Assessed(NamedTuple):
    """A payment between its state and its decision: counters, features, segment and rule hits.

    blind  the decision has to do without its counters; the outage policy decides
    """

    transaction: Transaction
    state_read: StateRead
    values: dict[str, float]
    vector: features.Vector
    policy_result: PolicyResult
    blind: bool

    @property
    def asks_model(self) -> bool:
        """Whether the model is asked: the segment wants it, and the decision is not blind."""
        return self.policy_result.segment.model and not self.blind


class ModelResult(NamedTuple):
    """The model's part in one decision: its score, and a hit if the score reaches a threshold.

    beside  the score of a second model, which is recorded only
    """

    score: float
    hits: tuple[Hit, ...]
    version: str
    degraded: bool
    beside: Beside | None = None


class UncommittedDecision(NamedTuple):
    """A decision before its commit.

    record      all that the commit stores
    state_read  the state that the decision was made on
    """

    decision: Decision
    record: DecisionRecord
    state_read: StateRead

    @property
    def own(self) -> StoredDecision:
        """The decision as the table holds it once it is stored."""
        transaction = self.record.transaction
        return StoredDecision(transaction.identity, self.record.answer, transaction.canonical)


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
        waits: Waits = WAITS,
        hold_out: "HoldOut | None" = None,
    ) -> None:
        self.waits = waits
        self.hold_out = hold_out
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
            if now - transaction.occurred_at > MAX_AGE:
                return _recall(transaction, self.store.find(transaction.transaction_id, started + self.deadline_s), now)
            (state_read,) = self.store.count([transaction], started + self.deadline_s * STATE_SHARE)
            if state_read.stored is not None:
                return self._repeat(transaction, state_read.stored, state_read, started + self.deadline_s)
            counted = self.monotonic()
            assessed = [self._assess(transaction, state_read)]
            (uncommitted,) = self._decide(assessed, now, (started, counted), started + self.deadline_s * MODEL_SHARE)
            (kept,) = self.store.commit([uncommitted.record], started + self.deadline_s)
            return self._finish(uncommitted, kept, started + self.deadline_s)
        except ServiceError as error:
            raise UndecidedError(error.code, self.fallback(transaction)) from error

    def evaluate_all(
        self, payments: Sequence[Transaction | InvalidRequestError], until: float | None = None
    ) -> list[Evaluation | FraudError]:
        """Decide at most 100 payments in their order, or repeat their decisions.

        until  reading of `monotonic` after which no further payment is counted. Those that were counted are decided,
               the others fail. The first wave is always counted, so a batch that comes again gets on

        Return for each the evaluation, or the error in its place; a payment that could not be parsed is its error
        already. A body that is decided already is not counted again; when the decisions cannot be looked up, all
        payments fail. Payments that share nothing take each step together, and one call scores all of them; a sampled
        item, and one that a crowd shares, count as nothing (`waves.Batch`). When a service fails a payment, every
        later payment that shares something with it fails too. Otherwise the later one would overtake the failed one.
        """
        try:
            known = self.store.find_all({each.transaction_id for each in payments if isinstance(each, Transaction)})
        except ServiceError as error:
            return [error] * len(payments)
        started, now = self.monotonic(), self.clock()
        batch = self._begin_batch(payments, known, now)
        assessed: dict[int, Assessed] = {}
        while batch.waits:
            if batch.waves and until is not None and self.monotonic() >= until:
                batch.stop(UnavailableError("OutOfTime"))
                break
            free = batch.deal(self.store.sampled)
            assessed |= self._count_wave(batch, free, until if len(batch.waves) > 1 else None)
        made = self._decide(list(assessed.values()), now, (started, self.monotonic()), None)
        uncommitted = dict(zip(assessed, made, strict=True))
        for wave in batch.waves:
            self._commit_wave(batch, batch.free(wave), uncommitted)
        self._settle_aside(batch, until)
        return [batch.results[n] for n in range(len(payments))]

    def _count_wave(self, batch: Batch[Evaluation], free: Sequence[int], until: float | None) -> dict[int, Assessed]:
        """Count the payments of a wave that no service has failed, and return those that are to be decided.

        free  their places in the batch

        The others are settled: they have a decision, or a service failed them.
        """
        assessed: dict[int, Assessed] = {}
        repeats: dict[int, tuple[StoredDecision, StateRead]] = {}
        counted = self.store.count([batch.transactions[n] for n in free], until) if free else ()
        for n, state_read in zip(free, counted, strict=True):
            if state_read.stored is not None:
                repeats[n] = state_read.stored, state_read
                continue
            each = self._assess(batch.transactions[n], state_read)
            if each.blind and state_read.failure is not None:
                batch.fail(n, state_read.failure)
            else:
                assessed[n] = each
        self._repeat_all(batch, repeats, until)
        return assessed

    def _commit_wave(
        self, batch: Batch[Evaluation], free: Sequence[int], uncommitted: Mapping[int, UncommittedDecision]
    ) -> None:
        """Store the decisions of a wave, and settle its payments."""
        repeats: dict[int, tuple[StoredDecision, StateRead]] = {}
        kept_of = self.store.commit([uncommitted[n].record for n in free]) if free else ()
        for n, kept in zip(free, kept_of, strict=True):
            if isinstance(kept, StoredDecision) and kept != uncommitted[n].own:
                repeats[n] = kept, uncommitted[n].state_read
            else:
                batch.settle(n, partial(self._finish, uncommitted[n], kept, None))
        self._repeat_all(batch, repeats, None)

    def _repeat_all(
        self, batch: Batch[Evaluation], repeats: Mapping[int, tuple[StoredDecision, StateRead]], until: float | None
    ) -> None:
        """Settle payments of a wave whose id has a decision. What their conflicts counted is taken back together."""
        conflicts = [
            update
            for n, (stored, state_read) in repeats.items()
            if stored.identity != batch.transactions[n].identity
            for update in state_read.revocable
        ]
        failure = self._taken_back(conflicts, until)
        for n, (stored, state_read) in repeats.items():
            batch.settle(n, partial(_repeated, batch.transactions[n], stored, state_read, failure))

    def _settle_aside(self, batch: Batch[Evaluation], until: float | None) -> None:
        """Settle the other bodies of ids of the batch, now that the first body of each is settled.

        So no later payment of the batch saw an attempt that conflicts. If a service failed the first, they fail too.
        """
        aside = []
        for n, first in batch.aside.items():
            if isinstance(result := batch.results[first], ServiceError):
                batch.results[n] = result
            else:
                aside.append(n)
        if aside:
            results = self.evaluate_all([batch.transactions[n] for n in aside], until)
            batch.results |= dict(zip(aside, results, strict=True))

    def fallback(self, transaction: Transaction) -> Fallback:
        """Return the outcome to follow while no decision can be stored: a pure function of payment and policy."""
        policy_result = self.rule_book.judge_blind(transaction, None)
        return Fallback(
            outcome=worst([hit.outcome for hit in policy_result.hits]), policy_version=self.rule_book.version
        )

    def _begin_batch(
        self,
        payments: Sequence[Transaction | InvalidRequestError],
        known: Mapping[str, StoredDecision],
        now: datetime,
    ) -> Batch[Evaluation]:
        """Let the payments that are to be counted wait for their wave, and settle the others at once.

        Another body of a decided id is counted, to be taken back: an earlier try may have counted it and died.
        """
        batch: Batch[Evaluation] = Batch(self.rule_book.dispensable)
        for n, payment in enumerate(payments):
            if isinstance(payment, InvalidRequestError):
                batch.results[n] = payment
            elif now - payment.occurred_at > MAX_AGE or _is_decided(payment, known):
                batch.settle(n, partial(_recall, payment, known.get(payment.transaction_id), now))
            else:
                batch.add(n, payment, is_known=payment.transaction_id in known)
        return batch

    def _assess(self, transaction: Transaction, state_read: StateRead) -> Assessed:
        """Find segment and rule hits by the counters, or by the outage policy when it does not let it do without some.

        A counter that was not acknowledged may still have been read. One that was not read is NaN.
        """
        if state_read.read:
            values = windows.measure(transaction, state_read.state)
            judge: Callable[[rules.Inputs], PolicyResult | None] = self.rule_book.judge
            if away := state_read.away:
                unread, flooded = state_read.unread, state_read.flooded
                values = features.without(values, unread)
                judge = partial(self.rule_book.judge_without, away=away, unread=unread, flooded=flooded)
            vector = features.vector(transaction, values, features.lifts_of(transaction, state_read.state))
            policy_result = judge(rules.inputs(transaction, values, vector, state_read.state))
            if policy_result is not None:
                return Assessed(transaction, state_read, values, vector, policy_result, blind=False)
        values = dict(windows.ABSENT)
        vector = features.vector(transaction, values)
        known = state_read.state if state_read.read else None
        away = state_read.away if state_read.read else []
        policy_result = self.rule_book.judge_blind(transaction, known, state_read.flooded, away)
        return Assessed(transaction, state_read, values, vector, policy_result, blind=True)

    def _repeat(
        self, transaction: Transaction, stored: StoredDecision, state_read: StateRead, until: float | None
    ) -> Evaluation:
        """Repeat the stored answer, or take back what this request counted of another body. Raises as `_repeated`."""
        conflicts = state_read.revocable if stored.identity != transaction.identity else ()
        return _repeated(transaction, stored, state_read, self._taken_back(conflicts, until))

    def _taken_back(self, conflicts: Sequence[tuple[Update, int]], until: float | None) -> ServiceError | None:
        """Take updates back. Return why it is not known whether all of them are, or None."""
        try:
            if conflicts:
                self.store.take_back(conflicts, until)
        except ServiceError as error:
            return error
        return None

    def _finish(
        self, uncommitted: UncommittedDecision, kept: StoredDecision | ServiceError | None, until: float | None
    ) -> Evaluation:
        """Answer with the decision that was stored, or with the one that was there first.

        Raises the error of the commit, and the errors of `_repeat`.
        """
        if isinstance(kept, ServiceError):
            raise kept
        record, state_read = uncommitted.record, uncommitted.state_read
        if kept in (None, uncommitted.own):  # its own row: the response to the first commit was lost
            cause = None if state_read.failure is None else state_read.failure.code
            return Evaluation(record.answer, uncommitted.decision, cause, record.beside and record.beside.variant)
        return self._repeat(record.transaction, kept, state_read, until)

    def _decide(
        self, assessed: Sequence[Assessed], now: datetime, state: tuple[float, float], until: float | None
    ) -> list[UncommittedDecision]:
        """Score the payments that ask the model with one call, and decide all payments.

        state  readings of `monotonic` at which the state step began and ended
        """
        asked = self.monotonic()
        vectors = [each.vector for each in assessed if each.asks_model]
        payers = [each.transaction.payer_id for each in assessed if each.asks_model]
        scoring = self.scorer.score(vectors, until, payers) if vectors else None
        steps = StepTimes(state=_ms(*state), rules=_ms(state[1], asked), model=_ms(asked, self.monotonic()))
        places = iter(range(len(vectors)))
        model_results = [
            self._model_result(scoring, next(places), each.state_read.flooded) if scoring and each.asks_model else None
            for each in assessed
        ]
        return [
            self._combine(each, model_result, now, steps)
            for each, model_result in zip(assessed, model_results, strict=True)
        ]

    def _model_result(self, scoring: Scoring, place: int, flooded: AbstractSet[str]) -> ModelResult:
        """Return the model's result for the payment at `place`, by the thresholds that came with the score."""
        own = scoring.of(place)
        (score,), (contributions,) = own.scores, own.contributions
        outcome = by_score(_with_odds(score, FLOOD_FACTOR) if flooded else score, own.thresholds)
        is_hit = outcome is not Outcome.APPROVE
        hits = (self.rule_book.explain(outcome, contributions),) if is_hit else ()
        return ModelResult(score, hits, own.version, own.degraded, next(iter(own.beside), None))

    def _combine(
        self, assessed: Assessed, model_result: ModelResult | None, now: datetime, steps: StepTimes
    ) -> UncommittedDecision:
        """Combine the hits of rules and model into one decision and its record."""
        transaction, state_read, values, vector, policy_result, blind = assessed
        every_hit = policy_result.hits if model_result is None else (*policy_result.hits, *model_result.hits)
        concluded = conclude(every_hit, Subject(transaction, values, vector, state_read.state, state_read.away))
        missing = _missing(state_read, model_result, blind=blind)
        share = None
        if self.hold_out is not None:
            concluded, share = self.hold_out.applied(
                transaction, every_hit, concluded, {**missing, "rule": bool(policy_result.failed)}
            )
        decision = Decision(
            transaction_id=transaction.transaction_id,
            outcome=concluded.outcome,
            score=model_result and model_result.score,
            reasons=concluded.reasons,
            suppressed=concluded.suppressed,
            advice=ADVICE[concluded.outcome],
            segment=policy_result.segment.id,
            model=ModelUsed(version=model_result and model_result.version),
            degraded=[*(part for part, is_missing in missing.items() if is_missing)]
            + [f"rule:{name}" for name in policy_result.failed],
            estimated=[] if blind else state_read.state.estimated,
            recounted=state_read.state.recounted,
            policy_version=self.rule_book.version,
            retryable=concluded.retryable,
            decided_at=now,
            steps_ms=steps,
            hold_out=share,
        )
        record = DecisionRecord(
            transaction,
            decision.model_dump_json().encode(),
            concluded.outcome,
            now,
            values,
            features.pack(vector),
            features.fingerprint(),
            tuple(key.kind.name for key in state_read.uncounted),
            state_read.upkeep,
            self.waits.deadline(concluded.outcome, now, Outcome(policy_result.segment.review_expires)),
            model_result and model_result.beside,
            marks(transaction, state_read.state),
        )
        return UncommittedDecision(decision, record, state_read)


def _missing(state_read: StateRead, model_result: ModelResult | None, *, blind: bool) -> dict[str, bool]:
    """Return for each part of a decision, in the order of `degraded`, whether the decision was made without it."""
    return {
        "state": blind,
        **{f"counter:{kind}": not blind for kind in state_read.away},
        "profile": state_read.state.stale,
        "slots": state_read.state.distorted,
        "model": model_result is not None and model_result.degraded,
    }


def _is_decided(transaction: Transaction, known: Mapping[str, StoredDecision]) -> bool:
    """Tell whether exactly this body has one of the known decisions."""
    stored = known.get(transaction.transaction_id)
    return stored is not None and stored.identity == transaction.identity


def _recall(transaction: Transaction, stored: StoredDecision | None, now: datetime) -> Evaluation:
    """Answer a payment that is not to be counted with its stored decision, however old that is.

    Raises InvalidRequestError when the payment has no stored decision: it is too old then, and a new decision would
    rest on closed counters. Raises ConflictingBodyError when another body was decided.
    """
    if stored is None:
        message = f"must be at most 12 hours before {utc(now)}"
        raise InvalidRequestError((Fault("occurred_at", "occurred_at_too_old", message),))
    return Evaluation.repeated(transaction, stored)


def _repeated(
    transaction: Transaction, stored: StoredDecision, state_read: StateRead, failure: ServiceError | None
) -> Evaluation:
    """Repeat the stored answer.

    failure  why it is not known whether what this request counted of another body is taken back

    Raises ConflictingBodyError when another body was decided. Raises ServiceError when it is not known whether all of
    it is taken back: no row tells of the attempt, so only its caller can send it again.
    """
    if stored.identity != transaction.identity:
        failure = failure or (state_read.failure if state_read.uncounted else None)
        if failure is not None:
            raise failure
    return Evaluation.repeated(transaction, stored)


def _differences(transaction: Transaction, stored: StoredDecision) -> tuple[Fault, ...]:
    """Name the fields in which a body differs from the decided one, never their values."""
    mine, decided = json.loads(transaction.canonical), json.loads(stored.transaction)
    names = sorted(name for name in mine.keys() | decided.keys() if mine.get(name) != decided.get(name))
    return tuple(Fault(name, "differs", "differs from the decided body") for name in names if name != "metadata")


def _with_odds(probability: float, factor: float) -> float:
    """Return the probability whose odds are `factor` times those of the given one.

    >>> _with_odds(0.5, 3), _with_odds(0.0, 3), _with_odds(1.0, 3)
    (0.75, 0.0, 1.0)
    """
    return probability * factor / (1 - probability + probability * factor)


def _ms(start: float, end: float) -> float:
    return round((end - start) * 1000, 3)
