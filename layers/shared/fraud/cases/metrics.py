"""Metrics of cases: events taken, states carried out, findings, outreaches, sweeps. No line has a note or a token."""

from typing import TYPE_CHECKING

from fraud.aws.metrics import log_line

if TYPE_CHECKING:
    from fraud.cases.case import Case, Verdict
    from fraud.executions import Swept


def log_taken(kind: str, case_id: str | None, door: str) -> None:
    """Log an event of the bus that opened a case, joined one, or ended its execution."""
    log_line({"Event": kind, "Door": door}, {"CaseEvents": 1}, {"case_id": case_id})


def log_state(state: str, case_id: str, door: str) -> None:
    """Log a state that was carried out for a case."""
    log_line({"State": state, "Door": door}, {"CaseStates": 1}, {"case_id": case_id})


def log_case_request(action: str, role: str, case_id: str | None, door: str) -> None:
    """Log what a person did with a case. Who it was is in the case's changes, never in the log."""
    log_line({"Action": action, "Door": door}, {"CaseRequests": 1}, {"case_id": case_id, "role": role})


def log_closed(case: "Case", verdict: "Verdict", door: str) -> None:
    """Log a case that has ended: its finding, the time to its verdict, and how its last outreach ended, if any."""
    took = (verdict.at - case.opened_at).total_seconds()
    fields = {"case_id": case.case_id}
    log_line({"Finding": verdict.finding, "Door": door}, {"CasesClosed": 1, "VerdictSeconds": took}, fields)
    if (asked := case.outreach) is not None:
        answer = {"Answer": asked.answer or "none", "Door": door}
        log_line(answer, {"Outreaches": 1, "OutreachAttempts": asked.attempts}, fields)


def log_case_sweep(swept: "Swept") -> None:
    """Log the result of a sweep of cases. An alarm also fires when these lines stop."""
    log_line({"Door": "schedules"}, {"CasesSwept": swept.rows, "CaseLagSeconds": swept.lag_seconds}, {})
