"""Chance and time in the simulated app: every random draw, the app's clock, and the hours at which people pay.

Draws derive from `random.Random.random()`, the only sequence that Python guarantees across versions. Time is integer
milliseconds. A day is 24 hours from any instant; hours are local ones.
"""

import math
import random
from bisect import bisect_right
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from typing import NamedTuple, TypeVar

T = TypeVar("T")

SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000  # simulated time is integer milliseconds since EPOCH
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Around(NamedTuple):
    """A lognormal quantity: its median, and the standard deviation of its natural logarithm."""

    median: float
    sigma: float


class Draw:
    """A source of random draws. All are made from one stream of uniform numbers in [0, 1) that the seed fixes.

    >>> Draw(1, "life").between(1, 6) == Draw(1, "life").between(1, 6)
    True
    """

    __slots__ = ("uniform",)

    def __init__(self, *seed: object) -> None:
        self.uniform = random.Random("/".join(map(str, seed))).random  # noqa: S311 - a simulation guards no secret

    def chance(self, probability: float) -> bool:
        """Return True with this probability."""
        return self.uniform() < probability

    def between(self, low: int, high: int) -> int:
        """Return a uniform integer from `low` to `high`, both included."""
        return low + int(self.uniform() * (high - low + 1))

    def pick(self, items: Sequence[T]) -> T:
        """Return one of the items, each with the same probability."""
        return items[int(self.uniform() * len(items))]

    def favourite(self, items: Sequence[T]) -> T:
        """Return one of the items, the first ones most often: the density falls as 1 / sqrt(rank)."""
        return items[int(self.uniform() ** 2 * len(items))]

    def weighted(self, running: Sequence[float]) -> int:
        """Return an index drawn by weights, which are given as their running sums.

        >>> Draw("any").weighted((0, 0, 3))  # of the weights 0, 0 and 3
        2
        """
        return bisect_right(running, self.uniform() * running[-1], hi=len(running) - 1)

    def around(self, quantity: Around) -> float:
        """Return a draw of a lognormal quantity.

        By Box and Muller (1958), of whose pair only one is used. C libraries may differ in the last bit; rounding to
        amounts and milliseconds hides that.
        """
        radius = math.sqrt(-2 * math.log(1 - self.uniform()))
        return quantity.median * math.exp(quantity.sigma * radius * math.cos(math.tau * self.uniform()))

    def poisson(self, mean: float) -> int:
        """Return a draw of the Poisson distribution.

        By Knuth, The Art of Computer Programming, 3.4.1. It is valid for means below 700, and its time grows with the
        mean.
        """
        floor, product, events = math.exp(-mean), self.uniform(), 0
        while product > floor:
            product *= self.uniform()
            events += 1
        return events


def stepped(amount: float, step: int, limit: int) -> int:
    """Return the multiple of `step` nearest to `amount`: at least one step, at most `limit`.

    >>> stepped(1_260, 500, 100_000), stepped(3, 500, 100_000), stepped(10**6, 500, 100_000)
    (1500, 500, 100000)
    """
    return min(max(round(amount / step), 1) * step, limit)


def instant(at: int) -> datetime:
    """Return simulated time (milliseconds since EPOCH) as an aware datetime in UTC."""
    return EPOCH + timedelta(milliseconds=at)


def rfc3339(time: datetime) -> str:
    """Return a time in UTC as RFC 3339 text with milliseconds and Z.

    >>> rfc3339(instant(1_500))
    '1970-01-01T00:00:01.500Z'
    """
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


# ---- when people pay -----------------------------------------------------------------------------------------------

# For each local hour from 0 to 23 the running sum of the weights; WEEKDAYS is the pace of each weekday, Monday first.
SHOPPING = tuple(accumulate((2, 1, 1, 1, 1, 2, 5, 9, 9, 6, 7, 13, 14, 9, 7, 8, 9, 12, 14, 12, 9, 7, 5, 3)))
SOCIAL = tuple(accumulate((3, 1, 1, 1, 1, 1, 2, 4, 5, 5, 6, 8, 10, 7, 6, 6, 7, 9, 12, 14, 15, 14, 11, 6)))
EVENING = tuple(accumulate((2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 4, 3, 1, 1, 1, 2, 4, 8, 12, 14, 10, 5)))
ANY_TIME = tuple(accumulate((7, 7, 6, 5, 4, 3, 3, 4, 5, 5, 6, 7, 8, 7, 7, 7, 7, 8, 9, 9, 10, 10, 9, 8)))
NIGHT = tuple(accumulate((9, 7, 4, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 3, 5, 8, 10, 12, 11)))
SMALL_HOURS = tuple(accumulate((2, 8, 12, 14, 10, 4, *[0] * 17, 1)))
WEEKDAYS = (0.95, 0.93, 0.95, 0.97, 1.1, 1.12, 0.98)


def moment(draw: Draw, hours: Sequence[int], opening: int, local_time: int, late_hours: int = 0) -> int:
    """Draw a time in the 24 hours from `opening` (milliseconds), at a local hour drawn by `hours`.

    `hours` are the running sums of 24 weights. `local_time` is milliseconds ahead of UTC. `late_hours` are added to the
    drawn hour.
    """
    of_day = (draw.weighted(hours) + late_hours) * HOUR + int(draw.uniform() * HOUR)
    return opening + (of_day - local_time - opening) % DAY
