"""Connected components of a graph of accounts, all at once, and the shape of each.

`python -m models.graph.shapes EDGES.parquet OUT.parquet [--directed]`. EDGES has `source` and `target`, a row a
payment, invitation or other edge; further columns are not read. OUT has a row for each account: account, component,
size, edges, shape, typology (null without --directed), triangle, density, surplus (edges beyond those of a tree),
cyclic (payments lead back to where they started), and depth (longest way down from the root of an arborescence or
chain); the last two are null without --directed.

Everything but the search for triangles takes O(accounts + edges), beside sorts. Triangles are looked for in
components with a surplus that are not bipartite, each arc once: O(edges ** 1.5), by Chiba and Nishizeki (1985).
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, connected_components

from models.graph import ids
from models.graph.predicates import FORK, SHAPES, TYPOLOGIES, Arcs, Columns

Ints = NDArray[np.int64]
Ends = NDArray[np.int32]

AT_ONCE = 1 << 22
"""Pairs of neighbours that are looked at together in the search for triangles: they bound its memory."""


class Graph(NamedTuple):
    """Edges between numbered accounts.

    edges           where the ids stand: a table or a file with source and target
    number          of accounts; they are numbered in the order in which the sources and then the targets name them
    source, target  numbers of the accounts of each edge, as given: with loops and repeats
    """

    edges: ids.Edges
    number: int
    source: Ends
    target: Ends

    def accounts(self) -> pa.ChunkedArray:
        """Return the ids of all accounts in the order of their numbers."""
        named = ids.named(self.edges, self.source, self.target)
        return pa.chunked_array(list(named), ids.kind_of(self.edges))


class Found(NamedTuple):
    """The components of a graph.

    of         number of the component of each account. Components are numbered by their first account
    columns    one entry a component
    shape      of each component: place in SHAPES
    typology   of each component: place in TYPOLOGIES; None without directions
    cyclic     of each component; None without directions
    depth      of each component, -1 where it is no tree of one root; None without directions
    """

    of: NDArray[np.int32]
    columns: Columns
    shape: NDArray[np.int8]
    typology: NDArray[np.int8] | None
    cyclic: NDArray[np.bool_] | None
    depth: NDArray[np.int32] | None


def read(path: Path) -> Graph:
    """Read edges. Raises ValueError for a file without source and target, or with an edge that lacks one."""
    return graph(ids.file_of(path))


def graph(edges: ids.Edges) -> Graph:
    """Return the graph of edges."""
    number, numbers = ids.numbered(edges)
    half = len(numbers) // 2
    return Graph(edges, number, numbers[:half], numbers[half:])


def find(edges: Graph, *, directed: bool = False) -> Found:
    """Return the components of a graph with their shapes, and with their typologies."""
    number = edges.number
    low, high = _distinct(np.minimum(edges.source, edges.target), np.maximum(edges.source, edges.target), number)
    of = _labels(low, high, number)
    columns = _columns(low, high, of)
    shape = _first(SHAPES, columns)
    if not directed:
        return Found(of, columns, shape, None, None, None)
    del low, high
    payer, payee = _distinct(edges.source, edges.target, number)
    strong = _labels(payer, payee, number, "strong")
    cyclic = np.zeros(len(columns.n), np.bool_)
    cyclic[of[np.bincount(strong)[strong] > 1]] = True
    arcs = _arcs(payer, payee, of)
    trees = (arcs.arcs == arcs.n - 1) & (arcs.most_in <= 1)
    return Found(of, columns, shape, _first(TYPOLOGIES, arcs), cyclic, _depth(payer, payee, of, trees))


def _depth(payer: Ends, payee: Ends, of: NDArray[np.int32], trees: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Return the longest way from the root of each component that is a tree of arcs, and -1 for all others.

    Every account points to its payer, and then to that of double the distance: O(accounts * log(depth)).
    """
    inside = trees[of[payer]]
    above = np.arange(len(of), dtype=np.int32)
    above[payee[inside]] = payer[inside]
    steps = (above != np.arange(len(of))).astype(np.int32)
    while (more := steps[above]).any():
        steps += more
        above = above[above]
    depth = np.where(trees, 0, -1).astype(np.int32)
    np.maximum.at(depth, of[steps > 0], steps[steps > 0])
    return depth


def _first(table: dict[str, Any], columns: Columns | Arcs) -> NDArray[np.int8]:
    """Return the place of the first predicate of a table that holds, for each component."""
    places = np.full(len(columns.n), -1, np.int8)
    for place, holds in enumerate(table.values()):
        places[(places < 0) & holds(columns)] = place
    return places


