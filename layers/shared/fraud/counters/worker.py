"""The fold carried out on DynamoDB, at the pace of a queue.

`tick` holds the slices' watermarks against the clock. While there is little to fold it does so itself, else it queues
the slices that have something; `work` folds the slice of one message, page by page and period by period. How far a
slice has come lies in its watermark, never in a message, and each step is conditioned on the one before: messages may
come late, twice or not at all, a worker may end anywhere, and of two on one slice the slower stops.

Whoever folds sees every closed item, so the fold also writes the table of shards: an entity whose items grew large is
split from the day after tomorrow on.
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
from fraud.counters.fold import Done, Due, Progress
from fraud.counters.history import FoldedHistory
from fraud.counters.layout import DAY, KINDS, UNSPLIT, Item, Key, ShardSchedule, Slice
from fraud.counters.metrics import DOOR
from fraud.counters.store import WATERMARKS_LAST, Tables, watermark_request, watermark_rows
from fraud.errors import ServiceError, UnavailableError

INDEX = "fold"

CLOCKS_DIFFER_S = 15 * 60
"""More than clocks of functions are apart, by far."""

PAGE = 50
"""Items folded between two steps of a watermark: what is repeated after a crash, at most."""

LISTED = 5_000
"""Items that a tick looks through to find those to fold; an index that lists more is not searched."""

FEW = 500
"""Items that a tick folds itself."""

RESERVE_MS = 10_000
"""A worker with less time than this begins no page; it queues its slice again."""

ATTEMPTS = 6
"""How often a fold that was overtaken, or met a label's transaction on its profile, reads again."""

PAUSE_S = 0.02
"""Longest pause before the third reading, but for the doubling that each attempt brings."""

READ_OF_ITEM = ", ".join(("pk", "sk", *fold.READ))

Message = Mapping[str, Any]

Attribute = Mapping[str, Any]
"""A value with its type, as DynamoDB writes it."""

Row = Mapping[str, Attribute]


class Queue(Protocol):
    """The queue whose messages come back to `Folding.work`."""

    def send(self, messages: Sequence[Message]) -> None:
        """Queue the messages. Raises ServiceError; some are queued then, and all may be sent again."""


