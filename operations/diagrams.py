"""What follows from a decision and a finding: the generated parts of docs/cases.md, accounts.md, models.md, graph.md.

They come from the machines that the code runs on.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, get_args

from fraud.accounts import moves as actions
from fraud.cases.case import Finding
from fraud.cases.moves import MOVES, SLA, WHO, EventKind
from fraud.cases.worker import LABELS, RELEASES
from fraud.decisions import resolution
from fraud.retraining import moves as retrainings
from operations import machines

SAYS: Mapping[EventKind, str] = {
    "alerted": "Another payment or report joins the case.",
    "routed": "The evidence is collected, and triage sends the case to an analyst.",
    "triaged": "The evidence is collected, and triage closes the case by itself.",
    "taken": "An analyst takes the case, for as long as the lease lasts; a case of the leads only by a lead.",
    "released": "The case goes back to the queue.",
    "lease_ended": "The lease has ended, and the case goes back to the queue.",
    "reassigned": "The case goes to another analyst, with a new lease.",
    "warned": "The first step of the service level is on record.",
    "raised": "The case is due and goes to the leads.",
    "withdrawn": "The case is taken from its analyst and goes to the leads.",
    "escalated": "The analyst hands the case to the leads.",
    "noted": "A note is on record.",
    "outreach_asked": "The payer is to be asked.",
    "outreach_attempted": "An attempt to reach the payer is on record.",
    "outreach_answered": "The payer denies or confirms the payments, or is not reached. The service level starts anew.",
    "judged": "The verdict: a finding and its reason, for all payments of the case or for some.",
    "timed_out": "Nobody has judged the case for days: it ends as inconclusive.",
    "concluded": "What follows from the finding is done.",
    "failed": "The execution of the case has failed. A lead opens it again as a new case.",
}
"""What each event of a case means."""

SAYS_OF_ACTION: Mapping[actions.EventKind, str] = {
    "released": "An action above the cap tries again to take a slot.",
    "cancelled": "An action that has not begun ends without effect.",
    "acknowledged": "The app says that it has carried out the deactivation or the reinstatement.",
    "appealed": "The app brings the user's appeal.",
    "upheld": "The appeal is reviewed, and the account stays deactivated.",
    "overturned": "The appeal is reviewed, and the action is undone.",
    "ordered_back": "The action is undone without an appeal.",
}
"""What each event of an action means that is not the system's."""


def state_diagram(moves: Mapping[Any, Mapping[Any, str]], begin: Iterable[str]) -> str:
    """Return a machine as a Mermaid state diagram. Events that leave a state as it is are left out.

    >>> moves = {"open": {"noted": "open", "judged": "closed", "failed": "closed"}, "closed": {}}
    >>> print(state_diagram(moves, ["open"]))
    ```mermaid
    stateDiagram-v2
      [*] --> open
      open --> closed: judged, failed
      closed --> [*]
    ```
    """
    lines = [f"  [*] --> {state}" for state in begin]
    for state, events in moves.items():
        ways: dict[str, list[str]] = {}
        for event, then in events.items():
            ways.setdefault(then, []).append(event)
        ways.pop(state, None)
        lines += [f"  {state} --> {then}: {', '.join(said)}" for then, said in ways.items()]
        lines += [] if ways else [f"  {state} --> [*]"]
    return "\n".join(("```mermaid", "stateDiagram-v2", *lines, "```"))


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    names = list(head)
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join(f"| {' | '.join(line)} |".replace("| --- ", "|---").replace("--- |", "---|") for line in lines)


def _events() -> str:
    """Return the events of a case: in which states, who may cause them, and what they mean."""
    rows = []
    for kind, who in WHO.items():
        states = [str(state) for state, moves in MOVES.items() if kind in moves]
        where = "every state" if len(states) == len(MOVES) else ", ".join(states)
        rows.append((f"`{kind}`", where, ", ".join(sorted(who)), SAYS[kind]))
    return _table(("event", "in the states", "by", "meaning"), rows)


def _service_level() -> str:
    rows = ((f"{step.share:.0%}", f"`{step.event}`", SAYS[step.event]) for step in SLA)
    return _table(("of the time to the due time", "event", "meaning"), rows)


def _findings() -> str:
    """Return what follows from each finding for the labels, and for payments that still wait in review."""
    findings: tuple[Finding, ...] = get_args(Finding)
    rows = (
        (f"`{each}`", f"`{LABELS[each]}`" if each in LABELS else "none", _released(RELEASES.get(each)))
        for each in findings
    )
    return _table(("finding", "label", "a payment that still waits in review"), rows)


def _released(change: str | None) -> str:
    return "waits until it is due; then its segment's policy says" if change is None else f"`{change}`"


def _who_acts() -> str:
    """Return the events of an action that people or the app cause."""
    rows = []
    for kind, said in SAYS_OF_ACTION.items():
        states = ", ".join(state for state, moves in actions.MOVES.items() if kind in moves)
        rows.append((f"`{kind}`", states, ", ".join(sorted(actions.WHO[kind])).replace("_", " "), said))
    return _table(("event", "in the states", "by", "meaning"), rows)


PARTS: Mapping[str, Callable[[], str]] = {
    "diagram of decisions": lambda: state_diagram(resolution.MOVES, resolution.AS_DECIDED.values()),
    "diagram of cases": lambda: state_diagram(MOVES, ["collecting"]),
    "events of cases": _events,
    "service level": _service_level,
    "findings": _findings,
    "diagram of the investigation": lambda: machines.diagram(machines.definitions()["investigation"]),
    "diagram of actions": lambda: state_diagram(actions.MOVES, [actions.ActionState.OPENED]),
    "who may act on accounts": _who_acts,
    "diagram of retrainings": lambda: state_diagram(retrainings.MOVES, [retrainings.RetrainingState.REQUESTED]),
    "diagram of the retraining": lambda: machines.diagram(machines.definitions()["retraining"]),
    "diagram of the graph": lambda: machines.diagram(machines.definitions()["graph"]),
    "diagram of the deactivation": lambda: machines.diagram(machines.definitions()["deactivation"]),
}
"""The generated parts of docs/cases.md, accounts.md, models.md and graph.md by name."""
