"""An action against an account: from a finding or an order to deactivation, appeal and reinstatement. Pure.

The machine is data (`fraud.accounts.moves`). The executions of `deactivation` carry the steps out one after the other,
and read after each of them what is next. The row of the action is the truth, so an execution that died is followed by
another one, which goes on where the row stands.
"""

import base64
import hashlib
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field

from fraud.accounts.moves import (
    ENDED,
    MOVES,
    OF_THE_CLOCK,
    STEPS,
    UNDO_ENDS,
    WHO,
    ActionState,
    EventKind,
    Role,
    Undo,
    Who,
)
from fraud.accounts.status import MOST_REASON
from fraud.errors import ActionConflictError, ActionNow, ForbiddenError
from fraud.executions import UNTOLD
from fraud.person import SYSTEM_NAME
from fraud.stepped_row import SteppedRow, reached
from fraud.transaction import Id, Instant, Timestamp

NOTIFIES = frozenset({ActionState.DEACTIVATED, ActionState.CORRECTED})
"""States in which the app is told of the account's status."""

MOST_NOTICES = 3
"""How often the app is told of a change that it does not acknowledge. After that an alarm tells a person."""

MOST_TEXT = 2_000
"""Most characters of an appeal."""


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

    def of(self, state: ActionState) -> timedelta | None:
        """Return how long an action may stay in a state; None for a state without a time of its own."""
        return {
            ActionState.QUEUED: self.queue,
            ActionState.DEACTIVATED: self.notice,
            ActionState.CORRECTED: self.notice,
            ActionState.APPEALABLE: self.window,
            ActionState.APPEALED: self.review,
        }.get(state)


class Actor(NamedTuple):
    """The cause of an event: ARN of the app, `sub` of a lead's token, or `system`."""

    name: str
    role: Role


SYSTEM = Actor(SYSTEM_NAME, "system")


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
    set_at: Timestamp


class Appeal(_Part):
    """An appeal of the user against the action."""

    appeal_id: Id
    text: str = Field(max_length=MOST_TEXT)
    at: Instant


class Review(_Part):
    """A lead's decision of an appeal, or the reason why a lead takes the action back."""

    decision: Literal["upheld", "overturned", "ordered_back"]
    reason: str = Field(max_length=MOST_REASON)
    told: str | None = Field(None, max_length=MOST_REASON, description="What the user may be told.")
    by: str
    at: Instant


class QueueDecision(_Part):
    """A lead's decision of an action that waits above the cap."""

    decision: Literal["released", "cancelled"]
    reason: str = Field(max_length=MOST_REASON)
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
    run: int | None = Field(None, description="The number of the execution that has failed.")