class Folding:
    """Every method raises UnavailableError when it must, and may then be called again."""

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

    def tick(self) -> Due:
        """Fold what is closed and little; queue the slices that have more, and move all others on together.

        What there is to fold is seen while the whole index fits LISTED items. It lists them for KEEP_DAYS, so that
        covers a young stack, or one of some fifteen payments a day: there an hour costs a few calls instead of a
        message for every slice. Beyond, all that are behind are queued. A slice without a watermark is given one first.
        """
        now = self._now()
        watermarks = self._standing()
        if len(watermarks) < len(fold.SLICES):
            self._begin([part for part in fold.SLICES if part not in watermarks], now)
            watermarks = self._standing()
        behind = {part: at for part, at in watermarks.items() if at.through < fold.closable(part.sk, now)}
        left, folded = self._little(behind, now)
        self._queue.send([_message(part) for part in sorted(left)])
        self._split(dict.fromkeys(self._shards.steps, 1))  # what has run out goes; last, for nothing waits for it
        lags = (fold.waiting(part.sk, at.through, now) for part, at in behind.items() if part in left)
        return Due(max(lags, default=0), len(left), folded)

    def work(self, message: Message, remaining_ms: Callable[[], int]) -> Done:
        """Do what a message says: fold a slice as far as it is closed and time allows, or one item again; or split an
        entity that somebody knows to grow. Raises InvalidRequestError when that is no order.
        """
        if not self._shards_read_at <= self._clock() < self._shards_read_at + WATERMARKS_LAST:
            self._look(consistent=False)
        if "split" in message:
            name, number = sharding.ordered(message)
            self._split({name: number})
            return Done(0, 0)
        if "pk" in message:
            self._fold([_key(message["pk"], message["sk"])])
            return Done(1, 0)
        return self._fold_slice(Slice(message["letter"], message["slice"]), remaining_ms)

    def refold(self, key: Key) -> None:
        """Have an item folded again after its repair; nothing to do if its fold is still to come, or never comes.

        Other clocks may be ahead of this one, and folding too early is harmless: the fold writes what the items say.
        """
        if key.slice is not None and key.period <= fold.closable(key.slice.sk, self._now() + CLOCKS_DIFFER_S):
            self._queue.send([{"pk": key.pk, "sk": key.sk}])

    def _now(self) -> int:
        return int(self._clock().timestamp())

    def _standing(self) -> dict[Slice, Progress]:
        """Read the watermarks, and the table of shards."""
        now = self._clock()
        answer = self._one(watermark_request(self._tables.profiles, consistent=True))
        rows = watermark_rows(self._transport, answer)
        self._shards, self._shards_read_at = shards_of(rows), now
        return watermarks_of(rows)

    def _look(self, *, consistent: bool) -> None:
        """Read the table of shards alone."""
        now = self._clock()
        payload = {"TableName": self._tables.profiles, "Key": typed_key(SHARDS), "ConsistentRead": consistent}
        item = profile_of(optional_field(self._one(Request("get_item", payload)), "Item"))
        self._shards, self._shards_read_at = shards_of({SHARDS: item}), now

    def _split(self, wanted: Mapping[str, int]) -> None:
        """Have entities split at least into so many, from the day after tomorrow on. One whose entry somebody else
        changed meanwhile is read again. Raises ServiceError, `ShardsFull` when some found no room any more.
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
        """Give slices their first watermark; refused, which is as good, when somebody else just did."""
        fresh = self._listed() == []
        for sk in fold.PERIODS:
            if before := {part: None for part in missing if part.sk == sk}:
                start = Progress(fold.beginning(sk, now, fresh=fresh))
                self._one(self._update(watermark_update(before, start)))

    def _little(self, behind: Mapping[Slice, Progress], now: int) -> tuple[set[Slice], int]:
        """Fold the items of the slices `behind` if they are few, and move every slice that then has nothing to fold.

        Returns the slices that are left to the queue, and how many items were folded.
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
        """Every item in the index of the fold; None when there are too many to look at."""
        payload = {"TableName": self._tables.counters, "IndexName": INDEX, "Limit": LISTED}
        scan = self._one(Request("scan", payload))
        if optional_field(scan, "LastEvaluatedKey"):
            return None
        return _periods(optional_field(scan, "Items"))

    def _fold_slice(self, part: Slice, remaining_ms: Callable[[], int]) -> Done:
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
        return Done(items, periods)

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
        """The next items of the period after `progress`, and the `pk` reached; empty at the period's end."""
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
        """Fold items into their profiles. One that was overtaken by another fold, or refused, is read again."""
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
        """Fold each item once, all together; returns those whose profile somebody else folded into meanwhile.

        A profile may be read at half the price, for what was read is the condition; items are read consistently.
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
        except ServiceError as error:  # no fold stands still for that: tomorrow's item will have grown too
            log_refusal(error, DOOR)
        return [key for key, answer in zip(changes, answers, strict=True) if isinstance(answer, ConditionFailed)]

    def _profiles(self, keys: Sequence[Key], *, consistent: bool) -> dict[Key, Row]:
        """The profile that each item is folded into, as it is stored; empty where there is none yet."""
        pks = dict.fromkeys(key.kind.profile_key(key.entity) for key in keys)
        rows = self._read(self._tables.profiles, list(map(typed_key, pks)), ConsistentRead=consistent)
        found = {row["pk"]["S"]: row for row in rows}
        return {key: found.get(key.kind.profile_key(key.entity), {}) for key in keys}

    def _items(self, keys: Sequence[Key]) -> dict[Key, Item]:
        """The periods that there are, each with all its shards."""
        by_key = {(key.pk, key.sk): key for period in keys for key in period.split(self._shards)}
        wanted = [typed_key(*each) for each in by_key]
        rows = self._read(self._tables.counters, wanted, ConsistentRead=True, ProjectionExpression=READ_OF_ITEM)
        return layout.merged((by_key[row["pk"]["S"], row["sk"]["S"]], item_of(row)) for row in rows)

    def _read(self, table: str, keys: Sequence[Mapping[str, Any]], **how: str | bool) -> list[Mapping[str, Any]]:
        """The rows of a table that there are, in as many calls as it takes."""
        requests = [batch_read({table: {"Keys": part, **how}}) for part in split_by_call(keys)]
        answers = all_or_raise(self._transport.gather(requests))
        return [row for answer in answers for row in read_all(self._transport, answer).get(table, ())]

    def _update(self, payload: Mapping[str, Any]) -> Request:
        return Request("update_item", {"TableName": self._tables.profiles, **payload})

    def _one(self, request: Request) -> Response:
        (answer,) = all_or_raise(self._transport.gather([request]))
        return answer


def fold_update(key: Key, profile: Row, after: FoldedHistory) -> dict[str, Any]:
    """The one UpdateItem of a fold, refused when the side is no longer as it was read; what has outlived its windows in
    the profile goes by the way.
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
    """The one UpdateItem that moves the watermarks of slices of one letter to the same place.

    Refused as a whole when one of them is not where it was read; None: there was none.
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
    """The one UpdateItem that changes the steps of an entity in the table of shards, refused when they are not what
    was read; none: no attribute.
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
    """The period that an item belongs to, whichever shard of it."""
    kind, entity, *_ = pk.split("#")
    return Key(KINDS[kind], entity, int(sk[1:]))


def _periods(rows: Sequence[Mapping[str, Any]]) -> list[Key]:
    """The periods of items in the index, each once."""
    return list(dict.fromkeys(_key(row["pk"]["S"], row["sk"]["S"]) for row in rows))


def _message(part: Slice) -> Message:
    return {"letter": part.sk, "slice": part.number}
