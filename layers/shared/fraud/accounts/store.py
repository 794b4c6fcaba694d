"""The table of accounts: status and holds, actions, orders and the cap, with PynamoDB.

Every change is one DynamoDB transaction: the row that it is about, on condition of the version that was read; the next
row of the account's audit chain; and all that the step does, be it the account's status with its copy in the profile,
slots of the cap, or an entry of a list with its own trail. So nothing is ever half done, whatever the point of death
(D-127). Of two writers at once one reads again and is judged anew.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from functools import partial
from hashlib import sha256
from typing import Any, NamedTuple, TypeVar

from pynamodb.exceptions import DoesNotExist, PynamoDBException
from pynamodb.expressions.operand import Path
from pynamodb.expressions.update import Action as Update
from pynamodb.transactions import TransactWrite

from fraud.accounts import cap
from fraud.accounts.action import SYSTEM, Action, ActionEvent, Actor, Cause, ListedValue, Terms
from fraud.accounts.cap import Caps, Slot
from fraud.accounts.denial import Value
from fraud.accounts.moves import ENDED, State
from fraud.accounts.order import Order, Ordered, OrderState
from fraud.accounts.requests import AccountChange, AccountView, ActionPage, ActionView, History, HoldRequest
from fraud.accounts.rows import (
    ACCOUNT,
    ACTION,
    CAP,
    ORDER,
    AccountRow,
    ActionRow,
    CapRow,
    OrderRow,
    StatusProfile,
    TrailRow,
)
from fraud.accounts.status import Account, AccountEvent, Hold, hold_reason
from fraud.accounts.status import EventKind as AccountKind
from fraud.activity.page import AccountPage
from fraud.audit.store import Trail
from fraud.aws import tables
from fraud.aws.boto import retry_conflicts, translate_errors
from fraud.aws.followed import FollowedStore, actions_of
from fraud.aws.pages import cursor_of, parts_of
from fraud.errors import CapReachedError, Fault, InvalidRequestError, NotFoundError, OrderConflictError
from fraud.lists.entry import DenyRequest, ListKey
from fraud.lists.store import ListEdit, Lists
from fraud.rules.standing import denies
from fraud.settings import Settings
from fraud.transaction import MAX_AGE, utc

ACTIONS_PER_PAGE = 20
CHANGES_PER_PAGE = 100

PERIODS: tuple[cap.Period, ...] = ("hour", "day")

ON_ACCOUNT: Mapping[State, AccountKind] = {
    State.HELD: "frozen",
    State.DEACTIVATED: "deactivated",
    State.RESTORED: "restored",
    State.CANCELLED: "ended",
    State.COMPENSATED: "ended",
    State.REINSTATED: "ended",
}
"""The event of the account that belongs to the state that an action reaches: both are written together."""

WAITING = {State.QUEUED: "queued", State.APPEALED: "appealed"}
"""The lists of actions that wait for a lead."""

SETTER = "action#{action_id}"
"""Who has set the list entries of an action."""

Write = Callable[[TransactWrite], None]
T = TypeVar("T")


class Said(NamedTuple):
    """What a row of the audit chain says of a change."""

    what: str
    of: str
    state: str
    version: int
    actor: Actor
    more: Mapping[str, Any]


class Accounts(FollowedStore[Action]):
    """The store of accounts.

    Every method raises UnavailableError when a table does not respond, and ServiceError when it refuses a request.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(tables.bound(ActionRow, settings.accounts_table), ACTION, ACTION)
        self._accounts = tables.bound(AccountRow, settings.accounts_table)
        self._orders = tables.bound(OrderRow, settings.accounts_table)
        self._caps = tables.bound(CapRow, settings.accounts_table)
        self._profiles = tables.bound(StatusProfile, settings.profiles_table)
        self._trail = Trail(TrailRow, settings.audit_table)
        self._lists = Lists(settings)
        self._connection = tables.connection()
        self._limits: Mapping[cap.Period, Caps] = {
            "hour": Caps(settings.cap_hour_all, settings.cap_hour_each),
            "day": Caps(settings.cap_day_all, settings.cap_day_each),
        }
        seconds = settings.action_queue_seconds, settings.notice_seconds, settings.appeal_window_seconds
        self._terms = Terms(*(timedelta(seconds=each) for each in (*seconds, settings.appeal_review_seconds)))
        self._alone_max = settings.order_alone_max
        self._kept_s = settings.account_retention_days * 86_400

    # ---- accounts ------------------------------------------------------------------------------------------------

    def account(self, account_id: str) -> Account:
        """Read the status of an account consistently. An account that was never stopped is active."""
        with translate_errors(PynamoDBException):
            return self._account(account_id)

    def hold(self, account_id: str, request: HoldRequest, actor: Actor, now: datetime) -> Account:
        """Put a hold on an account. The same request once more alters nothing.

        Raises InvalidRequestError for an end that does not lie ahead, AccountConflictError for an account that is
        stopped otherwise, and CapReachedError.
        """
        if request.until is not None and request.until <= now:
            raise InvalidRequestError((Fault("until", "expires_at_past", "must lie ahead"),))
        hold = Hold(reason=request.reason, until=request.until, by=actor.name, at=now)
        event = AccountEvent(kind="held", hold=hold)
        return self._retried(partial(self._change_account, account_id, event, actor, now))

    def release(self, account_id: str, reason: str, actor: Actor, now: datetime) -> Account:
        """Release the hold of an account. The same request once more alters nothing. Raises AccountConflictError."""
        event = AccountEvent(kind="released", reason=reason)
        return self._retried(partial(self._change_account, account_id, event, actor, now))

    def end_hold(self, account_id: str, now: datetime) -> Account:
        """End the hold of an account whose time is over."""
        event = AccountEvent(kind="hold_ended")
        return self._retried(partial(self._change_account, account_id, event, SYSTEM, now))

    def history(self, account_id: str, before: str | None = None) -> History:
        """Read the latest changes of an account, or those before a time."""
        with translate_errors(PynamoDBException):
            found = list(self._trail.latest(_chain(account_id), before, CHANGES_PER_PAGE + 1))
        changes = [
            AccountChange.model_validate(json.loads(row.document) | {"at": row.at, "by": row.by}) for row in found
        ]
        page = changes[:CHANGES_PER_PAGE][::-1]
        return History(changes=page, earlier=page[0].at if len(changes) > len(page) else None)

    def view(self, account_id: str, facts: AccountPage | None = None, before: str | None = None) -> AccountView:
        """Put together what is shown of an account. `before`: a time, to get the changes before it."""
        account = self.account(account_id)
        action = None if account.action_id is None else self.action(account.action_id)
        return AccountView.of(account, action, self.history(account_id, before), facts)

    def _change_account(self, account_id: str, event: AccountEvent, actor: Actor, now: datetime) -> Account:
        before = self._account(account_id)
        after = before.after(event, now)
        if after is before:
            return before
        writes = [self._status(before, after)]
        reason = event.hold.reason if event.hold is not None else event.reason
        if event.kind == "held":
            slot = Slot(before.slot, cap.scopes(actor.name))
            if full := self._full(slot, now):
                raise CapReachedError(full)
            writes += self._slot(slot, now)
        said = Said(event.kind, "account", after.state, after.version, actor, _without_none(reason=reason))
        self._write(_chain(account_id), said, now, writes)
        return after

    # ---- actions -------------------------------------------------------------------------------------------------

    def action(self, action_id: str) -> Action:
        """Read an action consistently. Raises NotFoundError."""
        return self.get(action_id)

    def actions_of(self, account_id: str, cursor: str | None = None) -> ActionPage:
        """Read a page of an account's actions, the latest first. Raises InvalidRequestError for no cursor."""
        return self._page(self._rows.of_account, ("account_id", account_id, "opened_at"), cursor, latest_first=True)

    def waiting(self, state: str, cursor: str | None = None) -> ActionPage:
        """Read a page of the actions that wait for a lead, the earliest first. state: `queued` or `appealed`."""
        return self._page(self._rows.by_wait, ("waiting", state, "since"), cursor, latest_first=False)

    def open(self, account_id: str, cause: Cause, now: datetime) -> Action | None:
        """Open an action against an account; None when another one has the account. Once more alters nothing."""
        return self._retried(lambda: self._open(account_id, cause, now))

    def _open(self, account_id: str, cause: Cause, now: datetime) -> Action | None:
        action = Action.for_cause(account_id, cause, now)
        try:
            return self.read(action.action_id)[1]
        except NotFoundError:
            account = self._account(account_id)
        if account.action_id is not None:
            return None
        after = account.after(AccountEvent(kind="opened", action_id=action.action_id), now)
        more = {"action_id": action.action_id, "reason": cause.reason, "cause": f"{cause.kind}#{cause.id}"}
        said = Said("opened", "action", action.state, action.version, _actor(cause), more)
        self._write(_chain(account_id), said, now, [self._action(None, action), self._status(account, after)])
        return action

    def change(self, action_id: str, event: ActionEvent, actor: Actor, now: datetime) -> Action:
        """Carry an event out and return the action after it. The same event once more alters nothing.

        Raises NotFoundError, ForbiddenError, and ActionConflictError when the action does not allow the event.
        """
        return self._retried(lambda: self._change(self.read(action_id)[1], event, actor, now))

    def by_clock(self, name: str, event: ActionEvent, now: datetime) -> Action:
        """Carry an event of the clock out. Raises as `change` does."""
        return self.change(name, event, SYSTEM, now)

    def take_slot(self, action_id: str, now: datetime) -> Action:
        """Take a slot of the cap for an action that was opened; above the cap the action is queued."""

        def attempt() -> Action:
            action, taken = self.read(action_id)[1], ActionEvent(kind="slot_taken")
            if action.state is not State.OPENED:
                return self._change(action, taken, SYSTEM, now)
            slot = Slot(action_id, cap.scopes(action.cause.by, action.cause.rule, action.cause.model_version))
            if self._full(slot, now):
                return self._change(action, ActionEvent(kind="cap_reached"), SYSTEM, now)
            return self._change(action, taken, SYSTEM, now, self._slot(slot, now))

        return self._retried(attempt)

    def deny(self, action_id: str, value: Value, now: datetime) -> Action:
        """Put a value on the deny list for an action. An entry of somebody else stays, and is not the action's."""
        key = ListKey("deny", value.kind, value.value)

        def attempt() -> Action:
            action = self.read(action_id)[1]
            if tuple(value) in {(one.kind, one.value) for one in action.entries}:
                return action
            request = DenyRequest(reason=f"Action {action_id} against an account.", expires_at=None)
            edit = self._lists.prepare(key, request, SETTER.format(action_id=action_id), lambda: now)
            if edit is None or edit.after is None:
                return action
            if edit.before is not None and _is_read(edit.before.expires_at, now):
                return action
            listed = ListedValue(kind=value.kind, value=value.value, set_at=edit.after.set_at)
            event = ActionEvent(kind="entry_added", entry=listed)
            return self._change(action, event, SYSTEM, now, [partial(_add_edit, self._lists, edit)])

        return self._retried(attempt)

    def allow_again(self, action_id: str, listed: ListedValue, now: datetime) -> Action:
        """Take an entry of an action off the deny list, if it is still the action's own."""
        key = ListKey("deny", listed.kind, listed.value)

        def attempt() -> Action:
            action, setter = self.read(action_id)[1], SETTER.format(action_id=action_id)
            edit, writes = self._lists.prepare(key, None, setter, lambda: now), list[Write]()
            entry = None if edit is None else edit.before
            if edit is not None and entry is not None and (entry.set_by, entry.set_at) == (setter, listed.set_at):
                writes.append(partial(_add_edit, self._lists, edit))
            return self._change(action, ActionEvent(kind="entry_removed", entry=listed), SYSTEM, now, writes)

        return self._retried(attempt)

    def _change(
        self, before: Action, event: ActionEvent, actor: Actor, now: datetime, writes: "list[Write] | None" = None
    ) -> Action:
        """Write an action after an event, and what belongs to it. Nothing is written if the event alters nothing."""
        after = before.after(event, actor, now, self._terms)
        if after is before:
            return before
        all_writes = [self._action(before, after), *(writes or [])]
        more = _details(event) | {"action_id": before.action_id}
        if after.state is not before.state and after.state in ON_ACCOUNT:
            account = self._account(before.account_id)
            changed = account.after(_of_account(after), now)
            if changed is not account:
                all_writes.append(self._status(account, changed))
                more["status"] = changed.state.value
        said = Said(event.kind, "action", after.state, after.version, actor, more)
        self._write(_chain(before.account_id), said, now, all_writes)
        return after

    # ---- orders --------------------------------------------------------------------------------------------------

    def order(self, asked: Ordered, actor: Actor, now: datetime) -> Order:
        """Take an order, and carry it out unless it needs a second lead. The same order once more alters nothing.

        Raises ForbiddenError for anybody but a lead, and OrderConflictError for another order of the same id.
        """
        given = Order.given(asked, actor, now, self._alone_max)

        def attempt() -> Order:
            known = self._order(asked.order_id)
            if known is None:
                self._write_order(None, given, "ordered", actor, asked.reason)
                return given
            if not known.says(given):
                raise OrderConflictError(known.now)
            return known

        return self._carried_out(self._retried(attempt), now)

    def approve(self, order_id: str, reason: str, actor: Actor, now: datetime) -> Order:
        """Approve an order, and carry it out. Raises NotFoundError, ForbiddenError and OrderConflictError."""
        decide = partial(self._decide, order_id, lambda order: order.approved(actor, reason, now), actor, reason)
        return self._carried_out(self._retried(decide), now)

    def cancel(self, order_id: str, reason: str, actor: Actor, now: datetime) -> Order:
        """Cancel an order. Raises NotFoundError, ForbiddenError and OrderConflictError."""
        return self._retried(
            partial(self._decide, order_id, lambda order: order.cancelled(actor, reason, now), actor, reason)
        )

    def get_order(self, order_id: str) -> Order:
        """Read an order consistently. Raises NotFoundError."""
        with translate_errors(PynamoDBException):
            return self._known_order(order_id)

    def carry_out(self, order_id: str, now: datetime) -> Order:
        """Open the actions of an approved order that a dead call has left."""
        return self._carried_out(self.get_order(order_id), now)

    def _carried_out(self, order: Order, now: datetime) -> Order:
        if order.state is not OrderState.APPROVED:
            return order
        found = {each: self.open(each, order.cause, now) for each in order.account_ids}
        actions = {each: None if action is None else action.action_id for each, action in found.items()}
        return self._retried(
            partial(self._decide, order.order_id, lambda known: known.done(actions, now), SYSTEM, None)
        )

    def _decide(self, order_id: str, decide: Callable[[Order], Order], actor: Actor, reason: str | None) -> Order:
        before = self._known_order(order_id)
        after = decide(before)
        if after is not before:
            self._write_order(before, after, after.state, actor, reason)
        return after

    def _known_order(self, order_id: str) -> Order:
        if (order := self._order(order_id)) is None:
            raise NotFoundError
        return order

    def _order(self, order_id: str) -> Order | None:
        try:
            row = self._orders.get(f"{ORDER}#{order_id}", ORDER, consistent_read=True)
        except DoesNotExist:
            return None
        return Order.model_validate_json(row.document)

    def _write_order(self, before: Order | None, after: Order, what: str, actor: Actor, reason: str | None) -> None:
        ended = after.state in {OrderState.DONE, OrderState.CANCELLED}
        values = _document(after, ORDER) | {"ttl": self._ttl(after.changed_at) if ended else None}
        row = self._orders(f"{ORDER}#{after.order_id}", ORDER)
        condition = self._unchanged(self._orders, before)
        said = Said(what, "order", after.state, after.version, actor, _without_none(reason=reason))
        writes: list[Write] = [
            lambda each: each.update(row, actions=actions_of(self._orders, values), condition=condition)
        ]
        self._write(f"{ORDER}#{after.order_id}", said, after.changed_at, writes)

    # ---- what the sweep must look at -----------------------------------------------------------------------------

    def due_holds(self, now: datetime) -> Iterator[tuple[str, datetime]]:
        """Yield the accounts whose hold is over, by id, and the time of its end."""
        yield from ((pk.partition("#")[2], at) for pk, at in self.due_in(ACCOUNT, now))

    def due_orders(self, now: datetime) -> Iterator[tuple[str, datetime]]:
        """Yield the approved orders that a dead call may have left, by id, and the time to look at them."""
        yield from ((pk.partition("#")[2], at) for pk, at in self.due_in(ORDER, now))

    # ---- the cap -------------------------------------------------------------------------------------------------

    def _full(self, slot: Slot, now: datetime) -> tuple[str, ...]:
        """Return the scopes in which no slot is left in this hour or day."""
        found: dict[str, None] = {}
        for period in PERIODS:
            key = {"pk": {"S": cap.key(period, now)}, "sk": {"S": CAP}}
            table = self._caps.Meta.table_name
            answer = self._connection.client.get_item(TableName=table, Key=key, ConsistentRead=True)
            taken = {name: int(value["N"]) for name, value in answer.get("Item", {}).items() if "N" in value}
            found |= dict.fromkeys(cap.full(taken, slot.scopes, self._limits[period]))
        return tuple(found)

    def _slot(self, slot: Slot, now: datetime) -> list[Write]:
        """Return the writes that take a slot of the present hour and day. They fail when one is full by then."""
        return [partial(self._take, slot, period, now) for period in PERIODS]

    def _take(self, slot: Slot, period: cap.Period, now: datetime, transaction: TransactWrite) -> None:
        limits = self._limits[period]
        names = self._caps.names
        condition = names.does_not_exist() | ~names.contains(slot.name)
        for scope in slot.scopes:
            number = Path([scope])
            condition = condition & (number.does_not_exist() | (number < limits.of(scope)))
        added: list[Update] = [Path([scope]).add(1) for scope in slot.scopes]
        actions = [*added, names.add({slot.name}), self._caps.ttl.set(self._ttl(now))]
        transaction.update(self._caps(cap.key(period, now), CAP), actions=actions, condition=condition)

    # ---- rows ----------------------------------------------------------------------------------------------------

    def read(self, name: str) -> tuple[ActionRow, Action]:
        """Read an action consistently, with its row. Raises NotFoundError and PynamoDB's errors."""
        try:
            row = self._rows.get(name, ACTION, consistent_read=True)
        except DoesNotExist:
            raise NotFoundError from None
        return row, Action.model_validate_json(row.document)

    def _account(self, account_id: str) -> Account:
        try:
            row = self._accounts.get(_chain(account_id), ACCOUNT, consistent_read=True)
        except DoesNotExist:
            return Account(account_id=account_id)
        return Account.model_validate_json(row.document)

    def _status(self, before: Account, after: Account) -> Write:
        """Return the write of an account and of the status in its profile."""
        row, profile = self._accounts(_chain(after.account_id), ACCOUNT), self._profiles(_chain(after.account_id))
        condition = self._unchanged(self._accounts, before if before.version else None)

        def write(transaction: TransactWrite) -> None:
            values = _document(after, ACCOUNT)
            transaction.update(row, actions=actions_of(self._accounts, values), condition=condition)
            transaction.update(profile, actions=[self._profiles.status.set(after.profile)])

        return write

    def _action(self, before: Action | None, after: Action) -> Write:
        """Return the write of an action. The row is updated and not put, so the token of a wait stays."""
        kept = after.state in ENDED and after.state is not State.CLOSED
        listed = WAITING.get(after.state)
        values = _document(after, ACTION) | {
            "account_id": after.account_id,
            "opened_at": utc(after.opened_at),
            "waiting": listed,
            "since": None if listed is None else utc(after.changed_at),
            "ttl": self._ttl(after.changed_at) if kept else None,
        }
        row, condition = self._rows(after.action_id, ACTION), self._unchanged(self._rows, before)
        return lambda each: each.update(row, actions=actions_of(self._rows, values), condition=condition)

    def _unchanged(self, rows: Any, before: Any) -> Any:  # noqa: ANN401 - one of the four kinds of row
        return rows.pk.does_not_exist() if before is None else rows.version == before.version

    def _write(self, chain: str, said: Said, now: datetime, writes: "list[Write]") -> None:
        """Write a change and its audit row in one transaction, or nothing if another writer was faster."""
        head = self._trail.head(chain)
        document = {"what": said.what, "of": said.of, "state": said.state, "version": said.version}
        text = json.dumps(document | {"role": said.actor.role} | dict(said.more), sort_keys=True)
        row = self._trail.row(head, head.next_at(now), by=said.actor.name, document=text)
        with TransactWrite(connection=self._connection) as transaction:
            for write in writes:
                write(transaction)
            self._trail.add(transaction, row)

    def _ttl(self, at: datetime) -> int:
        return int(at.timestamp()) + self._kept_s

    def _retried(self, attempt: Callable[[], T]) -> T:
        return retry_conflicts(lambda _: attempt(), PynamoDBException)

    def _page(self, index: Any, keys: tuple[str, str, str], cursor: str | None, *, latest_first: bool) -> ActionPage:  # noqa: ANN401
        """Read a page of an index. keys: partition key, its value, and sort key."""
        hash_name, value, sort_name = keys
        start = None
        if cursor is not None:
            sort, name = parts_of(cursor, 2)
            key = {hash_name: value, sort_name: sort, "pk": name, "sk": ACTION}
            start = {attribute: {"S": text} for attribute, text in key.items()}
        how = {"scan_index_forward": not latest_first, "limit": ACTIONS_PER_PAGE, "last_evaluated_key": start}
        with translate_errors(PynamoDBException):
            found = index.query(value, **how)
            actions = [ActionView.of(Action.model_validate_json(row.document)) for row in found]
            return ActionPage(actions=actions, cursor=cursor_of(found.last_evaluated_key, sort_name, "pk"))


