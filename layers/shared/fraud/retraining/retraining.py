"""A retraining: from its cause to a model that is promoted, refused, withdrawn or rolled back. Pure.

The machine is data (`fraud.retraining.moves`). The executions of `retraining` carry the steps out one after the other,
and read after each of them what is next. The row of the retraining is the truth, so an execution that died is followed
by another one, which goes on where the row stands.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from fraud.errors import ForbiddenError, RetrainingConflictError, RetrainingNow
from fraud.executions import UNTOLD
from fraud.retraining.gate import GateReport
from fraud.retraining.moves import (
    ENDED,
    JOBS,
    MOVES,
    OF_THE_CLOCK,
    STEPS,
    WHO,
    EventKind,
    RetrainingState,
    Role,
)
from fraud.scoring.registry import ModelVersion, Sha256, Version
from fraud.stepped_row import SteppedRow, reached
from fraud.transaction import Instant

MOST_TRIES = 2
"""How often a job is tried. What a job says of its failure goes to the log of the job, and its name into the row."""

MOST_RUNS = 5
"""How many executions a retraining may use up before it is given up."""

MOST_REASON = 1_000

Reason = Annotated[str, StringConstraints(min_length=1, max_length=MOST_REASON, strip_whitespace=True)]


class Terms(NamedTuple):
    """The stack's times.

    approval  for which a lead has time to approve a model
    shadow    for which a model is scored beside the champion
    canary    for which it decides for a share of the payers
    """

    approval: timedelta
    shadow: timedelta
    canary: timedelta

    def of(self, state: RetrainingState) -> timedelta | None:
        """Return how long a retraining stays in a state; None for a state without a time of its own."""
        return {
            RetrainingState.REGISTERED: self.approval,
            RetrainingState.SHADOW: self.shadow,
            RetrainingState.CANARY: self.canary,
        }.get(state)


class Actor(NamedTuple):
    """Who causes an event: `sub` of a lead's token, or `system`."""

    name: str
    role: Role


SYSTEM = Actor("system", "system")


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class RetrainingCause(_Part):
    """Why a model is trained again.

    not_inferior  a lead's reason for which a model may be promoted that is not better, as long as it is not worse
    """

    kind: Literal["schedule", "alarm", "lead"]
    id: Annotated[str, StringConstraints(min_length=1, max_length=256)] = Field(
        description="The day of the schedule, the alarm with its time, or the lead's request_id."
    )
    by: str = Field(description="`sub` of a lead, or `system`.")
    reason: Reason
    not_inferior: Reason | None = None


class ModelDecision(_Part):
    """What a lead decides: of a model that waits for approval, or of one that is rolled back."""

    decision: Literal["approved", "rejected", "rolled_back"]
    reason: Reason
    by: str
    at: Instant


class RetrainingEvent(_Part):
    """An event of a retraining with what was said."""

    kind: EventKind
    reason: Reason | None = None
    job: str | None = Field(None, description="The name of the job that has ended or failed.")
    step: str | None = Field(None, description="The step that has failed.")
    run: int | None = Field(None, description="The number of the execution that has failed.")
    champion: Version | None = Field(None, description="The champion with which the model is compared.")
    champion_sha256: Sha256 | None = None
    report: GateReport | None = None
    model: ModelVersion | None = None
    package: str | None = None


