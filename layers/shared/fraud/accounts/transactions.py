"""The writes of accounts: each change and its audit row, in one DynamoDB transaction, with PynamoDB.

A store collects the writes of a change and gives them to `Transactions.write` with what the audit row says. Either all
of them are written or none. Every write is conditioned on what was read, so a writer who was slower reads again.
"""

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from pynamodb.exceptions import DoesNotExist
from pynamodb.expressions.operand import Path
from pynamodb.transactions import TransactWrite

from fraud.accounts import cap
from fraud.accounts.action import Action, Actor
from fraud.accounts.cap import Caps, Slot
from fraud.accounts.moves import ENDED, ActionState
from fraud.accounts.order import Order, OrderState
from fraud.accounts.requests import AccountChange, History
from fraud.accounts.rows import (
    ACCOUNT,
    ACTION,
    CAP,
    ORDER,
    OWED,
    AccountRow,
    ActionRow,
    CapRow,
    OrderRow,
    StatusProfile,
)
from fraud.accounts.status import Account
from fraud.audit.store import DocumentRow, Trail
from fraud.aws import tables
from fraud.aws.followed import actions_of
from fraud.errors import NotFoundError
from fraud.settings import Settings
from fraud.transaction import utc

if TYPE_CHECKING:
    from pynamodb.expressions.update import Action as Update

CHANGES_PER_PAGE = 100

PERIODS: tuple[cap.Period, ...] = ("hour", "day")

WAITING = {ActionState.QUEUED: "queued", ActionState.APPEALED: "appealed"}
"""The lists of actions that wait for a lead."""

Write = Callable[[TransactWrite], None]
"""Adds a write to a transaction."""


class Said(NamedTuple):
    """The words of a change's audit row: the kind of event, what it is about, the state and version after it."""

    what: str
    of: str
    state: str
    version: int
    actor: Actor
    more: Mapping[str, Any]


