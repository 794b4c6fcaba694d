"""Fakes of the Protocols of `fraud.decisions.evaluation`, and small policies, for tests that need no AWS."""

import copy
import json
import threading
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from fraud.aws.transport import Transport
from fraud.counters.in_memory import InMemoryCounters
from fraud.counters.keys import Keys
from fraud.counters.layout import Item, State, Update, profiles
from fraud.counters.store import StackState
from fraud.decisions.evaluation import Store
from fraud.decisions.record import DecisionRecord, StateRead, StoredDecision
from fraud.errors import HotKeyError, ServiceError, UnavailableError
from fraud.packaged import policy
from fraud.rules.rule_book import RuleBook
from fraud.scoring.features import Vector
from fraud.scoring.score import Scoring
from fraud.scoring.scorer import Embedded, Models
from fraud.transaction import Transaction
from tests.support.payments import updates


class Trouble(NamedTuple):
    """The faults of one payment. They happen at every call until the test removes them.

    lost         kinds of counters whose update is not acknowledged
    applied      lost updates and an uncommitted decision are nevertheless in the store
    unread       profiles and decision cannot be read
    uncommitted  the commit of the decision is not acknowledged
    error        the error of these calls
    """

    lost: Collection[str] = ()
    applied: bool = False
    unread: bool = False
    uncommitted: bool = False
    error: ServiceError = UnavailableError("ThrottlingException")


class InMemoryStore:
    """`evaluation.Store` in dictionaries, with the conditions of the real one. Calls are atomic and return copies.

    stale    whether states are stale, as when the fold is behind
    trouble  faults by transaction id
    asked    step, transaction ids and `until` of every call
    kept     the error of `take_back`
    """

    def __init__(self) -> None:
        self.counters = InMemoryCounters()
        self.decisions: dict[str, DecisionRecord] = {}
        self.stale = False
        self.trouble: dict[str, Trouble] = {}
        self.asked: list[tuple[str, list[str], float | None]] = []
        self.kept: ServiceError | None = None
        self._turn = threading.Lock()

    def count(self, transactions: Sequence[Transaction], until: float | None = None) -> list[StateRead]:
        self.asked.append(("count", [each.transaction_id for each in transactions], until))
        return [self._counted(transaction) for transaction in transactions]

    def _counted(self, transaction: Transaction) -> StateRead:
        trouble = self.trouble.get(transaction.transaction_id, Trouble())
        moved = updates(transaction)
        lost = [update for update in moved if update.key.kind.name in trouble.lost]
        with self._turn:
            held = [update for update in moved if (item := self.counters.items.get(update.key)) and item.holds(update)]
            if lost and not trouble.applied:
                for update in moved:
                    if update not in lost:
                        self.counters.items.setdefault(update.key, Item()).apply(update)
                pks = profiles(transaction).values()
                known = {pk: self.counters.profiles[pk] for pk in pks if pk in self.counters.profiles}
                rest = {update.key: self.counters.items[update.key] for update in moved if update not in lost}
                found = State(rest, known, device=moved[0].device)
            else:
                found = self.counters.count(transaction)
            items = {key: copy.deepcopy(item) for key, item in found.items.items()}
            for update in lost:
                items.pop(update.key, None)
            profiled = {} if trouble.unread else copy.deepcopy(found.profiles)
        return StateRead(
            State(items, profiled, found.recounted, self.stale, device=moved[0].device),
            None if trouble.unread else self._stored(transaction.transaction_id),
            uncounted=tuple(update.key for update in lost),
            unread=frozenset(update.key.kind.name for update in lost),
            read=not trouble.unread,
            failure=trouble.error if lost or trouble.unread else None,
            flooded=frozenset(each.key.kind.name for each in lost if isinstance(trouble.error, HotKeyError)),
            revocable=tuple((update, 0) for update in moved if update not in lost and update not in held),
        )

    def take_back(self, counted: Sequence[tuple[Update, int]], until: float | None = None) -> None:
        self.asked.append(("take_back", [update.key.pk for update, _ in counted], until))
        if self.kept:
            raise self.kept
        with self._turn:
            for update, level in counted:
                self.counters.items[update.key].take_back(update, level)

    def sampled(self, transaction: Transaction) -> frozenset[str]:
        moved = updates(transaction)
        found = {update.key.pk: self.counters.items.get(update.key) for update in moved}
        return frozenset(pk for pk, item in found.items() if item is not None and item.level)

    def find(self, transaction_id: str, until: float | None = None) -> StoredDecision | None:
        self.asked.append(("find", [transaction_id], until))
        trouble = self.trouble.get(transaction_id, Trouble())
        if trouble.unread:
            raise trouble.error
        return self._stored(transaction_id)

    def _stored(self, transaction_id: str) -> StoredDecision | None:
        record = self.decisions.get(transaction_id)
        if record is None:
            return None
        return StoredDecision(record.transaction.identity, record.answer, record.transaction.canonical)

    def find_all(self, transaction_ids: Collection[str]) -> dict[str, StoredDecision]:
        self.asked.append(("find_all", sorted(transaction_ids), None))
        found = {transaction_id: self._stored(transaction_id) for transaction_id in transaction_ids}
        return {transaction_id: stored for transaction_id, stored in found.items() if stored is not None}

    def commit(
        self, records: Sequence[DecisionRecord], until: float | None = None
    ) -> list[StoredDecision | ServiceError | None]:
        self.asked.append(("commit", [record.transaction.transaction_id for record in records], until))
        return [self._committed(record) for record in records]

    def _committed(self, record: DecisionRecord) -> StoredDecision | ServiceError | None:
        transaction_id = record.transaction.transaction_id
        trouble = self.trouble.get(transaction_id, Trouble())
        with self._turn:
            winner = self._stored(transaction_id)
            if trouble.applied or not trouble.uncommitted:
                self.decisions.setdefault(transaction_id, record)
        return trouble.error if trouble.uncommitted else winner


