"""Counters that nobody can forge, and estimates without bias: forgeries, interleavings and hot receivers.

Three parts. *Forgeries* that worked on unkeyed hashes are tried again. *Interleavings* play deliveries of payments,
duplicates, crashes, repairs and raises against a table in memory. Every request and every response is an event of its
own, and a seeded scheduler orders them at random. Levels rise at a few tokens here, so that small items have all states
of large ones. *Hot receivers* get thousands of payments under many keys, by the real limits.
`python -m tests.acceptance.sampling` runs them at full size; docs/decisions/counters.md has the rule (D-072, D-073).
"""

import argparse
import hashlib
import math
import random
import statistics
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from functools import cache
from itertools import count, islice
from typing import Any, NamedTuple

from fraud.aws.transport import ConditionFailed, Request, Result
from fraud.counters import layout, sampling
from fraud.counters.codec import item_of, taking_back, upkeep_update
from fraud.counters.in_memory import InMemoryCounters
from fraud.counters.keys import MAC_BYTES, Keys
from fraud.counters.layout import (
    CLOSED,
    DAY,
    DEVICE,
    LEVELS,
    MERCHANT,
    PAIR,
    PAYEE,
    PAYER,
    SLOTS,
    TOKEN_BYTES,
    TOKENS,
    Item,
    Key,
    Kind,
    Update,
    grade_of,
    leave_of,
    unpacked,
)
from fraud.counters.sampling import FINE_OF_HOUR, Raise, Upkeep
from fraud.counters.store import STEPS, Attempt, Levels
from fraud.counters.windows import measure
from fraud.errors import ServiceError, UnavailableError
from fraud.transaction import UNITS, Transaction
from tests.support.deployment import TABLES
from tests.support.in_memory_dynamodb import InMemoryDynamoDB, key_of
from tests.support.payments import NOON, payment, updates

MIDNIGHT = NOON.replace(hour=0)
ERRORS_ALLOWED = 3.0
"""Most standard errors that the mean error of an estimate may differ from 0."""


def drawn_keys(seed: str) -> Keys:
    """Return the keys of a stack, drawn from a seed."""
    rng = random.Random(seed)
    return Keys(rng.randbytes(32), ((0, rng.randbytes(32)),))


# --- forgeries -------------------------------------------------------------------------------------------------------


class Forgeries(NamedTuple):
    """The result of forgeries that worked while hashes had no key.

    sketch_before   distinct payers that the unkeyed slots show for 40 payers chosen to share two of them
    sketch          mean of the numbers that keyed slots show for them, by many keys
    sketch_range    the least and the largest of these
    twins_before    payments counted of two whose tokens are equal
    twins           payments counted of the same two by another key
    shared_prefix   pairs of bodies whose tokens have the same first 3 bytes under one key, and those of the pairs that
                    have it under another key
    unkeyed         tokens, of 1,000 bodies, whose first 3 bytes an unkeyed hash or a similar body has
    over_midnight   payments counted of those that come before, at and after a rotation, and again afterwards
    """

    sketch_before: float
    sketch: float
    sketch_range: tuple[float, float]
    twins_before: float
    twins: float
    shared_prefix: tuple[int, int]
    unkeyed: int
    over_midnight: tuple[int, int]


FORGED_IDS = 40
SLOTS_SHARED = 2
KEYS_TRIED = 200


def unkeyed_slot(value: str) -> int:
    """Return the slot of an id before slots had a key."""
    return int.from_bytes(hashlib.sha256(value.encode()).digest()[:8]) % SLOTS


class Unkeyed:
    """Tokens and slots as they were before they had keys: `layout.Keyed`."""

    @staticmethod
    def mac(identity: bytes, day: int) -> bytes:
        del day
        return identity[:10]

    @staticmethod
    def slot(kind: str, value: str) -> int:
        del kind
        return unkeyed_slot(value)


class EqualTokens(Unkeyed):
    """Every attempt has one and the same token, as the bodies of a forged collision had."""

    @staticmethod
    def mac(identity: bytes, day: int) -> bytes:
        del identity, day
        return b"collision!"


def counted_by(keys: layout.Keyed, payments: Iterable[Transaction]) -> dict[str, float]:
    """Return the counters of the last payment, when all of them have been counted by these keys."""
    counters, values = InMemoryCounters(keys), {}  # type: ignore[arg-type]
    for each in payments:
        values = measure(each, counters.count(each))
    return values


