"""Several payments in one call of the store: the requests sent together, and the effect of an error on each."""

import random
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest

from fraud.aws import dynamodb
from fraud.aws.dynamodb import KEYS_PER_READ
from fraud.aws.transport import ConditionFailed, Request, Result
from fraud.counters.codec import KEYS, item_of, keys_row, watermark_update
from fraud.counters.fold import SLICES, Progress
from fraud.counters.in_memory import InMemoryCounters
from fraud.counters.keys import DECLARED
from fraud.counters.layout import Item, Key, Slice, State, packed
from fraud.counters.sampling import BURST, CAPS
from fraud.counters.store import KEYS_LAST
from fraud.counters.windows import ABSENT, measure
from fraud.decisions.record import PACKED, DecisionRecord, StateRead, StoredDecision
from fraud.decisions.store import DynamoStore
from fraud.errors import HotKeyError, ServiceError, UnavailableError
from fraud.outcome import Outcome
from fraud.transaction import Transaction
from tests.support.deployment import TABLES, Deployment, declared_store
from tests.support.in_memory_dynamodb import InMemoryDynamoDB
from tests.support.payments import NOON, payment, updates

THROTTLED = UnavailableError("ThrottlingException")


class RecordingTransport:
    """`transport.Transport` to a table in memory, which keeps each call.

    fails    tells which requests get an error; the table does not see them
    answers  returns another response in place of the table's, which has carried out the request nevertheless
    """

    def __init__(self) -> None:
        self.calls: list[tuple[list[Request], float | None]] = []
        self.now = NOON
        self.fails: Callable[[Request], bool] = lambda _: False
        self.answers: Callable[[Request], Result | None] = lambda _: None
        self.table = InMemoryDynamoDB()
        self.table.tables[TABLES.profiles][(KEYS,)] = keys_row(DECLARED)
        for part in SLICES:
            self.fold_through(part)

    def fold_through(self, part: Slice) -> None:
        """Put the watermark of a first tick."""
        moved = watermark_update({part: None}, Progress(0))
        self.table.gather([Request("update_item", {"TableName": TABLES.profiles, **moved})])

    def gather(self, requests: Sequence[Request], until: float | None = None) -> list[Result]:
        self.calls.append((list(requests), until))
        return [THROTTLED if self.fails(request) else self._answer(request) for request in requests]

    def _answer(self, request: Request) -> Result:
        (answer,) = self.table.gather([request])
        other = self.answers(request)
        return answer if other is None else other


@pytest.fixture
def transport() -> RecordingTransport:
    return RecordingTransport()


@pytest.fixture
def store(transport: RecordingTransport) -> DynamoStore:
    """Return a store that has read the watermarks and the keys."""
    store = declared_store(transport, TABLES, 400, lambda: transport.now)
    store.count([])
    transport.calls.clear()
    return store


SIDES = {"payer": "a", "payee": "b", "device": "c"}


def strangers(number: int, name: str = "t") -> list[Transaction]:
    """Return payments that share no party."""
    return [
        payment(transaction_id=f"{name}-{n}", **{f"{side}_id": f"{letter}-{n}" for side, letter in SIDES.items()})
        for n in range(number)
    ]


def record(transaction: Transaction, answer: bytes = b"{}", uncounted: tuple[str, ...] = ()) -> DecisionRecord:
    return DecisionRecord(transaction, answer, Outcome.APPROVE, NOON, ABSENT, b"", "", uncounted)


def keys_of(request: Request) -> list[dict[str, Any]]:
    return [key for wanted in request.payload["RequestItems"].values() for key in wanted["Keys"]]


def reads(requests: Sequence[Request]) -> list[Request]:
    """Return the reads of the payments; the read of the watermarks is apart."""
    return [r for r in requests if r.operation == "batch_get_item" and TABLES.counters in r.payload["RequestItems"]]


