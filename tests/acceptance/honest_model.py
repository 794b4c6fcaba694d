"""Friction, cost and calibration of models over simulated worlds: `python -m tests.acceptance.honest_model`.

Each seed is a world of its own: a model is trained on its first days and decides its last week, as evaluation does. The
weeks are pooled. Frauds are weighted to the base rate; the effective number of payments is printed. Exits 1 unless:

- the upper 95 % bound of the friction of all held-out days is at most the budget,
- the cost is within a tenth of that of the best thresholds in hindsight, one set for all weeks within the same budget,
  and never above that of a threshold at 0.5 or at the best F1 of the folds. The cost of the best thresholds of each
  week, which fit its own handful of frauds, is printed beside it,
- observed frauds are between 0.8 and 1.25 times the expected ones in every band of at least BAND frauds.
"""

import argparse
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.stats import t as student

from models.simulation.simulate import DEFAULT_START, simulate
from models.training import costs, figures
from models.training.columns import Dataset
from models.training.costs import Budget, Scored, choose, effective, friction, outcomes, total_cost, weights
from models.training.evaluation import single
from models.training.fitting import Hyperparameters, Periods
from models.training.metrics import average_precision, bands, upper_bound
from models.training.scores import score_of
from models.training.train import fit

SEEDS, DAYS, PAYERS, BAND = 10, 83, 700, 300
FIRST_SEED = 11
APART = timedelta(days=3)
"""Time between the beginnings of two worlds, so that their held-out weeks are all over the month, paydays included."""
BUDGET = Budget()


class Week(NamedTuple):
    """The held-out week of one world, with the thresholds that were chosen before it."""

    seed: int
    scored: Scored
    thresholds: dict[str, float]
    expected_friction: float
    best_f1: float


def start_of(seed: int) -> datetime:
    """Return the beginning of a world."""
    return DEFAULT_START + (seed - FIRST_SEED) * APART


def dataset_of(seed: int, days: int, payers: int, keep: Path | None, crime: float = 1.0) -> Dataset:
    """Return the replayed world of a seed, from `keep` if it is there."""
    if keep is not None and (keep / str(seed) / "dataset.json").exists():
        return Dataset.load(keep / str(seed))
    rows = Dataset.build(simulate(seed, start_of(seed), days, payers, crime=crime))
    if keep is not None:
        rows.save(keep / str(seed))
    return rows


def week(seed: int, days: int, payers: int, keep: Path | None = None, crime: float = 1.0) -> Week:
    """Train on a world, and score its last week."""
    rows = dataset_of(seed, days, payers, keep, crime)
    parameters = Hyperparameters(seed=seed)
    periods = Periods.of(rows, parameters)
    model = fit(rows.between(periods.start, periods.fitted), periods, parameters, BUDGET, {"seed": seed})
    test = rows.between(periods.cutoff, periods.end)
    scored = Scored.of(test, score_of(model.loaded(), test))
    best = costs.best_f1(model.held_out, weights(model.held_out.fraud, BUDGET.base_rate))
    return Week(seed, scored, dict(model.thresholds.by_outcome), model.thresholds.friction, best)


def cost_of(one: Week, thresholds: dict[str, float]) -> float:
    """Return the cost per 1,000 payments at the base rate."""
    weight = weights(one.scored.fraud, BUDGET.base_rate)
    return 1000 * total_cost(one.scored, thresholds, weight) / float(weight.sum())


def pooled_friction(weeks: Sequence[Week]) -> tuple[float, float]:
    """Return the friction of all weeks and its upper 95 % bound, with the payers of each world as units."""
    events, payments = [], []
    for one in weeks:
        honest = ~one.scored.fraud
        _, places = np.unique(one.scored.payer[honest], return_inverse=True)
        payments.append(np.bincount(places).astype(float))
        events.append(np.bincount(places, weights=outcomes(one.scored, one.thresholds)[honest] > 0))
    disturbed, of = np.concatenate(events), np.concatenate(payments)
    return float(disturbed.sum() / of.sum()), float(upper_bound(disturbed[:, None], of)[0])


def pooled(weeks: Sequence[Week]) -> Scored:
    """Return the payments of all weeks as those of one."""
    columns = ("score", "amount", "fraud", "tactic", "payer", "rules", "asked")
    return replace(
        weeks[0].scored, **{name: np.concatenate([getattr(one.scored, name) for one in weeks]) for name in columns}
    )


