"""Training is repeatable, uses nothing from the future, and never writes an export that differs from its booster."""

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import xgboost

from fraud import packaged
from fraud.counters.layout import DAY
from fraud.scoring.trees import Trees
from models.simulation.simulate import DEFAULT_START, simulate
from models.training import evaluate
from models.training import train as training
from models.training.away import COLUMNS, dropped
from models.training.dataset import Dataset
from models.training.train import FOLDS, Hyperparameters, Periods, check, train, tune

SMALL = Hyperparameters(most_trees=25, delay_days=2, test_days=2, max_bin=256)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return Dataset.build(simulate(5, DEFAULT_START, 12, 200))


@pytest.fixture(scope="module")
def trained(dataset):
    return train(dataset, SMALL, {"simulated": {"seed": 5}})


@pytest.fixture(scope="module")
def periods(dataset) -> Periods:
    return Periods.of(dataset, SMALL)


def test_the_same_dataset_gives_the_same_bytes(dataset, trained):
    again = train(dataset, SMALL, {"simulated": {"seed": 5}})
    assert (again.trees, again.manifest) == (trained.trees, trained.manifest)


def test_another_seed_gives_another_model(dataset, trained):
    assert train(dataset, replace(SMALL, seed=2), {}).trees != trained.trees


def test_fitted_rows_lose_the_features_of_each_kind(dataset, trained):
    assert train(dataset, replace(SMALL, away_share=0), {}).trees != trained.trees
    never_seen = train(dataset, replace(SMALL, away_share=1), {})
    used = set(json.loads(never_seen.trees)["feature"]) - {0}  # 0 also stands for a leaf
    assert used
    assert not used & {column for columns in COLUMNS.values() for column in columns.tolist()}


def test_thresholds_come_from_payments_with_all_counters(dataset, periods):
    lossy = replace(SMALL, away_share=0.5)
    known = dataset.between(periods.start, periods.fitted)
    labels = known.labels(periods.cutoff)
    count, held_out = tune(known, labels, periods, lossy)
    *_, (start, end) = periods.folds()
    before, fold = known.occurred_at < start, known.between(start, end)
    rows = xgboost.DMatrix(dropped(known.features[before], 0.5, SMALL.seed), labels[before], nthread=1)
    scores = xgboost.train(lossy.booster(), rows, count).inplace_predict(fold.features)
    np.testing.assert_array_equal(held_out.score[-len(fold) :], scores.astype(np.float64))


def test_nothing_that_happens_or_is_reported_later_changes_the_model(dataset, trained, periods):
    later = dataset.occurred_at >= periods.fitted
    unknown = dataset.fraud & (dataset.reported_at > periods.cutoff)
    assert later.any()
    assert unknown[~later].any()
    changed = replace(
        dataset,
        features=np.where(later[:, None], np.float32(7), dataset.features),
        amount=np.where(later, 1, dataset.amount),
        fraud=dataset.fraud & ~unknown & ~later,
    )
    other = train(changed, SMALL, {})
    assert other.trees == trained.trees
    assert json.loads(other.manifest)["thresholds"] == json.loads(trained.manifest)["thresholds"]


def test_the_delay_and_the_test_follow_the_fitted_days(periods):
    start = int(DEFAULT_START.timestamp())
    assert periods == Periods(start, start + 8 * DAY, start + 10 * DAY, start + 12 * DAY)


def test_folds_are_sorted_by_time_without_gaps_and_leave_days_to_fit_before_them(periods):
    folds = list(periods.folds())
    assert len(folds) == FOLDS
    assert periods.start < folds[0][0]
    assert folds[-1][1] == periods.fitted
    assert all(end == start for (_, end), (start, _) in pairwise(folds))
    assert next(Periods(0, 14 * DAY, 21 * DAY, 28 * DAY).folds()) == (6 * DAY, 8 * DAY)


def test_too_few_days_are_refused(dataset):
    with pytest.raises(ValueError, match="12 days leave no more than 4 to fit"):
        train(dataset, replace(SMALL, delay_days=4, test_days=4), {})


def test_an_export_that_differs_from_the_booster_is_refused(dataset, trained):
    trees = Trees.load(trained.trees, trained.manifest)
    check(trained.booster, trees, dataset)
    with pytest.raises(ValueError, match="differ from xgboost"):
        check(trained.booster[: trained.booster.num_boosted_rounds() - 1], trees, dataset)


def test_the_manifest_describes_the_fitted_payments_and_the_test_results(dataset, trained, periods):
    manifest = json.loads(trained.manifest)
    fitted = dataset.between(periods.start, periods.fitted)
    assert manifest["trained"] | {"hyperparameters": None} == {
        "simulated": {"seed": 5},
        "hyperparameters": None,
        "trees": trained.booster.num_boosted_rounds(),
        "payments": len(fitted),
        "frauds_known": int((fitted.fraud & (fitted.reported_at <= periods.cutoff)).sum()),
        "from": "2026-03-01",
        "before": "2026-03-09",
        "labels_known_at": "2026-03-11",
        "xgboost": xgboost.__version__,
    }
    assert manifest["metrics"]["payments"] == len(dataset.between(periods.cutoff, periods.end))
    assert manifest["metrics"]["average_precision"] == trained.report.average_precision


