"""The labels table, with PynamoDB: one row for each transaction, and the fraud buckets that follow from it.

A row and the profiles that it changes are written in one DynamoDB transaction, conditioned on the version of the row
that was read. Of two writers at once, one must read again, so buckets and rows agree at every instant. A row that was
made from a caller's parties takes the decision's parties at the first label that finds a decision. The buckets are
attributes of their own in the profiles, and they are only added to: folded history, list entries and the account's
status live in the same item.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any

from pynamodb.attributes import (
    BinaryAttribute,
    ListAttribute,
    MapAttribute,
    NumberAttribute,
    UnicodeAttribute,
    VersionAttribute,
)
from pynamodb.exceptions import DoesNotExist, PynamoDBException
from pynamodb.expressions.operand import Path
from pynamodb.expressions.update import Action
from pynamodb.transactions import TransactWrite

from fraud.aws import tables
from fraud.aws.boto import retry_conflicts, translate_errors
from fraud.decisions.record import PACKED, Contents
from fraud.errors import InvalidRequestError
from fraud.labels.label import (
    Label,
    LabelBatch,
    LabelHistory,
    LabelRequest,
    LabelResult,
    LabelResults,
    LabelValue,
    Move,
    Parties,
)
from fraud.settings import Settings
from fraud.transaction import Transaction


class LabelAttribute(MapAttribute[str, Any]):
    """A `labels.label.Label` as DynamoDB keeps it."""

    label = UnicodeAttribute()
    reported_at = tables.InstantAttribute()
    source = UnicodeAttribute()
    known_at = tables.InstantAttribute()
    by = UnicodeAttribute()
    reason_code = UnicodeAttribute(null=True, attr_name="code")
    amount = NumberAttribute(null=True)


class LabelRow(tables.Row):
    """A `LabelHistory` as DynamoDB keeps it: the parties, every label, and the day on which it counts as fraud."""

    transaction_id = UnicodeAttribute(hash_key=True, attr_name="pk")
    payer_id = UnicodeAttribute()
    payee_id = UnicodeAttribute(null=True)
    occurred_at = tables.InstantAttribute()
    type = UnicodeAttribute(null=True)
    history: ListAttribute[LabelAttribute] = ListAttribute(of=LabelAttribute)
    fraud_day = NumberAttribute(null=True)
    version = VersionAttribute()


class AccountProfile(tables.Row):
    """The part of an account's profile that labels own: `fo<day>` and `fi<day>`. Labels add to it and never read it."""

    pk = UnicodeAttribute(hash_key=True)


class DecidedRow(tables.Row):
    """The part of a decision's row that names its parties."""

    pk = UnicodeAttribute(hash_key=True)
    packed = BinaryAttribute(legacy_encoding=False, attr_name=PACKED)


