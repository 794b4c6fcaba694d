"""The shard table: an entity whose closed items grew large is split, always from the day after tomorrow on.

So a reader needs no fresh table: one that is hours old says the same about every payment that may come. The fold, which
sees every closed item, writes the table; `layout.Shards` reads it (D-048). Pure.
"""

from collections.abc import Mapping
from itertools import groupby
from typing import Any

from fraud.counters.layout import ENTITIES, KEEP_DAYS, SCALES, Item, ShardSchedule, number_on, unpacked
from fraud.errors import Fault, InvalidRequestError
from fraud.transaction import is_id

LARGE = 64 * 1024
"""Bytes above which an item is to be split; each update of it costs 64 write units then."""

NUMBERS: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
SPLIT: tuple[str, ...] = tuple(kind.name for kind in ENTITIES)
"""Kinds that may be split."""

MOST_ENTITIES = 2_000
"""Most entities in the table. It is one item of at most 400 KB, which every environment reads every minute."""

AHEAD_DAYS = 2
"""Days from today to the first day that may change: one whole day at any hour, and what clocks may differ."""

LAST_DAYS = 14
"""Days that an entity stays split after a day that needed it."""

RENEWED_DAYS = 7
"""Days that must be left of LAST_DAYS for an entry not to be written again."""

TOKEN, BUCKET, SLOT = 8, 14, 4
"""Approximate bytes of a token, of a bucket with its name, and of a counterparty's slot."""


def size(tokens: float, buckets: float, slots: float) -> float:
    """Estimate the bytes of an item."""
    return TOKEN * tokens + BUCKET * buckets + SLOT * slots


def wanted(item: Item) -> int:
    """Return into how many items, a power of two, a closed period should have been split.

    item  the period with its shards put together. Its fine buckets are not read: an hour has as many as it has
    payments, or all of them
    """
    fine = 3600 // SCALES["s"] + 3600 // SCALES["m"]
    hours = [(unpacked(total)[0], item.slots.get(hour, 0).bit_count()) for hour, total in item.buckets["h"].items()]

    def large(number: int) -> bool:
        return sum(size(n / number, min(n / number, fine), min(n / number, slots)) for n, slots in hours) > LARGE

    return next((number for number in NUMBERS if not large(number)), NUMBERS[-1])


def extended(steps: ShardSchedule, today: int, number: int) -> ShardSchedule:
    """Return the schedule of an entity after a day that needed `number` shards: at least so many for LAST_DAYS.

    No day before the day after tomorrow changes, because live items may lie in it; steps older than live items go. The
    schedule stays as it is when it would hardly change.
    """
    start, forgotten = today + AHEAD_DAYS, today - KEEP_DAYS - 1
    lasts = all(number_on(steps, day) >= number for day in range(start, start + RENEWED_DAYS))
    end = start if lasts else start + LAST_DAYS
    ends = [*(day for day, _ in steps[1:]), end + 1]
    known = [day for (day, _), ended in zip(steps, ends, strict=False) if ended > forgotten]
    days = sorted({*known, start, end})
    drawn = [(day, max(number_on(steps, day), number if start <= day < end else 1)) for day in days]
    firsts = [next(same) for _, same in groupby(drawn, key=lambda step: step[1])]
    return tuple(firsts[1:] if firsts[0][1] == 1 else firsts)


def ordered(message: Mapping[str, Any]) -> tuple[str, int]:
    """Read an operator's message `{"split": "<kind>#<id>", "shards": n}` as entity and number of shards.

    Raises InvalidRequestError.
    """
    kind, _, entity = str(message["split"]).partition("#")
    number: Any = message.get("shards")
    faults = []
    if kind not in SPLIT or not is_id(entity):
        faults.append(Fault("split", "unknown_entity", f"must be <kind>#<id>, of the kinds {', '.join(SPLIT)}"))
    if type(number) is not int or number not in NUMBERS:
        faults.append(Fault("shards", "unknown_number", f"must be one of {', '.join(map(str, NUMBERS))}"))
    if faults:
        raise InvalidRequestError(tuple(faults))
    return f"{kind}#{entity}", int(number)
