"""The fold on DynamoDB, at the pace of a queue.

`tick` compares the slices' watermarks with the clock. It folds what is little by itself; otherwise it queues the slices
that have something to fold. `work` folds the slice of one message, page by page and period by period. A slice's
progress lies in its watermark, never in a message, and each step is conditioned on the one before. So messages may come
late, twice or not at all, a worker may end anywhere, and of two workers on one slice the slower one stops.

The fold sees every closed item, so it also writes the shard table: an entity whose items grew large is split from the
day after tomorrow on.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, Protocol

from fraud.aws.dynamodb import batch_read, optional_field, read_all, split_by_call, typed_key
from fraud.aws.failures import pause_s
from fraud.aws.metrics import log_refusal
from fraud.aws.transport import ConditionFailed, Request, Response, Transport, all_or_raise
from fraud.counters import fold, layout, sharding
from fraud.counters.codec import SHARDS, history_of, item_of, profile_of, shards_of, watermark, watermarks_of
from fraud.counters.fold import Progress, TickResult, WorkResult
from fraud.counters.history import FoldedHistory
from fraud.counters.layout import DAY, KINDS, UNSPLIT, Item, Key, ShardSchedule, Slice
from fraud.counters.metrics import DOOR
from fraud.counters.store import WATERMARKS_LAST, Tables, watermark_request, watermark_rows
from fraud.errors import ServiceError, UnavailableError

INDEX = "fold"

CLOCKS_DIFFER_S = 15 * 60
"""More than clocks of functions are apart, by far."""

PAGE = 50
"""Items folded between two steps of a watermark: at most so many are folded again after a crash."""

LISTED = 5_000
"""Most items of the index that a tick searches for those to fold; a longer index is not searched."""

FEW = 500
"""Most items that a tick folds itself."""

RESERVE_MS = 10_000
"""A worker with less time than this begins no page; it queues its slice again."""

ATTEMPTS = 6
"""How often a fold is tried that another one overtook, or that met a label's transaction on its profile."""

PAUSE_S = 0.02
"""Longest pause after the first attempt; it doubles after each further one. The second attempt follows at once."""

READ_OF_ITEM = ", ".join(("pk", "sk", *fold.READ))

Message = Mapping[str, Any]

Attribute = Mapping[str, Any]
"""A value with its type, as DynamoDB writes it."""

Row = Mapping[str, Attribute]


class Queue(Protocol):
    """The queue whose messages come back to `FoldWorker.work`."""

    def send(self, messages: Sequence[Message]) -> None:
        """Queue the messages. Raises ServiceError; some are queued then, and all may be sent again."""


