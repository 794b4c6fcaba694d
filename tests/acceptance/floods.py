"""Floods: one key is throttled, and no payment by it may get a milder outcome than without the throttle.

Whoever can have a payment sent can send it a thousand times a second. The flood takes the write units of one key, so
DynamoDB refuses to count the payments that come by it meanwhile. Two worlds get the same payments: one whose key is
throttled, and one whose key is not. `python -m tests.acceptance.floods` runs all kinds of keys at full size.
"""

import argparse
import itertools
import json
import math
import random
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, NamedTuple

from benchmarks.metering import size_of, write_units
from fraud import assembly
from fraud.aws.transport import Request, Result
from fraud.counters.keys import DECLARED
from fraud.counters.worker import FoldWorker, Message
from fraud.decisions.evaluation import Evaluation, Evaluator
from fraud.decisions.repair import repair
from fraud.decisions.store import contents_of
from fraud.errors import HotKeyError, ServiceError
from fraud.outcome import Outcome
from fraud.scoring import scorer
from fraud.transaction import Transaction
from tests.acceptance.fault_injection import ERRORS, START, Ledger, listed
from tests.support.deployment import TABLES, declared_store
from tests.support.in_memory_dynamodb import key_of
from tests.support.payments import payment

KINDS = ("payee", "device", "merchant", "instrument", "pair", "payer")
"""Kinds of the flooded key."""

FLOOD_A_SECOND, UNITS_A_SECOND, STEPS_A_SECOND = 120, 30, 4
"""Payments of the flood, and units that the key may write: DynamoDB's limit is 1,000, and floods are larger, too."""

KNOWN = 40
"""Payers who have paid by the flooded key before."""

FLOOD = START + timedelta(days=4, hours=9)
FLOOD_S = 10
STYLES = ("new", "repeated")
"""The flood's payments: each a new attempt, which counts, or one of them again and again, which only takes units."""


class Throttled:
    """A `fraud.aws.transport.Transport` to a table in memory. It refuses writes of one partition key above a limit.

    limit  units a second; reads pass always
    """

    def __init__(self, pk: str, limit: float) -> None:
        self.table = Ledger(DECLARED)
        self.now = START
        self.limit = limit
        self.refused = 0
        self._pk = pk
        self._second, self._units = START, 0.0

    def gather(self, requests: Sequence[Request], until: float | None = None) -> list[Result]:
        del until  # nothing here takes time
        return [self._result(request) for request in requests]

    def _result(self, request: Request) -> Result:
        place = key_of(request.payload.get("Key", {}))
        if request.operation != "update_item" or place[0] != self._pk:
            return self.table.gather([request])[0]
        if (second := self.now.replace(microsecond=0)) != self._second:
            self._second, self._units = second, 0.0
        if self._units >= self.limit:
            self.refused += 1
            return ERRORS["throttled"]
        rows = self.table.tables[request.payload["TableName"]]
        before = size_of(rows.get(place, {}))
        (result,) = self.table.gather([request])
        self._units += write_units(before, size_of(rows.get(place, {})))
        return result


class Side:
    """One of two worlds with the same payments: one whose key is throttled, and one whose key is not."""

    def __init__(self, pk: str, limit: float) -> None:
        self.transport = Throttled(pk, limit)
        book = assembly.rule_book("JPY")
        self._store = declared_store(self.transport, TABLES, 400, self.clock, exact=book.exact)
        self._evaluator = Evaluator(self._store, scorer.embedded("JPY"), book, self.clock, 60)
        self._folding = FoldWorker(self.transport.table, TABLES, self, self.clock)
        self._repaired = 0

    def clock(self) -> datetime:
        return self.transport.now

    def send(self, messages: Sequence[Message]) -> None:
        """Drop messages (`fraud.counters.worker.Queue`): no period of the flood is folded."""

    def decide(self, body: Transaction) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self._evaluator.evaluate(body).answer)
        return answer

    def take_in(self, flood: Sequence[Transaction]) -> None:
        """Decide a part of the flood: new payments by the stream, repeats by the API, which counts before it knows."""
        if len(set(flood)) == len(flood):
            results = self._evaluator.evaluate_all(flood)
            assert all(isinstance(result, Evaluation | HotKeyError) for result in results), results
        else:
            for body in flood:
                self._evaluator.evaluate(body)

    def repair(self) -> None:
        """Repair decisions as far as the key lets it: the stream stops at the first failure."""
        for row in islice([*self.transport.table.tables[TABLES.decisions].values()], self._repaired, None):
            body = Transaction.model_validate_json(contents_of(row).transaction)
            kinds = row["uncounted"]["S"].split() if "uncounted" in row else []
            try:
                repair(self._store, self._folding, body, kinds, self.clock())
            except ServiceError:
                break
            self._repaired += 1


class Flooded(NamedTuple):
    """The outcomes of payments by a throttled key, compared with those of the same world without the throttle.

    refused  writes that the key refused
    away     payments that were decided without the counter of the throttled key
    blind    payments that were decided without any counters
    lowered  greatest ratio of the model's odds without the throttle to those with it
    milder   (outcome without the throttle, outcome with it) of the payments that the throttle made milder
    """

    payments: int
    refused: int
    away: int
    blind: int
    equal: int
    severer: int
    lowered: float
    milder: Counter[tuple[str, str]]


