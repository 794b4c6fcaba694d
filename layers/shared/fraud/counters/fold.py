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
"""Days and hours that a profile keeps: as far as windows reach back from the latest payment that may still come, and a
little more.
"""

FORGOTTEN_AT_ONCE = 100
"""Fraud buckets that one fold takes out of a profile at most; their names are a kilobyte of its expression."""

READ: tuple[str, ...] = ("d", *(f"h{hour}" for hour in range(24)), *(f"e{slot}" for slot in range(SLOTS)))
"""Names of the attributes that a fold reads of an item."""


class Progress(NamedTuple):
    """A watermark: every period up to `through` is folded, and of the next one the items up to this `pk`."""

    through: int
    reached: str = ""


class TickResult(NamedTuple):
    """The result of a tick.

    lag_seconds  how long the oldest closed period of a queued slice has waited
    slices       slices left to the queue
    folded       items that the tick folded itself
    """

    lag_seconds: int
    slices: int
    folded: int


class WorkResult(NamedTuple):
    """The work of one message: items folded, and periods of its slice finished."""

    items: int
    periods: int


def closable(sk: str, now: int) -> int:
    """Return the latest period of a sort key letter that is closed at `now`: no payment of its time can be counted.

    now  epoch seconds
    """
    return (now - LAG) // PERIODS[sk] - 1


def waiting(sk: str, folded_through: int, now: int) -> int:
    """Return for how many seconds the oldest period beyond a watermark has been closed; 0 when there is none."""
    return max(0, now - LAG - (folded_through + 2) * PERIODS[sk])


def beginning(sk: str, now: int, *, fresh: bool) -> int:
    """Return the first watermark of a slice: a fresh stack has nothing to fold, any other all that windows reach."""
    return closable(sk, now) - (0 if fresh else HORIZON_DAYS * DAY // PERIODS[sk])


def stale(keys: Iterable[Key], folded_through: Mapping[Slice, int]) -> bool:
    """Tell whether windows of payments in these items reach periods that are not folded. No watermark: not folded."""
    return any(
        part not in folded_through or folded_through[part] < key.period - key.kind.live
        for key in keys
        if (part := key.slice) is not None
    )


def unfolded(listed: Iterable[Key], behind: Mapping[Slice, Progress], now: int) -> list[Key]:
    """Return the items that the slices in `behind` still have to fold, oldest first.

    listed  all items in the fold's index. It lists folded items until they expire, and items of open periods: both are
            left out. An item to fold is always listed, because the index lags by seconds and LAG allows a quarter of
            an hour. Only a repair writes to a closed period later, and it has its items folded itself.
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

    That is its own period, because the profile holds the other hours of its day. A repair may come after the profile
    has dropped them; then all hours of the day are read.
    """
    day = _day(kind, period)
    return range(period, period + 1) if day[0] > _forgotten(history) else day


def folded(kind: Kind, period: int, items: Mapping[int, Item], history: FoldedHistory) -> FoldedHistory:
    """Return a side's history after one period of one entity is folded into it.

    items  those of `sources`, by period, read consistently and after `history`. A repair that folds an item again in
           between changes the stored history, so this fold is refused

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
    """Name the fraud buckets of a profile that no payment after a closed day reads, FORGOTTEN_AT_ONCE at most.

    profile  names of its attributes
    day      the closed day, epoch days

    A label may still change such a bucket (taking a fraud back changes the bucket in which it was counted), but no
    payment reads it. So they may go, whatever they hold.
    """
    sides = tuple(FRAUD_SIDES.values())
    buckets = ((name, name[len(side) :]) for name in profile for side in sides if name.startswith(side))
    old = (name for name, number in buckets if number.isdecimal() and int(number) <= day - PROFILE_DAYS)
    return list(islice(old, FORGOTTEN_AT_ONCE))


def _bucket(items: Collection[Item]) -> Bucket:
    """Sum up items as one bucket."""
    return Bucket(
        sum([total for item in items for total in item.buckets["h"].values()]),
        union([slots for item in items for slots in item.slots.values()]),
        union([1 << slot for item in items for slot in item.devices]),
    )


def _forgotten(history: FoldedHistory) -> int:
    """Return the latest hour (since the epoch) whose folded counts the profile may have dropped."""
    return history.last // 3600 - PROFILE_HOURS


def _day(kind: Kind, period: int) -> range:
    """Return all periods of the day that a period lies in."""
    per_day = DAY // kind.period
    first = period // per_day * per_day
    return range(first, first + per_day)
