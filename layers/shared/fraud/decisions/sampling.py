"""Which payments are drawn for a blind review: a share of the declined and, by their scores, of the approved. Pure.

A stratum is an outcome, a range of scores, and the share that is drawn. Whether a payment is drawn follows from a keyed
hash of its transaction id. So every repeat draws the same, in whatever order payments come, and nobody without the
stack's keys can tell before which payments people will look at (D-136).

A stratum's name says all of it. So payments that were drawn by other shares are of another stratum, and no figure mixes
the two.
"""

import json
import re
from typing import NamedTuple, Self

from fraud.counters.keys import Keys
from fraud.decisions.record import Contents
from fraud.outcome import Outcome

KIND = "sample"
"""The kind of the pseudonym that draws a payment: none that the archive has."""

DRAWN = (Outcome.APPROVE, Outcome.DECLINE)
"""The outcomes of which payments are drawn. A challenge leaves the decision to the payer, a review to an analyst."""

MOST_STRATA = 10
"""Most strata: the doubts of all of them add up."""

_NUMBER = r"[01](\.[0-9]{1,12})?"
_PAIR = re.compile(rf"(?P<outcome>approve|decline)(:(?P<low>{_NUMBER}))?=(?P<share>{_NUMBER})")


class Stratum(NamedTuple):
    """A stratum: payments of an outcome with low <= score < high, of which a share is drawn.

    The highest stratum of an outcome has the score 1, too. A payment without a score counts as one of score 0: most of
    these are of segments that no model scores.
    """

    outcome: Outcome
    low: float
    high: float
    share: float

    @property
    def name(self) -> str:
        """Outcome, range of scores if it is not the whole one, and share.

        >>> Stratum(Outcome.APPROVE, 0.01, 0.1, 0.002).name, Stratum(Outcome.DECLINE, 0, 1, 0.05).name
        ('approve:0.01-0.1@0.002', 'decline@0.05')
        """
        scores = "" if (self.low, self.high) == (0, 1) else f":{self.low:g}-{self.high:g}"
        return f"{self.outcome.value}{scores}@{self.share:g}"

    def draws(self, keys: Keys, transaction_id: str) -> bool:
        """Tell whether a payment of the stratum is drawn."""
        return keys.draw(KIND, transaction_id) < self.share


class Sampling(NamedTuple):
    """The strata of a stack, those of one outcome in the order of their scores."""

    strata: tuple[Stratum, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `outcome:score=share` pairs with commas between: from this score on, this share is drawn.

        Without a score a stratum begins at 0. The scores of an outcome go up, and the first one is 0.

        >>> [each.name for each in Sampling.parse("approve=0.001,approve:0.1=0.5,decline=0.05").strata]
        ['approve:0-0.1@0.001', 'approve:0.1-1@0.5', 'decline@0.05']

        Raises ValueError when a pair is malformed, or strata are missing, too many or out of order.
        """
        pairs = [_PAIR.fullmatch(pair) for pair in text.split(",")]
        found = [(Outcome(one["outcome"]), float(one["low"] or 0), float(one["share"])) for one in pairs if one]
        if len(found) < len(pairs) or len(found) > MOST_STRATA or max((share for *_, share in found), default=0) > 1:
            raise ValueError(f"must be at most {MOST_STRATA} outcome:score=share pairs with shares of at most 1")
        strata: list[Stratum] = []
        for outcome in DRAWN:
            edges = [(low, share) for name, low, share in found if name is outcome]
            lows = [low for low, _ in edges]
            if not lows or lows[0] != 0 or lows != sorted(set(lows)) or lows[-1] >= 1:
                raise ValueError(f"must have {outcome.value} with scores that go up from 0 and are below 1")
            highs = [*lows[1:], 1.0]
            strata += [Stratum(outcome, low, high, share) for (low, share), high in zip(edges, highs, strict=True)]
        return cls(tuple(strata))

    def stratum(self, outcome: str, score: float | None) -> Stratum | None:
        """Return the stratum of a decision; None for an outcome that no payment is drawn of."""
        of_outcome = [each for each in self.strata if each.outcome == outcome]
        return next((each for each in reversed(of_outcome) if (score or 0) >= each.low), None)

    def stratum_of(self, contents: Contents) -> Stratum | None:
        """Return the stratum of a decision as it is stored; None for an outcome that no payment is drawn of."""
        answer = json.loads(contents.answer)
        return self.stratum(answer["outcome"], answer.get("score"))

    def draws(self, keys: Keys, contents: Contents) -> bool:
        """Tell whether a decision's payment is drawn."""
        stratum = self.stratum_of(contents)
        return stratum is not None and stratum.draws(keys, json.loads(contents.transaction)["transaction_id"])


OFF = Sampling.parse("approve=0,decline=0")
"""The sampling of a stack that draws no payment."""
