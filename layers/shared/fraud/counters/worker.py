"""The fold worker: carries closed periods of the counters into the profiles on DynamoDB, at the pace of a queue.

`tick` compares the watermarks of the slices with the clock. It folds a few items by itself; with more, it queues the
slices that have something to fold. `work` folds the slice that one message names, page by page and period by period.

A slice's progress is stored in its watermark, never in a message, and each step is conditioned on the step before.
Therefore messages may come late, twice or not at all, and a worker may end at any point. If two workers are on one
slice, the slower one stops.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any, Protocol

from fraud.aws.dynamodb import batch_read, optional_field, read_all, split_by_call, typed_key
from fraud.aws.failures import pause_s
from fraud.aws.transport import ConditionFailed, Request, Response, Transport, all_or_raise
from fraud.counters import fold
from fraud.counters.codec import (
    StoredRow,
    fold_update,
    history_of,
    item_of,
    profile_of,
    watermark_attribute,
    watermark_update,
    watermarks_of,
)
from fraud.counters.fold import Progress, TickResult, WorkResult
from fraud.counters.layout import KINDS, Item, Key, Slice
from fraud.counters.store import Tables, watermark_request, watermark_rows
from fraud.errors import UnavailableError

INDEX = "fold"
"""Name of the index of the counters table that lists items by period and slice."""

CLOCKS_DIFFER_S = 15 * 60
"""Upper bound of the difference between two functions' clocks, in seconds. Real differences are far smaller."""

PAGE = 50
"""Items folded between two steps of a watermark. After a crash, at most this number is folded again."""

LISTED = 5_000
"""Most items of the index that a tick searches for items to fold. A longer index is not searched."""

FEW = 500
"""Most items that a tick folds by itself."""

RESERVE_MS = 10_000
"""Time in milliseconds that a worker needs to begin a page. With less time left, it queues its slice again."""

ATTEMPTS = 6
"""Most attempts at a fold that another fold overtook, or whose profile a label's transaction was writing to."""

PAUSE_S = 0.02
"""Base in seconds of the random pause before an attempt; its longest length doubles with each attempt.

The second attempt follows the first one without a pause.
"""

READ_OF_ITEM = ", ".join(("pk", "sk", *fold.READ))
"""Projection expression of the items that a fold reads."""

Message = Mapping[str, Any]
"""A message of the fold queue.

`{"letter": ..., "slice": ...}` folds a slice, `{"pk": ..., "sk": ...}` folds one item again.
"""


class Queue(Protocol):
    """The fold queue. Its messages come back to `FoldWorker.work`."""

    def send(self, messages: Sequence[Message]) -> None:
        """Queue the messages.

        Raises ServiceError. Some messages may be queued then; the caller may send all of them again.
        """


