"""The status of an account: active, held or deactivated. Pure.

Two things stop an account, independently of each other: a hold that the payment app or a lead has put on it, and an
action (`fraud.accounts.action`), which first freezes and then deactivates it. The state follows from both. So an action
that is undone takes back exactly what it did, and a hold that was there before is there again.
"""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from fraud.errors import AccountConflictError, AccountNow
from fraud.transaction import Id, Instant, utc

MOST_REASON = 500
"""Most characters of a reason."""


class State(StrEnum):
    """The state of an account."""

    ACTIVE = "active"
    HELD = "held"
    DEACTIVATED = "deactivated"


Stop = Literal["held", "deactivated"]
EventKind = Literal["held", "released", "hold_ended", "opened", "frozen", "deactivated", "restored", "ended"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class Hold(_Part):
    """A hold that somebody has put on an account. `by`: ARN or `sub` of the caller, or `system`."""

    reason: str = Field(max_length=MOST_REASON)
    until: Instant | None = Field(description="From then on the hold is over; null: until it is released.")
    by: str
    at: Instant


class AccountEvent(_Part):
    """An event of an account. `opened` and later kinds belong to an action; the others to a hold."""

    kind: EventKind
    hold: Hold | None = None
    reason: str | None = Field(None, max_length=MOST_REASON, description="Why a hold is released.")
    action_id: str | None = None


class Account(_Part):
    """The status of an account as it stands. An account that was never stopped has version 0."""

    account_id: Id
    hold: Hold | None = None
    action_id: str | None = Field(None, description="The action that is open, or that keeps the account deactivated.")
    stopped: Stop | None = Field(None, description="How far the action has stopped the account.")
    released: str | None = Field(None, description="Why the last hold was released.")
    changed_at: Instant | None = None
    version: int = 0

    @property
    def state(self) -> State:
        """The state that follows from the action and the hold."""
        if self.stopped is not None:
            return State(self.stopped)
        return State.ACTIVE if self.hold is None else State.HELD

    @property
    def now(self) -> AccountNow:
        """What a refused change is told of the account."""
        return AccountNow(status=self.state, version=self.version, action_id=self.action_id)

    @property
    def profile(self) -> dict[str, Any]:
        """The attribute `status` of the account's profile, which the hot path reads (`rules.standing`).

        >>> Account(account_id="hanako").profile
        {'state': 'active', 'version': 0}
        """
        ends = self.stopped is None and self.hold is not None and self.hold.until is not None
        until = {"until": utc(self.hold.until)} if ends and self.hold and self.hold.until else {}
        return {"state": self.state.value, "version": self.version} | until

    def after(self, event: AccountEvent, now: datetime) -> Self:
        """Return the account after an event; the account itself when the event has happened already.

        Raises AccountConflictError, which has the state, for an event that the state does not allow.
        """
        if self._has_happened(event, now):
            return self
        if not self._allows(event):
            raise AccountConflictError(self.now)
        return self.model_copy(update=self._said(event) | {"changed_at": now, "version": self.version + 1})

    def _has_happened(self, event: AccountEvent, now: datetime) -> bool:
        match event.kind:
            case "held":
                return self.hold is not None and event.hold is not None and _same(self.hold, event.hold)
            case "released":
                return self.hold is None and self.released is not None and self.released == event.reason
            case "hold_ended":
                return self.hold is None or self.hold.until is None or now < self.hold.until
            case "opened":
                return self.action_id == event.action_id
            case "frozen":
                return self.action_id == event.action_id and self.stopped is not None
            case "deactivated":
                return self.action_id == event.action_id and self.stopped == "deactivated"
            case "restored":
                return self.action_id != event.action_id or self.stopped is None
            case "ended":
                return self.action_id != event.action_id or self.stopped is not None

    def _allows(self, event: AccountEvent) -> bool:
        if event.kind in _OF_HOLDS:
            return self.action_id is None and (self.hold is None) == (event.kind == "held")
        if event.kind == "opened":
            return self.action_id is None
        return event.kind == "hold_ended" or self.action_id == event.action_id

    def _said(self, event: AccountEvent) -> Mapping[str, Any]:
        match event.kind:
            case "held":
                return {"hold": event.hold, "released": None}
            case "released":
                return {"hold": None, "released": event.reason}
            case "hold_ended":
                return {"hold": None, "released": None}
            case "opened":
                return {"action_id": event.action_id}
            case "frozen":
                return {"stopped": "held"}
            case "deactivated":
                return {"stopped": "deactivated"}
            case "restored":
                return {"stopped": None}
            case "ended":
                return {"action_id": None}

    def next_look(self) -> datetime | None:
        """Return when the sweep must end the hold; None for no hold, or one without an end."""
        return None if self.hold is None else self.hold.until


_OF_HOLDS = frozenset({"held", "released"})


def _same(one: Hold, other: Hold) -> bool:
    """Whether two holds say the same, whenever they were asked for."""
    return (one.reason, one.until, one.by) == (other.reason, other.until, other.by)
