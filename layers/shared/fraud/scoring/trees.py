"""The embedded model: boosted trees walked in plain Python, without numpy. Loading a model never executes stored code.

The scores are those of xgboost: models/training/train.py exports the trees and checks that. The explanation of a score
is exact. `Forest` and `Manifest` describe the two packaged files. Loading refuses a damaged model, and a model that was
trained on other features than `features` defines now.
"""

import hashlib
import json
import math
from array import array
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from fraud import packaged
from fraud.errors import UndecidableError
from fraud.scoring import features
from fraud.scoring.features import Vector
from fraud.transaction import Currency, load_part

OUTCOMES = ("challenge", "review", "decline")
"""Outcomes that a score can lead to, from mild to severe. A manifest has a threshold for each."""

MOST_BRANCHES = 4
"""Most different features that the splits of one path may test: up to four, two quadrature points explain exactly."""

EARLY, LATE = 0.5 - math.sqrt(1 / 12), 0.5 + math.sqrt(1 / 12)
"""Nodes of two-point Gauss-Legendre quadrature on [0, 1], both of weight 1/2: exact for polynomials of degree three."""

Number = Annotated[float, Field(gt=-1e30, lt=1e30)]


class _Packaged(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Manifest(_Packaged):
    """The description of a model: its features, the hash of its trees, and the least score of each outcome.

    currency  ISO 4217; the model was trained on amounts in its minor units. A stack of another currency refuses it
    `trained` and `metrics` are for people: how the model was made, and its quality on payments that were not used for
    training.
    """

    version: str
    currency: Currency
    fingerprint: str
    features: Annotated[tuple[str, ...], Field(strict=False)]
    sha256: str
    thresholds: dict[str, Annotated[float, Field(gt=0, le=1)]]
    trained: dict[str, Any]
    metrics: dict[str, Any]

    @model_validator(mode="after")
    def _is_this_librarys(self) -> Self:
        if (self.features, self.fingerprint) != (features.NAMES, features.fingerprint()):
            raise ValueError("trained on other features")
        if self.thresholds.keys() != set(OUTCOMES):
            raise ValueError(f"thresholds must be {', '.join(OUTCOMES)}")
        if sorted(self.thresholds.values()) != [self.thresholds[outcome] for outcome in OUTCOMES]:
            raise ValueError("a milder outcome needs a lower threshold")
        if self.version != version(self.sha256, self.thresholds):
            raise ValueError("version does not belong to these trees and thresholds")
        return self


def version(sha256: str, thresholds: Mapping[str, float]) -> str:
    """Return the model's name. Two names are equal exactly when the trees and the thresholds are equal.

    >>> version("0" * 64, {"review": 0.2}) == version("0" * 64, {"review": 0.3})
    False
    """
    deciding = json.dumps([sha256, dict(thresholds)], sort_keys=True).encode()
    return f"embedded-{hashlib.sha256(deciding).hexdigest()[:12]}"


class Forest(_Packaged):
    """All trees as columns over their nodes in pre-order: a left child directly follows its parent.

    base          log odds before any tree
    roots         first node of each tree
    feature       index into features.NAMES; 0 for a leaf
    value         a split's threshold (values below it go left), or the log odds that a leaf adds; each is the shortest
                  text of a float32
    right         index of the right child; 0 for a leaf
    missing_left  1 where a missing value goes left
    cover         weight of the training rows that reached the node (sum of hessians)
    """

    base: Number
    roots: list[int]
    feature: list[int]
    value: list[Number]
    right: list[int]
    missing_left: list[int]
    cover: list[Annotated[float, Field(gt=0, lt=1e30)]]

    @model_validator(mode="after")
    def _is_walkable(self) -> Self:
        """Check that every walk stays inside the columns and moves forward, so that it ends."""
        size = len(self.right)
        if any(len(column) != size for column in (self.feature, self.value, self.missing_left, self.cover)):
            raise ValueError("columns of different length")
        if not all(0 <= root < size for root in self.roots):
            raise ValueError("a root outside the nodes")
        if not all(0 <= feature < len(features.NAMES) for feature in self.feature):
            raise ValueError("an unknown feature")
        if not all(right == 0 or node + 1 < right < size for node, right in enumerate(self.right)):
            raise ValueError("a child that does not follow its parent")
        return self


Effect = tuple[float, float, float, float]
"""The effect of a feature on a leaf's weight.

Two factors, at the early and the late quadrature point; then the feature's slope divided by twice each factor.
"""


class Branch(NamedTuple):
    """The condition that a path puts on one feature: low <= x < high, or a missing value if `missing` is true.

    share  part of the training rows that meets the condition: the factor of a feature whose value is unknown
    kept   effect on the leaf when the feature's value meets the condition
    left   effect on the leaf when the feature's value does not meet it
    """

    feature: int
    low: float
    high: float
    missing: bool
    share: float
    kept: Effect
    left: Effect


class Leaf(NamedTuple):
    """The end of a path: the log odds that it adds, and one branch for each feature on the path."""

    value: float
    branches: tuple[Branch, ...]


class Trees:
    """A loaded model: `score` and `explain` a vector of `features.vector`."""

    def __init__(self, forest: Forest, manifest: Manifest) -> None:
        self.version: str = manifest.version
        self.currency: str = manifest.currency
        self.thresholds: Mapping[str, float] = manifest.thresholds
        self.manifest = manifest
        self._base = forest.base
        self._roots = forest.roots
        self._right = forest.right
        # xgboost compares in float32. The shortest text of a float32 gives back that float32 only after rounding.
        self._value = array("f", forest.value).tolist()
        # `margin` reads a vector twice as long. A missing value is -inf in the first half, so it goes left, and +inf in
        # the second half, so it goes right. Each split reads the half that its `missing_left` asks for.
        self._reads = [
            feature if left else feature + len(features.NAMES)
            for feature, left in zip(forest.feature, forest.missing_left, strict=True)
        ]
        self._leaves = tuple(leaf for root in forest.roots for leaf in _leaves(forest, self._value, root, {}))
        if any(len(leaf.branches) > MOST_BRANCHES for leaf in self._leaves):
            raise UndecidableError(f"model: a path asks about more than {MOST_BRANCHES} features")
        self.expected = self._base + math.fsum(
            leaf.value * math.prod(branch.share for branch in leaf.branches) for leaf in self._leaves
        )
        """Log odds of a payment of which nothing is known. Contributions are a payment's differences from it."""

    @classmethod
    def load(cls, trees: bytes, manifest: bytes) -> Self:
        """Load a model from trees.json and manifest.json.

        Raises UndecidableError, which says what is wrong: a model that is only partly valid is never used.
        """
        described = load_part(Manifest, manifest, "model")
        if hashlib.sha256(trees).hexdigest() != described.sha256:
            raise UndecidableError("model: trees.json is not the file that manifest.json describes")
        return cls(load_part(Forest, trees, "model"), described)

    def require(self, version: str, currency: str) -> None:
        """Raise UndecidableError unless the model has this version and this currency."""
        if self.version != version:
            raise UndecidableError("model: its version is another one")
        packaged.agree("model", self.currency, currency)

    def score(self, vector: Vector) -> float:
        """Return the probability of fraud, in [0, 1]."""
        return _logistic(self.margin(vector))

    def margin(self, vector: Vector) -> float:
        """Return the log odds of fraud."""
        # The inner loop uses local names only, which are faster: it runs some six hundred times per payment.
        reads, values, right = self._reads, self._value, self._right
        seen = [-math.inf if x != x else x for x in vector] + [math.inf if x != x else x for x in vector]  # noqa: PLR0124
        total = self._base
        for root in self._roots:
            node = root
            while right[node]:
                node = node + 1 if seen[reads[node]] < values[node] else right[node]
            total += values[node]
        return total

    def contributions(self, vector: Vector) -> tuple[float, ...]:
        """Return the exact Shapley value of each feature, in log odds: `expected` plus their sum is the margin.

        The game is that of path-dependent TreeSHAP (Lundberg et al. 2020). The worth of a leaf is its value times one
        factor for each feature on its path. A known feature has the factor 1 if it meets the path's condition, else 0.
        An unknown feature has the factor `share`. Shapley values are the integral of the gradient of that multilinear
        function along the diagonal (Owen 1972). With up to four features the gradient is a polynomial of degree three
        in one variable, so two points of Gauss-Legendre quadrature integrate it exactly, in linear time.
        """
        totals = [0.0] * len(vector)
        for value, branches in self._leaves:
            at_early = at_late = value
            slopes = []
            for feature, low, high, missing, _, kept, left in branches:
                x = vector[feature]
                inside = low <= x < high or (missing and x != x)  # noqa: PLR0124 - only NaN differs from itself
                early, late, early_slope, late_slope = kept if inside else left
                at_early *= early
                at_late *= late
                slopes.append((feature, early_slope, late_slope))
            for feature, early_slope, late_slope in slopes:
                totals[feature] += at_early * early_slope + at_late * late_slope
        return tuple(totals)

    def explain(self, vector: Vector) -> list[tuple[str, float]]:
        """Return the features that changed the score, with their contribution in log odds, largest first."""
        changed = [(name, by) for name, by in zip(features.NAMES, self.contributions(vector), strict=True) if by]
        return sorted(changed, key=lambda item: -item[1])


def _logistic(margin: float) -> float:
    """Return 1 / (1 + exp(-margin)), computed so that no margin overflows.

    >>> _logistic(0.0), _logistic(-1e6), _logistic(1e6)
    (0.5, 0.0, 1.0)
    """
    return 0.5 + 0.5 * math.tanh(margin / 2)


def _leaves(forest: Forest, values: Sequence[float], node: int, path: dict[int, Branch]) -> list[Leaf]:
    """Return every leaf below a node. A path that tests a feature several times has one branch for that feature."""
    right = forest.right[node]
    if not right:
        return [Leaf(values[node], tuple(path.values()))]
    feature, threshold, missing_left = forest.feature[node], values[node], bool(forest.missing_left[node])
    _, low, high, missing, share, _, _ = path.get(feature) or _branch(feature, -math.inf, math.inf, True, 1.0)  # noqa: FBT003
    share /= forest.cover[node]
    left = node + 1
    below = _branch(feature, low, min(high, threshold), missing and missing_left, share * forest.cover[left])
    above = _branch(feature, max(low, threshold), high, missing and not missing_left, share * forest.cover[right])
    return [
        *_leaves(forest, values, left, path | {feature: below}),
        *_leaves(forest, values, right, path | {feature: above}),
    ]


def _branch(feature: int, low: float, high: float, missing: bool, share: float) -> Branch:  # noqa: FBT001 - a column
    return Branch(feature, low, high, missing, share, _effect(1 - share, share), _effect(-share, share))


def _effect(slope: float, share: float) -> Effect:
    """Return the effect of a feature whose factor along the diagonal is share + slope * t, for t in [0, 1].

    The slopes are halved, because each quadrature point has the weight 1/2.
    """
    early, late = share + slope * EARLY, share + slope * LATE
    return early, late, slope / early / 2, slope / late / 2