class Retraining(SteppedRow):
    """A retraining as it stands. The row in the table is the truth, and the execution follows it."""

    retraining_id: str
    cause: RetrainingCause
    opened_at: Instant
    state: RetrainingState = RetrainingState.REQUESTED
    champion: Version | None = Field(None, description="The model that decided when it began.")
    champion_sha256: Sha256 | None = Field(None, description="Of that model's manifest.")
    tries: int = Field(1, description="The number of the try of the present job.")
    jobs: Mapping[str, str] = Field({}, description="The name of each job that has ended well, by its event.")
    gate: GateReport | None = None
    shadow_since: Instant | None = Field(None, description="When the model began to score beside the champion.")
    shadow_gate: GateReport | None = None
    model: ModelVersion | None = None
    package: str | None = Field(None, description="The ARN of the model package in SageMaker's registry.")
    decision: ModelDecision | None = Field(None, description="What a lead has said of the model.")
    rollback: ModelDecision | None = None
    failed_step: str | None = None
    alarm: str | None = Field(None, description="The alarm that has withdrawn the model.")

    @classmethod
    def for_cause(cls, cause: RetrainingCause, now: datetime) -> Self:
        """Open a retraining."""
        return cls(retraining_id=retraining_id(cause), cause=cause, opened_at=now, since=now, changed_at=now)

    @property
    def now(self) -> RetrainingNow:
        """The state of the retraining, as the answer to a refused change has it."""
        by = None if self.decision is None else self.decision.by
        return RetrainingNow(retraining_id=self.retraining_id, state=self.state, version=self.version, decided_by=by)

    @property
    def name(self) -> str:
        """The key of the row."""
        return self.retraining_id

    @property
    def has_ended(self) -> bool:
        """Whether no step is left."""
        return self.state in ENDED

    @property
    def payload(self) -> dict[str, Any]:
        """The input of the execution."""
        return {"retraining_id": self.retraining_id}

    @property
    def step(self) -> str | None:
        """The state of the machine that comes next; None for a retraining that has ended."""
        return STEPS.get(self.state)

    @property
    def job(self) -> str | None:
        """The name of the job that comes next; None when the next step is none. Each try has a name of its own."""
        if self.state not in JOBS:
            return None
        return f"{self.retraining_id}-{JOBS[self.state]}-{self.run}-{self.tries}"

    @property
    def wait(self) -> str | None:
        """What the execution waits for; None while it is at work."""
        return self.state.value if self.state in OF_THE_CLOCK else None

    @property
    def has_turn(self) -> bool:
        """Whether no other retraining may begin."""
        return self.state not in ENDED | {RetrainingState.REQUESTED}

    def after(self, event: RetrainingEvent, actor: Actor, now: datetime, terms: Terms) -> Self:
        """Return the retraining after an event; itself when the event alters nothing.

        Raises ForbiddenError for an actor who may not cause the event, and RetrainingConflictError, which has the
        state, for an event that the state does not allow.
        """
        if actor.role not in WHO[event.kind]:
            raise ForbiddenError
        if self._has_happened(event, actor) or self._is_early(event, now):
            return self
        state = MOVES[self.state].get(event.kind)
        if state is None:
            raise RetrainingConflictError(self.now)
        if event.kind == "resumed" and self.run >= MOST_RUNS and "failed" in MOVES[self.state]:
            state, event = MOVES[self.state]["failed"], RetrainingEvent(kind="failed", step=self.step)
        said = _EFFECTS[event.kind](self, event, actor, now) if event.kind in _EFFECTS else {}
        if state is not self.state:
            limit = terms.of(state)
            said |= {"due": None if limit is None else now + limit, "since": now, "tries": 1}
        return self.changed(now, rests=event.kind == "resumed", state=state, **said)

    def _has_happened(self, event: RetrainingEvent, actor: Actor) -> bool:
        """Whether an event of the system came before or too late, or the same request came before."""
        if event.kind in _REPEATS and _REPEATS[event.kind](self, event, actor):
            return True
        if WHO[event.kind] != {"system"} or event.kind in MOVES[self.state]:
            return False
        return event.kind in _LATE or self.state in reached(MOVES, event.kind)

    def _is_early(self, event: RetrainingEvent, now: datetime) -> bool:
        """Whether an event of the clock comes before its time."""
        return event.kind in OF_THE_CLOCK.values() and not self.is_due(now)

    def clock_events(self, now: datetime) -> tuple[RetrainingEvent, ...]:
        """Return the event that the clock causes by now, if there is one."""
        if not self.is_due(now) or self.state not in OF_THE_CLOCK:
            return ()
        return (RetrainingEvent(kind=OF_THE_CLOCK[self.state]),)

    def next_look(self) -> datetime | None:
        """Return when the sweep must look next; None when it has ended and the bus was told.

        One that has just changed is looked at after a minute, in case its execution was not told.
        """
        return self.rests_until or self.changed_at + UNTOLD


def of_decision(rows: Sequence[Retraining]) -> Retraining:
    """Return which of the retrainings of one model a lead approves or rejects: the one that was opened last.

    rows  at least one
    """
    meant = [row for row in rows if row.decision is not None or "approved" in MOVES[row.state]]
    return max(meant or rows, key=lambda row: row.opened_at)


