"""The box's event clock: past data is replayed on its own time, so limits and windows mean what they meant then."""

import threading
from collections.abc import Callable
from datetime import datetime

Watcher = Callable[[datetime], None]


class EventClock:
    """Real time until it is first set; from then on it stands where the latest instant put it, and never goes back."""

    def __init__(self) -> None:
        self._instant: datetime | None = None
        self._turn = threading.Lock()
        self._watchers: list[Watcher] = []

    @property
    def instant(self) -> datetime | None:
        """Now, or None while it is real time."""
        return self._instant

    def watch(self, watcher: Watcher) -> None:
        """Have `watcher` called with every new instant; time stands still until it returns."""
        self._watchers.append(watcher)

    def advance(self, instant: datetime) -> None:
        """Move forward to an aware instant; an earlier one changes nothing."""
        with self._turn:
            if self._instant is None or instant > self._instant:
                self._instant = instant
                for watcher in self._watchers:
                    watcher(instant)
