"""The shard table: how schedules change, that no counter changes by a split, and that the fold writes the table."""

import json
import random
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import metering
from fraud.aws.dynamodb import KEYS_PER_READ
from fraud.aws.transport import Request, Result
from fraud.counters.codec import SHARDS, shard_update, size_of
from fraud.counters.in_memory import InMemoryCounters
from fraud.counters.layout import (
    DAY,
    KEEP_DAYS,
    KINDS,
    MERCHANT,
    PAIR,
    PAYEE,
    SLOTS,
    Item,
    Key,
    Shards,
    ShardSchedule,
    Update,
    merged,
    packed,
    siblings,
    updates,
)
from fraud.counters.sharding import (
    AHEAD_DAYS,
    LAST_DAYS,
    MOST_ENTITIES,
    NUMBERS,
    RENEWED_DAYS,
    extended,
    parse_split_request,
    shards_wanted,
)
from fraud.counters.windows import measure
from fraud.counters.worker import ATTEMPTS, RESERVE_MS
from fraud.errors import InvalidRequestError, ServiceError, UnavailableError
from fraud.transaction import Transaction
from tests.support.deployment import TABLES, Deployment
from tests.support.fakes import counted
from tests.support.payments import NOON, arrivals, payment

TODAY = int(NOON.timestamp()) // DAY
HOUR = int(NOON.timestamp()) // 3600
SHOP = {"type": "merchant", "payee_id": "shop"}


def on(steps: ShardSchedule, day: int) -> int:
    return Shards({"payee#x": steps}).of(PAYEE, "x", day)


# --- how a schedule changes ------------------------------------------------------------------------------------------

WANTS = st.lists(st.tuples(st.integers(0, 20), st.sampled_from(NUMBERS)), max_size=25)


def history(wants: Sequence[tuple[int, int]]) -> tuple[ShardSchedule, int]:
    """Return the schedule after a series of (days later, wanted number of shards), and the last day."""
    steps: ShardSchedule = ()
    today = TODAY
    for later, number in wants:
        today += later
        steps = extended(steps, today, number)
    return steps, today


@given(WANTS, st.sampled_from(NUMBERS))
def test_no_day_before_the_day_after_tomorrow_changes_and_later_days_get_enough_shards(wants, number):
    before, today = history(wants)
    after = extended(before, today, number)
    settled = range(today - KEEP_DAYS - 1, today + 2)
    assert [on(after, day) for day in settled] == [on(before, day) for day in settled]
    behind = range(today + AHEAD_DAYS, today + AHEAD_DAYS + RENEWED_DAYS)
    assert all(on(after, day) >= max(number, on(before, day)) for day in behind)
    assert on(after, today + AHEAD_DAYS + LAST_DAYS) == 1
    assert extended(after, today, number) == after


@given(WANTS, st.sampled_from(NUMBERS), st.sampled_from(NUMBERS))
def test_wanting_more_shards_never_gives_a_day_fewer(wants, one, other):
    steps, today = history(wants)
    less, more = (extended(steps, today, number) for number in sorted((one, other)))
    days = range(today - KEEP_DAYS, today + 2 * LAST_DAYS)
    assert all(on(less, day) <= on(more, day) for day in days)


@given(WANTS)
def test_steps_are_few_and_ascending_and_are_removed_when_no_item_needs_them(wants):
    steps, today = history(wants)
    assert all(day < later and number != then for (day, number), (later, then) in pairwise(steps))
    assert [number for _, number in steps[:1]] != [1]
    assert [number for _, number in steps[-1:]] in ([], [1])
    assert len(steps) <= (KEEP_DAYS + LAST_DAYS) // 2
    assert extended(steps, today + AHEAD_DAYS + LAST_DAYS + KEEP_DAYS + 1, 1) == ()


