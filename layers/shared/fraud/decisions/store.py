"""The hot tables (counters, profiles, decisions) as `evaluation.Store`.

The store turns the updates and reads that `counters.layout` names into DynamoDB requests, and the responses into items.
One attempt is one UpdateItem per entity, refused as a whole when the item holds the attempt's token. A decision is one
PutItem, refused when its id has a decision. So every call may be repeated.
"""

import contextlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, NamedTuple, Self

from fraud.aws.dynamodb import (
    KEYS_PER_READ,
    batch_read,
    malformed_as_unavailable,
    optional_field,
    read_all,
    required_field,
    split_by_call,
    typed_key,
)
from fraud.aws.transport import ConditionFailed, Request, Response, Result, Transport, all_or_raise, binary
from fraud.counters import fold, layout, sharding, windows
from fraud.counters.codec import (
    attempt_update,
    first_fine_bucket,
    item_of,
    profile_of,
    projection,
    projection_beside,
    shards_of,
    size_of,
    watermarks_of,
)
from fraud.counters.history import NO_HISTORY
from fraud.counters.layout import DAY, UNSPLIT, Key, Profile, Shards, Slice, State, Update
from fraud.counters.store import WATERMARKS_LAST, Tables, watermark_request, watermark_rows
from fraud.decisions.record import PACKED, Contents, DecisionRecord, StateRead, StoredDecision
from fraud.errors import ServiceError
from fraud.transaction import Transaction, utc

Place = tuple[str, ...]
"""A table's name and the key of an item in it."""

Found = Mapping[Place, Mapping[str, Any]]
"""Rows by their place."""

SHARDS_LAST = timedelta(hours=6)
"""How long a shard table that cannot be read again is still used. Its steps are written a day ahead."""


