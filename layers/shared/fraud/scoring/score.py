"""`Scoring`: the result of a model for some payments, whichever model it is and wherever it runs."""

from collections.abc import Sequence
from typing import NamedTuple

from fraud.outcome import Thresholds


class Scoring(NamedTuple):
    """The result of one model for some feature vectors, in their order.

    scores         probability of fraud, in [0, 1]
    contributions  (feature, log odds) of the features that raised the score, largest first; empty below the lowest
                   threshold, because exact contributions cost more than the score
    degraded       another model was to be asked, and this one stood in
    """

    version: str
    thresholds: Thresholds
    scores: Sequence[float]
    contributions: Sequence[Sequence[tuple[str, float]]]
    degraded: bool = False
