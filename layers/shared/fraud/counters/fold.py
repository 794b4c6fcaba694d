"""The fold: carries the items of a closed period into the profiles, where windows of 7 and 30 days are read.

A fold writes what the items say. Therefore folding late, twice, out of order or again after a repair is harmless. A
fold is refused when its side of the profile has changed since it was read. So of two folds at once, the one that read
the older state reads again.

The watermark of a slice says how far it is folded. `stale` tells whether a payment reads beyond the watermark.
`unfolded` returns the items beyond it that must be folded. This module is pure: `counters.worker` and
`counters.in_memory` carry the fold out.
"""

from collections.abc import Collection, Iterable, Mapping
from itertools import islice
from typing import NamedTuple

from fraud.counters.history import Bucket, FoldedHistory, union
from fraud.counters.layout import CLASSES, DAY, ENTITIES, FOLD_SLICES, HORIZON_DAYS, SLOTS, Item, Key, Kind, Slice
from fraud.counters.windows import FRAUD_SIDES, MATURE_SIDES

PERIODS: dict[str, int] = {kind.sk: kind.period for kind in ENTITIES}
"""Length of a period in seconds, by the sort key letter of the kinds that are folded."""

SLICES: tuple[Slice, ...] = tuple(Slice(sk, number) for sk in PERIODS for number in range(FOLD_SLICES))
"""All slices of all letters."""

WATERMARKS: dict[str, str] = {sk: f"fold#{sk}" for sk in PERIODS}
"""Key in the profiles table of the item that holds a letter's watermarks, by letter. Each slice has its own attribute.
"""

LAG = 12 * 3600 + 15 * 60
"""Seconds from a period's end until it closes. Payments are counted up to 12 hours late; a quarter of an hour later
their items have reached the index.
"""

PROFILE_DAYS = 33
PROFILE_HOURS = 48
"""Number of days and of hours that a profile keeps: as far as windows reach back from the latest payment that may still
come, and a little more.
"""

FORGOTTEN_AT_ONCE = 100
"""Most fraud buckets that one fold removes from a profile. Their names take a kilobyte of the update expression."""

READ: tuple[str, ...] = (
    "d",
    *(f"h{hour}" for hour in range(24)),
    *(f"e{slot}" for slot in range(SLOTS)),
    *(f"q{hour}" for hour in range(24)),
    *(f"c{size}" for size in range(CLASSES)),
)
"""Names of the attributes that a fold reads of an item."""


class Progress(NamedTuple):
    """A watermark: how far a slice is folded.

    through  the last period, since the epoch, of which every item is folded
    reached  partition key up to which the next period is folded; empty: none of it
    """

    through: int
    reached: str = ""


class TickResult(NamedTuple):
    """The result of a tick.

    lag_seconds  seconds that the oldest closed period of a queued slice has waited
    slices       number of slices left to the queue
    folded       number of items that the tick folded by itself
    """

    lag_seconds: int
    slices: int
    folded: int


class WorkResult(NamedTuple):
    """The result of one message.

    items    number of items folded
    periods  number of periods of the slice that were finished
    """

    items: int
    periods: int


def closable(sk: str, now: int) -> int:
    """Return the latest period of a sort key letter that is closed: no payment of that time can be counted any more.

    now  epoch seconds

    >>> closable("d", 20517 * DAY + LAG), closable("d", 20517 * DAY + LAG - 1)
    (20516, 20515)
    """
    return (now - LAG) // PERIODS[sk] - 1


def waiting(sk: str, folded_through: int, now: int) -> int:
    """Return for how many seconds the oldest period beyond a watermark has been closed; 0 when none is closed.

    folded_through  the watermark's last folded period
    now             epoch seconds

    >>> waiting("d", 20515, 20517 * DAY + LAG + 60)
    60
    """
    return max(0, now - LAG - (folded_through + 2) * PERIODS[sk])


