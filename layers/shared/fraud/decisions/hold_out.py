"""The hold-out: a random share of would-be declines of small amounts goes through, so that their truth becomes known.

A payment that is declined moves no money, so nobody learns whether it was fraud, and no later model can unlearn the
decline. Which payments go through follows from a keyed hash of payer and day: every repeat draws the same, nobody
without the stack's keys can tell before, and another try on the same day, to whomever, does not draw again (D-158).
Loaded only where the parameters ask for it. Pure.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from fraud.counters.keys import Keys
from fraud.counters.layout import DAY
from fraud.errors import UndecidableError
from fraud.outcome import Hit, Outcome
from fraud.rules.conclusion import Conclusion
from fraud.transaction import UNITS, Transaction

KIND = "hold_out"
"""The kind of the pseudonym that draws: none that the archive has."""

MOST_UNITS = 10
"""The largest cap of an amount, in units of the currency: about a hundred US dollars."""


class HoldOut(NamedTuple):
    """The policy of a stack.

    share  of the payers and days that are drawn
    most   largest amount that goes through, in minor units
    keys   returns the stack's secret keys
    """

    share: float
    most: int
    keys: Callable[[], Keys]

    @classmethod
    def of(cls, share: float, most: int, currency: str, keys: Callable[[], Keys]) -> "HoldOut | None":
        """Return the policy, None if it lets nothing through. Raises UndecidableError for too large a cap."""
        if most > MOST_UNITS * UNITS[currency]:
            raise UndecidableError(f"HOLD_OUT_MOST: must be at most {MOST_UNITS * UNITS[currency]} in {currency}")
        return cls(share, most, keys) if share and most else None

    def applied(
        self, transaction: Transaction, hits: Sequence[Hit], concluded: Conclusion, missing: Mapping[str, bool]
    ) -> tuple[Conclusion, float | None]:
        """Return the conclusion, and the chance that a payment like this one goes through; None if it cannot.

        missing  the parts that the decision had to do without: with one missing nothing goes through

        A protected rule (a deny entry, an account's status, a legal limit) lets nothing through, whatever it asks for.
        """
        if concluded.outcome is not Outcome.DECLINE or transaction.amount > self.most or any(missing.values()):
            return concluded, None
        if any(hit.protected or hit.source == "outage" for hit in hits):
            return concluded, None
        if self._draws(transaction):
            return concluded._replace(outcome=Outcome.APPROVE, retryable=False), self.share
        return concluded, self.share

    def _draws(self, transaction: Transaction) -> bool:
        """Tell whether the payer is drawn on the payment's UTC day."""
        drawn = self.keys().pseudonym(KIND, f"{transaction.payer_id}#{transaction.epoch // DAY}")
        return int.from_bytes(drawn[:6]) / 2**48 < self.share
