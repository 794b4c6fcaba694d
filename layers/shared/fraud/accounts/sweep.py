"""The sweep of accounts: holds that end, orders that a dead call has left, and actions that are due. Pure.

An execution tells the bus of the end of its action. If it could not, or was never told itself, the sweep tells the bus.
"""

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, Protocol

from fraud.accounts.action import Action
from fraud.accounts.order import Order
from fraud.executions import Executions, Swept, swept, swept_all


class AccountTable(Protocol):
    """The part of `accounts.store.Accounts` that the sweep needs."""

    def action(self, action_id: str) -> Action:
        """Read an action."""

    def due_holds(self, now: datetime) -> Iterator[tuple[str, datetime]]:
        """Yield the accounts whose hold is over."""

    def end_hold(self, account_id: str, now: datetime) -> Any:  # noqa: ANN401 - it is not looked at
        """End a hold."""

    def due_orders(self, now: datetime) -> Iterator[tuple[str, datetime]]:
        """Yield the orders that are to be carried out."""

    def carry_out(self, order_id: str, now: datetime) -> Order:
        """Open the actions of an order."""

    def due_ends(self, now: datetime) -> Iterator[tuple[str, datetime]]:
        """Yield the actions of whose end the bus must still be told."""

    def end_told(self, action: Action) -> None:
        """Note that the bus was told of the end of an action."""


class AccountSweep:
    """Looks at what is due. Every call may be repeated.

    tell_end  tells the bus of the end of an action, as its row owes it. Raises ServiceError.
    """

    def __init__(
        self, accounts: AccountTable, executions: Executions[Action], tell_end: Callable[[Action], None]
    ) -> None:
        self._accounts = accounts
        self._executions = executions
        self._tell_end = tell_end

    def sweep(self, now: datetime, remaining_ms: Callable[[], int]) -> Swept:
        """Look at all that is due, for as long as there is time. Raises the first ServiceError, after all others."""
        return swept_all((self._holds, self._orders, self._executions.sweep, self._ends), now, remaining_ms)

    def _holds(self, now: datetime, remaining_ms: Callable[[], int]) -> Swept:
        return swept(self._accounts.due_holds(now), self._accounts.end_hold, now, remaining_ms)

    def _orders(self, now: datetime, remaining_ms: Callable[[], int]) -> Swept:
        return swept(self._accounts.due_orders(now), self._carry_out, now, remaining_ms)

    def _ends(self, now: datetime, remaining_ms: Callable[[], int]) -> Swept:
        return swept(self._accounts.due_ends(now), self._end, now, remaining_ms)

    def _end(self, action_id: str, _now: datetime) -> None:
        action = self._accounts.action(action_id)
        self._tell_end(action)
        self._executions.tell(action)
        self._accounts.end_told(action)

    def _carry_out(self, order_id: str, now: datetime) -> None:
        order = self._accounts.carry_out(order_id, now)
        for action_id in filter(None, order.actions.values()):
            self._executions.start(self._accounts.action(action_id))
