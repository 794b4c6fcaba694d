"""The hot tables: counters, profiles and decisions, as `evaluation.Store`.

It turns the updates and reads that `counters` names into DynamoDB requests and their answers back into items. One
attempt is one UpdateItem per entity, refused as a whole when the item holds the attempt's mark; a decision is one
PutItem, refused when the id has one. So every call may be repeated.
"""

import json
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, Protocol

from fraud import counters, fold, windows
from fraud.counters import DAY, PAIR, SCALES, Item, Key, Profile, Slice, State, Update
from fraud.decision import Record, Stored
from fraud.errors import UnavailableError
from fraud.evaluation import Sight
from fraud.fold import Progress
from fraud.transaction import Transaction, utc
from fraud.wire import Answer, Refused, Request, Result, answered, binary

READ_ATTEMPTS = 4
"""How often keys that DynamoDB left unprocessed are asked for again."""

DECISION = "body_identity, answer"

WATERMARKS_LAST = timedelta(minutes=1)
"""How long the fold's watermarks are taken for current: they only ever rise, so an old one errs on the safe side."""


class Transport(Protocol):
    """Sends requests together and gathers their answers."""

    def gather(self, requests: Sequence[Request], until: float | None = None) -> list[Result]:
        """Answers in the order of the requests, and an error in the place of each that cannot be had.

        until  reading of `time.monotonic` after which it waits no longer; None: as long as its own patience lasts.
        """


class Tables(NamedTuple):
    """Names of the hot tables."""

    counters: str
    profiles: str
    decisions: str


