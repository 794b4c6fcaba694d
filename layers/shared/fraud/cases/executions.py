"""The executions of cases: started once, and told when their case has gone past what they wait for. Pure.

A change of a case is written first, then its execution is told. Whoever dies in between leaves the case in the index of
due cases, and the sweep tells the execution. An execution is told only the id and the version of its case; it asks the
row for everything else.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Protocol

from fraud.cases.case import SYSTEM, Actor, Case, CaseEvent, State
from fraud.errors import CaseConflictError, NotFoundError, ServiceError

ENOUGH_MS = 5_000
"""Milliseconds that a case may take: with less left, a sweep leaves the rest to the next one."""

LOOK_AGAIN = timedelta(minutes=5)
"""Time to the next look at a case whose execution is at work: a state tries again for a quarter of an hour."""


class Machine(Protocol):
    """The state machine; `aws.state_machine.StateMachine` is it."""

    def start(self, name: str, payload: Mapping[str, Any]) -> None:
        """Start the execution of this name, unless it was started before."""

    def send(self, token: str, payload: Mapping[str, Any]) -> None:
        """Send a token, unless nobody waits for it any more."""


class CaseTable(Protocol):
    """The part of `cases.store.Cases` that executions need."""

    def get(self, name: str) -> Case:
        """Read a case."""

    def change(self, name: str, event: CaseEvent, actor: Actor, now: datetime, seen: int | None = None) -> Case:
        """Carry an event out."""

    def untold(self, name: str) -> Any:  # noqa: ANN401 - the store's Wait
        """Read the wait that a case has left behind."""

    def told(self, name: str, wait: Any) -> None:  # noqa: ANN401
        """Forget a wait."""

    def due(self, now: datetime) -> Iterator[tuple[str, datetime]]:
        """Yield the cases at which the sweep must look."""

    def look_again(self, case: Case, at: datetime | None) -> None:
        """Say when the sweep must look again."""


class CasesSwept(NamedTuple):
    """The result of a sweep: cases that it looked at, and the seconds by which the first of them was late."""

    cases: int
    lag_seconds: int


class Executions:
    """The executions of a table's cases on a machine. Every call may be repeated, and raises ServiceError."""

    def __init__(self, cases: CaseTable, machine: Machine) -> None:
        self._cases = cases
        self._machine = machine

    def start(self, case: Case) -> None:
        """Start the execution of a case, unless it was started before."""
        if case.state is State.COLLECTING:
            self._machine.start(case.case_id, {"case_id": case.case_id})

    def follow(self, case: Case) -> None:
        """Let the execution of a case follow its row: start it if it was not started, or tell it of the change."""
        self.start(case)
        self.tell(case)

    def tell(self, case: Case) -> None:
        """Send the token of the wait that a case has left behind, if there is one."""
        if (wait := self._cases.untold(case.case_id)) is not None:
            self.send(case, wait.token)
            self._cases.told(case.case_id, wait)

    def send(self, case: Case, token: str) -> None:
        """Send a token. It brings the execution nothing but the id and the version of its case."""
        self._machine.send(token, {"case_id": case.case_id, "version": case.version})

    def sweep(self, now: datetime, remaining_ms: Callable[[], int]) -> CasesSwept:
        """Look at the cases that are due, for as long as there is time; the next sweep looks at the rest.

        Raises the first ServiceError, after all cases.
        """
        cases, lag, failure = 0, 0, None
        for name, due in self._cases.due(now):
            if remaining_ms() < ENOUGH_MS:
                break
            lag = max(lag, int((now - due).total_seconds()))
            try:
                self._look(name, now)
                cases += 1
            except NotFoundError:  # its row is gone, and the index is late
                continue
            except ServiceError as error:
                failure = failure or error
        if failure is not None:
            raise failure
        return CasesSwept(cases, lag)

    def _look(self, name: str, now: datetime) -> None:
        """Do what the clock causes in a case, and what somebody who died has left undone."""
        case = self._cases.get(name)
        for event in case.clock_events(now):
            try:
                case = self._cases.change(name, event, SYSTEM, now)
            except CaseConflictError:  # an earlier event of the clock, or a person, was faster
                case = self._cases.get(name)
        self.follow(case)
        at = case.next_look()
        if at is not None and at <= now:
            self._cases.look_again(case, now + LOOK_AGAIN)
