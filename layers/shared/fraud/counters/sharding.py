"""Changes of the shard table: an entity whose closed items grew large is split, always from the day after tomorrow on.

Therefore a reader needs no fresh table: one that is hours old says the same about every payment that may come. The fold
reads every closed item, so it writes the table. `layout.Shards` reads it (D-048). This module is pure.
"""

from collections.abc import Mapping
from itertools import groupby
from typing import Any

from fraud.counters.layout import ENTITIES, KEEP_DAYS, SCALES, Item, ShardSchedule, number_on, unpacked
from fraud.errors import Fault, InvalidRequestError
from fraud.transaction import is_id

LARGE = 64 * 1024
"""Size in bytes above which an item should be split. At this size each update of it costs 64 write units."""

NUMBERS: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
"""Numbers of shards that a period may have."""

SPLIT: tuple[str, ...] = tuple(kind.name for kind in ENTITIES)
"""Kinds that may be split."""

MOST_ENTITIES = 2_000
"""Most entities in the table. The table is one item of at most 400 KB, and every environment reads it every minute."""

AHEAD_DAYS = 2
"""Days from today to the first day that may change. They leave one whole day at any hour, and time for clocks that
differ.
"""

LAST_DAYS = 14
"""Days that an entity stays split after a day that needed the split."""

RENEWED_DAYS = 7
"""Days for which a schedule must still have enough shards. With fewer days left it is written again."""

TOKEN, BUCKET, SLOT = 8, 14, 4
"""Approximate size in bytes of a token, of a bucket with its name, and of a counterparty's slot."""


def size(tokens: float, buckets: float, slots: float) -> float:
    """Estimate the size of an item in bytes from its numbers of tokens, buckets and slots.

    >>> size(tokens=1000, buckets=360, slots=100)
    13440
    """
    return TOKEN * tokens + BUCKET * buckets + SLOT * slots


def shards_wanted(item: Item) -> int:
    """Return the number of shards that a closed period should have had: the least power of two that keeps them small.

    item  the period, merged from its shards. Its fine buckets are not read. An hour is taken to have as many fine
          buckets as payments, but no more than fit in an hour

    The largest of NUMBERS is returned when even that many shards would be above LARGE bytes.

    >>> from fraud.counters.layout import packed
    >>> item = Item()
    >>> item.buckets["h"] = {12: packed(60_000, 0)}
    >>> shards_wanted(Item()), shards_wanted(item)
    (1, 8)
    """
    fine = 3600 // SCALES["s"] + 3600 // SCALES["m"]
    hours = [(unpacked(total)[0], item.slots.get(hour, 0).bit_count()) for hour, total in item.buckets["h"].items()]

    def large(number: int) -> bool:
        return sum(size(n / number, min(n / number, fine), min(n / number, slots)) for n, slots in hours) > LARGE

    return next((number for number in NUMBERS if not large(number)), NUMBERS[-1])


def extended(steps: ShardSchedule, today: int, number: int) -> ShardSchedule:
    """Return the schedule of an entity after a day that needed `number` shards.

    steps   the schedule so far
    today   epoch day
    number  number of shards, of NUMBERS. 1 asks for no split and only removes steps that have run out

    The new schedule has at least `number` shards for LAST_DAYS, from the day after tomorrow on. No earlier day changes,
    because live items may lie in it. Steps older than live items are removed. A schedule that still has enough shards
    for RENEWED_DAYS gets no new days.

    >>> extended((), 20516, 8)
    ((20518, 8), (20532, 1))
    >>> extended(((20518, 8), (20532, 1)), 20517, 8)
    ((20518, 8), (20532, 1))
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


def parse_split_request(message: Mapping[str, Any]) -> tuple[str, int]:
    """Parse an operator's request to split, `{"split": "<kind>#<id>", "shards": n}`, into entity and number of shards.

    Raises InvalidRequestError, with a fault for each malformed field.

    >>> parse_split_request({"split": "merchant#shop", "shards": 8})
    ('merchant#shop', 8)
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
