"""The events of the machine `graph` on the bus. `event_id` stays the same however often an event is published."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Literal, Self

from pydantic import BaseModel, Field

from fraud.decisions.events import Outbox
from fraud.errors import UnavailableError
from fraud.transaction import Id, Timestamp

NAMED = 100
"""Most accounts that an event names."""


class _GraphEvent(BaseModel):
    """The fields that every event of a run has."""

    version: Literal["1"] = "1"
    event_id: str = Field(examples=["0f343b0931126a20f133d67c2b018a3b"])
    run_id: str = Field(description="The name of the execution.")
    as_of: Timestamp = Field(description="The time of the snapshot: nothing later has a say in it.")

    @classmethod
    def of(cls, run_id: str, as_of: str, *part: object, **fields: object) -> Self:
        """Build an event of a run. `part`: what tells several events of one kind apart."""
        text = " ".join(map(str, (cls.__name__, run_id, *part)))
        event_id = hashlib.sha256(text.encode()).hexdigest()[:32]
        return cls.model_validate({"event_id": event_id, "run_id": run_id, "as_of": as_of} | fields)


class MarksPublished(_GraphEvent):
    """A snapshot of marks has come into force."""

    snapshot: int
    accounts: int = Field(description="Accounts that the snapshot has seen.")
    marked: int = Field(description="Accounts that it marks.")
    erased: int = Field(description="Accounts among them that were erased meanwhile, and have no mark.")
    views: Mapping[str, int] = Field(description="Marked accounts by view.")


class MarksKept(_GraphEvent):
    """A run has ended without a new snapshot: the marks before it stay in force."""

    why: Literal["gate", "failed", "at_work"]
    step: str | None = Field(description="The step that has failed.", examples=["Analyse"])
    failed_checks: tuple[str, ...] = Field(description="The checks of the gate that did not pass, with their figures.")
    in_force: int = Field(description="The number of the snapshot in force; 0: none.")


class TacticsChanged(_GraphEvent):
    """Accounts of a kind have multiplied, or a shape has, before any label exists."""

    view: str
    kind: Literal["accounts", "shape"] = Field(
        description="`accounts`: a sentence about accounts of a kind. `shape`: a shape has become more frequent; it"
        " names no accounts, and `expected` counts components."
    )
    sentence: str = Field(description="What has changed, for an analyst.")
    accounts: int = Field(description="Accounts of the kind in the window; 0 for a shape.")
    expected: float = Field(description="Accounts that the weeks before would let one expect.")
    rate: float = Field(description="Share of the window's components with such an account, or of the shape.")
    counterfactual: float = Field(description="That share in the weeks before.")
    window_from: Timestamp
    account_ids: tuple[Id, ...] = Field(
        max_length=NAMED,
        description=f"Up to {NAMED} of them, in the order of their ids, without those that were erased.",
    )
    account_id: Id | None = Field(description="One of them; null when all that were looked up were erased.")
    transaction_id: Id | None = Field(description="Its latest payment; null when none of those looked up has paid.")
    occurred_at: Timestamp | None = Field(description="The payment's own time.")
    case: bool = Field(description="Whether a case is opened: there are many accounts, and there is a payment.")


class GraphNotices:
    """Tells the bus of runs. Raises UnavailableError when the bus does not take an event."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    def publish(self, events: Sequence[BaseModel]) -> None:
        """Put events on the bus."""
        if events and self._outbox.publish(events):
            raise UnavailableError("PutEvents")
