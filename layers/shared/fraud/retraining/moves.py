"""The machine of a retraining, as data: its states, the events between them, and who may cause each.

`MOVES` is the whole machine, `WHO` says who may cause what, and `STEPS` names the work that each state waits for. Pure.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Literal, get_args

Role = Literal["system", "lead"]


class RetrainingState(StrEnum):
    """The state of a retraining. Each names what is done."""

    REQUESTED = "requested"
    SKIPPED = "skipped"
    BEGUN = "begun"
    EXPORTED = "exported"
    BUILT = "built"
    TRAINED = "trained"
    EVALUATED = "evaluated"
    GATED = "gated"
    REFUSED = "refused"
    REGISTERED = "registered"
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"
    SHADOW = "shadow"
    SHADOWED = "shadowed"
    PASSED = "passed"
    CANARY = "canary"
    PROVEN = "proven"
    CHAMPION = "champion"
    RESTORING = "restoring"
    RESTORED = "restored"
    ROLLED_BACK = "rolled_back"
    FAILED = "failed"


EventKind = Literal[
    "turn_taken",
    "turn_refused",
    "exported",
    "built",
    "trained",
    "evaluated",
    "job_failed",
    "passed_gate",
    "refused",
    "registered",
    "approved",
    "rejected",
    "approval_ended",
    "shadow_begun",
    "shadow_ended",
    "shadow_passed",
    "shadow_failed",
    "canary_begun",
    "canary_ended",
    "alarmed",
    "promoted",
    "restored",
    "rolled_back",
    "failed",
    "resumed",
]

_S = RetrainingState

MOVES: Mapping[RetrainingState, Mapping[EventKind, RetrainingState]] = {
    _S.REQUESTED: {
        "turn_taken": _S.BEGUN,
        "turn_refused": _S.SKIPPED,
        "failed": _S.FAILED,
        "resumed": _S.REQUESTED,
    },
    _S.BEGUN: {"exported": _S.EXPORTED, "failed": _S.FAILED, "resumed": _S.BEGUN},
    _S.EXPORTED: {"built": _S.BUILT, "job_failed": _S.EXPORTED, "failed": _S.FAILED, "resumed": _S.EXPORTED},
    _S.BUILT: {"trained": _S.TRAINED, "job_failed": _S.BUILT, "failed": _S.FAILED, "resumed": _S.BUILT},
    _S.TRAINED: {"evaluated": _S.EVALUATED, "job_failed": _S.TRAINED, "failed": _S.FAILED, "resumed": _S.TRAINED},
    _S.EVALUATED: {
        "passed_gate": _S.GATED,
        "refused": _S.REFUSED,
        "failed": _S.FAILED,
        "resumed": _S.EVALUATED,
    },
    _S.GATED: {"registered": _S.REGISTERED, "failed": _S.FAILED, "resumed": _S.GATED},
    _S.REGISTERED: {
        "approved": _S.APPROVED,
        "rejected": _S.REJECTED,
        "approval_ended": _S.EXPIRED,
        "failed": _S.FAILED,
        "resumed": _S.REGISTERED,
    },
    _S.APPROVED: {
        "shadow_begun": _S.SHADOW,
        "rolled_back": _S.RESTORING,
        "failed": _S.RESTORING,
        "resumed": _S.APPROVED,
    },
    _S.SHADOW: {
        "shadow_ended": _S.SHADOWED,
        "alarmed": _S.RESTORING,
        "rolled_back": _S.RESTORING,
        "failed": _S.RESTORING,
        "resumed": _S.SHADOW,
    },
    _S.SHADOWED: {
        "shadow_passed": _S.PASSED,
        "shadow_failed": _S.RESTORING,
        "alarmed": _S.RESTORING,
        "rolled_back": _S.RESTORING,
        "failed": _S.RESTORING,
        "resumed": _S.SHADOWED,
    },
    _S.PASSED: {
        "canary_begun": _S.CANARY,
        "alarmed": _S.RESTORING,
        "rolled_back": _S.RESTORING,
        "failed": _S.RESTORING,
        "resumed": _S.PASSED,
    },
    _S.CANARY: {
        "canary_ended": _S.PROVEN,
        "alarmed": _S.RESTORING,
        "rolled_back": _S.RESTORING,
        "failed": _S.RESTORING,
        "resumed": _S.CANARY,
    },
    _S.PROVEN: {
        "promoted": _S.CHAMPION,
        "alarmed": _S.RESTORING,
        "rolled_back": _S.RESTORING,
        "failed": _S.RESTORING,
        "resumed": _S.PROVEN,
    },
    _S.RESTORING: {"restored": _S.RESTORED, "resumed": _S.RESTORING},
    _S.CHAMPION: {"rolled_back": _S.ROLLED_BACK},
    _S.SKIPPED: {},
    _S.REFUSED: {},
    _S.REJECTED: {},
    _S.EXPIRED: {},
    _S.RESTORED: {},
    _S.ROLLED_BACK: {},
    _S.FAILED: {},
}
"""The state that follows each event. An event that a state does not name is refused in it."""

STEPS: Mapping[RetrainingState, str] = {
    _S.REQUESTED: "Begin",
    _S.BEGUN: "Export",
    _S.EXPORTED: "BuildDataset",
    _S.BUILT: "Train",
    _S.TRAINED: "Evaluate",
    _S.EVALUATED: "Gate",
    _S.GATED: "Register",
    _S.REGISTERED: "AwaitApproval",
    _S.APPROVED: "StartShadow",
    _S.SHADOW: "AwaitShadow",
    _S.SHADOWED: "JudgeShadow",
    _S.PASSED: "StartCanary",
    _S.CANARY: "AwaitCanary",
    _S.PROVEN: "Promote",
    _S.RESTORING: "Restore",
}
"""The state of the machine `retraining` that comes next. A retraining in any other state has ended."""

ENDED = frozenset(_S) - STEPS.keys()

JOBS: Mapping[RetrainingState, EventKind] = {
    _S.EXPORTED: "built",
    _S.BUILT: "trained",
    _S.TRAINED: "evaluated",
}
"""The states whose step is a job of SageMaker, each with the event of the job's end."""

WHO: Mapping[EventKind, frozenset[Role]] = {
    **dict.fromkeys(get_args(EventKind), frozenset({"system"})),
    **dict.fromkeys(("approved", "rejected", "rolled_back"), frozenset({"lead"})),
}
"""Who may cause each event."""

OF_THE_CLOCK: Mapping[RetrainingState, EventKind] = {
    _S.REGISTERED: "approval_ended",
    _S.SHADOW: "shadow_ended",
    _S.CANARY: "canary_ended",
}
"""The states that have a time, each with the event that comes by itself when the time is over."""
