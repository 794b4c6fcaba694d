"""Metrics of labels: the number of labels in a request, by their status."""

from collections import Counter
from collections.abc import Sequence

from fraud.aws.metrics import log_line
from fraud.labels.label import LabelResult


def log_labels(results: Sequence[LabelResult], source: str, door: str) -> None:
    """Log one request: the number of labels by status, and the rules that rejected labels broke.

    The log line never holds the content of a label.
    """
    statuses = Counter(result.status for result in results)
    log_line(
        {"Source": source, "Door": door},
        {status.title(): statuses[status] for status in ("accepted", "unchanged", "rejected")},
        {"rules": sorted({fault.rule for result in results for fault in result.errors})},
        rollups=[["Door"]],
    )
