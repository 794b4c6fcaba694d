"""The office: cases and accounts in memory, moved by the library's own machines, intakes, routing, cap and denial.

The tables stand in for `cases.store` and `accounts.store`; which event is allowed and what follows from it is said by
`Case`, `Account` and `Action` as in the deployed system.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime
from types import SimpleNamespace
from typing import Any, NamedTuple

from fraud import packaged
from fraud.accounts import cap
from fraud.accounts.action import Action, ActionEvent, Cause, ListedValue
from fraud.accounts.action import Actor as AccountActor
from fraud.accounts.denial import DeactivationPolicy, denied
from fraud.accounts.moves import ActionState
from fraud.accounts.requests import HoldRequest
from fraud.accounts.status import Account, AccountEvent, Hold
from fraud.cases.case import SYSTEM, Actor, Alert, Case, CaseEvent, Terms
from fraud.cases.moves import State as CaseState
from fraud.cases.transition import apply_event
from fraud.errors import CapReachedError, NotFoundError
from fraud.transaction import Transaction, utc
from models.experiment.parameters import Parameters

ANALYST = Actor("analyst", "analyst")
APP, LEAD = AccountActor("app", "app"), AccountActor("lead", "lead")
ACCOUNT_SYSTEM = AccountActor("system", "system")

ON_ACCOUNT: Mapping[ActionState, str] = {
    ActionState.HELD: "frozen",
    ActionState.DEACTIVATED: "deactivated",
    ActionState.RESTORED: "restored",
    ActionState.CANCELLED: "ended",
    ActionState.COMPENSATED: "ended",
    ActionState.REINSTATED: "ended",
}
"""The event of the account that belongs to the state that an action reaches, as in `accounts.store`."""


class Begun:
    """The executions of rows: called with the name of each row that begins one, once."""

    def __init__(self, begin: Callable[[str], None]) -> None:
        self._begin, self._known = begin, set[str]()

    def start(self, row: Any) -> None:  # noqa: ANN401 - a case or an action
        """Begin the execution of a row that has one, unless it has begun."""
        if row.execution is not None and row.execution not in self._known:
            self._known.add(row.execution)
            self._begin(row.name)


class Cases:
    """All cases by id: the `CaseTable` of the intake."""

    def __init__(self, terms: Terms) -> None:
        self.by_id: dict[str, Case] = {}
        self._terms = terms
        self._of_subject: dict[str, list[str]] = defaultdict(list)
        self._days: dict[str, tuple[datetime, datetime]] = {}

    def get(self, name: str) -> Case:
        """Return a case. Raises NotFoundError."""
        if name not in self.by_id:
            raise NotFoundError
        return self.by_id[name]

    def open(self, alert: Alert, now: datetime, *, day: datetime | None = None) -> Case:
        """Open a case for an alert, or let it join the one of its subject and day."""
        number = 1
        while True:
            name = alert.case_id(day, number)
            case = self.by_id.get(name)
            if case is None:
                self.by_id[name] = Case.for_alert(name, alert, now, self._terms)
                self._of_subject[alert.subject].append(name)
                return self.by_id[name]
            if case.knows(alert):
                return case
            if case.joins:
                return self.change(name, CaseEvent(kind="alerted", alert=alert), SYSTEM, now)
            number += 1

    def report_day(self, alert: Alert, now: datetime, window: Any) -> datetime:  # noqa: ANN401 - a timedelta
        """Return the day whose case a report opens or joins (D-123)."""
        day, since = self._days.get(alert.subject, (alert.occurred_at, now))
        if now - since >= window:
            day, since = alert.occurred_at, now
        self._days[alert.subject] = day, since
        return day

    def change(self, name: str, event: CaseEvent, actor: Actor, now: datetime) -> Case:
        """Carry an event out."""
        self.by_id[name] = apply_event(self.get(name), event, actor, now, self._terms)
        return self.by_id[name]

    def of_subject(self, subject: str) -> Any:  # noqa: ANN401 - the store's Page
        """Return the cases of a subject, the latest first."""
        return SimpleNamespace(cases=[self.by_id[name] for name in reversed(self._of_subject[subject])])

    def queued(self) -> list[Case]:
        """Return the cases that wait for an analyst."""
        return [case for case in self.by_id.values() if case.state is CaseState.QUEUED]


class Link(NamedTuple):
    """A link of an account, as `denial.Linked` reads it."""

    kind: str
    value: str
    last: date
    beyond: list[str]
    crowded: bool = False


class Links:
    """The devices and instruments of accounts, and the accounts of each."""

    def __init__(self) -> None:
        self._of_account: dict[str, dict[tuple[str, str], date]] = defaultdict(dict)
        self._accounts: dict[tuple[str, str], set[str]] = defaultdict(set)

    def see(self, payment: Transaction) -> None:
        """Take a payment's device and instrument."""
        day = payment.occurred_at.date()
        for kind, value in (("device", payment.device_id), ("instrument", payment.instrument_id)):
            if value is not None:
                self._of_account[payment.payer_id][kind, value] = day
                self._accounts[kind, value].add(payment.payer_id)

    def of(self, account: str) -> list[Link]:
        """Return the links of an account."""
        return [
            Link(kind, value, last, [f"account#{one}" for one in sorted(self._accounts[kind, value]) if one != account])
            for (kind, value), last in self._of_account[account].items()
        ]


