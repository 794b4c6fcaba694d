"""Void: a day of declined attempts uses up no limit on money, and declined attempts still reach every other limit.

A box decides a day of declined attempts of one payer, and 21 declined attempts on one instrument; the time from an
answer until the attempt is void is printed. A random history with results, kills and redelivery on the product's store
is compared, counter by counter, with the oracle. Calls and units of the hot path are printed without and with void.
`python -m tests.acceptance.void` decides 4,000 payments of the history.
"""

import argparse
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain
from statistics import mean
from typing import Any, NamedTuple

from benchmarks import lives
from benchmarks.lives import TODAY
from benchmarks.metering import TABLES as METERED
from benchmarks.metering import MeteredStack, size_of
from fraud.aws.transport import Request, Result
from fraud.counters.layout import PAYER, VOIDED
from fraud.counters.windows import NAMES
from fraud.decisions.evaluation import Evaluator
from fraud.decisions.events import RowChange
from fraud.decisions.resolution import MOVES, Resolution
from fraud.decisions.store import contents_of
from fraud.decisions.void import is_read, void
from fraud.decisions.worker import Resolutions
from fraud.errors import ResolvedError
from fraud.transaction import Transaction
from local.api.client import Client
from local.box import Box
from tests.acceptance.stream import variable
from tests.support import oracle
from tests.support.deployment import TABLES, Deployment, declared_store
from tests.support.fakes import FixedScorer, rule, rule_book
from tests.support.payments import NOON, arrivals, body

A_DAY = 20
"""Payments a day of the payer whose hot path is measured."""

DECLINED = 600_000
"""An amount above the limit of one payment between persons: declined at once, and 24 of them are seven limits of a day.
"""

TRIES = 21
"""One attempt more than an instrument may have in 24 hours."""

POLL_S, WAIT_S = 0.002, 20.0
DENIED = "203.0.113.9"


class Limits(NamedTuple):
    """What the box decided.

    after_a_day     codes of a payment after a day of declined attempts
    after_money     codes of the first payment that takes approved money beyond the limit
    first_limited   number of the attempt on one instrument at which its limit is reached; 0: never
    after_tries     codes of another payer's attempt on it, after TRIES declined ones
    lags            seconds from an answer until its attempt is void, by real time
    """

    after_a_day: list[str]
    after_money: list[str]
    first_limited: int
    after_tries: list[str]
    lags: Sequence[float]

    @property
    def sound(self) -> bool:
        """Tell whether limits on money leave void out, and the instrument's limit does not."""
        return (
            "LIMIT_PAYER_DAY" not in self.after_a_day
            and "LIMIT_PAYER_DAY" in self.after_money
            and self.first_limited == TRIES
            and "LIMIT_INSTRUMENT_DAY" in self.after_tries
        )


def limits(attempts: int = 24) -> Limits:
    """Decide a day of declined attempts and some others in a box."""
    start = datetime(2026, 3, 4, 1, tzinfo=UTC)
    with Box() as box, box.connect() as client:
        reader, lags = _Reader(box), []
        for n in range(attempts):
            at = start + n * timedelta(hours=22) / attempts
            decided = pay(client, f"day-{n}", at, payee_id=f"friend-{n}", amount=DECLINED)
            assert decided["outcome"] == "decline", decided
            lags.append(reader.until_void("payer-1", (n + 1) * DECLINED))
        at = start + timedelta(hours=22)
        after = pay(client, "after", at, type="merchant", payee_id="shop", amount=1_000)
        spent = [
            codes(pay(client, f"spent-{n}", at, type="merchant", payee_id="shop", amount=900_000)) for n in range(3)
        ]
        denial = client.request("PUT", f"/lists/deny/ip/{DENIED}", b'{"reason": "card testing"}', at)
        assert denial.status == 200, denial
        tries = [_try(client, n, at + timedelta(minutes=n)) for n in range(TRIES)]
        assert {each["outcome"] for each in tries} == {"decline"}
        box.settle()
        honest = pay(
            client, "honest", at + timedelta(hours=1), type="top_up", payer_id="honest", payee_id=None,
            instrument_id="card-1", amount=100, device_id=None,
        )  # fmt: skip
    limited = (n for n, each in enumerate(tries, start=1) if "LIMIT_INSTRUMENT_DAY" in codes(each))
    return Limits(codes(after), spent[-1], next(limited, 0), codes(honest), lags)