def test_all_updates_and_as_few_reads_as_hold_the_keys_leave_together(transport, store):
    crowd = strangers(30)
    state_reads = store.count(crowd, 7.5)
    ((requests, until),) = transport.calls
    assert until == 7.5
    assert sum(request.operation == "update_item" for request in requests) == 4 * len(crowd)
    sizes = [len(keys_of(request)) for request in reads(requests)]
    of_one = len(keys_of(reads(alone(crowd[0]))[0]))
    assert max(sizes) <= KEYS_PER_READ
    assert sizes == [KEYS_PER_READ // of_one * of_one] * (len(sizes) - 1) + [sizes[-1]]
    assert sum(sizes) == of_one * len(crowd)
    assert [state_read.failure for state_read in state_reads] == [None] * len(crowd)
    for transaction, state_read in zip(crowd, state_reads, strict=True):
        assert {update.key for update in updates(transaction)} <= state_read.state.items.keys()


def test_a_read_takes_as_many_keys_as_dynamodb_does(transport, store):
    without_device = [
        payment(transaction_id=f"u-{n}", payer_id=f"d-{n}", payee_id=f"e-{n}", device_id=None) for n in range(2)
    ]
    store.count([*strangers(11), *without_device])
    ((requests, _),) = transport.calls
    assert [len(keys_of(request)) for request in reads(requests)] == [KEYS_PER_READ]


def test_payments_counted_together_find_the_state_that_each_would_find_alone():
    state_reads = []
    for together in (True, False):
        transport = RecordingTransport()
        store = declared_store(transport, TABLES, 400, lambda: NOON)
        for n in range(8):
            store.count(strangers(7, f"known-{n}"))
        crowd = strangers(7)
        store.commit([record(crowd[3])])
        state_reads.append(
            store.count(crowd) if together else [state_read for one in crowd for state_read in store.count([one])]
        )
    assert [*map(plain, state_reads[0])] == [*map(plain, state_reads[1])]
    assert [state_read.stored is not None for state_read in state_reads[0]] == [n == 3 for n in range(7)]
    for transaction, state_read in zip(crowd, state_reads[0], strict=True):
        values = measure(transaction, state_read.state)
        assert {values[name] for name in ("payer_count_1h", "payee_count_1h", "device_count_1h")} == {9}


def plain(state_read: StateRead) -> tuple[Any, ...]:
    """Return a StateRead as values that compare."""
    items = {key: (item.buckets, item.slots, item.devices) for key, item in state_read.state.items.items()}
    return (
        items,
        state_read.state.profiles,
        state_read._replace(state=State({}, {}, state_read.state.recounted, state_read.state.stale)),
    )


def alone(transaction: Transaction) -> list[Request]:
    """Return the requests that one payment takes."""
    transport = RecordingTransport()
    declared_store(transport, TABLES, 400, lambda: NOON).count([transaction])
    return transport.calls[-1][0]


def test_no_payments_take_no_request_but_for_the_watermarks(transport):
    store = declared_store(transport, TABLES, 400, lambda: NOON)
    assert store.count([]) == []
    assert store.count([]) == []
    assert [len(requests) for requests, _ in transport.calls] == [1, 0, 0]


def test_an_update_without_a_response_affects_only_its_own_payment(transport, store):
    first, second, third = crowd = strangers(3)
    transport.fails = lambda request: (
        request.payload.get("Key", {}).get("pk") in ({"S": "payee#b-1"}, {"S": "device#c-1"})
    )
    state_reads = store.count(crowd)
    assert [state_read.failure for state_read in state_reads] == [None, THROTTLED, None]
    assert [[key.kind.name for key in state_read.uncounted] for state_read in state_reads] == [
        [],
        ["payee", "device"],
        [],
    ]
    assert all(state_read.read for state_read in state_reads)
    assert {key.kind.name for key in state_reads[1].state.items} == {"payer", "pair"}
    transport.fails = lambda _: False
    again = store.count([first, second, third])
    assert [state_read.state.recounted for state_read in again] == [True] * 3
    assert {len(state_read.state.items) for state_read in again} == {4}


def test_a_read_without_a_response_affects_only_its_own_payments(transport, store):
    crowd = strangers(20)
    store.commit([record(transaction) for transaction in crowd])
    transport.fails = lambda request: (
        request.operation == "batch_get_item" and {"pk": {"S": "t-19"}} in keys_of(request)
    )
    state_reads = store.count(crowd)
    unread = [n for n, state_read in enumerate(state_reads) if not state_read.read]
    assert 0 < len(unread) < len(crowd)
    assert unread[-1] == 19
    assert [state_read.stored is None for state_read in state_reads] == [
        not state_read.read for state_read in state_reads
    ]
    assert [state_read.failure for state_read in state_reads] == [
        None if state_read.read else THROTTLED for state_read in state_reads
    ]
    assert {state_read.uncounted for state_read in state_reads} == {()}


def is_watermark_read(request: Request) -> bool:
    return request.operation == "batch_get_item" and not reads([request])


def test_watermarks_that_cannot_be_read_make_a_state_stale_but_not_incomplete(transport, store):
    transport.fails = is_watermark_read
    transport.now += timedelta(minutes=1)
    (state_read,) = store.count(strangers(1))
    assert (state_read.failure, state_read.state.stale) == (None, True)
    ((requests, _),) = transport.calls
    assert len(requests) == 6
    (watermarks,) = requests[-1].payload["RequestItems"].values()
    assert watermarks["ConsistentRead"] is False  # at half the price: an old one errs on the safe side


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("age", "rounds"), [(KEYS_LAST - timedelta(seconds=1), 1), (KEYS_LAST, 2)])
def test_no_payment_is_counted_by_keys_that_are_hours_old(transport, store, age, rounds, sign):
    transport.now += sign * age
    store.count(strangers(1), 7.5)
    assert [until for _, until in transport.calls] == [7.5] * rounds
    assert [len(requests) for requests, _ in transport.calls] == [*([1] * (rounds - 1)), 5 + (rounds == 1)]


