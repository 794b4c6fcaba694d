"""Training is repeatable, uses nothing from the future, and never writes an export that differs from its booster."""

import json
from dataclasses import asdict, replace
from itertools import pairwise

import numpy as np
import pytest
import xgboost
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud import packaged
from fraud.counters.layout import DAY
from fraud.scoring import features
from fraud.scoring.trees import Trees
from models.simulation.simulate import DEFAULT_START, simulate
from models.training import train as training
from models.training.away import COLUMNS, dropped
from models.training.columns import NEVER, Dataset
from models.training.costs import Budget
from models.training.export import check
from models.training.fitting import (
    FOLDS,
    Calibration,
    Hyperparameters,
    Periods,
    calibrated,
    imputed,
    margins,
    matrix,
    search,
    told_by,
    tune,
    varying,
)
from models.training.train import train

SMALL = Hyperparameters(most_trees=25, delay_days=2, test_days=2, max_bin=256)
LINE = Calibration(0.8, -2.5)
BLANK = Dataset.build(simulate(5, DEFAULT_START, 1, 60)).take(np.arange(1))


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return Dataset.build(simulate(5, DEFAULT_START, 12, 200))


@pytest.fixture(scope="module")
def measured(dataset):
    return train(dataset, SMALL, {"simulated": {"seed": 5}})


@pytest.fixture(scope="module")
def trained(measured):
    return measured[0]


@pytest.fixture(scope="module")
def periods(dataset) -> Periods:
    return Periods.of(dataset, SMALL)


def test_the_same_dataset_gives_the_same_bytes(dataset, trained):
    again, _ = train(dataset, SMALL, {"simulated": {"seed": 5}})
    assert (again.trees, again.manifest) == (trained.trees, trained.manifest)


def test_another_seed_gives_another_model(dataset, trained):
    assert train(dataset, replace(SMALL, seed=2), {})[0].trees != trained.trees


def test_fitted_rows_lose_the_features_of_each_kind(dataset, trained):
    assert train(dataset, replace(SMALL, away_share=0), {})[0].trees != trained.trees
    never_seen, _ = train(dataset, replace(SMALL, away_share=1), {})
    used = set(json.loads(never_seen.trees)["feature"]) - {0}  # 0 also stands for a leaf
    assert used
    assert not used & {column for columns in COLUMNS.values() for column in columns.tolist()}


def test_a_feature_that_says_nothing_yet_changes_no_tree(dataset, trained):
    """A model is the same with and without features that are the same in all rows; its trees have all features."""
    silent = [features.NAMES.index(name) for name in ("payer_mark_lift", "payee_mark_lift")]
    assert np.isin(silent, varying(dataset.features), invert=True).all()
    told = dataset.features.copy()
    told[:, silent] = 7.5
    again, _ = train(replace(dataset, features=told), SMALL, {"simulated": {"seed": 5}})
    assert again.trees == trained.trees
    assert trained.booster.num_features() == len(features.NAMES)


def test_margins_of_the_folds_come_from_payments_with_all_counters(dataset, periods):
    lossy = replace(SMALL, away_share=0.5)
    known = dataset.between(periods.start, periods.fitted)
    labels = known.labels(periods.cutoff)
    tuned = tune(known, labels, periods, lossy)
    *_, (start, end) = periods.folds()
    before, fold = known.occurred_at < start, known.between(start, end)
    columns = varying(known.features)
    rows = xgboost.DMatrix(dropped(known.features[before], 0.5, SMALL.seed)[:, columns], labels[before], nthread=1)
    of_fold = margins(xgboost.train(lossy.booster(), rows, tuned.trees), fold.features[:, columns])
    np.testing.assert_array_equal(tuned.margins[-len(fold) :], of_fold)
    np.testing.assert_array_equal(tuned.places[-len(fold) :], np.flatnonzero(known.occurred_at >= start))


def test_nothing_that_happens_or_is_reported_later_changes_the_model(dataset, trained, periods):
    later = dataset.occurred_at >= periods.fitted
    unknown = dataset.fraud & (dataset.known_from > periods.cutoff)
    assert later.any()
    assert unknown[~later].any()
    changed = replace(
        dataset,
        features=np.where(later[:, None], np.float32(7), dataset.features),
        amount=np.where(later, 1, dataset.amount),
        known_from=np.where(unknown & ~later, NEVER, dataset.known_from),
        known_until=np.where(later, dataset.known_from, dataset.known_until),
    )
    other, _ = train(changed, SMALL, {})
    assert other.trees == trained.trees
    assert json.loads(other.manifest)["thresholds"] == json.loads(trained.manifest)["thresholds"]