def test_an_entity_that_stays_hot_is_written_once_a_week():
    steps: ShardSchedule = ()
    changes = 0
    for day in range(TODAY, TODAY + 100):
        after = extended(steps, day, 8)
        changes += after != steps
        steps = after
    assert changes == -(-100 // (LAST_DAYS - RENEWED_DAYS + 1))
    assert steps[0] == (TODAY + AHEAD_DAYS, 8)
    assert len(steps) == 2


def filled(hours: int, count: int, slots: int) -> Item:
    item = Item(slots=dict.fromkeys(range(hours), (1 << slots) - 1))
    item.buckets["h"] = dict.fromkeys(range(hours), packed(count, 700 * count))
    return item


@pytest.mark.parametrize(
    ("item", "number"),
    [
        (Item(), 1),
        (filled(1, 5_000, SLOTS), 1),
        (filled(1, 8_000, SLOTS), 2),
        (filled(24, 100, 100), 1),
        (filled(24, 120, 100), 2),
        (filled(1, 60_000, 1), 8),
        (filled(24, 10**6, SLOTS), 64),
    ],
)
def test_a_period_wants_the_least_power_of_two_that_keeps_its_items_small(item, number):
    assert shards_wanted(item) == number


def test_the_estimated_size_is_close_to_the_size_in_dynamodb():
    deployed = Deployment()
    for n in range(300):
        deployed.now = NOON + timedelta(seconds=11 * n)
        paid = deployed.pay(transaction_id=f"t-{n}", payer_id=f"payer-{n}", **SHOP)
    update = updates(paid)[1]
    item = deployed.table.tables[TABLES.counters][update.key.pk, update.key.sk]
    assert metering.size_of(item) < size_of(update, item) < metering.size_of(item) * 1.3


@pytest.mark.parametrize("number", NUMBERS)
def test_a_request_to_split_names_an_entity_and_a_power_of_two(number):
    assert parse_split_request({"split": "merchant#shop:1", "shards": number}) == ("merchant#shop:1", number)


@pytest.mark.parametrize(
    ("fields", "rules"),
    [
        ({"split": "shop#1"}, ["unknown_entity"]),
        ({"split": "pair#a|b"}, ["unknown_entity"]),
        ({"split": "payee"}, ["unknown_entity"]),
        ({"split": "payee#a#1"}, ["unknown_entity"]),
        ({"split": None}, ["unknown_entity"]),
        ({"shards": 0}, ["unknown_number"]),
        ({"shards": 3}, ["unknown_number"]),
        ({"shards": 128}, ["unknown_number"]),
        ({"shards": "8"}, ["unknown_number"]),
        ({"shards": True}, ["unknown_number"]),
        ({"split": "", "shards": None}, ["unknown_entity", "unknown_number"]),
    ],
)
def test_a_wrong_request_to_split_names_its_faults(fields, rules):
    with pytest.raises(InvalidRequestError) as refused:
        parse_split_request({"split": "payee#a", "shards": 8} | fields)
    assert [fault.rule for fault in refused.value.faults] == rules


# --- keys and updates of shards --------------------------------------------------------------------------------------

IN_FOUR = Shards({kind.key(name): ((0, 4),) for kind in KINDS.values() for name in ("payer-1", "shop", "payer-1|shop")})


def test_shards_of_a_period_differ_in_their_key_and_share_period_and_slice():
    paid = [payment(transaction_id=f"t-{n}", **SHOP) for n in range(400)]
    moved = [updates(each, IN_FOUR) for each in paid]
    found = {
        kind: Counter(update.key for all_ in moved for update in all_ if update.key.kind is kind)
        for kind in KINDS.values()
    }
    merchants = found[MERCHANT]
    assert {key.pk for key in merchants} == {"merchant#shop", "merchant#shop#1", "merchant#shop#2", "merchant#shop#3"}
    assert len({key.slice for key in merchants}) == len({key.whole for key in merchants}) == 1
    assert min(merchants.values()) > 70
    assert len(found[PAIR]) == 1
    for update in moved[0]:
        assert {*siblings(update, IN_FOUR), update.key} == set(update.key.whole.split(IN_FOUR))
    assert [updates(each, IN_FOUR) for each in paid] == moved
    assert len({update.token[:1] for all_ in moved for update in all_ if update.key == moved[0][1].key}) > 64


def test_an_update_of_a_shard_differs_from_the_unsplit_update_in_its_key_only():
    for one, other in zip(updates(payment(**SHOP)), updates(payment(**SHOP), IN_FOUR), strict=True):
        assert one == other._replace(key=other.key.whole)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=30))
def test_merged_shards_equal_the_item_that_was_never_split(places):
    whole, parts = Item(), {n: Item() for n in range(4)}
    key = updates(payment())[0].key
    for n, place in enumerate(places):
        paid = payment(transaction_id=f"t-{n}", payee_id=f"p-{n}", occurred_at=NOON + timedelta(minutes=7 * n))
        update: Update = updates(paid)[0]
        whole.apply(update)
        parts[place].apply(update)
    together = merged((key._replace(shard=n), parts[n]) for n in parts)[key]
    assert (together.buckets, together.slots, together.devices) == (whole.buckets, whole.slots, whole.devices)


# --- no counter changes by a split -----------------------------------------------------------------------------------


def write_schedule(deployed: Deployment, name: str, steps: ShardSchedule) -> None:
    """Write an entity's schedule at once, before its days. All readers still have the table from before."""
    deployed.table.gather([Request("update_item", {"TableName": TABLES.profiles, **shard_update(name, (), steps)})])


