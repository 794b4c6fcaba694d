"""Fakes that obey the Protocols of `fraud.evaluation`, for tests that need no AWS."""

from collections.abc import Sequence

from fraud.counters import InMemoryCounters
from fraud.decision import Record, Stored
from fraud.evaluation import Sight
from fraud.features import Vector
from fraud.transaction import Transaction


class InMemoryStore:
    """`evaluation.Store` in dictionaries, with the conditions of the real one."""

    def __init__(self) -> None:
        self.counters = InMemoryCounters()
        self.decisions: dict[str, Record] = {}

    def count(self, transaction: Transaction) -> Sight:
        return Sight(self.counters.count(transaction), self.find(transaction.transaction_id))

    def find(self, transaction_id: str) -> Stored | None:
        record = self.decisions.get(transaction_id)
        return None if record is None else Stored(record.transaction.identity, record.answer)

    def commit(self, record: Record) -> Stored | None:
        winner = self.find(record.transaction.transaction_id)
        self.decisions.setdefault(record.transaction.transaction_id, record)
        return winner


class FixedScorer:
    """`evaluation.Scorer` with one opinion of everything; `asked` counts how often it was needed."""

    def __init__(self, score: float, reasons: Sequence[tuple[str, float]] = (("amount_log", 1.5),)) -> None:
        self.version = "fixed"
        self.thresholds = {"challenge": 0.2, "review": 0.5, "decline": 0.9}
        self.reasons = reasons
        self.value = score
        self.asked = 0

    def score(self, vector: Vector) -> float:
        del vector
        self.asked += 1
        return self.value

    def explain(self, vector: Vector) -> Sequence[tuple[str, float]]:
        del vector
        return self.reasons
