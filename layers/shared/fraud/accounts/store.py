"""The store of accounts: status and holds, actions, and orders.

Every change is one DynamoDB transaction (`fraud.accounts.transactions`): the row that it is about; the next row of the
account's audit chain; and all that the step does, be it the account's status with its copy in the profile, slots of the
cap, or an entry of a list with its own trail. So nothing is ever half done, whatever the point of death (D-127). Of two
writers at once one reads again and is judged anew.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from functools import partial
from hashlib import sha256
from typing import Any, TypeVar

from pynamodb.exceptions import PynamoDBException
from pynamodb.transactions import TransactWrite

from fraud.accounts import cap
from fraud.accounts.action import SYSTEM, Action, ActionEvent, Actor, Cause, ListedValue, Terms
from fraud.accounts.cap import Slot
from fraud.accounts.denial import Value
from fraud.accounts.moves import ActionState
from fraud.accounts.order import Order, Ordered, OrderState
from fraud.accounts.requests import AccountView, ActionPage, ActionView, HoldRequest
from fraud.accounts.rows import ACCOUNT, ACTION, ORDER, OWED, ActionRow
from fraud.accounts.status import Account, AccountEvent, Hold
from fraud.accounts.status import EventKind as AccountEventKind
from fraud.accounts.transactions import Said, Transactions, Write, chain_of, order_key
from fraud.activity.page import AccountPage
from fraud.aws.boto import retry_conflicts, translate_errors
from fraud.aws.cursor import cursor_of, parts_of
from fraud.aws.followed import FollowedStore
from fraud.errors import CapReachedError, Fault, InvalidRequestError, NotFoundError, OrderConflictError
from fraud.lists.entry import DenyRequest, ListKey, page_before
from fraud.lists.store import ListEdit, Lists
from fraud.rules.standing import denies
from fraud.settings import Settings
from fraud.transaction import MAX_AGE

ACTIONS_PER_PAGE = 20

ON_ACCOUNT: Mapping[ActionState, AccountEventKind] = {
    ActionState.HELD: "frozen",
    ActionState.DEACTIVATED: "deactivated",
    ActionState.RESTORED: "restored",
    ActionState.CANCELLED: "ended",
    ActionState.COMPENSATED: "ended",
    ActionState.REINSTATED: "ended",
}
"""The event of the account that belongs to the state that an action reaches: both are written together."""

SETTER = "action#{action_id}"
"""Who has set the list entries of an action."""

T = TypeVar("T")


class Accounts(FollowedStore[Action]):
    """The store of accounts.

    Every method raises UnavailableError when a table does not respond, and ServiceError when it refuses a request.
    """

    def __init__(self, settings: Settings) -> None:
        self._write = Transactions(settings)
        super().__init__(self._write.actions, ACTION, ACTION)
        self._lists = Lists(settings)
        seconds = settings.action_queue_seconds, settings.notice_seconds, settings.appeal_window_seconds
        self._terms = Terms(*(timedelta(seconds=each) for each in (*seconds, settings.appeal_review_seconds)))
        self._alone_max = settings.order_alone_max

    # ---- accounts ------------------------------------------------------------------------------------------------

    def account(self, account_id: str) -> Account:
        """Read the status of an account consistently. An account that was never stopped is active."""
        with translate_errors(PynamoDBException):
            return self._write.account(account_id)

    def view(self, account_id: str, facts: AccountPage | None = None, before: str | None = None) -> AccountView:
        """Read an account with its action and its latest changes, or those before a time.

        Raises InvalidRequestError for a time that is none.
        """
        until = None if before is None else page_before(before)
        with translate_errors(PynamoDBException):
            account = self._write.account(account_id)
            action = None if account.action_id is None else self.read(account.action_id)[1]
            return AccountView.of(account, action, self._write.history(account_id, until), facts)

    def hold(self, account_id: str, request: HoldRequest, actor: Actor, now: datetime) -> Account:
        """Put a hold on an account. The same request once more alters nothing.

        Raises InvalidRequestError for an end that does not lie ahead, AccountConflictError for an account that is
        stopped otherwise, and CapReachedError.
        """
        if request.until is not None and request.until <= now:
            raise InvalidRequestError((Fault("until", "expires_at_past", "must lie ahead"),))
        hold = Hold(reason=request.reason, until=request.until, by=actor.name, at=now)
        return self._changed(account_id, AccountEvent(kind="held", hold=hold), actor, now)

    def release(self, account_id: str, reason: str, actor: Actor, now: datetime) -> Account:
        """Release the hold of an account. The same request once more alters nothing. Raises AccountConflictError."""
        return self._changed(account_id, AccountEvent(kind="released", reason=reason), actor, now)

    def end_hold(self, account_id: str, now: datetime) -> Account:
        """End the hold of an account whose time is over."""
        return self._changed(account_id, AccountEvent(kind="hold_ended"), SYSTEM, now)

    def end_hold_of_case(self, account_id: str, case_id: str, now: datetime) -> Account:
        """End the hold that the system has put on for a case, also while an action stops the account."""
        return self._changed(account_id, AccountEvent(kind="case_ended", case_id=case_id), SYSTEM, now)

    def _changed(self, account_id: str, event: AccountEvent, actor: Actor, now: datetime) -> Account:
        def attempt() -> Account:
            before = self._write.account(account_id)
            after = before.after(event, now)
            if after is before:
                return before
            writes = [self._write.account_write(before, after)]
            if event.kind == "held":
                slot = Slot(before.slot, cap.scopes(actor.name))
                if full := self._write.full(slot, now):
                    raise CapReachedError(full)
                writes += self._write.slot_writes(slot, now)
            more = _known(reason=event.hold.reason if event.hold is not None else event.reason, case_id=event.case_id)
            said = Said(event.kind, "account", after.state, after.version, actor, more)
            self._write.write(chain_of(account_id), said, now, writes)
            return after

        return _retried(attempt)

    # ---- actions -------------------------------------------------------------------------------------------------

    def action(self, action_id: str) -> Action:
        """Read an action consistently. Raises NotFoundError."""
        return self.followed(action_id)

    def actions_of(self, account_id: str, cursor: str | None = None) -> ActionPage:
        """Read a page of an account's actions, the latest first. Raises InvalidRequestError for no cursor."""
        return self._page(self._rows.of_account, ("account_id", account_id, "opened_at"), cursor, latest_first=True)

    def waiting(self, state: str, cursor: str | None = None) -> ActionPage:
        """Read a page of the actions that wait for a lead, the earliest first. state: `queued` or `appealed`."""
        return self._page(self._rows.by_wait, ("waiting", state, "since"), cursor, latest_first=False)

    def open(self, account_id: str, cause: Cause, now: datetime) -> Action | None:
        """Open an action against an account; None when another one has the account. Once more alters nothing."""

        def attempt() -> Action | None:
            action = Action.for_cause(account_id, cause, now)
            try:
                return self.read(action.action_id)[1]
            except NotFoundError:
                account = self._write.account(account_id)
            if account.action_id is not None:
                return None
            after = account.after(AccountEvent(kind="opened", action_id=action.action_id), now)
            more = {"action_id": action.action_id, "reason": cause.reason, "cause": f"{cause.kind}#{cause.id}"}
            said = Said("opened", "action", action.state, action.version, _actor(cause), more)
            writes = [self._write.action_write(None, action), self._write.account_write(account, after)]
            self._write.write(chain_of(account_id), said, now, writes)
            return action

        return _retried(attempt)

    def change(self, action_id: str, event: ActionEvent, actor: Actor, now: datetime) -> Action:
        """Carry an event out and return the action after it. The same event once more alters nothing.

        Raises NotFoundError, ForbiddenError, and ActionConflictError when the action does not allow the event.
        """
        return _retried(lambda: self._change(self.read(action_id)[1], event, actor, now))

    def by_clock(self, name: str, event: ActionEvent, now: datetime) -> Action:
        """Carry an event of the clock out. Raises as `change` does."""
        return self.change(name, event, SYSTEM, now)

    def take_slot(self, action_id: str, now: datetime) -> Action:
        """Take a slot of the cap for an action that was opened; above the cap the action is queued."""

        def attempt() -> Action:
            action, event = self.read(action_id)[1], ActionEvent(kind="slot_taken")
            if action.state is not ActionState.OPENED:
                return self._change(action, event, SYSTEM, now)
            slot = Slot(action_id, cap.scopes(action.cause.by, action.cause.rule, action.cause.model_version))
            if self._write.full(slot, now):
                return self._change(action, ActionEvent(kind="cap_reached"), SYSTEM, now)
            return self._change(action, event, SYSTEM, now, self._write.slot_writes(slot, now))

        return _retried(attempt)

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
            return self._change(action, event, SYSTEM, now, [self._list_write(edit)])

        return _retried(attempt)

    def remove_entry(self, action_id: str, listed: ListedValue, now: datetime) -> Action:
        """Take an entry of an action off the deny list, if it is still the action's own."""
        key = ListKey("deny", listed.kind, listed.value)

        def attempt() -> Action:
            action, setter = self.read(action_id)[1], SETTER.format(action_id=action_id)
            edit, writes = self._lists.prepare(key, None, setter, lambda: now), list[Write]()
            entry = None if edit is None else edit.before
            if edit is not None and entry is not None and (entry.set_by, entry.set_at) == (setter, listed.set_at):
                writes.append(self._list_write(edit))
            return self._change(action, ActionEvent(kind="entry_removed", entry=listed), SYSTEM, now, writes)

        return _retried(attempt)

    def _list_write(self, edit: ListEdit) -> Write:
        def write(transaction: TransactWrite) -> None:
            self._lists.add(transaction, edit)

        return write

    def _change(
        self, before: Action, event: ActionEvent, actor: Actor, now: datetime, writes: "list[Write] | None" = None
    ) -> Action:
        """Write an action after an event, and what belongs to it. Nothing is written if the event alters nothing."""
        after = before.after(event, actor, now, self._terms)
        if after is before:
            return before
        all_writes = [self._write.action_write(before, after), *(writes or [])]
        more = _details(event) | {"action_id": before.action_id}
        if after.state is not before.state and after.state in ON_ACCOUNT:
            account = self._write.account(before.account_id)
            changed = account.after(of_account(after), now)
            if changed is not account:
                all_writes.append(self._write.account_write(account, changed))
                more["status"] = changed.state.value
        said = Said(event.kind, "action", after.state, after.version, actor, more)
        self._write.write(chain_of(before.account_id), said, now, all_writes)
        return after

    def read(self, name: str) -> tuple[ActionRow, Action]:
        """Read an action consistently, with its row. Raises NotFoundError and PynamoDB's errors."""
        return self._write.action(name)

    # ---- orders --------------------------------------------------------------------------------------------------

    def order(self, asked: Ordered, actor: Actor, now: datetime) -> Order:
        """Take an order, and carry it out unless it needs a second lead. The same order once more alters nothing.

        Raises ForbiddenError for anybody but a lead, and OrderConflictError for another order of the same id.
        """
        given = Order.given(asked, actor, now, self._alone_max)

        def attempt() -> Order:
            known = self._write.order(asked.order_id)
            if known is None:
                self._write_order(None, given, "ordered", actor, asked.reason)
                return given
            if not known.says(given):
                raise OrderConflictError(known.now)
            return known

        return self._carried_out(_retried(attempt), now)

    def approve(self, order_id: str, reason: str, actor: Actor, now: datetime) -> Order:
        """Approve an order, and carry it out. Raises NotFoundError, ForbiddenError and OrderConflictError."""
        approved = self._decided(order_id, lambda order: order.approved(actor, reason, now), actor, reason)
        return self._carried_out(approved, now)

    def cancel(self, order_id: str, reason: str, actor: Actor, now: datetime) -> Order:
        """Cancel an order. Raises NotFoundError, ForbiddenError and OrderConflictError."""
        return self._decided(order_id, lambda order: order.cancelled(actor, reason, now), actor, reason)

    def get_order(self, order_id: str) -> Order:
        """Read an order consistently. Raises NotFoundError."""
        with translate_errors(PynamoDBException):
            return self._order(order_id)

    def carry_out(self, order_id: str, now: datetime) -> Order:
        """Open the actions of an approved order that a dead call has left."""
        return self._carried_out(self.get_order(order_id), now)

    def _carried_out(self, order: Order, now: datetime) -> Order:
        if order.state is not OrderState.APPROVED:
            return order
        found = {each: self.open(each, order.cause, now) for each in order.account_ids}
        actions = {each: None if action is None else action.action_id for each, action in found.items()}
        return self._decided(order.order_id, lambda known: known.done(actions, now), SYSTEM, None)

    def _decided(self, order_id: str, decide: Callable[[Order], Order], actor: Actor, reason: str | None) -> Order:
        def attempt() -> Order:
            before = self._order(order_id)
            after = decide(before)
            if after is not before:
                self._write_order(before, after, after.state, actor, reason)
            return after

        return _retried(attempt)

    def _order(self, order_id: str) -> Order:
        if (order := self._write.order(order_id)) is None:
            raise NotFoundError
        return order

    def _write_order(self, before: Order | None, after: Order, what: str, actor: Actor, reason: str | None) -> None:
        said = Said(what, "order", after.state, after.version, actor, _known(reason=reason))
        writes = [self._write.order_write(before, after)]
        self._write.write(order_key(after.order_id), said, after.changed_at, writes)

    # ---- lists ---------------------------------------------------------------------------------------------------

    def due_holds(self, now: datetime) -> Iterator[tuple[str, datetime]]:
        """Yield the accounts whose hold is over, by id, and the time of its end."""
        yield from ((pk.partition("#")[2], at) for pk, at in self.due_in(ACCOUNT, now))

    def due_orders(self, now: datetime) -> Iterator[tuple[str, datetime]]:
        """Yield the approved orders that a dead call may have left, by id, and the time to look at them."""
        yield from ((pk.partition("#")[2], at) for pk, at in self.due_in(ORDER, now))

    def due_ends(self, now: datetime) -> Iterator[tuple[str, datetime]]:
        """Yield the actions of whose end the bus must still be told, by id, and the time to look at them."""
        yield from self.due_in(OWED, now)

    def end_told(self, action: Action) -> None:
        """Note that the bus was told of the end of an action."""
        self.look_again(action, None)

    def _page(
        self,
        index: Any,  # noqa: ANN401 - one of two indexes
        keys: tuple[str, str, str],
        cursor: str | None,
        *,
        latest_first: bool,
    ) -> ActionPage:
        """Read a page of an index. keys: name of the partition key, its value, and name of the sort key."""
        hash_name, value, sort_name = keys
        start = None
        if cursor is not None:
            sort, name = parts_of(cursor, 2)
            key = {hash_name: value, sort_name: sort, "pk": name, "sk": ACTION}
            start = {attribute: {"S": text} for attribute, text in key.items()}
        ask = partial(index.query, value, scan_index_forward=not latest_first, limit=ACTIONS_PER_PAGE)
        with translate_errors(PynamoDBException):
            found = ask(last_evaluated_key=start)
            actions = [ActionView.of(Action.model_validate_json(row.document)) for row in found]
            return ActionPage(actions=actions, cursor=cursor_of(found.last_evaluated_key, sort_name, "pk"))


