"""Figures of an evaluation: ranking with intervals, decisions, calibration, segments, and comparisons. Pure.

All are about payments that the model has not seen, at thresholds that were chosen before them.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from fraud.counters.layout import DAY
from fraud.scoring.trees import OUTCOMES, Trees
from models.training import costs, figures
from models.training.batch import Prevented, daily, immediate
from models.training.columns import NEVER, Dataset
from models.training.costs import Budget, Scored, effective, outcomes, weights
from models.training.metrics import (
    Band,
    Flags,
    Floats,
    average_precision,
    bands,
    interval,
    precision_at,
    recall_at,
    roc_auc,
)
from models.training.scores import score_of

PAYERS_A_DAY = 100
"""Payers that a team looks at in a day: precision is measured among so many."""

BAND_FRAUDS, MOST_BANDS = 30, 8
"""Least frauds of a band of scores in the calibration table, and most bands."""


@dataclass(frozen=True)
class Figure:
    """A figure with its 95 % interval, with the payer as the unit."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Evaluation:
    """The result of one evaluation.

    model             version
    ranking           figures of the ranking, frauds as they are in the data
    without_known     average precision without the payers that are known as defrauded before the day (the handbook's
                      rule); so is precision_at_100_without_known
    precision_at_100_possible  what a perfect model would reach; 1 if each day had 100 payers with a fraud
    report            the decisions at the model's thresholds
    calibration       bands of scores
    segments          alerts, frauds and friction by segment of the policy
    hindsight         the thresholds that would have cost least, and their cost per 1,000 payments
    alternatives      cost per 1,000 payments and friction of other ways to set a threshold, which know no budget; the
                      best F1 is found on the test payments themselves
    prevented         what the model prevents in real time, and scored once a day
    effective         effective number of test payments after weighting to the base rate
    """

    model: str
    currency: str
    policy: str
    days: Mapping[str, Any]
    ranking: Mapping[str, Figure]
    without_known: float
    precision_at_100: float
    precision_at_100_possible: float
    precision_at_100_without_known: float
    report: figures.Report
    thresholds: Mapping[str, float]
    calibration: Sequence[Band]
    segments: Sequence["Segment"]
    hindsight: Mapping[str, Any]
    alternatives: Mapping[str, Mapping[str, float]]
    prevented: Sequence[Prevented]
    effective: float
    champion: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Segment:
    """One segment of the policy: shares are of its payments, friction of its honest ones."""

    segment: str
    payments: int
    frauds: int
    alerts: float
    friction: float
    recall: float


