"""Figures of a ranking equal their definitions by brute force, and bounds cover what they must."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.training.metrics import (
    average_precision,
    bands,
    interval,
    precision_at,
    recall_at,
    roc_auc,
    upper_bound,
    wilson_lower,
)

ROWS = st.lists(
    st.tuples(st.sampled_from([0.1, 0.2, 0.5, 0.9]), st.booleans(), st.integers(0, 3)), min_size=1, max_size=25
)


def columns(rows):
    scores, frauds, weights = zip(*rows, strict=True)
    return np.array(scores), np.array(frauds), np.array(weights, np.float64)


def repeated(rows):
    """Return the rows as often as their weights say."""
    return [row for row in rows for _ in range(row[2])]


@given(ROWS)
def test_average_precision_adds_precision_times_gain_in_recall_at_each_threshold(rows):
    score, fraud, _ = columns(rows)
    total, before = 0.0, 0
    for cut in sorted({*score.tolist()}, reverse=True):
        caught = int((fraud & (score >= cut)).sum())
        total += (caught - before) * caught / int((score >= cut).sum())
        before = caught
    expected = total / fraud.sum() if fraud.any() else math.nan
    assert average_precision(score, fraud) == pytest.approx(expected, nan_ok=True)


@given(ROWS)
def test_roc_auc_is_the_share_of_pairs_in_the_right_order(rows):
    score, fraud, _ = columns(rows)
    pairs = [(a > b) + (a == b) / 2 for a in score[fraud] for b in score[~fraud]]
    assert roc_auc(score, fraud) == pytest.approx(np.mean(pairs) if pairs else math.nan, nan_ok=True)


@given(ROWS, st.sampled_from([0, 0.2, 0.5, 1]))
def test_recall_at_a_rate_is_that_of_the_lowest_threshold_that_the_rate_allows(rows, rate):
    score, fraud, _ = columns(rows)
    allowed = [
        (fraud & (score >= cut)).sum() / fraud.sum()
        for cut in [*score.tolist(), 2.0]
        if fraud.any() and (~fraud).any() and (~fraud & (score >= cut)).sum() <= rate * (~fraud).sum()
    ]
    assert recall_at(rate, score, fraud) == pytest.approx(max(allowed) if allowed else math.nan, nan_ok=True)


@given(ROWS)
def test_a_weight_counts_like_so_many_equal_payments(rows):
    score, fraud, weight = columns(rows)
    more = repeated(rows)
    again = columns(more)[:2] if more else (np.array([]), np.array([], np.bool_))
    for figure in (average_precision, roc_auc, lambda *given: recall_at(0.2, *given)):
        assert figure(score, fraud, weight) == pytest.approx(figure(*again), nan_ok=True)


def test_precision_among_the_first_payers_of_a_day_counts_a_payer_once():
    score = np.array([0.9, 0.8, 0.7, 0.6, 0.9])
    fraud = np.array([False, True, False, True, True])
    payer, day = np.array([1, 1, 2, 3, 1]), np.array([5, 5, 5, 5, 6])
    assert precision_at(2, score, fraud, payer, day) == pytest.approx((1 / 2 + 1 / 2) / 2)  # payers 1 and 2; payer 1


@given(ROWS, st.integers(1, 4))
def test_bands_split_the_payments_by_score_and_lose_none(rows, least):
    score, fraud, weight = columns(rows)
    found = bands(score, fraud, weight + 1, least)
    assert sum(band.payments for band in found) == len(rows)
    assert sum(band.frauds for band in found) == fraud.sum()
    assert all(band.frauds >= least for band in found) or len(found) == 1
    assert [band.least for band in found] == sorted(band.least for band in found)
    assert sum(band.expected for band in found) == pytest.approx((score * (weight + 1)).sum())
    assert sum(band.observed for band in found) == pytest.approx((weight + 1)[fraud].sum())


def test_the_interval_of_a_mean_covers_it_and_knows_that_payments_of_a_payer_are_alike():
    rng = np.random.default_rng(3)
    payer = np.repeat(np.arange(60), 20)
    alike, alone = rng.normal(size=60)[payer], rng.normal(size=1200)

    def width(values):
        low, high = interval(lambda w: float((w * values).sum() / w.sum()), payer, np.ones(1200), seed=1)
        assert low < values.mean() < high
        return high - low

    assert width(alike) > 2.5 * width(alone)
    assert all(map(math.isnan, interval(lambda _: math.nan, payer, np.ones(1200), seed=1)))


def test_the_upper_bound_covers_the_true_rate_in_about_95_of_100_draws():
    rng = np.random.default_rng(5)
    covered = 0
    for _ in range(400):
        payments = rng.integers(1, 40, 200).astype(np.float64)
        rates = rng.gamma(0.5, 0.04, 200)  # payers differ, so their payments are alike
        events = rng.poisson(rates * payments).astype(np.float64)
        covered += bool(upper_bound(events[:, None], payments)[0] >= 0.02)
    assert 360 <= covered <= 396


def test_without_events_the_bound_is_that_of_a_poisson_count():
    assert upper_bound(np.zeros((10, 1)), np.full(10, 30.0))[0] == pytest.approx(0.01)


@given(st.integers(0, 50), st.integers(1, 50))
@settings(max_examples=50)
def test_the_lower_bound_of_a_share_lies_between_nothing_and_the_share(successes, trials):
    bound = wilson_lower(np.array([min(successes, trials)], np.float64), trials)[0]
    assert 0 <= bound <= min(successes, trials) / trials + 1e-12
