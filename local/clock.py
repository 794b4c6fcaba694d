"""The box's event clock: past data is replayed on its own time, so limits and windows mean what they meant then."""

import threading
from datetime import datetime


class EventClock:
    """Real time until it is first set; from then on it stands where the latest instant put it, and never goes back."""

    def __init__(self) -> None:
        self._instant: datetime | None = None
        self._turn = threading.Lock()

    @property
    def instant(self) -> datetime | None:
        """Now, or None while it is real time."""
        return self._instant

    def advance(self, instant: datetime) -> None:
        """Move forward to an aware instant; an earlier one changes nothing."""
        with self._turn:
            self._instant = max(self._instant or instant, instant)
