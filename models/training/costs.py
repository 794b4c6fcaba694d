"""Thresholds by the expected cost of all decisions, under a budget of friction. Pure.

Money is the yardstick: thresholds are set where the expected cost is least, not at 0.5, within what customers and
analysts can bear. The costs are data below; a user with other costs changes them and trains again. A decision counts as
it would be made: the more severe of what rules and model ask for.

Histories are often enriched: they hold more frauds than an app sees. So frauds are weighted to a base rate, and honest
payments count once each.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from fraud.outcome import Outcome
from fraud.scoring.trees import OUTCOMES
from fraud.transaction import UNITS
from models.training.columns import Dataset, Texts
from models.training.metrics import Flags, Floats, upper_bound, wilson_lower


class Cost(NamedTuple):
    """The cost of an outcome, in thousandths of the currency's unit (`fraud.transaction.UNITS`): a yen, or 50 paise.

    `handling` is paid for every payment, `friction` for an honest one. `escape` is the share of a fraud's loss that the
    outcome does not prevent.
    """

    handling: int
    friction: int
    escape: float


COSTS: dict[Outcome, Cost] = {
    Outcome.APPROVE: Cost(handling=0, friction=0, escape=1.0),
    # A message is sent, and some honest payers give up. A thief may hold the second factor too.
    Outcome.CHALLENGE: Cost(handling=10, friction=150, escape=0.3),
    # An analyst works for some minutes while the money waits. Sometimes the thief deceives the analyst.
    Outcome.REVIEW: Cost(handling=500, friction=300, escape=0.1),
    # The sale is lost, and sometimes the customer.
    Outcome.DECLINE: Cost(handling=0, friction=4_000, escape=0.0),
}
COMPLAINT = 2_000  # as in Cost, of a missed fraud beside its amount: handling of the complaint, fees

GRID: Floats = np.array([*(round(1 / (1 + math.exp(-step / 8)), 6) for step in range(-64, 49)), 1.0])
"""Scores that a threshold may take, 1/8 apart in log odds: no threshold then depends on a single payment. The last one
is never reached: the outcome is not used.
"""


@dataclass(frozen=True)
class Budget:
    """The limits within which thresholds are chosen.

    friction   most honest payments that are challenged, reviewed or declined, by model or rule, as a share of all
               honest payments. The upper 95 % bound must keep it
    reviews    most payments that are reviewed, as a share of all payments: 20 a day of 10,000
    precision  least share of frauds among the payments that the model declines. The lower 95 % bound must keep it
    alerts     least number of payments, as they are in the data, behind that bound
    base_rate  share of frauds among all payments to which the frauds of the data are weighted; 0: as in the data
    """

    friction: float = 0.01
    reviews: float = 0.002
    precision: float = 0.5
    alerts: int = 20
    base_rate: float = 0.001


@dataclass(frozen=True)
class Scored:
    """Columns over n scored payments.

    score    probability of fraud at the base rate
    amount   minor units
    fraud    the truth, as far as it is known
    tactic   of a fraud; empty if honest or unknown
    payer    a number for each payer
    rules    severity of the outcome that the rules ask for
    asked    whether the model is asked
    unit     the currency's, in minor units
    """

    score: Floats
    amount: NDArray[np.int64]
    fraud: Flags
    tactic: Texts
    payer: NDArray[np.int64]
    rules: NDArray[np.int8]
    asked: Flags
    unit: int = UNITS["JPY"]

    @classmethod
    def of(cls, rows: Dataset, score: Floats, fraud: Flags | None = None) -> Self:
        """Return rows with their scores; `fraud` by default is the truth."""
        truth = rows.fraud if fraud is None else fraud
        unit = UNITS[rows.currency]
        return cls(score, rows.amount, truth, rows.tactic, rows.payer, rows.rules, rows.asked, unit)

    def __len__(self) -> int:
        return len(self.score)

    def take(self, chosen: Flags | NDArray[np.intp]) -> Self:
        """Return the chosen payments: by a mask over all payments, or by their places."""
        columns = ("score", "amount", "fraud", "tactic", "payer", "rules", "asked")
        return replace(self, **{name: getattr(self, name)[chosen] for name in columns})


def weights(fraud: Flags, base_rate: float) -> Floats:
    """Return how many payments each one stands for: 1 for an honest one; frauds are weighted to the base rate.

    >>> weights(np.array([True, False, False, False]), 0.25).tolist()
    [1.0, 1.0, 1.0, 1.0]
    """
    frauds = int(fraud.sum())
    if not base_rate or frauds in {0, len(fraud)}:
        return np.ones(len(fraud))
    return np.where(fraud, base_rate / (1 - base_rate) * (len(fraud) - frauds) / frauds, 1.0)


def effective(weight: Floats) -> float:
    """Return the number of equally weighted payments that tell as much (Kish 1965): sum squared over sum of squares.

    >>> effective(np.array([1.0, 1.0])), effective(np.array([1.0, 0.0]))
    (2.0, 1.0)
    """
    return float(weight.sum() ** 2 / (weight**2).sum()) if len(weight) else 0.0


def costs(fraud: Flags, amount: NDArray[np.int64], unit: int) -> Floats:
    """Return the cost of each outcome (rows, in the order of Outcome) for each payment (columns), in minor units.

    unit  the currency's, in minor units

    >>> costs(np.array([True, False]), np.array([1_000, 1_000]), 1_000).tolist()  # a fraud and an honest payment
    [[3000.0, 0.0], [910.0, 160.0], [800.0, 800.0], [0.0, 4000.0]]
    """
    in_order = (COSTS[outcome] for outcome in Outcome)
    part = unit / 1000
    lost = amount + COMPLAINT * part
    return np.array(
        [cost.handling * part + np.where(fraud, cost.escape * lost, cost.friction * part) for cost in in_order]
    )


def outcomes(scored: Scored, thresholds: Mapping[str, float]) -> NDArray[np.int64]:
    """Return the severity of each payment's outcome: the more severe of what the rules and the model ask for."""
    levels = np.searchsorted([thresholds[outcome] for outcome in OUTCOMES], scored.score, side="right")
    made: NDArray[np.int64] = np.maximum(scored.rules, np.where(scored.asked, levels, 0)).astype(np.int64)
    return made


