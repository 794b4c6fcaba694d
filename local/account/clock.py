"""The box's event clock. Old payments are replayed at their own times, so age limits and windows work as they did."""

import threading
from collections.abc import Callable
from datetime import datetime

Watcher = Callable[[datetime], None]


class EventClock:
    """A clock that shows real time until it is first set, and then the latest instant that it was set to.

    It never goes back, and it stands still between two instants.

    >>> from datetime import UTC
    >>> clock = EventClock()
    >>> clock.advance(datetime(2026, 3, 2, tzinfo=UTC))
    >>> clock.advance(datetime(2026, 3, 1, tzinfo=UTC))
    >>> clock.instant.isoformat()
    '2026-03-02T00:00:00+00:00'
    """

    def __init__(self) -> None:
        self._instant: datetime | None = None
        self._turn = threading.Lock()
        self._watchers: list[Watcher] = []

    @property
    def instant(self) -> datetime | None:
        """The current instant; None while the clock shows real time."""
        return self._instant

    def watch(self, watcher: Watcher) -> None:
        """Register `watcher` to be called with every new instant. The clock does not move on until it returns."""
        self._watchers.append(watcher)

    def advance(self, instant: datetime) -> None:
        """Move the clock forward to `instant`, which must have a time zone. An earlier instant changes nothing."""
        with self._turn:
            if self._instant is None or instant > self._instant:
                self._instant = instant
                for watcher in self._watchers:
                    watcher(instant)
