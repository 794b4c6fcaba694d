"""Graphs of accounts for tests, and an oracle that knows shapes by isomorphism and counts nothing."""

import itertools
import random
from collections.abc import Iterable, Iterator

import networkx as nx
import pyarrow as pa

Edge = tuple[str, str]


def edges_of(pairs: Iterable[Edge]) -> pa.Table:
    source, target = zip(*pairs, strict=True)
    return pa.table({"source": pa.array(source, pa.string()), "target": pa.array(target, pa.string())})


def is_like(graph: nx.Graph, other: nx.Graph) -> bool:
    return nx.faster_could_be_isomorphic(graph, other) and nx.is_isomorphic(graph, other)


def edits_from_a_star(graph: nx.Graph) -> int:
    """Return the least number of edges to add or take away that make a star of the graph."""
    edges = {frozenset(edge) for edge in graph.edges}
    return min(
        len(edges ^ {frozenset((centre, other)) for other in graph if other != centre}) for centre in graph
    )  # fmt: skip


def spiders(n: int) -> Iterator[nx.Graph]:
    """Yield the trees of n accounts in which three chains leave one account."""
    for legs in itertools.combinations_with_replacement(range(1, n), 3):
        if sum(legs) == n - 1:
            tree = nx.Graph()
            for number, length in enumerate(legs):
                nx.add_path(tree, ["centre", *((number, place) for place in range(length))])
            yield tree


def shape_of(graph: nx.Graph) -> str:
    n = len(graph)
    families = {
        "singleton": [nx.empty_graph(1)],
        "pair": [nx.path_graph(2)],
        "path": [nx.path_graph(n)],
        "star": [nx.star_graph(n - 1)],
        "cycle": [nx.cycle_graph(n)] if n >= 4 else [],
        "complete": [nx.complete_graph(n)],
        "complete_bipartite": [nx.complete_bipartite_graph(one, n - one) for one in range(1, n)],
    }
    for name, known in families.items():
        if any(len(other) == n and is_like(graph, other) for other in known):
            return name
    hub = max(degree for _, degree in graph.degree)
    if hub >= 4 and 1 <= edits_from_a_star(graph) <= max(2, (n - 1) * 2 // 10):
        return "near_star"
    if any(is_like(graph, spider) for spider in spiders(n)):
        return "forked_chain"
    if nx.is_tree(graph):
        return "tree"
    if nx.is_bipartite(graph):
        return "bipartite"
    return "clustered" if sum(nx.triangles(graph).values()) else "unclustered"


def jumbled(graphs: Iterable[nx.Graph], rng: random.Random) -> tuple[list[Edge], dict[str, str]]:
    """Return the edges of a union of graphs, and the shape of each account.

    Ids are shuffled; some edges are turned round, some stand twice, and three of ten accounts have a loop, or all do
    that have no edge.
    """
    graphs = list(graphs)
    ids = [f"a{number}" for number in range(sum(map(len, graphs)))]
    rng.shuffle(ids)
    edges: list[Edge] = []
    expected: dict[str, str] = {}
    free = iter(ids)
    for graph in graphs:
        names = {vertex: next(free) for vertex in graph}
        edges += [(names[one], names[other]) for one, other in graph.edges]
        edges += [(name, name) for name in names.values() if len(names) == 1 or rng.random() < 0.3]
        expected |= dict.fromkeys(names.values(), shape_of(graph))
    edges += [rng.choice(edges) for _ in range(len(edges) // 4)]
    edges = [edge[::-1] if rng.random() < 0.5 else edge for edge in edges]
    rng.shuffle(edges)
    return edges, expected


def atlas() -> list[nx.Graph]:
    """Return the connected components of all graphs of up to seven accounts, with their copies."""
    graphs = nx.graph_atlas_g()[1:]
    return [graph.subgraph(part).copy() for graph in graphs for part in nx.connected_components(graph)]
