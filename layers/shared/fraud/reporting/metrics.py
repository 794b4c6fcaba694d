"""Metrics of the KPIs: of the latest day that says enough, all segments together, and how many are out of bounds.

That is yesterday where no label, result or appeal is still to come, and else the day whose figure has just matured:
yesterday's reinstatements are always 0. Segments are in S3 only: each metric costs 0.30 USD a month.
"""

from collections.abc import Sequence
from datetime import date

from fraud.aws.metrics import log_line
from fraud.reporting.kpis import ALL, BY_NAME, Figure


def log_kpis(figures: Sequence[Figure], last: date) -> None:
    """Log the KPIs when a day has ended. A KPI that is not determinable has no value, and therefore no metric."""
    told = [each for each in figures if each.segment == ALL and each.day == BY_NAME[each.kpi].told_of(last).isoformat()]
    for each in told:
        if each.value is not None:
            log_line({"Kpi": each.kpi}, {"KpiValue": each.value}, {"day": each.day, "low": each.low, "high": each.high})
    out = [each.kpi for each in told if each.is_out_of_bounds]
    log_line(
        {"Door": "schedules"}, {"KpisCounted": len(told), "KpisOutOfBounds": len(out)}, {"day": str(last), "kpis": out}
    )
