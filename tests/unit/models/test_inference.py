"""The model of the container equals the embedded one: same scores, same contributions.

A request that it cannot score is refused in the response.
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

from fraud import packaged
from fraud.scoring import features, scorer
from fraud.scoring.trees import Forest, Trees
from local.sagemaker import model_server
from models.serving import inference
from models.training.train import Trained, describe, export

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


def asked(model: inference.Model, body: Any, content_type: str = inference.JSON) -> dict[str, Any]:
    """Return the response to a request, made by the four functions that the container calls."""
    text = body if isinstance(body, str | bytes | bytearray) else json.dumps(body)
    prediction = inference.predict_fn(inference.input_fn(text, content_type), model)
    answer, answered_type = inference.output_fn(prediction, "text/csv")
    assert answered_type == "application/json"
    parsed: dict[str, Any] = json.loads(answer)
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
    assert 50 < sum(reached) < 450
    assert [bool(raised) for raised in answer["contributions"]] == reached
    for raised, expected in zip(answer["contributions"], embedded.contributions, strict=True):
        assert [by for _, by in raised] == sorted((by for _, by in raised), reverse=True)
        found, wanted = dict(raised), dict(expected)
        for name in found | wanted:  # either may leave out a contribution close to 0
            assert found.get(name, 0) == pytest.approx(wanted.get(name, 0), abs=1e-5)


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
    Trained(booster, trees, manifest, report=None).write(tmp_path)  # type: ignore[arg-type] # the report is not written
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
    "a row too short": (question(ROW[1:]), "rows"),
    "a row too long": (question([*ROW, 1.0]), "rows"),
    "an empty row": (question([]), "rows"),
    "rows of two lengths": (question(ROW, ROW[1:]), "rows"),
    "a row that is none": (question(ROW, 7), "rows"),
    "a row that is text": (question("1" * WIDTH), "rows"),
    "text for a number": (question(["1.5", *ROW[1:]]), "rows"),
    "truth for a number": (question([True, *ROW[1:]]), "rows"),
    "a list for a number": (question([[1.0], *ROW[1:]]), "rows"),
    "infinity": (question([math.inf, *ROW[1:]]), "rows"),
    "beyond float32": (question([1e39, *ROW[1:]]), "rows"),
    "beyond float64": (question([10**400, *ROW[1:]]), "rows"),
    "a list": ([ROW], "rows"),
    "half an object": ('{"fingerprint": ', "json"),
    "nothing": ("", "json"),
    "no text": (b"\xff\xfe\x00", "json"),
    "too deep": ("[" * 100_000, "json"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_request_that_cannot_be_scored_is_refused_in_the_response(case, model):
    body, reason = REFUSED[case]
    answer = asked(model, body)
    assert answer["refused"] == reason
    assert not answer.keys() & {"scores", "contributions"}


@pytest.mark.parametrize("content_type", ["text/csv", "", None, "application/x-npy"])
def test_another_content_type_is_refused(content_type, model):
    assert asked(model, question(ROW), content_type)["refused"] == "content_type"


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["rows", "fingerprint"]), inner),
)


@given(st.binary(max_size=40) | ANYTHING.map(json.dumps) | st.lists(ANYTHING).map(lambda rows: question(*rows)))
@settings(deadline=None)
def test_no_request_makes_the_container_raise(body):
    kept = inference.Model(
        None, {key: MANIFEST[key] for key in ("version", "fingerprint", "thresholds")}, ("x",) * 1_000
    )
    assert "refused" in asked(kept, body)


def test_the_container_needs_only_the_one_file(tmp_path: Path):
    shutil.copy(inference.__file__, tmp_path)
    program = "import inference, sys; print(sorted({'fraud', 'models', 'pydantic', 'boto3'} & set(sys.modules)))"
    ended = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ended.stdout == "[]\n"
