"""The labels table, with PynamoDB: one row for each transaction, and the fraud buckets that hang on it.

A row and the profiles it moves are one DynamoDB transaction, conditioned on the row's version as it was read: of two
writers at once one reads again, so buckets and rows agree at every instant. A row that was made from what a caller said
takes the decision's parties at the first label that finds one. Profiles are only ever added to, by attributes of their
own, because folds, lists and the account's status live in the same item.
"""

from collections.abc import Sequence
from datetime import datetime
from itertools import groupby
from typing import Any

from pynamodb.attributes import (
    Attribute,
    BinaryAttribute,
    ListAttribute,
    MapAttribute,
    NumberAttribute,
    UnicodeAttribute,
    VersionAttribute,
)
from pynamodb.connection import Connection
from pynamodb.constants import STRING
from pynamodb.exceptions import DoesNotExist, PynamoDBException
from pynamodb.expressions.operand import Path
from pynamodb.expressions.update import Action
from pynamodb.models import Model
from pynamodb.transactions import TransactWrite

from fraud.aws.boto import retry_conflicts
from fraud.decisions.record import PACKED, Contents
from fraud.errors import InvalidRequestError
from fraud.labels.label import History, Label, LabelBatch, LabelRequest, LabelResult, LabelResults, Move, Parties
from fraud.settings import Settings
from fraud.transaction import Transaction, instant, utc

CONNECT_S, READ_S = 1, 3
"""Patience with one request; it is then sent again, at most three times."""


class InstantAttribute(Attribute[datetime]):
    """A time in its one spelling."""

    attr_type = STRING

    def serialize(self, value: datetime) -> str:  # noqa: D102
        return utc(value)

    def deserialize(self, value: str) -> datetime:  # noqa: D102
        return instant(value)


class LabelAttribute(MapAttribute[str, Any]):
    """A `labels.Label` as DynamoDB keeps it."""

    label = UnicodeAttribute()
    reported_at = InstantAttribute()
    source = UnicodeAttribute()
    known_at = InstantAttribute()
    by = UnicodeAttribute()


class LabelRow(Model):
    """A `labels.History` as DynamoDB keeps it: the parties, every label, and the day on which it counts as fraud."""

    class Meta:  # noqa: D106 - PynamoDB's way to name a table
        table_name = "labels"
        connect_timeout_seconds = CONNECT_S
        read_timeout_seconds = READ_S

    transaction_id = UnicodeAttribute(hash_key=True, attr_name="pk")
    payer_id = UnicodeAttribute()
    payee_id = UnicodeAttribute(null=True)
    occurred_at = InstantAttribute()
    type = UnicodeAttribute(null=True)
    history: ListAttribute[LabelAttribute] = ListAttribute(of=LabelAttribute)
    fraud_day = NumberAttribute(null=True)
    version = VersionAttribute()


class AccountProfile(Model):
    """The part of an account's profile that labels own: `fo<day>` and `fi<day>`, added to and never read here."""

    class Meta:  # noqa: D106 - PynamoDB's way to name a table
        table_name = "profiles"

    pk = UnicodeAttribute(hash_key=True)


class DecidedRow(Model):
    """The part of a decision that says whom it concerned."""

    class Meta:  # noqa: D106 - PynamoDB's way to name a table
        table_name = "decisions"
        connect_timeout_seconds = CONNECT_S
        read_timeout_seconds = READ_S

    pk = UnicodeAttribute(hash_key=True)
    packed = BinaryAttribute(legacy_encoding=False, attr_name=PACKED)


class LabelStore:
    """Accepts labels. Repeating a request is safe: what was accepted before is unchanged."""

    def __init__(self, settings: Settings) -> None:
        LabelRow.Meta.table_name = settings.labels_table
        AccountProfile.Meta.table_name = settings.profiles_table
        DecidedRow.Meta.table_name = settings.decisions_table
        self._ranking = settings.label_sources.ranking
        self._connection = Connection(connect_timeout_seconds=CONNECT_S, read_timeout_seconds=READ_S)

    def accept(self, batch: LabelBatch, source: str, by: str, now: datetime) -> LabelResults:
        """Judge each label in order; `by` is the caller's ARN, `now` becomes `known_at`.

        Raises ServiceError when one of them cannot be judged; those before it stay accepted.
        """
        results = []
        for item in batch.labels:
            if isinstance(item, LabelRequest):
                results.append(self._result(item, Label(item.label, item.reported_at, source, now, by)))
            else:
                results.append(item)  # rejected when it was parsed
        return LabelResults(results=results)

    def _result(self, order: LabelRequest, label: Label) -> LabelResult:
        try:
            news = retry_conflicts(lambda _: self._accept(order, label), PynamoDBException)
        except InvalidRequestError as error:
            return LabelResult(transaction_id=order.transaction_id, status="rejected", errors=list(error.faults))
        return LabelResult(transaction_id=order.transaction_id, status="accepted" if news else "unchanged")

    def _accept(self, order: LabelRequest, label: Label) -> bool:
        """Whether the label is news; then row and buckets have moved. Raises InvalidRequestError.

        The decision's parties are taken over in a write of their own, because a label that is then rejected or
        unchanged must not leave a fraud on the wrong account.
        """
        row, kept = _read(order.transaction_id)
        stored = None if kept is None else kept.parties
        if stored is None or stored.type is None:
            stored = _decided(order.transaction_id) or stored
        if kept is not None and stored is not None and stored is not kept.parties:
            kept, moves = kept.adopt(stored)
            self._write(row, kept, moves)
        parties = order.parties(stored)
        before = kept or History(parties)
        after, moves = before.accept(label, self._ranking)
        if after is before:
            return False
        self._write(row, after, moves)
        return True

    def _write(self, row: LabelRow, history: History, moves: Sequence[Move]) -> None:
        """Write row and profiles together, or nothing if another writer was there.

        DynamoDB takes one update of an item in a transaction, so an account's moves are one.
        """
        for field, value in history.parties._asdict().items():
            setattr(row, field, value)
        row.history = [LabelAttribute(**said._asdict()) for said in history.labels]
        row.fraud_day = history.fraud_day
        with TransactWrite(connection=self._connection) as transaction:
            transaction.save(row)  # conditioned on the version that was read
            for account, own in groupby(sorted(moves), lambda move: move.account):
                transaction.update(AccountProfile(f"account#{account}"), actions=[_addition(move) for move in own])


def _addition(move: Move) -> Action:
    return Path(f"{move.prefix}{move.day}").add(move.change)


def _read(transaction_id: str) -> tuple[LabelRow, History | None]:
    """The row to write, and what it keeps if there is one."""
    try:
        row = LabelRow.get(transaction_id, consistent_read=True)
    except DoesNotExist:
        return LabelRow(transaction_id), None
    parties = Parties._make(row.attribute_values.get(field) for field in Parties._fields)
    labels = tuple(Label(**said.attribute_values) for said in row.history)
    return row, History(parties, labels, None if row.fraud_day is None else int(row.fraud_day))


def _decided(transaction_id: str) -> Parties | None:
    """The parties of the stored decision, if there is one."""
    try:
        row = DecidedRow.get(transaction_id, consistent_read=True, attributes_to_get=["pk", PACKED])
    except DoesNotExist:
        return None
    return Parties.of(Transaction.model_validate_json(Contents.unpacked(row.packed).transaction))
