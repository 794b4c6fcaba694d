"""Sampling inside an item: weights, raises, closing and upkeep; and the acceptance run of sampling at a small size."""

import random
from datetime import timedelta
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud.aws.transport import ConditionFailed, Request
from fraud.counters import sampling
from fraud.counters.codec import attempt_update, item_of, taking_back, upkeep_update
from fraud.counters.in_memory import InMemoryCounters
from fraud.counters.keys import DECLARED
from fraud.counters.layout import (
    CLOSED,
    KINDS,
    LEVELS,
    MERCHANT,
    MOST_GRADES,
    PAIR,
    PAYEE,
    PAYER,
    SCALES,
    SLOTS,
    TOKEN_BYTES,
    TOKENS,
    Item,
    Key,
    Kind,
    Update,
    grade_of,
    leave_of,
    packed,
    unpacked,
)
from fraud.counters.sampling import AFTER_BURST, BURST, CAPS, CLOSE, COMPACT, MOST_REMOVED, NewSlot, Raise
from fraud.counters.windows import measure
from tests.acceptance import sampling as acceptance
from tests.support.in_memory_dynamodb import InMemoryDynamoDB
from tests.support.payments import NOON, payment, updates

TABLE = "counters"
LEVEL = st.integers(0, LEVELS - 1)
HARDLY_SAMPLED = Item(level=1)
"""An item of the day before, after which an item starts at level 0."""


def update_of(kind: Kind, **fields: object) -> Update:
    """Return a payment's update of one kind."""
    given_fields = {"type": "merchant" if kind is MERCHANT else "p2p"} | fields
    return next(update for update in updates(payment(**given_fields)) if update.key.kind is kind)


def attempts(kind: Kind, number: int, seed: int = 1, **changes: object) -> list[Update]:
    """Return as many attempts on one item, in one bucket. `changes` replace fields of their updates."""
    rng, one = random.Random(seed), update_of(kind)._replace(**changes)
    drawn = []
    for _ in range(number):
        leave = leave_of(rng.randbytes(10), one.grade)
        tokens = one.tokens if kind is PAIR else TOKENS[leave]
        drawn.append(one._replace(token=rng.randbytes(TOKEN_BYTES), leave=leave, tokens=tokens))
    return drawn


def item_with(moved: list[Update], level: int = 0) -> Item:
    item = Item(level=level)
    for update in moved:
        item.apply(update)
    return item


def raises(update: Update, item: Item, before: Item | None = None, *, exact: bool = False) -> list[Raise]:
    return [each for each in sampling.upkeep(update, item, before, exact=exact) if isinstance(each, Raise)]


# --- weights ---------------------------------------------------------------------------------------------------------


@given(st.integers(0, MOST_GRADES), LEVEL)
def test_a_weight_is_the_inverse_of_the_probability_to_be_in_the_sample(grade, level):
    update = update_of(PAYEE)._replace(grade=grade)
    in_sample = Fraction(0)
    for zeros in range(LEVELS + 1):
        drawn = 1 << zeros & (1 << LEVELS) - 1
        leave = leave_of(bytes(TOKEN_BYTES) + drawn.to_bytes(4), grade)
        in_sample += Fraction(leave >= level, 2 ** min(zeros + 1, LEVELS))
    assert in_sample * update.weight(level) == 1


@given(st.integers(1, 10**11), st.sampled_from([1_000, 50_000]))
def test_an_amount_of_more_units_stays_longer_up_to_a_limit(amount, unit):
    grade = grade_of(amount, unit)
    assert grade == MOST_GRADES or 2**grade * unit <= max(amount, unit) < 2 ** (grade + 1) * unit
    assert grade <= grade_of(2 * amount, unit) <= MOST_GRADES


@given(st.binary(min_size=10, max_size=10), st.integers(0, MOST_GRADES))
def test_every_attempt_leaves_before_an_item_is_closed(mac, grade):
    assert grade <= leave_of(mac, grade) < CLOSED


def test_all_items_of_a_payment_but_pairs_keep_its_token_under_the_same_name():
    moved = updates(payment(amount=5_000))
    assert {update.token for update in moved} == {DECLARED.mac(payment(amount=5_000).identity, 20516)[:TOKEN_BYTES]}
    assert {update.tokens for update in moved if update.key.kind is not PAIR} == {TOKENS[moved[0].leave]}


