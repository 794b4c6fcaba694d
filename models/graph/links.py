"""Links that are missing: pairs of accounts that have much in common, though no edge of the view joins them.

`python -m models.graph.links HISTORY_DIR --view p2p_7d --as-of DATE [--first 100] [--shared] [--json]`. The score is
Adamic's and Adar's (2003): each common neighbour counts as 1 / log(its degree). A neighbour of more than HUB others
says nothing, and is left out. A device or instrument that two accounts share is a common neighbour, too, when the view
has such edges or --shared is given. Links are suggested to analysts as `inferred`; they are never an input of shapes.
The precision is that of the first links by edges seen after DATE, in as many days as the view's window or 30.
"""

import argparse
import json
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import coo_array, csr_array, triu

from models.datasets.history import HistoryError
from models.graph.__main__ import instant
from models.graph.views import THING, VIEWS, HistoryTables, View, snapshot

HUB = 50
"""Most neighbours of a common neighbour that counts."""

EVIDENCE = 5
"""Most common neighbours that a link names."""


class Link(NamedTuple):
    """A pair of accounts without an edge, what they have in common, and whether an edge followed."""

    one: str
    other: str
    score: float
    evidence: tuple[str, ...]
    seen_later: bool | None = None


def inferred(tables: HistoryTables, view: View, at: datetime, first: int) -> list[Link]:
    """Return the pairs of the highest scores at a time; of equal scores in the order of ids."""
    each = snapshot(tables, view, at)
    number = each.graph.number
    ends = (
        np.concatenate([each.graph.source, each.graph.target]),
        np.concatenate([each.graph.target, each.graph.source]),
    )
    joined = coo_array((np.ones(len(ends[0])), ends), shape=(number, number)).tocsr()
    joined.data[:] = 1.0
    degree = np.asarray(joined.sum(axis=1)).ravel()
    weight = np.where((degree >= 2) & (degree <= HUB), 1 / np.log(np.maximum(degree, 2)), 0.0)  # noqa: PLR2004 - a pair
    scores = triu(joined @ csr_array(joined.multiply(weight[:, None])), k=1).tocoo()
    one, other = scores.row, scores.col
    things = np.array([THING in account for account in each.accounts], np.bool_)
    known = np.asarray(joined[one, other]).ravel() > 0
    keep = ~known & ~things[one] & ~things[other] & (scores.data > 0)
    one, other, score = one[keep], other[keep], scores.data[keep]
    pairs = [_pair(each.accounts[a], each.accounts[b]) for a, b in zip(one, other, strict=True)]
    order = sorted(range(len(pairs)), key=lambda place: (-round(score[place], 9), pairs[place]))[:first]
    links = []
    for place in order:
        common = np.intersect1d(_neighbours(joined, one[place]), _neighbours(joined, other[place]))
        common = common[weight[common] > 0]
        best = sorted(common, key=lambda node: (degree[node], each.accounts[node]))[:EVIDENCE]
        named = tuple(each.accounts[node].replace(THING, " ") for node in best)
        links.append(Link(*pairs[place], float(score[place]), named))
    return links


def _pair(one: str, other: str) -> tuple[str, str]:
    return (one, other) if one < other else (other, one)


def _neighbours(joined: csr_array, node: int) -> Any:  # noqa: ANN401 - scipy has no types
    return joined.indices[joined.indptr[node] : joined.indptr[node + 1]]


def later(tables: HistoryTables, view: View, at: datetime, days: float) -> set[tuple[str, str]]:
    """Return the pairs that an edge of the view joins in the days after a time."""
    edges = tables.edges(view._replace(days=days, hub=None, least=1), at + timedelta(days=days))
    return {_pair(*ends) for ends in zip(edges["source"].to_pylist(), edges["target"].to_pylist(), strict=True)}


def seen(links: list[Link], pairs: set[tuple[str, str]]) -> list[Link]:
    """Return links with whether an edge followed."""
    return [link._replace(seen_later=(link.one, link.other) in pairs) for link in links]


def precision(links: list[Link]) -> float:
    """Return the share of links that an edge followed; 0 without links."""
    return sum(bool(link.seen_later) for link in links) / max(len(links), 1)


def main(arguments: list[str] | None = None) -> int:
    """Print inferred links and their precision. Returns the exit status: 2 for a history that cannot be read."""
    parser = argparse.ArgumentParser(
        prog="python -m models.graph.links", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("history", type=Path, metavar="HISTORY_DIR")
    parser.add_argument("--view", choices=sorted(VIEWS), required=True)
    parser.add_argument("--as-of", type=instant, required=True, metavar="DATE")
    parser.add_argument("--first", type=int, default=100)
    parser.add_argument("--shared", action="store_true", help="let shared devices and instruments count")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    view = VIEWS[options.view]
    wide = view._replace(kinds=(*view.kinds, "device", "instrument")) if options.shared else view
    days = view.days or 30
    try:
        with HistoryTables(options.history) as tables:
            links = inferred(tables, wide, options.as_of, options.first)
            links = seen(links, later(tables, view, options.as_of, days))
    except HistoryError as error:
        print(error, file=sys.stderr)
        return 2
    if options.json:
        rows = [link._asdict() for link in links]
        print(json.dumps({"view": options.view, "precision": precision(links), "links": rows}, indent=1))
        return 0
    for link in links[:10]:
        print(f"{link.score:6.2f}  {link.one}  {link.other}  {', '.join(link.evidence)}")
    hits = sum(bool(link.seen_later) for link in links)
    print(f"{hits} of the first {len(links)} are joined by an edge within {days:g} days: {precision(links):.1%}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
