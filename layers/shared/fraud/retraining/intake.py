"""The intake of retrainings: which events of the bus begin one, or change the one at work. Pure.

An event may come again, in any order. A schedule begins one retraining a day, and an alarm one each time it goes off.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any, Protocol

from fraud.errors import NotFoundError, RetrainingConflictError
from fraud.executions import Executions
from fraud.retraining.moves import MOVES
from fraud.retraining.retraining import SYSTEM, Actor, Retraining, RetrainingCause, RetrainingEvent
from fraud.transaction import instant


class RetrainingTable(Protocol):
    """The part of `retraining.store.Retrainings` that the intake needs."""

    def open(self, cause: RetrainingCause, actor: Actor, now: datetime) -> Retraining:
        """Open a retraining."""

    def at_work(self) -> Retraining | None:
        """Read the retraining that has the turn."""

    def change(self, name: str, event: RetrainingEvent, actor: Actor, now: datetime) -> Retraining:
        """Carry an event out."""


class RetrainingIntake:
    """Takes events of the bus. Every call may be repeated, and raises ServiceError."""

    def __init__(self, table: RetrainingTable, executions: Executions[Retraining]) -> None:
        self._table = table
        self._executions = executions

    def take(self, event: Mapping[str, Any], now: datetime) -> Retraining | None:
        """Do what an event asks for, and return its retraining; None when it asks for nothing.

        Raises KeyError for an event that the intake does not know: a rule of the template sends too much.
        """
        return _TAKEN[event["detail-type"]](self, event, now)

    def ended(self, row: Retraining, now: datetime) -> None:
        """Take that the execution of an open retraining is over: the event that tells so was lost."""
        self._resumed(row.retraining_id, row.run, now)

    def _scheduled(self, event: Mapping[str, Any], now: datetime) -> Retraining:
        day = f"{instant(event['time']).date()}"
        return self._open(RetrainingCause(kind="schedule", id=day, by=SYSTEM.name, reason="The schedule."), now)

    def _alarmed(self, event: Mapping[str, Any], now: datetime) -> Retraining | None:
        """Take an alarm: while a model is tried it is withdrawn, else a retraining begins."""
        name, at = event["detail"]["alarmName"], event["detail"]["state"]["timestamp"]
        if any(each in name for each in CANARY_ALARMS):
            return self._withdraw(name, now)
        return self._open(
            RetrainingCause(kind="alarm", id=f"{name}@{at}", by=SYSTEM.name, reason=f"The alarm {name}."), now
        )

    def _withdraw(self, alarm: str, now: datetime) -> Retraining | None:
        at_work = self._table.at_work()
        if at_work is None or "alarmed" not in MOVES[at_work.state]:
            return None
        event = RetrainingEvent(kind="alarmed", reason=alarm)
        row = self._table.change(at_work.retraining_id, event, SYSTEM, now)
        self._executions.follow(row)
        return row

    def _ended(self, event: Mapping[str, Any], now: datetime) -> Retraining | None:
        """Take the end of an execution before its retraining's."""
        name, _, run = event["detail"]["name"].partition("-")
        return self._resumed(name, int(run or 1), now)

    def _resumed(self, name: str, run: int, now: datetime) -> Retraining | None:
        with suppress(NotFoundError, RetrainingConflictError):
            return self._table.change(name, RetrainingEvent(kind="resumed", run=run), SYSTEM, now)
        return None

    def _open(self, cause: RetrainingCause, now: datetime) -> Retraining:
        row = self._table.open(cause, SYSTEM, now)
        self._executions.start(row)
        return row


CANARY_ALARMS = ("CanaryDiffers", "ChallengerFails")
"""The alarms that withdraw a model which is tried, as parts of their names: CloudFormation adds to the logical id."""

_TAKEN: Mapping[str, Callable[[RetrainingIntake, Mapping[str, Any], datetime], Retraining | None]] = {
    "Scheduled Event": RetrainingIntake._scheduled,  # noqa: SLF001 - its own class
    "CloudWatch Alarm State Change": RetrainingIntake._alarmed,  # noqa: SLF001
    "Step Functions Execution Status Change": RetrainingIntake._ended,  # noqa: SLF001
}
"""What is done with each event, by its detail-type."""