def pay(client: Client, name: str, at: datetime, **fields: Any) -> dict[str, Any]:
    """Decide a payment and return the decision."""
    sent = body(transaction_id=name, occurred_at=at.isoformat(), **fields)
    answer = client.request("POST", "/decisions", json.dumps(sent).encode(), at)
    assert answer.status == 200, answer
    decided: dict[str, Any] = json.loads(answer.body)
    return decided


def _try(client: Client, n: int, at: datetime) -> dict[str, Any]:
    """Try a card as a tester does: a small amount, another account, from an address that is denied."""
    return pay(
        client, f"try-{n}", at, type="top_up", payer_id=f"tester-{n}", payee_id=None, instrument_id="card-1",
        amount=100, device_id=None, ip=DENIED,
    )  # fmt: skip


def codes(decision: Mapping[str, Any]) -> list[str]:
    """Return the reason codes of a decision."""
    return [reason["code"] for reason in decision["reasons"]]


class _Reader:
    """Looks at a payer's items until all its void attempts are there."""

    def __init__(self, box: Box) -> None:
        self._dynamodb = box.client("dynamodb")
        self._table = variable(box, "COUNTERS_TABLE")

    def until_void(self, payer: str, money: int) -> float:
        """Return the seconds until so much money of the payer is void. Raises TimeoutError after WAIT_S."""
        began = time.monotonic()
        while (waited := time.monotonic() - began) < WAIT_S:
            if self._money(payer) == money:
                return waited
            time.sleep(POLL_S)
        raise TimeoutError(f"{self._money(payer):,} of {money:,} void after {WAIT_S} s")

    def _money(self, payer: str) -> int:
        items = self._dynamodb.query(
            TableName=self._table,
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues={":pk": {"S": PAYER.key(payer)}},
        )["Items"]
        return sum(int(value["N"]) for item in items for name, value in item.items() if name[0] == "v")


# ---- a random history, against the oracle --------------------------------------------------------------------------


class Figures(NamedTuple):
    """What a random history came to.

    payments   distinct payments that were decided
    different  counters of decisions that differ from the oracle
    moneyless  payments that moved no money, and how many of them were told of too late to matter
    reading    payments whose own counters had void money
    killed     how often the reader was killed between two writes
    twice      payers' items whose void money is not that of the payments that moved none
    """

    payments: int
    different: int
    moneyless: int
    late: int
    reading: int
    killed: int
    twice: int

    @property
    def sound(self) -> bool:
        """Tell whether every counter is right, and nothing is void twice."""
        return not self.different and not self.twice


BOOK = rule_book(
    rule("transaction.amount % 4 == 0", id="declines", outcome="decline"),
    rule("transaction.amount % 4 == 1", id="challenges", outcome="challenge"),
    rule("transaction.amount % 12 == 2", id="reviews", outcome="review"),
)
REMEMBERED = timedelta(days=4)
"""Results come for payments of so many days: some too late to matter."""

MONEYLESS = frozenset({"declined", "failed", "reversed"})
"""Statuses of payments that moved no money."""

TOLD = 3
"""Deliveries of every record: each at some time, in any order after the first."""


class KilledError(Exception):
    """The reader was killed."""


class _Killing:
    """The tables of a deployment; the process may be killed before or after each request."""

    def __init__(self, deployed: Deployment, rng: random.Random, share: float) -> None:
        self._deployed = deployed
        self._rng = rng
        self._share = share

    def gather(self, requests: Sequence[Request], until: float | None = None) -> list[Result]:
        del until
        results = []
        for request in requests:
            self._step()
            results += self._deployed.table.gather([request])
            self._step()
        return results

    def _step(self) -> None:
        if self._rng.random() < self._share:
            raise KilledError


