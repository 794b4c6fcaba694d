"""Forty-five simulated days: payments counted online, offline and by an oracle, while the fold meets every mishap.

Online is the real store and the real fold on a table in memory. The fold ticks as soon as a period closes, or hours
later. Its queue delivers twice and out of order, to workers that die, race or run out of time. Offline is
InMemoryCounters. The oracle counts a list. Payments come late, after midnight and twice; some are repaired after their
fold, some become known as fraud; and for three days the fold stands still.
`python -m tests.acceptance.forty_five_days` runs it at full size, with the declared keys or (`--random-keys`) with keys
that only the store has.
"""

import argparse
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import NamedTuple

from fraud.aws.transport import Request, Result
from fraud.counters.codec import KEYS, keys_row
from fraud.counters.fold import TickResult
from fraud.counters.in_memory import InMemoryCounters
from fraud.counters.keys import DECLARED, Keys
from fraud.counters.layout import DAY, ENTITIES
from fraud.counters.windows import NAMES, measure
from fraud.counters.worker import RESERVE_MS, FoldWorker, Message
from fraud.labels.label import Parties
from fraud.transaction import MAX_AGE, MAX_AHEAD, Transaction
from models.simulation.simulate import Labelled, simulate
from tests.acceptance.sampling import drawn_keys
from tests.support.deployment import TABLES, declared_store, endless
from tests.support.fakes import counted
from tests.support.in_memory_dynamodb import InMemoryDynamoDB
from tests.support.oracle import Attempts
from tests.support.payments import updates

START = datetime(2026, 3, 1, tzinfo=UTC)
DAYS = 45
STANDSTILL = (START + timedelta(days=24, hours=5), START + timedelta(days=27, hours=5))
QUARTER = timedelta(minutes=15)

LATE, EARLY, REPEATED, LOST = 0.1, 0.02, 0.05, 0.01
"""Shares of payments: up to 12 hours late, up to 5 minutes ahead, sent twice, and lost until they are repaired."""

REPAIRED_AFTER = (timedelta(hours=13), timedelta(hours=60))

TICKED, QUEUED, WORKED = 0.5, 0.7, 0.5
"""Probabilities in a quarter of an hour.

The schedule fires; its tick leaves all work to the queue; the queue is worked off.
"""

DELIVERED_TWICE, KILLED, OUT_OF_TIME, RACED = 0.1, 0.002, 0.01, 0.01
"""Probabilities of mishaps.

A message is delivered again; a worker is killed at a request, is out of time at a page, or races another worker.
"""

KEYED = frozenset(name for name in NAMES if "_distinct_" in name or name == "device_new")
"""Counters that rest on slots. With other keys other ids share a slot, so they differ by the error of the sketch."""

OPEN = {f"{kind.name}_closed": 0 for kind in ENTITIES}
"""Counters that the oracle does not know: no item of these worlds is closed."""


class Figures(NamedTuple):
    """The result of one run.

    payments     number of payments, each with every counter compared online, offline and by the oracle
    counters     number of counters that are compared online
    differences  number of differences by counter; online values count only if they are not stale
    stale        payments whose decision names `profile` as degraded
    wrong        of those, the payments that differ from the oracle
    astray       of those, the payments that came while the fold was not stopped
    longest_lag  the longest time by which the fold was behind
    happened     how often each event happened
    """

    payments: int
    counters: int
    differences: Counter[str]
    stale: int
    wrong: int
    astray: int
    longest_lag: timedelta
    happened: Mapping[str, int]


class KilledError(Exception):
    """The process of a worker was killed."""


class Happening(NamedTuple):
    """An event at a time. Events sort by time, then by number."""

    at: datetime
    number: int
    what: str
    payment: Transaction | None = None


class Mishaps:
    """A `fraud.aws.transport.Transport` to a table, for fold workers.

    A worker may be killed before or after a request, or another worker may write just before it.
    """

    def __init__(self, table: InMemoryDynamoDB, rng: random.Random, happened: Counter[str]) -> None:
        self.table = table
        self.rng = rng
        self.happened = happened
        self.other: Callable[[], object] | None = None

    def gather(self, requests: Sequence[Request], until: float | None = None) -> list[Result]:
        if self.rng.random() < KILLED:
            if self.rng.random() < 0.5:
                self.table.gather(requests, until)
            self.happened["workers killed"] += 1
            raise KilledError
        writes = bool(requests) and requests[0].operation == "update_item"
        if writes and self.other is not None and self.rng.random() < RACED:
            other, self.other = self.other, None
            self.happened["workers raced"] += 1
            other()
        return self.table.gather(requests, until)


