"""The rows of accounts, actions, orders and the cap, with PynamoDB. `fraud.accounts.store` reads and writes them.

All lie in one table. Its three indexes are sparse: the actions of each account, the actions that wait for a lead, and
what the sweep must look at, by kind and time.
"""

from typing import Any

from pynamodb.attributes import MapAttribute, NumberAttribute, UnicodeAttribute, UnicodeSetAttribute
from pynamodb.indexes import AllProjection, GlobalSecondaryIndex

from fraud.aws import tables

ACCOUNT, ACTION, ORDER, CAP = "account", "action", "order", "cap"
"""The sort key of each kind of row, and the partition of the index `due` for those that the sweep looks at."""

OWED = "owed"
"""The partition of the index `due` for actions that have ended, and of whose end the bus must still be told."""


class AccountIndex(GlobalSecondaryIndex["ActionRow"]):
    """All actions against an account."""

    class Meta:  # noqa: D106 - PynamoDB's way to say so
        index_name, projection = "account", AllProjection()

    account_id = UnicodeAttribute(hash_key=True)
    opened_at = UnicodeAttribute(range_key=True)


class WaitingIndex(GlobalSecondaryIndex["ActionRow"]):
    """The actions that wait for a lead: `queued` above the cap, or `appealed`."""

    class Meta:  # noqa: D106 - PynamoDB's way to say so
        index_name, projection = "waiting", AllProjection()

    waiting = UnicodeAttribute(hash_key=True)
    since = UnicodeAttribute(range_key=True)


class _Document(tables.DueRow):
    """A row with a document, its version, and when the sweep must look at it."""

    pk = UnicodeAttribute(hash_key=True)
    sk = UnicodeAttribute(range_key=True)
    ttl = NumberAttribute(null=True)


class AccountRow(_Document):
    """An `Account` as DynamoDB keeps it: pk is `account#<id>`. The document is the truth of the account's status."""


class ActionRow(_Document, tables.FollowedRow):
    """An `Action` as DynamoDB keeps it: pk is its id."""

    account_id = UnicodeAttribute()
    opened_at = UnicodeAttribute()
    waiting = UnicodeAttribute(null=True)
    since = UnicodeAttribute(null=True)
    of_account = AccountIndex()
    by_wait = WaitingIndex()


class OrderRow(_Document):
    """An `Order` as DynamoDB keeps it: pk is `order#<order_id>`."""


class CapRow(tables.Row):
    """The cap's numbers of a period: pk is `cap#<hour or day>`. Each scope has an attribute of its own."""

    pk = UnicodeAttribute(hash_key=True)
    sk = UnicodeAttribute(range_key=True, default=CAP)
    names = UnicodeSetAttribute(null=True, attr_name="x")
    ttl = NumberAttribute(null=True)


class StatusProfile(tables.Row):
    """The part of an account's profile that accounts own: the attribute `status`, which the hot path reads."""

    pk = UnicodeAttribute(hash_key=True)
    status: MapAttribute[str, Any] = MapAttribute(null=True)
