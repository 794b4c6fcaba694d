"""Metrics of the fold: how far behind it is, and what it has folded."""

from fraud.aws.metrics import log_line
from fraud.counters.fold import TickResult, WorkResult

DOOR = "schedules"


def log_tick(due: TickResult) -> None:
    """Log a comparison of the watermarks with the clock. An alarm fires when such lines stop, too."""
    log_line(
        {"Door": DOOR},
        {"FoldLagSeconds": due.lag_seconds, "FoldSlicesBehind": due.slices, "FoldedItems": due.folded},
        {},
    )


def log_fold(done: WorkResult) -> None:
    """Log one message of the fold's queue that was worked off."""
    log_line({"Door": DOOR}, {"FoldedItems": done.items, "FoldedPeriods": done.periods}, {})
