"""The job of the machine `graph` in SQL gives the marks and counts that it gives on one machine."""

import json
from datetime import timedelta

import pytest

from local import simulated_graph
from models.graph import archived, distributed, views
from models.graph.archived import Asked
from models.graph.engines import DuckDb
from models.simulation.simulate import DEFAULT_START
from tests.acceptance.graph_job import DAYS, network, rounded


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    directory = tmp_path_factory.mktemp("archive")
    simulated_graph.write(directory, network())
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
    assert figures["views"][name]["shapes"] or name == "burst_2d"
    assert bool(marks) == (name == "invite")
    assert rounded(found) == rounded(figures)
