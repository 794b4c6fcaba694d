"""Waves: which payments of a batch may take a step together, and which must wait for others or fail with them. Pure."""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Generic, TypeVar

from fraud.counters import layout
from fraud.errors import FraudError, ServiceError
from fraud.transaction import Transaction

T = TypeVar("T")

CROWD = 10
"""Most payments of a batch that wait for each other because of an item of a kind that a decision may do without."""


class Batch(Generic[T]):
    """Payments of a batch by their place in it, dealt into waves.

    Payments of one wave share no id, and no item but those that need no order; a payment comes in a later wave than
    every earlier payment that it shares anything else with.

    loose         kinds that a decision may do without: an item of theirs needs no order when a CROWD shares it
    results       the result of each payment so far: its evaluation, or the error in its place
    transactions  the payments that take the steps
    waves         places of the payments, wave after wave, as far as they are dealt
    aside         places of payments that are not dealt, because another body has their id: that of the first body
    """

    def __init__(self, loose: Collection[str] = ()) -> None:
        self.results: dict[int, T | FraudError] = {}
        self.transactions: dict[int, Transaction] = {}
        self.waves: list[list[int]] = []
        self._loose = frozenset(loose)
        self.aside: dict[int, int] = {}
        self._first: dict[str, int] = {}
        self._waiting: list[int] = []
        self._names: dict[int, frozenset[str]] = {}
        self._stuck: dict[str, int] = {}  # the latest failed payment that has a name

    def add(self, n: int, transaction: Transaction, *, is_known: bool = False) -> None:
        """Add the payment at a place of the batch, to be dealt, or to be put aside behind another body of its id.

        is_known  the id is decided, so none of its bodies waits for another
        """
        self.transactions[n] = transaction
        first = self._first.setdefault(transaction.transaction_id, n)
        if is_known or self.transactions[first].identity == transaction.identity:
            self._waiting.append(n)
        else:
            self.aside[n] = first

    def deal(self, sampled: Callable[[Transaction], Collection[str]]) -> list[int]:
        """Deal the next wave: every waiting payment that shares nothing with an earlier waiting one.

        sampled  returns those names of a payment's entities whose items are sampled: they need no order
        """
        shared = {n: layout.shared_names(self.transactions[n]) for n in self._waiting}
        sizes = Counter(name for names in shared.values() for name in names)
        wave: list[int] = []
        waiting: list[int] = []
        held: set[str] = set()
        for n, names in shared.items():
            crowded = (name.partition("#") for name in names if sizes[name] > CROWD)
            unordered = {"".join(parts) for parts in crowded if parts[1] and parts[0] in self._loose}  # an id has no #
            self._names[n] = names - unordered - set(sampled(self.transactions[n]))
            (waiting if held & self._names[n] else wave).append(n)
            held |= self._names[n]
        self._waiting = waiting
        self.waves.append(wave)
        return self.free(wave)

    def stop(self, error: FraudError) -> None:
        """Let all waiting payments fail: the time of the batch is over."""
        for n in self._waiting:
            self.results[n] = error
        self._waiting = []

    @property
    def waits(self) -> bool:
        """Whether a payment is still to be dealt."""
        return bool(self._waiting)

    def free(self, wave: Sequence[int]) -> list[int]:
        """Return the payments of a wave that may go on.

        A payment behind a failed one that it shares something with fails too. A settled payment does not go on.
        """
        for n in wave:
            ahead = min(self._stuck.get(name, n) for name in self._names[n])
            if n not in self.results and ahead < n:
                self.results[n] = self.results[ahead]
                self._stick(n)
        return [n for n in wave if n not in self.results]

    def settle(self, n: int, evaluate: Callable[[], T]) -> None:
        """Keep the result of a payment, or the FraudError that `evaluate` raises."""
        try:
            self.results[n] = evaluate()
        except ServiceError as error:
            self.fail(n, error)
        except FraudError as error:
            self.results[n] = error

    def fail(self, n: int, error: FraudError) -> None:
        """Keep the failure of a service for a payment, and let later ones that share something with it fail too."""
        self.results[n] = error
        self._stick(n)

    def _stick(self, n: int) -> None:
        """Hold up later payments that share something. Earlier ones go on: they were counted without this one."""
        self._stuck |= dict.fromkeys(self._names[n], n)
