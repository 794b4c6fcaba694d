"""The steps of the machine `deactivation`: what is done for an action, one function for each state.

The row of the action is the truth. Each function reads it, does its step if the row still asks for it, and says which
step is next. A step may be repeated, and each of its writes is whole or not there. So after a kill, a retry or a second
delivery any execution goes on where the row stands.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Protocol

from pydantic_core import to_json

from fraud.accounts.action import SYSTEM, Action, ActionEvent
from fraud.accounts.denial import DeactivationPolicy, Settlement, denied
from fraud.accounts.events import (
    AccountDeactivated,
    AccountNotices,
    AccountReinstated,
    ActionFailed,
    ActionQueued,
    AppealOverdue,
    AppealReceived,
    tell_end,
    tell_unacknowledged,
)
from fraud.accounts.metrics import (
    log_appeal_overdue,
    log_cap_reached,
    log_compensated,
    log_not_void,
)
from fraud.accounts.moves import ActionState
from fraud.accounts.store import Accounts
from fraud.activity.links import Entity
from fraud.activity.store import Activity
from fraud.decisions.resolution import Resolution
from fraud.decisions.void import NO_MONEY, is_read
from fraud.decisions.worker import Resolutions
from fraud.errors import NotFoundError, ResolvedError, ServiceError
from fraud.executions import Executions, Wait
from fraud.labels.label import MAX_LABELS, LabelBatch, LabelResult
from fraud.labels.metrics import log_labels
from fraud.labels.store import LabelStore
from fraud.transaction import Transaction, utc

DOOR = "deactivation"
FINISH = "Finish"

SOURCE = "analyst"
"""The source of the labels that follow from a reinstatement: that of the findings that they correct."""

LAST_RESORT = timedelta(days=30)
"""For so long an execution waits after the time of its state is over. The sweep is there long before."""


class Attempts(Protocol):
    """The counters of attempts, as a reinstatement checks them."""

    def not_void(self, transactions: list[Transaction]) -> list[Transaction]:
        """Return the attempts that are counted and not void."""


class Parts(NamedTuple):
    """All that the steps work with."""

    accounts: Accounts
    executions: Executions[Action]
    decisions: Resolutions
    attempts: Attempts
    activity: Activity
    labels: LabelStore
    notices: AccountNotices
    policy: DeactivationPolicy
    clock: Callable[[], datetime]


class Deactivation:
    """The steps of the machine `deactivation`. Each may be repeated, and raises FraudError."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def run(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """Carry out the state that the machine names, and return the next one.

        Raises KeyError for an input that no definition ever sent.
        """
        step, action = STEPS[event["state"], event["version"]], self._parts.accounts.action(event["action_id"])
        if event["state"] in ANY_TIME or action.step == event["state"]:
            action = step(self, action, event)
        elif "token" in event:
            self._parts.executions.send(action, event["token"])
        left = LAST_RESORT if action.due is None else LAST_RESORT + (action.due - self._parts.clock())
        return {"next": action.step or FINISH, "timeout_seconds": max(int(left.total_seconds()), 1)}

    # ---- to deactivation -----------------------------------------------------------------------------------------

    def follow(self, action: Action, _event: Mapping[str, Any]) -> Action:
        """Tell of the end of an action, if it has ended. Else there is nothing to do but to say what is next."""
        if action.owed is not None:
            tell_end(self._parts.notices.publish, action, DOOR)
            self._parts.accounts.end_told(action)
        return action

    def take_slot(self, action: Action, _event: Mapping[str, Any]) -> Action:
        """Take a slot of the cap. Above it the action is queued."""
        after = self._parts.accounts.take_slot(action.action_id, self._parts.clock())
        if after.state is ActionState.QUEUED:
            log_cap_reached("action", DOOR)
        return after

    def await_release(self, action: Action, event: Mapping[str, Any]) -> Action:
        """Keep the token of the wait for a lead, and tell of the queue."""
        if self._wait(action, event["token"]):
            due = None if action.due is None else utc(action.due)
            self._parts.notices.publish(ActionQueued.of(action, due or "", due=due))
        return action

    def hold(self, action: Action, _event: Mapping[str, Any]) -> Action:
        """Hold the account."""
        return self._change(action, "held")

    def settle_payments(self, action: Action, _event: Mapping[str, Any]) -> Action:
        """Decline or release the payments of the account that still wait in review, by the policy."""
        now, rule = self._parts.clock(), self._parts.policy.in_review
        for payment, _ in self._payments(action, now):
            change: Settlement | None = rule.payer if payment.payer_id == action.account_id else rule.payee
            if change is not None:
                with suppress(NotFoundError, ResolvedError):  # it does not wait in review
                    self._parts.decisions.change(payment.transaction_id, change, now)
        return self._change(action, "settled")

    def deny_instruments(self, action: Action, _event: Mapping[str, Any]) -> Action:
        """Put the account's instruments and devices on the deny list that no honest account shares."""
        now, rule = self._parts.clock(), self._parts.policy.deny
        links = self._parts.activity.links(Entity("account", action.account_id), now.date())
        left = rule.model_copy(update={"most": rule.most - len(action.entries)})
        for value in denied(links, left, now.date(), self._is_stopped):
            self._parts.accounts.deny(action.action_id, value, now)
        return self._change(action, "listed")

    def deactivate(self, action: Action, _event: Mapping[str, Any]) -> Action:
        """Deactivate the account."""
        return self._change(action, "deactivated")

    # ---- notices and appeals -------------------------------------------------------------------------------------

    def notify(self, action: Action, event: Mapping[str, Any]) -> Action:
        """Keep the token of the wait for the app, and tell the app of the account's status."""
        if self._wait(action, event["token"]):
            kind = AccountReinstated if action.state is ActionState.CORRECTED else AccountDeactivated
            self._parts.notices.publish(kind.of(action, f"{action.notices}", notice=action.notices))
        return action

    def await_appeal(self, action: Action, event: Mapping[str, Any]) -> Action:
        """Keep the token of the wait for an appeal, and tell if the app has not acknowledged the deactivation."""
        if self._wait(action, event["token"]):
            tell_unacknowledged(self._parts.notices.publish, action, DOOR)
        return action

    def await_review(self, action: Action, event: Mapping[str, Any]) -> Action:
        """Keep the token of the wait for a lead, and tell of the appeal, or that its review is overdue."""
        if self._wait(action, event["token"]) and action.appeal is not None:
            appeal_id = action.appeal.appeal_id
            if action.due is None:
                log_appeal_overdue(action.action_id, DOOR)
                self._parts.notices.publish(AppealOverdue.of(action, appeal_id=appeal_id))
            else:
                self._parts.notices.publish(AppealReceived.of(action, appeal_id=appeal_id, due=utc(action.due)))
        return action

    # ---- back ----------------------------------------------------------------------------------------------------

    def remove_entries(self, action: Action, _event: Mapping[str, Any]) -> Action:
        """Take the action's entries off the deny list, the last one first."""
        for entry in reversed(action.entries):
            self._parts.accounts.remove_entry(action.action_id, entry, self._parts.clock())
        return self._change(action, "unlisted")

    def restore_status(self, action: Action, _event: Mapping[str, Any]) -> Action:
        """Take back what the action has done to the account's status. A hold that was there before stays."""
        return self._change(action, "restored")

    def correct_labels(self, action: Action, _event: Mapping[str, Any]) -> Action:
        """After a reinstatement correct the labels of the case. After a failure tell of it: nothing is left to undo."""
        if action.undo == "compensation":
            step = action.failed_step or ""
            self._parts.notices.publish(ActionFailed.of(action, step=step))
            log_compensated(action.action_id, step, DOOR)
            return self._change(action, "compensated")
        self._write_labels(action)
        self._check_voids(action)
        return self._change(action, "corrected")

    def step_failed(self, action: Action, event: Mapping[str, Any]) -> Action:
        """Begin to undo an action of which a step has failed.

        Raises ServiceError for an action that goes on all the same: the execution fails, and another one follows.
        """
        after = self._parts.accounts.change(
            action.action_id, ActionEvent(kind="failed", step=event["step"]), SYSTEM, self._parts.clock()
        )
        if after.undo != "compensation" or after.failed_step != event["step"]:
            raise ServiceError("StepFailed")
        return after

    # ---- parts ---------------------------------------------------------------------------------------------------

    def _change(self, action: Action, kind: Any) -> Action:  # noqa: ANN401 - a kind of event, which pydantic checks
        return self._parts.accounts.change(action.action_id, ActionEvent(kind=kind), SYSTEM, self._parts.clock())

    def _wait(self, action: Action, token: str) -> bool:
        """Keep a token. If the action has moved on, send the token at once and return False."""
        wait, accounts = action.wait, self._parts.accounts
        if wait is not None and accounts.await_token(action.action_id, Wait(token, wait)):
            return True
        self._parts.executions.send(accounts.action(action.action_id), token)
        return False

    def _is_stopped(self, account_id: str) -> bool:
        return self._parts.accounts.account(account_id).stopped is not None

    def _payments(self, action: Action, now: datetime) -> Iterator[tuple[Transaction, Resolution]]:
        """Yield the payments of the cause and those on the account's timeline, each with its state."""
        recent = self._parts.activity.page(action.account_id, now).recent
        for transaction_id in dict.fromkeys((*action.cause.transaction_ids, *(one.transaction_id for one in recent))):
            with suppress(NotFoundError):
                contents, resolution = self._parts.decisions.read(transaction_id)
                yield Transaction.model_validate_json(contents.transaction), resolution

    def _write_labels(self, action: Action) -> None:
        """Label the payments of the cause as legitimate, by the reviewer. The same label once more changes nothing."""
        if action.review is None:
            return
        said = [self._label(each, action.review.at) for each in action.cause.transaction_ids]
        results: list[LabelResult] = []
        for start in range(0, len(said), MAX_LABELS):
            now = self._parts.clock()
            batch = LabelBatch.parse(to_json({"labels": said[start : start + MAX_LABELS]}), now)
            results += self._parts.labels.accept(batch, SOURCE, action.review.by, now).results
        log_labels(results, SOURCE, DOOR)

    def _label(self, transaction_id: str, at: datetime) -> dict[str, str]:
        """Return a label as a request. Its time is the review's, and never before the payment's own."""
        with suppress(NotFoundError):
            contents, _ = self._parts.decisions.read(transaction_id)
            at = max(at, Transaction.model_validate_json(contents.transaction).occurred_at)
        return {"transaction_id": transaction_id, "label": "legitimate", "reported_at": utc(at)}

    def _check_voids(self, action: Action) -> None:
        """Log how many of the account's attempts moved no money and are not void. Nothing is voided here."""
        now, attempts = self._parts.clock(), list[Transaction]()
        for payment, resolution in self._payments(action, now):
            if payment.payer_id == action.account_id and resolution.status in NO_MONEY and is_read(payment, now):
                attempts.append(payment)
        if left := self._parts.attempts.not_void(attempts):
            log_not_void(action.action_id, len(left), DOOR)


Step = Callable[[Deactivation, Action, Mapping[str, Any]], Action]

STEPS: Mapping[tuple[str, int], Step] = {
    ("Follow", 1): Deactivation.follow,
    ("TakeSlot", 1): Deactivation.take_slot,
    ("AwaitRelease", 1): Deactivation.await_release,
    ("Hold", 1): Deactivation.hold,
    ("SettlePayments", 1): Deactivation.settle_payments,
    ("DenyInstruments", 1): Deactivation.deny_instruments,
    ("Deactivate", 1): Deactivation.deactivate,
    ("Notify", 1): Deactivation.notify,
    ("AwaitAppeal", 1): Deactivation.await_appeal,
    ("AwaitReview", 1): Deactivation.await_review,
    ("RemoveEntries", 1): Deactivation.remove_entries,
    ("RestoreStatus", 1): Deactivation.restore_status,
    ("CorrectLabels", 1): Deactivation.correct_labels,
    ("StepFailed", 1): Deactivation.step_failed,
}
"""The function of each state, by the version of its input.

A running execution keeps its definition: an entry leaves only when no execution that may still ask for it is left.
"""

ANY_TIME = frozenset({"Follow", "StepFailed"})
"""States that have something to do in whatever state the action is."""
