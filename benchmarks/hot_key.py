"""One hot receiver at any rate: size of its items, units and dollars of a payment, and errors of its counts.

Payments come as a Poisson process to ENVIRONMENTS environments. The product's own attempts, requests and upkeep run
on a metered table in memory, each one round trip after its cause. So concurrent payments still see the old level, and
what that refuses is charged. Most payments to a hot receiver are outside its sample and only read. These are not
played but integrated, unless something is changing. A first day has no past; `steady` is the time after it.

`wru` and `rru` are the units of a payment for all items of the receiver: its own, and the earlier ones that are read.
`refused` and `slots` are parts of `wru`: refused updates, and slots alone. `rru_per_s` are all reads of the
receiver's items, of which DynamoDB serves 3,000 a second before it splits them, and of one item for good. `count_off`
is the error of the count of a period (merchant: hour, payee: day), `1h_off` of the last hour's: root mean squares
over the run. `count_se` and `1h_se` are the standard errors that the weights of the counted payments imply. Dollars
are on-demand prices, as in `capacity`. `worst` is the dearest rate: at or a little above the cap of the tokens, where
most payments are still counted.
"""

import heapq
import math
import random
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from itertools import accumulate, count
from typing import Any, NamedTuple

from benchmarks import lives, table
from benchmarks.capacity import PRICES
from benchmarks.lives import MEAN_AMOUNT, PAYEE_ID, TODAY
from benchmarks.metering import read_units, size_of, write_units
from fraud.aws.client import BACKOFF_S, Timeouts
from fraud.aws.transport import ConditionFailed, Request, Result
from fraud.counters import sampling
from fraud.counters.codec import EARLIER, item_of, upkeep_update
from fraud.counters.layout import (
    DAY,
    LEVELS,
    MERCHANT,
    PAYEE,
    SCALES,
    SLOTS,
    TOKEN_BYTES,
    TOKENS,
    Item,
    Key,
    Kind,
    State,
    Update,
    grade_of,
    leave_of,
    unpacked,
)
from fraud.counters.store import STEPS, Attempt, Levels
from fraud.counters.windows import measure
from fraud.errors import ServiceError, UnavailableError
from fraud.transaction import UNITS, Transaction
from tests.support.in_memory_dynamodb import FOLD, clauses, holds, key_of

RATES = (0.003, 0.01, 0.03, 0.1, 0.3, 1, 10, 100, 1_000)
"""Payments a second."""

TYPES: Mapping[Kind, str] = {PAYEE: "p2p", MERCHANT: "merchant"}
ENVIRONMENTS = 200
ROUND_TRIP_S = 0.01
SIGMA = 1.0
"""Sigma of the amounts: lognormal, with the mean MEAN_AMOUNT."""

START = int(TODAY.timestamp())
HOUR, MINUTES_5 = 3600, SCALES["m"]
STEADY_S: Mapping[Kind, float] = {PAYEE: DAY, MERCHANT: 4 * HOUR}
"""Seconds of steady state that are measured."""

NEAR_CAP: Mapping[Kind, Sequence[float]] = {PAYEE: (0.95, 1.1, 1.3, 1.6), MERCHANT: (0.85, 0.92, 1, 1.1)}
"""Payments in a period, in caps, among which the dearest rate is searched."""

UNAWARE = 5
"""Payments to each environment after which all of them are taken to know a level: e ** -5 of them do not."""

KEY_LIMIT, MUCH = 1_000, 400
"""Write units a second that a key may have, and those that only its first seconds may need."""

NEVER = math.inf
MANY = 100
"""Mean from which on a Poisson number is drawn as a normal one."""


