"""The fold's workers, schedule and reader on a table in memory: killed, raced, short of time, late, or not at all."""

import itertools
from collections.abc import Sequence
from datetime import timedelta

import pytest

from fraud.assembly import rule_book
from fraud.counters import PAYER, Key, Slice, updates
from fraud.errors import UnavailableError
from fraud.evaluation import Evaluator
from fraud.fold import SLICES, closable
from fraud.folding import ATTEMPTS, RESERVE_MS, Message, Progress, step
from fraud.transaction import Transaction
from fraud.windows import measure
from fraud.wire import Refused, Request
from tests.deployment import TABLES, Deployment
from tests.fakes import FixedScorer
from tests.in_memory_dynamodb import InMemoryDynamoDB
from tests.payments import NOON, payment

DAY = 86_400
NOW = int(NOON.timestamp())
TODAY = NOW // DAY
QUARTER_PAST = NOON + timedelta(minutes=15)
"""Yesterday has just closed."""

TODAYS_ITEM = {"pk": "payer#payer-1", "sk": f"d{TODAY}"}
A_DAY_LATER = NOON + timedelta(days=1, hours=1)


@pytest.fixture
def deployed() -> Deployment:
    deployed = Deployment(page=2)
    deployed.now = QUARTER_PAST
    deployed.folding.tick()
    return deployed


def crowd(deployed: Deployment, size: int) -> tuple[Slice, list[str]]:
    """As many payers of one slice pay, and their day closes; returns them as the index orders them."""
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


def folds(requests: Sequence[Request]) -> bool:
    """Whether these are the updates of profiles, and no watermark's."""
    return requests[0].operation == "update_item" and "folded_through" not in requests[0].payload["UpdateExpression"]


def steps(requests: Sequence[Request]) -> bool:
    """Whether this moves a watermark."""
    return requests[0].operation == "update_item" and "folded_through" in requests[0].payload["UpdateExpression"]


def moved(table: InMemoryDynamoDB, part: Slice, before: Progress | None, after: Progress) -> bool:
    request = Request("update_item", {"TableName": TABLES.profiles, **step(part, before, after)})
    (answer,) = table.gather([request])
    return not isinstance(answer, Refused)


# --- workers ---------------------------------------------------------------------------------------------------------


def test_killed_worker_is_followed_by_one_that_goes_on_where_the_watermark_says(deployed):
    part, payers = crowd(deployed, 7)
    numbers = itertools.count()

    def killed_at_the_second_step(requests: Sequence[Request]) -> None:
        if steps(requests) and next(numbers) == 1:
            raise KeyboardInterrupt

    deployed.meanwhile = killed_at_the_second_step
    with pytest.raises(KeyboardInterrupt):
        deployed.fold(slice_message(part))
    assert deployed.watermark(part.pk) == Progress(TODAY - 1, f"payer#{payers[1]}")
    assert deployed.fold(slice_message(part)) == (5, 1)
    assert deployed.watermark(part.pk) == Progress(TODAY)
    assert [deployed.profile(f"account#{payer}")["ov"] for payer in payers] == [1, 1, 2, 2, 1, 1, 1]
    assert all(deployed.profile(f"account#{payer}")[f"o{TODAY}"] == 10**18 + 1200 for payer in payers)
    assert deployed.fold(slice_message(part)) == (0, 0)


def test_of_two_workers_on_a_slice_the_slower_stops(deployed):
    part, _ = crowd(deployed, 6)
    meetings = iter([True])

    def overtaken(requests: Sequence[Request]) -> None:
        if steps(requests) and next(meetings, False):
            assert deployed.another.work(slice_message(part), lambda: RESERVE_MS) == (6, 1)

    deployed.meanwhile = overtaken
    assert deployed.fold(slice_message(part)) == (2, 0)
    assert deployed.watermark(part.pk) == Progress(TODAY)
    assert not deployed.messages


def test_worker_short_of_time_queues_its_slice_again_and_begins_no_page(deployed):
    part, _ = crowd(deployed, 5)
    left = iter([RESERVE_MS, RESERVE_MS, RESERVE_MS - 1])
    assert deployed.fold(slice_message(part), lambda: next(left)) == (4, 0)
    assert deployed.messages == [slice_message(part)]
    deployed.work()
    assert deployed.watermark(part.pk) == Progress(TODAY)


