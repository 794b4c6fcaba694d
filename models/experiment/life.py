"""One life of the planned months: payments in order of time, and all that follows from them in between.

With the system, payments are decided by `decisions.evaluation` over counters in memory, and cases, accounts, reports
and labels move by the library's own rules. Without it every payment goes through.
"""

import heapq
import io
import pickle
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from copyreg import dispatch_table
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, NamedTuple

from fraud import packaged
from fraud.accounts.action import ActionEvent
from fraud.accounts.intake import AccountIntake
from fraud.accounts.moves import ActionState
from fraud.cases.case import SYSTEM, Case, CaseEvent, Finding
from fraud.cases.context import ReportedPayment, context_of
from fraud.cases.evidence import FACTS
from fraud.cases.intake import Intake
from fraud.cases.report import EarlierReport, ReportRequest
from fraud.cases.routing import Routing
from fraud.cases.triage import Triage
from fraud.counters import windows
from fraud.counters.in_memory import InMemoryCounters
from fraud.counters.layout import DAY as DAY_S
from fraud.counters.layout import KINDS, Kind, Update
from fraud.decisions.evaluation import Evaluator
from fraud.decisions.record import DecisionRecord, StateRead, StoredDecision
from fraud.errors import NotFoundError, ServiceError
from fraud.labels.label import LabelValue
from fraud.outcome import Outcome
from fraud.rules.rule_book import Inputs, PolicyResult, RuleBook, inputs
from fraud.scoring import features
from fraud.scoring.trees import Trees
from fraud.transaction import Transaction, utc
from models.experiment.learning import Embedded, Memory, kept_history, train
from models.experiment.office import (
    ANALYST,
    APP,
    LEAD,
    Accounts,
    Begun,
    Cases,
    Links,
    in_review,
)
from models.experiment.parameters import Condition, Parameters
from models.experiment.staff import Staff
from models.experiment.tally import Tally
from models.experiment.world import DECEIVED, Plan, Planned, Tale, Thief, milliseconds
from models.simulation.draws import DAY, HOUR, MINUTE, instant
from models.simulation.population import Payment
from models.training.columns import Dataset, packaged_rule_book

DEADLINE_S = 1.0
"""The evaluator's deadline; its clock stands still, so it never passes."""


ACCOUNT, BY_ACCOUNT = "account", frozenset({"ACCOUNT_NOT_ACTIVE", "DENY_LIST"})
"""What stopped a fraud whose payer or payee was stopped before, and the reasons of such a decision."""


class WatchedRuleBook(RuleBook):
    """A rule book that keeps its last judgement: the rows of training need what the rules alone asked for."""

    last: PolicyResult

    def judge(self, inputs: Inputs) -> PolicyResult:
        """Judge a payment."""
        self.last = super().judge(inputs)
        return self.last


class MemoryStore:
    """The evaluator's store over counters in memory. It keeps the last record."""

    record: DecisionRecord

    def __init__(self, counters: InMemoryCounters) -> None:
        self.counters = counters

    def count(self, transactions: Sequence[Transaction], until: float | None = None) -> list[StateRead]:
        """Count payments."""
        del until
        return [StateRead(self.counters.count(each), None) for each in transactions]

    def take_back(self, counted: Sequence[tuple[Update, int]], until: float | None = None) -> None:
        """Refuse: every id comes once in these months, so there is nothing to take back."""
        del counted, until
        raise RuntimeError("a payment of the experiment came twice")

    def sampled(self, transaction: Transaction) -> AbstractSet[str]:
        """Return no keys: batches are not decided here."""
        del transaction
        return frozenset()

    def find(self, transaction_id: str, until: float | None = None) -> StoredDecision | None:
        """Return no decision: no id comes twice here."""
        del transaction_id, until
        return None

    def find_all(self, transaction_ids: AbstractSet[str]) -> dict[str, StoredDecision]:
        """Return no decisions."""
        del transaction_ids
        return {}

    def commit(
        self, records: Sequence[DecisionRecord], until: float | None = None
    ) -> list[StoredDecision | ServiceError | None]:
        """Keep the record."""
        del until
        (self.record,) = records
        return [None]


