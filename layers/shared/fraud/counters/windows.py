"""The value of every counter for a payment: windows, distinct counts, decayed sums, ages and fraud counts, by name.

`measure` is THE definition, online and offline: sums of whole buckets, including the payment itself, without buckets
that are later than the payment. `python -m tests.support.oracle` prints its error against exact windows.
"""

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from fraud.counters.history import NO_HISTORY, FoldedHistory
from fraud.counters.layout import (
    CLOSED,
    DAY,
    ENTITIES,
    HORIZON_DAYS,
    MERCHANT,
    PACK,
    PAIR,
    PAYEE,
    PAYER,
    SCALES,
    SLOTS,
    Item,
    Kind,
    Profile,
    State,
    least_of_class,
    profiles,
    sides,
    size_class,
    unpacked,
    unpacked_spread,
)
from fraud.transaction import Transaction

DISTINCT: tuple[float, ...] = tuple(
    round(min(SLOTS * math.log(SLOTS / (SLOTS - filled)), 615.0), 2) if filled < SLOTS else 615.0
    for filled in range(SLOTS + 1)
)
"""Estimate of the number of distinct values, by the number of slots filled.

Linear counting (Whang, Vander-Zanden, Taylor 1990): -n ln(1 - filled/n), capped at 615 when the bitmap is full.
"""

WINDOWS: dict[str, tuple[str, int]] = {"1m": ("s", 6), "1h": ("m", 12)}
"""Short windows: scale letter and number of whole buckets, the payment's own included."""

HOUR_WINDOWS: dict[str, int] = {"2h": 2, "24h": 24}
"""Windows of clock hours: number of hours, the payment's own included. Counts and sums use the longer one only."""

LAST_HOURS, LAST_DAY = HOUR_WINDOWS.values()

HALF_LIFE_HOURS = 6
DECAY: tuple[float, ...] = tuple(2.0 ** (-age / HALF_LIFE_HOURS) for age in range(LAST_DAY))
"""Weight of an hour bucket by its age: exponential decay over the same buckets that the windows use."""

DAY_WINDOWS: dict[str, int] = {"7d": 7, "30d": 30}
"""Windows of days: number of days. Today's hours so far and yesterday come from items, older days from the profile."""

PAIR_WINDOWS: dict[str, int] = {"2d": 2, "7d": 7, "30d": 30}
"""Windows of a pair in whole days, today included."""

FRAUD_WINDOWS: dict[str, int] = {"2d": 2, "7d": 7, "30d": 30}
"""Windows of confirmed fraud in whole days, today included. A fraud counts on the day of its `known_at`, when it became
known, and not on the day when it happened.
"""

FRAUD_SIDES: dict[str, str] = {"payer": "fo", "payee": "fi"}
"""Prefix of the fraud buckets in an account's profile, by the account's role in the confirmed fraud."""


VOID = f"{PAYER.name}_void_24h"
"""The part of `payer_sum_24h` that moved no money (D-109). Only money limits read it, and no feature does."""

MATURITY_DAYS = 7
"""Age in days from which most labels of a day's payments are known."""

MATURE_WINDOWS: dict[str, int] = {"1d": 1, "7d": 7, "23d": 23}
"""Windows of a receiver's mature days, in days; the latest is MATURITY_DAYS before today. Both the payments of such a
day are counted, and how many of them are known as fraud by now, however late that became known. The longest one ends
with the days that a profile has for the windows of 30 days (D-086).
"""

MATURE_SIDES: dict[Kind, str] = {kind: f"k{kind.side}" for kind in (PAYEE, MERCHANT)}
"""Prefix of the fraud buckets by the day of the payment in an account's profile, by the kind of the receiver."""


def _names() -> Iterator[str]:
    """Yield the name of every counter, in the order of NAMES."""
    for kind in ENTITIES:
        for aggregation in ("count", "sum"):
            yield from (f"{kind.name}_{aggregation}_{window}" for window in (*WINDOWS, "24h", *DAY_WINDOWS))
        yield from (f"{kind.name}_distinct_{window}" for window in (*HOUR_WINDOWS, *DAY_WINDOWS))
        yield from (f"{kind.name}_{aggregation}" for aggregation in ("decayed_sum_6h", "age", "idle"))
    for aggregation in ("count", "sum"):
        yield from (f"pair_{aggregation}_{window}" for window in PAIR_WINDOWS)
    yield from ("pair_age_days", "device_new")
    yield from (f"{kind.name}_closed" for kind in ENTITIES)
    yield from (f"{role}_frauds_{window}" for role in FRAUD_SIDES for window in FRAUD_WINDOWS)
    yield from (f"{PAYER.name}_{measured}_30d" for measured in ("log_sum", "log_squares", "largest"))
    yield from (f"payee_mature_{measured}_{window}" for measured in ("count", "frauds") for window in MATURE_WINDOWS)
    yield VOID


