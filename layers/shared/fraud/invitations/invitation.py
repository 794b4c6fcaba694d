"""An invitation: its fields, its record in the stream, and its row in the archive. Pure.

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
from fraud.transaction import Id, Instant, not_ahead, parse_body

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
    occurred_at: Annotated[Instant, not_ahead("at_ahead")] = Field(
        description="When the invited account joined; at most 5 minutes ahead."
    )

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
