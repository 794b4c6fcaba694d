"""The interval of a sum of amounts whose number is drawn: the value of frauds. Pure.

Frauds come by chance and each has its amount, so the interval of their number is not that of their value: one large
fraud weighs as much as a hundred small ones. Fay and Feuer's interval is made for sums of weighted Poisson counts. It
keeps its confidence in every case that was tried, at the price of being wide where few amounts make up the sum.

Source: M. P. Fay and E. J. Feuer, Confidence Intervals for Directly Standardized Rates, Statistics in Medicine 16
(1997) 791-801.
"""

from math import exp, lgamma, log

from fraud.reporting.intervals import CONFIDENCE, Interval

PRECISE = 1e-12
TERMS = 100_000


def weighted(total: int, squares: int, largest: int, confidence: float = CONFIDENCE) -> Interval:
    """Return the interval of the expected sum of amounts.

    total    sum of the amounts that came
    squares  sum of their squares
    largest  the largest amount that could have come

    With amounts of 1 it is the exact interval of a Poisson count: Garwood's, here of 10.

    >>> low, high = weighted(10, 10, 1)
    >>> f"{low:.3f} to {high:.3f}"
    '4.795 to 18.390'
    >>> weighted(0, 0, 0)
    Interval(low=0.0, high=0.0)
    """
    doubt = (1 - confidence) / 2
    low = squares / total * gamma_quantile(total * total / squares, doubt) if total else 0.0
    if not largest:
        return Interval(low, 0.0)
    above, spread = total + largest, squares + largest * largest
    return Interval(low, spread / above * gamma_quantile(above * above / spread, 1 - doubt))


def gamma_quantile(shape: float, probability: float) -> float:
    """Return the value below which a gamma variable of scale 1 lies with a probability, by bisection.

    >>> round(gamma_quantile(1, 0.5), 6)  # an exponential variable: log 2
    0.693147
    """
    low, high = 0.0, shape + 10
    while gamma_below(shape, high) < probability:
        high *= 2
    while high - low > PRECISE * high and low < (middle := (low + high) / 2) < high:
        if gamma_below(shape, middle) < probability:
            low = middle
        else:
            high = middle
    return high


def gamma_below(shape: float, value: float) -> float:
    """Return the probability that a gamma variable of scale 1 is below a value: a series, or a continued fraction.

    Source: Abramowitz and Stegun, Handbook of Mathematical Functions, 1964, 6.5.29 and 6.5.31.

    >>> round(gamma_below(2, 3), 6)
    0.800852
    """
    if value <= 0:
        return 0.0
    scale = exp(shape * log(value) - value - lgamma(shape))
    return scale * _series(shape, value) if value < shape + 1 else 1 - scale * _fraction(shape, value)


def _series(shape: float, value: float) -> float:
    total = term = 1 / shape
    for n in range(1, TERMS):
        term *= value / (shape + n)
        total += term
        if term < total * PRECISE / 100:
            break
    return total


def _fraction(shape: float, value: float) -> float:
    """Return the continued fraction, by Lentz's method."""
    tiny = 1e-300
    b = value + 1 - shape
    c, d = 1 / tiny, 1 / b
    found = d
    for n in range(1, TERMS):
        a = -n * (n - shape)
        b += 2
        d = 1 / (a * d + b or tiny)
        c = b + a / c or tiny
        found *= d * c
        if abs(d * c - 1) < PRECISE / 100:
            break
    return found
