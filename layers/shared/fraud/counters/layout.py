"""Counters of attempts, described as data: the items that a payment updates, and the items that it reads.

Every name derives from the payment's own time and identity. Therefore updates commute, and an update that comes twice
finds its own token. `updates` and `reads` define what is written and read; `windows.measure` defines what it means.
`decisions.store` carries the definitions out on DynamoDB, and `in_memory.InMemoryCounters` in dictionaries.
docs/architecture.md draws the layout. A bucket packs count and sum into one integer, so that one ADD changes both.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from fraud.transaction import NEEDS_PAYEE, Transaction

DAY = 86_400
PACK = 10**9
"""Factor of the sum in a bucket: a bucket is the sum of minor units * PACK + count.

A window must have fewer than PACK payments. The count is the lower part because it is nearly always small, so the
number has few significant digits (D-034). DynamoDB stores two digits in a byte, and 38 at most.
"""

TOKEN_BYTES = 6
"""Length of a token in bytes: the part of the identity that tells one attempt from the others in an item."""

SLOTS = 127
"""Number of bits of the linear-counting bitmap: a prime that fits 16 bytes."""

SCALES: dict[str, int] = {"s": 10, "m": 300, "h": 3600, "b": DAY}
"""Width of a bucket in seconds, by the first letter of its attribute. The number after the letter counts the buckets
within the item.
"""

HORIZON_DAYS = 30
"""Days of the longest window, today included."""

KEEP_DAYS = 35
"""Days that an item is kept after its period. Reads reach back 30 days, repairs a little further."""

FOLD_SLICES = 64
"""Number of slices into which the entities of a letter are divided. Each slice is folded by itself."""


@dataclass(frozen=True, eq=False)
class Kind:
    """A kind of entity that is counted, and the layout of its items.

    period   seconds that one item spans
    live     number of periods that are read as items, the payment's own included. Older ones come from the profile
    sk       letter of the sort key
    scales   letters of the kind's buckets
    profile  kind of the profile that the items are folded into; None: they are never folded
    side     name of the profile's attribute that holds the kind's `history.FoldedHistory`
    """

    name: str
    period: int = DAY
    live: int = 2
    sk: str = "d"
    scales: tuple[str, ...] = ("s", "m", "h")
    profile: str | None = None
    side: str = ""

    def key(self, entity: str) -> str:
        """Return the partition key of an entity in the counters table.

        >>> MERCHANT.key("shop")
        'merchant#shop'
        """
        return f"{self.name}#{entity}"

    def profile_key(self, entity: str) -> str:
        """Return the partition key of an entity in the profiles table. Only for a kind that has a profile.

        >>> MERCHANT.profile_key("shop")
        'account#shop'
        """
        return f"{self.profile}#{entity}"


PAYER = Kind("payer", profile="account", side="o")
PAYEE = Kind("payee", profile="account", side="i")
MERCHANT = Kind("merchant", period=3600, live=16, sk="h", profile="account", side="m")
DEVICE = Kind("device", profile="device", side="u")
INSTRUMENT = Kind("instrument", profile="instrument", side="u")
PAIR = Kind("pair", period=32 * DAY, sk="b", scales=("b",))

PAIR_TOKENS: tuple[str, ...] = tuple(f"r{day}" for day in range(PAIR.period // DAY))
"""Attributes of a pair's tokens: one set for each day, because a pair's item is kept longer than tokens are needed."""

TOKEN_DAYS = 3
"""Days that a pair keeps its tokens, the payment's own day included. Repeats come for 12 hours, and the decision stream
repairs for 24 hours more. All other kinds keep their tokens as long as the item.
"""

ENTITIES: tuple[Kind, ...] = (PAYER, DEVICE, PAYEE, MERCHANT, INSTRUMENT)
"""Kinds that are folded into a profile: all but pairs."""

KINDS: dict[str, Kind] = {kind.name: kind for kind in (*ENTITIES, PAIR)}
"""All kinds by name."""

RECEIVING: dict[str, Kind] = {"p2p": PAYEE, "merchant": MERCHANT, "cash_out": INSTRUMENT, "top_up": INSTRUMENT}
"""The kind under which the counterparty of a transaction is counted, by the transaction's type."""


class Slice(NamedTuple):
    """A part of the entities whose kinds share a sort key letter. One worker folds a slice, period after period.

    sk      the letter
    number  in [0, FOLD_SLICES)
    """

    sk: str
    number: int

    def key(self, period: int) -> str:
        """Return the key in the fold's index of the slice's items of one period.

        >>> Slice("h", 9).key(492324)
        'h492324#9'
        """
        return f"{self.sk}{period}#{self.number}"


ShardSchedule = Sequence[tuple[int, int]]
"""Steps (from epoch day, number of shards) in ascending order. A step holds until the next one; before the first step
the number is 1.
"""


