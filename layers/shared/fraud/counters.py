"""Counters of attempts, as data: which items a payment moves, and what the moved items say about it.

Every name derives from the payment's own time and identity, so an update commutes with every other and meets its own
mark when it comes twice. `updates` and `reads` say what to do, `measure` what the result means; DynamoDB (store) and
`InMemoryCounters` only carry it out. docs/architecture.md draws the layout; buckets pack count and sum into one
integer, so that one ADD moves both.
"""

import functools
import hashlib
import math
import operator
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from fraud.transaction import NEEDS_PAYEE, Transaction

DAY = 86_400
PACK = 10**18
"""A bucket is count * PACK + sum of minor units: 10^9 payments of any total below 10^18 fit DynamoDB's 38 digits."""

SLOTS = 127
"""Size of the linear-counting bitmap: a prime that fits 16 bytes."""

DISTINCT: tuple[float, ...] = tuple(
    round(min(SLOTS * math.log(SLOTS / (SLOTS - filled)), 615.0), 2) if filled < SLOTS else 615.0
    for filled in range(SLOTS + 1)
)
"""Linear counting (Whang, Vander-Zanden, Taylor 1990): distinct values by slots filled, -n ln(1 - filled/n), capped
when full.
"""

SCALES: dict[str, int] = {"s": 10, "m": 300, "h": 3600, "b": DAY}
"""Width in seconds of a bucket, by the letter that its attribute begins with; the number behind counts within the
item.
"""

HALF_LIFE_HOURS = 6
DECAY: tuple[float, ...] = tuple(2.0 ** (-age / HALF_LIFE_HOURS) for age in range(24))
"""Weight of an hour bucket by its age: exponential decay over the same buckets that the windows use."""

HORIZON_DAYS = 30
KEEP_DAYS = 35
"""How long an item outlives its period: reads reach back 30 days, repairs a little further."""

FOLD_SLICES = 64


@dataclass(frozen=True, eq=False)
class Kind:
    """How one kind of entity is laid out: seconds per item, bucket scales, seconds per set of marks, its side of a
    profile.
    """

    name: str
    period: int = DAY
    sk: str = "d"
    scales: tuple[str, ...] = ("s", "m", "h")
    marks: int = 600
    profile: str | None = None
    side: str = ""

    def key(self, entity: str) -> str:
        """Partition key in the counters table."""
        return f"{self.name}#{entity}"


PAYER = Kind("payer", profile="account", side="o")
PAYEE = Kind("payee", profile="account", side="i")
MERCHANT = Kind("merchant", profile="account", side="m")
DEVICE = Kind("device", profile="device", side="u")
INSTRUMENT = Kind("instrument", profile="instrument", side="u")
PAIR = Kind("pair", period=32 * DAY, sk="b", scales=("b",), marks=DAY)

ENTITIES: tuple[Kind, ...] = (PAYER, DEVICE, PAYEE, MERCHANT, INSTRUMENT)
KINDS: dict[str, Kind] = {kind.name: kind for kind in (*ENTITIES, PAIR)}
RECEIVING: dict[str, Kind] = {"p2p": PAYEE, "merchant": MERCHANT, "cash_out": INSTRUMENT, "top_up": INSTRUMENT}
"""The kind under which a type's counterparty is counted."""


class Key(NamedTuple):
    """One item of the counters table."""

    kind: Kind
    entity: str
    period: int

    @property
    def pk(self) -> str:
        """Partition key."""
        return self.kind.key(self.entity)

    @property
    def sk(self) -> str:
        """Sort key: a letter for the length of the period, and its number since the epoch."""
        return f"{self.kind.sk}{self.period}"


class Update(NamedTuple):
    """One attempt moved into one item; refused as a whole when the item holds its mark already."""

    key: Key
    buckets: tuple[tuple[str, int], ...]
    amount: int
    hour: int
    slot: int | None
    device: int | None
    marks: int
    mark: bytes
    closed: range

    @property
    def value(self) -> int:
        """What is added to every bucket: one payment and its minor units, packed."""
        return PACK + self.amount

    @property
    def ttl(self) -> int:
        """Epoch seconds after which nothing reads the item."""
        return (self.key.period + 1) * self.key.kind.period + KEEP_DAYS * DAY

    @property
    def fold(self) -> str | None:
        """The slice of the nightly fold that will carry the item into its profile; pairs are read directly instead."""
        if self.key.kind.profile is None:
            return None
        return f"{self.key.sk}#{_hash(self.key.pk) % FOLD_SLICES}"


