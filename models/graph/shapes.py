"""Connected components of a graph of accounts, all at once, and the shape of each.

`python -m models.graph.shapes EDGES.parquet OUT.parquet [--directed]`. EDGES has `source` and `target`, a row a
payment, invitation or other edge; further columns are not read. OUT has a row for each account: account, component,
size, edges, shape, typology (null without --directed), triangle, density, surplus (edges beyond those of a tree), and
cyclic (null without --directed: payments lead back to where they started).

Everything but the search for triangles takes O(accounts + edges), beside one sort. Triangles are looked for in
components with a surplus that are not bipartite, each arc once: O(edges ** 1.5), by Chiba and Nishizeki (1985).
"""

import argparse
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from models.graph.predicates import FORK, SHAPES, TYPOLOGIES, Arcs, Columns

Ints = NDArray[np.int64]
Ends = NDArray[np.int32]

AT_ONCE = 1 << 22
"""Pairs of neighbours that are looked at together in the search for triangles: they bound its memory."""


class Graph(NamedTuple):
    """Edges between numbered accounts.

    accounts        their ids, in the order in which the edges name them: account i has the number i
    source, target  numbers of the accounts of each edge, as given: with loops and repeats
    """

    accounts: pa.Array
    source: NDArray[np.int32]
    target: NDArray[np.int32]


class Found(NamedTuple):
    """The components of a graph.

    of         number of the component of each account. Components are numbered by their first account
    columns    one entry a component
    shape      of each component: place in SHAPES
    typology   of each component: place in TYPOLOGIES; None without directions
    cyclic     of each component; None without directions
    """

    of: NDArray[np.int32]
    columns: Columns
    shape: NDArray[np.int8]
    typology: NDArray[np.int8] | None
    cyclic: NDArray[np.bool_] | None


def read(path: Path) -> Graph:
    """Read edges. Raises ValueError for a file without source and target, or with an edge that lacks one."""
    file = pyarrow.parquet.ParquetFile(path)
    if missing := {"source", "target"} - set(file.schema_arrow.names):
        raise ValueError(f"{path}: no column {' and '.join(sorted(missing))}")
    table = file.read(columns=["source", "target"])
    ends = [table[name] for name in ("source", "target")]
    if ends[0].type != ends[1].type:
        raise ValueError(f"{path}: source is {ends[0].type} and target is {ends[1].type}")
    if sum(each.null_count for each in ends):
        raise ValueError(f"{path}: an edge without source or target")
    return graph(pa.chunked_array([chunk for each in ends for chunk in each.chunks], ends[0].type))


def graph(ends: pa.ChunkedArray) -> Graph:
    """Return the graph of edges: the sources of all of them, and then their targets."""
    coded = pc.dictionary_encode(ends).combine_chunks()
    coded = coded.chunk(0) if isinstance(coded, pa.ChunkedArray) else coded
    numbers = coded.indices.to_numpy()
    half = len(numbers) // 2
    return Graph(coded.dictionary, numbers[:half], numbers[half:])


def find(edges: Graph, *, directed: bool = False) -> Found:
    """Return the components of a graph with their shapes, and with their typologies."""
    number = len(edges.accounts)
    low, high = _distinct(np.minimum(edges.source, edges.target), np.maximum(edges.source, edges.target), number)
    of = _labels(low, high, number)
    columns = _columns(low, high, of)
    shape = _first(SHAPES, columns)
    if not directed:
        return Found(of, columns, shape, None, None)
    payer, payee = _distinct(edges.source, edges.target, number)
    strong = _labels(payer, payee, number, "strong")
    largest = np.zeros(len(columns.n), np.int64)
    np.maximum.at(largest, of, np.bincount(strong)[strong])
    return Found(of, columns, shape, _first(TYPOLOGIES, _arcs(payer, payee, of)), largest > 1)


