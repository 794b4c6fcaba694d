"""The model of the container equals the embedded one: same scores, same contributions.

A request that it cannot score is refused in the response. A row that it cannot score is null there.
"""

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic_core import to_json

from fraud import packaged
from fraud.scoring import features, scorer
from fraud.scoring.trees import Forest, Trees
from local.sagemaker import model_server
from models.serving import inference
from models.simulation.simulate import DEFAULT_START, simulate
from models.training.columns import Dataset
from models.training.export import describe, export
from models.training.train import Model

WIDTH = len(features.NAMES)
PACKAGED = packaged.model("JPY")
MANIFEST = json.loads((PACKAGED / "manifest.json").read_bytes())
LOWEST = min(MANIFEST["thresholds"].values())
ROW = [1.0] * WIDTH


def table(rows: int, seed: int) -> np.ndarray:
    """Return realistic vectors: values of probed payments, exchanged among them column by column, some missing."""
    rng = np.random.default_rng(seed)
    probed = np.array(list(features.probed()), np.float32)
    mixed = np.take_along_axis(probed, rng.integers(0, len(probed), (rows, WIDTH)), axis=0)
    return np.where(rng.random((rows, WIDTH)) < 0.1, np.nan, mixed).astype(np.float32)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> inference.Model:
    directory = tmp_path_factory.mktemp("model")
    model_server.write(directory, "JPY")
    return inference.model_fn(str(directory))


