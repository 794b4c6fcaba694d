"""The job of the machine `graph` in SQL gives the marks and counts that it gives on one machine."""

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from local import simulated_graph
from models.graph import archived, distributed, views
from models.graph.archived import Asked
from models.graph.engines import DuckDb
from models.simulation.networks import PATTERNS, simulate_networks
from models.simulation.simulate import DEFAULT_START

DAYS = 64
OF = {each.name: each for each in PATTERNS}
GROUPS = (
    replace(OF["couple"], share=100, ring=0.0),
    replace(OF["relay_chain"], share=7, ring=0.95, size=(7, 8)),
    replace(OF["dormitory"], share=4),
    replace(OF["split_bill"], share=4),
)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    directory = tmp_path_factory.mktemp("archive")
    network = simulate_networks(3, DEFAULT_START, DAYS, 1_500, patterns=GROUPS)
    few = [each for place, each in enumerate(network.payments) if each.label == "fraud" or place % 40 == 0]
    simulated_graph.write(directory, network._replace(payments=few))
    return directory


@pytest.mark.parametrize("name", views.VIEWS)
def test_a_view_has_the_same_figures_and_the_same_marks(directory, tmp_path, name):
    as_of = DEFAULT_START + timedelta(days=DAYS)
    asked = Asked(as_of, [name], timedelta(days=7), timedelta(days=28), page=100)
    figures = archived.run(directory, tmp_path, asked)
    with DuckDb() as engine:
        archived.read(engine.connection, directory)
        found, marks = distributed.run(engine, asked)
    pages = [json.loads(each.read_text()) for each in sorted((tmp_path / "pages").iterdir())]
    assert rounded(marks) == rounded([mark for page in pages for mark in page["marks"]])
    assert found["views"][name].pop("changed") == {}
    figures["views"][name].pop("changed")
    assert figures["views"][name]["shapes"] or name == "burst_2d"
    assert bool(marks) == (name == "invite")
    assert rounded(found) == rounded(figures)


def rounded(node: Any) -> Any:
    """Return figures without the last digits of a number, which depend on the order of a sum."""
    if isinstance(node, dict):
        return {name: rounded(value) for name, value in node.items()}
    if isinstance(node, list):
        return [rounded(each) for each in node]
    return float(f"{node:.12g}") if isinstance(node, float) else node
