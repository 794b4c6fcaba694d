"""The drift of a day: counted by Athena over the archive, compared with the model's baseline, and written to S3."""

import json
from collections.abc import Callable, Sequence
from datetime import date

from fraud.reporting import drift_queries
from fraud.reporting.drift_queries import Days, Row
from fraud.reporting.worker import Reporting
from fraud.scoring.drift import Baseline, Drift, drift

PREFIX = "drift"
"""Where the drift of days lies in the archive's bucket: `drift/<day>.json`."""


class DriftWatch:
    """Compares days with the baseline of the model that decides. Every method may be repeated. Raises ServiceError."""

    def __init__(self, reporting: Reporting, baseline: Callable[[], Baseline]) -> None:
        self._reporting = reporting
        self._baseline = baseline

    def of(self, day: date) -> list[Drift]:
        """Count a day, and return its drift in every measure of which it has enough values."""
        baseline, days = self._baseline(), Days(day, day)
        payments, labels = (
            self._row(query(baseline, days)) for query in (drift_queries.of_payments, drift_queries.of_labels)
        )
        return drift(baseline, drift_queries.counted(baseline, payments, labels))

    def write(self, day: date, drifts: Sequence[Drift]) -> None:
        """Write the drift of a day to S3. An object of before is replaced."""
        self._reporting.put(f"{PREFIX}/{day}.json", document(day, self._baseline(), drifts))

    def _row(self, sql: str) -> Row:
        """Return the numbers of a query's only row; nothing without one."""
        for row in self._reporting.columns(sql):
            return {name: int(value) for name, value in row.items() if name != "day"}
        return {}


def document(day: date, baseline: Baseline, drifts: Sequence[Drift]) -> bytes:
    """Return the drift of a day as JSON, farthest from its limit first.

    >>> none = Baseline(model="m", fingerprint="f", first="2026-01-01", last="2026-02-04", measures={})
    >>> json.loads(document(date(2026, 3, 4), none, [Drift("score", 900, 0.4, 0.2)]))["drift"][0]["measure"]
    'score'
    """
    rows = [each._asdict() for each in sorted(drifts, key=lambda each: -each.ratio)]
    said = {"day": str(day), "model": baseline.model, "first": baseline.first, "last": baseline.last, "drift": rows}
    return json.dumps(said, indent=1).encode() + b"\n"
