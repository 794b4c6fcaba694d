"""The lists' tables, with PynamoDB: deny and allow entries on profiles, and the audit trail of every change.

A change and its audit row are written in one DynamoDB transaction, conditioned on the entry that was read. So two
people who write at once lose no change. A request that changes nothing leaves no audit row. Every writer of a profile
writes only its own top-level attributes, because folds, labels and accounts write to the same item.
"""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from pydantic_core import PydanticCustomError
from pynamodb.attributes import ListAttribute, MapAttribute, UnicodeAttribute
from pynamodb.exceptions import DoesNotExist, PynamoDBException
from pynamodb.transactions import TransactWrite

from fraud.aws import tables
from fraud.aws.boto import retry_conflicts, translate_errors
from fraud.errors import NotFoundError
from fraud.lists.entry import DenyRequest, ListChange, ListEntry, ListKey, ListView
from fraud.rules.standing import in_force
from fraud.settings import Settings
from fraud.transaction import utc

Clock = Callable[[], datetime]


class ListEntryAttribute(MapAttribute[str, Any]):
    """A `ListEntry` as DynamoDB keeps it."""

    reason = UnicodeAttribute()
    expires_at = UnicodeAttribute(null=True)
    silences: ListAttribute[str] = ListAttribute(null=True)
    set_by = UnicodeAttribute()
    set_at = UnicodeAttribute()


class Profile(tables.Row):
    """The part of a profile that lists own."""

    pk = UnicodeAttribute(hash_key=True)
    deny = ListEntryAttribute(null=True)
    allow = ListEntryAttribute(null=True)


class AuditRow(tables.Row):
    """One change of a list: pk is `<list>#<kind>#<value>`, sk is the time. Rows are only added."""

    pk = UnicodeAttribute(hash_key=True)
    at = UnicodeAttribute(range_key=True, attr_name="sk")
    by = UnicodeAttribute()
    before = ListEntryAttribute(null=True)
    after = ListEntryAttribute(null=True)


class Lists:
    """The deny and allow lists. The hot path reads their entries as `deny` and `allow` of a profile.

    Every method raises UnavailableError when a table does not respond, and ServiceError when it refuses a request.
    """

    def __init__(self, settings: Settings) -> None:
        self._profiles = tables.bound(Profile, settings.profiles_table)
        self._trail = tables.bound(AuditRow, settings.audit_table)
        self._connection = tables.connection()

    def put(self, key: ListKey, request: DenyRequest, by: str, clock: Clock) -> None:
        """Put a value on the list, or change its entry. The same request again changes nothing.

        by     ARN of the caller
        clock  called after the entry was read, so that a change is never older than the entry that it changes
        """
        said = request.model_dump() | {"expires_at": None if request.expires_at is None else utc(request.expires_at)}
        self._change(key, said, by, clock)

    def delete(self, key: ListKey, by: str, clock: Clock) -> None:
        """Take a value off the list. A value that is not on the list is no error.

        by     ARN of the caller
        clock  as for `put`
        """
        self._change(key, None, by, clock)

    def view(self, key: ListKey, now: datetime) -> ListView:
        """Return the entry and every change of it. Raises NotFoundError when the value was never on the list."""
        with translate_errors(PynamoDBException):
            entry = self._read(key)
            rows = [ListChange.model_validate(row) for row in self._trail.query(key.trail, consistent_read=True)]
        if not rows:
            raise NotFoundError
        view = ListEntry.model_validate(entry) if entry is not None else None
        return ListView(kind=key.kind, value=key.value, active=_is_active(entry, now), entry=view, history=rows)

    def _change(self, key: ListKey, said: Mapping[str, Any] | None, by: str, clock: Clock) -> None:
        def change(attempt: int) -> None:
            before = self._read(key)
            if _content(before) != said:
                at = _instant(clock(), before, attempt)
                after = None if said is None else ListEntryAttribute(**said, set_by=by, set_at=at)
                self._write(key, before, after, self._trail(key.trail, at, by=by, before=before, after=after))

        retry_conflicts(change, PynamoDBException)

    def _read(self, key: ListKey) -> ListEntryAttribute | None:
        try:
            row = self._profiles.get(key.profile, consistent_read=True, attributes_to_get=["pk", key.list_name])
        except DoesNotExist:
            return None
        entry: ListEntryAttribute | None = getattr(row, key.list_name)
        return entry

    def _write(
        self, key: ListKey, before: ListEntryAttribute | None, after: ListEntryAttribute | None, row: AuditRow
    ) -> None:
        entry: ListEntryAttribute = getattr(Profile, key.list_name)
        unchanged = entry.does_not_exist() if before is None else entry == before
        action = entry.remove() if after is None else entry.set(after)
        with TransactWrite(connection=self._connection) as transaction:
            transaction.update(self._profiles(key.profile), actions=[action], condition=unchanged)
            transaction.save(row, condition=AuditRow.pk.does_not_exist())


def _instant(now: datetime, before: ListEntryAttribute | None, attempt: int) -> str:
    """Return the time of a change: after the entry that it changes, and different from the time of any other row."""
    earliest = now if before is None else max(now, datetime.fromisoformat(before.set_at) + timedelta(microseconds=1))
    return utc(earliest + timedelta(microseconds=attempt))


def _is_active(entry: ListEntryAttribute | None, now: datetime) -> bool:
    """Tell whether there is an entry that has not expired. An entry whose end cannot be read has not expired."""
    try:
        return entry is not None and in_force(entry.expires_at, now)
    except PydanticCustomError:
        return True


def _content(entry: ListEntryAttribute | None) -> dict[str, Any] | None:
    """Return the content of an entry, without its author and its time."""
    if entry is None:
        return None
    said = {"reason": entry.reason, "expires_at": entry.expires_at}
    return said if entry.silences is None else said | {"silences": list(entry.silences)}
