"""The fold worker, its ticks and the readers of its watermarks, on a table in memory.

Workers are killed, overtaken by another worker, short of time, late, or never started.
"""

import itertools
from collections.abc import Sequence
from datetime import timedelta

import pytest

from fraud.assembly import rule_book
from fraud.aws.transport import ConditionFailed, Request
from fraud.counters.codec import watermark_update
from fraud.counters.fold import SLICES, WATERMARKS, Progress, TickResult, closable
from fraud.counters.layout import MERCHANT, PAYER, Key, Slice, packed
from fraud.counters.windows import measure
from fraud.counters.worker import ATTEMPTS, LISTED, RESERVE_MS, Message
from fraud.decisions.evaluation import Evaluator
from fraud.errors import UnavailableError
from fraud.transaction import Transaction
from tests.support.deployment import TABLES, Deployment, declared_store
from tests.support.fakes import FixedScorer, counted
from tests.support.in_memory_dynamodb import InMemoryDynamoDB
from tests.support.payments import NOON, payment, updates

HOUR, DAY = 3600, 86_400
NOW = int(NOON.timestamp())
TODAY = NOW // DAY
QUARTER_PAST = NOON + timedelta(minutes=15)
"""The time at which yesterday closes."""

TODAYS_ITEM = {"pk": "payer#payer-1", "sk": f"d{TODAY}"}
NOTHING = TickResult(0, 0, 0)
A_DAY_LATER = NOON + timedelta(days=1, hours=1)


@pytest.fixture
def deployed() -> Deployment:
    deployed = Deployment(page=2, few=0)
    deployed.now = QUARTER_PAST
    deployed.folding.tick()
    return deployed


def crowd(deployed: Deployment, size: int) -> tuple[Slice, list[str]]:
    """Let `size` payers of one slice pay, and their day close. Return slice and payers, in the order of the index."""
    names = (f"payer-{n}" for n in itertools.count())
    part = Key(PAYER, "payer-0", 0).slice
    assert part is not None
    payers = list(itertools.islice((name for name in names if Key(PAYER, name, 0).slice == part), size))
    for n, payer in enumerate(payers):
        deployed.pay(transaction_id=f"t-{n}", payer_id=payer, device_id=None)
    deployed.now = A_DAY_LATER
    return part, sorted(payers)


def slice_message(part: Slice) -> Message:
    return {"letter": part.sk, "slice": part.number}


def writes_profiles(requests: Sequence[Request]) -> bool:
    """Tell whether the requests update profiles, and no watermark."""
    updated = {payload["TableName"] for operation, payload in requests if operation == "update_item"}
    return TABLES.profiles in updated and not moves_watermarks(requests)


def moves_watermarks(requests: Sequence[Request]) -> bool:
    """Tell whether one of the requests moves watermarks."""
    return any(
        operation == "update_item" and payload["Key"]["pk"]["S"] in WATERMARKS.values()
        for operation, payload in requests
    )


def operations(deployed: Deployment) -> list[str]:
    return [request.operation for request in deployed.requests]


def shop_pays(deployed: Deployment) -> Slice:
    """Make one payment to a merchant. Return the slice of the merchant's hours."""
    paid = deployed.pay(type="merchant", payee_id="shop")
    (part,) = (update.key.slice for update in updates(paid) if update.key.kind is MERCHANT)
    assert part is not None
    return part


def moved(table: InMemoryDynamoDB, before: dict[Slice, Progress | None], after: Progress) -> bool:
    request = Request("update_item", {"TableName": TABLES.profiles, **watermark_update(before, after)})
    (response,) = table.gather([request])
    return not isinstance(response, ConditionFailed)


# --- workers ---------------------------------------------------------------------------------------------------------


def test_after_a_killed_worker_the_next_one_goes_on_from_the_watermark(deployed):
    part, payers = crowd(deployed, 7)
    numbers = itertools.count()

    def killed_at_the_second_step(requests: Sequence[Request]) -> None:
        if moves_watermarks(requests) and next(numbers) == 1:
            raise KeyboardInterrupt

    deployed.meanwhile = killed_at_the_second_step
    with pytest.raises(KeyboardInterrupt):
        deployed.fold(slice_message(part))
    assert deployed.watermark(part) == Progress(TODAY - 1, f"payer#{payers[1]}")
    assert deployed.fold(slice_message(part)) == (5, 1)
    assert deployed.watermark(part) == Progress(TODAY)
    histories = [deployed.profile(f"account#{payer}")["o"] for payer in payers]
    assert {history.days.buckets()[TODAY].total for history in histories} == {packed(1, 1200)}
    assert deployed.fold(slice_message(part)) == (0, 0)


