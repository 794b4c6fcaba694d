"""Metrics of reports: how many a request had by their result, and what triage said of those that were accepted."""

from collections import Counter
from collections.abc import Sequence

from fraud.aws.metrics import log_line
from fraud.cases.report import ReportResult


def log_reports(results: Sequence[ReportResult], door: str) -> None:
    """Log one request: numbers by result and verdict, and the rules that refused reports broke.

    The log line never holds the content of a report, nor who reported.
    """
    statuses = Counter(result.status for result in results)
    verdicts = Counter(each.report.triage.verdict for each in results if each.report and each.status == "accepted")
    log_line(
        {"Door": door},
        {
            "ReportsAccepted": statuses["accepted"],
            "ReportsDuplicate": statuses["duplicate"],
            "ReportsConflicting": statuses["conflict"],
            "ReportsRefused": statuses["refused"],
            "ReportsOfFraud": verdicts["fraud"],
            "ReportsOfDispute": verdicts["dispute"],
            "ReportsUnsure": verdicts["unsure"],
        },
        {"rules": sorted({fault.rule for result in results for fault in result.errors})},
    )
