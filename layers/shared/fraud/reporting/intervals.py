"""Exact intervals of rates and totals that were counted, however rare they are. Pure.

A rate of a stream of payments gets the interval of Clopper and Pearson (1934). The number of frauds among payments of
which some were drawn and reviewed gets the exact interval of the hypergeometric distribution: a draw is without
replacement, so the payments that were reviewed are known, and only the others leave a doubt. Bounds that must hold
together share their doubt (Bonferroni).

Both are inversions of tests: the interval has every value at which the counts would not be too unlikely. They keep the
promised confidence at every rate, where the intervals of the normal distribution do not: at 4 frauds in ten million
those of Wald reach below 0.

Sources: C. J. Clopper and E. S. Pearson, Biometrika 26 (1934) 404-413. T. Wright, Exact Confidence Bounds when Sampling
from Small Finite Universes, Springer 1991, chapter 2. O. J. Dunn, Journal of the American Statistical Association 56
(1961) 52-64, for the bounds that hold together. C. Loader, Fast and Accurate Computation of Binomial Probabilities,
2000.
"""

from collections.abc import Callable, Sequence
from math import exp, lgamma, log, log1p, pi, sqrt
from typing import NamedTuple

CONFIDENCE = 0.95

PRECISE = 1e-12
"""A bound of a rate is found to this part of itself."""

NEGLIGIBLE = 1e-17
"""A term of a sum that is smaller than this part of it, and every term after it, is left out."""

LARGE = 16
"""From this number on the series of Stirling's formula is exact."""


class Interval(NamedTuple):
    """The values between two bounds, both included."""

    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Half the distance of the bounds: the `±` of the interval."""
        return (self.high - self.low) / 2

    def covers(self, value: float) -> bool:
        """Tell whether a value lies in the interval."""
        return self.low <= value <= self.high

    def scaled(self, factor: float) -> "Interval":
        """Return the interval of the value times a factor of at least 0.

        >>> Interval(0.25, 0.5).scaled(100)
        Interval(low=25.0, high=50.0)
        """
        return Interval(self.low * factor, self.high * factor)


# ---- rates -----------------------------------------------------------------------------------------------------------


def clopper_pearson(successes: int, trials: int, confidence: float = CONFIDENCE) -> Interval:
    """Return the exact interval of a rate, after so many successes in so many trials (Clopper and Pearson 1934).

    Each bound is wrong with a probability of at most half of 1 - confidence. Raises ValueError for impossible counts.

    >>> low, high = clopper_pearson(8, 10)
    >>> f"{low:.4f} to {high:.4f}"
    '0.4439 to 0.9748'

    Nothing found is no proof of nothing: after 100 reviews the rate may still be 3.6 %.

    >>> f"{clopper_pearson(0, 100).high:.4f}"
    '0.0362'

    The rarest rates are as exact: 4 frauds in ten million payments, in parts per ten million.

    >>> low, high = clopper_pearson(4, 10_000_000).scaled(1e7)
    >>> f"{low:.3f} to {high:.3f}"
    '1.090 to 10.242'
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"{successes} of {trials}")
    doubt = (1 - confidence) / 2
    low, high = 0.0, 1.0
    if successes > 0:  # as many or more are the likelier, the higher the rate
        low = _boundary(lambda rate: 1 - _at_most(successes - 1, trials, rate) > doubt)
    if successes < trials:  # as many or fewer are the less likely, the higher the rate
        high = _boundary(lambda rate: _at_most(successes, trials, rate) <= doubt)
    return Interval(low, high)


def _boundary(is_above: Callable[[float], bool]) -> float:
    """Return the rate from which on a test is true, by bisection."""
    low, high = 0.0, 1.0
    while high - low > PRECISE * high:
        middle = (low + high) / 2
        if is_above(middle):
            high = middle
        else:
            low = middle
    return high


def _at_most(most: int, trials: int, rate: float) -> float:
    """Return the probability of at most so many successes."""
    odds = rate / (1 - rate)
    if most < trials * rate:
        return _sum(_binomial(most, trials, rate), most, lambda count: count / ((trials - count + 1) * odds))
    misses = trials - most - 1
    return 1 - _sum(_binomial(most + 1, trials, rate), misses, lambda count: count * odds / (trials - count + 1))


def _binomial(count: int, trials: int, rate: float) -> float:
    """Return the probability of a number of successes, exact to the last digits (Loader 2000).

    The factorials of a billion have ten digits before the point of their logarithms, which would be lost behind it. So
    only what they differ by from Stirling's formula is summed.
    """
    if count in {0, trials}:
        return exp(trials * (log(rate) if count else log1p(-rate)))
    misses = trials - count
    near = _stirling_error(trials) - _stirling_error(count) - _stirling_error(misses)
    far = _deviance(count, trials * rate) + _deviance(misses, trials * (1 - rate))
    return exp(near - far) * sqrt(trials / (2 * pi * count * misses))


def _stirling_error(number: int) -> float:
    """Return by how much the logarithm of a factorial is above Stirling's formula."""
    if number < LARGE:
        return lgamma(number + 1) - (number + 0.5) * log(number) + number - 0.5 * log(2 * pi)
    square = number * number
    return (1 / 12 - (1 / 360 - (1 / 1260 - 1 / (1680 * square)) / square) / square) / number


