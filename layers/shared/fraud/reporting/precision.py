"""Precision of declines and recall of the live system, from payments that were drawn and reviewed blind. Pure.

Payments are drawn by strata: the declined ones, and the approved ones by their scores (`fraud.decisions.sampling`).
Precision is the share of frauds among the declined payments. Recall is the share of declined ones among all frauds:
the frauds of each stratum have an exact interval, and these hold together, so their sums have one (D-138).

Payments that were challenged or reviewed are in neither figure: the decision about them was left to a person.
"""

from collections.abc import Iterable, Mapping, Sequence
from math import ceil
from typing import Literal, NamedTuple

from fraud.reporting.intervals import CONFIDENCE, Interval, each_of, finite_total, share_of, summed

TOLERANCE = 0.10
"""A recall whose interval is wider than this to both sides is not determinable: plus or minus ten points."""

MEANINGS: Mapping[str, Literal["fraud", "honest"] | None] = {
    "fraud": "fraud",
    "legitimate": "honest",
    "dispute": "honest",
    "inconclusive": None,
}
"""The meaning of a finding for precision and recall. A dispute is no fraud; `inconclusive` says nothing."""


class Reviews(NamedTuple):
    """A stratum of a period: its payments, those that were drawn, and what was found of these.

    decided  all its payments, whether drawn or not
    sampled  those that were drawn
    frauds   drawn ones with the finding `fraud`
    honest   drawn ones with a finding that is no fraud

    The other drawn ones are unresolved: no verdict yet, or an inconclusive one.
    """

    name: str
    decided: int
    sampled: int
    frauds: int
    honest: int

    @property
    def reviewed(self) -> int:
        """The drawn payments of which it is known whether they were frauds."""
        return self.frauds + self.honest

    @property
    def unresolved(self) -> int:
        """The drawn payments of which it is not known."""
        return self.sampled - self.reviewed

    @property
    def estimate(self) -> float | None:
        """The frauds of the stratum as they are to be expected; None if no payment was reviewed."""
        return self.decided * self.frauds / self.reviewed if self.reviewed else None

    def total(self, confidence: float) -> Interval:
        """Return the interval of the frauds of the stratum, as if unresolved payments were like the reviewed ones."""
        return finite_total(self.frauds, self.reviewed, self.decided, confidence)

    def cautious(self, confidence: float) -> Interval:
        """Return the interval of the frauds, whatever the unresolved payments are: none of them a fraud, or all.

        >>> Reviews("decline", 100, 100, frauds=80, honest=15).cautious(0.95)
        Interval(low=80.0, high=85.0)
        """
        none, every = (self.frauds + more for more in (0, self.unresolved))
        low = finite_total(none, self.sampled, self.decided, confidence).low
        return Interval(low, finite_total(every, self.sampled, self.decided, confidence).high)


class Estimate(NamedTuple):
    """A share with its intervals.

    value       the best guess; None if it is not determinable
    interval    as if unresolved payments were like the reviewed ones; None if nothing is known
    cautious    whatever the unresolved payments are
    reviewed    payments that the estimate is made of
    unresolved  payments that were drawn and say nothing yet
    """

    value: float | None
    interval: Interval | None
    cautious: Interval | None
    reviewed: int
    unresolved: int

    @property
    def words(self) -> str:
        """The estimate for people, in per cent.

        >>> precision([Reviews("decline", 1_000, 52, frauds=40, honest=10)]).words
        '80.0 % (66.7 % to 89.7 %)'
        >>> precision([Reviews("decline", 1_000, 0, 0, 0)]).words
        'not determinable'
        """
        if self.value is None or self.interval is None:
            return "not determinable"
        return f"{self.value:.1%} ({self.interval.low:.1%} to {self.interval.high:.1%})".replace("%", " %")


def precision(declined: Sequence[Reviews], confidence: float = CONFIDENCE) -> Estimate:
    """Return the share of frauds among the declined payments; not determinable if one stratum was not reviewed.

    declined  one stratum; more if the share that is drawn has changed
    """
    strata = [each for each in declined if each.decided]
    decided = sum(each.decided for each in strata)
    expected = _expected(strata)
    if expected is None or not decided:
        return Estimate(None, None, None, *_counts(strata))
    each = each_of(len(strata), confidence)
    interval = summed([stratum.total(each) for stratum in strata]).scaled(1 / decided)
    cautious = summed([stratum.cautious(each) for stratum in strata]).scaled(1 / decided)
    return Estimate(expected / decided, interval, cautious, *_counts(strata))


