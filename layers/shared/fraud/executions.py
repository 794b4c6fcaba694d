"""Executions that follow rows: started once, and told when their row has gone past what they wait for. Pure.

A change of a row is written first, then its execution is told. Whoever dies in between leaves the row in the index of
due rows, and the sweep tells the execution. An execution is told only the key and the version of its row; it asks the
row for everything else. The sweep also looks whether the execution of an open row still runs (D-134).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Generic, Literal, NamedTuple, Protocol, Self, TypeVar

from fraud.errors import ConflictError, NotFoundError, ServiceError

ENOUGH_MS = 5_000
"""Milliseconds that a row may take: with less left, a sweep leaves the rest to the next one."""

LOOK_AGAIN = timedelta(minutes=5)
"""Time to the next look at a row whose execution is at work: a state tries again for a quarter of an hour."""

CHECK_AGAIN = timedelta(hours=1)
"""Longest time to the next look at a row whose execution waits: does it still run?"""

UNTOLD = timedelta(minutes=1)
"""After this time the sweep looks whether an execution was told of a change."""

Standing = Literal["runs", "over", "missing"]
"""Whether an execution runs, is over however it ended, or does not exist: it never did, or its machine was replaced."""


class Followed(Protocol):
    """A row that an execution follows."""

    @property
    def name(self) -> str:
        """The key of the row."""

    @property
    def version(self) -> int:
        """The number of changes."""

    @property
    def execution(self) -> str | None:
        """The name of the execution; None while none is to be started by a change of the row."""

    @property
    def follower(self) -> str | None:
        """The name of the execution that follows the row; None for a row that has ended, and needs none."""

    @property
    def wait(self) -> str | None:
        """The wait of the execution; None while it is at work."""

    @property
    def payload(self) -> Mapping[str, Any]:
        """The input of the execution: the key by its name."""

    def clock_events(self, now: datetime) -> Iterable[Any]:
        """Return the events that the clock causes by now, in their order."""

    def next_look(self) -> datetime | None:
        """Return when the sweep must look at the row next."""

    def looks_again(self, now: datetime) -> datetime:
        """Return when the sweep must look again, after a look by which nothing has changed."""


R = TypeVar("R", bound=Followed)


class Machine(Protocol):
    """The state machine; `aws.state_machine.StateMachine` is it."""

    def start(self, name: str, payload: Mapping[str, Any]) -> None:
        """Start the execution of this name, unless it was started before."""

    def send(self, token: str, payload: Mapping[str, Any]) -> None:
        """Send a token, unless nobody waits for it any more."""

    def standing(self, name: str) -> Standing:
        """Tell whether the execution of this name runs."""


class Wait(NamedTuple):
    """The wait of an execution: its token, and for what it waits."""

    token: str
    waits_for: str


class Table(Protocol[R]):
    """The rows, as executions need them."""

    def followed(self, name: str) -> R:
        """Read a row."""

    def by_clock(self, name: str, event: Any, now: datetime) -> R:  # noqa: ANN401 - the row's own kind of event
        """Carry an event of the clock out."""

    def untold(self, name: str) -> Wait | None:
        """Read the wait that a row has left behind."""

    def told(self, name: str, wait: Wait) -> None:
        """Forget a wait."""

    def due(self, now: datetime) -> Iterator[tuple[str, datetime]]:
        """Yield the rows at which the sweep must look."""

    def look_again(self, row: R, at: datetime | None) -> None:
        """Say when the sweep must look again."""


class Swept(NamedTuple):
    """The result of a sweep: rows that it looked at, and the seconds by which the first of them was late."""

    rows: int
    lag_seconds: int

    def joined(self, other: Self) -> Self:
        """Return the result of both sweeps."""
        return self._replace(rows=self.rows + other.rows, lag_seconds=max(self.lag_seconds, other.lag_seconds))


Ended = Callable[[R, datetime], object]
"""Does what the event of an execution's end would have done. It takes the open row that is left, and the time."""