def _deviance(count: int, mean: float) -> float:
    """Return `count log(count / mean) + mean - count`, also where its parts cancel each other."""
    ratio = (count - mean) / (count + mean)
    if abs(ratio) > 0.1:  # noqa: PLR2004 - the series below would need many terms
        return count * log(count / mean) + mean - count
    total, power, n = (count - mean) * ratio, 2 * count * ratio, 1
    while abs(power) > NEGLIGIBLE * total:
        power *= ratio * ratio
        total += power / (2 * n + 1)
        n += 1
    return total


# ---- totals ----------------------------------------------------------------------------------------------------------


def finite_total(found: int, reviewed: int, population: int, confidence: float = CONFIDENCE) -> Interval:
    """Return the exact interval of how many of a population are frauds, if some of it were drawn and reviewed.

    found       frauds among the reviewed ones
    reviewed    drawn without replacement, each one as likely as any other
    population  all, the reviewed ones included

    Each bound is wrong with a probability of at most half of 1 - confidence. Raises ValueError for impossible counts.

    >>> finite_total(8, 10, 1_000)
    Interval(low=446.0, high=974.0)

    If all were reviewed, no doubt is left; the interval of Clopper and Pearson would still have some.

    >>> finite_total(8, 10, 10)
    Interval(low=8.0, high=8.0)
    """
    if not 0 <= found <= reviewed <= population:
        raise ValueError(f"{found} of {reviewed} of {population}")
    doubt = (1 - confidence) / 2
    least, most = found, population - reviewed + found
    low, high = least, most
    if found > 0:  # as many or more are the likelier, the more frauds there are
        low = _first(least, most, lambda frauds: 1 - _drawn_at_most(found - 1, reviewed, frauds, population) > doubt)
    if found < reviewed:
        above = _first(least, most + 1, lambda frauds: _drawn_at_most(found, reviewed, frauds, population) <= doubt)
        high = above - 1
    return Interval(float(low), float(high))


def _first(least: int, most: int, is_above: Callable[[int], bool]) -> int:
    """Return the least number from which on a test is true, by bisection; `most` if it is true of none before."""
    while least < most:
        middle = (least + most) // 2
        if is_above(middle):
            most = middle
        else:
            least = middle + 1
    return most


def _drawn_at_most(most: int, drawn: int, marked: int, population: int) -> float:
    """Return the probability that a draw without replacement has at most so many of the marked ones."""
    if most < drawn * marked / population:
        return _drawn_below(most, drawn, marked, population)
    return 1 - _drawn_below(drawn - most - 1, drawn, population - marked, population)


def _drawn_below(most: int, drawn: int, marked: int, population: int) -> float:
    """Return the same probability for a number below the mean, from where the terms fall."""
    others = population - marked
    if most > marked or drawn - most > others:
        return 0.0
    share = drawn / population  # of any share the quotient is the same
    first = _chosen(most, marked, share) * _chosen(drawn - most, others, share) / _chosen(drawn, population, share)
    return _sum(
        first, most, lambda count: count * (others - drawn + count) / ((marked - count + 1) * (drawn - count + 1))
    )


def _chosen(count: int, of: int, share: float) -> float:
    """Return the probability that so many are chosen if each of a number is chosen with a probability of `share`."""
    return float(count == of * share) if share in {0, 1} else _binomial(count, of, share)


def _sum(term: float, count: int, ratio: Callable[[int], float]) -> float:
    """Return the sum of the terms of `count` and each smaller number. They fall from the first one on.

    term   the first
    ratio  of the next term to that of a count
    """
    total = 0.0
    while term > NEGLIGIBLE * total:
        total += term
        term *= ratio(count) if count > 0 else 0.0
        count -= 1
    return min(total, 1.0)


# ---- bounds that hold together ---------------------------------------------------------------------------------------


def each_of(bounds: int, confidence: float = CONFIDENCE) -> float:
    """Return the confidence of each of several intervals that shall hold together (Bonferroni; Dunn 1961).

    The doubts of all add up to at most that of the whole, whatever the intervals have to do with each other.

    >>> round(each_of(5), 6)
    0.99
    """
    return 1 - (1 - confidence) / bounds


def summed(intervals: Sequence[Interval]) -> Interval:
    """Return the interval of a sum from the intervals of its parts, which hold together.

    >>> summed([Interval(1, 2), Interval(10, 30)])
    Interval(low=11, high=32)
    """
    return Interval(sum(each.low for each in intervals), sum(each.high for each in intervals))


def share_of(part: Interval, rest: Interval) -> Interval | None:
    """Return the interval of part / (part + rest) from two intervals that hold together; None where all may be 0.

    >>> share_of(Interval(80, 120), Interval(20, 30))
    Interval(low=0.7272727272727273, high=0.8571428571428571)
    """
    if part.high + rest.high <= 0:
        return None
    low = part.low / (part.low + rest.high) if part.low + rest.high > 0 else 0.0
    high = part.high / (part.high + rest.low) if part.high + rest.low > 0 else 1.0
    return Interval(low, high)
