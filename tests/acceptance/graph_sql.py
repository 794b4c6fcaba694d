"""The shapes by SQL against those by numpy, on small graphs and on many planted edges; both against isomorphism.

`python -m tests.acceptance.graph_sql [--engine duckdb|spark] [--edges 1e6] [--random 4000]`. The atlas is one disjoint
union of all graphs of up to seven accounts, with shuffled ids, repeats, reversed rows and loops; so is the union of
random connected graphs of 8 to 14 accounts. Exits with 1 when an account differs. Spark needs the extra of
`make spark` and a Java runtime.
"""

import argparse
import random
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import networkx as nx
import pyarrow.parquet

from benchmarks import graph as planted
from models.graph import shapes, sql
from models.graph.engines import DuckDb, Spark
from tests.support.graphs import atlas, edges_of, jumbled

ENGINES = {"duckdb": DuckDb, "spark": Spark}
COLUMNS = ("size", "edges", "shape", "typology", "triangle")
OUT = "SELECT account, component, size, edges, shape, typology, triangle FROM out"


def differences(engine: DuckDb | Spark, path: Path) -> tuple[int, int, int, float]:
    """Return the accounts, how many differ, the rounds of the components, and the seconds that the SQL took."""
    start = perf_counter()
    engine.read(path)
    rounds = sql.run(engine)
    seconds = perf_counter() - start
    graph = shapes.read(path)
    found = shapes.table(graph, shapes.find(graph, directed=True))
    wanted = {row["account"]: row for row in found.to_pylist()}
    together: dict[int, set[int]] = {}
    wrong = 0
    for account, component, *some, triangle in engine.rows(OUT):
        theirs = wanted.pop(account)
        wrong += [theirs[name] for name in COLUMNS] != [*some, bool(triangle)]
        together.setdefault(theirs["component"], set()).add(component)
    wrong += len(wanted) + sum(len(each) - 1 for each in together.values())  # a component is one in both
    return len(found), wrong, rounds, seconds


def random_graphs(number: int, rng: random.Random) -> list[nx.Graph]:
    """Return connected graphs of 8 to 14 accounts."""
    graphs: list[nx.Graph] = []
    while len(graphs) < number:
        n = rng.randint(8, 14)
        graph = nx.gnm_random_graph(n, rng.randint(n - 1, 2 * n), seed=rng.randrange(10**6))
        if nx.is_connected(graph):
            graphs.append(graph)
    return graphs


def main() -> int:
    """Compare both, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=sorted(ENGINES), default="duckdb")
    parser.add_argument("--edges", type=float, default=1e6)
    parser.add_argument("--random", type=int, default=4_000)
    options = parser.parse_args()
    wrong = 0
    with TemporaryDirectory() as place, ENGINES[options.engine]() as engine:
        path = Path(place) / "edges.parquet"
        rng = random.Random(1)
        for name, graphs in (("the atlas", atlas()), ("random graphs", random_graphs(options.random, rng))):
            edges, known = jumbled(graphs, rng)
            pyarrow.parquet.write_table(edges_of(edges), path)
            accounts, off, rounds, seconds = differences(engine, path)
            said = dict(engine.rows("SELECT account, shape FROM out"))
            unlike = sum(said[account] != shape for account, shape in known.items())
            wrong += off + unlike
            print(
                f"{options.engine}, {name}: {accounts:,} accounts, {off} differ, {unlike} from isomorphism,"
                f" {rounds} rounds, {seconds:.1f} s"
            )
        planted.plant(int(options.edges), path)
        accounts, off, rounds, seconds = differences(engine, path)
        wrong += off
        print(
            f"{options.engine}, {options.edges:,.0f} edges: {accounts:,} accounts, {off} differ, {rounds} rounds,"
            f" {seconds:.1f} s"
        )
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
