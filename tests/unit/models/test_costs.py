"""Figures follow their definitions, and no other thresholds within the budget cost less than the chosen ones."""

import math
from dataclasses import replace
from itertools import combinations_with_replacement

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud.outcome import Outcome, by_score
from models.training import costs, figures, unseen
from models.training.costs import (
    COMPLAINT,
    COSTS,
    GRID,
    Budget,
    Scored,
    choose,
    friction,
    outcomes,
    total_cost,
    weights,
)
from models.training.figures import SILENT, prefilter_cost, report
from models.training.metrics import average_precision

THRESHOLDS = {"challenge": 0.2, "review": 0.5, "decline": 0.8}
FREE = Budget(friction=1, reviews=1, precision=0, alerts=0, base_rate=0)
"""A budget that allows everything, with the frauds as they are in the data."""


def scored(*rows: tuple[float, int, str], rules: tuple[int, ...] = (), skipped: tuple[int, ...] = ()) -> Scored:
    """Return payments of one payer each, from rows of score, amount and tactic. An empty tactic is an honest payment.

    rules    severities of the rules' outcomes; 0 beyond the end
    skipped  places of the payments that the model is not asked about
    """
    scores, amounts, tactics = zip(*rows, strict=True)
    fraud = np.array([bool(tactic) for tactic in tactics])
    severities = np.array([*rules, *[0] * (len(rows) - len(rules))], np.int8)
    asked = np.array([place not in skipped for place in range(len(rows))])
    return Scored(
        np.array(scores, np.float64),
        np.array(amounts, np.int64),
        fraud,
        np.array(tactics, np.dtypes.StringDType()),
        np.arange(len(rows)),
        severities,
        asked,
    )


ROWS = (
    (0.9, 1_000, "mule"),
    (0.9, 50, ""),
    (0.6, 3_000, "testing"),
    (0.2, 10, ""),
    (0.1, 500, "mule"),
    (0.1, 70, ""),
)
HANDFUL = scored(*ROWS)


def test_average_precision_is_the_precision_gained_per_step_of_recall():
    assert average_precision(HANDFUL.score, HANDFUL.fraud) == pytest.approx((1 / 2 + 2 / 3 + 3 / 6) / 3, abs=1e-4)


def test_average_precision_is_one_for_a_perfect_ranking_and_nan_without_fraud():
    assert average_precision(np.array([0.1, 0.8, 0.9]), np.array([False, True, True])) == 1
    assert math.isnan(average_precision(np.array([0.1]), np.array([False])))


def test_catches_are_counted_per_tactic_and_threshold():
    catches = {(catch.outcome, catch.tactic): catch for catch in report(HANDFUL, THRESHOLDS, FREE).catches}
    assert len(catches) == 9
    whole, mule, testing = (catches["challenge", tactic] for tactic in ("all", "mule", "testing"))
    assert (whole.frauds, whole.caught, whole.recall, whole.precision) == (3, 2, 0.6667, 0.5)
    assert (mule.frauds, mule.caught, mule.recall, mule.recall_by_value) == (2, 1, 0.5, 0.6667)
    assert mule.precision == 0.3333  # one caught, two false alerts
    assert testing.recall == 1
    assert catches["decline", "testing"].caught == 0


def test_the_total_cost_is_the_sum_over_the_outcomes_of_all_decisions():
    def cost(score: float, amount: int, tactic: str) -> float:
        each = COSTS[by_score(score, THRESHOLDS)]
        return each.handling + (each.escape * (amount + COMPLAINT) if tactic else each.friction)

    assert total_cost(HANDFUL, THRESHOLDS, np.ones(6)) == pytest.approx(sum(cost(*row) for row in ROWS))
    approving = report(HANDFUL, THRESHOLDS, FREE).cost_of_approving_all
    assert approving == round(1000 * (4_500 + 3 * COMPLAINT) / 6)


def test_the_severer_of_rule_and_model_decides_and_a_skipped_payment_has_the_rule_alone():
    both = scored(*ROWS, rules=(0, 2, 3, 1), skipped=(0, 3))
    assert outcomes(both, THRESHOLDS).tolist() == [0, 3, 3, 1, 0, 0]
    assert friction(both, THRESHOLDS) == pytest.approx(2 / 3)
    assert friction(both, SILENT) == pytest.approx(2 / 3)
    assert friction(HANDFUL, SILENT) == 0