def _distinct(one: Ends, other: Ends, number: int) -> tuple[Ends, Ends]:
    """Return pairs of accounts once each, in order, without those of an account with itself."""
    keep = one != other
    keys = one[keep].astype(np.int64)
    keys *= number
    keys += other[keep]
    del keep, one, other
    keys.sort()
    new = np.ones(len(keys), np.bool_)
    np.not_equal(keys[1:], keys[:-1], out=new[1:])
    keys = keys[new]
    low = (keys // max(number, 1)).astype(np.int32)
    keys -= low.astype(np.int64) * number
    return low, keys.astype(np.int32)


def _matrix(one: Ends, other: Ends, number: int) -> csr_array:
    """Return pairs of accounts, sorted by their first, as scipy's graph routines take them without a copy."""
    starts = np.zeros(number + 1, np.int32)
    np.cumsum(np.bincount(one, minlength=number), out=starts[1:])
    return csr_array((np.ones(len(other)), other, starts), shape=(number, number))


def _labels(one: Ends, other: Ends, number: int, connection: str = "weak") -> NDArray[np.int32]:
    """Return the component of each account, numbered by its first account. The pairs are sorted by their first."""
    components, labels = connected_components(_matrix(one, other, number), connection=connection)
    first = np.empty(components, np.int32)
    first[labels[::-1]] = np.arange(number - 1, -1, -1, dtype=np.int32)  # the last that is written is the first account
    place = np.empty(components, np.int32)
    place[np.argsort(first)] = np.arange(components, dtype=np.int32)
    numbers: NDArray[np.int32] = place[labels]
    return numbers


def _columns(low: Ends, high: Ends, of: NDArray[np.int32]) -> Columns:
    n = np.bincount(of)
    components = len(n)
    m = np.bincount(of[low], minlength=components)
    degree = np.bincount(low, minlength=len(of)).astype(np.int32)
    degree += np.bincount(high, minlength=len(of)).astype(np.int32)
    largest = np.zeros(components, np.int64)
    np.maximum.at(largest, of, degree)
    forks = np.bincount(of[degree >= FORK], minlength=components)
    surplus = m[of[low]] >= n[of[low]]
    one, bipartite = _sides(low[surplus], high[surplus], of, m < n)
    odd = ~bipartite[of[low]]
    triangle = _triangles(low[odd], high[odd], degree, of, components)
    return Columns(n, m, largest, forks, bipartite.astype(np.int8), one, np.where(one > 0, n - one, 0), triangle)


def _sides(low: Ends, high: Ends, of: NDArray[np.int32], trees: NDArray[np.bool_]) -> tuple[Ints, NDArray[np.bool_]]:
    """Return the accounts on one side of each component with a surplus that is bipartite, and which components are.

    A search in breadth, from one root before the first account of each component, gives every account the side of its
    distance. An edge between two accounts of one side closes an odd cycle.
    """
    concerned = np.zeros(len(of), np.bool_)
    concerned[low] = concerned[high] = True
    component = of[concerned]
    root = len(component)
    number = np.cumsum(concerned, dtype=np.int32)
    number -= 1
    _, first = np.unique(component, return_index=True)
    one = np.append(number[low], np.full(len(first), root, np.int32))
    other = np.append(number[high], first.astype(np.int32))
    del concerned, number
    _, above = breadth_first_order(_matrix(one, other, root + 1), root, directed=False)
    one, other = one[: len(low)], other[: len(low)]
    side = np.ones(root + 1, np.bool_)
    side[root], above[root] = False, root
    while (above != root).any():
        side ^= side[above]
        above = above[above]
    bipartite = trees.copy()
    bipartite[component] = True
    bipartite[of[low[side[one] == side[other]]]] = False
    chosen = side[:root] & bipartite[component]
    return np.bincount(component[chosen], minlength=len(trees)), bipartite


def _triangles(low: Ends, high: Ends, degree: Ends, of: NDArray[np.int32], components: int) -> NDArray[np.int8]:
    """Return 1 for each component with a triangle among these edges.

    Every edge leads to the end of larger degree. Then no account has more than sqrt(2 m) arcs, and each triangle is a
    pair of arcs of one account whose ends are joined.
    """
    swap = (degree[low] > degree[high]) | ((degree[low] == degree[high]) & (low > high))
    tail, head = np.where(swap, high, low), np.where(swap, low, high)
    order = np.lexsort((head, tail))
    tail, head = tail[order], head[order]
    number = len(of)
    arcs = tail.astype(np.int64) * number + head
    ends = np.searchsorted(tail, tail, side="right")
    after = ends - np.arange(len(tail)) - 1  # arcs of the same account that follow
    found = np.zeros(components, np.int8)
    start, reach = 0, np.cumsum(after)
    while start < len(tail):
        done = reach[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(reach, done + AT_ONCE, side="right")))
        wanted = np.arange(start, stop)[found[of[tail[start:stop]]] == 0]
        first = np.repeat(wanted, after[wanted])
        step = np.arange(len(first)) - np.repeat(np.cumsum(after[wanted]) - after[wanted], after[wanted])
        x, y = head[first].astype(np.int64), head[first + step + 1].astype(np.int64)
        for key in (x * number + y, y * number + x):
            place = np.minimum(np.searchsorted(arcs, key), len(arcs) - 1)
            found[of[tail[first[arcs[place] == key]]]] = 1
        start = stop
    return found