def steps_of(deployed: Deployment, name: str) -> ShardSchedule:
    found: Any = deployed.profile(SHARDS).get(name, ())
    return tuple((day, number) for day, number in found)


@pytest.mark.parametrize("seed", range(3))
def test_no_counter_changes_when_a_split_begins_or_changes_or_ends(seed):
    rng = random.Random(seed)
    rounds = arrivals(rng, rounds=40, size=12)
    deployed, memory = Deployment(page=3, few=0), InMemoryCounters()
    names = {update.key.kind.key(update.key.entity) for each in rounds for one in each for update in updates(one)}
    for name in names:
        start = TODAY + rng.randrange(3)
        lengths = [rng.choice([1, 1, 2]) for _ in range(3)]
        numbers = [rng.choice([1, 2, 4, 8]) for _ in lengths]
        steps = [(start + sum(lengths[:n]), number) for n, number in enumerate(numbers)]
        write_schedule(deployed, name, (*steps, (start + sum(lengths), 1)))
    repeats = split = 0
    for n, arriving in enumerate(rounds):
        deployed.now = NOON + n * timedelta(hours=5)
        deployed.fold_all()
        for transaction in arriving:
            state_read = counted(deployed.store, transaction)
            expected = memory.count(transaction)
            assert state_read.state.recounted is expected.recounted
            assert not state_read.state.stale
            assert measure(transaction, state_read.state) == measure(transaction, expected)
            repeats += expected.recounted
    split = sum(pk.count("#") == 2 for pk, _ in deployed.table.tables[TABLES.counters])
    assert repeats > 10
    assert split > 100


def split_shop(number: int) -> Deployment:
    deployed = Deployment()
    write_schedule(deployed, "merchant#shop", ((TODAY - 1, number),))
    deployed.folding.tick()
    return deployed


def rounds_of(deployed: Deployment, paid: Transaction) -> list[list[Request]]:
    """Return the requests of one payment, by round trip."""
    steps: list[list[Request]] = []
    deployed.meanwhile = lambda requests: steps.append(list(requests))
    counted(deployed.store, paid)
    deployed.meanwhile = lambda _: None
    return steps


def keys_of(request: Request) -> int:
    return sum(len(shards_wanted["Keys"]) for shards_wanted in request.payload["RequestItems"].values())


def test_a_merchant_with_many_shards_is_read_in_the_same_round_trip():
    deployed = split_shop(64)
    deployed.pay(**SHOP)
    for n, hours in enumerate((3, 3, 9)):
        deployed.now += timedelta(hours=hours)
        deployed.store.count([])  # reads the watermarks again, so that the payment does not
        paid = payment(transaction_id=f"t-later-{n}", occurred_at=deployed.now, **SHOP)
        (sent,) = rounds_of(deployed, paid)
        sizes = [keys_of(request) for request in sent if request.operation == "batch_get_item"]
        assert max(sizes) == KEYS_PER_READ
        assert (
            sum(sizes) == 3 + 15 * 64 + 3 + 1 + 63
        )  # payer, pair and device; the shop; profiles; decision; other shards
        state = counted(deployed.store, paid).state
        assert measure(paid, state)["merchant_count_24h"] == n + 2


def test_a_split_account_needs_a_second_round_trip_only_after_an_hour_without_payments():
    deployed = Deployment()
    deployed.pay()
    deployed.now += timedelta(days=2)
    deployed.fold_all()
    for name in ("payer#payer-1", "payee#payee-1"):
        write_schedule(deployed, name, ((TODAY, 8),))
    values = []
    memory = InMemoryCounters()
    memory.count(payment())
    for n, minutes in enumerate((0, 50, 50, 61, 200, 1)):
        deployed.now += timedelta(minutes=minutes)
        paid = payment(transaction_id=f"t-later-{n}", occurred_at=deployed.now, payer_id="payer-1")
        deployed.store.count([])
        trips = len(rounds_of(deployed, paid))
        state = counted(deployed.store, paid).state
        values.append((trips, measure(paid, state)["payee_idle"]))
        assert measure(paid, state) == measure(paid, memory.count(paid))
    assert [trips for trips, _ in values] == [1, 1, 1, 2, 2, 1]  # after a pause, both parties are read in one more trip


