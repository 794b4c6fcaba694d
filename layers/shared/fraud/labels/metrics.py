"""Metrics of labels: how many a request brought, by what became of them."""

from collections import Counter
from collections.abc import Sequence

from fraud.aws.metrics import log_line
from fraud.labels.label import LabelResult


def log_labels(results: Sequence[LabelResult], source: str, door: str) -> None:
    """Log one answered request: numbers, and the rules that rejected labels broke; never what a label said."""
    statuses = Counter(result.status for result in results)
    log_line(
        {"Source": source, "Door": door},
        {status.title(): statuses[status] for status in ("accepted", "unchanged", "rejected")},
        {"rules": sorted({fault.rule for result in results for fault in result.errors})},
    )
