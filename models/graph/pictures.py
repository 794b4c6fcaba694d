"""Pictures of components: networkx's layout, drawn by matplotlib."""

from pathlib import Path

import matplotlib as mpl
import networkx as nx  # type: ignore[import-untyped]
import numpy as np
from matplotlib.figure import Figure

from models.graph.views import THING, Snapshot

mpl.use("Agg")  # no window: the command may run without a screen

MOST = 60
"""Most accounts of a component in a picture: of a larger one some neighbours of its best known account are shown."""

ACCOUNT, OTHER, LINE = "#c0392b", "#7f8c8d", "#999999"


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
    plain = nx.Graph(graph)
    place = nx.kamada_kawai_layout(plain) if len(plain) > 2 else nx.circular_layout(plain)  # noqa: PLR2004 - a line
    figure = Figure(figsize=(3.2, 3.2), layout="constrained")
    axes = figure.add_subplot()
    axes.set_axis_off()
    colours = [OTHER if THING in node else ACCOUNT for node in graph]
    size = float(np.clip(900 / len(graph), 18, 120))
    arrows = {"arrows": True, "arrowsize": 7, "node_size": size} if directed else {"arrows": False}
    nx.draw_networkx_edges(graph if directed else plain, place, ax=axes, edge_color=LINE, **arrows)
    nx.draw_networkx_nodes(graph, place, ax=axes, node_color=colours, node_size=size)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100, metadata={"Software": None})
