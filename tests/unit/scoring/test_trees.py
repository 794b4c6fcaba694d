"""The embedded trees: scores and contributions are those of xgboost, and a foreign or damaged model is not loaded."""

import hashlib
import itertools
import json
import math

import numpy as np
import pytest
import xgboost
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud import packaged
from fraud.errors import UndecidableError
from fraud.scoring import features
from fraud.scoring.trees import Forest, Trees, version
from models.training.export import describe, export

WIDTH = len(features.NAMES)
THRESHOLDS = {"challenge": 0.1, "review": 0.2, "decline": 0.7}
PACKAGED = packaged.model("JPY")


def load(forest: Forest, **changes) -> Trees:
    """Load the forest with a manifest of its own, in which some fields are changed."""
    text = forest.model_dump_json().encode()
    manifest = json.loads(describe(text, THRESHOLDS, {}, "JPY").model_dump_json()) | changes
    return Trees.load(text, json.dumps(manifest).encode())


def table(rows: int, seed: int) -> np.ndarray:
    """Return vectors like real ones: small counts and logarithms, some of them missing."""
    rng = np.random.default_rng(seed)
    values = np.where(rng.random((rows, WIDTH)) < 0.5, rng.poisson(2, (rows, WIDTH)), rng.normal(8, 3, (rows, WIDTH)))
    return np.where(rng.random((rows, WIDTH)) < 0.1, np.nan, values).astype(np.float32)


@pytest.fixture(scope="module")
def booster() -> xgboost.Booster:
    rows = table(4_000, seed=1)
    odds = np.nan_to_num(rows[:, 0] - rows[:, 3]) + np.isnan(rows[:, 5]) * np.nan_to_num(rows[:, 7]) - 5
    labels = np.random.default_rng(2).random(len(rows)) < 1 / (1 + np.exp(-odds))
    parameters = {"objective": "binary:logistic", "max_depth": 4, "max_bin": 4096, "learning_rate": 0.3, "nthread": 1}
    return xgboost.train(parameters, xgboost.DMatrix(rows, labels), 100)


@pytest.fixture(scope="module")
def forest(booster) -> Forest:
    return export(booster)


@pytest.fixture(scope="module")
def trees(forest) -> Trees:
    return load(forest)


@pytest.fixture(scope="module")
def rows(forest) -> np.ndarray:
    """Return 10,000 vectors. Half have one value that is a threshold of its feature, or the float32 below it."""
    rows = table(10_000, seed=3)
    rng = np.random.default_rng(4)
    splits = [node for node, right in enumerate(forest.right) if right]
    for row in rows[::2]:
        node = rng.choice(splits)
        threshold = np.float32(forest.value[node])
        row[forest.feature[node]] = rng.choice([threshold, np.nextafter(threshold, np.float32(-np.inf))])
    return rows


def test_scores_equal_those_of_xgboost_with_missing_values_and_values_on_thresholds(booster, trees, rows):
    walked = np.array([trees.score(tuple(row)) for row in rows.tolist()])
    assert np.abs(walked - booster.inplace_predict(rows)).max() <= 1e-6
    assert np.ptp(walked) > 0.9


def test_a_value_on_the_threshold_goes_right_and_a_missing_value_goes_where_the_node_says():
    right, left = stump(missing_left=0), stump(missing_left=1)
    below, on, missing = (vector(amount) for amount in (math.nextafter(np.float32(0.1), 0), np.float32(0.1), math.nan))
    assert [right.margin(x) for x in (below, on, missing)] == [-1.0, 2.0, 2.0]
    assert [left.margin(x) for x in (below, on, missing)] == [-1.0, 2.0, -1.0]


def test_contributions_equal_those_of_xgboost_and_sum_to_the_margin(booster, trees, rows):
    some = rows[:300]
    expected = booster.predict(xgboost.DMatrix(some), pred_contribs=True)
    found = np.array([trees.contributions(tuple(row)) for row in some.tolist()])
    assert np.abs(found - expected[:, :-1]).max() <= 1e-4
    assert abs(trees.expected - expected[0, -1]) <= 1e-4
    margins = np.array([trees.margin(tuple(row)) for row in some.tolist()])
    assert np.abs(found.sum(axis=1) + trees.expected - margins).max() <= 1e-9


