"""The fold: a closed period's item carried into its entity's profile, where windows of 7 and 30 days are read.

A fold SETs what the items say, so folding early, twice or again after a repair is harmless; it is conditioned on what
it read, of two at once the staler fails and reads again. `plan` is pure; InMemoryCounters and the fold's function
carry it out. A period closes when no payment of its time can be counted any more.
"""

import functools
import operator
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from fraud.counters import DAY, PAYER, Item, Kind, Profile

LAG = 12 * 3600 + 15 * 60
"""Seconds after a period's end at which it is folded: payments are counted up to 12 hours late."""

KEEP_DAYS = 33
KEEP_HOURS = 48
"""What a profile keeps: as far as windows reach, and a little for late repairs."""

BITMAP_BYTES = 16
_NAME = re.compile(r"([oimu])([bhge]?)(\d+)")


class Fold(NamedTuple):
    """One UpdateItem on a profile: `expected` are the attributes it was computed from (None: absent)."""

    sets: dict[str, Any]
    removes: tuple[str, ...]
    expected: dict[str, Any]


def closable(kind: Kind, now: int) -> int:
    """The latest period of a kind that is closed at `now`, epoch seconds."""
    return (now - LAG) // kind.period - 1


def sources(kind: Kind, period: int) -> range:
    """The periods whose items a fold of `period` reads: all hours of its day, for the day's total is a SET too."""
    per_day = DAY // kind.period
    day = period // per_day
    return range(day * per_day, (day + 1) * per_day)


def plan(kind: Kind, period: int, items: Mapping[int, Item], profile: Profile) -> Fold:
    """What folding one period of one entity changes, from the items of `sources` and the profile as read."""
    day = period * kind.period // DAY
    sets: dict[str, Any] = {
        f"{kind.side}{day}": sum(sum(item.buckets["h"].values()) for item in items.values()),
        f"{kind.side}b{day}": _bitmap(bits for item in items.values() for bits in item.slots.values()),
    }
    own = items.get(period, Item())
    if kind.period < DAY:
        sets[f"{kind.side}h{period}"] = sum(own.buckets["h"].values())
        sets[f"{kind.side}g{period}"] = _bitmap(own.slots.values())
    if kind is PAYER:
        sets[f"oe{day}"] = _bitmap(1 << slot for slot in own.devices)
    starts = [period * kind.period + hour * 3600 for hour in own.buckets["h"]]
    first, last = f"{kind.side}first", f"{kind.side}last"
    if starts:
        sets[first] = min([*starts, *(profile[name] for name in (first,) if name in profile)])
        sets[last] = max([*starts, *(profile[name] for name in (last,) if name in profile)])
    return Fold(sets, _expired(kind, period, day, profile), {name: profile.get(name) for name in sets})


def _bitmap(bits: Iterable[int]) -> bytes:
    return functools.reduce(operator.or_, bits, 0).to_bytes(BITMAP_BYTES)


def _expired(kind: Kind, period: int, day: int, profile: Profile) -> tuple[str, ...]:
    """Attributes of this side that no window reaches any more."""
    oldest = {"": day - KEEP_DAYS, "b": day - KEEP_DAYS}
    if kind.period < DAY:
        oldest |= {"h": period - KEEP_HOURS, "g": period - KEEP_HOURS}
    if kind is PAYER:
        oldest["e"] = day - KEEP_DAYS
    found = ((name, _NAME.fullmatch(name)) for name in profile)
    return tuple(
        name
        for name, match in found
        if match and match[1] == kind.side and match[2] in oldest and int(match[3]) <= oldest[match[2]]
    )
