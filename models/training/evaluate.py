"""The worth of a model: its ranking, what each threshold catches of each tactic, and what its decisions cost.

Money is the yardstick: thresholds are where the expected cost of all decisions is least, never at 0.5. The costs are
data below; a user with other costs changes them and trains again. `python -m models.training.evaluate` measures the
packaged model in a world it has never seen, the policy's pre-filter included.
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

from fraud.outcome import Outcome
from fraud.rules import rule_book as rules
from fraud.rules.rule_book import RuleBook
from fraud.scoring.trees import OUTCOMES, Trees
from models.simulation.simulate import DEFAULT_START, Labelled, simulate
from models.training.dataset import Row, replay

LIBRARY = Path(rules.__file__).parents[1]


class Cost(NamedTuple):
    """The cost of an outcome in minor units: for any payment, for an honest one, and the share of a fraud's loss that
    stays.
    """

    handling: int
    friction: int
    escape: float


COSTS: dict[Outcome, Cost] = {
    Outcome.APPROVE: Cost(handling=0, friction=0, escape=1.0),
    # A message is sent and some honest payers give up; a thief may hold the second factor too.
    Outcome.CHALLENGE: Cost(handling=10, friction=150, escape=0.3),
    # An analyst looks for some minutes while the money waits; now and then the thief's story holds.
    Outcome.REVIEW: Cost(handling=500, friction=300, escape=0.1),
    # The sale is lost, and sometimes the customer.
    Outcome.DECLINE: Cost(handling=0, friction=4_000, escape=0.0),
}
COMPLAINT = 2_000  # what a missed fraud costs beside its amount: the complaint's handling, fees

GRID: tuple[float, ...] = tuple(round(1 / (1 + math.exp(-step / 8)), 4) for step in range(-48, 33))
"""Scores that a threshold may take: an eighth of a log odds apart, so that no threshold hangs on a single payment."""


@dataclass(frozen=True)
class Scored:
    """Columns over scored payments: score, amount (minor units), the truth and its tactic (empty for an honest one)."""

    score: NDArray[np.float64]
    amount: NDArray[np.int64]
    fraud: NDArray[np.bool_]
    tactic: NDArray[np.str_]


# ---- what decisions cost -------------------------------------------------------------------------------------------


def costs(fraud: NDArray[np.bool_], amount: NDArray[np.int64]) -> NDArray[np.float64]:
    """Cost of each outcome (rows, in the order of Outcome) for each payment (columns), in minor units."""
    in_order = (COSTS[outcome] for outcome in Outcome)
    lost = amount + COMPLAINT
    return np.array([cost.handling + np.where(fraud, cost.escape * lost, cost.friction) for cost in in_order])


def total_cost(scored: Scored, thresholds: Mapping[str, float]) -> float:
    """Cost of deciding every payment by these thresholds, in minor units."""
    outcomes = np.searchsorted([thresholds[outcome] for outcome in OUTCOMES], scored.score, side="right")
    return float(costs(scored.fraud, scored.amount)[outcomes, np.arange(len(scored.score))].sum())


def cheapest(scored: Scored) -> dict[str, float]:
    """The thresholds of GRID, a milder outcome's never above a more severe one's, under which `scored` costs least."""
    order = np.argsort(scored.score, kind="stable")
    running = np.cumsum(costs(scored.fraud[order], scored.amount[order]), axis=1)
    below = np.searchsorted(scored.score[order], GRID)  # payments below each score of the grid
    approve, challenge, review, decline = np.pad(running, ((0, 0), (1, 0)))[:, below]
    # The cost is a sum over three cuts: below a cut the milder outcome is paid for, above it the more severe one. The
    # first two cuts are best chosen below the third, so running minima find all three in one pass.
    first = approve - challenge
    second = challenge - review + np.minimum.accumulate(first)
    third = review - decline + np.minimum.accumulate(second)
    severest = int(third.argmin())
    middle = int(second[: severest + 1].argmin())
    mildest = int(first[: middle + 1].argmin())
    return {outcome: GRID[cut] for outcome, cut in zip(OUTCOMES, (mildest, middle, severest), strict=True)}


# ---- what is caught ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Catch:
    """One tactic (or `all`) at one threshold.

    False alerts belong to no tactic, so each tactic's precision counts all of them and only its own frauds: it is what
    the precision would be were this the only tactic.
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
    """A model on payments whose truth is known. Costs are minor units per 1,000 payments."""

    payments: int
    frauds: int
    average_precision: float
    cost: float
    cost_of_approving_all: float
    catches: tuple[Catch, ...]