class FoldWorker:
    """The fold. Every method raises UnavailableError when a service does not answer, and may then be called again."""

    def __init__(
        self, transport: Transport, tables: Tables, queue: Queue, clock: Callable[[], datetime], few: int = FEW
    ) -> None:
        self._transport = transport
        self._tables = tables
        self._queue = queue
        self._clock = clock
        self._few = few
        self._shards = UNSPLIT
        self._shards_read_at = datetime.min.replace(tzinfo=UTC)

    def tick(self) -> TickResult:
        """Fold what is closed and little; queue the slices that have more, and move all others on together.

        A tick sees what there is to fold while the index has at most LISTED items. The index lists items for KEEP_DAYS,
        so that covers a young stack, or one of some fifteen payments a day: there an hour costs a few calls instead of
        a message for every slice. With a longer index all slices that are behind are queued. A slice without a
        watermark gets one first.
        """
        now = self._now()
        watermarks = self._standing()
        if len(watermarks) < len(fold.SLICES):
            self._begin([part for part in fold.SLICES if part not in watermarks], now)
            watermarks = self._standing()
        behind = {part: at for part, at in watermarks.items() if at.through < fold.closable(part.sk, now)}
        left, folded = self._little(behind, now)
        self._queue.send([_message(part) for part in sorted(left)])
        self._split(
            dict.fromkeys(self._shards.steps, 1)
        )  # removes schedules that have run out; last, because nothing waits for it
        lags = (fold.waiting(part.sk, at.through, now) for part, at in behind.items() if part in left)
        return TickResult(max(lags, default=0), len(left), folded)

    def work(self, message: Message, remaining_ms: Callable[[], int]) -> WorkResult:
        """Do what a message says: fold a slice as far as it is closed and time allows, fold one item again, or split an
        entity that an operator expects to grow.

        Raises InvalidRequestError for a wrong request to split.
        """
        if not self._shards_read_at <= self._clock() < self._shards_read_at + WATERMARKS_LAST:
            self._look(consistent=False)
        if "split" in message:
            name, number = sharding.ordered(message)
            self._split({name: number})
            return WorkResult(0, 0)
        if "pk" in message:
            self._fold([_key(message["pk"], message["sk"])])
            return WorkResult(1, 0)
        return self._fold_slice(Slice(message["letter"], message["slice"]), remaining_ms)

    def refold(self, key: Key) -> None:
        """Queue an item to be folded again after its repair, unless its fold is still to come or never comes.

        Other clocks may be ahead of this one. Folding too early is harmless: the fold writes what the items say.
        """
        if key.slice is not None and key.period <= fold.closable(key.slice.sk, self._now() + CLOCKS_DIFFER_S):
            self._queue.send([{"pk": key.pk, "sk": key.sk}])

    def _now(self) -> int:
        return int(self._clock().timestamp())

    def _standing(self) -> dict[Slice, Progress]:
        """Read the watermarks and the shard table; return the watermarks."""
        now = self._clock()
        answer = self._one(watermark_request(self._tables.profiles, consistent=True))
        rows = watermark_rows(self._transport, answer)
        self._shards, self._shards_read_at = shards_of(rows), now
        return watermarks_of(rows)

    def _look(self, *, consistent: bool) -> None:
        """Read the shard table alone."""
        now = self._clock()
        payload = {"TableName": self._tables.profiles, "Key": typed_key(SHARDS), "ConsistentRead": consistent}
        item = profile_of(optional_field(self._one(Request("get_item", payload)), "Item"))
        self._shards, self._shards_read_at = shards_of({SHARDS: item}), now

    def _split(self, wanted: Mapping[str, int]) -> None:
        """Split entities into at least so many shards, from the day after tomorrow on.

        An entry that another worker changed meanwhile is read again. Raises ServiceError; its code is `ShardsFull` when
        the table has no room for an entity.
        """
        for _ in range(ATTEMPTS):
            known, today = self._shards.steps, self._now() // DAY
            room = max(sharding.MOST_ENTITIES - len(known), 0)
            listed = [name for name in wanted if name in known] + [name for name in wanted if name not in known][:room]
            after = {name: sharding.extended(known.get(name, ()), today, wanted[name]) for name in listed}
            changes = {name: steps for name, steps in after.items() if steps != known.get(name, ())}
            if not changes:
                break
            requests = [self._update(shard_update(name, known.get(name, ()), steps)) for name, steps in changes.items()]
            answers = all_or_raise(self._transport.gather(requests))
            self._look(consistent=True)
            if not any(isinstance(answer, ConditionFailed) for answer in answers):
                break
        else:
            raise UnavailableError("ShardsOvertaken")
        if len(listed) < len(wanted):
            raise ServiceError("ShardsFull")

    def _begin(self, missing: Sequence[Slice], now: int) -> None:
        """Give slices their first watermark. It is refused when another worker just did, which is as good."""
        fresh = self._listed() == []
        for sk in fold.PERIODS:
            if before := {part: None for part in missing if part.sk == sk}:
                start = Progress(fold.beginning(sk, now, fresh=fresh))
                self._one(self._update(watermark_update(before, start)))

    def _little(self, behind: Mapping[Slice, Progress], now: int) -> tuple[set[Slice], int]:
        """Fold the items of the slices `behind` if they are few, and move on every slice that has nothing left to fold.

        Return the slices that are left to the queue, and how many items were folded.
        """
        listed = self._listed() if behind else None
        if listed is None:
            return set(behind), 0
        left = {part for part, at in behind.items() if at.reached}  # a worker is amid a period
        keys = [key for key in fold.unfolded(listed, behind, now) if key.slice not in left]
        if len(keys) > self._few:
            left |= {part for key in keys if (part := key.slice) is not None}
            keys = []
        for _, period in groupby(keys, key=lambda key: (key.kind.period, key.period)):
            self._fold(list(period))  # an entity's hours one after another: they share its day
        for sk in fold.PERIODS:
            idle = {part: at for part, at in behind.items() if part.sk == sk and part not in left}
            if idle and isinstance(
                self._one(self._update(watermark_update(idle, Progress(fold.closable(sk, now))))), ConditionFailed
            ):
                left |= idle.keys()  # a worker is on one of them
        return left, len(keys)

    def _listed(self) -> list[Key] | None:
        """Return every item in the fold's index; None when there are more than LISTED."""
        payload = {"TableName": self._tables.counters, "IndexName": INDEX, "Limit": LISTED}
        scan = self._one(Request("scan", payload))
        if optional_field(scan, "LastEvaluatedKey"):
            return None
        return _periods(optional_field(scan, "Items"))

    def _fold_slice(self, part: Slice, remaining_ms: Callable[[], int]) -> WorkResult:
        closable = fold.closable(part.sk, self._now())
        progress = self._progress(part)
        items = periods = 0
        while progress is not None and progress.through < closable:
            if remaining_ms() < RESERVE_MS:
                self._queue.send([_message(part)])
                break
            keys, reached = self._page(part, progress)
            self._fold(keys)
            ahead = Progress(progress.through, reached) if reached else Progress(progress.through + 1)
            answer = self._one(self._update(watermark_update({part: progress}, ahead)))
            items += len(keys)
            periods += ahead.through - progress.through
            progress = None if isinstance(answer, ConditionFailed) else ahead
        return WorkResult(items, periods)

    def _progress(self, part: Slice) -> Progress | None:
        payload = {
            "TableName": self._tables.profiles,
            "Key": typed_key(fold.WATERMARKS[part.sk]),
            "ProjectionExpression": watermark(part),
            "ConsistentRead": True,
        }
        item = profile_of(optional_field(self._one(Request("get_item", payload)), "Item"))
        return Progress(*item[watermark(part)]) if item else None

    def _page(self, part: Slice, progress: Progress) -> tuple[list[Key], str]:
        """Return the next items of the period after `progress`, and the `pk` reached; empty at the period's end."""
        index_key = {"S": part.key(progress.through + 1)}
        start = {"pk": {"S": progress.reached}, "sk": {"S": f"{part.sk}{progress.through + 1}"}, "fold": index_key}
        payload = {
            "TableName": self._tables.counters,
            "IndexName": INDEX,
            "KeyConditionExpression": "#fold = :fold",
            "ExpressionAttributeNames": {"#fold": "fold"},
            "ExpressionAttributeValues": {":fold": index_key},
            "Limit": PAGE,
        }
        answer = self._one(Request("query", payload | ({"ExclusiveStartKey": start} if progress.reached else {})))
        last = optional_field(answer, "LastEvaluatedKey")
        return _periods(optional_field(answer, "Items")), last["pk"]["S"] if last else ""

    def _fold(self, keys: Sequence[Key]) -> None:
        """Fold items into their profiles. An item that another fold overtook, or whose update failed, is read again."""
        for attempt in range(ATTEMPTS):
            if attempt > 1:  # once at once
                time.sleep(pause_s(attempt, PAUSE_S))
            try:
                keys = self._overtaken(keys, consistent=attempt > 0)
            except UnavailableError:  # a label's transaction is writing to the same profile
                if attempt == ATTEMPTS - 1:
                    raise
            if not keys:
                return
        raise UnavailableError("FoldOvertaken")

    def _overtaken(self, keys: Sequence[Key], *, consistent: bool) -> list[Key]:
        """Fold each item once, all together. Return the items whose profile another fold changed meanwhile.

        A profile may be read at half the price, because the update is conditioned on what was read. Items are read
        consistently.
        """
        profiles = self._profiles(keys, consistent=consistent)  # before the items, as `folded` wants it
        histories = {key: history_of(profile.get(key.kind.side)) for key, profile in profiles.items()}
        wanted = {
            key: [key._replace(period=period) for period in fold.sources(key.kind, key.period, history)]
            for key, history in histories.items()
        }
        items = self._items([source for sources in wanted.values() for source in sources])
        changes: dict[Key, Request] = {}
        grown: dict[str, int] = {}
        for key, history in histories.items():
            found = {source.period: items[source] for source in wanted[key] if source in items}
            after = fold.folded(key.kind, key.period, found, history)
            if after != history:
                changes[key] = self._update(fold_update(key, profiles[key], after))
            if key in items and (number := sharding.wanted(items[key])) > 1:
                name = key.kind.key(key.entity)
                grown[name] = max(number, grown.get(name, 1))
        answers = all_or_raise(self._transport.gather(list(changes.values())))
        try:
            self._split(grown)
        except ServiceError as error:  # the fold goes on: tomorrow's item will have grown too
            log_refusal(error, DOOR)
        return [key for key, answer in zip(changes, answers, strict=True) if isinstance(answer, ConditionFailed)]

    def _profiles(self, keys: Sequence[Key], *, consistent: bool) -> dict[Key, Row]:
        """Return the stored profile that each item is folded into; empty where there is none yet."""
        pks = dict.fromkeys(key.kind.profile_key(key.entity) for key in keys)
        rows = self._read(self._tables.profiles, list(map(typed_key, pks)), ConsistentRead=consistent)
        found = {row["pk"]["S"]: row for row in rows}
        return {key: found.get(key.kind.profile_key(key.entity), {}) for key in keys}

    def _items(self, keys: Sequence[Key]) -> dict[Key, Item]:
        """Return the periods that exist, each with all its shards put together."""
        by_key = {(key.pk, key.sk): key for period in keys for key in period.split(self._shards)}
        wanted = [typed_key(*each) for each in by_key]
        rows = self._read(self._tables.counters, wanted, ConsistentRead=True, ProjectionExpression=READ_OF_ITEM)
        return layout.merged((by_key[row["pk"]["S"], row["sk"]["S"]], item_of(row)) for row in rows)

    def _read(self, table: str, keys: Sequence[Mapping[str, Any]], **how: str | bool) -> list[Mapping[str, Any]]:
        """Return the rows that exist of a table, in as many calls as their keys need."""
        requests = [batch_read({table: {"Keys": part, **how}}) for part in split_by_call(keys)]
        answers = all_or_raise(self._transport.gather(requests))
        return [row for answer in answers for row in read_all(self._transport, answer).get(table, ())]

    def _update(self, payload: Mapping[str, Any]) -> Request:
        return Request("update_item", {"TableName": self._tables.profiles, **payload})

    def _one(self, request: Request) -> Response:
        (answer,) = all_or_raise(self._transport.gather([request]))
        return answer


