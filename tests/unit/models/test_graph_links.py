"""Links that are missing: scores are those of networkx, hubs and later edges have no say, and precision is counted."""

import itertools
import json
import random

import networkx as nx
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud.graph.publishing import LinksPage
from models.graph import links
from models.graph.engines import DuckDb
from models.graph.views import THING, VIEWS, HistoryTables
from tests.support.histories import Histories, day

P2P = VIEWS["p2p_7d"]


def found(engine, edges, earlier=(), first=10_000):
    """Return the links of directed edges, where earlier ones join two accounts as well."""

    def given_tables(name, view, at):
        del view, at
        rows = [*edges, *earlier] if name == "earlier" else edges
        rows = [row for row in rows if name == "edges" or not any(THING in end for end in row)]
        columns = {side: pa.array([row[n] for row in rows], pa.string()) for n, side in enumerate(("source", "target"))}
        engine.connection.register("given", pa.table(columns))
        engine.make(name, "SELECT DISTINCT source, target FROM given")

    return links.suggested(engine, given_tables, P2P, day(2), first)


@pytest.fixture(scope="module")
def engine():
    with DuckDb(threads=1) as engine:
        yield engine


def expected(edges, earlier, hub):
    """Return the scores by networkx on the graph without the neighbours that do not count."""
    whole = nx.Graph(edges)
    known = nx.Graph([*edges, *earlier])
    scores = {}
    accounts = sorted(node for node in whole if THING not in node)
    for one, other in itertools.combinations(accounts, 2):
        common = [node for node in nx.common_neighbors(whole, one, other) if whole.degree(node) <= hub]
        if not common or known.has_edge(one, other) or max(whole.degree(one), whole.degree(other)) > hub:
            continue
        scores[one, other] = sum(1 / np.log(whole.degree(node)) for node in common)
        if len(common) == len(list(nx.common_neighbors(whole, one, other))):
            ((*_, said),) = nx.adamic_adar_index(whole, [(one, other)])
            assert scores[one, other] == pytest.approx(said)
    return scores


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 9), st.integers(4, 30), st.integers(0, 60))
def test_every_pair_without_an_edge_has_the_score_of_networkx_and_the_best_come_first(engine, seed, hub, nodes, many):
    rng = random.Random(seed)
    names = [f"device{THING}{n}" if n % 5 == 4 else f"a{n}" for n in range(nodes)]
    edges = [tuple(rng.sample(names, 2)) for _ in range(many)]
    edges = [(one, other) for one, other in edges if THING not in one]
    earlier = [tuple(rng.sample([name for name in names if THING not in name], 2)) for _ in range(3)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(links, "HUB", hub)
        said = found(engine, edges, earlier)
        some = found(engine, edges, earlier, first=5)
    scores = expected(edges, earlier, hub)
    assert {(link.one, link.other): link.score for link in said} == pytest.approx(scores)
    assert said == sorted(said, key=lambda link: (-link.score, link.one, link.other))
    assert some == said[:5]
    graph = nx.Graph(edges)
    for link in said:
        common = [node for node in nx.common_neighbors(graph, link.one, link.other) if graph.degree(node) <= hub]
        assert link.evidence == tuple(sorted(common, key=lambda node: (graph.degree(node), node))[: links.EVIDENCE])


def test_a_hub_is_no_common_neighbour_and_what_is_joined_is_not_suggested(tmp_path, monkeypatch):
    made = Histories()
    for friend in ("c", "d"):
        made.pay("a", friend, 1)
        made.pay("b", friend, 1)
    for number in range(6):
        made.pay(f"f{number}", "hub", 1)
    for one, other in (("p", "q"), ("q", "r"), ("r", "p")):
        made.pay(one, other, 1)
    made.pay("c", "d", -40)  # long before the window
    monkeypatch.setattr(links, "HUB", 5)
    with HistoryTables(made.write(tmp_path)) as tables, DuckDb() as engine:
        said = links.suggested(engine, links.of_history(engine, tables), P2P, day(2), 10)
    assert [(link.one, link.other, link.evidence) for link in said] == [("a", "b", ("c", "d"))]
    assert said[0].score == pytest.approx(2 / np.log(2))


def test_precision_is_that_of_edges_seen_later(tmp_path, capsys):
    made = Histories()
    for pair in range(4):
        made.pay(f"a{pair}", f"m{pair}", 1)
        made.pay(f"b{pair}", f"m{pair}", 1)
    made.pay("b0", "a0", 3)
    made.pay("a1", "b1", 10)
    options = ["--view", "p2p_7d", "--as-of", "2026-03-03"]
    assert links.main([str(made.write(tmp_path)), *options, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["precision"] == {
        "at": "2026-03-03T00:00:00+00:00", "days": 7, "links": 4, "seen": 1, "first": 4, "first_seen": 1,
        "chance": 1 / 66,
    }  # fmt: skip
    assert [(link["one"], link["evidence"]) for link in said["links"]] == [(f"a{n}", [f"m{n}"]) for n in range(4)]
    assert links.main([str(tmp_path), *options]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == (
        "1 of the first 4 and 1 of all 4 are joined within 7 days, of any two accounts 1.52%"
    )


def test_links_of_the_job_are_those_of_its_time_and_their_precision_is_of_a_window_before(tmp_path):
    made = Histories()
    for at, pair in ((1, "old"), (40, "new"), (70, "future")):
        made.pay(f"{pair}-a", f"{pair}-m", at)
        made.pay(f"{pair}-b", f"{pair}-m", at)
    made.pay("old-b", "old-a", 35)
    made.pay("old-a", "old-m", 61)
    with HistoryTables(made.write(tmp_path)) as tables, DuckDb() as engine:
        said = links.inferred(engine, links.of_history(engine, tables), day(60), 10)
    assert [(link.one, link.other) for link in said.links] == [("new-a", "new-b")]
    assert said.precision[:6] == (day(30).isoformat(), 30, 1, 1, 1, 1)


def test_accounts_that_share_a_device_are_suggested_and_the_device_is_named_by_its_kind(tmp_path):
    made = Histories()
    for payer in ("aa", "bb"):
        made.pay(payer, "cc", 1, type="merchant", device_id="dd")
    with HistoryTables(made.write(tmp_path)) as tables, DuckDb() as engine:
        said = links.suggested(engine, links.of_history(engine, tables), links.VIEW, day(2), 5)
    assert [(link.one, link.other) for link in said] == [("aa", "bb")]
    page = LinksPage.model_validate({"accounts": links.by_account(said)})
    assert page.pseudonyms == ["aa", "bb"]
    assert [common.model_dump() for common in page.accounts[0].links[0].evidence] == [
        {"kind": "device", "account": None}
    ]


def test_an_account_keeps_its_best_links_only():
    said = [links.Link("a", f"b{n:02}", 20.0 - n, ("c",)) for n in range(12)]
    rows = {row["account"]: row["links"] for row in links.by_account(said)}
    assert [each["other"] for each in rows["a"]] == [f"b{n:02}" for n in range(10)]
    assert [each["other"] for each in rows["b11"]] == ["a"]


def test_a_history_that_cannot_be_read_is_named(tmp_path, capsys):
    assert links.main([str(tmp_path), "--as-of", "2026-03-03"]) == 2
    assert "cannot be read" in capsys.readouterr().err
