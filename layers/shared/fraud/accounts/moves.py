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

MOVES: Mapping[ActionState, Mapping[EventKind, ActionState]] = {
    ActionState.OPENED: {
        "slot_taken": ActionState.SLOTTED,
        "cap_reached": ActionState.QUEUED,
        "cancelled": ActionState.CANCELLED,
        "failed": ActionState.UNDOING,
        "resumed": ActionState.OPENED,
    },
    ActionState.QUEUED: {
        "released": ActionState.OPENED,
        "cancelled": ActionState.CANCELLED,
        "queue_ended": ActionState.CANCELLED,
        "resumed": ActionState.QUEUED,
    },
    ActionState.SLOTTED: {"held": ActionState.HELD, "failed": ActionState.UNDOING, "resumed": ActionState.SLOTTED},
    ActionState.HELD: {"settled": ActionState.SETTLED, "failed": ActionState.UNDOING, "resumed": ActionState.HELD},
    ActionState.SETTLED: {
        "entry_added": ActionState.SETTLED,
        "listed": ActionState.LISTED,
        "failed": ActionState.UNDOING,
        "resumed": ActionState.SETTLED,
    },
    ActionState.LISTED: {
        "deactivated": ActionState.DEACTIVATED,
        "failed": ActionState.UNDOING,
        "resumed": ActionState.LISTED,
    },
    ActionState.DEACTIVATED: {
        "notice_due": ActionState.DEACTIVATED,
        "acknowledged": ActionState.APPEALABLE,
        "unacknowledged": ActionState.APPEALABLE,
        "appealed": ActionState.APPEALED,
        "failed": ActionState.UNDOING,
        "resumed": ActionState.DEACTIVATED,
    },
    ActionState.APPEALABLE: {
        "acknowledged": ActionState.APPEALABLE,
        "appealed": ActionState.APPEALED,
        "window_ended": ActionState.CLOSED,
        "ordered_back": ActionState.UNDOING,
        "resumed": ActionState.APPEALABLE,
    },
    ActionState.APPEALED: {
        "acknowledged": ActionState.APPEALED,
        "overdue": ActionState.APPEALED,
        "upheld": ActionState.CLOSED,
        "overturned": ActionState.UNDOING,
        "resumed": ActionState.APPEALED,
    },
    ActionState.CLOSED: {"acknowledged": ActionState.CLOSED, "ordered_back": ActionState.UNDOING},
    ActionState.UNDOING: {
        "entry_removed": ActionState.UNDOING,
        "unlisted": ActionState.UNLISTED,
        "resumed": ActionState.UNDOING,
    },
    ActionState.UNLISTED: {"restored": ActionState.RESTORED, "resumed": ActionState.UNLISTED},
    ActionState.RESTORED: {
        "corrected": ActionState.CORRECTED,
        "compensated": ActionState.COMPENSATED,
        "resumed": ActionState.RESTORED,
    },
    ActionState.CORRECTED: {
        "notice_due": ActionState.CORRECTED,
        "acknowledged": ActionState.REINSTATED,
        "unacknowledged": ActionState.REINSTATED,
        "resumed": ActionState.CORRECTED,
    },
    ActionState.REINSTATED: {"acknowledged": ActionState.REINSTATED},
    ActionState.COMPENSATED: {},
    ActionState.CANCELLED: {},
}
"""The state that follows each event. An event that a state does not name is refused in it."""

ENDED = frozenset({ActionState.CLOSED, ActionState.REINSTATED, ActionState.COMPENSATED, ActionState.CANCELLED})

STEPS: Mapping[ActionState, str] = {
    ActionState.OPENED: "TakeSlot",
    ActionState.QUEUED: "AwaitRelease",
    ActionState.SLOTTED: "Hold",
    ActionState.HELD: "SettlePayments",
    ActionState.SETTLED: "DenyInstruments",
    ActionState.LISTED: "Deactivate",
    ActionState.DEACTIVATED: "Notify",
    ActionState.APPEALABLE: "AwaitAppeal",
    ActionState.APPEALED: "AwaitReview",
    ActionState.UNDOING: "RemoveEntries",
    ActionState.UNLISTED: "RestoreStatus",
    ActionState.RESTORED: "CorrectLabels",
    ActionState.CORRECTED: "Notify",
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


UNDO_ENDS: Mapping[EventKind, Undo] = {"corrected": "reinstatement", "compensated": "compensation"}
"""The event with which each way of undoing goes on from RESTORED. Labels are corrected after a reinstatement only."""
