"""The inference script of the SageMaker framework container `sagemaker-xgboost`, and of the box's model server.

`model_dir` is what models/training/train.py writes: model.ubj and manifest.json. Imports nothing of this project, so
the file is the whole of its `source_dir` and no second definition of the features can come along: names, fingerprint
and thresholds are the manifest's. Nothing a caller sends raises: the container would make an HTTP error of it, for
which an alarm may roll a good model back. What cannot be scored is refused in the body of a normal answer.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xgboost
from numpy.typing import NDArray

JSON = "application/json"


class Model(NamedTuple):
    """A booster, and what every answer says of it; `features` are its columns."""

    booster: xgboost.Booster
    described: Mapping[str, Any]
    features: tuple[str, ...]


class Question(NamedTuple):
    """Rows to score, NaN where a value is missing, and the fingerprint of the features that they are made of."""

    fingerprint: str
    rows: NDArray[np.float32]


class Refusal(NamedTuple):
    """Why a request is not scored: content_type, json, rows or fingerprint."""

    reason: str


def model_fn(model_dir: str) -> Model:
    """Load the model. Raises what a damaged directory makes xgboost and json raise: such a container must not start."""
    manifest = json.loads(Path(model_dir, "manifest.json").read_bytes())
    booster = xgboost.Booster(model_file=Path(model_dir, "model.ubj"))
    booster.set_param({"nthread": 1, "device": "cpu"})  # a few rows: starting threads takes longer than scoring
    described = {name: manifest[name] for name in ("version", "fingerprint", "thresholds")}
    return Model(booster, described, tuple(manifest["features"]))


def input_fn(body: bytes | str, content_type: str) -> Question | Refusal:
    """Read {"fingerprint": text, "rows": [[number or null, ...], ...]}: one row or more, null where missing."""
    if str(content_type).partition(";")[0].strip().lower() != JSON:
        return Refusal("content_type")
    try:
        asked = json.loads(body, parse_int=float)  # an absurd integer is then infinite, and no error
    except (ValueError, RecursionError):
        return Refusal("json")
    match asked:
        case {"fingerprint": str(fingerprint), "rows": [[*_], *_] as rows} if _are_numbers(rows):
            with np.errstate(over="ignore"):  # beyond float32 is infinite, and refused as such
                values = np.array(rows, np.float32)  # None is NaN
            return Refusal("rows") if np.isinf(values).any() else Question(fingerprint, values)
    return Refusal("rows")


def _are_numbers(rows: list[Any]) -> bool:
    """Whether these are lists of one length, of numbers and None."""
    return all(
        isinstance(row, list) and len(row) == len(rows[0]) and all(x is None or type(x) is float for x in row)
        for row in rows
    )


def predict_fn(data: Question | Refusal, model: Model) -> dict[str, Any]:
    """Score the rows: probabilities of fraud, and for each row the features that raised it, in log odds, largest first.

    Contributions are exact TreeSHAP, the larger part of the cost, so only for rows that reach the lowest threshold.
    """
    if isinstance(data, Refusal):
        return {**model.described, "refused": data.reason}
    if data.fingerprint != model.described["fingerprint"]:
        return {**model.described, "refused": "fingerprint"}
    if data.rows.shape[1] != len(model.features):
        return {**model.described, "refused": "rows"}
    scores = model.booster.inplace_predict(data.rows).astype(np.float64)
    contributions: list[list[tuple[str, float]]] = [[] for _ in scores]
    (reached,) = np.nonzero(scores >= min(model.described["thresholds"].values()))
    if len(reached):
        explained = model.booster.predict(xgboost.DMatrix(data.rows[reached], nthread=1), pred_contribs=True)
        for place, row in zip(reached, explained[:, :-1].tolist(), strict=True):  # the last column is what all share
            raised = [(name, by) for name, by in zip(model.features, row, strict=True) if by > 0]
            contributions[place] = sorted(raised, key=lambda item: -item[1])
    return {**model.described, "scores": scores.tolist(), "contributions": contributions}


def output_fn(prediction: Mapping[str, Any], accept: str) -> tuple[str, str]:
    """The answer and its type: JSON, whatever the caller would rather have."""
    del accept
    return json.dumps(prediction, separators=(",", ":")), JSON