@given(st.data())
@settings(deadline=None, max_examples=50)
def test_contributions_are_the_shapley_values_of_the_game_in_which_unknown_features_follow_the_cover(data):
    forest = data.draw(forests())
    trees = load(forest)
    numbers = st.one_of(st.just(math.nan), st.floats(-3, 3, width=32), st.sampled_from(forest.value))
    x = vector(*data.draw(st.lists(numbers, min_size=4, max_size=4)))
    contributions = trees.contributions(x)
    assert trees.expected == pytest.approx(worth(forest, x, frozenset()), abs=1e-9)
    for player in range(4):
        assert contributions[player] == pytest.approx(shapley(forest, x, player), abs=1e-9)
    assert not any(contributions[4:])
    assert trees.expected + sum(contributions) == pytest.approx(trees.margin(x), abs=1e-9)


def test_an_explanation_names_every_feature_that_changed_the_score_largest_first_and_sums_to_the_margin(trees, rows):
    for row in rows[:50].tolist():
        x = tuple(row)
        explained = trees.explain(x)
        by_name = dict(zip(features.NAMES, trees.contributions(x), strict=True))
        assert explained == sorted(((n, c) for n, c in by_name.items() if c), key=lambda item: item[1], reverse=True)
        assert trees.expected + math.fsum(by for _, by in explained) == pytest.approx(trees.margin(x), abs=1e-9)
        assert {by > 0 for _, by in explained} == {True, False}


def test_the_packaged_model_loads_and_is_small():
    text, manifest = ((PACKAGED / name).read_bytes() for name in ("trees.json", "manifest.json"))
    assert 0 <= Trees.load(text, manifest).score(vector()) <= 1
    assert len(text) + len(manifest) < 500_000


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"fingerprint": "0" * 16}, "trained on other features"),
        ({"features": features.NAMES[::-1]}, "trained on other features"),
        ({"sha256": "0" * 64, "version": version("0" * 64, THRESHOLDS)}, "not the file that manifest.json describes"),
        ({"version": "embedded-000000000000"}, "version does not belong"),
        ({"thresholds": THRESHOLDS | {"challenge": 0.11}}, "version does not belong"),
        ({"thresholds": {"review": 0.2, "decline": 0.7}}, "thresholds must be"),
        ({"thresholds": THRESHOLDS | {"review": 0.05}}, "a milder outcome needs a lower threshold"),
        ({"thresholds": THRESHOLDS | {"decline": 1.5}}, "thresholds.decline"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_foreign_manifest_is_refused(forest, changes, words):
    with pytest.raises(UndecidableError, match=words):
        load(forest, **changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"right": [0, 0, 0]}, None),
        ({"right": [1, 0, 0]}, "a child that does not follow its parent"),
        ({"right": [3, 0, 0]}, "a child that does not follow its parent"),
        ({"right": [2, 0]}, "columns of different length"),
        ({"roots": [3]}, "a root outside the nodes"),
        ({"feature": [WIDTH, 0, 0]}, "an unknown feature"),
        ({"value": [0.1, -1.0, 1e39]}, "value"),
        ({"cover": [3.0, 1.0, 0.0]}, "cover"),
        ({"base": None}, "base"),
    ],
)
def test_trees_that_cannot_be_walked_are_refused(changes, words):
    text = json.dumps(STUMP | changes).encode()
    sha256 = hashlib.sha256(text).hexdigest()
    manifest = json.loads(describe(text, THRESHOLDS, {}, "JPY").model_dump_json())
    assert manifest["sha256"] == sha256
    if words is None:
        assert Trees.load(text, json.dumps(manifest).encode()).margin(vector()) == pytest.approx(0.1)
    else:
        with pytest.raises(UndecidableError, match=words):
            Trees.load(text, json.dumps(manifest).encode())