def forgeries(keys_tried: int = KEYS_TRIED) -> Forgeries:
    """Try the forgeries again, the sketch by so many keys."""
    ids = islice((f"p-{n}" for n in count() if unkeyed_slot(f"p-{n}") < SLOTS_SHARED), FORGED_IDS)
    forged = [payment(transaction_id=f"t-{n}", payer_id=payer) for n, payer in enumerate(ids)]
    shown = [counted_by(drawn_keys(f"sketch {seed}"), forged)["payee_distinct_24h"] for seed in range(keys_tried)]
    twins = [payment(transaction_id="t-1"), payment(transaction_id="t-2", amount=1_300)]
    return Forgeries(
        sketch_before=counted_by(Unkeyed(), forged)["payee_distinct_24h"],
        sketch=statistics.fmean(shown),
        sketch_range=(min(shown), max(shown)),
        twins_before=counted_by(EqualTokens(), twins)["payee_count_24h"],
        twins=counted_by(drawn_keys("twins"), twins)["payee_count_24h"],
        shared_prefix=_shared_prefixes(drawn_keys("one"), drawn_keys("another")),
        unkeyed=_alike_unkeyed(drawn_keys("one")),
        over_midnight=_over_midnight(),
    )


def _shared_prefixes(keys: Keys, others: Keys, bodies: int = 20_000, length: int = 3) -> tuple[int, int]:
    """Find pairs of bodies whose tokens begin alike under `keys`; return their number, and that under `others`."""
    met: dict[bytes, bytes] = {}
    pairs = []
    for n in range(bodies):
        identity = hashlib.sha256(b"%d" % n).digest()
        prefix = keys.mac(identity, 0)[:length]
        if prefix in met:
            pairs.append((met[prefix], identity))
        met[prefix] = identity
    return len(pairs), sum(others.mac(one, 0)[:length] == others.mac(two, 0)[:length] for one, two in pairs)


def _alike_unkeyed(keys: Keys, bodies: int = 1_000, length: int = 3) -> int:
    """Count tokens that begin as the body's identity, its unkeyed BLAKE2b, or the token of a body one byte away."""
    alike = 0
    for n in range(bodies):
        identity = hashlib.sha256(b"%d" % n).digest()
        token = keys.mac(identity, 0)
        near = keys.mac(identity[:-1] + bytes([identity[-1] ^ 1]), 0)
        alike += token[:length] in {
            identity[:length],
            near[:length],
            hashlib.blake2b(identity, digest_size=len(token)).digest()[:length],
        }
    return alike


def _over_midnight() -> tuple[int, int]:
    """Count payments around the midnight of a rotation, half by keys that do not know of it yet; then all again.

    Return the number that the counters then have, and the number that they should have.
    """
    before = drawn_keys("before")
    today = int(MIDNIGHT.timestamp()) // DAY
    rotated = before.rotated(today, b"n" * 32)
    begins = MIDNIGHT + timedelta(days=rotated.tokens[-1][0] - today)
    paid = [
        payment(transaction_id=f"t-{n}", occurred_at=begins + timedelta(minutes=n), device_id=None)
        for n in range(-60, 60)
    ]
    counters = InMemoryCounters(before)
    for n, each in enumerate(paid):
        # Keys that are hours old still serve, until the new key's first day: then every environment has read it.
        counters.keys = before if n % 2 and each.occurred_at < begins else rotated
        counters.count(each)
    counters.keys = rotated
    again = [counters.count(each) for each in paid]
    assert all(state.recounted for state in again)
    return int(measure(paid[-1], again[-1])["payee_count_24h"]), len(paid)


# --- interleavings ---------------------------------------------------------------------------------------------------

LOST, UNACKNOWLEDGED, LATE, KILLED = 0.03, 0.03, 0.03, 0.03
"""Shares of requests: not carried out; carried out, but without a response; carried out when the caller has given up;
and those during which the process is killed, so that a new environment starts and the same body comes again.
"""

STALE = 0.3
"""Share of reads that show an older version of the item, or none. They are eventually consistent."""

DUPLICATES, CONFLICTS = 0.25, 0.1
"""Shares of bodies that are delivered twice, and of bodies whose id turns out to be decided with another body."""

CAPS = 6, 24
"""Range of the number of tokens above which an item's level rises, or above which it closes."""

RISING, MOST_RISEN = 0.02, 2
"""Probability that a payment raises an item without need, and the level that such raises do not pass."""

PAYERS = 12

Process = Generator[Request, Result, None]
Begin = Callable[[Levels, Update], Attempt]
"""Begins an attempt in an environment that knows these levels."""


def presumed(levels: Levels, update: Update) -> Attempt:
    """Begin an attempt as `decisions.store` does."""
    return levels.attempt(update)


class Case(NamedTuple):
    """What an interleaving plays.

    payments  bodies of each of its two periods
    hints     the highest level that environments presume of new items
    exact     the kind is never sampled: its items close
    restored  environments remember levels that the items do not have, as after the table was restored from a backup
    """

    kind: Kind
    payments: int = 16
    hints: int = 2
    exact: bool = False
    restored: bool = False

    @property
    def estimates(self) -> bool:
        """Whether its counts have no bias. A closed item counts no more.

        A restored item begins at a level that only some environments remember, after a look.
        """
        return not (self.exact or self.restored)