def total_cost(scored: Scored, thresholds: Mapping[str, float], weight: Floats) -> float:
    """Return the cost of all decisions by these thresholds, in minor units."""
    each = costs(scored.fraud, scored.amount, scored.unit)
    return float((each[outcomes(scored, thresholds), np.arange(len(scored))] * weight).sum())


def friction(scored: Scored, thresholds: Mapping[str, float]) -> float:
    """Return the share of honest payments that are not approved."""
    honest = ~scored.fraud
    return float((outcomes(scored, thresholds)[honest] > 0).mean()) if honest.any() else math.nan


@dataclass(frozen=True)
class Thresholds:
    """The chosen thresholds by outcome, and what they are expected to do.

    friction        share of honest payments that are not approved, and its upper 95 % bound
    rules_friction  the part of it that is due to the rules alone
    reviews         share of payments that are reviewed
    within          the budget is kept; otherwise the rules alone exceed it, or so few payments cannot prove it, and the
                    model adds no friction
    effective       effective number of payments, after weighting
    """

    by_outcome: Mapping[str, float]
    friction: float
    friction_bound: float
    rules_friction: float
    reviews: float
    within: bool
    effective: float


def choose(scored: Scored, budget: Budget, *, hindsight: bool = False) -> Thresholds:
    """Return the thresholds of GRID with the least cost of `scored` within the budget.

    hindsight  the budget limits what happened, and not its bounds: `scored` are the payments that are decided

    The threshold of a milder outcome is never above that of a more severe one.
    """
    weight = weights(scored.fraud, budget.base_rate)
    order = np.argsort(scored.score, kind="stable")
    ordered, weight = scored.take(order), weight[order]
    below = np.searchsorted(ordered.score, GRID)  # payments below each score of the grid
    running = _running(_by_level(ordered) * weight)[:, below]
    rate, bound = _friction(ordered)
    reviewed, raised = _reviews(ordered, weight, below)
    precise = _precise(ordered, weight, below, budget, hindsight=hindsight)
    approve, challenge, review, decline = running
    # What the rules alone do is always allowed, and so is a model that adds nothing to it.
    kept = ((rate if hindsight else bound) <= budget.friction) | (rate <= rate[-1])
    most_reviews = max(budget.reviews, reviewed[-1] + raised[-1])
    # The cost is a sum over three cuts: payments below a cut cost the milder outcome, those above it the severer one.
    first = np.where(kept, approve - challenge, np.inf)
    milder = np.minimum.accumulate(first)
    pairs = (milder + challenge - review)[:, None] + np.where(precise, review - decline, np.inf)[None, :]
    few = reviewed[None, :] + raised[:, None] <= most_reviews + 1e-12
    ordered_cuts = np.arange(len(GRID))[:, None] <= np.arange(len(GRID))[None, :]
    middle, severest = divmod(int(np.argmin(np.where(few & ordered_cuts, pairs, np.inf))), len(GRID))
    mildest = int(first[: middle + 1].argmin())
    chosen = {name: float(GRID[cut]) for name, cut in zip(OUTCOMES, (mildest, middle, severest), strict=True)}
    reviews = float(reviewed[severest] + raised[middle])
    within = bool(rate[mildest] <= budget.friction and reviews <= budget.reviews + 1e-12)
    if not hindsight:
        within &= bool(bound[mildest] <= budget.friction)
    return Thresholds(
        chosen, float(rate[mildest]), float(bound[mildest]), float(rate[-1]), reviews, within, effective(weight)
    )