class _Plan(NamedTuple):
    """All items that one payment updates and reads, named by one state of the shard table.

    earlier   items of its entities' earlier periods
    profiles  partition keys of its profiles
    siblings  the other shards of each updated item, by that item's key, in the order of the updates; items without
              other shards are left out
    """

    transaction: Transaction
    updates: Sequence[Update]
    earlier: Sequence[Key]
    profiles: Sequence[str]
    siblings: Mapping[Key, Sequence[Key]]

    @classmethod
    def of(cls, transaction: Transaction, table: Shards) -> Self:
        """Name all items of a payment."""
        updates = layout.updates(transaction, table)
        siblings = {update.key: keys for update in updates if (keys := layout.siblings(update, table))}
        profiles = tuple(layout.profiles(transaction).values())
        return cls(transaction, updates, layout.reads(updates, table), profiles, siblings)

    @property
    def split(self) -> list[Update]:
        """The updates of items that have other shards."""
        return [update for update in self.updates if update.key in self.siblings]


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

    def prepare(self, until: float | None = None) -> None:
        """Load the watermarks and the shard table if they are missing or older than SHARDS_LAST.

        Counting without the shard table could count an attempt twice. Raises ServiceError.
        """
        now = self._clock()
        if abs(now - self._read_at) >= SHARDS_LAST:
            (result,) = self._transport.gather([watermark_request(self._tables.profiles)], until)
            self._renew(result, now, until)

    def count(self, transactions: Sequence[Transaction], until: float | None = None) -> list[StateRead]:
        """Send every update and all reads together, the reads in as few BatchGetItem calls as hold their keys.

        Once in WATERMARKS_LAST the fold's watermarks and the shard table are read beside them. Watermarks that cannot
        be read count as old.
        """
        try:
            self.prepare(until)
        except ServiceError as error:
            return [self._unseen(one, error) for one in transactions]
        plans = [_Plan.of(transaction, self._shards) for transaction in transactions]
        names = projection(transactions)
        chunks, of_plans = _chunks([self._places(plan) for plan in plans])
        updates = [self._update_request(update) for plan in plans for update in plan.updates]
        reads = [self._read_request(chunk, names) for chunk in chunks]
        beside = [self._beside_request(plan, update) for plan in plans for update in plan.split]
        now = self._clock()
        renewal = [watermark_request(self._tables.profiles)] if self._outdated(now) else []
        results = iter(self._transport.gather([*updates, *reads, *beside, *renewal], until))
        counted = [list(islice(results, len(plan.updates))) for plan in plans]
        found = [self._found(result, until) for result in islice(results, len(reads))]
        others = [
            {
                key: self._found(result, until)
                for key, result in zip(plan.siblings, islice(results, len(plan.siblings)), strict=True)
            }
            for plan in plans
        ]
        for result in results:
            with contextlib.suppress(ServiceError):
                self._renew(result, now, until)
        state_reads = []
        for plan, mine, numbers, siblings in zip(plans, counted, of_plans, others, strict=True):
            try:
                with malformed_as_unavailable():
                    state_reads.append(
                        self._state_read(plan, mine, _joined([found[n] for n in numbers]), siblings, until)
                    )
            except ServiceError as error:  # the other responses of this payment cannot be trusted then
                state_reads.append(self._unseen(plan.transaction, error))
        return state_reads

    def count_again(self, transaction: Transaction, kinds: Collection[str]) -> list[Key]:
        """Send the updates of these kinds again; return their items. Raises ServiceError unless all succeed."""
        self.prepare()
        moved = [update for update in layout.updates(transaction, self._shards) if update.key.kind.name in kinds]
        all_or_raise(self._transport.gather([self._update_request(update) for update in moved]))
        return [update.key for update in moved]

    def find(self, transaction_id: str, until: float | None = None) -> StoredDecision | None:
        """Read the decision of an id consistently: a stale read would hide a new one. Raises ServiceError."""
        payload = {
            "TableName": self._tables.decisions,
            "Key": typed_key(transaction_id),
            "ProjectionExpression": READ_DECISION,
            "ConsistentRead": True,
        }
        (answer,) = all_or_raise(self._transport.gather([Request("get_item", payload)], until))
        with malformed_as_unavailable():
            item = optional_field(answer, "Item")
            return stored_of(item) if item else None

    def find_all(self, transaction_ids: Collection[str]) -> dict[str, StoredDecision]:
        """Read the decisions of at most 100 ids consistently; leave out an id without one. Raises ServiceError."""
        if not transaction_ids:
            return {}
        keys = {
            self._tables.decisions: {
                "Keys": list(map(typed_key, sorted(transaction_ids))),
                "ProjectionExpression": f"pk, {READ_DECISION}",
                "ConsistentRead": True,
            }
        }
        (answer,) = all_or_raise(self._transport.gather([batch_read(keys)]))
        rows = read_all(self._transport, answer).get(self._tables.decisions, ())
        with malformed_as_unavailable():
            return {row["pk"]["S"]: stored_of(row) for row in rows}

    def commit(
        self, records: Sequence[DecisionRecord], until: float | None = None
    ) -> list[StoredDecision | ServiceError | None]:
        """Send one PutItem for each record, together."""
        results = self._transport.gather([self._put_request(record) for record in records], until)
        return [_kept(result) for result in results]

    def _update_request(self, update: Update) -> Request:
        return Request("update_item", {"TableName": self._tables.counters, **attempt_update(update)})

    def _put_request(self, record: DecisionRecord) -> Request:
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

    def _places(self, plan: _Plan) -> list[Place]:
        """Return the places of a payment's earlier items, profiles and decision."""
        return [
            *((self._tables.counters, key.pk, key.sk) for key in plan.earlier),
            *((self._tables.profiles, pk) for pk in plan.profiles),
            (self._tables.decisions, plan.transaction.transaction_id),
        ]

    def _read_request(self, places: Iterable[Place], names: str) -> Request:
        """Build one BatchGetItem that reads only the attributes in `names` of the counters' items."""
        how = {
            self._tables.counters: {"ProjectionExpression": names},
            self._tables.decisions: {"ProjectionExpression": f"pk, {READ_DECISION}"},
        }
        keys: dict[str, list[dict[str, Any]]] = {}
        for table, *key in places:
            keys.setdefault(table, []).append(typed_key(*key))
        return batch_read({table: {"Keys": listed, **how.get(table, {})} for table, listed in keys.items()})

    def _beside_request(self, plan: _Plan, update: Update, *, whole: bool = False) -> Request:
        """Build the consistent read of an updated item's other shards, as consistent as the update's own response.

        whole  read all attributes instead of those that `projection_beside` names
        """
        keys = [typed_key(key.pk, key.sk) for key in plan.siblings[update.key]]
        how = {} if whole else {"ProjectionExpression": projection_beside(update)}
        return batch_read({self._tables.counters: {"Keys": keys, "ConsistentRead": True, **how}})

    def _found(self, result: Result, until: float | None) -> Found | ServiceError:
        """Return the rows of one BatchGetItem by table and key, or the error."""
        try:
            (answer,) = all_or_raise([result])
            tables = read_all(self._transport, answer, until)
            with malformed_as_unavailable():
                return {
                    (table, *(row[name]["S"] for name in self._key(table))): row
                    for table, rows in tables.items()
                    for row in rows
                }
        except ServiceError as error:
            return error

    def _key(self, table: str) -> tuple[str, ...]:
        """Return the names of a table's key attributes."""
        return ("pk", "sk") if table == self._tables.counters else ("pk",)

    def _outdated(self, now: datetime) -> bool:
        """Tell whether the watermarks are old or incomplete. A new stack lacks some until its first tick."""
        complete = len(self._watermarks) == len(fold.SLICES)
        return not (complete and self._read_at <= now < self._read_at + WATERMARKS_LAST)

    def _renew(self, result: Result, now: datetime, until: float | None) -> None:
        """Take over the watermarks and the shard table. Raises ServiceError when they could not be read."""
        (answer,) = all_or_raise([result])
        rows = watermark_rows(self._transport, answer, until)
        with malformed_as_unavailable():
            watermarks, table = watermarks_of(rows), shards_of(rows)
        self._watermarks = {part: at.through for part, at in watermarks.items()}
        self._shards = table
        self._read_at = now

    def _unseen(self, transaction: Transaction, error: ServiceError) -> StateRead:
        """Return the state of a payment without any response.

        All its updates are named as uncounted, even those that may have happened: tokens make it safe to repeat them.
        """
        uncounted = tuple(update.key for update in layout.updates(transaction))
        state = State({}, {}, stale=fold.stale(uncounted, self._watermarks))
        return StateRead(state, None, uncounted, read=False, failure=error)

    def _state_read(
        self,
        plan: _Plan,
        counted: Sequence[Result],
        found: Found | ServiceError,
        beside: Mapping[Key, Found | ServiceError],
        until: float | None,
    ) -> StateRead:
        """Put the responses of one payment together.

        counted  results of its updates
        found    rows of its reads
        beside   rows of the other shards, by the key of the updated item
        """
        results = list(zip(plan.updates, counted, strict=True))
        failures = [result for result in counted if isinstance(result, ServiceError)]
        moved = [(update, _moved(result)) for update, result in results if not isinstance(result, ServiceError)]
        items = [(update.key, item_of(attributes)) for update, attributes in moved]
        profiles: dict[str, Profile] = {}
        decision = None
        if isinstance(found, ServiceError):
            failures.append(found)
        else:
            rows = ((key, found.get((self._tables.counters, key.pk, key.sk))) for key in plan.earlier)
            items += [(key, item_of(row)) for key, row in rows if row]
            for pk in plan.profiles:
                if row := found.get((self._tables.profiles, pk)):
                    profiles[pk] = profile_of(row)
            decision = found.get((self._tables.decisions, plan.transaction.transaction_id))
        state = State(
            layout.merged(items),
            profiles,
            any(isinstance(result, ConditionFailed) for result in counted),
            fold.stale((update.key for update in plan.updates), self._watermarks),
        )
        if beside:
            failures += self._complete(plan, moved, state, beside, until)
        return StateRead(
            state,
            stored_of(decision) if decision else None,
            uncounted=tuple(update.key for update, result in results if isinstance(result, ServiceError)),
            read=not isinstance(found, ServiceError),
            failure=failures[0] if failures else None,
            large=tuple(update.key for update, attributes in moved if size_of(update, attributes) > sharding.LARGE),
        )

    def _complete(
        self,
        plan: _Plan,
        moved: Sequence[tuple[Update, Mapping[str, Any]]],
        state: State,
        beside: Mapping[Key, Found | ServiceError],
        until: float | None,
    ) -> list[ServiceError]:
        """Add the other shards to the updated items in `state`, and return the errors of shards that are missing.

        Where the fine buckets of the last hour do not suffice, all items that need more are read whole, in one more
        step. That is rare.
        """

        def put(update: Update, attributes: Mapping[str, Any], others: Found) -> None:
            key = update.key.whole
            state.items.update(layout.merged((key, item_of(row)) for row in (attributes, *others.values())))

        def hidden(update: Update) -> bool:
            key = update.key.whole
            history = state.profiles.get(key.kind.profile_key(key.entity), {}).get(key.kind.side, NO_HISTORY)
            return windows.needs_older_buckets(
                key, state.items, history, plan.transaction.epoch, first_fine_bucket(update)
            )

        split = [(update, attributes, beside[update.key]) for update, attributes in moved if update.key in beside]
        failures = [others for _, _, others in split if isinstance(others, ServiceError)]
        known = [(update, attributes, others) for update, attributes, others in split if isinstance(others, Mapping)]
        for each in known:
            put(*each)
        wanted = [(update, attributes) for update, attributes, others in known if others and hidden(update)]
        requests = [self._beside_request(plan, update, whole=True) for update, _ in wanted]
        results = self._transport.gather(requests, until) if requests else ()
        for (update, attributes), result in zip(wanted, results, strict=True):
            others = self._found(result, until)
            if isinstance(others, ServiceError):
                failures.append(others)
            else:
                put(update, attributes, others)
        return failures