GROWN = (Case(PAYEE), Case(MERCHANT), Case(DEVICE))
"""Interleavings of one seed in which levels rise as items grow."""

YOUNG = (Case(MERCHANT, payments=2, hints=3),) * 4
"""Interleavings about the first payments of items, while environments disagree about the level to begin with."""

OTHERS = (
    Case(PAYER, exact=True),
    Case(PAIR, exact=True),
    Case(MERCHANT, payments=8, hints=4, restored=True),
)
"""Interleavings of items that close, and of a restored table: at most once, but estimates are out of the question."""


class Copy(NamedTuple):
    """A body that is delivered.

    conflicting  its id is decided with another body, which is found out after counting
    """

    update: Update
    conflicting: bool


class Flight:
    """A request on its way, then its result on the way back.

    process  waits for the result; None: nobody does
    copy     what the process delivers
    result   None until the request has reached the table
    """

    __slots__ = ("copy", "process", "request", "result")

    def __init__(self, request: Request, process: Process | None = None, copy: Copy | None = None) -> None:
        self.request = request
        self.process = process
        self.copy = copy
        self.result: Result | None = None


class Ledger:
    """What the updates of each attempt added to an item, as the table carried them out.

    counts   payments counted under each token, by weight, less what was taken back
    sums     minor units, in the same way
    present  tokens that are counted and not taken back
    twice    number of updates that counted an attempt which was counted already
    mixed    number of updates that took back another weight than that which was counted
    """

    def __init__(self) -> None:
        self.counts: dict[tuple[Key, bytes], int] = {}
        self.sums: dict[tuple[Key, bytes], int] = {}
        self.present: set[tuple[Key, bytes]] = set()
        self.twice = self.mixed = 0

    def note(self, key: Key, values: Mapping[str, Any]) -> None:
        """Note an update that was carried out: one that counts an attempt, or takes it back."""
        place, value = (key, values[":token"]["B"]), int(values[":v"]["N"])
        count, amount = unpacked(abs(value))
        before = self.counts.get(place, 0)
        if value < 0:
            self.mixed += before != count
            count, amount = -count, -amount
            self.present.discard(place)
        else:
            self.twice += place in self.present
            self.present.add(place)
        self.counts[place] = before + count
        self.sums[place] = self.sums.get(place, 0) + amount


