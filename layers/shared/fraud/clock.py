"""The one clock: every door that needs the time asks `clock.now()`.

`source` is the seam. The box replaces it by the event clock of a replay, and a test by a frozen time, so nothing else
in the library may ask the system for the time of day.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

source: Callable[[], datetime] = partial(datetime.now, UTC)
"""Where `now` looks, each time it is asked. Returns an aware time in UTC."""


def now() -> datetime:
    """The present, aware and in UTC.

    >>> now().utcoffset()
    datetime.timedelta(0)
    """
    return source()
