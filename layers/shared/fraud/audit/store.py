"""The audit trail's table, with PynamoDB, and its roots in S3.

A package describes its rows as a subclass of `ChainedRow` and adds a row in the DynamoDB transaction of the change that
the row tells of. So a change and its row are written together or not at all:

    head = trail.head(chain)
    at = head.next_at(now)
    row = trail.row(head, at, by=actor, ...)
    with TransactWrite(connection=...) as transaction:
        transaction.update(...)
        trail.add(transaction, row)

Read the head before what the change depends on, or let the transaction depend on that too: else the row may tell of a
state that another writer has changed meanwhile. A writer who was slower than another one gets a cancelled transaction,
and reads both anew (`retry_conflicts`).
"""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from itertools import chain as joined
from itertools import islice
from typing import Any, Generic, TypeVar

from pynamodb.attributes import BinaryAttribute, UnicodeAttribute
from pynamodb.exceptions import PynamoDBException
from pynamodb.indexes import GlobalSecondaryIndex, IncludeProjection
from pynamodb.transactions import TransactWrite

from fraud.audit.chain import Head, digest, number_of, place_of
from fraud.audit.roots import OVERLAP, PREFIX, Root, following, key_of
from fraud.aws import tables
from fraud.aws.boto import client, translate_errors
from fraud.errors import ServiceError
from fraud.transaction import utc

FIRST = place_of(0)
"""A sort key before those of all rows of a chain, and after those of rows that are older."""

TAKEN = frozenset({"PreconditionFailed", "ConditionalRequestConflict"})
"""S3's codes for an object that is there already, or that another call is just writing."""


class DayIndex(GlobalSecondaryIndex["ChainedRow"]):
    """The rows of all chains by day and time: a root finds those since the last one in it."""

    class Meta:  # noqa: D106 - PynamoDB's way to say so
        index_name, projection = "days", IncludeProjection(["hash"])

    day = UnicodeAttribute(hash_key=True)
    at = UnicodeAttribute(range_key=True)


class ChainedRow(tables.Row):
    """One row of a chain: pk is the chain's name, sk the row's number, or a time in a row that is older than the chain.

    Rows are only added. A subclass adds attributes of its own; the hash covers them too.
    """

    pk = UnicodeAttribute(hash_key=True)
    sk = UnicodeAttribute(range_key=True)
    at = UnicodeAttribute(null=True)
    by = UnicodeAttribute()
    day = UnicodeAttribute(null=True)
    prev = BinaryAttribute(null=True, legacy_encoding=False)
    hash = BinaryAttribute(null=True, legacy_encoding=False)
    days = DayIndex()


R = TypeVar("R", bound=ChainedRow)


class DocumentRow(ChainedRow):
    """A row that says in JSON what was changed. It has no text of a user, because this table never forgets."""

    document = UnicodeAttribute()


class Trail(Generic[R]):
    """The chains of one table whose rows have one description. Methods raise PynamoDB's errors."""

    def __init__(self, row: type[R], table_name: str) -> None:
        self._rows = tables.bound(row, table_name)

    def head(self, chain: str) -> Head:
        """Read the end of a chain consistently: number, hash and time of its last row; number 0 where there is none."""
        for row in self._rows.query(chain, consistent_read=True, scan_index_forward=False, limit=1):
            n = number_of(row.sk)
            return Head(chain, at=row.sk) if n is None else Head(chain, n, row.hash or b"", row.at)
        return Head(chain)

    def row(self, head: Head, at: str, **content: Any) -> R:  # noqa: ANN401 - attributes of the row's description
        """Return the row that follows a head.

        at       the time of the change, as `Head.next_at` returns it
        content  the attributes of the description, `by` among them
        """
        row = self._rows(head.chain, head.sk, at=at, day=at[:10], prev=head.hash, **content)
        row.hash = digest(row.serialize())
        return row

    def add(self, transaction: TransactWrite, row: R) -> None:
        """Put a row in a transaction, which fails if another writer has added a row since the head was read."""
        transaction.save(row, condition=ChainedRow.pk.does_not_exist())

    def latest(self, chain: str, before: str | None, most: int) -> Iterator[R]:
        """Yield rows, the latest first, at most `most` of them, those that are older than the chain included.

        before  a time, to get the rows before it. The rows after it are read too, and cost read units.
        """
        how: dict[str, Any] = {"consistent_read": True, "scan_index_forward": False, "limit": most}
        found: Iterable[R] = self._rows.query(chain, **how)
        if before is not None:
            chained = self._rows.query(chain, self._rows.sk > FIRST, filter_condition=self._rows.at < before, **how)
            found = joined(chained, self._rows.query(chain, self._rows.sk < before, **how))
        for row in islice(found, most):
            row.at = row.at or row.sk
            yield row


class Roots:
    """The roots of a table's chains, in a bucket whose objects are under lock."""

    def __init__(self, table_name: str, bucket: str) -> None:
        self._rows = tables.bound(ChainedRow, table_name)
        self._bucket = bucket
        self._s3 = client("s3")

    def write(self, until: datetime) -> Root | None:
        """Write the next root. Return None if one was written at or after `until`, or by another call meanwhile.

        Raises UnavailableError when a service does not respond, and ServiceError when it refuses a request or when the
        newest root cannot be read.
        """
        with translate_errors(PynamoDBException):
            last = self._newest()
            before = None if last is None else _parsed(last)
            if before is not None and before.since + OVERLAP >= until:
                return None
            rows = ((row.pk, row.sk, row.hash or b"") for row in self._since(before, until))
            root = following(last, rows, until)
            return root if self._put(root) else None

    def _newest(self) -> bytes | None:
        """Return the bytes of the newest root: the first one in a listing."""
        for found in self._s3.list_objects_v2(Bucket=self._bucket, Prefix=PREFIX, MaxKeys=1).get("Contents", ()):
            content: bytes = self._s3.get_object(Bucket=self._bucket, Key=found["Key"])["Body"].read()
            return content
        return None

    def _since(self, before: Root | None, until: datetime) -> Iterator[ChainedRow]:
        """Yield the rows since a root; without one all rows of all chains, whatever their age."""
        if before is None:
            yield from self._rows.scan(index_name="days")
            return
        day, last = before.since.date(), (until + OVERLAP).date()
        while day <= last:
            later = ChainedRow.at >= utc(before.since)
            yield from self._rows.query(f"{day}", later, index_name="days")
            day += timedelta(days=1)

    def _put(self, root: Root) -> bool:
        """Put a root, unless there is one of its number. Return whether it was put."""
        try:
            with translate_errors():
                self._s3.put_object(
                    Bucket=self._bucket,
                    Key=key_of(root.n),
                    Body=root.content,
                    ContentType="application/json",
                    ChecksumAlgorithm="SHA256",
                    IfNoneMatch="*",
                )
        except ServiceError as error:
            if error.code not in TAKEN:
                raise
            return False
        return True


def _parsed(content: bytes) -> Root:
    try:
        return Root.parse(content)
    except ValueError:
        raise ServiceError("UnreadableRoot") from None
