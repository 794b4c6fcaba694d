"""The job of the machine `graph` on archives of simulated networks and of a few payments."""

import json
import shutil
from dataclasses import replace
from datetime import datetime, timedelta

import pyarrow.parquet
import pytest

from fraud import packaged
from fraud.archive import schema
from fraud.archive.record import pseudonym
from fraud.archive.schema import PARTITION
from fraud.counters.keys import DECLARED
from fraud.graph.gate import Report
from fraud.graph.publishing import LinksPage, Page, Plan
from local import archive, simulated_graph
from models.datasets.history import INVITATIONS, LABELS, TRANSACTIONS, HistoryError
from models.graph.archived import Asked, history, main, run
from models.graph.marks import marks_at
from models.graph.views import VIEWS, HistoryTables
from models.simulation.networks import PATTERNS, simulate_networks
from models.simulation.simulate import DEFAULT_START
from tests.support.histories import by_time, to_a_friend

PLAN = Plan.load(packaged.GRAPH_PLAN.read_bytes())
DAYS = 64
OF = {each.name: each for each in PATTERNS}
COUPLES = replace(OF["couple"], share=100, ring=0.0)
CHAINS = replace(OF["relay_chain"], share=5, ring=0.95, size=(7, 8))
AS_OF = DEFAULT_START + timedelta(days=DAYS)
NOON = int(datetime.fromisoformat("2026-03-04T12:00:00+00:00").timestamp()) * 1_000_000


@pytest.fixture(scope="module")
def network():
    found = simulate_networks(3, DEFAULT_START, DAYS, 1_500, patterns=(COUPLES, CHAINS))
    few = [each for place, each in enumerate(found.payments) if each.label == "fraud" or place % 20 == 0]
    friends = (each.accounts[0] for each in found.groups[:3])
    return found._replace(payments=by_time([*few, *to_a_friend(*friends, at=DAYS - 5)]))


@pytest.fixture(scope="module")
def directory(network, tmp_path_factory):
    directory = tmp_path_factory.mktemp("archive")
    simulated_graph.write(directory, network)
    return directory


def asked(*views):
    return Asked(AS_OF, views, timedelta(days=7), timedelta(days=28), page=200)


def pages(out, as_of=AS_OF):
    return [Page.parse(path.read_bytes(), as_of, PLAN).marks for path in sorted((out / "pages").iterdir())]


def test_the_accounts_of_a_shape_of_rings_are_marked_and_the_function_reads_what_the_job_writes(
    network, directory, tmp_path
):
    figures = run(directory, tmp_path, asked("invite", "shared_instrument"))
    report = Report.parse((tmp_path / "report.json").read_bytes())
    found = pages(tmp_path)
    assert [len(page) for page in found[:-1]] == [200] * (report.pages - 1)
    marks = [mark for page in found for mark in page]
    assert len(marks) == report.marked == figures["marked"] > 200
    assert {(mark.view, mark.shape) for mark in marks} == {("invite", "forked_chain")}
    chains = {account for group in network.groups if group.pattern.name == "relay_chain" for account in group.accounts}
    assert {mark.account for mark in marks} <= {pseudonym(DECLARED, "account", account) for account in chains}
    assert {mark.as_of for mark in marks} == {AS_OF}
    assert report.views["invite"].components["forked_chain"] > 30
    table = pyarrow.parquet.read_table(tmp_path / "to_mark.parquet")
    assert table["account"].to_pylist() == [mark.account for mark in marks]
    assert (tmp_path / "invite" / "index.html").exists()


def test_the_job_publishes_the_marks_that_a_replay_of_its_history_believes(directory, tmp_path):
    views = ("invite", "p2p_7d")
    run(directory, tmp_path / "job", asked(*views))
    published = [mark for page in pages(tmp_path / "job") for mark in page]
    history(directory, tmp_path)
    with HistoryTables(tmp_path) as tables:
        stood = marks_at(tables, AS_OF, views={name: VIEWS[name] for name in views}).marks
    assert [mark.model_dump() for mark in published] == [mark._asdict() for mark in stood] != []


def test_what_comes_after_the_time_of_a_snapshot_changes_nothing(directory, tmp_path):
    early = asked("invite")._replace(as_of=AS_OF - timedelta(days=10))
    run(directory, tmp_path / "whole", early)
    shutil.copytree(directory, tmp_path / "cut")
    for place in (tmp_path / "cut").glob(f"*/{PARTITION}=*"):
        if place.name >= f"{PARTITION}={early.as_of:%Y-%m-%d}":
            shutil.rmtree(place)
    assert len(list((tmp_path / "cut").glob("*/*"))) < len(list(directory.glob("*/*")))
    run(tmp_path / "cut", tmp_path / "early", early)
    assert pages(tmp_path / "whole", early.as_of) == pages(tmp_path / "early", early.as_of) != []
    whole, cut = (Report.parse((tmp_path / name / "report.json").read_bytes()) for name in ("whole", "early"))
    assert whole.labels == cut.labels > 0


def test_a_job_without_labels_says_that_it_has_read_none(directory, tmp_path):
    shutil.copytree(directory, tmp_path / "cut")
    shutil.rmtree(tmp_path / "cut" / schema.LABELS.name)
    run(tmp_path / "cut", tmp_path / "out", asked("invite"))
    report = Report.parse((tmp_path / "out" / "report.json").read_bytes())
    assert (report.labels, report.marked, report.pages) == (0, 0, 0)