def evaluate(  # noqa: PLR0913 - what was scored, and by what it is judged
    test: Dataset, score: Floats, thresholds: Mapping[str, float], budget: Budget, known: Flags, *, seed: int
) -> dict[str, Any]:
    """Return the figures of scored test payments, as arguments of Evaluation.

    known  the payments of payers that were known as defrauded before the day (`known_defrauded`)
    """
    scored = Scored.of(test, score)
    weight = weights(scored.fraud, budget.base_rate)
    made = outcomes(scored, thresholds)
    return {
        "ranking": _ranking(test, score, made > 0, seed),
        "without_known": average_precision(score[~known], test.fraud[~known]),
        "precision_at_100": precision_at(PAYERS_A_DAY, score, test.fraud, test.payer, test.occurred_at // DAY),
        "precision_at_100_possible": precision_at(
            PAYERS_A_DAY, test.fraud.astype(float), test.fraud, test.payer, test.occurred_at // DAY
        ),
        "precision_at_100_without_known": precision_at(
            PAYERS_A_DAY, score[~known], test.fraud[~known], test.payer[~known], test.occurred_at[~known] // DAY
        ),
        "report": figures.report(scored, thresholds, budget),
        "thresholds": dict(thresholds),
        "calibration": bands(score, test.fraud, weight, max(BAND_FRAUDS, int(test.fraud.sum()) // MOST_BANDS)),
        "segments": list(_segments(test, made)),
        **_other_thresholds(scored, weight, budget),
        "prevented": [
            immediate(scored, thresholds, test.occurred_at),
            daily(scored, thresholds, test.occurred_at, test.payee),
        ],
        "effective": effective(weight),
    }


def _other_thresholds(scored: Scored, weight: Floats, budget: Budget) -> dict[str, Any]:
    """Return cost and friction of thresholds that were not taken: the best in hindsight, and the usual cuts."""
    chosen = costs.choose(scored, budget, hindsight=True)
    per_thousand = 1000 / float(weight.sum())
    others = {
        f"{outcome} at {words}": single(outcome, cut)
        for words, cut in (("0.5", 0.5), ("best F1", costs.best_f1(scored, weight)))
        for outcome in ("challenge", "decline")
    }
    return {
        "hindsight": {
            "thresholds": dict(chosen.by_outcome),
            "friction": chosen.friction,
            "cost": costs.total_cost(scored, chosen.by_outcome, weight) * per_thousand,
        },
        "alternatives": {
            name: {
                "cost": costs.total_cost(scored, cuts, weight) * per_thousand,
                "friction": costs.friction(scored, cuts),
            }
            for name, cuts in others.items()
        },
    }


def _ranking(test: Dataset, score: Floats, alert: Flags, seed: int) -> dict[str, Figure]:
    """Return the figures that have an interval; `alert` tells which payments are not approved."""
    fraud, ones = test.fraud, np.ones(len(test))
    figure_of: dict[str, Callable[[Floats], float]] = {
        "average_precision": lambda w: average_precision(score, fraud, w),
        "roc_auc": lambda w: roc_auc(score, fraud, w),
        "recall_at_1_percent": lambda w: recall_at(0.01, score, fraud, w),
        "recall_at_0.1_percent": lambda w: recall_at(0.001, score, fraud, w),
        "recall_by_value": lambda w: _share(w * test.amount * alert, w * test.amount, fraud),
        "friction": lambda w: _share(w * alert, w, ~fraud),
        "alert_rate": lambda w: _share(w * alert, w, np.ones(len(test), np.bool_)),
    }
    return {name: Figure(figure(ones), *interval(figure, test.payer, ones, seed)) for name, figure in figure_of.items()}


def single(outcome: str, cut: float) -> dict[str, float]:
    """Return thresholds by which every score from `cut` on has this outcome, and none a more severe one."""
    later = OUTCOMES[OUTCOMES.index(outcome) + 1 :]
    return {name: math.inf if name in later else cut for name in OUTCOMES}


def _share(part: Floats, whole: Floats, among: Flags) -> float:
    total = float(whole[among].sum())
    return float(part[among].sum()) / total if total else math.nan


def known_defrauded(rows: Dataset) -> Flags:
    """Return a mask of the payments whose payer was known as defrauded before the day began.

    rows  from the first training day on: what was known before counts for nothing

    The handbook leaves these payers out of its test: their cards would be blocked.
    """
    first: dict[int, int] = {}
    for payer, since in zip(rows.payer[rows.fraud].tolist(), rows.known_from[rows.fraud].tolist(), strict=True):
        first[payer] = min(first.get(payer, since), since)
    since = np.array([first.get(payer, NEVER) for payer in rows.payer.tolist()])
    known: Flags = since <= rows.occurred_at // DAY * DAY
    return known


def _segments(test: Dataset, made: Any) -> Iterator[Segment]:  # noqa: ANN401 - an array
    for name in sorted({str(each) for each in test.segment}):
        mine = test.segment == name
        frauds = test.fraud & mine
        yield Segment(
            name,
            int(mine.sum()),
            int(frauds.sum()),
            figures.part((made[mine] > 0).sum(), mine.sum()),
            figures.part((made[mine & ~test.fraud] > 0).sum(), (mine & ~test.fraud).sum()),
            figures.part((made[frauds] > 0).sum(), frauds.sum()),
        )


# ---- champion and challenger ---------------------------------------------------------------------------------------


def compared(  # noqa: PLR0913, PLR0917 - two models on the same payments
    champion: Trees, test: Dataset, score: Floats, budget: Budget, mine: Mapping[str, float], seed: int
) -> dict[str, Any]:
    """Return the champion's figures on the same payments, and the challenger's gain with its paired interval."""
    theirs = score_of(champion, test)
    ones = np.ones(len(test))
    ours, other = Scored.of(test, score), Scored.of(test, theirs)
    weight = weights(test.fraud, budget.base_rate)

    def gain(w: Floats) -> float:
        return average_precision(score, test.fraud, w) - average_precision(theirs, test.fraud, w)

    def saved(w: Floats) -> float:
        costs_of = (
            costs.total_cost(one, cuts, weight * w) for one, cuts in ((other, champion.thresholds), (ours, mine))
        )
        before, after = costs_of
        return 1000 * (before - after) / float((weight * w).sum())

    return {
        "model": champion.version,
        "report": asdict(figures.report(other, champion.thresholds, budget)),
        "gain_in_average_precision": asdict(Figure(gain(ones), *interval(gain, test.payer, ones, seed))),
        "saved_per_1000_payments": asdict(Figure(saved(ones), *interval(saved, test.payer, ones, seed))),
    }


# ---- text ----------------------------------------------------------------------------------------------------------


def describe(evaluation: Evaluation) -> str:
    """Return the evaluation as text for people."""
    days, money = evaluation.days, f"{evaluation.currency} per 1,000 payments, in its smallest unit"
    lines = [
        f"{evaluation.model}: trained on {days['trained_from']} to before {days['trained_before']}",
        f"{days['warmup_days']} days of warm-up; tested from {days['as_of']} to before {days['tested_before']}",
        f"frauds weighted to {days['base_rate']:.2%} of payments: worth {evaluation.effective:,.0f} payments"
        if days["base_rate"]
        else "frauds as they are in the data",
        *(
            f"{name.replace('_', ' '):>22} {figure.value:.4f}  ({figure.low:.4f} to {figure.high:.4f})"
            for name, figure in evaluation.ranking.items()
        ),
        (
            f"{'precision@100 payers':>22} {evaluation.precision_at_100:.4f}"
            f"  (possible: {evaluation.precision_at_100_possible:.4f})"
        ),
        f"{'without known payers':>22} {evaluation.without_known:.4f}  average precision",
        f"{'without known payers':>22} {evaluation.precision_at_100_without_known:.4f}  precision@100",
        f"{'best in hindsight':>22} {evaluation.hindsight['cost']:,.0f} {money}, within the budget",
        *(
            f"{name:>22} {other['cost']:,.0f} {money}, friction {other['friction']:.2%}, without a budget"
            for name, other in evaluation.alternatives.items()
        ),
        f"friction expected {days['expected_friction']:.2%}, at most {days['expected_friction_bound']:.2%}",
        f"budget {days['friction_budget']:.2%}{'' if days['within_budget'] else f', NOT KEPT: {not_kept(evaluation)}'}",
        "",
        figures.describe(evaluation.report),
        figures.table(evaluation.segments),
        figures.table(evaluation.prevented),
        figures.table([SimpleNamespace(**band._asdict()) for band in evaluation.calibration])
        if evaluation.calibration
        else "",
    ]
    if evaluation.champion is not None:
        gain, saved = (evaluation.champion[name] for name in ("gain_in_average_precision", "saved_per_1000_payments"))
        lines.append(
            f"against {evaluation.champion['model']}: average precision {gain['value']:+.4f}"
            f" ({gain['low']:+.4f} to {gain['high']:+.4f}), saves {saved['value']:,.0f}"
            f" ({saved['low']:,.0f} to {saved['high']:,.0f}) per 1,000 payments"
        )
    return "\n".join(lines)


def not_kept(evaluation: Evaluation) -> str:
    """Return in words why an evaluation does not keep its budget."""
    if evaluation.days["rules_friction"] > evaluation.days["friction_budget"]:
        return "the rules alone exceed it"
    if evaluation.days["expected_reviews"] > evaluation.days["reviews_budget"]:
        return "the rules alone ask for more reviews"
    return "so few payments cannot prove that it is"


def as_json(evaluation: Evaluation) -> str:
    """Return the evaluation as JSON; a figure that does not exist is null."""
    found = asdict(evaluation) | {"calibration": [band._asdict() for band in evaluation.calibration]}
    return json.dumps(_plain(found), indent=1)


def _plain(value: Any) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