class Transactions:
    """The rows of accounts, and writes of them. Methods raise PynamoDB's errors."""

    def __init__(self, settings: Settings) -> None:
        self.actions = tables.bound(ActionRow, settings.accounts_table)
        self._accounts = tables.bound(AccountRow, settings.accounts_table)
        self._orders = tables.bound(OrderRow, settings.accounts_table)
        self._caps = tables.bound(CapRow, settings.accounts_table)
        self._table = settings.accounts_table
        self._profiles = tables.bound(StatusProfile, settings.profiles_table)
        self._trail = Trail(DocumentRow, settings.audit_table)
        self._connection = tables.connection()
        self._limits: Mapping[cap.Period, Caps] = {
            "hour": Caps(settings.cap_hour_all, settings.cap_hour_each),
            "day": Caps(settings.cap_day_all, settings.cap_day_each),
        }
        self._kept_s = settings.account_retention_days * 86_400

    def write(self, chain: str, said: Said, now: datetime, writes: "list[Write]") -> None:
        """Write a change and its audit row in one transaction, or nothing if another writer was faster."""
        head = self._trail.head(chain)
        document = {"what": said.what, "of": said.of, "state": said.state, "version": said.version}
        text = json.dumps(document | {"role": said.actor.role} | dict(said.more), sort_keys=True)
        row = self._trail.row(head, head.next_at(now), by=said.actor.name, document=text)
        with TransactWrite(connection=self._connection) as transaction:
            for write in writes:
                write(transaction)
            self._trail.add(transaction, row)

    def history(self, account_id: str, before: str | None) -> History:
        """Read a page of changes of an account from its audit chain, the latest last.

        before  RFC 3339: only changes before this time; None: the latest ones
        """
        found = list(self._trail.latest(chain_of(account_id), before, CHANGES_PER_PAGE + 1))
        changes = [
            AccountChange.model_validate(json.loads(row.document) | {"at": row.at, "by": row.by}) for row in found
        ]
        page = changes[:CHANGES_PER_PAGE][::-1]
        return History(changes=page, earlier=page[0].at if len(changes) > len(page) else None)

    # ---- rows ----------------------------------------------------------------------------------------------------

    def account(self, account_id: str) -> Account:
        """Read an account consistently. One that was never stopped is active."""
        try:
            row = self._accounts.get(chain_of(account_id), ACCOUNT, consistent_read=True)
        except DoesNotExist:
            return Account(account_id=account_id)
        return Account.model_validate_json(row.document)

    def action(self, action_id: str) -> tuple[ActionRow, Action]:
        """Read an action consistently, with its row. Raises NotFoundError."""
        try:
            row = self.actions.get(action_id, ACTION, consistent_read=True)
        except DoesNotExist:
            raise NotFoundError from None
        return row, Action.model_validate_json(row.document)

    def order(self, order_id: str) -> Order | None:
        """Read an order consistently; None for one that was never taken. Raises PynamoDB's errors."""
        try:
            row = self._orders.get(order_key(order_id), ORDER, consistent_read=True)
        except DoesNotExist:
            return None
        return Order.model_validate_json(row.document)

    def account_write(self, before: Account, after: Account) -> Write:
        """Return the write of an account and of the status in its profile."""
        row, profile = self._accounts(chain_of(after.account_id), ACCOUNT), self._profiles(chain_of(after.account_id))
        condition, values = _unchanged(self._accounts, before.version), _document(after, ACCOUNT)

        def write(transaction: TransactWrite) -> None:
            transaction.update(row, actions=actions_of(self._accounts, values), condition=condition)
            transaction.update(profile, actions=[self._profiles.status.set(after.profile)])

        return write

    def action_write(self, before: Action | None, after: Action) -> Write:
        """Return the write of an action. The row is updated and not put, so the token of a wait stays.

        An action that keeps an account deactivated is kept, too.
        """
        ends = after.state in ENDED and after.state is not ActionState.CLOSED
        listed = WAITING.get(after.state)
        values = _document(after, OWED if after.state in ENDED else ACTION) | {
            "account_id": after.account_id,
            "opened_at": utc(after.opened_at),
            "waiting": listed,
            "since": None if listed is None else utc(after.since),
            "ttl": self._ttl(after.changed_at) if ends else None,
        }
        if after.state in ENDED and before is not None and before.state is after.state:
            del values["waits"], values["act_at"]  # whether the bus was told of the end stays as it is
        row = self.actions(after.action_id, ACTION)
        condition = _unchanged(self.actions, 0 if before is None else before.version)
        return lambda each: each.update(row, actions=actions_of(self.actions, values), condition=condition)

    def order_write(self, before: Order | None, after: Order) -> Write:
        """Return the write of an order."""
        ends = after.state in {OrderState.DONE, OrderState.CANCELLED}
        values = _document(after, ORDER) | {"ttl": self._ttl(after.changed_at) if ends else None}
        row = self._orders(order_key(after.order_id), ORDER)
        condition = _unchanged(self._orders, 0 if before is None else before.version)
        return lambda each: each.update(row, actions=actions_of(self._orders, values), condition=condition)

    # ---- the cap -------------------------------------------------------------------------------------------------

    def full(self, slot: Slot, now: datetime) -> tuple[str, ...]:
        """Return the scopes of a slot in which none is left in the hour or the day of `now`; empty: it may be taken."""
        found: dict[str, None] = {}
        for period in PERIODS:
            key = {"pk": {"S": cap.key(period, now)}, "sk": {"S": CAP}}
            answer = self._connection.client.get_item(TableName=self._table, Key=key, ConsistentRead=True)
            taken = {name: int(value["N"]) for name, value in answer.get("Item", {}).items() if "N" in value}
            found |= dict.fromkeys(cap.full(taken, slot.scopes, self._limits[period]))
        return tuple(found)

    def slot_writes(self, slot: Slot, now: datetime) -> list[Write]:
        """Return the writes that take a slot of the present hour and day. They fail when one is full by then."""
        return [partial(self._take, slot, period, now) for period in PERIODS]

    def _take(self, slot: Slot, period: cap.Period, now: datetime, transaction: TransactWrite) -> None:
        limits, names = self._limits[period], self._caps.names
        condition = names.does_not_exist() | ~names.contains(slot.name)
        for scope in slot.scopes:
            number = Path([scope])
            condition &= number.does_not_exist() | (number < limits.of(scope))
        added: list[Update] = [Path([scope]).add(1) for scope in slot.scopes]
        actions = [*added, names.add({slot.name}), self._caps.ttl.set(self._ttl(now))]
        transaction.update(self._caps(cap.key(period, now), CAP), actions=actions, condition=condition)

    def _ttl(self, at: datetime) -> int:
        return int(at.timestamp()) + self._kept_s


def chain_of(account_id: str) -> str:
    """Return the name of an account's audit chain: that of its profile and of its row, too."""
    return f"account#{account_id}"


def order_key(order_id: str) -> str:
    """Return the name of an order's audit chain and of its row."""
    return f"{ORDER}#{order_id}"


def _unchanged(rows: Any, version: int) -> Any:  # noqa: ANN401 - one of three kinds of row
    """Return the condition that a row still has a version; 0: that there is none yet."""
    return rows.version == version if version else rows.pk.does_not_exist()


def _document(row: Account | Action | Order, kind: str) -> dict[str, Any]:
    """Return the attributes that all rows have. The token is none of them: only a wait changes it."""
    look = row.next_look()
    return {
        "document": row.model_dump_json(),
        "version": row.version,
        "waits": None if look is None else kind,
        "act_at": None if look is None else utc(look),
    }