def test_other_shards_that_cannot_be_read_make_the_state_incomplete():
    deployed = split_shop(4)
    deployed.pay(**SHOP)
    gather = deployed.table.gather

    def failing(of_own: bool) -> Any:  # noqa: FBT001
        def each(requests: Sequence[Request], until: float | None = None) -> list[Result]:
            return [
                UnavailableError("Throttled")
                if one.operation == "batch_get_item"
                and ("ConsistentRead" in one.payload["RequestItems"].get(TABLES.counters, {})) is of_own
                else gather([one], until)[0]
                for one in requests
            ]

        return each

    for of_own in (True, False):
        deployed.table.gather = failing(of_own)  # type: ignore[method-assign]
        (state_read,) = deployed.store.count([payment(transaction_id=f"t-{of_own}", **SHOP)])
        assert str(state_read.failure) == "Throttled"
        assert state_read.read is of_own
        assert state_read.uncounted == ()


def test_a_repair_counts_in_the_payments_own_shard_and_folds_all_shards_again():
    deployed = split_shop(4)
    for n in range(6):
        deployed.pay(transaction_id=f"t-{n}", **SHOP)
    deployed.now += timedelta(hours=14)
    deployed.fold_all()
    assert deployed.profile("account#shop")["m"].hours.total(range(HOUR, HOUR + 1)) == packed(6, 7200)
    lost = payment(transaction_id="t-lost", **SHOP)
    for _ in range(2):
        (key,) = deployed.store.count_again(lost, ["merchant"])
        deployed.folding.refold(key)
    assert [message["pk"] for message in deployed.messages] == [key.pk] * 2
    deployed.work()
    history = deployed.profile("account#shop")["m"]
    assert history.hours.total(range(HOUR, HOUR + 1)) == packed(7, 8400)
    assert history.days.total(range(TODAY, TODAY + 1)) == packed(7, 8400)


# --- the fold writes the shard table ---------------------------------------------------------------------------------


def grow(deployed: Deployment, name: str, period: int, count: int) -> None:
    """Write an item as if `count` payments had been counted in it."""
    kind, _, entity = name.partition("#")
    key = Key(KINDS[kind], entity, period)
    (update,) = (each for each in updates(payment(**SHOP)) if each.key.kind is MERCHANT)
    index = update._replace(key=key).fold
    item = {"pk": {"S": key.pk}, "sk": {"S": key.sk}, "h0": {"N": str(packed(count, 0))}, "fold": {"S": index}}
    deployed.table.tables[TABLES.counters][key.pk, key.sk] = item
    deployed.table._index[TABLES.counters, str(index)].add((key.pk, key.sk))


@pytest.mark.parametrize("few", [0, 500])
def test_the_fold_writes_large_entities_to_the_shard_table_and_no_others(few):
    deployed = Deployment(few=few)
    deployed.folding.tick()
    deployed.pay()
    grow(deployed, "merchant#shop", HOUR, 7_000)
    grow(deployed, "merchant#shop", HOUR + 1, 40_000)
    grow(deployed, "merchant#corner", HOUR + 1, 300)
    deployed.now += timedelta(hours=38)
    deployed.fold_all()
    start = TODAY + 2 + AHEAD_DAYS
    assert deployed.profile(SHARDS) == {"pk": SHARDS, "merchant#shop": [[start, 8], [start + LAST_DAYS, 1]]}
    deployed.requests.clear()
    deployed.fold({"pk": "merchant#shop#3", "sk": f"h{HOUR}"})
    assert SHARDS not in [request.payload.get("Key", {}).get("pk", {}).get("S") for request in deployed.requests]


def test_two_folds_that_split_one_entity_leave_the_larger_number_of_shards():
    deployed = Deployment()
    deployed.folding.tick()
    deployed.fold({"split": "payee#a", "shards": 2})
    met = iter([True])

    def another(requests: Sequence[Request]) -> None:
        if requests[0].payload.get("Key") == {"pk": {"S": SHARDS}} and next(met, False):
            deployed.another.work({"split": "payee#a", "shards": 16}, lambda: RESERVE_MS)

    deployed.meanwhile = another
    deployed.fold({"split": "payee#a", "shards": 4})
    start = TODAY + AHEAD_DAYS
    assert steps_of(deployed, "payee#a") == ((start, 16), (start + LAST_DAYS, 1))


def test_a_schedule_that_others_keep_changing_is_given_up_after_some_attempts():
    deployed = Deployment()
    numbers = iter(range(ATTEMPTS + 9))

    def another(requests: Sequence[Request]) -> None:
        if requests[0].payload.get("Key") == {"pk": {"S": SHARDS}}:
            before = steps_of(deployed, "payee#a")
            after = ((next(numbers), 2),)
            deployed.table.gather(
                [Request("update_item", {"TableName": TABLES.profiles, **shard_update("payee#a", before, after)})]
            )

    deployed.meanwhile = another
    with pytest.raises(UnavailableError, match="ShardsOvertaken"):
        deployed.fold({"split": "payee#a", "shards": 4})


