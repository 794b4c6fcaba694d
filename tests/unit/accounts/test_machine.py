"""The machine of an action with its account: all pairs of state and event, all short sequences, and what each does."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud.accounts.action import (
    MOST_NOTICES,
    SYSTEM,
    Action,
    ActionEvent,
    Actor,
    Cause,
    ListedValue,
    Terms,
)
from fraud.accounts.moves import ENDED, MOVES, STEPS, WHO, ActionState, EventKind
from fraud.errors import ActionConflictError, ForbiddenError
from fraud.executions import CHECK_AGAIN, LOOK_AGAIN, UNTOLD
from fraud.stepped_row import REST, reached
from tests.acceptance import account_machine as walk
from tests.acceptance import machines

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
TERMS = Terms(timedelta(days=7), timedelta(minutes=15), timedelta(days=14), timedelta(days=3))
APP, JUN, MIO = Actor("app", "app"), Actor("jun", "lead"), Actor("mio", "lead")
CAUSE = Cause(kind="finding", id="case-1", by="jun", reason="a mule")
TO_APPEALABLE = ("slot_taken", "held", "settled", "listed", "deactivated", "acknowledged")
ENTRY = ListedValue(kind="device", value="phone", set_at="2026-03-04T12:00:00Z")


def after(*kinds: str, action: Action | None = None, at: datetime = NOON) -> Action:
    """Return an action after events, each by somebody who may cause it."""
    action = action or Action.for_cause("hanako", CAUSE, NOON)
    for kind in kinds:
        said = {
            "acknowledged": {"status": action.told_status},
            "appealed": {"appeal_id": "ap-1", "text": "it was not me"},
            "failed": {"step": "Hold"},
        }
        actor = {"app": APP, "lead": JUN, "other_lead": MIO, "system": SYSTEM}[min(WHO[kind])]
        action = action.after(ActionEvent(kind=kind, **said.get(kind, {})), actor, at, TERMS)
    return action


def test_every_state_is_reached_and_every_event_is_used():
    assert (
        reached(MOVES, "slot_taken") | {ActionState.OPENED, ActionState.QUEUED, ActionState.CANCELLED}
        == set(ActionState)
        == set(MOVES)
    )
    assert {kind for moves in MOVES.values() for kind in moves} == set(get_args(EventKind)) == set(WHO)


def test_each_state_ends_or_has_a_step():
    assert set(STEPS) | ENDED == set(ActionState)
    assert not set(STEPS) & ENDED


def test_every_step_from_every_action_that_can_be_reached_goes_as_the_words_say():
    found = machines.every_action()
    assert found.faults == Counter()
    assert found.pairs == {(state, kind) for state in ActionState for kind in get_args(EventKind)}


def test_every_sequence_of_six_steps_goes_as_the_words_say():
    assert machines.all_actions().faults == Counter()
    assert machines.all_actions(2).sequences == len(walk.STEPS) + len(walk.STEPS) ** 2  # none is left out


def test_random_sequences_go_as_the_words_say():
    assert machines.random_actions(1_000, 1).faults == Counter()


def test_the_words_and_the_machine_name_the_same_moves():
    said = {(state, kind, then) for kind, rule in walk.RULES.items() for state, then in rule.moves.items()}
    assert said == {(state, kind, then) for state, moves in MOVES.items() for kind, then in moves.items()}


@settings(max_examples=2_000)
@given(st.lists(st.sampled_from(walk.STEPS), max_size=8))
def test_no_sequence_of_steps_is_illegal_or_half_way(steps):
    moment, faults = walk.BEGINNING, Counter[str]()
    for step in steps:
        moment = walk.taken(moment, step, faults)
    assert +faults == Counter()


def test_who_has_caused_an_action_does_not_review_it():
    appealed = after(*TO_APPEALABLE, "appealed")
    for kind in ("upheld", "overturned"):
        with pytest.raises(ForbiddenError):
            appealed.after(ActionEvent(kind=kind, reason="mine"), JUN, NOON, TERMS)
        assert appealed.after(ActionEvent(kind=kind, reason="hers"), MIO, NOON, TERMS).review.by == "mio"
    with pytest.raises(ForbiddenError):
        after(*TO_APPEALABLE).after(ActionEvent(kind="ordered_back"), JUN, NOON, TERMS)


def test_of_two_reviews_the_first_stands_and_the_second_is_told_whose():
    upheld = after(*TO_APPEALABLE, "appealed", "upheld")
    same = ActionEvent(kind="upheld")
    assert upheld.after(same, MIO, NOON, TERMS) is upheld
    with pytest.raises(ActionConflictError) as refused:
        upheld.after(ActionEvent(kind="overturned", reason="no"), Actor("rin", "lead"), NOON, TERMS)
    assert (refused.value.now["action"].state, refused.value.now["action"].reviewed_by) == ("closed", "mio")


def test_the_same_appeal_alters_nothing_and_another_one_is_refused():
    appealed = after(*TO_APPEALABLE, "appealed")
    again = ActionEvent(kind="appealed", appeal_id="ap-1", text="it was not me")
    assert appealed.after(again, APP, NOON, TERMS) is appealed
    with pytest.raises(ActionConflictError):
        appealed.after(again.model_copy(update={"text": "and my brother"}), APP, NOON, TERMS)


def test_an_appeal_before_the_app_has_acknowledged_is_heard():
    appealed = after(*TO_APPEALABLE[:-1], "appealed")
    assert (appealed.state, appealed.due) == (ActionState.APPEALED, NOON + TERMS.review)


def test_the_app_acknowledges_the_status_that_it_was_told():
    told = after(*TO_APPEALABLE[:-1])
    with pytest.raises(ActionConflictError):
        told.after(ActionEvent(kind="acknowledged", status="active"), APP, NOON, TERMS)
    assert told.after(ActionEvent(kind="acknowledged", status="deactivated"), APP, NOON, TERMS).state == "appealable"


def test_the_app_is_told_three_times_and_then_an_alarm_tells_a_person():
    action, now, waits = after(*TO_APPEALABLE[:-1]), NOON, []
    while action.state is ActionState.DEACTIVATED:
        waits.append(action.wait)
        assert action.clock_events(now) == ()
        now += TERMS.notice
        for event in action.clock_events(now):
            action = action.after(event, SYSTEM, now, TERMS)
    assert waits == [f"deactivated-{n}" for n in range(1, MOST_NOTICES + 1)]
    assert (action.state, action.acknowledged) == (ActionState.APPEALABLE, ())


def test_an_overdue_review_is_told_once_and_goes_on_waiting():
    appealed = after(*TO_APPEALABLE, "appealed")
    late = NOON + TERMS.review
    (event,) = appealed.clock_events(late)
    overdue = appealed.after(event, SYSTEM, late, TERMS)
    assert (overdue.state, overdue.due, overdue.wait) == (ActionState.APPEALED, None, "appealed-overdue")
    assert overdue.clock_events(late + TERMS.review) == ()


def test_a_failed_step_begins_the_way_back_and_a_later_failure_does_not():
    failed = after("slot_taken", "held", "failed")
    assert (failed.state, failed.undo, failed.failed_step) == (ActionState.UNDOING, "compensation", "Hold")
    back = after("unlisted", "restored", action=failed)
    assert after("compensated", action=back).state is ActionState.COMPENSATED
    with pytest.raises(ActionConflictError):
        after("corrected", action=back)
    later = after(*TO_APPEALABLE)
    assert later.after(ActionEvent(kind="failed", step="AwaitAppeal"), SYSTEM, NOON, TERMS) is later


def test_what_the_app_may_have_carried_out_is_not_compensated():
    failed = ActionEvent(kind="failed", step="Notify")
    first = after(*TO_APPEALABLE[:-1])
    assert first.after(failed, SYSTEM, NOON, TERMS).undo == "compensation"
    told_again = after("notice_due", action=first, at=NOON + TERMS.notice)
    another_run = first.after(ActionEvent(kind="resumed", run=1), SYSTEM, NOON, TERMS)
    for told in (told_again, another_run):
        assert told.after(failed, SYSTEM, NOON, TERMS) is told


def test_an_entry_is_added_once_and_removed_once():
    action = after("slot_taken", "held", "settled")
    added, removed = ActionEvent(kind="entry_added", entry=ENTRY), ActionEvent(kind="entry_removed", entry=ENTRY)
    listed = action.after(added, SYSTEM, NOON, TERMS)
    assert listed.entries == (ENTRY,)
    assert listed.after(added, SYSTEM, NOON, TERMS) is listed
    back = listed.after(ActionEvent(kind="failed", step="x"), SYSTEM, NOON, TERMS).after(removed, SYSTEM, NOON, TERMS)
    assert back.entries == ()
    assert back.after(removed, SYSTEM, NOON, TERMS) is back


def test_an_execution_that_has_failed_is_followed_by_another_one_after_a_rest():
    action = after("slot_taken")
    resumed = action.after(ActionEvent(kind="resumed", run=1), SYSTEM, NOON, TERMS)
    assert (resumed.execution, resumed.next_look()) == (f"{action.action_id}-2", NOON + REST)
    assert resumed.after(ActionEvent(kind="resumed", run=1), SYSTEM, NOON, TERMS) is resumed
    assert after("held", action=resumed).next_look() == NOON + UNTOLD


def test_an_action_that_is_taken_back_after_its_end_gets_an_execution_of_its_own():
    closed = after(*TO_APPEALABLE, "appealed", "upheld")
    assert (closed.execution, closed.step) == (None, None)
    back = after("ordered_back", action=closed)
    assert (back.execution, back.step) == (f"{closed.action_id}-2", "RemoveEntries")


def test_the_sweep_looks_at_an_end_of_which_the_bus_must_be_told():
    upheld = after(*TO_APPEALABLE, "appealed", "upheld")
    assert (upheld.owed, upheld.next_look()) == ("AppealUpheld", NOON + UNTOLD)
    closed = after("window_ended", action=after(*TO_APPEALABLE), at=NOON + TERMS.window)
    assert (closed.owed, closed.next_look()) == (None, None)
    corrected = after(*TO_APPEALABLE, "appealed", "overturned", "unlisted", "restored", "corrected")
    late = NOON + TERMS.notice
    unheard = after("unacknowledged", action=corrected, at=late)
    assert (unheard.owed, unheard.next_look()) == ("ActionUnacknowledged", late + UNTOLD)
    heard = after("acknowledged", action=unheard, at=late)
    assert (heard.owed, heard.next_look()) == (None, None)


def test_the_sweep_looks_often_at_work_and_rarely_at_a_wait():
    assert after("slot_taken").looks_again(NOON) == NOON + LOOK_AGAIN
    assert after(*TO_APPEALABLE).looks_again(NOON) == NOON + CHECK_AGAIN
    assert after(*TO_APPEALABLE[:-1]).looks_again(NOON) == NOON + TERMS.notice


def test_a_lead_releases_what_waits_above_the_cap_as_often_as_needed_or_cancels_it():
    queued = after("cap_reached")
    again = after("released", "cap_reached", "released", action=queued)
    assert (again.state, again.queue_decision.by) == (ActionState.OPENED, "jun")
    cancelled = after("cancelled", action=queued)
    assert after("cancelled", action=cancelled) is cancelled
    with pytest.raises(ActionConflictError):
        cancelled.after(ActionEvent(kind="released", reason="no"), MIO, NOON, TERMS)
    (event,) = queued.clock_events(NOON + TERMS.queue)
    assert queued.after(event, SYSTEM, NOON + TERMS.queue, TERMS).state is ActionState.CANCELLED
