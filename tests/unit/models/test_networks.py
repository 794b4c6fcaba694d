"""The simulator's networks: the same seed gives the same network, and each pattern has its shape."""

from datetime import timedelta

import pyarrow as pa
import pytest

from models.datasets import networks
from models.graph import shapes
from models.graph.views import HistoryTables
from models.simulation.draws import Draw
from models.simulation.networks import PATTERNS, chain, hand_down, near_star, relay, simulate_networks, star
from models.simulation.simulate import DEFAULT_START


@pytest.fixture(scope="module")
def small():
    return simulate_networks(5, DEFAULT_START, 60, 250)


def test_the_same_seed_gives_the_same_network(small):
    assert simulate_networks(5, DEFAULT_START, 60, 250) == small
    assert simulate_networks(4, DEFAULT_START, 60, 250).payments != small.payments


def test_payments_are_in_order_and_bear_no_truth(small):
    times = [each.transaction["occurred_at"] for each in small.payments]
    assert times == sorted(times)
    assert not {key for each in small.payments for key in each.transaction} & {"label", "tactic", "ring"}
    assert {each.label for each in small.payments} == {"fraud", "legitimate"}


def test_every_invited_account_joins_after_its_inviter_and_once(small):
    assert len({each.invitee_id for each in small.invitations}) == len(small.invitations)
    joined = {each.invitee_id: each.occurred_at for each in small.invitations}
    assert all(joined.get(each.inviter_id, each.occurred_at) <= each.occurred_at for each in small.invitations)


def test_a_ring_is_told_of_after_its_group_has_grown(small):
    began = {account: group for group in small.groups for account in group.accounts}
    for each in small.payments:
        if each.label == "fraud":
            group = began[each.transaction["payer_id"]]
            assert group.ring
            assert each.tactic == group.pattern.name
            assert each.reported_at > group.began_at + timedelta(days=4)


@pytest.mark.parametrize(
    ("grows", "sizes", "shape"),
    [(chain, range(3, 9), "path"), (star, range(4, 9), "star"), (near_star, range(8, 15), "near_star"),
     (relay, range(7, 12), "forked_chain")],
)  # fmt: skip
def test_a_pattern_of_invitations_has_its_shape(grows, sizes, shape):
    for size in sizes:
        for seed in range(20):
            parents = grows(Draw(seed), size)
            assert len(parents) == size - 1
            edges = pa.table({"source": parents, "target": list(range(1, size))})
            graph = shapes.graph(edges)
            found = shapes.table(graph, shapes.find(graph, directed=True)).to_pylist()
            assert {(row["shape"], row["size"], row["cyclic"]) for row in found} == {(shape, size, False)}


def test_mules_hand_money_down_a_tree():
    moves = hand_down(Draw(1), 13)
    edges = pa.table({"source": [one for one, _ in moves], "target": [other for _, other in moves]})
    graph = shapes.graph(edges)
    (row,) = {(row["shape"], row["typology"], row["depth"]) for row in shapes.table(
        graph, shapes.find(graph, directed=True)).to_pylist()}  # fmt: skip
    assert row == ("tree", "arborescence", 2)


def test_rates_are_declared_and_some_scary_shape_has_none():
    rates = {each.name: each.ring for each in PATTERNS}
    assert rates["relay_chain"] >= 0.5
    assert rates["influencer"] == rates["dormitory"] == rates["split_bill"] == 0


def test_a_network_is_a_history_with_invitations(small, tmp_path):
    words = networks.write(tmp_path, small)
    assert f"{len(small.invitations):,} invitations" in words
    with HistoryTables(tmp_path) as tables:
        assert tables.rows("SELECT count(*) AS n FROM invitations")["n"][0].as_py() == len(small.invitations)