class Crowd:
    """Payments drawn at random: amounts, and the levels at which they leave a sample."""

    def __init__(self, rng: random.Random, size: int = 20_000) -> None:
        self._rng = rng
        self._pools: dict[int, list[int]] = defaultdict(list)
        for _ in range(size):
            amount = max(1, round(rng.lognormvariate(math.log(MEAN_AMOUNT) - SIGMA**2 / 2, SIGMA)))
            self._pools[grade_of(amount, UNITS["JPY"])].append(amount)
        self._grades = sorted(self._pools)
        at = [
            [len(self._pools[grade]) / 2 ** max(level - grade, 0) for grade in self._grades] for level in range(LEVELS)
        ]
        self._shares = [list(accumulate(weights)) for weights in at]
        self.within: list[float] = [weights[-1] / size for weights in self._shares]
        """Share of the payments that are in a sample, by its level."""

    def inside(self, level: int) -> tuple[int, int, bytes]:
        """Draw amount, grade and keyed hash of a payment that is in the sample of a level."""
        shares = self._shares[level]
        grade = self._grades[bisect_right(shares, self._rng.random() * shares[-1])]
        amount = self._pools[grade][int(self._rng.random() * len(self._pools[grade]))]
        drawn = self._rng.getrandbits(32) << max(level - grade, 0) & 0xFFFFFFFF
        return amount, grade, self._rng.randbytes(TOKEN_BYTES) + drawn.to_bytes(4)

    def outside(self, level: int) -> tuple[int, int, bytes]:
        """Draw a payment that is not in the sample of a level above 0."""
        while leave_of((drawn := self.inside(0))[2], drawn[1]) >= level:
            pass
        return drawn


class Row:
    """A stored item: its attributes, with sets as Python's, its size in bytes, and the item as `item_of` reads it.

    Size and item are kept in step, attribute by attribute: an item has thousands of parts, and an update changes five.
    """

    def __init__(self, key: Mapping[str, Any]) -> None:
        self.attributes: dict[str, Any] = dict(key)
        self.size = size_of(key)
        self.item = Item()

    @property
    def earlier(self) -> Item:
        """The item as a payment of a later period reads it."""
        return item_of({name: self.attributes[name] for name in EARLIER if name in self.attributes})

    def narrowed(self, result: Result, attempt: Attempt) -> Result:
        """Return a result with the attributes that an attempt looks at: its level, and the set of its token."""
        names = ("pk", "l", attempt.update.tokens)
        seen = {name: self.attributes[name] for name in names if name in self.attributes}
        if isinstance(result, ConditionFailed):
            return ConditionFailed(seen)
        return result if isinstance(result, ServiceError) else dict.fromkeys(result, seen)

    def change(self, payload: Mapping[str, Any]) -> None:
        """Carry out an update whose condition holds."""
        names, values = payload.get("ExpressionAttributeNames", {}), payload.get("ExpressionAttributeValues", {})
        for verb, given, kept, value in clauses(payload["UpdateExpression"]):
            name = names.get(given, given)
            if verb == "REMOVE":
                self._remove(name)
            elif verb == "SET":
                if not (kept and name in self.attributes):
                    self._set(name, values[value])
            else:
                assert verb == "ADD"
                self._add(name, *values[value].items())

    def _remove(self, name: str) -> None:
        if (old := self.attributes.pop(name, None)) is not None:
            self.size -= size_of({name: old})
            self.item.tokens.pop(name, None)
            if name[0] in SCALES:
                self.item.buckets[name[0]].pop(int(name[1:]), None)

    def _set(self, name: str, value: Any) -> None:  # noqa: ANN401 - an attribute of any type
        old = self.attributes.get(name)
        self.size += size_of({name: value}) - (0 if old is None else size_of({name: old}))
        self.attributes[name] = value
        part = item_of({name: value})
        self.item.level = part.level or self.item.level
        for scale, numbers in part.buckets.items():
            self.item.buckets[scale].update(numbers)

    def _add(self, name: str, operand: tuple[str, Any]) -> None:
        type_, added = operand
        if type_ == "N":
            self._set(name, {"N": str(int(self.attributes.get(name, {"N": "0"})["N"]) + int(added))})
            return
        if name not in self.attributes:
            self.size += size_of({name: {type_: ()}})
        held = self.attributes.setdefault(name, {type_: set()})[type_]
        new = set(added) - held
        held |= new
        self.size += size_of({"": {type_: new}}) - size_of({"": {type_: ()}})
        part = item_of({name: {type_: new}})
        for hour, slots in part.slots.items():
            self.item.slots[hour] = self.item.slots.get(hour, 0) | slots
        if part.tokens:
            self.item.tokens[name] = held


