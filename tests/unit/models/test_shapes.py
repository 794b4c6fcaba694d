import itertools
import random
from collections import Counter
from collections.abc import Iterable

import networkx as nx
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.graph import ids, shapes
from models.graph.predicates import GIANT, SHAPES, TYPOLOGIES
from tests.support.graphs import Edge, atlas, edges_of, is_like, jumbled


def rows(edges: Iterable[Edge], *, directed: bool = True) -> dict[str, dict[str, object]]:
    """Return the row of OUT of each account."""
    pairs = list(edges)
    graph = shapes.graph(edges_of(pairs))
    table = shapes.table(graph, shapes.find(graph, directed=directed))
    return {row["account"]: row for row in table.to_pylist()}


@pytest.fixture(scope="module", name="atlas")
def every_small_graph() -> list[nx.Graph]:
    return atlas()


def test_every_component_of_up_to_seven_accounts_has_the_shape_that_isomorphism_says(atlas):
    edges, expected = jumbled(atlas, random.Random(1))
    found = rows(edges)
    assert {account: row["shape"] for account, row in found.items()} == expected
    assert len({row["component"] for row in found.values()}) == len(atlas)
    assert set(expected.values()) == SHAPES.keys() - {"giant"}


def test_random_components_of_up_to_fourteen_accounts_have_the_shape_that_isomorphism_says():
    rng = random.Random(2)
    graphs = []
    while len(graphs) < 300:
        n = rng.randint(8, 14)
        graph = nx.gnm_random_graph(n, rng.randint(n - 1, 2 * n), seed=rng.randrange(10**6))
        if nx.is_connected(graph):
            graphs.append(graph)
    edges, expected = jumbled(graphs, rng)
    assert {account: row["shape"] for account, row in rows(edges).items()} == expected


def test_attributes_are_those_that_networkx_counts(atlas):
    names = itertools.count()
    graphs = [nx.relabel_nodes(graph, {vertex: f"{next(names):05}" for vertex in graph}) for graph in atlas]
    found = rows(edge for graph in graphs for edge in [*graph.edges, *((each, each) for each in graph)])
    for graph in graphs:
        row = found[next(iter(graph))]
        assert (row["size"], row["edges"]) == (len(graph), graph.number_of_edges())
        assert row["triangle"] is (sum(nx.triangles(graph).values()) > 0)
        assert row["density"] == pytest.approx(nx.density(graph))
        assert row["surplus"] == graph.number_of_edges() - len(graph) + 1


# ---- typologies ------------------------------------------------------------------------------------------------------

DIGRAPHS = {
    "chain": [(1, 2), (2, 3), (3, 4)],
    "fan_in": [(2, 1), (3, 1), (4, 1)],
    "fan_out": [(1, 2), (1, 3), (1, 4)],
    "directed_cycle": [(1, 2), (2, 3), (3, 1)],
    "scatter_gather": [(1, 2), (1, 3), (1, 4), (2, 5), (3, 5), (4, 5)],
    "gather_scatter": [(1, 3), (2, 3), (3, 4), (3, 5), (3, 6)],
    "arborescence": [(1, 2), (1, 3), (2, 4), (2, 5), (5, 6)],
    "none": [(1, 2), (3, 2), (3, 4)],
}


def typology_of(graph: nx.DiGraph) -> str:
    """Return the typology of a digraph by isomorphism and by networkx's own words."""
    n = len(graph)
    if n < 3:
        return "none"
    star, chain = nx.DiGraph((0, leaf) for leaf in range(1, n)), nx.path_graph(n, nx.DiGraph)
    known = {
        "chain": [chain],
        "fan_in": [star.reverse()],
        "fan_out": [star],
        "directed_cycle": [nx.cycle_graph(n, nx.DiGraph)],
        "scatter_gather": [
            nx.DiGraph([*((0, middle) for middle in range(1, n - 1)), *((middle, n - 1) for middle in range(1, n - 1))])
        ]
        if n > 3
        else [],
        "gather_scatter": [
            nx.DiGraph([*((payer, 0) for payer in range(1, cut)), *((0, payee) for payee in range(cut, n))])
            for cut in range(3, n - 1)
        ],
    }
    for name, graphs in known.items():
        if any(is_like(graph, other) for other in graphs):
            return name
    return "arborescence" if nx.is_arborescence(graph) else "none"


@pytest.mark.parametrize("name", TYPOLOGIES)
def test_a_typology_has_its_name(name: str):
    arcs = [(str(one), str(other)) for one, other in DIGRAPHS[name]]
    assert {row["typology"] for row in rows([*arcs, *arcs, ("1", "1")]).values()} == {name}
    assert typology_of(nx.DiGraph(arcs)) == name


