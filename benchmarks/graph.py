"""Shapes of components: from a Parquet file of edges to the shape of every account, against networkx and a plain loop.

The graph is planted: copies of small graphs whose shape is known, with shuffled ids of 16 characters, rows in random
order, one in ten twice, half of them turned round, and loops. `wrong` are accounts whose shape is not the planted one.

    cpu_s       CPU seconds of the process, of all its threads, from the file to the table of accounts
    peak_mib    most memory of the process, its libraries included
    growth      CPU seconds for each edge, as a multiple of those of the smallest graph

`python -m benchmarks.graph [--sizes 1e5 1e6 1e7] [--rivals 1e5]`
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time

import networkx as nx  # type: ignore[import-untyped]
import numpy as np
import pyarrow as pa
import pyarrow.parquet
from numpy.typing import NDArray

from benchmarks import table
from models.graph import shapes

SIZES = (10**5, 10**6, 10**7)
RIVALS = 10**5
CPU_S = {10**6: 4.0, 10**7: 20.0}
PEAK_MIB = {10**6: 512.0, 10**7: 1024.0}

PLANTED: dict[str, nx.Graph] = {
    "pair": nx.path_graph(2),
    "path": nx.path_graph(5),
    "star": nx.star_graph(6),
    "cycle": nx.cycle_graph(5),
    "complete": nx.complete_graph(4),
    "complete_bipartite": nx.complete_bipartite_graph(2, 3),
    "near_star": nx.Graph([*((0, leaf) for leaf in range(1, 9)), (1, 2)]),
    "forked_chain": nx.Graph([(0, 1), (1, 2), (2, 3), (3, 4), (2, 5), (5, 6)]),
    "tree": nx.balanced_tree(2, 3),
    "bipartite": nx.grid_2d_graph(3, 3),
    "clustered": nx.lollipop_graph(4, 3),
    "unclustered": nx.Graph([*nx.cycle_graph(5).edges, (0, 5), (5, 6), (6, 7)]),
}
"""A graph of each shape but the singleton and the giant."""


def plant(edges: int, path: Path, seed: int = 1) -> dict[str, int]:
    """Write a file of about so many edges. Return the number of accounts of each shape."""
    rng = np.random.default_rng(seed)
    graphs = [nx.convert_node_labels_to_integers(graph) for graph in PLANTED.values()]
    copies = edges // sum(graph.number_of_edges() for graph in graphs)
    first, ends, counts = 0, [], {}
    for name, graph in zip(PLANTED, graphs, strict=True):
        pairs = np.array(graph.edges)
        starts = first + len(graph) * np.arange(copies)
        ends.append((starts[:, None, None] + pairs[None]).reshape(-1, 2))
        counts[name] = len(graph) * copies
        first += len(graph) * copies
    known = np.concatenate(ends)
    repeats = known[rng.integers(0, len(known), len(known) // 10)]
    loops = np.repeat(rng.integers(0, first, len(known) // 100), 2).reshape(-1, 2)
    rows = np.concatenate([known, repeats, loops])
    rng.shuffle(rows)
    turned = rng.random(len(rows)) < 0.5  # noqa: PLR2004 - half of them
    rows[turned] = rows[turned][:, ::-1]
    ids = _hexadecimal(rng.permutation(first))
    columns = {name: ids.take(pa.array(rows[:, side])) for side, name in enumerate(("source", "target"))}
    pyarrow.parquet.write_table(pa.table(columns), path)
    shape = np.repeat(list(PLANTED), list(counts.values()))
    pyarrow.parquet.write_table(
        pa.table({"account": ids, "shape": shape}).sort_by("account"), path.with_suffix(".known")
    )
    return counts


def _hexadecimal(numbers: NDArray[np.int64]) -> pa.Array:
    """Return each number as 16 hexadecimal digits."""
    digits = (numbers[:, None] >> np.arange(60, -4, -4)).astype(np.uint8) & 15
    letters = np.frombuffer(b"0123456789abcdef", np.uint8)[digits]
    offsets = np.arange(0, letters.size + 1, 16, dtype=np.int64)
    return pa.LargeStringArray.from_buffers(len(numbers), pa.py_buffer(offsets), pa.py_buffer(letters))


def ours(path: Path) -> dict[str, str] | Path:
    """Write the accounts and their shapes."""
    edges, out = shapes.read(path), path.with_suffix(".out")
    shapes.write(edges, shapes.find(edges), out)
    return out


def _counted(graph: nx.Graph) -> str:  # noqa: PLR0911 - as the table has it
    """Return the shape of one component, by counting: what a loop would do."""
    n, m = len(graph), graph.number_of_edges()
    degrees = [degree for _, degree in graph.degree]
    most = max(degrees)
    if n == 2:  # noqa: PLR2004
        return "pair"
    if m == n - 1:
        named = {2: "path", n - 1: "star"}
        if most in named:
            return named[most]
    if m == n and most == 2:  # noqa: PLR2004
        return "cycle"
    if 2 * m == n * (n - 1):
        return "complete"
    sides = nx.is_bipartite(graph)
    if sides and m == (one := sum(nx.algorithms.bipartite.color(graph).values())) * (n - one):
        return "complete_bipartite"
    if most >= 4 and 1 <= n - 1 + m - 2 * most <= max(2, (n - 1) // 5):  # noqa: PLR2004
        return "near_star"
    if m == n - 1:
        return "forked_chain" if most == 3 and sum(degree == 3 for degree in degrees) == 1 else "tree"  # noqa: PLR2004
    if sides:
        return "bipartite"
    return "clustered" if any(nx.triangles(graph).values()) else "unclustered"


def by_networkx(path: Path) -> dict[str, str]:
    """Return the shape of each account, with networkx's graph and a view of each component."""
    edges = pyarrow.parquet.read_table(path)
    graph = nx.Graph()
    graph.add_edges_from(zip(edges["source"].to_pylist(), edges["target"].to_pylist(), strict=True))
    graph.remove_edges_from(list(nx.selfloop_edges(graph)))
    parts = list(nx.connected_components(graph))
    return {account: name for part in parts for name in [_counted(graph.subgraph(part))] for account in part}