# ---- the months before -----------------------------------------------------------------------------------------------


class Pending(NamedTuple):
    """A label that becomes known later."""

    at: int
    number: int
    transaction: Transaction
    source: str


class Warm(NamedTuple):
    """The state at the system's beginning, from which every life goes on.

    snapshot  counters, rows and labels, links, and labels that are not known yet, as bytes
    history   the kept one
    model     trained on that history and on the days before
    """

    snapshot: bytes
    history: Dataset
    model: Trees


def warm_up(plan: Plan, parameters: Parameters) -> Warm:
    """Live the days before the system, and train the first model. Raises ValueError when it cannot be trained."""
    rule_book = packaged_rule_book(plan.market.currency)
    counters, memory, links = InMemoryCounters(), Memory(rule_book.version), Links()
    pending: list[Pending] = []
    day = 0
    for payment, _ in _before(plan, parameters):
        transaction = Transaction.model_validate(payment.body(plan.market))
        _learn_until(pending, payment.at, memory, counters)
        day = _forget(counters, transaction, day)
        state = counters.count(transaction)
        values = windows.measure(transaction, state)
        vector = features.vector(transaction, values, features.lifts_of(transaction, state))
        memory.add(
            transaction, values, features.pack(vector), rule_book.judge(inputs(transaction, values, vector, state))
        )
        links.see(transaction)
        if payment.truth is not None:
            heapq.heappush(pending, Pending(payment.truth.reported_at, len(memory), transaction, payment.truth.source))
    history = kept_history(plan.seed, parameters)
    model = train(history, memory.dataset(), parameters.begins, plan.seed)
    if model is None:
        raise ValueError("the first model cannot be trained: too few days or no fraud is known")
    return Warm(_frozen((counters, memory, links, pending)), history, model)


def _before(plan: Plan, parameters: Parameters) -> list[Planned]:
    begins = milliseconds(parameters) + parameters.before_days * DAY
    return [each for each in plan.planned if each.payment.at < begins]


def _learn_until(pending: list[Pending], at: int, memory: Memory, counters: InMemoryCounters) -> None:
    while pending and pending[0].at <= at:
        known = heapq.heappop(pending)
        now = instant(known.at)
        memory.label(counters, known.transaction, "fraud", known.source, now, now)


