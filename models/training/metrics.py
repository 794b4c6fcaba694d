"""Figures of a ranking: average precision, ROC AUC, recall at a false positive rate, precision at k, calibration.

Pure. All functions take arrays over the same n payments: `score` (larger is more suspicious), `fraud` (the truth) and
where it is named `weight`, how many payments each one stands for. A share that has no whole is NaN.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

BOOTSTRAPS = 200
"""Resamples of an interval: its ends are then off by about 1 % of the mass."""


class Band(NamedTuple):
    """A band of scores: expected frauds are the sum of the scores of its payments.

    least, most  the band's scores
    frauds       fraudulent payments in it, each counted once
    weight       how many payments its payments stand for
    ratio        observed over expected frauds
    """

    least: float
    most: float
    payments: int
    frauds: int
    weight: float
    expected: float
    observed: float
    ratio: float


def average_precision(score: Floats, fraud: Flags, weight: Floats | None = None) -> float:
    """Return the sum of precision times gain in recall over all thresholds; payments with equal scores are one step.

    >>> round(average_precision(np.array([0.9, 0.8, 0.1]), np.array([True, False, True])), 4)  # (1/1 + 2/3) / 2
    0.8333
    """
    caught, false = _curve(score, fraud, weight)
    if not len(caught) or not caught[-1]:
        return math.nan
    alerts = np.maximum(caught + false, 1e-300)
    return float((np.diff(caught, prepend=0) * caught / alerts).sum() / caught[-1])


def roc_auc(score: Floats, fraud: Flags, weight: Floats | None = None) -> float:
    """Return the probability that a fraud scores higher than an honest payment; equal scores count half.

    >>> roc_auc(np.array([0.9, 0.5, 0.5, 0.1]), np.array([True, True, False, False]))
    0.875
    """
    caught, false = _curve(score, fraud, weight)
    if not len(caught) or not caught[-1] or not false[-1]:
        return math.nan
    before = np.concatenate([[0.0], caught[:-1]])
    return float((np.diff(false, prepend=0) * (before + caught) / 2).sum() / caught[-1] / false[-1])


def recall_at(rate: float, score: Floats, fraud: Flags, weight: Floats | None = None) -> float:
    """Return the largest share of frauds above a threshold that at most `rate` of the honest payments reach.

    >>> recall_at(0.5, np.array([0.9, 0.8, 0.7, 0.1]), np.array([True, False, True, False]))
    1.0
    """
    caught, false = _curve(score, fraud, weight)
    if not len(caught) or not caught[-1] or not false[-1]:
        return math.nan
    allowed = np.flatnonzero(false <= rate * false[-1])
    return float(caught[allowed[-1]] / caught[-1]) if len(allowed) else 0.0


def precision_at(count: int, score: Floats, fraud: Flags, payer: NDArray[np.int64], day: NDArray[np.int64]) -> float:
    """Return the mean over days of the share of victims among the `count` payers with the highest scores of the day.

    A payer counts as a victim on a day with a fraud of its own. This is the card precision of Le Borgne et al.
    (Fraud Detection Handbook, 2022, chapter 4.4). A day with fewer payers divides by `count` all the same.

    >>> precision_at(1, np.array([0.9, 0.2]), np.array([True, False]), np.array([1, 2]), np.array([7, 7]))
    1.0
    """
    days = []
    for each in np.unique(day).tolist():
        today = day == each
        names, places = np.unique(payer[today], return_inverse=True)
        highest, victim = np.full(len(names), -np.inf), np.zeros(len(names), np.bool_)
        np.maximum.at(highest, places, score[today])
        np.logical_or.at(victim, places, fraud[today])
        first = np.argsort(-highest, kind="stable")[:count]
        days.append(victim[first].sum() / count)
    return float(np.mean(days)) if days else math.nan


def bands(score: Floats, fraud: Flags, weight: Floats, least: int) -> list[Band]:
    """Split the payments by score into bands of at least `least` frauds each, from the lowest score on.

    The payments of a last band with fewer frauds belong to the band before it.
    """
    order = np.argsort(score, kind="stable")
    running = np.cumsum(fraud[order])
    whole = max(int(running[-1]) // least, 1) if len(order) else 0
    cuts = [int(np.searchsorted(running, least * number)) + 1 for number in range(1, whole)]
    found = []
    for part in np.split(order, cuts) if whole else []:
        total, expected = float(weight[part].sum()), float((score * weight)[part].sum())
        observed = float(weight[part][fraud[part]].sum())
        ratio = observed / expected if expected else math.nan
        lowest, highest = float(score[part].min()), float(score[part].max())
        found.append(Band(lowest, highest, len(part), int(fraud[part].sum()), total, expected, observed, ratio))
    return found


def interval(
    figure: Callable[[Floats], float], unit: NDArray[np.int64], weight: Floats, seed: int, level: float = 0.95
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of a weighted figure; a whole unit is drawn at a time (Efron 1979).

    figure  the figure by the weights of the payments
    unit    the unit of each payment, such as its payer: payments of one payer are not independent

    The number of draws of a unit is Poisson (Hanley and MacGibbon 2006). Resamples without a figure are left out.
    """
    rng = np.random.default_rng(seed)
    names, places = np.unique(unit, return_inverse=True)
    figures = np.array([figure(weight * rng.poisson(1.0, len(names))[places]) for _ in range(BOOTSTRAPS)])
    figures = figures[~np.isnan(figures)]
    if not len(figures):
        return math.nan, math.nan
    low, high = np.quantile(figures, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def upper_bound(events: Floats, payments: Floats) -> Floats:
    """Return the one-sided 95 % upper bound of the rates sum(events) / sum(payments), with the rows as units.

    events    units x rates: events of each unit, such as the honest payments of a payer that are challenged
    payments  payments of each unit

    The variance is that of a ratio of two totals over independent units (Cochran 1977, 2.11). Without events
    the bound is that of a Poisson count of none: 3 / n.
    """
    total = payments.sum()
    rate = events.sum(axis=0) / total
    residual = events - payments[:, None] * rate
    units = max(len(payments), 2)
    deviation = np.sqrt((residual**2).sum(axis=0) * units / (units - 1)) / total
    return np.maximum(rate + 1.645 * deviation, np.where(events.sum(axis=0) > 0, 0.0, 3.0 / total))


def wilson_lower(successes: Floats, trials: float) -> Floats:
    """Return the one-sided 95 % lower bound of a share (Wilson 1927).

    >>> wilson_lower(np.array([0.0, 9.0]), 10).round(3).tolist()
    [0.0, 0.652]
    """
    z = 1.645
    share = successes / trials
    middle, wide = share + z * z / (2 * trials), z * np.sqrt(share * (1 - share) / trials + z * z / (4 * trials**2))
    return np.maximum((middle - wide) / (1 + z * z / trials), 0.0)


def _curve(score: Floats, fraud: Flags, weight: Floats | None) -> tuple[Floats, Floats]:
    """Return the weights of caught frauds and of false alerts at each threshold, from the highest score on."""
    order = np.argsort(-score, kind="stable")
    each = np.ones(len(score)) if weight is None else weight
    steps = np.flatnonzero(np.append(np.diff(score[order]) != 0, True)) if len(score) else np.array([], np.intp)
    caught, false = (np.cumsum(np.where(part, each, 0.0)[order])[steps] for part in (fraud, ~fraud))
    return caught, false