class Online:
    """The store and the fold, their clock, and a queue that only promises to deliver at least once."""

    def __init__(self, rng: random.Random, keys: Keys) -> None:
        self.now = START
        self.rng = rng
        self.messages: list[Message] = []
        self.happened: Counter[str] = Counter()
        self._table = table = InMemoryDynamoDB(page=2)
        table.tables[TABLES.profiles][KEYS,] = keys_row(keys)
        self.store = declared_store(table, TABLES, 400, lambda: self.now)
        self.folding = FoldWorker(table, TABLES, self, lambda: self.now, few=0)
        self._mishaps = Mishaps(table, rng, self.happened)
        self._worker = FoldWorker(self._mishaps, TABLES, self, lambda: self.now)

    def send(self, messages: Sequence[Message]) -> None:
        self.messages += messages

    def tick(self) -> TickResult:
        """Run a tick: one that leaves all work to the queue, or one that folds a few items itself and may be killed."""
        self.happened["ticks"] += 1
        self._mishaps.other = self.folding.tick
        stopped = STANDSTILL[0] <= self.now < STANDSTILL[1]
        try:
            due = (self.folding if stopped or self.rng.random() < QUEUED else self._worker).tick()
        except KilledError:
            due = self.folding.tick()
        self.happened["slices queued"] += due.slices
        self.happened["items folded by ticks"] += due.folded
        return due

    def work(self) -> None:
        """Deliver all messages, in random order, some twice."""
        self.rng.shuffle(self.messages)
        while self.messages:
            message = self.messages.pop()
            if self.rng.random() < DELIVERED_TWICE:
                self.messages.insert(self.rng.randrange(len(self.messages) + 1), message)
            self._deliver(message)

    def repair(self, payment: Transaction) -> None:
        """Count a lost payment and fold its items again: until then the folded history lacks it."""
        waiting, self.messages = self.messages, []
        counted(self.store, payment)
        for update in updates(payment):
            self.folding.refold(update.key)
        self.happened["refolds"] += len(self.messages)
        self.work()
        self.messages = waiting

    def learn(self, account: str, bucket: str) -> None:
        """Add one to a fraud bucket of an account, as a label does beside the fold."""
        payload = {
            "TableName": TABLES.profiles,
            "Key": {"pk": {"S": f"account#{account}"}},
            "UpdateExpression": f"ADD {bucket} :one",
            "ExpressionAttributeValues": {":one": {"N": "1"}},
        }
        self._table.gather([Request("update_item", payload)])

    def _deliver(self, message: Message) -> None:
        self._mishaps.other = lambda: self.folding.work(message, endless)
        try:
            done = self._worker.work(message, self._remaining_ms)
        except KilledError:
            self.messages.append(message)
        else:
            self.happened["items folded"] += done.items
            self.happened["periods of a slice folded"] += done.periods

    def _remaining_ms(self) -> int:
        if self.rng.random() < OUT_OF_TIME:
            self.happened["workers out of time"] += 1
            return RESERVE_MS - 1
        return endless()


def happenings(rng: random.Random, payments: Iterable[Labelled]) -> list[Happening]:
    """Return all events, sorted: ticks, work on the queue, payments, repeats, repairs, and frauds that become known."""
    found = list(_quarters(rng))
    for each in payments:
        payment = Transaction.model_validate(each.transaction)
        if each.label == "fraud":
            found.append(Happening(each.reported_at, len(found), "learn", payment))
        at, chance = payment.occurred_at, rng.random()
        if chance < LOST:
            first, last = REPAIRED_AFTER
            found.append(Happening(at + first + rng.random() * (last - first), len(found), "repair", payment))
            continue
        if chance < LOST + LATE:
            at += min(rng.random() * 1.05, 1) * (MAX_AGE - timedelta(seconds=1))
        elif chance < LOST + LATE + EARLY:
            at -= rng.random() * MAX_AHEAD
        found.append(Happening(at, len(found), "pay", payment))
        if rng.random() < REPEATED:
            again = at + rng.random() * (payment.occurred_at + MAX_AGE - at)
            found.append(Happening(again, len(found), "pay", payment))
    return sorted(found)


def _quarters(rng: random.Random) -> Iterator[Happening]:
    for n in range((DAYS + 3) * 96):
        at = START + n * QUARTER
        if n == 0 or rng.random() < TICKED:
            yield Happening(at, -2, "tick")
        if rng.random() < WORKED and not STANDSTILL[0] <= at < STANDSTILL[1]:
            yield Happening(at, -1, "work")