def of_rollback(rows: Sequence[Retraining], *, decides: bool) -> Retraining:
    """Return which of the retrainings of one model a rollback ends.

    rows     at least one
    decides  whether the model is the champion now: then the retraining that was promoted, else the one that is tried
    """
    if decides:
        meant = [row for row in rows if row.state is RetrainingState.CHAMPION]
    else:
        meant = [row for row in rows if row.rollback is not None or "rolled_back" in MOVES[row.state]]
    return max(meant or rows, key=lambda row: row.changed_at)  # a rollback that comes again finds what it has changed


# ---- what an event does beside the move ------------------------------------------------------------------------------

_Effect = Callable[[Retraining, RetrainingEvent, Actor, datetime], dict[str, Any]]


def _keeps(**fields: str) -> _Effect:
    """Return the effect that keeps fields of the event: the row's name of each, by the event's."""
    return lambda _row, event, _actor, _now: {own: getattr(event, said) for own, said in fields.items()}


def _shadowed(_row: Retraining, _event: RetrainingEvent, _actor: Actor, now: datetime) -> dict[str, Any]:
    return {"shadow_since": now}


def _decided(_row: Retraining, event: RetrainingEvent, actor: Actor, now: datetime) -> dict[str, Any]:
    field = "rollback" if event.kind == "rolled_back" else "decision"
    decision = {"decision": event.kind, "reason": event.reason, "by": actor.name, "at": now}
    return {field: ModelDecision.model_validate(decision)}


def _tried(row: Retraining, _event: RetrainingEvent, _actor: Actor, _now: datetime) -> dict[str, Any]:
    return {"tries": row.tries + 1}


def _ended_well(row: Retraining, event: RetrainingEvent, _actor: Actor, _now: datetime) -> dict[str, Any]:
    return {"jobs": {**row.jobs, event.kind: event.job}}


def _resumed(row: Retraining, _event: RetrainingEvent, _actor: Actor, _now: datetime) -> dict[str, Any]:
    return {"run": row.run + 1}


_EFFECTS: Mapping[EventKind, _Effect] = {
    "turn_taken": _keeps(champion="champion", champion_sha256="champion_sha256"),
    **dict.fromkeys(JOBS.values(), _ended_well),
    "job_failed": _tried,
    "passed_gate": _keeps(gate="report"),
    "refused": _keeps(gate="report"),
    "registered": _keeps(model="model", package="package"),
    "approved": _decided,
    "rejected": _decided,
    "rolled_back": _decided,
    "shadow_begun": _shadowed,
    "shadow_passed": _keeps(shadow_gate="report"),
    "shadow_failed": _keeps(shadow_gate="report"),
    "alarmed": _keeps(alarm="reason"),
    "failed": _keeps(failed_step="step"),
    "resumed": _resumed,
}
"""The fields that an event changes beside the state."""


def _other_job(row: Retraining, event: RetrainingEvent, _actor: Actor) -> bool:
    """Whether an event of a job tells of an earlier one."""
    return row.job != event.job


def _earlier_run(row: Retraining, event: RetrainingEvent, _actor: Actor) -> bool:
    return event.run is not None and event.run < row.run


def _same_decision(row: Retraining, event: RetrainingEvent, actor: Actor) -> bool:
    said = row.rollback if event.kind == "rolled_back" else row.decision
    return said is not None and (said.decision, said.by) == (event.kind, actor.name)


_REPEATS: Mapping[EventKind, Callable[[Retraining, RetrainingEvent, Actor], bool]] = {
    **dict.fromkeys((*JOBS.values(), "job_failed"), _other_job),
    "resumed": _earlier_run,
    **dict.fromkeys(("approved", "rejected", "rolled_back"), _same_decision),
}
"""Whether an event was said before, for those of which the state alone does not tell it."""

_LATE: frozenset[EventKind] = frozenset({*OF_THE_CLOCK.values(), "job_failed", "alarmed", "failed", "resumed"})
"""Events of the system that alter nothing in a state that does not name them."""


def retraining_id(cause: RetrainingCause) -> str:
    """Return the name of the retraining of a cause: 20 hexadecimal digits, for the names of jobs are short.

    >>> len(retraining_id(RetrainingCause(kind="schedule", id="2026-03-04", by="system", reason="the schedule")))
    20
    """
    return hashlib.sha256(f"{cause.kind}\n{cause.id}".encode()).hexdigest()[:20]