def strict(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def asked(
    model: inference.Model, body: Any, content_type: str = inference.JSON, accept: str | None = "text/csv"
) -> dict[str, Any]:
    """Return the response to a request, made by the four functions that the container calls. It is strict JSON."""
    text = body if isinstance(body, str | bytes | bytearray | None) else json.dumps(body)
    prediction = inference.predict_fn(inference.input_fn(text, content_type), model)
    answer, answered_type = inference.output_fn(prediction, accept)
    assert answered_type == "application/json"
    parsed: dict[str, Any] = json.loads(answer, parse_constant=strict)
    assert parsed.items() >= {key: MANIFEST[key] for key in ("version", "fingerprint", "thresholds")}.items()
    return parsed


def question(*rows: Any) -> dict[str, Any]:
    return {"fingerprint": MANIFEST["fingerprint"], "rows": rows}


def test_500_vectors_get_the_scores_and_contributions_of_the_embedded_model(model):
    vectors = [tuple(row) for row in table(500, seed=5).tolist()]
    answer = asked(model, question(*([None if math.isnan(x) else x for x in vector] for vector in vectors)))
    embedded = scorer.embedded("JPY").score(vectors)
    assert np.abs(np.array(answer["scores"]) - embedded.scores).max() <= 1e-6
    reached = [score >= LOWEST for score in answer["scores"]]
    assert 20 < sum(reached) < 480
    assert [bool(raised) for raised in answer["contributions"]] == reached
    for raised, expected in zip(answer["contributions"], embedded.contributions, strict=True):
        assert [by for _, by in raised] == sorted((by for _, by in raised), reverse=True)
        found, wanted = dict(raised), dict(expected)
        for name in found | wanted:  # either may leave out a contribution close to 0
            assert found.get(name, 0) == pytest.approx(wanted.get(name, 0), abs=1e-5)


@pytest.fixture(scope="module")
def simulated() -> np.ndarray:
    """Return 10,000 vectors of simulated payments, of which a tenth of the values is taken away.

    Half have one value that is a threshold of its feature, or the float32 below or above it.
    """
    rng = np.random.default_rng(11)
    made = Dataset.build(simulate(3, DEFAULT_START, 6, 120)).features
    rows = made[rng.integers(0, len(made), 10_000)]
    rows[rng.random(rows.shape) < 0.1] = np.nan
    forest = Forest.model_validate_json((PACKAGED / "trees.json").read_bytes())
    splits = [node for node, right in enumerate(forest.right) if right]
    for row, node, side in zip(
        rows[::2], rng.choice(splits, 5_000), rng.choice([-np.inf, 0, np.inf], 5_000), strict=True
    ):
        threshold = np.float32(forest.value[node])
        row[forest.feature[node]] = np.nextafter(threshold, np.float32(side)) if side else threshold
    return rows


def test_10_000_payments_get_the_same_score_from_the_endpoint_and_the_embedded_model(model, simulated):
    body = to_json({"fingerprint": MANIFEST["fingerprint"], "rows": simulated.tolist()}, inf_nan_mode="null")
    scores = np.array(asked(model, body)["scores"])
    embedded = Trees.load(*((PACKAGED / name).read_bytes() for name in ("trees.json", "manifest.json")))
    assert np.abs(scores - [embedded.score(tuple(row)) for row in simulated.tolist()]).max() <= 1e-6
    assert np.ptp(scores) > 0.3


def test_contributions_of_10_000_payments_sum_to_the_margin(model, simulated):
    rows = xgboost.DMatrix(simulated, nthread=1)
    whole = model.booster.predict(rows, pred_contribs=True)  # the last column is what is expected of any payment
    assert np.abs(whole.sum(axis=1) - model.booster.predict(rows, output_margin=True)).max() <= 1e-4
    booster = model.booster[:10]  # contributions are sums over trees: few trees take a tenth of the time
    trees = export(booster).model_dump_json().encode()
    walked = Trees.load(trees, describe(trees, MANIFEST["thresholds"], {}, "JPY").model_dump_json().encode())
    found = np.array([walked.contributions(tuple(row)) for row in simulated.tolist()])
    margin = booster.predict(rows, output_margin=True)
    assert np.abs(found.sum(axis=1) + walked.expected - margin).max() <= 1e-4
    assert np.abs(found - booster.predict(rows, pred_contribs=True)[:, :-1]).max() <= 1e-4


def test_a_booster_made_of_the_packaged_trees_is_exported_as_the_same_trees():
    forest = Forest.model_validate_json((PACKAGED / "trees.json").read_bytes())
    assert export(model_server.booster(forest)) == forest


def test_a_booster_made_of_an_export_predicts_and_explains_as_the_trained_one():
    rows = table(1_500, seed=6)
    labels = np.nan_to_num(rows[:, 0] - rows[:, 3]) > np.random.default_rng(7).random(len(rows))
    trained = xgboost.train({"objective": "binary:logistic", "max_depth": 4}, xgboost.DMatrix(rows, labels), 20)
    again, some = model_server.booster(export(trained)), xgboost.DMatrix(rows[:200])
    assert np.array_equal(trained.predict(some), again.predict(some))
    assert np.array_equal(trained.predict(some, pred_contribs=True), again.predict(some, pred_contribs=True))


def test_a_model_that_training_wrote_is_loaded(tmp_path):
    booster = xgboost.train(
        {"objective": "binary:logistic", "max_depth": 2},
        xgboost.DMatrix(table(100, seed=8), np.arange(100) % 2),
        num_boost_round=2,
    )
    trees = export(booster).model_dump_json().encode()
    manifest = describe(trees, MANIFEST["thresholds"], {}, "JPY").model_dump_json().encode()
    Model(booster, trees, manifest, None, None, None).write(tmp_path)  # type: ignore[arg-type] # only files are written
    model = inference.model_fn(str(tmp_path))
    walked = Trees.load(trees, manifest)
    prediction = inference.predict_fn(inference.Question(walked.manifest.fingerprint, table(3, seed=9)), model)
    assert prediction["version"] == walked.version != MANIFEST["version"]
    expected = [walked.score(tuple(row)) for row in table(3, seed=9).tolist()]
    assert prediction["scores"] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("kind", [str, str.encode, lambda text: bytearray(text.encode())], ids=["str", "bytes", "MMS"])
def test_a_missing_value_may_be_null_or_nan_in_a_body_of_any_type(model, kind):
    row = [1.5, *[None] * (WIDTH - 1)]
    score = asked(model, kind(json.dumps(question(row))), "application/json; charset=utf-8")["scores"]
    assert score == asked(model, question([1.5, *[math.nan] * (WIDTH - 1)]))["scores"]
    assert score != asked(model, question([1.5, *[0] * (WIDTH - 1)]))["scores"]


REFUSED: dict[str, tuple[Any, str]] = {
    "other features": (question(ROW) | {"fingerprint": "0" * 16}, "fingerprint"),
    "no fingerprint": ({"rows": [ROW]}, "rows"),
    "no text as fingerprint": ({"fingerprint": 7, "rows": [ROW]}, "rows"),
    "no rows": (question(), "rows"),
    "an object of rows": (question() | {"rows": {"0": ROW}}, "rows"),
    "a list": ([ROW], "rows"),
    "half an object": ('{"fingerprint": ', "json"),
    "nothing": ("", "json"),
    "no body": (None, "json"),
    "no text": (b"\xff\xfe\x00", "json"),
    "too deep": ("[" * 100_000, "json"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_request_that_cannot_be_scored_is_refused_in_the_response(case, model):
    body, reason = REFUSED[case]
    answer = asked(model, body)
    assert answer["refused"] == reason
    assert not answer.keys() & {"scores", "contributions"}


UNSCORED: dict[str, Any] = {
    "a row too short": ROW[1:],
    "a row too long": [*ROW, 1.0],
    "an empty row": [],
    "a row that is a number": 7,
    "a row that is none": None,
    "a row that is text": "1" * WIDTH,
    "an object": dict.fromkeys(map(str, range(WIDTH)), 1.0),
    "text for a number": ["1.5", *ROW[1:]],
    "text in the last place": [*ROW[1:], "nan"],
    "truth for a number": [True, *ROW[1:]],
    "a list for a number": [[1.0], *ROW[1:]],
    "infinity": [math.inf, *ROW[1:]],
    "beyond float32": [*ROW[1:], -1e39],
    "beyond float64": [10**400, *ROW[1:]],
}


@pytest.mark.parametrize("case", UNSCORED)
def test_a_row_that_cannot_be_scored_is_null_and_the_others_keep_their_scores(case, model):
    others = [[None if x != x else x for x in row] for row in table(2, seed=3).tolist()]  # noqa: PLR0124 - NaN
    kept = asked(model, question(*others))
    answer = asked(model, question(others[0], UNSCORED[case], others[1]))
    assert answer["scores"] == [kept["scores"][0], None, kept["scores"][1]]
    assert answer["contributions"] == [kept["contributions"][0], [], kept["contributions"][1]]
    alone = asked(model, question(UNSCORED[case]))
    assert (alone["scores"], alone["contributions"]) == ([None], [[]])


def test_a_model_that_scores_a_row_as_nan_answers_null(model):
    class Damaged:
        def inplace_predict(self, rows: np.ndarray) -> np.ndarray:
            return np.where(np.arange(len(rows)) == 1, np.nan, 0.001).astype(np.float32)

    damaged = model._replace(booster=Damaged())
    assert asked(damaged, question(ROW, ROW, ROW))["scores"] == [pytest.approx(0.001), None, pytest.approx(0.001)]


@pytest.mark.parametrize("content_type", ["text/csv", "", None, "application/x-npy"])
def test_another_content_type_is_refused(content_type, model):
    assert asked(model, question(ROW), content_type)["refused"] == "content_type"


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["rows", "fingerprint"]), inner),
)
NUMBER = st.none() | st.floats() | st.integers() | st.just(10**400)
ROWS = st.lists(st.lists(NUMBER, min_size=WIDTH, max_size=WIDTH) | ANYTHING, max_size=4)
BODIES = (
    st.binary(max_size=40)
    | st.text(max_size=40)
    | ANYTHING.map(json.dumps)
    | ROWS.map(lambda rows: json.dumps(question(*rows)))
    | st.tuples(ROWS, st.integers(0, 400)).map(lambda drawn: json.dumps(question(*drawn[0])).encode()[: -drawn[1]])
)
TYPES = st.just(inference.JSON) | st.none() | st.text(max_size=30)


@given(BODIES, TYPES, TYPES)
@settings(deadline=None)
def test_no_request_makes_the_container_raise_or_answer_anything_but_strict_json(model, body, content_type, accept):
    answer = asked(model, body, content_type, accept)
    scores = answer.get("scores")
    assert ("refused" in answer) == (scores is None)
    if scores is not None:
        rows = json.loads(body)["rows"]
        assert len(scores) == len(answer["contributions"]) == len(rows)
        assert all(score is None or 0 <= score <= 1 for score in scores)
        usual = [type(row) is list and len(row) == WIDTH for row in rows]
        assert not any(score is not None and not whole for score, whole in zip(scores, usual, strict=True))


def test_the_container_needs_only_the_one_file(tmp_path: Path):
    shutil.copy(inference.__file__, tmp_path)
    program = "import inference, sys; print(sorted({'fraud', 'models', 'pydantic', 'boto3'} & set(sys.modules)))"
    ended = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ended.stdout == "[]\n"
