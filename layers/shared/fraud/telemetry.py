"""Log lines that are metrics too: one line of JSON in CloudWatch's embedded metric format for each request.

Written by hand, because a logger and a metrics library cost twenty times as much per request. No line holds a name, an
address, metadata or the id of a person; the transaction id alone connects a line with its decision.
"""

import json
import time
from collections.abc import Mapping
from typing import Any

from fraud.evaluation import Evaluation

NAMESPACE = "Fraud"


def evaluated(evaluation: Evaluation, door: str) -> None:
    """One payment decided, or answered with a decision made earlier."""
    decision = evaluation.decision
    if decision is None:
        _emit({"Outcome": "repeat", "Door": door}, {"Decisions": 1}, {})
        return
    steps = decision.steps_ms
    _emit(
        {"Outcome": decision.outcome.value, "Door": door},
        {"Decisions": 1, "StateMs": steps.state, "ModelMs": steps.model, "RulesMs": steps.rules},
        {
            "transaction_id": decision.transaction_id,
            "score": decision.score,
            "codes": [reason.code for reason in decision.reasons],
            "segment": decision.segment,
            "degraded": decision.degraded,
            "recounted": decision.recounted,
            "model": decision.model.version,
            "policy": decision.policy_version,
        },
    )


def refused(error: Exception, status: int, door: str) -> None:
    """One request not answered with a decision; the kind of error says enough, its text could quote the request."""
    _emit({"Error": type(error).__name__, "Door": door}, {"Refusals": 1}, {"status": status})


def _emit(dimensions: Mapping[str, str], metrics: Mapping[str, float], fields: Mapping[str, Any]) -> None:
    definition = {
        "Namespace": NAMESPACE,
        "Dimensions": [list(dimensions)],
        "Metrics": [{"Name": name, "Unit": "Milliseconds" if name.endswith("Ms") else "Count"} for name in metrics],
    }
    stamp = {"_aws": {"Timestamp": time.time_ns() // 1_000_000, "CloudWatchMetrics": [definition]}}
    print(json.dumps({**stamp, **dimensions, **metrics, **fields}, separators=(",", ":")), flush=True)  # noqa: T201 - stdout is the log