# --- the same conditions in memory and in DynamoDB -------------------------------------------------------------------


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.integers(0, 3))
def test_attempts_raises_and_take_backs_change_an_item_in_memory_as_in_dynamodb(seed, level):
    rng, table, item = random.Random(seed), InMemoryDynamoDB(), Item(level=level)
    moved = attempts(MERCHANT, 12, seed)
    table.tables[TABLE][moved[0].key.pk, moved[0].key.sk] = {"pk": {"S": "shop"}} | (
        {"l": {"N": str(level)}} if level else {}
    )

    def carried_out(payload):
        (result,) = table.gather([Request("update_item", {"TableName": TABLE, **payload})])
        return not isinstance(result, ConditionFailed)

    counted: list[tuple[Update, int]] = []
    for _ in range(30):
        update = rng.choice(moved)
        drawn = rng.random()
        if drawn < 0.6:
            fits = update.leave >= item.level  # `store.Attempt` sends no other
            assert item.apply(update) is (fits and carried_out(attempt_update(update, item.level)))
            counted.append((update, item.level))
        elif drawn < 0.8 and counted:
            taken = rng.choice(counted)
            assert item.take_back(*taken) is carried_out(taking_back(*taken))
        elif item.level < LEVELS - 2:
            change = Raise(update.key, item.level, item.level + rng.randint(1, 2), ("s1", f"s{update.buckets[0][1]}"))
            sampling.raised(item, change)
            assert carried_out(upkeep_update(change))
            assert not carried_out(upkeep_update(change)), "the level has changed"
    (row,) = table.tables[TABLE].values()
    stored = item_of(row)
    assert (stored.level, stored.buckets, stored.slots) == (item.level, item.buckets, item.slots)
    assert stored.tokens == {name: tokens for name, tokens in item.tokens.items() if tokens}


@given(st.integers(0, 40), LEVEL, st.integers(0, 20))
def test_the_level_for_a_number_of_tokens_is_the_least_that_leaves_no_more(number, level, most):
    item = item_with([each for each in attempts(PAYEE, number, seed=number) if each.leave >= level], level)
    to = item.level_for(most)

    def left(at):
        return sum(len(tokens) for name, tokens in item.tokens.items() if int(name[1:]) >= at)

    assert to == level or left(to - 1) > most
    assert left(to) <= most


# --- upkeep ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [PAYEE, MERCHANT])
def test_an_item_above_its_cap_is_raised_until_at_most_half_of_the_cap_stay(kind):
    cap = CAPS[kind.sk]
    moved = [
        update._replace(buckets=tuple((scale, n % 200) if scale == "s" else (scale, 0) for scale in kind.scales))
        for n, update in enumerate(attempts(kind, cap + 1))
    ]
    item = item_with(moved[:-1])
    assert raises(moved[0], item) == []
    item.apply(moved[-1])
    (change,) = raises(moved[-1], item)
    sampling.raised(item, change)
    assert item.token_count() <= cap // 2
    assert all(int(name[1:]) >= item.level for name in item.tokens)
    assert unpacked(sum(item.buckets["h"].values()))[0] == cap + 1, "a raise changes no count"


def test_a_burst_in_one_bucket_raises_an_item_before_it_is_full():
    burst = attempts(MERCHANT, BURST + 1)
    item = item_with(burst)
    (change,) = raises(burst[0], item)
    sampling.raised(item, change)
    assert item.token_count() <= AFTER_BURST
    calm = item_with([update._replace(buckets=(("s", n % 2), ("m", 0), ("h", 0))) for n, update in enumerate(burst)])
    if CAPS["h"] > BURST:
        assert raises(burst[0]._replace(buckets=(("s", 0), ("m", 0), ("h", 0))), calm) == []


def test_a_level_of_sampling_is_never_that_of_a_closed_item():
    stays = [update._replace(leave=LEVELS - 1, tokens=TOKENS[-1]) for update in attempts(PAYEE, CAPS["d"] + 1)]
    (change,) = raises(stays[0], item_with(stays))
    assert change.to == LEVELS - 1
    assert raises(stays[0], item_with(stays, level=LEVELS - 1)) == []


