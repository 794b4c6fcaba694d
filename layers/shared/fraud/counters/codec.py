"""How counters and profiles are stored in DynamoDB: rows to values, and values to update expressions.

`decisions.store` and `counters.worker` send and receive what is built and read here. A changed layout is a change here
and in `layout`.
"""

import functools
from collections.abc import Iterable, Mapping
from typing import Any

from fraud.aws.transport import binary
from fraud.counters import fold, layout, sharding, windows
from fraud.counters.fold import Progress
from fraud.counters.history import NO_HISTORY, SIDES, FoldedHistory
from fraud.counters.layout import DAY, PAIR, SCALES, SLOTS, Item, Profile, Shards, Slice, Update
from fraud.transaction import Transaction

EARLIER = (
    "pk",
    "sk",
    "d",
    *(f"h{hour}" for hour in range(24)),
    *(f"b{day}" for day in range(PAIR.period // DAY)),
)
"""Attributes that are read of every earlier item: hours, slots, and a pair's days."""

SHARDS = "shards"
"""Key of the shard table in the profiles table. It has an attribute for each entity that is split, or was lately."""

BESIDE_S = 3600 // SCALES["s"]
"""How many of the finest buckets, up to the payment's own, are read of a period's other shards: all of a merchant's
hour, the last hour of a day.
"""


def attempt_update(update: Update) -> dict[str, Any]:
    """Build the one UpdateItem of an attempt: buckets, slots and tokens change together, or nothing does."""
    adds = [f"{scale}{index} :v" for scale, index in update.buckets]
    values: dict[str, Any] = {
        ":v": {"N": str(update.value)},
        ":ttl": {"N": str(update.ttl)},
        ":tokens": {"BS": [update.token]},  # ADD wants a set,
        ":token": {
            "B": update.token
        },  # contains() a scalar: with the set it would never match and duplicates would pass
    }
    sets, names = ["#ttl = if_not_exists(#ttl, :ttl)"], {"#ttl": "ttl"}
    if update.slot is not None:
        adds.append("d :slots")
        values[":slots"] = {"NS": [str(update.hour * SLOTS + update.slot)]}
    if update.device is not None:
        adds.append(f"e{update.device} :one")
        values[":one"] = {"N": "1"}
    if update.fold is not None:
        sets.append("#fold = if_not_exists(#fold, :fold)")
        names["#fold"] = "fold"
        values[":fold"] = {"S": update.fold}
    return {
        "Key": {"pk": {"S": update.key.pk}, "sk": {"S": update.key.sk}},
        "UpdateExpression": f"SET {', '.join(sets)} ADD {', '.join(adds)}, {update.tokens} :tokens"
        + (f" REMOVE {', '.join(update.closed)}" if update.closed else ""),
        "ConditionExpression": f"NOT contains({update.tokens}, :token)",
        "ExpressionAttributeNames": names,
        "ExpressionAttributeValues": values,
        "ReturnValues": "ALL_NEW",
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }


def projection(transactions: Iterable[Transaction]) -> str:
    """Name the attributes of earlier items that `windows.measure` may read for these payments.

    They are hours, slots, days, devices, and the fine buckets of windows that reach back over the start of a payment's
    own period.
    """
    names = dict.fromkeys(EARLIER)
    for transaction in transactions:
        if transaction.device_id is not None:
            names[f"e{layout.slot_of(transaction.device_id)}"] = None
        for period in {kind.period for kind, _, _ in layout.sides(transaction) if kind is not PAIR}:
            for scale, length in windows.WINDOWS.values():
                per_item = period // SCALES[scale]
                reach_back = length - 1 - transaction.epoch % period // SCALES[scale]
                names |= dict.fromkeys(f"{scale}{index}" for index in range(per_item - max(reach_back, 0), per_item))
    return ", ".join(names)


def projection_beside(update: Update) -> str:
    """Name the attributes of the other shards of a payment's own item that `windows.measure` may read.

    They are hours, slots, the device, and the fine buckets up to the payment's own, without those that `windows.hidden`
    tells of.
    """
    names = dict.fromkeys(("pk", "sk", "d", *(f"h{hour}" for hour in range(24))))
    if update.device is not None:
        names[f"e{update.device}"] = None
    own = dict(update.buckets)
    names |= dict.fromkeys(f"s{index}" for index in range(since(update), own["s"] + 1))
    length = dict(windows.WINDOWS.values())["m"]
    names |= dict.fromkeys(f"m{index}" for index in range(max(own["m"] - length + 1, 0), own["m"] + 1))
    return ", ".join(names)


def since(update: Update) -> int:
    """Return the number of the first fine bucket that is read of the period's other shards."""
    return max(dict(update.buckets)["s"] - BESIDE_S + 1, 0)


def size_of(update: Update, attributes: Mapping[str, Any]) -> float:
    """Estimate the bytes of the item in an update's response."""
    tokens, slots = attributes.get(update.tokens, {}).get("BS", ()), attributes.get("d", {}).get("NS", ())
    return sharding.size(len(tokens), len(attributes), len(slots))


def item_of(attributes: Mapping[str, Any]) -> Item:
    """Read a counters item from DynamoDB's attributes, without its tokens: only the condition needs those."""
    item = Item()
    numbered = {**item.buckets, "e": item.devices}
    for name, value in attributes.items():
        if place := _place(name):
            letter, number = place
            numbered[letter][number] = int(value["N"])
        elif name == "d":
            for slot_of_hour in value["NS"]:
                hour, slot = divmod(int(slot_of_hour), SLOTS)
                item.slots[hour] = item.slots.get(hour, 0) | 1 << slot
    return item


@functools.cache
def _place(name: str) -> tuple[str, int] | None:
    """Return letter and number of a bucket's or device's attribute; None for pk, sk, ttl, fold, d and tokens."""
    letter, number = name[0], name[1:]
    return (letter, int(number)) if (letter in SCALES or letter == "e") and number.isdecimal() else None


def profile_of(attributes: Mapping[str, Any]) -> Profile:
    """Read a profile: plain values (numbers, strings, bytes, booleans, lists, maps), and a FoldedHistory per side."""
    return {
        name: history_of(value) if name in SIDES else _plain(kind, content)
        for name, value in attributes.items()
        for kind, content in value.items()
    }


def history_of(side: Mapping[str, Any] | None) -> FoldedHistory:
    """Read the folded history of one side of a profile; NO_HISTORY when the side is missing."""
    return NO_HISTORY if side is None else FoldedHistory.unpacked(binary(side["B"]))


def _plain(kind: str, content: Any) -> Any:  # noqa: ANN401 - an attribute has one of many types
    match kind:
        case "N":
            return float(content) if "." in content or "E" in content else int(content)
        case "B":
            return binary(content)
        case "M":
            return profile_of(content)
        case "L":
            return [_plain(*pair) for element in content for pair in element.items()]
        case "NULL":
            return None
        case _:
            return content


def watermarks_of(rows: Mapping[str, Profile]) -> dict[Slice, Progress]:
    """Read how far each slice is folded. A slice without a watermark is left out."""
    found = {part: rows.get(fold.WATERMARKS[part.sk], {}).get(watermark(part)) for part in fold.SLICES}
    return {part: Progress(*progress) for part, progress in found.items() if progress is not None}


def shards_of(rows: Mapping[str, Profile]) -> Shards:
    """Read the shard table. An entity's attribute always has a `#` in its name, `pk` has none."""
    steps = rows.get(SHARDS, {}).items()
    return Shards({name: tuple(_shards_step(*step) for step in value) for name, value in steps if "#" in name})


def _shards_step(day: int, number: int) -> tuple[int, int]:
    """Read a step of the shard table. Raises ValueError for a step that would make all writers use a wrong item."""
    if type(day) is not int or number not in sharding.NUMBERS:
        raise ValueError(f"{number} shards from {day}")
    return day, number


def watermark(part: Slice) -> str:
    """Name the attribute of a slice's `Progress`. It is one list, so that it changes as a whole."""
    return f"s{part.number}"
