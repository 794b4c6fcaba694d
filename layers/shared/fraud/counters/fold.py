"""The fold: a closed period's items carried into the profiles, where windows of 7 and 30 days are read.

A fold writes what the items say, so folding late, twice, out of order or again after a repair is harmless; it holds
only while its side of the profile is as it was read, so of two at once the staler reads again. How far a slice is
folded is its watermark; `stale` says when a payment reads beyond it, `unfolded` what there is to fold beyond it.
Pure: memory and folding carry it out.
"""

from collections.abc import Collection, Iterable, Mapping
from itertools import islice
from typing import NamedTuple

from fraud.counters.history import Bucket, FoldedHistory, union
from fraud.counters.layout import DAY, ENTITIES, FOLD_SLICES, HORIZON_DAYS, SLOTS, Item, Key, Kind, Slice
from fraud.counters.windows import FRAUD_SIDES

PERIODS: dict[str, int] = {kind.sk: kind.period for kind in ENTITIES}
"""Seconds of a period, by the sort key letter of the kinds that are folded."""

SLICES: tuple[Slice, ...] = tuple(Slice(sk, number) for sk in PERIODS for number in range(FOLD_SLICES))

WATERMARKS: dict[str, str] = {sk: f"fold#{sk}" for sk in PERIODS}
"""Key in the profiles table of the item that holds the watermarks of a letter's slices, each in its own attribute."""

LAG = 12 * 3600 + 15 * 60
"""Seconds after a period's end at which it closes: payments are counted up to 12 hours late, and have then reached the
index.
"""

PROFILE_DAYS = 33
PROFILE_HOURS = 48
"""What a profile keeps: as far as windows reach from the latest payment that may still come, and a little more."""

FORGOTTEN_AT_ONCE = 100
"""Fraud buckets that one fold takes out of a profile at most; their names are a kilobyte of its expression."""

READ: tuple[str, ...] = ("d", *(f"h{hour}" for hour in range(24)), *(f"e{slot}" for slot in range(SLOTS)))
"""What a fold looks at in an item, by the names of attributes."""


class Progress(NamedTuple):
    """A watermark: every period up to `through` is folded, and of the next one the items up to this `pk`."""

    through: int
    reached: str = ""


class Due(NamedTuple):
    """What a tick left to the queue: the seconds that the oldest closed period of a slice has waited, how many slices;
    and the items that it folded itself.
    """

    lag_seconds: int
    slices: int
    folded: int


class Done(NamedTuple):
    """What a worker did: items folded, and periods of its slice finished."""

    items: int
    periods: int


def closable(sk: str, now: int) -> int:
    """The latest period of a letter that is closed at `now`, epoch seconds: no payment of its time can be counted."""
    return (now - LAG) // PERIODS[sk] - 1


def waiting(sk: str, folded_through: int, now: int) -> int:
    """For how many seconds the oldest period beyond a watermark has been closed; 0 when there is none."""
    return max(0, now - LAG - (folded_through + 2) * PERIODS[sk])


def beginning(sk: str, now: int, *, fresh: bool) -> int:
    """The watermark of a slice that has none: nothing to fold in a fresh stack, else all that windows reach."""
    return closable(sk, now) - (0 if fresh else HORIZON_DAYS * DAY // PERIODS[sk])


def stale(keys: Iterable[Key], folded_through: Mapping[Slice, int]) -> bool:
    """Whether the windows of payments in these items reach periods that are not folded. No watermark: not folded."""
    return any(
        part not in folded_through or folded_through[part] < key.period - key.kind.live
        for key in keys
        if (part := key.slice) is not None
    )


def unfolded(listed: Iterable[Key], behind: Mapping[Slice, Progress], now: int) -> list[Key]:
    """The items that slices `behind` have still to fold, oldest first, if the index of the fold lists these items.

    Items that are folded stay listed until they expire and count no more, those of open periods not yet. All others are
    listed long since: the index lags by seconds, and LAG allows a quarter of an hour. What comes into a closed period
    nevertheless is a repair's, which has its items folded itself.
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
    """The periods whose items a fold of `period` reads: its own, for the profile holds the other hours of its day.

    Only a repair may come later than that; then all hours of the day are read.
    """
    day = _day(kind, period)
    return range(period, period + 1) if day[0] > _forgotten(history) else day


def folded(kind: Kind, period: int, items: Mapping[int, Item], history: FoldedHistory) -> FoldedHistory:
    """A side after one period of one entity is folded into it.

    `items` are those of `sources`, read consistently and after `history`: whoever repairs an item and folds it again in
    between has changed the past. A day is the sum of its periods that are folded, whatever their order.
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
    """Fraud buckets, by their names in a profile, that no payment after a closed day reads; FORGOTTEN_AT_ONCE at most.

    Whatever a label still does to one of these (taking a fraud back moves the bucket in which it was counted) nobody
    reads either, so they may go without asking what is in them.
    """
    sides = tuple(FRAUD_SIDES.values())
    buckets = ((name, name[len(side) :]) for name in profile for side in sides if name.startswith(side))
    old = (name for name, number in buckets if number.isdecimal() and int(number) <= day - PROFILE_DAYS)
    return list(islice(old, FORGOTTEN_AT_ONCE))


def _bucket(items: Collection[Item]) -> Bucket:
    """All that items count, as one."""
    return Bucket(
        sum([total for item in items for total in item.buckets["h"].values()]),
        union([slots for item in items for slots in item.slots.values()]),
        union([1 << slot for item in items for slot in item.devices]),
    )


def _forgotten(history: FoldedHistory) -> int:
    """The latest hour of which a profile may have lost what was folded."""
    return history.last // 3600 - PROFILE_HOURS


def _day(kind: Kind, period: int) -> range:
    """All periods of the day that one of them lies in."""
    per_day = DAY // kind.period
    first = period // per_day * per_day
    return range(first, first + per_day)
