"""The cap on interventions: how many accounts may be stopped in an hour and in a day, in all and for each cause. Pure.

No rule, model version or person can stop a crowd, whatever is wrong with it. Each intervention takes a slot of the
present clock hour and of the present UTC day, in every scope that it falls under. A slot is not given back. Two hours
that meet can together take twice the hour's cap; the day's cap holds that (D-128).
"""

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Literal, NamedTuple

from fraud.transaction import utc

_BRACKETS = str.maketrans("[]", "()")
"""Brackets in the name of an attribute would name an element of a list."""

_SESSION = re.compile(r"(?<=:assumed-role)(/.+)/[^/]+$")

Period = Literal["hour", "day"]
LENGTHS: Mapping[Period, int] = {"hour": 13, "day": 10}
"""Characters of a time's one spelling that name its hour and its day."""

ALL = "all"
"""The scope of all interventions."""


class Caps(NamedTuple):
    """Most interventions of a period: in all, and of any one rule, model version or actor."""

    all: int
    each: int

    def of(self, scope: str) -> int:
        """Return the cap of a scope."""
        return self.all if scope == ALL else self.each


def scopes(actor: str, rule: str | None = None, model_version: str | None = None) -> tuple[str, ...]:
    """Return the scopes of an intervention.

    actor  `sub` of a person, `system`, or the ARN of a caller. All sessions of a role are one actor.

    >>> scopes("jun", "FAN_IN_BURST")
    ('all', 'actor_jun', 'rule_FAN_IN_BURST')
    >>> scopes("idp[7]")
    ('all', 'actor_idp(7)')
    >>> scopes("arn:aws:sts::123456789012:assumed-role/payment-app/session-1")
    ('all', 'actor_arn:aws:sts::123456789012:assumed-role/payment-app')
    """
    causes = {"actor": _SESSION.sub(r"\1", actor), "rule": rule, "model": model_version}
    return (ALL, *(f"{kind}_{value}".translate(_BRACKETS) for kind, value in causes.items() if value is not None))


def key(period: Period, now: datetime) -> str:
    """Return the partition key of a period's item.

    >>> from datetime import UTC
    >>> noon = datetime(2026, 3, 4, 12, 30, tzinfo=UTC)
    >>> key("hour", noon), key("day", noon)
    ('cap#2026-03-04T12', 'cap#2026-03-04')
    """
    return f"cap#{utc(now)[: LENGTHS[period]]}"


def full(taken: Mapping[str, int], wanted: Iterable[str], caps: Caps) -> tuple[str, ...]:
    """Return the scopes in which no slot is left.

    taken  slots that are taken, by scope

    >>> full({"all": 3, "actor_jun": 2}, scopes("jun"), Caps(all=5, each=2))
    ('actor_jun',)
    """
    return tuple(scope for scope in wanted if taken.get(scope, 0) >= caps.of(scope))


class Slot(NamedTuple):
    """A slot that an intervention takes: its name, and the scopes that it falls under.

    The same name takes no second slot of a period.
    """

    name: str
    scopes: tuple[str, ...]
