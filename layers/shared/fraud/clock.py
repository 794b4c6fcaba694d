"""The one clock: every door that needs the time calls `clock.now()`.

`source` can be replaced: the box sets the event clock of a replay, and a test sets a frozen time. So no other code of
the library may ask the system for the time of day.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

source: Callable[[], datetime] = partial(datetime.now, UTC)
"""The function that `now` calls each time. It returns an aware time in UTC."""


def now() -> datetime:
    """Return the present as an aware time in UTC.

    >>> now().utcoffset()
    datetime.timedelta(0)
    """
    return source()
