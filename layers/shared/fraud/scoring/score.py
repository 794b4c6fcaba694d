"""`Scoring`: the result of a model for some payments. Every model returns it, embedded or on an endpoint."""

from collections.abc import Sequence
from typing import NamedTuple

from fraud.outcome import Thresholds


class Scoring(NamedTuple):
    """The result of one model for some feature vectors, in the order of the vectors.

    version        name of the model
    thresholds     the model's own least scores, by outcome
    scores         probability of fraud, in [0, 1], one for each vector
    contributions  (feature, log odds) of the features that raised or lowered the score, largest first, one list for
                   each vector; empty below the lowest threshold, because exact contributions cost more than the score
    degraded       the embedded model stood in for the endpoint that should have scored
    """

    version: str
    thresholds: Thresholds
    scores: Sequence[float]
    contributions: Sequence[Sequence[tuple[str, float]]]
    degraded: bool = False
