"""The machine of a case, as data: its states, the events between them, who may cause each, and its service level.

`MOVES` is the whole machine, and `WHO` says who may cause what. API, handlers and the diagram in the documentation use
these tables. Pure.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Literal, NamedTuple

Role = Literal["system", "analyst", "lead"]

CaseKind = Literal["alert", "sample"]
"""`alert`: payments to look at. `sample`: one payment that was drawn for a blind review."""


class State(StrEnum):
    """The state of a case."""

    COLLECTING = "collecting"
    QUEUED = "queued"
    ASSIGNED = "assigned"
    OUTREACH = "outreach"
    CONCLUDING = "concluding"
    CLOSED = "closed"
    FAILED = "failed"


ENDED = frozenset({State.CLOSED, State.FAILED})

EventKind = Literal[
    "alerted",
    "routed",
    "triaged",
    "taken",
    "released",
    "lease_ended",
    "reassigned",
    "warned",
    "raised",
    "withdrawn",
    "escalated",
    "noted",
    "outreach_asked",
    "outreach_attempted",
    "outreach_answered",
    "judged",
    "timed_out",
    "concluded",
    "failed",
]

MOVES: Mapping[State, Mapping[EventKind, State]] = {
    State.COLLECTING: {
        "alerted": State.COLLECTING,
        "noted": State.COLLECTING,
        "routed": State.QUEUED,
        "triaged": State.CONCLUDING,
        "timed_out": State.CONCLUDING,
        "failed": State.FAILED,
    },
    State.QUEUED: {
        "alerted": State.QUEUED,
        "noted": State.QUEUED,
        "taken": State.ASSIGNED,
        "reassigned": State.ASSIGNED,
        "warned": State.QUEUED,
        "raised": State.QUEUED,
        "withdrawn": State.QUEUED,
        "judged": State.CONCLUDING,
        "timed_out": State.CONCLUDING,
        "failed": State.FAILED,
    },
    State.ASSIGNED: {
        "alerted": State.ASSIGNED,
        "noted": State.ASSIGNED,
        "released": State.QUEUED,
        "lease_ended": State.QUEUED,
        "reassigned": State.ASSIGNED,
        "warned": State.ASSIGNED,
        "raised": State.ASSIGNED,
        "withdrawn": State.QUEUED,
        "escalated": State.QUEUED,
        "outreach_asked": State.OUTREACH,
        "judged": State.CONCLUDING,
        "timed_out": State.CONCLUDING,
        "failed": State.FAILED,
    },
    State.OUTREACH: {
        "alerted": State.OUTREACH,
        "noted": State.OUTREACH,
        "outreach_attempted": State.OUTREACH,
        "outreach_answered": State.ASSIGNED,
        "judged": State.CONCLUDING,
        "timed_out": State.CONCLUDING,
        "failed": State.FAILED,
    },
    State.CONCLUDING: {"noted": State.CONCLUDING, "concluded": State.CLOSED, "failed": State.FAILED},
    State.CLOSED: {"noted": State.CLOSED},
    State.FAILED: {"noted": State.FAILED},
}
"""The state that follows each event. An event that a state does not name is refused in it."""

NEVER: Mapping[CaseKind, frozenset[EventKind]] = {
    "alert": frozenset(),
    "sample": frozenset({"alerted", "triaged", "outreach_asked"}),
}
"""The events that a kind of case refuses in every state.

A blind review is of one payment, ends with a person's verdict, and asks nobody: a payer who is asked about an approved
payment would learn that somebody doubts it.
"""

Who = Literal["system", "analyst", "lead", "holder"]

WHO: Mapping[EventKind, frozenset[Who]] = {
    "alerted": frozenset({"system", "analyst"}),
    "routed": frozenset({"system"}),
    "triaged": frozenset({"system"}),
    "taken": frozenset({"analyst"}),
    "released": frozenset({"holder", "lead"}),
    "lease_ended": frozenset({"system"}),
    "reassigned": frozenset({"holder", "lead"}),
    "warned": frozenset({"system"}),
    "raised": frozenset({"system"}),
    "withdrawn": frozenset({"system"}),
    "escalated": frozenset({"holder", "lead"}),
    "noted": frozenset({"analyst"}),
    "outreach_asked": frozenset({"holder"}),
    "outreach_attempted": frozenset({"holder", "lead"}),
    "outreach_answered": frozenset({"holder", "lead", "system"}),
    "judged": frozenset({"holder", "lead"}),
    "timed_out": frozenset({"system"}),
    "concluded": frozenset({"system"}),
    "failed": frozenset({"system"}),
}
"""Who may cause each event. `holder`: the analyst who has the case now. A lead may do what any analyst may."""

WAITS: Mapping[State, Literal["analyst", "payer"]] = {
    State.QUEUED: "analyst",
    State.ASSIGNED: "analyst",
    State.OUTREACH: "payer",
}
"""For whom the execution of a case waits in each state; in every other state it waits for nobody."""


class SlaStep(NamedTuple):
    """A step of the service level: the event that follows when a share of the time has passed."""

    share: float
    event: EventKind


SLA = (SlaStep(0.5, "warned"), SlaStep(1.0, "raised"), SlaStep(1.5, "withdrawn"))
"""A case that waits is warned of, then raised to the leads, then taken from its analyst.

The time for which the payer is asked does not count.
"""

PATIENCE: Mapping[CaseKind, int] = {"alert": 1, "sample": 6}
"""How many times the service level a case may wait: no payment waits for a blind review."""
