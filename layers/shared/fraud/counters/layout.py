"""Counters of attempts, described as data: the items that a payment updates, and the items that it reads.

Every name derives from the payment's own time and identity. Therefore updates commute, and an update that comes twice
finds its own token. `updates` and `reads` define what is written and read; `windows.measure` defines what it means.
`counters.store` carries the definitions out on DynamoDB, and `in_memory.InMemoryCounters` in dictionaries.
docs/architecture.md draws the layout. A bucket packs count and sum into one integer, so that one ADD changes both.
"""

import base64
import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from fraud.transaction import NEEDS_PAYEE, Transaction

DAY = 86_400
PACK = 10**9
"""Factor of the sum in a bucket: a bucket is the sum of minor units * PACK + count.

A window must have fewer than PACK payments. The count is the lower part because it is nearly always small, so the
number has few significant digits (D-034). DynamoDB stores two digits in a byte, and 38 at most.
"""

LOG_STEPS = 16
"""Steps of a log size by which an amount grows to e times itself: one step is 6 %."""

SQUARES = 10**12
"""Factor of the sum of squares in a spread, which is the sum of log sizes squared * SQUARES + the sum of log sizes.

No log size reaches 1,000, so both sums hold PACK payments: 27 digits at most, of the 38 that DynamoDB stores.
"""

CLASSES = 32
"""Number of size classes, each half an octave wide. The first one also has every smaller amount, the last one every
larger amount.
"""

CLASS_OF_UNIT = 10
"""The size class that begins at one unit of the currency (`fraud.transaction.UNITS`)."""

TOKEN_BYTES = 6
"""Length of a token in bytes: the part of the keyed hash that tells one attempt from the others in an item."""

LEVELS = 32
"""Number of levels of a sample, from 0 on."""

CLOSED = LEVELS
"""The level of a closed item: every attempt has left, so none is counted. All lower levels are levels of sampling."""

MOST_GRADES = 8
"""Most levels that an amount alone keeps an attempt in a sample: from 256 units on, all amounts are kept alike."""

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

NETWORKS = "networks"
"""Key of the item of the profiles table that holds the denied networks: the end of each by its name (D-079)."""

MODELS = "models"
"""Key of the item of the profiles table that holds the registry's pointer to the models in use (D-153)."""

MARKS = "marks"
"""Key of the item of the profiles table that holds the pointer to the snapshot of marks that is in force (D-168)."""

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
    sizes    the spread and the size classes of its amounts are counted, too
    """

    name: str
    period: int = DAY
    live: int = 2
    sk: str = "d"
    scales: tuple[str, ...] = ("s", "m", "h")
    profile: str | None = None
    side: str = ""
    sizes: bool = False

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


PAYER = Kind("payer", profile="account", side="o", sizes=True)
PAYEE = Kind("payee", profile="account", side="i")
MERCHANT = Kind("merchant", period=3600, live=16, sk="h", profile="account", side="m")
DEVICE = Kind("device", profile="device", side="u")
INSTRUMENT = Kind("instrument", profile="instrument", side="u")
PAIR = Kind("pair", period=32 * DAY, sk="b", scales=("b",))

TOKENS: tuple[str, ...] = tuple(f"r{leave}" for leave in range(LEVELS))
"""Attributes of an item's tokens: a set for each level at which attempts leave. A raise removes whole sets, unread."""