class Executions(Generic[R]):
    """The executions of a table's rows on a machine. Every call may be repeated, and raises ServiceError.

    ended  called by the sweep. Without it the sweep does not look at executions
    """

    def __init__(self, table: Table[R], machine: Machine, ended: Ended[R] | None = None) -> None:
        self._table = table
        self._machine = machine
        self._ended = ended

    def start(self, row: R) -> None:
        """Start the execution of a row, unless it was started before."""
        if row.execution is not None:
            self._machine.start(row.execution, row.payload)

    def follow(self, row: R) -> None:
        """Let the execution of a row follow it: start it if it was not started, or tell it of the change."""
        self.start(row)
        self.tell(row)

    def tell(self, row: R) -> None:
        """Send the token of the wait that a row has left behind, if there is one."""
        if (wait := self._table.untold(row.name)) is not None:
            self.send(row, wait.token)
            self._table.told(row.name, wait)

    def send(self, row: R, token: str) -> None:
        """Send a token. It brings the execution nothing but the key and the version of its row."""
        self._machine.send(token, {**row.payload, "version": row.version})

    def sweep(self, now: datetime, remaining_ms: Callable[[], int]) -> Swept:
        """Look at the rows that are due, for as long as there is time; the next sweep looks at the rest.

        Raises the first ServiceError, after all rows.
        """
        return swept(self._table.due(now), self._look, now, remaining_ms)

    def _look(self, name: str, now: datetime) -> None:
        """Do what the clock causes in a row, and what somebody who died has left undone."""
        row = seen = self._table.followed(name)
        for event in row.clock_events(now):
            try:
                row = self._table.by_clock(name, event, now)
            except ConflictError:  # an earlier event of the clock, or a person, was faster
                row = self._table.followed(name)
        self.follow(row)
        if self._has_ended(row):
            # A state may have ended the row just before its execution was over.
            row = self._table.followed(name)
            if row.follower is not None and self._ended is not None:
                self._ended(row, now)
            return  # the change has said when to look; if another one was faster, this row is due again
        at = row.next_look()
        if at is not None and at <= now:
            at = row.looks_again(now)
        elif row is not seen:
            return  # the change itself has said when to look
        self._table.look_again(row, at)

    def _has_ended(self, row: R) -> bool:
        """Tell whether the execution of an open row is over. One that does not exist is started.

        It is over for good, and its name is used up; a missing one goes on where the row stands.
        """
        if self._ended is None or row.follower is None:
            return False
        standing = self._machine.standing(row.follower)
        if standing == "missing":
            self._machine.start(row.follower, row.payload)
        return standing == "over"


def swept(
    due: Iterable[tuple[str, datetime]],
    look: Callable[[str, datetime], None],
    now: datetime,
    remaining_ms: Callable[[], int],
) -> Swept:
    """Look at what is due, for as long as there is time. Raises the first ServiceError, after all others."""
    rows, lag, failure = 0, 0, None
    for name, at in due:
        if remaining_ms() < ENOUGH_MS:
            break
        lag = max(lag, int((now - at).total_seconds()))
        try:
            look(name, now)
            rows += 1
        except NotFoundError:  # the row is gone, and the index is late
            continue
        except ServiceError as error:
            failure = failure or error
    if failure is not None:
        raise failure
    return Swept(rows, lag)


def swept_all(
    parts: Iterable[Callable[[datetime, Callable[[], int]], Swept]], now: datetime, remaining_ms: Callable[[], int]
) -> Swept:
    """Look at all that is due, one part after another. Raises the first ServiceError, after all others."""
    done, failure = Swept(0, 0), None
    for part in parts:
        try:
            done = done.joined(part(now, remaining_ms))
        except ServiceError as error:
            failure = failure or error
    if failure is not None:
        raise failure
    return done