class Action(SteppedRow):
    """An action as it stands. The row in the table is the truth, and the execution follows it."""

    action_id: str
    account_id: Id
    cause: Cause
    opened_at: Instant
    state: ActionState = ActionState.OPENED
    undo: Undo | None = Field(None, description="Why the action is taken back.")
    entries: tuple[ListedValue, ...] = ()
    notices: int = Field(0, description="How often the app was told of the present status.")
    acknowledged: tuple[Literal["active", "deactivated"], ...] = ()
    appeal: Appeal | None = None
    review: Review | None = None
    queue_decision: QueueDecision | None = Field(None, description="The last decision on the queue above the cap.")
    failed_step: str | None = None

    @classmethod
    def for_cause(cls, account_id: str, cause: Cause, now: datetime) -> Self:
        """Open an action."""
        return cls(
            action_id=action_id(account_id, cause),
            account_id=account_id,
            cause=cause,
            opened_at=now,
            since=now,
            changed_at=now,
        )

    @property
    def now(self) -> ActionNow:
        """The state of the action, as the answer to a refused change has it."""
        by = None if self.review is None else self.review.by
        return ActionNow(action_id=self.action_id, state=self.state, version=self.version, reviewed_by=by)

    @property
    def name(self) -> str:
        """The key of the row."""
        return self.action_id

    @property
    def has_ended(self) -> bool:
        """Whether no step is left."""
        return self.state in ENDED

    @property
    def payload(self) -> dict[str, Any]:
        """The input of the execution."""
        return {"action_id": self.action_id}

    @property
    def step(self) -> str | None:
        """The state of the machine that comes next; None for an action that has ended."""
        return STEPS.get(self.state)

    @property
    def wait(self) -> str | None:
        """The wait of the execution; None while it is at work. Each thing to be told is a wait of its own."""
        if self.state in NOTIFIES:
            return f"{self.state}-{self.notices}"
        if self.state is ActionState.APPEALED and self.due is None:
            return f"{self.state}-overdue"
        return (
            self.state.value
            if self.state in {ActionState.QUEUED, ActionState.APPEALABLE, ActionState.APPEALED}
            else None
        )

    @property
    def told_status(self) -> Literal["active", "deactivated"]:
        """The status of which the app is told now."""
        return "active" if self.state in {ActionState.CORRECTED, ActionState.REINSTATED} else "deactivated"

    def after(self, event: ActionEvent, actor: Actor, now: datetime, terms: Terms) -> Self:
        """Return the action after an event; the action itself when the event alters nothing.

        Raises ForbiddenError for an actor who may not cause the event, and ActionConflictError, which has the state,
        for an event that the state does not allow.
        """
        self._check(event, actor)
        if self._has_happened(event, actor) or self._is_early(event, now):
            return self
        state = MOVES[self.state].get(event.kind)
        if state is None or not self._allows(event):
            raise ActionConflictError(self.now)
        said = _EFFECTS[event.kind](self, event, actor, now) if event.kind in _EFFECTS else {}
        if state is not self.state or event.kind in {"notice_due", "overdue"}:
            limit = terms.of(state)
            said |= {"due": None if limit is None or event.kind == "overdue" else now + limit}
        if state is not self.state:
            said |= {"notices": 1 if state in NOTIFIES else 0, "since": now}
        return self.changed(now, rests=event.kind == "resumed", state=state, **said)

    def _check(self, event: ActionEvent, actor: Actor) -> None:
        who: set[Who] = {actor.role}
        if actor.role == "lead" and actor.name != self.cause.by:
            who.add("other_lead")
        if not who & WHO[event.kind]:
            raise ForbiddenError

    def _has_happened(self, event: ActionEvent, actor: Actor) -> bool:
        """Whether an event of the system came before or too late, or the same request came before."""
        if event.kind in _REPEATS and _REPEATS[event.kind](self, event, actor):
            return True
        if WHO[event.kind] != {"system"} or (event.kind in MOVES[self.state] and not self._was_told(event)):
            return False
        return event.kind in OF_THE_CLOCK | {"failed", "resumed"} or self.state in reached(MOVES, event.kind)

    def _was_told(self, event: ActionEvent) -> bool:
        """Whether a step fails after the app may have been told: what it may have carried out is not compensated."""
        is_told = self.state is ActionState.DEACTIVATED and (self.notices > 1 or self.run > 1)
        return event.kind == "failed" and is_told

    def _allows(self, event: ActionEvent) -> bool:
        if event.kind == "acknowledged":
            return event.status == self.told_status
        return self.undo == UNDO_ENDS.get(event.kind, self.undo)

    def _is_early(self, event: ActionEvent, now: datetime) -> bool:
        """Whether an event of the clock comes before its time."""
        return event.kind in OF_THE_CLOCK and not self.is_due(now)

    def clock_events(self, now: datetime) -> tuple[ActionEvent, ...]:
        """Return the event that the clock causes by now, if there is one."""
        if not self.is_due(now) or self.state not in _BY_CLOCK:
            return ()
        kind = _BY_CLOCK[self.state]
        if kind == "notice_due" and self.notices >= MOST_NOTICES:
            kind = "unacknowledged"
        return (ActionEvent(kind=kind),)

    def next_look(self) -> datetime | None:
        """Return when the sweep must look at the action next; None when it has ended, and no event is owed.

        An action that has just changed is looked at after a minute, in case its execution was not told.
        """
        if self.has_ended and self.owed is None:
            return None
        return self.rests_until or self.changed_at + UNTOLD

    @property
    def owed(self) -> Literal["AppealUpheld", "ActionUnacknowledged"] | None:
        """The event of the action's end of which the bus must be told; None for an end that no event tells of."""
        if self.state is ActionState.CLOSED and self.appeal is not None:
            return "AppealUpheld"
        if self.state is ActionState.REINSTATED and self.told_status not in self.acknowledged:
            return "ActionUnacknowledged"
        return None


# ---- what an event does beside the move ------------------------------------------------------------------------------


def _entry_added(action: Action, event: ActionEvent, _actor: Actor, _now: datetime) -> dict[str, Any]:
    return {} if event.entry is None else {"entries": (*action.entries, event.entry)}


def _entry_removed(action: Action, event: ActionEvent, _actor: Actor, _now: datetime) -> dict[str, Any]:
    return {"entries": tuple(one for one in action.entries if one != event.entry)}


def _acknowledged(action: Action, event: ActionEvent, _actor: Actor, _now: datetime) -> dict[str, Any]:
    return {"acknowledged": (*action.acknowledged, event.status)}


def _notice_due(action: Action, _event: ActionEvent, _actor: Actor, _now: datetime) -> dict[str, Any]:
    return {"notices": action.notices + 1}


def _appealed(_action: Action, event: ActionEvent, _actor: Actor, now: datetime) -> dict[str, Any]:
    return {"appeal": Appeal(appeal_id=event.appeal_id or "", text=event.text or "", at=now)}