def test_a_prepared_store_counts_the_first_payment_in_one_step(transport):
    store = declared_store(transport, TABLES, 400, lambda: transport.now)
    transport.fails = is_watermark_read
    with pytest.raises(UnavailableError):
        store.prepare(7.5)
    transport.fails = lambda _: False
    store.prepare(7.5)
    assert [(len(requests), until) for requests, until in transport.calls] == [(1, 7.5)] * 2
    transport.calls.clear()
    (state_read,) = store.count(strangers(1))
    assert state_read.state.stale is True  # the watermark is one of 1970
    assert [len(requests) for requests, _ in transport.calls] == [5]


def test_watermarks_are_read_again_until_all_exist(transport):
    transport.table.tables[TABLES.profiles].clear()
    store = declared_store(transport, TABLES, 400, lambda: transport.now)
    for part in SLICES:
        store.count([])
        transport.fold_through(part)
    transport.calls.clear()
    for _ in range(3):
        store.count([])
    assert [len(requests) for requests, _ in transport.calls] == [1, 0, 0]


def test_a_store_without_keys_counts_nothing_and_returns_the_failure(transport):
    store = declared_store(transport, TABLES, 400, lambda: NOON)
    transport.fails = is_watermark_read
    crowd = strangers(2)
    for state_read in store.count(crowd, 7.5):
        assert (state_read.failure, state_read.read, state_read.stored, state_read.state.items) == (
            THROTTLED,
            False,
            None,
            {},
        )
        assert [key.kind.name for key in state_read.uncounted] == ["payer", "payee", "pair", "device"]
    assert [(len(requests), until) for requests, until in transport.calls] == [(1, 7.5)]
    with pytest.raises(UnavailableError):
        store.count_again(crowd[0], ["payer"])
    transport.fails = lambda _: False
    assert [state_read.state.recounted for state_read in store.count(crowd)] == [False, False]


def test_each_commit_returns_its_error_the_earlier_decision_or_none_in_its_place(transport, store):
    new, known, failing = strangers(3)
    store.commit([record(known, b"theirs")])
    transport.calls.clear()
    transport.fails = lambda request: request.payload.get("Item", {}).get("pk") == {"S": failing.transaction_id}
    kept = store.commit([record(new), record(known), record(failing)], 7.5)
    theirs = StoredDecision(known.identity, b"theirs", known.canonical)
    assert kept == [None, theirs, THROTTLED]
    ((requests, until),) = transport.calls
    assert (len(requests), until) == (3, 7.5)
    ours = StoredDecision(new.identity, b"{}", new.canonical)
    assert store.find_all({"t-0", "t-1", "t-2"}) == {"t-0": ours, "t-1": theirs}


def test_a_look_up_is_given_the_deadline_and_raises_its_error(transport, store):
    assert store.find("t-1", 7.5) is None
    assert [until for _, until in transport.calls] == [7.5]
    transport.fails = lambda _: True
    with pytest.raises(UnavailableError):
        store.find("t-1")


