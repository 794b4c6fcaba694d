"""What the environment says, parsed once, and the one clock.

template.yaml sets every variable named here and no other (a contract test compares the two). Everything that asks for
the time asks `settings.clock()`; the local box replaces it by the event clock of a replay.
"""

import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, StringConstraints, ValidationError

from fraud.errors import UndecidableError
from fraud.labels import Sources
from fraud.transaction import Currency, faults_of

Table = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{3,255}$")]


class Settings(BaseModel):
    """The stack's parameters as the functions see them; field `x_y` is the variable `X_Y`."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    stage: str
    currency: Currency
    scorer: Literal["embedded"]
    counters_table: Table
    profiles_table: Table
    decisions_table: Table
    audit_table: Table
    labels_table: Table
    label_sources: Annotated[Sources, PlainValidator(Sources.parse)]
    archive_bucket: str
    undecidable_queue_url: str
    fold_queue_url: str
    event_bus_name: str
    decision_retention_days: int = Field(ge=1)
    aws_endpoint_url: str | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """Raises UndecidableError naming every variable that is missing or wrong."""
        known = {name: environment[name.upper()] for name in cls.model_fields if name.upper() in environment}
        try:
            return cls.model_validate(known)
        except ValidationError as error:
            faults = "; ".join(f"{fault.field.upper()}: {fault.message}" for fault in faults_of(error))
            raise UndecidableError(f"environment: {faults}") from None


def _now() -> datetime:
    return datetime.now(UTC)


clock: Callable[[], datetime] = _now
"""The present, aware and in UTC. Call it as `settings.clock()`, so that a replacement is seen."""