def test_severer_outcomes_let_less_fraud_through_and_cost_honest_payers_more():
    escapes, frictions = ([getattr(COSTS[o], name) for o in Outcome] for name in ("escape", "friction"))
    assert escapes == sorted(escapes, reverse=True)
    assert frictions == sorted(frictions)


PAYMENTS = st.lists(
    st.tuples(
        st.sampled_from(GRID.tolist()[:-1]),
        st.integers(1, 10**6),
        st.sampled_from(["", "", "", "mule"]),
        st.integers(0, 3),
        st.booleans(),
    ),
    min_size=1,
    max_size=40,
)
BUDGETS = st.builds(
    Budget,
    friction=st.sampled_from([0, 0.01, 0.2, 0.5, 1]),
    reviews=st.sampled_from([0, 0.05, 0.3, 1]),
    precision=st.sampled_from([0, 0.3, 0.9]),
    alerts=st.integers(0, 4),
    base_rate=st.sampled_from([0, 0.001, 0.3]),
)
COARSE = [float(score) for score in GRID[::14]]


@given(PAYMENTS, BUDGETS)
@settings(deadline=None)
def test_no_thresholds_within_the_budget_cost_less_than_the_chosen_ones(rows, budget):
    payments = scored(
        *[row[:3] for row in rows],
        rules=tuple(row[3] for row in rows),
        skipped=tuple(place for place, row in enumerate(rows) if row[4]),
    )
    weight = weights(payments.fraud, budget.base_rate)
    chosen = choose(payments, budget, hindsight=True)
    least = total_cost(payments, chosen.by_outcome, weight)
    silent = choose(payments, replace(budget, friction=0, reviews=0, precision=2), hindsight=True)

    def allowed(thresholds: dict[str, float]) -> bool:
        made = outcomes(payments, thresholds)
        declined = payments.asked & (payments.score >= thresholds["decline"])
        precise = not declined.any() or (
            declined.sum() >= budget.alerts
            and weight[declined & payments.fraud].sum() >= budget.precision * weight[declined].sum() - 1e-12
        )
        honest = ~payments.fraud
        share = float((made[honest] > 0).mean()) if honest.any() else 0.0
        reviews = weight[made == 2].sum() / weight.sum()
        limits = max(budget.friction, silent.rules_friction), max(budget.reviews, silent.reviews)
        return precise and share <= limits[0] + 1e-12 and reviews <= limits[1] + 1e-12

    assert list(chosen.by_outcome.values()) == sorted(chosen.by_outcome.values())
    assert allowed(dict(chosen.by_outcome))
    for cuts in combinations_with_replacement(COARSE, 3):
        other = dict(zip(THRESHOLDS, cuts, strict=True))
        assert not allowed(other) or least <= total_cost(payments, other, weight) * (1 + 1e-9) + 1e-6


def test_the_bound_and_not_the_rate_keeps_the_friction_budget():
    rng = np.random.default_rng(1)
    honest = [(score, 500, "") for score in rng.uniform(0, 0.5, 2_000)]
    frauds = [(score, 50_000, "mule") for score in rng.uniform(0, 0.6, 60)]
    found = choose(scored(*honest, *frauds), replace(FREE, friction=0.3))
    assert found.friction < found.friction_bound <= 0.3
    assert found.within
    assert choose(scored(*honest, *frauds), replace(FREE, friction=0.3), hindsight=True).friction > found.friction


def test_without_any_budget_the_model_adds_no_friction_and_few_payments_prove_nothing():
    payments = scored(*[(0.011, 500, "")] * 30, *[(0.9, 90_000, "mule")] * 20, *[(0.001, 500, "")] * 4_000)
    assert choose(payments, replace(FREE, friction=0)).friction == 0
    few = choose(scored(*[(0.5, 500, "")] * 100, (0.5, 90_000, "mule")), replace(FREE, friction=0.01))
    assert (few.friction, few.within) == (0, False)


