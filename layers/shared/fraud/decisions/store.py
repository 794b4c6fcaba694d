"""The hot tables (counters, profiles, decisions) as `evaluation.Store`.

The store turns the updates and reads that `counters.layout` names into DynamoDB requests, and the responses into items.
One attempt is one UpdateItem per entity, refused as a whole when the item holds the attempt's token. A decision is one
PutItem, refused when its id has a decision. So every call may be repeated.
"""

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, NamedTuple

from fraud.aws.dynamodb import (
    KEYS_PER_READ,
    batch_read,
    malformed_as_unavailable,
    optional_field,
    read_all,
    read_some,
    split_by_call,
    typed_key,
)
from fraud.aws.transport import ConditionFailed, Request, Result, Transport, all_or_raise, binary
from fraud.counters import fold, layout, sampling
from fraud.counters.codec import (
    VOID_STEPS,
    item_of,
    profile_of,
    projection,
    taking_back,
    upkeep_update,
    void_update,
)
from fraud.counters.keys import Keys
from fraud.counters.layout import DAY, Key, Profile, State, Update, sides
from fraud.counters.sampling import EXACT, Upkeep
from fraud.counters.store import Attempt, Levels, StackState, Tables, settle
from fraud.decisions.record import (
    PACKED,
    WAITING,
    Contents,
    DecisionRecord,
    StateRead,
    StoredDecision,
    stored_beside,
    stored_marks,
)
from fraud.errors import HotKeyError, ServiceError, UnavailableError
from fraud.rules.networks import Networks
from fraud.rules.standing import denies
from fraud.transaction import Transaction, utc

Place = tuple[str, ...]
"""A table's name and the key of an item in it."""


class Found(NamedTuple):
    """The rows that were read, by their place, and the places that DynamoDB left unread."""

    rows: Mapping[Place, Mapping[str, Any]]
    unread: frozenset[Place] = frozenset()


class _Plan(NamedTuple):
    """All items that one payment updates and reads.

    earlier   items of its entities' earlier periods
    profiles  partition keys of its profiles
    """

    transaction: Transaction
    attempts: Sequence[Attempt]
    earlier: Sequence[Key]
    profiles: Sequence[str]