def test_of_two_workers_on_a_slice_the_slower_one_stops(deployed):
    part, _ = crowd(deployed, 6)
    meetings = iter([True])

    def overtaken(requests: Sequence[Request]) -> None:
        if moves_watermarks(requests) and next(meetings, False):
            assert deployed.another.work(slice_message(part), lambda: RESERVE_MS) == (6, 1)

    deployed.meanwhile = overtaken
    assert deployed.fold(slice_message(part)) == (2, 0)
    assert deployed.watermark(part) == Progress(TODAY)
    assert not deployed.messages


def test_a_worker_short_of_time_queues_its_slice_again_and_begins_no_page(deployed):
    part, _ = crowd(deployed, 5)
    left = iter([RESERVE_MS, RESERVE_MS, RESERVE_MS - 1])
    assert deployed.fold(slice_message(part), lambda: next(left)) == (4, 0)
    assert deployed.messages == [slice_message(part)]
    deployed.work()
    assert deployed.watermark(part) == Progress(TODAY)


def test_an_open_period_is_not_folded(deployed):
    part, _ = crowd(deployed, 1)
    deployed.now = QUARTER_PAST + timedelta(days=1, seconds=-1)
    assert deployed.fold(slice_message(part)) == (0, 0)
    deployed.now += timedelta(seconds=1)
    assert deployed.fold(slice_message(part)) == (1, 1)


def test_a_slice_without_a_watermark_is_not_folded():
    assert Deployment().fold(slice_message(Slice("d", 17))) == (0, 0)


def test_a_fold_that_a_repairs_fold_overtook_reads_again(deployed):
    deployed.pay()
    deployed.now = A_DAY_LATER
    repairs = iter([True])

    def repaired(requests: Sequence[Request]) -> None:
        if writes_profiles(requests) and next(repairs, False):
            counted(deployed.store, payment(transaction_id="t-lost", amount=5))
            deployed.another.work(TODAYS_ITEM, lambda: RESERVE_MS)

    deployed.meanwhile = repaired
    deployed.fold(TODAYS_ITEM)
    assert deployed.profile("account#payer-1")["o"].days.buckets()[TODAY].total == packed(2, 1205)


def test_the_profile_is_read_before_the_items_so_that_no_repair_is_lost(deployed):
    deployed.pay()
    deployed.requests.clear()
    deployed.fold(TODAYS_ITEM)
    reads = [request.payload["RequestItems"] for request in deployed.requests if request.operation == "batch_get_item"]
    assert [list(tables) for tables in reads] == [[TABLES.profiles], [TABLES.counters]]
    assert [wanted["ConsistentRead"] for tables in reads for wanted in tables.values()] == [False, True]


def test_an_overtaken_fold_reads_the_profile_consistently(deployed):
    deployed.pay()

    def overtaken(requests: Sequence[Request]) -> None:
        if writes_profiles(requests):
            deployed.meanwhile = lambda _: None
            deployed.another.work(TODAYS_ITEM, lambda: RESERVE_MS)

    deployed.meanwhile = overtaken
    deployed.requests.clear()
    deployed.fold(TODAYS_ITEM)
    reads = [request.payload["RequestItems"] for request in deployed.requests if request.operation == "batch_get_item"]
    assert [tables[TABLES.profiles]["ConsistentRead"] for tables in reads if TABLES.profiles in tables] == [False, True]


def test_a_fold_is_tried_again_while_a_label_is_written_to_the_same_profile(deployed):
    deployed.pay()
    tries = itertools.count()

    def busy(requests: Sequence[Request]) -> None:
        if writes_profiles(requests) and next(tries) < 2:
            raise UnavailableError("TransactionConflictException")

    deployed.meanwhile = busy
    assert deployed.fold(TODAYS_ITEM) == (1, 0)
    assert next(tries) == 3