class LabelStore:
    """The store of labels. Repeating a request is safe: labels that were accepted before stay unchanged."""

    def __init__(self, settings: Settings, ranking: Sequence[str]) -> None:
        """Bind the tables that the settings name.

        ranking  the sources from least to most trusted
        """
        self._rows = tables.bound(LabelRow, settings.labels_table)
        self._profiles = tables.bound(AccountProfile, settings.profiles_table)
        self._decisions = tables.bound(DecidedRow, settings.decisions_table)
        self._ranking = ranking
        self._connection = tables.connection()

    def accept(
        self, batch: LabelBatch, source: str, by: str, now: datetime, backfill_before: datetime | None = None
    ) -> LabelResults:
        """Accept or reject each label, in order, and return their results.

        source           the caller's source
        by               ARN of the caller
        now              becomes `known_at`, unless the label is dated back
        backfill_before  the stack's first decision, if the source dates labels back to before it (`Parties.known_at`)

        Raises ServiceError when a table fails. Labels that were accepted before the failure stay accepted.
        """
        results = []
        for item in batch.labels:
            if isinstance(item, LabelRequest):
                label = Label(item.label, item.reported_at, source, now, by, item.reason_code, item.amount)
                results.append(self._result(item, label, backfill_before))
            else:
                results.append(item)  # rejected when it was parsed
        return LabelResults(results=results)

    def holding(self, transaction_id: str) -> LabelValue | None:
        """Return the label that holds for a payment; None for a payment without labels. Raises ServiceError."""
        with translate_errors(PynamoDBException):
            _, history = self._read(transaction_id)
        return None if history is None else history.effective(self._ranking).label

    def _result(self, request: LabelRequest, label: Label, backfill_before: datetime | None) -> LabelResult:
        try:
            is_new = retry_conflicts(lambda _: self._accept(request, label, backfill_before), PynamoDBException)
        except InvalidRequestError as error:
            return LabelResult(transaction_id=request.transaction_id, status="rejected", errors=list(error.faults))
        return LabelResult(transaction_id=request.transaction_id, status="accepted" if is_new else "unchanged")

    def _accept(self, request: LabelRequest, label: Label, backfill_before: datetime | None) -> bool:
        """Accept one label and tell whether it is new. If it is new, row and buckets have been written.

        Raises InvalidRequestError when the label is rejected. The decision's parties are written first and separately:
        even if the label is then rejected or unchanged, no fraud may stay on a wrong account.
        """
        row, kept = self._read(request.transaction_id)
        stored = None if kept is None else kept.parties
        if stored is None or stored.type is None:
            stored = self._decided(request.transaction_id) or stored
        if kept is not None and stored is not None and stored is not kept.parties:
            kept, moves = kept.adopt(stored)
            self._write(row, kept, moves)
        parties = request.parties(stored)
        before = kept or LabelHistory(parties)
        known_at = parties.known_at(label.reported_at, label.known_at, backfill_before)
        after, moves = before.accept(label._replace(known_at=known_at), self._ranking)
        if after is before:
            return False
        self._write(row, after, moves)
        return True

    def _write(self, row: LabelRow, history: LabelHistory, moves: Sequence[Move]) -> None:
        """Write the row and the profiles together, or nothing if another writer has changed the row.

        A DynamoDB transaction takes only one update per item, so all moves of an account are one update.
        """
        for field, value in history.parties._asdict().items():
            setattr(row, field, value)
        row.history = [LabelAttribute(**said._asdict()) for said in history.labels]
        row.fraud_day = history.fraud_day
        with TransactWrite(connection=self._connection) as transaction:
            transaction.save(row)  # conditioned on the version that was read
            for account, own in groupby(sorted(moves), lambda move: move.account):
                transaction.update(self._profiles(f"account#{account}"), actions=[_addition(move) for move in own])

    def _read(self, transaction_id: str) -> tuple[LabelRow, LabelHistory | None]:
        """Return the row to write, and its history; the history is None when there is no row yet."""
        try:
            row = self._rows.get(transaction_id, consistent_read=True)
        except DoesNotExist:
            return self._rows(transaction_id), None
        parties = Parties._make(row.attribute_values.get(field) for field in Parties._fields)
        labels = tuple(_label(said.attribute_values) for said in row.history)
        return row, LabelHistory(parties, labels, None if row.fraud_day is None else int(row.fraud_day))

    def _decided(self, transaction_id: str) -> Parties | None:
        """Return the parties of the stored decision, or None when there is no decision."""
        try:
            row = self._decisions.get(transaction_id, consistent_read=True, attributes_to_get=["pk", PACKED])
        except DoesNotExist:
            return None
        return Parties.of(Transaction.model_validate_json(Contents.unpacked(row.packed).transaction))


def _label(values: Mapping[str, Any]) -> Label:
    """Read a label from the values of its attribute; PynamoDB may read a whole number as a float."""
    amount = values.get("amount")
    return Label(**{**values, "amount": None if amount is None else int(amount)})


def _addition(move: Move) -> Action:
    return Path(f"{move.prefix}{move.day}").add(move.change)
