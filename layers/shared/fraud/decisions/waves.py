"""Waves: which payments of a batch may take a step together, and which must wait for others or fail with them. Pure."""

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from fraud.counters import layout
from fraud.errors import FraudError, ServiceError
from fraud.transaction import Transaction

T = TypeVar("T")


class Batch(Generic[T]):
    """Payments of a batch by their place in it, dealt into waves.

    Payments of one wave share no item and no id; a payment comes in a later wave than every earlier payment that it
    shares something with.

    results       the result of each payment so far: its evaluation, or the error in its place
    transactions  the payments that take the steps
    waves         places of the payments, wave after wave
    """

    def __init__(self) -> None:
        self.results: dict[int, T | FraudError] = {}
        self.transactions: dict[int, Transaction] = {}
        self.waves: list[list[int]] = []
        self._things: dict[int, frozenset[str]] = {}
        self._last: dict[str, int] = {}  # the latest wave that touches a thing
        self._stuck: dict[str, int] = {}  # the latest failed payment that touches a thing

    def add(self, n: int, transaction: Transaction) -> None:
        """Put a payment into the first wave after all the earlier payments that it shares something with."""
        things = layout.shared_names(transaction)
        self.transactions[n], self._things[n] = transaction, things
        wave = max((self._last.get(thing, -1) for thing in things), default=-1) + 1
        self._last |= dict.fromkeys(things, wave)
        if wave == len(self.waves):
            self.waves.append([])
        self.waves[wave].append(n)

    def free(self, wave: Sequence[int]) -> list[int]:
        """Return the payments of a wave that may go on.

        A payment behind a failed one that it shares something with fails too. A settled payment does not go on.
        """
        for n in wave:
            ahead = min(self._stuck.get(thing, n) for thing in self._things[n])
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
        self._stuck |= dict.fromkeys(self._things[n], n)
