"""An invitation: the request, its answer, its record in the stream, and its row in the archive. Pure.

An invitation moves no counter and decides nothing. Its one place is the archive, where the graph reads it. Copies of a
row have the same `event_id`; of two invitations with one id that differ, readers believe the earlier one (D-172).
"""

import json
from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from fraud.archive.record import ArchiveRow, dated, microseconds, pseudonym
from fraud.counters.keys import Keys
from fraud.errors import Fault
from fraud.transaction import MAX_AHEAD, Id, Instant, parse_body, refused_alone, utc

MAX_INVITATIONS = 100
"""Most invitations of one request."""

KIND = "invitation"
"""The `type` of an invitation in the stream, where payments have theirs."""


class Invitation(BaseModel):
    """One invitation: an account has brought another into the app.

    >>> said = {"invitation_id": "i-1", "inviter_id": "a", "invitee_id": "b", "occurred_at": "2026-03-04T12:00:00Z"}
    >>> Invitation(**said).accounts
    ('a', 'b')
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    invitation_id: Id = Field(description="The idempotency key.", examples=["i-20260304-1"])
    inviter_id: Id = Field(description="The account that invites.", examples=["account-1"])
    invitee_id: Id = Field(description="The account that joined by the invitation.", examples=["account-2"])
    occurred_at: Instant = Field(description="When the invited account joined; at most 5 minutes ahead.")

    @field_validator("occurred_at")
    @classmethod
    def _is_not_ahead(cls, value: datetime, info: ValidationInfo) -> datetime:
        if isinstance(info.context, datetime) and value - info.context > MAX_AHEAD:
            raise PydanticCustomError(
                "at_ahead", "must be at most 5 minutes ahead of {now}", {"now": utc(info.context)}
            )
        return value

    @field_validator("invitee_id")
    @classmethod
    def _is_another(cls, value: str, info: ValidationInfo) -> str:
        if value == info.data.get("inviter_id"):
            raise PydanticCustomError("invalid", "must differ from inviter_id")
        return value

    @property
    def accounts(self) -> tuple[str, str]:
        """The ids of both accounts: the inviter's first."""
        return self.inviter_id, self.invitee_id


class StreamedInvitation(Invitation):
    """An invitation as a record of the stream: the same fields, and `type`."""

    type: Literal["invitation"] = Field(description="Tells it apart from a payment.")

    @classmethod
    def parse(cls, record: bytes, now: datetime) -> Self | None:
        """Parse a record; None for one of another type. Raises InvalidRequestError with every fault.

        now  the present

        >>> from datetime import UTC
        >>> StreamedInvitation.parse(b'{"type": "p2p"}', datetime(2026, 3, 4, tzinfo=UTC)) is None
        True
        """
        return parse_body(cls, record, now) if _type(record) == KIND else None


def _type(record: bytes) -> object:
    """Return the `type` of a record of JSON; None for any other record."""
    try:
        found = json.loads(record)
    except (ValueError, RecursionError):
        return None
    return found.get("type") if isinstance(found, dict) else None


class InvitationResult(BaseModel):
    """The result of one invitation. `invitation_id` is null when the invitation's own `invitation_id` is faulty."""

    invitation_id: Id | None
    status: Literal["accepted", "refused"] = Field(description="`accepted`: again, too, if it was sent before.")
    errors: list[Fault] = Field([], description="Why it was refused.")


class InvitationResults(BaseModel):
    """The response of POST /invitations: one result for each invitation, in the order of the invitations."""

    results: list[InvitationResult]


def _refused(name: str | None, faults: list[Fault]) -> InvitationResult:
    return InvitationResult(invitation_id=name, status="refused", errors=faults)


class InvitationBatch(BaseModel):
    """The body of POST /invitations. A faulty one is refused on its own; the others are accepted all the same."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    invitations: Annotated[
        list[
            Annotated[
                Invitation | InvitationResult,  # a request holds only the first; the second is a refusal
                refused_alone(Invitation, "invitation_id", _refused),
            ]
        ],
        Field(min_length=1, max_length=MAX_INVITATIONS),
    ]

    @classmethod
    def parse(cls, body: str | bytes, now: datetime) -> Self:
        """Parse a request body. Raises InvalidRequestError when it is not a list of invitations at all.

        now  the present: times of invitations may lie at most MAX_AHEAD after it
        """
        return parse_body(cls, body, now)

    @property
    def accepted(self) -> list[Invitation]:
        """The invitations that have no fault."""
        return [each for each in self.invitations if isinstance(each, Invitation)]

    @property
    def answer(self) -> InvitationResults:
        """The response, once the accepted ones are archived."""
        return InvitationResults(
            results=[
                InvitationResult(invitation_id=each.invitation_id, status="accepted")
                if isinstance(each, Invitation)
                else each
                for each in self.invitations
            ]
        )


def invitation_row(keys: Keys, invitation: Invitation) -> ArchiveRow:
    """Return the archive's row of an invitation.

    >>> from fraud.counters.keys import DECLARED
    >>> said = {"invitation_id": "i-1", "inviter_id": "a", "invitee_id": "b", "occurred_at": "2026-03-04T12:00:00Z"}
    >>> invitation_row(DECLARED, Invitation(**said))["day"]
    '2026-03-04'
    """
    row = {
        "event_id": pseudonym(keys, KIND, invitation.invitation_id),
        "inviter": pseudonym(keys, "account", invitation.inviter_id),
        "invitee": pseudonym(keys, "account", invitation.invitee_id),
        "id_key_since": keys.ids_since,
        "occurred_at": microseconds(invitation.occurred_at),
    }
    return dated(row, invitation.occurred_at)
