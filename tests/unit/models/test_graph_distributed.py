"""The job of the machine `graph` in SQL gives the marks and counts that it gives on one machine."""

import json
import random
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest

from local import simulated_graph
from models.datasets.history import LABELS, TRANSACTIONS, HistoryError
from models.graph import archived, distributed, lift, links, views
from models.graph.archived import Asked
from models.graph.engines import DuckDb
from models.graph.lift import LEFT_OUT
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


def put(engine: DuckDb, table: str, file: Path, time: str, more: str) -> None:
    """Make a table of a history's file, with a time in whole microseconds, as the job has it."""
    engine.connection.read_parquet(str(file), file_row_number=True).create_view(f"file_{table}")
    engine.make(table, f"SELECT * REPLACE (epoch_us({time}) AS {time}), {more} FROM file_{table}")  # noqa: S608


@pytest.mark.parametrize(
    ("name", "until"), [("burst_2d", 48), ("p2p_7d", 60), ("market_30d", 122), ("shared_instrument", 122)]
)
def test_snapshots_with_the_same_components_make_the_same_units(tmp_path, name, until):
    made, rng = Histories(), random.Random(9)
    for number in range(3_000):
        payee = rng.choice((rng.randrange(5), rng.randrange(200)))
        payer, at = rng.randrange(200, 400), rng.uniform(0, 100)
        told = at + rng.uniform(1, 60) if payee % 7 == 0 and number % 5 else None
        made.pay(f"a{payer}", f"a{payee}", at, told=told, device_id=f"d{payer // 2}")
    for group in range(60):  # of three, whose payments turn from snapshot to snapshot
        for at in range(3, 100, 6):
            for one, other in (("b", "a"), ("b", "c")):
                ends = [f"g{group}{one}", f"g{group}{other}"]
                rng.shuffle(ends)
                made.pay(*ends, at, told=at + 40 if group % 4 == 0 else None, device_id=f"g{group}")
    made.write(tmp_path)
    rules = lift.policy()
    with HistoryTables(tmp_path) as tables, DuckDb() as engine:
        one, times = lift.units(tables, views.VIEWS[name], day(until), rules)
        put(engine, "payments", tmp_path / TRANSACTIONS, "occurred_at", "epoch_us(occurred_at) AS arrived_at")
        put(engine, "told", tmp_path / LABELS, "known_at", "file_row_number AS number")
        other = distributed.units(engine, views.VIEWS[name], times, rules.horizon)
    assert len(times) > 2
    assert one.frauds.sum()
    assert max(one.accounts[one.kind != LEFT_OUT]) > (2 if name == "burst_2d" else 6)
    assert Counter(zip(*(each.tolist() for each in one), strict=True)) == Counter(
        zip(*(each.tolist() for each in other), strict=True)
    )


def test_an_archive_without_payments_is_refused(tmp_path):
    asked = Asked(day(60), ["invite"], timedelta(days=7), timedelta(days=28), 100)
    with DuckDb() as engine:
        archived.read(engine.connection, tmp_path)
        with pytest.raises(HistoryError, match="without payments"):
            distributed.run(engine, asked)


def test_links_of_payments_that_share_much_are_the_same_up_to_the_last_digit(tmp_path):
    made, rng = Histories(), random.Random(5)
    for _ in range(1_500):
        one, other = rng.sample(range(80), 2)
        made.pay(f"a{one}", f"a{other}", rng.uniform(0, 70), device_id=f"d{(one + rng.randrange(4)) // 4}")
    made.write(tmp_path)
    with HistoryTables(tmp_path) as tables, DuckDb() as engine:
        one = links.inferred(engine, links.of_history(engine, tables), day(60), 300)
    with DuckDb() as engine:
        put(engine, "payments", tmp_path / TRANSACTIONS, "occurred_at", "epoch_us(occurred_at) AS arrived_at")
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
