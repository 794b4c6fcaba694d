"""Counters of attempts, as data: the items that a payment updates, and the items that it reads.

Every name derives from the payment's own time and identity, so updates commute, and an update that comes twice meets
its own token. `updates` and `reads` say what to do, `windows.measure` what the result means; DynamoDB
(`decisions.store`) and `in_memory.InMemoryCounters` only carry it out. docs/architecture.md draws the layout. A bucket
packs count and sum into one integer, so that one ADD changes both.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from fraud.transaction import NEEDS_PAYEE, Transaction

DAY = 86_400
PACK = 10**9
"""A bucket is sum of minor units * PACK + count, for fewer than PACK payments in a window: few significant digits, of
which DynamoDB stores two in a byte and 38 at most.
"""

TOKEN_BYTES = 6
"""How many bytes of the identity tell one attempt from the others in an item."""

SLOTS = 127
"""Size of the linear-counting bitmap: a prime that fits 16 bytes."""

SCALES: dict[str, int] = {"s": 10, "m": 300, "h": 3600, "b": DAY}
"""Width in seconds of a bucket, by the letter that its attribute begins with; the number behind counts within the
item.
"""

HORIZON_DAYS = 30
KEEP_DAYS = 35
"""How long an item outlives its period: reads reach back 30 days, repairs a little further."""

FOLD_SLICES = 64
"""Parts into which the entities of a period are dealt; each is folded by itself."""


@dataclass(frozen=True, eq=False)
class Kind:
    """How one kind of entity is laid out.

    period   seconds that one item spans
    live     how many periods are read as items, the payment's own included; older ones come from the profile
    sk       letter of the sort key
    scales   letters of its buckets
    profile  kind of the profile that its items are folded into; None: never folded
    side     name of the attribute there that holds its `history.FoldedHistory`
    """

    name: str
    period: int = DAY
    live: int = 2
    sk: str = "d"
    scales: tuple[str, ...] = ("s", "m", "h")
    profile: str | None = None
    side: str = ""

    def key(self, entity: str) -> str:
        """Partition key in the counters table."""
        return f"{self.name}#{entity}"

    def profile_key(self, entity: str) -> str:
        """Partition key in the profiles table, of a kind that has a profile."""
        return f"{self.profile}#{entity}"


PAYER = Kind("payer", profile="account", side="o")
PAYEE = Kind("payee", profile="account", side="i")
MERCHANT = Kind("merchant", period=3600, live=16, sk="h", profile="account", side="m")
DEVICE = Kind("device", profile="device", side="u")
INSTRUMENT = Kind("instrument", profile="instrument", side="u")
PAIR = Kind("pair", period=32 * DAY, sk="b", scales=("b",))

PAIR_TOKENS: tuple[str, ...] = tuple(f"r{day}" for day in range(PAIR.period // DAY))
"""A pair's sets of tokens: one for each day, because it outlives their use."""

TOKEN_DAYS = 3
"""For how many days, the payment's own included, a pair keeps its tokens: repeats come for 12 hours, the decision
stream repairs for 24 more. Everything else keeps them as long as the item.
"""

ENTITIES: tuple[Kind, ...] = (PAYER, DEVICE, PAYEE, MERCHANT, INSTRUMENT)
KINDS: dict[str, Kind] = {kind.name: kind for kind in (*ENTITIES, PAIR)}
RECEIVING: dict[str, Kind] = {"p2p": PAYEE, "merchant": MERCHANT, "cash_out": INSTRUMENT, "top_up": INSTRUMENT}
"""The kind under which a type's counterparty is counted."""


class Slice(NamedTuple):
    """A part of the entities whose kinds share a sort key letter. One worker folds a slice, period after period."""

    sk: str
    number: int

    def key(self, period: int) -> str:
        """Return the key of the slice's items of one period in the fold's index."""
        return f"{self.sk}{period}#{self.number}"


ShardSchedule = Sequence[tuple[int, int]]
"""(from day, number of shards), ascending: each holds until the next; before the first it is 1."""


class Shards(NamedTuple):
    """The number of items into which periods of the hottest entities are split, by `Kind.key`; all others have one.

    The number depends on the day that a period lies in, and never changes for today or tomorrow. So every writer,
    reader, duplicate and repair of an item agrees about it. `sharding` says how it changes.
    """

    steps: Mapping[str, ShardSchedule]

    def of(self, kind: Kind, entity: str, day: int) -> int:
        """Return the number of shards of an entity's periods on an epoch day. Pairs are never split."""
        if not self.steps or kind.profile is None:
            return 1
        return number_on(self.steps.get(kind.key(entity), ()), day)


