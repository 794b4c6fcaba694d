"""The intake of cases: which events of the bus become alerts, and how an alert finds its case. Pure.

An event may come again, in any order. An alert finds its case by the subject and the day of the payment, and the
execution has the case's id as its name.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol

from fraud.cases.case import SYSTEM, Actor, Alert, Case, CaseEvent, Tactics, subject_kind
from fraud.cases.moves import State
from fraud.decisions.record import Contents
from fraud.decisions.resolution import Resolution
from fraud.errors import CaseConflictError, NotFoundError
from fraud.executions import Executions
from fraud.transaction import instant

REPORT, SAMPLE, TACTICS, NO_REASON = "REPORT", "SAMPLE", "TACTICS_CHANGED", "NO_REASON"
"""The leading reason of a report, of a payment that was drawn, of accounts of a kind that have multiplied, and of a
decision that has no reason.
"""

WINDOW = timedelta(days=7)
"""Reports about one payee within this time join one case, if it still takes alerts."""


class CaseTable(Protocol):
    """The part of `cases.store.Cases` that the intake needs."""

    def open(self, alert: Alert, now: datetime, *, day: datetime | None = None) -> Case:
        """Open a case for an alert, or let it join one."""

    def report_day(self, alert: Alert, now: datetime, window: timedelta) -> datetime:
        """Return the day whose case a report opens or joins."""

    def change(self, name: str, event: CaseEvent, actor: Actor, now: datetime) -> Case:
        """Carry an event out."""

    def of_subject(self, subject: str) -> Any:  # noqa: ANN401 - the store's Page
        """Read the latest cases of a subject."""


class DecisionReader(Protocol):
    """The part of `decisions.worker.Resolutions` that the intake needs."""

    def read(self, transaction_id: str) -> tuple[Contents, Resolution]:
        """Read a decision."""


class Intake:
    """Takes events of the bus. Every call may be repeated, and raises ServiceError.

    failed  called with a case that has failed: it tells the bus
    """

    def __init__(
        self, cases: CaseTable, decisions: DecisionReader, executions: Executions[Case], failed: Callable[[Case], None]
    ) -> None:
        self._cases = cases
        self._decisions = decisions
        self._executions = executions
        self._failed = failed

    def take(self, event: Mapping[str, Any], now: datetime) -> Case | None:
        """Do what an event asks for, and return its case; None for an execution that has no case.

        Raises KeyError for an event that the intake does not know: a rule of the template sends too much.
        """
        kind, detail = event["detail-type"], event["detail"]
        return _TAKEN[kind](self, detail, now)

    def ended(self, case: Case, now: datetime) -> None:
        """Take that the execution of an open case is over: the event that tells so was lost.

        The bus is told first: after the change nobody would look at the case again.
        """
        self._failed(case.model_copy(update={"state": State.FAILED, "changed_at": now}))
        self._cases.change(case.case_id, CaseEvent(kind="failed"), SYSTEM, now)

    def _decided(self, detail: Mapping[str, Any], now: datetime) -> Case:
        return self._open(_of_payment(detail, detail["codes"]), now)

    def _sampled(self, detail: Mapping[str, Any], now: datetime) -> Case:
        """Open a blind case. It is about the payer: which side the reasons tell of would tell the decision."""
        alert = _of_payment(detail, ())
        return self._open(alert.model_copy(update={"kind": "sample", "reason": SAMPLE}), now)

    def _resolved(self, detail: Mapping[str, Any], now: datetime) -> Case:
        """Take a change of a decision; the reasons of the decision say whom the case is about."""
        contents, _ = self._decisions.read(detail["transaction_id"])
        codes = [reason["code"] for reason in json.loads(contents.answer)["reasons"]]
        return self._open(_of_payment(detail, codes), now)

    def _reported(self, detail: Mapping[str, Any], now: datetime) -> Case:
        """Let a report join a case of its subject that takes alerts and is not old, else open one.

        The index of subjects may not have the newest cases yet, so all reports of a window ask for the case of one day.
        """
        alert = _of_report(detail)
        cases = self._cases.of_subject(alert.subject).cases
        for case in cases:
            if case.knows(alert):
                return self._started(case)
        for case in cases:
            if case.joins and now - case.opened_at < WINDOW:
                try:
                    joined = self._cases.change(case.case_id, CaseEvent(kind="alerted", alert=alert), SYSTEM, now)
                except CaseConflictError:  # it has just been closed
                    continue
                return self._started(joined)
        day = self._cases.report_day(alert, now, WINDOW)
        return self._started(self._cases.open(alert, now, day=day))

    def _changed(self, detail: Mapping[str, Any], now: datetime) -> Case:
        """Open a case about one of the accounts that have multiplied, by its latest payment. The alert names others."""
        sentence, accounts = detail["sentence"], detail["accounts"]
        alert = Alert(
            transaction_id=detail["transaction_id"],
            subject_kind="payer",
            subject_id=detail["account_id"],
            occurred_at=instant(detail["occurred_at"]),
            reason=TACTICS,
            tactics=Tactics(sentence=sentence, accounts=accounts, account_ids=detail.get("account_ids", ())),
        )
        return self._open(alert, now)

    def _ended(self, detail: Mapping[str, Any], now: datetime) -> Case | None:
        """Take the end of an execution that has not closed its case."""
        try:
            case = self._cases.change(detail["name"], CaseEvent(kind="failed"), SYSTEM, now)
        except NotFoundError:
            return None
        self._failed(case)
        return case

    def _open(self, alert: Alert, now: datetime) -> Case:
        return self._started(self._cases.open(alert, now))

    def _started(self, case: Case) -> Case:
        self._executions.start(case)
        return case


_TAKEN: Mapping[str, Callable[[Intake, Mapping[str, Any], datetime], Case | None]] = {
    "DecisionMade": Intake._decided,  # noqa: SLF001 - its own class
    "PaymentSampled": Intake._sampled,  # noqa: SLF001
    "DecisionResolved": Intake._resolved,  # noqa: SLF001
    "ReportReceived": Intake._reported,  # noqa: SLF001
    "TacticsChanged": Intake._changed,  # noqa: SLF001
    "Step Functions Execution Status Change": Intake._ended,  # noqa: SLF001
}
"""What is done with each event, by its detail-type."""


def _of_payment(detail: Mapping[str, Any], codes: Sequence[str]) -> Alert:
    """Return the alert of a decided payment.

    >>> detail = {"transaction_id": "t", "payer_id": "a", "payee_id": "b", "occurred_at": "2026-03-04T12:00:00Z"}
    >>> _of_payment(detail, ["FAN_IN_BURST"]).subject, _of_payment(detail, ["VELOCITY"]).subject
    ('payee#b', 'payer#a')
    """
    kind = subject_kind(detail["payee_id"], codes)
    return Alert(
        transaction_id=detail["transaction_id"],
        subject_kind=kind,
        subject_id=detail[f"{kind}_id"],
        occurred_at=instant(detail["occurred_at"]),
        reason=codes[0] if codes else NO_REASON,
    )


def _of_report(detail: Mapping[str, Any]) -> Alert:
    """Return the alert of a report: about the payee, or about the payer where there is no payee.

    Of a payment that is not known nothing is known but the reporter.
    """
    payee, payer = detail["payee_id"], detail["payer_id"] or detail["reporter_id"]
    return Alert(
        transaction_id=detail["transaction_id"],
        subject_kind="payee" if payee else "payer",
        subject_id=payee or payer,
        occurred_at=instant(detail["occurred_at"] or detail["reported_at"]),
        reason=REPORT,
        report_id=detail["report_id"],
    )