class Comparison:
    """The comparison: it counts every payment online, offline and by the oracle, and compares the three.

    incomparable  counters that are not compared online
    """

    def __init__(self, online: Online, incomparable: frozenset[str]) -> None:
        self.online = online
        self.incomparable = incomparable
        self.offline = InMemoryCounters()
        self.oracle = Attempts(folded=True)
        self.differences: Counter[str] = Counter()
        self.payments = self.stale = self.wrong = self.astray = 0

    def pay(self, payment: Transaction) -> None:
        new = self.oracle.accept(payment)
        expected = self.oracle.measure(payment) | OPEN
        remembered, found = self.offline.count(payment), counted(self.online.store, payment).state
        assert remembered.recounted is found.recounted is not new
        for name in differing(measure(payment, remembered), expected):
            self.differences[f"offline {name}"] += 1
        online = [name for name in differing(measure(payment, found), expected) if name not in self.incomparable]
        self.payments += 1
        if not found.stale:
            self.differences.update(f"online {name}" for name in online)
            return
        self.stale += 1
        self.wrong += bool(online)
        self.astray += not STANDSTILL[0] <= self.online.now < STANDSTILL[1]

    def learn(self, payment: Transaction) -> None:
        """Count a fraud that becomes known, on both of its accounts."""
        self.oracle.learn(payment, self.online.now)
        for move in Parties.of(payment).moves(int(self.online.now.timestamp()) // DAY, 1):
            self.offline.learn(*move)
            self.online.learn(move.account, f"{move.prefix}{move.day}")

    def repair(self, payment: Transaction) -> None:
        self.oracle.accept(payment)
        self.offline.count(payment)
        self.online.repair(payment)


def differing(values: Mapping[str, float], expected: Mapping[str, float]) -> list[str]:
    assert values.keys() == expected.keys()
    return [name for name, value in values.items() if value != expected[name]]


def run(payers: int, seed: int = 1, every: int = 1, keys: Keys = DECLARED) -> Figures:
    """Play the days with `payers` simulated payers and return the figures. All chance comes from `seed`.

    Only one payment in `every` is made. With few payments a tick can read the index of the fold to its end. `keys` are
    those of the stack; offline and the oracle have the declared ones.
    """
    rng = random.Random(seed)
    online = Online(rng, keys)
    incomparable = KEYED if keys != DECLARED else frozenset()
    comparison, lag = Comparison(online, incomparable), 0
    for at, _, what, payment in happenings(rng, islice(simulate(seed, START, DAYS, payers), 0, None, every)):
        online.now = at
        if what == "tick":
            lag = max(lag, online.tick().lag_seconds)
        elif payment is None:
            online.work()
        elif what == "pay":
            online.happened["came over midnight"] += payment.occurred_at.date() < at.date()
            comparison.pay(payment)
        elif what == "learn":
            online.happened["frauds known"] += 1
            comparison.learn(payment)
        elif not STANDSTILL[0] <= at < STANDSTILL[1]:
            online.happened["repaired"] += 1
            comparison.repair(payment)
    return Figures(
        payments=comparison.payments,
        counters=len(NAMES) - len(incomparable),
        differences=comparison.differences,
        stale=comparison.stale,
        wrong=comparison.wrong,
        astray=comparison.astray,
        longest_lag=timedelta(seconds=lag),
        happened=online.happened,
    )


def main() -> None:
    """Run at full size and print the figures. The exit status is 0 if there was no difference."""
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance.forty_five_days", description=main.__doc__)
    parser.add_argument("--payers", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--random-keys", action="store_true", help="keys that only the store has")
    options = parser.parse_args()
    keys = drawn_keys(f"{options.seed}") if options.random_keys else DECLARED
    figures = run(options.payers, options.seed, options.every, keys)
    lines = [f"{number:>9,} {name}" for name, number in figures.happened.items()]
    lines.append(
        f"{DAYS} days, {'random' if options.random_keys else 'declared'} keys: {figures.payments:,} payments"
        f" x {figures.counters} counters, online = offline = oracle: "
        f"{figures.differences.total()} differences; fold stopped for {(STANDSTILL[1] - STANDSTILL[0]).days} days: "
        f"{figures.stale} payments degraded, {figures.wrong} of them not equal; lag {figures.longest_lag}"
    )
    print("\n".join(lines))
    sys.exit(bool(figures.differences))


if __name__ == "__main__":
    main()