def number_on(steps: ShardSchedule, day: int) -> int:
    """Return the number of shards that a schedule gives for an epoch day."""
    number = 1
    for start, then in steps:
        if start <= day:
            number = then
    return number


UNSPLIT = Shards({})


class Key(NamedTuple):
    """The key of one item of the counters table: an entity's period, or one shard of it.

    Shard 0 has the period's own name, and so have its shards put together.
    """

    kind: Kind
    entity: str
    period: int
    shard: int = 0

    @property
    def pk(self) -> str:
        """Partition key; `#` is in no identifier."""
        return self.kind.key(self.entity) + (f"#{self.shard}" if self.shard else "")

    @property
    def day(self) -> int:
        """The epoch day that the period begins on."""
        return self.period * self.kind.period // DAY

    @property
    def whole(self) -> "Key":
        """The period that a shard belongs to."""
        return self._replace(shard=0) if self.shard else self

    def split(self, shards: Shards) -> "tuple[Key, ...]":
        """Every item of this period."""
        number = shards.of(self.kind, self.entity, self.day)
        return tuple(self._replace(shard=n) for n in range(number)) if number > 1 else (self,)

    @property
    def sk(self) -> str:
        """Sort key: a letter for the length of the period, and its number since the epoch."""
        return f"{self.kind.sk}{self.period}"

    @property
    def slice(self) -> Slice | None:
        """The slice of the fold that will carry the item into its profile, the same for all shards; None for pairs,
        which are read directly.
        """
        whole = self.kind.key(self.entity)
        return None if self.kind.profile is None else Slice(self.kind.sk, _hash(whole) % FOLD_SLICES)


class Update(NamedTuple):
    """The update of one item by one attempt; refused as a whole when the item holds the attempt's token."""

    key: Key
    buckets: tuple[tuple[str, int], ...]
    amount: int
    hour: int
    slot: int | None
    device: int | None
    tokens: str
    token: bytes
    closed: tuple[str, ...]

    @property
    def value(self) -> int:
        """The number that is added to every bucket: one payment and its minor units, packed."""
        return packed(1, self.amount)

    @property
    def ttl(self) -> int:
        """Epoch seconds after which nothing reads the item."""
        return (self.key.period + 1) * self.key.kind.period + KEEP_DAYS * DAY

    @property
    def fold(self) -> str | None:
        """Key of the fold's index, under which the item waits for its fold."""
        part = self.key.slice
        return None if part is None else part.key(self.key.period)


@dataclass(slots=True, eq=False)
class Item:
    """One counters item.

    buckets  packed count and sum, by scale letter and number; the attribute's name is both
    slots    bitmap of the counterparties' slots, by hour; in DynamoDB one set `d` of hour * SLOTS + slot
    devices  payments, by the device's slot; the attribute's name is `e` and the slot
    tokens    identities counted, by attribute: `r`, in pairs `r` and the number of their day
    """

    buckets: dict[str, dict[int, int]] = field(default_factory=lambda: {scale: {} for scale in SCALES})
    slots: dict[int, int] = field(default_factory=dict)
    devices: dict[int, int] = field(default_factory=dict)
    tokens: dict[str, set[bytes]] = field(default_factory=dict)

    def apply(self, update: Update) -> bool:
        """Count one attempt, unless its token is there already: exactly DynamoDB's condition. Return whether it was."""
        tokens = self.tokens.setdefault(update.tokens, set())
        if update.token in tokens:
            return False
        tokens.add(update.token)
        value = update.value
        for scale, index in update.buckets:
            bucket = self.buckets[scale]
            bucket[index] = bucket.get(index, 0) + value
        if update.slot is not None:
            self.slots[update.hour] = self.slots.get(update.hour, 0) | 1 << update.slot
        if update.device is not None:
            self.devices[update.device] = self.devices.get(update.device, 0) + 1
        for closed in update.closed:
            self.tokens.pop(closed, None)
        return True

    def add(self, other: "Item") -> None:
        """Add another shard of the same period, without its tokens."""
        for scale, buckets in other.buckets.items():
            _add(self.buckets[scale], buckets)
        _add(self.devices, other.devices)
        for hour, slots in other.slots.items():
            self.slots[hour] = self.slots.get(hour, 0) | slots


def merged(items: Iterable[tuple[Key, Item]]) -> dict[Key, Item]:
    """Return items by period, the shards of each put together in its first one."""
    whole: dict[Key, Item] = {}
    for key, item in items:
        if (first := whole.setdefault(key.whole if key.shard else key, item)) is not item:
            first.add(item)
    return whole


Profile = Mapping[str, Any]