class DynamoStore:
    """`evaluation.Store` on DynamoDB."""

    def __init__(
        self, transport: Transport, tables: Tables, retention_days: int, clock: Callable[[], datetime]
    ) -> None:
        self._transport = transport
        self._tables = tables
        self._retention = retention_days * DAY
        self._clock = clock
        self._watermarks: dict[Slice, int] = {}
        self._watermarks_read_at = datetime.min.replace(tzinfo=UTC)

    def count(self, transaction: Transaction) -> Sight:
        """Every update and one BatchGetItem, sent together: the counters, the other items, profiles and decision.

        Once in WATERMARKS_LAST the fold's watermarks are read beside them.
        """
        moved = counters.updates(transaction)
        earlier = counters.reads(moved)
        requests = [*map(self._update, moved), self._read(transaction, earlier)]
        now = self._clock()
        outdated = not self._watermarks_read_at <= now < self._watermarks_read_at + WATERMARKS_LAST
        if outdated:
            requests.append(watermark_request(self._tables.profiles))
        answers = answered(self._transport.gather(requests))
        if outdated:
            progress = watermarks_of(self._transport, answers[-1])
            self._watermarks = {part: at.through for part, at in progress.items()}
            self._watermarks_read_at = now

        counted, found = answers[: len(moved)], completed(self._transport, answers[len(moved)])
        items = {update.key: item_of(attributes_of(answer)) for update, answer in zip(moved, counted, strict=True)}
        by_key = {(key.pk, key.sk): key for key in earlier}
        for attributes in found.get(self._tables.counters, ()):
            items[by_key[attributes["pk"]["S"], attributes["sk"]["S"]]] = item_of(attributes)
        state = State(
            items=items,
            profiles={row["pk"]["S"]: profile_of(row) for row in found.get(self._tables.profiles, ())},
            recounted=any(isinstance(answer, Refused) for answer in counted),
            stale=fold.stale((update.key for update in moved), self._watermarks),
        )
        decisions = found.get(self._tables.decisions, ())
        return Sight(state, _stored(decisions[0]) if decisions else None)

    def find(self, transaction_id: str) -> Stored | None:
        """Read the decision of an id consistently. Raises UnavailableError."""
        payload = {
            "TableName": self._tables.decisions,
            "Key": {"pk": {"S": transaction_id}},
            "ProjectionExpression": DECISION,
            "ConsistentRead": True,
        }
        (answer,) = answered(self._transport.gather([Request("get_item", payload)]))
        item = attributes_of(answer, "Item")
        return _stored(item) if item else None

    def find_all(self, transaction_ids: Collection[str]) -> dict[str, Stored]:
        """Read the decisions of at most 100 ids consistently; one without is left out. Raises UnavailableError."""
        if not transaction_ids:
            return {}
        keys = {
            self._tables.decisions: {
                "Keys": [{"pk": {"S": transaction_id}} for transaction_id in sorted(transaction_ids)],
                "ProjectionExpression": f"pk, {DECISION}",
                "ConsistentRead": True,
            }
        }
        (answer,) = answered(self._transport.gather([Request("batch_get_item", {"RequestItems": keys})]))
        rows = completed(self._transport, answer).get(self._tables.decisions, ())
        return {row["pk"]["S"]: _stored(row) for row in rows}

    def commit(self, record: Record) -> Stored | None:
        """Store the decision unless the id has one; the one that was there is returned. Raises UnavailableError."""
        transaction = record.transaction
        item = {
            "pk": {"S": transaction.transaction_id},
            "body_identity": {"B": transaction.identity},
            "answer": {"S": record.answer.decode()},
            "transaction": {"S": transaction.canonical.decode()},
            "outcome": {"S": record.outcome.value},
            "decided_at": {"S": utc(record.decided_at)},
            "counters": {"S": json.dumps([record.counters[name] for name in windows.NAMES], separators=(",", ":"))},
            "features": {"B": record.features},
            "fingerprint": {"S": record.fingerprint},
            "ttl": {"N": str(int(record.decided_at.timestamp()) + self._retention)},
        }
        payload = {
            "TableName": self._tables.decisions,
            "Item": item,
            "ConditionExpression": "attribute_not_exists(pk)",
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        (answer,) = answered(self._transport.gather([Request("put_item", payload)]))
        return _stored(answer.item) if isinstance(answer, Refused) else None

    def _update(self, update: Update) -> Request:
        return Request("update_item", {"TableName": self._tables.counters, **expression(update)})

    def _read(self, transaction: Transaction, earlier: Iterable[Key]) -> Request:
        """Earlier items, profiles and decision in one BatchGetItem."""
        profiles = sorted(set(counters.profiles(transaction).values()))
        wanted = {
            self._tables.counters: {
                "Keys": [{"pk": {"S": key.pk}, "sk": {"S": key.sk}} for key in earlier],
                "ProjectionExpression": projection(transaction),
            },
            self._tables.profiles: {"Keys": [{"pk": {"S": pk}} for pk in profiles]},
            self._tables.decisions: {
                "Keys": [{"pk": {"S": transaction.transaction_id}}],
                "ProjectionExpression": DECISION,
            },
        }
        return Request("batch_get_item", {"RequestItems": wanted})


def completed(transport: Transport, answer: Answer) -> dict[str, list[Mapping[str, Any]]]:
    """All items of a BatchGetItem by table, asking again, with growing pauses, for what was left unprocessed.

    Raises UnavailableError when something is left in the end.
    """
    answers = [answer]
    while left := attributes_of(answers[-1], "UnprocessedKeys"):
        if len(answers) > READ_ATTEMPTS:
            raise UnavailableError("UnprocessedKeys")
        time.sleep(0.005 * 2 ** len(answers))
        answers += answered(transport.gather([Request("batch_get_item", {"RequestItems": left})]))
    found: dict[str, list[Mapping[str, Any]]] = {}
    for part in answers:
        for table, rows in attributes_of(part, "Responses").items():
            found.setdefault(table, []).extend(rows)
    return found


def watermark_request(profiles: str, *, consistent: bool = False) -> Request:
    """The read of all watermarks: one item for each letter, with an attribute for each of its slices."""
    keys = [{"pk": {"S": pk}} for pk in fold.WATERMARKS.values()]
    return Request("batch_get_item", {"RequestItems": {profiles: {"Keys": keys, "ConsistentRead": consistent}}})


def watermarks_of(transport: Transport, answer: Answer) -> dict[Slice, Progress]:
    """How far each slice is folded, from the answer to `watermark_request`. A slice without a watermark is left out."""
    rows = {row["pk"]["S"]: profile_of(row) for table in completed(transport, answer).values() for row in table}
    found = {part: rows.get(fold.WATERMARKS[part.sk], {}).get(watermark(part)) for part in fold.SLICES}
    return {part: Progress(*progress) for part, progress in found.items() if progress is not None}


def watermark(part: Slice) -> str:
    """The attribute that holds a slice's `Progress`, as a list: in one value, so that it changes as a whole."""
    return f"s{part.number}"


def expression(update: Update) -> dict[str, Any]:
    """The one UpdateItem of an attempt: buckets, slots and marks move together, or nothing does."""
    adds = [f"{scale}{index} :v" for scale, index in update.buckets]
    values: dict[str, Any] = {
        ":v": {"N": str(update.value)},
        ":ttl": {"N": str(update.ttl)},
        ":marks": {"BS": [update.mark]},  # ADD wants a set,
        ":mark": {"B": update.mark},  # contains() a scalar: with the set it would never match and duplicates would pass
    }
    sets, names = ["#ttl = if_not_exists(#ttl, :ttl)"], {"#ttl": "ttl"}
    if update.slot is not None:
        adds.append(f"d{update.hour} :slots")
        values[":slots"] = {"NS": [str(update.slot)]}
    if update.device is not None:
        adds.append(f"e{update.device} :one")
        values[":one"] = {"N": "1"}
    if update.fold is not None:
        sets.append("#fold = if_not_exists(#fold, :fold)")
        names["#fold"] = "fold"
        values[":fold"] = {"S": update.fold}
    removes = [f"r{closed}" for closed in update.closed]
    return {
        "Key": {"pk": {"S": update.key.pk}, "sk": {"S": update.key.sk}},
        "UpdateExpression": f"SET {', '.join(sets)} ADD {', '.join(adds)}, r{update.marks} :marks"
        + (f" REMOVE {', '.join(removes)}" if removes else ""),
        "ConditionExpression": f"NOT contains(r{update.marks}, :mark)",
        "ExpressionAttributeNames": names,
        "ExpressionAttributeValues": values,
        "ReturnValues": "ALL_NEW",
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }


def projection(transaction: Transaction) -> str:
    """Attributes of earlier items that `measure` may look at: hours, slots, days, its device, and the fine buckets of
    windows that reach back over the start of the payment's own period.
    """
    names = ["pk", "sk", *(f"{letter}{hour}" for letter in "hd" for hour in range(24))]
    names += [f"b{day}" for day in range(PAIR.period // DAY)]
    if transaction.device_id is not None:
        names.append(f"e{counters.slot_of(transaction.device_id)}")
    for period in {kind.period for kind, _, _ in counters.sides(transaction) if kind is not PAIR}:
        for scale, length in windows.WINDOWS.values():
            per_item = period // SCALES[scale]
            reach_back = length - 1 - transaction.epoch % period // SCALES[scale]
            names += [f"{scale}{index}" for index in range(per_item - max(reach_back, 0), per_item)]
    return ", ".join(dict.fromkeys(names))


def item_of(attributes: Mapping[str, Any]) -> Item:
    """A counters item from DynamoDB's attributes; marks, needed by the condition only, stay behind."""
    item = Item()
    for name, value in attributes.items():
        letter, number = name[0], name[1:]
        if not number.isdecimal():
            continue  # pk, sk, ttl, fold
        if letter in SCALES:
            item.buckets[letter][int(number)] = int(value["N"])
        elif letter == "d":
            item.slots[int(number)] = sum(1 << int(slot) for slot in value["NS"])
        elif letter == "e":
            item.devices[int(number)] = int(value["N"])
    return item


def profile_of(attributes: Mapping[str, Any]) -> Profile:
    """A profile as plain values: integers, strings, bytes, booleans, and lists and maps of them."""
    return {name: _plain(value) for name, value in attributes.items()}


def _plain(value: Mapping[str, Any]) -> Any:  # noqa: ANN401 - an attribute has one of many types
    ((kind, content),) = value.items()
    match kind:
        case "N":
            return float(content) if "." in content or "E" in content else int(content)
        case "B":
            return binary(content)
        case "M":
            return profile_of(content)
        case "L":
            return [_plain(element) for element in content]
        case "NULL":
            return None
        case _:
            return content


def attributes_of(answer: Answer, field: str = "Attributes") -> Any:  # noqa: ANN401 - rows, or one of them
    """A field of an answer, empty where it has none; of a refused condition, the item that was there."""
    return answer.item if isinstance(answer, Refused) else answer.get(field, {})


def _stored(attributes: Mapping[str, Any]) -> Stored:
    return Stored(binary(attributes["body_identity"]["B"]), attributes["answer"]["S"].encode())
