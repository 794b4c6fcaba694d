"""The gate: every check can refuse a model alone, and none can be passed by another one's figure."""

import json
import math
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud import packaged
from fraud.errors import UndecidableError
from fraud.retraining.gate import Evaluation, GatePolicy, GateReport, ShadowFigures, judge, judge_shadow

POLICY = GatePolicy.load(packaged.GATE.read_bytes())
DIGEST = "0" * 64
GOOD = {
    "model": "embedded-2",
    "champion": "embedded-1",
    "champion_manifest_sha256": DIGEST,
    "files": {"trees.json": DIGEST},
    "currency": "JPY",
    "payments": 10_000,
    "frauds": 100,
    "gain": {"value": 0.02, "low": 0.001, "high": 0.04},
    "saved": {"value": 10.0, "low": -5.0, "high": 25.0},
    "friction": 0.009,
    "friction_of_champion": 0.01,
    "friction_budget": 0.01,
    "reviews": 0.001,
    "reviews_budget": 0.002,
    "calibration": {"expected": 90.0, "found": 100.0},
    "drift": {"amount_log": 0.02},
}
STATED = "the old model's features are no longer computed"


def found(**changes: object) -> Evaluation:
    return Evaluation.model_validate(GOOD | changes)


def test_a_better_model_within_its_limits_passes():
    report = judge(found(), POLICY)
    assert (report.passed, report.failed) == (True, ())
    assert len(report.checks) == 8


@pytest.mark.parametrize(
    ("check", "changes"),
    [
        ("another_model", {"champion": "embedded-2"}),
        ("frauds", {"frauds": 29}),
        ("gain", {"gain": {"value": 0.02, "low": 0.0, "high": 0.04}}),
        ("cost", {"saved": {"value": -10.0, "low": -20.0, "high": -0.1}}),
        ("friction", {"friction": 0.0101}),
        ("reviews", {"reviews": 0.0021}),
        ("calibration", {"calibration": {"expected": 49.0, "found": 100.0}}),
        ("calibration", {"calibration": {"expected": 201.0, "found": 100.0}}),
        ("calibration", {"calibration": {"expected": 1.0, "found": 0.0}}),
        ("drift", {"drift": {f"feature-{n}": 0.26 for n in range(6)}}),
        ("drift", {"drift": {}}),
    ],
)
def test_each_check_refuses_a_model_alone(check, changes):
    report = judge(found(**changes), POLICY)
    assert (report.passed, report.failed) == (False, (check,))


def test_a_model_that_is_not_worse_passes_with_a_stated_reason_only():
    equal = found(gain={"value": 0.0, "low": -0.009, "high": 0.009})
    assert judge(equal, POLICY).failed == ("gain",)
    assert judge(equal, POLICY, STATED).passed
    same = {"value": 0.0, "low": 0.0, "high": 0.0}
    assert judge(found(gain=same, saved=same), POLICY, STATED).passed, "it decides every tested payment as the champion"
    worse = found(gain={"value": -0.005, "low": -0.01, "high": 0.0})
    assert judge(worse, POLICY, STATED).failed == ("gain",)


@given(st.floats(-1, 1), st.floats(0, 1), st.floats(0, 1), st.booleans())
def test_no_interval_that_reaches_below_zero_passes_without_a_reason(value, below, above, stated):
    gain = {"value": value, "low": value - below, "high": value + above}
    report = judge(found(gain=gain), POLICY, STATED if stated else None)
    assert report.passed == (gain["low"] > (-POLICY.evaluation.margin if stated else 0))


def test_a_report_without_checks_proves_nothing():
    assert not GateReport(policy="1", checks=()).passed


@pytest.mark.parametrize(
    "broken",
    [b"", b"{}", b'{"model": NaN}', b"[]", b'{"model": "x", "extra": 1}'],
)
def test_an_evaluation_that_cannot_be_read_is_no_evaluation(broken):
    with pytest.raises(UndecidableError):
        Evaluation.parse(broken)


@pytest.mark.parametrize("missing", sorted(GOOD))
def test_an_evaluation_that_lacks_a_field_is_no_evaluation(missing):
    with pytest.raises(UndecidableError, match=missing):
        Evaluation.parse(
            Evaluation.model_construct(**{k: v for k, v in GOOD.items() if k != missing})
            .model_dump_json(warnings=False)
            .encode()
        )