def _first(table: dict[str, Any], columns: Columns | Arcs) -> NDArray[np.int8]:
    """Return the place of the first predicate of a table that holds, for each component."""
    places = np.full(len(columns.n), -1, np.int8)
    for place, holds in enumerate(table.values()):
        places[(places < 0) & holds(columns)] = place
    return places


def _distinct(one: Ends, other: Ends, number: int) -> tuple[Ends, Ends]:
    """Return pairs of accounts once each, in order, without those of an account with itself."""
    keys = one[one != other].astype(np.int64) * number + other[one != other]
    keys.sort()
    keys = keys[np.diff(keys, prepend=-1) != 0]
    high = keys % max(number, 1)
    return (keys // max(number, 1)).astype(np.int32), high.astype(np.int32)


def _labels(one: Ends, other: Ends, number: int, connection: str = "weak") -> NDArray[np.int32]:
    """Return the component of each account, numbered by its first account."""
    matrix = coo_array((np.ones(len(one), np.int8), (one, other)), shape=(number, number)).tocsr()
    components, labels = connected_components(matrix, connection=connection)
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
    degree = np.bincount(low, minlength=len(of)) + np.bincount(high, minlength=len(of))
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

    An account stands twice in the double cover, and an edge leads from either copy to the other copy of its end. The
    cover of a component is two components where its accounts have sides, and one where there is an odd cycle.
    """
    concerned = np.zeros(len(of), np.bool_)
    concerned[low] = concerned[high] = True
    (accounts,) = np.nonzero(concerned)
    half = len(accounts)
    number = np.cumsum(concerned, dtype=np.int32) - 1
    one, other = number[low], number[high]
    labels = _labels(np.concatenate([one, one + half]), np.concatenate([other + half, other]), 2 * half)
    first, second = labels[:half], labels[half:]
    component = of[accounts]
    bipartite = trees.copy()
    bipartite[component] = first != second
    least = np.full(len(trees), 2 * half, np.int64)
    np.minimum.at(least, component, np.minimum(first, second))
    side = (first == least[component]) & bipartite[component]
    return np.bincount(component[side], minlength=len(trees)), bipartite


def _triangles(low: Ends, high: Ends, degree: Ints, of: NDArray[np.int32], components: int) -> NDArray[np.int8]:
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
    of, columns = found.of, found.columns

    def named(names: dict[str, Any], places: NDArray[np.int8] | None) -> pa.Array:
        if places is None:
            return pa.nulls(len(of), pa.string())
        return pa.DictionaryArray.from_arrays(pa.array(places[of]), pa.array(list(names))).cast(pa.string())

    pairs = columns.n * (columns.n - 1) / 2
    density = np.divide(columns.m, pairs, out=np.zeros(len(pairs)), where=pairs > 0)
    return pa.table({
        "account": edges.accounts,
        "component": of,
        "size": columns.n[of],
        "edges": columns.m[of],
        "shape": named(SHAPES, found.shape),
        "typology": named(TYPOLOGIES, found.typology),
        "triangle": columns.triangle[of].astype(bool),
        "density": density[of],
        "surplus": (columns.m - columns.n + 1)[of],
        "cyclic": pa.nulls(len(of), pa.bool_()) if found.cyclic is None else pa.array(found.cyclic[of]),
    })  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Write the components of a file of edges. Returns the exit status: 2 for a file that cannot be read."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("edges", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--directed", action="store_true", help="name the typologies, too")
    options = parser.parse_args(arguments)
    try:
        edges = read(options.edges)
    except (OSError, ValueError) as error:
        print(f"{error}", file=sys.stderr)
        return 2
    found = find(edges, directed=options.directed)
    pyarrow.parquet.write_table(table(edges, found), options.out)
    counts = np.bincount(found.shape, minlength=len(SHAPES))
    shapes = ", ".join(f"{count:,} {name}" for name, count in zip(SHAPES, counts.tolist(), strict=True) if count)
    print(
        f"{options.out}: {len(edges.accounts):,} accounts in {len(found.columns.n):,} components ({shapes or 'none'})"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
