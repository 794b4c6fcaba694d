"""`python -m tests.acceptance.honest_model` in small: two worlds, whose figures must follow from their weeks."""

import re

import numpy as np
import pytest

from models.training.costs import choose, friction, outcomes, weights
from tests.acceptance import honest_model
from tests.acceptance.honest_model import BUDGET, Week, cost_of, judge, mean_interval, pooled_friction, week


@pytest.fixture(scope="module")
def weeks() -> list[Week]:
    return [week(seed, 30, 60, crime=6) for seed in (11, 12)]


def test_the_printed_figures_are_those_of_the_weeks(weeks, capsys):
    judge(weeks, 5)
    told = capsys.readouterr().out
    disturbed = sum(int((outcomes(one.scored, one.thresholds)[~one.scored.fraud] > 0).sum()) for one in weeks)
    honest = sum(int((~one.scored.fraud).sum()) for one in weeks)
    assert f"friction {disturbed / honest:.3%}, upper 95 % bound" in told
    assert re.search(r"cost [\d,]+, in hindsight [\d,]+: ratio \d", told)
    assert re.search(r"observed / expected \d", told)
    assert re.search(r"card_testing +\d+ frauds, recall|account_takeover +\d+ frauds, recall", told)


def test_the_bound_of_the_pooled_friction_lies_above_it_and_a_world_more_narrows_it(weeks):
    rate, bound = pooled_friction(weeks)
    assert 0 <= rate < bound
    assert pooled_friction([*weeks, *weeks])[0] == pytest.approx(rate)
    assert pooled_friction([*weeks, *weeks])[1] < bound


def test_no_thresholds_are_cheaper_than_those_of_hindsight_with_no_more_friction(weeks):
    for one in weeks:
        best = choose(one.scored, BUDGET, hindsight=True)
        within = friction(one.scored, one.thresholds) <= max(BUDGET.friction, best.rules_friction)
        assert not within or cost_of(one, dict(best.by_outcome)) <= cost_of(one, one.thresholds) + 1e-6
        assert weights(one.scored.fraud, BUDGET.base_rate)[~one.scored.fraud].max() == 1


def test_the_interval_of_a_mean_is_students():
    middle, low, high = mean_interval(np.arange(10.0).tolist())
    assert (middle, low, high) == pytest.approx((4.5, 4.5 - 2.1659, 4.5 + 2.1659), abs=1e-3)


def test_a_kept_world_is_read_again(tmp_path):
    first = honest_model.dataset_of(11, 2, 60, tmp_path)
    again = honest_model.dataset_of(11, 2, 60, tmp_path)
    np.testing.assert_array_equal(first.features, again.features)