def by_loop(path: Path) -> dict[str, str]:
    """Return the shape of each account: components from scipy, and then each in a graph of its own."""
    edges = shapes.read(path)
    of = shapes.find(edges).of  # the labels alone would do
    accounts = edges.accounts().to_pylist()
    parts: dict[int, nx.Graph] = {}
    for one, other in zip(edges.source.tolist(), edges.target.tolist(), strict=True):
        if one != other:
            parts.setdefault(int(of[one]), nx.Graph()).add_edge(one, other)
    return {accounts[each]: name for part in parts.values() for name in [_counted(part)] for each in part}


WAYS: dict[str, Callable[[Path], dict[str, str] | Path]] = {
    "ours": ours,
    "networkx": by_networkx,
    "loop": by_loop,
}


def measured(way: str, path: Path) -> tuple[float, float, int]:
    """Return CPU seconds, MiB, and the accounts whose shape is not the planted one."""
    start = process_time()
    found = WAYS[way](path)
    cpu = process_time() - start
    peak = int(Path("/proc/self/status").read_text(encoding="ascii").partition("VmHWM:")[2].split()[0]) / 1024
    known = pyarrow.parquet.read_table(path.with_suffix(".known"))
    if isinstance(found, dict):
        return cpu, peak, sum(found[each["account"]] != each["shape"] for each in known.to_pylist())
    wrong = 0
    shape = dict(zip(*(known[name].to_pylist() for name in ("account", "shape")), strict=True))
    for batch in pyarrow.parquet.ParquetFile(found).iter_batches(columns=["account", "shape"]):
        wrong += sum(
            shape.pop(one) != other for one, other in zip(*map(pa.Array.to_pylist, batch.columns), strict=True)
        )
    return cpu, peak, wrong + len(shape)


def rows(sizes: Sequence[int] = SIZES, rivals: int = RIVALS) -> list[table.Row]:
    """Return the figures of each size, those of the rivals, and the targets."""
    found: list[table.Row] = []
    targets: list[table.Row] = []
    with TemporaryDirectory() as place:
        path = Path(place) / "edges.parquet"
        each_edge = None
        for size in sizes:
            accounts = sum(plant(size, path).values())
            for way in WAYS if size == rivals else ("ours",):
                command = [sys.executable, "-m", "benchmarks.graph", "--only", way, str(path)]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                cpu, peak, wrong = json.loads(done.stdout)
                name = f"{way}, {size:.0e} edges"
                each_edge = each_edge or cpu / size
                found.append({
                    "name": name, "accounts": accounts, "cpu_s": cpu, "peak_mib": peak, "wrong": wrong,
                    "growth": cpu / size / each_edge,
                })  # fmt: skip
                targets.append(table.target(f"wrong: {name}", wrong, at_most=0))
                if way == "ours" and size in CPU_S:
                    targets += [
                        table.target(f"cpu_s: {name}", cpu, at_most=CPU_S[size]),
                        table.target(f"peak_mib: {name}", peak, at_most=PEAK_MIB[size]),
                    ]
    return [*found, *targets]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, add_help=False)
    parser.add_argument("--sizes", type=float, nargs="*", default=SIZES)
    parser.add_argument("--rivals", type=float, default=RIVALS)
    parser.add_argument("--only", nargs=2, help=argparse.SUPPRESS)
    options, others = parser.parse_known_args()
    if options.only:
        print(json.dumps(measured(options.only[0], Path(options.only[1]))))
    else:
        chosen = [int(size) for size in options.sizes]
        table.run(lambda: rows(chosen, int(options.rivals)), __doc__, others)
