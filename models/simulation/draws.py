"""Chance and time in the simulated app: every random draw, its clock, and a calendar of when people pay.

Draws derive from `random.Random.random()`, the one sequence Python guarantees across versions. Time is integer
milliseconds; days are 24 hours from any moment, hours and dates are Japan's.
"""

import math
import random
from bisect import bisect_right
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import accumulate
from typing import NamedTuple, TypeVar

T = TypeVar("T")

SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000  # simulated time is integer milliseconds since EPOCH
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LOCAL_TIME = 9 * HOUR  # habits follow Japan's clock: UTC+9 all year


class Around(NamedTuple):
    """A lognormal quantity."""

    median: float
    sigma: float


class Draw:
    """The random draws of one source, all made from one stream of uniforms in [0, 1)."""

    __slots__ = ("uniform",)

    def __init__(self, *seed: object) -> None:
        self.uniform = random.Random("/".join(map(str, seed))).random  # noqa: S311 - a simulation guards no secret

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self.uniform() < probability

    def between(self, low: int, high: int) -> int:
        """A uniform integer, both ends included."""
        return low + int(self.uniform() * (high - low + 1))

    def pick(self, items: Sequence[T]) -> T:
        """Any of the items, each as likely."""
        return items[int(self.uniform() * len(items))]

    def favourite(self, items: Sequence[T]) -> T:
        """The first items most often: the density falls as 1 / sqrt(rank)."""
        return items[int(self.uniform() ** 2 * len(items))]

    def weighted(self, running: Sequence[float]) -> int:
        """An index, by weights given as their running sums."""
        return bisect_right(running, self.uniform() * running[-1], hi=len(running) - 1)

    def around(self, quantity: Around) -> float:
        """Box and Muller (1958), one of the pair. C libraries may differ in the last bit, which rounding hides."""
        radius = math.sqrt(-2 * math.log(1 - self.uniform()))
        return quantity.median * math.exp(quantity.sigma * radius * math.cos(math.tau * self.uniform()))

    def poisson(self, mean: float) -> int:
        """Knuth, The Art of Computer Programming, 3.4.1: for means below 700, in time that grows with the mean."""
        floor, product, events = math.exp(-mean), self.uniform(), 0
        while product > floor:
            product *= self.uniform()
            events += 1
        return events


def stepped(amount: float, step: int, limit: int) -> int:
    """The multiple of `step` nearest to `amount`, at least one step, at most `limit`."""
    return min(max(round(amount / step), 1) * step, limit)


def instant(at: int) -> datetime:
    """Simulated time as an aware datetime in UTC."""
    return EPOCH + timedelta(milliseconds=at)


def rfc3339(time: datetime) -> str:
    """UTC text with three decimals and Z."""
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


# ---- when people pay -----------------------------------------------------------------------------------------------

# Running sums of the weights of the local hours 0 to 23; the pace of weekdays, Monday first.
SHOPPING = tuple(accumulate((2, 1, 1, 1, 1, 2, 5, 9, 9, 6, 7, 13, 14, 9, 7, 8, 9, 12, 14, 12, 9, 7, 5, 3)))
SOCIAL = tuple(accumulate((3, 1, 1, 1, 1, 1, 2, 4, 5, 5, 6, 8, 10, 7, 6, 6, 7, 9, 12, 14, 15, 14, 11, 6)))
EVENING = tuple(accumulate((2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 4, 3, 1, 1, 1, 2, 4, 8, 12, 14, 10, 5)))
ANY_TIME = tuple(accumulate((7, 7, 6, 5, 4, 3, 3, 4, 5, 5, 6, 7, 8, 7, 7, 7, 7, 8, 9, 9, 10, 10, 9, 8)))
NIGHT = tuple(accumulate((9, 7, 4, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 3, 5, 8, 10, 12, 11)))
SMALL_HOURS = tuple(accumulate((2, 8, 12, 14, 10, 4, *[0] * 17, 1)))
WEEKDAYS = (0.95, 0.93, 0.95, 0.97, 1.1, 1.12, 0.98)
PAYDAY, PAYDAY_PACE, FLUSH_DAYS = 25, 1.3, 3  # of the month; the pace from then on, for so many days
# Month and day of New Year, Valentine's Day, White Day, midsummer's and Christmas's gifts.
FESTIVALS = ((1, 1), (2, 14), (3, 14), (7, 15), (12, 24))


def moment(draw: Draw, hours: Sequence[int], opening: int, late_hours: int = 0) -> int:
    """A time in the 24 hours from `opening`, at a local hour drawn by `hours` and moved by `late_hours`."""
    of_day = (draw.weighted(hours) + late_hours) * HOUR + int(draw.uniform() * HOUR)
    return opening + (of_day - LOCAL_TIME - opening) % DAY


def local_day(opening: int) -> date:
    """The date in Japan in the middle of the 24 hours from `opening`."""
    return instant(opening + LOCAL_TIME + DAY // 2).date()


def is_payday(day: date) -> bool:
    """The 25th; when that is on a weekend, the Friday before it."""
    due = day.replace(day=PAYDAY)
    return day == due - timedelta(max(due.weekday() - 4, 0))


def is_festive(day: date) -> bool:
    """Within a day of a festival at which people send each other money."""
    around = (day + timedelta(days) for days in (-1, 0, 1))
    return any((near.month, near.day) in FESTIVALS for near in around)


def pace(day: date) -> float:
    """The payments of a day against the average one."""
    flush = any(is_payday(day - timedelta(days)) for days in range(FLUSH_DAYS))
    return WEEKDAYS[day.weekday()] * (PAYDAY_PACE if flush else 1.0)
