"""What the payment app and leads send about accounts, and what they see. Pure."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator

from fraud.accounts.action import MOST_TEXT, Action, ActionEvent, Appeal, Cause, ListedValue, QueueDecision, Review
from fraud.accounts.moves import ActionState, EventKind, Undo
from fraud.accounts.order import MOST_ACCOUNTS, Ordered, OrderState
from fraud.accounts.status import MOST_REASON, Account, AccountState, Hold
from fraud.activity.page import AccountPage
from fraud.body import RequestBody
from fraud.errors import InvalidRequestError
from fraud.transaction import Id, Instant, faults_of

Words = Annotated[str, StringConstraints(min_length=1, max_length=MOST_REASON, strip_whitespace=True)]
Text = Annotated[str, StringConstraints(min_length=1, max_length=MOST_TEXT, strip_whitespace=True)]
Told = Annotated[str, StringConstraints(min_length=1, max_length=MOST_REASON, strip_whitespace=True)]


# ---- requests ------------------------------------------------------------------------------------------------------


class HoldRequest(RequestBody):
    """The body of POST /accounts/{account_id}/hold: the account is held, until a time or until it is released."""

    reason: Words
    until: Instant | None = Field(None, description="Must lie ahead; null: until the hold is released.")


class ReleaseHoldRequest(RequestBody):
    """The body of POST /accounts/{account_id}/release: the hold is over."""

    reason: Words


class AckRequest(RequestBody):
    """The body of POST /accounts/{account_id}/actions/{action_id}/ack: the app has carried the status out."""

    status: Literal["active", "deactivated"] = Field(description="The status that the notice named.")

    @property
    def event(self) -> ActionEvent:
        """The event that the request asks for."""
        return ActionEvent(kind="acknowledged", status=self.status)


class AppealRequest(RequestBody):
    """The body of POST /accounts/{account_id}/appeal: the user's appeal, brought by the app."""

    appeal_id: Id = Field(description="An id of the app's choice; the same id with the same text may be sent again.")
    text: Text

    @property
    def event(self) -> ActionEvent:
        """The event that the request asks for."""
        return ActionEvent(kind="appealed", appeal_id=self.appeal_id, text=self.text)


class DecideRequest(RequestBody):
    """The body of a release or a cancellation: of an action above the cap, or of an order."""

    reason: Words

    def event(self, kind: Literal["released", "cancelled"]) -> ActionEvent:
        """Return the event of an action that the request asks for."""
        return ActionEvent(kind=kind, reason=self.reason)


class ReviewRequest(RequestBody):
    """The body of POST /analyst/actions/{action_id}/review: what a lead says of an appeal."""

    decision: Literal["uphold", "overturn"]
    reason: Words
    told: Told | None = Field(None, description="What the user may be told.")

    @property
    def event(self) -> ActionEvent:
        """The event that the request asks for."""
        return ActionEvent(kind=_REVIEWED[self.decision], reason=self.reason, told=self.told)


_REVIEWED: Mapping[str, EventKind] = {"uphold": "upheld", "overturn": "overturned"}


class BackRequest(RequestBody):
    """The body of POST /analyst/actions/{action_id}/reinstate: a lead takes the action back without an appeal."""

    reason: Words
    told: Told | None = Field(None, description="What the user may be told.")

    @property
    def event(self) -> ActionEvent:
        """The event that the request asks for."""
        return ActionEvent(kind="ordered_back", reason=self.reason, told=self.told)


class OrderRequest(RequestBody):
    """The body of POST /analyst/orders: a lead orders that accounts be deactivated."""

    order_id: Id = Field(description="An id of the caller's choice; the same order may be sent again.")
    account_ids: Annotated[tuple[Id, ...], Field(min_length=1, max_length=MOST_ACCOUNTS)]
    reason: Words

    @field_validator("account_ids")
    @classmethod
    def _once_each(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(value))

    @property
    def ordered(self) -> Ordered:
        """The order as the store takes it."""
        return Ordered(self.order_id, self.account_ids, self.reason)


class ActionQuery(BaseModel):
    """The query of GET /analyst/actions: the actions that wait for a lead, above the cap or with an appeal."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    state: Literal["queued", "appealed"]
    cursor: Annotated[str, StringConstraints(max_length=1_000)] | None = None

    @classmethod
    def parse(cls, query: Mapping[str, str]) -> Self:
        """Parse a query. Raises InvalidRequestError with every fault at once."""
        try:
            return cls.model_validate(dict(query))
        except ValidationError as error:
            raise InvalidRequestError(faults_of(error)) from None


# ---- views ---------------------------------------------------------------------------------------------------------


class ActionView(BaseModel):
    """An action as it stands."""

    model_config = ConfigDict(from_attributes=True)

    action_id: str
    account_id: Id
    cause: Cause
    opened_at: Instant
    state: ActionState
    undo: Undo | None
    entries: tuple[ListedValue, ...] = Field(description="What the action keeps on the deny list.")
    notices: int
    acknowledged: tuple[Literal["active", "deactivated"], ...]
    appeal: Appeal | None
    review: Review | None
    queue_decision: QueueDecision | None
    failed_step: str | None
    due: Instant | None = Field(description="When the time of the present state is over; null: it has none.")
    changed_at: Instant
    version: int

    @classmethod
    def of(cls, action: Action) -> Self:
        """Show an action."""
        return cls.model_validate(action)


class ActionPage(BaseModel):
    """A page of actions."""

    actions: list[ActionView]
    cursor: str | None = Field(description="Leads to the next page; null on the last one.")


class AccountChange(BaseModel):
    """A change of an account, or of an action against it, as its audit chain has it."""

    at: Instant
    by: str
    role: str
    what: str = Field(description="The kind of event.", examples=["held"])
    of: Literal["account", "action"]
    state: str = Field(description="The state that followed.")
    version: int
    action_id: str | None = None
    reason: str | None = None


class AccountView(BaseModel):
    """An account: its status, what stops it, its history, and its facts."""

    account_id: Id
    status: AccountState
    version: int
    until: Instant | None = Field(description="When the status is active again by itself; null: not by itself.")
    hold: Hold | None
    action: ActionView | None = Field(description="The action that is open, or that keeps the account deactivated.")
    history: list[AccountChange] = Field(description="The latest changes, at most 100, the oldest of them first.")
    earlier: Instant | None = Field(
        description="Send it as `before` to get the changes before these; null: there are none."
    )
    facts: AccountPage | None

    @classmethod
    def of(cls, account: Account, action: Action | None, history: "History", facts: AccountPage | None = None) -> Self:
        """Put the view together."""
        until = account.hold.until if account.stopped is None and account.hold is not None else None
        said: dict[str, Any] = {
            "account_id": account.account_id,
            "status": account.state,
            "version": account.version,
            "until": until,
            "hold": account.hold,
            "action": None if action is None else ActionView.of(action),
            "history": list(history.changes),
            "earlier": history.earlier,
            "facts": facts,
        }
        return cls.model_validate(said)


class History(BaseModel):
    """Some changes of an account, the oldest first, and the time before which there are more."""

    changes: Sequence[AccountChange]
    earlier: Instant | None


class OrderView(BaseModel):
    """An order as it stands."""

    model_config = ConfigDict(from_attributes=True)

    order_id: Id
    account_ids: tuple[Id, ...]
    reason: str
    by: str
    ordered_at: Instant
    state: OrderState
    decided_by: str | None
    decision_reason: str | None
    actions: Mapping[str, str | None]
    version: int
