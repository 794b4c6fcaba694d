"""Verification: the rows of a table against their own hashes, and against the roots. Pure.

What lies after the last root of its chain is protected by nothing but the chain itself: who may write to the table can
write it anew. `Verification` names it, and it names rows that are older than the chains.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from fraud.audit.chain import ChainLink, Discrepancy, Item, breaks, joined, link_of
from fraud.audit.roots import Rooted, Stored, checked, id_of


class Unprotected(NamedTuple):
    """Rows of one chain that no root protects, by their numbers; None for rows that are older than the chain."""

    chain: str
    rows: int
    first: int | None


class Verification(NamedTuple):
    """The result of a verification.

    chains, rows  how many were read, without rows that are older than the chains
    roots         how many there are, and `until` when the last one was written; None: there is none
    discrepancies      every place that is not as it was written
    unprotected   rows that may have been changed without a trace
    """

    chains: int
    rows: int
    roots: int
    until: str | None
    discrepancies: Sequence[Discrepancy]
    unprotected: Sequence[Unprotected]


def verified(items: Iterable[Item], stored: Mapping[str, Stored], only: str | None = None) -> Verification:
    """Verify the rows of a table.

    items   its rows, in any order
    stored  the objects of the bucket of roots, by their key
    only    a chain's name, if `items` has only this one's rows
    """
    rooted = checked(stored)
    links, older = _read(items)
    if only is not None:
        links.setdefault(only, [])
    discrepancies, unprotected = list(rooted.discrepancies), []
    for chain, own in sorted(links.items()):
        own.sort()
        found, bare = compared(chain, own, rooted)
        discrepancies += found
        if bare:
            unprotected.append(Unprotected(chain, len(bare), bare[0]))
    if only is None:
        discrepancies += _gone(rooted, links)
    unprotected += [Unprotected(chain, number, None) for chain, number in sorted(older.items())]
    rows = sum(map(len, links.values()))
    return Verification(sum(map(bool, links.values())), rows, rooted.number, rooted.until, discrepancies, unprotected)


def _read(items: Iterable[Item]) -> tuple[dict[str, list[ChainLink]], dict[str, int]]:
    """Return the links of each chain, and the number of rows that are older than their chain."""
    links: dict[str, list[ChainLink]] = {}
    older: dict[str, int] = {}
    for item in items:
        chain, link = item["pk"]["S"], link_of(item)
        if link is None:
            older[chain] = older.get(chain, 0) + 1
        else:
            links.setdefault(chain, []).append(link)
    return links, older


def _gone(rooted: Rooted, links: Iterable[str]) -> list[Discrepancy]:
    """Return a discrepancy for each chain that roots name and of which no row is left. Only its id is known then."""
    left = rooted.anchors.keys() - {id_of(chain) for chain in links}
    return [Discrepancy("gone", f"chain {id_}", 1, max(each.n for each in rooted.anchors[id_])) for id_ in sorted(left)]


def compared(chain: str, links: Sequence[ChainLink], rooted: Rooted) -> tuple[list[Discrepancy], list[int]]:
    """Check one chain in itself and against the roots. `links` are in the order of their numbers.

    Return what was found, and the numbers of the rows after the last root, which nothing protects.
    """
    discrepancies = breaks(chain, links)
    hashes = {link.n: link.hash.hex() for link in links}
    end = max(hashes, default=0)
    anchors = sorted({each[1:] for each in rooted.anchors.get(id_of(chain), ())})
    named = max((n for n, _ in anchors), default=0)
    proved = _proved(links, {n for n, own in anchors if hashes.get(n) == own})
    for n, own in anchors:
        first = max((each for each in proved if each < n), default=0) + 1
        if (
            n <= end
            and hashes.get(n) != own
            and not any(each.last >= first and each.first <= n for each in discrepancies)
        ):
            discrepancies.append(Discrepancy("rewritten", chain, first, n))
    if named > end:
        discrepancies.append(Discrepancy("cut" if end else "gone", chain, end + 1, named))
    discrepancies += _unproved(chain, [n for n in sorted(hashes) if n <= named and n not in proved], discrepancies)
    after = [link for link in links if link.n > named]
    if late := [link.n for link in after if link.at <= rooted.complete_until]:
        discrepancies.append(Discrepancy("unrooted", chain, late[0], late[-1]))
    return discrepancies, [link.n for link in after if link.n not in late]


def _proved(links: Sequence[ChainLink], anchored: Collection[int]) -> set[int]:
    """Return the rows that roots prove: those at anchors that hold, and from each one down as far as rows follow."""
    proved: set[int] = set()
    follower: ChainLink | None = None  # a sound row that is proved
    for link in reversed(links):
        follows = follower is not None and (follower.n, follower.previous) == (link.n + 1, link.hash)
        if follows or link.n in anchored:
            proved.add(link.n)
        follower = link if link.n in proved and link.sound else None
    return proved


def _unproved(chain: str, rows: Sequence[int], discrepancies: Sequence[Discrepancy]) -> list[Discrepancy]:
    """Return the rows, of those that no root proves, that no discrepancy names. A chain that was rewritten stays so."""
    rewritten = min((each.first for each in discrepancies if each.kind == "rewritten"), default=None)
    left = [
        n
        for n in rows
        if not any(each.first <= n <= each.last for each in discrepancies) and (rewritten is None or n < rewritten)
    ]
    return joined(Discrepancy("unproved", chain, n, n) for n in left)