NAMES: tuple[str, ...] = tuple(_names())
"""Every counter, in the order in which a decision's snapshot stores them. Ages and idle times are seconds."""

IDLE_CAP = HORIZON_DAYS * DAY
"""Idle time in seconds of an entity without a payment within the horizon. It is the cap of all idle times."""

ABSENT: dict[str, float] = {name: IDLE_CAP if name.endswith("_idle") else 0 for name in NAMES}
"""Every counter as it is for an entity that takes no part in the payment."""


def kind_of(counter: str) -> str | None:
    """Return the name of the kind whose items hold a counter; None for one that only a profile holds.

    >>> kind_of("pair_count_30d"), kind_of("device_new"), kind_of("payee_frauds_2d"), kind_of("payee_mature_count_7d")
    ('pair', 'payer', None, None)
    """
    if counter == "device_new":
        return PAYER.name
    kind, _, measured = counter.partition("_")
    return None if measured.startswith(("frauds_", "mature_")) else kind


class _Names(NamedTuple):
    """The names of one kind's counters, in the order in which they are measured.

    totals    names of (count, sum), by window
    distinct  names of the distinct counts, by window
    """

    totals: tuple[tuple[str, str], ...]
    distinct: tuple[str, ...]
    decayed: str
    age: str
    idle: str
    closed: str


OF_KIND: dict[Kind, _Names] = {
    kind: _Names(
        tuple((f"{kind.name}_count_{w}", f"{kind.name}_sum_{w}") for w in (*WINDOWS, "24h", *DAY_WINDOWS)),
        tuple(f"{kind.name}_distinct_{window}" for window in (*HOUR_WINDOWS, *DAY_WINDOWS)),
        *(f"{kind.name}_{what}" for what in ("decayed_sum_6h", "age", "idle", "closed")),
    )
    for kind in ENTITIES
}


