"""Fakes that obey the Protocols of `fraud.evaluation`, and small policies, for tests that need no AWS."""

import copy
import json
import threading
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from fraud.assembly import POLICY
from fraud.counters import State
from fraud.decision import Record, Stored
from fraud.errors import ServiceError
from fraud.evaluation import Scoring, Sight, Store
from fraud.features import Vector
from fraud.memory import InMemoryCounters
from fraud.rules import RuleBook
from fraud.transaction import Transaction


class InMemoryStore:
    """`evaluation.Store` in dictionaries, with the conditions of the real one; a call is atomic, its answer a copy.

    `stale` as if the fold were behind.
    """

    def __init__(self) -> None:
        self.counters = InMemoryCounters()
        self.decisions: dict[str, Record] = {}
        self.stale = False
        self._turn = threading.Lock()

    def count(self, transactions: Sequence[Transaction], until: float | None = None) -> list[Sight]:
        del until
        return [self._counted(transaction) for transaction in transactions]

    def _counted(self, transaction: Transaction) -> Sight:
        with self._turn:
            found = self.counters.count(transaction)
            items = {key: copy.deepcopy(item) for key, item in found.items.items()}
            profiles = copy.deepcopy(found.profiles)
        state = State(items, profiles, found.recounted, self.stale)
        return Sight(state, self.find(transaction.transaction_id))

    def find(self, transaction_id: str) -> Stored | None:
        record = self.decisions.get(transaction_id)
        return None if record is None else Stored(record.transaction.identity, record.answer)

    def find_all(self, transaction_ids: Collection[str]) -> dict[str, Stored]:
        found = {transaction_id: self.find(transaction_id) for transaction_id in transaction_ids}
        return {transaction_id: stored for transaction_id, stored in found.items() if stored is not None}

    def commit(self, records: Sequence[Record], until: float | None = None) -> list[Stored | ServiceError | None]:
        del until
        return [self._committed(record) for record in records]

    def _committed(self, record: Record) -> Stored | None:
        with self._turn:
            winner = self.find(record.transaction.transaction_id)
            self.decisions.setdefault(record.transaction.transaction_id, record)
        return winner


def counted(store: Store, transaction: Transaction) -> Sight:
    """One attempt counted. Raises what failed."""
    (sight,) = store.count([transaction])
    if sight.failure is not None:
        raise sight.failure
    return sight


def committed(store: Store, record: Record) -> Stored | None:
    """One decision stored, or the one that was there. Raises what failed."""
    (kept,) = store.commit([record])
    if isinstance(kept, ServiceError):
        raise kept
    return kept


class FixedScorer:
    """`evaluation.Scorer` with one opinion of everything; `asked` counts how often it was needed."""

    def __init__(
        self,
        score: float,
        reasons: Sequence[tuple[str, float]] = (("amount_log", 1.5),),
        *,
        degraded: bool = False,
    ) -> None:
        self.opinion = Scoring("fixed", {"challenge": 0.2, "review": 0.5, "decline": 0.9}, [score], [reasons], degraded)
        self.asked = 0

    def score(self, vectors: Sequence[Vector], until: float | None = None) -> Scoring:
        del until
        self.asked += 1
        (score,), (reasons,) = self.opinion.scores, self.opinion.contributions
        return self.opinion._replace(scores=[score] * len(vectors), contributions=[reasons] * len(vectors))


def rule(expression: str, **fields: Any) -> dict[str, Any]:
    """One rule of a policy file."""
    return {"id": "tested", "version": 3, "expression": expression, "outcome": "review", "code": "VELOCITY"} | fields


def rule_book(*rules: Mapping[str, Any], **changes: Any) -> RuleBook:
    """A policy of these rules, with no segments and the words of the packaged one unless `changes` say otherwise."""
    packaged = json.loads(POLICY.read_bytes())
    segments = changes.get("segments", [])
    outage = {name: {"policy": "rules_only"} for name in ("standard", *(segment["id"] for segment in segments))}
    return RuleBook.load(json.dumps(packaged | {"segments": [], "rules": rules, "outage": outage} | changes).encode())