def _moved(result: Response) -> Mapping[str, Any]:
    """Return the item in an update's response. Raises ValueError when it is empty: the payment itself must be in it."""
    attributes: Mapping[str, Any] = (
        result.item if isinstance(result, ConditionFailed) else required_field(result, "Attributes")
    )
    if not attributes:
        raise ValueError("Attributes")
    return attributes


def _kept(result: Result) -> StoredDecision | ServiceError | None:
    """Return None for a decision that was stored, the decision that was there first, or the error of the commit."""
    if isinstance(result, ServiceError):
        return result
    try:
        with malformed_as_unavailable():
            return stored_of(result.item) if isinstance(result, ConditionFailed) else None
    except ServiceError as error:
        return error


def _chunks(payments: Iterable[Sequence[Place]]) -> tuple[list[dict[Place, None]], list[range]]:
    """Put the places of several payments into chunks of one call each, every place once.

    Return the chunks, and for each payment the range of its chunks: one, unless it has more places than a call takes.
    """
    chunks: list[dict[Place, None]] = []
    ranges = []
    for places in payments:
        joined = (chunks[-1] if chunks else {}) | dict.fromkeys(places)
        if chunks and len(joined) <= KEYS_PER_READ:
            chunks[-1] = joined
            ranges.append(range(len(chunks) - 1, len(chunks)))
        else:
            parts = [dict.fromkeys(part) for part in split_by_call(places)]
            ranges.append(range(len(chunks), len(chunks) + len(parts)))
            chunks += parts
    return chunks, ranges


def _joined(found: Sequence[Found | ServiceError]) -> Found | ServiceError:
    """Return all rows of one payment, or the first error among its reads."""
    if len(found) == 1:
        return found[0]
    rows: dict[Place, Mapping[str, Any]] = {}
    for each in found:
        if isinstance(each, ServiceError):
            return each
        rows |= each
    return rows


READ_DECISION = f"body_identity, {PACKED}"
"""Projection of the attributes of a decision's row that a repeat needs."""


def stored_of(attributes: Mapping[str, Any]) -> StoredDecision:
    """Read the identity and the answer from a decision's row: the part that answers a repeated payment.

    >>> packed = Contents(b"{}", b"[]", b'{"outcome":"approve"}').packed()
    >>> stored_of({"body_identity": {"B": b"same"}, PACKED: {"B": packed}})
    StoredDecision(identity=b'same', answer=b'{"outcome":"approve"}')
    """
    return StoredDecision(binary(attributes["body_identity"]["B"]), contents_of(attributes).answer)


def contents_of(row: Mapping[str, Any]) -> Contents:
    """Read transaction, counters and answer from a decision's row, as the table or its stream has it."""
    return Contents.unpacked(binary(row[PACKED]["B"]))