@pytest.mark.parametrize("damaged", [b"", b"{", b"[]", b"null", b"\xff"])
def test_files_that_are_no_model_are_refused(forest, damaged):
    text = forest.model_dump_json().encode()
    manifest = describe(text, THRESHOLDS, {}, "JPY").model_dump_json().encode()
    for pair in (
        (damaged, manifest),
        (text, damaged),
        (damaged, describe(damaged, THRESHOLDS, {}, "JPY").model_dump_json()),
    ):
        with pytest.raises(UndecidableError):
            Trees.load(*pair)


def test_a_path_with_too_many_features_for_an_exact_explanation_is_refused():
    depth = 5
    chain = Forest(
        base=0.0,
        roots=[0],
        feature=[*(n for d in range(depth) for n in (d, 0)), 0],
        value=[0.0] * (2 * depth + 1),
        right=[*(n for d in range(depth) for n in (2 * d + 2, 0)), 0],
        missing_left=[0] * (2 * depth + 1),
        cover=[1.0] * (2 * depth + 1),
    )
    with pytest.raises(UndecidableError, match="more than 4 features"):
        load(chain)


# ---- small forests, and the definition of their Shapley values -----------------------------------------------------

STUMP = {
    "base": 0.0,
    "roots": [0],
    "feature": [0, 0, 0],
    "value": [0.1, -1.0, 2.0],
    "right": [2, 0, 0],
    "missing_left": [0, 0, 0],
    "cover": [3.0, 1.0, 2.0],
}


def stump(missing_left: int) -> Trees:
    return load(Forest.model_validate(STUMP | {"missing_left": [missing_left, 0, 0]}))


def vector(*values: float) -> features.Vector:
    return (*map(float, values), *[0.0] * (WIDTH - len(values)))


@st.composite
def forests(draw) -> Forest:
    """Draw one to three trees of depth <= 4 over four features. A path may test one feature several times."""
    columns = {name: [] for name in Forest.model_fields if name != "base"}

    def grow(depth: int, cover: float) -> None:
        place = len(columns["right"])
        leaf = depth == 4 or draw(st.integers(0, 3)) == 0
        columns["feature"].append(0 if leaf else draw(st.integers(0, 3)))
        columns["value"].append(draw(st.sampled_from([-1.5, -0.5, 0.0, 0.25, 1.0, 2.0])))
        columns["missing_left"].append(draw(st.integers(0, 1)))
        columns["cover"].append(cover)
        columns["right"].append(0)
        if not leaf:
            part = draw(st.sampled_from([0.125, 0.5, 0.75]))
            grow(depth + 1, cover * part)
            columns["right"][place] = len(columns["right"])
            grow(depth + 1, cover * (1 - part))

    for _ in range(draw(st.integers(1, 3))):
        columns["roots"].append(len(columns["right"]))
        grow(0, 1024.0)
    return Forest(base=draw(st.sampled_from([-2.0, 0.0])), **columns)


def worth(forest: Forest, x: features.Vector, known: frozenset[int]) -> float:
    """Return the worth of the known features, Lundberg's EXPVALUE.

    A known feature decides its branch. An unknown feature averages both branches by their cover.
    """

    def below(node: int) -> float:
        feature, value, right = forest.feature[node], forest.value[node], forest.right[node]
        if not right:
            return value
        left = node + 1
        if feature in known:
            goes_left = forest.missing_left[node] if math.isnan(x[feature]) else x[feature] < value
            return below(left if goes_left else right)
        return sum(forest.cover[child] / forest.cover[node] * below(child) for child in (left, right))

    return forest.base + sum(below(root) for root in forest.roots)


def shapley(forest: Forest, x: features.Vector, player: int) -> float:
    """Return a feature's Shapley value: the worth that knowing it adds, as a mean over all orders of the features."""
    orders = list(itertools.permutations(range(4)))
    before = [frozenset(order[: order.index(player)]) for order in orders]
    return sum(worth(forest, x, known | {player}) - worth(forest, x, known) for known in before) / len(orders)