@dataclass
class State:
    """The counters' state for one payment.

    items      live items by key
    profiles   by `<kind>#<value>`
    recounted  the attempt was counted before
    stale      the fold is behind the windows that are read from a profile
    """

    items: dict[Key, Item]
    profiles: dict[str, Profile]
    recounted: bool = False
    stale: bool = False


def packed(count: int, amount: int) -> int:
    """Pack a number of payments and their minor units into one integer, so that a sum of packed numbers sums both.

    >>> unpacked(packed(2, 700) + packed(1, 50))
    (3, 750)
    """
    return amount * PACK + count


def unpacked(total: int) -> tuple[int, int]:
    """Return count and sum of minor units.

    >>> unpacked(packed(1, 5))
    (1, 5)
    """
    amount, count = divmod(total, PACK)
    return count, amount


def _add(total: dict[int, int], part: Mapping[int, int]) -> None:
    for number, value in part.items():
        total[number] = total.get(number, 0) + value


def _hash(value: str) -> int:
    return int.from_bytes(hashlib.sha256(value.encode()).digest()[:8])


def slot_of(value: str) -> int:
    """Return the slot of a counterparty or device, in [0, SLOTS).

    >>> 0 <= slot_of("alice") < SLOTS
    True
    """
    return _hash(value) % SLOTS


def pair_of(transaction: Transaction) -> str:
    """Name the pair of payer and counterparty. No id has `|` or `#`, so an instrument never reads as a payee."""
    other = transaction.counterparty if transaction.type in NEEDS_PAYEE else f"#{transaction.counterparty}"
    return f"{transaction.payer_id}|{other}"


def sides(transaction: Transaction) -> Iterator[tuple[Kind, str, str | None]]:
    """Yield (kind, entity, counterparty to be counted distinctly) for each item that a payment updates."""
    yield PAYER, transaction.payer_id, transaction.counterparty
    yield RECEIVING[transaction.type], transaction.counterparty, transaction.payer_id
    yield PAIR, pair_of(transaction), None
    if transaction.device_id is not None:
        yield DEVICE, transaction.device_id, transaction.payer_id


def touched(transaction: Transaction) -> frozenset[str]:
    """Name all that two payments may share: their items, of whatever period, and their id."""
    return frozenset((transaction.transaction_id, *(kind.key(entity) for kind, entity, _ in sides(transaction))))


def _update(transaction: Transaction, shards: Shards, kind: Kind, entity: str, counterparty: str | None) -> Update:
    period, second = divmod(transaction.epoch, kind.period)
    number = shards.of(kind, entity, transaction.epoch // DAY)
    day = second // DAY
    device = transaction.device_id if kind is PAYER else None
    return Update(
        # Of another byte than the token's: else the tokens of a shard would differ in fewer bits.
        key=Key(kind, entity, period, transaction.identity[TOKEN_BYTES] % number),
        buckets=tuple([(scale, second // SCALES[scale]) for scale in kind.scales]),
        amount=transaction.amount,
        hour=second // 3600,
        slot=None if counterparty is None else slot_of(counterparty),
        device=None if device is None else slot_of(device),
        tokens=PAIR_TOKENS[day] if kind is PAIR else "r",
        token=transaction.identity[:TOKEN_BYTES],
        closed=PAIR_TOKENS[: max(day - TOKEN_DAYS + 1, 0)] if kind is PAIR else (),
    )


def updates(transaction: Transaction, shards: Shards = UNSPLIT) -> tuple[Update, ...]:
    """Return every update of one attempt: payer, counterparty, pair and, if it names one, device."""
    return tuple([_update(transaction, shards, *side) for side in sides(transaction)])


def reads(moved: Sequence[Update], shards: Shards = UNSPLIT) -> tuple[Key, ...]:
    """Return the items of each entity's earlier live periods."""
    earlier = [
        Key(kind, entity, before)
        for kind, entity, period, _ in [update.key for update in moved]
        for before in range(period - 1, period - kind.live, -1)
    ]
    return tuple([item for key in earlier for item in key.split(shards)] if shards.steps else earlier)


def siblings(moved: Update, shards: Shards) -> tuple[Key, ...]:
    """Return the other shards of the period that an update changes."""
    return tuple(key for key in moved.key.split(shards) if key != moved.key) if shards.steps else ()


def profiles(transaction: Transaction) -> dict[str, str]:
    """Return partition keys in the profiles table by their role in this payment."""
    roles = {
        "payer": ("account", transaction.payer_id),
        "payee": ("account", transaction.payee_id),
        "device": ("device", transaction.device_id),
        "instrument": ("instrument", transaction.instrument_id),
        "ip": ("ip", transaction.ip),
    }
    return {role: f"{kind}#{value}" for role, (kind, value) in roles.items() if value is not None}
