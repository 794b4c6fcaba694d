"""The events of retrainings on the bus. `event_id` stays the same however often an event is published."""

import hashlib
from collections.abc import Callable, Mapping
from typing import Literal, Self

from pydantic import BaseModel, Field

from fraud.decisions.events import Outbox
from fraud.errors import UnavailableError
from fraud.retraining.moves import RetrainingState
from fraud.retraining.retraining import Retraining
from fraud.scoring.registry import Version
from fraud.transaction import Timestamp, utc


class _RetrainingEvent(BaseModel):
    """The fields that every event of a retraining has."""

    version: Literal["1"] = "1"
    event_id: str = Field(examples=["0f343b0931126a20f133d67c2b018a3b"])
    retraining_id: str
    cause: Literal["schedule", "alarm", "lead"] = Field(description="Why the model was trained again.")
    model: Version | None = Field(description="The version of the new model; null before it is registered.")
    champion: Version | None = Field(description="The model that decided when the retraining began.")
    at: Timestamp = Field(description="The time of the change of which the event tells, however often it does.")

    @classmethod
    def of(cls, row: Retraining, **fields: object) -> Self:
        """Build the event of a retraining."""
        common = {
            "event_id": hashlib.sha256(f"{cls.__name__} {row.retraining_id}".encode()).hexdigest()[:32],
            "retraining_id": row.retraining_id,
            "cause": row.cause.kind,
            "model": None if row.model is None else row.model.version,
            "champion": row.champion,
            "at": utc(row.since),
        }
        return cls.model_validate(common | fields)


class ModelAwaitsApproval(_RetrainingEvent):
    """A model has passed the gate: a lead approves or rejects it."""

    due: Timestamp | None = Field(description="Then it is dropped by itself.")


class ModelPromoted(_RetrainingEvent):
    """A model has become the champion."""


class ModelTakenBack(_RetrainingEvent):
    """A model that was tried was withdrawn, or the champion was rolled back: what was before it stands again."""

    why: Literal["shadow_gate", "alarm", "failed", "rolled_back"]


class RetrainingEnded(_RetrainingEvent):
    """A retraining has ended without a model that was tried."""

    state: Literal["skipped", "refused", "rejected", "expired", "failed"]
    failed_checks: tuple[str, ...] = Field(description="The checks of the gate that did not pass.")
    step: str | None = Field(description="The step that has failed.", examples=["Train"])


Publish = Callable[[BaseModel], None]
"""Puts an event on the bus: `RetrainingNotices.publish`."""


def _ended(row: Retraining) -> BaseModel:
    failed = row.gate.failed if row.gate is not None else ()
    return RetrainingEnded.of(row, state=row.state, failed_checks=failed, step=row.failed_step)


def _taken_back(row: Retraining) -> BaseModel:
    if row.rollback is not None:
        why = "rolled_back"
    elif row.alarm is not None:
        why = "alarm"
    else:
        why = "failed" if row.shadow_gate is None or row.shadow_gate.passed else "shadow_gate"
    return ModelTakenBack.of(row, why=why)


WITHOUT_A_MODEL = tuple(map(RetrainingState, ("skipped", "refused", "rejected", "expired", "failed")))

END: Mapping[RetrainingState, Callable[[Retraining], BaseModel]] = {
    **dict.fromkeys(WITHOUT_A_MODEL, _ended),
    RetrainingState.CHAMPION: ModelPromoted.of,
    RetrainingState.RESTORED: _taken_back,
    RetrainingState.ROLLED_BACK: _taken_back,
}
"""The event of each end. Every end is told."""


def tell_end(publish: Publish, row: Retraining) -> None:
    """Tell the bus of the end of a retraining. Once more is the same event."""
    publish(END[row.state](row))


class RetrainingNotices:
    """Tells the bus of retrainings. Raises UnavailableError when the bus does not take an event."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    def publish(self, event: BaseModel) -> None:
        """Put an event on the bus."""
        if self._outbox.publish([event]):
            raise UnavailableError("PutEvents")
