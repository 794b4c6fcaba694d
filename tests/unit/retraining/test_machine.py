"""The machine of a retraining: what may happen, who may cause it, and that its end is always a defined one."""

from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud.errors import ForbiddenError, RetrainingConflictError
from fraud.retraining.events import END
from fraud.retraining.gate import GateCheck, GateReport
from fraud.retraining.moves import ENDED, JOBS, MOVES, OF_THE_CLOCK, STEPS, EventKind, RetrainingState
from fraud.retraining.retraining import (
    MOST_RUNS,
    SYSTEM,
    Actor,
    Retraining,
    RetrainingCause,
    RetrainingEvent,
    Terms,
    retraining_id,
)
from fraud.scoring.registry import ModelVersion
from fraud.stepped_row import reached

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
MIO, REN = Actor("mio", "lead"), Actor("ren", "lead")
DAY = timedelta(days=1)
TERMS = Terms(7 * DAY, 2 * DAY, DAY)
CAUSE = RetrainingCause(kind="lead", id="r-1", by="mio", reason="a new tactic")
REPORT = GateReport(policy="1", checks=(GateCheck(check="gain", passed=True, said="+0.1"),))
MODEL = ModelVersion.of("embedded-1", "models/1", b"trees", b"manifest")

TO_THE_END = (
    *("turn_taken", "exported", "built", "trained", "evaluated", "passed_gate", "registered", "approved"),
    *("shadow_begun", "shadow_ended", "shadow_passed", "canary_begun", "canary_ended", "promoted"),
)
TRIED = {"shadow", "shadowed", "passed", "canary", "proven"}
"""The states in which the pointer names the model, so that every failure must take it back."""


def after(row: Retraining, kind: EventKind, now: datetime = NOON) -> Retraining:
    """Return the row after an event by whom it may come from, said as the steps say it."""
    said = {"job": row.job, "report": REPORT, "model": MODEL, "package": "arn", "reason": "looked at", "step": row.step}
    event = RetrainingEvent.model_validate({"kind": kind, **said, "run": row.run})
    actor = MIO if kind in {"approved", "rejected", "rolled_back"} else SYSTEM
    return row.after(event, actor, max(now, row.due or now), TERMS)


def at(state: str) -> Retraining:
    """Return a retraining in a state on the way to a promoted model."""
    row = Retraining.for_cause(CAUSE, NOON)
    for kind in TO_THE_END:
        if row.state == state:
            return row
        row = after(row, kind)
    assert row.state == state
    return row


def test_a_retraining_goes_from_its_cause_to_a_champion():
    row = at("champion")
    assert (row.execution, row.step, row.version) == (None, None, len(TO_THE_END) + 1)
    assert (row.decision.by, row.model, row.shadow_since) == ("mio", MODEL, NOON)
    assert set(row.jobs) == {"built", "trained", "evaluated"}


def test_every_state_that_has_not_ended_has_a_step_and_every_end_is_told():
    assert STEPS.keys() | ENDED == set(RetrainingState) == MOVES.keys()
    assert END.keys() == ENDED
    assert all(kind in MOVES[state] for state, kind in {**JOBS, **OF_THE_CLOCK}.items())
    assert {kind for moves in MOVES.values() for kind in moves} == set(get_args(EventKind))


@pytest.mark.parametrize("state", sorted(STEPS))
def test_a_failure_ends_in_a_defined_state_and_takes_a_tried_model_back(state):
    row = Retraining.for_cause(CAUSE, NOON).model_copy(update={"state": RetrainingState(state), "model": MODEL})
    if state == "restoring":
        assert after(row, "failed") is row
        return
    failed = after(row, "failed")
    assert failed.failed_step == STEPS[RetrainingState(state)]
    assert failed.state == ("restoring" if state in TRIED | {"approved"} else "failed")
    assert failed.state in ENDED or after(failed, "restored").state == "restored"


def test_an_alarm_takes_back_a_model_that_is_tried_and_says_nothing_to_any_other():
    for state in RetrainingState:
        row = Retraining.for_cause(CAUSE, NOON).model_copy(update={"state": state})
        alarmed = row.after(RetrainingEvent(kind="alarmed", reason="CanaryDiffers"), SYSTEM, NOON, TERMS)
        assert (alarmed.state == "restoring") == (state in TRIED or state == "restoring"), state
        assert alarmed.alarm == ("CanaryDiffers" if state in TRIED else None)


