"""Entries of the deny and allow lists: the requests that write them, their keys, and the views that show them. Pure."""

from datetime import datetime, timedelta
from typing import Annotated, Literal, NamedTuple, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

from fraud.body import RequestBody
from fraud.errors import Fault, InvalidRequestError
from fraud.rules.networks import network
from fraud.transaction import Instant, Timestamp, address, identifier, instant, utc

ListKind = Literal["account", "device", "instrument", "ip"]
LISTED: tuple[ListKind, ...] = get_args(ListKind)
"""The kinds of value that a list can hold. They are the kinds of profile."""

CHANGES_PER_PAGE = 100
"""Most changes of one response: half a megabyte when every text has its full length. A response of Lambda takes six."""


ENTRIES_PER_PAGE = 500
"""Most entries of one response: a megabyte and a half when every text has its full length."""


class DenyRequest(RequestBody):
    """The body of PUT /lists/deny/{kind}/{value}."""

    reason: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    expires_at: Instant | None = Field(None, description="Null: until it is taken off the list.")

    @field_validator("expires_at")
    @classmethod
    def _is_ahead(cls, value: datetime | None, info: ValidationInfo) -> datetime | None:
        if value is not None and isinstance(info.context, ListContext) and value <= info.context.now:
            raise PydanticCustomError("expires_at_past", "must lie ahead of {now}", {"now": utc(info.context.now)})
        return value


class AllowRequest(DenyRequest):
    """The body of PUT /lists/allow/{kind}/{value}: the reason codes to silence, and until when.

    They are silenced for every payment in which the value takes part, as payer, payee, device, instrument or ip. The
    end is compared with the payment's own time (`occurred_at`). An entry that silences `model` is pending, and silences
    nothing at all, until another caller has confirmed it.
    """

    expires_at: Instant = Field(
        description="Must lie ahead, by at most the stack's parameter AllowMaxDays; a payment that occurs then or later"
        " is not silenced."
    )
    silences: Annotated[list[str], Field(min_length=1, max_length=20, description="Reason codes of rules, or `model`.")]

    @field_validator("expires_at")
    @classmethod
    def _is_soon(cls, value: datetime, info: ValidationInfo) -> datetime:
        if isinstance(info.context, ListContext) and value - info.context.now > info.context.longest:
            raise PydanticCustomError(
                "expires_at_too_late",
                "must be at most {days} days ahead of {now}",
                {"days": info.context.longest.days, "now": utc(info.context.now)},
            )
        return value

    @field_validator("silences")
    @classmethod
    def _may_be_silenced(cls, value: list[str], info: ValidationInfo) -> list[str]:
        if isinstance(info.context, ListContext) and not info.context.silenceable.issuperset(value):
            raise PydanticCustomError(
                "not_silenceable", "must be codes of unprotected rules, or `model`; deny, status and limits stay"
            )
        return sorted(set(value))


class ListContext(NamedTuple):
    """The context that a request is validated against.

    now          the present
    silenceable  the codes that an allow entry may name
    longest      how long an allow entry may last
    """

    now: datetime
    silenceable: frozenset[str]
    longest: timedelta


class ConfirmRequest(RequestBody):
    """The body of POST /lists/allow/{kind}/{value}/confirm: which entry the second person has looked at."""

    set_at: Instant = Field(
        description="`set_at` of the entry as it was shown. An entry that changed since is refused."
    )


REQUESTS: dict[str, type[DenyRequest]] = {"deny": DenyRequest, "allow": AllowRequest}
"""The request model of each list, by the list's name."""


class ListEntry(BaseModel):
    """One value on a list."""

    model_config = ConfigDict(from_attributes=True)

    reason: str
    expires_at: Timestamp | None
    silences: list[str] | None = Field(None, description="Allow list only.")
    set_by: str
    set_at: Timestamp
    confirmed_by: str | None = Field(None, description="Allow list only: the second person, if one has confirmed it.")
    confirmed_at: Timestamp | None = None


class ListChange(BaseModel):
    """One row of the audit trail: the entry before and after a change.

    Without an entry before, the value was put on the list; without an entry after, it was taken off.
    """

    model_config = ConfigDict(from_attributes=True)

    at: Timestamp
    by: str
    before: ListEntry | None
    after: ListEntry | None


class ListView(BaseModel):
    """The response of GET /lists/{deny,allow}/{kind}/{value}.

    `active` is false while the entry is pending, and once it has expired or has been taken off. `history` has the
    latest changes, at most 100, the oldest of them first.
    """

    kind: ListKind
    value: str
    active: bool
    pending: bool = Field(description="The entry silences the model, and nobody has confirmed it yet.")
    entry: ListEntry | None
    history: list[ListChange]
    earlier: Timestamp | None = Field(
        description="Send it as `before` to get the changes before these; null: there are none."
    )


class ListedEntry(BaseModel):
    """A value that is on a list. `active` and `pending` as in ListView."""

    value: str
    active: bool
    pending: bool
    entry: ListEntry


class ListPage(BaseModel):
    """The response of GET /lists/{deny,allow}/{kind}: at most 500 entries, in the order of their values.

    An entry that was put on the list or taken off within the last second may be missing, or still be there.
    """

    kind: ListKind
    entries: list[ListedEntry]
    next: str | None = Field(description="Send it as `after` to get the entries after these; null: there are none.")


class ListKey:
    """The key of one value on one list. Raises InvalidRequestError for a kind or value that cannot exist.

    >>> key = ListKey("deny", "ip", "2001:DB8::1")
    >>> key.profile, key.trail
    ('ip#2001:db8::1', 'deny#ip#2001:db8::1')
    >>> ListKey("deny", "ip", "::ffff:203.0.113.0/120").network
    '203.0.113.0/24'

    network  the value if it is a network of addresses, else None
    """

    def __init__(self, name: str, kind: str, value: str) -> None:
        self.kind = kind_of(kind)
        self.value = _spelled(kind, value)
        self.network = self.value if "/" in self.value else None
        if self.network is not None and name != "deny":
            raise InvalidRequestError(
                (Fault("value", "network", "must be one address: only a deny list has networks"),)
            )
        self.list_name = name
        self.profile = f"{kind}#{self.value}"
        self.trail = f"{name}#{self.profile}"


def kind_of(text: str) -> ListKind:
    """Return text as the kind of value that it names. Raises InvalidRequestError for any other text."""
    for kind in LISTED:
        if kind == text:
            return kind
    raise InvalidRequestError((Fault("kind", "unknown_value", f"must be one of {', '.join(LISTED)}"),))


def page_before(text: str) -> str:
    """Return the time before which a page of changes ends, as the trail has it. Raises InvalidRequestError."""
    try:
        return utc(instant(text))
    except PydanticCustomError as error:
        raise InvalidRequestError((Fault("before", error.type, error.message()),)) from None


def page_after(kind: str, text: str) -> str:
    """Return the value after which a page of entries begins, in its one spelling. Raises InvalidRequestError."""
    return _spelled(kind, text, "after") if text else ""


def _spelled(kind: str, value: str, field: str = "value") -> str:
    """Return a value in its one spelling. Raises InvalidRequestError when no payment can have it."""
    try:
        if kind == "ip":
            return network(value) if "/" in value else address(value)
        return identifier(value)
    except PydanticCustomError as error:
        raise InvalidRequestError((Fault(field, error.type, error.message()),)) from None