def _by_level(scored: Scored) -> Floats:
    """Return the cost of each payment (columns) for each outcome that the model may ask for (rows)."""
    each, places = costs(scored.fraud, scored.amount, scored.unit), np.arange(len(scored))
    levels = [np.where(scored.asked, np.maximum(scored.rules, level), scored.rules) for level in range(len(Outcome))]
    return np.array([each[level.astype(np.intp), places] for level in levels])


def _running(values: Floats) -> Floats:
    """Return the sums of the first 0, 1, ... columns of each row."""
    return np.pad(np.cumsum(values, axis=1), ((0, 0), (1, 0)))


def _friction(ordered: Scored) -> tuple[Floats, Floats]:
    """Return the friction with the mildest threshold at each score of the grid, and its upper bound over payers."""
    honest = ~ordered.fraud
    names, places = np.unique(ordered.payer[honest], return_inverse=True)
    by_rule = ordered.rules[honest] > 0
    grid = np.searchsorted(GRID, ordered.score[honest], side="right")  # alerts at all scores of the grid before this
    grid = np.where(by_rule, len(GRID), np.where(ordered.asked[honest], np.minimum(grid, len(GRID) - 1), 0))
    counts = np.zeros((len(names), len(GRID) + 1))
    np.add.at(counts, (places, grid), 1.0)
    alerts = counts[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:]
    if not len(names):
        return np.zeros(len(GRID)), np.zeros(len(GRID))
    total = counts.sum(axis=1)
    return alerts.sum(axis=0) / total.sum(), upper_bound(alerts, total)


def _reviews(ordered: Scored, weight: Floats, below: NDArray[np.intp]) -> tuple[Floats, Floats]:
    """Return two parts whose sum is the share of reviews: one by the decline's cut, one by the review's cut."""
    total = weight.sum()
    by_rule = ordered.rules == Outcome.REVIEW.severity()
    stay = _running((weight * (by_rule & ordered.asked))[None])[0, below] + (weight * (by_rule & ~ordered.asked)).sum()
    model = weight * (ordered.asked & (ordered.rules < Outcome.REVIEW.severity()))
    above = model.sum() - _running(model[None])[0, below]
    return (stay - above) / total, above / total


def _precise(
    ordered: Scored, weight: Floats, below: NDArray[np.intp], budget: Budget, *, hindsight: bool
) -> NDArray[np.bool_]:
    """Tell for each score of the grid whether the payments that the model declines from there are frauds often enough.

    The bound takes the frauds at their weight and the lower bound of their recall, and the honest payments at the upper
    bound of their rate: an enriched history knows few honest payments that score high.
    """
    fraud, honest = ordered.fraud & ordered.asked, ~ordered.fraud & ordered.asked
    caught = fraud.sum() - _running(fraud[None].astype(float))[0, below]
    false = honest.sum() - _running(honest[None].astype(float))[0, below]
    of_fraud, of_honest = max(int(ordered.fraud.sum()), 1), max(int((~ordered.fraud).sum()), 1)
    recall = caught / of_fraud if hindsight else wilson_lower(caught, of_fraud)
    rate = false / of_honest if hindsight else 1 - wilson_lower(of_honest - false, of_honest)
    frauds, others = recall * (weight * ordered.fraud).sum(), rate * (weight * ~ordered.fraud).sum()
    precise: NDArray[np.bool_] = (frauds >= budget.precision * (frauds + others)) & (caught + false >= budget.alerts)
    precise[-1] = True  # never declines
    return precise


def best_f1(scored: Scored, weight: Floats) -> float:
    """Return the score of GRID with the highest F1, the harmonic mean of precision and recall."""
    caught = np.array([weight[scored.fraud & (scored.score >= cut)].sum() for cut in GRID])
    alerts = np.array([weight[scored.score >= cut].sum() for cut in GRID])
    return float(GRID[np.argmax(2 * caught / np.maximum(alerts + weight[scored.fraud].sum(), 1e-300))])
