"""`Scoring`: the result of a model for some payments. Every model returns it, embedded or on an endpoint.

`Beside` is the score of a second model, which decides nothing.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal, NamedTuple

from fraud.outcome import Thresholds


class Beside(NamedTuple):
    """The score of a second model, recorded beside the one that decides.

    role  of the second model: the champion where the challenger decides, for the payers of its canary
    """

    version: str
    score: float
    role: Literal["champion", "challenger"] = "challenger"

    @property
    def variant(self) -> str:
        """The role of the model that decides.

        >>> Beside("embedded-1", 0.5).variant
        'champion'
        """
        return "champion" if self.role == "challenger" else "challenger"


class Scoring(NamedTuple):
    """The result of one model for some feature vectors, in the order of the vectors.

    version        name of the model
    thresholds     the model's own least scores, by outcome
    scores         probability of fraud, in [0, 1], one for each vector
    contributions  (feature, log odds) of the features that raised or lowered the score, largest first, one list for
                   each vector; empty below the lowest threshold, because exact contributions cost more than the score
    degraded       the embedded model stood in for the endpoint that should have scored
    apart          by place, another model's scoring of a vector: the embedded model's where the endpoint could not
                   score, the challenger's for the payers of its canary
    beside         the score of a second model for each vector; empty without one
    """

    version: str
    thresholds: Thresholds
    scores: Sequence[float]
    contributions: Sequence[Sequence[tuple[str, float]]]
    degraded: bool = False
    apart: Mapping[int, "Scoring"] = MappingProxyType({})
    beside: Sequence[Beside] = ()

    def of(self, place: int) -> "Scoring":
        """Return the scoring of one vector, with the version and the thresholds of the model that scored it.

        >>> whole = Scoring("trained-7", {"review": 0.5}, [0.1, 0.6], [[], [("is_retry", 0.2)]])
        >>> whole.of(1).scores, whole.of(1).contributions
        ([0.6], [[('is_retry', 0.2)]])
        """
        alone = slice(place, place + 1)
        beside = self.beside[alone]
        if place in self.apart:
            return self.apart[place]._replace(beside=beside)
        return self._replace(
            scores=self.scores[alone], contributions=self.contributions[alone], apart={}, beside=beside
        )