def _failed(_action: Action, event: ActionEvent, _actor: Actor, _now: datetime) -> dict[str, Any]:
    return {"undo": "compensation", "failed_step": event.step}


def _resumed(action: Action, _event: ActionEvent, _actor: Actor, _now: datetime) -> dict[str, Any]:
    return {"run": action.run + 1}


def _queue_decided(_action: Action, event: ActionEvent, actor: Actor, now: datetime) -> dict[str, Any]:
    return {
        "queue_decision": QueueDecision(
            decision=_QUEUE_DECISIONS[event.kind], reason=event.reason or "", by=actor.name, at=now
        )
    }


def _reviewed(action: Action, event: ActionEvent, actor: Actor, now: datetime) -> dict[str, Any]:
    decision = _REVIEWS[event.kind]
    review = Review(decision=decision, reason=event.reason or "", told=event.told, by=actor.name, at=now)
    undo = {} if decision == "upheld" else {"undo": "reinstatement"}
    again = {"run": action.run + 1} if action.state is ActionState.CLOSED else {}
    return {"review": review, **undo, **again}


_QUEUE_DECISIONS: Mapping[EventKind, Literal["released", "cancelled"]] = {
    "released": "released",
    "cancelled": "cancelled",
}
_REVIEWS: Mapping[EventKind, Literal["upheld", "overturned", "ordered_back"]] = {
    "upheld": "upheld",
    "overturned": "overturned",
    "ordered_back": "ordered_back",
}

_EFFECTS: Mapping[EventKind, Callable[[Action, ActionEvent, Actor, datetime], dict[str, Any]]] = {
    "entry_added": _entry_added,
    "entry_removed": _entry_removed,
    "acknowledged": _acknowledged,
    "notice_due": _notice_due,
    "appealed": _appealed,
    "failed": _failed,
    "resumed": _resumed,
    **dict.fromkeys(_QUEUE_DECISIONS, _queue_decided),
    **dict.fromkeys(_REVIEWS, _reviewed),
}


# ---- what was said before --------------------------------------------------------------------------------------------


def _same_entry(action: Action, event: ActionEvent, _actor: Actor) -> bool:
    known = {(one.kind, one.value) for one in action.entries}
    return event.entry is not None and (event.entry.kind, event.entry.value) in known


def _no_entry(action: Action, event: ActionEvent, _actor: Actor) -> bool:
    return event.entry not in action.entries


def _same_acknowledgement(action: Action, event: ActionEvent, _actor: Actor) -> bool:
    return event.status in action.acknowledged


def _same_appeal(action: Action, event: ActionEvent, _actor: Actor) -> bool:
    said = action.appeal
    return said is not None and (said.appeal_id, said.text) == (event.appeal_id, event.text)


def _same_queue_decision(action: Action, event: ActionEvent, actor: Actor) -> bool:
    said = action.queue_decision
    if said is None or event.kind in MOVES[action.state]:
        return False
    return (said.decision, said.reason, said.by) == (event.kind, event.reason or "", actor.name)


def _same_review(action: Action, event: ActionEvent, actor: Actor) -> bool:
    said = action.review
    asked = event.kind, event.reason or "", event.told, actor.name
    return said is not None and (said.decision, said.reason, said.told, said.by) == asked


def _earlier_run(action: Action, event: ActionEvent, _actor: Actor) -> bool:
    return event.run is not None and event.run != action.run


_REPEATS: Mapping[EventKind, Callable[[Action, ActionEvent, Actor], bool]] = {
    "entry_added": _same_entry,
    "entry_removed": _no_entry,
    "acknowledged": _same_acknowledgement,
    "appealed": _same_appeal,
    "resumed": _earlier_run,
    **dict.fromkeys(_QUEUE_DECISIONS, _same_queue_decision),
    **dict.fromkeys(_REVIEWS, _same_review),
}
"""Whether an event was said before, for those of which the state alone does not tell it."""

_BY_CLOCK: Mapping[ActionState, EventKind] = {
    ActionState.QUEUED: "queue_ended",
    ActionState.DEACTIVATED: "notice_due",
    ActionState.CORRECTED: "notice_due",
    ActionState.APPEALABLE: "window_ended",
    ActionState.APPEALED: "overdue",
}
"""The event that comes when the time of a state is over."""


def action_id(account_id: str, cause: Cause) -> str:
    """Return the name of the action of an account and a cause: 26 base32 characters.

    >>> len(action_id("hanako", Cause(kind="order", id="o-1", by="jun", reason="mule")))
    26
    """
    said = f"{account_id}\n{cause.kind}\n{cause.id}"
    return base64.b32encode(hashlib.sha256(said.encode()).digest()).decode()[:26]