@dataclass(slots=True, eq=False)
class Item:
    """One counters item. Every attribute is a letter and a number: here a dictionary per letter, by number.

    buckets  packed count and sum, by scale letter
    slots    `d`: bitmap of the counterparties' slots, by hour
    devices  `e`: payments, by the device's slot
    marks    `r`: identities counted, by the span that their time falls into
    """

    buckets: dict[str, dict[int, int]] = field(default_factory=lambda: {scale: {} for scale in SCALES})
    slots: dict[int, int] = field(default_factory=dict)
    devices: dict[int, int] = field(default_factory=dict)
    marks: dict[int, set[bytes]] = field(default_factory=dict)

    def apply(self, update: Update) -> bool:
        """Move one attempt in. False, and nothing moved, when its mark is there already: exactly DynamoDB's
        condition.
        """
        marks = self.marks.setdefault(update.marks, set())
        if update.mark in marks:
            return False
        marks.add(update.mark)
        for scale, index in update.buckets:
            bucket = self.buckets[scale]
            bucket[index] = bucket.get(index, 0) + update.value
        if update.slot is not None:
            self.slots[update.hour] = self.slots.get(update.hour, 0) | 1 << update.slot
        if update.device is not None:
            self.devices[update.device] = self.devices.get(update.device, 0) + 1
        for closed in update.closed:
            self.marks.pop(closed, None)
        return True


NOTHING = Item()
Profile = Mapping[str, Any]


@dataclass
class State:
    """What the state step found: live items, profiles by `<kind>#<value>`, and whether the attempt was counted
    before.
    """

    items: dict[Key, Item]
    profiles: dict[str, Profile]
    recounted: bool = False


class Counters(Protocol):
    """Counts an attempt once, then reads what the decision needs. DynamoDB and memory obey it alike."""

    def count(self, transaction: Transaction) -> State:
        """Count the attempt once and read all items and profiles that `measure` looks at."""


def _hash(value: str) -> int:
    return int.from_bytes(hashlib.sha256(value.encode()).digest()[:8])


def slot_of(value: str) -> int:
    """The slot that a counterparty or device falls into."""
    return _hash(value) % SLOTS


def pair_of(transaction: Transaction) -> str:
    """Who pays whom. `|` and `#` are in no identifier, so an instrument never reads as a payee."""
    other = transaction.counterparty if transaction.type in NEEDS_PAYEE else f"#{transaction.counterparty}"
    return f"{transaction.payer_id}|{other}"


def sides(transaction: Transaction) -> Iterator[tuple[Kind, str, str | None]]:
    """(kind, entity, counterparty whose distinct number is estimated) for each item that the payment moves."""
    yield PAYER, transaction.payer_id, transaction.counterparty
    yield RECEIVING[transaction.type], transaction.counterparty, transaction.payer_id
    yield PAIR, pair_of(transaction), None
    if transaction.device_id is not None:
        yield DEVICE, transaction.device_id, transaction.payer_id


