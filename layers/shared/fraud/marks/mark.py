"""The mark of an account, as its profile holds it and as a payment sees it. Pure.

A profile has two attributes for marks, `mark_a` and `mark_b`, of two snapshots of the graph. A snapshot is written
whole into one of them while the stack's pointer names the other; then the pointer changes. So a payment sees the marks
of one snapshot and never a mix of two (D-168).
"""

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, NamedTuple, Self

from pydantic_core import PydanticCustomError

from fraud.counters.layout import State, profiles
from fraud.transaction import Transaction, instant, utc

Side = Literal["a", "b"]
SIDES: Mapping[Side, str] = {"a": "mark_a", "b": "mark_b"}
"""The attribute of each side."""

PARTIES = ("payer", "payee")
"""The roles of a payment whose accounts may have a mark."""


class Mark(NamedTuple):
    """A mark.

    snapshot    number of the snapshot
    view        name of the view whose component earned it: `invite`
    shape       shape of the component, with the typology where that earned it: `forked_chain`
    lift        bound that earned it: how many times more often than all others such accounts turn out fraudulent
    as_of       time of the snapshot; expires_at: from then on it is no mark. Both are aware
    """

    snapshot: int
    view: str
    shape: str
    lift: float
    as_of: datetime
    expires_at: datetime

    @property
    def name(self) -> str:
        """View and shape in one word, as rules and people read them."""
        return f"{self.view}/{self.shape}"

    @property
    def rank(self) -> tuple[float, str, str]:
        """An account that several pages mark keeps the mark of the highest rank, whatever the order of the pages."""
        return self.lift, self.view, self.shape

    @property
    def row(self) -> dict[str, Any]:
        """The attribute of a profile, as plain values."""
        return self._asdict() | {"as_of": utc(self.as_of), "expires_at": utc(self.expires_at)}

    @classmethod
    def parse(cls, held: Any) -> Self | None:  # noqa: ANN401 - whatever the profile has
        """Read the attribute of a profile; None when it cannot be read.

        >>> from datetime import UTC
        >>> march, april = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC)
        >>> mark = Mark(7, "invite", "forked_chain", 10.9, march, april)
        >>> Mark.parse(mark.row) == mark, Mark.parse({"snapshot": 7}), Mark.parse("?")
        (True, None, None)
        """
        try:
            as_of, expires_at = instant(held["as_of"]), instant(held["expires_at"])
            mark = cls(int(held["snapshot"]), held["view"], held["shape"], float(held["lift"]), as_of, expires_at)
        except (KeyError, TypeError, ValueError, PydanticCustomError):
            return None
        texts = isinstance(mark.view, str) and isinstance(mark.shape, str)
        return mark if texts and math.isfinite(mark.lift) else None


def mark_of(profile: Mapping[str, Any], snapshot: int, at: datetime) -> Mark | None:
    """Return the mark of an account for a payment at `at`, an aware time; None when it has none.

    snapshot  number of the snapshot that the stack's pointer names; 0: none

    >>> from datetime import UTC
    >>> march, april = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC)
    >>> profile = {"mark_a": Mark(7, "invite", "star", 3.1, march, april).row}
    >>> [mark_of(profile, number, at) is not None for number, at in ((7, march), (6, march), (7, april), (0, march))]
    [True, False, False, False]
    """
    for attribute in SIDES.values():
        held = profile.get(attribute)
        if not isinstance(held, Mapping) or held.get("snapshot") != snapshot:
            continue
        mark = Mark.parse(held)
        if mark is not None and mark.as_of <= at < mark.expires_at:
            return mark
    return None


def marks(transaction: Transaction, state: State) -> dict[str, Mark]:
    """Return the marks of a payment's accounts, at the payment's own time, by role: `payer`, `payee`."""
    if not state.snapshot:
        return {}
    held = profiles(transaction)
    found = {
        role: mark_of(state.profiles.get(held[role], {}), state.snapshot, transaction.occurred_at)
        for role in PARTIES
        if role in held
    }
    return {role: mark for role, mark in found.items() if mark is not None}