PAIR_TOKENS: tuple[str, ...] = tuple(f"r{day}" for day in range(PAIR.period // DAY))
"""Attributes of a pair's tokens: one set for each day, because a pair's item is kept longer than tokens are needed."""

TOKEN_DAYS = 3
"""Days that a pair keeps its tokens, the payment's own day included. Repeats come for 12 hours, and the decision stream
repairs for 24 hours more. All other kinds keep their tokens as long as the item.
"""

VOIDED = "rv"
"""Attribute of the tokens of attempts that are void (D-109). It holds none that the item's tokens do not hold."""

MOVED = "rm"
"""Attribute of the tokens of attempts whose void was taken back, because their money has moved after all (D-133)."""

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


class Key(NamedTuple):
    """The key of one item of the counters table: one period of an entity.

    period  number of the period since the epoch, in units of `kind.period`
    """

    kind: Kind
    entity: str
    period: int

    @property
    def pk(self) -> str:
        """Return the partition key.

        >>> Key(MERCHANT, "shop", 492324).pk
        'merchant#shop'
        """
        return self.kind.key(self.entity)

    @property
    def day(self) -> int:
        """Return the epoch day on which the period begins.

        >>> Key(MERCHANT, "shop", 20516 * 24 + 12).day
        20516
        """
        return self.period * self.kind.period // DAY

    @property
    def sk(self) -> str:
        """Return the sort key: a letter for the length of the period, and the period's number since the epoch."""
        return f"{self.kind.sk}{self.period}"

    @property
    def slice(self) -> Slice | None:
        """Return the slice that folds the item; None for pairs, which are not folded."""
        return None if self.kind.profile is None else Slice(self.kind.sk, _hash(self.pk) % FOLD_SLICES)


class Update(NamedTuple):
    """The change of one item by one attempt. It is refused as a whole when the item holds the attempt's token.

    buckets  (scale letter, number) of the buckets that it adds to
    amount   minor units, as counters see them
    hour     hour within the item, to which `slot` belongs
    slot     slot of the counterparty; None: the kind counts no distinct counterparties
    device   slot of the device; None: the kind counts no devices, or the payment names none
    size     size class of the amount; None: the kind counts no sizes
    tokens   name of the attribute that the token is added to
    token    the attempt's token: the first TOKEN_BYTES bytes of its keyed hash
    outlived names of token attributes that are no longer needed and are removed
    leave    level of the item from which on the attempt is not in its sample
    grade    number of levels that the amount alone keeps it in the sample
    """

    key: Key
    buckets: tuple[tuple[str, int], ...]
    amount: int
    hour: int
    slot: int | None
    device: int | None
    size: int | None
    tokens: str
    token: bytes
    outlived: tuple[str, ...]
    leave: int
    grade: int

    @property
    def value(self) -> int:
        """Return the number that one payment adds to every bucket: itself and its minor units, packed."""
        return packed(1, self.amount)

    @property
    def spread(self) -> int:
        """Return the number that one payment adds to the spread of its hour."""
        return spread_of(self.amount)

    def weight(self, level: int) -> int:
        """Return how many payments the attempt stands for in a sample of this level, if it is in it.

        It is the inverse of the probability to be in it: the amount keeps it for `grade` levels, and each further
        level halves the probability.
        """
        return 1 << max(level - self.grade, 0)

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
    spreads  sums of log sizes and of their squares (`spread_of`), by hour. In DynamoDB the attribute's name is `q` and
             the hour
    sizes    number of payments, by size class. In DynamoDB the attribute's name is `c` and the class
    tokens   tokens of counted attempts, by attribute: `r` and the attempt's `leave`; in a pair the day within the item.
             In base64 where the transport does not decode
    level    level of its sample (`sampling`). In DynamoDB the attribute `l`; 0 is its absence
    voids    minor units of attempts that moved no money, by hour; in a payer's item only. In DynamoDB the attribute's
             name is `v` and the hour
    voided   tokens of those attempts; empty in an item that was read, because no reader needs them

    A bucket, a device, a spread or a size that is taken back to 0 is absent.
    """

    buckets: dict[str, dict[int, int]] = field(default_factory=lambda: {scale: {} for scale in SCALES})
    slots: dict[int, int] = field(default_factory=dict)
    devices: dict[int, int] = field(default_factory=dict)
    spreads: dict[int, int] = field(default_factory=dict)
    sizes: dict[int, int] = field(default_factory=dict)
    tokens: dict[str, set[bytes | str]] = field(default_factory=dict)
    level: int = 0
    voids: dict[int, int] = field(default_factory=dict)
    voided: set[bytes] = field(default_factory=set)

    def holds(self, update: Update) -> bool:
        """Tell whether the attempt was counted and its token is still here."""
        tokens = self.tokens.get(update.tokens)
        return tokens is not None and (update.token in tokens or base64.b64encode(update.token).decode() in tokens)

    def apply(self, update: Update) -> bool:
        """Count one attempt by the item's level, unless its token is here or it has left the sample. Tell whether.

        The condition is the same as in DynamoDB (`codec.attempt_update`).
        """
        if update.leave < self.level or self.holds(update):
            return False
        self.tokens.setdefault(update.tokens, set()).add(update.token)
        self.add(update, update.weight(self.level))
        self._add_names(update, 1)
        for outlived in update.outlived:
            self.tokens.pop(outlived, None)
        return True

    def take_back(self, update: Update, level: int) -> bool:
        """Take a counted attempt back, unless its token is gone. Tell whether. Its slot stays.

        level  the level at which it was counted
        """
        if not self.holds(update):
            return False
        self.tokens[update.tokens].discard(update.token)
        self.add(update, -update.weight(level))
        self._add_names(update, -1)
        return True

    def void(self, update: Update) -> bool:
        """Void a counted attempt, unless it is void already. Tell whether. Nothing but `voids` changes by it.

        The condition is the same as in DynamoDB (`codec.void_update`).
        """
        if update.token in self.voided or not self.holds(update):
            return False
        self.voided.add(update.token)
        _add(self.voids, update.hour, update.amount)
        return True

    def copy(self) -> "Item":
        """Return an item that can be changed without changing this one; both share their tokens."""
        buckets = {scale: dict(numbers) for scale, numbers in self.buckets.items()}
        slots, devices, spreads, sizes = map(dict, (self.slots, self.devices, self.spreads, self.sizes))
        return Item(buckets, slots, devices, spreads, sizes, self.tokens, self.level, dict(self.voids), self.voided)

    def add(self, update: Update, weight: int) -> None:
        """Add an attempt, `weight` times (which may be negative), to its buckets and its spread; and add its slot."""
        for scale, index in update.buckets:
            _add(self.buckets[scale], index, update.value * weight)
        if update.size is not None:
            _add(self.spreads, update.hour, update.spread * weight)
        if update.slot is not None:
            self.slots[update.hour] = self.slots.get(update.hour, 0) | 1 << update.slot

    def _add_names(self, update: Update, change: int) -> None:
        """Add to the number of payments of the attempt's device and size class."""
        if update.device is not None:
            _add(self.devices, update.device, change)
        if update.size is not None:
            _add(self.sizes, update.size, change)

    def token_count(self) -> int:
        """Return the number of tokens."""
        return sum(map(len, self.tokens.values()))

    def level_for(self, most: int) -> int:
        """Return the least level, from the item's own on, at which at most `most` of its tokens are in the sample.

        >>> Item(tokens={"r0": [b"a", b"b"], "r3": [b"c"]}).level_for(1)
        1
        """
        left = self.token_count()
        for level in range(self.level, LEVELS):
            if left <= most:
                return level
            left -= len(self.tokens.get(f"r{level}", ()))
        return LEVELS


Profile = Mapping[str, Any]
"""A row of the profiles table, by attribute: folded history by side, fraud buckets, status and other values."""


@dataclass
class State:
    """The counters' state: the items and profiles from which the counters of one payment are measured.

    items      live items by key
    profiles   profiles by partition key, `<kind>#<value>`
    recounted  the attempt had been counted before
    stale      the fold is behind: a window reads periods that are not yet folded into the profile
    distorted  distinct counts mix slots of two id keys (`keys.Keys.distorts`)
    device     slot of the payment's device
    snapshot   number of the snapshot of marks that is believed; 0: none
    """

    items: dict[Key, Item]
    profiles: dict[str, Profile]
    recounted: bool = False
    stale: bool = False
    distorted: bool = False
    device: int | None = None
    snapshot: int = 0

    @property
    def estimated(self) -> list[str]:
        """The kinds of counters that are estimates, because an item of theirs is sampled or closed."""
        kinds = {key.kind.name for key, item in self.items.items() if item.level}
        return [name for name in KINDS if name in kinds] if kinds else []


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


def log_size(amount: int) -> int:
    """Return the log size of an amount in minor units: round(LOG_STEPS * ln(amount)).

    >>> log_size(1), log_size(1000), log_size(1065)
    (0, 111, 112)
    """
    return round(LOG_STEPS * math.log(amount))


def spread_of(amount: int) -> int:
    """Return the spread of one payment, so that a sum of spreads sums log sizes and their squares.

    >>> unpacked_spread(spread_of(1000) + spread_of(1065))
    (223, 24865)
    """
    size = log_size(amount)
    return size * size * SQUARES + size


def unpacked_spread(total: int) -> tuple[int, int]:
    """Return the sum of log sizes and the sum of their squares."""
    squares, sizes = divmod(total, SQUARES)
    return sizes, squares


def size_class(amount: int, unit: int) -> int:
    """Return the size class of an amount: floor(2 * log2(amount / unit)) + CLASS_OF_UNIT, within [0, CLASSES).

    amount, unit  minor units

    >>> [size_class(amount, 1_000) for amount in (1, 999, 1_000, 1_414, 1_415, 10**9)]
    [0, 9, 10, 10, 11, 31]
    """
    return min(max(((amount * amount << CLASS_OF_UNIT) // (unit * unit)).bit_length() - 1, 0), CLASSES - 1)


def least_of_class(number: int, unit: int) -> int:
    """Return the amount at which a size class begins, in whole minor units, rounded down.

    >>> [least_of_class(number, 1_000) for number in (0, 10, 11, 12)]
    [31, 1000, 1414, 2000]
    """
    return math.isqrt((unit * unit << number) >> CLASS_OF_UNIT)


def _add(numbers: dict[int, int], index: int, value: int) -> None:
    """Add a number in place. What becomes 0 is removed."""
    if total := numbers.get(index, 0) + value:
        numbers[index] = total
    else:
        numbers.pop(index, None)


def _hash(value: str) -> int:
    """Return the first 64 bits of SHA-256. They are the same in every process, unlike Python's `hash`."""
    return int.from_bytes(hashlib.sha256(value.encode()).digest()[:8])


class Keyed(Protocol):
    """The keys that tokens and slots are made with: `keys.Keys`."""

    def mac(self, identity: bytes, day: int) -> bytes:
        """Return the keyed hash of an attempt."""

    def slot(self, kind: str, value: str) -> int:
        """Return the slot of an id of a kind of profile."""


def pair_of(transaction: Transaction) -> str:
    """Return the entity of the pair of payer and counterparty.

    An instrument gets a `#` before its id. No id has `|` or `#`, so an instrument cannot be taken for a payee of the
    same name.
    """
    other = transaction.counterparty if transaction.type in NEEDS_PAYEE else f"#{transaction.counterparty}"
    return f"{transaction.payer_id}|{other}"


def sides(transaction: Transaction) -> Iterator[tuple[Kind, str, tuple[str, str] | None]]:
    """Yield (kind, entity, id to be counted distinctly) for each item that a payment updates.

    The id is that of the party on the other side, with its kind of profile; None: the kind counts no distinct ids.
    """
    other = "account" if transaction.type in NEEDS_PAYEE else "instrument"
    payer = ("account", transaction.payer_id)
    yield PAYER, transaction.payer_id, (other, transaction.counterparty)
    yield RECEIVING[transaction.type], transaction.counterparty, payer
    yield PAIR, pair_of(transaction), None
    if transaction.device_id is not None:
        yield DEVICE, transaction.device_id, payer


def shared_names(transaction: Transaction) -> frozenset[str]:
    """Return the names of everything that two payments may have in common: their id, and their items of any period.

    Payments without a common name may be evaluated at the same time.
    """
    return frozenset((transaction.transaction_id, *(kind.key(entity) for kind, entity, _ in sides(transaction))))


def grade_of(amount: int, unit: int) -> int:
    """Return the number of levels that an amount stays in a sample whatever its hash says.

    amount, unit  minor units

    >>> [grade_of(amount, 1_000) for amount in (1, 1_999, 2_000, 900_000)]
    [0, 0, 1, 8]
    """
    return min((amount // unit).bit_length() - 1, MOST_GRADES) if amount >= unit else 0


def leave_of(mac: bytes, grade: int) -> int:
    """Return the level at which an attempt leaves a sample: a geometric number beyond its grade.

    mac  keyed hash of the attempt; the bytes after the token draw the number, as their trailing zero bits

    >>> [leave_of(bytes(6) + bytes(drawn), grade=1) for drawn in ([0, 0, 0, 1], [0, 0, 0, 8], [0, 0, 0, 0])]
    [1, 4, 31]
    """
    drawn = int.from_bytes(mac[TOKEN_BYTES:]) | 1 << LEVELS
    return min((drawn & -drawn).bit_length() - 1 + grade, LEVELS - 1)


def updates(transaction: Transaction, keys: Keyed) -> tuple[Update, ...]:
    """Return all updates of one attempt: payer, counterparty, pair and, if the payment has one, device."""
    epoch, amount = transaction.epoch, transaction.counted_amount
    mac = keys.mac(transaction.identity, epoch // DAY)
    grade = grade_of(amount, transaction.unit)
    leave = leave_of(mac, grade)
    slots: dict[tuple[str, str] | None, int | None] = {None: None}
    found = []
    for kind, entity, other in sides(transaction):
        period, second = divmod(epoch, kind.period)
        day = second // DAY
        device = transaction.device_id if kind is PAYER else None
        if other is not None and other not in slots:
            slots[other] = keys.slot(*other)
        found.append(
            Update(
                Key(kind, entity, period),
                tuple([(scale, second // SCALES[scale]) for scale in kind.scales]),
                amount,
                second // 3600,
                slots[other],
                None if device is None else keys.slot("device", device),
                size_class(amount, transaction.unit) if kind.sizes else None,
                PAIR_TOKENS[day] if kind is PAIR else TOKENS[leave],
                mac[:TOKEN_BYTES],
                PAIR_TOKENS[: max(day - TOKEN_DAYS + 1, 0)] if kind is PAIR else (),
                leave,
                grade,
            )
        )
    return tuple(found)


def reads(moved: Sequence[Update]) -> tuple[Key, ...]:
    """Return the keys of the earlier live items of each entity.

    moved  the payment's updates, whose own items are not returned
    """
    return tuple(
        [
            Key(kind, entity, before)
            for kind, entity, period in [update.key for update in moved]
            for before in range(period - 1, period - kind.live, -1)
        ]
    )


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
