"""The machine of an action against an account, as data: its states, the events between them, and who may cause each.

`MOVES` is the whole machine, `WHO` says who may cause what, and `STEPS` names the work that each state waits for. Pure.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Literal, get_args

Role = Literal["system", "app", "analyst", "lead"]
Undo = Literal["compensation", "reinstatement"]


class ActionState(StrEnum):
    """The state of an action. Each names what is done."""

    OPENED = "opened"
    QUEUED = "queued"
    SLOTTED = "slotted"
    HELD = "held"
    SETTLED = "settled"
    LISTED = "listed"
    DEACTIVATED = "deactivated"
    APPEALABLE = "appealable"
    APPEALED = "appealed"
    CLOSED = "closed"
    UNDOING = "undoing"
    UNLISTED = "unlisted"
    RESTORED = "restored"
    CORRECTED = "corrected"
    REINSTATED = "reinstated"
    COMPENSATED = "compensated"
    CANCELLED = "cancelled"


State = ActionState

EventKind = Literal[
    "slot_taken",
    "cap_reached",
    "released",
    "cancelled",
    "queue_ended",
    "held",
    "settled",
    "entry_added",
    "listed",
    "deactivated",
    "notice_due",
    "unacknowledged",
    "acknowledged",
    "appealed",
    "window_ended",
    "overdue",
    "upheld",
    "overturned",
    "ordered_back",
    "failed",
    "resumed",
    "entry_removed",
    "unlisted",
    "restored",
    "corrected",
    "compensated",
]

MOVES: Mapping[State, Mapping[EventKind, State]] = {
    State.OPENED: {
        "slot_taken": State.SLOTTED,
        "cap_reached": State.QUEUED,
        "cancelled": State.CANCELLED,
        "failed": State.UNDOING,
        "resumed": State.OPENED,
    },
    State.QUEUED: {
        "released": State.OPENED,
        "cancelled": State.CANCELLED,
        "queue_ended": State.CANCELLED,
        "resumed": State.QUEUED,
    },
    State.SLOTTED: {"held": State.HELD, "failed": State.UNDOING, "resumed": State.SLOTTED},
    State.HELD: {"settled": State.SETTLED, "failed": State.UNDOING, "resumed": State.HELD},
    State.SETTLED: {
        "entry_added": State.SETTLED,
        "listed": State.LISTED,
        "failed": State.UNDOING,
        "resumed": State.SETTLED,
    },
    State.LISTED: {"deactivated": State.DEACTIVATED, "failed": State.UNDOING, "resumed": State.LISTED},
    State.DEACTIVATED: {
        "notice_due": State.DEACTIVATED,
        "acknowledged": State.APPEALABLE,
        "unacknowledged": State.APPEALABLE,
        "appealed": State.APPEALED,
        "failed": State.UNDOING,
        "resumed": State.DEACTIVATED,
    },
    State.APPEALABLE: {
        "acknowledged": State.APPEALABLE,
        "appealed": State.APPEALED,
        "window_ended": State.CLOSED,
        "ordered_back": State.UNDOING,
        "resumed": State.APPEALABLE,
    },
    State.APPEALED: {
        "acknowledged": State.APPEALED,
        "overdue": State.APPEALED,
        "upheld": State.CLOSED,
        "overturned": State.UNDOING,
        "resumed": State.APPEALED,
    },
    State.CLOSED: {"acknowledged": State.CLOSED, "ordered_back": State.UNDOING},
    State.UNDOING: {"entry_removed": State.UNDOING, "unlisted": State.UNLISTED, "resumed": State.UNDOING},
    State.UNLISTED: {"restored": State.RESTORED, "resumed": State.UNLISTED},
    State.RESTORED: {"corrected": State.CORRECTED, "compensated": State.COMPENSATED, "resumed": State.RESTORED},
    State.CORRECTED: {
        "notice_due": State.CORRECTED,
        "acknowledged": State.REINSTATED,
        "unacknowledged": State.REINSTATED,
        "resumed": State.CORRECTED,
    },
    State.REINSTATED: {"acknowledged": State.REINSTATED},
    State.COMPENSATED: {},
    State.CANCELLED: {},
}
"""The state that follows each event. An event that a state does not name is refused in it."""

ENDED = frozenset({State.CLOSED, State.REINSTATED, State.COMPENSATED, State.CANCELLED})

STEPS: Mapping[State, str] = {
    State.OPENED: "TakeSlot",
    State.QUEUED: "AwaitRelease",
    State.SLOTTED: "Hold",
    State.HELD: "SettlePayments",
    State.SETTLED: "DenyInstruments",
    State.LISTED: "Deactivate",
    State.DEACTIVATED: "Notify",
    State.APPEALABLE: "AwaitAppeal",
    State.APPEALED: "AwaitReview",
    State.UNDOING: "RemoveEntries",
    State.UNLISTED: "RestoreStatus",
    State.RESTORED: "CorrectLabels",
    State.CORRECTED: "Notify",
}
"""The state of the machine `deactivation` that comes next. An action in any other state has ended."""

Who = Literal["system", "app", "analyst", "lead", "other_lead"]

WHO: Mapping[EventKind, frozenset[Who]] = {
    **dict.fromkeys(get_args(EventKind), frozenset({"system"})),
    "released": frozenset({"lead"}),
    "cancelled": frozenset({"lead"}),
    "acknowledged": frozenset({"app"}),
    "appealed": frozenset({"app"}),
    "upheld": frozenset({"other_lead"}),
    "overturned": frozenset({"other_lead"}),
    "ordered_back": frozenset({"other_lead"}),
}
"""Who may cause each event. `other_lead`: a lead who is not the one by whom the action was caused."""

OF_THE_CLOCK = frozenset({"queue_ended", "notice_due", "unacknowledged", "window_ended", "overdue"})
"""Events that come by themselves when the time of a state is over. In another state they alter nothing."""


def reached(kind: EventKind) -> frozenset[State]:
    """Return the states in which an event of the system has happened: those to which it leads, and all after them.

    >>> State.LISTED in reached("settled"), State.SLOTTED in reached("settled")
    (True, False)
    """
    found: set[State] = set()
    more = {moves[kind] for moves in MOVES.values() if kind in moves}
    while more:
        found |= more
        more = {state for one in more for state in MOVES[one].values()} - found
    return frozenset(found)


UNDO_ENDS: Mapping[EventKind, Undo] = {"corrected": "reinstatement", "compensated": "compensation"}
"""The event with which each way of undoing goes on from RESTORED. Labels are corrected after a reinstatement only."""
