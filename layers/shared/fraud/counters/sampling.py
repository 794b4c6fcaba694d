"""Sampling inside an item: what one hot receiver costs is bounded at any rate, and its counts stay unbiased. Pure.

An item has a level; 0, the attribute's absence, counts every attempt. Each attempt has a level at which it leaves the
sample. At level L, an attempt that has not left counts with the inverse of its probability of still being there, so
counts and sums are right in expectation (Horvitz and Thompson 1952). The level only rises, and depends on attempts that
were counted before, never on the one that is being counted. This is adaptive sampling (Flajolet 1990), with the amount
in view: larger amounts leave later, or a mule would hide ten large payments behind thousands of small ones (D-072).

Kinds whose counters a protected limit reads are never sampled. Their items close instead, when they have CLOSE tokens.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from fraud.counters.layout import (
    CLOSED,
    LEVELS,
    MOST_GRADES,
    PACK,
    SCALES,
    SLOTS,
    TOKENS,
    Item,
    Key,
    Kind,
    Update,
    unpacked,
)
from fraud.transaction import Transaction

CLOSE = 3_000
"""Most tokens of an item that is not sampled. With more it is closed."""

CAPS: Mapping[str, int] = {"h": 1_500, "d": 900}
"""Most tokens of a sampled item, by its kind's letter. With more its level is raised until at most half of them stay.

Errors fall with the root of the cap. Just below it, a merchant's payment reads 15 full items, of four pages each. A
day's item also keeps fine buckets of the whole day and slots of 24 hours, and each of its payments writes all that.
`python -m benchmarks.hot_key` prints both.
"""

BURST, AFTER_BURST = 300, 30
"""Most attempts that are counted in one bucket of 10 s, and how many of them a raise leaves.

At 1,000 payments a second an item would take all write units of its key before it is as full as CAPS lets it be.
"""

QUIET = min(BURST, *CAPS.values())
"""Tokens up to which an item at level 0 needs nothing."""

START: Mapping[str, int] = {"h": 2, "d": 3}
"""Levels by which a new item starts below the one of the period before, by the kind's letter.

With more, the first part of a period is counted better, and a receiver recovers faster from a minute of flood, but
more updates meet a level that they did not presume.
"""

COMPACT = 300
"""Tokens that are left in an hour's item after that hour: with its slots and other buckets they fill less than a page.
Fewer would cost a reader as much, and would count late attempts by larger weights.
"""


MOST_REMOVED = 400
"""Most buckets that one raise removes: their names take some three kilobytes of the update expression."""


HOUR = 3600
FINE_OF_HOUR: tuple[str, ...] = tuple(f"s{number}" for number in range(HOUR // SCALES["s"]))
"""Names of all 10 s buckets of an hour's item."""

EXACT: frozenset[str] = frozenset({"payer", "pair", "instrument"})
"""Kinds that are never sampled, whatever a policy reads: their items close."""


class Raise(NamedTuple):
    """A change of an item's level; refused unless the item still has the level at which this was decided.

    removed  names of 10 s buckets that no window reads any more
    """

    key: Key
    level: int
    to: int
    removed: tuple[str, ...] = ()


YOUNG = 100
"""Most tokens of an item that has just begun."""


class NewSlot(NamedTuple):
    """A counterparty's slot that is missing in an item: added although the attempt is not counted."""

    key: Key
    slot: int


Upkeep = Raise | NewSlot
"""A change of an item that a payment causes beside its own update. It may be lost: another payment causes it again."""


def start_level(kind: Kind, before: int) -> int:
    """Return the level at which an item starts, by the level of the item of the period before.

    >>> from fraud.counters.layout import MERCHANT
    >>> [start_level(MERCHANT, level) for level in (0, 1, 5, CLOSED)]
    [0, 0, 3, 0]
    """
    return 0 if before == CLOSED else max(before - START.get(kind.sk, CLOSED), 0)


