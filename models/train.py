"""Trains the model: XGBoost on replayed payments, exported as the trees that the library walks in plain Python.

Time is never mixed: tree count and thresholds come from forward-chained folds inside the training days, labels are those
known when training "happens", the test lies after the labels' delay. Called as a SageMaker training job calls a script
(SM_* directories, hyperparameters as arguments); called alone it simulates its data and writes the packaged model.
"""

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import xgboost
from numpy.typing import NDArray

from fraud import features
from fraud.counters import DAY
from fraud.transaction import utc
from fraud.trees import Forest, Manifest, Trees, version
from models import evaluate
from models.dataset import FILE, Dataset
from models.evaluate import LIBRARY, Report, Scored
from models.simulate import DEFAULT_START, simulate

PACKAGED = LIBRARY / "model"

PARAMETERS: dict[str, int | float] = {
    "max_depth": 4,
    "learning_rate": 0.08,
    "min_child_weight": 5,
    "reg_lambda": 5.0,
    "subsample": 0.7,
    "colsample_bynode": 0.3,
    "max_bin": 4096,
    "most_trees": 200,
    "delay_days": 7,
    "test_days": 7,
}
"""Hyperparameters. Shallow trees and no class weights keep the scores probabilities; fine bins find narrow amounts."""

FOLDS = 4
PARITY = 1e-6  # how far the walked trees may be from xgboost, as a probability

Parameters = Mapping[str, int | float]
Labels = NDArray[np.bool_]


@dataclass(frozen=True)
class Periods:
    """Epoch seconds: rows to fit end at `fitted`; training happens at `cutoff`, when the test begins."""

    start: int
    fitted: int
    cutoff: int
    end: int

    @classmethod
    def of(cls, dataset: Dataset, parameters: Parameters) -> "Periods":
        """Whole days of the dataset: what is left of delay and test is fitted. Raises ValueError when nothing is left."""
        start, end = (int(dataset.occurred_at[place]) // DAY * DAY for place in (0, -1))
        end += DAY
        cutoff = end - int(parameters["test_days"]) * DAY
        fitted = cutoff - int(parameters["delay_days"]) * DAY
        if (fitted - start) // DAY < FOLDS + 1:
            raise ValueError(f"{(end - start) // DAY} days leave fewer than {FOLDS + 1} to fit")
        return cls(start, fitted, cutoff, end)

    def folds(self) -> Iterator[tuple[int, int]]:
        """Start and end of each validation period: equal pieces of whole days at the end of the fitted ones."""
        days = max((self.fitted - self.start) // DAY // (FOLDS + 3), 1)
        for fold in range(FOLDS, 0, -1):
            yield self.fitted - fold * days * DAY, self.fitted - (fold - 1) * days * DAY


@dataclass(frozen=True)
class Trained:
    """A booster, its export as the two packaged files, and what it achieved on the test period."""

    booster: xgboost.Booster
    trees: bytes
    manifest: bytes
    report: Report


def train(dataset: Dataset, parameters: Parameters, seed: int, source: Mapping[str, Any]) -> Trained:
    """Tune, fit, export, check, measure. The same dataset, parameters and seed give the same bytes."""
    periods = Periods.of(dataset, parameters)
    past = dataset.between(periods.start, periods.fitted)
    labels = past.labels(periods.cutoff)
    count, held_out = tune(past, labels, periods, parameters, seed)
    booster = fit(past.features, labels, parameters, seed, count)
    trees = export(booster).model_dump_json().encode()
    sha256, thresholds = hashlib.sha256(trees).hexdigest(), evaluate.cheapest(held_out)
    manifest = Manifest(
        version=version(sha256, thresholds),
        fingerprint=features.fingerprint(),
        features=features.NAMES,
        sha256=sha256,
        thresholds=thresholds,
        trained={
            **source,
            "seed": seed,
            "parameters": dict(parameters),
            "trees": count,
            "payments": len(past),
            "frauds_known": int(labels.sum()),
            "from": _day(periods.start),
            "to": _day(periods.fitted),
            "labels_known_at": _day(periods.cutoff),
            "xgboost": xgboost.__version__,
        },
        metrics={},
    )
    test = dataset.between(periods.cutoff, periods.end)
    scores = check(booster, Trees.load(trees, _text(manifest)), test.features)
    measured = evaluate.report(Scored(scores, test.amount, test.fraud, test.tactic), thresholds)
    manifest = manifest.model_copy(update={"metrics": asdict(measured)})
    return Trained(booster, trees, _text(manifest), measured)


def fit(  # noqa: PLR0913 - what xgboost asks for, once
    table: NDArray[np.float32],
    labels: Labels,
    parameters: Parameters,
    seed: int,
    trees: int,
    validation: tuple[NDArray[np.float32], Labels] | None = None,
) -> tuple[xgboost.Booster, list[float]]:
    ...
