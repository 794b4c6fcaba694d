"""Log lines that are metrics too: one line of JSON in CloudWatch's embedded metric format for each request.

Written by hand, because a logger and a metrics library cost many times as much per request. No line holds a name, an
address, metadata or the id of a person; the transaction id alone connects a line with its decision.
"""

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fraud import settings
from fraud.counters.fold import Done, Due
from fraud.decisions.evaluation import Evaluation
from fraud.errors import FraudError, ServiceError

if TYPE_CHECKING:
    from fraud.labels.label import LabelResult  # no function that decides payments needs to load it

NAMESPACE = "Fraud/{stage}"
UNITS = {"Ms": "Milliseconds", "Seconds": "Seconds"}
"""Unit of a metric by the end of its name; anything else is counted."""


def evaluated(evaluation: Evaluation, door: str) -> None:
    """One payment decided, or answered with a decision made earlier."""
    decision = evaluation.decision
    if decision is None:
        _emit({"Outcome": "repeat", "Door": door}, {"Decisions": 1}, {})
        return
    if evaluation.cause is not None:
        degraded("state", evaluation.cause)
    steps = decision.steps_ms
    _emit(
        {"Outcome": decision.outcome.value, "Door": door},
        {
            "Decisions": 1,
            "DegradedDecisions": int(bool(decision.degraded)),
            "StateMs": steps.state,
            "ModelMs": steps.model,
            "RulesMs": steps.rules,
        }
        | ({"LargeItems": len(evaluation.large)} if evaluation.large else {}),
        {
            "transaction_id": decision.transaction_id,
            "score": decision.score,
            "codes": [reason.code for reason in decision.reasons],
            "segment": decision.segment,
            "degraded": decision.degraded,
            "recounted": decision.recounted,
            "model": decision.model.version,
            "policy": decision.policy_version,
        }
        | ({"large": evaluation.large} if evaluation.large else {}),
        rollups=[["Door"]],
    )


def refused(error: Exception, door: str) -> None:
    """One request not answered with a decision: the kind of error and the rules it broke; its text could quote the
    request. What is none of ours has the status of a fault of ours.
    """
    status = error.status if isinstance(error, FraudError) else FraudError.status
    cause = {"code": error.code} if isinstance(error, ServiceError) else {}
    faults = error.faults if isinstance(error, FraudError) else ()
    broken = {"rules": sorted({fault.rule for fault in faults})} if faults else {}
    _emit({"Error": type(error).__name__, "Door": door}, {"Refusals": 1}, {"status": status} | cause | broken)


def degraded(part: str, cause: str) -> None:
    """A part of the decision that failed, and had to be done without; `cause` is a word for it."""
    _emit({"Part": part}, {"Degraded": 1}, {"cause": cause})


def recounted(updates: int) -> None:
    """Updates that nobody had acknowledged when a payment was decided were sent again, and are counted now."""
    _emit({"Door": "decision_events"}, {"CountedAgain": updates}, {})


def labelled(results: "Sequence[LabelResult]", source: str, door: str) -> None:
    """One request of labels answered; the rules that labels broke, never what they said."""
    statuses = Counter(result.status for result in results)
    _emit(
        {"Source": source, "Door": door},
        {status.title(): statuses[status] for status in ("accepted", "unchanged", "rejected")},
        {"rules": sorted({fault.rule for result in results for fault in result.errors})},
    )


def fold_due(due: Due) -> None:
    """One look at the watermarks: nothing said for long is an alarm too."""
    _emit(
        {"Door": "fold"},
        {"FoldLagSeconds": due.lag_seconds, "FoldSlicesBehind": due.slices, "FoldedItems": due.folded},
        {},
    )


def folded(done: Done) -> None:
    """One message of the fold's queue worked off."""
    _emit({"Door": "fold"}, {"FoldedItems": done.items, "FoldedPeriods": done.periods}, {})


def _emit(
    dimensions: Mapping[str, str],
    metrics: Mapping[str, float],
    fields: Mapping[str, Any],
    rollups: Sequence[Sequence[str]] = (),
) -> None:
    """`rollups`: fewer dimensions by which the same metrics are summed up too."""
    definition = {
        "Namespace": NAMESPACE.format(stage=settings.stage()),
        "Dimensions": [list(dimensions), *rollups],
        "Metrics": [{"Name": name, "Unit": _unit(name)} for name in metrics],
    }
    stamp = {"_aws": {"Timestamp": time.time_ns() // 1_000_000, "CloudWatchMetrics": [definition]}}
    print(json.dumps({**stamp, **dimensions, **metrics, **fields}, separators=(",", ":")), flush=True)  # noqa: T201 - stdout is the log


def _unit(metric: str) -> str:
    return next((unit for ending, unit in UNITS.items() if metric.endswith(ending)), "Count")
