"""The gate of marks: which snapshots pass."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud import packaged
from fraud.errors import UndecidableError
from fraud.graph.gate import GatePolicy, Report, judge
from fraud.graph.publishing import Page, PagedMark, Plan, known

POLICY = GatePolicy(marked=(0.001, 0.02), factor=3, fewest=30)
COUNTS = st.dictionaries(st.sampled_from(["star", "path", "cycle", "forked_chain"]), st.integers(0, 5_000))


def report(marked=10, accounts=1_000, **components):
    views = {"invite": {"components": components or {"star": 60, "path": 940}, "chosen": marked}}
    figures = {"as_of": "2026-06-01T00:00:00Z", "edges": 1, "pages": 1, "marked": marked, "accounts": accounts}
    return Report.model_validate(figures | {"views": views})


def failed(found, published=None):
    return [check.check for check in judge(found, published, POLICY) if not check.passed]


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


def test_a_view_that_only_one_snapshot_has_is_not_compared():
    other = report().model_copy(update={"views": {"p2p_7d": report(cycle=900).views["invite"]}})
    assert failed(report(), other) == []


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"accounts": -1}', b"\xff"])
def test_an_unreadable_report_or_page_says_so_and_quotes_nothing(content):
    for parse in (Report.parse, Page.parse):
        with pytest.raises(UndecidableError, match=r"^(report of the graph|page of marks): \d+ faults$"):
            parse(content)


def paged(account="ab", lift=4.5, until="2026-07-01T00:00:00Z"):
    said = {"account": account, "view": "invite", "shape": "star", "lift": lift}
    return said | {"as_of": "2026-06-01T00:00:00Z", "expires_at": until}


@pytest.mark.parametrize("wrong", [{"lift": float("inf")}, {"lift": float("nan")}, {"lift": -1.0}, {"account": "a/b"}])
def test_a_page_with_a_lift_that_is_no_number_or_a_name_that_is_no_pseudonym_is_refused(wrong):
    assert Page.parse(json.dumps({"marks": [paged()]}).encode()).marks[0].lift == 4.5
    with pytest.raises(UndecidableError, match=r"^page of marks: 1 faults$"):
        Page.parse(json.dumps({"marks": [paged(), paged(**wrong)]}).encode())


@pytest.mark.parametrize("lifts", [(4.5, 9.0), (9.0, 4.5)])
def test_an_account_of_two_pseudonyms_keeps_the_mark_of_the_higher_bound(lifts):
    page = [PagedMark(**paged(name, lift)) for name, lift in zip(("ab", "cd"), lifts, strict=True)]
    found = known([*page, PagedMark(**paged("ef"))], {"ab": "account-1", "cd": "account-1"})
    assert (found.marks["account-1"].lift, len(found.marks), found.erased) == (9.0, 1, 1)


def test_a_stack_may_state_its_own_values_and_only_those_that_there_are():
    packed = packaged.GRAPH_PLAN.read_bytes()
    own = Plan.load(packed, '{"history_days": 60, "gate": {"factor": 2.0}}')
    assert (own.history_days, own.gate.factor, own.gate.fewest) == (60, 2.0, Plan.load(packed).gate.fewest)
    for wrong in ("", "[]", '{"other": 1}', '{"gate": {"other": 1}}', '{"history_days": 0}', '{"gate": 1}'):
        with pytest.raises(UndecidableError):
            Plan.load(packed, wrong)
