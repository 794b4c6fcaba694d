"""One hot receiver at any rate: size of its items, request units and dollars of a payment, and errors of its counts.

Payments come as a Poisson process from ENVIRONMENTS environments. The product's own attempts, requests and upkeep run on
a metered table in memory, each one round trip after its cause. So concurrent payments still see the old level, and their
refused writes are charged. Most payments to a hot receiver are outside its sample, and only read: these are not played
but integrated, unless something is changing. `first day` is a receiver without a past, `steady` the time after that.

`wru` and `rru` are the units of a payment for all items of the receiver: its own, and the earlier ones that are read.
`count_off` is the error of the count of a period (merchant: hour, payee: day), `1h_off` of the count of the last hour:
root mean squares over the run. `1h_se` is the standard error that the weights of the counted payments imply.
Dollars are list prices of on-demand capacity, as in `capacity`.
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
from fraud.errors import UnavailableError
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
STEADY: Mapping[Kind, float] = {PAYEE: DAY, MERCHANT: 6 * HOUR}
"""Seconds of steady state that are measured."""

UNAWARE = 5
"""Payments to each environment after which all of them are taken to know a level: e ** -5 of them do not."""

KEY_LIMIT = 1_000
"""Write units a second that a key may have."""

NEVER = math.inf


class Crowd:
    """Payments drawn at random: amounts, and the levels at which they leave a sample."""

    def __init__(self, rng: random.Random, size: int = 20_000) -> None:
        self._rng = rng
        self._pools: dict[int, list[int]] = defaultdict(list)
        for _ in range(size):
            amount = max(1, round(rng.lognormvariate(math.log(MEAN_AMOUNT) - SIGMA**2 / 2, SIGMA)))
            self._pools[grade_of(amount, UNITS["JPY"])].append(amount)
        self._grades = sorted(self._pools)
        at = [[len(self._pools[grade]) / 2 ** max(level - grade, 0) for grade in self._grades] for level in range(LEVELS)]
        self._shares = [list(accumulate(weights)) for weights in at]
        self.within = [weights[-1] / size for weights in self._shares]
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
    """A stored item: its attributes, with sets as Python's, and its size in bytes."""

    def __init__(self, key: Mapping[str, Any]) -> None:
        self.attributes: dict[str, Any] = dict(key)
        self.size = size_of(key)
        self._earlier: Item | None = None

    @property
    def level(self) -> int:
        """The level of its sample."""
        return int(self.attributes.get("l", {"N": "0"})["N"])

    @property
    def earlier(self) -> Item:
        """The item as a payment of a later period reads it."""
        if self._earlier is None:
            self._earlier = item_of({name: self.attributes[name] for name in EARLIER if name in self.attributes})
        return self._earlier

    def change(self, payload: Mapping[str, Any]) -> None:
        """Carry out an update whose condition holds."""
        names, values = payload.get("ExpressionAttributeNames", {}), payload.get("ExpressionAttributeValues", {})
        self._earlier = None
        for verb, given, kept, value in clauses(payload["UpdateExpression"]):
            name = names.get(given, given)
            if verb == "REMOVE":
                self._set(name, None)
            elif verb == "SET":
                if not (kept and name in self.attributes):
                    self._set(name, values[value])
            else:
                assert verb == "ADD"
                ((type_, operand),) = values[value].items()
                if type_ == "N":
                    self._set(name, {"N": str(int(self.attributes.get(name, {"N": "0"})["N"]) + int(operand))})
                else:
                    self._add(name, type_, operand)

    def _set(self, name: str, value: Any) -> None:  # noqa: ANN401 - an attribute of any type
        if (old := self.attributes.pop(name, None)) is not None:
            self.size -= size_of({name: old})
        if value is not None:
            self.attributes[name] = value
            self.size += size_of({name: value})

    def _add(self, name: str, type_: str, operand: Iterable[Any]) -> None:
        held = self.attributes.setdefault(name, {type_: set()})[type_]
        if not held:
            self.size += size_of({name: {type_: ()}})
        new = set(operand) - held
        held |= new
        self.size += size_of({"": {type_: new}}) - size_of({"": {type_: ()}})