def _retried(attempt: Callable[[], T]) -> T:
    return retry_conflicts(lambda _: attempt(), PynamoDBException)


def of_account(action: Action) -> AccountEvent:
    """Return the event of the account that belongs to the state of an action.

    With a reinstatement, or an action that a lead has cancelled, the hold of its case by the system ends, too.
    """
    back = action.state is ActionState.RESTORED and action.undo == "reinstatement"
    decided = action.queue_decision is not None and action.queue_decision.decision == "cancelled"
    ends = action.cause.kind == "finding" and (back or decided)
    case_id = action.cause.id if ends else None
    return AccountEvent(kind=ON_ACCOUNT[action.state], action_id=action.action_id, case_id=case_id)


def _details(event: ActionEvent) -> dict[str, Any]:
    """Return what an event says, as the audit chain keeps it: of an appeal the SHA-256 of its text."""
    text = None if event.text is None else sha256(event.text.encode()).hexdigest()
    entry = None if event.entry is None else f"{event.entry.kind}#{event.entry.value}"
    said = event.model_dump(include={"reason", "told", "appeal_id", "step", "run"})
    return _known(**said, text_sha256=text, entry=entry, acknowledged=event.status)


def _known(**said: Any) -> dict[str, Any]:  # noqa: ANN401
    return {name: value for name, value in said.items() if value is not None}


def _actor(cause: Cause) -> Actor:
    """Return who has caused an action: a lead gives orders, an analyst or the system findings."""
    return SYSTEM if cause.by == SYSTEM.name else Actor(cause.by, "lead" if cause.kind == "order" else "analyst")


def _is_read(expires_at: str | None, now: datetime) -> bool:
    """Whether an entry of the deny list is in force for a payment that may still come."""
    return denies({"deny": {"expires_at": expires_at}}, now - MAX_AGE)
