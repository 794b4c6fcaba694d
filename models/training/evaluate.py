"""Evaluation of a model: its ranking, the frauds caught at each threshold by tactic, and the cost of its decisions.

Money is the yardstick: thresholds are set where the expected cost of all decisions is least, not at 0.5. The costs are
data below; a user with other costs changes them and trains again. `python -m models.training.evaluate` measures the
packaged model, the loss while counters are missing, and the policy's pre-filter, all on simulated payments that the
model was not trained on.
"""

import argparse
import math
import sys
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fraud import packaged
from fraud.outcome import Outcome
from fraud.rules import rule_book as rules
from fraud.rules.rule_book import RuleBook
from fraud.scoring import features
from fraud.scoring.trees import OUTCOMES, Trees
from fraud.transaction import UNITS
from models.simulation.markets import JAPAN, market_of
from models.simulation.simulate import DEFAULT_START, Labelled, simulate
from models.training.away import AWAY
from models.training.dataset import Row, replay


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

MISSING: dict[str, tuple[str, ...]] = {"nothing": ()} | AWAY
"""Kinds whose counters are missing in an evaluation, by what the table calls them. The first row misses nothing."""

GRID: tuple[float, ...] = tuple(round(1 / (1 + math.exp(-step / 8)), 4) for step in range(-48, 33))
"""Scores that a threshold may take, 1/8 apart in log odds: no threshold then depends on a single payment."""


@dataclass(frozen=True)
class Scored:
    """Columns over scored payments: score, amount (minor units), the truth, and its tactic (empty if honest).

    unit  the currency's, in minor units
    """

    score: NDArray[np.float64]
    amount: NDArray[np.int64]
    fraud: NDArray[np.bool_]
    tactic: NDArray[np.str_]
    unit: int = UNITS["JPY"]


# ---- cost of decisions ---------------------------------------------------------------------------------------------


def costs(fraud: NDArray[np.bool_], amount: NDArray[np.int64], unit: int) -> NDArray[np.float64]:
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


def total_cost(scored: Scored, thresholds: Mapping[str, float]) -> float:
    """Return the cost of all decisions by these thresholds, in minor units.

    >>> payments = Scored(np.array([0.9, 0.1]), np.array([1_000, 1_000]), np.array([True, False]), np.array(["x", ""]))
    >>> total_cost(payments, {"challenge": 0.2, "review": 0.5, "decline": 0.8})
    0.0
    >>> total_cost(payments, {"challenge": 0.2, "review": 0.5, "decline": 0.95})
    800.0
    """
    outcomes = np.searchsorted([thresholds[outcome] for outcome in OUTCOMES], scored.score, side="right")
    return float(costs(scored.fraud, scored.amount, scored.unit)[outcomes, np.arange(len(scored.score))].sum())


def cheapest(scored: Scored) -> dict[str, float]:
    """Return the thresholds of GRID with the least cost of `scored`.

    The threshold of a milder outcome is never above that of a more severe one.
    """
    order = np.argsort(scored.score, kind="stable")
    running = np.cumsum(costs(scored.fraud[order], scored.amount[order], scored.unit), axis=1)
    below = np.searchsorted(scored.score[order], GRID)  # payments below each score of the grid
    approve, challenge, review, decline = np.pad(running, ((0, 0), (1, 0)))[:, below]
    # The cost is a sum over three cuts: payments below a cut cost the milder outcome, payments above it the more severe
    # one. Each cut is the best one at or below the next, so running minima find all three in one pass.
    first = approve - challenge
    second = challenge - review + np.minimum.accumulate(first)
    third = review - decline + np.minimum.accumulate(second)
    severest = int(third.argmin())
    middle = int(second[: severest + 1].argmin())
    mildest = int(first[: middle + 1].argmin())
    return {outcome: GRID[cut] for outcome, cut in zip(OUTCOMES, (mildest, middle, severest), strict=True)}


# ---- caught frauds -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Catch:
    """The frauds of one tactic (or of `all`) that one threshold catches.

    False alerts belong to no tactic. So the precision of a tactic counts all false alerts, but only its own frauds. It
    is the precision that the threshold would have if this were the only tactic.
    """

    outcome: str
    threshold: float
    tactic: str
    frauds: int
    caught: int
    recall: float
    recall_by_value: float
    precision: float


