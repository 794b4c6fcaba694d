"""Links that are suggested to analysts: accounts that have much in common, though no payment joins them. Pure.

A run of the graph suggests an account's best links in one item, which a younger snapshot replaces whole. Only what the
snapshot in force suggests is shown. Items of all accounts lie in one partition: a run suggests a bounded number of
links, so erasure reads them all, and finds an account wherever it is named (D-182).
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import NamedTuple, Self

SUGGESTED = "inferred"
"""The partition key of the items, of which each has an account's id as its sort key; and the attribute of the links."""

MOST_LINKS = 10
"""Links that an account has at most."""

LASTS = timedelta(days=14)
"""From so long after its snapshot on, a link is not shown. Snapshots are at most six days apart."""


class Common(NamedTuple):
    """A common neighbour. `value`: id of an account; None for a device or instrument, which is known by its kind."""

    kind: str
    value: str | None


class InferredLink(NamedTuple):
    """A suggested link to another account. `score`: by Adamic and Adar; `evidence`: common neighbours."""

    other: str
    score: float
    evidence: tuple[Common, ...]

    def names(self, account: str) -> bool:
        """Whether the account is the other end or evidence."""
        return account == self.other or Common("account", account) in self.evidence


class Suggestions(NamedTuple):
    """The links that a snapshot suggests for an account, the best first. `as_of`: time of the snapshot, aware."""

    snapshot: int
    as_of: datetime
    links: tuple[InferredLink, ...]

    def joined(self, other: Self) -> Self:
        """Return those of the younger snapshot; of one snapshot the best of both. The order does not matter.

        An account has two pseudonyms after the stack's id key was replaced, and then two lists of one snapshot.
        """
        if self.snapshot != other.snapshot:
            return max(self, other, key=lambda each: each.snapshot)
        return self._replace(links=best((*self.links, *other.links)))

    def at(self, snapshot: int, now: datetime) -> tuple[InferredLink, ...]:
        """Return the links that are shown at a time. `snapshot`: the one in force."""
        return self.links if self.snapshot == snapshot and now < self.as_of + LASTS else ()

    def without(self, account: str) -> Self:
        """Return the suggestions without the links that name an account."""
        return self._replace(links=tuple(link for link in self.links if not link.names(account)))


def best(links: Iterable[InferredLink]) -> tuple[InferredLink, ...]:
    """Return the best MOST_LINKS links, each other account once.

    >>> found = best(InferredLink(other, score, ()) for other, score in (("b", 1.0), ("b", 2.0), ("a", 1.0)))
    >>> [link.score for link in found]
    [2.0, 1.0]
    """
    ordered = sorted(links, key=lambda link: (-link.score, link.other, repr(link.evidence)))
    first: dict[str, InferredLink] = {}
    for link in ordered:
        first.setdefault(link.other, link)
    return tuple(first.values())[:MOST_LINKS]
