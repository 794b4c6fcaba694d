"""The base of every PynamoDB model: the slow path's time limits, one spelling of time, and tables bound by a store.

A model class describes a row and knows no table. A store binds it to the table that its settings name (`bound`), so two
stores in one process, a test's and a door's, never write into each other's tables (D-062).
"""

import types
from datetime import datetime
from typing import Any, TypeVar

from pynamodb.attributes import Attribute, NumberAttribute, UnicodeAttribute
from pynamodb.connection import Connection
from pynamodb.constants import STRING
from pynamodb.indexes import GlobalSecondaryIndex, KeysOnlyProjection
from pynamodb.models import Model

from fraud.aws.failures import ATTEMPTS, CONNECT_S, READ_S
from fraud.transaction import instant, utc


class Row(Model):
    """Base of a row's description. It has no table until it is `bound` to one."""

    class Meta:  # noqa: D106 - PynamoDB's way to say so
        connect_timeout_seconds = CONNECT_S
        read_timeout_seconds = READ_S
        max_retry_attempts = ATTEMPTS - 1


R = TypeVar("R", bound=Row)


class DueIndex(GlobalSecondaryIndex[Any]):
    """The rows at which the sweep must look: `waits` is the partition, and only a row that has it is in the index."""

    class Meta:  # noqa: D106 - PynamoDB's way to say so
        index_name, projection = "due", KeysOnlyProjection()

    waits = UnicodeAttribute(hash_key=True)
    act_at = UnicodeAttribute(range_key=True)


class DueRow(Row):
    """A row at which the sweep must look at a time, if it has one: its document, and beside it what conditions need."""

    document = UnicodeAttribute()
    version = NumberAttribute()
    waits = UnicodeAttribute(null=True)
    act_at = UnicodeAttribute(null=True)
    by_time = DueIndex()


class FollowedRow(DueRow):
    """A row that an execution follows. The token of one that waits is a secret: it is here and nowhere else."""

    token = UnicodeAttribute(null=True)
    waits_for = UnicodeAttribute(null=True)


def bound(row: type[R], table_name: str) -> type[R]:
    """Return the row's class for one table; the class that was given is left as it is.

    >>> class Example(Row):
    ...     pass
    >>> bound(Example, "fraud-example").Meta.table_name, hasattr(Example.Meta, "table_name")
    ('fraud-example', False)
    """
    meta = type("Meta", (row.Meta,), {"table_name": table_name})
    return types.new_class(
        row.__name__, (row,), exec_body=lambda body: body.update(Meta=meta, __module__=row.__module__)
    )


def connection() -> Connection:
    """Make a connection for writes of several rows, all or none (`TransactWrite`), with the slow path's time limits."""
    limits = Row.Meta
    return Connection(
        connect_timeout_seconds=limits.connect_timeout_seconds,
        read_timeout_seconds=limits.read_timeout_seconds,
        max_retry_attempts=limits.max_retry_attempts,
    )


class InstantAttribute(Attribute[datetime]):
    """An aware time in its one spelling, RFC 3339 in UTC."""

    attr_type = STRING

    def serialize(self, value: datetime) -> str:  # noqa: D102
        return utc(value)

    def deserialize(self, value: str) -> datetime:  # noqa: D102
        return instant(value)