class History:
    """A random history: payments, results of earlier ones, and a reader that is killed and gets everything again."""

    def __init__(self, seed: int, kills: float = 0.02) -> None:
        self.rng = random.Random(seed)
        self.deployed = Deployment()
        self.evaluator = Evaluator(self.deployed.store, FixedScorer(0.1), BOOK, self.deployed.clock, 10)
        self.resolutions = Resolutions(self.deployed.table, TABLES.decisions, self.deployed.clock)
        self.oracle = oracle.Attempts(folded=True)
        self.decided: dict[str, Transaction] = {}
        self.stream: list[tuple[RowChange, int]] = []
        self.found: Counter[str] = Counter()
        self._moneyless: dict[str, bool] = {}
        self._void: set[str] = set()
        self._kills = kills

    def decide(self, payment: Transaction) -> None:
        """Decide a payment, or repeat its decision, and compare its counters with the oracle."""
        self.evaluator.evaluate(payment)
        if payment.transaction_id in self.decided:
            return
        self.decided[payment.transaction_id] = payment
        self.oracle.accept(payment)
        row = self._row(payment.transaction_id)
        counters = dict(zip(NAMES, json.loads(contents_of(row).counters), strict=True))
        expected = {name: value for name, value in self.oracle.measure(payment).items() if counters[name] != value}
        self.found["different"] += len(expected)
        self.found["reading"] += counters["payer_void_24h"] > 0
        self._tell(payment.transaction_id, None)

    def resolve(self, name: str) -> None:
        """Change a decision's status in some way that its state allows."""
        before = self._row(name)
        moves = sorted(MOVES[Resolution.of(before).at(self.deployed.now).status])
        asked = [move for move in moves if not move.startswith("expired")]
        if not asked:
            return
        try:
            known = self.resolutions.change(name, self.rng.choice(asked), self.deployed.now)  # type: ignore[arg-type]
        except ResolvedError:
            return
        if known.changed:
            self._tell(name, before)

    def read(self) -> None:
        """Let the reader take all records that are due, some of them again and out of order, until all are done."""
        store = declared_store(self._killing(), TABLES, 400, self.deployed.clock)
        batch = [record for record, _ in self.stream]
        self.stream = [(record, left - 1) for record, left in self.stream if left > 1 and self.rng.random() < 0.9]
        while batch:
            size = self.rng.randint(1, 20)
            try:
                errors = void(store, batch[:size], self.deployed.now)
            except KilledError:
                self.found["killed"] += 1
                store = declared_store(self._killing(), TABLES, 400, self.deployed.clock)
                continue
            assert not any(errors)
            batch = batch[size:]
        self.rng.shuffle(self.stream)

    def twice(self) -> int:
        """Return how many payers have other void money in their items than their payments without money come to."""
        expected: Counter[str] = Counter()
        for name, payment in self.decided.items():
            if name in self._void:
                expected[PAYER.key(payment.payer_id)] += payment.counted_amount
        found: Counter[str] = Counter()
        for (pk, _), item in self.deployed.table.tables[TABLES.counters].items():
            found[pk] += sum(int(value["N"]) for name, value in item.items() if name[0] == "v")
        return sum(expected[pk] != found[pk] for pk in expected.keys() | found.keys())

    def moneyless(self, name: str) -> bool:
        """Tell whether a payment has moved no money."""
        return Resolution.of(self._row(name)).status in MONEYLESS

    def _tell(self, name: str, before: Mapping[str, Any] | None) -> None:
        row = self._row(name)
        self.stream.append((RowChange(str(len(self.stream)), row, before, contents_of(row)), TOLD))
        moneyless = Resolution.of(row).status in MONEYLESS
        if moneyless == self._moneyless.get(name, False):
            return
        payment = self.decided[name]
        self._moneyless[name] = moneyless
        self.found["moneyless" if moneyless else "moved"] += 1
        (self.oracle.void if moneyless else self.oracle.moved)(payment)
        if not is_read(payment, self.deployed.now):
            self.found["late"] += moneyless
        elif moneyless:
            self._void.add(name)
        else:
            self._void.discard(name)

    def _killing(self) -> _Killing:
        return _Killing(self.deployed, self.rng, self._kills)

    def _row(self, name: str) -> Mapping[str, Any]:
        return dict(self.deployed.table.tables[TABLES.decisions][name,])


