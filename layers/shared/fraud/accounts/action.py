"""An action against an account: from a finding or an order to deactivation, appeal and reinstatement. Pure.

`MOVES` is the whole machine, `WHO` says who may cause what, and `STEPS` names the work that each state waits for. The
machine `deactivation` carries the steps out one after the other, and reads after each of them what is next. The row of
the action is the truth, so an execution that died is followed by another one, which goes on where the row stands.
"""

import base64
import hashlib
from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field

from fraud.accounts.status import MOST_REASON
from fraud.errors import ActionConflictError, ActionNow, ForbiddenError
from fraud.transaction import Id, Instant

Role = Literal["system", "app", "lead"]
Undo = Literal["compensation", "reinstatement"]

MOST_NOTICES = 3
"""How often the app is told of a change that it does not acknowledge. After that an alarm tells a person."""

MOST_TEXT = 2_000
"""Most characters of an appeal."""


class State(StrEnum):
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

Who = Literal["system", "app", "lead", "other_lead"]

WHO: Mapping[EventKind, frozenset[Who]] = {
    **dict.fromkeys(EventKind.__args__, frozenset({"system"})),  # type: ignore[attr-defined]
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


class Terms(NamedTuple):
    """The stack's times.

    queue   for which an action waits above the cap, until it is cancelled
    notice  for which the app has time to acknowledge a notice
    window  for which the user may appeal
    review  for which a lead has time to review an appeal
    """

    queue: timedelta
    notice: timedelta
    window: timedelta
    review: timedelta

    def of(self, state: State) -> timedelta | None:
        """Return how long an action may stay in a state; None for a state without a time of its own."""
        return {
            State.QUEUED: self.queue,
            State.DEACTIVATED: self.notice,
            State.CORRECTED: self.notice,
            State.APPEALABLE: self.window,
            State.APPEALED: self.review,
        }.get(state)


class Actor(NamedTuple):
    """Who causes an event: ARN of the app, `sub` of a lead's token, or `system`."""

    name: str
    role: Role


SYSTEM = Actor("system", "system")


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class Cause(_Part):
    """Why an action is taken: the finding of a case, or a lead's order."""

    kind: Literal["finding", "order"]
    id: str = Field(description="The case_id, or the order_id.")
    by: str = Field(description="Who has given the finding, or the order: `sub` of a person, or `system`.")
    reason: str = Field(max_length=MOST_REASON)
    rule: str | None = Field(None, description="The reason code that led to the finding.")
    model_version: str | None = Field(None, description="The model by which the payments were scored.")
    transaction_ids: tuple[Id, ...] = Field((), description="The payments that were found to be fraud.")


class ListedValue(_Part):
    """A value that the action has put on the deny list. `set_at` is its entry's: a later entry is another one."""

    kind: Literal["device", "instrument"]
    value: Id
    set_at: str


class Appeal(_Part):
    """What the user says against the action."""

    appeal_id: Id
    text: str = Field(max_length=MOST_TEXT)
    at: Instant


class Review(_Part):
    """What a lead says of an appeal, or why a lead takes the action back."""

    decision: Literal["upheld", "overturned", "ordered_back"]
    reason: str = Field(max_length=MOST_REASON)
    told: str | None = Field(None, max_length=MOST_REASON, description="What the user may be told.")
    by: str
    at: Instant


class ActionEvent(_Part):
    """An event of an action with what was said."""

    kind: EventKind
    reason: str | None = Field(None, max_length=MOST_REASON)
    told: str | None = Field(None, max_length=MOST_REASON)
    entry: ListedValue | None = Field(None, description="The value that is put on the deny list, or taken off it.")
    appeal_id: Id | None = None
    text: str | None = Field(None, max_length=MOST_TEXT)
    status: Literal["active", "deactivated"] | None = Field(None, description="The status that the app acknowledges.")
    step: str | None = Field(None, description="The step that has failed.")


class Action(_Part):
    """An action as it stands. The row in the table is the truth, and the execution follows it."""

    action_id: str
    account_id: Id
    cause: Cause
    opened_at: Instant
    state: State = State.OPENED
    undo: Undo | None = Field(None, description="Why the action is taken back.")
    entries: tuple[ListedValue, ...] = ()
    notices: int = Field(0, description="How often the app was told of the present status.")
    acknowledged: tuple[Literal["active", "deactivated"], ...] = ()
    appeal: Appeal | None = None
    review: Review | None = None
    failed_step: str | None = None
    run: int = Field(1, description="The number of the execution that follows the row.")
    due: Instant | None = Field(None, description="When the present state ends, or is looked at.")
    changed_at: Instant
    version: int = 1

    @classmethod
    def for_cause(cls, account_id: str, cause: Cause, now: datetime) -> Self:
        """Open an action."""
        return cls(
            action_id=action_id(account_id, cause),
            account_id=account_id,
            cause=cause,
            opened_at=now,
            changed_at=now,
        )

    @property
    def now(self) -> ActionNow:
        """What a refused change is told of the action."""
        by = None if self.review is None else self.review.by
        return ActionNow(action_id=self.action_id, state=self.state, version=self.version, reviewed_by=by)

    @property
    def execution(self) -> str:
        """The name of the execution that follows the row."""
        return self.action_id if self.run == 1 else f"{self.action_id}-{self.run}"

    @property
    def step(self) -> str | None:
        """The state of the machine that comes next; None for an action that has ended."""
        return STEPS.get(self.state)

    @property
    def wait(self) -> str | None:
        """What the execution waits for; None while it is at work. Each notice is a wait of its own."""
        if self.state in {State.DEACTIVATED, State.CORRECTED}:
            return f"{self.state}-{self.notices}"
        return self.state.value if self.state in {State.QUEUED, State.APPEALABLE, State.APPEALED} else None

    @property
    def told_status(self) -> Literal["active", "deactivated"]:
        """The status of which the app is told now."""
        return "active" if self.state in {State.CORRECTED, State.REINSTATED} else "deactivated"

    def after(self, event: ActionEvent, actor: Actor, now: datetime, terms: Terms) -> Self:
        """Return the action after an event; the action itself when the event alters nothing.

        Raises ForbiddenError for an actor who may not cause the event, and ActionConflictError, which has the state,
        for an event that the state does not allow.
        """
        self._check(event, actor)
        if self._has_happened(event, actor) or self._is_early(event, now):
            return self
        state = MOVES[self.state].get(event.kind)
        if state is None or (event.kind == "acknowledged" and event.status != self.told_status):
            raise ActionConflictError(self.now)
        said = self._said(event, actor, now)
        if state is not self.state or event.kind in {"notice_due", "overdue"}:
            limit = terms.of(state)
            said |= {"due": None if limit is None or event.kind == "overdue" else now + limit}
        if state is not self.state:
            said |= {"notices": 1 if state in {State.DEACTIVATED, State.CORRECTED} else 0}
        return self.model_copy(update=said | {"state": state, "changed_at": now, "version": self.version + 1})

    def _check(self, event: ActionEvent, actor: Actor) -> None:
        who: set[Who] = {actor.role}
        if actor.role == "lead" and actor.name != self.cause.by:
            who.add("other_lead")
        if not who & WHO[event.kind]:
            raise ForbiddenError

    def _has_happened(self, event: ActionEvent, actor: Actor) -> bool:
        """Whether an event of the system came before or too late, or the same request came before."""
        if WHO[event.kind] == {"system"} and event.kind not in MOVES[self.state]:
            return event.kind in OF_THE_CLOCK | {"failed", "resumed"} or self.state in reached(event.kind)
        if event.kind == "acknowledged":
            return event.status in self.acknowledged
        if event.kind == "appealed" and self.appeal is not None:
            return (self.appeal.appeal_id, self.appeal.text) == (event.appeal_id, event.text)
        if event.kind in {"upheld", "overturned", "ordered_back"} and self.review is not None:
            said = (self.review.decision, self.review.reason, self.review.told, self.review.by)
            return said == (event.kind, event.reason, event.told, actor.name)
        return False

    def _is_early(self, event: ActionEvent, now: datetime) -> bool:
        """Whether an event of the clock comes before its time."""
        return event.kind in OF_THE_CLOCK and (self.due is None or now < self.due)

    def _said(self, event: ActionEvent, actor: Actor, now: datetime) -> dict[str, object]:
        """Return what an event changes beside the state."""
        match event.kind:
            case "entry_added" if event.entry is not None:
                return {"entries": (*self.entries, event.entry)}
            case "entry_removed":
                return {"entries": tuple(one for one in self.entries if one != event.entry)}
            case "acknowledged":
                return {"acknowledged": (*self.acknowledged, event.status)}
            case "notice_due":
                return {"notices": self.notices + 1}
            case "appealed":
                return {"appeal": Appeal(appeal_id=event.appeal_id or "", text=event.text or "", at=now)}
            case "failed":
                return {"undo": "compensation", "failed_step": event.step}
            case "resumed":
                return {"run": self.run + 1}
            case "upheld" | "overturned" | "ordered_back":
                review = Review(decision=event.kind, reason=event.reason or "", told=event.told, by=actor.name, at=now)
                undone = {} if event.kind == "upheld" else {"undo": "reinstatement"}
                again = {"run": self.run + 1} if self.state is State.CLOSED else {}
                return {"review": review} | undone | again
        return {}

    def clock_event(self, now: datetime) -> ActionEvent | None:
        """Return the event that the clock causes by now, if there is one."""
        if self.due is None or now < self.due:
            return None
        match self.state:
            case State.QUEUED:
                return ActionEvent(kind="queue_ended")
            case State.DEACTIVATED | State.CORRECTED:
                return ActionEvent(kind="notice_due" if self.notices < MOST_NOTICES else "unacknowledged")
            case State.APPEALABLE:
                return ActionEvent(kind="window_ended")
            case State.APPEALED:
                return ActionEvent(kind="overdue")
        return None

    def next_look(self) -> datetime | None:
        """Return when the sweep must look at the action next; None when it has ended.

        An action that has just changed is looked at after a minute, in case its execution was not told.
        """
        if self.state in ENDED:
            return None
        return self.changed_at + UNTOLD


UNTOLD = timedelta(minutes=1)
"""After this time the sweep looks whether an execution was told of a change."""


def action_id(account_id: str, cause: Cause) -> str:
    """Return the name of the action of an account and a cause: 26 base32 characters.

    >>> len(action_id("hanako", Cause(kind="order", id="o-1", by="jun", reason="mule")))
    26
    """
    said = "\n".join((account_id, cause.kind, cause.id))
    return base64.b32encode(hashlib.sha256(said.encode()).digest()).decode()[:26]
