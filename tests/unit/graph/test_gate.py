"""The gate of marks: which snapshots pass."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud import packaged
from fraud.errors import UndecidableError
from fraud.graph.gate import Asked, GatePolicy, Report, judge
from fraud.graph.publishing import Page, Plan, known

POLICY = GatePolicy(marked=(0.001, 0.02), factor=3, fewest=30)
LAX = POLICY.model_copy(update={"marked": (0.0, 1.0)})
PLAN = Plan.load(packaged.GRAPH_PLAN.read_bytes())
AS_OF = datetime(2026, 6, 1, tzinfo=UTC)
ASKED = Asked(AS_OF, ("invite",), 1_000)
COUNTS = st.dictionaries(st.sampled_from(["star", "path", "cycle", "forked_chain"]), st.integers(0, 5_000))


def report(marked=10, accounts=1_000, **components):
    views = {"invite": {"components": components or {"star": 60, "path": 940}, "chosen": marked}}
    figures = {"as_of": AS_OF, "edges": 1, "pages": min(marked, 1), "marked": marked, "accounts": accounts}
    return Report.model_validate(figures | {"views": views})


def failed(found, published=None):
    return [check.check for check in judge(found, published, POLICY, ASKED) if not check.passed]


@pytest.mark.parametrize(("marked", "passes"), [(0, False), (1, True), (20, True), (21, False)])
def test_the_share_of_marked_accounts_lies_between_both_limits(marked, passes):
    assert failed(report(marked)) == ([] if passes else ["marked"])


def test_a_snapshot_of_nobody_does_not_pass():
    assert failed(report(0, 0)) == ["marked"]


@pytest.mark.parametrize(
    ("components", "passes"),
    [
        ({"star": 179, "path": 821}, True),
        ({"star": 181, "path": 819}, False),
        ({"star": 21, "path": 979}, True),
        ({"star": 19, "path": 981}, False),
        ({"path": 1_000}, False),
        ({"star": 60, "path": 911, "cycle": 29}, True),
        ({"star": 60, "path": 910, "cycle": 30}, False),
        ({"star": 600, "path": 9_400}, True),
    ],
)
def test_a_common_shape_keeps_its_share_of_the_components_within_the_factor(components, passes):
    assert failed(report(**components), report()) == ([] if passes else ["shapes"])


def test_the_first_snapshot_is_compared_with_none():
    assert failed(report(cycle=1_000)) == []


@given(COUNTS, COUNTS)
def test_the_shapes_of_two_snapshots_differ_whichever_of_them_came_first(one, other):
    there, back = failed(report(**one), report(**other)), failed(report(**other), report(**one))
    assert ("shapes" in there) == ("shapes" in back)


@pytest.mark.parametrize(
    "before", [{"pair": 0}, {"pair": 3}, {"pair": 16, "path": 4, "star": 2}, {"pair": 60, "path": 20}]
)
def test_a_view_of_a_young_stack_may_grow_and_show_its_first_shapes(before):
    grown = report(pair=6_000, path=1_000, star=700, forked_chain=100)
    assert failed(grown, report(**before)) == []


@pytest.mark.parametrize(("components", "passes"), [(400, True), (334, True), (333, False), (0, False)])
def test_a_view_keeps_a_third_of_its_components(components, passes):
    assert failed(report(pair=components), report(pair=1_000)) == ([] if passes else ["views"])
    assert failed(report(pair=0), report(pair=29)) == []


@given(COUNTS)
def test_a_snapshot_like_the_published_one_passes(counts):
    assert failed(report(**counts), report(**counts)) == []


def test_a_view_that_the_plan_has_no_longer_is_not_compared_and_one_that_it_has_may_not_be_missing():
    other = report().model_copy(update={"views": {"p2p_7d": report(cycle=900).views["invite"]}})
    assert failed(report(), other) == []
    assert failed(other, report()) == ["whole"]


@pytest.mark.parametrize(
    "lie", [{"as_of": AS_OF - timedelta(days=1)}, {"views": {}}, {"pages": 2}, {"pages": 0}, {"marked": 9}]
)
def test_a_report_that_contradicts_itself_or_is_of_another_run_is_not_whole(lie):
    assert failed(report().model_copy(update=lie)) == ["whole"]


@pytest.mark.parametrize(("before", "now", "passes"), [(30, 0, False), (29, 0, True), (30, 10, True), (30, 9, False)])
@pytest.mark.parametrize("name", ["marked", "labels", "accounts"])
def test_a_snapshot_keeps_a_third_of_its_accounts_labels_and_marks_unless_there_were_few(name, before, now, passes):
    figures = {"marked": 0, "accounts": 10_000, "labels": 100}
    found, published = (
        report(said["marked"], said["accounts"]).model_copy(update={"labels": said["labels"]})
        for said in (figures | {name: now}, figures | {name: before})
    )
    out = judge(found, published, LAX, ASKED)
    assert [check.check for check in out if not check.passed] == ([] if passes else ["figures"])


def test_a_person_may_let_a_snapshot_pass_that_has_lost_everything():
    found, published = report(0, pair=0), report(300, 30_000, pair=9_000)
    generous = LAX.model_copy(update={"factor": 1e6})
    assert all(check.passed for check in judge(found, published, generous, ASKED))


def test_labels_are_not_compared_with_a_report_of_an_earlier_release():
    assert failed(report().model_copy(update={"labels": 0}), report()) == []


SENTENCE = {"words": "said", "accounts": ["ab"], "expected": 1.5, "rate": 0.1, "counterfactual": 0}
ALARM = {"shape": "forked_chain", "components": 96, "expected": 40.2, "share": 0.2, "baseline": 0.1}


def told(**changed):
    """Return a report, as bytes, of what has changed."""
    view = {"components": {"star": 1}, "chosen": 1, "changed": changed}
    figures = {"as_of": "2026-06-01T00:00:00Z", "edges": 1, "pages": 1, "marked": 1, "accounts": 1}
    return json.dumps(figures | {"views": {"invite": view}}).encode()


@pytest.mark.parametrize(
    "sentence",
    [
        None,
        {},
        {"words": None},
        {"words": ""},
        {"accounts": None},
        {"accounts": ["no pseudonym"]},
        {"expected": "many"},
        {"rate": float("nan")},
    ],
)
def test_a_sentence_that_is_none_is_a_fault_of_the_report(sentence):
    said = SENTENCE | sentence if sentence else sentence
    with pytest.raises(UndecidableError, match=r"^report of the graph: \d+ faults$"):
        Report.parse(told(sentences=[said]))


@pytest.mark.parametrize("alarm", [{"shape": "a/b"}, {"components": None}, {"expected": float("inf")}])
def test_an_alarm_that_is_none_is_a_fault_of_the_report(alarm):
    with pytest.raises(UndecidableError, match=r"^report of the graph: \d+ faults$"):
        Report.parse(told(alarms=[ALARM | alarm]))


def test_what_has_changed_may_say_more_than_the_function_reads():
    changed = Report.parse(told(sentences=[SENTENCE], alarms=[ALARM | {"p": 0.001}], psi=0.1)).views["invite"].changed
    assert (changed.sentences[0].words, changed.alarms[0].components) == ("said", 96)


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"accounts": -1}', b"\xff"])
def test_an_unreadable_report_or_page_says_so_and_quotes_nothing(content):
    for parse in (Report.parse, page_of):
        with pytest.raises(UndecidableError, match=r"^(report of the graph|page of marks): \d+ faults$"):
            parse(content)


def page_of(content):
    return Page.parse(content, AS_OF, PLAN)


def paged(account="ab", lift=4.5, until="2026-07-01T00:00:00Z"):
    said = {"account": account, "view": "invite", "shape": "star", "lift": lift}
    return said | {"as_of": "2026-06-01T00:00:00Z", "expires_at": until}


@pytest.mark.parametrize("wrong", [{"lift": float("inf")}, {"lift": float("nan")}, {"lift": -1.0}, {"account": "a/b"}])
def test_a_page_with_a_lift_that_is_no_number_or_a_name_that_is_no_pseudonym_is_refused(wrong):
    assert page_of(json.dumps({"marks": [paged()]}).encode()).marks[0].lift == 4.5
    with pytest.raises(UndecidableError, match=r"^page of marks: 1 faults$"):
        page_of(json.dumps({"marks": [paged(), paged(**wrong)]}).encode())


@pytest.mark.parametrize(
    ("as_of", "until", "passes"),
    [
        ("2026-06-01T00:00:00Z", "2026-06-01T00:00:00.000001Z", True),
        ("2026-06-01T09:00:00+09:00", "2026-07-01T00:00:00Z", True),
        ("2026-06-01T00:00:00Z", "2026-06-01T00:00:00Z", False),
        ("2026-06-01T00:00:00Z", "2026-07-01T00:00:00.000001Z", False),
        ("2026-06-01T00:00:00Z", "9999-12-31T00:00:00Z", False),
        ("2026-05-31T00:00:00Z", "2026-06-14T00:00:00Z", False),
        ("2027-07-06T00:00:00Z", "2027-07-16T00:00:00Z", False),
    ],
)
def test_a_mark_has_the_time_of_its_run_and_lasts_no_longer_than_a_grade(as_of, until, passes):
    content = json.dumps({"marks": [paged() | {"as_of": as_of, "expires_at": until}]}).encode()
    if passes:
        assert len(page_of(content).marks) == 1
    else:
        with pytest.raises(UndecidableError, match=r"^page of marks: 1 faults$"):
            page_of(content)


@pytest.mark.parametrize("lifts", [(4.5, 9.0), (9.0, 4.5)])
def test_an_account_of_two_pseudonyms_keeps_the_mark_of_the_higher_bound(lifts):
    rows = [*(paged(name, lift) for name, lift in zip(("ab", "cd"), lifts, strict=True)), paged("ef")]
    page = page_of(json.dumps({"marks": rows}).encode()).marks
    found = known(page, {"ab": "account-1", "cd": "account-1"}, 7)
    assert (found.marks["account-1"].lift, len(found.marks), found.erased) == (9.0, 1, 1)


def test_a_stack_may_state_its_own_values_and_only_those_that_there_are():
    packed = packaged.GRAPH_PLAN.read_bytes()
    own = Plan.load(packed, '{"history_days": 60, "gate": {"factor": 2.0}}')
    assert (own.history_days, own.gate.factor, own.gate.fewest) == (60, 2.0, Plan.load(packed).gate.fewest)
    for wrong in ("", "[]", '{"other": 1}', '{"gate": {"other": 1}}', '{"history_days": 0}', '{"gate": 1}'):
        with pytest.raises(UndecidableError):
            Plan.load(packed, wrong)