def _update(transaction: Transaction, kind: Kind, entity: str, counterparty: str | None) -> Update:
    period, second = divmod(transaction.epoch, kind.period)
    marks = transaction.epoch // kind.marks
    device = transaction.device_id if kind is PAYER else None
    return Update(
        key=Key(kind, entity, period),
        buckets=tuple((scale, second // SCALES[scale]) for scale in kind.scales),
        amount=transaction.amount,
        hour=second // 3600,
        slot=None if counterparty is None else slot_of(counterparty),
        device=None if device is None else slot_of(device),
        marks=marks,
        mark=transaction.identity[:6],
        # Two days back no payment is young enough to be counted, so no duplicate can come: its marks only cost space.
        closed=range(period * kind.period // kind.marks, marks - 1) if kind is PAIR else range(0),
    )


def updates(transaction: Transaction) -> tuple[Update, ...]:
    """Every update of one attempt: payer, counterparty, pair and, where named, device."""
    return tuple(_update(transaction, *side) for side in sides(transaction))


def reads(moved: Sequence[Update]) -> tuple[Key, ...]:
    """The items beside the moved ones: each entity's previous period."""
    return tuple(Key(kind, entity, period - 1) for kind, entity, period in (update.key for update in moved))


def profiles(transaction: Transaction) -> dict[str, str]:
    """Partition keys in the profiles table by the role they play in this payment."""
    roles = {
        "payer": ("account", transaction.payer_id),
        "payee": ("account", transaction.payee_id),
        "device": ("device", transaction.device_id),
        "instrument": ("instrument", transaction.instrument_id),
        "ip": ("ip", transaction.ip),
    }
    return {role: f"{kind}#{value}" for role, (kind, value) in roles.items() if value is not None}


WINDOWS: dict[str, tuple[str, int]] = {"1m": ("s", 6), "1h": ("m", 12)}
"""Short windows: scale and number of whole buckets, the payment's own included."""

HOUR_WINDOWS: dict[str, int] = {"2h": 2, "24h": 24}
"""Windows of clock hours, this one included; counts and sums use the longer one only."""

DAY_WINDOWS: dict[str, int] = {"7d": 7, "30d": 30}
"""Windows of whole days: today's hours so far, yesterday's item, older days from the profile."""

PAIR_WINDOWS: dict[str, int] = {"2d": 2, "7d": 7, "30d": 30}


def _names() -> Iterator[str]:
    for kind in ENTITIES:
        for aggregation in ("count", "sum"):
            yield from (f"{kind.name}_{aggregation}_{window}" for window in (*WINDOWS, "24h", *DAY_WINDOWS))
        yield from (f"{kind.name}_distinct_{window}" for window in (*HOUR_WINDOWS, *DAY_WINDOWS))
        yield from (f"{kind.name}_{aggregation}" for aggregation in ("decayed_sum_6h", "age", "idle"))
    for aggregation in ("count", "sum"):
        yield from (f"pair_{aggregation}_{window}" for window in PAIR_WINDOWS)
    yield from ("pair_age_days", "device_new")


NAMES: tuple[str, ...] = tuple(_names())
"""Every counter, in the order in which a decision's snapshot stores them. Ages and idle times are seconds."""

IDLE_CAP = HORIZON_DAYS * DAY
"""Idle seconds of an entity that was not seen within the horizon: nothing older is kept."""

ABSENT: dict[str, float] = {name: IDLE_CAP if name.endswith("_idle") else 0 for name in NAMES}
"""What the counters say of an entity that takes no part in the payment."""


def measure(transaction: Transaction, state: State) -> dict[str, float]:
    """Every counter of NAMES for one payment: THE definition, online and offline. Counts and sums are exact
    integers.
    """
    values = dict(ABSENT)
    roles = profiles(transaction)
    for kind, entity, _ in sides(transaction):
        period = transaction.epoch // kind.period
        items = {p: state.items[key] for p in (period, period - 1) if (key := Key(kind, entity, p)) in state.items}
        if kind is PAIR:
            _measure_pair(values, items, transaction.epoch // DAY)
            continue
        profile = state.profiles.get(roles[kind.name if kind.name in roles else "payee"], {})
        _measure_entity(values, kind, items, profile, transaction.epoch)
        if kind is PAYER and transaction.device_id is not None:
            values["device_new"] = _device_new(items, profile, slot_of(transaction.device_id), period)
    return values


def _measure_entity(
    values: dict[str, float], kind: Kind, items: Mapping[int, Item], profile: Profile, epoch: int
) -> None:
    hours = _by_age({period: item.buckets["h"] for period, item in items.items()}, kind, epoch // 3600)
    slots = _by_age({period: item.slots for period, item in items.items()}, kind, epoch // 3600)
    older = {window: range(epoch // DAY - days + 1, epoch // DAY - 1) for window, days in DAY_WINDOWS.items()}

    totals = {window: _total(items, kind, scale, epoch, length) for window, (scale, length) in WINDOWS.items()}
    totals["24h"] = sum(total for age, total in hours.items() if age < HOUR_WINDOWS["24h"])
    live = sum(hours.values())
    totals |= {window: live + _folded(profile, kind.side, days) for window, days in older.items()}
    for window, total in totals.items():
        values[f"{kind.name}_count_{window}"], values[f"{kind.name}_sum_{window}"] = divmod(total, PACK)

    unions = {
        window: _union(bitmap for age, bitmap in slots.items() if age < length)
        for window, length in HOUR_WINDOWS.items()
    }
    live = _union(slots.values())
    unions |= {window: live | _bitmap(profile, f"{kind.side}b", days) for window, days in older.items()}
    for window, union in unions.items():
        values[f"{kind.name}_distinct_{window}"] = DISTINCT[union.bit_count()]

    # fsum is exact, so the order in which a store returns its attributes cannot show in the last bit.
    values[f"{kind.name}_decayed_sum_6h"] = math.fsum(
        DECAY[age] * (total % PACK) for age, total in hours.items() if age < len(DECAY)
    )
    first, last = _seen(items, kind, profile, epoch)
    values[f"{kind.name}_age"] = epoch - first
    values[f"{kind.name}_idle"] = IDLE_CAP if last is None else min(epoch - last, IDLE_CAP)


def _measure_pair(values: dict[str, float], items: Mapping[int, Item], today: int) -> None:
    days = _by_age({period: item.buckets["b"] for period, item in items.items()}, PAIR, today, DAY)
    for window, length in PAIR_WINDOWS.items():
        total = sum(total for age, total in days.items() if age < length)
        values[f"pair_count_{window}"], values[f"pair_sum_{window}"] = divmod(total, PACK)
    values["pair_age_days"] = max(days, default=0)


def _by_age(columns: Mapping[int, Mapping[int, int]], kind: Kind, now: int, width: int = 3600) -> dict[int, int]:
    """Values of one letter by age in buckets of `width` seconds; those later than `now` (an index since the epoch)
    left out.
    """
    per_item = kind.period // width
    return {
        age: value
        for period, column in columns.items()
        for index, value in column.items()
        if (age := now - period * per_item - index) >= 0
    }


def _total(items: Mapping[int, Item], kind: Kind, scale: str, epoch: int, length: int) -> int:
    """Sum of the last `length` packed buckets of a fine scale: looked up, for a busy item holds thousands of them."""
    period, last = divmod(epoch // SCALES[scale], kind.period // SCALES[scale])
    first = last - length + 1
    total = 0
    if period in items:
        column = items[period].buckets[scale]
        total += sum(column.get(index, 0) for index in range(max(first, 0), last + 1))
    if first < 0 and period - 1 in items:
        column, per_item = items[period - 1].buckets[scale], kind.period // SCALES[scale]
        total += sum(column.get(index, 0) for index in range(first + per_item, per_item))
    return total


def _union(bitmaps: Iterable[int]) -> int:
    return functools.reduce(operator.or_, bitmaps, 0)


def _folded(profile: Profile, side: str, days: range) -> int:
    return sum(profile.get(f"{side}{day}", 0) for day in days) if profile else 0


def _bitmap(profile: Profile, prefix: str, days: range) -> int:
    return _union(int.from_bytes(profile.get(f"{prefix}{day}", b"")) for day in days) if profile else 0


def _seen(items: Mapping[int, Item], kind: Kind, profile: Profile, epoch: int) -> tuple[int, int | None]:
    """Start of the first and of the last non-empty bucket; the last skips the payment's own when it is alone there.

    10 s buckets in the payment's own item, hours in the one before: that one is read without its fine buckets.
    """
    period = epoch // kind.period
    own = epoch // SCALES["s"] * SCALES["s"]
    fine = _starts(items, kind, "s", period)
    alone = fine.get(own, 0) < 2 * PACK
    before = [start for start in fine if start < own or (start == own and not alone)]
    before += _starts(items, kind, "h", period - 1)
    lasts = [*before, *(profile[name] for name in (f"{kind.side}last",) if name in profile)]
    return min([*before, own, profile.get(f"{kind.side}first", own)]), max(lasts, default=None)


def _starts(items: Mapping[int, Item], kind: Kind, scale: str, period: int) -> dict[int, int]:
    """Packed buckets of one item's scale by the epoch second at which they start."""
    buckets = items[period].buckets[scale] if period in items else {}
    return {period * kind.period + index * SCALES[scale]: total for index, total in buckets.items()}


def _device_new(items: Mapping[int, Item], profile: Profile, slot: int, day: int) -> int:
    """1 when this is today's only payment from the device's slot and the 29 days before have none."""
    today, yesterday = (items[period].devices.get(slot, 0) if period in items else 0 for period in (day, day - 1))
    older = _bitmap(profile, "oe", range(day - HORIZON_DAYS + 1, day - 1))
    return int(today <= 1 and not yesterday and not older >> slot & 1)


class InMemoryCounters:
    """The same counters in a dictionary: training, backtests and tests replay history through it, in order of
    arrival.
    """

    def __init__(self) -> None:
        self.items: dict[Key, Item] = defaultdict(Item)
        self.profiles: dict[str, dict[str, Any]] = {}

    def count(self, transaction: Transaction) -> State:
        """Count the attempt once, then read: the contract of `Counters`."""
        moved = updates(transaction)
        counted = [self.items[update.key].apply(update) for update in moved]
        keys = (*(update.key for update in moved), *reads(moved))
        return State(
            items={key: self.items[key] for key in keys if key in self.items},
            profiles={pk: self.profiles[pk] for pk in profiles(transaction).values() if pk in self.profiles},
            recounted=not all(counted),
        )