class DynamoStore:
    """`evaluation.Store` on DynamoDB. `stack`: the stack as it was last read, for a minute."""

    def __init__(  # noqa: PLR0913, PLR0917 - all that counting and committing take
        self,
        transport: Transport,
        tables: Tables,
        retention_days: int,
        clock: Callable[[], datetime],
        exact: Collection[str] = EXACT,
        first_keys: Callable[[], Keys] = Keys.drawn,
    ) -> None:
        """Build the store.

        exact       names of the kinds that are never sampled
        first_keys  draws the keys of a stack that has none
        """
        self._transport = transport
        self._tables = tables
        self._retention = retention_days * DAY
        self._clock = clock
        self._exact = exact
        self.stack = StackState(transport, tables.profiles, first_keys)
        self._networks = Networks(self.stack.networks)
        self._levels = Levels()

    @property
    def keys(self) -> Keys:
        """The stack's secret keys, which the first payment has loaded at the latest."""
        return self.stack.keys

    def prepare(self, until: float | None = None) -> None:
        """Load the stack's keys and watermarks if they are missing or hours old. Raises ServiceError."""
        self.stack.prepare(self._clock(), until)

    def count(self, transactions: Sequence[Transaction], until: float | None = None) -> list[StateRead]:
        """Send every update and all reads together, the reads in as few BatchGetItem calls as hold their keys.

        Once a minute the watermarks, the keys, the denied networks and both pointers are read beside them.
        Watermarks that cannot be read count as old.
        More steps follow only for items whose level was not as presumed.
        """
        try:
            self.prepare(until)
        except ServiceError as error:
            return [self._unseen(one, error) for one in transactions]
        plans = [self._plan(transaction) for transaction in transactions]
        names = projection((plan.transaction, [each.update for each in plan.attempts]) for plan in plans)
        chunks, of_plans = _chunks([self._places(plan) for plan in plans])
        now = self._clock()
        beside = [*(self._read_request(chunk, names) for chunk in chunks), *self.stack.renewal(now)]
        attempts = [attempt for plan in plans for attempt in plan.attempts]
        results = iter(
            settle(attempts, self._tables.counters, beside, lambda requests: self._transport.gather(requests, until))
        )
        found = [self._found(result, until) for result in islice(results, len(chunks))]
        for result in results:
            with contextlib.suppress(ServiceError):
                self.stack.renew(result, now, until)
        state_reads = []
        for plan, numbers in zip(plans, of_plans, strict=True):
            try:
                with malformed_as_unavailable():
                    state_reads.append(self._state_read(plan, _joined([found[n] for n in numbers])))
            except ServiceError as error:  # the other responses of this payment cannot be trusted then
                state_reads.append(self._unseen(plan.transaction, error))
        return state_reads

    def count_again(self, transaction: Transaction, kinds: Collection[str]) -> list[Key]:
        """Send the updates of these kinds again; return their items. Raises ServiceError unless all succeed."""
        if not kinds:
            return []
        self.prepare()
        attempts = [each for each in self._plan(transaction).attempts if each.update.key.kind.name in kinds]
        settle(attempts, self._tables.counters, (), self._transport.gather)
        for attempt in attempts:
            if attempt.error is not None:
                raise attempt.error
        return [attempt.update.key for attempt in attempts]

    def take_back(self, counted: Sequence[tuple[Update, int]], until: float | None = None) -> None:
        """Take back what was counted of an attempt whose id has another body's decision.

        counted  updates, each with the level at which it was counted

        A token that is gone cannot be taken back: another request did so, or a raise removed it, and then its weight
        stays in a sampled item. Raises ServiceError when it is not known whether all is taken back.
        """
        requests = [self._update(taking_back(*each)) for each in counted]
        all_or_raise(self._transport.gather(requests, until) if requests else ())

    def void(self, attempts: Sequence[tuple[Transaction, int]]) -> list[ServiceError | None]:
        """Take the first steps of the voids of attempts. Return for each None, or why it is not known to be done.

        attempts  each with the number of its steps

        The first steps are taken together, then the second ones, and so on. A refused update is done: the step was
        taken, or the attempt's money is in no sum.
        """
        if not attempts:
            return []
        try:
            self.prepare()
        except ServiceError as error:
            return [error] * len(attempts)
        payers = [layout.updates(transaction, self.stack.keys)[0] for transaction, _ in attempts]
        errors: list[ServiceError | None] = [None] * len(attempts)
        for taken, step in enumerate(VOID_STEPS):
            left = [n for n, (_, steps) in enumerate(attempts) if steps > taken and errors[n] is None]
            results = self._transport.gather([self._update(void_update(payers[n], step)) for n in left]) if left else []
            for n, result in zip(left, results, strict=True):
                errors[n] = result if isinstance(result, ServiceError) else None
        return errors

    def not_void(self, transactions: Sequence[Transaction]) -> list[Transaction]:
        """Return the attempts that their payers' items count, and that are not void there. Raises ServiceError."""
        if not transactions:
            return []
        self.prepare()
        payers = [layout.updates(transaction, self.stack.keys)[0] for transaction in transactions]
        reads = [
            {
                "TableName": self._tables.counters,
                "Key": typed_key(payer.key.pk, payer.key.sk),
                "ProjectionExpression": f"{payer.tokens}, {layout.VOIDED}",
                "ConsistentRead": True,
            }
            for payer in payers
        ]
        answers = all_or_raise(self._transport.gather([Request("get_item", read) for read in reads]))
        found: list[Transaction] = []
        for transaction, payer, answer in zip(transactions, payers, answers, strict=True):
            with malformed_as_unavailable():
                item = optional_field(answer, "Item") or {}
                counted, void = (
                    {binary(token) for token in item.get(name, {}).get("BS", ())}
                    for name in (payer.tokens, layout.VOIDED)
                )
                if payer.token in counted - void:
                    found.append(transaction)
        return found

    def sampled(self, transaction: Transaction) -> frozenset[str]:
        """Return the keys of the payment's entities whose items are presumed to be sampled or closed."""
        keys = [Key(kind, entity, transaction.epoch // kind.period) for kind, entity, _ in sides(transaction)]
        return frozenset(key.pk for key in keys if self._levels.presumed(key))

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
        """Send one PutItem for each record, together, and beside them the upkeep of sampled items.

        Upkeep may fail: the next payment that meets the item asks for it again.
        """
        puts = [self._put_request(record) for record in records]
        changes = dict.fromkeys(change for record in records for change in record.upkeep)
        results = self._transport.gather([*puts, *(self._update(upkeep_update(change)) for change in changes)], until)
        return [_kept(result) for result in results[: len(puts)]]

    def _update(self, payload: Mapping[str, Any]) -> Request:
        return Request("update_item", {"TableName": self._tables.counters, **payload})

    def _plan(self, transaction: Transaction) -> _Plan:
        """Name all items of a payment."""
        moved = layout.updates(transaction, self.stack.keys)
        attempts = [self._levels.attempt(update) for update in moved]
        return _Plan(transaction, attempts, layout.reads(moved), tuple(layout.profiles(transaction).values()))

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
        if record.deadline is not None:
            due, then = record.deadline
            item |= {"pending": {"S": WAITING}, "due": {"S": utc(due)}, "expires_to": {"S": then.value}}
        if record.beside is not None:
            item["beside"] = stored_beside(*record.beside[:2])
        if record.marks:
            item["marks"] = stored_marks(record.marks)
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

    def _found(self, result: Result, until: float | None) -> Found | ServiceError:
        """Return the rows of one BatchGetItem by table and key, or the error."""
        try:
            (answer,) = all_or_raise([result])
            tables, left = read_some(self._transport, answer, until)
            with malformed_as_unavailable():
                unread = frozenset(self._place(table, key) for table, asked in left.items() for key in asked["Keys"])
                return Found({self._place(table, row): row for table, rows in tables.items() for row in rows}, unread)
        except ServiceError as error:
            return error

    def _place(self, table: str, row: Mapping[str, Any]) -> Place:
        """Return the place of a row, or of the key of one."""
        names = ("pk", "sk") if table == self._tables.counters else ("pk",)
        return (table, *(row[name]["S"] for name in names))

    def _unseen(self, transaction: Transaction, error: ServiceError) -> StateRead:
        """Return the state of a payment without any response.

        All its updates are named as uncounted, even those that may have happened: tokens make it safe to repeat them.
        """
        uncounted = tuple(Key(kind, entity, transaction.epoch // kind.period) for kind, entity, _ in sides(transaction))
        state = State({}, {}, stale=fold.stale(uncounted, self.stack.folded_through))
        return StateRead(state, None, uncounted, read=False, failure=error)

    def _state_read(self, plan: _Plan, found: Found | ServiceError) -> StateRead:
        """Put the responses of one payment together. `found`: the rows of its reads."""
        day = plan.transaction.epoch // DAY
        failures = [attempt.error for attempt in plan.attempts if attempt.error is not None]
        flooded = {each.update.key.kind.name for each in plan.attempts if isinstance(each.error, HotKeyError)}
        items = {attempt.update.key: item for attempt in plan.attempts if (item := attempt.seen()) is not None}
        unread = {each.update.key.kind.name for each in plan.attempts if each.update.key not in items}
        profiles: dict[str, Profile] = {}
        decision = None
        if isinstance(found, Found) and any(table != self._tables.counters for table, *_ in found.unread):
            found = UnavailableError("UnprocessedKeys")
        if isinstance(found, ServiceError):
            failures.append(found)
        else:
            rows, counters = found.rows, self._tables.counters
            items |= {key: item_of(row) for key in plan.earlier if (row := rows.get((counters, key.pk, key.sk)))}
            # Only a partition with too many requests leaves keys unread that DynamoDB was asked for again and again.
            if hot := {key.kind.name for key in plan.earlier if (counters, key.pk, key.sk) in found.unread}:
                failures.append(HotKeyError("UnprocessedKeys"))
                unread, flooded = unread | hot, flooded | hot
            profiles = {pk: profile_of(row) for pk in plan.profiles if (row := rows.get((self._tables.profiles, pk)))}
            profiles |= self._denied_by_network(plan.transaction, profiles)
            decision = rows.get((self._tables.decisions, plan.transaction.transaction_id))
        state = State(
            items,
            profiles,
            any(attempt.recounted for attempt in plan.attempts),
            fold.stale((attempt.update.key for attempt in plan.attempts), self.stack.folded_through),
            self.stack.keys.distorts(day),
            plan.attempts[0].update.device,
            self.stack.snapshot,
        )
        return StateRead(
            state,
            stored_of(decision) if decision else None,
            uncounted=tuple(attempt.update.key for attempt in plan.attempts if attempt.error is not None),
            unread=frozenset(unread),
            read=not isinstance(found, ServiceError),
            failure=failures[0] if failures else None,
            flooded=frozenset(flooded),
            revocable=tuple(each for attempt in plan.attempts if (each := attempt.revocable)),
            upkeep=tuple(self._upkeep(plan, state)),
        )

    def _denied_by_network(self, transaction: Transaction, held: Mapping[str, Profile]) -> dict[str, Profile]:
        """Return the profile of the payment's address with the denial of its network, if that alone denies it.

        held  the payment's profiles, by partition key
        """
        if transaction.ip is None or not self.stack.networks:
            return {}
        pk = layout.profiles(transaction)["ip"]
        if denies(held.get(pk, {}), transaction.occurred_at):
            return {}
        if self._networks.row is not self.stack.networks:
            self._networks = Networks(self.stack.networks)
        denial = self._networks.denial(transaction.ip, transaction.occurred_at)
        return {} if denial is None else {pk: {**held.get(pk, {}), "deny": denial}}

    def _upkeep(self, plan: _Plan, state: State) -> Iterator[Upkeep]:
        """Yield what the payment's items need, and remember the levels that they have or are about to have."""
        for attempt in plan.attempts:
            update, item = attempt.update, attempt.item
            if item is not None:
                self._levels.learn(update.key, item.level)
                before = state.items.get(update.key._replace(period=update.key.period - 1))
                for change in sampling.upkeep(update, item, before, exact=update.key.kind.name in self._exact):
                    if isinstance(change, sampling.Raise):
                        self._levels.learn(update.key, change.to)
                    yield change
        yield from sampling.compactions(state.items, plan.transaction)


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
    """Return what was found for one payment, or the first error among its reads."""
    if len(found) == 1:
        return found[0]
    rows: dict[Place, Mapping[str, Any]] = {}
    unread: frozenset[Place] = frozenset()
    for each in found:
        if isinstance(each, ServiceError):
            return each
        rows |= each.rows
        unread |= each.unread
    return Found(rows, unread)


READ_DECISION = f"body_identity, {PACKED}"
"""Projection of the attributes of a decision's row that a repeat needs."""


def stored_of(attributes: Mapping[str, Any]) -> StoredDecision:
    """Read the identity and the answer from a decision's row: the part that answers a repeated payment.

    >>> packed = Contents(b"{}", b"[]", b'{"outcome":"approve"}').packed()
    >>> stored_of({"body_identity": {"B": b"same"}, PACKED: {"B": packed}})
    StoredDecision(identity=b'same', answer=b'{"outcome":"approve"}', transaction=b'{}')
    """
    contents = contents_of(attributes)
    return StoredDecision(binary(attributes["body_identity"]["B"]), contents.answer, contents.transaction)


def contents_of(row: Mapping[str, Any]) -> Contents:
    """Read transaction, counters and answer from a decision's row, as the table or its stream has it."""
    return Contents.unpacked(binary(row[PACKED]["B"]))
