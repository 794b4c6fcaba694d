"""What the counters say about a payment: every window, distinct count, decayed sum, age and fraud count, by name.

`measure` is THE definition, online and offline alike: sums of whole buckets, the payment itself included, buckets later
than the payment ignored. Its error against exact windows is printed by `python -m tests.oracle`, not hidden.
"""

import functools
import math
import operator
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from fraud.counters import (
    DAY,
    ENTITIES,
    HORIZON_DAYS,
    PAIR,
    PAYER,
    SCALES,
    SLOTS,
    Item,
    Key,
    Kind,
    Profile,
    State,
    profiles,
    sides,
    slot_of,
    unpacked,
)
from fraud.transaction import Transaction

DISTINCT: tuple[float, ...] = tuple(
    round(min(SLOTS * math.log(SLOTS / (SLOTS - filled)), 615.0), 2) if filled < SLOTS else 615.0
    for filled in range(SLOTS + 1)
)
"""Linear counting (Whang, Vander-Zanden, Taylor 1990): distinct values by slots filled, -n ln(1 - filled/n), capped
when full.
"""

HALF_LIFE_HOURS = 6
DECAY: tuple[float, ...] = tuple(2.0 ** (-age / HALF_LIFE_HOURS) for age in range(24))
"""Weight of an hour bucket by its age: exponential decay over the same buckets that the windows use."""

WINDOWS: dict[str, tuple[str, int]] = {"1m": ("s", 6), "1h": ("m", 12)}
"""Short windows: scale and number of whole buckets, the payment's own included."""

HOUR_WINDOWS: dict[str, int] = {"2h": 2, "24h": 24}
"""Windows of clock hours, this one included; counts and sums use the longer one only."""

DAY_WINDOWS: dict[str, int] = {"7d": 7, "30d": 30}
"""Windows of whole days: today's hours so far, yesterday's item, older days from the profile."""

PAIR_WINDOWS: dict[str, int] = {"2d": 2, "7d": 7, "30d": 30}

FRAUD_WINDOWS: dict[str, int] = {"2d": 2, "7d": 7, "30d": 30}
"""Windows of confirmed fraud in whole days of `known_at`, today included: what was known, not when it happened."""

FRAUD_SIDES: dict[str, str] = {"payer": "fo", "payee": "fi"}
"""Prefix of the fraud buckets in an account's profile, by the account's role in the confirmed fraud."""


def _names() -> Iterator[str]:
    for kind in ENTITIES:
        for aggregation in ("count", "sum"):
            yield from (f"{kind.name}_{aggregation}_{window}" for window in (*WINDOWS, "24h", *DAY_WINDOWS))
        yield from (f"{kind.name}_distinct_{window}" for window in (*HOUR_WINDOWS, *DAY_WINDOWS))
        yield from (f"{kind.name}_{aggregation}" for aggregation in ("decayed_sum_6h", "age", "idle"))
    for aggregation in ("count", "sum"):
        yield from (f"pair_{aggregation}_{window}" for window in PAIR_WINDOWS)
    yield from ("pair_age_days", "device_new")
    yield from (f"{role}_frauds_{window}" for role in FRAUD_SIDES for window in FRAUD_WINDOWS)


NAMES: tuple[str, ...] = tuple(_names())
"""Every counter, in the order in which a decision's snapshot stores them. Ages and idle times are seconds."""

IDLE_CAP = HORIZON_DAYS * DAY
"""Idle seconds of an entity that was not seen within the horizon: nothing older is kept."""

ABSENT: dict[str, float] = {name: IDLE_CAP if name.endswith("_idle") else 0 for name in NAMES}
"""What the counters say of an entity that takes no part in the payment."""


class _Names(NamedTuple):
    """The counters of one kind, in the order in which they are measured."""

    totals: tuple[tuple[str, str], ...]
    distinct: tuple[str, ...]
    decayed: str
    age: str
    idle: str


OF_KIND: dict[Kind, _Names] = {
    kind: _Names(
        tuple((f"{kind.name}_count_{w}", f"{kind.name}_sum_{w}") for w in (*WINDOWS, "24h", *DAY_WINDOWS)),
        tuple(f"{kind.name}_distinct_{window}" for window in (*HOUR_WINDOWS, *DAY_WINDOWS)),
        *(f"{kind.name}_{what}" for what in ("decayed_sum_6h", "age", "idle")),
    )
    for kind in ENTITIES
}