def test_only_the_kinds_named_are_counted_again_and_an_error_is_raised(transport, store):
    (transaction,) = strangers(1)
    assert [key.kind.name for key in store.count_again(transaction, ["pair", "payer"])] == ["payer", "pair"]
    ((requests, _),) = transport.calls
    assert [request.payload["Key"]["pk"]["S"] for request in requests] == ["payer#a-0", "pair#a-0|b-0"]
    transport.fails = lambda request: request.payload["Key"]["pk"]["S"].startswith("pair")
    with pytest.raises(ServiceError):
        store.count_again(transaction, ["pair", "payer"])


MALFORMED: dict[str, Any] = {
    "no responses": {},
    "a refused read": ConditionFailed({}),
    "a refused read with the stored item": ConditionFailed({"pk": {"S": "t-0"}}),
    "a list for tables": {"Responses": []},
    "null for rows": {"Responses": {"counters": None}},
    "null for a row": {"Responses": {"profiles": [None]}},
    "a map for rows": {"Responses": {"profiles": {"pk": {"S": "account#a-0"}}}},
    "no pk": {"Responses": {"profiles": [{"o": {"B": ""}}]}},
    "no sk": {"Responses": {"counters": [{"pk": {"S": "payer#a-0"}}]}},
    "no folded history": {"Responses": {"profiles": [{"pk": {"S": "account#a-0"}, "o": {"B": "AAAA"}}]}},
    "no decision": {"Responses": {"decisions": [{"pk": {"S": "t-0"}, PACKED: {"B": "AAAA"}}]}},
}
"""Malformed responses to reads."""


@pytest.mark.parametrize("of", MALFORMED)
def test_a_malformed_response_leaves_its_payment_unread_and_every_other_complete(transport, store, of):
    transport.answers = lambda request: (
        MALFORMED[of] if request.operation == "batch_get_item" and "a-0" in str(request) else None
    )
    one, other = strangers(2)
    ((state_read,), (sound,)) = store.count([one]), store.count([other])
    assert isinstance(state_read.failure, UnavailableError)
    assert (state_read.stored, state_read.read) == (None, False)
    assert (sound.failure, sound.uncounted, sound.read) == (None, (), True)
    transport.answers = lambda _: None
    (again,) = store.count([one])
    assert (again.failure, len(again.state.items)) == (None, 4)


MALFORMED_UPDATES: dict[str, tuple[Any, Any]] = {
    "no attributes": ({}, {"Item": 7}),
    "an empty item": ({"Attributes": {}}, {"Item": {"h1": None}}),
    "a list for an item": ({"Attributes": ["s1"]}, {"Item": ["s1"]}),
    "a value without a type": ({"Attributes": {"s1": "7"}}, {"Item": {"s1": "7"}}),
    "a number that is none": ({"Attributes": {"s1": {"N": "x"}}}, {"Item": {"s1": {"N": "x"}}}),
    "a refusal without the item": (ConditionFailed({}), ConditionFailed({})),
}
"""Malformed responses to updates, and to reads of one item."""


def of_payer(request: Request) -> bool:
    return request.payload.get("Key", {}).get("pk") == {"S": "payer#a-0"}


@pytest.mark.parametrize("of", MALFORMED_UPDATES)
def test_an_item_whose_update_has_a_malformed_response_is_looked_up(transport, store, of):
    transport.answers = lambda request: (
        MALFORMED_UPDATES[of][0] if of_payer(request) and request.operation == "update_item" else None
    )
    one, other = strangers(2)
    state_read, sound = store.count([one, other])
    assert (state_read.failure, state_read.uncounted, state_read.state.recounted) == (None, (), True)
    assert measure(one, state_read.state) == measure(other, sound.state)
    assert [[request.operation for request in requests] for requests, _ in transport.calls[1:]] == [["get_item"]]


@pytest.mark.parametrize("of", MALFORMED_UPDATES)
def test_an_item_whose_every_response_is_malformed_is_unseen_and_every_other_complete(transport, store, of):
    update, item = MALFORMED_UPDATES[of]
    transport.answers = lambda request: (
        (update if request.operation == "update_item" else item) if of_payer(request) else None
    )
    one, other = strangers(2)
    state_read, sound = store.count([one, other])
    assert isinstance(state_read.failure, UnavailableError)
    assert [key.kind.name for key in state_read.uncounted] == ["payer"]
    assert state_read.unread == {"payer"}
    assert state_read.read
    assert {key.kind.name for key in state_read.state.items} == {"payee", "pair", "device"}
    assert (sound.failure, sound.uncounted, sound.read) == (None, (), True)
    transport.answers = lambda _: None
    (again,) = store.count([one])
    assert (again.failure, len(again.state.items)) == (None, 4)