def test_links_are_no_input_of_shapes_marks_or_what_has_changed(directory, tmp_path):
    views = asked("invite", "shared_instrument")
    with_links = run(directory, tmp_path / "with", views)
    without = run(directory, tmp_path / "without", views._replace(links=0))
    assert with_links["inferred"]["links"] > 0 == without["inferred"]["links"]
    assert with_links | {"inferred": 0} == without | {"inferred": 0}
    assert pages(tmp_path / "with") == pages(tmp_path / "without") != []
    (page,) = (tmp_path / "with" / "links").iterdir()
    assert len(LinksPage.parse(page.read_bytes()).accounts) >= 2


def row(table, **said):
    """Return a row of the archive in which only a few columns say something."""
    empty = dict.fromkeys(table.names)
    return empty | {"day": "2026-03-04", "occurred_at": NOON, "payer": "aa", "payee": "bb", "type": "p2p"} | said


def decided(transaction, outcome):
    return row(schema.DECISIONS, event_id=transaction, transaction=transaction, outcome=outcome, amount=5)


def became(transaction, number, status):
    event = f"{transaction}-{number}"
    said = {"event_id": event, "transaction": transaction, "number": number, "status": status}
    return {name: value for name, value in row(schema.RESOLUTIONS, **said).items() if name != "type"}


def test_only_payments_that_have_moved_money_are_in_the_history_and_each_once(tmp_path):
    archive.write(
        tmp_path,
        schema.DECISIONS,
        [
            decided("approved", "approve"), decided("approved", "approve"), decided("declined", "decline"),
            decided("passed", "challenge"), decided("waiting", "review"), decided("reversed", "approve"),
            decided("settled", "approve"),
        ],
    )  # fmt: skip
    archive.write(
        tmp_path,
        schema.RESOLUTIONS,
        [
            became("passed", 0, "approved"), became("reversed", 1, "reversed"), became("reversed", 0, "settled"),
            became("settled", 0, "settled"),
        ],
    )  # fmt: skip
    history(tmp_path, tmp_path)
    found = pyarrow.parquet.read_table(tmp_path / TRANSACTIONS)
    assert sorted(found["transaction_id"].to_pylist()) == ["approved", "passed", "settled"]
    assert found["occurred_at"].to_pylist()[0] == datetime.fromisoformat("2026-03-04T12:00:00+00:00")
    assert [pyarrow.parquet.read_table(tmp_path / name).num_rows for name in (LABELS, INVITATIONS)] == [0, 0]


def test_a_payment_that_was_decided_late_is_in_no_snapshot_of_before(tmp_path):
    hour = 3_600_000_000
    rows = [decided(name, "approve") | {"decided_at": NOON + late} for name, late in (("soon", 1), ("late", 2 * hour))]
    archive.write(tmp_path, schema.DECISIONS, [row | {"payer": row["transaction"]} for row in rows])
    history(tmp_path, tmp_path)
    noon = datetime.fromisoformat("2026-03-04T12:00:00+00:00")
    with HistoryTables(tmp_path) as tables:
        seen = [tables.edges(VIEWS["p2p_7d"], noon + timedelta(hours=hours))["source"].to_pylist() for hours in (1, 3)]
    assert [sorted(each) for each in seen] == [["soon"], ["late", "soon"]]


def test_a_payment_counts_as_its_labels_did_by_the_ranks_of_their_sources(tmp_path):
    said = [("fraud", True), ("legitimate", True), ("legitimate", False)]
    labels = [
        row(schema.LABELS, transaction="t", event_id=f"t-{number}", label=label, number=number, counts=counts,
            known_at=NOON + number)
        for number, (label, counts) in enumerate(said)
    ]  # fmt: skip
    archive.write(tmp_path, schema.LABELS, [{name: each[name] for name in each if name != "type"} for each in labels])
    history(tmp_path, tmp_path)
    assert pyarrow.parquet.read_table(tmp_path / LABELS)["label"].to_pylist() == ["fraud", "fraud", "legitimate"]


def test_an_archive_that_cannot_be_read_says_so(tmp_path, capsys):
    arguments = [str(tmp_path), str(tmp_path / "out"), "--as-of", "2026-06-01"]
    (tmp_path / "decisions" / "day=2026-03-04").mkdir(parents=True)
    assert main(arguments) == 2
    assert "a history without payments" in capsys.readouterr().err
    (tmp_path / "decisions" / "day=2026-03-04" / "rows.parquet").write_bytes(b"no parquet")
    assert main(arguments) == 2
    assert "cannot be read" in capsys.readouterr().err
    with pytest.raises(HistoryError):
        history(tmp_path, tmp_path)


def test_the_command_writes_all_views_and_says_how_many_are_marked(directory, tmp_path, capsys):
    assert main([str(directory), str(tmp_path), "--as-of", AS_OF.isoformat()]) == 0
    assert "accounts, " in capsys.readouterr().out
    report = json.loads((tmp_path / "report.json").read_text())
    assert list(report["views"]) == ["invite", "p2p_7d", "market_30d", "shared_instrument", "burst_2d"]
    reports = {name: (tmp_path / name / "index.html").read_text() for name in report["views"]}
    assert all("<h2>What has changed</h2>" in page for page in reports.values())
    assert f"The window is the 7 days until {AS_OF:%Y-%m-%d} 00:00 UTC" in reports["invite"]
    assert "the view has no accounts in the window" in reports["burst_2d"]
