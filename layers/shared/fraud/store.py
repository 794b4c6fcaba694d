"""The hot tables: counters, profiles and decisions, as `evaluation.Store`.

It turns the updates and reads that `counters` names into DynamoDB requests and their answers back into items. One
attempt is one UpdateItem per entity, refused as a whole when the item holds the attempt's mark; a decision is one
PutItem, refused when the id has one. So every call may be repeated.
"""

import contextlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from fraud import counters, fold, shards, windows
from fraud.answers import Transport, attributes_of, completed, promised, understood
from fraud.counters import DAY, UNSPLIT, Key, Profile, Shards, Slice, State, Update
from fraud.decision import PACKED, Contents, Record, Stored
from fraud.errors import ServiceError
from fraud.evaluation import Sight
from fraud.past import NOTHING
from fraud.rows import (
    DECISION,
    SHARDS,
    expression,
    item_of,
    profile_of,
    projection,
    projection_beside,
    shards_of,
    since,
    size_of,
    stored_of,
    watermarks_of,
)
from fraud.transaction import Transaction, utc
from fraud.wire import Answer, Refused, Request, Result, answered

KEYS_PER_READ = 100
"""What BatchGetItem takes."""

Wanted = dict[str, dict[tuple[str, ...], None]]
"""Keys by table, each once."""

Found = Mapping[tuple[str, ...], Mapping[str, Any]]
"""Rows by table and key."""

WATERMARKS_LAST = timedelta(minutes=1)
"""How long the fold's watermarks, and the table of shards, are taken for current: watermarks only ever rise, so an old
one errs on the safe side.
"""

