"""The job of the machine `graph` in SQL gives the marks and counts that it gives on one machine."""

import json
import random
from datetime import timedelta

import pytest

from local import simulated_graph
from models.datasets.history import TRANSACTIONS
from models.graph import archived, distributed, links, views
from models.graph.archived import Asked
from models.graph.engines import DuckDb
from models.graph.views import HistoryTables
from models.simulation.simulate import DEFAULT_START
from tests.acceptance.graph_job import DAYS, network, rounded
from tests.support.histories import Histories, day


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    directory = tmp_path_factory.mktemp("archive")
    simulated_graph.write(directory, network())
    return directory


@pytest.mark.parametrize("name", views.VIEWS)
def test_a_view_has_the_same_figures_and_the_same_marks(directory, tmp_path, name):
    as_of = DEFAULT_START + timedelta(days=DAYS)
    asked = Asked(as_of, [name], timedelta(days=7), timedelta(days=28), page=100, links_page=3)
    figures = archived.run(directory, tmp_path, asked)
    with DuckDb() as engine:
        archived.read(engine.connection, directory)
        found, marks, linked = distributed.run(engine, asked)
    assert rounded(marks) == rounded(written(tmp_path / "pages", "marks"))
    assert rounded(linked) == rounded(written(tmp_path / "links", "accounts"))
    assert len(linked) > asked.links_page
    assert figures["views"][name]["shapes"] or name == "burst_2d"
    assert bool(marks) == (name == "invite")
    assert rounded(found) == rounded(figures)


def test_links_of_payments_that_share_much_are_the_same_up_to_the_last_digit(tmp_path):
    made, rng = Histories(), random.Random(5)
    for _ in range(1_500):
        one, other = rng.sample(range(80), 2)
        made.pay(f"a{one}", f"a{other}", rng.uniform(0, 70), device_id=f"d{(one + rng.randrange(4)) // 4}")
    made.write(tmp_path)
    with HistoryTables(tmp_path) as tables, DuckDb() as engine:
        one = links.inferred(engine, links.of_history(engine, tables), day(60), 300)
    with DuckDb() as engine:
        engine.connection.read_parquet(str(tmp_path / TRANSACTIONS)).create_view("paid")
        query = "SELECT * REPLACE (epoch_us(occurred_at) AS occurred_at), epoch_us(occurred_at) AS arrived_at FROM paid"
        engine.make("payments", query)
        other = links.inferred(engine, distributed.of_archive(engine), day(60), 300)
    assert [link.score for link in one.links] == pytest.approx([link.score for link in other.links])
    assert [link._replace(score=0) for link in one.links] == [link._replace(score=0) for link in other.links]
    assert one.precision == other.precision
    assert len(one.links) == one.precision.links == 300
    assert one.precision.seen > 0


def written(directory, name):
    """Return the rows of all pages."""
    pages = [directory / f"{number}.json" for number in range(len(list(directory.iterdir())))]
    return [row for page in pages for row in json.loads(page.read_text())[name]]
