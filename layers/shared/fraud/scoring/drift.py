"""Drift: how far a day's features, scores and labels are from those of the days that a model saw last. Pure.

The distance is the population stability index (Siddiqi, Credit Risk Scorecards, 2006), which is Jeffreys' divergence of
two histograms. Of two samples of n and m from one population it is not 0: divided by 1/n + 1/m it has about the
chi-square distribution (Yurdakul and Naranjo, Statistical properties of the population stability index, 2020). Payments
of a day are no independent draws, though: they come in bursts, and no two weekdays are alike. So the limit of each
measure comes with the baseline: how far the baseline's own days were from each other (D-156; models.training.baseline).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from fraud.transaction import load_part

BASELINE = "baseline.json"
"""The file of a baseline, beside the model's manifest.json. No door that decides reads it."""

PRIOR = 0.5
"""What is added to the count of each bin, so that an empty one has no infinite distance (Jeffreys' prior)."""

SCORE = "score"
"""The measure of the scores; missing: the segment asks no model, or the decision had to do without counters."""

LABEL_DELAY = "label_delay"
"""The measure of the hours from a payment until it is known as fraud, of the labels that became known on the day."""

LABEL_VOLUME = "label_volume"
"""The measure of the labels of fraud for each payment: 0 for each payment of the day, 1 for each label known on it."""

LABELS = (LABEL_DELAY, LABEL_VOLUME)

KINDS = ("features", SCORE, "labels")
"""What measures are of: each kind has an alarm."""

FEWEST = 5
"""A day with fewer values than that says nothing."""

Counts = Sequence[int]
"""Numbers of values by bin; the last bin is of missing values."""


class _Packaged(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Measure(_Packaged):
    """The histogram of a measure in the baseline.

    edges   ascending; a value belongs to the bin after the last edge that it reaches
    counts  one more than edges, and one for missing values
    daily   number of values of a usual day
    limit   of `statistic`: a quiet day hardly ever exceeds it
    """

    edges: Annotated[tuple[float, ...], Field(strict=False)]
    counts: Annotated[tuple[int, ...], Field(strict=False)]
    daily: float = Field(gt=0)
    limit: float = Field(gt=0)

    @model_validator(mode="after")
    def _has_bins(self) -> Self:
        if len(self.counts) != len(self.edges) + 2 or list(self.edges) != sorted(set(self.edges)):
            raise ValueError("edges must ascend, and each bin needs its count")
        if min(self.counts) < 0 or sum(self.counts) < FEWEST:
            raise ValueError("too few values")
        return self

    def psi_limit(self, values: int) -> float:
        """Return the index that a quiet day of so many values hardly ever exceeds.

        What differs from day to day does not become less with more payments. So a day of more values than usual is
        judged as a usual one.

        >>> one = Measure(edges=(0.5,), counts=(900, 100, 0), daily=100, limit=20)
        >>> round(one.psi_limit(100), 3), one.psi_limit(1_000_000) == one.psi_limit(100) < one.psi_limit(10)
        (0.22, True)
        """
        return self.limit * (1 / min(values, self.daily) + 1 / sum(self.counts))


class Baseline(_Packaged):
    """What the last days of a model's dataset were like.

    model     its version
    first     the first of the days, and `last` the last one
    measures  by name: every feature, SCORE, LABEL_DELAY and LABEL_VOLUME
    """

    model: str
    fingerprint: str
    first: str
    last: str
    measures: Mapping[str, Measure]

    @classmethod
    def load(cls, text: bytes) -> Self:
        """Parse baseline.json. Raises UndecidableError, which says what is wrong."""
        return load_part(cls, text, "baseline")


class Drift(NamedTuple):
    """The distance of a day from the baseline in one measure.

    psi    population stability index
    limit  the index above which the day has drifted
    """

    measure: str
    values: int
    psi: float
    limit: float

    @property
    def ratio(self) -> float:
        """The index as a part of its limit: above 1 the day has drifted."""
        return self.psi / self.limit

    @property
    def kind(self) -> str:
        """What the measure is of: features, score or labels."""
        return "labels" if self.measure in LABELS else SCORE if self.measure == SCORE else "features"


def psi(day: Counts, base: Counts) -> float:
    """Return the population stability index of two histograms: the sum of (p - q) ln(p / q) over their bins.

    >>> psi([100, 200, 0], [1000, 2000, 0]) < 0.01 < 0.4 < psi([200, 100, 0], [1000, 2000, 0])
    True
    """
    p, q = _shares(day), _shares(base)
    return math.fsum((one - other) * math.log(one / other) for one, other in zip(p, q, strict=True))


def _shares(counts: Counts) -> list[float]:
    total = sum(counts) + PRIOR * len(counts)
    return [(count + PRIOR) / total for count in counts]


def statistic(day: Counts, base: Counts) -> float:
    """Return the index in units of what chance alone makes of it.

    For independent draws it has about the chi-square distribution, with one degree of freedom less than there are bins.
    """
    return psi(day, base) / (1 / sum(day) + 1 / sum(base))


def drift(baseline: Baseline, counted: Mapping[str, Counts]) -> list[Drift]:
    """Return how far a day lies from the baseline, a `Drift` for each measure of which it has at least FEWEST values.

    counted  the day's histograms by the names of the measures, with the bins of the baseline
    """
    found = []
    for name, measure in baseline.measures.items():
        values = sum(counted.get(name, ()))
        if values >= FEWEST:
            found.append(Drift(name, values, psi(counted[name], measure.counts), measure.psi_limit(values)))
    return found