INTERVALS, SHARES = ("gain", "saved"), [name for name in GOOD if name.startswith(("friction", "reviews"))]
COUNTS = ("payments", "frauds")
SIZES = (("calibration", "expected"), ("calibration", "found"), ("drift", "amount_log"))
NEGATIVE = st.floats(max_value=-1e-9, allow_nan=False)
ODD = st.sampled_from((math.nan, math.inf, -math.inf))


def text_of(changes: Mapping[str, object]) -> bytes:
    return json.dumps(GOOD | changes).encode()


def in_part(part: str, name: str, value: float) -> dict[str, object]:
    return {part: {**GOOD[part], name: value}}


WRONG_FIGURES = st.one_of(
    st.builds(lambda name, n: {name: n}, st.sampled_from(COUNTS), st.integers(max_value=-1) | st.booleans()),
    st.builds(lambda more: {"frauds": GOOD["payments"] + more}, st.integers(1, 10**9)),
    st.builds(lambda name, n: {name: n}, st.sampled_from(SHARES), NEGATIVE | ODD | st.floats(1.0, exclude_min=True)),
    st.builds(lambda at, n: in_part(*at, n), st.sampled_from(SIZES), NEGATIVE | ODD),
    st.builds(in_part, st.sampled_from(INTERVALS), st.sampled_from(("value", "low", "high")), ODD),
    st.builds(
        lambda name, low, lies: {name: {"value": 0.0, "low": low, "high": low - lies}},
        st.sampled_from(INTERVALS),
        st.floats(-1e6, 1e6),
        st.floats(1e-6, 1e6),
    ),
)


@given(WRONG_FIGURES)
def test_an_evaluation_with_a_figure_that_cannot_be_is_refused_by_the_name_of_the_field(changes):
    (name,) = changes
    with pytest.raises(UndecidableError, match=f"^evaluation: .*{name}"):
        Evaluation.parse(text_of(changes))


@given(
    st.integers(0, 10**9).flatmap(lambda payments: st.tuples(st.just(payments), st.integers(0, payments))),
    st.fixed_dictionaries({name: st.floats(0, 1) for name in SHARES}),
    st.lists(st.floats(-1e9, 1e9), min_size=3, max_size=3),
    st.floats(0, 1e12),
)
def test_an_evaluation_of_possible_figures_is_read_and_judged(counts, shares, figures, size):
    interval = {"value": figures[0], "low": min(figures[1:]), "high": max(figures[1:])}
    changes = dict(zip(COUNTS, counts, strict=True)) | shares | {"gain": interval, "saved": interval}
    changes |= {"calibration": {"expected": size, "found": size}, "drift": {"amount_log": size}}
    assert len(judge(Evaluation.parse(text_of(changes)), POLICY).checks) == 8


@given(st.fixed_dictionaries({name: st.integers(-5, 20) for name in ShadowFigures.model_fields}))
def test_a_shadow_whose_counts_contradict_each_other_is_refused(counts):
    scored, alerts = counts["scored"], (counts["alerts"], counts["alerts_of_champion"])
    if counts["asked"] >= scored >= max(alerts) and min(alerts) >= 0:
        assert ShadowFigures.of(counts).model_dump() == counts
    else:
        with pytest.raises(UndecidableError, match=r"^shadow: "):
            ShadowFigures.of(counts)


SHADOW = {"asked": 1_000, "scored": 1_000, "alerts": 15, "alerts_of_champion": 10}


@pytest.mark.parametrize(
    ("failed", "changes"),
    [
        ((), {}),
        ((), {"alerts": 17}),
        (("alerts",), {"alerts": 18}),
        (("scored",), {"asked": 999, "scored": 999}),
        (("missing",), {"asked": 1_011}),
        (("scored", "missing"), {"asked": 0, "scored": 0, "alerts": 0, "alerts_of_champion": 0}),
    ],
)
def test_a_shadow_is_judged_by_what_it_has_scored_and_how_often_it_alerts(failed, changes):
    assert judge_shadow(ShadowFigures.model_validate(SHADOW | changes), POLICY).failed == failed


def test_a_stack_may_state_limits_of_its_own_and_no_others():
    own = GatePolicy.load(packaged.GATE.read_bytes(), {"shadow": {"least_scored": 5}})
    assert (own.shadow.least_scored, own.evaluation) == (5, POLICY.evaluation)
    for wrong in ({"shadow": {"least": 5}}, {"other": {}}):
        with pytest.raises(UndecidableError):
            GatePolicy.load(packaged.GATE.read_bytes(), wrong)
