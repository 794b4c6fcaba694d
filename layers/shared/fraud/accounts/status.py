"""The status of an account: active, held or deactivated. Pure.

Two things stop an account, independently of each other: a hold that the payment app or a lead has put on it, and an
action (`fraud.accounts.action`), which first freezes and then deactivates it. The state follows from both. So an action
that is undone takes back exactly what it did, and a hold that was there before is there again (D-126).
"""

import hashlib
from collections.abc import Callable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field

from fraud.errors import AccountConflictError, AccountNow
from fraud.person import SYSTEM_NAME
from fraud.transaction import Id, Instant, utc

MOST_REASON = 500
"""Most characters of a reason."""


class AccountState(StrEnum):
    """The state of an account."""

    ACTIVE = "active"
    HELD = "held"
    DEACTIVATED = "deactivated"


def hold_reason(case_id: str) -> str:
    """Return the reason of a hold that the system puts on an account for a case. It ends with the case."""
    return f"case {case_id}"


def held_case(reason: str) -> str:
    """Return the case for which the system has put a hold on, by the hold's reason.

    >>> held_case(hold_reason("A-2"))
    'A-2'
    """
    return reason.partition(" ")[2]


def continues(case_id: str, other: str) -> bool:
    """Tell whether a case is another one, or has followed it: of the same subject and day, with a later number.

    >>> continues("A", "A"), continues("A-3", "A"), continues("A", "A-2"), continues("B-2", "A")
    (True, True, False, False)
    """
    (name, number), (before, earlier) = (_parts(each) for each in (case_id, other))
    return name == before and number >= earlier


def _parts(case_id: str) -> tuple[str, int]:
    name, _, number = case_id.partition("-")
    return name, int(number) if number.isdecimal() else 1


Stop = Literal["held", "deactivated"]
EventKind = Literal[
    "held", "released", "hold_ended", "case_ended", "opened", "frozen", "deactivated", "restored", "ended"
]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class Hold(_Part):
    """A hold that somebody has put on an account. `by`: ARN or `sub` of the caller, or `system`."""

    reason: str = Field(max_length=MOST_REASON)
    until: Instant | None = Field(description="From then on the hold is over; null: until it is released.")
    by: str
    at: Instant

    def is_for(self, case_id: str | None) -> bool:
        """Tell whether the system has put the hold on for a case, or for one that it has followed."""
        return case_id is not None and self.by == SYSTEM_NAME and continues(case_id, held_case(self.reason))

    def is_over(self, now: datetime) -> bool:
        """Tell whether the hold has ended by itself, with or without a sweep."""
        return self.until is not None and now >= self.until


class AccountEvent(_Part):
    """An event of an account. `opened` and later kinds belong to an action; the others to a hold."""

    kind: EventKind
    hold: Hold | None = None
    reason: str | None = Field(None, max_length=MOST_REASON, description="Why a hold is released.")
    case_id: str | None = Field(None, description="The case whose hold by the system ends with this event.")
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
    def state(self) -> AccountState:
        """The state that follows from the action and the hold."""
        if self.stopped is not None:
            return AccountState(self.stopped)
        return AccountState.ACTIVE if self.hold is None else AccountState.HELD

    @property
    def now(self) -> AccountNow:
        """The state of the account, as the answer to a refused change has it."""
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

    @property
    def slot(self) -> str:
        """The name under which the next hold takes its slot of the cap: the same for a repeat of the same write."""
        return f"hold#{hashlib.sha256(f'{self.account_id}#{self.version}'.encode()).hexdigest()[:24]}"

    def after(self, event: AccountEvent, now: datetime) -> Self:
        """Return the account after an event; the account itself when the event has happened already.

        Raises AccountConflictError, which has the state, for an event that the state does not allow.
        """
        kind = _KINDS[event.kind]
        if kind.has_happened(self, event, now):
            return self
        if not kind.allows(self, event, now):
            raise AccountConflictError(self.now)
        changed = {"changed_at": now, "version": self.version + 1}
        return self.model_copy(update={**kind.effect(self, event), **changed})

    def next_look(self) -> datetime | None:
        """Return when the sweep must end the hold; None for no hold, or one without an end."""
        return None if self.hold is None else self.hold.until


# ---- what an event does ----------------------------------------------------------------------------------------------


class _Kind(NamedTuple):
    """A kind of event: when it has happened already, when the account allows it, and what it changes."""

    has_happened: Callable[[Account, AccountEvent, datetime], bool]
    allows: Callable[[Account, AccountEvent, datetime], bool]
    effect: Callable[[Account, AccountEvent], Mapping[str, Any]]


def _same_hold(account: Account, event: AccountEvent, _now: datetime) -> bool:
    """Whether the account has a hold that says the same, whenever it was asked for."""
    one, other = account.hold, event.hold
    if one is None or other is None:
        return False
    return (one.reason, one.until, one.by) == (other.reason, other.until, other.by)


def _may_be_held(account: Account, _event: AccountEvent, now: datetime) -> bool:
    """Whether nothing stops the account. A hold that is over does not wait for the sweep to make way."""
    return account.stopped is None and (account.hold is None or account.hold.is_over(now))


def _no_hold_ends(account: Account, _event: AccountEvent, now: datetime) -> bool:
    return account.hold is None or not account.hold.is_over(now)


def _no_hold_of_case(account: Account, event: AccountEvent, _now: datetime) -> bool:
    return account.hold is None or not account.hold.is_for(event.case_id)


def _of_another(account: Account, event: AccountEvent) -> bool:
    return account.action_id != event.action_id


def _without_hold_of_case(account: Account, event: AccountEvent) -> Mapping[str, Any]:
    return {"hold": None} if account.hold is not None and account.hold.is_for(event.case_id) else {}


_KINDS: Mapping[EventKind, _Kind] = {
    "held": _Kind(
        _same_hold,
        _may_be_held,
        lambda _, event: {"hold": event.hold, "released": None},
    ),
    "released": _Kind(
        lambda account, event, _: account.hold is None and account.released == (event.reason or ""),
        lambda account, *_: account.stopped is None and account.hold is not None,
        lambda _, event: {"hold": None, "released": event.reason or ""},
    ),
    "hold_ended": _Kind(_no_hold_ends, lambda *_: True, lambda *_: {"hold": None, "released": None}),
    "case_ended": _Kind(_no_hold_of_case, lambda *_: True, lambda *_: {"hold": None, "released": None}),
    "opened": _Kind(
        lambda account, event, _: not _of_another(account, event),
        lambda account, *_: account.action_id is None,
        lambda _, event: {"action_id": event.action_id},
    ),
    "frozen": _Kind(
        lambda account, event, _: not _of_another(account, event) and account.stopped is not None,
        lambda account, event, _: not _of_another(account, event),
        lambda *_: {"stopped": "held"},
    ),
    "deactivated": _Kind(
        lambda account, event, _: not _of_another(account, event) and account.stopped == "deactivated",
        lambda account, event, _: not _of_another(account, event),
        lambda *_: {"stopped": "deactivated"},
    ),
    "restored": _Kind(
        lambda account, event, _: _of_another(account, event) or account.stopped is None,
        lambda *_: True,
        lambda account, event: {"stopped": None, **_without_hold_of_case(account, event)},
    ),
    "ended": _Kind(
        lambda account, event, _: _of_another(account, event) or account.stopped is not None,
        lambda *_: True,
        lambda account, event: {"action_id": None, **_without_hold_of_case(account, event)},
    ),
}
"""Each kind of event. What has happened already is looked at first."""
