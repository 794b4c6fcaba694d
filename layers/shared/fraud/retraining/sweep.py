"""The sweep of retrainings: those that are due, ends of which the bus must still be told, and rollbacks. Pure.

It also writes the registry's pointer again when that cannot be read.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Protocol

from fraud.errors import UndecidableError
from fraud.executions import Executions, Swept, swept, swept_all
from fraud.retraining.moves import RetrainingState
from fraud.retraining.retraining import Retraining

AGAIN = timedelta(minutes=1)
"""Time from one look at an endpoint that goes back to the next one."""

GOES_BACK = timedelta(hours=1)
"""For so long an endpoint may need to go back. After that its rollback counts as late, and an alarm says so."""


class RetrainingTable(Protocol):
    """The part of `retraining.store.Retrainings` that the sweep needs."""

    def followed(self, name: str) -> Retraining:
        """Read a retraining."""

    def due_ends(self, now: datetime) -> Iterator[tuple[str, datetime]]:
        """Yield the retrainings of whose end the bus must still be told."""

    def end_later(self, row: Retraining, at: datetime) -> None:
        """Say when the sweep must look again at an end of which the bus cannot be told yet."""

    def end_told(self, row: Retraining) -> None:
        """Note that the bus was told of the end of a retraining."""

    def mend_pointer(self, now: datetime) -> bool:
        """Write the pointer again if it cannot be read, and tell whether it was."""


class RetrainingSweep:
    """Looks at what is due. Every call may be repeated.

    tell_end   tells everybody of the end of a retraining. Raises ServiceError.
    is_served  has an endpoint serve what the pointer says, and tells whether it does. Raises ServiceError.
    """

    def __init__(
        self,
        table: RetrainingTable,
        executions: Executions[Retraining],
        tell_end: Callable[[Retraining], None],
        is_served: Callable[[], bool] = lambda: True,
    ) -> None:
        self._table = table
        self._executions = executions
        self._tell_end = tell_end
        self._is_served = is_served

    def sweep(self, now: datetime, remaining_ms: Callable[[], int]) -> Swept:
        """Look at all that is due, for as long as there is time. Raises the first ServiceError, after all others."""
        return swept_all((self._pointer, self._executions.sweep, self._ends), now, remaining_ms)

    def _pointer(self, now: datetime, _remaining_ms: Callable[[], int]) -> Swept:
        with suppress(UndecidableError):  # the alarm ModelsRefused says so
            return Swept(int(self._table.mend_pointer(now)), 0)
        return Swept(0, 0)

    def _ends(self, now: datetime, remaining_ms: Callable[[], int]) -> Swept:
        return swept(self._table.due_ends(now), self._end, now, remaining_ms)

    def _end(self, name: str, now: datetime) -> None:
        row = self._table.followed(name)
        if row.state is RetrainingState.ROLLED_BACK and not self._is_served():
            if now - row.since < GOES_BACK:
                self._table.end_later(row, now + AGAIN)
            return  # a later sweep asks again
        self._tell_end(row)
        self._executions.tell(row)
        self._table.end_told(row)