def test_an_item_whose_update_fails_while_it_can_be_read_is_seen_with_the_payment_once(transport, store):
    (before,), (one,) = strangers(1, "before"), strangers(1)
    store.count([before])
    transport.fails = lambda request: of_payer(request) and request.operation == "update_item"
    for _ in range(2):
        (state_read,) = store.count([one])
        assert state_read.failure is THROTTLED
        assert [key.kind.name for key in state_read.uncounted] == ["payer"]
        assert state_read.unread == frozenset()
        values = measure(one, state_read.state)
        assert [values[f"{kind}_count_1h"] for kind in ("payer", "payee", "device")] == [2, 2, 2]


@pytest.mark.parametrize("of", ["no responses", "null for a row", "no pk"])
def test_malformed_watermarks_are_not_taken_over(transport, store, of):
    transport.answers = lambda request: MALFORMED[of] if is_watermark_read(request) else None
    transport.now += timedelta(minutes=1)
    (state_read,) = store.count(strangers(1))
    assert state_read.failure is None
    transport.now += KEYS_LAST
    (state_read,) = store.count(strangers(1))
    assert isinstance(state_read.failure, UnavailableError)


@pytest.mark.parametrize(
    "answer", [ConditionFailed({}), ConditionFailed({"body_identity": {"B": "AA=="}, PACKED: {"B": "AAAA"}})]
)
def test_an_earlier_decision_that_cannot_be_read_is_an_error_of_its_own_commit(transport, store, answer):
    one, other = strangers(2)
    transport.answers = lambda request: answer if request.payload.get("Item", {}).get("pk") == {"S": "t-0"} else None
    error, kept = store.commit([record(one), record(other)])
    assert isinstance(error, UnavailableError)
    assert kept is None


def test_a_decision_that_cannot_be_read_is_an_error_and_not_a_missing_one(transport, store):
    broken = {"pk": {"S": "t-1"}, "body_identity": {"B": "AA=="}, PACKED: {"B": "AAAA"}}
    transport.table.tables[TABLES.decisions][("t-1",)] = broken
    with pytest.raises(UnavailableError):
        store.find("t-1")
    with pytest.raises(UnavailableError):
        store.find_all({"t-1"})


PAUSE_S = 0.2
"""Much longer than a call in memory, even on a busy machine."""


def test_no_pause_lasts_beyond_the_deadline(transport, store, monkeypatch):
    monkeypatch.setattr(dynamodb, "PAUSE_S", PAUSE_S)
    left = {TABLES.profiles: {"Keys": [{"pk": {"S": "account#a-0"}}]}}
    unprocessed = {"Responses": {}, "UnprocessedKeys": left}
    transport.answers = lambda request: unprocessed if request.operation == "batch_get_item" else None
    for ahead_s in (-1.0, 0.0, PAUSE_S):
        transport.calls.clear()
        until = time.monotonic() + ahead_s
        (state_read,) = store.count(strangers(1), until)
        assert str(state_read.failure) == "UnprocessedKeys"
        assert len(transport.calls) == 1
        assert state_read.uncounted == ()
    transport.calls.clear()
    store.count(strangers(1), time.monotonic() + 1.9 * PAUSE_S)
    assert len(transport.calls) == 2


def left_unread(stored: InMemoryDynamoDB, table: str, pk: str) -> Callable[[Request], Result | None]:
    """Return answers that leave all keys of one partition unprocessed, and give the other rows."""

    def answer(request: Request) -> Result | None:
        if request.operation != "batch_get_item":
            return None
        asked = request.payload["RequestItems"]
        hot = [key for key in asked[table]["Keys"] if key["pk"] == {"S": pk}]
        cool = {name: {**each, "Keys": [key for key in each["Keys"] if key not in hot]} for name, each in asked.items()}
        rest = {name: each for name, each in cool.items() if each["Keys"]}
        (found,) = stored.gather([Request("batch_get_item", {"RequestItems": rest})])
        return {**found, "UnprocessedKeys": {table: {**asked[table], "Keys": hot}} if hot else {}}

    return answer