def beginning(sk: str, now: int, *, fresh: bool) -> int:
    """Return the period up to which a slice without a watermark counts as folded.

    now    epoch seconds
    fresh  the stack has no items. Then nothing has to be folded. Otherwise every period that windows reach has to be
    """
    return closable(sk, now) - (0 if fresh else HORIZON_DAYS * DAY // PERIODS[sk])


def stale(keys: Iterable[Key], folded_through: Mapping[Slice, int]) -> bool:
    """Tell whether a window of a payment counted in these items reaches a period that is not folded.

    keys            the payment's own items
    folded_through  last folded period by slice. A slice that is missing counts as not folded

    >>> from fraud.counters.layout import PAYER
    >>> key = Key(PAYER, "a", 20516)
    >>> stale([key], {key.slice: 20514}), stale([key], {key.slice: 20513}), stale([key], {})
    (False, True, True)
    """
    return any(
        part not in folded_through or folded_through[part] < key.period - key.kind.live
        for key in keys
        if (part := key.slice) is not None
    )


def unfolded(listed: Iterable[Key], behind: Mapping[Slice, Progress], now: int) -> list[Key]:
    """Return the items that the slices in `behind` still have to fold, oldest first within each length of period.

    listed  all items in the fold's index. The index also lists items of open periods, and folded items until they
            expire; both are left out
    behind  watermarks of slices that are behind
    now     epoch seconds

    The index lists every item to fold: it lags by seconds, and LAG allows a quarter of an hour. Only a repair writes to
    a closed period later than that, and a repair has its items folded again by itself.
    """
    return sorted(
        (
            key
            for key in listed
            if (part := key.slice) is not None
            and part in behind
            and behind[part].through < key.period <= closable(part.sk, now)
        ),
        key=lambda key: (key.kind.period, key.period),
    )


def sources(kind: Kind, period: int, history: FoldedHistory) -> range:
    """Return the periods whose items a fold of `period` reads.

    This is the period alone, because the profile has the other hours of its day. A repair may come after the profile
    has dropped those hours. Then all periods of the day are read.

    >>> from fraud.counters.history import NO_HISTORY
    >>> from fraud.counters.layout import MERCHANT
    >>> sources(MERCHANT, 492324, NO_HISTORY)
    range(492324, 492325)
    """
    day = _day(kind, period)
    return range(period, period + 1) if day[0] > _forgotten(history) else day


def folded(kind: Kind, period: int, items: Mapping[int, Item], history: FoldedHistory) -> FoldedHistory:
    """Return the folded history of a side after one period of one entity is folded into it.

    items    the items of the periods that `sources` returns, by period. They must be read consistently, and after
             `history`: a repair that folds an item again between the two reads then changes the stored history, so the
             update of this fold is refused
    history  the side's folded history before

    A day is the sum of its folded periods, in any order.
    """
    of_day, forgotten = _day(kind, period), _forgotten(history)
    own = [items[period]] if period in items else []
    hours, bucket = history.hours, _bucket(items.values())
    if kind.period < DAY and period > forgotten:
        hours = hours.put(period, _bucket(own), PROFILE_HOURS)
        if of_day[0] > forgotten:
            bucket = hours.bucket(of_day)
    day = period * kind.period // DAY
    starts = [period * kind.period + hour * 3600 for item in own for hour in item.buckets["h"]]
    return FoldedHistory(
        first=min([*starts, *([history.first] if history.first else [])], default=0),
        last=max([*starts, history.last]),
        days=history.days.put(day, bucket, PROFILE_DAYS),
        hours=hours,
    )


def outlived(profile: Iterable[str], day: int) -> list[str]:
    """Return the names of fraud buckets that no payment reads any more, FORGOTTEN_AT_ONCE at most.

    profile  names of the profile's attributes
    day      a closed epoch day: no payment of this day or an earlier one can come

    A label may still change such a bucket: taking a fraud back changes the bucket in which it was counted. But no
    payment reads the bucket, so it may be removed with any value.

    >>> outlived(["pk", "o", "fo20483", "fi20500"], 20516)
    ['fo20483']
    """
    sides = (*FRAUD_SIDES.values(), *MATURE_SIDES.values())
    buckets = ((name, name[len(side) :]) for name in profile for side in sides if name.startswith(side))
    old = (name for name, number in buckets if number.isdecimal() and int(number) <= day - PROFILE_DAYS)
    return list(islice(old, FORGOTTEN_AT_ONCE))


def _bucket(items: Collection[Item]) -> Bucket:
    """Return the sum of items as one bucket."""
    return Bucket(
        sum([total for item in items for total in item.buckets["h"].values()]),
        union([slots for item in items for slots in item.slots.values()]),
        union([1 << slot for item in items for slot in item.devices]),
        sum([spread for item in items for spread in item.spreads.values()]),
        union([1 << size for item in items for size in item.sizes]),
    )


def _forgotten(history: FoldedHistory) -> int:
    """Return the latest hour, since the epoch, whose counts the profile may have dropped already."""
    return history.last // 3600 - PROFILE_HOURS


def _day(kind: Kind, period: int) -> range:
    """Return all periods of the day that contains a period."""
    per_day = DAY // kind.period
    first = period // per_day * per_day
    return range(first, first + per_day)
