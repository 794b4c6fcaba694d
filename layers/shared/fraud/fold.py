"""The fold: a closed period's items carried into the profiles, where windows of 7 and 30 days are read.

A fold SETs what the items say, so folding late, twice, out of order or again after a repair is harmless; each raises
its side's version and holds only while nobody else's did, so of two at once the staler reads again. How far a slice is
folded is its watermark; `stale` says when a payment reads beyond it, `unfolded` what there is to fold beyond it.
Pure: memory and folding carry it out.
"""

import functools
import operator
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from fraud.counters import DAY, ENTITIES, FOLD_SLICES, HORIZON_DAYS, PAYER, SLOTS, Item, Key, Kind, Profile, Slice

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

READ: tuple[str, ...] = ("d", *(f"h{hour}" for hour in range(24)), *(f"e{slot}" for slot in range(SLOTS)))
"""What a fold looks at in an item, by the names of attributes."""

BITMAP_BYTES = 16
_NAME = re.compile(r"([oimu])([bhge]?)(\d+)")


class Fold(NamedTuple):
    """One UpdateItem on a profile, valid only while its attribute `version` is what it `was` (None: absent)."""

    sets: dict[str, Any]
    removes: tuple[str, ...]
    version: str
    was: int | None


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


def sources(kind: Kind, period: int, profile: Profile) -> range:
    """The periods whose items a fold of `period` reads: its own, for the profile holds the other hours of its day.

    Only a repair may come later than that; then all hours of the day are read.
    """
    day = _day(kind, period)
    return range(period, period + 1) if day[0] > _forgotten(kind, profile) else day


def plan(kind: Kind, period: int, items: Mapping[int, Item], profile: Profile) -> Fold:
    """What folding one period of one entity changes.

    `items` are those of `sources`, read consistently and after `profile`: whoever repairs an item and folds it again
    in between has raised the version. A day is the sum of its periods that are folded, whatever their order.
    """
    side, day = kind.side, period * kind.period // DAY
    version = f"{side}v"
    parts = {p: (sum(item.buckets["h"].values()), _union(item.slots.values())) for p, item in items.items()}
    sets: dict[str, Any] = {version: profile.get(version, 0) + 1}
    own = items.get(period) or Item()
    if kind.period < DAY:
        forgotten, hours = _forgotten(kind, profile), _day(kind, period)
        if period > forgotten:
            total, slots = parts.get(period, (0, 0))
            sets |= {f"{side}h{period}": total, f"{side}g{period}": _bytes(slots)}
        for other in hours if hours[0] > forgotten else ():
            if other != period and (name := f"{side}h{other}") in profile:
                parts[other] = profile[name], int.from_bytes(profile[f"{side}g{other}"])
    sets[f"{side}{day}"] = sum(total for total, _ in parts.values())
    sets[f"{side}b{day}"] = _bytes(_union(slots for _, slots in parts.values()))
    if kind is PAYER:
        sets[f"{side}e{day}"] = _bytes(_union(1 << slot for slot in own.devices))
    if starts := [period * kind.period + hour * 3600 for hour in own.buckets["h"]]:
        first, last = f"{side}first", f"{side}last"
        sets[first] = min([*starts, profile.get(first, starts[0])])
        sets[last] = max([*starts, profile.get(last, starts[0])])
    return Fold(sets, _expired(kind, period, day, profile), version, profile.get(version))


def _forgotten(kind: Kind, profile: Profile) -> int:
    """The latest hour of which a profile may have lost what was folded."""
    return int(profile.get(f"{kind.side}last", 0)) // 3600 - PROFILE_HOURS


def _day(kind: Kind, period: int) -> range:
    """All periods of the day that one of them lies in."""
    per_day = DAY // kind.period
    first = period // per_day * per_day
    return range(first, first + per_day)


def _union(bits: Iterable[int]) -> int:
    return functools.reduce(operator.or_, bits, 0)


def _bytes(bits: int) -> bytes:
    return bits.to_bytes(BITMAP_BYTES)


def _expired(kind: Kind, period: int, day: int, profile: Profile) -> tuple[str, ...]:
    """Attributes of this side that no window reaches any more."""
    until = dict.fromkeys(("", "b", "e"), day - PROFILE_DAYS) | dict.fromkeys(("h", "g"), period - PROFILE_HOURS)
    young = _young(day)
    return tuple(
        name
        for name in profile
        if name not in young and (parts := _parts(name)) and parts[0] == kind.side and parts[2] <= until[parts[1]]
    )


@functools.lru_cache(64)
def _young(day: int) -> frozenset[str]:
    """Names of days that none has to look at, for that is most of a profile."""
    return frozenset(
        f"{side}{letter}{number}"
        for side in "oimu"
        for letter in ("", "b", "e")
        for number in range(day - PROFILE_DAYS + 1, day + 2)
    )


@functools.lru_cache(8192)
def _parts(name: str) -> tuple[str, str, int] | None:
    """Side, letter and number in the name of what a fold has left in a profile; None for any other attribute."""
    match = _NAME.fullmatch(name)
    return match and (match[1], match[2], int(match[3]))