def test_a_worker_gives_up_after_some_attempts(deployed):
    deployed.pay()
    tries = itertools.count(1)

    def away(requests: Sequence[Request]) -> None:
        if writes_profiles(requests):
            raise UnavailableError(f"try {next(tries)}")

    deployed.meanwhile = away
    with pytest.raises(UnavailableError, match=f"try {ATTEMPTS}"):
        deployed.fold(TODAYS_ITEM)

    busy = declared_store(deployed.table, TABLES, 400, deployed.clock)

    def overtaken(requests: Sequence[Request]) -> None:
        if writes_profiles(requests):
            deployed.another.work(TODAYS_ITEM, lambda: RESERVE_MS)
        else:
            counted(busy, payment(transaction_id=f"t-late-{next(tries)}"))

    deployed.meanwhile = overtaken
    with pytest.raises(UnavailableError, match="FoldOvertaken"):
        deployed.fold(TODAYS_ITEM)


def test_a_watermark_moves_only_from_where_it_is_stored():
    table, part = InMemoryDynamoDB(), Slice("d", 3)
    assert not moved(table, {part: Progress(4)}, Progress(5))
    assert moved(table, {part: None}, Progress(5))
    assert not moved(table, {part: None}, Progress(9))
    assert moved(table, {part: Progress(5)}, Progress(5, "payer#b"))
    assert not moved(table, {part: Progress(5)}, Progress(6))
    assert not moved(table, {part: Progress(5, "payer#a")}, Progress(6))
    assert moved(table, {part: Progress(5, "payer#b")}, Progress(6))
    assert not moved(table, {part: Progress(5, "payer#b")}, Progress(6))


def test_watermarks_in_one_update_move_together_or_not_at_all_and_others_stay(deployed):
    closed = Progress(closable("h", int(deployed.now.timestamp())))
    deployed.now += timedelta(hours=3)
    one, two, three = (Slice("h", number) for number in (3, 4, 5))
    assert moved(deployed.table, {one: closed}, Progress(closed.through + 1))
    assert not moved(deployed.table, {one: closed, two: closed}, Progress(closed.through + 2))
    assert moved(deployed.table, {two: closed, three: closed}, Progress(closed.through + 2))
    found = [deployed.watermark(part) for part in (one, two, three, Slice("h", 6))]
    assert [progress.through - closed.through for progress in found] == [1, 2, 2, 0]


def test_an_update_of_all_slices_of_a_letter_is_within_dynamodbs_limits():
    before = {part: Progress(500_000) for part in SLICES if part.sk == "h"}
    payload = watermark_update(before, Progress(500_001))
    for expression in (payload["UpdateExpression"], payload["ConditionExpression"]):
        assert len(expression) < 4096
        assert sum(expression.count(operator) for operator in ("=", "AND")) < 300


# --- ticks -----------------------------------------------------------------------------------------------------------


def test_a_fresh_stack_begins_at_the_latest_closed_period():
    deployed = Deployment()
    assert deployed.folding.tick() == NOTHING
    assert deployed.messages == []
    assert all(deployed.watermark(part) == Progress(closable(part.sk, NOW)) for part in SLICES)
    assert not counted(deployed.store, payment()).state.stale


def test_a_stack_with_counters_but_no_watermarks_folds_all_periods_that_windows_reach():
    deployed = Deployment(few=0)
    parts = {update.key.slice for update in updates(deployed.pay())}
    deployed.now += timedelta(days=20)
    due = deployed.folding.tick()
    assert due.slices == len(parts - {None})
    assert due.lag_seconds > 29 * DAY
    assert counted(deployed.store, payment(transaction_id="t-2", occurred_at=deployed.now)).state.stale
    for part in parts - {None}:
        deployed.fold(slice_message(part))
    deployed.now += timedelta(minutes=1)
    last = payment(transaction_id="t-3", occurred_at=deployed.now)
    state = counted(deployed.store, last).state
    assert not state.stale
    assert measure(last, state)["payer_count_30d"] == 3


