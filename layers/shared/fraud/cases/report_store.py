"""The reports table, with PynamoDB: one row for each report, written once, ended once.

A row is put on condition that there is none, so a report that comes again finds itself. What follows from a new report
hangs on the table's stream, which carries keys only: a text never leaves its row. The indexes hold no text either.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter
from pynamodb.attributes import BooleanAttribute, NumberAttribute, UnicodeAttribute
from pynamodb.exceptions import DoesNotExist, PutError, PynamoDBException, UpdateError
from pynamodb.indexes import GlobalSecondaryIndex, IncludeProjection

from fraud.aws import tables
from fraud.aws.boto import translate_errors
from fraud.cases.context import ReportedPayment, context_of
from fraud.cases.report import (
    PAYEE_WINDOW,
    REPORTER_WINDOW,
    CaseReport,
    EarlierReport,
    ReportBatch,
    ReportRequest,
    ReportResult,
    ReportResults,
    ReportStatus,
    ReportView,
    Triaged,
    TriageReason,
    begins,
)
from fraud.cases.rows import PaymentRow
from fraud.cases.triage import Triage
from fraud.decisions.record import PACKED, Contents
from fraud.errors import InvalidRequestError, NotFoundError
from fraud.settings import Settings
from fraud.transaction import utc

LOOKED_AT = 100
"""Most earlier reports of a reporter, and about a payee, that triage looks at: the latest ones."""

REFUSED = "ConditionalCheckFailedException"
Reasons = TypeAdapter(list[TriageReason])


class PayeeIndex(GlobalSecondaryIndex["ReportRow"]):
    """The reports about each payee, by their time. A report whose payment is not known is not in it."""

    class Meta:  # noqa: D106 - PynamoDB's way to say so
        index_name, projection = "payee", IncludeProjection(["transaction_id", "reporter_id", "status"])

    payee_id = UnicodeAttribute(hash_key=True)
    reported_at = tables.InstantAttribute(range_key=True)


class ReporterIndex(GlobalSecondaryIndex["ReportRow"]):
    """The reports of each reporter, by their time."""

    class Meta:  # noqa: D106 - PynamoDB's way to say so
        index_name, projection = "reporter", IncludeProjection(["transaction_id", "payee_id", "status"])

    reporter_id = UnicodeAttribute(hash_key=True)
    reported_at = tables.InstantAttribute(range_key=True)


class ReportRow(tables.Row):
    """A report as DynamoDB keeps it. `identity` tells two bodies of one id apart; only here is the text."""

    report_id = UnicodeAttribute(hash_key=True, attr_name="pk")
    identity = UnicodeAttribute()
    transaction_id = UnicodeAttribute()
    reporter_id = UnicodeAttribute()
    role = UnicodeAttribute()
    category = UnicodeAttribute()
    text = UnicodeAttribute(null=True)
    reported_at = tables.InstantAttribute()
    received_at = tables.InstantAttribute()
    payer_id = UnicodeAttribute(null=True)
    payee_id = UnicodeAttribute(null=True)
    amount = NumberAttribute(null=True)
    occurred_at = tables.InstantAttribute(null=True)
    known = BooleanAttribute()
    verdict = UnicodeAttribute()
    probability = NumberAttribute()
    reasons = UnicodeAttribute()
    triage_version = UnicodeAttribute()
    status = UnicodeAttribute()
    ended_at = tables.InstantAttribute(null=True)
    ended_by = UnicodeAttribute(null=True)
    ttl = NumberAttribute()
    by_payee = PayeeIndex()
    by_reporter = ReporterIndex()


class ReportStore:
    """The store of reports. Repeating a request is safe: a report that is stored stays as it is.

    Every method raises UnavailableError when a table does not respond, and ServiceError when it refuses a request.
    """

    def __init__(self, settings: Settings) -> None:
        self._rows = tables.bound(ReportRow, settings.reports_table)
        self._decisions = tables.bound(PaymentRow, settings.decisions_table)
        self._retention_s = settings.report_retention_days * 86_400

    def accept(self, batch: ReportBatch, triage: Triage, now: datetime) -> ReportResults:
        """Accept or refuse each report, in order, and return their results. Those before a failure stay accepted."""
        with translate_errors(PynamoDBException):
            return ReportResults(
                results=[
                    self._accept(each, triage, now) if isinstance(each, ReportRequest) else each
                    for each in batch.reports
                ]
            )

    def find(self, report_id: str) -> ReportRow:
        """Read a report with its text, for a case. Raises NotFoundError."""
        with translate_errors(PynamoDBException):
            row = self._read(report_id)
        if row is None:
            raise NotFoundError
        return row

    def show(self, report_id: str) -> ReportView:
        """Return the state of a report, without its text. Raises NotFoundError."""
        return _view(self.find(report_id))

    def without_texts(self, report_ids: Sequence[str]) -> list[ReportRow]:
        """Read reports without their texts; one that is gone is left out."""
        names = [name for name, each in ReportRow.get_attributes().items() if name not in {"text", "reasons"}]
        wanted = [getattr(ReportRow, name).attr_name for name in names]
        with translate_errors(PynamoDBException):
            found = self._rows.batch_get(list(dict.fromkeys(report_ids)), True, wanted)  # noqa: FBT003 - consistent
            return list(found)

    def with_texts(self, report_ids: Sequence[str]) -> list[CaseReport]:
        """Read reports with their texts, in this order; one that is gone is left out."""
        with translate_errors(PynamoDBException):
            found = {row.report_id: row for row in self._rows.batch_get(list(dict.fromkeys(report_ids)))}
        return [CaseReport(**dict(_view(row)), text=row.text) for name in report_ids if (row := found.get(name))]

    def about(self, payee_id: str, since: datetime) -> list[EarlierReport]:
        """Return the latest reports about a payee since a time, at most LOOKED_AT, latest first."""
        with translate_errors(PynamoDBException):
            return list(self._about(payee_id, since))

    def end(self, report_id: str, finding: ReportStatus, by: str, now: datetime) -> None:
        """Give a report the finding of its case; the same finding once more alters nothing.

        by  the case's id

        A finding overrules what triage said, and an earlier finding of another case, because a case is reopened only to
        be judged anew. Raises NotFoundError.
        """
        actions = [ReportRow.status.set(finding), ReportRow.ended_at.set(now), ReportRow.ended_by.set(by)]
        is_other = ReportRow.report_id.exists() & ((ReportRow.status != finding) | (ReportRow.ended_by != by))
        with translate_errors(PynamoDBException):
            try:
                self._rows(report_id).update(actions=[*actions], condition=is_other)
            except UpdateError as error:
                if error.cause_response_code != REFUSED:
                    raise
                if self._read(report_id) is None:
                    raise NotFoundError from None

    def _accept(self, report: ReportRequest, triage: Triage, now: datetime) -> ReportResult:
        stored = self._read(report.report_id)
        if stored is not None:
            return _again(report, stored)
        payment = self._payment(report.transaction_id)
        try:
            if payment is not None:
                report.check(payment.transaction.occurred_at)
        except InvalidRequestError as error:
            return ReportResult(report_id=report.report_id, status="refused", errors=list(error.faults))
        row = self._triaged(report, payment, triage, now)
        try:
            row.save(condition=ReportRow.report_id.does_not_exist())
        except PutError as error:
            other = self._read(report.report_id) if error.cause_response_code == REFUSED else None
            if other is None:
                raise
            return _again(report, other)
        return ReportResult(report_id=report.report_id, status="accepted", report=_view(row))

    def _triaged(
        self, report: ReportRequest, payment: ReportedPayment | None, triage: Triage, now: datetime
    ) -> ReportRow:
        """Return the row of a new report with what triage says of it. Only a dispute is ended at once."""
        payee = None if payment is None else payment.transaction.payee_id
        since = begins(PAYEE_WINDOW, report.reported_at)
        of_payee = [] if payee is None else self._about(payee, since)
        context = context_of(report, payment, self._of_reporter(report), of_payee)
        said = triage.judge(report, context)
        is_dispute = said.verdict == "dispute"
        return self._rows(
            **report.model_dump(exclude_none=True),
            identity=report.identity,
            role=context.role,
            received_at=now,
            **({} if payment is None else _of(payment)),
            known=context.known,
            verdict=said.verdict,
            probability=said.probability,
            reasons=Reasons.dump_json(said.reasons).decode(),
            triage_version=triage.version,
            status="dispute" if is_dispute else "open",
            ended_at=now if is_dispute else None,
            ended_by="triage" if is_dispute else None,
            ttl=int(now.timestamp()) + self._retention_s,
        )

    def _read(self, report_id: str) -> ReportRow | None:
        try:
            return self._rows.get(report_id, consistent_read=True)
        except DoesNotExist:
            return None

    def _payment(self, transaction_id: str) -> ReportedPayment | None:
        try:
            row = self._decisions.get(transaction_id, consistent_read=True, attributes_to_get=["pk", PACKED])
        except DoesNotExist:
            return None
        return ReportedPayment.of(Contents.unpacked(row.packed))

    def _about(self, payee_id: str, since: datetime) -> Iterator[EarlierReport]:
        found = self._rows.by_payee.query(
            payee_id, PayeeIndex.reported_at >= since, scan_index_forward=False, limit=LOOKED_AT
        )
        return map(_earlier, found)

    def _of_reporter(self, report: ReportRequest) -> Iterator[EarlierReport]:
        since = begins(REPORTER_WINDOW, report.reported_at)
        found = self._rows.by_reporter.query(
            report.reporter_id, ReporterIndex.reported_at >= since, scan_index_forward=False, limit=LOOKED_AT
        )
        return map(_earlier, found)


def _of(payment: ReportedPayment) -> dict[str, Any]:
    """Return the attributes that a row takes from its payment."""
    said = payment.transaction
    return {
        "payer_id": said.payer_id,
        "payee_id": said.payee_id,
        "amount": said.amount,
        "occurred_at": said.occurred_at,
    }


def _earlier(row: ReportRow) -> EarlierReport:
    return EarlierReport(row.report_id, row.transaction_id, row.reporter_id, row.reported_at, row.status)


def _again(report: ReportRequest, stored: ReportRow) -> ReportResult:
    status = "duplicate" if stored.identity == report.identity else "conflict"
    return ReportResult(report_id=report.report_id, status=status, report=_view(stored))


def _view(row: ReportRow) -> ReportView:
    triage = Triaged(
        verdict=row.verdict, probability=float(row.probability), reasons=Reasons.validate_json(row.reasons)
    )
    return ReportView(
        report_id=row.report_id,
        transaction_id=row.transaction_id,
        reporter_id=row.reporter_id,
        role=row.role,
        category=row.category,
        reported_at=utc(row.reported_at),
        received_at=utc(row.received_at),
        known=row.known,
        status=row.status,
        ended_at=None if row.ended_at is None else utc(row.ended_at),
        triage=triage,
    )
