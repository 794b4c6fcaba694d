"""The invitations of one request, and its response. Pure."""

from functools import partial
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from fraud.body import RequestBody, refused_alone
from fraud.errors import Fault
from fraud.invitations.invitation import Invitation
from fraud.transaction import Id

MAX_INVITATIONS = 100
"""Most invitations of one request."""


class InvitationResult(BaseModel):
    """The result of one invitation. `invitation_id` is null when the invitation's own `invitation_id` is faulty."""

    invitation_id: Id | None
    status: Literal["accepted", "refused"] = Field(description="`accepted`: again, too, if it was sent before.")
    errors: list[Fault] = Field([], description="Why it was refused.")


class InvitationResults(BaseModel):
    """The response of POST /invitations: one result for each invitation, in the order of the invitations."""

    results: list[InvitationResult]


class InvitationBatch(RequestBody):
    """The body of POST /invitations. A faulty one is refused on its own; the others are accepted all the same."""

    invitations: Annotated[
        list[Invitation | InvitationResult],  # a request holds only the first; the second is a refusal
        refused_alone(Invitation, "invitation_id", partial(InvitationResult, status="refused"), MAX_INVITATIONS),
    ]

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
