"""Metrics of retrainings: events that were taken, steps, what leads decide, ends, and sweeps."""

from typing import TYPE_CHECKING

from fraud.aws.metrics import log_line

if TYPE_CHECKING:
    from fraud.executions import Swept
    from fraud.retraining.retraining import Retraining


def log_retraining_event(kind: str, retraining_id: str | None, door: str) -> None:
    """Log an event of the bus. `retraining_id`: the one that it opened or changed; None: none."""
    log_line({"Event": kind, "Door": door}, {"RetrainingEvents": 1}, {"retraining_id": retraining_id})


def log_retraining_step(state: str, retraining_id: str, door: str) -> None:
    """Log a step that was carried out for a retraining."""
    log_line({"State": state, "Door": door}, {"RetrainingSteps": 1}, {"retraining_id": retraining_id})


def log_model_request(action: str, retraining_id: str | None, door: str) -> None:
    """Log what a lead did. Who it was is in the audit chain, never in the log."""
    log_line({"Action": action, "Door": door}, {"ModelRequests": 1}, {"retraining_id": retraining_id})


def log_end(row: "Retraining", door: str) -> None:
    """Log the end of a retraining. An alarm fires for one that failed, and for a model that was withdrawn."""
    properties = {"retraining_id": row.retraining_id, "step": row.failed_step}
    log_line({"Door": door, "End": row.state.value}, {"RetrainingsEnded": 1}, properties)
    if row.state in {"failed", "restored"}:
        log_line({"Door": door}, {"RetrainingsFailed": 1}, properties, [[]])


def log_model_sweep(swept: "Swept") -> None:
    """Log a sweep of retrainings. An alarm also fires when these lines stop."""
    log_line({"Door": "schedules"}, {"RetrainingsSwept": swept.rows, "RetrainingLagSeconds": swept.lag_seconds}, {})
