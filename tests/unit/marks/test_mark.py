"""A mark is believed by the pointer's number and the payment's own time; one that cannot be read is none."""

import math
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud.counters.layout import State
from fraud.decisions.record import MetMark, read_marks, stored_marks
from fraud.marks.mark import SIDES, Mark, mark_of, marks
from tests.support.payments import payment

MARCH, APRIL = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC)
NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
MOMENT = timedelta(microseconds=1)
STAR = Mark(7, "invite", "star", 10.9, MARCH, APRIL)


@pytest.mark.parametrize("attribute", SIDES.values())
def test_a_mark_of_the_snapshot_in_force_is_believed_on_either_side(attribute):
    other = next(name for name in SIDES.values() if name != attribute)
    profile = {attribute: STAR.row, other: STAR._replace(snapshot=6, shape="path").row}
    assert mark_of(profile, 7, NOON) == STAR


@pytest.mark.parametrize("snapshot", [0, 6, 8])
def test_a_mark_of_any_other_snapshot_is_none(snapshot):
    assert mark_of({"mark_a": STAR.row}, snapshot, NOON) is None


@pytest.mark.parametrize(
    ("at", "holds"), [(MARCH - MOMENT, False), (MARCH, True), (APRIL - MOMENT, True), (APRIL, False)]
)
def test_a_mark_holds_from_its_snapshot_until_it_expires_by_the_payments_own_time(at, holds):
    tokyo = at.astimezone(timezone(timedelta(hours=9)))
    assert [mark_of({"mark_b": STAR.row}, 7, time) is not None for time in (at, tokyo)] == [holds] * 2


UNREADABLE = [
    *((name, value) for name in ("snapshot", "lift", "as_of", "expires_at") for value in (None, "?", [], {}, math.nan)),
    *((name, value) for name in ("view", "shape") for value in (None, 7, [], {})),
]


@pytest.mark.parametrize(("name", "value"), UNREADABLE)
def test_a_mark_that_cannot_be_read_is_none_and_hides_no_other(name, value):
    path = STAR._replace(shape="path")
    assert mark_of({"mark_a": STAR.row | {name: value}, "mark_b": path.row}, 7, NOON) == path


@pytest.mark.parametrize("name", Mark._fields)
def test_a_mark_that_lacks_a_field_is_none(name):
    assert mark_of({"mark_a": {other: value for other, value in STAR.row.items() if other != name}}, 7, NOON) is None


@pytest.mark.parametrize("held", [None, "mark", 7, [], {}, [["snapshot", 7]]])
def test_a_side_that_holds_something_else_is_no_mark(held):
    assert mark_of({"mark_a": held, "mark_b": held}, 7, NOON) is None


def test_each_party_of_a_payment_has_its_own_mark():
    profiles = {
        "account#payer-1": {"mark_a": STAR.row},
        "account#payee-1": {"mark_b": STAR._replace(shape="path").row},
        "device#device-1": {"mark_a": STAR.row},
    }
    met = marks(payment(), State({}, profiles, snapshot=7))
    assert {role: mark.name for role, mark in met.items()} == {"payer": "invite/star", "payee": "invite/path"}
    assert marks(payment(), State({}, profiles)) == {}


MARKS = st.builds(
    Mark,
    st.integers(1, 10**6),
    st.sampled_from(["invite", "p2p_7d"]),
    st.text(min_size=1, max_size=20),
    st.floats(0, 1e6),
    st.just(MARCH),
    st.just(APRIL),
)


@given(MARKS)
def test_a_mark_is_read_back_from_its_row_as_it_was_written(mark):
    assert Mark.parse(mark.row) == mark


@given(st.dictionaries(st.sampled_from(["payer", "payee"]), MARKS))
def test_a_decisions_row_keeps_what_a_payment_met(met):
    assert read_marks(stored_marks(met)) == {role: MetMark(*mark[:4]) for role, mark in met.items()}
