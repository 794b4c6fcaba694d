"""Exact intervals: beside SciPy's, beside sums of whole numbers, and by the share of draws that they cover."""

from math import comb

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import betaincinv

from fraud.reporting.intervals import Interval, clopper_pearson, each_of, finite_total, share_of, summed

COUNTS = st.integers(1, 1_000_000_000).flatmap(
    lambda trials: st.tuples(
        st.one_of(st.integers(0, min(trials, 5_000)), st.integers(max(0, trials - 5_000), trials)), st.just(trials)
    )
)
CONFIDENCES = st.sampled_from((0.9, 0.95, 0.99, 0.999))


@settings(max_examples=60, deadline=None)
@given(COUNTS, CONFIDENCES)
def test_the_interval_of_a_rate_is_that_of_scipy(counts, confidence):
    successes, trials = counts
    doubt = (1 - confidence) / 2
    found = clopper_pearson(successes, trials, confidence)
    low = betaincinv(successes, trials - successes + 1, doubt) if successes else 0.0
    high = betaincinv(successes + 1, trials - successes, 1 - doubt) if successes < trials else 1.0
    assert found == pytest.approx((low, high), rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("successes", [0, 1, 4, 400, 500_000])
def test_a_rate_of_a_billion_payments_is_as_exact(successes):
    low = betaincinv(successes, 10**9 - successes + 1, 0.025) if successes else 0.0
    found = clopper_pearson(successes, 10**9)
    assert found == pytest.approx((low, betaincinv(successes + 1, 10**9 - successes, 0.975)), rel=1e-9)


@pytest.mark.parametrize("trials", [1, 7, 40])
def test_the_interval_of_a_rate_covers_as_often_as_it_promises(trials):
    intervals = [clopper_pearson(count, trials) for count in range(trials + 1)]
    for percent in range(101):
        rate = percent / 100
        covered = sum(
            comb(trials, count) * rate**count * (1 - rate) ** (trials - count)
            for count, interval in enumerate(intervals)
            if interval.covers(rate)
        )
        assert covered >= 0.95


def probability(count, drawn, marked, population):
    return comb(marked, count) * comb(population - marked, drawn - count) / comb(population, drawn)


@pytest.mark.parametrize(("drawn", "population"), [(1, 9), (5, 30), (20, 60), (60, 60)])
def test_the_interval_of_a_total_covers_as_often_as_it_promises(drawn, population):
    intervals = [finite_total(found, drawn, population) for found in range(drawn + 1)]
    for marked in range(population + 1):
        draws = range(max(0, drawn - population + marked), min(drawn, marked) + 1)
        covered = sum(
            probability(found, drawn, marked, population) for found in draws if intervals[found].covers(marked)
        )
        assert covered >= 0.95 - 1e-12


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 200).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))), st.data())
def test_the_bounds_of_a_total_are_the_last_that_the_draw_does_not_make_too_unlikely(sizes, data):
    population, drawn = sizes
    found = data.draw(st.integers(0, drawn))
    low, high = finite_total(found, drawn, population)
    surely, perhaps = [], []  # a chance of exactly .025 may be rounded either way
    for marked in range(found, population - drawn + found + 1):
        at_most = sum(probability(count, drawn, marked, population) for count in range(found + 1))
        at_least = sum(probability(count, drawn, marked, population) for count in range(found, min(drawn, marked) + 1))
        surely += [marked] * (min(at_most, at_least) > 0.025 + 1e-9)
        perhaps += [marked] * (min(at_most, at_least) > 0.025 - 1e-9)
    assert low in {surely[0], perhaps[0]}
    assert high in {surely[-1], perhaps[-1]}


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 90), st.integers(90, 5_000), st.integers(5_000, 10**9))
def test_a_total_is_known_at_least_as_well_as_the_rate_of_an_endless_stream(found, reviewed, population):
    low, high = finite_total(found, reviewed, population)
    rate = clopper_pearson(found, reviewed)
    assert rate.low * population - 1 <= low <= high <= rate.high * population + 1


@pytest.mark.parametrize(("found", "of"), [(-1, 5), (6, 5)])
def test_impossible_counts_are_refused(found, of):
    with pytest.raises(ValueError, match="of 5"):
        clopper_pearson(found, of)
    with pytest.raises(ValueError, match="of 5"):
        finite_total(found, of, 9)


def test_doubts_of_intervals_that_hold_together_add_up_to_that_of_the_whole():
    assert 5 * (1 - each_of(5, 0.9)) == pytest.approx(0.1)
    assert summed([Interval(1, 2), Interval(3, 4)]) == (4, 6)


def test_a_share_of_nothing_is_not_determinable():
    assert share_of(Interval(0, 0), Interval(0, 0)) is None
    assert share_of(Interval(0, 4), Interval(0, 9)) == (0, 1)
    assert share_of(Interval(2, 4), Interval(0, 0)) == (1, 1)