@dataclass(frozen=True)
class Report:
    """The figures of a model on payments whose truth is known. Costs are minor units per 1,000 payments."""

    payments: int
    frauds: int
    average_precision: float
    cost: float
    cost_of_approving_all: float
    catches: tuple[Catch, ...]


def average_precision(score: NDArray[np.float64], fraud: NDArray[np.bool_]) -> float:
    """Return the sum of precision times gain in recall over all thresholds, to four digits. NaN without fraud.

    Payments with equal scores are one step.

    >>> average_precision(np.array([0.9, 0.8, 0.1]), np.array([True, False, True]))  # (1/1 + 2/3) / 2
    0.8333
    """
    order = np.argsort(-score, kind="stable")
    steps = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))
    caught = np.cumsum(fraud[order])[steps]
    return _part((np.diff(caught, prepend=0) * caught / (steps + 1)).sum(), fraud.sum())


def report(scored: Scored, thresholds: Mapping[str, float]) -> Report:
    """Return all figures of scored payments at these thresholds."""
    nothing = dict.fromkeys(OUTCOMES, math.inf)
    return Report(
        payments=len(scored.score),
        frauds=int(scored.fraud.sum()),
        average_precision=round(average_precision(scored.score, scored.fraud), 4),
        cost=_per_thousand(total_cost(scored, thresholds), scored),
        cost_of_approving_all=_per_thousand(total_cost(scored, nothing), scored),
        catches=tuple(_catches(scored, thresholds)),
    )


def _catches(scored: Scored, thresholds: Mapping[str, float]) -> Iterator[Catch]:
    tactics = sorted(set(scored.tactic[scored.fraud].tolist()))
    for outcome in OUTCOMES:
        alert = scored.score >= thresholds[outcome]
        false = int((alert & ~scored.fraud).sum())
        for tactic in ("all", *tactics):
            mine = scored.fraud if tactic == "all" else scored.fraud & (scored.tactic == tactic)
            caught = int((alert & mine).sum())
            yield Catch(
                outcome=outcome,
                threshold=thresholds[outcome],
                tactic=tactic,
                frauds=int(mine.sum()),
                caught=caught,
                recall=_part(caught, mine.sum()),
                recall_by_value=_part(scored.amount[alert & mine].sum(), scored.amount[mine].sum()),
                precision=_part(caught, caught + false),
            )


def _part(part: Any, whole: Any) -> float:  # noqa: ANN401 - numbers of python and numpy
    """Return the share to four digits, or NaN if the whole is 0."""
    return round(float(part / whole), 4) if whole else math.nan


def _per_thousand(cost: float, scored: Scored) -> float:
    return round(1000 * cost / len(scored.score))


# ---- cost of the pre-filter ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Prefilter:
    """The recall at one threshold, with and without the pre-filter.

    Without it the model scores every payment; with it the rules alone decide the skipped payments.
    """

    outcome: str
    skipped: float
    frauds_skipped: int
    recall: float
    recall_with_prefilter: float
    loss: float


def prefilter_cost(scored: Scored, thresholds: Mapping[str, float], skipped: Sequence[bool]) -> list[Prefilter]:
    """Return, for each threshold, the recall lost because the model does not score the skipped payments.

    `skipped` tells for each payment of `scored`, in the same order, whether the pre-filter skips it.
    """
    spared = np.asarray(skipped, np.bool_)
    found = []
    for outcome in OUTCOMES:
        caught = scored.fraud & (scored.score >= thresholds[outcome])
        always, filtered = (_part(kept.sum(), scored.fraud.sum()) for kept in (caught, caught & ~spared))
        share, frauds = _part(spared.sum(), len(spared)), int((scored.fraud & spared).sum())
        found.append(Prefilter(outcome, share, frauds, always, filtered, round(always - filtered, 4)))
    return found


# ---- cost of missing counters --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Loss:
    """The quality of a model while the counters of some kinds are missing.

    `loss` is average precision that is lost against nothing missing. `cost` is minor units per 1,000 payments.
    """

    missing: str
    average_precision: float
    loss: float
    cost: float


def losses(scored: Mapping[str, Scored], thresholds: Mapping[str, float]) -> list[Loss]:
    """Return a row for each of MISSING from the same payments, scored without the counters of these kinds."""
    found: list[Loss] = []
    for name in MISSING:
        precision = average_precision(scored[name].score, scored[name].fraud)
        whole = found[0].average_precision if found else precision
        cost = _per_thousand(total_cost(scored[name], thresholds), scored[name])
        found.append(Loss(name, precision, round(whole - precision, 4), cost))
    return found


