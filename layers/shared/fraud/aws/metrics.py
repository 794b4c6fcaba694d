"""Log lines that are metrics too: one line of JSON in CloudWatch's embedded metric format (EMF) for each request.

Written by hand, because a logger and a metrics library cost many times as much per request (D-061). No line holds a
name, an address, metadata or the id of a person; only the transaction id connects a line with its decision. What each
line measures stands beside what it measures: `decisions.metrics`, `counters.metrics`, `labels.metrics`.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from pydantic_core import to_json

from fraud import settings
from fraud.errors import FraudError, ServiceError

NAMESPACE = "Fraud/{stage}"
UNITS = {"Ms": "Milliseconds", "Seconds": "Seconds"}
"""Unit of a metric by the end of its name; every other metric is a count."""


def log_line(
    dimensions: Mapping[str, str],
    metrics: Mapping[str, float],
    fields: Mapping[str, Any],
    rollups: Sequence[Sequence[str]] = (),
) -> None:
    """Print one line.

    dimensions  name and value; the metrics are recorded under all of them together
    metrics     name and value, with the unit that the name's ending says
    fields      name and value of facts for a reader of the log; no metric is made of them
    rollups     names of fewer dimensions under which the same metrics are recorded once more
    """
    definition = {
        "Namespace": NAMESPACE.format(stage=settings.stage()),
        "Dimensions": [list(dimensions), *rollups],
        "Metrics": [{"Name": name, "Unit": _unit(name)} for name in metrics],
    }
    stamp = {"_aws": {"Timestamp": time.time_ns() // 1_000_000, "CloudWatchMetrics": [definition]}}
    print(to_json({**stamp, **dimensions, **metrics, **fields}).decode(), flush=True)  # noqa: T201 - stdout is the log


def log_refusal(error: Exception, door: str, request_id: str | None = None) -> None:
    """Log a request that was answered with an error: its class, its code, and the rules that the request broke.

    The error's text could quote the request, so it is left out. An error that is not the library's counts as an
    internal one.

    request_id  API Gateway's, by which the caller can name the request; None for a door without one
    """
    status = error.status if isinstance(error, FraudError) else FraudError.status
    cause = {"code": error.code} if isinstance(error, ServiceError) else {}
    faults = error.faults if isinstance(error, FraudError) else ()
    broken = {"rules": sorted({fault.rule for fault in faults})} if faults else {}
    named = {"request_id": request_id} if request_id else {}
    fields = {"status": status} | cause | broken | named
    log_line({"Error": type(error).__name__, "Door": door}, {"Refusals": 1}, fields)


@contextmanager
def log_raised(door: str, kind: type[Exception] = Exception) -> Iterator[None]:
    """Log an error of this kind as `log_refusal` does, and let it pass, so that the caller tries again."""
    try:
        yield
    except kind as error:
        log_refusal(error, door)
        raise


def log_degraded(part: str, cause: str) -> None:
    """Log that a decision had to do without one of its parts. `cause` is the code of the service's error."""
    log_line({"Part": part}, {"Degraded": 1}, {"cause": cause})


def _unit(metric: str) -> str:
    return next((unit for ending, unit in UNITS.items() if metric.endswith(ending)), "Count")