def measure(transaction: Transaction, state: State) -> dict[str, float]:
    """Return every counter of NAMES for one payment: THE definition, online and offline.

    state  the items and profiles of exactly this payment, after it was counted

    Counts are exact integers, sums are exact integers in minor units, distinct counts are estimates. Ages and idle
    times are seconds, but a pair's age is days. `log_sum` and `log_squares` are sums of log sizes (`layout.log_size`)
    and of their squares. `payer_largest_30d` is the least amount of the largest size class among the payer's other
    payments, in minor units; 0 when there is none. `payer_void_24h` is the money of void attempts, as far as they are
    known: sums and counts hold them all the same.
    """
    values = ABSENT.copy()
    epoch, roles = transaction.epoch, profiles(transaction)
    items: dict[Kind, dict[int, Item]] = {kind: {} for kind, _, _ in sides(transaction)}
    for (kind, _, period), item in state.items.items():
        items[kind][period] = item
    for kind, found in items.items():
        if kind is PAIR:
            _measure_pair(values, found, epoch // DAY)
            continue
        profile = state.profiles.get(roles[kind.name if kind.name in roles else "payee"], {})
        history = profile.get(kind.side, NO_HISTORY)
        _measure_entity(values, kind, found, history, epoch)
        if kind is PAYER:
            _measure_sizes(values, transaction, found, history)
            values[VOID] = _void(found, epoch // 3600)
            if state.device is not None:
                values["device_new"] = _device_new(found, history, state.device, epoch // DAY)
        elif kind in MATURE_SIDES:
            _measure_mature(values, kind, profile, epoch // DAY)
    for role, prefix in FRAUD_SIDES.items():
        _measure_frauds(values, role, prefix, state.profiles.get(roles.get(role, ""), {}), epoch // DAY)
    return values


def _measure_frauds(values: dict[str, float], role: str, prefix: str, profile: Profile, today: int) -> None:
    """Set the fraud counters of one role.

    An attribute that begins with `prefix` but does not end in a day number is not a fraud bucket, and is ignored.
    """
    known = _by_age(profile, prefix, today)
    for window, days in FRAUD_WINDOWS.items() if known else ():
        values[f"{role}_frauds_{window}"] = sum([number for age, number in known if 0 <= age < days])


def _by_age(profile: Profile, prefix: str, today: int) -> list[tuple[int, int]]:
    """Return (age in days, number) of each bucket of a profile whose name is the prefix and a day number."""
    return [
        (today - int(day), number)
        for name, number in profile.items()
        if name.startswith(prefix) and (day := name[len(prefix) :]).isdecimal()
    ]


def _measure_mature(values: dict[str, float], kind: Kind, profile: Profile, today: int) -> None:
    """Set the counters of the receiver's mature days: its payments, and how many of them are known as fraud by now."""
    history: FoldedHistory = profile.get(kind.side, NO_HISTORY)
    frauds = _by_age(profile, MATURE_SIDES[kind], today)
    for window, length in MATURE_WINDOWS.items():
        ages = range(MATURITY_DAYS, MATURITY_DAYS + length)
        days = range(today - ages[-1], today - ages[0] + 1)
        values[f"payee_mature_count_{window}"], _ = unpacked(history.days.total(days))
        values[f"payee_mature_frauds_{window}"] = sum([number for age, number in frauds if age in ages])


def _void(items: Mapping[int, Item], hour: int) -> int:
    """Return the money of the payer's void attempts in the same hours as its sum of 24 hours, all of them live."""
    return sum(
        [
            amount
            for period, item in items.items()
            for index, amount in item.voids.items()
            if 0 <= hour - period * 24 - index < LAST_DAY
        ]
    )


def _measure_sizes(
    values: dict[str, float], transaction: Transaction, items: Mapping[int, Item], history: FoldedHistory
) -> None:
    """Set the counters of the sizes of the payer's amounts in 30 days.

    A size class counts with its whole day, hours later than the payment included.
    """
    today = transaction.epoch // DAY
    older = range(today - HORIZON_DAYS + 1, today - 1)
    hour = transaction.epoch // 3600
    spread = history.days.spread(older) + sum(
        [
            total
            for period, item in items.items()
            for index, total in item.spreads.items()
            if period * 24 + index <= hour
        ]
    )
    values["payer_log_sum_30d"], values["payer_log_squares_30d"] = unpacked_spread(spread)
    own = size_class(transaction.counted_amount, transaction.unit)
    others = history.days.sizes(older)
    for period, item in items.items():
        for size, number in item.sizes.items():
            if number > (period == today and size == own):
                others |= 1 << size
    largest = others.bit_length() - 1
    values["payer_largest_30d"] = least_of_class(largest, transaction.unit) if others else 0


def _measure_entity(
    values: dict[str, float], kind: Kind, items: Mapping[int, Item], history: FoldedHistory, epoch: int
) -> None:
    """Set the counters of one kind from its live items, by period, and the folded history of its side."""
    day, names = epoch // DAY, OF_KIND[kind]
    live = last_day = 0
    slots = slots_of_day = slots_of_hours = 0
    decayed = []
    for age, total, bits in _hours(kind, items, history, epoch // 3600):
        live += total
        slots |= bits
        if age < LAST_DAY:
            last_day += total
            slots_of_day |= bits
            decayed.append(DECAY[age] * (total // PACK))
            if age < LAST_HOURS:
                slots_of_hours |= bits
    totals = [*(_total(items, kind, scale, epoch, length) for scale, length in WINDOWS.values()), last_day]
    unions = [slots_of_hours, slots_of_day]
    for days in DAY_WINDOWS.values():
        older = range(day - days + 1, day - 1)
        totals.append(live + history.days.total(older))
        unions.append(slots | history.days.slots(older))
    for (count, amount), packed in zip(names.totals, totals, strict=True):
        values[count], values[amount] = unpacked(packed)
    for name, union in zip(names.distinct, unions, strict=True):
        values[name] = DISTINCT[union.bit_count()]
    # fsum is exact, so the order in which a store returns its attributes cannot change the last bit.
    values[names.decayed] = math.fsum(decayed)
    first, last = _seen(items, kind, history, epoch)
    values[names.age] = epoch - first
    values[names.idle] = IDLE_CAP if last is None else min(epoch - last, IDLE_CAP)
    own = items.get(epoch // kind.period)
    values[names.closed] = int(own is not None and own.level == CLOSED)


def _measure_pair(values: dict[str, float], items: Mapping[int, Item], today: int) -> None:
    """Set the counters of the pair from its items, by period."""
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


def _hours(kind: Kind, items: Mapping[int, Item], history: FoldedHistory, hour: int) -> list[tuple[int, int, int]]:
    """Return (age in hours, packed total, bitmap of slots) of each hour that is used by windows of hours or of today.

    hour  the payment's hour since the epoch

    These are all hours in live items, and hours of the folded history that are no longer live, back to the first hour
    of yesterday. Hours later than the payment's are left out.
    """
    per_item, yesterday = kind.period // 3600, (hour // 24 - 1) * 24
    hours = []
    for period, item in items.items():
        now = hour - period * per_item
        for index, total in item.buckets["h"].items():
            if index <= now:
                hours.append((now - index, total, item.slots.get(index, 0)))
    folded = history.hours.window(range(yesterday, hour - kind.live + 1)) if history.hours.numbers else ()
    hours += [(hour - number, total, slots) for number, total, slots in folded]
    return hours


def _total(items: Mapping[int, Item], kind: Kind, scale: str, epoch: int, length: int) -> int:
    """Return the sum of the last `length` packed buckets of a fine scale, the payment's own included."""
    period, second = divmod(epoch, kind.period)
    end = second // SCALES[scale] + 1
    total = _sum(items, period, scale, range(max(end - length, 0), end))
    if end < length:
        per_item = kind.period // SCALES[scale]
        total += _sum(items, period - 1, scale, range(per_item + end - length, per_item))
    return total


def _sum(items: Mapping[int, Item], period: int, scale: str, indexes: range) -> int:
    """Return the sum of a period's buckets with these numbers; 0 for a period without an item.

    The shorter of buckets and numbers is walked through: most items have few buckets, a busy one has thousands.
    In a sampled item a bucket below 0 counts nothing: a compaction had removed it before a payment was taken back.
    """
    if period not in items:
        return 0
    buckets = items[period].buckets[scale]
    if items[period].level:
        buckets = {index: total for index, total in buckets.items() if total > 0}
    if len(buckets) < len(indexes):
        return sum([total for index, total in buckets.items() if index in indexes])
    return sum(filter(None, map(buckets.get, indexes)))


def _seen(items: Mapping[int, Item], kind: Kind, history: FoldedHistory, epoch: int) -> tuple[int, int | None]:
    """Return the starts of the first and of the last non-empty bucket, in epoch seconds.

    The last one skips the payment's own bucket when the payment is alone in it, and is None when no other is left. The
    payment's own item is read by 10 second buckets. Earlier items are read by the hour, because their fine buckets are
    not fetched (D-001). So are hours of a sampled item whose fine buckets were removed. A first or last hour later than
    the payment is ignored (D-052).
    """
    period, second = divmod(epoch, kind.period)
    own, width = second // SCALES["s"], SCALES["s"]
    start = epoch - second
    fine = items[period].buckets["s"] if period in items else {}
    latest = own if unpacked(fine.get(own, 0))[0] > 1 else own - 1
    before = [index for index in fine if index <= latest]
    starts = [start + index * width for index in (min(before), max(before))] if before else []
    if period in items and items[period].level:
        known = {index * width // 3600 for index in fine}
        hours = [hour for hour in items[period].buckets["h"] if hour < second // 3600 and hour not in known]
        starts += [start + hour * 3600 for hour in hours]
    for earlier, item in items.items():
        if earlier < period:
            starts += [earlier * kind.period + hour * 3600 for hour in item.buckets["h"]]
    starts += [folded for folded in (history.first, history.last) if 0 < folded <= epoch]
    return min([*starts, start + own * width]), max(starts, default=None)


def _device_new(items: Mapping[int, Item], history: FoldedHistory, slot: int, day: int) -> int:
    """Return 1 when this is today's only payment from the device's slot and the 29 days before have none; else 0.

    items  the payer's items, by period
    slot   the device's slot
    day    the payment's epoch day
    """
    today, yesterday = (items[period].devices.get(slot, 0) if period in items else 0 for period in (day, day - 1))
    older = history.days.devices(range(day - HORIZON_DAYS + 1, day - 1))
    return int(today <= 1 and not yesterday and not older >> slot & 1)