# ---- text ----------------------------------------------------------------------------------------------------------


def table(rows: Sequence[Any]) -> str:
    """Return rows of one dataclass as a text table with a column for each field.

    >>> print(table([Prefilter("review", 0.25, 1_000, 0.9, 0.8, 0.1)]), end="")
    outcome  skipped  frauds skipped  recall  recall with prefilter   loss
     review    0.250           1,000   0.900                  0.800  0.100
    """
    names = [name.replace("_", " ") for name in vars(rows[0])]
    cells = [names, *([_cell(value) for value in vars(row).values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ("  ".join(map(str.rjust, row, widths)).rstrip() for row in cells)
    return "\n".join(lines) + "\n"


def _cell(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}" if isinstance(value, float) else str(value)


def describe(measured: Report) -> str:
    """Return the report as text for people."""
    return (
        f"{measured.payments:,} payments, {measured.frauds:,} of them fraud;"
        f" average precision {measured.average_precision:.3f};"
        f" cost per 1,000 payments {measured.cost:,.0f} (approving all: {measured.cost_of_approving_all:,.0f})\n"
        + table(measured.catches)
    )


# ---- the run -------------------------------------------------------------------------------------------------------


def score(
    payments: Iterable[Labelled], trees: Trees, skips: Callable[[Row], bool] = lambda _: False
) -> tuple[dict[str, Scored], list[bool]]:
    """Replay and score every payment, in order of arrival, once for each of MISSING.

    Return the scored payments by what was missing, and for each payment whether `skips` would have kept it from the
    model.
    """
    scores = {name: array("d") for name in MISSING}
    amounts, frauds, tactics, skipped = array("q"), [], [], []
    unit = UNITS[JAPAN.currency]
    for payment, row in replay(payments):
        for name, kinds in MISSING.items():
            counters = features.without(row.counters, kinds)
            scores[name].append(trees.score(features.vector(row.transaction, counters)))
        unit = row.transaction.unit
        amounts.append(row.transaction.amount)
        frauds.append(payment.label == "fraud")
        tactics.append(payment.tactic or "")
        skipped.append(skips(row))
    columns = np.array(amounts, np.int64), np.array(frauds, np.bool_), np.array(tactics, np.str_)
    return {name: Scored(np.array(each), *columns, unit) for name, each in scores.items()}, skipped


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure a packaged model on simulated payments of other people at another time.

    The same payments show what missing counters cost, and what the policy's pre-filter costs.
    """
    parser = argparse.ArgumentParser(prog="python -m models.training.evaluate", description=main.__doc__)
    parser.add_argument("--currency", dest="market", type=market_of, default=JAPAN, help="default: JPY")
    parser.add_argument("--model", type=Path, metavar="DIRECTORY", help="default: the currency's packaged one")
    parser.add_argument("--policy", type=Path, help="default: the currency's packaged one")
    parser.add_argument("--seed", type=int, default=2)
    start = DEFAULT_START + timedelta(days=91)
    parser.add_argument("--start", type=datetime.fromisoformat, default=start, help="default: %(default)s")
    parser.add_argument("--days", type=int, default=14)
    parser.add_argument("--payers", type=int, default=2_000)
    options = parser.parse_args(arguments)
    currency = options.market.currency
    model, policy = options.model or packaged.model(currency), options.policy or packaged.policy(currency)
    trees = Trees.load((model / "trees.json").read_bytes(), (model / "manifest.json").read_bytes())
    rule_book = RuleBook.load(policy.read_bytes())
    packaged.agree("model", trees.currency, currency)
    packaged.agree("policy", rule_book.policy.currency, currency)
    payments = simulate(options.seed, options.start, options.days, options.payers, options.market)
    every, skipped = score(payments, trees, lambda row: not rule_book.judge(rules.inputs(*row)).segment.model)
    scored = every["nothing"]
    sys.stdout.write(f"{trees.version} on seed {options.seed}: {describe(report(scored, trees.thresholds))}")
    sys.stdout.write("\nwhat missing counters cost:\n")
    sys.stdout.write(table(losses(every, trees.thresholds)))
    sys.stdout.write(f"\nwhat the pre-filter of {rule_book.version} costs:\n")
    sys.stdout.write(table(prefilter_cost(scored, trees.thresholds, skipped)))


if __name__ == "__main__":
    main()
