"""The stability index is that of its definition, and a baseline's limits let quiet days pass and no drift."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fraud.errors import UndecidableError
from fraud.scoring.drift import FEWEST, LABEL_VOLUME, PRIOR, SCORE, Baseline, Measure, drift, psi, statistic
from models.training.baseline import BASELINE_DAYS, FALSE_ALARMS, QUIET_DAYS, edges, histogram, limit
from tests.acceptance.drift import drawn_day

COUNTS = st.lists(st.integers(0, 500), min_size=3, max_size=8).filter(lambda counts: sum(counts) >= FEWEST)
MEASURES = 43
CHANCE = FALSE_ALARMS / QUIET_DAYS / MEASURES


def measure(days: list[list[int]], **changes: object) -> Measure:
    whole = tuple(int(number) for number in np.sum(days, axis=0))
    said = {"edges": tuple(range(len(whole) - 2)), "counts": whole, "daily": 1_000, "limit": limit(days, CHANCE)}
    return Measure.model_validate(said | changes)


@given(COUNTS, st.randoms(use_true_random=False))
def test_the_index_is_symmetric_never_negative_and_zero_for_equal_shares_only(counts, random):
    other = random.sample(counts, len(counts))
    assert math.isclose(psi(counts, other), psi(other, counts), abs_tol=1e-12)
    assert psi(counts, other) >= 0
    assert psi(counts, counts) == 0
    assert (psi(counts, other) == 0) == (counts == other)


@given(COUNTS)
def test_the_index_is_the_sum_of_its_definition(counts):
    base = [number + 7 for number in counts]
    p = np.array(counts) + PRIOR
    q = np.array(base) + PRIOR
    p, q = p / p.sum(), q / q.sum()
    assert math.isclose(psi(counts, base), float(((p - q) * np.log(p / q)).sum()), abs_tol=1e-9)


@pytest.mark.parametrize("daily", [200, 5_000])
def test_of_independent_draws_the_statistic_has_the_mean_of_chi_square_at_any_size(daily):
    rng = np.random.default_rng(17)
    shares = np.full(10, 0.1)
    base = rng.multinomial(35 * daily, shares)
    found = [statistic(day, base) for day in rng.multinomial(daily, shares, 4_000).tolist()]
    assert np.mean(found) == pytest.approx(9, rel=0.08)


def bursts(rng: np.random.Generator, days: int) -> list[list[int]]:
    return [drawn_day(rng) for _ in range(days)]


def test_thirty_quiet_days_of_all_measures_alarm_more_seldom_than_the_bound():
    rng = np.random.default_rng(17)
    worlds, alarms = 60, 0
    for _ in range(worlds):
        beyond = False
        for _ in range(MEASURES // 6):  # a sixth of the measures of a world, so that the run is short
            days = bursts(rng, BASELINE_DAYS + QUIET_DAYS)
            one = measure(days[:BASELINE_DAYS])
            beyond = beyond or any(psi(day, one.counts) > one.psi_limit(sum(day)) for day in days[BASELINE_DAYS:])
        alarms += beyond
    assert alarms <= 1


def test_the_plain_threshold_of_chi_square_would_alarm_on_many_quiet_days():
    rng = np.random.default_rng(17)
    days = bursts(rng, BASELINE_DAYS + QUIET_DAYS)
    whole = np.sum(days[:BASELINE_DAYS], axis=0).tolist()
    plain = float(stats.chi2.isf(CHANCE, 4))
    assert sum(statistic(day, whole) > plain for day in days[BASELINE_DAYS:]) > QUIET_DAYS / 10


def test_a_new_bin_of_three_percent_is_drift_and_more_payments_do_not_make_a_quiet_day_one():
    rng = np.random.default_rng(17)
    days = [[*day, 0] for day in rng.multinomial(1_000, [0.7, 0.295, 0.005], BASELINE_DAYS).tolist()]
    one = measure(days)
    assert psi([680, 285, 35, 0], one.counts) > one.psi_limit(1_000)
    assert one.psi_limit(10**7) == one.psi_limit(1_000)


def test_the_farthest_day_of_the_baseline_is_quiet():
    days = [[500, 500, 0]] * 30 + [[900, 100, 0]]
    assert psi(days[-1], measure(days).counts) < measure(days).psi_limit(1_000)


def test_missing_values_have_a_bin_and_equal_values_share_one():
    values = np.array([0.0] * 60 + [1.0, 2.0, math.nan])
    found = edges(values, (0.1, 0.5, 0.99))
    assert found == [1.5]
    assert histogram(values, found) == [61, 1, 1]
    assert edges(np.array([math.nan]), (0.5,)) == []


def test_a_day_of_few_values_says_nothing_and_each_measure_belongs_to_a_kind():
    one = Measure(edges=(0.5,), counts=(900, 100, 0), daily=100, limit=20)
    base = Baseline(
        model="m",
        fingerprint="f",
        first="2026-01-01",
        last="2026-02-04",
        measures={"amount_log": one, SCORE: one, LABEL_VOLUME: one},
    )
    counted = {"amount_log": [0, FEWEST - 1, 0], SCORE: [10, 90, 0], LABEL_VOLUME: [90, 10, 0]}
    found = {each.measure: each for each in drift(base, counted)}
    assert {name: each.kind for name, each in found.items()} == {SCORE: "score", LABEL_VOLUME: "labels"}
    assert found[SCORE].ratio > 1 > found[LABEL_VOLUME].ratio


@pytest.mark.parametrize(
    "damage", [{"edges": [2, 1]}, {"counts": [5, 5]}, {"counts": [-1, 9, 9, 9]}, {"limit": 0}, {"more": 1}]
)
def test_a_damaged_baseline_is_refused_by_the_field(damage):
    one = {"edges": [1, 2], "counts": [5, 5, 5, 5], "daily": 10, "limit": 3} | damage
    said = {"model": "m", "fingerprint": "f", "first": "d", "last": "d", "measures": {"score": one}}
    with pytest.raises(UndecidableError, match=r"baseline: measures\.score"):
        Baseline.load(json.dumps(said).encode())
