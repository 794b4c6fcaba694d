"""The classifier of reports: a logistic regression over category, words and context, walked in plain Python. Pure.

It is trained with scikit-learn (`models.triage`) and shipped as numbers in JSON. Nothing of it is executed. Its margin
is a sum, so what each part adds to it is exact, and a person can be told which parts decided.
"""

import math
from bisect import bisect_right
from collections.abc import Mapping
from typing import Any, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from fraud.cases.context import FACTS
from fraud.cases.report import CATEGORIES
from fraud.cases.words import buckets
from fraud.errors import UndecidableError
from fraud.transaction import load_part

PARTS = ("category", "words", *FACTS)
"""The parts of a report that the classifier weighs."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class FactWeights(_Part):
    """The weights of one fact.

    bounds   ascending; a value v is in bin number (bounds that are <= v)
    weights  one for each bin, and the last one for a fact that is not known
    """

    bounds: tuple[float, ...]
    weights: tuple[float, ...]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if list(self.bounds) != sorted(set(self.bounds)) or len(self.weights) != len(self.bounds) + 2:
            raise ValueError("bounds must ascend, and weights must be two more")
        return self

    def of(self, value: float | None) -> float:
        """Return the weight of a value.

        >>> weights = FactWeights(bounds=(1, 3), weights=(-1, 0, 1, 9))
        >>> [weights.of(value) for value in (0, 1, 2.9, 3, None)]
        [-1.0, 0.0, 0.0, 1.0, 9.0]
        """
        return self.weights[-1 if value is None else bisect_right(self.bounds, value)]


class WordWeights(_Part):
    """The weights of n-grams, one for each bucket, all of them times `scale`; and that of a report without words."""

    none: float
    scale: float
    buckets: tuple[float, ...] = Field(min_length=1)

    def of(self, text: str | None) -> float:
        """Return what a text adds to the margin: the sum of its n distinct buckets, by the root of n, times `scale`."""
        found = buckets(text or "", len(self.buckets))
        if not found:
            return self.none
        return self.scale * math.fsum(self.buckets[each] for each in found) / math.sqrt(len(found))


class Cuts(_Part):
    """Probabilities of fraud: below `dispute` a report is a dispute, from `fraud` on it is fraud, unsure between."""

    dispute: float = Field(ge=0, le=1)
    fraud: float = Field(ge=0, le=1)


class Score(NamedTuple):
    """The probability of fraud, and what each part added to its log odds."""

    probability: float
    parts: Mapping[str, float]


class Classifier(_Part):
    """The numbers of the classifier, as classifier.json has them. `trained` says from what they were trained."""

    version: str
    intercept: float
    category: dict[str, float]
    words: WordWeights
    facts: dict[str, FactWeights]
    cuts: Cuts
    trained: dict[str, Any]

    @classmethod
    def load(cls, text: bytes) -> Self:
        """Parse and check a file of numbers. Raises UndecidableError, which says what is wrong."""
        loaded = load_part(cls, text, "classifier")
        if loaded.category.keys() != CATEGORIES.keys() or loaded.facts.keys() != FACTS.keys():
            raise UndecidableError("classifier: trained for other categories or facts; train it again")
        return loaded

    def score(self, category: str, text: str | None, facts: Mapping[str, float | None]) -> Score:
        """Return the probability that a report tells of a fraud, with the log odds that each part adds to it.

        category  a name of CATEGORIES; raises KeyError for any other
        facts     a value for each fact, None for one that is not known

        The parts are named `category`, `words` and as the facts.
        """
        parts = {"category": self.category[category], "words": self.words.of(text)}
        parts |= {name: weights.of(facts[name]) for name, weights in self.facts.items()}
        return Score(_logistic(self.intercept + math.fsum(parts.values())), parts)


def _logistic(margin: float) -> float:
    """Return the probability of log odds, without overflow.

    >>> _logistic(0.0), _logistic(-1000.0), _logistic(1000.0)
    (0.5, 0.0, 1.0)
    """
    if margin >= 0:
        return 1 / (1 + math.exp(-min(margin, 700.0)))
    odds = math.exp(max(margin, -1000.0))
    return odds / (1 + odds)
