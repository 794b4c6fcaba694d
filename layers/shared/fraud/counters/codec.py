"""Translation between DynamoDB and the counters' values: rows to items and profiles, updates to expressions.

`decisions.store` and `counters.worker` send the expressions that this module builds, and read responses with it. A
change of the stored layout changes this module and `layout`, and no other.
"""

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fraud.aws.dynamodb import typed_key
from fraud.aws.transport import binary
from fraud.counters import fold, windows
from fraud.counters.fold import Progress
from fraud.counters.history import NO_HISTORY, SIDES, FoldedHistory
from fraud.counters.keys import KEY_BYTES, Keys
from fraud.counters.layout import (
    CLASSES,
    CLOSED,
    DAY,
    MOVED,
    PAIR,
    SCALES,
    SLOTS,
    TOKENS,
    VOIDED,
    Item,
    Key,
    Profile,
    Slice,
    Update,
)
from fraud.counters.sampling import NewSlot, Upkeep
from fraud.transaction import Transaction

EARLIER = (
    "pk",
    "sk",
    "l",
    "d",
    *(f"h{hour}" for hour in range(24)),
    *(f"b{day}" for day in range(PAIR.period // DAY)),
    *(f"q{hour}" for hour in range(24)),
    *(f"c{size}" for size in range(CLASSES)),
    *(f"v{hour}" for hour in range(24)),
)
"""Attributes that are read of every earlier item: its keys, level, hours, slots, a pair's days, spreads, sizes and
voids. One list for all: a projection does not make a read cheaper.
"""

KEYS = "keys"
"""Key of the item of the profiles table that holds the stack's secret keys."""


def attempt_update(update: Update, level: int) -> dict[str, Any]:
    """Build the UpdateItem that counts an attempt in one item: buckets, slots and token change together or not at all.

    level  the level that the item is taken to have. A new item gets it

    DynamoDB refuses the update when the item has another level, or already holds the attempt's token: a duplicate is
    not counted again. The response has the item: after the update, or as it is when the update was refused.
    """
    adds, counted = _additions(update, update.weight(level), 1)
    values: dict[str, Any] = {
        **counted,
        # ADD needs a set. contains() needs a scalar: with a set it would never match, and duplicates would be counted.
        ":tokens": {"BS": [update.token]},
        ":token": {"B": update.token},
    }
    if update.slot is not None:
        adds.append("d :slots")
        values[":slots"] = {"NS": [str(update.hour * SLOTS + update.slot)]}
    sets, names, beginning = _beginning(update, level)
    same = "(attribute_not_exists(pk) OR l = :l)" if level else "attribute_not_exists(l)"
    return {
        "Key": typed_key(update.key.pk, update.key.sk),
        "UpdateExpression": f"SET {sets} ADD {', '.join(adds)}, {update.tokens} :tokens"
        + (f" REMOVE {', '.join(update.outlived)}" if update.outlived else ""),
        "ConditionExpression": f"{same} AND NOT contains({update.tokens}, :token)",
        "ExpressionAttributeNames": names,
        "ExpressionAttributeValues": values | beginning,
        "ReturnValues": "ALL_NEW",
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }


def _additions(update: Update, weight: int, one: int) -> tuple[list[str], dict[str, Any]]:
    """Return the terms of ADD that count an attempt, or that take it back, and their values.

    weight  what buckets and spread get; negative to take back
    one     what device and size class get: 1, or -1 to take back
    """
    adds = [f"{scale}{index} :v" for scale, index in update.buckets]
    values = {":v": {"N": str(update.value * weight)}}
    named = [
        *([f"e{update.device}"] if update.device is not None else []),
        *([f"c{update.size}"] if update.size is not None else []),
    ]
    if named:
        adds += [f"{name} :one" for name in named]
        values[":one"] = {"N": str(one)}
    if update.size is not None:
        adds.append(f"q{update.hour} :q")
        values[":q"] = {"N": str(update.spread * weight)}
    return adds, values


def beginning_update(update: Update, level: int) -> dict[str, Any]:
    """Build the UpdateItem that begins an item without counting anything, refused when the item exists.

    Otherwise an item would begin at its first attempt that is in the sample, and the attempts before it would be lost.
    """
    sets, names, values = _beginning(update, level)
    return {
        "Key": typed_key(update.key.pk, update.key.sk),
        "UpdateExpression": f"SET {sets}",
        "ConditionExpression": "attribute_not_exists(pk)",
        "ExpressionAttributeNames": names,
        "ExpressionAttributeValues": values,
        "ReturnValues": "ALL_NEW",
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }


def _beginning(update: Update, level: int) -> tuple[str, dict[str, str], dict[str, Any]]:
    """Return what begins an item: the terms of SET, their names and their values. They change no existing item."""
    values: dict[str, Any] = {"ttl": {"N": str(update.ttl)}}
    if update.fold is not None:
        values["fold"] = {"S": update.fold}
    names = {f"#{name}": name for name in values}
    if level:
        values["l"] = {"N": str(level)}
    sets = [f"{name} = if_not_exists({name}, :{name.lstrip('#')})" for name in (*names, *(["l"] if level else []))]
    return ", ".join(sets), names, {f":{name}": value for name, value in values.items()}


def taking_back(update: Update, level: int) -> dict[str, Any]:
    """Build the UpdateItem that takes a counted attempt back, refused when its token is not in the item.

    level  the level at which it was counted

    Everything but the slots is then as if the attempt had never come.
    """
    adds, counted = _additions(update, -update.weight(level), -1)
    values: dict[str, Any] = {**counted, ":tokens": {"BS": [update.token]}, ":token": {"B": update.token}}
    return {
        "Key": typed_key(update.key.pk, update.key.sk),
        "UpdateExpression": f"ADD {', '.join(adds)} DELETE {update.tokens} :tokens",
        "ConditionExpression": f"contains({update.tokens}, :token)",
        "ExpressionAttributeValues": values,
    }


VOID_STEPS = ("void", "moved", "void_again")
"""The steps of a void in their order. Each is taken once, and none after a later one, however often it is sent."""

_VOID_EXPRESSIONS: Mapping[str, tuple[str, str]] = {
    "void": (
        f"ADD v{{hour}} :v, {VOIDED} :tokens",
        f"contains({{tokens}}, :token) AND NOT contains({VOIDED}, :token) AND NOT contains({MOVED}, :token)",
    ),
    "moved": (
        f"ADD v{{hour}} :v, {MOVED} :tokens DELETE {VOIDED} :tokens",
        f"contains({VOIDED}, :token) AND NOT contains({MOVED}, :token)",
    ),
    "void_again": (
        f"ADD v{{hour}} :v, {VOIDED} :tokens",
        f"contains({MOVED}, :token) AND NOT contains({VOIDED}, :token)",
    ),
}
"""The update and the condition of each step of a void."""


def void_update(update: Update, step: str = "void") -> dict[str, Any]:
    """Build the UpdateItem that takes a step of a counted attempt's void in its payer's item.

    step  of VOID_STEPS: the attempt is void; its money has moved after all; it has moved back

    DynamoDB refuses a step that was taken, one that a later step has followed, and the first one when the item does not
    hold the attempt's token: then its money is not in the item's sum. So voids never exceed the sum, and their tokens
    are bounded as the item's tokens.
    """
    changed, condition = _VOID_EXPRESSIONS[step]
    amount = -update.amount if step == "moved" else update.amount
    return {
        "Key": typed_key(update.key.pk, update.key.sk),
        "UpdateExpression": changed.format(hour=update.hour),
        "ConditionExpression": condition.format(tokens=update.tokens),
        "ExpressionAttributeValues": {
            ":v": {"N": str(amount)},
            ":tokens": {"BS": [update.token]},
            ":token": {"B": update.token},
        },
    }


def upkeep_update(change: Upkeep) -> dict[str, Any]:
    """Build the UpdateItem of a raise, refused when the item has another level, or of a missing slot."""
    key = {"Key": typed_key(change.key.pk, change.key.sk)}
    if isinstance(change, NewSlot):
        return key | {
            "UpdateExpression": "ADD d :slots",
            "ConditionExpression": "attribute_exists(pk)",
            "ExpressionAttributeValues": {":slots": {"NS": [str(change.slot)]}},
        }
    left = TOKENS[change.level : change.to] if change.to < CLOSED else ()
    removed = (*left, *change.removed)
    values = {":to": {"N": str(change.to)}}
    if change.level:
        values[":l"] = {"N": str(change.level)}
    return key | {
        "UpdateExpression": "SET l = :to" + (f" REMOVE {', '.join(removed)}" if removed else ""),
        "ConditionExpression": "l = :l" if change.level else "attribute_exists(pk) AND attribute_not_exists(l)",
        "ExpressionAttributeValues": values,
    }


def projection(payments: Iterable[tuple[Transaction, Sequence[Update]]]) -> str:
    """Return the projection expression for earlier items: the attributes that `windows.measure` may read of them.

    payments  transactions with their updates

    The attributes are those of EARLIER and the payments' devices. A short window that begins before
    the start of a payment's own period also needs the last fine buckets of the period before.
    """
    names = dict.fromkeys(EARLIER)
    for transaction, moved in payments:
        names |= {f"e{update.device}": None for update in moved if update.device is not None}
        for period in {update.key.kind.period for update in moved if update.key.kind is not PAIR}:
            for scale, length in windows.WINDOWS.values():
                per_item = period // SCALES[scale]
                reach_back = length - 1 - transaction.epoch % period // SCALES[scale]
                names |= dict.fromkeys(f"{scale}{index}" for index in range(per_item - max(reach_back, 0), per_item))
    return ", ".join(names)


def item_of(attributes: Mapping[str, Any]) -> Item:
    """Read a counters item from its DynamoDB attributes. Numbers that were taken back to 0 are left out.

    >>> item_of({"pk": {"S": "payer#a"}, "h9": {"N": "5000000001"}, "h10": {"N": "0"}}).buckets["h"]
    {9: 5000000001}
    """
    item = Item()
    numbered = {**item.buckets, "e": item.devices, "q": item.spreads, "c": item.sizes, "v": item.voids}
    for name, value in attributes.items():
        if place := _place(name):
            letter, number = place
            if letter == "r":
                item.tokens[name] = set(value["BS"])
            elif (total := int(value["N"])) != 0:
                numbered[letter][number] = total
        elif name == "l":
            item.level = int(value["N"])
        elif name == "d":
            for slot_of_hour in value["NS"]:
                hour, slot = divmod(int(slot_of_hour), SLOTS)
                item.slots[hour] = item.slots.get(hour, 0) | 1 << slot
    return item


_NUMBERED = frozenset((*SCALES, *"eqcrv"))
"""First letters of the attributes whose names end in a number."""


@functools.cache
def _place(name: str) -> tuple[str, int] | None:
    """Split the name of a number or of a set of tokens into letter and number. Return None for any other name.

    The other attributes are pk, sk, ttl, fold, l, d, rv and rm.

    >>> _place("h23"), _place("r23"), _place("rv")
    (('h', 23), ('r', 23), None)
    """
    letter, number = name[0], name[1:]
    return (letter, int(number)) if letter in _NUMBERED and number.isdecimal() else None


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


def snapshot_of(pointer: Profile) -> int:
    """Return the number of the snapshot of marks that the pointer names; 0 for none, or one that cannot be read.

    >>> snapshot_of({"snapshot": 7}), snapshot_of({"snapshot": "7"}), snapshot_of({})
    (7, 0, 0)
    """
    snapshot = pointer.get("snapshot", 0)
    return snapshot if isinstance(snapshot, int) else 0


def keys_of(row: Profile) -> Keys:
    """Read the stack's keys from their item. Raises KeyError, TypeError or ValueError for a malformed one."""
    keys = Keys(row["ids"], tuple((start, key) for start, key in row["tokens"]), row["ids_since"])
    days = [start for start, _ in keys.tokens]
    secrets = {(type(key), len(key)) for key in (keys.ids, *(key for _, key in keys.tokens))}
    if not days or days != sorted(set(days)) or {type(day) for day in (*days, keys.ids_since)} != {int}:
        raise ValueError("days of keys")
    if secrets != {(bytes, KEY_BYTES)}:
        raise ValueError("keys")
    return keys


def keys_row(keys: Keys) -> dict[str, Any]:
    """Return the item that holds the keys.

    >>> from fraud.counters.keys import DECLARED
    >>> keys_of(profile_of(keys_row(DECLARED))) == DECLARED
    True
    """
    tokens = [{"L": [{"N": str(start)}, {"B": key}]} for start, key in keys.tokens]
    return {
        "pk": {"S": KEYS},
        "ids": {"B": keys.ids},
        "tokens": {"L": tokens},
        "ids_since": {"N": str(keys.ids_since)},
    }


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


def _typed(progress: Progress) -> Attribute:
    """Return a watermark with its DynamoDB type.

    >>> _typed(Progress(5, "payer#a"))
    {'L': [{'N': '5'}, {'S': 'payer#a'}]}
    """
    return {"L": [{"N": str(progress.through)}, {"S": progress.reached}]}