class Bill:
    """Units of a span of time, by what they were spent for.

    written  write units: count, refused, begin, raise, compaction, slot, index
    read     read units: own, earlier
    """

    def __init__(self) -> None:
        self.payments = 0.0
        self.written: Counter[str] = Counter()
        self.read: dict[str, float] = defaultdict(float)
        self.largest = 0
        self.level = 0


class Errors:
    """Counts of the last hours and of whole periods, each true, as counted, and the variance of its weights."""

    def __init__(self) -> None:
        self.periods: list[tuple[float, float, float]] = []
        self.hours: list[tuple[float, float, float]] = []

    @staticmethod
    def off(found: Sequence[tuple[float, float, float]]) -> float | None:
        """Return the root mean square of the relative errors."""
        return _mean_root([((counted - true) / true) ** 2 for true, counted, _ in found if true])

    @staticmethod
    def expected(found: Sequence[tuple[float, float, float]]) -> float | None:
        """Return the root mean square of the relative standard errors."""
        return _mean_root([variance / true**2 for true, _, variance in found if true])


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
        self.bill, self.errors = Bill(), Errors()
        self.uncounted = 0
        self.spent: Counter[int] = Counter()
        """Write units by second."""
        self._rng = random.Random(f"{kind.name} {rate} {seed}")
        self._crowd = Crowd(self._rng)
        self._rows: dict[tuple[str, ...], Row] = {}
        self._levels = [Levels() for _ in range(environments)]
        self._heard = [0.0] * environments
        self._lag = UNAWARE * environments / rate
        self._unaware_until = 0.0
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
        self._least = min(self._presumable(own.level))
        within = self._crowd.within[self._least]
        self._missing = (1 - within) * len(self._slots_left) / SLOTS
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
            self.bill.payments += rate * seconds
            self.bill.read["own"] += rate * seconds * self._look_units
            self.bill.read["earlier"] += rate * seconds * self._earlier_units
            self._integrated[int(self.now // MINUTES_5)] += rate * seconds

    def _edge(self) -> None:
        """Finish a bucket of five minutes: compare counts with the truth."""
        bucket = round(self.now / MINUTES_5) - 1
        self._true[bucket] += _poisson(self._rng, self._integrated.pop(bucket, 0.0))
        per_hour = HOUR // MINUTES_5
        if bucket >= per_hour - 1:
            last = range(bucket - per_hour + 1, bucket + 1)
            true, variance = (sum(of[n] for n in last) for of in (self._true, self._variance))
            paid = self._payment(self.now - 1)
            key = self._key(self.now - 1)
            both = [key._replace(period=period) for period in (key.period - 1, key.period)]
            items = {each: item_of(self._rows[place].attributes) for each in both if (place := _place(each)) in self._rows}
            self.errors.hours.append((true, measure(paid, State(items, {}))[f"{self.kind.name}_count_1h"], variance))
        if self.now % self.kind.period == 0:
            last = range(bucket + 1 - self.kind.period // MINUTES_5, bucket + 1)
            true, variance = (sum(of[n] for n in last) for of in (self._true, self._variance))
            row = self._rows.get(_place(self._key(self.now - 1)))
            counted = 0 if row is None else unpacked(sum(item_of(row.attributes).buckets["h"].values()))[0]
            self.errors.periods.append((true, counted, variance))
        if self.now % HOUR == 0:
            self._turn()

    def _turn(self) -> None:
        """Begin an hour."""
        self._calm = False
        self._of_hour = self._payment(self.now)
        self._own_key = self._key()
        self._own = _place(self._own_key)
        earlier = [self._own_key._replace(period=self._own_key.period - age) for age in range(1, self.kind.live)]
        self._earlier = {key: _place(key) for key in earlier}
        self._price()

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
        slot = self._rng.choice(self._slots_left) if missing else self._rng.randrange(SLOTS)
        self.bill.payments += 1
        self.bill.read["earlier"] += self._earlier_units
        self._true[int(self.now // MINUTES_5)] += 1
        update = self._update(slot, *drawn)
        self._step(Attempt(update, levels.presumed(update.key)), levels, 1)

    def _update(self, slot: int, amount: int, grade: int, mac: bytes) -> Update:
        """Return the update of the receiver's item, as `layout.updates` makes it."""
        second = self._epoch() % self.kind.period
        leave = leave_of(mac, grade)
        buckets = tuple([(scale, second // SCALES[scale]) for scale in self.kind.scales])
        token = mac[:TOKEN_BYTES]
        return Update(self._own_key, buckets, amount, second // HOUR, slot, None, TOKENS[leave], token, (), leave, grade)

    def _step(self, attempt: Attempt, levels: Levels, number: int) -> None:
        """Take an attempt through one of its steps."""

        def take(result: Result) -> None:
            attempt.take(result)
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
        earlier = {each: self._rows[place].earlier for each, place in self._earlier.items() if place in self._rows}
        before = earlier.get(key._replace(period=key.period - 1))
        upkeep = list(sampling.upkeep(attempt.update, item, before, exact=False))
        for change in upkeep:
            raises = isinstance(change, sampling.Raise)
            self._change(change, "raise" if raises else "slot", changing=raises)
        compactions = list(sampling.compactions(earlier, self._of_hour))
        for change in compactions:
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
            self.bill.read["own"] += read_units(0 if row is None else row.size, consistent=False)
            take({} if row is None else {"Item": row.attributes})
        elif self._throttled():
            if tries < Timeouts().attempts:
                pause = self._rng.uniform(0, BACKOFF_S * 2 ** (tries - 1))
                self._after(pause, lambda: self._send(request, name, take, tries + 1))
            else:
                take(UnavailableError("ThrottlingException"))
        else:
            take(self._write(request.payload, name))

    def _throttled(self) -> bool:
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
            return ConditionFailed(dict(before) if "ReturnValuesOnConditionCheckFailure" in payload else {})
        if row is None:
            row = self._rows[place] = Row(payload["Key"])
            row.change(payload)
            self._charge(name, write_units(0, row.size))
            self.bill.written["index"] += FOLD in row.attributes
        else:
            size = row.size
            row.change(payload)
            self._charge(name, write_units(size, row.size))
        self.bill.largest = max(self.bill.largest, row.size)
        self._price()
        last, period = self._history[-1], self._own_key.period
        if place == self._own and (last.period, last.level) != (period, row.level):
            self._history.append(Settled(self.now, period, row.level))
            self.bill.level = row.level
        return {"Attributes": row.attributes}

    def _charge(self, name: str, units: int) -> None:
        self.bill.written[name] += units
        self.spent[int(self.now)] += units
        self._allowed -= units

    def _price(self) -> None:
        """Remember the read units of a payment, for a look at the own item and for the earlier ones, and missing slots."""
        sizes = [self._rows[place].size if place in self._rows else 0 for place in (self._own, *self._earlier.values())]
        self._look_units, *earlier = [read_units(size, consistent=False) for size in sizes]
        self._earlier_units = sum(earlier)
        held = self._rows[self._own].attributes.get("d", {"NS": ()})["NS"] if self._own in self._rows else ()
        first = self._epoch() % self.kind.period // HOUR * SLOTS
        self._slots_left = [slot for slot in range(SLOTS) if str(first + slot) not in held]

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
    if mean > 100:
        return max(0, round(rng.gauss(mean, math.sqrt(mean))))
    drawn, left = -1, mean
    while left >= 0:
        left -= rng.expovariate(1)
        drawn += 1
    return drawn