def test_a_search_keeps_what_is_best_on_the_folds_and_says_how_many_it_tried(dataset, periods):
    known = dataset.between(periods.start, periods.fitted)
    labels = known.labels(periods.cutoff)
    small = replace(SMALL, most_trees=8, max_bin=64)
    found = search(known, labels, periods, replace(small, trials=3))
    assert found.tried == 4
    assert found.loss <= tune(known, labels, periods, small).loss
    assert found.loss == tune(known, labels, periods, found.parameters).loss
    again = search(known, labels, periods, replace(small, trials=3))
    assert (again.parameters, again.loss) == (found.parameters, found.loss)
    assert search(known, labels, periods, replace(small, trials=3, search_seconds=0)).tried == 1


def test_a_calibrated_booster_has_the_margins_of_the_line(dataset, trained):
    moved = calibrated(trained.booster, LINE)
    before, after = (margins(booster, dataset.features) for booster in (trained.booster, moved))
    np.testing.assert_allclose(after, LINE.slope * before + LINE.intercept, atol=1e-5)


@given(st.integers(0, 10**6), st.floats(0.5, 2), st.floats(-1, 1), st.sampled_from([1.0, 0.7]))
@settings(deadline=None, max_examples=25)
def test_calibration_finds_the_line_by_which_payments_were_drawn_also_while_some_frauds_are_not_known(
    seed, slope, intercept, told
):
    rng = np.random.default_rng(seed)
    drawn = rng.normal(-3, 2, 40_000)
    fraud = rng.random(len(drawn)) < 1 / (1 + np.exp(-slope * drawn - intercept))
    known = fraud & (rng.random(len(drawn)) < told)
    line = Calibration.of(drawn, known, np.full(len(drawn), told))
    assert line.slope == pytest.approx(slope, rel=0.25)
    assert line.intercept == pytest.approx(intercept, abs=0.6)
    guessed = imputed(line.scores(drawn), known, np.full(len(drawn), told), seed)
    assert known[~guessed].sum() == 0
    assert guessed.sum() == pytest.approx(fraud.sum(), rel=0.15)


def test_the_base_rate_moves_the_odds_of_all_scores_alike_and_a_line_never_turns_the_ranking_around():
    scores = Calibration(1.3, -1).scores(np.array([-2.0, 0.5]))
    moved = Calibration(1.3, -1).at(0.001, 0.02).scores(np.array([-2.0, 0.5]))
    odds = (moved / (1 - moved)) / (scores / (1 - scores))
    np.testing.assert_allclose(odds, (0.001 / 0.999) / (0.02 / 0.98))
    assert Calibration(1.3, -1).at(0, 0.02) == Calibration(1.3, -1)
    known = np.array([False, False, False, True] * 50)
    backwards = Calibration.of(np.array([5.0, 4, 4, -5] * 50), known, np.ones(200))
    assert backwards.slope > 0
    assert backwards.scores(np.array([5.0, 4, 4, -5] * 50)).mean() == pytest.approx(0.25, rel=1e-6)
    assert Calibration.of(np.array([-3.0, 1.0]), np.array([False, False]), np.ones(2)).slope > 0


def test_a_payment_of_weight_three_counts_as_three_in_the_calibration_and_in_the_trees():
    rng = np.random.default_rng(17)
    margins = rng.normal(-3, 2, 400)
    known = rng.random(400) < 1 / (1 + np.exp(-margins))
    weighed = Calibration.of(margins, known, np.full(400, 0.9), np.full(400, 3.0))
    repeated = Calibration.of(np.tile(margins, 3), np.tile(known, 3), np.full(1_200, 0.9))
    assert weighed == pytest.approx(repeated, rel=1e-9)
    rows = rng.normal(size=(400, 3)).astype(np.float32)
    fitted = [
        xgboost.train({"objective": "binary:logistic", "nthread": 1}, given, 5).predict(xgboost.DMatrix(rows))
        for given in (matrix(rows, known, np.full(400, 3.0)), matrix(np.tile(rows, (3, 1)), np.tile(known, 3)))
    ]
    np.testing.assert_allclose(*fitted, rtol=1e-5)


@given(st.integers(0, 10**6), st.floats(1, 12))
@settings(deadline=None, max_examples=25)
def test_the_share_of_reports_that_have_come_is_found_although_late_ones_are_missing(seed, days):
    rng = np.random.default_rng(seed)
    count, cutoff = 8_000, 40 * DAY
    paid = np.sort(rng.integers(0, 33 * DAY, count))
    delays = rng.exponential(days * DAY, count).astype(np.int64)
    rows = replace(
        BLANK.take(np.zeros(count, np.intp)),
        occurred_at=paid,
        known_from=np.where(rng.random(count) < 0.2, paid + delays, NEVER),
        known_until=np.full(count, NEVER),
    )
    told = told_by(rows, cutoff)
    ages = cutoff - paid
    # Beyond the oldest payment nothing can be known of the delays: the truth is taken up to there.
    true = (1 - np.exp(-ages / (days * DAY))) / (1 - np.exp(-ages.max() / (days * DAY)))
    assert np.abs(told - true).max() < 0.12
    assert (np.diff(told[np.argsort(ages)]) >= 0).all()


