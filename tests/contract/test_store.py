"""DynamoStore on a DynamoDB emulator finds what InMemoryCounters finds, and raises its errors when DynamoDB fails."""

import itertools
import json
import random
import socket
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import chain, islice
from typing import Any

import pytest

from fraud.aws.client import AwsClient, Timeouts
from fraud.aws.dynamodb import READ_ATTEMPTS
from fraud.aws.transport import ConditionFailed, Request, Response, Result, Transport, all_or_raise, binary
from fraud.counters.codec import (
    KEYS,
    attempt_update,
    beginning_update,
    item_of,
    keys_row,
    projection,
    taking_back,
    upkeep_update,
)
from fraud.counters.fold import closable
from fraud.counters.history import Bucket, FoldedHistory, Series
from fraud.counters.in_memory import InMemoryCounters
from fraud.counters.keys import DECLARED
from fraud.counters.layout import (
    CLOSED,
    DAY,
    KINDS,
    MERCHANT,
    PAIR,
    SCALES,
    SLOTS,
    TOKENS,
    Item,
    Key,
    State,
    Update,
    packed,
    pair_of,
    reads,
)
from fraud.counters.sampling import BURST, CAPS, CLOSE, NewSlot, Raise, raised
from fraud.counters.store import Tables
from fraud.counters.windows import NAMES, measure
from fraud.counters.worker import RESERVE_MS, FoldWorker, Message
from fraud.decisions.evaluation import Evaluator
from fraud.decisions.record import PACKED, Contents, DecisionRecord, StateRead, StoredDecision
from fraud.decisions.store import DynamoStore, contents_of
from fraud.errors import ConflictingBodyError, ServiceError, UnavailableError
from fraud.outcome import Outcome
from fraud.scoring import features
from fraud.settings import AwsIdentity
from fraud.transaction import NEEDS_PAYEE, Transaction
from local.account.emulator import Emulator
from tests.contract.test_worker import Both
from tests.support.deployment import declared_store
from tests.support.fakes import FixedScorer, committed, counted, rule_book
from tests.support.in_memory_dynamodb import InMemoryDynamoDB
from tests.support.payments import NOON, SIDES_OF_TYPE, arrivals, payment, slot_of, updates

RETENTION_DAYS = 400

PATIENT = Timeouts(attempt_s=30, total_s=60)
"""Of the emulator, which a busy machine holds up. An update that is sent again would be counted before."""

EVE = datetime(2026, 3, 31, 12, tzinfo=UTC)
"""Noon before a midnight at which pairs, too, begin a new item."""


def noon() -> datetime:
    return NOON


class Recorded:
    """A transport that keeps the requests and the responses of its last call. Raises the first error."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.requests: list[Request] = []
        self.answers: list[Response] = []

    def gather(self, requests: Sequence[Request], until: float | None = None) -> list[Result]:
        self.requests = list(requests)
        results = self._transport.gather(requests, until)
        self.answers = all_or_raise(results)
        return results


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with Emulator(tmp_path_factory.mktemp("emulator") / "log") as emulator:
        yield emulator


@pytest.fixture(scope="module")
def tables(emulator: Emulator) -> Tables:
    variables = emulator.stack.functions[0].environment
    return Tables(*(variables[f"{name}_TABLE"] for name in ("COUNTERS", "PROFILES", "DECISIONS")))


@pytest.fixture(scope="module", autouse=True)
def environment(emulator: Emulator) -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ENDPOINT_URL", emulator.url)
        environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
        environment.setenv("AWS_ACCESS_KEY_ID", "local")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "local")
        yield environment


@pytest.fixture(scope="module")
def transport(environment: pytest.MonkeyPatch) -> AwsClient:
    del environment
    return AwsClient(AwsIdentity.from_environment(), PATIENT)


@pytest.fixture(scope="module")
def dynamodb(emulator: Emulator) -> Any:
    return emulator.client("dynamodb")


@pytest.fixture(scope="module")
def store(transport: AwsClient, tables: Tables) -> DynamoStore:
    return declared_store(transport, tables, RETENTION_DAYS, noon)


def own(name: str, kind: str = "p2p", **fields: Any) -> Transaction:
    """Return a payment whose parties no other test uses."""
    receiver = "payee_id" if kind in NEEDS_PAYEE else "instrument_id"
    names = {field: f"{name}-{field}" for field in ("transaction_id", "payer_id", "device_id", receiver)}
    return payment(**SIDES_OF_TYPE[kind] | names | fields)


def plain(item: Item) -> tuple[object, ...]:
    """Return everything of an item but its tokens and its level, which memory raises at once."""
    return item.buckets, item.slots, item.devices, item.spreads, item.sizes, item.voids


def projected(item: Item, names: frozenset[str]) -> Item:
    """Return an item with the attributes of a projection only."""

    def kept(letter: str, column: Mapping[int, int]) -> dict[int, int]:
        return {number: value for number, value in column.items() if f"{letter}{number}" in names}

    buckets = {scale: kept(scale, item.buckets[scale]) for scale in SCALES}
    columns = (kept(*column) for column in (("e", item.devices), ("q", item.spreads), ("c", item.sizes)))
    return Item(buckets, item.slots if "d" in names else {}, *columns, level=item.level, voids=kept("v", item.voids))


def as_stored(transaction: Transaction, state: State) -> State:
    """Return a state from memory as a store would have found it: of earlier items only the projected attributes."""
    names = frozenset(names_read(transaction))
    earlier = set(reads(updates(transaction)))
    items = {key: projected(item, names) if key in earlier else item for key, item in state.items.items()}
    return State(items, state.profiles, state.recounted, device=state.device)


def names_read(transaction: Transaction) -> list[str]:
    """Return the attributes that are read of the earlier items of one payment."""
    return projection([(transaction, updates(transaction))]).split(", ")


# --- counting ---------------------------------------------------------------------------------------------------------


def folded(account: str, day: int) -> dict[str, Any]:
    """Return a profile with folded histories, a deny entry and an account status."""
    bitmap = 1 << slot_of("device-0", "device") | 1 << slot_of("person-1")
    days = {day - age: Bucket(packed(age, 700), bitmap, bitmap) for age in (2, 3, 8, 29)}
    sides = {side: FoldedHistory((day - 40) * DAY, (day - 2) * DAY, Series.of(days)) for side in "oim"}
    entry = {"reason": f"told by {account}", "expires_at": None, "known": True}
    return sides | {"deny": entry, "status": {"state": "hold", "version": 3}}


def typed(value: object) -> dict[str, Any]:
    """Return a plain value with its DynamoDB type."""
    match value:
        case None:
            return {"NULL": True}
        case bool():
            return {"BOOL": value}
        case int():
            return {"N": str(value)}
        case bytes() | FoldedHistory():
            return {"B": value.packed() if isinstance(value, FoldedHistory) else value}
        case dict():
            return {"M": {name: typed(each) for name, each in value.items()}}
        case _:
            return {"S": value}


class FoldOnTime(list[Message]):
    """Folds every item as soon as its period closes. It is its fold worker's queue too, and must stay empty."""

    def __init__(self, transport: Transport, tables: Tables) -> None:
        super().__init__()
        self.now = NOON
        self._folding = FoldWorker(transport, tables, self, lambda: self.now)
        self._folded: set[Key] = set()

    def send(self, messages: Sequence[Message]) -> None:
        self += messages

    def tick(self) -> None:
        """Write the first watermarks, as the first tick of a stack does."""
        self._folding.tick()

    def at(self, now: datetime, keys: Iterable[Key]) -> None:
        self.now = now
        closed = {key for key in keys if key.slice and key.period <= closable(key.slice.sk, int(now.timestamp()))}
        for key in closed - self._folded:
            self._folding.work({"pk": key.pk, "sk": key.sk}, lambda: RESERVE_MS)
        self._folded |= closed


