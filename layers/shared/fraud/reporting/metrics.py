"""Metrics of the KPIs: those of the last day that has ended, of all segments together, and how many are out of bounds.

Segments are in S3 only: each metric costs 0.30 USD a month.
"""

from collections.abc import Sequence

from fraud.aws.metrics import log_line
from fraud.reporting.kpis import ALL, Figure


def log_kpis(figures: Sequence[Figure], day: str) -> None:
    """Log the KPIs of a day. A KPI that is not determinable has no value, and therefore no metric."""
    of_day = [each for each in figures if (each.day, each.segment) == (day, ALL)]
    for each in of_day:
        if each.value is not None:
            log_line({"Kpi": each.kpi}, {"KpiValue": each.value}, {"day": day, "low": each.low, "high": each.high})
    out = [each.kpi for each in of_day if each.is_out_of_bounds]
    log_line(
        {"Door": "schedules"}, {"KpisCounted": len(of_day), "KpisOutOfBounds": len(out)}, {"day": day, "kpis": out}
    )
