"""The alarm CanaryDiffers by the template's own expression: when it goes off, and that a rule hears of it."""

import json
import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud.aws.metrics import log_line
from fraud.retraining.intake import CANARY_ALARMS
from local.account.emulator import TEMPLATE
from local.account.stack import UnsupportedError, expand
from local.triggers.alarms import Formula, Metric, Watch, alarms
from local.triggers.patterns import matches

EXPANDED = expand(TEMPLATE, {})
(DIFFERS,) = (each for each in alarms(EXPANDED) if each.name == "CanaryDiffers")
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def lines(variant: str, decided: int, stopped: int) -> list[str]:
    """Return a variant's part of a log, one line for all its decisions of the period; none without decisions."""
    said = {"_aws": {"CloudWatchMetrics": [{"Dimensions": [["Variant"]]}]}, "Variant": variant}
    return [json.dumps(said | {"Decisions": decided, "Stopped": stopped})] if decided else []


def states(periods: Sequence[list[str]]) -> list[str]:
    """Return the state of the alarm after each period."""
    watch, state, found = Watch([DIFFERS]), "INSUFFICIENT_DATA", []
    for number, log in enumerate(periods):
        for event in watch.period(log, NOON + timedelta(minutes=5 * number)):
            state = event["detail"]["state"]["value"]
        found.append(state)
    return found


CHAMPION = lines("champion", 10_000, 100)


@pytest.mark.parametrize(
    ("canary", "state"),
    [
        (lines("challenger", 500, 5), "OK"),
        (lines("challenger", 500, 0), "OK"),  # 5 expected: none at all may be chance
        (lines("challenger", 500, 19), "OK"),
        (lines("challenger", 500, 20), "ALARM"),
        (lines("challenger", 500, 500), "ALARM"),
        (lines("challenger", 20_000, 30), "ALARM"),
        (lines("challenger", 20_000, 31), "OK"),
        ([], "OK"),
    ],
)
def test_the_alarm_goes_off_for_a_canary_that_is_stopped_far_more_or_far_less_than_the_champions_payers(canary, state):
    assert states([CHAMPION + canary]) == [state]


def test_a_period_in_which_either_decides_nothing_raises_no_alarm_and_ends_one():
    raised = CHAMPION + lines("challenger", 500, 400)
    for quiet in ([], CHAMPION, lines("challenger", 500, 400)):
        assert states([quiet, raised, quiet, raised]) == ["OK", "ALARM", "OK", "ALARM"]


@given(st.integers(1, 10**6), st.integers(1, 10**6), st.data())
def test_the_alarm_is_raised_beyond_half_and_one_and_a_half_times_the_champions_share_by_four_deviations(n, m, data):
    held, stopped = data.draw(st.integers(0, n)), data.draw(st.integers(0, m))
    expected = m * held / n
    beyond = max(stopped - 1.5 * expected, 0.5 * expected - stopped) / math.sqrt(1.5 * expected + 1)
    found = states([lines("champion", n, held) + lines("challenger", m, stopped)])
    assert math.isclose(beyond, 4) or found == ["ALARM" if beyond > 4 else "OK"]


def test_the_lines_of_the_functions_have_the_metrics_of_the_alarm(capsys):
    for variant, number, stopped in [("champion", 200, 0), ("champion", 2, 1), ("challenger", 40, 1)]:
        for _ in range(number):
            log_line({"Variant": variant}, {"Decisions": 1, "Stopped": stopped}, {})
    assert states([capsys.readouterr().out.splitlines()]) == ["ALARM"]


def test_a_rule_hears_of_the_alarm_and_the_intake_knows_its_name():
    (event,) = Watch([DIFFERS]).period(CHAMPION + lines("challenger", 500, 400), NOON)
    pattern: Any = EXPANDED["Resources"]["RetrainingAlarms"]["Properties"]["EventPattern"]
    named = pattern["detail"] | {"alarmName": [each["Ref"] for each in pattern["detail"]["alarmName"]]}
    assert matches(pattern | {"detail": named}, event)
    assert any(each in event["detail"]["alarmName"] for each in CANARY_ALARMS)


@pytest.mark.parametrize(
    ("expression", "value"), [("a - 1", 3.0), ("2 ^ a / 4", 4.0), ("a / (a - a)", None), ("b", None)]
)
def test_metric_math_is_computed_as_cloudwatch_does(expression, value):
    metrics = {name: Metric(name, {}, "Sum") for name in ("a", "b")}
    said = [{"_aws": {"CloudWatchMetrics": [{"Dimensions": [[]]}]}, "a": 4}]
    assert Formula("shown", {"shown": expression}, metrics).over(said) == value


def test_metric_math_that_the_box_does_not_know_is_refused():
    with pytest.raises(UnsupportedError, match="RATE"):
        Formula("shown", {"shown": "RATE(a)"}, {}).over([])
