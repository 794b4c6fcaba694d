"""Precision and recall from strata: what is determinable, what unresolved reviews do, and how many are needed."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud.reporting.intervals import clopper_pearson
from fraud.reporting.precision import MEANINGS, TOLERANCE, Plan, Reviews, precision, recall, reviews_needed

CAUGHT = Reviews("decline", 10_000, 1_000, frauds=800, honest=200)
NOTHING = Reviews("approve", 0, 0, 0, 0)


@st.composite
def strata(draw):
    frauds, honest, open_ = (draw(st.integers(0, 40)) for _ in range(3))
    sampled = frauds + honest + open_
    return Reviews("s", sampled + draw(st.integers(0, 5_000)), sampled, frauds, honest)


@settings(max_examples=60, deadline=None)
@given(st.lists(strata(), min_size=1, max_size=2), st.lists(strata(), max_size=3))
def test_estimates_lie_in_their_intervals_and_those_in_the_cautious_ones(declined, approved):
    for found in (precision(declined), recall(declined, approved)):
        assert found.unresolved >= 0
        if found.value is not None:
            assert found.interval.low <= found.value + 1e-9
            assert found.value <= found.interval.high + 1e-9
        if found.interval is not None:
            assert found.cautious.low <= found.interval.low <= found.interval.high <= found.cautious.high
            assert found.unresolved or found.interval == found.cautious
        for interval in filter(None, (found.interval, found.cautious)):
            assert 0 <= interval.low <= interval.high <= 1


def test_without_reviews_nothing_is_determinable():
    unknown = CAUGHT._replace(sampled=0, frauds=0, honest=0)
    assert precision([unknown]).words == precision([]).words == "not determinable"
    assert recall([unknown], [NOTHING]).words == recall([], []).words == "not determinable"
    assert recall([unknown], [Reviews("approve", 100, 0, 0, 0)]).interval == (0, 1)


def test_a_stratum_that_nobody_reviews_leaves_recall_open():
    unseen = Reviews("approve", 1_000_000, 0, 0, 0)
    found = recall([CAUGHT], [unseen])
    assert (found.value, found.interval.high) == (None, 1.0)


def test_unresolved_reviews_widen_the_cautious_interval_only():
    some = Reviews("decline", 1_000, 100, frauds=72, honest=18)
    found = precision([some])
    assert (found.value, found.unresolved) == (0.8, 10)
    assert found.cautious.low < found.interval.low
    assert found.cautious.high > found.interval.high


def test_recall_is_not_determinable_below_the_reviews_that_it_needs():
    plans = [Plan(1_000_000, 0.0001), Plan(20_000, 0.02, weight=20)]
    needed = reviews_needed([CAUGHT], plans)
    shares = [share / 2_000 for share in range(1, 100)]
    for share in shares:
        found = recall([CAUGHT], [plan.stratum(share) for plan in plans])
        drawn = sum(plan.drawn(share) for plan in plans)
        if drawn < 0.9 * needed:
            assert found.words == "not determinable"
        if drawn > 1.1 * needed:
            assert found.interval.half_width <= TOLERANCE


def test_the_rarer_the_missed_frauds_the_more_reviews_are_needed_for_a_given_share_of_them():
    needed = [
        reviews_needed([CAUGHT._replace(decided=n // 100)], [Plan(n, 0.002)]) for n in (100_000, 1_000_000, 10_000_000)
    ]
    assert all(fewer <= more for fewer, more in pairwise(needed))


def test_no_review_of_approved_payments_makes_up_for_declined_ones_that_nobody_reviews():
    assert reviews_needed([CAUGHT._replace(sampled=3, frauds=2, honest=1)], [Plan(1_000_000, 0.002)]) is None


def test_a_precision_is_at_most_as_wide_as_that_of_clopper_and_pearson():
    for frauds in range(0, 61, 5):
        found = precision([Reviews("decline", 600, 60, frauds, 60 - frauds)])
        assert found.interval.half_width <= clopper_pearson(frauds, 60).half_width


def test_a_dispute_is_honest_and_an_inconclusive_finding_says_nothing():
    assert [MEANINGS[finding] for finding in ("dispute", "inconclusive")] == ["honest", None]


def test_a_plan_after_nothing_was_found_expects_a_little():
    assert Plan.after(Reviews("approve", 9, 4, 0, 4)).rate == pytest.approx(0.1)