def seen(update: Update, item: Item, *, counted: bool, recounted: bool) -> Item:
    """Return the item as the payment's own counters see it: others as estimated, the payment itself once.

    counted    this attempt has just been counted in it
    recounted  it had been counted before: with its weight, which is not known
    """
    if recounted or (counted and update.weight(item.level) == 1):
        return item
    alone = item.copy()
    alone.add(update, 1 - (update.weight(item.level) if counted else 0))
    return alone


def upkeep(update: Update, item: Item, before: Item | None, *, exact: bool) -> Iterator[Upkeep]:
    """Yield the changes that an item needs, as the response to an attempt shows it.

    before  the item of the period before, if there is one
    exact   the kind is never sampled
    """
    key, level, tokens = update.key, item.level, item.token_count()
    if not level and tokens <= QUIET and (before is None or not before.level):
        return
    if exact:
        if level != CLOSED and tokens > CLOSE:
            yield Raise(key, level, CLOSED)
        return
    # Only an item that has just begun starts by the one before: later that one may be compacted, to a higher level.
    is_young = before is not None and tokens <= YOUNG
    to = max(_wanted(update, item), start_level(key.kind, before.level) if before is not None and is_young else 0)
    removed = _outlived(update, item) if to else ()
    if to > level or removed:
        yield Raise(key, level, max(to, level), removed)
    if level and update.slot is not None and not item.slots.get(update.hour, 0) >> update.slot & 1:
        yield NewSlot(key, update.hour * SLOTS + update.slot)


def raised(item: Item, change: Raise) -> None:
    """Carry a raise out on an item in memory."""
    for leave in range(change.level, change.to) if change.to < CLOSED else ():
        item.tokens.pop(TOKENS[leave], None)
    for name in change.removed:
        item.buckets["s"].pop(int(name[1:]), None)
    item.level = change.to


def compactions(items: Mapping[Key, Item], transaction: Transaction) -> Iterator[Raise]:
    """Yield a raise for each sampled hour item that is older than the last full hour and has tokens to spare.

    items  the live items of the payment

    A reader does not see the tokens. An attempt of n units stays with a probability of at most (1 + n) / 2 ** level, so
    count and sum bound how many stay.
    """
    for key, item in items.items():
        if item.level and key.kind.period == HOUR and key.period < transaction.epoch // HOUR - 1:
            count, amount = unpacked(sum(item.buckets["h"].values()))
            to = min(_halvings((count + amount / transaction.unit) / COMPACT), LEVELS - 1)
            if 0 < item.level < to:
                yield Raise(key, item.level, to, FINE_OF_HOUR)


def _wanted(update: Update, item: Item) -> int:
    """Return the level that an item needs by its own tokens."""
    tokens, cap = item.token_count(), CAPS[update.key.kind.sk]
    to = item.level if tokens <= cap else item.level_for(cap // 2)
    bucket, total = max(item.buckets["s"].get(dict(update.buckets)["s"], 0), 0), sum(item.buckets["h"].values())
    in_bucket = tokens * (bucket % PACK) / max(total % PACK, 1)
    if in_bucket > BURST:
        # Never beyond the grades: a flood of small payments must not hide large ones.
        to = max(to, min(item.level_for(int(tokens * AFTER_BURST / in_bucket)), MOST_GRADES))
    return min(to, CLOSED - 1)


def _outlived(update: Update, item: Item) -> tuple[str, ...]:
    """Return the names of 10 s buckets before the last full hour, of which no window reads. At most MOST_REMOVED."""
    first = (update.hour - 1) * (3600 // SCALES["s"])
    return tuple([f"s{number}" for number in item.buckets["s"] if number < first][:MOST_REMOVED])


def _halvings(ratio: float) -> int:
    """Return the least number of halvings that bring a ratio to 1 or below.

    >>> [_halvings(ratio) for ratio in (0.5, 1, 1.1, 2, 5)]
    [0, 0, 1, 1, 3]
    """
    return max((int(-(-ratio // 1)) - 1).bit_length(), 0)
