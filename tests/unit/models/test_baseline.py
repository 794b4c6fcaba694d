"""A baseline counts what the schedule's queries count, and a model's training writes it beside the model."""

import contextlib
import io
import json
from datetime import date

import numpy as np
import pytest

from fraud import packaged
from fraud.archive import schema
from fraud.counters.layout import DAY
from fraud.reporting import drift_queries
from fraud.reporting.drift_queries import Days
from fraud.reporting.drift_watch import PREFIX, DriftWatch
from fraud.reporting.metrics import log_drift
from fraud.reporting.worker import Place, Reporting
from fraud.scoring import features
from fraud.scoring.drift import BASELINE, LABEL_DELAY, LABEL_VOLUME, SCORE, Baseline
from models.training import baseline
from models.training.columns import NEVER, Dataset
from tests.support.drifted import Athena, day_of, decision_rows, label_rows

FIRST, DAYS, DAILY = 20_516, 12, 150


@pytest.fixture(scope="module")
def world() -> Dataset:
    rng = np.random.default_rng(17)
    number = DAYS * DAILY
    values = rng.normal(size=(number, len(features.NAMES))).astype(np.float32)
    values[:, 6] = rng.random(number) < 0.4
    values[rng.random(values.shape) < 0.05] = np.nan
    at = np.sort(rng.integers(FIRST * DAY, (FIRST + DAYS) * DAY, number))
    is_fraud = rng.random(number) < 0.1
    known = np.where(is_fraud, at + rng.integers(3_600, 2 * DAY, number), NEVER)
    texts = np.array([f"t-{n}" for n in range(number)], np.dtypes.StringDType())
    numbers = np.arange(number)
    return Dataset(
        values, texts, numbers, numbers, at, known, np.full(number, NEVER), numbers, texts, texts,
        rng.random(number) < 0.8, np.zeros(number, np.int8), "JPY", "p",
    )  # fmt: skip


@pytest.fixture(scope="module")
def scores(world: Dataset) -> np.ndarray:
    return np.round(np.random.default_rng(18).random(len(world)) ** 9, 9)


def watched(world: Dataset, scores: np.ndarray, day: int, model: str = "m") -> tuple[DriftWatch, Athena]:
    athena, found = Athena(), Baseline.load(baseline.baseline(world, scores, "m"))
    chosen = world.occurred_at // DAY == day
    some = list(decision_rows(world.take(chosen), scores[chosen], model))
    athena.add(schema.DECISIONS, iter([*some, *some[:20]]))  # Firehose delivers some twice
    athena.add(schema.LABELS, label_rows(world, day * DAY, (day + 1) * DAY))
    reporting = Reporting(Place("w", "d", "b"), {}, lambda: athena, lambda: athena)
    return DriftWatch(reporting, lambda: found), athena


def test_the_queries_count_exactly_the_bins_of_the_baseline(world: Dataset, scores: np.ndarray):
    day = FIRST + DAYS - 2
    watch, _ = watched(world, scores, day)
    found = Baseline.load(baseline.baseline(world, scores, "m"))
    assert set(found.measures) == {*features.NAMES, SCORE, LABEL_DELAY, LABEL_VOLUME}
    days = Days(date.fromisoformat(day_of(day * DAY)), date.fromisoformat(day_of(day * DAY)))
    rows = (watch._row(query(found, days)) for query in (drift_queries.of_payments, drift_queries.of_labels))
    expected = baseline.counted(world, scores, found.measures, day)
    assert drift_queries.counted(found, *rows) == expected
    assert all(sum(counts) for counts in expected.values())


def test_a_day_of_the_baseline_is_quiet_and_is_written_with_its_limits(world: Dataset, scores: np.ndarray, capsys):
    watch, athena = watched(world, scores, FIRST + 5)
    day = date.fromisoformat(day_of((FIRST + 5) * DAY))
    drifts = watch.of(day)
    watch.write(day, drifts)
    log_drift(drifts, day)
    assert len(drifts) == len(features.NAMES) + 3
    assert max(each.ratio for each in drifts) < 1
    said = json.loads(athena.objects[f"{PREFIX}/{day}.json"])
    assert (said["model"], said["day"], len(said["drift"])) == ("m", str(day), len(drifts))
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line.get("Drift") for line in lines] == ["features", "score", "labels", None]
    assert all(line["DriftRatio"] < 1 and line["drifted"] == {} for line in lines[:3])
    assert lines[3]["DriftMeasures"] == len(drifts)


def test_scores_of_another_model_are_not_compared(world: Dataset, scores: np.ndarray):
    day = date.fromisoformat(day_of((FIRST + 5) * DAY))
    watch, _ = watched(world, scores, FIRST + 5, model="another")
    assert SCORE not in {each.measure for each in watch.of(day)}


def test_a_day_without_anything_compares_nothing(world: Dataset, scores: np.ndarray):
    watch, _ = watched(world, scores, FIRST + 5)
    drifts = watch.of(date(2020, 1, 1))
    with contextlib.redirect_stdout(io.StringIO()) as log:
        log_drift(drifts, date(2020, 1, 1))
    assert drifts == []
    assert json.loads(log.getvalue())["DriftMeasures"] == 0


@pytest.mark.parametrize("currency", packaged.currencies())
def test_the_packaged_model_has_its_own_baseline(currency: str):
    place = packaged.model(currency)
    found = Baseline.load((place / BASELINE).read_bytes())
    manifest = json.loads((place / "manifest.json").read_bytes())
    assert (found.model, found.fingerprint) == (manifest["version"], manifest["fingerprint"])
    assert (date.fromisoformat(found.last) - date.fromisoformat(found.first)).days + 1 == baseline.BASELINE_DAYS
    assert set(found.measures) == {*features.NAMES, SCORE, LABEL_DELAY, LABEL_VOLUME}


@pytest.mark.parametrize("query", [drift_queries.of_payments, drift_queries.of_labels])
def test_a_query_is_short_enough_for_athena_and_has_bounded_days(query):
    found = Baseline.load((packaged.model("JPY") / BASELINE).read_bytes())
    sql = query(found, Days(date(2026, 3, 4), date(2026, 3, 4)))
    assert len(sql) < 256 * 1024
    assert sql.count("FROM decisions") + sql.count("FROM labels") == sql.count("day BETWEEN '2026-03-04'") == 1
