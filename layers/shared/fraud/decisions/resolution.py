"""What becomes of a decision: its states, the changes between them, and the view of its history. Pure.

A challenge waits for the payer and a review for an analyst, each until it is due. Then the payment is approved or
declined, and its result follows: settled, failed or reversed. `MOVES` is the whole machine. A state never comes again.
A result is what has happened, so it is accepted whatever was decided (D-133).
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Literal, NamedTuple, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from fraud.decisions.decision import Decision
from fraud.decisions.record import Deadline
from fraud.errors import Fault, InvalidRequestError, ResolvedError, StateNow
from fraud.outcome import PENDING, Outcome
from fraud.transaction import Instant, Timestamp, parse_body, utc

CLOCKS_DIFFER = timedelta(minutes=5)
"""The most by which the app's clock may differ from this system's."""

Change = Literal[
    "challenge_passed",
    "challenge_failed",
    "review_approved",
    "review_declined",
    "expired_approved",
    "expired_declined",
    "settled",
    "failed",
    "reversed",
]
PaymentResult = Literal["settled", "failed", "reversed"]


class Status(StrEnum):
    """The state of a decision and its payment."""

    CHALLENGED = "challenged"
    IN_REVIEW = "in_review"
    APPROVED = "approved"
    DECLINED = "declined"
    SETTLED = "settled"
    FAILED = "failed"
    REVERSED = "reversed"


AS_DECIDED: Mapping[Outcome, Status] = {
    Outcome.APPROVE: Status.APPROVED,
    Outcome.CHALLENGE: Status.CHALLENGED,
    Outcome.REVIEW: Status.IN_REVIEW,
    Outcome.DECLINE: Status.DECLINED,
}
"""The state in which a decision begins."""

_RESULT_MOVES: Mapping[str, Status] = {
    "settled": Status.SETTLED,
    "failed": Status.FAILED,
    "reversed": Status.REVERSED,
}
"""The results of a payment: each state in which none is known accepts them."""

MOVES: Mapping[Status, Mapping[str, Status]] = {
    Status.CHALLENGED: {
        "challenge_passed": Status.APPROVED,
        "challenge_failed": Status.DECLINED,
        "expired_declined": Status.DECLINED,
        **_RESULT_MOVES,
    },
    Status.IN_REVIEW: {
        "review_approved": Status.APPROVED,
        "review_declined": Status.DECLINED,
        "expired_approved": Status.APPROVED,
        "expired_declined": Status.DECLINED,
        **_RESULT_MOVES,
    },
    Status.APPROVED: _RESULT_MOVES,
    Status.DECLINED: _RESULT_MOVES,
    Status.SETTLED: {"reversed": Status.REVERSED},
    Status.FAILED: {},
    Status.REVERSED: {},
}
"""The state that follows each change. A change that a state does not name is refused in it.

A payment that fails while it waits is over. An app that reports each payment's result reports a declined one as failed.
An app that has paid without waiting for this system, or against its decision, reports the payment as settled.
"""

BY: Mapping[str, str] = {
    "challenge_passed": "challenge",
    "challenge_failed": "challenge",
    "review_approved": "review",
    "review_declined": "review",
    "expired_approved": "expiry",
    "expired_declined": "expiry",
}
"""What made a change; the results of the payment are made by the `payment`."""

_RESULTS = frozenset(get_args(PaymentResult))


class StatusChange(BaseModel):
    """One change of a decision's status."""

    model_config = ConfigDict(frozen=True)

    at: Timestamp = Field(description="The time that the app named; of an expiry, the time at which it was due.")
    change: Literal["decided"] | Change
    outcome: Outcome = Field(description="The outcome from then on.")
    by: str = Field(description="`decision`, `challenge`, `review`, `expiry` or `payment`.", examples=["decision"])
    method: str | None = Field(None, description="How the challenge was put to the payer.", examples=["passkey"])


Changes = TypeAdapter(tuple[StatusChange, ...])
"""Reads and writes the changes that a row keeps."""