def test_without_a_known_fraud_there_is_nothing_to_learn(dataset):
    honest = replace(dataset, known_from=np.full(len(dataset), NEVER))
    with pytest.raises(ValueError, match="nothing to learn"):
        train(honest, SMALL, {})


def test_the_delay_and_the_test_follow_the_fitted_days(periods):
    start = int(DEFAULT_START.timestamp())
    assert periods == Periods(start, start + 8 * DAY, start + 10 * DAY, start + 12 * DAY)


def test_folds_are_sorted_by_time_without_gaps_and_leave_days_to_fit_before_them(periods):
    folds = list(periods.folds())
    assert len(folds) == FOLDS
    assert periods.start < folds[0][0]
    assert folds[-1][1] == periods.fitted
    assert all(end == start for (_, end), (start, _) in pairwise(folds))
    assert next(Periods(0, 14 * DAY, 21 * DAY, 28 * DAY).folds()) == (10 * DAY, 11 * DAY)


def test_too_few_days_are_refused(dataset):
    with pytest.raises(ValueError, match="12 days leave no more than 4 to fit"):
        train(dataset, replace(SMALL, delay_days=4, test_days=4), {})


def test_an_export_that_differs_from_the_booster_is_refused(dataset, trained):
    trees = Trees.load(trained.trees, trained.manifest)
    check(trained.booster, trees, dataset.features)
    with pytest.raises(ValueError, match="differ from xgboost"):
        check(trained.booster[: trained.booster.num_boosted_rounds() - 1], trees, dataset.features)


def test_the_manifest_describes_the_fitted_payments_and_the_test_results(dataset, measured, periods):
    trained, report = measured
    manifest = json.loads(trained.manifest)
    fitted = dataset.between(periods.start, periods.fitted)
    computed = {"hyperparameters", "calibration", "expected", "frauds_of_folds"}
    assert {name: value for name, value in manifest["trained"].items() if name not in computed} == {
        "simulated": {"seed": 5},
        "tried": 1,
        "policy": dataset.policy,
        "budget": asdict(Budget()),
        "trees": trained.booster.num_boosted_rounds(),
        "payments": len(fitted),
        "frauds_known": int((fitted.fraud & (fitted.known_from <= periods.cutoff)).sum()),
        "from": "2026-03-01",
        "before": "2026-03-09",
        "labels_known_at": "2026-03-11",
        "xgboost": xgboost.__version__,
    }
    assert manifest["metrics"]["payments"] == len(dataset.between(periods.cutoff, periods.end))
    assert manifest["metrics"]["average_precision"] == report.average_precision
    assert manifest["trained"]["expected"]["friction_bound"] <= Budget().friction


def test_a_sagemaker_job_reads_and_writes_the_directories_it_is_given(dataset, trained, tmp_path, monkeypatch, capsys):
    dataset.save(tmp_path / "train")
    for variable, directory in (("CHANNEL_TRAIN", "train"), ("MODEL_DIR", "model"), ("OUTPUT_DATA_DIR", "output")):
        monkeypatch.setenv(f"SM_{variable}", str(tmp_path / directory))
    arguments = [f"--{name}={getattr(SMALL, name)}" for name in ("most_trees", "delay_days", "test_days", "max_bin")]
    training.main(arguments)
    model = tmp_path / "model"
    assert (model / "trees.json").read_bytes() == trained.trees
    trees = Trees.load((model / "trees.json").read_bytes(), (model / "manifest.json").read_bytes())
    check(xgboost.Booster(model_file=model / "model.ubj"), trees, dataset.features)
    assert trees.version in capsys.readouterr().out
    assert "average precision" in (tmp_path / "output" / "evaluation.txt").read_text()


@pytest.mark.parametrize("currency", packaged.currencies())
def test_the_layer_holds_the_two_files_of_the_model_and_no_booster(currency):
    assert sorted(path.name for path in packaged.model(currency).iterdir()) == [
        "baseline.json",
        "manifest.json",
        "trees.json",
    ]


def test_without_a_channel_training_simulates_its_dataset(tmp_path, monkeypatch):
    monkeypatch.delenv("SM_CHANNEL_TRAIN", raising=False)
    small = ["--payers=60", "--days=19", "--most_trees=3", "--delay_days=1", "--test_days=1"]
    training.main(["--out", str(tmp_path), *small])
    manifest = json.loads((tmp_path / "manifest.json").read_bytes())
    assert manifest["trained"]["simulated"] == {"seed": 1, "days": 19, "payers": 60}