@pytest.mark.parametrize("kind", [PAYER, PAIR])
def test_an_item_of_a_kind_that_is_never_sampled_closes_and_keeps_its_tokens(kind):
    moved = attempts(kind, CLOSE + 2)
    item = item_with(moved[:CLOSE])
    assert raises(moved[0], item, exact=True) == []
    item.apply(moved[CLOSE])
    (change,) = raises(moved[0], item, exact=True)
    assert change == Raise(moved[0].key, 0, CLOSED)
    sampling.raised(item, change)
    assert not item.apply(moved[-1])
    assert item.holds(moved[0])
    assert item.token_count() == CLOSE + 1
    assert list(sampling.upkeep(moved[-1]._replace(slot=5), item, None, exact=True)) == []


def test_an_item_is_raised_to_the_level_at_which_the_period_before_lets_it_start():
    (update,) = attempts(MERCHANT, 1)
    before = next(level for level in range(LEVELS) if sampling.start_level(MERCHANT, level) == 2)
    assert raises(update, item_with([update]), Item(level=before)) == [Raise(update.key, 0, 2)]
    assert raises(update, Item(level=2), Item(level=before)) == []
    assert raises(update, item_with([update]), Item(level=CLOSED)) == []
    grown = item_with(attempts(MERCHANT, sampling.YOUNG + 1))  # the period before was compacted since
    assert raises(update, grown, Item(level=before)) == []


@given(LEVEL, st.sampled_from(sorted(KINDS)))
def test_an_item_starts_no_higher_than_the_period_before_was(level, kind):
    assert 0 <= sampling.start_level(KINDS[kind], level) <= level


def test_a_counterparty_outside_the_sample_is_still_counted_as_distinct():
    update = update_of(PAYEE)._replace(leave=0)
    item = Item(level=1)
    assert list(sampling.upkeep(update, item, None, exact=False)) == [NewSlot(update.key, 12 * SLOTS + update.slot)]
    item.slots[12] = 1 << update.slot
    assert list(sampling.upkeep(update, item, None, exact=False)) == []
    for before in (None, HARDLY_SAMPLED):
        assert list(sampling.upkeep(update, Item(), before, exact=False)) == [], "at level 0 its update adds the slot"


def test_a_day_of_a_sampled_item_keeps_fine_buckets_of_the_last_full_hour_and_later():
    update = update_of(PAYEE)
    first = 11 * 3600 // SCALES["s"]
    fine = dict.fromkeys(range(first - 5, first + 5), packed(1, 1))
    sampled, whole = Item(level=1), Item()
    sampled.buckets["s"] |= fine
    whole.buckets["s"] |= fine
    (change,) = raises(update, sampled)
    assert change == Raise(update.key, 1, 1, tuple(f"s{number}" for number in range(first - 5, first)))
    sampling.raised(sampled, change)
    assert sorted(sampled.buckets["s"]) == list(range(first, first + 5))
    for before in (None, HARDLY_SAMPLED):
        assert raises(update, whole, before) == [], "at level 0 nothing is dropped"
    sampled.buckets["s"] |= dict.fromkeys(range(first), packed(1, 1))
    assert [len(change.removed) for change in raises(update, sampled)] == [MOST_REMOVED]


# --- old hours -------------------------------------------------------------------------------------------------------


def compacted(hours_ago: int, count: int, amount: int, level: int, kind: Kind = MERCHANT) -> list[Raise]:
    update = update_of(kind)
    item = Item(level=level)
    item.buckets["h"][0] = packed(count, amount)
    key = update.key._replace(period=update.key.period - hours_ago)
    return list(sampling.compactions({key: item}, payment(type="merchant")))


def test_hours_before_the_last_full_one_are_compacted_if_they_are_sampled():
    key = Key(MERCHANT, "payee-1", update_of(MERCHANT).key.period - 2)
    assert compacted(2, 4 * COMPACT, 0, 1) == [Raise(key, 1, 2, sampling.FINE_OF_HOUR)]
    for left_alone in ((1, 4 * COMPACT, 0, 1), (2, 4 * COMPACT, 0, 0), (2, 4 * COMPACT, 0, 2), (2, 10**6, 0, CLOSED)):
        assert compacted(*left_alone) == []
    assert compacted(48, 10**6, 0, 1, PAYEE) == [], "days are compacted by their writers"
    assert compacted(2, 10**8, 10**15, 1)[0].to == LEVELS - 1


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=300), st.integers(1, 12))
def test_a_compaction_leaves_no_more_tokens_than_meant_on_average(amounts, level):
    kept = sum(Fraction(1, 1 << max(level - grade_of(amount, 1_000), 0)) for amount in amounts)
    for change in compacted(2, len(amounts), sum(amounts), level):
        left = sum(Fraction(1, 1 << max(change.to - grade_of(amount, 1_000), 0)) for amount in amounts)
        assert left <= min(kept, COMPACT) or change.to == LEVELS - 1