def flood(kind: str, style: str, payments: int, seed: int = 1, seconds: int = FLOOD_S) -> Flooded:
    """Flood the key of one kind, and decide `payments` payments by it in both worlds. `style`: one of STYLES."""
    rng, found = random.Random(f"{seed} {kind} {style}"), []
    key = "pair#flooder|flooded" if kind == "pair" else f"{kind}#flooded"
    sides = [Side(key, limit) for limit in (UNITS_A_SECOND, math.inf)]
    for n in range(4 * KNOWN):
        at = FLOOD - timedelta(days=4 - n // KNOWN, minutes=n % KNOWN)
        for side in sides:
            side.transport.now = at
            side.decide(_by_flooded(kind, f"known-{n}", f"known-{n % KNOWN}", at, rng.randrange(500, 3_000)))
    steps, size = seconds * STEPS_A_SECOND, FLOOD_A_SECOND // STEPS_A_SECOND
    for step in range(steps):
        at = FLOOD + timedelta(seconds=step / STEPS_A_SECOND)
        # Large attempts stay longest in a sample; they need not succeed to take the key's units.
        names = [f"flood-{step}-{n}" for n in range(size)]
        batch = [_by_flooded(kind, name, name, at, rng.choice((1, 300_000))) for name in names]
        if style == "repeated":
            batch = [_by_flooded(kind, "again", "again", FLOOD, 300_000)] * size
        asked = [
            _by_flooded(kind, f"asked-{n}", rng.choice((f"known-{n % KNOWN}", f"new-{n}")), at, _amount(rng))
            for n in range(payments * step // steps, payments * (step + 1) // steps)
        ]
        before = rng.randrange(size)
        for side in sides:
            side.transport.now = at
            side.take_in(batch[:before])
            side.repair()
        found += [[side.decide(body) for side in sides] for body in asked]
        for side in sides:
            side.take_in(batch[before:])
    outcomes = [tuple(Outcome(answer["outcome"]) for answer in both) for both in found]
    worse = Counter((free, throttled) for throttled, free in outcomes if throttled.severity() < free.severity())
    return Flooded(
        payments=len(found),
        refused=sides[0].transport.refused,
        away=sum(f"counter:{kind}" in throttled["degraded"] for throttled, _ in found),
        blind=sum("state" in throttled["degraded"] for throttled, _ in found),
        equal=sum(throttled is free for throttled, free in outcomes),
        severer=sum(throttled.severity() > free.severity() for throttled, free in outcomes),
        lowered=max((_odds(free) / _odds(throttled) for throttled, free in found if throttled["score"]), default=1.0),
        milder=Counter({(free.value, throttled.value): n for (free, throttled), n in worse.items()}),
    )


def _odds(answer: Mapping[str, Any]) -> float:
    score: float = answer["score"]
    return score / (1 - score)


def _amount(rng: random.Random) -> int:
    return min(int(rng.lognormvariate(9, 2)) + 1, 2_000_000)


def _by_flooded(kind: str, number: str, payer: str, at: datetime, amount: int) -> Transaction:
    """Return a payment by the flooded key of a kind."""
    sides: dict[str, dict[str, Any]] = {
        "payee": {"type": "p2p", "payee_id": "flooded"},
        "merchant": {"type": "merchant", "payee_id": "flooded"},
        "device": {"type": "p2p", "payee_id": f"friend-of-{payer}", "device_id": "flooded"},
        "instrument": {"type": "top_up", "payee_id": None, "instrument_id": "flooded"},
        "pair": {"type": "p2p", "payer_id": "flooder", "payee_id": "flooded"},
        "payer": {"type": "p2p", "payer_id": "flooded", "payee_id": f"friend-of-{payer}"},
    }
    fields = {"payer_id": payer, "device_id": f"device-of-{payer}"} | sides[kind]
    return payment(transaction_id=f"{kind}-{number}", amount=amount, occurred_at=at, **fields)


def main() -> int:
    """Flood each kind of key in each style, and print the figures. The exit status is 0 if no outcome was milder."""
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance.floods", description=main.__doc__)
    parser.add_argument("--payments", type=int, default=1_000, help="payments by the flooded key, in every flood")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    milder = 0
    for style, kind in itertools.product(STYLES, KINDS):
        flooded = flood(kind, style, options.payments, options.seed)
        changes = {f"{free} to {throttled}": number for (free, throttled), number in flooded.milder.items()}
        milder += flooded.milder.total()
        print(
            f"{kind} flooded by {style} payments, {flooded.refused:,} writes refused: {flooded.payments:,} payments,"
            f" {flooded.away:,} without its counter, {flooded.blind:,} blind; {flooded.equal:,} equal,"
            f" {flooded.severer:,} more severe, {flooded.milder.total()} milder ({listed(changes)});"
            f" the model's odds at most {flooded.lowered:.2f} times lower",
            flush=True,
        )
    return int(milder > 0)


if __name__ == "__main__":
    sys.exit(main())