def test_every_digraph_of_up_to_four_accounts_has_the_typology_that_isomorphism_says():
    edges, expected, cyclic, names = [], {}, {}, itertools.count()
    for n in (2, 3, 4):
        pairs = list(itertools.permutations(range(n), 2))
        for chosen in itertools.product((False, True), repeat=len(pairs)):
            graph = nx.DiGraph(itertools.compress(pairs, chosen))
            if len(graph) == n and nx.is_weakly_connected(graph):
                graph = nx.relabel_nodes(graph, {vertex: f"{next(names):05}" for vertex in graph})
                edges += graph.edges
                expected |= dict.fromkeys(graph, typology_of(graph))
                cyclic |= dict.fromkeys(graph, not nx.is_directed_acyclic_graph(graph))
    found = rows(edges)
    assert {account: row["typology"] for account, row in found.items()} == expected
    assert {account: row["cyclic"] for account, row in found.items()} == cyclic


def test_random_trees_and_near_typologies_are_told_apart():
    rng = random.Random(3)
    edges, expected, names = [], {}, itertools.count()
    for _ in range(600):
        base = nx.DiGraph(DIGRAPHS[rng.choice(list(DIGRAPHS))])
        for _ in range(rng.randint(0, 3)):
            one, other = rng.sample([*base, max(base) + 1], 2)
            base.add_edge(one, other)
        if nx.is_weakly_connected(base):
            graph = nx.relabel_nodes(base, {vertex: f"{next(names):05}" for vertex in base})
            edges += graph.edges
            expected |= dict.fromkeys(graph, typology_of(graph))
    assert {account: row["typology"] for account, row in rows(edges).items()} == expected


# ---- what must make no difference ------------------------------------------------------------------------------------

EDGES = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), min_size=1, max_size=30)


@settings(max_examples=150, deadline=None)
@given(EDGES, st.randoms(use_true_random=False))
def test_order_repeats_directions_and_names_make_no_difference_to_a_shape(edges, rng):
    names = [f"{number:02}" for number in range(13)]
    straight = rows(((names[one], names[other]) for one, other in edges), directed=False)
    others = names[:]
    rng.shuffle(others)
    turned = [pair[::-1] if rng.random() < 0.5 else pair for pair in [*edges, rng.choice(edges)]]
    rng.shuffle(turned)
    again = rows(((others[one], others[other]) for one, other in turned), directed=False)
    for number in {end for edge in edges for end in edge}:
        one, other = straight[names[number]], again[others[number]]
        assert {key: one[key] for key in one if key not in {"account", "component"}} == {
            key: other[key] for key in other if key not in {"account", "component"}
        }
    together = {(one, other): straight[names[one]]["component"] == straight[names[other]]["component"]
                for one, other in edges}  # fmt: skip
    assert all(together.values())


def test_a_component_above_the_bound_is_a_giant_and_one_at_the_bound_is_not():
    chain = [(f"{place:06}", f"{place + 1:06}") for place in range(GIANT)]
    assert Counter(row["shape"] for row in rows(chain).values()) == {"giant": GIANT + 1}
    assert Counter(row["shape"] for row in rows(chain[1:]).values()) == {"path": GIANT}


def test_a_triangle_is_found_wherever_the_search_is_cut(monkeypatch: pytest.MonkeyPatch):
    wheel = [("hub", f"{spoke:03}") for spoke in range(200)] + [("198", "199"), ("199", "tail"), ("tail", "198")]
    for at_once in (1, 7, 1 << 22):
        monkeypatch.setattr(shapes, "AT_ONCE", at_once)
        assert {row["triangle"] for row in rows(wheel).values()} == {True}


# ---- files -----------------------------------------------------------------------------------------------------------


def test_the_command_reads_whole_numbers_and_texts_and_says_what_it_found(tmp_path, capsys):
    for kind in (pa.int64(), pa.string(), pa.dictionary(pa.int32(), pa.string())):
        text = pa.array(["10", "2", "30"]), pa.array(["2", "30", "4"])
        columns = [each.cast(pa.int64()) if kind == pa.int64() else each.cast(kind) for each in text]
        pyarrow.parquet.write_table(pa.table(dict(zip(("source", "target"), columns, strict=True))), tmp_path / "e")
        assert shapes.main([str(tmp_path / "e"), str(tmp_path / "out"), "--directed"]) == 0
        out = pyarrow.parquet.read_table(tmp_path / "out")
        assert set(out["shape"].to_pylist()) == {"path"}
        assert set(out["typology"].to_pylist()) == {"chain"}
        assert "4 accounts in 1 components (1 path)" in capsys.readouterr().out


