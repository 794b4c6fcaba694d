"""The inference script of the SageMaker framework container `sagemaker-xgboost`, and of the box's model server.

models/training/train.py writes the files of `model_dir`: model.ubj and manifest.json. This file imports nothing of the
project. So it is all that its `source_dir` needs, and no second definition of the features can come along: names,
fingerprint and thresholds come from the manifest. No request makes a function here raise. The container would turn the
exception into an HTTP error, and an alarm on such errors may roll a good model back. A request that cannot be scored is
refused in the body of a normal response. A row that cannot be scored gets the score null, and the others their scores.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Any, NamedTuple

import numpy as np
import xgboost
from numpy.typing import NDArray

JSON = "application/json"
NUMBERS = {float, NoneType}
"""Types of a row's values, as `input_fn` parses them. Text is no number, and neither is true or false."""


class Model(NamedTuple):
    """A booster, its description, which is a part of every response, and its `features`, one for each column."""

    booster: xgboost.Booster
    described: Mapping[str, Any]
    features: tuple[str, ...]


class Question(NamedTuple):
    """Rows to score, and the fingerprint of the features that they hold.

    rows  float32, NaN where a value is missing. None stands for a row that cannot be scored
    """

    fingerprint: str
    rows: Sequence[NDArray[np.float32] | None]


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

    >>> input_fn('{"fingerprint": "1f", "rows": [[1.5, null], ["1.5", 2]]}', "application/json")
    Question(fingerprint='1f', rows=[array([1.5, nan], dtype=float32), None])
    >>> input_fn("1.5,2", "text/csv")
    Refusal(reason='content_type')
    """
    if str(content_type).partition(";")[0].strip().lower() != JSON:
        return Refusal("content_type")
    try:
        asked = json.loads(body, parse_int=float)  # an integer with too many digits is then infinite, not an error
    except (TypeError, ValueError, RecursionError):
        return Refusal("json")
    match asked:
        case {"fingerprint": str(fingerprint), "rows": [_, *_] as rows}:
            with np.errstate(over="ignore"):  # a number beyond float32 becomes infinite
                return Question(fingerprint, [_row(values) for values in rows])
    return Refusal("rows")


def _row(values: object) -> NDArray[np.float32] | None:
    """Return the numbers of a row. Return None for a row with anything else in it, or with a number beyond float32."""
    if not isinstance(values, list) or not NUMBERS.issuperset(map(type, values)):
        return None
    row = np.array(values, np.float32)  # None is NaN
    return None if np.isinf(row).any() else row


def predict_fn(data: Question | Refusal, model: Model) -> dict[str, Any]:
    """Score the rows: return a probability of fraud for each row, and its contributions.

    The score of a row that cannot be scored, or is too short or too long, is None; the other rows are scored (D-090).
    Contributions are the features that raised or lowered the score of a row, in log odds, largest first. They are exact
    TreeSHAP values and the larger part of the cost. So only rows that reach the lowest threshold get them; for other
    rows the list is empty.
    """
    if isinstance(data, Refusal):
        return {**model.described, "refused": data.reason}
    if data.fingerprint != model.described["fingerprint"]:
        return {**model.described, "refused": "fingerprint"}
    good = {place: row for place, row in enumerate(data.rows) if row is not None and len(row) == len(model.features)}
    scores: list[float | None] = [None] * len(data.rows)
    contributions: list[list[tuple[str, float]]] = [[] for _ in data.rows]
    if good:
        rows = np.stack(list(good.values()))
        found = model.booster.inplace_predict(rows)
        reached = found >= min(model.described["thresholds"].values())
        explained = iter(_explained(rows[reached], model))
        for place, score, is_reached in zip(good, found.tolist(), reached.tolist(), strict=True):
            scores[place] = score if math.isfinite(score) else None
            if is_reached:
                contributions[place] = next(explained)
    return {**model.described, "scores": scores, "contributions": contributions}


def _explained(rows: NDArray[np.float32], model: Model) -> Iterator[list[tuple[str, float]]]:
    """Yield the contributions of each row."""
    if len(rows):
        explained = model.booster.predict(xgboost.DMatrix(rows, nthread=1), pred_contribs=True)
        for row in explained[:, :-1].tolist():  # the last column is the bias
            changed = [(name, by) for name, by in zip(model.features, row, strict=True) if by]
            yield sorted(changed, key=lambda item: -item[1])


def output_fn(prediction: Mapping[str, Any], accept: str) -> tuple[str, str]:
    """Return the response and its content type, which is always JSON: the `accept` header is ignored.

    >>> output_fn({"refused": "json"}, "text/csv")
    ('{"refused":"json"}', 'application/json')
    """
    del accept
    return json.dumps(prediction, allow_nan=False, separators=(",", ":")), JSON