def test_open_period_is_not_folded(deployed):
    part, _ = crowd(deployed, 1)
    deployed.now = QUARTER_PAST + timedelta(days=1, seconds=-1)
    assert deployed.fold(slice_message(part)) == (0, 0)
    deployed.now += timedelta(seconds=1)
    assert deployed.fold(slice_message(part)) == (1, 1)


def test_slice_without_a_watermark_waits_for_the_tick_that_gives_it_one():
    assert Deployment().fold(slice_message(Slice("d", 17))) == (0, 0)


def test_fold_that_was_overtaken_by_a_repairs_fold_reads_again(deployed):
    deployed.pay()
    deployed.now = A_DAY_LATER
    repairs = iter([True])

    def repaired(requests: Sequence[Request]) -> None:
        if folds(requests) and next(repairs, False):
            deployed.store.count(payment(transaction_id="t-lost", amount=5))
            deployed.another.work(TODAYS_ITEM, lambda: RESERVE_MS)

    deployed.meanwhile = repaired
    deployed.fold(TODAYS_ITEM)
    assert deployed.profile("account#payer-1")[f"o{TODAY}"] == 2 * 10**18 + 1205
    assert deployed.profile("account#payer-1")["ov"] == 2


def test_profile_is_read_before_the_items_so_that_no_repair_falls_between(deployed):
    deployed.pay()
    deployed.requests.clear()
    deployed.fold(TODAYS_ITEM)
    reads = [request.payload["RequestItems"] for request in deployed.requests if request.operation == "batch_get_item"]
    assert [list(tables) for tables in reads] == [[TABLES.profiles], [TABLES.counters]]
    assert all(wanted["ConsistentRead"] for tables in reads for wanted in tables.values())


def test_profile_that_a_label_is_written_to_is_tried_again(deployed):
    deployed.pay()
    tries = itertools.count()

    def busy(requests: Sequence[Request]) -> None:
        if folds(requests) and next(tries) < 2:
            raise UnavailableError("TransactionConflictException")

    deployed.meanwhile = busy
    assert deployed.fold(TODAYS_ITEM) == (1, 0)
    assert next(tries) == 3


def test_worker_gives_up_after_some_attempts(deployed):
    deployed.pay()
    tries = itertools.count(1)

    def away(requests: Sequence[Request]) -> None:
        if folds(requests):
            raise UnavailableError(f"try {next(tries)}")

    deployed.meanwhile = away
    with pytest.raises(UnavailableError, match=f"try {ATTEMPTS}"):
        deployed.fold(TODAYS_ITEM)

    def overtaken(requests: Sequence[Request]) -> None:
        if folds(requests):
            deployed.another.work(TODAYS_ITEM, lambda: RESERVE_MS)

    deployed.meanwhile = overtaken
    with pytest.raises(UnavailableError, match="FoldOvertaken"):
        deployed.fold(TODAYS_ITEM)


def test_watermark_moves_from_where_it_is_and_no_other_way():
    table, part = InMemoryDynamoDB(), Slice("d", 3)
    assert not moved(table, part, Progress(4), Progress(5))
    assert moved(table, part, None, Progress(5))
    assert not moved(table, part, None, Progress(9))
    assert moved(table, part, Progress(5), Progress(5, "payer#b"))
    assert not moved(table, part, Progress(5), Progress(6))
    assert not moved(table, part, Progress(5, "payer#a"), Progress(6))
    assert moved(table, part, Progress(5, "payer#b"), Progress(6))
    assert not moved(table, part, Progress(5, "payer#b"), Progress(6))


# --- the schedule ----------------------------------------------------------------------------------------------------


def test_fresh_stack_begins_at_the_latest_closed_period():
    deployed = Deployment()
    assert deployed.folding.tick() == (0, 0)
    assert deployed.messages == []
    assert all(deployed.watermark(part.pk) == Progress(closable(part.sk, NOW)) for part in SLICES)
    assert not deployed.store.count(payment()).state.stale


def test_stack_with_counters_but_no_watermarks_folds_all_that_windows_reach():
    deployed = Deployment()
    parts = {update.key.slice for update in updates(deployed.pay())}
    deployed.now += timedelta(days=20)
    due = deployed.folding.tick()
    assert due.slices == len(SLICES)
    assert due.lag_seconds > 29 * DAY
    assert deployed.store.count(payment(transaction_id="t-2", occurred_at=deployed.now)).state.stale
    for part in parts - {None}:
        deployed.fold(slice_message(part))
    deployed.now += timedelta(minutes=1)
    last = payment(transaction_id="t-3", occurred_at=deployed.now)
    state = deployed.store.count(last).state
    assert not state.stale
    assert measure(last, state)["payer_count_30d"] == 3


