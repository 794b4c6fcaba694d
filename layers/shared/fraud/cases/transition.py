"""The change of a case by an event: whether it is allowed, and what follows beside the move. Pure."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from fraud.cases.case import USUALLY, Actor, Case, CaseEvent, Outreach, Terms, Verdict
from fraud.cases.moves import MOVES, SLA, WHO, EventKind, State, Who
from fraud.errors import CaseConflictError, ForbiddenError

DONE: Mapping[EventKind, frozenset[State]] = {
    "routed": frozenset(State) - {State.COLLECTING},
    "triaged": frozenset({State.CONCLUDING, State.CLOSED, State.FAILED}),
    "timed_out": frozenset({State.CONCLUDING, State.CLOSED, State.FAILED}),
    "concluded": frozenset({State.CLOSED}),
    "failed": frozenset({State.FAILED, State.CLOSED}),
    "lease_ended": frozenset(State) - {State.ASSIGNED},
    "warned": frozenset(State) - {State.QUEUED, State.ASSIGNED},
    "raised": frozenset(State) - {State.QUEUED, State.ASSIGNED},
    "withdrawn": frozenset(State) - {State.QUEUED, State.ASSIGNED},
}
"""States in which an event of the system has happened already, or came too late: there it alters nothing."""

HELD = frozenset({State.ASSIGNED, State.OUTREACH, State.CONCLUDING, State.CLOSED})
"""States in which a case has an analyst."""


def apply_event(case: Case, event: CaseEvent, actor: Actor, now: datetime, terms: Terms) -> Case:
    """Return the case after an event; the case itself when the event alters nothing.

    Raises ForbiddenError for an actor who may not cause the event, and CaseConflictError, which has the state, for
    an event that the state does not allow.
    """
    _check(case, event, actor)
    if case.state in DONE.get(event.kind, ()) or _is_early(case, event, now):
        return case
    if event.kind == "alerted" and event.alert is not None and case.knows(event.alert):
        return case
    if not case.allows(event.kind) or (event.kind == "alerted" and not case.joins):
        raise CaseConflictError(case.now)
    state = MOVES[case.state][event.kind]
    said = _EFFECTS[event.kind](case, event, actor, now, terms) if event.kind in _EFFECTS else {}
    held = said.get("assignee", case.assignee) if state in HELD else None
    lease = said.get("lease_until", case.lease_until) if state is State.ASSIGNED else None
    changed = {"state": state, "changed_at": now, "version": case.version + 1}
    return case.model_copy(update=said | changed | {"assignee": held, "lease_until": lease})


def _check(case: Case, event: CaseEvent, actor: Actor) -> None:
    """Raise ForbiddenError for an actor who may not cause the event."""
    who: set[Who] = {actor.role}
    if actor.role == "lead":
        who.add("analyst")
    if actor.role != "system" and actor.name == case.assignee:
        who.add("holder")
    if not who & WHO[event.kind]:
        # Another analyst got the case in the meantime: the answer says who has it, so it is no question of rights.
        if "holder" in WHO[event.kind] and "analyst" in who:
            raise CaseConflictError(case.now)
        raise ForbiddenError
    if event.kind == "taken" and case.level == "lead" and actor.role != "lead":
        raise ForbiddenError


def _is_early(case: Case, event: CaseEvent, now: datetime) -> bool:
    """Whether an event of the clock comes before its time: a lease was renewed, or a step was taken."""
    if event.kind == "lease_ended":
        return case.lease_until is None or now < case.lease_until
    steps = [step.event for step in SLA]
    if event.kind in steps:
        return steps.index(event.kind) < case.sla_step or now < case.step_at(steps.index(event.kind))
    return False


# ---- what an event does beside the move ------------------------------------------------------------------------------


def _alerted(case: Case, event: CaseEvent, _actor: Actor, _now: datetime, _terms: Terms) -> dict[str, Any]:
    if event.alert is None:
        return {}
    more = (event.alert.report_id,) if event.alert.report_id is not None else ()
    return {
        "alerts": _once(case.alerts, (event.alert.transaction_id,)),
        "reports": _once(case.reports, more),
        "reasons": _once(case.reasons, (event.alert.reason,)),
    }


def _taken(_case: Case, _event: CaseEvent, actor: Actor, now: datetime, terms: Terms) -> dict[str, Any]:
    return {"assignee": actor.name, "lease_until": now + terms.lease}


def _reassigned(_case: Case, event: CaseEvent, _actor: Actor, now: datetime, terms: Terms) -> dict[str, Any]:
    return {"assignee": event.assignee, "lease_until": now + terms.lease}


def _sla_step(_case: Case, event: CaseEvent, _actor: Actor, _now: datetime, _terms: Terms) -> dict[str, Any]:
    taken = {"sla_step": [step.event for step in SLA].index(event.kind) + 1}
    return taken if event.kind == "warned" else taken | {"level": "lead"}


def _escalated(_case: Case, _event: CaseEvent, _actor: Actor, _now: datetime, _terms: Terms) -> dict[str, Any]:
    return {"level": "lead"}


def _asked(case: Case, _event: CaseEvent, actor: Actor, now: datetime, _terms: Terms) -> dict[str, Any]:
    tried = 0 if case.outreach is None else case.outreach.earlier_attempts + case.outreach.attempts
    return {"outreach": Outreach(asked_at=now, asked_by=actor.name, earlier_attempts=tried)}


def _attempted(case: Case, _event: CaseEvent, _actor: Actor, _now: datetime, _terms: Terms) -> dict[str, Any]:
    if case.outreach is None:
        return {}
    return {"outreach": case.outreach.model_copy(update={"attempts": case.outreach.attempts + 1})}


def _answered(case: Case, event: CaseEvent, _actor: Actor, now: datetime, terms: Terms) -> dict[str, Any]:
    if case.outreach is None:
        return {}
    said = {"outreach": case.outreach.model_copy(update={"answer": event.answer}), "lease_until": now + terms.lease}
    return said | {"sla_from": now, "due": now + terms.sla, "sla_step": 0}


def _judged(case: Case, event: CaseEvent, actor: Actor, now: datetime, _terms: Terms) -> dict[str, Any]:
    subject_is = event.subject_is or USUALLY[case.subject_kind]
    return {
        "verdict": Verdict(
            finding=event.finding or "inconclusive",
            subject_is=subject_is if event.finding == "fraud" and case.kind != "sample" else None,
            reason=event.note or "",
            by=actor.name,
            at=now,
            transaction_ids=case.alerts if event.transaction_ids is None else event.transaction_ids,
        )
    }


_EFFECTS: Mapping[str, Callable[[Case, CaseEvent, Actor, datetime, Terms], dict[str, Any]]] = {
    "alerted": _alerted,
    "taken": _taken,
    "reassigned": _reassigned,
    **{step.event: _sla_step for step in SLA},
    "escalated": _escalated,
    "outreach_asked": _asked,
    "outreach_attempted": _attempted,
    "outreach_answered": _answered,
    "judged": _judged,
    "triaged": _judged,
    "timed_out": _judged,
}


def _once(known: tuple[str, ...], more: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*known, *more)))