SHARDS_LAST = timedelta(hours=6)
"""How long the table of shards is used when it cannot be read: what it says of a payment is written a day ahead."""


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

    def prepare(self, until: float | None = None) -> None:
        """Read the watermarks and the table of shards if that is missing or hours old: nobody may count who does not
        know where. Raises ServiceError.
        """
        now = self._clock()
        if abs(now - self._read_at) >= SHARDS_LAST:
            (result,) = self._transport.gather([watermark_request(self._tables.profiles)], until)
            self._shards = self._renewed(result, now, until)

    def count(self, transactions: Sequence[Transaction], until: float | None = None) -> list[Sight]:
        """Every update and all reads, these in as few BatchGetItem as take their keys, sent together.

        Once in WATERMARKS_LAST the fold's watermarks and the table of shards are read beside them; watermarks that
        cannot be read count as old.
        """
        try:
            self.prepare(until)
        except ServiceError as error:
            return [self._unseen(one, error) for one in transactions]
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
        complete = len(self._watermarks) == len(fold.SLICES)  # until the first tick of a new stack they are not
        outdated = not (complete and self._read_at <= now < self._read_at + WATERMARKS_LAST)
        if outdated:
            requests.append(watermark_request(self._tables.profiles))
        results = self._transport.gather(requests, until)
        table = self._shards
        if outdated:
            with contextlib.suppress(ServiceError):
                table = self._renewed(results.pop(), now, until)
        counted = iter(results)
        mine = [[(update, next(counted)) for update in updates] for updates in moved]
        found = [self._found(next(counted), until) for _ in chunks]
        others = {update.key: self._found(next(counted), until) for update, _ in beside}
        sights = []
        for transaction, updates, place in zip(transactions, mine, places, strict=True):
            try:
                with understood():
                    sights.append(self._sight(transaction, updates, _joined([found[n] for n in place]), others, until))
            except ServiceError as error:  # nobody can tell then what the rest of the answers is worth
                sights.append(self._unseen(transaction, error))
        self._shards = table  # now that all is looked up by the one that it was named by
        return sights

    def count_again(self, transaction: Transaction, kinds: Collection[str]) -> list[Key]:
        """Send the updates of these kinds again, until acknowledged; the items. Raises ServiceError."""
        self.prepare()
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
        with understood():
            item = attributes_of(answer, "Item")
            return stored_of(item) if item else None

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
        with understood():
            return {row["pk"]["S"]: stored_of(row) for row in rows}

    def commit(self, records: Sequence[Record], until: float | None = None) -> list[Stored | ServiceError | None]:
        """One PutItem for each, sent together."""
        results = self._transport.gather([self._put(record) for record in records], until)
        return [_kept(result) for result in results]

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
            with understood():
                return {
                    (table, *(row[name]["S"] for name in self._key(table))): row
                    for table, rows in tables.items()
                    for row in rows
                }
        except ServiceError as error:
            return error

    def _key(self, table: str) -> tuple[str, ...]:
        """The attributes of a table's key."""
        return ("pk", "sk") if table == self._tables.counters else ("pk",)

    def _renewed(self, result: Result, now: datetime, until: float | None) -> Shards:
        """Take over the watermarks; the table of shards. Raises ServiceError if they could not be read."""
        (answer,) = answered([result])
        rows = watermark_rows(self._transport, answer, until)
        with understood():
            watermarks, table = watermarks_of(rows), shards_of(rows)
        self._watermarks = {part: at.through for part, at in watermarks.items()}
        self._read_at = now
        return table

    def _unseen(self, transaction: Transaction, error: ServiceError) -> Sight:
        """What is known of a payment to which nothing was answered: whatever was counted may be counted again."""
        uncounted = tuple(update.key for update in counters.updates(transaction))
        state = State({}, {}, stale=fold.stale(uncounted, self._watermarks))
        return Sight(state, None, uncounted, read=False, failure=error)

    def _sight(
        self,
        transaction: Transaction,
        counted: Sequence[tuple[Update, Result]],
        found: Found | ServiceError,
        beside: Mapping[Key, Found | ServiceError],
        until: float | None,
    ) -> Sight:
        """What the answers say of one payment; `beside`, of the other shards of what it moved."""
        failures = [result for _, result in counted if isinstance(result, ServiceError)]
        mine = [(update, _moved(result)) for update, result in counted if not isinstance(result, ServiceError)]
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
        if beside:
            failures += self._complete(transaction, mine, state, beside, until)
        return Sight(
            state,
            stored_of(decision) if decision else None,
            uncounted=tuple(update.key for update, result in counted if isinstance(result, ServiceError)),
            read=not isinstance(found, ServiceError),
            failure=failures[0] if failures else None,
            large=tuple(update.key for update, attributes in mine if size_of(update, attributes) > shards.LARGE),
        )

    def _complete(
        self,
        transaction: Transaction,
        moved: Sequence[tuple[Update, Mapping[str, Any]]],
        state: State,
        beside: Mapping[Key, Found | ServiceError],
        until: float | None,
    ) -> list[ServiceError]:
        """Put the other shards to what was moved; what is missing then. In a rare step of its own, one for all items,
        where the last hour of a day's fine buckets is not enough.
        """

        def put(update: Update, attributes: Mapping[str, Any], others: Found) -> None:
            key = update.key.whole
            state.items.update(counters.merged((key, item_of(row)) for row in (attributes, *others.values())))

        def hidden(update: Update) -> bool:
            key = update.key.whole
            past = state.profiles.get(f"{key.kind.profile}#{key.entity}", {}).get(key.kind.side, NOTHING)
            return windows.hidden(key, state.items, past, transaction.epoch, since(update))

        split = [(update, attributes, beside[update.key]) for update, attributes in moved if update.key in beside]
        failures = [others for _, _, others in split if isinstance(others, ServiceError)]
        known = [(update, attributes, others) for update, attributes, others in split if isinstance(others, Mapping)]
        for each in known:
            put(*each)
        wanted = [(update, attributes) for update, attributes, others in known if others and hidden(update)]
        requests = [self._beside(update, counters.siblings(update, self._shards), whole=True) for update, _ in wanted]
        results = self._transport.gather(requests, until) if requests else ()
        for (update, attributes), result in zip(wanted, results, strict=True):
            others = self._found(result, until)
            if isinstance(others, ServiceError):
                failures.append(others)
            else:
                put(update, attributes, others)
        return failures


def _moved(result: Answer) -> Mapping[str, Any]:
    """The item that an update was answered with. Raises ValueError when it is empty: its payment must be in it."""
    attributes: Mapping[str, Any] = result.item if isinstance(result, Refused) else promised(result, "Attributes")
    if not attributes:
        raise ValueError("Attributes")
    return attributes


def _kept(result: Result) -> Stored | ServiceError | None:
    """What became of a commit."""
    if isinstance(result, ServiceError):
        return result
    try:
        with understood():
            return stored_of(result.item) if isinstance(result, Refused) else None
    except ServiceError as error:
        return error


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


def watermark_request(profiles: str, *, consistent: bool = False) -> Request:
    """The read of all watermarks, one item for each letter, with an attribute for each of its slices; and of the table
    of shards.
    """
    keys = [{"pk": {"S": pk}} for pk in (*fold.WATERMARKS.values(), SHARDS)]
    return Request("batch_get_item", {"RequestItems": {profiles: {"Keys": keys, "ConsistentRead": consistent}}})


def watermark_rows(transport: Transport, answer: Answer, until: float | None = None) -> dict[str, Profile]:
    """The items of `watermark_request` by key."""
    tables = completed(transport, answer, until)
    with understood():
        return {row["pk"]["S"]: profile_of(row) for table in tables.values() for row in table}