def test_a_tick_removes_schedules_that_have_run_out():
    deployed = Deployment()
    deployed.fold({"split": "payee#a", "shards": 4})
    deployed.now += timedelta(days=AHEAD_DAYS + LAST_DAYS + KEEP_DAYS)
    deployed.folding.tick()
    assert len(steps_of(deployed, "payee#a")) == 2
    deployed.now += timedelta(days=1)
    deployed.folding.tick()
    assert deployed.profile(SHARDS) == {"pk": SHARDS}


def test_slices_are_queued_and_folded_even_when_the_shard_table_cannot_be_written():
    deployed = Deployment(few=0)
    deployed.fold({"split": "payee#a", "shards": 4})
    deployed.folding.tick()
    deployed.pay()
    deployed.now += timedelta(days=AHEAD_DAYS + LAST_DAYS + KEEP_DAYS + 1)

    def away(requests: Sequence[Request]) -> None:
        if requests[0].payload.get("Key") == {"pk": {"S": SHARDS}} and requests[0].operation == "update_item":
            raise UnavailableError("ThrottlingException")

    deployed.meanwhile = away
    with pytest.raises(UnavailableError):
        deployed.folding.tick()
    assert deployed.messages
    deployed.meanwhile = lambda _: None
    deployed.work()
    assert deployed.profile("account#payer-1")["o"].days.total(range(TODAY, TODAY + 1)) == packed(1, 1200)


def test_a_full_shard_table_takes_no_new_entity_but_prolongs_those_it_has():
    deployed = Deployment()
    full = {f"payee#{n}": {"L": [{"L": [{"N": str(TODAY)}, {"N": "2"}]}]} for n in range(MOST_ENTITIES)}
    deployed.table.tables[TABLES.profiles][(SHARDS,)] = {"pk": {"S": SHARDS}, **full}
    with pytest.raises(ServiceError, match="ShardsFull"):
        deployed.fold({"split": "payee#new", "shards": 4})
    deployed.fold({"split": "payee#7", "shards": 4})
    assert steps_of(deployed, "payee#new") == ()
    assert (TODAY + AHEAD_DAYS, 4) in steps_of(deployed, "payee#7")


def test_a_fold_goes_on_when_a_large_entity_does_not_fit_in_the_shard_table(capsys):
    deployed = Deployment()
    full = {f"payee#{n}": {"L": [{"L": [{"N": str(TODAY)}, {"N": "2"}]}]} for n in range(MOST_ENTITIES)}
    deployed.table.tables[TABLES.profiles][(SHARDS,)] = {"pk": {"S": SHARDS}, **full}
    grow(deployed, "merchant#shop", HOUR, 20_000)
    deployed.fold({"pk": "merchant#shop", "sk": f"h{HOUR}"})
    assert deployed.profile("account#shop")["m"].hours.total(range(HOUR, HOUR + 1)) == packed(20_000, 0)
    (line,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert (line["code"], line["Door"]) == ("ShardsFull", "schedules")


def test_a_new_schedule_reaches_the_store_before_its_first_day():
    deployed = Deployment()
    deployed.folding.tick()
    deployed.pay(**SHOP)
    deployed.fold({"split": "merchant#shop", "shards": 8})
    memory = InMemoryCounters()
    memory.count(payment(**SHOP))
    for n in range(60):
        deployed.now += timedelta(hours=1)
        deployed.fold_all()
        paid = deployed.pay(transaction_id=f"t-{n}", **SHOP)
        assert measure(paid, counted(deployed.store, paid).state) == measure(paid, memory.count(paid))
    days = {int(sk[1:]) // 24 for pk, sk in deployed.table.tables[TABLES.counters] if pk.startswith("merchant#shop#")}
    assert min(days) == TODAY + AHEAD_DAYS


# --- large items -----------------------------------------------------------------------------------------------------


def test_only_a_large_item_is_reported_as_large():
    deployed = Deployment()
    deployed.folding.tick()
    grow(deployed, "merchant#shop", HOUR, 9_000)
    key = ("merchant#shop", f"h{HOUR}")
    held = deployed.table.tables[TABLES.counters]
    for tokens, large in ((8_000, []), (8_200, ["merchant"])):
        held[key] = {**held[key], "r": {"BS": [n.to_bytes(6) for n in range(tokens)]}}
        for _ in range(2):  # once counted, once refused as a duplicate
            state_read = counted(deployed.store, payment(transaction_id=f"t-{tokens}", **SHOP))
            assert [one.kind.name for one in state_read.large] == large
