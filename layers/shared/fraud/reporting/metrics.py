"""Metrics of the KPIs and of drift.

Of KPIs those of the latest day that says enough, all segments together, and how many are out of bounds. That is
yesterday where no label, result or appeal is still to come, and else the day whose figure has just matured:
yesterday's reinstatements are always 0. Segments are in S3 only: each metric costs 0.30 USD a month.
"""

from collections.abc import Sequence
from datetime import date

from fraud.aws.metrics import log_line
from fraud.reporting.kpis import ALL, BY_NAME, Figure
from fraud.scoring.drift import KINDS, Drift


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


def log_drift(drifts: Sequence[Drift], day: date) -> None:
    """Log the drift of a day by kind: the largest index as a part of its limit, and what is beyond its limit.

    A kind of which nothing could be compared has no value, and therefore no metric.
    """
    for kind in KINDS:
        of_kind = sorted((each for each in drifts if each.kind == kind), key=lambda each: -each.ratio)
        if of_kind:
            drifted = {each.measure: round(each.ratio, 2) for each in of_kind if each.ratio > 1}
            told = {"day": str(day), "farthest": of_kind[0].measure, "drifted": drifted}
            log_line({"Drift": kind}, {"DriftRatio": round(of_kind[0].ratio, 4)}, told)
    log_line({"Door": "schedules"}, {"DriftMeasures": len(drifts)}, {"day": str(day)})