def test_a_sagemaker_job_reads_and_writes_the_directories_it_is_given(dataset, trained, tmp_path, monkeypatch, capsys):
    dataset.save(tmp_path / "train")
    for variable, directory in (("CHANNEL_TRAIN", "train"), ("MODEL_DIR", "model"), ("OUTPUT_DATA_DIR", "output")):
        monkeypatch.setenv(f"SM_{variable}", str(tmp_path / directory))
    arguments = [f"--{name}={getattr(SMALL, name)}" for name in ("most_trees", "delay_days", "test_days", "max_bin")]
    training.main(arguments)
    model = tmp_path / "model"
    assert (model / "trees.json").read_bytes() == trained.trees
    trees = Trees.load((model / "trees.json").read_bytes(), (model / "manifest.json").read_bytes())
    check(xgboost.Booster(model_file=model / "model.ubj"), trees, dataset)
    assert trees.version in capsys.readouterr().out
    assert "average precision" in (tmp_path / "output" / "evaluation.txt").read_text()


@pytest.mark.parametrize("currency", packaged.currencies())
def test_the_layer_holds_the_two_files_of_the_model_and_no_booster(currency):
    assert sorted(path.name for path in packaged.model(currency).iterdir()) == ["manifest.json", "trees.json"]


def test_without_a_channel_training_simulates_its_dataset(tmp_path, monkeypatch):
    monkeypatch.delenv("SM_CHANNEL_TRAIN", raising=False)
    small = ["--payers=60", "--days=9", "--most_trees=3", "--delay_days=1", "--test_days=1"]
    training.main(["--out", str(tmp_path), *small])
    manifest = json.loads((tmp_path / "manifest.json").read_bytes())
    assert manifest["trained"]["simulated"] == {"seed": 1, "days": 9, "payers": 60}


def test_comparing_labels_prints_the_precision_of_both_models_and_writes_nothing(tmp_path, capsys):
    parameters = replace(SMALL, test_days=6, min_child_weight=0.3, learning_rate=0.3)  # few frauds move the trees
    changed = ("most_trees", "delay_days", "test_days", "max_bin", "min_child_weight", "learning_rate")
    arguments = [f"--{name}={getattr(parameters, name)}" for name in changed]
    training.main(["--compare-labels", "--out", str(tmp_path), "--days=26", "--payers=60", *arguments])
    models = {
        words: train(Dataset.build(simulate(1, DEFAULT_START, 26, 60), labels=labels), parameters, {})
        for words, labels in (("with labels", True), ("without labels", False))
    }
    told = [f"average precision {words}: {model.report.average_precision:.3f}" for words, model in models.items()]
    assert capsys.readouterr().out.splitlines() == told
    assert len({line.rpartition(" ")[2] for line in told}) == 2
    assert list(tmp_path.iterdir()) == []


def test_comparing_shares_prints_the_means_over_models_and_writes_nothing(dataset, periods, tmp_path, capsys):
    dataset.save(tmp_path / "train")
    unseen = dataset.between(periods.cutoff, periods.end)
    unseen.save(tmp_path / "unseen")
    arguments = [f"--{name}={getattr(SMALL, name)}" for name in ("most_trees", "delay_days", "test_days", "max_bin")]
    directories = [f"--train={tmp_path / 'train'}", f"--compare-shares={tmp_path / 'unseen'}", f"--out={tmp_path}"]
    training.main([*directories, *arguments, "--trials=2"])
    precision, cost = (part.splitlines() for part in capsys.readouterr().out.split("\n\n"))
    models = [train(dataset, replace(SMALL, away_share=0.1, seed=seed), {}) for seed in (1, 2)]
    expected = [0.1, sum(model.report.average_precision for model in models) / 2]
    for columns in COLUMNS.values():
        vectors = unseen.features.copy()
        vectors[:, columns] = np.nan
        scores = [model.booster.inplace_predict(vectors) for model in models]
        expected.append(sum(evaluate.average_precision(each, unseen.fraud) for each in scores) / 2)
    assert precision[1].split() == cost[1].split() == ["share", "nothing", "receiver", "pair", "device"]
    assert [float(line.split()[0]) for line in precision[2:]] == list(training.SHARES)
    row = precision[2 + training.SHARES.index(0.1)]
    assert list(map(float, row.split())) == pytest.approx(expected, abs=6e-4)
    assert int(cost[2 + training.SHARES.index(0.1)].split()[1].replace(",", "")) == pytest.approx(
        sum(model.report.cost for model in models) / 2, abs=1
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["train", "unseen"]
