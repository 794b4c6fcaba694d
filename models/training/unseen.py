"""Measure a packaged model on simulated payments of people it was not trained on, at another time.

The same payments show what missing counters cost, and what the policy's pre-filter costs.
`python -m models.training.unseen [--currency INR]`
"""

import argparse
import math
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from fraud import packaged
from fraud.rules.rule_book import RuleBook
from fraud.scoring.trees import Trees
from models.simulation.markets import JAPAN, market_of
from models.simulation.simulate import DEFAULT_START, simulate
from models.training import figures
from models.training.away import COLUMNS
from models.training.columns import Dataset
from models.training.costs import Budget, Scored
from models.training.metrics import Floats


def scores(trees: Trees, rows: Dataset, missing: str = "nothing") -> Floats:
    """Return the probability of fraud of each row, in [0, 1], by the trees as the functions walk them.

    missing  the name in `figures.MISSING` of the kinds whose counters are missing
    """
    vectors = rows.features.copy()
    vectors[:, COLUMNS.get(missing, [])] = math.nan
    return np.array([trees.score(tuple(vector)) for vector in vectors.tolist()])


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the figures of a packaged model, or of one in a directory, on simulated payments."""
    parser = argparse.ArgumentParser(prog="python -m models.training.unseen", description=main.__doc__)
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
    budget = Budget(**trees.manifest.trained["budget"])
    rows = Dataset.build(simulate(options.seed, options.start, options.days, options.payers, options.market), rule_book)
    every = {name: Scored.of(rows, scores(trees, rows, name)) for name in figures.MISSING}
    measured = figures.report(every["nothing"], trees.thresholds, budget)
    sys.stdout.write(f"{trees.version} on seed {options.seed}: {figures.describe(measured)}")
    sys.stdout.write("\nwhat missing counters cost:\n")
    sys.stdout.write(figures.table(figures.losses(every, trees.thresholds, budget)))
    sys.stdout.write(f"\nwhat the pre-filter of {rule_book.version} costs:\n")
    sys.stdout.write(figures.table(figures.prefilter_cost(every["nothing"], trees.thresholds)))


if __name__ == "__main__":
    main()
