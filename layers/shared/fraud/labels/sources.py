"""Sources of labels: a parameter of the stack binds each caller's role to one source."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple, Self

from fraud.errors import ForbiddenError

MAX_SOURCES = 10
"""Most sources that a stack may have."""

BACKFILL = "backfill"
"""The source that loads labels of the time before the stack's first decision (D-080). It is closed unless a parameter
opens it.
"""


class Sources(NamedTuple):
    """The source of each role, and the ranking: the sources from least to most trusted.

    backfill_before  the stack's first decision, before which the source BACKFILL dates labels back; None: it is closed
    """

    by_role: Mapping[str, str]
    ranking: tuple[str, ...]
    backfill_before: datetime | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `source=role` pairs, the least trusted source first. A source may have several roles.

        >>> Sources.parse("user_report=payment-app,analyst=fraud-analyst").ranking
        ('user_report', 'analyst')

        Raises ValueError when a pair is malformed, a role has two sources or there are more than MAX_SOURCES.
        """
        pairs = [_PAIR.fullmatch(pair) for pair in text.split(",")]
        found = [(pair["source"], pair["role"]) for pair in pairs if pair is not None]
        by_role = {role: source for source, role in found}
        if len(by_role) < len(pairs):
            raise ValueError("must be source=role pairs with commas between, each role once")
        ranking = tuple(dict.fromkeys(source for source, _ in found))
        if len(ranking) > MAX_SOURCES:
            raise ValueError(f"must be at most {MAX_SOURCES} sources")
        return cls(by_role, ranking)

    def of(self, arn: str) -> str:
        """Return the source of a caller, by the role (or user) in its ARN.

        Raises ForbiddenError for a caller whose role has no source, or BACKFILL while that is closed.

        >>> Sources.parse("analyst=fraud-analyst").of("arn:aws:sts::123456789012:assumed-role/fraud-analyst/hana")
        'analyst'
        """
        caller = _CALLER.fullmatch(arn)
        role = "" if caller is None else caller["role"] or caller["user"]
        source = self.by_role.get(role)
        if source is None or (source == BACKFILL and self.backfill_before is None):
            raise ForbiddenError
        return source

    def dates_back_to(self, source: str) -> datetime | None:
        """Return the time before which a source's labels are dated back; None: it dates none back.

        >>> first = datetime(2026, 3, 4)
        >>> opened = Sources.parse("backfill=loader,analyst=fraud-analyst")._replace(backfill_before=first)
        >>> opened.dates_back_to("backfill") == first, opened.dates_back_to("analyst")
        (True, None)
        """
        return self.backfill_before if source == BACKFILL else None


_PAIR = re.compile(r"(?P<source>[a-z][a-z0-9_]{0,31})=(?P<role>[\w+=.@-]{1,64})", re.ASCII)
_CALLER = re.compile(
    r"arn:[^:]+:(?:sts::\d{12}:assumed-role/(?P<role>[^/]+)/[^/]+|iam::\d{12}:user/(?:.+/)?(?P<user>[^/]+))"
)
