"""The fold: when periods close, which counts a fold writes to the profiles, and folds repeated and in any order."""

import functools
import operator
import struct
import zlib
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud.aws.transport import Request
from fraud.counters.fold import (
    FORGOTTEN_AT_ONCE,
    LAG,
    PROFILE_DAYS,
    PROFILE_HOURS,
    beginning,
    closable,
    folded,
    outlived,
    sources,
    stale,
    waiting,
)
from fraud.counters.history import NO_HISTORY, Bucket, FoldedHistory, Series
from fraud.counters.in_memory import InMemoryCounters
from fraud.counters.layout import (
    DEVICE,
    INSTRUMENT,
    MERCHANT,
    PAIR,
    PAYEE,
    PAYER,
    SQUARES,
    Key,
    packed,
    size_class,
    spread_of,
)
from fraud.counters.windows import FRAUD_WINDOWS, measure
from tests.support.deployment import TABLES, Deployment
from tests.support.fakes import counted
from tests.support.payments import NOON, payment, slot_of, updates

HOUR, DAY = 3600, 86_400
NOW = int(NOON.timestamp())
TODAY = NOW // DAY


@pytest.fixture
def deployed() -> Deployment:
    deployed = Deployment()
    deployed.folding.tick()
    return deployed


# --- when a period is folded -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("sk", "seconds"), [("d", DAY), ("h", HOUR)])
def test_a_period_closes_a_quarter_of_an_hour_after_its_last_payment_may_come(sk, seconds):
    period = NOW // seconds
    end = (period + 1) * seconds
    assert closable(sk, end + 12 * HOUR + 15 * 60 - 1) == period - 1
    assert closable(sk, end + 12 * HOUR + 15 * 60) == period