def test_only_a_lead_approves_rejects_and_rolls_back_and_only_the_first_word_counts():
    row = at("registered")
    for kind in ("approved", "rejected"):
        with pytest.raises(ForbiddenError):
            row.after(RetrainingEvent(kind=kind, reason="x"), SYSTEM, NOON, TERMS)
    approved = after(row, "approved")
    assert after(approved, "approved") is approved
    for actor, kind in ((REN, "approved"), (MIO, "rejected"), (REN, "rejected")):
        with pytest.raises(RetrainingConflictError) as refused:
            approved.after(RetrainingEvent(kind=kind, reason="x"), actor, NOON, TERMS)
        assert refused.value.now["retraining"].decided_by == "mio"
    with pytest.raises(ForbiddenError):
        row.after(RetrainingEvent(kind="registered"), MIO, NOON, TERMS)


@pytest.mark.parametrize(
    ("state", "then", "passes"),
    [("registered", "expired", 7 * DAY), ("shadow", "shadowed", 2 * DAY), ("canary", "proven", DAY)],
)
def test_the_clock_ends_a_wait_and_never_early(state, then, passes):
    row = at(state)
    event = RetrainingEvent(kind=OF_THE_CLOCK[row.state])
    assert row.due == row.since + passes
    early = row.due - timedelta(seconds=1)
    assert row.clock_events(early) == ()
    assert row.after(event, SYSTEM, early, TERMS) is row
    assert row.clock_events(row.due) == (event,)
    assert row.after(event, SYSTEM, row.due, TERMS).state == then


def test_a_job_is_tried_again_under_another_name_and_a_late_word_of_the_first_try_says_nothing():
    row = at("built")
    again = after(row, "job_failed")
    assert (row.job, again.job) == (f"{row.retraining_id}-trained-1-1", f"{row.retraining_id}-trained-1-2")
    for kind in ("trained", "job_failed"):
        assert again.after(RetrainingEvent(kind=kind, job=row.job), SYSTEM, NOON, TERMS) is again
    trained = after(again, "trained")
    assert (trained.jobs["trained"], trained.tries) == (again.job, 1)
    assert len(again.job) <= 63


def test_executions_that_fail_are_followed_by_others_and_at_last_the_retraining_is_given_up():
    row = at("exported")
    for number in range(1, MOST_RUNS):
        assert (row.run, row.state) == (number, "exported")
        row = after(row, "resumed")
        assert row.rests_until == NOON + timedelta(minutes=5)
        assert row.after(RetrainingEvent(kind="resumed", run=row.run - 1), SYSTEM, NOON, TERMS) is row
    assert row.execution == f"{row.retraining_id}-{MOST_RUNS}"
    assert (after(row, "resumed").state, after(row, "resumed").failed_step) == ("failed", "BuildDataset")
    restoring = after(at("canary"), "alarmed")
    for _ in range(MOST_RUNS + 1):
        restoring = after(restoring, "resumed")
    assert restoring.state == "restoring"  # taking a model back is never given up


def test_the_same_cause_is_the_same_retraining_and_another_one_is_not():
    names = {retraining_id(CAUSE.model_copy(update={"id": each})) for each in ("r-1", "r-2")}
    assert len(names) == 2
    assert retraining_id(CAUSE.model_copy(update={"reason": "other words"})) in names


@given(st.lists(st.sampled_from(get_args(EventKind)), max_size=40), st.integers(0, len(TO_THE_END)))
def test_no_sequence_of_events_leaves_the_machine_or_changes_what_was_decided(kinds, begins):
    row = Retraining.for_cause(CAUSE, NOON)
    for kind in [*TO_THE_END[:begins], *kinds]:
        try:
            then = after(row, kind)
        except RetrainingConflictError:
            continue
        assert then is row or then.version == row.version + 1
        assert row.decision is None or then.decision == row.decision
        assert row.state not in ENDED or then.state in ENDED
        assert then.has_turn == (then.state not in ENDED | {"requested"})
        assert then is row or then.state is row.state or then.state in MOVES[row.state].values()
        row = then
    assert all(row.state in reached(MOVES, kind) for kind in ("turn_taken",) if row.has_turn)
