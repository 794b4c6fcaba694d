"""Figures follow their definitions, and no other thresholds cost less than the chosen ones."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud.outcome import Outcome, by_score
from fraud.scoring.features import Vector
from models.simulation.simulate import DEFAULT_START, simulate
from models.training import evaluate
from models.training.evaluate import COMPLAINT, COSTS, GRID, Scored, average_precision, cheapest, prefilter_cost, report

THRESHOLDS = {"challenge": 0.2, "review": 0.5, "decline": 0.8}


def scored(*rows: tuple[float, int, str]) -> Scored:
    """Return payments from rows of score, amount and tactic. An empty tactic is an honest payment."""
    scores, amounts, tactics = zip(*rows, strict=True)
    fraud = np.array([bool(tactic) for tactic in tactics])
    return Scored(np.array(scores, np.float64), np.array(amounts, np.int64), fraud, np.array(tactics, np.str_))


HANDFUL = scored(
    (0.9, 1_000, "mule"),
    (0.9, 50, ""),
    (0.6, 3_000, "testing"),
    (0.2, 10, ""),
    (0.1, 500, "mule"),
    (0.1, 70, ""),
)


def test_average_precision_is_the_precision_gained_per_step_of_recall():
    assert average_precision(HANDFUL.score, HANDFUL.fraud) == pytest.approx((1 / 2 + 2 / 3 + 3 / 6) / 3, abs=1e-4)


def test_average_precision_is_one_for_a_perfect_ranking_and_nan_without_fraud():
    assert average_precision(np.array([0.1, 0.8, 0.9]), np.array([False, True, True])) == 1
    assert math.isnan(average_precision(np.array([0.1]), np.array([False])))


def test_catches_are_counted_per_tactic_and_threshold():
    catches = {(catch.outcome, catch.tactic): catch for catch in report(HANDFUL, THRESHOLDS).catches}
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

    rows = list(zip(HANDFUL.score, HANDFUL.amount, HANDFUL.tactic, strict=True))
    assert evaluate.total_cost(HANDFUL, THRESHOLDS) == pytest.approx(sum(cost(*row) for row in rows))
    approving = report(HANDFUL, THRESHOLDS).cost_of_approving_all
    assert approving == round(1000 * (4_500 + 3 * COMPLAINT) / 6)


def test_severer_outcomes_let_less_fraud_through_and_cost_honest_payers_more():
    escapes, frictions = ([getattr(COSTS[o], name) for o in Outcome] for name in ("escape", "friction"))
    assert escapes == sorted(escapes, reverse=True)
    assert frictions == sorted(frictions)


@given(
    st.lists(
        st.tuples(st.sampled_from(GRID), st.integers(1, 10**6), st.sampled_from(["", "", "", "mule"])), min_size=1
    ),
    st.lists(st.sampled_from(GRID), min_size=3, max_size=3).map(sorted),
)
@settings(deadline=None)
def test_no_thresholds_of_the_grid_cost_less_than_the_chosen_ones(rows, others):
    chosen = cheapest(scored(*rows))
    assert list(chosen.values()) == sorted(chosen.values())
    other = dict(zip(chosen, others, strict=True))
    assert evaluate.total_cost(scored(*rows), chosen) <= evaluate.total_cost(scored(*rows), other) + 1e-6


def test_the_prefilter_costs_the_frauds_that_it_hides_from_the_model():
    hides_the_testing, *_ = prefilter_cost(HANDFUL, THRESHOLDS, [False, False, True, True, False, False])
    assert hides_the_testing.skipped == 0.3333
    assert hides_the_testing.frauds_skipped == 1
    assert (hides_the_testing.recall, hides_the_testing.recall_with_prefilter) == (0.6667, 0.3333)
    assert hides_the_testing.loss == 0.3334


def test_a_prefilter_that_hides_only_payments_without_an_alert_costs_nothing():
    assert [row.loss for row in prefilter_cost(HANDFUL, THRESHOLDS, [False] * 4 + [True] * 2)] == [0, 0, 0]


def test_missing_counters_cost_the_precision_that_is_lost_without_them():
    blind = replace(HANDFUL, score=np.full(6, 0.1))  # every payment is approved
    every = {"nothing": HANDFUL, "receiver": blind, "pair": HANDFUL, "device": HANDFUL}
    nothing, receiver, pair, device = evaluate.losses(every, THRESHOLDS)
    whole = report(HANDFUL, THRESHOLDS)
    assert (nothing.average_precision, nothing.loss, nothing.cost) == (whole.average_precision, 0, whole.cost)
    assert receiver == evaluate.Loss("receiver", 0.5, round(whole.average_precision - 0.5, 4), 1_750_000)
    assert receiver.cost == whole.cost_of_approving_all
    assert (pair.missing, device.missing) == ("pair", "device")
    assert pair.loss == device.loss == 0


class CountsMissing:
    """A model whose score is the number of missing features."""

    def score(self, vector: Vector) -> float:
        return sum(map(math.isnan, vector))


def test_every_payment_is_scored_again_without_the_counters_of_each_kind():
    payments = list(simulate(3, DEFAULT_START, 1, 60))
    every, skipped = evaluate.score(payments, CountsMissing(), lambda row: row.transaction.device_id is None)
    assert list(every) == ["nothing", "receiver", "pair", "device"]
    more = {name: scored.score - every["nothing"].score for name, scored in every.items()}
    assert set(more["pair"]) == {2}
    assert set(more["device"][~np.array(skipped)]) == {2}
    assert set(more["device"][skipped]) <= {0}
    assert set(more["receiver"]) == {7, 8}  # a receiver without other payments has no usual amount anyway
    assert all(scored.fraud.tolist() == [p.label == "fraud" for p in payments] for scored in every.values())


def test_the_command_prints_all_tables(capsys):
    evaluate.main(["--days", "3", "--payers", "300"])
    printed = capsys.readouterr().out
    assert "average precision" in printed
    assert "account_takeover" in printed
    assert "recall with prefilter" in printed
    start = printed.index("what missing counters cost")
    rows = [line.split() for line in printed[start:].splitlines()[2:6]]
    assert [row[0] for row in rows] == ["nothing", "receiver", "pair", "device"]
    assert f"average precision {rows[0][1]};" in printed