# --- what a payment sees ---------------------------------------------------------------------------------------------


@given(st.integers(0, 6), st.integers(0, 8))
def test_a_payment_sees_the_others_as_estimated_and_itself_once(level, leave):
    others = [update for update in attempts(PAYEE, 20) if update.leave >= level]
    item = item_with(others, level)
    estimated = dict(item.buckets["h"])
    update = update_of(PAYEE)._replace(leave=leave, tokens=TOKENS[leave], amount=700, grade=0)
    counted = item.apply(update)
    stored = dict(item.buckets["h"])
    own = sampling.seen(update, item, counted=counted, recounted=False)
    assert own.buckets["h"] == {12: estimated.get(12, 0) + packed(1, 700)}
    assert own.slots[12] >> update.slot & 1
    assert item.buckets["h"] == stored, "the stored item is not changed"
    assert sampling.seen(update, item, counted=False, recounted=True) is item


def test_counters_in_memory_say_which_kinds_are_estimated_and_count_exactly_where_they_must():
    paid = [
        payment(transaction_id=f"t-{n}", payer_id=f"payer-{n}", device_id=None, occurred_at=NOON + timedelta(seconds=n))
        for n in range(CAPS["d"] + 100)
    ]
    sampled, exact = InMemoryCounters(), InMemoryCounters(exact=sampling.EXACT | {"payee"})
    states = [(sampled.count(each), exact.count(each)) for each in paid]
    assert [state.estimated for state in states[-1]] == [["payee"], []]
    estimate, truth = (measure(paid[-1], state)["payee_count_24h"] for state in states[-1])
    assert truth == len(paid)
    assert 0.6 < estimate / truth < 1.6


# --- the acceptance run, small ---------------------------------------------------------------------------------------


def test_forgeries_that_worked_on_unkeyed_hashes_fail():
    lines = list(acceptance.forged(acceptance.forgeries(50)))
    assert [text for met, text in lines if not met] == []


def test_a_hot_receiver_of_the_acceptance_run_is_counted_as_in_memory():
    paid = [
        payment(transaction_id=f"t-{n}", payer_id=f"payer-{n}", amount=n + 1, occurred_at=NOON + timedelta(seconds=n))
        for n in range(2 * CAPS["d"])
    ]
    counters, item = InMemoryCounters(), Item()
    macs = [DECLARED.mac(each.identity, 20516) for each in paid]
    for each in paid:
        counters.count(each)
    moved = [update_of(PAYEE, **each.model_dump(exclude_none=True)) for each in paid]
    acceptance.count_in(item, moved, [(mac[:TOKEN_BYTES], leave_of(mac, 0)) for mac in macs])
    stored = counters.items[moved[0].key]
    assert (stored.level, stored.tokens, stored.buckets) == (item.level, item.tokens, item.buckets)
    assert item.level


def test_in_any_order_of_requests_and_responses_an_attempt_has_one_weight_or_none():
    found = acceptance.interleave(range(1, 21), acceptance.GROWN)
    others = acceptance.interleave(range(1, 7), (*acceptance.YOUNG, *acceptance.OTHERS))
    assert found.broken + others.broken == {}
    assert not found.biased
    assert min(found.happened[name] for name in (*acceptance.FATES, "Raise", "NewSlot", "refused", "repaired")) > 30


def test_the_check_of_interleavings_finds_a_biased_attempt():
    assert acceptance.interleave(range(1, 41), acceptance.YOUNG, acceptance.own_level).biased


def test_large_payments_are_not_hidden_behind_thousands_of_small_ones():
    heated = acceptance.heat(range(8, 10), spread_every=8)
    assert {place: hidden for place, hidden in heated.hidden.items() if "steady" in place and hidden} == {}
    assert all(errors.deviation < 0.2 for errors in heated.small.values())
