"""What the counters say about a payment: every window, distinct count, decayed sum, age and fraud count, by name.

`measure` is THE definition, online and offline alike: sums of whole buckets, the payment itself included, buckets later
than the payment ignored. Its error against exact windows is printed by `python -m tests.oracle`, not hidden.
"""

import functools
import math
import operator
from collections.abc import Iterable, Iterator, Mapping

from fraud.counters import (
    DAY,
    ENTITIES,
    HORIZON_DAYS,
    PACK,
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


def measure(transaction: Transaction, state: State) -> dict[str, float]:
    """Every counter of NAMES for one payment: THE definition, online and offline. Counts and sums are exact
    integers.
    """
    values = dict(ABSENT)
    roles = profiles(transaction)
    for kind, entity, _ in sides(transaction):
        period = transaction.epoch // kind.period
        live = range(period, period - kind.live, -1)
        items = {p: state.items[key] for p in live if (key := Key(kind, entity, p)) in state.items}
        if kind is PAIR:
            _measure_pair(values, items, transaction.epoch // DAY)
            continue
        profile = state.profiles.get(roles[kind.name if kind.name in roles else "payee"], {})
        _measure_entity(values, kind, items, profile, transaction.epoch)
        if kind is PAYER and transaction.device_id is not None:
            values["device_new"] = _device_new(items, profile, slot_of(transaction.device_id), period)
    for role, prefix in FRAUD_SIDES.items():
        _measure_frauds(values, role, prefix, state.profiles.get(roles.get(role, ""), {}), transaction.epoch // DAY)
    return values


def _measure_frauds(values: dict[str, float], role: str, prefix: str, profile: Profile, today: int) -> None:
    for window, days in FRAUD_WINDOWS.items() if profile else ():
        values[f"{role}_frauds_{window}"] = _folded(profile, prefix, range(today - days + 1, today + 1))


def _measure_entity(
    values: dict[str, float], kind: Kind, items: Mapping[int, Item], profile: Profile, epoch: int
) -> None:
    hour, day = epoch // 3600, epoch // DAY
    hours = _by_age({period: item.buckets["h"] for period, item in items.items()}, kind, hour)
    slots = _by_age({period: item.slots for period, item in items.items()}, kind, hour)
    if kind.period < DAY and profile:  # hours no longer live, back to yesterday 00:00
        ages = range(kind.live, hour - (day - 1) * 24 + 1)
        hours |= {age: profile.get(f"{kind.side}h{hour - age}", 0) for age in ages}
        slots |= {age: _bits(profile, f"{kind.side}g{hour - age}") for age in ages}
    older = {window: range(day - days + 1, day - 1) for window, days in DAY_WINDOWS.items()}

    totals = {window: _total(items, kind, scale, epoch, length) for window, (scale, length) in WINDOWS.items()}
    totals["24h"] = sum(total for age, total in hours.items() if age < HOUR_WINDOWS["24h"])
    recent = sum(hours.values())
    totals |= {window: recent + _folded(profile, kind.side, days) for window, days in older.items()}
    for window, total in totals.items():
        values[f"{kind.name}_count_{window}"], values[f"{kind.name}_sum_{window}"] = divmod(total, PACK)

    unions = {
        window: _union(bitmap for age, bitmap in slots.items() if age < length)
        for window, length in HOUR_WINDOWS.items()
    }
    recent = _union(slots.values())
    unions |= {window: recent | _bitmap(profile, f"{kind.side}b", days) for window, days in older.items()}
    for window, union in unions.items():
        values[f"{kind.name}_distinct_{window}"] = DISTINCT[union.bit_count()]

    # fsum is exact, so the order in which a store returns its attributes cannot show in the last bit.
    values[f"{kind.name}_decayed_sum_6h"] = math.fsum(
        DECAY[age] * (total % PACK) for age, total in hours.items() if age < len(DECAY)
    )
    first, last = _seen(items, kind, profile, epoch)
    values[f"{kind.name}_age"] = epoch - first
    values[f"{kind.name}_idle"] = IDLE_CAP if last is None else min(epoch - last, IDLE_CAP)


def _measure_pair(values: dict[str, float], items: Mapping[int, Item], today: int) -> None:
    days = _by_age({period: item.buckets["b"] for period, item in items.items()}, PAIR, today, DAY)
    for window, length in PAIR_WINDOWS.items():
        total = sum(total for age, total in days.items() if age < length)
        values[f"pair_count_{window}"], values[f"pair_sum_{window}"] = divmod(total, PACK)
    values["pair_age_days"] = max(days, default=0)


def _by_age(columns: Mapping[int, Mapping[int, int]], kind: Kind, now: int, width: int = 3600) -> dict[int, int]:
    """Values of one letter by age in buckets of `width` seconds; those later than `now` (an index since the epoch)
    left out.
    """
    per_item = kind.period // width
    return {
        age: value
        for period, column in columns.items()
        for index, value in column.items()
        if (age := now - period * per_item - index) >= 0
    }


def _total(items: Mapping[int, Item], kind: Kind, scale: str, epoch: int, length: int) -> int:
    """Sum of the last `length` packed buckets of a fine scale: looked up, for a busy item holds thousands of them."""
    period, last = divmod(epoch // SCALES[scale], kind.period // SCALES[scale])
    first = last - length + 1
    total = 0
    if period in items:
        column = items[period].buckets[scale]
        total += sum(column.get(index, 0) for index in range(max(first, 0), last + 1))
    if first < 0 and period - 1 in items:
        column, per_item = items[period - 1].buckets[scale], kind.period // SCALES[scale]
        total += sum(column.get(index, 0) for index in range(first + per_item, per_item))
    return total


def _union(bitmaps: Iterable[int]) -> int:
    return functools.reduce(operator.or_, bitmaps, 0)


@functools.lru_cache(4096)
def _attributes(prefix: str, numbers: range) -> tuple[str, ...]:
    """Names of a profile's attributes; the same few dozen ranges are asked for all day."""
    return tuple(f"{prefix}{number}" for number in numbers)


def _folded(profile: Profile, side: str, days: range) -> int:
    return sum(filter(None, map(profile.get, _attributes(side, days)))) if profile else 0


def _bits(profile: Profile, name: str) -> int:
    return int.from_bytes(profile.get(name, b""))


def _bitmap(profile: Profile, prefix: str, days: range) -> int:
    return _union(map(int.from_bytes, filter(None, map(profile.get, _attributes(prefix, days))))) if profile else 0


def _seen(items: Mapping[int, Item], kind: Kind, profile: Profile, epoch: int) -> tuple[int, int | None]:
    """Start of the first and of the last non-empty bucket; the last skips the payment's own when it is alone there.

    10 s buckets in the payment's own item, hours in earlier ones: those are read without their fine buckets.
    """
    period = epoch // kind.period
    own = epoch // SCALES["s"] * SCALES["s"]
    fine = _starts(items, kind, "s", period)
    alone = fine.get(own, 0) < 2 * PACK
    before = [start for start in fine if start < own or (start == own and not alone)]
    before += (start for earlier in items if earlier < period for start in _starts(items, kind, "h", earlier))
    lasts = [*before, *(profile[name] for name in (f"{kind.side}last",) if name in profile)]
    return min([*before, own, profile.get(f"{kind.side}first", own)]), max(lasts, default=None)


def _starts(items: Mapping[int, Item], kind: Kind, scale: str, period: int) -> dict[int, int]:
    """Packed buckets of one item's scale by the epoch second at which they start."""
    buckets = items[period].buckets[scale] if period in items else {}
    return {period * kind.period + index * SCALES[scale]: total for index, total in buckets.items()}


def _device_new(items: Mapping[int, Item], profile: Profile, slot: int, day: int) -> int:
    """1 when this is today's only payment from the device's slot and the 29 days before have none."""
    today, yesterday = (items[period].devices.get(slot, 0) if period in items else 0 for period in (day, day - 1))
    older = _bitmap(profile, "oe", range(day - HORIZON_DAYS + 1, day - 1))
    return int(today <= 1 and not yesterday and not older >> slot & 1)
