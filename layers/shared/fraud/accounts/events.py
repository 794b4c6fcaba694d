"""The events of accounts on the bus. `event_id` stays the same however often an event is published.

`AccountNotices` publishes them, each under the name of its class. No event has a text of the user or a task token.
"""

import hashlib
from collections.abc import Callable
from typing import Literal, Self

from pydantic import BaseModel, Field

from fraud.accounts.action import Action
from fraud.accounts.metrics import log_unacknowledged
from fraud.accounts.moves import Undo
from fraud.decisions.events import Outbox
from fraud.errors import UnavailableError
from fraud.transaction import Id, Timestamp, utc


class _ActionEvent(BaseModel):
    """The fields that every event of an action has."""

    version: Literal["1"] = "1"
    event_id: str = Field(examples=["0f343b0931126a20f133d67c2b018a3b"])
    action_id: str
    account_id: Id
    cause: Literal["finding", "order"] = Field(description="Why the action was taken.")
    cause_id: str = Field(description="The case_id, or the order_id.")
    at: Timestamp = Field(description="The time of the change of which the event tells, however often it does.")

    @classmethod
    def of(cls, action: Action, of_what: str = "", **fields: object) -> Self:
        """Build the event of an action.

        of_what  what tells several events of one class and action apart
        """
        said = f"{cls.__name__} {action.action_id} {of_what}"
        common = {
            "event_id": hashlib.sha256(said.encode()).hexdigest()[:32],
            "action_id": action.action_id,
            "account_id": action.account_id,
            "cause": action.cause.kind,
            "cause_id": action.cause.id,
            "at": utc(action.since),
        }
        return cls.model_validate(common | fields)


class AccountDeactivated(_ActionEvent):
    """An account is deactivated. The app carries it out, and acknowledges it."""

    status: Literal["deactivated"] = "deactivated"
    notice: int = Field(description="1 for the first notice. Each that is not acknowledged in time is followed by one.")


class AccountReinstated(_ActionEvent):
    """An account is active again, unless a hold is left on it. The app carries it out, and acknowledges it."""

    status: Literal["active"] = "active"
    notice: int = Field(description="As in AccountDeactivated.")


class ActionQueued(_ActionEvent):
    """An action waits, because the cap on interventions is reached: a lead releases or cancels it."""

    due: Timestamp | None = Field(description="Then it is cancelled by itself.")


class ActionUnacknowledged(_ActionEvent):
    """The app has acknowledged none of the notices of a change."""

    status: Literal["active", "deactivated"] = Field(description="The status of which the app was told.")


class ActionFailed(_ActionEvent):
    """A step of an action has failed. All that the action had done is undone."""

    step: str = Field(description="The step that has failed.", examples=["DenyInstruments"])
    undo: Undo = "compensation"


class AppealReceived(_ActionEvent):
    """A user has appealed: a lead who has not caused the action reviews it."""

    appeal_id: Id
    due: Timestamp | None = Field(description="Then the review is overdue.")


class AppealOverdue(_ActionEvent):
    """No lead has reviewed an appeal in time."""

    appeal_id: Id


class AppealUpheld(_ActionEvent):
    """An appeal was reviewed, and the account stays deactivated. The action says what the user may be told."""

    appeal_id: Id


Publish = Callable[[BaseModel], None]
"""Puts an event on the bus: `AccountNotices.publish`."""


def tell_unacknowledged(publish: Publish, action: Action, door: str) -> None:
    """Tell the bus, and raise an alarm, if the app has not acknowledged the status of which it was told."""
    if (status := action.told_status) not in action.acknowledged:
        log_unacknowledged(action.action_id, door)
        publish(ActionUnacknowledged.of(action, status, status=status))


def tell_end(publish: Publish, action: Action, door: str) -> None:
    """Tell the bus of the end of an action, if an event is owed. Once more is the same event."""
    if action.owed == "AppealUpheld" and action.appeal is not None:
        publish(AppealUpheld.of(action, appeal_id=action.appeal.appeal_id))
    elif action.owed == "ActionUnacknowledged":
        tell_unacknowledged(publish, action, door)


class AccountNotices:
    """Tells the bus of accounts. Raises UnavailableError when the bus does not take an event."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    def publish(self, event: BaseModel) -> None:
        """Put an event on the bus."""
        if self._outbox.publish([event]):
            raise UnavailableError("PutEvents")