def _forget(counters: InMemoryCounters, transaction: Transaction, day: int) -> int:
    if (today := transaction.epoch // DAY_S) > day:
        counters.forget(today)
    return max(today, day)


def _frozen(state: Any) -> bytes:  # noqa: ANN401 - all that a life begins with
    """Return a state as bytes, in which a kind of counters is its name: kinds are compared by identity."""
    text = io.BytesIO()
    pickler = pickle.Pickler(text, pickle.HIGHEST_PROTOCOL)
    pickler.dispatch_table = dispatch_table | {Kind: lambda kind: (_kind, (kind.name,))}
    pickler.dump(state)
    return text.getvalue()


def _kind(name: str) -> Kind:
    return KINDS[name]


# ---- a life ----------------------------------------------------------------------------------------------------------


class DecidedPayment(NamedTuple):
    """A decided payment."""

    payment: Payment
    tale: Tale | None
    outcome: Outcome
    score: float | None
    codes: tuple[str, ...]


class Group(NamedTuple):
    """A victim's frauds that become known together: those that moved money, by id."""

    source: str
    payments: list[Payment]


class Ledger:
    """Counts what moved and who complains, in every life alike."""

    def __init__(self, plan: Plan, parameters: Parameters, staff: Staff) -> None:
        self.tally = Tally(daily=[[0, 0] for _ in range(parameters.days)])
        self.groups: dict[tuple[int, str, int], Group] = {}
        self._plan, self._parameters, self._staff = plan, parameters, staff
        self._begins = milliseconds(parameters) + parameters.before_days * DAY

    def is_honest(self, payment: Payment) -> bool:
        """Tell whether an honest person pays honestly."""
        return payment.truth is None and payment.payer.party_id not in self._plan.guilty

    def moved(self, payment: Payment, tale: Tale | None, at: int) -> tuple[int, str, int] | int | None:
        """Count a payment that moved money.

        Return the new group of frauds that will become known, or the milliseconds until the payment is disputed.
        """
        tally, high = self.tally, payment.amount >= self._parameters.high_value
        day = (at - self._begins) // DAY
        tally.payments += 1
        tally.value += payment.amount
        tally.high_payments += high
        if 0 <= day < len(tally.daily):
            tally.daily[day][0] += 1
        if payment.truth is None or tale is None:
            wait = self._staff.disputes(payment.transaction_id) if payment.payee is not None else None
            tally.disputes += wait is not None
            return wait
        tally.frauds += 1
        tally.tactics[payment.truth.tactic] += 1
        tally.fraud_value += payment.amount
        tally.high_frauds += high
        if 0 <= day < len(tally.daily):
            tally.daily[day][1] += 1
        key = tale.number, payment.payer.party_id, max(payment.truth.reported_at, at + HOUR)
        known = next((one for one in self.groups if one[:2] == key[:2] and one[2] >= at), None)
        if known is None:
            self.groups[key] = Group(payment.truth.source, [payment])
            return key
        self.groups[known].payments.append(payment)
        return None

    def closed(self) -> Tally:
        """Return the tally with the complaints, each victim's frauds of one report as one."""
        for (_, payer, _), group in self.groups.items():
            if group.source in {"report", "chargeback"} and payer not in self._plan.guilty:
                self.tally.complaints += 1
                largest = max(payment.amount for payment in group.payments)
                self.tally.high_complaints += largest >= self._parameters.high_value
        return self.tally


def live_without(plan: Plan, parameters: Parameters) -> Tally:
    """Live the months without the system: every payment goes through, and no thief has a reason to react."""
    ledger = Ledger(plan, parameters, Staff(plan.seed, parameters))
    for payment, tale in plan.planned[len(_before(plan, parameters)) :]:
        ledger.tally.honest += ledger.is_honest(payment)
        ledger.tally.fraud_attempts += payment.truth is not None
        ledger.moved(payment, tale, payment.at)
    return ledger.closed()


def live(plan: Plan, parameters: Parameters, condition: Condition, warm: Warm | None) -> Tally:
    """Live the months under a condition, and return what was counted.

    warm  what the days before have left; without it, or under a condition that decides nothing, there is no system
    """
    if not condition.decides or warm is None:
        return live_without(plan, parameters)
    return Life(plan, parameters, condition, warm).run()


class Life:
    """A life with the system."""

    def __init__(self, plan: Plan, parameters: Parameters, condition: Condition, warm: Warm) -> None:
        self._plan, self._parameters, self._condition = plan, parameters, condition
        self._history = warm.history
        counters, memory, links, pending = pickle.loads(warm.snapshot)  # noqa: S301 - our own bytes
        self._counters: InMemoryCounters = counters
        self._memory: Memory = memory
        self._links: Links = links
        self._staff = Staff(plan.seed, parameters)
        self._ledger = Ledger(plan, parameters, self._staff)
        self._tally = self._ledger.tally
        self._at = milliseconds(parameters) + parameters.before_days * DAY
        self._ends = self._at + parameters.days * DAY
        self._heap: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._events = 0
        self._day = 0
        # decisions
        policy = (packaged.POLICIES / f"{plan.market.currency}.json").read_bytes()
        parsed = RuleBook.load(policy)
        self._rules = WatchedRuleBook(parsed.policy, parsed.version)
        self._store = MemoryStore(counters)
        self._evaluator = Evaluator(
            self._store, Embedded(warm.model), self._rules, lambda: instant(self._at), DEADLINE_S, lambda: 0.0
        )
        self._decided: dict[str, DecidedPayment] = {}
        self._waiting: dict[str, DecidedPayment] = {}
        self._changes: dict[str, str] = {}
        self._thieves: dict[int, Thief] = {}
        self._collected: dict[tuple[int, str], list[int]] = defaultdict(lambda: [0, 0])
        # reports, cases, accounts
        self._triage = Triage.load(packaged.TRIAGE_RULES.read_bytes(), packaged.CLASSIFIER.read_bytes())
        self._routing = Routing.load(packaged.ROUTING.read_bytes())
        self._of_reporter: dict[str, dict[str, EarlierReport]] = defaultdict(dict)
        self._of_payee: dict[str, dict[str, EarlierReport]] = defaultdict(dict)
        self._cases = Cases(parameters.case_terms)
        begun: Any = Begun(lambda name: self._push(self._at + MINUTE, self._collect, name))
        reader: Any = _NoDecisions()
        self._intake = Intake(self._cases, reader, begun, lambda _: None)
        self._accounts = Accounts(parameters, counters.profiles, links)
        acts: Any = Begun(lambda name: self._push(self._at + MINUTE, self._deactivate, name))
        self._account_intake = AccountIntake(self._accounts, self._cases, reader, acts, lambda: None)
        self._locked: set[str] = set()
        for known in pending:
            self._push(known.at, self._known_from_before, known)

    # ---- the loop ------------------------------------------------------------------------------------------------

    def run(self) -> Tally:
        """Live the months, and the days after them in which cases and appeals end. Return what was counted."""
        parameters, begins = self._parameters, self._at
        if self._condition.cases:
            slot = DAY // parameters.cases_a_day
            for n in range((parameters.days + parameters.after_days) * parameters.cases_a_day):
                self._push(begins + (n + 1) * slot, self._work)
        if self._condition.learns:
            for day in range(parameters.retrain_days, parameters.days, parameters.retrain_days):
                self._push(begins + day * DAY, self._retrain)
        for planned in self._plan.planned[len(_before(self._plan, parameters)) :]:
            self._until(planned.payment.at)
            self._at = planned.payment.at
            self._intended(*planned)
        self._until(self._ends + parameters.after_days * DAY)
        return self._ledger.closed()

    def _push(self, at: int, do: Callable[..., None], *said: Any) -> None:  # noqa: ANN401 - what `do` takes
        self._events += 1
        heapq.heappush(self._heap, (at, self._events, do, said))

    def _until(self, at: int) -> None:
        """Do what is due before `at`."""
        while self._heap and self._heap[0][0] <= at:
            self._at, _, do, said = heapq.heappop(self._heap)
            do(*said)

    @property
    def _now(self) -> datetime:
        return instant(self._at)

    # ---- payments ------------------------------------------------------------------------------------------------

    def _intended(self, payment: Payment, tale: Tale | None, *, is_delayed: bool = False) -> None:
        """Make a planned payment, as far as its thief still intends it."""
        if tale is None or payment.truth is None:
            self._attempt(payment, tale)
            return
        thief = self._thief(tale)
        if payment.type == "p2p" and payment.payee is not None and not is_delayed:
            self._collected[tale.number, payment.payee.party_id][0] += payment.amount
        if not thief.intends(payment):
            return
        if not is_delayed and (later := thief.delayed(payment)) > self._at:
            self._push(later, lambda: self._intended(payment, tale, is_delayed=True))
            return
        altered = thief.altered(payment)
        due, got = self._collected.get((tale.number, payment.payer.party_id), (0, 0))
        if payment.type == "cash_out" and due:
            if not got:
                return  # no money has come that could be cashed out
            altered.amount = max(round(payment.amount * min(got / due, 1)), 1)  # a copy
        self._attempt(altered, tale)

    def _attempt(self, payment: Payment, tale: Tale | None) -> None:
        """Send a payment to the system, unless the app keeps its payer out, and do what the decision says."""
        if self._at >= self._ends:
            return
        if payment.at != self._at:
            payment = replace(payment, at=self._at)
        honest, tally = self._ledger.is_honest(payment), self._tally
        tally.honest += honest
        tally.fraud_attempts += payment.truth is not None
        if payment.payer.party_id in self._locked:
            tally.disturbed += honest
            tally.locked_out += honest
            if payment.truth is not None:
                tally.fraud_stopped += 1
                tally.stopped_by[ACCOUNT] += 1
            return
        transaction = Transaction.model_validate(payment.body(self._plan.market))
        self._day = _forget(self._counters, transaction, self._day)
        decision = self._evaluator.evaluate(transaction).decision
        assert decision is not None
        record = self._store.record
        self._memory.add(transaction, record.counters, record.features, self._rules.last)
        self._links.see(transaction)
        codes = tuple(reason.code for reason in decision.reasons)
        decided = DecidedPayment(payment, tale, decision.outcome, decision.score, codes)
        self._decided[transaction.transaction_id] = decided
        tally.outcomes[decision.outcome] += 1
        tally.disturbed += honest and decision.outcome is not Outcome.APPROVE
        _DONE[decision.outcome](self, decided)

    def _moved(self, decided: DecidedPayment) -> None:
        payment, tale = decided.payment, decided.tale
        if tale is not None and payment.type == "p2p" and payment.payee is not None:
            self._collected[tale.number, payment.payee.party_id][1] += payment.amount
        follows = self._ledger.moved(payment, tale, self._at)
        if isinstance(follows, tuple):
            self._push(follows[2], self._found_out, follows)
        elif follows is not None:
            self._push(self._at + follows, partial(self._report, payment, fraud=False))

    def _challenge(self, decided: DecidedPayment) -> None:
        payment, tale = decided.payment, decided.tale
        deceived = tale is not None and tale.tactic in DECEIVED and self._thief(tale).is_deceived(payment)
        passed = self._staff.passes(payment.transaction_id, honest=payment.truth is None, deceived=deceived)
        self._push(self._at + int(self._parameters.challenge_minutes * MINUTE), self._answered, decided, passed)

    def _answered(self, decided: DecidedPayment, passed: bool) -> None:  # noqa: FBT001 - an answer
        self._changes[decided.payment.transaction_id] = "challenge_passed" if passed else "challenge_failed"
        (self._moved if passed else self._stopped)(decided)

    def _review(self, decided: DecidedPayment) -> None:
        name = decided.payment.transaction_id
        self._waiting[name] = decided
        self._push(self._at + self._parameters.review_hours * HOUR, self._expire, name)
        if self._condition.cases:
            payee = decided.payment.payee
            self._take(
                "DecisionMade",
                transaction_id=name,
                payer_id=decided.payment.payer.party_id,
                payee_id=payee and payee.party_id,
                occurred_at=utc(instant(decided.payment.at)),
                codes=list(decided.codes),
            )

    def _expire(self, name: str) -> None:
        """End a review that nobody has ended: the packaged policy declines it."""
        if (decided := self._waiting.pop(name, None)) is not None:
            self._stopped(decided)

    def _stopped(self, decided: DecidedPayment) -> None:
        """Void a payment that moved no money. A thief reacts."""
        payment, tale = decided.payment, decided.tale
        self._memory.stopped.add(payment.transaction_id)
        self._counters.void(self._transaction(payment))
        if tale is None or payment.truth is None:
            return
        self._tally.fraud_stopped += 1
        by_account = not BY_ACCOUNT.isdisjoint(decided.codes)
        self._tally.stopped_by[ACCOUNT if by_account else decided.outcome] += 1
        thief = self._thief(tale)
        if thief.over:
            return
        again = thief.stopped(payment, self._at)
        self._tally.reactions[thief.reactions[-1]] += 1
        if again is not None:
            self._push(again.at, self._attempt, again, tale)
        if thief.changed is not None:
            other, thief.changed = thief.changed, None
            for each in other.payments:
                self._push(each.at, self._intended, each, other)

    def _thief(self, tale: Tale) -> Thief:
        if tale.number not in self._thieves:
            self._thieves[tale.number] = Thief(self._plan.seed, tale, self._parameters)
        return self._thieves[tale.number]

    def _transaction(self, payment: Payment) -> Transaction:
        return Transaction.model_validate(payment.body(self._plan.market))

    # ---- what people tell ----------------------------------------------------------------------------------------

    def _known_from_before(self, known: Pending) -> None:
        self._label(known.transaction, "fraud", known.source)

    def _label(self, transaction: Transaction, value: LabelValue, source: str) -> None:
        if self._condition.learns:
            self._memory.label(self._counters, transaction, value, source, self._now, self._now)

    def _found_out(self, key: tuple[int, str, int]) -> None:
        """Let frauds become known that moved money: by the victim's report, a chargeback, or an audit of shops."""
        group = self._ledger.groups[key]
        for payment in group.payments:
            if group.source == "report" and key[1] not in self._plan.guilty:
                self._report(payment, fraud=True)
            else:
                self._label(self._transaction(payment), "fraud", group.source)

    def _report(self, payment: Payment, *, fraud: bool) -> None:
        """Let the payer report a payment; triage says what becomes of the report."""
        name, payer = payment.transaction_id, payment.payer.party_id
        payee = payment.payee.party_id if payment.payee else None
        category, text = self._staff.words(self._memory.place[name], fraud=fraud)
        request = ReportRequest(
            report_id=f"r-{name}",
            transaction_id=name,
            reporter_id=payer,
            category=category,
            text=text,
            reported_at=self._now,
        )
        decided = self._decided[name]
        transaction = self._transaction(payment)
        known = ReportedPayment(transaction, decided.outcome, decided.score, decided.codes, self._memory.counters(name))
        since = self._now - timedelta(days=30)
        of_payee = [one for one in self._of_payee[payee or ""].values() if one.reported_at >= since]
        context = context_of(request, known, self._of_reporter[payer].values(), of_payee)
        verdict = self._triage.judge(request, context).verdict
        status = "dispute" if verdict == "dispute" else "open"
        kept = EarlierReport(request.report_id, name, payer, self._now, status)
        self._of_reporter[payer][request.report_id] = self._of_payee[payee or ""][request.report_id] = kept
        if verdict == "dispute":
            return
        if not self._condition.cases:
            self._label(transaction, "fraud", "user_report")
            return
        self._take(
            "ReportReceived",
            report_id=request.report_id,
            transaction_id=name,
            reporter_id=payer,
            payer_id=payer,
            payee_id=payee,
            occurred_at=utc(instant(payment.at)),
            reported_at=utc(self._now),
        )

    # ---- cases ---------------------------------------------------------------------------------------------------

    def _take(self, kind: str, **detail: Any) -> None:  # noqa: ANN401 - JSON
        self._intake.take({"detail-type": kind, "detail": detail}, self._now)

    def _collect(self, name: str) -> None:
        """Route a case by its facts."""
        case = self._cases.get(name)
        self._tally.cases += self._at < self._ends
        route = self._routing.route(self._facts(case)).route
        if route == "close":
            event = CaseEvent(kind="triaged", finding="inconclusive", note="closed by a rule")
            self._conclude(self._cases.change(name, event, SYSTEM, self._now))
            return
        self._cases.change(name, CaseEvent(kind="routed"), SYSTEM, self._now)
        if route == "hold" and self._condition.deactivates:
            self._account_intake.take({"detail-type": "HoldRequested", "detail": {"case_id": name}}, self._now)

    def _facts(self, case: Case) -> Mapping[str, float | bool]:
        """Return the facts of a case by the names of `cases.evidence.FACTS`."""
        alerts = [one for one in case.alerts if one in self._decided]
        counters = [self._memory.counters(one) for one in alerts]
        earlier = [one for one in self._cases.of_subject(case.subject).cases if one.case_id != case.case_id]
        frauds = [(one["payee_frauds_30d"] or 0.0, one["payer_frauds_30d"] or 0.0) for one in counters]
        changes = [self._changes.get(one) for one in alerts]
        facts: dict[str, float | bool] = {
            "payments": float(len(case.alerts)),
            "decided": float(len(alerts)),
            "in_review": float(sum(one in self._waiting for one in alerts)),
            "passed": float(changes.count("challenge_passed")),
            "failed": float(changes.count("challenge_failed")),
            "score": max((self._decided[one].score or 0.0 for one in alerts), default=0.0),
            "frauds_of_others": max((max(payee - payer, 0.0) for payee, payer in frauds), default=0.0),
            "payer_frauds": max((payer for _, payer in frauds), default=0.0),
            "reports": float(max(len(case.reports), len(self._of_payee.get(case.subject_id, ())))),
            "earlier": float(len(earlier)),
            "earlier_frauds": float(sum(one.verdict is not None and one.verdict.finding == "fraud" for one in earlier)),
            "by_hand": False,
        }
        assert facts.keys() == FACTS.keys()
        return facts

    def _work(self) -> None:
        """Let the analyst judge the next case."""
        queue = in_review(self._cases.queued(), self._waiting)
        if not queue:
            return
        name = queue[0].case_id
        case = self._cases.change(name, CaseEvent(kind="taken"), ANALYST, self._now)
        frauds = [one for one in case.alerts if self._decided[one].payment.truth is not None]
        judgement = self._staff.judge(case, frauds, guilty=case.subject_id in self._plan.guilty)
        event = CaseEvent(kind="judged", note="judged", **judgement._asdict())
        self._conclude(self._cases.change(name, event, ANALYST, self._now))

    def _conclude(self, case: Case) -> None:
        """Do what follows from a verdict: payments in review, labels, reports, the account."""
        verdict = case.verdict
        assert verdict is not None
        self._tally.findings[verdict.finding] += 1
        for name in verdict.transaction_ids:
            if verdict.finding != "inconclusive" and (decided := self._waiting.pop(name, None)) is not None:
                (self._stopped if verdict.finding == "fraud" else self._moved)(decided)
            self._label_found(name, verdict.finding)
        self._cases.change(case.case_id, CaseEvent(kind="concluded"), SYSTEM, self._now)
        for reports in (self._of_reporter, self._of_payee):
            for kept in reports.values():
                for one in case.reports:
                    if one in kept:
                        is_about = kept[one].transaction_id in verdict.transaction_ids
                        kept[one] = kept[one]._replace(status=verdict.finding if is_about else "inconclusive")
        if self._condition.deactivates:
            said = {"case_id": case.case_id, "finding": verdict.finding, "subject_is": verdict.subject_is}
            self._account_intake.take({"detail-type": "CaseClosed", "detail": said}, self._now)

    def _label_found(self, name: str, finding: Finding) -> None:
        transaction = self._transaction(self._decided[name].payment)
        if finding in {"fraud", "legitimate"}:
            self._label(transaction, finding, "analyst")
        elif (
            finding == "dispute"
            and (known := self._memory.labels.get(name)) is not None
            and known.fraud_day is not None
        ):
            self._label(transaction, "legitimate", "analyst")

    # ---- accounts ------------------------------------------------------------------------------------------------

    def _deactivate(self, name: str) -> None:
        """Deactivate an account, or let the action wait above the cap."""
        if self._accounts.action(name).state is not ActionState.OPENED:
            return
        action = self._accounts.deactivate(name, self._now)
        if action.state is ActionState.QUEUED:
            self._push(self._at + self._parameters.queue_hours * HOUR, self._release, name)
            return
        account = action.account_id
        rule = self._accounts.policy.in_review
        for one, decided in list(self._waiting.items()):
            payer = decided.payment.payer.party_id == account
            payee = decided.payment.payee is not None and decided.payment.payee.party_id == account
            if (payer and rule.payer == "review_declined") or (payee and rule.payee == "review_declined"):
                self._stopped(self._waiting.pop(one))
        if self._at < self._ends:
            self._tally.deactivated += 1
            honest = account not in self._plan.guilty
            self._tally.deactivated_honest += honest
            frauds = (self._decided[one].payment for one in action.cause.transaction_ids)
            self._tally.victims += honest and any(
                one.truth is not None and one.payer.party_id == account for one in frauds
            )
        self._push(self._at + int(self._parameters.app_minutes * MINUTE), self._carried_out, name)

    def _release(self, name: str) -> None:
        self._accounts.change(name, ActionEvent(kind="released", reason="looked at"), LEAD, self._now)
        self._deactivate(name)

    def _carried_out(self, name: str) -> None:
        """Let the app acknowledge a deactivation: the account makes no further attempts. Its owner may appeal."""
        event = ActionEvent(kind="acknowledged", status="deactivated")
        action = self._accounts.change(name, event, APP, self._now)
        self._locked.add(action.account_id)
        wait = self._staff.appeals(name, guilty=action.account_id in self._plan.guilty)
        if wait is not None and timedelta(milliseconds=wait) < self._parameters.action_terms.window:
            self._push(self._at + wait, self._appeal, name)

    def _appeal(self, name: str) -> None:
        event = ActionEvent(kind="appealed", appeal_id=f"a-{name}", text="I have done nothing wrong.")
        action = self._accounts.change(name, event, APP, self._now)
        wait, overturns = self._staff.reviews(name, guilty=action.account_id in self._plan.guilty)
        self._push(self._at + wait, self._appeal_reviewed, name, overturns)

    def _appeal_reviewed(self, name: str, overturns: bool) -> None:  # noqa: FBT001 - an answer
        """Let a lead uphold or overturn an action. A reinstatement corrects the labels of its cause."""
        kind: Any = "overturned" if overturns else "upheld"
        action = self._accounts.change(name, ActionEvent(kind=kind, reason="reviewed"), LEAD, self._now)
        if not overturns:
            return
        self._accounts.reinstate(name, self._now)
        self._locked.discard(action.account_id)
        for one in action.cause.transaction_ids:
            self._label(self._transaction(self._decided[one].payment), "legitimate", "analyst")
        if action.opened_at < self._parameters.ends:
            self._tally.reinstated += 1
            self._tally.reinstated_honest += action.account_id not in self._plan.guilty

    # ---- training ------------------------------------------------------------------------------------------------

    def _retrain(self) -> None:
        """Train on what is known by now, and use the new model at once."""
        model = train(self._history, self._memory.dataset(), self._now, self._plan.seed)
        if model is not None:
            self._evaluator.scorer = Embedded(model)
            self._tally.trained += 1


class _NoDecisions:
    """The intakes' reader of decisions: what they would read of them, model versions, matters to no cap here."""

    def read(self, transaction_id: str) -> Any:  # noqa: ANN401 - never returns
        """Raise NotFoundError."""
        del transaction_id
        raise NotFoundError


_DONE: Mapping[Outcome, Callable[[Life, DecidedPayment], None]] = {
    Outcome.APPROVE: Life._moved,  # noqa: SLF001 - its own class
    Outcome.CHALLENGE: Life._challenge,  # noqa: SLF001
    Outcome.REVIEW: Life._review,  # noqa: SLF001
    Outcome.DECLINE: Life._stopped,  # noqa: SLF001
}