def history(seed: int, rounds: int, size: int, kills: float = 0.02) -> Figures:
    """Play a random history of `rounds` of `size` payments, five hours apart."""
    run = History(seed, kills)
    for n, arriving in enumerate(arrivals(random.Random(seed), rounds, size)):
        run.deployed.now = NOON + n * timedelta(hours=5)
        run.deployed.fold_all()
        young = [name for name, each in run.decided.items() if each.occurred_at > run.deployed.now - REMEMBERED]
        for name in run.rng.sample(young, min(len(young), size // 2)):
            run.resolve(name)
        run.read()
        for payment in arriving:
            run.decide(payment)
            if run.moneyless(payment.transaction_id) or run.rng.random() < 1 / 4:
                run.read()  # the oracle knows at once, so the reader must have caught up
    return Figures(
        payments=len(run.decided),
        different=run.found["different"],
        moneyless=run.found["moneyless"],
        late=run.found["late"],
        reading=run.found["reading"],
        killed=run.found["killed"],
        twice=run.twice(),
    )


# ---- the hot path's calls and units --------------------------------------------------------------------------------


class Cost(NamedTuple):
    """Calls and units of a payment of a payer with 20 payments a day: means of a day, and its item at the day's end.

    item  bytes of the payer's item, and of the voids in it
    """

    calls: float
    wru: float
    rru: float
    item: int
    of_voids: int


def cost(every: int, a_day: int = A_DAY) -> Cost:
    """Return the cost of a payment where every so many payments of yesterday and today are void; 0: none is.

    a_day  payments of the payer, in the past as well
    """
    stack = MeteredStack(TODAY)
    lives.folded_past(stack.meter, METERED, PAYER, lives.PAYER_ID, a_day)
    calls, spent = [], []
    for day in (-1, 0):
        midnight = TODAY + timedelta(days=day)
        for n, at in enumerate(lives.moments(midnight, timedelta(days=1), a_day, f"void {day}")):
            stack.now, stack.meter.terms, before = at, [], stack.meter.calls
            paid = lives.payment(f"{day} {n}", at, payee_id=lives.other(n))
            stack.evaluator.evaluate(paid)
            if day == 0:
                calls.append(stack.meter.calls - before)
                spent.append([(term.wru, term.rru) for term in stack.meter.terms])
            if every and n % every == 0:
                assert stack.store.void([(paid, 1)]) == [None]
    key = PAYER.key(lives.PAYER_ID), f"d{int(TODAY.timestamp()) // 86_400}"
    item = stack.meter.database.tables[METERED.counters][key]
    voids = {name: value for name, value in item.items() if name == VOIDED or name[0] == "v"}
    wru, rru = (mean(sum(each) for each in units) for units in zip(*map(_columns, spent), strict=True))
    return Cost(mean(calls), wru, rru, size_of(item), size_of(voids))


def _columns(terms: Sequence[tuple[float, float]]) -> Iterator[list[float]]:
    return chain(map(list, zip(*terms, strict=True)))


def main() -> int:
    """Run all parts, and print their figures. The exit status is 0 if every limit and every counter is right."""
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance.void", description=main.__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--size", type=int, default=100, help="payments of a round")
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    decided = limits()
    print(
        f"after a day of 24 declined attempts of {DECLINED:,} yen: {decided.after_a_day or 'approved'}; after approved"
        f" money beyond the limit: {decided.after_money}\nof {TRIES} declined attempts on one instrument its limit is"
        f" reached by number {decided.first_limited}; another payer then: {decided.after_tries}\nlag from answer to"
        f" void: mean {mean(decided.lags):.3f} s, largest {max(decided.lags):.3f} s"
    )
    found = [history(seed, options.rounds, options.size) for seed in range(options.seeds)]
    for each in found:
        print(
            f"{each.payments:,} payments, {each.moneyless:,} of them moved no money ({each.late} told too late to"
            f" matter), the reader killed {each.killed} times and told of everything up to {TOLD} times:"
            f" {each.different} counters differ from the oracle, {each.twice} payers' items differ,"
            f" {each.reading:,} payments read void money"
        )
    costs = {"no payment void": cost(0), "one in ten": cost(10), "one in two": cost(2), "all": cost(1)}
    for name, each in costs.items():
        print(f"hot path, 20 a day, {name:16} calls {each.calls:.2f}  WRU {each.wru:.2f}  RRU {each.rru:.2f}"
              f"  payer's item {each.item:,} bytes, {each.of_voids} of them void")  # fmt: skip
    same = len({(each.calls, each.rru) for each in costs.values()}) == 1
    return 0 if decided.sound and same and all(each.sound for each in found) else 1


if __name__ == "__main__":
    sys.exit(main())
