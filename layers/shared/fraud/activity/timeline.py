"""The timeline: the latest decisions of a payer. Pure.

It holds the last MOST_STOPPED decisions that were not approved and the last MOST_APPROVED that were, in the order of
the payments' own times. A decision has one id and appears once, however often it is delivered.
"""

import json
from collections.abc import Iterable
from typing import NamedTuple, Self

from fraud.outcome import Outcome
from fraud.transaction import Transaction

MOST_STOPPED, MOST_APPROVED = 50, 20


class RecentDecision(NamedTuple):
    """A decision on the timeline of its payer.

    epoch   seconds since 1970 of the payment's own time
    amount  minor units
    code    code of the first reason; empty when the payment was approved without one
    """

    epoch: int
    transaction_id: str
    outcome: Outcome
    type: str
    amount: int
    code: str

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


def latest(decisions: Iterable[RecentDecision]) -> Timeline:
    """Return the decisions that a timeline keeps, each once, in the order of the payments' times and then of ids."""
    ordered = sorted(set(decisions))
    stopped = [one for one in ordered if one.outcome is not Outcome.APPROVE][-MOST_STOPPED:]
    passed = [one for one in ordered if one.outcome is Outcome.APPROVE][-MOST_APPROVED:]
    return tuple(sorted(stopped + passed))
