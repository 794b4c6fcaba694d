"""The tables that people write to, with PynamoDB: deny and allow lists on profiles, and the audit trail of every
change.

A change and its audit row are one DynamoDB transaction, conditioned on what was read: two people at once lose nothing,
and a change that changes nothing leaves no row. Each writer touches only its own top-level attribute of a profile.
"""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any, NamedTuple, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError
from pynamodb.attributes import ListAttribute, MapAttribute, UnicodeAttribute
from pynamodb.connection import Connection
from pynamodb.exceptions import DoesNotExist, PynamoDBException
from pynamodb.models import Model
from pynamodb.transactions import TransactWrite

from fraud.aws.boto import retry_conflicts, translate_errors
from fraud.errors import Fault, InvalidRequestError, NotFoundError
from fraud.settings import Settings
from fraud.transaction import Id, Instant, address, parse_body, utc

Clock = Callable[[], datetime]

LISTED = ("account", "device", "instrument", "ip")
"""Kinds of value that a list can hold: the kinds of profile."""


class DenyRequest(BaseModel):
    """The body of PUT /lists/deny/{kind}/{value}."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    reason: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    expires_at: Instant | None = Field(None, description="Null: until it is taken off the list.")

    @field_validator("expires_at")
    @classmethod
    def _is_ahead(cls, value: datetime | None, info: ValidationInfo) -> datetime | None:
        if value is not None and isinstance(info.context, ListContext) and value <= info.context.now:
            raise PydanticCustomError("expires_at_past", "must lie ahead")
        return value

    @classmethod
    def parse(cls, body: str | bytes, moment: "ListContext") -> Self:
        """Read a request body. Raises InvalidRequestError with every fault at once."""
        return parse_body(cls, body, moment)


class AllowRequest(DenyRequest):
    """The body of PUT /lists/allow/{kind}/{value}: what is silenced for every payment that the value has a part in, as
    payer, payee, device, instrument or ip, and until when; the payment's own time (`occurred_at`) is what counts.
    """

    expires_at: Instant = Field(description="Must lie ahead; a payment that occurs then or later is not silenced.")
    silences: Annotated[list[str], Field(min_length=1, max_length=20, description="Reason codes of rules, or `model`.")]

    @field_validator("silences")
    @classmethod
    def _may_be_silenced(cls, value: list[str], info: ValidationInfo) -> list[str]:
        if isinstance(info.context, ListContext) and not info.context.silenceable.issuperset(value):
            raise PydanticCustomError(
                "not_silenceable", "must be codes of unprotected rules, or `model`; deny, status and limits stay"
            )
        return sorted(set(value))


class ListContext(NamedTuple):
    """What an order is held against: the time, and the codes that an allow entry may name."""

    now: datetime
    silenceable: frozenset[str]


REQUESTS: dict[str, type[DenyRequest]] = {"deny": DenyRequest, "allow": AllowRequest}
"""The lists there are, and what is put on each."""


class ListEntry(BaseModel):
    """One value on a list."""

    model_config = ConfigDict(from_attributes=True)

    reason: str
    expires_at: str | None
    silences: list[str] | None = Field(None, description="Allow list only.")
    set_by: str
    set_at: str


class Change(BaseModel):
    """One row of the audit trail; no entry before: put on the list, none after: taken off."""

    model_config = ConfigDict(from_attributes=True)

    at: str
    by: str
    before: ListEntry | None
    after: ListEntry | None


class ListView(BaseModel):
    """The answer of GET /lists/{deny,allow}/{kind}/{value}; `active` is false once the entry has expired or been
    taken off.
    """

    kind: str
    value: str
    active: bool
    entry: ListEntry | None
    history: list[Change]


class ListEntryAttribute(MapAttribute[str, Any]):
    """An `ListEntry` as DynamoDB keeps it."""

    reason = UnicodeAttribute()
    expires_at = UnicodeAttribute(null=True)
    silences: ListAttribute[str] = ListAttribute(null=True)
    set_by = UnicodeAttribute()
    set_at = UnicodeAttribute()


class Limits:
    """A call that hangs must leave the function time to say so."""

    connect_timeout_seconds = 1
    read_timeout_seconds = 2
    max_retry_attempts = 1


class Profile(Model):
    """The part of a profile that lists own; folds, labels and account status have attributes of their own."""

    class Meta(Limits):  # noqa: D106 - PynamoDB's way to name a table
        table_name = "profiles"

    pk = UnicodeAttribute(hash_key=True)
    deny = ListEntryAttribute(null=True)
    allow = ListEntryAttribute(null=True)


class AuditRow(Model):
    """Who changed what, when: pk `<list>#<kind>#<value>`, sk the time. Rows are only ever added."""

    class Meta(Limits):  # noqa: D106 - PynamoDB's way to name a table
        table_name = "audit"

    pk = UnicodeAttribute(hash_key=True)
    at = UnicodeAttribute(range_key=True, attr_name="sk")
    by = UnicodeAttribute()
    before = ListEntryAttribute(null=True)
    after = ListEntryAttribute(null=True)


class ListKey:
    """One value that may be on a list. Raises InvalidRequestError for a kind or value that cannot exist."""

    def __init__(self, name: str, kind: str, value: str) -> None:
        if kind not in LISTED:
            raise InvalidRequestError((Fault("kind", "enum", f"must be one of {', '.join(LISTED)}"),))
        try:
            self.value = address(value) if kind == "ip" else TypeAdapter(Id).validate_python(value)
        except (ValidationError, PydanticCustomError):
            raise InvalidRequestError(
                (Fault("value", "format", f"must be an identifier of this kind: {kind}"),)
            ) from None
        self.kind = kind
        self.profile = f"{kind}#{self.value}"
        self.trail = f"{name}#{self.profile}"
        self.attribute: ListEntryAttribute = getattr(Profile, name)


class Lists:
    """Deny and allow lists: what the hot path reads as `deny` and `allow` of a profile.

    Every method raises UnavailableError when it must.
    """

    def __init__(self, settings: Settings) -> None:
        Profile.Meta.table_name = settings.profiles_table
        AuditRow.Meta.table_name = settings.audit_table

    def put(self, listed: ListKey, order: DenyRequest, by: str, clock: Clock) -> None:
        """Put a value on the list, or change its entry. The same order again changes nothing."""
        said = order.model_dump() | {"expires_at": None if order.expires_at is None else utc(order.expires_at)}
        _change(listed, said, by, clock)

    def delete(self, listed: ListKey, by: str, clock: Clock) -> None:
        """Take a value off the list; it need not be there."""
        _change(listed, None, by, clock)

    def view(self, listed: ListKey, now: datetime) -> ListView:
        """The entry and every change there ever was. Raises NotFoundError when there never was any."""
        with translate_errors(PynamoDBException):
            entry = _read(listed)
            rows = [Change.model_validate(row) for row in AuditRow.query(listed.trail, consistent_read=True)]
        if not rows:
            raise NotFoundError
        active = entry is not None and (entry.expires_at is None or entry.expires_at > utc(now))
        view = ListEntry.model_validate(entry) if entry is not None else None
        return ListView(kind=listed.kind, value=listed.value, active=active, entry=view, history=rows)


def _change(listed: ListKey, said: Mapping[str, Any] | None, by: str, clock: Clock) -> None:
    def change(attempt: int) -> None:
        before = _read(listed)
        if _says(before) != said:
            at = _instant(clock(), before, attempt)
            after = None if said is None else ListEntryAttribute(**said, set_by=by, set_at=at)
            _write(listed, before, after, AuditRow(listed.trail, at, by=by, before=before, after=after))

    retry_conflicts(change, PynamoDBException)


def _instant(now: datetime, before: ListEntryAttribute | None, attempt: int) -> str:
    """When a change is made: after the one it changes, and at an instant that no other row of the trail has."""
    earliest = now if before is None else max(now, datetime.fromisoformat(before.set_at) + timedelta(microseconds=1))
    return utc(earliest + timedelta(microseconds=attempt))


def _read(listed: ListKey) -> ListEntryAttribute | None:
    name = listed.attribute.attr_name
    try:
        row = Profile.get(listed.profile, consistent_read=True, attributes_to_get=["pk", name])
    except DoesNotExist:
        return None
    entry: ListEntryAttribute | None = getattr(row, name)
    return entry


def _write(listed: ListKey, before: ListEntryAttribute | None, after: ListEntryAttribute | None, row: AuditRow) -> None:
    entry = listed.attribute
    unchanged = entry.does_not_exist() if before is None else entry == before
    action = entry.remove() if after is None else entry.set(after)
    with TransactWrite(
        connection=Connection(connect_timeout_seconds=1, read_timeout_seconds=2, max_retry_attempts=1)
    ) as transaction:
        transaction.update(Profile(listed.profile), actions=[action], condition=unchanged)
        transaction.save(row, condition=AuditRow.pk.does_not_exist())


def _says(entry: ListEntryAttribute | None) -> dict[str, Any] | None:
    """What an entry means, apart from who set it and when."""
    if entry is None:
        return None
    said = {"reason": entry.reason, "expires_at": entry.expires_at}
    return said if entry.silences is None else said | {"silences": list(entry.silences)}
