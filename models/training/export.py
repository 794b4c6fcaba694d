"""Export of a booster as the two packaged files, which `fraud.scoring.trees` walks in plain Python."""

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import xgboost
from numpy.typing import NDArray

from fraud.scoring import features
from fraud.scoring.trees import Forest, Manifest, Trees, version
from models.training.metrics import Floats

PARITY = 1e-6
"""Most difference in probability between the walked trees and xgboost."""


def export(booster: xgboost.Booster) -> Forest:
    """Return the booster's trees as columns in pre-order.

    Numbers are kept as xgboost writes them: the shortest text of a float32.
    """
    learner = json.loads(booster.save_raw("json"))["learner"]
    (prior,) = json.loads(learner["learner_model_param"]["base_score"])
    columns: dict[str, list[Any]] = {name: [] for name in Forest.model_fields if name != "base"}
    for tree in learner["gradient_booster"]["model"]["trees"]:
        columns["roots"].append(len(columns["right"]))
        _export(tree, 0, columns)
    return Forest(base=math.log(prior / (1 - prior)), **columns)


def _export(tree: Mapping[str, list[Any]], node: int, columns: dict[str, list[Any]]) -> None:
    place, left, right = len(columns["right"]), tree["left_children"][node], tree["right_children"][node]
    leaf = left == -1
    columns["feature"].append(0 if leaf else tree["split_indices"][node])
    columns["value"].append(tree["split_conditions"][node])
    columns["right"].append(0)
    columns["missing_left"].append(0 if leaf else tree["default_left"][node])
    columns["cover"].append(tree["sum_hessian"][node])
    if not leaf:
        _export(tree, left, columns)
        columns["right"][place] = len(columns["right"])
        _export(tree, right, columns)


def describe(trees: bytes, thresholds: dict[str, float], trained: Mapping[str, Any], currency: str) -> Manifest:
    """Return the manifest of an export. Its metrics stay empty until the model is measured."""
    sha256 = hashlib.sha256(trees).hexdigest()
    return Manifest(
        version=version(sha256, thresholds),
        currency=currency,
        fingerprint=features.fingerprint(),
        features=features.NAMES,
        sha256=sha256,
        thresholds=thresholds,
        trained=dict(trained),
        metrics={},
    )


def check(booster: xgboost.Booster, trees: Trees, rows: NDArray[np.float32]) -> Floats:
    """Return the scores of the walked trees, one for each row of features.

    Raises ValueError when a score differs from xgboost's by more than PARITY: such an export must not be written.
    """
    walked = np.array([trees.score(tuple(vector)) for vector in rows.tolist()])
    difference = np.abs(walked - booster.inplace_predict(rows)).max(initial=0)
    if difference > PARITY:
        raise ValueError(f"the exported trees differ from xgboost by {difference:.1e}")
    return walked


def text_of(manifest: Manifest) -> bytes:
    """Return the content of manifest.json."""
    return manifest.model_dump_json(indent=1).encode() + b"\n"