class Shards(NamedTuple):
    """The shard table: into how many items the periods of the hottest entities are split.

    steps  schedule by `Kind.key` of the entity. An entity that is not in it is not split

    The number depends on the day that a period lies in, and never changes for today or tomorrow. Therefore every
    writer, reader, duplicate and repair of an item uses the same number. `sharding` defines how a schedule changes.
    """

    steps: Mapping[str, ShardSchedule]

    def of(self, kind: Kind, entity: str, day: int) -> int:
        """Return the number of shards of an entity's periods on an epoch day. Pairs are never split.

        >>> shards = Shards({"merchant#shop": ((20516, 8),)})
        >>> shards.of(MERCHANT, "shop", 20516), shards.of(MERCHANT, "corner", 20516)
        (8, 1)
        """
        if not self.steps or kind.profile is None:
            return 1
        return number_on(self.steps.get(kind.key(entity), ()), day)


def number_on(steps: ShardSchedule, day: int) -> int:
    """Return the number of shards that a schedule gives for an epoch day.

    >>> [number_on([(20516, 8), (20530, 1)], day) for day in (20515, 20516, 20529, 20530)]
    [1, 8, 8, 1]
    """
    number = 1
    for start, then in steps:
        if start <= day:
            number = then
    return number


UNSPLIT = Shards({})
"""The empty shard table: no entity is split."""


class Key(NamedTuple):
    """The key of one item of the counters table: the period of an entity, or one shard of it.

    period  number of the period since the epoch, in units of `kind.period`
    shard   0 for a period that is not split

    Shard 0 has the same key as the period itself. The item that is merged from all shards also has this key.
    """

    kind: Kind
    entity: str
    period: int
    shard: int = 0

    @property
    def pk(self) -> str:
        """Return the partition key. Its parts are separated by `#`, which no identifier has.

        >>> Key(MERCHANT, "shop", 492324).pk, Key(MERCHANT, "shop", 492324, shard=3).pk
        ('merchant#shop', 'merchant#shop#3')
        """
        return self.kind.key(self.entity) + (f"#{self.shard}" if self.shard else "")

    @property
    def day(self) -> int:
        """Return the epoch day on which the period begins.

        >>> Key(MERCHANT, "shop", 20516 * 24 + 12).day
        20516
        """
        return self.period * self.kind.period // DAY

    @property
    def whole(self) -> "Key":
        """Return the key of the period that a shard belongs to."""
        return self._replace(shard=0) if self.shard else self

    def split(self, shards: Shards) -> "tuple[Key, ...]":
        """Return the keys of all items of this period."""
        number = shards.of(self.kind, self.entity, self.day)
        return tuple(self._replace(shard=n) for n in range(number)) if number > 1 else (self,)

    @property
    def sk(self) -> str:
        """Return the sort key: a letter for the length of the period, and the period's number since the epoch."""
        return f"{self.kind.sk}{self.period}"

    @property
    def slice(self) -> Slice | None:
        """Return the slice that folds the item, the same for all shards; None for pairs, which are not folded."""
        whole = self.kind.key(self.entity)
        return None if self.kind.profile is None else Slice(self.kind.sk, _hash(whole) % FOLD_SLICES)


class Update(NamedTuple):
    """The change of one item by one attempt. It is refused as a whole when the item holds the attempt's token.

    buckets  (scale letter, number) of the buckets that it adds to
    amount   minor units
    hour     hour within the item, to which `slot` belongs
    slot     slot of the counterparty; None: the kind counts no distinct counterparties
    device   slot of the device; None: the kind counts no devices, or the payment names none
    tokens   name of the attribute that the token is added to
    token    the first TOKEN_BYTES bytes of the transaction's identity
    closed   names of token attributes that are no longer needed and are removed
    """

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
        """Return the number that is added to every bucket: one payment and its minor units, packed."""
        return packed(1, self.amount)

    @property
    def ttl(self) -> int:
        """Return the item's expiry in epoch seconds. Nothing reads the item after that."""
        return (self.key.period + 1) * self.key.kind.period + KEEP_DAYS * DAY

    @property
    def fold(self) -> str | None:
        """Return the key in the fold's index, under which the item is listed for its fold. Return None for pairs."""
        part = self.key.slice
        return None if part is None else part.key(self.key.period)


@dataclass(slots=True, eq=False)
class Item:
    """One item of the counters table.

    buckets  packed count and sum, by scale letter and number. In DynamoDB the attribute's name is letter and number
    slots    bitmap of the counterparties' slots, by hour. In DynamoDB it is one set `d` of hour * SLOTS + slot
    devices  number of payments, by the device's slot. In DynamoDB the attribute's name is `e` and the slot
    tokens   tokens of counted attempts, by attribute: `r`; in a pair `r` and the number of the day within the item
    """

    buckets: dict[str, dict[int, int]] = field(default_factory=lambda: {scale: {} for scale in SCALES})
    slots: dict[int, int] = field(default_factory=dict)
    devices: dict[int, int] = field(default_factory=dict)
    tokens: dict[str, set[bytes]] = field(default_factory=dict)

    def apply(self, update: Update) -> bool:
        """Count one attempt, unless the item has its token already. Return whether it was counted.

        The condition is the same as in DynamoDB (`codec.attempt_update`).
        """
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
        """Add the counts of another shard of the same period. Its tokens are left out."""
        for scale, buckets in other.buckets.items():
            _add(self.buckets[scale], buckets)
        _add(self.devices, other.devices)
        for hour, slots in other.slots.items():
            self.slots[hour] = self.slots.get(hour, 0) | slots


