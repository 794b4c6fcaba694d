"""The marks of all views at a time, and the marks of a history as they stood: nothing later has a say in them."""

from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.datasets import history
from models.graph import lift, marks
from models.graph.lift import Grade, Policy
from models.graph.views import VIEWS, HistoryTables
from tests.support.histories import Histories, day

RULES = Policy(
    components=2, horizon=30, snapshots=10, alpha=1, grades=(Grade(bound=1, days=7, does=("feature",)),)
)  # fmt: skip
WEEK = timedelta(days=7)


def grown() -> Histories:
    """Return a history of 56 days in which stars of payments and chains of invitations are frauds more often."""
    made = Histories()
    made.pay("early", "shop", 1, type="merchant")
    for number in range(40):
        told = 20 + number % 7 if number % 3 == 0 else None
        for leaf in range(3 if number % 3 == 0 else 1):
            for at in (6, 39, 53):
                made.pay(f"p{number}", f"q{number}-{leaf}", at + number % 3, told=told if at == 6 else None)
        made.invite(f"p{number}", f"i{number}", 1)
        if number % 3 == 0:
            made.invite(f"i{number}", f"j{number}", 2)
            made.pay(f"i{number}", "shop", 8, told=told, type="merchant")
    return made


def standing(made: Histories, *times: float) -> list[marks.Marks]:
    with TemporaryDirectory() as directory, HistoryTables(made.write(Path(directory))) as tables:
        return list(marks.stood(tables, map(day, times), RULES))


TIMES = (42, 49, 55)
AFTER = st.floats(0.01, 20)
PARTY = st.sampled_from([f"{letter}{number}" for letter in "pij" for number in range(0, 12, 2)] + ["new-1", "new-2"])


@st.composite
def later(draw, at: float) -> Histories:
    """Return the history with payments, invitations and labels that happen or become known after a day."""
    made = grown()
    when = partial(draw, AFTER.map(lambda days: at + days))
    for _ in range(draw(st.integers(1, 6))):
        payer, payee = draw(PARTY), draw(PARTY.map(lambda party: f"{party}-payee"))
        paid = when()
        told = draw(st.none() | st.floats(0.01, 9).map(paid.__add__))
        kind = draw(st.sampled_from(["p2p", "merchant"]))
        made.pay(payer, payee, paid, told=told, type=kind, device_id=draw(st.sampled_from(["d1", "d2"])))
        made.invite(draw(PARTY), draw(PARTY.map(lambda party: f"{party}-invited")), when())
    for place in draw(st.sets(st.integers(0, len(made.payments) - 1), max_size=10)):
        one = made.payments[place]
        if one.label == "legitimate":
            made.payments[place] = replace(one, label="fraud", reported_at=max(one.reported_at, day(when())))
    return made


def test_accounts_of_a_shape_that_has_earned_it_are_marked():
    first, _, third = standing(grown(), *TIMES)
    assert {each.view for each in third.marks} == {"invite", "p2p_7d"}
    assert first.as_of == day(42)
    assert [each.account for each in third.marks] == sorted({each.account for each in third.marks})
    assert {f"{each.view}/{each.shape}": each.lift for each in third.marks} == dict(third.earned)
    assert {(each.as_of, each.expires_at) for each in third.marks} == {(day(55), day(62))}


@pytest.mark.parametrize("at", TIMES)
@settings(deadline=None, max_examples=8)
@given(data=st.data())
def test_nothing_that_happens_or_becomes_known_later_changes_a_mark(at, data):
    before = [each for each in TIMES if each <= at]
    assert standing(data.draw(later(at)), *before) == standing(grown(), *before)


def test_snapshots_that_are_kept_change_no_mark():
    together = standing(grown(), *TIMES)
    assert together == [each for at in TIMES for each in standing(grown(), at)]


def test_an_account_that_several_views_mark_keeps_the_highest_bound(tmp_path):
    with HistoryTables(grown().write(tmp_path)) as tables:
        of_all = {each.account: each.lift for each in marks.marks_at(tables, day(55), RULES).marks}
        shared = RULES.model_copy(update={"alpha": RULES.alpha / len(VIEWS)})
        of_each: dict[str, list[float]] = {}
        for name in VIEWS:
            one = marks.marks_at(tables, day(55), shared, {name: VIEWS[name]})
            for each in one.marks:
                of_each.setdefault(each.account, []).append(each.lift)
    assert any(len(bounds) > 1 for bounds in of_each.values())
    assert of_all == {account: max(bounds) for account, bounds in of_each.items()}


def test_the_command_writes_a_row_for_each_mark_and_for_a_snapshot_that_marks_nobody(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(lift, "policy", lambda: RULES)
    made = grown()
    made.pay("late", "payer", 76)
    assert marks.main([str(made.write(tmp_path)), "--every", "7"]) == 0
    rows = pyarrow.parquet.read_table(tmp_path / history.MARKS).to_pylist()
    assert sorted({row["snapshot"] for row in rows}) == list(range(1, 11))
    assert {row["as_of"] for row in rows} == {day(1) + number * WEEK for number in range(1, 11)}
    empty = {row["snapshot"] for row in rows if row["account"] is None}
    assert empty
    assert not empty & {row["snapshot"] for row in rows if row["account"] is not None}
    assert "10 snapshots" in capsys.readouterr().out


def test_an_old_invitation_makes_no_snapshots_of_before_the_first_payment(tmp_path):
    made = grown()
    made.invite("old", "older", -20_000)
    with HistoryTables(made.write(tmp_path)) as tables:
        times = marks.snapshots(tables, WEEK)
    assert times
    assert times[0] > day(0)


def test_a_history_that_is_none_is_refused(tmp_path, capsys):
    assert marks.main([str(tmp_path)]) == 2
    assert str(tmp_path) in capsys.readouterr().err