class Accounts:
    """All accounts that were ever stopped, and the actions against them: the `AccountTable` of the intake.

    profiles  of the counters, which the decisions read
    """

    def __init__(self, parameters: Parameters, profiles: Mapping[str, dict[str, Any]], links: Links) -> None:
        self.actions: dict[str, Action] = {}
        self.links = links
        self._accounts: dict[str, Account] = {}
        self._profiles = profiles
        self._terms = parameters.action_terms
        self._caps: tuple[tuple[cap.Period, cap.Caps], ...] = (
            ("hour", parameters.caps_hour),
            ("day", parameters.caps_day),
        )
        self._slots: dict[str, Counter[str]] = defaultdict(Counter)
        self.policy = DeactivationPolicy.load(packaged.DEACTIVATION.read_bytes())

    def account(self, account_id: str) -> Account:
        """Return an account."""
        return self._accounts.get(account_id) or Account(account_id=account_id)

    def is_stopped(self, account_id: str) -> bool:
        """Tell whether an action has stopped an account."""
        return self.account(account_id).stopped is not None

    def hold(self, account_id: str, request: HoldRequest, actor: AccountActor, now: datetime) -> Account:
        """Put a hold on an account. Raises CapReachedError and AccountConflictError."""
        account = self.account(account_id)
        hold = Hold(reason=request.reason, until=request.until, by=actor.name, at=now)
        after = account.after(AccountEvent(kind="held", hold=hold), now)
        if after is not account and (full := self._take(cap.scopes(actor.name), now)):
            raise CapReachedError(full)
        return self._keep(after)

    def end_hold_of_case(self, account_id: str, case_id: str, now: datetime) -> Account:
        """End the hold that the system has put on for a case."""
        return self._keep(self.account(account_id).after(AccountEvent(kind="case_ended", case_id=case_id), now))

    def open(self, account_id: str, cause: Cause, now: datetime) -> Action | None:
        """Open an action; None when another one has the account."""
        action = Action.for_cause(account_id, cause, now)
        if action.action_id in self.actions:
            return self.actions[action.action_id]
        account = self.account(account_id)
        if account.action_id is not None:
            return None
        self._keep(account.after(AccountEvent(kind="opened", action_id=action.action_id), now))
        self.actions[action.action_id] = action
        return action

    def action(self, action_id: str) -> Action:
        """Return an action. Raises NotFoundError."""
        if action_id not in self.actions:
            raise NotFoundError
        return self.actions[action_id]

    def change(self, action_id: str, event: ActionEvent, actor: AccountActor, now: datetime) -> Action:
        """Carry an event out, with what it does to the account."""
        before = self.action(action_id)
        after = self.actions[action_id] = before.after(event, actor, now, self._terms)
        if after.state is not before.state and after.state in ON_ACCOUNT:
            ends = after.state is ActionState.RESTORED and after.undo == "reinstatement"
            case_id = after.cause.id if ends and after.cause.kind == "finding" else None
            said = AccountEvent.model_validate(
                {"kind": ON_ACCOUNT[after.state], "action_id": action_id, "case_id": case_id}
            )
            self._keep(self.account(after.account_id).after(said, now))
        return after

    def deactivate(self, action_id: str, now: datetime) -> Action:
        """Take the steps from the slot of the cap to the deactivation; above the cap the action is queued."""
        action = self.action(action_id)
        if self._take(cap.scopes(action.cause.by, action.cause.rule, action.cause.model_version), now):
            return self.change(action_id, ActionEvent(kind="cap_reached"), ACCOUNT_SYSTEM, now)
        for kind in ("slot_taken", "held", "settled"):
            self._step(action_id, kind, now)
        for value in denied(self.links.of(action.account_id), self.policy.deny, now.date(), self.is_stopped):
            entry = ListedValue(kind=value.kind, value=value.value, set_at=utc(now))
            profile = self._profiles[f"{value.kind}#{value.value}"]
            if "deny" not in profile:
                profile["deny"] = {"expires_at": None}
                self.change(action_id, ActionEvent(kind="entry_added", entry=entry), ACCOUNT_SYSTEM, now)
        for kind in ("listed", "deactivated"):
            self._step(action_id, kind, now)
        return self.action(action_id)

    def reinstate(self, action_id: str, now: datetime) -> Action:
        """Take the steps from an overturned action to the reinstated account, the app's acknowledgement included."""
        for entry in reversed(self.action(action_id).entries):
            self._profiles[f"{entry.kind}#{entry.value}"].pop("deny", None)
            self.change(action_id, ActionEvent(kind="entry_removed", entry=entry), ACCOUNT_SYSTEM, now)
        for kind in ("unlisted", "restored", "corrected"):
            self._step(action_id, kind, now)
        return self.change(action_id, ActionEvent(kind="acknowledged", status="active"), APP, now)

    def _step(self, action_id: str, kind: str, now: datetime) -> None:
        self.change(action_id, ActionEvent.model_validate({"kind": kind}), ACCOUNT_SYSTEM, now)

    def _take(self, scopes: Sequence[str], now: datetime) -> tuple[str, ...]:
        """Take a slot in each scope of the hour and the day; return the scopes that are full, if any is."""
        for period, caps in self._caps:
            if full := cap.full(self._slots[cap.key(period, now)], scopes, caps):
                return full
        for period, _ in self._caps:
            self._slots[cap.key(period, now)].update(scopes)
        return ()

    def _keep(self, account: Account) -> Account:
        self._accounts[account.account_id] = account
        self._profiles[f"account#{account.account_id}"]["status"] = account.profile
        return account


def in_review(cases: Iterable[Case], waiting: Mapping[str, Any]) -> list[Case]:
    """Return cases in the order in which the analyst takes them: those with a payment in review first, by due time."""
    return sorted(cases, key=lambda case: (not any(one in waiting for one in case.alerts), case.due, case.case_id))