def test_when_the_rules_alone_exceed_the_budget_the_model_adds_no_friction_and_it_is_said():
    payments = scored(*ROWS, rules=(0, 1))
    found = choose(payments, replace(FREE, friction=0.1), hindsight=True)
    assert friction(payments, found.by_outcome) == found.rules_friction == pytest.approx(1 / 3)
    assert not found.within


def test_a_few_alerts_prove_no_precision():
    sure = scored(*[(0.99, 900_000, "mule")] * 5, *[(0.01, 10, "")] * 200)
    assert choose(sure, replace(FREE, precision=0.5, alerts=6)).by_outcome["decline"] == 1
    assert choose(sure, replace(FREE, precision=0.5, alerts=5)).by_outcome["decline"] < 1


def test_the_model_declines_only_where_most_are_frauds_however_dear_the_frauds_are():
    mixed = scored(*[(0.99, 900_000, "mule")] * 30, *[(0.99, 10, "")] * 60, *[(0.01, 10, "")] * 200)
    assert choose(mixed, FREE).by_outcome["decline"] < 1
    for hindsight in (True, False):
        assert choose(mixed, replace(FREE, precision=0.5), hindsight=hindsight).by_outcome["decline"] > 0.99


def test_frauds_are_weighted_to_the_base_rate_and_the_effective_number_says_what_is_left():
    fraud = np.arange(1_000) < 100
    weight = weights(fraud, 0.001)
    assert weight[fraud].sum() / weight.sum() == pytest.approx(0.001)
    assert set(weight[~fraud]) == {1}
    assert 900 < costs.effective(weight) < 902
    assert costs.effective(weights(fraud, 0.1)) == pytest.approx(1_000)


def test_the_best_f1_is_that_of_the_grid():
    cut = costs.best_f1(HANDFUL, np.ones(6))
    at = {float(t): 2 * (HANDFUL.fraud & (HANDFUL.score >= t)).sum() / ((HANDFUL.score >= t).sum() + 3) for t in GRID}
    assert at[cut] == max(at.values())


def test_the_prefilter_costs_the_frauds_that_it_hides_from_the_model():
    hides_the_testing, *_ = prefilter_cost(scored(*ROWS, skipped=(2, 3)), THRESHOLDS)
    assert hides_the_testing.skipped == 0.3333
    assert hides_the_testing.frauds_skipped == 1
    assert (hides_the_testing.recall, hides_the_testing.recall_with_prefilter) == (0.6667, 0.3333)
    assert hides_the_testing.loss == 0.3334


def test_a_prefilter_that_hides_only_payments_without_an_alert_costs_nothing():
    assert [row.loss for row in prefilter_cost(scored(*ROWS, skipped=(4, 5)), THRESHOLDS)] == [0, 0, 0]


def test_missing_counters_cost_the_precision_that_is_lost_without_them():
    blind = replace(HANDFUL, score=np.full(6, 0.1))  # every payment is approved
    every = {"nothing": HANDFUL, "receiver": blind, "pair": HANDFUL, "device": HANDFUL}
    nothing, receiver, pair, device = figures.losses(every, THRESHOLDS, FREE)
    whole = report(HANDFUL, THRESHOLDS, FREE)
    assert (nothing.average_precision, nothing.loss, nothing.cost) == (whole.average_precision, 0, whole.cost)
    assert receiver == figures.Loss("receiver", 0.5, round(whole.average_precision - 0.5, 4), 0, 1_750_000)
    assert receiver.cost == whole.cost_of_approving_all
    assert (pair.missing, device.missing) == ("pair", "device")
    assert pair.loss == device.loss == 0


def test_the_command_prints_all_tables(capsys):
    unseen.main(["--days", "3", "--payers", "300"])
    printed = capsys.readouterr().out
    assert "average precision" in printed
    assert "friction" in printed
    assert "account_takeover" in printed
    assert "recall with prefilter" in printed
    start = printed.index("what missing counters cost")
    rows = [line.split() for line in printed[start:].splitlines()[2:6]]
    assert [row[0] for row in rows] == ["nothing", "receiver", "pair", "device"]
    assert f"average precision {rows[0][1]}," in printed
