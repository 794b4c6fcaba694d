"""Training data: payments replayed through the counters and features that decide online, joined with their labels.

One pass in order of arrival, one payment in memory at a time; only its vector and a few numbers are kept. A label
exists only from the time at which it was reported: the caller says when "now" is.
"""

import argparse
import heapq
import sys
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from fraud.counters.in_memory import InMemoryCounters
from fraud.counters.layout import State
from fraud.counters.windows import measure
from fraud.labels.label import Label, LabelHistory, Parties
from fraud.scoring import features
from fraud.scoring.features import Vector
from fraud.transaction import Transaction
from models.simulation.markets import JAPAN, market_of
from models.simulation.simulate import DEFAULT_START, Labelled, simulate

FILE = "dataset.npz"


class Row(NamedTuple):
    """A payment as the decision sees it. Its fields are the arguments of `fraud.rules.rule_book.inputs`."""

    transaction: Transaction
    counters: Mapping[str, float]
    vector: Vector
    state: State


def replay(
    payments: Iterable[Labelled], counters: InMemoryCounters | None = None, *, labels: bool = True
) -> Iterator[tuple[Labelled, Row]]:
    """Count each payment, then measure it, as the decision does. `payments` are in order of arrival.

    A label changes the fraud counters when it becomes known, never before. Without `labels` no label changes them: this
    shows the worth of a model that is never told of its mistakes. `counters` may hold earlier payments; by default they
    are empty.
    """
    counters = InMemoryCounters() if counters is None else counters
    waiting: list[tuple[datetime, int, Labelled, Transaction]] = []
    for n, payment in enumerate(payments):
        transaction = Transaction.model_validate(payment.transaction)
        while waiting and waiting[0][0] <= transaction.occurred_at:
            _learn(counters, *heapq.heappop(waiting)[2:])
        state = counters.count(transaction)
        values = measure(transaction, state)
        yield payment, Row(transaction, values, features.vector(transaction, values), state)
        if labels:
            heapq.heappush(waiting, (payment.reported_at, n, payment, transaction))


def _learn(counters: InMemoryCounters, payment: Labelled, transaction: Transaction) -> None:
    """Do what POST /labels does with the same label at the same time."""
    known = Label(payment.label, payment.reported_at, payment.source, payment.reported_at, payment.source)
    _, moves = LabelHistory(Parties.of(transaction)).accept(known, (payment.source,))
    for move in moves:
        counters.learn(*move)


@dataclass(frozen=True)
class Dataset:
    """Columns over n payments in event order; times are epoch seconds, amounts minor units of `currency`.

    `fraud` and `tactic` (empty for an honest payment) are the truth. A model may be fitted only to `labels`.
    """

    features: NDArray[np.float32]  # n x len(features.NAMES), NaN where missing
    occurred_at: NDArray[np.int64]
    reported_at: NDArray[np.int64]
    amount: NDArray[np.int64]
    fraud: NDArray[np.bool_]
    tactic: NDArray[np.str_]
    currency: str

    @classmethod
    def build(cls, payments: Iterable[Labelled], *, labels: bool = True) -> Self:
        """Replay payments, which are in order of arrival, and collect their columns.

        Without `labels` the fraud counters stay empty, as if no fraud had ever been confirmed. Raises ValueError for
        payments in several currencies.

        >>> built = Dataset.build(simulate(1, DEFAULT_START, days=1, payers=20))
        >>> built.features.shape == (len(built), len(features.NAMES))
        True
        """
        vectors, numbers, tactics = array("f"), array("q"), []
        currency = ""
        for payment, (transaction, _, vector, _) in replay(payments, labels=labels):
            vectors.extend(vector)
            known_at = _epoch(payment.reported_at)
            numbers.extend((transaction.epoch, known_at, transaction.amount, payment.label == "fraud"))
            tactics.append(payment.tactic or "")
            if currency not in {"", transaction.currency}:
                raise ValueError(f"amounts in {currency} and {transaction.currency}: a dataset has one currency")
            currency = transaction.currency
        table = np.array(vectors, np.float32).reshape(-1, len(features.NAMES))
        occurred_at, reported_at, amount, fraud = np.array(numbers, np.int64).reshape(-1, 4).T.copy()
        return cls(
            table, occurred_at, reported_at, amount, fraud.astype(np.bool_), np.array(tactics, np.str_), currency
        )

    def __len__(self) -> int:
        return len(self.occurred_at)

    def labels(self, cutoff: int) -> NDArray[np.bool_]:
        """Return the labels known at `cutoff` (epoch seconds): True for fraud reported by then.

        Every other payment counts as honest.
        """
        return self.fraud & (self.reported_at <= cutoff)

    def between(self, start: int, end: int) -> Self:
        """Return the payments with start <= occurred_at < end (epoch seconds)."""
        return self.take((self.occurred_at >= start) & (self.occurred_at < end))

    def take(self, chosen: NDArray[np.bool_] | NDArray[np.intp]) -> Self:
        """Return the chosen payments: by a mask over all payments, or by their places."""
        return replace(self, **{name: getattr(self, name)[chosen] for name in COLUMNS})

    def save(self, directory: Path) -> None:
        """Write FILE with the columns and the features' fingerprint.

        It holds only numbers and text, no pickle, so that reading it executes nothing.
        """
        directory.mkdir(parents=True, exist_ok=True)
        columns = {name: getattr(self, name) for name in COLUMNS}
        stated = {"fingerprint": np.array(features.fingerprint()), "currency": np.array(self.currency)}
        np.savez(directory / FILE, allow_pickle=False, **stated, **columns)

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read FILE. Raises ValueError when its fingerprint differs from that of the current features."""
        with np.load(directory / FILE, allow_pickle=False) as stored:
            if str(stored["fingerprint"]) != features.fingerprint():
                raise ValueError(f"{directory / FILE} holds other features than this code computes: build it anew")
            return cls(**{name: stored[name] for name in COLUMNS}, currency=str(stored["currency"]))


COLUMNS = tuple(column.name for column in fields(Dataset) if column.name != "currency")


def _epoch(time: datetime) -> int:
    """Return the time in epoch seconds, rounded up to a whole second, so that no label is known too early.

    >>> _epoch(datetime.fromisoformat("1970-01-01T00:00:01.001Z"))
    2
    """
    return -int(-time.timestamp() // 1)


def main(arguments: Sequence[str] | None = None) -> None:
    """Simulate payments, replay them, and write the dataset that a training job reads as its `train` channel."""
    parser = argparse.ArgumentParser(prog="python -m models.training.dataset", description=main.__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--start", type=datetime.fromisoformat, default=DEFAULT_START, help="default: %(default)s")
    parser.add_argument("--days", type=int, required=True)
    parser.add_argument("--payers", type=int, required=True)
    parser.add_argument("--currency", dest="market", type=market_of, default=JAPAN, help="default: JPY")
    parser.add_argument("--out", type=Path, required=True, metavar="DIRECTORY")
    options = parser.parse_args(arguments)
    dataset = Dataset.build(simulate(options.seed, options.start, options.days, options.payers, options.market))
    dataset.save(options.out)
    sys.stdout.write(f"{len(dataset):,} payments, {int(dataset.fraud.sum()):,} of them fraud: {options.out / FILE}\n")


if __name__ == "__main__":
    main()