def counted(store: Store, transaction: Transaction) -> StateRead:
    """Count one attempt and return the state that was read. Raises the failure if there was one."""
    (state_read,) = store.count([transaction])
    if state_read.failure is not None:
        raise state_read.failure
    return state_read


def committed(store: Store, record: DecisionRecord) -> StoredDecision | None:
    """Store one decision. Return the decision that was there before, or None. Raises the failure if there was one."""
    (kept,) = store.commit([record])
    if isinstance(kept, ServiceError):
        raise kept
    return kept


class FixedScorer:
    """`evaluation.Scorer` that gives every payment the same score and reasons.

    asked   number of calls
    until   deadline of the last call
    payers  those of the vectors of the last call
    """

    def __init__(
        self,
        score: float,
        reasons: Sequence[tuple[str, float]] = (("amount_log", 1.5),),
        *,
        degraded: bool = False,
    ) -> None:
        self.opinion = Scoring("fixed", {"challenge": 0.2, "review": 0.5, "decline": 0.9}, [score], [reasons], degraded)
        self.asked = 0
        self.until: float | None = None
        self.payers: Sequence[str] = ()

    def score(self, vectors: Sequence[Vector], until: float | None = None, payers: Sequence[str] = ()) -> Scoring:
        self.asked += 1
        self.until = until
        self.payers = payers
        (score,), (reasons,) = self.opinion.scores, self.opinion.contributions
        return self.opinion._replace(scores=[score] * len(vectors), contributions=[reasons] * len(vectors))


def only(model: Embedded, transport: Transport) -> Models:
    """Return the models of a stack without a pointer: this one, as if it were the packaged one."""
    return Models(model, transport, "profiles", StackState(transport, "profiles", Keys.drawn))


def rule(expression: str, **fields: Any) -> dict[str, Any]:
    """Return one rule of a policy file. `fields` are added to it or replace its own.

    >>> rule("score > 0.9", outcome="decline")["outcome"]
    'decline'
    """
    return {"id": "tested", "version": 3, "expression": expression, "outcome": "review", "code": "VELOCITY"} | fields


def rule_book(*rules: Mapping[str, Any], **changes: Any) -> RuleBook:
    """Return a policy with these rules and no segments; the rest is the packaged policy's. `changes` replace fields."""
    packaged = json.loads(policy("JPY").read_bytes())
    segments = changes.get("segments", [])
    outage = {name: {"policy": "rules_only"} for name in ("standard", *(segment["id"] for segment in segments))}
    return RuleBook.load(json.dumps(packaged | {"segments": [], "rules": rules, "outage": outage} | changes).encode())
