"""The intake of accounts: which events of the bus lead to an action or a hold. Pure.

An event may come again, in any order. The row of the case is asked for what an event does not say, and whether what an
event asks for still holds.
"""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any, Protocol

from fraud.accounts.action import SYSTEM, Action, ActionEvent, Actor, Cause
from fraud.accounts.requests import HoldRequest
from fraud.accounts.status import MOST_REASON, Account, held_case, hold_reason
from fraud.cases.case import USUALLY, Case
from fraud.cases.moves import State as CaseState
from fraud.decisions.record import Contents
from fraud.decisions.resolution import Resolution
from fraud.errors import AccountConflictError, CapReachedError, NotFoundError
from fraud.executions import Executions
from fraud.person import SYSTEM_NAME

FRAUD, OFFENDER = "fraud", "offender"
NO_REASON = "A case has found fraud."


class AccountTable(Protocol):
    """The part of `accounts.store.Accounts` that the intake needs."""

    def account(self, account_id: str) -> Account:
        """Read an account."""

    def hold(self, account_id: str, request: HoldRequest, actor: Actor, now: datetime) -> Account:
        """Put a hold on an account."""

    def end_hold_of_case(self, account_id: str, case_id: str, now: datetime) -> Account:
        """End the hold that the system has put on for a case."""

    def open(self, account_id: str, cause: Cause, now: datetime) -> Action | None:
        """Open an action."""

    def action(self, action_id: str) -> Action:
        """Read an action."""

    def change(self, action_id: str, event: ActionEvent, actor: Actor, now: datetime) -> Action:
        """Carry an event out."""


class CaseReader(Protocol):
    """The part of `cases.store.Cases` that the intake needs."""

    def get(self, name: str) -> Case:
        """Read a case."""


class DecisionReader(Protocol):
    """The part of `decisions.worker.Resolutions` that the intake needs."""

    def read(self, transaction_id: str) -> tuple[Contents, Resolution]:
        """Read a decision."""


class AccountIntake:
    """Takes events of the bus. Every call may be repeated, and raises ServiceError.

    cap_reached  called when the cap keeps a hold from being put on: the case goes to an analyst all the same
    """

    def __init__(
        self,
        accounts: AccountTable,
        cases: CaseReader,
        decisions: DecisionReader,
        executions: Executions[Action],
        cap_reached: Callable[[], None],
    ) -> None:
        self._accounts = accounts
        self._cases = cases
        self._decisions = decisions
        self._executions = executions
        self._cap_reached = cap_reached

    def take(self, event: Mapping[str, Any], now: datetime) -> Action | Account | None:
        """Do what an event asks for, and return what it has changed; None for nothing.

        Raises KeyError for an event that the intake does not know: a rule of the template sends too much.
        """
        return _TAKEN[event["detail-type"]](self, event["detail"], now)

    def ended(self, action: Action, now: datetime) -> None:
        """Take that the execution of an open action is over: the event that tells so was lost."""
        self._accounts.change(action.action_id, ActionEvent(kind="resumed", run=action.run), SYSTEM, now)

    def _closed(self, detail: Mapping[str, Any], now: datetime) -> Action | Account | None:
        """Take the end of a case: an offender's account gets an action, and of any other the system's own hold ends.

        A blind case stops no account: it has not asked which side of the payment is the offender (D-137).
        """
        case = self._cases.get(detail["case_id"])
        if case.kind == "sample":
            return None
        if detail["finding"] != FRAUD or (detail.get("subject_is") or USUALLY[case.subject_kind]) != OFFENDER:
            return self._released(case, now)
        action = self._accounts.open(case.subject_id, self._cause(case), now)
        if action is not None:
            self._executions.start(action)
        return action

    def _released(self, case: Case, now: datetime) -> Account | None:
        """End the system's hold for a case, or for an earlier one that has failed: this case has followed it."""
        hold = self._accounts.account(case.subject_id).hold
        if hold is None or not hold.is_for(case.case_id):
            return None
        held = held_case(hold.reason)
        if held != case.case_id and self._cases.get(held).state is not CaseState.FAILED:
            return None
        return self._accounts.end_hold_of_case(case.subject_id, held, now)

    def _hold_requested(self, detail: Mapping[str, Any], now: datetime) -> Account | None:
        """Put a hold on the subject of a case that is still open, unless the account is stopped or the cap reached."""
        case = self._cases.get(detail["case_id"])
        if case.state in {CaseState.CLOSED, CaseState.FAILED}:
            return None
        request = HoldRequest(reason=hold_reason(case.case_id), until=None)
        try:
            held = self._accounts.hold(case.subject_id, request, SYSTEM, now)
            case = self._cases.get(case.case_id)  # its end may have found no hold
            is_over = case.state is CaseState.CLOSED and not case.blames_subject
            return self._released(case, now) if is_over else held
        except CapReachedError:
            self._cap_reached()
        except AccountConflictError:
            pass
        return None

    def _ended(self, detail: Mapping[str, Any], now: datetime) -> Action | None:
        """Take the end of an execution that has not ended its action: the sweep starts the next one."""
        name, _, run = detail["name"].partition("-")
        event = ActionEvent(kind="resumed", run=int(run or 1))
        with suppress(NotFoundError):
            return self._accounts.change(name, event, SYSTEM, now)
        return None

    def _cause(self, case: Case) -> Cause:
        verdict = case.verdict
        payments = () if verdict is None else verdict.transaction_ids
        return Cause(
            kind="finding",
            id=case.case_id,
            by=SYSTEM_NAME if verdict is None else verdict.by,
            reason=(verdict.reason if verdict is not None else "")[:MOST_REASON] or NO_REASON,
            rule=next(iter(case.reasons), None),
            model_version=self._model_version(payments[0]) if payments else None,
            transaction_ids=payments,
        )

    def _model_version(self, transaction_id: str) -> str | None:
        """Return the model that scored a payment; None for a payment that no model has scored here."""
        with suppress(NotFoundError):
            contents, _ = self._decisions.read(transaction_id)
            version: str | None = json.loads(contents.answer)["model"]["version"]
            return version
        return None


_TAKEN: Mapping[str, Callable[[AccountIntake, Mapping[str, Any], datetime], Action | Account | None]] = {
    "CaseClosed": AccountIntake._closed,  # noqa: SLF001 - its own class
    "HoldRequested": AccountIntake._hold_requested,  # noqa: SLF001
    "Step Functions Execution Status Change": AccountIntake._ended,  # noqa: SLF001
}
"""What is done with each event, by its detail-type."""
