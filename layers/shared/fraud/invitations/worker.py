"""Invitations on their way into the archive: the pseudonyms of both accounts first, then the rows."""

from collections.abc import Sequence
from datetime import datetime

from fraud.archive.store import Delivery, Pseudonyms
from fraud.counters.store import StackState
from fraud.errors import UnavailableError
from fraud.invitations.invitation import Invitation, invitation_row


class InvitationArchive:
    """The archive as invitations need it. Every call may be repeated: readers keep one row of each invitation."""

    def __init__(self, stack: StackState, pseudonyms: Pseudonyms, delivery: Delivery) -> None:
        self._stack = stack
        self._pseudonyms = pseudonyms
        self._delivery = delivery

    def keep(self, invitations: Sequence[Invitation], now: datetime) -> None:
        """Archive invitations. Raises ServiceError, UnavailableError among them: then some may be archived."""
        if not invitations:
            return
        self._stack.prepare(now)
        keys = self._stack.keys
        self._pseudonyms.write(keys, [account for each in invitations for account in each.accounts])
        rows = [invitation_row(keys, each) for each in invitations]
        if self._delivery.put(rows) < len(rows):
            raise UnavailableError("Firehose")
