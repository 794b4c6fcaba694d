"""Snapshots of marks on the profiles table: published whole or not at all, whenever the publish dies."""

from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fraud.counters.codec import profile_of
from fraud.errors import ServiceError, UnavailableError, UndecidableError
from fraud.marks.mark import Mark
from fraud.marks.pointer import SETTLES, MarksPointer
from fraud.marks.store import Marks
from fraud.settings import Settings
from tests.support.audit_stack import audit_stack
from tests.support.boto_transport import BotoTransport
from tests.support.published_marks import NOON, Publishing, mark, taken_for_dead, taken_up_again, writes_of

ACCOUNTS = 4
WRITES = range(writes_of(ACCOUNTS))


@pytest.fixture
def table():
    with audit_stack() as stack:
        yield stack.dynamodb


@pytest.fixture
def marks(table):  # noqa: ARG001 - the table is there
    return Marks(Settings.from_environment(), BotoTransport())


def held(table, account):
    found = table.get_item(TableName="profiles", Key={"pk": {"S": f"account#{account}"}}).get("Item", {})
    return profile_of({name: value for name, value in found.items() if name != "pk"})


# --- killed between any two writes ------------------------------------------------------------------------------------
@pytest.mark.usefixtures("table")
@pytest.mark.parametrize("writes", WRITES)
def test_a_publish_that_dies_anywhere_leaves_the_old_snapshot_until_its_run_has_gone_on(writes):
    assert taken_up_again(ACCOUNTS, writes) > 0


@pytest.mark.usefixtures("table")
@pytest.mark.parametrize("writes", WRITES)
def test_a_publish_that_was_taken_for_dead_changes_nothing_that_anybody_believes(writes):
    assert taken_for_dead(ACCOUNTS, writes) > 0


@pytest.mark.usefixtures("table")
def test_an_environment_that_cannot_read_the_pointer_again_believes_no_mark_before_its_side_is_overwritten():
    stage = Publishing(["account-0"], page=1)
    stage.publish("run-1", {"account-0": "star"})
    stage.settle()
    stage.publish("run-2", {})
    stage.settle()
    stage.publish("run-3", {"account-0": "path"})
    assert stage.published == {0: {}, 1: {"account-0": "star"}, 2: {}, 3: {"account-0": "path"}}


# --- single steps -----------------------------------------------------------------------------------------------------
def test_a_mark_is_read_back_from_its_profile_and_leaves_the_rest_of_it_alone(table, marks):
    status = {"state": {"S": "hold"}}
    table.put_item(TableName="profiles", Item={"pk": {"S": "account#alice"}, "status": {"M": status}})
    number = marks.begin("run-1", NOON)
    written = {name: mark(number, "star")._replace(lift=lift) for name, lift in (("alice", 10.9), ("bob", 1e-05))}
    marks.write(number, 0, written)
    assert {name: Mark.parse(held(table, name)["mark_a"]) for name in written} == written
    assert held(table, "alice")["status"] == {"state": "hold"}


def test_more_marks_than_are_written_at_once_are_all_written(table, marks):
    number = marks.begin("run-1", NOON)
    marks.write(number, 0, {f"account-{n}": mark(number, "star") for n in range(120)})
    assert table.scan(TableName="profiles", Select="COUNT", FilterExpression="attribute_exists(mark_a)")["Count"] == 120


RANKS = [(3.1, "invite", "star"), (12.0, "invite", "path"), (12.0, "invite", "star"), (12.0, "p2p_7d", "path")]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pages=st.permutations(range(4)), again=st.lists(st.integers(0, 3), max_size=4))
def test_an_account_of_several_pages_keeps_the_highest_mark_in_whatever_order_and_however_often_they_come(
    table, marks, pages, again
):
    table.delete_item(TableName="profiles", Key={"pk": {"S": "account#alice"}})
    number = marks.begin("run-1", NOON)
    ranked = [mark(number, shape)._replace(lift=lift, view=view) for lift, view, shape in RANKS]
    lasting = [each._replace(expires_at=NOON + timedelta(days=n + 1)) for n, each in enumerate(ranked)]
    for page in [*pages, *again]:
        marks.write(number, page, {"alice": lasting[page]})
    assert Mark.parse(held(table, "alice")["mark_a"]) == lasting[3] == max(lasting, key=lambda each: each.rank)


def test_an_account_of_several_pages_counts_once_also_when_a_page_is_written_again(table, marks):  # noqa: ARG001
    number = marks.begin("run-1", NOON)
    low, high = mark(number, "star"), mark(number, "path")._replace(lift=12.0)
    assert [marks.write(number, 0, {"alice": low, "bob": low}) for _ in range(2)] == [2, 2]
    assert [marks.write(number, 1, {"alice": high, "carol": low}) for _ in range(2)] == [1, 1]
    assert [marks.write(number, 2, {"bob": low, "carol": high, "dave": low}) for _ in range(2)] == [1, 1]


def test_a_repeat_of_a_write_after_the_flip_changes_nothing(table, marks):
    number = marks.begin("run-1", NOON)
    marks.write(number, 0, {"alice": mark(number, "star")})
    marks.flip(number, NOON, NOON)
    marks.write(number, 0, {"alice": mark(number, "path"), "bob": mark(number, "path")})
    assert (held(table, "alice")["mark_a"]["shape"], held(table, "bob")) == ("star", {})
    assert marks.flip(number, NOON, NOON + timedelta(hours=1)) == marks.read()


def test_a_snapshot_begins_on_a_new_stack_and_again_only_when_the_last_one_has_settled(marks):
    assert marks.read() == MarksPointer()
    assert [marks.begin("run-1", NOON), marks.begin("run-1", NOON)] == [1, 1]
    marks.flip(1, NOON, NOON)
    with pytest.raises(UnavailableError, match="MarksSettle"):
        marks.begin("run-2", NOON + timedelta(minutes=4))
    assert marks.begin("run-2", NOON + SETTLES) == 2


def test_a_snapshot_that_was_never_begun_is_neither_written_nor_put_in_force(table, marks):
    marks.begin("run-1", NOON)
    with pytest.raises(UndecidableError):
        marks.write(2, 0, {"alice": mark(2, "star")})
    with pytest.raises(UndecidableError):
        marks.flip(2, NOON, NOON)
    assert held(table, "alice") == {}


def test_a_write_that_the_table_refuses_is_an_error(marks):
    number = marks.begin("run-1", NOON)
    with pytest.raises(ServiceError):
        marks.write(number, 0, {"": mark(number, "star"), "x" * 3_000: mark(number, "star")})
