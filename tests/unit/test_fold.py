"""When periods close, what a fold leaves in the profiles, and that its order and repetition leave no trace."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud.counters import DEVICE, INSTRUMENT, MERCHANT, PAIR, PAYEE, PAYER, Key, packed, updates
from fraud.fold import LAG, PROFILE_HOURS, beginning, closable, plan, sources, stale, waiting
from fraud.folding import expression
from fraud.memory import InMemoryCounters
from fraud.windows import measure
from fraud.wire import Request
from tests.deployment import TABLES, Deployment
from tests.fakes import counted
from tests.in_memory_dynamodb import InMemoryDynamoDB
from tests.payments import NOON, payment

HOUR, DAY = 3600, 86_400
NOW = int(NOON.timestamp())
TODAY = NOW // DAY


@pytest.fixture
def deployed() -> Deployment:
    deployed = Deployment()
    deployed.folding.tick()
    return deployed


# --- when ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("sk", "seconds"), [("d", DAY), ("h", HOUR)])
def test_period_closes_a_quarter_of_an_hour_after_its_last_payment_may_come(sk, seconds):
    period = NOW // seconds
    end = (period + 1) * seconds
    assert closable(sk, end + 12 * HOUR + 15 * 60 - 1) == period - 1
    assert closable(sk, end + 12 * HOUR + 15 * 60) == period


@pytest.mark.parametrize(("sk", "seconds"), [("d", DAY), ("h", HOUR)])
def test_lag_counts_from_the_moment_that_the_oldest_unfolded_period_closed(sk, seconds):
    closed = (NOW // seconds + 1) * seconds + LAG
    period = closable(sk, closed)
    assert waiting(sk, period, closed) == 0
    assert waiting(sk, period, closed + seconds - 1) == 0
    assert waiting(sk, period - 1, closed) == 0
    assert waiting(sk, period - 1, closed + 60) == 60
    assert waiting(sk, period - 3, closed + 60) == 2 * seconds + 60


def test_slices_begin_at_the_clock_or_thirty_days_before():
    assert beginning("d", NOW, fresh=True) == closable("d", NOW)
    assert beginning("d", NOW, fresh=False) == closable("d", NOW) - 30
    assert beginning("h", NOW, fresh=False) == closable("h", NOW) - 30 * 24


@pytest.mark.parametrize("kind", [PAYER, PAYEE, DEVICE, INSTRUMENT, MERCHANT])
def test_payment_is_stale_exactly_when_the_first_period_read_from_the_profile_is_not_folded(kind):
    key = Key(kind, "x", 500_000)
    assert key.slice is not None
    needed = 500_000 - {"d": 2, "h": 16}[kind.sk]
    assert not stale([key], {key.slice: needed})
    assert not stale([key], {key.slice: needed + 3})
    assert stale([key], {key.slice: needed - 1})
    assert stale([key], {})


def test_pair_is_read_directly_and_never_stale():
    assert not stale([Key(PAIR, "a|b", 600)], {})


# --- what ------------------------------------------------------------------------------------------------------------


def test_closed_day_is_in_the_profile_as_it_was_in_its_items(deployed):
    deployed.pay(amount=700, payee_id="payee-2")
    deployed.now += timedelta(hours=3)
    deployed.pay(transaction_id="t-2", amount=300, device_id="device-2")
    deployed.now = NOON + timedelta(days=1, minutes=15)
    deployed.fold_all()
    profile = deployed.profile("account#payer-1")
    assert profile[f"o{TODAY}"] == packed(2, 1000)
    assert int.from_bytes(profile[f"ob{TODAY}"]).bit_count() == 2
    assert int.from_bytes(profile[f"oe{TODAY}"]).bit_count() == 2
    assert (profile["ofirst"], profile["olast"]) == (NOW, NOW + 3 * HOUR)
    assert deployed.profile("account#payee-2")[f"i{TODAY}"] == packed(1, 700)
    assert deployed.profile("device#device-2")[f"u{TODAY}"] == packed(1, 300)


def test_merchants_hours_are_folded_each_and_their_day_from_all_of_them(deployed):
    for number, hours in enumerate((0, 5, 5)):
        deployed.now = NOON + timedelta(hours=hours)
        deployed.pay(transaction_id=f"t-{number}", type="merchant", payee_id="shop", amount=10 + number)
    deployed.now += timedelta(hours=14)
    deployed.fold_all()
    hour, profile = NOW // HOUR, deployed.profile("account#shop")
    assert profile[f"mh{hour}"] == packed(1, 10)
    assert profile[f"mh{hour + 5}"] == packed(2, 23)
    assert profile[f"m{TODAY}"] == packed(3, 33)
    assert (profile["mfirst"], profile["mlast"]) == (NOW, NOW + 5 * HOUR)
    assert f"mh{hour + 1}" not in profile


def test_fold_of_an_hour_reads_its_own_item_and_the_profile_has_the_others_of_its_day():
    hour = NOW // HOUR
    assert sources(MERCHANT, hour, {}) == range(hour, hour + 1)
    day = NOW // DAY * 24
    held = {"mlast": (day + PROFILE_HOURS - 1) * HOUR}
    assert sources(MERCHANT, hour, held) == range(hour, hour + 1)
    change = plan(MERCHANT, hour, {}, held | {f"mh{hour - 1}": packed(2, 700), f"mg{hour - 1}": b"\5"})
    assert (change.sets[f"m{TODAY}"], change.sets[f"mb{TODAY}"]) == (packed(2, 700), (5).to_bytes(16))


def test_repair_of_an_hour_whose_day_the_profile_has_forgotten_reads_the_whole_day():
    hour, day = NOW // HOUR, NOW // DAY * 24
    forgotten = {"mlast": (day + PROFILE_HOURS) * HOUR}
    assert sources(MERCHANT, hour, forgotten) == range(day, day + 24)
    assert f"mh{hour}" in plan(MERCHANT, hour, {}, forgotten).sets
    older = {"mlast": (hour + PROFILE_HOURS) * HOUR}
    assert f"mh{hour}" not in plan(MERCHANT, hour, {}, older).sets


@pytest.mark.parametrize("repaired", range(3))
def test_repair_after_days_leaves_a_merchants_profile_as_if_it_had_come_in_time(repaired):
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
        profile = there.profile("account#shop")
        profiles.append({name: value for name, value in profile.items() if name not in {"mv", "pk"}})
    assert profiles[0] == profiles[1]


def test_short_windows_of_a_merchant_reach_over_the_hour(deployed):
    offline = InMemoryCounters()
    found = []
    for minutes in (40, 58, 59.9, 60.2, 61):
        at = NOON + timedelta(minutes=minutes)
        paid = payment(transaction_id=f"t-{minutes}", type="merchant", payee_id="shop", occurred_at=at)
        values = measure(paid, counted(deployed.store, paid).state)
        assert values == measure(paid, offline.count(paid))
        found.append((values["merchant_count_1m"], values["merchant_count_1h"]))
    assert found == [(1, 1), (1, 2), (1, 3), (2, 4), (2, 5)]


def test_what_no_window_reaches_leaves_the_profile_and_nothing_else_does():
    others = {"fi20400": 1, "deny": {}, "status": "held", "ofirst": 3, "olast": 5, "i20000": 2, "uh1": 3, "ib1": b""}
    letters = ("o", "ob", "oe")
    profile = others | {f"{letter}{TODAY - age}": 1 for letter in letters for age in (0, 32, 33, 50)}
    expired = {f"{letter}{TODAY - age}" for letter in letters for age in (33, 50)}
    assert set(plan(PAYER, TODAY, {}, profile).removes) == expired
    hour = NOW // HOUR
    profile = others | {"m20000": 1} | {f"m{letter}{hour - age}": 1 for letter in "hg" for age in (0, 47, 48, 60)}
    expired = {"m20000", *(f"m{letter}{hour - age}" for letter in "hg" for age in (48, 60))}
    assert set(plan(MERCHANT, hour, {}, profile).removes) == expired


def test_fold_that_clears_a_full_profile_is_one_update_that_dynamodb_takes():
    old: dict[str, Any] = {f"{side}{n}": 1 for side in ("m", "mb") for n in range(20_100, 20_133)}
    old |= {f"m{letter}{n}": 1 for letter in "hg" for n in range(490_000, 490_048)}
    change = plan(MERCHANT, NOW // HOUR, {}, old)
    assert len(change.removes) == len(old)
    table = InMemoryDynamoDB()
    assert table.gather([Request("update_item", {"TableName": "profiles", **expression("account#shop", change)})]) == [
        {}
    ]


# --- in any order ----------------------------------------------------------------------------------------------------


def two_days(deployed: Deployment) -> list[Key]:
    """Payments of forty hours; returns what there is to fold."""
    keys: dict[Key, None] = {}
    for n in range(9):
        deployed.now = NOON + timedelta(hours=5 * n)
        for kind, payee in (("p2p", f"payee-{n % 2}"), ("merchant", "shop")):
            paid = deployed.pay(transaction_id=f"t-{n}-{kind}", type=kind, device_id=f"device-{n % 4}", payee_id=payee)
            keys |= {update.key: None for update in updates(paid) if update.key.slice is not None}
    return list(keys)


def folded(order: Sequence[int]) -> dict[str, dict[str, Any]]:
    """Every profile after these folds, but for the versions that say how often it was folded."""
    deployed = Deployment()
    keys = two_days(deployed)
    for position in order:
        deployed.fold({"pk": keys[position].pk, "sk": keys[position].sk})
    pks = (pk for (pk,) in deployed.table.tables[TABLES.profiles])
    return {pk: {name: value for name, value in deployed.profile(pk).items() if name[1:] != "v"} for pk in pks}


EACH = range(len(two_days(Deployment())))
IN_ORDER = folded(EACH)


@settings(max_examples=40)
@given(st.permutations(EACH), st.lists(st.sampled_from(EACH)))
def test_order_and_repetition_of_folds_leave_no_trace(order, again):
    assert folded([*order, *again]) == IN_ORDER


def test_memory_folds_again_what_was_repaired_after_its_fold():
    counters = InMemoryCounters()
    counters.count(payment())
    later = NOON + timedelta(days=2)
    counters.count(payment(transaction_id="t-2", occurred_at=later))
    counters.count(payment(transaction_id="t-lost", amount=5))
    last = payment(transaction_id="t-3", occurred_at=later + timedelta(hours=1))
    values = measure(last, counters.count(last))
    assert (values["payer_count_7d"], values["payer_sum_7d"]) == (4, 3 * 1200 + 5)


def test_memory_drops_items_of_folded_days_and_keeps_the_windows():
    counters = InMemoryCounters()
    for day in range(9):
        paid = payment(transaction_id=f"t-{day}", occurred_at=NOON + timedelta(days=day))
        values = measure(paid, counters.count(paid))
    assert (values["payer_count_7d"], values["payer_count_30d"]) == (7, 9)
    assert sorted(key.period - TODAY for key in counters.items if key.kind is PAYER) == [5, 6, 7, 8]
