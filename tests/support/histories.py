"""Small histories with invitations, written payment by payment."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from fraud.transaction import instant
from models.datasets import networks
from models.simulation.networks import Invitation, Network
from models.simulation.simulate import Labelled

DAY_0 = datetime(2026, 3, 1, tzinfo=UTC)


def day(number: float) -> datetime:
    """Return a time so many days after DAY_0."""
    return DAY_0 + timedelta(days=number)


class Histories:
    """Collects payments and invitations, and writes them as a HISTORY_DIR."""

    def __init__(self) -> None:
        self.payments: list[Labelled] = []
        self.invitations: list[Invitation] = []

    def pay(self, payer: str, payee: str, at: float, *, told: float | None = None, **fields: str) -> None:
        """Add a payment; `told` is the day on which it is called fraud."""
        body = {
            "transaction_id": f"t{len(self.payments)}", "type": "p2p", "payer_id": payer, "payee_id": payee,
            "amount": 100, "currency": "JPY", "occurred_at": day(at).isoformat(), "channel": "app",
        } | fields  # fmt: skip
        reported = day(at + 60 if told is None else told)
        self.payments.append(Labelled(body, "legitimate" if told is None else "fraud", None, reported, "verdict"))

    def invite(self, inviter: str, invitee: str, at: float) -> None:
        """Add an invitation."""
        self.invitations.append(Invitation(inviter, invitee, day(at)))

    def write(self, directory: Path) -> Path:
        """Write all that was added so far, and return the directory."""
        ordered = sorted(self.payments, key=lambda each: each.transaction["occurred_at"])
        networks.write(directory, Network(ordered, self.invitations, []))
        return directory


def to_a_friend(one: str, other: str, friend: str, at: float) -> list[Labelled]:
    """Return payments of two accounts to a third one, which nothing else joins."""
    made = Histories()
    for name, payer in (("one", one), ("other", other)):
        made.pay(payer, friend, at, transaction_id=f"to-a-friend-{name}")
    return made.payments


def by_time(payments: Sequence[Labelled]) -> list[Labelled]:
    """Return payments in the order of their time."""
    return sorted(payments, key=lambda each: instant(each.transaction["occurred_at"]))
