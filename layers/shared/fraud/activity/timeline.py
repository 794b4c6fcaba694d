"""The timeline: the latest decisions of a payer. Pure.

It has two parts: the last 50 decisions that were not approved, and the last 20 that were, each in the order of the
payments' own times. A decision has one id and appears once, however often it is delivered.
"""

import json
from collections.abc import Iterable, Mapping
from typing import NamedTuple, Self

from fraud.outcome import Outcome
from fraud.transaction import Transaction

STOPPED, APPROVED = "recent", "approved"
"""The names of the two parts: decisions that were not approved, and those that were. They are items of their own: a
full part of approved decisions takes one write unit, both together would take two (D-100).
"""

MOST: Mapping[str, int] = {STOPPED: 50, APPROVED: 20}
"""Decisions that a part keeps."""


class RecentDecision(NamedTuple):
    """A decision on the timeline of its payer.

    epoch   seconds since 1970 of the payment's own time
    amount  minor units
    code    code of the first reason; empty when there is none
    """

    epoch: int
    transaction_id: str
    outcome: Outcome
    type: str
    amount: int
    code: str

    @property
    def part(self) -> str:
        """The part of the timeline on which the decision is listed."""
        return APPROVED if self.outcome is Outcome.APPROVE else STOPPED

    @classmethod
    def of(cls, transaction: Transaction, answer: bytes) -> Self:
        """Return the entry of a decision. `answer`: the response to the payment, as it is stored."""
        said = json.loads(answer)
        reasons = said["reasons"]
        return cls(
            transaction.epoch,
            transaction.transaction_id,
            Outcome(said["outcome"]),
            transaction.type,
            transaction.amount,
            reasons[0]["code"] if reasons else "",
        )


Timeline = tuple[RecentDecision, ...]


def latest(part: str, decisions: Iterable[RecentDecision]) -> Timeline:
    """Return what a part keeps of decisions: each once, in the order of the payments' times and then of ids."""
    return tuple(sorted(set(decisions))[-MOST[part] :])