def _add_edit(lists: Lists, edit: ListEdit, transaction: TransactWrite) -> None:
    lists.add(transaction, edit)


def _chain(account_id: str) -> str:
    """Return the name of an account's audit chain: that of its profile and of its row, too."""
    return f"account#{account_id}"


def _document(row: Account | Action | Order, kind: str) -> dict[str, Any]:
    """Return the attributes that all rows have. The token is none of them: only a wait changes it."""
    look = row.next_look()
    return {
        "document": row.model_dump_json(),
        "version": row.version,
        "waits": None if look is None else kind,
        "act_at": None if look is None else utc(look),
    }


def _of_account(action: Action) -> AccountEvent:
    """Return the event of the account that belongs to the state of an action."""
    ends = action.state is State.RESTORED and action.undo == "reinstatement" and action.cause.kind == "finding"
    reason = hold_reason(action.cause.id) if ends else None
    return AccountEvent(kind=ON_ACCOUNT[action.state], action_id=action.action_id, reason=reason)


def _details(event: ActionEvent) -> dict[str, Any]:
    """Return what an event says, as the audit chain keeps it: of an appeal the SHA-256 of its text."""
    text = None if event.text is None else sha256(event.text.encode()).hexdigest()
    entry = None if event.entry is None else f"{event.entry.kind}#{event.entry.value}"
    said = event.model_dump(include={"reason", "told", "appeal_id", "step", "run"})
    return _without_none(**said, text_sha256=text, entry=entry, acknowledged=event.status)


def _without_none(**said: Any) -> dict[str, Any]:  # noqa: ANN401
    return {name: value for name, value in said.items() if value is not None}


def _actor(cause: Cause) -> Actor:
    """Return who has caused an action: a person gives findings and orders, the system some findings."""
    return SYSTEM if cause.by == SYSTEM.name else Actor(cause.by, "lead" if cause.kind == "order" else "analyst")


def _is_read(expires_at: str | None, now: datetime) -> bool:
    """Whether an entry of the deny list is in force for a payment that may still come."""
    return denies({"deny": {"expires_at": expires_at}}, now - MAX_AGE)
