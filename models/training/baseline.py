"""The baseline of a model: histograms of its dataset's last days, and limits that a quiet day hardly ever exceeds.

A limit holds for the distance of one new day. Its logarithm over the baseline's own days, each against all others, is
taken for normal, so a new day's is below mean + t * deviation * sqrt(1 + 1/days) but for a given chance (the prediction
limit; Hahn and Meeker, Statistical Intervals, 1991). The chance of all measures and of QUIET_DAYS days together is
FALSE_ALARMS (Bonferroni: nothing has to be independent). Distances below what independent draws have on average count
as that average: a day that is nearer than chance says nothing about days that are far away.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from fraud.counters.layout import DAY
from fraud.scoring import features
from fraud.scoring.drift import FEWEST, LABEL_DELAY, LABEL_VOLUME, SCORE, Baseline, Counts, Measure, statistic
from models.training.columns import NEVER, Dataset

BASELINE_DAYS = 35
"""Days of a baseline: five of each weekday, and every day of a month at least once."""

FALSE_ALARMS, QUIET_DAYS = 0.05, 30
"""Bound of the chance of any alarm in so many days without drift, all measures together."""

MARGIN = 1.25
"""A day that is as far away as the farthest of the baseline is quiet, and so is one that is a quarter farther."""

FEWEST_DAYS = 7
"""With fewer days a measure has no limit, and so no baseline."""

TENTHS = (0.01, 0.05, *(n / 10 for n in range(1, 10)), 0.95, 0.99, 0.999)
"""Where the edges of the bins lie: at tenths, and finer at the ends, where rare behaviour shows."""

FIFTHS = (0.2, 0.4, 0.6, 0.8)
"""The same for delays: a day has few labels."""

HOUR = 3600

Values = NDArray[np.float64]


def baseline(dataset: Dataset, scores: Values, model: str) -> bytes:
    """Return baseline.json of a dataset's last BASELINE_DAYS days.

    scores  of the payments, by the model
    """
    end = int(dataset.occurred_at.max()) // DAY + 1
    first = max(end - BASELINE_DAYS, int(dataset.occurred_at.min()) // DAY)
    days = range(first, end)
    day = dataset.occurred_at // DAY
    columns = {name: dataset.features[:, place].astype(np.float64) for place, name in enumerate(features.NAMES)}
    columns[SCORE] = np.where(dataset.asked, scores, np.nan)
    by_day = {name: [values[day == each] for each in days] for name, values in columns.items()}
    measures = {name: _measure(some, edges(np.concatenate(some), TENTHS), len(by_day)) for name, some in by_day.items()}
    measures |= _of_labels(dataset, days, len(by_day))
    found = Baseline(
        model=model,
        fingerprint=features.fingerprint(),
        first=_date(first),
        last=_date(end - 1),
        measures={name: measure for name, measure in measures.items() if measure is not None},
    )
    return found.model_dump_json().encode() + b"\n"


def _of_labels(dataset: Dataset, days: range, others: int) -> dict[str, Measure | None]:
    """Return the measures of labels: of the frauds that became known on each day."""
    is_known = dataset.known_from < NEVER
    known = dataset.known_from[is_known]
    hours = (known - dataset.occurred_at[is_known]) / HOUR
    delays = [hours[known // DAY == each] for each in days]
    paid = [int(np.count_nonzero(dataset.occurred_at // DAY == each)) for each in days]
    volumes = [np.repeat([0.0, 1.0], [number, len(some)]) for number, some in zip(paid, delays, strict=True)]
    return {
        LABEL_DELAY: _measure(delays, edges(np.concatenate(delays), FIFTHS), others),
        LABEL_VOLUME: _measure(volumes, [0.5], others),
    }


def _measure(days: Sequence[Values], edges: Sequence[float], others: int) -> Measure | None:
    """Return the measure of values by day; None if too few days have enough of them."""
    counts = [histogram(values, edges) for values in days]
    told = [each for each in counts if sum(each) >= FEWEST]
    if len(told) < FEWEST_DAYS:
        return None
    whole = tuple(int(number) for number in np.sum(told, axis=0))
    chance = FALSE_ALARMS / QUIET_DAYS / (others + 2)
    daily = float(np.median([sum(each) for each in told]))
    return Measure(edges=tuple(edges), counts=whole, daily=daily, limit=round(limit(told, chance), 4))


def limit(days: Sequence[Counts], chance: float) -> float:
    """Return the `statistic` that a new day like these exceeds with at most this chance."""
    whole = np.sum(days, axis=0)
    freedom = max(int(np.count_nonzero(whole)) - 1, 1)
    found = [statistic(day, (whole - np.array(day)).tolist()) for day in days]
    logs = np.log(np.maximum(found, freedom))
    wide = float(stats.t.isf(chance, len(days) - 1)) * float(logs.std(ddof=1)) * float(np.sqrt(1 + 1 / len(days)))
    return max(float(np.exp(logs.mean() + wide)), float(stats.chi2.isf(chance, freedom)), MARGIN * max(found))


def edges(values: Values, quantiles: Sequence[float]) -> list[float]:
    """Return edges of bins: each lies halfway between two neighbouring values, the upper one a quantile.

    >>> edges(np.array([0, 0, 0, 1, 2, 2, 4, np.nan]), (0.1, 0.5, 0.9))
    [0.5, 3.0]
    """
    known = np.unique(values[~np.isnan(values)])
    if not len(known):
        return []
    places = np.searchsorted(known, np.quantile(values[~np.isnan(values)], quantiles, method="inverted_cdf"))
    places = np.unique(places[places > 0])
    return sorted({float(edge) for edge in (known[places] + known[places - 1]) / 2})


def histogram(values: Values, edges: Sequence[float]) -> list[int]:
    """Return the counts of values by bin; the last bin is of missing values.

    >>> histogram(np.array([0.0, 0.5, 3.0, np.nan]), [0.5, 2.0])
    [1, 1, 1, 1]
    """
    missing = np.isnan(values)
    places = np.searchsorted(np.asarray(edges, np.float64), values[~missing], side="right")
    return [*np.bincount(places, minlength=len(edges) + 1).tolist(), int(missing.sum())]


def counted(dataset: Dataset, scores: Values, known: Mapping[str, Measure], day: int) -> dict[str, Counts]:
    """Return the histograms of an epoch day as the schedule's query counts them, for evaluations on a history."""
    of_day = dataset.occurred_at // DAY == day
    columns: dict[str, Any] = {
        name: dataset.features[of_day, place].astype(np.float64) for place, name in enumerate(features.NAMES)
    }
    columns[SCORE] = np.where(dataset.asked[of_day], scores[of_day], np.nan)
    labels = dataset.known_from // DAY == day
    columns[LABEL_DELAY] = (dataset.known_from[labels] - dataset.occurred_at[labels]) / HOUR
    columns[LABEL_VOLUME] = np.repeat([0.0, 1.0], [int(of_day.sum()), int(labels.sum())])
    return {name: histogram(columns[name], measure.edges) for name, measure in known.items()}


def _date(day: int) -> str:
    return datetime.fromtimestamp(day * DAY, UTC).date().isoformat()
