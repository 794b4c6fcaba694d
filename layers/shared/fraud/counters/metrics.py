"""Metrics of the fold: how far it is behind, and how much it has folded."""

from fraud.aws.metrics import log_line
from fraud.counters.fold import TickResult, WorkResult

DOOR = "schedules"
"""The door under which the fold's metrics are logged."""


def log_tick(due: TickResult) -> None:
    """Log the result of a tick. An alarm also fires when these lines stop."""
    log_line(
        {"Door": DOOR},
        {"FoldLagSeconds": due.lag_seconds, "FoldSlicesBehind": due.slices, "FoldedItems": due.folded},
        {},
    )


def log_fold(done: WorkResult) -> None:
    """Log the result of one message of the fold queue."""
    log_line({"Door": DOOR}, {"FoldedItems": done.items, "FoldedPeriods": done.periods}, {})
