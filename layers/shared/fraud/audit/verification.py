"""Verification: the rows of a table against their own hashes, and against the roots. Pure.

What lies after the last root of its chain is protected by nothing but the chain itself: who may write to the table can
write it anew. The report names it, and it names rows that are older than the chains.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from fraud.audit.chain import Finding, Item, Link, breaks, joined, link_of
from fraud.audit.roots import Rooted, Stored, checked, id_of


class Unprotected(NamedTuple):
    """Rows of one chain that no root protects, by their numbers; None for rows that are older than the chain."""

    chain: str
    rows: int
    first: int | None


class Report(NamedTuple):
    """The result of a verification.

    chains, rows  how many were read, without rows that are older than the chains
    roots         how many there are, and `until` when the last one was written; None: there is none
    findings      every place that is not as it was written
    unprotected   rows that may have been changed without a trace
    """

    chains: int
    rows: int
    roots: int
    until: str | None
    findings: Sequence[Finding]
    unprotected: Sequence[Unprotected]


def verified(items: Iterable[Item], stored: Mapping[str, Stored], only: str | None = None) -> Report:
    """Verify the rows of a table.

    items   its rows, in any order
    stored  the objects of the bucket of roots, by their key
    only    a chain's name, if `items` has only this one's rows
    """
    rooted = checked(stored)
    links, older = _read(items)
    if only is not None:
        links.setdefault(only, [])
    findings, unprotected = list(rooted.findings), []
    for chain, own in sorted(links.items()):
        own.sort()
        found, bare = compared(chain, own, rooted)
        findings += found
        if bare:
            unprotected.append(Unprotected(chain, len(bare), bare[0]))
    if only is None:
        findings += _gone(rooted, links)
    unprotected += [Unprotected(chain, number, None) for chain, number in sorted(older.items())]
    rows = sum(map(len, links.values()))
    return Report(sum(map(bool, links.values())), rows, rooted.number, rooted.until, findings, unprotected)


def _read(items: Iterable[Item]) -> tuple[dict[str, list[Link]], dict[str, int]]:
    """Return the links of each chain, and the number of rows that are older than their chain."""
    links: dict[str, list[Link]] = {}
    older: dict[str, int] = {}
    for item in items:
        chain, link = item["pk"]["S"], link_of(item)
        if link is None:
            older[chain] = older.get(chain, 0) + 1
        else:
            links.setdefault(chain, []).append(link)
    return links, older


def _gone(rooted: Rooted, links: Iterable[str]) -> list[Finding]:
    """Return a finding for each chain that roots name and of which no row is left. Only its id is known then."""
    left = rooted.anchors.keys() - {id_of(chain) for chain in links}
    return [Finding("gone", f"chain {id_}", 1, max(each.n for each in rooted.anchors[id_])) for id_ in sorted(left)]


def compared(chain: str, links: Sequence[Link], rooted: Rooted) -> tuple[list[Finding], list[int]]:
    """Check one chain in itself and against the roots. `links` are in the order of their numbers.

    Return what was found, and the numbers of the rows after the last root, which nothing protects.
    """
    findings = breaks(chain, links)
    hashes = {link.n: link.hash.hex() for link in links}
    end = max(hashes, default=0)
    anchors = sorted({each[1:] for each in rooted.anchors.get(id_of(chain), ())})
    named = max((n for n, _ in anchors), default=0)
    proved = _proved(links, {n for n, own in anchors if hashes.get(n) == own})
    for n, own in anchors:
        first = max((each for each in proved if each < n), default=0) + 1
        if n <= end and hashes.get(n) != own and not any(each.last >= first and each.first <= n for each in findings):
            findings.append(Finding("rewritten", chain, first, n))
    if named > end:
        findings.append(Finding("cut" if end else "gone", chain, end + 1, named))
    findings += _unproved(chain, [n for n in sorted(hashes) if n <= named and n not in proved], findings)
    after = [link for link in links if link.n > named]
    if late := [link.n for link in after if link.at <= rooted.complete_until]:
        findings.append(Finding("unrooted", chain, late[0], late[-1]))
    return findings, [link.n for link in after if link.n not in late]


def _proved(links: Sequence[Link], anchored: Collection[int]) -> set[int]:
    """Return the rows that roots prove: those at anchors that hold, and from each one down as far as rows follow."""
    proved: set[int] = set()
    follower: Link | None = None  # a sound row that is proved
    for link in reversed(links):
        follows = follower is not None and (follower.n, follower.previous) == (link.n + 1, link.hash)
        if follows or link.n in anchored:
            proved.add(link.n)
        follower = link if link.n in proved and link.sound else None
    return proved


def _unproved(chain: str, rows: Sequence[int], findings: Sequence[Finding]) -> list[Finding]:
    """Return the rows, of those that no root proves, that no finding names. A chain that was rewritten stays so."""
    rewritten = min((each.first for each in findings if each.kind == "rewritten"), default=None)
    left = [
        n
        for n in rows
        if not any(each.first <= n <= each.last for each in findings) and (rewritten is None or n < rewritten)
    ]
    return joined(Finding("unproved", chain, n, n) for n in left)