class Counted(NamedTuple):
    """The count of a span of time: as it was, as it was counted, and the variance that its weights imply."""

    true: float
    counted: float
    variance: float


class Span:
    """Costs and errors of a span of time.

    written  write units by cause: count, begin, raise, compaction, slot, index, and refused for any of them
    read     read units of the own item and of the earlier ones
    largest  bytes of the largest item
    periods  counts of whole periods
    hours    counts of the last hour, at each end of five minutes
    """

    def __init__(self) -> None:
        self.payments = 0.0
        self.written: Counter[str] = Counter()
        self.read = 0.0
        self.largest = 0
        self.periods: list[Counted] = []
        self.hours: list[Counted] = []

    @property
    def wru(self) -> float:
        """Write units of a payment."""
        return self.written.total() / self.payments

    @property
    def rru(self) -> float:
        """Read units of a payment."""
        return self.read / self.payments


def off(found: Iterable[Counted]) -> float | None:
    """Return the root mean square of the relative errors."""
    return _mean_root([((each.counted - each.true) / each.true) ** 2 for each in found if each.true])


def standard_error(found: Iterable[Counted]) -> float | None:
    """Return the root mean square of the relative standard errors."""
    return _mean_root([each.variance / each.true**2 for each in found if each.true])


def _mean_root(squares: Sequence[float]) -> float | None:
    return math.sqrt(sum(squares) / len(squares)) if squares else None


class Settled(NamedTuple):
    """A level that the receiver's current item had from a time on."""

    time: float
    period: int
    level: int