@pytest.mark.parametrize(("sk", "seconds"), [("d", DAY), ("h", HOUR)])
def test_lag_counts_from_when_the_oldest_unfolded_period_closed(sk, seconds):
    closed = (NOW // seconds + 1) * seconds + LAG
    period = closable(sk, closed)
    assert waiting(sk, period, closed) == 0
    assert waiting(sk, period, closed + seconds - 1) == 0
    assert waiting(sk, period - 1, closed) == 0
    assert waiting(sk, period - 1, closed + 60) == 60
    assert waiting(sk, period - 3, closed + 60) == 2 * seconds + 60


def test_the_first_watermark_is_the_latest_closed_period_or_thirty_days_before_it():
    assert beginning("d", NOW, fresh=True) == closable("d", NOW)
    assert beginning("d", NOW, fresh=False) == closable("d", NOW) - 30
    assert beginning("h", NOW, fresh=False) == closable("h", NOW) - 30 * 24


@pytest.mark.parametrize("kind", [PAYER, PAYEE, DEVICE, INSTRUMENT, MERCHANT])
def test_a_payment_is_stale_exactly_when_a_period_that_it_reads_from_the_profile_is_not_folded(kind):
    key = Key(kind, "x", 500_000)
    assert key.slice is not None
    needed = 500_000 - {"d": 2, "h": 16}[kind.sk]
    assert not stale([key], {key.slice: needed})
    assert not stale([key], {key.slice: needed + 3})
    assert stale([key], {key.slice: needed - 1})
    assert stale([key], {})


def test_a_pair_is_read_directly_and_is_never_stale():
    assert not stale([Key(PAIR, "a|b", 600)], {})


# --- the counts in the profile ---------------------------------------------------------------------------------------


def test_a_folded_day_has_the_counts_of_its_items(deployed):
    deployed.pay(amount=700, payee_id="payee-2")
    deployed.now += timedelta(hours=3)
    deployed.pay(transaction_id="t-2", amount=300, device_id="device-2")
    deployed.now = NOON + timedelta(days=1, minutes=15)
    deployed.fold_all()
    profile = deployed.profile("account#payer-1")
    payees = 1 << slot_of("payee-1") | 1 << slot_of("payee-2")
    devices = 1 << slot_of("device-1", "device") | 1 << slot_of("device-2", "device")
    sizes = 1 << size_class(700, 1000) | 1 << size_class(300, 1000)
    day = Series.of({TODAY: Bucket(packed(2, 1000), payees, devices, spread_of(700) + spread_of(300), sizes)})
    assert profile == {"pk": "account#payer-1", "o": FoldedHistory(NOW, NOW + 3 * HOUR, day)}
    assert deployed.profile("account#payee-2")["i"].days.buckets()[TODAY].total == packed(1, 700)
    assert deployed.profile("device#device-2")["u"].days.buckets()[TODAY].total == packed(1, 300)


def test_a_merchants_hours_are_folded_one_by_one_and_its_day_is_their_sum(deployed):
    for number, hours in enumerate((0, 5, 5)):
        deployed.now = NOON + timedelta(hours=hours)
        deployed.pay(transaction_id=f"t-{number}", type="merchant", payee_id="shop", amount=10 + number)
    deployed.now += timedelta(hours=14)
    deployed.fold_all()
    hour, payer = NOW // HOUR, 1 << slot_of("payer-1")
    hours = Series.of({hour: Bucket(packed(1, 10), payer), hour + 5: Bucket(packed(2, 23), payer)})
    day = Series.of({TODAY: Bucket(packed(3, 33), payer)})
    assert deployed.profile("account#shop")["m"] == FoldedHistory(NOW, NOW + 5 * HOUR, day, hours)


def test_fold_of_an_hour_reads_only_its_own_item_and_takes_the_days_other_hours_from_the_profile():
    hour = NOW // HOUR
    assert sources(MERCHANT, hour, NO_HISTORY) == range(hour, hour + 1)
    day = NOW // DAY * 24
    other = Bucket(packed(2, 700), 5)
    held = FoldedHistory(last=(day + PROFILE_HOURS - 1) * HOUR, hours=Series.of({hour - 1: other}))
    assert sources(MERCHANT, hour, held) == range(hour, hour + 1)
    assert folded(MERCHANT, hour, {}, held).days == Series.of({TODAY: other})


def test_repair_of_an_hour_reads_the_whole_day_when_the_profile_has_dropped_its_hours():
    hour, day = NOW // HOUR, NOW // DAY * 24
    forgotten = FoldedHistory(last=(day + PROFILE_HOURS) * HOUR, hours=Series.of({day + 1: Bucket(packed(1, 5))}))
    assert sources(MERCHANT, hour, forgotten) == range(day, day + 24)
    after = folded(MERCHANT, hour, {}, forgotten)
    assert hour in after.hours.numbers
    assert after.days == Series.of({TODAY: Bucket()})  # the day is summed from its items, and there are none
    assert hour not in folded(MERCHANT, hour, {}, FoldedHistory(last=(hour + PROFILE_HOURS) * HOUR)).hours.numbers


@pytest.mark.parametrize("repaired", range(3))
def test_a_repair_that_comes_days_late_gives_the_same_merchant_profile_as_one_in_time(repaired):
    profiles = []
    for late in (None, repaired):
        there = Deployment()
        there.folding.tick()
        keys = {}
        for n, hours in enumerate((0, 1, 30, 60, 80)):
            there.now = NOON + timedelta(hours=hours)
            paid = payment(
                transaction_id=f"t-{n}", type="merchant", payee_id="shop", amount=10**n, occurred_at=there.now
            )
            if n != late:
                counted(there.store, paid)
            keys[n] = (paid, updates(paid)[1].key)
        there.now += timedelta(hours=14)
        there.fold_all()
        if late is not None:
            paid, key = keys[late]
            counted(there.store, paid)
            there.fold({"pk": key.pk, "sk": key.sk})
        profiles.append(there.profile("account#shop"))
    assert profiles[0] == profiles[1]


def test_short_windows_of_a_merchant_reach_back_over_the_start_of_the_hour(deployed):
    offline = InMemoryCounters()
    found = []
    for minutes in (40, 58, 59.9, 60.2, 61):
        at = NOON + timedelta(minutes=minutes)
        paid = payment(transaction_id=f"t-{minutes}", type="merchant", payee_id="shop", occurred_at=at)
        values = measure(paid, counted(deployed.store, paid).state)
        assert values == measure(paid, offline.count(paid))
        found.append((values["merchant_count_1m"], values["merchant_count_1h"]))
    assert found == [(1, 1), (1, 2), (1, 3), (2, 4), (2, 5)]


def test_days_and_hours_that_no_window_reaches_are_dropped_from_the_profile():
    ages, hour = (0, 32, 33, 50), NOW // HOUR
    days = {TODAY - age: Bucket(age) for age in ages}
    hours = {hour - age: Bucket(age) for age in (0, 47, 48, 60)}
    history = FoldedHistory(3, 5, Series.of(days), Series.of(hours))
    after = folded(PAYER, TODAY + 1, {}, history)
    assert (after.first, after.last, *after.days.numbers) == (3, 5, TODAY, TODAY + 1)
    assert folded(MERCHANT, hour, {}, history).hours.numbers == (hour - 47, hour)


def test_only_fraud_buckets_that_no_window_reaches_are_outlived():
    names = ["pk", "o", "i", "m", "u", "status", "deny", "fo", "fi", "fox", f"o{TODAY - 99}", f"fo-{TODAY}", "fo1.5"]
    days = [TODAY - age for age in (0, PROFILE_DAYS - 1, PROFILE_DAYS, 400)]
    found = outlived([*names, *(f"{side}{day}" for side in ("fo", "fi") for day in days)], TODAY)
    assert found == [f"{side}{day}" for side in ("fo", "fi") for day in days[2:]]
    assert max(FRAUD_WINDOWS.values()) < PROFILE_DAYS


def test_many_outlived_fraud_buckets_are_removed_a_hundred_at_a_time():
    names = [f"fi{TODAY - PROFILE_DAYS - n}" for n in range(FORGOTTEN_AT_ONCE + 20)]
    first = outlived(names, TODAY)
    assert len(first) == FORGOTTEN_AT_ONCE
    assert len(outlived(set(names) - set(first), TODAY)) == 20


def learn(deployed: Deployment, account: str, name: str, change: int = 1) -> None:
    """Change a fraud bucket of a profile as a label does, without a condition."""
    payload = {
        "TableName": TABLES.profiles,
        "Key": {"pk": {"S": f"account#{account}"}},
        "UpdateExpression": f"ADD {name} :change",
        "ExpressionAttributeValues": {":change": {"N": str(change)}},
    }
    deployed.table.gather([Request("update_item", payload)])


def test_a_folds_own_update_removes_outlived_fraud_buckets(deployed):
    deployed.pay(type="merchant", payee_id="payer-2")
    deployed.pay(transaction_id="t-2", payer_id="payer-2", payee_id="payer-3")
    old, live = f"fo{TODAY - PROFILE_DAYS}", f"fi{TODAY - PROFILE_DAYS + 1}"
    for name in (old, live):
        learn(deployed, "payer-2", name)

    def taken_back(requests: Sequence[Request]) -> None:
        if requests[0].operation == "update_item":
            learn(deployed, "payer-2", old, -1)

    deployed.now = NOON + timedelta(days=1, minutes=15)
    deployed.meanwhile = taken_back
    before = len(deployed.requests)
    deployed.fold_all()  # both sides of the account, one of them by the hour
    profile = deployed.profile("account#payer-2")
    assert profile.keys() == {"pk", "o", "m", live} | ({old} & profile.keys())
    updated = [request.payload for request in deployed.requests[before:] if request.operation == "update_item"]
    told = [one for one in updated if one["Key"]["pk"]["S"] == "account#payer-2"]
    assert told[0]["UpdateExpression"].endswith(f" REMOVE {old}")
    assert not any("fo" in one["ConditionExpression"] for one in told)
    deployed.meanwhile = lambda _: None
    deployed.pay(transaction_id="t-3", payer_id="payer-2", payee_id="payer-3")
    deployed.now += timedelta(days=1)
    deployed.fold_all()
    assert deployed.profile("account#payer-2").keys() == {"pk", "o", "m"}


def test_a_fold_that_changes_nothing_writes_nothing(deployed):
    key = updates(deployed.pay())[0].key
    deployed.now = NOON + timedelta(days=1, minutes=15)
    deployed.fold_all()
    deployed.requests.clear()
    deployed.fold({"pk": key.pk, "sk": key.sk})
    assert {request.operation for request in deployed.requests} == {"batch_get_item"}


BUCKETS = st.dictionaries(
    st.integers(0, 2**32 - 1),
    st.builds(
        Bucket,
        st.builds(packed, st.integers(0, 10**6), st.integers(0, 10**17)),
        st.integers(0, 2**127 - 1),
        st.integers(0, 2**127 - 1),
        st.builds(lambda log, squares: squares * SQUARES + log, st.integers(0, 10**12 - 1), st.integers(0, 10**15)),
        st.integers(0, 2**32 - 1),
    ),
    max_size=40,
)
SERIES = st.builds(Series.of, BUCKETS)
UNSIZED = BUCKETS.map(lambda buckets: {n: bucket._replace(spread=0, sizes=0) for n, bucket in buckets.items()})


@given(
    st.builds(
        FoldedHistory,
        st.integers(0, 2**32 - 1),
        st.integers(0, 2**32 - 1),
        st.one_of(SERIES, UNSIZED.map(Series.of)),
        UNSIZED.map(Series.of),
    )
)
def test_folded_history_is_unpacked_as_it_was_packed(history):
    assert FoldedHistory.unpacked(history.packed()) == history


@given(BUCKETS, st.integers(0, 2**32), st.integers(0, 2**32))
def test_a_window_of_a_series_is_the_sum_of_its_buckets(buckets, start, stop):
    window = range(start, stop)
    inside = [bucket for number, bucket in buckets.items() if number in window]
    series = Series.of(buckets)
    assert series.buckets() == buckets
    assert series.total(window) == sum(bucket.total for bucket in inside)
    assert series.slots(window) == functools.reduce(operator.or_, (bucket.slots for bucket in inside), 0)
    assert series.spread(window) == sum(bucket.spread for bucket in inside)
    assert series.sizes(window) == functools.reduce(operator.or_, (bucket.sizes for bucket in inside), 0)
    of_window = (series.total, series.slots, series.devices, series.spread, series.sizes)
    assert series.bucket(window) == tuple(column(window) for column in of_window)
    assert series.devices(window) == functools.reduce(operator.or_, (bucket.devices for bucket in inside), 0)


@pytest.mark.parametrize("broken", [b"", b"\0\1\2", FoldedHistory(days=Series.of({1: Bucket()})).packed()[:-1]])
def test_bytes_that_are_not_a_folded_history_are_an_error(broken):
    with pytest.raises((zlib.error, struct.error)):
        FoldedHistory.unpacked(broken)


@given(BUCKETS, st.integers(0, 2**32 - 1), st.integers(1, 2**32))
def test_put_changes_a_series_as_it_would_change_a_dictionary_of_buckets(buckets, number, kept):
    series, changed = Series.of(buckets), {**buckets, number: Bucket(7)}
    assert series.put(number, Bucket(7), 2**32) == Series.of(changed)
    assert series.put(number, Bucket(1), 2**32).put(number, Bucket(7), 2**32) == Series.of(changed)
    assert series.put(number, Bucket(7), kept) == Series.of({n: b for n, b in changed.items() if n > number - kept})


def test_days_of_payments_of_one_minor_unit_keep_their_size_class():
    history = FoldedHistory(days=Series.of({1: Bucket(packed(1, 1), 1, 0, spread_of(1), 1 << size_class(1, 1000))}))
    assert FoldedHistory.unpacked(history.packed()) == history


def test_folded_history_of_another_layout_is_an_error():
    content = zlib.decompress(FoldedHistory().packed(), wbits=-zlib.MAX_WBITS)
    with pytest.raises(ValueError, match="layout 3"):
        FoldedHistory.unpacked(zlib.compress(b"\3" + content[1:], wbits=-zlib.MAX_WBITS))


@pytest.mark.parametrize("size", [-52, -20, 20, 52])
@pytest.mark.parametrize("spread", [0, spread_of(700)], ids=["without sizes", "with sizes"])
def test_folded_history_with_a_bucket_too_few_or_too_many_is_an_error(size, spread):
    days = Series.of({1: Bucket(), 2: Bucket(spread=spread)})
    content = zlib.decompress(FoldedHistory(days=days).packed(), wbits=-zlib.MAX_WBITS)
    with pytest.raises(struct.error):
        FoldedHistory.unpacked(zlib.compress((content + bytes(52))[: len(content) + size], wbits=-zlib.MAX_WBITS))


# --- in any order ----------------------------------------------------------------------------------------------------


def two_days(deployed: Deployment) -> list[Key]:
    """Make payments over forty hours. Return the keys of the items to fold."""
    keys: dict[Key, None] = {}
    for n in range(9):
        deployed.now = NOON + timedelta(hours=5 * n)
        for kind, payee in (("p2p", f"payee-{n % 2}"), ("merchant", "shop")):
            paid = deployed.pay(transaction_id=f"t-{n}-{kind}", type=kind, device_id=f"device-{n % 4}", payee_id=payee)
            keys |= {update.key: None for update in updates(paid) if update.key.slice is not None}
    return list(keys)


def profiles_after(order: Sequence[int]) -> dict[str, dict[str, Any]]:
    """Return every profile after the items are folded in this order, given by their positions in `two_days`."""
    deployed = Deployment()
    keys = two_days(deployed)
    for position in order:
        deployed.fold({"pk": keys[position].pk, "sk": keys[position].sk})
    pks = (pk for (pk,) in deployed.table.tables[TABLES.profiles])
    return {pk: deployed.profile(pk) for pk in pks}


EACH = range(len(two_days(Deployment())))
IN_ORDER = profiles_after(EACH)


@settings(max_examples=40)
@given(st.permutations(EACH), st.lists(st.sampled_from(EACH)))
def test_profiles_do_not_depend_on_the_order_or_the_repetition_of_folds(order, again):
    assert profiles_after([*order, *again]) == IN_ORDER


def test_counters_in_memory_fold_a_period_again_when_it_is_repaired_after_its_fold():
    counters = InMemoryCounters()
    counters.count(payment())
    later = NOON + timedelta(days=2)
    counters.count(payment(transaction_id="t-2", occurred_at=later))
    counters.count(payment(transaction_id="t-lost", amount=5))
    last = payment(transaction_id="t-3", occurred_at=later + timedelta(hours=1))
    values = measure(last, counters.count(last))
    assert (values["payer_count_7d"], values["payer_sum_7d"]) == (4, 3 * 1200 + 5)


def test_counters_in_memory_drop_items_of_folded_days_without_a_change_of_the_windows():
    counters = InMemoryCounters()
    for day in range(9):
        paid = payment(transaction_id=f"t-{day}", occurred_at=NOON + timedelta(days=day))
        values = measure(paid, counters.count(paid))
    assert (values["payer_count_7d"], values["payer_count_30d"]) == (7, 9)
    assert sorted(key.period - TODAY for key in counters.items if key.kind is PAYER) == [5, 6, 7, 8]