class Resolution(NamedTuple):
    """The state of a decision.

    outcome   as decided
    changes   after the decision, in the order in which they were accepted
    deadline  None for a decision that was never pending
    """

    outcome: Outcome
    decided_at: str
    deadline: Deadline | None = None
    changes: tuple[StatusChange, ...] = ()

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """Read the state from a decision's row, values with their DynamoDB types, as table, index and stream have it.

        >>> row = {"outcome": {"S": "approve"}, "decided_at": {"S": "2026-03-04T12:00:00.000000Z"}}
        >>> Resolution.of(row).status.value
        'approved'
        """
        deadline = None
        if "due" in row:
            due = datetime.fromisoformat(row["due"]["S"])
            deadline = Deadline(due.astimezone(UTC), Outcome(row["expires_to"]["S"]))
        changes = Changes.validate_json(row["changes"]["S"]) if "changes" in row else ()
        return cls(Outcome(row["outcome"]["S"]), row["decided_at"]["S"], deadline, changes)

    @property
    def statuses(self) -> list[Status]:
        """The state in which the decision began, and those to which its changes led."""
        found = [AS_DECIDED[self.outcome]]
        for each in self.changes:
            found.append(MOVES[found[-1]][each.change])
        return found

    @property
    def status(self) -> Status:
        """The state that the changes lead to."""
        return self.statuses[-1]

    @property
    def outcome_now(self) -> Outcome:
        """The outcome of the last change."""
        return self.changes[-1].outcome if self.changes else self.outcome

    @property
    def pending(self) -> bool:
        """Whether the decision still waits."""
        return self.status in {Status.CHALLENGED, Status.IN_REVIEW}

    def at(self, now: datetime) -> Self:
        """Return the state at a time: a decision that waits when it is due has expired, with or without a sweep.

        >>> from datetime import UTC
        >>> noon = datetime(2026, 3, 4, 12, tzinfo=UTC)
        >>> waiting = Resolution(Outcome.CHALLENGE, utc(noon), Deadline(noon, Outcome.DECLINE))
        >>> waiting.status.value, waiting.at(noon).status.value
        ('challenged', 'declined')
        """
        if self.deadline is None or not self.pending or now < self.deadline.due:
            return self
        change: Change = "expired_approved" if self.deadline.then is Outcome.APPROVE else "expired_declined"
        return self._with(change, self.deadline.due, None)

    def after(self, change: Change, at: datetime, now: datetime, method: str | None = None) -> Self:
        """Return the state after a change that is accepted at `now`.

        at  the time that the change itself names

        The same change once more alters nothing. Raises ResolvedError, which has the state, for a change that the state
        does not allow, and InvalidRequestError for one that lies before the decision.
        """
        if utc(at + CLOCKS_DIFFER) < self.decided_at:
            raise InvalidRequestError((Fault("at", "before_decision", "must not lie before the decision"),))
        present = self.at(now)
        if any(each.change == change for each in present.changes):
            return self
        if change not in MOVES[present.status]:
            by = present.changes[-1].by if present.changes else "decision"
            raise ResolvedError(StateNow(status=present.status, outcome_now=present.outcome_now, by=by))
        return present._with(change, at, method)  # noqa: SLF001 - its own class

    def _with(self, change: Change, at: datetime, method: str | None) -> Self:
        status = MOVES[self.status][change]
        outcome = {Status.APPROVED: Outcome.APPROVE, Status.DECLINED: Outcome.DECLINE}.get(status, self.outcome_now)
        if outcome in PENDING:  # the payment was over while it waited: nobody has approved it, and nobody will
            outcome = Outcome.DECLINE
        made = StatusChange(at=utc(at), change=change, outcome=outcome, by=BY.get(change, "payment"), method=method)
        return self._replace(changes=(*self.changes, made))


# ---- requests ------------------------------------------------------------------------------------------------------


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    at: Instant = Field(description="The time of the event, from the app's clock.", examples=["2026-03-04T12:03:00Z"])

    @classmethod
    def parse(cls, body: str | bytes, now: datetime) -> Self:
        """Parse a request body. Raises InvalidRequestError with every fault at once."""
        parsed = parse_body(cls, body, None)
        if parsed.at > now + CLOCKS_DIFFER:
            raise InvalidRequestError((Fault("at", "at_ahead", "must not be more than 5 minutes ahead"),))
        return parsed


class ChallengeAnswer(_Request):
    """The body of POST /decisions/{transaction_id}/challenge: whether the payer passed the challenge."""

    passed: bool
    method: str = Field(
        pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$", description="How the payer was asked.", examples=["passkey"]
    )

    @property
    def change(self) -> Change:
        """The change that the answer asks for."""
        return "challenge_passed" if self.passed else "challenge_failed"


class ResultReport(_Request):
    """The body of POST /decisions/{transaction_id}/result: what became of the payment itself."""

    status: PaymentResult

    @property
    def change(self) -> Change:
        """The change that the report asks for."""
        return self.status


# ---- the view ------------------------------------------------------------------------------------------------------


class DecisionView(BaseModel):
    """The decision as it was given, its status now, and its history."""

    decision: Decision
    status: Literal["final", "pending"]
    outcome_now: Outcome = Field(
        description="The outcome to follow now. `decline` beside the result `settled`: the payment was carried out, but"
        " nothing had approved it."
    )
    due: Timestamp | None = Field(description="When a pending decision expires; null for a final one.")
    result: PaymentResult | None = Field(description="What became of the payment; null until the app has said so.")
    history: list[StatusChange] = Field(description="The decision, and every change since, in order of acceptance.")


def view(answer: bytes, resolution: Resolution, now: datetime) -> bytes:
    """Return a `DecisionView`: the stored answer byte for byte, and around it the state at `now`.

    >>> from datetime import UTC
    >>> stored = b'{"outcome":"review", "decided_at":"2026-03-04T12:00:00Z"}'
    >>> noon = datetime(2026, 3, 4, 12, tzinfo=UTC)
    >>> seen = view(stored, Resolution(Outcome.REVIEW, "2026-03-04T12:00:00Z"), noon)
    >>> stored in seen, json.loads(seen)["status"]
    (True, 'pending')
    """
    present = resolution.at(now)
    decided = StatusChange(at=resolution.decided_at, change="decided", outcome=resolution.outcome, by="decision")
    results = [each.change for each in present.changes if each.change in _RESULTS]
    waits = present.pending and present.deadline is not None
    around = {
        "status": "pending" if present.pending else "final",
        "outcome_now": present.outcome_now,
        "due": utc(present.deadline.due) if waits and present.deadline else None,
        "result": results[-1] if results else None,
        "history": [each.model_dump(mode="json") for each in (decided, *present.changes)],
    }
    return b'{"decision":' + answer + b"," + json.dumps(around, separators=(",", ":")).encode()[1:]
