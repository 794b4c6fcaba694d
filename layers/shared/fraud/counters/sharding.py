"""How the table of shards changes: an entity whose closed items grew large is split, always from the day after
tomorrow on.

So nobody needs the table of this minute: one that is hours old says the same of every payment that may come. Pure; the
fold, which sees every closed item, writes it, and `counters.Shards` reads it.
"""

from collections.abc import Mapping
from itertools import groupby
from typing import Any

from fraud.counters.layout import ENTITIES, KEEP_DAYS, SCALES, Item, ShardSchedule, number_on, unpacked
from fraud.errors import Fault, InvalidRequestError
from fraud.transaction import is_id

LARGE = 64 * 1024
"""Bytes of an item, 64 write units an update, above which it is to be split."""

NUMBERS: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
SPLIT: tuple[str, ...] = tuple(kind.name for kind in ENTITIES)
"""Kinds that may be split."""

MOST_ENTITIES = 2_000
"""How many the table takes: it is one item, of 400 KB at most, which everybody reads every minute."""

AHEAD_DAYS = 2
"""How far ahead of today the first day lies that may change: a day, whatever the hour, and what a clock may be off."""

LAST_DAYS = 14
"""How long an entity stays split after a day that wanted it."""

RENEWED_DAYS = 7
"""What an entry must still have of that not to be written again."""

TOKEN, BUCKET, SLOT = 8, 14, 4
"""Bytes that a token, a bucket with its name and a counterparty's slot take, about."""


def size(tokens: float, buckets: float, slots: float) -> float:
    """About how many bytes an item has."""
    return TOKEN * tokens + BUCKET * buckets + SLOT * slots


def wanted(item: Item) -> int:
    """Into how many items a closed period, its shards put together, would have had to be split; a power of two.

    Fine buckets are not looked at: an hour has as many as it has payments, or all of them.
    """
    fine = 3600 // SCALES["s"] + 3600 // SCALES["m"]
    hours = [(unpacked(total)[0], item.slots.get(hour, 0).bit_count()) for hour, total in item.buckets["h"].items()]

    def large(number: int) -> bool:
        return sum(size(n / number, min(n / number, fine), min(n / number, slots)) for n, slots in hours) > LARGE

    return next((number for number in NUMBERS if not large(number)), NUMBERS[-1])


def extended(steps: ShardSchedule, today: int, number: int) -> ShardSchedule:
    """The steps of an entity after a day that wanted `number` shards: at least so many for LAST_DAYS.

    No day before the day after tomorrow changes that a live item may lie in; older steps go. The same steps, when next
    to nothing would change.
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
    """Entity and number of shards that somebody orders by hand: `{"split": "<kind>#<id>", "shards": n}`.

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