def mean_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the mean over worlds and its 95 % interval (Student's t)."""
    t = float(student.ppf(0.975, len(values) - 1)) if len(values) > 1 else 0.0
    half = t * float(np.std(values, ddof=1)) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return float(np.mean(values)), float(np.mean(values)) - half, float(np.mean(values)) + half


def judge(weeks: Sequence[Week], band: int) -> bool:
    """Print the figures, and tell whether all of them are as they must be."""
    sound = True
    print(
        "seed  payments  frauds  AP     friction  expected  thresholds              cost    hindsight  0.5     best F1"
    )
    mine, best, excess = [], [], []
    for one in weeks:
        scored, weight = one.scored, weights(one.scored.fraud, BUDGET.base_rate)
        cost, hindsight = (
            cost_of(one, one.thresholds),
            cost_of(one, dict(choose(scored, BUDGET, hindsight=True).by_outcome)),
        )
        half, at_f1 = (
            min(cost_of(one, single(name, cut)) for name in ("challenge", "decline")) for cut in (0.5, one.best_f1)
        )
        mine.append(cost)
        best.append(hindsight)
        excess += [name for name, other in (("0.5", half), ("best F1", at_f1)) if cost > other + 1e-6]
        cuts = ", ".join(f"{cut:.3f}" for cut in one.thresholds.values())
        precision, rate = average_precision(scored.score, scored.fraud), friction(scored, one.thresholds)
        print(
            f"{one.seed:4}  {len(scored):8,}  {int(scored.fraud.sum()):6}  {precision:.3f}  {rate:8.2%}"
            f"  {one.expected_friction:8.2%}  {cuts:22}  {cost:6,.0f}  {hindsight:9,.0f}  {half:6,.0f}  {at_f1:7,.0f}"
        )
    rate, bound = pooled_friction(weeks)
    rules = float(np.mean([friction(one.scored, figures.SILENT) for one in weeks]))
    print(f"friction {rate:.3%}, upper 95 % bound {bound:.3%} (budget {BUDGET.friction:.2%}; rules alone {rules:.2%})")
    sound &= bound <= BUDGET.friction
    ratio = float(np.mean(mine) / np.mean(best))
    middle, low, high = mean_interval([a - b for a, b in zip(mine, best, strict=True)])
    print(
        f"cost {np.mean(mine):,.0f}, in hindsight {np.mean(best):,.0f}: ratio {ratio:.3f},"
        f" more by {middle:,.0f} ({low:,.0f} to {high:,.0f})"
    )
    shared = dict(choose(pooled(weeks), BUDGET, hindsight=True).by_outcome)
    together = [cost_of(one, shared) for one in weeks]
    ratio = float(np.mean(mine) / np.mean(together))
    middle, low, high = mean_interval([a - b for a, b in zip(mine, together, strict=True)])
    print(
        f"one set of thresholds for all weeks, in hindsight {np.mean(together):,.0f}: ratio {ratio:.3f},"
        f" more by {middle:,.0f} ({low:,.0f} to {high:,.0f})"
    )
    sound &= ratio <= 1.1
    print(f"worlds in which another threshold is cheaper: {', '.join(excess) or 'none'}")
    sound &= not excess
    score = np.concatenate([one.scored.score for one in weeks])
    fraud = np.concatenate([one.scored.fraud for one in weeks])
    weight = np.concatenate([weights(one.scored.fraud, BUDGET.base_rate) for one in weeks])
    print(f"{len(score):,} payments, {int(fraud.sum()):,} frauds; effective number {effective(weight):,.0f}")
    for each in bands(score, fraud, weight, band):
        print(
            f"scores {each.least:.4f} to {each.most:.4f}: {each.payments:,} payments, {each.frauds} frauds,"
            f" observed / expected {each.ratio:.3f}"
        )
        sound &= 0.8 <= each.ratio <= 1.25
    _catches(weeks)
    return sound


def _catches(weeks: Sequence[Week]) -> None:
    made = np.concatenate([outcomes(one.scored, one.thresholds) for one in weeks]) > 0
    fraud, amount, tactic = (
        np.concatenate([getattr(one.scored, name) for one in weeks]) for name in ("fraud", "amount", "tactic")
    )
    for name in ("all", *sorted({str(each) for each in tactic[fraud]})):
        part = fraud if name == "all" else fraud & (tactic == name)
        value = amount[part & made].sum() / amount[part].sum()
        print(
            f"{name:20} {int(part.sum()):5} frauds, recall {(part & made).sum() / part.sum():.3f}, by value {value:.3f}"
        )


def main() -> int:
    """Run all seeds, print the figures, and return 0 if they are as they must be."""
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance.honest_model", description=main.__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED)
    parser.add_argument("--days", type=int, default=DAYS)
    parser.add_argument("--payers", type=int, default=PAYERS)
    parser.add_argument("--band", type=int, default=BAND, help="least frauds of a band")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the replayed worlds here")
    options = parser.parse_args()
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    with ProcessPoolExecutor(2) as pool:
        weeks = list(pool.map(partial(week, days=options.days, payers=options.payers, keep=options.keep), seeds))
    return int(not judge(weeks, options.band))


if __name__ == "__main__":
    sys.exit(main())