def _arcs(payer: Ends, payee: Ends, of: NDArray[np.int32]) -> Arcs:
    n = np.bincount(of)
    components = len(n)
    out, into = np.bincount(payer, minlength=len(of)), np.bincount(payee, minlength=len(of))
    most_in, most_out = np.zeros(components, np.int64), np.zeros(components, np.int64)
    np.maximum.at(most_in, of, into)
    np.maximum.at(most_out, of, out)

    def number(chosen: NDArray[np.bool_]) -> Ints:
        return np.bincount(of[chosen], minlength=components)

    direct = np.bincount(of[payer[(into[payer] == 0) & (out[payee] == 0)]], minlength=components)
    arcs = np.bincount(of[payer], minlength=components)
    middles = number((into == 1) & (out == 1))
    return Arcs(n, arcs, most_in, most_out, number(into == 0), number(out == 0), middles, direct)


def table(edges: Graph, found: Found) -> pa.Table:
    """Return the columns of OUT: a row for each account, in the order in which the edges name them."""
    return pa.Table.from_batches(batches(edges, found)) if edges.number else _rows(pa.array([]), found, slice(0, 0))


def batches(edges: Graph, found: Found) -> Iterator[pa.RecordBatch]:
    """Yield the rows of OUT."""
    done = 0
    for accounts in ids.named(edges.edges, edges.source, edges.target):
        yield from _rows(accounts, found, slice(done, done + len(accounts))).to_batches()
        done += len(accounts)


def _rows(accounts: pa.Array, found: Found, place: slice) -> pa.Table:
    """Return the rows of some accounts that follow one another."""
    of, columns = found.of[place], found.columns

    def named(names: dict[str, Any], places: NDArray[np.int8] | None) -> pa.Array:
        if places is None:
            return pa.nulls(len(of), pa.string())
        return pa.DictionaryArray.from_arrays(pa.array(places[of]), pa.array(list(names))).cast(pa.string())

    n, m = columns.n[of], columns.m[of]
    pairs = n * (n - 1) / 2
    depth = None if found.depth is None else found.depth[of]
    return pa.table({
        "account": accounts,
        "component": of,
        "size": n,
        "edges": m,
        "shape": named(SHAPES, found.shape),
        "typology": named(TYPOLOGIES, found.typology),
        "triangle": columns.triangle[of].astype(bool),
        "density": np.divide(m, pairs, out=np.zeros(len(pairs)), where=pairs > 0),
        "surplus": m - n + 1,
        "cyclic": pa.nulls(len(of), pa.bool_()) if found.cyclic is None else pa.array(found.cyclic[of]),
        "depth": pa.nulls(len(of), pa.int32()) if depth is None else pa.array(depth, mask=depth < 0),
    })  # fmt: skip


def write(edges: Graph, found: Found, path: Path) -> None:
    """Write OUT, some rows at a time."""
    with pyarrow.parquet.ParquetWriter(path, _rows(edges.accounts()[:0], found, slice(0, 0)).schema) as out:
        for batch in batches(edges, found):
            out.write_batch(batch)


def main(arguments: list[str] | None = None) -> int:
    """Write the components of a file of edges. Returns the exit status: 2 for a file that cannot be read or written."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("edges", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--directed", action="store_true", help="name the typologies, too")
    options = parser.parse_args(arguments)
    try:
        if options.out.exists() and options.out.samefile(options.edges):
            raise ValueError(f"{options.out}: is the file of the edges")
        edges = read(options.edges)
        found = find(edges, directed=options.directed)
        write(edges, found, options.out)
    except (OSError, ValueError) as error:
        print(f"{error}", file=sys.stderr)
        return 2
    counts = np.bincount(found.shape, minlength=len(SHAPES))
    shapes = ", ".join(f"{count:,} {name}" for name, count in zip(SHAPES, counts.tolist(), strict=True) if count)
    print(f"{options.out}: {edges.number:,} accounts in {len(found.columns.n):,} components ({shapes or 'none'})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
