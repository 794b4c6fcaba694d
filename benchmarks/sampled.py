"""What sampling costs the model: average precision (AP) with one hot merchant, sampled and counted exactly.

Every simulated payment to a merchant goes to one shop, which a crowd pays all day besides, far above the rate at which
its hours are sampled. The packaged model scores the same payments twice: by counters that sample the shop, and by
counters that count each payment. The model has not seen this world.
"""

import random
from collections.abc import Collection, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np

from benchmarks import table
from fraud.counters.in_memory import InMemoryCounters
from fraud.counters.layout import KINDS, MERCHANT, State
from fraud.counters.sampling import CAPS, EXACT
from fraud.scoring import scorer
from fraud.transaction import Transaction
from models.simulation.simulate import Labelled, simulate
from models.training.metrics import average_precision
from models.training.replay import replay

START = datetime(2026, 6, 1, tzinfo=UTC)
SEED, DAYS, PAYERS = 77, 6, 500
WARM_UP = timedelta(days=2)
SHOP = "the-hot-shop"
TIMES_CAP = 2
"""Payments of the crowd in an hour, in multiples of the tokens above which an hour is sampled."""


class Crowded(InMemoryCounters):
    """Counters that count the payments of the crowd up to the time of each payment before it."""

    def __init__(self, exact: Collection[str]) -> None:
        super().__init__(exact=exact)
        self._crowd = crowd()
        self._next = next(self._crowd)

    def count(self, transaction: Transaction) -> State:
        """Count the crowd's payments before this one, and this one."""
        while self._next.occurred_at <= transaction.occurred_at:
            super().count(self._next)
            self._next = next(self._crowd)
        return super().count(transaction)


def crowd() -> Iterator[Transaction]:
    """Yield the crowd's payments, without end."""
    rng = random.Random(SEED)
    gap = 3600 / (TIMES_CAP * CAPS[MERCHANT.sk])
    at, n = START, 0
    while True:
        at, n = at + timedelta(seconds=rng.expovariate(1 / gap)), n + 1
        yield Transaction(
            transaction_id=f"crowd-{n}",
            type="merchant",
            payer_id=f"crowd-{rng.randrange(5_000)}",
            payee_id=SHOP,
            amount=int(rng.lognormvariate(7, 1)) + 1,
            currency="JPY",
            occurred_at=at,
        )


def world() -> Iterator[Labelled]:
    """Yield the simulated payments, those to merchants all to the shop."""
    for payment in simulate(SEED, START, DAYS, PAYERS):
        if payment.transaction["type"] == "merchant":
            yield replace(payment, transaction=payment.transaction | {"payee_id": SHOP})
        else:
            yield payment


def rows() -> list[table.Row]:
    """Return AP by both counters, of all payments and of those to the shop, and how many of those were estimated."""
    model = scorer.embedded("JPY")
    found: list[table.Row] = []
    for name, exact in (("counted exactly", frozenset(KINDS)), ("sampled", EXACT)):
        fraud: list[bool] = []
        scores: list[float] = []
        to_shop: list[bool] = []
        estimated = 0
        for payment, row in replay(world(), Crowded(exact)):
            if row.transaction.occurred_at >= START + WARM_UP:
                fraud.append(payment.label == "fraud")
                scores += model.score([row.vector]).scores
                to_shop.append(row.transaction.payee_id == SHOP)
                estimated += MERCHANT.name in row.state.estimated
        truth, given, shop = np.array(fraud), np.array(scores), np.array(to_shop)
        found.append(
            {
                "name": f"the shop is {name}",
                "payments": len(truth),
                "frauds": int(truth.sum()),
                "to_shop": int(shop.sum()),
                "frauds_to_shop": int(truth[shop].sum()),
                "estimated": estimated,
                "ap": average_precision(given, truth),
                "ap_to_shop": average_precision(given[shop], truth[shop]),
            }
        )
    return found


if __name__ == "__main__":
    table.run(rows, __doc__)
