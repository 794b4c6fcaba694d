"""Marks as features: average precision of the payment model on held-out days, with and without them.

`python -m tests.acceptance.marks_features [--seeds 10]`. Exits with 1 when a bound is missed.

Each seed is three apps. Two have rings (`models.simulation.networks`, its declared rates): quiet ones that buy what
everybody buys, and the simulator's own, which steal in amounts that a model sees by themselves. One has none: it is the
packaged model's own market, whose thieves build no networks. Marks are those that stood: weekly snapshots by the
packaged policy, with what was known at the time. Both models have the packaged hyperparameters and equally many trees,
and are fitted to the same payments; the one without marks sees 0 in their place. Tested are the last two weeks, by all
labels.

1. Where quiet rings exist, marks make the mean better: its interval lies above 0.
2. Nowhere is the mean worse by more than .005.
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
from scipy.stats import t as student
from tqdm import tqdm

from models.datasets import history, networks
from models.graph import marks
from models.simulation.networks import PATTERNS, Pattern, simulate_networks
from models.simulation.simulate import DEFAULT_START, simulate
from models.training import dataset, fitting
from models.training.columns import Dataset
from models.training.engines import DuckDb
from models.training.fitting import Hyperparameters, Periods, Tuned
from models.training.metrics import average_precision
from models.training.train import SIMULATED_DAYS

TREES = 100
FITTED_DAYS = 60
PARAMETERS = Hyperparameters(test_days=14)
WORSE = -0.005
WIDTHS = (9, 7, 7, 7, 8, 7, 7)
QUIET = "quiet rings"
MARKS = [dataset.features.NAMES.index(f"{role}_mark_lift") for role in ("payer", "payee")]


class Measured(NamedTuple):
    """The result of one world.

    marked   tested payments of which an account is marked
    caught   frauds among them
    without  average precision without marks, and `with_marks` with them
    """

    payments: int
    frauds: int
    marked: int
    caught: int
    without: float
    with_marks: float

    @property
    def gain(self) -> float:
        """What marks add."""
        return self.with_marks - self.without


def rings(  # noqa: PLR0913 - a world
    place: Path, seed: int, days: int, groups: int, *, quiet: bool, patterns: Sequence[Pattern] = PATTERNS
) -> None:
    """Write a history with rings."""
    networks.write(place, simulate_networks(seed, DEFAULT_START, days, groups, quiet=quiet, patterns=patterns))


def market(place: Path, seed: int, days: int, payers: int) -> None:
    """Write a history without rings."""
    history.write(place, history.of(simulate(seed, DEFAULT_START, days, payers)))


def measured(place: Path) -> Measured:
    """Mark a history as it stood, count it, and measure both models."""
    marks.write(place)
    with DuckDb() as engine:
        span = dataset.whole_days(place, None, None, None)
        dataset.build(place, place / "out", span, dataset.rule_book_of(place, None), engine=engine, quiet=True)
    counted = Dataset.load(place / "out")
    last = int(counted.occurred_at.max()) // 86_400
    end = PARAMETERS.test_days + PARAMETERS.delay_days + FITTED_DAYS
    counted = counted.between((last - end + 1) * 86_400, (last + 1) * 86_400)
    periods = Periods.of(counted, PARAMETERS)
    known, test = counted.between(periods.start, periods.fitted), counted.between(periods.cutoff, periods.end)
    blind, blind_test = (_without_marks(each) for each in (known, test))
    marked = (test.features[:, MARKS] > 0).any(axis=1)
    return Measured(
        len(test), int(test.fraud.sum()), int(marked.sum()), int((marked & test.fraud).sum()),
        _precision(blind, blind_test, periods), _precision(known, test, periods),
    )  # fmt: skip


def _without_marks(rows: Dataset) -> Dataset:
    again = rows.take(np.ones(len(rows), np.bool_))
    again.features[:, MARKS] = 0
    return again


def _precision(known: Dataset, test: Dataset, periods: Periods) -> float:
    tuned = Tuned(PARAMETERS, TREES, 0.0, np.zeros(0, np.intp), np.zeros(0))
    booster = fitting.fit(known, known.labels(periods.cutoff), tuned)
    return float(average_precision(fitting.margins(booster, test.features), test.fraud))


def mean_of(gains: Sequence[float]) -> tuple[float, float]:
    """Return the mean, and half the width of its interval of 95 % (Student's)."""
    values = np.array(gains)
    if len(values) < 2:
        return float(values.mean()), float("inf")
    half = student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean()), float(half)


def told(name: str, found: Mapping[int, Measured]) -> list[str]:
    """Return the table of a world's seeds."""
    head = (
        f"{name:<14} {'payments':>9} {'frauds':>7} {'marked':>7} {'frauds':>7} {'without':>8} {'with':>7} {'gain':>7}"
    )
    rows = [
        f"seed {seed:<9} {one.payments:>9,} {one.frauds:>7,} {one.marked:>7,} {one.caught:>7,} {one.without:>8.4f}"
        f" {one.with_marks:>7.4f} {one.gain:>+7.4f}"
        for seed, one in found.items()
    ]
    mean, half = mean_of([one.gain for one in found.values()])
    return [head, *rows, f"mean of the gain {mean:+.4f}, 95 % interval {mean - half:+.4f} to {mean + half:+.4f}", ""]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print both tables. Returns 1 when a bound is missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance.marks_features", description=main.__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--groups", type=int, default=16_000, help="of the app with rings")
    parser.add_argument("--days", type=int, default=130, help="of the app with rings")
    parser.add_argument("--payers", type=int, default=550, help="of the market without rings")
    options = parser.parse_args(arguments)
    worlds: dict[str, Callable[[Path, int], None]] = {
        QUIET: lambda place, seed: rings(place, seed, options.days, options.groups, quiet=True),
        "no rings": lambda place, seed: market(place, seed, SIMULATED_DAYS, options.payers),
        "loud rings": lambda place, seed: rings(place, seed, options.days, options.groups, quiet=False),
    }
    means = {}
    for name, write in worlds.items():
        found = {}
        for seed in tqdm(range(1, options.seeds + 1), desc=name, file=sys.stderr, disable=None):
            with TemporaryDirectory() as place:
                write(Path(place), seed)
                found[seed] = measured(Path(place))
        print("\n".join(told(name, found)), flush=True)
        means[name] = mean_of([one.gain for one in found.values()])
    missed = [name for name, (mean, _) in means.items() if mean < WORSE]
    missed += [f"{QUIET}: no gain"] if means[QUIET][0] <= means[QUIET][1] else []
    print(f"bounds missed: {', '.join(missed) or 'none'}")
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