def test_items_that_a_hot_partition_leaves_unread_take_only_their_kind_away(transport, store, monkeypatch):
    monkeypatch.setattr(dynamodb, "PAUSE_S", 0)
    shop = [payment(transaction_id=f"t-{n}", type="merchant", payee_id="shop") for n in range(3)]
    store.count(shop[:1])
    store.commit([record(shop[0])])
    transport.answers = left_unread(transport.table, TABLES.counters, "merchant#shop")
    first, second = store.count([shop[0], shop[1]])
    assert (first.stored is not None, second.stored) == (True, None)
    for state_read in (first, second):
        assert (state_read.read, state_read.uncounted, state_read.away) == (True, (), ["merchant"])
        assert (state_read.unread, state_read.flooded) == ({"merchant"}, {"merchant"})
        assert isinstance(state_read.failure, HotKeyError)
    transport.answers = left_unread(transport.table, TABLES.profiles, "account#payer-1")
    (blind,) = store.count([shop[2]])
    assert (blind.read, str(blind.failure)) == (False, "UnprocessedKeys")


def test_the_row_names_the_kinds_that_are_uncounted(transport, store):
    one, other = strangers(2)
    store.commit([record(one, uncounted=("payer", "pair")), record(other)])
    rows = [request.payload["Item"] for requests, _ in transport.calls for request in requests]
    assert [row.get("uncounted") for row in rows] == [{"S": "payer pair"}, None]


def test_decisions_are_looked_up_consistently_because_a_stale_read_would_hide_a_new_one(transport, store):
    store.find("t-1")
    store.find_all({"t-1", "t-2"})
    (one,), (several,) = (requests for requests, _ in transport.calls)
    assert one.payload["ConsistentRead"] is True
    assert several.payload["RequestItems"][TABLES.decisions]["ConsistentRead"] is True


# --- sampled items ----------------------------------------------------------------------------------------------------


def to_shop(name: str, **fields: Any) -> Transaction:
    return payment(
        **{"transaction_id": name, "type": "merchant", "payee_id": "shop", "payer_id": name, "device_id": None} | fields
    )


def crowd_at_shop(transport: RecordingTransport, tokens: int) -> Key:
    """Put the shop's item of this hour with as many tokens. Return its key."""
    key = updates(to_shop("t-0"))[1].key
    row = {"h0": {"N": str(packed(tokens, tokens))}, "r0": {"BS": [n.to_bytes(6) for n in range(tokens)]}}
    transport.table.tables[TABLES.counters][(key.pk, key.sk)] = {"pk": {"S": key.pk}, "sk": {"S": key.sk}} | row
    return key


def level_of(transport: RecordingTransport, key: Key) -> int:
    return item_of(transport.table.tables[TABLES.counters][(key.pk, key.sk)]).level


@pytest.mark.parametrize("kind", ["merchant", "p2p"])
def test_counters_in_memory_are_those_of_the_tables_also_when_items_are_sampled(kind):
    deployed, memory = Deployment(), InMemoryCounters()
    deployed.folding.tick()
    rng = random.Random(10)
    moments = [NOON + timedelta(seconds=n / 50) for n in range(BURST + 1)]  # the last of them raises the level
    moments += [NOON + timedelta(hours=1, seconds=20 * n) for n in range(30)]
    for n, deployed.now in enumerate(moments):
        amount = int(rng.lognormvariate(7, 2)) + 1 if n <= BURST else 7
        one = to_shop(f"t-{n}", type=kind, amount=amount, device_id=f"d-{n % 90}", occurred_at=deployed.now)
        (state_read,) = deployed.store.count([one])
        assert measure(one, state_read.state) == measure(one, memory.count(one))
        deployed.store.commit([record(one)._replace(upkeep=state_read.upkeep)])
    stored = {place: item_of(row) for place, row in deployed.table.tables[TABLES.counters].items() if "l" in row}
    kept = {(key.pk, key.sk): item for key, item in memory.items.items() if item.level}
    assert len(kept) == (2 if kind == "merchant" else 1)
    assert {place: plain_item(item) for place, item in stored.items()} == {
        place: plain_item(item) for place, item in kept.items()
    }