def test_no_edges_are_no_components(tmp_path, capsys):
    empty = pa.table({"source": pa.array([], pa.string()), "target": pa.array([], pa.string())})
    pyarrow.parquet.write_table(empty, tmp_path / "e")
    assert shapes.main([str(tmp_path / "e"), str(tmp_path / "out"), "--directed"]) == 0
    assert pyarrow.parquet.read_table(tmp_path / "out").num_rows == 0
    assert "0 accounts in 0 components (none)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"source": ["a"]}, "no column target"),
        ({"source": ["a"], "target": [1]}, "source is string and target is int64"),
        ({"source": ["a", None], "target": ["b", "c"]}, "an edge without source or target"),
        ({"source": [1.5], "target": [2.0]}, "ids are whole numbers or texts"),
        ({"source": [["a"]], "target": [["b"]]}, "ids are whole numbers or texts"),
        ({"source": pa.nulls(1), "target": pa.nulls(1)}, "an edge without source or target"),
    ],
)
def test_a_file_that_holds_no_edges_is_refused(tmp_path, capsys, columns, says):
    pyarrow.parquet.write_table(pa.table(columns), tmp_path / "e")
    assert shapes.main([str(tmp_path / "e"), str(tmp_path / "out")]) == 2
    assert says in capsys.readouterr().err
    (tmp_path / "e").write_text("no parquet")
    assert shapes.main([str(tmp_path / "e"), str(tmp_path / "out")]) == 2
    assert shapes.main([str(tmp_path / "nothing"), str(tmp_path / "out")]) == 2


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.binary_view(), pa.uint64(), pa.int8()]
)
def test_ids_are_texts_or_whole_numbers_of_any_type(tmp_path, kind):
    ends = [[b"1", b"2"], [b"2", b"3"]] if "binary" in str(kind) else [["1", "2"], ["2", "3"]]
    given = pa.table({name: pa.array(each).cast(kind) for name, each in zip(ids.ENDS, ends, strict=True)})
    pyarrow.parquet.write_table(given, tmp_path / "e")
    assert shapes.main([str(tmp_path / "e"), str(tmp_path / "out")]) == 0
    assert pyarrow.parquet.read_table(tmp_path / "out")["shape"].to_pylist() == ["path"] * 3


def test_a_column_that_stands_twice_is_refused(tmp_path, capsys):
    twice = pa.Table.from_arrays([pa.array(["a"])] * 3, names=["source", "target", "source"])
    pyarrow.parquet.write_table(twice, tmp_path / "e")
    assert shapes.main([str(tmp_path / "e"), str(tmp_path / "out")]) == 2
    assert "several columns source" in capsys.readouterr().err


def test_the_file_of_the_edges_is_never_written_over(tmp_path, capsys):
    pyarrow.parquet.write_table(pa.table({"source": ["a"], "target": ["b"]}), tmp_path / "e")
    (tmp_path / "same").symlink_to(tmp_path / "e")
    before = (tmp_path / "e").read_bytes()
    for out in ("e", "same"):
        assert shapes.main([str(tmp_path / "e"), str(tmp_path / out)]) == 2
        assert "is the file of the edges" in capsys.readouterr().err
    assert (tmp_path / "e").read_bytes() == before


def test_a_place_that_cannot_be_written_is_refused(tmp_path, capsys):
    pyarrow.parquet.write_table(pa.table({"source": ["a"], "target": ["b"]}), tmp_path / "e")
    assert shapes.main([str(tmp_path / "e"), str(tmp_path / "nowhere" / "out")]) == 2
    assert "nowhere" in capsys.readouterr().err


def test_accounts_and_components_stand_in_the_order_in_which_the_edges_name_them():
    edges = [("d", "c"), ("b", "a")]
    assert {account: row["component"] for account, row in rows(edges).items()} == {"d": 0, "b": 1, "c": 0, "a": 1}
    assert np.array_equal(shapes.graph(edges_of([("z", "y")])).target, [1])


def test_ids_of_any_length_have_the_numbers_of_their_first_rows(monkeypatch: pytest.MonkeyPatch):
    rng = random.Random(5)
    names = ["", *("".join(rng.choices("ab\0é", k=rng.randint(1, 9))) for _ in range(400))]
    pairs = [(rng.choice(names), rng.choice(names)) for _ in range(2_000)]
    for at_once in (7, 1 << 17):
        monkeypatch.setattr(ids, "AT_ONCE", at_once)
        graph = shapes.graph(edges_of(pairs))
        wanted = list(dict.fromkeys([*(one for one, _ in pairs), *(other for _, other in pairs)]))
        accounts = graph.accounts().to_pylist()
        assert accounts == wanted
        assert [
            (accounts[one], accounts[other]) for one, other in zip(graph.source, graph.target, strict=True)
        ] == pairs


def test_two_ids_with_one_hash_are_refused_and_never_joined(monkeypatch: pytest.MonkeyPatch):
    mixed = ids.hashed
    monkeypatch.setattr(ids, "hashed", lambda values, seed: mixed(values, seed) * (seed == ids.CHECK))
    graph = shapes.graph(edges_of([("a", "b")]))
    with pytest.raises(ValueError, match="the same hash"):
        graph.accounts()


def test_depth_is_the_longest_way_from_the_root_of_a_tree_of_arcs():
    edges, expected, names, rng = [], {}, itertools.count(), random.Random(4)
    for _ in range(60):
        graph = nx.DiGraph([(rng.randrange(place), place) for place in range(1, rng.randint(2, 40))])
        graph = nx.relabel_nodes(graph, {vertex: f"{next(names):05}" for vertex in graph})
        expected |= dict.fromkeys(graph, nx.dag_longest_path_length(graph))
        edges += graph.edges
    edges += [("x", "z"), ("y", "z"), ("p", "q"), ("q", "p"), ("s", "s")]
    expected |= dict.fromkeys("xyzpq") | {"s": 0}
    assert {account: row["depth"] for account, row in rows(edges).items()} == expected
