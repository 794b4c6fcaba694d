"""Metrics of accounts: events that were taken, steps, changes by people and the app, the cap, and sweeps.

No line has the id of an account or a person, a text or a token; the id of the action leads to its row.
"""

from typing import TYPE_CHECKING

from fraud.aws.metrics import log_line

if TYPE_CHECKING:
    from fraud.executions import Swept


def log_taken(kind: str, action_id: str | None, door: str) -> None:
    """Log an event of the bus. `action_id`: the action that it opened or resumed; None: it caused none."""
    log_line({"Event": kind, "Door": door}, {"AccountEvents": 1}, {"action_id": action_id})


def log_step(state: str, action_id: str, door: str) -> None:
    """Log a step that was carried out for an action."""
    log_line({"State": state, "Door": door}, {"ActionSteps": 1}, {"action_id": action_id})


def log_account_request(action: str, role: str, action_id: str | None, door: str) -> None:
    """Log what the app or a lead did. Who it was is in the account's audit chain, never in the log."""
    log_line({"Action": action, "Door": door}, {"AccountRequests": 1}, {"action_id": action_id, "role": role})


def log_cap_reached(of: str, door: str) -> None:
    """Log an intervention that the cap has kept from being carried out. `of`: `action` or `hold`. An alarm fires."""
    log_line({"Of": of, "Door": door}, {"CapReached": 1}, {}, rollups=[[]])


def log_unacknowledged(action_id: str, door: str) -> None:
    """Log that the app has acknowledged none of the notices of a change. An alarm fires."""
    log_line({"Door": door}, {"ActionsUnacknowledged": 1}, {"action_id": action_id}, [[]])


def log_compensated(action_id: str, step: str, door: str) -> None:
    """Log that a step has failed, and all that the action had done is undone. An alarm fires."""
    log_line({"Door": door}, {"ActionsCompensated": 1}, {"action_id": action_id, "step": step}, [[]])


def log_appeal_overdue(action_id: str, door: str) -> None:
    """Log that no lead has reviewed an appeal in time. An alarm fires."""
    log_line({"Door": door}, {"AppealsOverdue": 1}, {"action_id": action_id}, [[]])


def log_not_void(action_id: str, attempts: int, door: str) -> None:
    """Log that attempts which were declined under an action are not void. An alarm fires."""
    log_line({"Door": door}, {"AttemptsNotVoid": attempts}, {"action_id": action_id}, [[]])


def log_account_sweep(swept: "Swept") -> None:
    """Log the result of a sweep of accounts. An alarm also fires when these lines stop."""
    log_line({"Door": "schedules"}, {"AccountsSwept": swept.rows, "AccountLagSeconds": swept.lag_seconds}, {})