def test_the_next_tick_completes_a_first_tick_that_died_halfway():
    deployed = Deployment()
    begun, missing = SLICES[:64], SLICES[64:]
    start = Progress(closable("d", NOW) + 1)  # by a clock ahead of this one
    assert {part.sk for part in begun} == {"d"}
    assert moved(deployed.table, dict.fromkeys(begun), start)
    deployed.folding.tick()
    assert all(deployed.watermark(part) == start for part in begun)
    assert all(deployed.watermark(part) == Progress(closable(part.sk, NOW)) for part in missing)


def test_two_first_ticks_at_once_agree():
    deployed = Deployment()
    first = iter([True])

    def beaten(requests: Sequence[Request]) -> None:
        if moves_watermarks(requests) and next(first, False):
            assert deployed.another.tick() == NOTHING

    deployed.meanwhile = beaten
    assert deployed.folding.tick() == NOTHING
    assert all(deployed.watermark(part) == Progress(closable(part.sk, NOW)) for part in SLICES)


def test_a_tick_with_nothing_closed_is_one_read(deployed):
    deployed.requests.clear()
    deployed.now += timedelta(minutes=59)
    assert deployed.folding.tick() == NOTHING
    assert operations(deployed) == ["batch_get_item"]
    (standing,) = deployed.requests[0].payload["RequestItems"].values()
    assert standing["ConsistentRead"] is True
    assert deployed.messages == []


def test_a_tick_moves_idle_slices_on_with_one_update_for_each_letter(deployed):
    deployed.requests.clear()
    deployed.now += timedelta(hours=1)
    assert deployed.folding.tick() == NOTHING
    assert operations(deployed) == ["batch_get_item", "scan", "update_item"]
    deployed.now += timedelta(days=3)
    assert deployed.folding.tick() == NOTHING
    assert operations(deployed)[3:] == ["batch_get_item", "scan", "update_item", "update_item"]
    now = int(deployed.now.timestamp())
    assert all(deployed.watermark(part) == Progress(closable(part.sk, now)) for part in SLICES)
    assert deployed.messages == []


