"""An order of a lead against one or more accounts. More than a few of them need a second lead. Pure."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field

from fraud.accounts.action import Actor, Cause
from fraud.accounts.status import MOST_REASON
from fraud.errors import ForbiddenError, OrderConflictError, OrderNow
from fraud.executions import UNTOLD
from fraud.transaction import Id, Instant

MOST_ACCOUNTS = 100
"""Most accounts of one order."""


class OrderState(StrEnum):
    """The state of an order. An approved one opens its actions, and then it is done."""

    PENDING = "pending"
    APPROVED = "approved"
    CANCELLED = "cancelled"
    DONE = "done"


class Ordered(NamedTuple):
    """An order of a lead, as the store takes it."""

    order_id: str
    account_ids: tuple[str, ...]
    reason: str


class Order(BaseModel):
    """An order as it stands. The row in the table is the truth."""

    model_config = ConfigDict(frozen=True)

    order_id: Id
    account_ids: tuple[Id, ...]
    reason: str = Field(max_length=MOST_REASON)
    by: str
    ordered_at: Instant
    state: OrderState
    decided_by: str | None = Field(None, description="Who has approved or cancelled it; null for nobody.")
    decision_reason: str | None = Field(None, max_length=MOST_REASON)
    actions: Mapping[str, str | None] = Field(
        {}, description="The action of each account; null for an account that another action had already."
    )
    changed_at: Instant
    version: int = 1

    @classmethod
    def given(cls, asked: Ordered, actor: Actor, now: datetime, alone_max: int) -> Self:
        """Take an order. Raises ForbiddenError for anybody but a lead.

        alone_max  accounts for which one lead is enough
        """
        _check(actor)
        state = OrderState.APPROVED if len(asked.account_ids) <= alone_max else OrderState.PENDING
        said = {"by": actor.name, "ordered_at": now, "state": state, "changed_at": now}
        return cls.model_validate(asked._asdict() | said)

    @property
    def now(self) -> OrderNow:
        """The state of the order, as the answer to a refused change has it."""
        return OrderNow(order_id=self.order_id, state=self.state, decided_by=self.decided_by)

    def says(self, other: Self) -> bool:
        """Whether another order says the same, whenever it was sent."""
        said, asked = ((each.account_ids, each.reason, each.by) for each in (self, other))
        return said == asked

    def approved(self, actor: Actor, reason: str, now: datetime) -> Self:
        """Approve the order. The same lead once more alters nothing.

        Raises ForbiddenError for the lead who has given it, and OrderConflictError for one that was decided on.
        """
        _check(actor)
        if actor.name == self.by:
            raise ForbiddenError
        return self._decided(OrderState.APPROVED, actor, reason, now)

    def cancelled(self, actor: Actor, reason: str, now: datetime) -> Self:
        """Cancel the order. The same lead once more alters nothing. Raises OrderConflictError, as `approved`."""
        _check(actor)
        return self._decided(OrderState.CANCELLED, actor, reason, now)

    def _decided(self, state: OrderState, actor: Actor, reason: str, now: datetime) -> Self:
        if self.state is OrderState.PENDING:
            said = {"state": state, "decided_by": actor.name, "decision_reason": reason}
            return self.model_copy(update=said | {"changed_at": now, "version": self.version + 1})
        is_cancelled = self.state is OrderState.CANCELLED
        if (self.decided_by, self.decision_reason) == (actor.name, reason) and is_cancelled == (
            state is OrderState.CANCELLED
        ):
            return self
        raise OrderConflictError(self.now)

    def done(self, actions: Mapping[str, str | None], now: datetime) -> Self:
        """Return the order with its actions opened. One that is done stays as it is."""
        if self.state is not OrderState.APPROVED:
            return self
        said = {"state": OrderState.DONE, "actions": dict(actions), "changed_at": now, "version": self.version + 1}
        return self.model_copy(update=said)

    @property
    def cause(self) -> Cause:
        """The cause of the order's actions."""
        return Cause(kind="order", id=self.order_id, by=self.by, reason=self.reason)

    def next_look(self) -> datetime | None:
        """Return when the sweep must open the actions that a dead call has left; None for any other order."""
        return self.changed_at + UNTOLD if self.state is OrderState.APPROVED else None


def _check(actor: Actor) -> None:
    if actor.role != "lead":
        raise ForbiddenError
