"""The SQL names every component as numpy does; both take their names from one table."""

import itertools
import random

import networkx as nx
import pyarrow as pa
import pyarrow.parquet

from models.graph import shapes, sql
from models.graph.engines import DuckDb
from models.graph.predicates import GIANT
from tests.support.graphs import Edge, atlas, edges_of, jumbled

COLUMNS = ("account", "component", "size", "edges", "shape", "typology", "triangle")
OUT = "SELECT account, component, size, edges, shape, typology, triangle FROM out"


def by_sql(table: pa.Table, tmp_path) -> dict[str, tuple[object, ...]]:
    pyarrow.parquet.write_table(table, tmp_path / "edges")
    with DuckDb(threads=1) as engine:
        engine.read(tmp_path / "edges")
        sql.run(engine)
        return {account: (*some, bool(triangle)) for account, *some, triangle in engine.rows(OUT)}


def assert_equal(edges: list[Edge], tmp_path) -> None:
    table = edges_of(edges)
    graph = shapes.graph(table)
    found = shapes.table(graph, shapes.find(graph, directed=True)).to_pylist()
    made = by_sql(table, tmp_path)
    assert len(made) == len(found)
    assert {row["account"]: tuple(row[name] for name in COLUMNS[2:]) for row in found} == {
        account: rest[1:] for account, rest in made.items()
    }
    same = {(row["component"], made[row["account"]][0]) for row in found}
    assert len(same) == len({one for one, _ in same}) == len({other for _, other in same})


def test_sql_names_every_component_of_up_to_seven_accounts_as_numpy_does(tmp_path):
    edges, _ = jumbled(atlas(), random.Random(7))
    assert_equal(edges, tmp_path)


def test_sql_names_digraphs_and_large_components_as_numpy_does(tmp_path):
    rng, names = random.Random(8), itertools.count()
    edges: list[Edge] = []
    for _ in range(150):
        n = rng.randint(2, 30)
        graph = nx.gnm_random_graph(n, rng.randint(n - 1, n + 4), seed=rng.randrange(10**6), directed=True)
        ids = {vertex: f"{next(names):06}" for vertex in graph}
        edges += [(ids[one], ids[other]) for one, other in graph.edges]
    for digraph in ([(1, 2), (1, 3), (2, 4), (3, 4)], [(1, 3), (2, 3), (3, 4), (3, 5)], [(1, 2), (2, 3), (3, 1)]):
        edges += [(f"t{len(edges)}-{one}", f"t{len(edges)}-{other}") for one, other in digraph]
    for length in (GIANT, GIANT + 1):
        ring = [f"g{length}-{place * 7919 % length}" for place in range(length)]
        edges += itertools.pairwise([*ring, ring[0]])
    rng.shuffle(edges)
    assert_equal(edges, tmp_path)


def test_components_take_few_rounds_however_long_they_are(tmp_path):
    path = [(f"{place:05}", f"{place + 1:05}") for place in range(5_000)]
    pyarrow.parquet.write_table(edges_of(path), tmp_path / "edges")
    with DuckDb(threads=1) as engine:
        engine.read(tmp_path / "edges")
        assert sql.run(engine) <= 14
        assert engine.value("SELECT count(DISTINCT component) FROM out") == 1


def test_an_id_may_be_a_whole_number(tmp_path):
    table = pa.table({"source": pa.array([3, 9], pa.int64()), "target": pa.array([9, 2**62], pa.int64())})
    assert {row[3] for row in by_sql(table, tmp_path).values()} == {"path"}