def test_a_tick_queues_only_slices_with_something_to_fold(deployed):
    part = shop_pays(deployed)
    assert deployed.folding.tick() == NOTHING  # the period is still open
    deployed.now += timedelta(hours=13)
    assert deployed.folding.tick().slices == 1
    assert deployed.messages == [slice_message(part)]
    deployed.work()
    deployed.now += timedelta(hours=1)
    assert deployed.folding.tick() == NOTHING  # the index still lists the item, but it is folded
    assert deployed.watermark(part) == Progress(NOW // HOUR + 1)


def test_a_tick_folds_a_few_items_by_itself_hour_after_hour():
    deployed = Deployment(few=3)
    deployed.folding.tick()
    for hour in range(3):
        deployed.now = NOON + timedelta(hours=hour)
        deployed.pay(transaction_id=f"t-{hour}", type="merchant", payee_id="shop", device_id=None)
    deployed.now += timedelta(hours=14)
    assert deployed.folding.tick() == (0, 0, 3)
    assert deployed.messages == []
    history = deployed.profile("account#shop")["m"]
    assert (len(history.hours.numbers), history.days.buckets()[TODAY].total) == (3, packed(3, 3600))
    now = int(deployed.now.timestamp())
    assert all(deployed.watermark(part) == Progress(closable(part.sk, now)) for part in SLICES)
    assert deployed.folding.tick() == NOTHING


def test_the_next_tick_completes_a_tick_that_died_during_its_own_folds():
    deployed = Deployment()
    deployed.folding.tick()
    shop_pays(deployed)
    deployed.now += timedelta(hours=14)

    def killed(requests: Sequence[Request]) -> None:
        if moves_watermarks(requests):
            raise KeyboardInterrupt

    deployed.meanwhile = killed
    with pytest.raises(KeyboardInterrupt):
        deployed.folding.tick()
    deployed.meanwhile = lambda _: None
    assert deployed.folding.tick() == (0, 0, 1)
    assert deployed.profile("account#shop")["m"].days.buckets()[TODAY].total == packed(1, 1200)


def test_a_tick_does_not_move_a_slice_whose_worker_is_in_the_middle_of_a_period(deployed):
    part, payers = crowd(deployed, 7)
    left = iter([RESERVE_MS, RESERVE_MS - 1])
    deployed.fold(slice_message(part), lambda: next(left))
    deployed.messages.clear()
    assert deployed.folding.tick().slices == 2  # this one and the payee's
    assert slice_message(part) in deployed.messages
    assert deployed.watermark(part) == Progress(TODAY - 1, f"payer#{payers[1]}")


def test_a_tick_that_meets_a_worker_queues_the_slices_that_it_could_not_move(deployed):
    deployed.now += timedelta(hours=1)
    part, meetings = Slice("h", 9), iter([True])

    def overtaken(requests: Sequence[Request]) -> None:
        if moves_watermarks(requests) and next(meetings, False):
            assert deployed.another.work(slice_message(part), lambda: RESERVE_MS) == (0, 1)

    deployed.meanwhile = overtaken
    assert deployed.folding.tick() == (0, 64, 0)
    assert deployed.messages == [slice_message(each) for each in SLICES if each.sk == "h"]
    deployed.work()
    assert deployed.folding.tick() == NOTHING


def test_a_tick_queues_every_slice_that_is_behind_when_the_index_is_too_long_to_search(deployed):
    for n in range(LISTED // 3 + 1):
        deployed.pay(transaction_id=f"t-{n}", payer_id=f"a-{n}", payee_id=f"b-{n}", device_id=f"c-{n}")
    deployed.now += timedelta(hours=1)
    assert deployed.folding.tick() == (0, 64, 0)
    assert deployed.messages == [slice_message(part) for part in SLICES if part.sk == "h"]
    deployed.work()
    assert deployed.folding.tick() == NOTHING


def test_a_fold_that_stands_still_shows_in_the_lag_and_as_stale_payments(deployed):
    deployed.pay()
    deployed.now += timedelta(days=4)
    assert deployed.folding.tick() == (3 * DAY, 2, 0)  # the day closed three days ago; payer and device share a slice
    others = payment(transaction_id="t-3", payer_id="payer-3", payee_id="payee-3", device_id="device-3")
    assert not counted(deployed.store, others).state.stale
    assert counted(deployed.store, payment(transaction_id="t-2", occurred_at=deployed.now)).state.stale


# --- items to fold again ---------------------------------------------------------------------------------------------


def repaired(deployed: Deployment) -> Transaction:
    lost = payment(transaction_id="t-lost", amount=5)
    counted(deployed.store, lost)
    for update in updates(lost):
        deployed.folding.refold(update.key)
    return lost


def test_a_repaired_item_of_a_closed_period_is_folded_again(deployed):
    deployed.pay()
    deployed.now += timedelta(days=2)
    deployed.fold_all()
    repaired(deployed)
    assert len(deployed.messages) == 3  # payer, payee and device: pairs are read directly
    deployed.work()
    assert deployed.profile("account#payer-1")["o"].days.buckets()[TODAY].total == packed(2, 1205)


def test_a_repaired_item_of_an_open_period_waits_for_its_regular_fold(deployed):
    repaired(deployed)
    assert deployed.messages == []


# --- readers of the watermarks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seconds", "reads"), [(0, 1), (59, 1), (60, 2), (-1, 2)])
def test_watermarks_are_read_again_after_a_minute_or_when_the_clock_was_set_back(deployed, seconds, reads):
    deployed.pay()
    deployed.requests.clear()
    deployed.now += timedelta(seconds=seconds)
    deployed.pay(transaction_id="t-2")
    assert [request.operation for request in deployed.requests].count("batch_get_item") == reads


def test_watermarks_that_could_not_be_read_are_read_with_the_next_payment(deployed):
    def away(_: Sequence[Request]) -> None:
        raise UnavailableError("Away")

    deployed.meanwhile, present = away, deployed.meanwhile
    with pytest.raises(UnavailableError):
        deployed.pay()
    deployed.meanwhile = present
    assert not counted(deployed.store, payment()).state.stale


@pytest.mark.parametrize(("ticked", "degraded"), [(True, []), (False, ["profile"])])
def test_a_decision_on_a_profile_that_is_behind_is_degraded(ticked, degraded):
    deployed = Deployment()
    if ticked:
        deployed.folding.tick()
    evaluator = Evaluator(deployed.store, FixedScorer(0.1), rule_book("JPY"), deployed.clock, 10)
    decision = evaluator.evaluate(payment()).decision
    assert decision is not None
    assert decision.degraded == degraded
