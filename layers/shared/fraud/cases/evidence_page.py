"""The page of a case's evidence: the snapshot, and beside it what no snapshot holds. Pure.

The snapshot is from when the case was opened. Payments that joined since are read when somebody looks, as they stand
then. So are the users' own words: they stand in the rows of reports only, and go when an account is erased (D-122).
"""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

from fraud.cases.case import Actor, Case, Look
from fraud.cases.console import evidence_view
from fraud.cases.evidence import MOST_DECISIONS, MOST_REPORTS, DecisionReader, decided, latest
from fraud.cases.report import CaseReport
from fraud.errors import NotFoundError


class CaseTable(Protocol):
    """The part of `cases.store.Cases` that the page needs."""

    def get(self, name: str) -> Case:
        """Read a case."""

    def look(self, name: str, actor: Actor, now: datetime) -> list[Look]:
        """Record a look, and return the latest ones."""


class Snapshots(Protocol):
    """The part of `cases.evidence_store.Snapshots` that the page needs."""

    def read(self, name: str) -> str | None:
        """Read the evidence of a case."""


class Reports(Protocol):
    """The part of `cases.report_store.ReportStore` that the page needs."""

    def with_texts(self, report_ids: Sequence[str]) -> list[CaseReport]:
        """Read reports with their texts."""


class EvidencePages(NamedTuple):
    """Reads the pages of evidence. Raises ServiceError."""

    cases: CaseTable
    snapshots: Snapshots
    decisions: DecisionReader
    reports: Reports

    def show(self, name: str, actor: Actor, now: datetime) -> str:
        """Return an `EvidenceView` as JSON, and record that the actor has looked.

        Raises NotFoundError before the evidence is collected.
        """
        document = self.snapshots.read(name)
        if document is None:
            raise NotFoundError
        case = self.cases.get(name)
        collected = json.loads(document).get("alerts", len(case.alerts))  # of another release: not known
        joined = case.alerts[collected:][-MOST_DECISIONS:]
        return evidence_view(
            document,
            latest(decided(self.decisions, joined, now)),
            self.reports.with_texts(case.reports[-MOST_REPORTS:]),
            self.cases.look(name, actor, now),
        )
