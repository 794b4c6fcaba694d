"""Counting on DynamoDB: what an environment knows of its stack, and the steps in which an attempt is counted.

`Attempt` is one update on its way through at most STEPS steps, `settle` takes many attempts through them together.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from fraud.aws.dynamodb import batch_read, malformed_as_unavailable, optional_field, read_all, required_field, typed_key
from fraud.aws.transport import ConditionFailed, Request, Response, Result, Transport, all_or_raise
from fraud.counters import fold, sampling
from fraud.counters.codec import (
    KEYS,
    StoredRow,
    attempt_update,
    beginning_update,
    item_of,
    keys_of,
    keys_row,
    profile_of,
    snapshot_of,
    watermarks_of,
)
from fraud.counters.keys import DECLARED, Keys
from fraud.counters.layout import CLOSED, MARKS, MODELS, NETWORKS, Item, Key, Kind, Profile, Slice, Update
from fraud.errors import ServiceError, UnavailableError

WATERMARKS_LAST = timedelta(minutes=1)
"""Time for which watermarks, keys, denied networks and both pointers are used before they are read again.
Watermarks only ever rise, so an old watermark errs on the safe side.
"""

MARKS_LAST = 2 * WATERMARKS_LAST
"""How long the snapshot of marks is believed that was in force at the last read. Later on its side may be overwritten.
"""

KEYS_LAST = timedelta(hours=6)
"""How long keys that cannot be read again are still used. A rotation is written a day ahead."""

STEPS = 3
"""Most steps in which an attempt is counted: more than one only when an item has another level than was presumed."""

MOST_LEVELS = 1_000
"""Most levels of items that an environment remembers."""


class Tables(NamedTuple):
    """Names of the hot tables: the tables that a decision reads and writes."""

    counters: str
    profiles: str
    decisions: str


def watermark_request(profiles: str, *, consistent: bool = False) -> Request:
    """Build the request that reads all watermarks, the stack's keys, the denied networks and both pointers.

    The watermarks are one item for each letter, with one attribute for each slice. The keys, the networks, the pointer
    to the models and that to the marks are one item each.

    profiles  name of the profiles table

    >>> keys = watermark_request("profiles").payload["RequestItems"]["profiles"]["Keys"]
    >>> [key["pk"]["S"] for key in keys]
    ['fold#d', 'fold#h', 'keys', 'networks', 'models', 'marks']
    """
    keys = [typed_key(pk) for pk in (*fold.WATERMARKS.values(), KEYS, NETWORKS, MODELS, MARKS)]
    return batch_read({profiles: {"Keys": keys, "ConsistentRead": consistent}})


def watermark_rows(transport: Transport, response: Response, until: float | None = None) -> dict[str, Profile]:
    """Return the items that `watermark_request` asked for, by key. Missing items are left out.

    until  reading of `time.monotonic` beyond which no pause before unprocessed keys may last; None: no such limit

    Raises UnavailableError for a malformed response.
    """
    tables = read_all(transport, response, until)
    with malformed_as_unavailable():
        return {row["pk"]["S"]: profile_of(row) for table in tables.values() for row in table}


class StackState:
    """The stack as an environment knows it: keys, how far each slice is folded, denied networks, models and marks.

    networks    the end of each denied network by its name: the item as it was read
    pointer     the registry's pointer to the models: the item as it was read, a new object after each read
    snapshot    number of the snapshot of marks that a payment believes; 0: none, or it was read too long ago
    first_keys  draws the keys of a stack that has none. DECLARED keys are accepted only where it returns them
    """

    def __init__(self, transport: Transport, profiles: str, first_keys: Callable[[], Keys]) -> None:
        self.keys = DECLARED
        self.folded_through: dict[Slice, int] = {}
        self.networks: Profile = {}
        self.pointer: Profile = {}
        self.snapshot = 0
        self._transport = transport
        self._profiles = profiles
        self._first_keys = first_keys
        self._read_at = datetime.min.replace(tzinfo=UTC)

    def prepare(self, now: datetime, until: float | None = None) -> None:
        """Load the stack's state if it is missing or older than KEYS_LAST. Raises ServiceError.

        Counting with other keys than the rest of the stack could count an attempt twice.
        """
        if abs(now - self._read_at) >= KEYS_LAST:
            (result,) = self._transport.gather([watermark_request(self._profiles)], until)
            self.renew(result, now, until)

    def renewal(self, now: datetime) -> list[Request]:
        """Return the request that reads all again, if it is due. A new stack lacks watermarks until its first tick."""
        complete = len(self.folded_through) == len(fold.SLICES)
        if not self._read_at <= now < self._read_at + MARKS_LAST:
            self.snapshot = 0
        fresh = complete and self._read_at <= now < self._read_at + WATERMARKS_LAST
        return [] if fresh else [watermark_request(self._profiles)]

    def renew(self, result: Result, now: datetime, until: float | None) -> None:
        """Take over what was read. Raises ServiceError when it could not be read, `DeclaredKeys` for keys of a test."""
        (answer,) = all_or_raise([result])
        rows = watermark_rows(self._transport, answer, until)
        with malformed_as_unavailable():
            keys = keys_of(rows[KEYS]) if KEYS in rows else self._made(until)
            watermarks = watermarks_of(rows)
        if not DECLARED.secrets.isdisjoint(keys.secrets) and self._first_keys() != DECLARED:
            raise ServiceError("DeclaredKeys")
        self.keys = keys
        self.networks = rows.get(NETWORKS, {})
        self.pointer = rows.get(MODELS, {})
        self.snapshot = snapshot_of(rows.get(MARKS, {}))
        self.folded_through = {part: at.through for part, at in watermarks.items()}
        self._read_at = now

    def _made(self, until: float | None) -> Keys:
        """Store the stack's keys, and return them, or those of the environment that was faster.

        They are first keys, or the keys in use when the item was lost, for example in a table that was restored.
        """
        keys = self.keys if self._read_at.year > 1 else self._first_keys()
        payload = {
            "TableName": self._profiles,
            "Item": keys_row(keys),
            "ConditionExpression": "attribute_not_exists(pk)",
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        (response,) = all_or_raise(self._transport.gather([Request("put_item", payload)], until))
        return keys_of(profile_of(response.item)) if isinstance(response, ConditionFailed) else keys


class Levels:
    """The levels of sampled items that an environment has met lately, from which it presumes the level of an item.

    An answer about the item always counts more: an item may have been restored from a backup.
    """

    def __init__(self) -> None:
        self._met: OrderedDict[tuple[Kind, str], tuple[int, int]] = OrderedDict()

    def presumed(self, key: Key) -> int:
        """Return the level that an item is presumed to have, 0 when nothing is known of it."""
        period, level = self._met.get(key[:2], (key.period, 0))
        if period == key.period:
            return level
        return sampling.start_level(key.kind, level) if period == key.period - 1 else 0

    def attempt(self, update: Update) -> "Attempt":
        """Begin an attempt at the level that its item is presumed to have."""
        period, _ = self._met.get(update.key[:2], (update.key.period, 0))
        return Attempt(update, self.presumed(update.key), met=period == update.key.period)

    def learn(self, key: Key, level: int) -> None:
        """Remember the level of an item, unless a later period of its entity is known. Level 0 needs no memory."""
        entity = key[:2]
        if entity in self._met and self._met[entity][0] <= key.period:
            del self._met[entity]
        if level and entity not in self._met:
            self._met[entity] = key.period, level
        if len(self._met) > MOST_LEVELS:
            self._met.popitem(last=False)


class Attempt:
    """One update on its way: it is sent, and perhaps sent again, until it is known whether it was counted.

    item       the item as the last response showed it; None: it was never seen
    level      level at which it is sent
    counted    this attempt was counted by this request
    recounted  it had been counted before
    error      why it is not known whether it was counted
    settled    nothing is left to be sent

    An attempt that is neither counted nor recounted and has no error is outside the item's sample.
    """

    def __init__(self, update: Update, level: int, *, met: bool = True) -> None:
        """Begin an attempt.

        met  the level is that of this very item. An item that was not met is begun by the first request, even if the
             attempt is outside. If it looked first, another environment could begin the item at a lower level
             meanwhile, and the attempt would be counted there: a bias
        """
        self.update = update
        self.level = level
        self.item: Item | None = None
        self.counted = self.recounted = self.settled = False
        self.error: ServiceError | None = None
        outside = Attempt._look if met else Attempt._begin
        # The function, not the bound method: in a cycle, the item would stay in memory until garbage is collected.
        self._send = outside if update.leave < level else Attempt._count

    def request(self, table: str) -> Request:
        """Return the next request. `table`: name of the counters table."""
        operation, payload = self._send(self)
        return Request(operation, {"TableName": table, **payload})

    def take(self, result: Result) -> None:
        """Take the response to the last request."""
        try:
            if isinstance(result, ServiceError):
                raise result
            with malformed_as_unavailable():
                self._take(result)
        except ServiceError as error:
            # The write may pass while the item can still be read: the payment is then decided with its counters.
            self.settled = self.error is not None or self._send is Attempt._look
            self.error, self._send = self.error or error, Attempt._look

    def give_up(self) -> None:
        """End the attempt after the last step. The item's level rose again and again; a repair will count it."""
        self.settled, self.error = True, self.error or UnavailableError("LevelRising")

    @property
    def revocable(self) -> tuple[Update, int] | None:
        """The update and the level at which it can be taken back; None when there is nothing to take back.

        An attempt that was counted earlier can be taken back at level 0 only: at any other, its weight is not known.
        """
        if self.counted:
            return self.update, self.level
        return (self.update, 0) if self.recounted and self.item is not None and not self.item.level else None

    def seen(self) -> Item | None:
        """Return the item as the payment sees it (`sampling.seen`), or None when it could not be read."""
        if self.item is None:
            return None
        return sampling.seen(self.update, self.item, counted=self.counted, recounted=self.recounted)

    def _count(self) -> tuple[str, StoredRow]:
        return "update_item", attempt_update(self.update, self.level)

    def _begin(self) -> tuple[str, StoredRow]:
        return "update_item", beginning_update(self.update, self.level)

    def _look(self) -> tuple[str, StoredRow]:
        return "get_item", {"Key": typed_key(self.update.key.pk, self.update.key.sk)}

    def _take(self, response: Response) -> None:
        if isinstance(response, ConditionFailed):
            self._compare(response.item)
        elif self._send is Attempt._look:
            row = optional_field(response, "Item")
            if row:
                self._compare(row)
            elif self.error is None and self.level < CLOSED:
                self._send = Attempt._begin
            elif self.error is None:  # it was closed before its table was restored; an item never begins closed
                self.level, self._send = 0, Attempt._count
            else:
                self.item, self.settled = Item(), True
        else:
            self.item = item_of(_filled(required_field(response, "Attributes")))
            self.counted, self.settled = self._send is Attempt._count, True

    def _compare(self, row: StoredRow) -> None:
        """Compare the attempt with an item in which it was not counted now: before, outside, or to be sent again."""
        self.item = item_of(_filled(row))
        self.recounted = self.item.holds(self.update)
        if self.recounted or self.update.leave < self.item.level:
            self.settled, self.error = True, None
        elif self.error is not None:
            self.settled = True
        self.level, self._send = self.item.level, Attempt._count


def settle(
    attempts: Sequence[Attempt], table: str, beside: Sequence[Request], send: Callable[[list[Request]], list[Result]]
) -> list[Result]:
    """Take attempts through their steps, the first step together with the requests in `beside`. Return their results.

    table  name of the counters table
    send   sends requests together and returns their results
    """
    results = send([*(attempt.request(table) for attempt in attempts), *beside])
    for attempt, result in zip(attempts, results, strict=False):
        attempt.take(result)
    for _ in range(STEPS - 1):
        if not (unsettled := [attempt for attempt in attempts if not attempt.settled]):
            break
        for attempt, result in zip(unsettled, send([each.request(table) for each in unsettled]), strict=True):
            attempt.take(result)
    for attempt in attempts:
        if not attempt.settled:
            attempt.give_up()
    return results[len(attempts) :]


def _filled(row: StoredRow) -> StoredRow:
    """Return a row. Raises ValueError when it is empty: an item that was updated has attributes."""
    if not row:
        raise ValueError("Attributes")
    return row
