"""The hot tables: counters, profiles and decisions, as `evaluation.Store`.

It turns the updates and reads that `counters` names into DynamoDB requests and their answers back into items. One
attempt is one UpdateItem per entity, refused as a whole when the item holds the attempt's mark; a decision is one
PutItem, refused when the id has one. So every call may be repeated.
"""

import contextlib
import functools
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, Protocol

from fraud import counters, fold, shards, windows
from fraud.counters import DAY, PAIR, SCALES, SLOTS, UNSPLIT, Item, Key, Profile, Shards, Slice, State, Update
from fraud.decision import PACKED, Contents, Record, Stored
from fraud.errors import ServiceError, UnavailableError
from fraud.evaluation import Sight
from fraud.fold import Progress
from fraud.past import NOTHING, SIDES, Past
from fraud.transaction import Transaction, utc
from fraud.wire import Answer, Refused, Request, Result, answered, binary

READ_ATTEMPTS = 4
"""How often keys that DynamoDB left unprocessed are asked for again."""

KEYS_PER_READ = 100
"""What BatchGetItem takes."""

DECISION = f"body_identity, {PACKED}"

EARLIER = (
    "pk",
    "sk",
    "d",
    *(f"h{hour}" for hour in range(24)),
    *(f"b{day}" for day in range(PAIR.period // DAY)),
)
"""What is read of every earlier item: hours, slots, and a pair's days."""

Wanted = dict[str, dict[tuple[str, ...], None]]
"""Keys by table, each once."""

Found = Mapping[tuple[str, ...], Mapping[str, Any]]
"""Rows by table and key."""

SHARDS = "shards"
"""Key in the profiles table of the table of shards: an attribute for each entity that is split, or was of late."""

WATERMARKS_LAST = timedelta(minutes=1)
"""How long the fold's watermarks, and the table of shards, are taken for current: watermarks only ever rise, so an old
one errs on the safe side.
"""

SHARDS_LAST = timedelta(hours=6)
"""How long the table of shards is used when it cannot be read: what it says of a payment is written a day ahead."""

BESIDE_S = 3600 // SCALES["s"]
"""How many of the finest buckets are read of a period's other shards, up to the payment's own: all of a merchant's, of
a day's the last hour.
"""


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
        self._shards = UNSPLIT
        self._read_at = datetime.min.replace(tzinfo=UTC)

    def count(self, transactions: Sequence[Transaction], until: float | None = None) -> list[Sight]:
        """Every update and all reads, these in as few BatchGetItem as take their keys, sent together.

        Once in WATERMARKS_LAST the fold's watermarks and the table of shards are read beside them; watermarks that
        cannot be read count as old. Without a table of shards, or with one of hours ago, it is read before: nobody may
        count who does not know where.
        """
        try:
            self._prepare(until)
        except ServiceError as error:
            return [
                self._sight(one, [(update, error) for update in counters.updates(one)], error, {})
                for one in transactions
            ]
        moved = [counters.updates(transaction, self._shards) for transaction in transactions]
        flat = [update for updates in moved for update in updates]
        chunks, places = self._chunks([self._wanted(*each) for each in zip(transactions, moved, strict=True)])
        names = projection(transactions)
        beside = [
            (update, self._beside(update, keys))
            for transaction, updates in zip(transactions, moved, strict=True)
            for update in updates
            if (keys := counters.siblings(update, self._shards))
        ]
        requests = [
            *map(self._update, flat),
            *(self._read(chunk, names) for chunk in chunks),
            *(request for _, request in beside),
        ]
        now = self._clock()
        outdated = not self._read_at <= now < self._read_at + WATERMARKS_LAST
        if outdated:
            requests.append(watermark_request(self._tables.profiles))
        results = self._transport.gather(requests, until)
        if outdated:
            with contextlib.suppress(ServiceError):
                self._renew(results.pop(), now, until)
        counted = iter(results)
        mine = [[(update, next(counted)) for update in updates] for updates in moved]
        found = [self._found(next(counted), until) for _ in chunks]
        others = {update.key: self._found(next(counted), until) for update, _ in beside}
        return [
            self._sight(transaction, updates, _joined([found[n] for n in place]), others, until)
            for transaction, updates, place in zip(transactions, mine, places, strict=True)
        ]

    def count_again(self, transaction: Transaction, kinds: Collection[str]) -> list[Key]:
        """Send the updates of these kinds again, until acknowledged; the items. Raises ServiceError."""
        self._prepare(None)
        moved = [update for update in counters.updates(transaction, self._shards) if update.key.kind.name in kinds]
        answered(self._transport.gather([self._update(update) for update in moved]))
        return [update.key for update in moved]

    def find(self, transaction_id: str, until: float | None = None) -> Stored | None:
        """Read the decision of an id consistently. Raises ServiceError."""
        payload = {
            "TableName": self._tables.decisions,
            "Key": {"pk": {"S": transaction_id}},
            "ProjectionExpression": DECISION,
            "ConsistentRead": True,
        }
        (answer,) = answered(self._transport.gather([Request("get_item", payload)], until))
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

    def commit(self, records: Sequence[Record], until: float | None = None) -> list[Stored | ServiceError | None]:
        """One PutItem for each, sent together."""
        results = self._transport.gather([self._put(record) for record in records], until)
        return [
            result
            if isinstance(result, ServiceError)
            else _stored(result.item)
            if isinstance(result, Refused)
            else None
            for result in results
        ]

    def _update(self, update: Update) -> Request:
        return Request("update_item", {"TableName": self._tables.counters, **expression(update)})

    def _put(self, record: Record) -> Request:
        transaction = record.transaction
        item = {
            "pk": {"S": transaction.transaction_id},
            "body_identity": {"B": transaction.identity},
            PACKED: {"B": Contents.of(record).packed()},
            "outcome": {"S": record.outcome.value},
            "decided_at": {"S": utc(record.decided_at)},
            "features": {"B": record.features},
            "fingerprint": {"S": record.fingerprint},
            "ttl": {"N": str(int(record.decided_at.timestamp()) + self._retention)},
        }
        if record.uncounted:
            item["uncounted"] = {"S": " ".join(record.uncounted)}
        payload = {
            "TableName": self._tables.decisions,
            "Item": item,
            "ConditionExpression": "attribute_not_exists(pk)",
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        return Request("put_item", payload)

    def _wanted(self, transaction: Transaction, moved: Sequence[Update]) -> Wanted:
        """Earlier items, profiles and decision of one payment."""
        return {
            self._tables.counters: {(key.pk, key.sk): None for key in counters.reads(moved, self._shards)},
            self._tables.profiles: {(pk,): None for pk in counters.profiles(transaction).values()},
            self._tables.decisions: {(transaction.transaction_id,): None},
        }

    def _chunks(self, wanted: Iterable[Wanted]) -> tuple[list[Wanted], list[range]]:
        """Keys of several payments put together, as many as one call takes; and in which chunks each payment's are:
        in one, unless it has more than a call takes.
        """
        chunks: list[Wanted] = []
        places = []
        for each in wanted:
            joined = {table: (chunks[-1][table] if chunks else {}) | keys for table, keys in each.items()}
            if chunks and sum(map(len, joined.values())) <= KEYS_PER_READ:
                chunks[-1] = joined
                places.append(range(len(chunks) - 1, len(chunks)))
            else:
                pieces = _pieces(each)
                places.append(range(len(chunks), len(chunks) + len(pieces)))
                chunks += pieces
        return chunks, places

    def _beside(self, update: Update, keys: Sequence[Key], *, whole: bool = False) -> Request:
        """The read of the other shards of what is moved: consistently, as the update's own answer is."""
        how: dict[str, Any] = {
            "Keys": [{"pk": {"S": key.pk}, "sk": {"S": key.sk}} for key in keys],
            "ConsistentRead": True,
        }
        if not whole:
            how["ProjectionExpression"] = projection_beside(update)
        return Request("batch_get_item", {"RequestItems": {self._tables.counters: how}})

    def _read(self, wanted: Wanted, names: str) -> Request:
        """One BatchGetItem; of the counters' items only the attributes named."""
        projections = {self._tables.counters: names, self._tables.decisions: f"pk, {DECISION}"}
        tables = {
            table: {
                "Keys": [{name: {"S": part} for name, part in zip(("pk", "sk"), key, strict=False)} for key in keys],
                **({"ProjectionExpression": projections[table]} if table in projections else {}),
            }
            for table, keys in wanted.items()
            if keys
        }
        return Request("batch_get_item", {"RequestItems": tables})

    def _found(self, result: Result, until: float | None) -> Found | ServiceError:
        """The rows of one BatchGetItem by table and key, or why there are none."""
        try:
            (answer,) = answered([result])
            tables = completed(self._transport, answer, until)
        except ServiceError as error:
            return error
        return {
            (table, *(row[name]["S"] for name in ("pk", "sk") if name in row)): row
            for table, rows in tables.items()
            for row in rows
        }

    def _prepare(self, until: float | None) -> None:
        """Have a table of shards that holds for every payment that may come. Raises ServiceError."""
        now = self._clock()
        if abs(now - self._read_at) >= SHARDS_LAST:
            (result,) = self._transport.gather([watermark_request(self._tables.profiles)], until)
            self._renew(result, now, until)

    def _renew(self, result: Result, now: datetime, until: float | None) -> None:
        """Take over watermarks and shards. Raises ServiceError if they could not be read."""
        (answer,) = answered([result])
        rows = standing(self._transport, answer, until)
        self._watermarks = {part: at.through for part, at in watermarks_of(rows).items()}
        self._shards = shards_of(rows)
        self._read_at = now

    def _sight(
        self,
        transaction: Transaction,
        counted: Sequence[tuple[Update, Result]],
        found: Found | ServiceError,
        beside: Mapping[Key, Found | ServiceError],
        until: float | None = None,
    ) -> Sight:
        """What the answers say of one payment; `beside`, of the other shards of what it moved."""
        failures = [result for _, result in counted if isinstance(result, ServiceError)]
        mine = [(update, attributes_of(result)) for update, result in counted if not isinstance(result, ServiceError)]
        items = [(update.key, item_of(attributes)) for update, attributes in mine]
        profiles: dict[str, Profile] = {}
        decision = None
        if isinstance(found, ServiceError):
            failures.append(found)
        else:
            earlier = counters.reads([update for update, _ in counted], self._shards)
            rows = ((key, found.get((self._tables.counters, key.pk, key.sk))) for key in earlier)
            items += [(key, item_of(row)) for key, row in rows if row]
            for pk in counters.profiles(transaction).values():
                if row := found.get((self._tables.profiles, pk)):
                    profiles[pk] = profile_of(row)
            decision = found.get((self._tables.decisions, transaction.transaction_id))
        state = State(
            counters.merged(items),
            profiles,
            any(isinstance(result, Refused) for _, result in counted),
            fold.stale((update.key for update, _ in counted), self._watermarks),
        )
        for update, attributes in mine if beside else ():
            try:
                self._complete(transaction, update, attributes, state, beside.get(update.key, {}), until)
            except ServiceError as error:
                failures.append(error)
        return Sight(
            state,
            _stored(decision) if decision else None,
            uncounted=tuple(update.key for update, result in counted if isinstance(result, ServiceError)),
            read=not isinstance(found, ServiceError),
            failure=failures[0] if failures else None,
            large=tuple(update.key for update, attributes in mine if size_of(update, attributes) > shards.LARGE),
        )

    def _complete(  # noqa: PLR0913, PLR0917 - what the one step brought, and what it may still take
        self,
        transaction: Transaction,
        update: Update,
        attributes: Mapping[str, Any],
        state: State,
        beside: Found | ServiceError,
        until: float | None,
    ) -> None:
        """Put the other shards to what was moved; in a rare step of its own, where the last hour of a day's fine
        buckets is not enough. Raises ServiceError.
        """
        if isinstance(beside, ServiceError):
            raise beside
        key = update.key.whole

        def put(others: Iterable[Mapping[str, Any]]) -> None:
            state.items.update(counters.merged((key, item_of(row)) for row in (attributes, *others)))

        put(beside.values())
        past = state.profiles.get(f"{key.kind.profile}#{key.entity}", {}).get(key.kind.side, NOTHING)
        if beside and windows.hidden(key, state.items, past, transaction.epoch, _since(update)):
            keys = counters.siblings(update, self._shards)
            request = self._beside(update, keys, whole=True)
            (answer,) = answered(self._transport.gather([request], until))
            put(completed(self._transport, answer, until).get(self._tables.counters, ()))


def _pieces(wanted: Wanted) -> list[Wanted]:
    """One payment's keys in as many calls as they take."""
    keys = [(table, key) for table, keys in wanted.items() for key in keys]
    pieces: list[Wanted] = []
    for start in range(0, len(keys), KEYS_PER_READ):
        piece: Wanted = {table: {} for table in wanted}
        for table, key in keys[start : start + KEYS_PER_READ]:
            piece[table][key] = None
        pieces.append(piece)
    return pieces


def _joined(found: Sequence[Found | ServiceError]) -> Found | ServiceError:
    """All rows of one payment, or the first error among its reads."""
    if len(found) == 1:
        return found[0]
    rows: dict[tuple[str, ...], Mapping[str, Any]] = {}
    for each in found:
        if isinstance(each, ServiceError):
            return each
        rows |= each
    return rows


def completed(transport: Transport, answer: Answer, until: float | None = None) -> dict[str, list[Mapping[str, Any]]]:
    """All items of a BatchGetItem by table, asking again, with growing pauses, for what was left unprocessed.

    Raises UnavailableError when something is left in the end.
    """
    answers = [answer]
    while left := attributes_of(answers[-1], "UnprocessedKeys"):
        if len(answers) > READ_ATTEMPTS:
            raise UnavailableError("UnprocessedKeys")
        time.sleep(0.005 * 2 ** len(answers))
        answers += answered(transport.gather([Request("batch_get_item", {"RequestItems": left})], until))
    found: dict[str, list[Mapping[str, Any]]] = {}
    for part in answers:
        for table, rows in attributes_of(part, "Responses").items():
            found.setdefault(table, []).extend(rows)
    return found


def watermark_request(profiles: str, *, consistent: bool = False) -> Request:
    """The read of all watermarks, one item for each letter, with an attribute for each of its slices; and of the table
    of shards.
    """
    keys = [{"pk": {"S": pk}} for pk in (*fold.WATERMARKS.values(), SHARDS)]
    return Request("batch_get_item", {"RequestItems": {profiles: {"Keys": keys, "ConsistentRead": consistent}}})


def standing(transport: Transport, answer: Answer, until: float | None = None) -> dict[str, Profile]:
    """The items of `watermark_request` by key."""
    return {row["pk"]["S"]: profile_of(row) for table in completed(transport, answer, until).values() for row in table}


def watermarks_of(rows: Mapping[str, Profile]) -> dict[Slice, Progress]:
    """How far each slice is folded. A slice without a watermark is left out."""
    found = {part: rows.get(fold.WATERMARKS[part.sk], {}).get(watermark(part)) for part in fold.SLICES}
    return {part: Progress(*progress) for part, progress in found.items() if progress is not None}


def shards_of(rows: Mapping[str, Profile]) -> Shards:
    """The table of shards; no attribute of an entity lacks a `#`, as `pk` does."""
    steps = rows.get(SHARDS, {}).items()
    return Shards({name: tuple((day, number) for day, number in value) for name, value in steps if "#" in name})


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
        "UpdateExpression": f"SET {', '.join(sets)} ADD {', '.join(adds)}, {update.marks} :marks"
        + (f" REMOVE {', '.join(update.closed)}" if update.closed else ""),
        "ConditionExpression": f"NOT contains({update.marks}, :mark)",
        "ExpressionAttributeNames": names,
        "ExpressionAttributeValues": values,
        "ReturnValues": "ALL_NEW",
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }


def projection(transactions: Iterable[Transaction]) -> str:
    """Attributes of earlier items that `measure` may look at: hours, slots, days, devices, and the fine buckets of
    windows that reach back over the start of a payment's own period.
    """
    names = dict.fromkeys(EARLIER)
    for transaction in transactions:
        if transaction.device_id is not None:
            names[f"e{counters.slot_of(transaction.device_id)}"] = None
        for period in {kind.period for kind, _, _ in counters.sides(transaction) if kind is not PAIR}:
            for scale, length in windows.WINDOWS.values():
                per_item = period // SCALES[scale]
                reach_back = length - 1 - transaction.epoch % period // SCALES[scale]
                names |= dict.fromkeys(f"{scale}{index}" for index in range(per_item - max(reach_back, 0), per_item))
    return ", ".join(names)


def projection_beside(update: Update) -> str:
    """Attributes of the other shards of the payment's own item that `measure` may look at: hours, slots, device, and
    fine buckets up to its own, short of those that `windows.hidden` tells of.
    """
    names = dict.fromkeys(("pk", "sk", "d", *(f"h{hour}" for hour in range(24))))
    if update.device is not None:
        names[f"e{update.device}"] = None
    own = dict(update.buckets)
    names |= dict.fromkeys(f"s{index}" for index in range(_since(update), own["s"] + 1))
    length = dict(windows.WINDOWS.values())["m"]
    names |= dict.fromkeys(f"m{index}" for index in range(max(own["m"] - length + 1, 0), own["m"] + 1))
    return ", ".join(names)


def _since(update: Update) -> int:
    """The first of the finest buckets that are read of the period's other shards."""
    return max(dict(update.buckets)["s"] - BESIDE_S + 1, 0)


def size_of(update: Update, attributes: Mapping[str, Any]) -> float:
    """About how many bytes the item has that an update was answered with."""
    marks, slots = attributes.get(update.marks, {}).get("BS", ()), attributes.get("d", {}).get("NS", ())
    return shards.size(len(marks), len(attributes), len(slots))


def item_of(attributes: Mapping[str, Any]) -> Item:
    """A counters item from DynamoDB's attributes; marks, needed by the condition only, stay behind."""
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
    """Letter and number of a bucket's or a device's attribute; None for pk, sk, ttl, fold, d and marks."""
    letter, number = name[0], name[1:]
    return (letter, int(number)) if (letter in SCALES or letter == "e") and number.isdecimal() else None


def profile_of(attributes: Mapping[str, Any]) -> Profile:
    """A profile as plain values (integers, strings, bytes, booleans, and lists and maps of them), and a Past for each
    side.
    """
    return {
        name: past_of(value) if name in SIDES else _plain(kind, content)
        for name, value in attributes.items()
        for kind, content in value.items()
    }


def past_of(side: Mapping[str, Any] | None) -> Past:
    """What is folded into a side of a profile."""
    return NOTHING if side is None else Past.unpacked(binary(side["B"]))


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


def attributes_of(answer: Answer, field: str = "Attributes") -> Any:  # noqa: ANN401 - rows, or one of them
    """A field of an answer, empty where it has none; of a refused condition, the item that was there."""
    return answer.item if isinstance(answer, Refused) else answer.get(field, {})


def _stored(attributes: Mapping[str, Any]) -> Stored:
    return Stored(binary(attributes["body_identity"]["B"]), opened(attributes).answer)


def opened(row: Mapping[str, Any]) -> Contents:
    """Transaction, counters and answer of a decision's row, as a table or its stream hands it out."""
    return Contents.unpacked(binary(row[PACKED]["B"]))
