"""The inference script of the SageMaker framework container `sagemaker-xgboost`, and of the box's model server.

models/training/train.py writes the files of `model_dir`: model.ubj and manifest.json. This file imports nothing of the
project. So it is all that its `source_dir` needs, and no second definition of the features can come along: names,
fingerprint and thresholds come from the manifest. No request makes a function here raise. The container would turn the
exception into an HTTP error, and an alarm on such errors may roll a good model back. A request that cannot be scored is
refused in the body of a normal response.
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
    """A booster, its description, which is a part of every response, and its `features`, one for each column."""

    booster: xgboost.Booster
    described: Mapping[str, Any]
    features: tuple[str, ...]


class Question(NamedTuple):
    """Rows to score (float32, NaN where a value is missing) and the fingerprint of the features that they hold."""

    fingerprint: str
    rows: NDArray[np.float32]


class Refusal(NamedTuple):
    """The reason why a request is not scored: content_type, json, rows or fingerprint."""

    reason: str


def model_fn(model_dir: str) -> Model:
    """Load the model.

    Raises the errors of xgboost and json when the directory is damaged: such a container must not start.
    """
    manifest = json.loads(Path(model_dir, "manifest.json").read_bytes())
    booster = xgboost.Booster(model_file=Path(model_dir, "model.ubj"))
    booster.set_param({"nthread": 1, "device": "cpu"})  # a few rows: starting threads takes longer than scoring
    described = {name: manifest[name] for name in ("version", "currency", "fingerprint", "thresholds")}
    return Model(booster, described, tuple(manifest["features"]))


def input_fn(body: bytes | str, content_type: str) -> Question | Refusal:
    """Parse {"fingerprint": text, "rows": [[number or null, ...], ...]}: one row or more, null where missing.

    >>> input_fn('{"fingerprint": "1f", "rows": [[1.5, null]]}', "application/json")
    Question(fingerprint='1f', rows=array([[1.5, nan]], dtype=float32))
    >>> input_fn("1.5,2", "text/csv")
    Refusal(reason='content_type')
    """
    if str(content_type).partition(";")[0].strip().lower() != JSON:
        return Refusal("content_type")
    try:
        asked = json.loads(body, parse_int=float)  # an integer with too many digits is then infinite, not an error
    except (ValueError, RecursionError):
        return Refusal("json")
    match asked:
        case {"fingerprint": str(fingerprint), "rows": [[*_], *_] as rows} if _are_numbers(rows):
            with np.errstate(over="ignore"):  # a number beyond float32 becomes infinite and is refused below
                values = np.array(rows, np.float32)  # None is NaN
            return Refusal("rows") if np.isinf(values).any() else Question(fingerprint, values)
    return Refusal("rows")


def _are_numbers(rows: list[Any]) -> bool:
    """Tell whether all rows are lists of one length that hold only numbers and None."""
    return all(
        isinstance(row, list) and len(row) == len(rows[0]) and all(x is None or type(x) is float for x in row)
        for row in rows
    )


def predict_fn(data: Question | Refusal, model: Model) -> dict[str, Any]:
    """Score the rows: return a probability of fraud for each row, and its contributions.

    Contributions are the features that raised or lowered the score of a row, in log odds, largest first. They are exact
    TreeSHAP values and the larger part of the cost. So only rows that reach the lowest threshold get them; for other
    rows the list is empty.
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
        for place, row in zip(reached, explained[:, :-1].tolist(), strict=True):  # the last column is the bias
            changed = [(name, by) for name, by in zip(model.features, row, strict=True) if by]
            contributions[place] = sorted(changed, key=lambda item: -item[1])
    return {**model.described, "scores": scores.tolist(), "contributions": contributions}


def output_fn(prediction: Mapping[str, Any], accept: str) -> tuple[str, str]:
    """Return the response and its content type, which is always JSON: the `accept` header is ignored.

    >>> output_fn({"refused": "json"}, "text/csv")
    ('{"refused":"json"}', 'application/json')
    """
    del accept
    return json.dumps(prediction, separators=(",", ":")), JSON