def plain_item(item: Item) -> tuple[Any, ...]:
    """Return an item as values that compare."""
    return item.level, item.buckets, item.slots, {name: tokens for name, tokens in item.tokens.items() if tokens}


def test_a_raise_is_sent_beside_the_commit_once_and_is_not_stored(transport, store):
    key = crowd_at_shop(transport, CAPS["h"] + 1)
    crowd = [to_shop(f"t-{n}") for n in range(3)]
    state_reads = store.count(crowd)
    assert {change.key for each in state_reads for change in each.upkeep} == {key}
    assert all(each.state.estimated == [] for each in state_reads)
    transport.calls.clear()
    raises = state_reads[-1].upkeep
    assert store.commit([record(each)._replace(upkeep=raises) for each in crowd]) == [None] * 3
    ((requests, _),) = transport.calls
    assert [request.operation for request in requests] == ["put_item"] * 3 + ["update_item"]
    assert not any("upkeep" in request.payload.get("Item", {}) for request in requests)
    assert level_of(transport, key) > 0
    (state_read,) = store.count([to_shop("t-3")])
    assert state_read.state.estimated == ["merchant"]


def test_a_raise_that_fails_fails_no_commit_and_comes_again_with_the_next_payment(transport, store):
    key = crowd_at_shop(transport, CAPS["h"] + 1)
    transport.fails = lambda request: request.payload.get("UpdateExpression", "").startswith("SET l")
    levels = []
    for name in ("t-1", "t-2"):
        (state_read,) = store.count([to_shop(name)])
        assert state_read.failure is None
        assert store.commit([record(to_shop(name))._replace(upkeep=state_read.upkeep)]) == [None]
        levels.append(level_of(transport, key))
        transport.fails = lambda _: False
    assert [level > 0 for level in levels] == [False, True]


def test_items_known_to_be_sampled_or_closed_are_named_without_a_call(transport, store):
    key = crowd_at_shop(transport, 1)
    other = to_shop("t-2", occurred_at=NOON + timedelta(hours=1))
    one = to_shop("t-1")
    assert store.sampled(one) == frozenset()
    transport.table.tables[TABLES.counters][(key.pk, key.sk)]["l"] = {"N": "5"}
    store.count([one])
    transport.calls.clear()
    assert store.sampled(to_shop("t-3")) == store.sampled(other) == {"merchant#shop"}
    assert store.sampled(to_shop("t-4", payee_id="stall")) == frozenset()
    assert store.sampled(to_shop("t-5", type="p2p")) == frozenset()
    assert transport.calls == []


def test_a_level_once_known_is_presumed_so_that_an_attempt_takes_one_step(transport, store):
    key = crowd_at_shop(transport, 1)
    transport.table.tables[TABLES.counters][(key.pk, key.sk)]["l"] = {"N": "2"}
    crowd = [to_shop(f"t-{n}", amount=10**6) for n in range(3)]
    steps = []
    for transaction in crowd:
        transport.calls.clear()
        (state_read,) = store.count([transaction])
        assert (state_read.failure, state_read.uncounted) == (None, ())
        steps.append(len(transport.calls))
    assert steps == [2, 1, 1]


# --- what is taken back -----------------------------------------------------------------------------------------------


def test_what_was_counted_is_taken_back_together_and_a_token_that_is_gone_is_as_good(transport, store):
    (one,) = strangers(1)
    (state_read,) = store.count([one])
    assert [update.key.kind.name for update, _ in state_read.revocable] == ["payer", "payee", "pair", "device"]
    transport.calls.clear()
    for _ in range(2):
        store.take_back(state_read.revocable, 7.5)
    assert [(len(requests), until) for requests, until in transport.calls] == [(4, 7.5)] * 2
    (again,) = store.count([one])
    assert not again.state.recounted
    assert measure(one, again.state) == measure(one, state_read.state)


def test_a_take_back_without_a_response_is_an_error(transport, store):
    (one,) = strangers(1)
    (state_read,) = store.count([one])
    transport.fails = of_payer
    with pytest.raises(UnavailableError):
        store.take_back(state_read.revocable)


def test_nothing_to_take_back_takes_no_request(transport, store):
    store.take_back(())
    assert transport.calls == []
