"""The machine of a case: every state and event, who may cause what, the clock, and repeats."""

import itertools
from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud.cases.case import SYSTEM, Actor, Alert, Case, CaseEvent, Terms, case_id, subject_kind
from fraud.cases.moves import MOVES, WHO, EventKind, State
from fraud.cases.transition import apply_event
from fraud.errors import CaseConflictError, ForbiddenError
from fraud.executions import CHECK_AGAIN

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
TERMS = Terms(timedelta(hours=4), timedelta(minutes=30))
HANA, JUN, LEAD = Actor("hana", "analyst"), Actor("jun", "analyst"), Actor("mio", "lead")
KINDS: tuple[EventKind, ...] = get_args(EventKind)


def alert(name: str = "t-1", report_id: str | None = None) -> Alert:
    return Alert(
        transaction_id=name,
        subject_kind="payee",
        subject_id="shop",
        occurred_at=NOON,
        reason="FAN_IN_BURST",
        report_id=report_id,
    )


def event(kind: EventKind, name: str = "t-2") -> CaseEvent:
    said = {
        "alerted": {"alert": alert(name)},
        "reassigned": {"assignee": "jun"},
        "judged": {"finding": "fraud", "note": "the payer denies it"},
        "triaged": {"finding": "inconclusive", "note": "the challenge was passed"},
        "outreach_answered": {"answer": "denies"},
    }
    return CaseEvent(kind=kind, **said.get(kind, {}))


def opened() -> Case:
    return Case.for_alert(case_id(alert().subject, NOON), alert(), NOON, TERMS)


def after(case: Case, *events: tuple[EventKind, Actor], at: datetime = NOON) -> Case:
    for kind, actor in events:
        case = apply_event(case, event(kind), actor, at, TERMS)
    return case


ROUTED = ("routed", SYSTEM)
TAKEN = ("taken", HANA)


def test_every_state_is_reached_and_every_event_is_used():
    reached, before = {State.COLLECTING}, set()
    while reached != before:
        before = set(reached)
        reached |= {then for state in before for then in MOVES[state].values()}
    assert reached == set(State) == set(MOVES)
    assert {kind for moves in MOVES.values() for kind in moves} == set(KINDS) == set(WHO)


def test_a_case_goes_from_its_alert_to_its_end():
    case = after(opened(), ROUTED, TAKEN, ("outreach_asked", HANA), ("outreach_attempted", HANA))
    assert (case.state, case.outreach.attempts) == (State.OUTREACH, 1)
    case = after(case, ("outreach_answered", HANA), ("judged", HANA), ("concluded", SYSTEM))
    assert (case.state, case.verdict.finding, case.verdict.by) == (State.CLOSED, "fraud", "hana")
    assert (case.verdict.transaction_ids, case.outreach.answer) == (("t-1",), "denies")
    assert case.version == 8


@pytest.mark.parametrize(
    ("kind", "actor", "error"),
    [
        ("judged", JUN, CaseConflictError),  # Hana has the case
        ("released", JUN, CaseConflictError),
        ("routed", HANA, ForbiddenError),
        ("concluded", LEAD, ForbiddenError),
        ("taken", JUN, CaseConflictError),
    ],
)
def test_only_those_act_who_may(kind, actor, error):
    with pytest.raises(error):
        after(opened(), ROUTED, TAKEN, (kind, actor))


def test_an_analyst_takes_no_case_of_the_leads():
    raised = apply_event(opened(), event("routed"), SYSTEM, NOON, TERMS)
    raised = apply_event(raised, event("raised"), SYSTEM, NOON + TERMS.sla, TERMS)
    with pytest.raises(ForbiddenError):
        apply_event(raised, event("taken"), HANA, NOON, TERMS)
    assert apply_event(raised, event("taken"), LEAD, NOON, TERMS).assignee == "mio"


def test_of_two_verdicts_the_second_is_told_the_winner():
    case = after(opened(), ROUTED, TAKEN, ("judged", LEAD))
    with pytest.raises(CaseConflictError) as refused:
        after(case, ("judged", HANA))
    assert (refused.value.now["case"].finding, refused.value.now["case"].judged_by) == ("fraud", "mio")


def test_the_clock_warns_raises_and_takes_a_case_back():
    case = after(opened(), ROUTED, TAKEN)
    late = NOON + TERMS.sla * 1.5
    for one in case.clock_events(late):
        case = apply_event(case, one, SYSTEM, late, TERMS)
    assert (case.state, case.level, case.assignee, case.sla_step) == (State.QUEUED, "lead", None, 3)
    assert case.clock_events(late) == ()
    assert case.next_look() == case.changed_at + CHECK_AGAIN  # does its execution still run?


def test_a_lease_ends_unless_it_was_renewed():
    case = after(opened(), ROUTED, TAKEN)
    ended = NOON + TERMS.lease
    assert apply_event(case, event("lease_ended"), SYSTEM, ended - timedelta(seconds=1), TERMS) is case
    assert apply_event(case, event("lease_ended"), SYSTEM, ended, TERMS).state is State.QUEUED


def test_the_time_with_the_payer_does_not_count():
    case = after(opened(), ROUTED, TAKEN, ("outreach_asked", HANA))
    much_later = NOON + timedelta(days=2)
    assert case.clock_events(much_later) == ()
    case = apply_event(case, event("outreach_answered"), HANA, much_later, TERMS)
    assert (case.due, case.sla_step, case.lease_until) == (much_later + TERMS.sla, 0, much_later + TERMS.lease)


def test_a_repeat_of_the_systems_events_alters_nothing():
    case = opened()
    for kind in ("routed", "triaged", "timed_out", "concluded", "failed"):
        for state in State:
            if kind not in MOVES[state]:
                there = case.model_copy(update={"state": state})
                try:
                    assert apply_event(there, event(kind), SYSTEM, NOON, TERMS) is there
                except CaseConflictError:
                    assert kind in {"concluded", "triaged"}  # an end too early, or another route than the first


def test_all_sequences_up_to_three_end_where_the_machine_says():
    people = [(kind, LEAD) for kind in KINDS if "lead" in WHO[kind] or "analyst" in WHO[kind]]
    system = [(kind, SYSTEM) for kind in ("routed", "timed_out", "concluded", "failed")]
    for sequence in itertools.product([*people, *system], repeat=3):
        case = opened()
        for kind, actor in sequence:
            before = case
            try:
                case = apply_event(case, event(kind), actor, NOON, TERMS)
            except (CaseConflictError, ForbiddenError):
                assert case is before
            else:
                assert case is before or case.state is MOVES[before.state][kind]


@given(st.lists(st.tuples(st.sampled_from(KINDS), st.sampled_from([SYSTEM, HANA, JUN, LEAD])), max_size=30))
def test_no_sequence_loses_a_verdict_or_an_alert(events):
    case, verdict = opened(), None
    for kind, actor in events:
        try:
            case = apply_event(case, event(kind), actor, case.changed_at + timedelta(minutes=7), TERMS)
        except (CaseConflictError, ForbiddenError):
            continue
        verdict = verdict or case.verdict
        assert case.verdict == verdict
        assert "t-1" in case.alerts
        assert (case.assignee is None) == (case.state not in {State.ASSIGNED, State.OUTREACH}) or verdict
        assert Case.model_validate_json(case.model_dump_json()) == case


def test_the_first_reason_says_whom_the_case_is_about():
    assert subject_kind("shop", ["CONFIRMED_FRAUD"]) == "payee"
    assert subject_kind("shop", ["VELOCITY", "FAN_IN_BURST"]) == "payer"
    assert subject_kind("shop", []) == "payer"