def fold_update(key: Key, profile: Row, after: FoldedHistory) -> dict[str, Any]:
    """Build the one UpdateItem of a fold. It is refused when the side is no longer as it was read.

    It also removes fraud buckets that no window reaches any more.
    """
    side, outlived = key.kind.side, fold.outlived(profile, key.day)
    before = profile.get(side)
    values: dict[str, Attribute] = {":after": {"B": after.packed()}}
    condition = f"attribute_not_exists({side})"
    if before is not None:
        condition = f"{side} = :before"
        values[":before"] = before  # byte for byte: packed again it may differ, by another version of zlib
    return {
        "Key": typed_key(key.kind.profile_key(key.entity)),
        "UpdateExpression": f"SET {side} = :after" + (f" REMOVE {', '.join(outlived)}" if outlived else ""),
        "ConditionExpression": condition,
        "ExpressionAttributeValues": values,
    }


def watermark_update(before: Mapping[Slice, Progress | None], after: Progress) -> dict[str, Any]:
    """Build the one UpdateItem that moves the watermarks of slices of one letter to the same place.

    before  the watermarks as they were read; None: there was none. The update is refused as a whole when one of them is
            no longer there
    """
    (sk,) = {part.sk for part in before}
    names = {watermark(part): progress for part, progress in before.items()}
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
    """Build the one UpdateItem that changes an entity's schedule in the shard table.

    It is refused when the schedule is not what was read (`before`). An empty schedule is no attribute.
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
    match value:
        case int():
            return {"N": str(value)}
        case Progress(through, reached):
            return {"L": [{"N": str(through)}, {"S": reached}]}
        case _:
            return {"L": [{"L": [_typed(day), _typed(number)]} for day, number in value]}


def _key(pk: str, sk: str) -> Key:
    """Read the period that an item belongs to, from the keys of any of its shards."""
    kind, entity, *_ = pk.split("#")
    return Key(KINDS[kind], entity, int(sk[1:]))


def _periods(rows: Sequence[Mapping[str, Any]]) -> list[Key]:
    """Return the periods of items in the index, each once."""
    return list(dict.fromkeys(_key(row["pk"]["S"], row["sk"]["S"]) for row in rows))


def _message(part: Slice) -> Message:
    return {"letter": part.sk, "slice": part.number}
