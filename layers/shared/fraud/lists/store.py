"""The lists' tables, with PynamoDB: deny and allow entries on profiles, and the audit trail of every change.

A change and its audit row are written in one DynamoDB transaction, conditioned on the entry that was read and on the
end of the value's chain of rows (`fraud.audit`). So two people who write at once lose no change. A request that changes
nothing leaves no audit row. Every writer of a profile writes only its own top-level attributes, because folds, labels
and accounts write to the same item. A denied network is an entry like any other, and in the same transaction an
attribute of the item NETWORKS, which the hot path reads.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, NamedTuple

from pydantic_core import PydanticCustomError
from pynamodb.attributes import ListAttribute, MapAttribute, UnicodeAttribute
from pynamodb.exceptions import DoesNotExist, PynamoDBException
from pynamodb.expressions.condition import Condition
from pynamodb.expressions.operand import Path
from pynamodb.expressions.update import Action
from pynamodb.indexes import GlobalSecondaryIndex, IncludeProjection
from pynamodb.transactions import TransactWrite

from fraud.audit.store import ChainedRow, Trail
from fraud.aws import tables
from fraud.aws.boto import retry_conflicts, translate_errors
from fraud.counters.layout import NETWORKS
from fraud.errors import Fault, ForbiddenError, InvalidRequestError, NotFoundError
from fraud.lists.entry import (
    CHANGES_PER_PAGE,
    ENTRIES_PER_PAGE,
    ConfirmRequest,
    DenyRequest,
    ListChange,
    ListedEntry,
    ListEntry,
    ListKey,
    ListKind,
    ListPage,
    ListView,
)
from fraud.rules.networks import MOST
from fraud.rules.standing import denies, in_force, pending
from fraud.settings import Settings
from fraud.transaction import MAX_AGE, utc

Clock = Callable[[], datetime]

PRUNED = 20
"""Most networks that have ended and are removed in one change."""


class ListEntryAttribute(MapAttribute[str, Any]):
    """A `ListEntry` as DynamoDB keeps it."""

    reason = UnicodeAttribute()
    expires_at = UnicodeAttribute(null=True)
    silences: ListAttribute[str] = ListAttribute(null=True)
    set_by = UnicodeAttribute()
    set_at = UnicodeAttribute()
    confirmed_by = UnicodeAttribute(null=True)
    confirmed_at = UnicodeAttribute(null=True)


class DenyIndex(GlobalSecondaryIndex["Profile"]):
    """The profiles on the deny list, by kind: no other profile has the attribute `deny_kind`."""

    class Meta:  # noqa: D106 - PynamoDB's way to say so
        index_name, projection = "deny", IncludeProjection(["deny"])

    deny_kind = UnicodeAttribute(hash_key=True)
    pk = UnicodeAttribute(range_key=True)


class AllowIndex(GlobalSecondaryIndex["Profile"]):
    """The profiles on the allow list, by kind: no other profile has the attribute `allow_kind`."""

    class Meta:  # noqa: D106 - PynamoDB's way to say so
        index_name, projection = "allow", IncludeProjection(["allow"])

    allow_kind = UnicodeAttribute(hash_key=True)
    pk = UnicodeAttribute(range_key=True)


class Profile(tables.Row):
    """The part of a profile that lists own."""

    pk = UnicodeAttribute(hash_key=True)
    deny = ListEntryAttribute(null=True)
    deny_kind = UnicodeAttribute(null=True)
    denied = DenyIndex()
    allow = ListEntryAttribute(null=True)
    allow_kind = UnicodeAttribute(null=True)
    allowed = AllowIndex()


class AuditRow(ChainedRow):
    """One change of a list, in the chain `<list>#<kind>#<value>`."""

    before = ListEntryAttribute(null=True)
    after = ListEntryAttribute(null=True)


class Lists:
    """The deny and allow lists. The hot path reads their entries as `deny` and `allow` of a profile.

    Every method raises UnavailableError when a table does not respond, and ServiceError when it refuses a request.
    """

    def __init__(self, settings: Settings) -> None:
        self._profiles_table = settings.profiles_table
        self._profiles = tables.bound(Profile, settings.profiles_table)
        self._trail = Trail(AuditRow, settings.audit_table)
        self._connection = tables.connection()

    def put(self, key: ListKey, request: DenyRequest, by: str, clock: Clock) -> None:
        """Put a value on the list, or change its entry. The same request again changes nothing.

        by     ARN of the caller
        clock  called after the entry was read, so that a change is never older than the entry that it changes
        """
        self._change(key, _said(request), by, clock)

    def delete(self, key: ListKey, by: str, clock: Clock) -> None:
        """Take a value off the list. A value that is not on the list is no error.

        by     ARN of the caller
        clock  as for `put`
        """
        self._change(key, None, by, clock)

    def prepare(self, key: ListKey, request: DenyRequest | None, by: str, clock: Clock) -> "ListEdit | None":
        """Prepare a change of an entry that another store writes in a transaction of its own, with `add`.

        request  None: the value is taken off the list
        by       who changes it
        clock    as for `put`

        None: nothing is to be changed. Raises PynamoDB's errors.
        """
        return self._edit(key, None if request is None else _said(request), by, clock)

    def add(self, transaction: TransactWrite, edit: "ListEdit") -> None:
        """Add a change and its audit row to a transaction, which fails if the entry was changed meanwhile."""
        entry: ListEntryAttribute = getattr(Profile, edit.key.list_name)
        unchanged = entry.does_not_exist() if edit.before is None else entry == edit.before
        kind: UnicodeAttribute = getattr(Profile, f"{edit.key.list_name}_kind")
        actions: list[Action] = [entry.remove(), kind.remove()]
        if edit.after is not None:
            actions = [entry.set(edit.after), kind.set(edit.key.kind)]
        transaction.update(self._profiles(edit.key.profile), actions=actions, condition=unchanged)
        self._trail.add(transaction, edit.row)
        if edit.networks:
            transaction.update(self._profiles(NETWORKS), actions=list(edit.networks), condition=edit.unchanged_networks)

    def confirm(self, key: ListKey, request: ConfirmRequest, by: str, clock: Clock) -> None:
        """Confirm a pending entry. An entry that was confirmed before stays as it is.

        by     ARN of the caller
        clock  as for `put`

        Raises NotFoundError without an entry, InvalidRequestError when it was changed since the caller looked at it or
        needs no second person, and ForbiddenError for the caller who wrote it.
        """

        def change(_attempt: int) -> None:
            before = self._read(key)
            if before is None:
                raise NotFoundError
            if before.set_at != utc(request.set_at):
                raise InvalidRequestError((Fault("set_at", "changed", "must be that of the present entry"),))
            if not pending(before.silences or (), None):
                raise InvalidRequestError(
                    (Fault("value", "not_pending", "must have an entry that silences the model"),)
                )
            if before.confirmed_by is None:
                if before.set_by == by:
                    raise ForbiddenError
                head = self._trail.head(key.trail)
                at = head.next_at(clock())
                after = ListEntryAttribute(**before.attribute_values | {"confirmed_by": by, "confirmed_at": at})
                row = self._trail.row(head, at, by=by, before=before, after=after)
                self._write(ListEdit(key, before, after, row))

        retry_conflicts(change, PynamoDBException)

    def view(self, key: ListKey, now: datetime, before: str | None = None) -> ListView:
        """Return the entry and its latest changes.

        before  time of a change, to get the changes before it; None: up to the last one

        Raises NotFoundError when there are no such changes, as for a value that was never on the list.
        """
        with translate_errors(PynamoDBException):
            entry = self._read(key)
            found = self._trail.latest(key.trail, before, CHANGES_PER_PAGE + 1)
            rows = [ListChange.model_validate(row) for row in found]
        if not rows:
            raise NotFoundError
        page = rows[:CHANGES_PER_PAGE][::-1]
        return ListView(
            kind=key.kind,
            value=key.value,
            **_standing(entry, now),
            history=page,
            earlier=page[0].at if len(rows) > len(page) else None,
        )

    def page(self, name: str, kind: ListKind, now: datetime, after: str = "") -> ListPage:
        """Return the first values of a kind on a list and their entries, in the order of the values.

        name   of the list
        after  value after which the page begins
        """
        beyond = Profile.pk > f"{kind}#{after}"
        with translate_errors(PynamoDBException):
            found = self._profiles.query(kind, beyond, index_name=name, limit=ENTRIES_PER_PAGE + 1)
            rows = [(row.pk.partition("#")[2], getattr(row, name)) for row in found]
        entries = [ListedEntry(value=value, **_standing(entry, now)) for value, entry in rows[:ENTRIES_PER_PAGE]]
        return ListPage(kind=kind, entries=entries, next=entries[-1].value if len(rows) > len(entries) else None)

    def _change(self, key: ListKey, said: Mapping[str, Any] | None, by: str, clock: Clock) -> None:
        def change(_attempt: int) -> None:
            if (edit := self._edit(key, said, by, clock)) is not None:
                self._write(edit)

        retry_conflicts(change, PynamoDBException)

    def _edit(self, key: ListKey, said: Mapping[str, Any] | None, by: str, clock: Clock) -> "ListEdit | None":
        before = self._read(key)
        if _content(before) == said:
            return None
        head = self._trail.head(key.trail)
        now = clock()
        at = head.next_at(now)
        after = None if said is None else ListEntryAttribute(**said, set_by=by, set_at=at)
        row = self._trail.row(head, at, by=by, before=before, after=after)
        return ListEdit(key, before, after, row, *self._networks(key.network, after, now))

    def _networks(
        self, name: str | None, after: ListEntryAttribute | None, now: datetime
    ) -> tuple[list[Action], Condition | None]:
        """Return the change of the item of all denied networks, and its condition: nothing for another value.

        name   the network in its one spelling; None for another value
        after  its entry after the change

        A full item first loses networks that have ended so long ago that no payment of then is decided any more. Their
        entries stay. Raises InvalidRequestError when it is still full.
        """
        if name is None:
            return [], None
        network = Path([name])
        if after is None:
            return [network.remove()], None
        row = self._denied_networks()
        condition: Condition | None = None
        actions: list[Action] = [network.set(after.expires_at or "")]
        if name not in row and len(row) >= MOST:
            ended = list(islice(_ended(row, now - MAX_AGE), PRUNED))
            if not ended:
                raise InvalidRequestError((Fault("value", "too_many_networks", f"{MOST} networks are denied already"),))
            actions += [Path([each]).remove() for each in ended]
            for each in ended:
                unchanged = Path([each]) == row[each]
                condition = unchanged if condition is None else condition & unchanged
        return actions, condition

    def _denied_networks(self) -> dict[str, str]:
        """Return the end of each denied network by its name."""
        key = {"pk": {"S": NETWORKS}}
        found = self._connection.client.get_item(TableName=self._profiles_table, Key=key, ConsistentRead=True)
        return {name: end["S"] for name, end in found.get("Item", {}).items() if name != "pk"}

    def _read(self, key: ListKey) -> ListEntryAttribute | None:
        try:
            row = self._profiles.get(key.profile, consistent_read=True, attributes_to_get=["pk", key.list_name])
        except DoesNotExist:
            return None
        entry: ListEntryAttribute | None = getattr(row, key.list_name)
        return entry

    def _write(self, edit: "ListEdit") -> None:
        with TransactWrite(connection=self._connection) as transaction:
            self.add(transaction, edit)


class ListEdit(NamedTuple):
    """A change of an entry with its audit row, and the change of the item of all denied networks with its condition."""

    key: ListKey
    before: ListEntryAttribute | None
    after: ListEntryAttribute | None
    row: AuditRow
    networks: Sequence[Action] = ()
    unchanged_networks: Condition | None = None


def _said(request: DenyRequest) -> dict[str, Any]:
    """Return the content of an entry that a request asks for."""
    return request.model_dump() | {"expires_at": None if request.expires_at is None else utc(request.expires_at)}


def _ended(networks: Mapping[str, str], at: datetime) -> Iterator[str]:
    """Yield the names of the networks that are not in force at a time."""
    yield from (name for name, end in networks.items() if not denies({"deny": {"expires_at": end or None}}, at))


def _standing(entry: ListEntryAttribute | None, now: datetime) -> dict[str, Any]:
    """Return an entry as views show it, and whether it is active and pending.

    An entry whose end cannot be read has not expired.
    """
    view = ListEntry.model_validate(entry) if entry is not None else None
    waits = view is not None and pending(view.silences or (), view.confirmed_by)
    try:
        lasts = view is not None and in_force(view.expires_at, now)
    except PydanticCustomError:
        lasts = True
    return {"active": lasts and not waits, "pending": waits, "entry": view}


def _content(entry: ListEntryAttribute | None) -> dict[str, Any] | None:
    """Return the content of an entry, without its author and its time."""
    if entry is None:
        return None
    said = {"reason": entry.reason, "expires_at": entry.expires_at}
    return said if entry.silences is None else said | {"silences": list(entry.silences)}