def test_both_counters_find_the_same_for_every_payment_bit_for_bit(store, transport, tables, dynamodb):
    memory = InMemoryCounters()
    profiles = {f"account#person-{n}": folded(f"person-{n}", int(EVE.timestamp()) // DAY) for n in range(4)}
    memory.profiles.update(profiles)
    for pk, profile in profiles.items():
        row = {"pk": {"S": pk}} | {name: typed(value) for name, value in profile.items()}
        dynamodb.put_item(TableName=tables.profiles, Item=row)

    fold = FoldOnTime(transport, tables)
    rounds = arrivals(random.Random(5), rounds=4, size=50, start=EVE)
    recounted = 0
    for n, arriving in enumerate(rounds):
        fold.at(EVE + n * timedelta(hours=5), memory.items)
        for transaction in arriving:
            recounted += same_in_both(store, memory, transaction)
        void_in_both(store, memory, arriving)
    payments = list(chain.from_iterable(rounds))
    assert recounted > 10
    assert {key.kind.name for key in memory.items} == set(KINDS)
    assert len({transaction.epoch // PAIR.period for transaction in payments}) == 2
    shops = [row["pk"]["S"] for row in dynamodb.scan(TableName=tables.profiles)["Items"] if "m" in row]
    assert len(shops) >= sum("m" in profile for profile in memory.profiles.values()) > 2
    assert fold == []


def void_in_both(store: DynamoStore, memory: InMemoryCounters, arriving: Sequence[Transaction]) -> None:
    """Void every third payment in both, some twice, at once and again; some are not void in between."""
    void = [*arriving[::3], *arriving[:3]]
    for steps in (1, 3 if len(void) % 2 else 1, 1):
        assert store.void([(transaction, steps) for transaction in void]) == [None] * len(void)
        for transaction in void:
            memory.void(transaction)


def same_in_both(store: DynamoStore, memory: InMemoryCounters, transaction: Transaction) -> bool:
    """Count one payment in both, and compare all that they find. Return whether it had been counted before."""
    found, stored, *_ = counted(store, transaction)
    assert stored is None
    compare(transaction, found, memory.count(transaction))
    return found.recounted


def compare(transaction: Transaction, found: State, kept: State) -> None:
    """Compare all that a store has found with all that memory has kept."""
    expected = as_stored(transaction, kept)
    assert {key: plain(item) for key, item in found.items.items()} == {
        key: plain(item) for key, item in expected.items.items()
    }
    # A shop's hours are folded on DynamoDB when they close, but in memory only when a payment reads them. So their
    # profiles are compared by the values that are measured from them.
    assert {pk: profile for pk, profile in found.profiles.items() if "shop" not in pk} == {
        pk: {**profile, "pk": pk} for pk, profile in expected.profiles.items() if "shop" not in pk
    }
    assert found.recounted is expected.recounted
    values, online = measure(transaction, kept), measure(transaction, found)
    assert online == values
    assert list(map(type, online.values())) == list(map(type, values.values()))
    assert features.pack(features.vector(transaction, online)) == features.pack(features.vector(transaction, values))


RUSH = NOON.replace(hour=20, minute=10)
"""The time at which a rush begins."""


def rush(rng: random.Random, number: int, later: int, minutes: float = 300) -> list[Transaction]:
    """Return payments to a merchant, and half as many to a payee.

    They are `number` in nine seconds, `later` in the following minutes, and 20 on the days after. They are of all
    amounts. Some are late, but not before the rush, and some come twice.
    """
    first = [RUSH + timedelta(seconds=9 * rng.random()) for _ in range(number)]
    hours = [RUSH + timedelta(minutes=20 + minutes * rng.random()) for _ in range(later)]
    days = [RUSH + timedelta(days=2 + n % 2, hours=-10, minutes=rng.random()) for n in range(20)]
    made: list[Transaction] = []
    for n, at in enumerate([*sorted(first), *sorted(hours), *sorted(days)]):
        if n % 16 == 1 and at not in days:
            made.append(rng.choice(made[-200:]))
        receiver = {"type": "merchant", "payee_id": "hot-shop"} if n % 3 else {"payee_id": "hot-payee"}
        made.append(
            payment(
                **receiver,
                transaction_id=f"rush-{n}",
                payer_id=f"fan-{int(90 * rng.random() ** 2)}",
                device_id=f"fan-device-{int(90 * rng.random() ** 2)}",
                amount=int(rng.lognormvariate(7, 2)) + 1,
                occurred_at=max(at - timedelta(minutes=40 * rng.random() ** 8), RUSH),
            )
        )
    return made


def crowds(level: int) -> Iterator[tuple[Key, Item]]:
    """Yield the items of the rush's merchant and payee just before it, each with nearly as many tokens as it may have.

    level  the level of both
    """
    for receiver in ({"type": "merchant", "payee_id": "hot-shop"}, {"payee_id": "hot-payee"}):
        key = of_the_rush(payment(**receiver, occurred_at=RUSH))
        item, second = Item(level=level), int(RUSH.timestamp()) % key.kind.period
        for n in range(1, CAPS[key.kind.sk] - 1):
            leave = (
                level + (n & -n).bit_length() - 1
            )  # half of them leave at the next level, a quarter at the one after
            item.tokens.setdefault(TOKENS[leave], set()).add(n.to_bytes(6))
            for scale in key.kind.scales:
                column, number = item.buckets[scale], (second - 10 - 10 * (n % 55)) // SCALES[scale]
                column[number] = column.get(number, 0) + packed(1 << level, 2_500 << level)
            item.slots[(second - 10) // 3600] = (1 << 40) - 1
        yield key, item


def of_the_rush(transaction: Transaction) -> Key:
    """Return the key of the item in which the receiver counts a payment."""
    return updates(transaction)[1].key


def decided_in_both(store: DynamoStore, memory: InMemoryCounters, transaction: Transaction) -> StateRead:
    """Count one payment in both, compare all that they find, and commit it with its upkeep. Return what was read."""
    state_read = counted(store, transaction)
    compare(transaction, state_read.state, memory.count(transaction))
    values = dict.fromkeys(NAMES, 0)
    store.commit([DecisionRecord(transaction, b"{}", Outcome.APPROVE, NOON, values, b"", "", upkeep=state_read.upkeep)])
    return state_read


def turns_of(state_read: StateRead, transaction: Transaction) -> Iterator[str]:
    """Yield what a payment of the rush met or caused."""
    own_key = of_the_rush(transaction)
    level = state_read.state.items[own_key].level
    if state_read.state.recounted:
        yield "repeat in a sample" if level else "repeat"
    if level and own_key.period > int(RUSH.timestamp()) // own_key.kind.period:
        yield f"{own_key.kind.name} begun in a sample"
    for change in state_read.upkeep:
        if isinstance(change, NewSlot):
            yield "slot"
        elif change.to == change.level:
            yield "fine buckets removed"
        else:
            yield f"{change.key.kind.name} {'raised' if change.key.period == own_key.period else 'compacted'}"


@pytest.mark.parametrize(
    ("crowd", "number", "expected"),
    [
        (
            5,
            90,
            {
                "repeat in a sample",
                "merchant compacted",
                "payee raised",
                "payee begun in a sample",
                "fine buckets removed",
            },
        ),
        (None, 2 * BURST, {"repeat", "repeat in a sample"}),
    ],
    ids=["crowd", "burst"],
)
def test_both_counters_find_the_same_for_a_hot_merchant_and_a_hot_payee_whose_items_are_sampled(
    tables, crowd, number, expected
):
    table, memory = InMemoryDynamoDB(), InMemoryCounters()
    store, fold = declared_store(table, tables, RETENTION_DAYS, noon), FoldOnTime(table, tables)
    fold.tick()
    for key, item in crowds(crowd) if crowd else ():
        memory.items[key] = item
        table.tables[tables.counters][key.pk, key.sk] = row_of(key, item)
    turns: Counter[str] = Counter()
    for transaction in rush(random.Random(10), number, 240):
        if transaction.epoch // 3600 != fold.now.timestamp() // 3600:
            fold.at(transaction.occurred_at, memory.items)
        turns.update(turns_of(decided_in_both(store, memory, transaction), transaction))
    assert turns.keys() >= expected | {"merchant raised", "merchant begun in a sample", "slot"}
    for key, item in memory.items.items():
        assert whole(item_of(table.tables[tables.counters][key.pk, key.sk])) == whole(item)
    assert fold == []


def row_of(key: Key, item: Item) -> dict[str, Any]:
    """Return an item as DynamoDB stores it."""
    numbered = {**item.buckets, "e": item.devices, "q": item.spreads, "c": item.sizes}
    numbers = {f"{letter}{number}": total for letter, column in numbered.items() for number, total in column.items()}
    slots = [hour * SLOTS + slot for hour, bits in item.slots.items() for slot in range(SLOTS) if bits >> slot & 1]
    return {
        **{name: {"S": text} for name, text in (("pk", key.pk), ("sk", key.sk))},
        **{name: {"N": str(total)} for name, total in numbers.items()},
        **{name: {"BS": list(tokens)} for name, tokens in item.tokens.items() if tokens},
        **({"d": {"NS": list(map(str, slots))}} if slots else {}),
        **({"l": {"N": str(item.level)}} if item.level else {}),
    }


def test_an_environment_on_dynamodb_goes_on_as_memory_does_amid_a_rush(store, tables, dynamodb):
    memory = InMemoryCounters()
    for key, item in crowds(3):
        memory.items[key] = item
        dynamodb.put_item(TableName=tables.counters, Item=row_of(key, item))
    turns: Counter[str] = Counter()
    # Without the days after, because nothing is folded here, and without the hour in which items of the rush would be
    # compacted: the emulator's own recursion is too deep for an expression of so many terms.
    for transaction in rush(random.Random(11), 30, 20, minutes=85)[:-20]:
        turns.update(turns_of(decided_in_both(store, memory, transaction), transaction))
    assert turns.keys() >= {"repeat in a sample", "merchant raised", "merchant begun in a sample", "slot"}
    for key, item in memory.items.items():
        if key.entity.startswith("hot"):
            raw = dynamodb.get_item(TableName=tables.counters, Key={"pk": {"S": key.pk}, "sk": {"S": key.sk}})["Item"]
            assert whole(item_of(raw)) == whole(item)


@pytest.mark.parametrize("kind", ["payer", "pair", "instrument"])
def test_both_counters_close_an_item_that_is_never_sampled_after_the_same_payment(tables, kind):
    table, memory = InMemoryDynamoDB(), InMemoryCounters()
    store = declared_store(table, tables, RETENTION_DAYS, noon)
    payments = [own("closing", TYPE_OF_KIND[kind], transaction_id=f"closing-{n}") for n in range(4)]
    (update,) = (each for each in updates(payments[0]) if each.key.kind.name == kind)
    tokens = {n.to_bytes(6) for n in range(CLOSE - 1)}
    memory.items[update.key] = item = Item(tokens={update.tokens: tokens})
    item.add(update, CLOSE - 1)
    table.tables[tables.counters][update.key.pk, update.key.sk] = row_of(update.key, item)
    closed = []
    for transaction in (*payments, payments[0], payments[3]):
        state = decided_in_both(store, memory, transaction).state
        closed.append((state.items[update.key].level, state.recounted))
    # The first fills the item, the second closes it for those that come after it; they are not counted.
    assert closed == [(0, False), (0, False), (CLOSED, False), (CLOSED, False), (CLOSED, True), (CLOSED, True)]
    row = table.tables[tables.counters][update.key.pk, update.key.sk]
    assert len(tokens_of(row)) == CLOSE + 1


# --- expressions ------------------------------------------------------------------------------------------------------

TYPE_OF_KIND = dict.fromkeys(KINDS, "p2p") | {"merchant": "merchant", "instrument": "cash_out"}
"""The type of a payment that has an update of a kind."""

AT = (0, 1, 5)
"""Levels that the tests try."""


@pytest.fixture
def both(transport: AwsClient, tables: Tables, dynamodb: Any) -> Both:
    """Return a transport to the emulator and to a table in memory, which asserts that their responses are equal."""
    memory = InMemoryDynamoDB()
    memory.tables[tables.profiles][KEYS,] = keys_row(DECLARED)
    dynamodb.put_item(TableName=tables.profiles, Item=keys_row(DECLARED))
    return Both(transport, memory)


def attempts(name: str, kind: str, level: int = 0) -> Iterator[Update]:
    """Yield the updates by which attempts count in one item, of all attempts that are in its sample at a level."""
    for n in itertools.count():
        transaction = own(name, TYPE_OF_KIND[kind], transaction_id=f"{name}-{n}", amount=2_500 + n)
        for update in updates(transaction):
            if update.key.kind.name == kind and update.leave >= level:
                yield update


def written(both: Both, tables: Tables, payload: Mapping[str, Any]) -> Result:
    (result,) = both.gather([Request("update_item", {"TableName": tables.counters, **payload})])
    return result


def row_in(both: Both, tables: Tables, key: Key) -> Mapping[str, Any]:
    """Return an item as both have it; empty when there is none."""
    payload = {"TableName": tables.counters, "Key": {"pk": {"S": key.pk}, "sk": {"S": key.sk}}}
    (answer,) = all_or_raise(both.gather([Request("get_item", payload)]))
    found: Mapping[str, Any] = answer.get("Item", {})
    return found


def whole(item: Item) -> tuple[object, ...]:
    """Return everything of an item."""
    tokens = {name: {binary(token) for token in found} for name, found in item.tokens.items() if found}
    return *plain(item), tokens, item.level


def totals(item: Item) -> set[int]:
    """Return the packed totals of all buckets of an item."""
    return {total for column in item.buckets.values() for total in column.values()}


@pytest.mark.parametrize("level", AT)
@pytest.mark.parametrize("kind", KINDS)
def test_an_attempt_counts_with_its_weight_in_an_item_of_its_level_and_in_no_other(both, tables, kind, level):
    first, second = islice(attempts(f"form-{kind}-{level}", kind, level), 2)
    answer = written(both, tables, attempt_update(first, level))
    assert isinstance(answer, Mapping)
    begun = item_of(answer["Attributes"])
    assert (begun.level, begun.tokens) == (level, {first.tokens: {first.token}})
    assert totals(begun) == {first.value * first.weight(level)}
    assert first.weight(level) == max(2**level // 2, 1)  # its amount, of two units, keeps it for one level
    for other in {*AT} - {level}:
        refused = written(both, tables, attempt_update(second, other))
        assert isinstance(refused, ConditionFailed)
        assert whole(item_of(refused.item)) == whole(begun)
    answer = written(both, tables, attempt_update(second, level))
    assert isinstance(answer, Mapping)
    assert totals(item_of(answer["Attributes"])) == {(first.value + second.value) * first.weight(level)}


@pytest.mark.parametrize("level", AT)
@pytest.mark.parametrize("kind", KINDS)
def test_a_duplicate_is_refused_by_its_token_at_each_level(both, tables, kind, level):
    first, once = islice(attempts(f"twice-{kind}-{level}", kind, level), 2)
    written(both, tables, attempt_update(first, level))
    assert isinstance(written(both, tables, attempt_update(once, level)), Mapping)
    kept = row_in(both, tables, once.key)
    refused = written(both, tables, attempt_update(once, level))
    assert isinstance(refused, ConditionFailed)
    assert item_of(refused.item).holds(once)
    assert row_in(both, tables, once.key) == kept


def test_with_the_set_as_operand_a_duplicate_would_pass_silently(both, tables):
    once = next(attempts("operand", "payer"))
    right = attempt_update(once, 0)
    values = {name: value for name, value in right["ExpressionAttributeValues"].items() if name != ":token"}
    condition = right["ConditionExpression"].replace(":token)", ":tokens)")
    wrong = right | {"ConditionExpression": condition, "ExpressionAttributeValues": values}
    for _ in range(2):
        assert isinstance(written(both, tables, wrong), Mapping)
    assert totals(item_of(row_in(both, tables, once.key))) == {2 * once.value}
    assert isinstance(written(both, tables, right), ConditionFailed)


@pytest.mark.parametrize("kind", KINDS)
def test_an_item_is_begun_at_its_level_only_where_there_is_none_and_without_an_attempt(both, tables, kind):
    update = next(attempts(f"begun-{kind}", kind, 3))
    answer = written(both, tables, beginning_update(update, 3))
    assert isinstance(answer, Mapping)
    listed = set() if kind == "pair" else {"fold"}
    assert answer["Attributes"].keys() == {"pk", "sk", "ttl", "l"} | listed
    assert int(answer["Attributes"]["ttl"]["N"]) == update.ttl
    for level in (3, 2):
        refused = written(both, tables, beginning_update(update, level))
        assert isinstance(refused, ConditionFailed)
        assert refused.item == answer["Attributes"]
    assert isinstance(written(both, tables, attempt_update(update, 3)), Mapping)


@pytest.mark.parametrize("level", AT)
@pytest.mark.parametrize("kind", KINDS)
def test_one_update_takes_an_attempt_back_once_and_leaves_its_slot_only(both, tables, kind, level):
    first, second = islice(attempts(f"back-{kind}-{level}", kind, level), 2)
    written(both, tables, attempt_update(first, level))
    kept = item_of(row_in(both, tables, first.key))
    written(both, tables, attempt_update(second, level))
    assert " ADD " in f" {taking_back(second, level)['UpdateExpression']}"
    assert " DELETE " in taking_back(second, level)["UpdateExpression"]
    assert written(both, tables, taking_back(second, level)) == {}
    left = row_in(both, tables, first.key)
    assert whole(item_of(left)) == whole(kept)  # both have the same counterparty, so not even the slots differ
    assert isinstance(written(both, tables, taking_back(second, level)), ConditionFailed)
    assert row_in(both, tables, first.key) == left
    assert isinstance(written(both, tables, attempt_update(second, level)), Mapping)
    assert isinstance(written(both, tables, taking_back(first, level)), Mapping)
    assert isinstance(written(both, tables, taking_back(second, level)), Mapping)
    item = item_of(row_in(both, tables, first.key))
    assert (totals(item), item.devices, item.tokens, item.slots) == (set(), {}, {}, kept.slots)
    assert (item.spreads, item.sizes) == ({}, {})


def test_a_payer_whose_only_attempt_was_taken_back_is_as_new(both, tables):
    store = declared_store(both, tables, RETENTION_DAYS, noon)
    refused = own("as-new")
    store.take_back(counted(store, refused).revocable)
    row = row_in(both, tables, updates(refused)[0].key)
    assert row["h12"] == row[f"e{slot_of('as-new-device_id', 'device')}"] == {"N": "0"}
    later = own("as-new", transaction_id="as-new-later", occurred_at=NOON + timedelta(minutes=3))
    found, fresh = counted(store, later).state, InMemoryCounters().count(later)
    assert measure(later, found) == measure(later, fresh)
    assert (found.items[updates(later)[0].key].buckets, found.recounted) == (
        fresh.items[updates(later)[0].key].buckets,
        False,
    )


@pytest.mark.parametrize(("level", "to"), [(0, 1), (1, 4), (2, CLOSED - 1)])
@pytest.mark.parametrize("kind", ["payee", "merchant", "device"])
def test_one_update_raises_the_level_and_drops_sets_of_tokens_unread(both, tables, kind, level, to):
    sample = list(islice(attempts(f"raised-{kind}-{level}-{to}", kind, level), 8))
    for update in sample:
        written(both, tables, attempt_update(update, level))
    key = sample[0].key
    expected = item_of(row_in(both, tables, key))
    seconds = tuple(f"s{number}" for number in expected.buckets["s"])
    change = Raise(key, level, to, seconds)
    raised(expected, change)
    for other in {*AT} - {level}:
        assert isinstance(written(both, tables, upkeep_update(change._replace(level=other))), ConditionFailed)
    assert written(both, tables, upkeep_update(change)) == {}
    row = row_in(both, tables, key)
    assert whole(item_of(row)) == whole(expected)
    assert {name for name in row if name[0] == "r"} == {update.tokens for update in sample if update.leave >= to}
    assert not row.keys() & set(seconds)
    assert isinstance(written(both, tables, upkeep_update(change)), ConditionFailed)
    for update in sample:
        if update.leave >= to:
            refused = written(both, tables, attempt_update(update, to))
            assert isinstance(refused, ConditionFailed)
            assert item_of(refused.item).holds(update)
    assert row_in(both, tables, key) == row


@pytest.mark.parametrize("kind", ["payer", "pair", "instrument"])
def test_an_item_that_closes_keeps_its_tokens(both, tables, kind):
    first, second = islice(attempts(f"closes-{kind}", kind), 2)
    written(both, tables, attempt_update(first, 0))
    tokens = tokens_of(row_in(both, tables, first.key))
    assert written(both, tables, upkeep_update(Raise(first.key, 0, CLOSED))) == {}
    item = item_of(row_in(both, tables, first.key))
    assert (item.level, item.holds(first), tokens) == (CLOSED, True, {first.token})
    assert isinstance(written(both, tables, attempt_update(second, 0)), ConditionFailed)


@pytest.mark.parametrize("kind", ["payer", "payee", "merchant", "instrument", "device"])
def test_a_slot_is_added_alone_and_neither_slot_nor_level_begins_an_item(both, tables, kind):
    update = next(attempts(f"slot-{kind}", kind, 1))
    assert update.slot is not None
    added = NewSlot(update.key, update.hour * SLOTS + (update.slot + 1) % SLOTS)
    for change in (added, Raise(update.key, 0, 2), Raise(update.key, 1, 2)):
        assert isinstance(written(both, tables, upkeep_update(change)), ConditionFailed)
    assert row_in(both, tables, update.key) == {}
    written(both, tables, attempt_update(update, 1))
    before = row_in(both, tables, update.key)
    assert written(both, tables, upkeep_update(added)) == {}
    after = row_in(both, tables, update.key)
    assert {name for name in after if after[name] != before[name]} == {"d"}
    assert set(after["d"]["NS"]) == {*before["d"]["NS"], str(added.slot)}


@pytest.mark.parametrize("kind", SIDES_OF_TYPE)
def test_a_repeat_is_refused_by_every_kind_and_gets_its_item(transport, tables, kind):
    recorded = Recorded(transport)
    store = declared_store(recorded, tables, RETENTION_DAYS, noon)
    transaction = own(f"repeat-{kind}", kind)
    moved = len(updates(transaction))
    first = counted(store, transaction).state
    written = [answer["Attributes"] for answer in recorded.answers[:moved]]
    counted(store, own(f"repeat-{kind}", kind, transaction_id="later"))
    again = counted(store, transaction).state

    refused = recorded.answers[:moved]
    assert len(refused) == moved == 4
    assert all(isinstance(answer, ConditionFailed) for answer in refused)
    assert not first.recounted
    assert again.recounted
    for update, before, answer in zip(updates(transaction), written, refused, strict=True):
        assert tokens_of(before) == {update.token}
        assert len(tokens_of(answer.item)) == 2
        assert attributes(before) == attributes(answer.item) > {"pk", "sk", "ttl"}
    assert measure(transaction, again)["payer_count_1m"] == 2


def tokens_of(row: Mapping[str, Any]) -> set[bytes]:
    """Return the tokens in all sets of an item."""
    return {binary(token) for name, value in row.items() if name[0] == "r" for token in value["BS"]}


def attributes(row: Mapping[str, Any]) -> set[str]:
    """Return the names of an item's attributes but those of its sets of tokens."""
    return {name for name in row if name[0] != "r"}


@pytest.mark.parametrize("kind", ["p2p", "merchant"])
def test_eight_writers_count_every_attempt_once_in_every_item(store, tables, dynamodb, kind):
    rng, name = random.Random(8), f"hot-{kind}"
    attempts = [
        own(name, kind, transaction_id=f"{name}-{n}", amount=10**11 - n, occurred_at=NOON + timedelta(seconds=n % 25))
        for n in range(30)
    ]
    tries = rng.sample(attempts * 3, 90)
    with ThreadPoolExecutor(8) as writers:
        list(writers.map(lambda each: counted(store, each), tries))
    memory = InMemoryCounters()
    for attempt in attempts:
        memory.count(attempt)
    for key, item in memory.items.items():
        raw = dynamodb.get_item(TableName=tables.counters, Key={"pk": {"S": key.pk}, "sk": {"S": key.sk}})["Item"]
        assert plain(item_of(raw)) == plain(item)
        assert tokens_of(raw) == set().union(*item.tokens.values())
        assert len(tokens_of(raw)) == 30


@pytest.mark.parametrize("kind", SIDES_OF_TYPE)
def test_an_item_expires_and_is_listed_for_the_fold_by_the_first_write(store, tables, dynamodb, kind):
    name = f"fold-{kind}"
    transaction = own(name, kind)
    counted(store, transaction)
    counted(store, own(name, kind, transaction_id=f"{name}-2", occurred_at=NOON + timedelta(minutes=50)))
    for update in updates(transaction):
        key = {"pk": {"S": update.key.pk}, "sk": {"S": update.key.sk}}
        raw = dynamodb.get_item(TableName=tables.counters, Key=key)["Item"]
        assert int(raw["ttl"]["N"]) == update.ttl
        assert ("fold" in raw) is (update.key.kind is not PAIR)
        if update.fold is not None:
            listed = dynamodb.query(
                TableName=tables.counters,
                IndexName="fold",
                KeyConditionExpression="#fold = :fold AND pk = :pk",
                ExpressionAttributeNames={"#fold": "fold"},
                ExpressionAttributeValues={":fold": {"S": update.fold}, ":pk": {"S": update.key.pk}},
            )
            assert [set(row) for row in listed["Items"]] == [{"pk", "sk", "fold"}]


def test_a_pair_drops_the_tokens_of_days_that_no_repair_reaches(store, tables, dynamodb):
    start = datetime.fromtimestamp(642 * 32 * DAY, tz=NOON.tzinfo)
    days = [own("closed", transaction_id=f"closed-{n}", occurred_at=start + timedelta(days=n)) for n in range(4)]
    for transaction in days:
        counted(store, transaction)
    key = Key(PAIR, pair_of(days[0]), 642)
    raw = dynamodb.get_item(TableName=tables.counters, Key={"pk": {"S": key.pk}, "sk": {"S": key.sk}})["Item"]
    assert sorted(name for name in raw if name[0] == "r") == ["r1", "r2", "r3"]
    assert counted(store, days[1]).state.recounted
    assert measure(days[3], counted(store, days[3]).state)["pair_count_7d"] == 4


def test_only_identifiers_of_a_payment_reach_the_counters(store, tables, dynamodb):
    counted(
        store,
        own("quiet", payer_name="SECRET 花子", payee_name="SECRET", ip="192.0.2.9", metadata={"SECRET": "SECRET"}),
    )
    rows = dynamodb.scan(TableName=tables.counters)["Items"]
    assert "SECRET" not in str(rows)
    assert "192.0.2.9" not in str(rows)


def test_the_update_of_a_payer_is_one_expression():
    payer, *_ = updates(payment())
    day = int(NOON.timestamp()) // DAY
    token = DECLARED.mac(payment().identity, day)[:6]
    assert attempt_update(payer, 0) == {
        "Key": {"pk": {"S": "payer#payer-1"}, "sk": {"S": f"d{day}"}},
        "UpdateExpression": (
            "SET #ttl = if_not_exists(#ttl, :ttl), #fold = if_not_exists(#fold, :fold)"
            f" ADD s4320 :v, m144 :v, h12 :v, e{slot_of('device-1', 'device')} :one, c10 :one, q12 :q, d :slots,"
            f" r{payer.leave} :tokens"
        ),
        "ConditionExpression": f"attribute_not_exists(l) AND NOT contains(r{payer.leave}, :token)",
        "ExpressionAttributeNames": {"#ttl": "ttl", "#fold": "fold"},
        "ExpressionAttributeValues": {
            ":v": {"N": "1200000000001"},
            ":ttl": {"N": str((day + 36) * DAY)},
            ":tokens": {"BS": [token]},
            ":token": {"B": token},
            ":slots": {"NS": [str(12 * SLOTS + slot_of("payee-1"))]},
            ":one": {"N": "1"},
            ":q": {"N": "12769000000000113"},  # 113 steps to 1,200 yen, and their square
            ":fold": {"S": payer.fold},
        },
        "ReturnValues": "ALL_NEW",
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }


def test_the_update_of_a_pair_removes_old_tokens_and_has_no_slots():
    day = int(NOON.timestamp()) // DAY
    request = attempt_update(updates(payment())[2], 0)
    removed = ", ".join(f"r{closed}" for closed in range(day % 32 - 2))
    assert removed.count("r") == 2
    assert request["UpdateExpression"] == (
        f"SET #ttl = if_not_exists(#ttl, :ttl) ADD b{day % 32} :v, r{day % 32} :tokens REMOVE {removed}"
    )
    assert request["Key"] == {"pk": {"S": "pair#payer-1|payee-1"}, "sk": {"S": f"b{day // 32}"}}


def test_a_merchants_item_spans_an_hour():
    hour = int(NOON.timestamp()) // 3600
    at = NOON + timedelta(minutes=59, seconds=59)
    _, merchant, *_ = updates(payment(type="merchant", occurred_at=at))
    request = attempt_update(merchant, 0)
    assert merchant.key.kind is MERCHANT
    assert request["Key"] == {"pk": {"S": "merchant#payee-1"}, "sk": {"S": f"h{hour}"}}
    assert request["UpdateExpression"] == (
        "SET #ttl = if_not_exists(#ttl, :ttl), #fold = if_not_exists(#fold, :fold)"
        f" ADD s359 :v, m11 :v, h0 :v, d :slots, r{merchant.leave} :tokens"
    )
    assert request["ExpressionAttributeValues"][":fold"]["S"].startswith(f"h{hour}#")
    assert request["ExpressionAttributeValues"][":ttl"] == {"N": str((hour + 1) * 3600 + 35 * DAY)}


# --- reading ----------------------------------------------------------------------------------------------------------


def test_a_projection_keeps_every_attribute_that_measure_reads():
    memory = InMemoryCounters()
    for transaction in chain.from_iterable(arrivals(random.Random(9), rounds=9, size=120, start=EVE)):
        state = memory.count(transaction)
        values = measure(transaction, state)
        assert measure(transaction, as_stored(transaction, state)) == values
        assert list(values) == list(NAMES)


@pytest.mark.parametrize("second", [0, 9, 10, 49, 59, 60, 299, 300, 3299, 3300, 3599, 3600, 86_399])
def test_a_projection_reaches_over_midnight_exactly_as_far_as_the_windows(second):
    midnight = NOON.replace(hour=0)
    before = [midnight - timedelta(seconds=10 * n - 5) for n in range(1, 8)]
    before += [midnight - timedelta(minutes=5 * n - 1) for n in range(1, 14)]
    memory = InMemoryCounters()
    for n, at in enumerate(before):
        memory.count(payment(transaction_id=f"t-{n}", occurred_at=at))
    transaction = payment(occurred_at=midnight + timedelta(seconds=second))
    state = memory.count(transaction)
    assert measure(transaction, as_stored(transaction, state)) == measure(transaction, state)
    assert len(fine(transaction)) == max(5 - second // 10, 0) + max(11 - second // 300, 0)


def fine(transaction: Transaction) -> list[str]:
    """Return the attributes of short buckets that are read of earlier items."""
    return [name for name in names_read(transaction) if name[0] in "sm" and name[1:].isdecimal()]


@pytest.mark.parametrize("second", [0, 9, 10, 49, 50, 59, 60, 299, 300, 3299, 3300, 3599])
def test_a_projection_of_a_merchant_reaches_over_the_hour_as_well(second):
    before = [NOON - timedelta(seconds=10 * n - 5) for n in range(1, 8)]
    before += [NOON - timedelta(minutes=5 * n - 1) for n in range(1, 14)]
    memory = InMemoryCounters()
    for n, at in enumerate(before):
        memory.count(payment(transaction_id=f"t-{n}", type="merchant", occurred_at=at))
    transaction = payment(type="merchant", occurred_at=NOON + timedelta(seconds=second))
    state = memory.count(transaction)
    assert measure(transaction, as_stored(transaction, state)) == measure(transaction, state)
    assert len(fine(transaction)) == max(5 - second // 10, 0) + max(11 - second // 300, 0)
    assert fine(payment(occurred_at=transaction.occurred_at)) == []  # its hours begin at noon, a day does not


def test_a_projection_names_no_tokens_and_only_the_payments_own_device():
    names = names_read(payment())
    assert len(names) == len(set(names))
    assert {name for name in names if name[0] in "re"} == {f"e{slot_of('device-1', 'device')}"}
    assert not any(name[0] == "e" for name in names_read(payment(device_id=None)))


class Scripted:
    """A transport that gives prepared responses to reads, empty items to updates, no watermarks, and takes the keys."""

    def __init__(self, reads: Sequence[Mapping[str, Any]]) -> None:
        self._reads = iter(reads)
        self.asked: list[Any] = []

    def gather(self, requests: Sequence[Request], until: float | None = None) -> list[Result]:
        del until
        return [self._answer(request) for request in requests]

    def _answer(self, request: Request) -> Response:
        if request.operation == "update_item":
            return {"Attributes": request.payload["Key"]}
        if request.operation == "put_item" and request.payload["Item"]["pk"] == {"S": KEYS}:
            return {}
        assert request.operation == "batch_get_item"
        wanted = request.payload["RequestItems"]
        if "fold#" in str(wanted):
            return {"Responses": {}}
        self.asked.append(wanted)
        return next(self._reads)


FAKE = Tables("c", "p", "d")
KEPT = Contents(b"{}", b"[]", b"kept").packed()


def leftover(n: int) -> dict[str, Any]:
    return {"p": {"Keys": [{"pk": {"S": f"left-{n}"}}]}}


def read_with(answers: Sequence[Mapping[str, Any]]) -> tuple[Scripted, DynamoStore]:
    transport = Scripted(answers)
    return transport, declared_store(transport, FAKE, RETENTION_DAYS, noon)


def test_unprocessed_keys_are_requested_again_and_all_responses_are_kept():
    transaction = payment()
    earlier = reads(updates(transaction))[0]
    row = {"pk": {"S": earlier.pk}, "sk": {"S": earlier.sk}, "h3": {"N": str(packed(1, 5))}}
    decision = {
        "pk": {"S": "t-1"},
        "body_identity": {"B": bytes(32)},
        PACKED: {"B": Contents(b"{}", b"[]", b"kept").packed()},
    }
    answers: list[dict[str, Any]] = [
        {"Responses": {"c": [row]}, "UnprocessedKeys": leftover(1)},
        {"Responses": {"p": [{"pk": {"S": "account#payer-1"}, "o5": {"N": "7"}}]}, "UnprocessedKeys": leftover(2)},
        {"Responses": {}, "UnprocessedKeys": leftover(3)},
        {"Responses": {"p": [{"pk": {"S": "device#device-1"}}]}, "UnprocessedKeys": leftover(4)},
        {"Responses": {"d": [decision]}, "UnprocessedKeys": {}},
    ]
    assert len(answers) == READ_ATTEMPTS + 1
    transport, store = read_with(answers)
    state, stored, *_ = counted(store, transaction)
    assert transport.asked[1:] == [leftover(n) for n in (1, 2, 3, 4)]
    assert state.items[earlier].buckets["h"] == {3: packed(1, 5)}
    assert state.profiles == {
        "account#payer-1": {"pk": "account#payer-1", "o5": 7},
        "device#device-1": {"pk": "device#device-1"},
    }
    assert stored == StoredDecision(bytes(32), b"kept", b"{}")


def test_keys_that_stay_unprocessed_raise_unavailable_error():
    transport, store = read_with([{"Responses": {}, "UnprocessedKeys": leftover(0)}] * 9)
    with pytest.raises(UnavailableError):
        counted(store, payment())
    assert len(transport.asked) == READ_ATTEMPTS + 1


def test_one_batch_reads_earlier_items_profiles_and_the_decision():
    transport, store = read_with([{"Responses": {}}])
    transaction = payment(ip="192.0.2.1", instrument_id="card-1")
    state, stored, *_ = counted(store, transaction)
    (asked,) = transport.asked
    assert [key["pk"]["S"] for key in asked["c"]["Keys"]] == [update.key.pk for update in updates(transaction)]
    assert sorted(key["pk"]["S"] for key in asked["p"]["Keys"]) == [
        *("account#payee-1", "account#payer-1", "device#device-1", "instrument#card-1", "ip#192.0.2.1"),
    ]
    assert asked["d"] == {"Keys": [{"pk": {"S": "t-1"}}], "ProjectionExpression": f"pk, body_identity, {PACKED}"}
    assert (state.recounted, stored) == (False, None)


def test_one_batch_reads_all_live_hours_of_a_merchant():
    transport, store = read_with([{"Responses": {}}])
    transaction = payment(type="merchant", ip="192.0.2.1", instrument_id="card-1")
    counted(store, transaction)
    (asked,) = transport.asked
    hour = int(NOON.timestamp()) // 3600
    hours = [key["sk"]["S"] for key in asked["c"]["Keys"] if key["pk"]["S"] == "merchant#payee-1"]
    assert hours == [f"h{hour - age}" for age in range(1, 16)]
    assert sum(len(table["Keys"]) for table in asked.values()) == 3 + 15 + 5 + 1


def test_one_account_on_both_sides_of_a_card_payment_is_read_once():
    transport, store = read_with([{"Responses": {}}])
    counted(store, payment(**SIDES_OF_TYPE["top_up"] | {"payee_id": "payer-1"}))
    keys = [key["pk"]["S"] for key in transport.asked[0]["p"]["Keys"]]
    assert len(keys) == len(set(keys))


# --- decisions --------------------------------------------------------------------------------------------------------


def record(transaction: Transaction, answer: bytes = b'{"outcome":"approve"}') -> DecisionRecord:
    state = InMemoryCounters().count(transaction)
    values = measure(transaction, state)
    snapshot = features.pack(features.vector(transaction, values))
    return DecisionRecord(transaction, answer, Outcome.APPROVE, NOON, values, snapshot, features.fingerprint())


def test_a_decision_is_stored_with_all_that_a_replay_needs(store, tables, dynamodb):
    transaction = own("kept", payer_name="花子")
    assert committed(store, record(transaction)) is None
    raw = dynamodb.get_item(TableName=tables.decisions, Key={"pk": {"S": transaction.transaction_id}})["Item"]
    contents = contents_of(raw)
    assert contents.transaction == transaction.canonical
    assert dict(zip(NAMES, json.loads(contents.counters), strict=True)) == record(transaction).counters
    assert contents.answer == record(transaction).answer
    assert bytes(raw["features"]["B"]) == record(transaction).features
    assert raw["fingerprint"]["S"] == features.fingerprint()
    assert (raw["outcome"]["S"], raw["decided_at"]["S"]) == ("approve", "2026-03-04T12:00:00.000000Z")
    assert int(raw["ttl"]["N"]) == int(NOON.timestamp()) + RETENTION_DAYS * DAY


def test_the_first_decision_stays_and_later_commits_return_it(store):
    transaction, answer = own("first"), '{"text":"花子"}'.encode()
    assert store.find(transaction.transaction_id) is None
    assert committed(store, record(transaction, answer)) is None
    kept = StoredDecision(transaction.identity, answer, transaction.canonical)
    assert committed(store, record(own("first", amount=7), b"another")) == kept
    assert store.find(transaction.transaction_id) == kept
    assert counted(store, transaction).stored == kept


def test_many_decisions_are_found_in_one_read_and_ids_without_one_are_left_out(transport, tables):
    recorded = Recorded(transport)
    store = declared_store(recorded, tables, RETENTION_DAYS, noon)
    kept = [own(f"many-{n}") for n in range(60)]
    for n, transaction in enumerate(kept):
        assert committed(store, record(transaction, b"%d" % n)) is None
    ids = {transaction.transaction_id for transaction in kept}
    found = store.find_all(ids | {f"never-{n}" for n in range(40)})
    assert found == {
        one.transaction_id: StoredDecision(one.identity, b"%d" % n, one.canonical) for n, one in enumerate(kept)
    }
    (request,) = recorded.requests
    assert request.payload["RequestItems"][tables.decisions]["ConsistentRead"] is True
    assert store.find_all({"never-1"}) == {}


def test_a_look_up_of_no_ids_sends_no_request():
    transport, store = read_with([])
    assert store.find_all(set()) == {}
    assert transport.asked == []


def test_unprocessed_decisions_are_requested_again():
    row = {
        "pk": {"S": "t-1"},
        "body_identity": {"B": bytes(32)},
        PACKED: {"B": Contents(b"{}", b"[]", b"kept").packed()},
    }
    left = {"d": {"Keys": [{"pk": {"S": "t-1"}}]}}
    transport, store = read_with([{"UnprocessedKeys": left}, {"Responses": {"d": [row]}}])
    assert store.find_all({"t-1", "t-2"}) == {"t-1": StoredDecision(bytes(32), b"kept", b"{}")}
    assert transport.asked[1] == left
    _, store = read_with([{"UnprocessedKeys": left}] * 9)
    with pytest.raises(UnavailableError):
        store.find_all({"t-1"})


def test_a_race_of_eight_commits_has_one_winner_whose_bytes_all_others_get(store):
    transaction = own("race")
    with ThreadPoolExecutor(8) as racers:
        winners = list(racers.map(lambda n: committed(store, record(transaction, b"%d" % n)), range(8)))
    assert winners.count(None) == 1
    kept = StoredDecision(transaction.identity, b"%d" % winners.index(None), transaction.canonical)
    assert [winner for winner in winners if winner is not None] == [kept] * 7


def test_a_race_of_eight_requests_is_decided_once_and_a_conflict_is_refused(store):
    evaluator = Evaluator(store, FixedScorer(0.6), rule_book(), lambda: NOON, 10)
    transaction = own("asked")
    with ThreadPoolExecutor(8) as racers:
        evaluations = list(racers.map(evaluator.evaluate, [transaction] * 8))
    assert len({evaluation.answer for evaluation in evaluations}) == 1
    assert sum(evaluation.decision is not None for evaluation in evaluations) == 1
    assert evaluator.evaluate(transaction).answer == evaluations[0].answer
    with pytest.raises(ConflictingBodyError):
        evaluator.evaluate(own("asked", amount=7))
    values = measure(transaction, counted(store, transaction).state)
    assert (values["payer_count_1h"], values["payer_sum_1h"]) == (1, transaction.amount)  # the conflict is taken back


# --- failures ---------------------------------------------------------------------------------------------------------


def test_a_request_that_dynamodb_refuses_is_an_error_that_no_retry_mends(transport):
    missing = declared_store(
        transport, Tables("no-such", "no-such-profiles", "no-such-decisions"), RETENTION_DAYS, noon
    )
    for read in (lambda: missing.find("t-1"), lambda: missing.find_all({"t-1"})):
        with pytest.raises(ServiceError, match="ResourceNotFoundException") as refused:
            read()
        assert not isinstance(refused.value, UnavailableError)
    with pytest.raises(ServiceError):
        counted(missing, payment())


def test_a_dynamodb_that_does_not_answer_raises_unavailable_error(tables, monkeypatch):
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{unheard.getsockname()[1]}")
        with pytest.raises(UnavailableError, match="ConnectionRefusedError"):
            declared_store(AwsClient(AwsIdentity.from_environment()), tables, RETENTION_DAYS, noon).find("t-1")
