"""`Scoring`: the result of a model for some payments. Every model returns it, embedded or on an endpoint."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
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
    apart          by place, the embedded model's scoring of each vector that the endpoint could not score
    """

    version: str
    thresholds: Thresholds
    scores: Sequence[float]
    contributions: Sequence[Sequence[tuple[str, float]]]
    degraded: bool = False
    apart: Mapping[int, "Scoring"] = MappingProxyType({})

    def of(self, place: int) -> "Scoring":
        """Return the scoring of one vector, with the version and the thresholds of the model that scored it.

        >>> whole = Scoring("trained-7", {"review": 0.5}, [0.1, 0.6], [[], [("is_retry", 0.2)]])
        >>> whole.of(1).scores, whole.of(1).contributions
        ([0.6], [[('is_retry', 0.2)]])
        """
        alone = slice(place, place + 1)
        own = self._replace(scores=self.scores[alone], contributions=self.contributions[alone], apart={})
        return self.apart.get(place, own)