def measure(transaction: Transaction, state: State) -> dict[str, float]:
    """Every counter of NAMES for one payment: THE definition, online and offline. Counts and sums are exact
    integers.
    """
    values = ABSENT.copy()
    epoch, roles = transaction.epoch, profiles(transaction)
    items: dict[Kind, dict[int, Item]] = {kind: {} for kind, _, _ in sides(transaction)}
    for (kind, _, period, _), item in state.items.items():
        items[kind][period] = item
    for kind, found in items.items():
        if kind is PAIR:
            _measure_pair(values, found, epoch // DAY)
            continue
        profile = state.profiles.get(roles[kind.name if kind.name in roles else "payee"], {})
        _measure_entity(values, kind, found, profile, epoch)
        if kind is PAYER and transaction.device_id is not None:
            values["device_new"] = _device_new(found, profile, slot_of(transaction.device_id), epoch // DAY)
    for role, prefix in FRAUD_SIDES.items():
        _measure_frauds(values, role, prefix, state.profiles.get(roles.get(role, ""), {}), epoch // DAY)
    return values


def _measure_frauds(values: dict[str, float], role: str, prefix: str, profile: Profile, today: int) -> None:
    for window, days in FRAUD_WINDOWS.items() if profile else ():
        values[f"{role}_frauds_{window}"] = _folded(profile, prefix, range(today - days + 1, today + 1))


def _measure_entity(
    values: dict[str, float], kind: Kind, items: Mapping[int, Item], profile: Profile, epoch: int
) -> None:
    day, names = epoch // DAY, OF_KIND[kind]
    hours, slots = _hours(kind, items, profile, epoch // 3600)
    totals = [_total(items, kind, scale, epoch, length) for scale, length in WINDOWS.values()]
    totals.append(sum([total for age, total in hours if age < HOUR_WINDOWS["24h"]]))
    unions = [_union([bits for age, bits in slots if age < length]) for length in HOUR_WINDOWS.values()]
    total, union = sum([total for _, total in hours]), _union([bits for _, bits in slots])
    nearer = day - 1
    for days in DAY_WINDOWS.values():  # each adds the days beyond the one before
        older, nearer = range(day - days + 1, nearer), day - days + 1
        for name, bitmap in _days(kind.side, older) if profile else ():
            if of_day := profile.get(name):
                total += of_day
                union |= int.from_bytes(profile.get(bitmap, b""))
        totals.append(total)
        unions.append(union)
    for (count, amount), packed in zip(names.totals, totals, strict=True):
        values[count], values[amount] = unpacked(packed)
    for name, bits in zip(names.distinct, unions, strict=True):
        values[name] = DISTINCT[bits.bit_count()]
    # fsum is exact, so the order in which a store returns its attributes cannot show in the last bit.
    values[names.decayed] = math.fsum([DECAY[age] * unpacked(total)[1] for age, total in hours if age < len(DECAY)])
    first, last = _seen(items, kind, profile, epoch)
    values[names.age] = epoch - first
    values[names.idle] = IDLE_CAP if last is None else min(epoch - last, IDLE_CAP)


def _measure_pair(values: dict[str, float], items: Mapping[int, Item], today: int) -> None:
    per_item = PAIR.period // DAY
    days = [
        (age, total)
        for period, item in items.items()
        for index, total in item.buckets["b"].items()
        if (age := today - period * per_item - index) >= 0
    ]
    for window, length in PAIR_WINDOWS.items():
        total = sum([total for age, total in days if age < length])
        values[f"pair_count_{window}"], values[f"pair_sum_{window}"] = unpacked(total)
    values["pair_age_days"] = max(days)[0] if days else 0


Aged = list[tuple[int, int]]
"""Values with their age in hours."""


def _hours(kind: Kind, items: Mapping[int, Item], profile: Profile, hour: int) -> tuple[Aged, Aged]:
    """Totals and slots of the hours since yesterday's first, or all that live items hold; later ones left out."""
    hours, slots, per_item = [], [], kind.period // 3600
    for period, item in items.items():
        now = hour - period * per_item
        hours += [(now - index, total) for index, total in item.buckets["h"].items() if index <= now]
        slots += [(now - index, bits) for index, bits in item.slots.items() if index <= now]
    if kind.period < DAY and profile:  # hours no longer live, back to yesterday 00:00
        yesterday = (hour // 24 - 1) * 24
        older = range(yesterday, hour - kind.live + 1)
        ages = range(hour - yesterday, kind.live - 1, -1)
        hours += [(age, n) for age, n in zip(ages, _read(profile, f"{kind.side}h", older), strict=True) if n]
        bitmaps = zip(ages, _read(profile, f"{kind.side}g", older), strict=True)
        slots += [(age, int.from_bytes(bits)) for age, bits in bitmaps if bits]
    return hours, slots


def _total(items: Mapping[int, Item], kind: Kind, scale: str, epoch: int, length: int) -> int:
    """Sum of the last `length` packed buckets of a fine scale: looked up, for a busy item holds thousands of them."""
    period, second = divmod(epoch, kind.period)
    end = second // SCALES[scale] + 1
    total = _sum(items, period, scale, range(max(end - length, 0), end))
    if end < length:
        per_item = kind.period // SCALES[scale]
        total += _sum(items, period - 1, scale, range(per_item + end - length, per_item))
    return total


def _sum(items: Mapping[int, Item], period: int, scale: str, indexes: range) -> int:
    return sum(filter(None, map(items[period].buckets[scale].get, indexes))) if period in items else 0


def _union(bitmaps: Iterable[int]) -> int:
    return functools.reduce(operator.or_, bitmaps, 0)


@functools.lru_cache(4096)
def _attributes(prefix: str, numbers: range) -> tuple[str, ...]:
    """Names of a profile's attributes; the same few dozen ranges are asked for all day."""
    return tuple(f"{prefix}{number}" for number in numbers)


@functools.lru_cache(4096)
def _days(side: str, days: range) -> tuple[tuple[str, str], ...]:
    """Names of a side's total and slots of each day."""
    return tuple(zip(_attributes(side, days), _attributes(f"{side}b", days), strict=True))


def _read(profile: Profile, prefix: str, numbers: range) -> Iterator[Any]:
    return map(profile.get, _attributes(prefix, numbers))


def _folded(profile: Profile, side: str, days: range) -> int:
    return sum(filter(None, _read(profile, side, days)))


def _bitmap(profile: Profile, prefix: str, days: range) -> int:
    union = 0
    for bits in filter(None, _read(profile, prefix, days)):
        union |= int.from_bytes(bits)
    return union


def _seen(items: Mapping[int, Item], kind: Kind, profile: Profile, epoch: int) -> tuple[int, int | None]:
    """Start of the first and of the last non-empty bucket; the last skips the payment's own when it is alone there.

    10 s buckets in the payment's own item, hours in earlier ones: those are read without their fine buckets.
    """
    period, second = divmod(epoch, kind.period)
    own, width = second // SCALES["s"], SCALES["s"]
    start = epoch - second
    fine = items[period].buckets["s"] if period in items else {}
    latest = own if unpacked(fine.get(own, 0))[0] > 1 else own - 1
    starts = [start + index * width for index in fine if index <= latest]
    for earlier, item in items.items():
        if earlier < period:
            starts += [earlier * kind.period + hour * 3600 for hour in item.buckets["h"]]
    firsts = [*starts, start + own * width, profile.get(f"{kind.side}first", epoch)]
    if (folded := profile.get(f"{kind.side}last")) is not None:
        starts.append(folded)
    return min(firsts), max(starts, default=None)


def hidden(key: Key, items: Mapping[Key, Item], profile: Profile, epoch: int, since: int) -> bool:
    """Whether age or idle time need fine buckets of the payment's own item before the one numbered `since`.

    They do not when hours show that there are none, or when something newer and something older is known.
    """
    item, width = items[key], SCALES["s"]
    if all(hour * 3600 // width >= since for hour in item.buckets["h"]):
        return False
    own = epoch % key.kind.period // width
    latest = own if unpacked(item.buckets["s"].get(own, 0))[0] > 1 else own - 1
    older = f"{key.kind.side}first" in profile or any(
        found.buckets["h"] for other, found in items.items() if other[:2] == key[:2] and other.period < key.period
    )
    return not (older and any(since <= index <= latest for index in item.buckets["s"]))


def _device_new(items: Mapping[int, Item], profile: Profile, slot: int, day: int) -> int:
    """1 when this is today's only payment from the device's slot and the 29 days before have none."""
    today, yesterday = (items[period].devices.get(slot, 0) if period in items else 0 for period in (day, day - 1))
    older = _bitmap(profile, "oe", range(day - HORIZON_DAYS + 1, day - 1))
    return int(today <= 1 and not yesterday and not older >> slot & 1)