def test_first_tick_that_died_halfway_is_completed_by_the_next():
    deployed = Deployment()
    begun, missing = SLICES[:70], SLICES[70:]
    assert all(moved(deployed.table, part, None, Progress(7)) for part in begun)
    deployed.folding.tick()
    assert all(deployed.watermark(part.pk) == Progress(7) for part in begun)
    assert all(deployed.watermark(part.pk) == Progress(closable(part.sk, NOW)) for part in missing)


def test_two_first_ticks_at_once_agree():
    deployed = Deployment()

    def beaten(requests: Sequence[Request]) -> None:
        if requests[0].operation == "scan":
            assert moved(deployed.table, SLICES[5], None, Progress(closable("d", NOW) - 2))

    deployed.meanwhile = beaten
    assert deployed.folding.tick().slices == 1
    assert deployed.messages == [slice_message(SLICES[5])]


def test_tick_with_nothing_to_do_is_two_reads(deployed):
    deployed.requests.clear()
    deployed.now += timedelta(minutes=59)
    assert deployed.folding.tick() == (0, 0)
    assert [request.operation for request in deployed.requests] == ["batch_get_item"] * 2
    assert deployed.messages == []


def test_tick_queues_only_slices_that_are_behind(deployed):
    deployed.now += timedelta(hours=1)
    assert deployed.folding.tick() == (0, 64)
    assert deployed.messages == [slice_message(part) for part in SLICES if part.sk == "h"]
    deployed.work()
    assert deployed.folding.tick() == (0, 0)


def test_fold_that_stands_still_shows_in_the_lag_and_in_every_payment(deployed):
    deployed.now += timedelta(days=3)
    assert deployed.folding.tick() == (3 * DAY - 3600, len(SLICES))
    assert deployed.store.count(payment(transaction_id="t-2", occurred_at=deployed.now)).state.stale


# --- items to fold again ---------------------------------------------------------------------------------------------


def repaired(deployed: Deployment) -> Transaction:
    lost = payment(transaction_id="t-lost", amount=5)
    deployed.store.count(lost)
    for update in updates(lost):
        deployed.folding.refold(update.key)
    return lost


def test_repaired_item_of_a_closed_period_is_folded_again(deployed):
    deployed.pay()
    deployed.now += timedelta(days=2)
    deployed.fold_all()
    repaired(deployed)
    assert len(deployed.messages) == 3  # payer, payee and device: pairs are read directly
    deployed.work()
    assert deployed.profile("account#payer-1")[f"o{TODAY}"] == 2 * 10**18 + 1205


def test_repaired_item_of_an_open_period_waits_for_its_fold(deployed):
    repaired(deployed)
    assert deployed.messages == []


# --- the reader ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seconds", "reads"), [(0, 1), (59, 1), (60, 3), (-1, 3)])
def test_watermarks_are_read_again_after_a_minute_or_when_the_clock_was_set_back(deployed, seconds, reads):
    deployed.pay()
    deployed.requests.clear()
    deployed.now += timedelta(seconds=seconds)
    deployed.pay(transaction_id="t-2")
    assert [request.operation for request in deployed.requests].count("batch_get_item") == reads


def test_watermarks_that_could_not_be_read_are_asked_for_with_the_next_payment(deployed):
    def away(_: Sequence[Request]) -> None:
        raise UnavailableError

    deployed.meanwhile, present = away, deployed.meanwhile
    with pytest.raises(UnavailableError):
        deployed.pay()
    deployed.meanwhile = present
    assert not deployed.store.count(payment()).state.stale


@pytest.mark.parametrize(("ticked", "degraded"), [(True, []), (False, ["profile"])])
def test_decision_on_a_profile_that_is_behind_says_so(ticked, degraded):
    deployed = Deployment()
    if ticked:
        deployed.folding.tick()
    evaluator = Evaluator(deployed.store, FixedScorer(0.1), rule_book(), deployed.clock)
    decision = evaluator.evaluate(payment()).decision
    assert decision is not None
    assert decision.degraded == degraded