class Interleaving:
    """Deliveries to a few environments, in one order of all their requests and responses.

    begin     begins an attempt: `presumed`, or a planted fault
    happened  how often each thing happened
    """

    def __init__(self, rng: random.Random, case: Case, begin: Begin, happened: Counter[str]) -> None:
        self.rng = rng
        self.case = case
        self.begin = begin
        self.happened = happened
        self.table = InMemoryDynamoDB()
        self.versions: dict[tuple[str, ...], list[Mapping[str, Any]]] = defaultdict(list)
        self.ledger = Ledger()
        self.copies = self._copies()
        self.environments = [self._environment() for _ in range(rng.randint(2, 4))]
        self.keys = {(key.pk, key.sk): key for key in (copy.update.key for copy in self.copies)}
        self.cap = rng.randint(*CAPS)
        self.width = rng.randint(2, 8)
        self.waiting: list[Copy] = []
        self.flights: list[Flight] = []
        self.faults = True

    def run(self) -> None:
        """Deliver everything, then many of the bodies that are not conflicting once more, without faults."""
        rng = self.rng
        self.waiting = list(self.copies)
        for copy in self.copies:
            if rng.random() < DUPLICATES:
                self._again(copy)
        self._drain()
        self.faults = False
        self.waiting = [copy for copy in self.copies if not copy.conflicting and self._comes_last(copy)]
        self._drain()

    def _comes_last(self, copy: Copy) -> bool:
        """Tell whether a body comes again at the end: a third of those that are counted, and all others."""
        return self.rng.random() < 1 / 3 or (copy.update.key, copy.update.token) not in self.ledger.present

    def _copies(self) -> list[Copy]:
        """Draw bodies of two periods: those of the first arrive first, but some are late."""
        rng, kind = self.rng, self.case.kind
        keys = Keys(rng.randbytes(32), ((0, rng.randbytes(32)),))
        drawn = []
        for period in (0, 1):
            for paid in rng.sample(pool(kind, period), self.case.payments):
                update = next(update for update in layout.updates(paid, keys) if update.key.kind is kind)
                arrives = period + rng.random() + (rng.random() < 0.1)
                drawn.append((arrives, Copy(update, rng.random() < CONFLICTS)))
        return [copy for _, copy in sorted(drawn, key=lambda each: each[0])]

    def _environment(self) -> Levels:
        """Start an environment, which may have met items of the entity before: right, stale or no hints."""
        levels, key = Levels(), self.copies[0].update.key
        if self.case.exact or self.rng.random() < 0.4:
            return levels
        if self.case.restored:
            for number in (0, 1):
                levels.learn(key._replace(period=key.period + number), self.rng.randint(1, self.case.hints))
        else:
            wanted = self.rng.randint(1, self.case.hints)
            before = next(level for level in range(LEVELS) if sampling.start_level(key.kind, level) == wanted)
            levels.learn(key._replace(period=key.period - 1), before)
        return levels

    def _drain(self) -> None:
        """Let the scheduler pick the next event, until nothing is left."""
        rng, flights = self.rng, self.flights
        while self.waiting or flights:
            if self.waiting and len(flights) < self.width and (not flights or rng.random() < 0.5):
                copy = self.waiting.pop(0)
                process = self._deliver(copy)
                flights.append(Flight(next(process), process, copy))
                continue
            place = rng.randrange(len(flights))
            flight, flights[place] = flights[place], flights[-1]
            flights.pop()
            if flight.result is None:
                self._land(flight)
            else:
                self._answer(flight)

    def _again(self, copy: Copy) -> None:
        """Let a body come again: at once, or later."""
        self.waiting.insert(self.rng.randint(0, len(self.waiting)), copy)

    # --- the network

    def _land(self, flight: Flight) -> None:
        """Let a request reach the table, or not."""
        fate = self._fate(flight)
        if fate is not None:
            self.happened[fate] += 1
        if fate == "killed":
            if self.rng.random() < 0.5:
                self._carry_out(flight.request)
            self.environments[self.rng.randrange(len(self.environments))] = Levels()
            self._again(flight.copy)
            return
        if fate is None:
            flight.result = self._carry_out(flight.request)
        else:
            if fate == "late":
                self.flights.append(Flight(flight.request))
            elif fate == "unacknowledged":
                self._carry_out(flight.request)
            flight.result = UnavailableError("DeadlineExceeded")
        if flight.process is not None:
            self.flights.append(flight)

    def _fate(self, flight: Flight) -> str | None:
        """Draw what goes wrong with a request, if anything. One that nobody waits for can only be lost."""
        drawn = self.rng.random() if self.faults else 1.0
        if flight.process is None:
            return "lost" if drawn < LOST else None
        for fate, share in FATES.items():
            drawn -= share
            if drawn < 0:
                return fate
        return None

    def _carry_out(self, request: Request) -> Result:
        if request.operation == "get_item":
            return self._read(key_of(request.payload["Key"]))
        (result,) = self.table.gather([request])
        place = key_of(request.payload["Key"])
        if isinstance(result, ConditionFailed):
            self.happened["refused"] += 1
        else:
            self.versions[place].append(self.table.tables[TABLES.counters][place])
            if ":token" in (values := request.payload["ExpressionAttributeValues"]):
                self.ledger.note(self.keys[place], values)
        return result

    def _read(self, place: tuple[str, ...]) -> Mapping[str, Any]:
        """Read an item: its last version, or an earlier one."""
        versions = self.versions[place]
        at = len(versions) - 1
        if self.faults and self.rng.random() < STALE:
            at -= self.rng.randint(0, 3)
        return {"Item": versions[at]} if at >= 0 else {}

    # --- one delivery

    def _answer(self, flight: Flight) -> None:
        """Let a response reach the process that waits for it."""
        assert flight.process is not None
        try:
            request = flight.process.send(flight.result)
        except StopIteration:
            return
        self.flights.append(Flight(request, flight.process, flight.copy))

    def _deliver(self, copy: Copy) -> Process:
        """Count an attempt in an environment; take it back when it is conflicting; else send the upkeep of its item."""
        levels = self.rng.choice(self.environments)
        attempt = self.begin(levels, copy.update)
        for _ in range(STEPS):
            attempt.take((yield attempt.request(TABLES.counters)))
            if attempt.settled:
                break
        else:
            attempt.give_up()
        if attempt.item is not None:
            levels.learn(copy.update.key, attempt.item.level)
        failed = attempt.error is not None
        if not copy.conflicting:
            self.flights += [Flight(_update(upkeep_update(change))) for change in self._upkeep(attempt)]
            self.happened["repaired"] += failed
        elif attempt.revocable is not None:
            result = yield _update(taking_back(*attempt.revocable))
            failed |= isinstance(result, ServiceError)
        if failed:
            self._again(copy)

    def _upkeep(self, attempt: Attempt) -> list[Upkeep]:
        """Return what the item needs by the rule, and raises that the rule would ask for in larger items."""
        update, item = attempt.update, attempt.item
        if item is None:
            return []
        key = update.key._replace(period=update.key.period - 1)
        row = self._read((key.pk, key.sk)).get("Item")
        before = None if row is None else item_of(row)
        changes = list(sampling.upkeep(update, item, before, exact=self.case.exact))
        crowded = item.token_count() > self.cap
        if self.case.exact:
            if crowded and item.level < CLOSED:
                changes.append(Raise(update.key, item.level, CLOSED))
        elif crowded:
            to = min(item.level_for(self.cap // 2), LEVELS - 1)
            changes += [Raise(update.key, item.level, to)] if to > item.level else []
        elif item.level < MOST_RISEN and self.rng.random() < RISING:
            changes.append(Raise(update.key, item.level, item.level + 1))
        if before is not None and 0 < before.level < MOST_RISEN and self.rng.random() < RISING:
            changes.append(Raise(key, before.level, before.level + 1, FINE_OF_HOUR))
        self.happened.update(type(change).__name__ for change in changes)
        return changes


FATES = {"lost": LOST, "unacknowledged": UNACKNOWLEDGED, "late": LATE, "killed": KILLED}


def _update(payload: Mapping[str, Any]) -> Request:
    return Request("update_item", {"TableName": TABLES.counters, **payload})


@cache
def pool(kind: Kind, period: int, size: int = 60) -> list[Transaction]:
    """Return payments to or by one entity of a kind, in one of two neighbouring periods. Pairs have only one."""
    rng = random.Random(f"{kind.name} {period}")
    starts = NOON if kind in {MERCHANT, PAIR} else MIDNIGHT
    length = min(kind.period, DAY)
    paid = []
    for n in range(size):
        begins = starts + timedelta(seconds=0 if kind is PAIR else period * length)
        fields = {
            "transaction_id": f"t-{period}-{n}",
            "type": "merchant" if kind is MERCHANT else "p2p",
            "payer_id": "payer-1" if kind in {PAYER, PAIR} else f"payer-{rng.randrange(PAYERS)}",
            "payee_id": "payee-1" if kind in {PAYEE, MERCHANT, PAIR} else f"payee-{rng.randrange(PAYERS)}",
            "amount": amount_of(rng, 1),
            "occurred_at": begins + timedelta(seconds=rng.randrange(min(length, DAY // 2))),
        }
        paid.append(payment(**fields))
    return paid


MEAN = 1_500
"""Mean amount in minor units of JPY: one and a half units."""


def amount_of(rng: random.Random, sigma: float) -> int:
    """Draw a lognormal amount whose mean is MEAN."""
    return max(round(rng.lognormvariate(math.log(MEAN) - sigma**2 / 2, sigma)), 1)


def broken(played: Interleaving) -> Counter[str]:
    """Check what must hold after an interleaving. Return how often each guarantee was broken."""
    ledger = played.ledger
    found = Counter({"counted twice": ledger.twice})
    for place, key in played.keys.items():
        item = item_of(played.table.tables[TABLES.counters][place])
        copies = [copy for copy in played.copies if copy.update.key == key]
        noted = [at for at in ledger.counts if at[0] == key]
        total = unpacked(sum(item.buckets[key.kind.scales[-1]].values()))
        found["wrong total"] += total != (sum(ledger.counts[at] for at in noted), sum(ledger.sums[at] for at in noted))
        counted = [copy.update for copy in copies if (key, copy.update.token) in ledger.present]
        kept = {update.token for update in counted if update.leave >= item.level or item.level == CLOSED}
        found["wrong tokens"] += set().union(*item.tokens.values()) != kept
        found["wrong slots"] += item.slots != _slots(copies, ledger, closed=item.level == CLOSED)
        found.update(name for copy in copies for name in _broken_for(copy, ledger, item.level))
    return +found


def _slots(copies: Iterable[Copy], ledger: Ledger, *, closed: bool) -> dict[int, int]:
    """Return the slots that an item must have: those of all bodies that it counted or, unless it closed, only saw."""
    slots: dict[int, int] = {}
    for update, conflicting in copies:
        counted = (update.key, update.token) in ledger.counts
        if update.slot is not None and (counted or not (conflicting or closed)):
            slots[update.hour] = slots.get(update.hour, 0) | 1 << update.slot
    return slots


def _broken_for(copy: Copy, ledger: Ledger, level: int) -> Iterator[str]:
    """Yield the guarantees that were broken for one body: it has no weight in the item, or one."""
    update, conflicting = copy
    at = update.key, update.token
    number, amount = ledger.counts.get(at, 0), ledger.sums.get(at, 0)
    weights = {update.weight(each) for each in range(level + 1)} if level < CLOSED else {1}
    one_weight = number in weights or number == 0
    part_of_one = conflicting and 0 < number < max(weights)  # another delivery of it took back another weight
    if amount != number * update.amount or not (one_weight or part_of_one):
        yield "not one weight"
    elif not conflicting and not number and update.leave >= level:
        yield "neither counted nor outside"


class Errors(NamedTuple):
    """Relative errors of an estimate over many seeds: (estimate - truth) / truth."""

    mean: float
    deviation: float
    seeds: int

    @classmethod
    def of(cls, errors: Sequence[float]) -> "Errors":
        return cls(statistics.fmean(errors), statistics.stdev(errors), len(errors)) if len(errors) > 1 else cls(0, 0, 0)

    @property
    def standard_error(self) -> float:
        """The standard error of the mean."""
        return self.deviation / math.sqrt(self.seeds)

    @property
    def score(self) -> float:
        """The mean in standard errors; 0 when all errors are 0."""
        return self.mean / self.standard_error if self.deviation else 0.0

    def __str__(self) -> str:
        return f"{self.mean:+.2%} +- {self.standard_error:.2%} ({self.score:+.1f} standard errors)"


class Interleaved(NamedTuple):
    """The result of the interleavings of many seeds; all of `broken` must be 0.

    counts, sums  errors of each seed's interleavings together
    happened      how often each thing happened
    """

    played: int
    broken: Counter[str]
    counts: Errors
    sums: Errors
    happened: Counter[str]

    @property
    def biased(self) -> bool:
        """Whether the mean error of counts or of sums differs from 0 by more than chance explains."""
        return max(abs(self.counts.score), abs(self.sums.score)) > ERRORS_ALLOWED


def interleave(seeds: Iterable[int], cases: Sequence[Case], begin: Begin = presumed) -> Interleaved:
    """Play these cases for each seed. All chance comes from the seed."""
    happened, faults = Counter[str](), Counter[str]()
    counts, sums, played = [], [], 0
    for seed in seeds:
        estimate, truth = [0, 0], [0, 0]
        for number, case in enumerate(cases):
            one = Interleaving(random.Random(f"{seed} {number} {case.kind.name} {case[1:]}"), case, begin, happened)
            one.run()
            faults += broken(one)
            for update, conflicting in one.copies:
                counted = one.ledger.counts.get((update.key, update.token), 0)
                happened["conflicting bodies left over"] += conflicting and counted > 0
                if not conflicting and case.estimates:
                    estimate = [estimate[0] + counted, estimate[1] + counted * update.amount]
                    truth = [truth[0] + 1, truth[1] + update.amount]
            happened["bodies"] += len(one.copies)
            happened["taken back with another weight"] += one.ledger.mixed
        played += len(cases)
        if truth[0]:
            counts.append(estimate[0] / truth[0] - 1)
            sums.append(estimate[1] / truth[1] - 1)
    return Interleaved(played, faults, Errors.of(counts), Errors.of(sums), happened)


# --- planted faults


class Heavier(Attempt):
    """A planted fault: one attempt in a hundred counts twice its weight. That is a bias of one per cent."""

    def request(self, table: str) -> Request:
        request = super().request(table)
        values = request.payload.get("ExpressionAttributeValues", {})
        if ":v" in values and int.from_bytes(self.update.token[:4]) % 100 == 0:
            values[":v"] = {"N": str(2 * int(values[":v"]["N"]))}
        return request


def heavier(levels: Levels, update: Update) -> Attempt:
    return Heavier(update, levels.presumed(update.key))


def looking(levels: Levels, update: Update) -> Attempt:
    """A planted fault: an environment looks first, and another may begin the item meanwhile at a lower level."""
    return Attempt(update, levels.presumed(update.key))


def own_level(levels: Levels, update: Update) -> Attempt:
    """A planted fault: where no level is known, an attempt begins the item at the level of its own hash."""
    return Attempt(update, levels.presumed(update.key) or min(update.leave, 3))


# --- hot receivers ---------------------------------------------------------------------------------------------------

SMALL, LARGE = 12_000, 10
"""Payments of one minor unit, and large ones after them: how a mule would hide these among the others."""

LARGE_AMOUNT = 900_000

SIGMAS = (0, 1, 2)
"""Spreads of lognormal amounts: all alike, as in a shop, as between anybody."""

STEADY, BURST = 3_000, 12
PLACES = (("steady", PAYEE, STEADY), ("burst", PAYEE, BURST), ("steady", MERCHANT, STEADY))
"""Hot receivers, with the seconds within which the small payments come."""


@cache
def hot(kind: Kind, seconds: int) -> list[Update]:
    """Return the updates of a hot receiver: small payments, evenly spread over so many seconds, then large ones."""
    return [_of_bucket(kind, int(n * seconds / SMALL) // 10, n >= SMALL) for n in range(SMALL + LARGE)]


@cache
def _of_bucket(kind: Kind, bucket: int, large: bool) -> Update:  # noqa: FBT001 - of no public function
    """Return the update of a payment in one of the buckets of 10 s after noon. Its token is not used."""
    paid = payment(
        type="merchant" if kind is MERCHANT else "p2p",
        amount=LARGE_AMOUNT if large else 1,
        occurred_at=NOON + timedelta(seconds=10 * bucket),
    )
    return next(update for update in updates(paid) if update.key.kind is kind)


def draws(keys: Keys, day: int = 0) -> list[tuple[bytes, int]]:
    """Return token and drawn number, as in `layout.updates`, of as many attempts as a hot receiver has."""
    hashed = hashlib.blake2b(key=keys.tokens[0][1], digest_size=MAC_BYTES)
    macs = []
    for n in range(SMALL + LARGE):
        each = hashed.copy()
        each.update(b"%d" % n)
        macs.append(each.digest())
    assert macs[-1] == keys.mac(b"%d" % (SMALL + LARGE - 1), day), "not the keyed hash"
    return [(mac[:TOKEN_BYTES], leave_of(mac, 0)) for mac in macs]


def count_in(item: Item, moved: Iterable[Update], drawn: Iterable[tuple[bytes, int]]) -> None:
    """Count attempts in an item one after another, as `in_memory.InMemoryCounters` does."""
    for update, (token, number) in zip(moved, drawn, strict=True):
        if number + update.grade >= item.level:
            leave = min(number + update.grade, LEVELS - 1)
            attempt = update._replace(tokens=TOKENS[leave], token=token, leave=leave)
            item.apply(attempt)
            for change in sampling.upkeep(attempt, item, None, exact=False):
                if isinstance(change, Raise):
                    sampling.raised(item, change)


def totals(item: Item) -> tuple[int, int]:
    """Return count and minor units of an item."""
    return unpacked(sum(item.buckets["h"].values()))


class Hot(NamedTuple):
    """The result of hot receivers under many keys.

    hidden  keys under which not all large payments are counted exactly, by pace and kind
    levels  number of keys by the item's level at the end, by pace and kind
    small   errors of the count of the small payments, by pace and kind
    spread  errors of count and of sum, by kind and sigma
    """

    hidden: Mapping[tuple[str, str], int]
    levels: Mapping[tuple[str, str], Counter[int]]
    small: Mapping[tuple[str, str], Errors]
    spread: Mapping[tuple[str, int], tuple[Errors, Errors]]

    @property
    def scores(self) -> list[float]:
        """The mean errors in standard errors."""
        both = [errors for pair in self.spread.values() for errors in pair]
        return [errors.score for errors in (*self.small.values(), *both)]


def heat(seeds: Iterable[int], spread_every: int = 8) -> Hot:
    """Send payments to hot receivers, under one key for each seed.

    spread_every  amounts of all sigmas are tried under one key in so many
    """
    hidden, levels = Counter[tuple[str, str]](), defaultdict[tuple[str, str], Counter[int]](Counter)
    small, spread = defaultdict[Any, list[float]](list), defaultdict[Any, list[tuple[float, float]]](list)
    for seed in seeds:
        drawn = draws(drawn_keys(f"hot {seed}"))
        for pace, kind, seconds in PLACES:
            item, moved, place = Item(), hot(kind, seconds), (pace, kind.name)
            count_in(item, moved[:SMALL], drawn[:SMALL])
            number, amount = totals(item)
            count_in(item, moved[SMALL:], drawn[SMALL:])
            hidden[place] += totals(item) != (number + LARGE, amount + LARGE * LARGE_AMOUNT)
            levels[place][item.level] += 1
            small[place].append(number / SMALL - 1)
        for kind in (PAYEE, MERCHANT) if seed % spread_every == 0 else ():
            for sigma in SIGMAS:
                item, moved = Item(), of_sigma(kind, sigma)
                count_in(item, moved, drawn[:SMALL])
                number, amount = totals(item)
                truth = sum(update.amount for update in moved)
                spread[kind.name, sigma].append((number / SMALL - 1, amount / truth - 1))
    return Hot(
        hidden,
        levels,
        {place: Errors.of(errors) for place, errors in small.items()},
        {place: tuple(map(Errors.of, zip(*errors, strict=True))) for place, errors in spread.items()},
    )


@cache
def of_sigma(kind: Kind, sigma: int) -> list[Update]:
    """Return the updates of a steady hot receiver, with lognormal amounts in the place of the small ones."""
    rng = random.Random(sigma)
    drawn = [amount_of(rng, sigma) for _ in range(SMALL)]
    moved = hot(kind, STEADY)[:SMALL]
    return [
        update._replace(amount=amount, grade=grade_of(amount, UNITS["JPY"]))
        for update, amount in zip(moved, drawn, strict=True)
    ]


# --- the lines -------------------------------------------------------------------------------------------------------

SEVERAL = 4.0
"""Most standard errors of a mean error that is one of a score of them."""

CRUDE = 10
"""Planted faults that are crude are looked for in one seed of so many."""

Line = tuple[bool, str]
"""Whether a requirement is met, and the figures."""


def forged(found: Forgeries) -> Iterator[Line]:
    """Yield the lines about forgeries."""
    text = (
        f"{FORGED_IDS} payers chosen to share slots showed as {found.sketch_before}; by other keys they show "
        f"as {found.sketch:.1f} on average ({found.sketch_range[0]} to {found.sketch_range[1]})"
    )
    yield found.sketch_before < SLOTS_SHARED + 0.1 and abs(found.sketch - FORGED_IDS) < 1, text
    yield (
        (found.twins_before, found.twins) == (1, 2),
        f"two bodies with one token were counted {found.twins_before:.0f} time, with keyed tokens {found.twins:.0f}",
    )
    pairs, again = found.shared_prefix
    text = (
        f"{pairs} pairs of tokens that begin alike by one key, {again} of them by another; "
        f"{found.unkeyed} tokens begin as an unkeyed hash, or as the token of a body one bit away"
    )
    yield pairs > 0 == again == found.unkeyed, text
    counted, sent = found.over_midnight
    yield counted == sent, f"{counted} of {sent} payments counted over the midnight of a rotation, then all repeated"


def kept(grown: Interleaved, young: Interleaved, others: Interleaved) -> Iterator[Line]:
    """Yield the lines about interleavings."""
    found, happened = grown.broken + young.broken + others.broken, grown.happened + young.happened + others.happened
    played = grown.played + young.played + others.played
    told = ", ".join(f"{number:,} {name}" for name, number in sorted(happened.items()))
    yield not found, f"{played:,} interleavings, guarantees broken: {dict(found)}; {told}"
    yield not grown.biased, f"growing items: counts {grown.counts}, sums {grown.sums}, {grown.counts.seeds} seeds"
    yield not young.biased, f"beginning items: counts {young.counts}, sums {young.sums}, {young.counts.seeds} seeds"


def planted(name: str, found: Interleaved) -> Line:
    """Return the line about a planted fault, which must be found."""
    return found.biased, f"planted: {name}: counts {found.counts}, sums {found.sums}, {found.counts.seeds} seeds"


def heated(hot_receivers: Hot) -> Iterator[Line]:
    """Yield the lines about hot receivers."""
    for place, hidden in hot_receivers.hidden.items():
        levels = dict(sorted(hot_receivers.levels[place].items()))
        small = hot_receivers.small[place]
        text = (
            f"{' '.join(place)}: {LARGE} large payments behind {SMALL:,} small ones are hidden under {hidden} of "
            f"{small.seeds} keys; levels {levels}; error of the count {small.deviation:.1%}, mean {small}"
        )
        yield not hidden, text
    for (kind, sigma), (counts, sums) in hot_receivers.spread.items():
        text = (
            f"{kind} sigma {sigma}: error of the count {counts.deviation:.1%}, mean {counts}; "
            f"error of the sum {sums.deviation:.1%}, mean {sums}; {counts.seeds} keys"
        )
        yield max(abs(counts.score), abs(sums.score)) <= SEVERAL, text


def lines(seeds: range) -> Iterator[Line]:
    """Yield all lines."""
    yield from forged(forgeries())
    yield from kept(interleave(seeds, GROWN), interleave(seeds, YOUNG), interleave(seeds[::2], OTHERS))
    yield planted("one attempt in 100 counts twice its weight", interleave(seeds, GROWN, heavier))
    yield planted("an environment looks before it begins an item", interleave(seeds, YOUNG, looking))
    yield planted("an item begins at its first attempt's level", interleave(seeds[::CRUDE], YOUNG, own_level))
    yield from heated(heat(seeds))


def main() -> None:
    """Run at full size and print the figures. The exit status is 0 if every line is met."""
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance.sampling", description=main.__doc__)
    parser.add_argument("--seeds", type=int, default=2_000)
    parser.add_argument("--first", type=int, default=1)
    options = parser.parse_args()
    all_met = True
    for met, text in lines(range(options.first, options.first + options.seeds)):
        print("met " if met else "MISSED", text, flush=True)
        all_met &= met
    sys.exit(not all_met)


if __name__ == "__main__":
    main()