def merged(items: Iterable[tuple[Key, Item]]) -> dict[Key, Item]:
    """Merge the shards of each period. Return one item for each period, by the period's key.

    The first item of a period is changed in place, and returned.
    """
    whole: dict[Key, Item] = {}
    for key, item in items:
        if (first := whole.setdefault(key.whole if key.shard else key, item)) is not item:
            first.add(item)
    return whole


Profile = Mapping[str, Any]
"""A row of the profiles table, by attribute: folded history by side, fraud buckets, status and other values."""


@dataclass
class State:
    """The counters' state: the items and profiles from which the counters of one payment are measured.

    items      live items by key
    profiles   profiles by partition key, `<kind>#<value>`
    recounted  the attempt had been counted before
    stale      the fold is behind: a window reads periods that are not yet folded into the profile
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
    """Return count and sum of minor units of a packed integer.

    >>> unpacked(packed(1, 5))
    (1, 5)
    """
    amount, count = divmod(total, PACK)
    return count, amount


def _add(total: dict[int, int], part: Mapping[int, int]) -> None:
    """Add the numbers of `part` to those of `total` with the same key, in place."""
    for number, value in part.items():
        total[number] = total.get(number, 0) + value


def _hash(value: str) -> int:
    """Return the first 64 bits of SHA-256. They are the same in every process, unlike Python's `hash`."""
    return int.from_bytes(hashlib.sha256(value.encode()).digest()[:8])


def slot_of(value: str) -> int:
    """Return the slot of a counterparty or a device: a hash in [0, SLOTS).

    >>> 0 <= slot_of("alice") < SLOTS
    True
    """
    return _hash(value) % SLOTS


def pair_of(transaction: Transaction) -> str:
    """Return the entity of the pair of payer and counterparty.

    An instrument gets a `#` before its id. No id has `|` or `#`, so an instrument cannot be taken for a payee of the
    same name.
    """
    other = transaction.counterparty if transaction.type in NEEDS_PAYEE else f"#{transaction.counterparty}"
    return f"{transaction.payer_id}|{other}"


def sides(transaction: Transaction) -> Iterator[tuple[Kind, str, str | None]]:
    """Yield (kind, entity, value to be counted distinctly) for each item that a payment updates.

    The value is the party on the other side; None: the kind counts no distinct values.
    """
    yield PAYER, transaction.payer_id, transaction.counterparty
    yield RECEIVING[transaction.type], transaction.counterparty, transaction.payer_id
    yield PAIR, pair_of(transaction), None
    if transaction.device_id is not None:
        yield DEVICE, transaction.device_id, transaction.payer_id


def shared_names(transaction: Transaction) -> frozenset[str]:
    """Return the names of everything that two payments may have in common: their id, and their items of any period.

    Payments without a common name may be evaluated at the same time.
    """
    return frozenset((transaction.transaction_id, *(kind.key(entity) for kind, entity, _ in sides(transaction))))


def _update(transaction: Transaction, shards: Shards, kind: Kind, entity: str, counterparty: str | None) -> Update:
    period, second = divmod(transaction.epoch, kind.period)
    number = shards.of(kind, entity, transaction.epoch // DAY)
    day = second // DAY
    device = transaction.device_id if kind is PAYER else None
    return Update(
        # The shard comes from a byte that is not in the token. Otherwise the tokens of one shard would share some bits.
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
    """Return all updates of one attempt: payer, counterparty, pair and, if the payment has one, device.

    shards  the shard table; it decides which shard of a split period the attempt is counted in
    """
    return tuple([_update(transaction, shards, *side) for side in sides(transaction)])


def reads(moved: Sequence[Update], shards: Shards = UNSPLIT) -> tuple[Key, ...]:
    """Return the keys of the earlier live items of each entity, all shards included.

    moved  the payment's updates, whose own items are not returned
    """
    earlier = [
        Key(kind, entity, before)
        for kind, entity, period, _ in [update.key for update in moved]
        for before in range(period - 1, period - kind.live, -1)
    ]
    return tuple([item for key in earlier for item in key.split(shards)] if shards.steps else earlier)


def siblings(moved: Update, shards: Shards) -> tuple[Key, ...]:
    """Return the keys of the other shards of the period that an update changes."""
    return tuple(key for key in moved.key.split(shards) if key != moved.key) if shards.steps else ()


def profiles(transaction: Transaction) -> dict[str, str]:
    """Return the partition keys of a payment's profiles, by their role in the payment.

    A role that the payment does not have is left out. The roles are payer, payee, device, instrument and ip.
    """
    roles = {
        "payer": ("account", transaction.payer_id),
        "payee": ("account", transaction.payee_id),
        "device": ("device", transaction.device_id),
        "instrument": ("instrument", transaction.instrument_id),
        "ip": ("ip", transaction.ip),
    }
    return {role: f"{kind}#{value}" for role, (kind, value) in roles.items() if value is not None}