def average_precision(score: NDArray[np.float64], fraud: NDArray[np.bool_]) -> float:
    """Sum of precision times gain in recall over all thresholds; equal scores are one step. NaN without fraud."""
    order = np.argsort(-score, kind="stable")
    steps = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))
    caught = np.cumsum(fraud[order])[steps]
    return _part((np.diff(caught, prepend=0) * caught / (steps + 1)).sum(), fraud.sum())


def report(scored: Scored, thresholds: Mapping[str, float]) -> Report:
    """Measure everything at once."""
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
    """The share, four digits; NaN of nothing."""
    return round(float(part / whole), 4) if whole else math.nan


def _per_thousand(cost: float, scored: Scored) -> float:
    return round(1000 * cost / len(scored.score))


# ---- what the pre-filter costs -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Prefilter:
    """Recall at one threshold with the model asked always, and with the skipped payments left to the rules."""

    outcome: str
    skipped: float
    frauds_skipped: int
    recall: float
    recall_with_prefilter: float
    loss: float


def prefilter_cost(scored: Scored, thresholds: Mapping[str, float], skipped: Sequence[bool]) -> list[Prefilter]:
    """Return the recall lost because the model never sees the payments in `skipped`, in the order of `scored`."""
    spared = np.asarray(skipped, np.bool_)
    found = []
    for outcome in OUTCOMES:
        caught = scored.fraud & (scored.score >= thresholds[outcome])
        always, filtered = (_part(kept.sum(), scored.fraud.sum()) for kept in (caught, caught & ~spared))
        share, frauds = _part(spared.sum(), len(spared)), int((scored.fraud & spared).sum())
        found.append(Prefilter(outcome, share, frauds, always, filtered, round(always - filtered, 4)))
    return found


# ---- on paper ------------------------------------------------------------------------------------------------------


def table(rows: Sequence[Any]) -> str:
    """Rows of one dataclass as text, a column per field."""
    names = [name.replace("_", " ") for name in vars(rows[0])]
    cells = [names, *([_cell(value) for value in vars(row).values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ("  ".join(map(str.rjust, row, widths)).rstrip() for row in cells)
    return "\n".join(lines) + "\n"


def _cell(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}" if isinstance(value, float) else str(value)


def describe(measured: Report) -> str:
    """The report for people."""
    return (
        f"{measured.payments:,} payments, {measured.frauds:,} of them fraud;"
        f" average precision {measured.average_precision:.3f};"
        f" cost per 1,000 payments {measured.cost:,.0f} (approving all: {measured.cost_of_approving_all:,.0f})\n"
        + table(measured.catches)
    )


# ---- the run -------------------------------------------------------------------------------------------------------


def score(
    payments: Iterable[Labelled], trees: Trees, skips: Callable[[Row], bool] = lambda _: False
) -> tuple[Scored, list[bool]]:
    """Replay and score every payment; beside the scores, which of them `skips` would have spared the model."""
    scores, amounts, frauds, tactics, skipped = array("d"), array("q"), [], [], []
    for payment, row in replay(payments):
        scores.append(trees.score(row.vector))
        amounts.append(row.transaction.amount)
        frauds.append(payment.label == "fraud")
        tactics.append(payment.tactic or "")
        skipped.append(skips(row))
    columns = np.array(scores), np.array(amounts, np.int64), np.array(frauds, np.bool_), np.array(tactics, np.str_)
    return Scored(*columns), skipped


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure a packaged model and the policy's pre-filter on simulated payments of other people at another time."""
    parser = argparse.ArgumentParser(prog="python -m models.training.evaluate", description=main.__doc__)
    parser.add_argument("--model", type=Path, default=LIBRARY / "scoring" / "model", metavar="DIRECTORY")
    parser.add_argument("--policy", type=Path, default=LIBRARY / "rules" / "policy.json")
    parser.add_argument("--seed", type=int, default=2)
    start = DEFAULT_START + timedelta(days=91)
    parser.add_argument("--start", type=datetime.fromisoformat, default=start, help="default: %(default)s")
    parser.add_argument("--days", type=int, default=14)
    parser.add_argument("--payers", type=int, default=2_000)
    options = parser.parse_args(arguments)
    trees = Trees.load((options.model / "trees.json").read_bytes(), (options.model / "manifest.json").read_bytes())
    rule_book = RuleBook.load(options.policy.read_bytes())
    payments = simulate(options.seed, options.start, options.days, options.payers)
    scored, skipped = score(payments, trees, lambda row: not rule_book.judge(rules.inputs(*row)).segment.model)
    sys.stdout.write(f"{trees.version} on seed {options.seed}: {describe(report(scored, trees.thresholds))}")
    sys.stdout.write(f"\nwhat the pre-filter of {rule_book.version} costs:\n")
    sys.stdout.write(table(prefilter_cost(scored, trees.thresholds, skipped)))


if __name__ == "__main__":
    main()
