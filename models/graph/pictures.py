"""Pictures of components: networkx's layout, drawn by matplotlib.

`python -m models.graph.pictures DIR` draws one example of each shape and of each typology, as docs/graph.md shows them.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl
import networkx as nx  # type: ignore[import-untyped]
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from models.graph.views import THING, Snapshot

mpl.use("Agg")  # no window: the command may run without a screen

MOST = 60
"""Most accounts of a component in a picture: of a larger one some neighbours of its best known account are shown."""

ACCOUNT, OTHER, LINE = "#c0392b", "#7f8c8d", "#999999"


SHAPE_EXAMPLES: Mapping[str, nx.Graph] = {
    "singleton": nx.empty_graph(1),
    "pair": nx.path_graph(2),
    "path": nx.path_graph(5),
    "star": nx.star_graph(6),
    "cycle": nx.cycle_graph(6),
    "complete": nx.complete_graph(5),
    "complete_bipartite": nx.complete_bipartite_graph(2, 4),
    "near_star": nx.Graph([*((0, leaf) for leaf in range(1, 9)), (8, 9)]),
    "forked_chain": nx.Graph([(0, 1), (1, 2), (2, 3), (3, 4), (2, 5), (5, 6)]),
    "tree": nx.balanced_tree(2, 3),
    "bipartite": nx.convert_node_labels_to_integers(nx.grid_2d_graph(3, 3)),
    "clustered": nx.lollipop_graph(4, 3),
    "unclustered": nx.Graph([*nx.cycle_graph(5).edges, (0, 5), (5, 6), (6, 7)]),
}
"""A component of each shape but the giant."""

TYPOLOGY_EXAMPLES: Mapping[str, nx.DiGraph] = {
    "chain": nx.path_graph(5, nx.DiGraph),
    "fan_in": nx.DiGraph((leaf, 0) for leaf in range(1, 7)),
    "fan_out": nx.DiGraph((0, leaf) for leaf in range(1, 7)),
    "directed_cycle": nx.cycle_graph(5, nx.DiGraph),
    "scatter_gather": nx.DiGraph([*((0, middle) for middle in range(1, 5)), *((middle, 5) for middle in range(1, 5))]),
    "gather_scatter": nx.DiGraph([*((payer, 0) for payer in range(1, 4)), *((0, payee) for payee in range(4, 7))]),
    "arborescence": nx.balanced_tree(2, 3, nx.DiGraph),
}
"""A component of each typology."""


def component_of(each: Snapshot, component: int) -> nx.DiGraph:
    """Return the edges of a component as a graph of networkx."""
    inside = each.found.of[each.graph.source] == component
    pairs = zip(
        each.accounts[each.graph.source[inside]], each.accounts[each.graph.target[inside]], strict=True
    )  # fmt: skip
    graph = nx.DiGraph()
    graph.add_edges_from(sorted(pairs))
    return graph


def draw(graph: nx.DiGraph, path: Path, *, directed: bool) -> None:
    """Write a picture of a graph. Accounts have one colour, devices and instruments another; ids are not shown."""
    if len(graph) > MOST:
        hub = max(sorted(graph), key=graph.degree)
        near = nx.single_source_shortest_path_length(graph.to_undirected(as_view=True), hub)
        graph = graph.subgraph(sorted(near, key=lambda node: (near[node], node))[:MOST])
    figure = Figure(figsize=(3.2, 3.2), layout="constrained")
    _draw(figure.add_subplot(), graph, [OTHER if THING in node else ACCOUNT for node in graph], directed=directed)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100, metadata={"Software": None})


def _draw(axes: Axes, graph: nx.Graph, colours: list[str], *, directed: bool) -> None:
    plain = nx.Graph(graph)
    place = nx.kamada_kawai_layout(plain) if len(plain) > 2 else nx.circular_layout(plain)  # noqa: PLR2004 - a line
    axes.set_axis_off()
    size = float(np.clip(900 / len(graph), 18, 120))
    arrows = {"arrows": True, "arrowsize": 7, "node_size": size} if directed else {"arrows": False}
    nx.draw_networkx_edges(graph if directed else plain, place, ax=axes, edge_color=LINE, **arrows)
    nx.draw_networkx_nodes(graph, place, ax=axes, node_color=colours, node_size=size)


def gallery(examples: Mapping[str, nx.Graph], path: Path) -> None:
    """Write one picture of all examples, with their names."""
    across = 5
    figure = Figure(figsize=(2 * across, 2 * -(-len(examples) // across)), layout="constrained")
    for number, (name, graph) in enumerate(examples.items(), 1):
        axes = figure.add_subplot(-(-len(examples) // across), across, number)
        axes.set_title(name, fontsize=9)
        axes.margins(0.15)
        _draw(axes, graph, [ACCOUNT] * len(graph), directed=graph.is_directed())
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90, metadata={"Software": None})


if __name__ == "__main__":
    gallery(SHAPE_EXAMPLES, Path(sys.argv[1]) / "graph_shapes.png")
    gallery(TYPOLOGY_EXAMPLES, Path(sys.argv[1]) / "graph_typologies.png")
