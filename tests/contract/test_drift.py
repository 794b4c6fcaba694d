"""Drift from the archive's rows to the event that starts a retraining, by the template's own alarms and rule."""

import json
from datetime import datetime, timedelta

import numpy as np

from fraud.counters.layout import DAY
from fraud.reporting.drift_watch import PREFIX
from fraud.scoring import features
from fraud.scoring.drift import KINDS, Baseline
from local.account.emulator import TEMPLATE
from local.account.stack import expand
from local.triggers.alarms import Watch, alarms
from models.simulation.simulate import DEFAULT_START
from models.training import baseline
from models.training.columns import NEVER, Dataset
from tests.acceptance import drift

EXPANDED = expand(TEMPLATE, {})
RESOURCES = EXPANDED["Resources"]
FIRST, KNOWN, DAILY = int(DEFAULT_START.timestamp()) // DAY, 10, 200
CASH_OUT = features.NAMES.index("is_cash_out")
DRIFTED = [each for each in alarms(EXPANDED) if each.metrics == {"DriftRatio"}]


def world(days: int, changed: int) -> Dataset:
    """Return days of which those from `changed` on have eight times as many payments of one type."""
    rng = np.random.default_rng(17)
    number = days * DAILY
    at = np.sort(rng.integers(FIRST * DAY, (FIRST + days) * DAY, number))
    values = rng.normal(size=(number, len(features.NAMES))).astype(np.float32)
    values[:, CASH_OUT] = rng.random(number) < np.where(at >= (FIRST + changed) * DAY, 0.8, 0.1)
    known = np.where(rng.random(number) < 0.1, at + 5_000, NEVER)
    texts = np.array([f"t-{n}" for n in range(number)], np.dtypes.StringDType())
    numbers = np.arange(number)
    return Dataset(
        values, texts, numbers, numbers, at, known, np.full(number, NEVER), numbers, texts, texts,
        np.ones(number, np.bool_), np.zeros(number, np.int8), "JPY", "p",
    )  # fmt: skip


def test_a_changed_day_starts_one_retraining_and_a_quiet_day_none_however_long_it_lasts():
    lived = world(KNOWN + 5, changed=KNOWN + 2)
    known = lived.between(0, (FIRST + KNOWN) * DAY)
    found = Baseline.load(baseline.baseline(known, np.full(len(known), 0.1), "m"))
    days = list(drift.seen(lived, found, lambda rows: np.full(len(rows), 0.1), KNOWN, KNOWN + 5))
    assert [each.starts for each in days] == [0, 0, 1, 0, 0]
    assert [list(each.drifted) for each in days[:3]] == [[], [], ["is_cash_out"]]


def test_each_kind_of_drift_has_an_alarm_which_the_rule_names_and_no_other():
    assert [each.watched.dimensions["Drift"] for each in DRIFTED] == list(KINDS)
    pattern = RESOURCES[drift.RULE]["Properties"]["EventPattern"]
    assert pattern["detail"]["alarmName"] == [{"Ref": each.name} for each in DRIFTED]
    assert all(each.breaches is False for each in DRIFTED)


def test_an_alarm_changes_with_its_values_and_says_so_once():
    def line(ratio: float) -> str:
        said = {"_aws": {"CloudWatchMetrics": [{"Dimensions": [["Drift"]]}]}, "Drift": "score", "DriftRatio": ratio}
        return json.dumps(said)

    watch, now = Watch(DRIFTED), datetime.fromisoformat("2026-03-04T01:00:00Z")
    states = []
    for day, log in enumerate(([line(1.0)], [line(1.01)], [line(3.0)], [], [line(0.2), line(1.2)])):
        events = watch.period(log, now + timedelta(days=day))
        states.append({event["detail"]["alarmName"]: event["detail"]["state"]["value"] for event in events})
    assert states[0] == {each.name: "OK" for each in DRIFTED}
    assert states[1:] == [{"ScoresDrifted": "ALARM"}, {}, {"ScoresDrifted": "OK"}, {"ScoresDrifted": "ALARM"}]


def test_the_function_may_write_drift_and_results_read_the_pointer_and_delete_nothing():
    statements = [
        statement
        for policy in RESOURCES["DriftRole"]["Properties"]["Policies"]
        for statement in policy["PolicyDocument"]["Statement"]
    ]
    actions = [statement["Action"] for statement in statements]
    flat = [action for each in actions for action in ([each] if isinstance(each, str) else each)]
    assert not [action for action in flat if "Delete" in action]
    assert [action for action in flat if action.startswith("dynamodb:")] == ["dynamodb:GetItem"]
    (written,) = (each["Resource"] for each in statements if "s3:PutObject" in each["Action"])
    assert written == [{"Fn::Sub": f"${{DecisionArchive.Arn}}/{name}/*"} for name in (PREFIX, "results/kpis")]
