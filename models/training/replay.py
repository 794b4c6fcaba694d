"""Replay of payments through the counters and features that decide online. A label counts when it became known.

Training, evaluation, benchmarks and tests take their rows from here.
"""

import heapq
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, Protocol, TypeVar

from fraud.counters.in_memory import InMemoryCounters
from fraud.counters.layout import DAY, State
from fraud.counters.windows import measure
from fraud.labels.label import Label, LabelHistory, Parties
from fraud.scoring import features
from fraud.scoring.features import Vector
from fraud.transaction import Transaction
from models.training.marked import Published

RANKING = ("user_report", "report", "no_complaint", "chargeback", "analyst", "verdict")
"""Sources of labels from least to most trusted, those of the simulator included. It decides between labels of the same
time only; a source that is not named ranks below all others.
"""


class LabelledPayment(Protocol):
    """A payment with its labels, in the order in which they became known. `models.simulation.simulate.Labelled` is one.

    tactic  the kind of the fraud; None or empty if it is not known, or honest
    """

    @property
    def transaction(self) -> Transaction | dict[str, Any]:
        """The payment, or the body of POST /decisions."""

    @property
    def labels(self) -> Sequence[Label]:
        """All labels of the payment that may change a counter."""

    @property
    def tactic(self) -> str | None:
        """The kind of the fraud."""


class Row(NamedTuple):
    """A payment as the decision sees it. Its fields are the arguments of `fraud.rules.rule_book.inputs`."""

    transaction: Transaction
    counters: Mapping[str, float]
    vector: Vector
    state: State


@dataclass(order=True)
class _Waiting:
    """A label that waits to become known. Labels of the same time come in the order of their payments."""

    known_at: datetime
    number: int
    labels: LabelHistory
    rest: Sequence[Label]

    def learn(self, counters: InMemoryCounters) -> bool:
        """Do what POST /labels does with the label, and take the payment's next one. Tell whether there is one."""
        self.labels, moves = self.labels.accept(self.rest[0], RANKING)
        for move in moves:
            counters.learn(*move)
        self.rest = self.rest[1:]
        if self.rest:
            self.known_at = self.rest[0].known_at
        return bool(self.rest)


class Replay:
    """The counters of a replay, and the labels and snapshots of marks that wait until they are known.

    `counters` may hold earlier payments; by default they are empty. Without `labels` no label changes a counter, which
    shows the worth of a model that is never told of its mistakes. `marks` are snapshots in the order of their times.
    """

    def __init__(
        self, counters: InMemoryCounters | None = None, *, labels: bool = True, marks: Iterable[Published] = ()
    ) -> None:
        self.counters = InMemoryCounters() if counters is None else counters
        self._labels = labels
        self._waiting: list[_Waiting] = []
        self._marks = deque(marks)
        self._number = 0
        self._day = 0

    def count(self, payment: LabelledPayment, arrived_at: datetime | None = None) -> tuple[Transaction, State]:
        """Count a payment, after the labels and marks that are known by then. Payments come in order of arrival.

        arrived_at  when it arrived; by default when it occurred
        """
        transaction = Transaction.model_validate(payment.transaction)
        now = arrived_at or transaction.occurred_at
        while self._waiting and self._waiting[0].known_at <= now:
            first = self._waiting[0]
            (heapq.heapify if first.learn(self.counters) else heapq.heappop)(self._waiting)
        while self._marks and self._marks[0].as_of < now:  # a payment at this very time is in the snapshot itself
            self._marks.popleft().put(self.counters)
        if (day := transaction.epoch // DAY) > self._day:
            self.counters.forget(day)
            self._day = day
        state = self.counters.count(transaction)
        self.expect(Parties.of(transaction), payment.labels)
        return transaction, state

    def expect(self, parties: Parties, labels: Sequence[Label]) -> None:
        """Let the labels of a payment wait until they become known."""
        self._number += 1
        if labels and self._labels:
            heapq.heappush(self._waiting, _Waiting(labels[0].known_at, self._number, LabelHistory(parties), labels))

    def row(self, payment: LabelledPayment, arrived_at: datetime | None = None) -> Row:
        """Count a payment and measure it, as the decision does. Payments come in order of arrival.

        arrived_at  aware; None: at its `occurred_at`
        """
        transaction, state = self.count(payment, arrived_at)
        values = measure(transaction, state)
        vector = features.vector(transaction, values, features.lifts_of(transaction, state))
        return Row(transaction, values, vector, state)


P = TypeVar("P", bound=LabelledPayment)


def replay(
    payments: Iterable[P],
    counters: InMemoryCounters | None = None,
    *,
    labels: bool = True,
    marks: Iterable[Published] = (),
) -> Iterator[tuple[P, Row]]:
    """Yield each payment with its row. The arguments are those of `Replay`; payments come in order of arrival."""
    run = Replay(counters, labels=labels, marks=marks)
    for payment in payments:
        yield payment, run.row(payment)
