"""Translation between DynamoDB and the counters' values: rows to items and profiles, updates to expressions.

`decisions.store` and `counters.worker` send the expressions that this module builds, and read responses with it. A
change of the stored layout changes this module and `layout`, and no other.
"""

import functools
from collections.abc import Iterable, Mapping
from typing import Any

from fraud.aws.dynamodb import typed_key
from fraud.aws.transport import binary
from fraud.counters import fold, layout, sharding, windows
from fraud.counters.fold import Progress
from fraud.counters.history import NO_HISTORY, SIDES, FoldedHistory
from fraud.counters.layout import (
    DAY,
    PAIR,
    SCALES,
    SLOTS,
    Item,
    Key,
    Profile,
    Shards,
    ShardSchedule,
    Slice,
    Update,
)
from fraud.transaction import Transaction

EARLIER = (
    "pk",
    "sk",
    "d",
    *(f"h{hour}" for hour in range(24)),
    *(f"b{day}" for day in range(PAIR.period // DAY)),
)
"""Attributes that are read of every earlier item: its keys, its hours, its slots, and a pair's days."""

SHARDS = "shards"
"""Key of the shard table: one item of the profiles table. It has an attribute for each entity that is split or was
split recently.
"""

BESIDE_S = 3600 // SCALES["s"]
"""Number of 10 second buckets that are read of the other shards of a payment's period, up to the payment's own bucket.

They span one hour: a merchant's whole item, or the last hour of a daily item.
"""


def attempt_update(update: Update) -> dict[str, Any]:
    """Build the UpdateItem that counts an attempt in one item: buckets, slots and token change together or not at all.

    DynamoDB refuses the update when the item already holds the attempt's token, so a duplicate is not counted again.
    The response has the item: after the update, or as it is when the update was refused.
    """
    adds = [f"{scale}{index} :v" for scale, index in update.buckets]
    values: dict[str, Any] = {
        ":v": {"N": str(update.value)},
        ":ttl": {"N": str(update.ttl)},
        # ADD needs a set. contains() needs a scalar: with a set it would never match, and duplicates would be counted.
        ":tokens": {"BS": [update.token]},
        ":token": {"B": update.token},
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
    """Return the projection expression for earlier items: the attributes that `windows.measure` may read of them.

    These are hours, slots, a pair's days and the payments' devices. A short window that begins before the start of a
    payment's own period also needs the last fine buckets of the period before.
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
    """Return the projection expression for the other shards of a payment's own period.

    It names what `windows.measure` may read of them: hours, slots, the device, and fine buckets up to the payment's
    own. Fine buckets before `first_fine_bucket` are left out; `windows.needs_older_buckets` tells when they must be
    read after all.
    """
    names = dict.fromkeys(("pk", "sk", "d", *(f"h{hour}" for hour in range(24))))
    if update.device is not None:
        names[f"e{update.device}"] = None
    own = dict(update.buckets)
    names |= dict.fromkeys(f"s{index}" for index in range(first_fine_bucket(update), own["s"] + 1))
    length = dict(windows.WINDOWS.values())["m"]
    names |= dict.fromkeys(f"m{index}" for index in range(max(own["m"] - length + 1, 0), own["m"] + 1))
    return ", ".join(names)


def first_fine_bucket(update: Update) -> int:
    """Return the number of the first 10 second bucket that is read of the period's other shards.

    It is at most BESIDE_S - 1 buckets before the payment's own, and never before the item's start.
    """
    return max(dict(update.buckets)["s"] - BESIDE_S + 1, 0)


def size_of(update: Update, attributes: Mapping[str, Any]) -> float:
    """Estimate the size in bytes of the item that an update's response holds.

    attributes  the item, each value with its DynamoDB type
    """
    tokens, slots = attributes.get(update.tokens, {}).get("BS", ()), attributes.get("d", {}).get("NS", ())
    return sharding.size(len(tokens), len(attributes), len(slots))


def item_of(attributes: Mapping[str, Any]) -> Item:
    """Read a counters item from its DynamoDB attributes. Tokens are left out: only the update's condition needs them.

    >>> item_of({"pk": {"S": "payer#a"}, "h9": {"N": "5000000001"}, "r": {"BS": ["AAAA"]}}).buckets["h"]
    {9: 5000000001}
    """
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
    """Split the name of a bucket or a device into letter and number. Return None for any other attribute.

    The other attributes are pk, sk, ttl, fold, d and the tokens.

    >>> _place("h23"), _place("r23"), _place("sk")
    (('h', 23), None, None)
    """
    letter, number = name[0], name[1:]
    return (letter, int(number)) if (letter in SCALES or letter == "e") and number.isdecimal() else None


def profile_of(attributes: Mapping[str, Any]) -> Profile:
    """Read a profile from its DynamoDB attributes.

    A side (an attribute named in SIDES) becomes a FoldedHistory. Any other attribute becomes a plain value: number,
    string, bytes, boolean, None, list or map. Raises what `FoldedHistory.unpacked` raises for a malformed side.

    >>> profile_of({"pk": {"S": "account#a"}, "fo20516": {"N": "2"}})
    {'pk': 'account#a', 'fo20516': 2}
    """
    return {
        name: history_of(value) if name in SIDES else _plain(kind, content)
        for name, value in attributes.items()
        for kind, content in value.items()
    }


def history_of(side: Mapping[str, Any] | None) -> FoldedHistory:
    """Read the folded history of one side of a profile. Return NO_HISTORY when the side is missing.

    side  the attribute's value with its type, `{"B": ...}`
    """
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
    """Read the watermark of each slice: how far it is folded. A slice without a watermark is left out.

    rows  the items that `store.watermark_rows` returns, by key

    >>> watermarks_of({"fold#d": {"s3": [20514, ""]}})
    {Slice(sk='d', number=3): Progress(through=20514, reached='')}
    """
    found = {part: rows.get(fold.WATERMARKS[part.sk], {}).get(watermark_attribute(part)) for part in fold.SLICES}
    return {part: Progress(*progress) for part, progress in found.items() if progress is not None}


def shards_of(rows: Mapping[str, Profile]) -> Shards:
    """Read the shard table. It is empty when `rows` does not have it.

    Raises ValueError for a malformed schedule.

    >>> shards_of({"shards": {"pk": "shards", "merchant#shop": [[20516, 8], [20530, 1]]}}).steps
    {'merchant#shop': ((20516, 8), (20530, 1))}
    """
    # The name of an entity's attribute always has a `#`; `pk` has none.
    steps = rows.get(SHARDS, {}).items()
    return Shards({name: tuple(_shards_step(*step) for step in value) for name, value in steps if "#" in name})


def _shards_step(day: int, number: int) -> tuple[int, int]:
    """Check one step of a schedule and return it.

    Raises ValueError for a malformed step, because all writers would then count in a wrong item.
    """
    if type(day) is not int or number not in sharding.NUMBERS:
        raise ValueError(f"{number} shards from {day}")
    return day, number


def watermark_attribute(part: Slice) -> str:
    """Return the name of the attribute that holds a slice's watermark. Its value is one list, so it changes as a whole.

    >>> watermark_attribute(Slice("d", 3))
    's3'
    """
    return f"s{part.number}"


Attribute = Mapping[str, Any]
"""A value with its type, as DynamoDB writes it."""


StoredRow = Mapping[str, Attribute]
"""A stored item: attributes by name."""


def fold_update(key: Key, profile: StoredRow, after: FoldedHistory) -> dict[str, Any]:
    """Build the UpdateItem that writes the folded history of one side of a profile.

    key      the period that was folded
    profile  the profile as it was read, before the fold
    after    the side's history after the fold

    DynamoDB refuses the update when the stored side is no longer as it was read. The update also removes fraud buckets
    that no window reaches any more.
    """
    side, outlived = key.kind.side, fold.outlived(profile, key.day)
    before = profile.get(side)
    values: dict[str, Attribute] = {":after": {"B": after.packed()}}
    condition = f"attribute_not_exists({side})"
    if before is not None:
        condition = f"{side} = :before"
        values[":before"] = before  # the bytes as read: packed again, they may differ by the version of zlib
    return {
        "Key": typed_key(key.kind.profile_key(key.entity)),
        "UpdateExpression": f"SET {side} = :after" + (f" REMOVE {', '.join(outlived)}" if outlived else ""),
        "ConditionExpression": condition,
        "ExpressionAttributeValues": values,
    }


def watermark_update(before: Mapping[Slice, Progress | None], after: Progress) -> dict[str, Any]:
    """Build the UpdateItem that moves the watermarks of several slices to the same place.

    before  the watermarks as they were read, None for a slice without one. All slices have the same letter, because
            one item holds the watermarks of a letter
    after   the watermark that all of them get

    DynamoDB refuses the update as a whole when one of the watermarks has changed since it was read.

    >>> watermark_update({Slice("d", 3): Progress(20514), Slice("d", 4): None}, Progress(20515))["ConditionExpression"]
    's3 = :s3 AND attribute_not_exists(s4)'
    """
    (sk,) = {part.sk for part in before}
    names = {watermark_attribute(part): progress for part, progress in before.items()}
    conditions = [
        f"attribute_not_exists({name})" if progress is None else f"{name} = :{name}" for name, progress in names.items()
    ]
    values = {f":{name}": _typed(progress) for name, progress in names.items() if progress is not None}
    return {
        "Key": typed_key(fold.WATERMARKS[sk]),
        "UpdateExpression": f"SET {', '.join(f'{name} = :after' for name in names)}",
        "ConditionExpression": " AND ".join(conditions),
        "ExpressionAttributeValues": {":after": _typed(after), **values},
    }


def shard_update(name: str, before: ShardSchedule, after: ShardSchedule) -> dict[str, Any]:
    """Build the UpdateItem that changes the schedule of one entity in the shard table.

    name    `Kind.key` of the entity
    before  the schedule as it was read
    after   the new schedule; an empty one removes the attribute

    DynamoDB refuses the update when the stored schedule is not `before`.

    >>> shard_update("merchant#shop", (), ((20516, 8), (20530, 1)))["ConditionExpression"]
    'attribute_not_exists(#entity)'
    >>> shard_update("merchant#shop", ((20516, 8), (20530, 1)), ())["UpdateExpression"]
    'REMOVE #entity'
    """
    values = {f":{when}": _typed(steps) for when, steps in (("before", before), ("after", after)) if steps}
    return {
        "Key": typed_key(SHARDS),
        "UpdateExpression": "SET #entity = :after" if after else "REMOVE #entity",
        "ConditionExpression": "#entity = :before" if before else "attribute_not_exists(#entity)",
        "ExpressionAttributeNames": {"#entity": name},
        "ExpressionAttributeValues": values,
    }


def _typed(value: int | Progress | ShardSchedule) -> Attribute:
    """Return a value with its DynamoDB type.

    >>> _typed(Progress(5, "payer#a"))
    {'L': [{'N': '5'}, {'S': 'payer#a'}]}
    """
    match value:
        case int():
            return {"N": str(value)}
        case Progress(through, reached):
            return {"L": [{"N": str(through)}, {"S": reached}]}
        case _:
            return {"L": [{"L": [_typed(day), _typed(number)]} for day, number in value]}