def recall(declined: Sequence[Reviews], approved: Sequence[Reviews], confidence: float = CONFIDENCE) -> Estimate:
    """Return the share of declined payments among all frauds that were approved or declined at once.

    Its value is None, and the recall not determinable, if the interval reaches further than TOLERANCE to both sides.

    >>> caught = Reviews("decline", 10_000, 1_000, frauds=800, honest=200)
    >>> missed = Reviews("approve", 1_000_000, 10_000, frauds=20, honest=9_980)
    >>> recall([caught], [missed]).words
    '80.0 % (70.4 % to 87.9 %)'
    >>> recall([caught], [missed._replace(sampled=1_000, frauds=2, honest=998)]).words
    'not determinable'
    """
    strata = [each for each in (*declined, *approved) if each.decided]
    if not strata:
        return Estimate(None, None, None, 0, 0)
    each = each_of(len(strata), confidence)
    interval = share_of(summed([s.total(each) for s in declined]), summed([s.total(each) for s in approved]))
    cautious = share_of(summed([s.cautious(each) for s in declined]), summed([s.cautious(each) for s in approved]))
    caught, missed = _expected(declined), _expected(approved)
    value = caught / (caught + missed) if caught is not None and missed is not None and caught + missed else None
    if interval is None or interval.half_width > TOLERANCE:
        value = None
    return Estimate(value, interval, cautious, *_counts(strata))


def _expected(strata: Iterable[Reviews]) -> float | None:
    """Return the frauds of all strata as they are to be expected; None if one of them was not reviewed."""
    estimates = [each.estimate for each in strata if each.decided]
    return None if None in estimates else sum(each for each in estimates if each is not None)


def _counts(strata: Iterable[Reviews]) -> tuple[int, int]:
    return sum(each.reviewed for each in strata), sum(each.unresolved for each in strata)


# ---- the plan --------------------------------------------------------------------------------------------------------


class Plan(NamedTuple):
    """A stratum of approved payments as it is planned: its payments, the rate of frauds to expect, and a weight.

    weight  how many payments are drawn here for each one in a stratum of weight 1 and of the same size
    """

    decided: int
    rate: float
    weight: float = 1.0

    @classmethod
    def after(cls, stratum: Reviews, weight: float = 1.0) -> "Plan":
        """Return the plan that follows from reviews: nothing found in n reviews is half a fraud in n + 1 (Jeffreys).

        >>> Plan.after(Reviews("approve", 1_000, 99, 0, 99)).rate
        0.005
        """
        return cls(stratum.decided, (stratum.frauds + 0.5) / (stratum.reviewed + 1), weight)

    def drawn(self, share: float) -> int:
        """Return how many payments are drawn if a stratum of weight 1 gives this share."""
        return min(self.decided, ceil(self.decided * share * self.weight))

    def stratum(self, share: float) -> Reviews:
        """Return the stratum as it is to be expected after the reviews."""
        drawn = self.drawn(share)
        frauds = round(drawn * self.rate)
        return Reviews("planned", self.decided, drawn, frauds, drawn - frauds)


def reviews_needed(
    declined: Sequence[Reviews],
    approved: Sequence[Plan],
    tolerance: float = TOLERANCE,
    confidence: float = CONFIDENCE,
) -> int | None:
    """Return how many approved payments must be reviewed for a recall within the tolerance, if all goes as expected.

    None if no number is enough: too few of the declined payments were reviewed.

    >>> caught = Reviews("decline", 10_000, 1_000, frauds=800, honest=200)
    >>> reviews_needed([caught], [Plan(1_000_000, rate=0.002)])
    7565
    """

    def is_enough(share: float) -> bool:
        found = recall(declined, [each.stratum(share) for each in approved], confidence)
        return found.interval is not None and found.interval.half_width <= tolerance

    least = min((each.weight for each in approved if each.weight > 0), default=1.0)
    low, high = 0.0, 1 / least
    if not is_enough(high):
        return None
    while high - low > 1e-3 * high:
        middle = (low + high) / 2
        if is_enough(middle):
            high = middle
        else:
            low = middle
    return sum(each.drawn(high) for each in approved)