class Receiver:
    """A receiver of payments at a steady rate, its items, and the environments that count them. Times in seconds.

    limited  the key has KEY_LIMIT write units a second; more is throttled
    """

    def __init__(
        self, kind: Kind, rate: float, *, environments: int = ENVIRONMENTS, limited: bool = False, seed: int = 1
    ) -> None:
        self.kind, self.rate, self.limited = kind, rate, limited
        self.now = 0.0
        self.span = Span()
        self.uncounted = self.throttled = 0
        self.spent: Counter[int] = Counter()
        """Write units by second."""
        self._rng = random.Random(f"{kind.name} {rate} {seed}")
        self._crowd = Crowd(self._rng)
        self._rows: dict[tuple[str, ...], Row] = {}
        self._levels = [Levels() for _ in range(environments)]
        self._heard = [0.0] * environments
        self._lag = UNAWARE * environments / rate
        self._unaware_until = 0.0
        self._within = self._missing = 0.0
        self._least = self._held = 0
        self._history = [Settled(-NEVER, self._key().period, 0)]
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()
        self._calm, self._changing = False, 0
        self._allowed, self._allowed_at = float(KEY_LIMIT), 0.0
        self._true: dict[int, float] = defaultdict(float)
        self._integrated: dict[int, float] = defaultdict(float)
        self._variance: dict[int, float] = defaultdict(float)
        self._turn()

    # --- time

    def run(self, seconds: float) -> None:
        """Let payments come for some time."""
        end = self.now + seconds
        while self.now < end:
            played = self._played()
            arrives = self.now + self._rng.expovariate(played) if played else NEVER
            edge = (self.now // MINUTES_5 + 1) * MINUTES_5
            due = self._events[0][0] if self._events else NEVER
            then = min(arrives, edge, due, end)
            self._integrate(then - self.now, self.rate - played)
            self.now = then
            if then == due:
                heapq.heappop(self._events)[2]()
            elif then == arrives:
                self._arrive()
            if then == edge:
                self._edge()

    @property
    def level(self) -> int:
        """The level of the current item."""
        return self._history[-1].level

    @property
    def steady_rru(self) -> float:
        """Read units of a payment for the earlier items, when there are all: the last period's, and older ones."""
        newest, *older = self._of_earlier.values()
        return newest + (sum(older[:1]) * len(older))

    def forget(self, environments: Iterable[int]) -> None:
        """Replace environments by new ones, which know no levels."""
        for number in environments:
            self._levels[number], self._heard[number] = Levels(), self.now
        self._unaware_until = self.now + self._lag

    def _after(self, seconds: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._numbers), event))

    def _played(self) -> float:
        """Return the rate of the payments that are played, each by itself.

        These are all payments while the item is missing or changing. At other times they are the payments that are in
        the sample at a level that an environment may presume, and those whose slot is missing.
        """
        own = self._rows.get(self._own)
        if own is None or not self._calm or self.now < self._unaware_until:
            self._least, self._missing = 0, 0.0
            return self.rate
        self._least = min(self._presumable(own.item.level))
        within = self._crowd.within[self._least]
        self._held = own.item.slots.get(self._epoch() % self.kind.period // HOUR, 0)
        self._missing = (1 - within) * (1 - self._held.bit_count() / SLOTS)
        self._within = within
        return self.rate * (within + self._missing)

    def _presumable(self, level: int) -> Iterator[int]:
        """Yield the levels that an environment may presume the item to have."""
        yield level
        period = self._own_key.period
        for settled in reversed(self._history):
            yield self._presumed(settled, period)
            if settled.time <= self.now - self._lag:
                return

    def _presumed(self, settled: Settled, period: int) -> int:
        if settled.period == period:
            return settled.level
        return sampling.start_level(self.kind, settled.level) if settled.period == period - 1 else 0

    def _integrate(self, seconds: float, rate: float) -> None:
        """Charge the reads of payments that are not played. They change nothing."""
        if rate > 0:
            self.span.payments += rate * seconds
            self.span.read += rate * seconds * (self._look_units + self._earlier_units)
            self._integrated[int(self.now // MINUTES_5)] += rate * seconds

    def _edge(self) -> None:
        """Finish a bucket of five minutes: compare counts with the truth."""
        bucket = round(self.now / MINUTES_5) - 1
        self._true[bucket] += _poisson(self._rng, self._integrated.pop(bucket, 0.0))
        key = self._key(self.now - 1)
        if self.now >= HOUR:
            both = [(each := key._replace(period=period), _place(each)) for period in (key.period - 1, key.period)]
            items = {each: self._rows[place].item for each, place in both if place in self._rows}
            counted = measure(self._payment(self.now - 1), State(items, {}))[f"{self.kind.name}_count_1h"]
            self.span.hours.append(self._counted(bucket, HOUR, counted))
        if self.now % self.kind.period == 0:
            hours = self._rows[place].item.buckets["h"] if (place := _place(key)) in self._rows else {}
            self.span.periods.append(self._counted(bucket, self.kind.period, unpacked(sum(hours.values()))[0]))
        if self.now % HOUR == 0:
            self._turn()

    def _counted(self, bucket: int, seconds: int, counted: float) -> Counted:
        """Return a count beside the truth: that of `seconds` up to a bucket of five minutes."""
        last = range(bucket + 1 - seconds // MINUTES_5, bucket + 1)
        return Counted(sum(self._true[n] for n in last), counted, sum(self._variance[n] for n in last))

    def _turn(self) -> None:
        """Begin an hour."""
        self._calm = False
        self._of_hour = self._payment(self.now)
        self._own_key = self._key()
        self._own = _place(self._own_key)
        earlier = [self._own_key._replace(period=self._own_key.period - age) for age in range(1, self.kind.live)]
        self._earlier = {_place(key): key for key in earlier}
        self._earlier_items: dict[Key, Item] = {}
        self._of_earlier: dict[tuple[str, ...], float] = {}
        for place in (*self._earlier, self._own):
            self._look_up(place)

    # --- payments

    def _arrive(self) -> None:
        """Play one payment."""
        integrated = self.rate - self._played()
        environment = self._rng.randrange(len(self._levels))
        levels = self._levels[environment]
        if integrated > 0:
            heard = self.now - self._rng.expovariate(integrated / len(self._levels))
            if heard > self._heard[environment]:
                settled = self._history[bisect_right(self._history, (heard,)) - 1]
                levels.learn(self._own_key._replace(period=settled.period), settled.level)
        self._heard[environment] = self.now
        missing = self._missing and self._rng.random() * (self._within + self._missing) >= self._within
        drawn = self._crowd.outside(self._least) if missing else self._crowd.inside(self._least)
        slot = self._rng.randrange(SLOTS)
        while missing and self._held >> slot & 1:
            slot = self._rng.randrange(SLOTS)
        self.span.payments += 1
        self.span.read += self._earlier_units
        self._true[int(self.now // MINUTES_5)] += 1
        update = self._update(slot, *drawn)
        self._step(levels.attempt(update), levels, 1)

    def _update(self, slot: int, amount: int, grade: int, mac: bytes) -> Update:
        """Return the update of the receiver's item, as `layout.updates` makes it."""
        second = self._epoch() % self.kind.period
        leave = leave_of(mac, grade)
        buckets = tuple([(scale, second // SCALES[scale]) for scale in self.kind.scales])
        token = mac[:TOKEN_BYTES]
        return Update(
            self._own_key, buckets, amount, second // HOUR, slot, None, None, TOKENS[leave], token, (), leave, grade
        )

    def _step(self, attempt: Attempt, levels: Levels, number: int) -> None:
        """Take an attempt through one of its steps."""

        def take(result: Result) -> None:
            row = self._rows.get(_place(attempt.update.key))
            attempt.take(result if row is None else row.narrowed(result, attempt))
            if row is not None and attempt.item is not None:
                attempt.item = row.item
            if not attempt.settled and number < STEPS:
                self._after(ROUND_TRIP_S, lambda: self._step(attempt, levels, number + 1))
                return
            if not attempt.settled:
                attempt.give_up()
            self._finish(attempt, levels)

        request = attempt.request("counters")
        name = "count" if "ADD" in request.payload.get("UpdateExpression", "") else "begin"
        self._send(request, name, take)

    def _finish(self, attempt: Attempt, levels: Levels) -> None:
        """Send the upkeep that a settled attempt asks for."""
        self.uncounted += attempt.error is not None
        if attempt.item is None:
            return
        key, item = attempt.update.key, attempt.item
        if attempt.counted:
            weight = attempt.update.weight(attempt.level)
            self._variance[int(self.now // MINUTES_5)] += weight * (weight - 1)
        levels.learn(key, item.level)
        before = self._earlier_items.get(key._replace(period=key.period - 1))
        for change in list(sampling.upkeep(attempt.update, item, before, exact=False)):
            raises = isinstance(change, sampling.Raise)
            self._change(change, "raise" if raises else "slot", changing=raises)
        for change in list(sampling.compactions(self._earlier_items, self._of_hour)):
            self._change(change, "compaction", changing=True)
        self._calm = not self._changing

    def _change(self, change: sampling.Upkeep, name: str, *, changing: bool) -> None:
        """Send a change of an item one round trip later."""
        self._changing += changing

        def land() -> None:
            self._changing -= changing
            self._send(Request("update_item", upkeep_update(change)), name, lambda _: None)

        self._after(ROUND_TRIP_S, land)

    # --- the table

    def _send(self, request: Request, name: str, take: Callable[[Result], None], tries: int = 1) -> None:
        """Carry a request out and charge it. A throttled one is sent again after a pause, as `aws.client` does."""
        if request.operation == "get_item":
            row = self._rows.get(key_of(request.payload["Key"]))
            self.span.read += read_units(0 if row is None else row.size, consistent=False)
            take({} if row is None else {"Item": row.attributes})
        elif self._is_throttled():
            self.throttled += 1
            if tries < Timeouts().attempts:
                pause = self._rng.uniform(0, BACKOFF_S * 2 ** (tries - 1))
                self._after(pause, lambda: self._send(request, name, take, tries + 1))
            else:
                take(UnavailableError("ThrottlingException"))
        else:
            take(self._write(request.payload, name))

    def _is_throttled(self) -> bool:
        """Tell whether the key's units are used up. Those of one second can be saved."""
        self._allowed = min(self._allowed + (self.now - self._allowed_at) * KEY_LIMIT, KEY_LIMIT)
        self._allowed_at = self.now
        return self.limited and self._allowed <= 0

    def _write(self, payload: Mapping[str, Any], name: str) -> Result:
        place = key_of(payload["Key"])
        row = self._rows.get(place)
        before = {} if row is None else row.attributes
        names, values = payload.get("ExpressionAttributeNames", {}), payload.get("ExpressionAttributeValues", {})
        if not holds(payload.get("ConditionExpression", ""), before, values, names):
            self._charge("refused", write_units(0, 0 if row is None else row.size))
            return ConditionFailed(before)
        if row is None:
            row = self._rows[place] = Row(payload["Key"])
            row.change(payload)
            self._charge(name, write_units(0, row.size))
            self.span.written["index"] += FOLD in row.attributes
        else:
            size = row.size
            row.change(payload)
            self._charge(name, write_units(size, row.size))
        self.span.largest = max(self.span.largest, row.size)
        if place == self._own or place in self._earlier:
            self._look_up(place)
        last, period = self._history[-1], self._own_key.period
        if place == self._own and (last.period, last.level) != (period, row.item.level):
            self._history.append(Settled(self.now, period, row.item.level))
        return {"Attributes": row.attributes}

    def _charge(self, name: str, units: int) -> None:
        self.span.written[name] += units
        self.spent[int(self.now)] += units
        self._allowed -= units

    def _look_up(self, place: tuple[str, ...]) -> None:
        """Remember what a payment reads of a changed item, and what that costs."""
        row = self._rows.get(place)
        units = read_units(0 if row is None else row.size, consistent=False)
        if place == self._own:
            self._look_units = units
            return
        self._of_earlier[place] = units
        self._earlier_units = sum(self._of_earlier.values())
        if row is not None and place in self._earlier:
            self._earlier_items[self._earlier[place]] = row.earlier

    # --- names

    def _epoch(self, at: float | None = None) -> int:
        return START + int(self.now if at is None else at)

    def _key(self, at: float | None = None) -> Key:
        return Key(self.kind, PAYEE_ID, self._epoch(at) // self.kind.period)

    def _payment(self, at: float) -> Transaction:
        moment = TODAY + timedelta(seconds=int(at))
        return lives.payment(f"{at}", moment, type=TYPES[self.kind], payer_id=lives.other(0), device_id=None)


def _place(key: Key) -> tuple[str, ...]:
    return key.pk, key.sk


def _poisson(rng: random.Random, mean: float) -> int:
    """Draw a Poisson number: by its gaps, or as a normal number when it is large."""
    if mean > MANY:
        return max(0, round(rng.gauss(mean, math.sqrt(mean))))
    drawn, left = -1, mean
    while left >= 0:
        left -= rng.expovariate(1)
        drawn += 1
    return drawn


def curve(kind: Kind, rate: float, name: str) -> Iterator[table.Row]:
    """Yield the rows of a rate: the first day, and the steady state after it."""
    receiver = Receiver(kind, rate)
    for span, seconds in (("first day", DAY), ("steady", STEADY_S[kind])):
        measured = receiver.span = Span()
        receiver.run(seconds)
        yield {
            "name": f"{kind.name}, {name}, {span}",
            "largest_bytes": measured.largest,
            "level": receiver.level,
            "wru": measured.wru,
            "refused": measured.written["refused"] / measured.payments,
            "slots": measured.written["slot"] / measured.payments,
            "rru": measured.rru,
            "rru_per_s": measured.rru * rate,
            "count_off": off(measured.periods),
            "count_se": standard_error(measured.periods),
            "1h_off": off(measured.hours),
            "1h_se": standard_error(measured.hours),
            "usd_per_million": dollars(measured.wru, measured.rru),
        }


def dollars(wru: float, rru: float) -> float:
    """Return the dollars of a million payments."""
    return 1e6 * (wru * PRICES["WRU"][0] + rru * PRICES["RRU"][0])


def dearest(kind: Kind) -> float:
    """Return the dearest rate near the cap, by short runs."""

    def cost(rate: float) -> float:
        receiver = Receiver(kind, rate)
        receiver.run(DAY if kind.period == DAY else 3 * kind.period + MINUTES_5)
        return dollars(receiver.span.wru, receiver.steady_rru)

    cap = sampling.CAPS[kind.sk]
    return max((share * cap / kind.period for share in NEAR_CAP[kind]), key=cost)


def first_minute(kind: Kind, rate: float = 1_000, seconds: float = 60) -> table.Row:
    """Return the row of the first minute of a first day, while the key's limit is enforced."""
    receiver = Receiver(kind, rate, limited=True)
    receiver.run(seconds)
    return {
        "name": f"{kind.name}: first minute of a first day at {rate:,} a second",
        f"s_above_{MUCH}_wru": sum(units > MUCH for units in receiver.spent.values()),
        "most_wru_in_a_s": max(receiver.spent.values()),
        "throttled": receiver.throttled,
        "uncounted": receiver.uncounted,
        "level": receiver.level,
    }


def turn(kind: Kind, rate: float = 1_000) -> table.Row:
    """Return the row of an hour that begins with half of the environments new, which know no level."""
    receiver = Receiver(kind, rate)
    receiver.run(HOUR)
    receiver.forget(range(0, ENVIRONMENTS, 2))
    receiver.span = Span()
    receiver.run(HOUR)
    written = receiver.span.written
    return {
        "name": f"{kind.name}: an hour at {rate:,} a second, half of {ENVIRONMENTS} environments new",
        "wru": written.total(),
        "refused_wru": written["refused"],
        "refused_share": written["refused"] / written.total(),
    }


def rows() -> list[table.Row]:
    """Return the rows of each rate, of the first minute and the turn of an hour, and the targets."""
    found = [row for kind in TYPES for rate in RATES for row in curve(kind, rate, f"{rate:,} a second")]
    for kind in TYPES:
        rate = dearest(kind)
        found += curve(kind, rate, f"worst: {rate:.4f} a second")
    minutes = [first_minute(kind) for kind in TYPES]
    turned = turn(MERCHANT)
    return [*found, *minutes, turned, *targets(found, minutes, turned)]


def targets(curves: Sequence[table.Row], minutes: Sequence[table.Row], turned: table.Row) -> list[table.Row]:
    """Return the rows of the targets."""
    busy = [row for row in curves if any(f", {rate:,} a second" in row["name"] for rate in RATES if rate >= 1)]
    wanted = (
        ("largest item, bytes", max(row["largest_bytes"] for row in curves), 32 * 1024),
        ("wru at the worst rate", max(row["wru"] for row in curves), 14),
        ("rru at the worst rate", max(row["rru"] for row in curves), 36),
        ("wru from 1 a second on", max(row["wru"] for row in busy), 8),
        ("rru from 1 a second on", max(row["rru"] for row in busy), 15),
        (f"first minute: s above {MUCH} wru", max(row[f"s_above_{MUCH}_wru"] for row in minutes), 2),
        ("first minute: uncounted", max(row["uncounted"] for row in minutes), 0),
        ("turn of an hour: share of refused wru", turned["refused_share"], 0.05),
    )
    return [table.target(name, value, at_most=most) for name, value, most in wanted]


if __name__ == "__main__":
    table.run(rows, __doc__)
