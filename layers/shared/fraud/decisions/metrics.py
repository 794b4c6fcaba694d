"""Metrics of decisions: outcomes, step times, degraded parts, and updates that were counted afterwards."""

from typing import TYPE_CHECKING

from fraud.aws.metrics import log_degraded, log_line
from fraud.outcome import Outcome

if TYPE_CHECKING:
    from fraud.decisions.evaluation import Evaluation  # a door that decides nothing must not load it
    from fraud.decisions.worker import Swept


def log_evaluation(evaluation: "Evaluation", door: str) -> None:
    """Log a payment that was decided, or answered with its earlier decision."""
    decision = evaluation.decision
    if decision is None:
        log_line({"Outcome": "repeat", "Door": door}, {"Decisions": 1}, {})
        return
    if evaluation.cause is not None:
        log_degraded("state" if "state" in decision.degraded else "counter", evaluation.cause)
    steps = decision.steps_ms
    log_line(
        {"Outcome": decision.outcome.value, "Door": door},
        {
            "Decisions": 1,
            "DegradedDecisions": int(bool(decision.degraded)),
            "StateMs": steps.state,
            "ModelMs": steps.model,
            "RulesMs": steps.rules,
        },
        {
            "transaction_id": decision.transaction_id,
            "score": decision.score,
            "codes": [reason.code for reason in decision.reasons],
            "segment": decision.segment,
            "degraded": decision.degraded,
            "estimated": decision.estimated,
            "recounted": decision.recounted,
            "model": decision.model.version,
            "policy": decision.policy_version,
            **({} if decision.hold_out is None else {"hold_out": decision.hold_out}),
        },
        rollups=[["Door"]],
    )
    if evaluation.variant is not None:  # an alarm compares champion and challenger
        stopped = int(decision.outcome is not Outcome.APPROVE)
        log_line({"Variant": evaluation.variant}, {"Decisions": 1, "Stopped": stopped}, {})


def log_marked(role: str, view: str) -> None:
    """Log that a marked account pays or is paid."""
    log_line({"View": view, "Role": role}, {"MarkedPayments": 1}, {})


def log_resolution(change: str, door: str) -> None:
    """Log a change of a decision's status."""
    log_line({"Change": change, "Door": door}, {"Resolutions": 1}, {})


def log_sweep(swept: "Swept") -> None:
    """Log the result of a sweep. An alarm also fires when these lines stop."""
    log_line({"Door": "schedules"}, {"DecisionsExpired": swept.expired, "DueLagSeconds": swept.lag_seconds}, {})


def log_repair(updates: int) -> None:
    """Log how many updates, unacknowledged when their payment was decided, were sent again and are counted now."""
    log_line({"Door": "decision_events"}, {"CountedAgain": updates}, {})