class FoldWorker:
    """The worker of the fold.

    Every public method raises UnavailableError when a service does not respond. The caller may then call it again.

    few  most items that a tick folds by itself
    """

    def __init__(
        self, transport: Transport, tables: Tables, queue: Queue, clock: Callable[[], datetime], few: int = FEW
    ) -> None:
        self._transport = transport
        self._tables = tables
        self._queue = queue
        self._clock = clock
        self._few = few

    def tick(self) -> TickResult:
        """Fold closed items if they are few, or queue their slices; move the watermarks of all other slices on.

        A slice without a watermark gets one first. The tick can search the index only while it has at most LISTED
        items. The index lists items for KEEP_DAYS, so this is the case in a young stack, or in one of some fifteen
        payments a day. There an hour costs a few calls instead of a message for every slice. With a longer index, all
        slices that are behind are queued.
        """
        now = self._now()
        watermarks = self._read_watermarks()
        if len(watermarks) < len(fold.SLICES):
            self._begin_slices([part for part in fold.SLICES if part not in watermarks], now)
            watermarks = self._read_watermarks()
        behind = {part: at for part, at in watermarks.items() if at.through < fold.closable(part.sk, now)}
        left, folded = self._fold_few(behind, now)
        self._queue.send([_message(part) for part in sorted(left)])
        lags = (fold.waiting(part.sk, at.through, now) for part, at in behind.items() if part in left)
        return TickResult(max(lags, default=0), len(left), folded)

    def work(self, message: Message, remaining_ms: Callable[[], int]) -> WorkResult:
        """Process one message of the queue: fold a slice, as far as it is closed and time allows, or one item again.

        remaining_ms  milliseconds until the function is stopped, asked before each page
        """
        if "pk" in message:
            self._fold([_key(message["pk"], message["sk"])])
            return WorkResult(1, 0)
        return self._fold_slice(Slice(message["letter"], message["slice"]), remaining_ms)

    def refold(self, key: Key) -> None:
        """Queue an item to be folded again, because a repair changed it.

        An item of an open period is not queued, because its fold is still to come. An item of a pair is not queued,
        because pairs are never folded. The clock of another function may be ahead of this one, so a period that closes
        within CLOCKS_DIFFER_S counts as closed. Folding too early is harmless: the fold writes what the items say.
        """
        if key.slice is not None and key.period <= fold.closable(key.slice.sk, self._now() + CLOCKS_DIFFER_S):
            self._queue.send([{"pk": key.pk, "sk": key.sk}])

    def _now(self) -> int:
        return int(self._clock().timestamp())

    def _read_watermarks(self) -> dict[Slice, Progress]:
        response = self._send(watermark_request(self._tables.profiles, consistent=True))
        return watermarks_of(watermark_rows(self._transport, response))

    def _begin_slices(self, missing: Sequence[Slice], now: int) -> None:
        """Write the first watermark of slices that have none.

        The write is refused when another worker has just done the same. That is as good.
        """
        fresh = self._index_items() == []
        for sk in fold.PERIODS:
            if before := {part: None for part in missing if part.sk == sk}:
                start = Progress(fold.beginning(sk, now, fresh=fresh))
                self._send(self._update(watermark_update(before, start)))

    def _fold_few(self, behind: Mapping[Slice, Progress], now: int) -> tuple[set[Slice], int]:
        """Fold the items of the slices that are behind if they are few; move on every slice with nothing left to fold.

        behind  slices whose watermark is before the latest closed period, with their watermarks
        now     epoch seconds

        Returns the slices that are left to the queue, and the number of items folded.
        """
        listed = self._index_items() if behind else None
        if listed is None:
            return set(behind), 0
        left = {part for part, at in behind.items() if at.reached}  # a worker is in the middle of a period
        keys = [key for key in fold.unfolded(listed, behind, now) if key.slice not in left]
        if len(keys) > self._few:
            left |= {part for key in keys if (part := key.slice) is not None}
            keys = []
        for _, period in groupby(keys, key=lambda key: (key.kind.period, key.period)):
            self._fold(list(period))  # one period at a time, because an entity's hours change the same day
        for sk in fold.PERIODS:
            idle = {part: at for part, at in behind.items() if part.sk == sk and part not in left}
            if idle and isinstance(
                self._send(self._update(watermark_update(idle, Progress(fold.closable(sk, now))))), ConditionFailed
            ):
                left |= idle.keys()  # a worker moved one of them, so the update was refused for all
        return left, len(keys)

    def _index_items(self) -> list[Key] | None:
        """Return every item in the fold's index, or None when it has more than LISTED items."""
        payload = {"TableName": self._tables.counters, "IndexName": INDEX, "Limit": LISTED}
        scan = self._send(Request("scan", payload))
        if optional_field(scan, "LastEvaluatedKey"):
            return None
        return _keys(optional_field(scan, "Items"))

    def _fold_slice(self, part: Slice, remaining_ms: Callable[[], int]) -> WorkResult:
        """Fold a slice page by page, up to the latest closed period.

        It ends early when another worker moved the watermark. It also ends when less than RESERVE_MS is left, and
        queues the slice again then.
        """
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
            response = self._send(self._update(watermark_update({part: progress}, ahead)))
            items += len(keys)
            periods += ahead.through - progress.through
            progress = None if isinstance(response, ConditionFailed) else ahead
        return WorkResult(items, periods)

    def _progress(self, part: Slice) -> Progress | None:
        """Read the watermark of a slice. Return None when it has none."""
        payload = {
            "TableName": self._tables.profiles,
            "Key": typed_key(fold.WATERMARKS[part.sk]),
            "ProjectionExpression": watermark_attribute(part),
            "ConsistentRead": True,
        }
        item = profile_of(optional_field(self._send(Request("get_item", payload)), "Item"))
        return Progress(*item[watermark_attribute(part)]) if item else None

    def _page(self, part: Slice, progress: Progress) -> tuple[list[Key], str]:
        """Return the next items of the period after `progress.through`, and the `pk` of the last one.

        The `pk` is empty when the page ends the period.
        """
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
        response = self._send(Request("query", payload | ({"ExclusiveStartKey": start} if progress.reached else {})))
        last = optional_field(response, "LastEvaluatedKey")
        return _keys(optional_field(response, "Items")), last["pk"]["S"] if last else ""

    def _fold(self, keys: Sequence[Key]) -> None:
        """Fold items into their profiles.

        An item that another fold overtook is read and folded again, and so are all items when an update failed. Raises
        UnavailableError after ATTEMPTS attempts.
        """
        for attempt in range(ATTEMPTS):
            if attempt > 1:  # the second attempt follows without a pause
                time.sleep(pause_s(attempt, PAUSE_S))
            try:
                keys = self._fold_once(keys, consistent=attempt > 0)
            except UnavailableError:  # for one, because a label's transaction is writing to the same profile
                if attempt == ATTEMPTS - 1:
                    raise
            if not keys:
                return
        raise UnavailableError("FoldOvertaken")

    def _fold_once(self, keys: Sequence[Key], *, consistent: bool) -> list[Key]:
        """Try once to fold all items. Return those whose profile another fold changed meanwhile.

        Items are read consistently. A profile may be read without `consistent`, at half the price, because the update
        is conditioned on what was read.
        """
        profiles = self._profiles(keys, consistent=consistent)  # before the items: `fold.folded` requires this order
        histories = {key: history_of(profile.get(key.kind.side)) for key, profile in profiles.items()}
        wanted = {
            key: [key._replace(period=period) for period in fold.sources(key.kind, key.period, history)]
            for key, history in histories.items()
        }
        items = self._items([source for sources in wanted.values() for source in sources])
        changes: dict[Key, Request] = {}
        for key, history in histories.items():
            found = {source.period: items[source] for source in wanted[key] if source in items}
            after = fold.folded(key.kind, key.period, found, history)
            if after != history:
                changes[key] = self._update(fold_update(key, profiles[key], after))
        responses = all_or_raise(self._transport.gather(list(changes.values())))
        return [key for key, response in zip(changes, responses, strict=True) if isinstance(response, ConditionFailed)]

    def _profiles(self, keys: Sequence[Key], *, consistent: bool) -> dict[Key, StoredRow]:
        """Return the stored profile that each item is folded into. It is empty where none exists yet."""
        pks = dict.fromkeys(key.kind.profile_key(key.entity) for key in keys)
        rows = self._read(self._tables.profiles, list(map(typed_key, pks)), ConsistentRead=consistent)
        found = {row["pk"]["S"]: row for row in rows}
        return {key: found.get(key.kind.profile_key(key.entity), {}) for key in keys}

    def _items(self, keys: Sequence[Key]) -> dict[Key, Item]:
        """Return the items that exist, by key."""
        wanted = [typed_key(key.pk, key.sk) for key in keys]
        rows = self._read(self._tables.counters, wanted, ConsistentRead=True, ProjectionExpression=READ_OF_ITEM)
        return {_key(row["pk"]["S"], row["sk"]["S"]): item_of(row) for row in rows}

    def _read(self, table: str, keys: Sequence[Mapping[str, Any]], **how: str | bool) -> list[Mapping[str, Any]]:
        """Return the rows of a table that exist among `keys`, in as many calls as the keys need.

        how  further fields of BatchGetItem for the table
        """
        requests = [batch_read({table: {"Keys": part, **how}}) for part in split_by_call(keys)]
        responses = all_or_raise(self._transport.gather(requests))
        return [row for response in responses for row in read_all(self._transport, response).get(table, ())]

    def _update(self, payload: Mapping[str, Any]) -> Request:
        return Request("update_item", {"TableName": self._tables.profiles, **payload})

    def _send(self, request: Request) -> Response:
        (response,) = all_or_raise(self._transport.gather([request]))
        return response


def _key(pk: str, sk: str) -> Key:
    """Return the key of an item from its stored key.

    >>> _key("merchant#shop", "h492324").period
    492324
    """
    kind, _, entity = pk.partition("#")
    return Key(KINDS[kind], entity, int(sk[1:]))


def _keys(rows: Sequence[Mapping[str, Any]]) -> list[Key]:
    return [_key(row["pk"]["S"], row["sk"]["S"]) for row in rows]


def _message(part: Slice) -> Message:
    """Return the message that asks to fold a slice."""
    return {"letter": part.sk, "slice": part.number}
