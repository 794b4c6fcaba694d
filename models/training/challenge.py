"""Compare a challenger with the champion on the payments that the challenger was not fitted to, for the gate.

`python -m models.training.challenge DATASET MODEL CHAMPION OUT` is the evaluation job of a retraining. It reads the
dataset of the training job, the trained model as SageMaker keeps it (model.tar.gz) or as files, and the champion. It
writes evaluation.json, and the challenger's files as they were evaluated, with their SHA-256. Both models score the
same payments, so the difference has a paired interval, with the payer as the unit. Nothing that it reads is executed.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fraud import packaged
from fraud.counters.layout import DAY
from fraud.errors import FraudError
from fraud.outcome import Outcome
from fraud.scoring import features
from fraud.scoring.deployment import ARCHIVE, files_of
from fraud.scoring.drift import BASELINE, psi
from fraud.scoring.trees import Trees
from models.datasets.history import HistoryError
from models.training import container, figures
from models.training.columns import Dataset
from models.training.costs import Budget, Scored, weights
from models.training.evaluation import compared
from models.training.metrics import Floats
from models.training.scores import score_of

MODEL_FILES = ("trees.json", "manifest.json", "model.ubj", BASELINE)

BINS = 10
"""Quantiles of a feature's values among the fitted payments."""

SEED = 1


def unpacked(source: Path, target: Path) -> Path:
    """Copy the files of a model from a directory, or from the archive in it, and return the new directory.

    Raises ValueError when the archive is damaged or a file is missing. Other members of the archive are left out.
    """
    target.mkdir(parents=True, exist_ok=True)
    if (source / ARCHIVE).exists():
        files = files_of((source / ARCHIVE).read_bytes(), MODEL_FILES)
    else:
        files = {name: (source / name).read_bytes() for name in MODEL_FILES if (source / name).exists()}
    for name in MODEL_FILES:
        if name not in files:
            raise ValueError(f"the model has no {name}")
        (target / name).write_bytes(files[name])
    return target


def loaded(directory: Path) -> Trees:
    """Load a model. Raises UndecidableError for a damaged one, or one of other features."""
    return Trees.load((directory / "trees.json").read_bytes(), (directory / "manifest.json").read_bytes())


def evaluation(dataset: Dataset, challenger: Trees, champion: Trees) -> dict[str, Any]:
    """Return the figures of the challenger beside the champion, in the form of `fraud.retraining.gate.Evaluation`.

    Payments of which nobody knows whether they were fraud count for the drift only. Raises ValueError when no payment
    is left to test on, and UndecidableError for a model of another currency.
    """
    for part, trees in (("challenger", challenger), ("champion", champion)):
        packaged.agree(part, trees.currency, dataset.currency)
    trained = challenger.manifest.trained
    start, before, cutoff = (_epoch(trained[name]) for name in ("from", "before", "labels_known_at"))
    end = int(dataset.occurred_at.max()) + 1
    test = dataset.weighed().between(cutoff, end)
    if not len(test):
        raise ValueError("no payment is left to test on")
    budget = Budget(**trained["budget"])
    score = score_of(challenger, test)
    scored, weight = Scored.of(test, score), weights(test.fraud, budget.base_rate)
    beside = compared(champion, test, score, budget, challenger.thresholds, SEED)
    mine = figures.report(scored, challenger.thresholds, budget)
    return {
        "model": challenger.version,
        "champion": champion.version,
        "currency": dataset.currency,
        "payments": len(test),
        "frauds": int(test.fraud.sum()),
        "gain": beside["gain_in_average_precision"],
        "saved": beside["saved_per_1000_payments"],
        "friction": mine.friction,
        "friction_of_champion": beside["report"]["friction"],
        "friction_budget": budget.friction,
        "reviews": mine.reviews,
        "reviews_budget": max(budget.reviews, _reviews_of_rules(scored, weight)),
        "calibration": {"expected": float((score * weight).sum()), "found": float(weight[test.fraud].sum())},
        "drift": drift(dataset.between(start, before).features, dataset.between(cutoff, end).features),
    }


def _reviews_of_rules(scored: Scored, weight: Floats) -> float:
    """Return the share of reviews that the rules ask for without any model: no model can stay below it."""
    return float(weight[scored.rules == Outcome.REVIEW.severity()].sum() / weight.sum())


def drift(fitted: NDArray[np.float32], test: NDArray[np.float32]) -> dict[str, float]:
    """Return the population stability index of each feature: how far its values have moved since the fitted days."""
    return {name: stability(fitted[:, place], test[:, place]) for place, name in enumerate(features.NAMES)}


def stability(before: NDArray[np.float32], after: NDArray[np.float32]) -> float:
    """Return the population stability index of two samples, by the quantiles of the first; missing is a bin of its own.

    >>> even = np.arange(1000, dtype=np.float32)
    >>> round(stability(even, even), 6), stability(even, even + 900) > 1
    (0.0, True)
    """
    known = before[~np.isnan(before)]
    cuts = np.unique(np.quantile(known, np.linspace(0, 1, BINS + 1)[1:-1])) if len(known) else np.array([])
    counts = []
    for values in (after, before):
        there = values[~np.isnan(values)]
        bins = np.bincount(np.searchsorted(cuts, there, "right"), minlength=len(cuts) + 1)
        counts.append([*bins.tolist(), len(values) - len(there)])
    return psi(*counts)


def _epoch(day: str) -> int:
    return (date.fromisoformat(day).toordinal() - date(1970, 1, 1).toordinal()) * DAY


def _sums(directory: Path) -> dict[str, str]:
    return {name: hashlib.sha256((directory / name).read_bytes()).hexdigest() for name in MODEL_FILES}


def run(asked: argparse.Namespace) -> Mapping[str, Any]:
    """Carry an evaluation out and write it. Raises HistoryError, ValueError, FraudError or OSError."""
    directory = unpacked(asked.model, asked.out / "model")
    found = evaluation(container.load(asked.dataset), loaded(directory), loaded(asked.champion))
    manifest = (asked.champion / "manifest.json").read_bytes()
    found |= {"files": _sums(directory), "champion_manifest_sha256": hashlib.sha256(manifest).hexdigest()}
    (asked.out / "evaluation.json").write_text(json.dumps(found, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare a challenger with the champion, and write evaluation.json beside the challenger's files."""
    parser = argparse.ArgumentParser(prog="python -m models.training.challenge", description=main.__doc__)
    for name in ("dataset", "model", "champion", "out"):
        parser.add_argument(name, type=Path, metavar=name.upper())
    try:
        found = run(parser.parse_args(arguments))
    except (HistoryError, ValueError, FraudError, OSError) as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 2
    gain = found["gain"]
    print(
        f"{found['model']} against {found['champion']}: average precision {gain['value']:+.4f}"
        f" ({gain['low']:+.4f} to {gain['high']:+.4f}) on {found['payments']:,} payments, {found['frauds']:,} frauds"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
