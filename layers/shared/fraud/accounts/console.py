"""What the payment app and leads change about accounts: each route's request becomes one call of the store. Pure.

Both APIs have routes for holds and releases. The route decides who the caller is, and what is done is the same.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import NamedTuple, Protocol

from pydantic import BaseModel

from fraud.accounts.action import Action, ActionEvent, Actor
from fraud.accounts.order import Order, Ordered
from fraud.accounts.requests import (
    AccountView,
    AckRequest,
    ActionPage,
    ActionView,
    AppealRequest,
    BackRequest,
    DecideRequest,
    HoldRequest,
    OrderRequest,
    OrderView,
    ReleaseHoldRequest,
    ReviewRequest,
)
from fraud.accounts.status import Account
from fraud.errors import AccountConflictError, NotFoundError

Body = str | bytes


class AccountTable(Protocol):
    """The part of `accounts.store.Accounts` that the routes need."""

    def account(self, account_id: str) -> Account:
        """Read an account."""

    def view(self, account_id: str) -> AccountView:
        """Show an account."""

    def hold(self, account_id: str, request: HoldRequest, actor: Actor, now: datetime) -> Account:
        """Put a hold on an account."""

    def release(self, account_id: str, reason: str, actor: Actor, now: datetime) -> Account:
        """Release the hold of an account."""

    def action(self, action_id: str) -> Action:
        """Read an action."""

    def actions_of(self, account_id: str) -> ActionPage:
        """Read the latest actions of an account."""

    def change(self, action_id: str, event: ActionEvent, actor: Actor, now: datetime) -> Action:
        """Carry an event of an action out."""

    def order(self, asked: Ordered, actor: Actor, now: datetime) -> Order:
        """Take an order."""

    def approve(self, order_id: str, reason: str, actor: Actor, now: datetime) -> Order:
        """Approve an order."""

    def cancel(self, order_id: str, reason: str, actor: Actor, now: datetime) -> Order:
        """Cancel an order."""


class ChangeContext(NamedTuple):
    """The context of a change: its actor, the ids that the request names, and the time."""

    actor: Actor
    ids: Mapping[str, str]
    now: datetime


class Done(NamedTuple):
    """The response to a change, and the actions whose executions are to be started or told."""

    view: BaseModel
    actions: tuple[str, ...] = ()


Change = Callable[[AccountTable, ChangeContext, Body], Done]


def change_of(route: str) -> tuple[str, Change]:
    """Return the name of the change that a route asks for, and the function that carries it out.

    Raises NotFoundError for a route that changes nothing.

    >>> change_of("POST /analyst/actions/{action_id}/review")[0]
    'analyst/actions/review'
    """
    name = "/".join(part for part in route.partition(" /")[2].split("/") if not part.startswith("{"))
    if name not in CHANGES:
        raise NotFoundError
    return name, CHANGES[name]


def _hold(accounts: AccountTable, context: ChangeContext, body: Body) -> Done:
    name = context.ids["account_id"]
    accounts.hold(name, HoldRequest.parse(body), context.actor, context.now)
    return Done(accounts.view(name))


def _release(accounts: AccountTable, context: ChangeContext, body: Body) -> Done:
    name = context.ids["account_id"]
    accounts.release(name, ReleaseHoldRequest.parse(body).reason, context.actor, context.now)
    return Done(accounts.view(name))


def _acknowledge(accounts: AccountTable, context: ChangeContext, body: Body) -> Done:
    event = AckRequest.parse(body).event
    if accounts.action(context.ids["action_id"]).account_id != context.ids["account_id"]:
        raise NotFoundError
    return _changed(accounts, context, context.ids["action_id"], event)


def _appeal(accounts: AccountTable, context: ChangeContext, body: Body) -> Done:
    """Bring an appeal against the action of an account. The same one again is answered after its end, too."""
    event, account = AppealRequest.parse(body).event, accounts.account(context.ids["account_id"])
    heard = (
        action.action_id
        for action in accounts.actions_of(account.account_id).actions
        if action.appeal is not None and action.appeal.appeal_id == event.appeal_id
    )
    if (name := next(heard, account.action_id)) is None:
        raise AccountConflictError(account.now)
    return _changed(accounts, context, name, event)


def _decide(event_of: Callable[[Body], ActionEvent]) -> Change:
    """Return the change of an action that a lead decides."""
    return lambda accounts, context, body: _changed(accounts, context, context.ids["action_id"], event_of(body))


def _changed(accounts: AccountTable, context: ChangeContext, action_id: str, event: ActionEvent) -> Done:
    action = accounts.change(action_id, event, context.actor, context.now)
    return Done(ActionView.of(action), (action_id,))


def _order(accounts: AccountTable, context: ChangeContext, body: Body) -> Done:
    return _ordered(accounts.order(OrderRequest.parse(body).ordered, context.actor, context.now))


def _approve(accounts: AccountTable, context: ChangeContext, body: Body) -> Done:
    reason = DecideRequest.parse(body).reason
    return _ordered(accounts.approve(context.ids["order_id"], reason, context.actor, context.now))


def _cancel(accounts: AccountTable, context: ChangeContext, body: Body) -> Done:
    reason = DecideRequest.parse(body).reason
    return _ordered(accounts.cancel(context.ids["order_id"], reason, context.actor, context.now))


def _ordered(order: Order) -> Done:
    found: Iterable[str | None] = order.actions.values()
    return Done(OrderView.model_validate(order), tuple(name for name in found if name is not None))


_OF_THE_APP: Mapping[str, Change] = {
    "accounts/hold": _hold,
    "accounts/release": _release,
    "accounts/appeal": _appeal,
    "accounts/ack": _acknowledge,
    "accounts/actions/ack": _acknowledge,
}

_OF_LEADS: Mapping[str, Change] = {
    "analyst/accounts/hold": _hold,
    "analyst/accounts/release": _release,
    "analyst/actions/release": _decide(lambda body: DecideRequest.parse(body).event("released")),
    "analyst/actions/cancel": _decide(lambda body: DecideRequest.parse(body).event("cancelled")),
    "analyst/actions/review": _decide(lambda body: ReviewRequest.parse(body).event),
    "analyst/actions/reinstate": _decide(lambda body: BackRequest.parse(body).event),
    "analyst/orders": _order,
    "analyst/orders/approve": _approve,
    "analyst/orders/cancel": _cancel,
}

CHANGES: Mapping[str, Change] = {**_OF_THE_APP, **_OF_LEADS}
"""What each route that changes something does, by its path without the ids in it."""
