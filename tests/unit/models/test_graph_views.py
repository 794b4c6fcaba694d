"""Views, lifts and reports: what a snapshot sees, what its labels are, and what earns a mark."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import networkx as nx
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from pydantic import ValidationError

from models.datasets import history
from models.datasets.history import HistoryError
from models.graph import __main__ as command
from models.graph import archived, lift, links, marks, pictures, shapes, spark, views
from models.graph.lift import LEFT_OUT, Grade, Policy, Units
from models.graph.predicates import SHAPES, TYPOLOGIES
from models.graph.views import VIEWS, HistoryTables, View
from tests.support.histories import Histories, day

RULES = Policy(
    components=2, horizon=30, snapshots=10, alpha=0.05, grades=(Grade(bound=1.5, days=7, does=("feature",)),)
)  # fmt: skip


def edges(directory: Path, view: View, at: float) -> set[tuple[str, str]]:
    with HistoryTables(directory) as tables:
        return {(row["source"], row["target"]) for row in tables.edges(view, day(at)).to_pylist()}


def test_a_view_sees_its_kinds_in_its_window_and_nothing_later(tmp_path):
    made = Histories()
    made.pay("a", "b", 1)
    made.pay("b", "c", 5)
    made.pay("b", "m", 5, type="merchant")
    made.pay("c", "d", 9)
    made.invite("a", "z", 2)
    made.write(tmp_path)
    assert edges(tmp_path, VIEWS["p2p_7d"], 7) == {("a", "b"), ("b", "c")}
    assert edges(tmp_path, VIEWS["p2p_7d"], 9) == {("b", "c"), ("c", "d")}
    assert edges(tmp_path, VIEWS["market_30d"], 9) == {("a", "b"), ("b", "c"), ("b", "m"), ("c", "d")}
    assert edges(tmp_path, VIEWS["invite"], 9) == {("a", "z")}
    assert edges(tmp_path, VIEWS["invite"], 1) == set()


def test_a_payment_that_came_late_is_in_no_snapshot_before_its_arrival(tmp_path):
    made = Histories()
    made.pay("a", "b", 1, device_id="shared")
    made.pay("c", "b", 2, device_id="shared")
    made.write(tmp_path)
    payments = pyarrow.parquet.read_table(tmp_path / history.TRANSACTIONS)
    arrivals = pa.array([day(1), day(5)], pa.timestamp("us", "UTC"))
    late = payments.append_column(history.ARRIVED_AT, arrivals)
    pyarrow.parquet.write_table(late, tmp_path / history.TRANSACTIONS)
    assert edges(tmp_path, VIEWS["p2p_7d"], 4) == {("a", "b")}
    assert edges(tmp_path, VIEWS["shared_instrument"], 4) == set()
    assert edges(tmp_path, VIEWS["p2p_7d"], 5) == {("a", "b"), ("c", "b")}
    assert len(edges(tmp_path, VIEWS["shared_instrument"], 5)) == 2


def test_accounts_are_joined_by_what_they_share_and_by_nothing_that_one_account_uses(tmp_path):
    made = Histories()
    for payer, device in (("a", "shared"), ("b", "shared"), ("c", "own")):
        made.pay(payer, "m", 1, type="merchant", device_id=device)
    with HistoryTables(made.write(tmp_path)) as tables:
        each = views.snapshot(tables, VIEWS["shared_instrument"], day(2))
    assert sorted(each.accounts[each.counted]) == ["a", "b"]
    assert each.graph.number == 3  # the device is a node, and no account
    assert each.left_out == ("c",)
    assert "bipartite" in VIEWS["shared_instrument"].kinds or each.found.columns.bipartite.all()


def test_a_hub_and_its_edges_are_left_out_and_its_neighbours_stay_in_the_rate_of_all(tmp_path):
    made = Histories()
    for number in range(4):
        made.pay(f"f{number}", "hub", 1)
    made.pay("a", "b", 1)
    with HistoryTables(made.write(tmp_path)) as tables:
        each = views.snapshot(tables, VIEWS["p2p_7d"]._replace(hub=3), day(2))
        assert views.snapshot(tables, VIEWS["p2p_7d"]._replace(hub=4), day(2)).left_out == ()
    assert sorted(each.accounts) == ["a", "b"]
    assert each.left_out == ("f0", "f1", "f2", "f3", "hub")


def test_a_payee_of_a_burst_has_enough_payers_within_the_window_and_is_compared_with_those_of_a_quarter(tmp_path):
    made = Histories()
    made.pay("a", "gone", 6 - 90)
    made.pay("a", "quiet", 6 - 89.9)
    for number in range(4):
        made.pay(f"f{number}", "burst", 5)
        made.pay(f"f{number}", "slow", 1 + number * 1.5)
    made.pay("a", "later", 6.1)
    with HistoryTables(made.write(tmp_path)) as tables:
        each = views.snapshot(tables, VIEWS["burst_2d"], day(6))
        same_days = views.snapshot(tables, VIEWS["burst_2d"]._replace(base=None), day(6))
    assert list(each.accounts[each.counted]) == ["burst"]
    assert each.left_out == ("quiet", "slow")
    assert same_days.left_out == ("slow",)


def test_a_payee_with_a_burst_in_each_of_several_snapshots_is_one_unit(tmp_path):
    made = Histories()
    for at in (5, 7, 9):
        for number in range(4):
            made.pay(f"f{number}", "often", at, told=20 if at == 9 else None)
    for number in range(4):
        made.pay(f"g{number}", "once", 7)
    with HistoryTables(made.write(tmp_path)) as tables:
        units, times = lift.units(tables, VIEWS["burst_2d"], day(40), RULES)
    assert times[0] == day(10)
    star = units.kind != LEFT_OUT
    assert sorted(zip(units.accounts[star].tolist(), units.frauds[star].tolist(), strict=True)) == [(1, 0), (3, 3)]


def test_a_giant_is_told_with_what_to_change(tmp_path):
    made = Histories()
    for number in range(10):
        made.pay(f"a{number}", f"a{number + 1}", 1)
    with HistoryTables(made.write(tmp_path)) as tables:
        each = views.snapshot(tables, VIEWS["p2p_7d"], day(2))
        assert each.giant_share == 1
        (warning,) = views.warnings(each)
        assert warning.startswith("100 % of the view's accounts are one component")
        assert warning.endswith(VIEWS["p2p_7d"].hint)
        for number in range(50):
            made.pay(f"b{number}", f"c{number}", 1)
    with HistoryTables(made.write(tmp_path)) as tables:
        assert views.warnings(views.snapshot(tables, VIEWS["p2p_7d"], day(2))) == []


def test_labels_count_that_became_known_after_the_snapshot_and_within_the_horizon(tmp_path):
    made = Histories()
    for name, told in (
        ("early", 9.5),
        ("at-once", 10),
        ("after", 10.1),
        ("late", 40),
        ("too-late", 40.1),
        ("never", None),
    ):
        made.pay(f"{name}-payer", f"{name}-payee", 9, told=told)
    with HistoryTables(made.write(tmp_path)) as tables:
        units = lift.matured(tables, views.snapshot(tables, VIEWS["p2p_7d"], day(10)), 30)
    # Those told of before the snapshot are in no rate; those told of too late count as honest.
    found = zip(units["accounts"].to_pylist(), units["frauds"].to_pylist(), strict=True)
    assert sorted(found) == [(2, 0), (2, 0), (2, 2), (2, 2)]


def test_nothing_that_happens_or_becomes_known_later_changes_a_lift_or_a_mark(tmp_path):
    made = Histories()
    for number in range(40):
        told = 20 + number % 7 if number % 3 == 0 else None
        for leaf in range(3 if number % 3 == 0 else 1):
            made.pay(f"p{number}", f"q{number}-{leaf}", 6 + number % 3, told=told)
            made.pay(f"p{number}", f"q{number}-{leaf}", 39 + number % 3)
    found = []
    for _ in range(2):
        with HistoryTables(made.write(tmp_path / str(len(found)))) as tables:
            units, times = lift.units(tables, VIEWS["p2p_7d"], day(42), RULES)
            rows = lift.lifts(units, RULES, directed=True)
            found.append((times, rows, lift.to_mark(views.snapshot(tables, VIEWS["p2p_7d"], day(42)), rows, RULES)))
        made.pay("p0", "p1", 42.1, told=42.2)
        made.payments[5] = replace(made.payments[5], label="fraud", reported_at=day(42.1))
    assert found[0] == found[1]
    assert {each.shape for each in found[0][2]} == {"star"}
    assert {each.expires_at - each.as_of for each in found[0][2]} == {timedelta(days=7)}


def test_a_label_that_was_taken_back_is_no_fraud(tmp_path):
    made = Histories()
    made.pay("a", "b", 9, told=11)
    made.write(tmp_path)
    labels = pyarrow.parquet.read_table(tmp_path / history.LABELS).to_pylist()
    labels.append(labels[0] | {"label": "legitimate", "known_at": day(12), "reported_at": day(12)})
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(labels), tmp_path / history.LABELS)
    with HistoryTables(tmp_path) as tables:
        assert tables.told(day(10), day(11.5)).num_rows == 2
        assert tables.told(day(10), day(13)).num_rows == 0


def of_kind(shape: str, typology: str = "none") -> int:
    return list(SHAPES).index(shape) * (len(TYPOLOGIES) + 1) + list(TYPOLOGIES).index(typology)


def test_an_old_history_gives_every_view_its_matured_snapshots():
    times = (lift.matured_times(day(-400), VIEWS[name], day(100), RULES) for name in ("p2p_7d", "invite"))
    of_week, of_all_time = times
    assert of_week == [day(70 - 7 * number) for number in range(RULES.snapshots)]
    assert of_all_time == [day(70)]


def test_no_lift_is_claimed_for_few_components():
    kinds = np.repeat([of_kind("star"), of_kind("pair"), LEFT_OUT], [1, 50, 10])
    units = Units(kinds, np.full(61, 4), np.where(kinds == of_kind("star"), 4, 0))
    rows = {row.shape: row for row in lift.lifts(units, RULES, directed=False)}
    assert rows["star"].lift > 10
    assert rows["star"].low is rows["star"].bound is None
    assert rows["pair"].bound == 0


def test_the_bound_that_earns_a_mark_falls_with_the_number_of_shapes_tested():
    rng = np.random.default_rng(1)
    kinds = np.repeat([of_kind("star"), of_kind("pair")], [100, 900])
    accounts = np.full(1_000, 4)
    frauds = np.where(kinds == of_kind("star"), 4, 1) * rng.binomial(1, 0.3, 1_000)
    two = lift.lifts(Units(kinds, accounts, frauds), RULES, directed=False)[0]
    split = np.where(
        np.arange(1_000) < 500, kinds, [of_kind(name) for name in ("path", "cycle", "tree", "complete")] * 250
    )
    more = next(row for row in lift.lifts(Units(split, accounts, frauds), RULES, directed=False) if row.shape == "star")
    assert two.lift == more.lift
    assert (two.low, two.high) == (more.low, more.high)
    assert more.bound < two.bound
    assert two.low == two.bound  # two tests of one side: half of 5 % each


def test_an_interval_is_wider_when_accounts_of_a_component_share_their_fate():
    kinds = np.repeat([0, 1], [100, 1_000])
    accounts = np.full(1_100, 6)
    apart = np.where(kinds == 0, np.random.default_rng(1).binomial(6, 1 / 6, 1_100), 0)
    apart[100::10] = 1
    together = np.where(kinds == 0, (np.arange(1_100) % 6 == 0) * 6, apart)
    chosen = kinds == 0
    one, other = (lift.interval(Units(kinds, accounts, frauds), chosen, 0.05) for frauds in (apart, together))
    assert other[1] - other[0] > 1.4 * (one[1] - one[0])


@pytest.mark.parametrize(("bound", "days"), [(None, None), (2.99, None), (3, 14), (9.99, 14), (10, 30)])
def test_the_packaged_policy_says_which_bound_earns_a_mark_and_for_how_long(bound, days):
    grade = lift.policy().grade(bound)
    assert (grade and grade.days) == days


def test_every_grade_is_what_the_code_makes_of_it_and_none_can_be_an_outcome():
    assert {grade.does for grade in lift.policy().grades} == {("feature", "rule input")}
    with pytest.raises(ValidationError, match="does"):
        Grade.model_validate({"bound": 3, "days": 14, "does": ["decline"]})


def test_the_command_writes_figures_pictures_and_marks(tmp_path, capsys):
    made = Histories()
    for number in range(90):
        told = 20 + number % 7 if number % 2 else None
        for leaf in range(4 if number % 2 else 1):
            made.pay(f"p{number}", f"q{number}-{leaf}", 6, told=told)
            made.pay(f"p{number}", f"q{number}-{leaf}", 41)
    arguments = [
        str(made.write(tmp_path)),
        "--view",
        "p2p_7d",
        "--as-of",
        "2026-04-12",
        "--report",
        str(tmp_path / "r"),
    ]
    assert command.main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["view"] == "p2p_7d"
    assert found["as_of"] == "2026-04-12T00:00:00+00:00"
    star = next(row for row in found["shapes"] if row["shape"] == "star")
    assert star["components"] == 45
    assert star.keys() >= {"shape", "components", "accounts", "rate", "lift", "low", "high", "marked"}
    assert (
        sum(row["marked"] for row in found["shapes"])
        == pyarrow.parquet.read_table(tmp_path / "r/to_mark.parquet").num_rows
    )
    page = (tmp_path / "r/index.html").read_text()
    assert "star, fan out: the largest of 45" in page
    assert (tmp_path / "r/star-fan_out.png").stat().st_size > 1_000
    assert command.main(arguments) == 0
    assert "accounts" in capsys.readouterr().out


def test_a_history_that_is_none_is_refused(tmp_path, capsys):
    arguments = ["--view", "invite", "--as-of", "2026-04-12", "--report", str(tmp_path / "r")]
    assert command.main([str(tmp_path), *arguments]) == 2
    assert "cannot be read" in capsys.readouterr().err
    with HistoryTables(Histories().write(tmp_path)) as tables, pytest.raises(HistoryError):
        tables.span()


@pytest.mark.parametrize("file", ["transactions.parquet", "labels.parquet", "invitations.parquet"])
def test_a_history_with_a_file_of_other_columns_is_refused(tmp_path, capsys, file):
    made = Histories()
    made.invite("a", "b", 1)
    made.pay("a", "b", 2)
    made.write(tmp_path)
    pyarrow.parquet.write_table(pa.table({"source": ["a"], "target": ["b"]}), tmp_path / file)
    arguments = ["--view", "invite", "--as-of", "2026-06-12", "--report", str(tmp_path / "r")]
    assert command.main([str(tmp_path), *arguments]) == 2
    assert f"{file}: no column " in capsys.readouterr().err


@pytest.mark.parametrize("labels", [("fraud", "legitimate"), ("legitimate", "fraud")])
def test_of_labels_that_became_known_at_once_the_later_row_counts(tmp_path, labels):
    made = Histories()
    made.pay("a", "b", 9, told=11)
    made.write(tmp_path)
    (row,) = pyarrow.parquet.read_table(tmp_path / history.LABELS).to_pylist()
    rows = [row | {"label": label} for label in labels]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / history.LABELS)
    with HistoryTables(tmp_path) as tables:
        told = {row["account"] for row in tables.told(day(10), day(20)).to_pylist()}
    said = [label.label for label in history.findings(tmp_path)["t0"].labels]
    assert told == ({"a", "b"} if said[-1] == "fraud" else set())


def test_times_of_nanoseconds_and_labels_without_a_time_of_arrival_are_read(tmp_path):
    made = Histories()
    made.pay("a", "b", 9, told=11)
    made.write(tmp_path)
    for name in (history.TRANSACTIONS, history.LABELS):
        table = pyarrow.parquet.read_table(tmp_path / name)
        if "known_at" in table.column_names:
            table = table.drop_columns(["known_at"])
        fields = [
            pa.field(each.name, pa.timestamp("ns", "UTC") if pa.types.is_timestamp(each.type) else each.type)
            for each in table.schema
        ]
        pyarrow.parquet.write_table(table.cast(pa.schema(fields)).append_column("a b", [[1]]), tmp_path / name)
    with HistoryTables(tmp_path) as tables:
        assert tables.span() == (day(9), day(9))
        assert tables.edges(VIEWS["p2p_7d"], day(10)).to_pylist() == [{"source": "a", "target": "b"}]
        assert [tables.told(day(10), day(until)).num_rows for until in (10.9, 11)] == [0, 2]


@pytest.mark.parametrize("year", [1, 9_999])
def test_a_payment_of_another_age_is_refused(tmp_path, year):
    made = Histories()
    made.pay("a", "b", 9)
    made.pay("a", "b", 9, occurred_at=datetime(year, 1, 1, tzinfo=UTC).isoformat())
    with HistoryTables(made.write(tmp_path)) as tables, pytest.raises(HistoryError, match="years 1900 to 2199"):
        tables.span()


def test_amounts_are_whole_numbers(tmp_path):
    made = Histories()
    made.pay("a", "b", 9)
    made.write(tmp_path)
    payments = pyarrow.parquet.read_table(tmp_path / history.TRANSACTIONS)
    place = payments.column_names.index("amount")
    pyarrow.parquet.write_table(payments.set_column(place, "amount", [["100"]]), tmp_path / history.TRANSACTIONS)
    with pytest.raises(HistoryError, match="amount must be a whole number"):
        HistoryTables(tmp_path)


@pytest.mark.parametrize("label", ["FRAUD", None])
def test_a_label_of_another_value_is_refused(tmp_path, label):
    made = Histories()
    made.pay("a", "b", 9, told=11)
    made.write(tmp_path)
    rows = pyarrow.parquet.read_table(tmp_path / history.LABELS)
    place = rows.column_names.index("label")
    pyarrow.parquet.write_table(rows.set_column(place, "label", [[label]]), tmp_path / history.LABELS)
    with pytest.raises(HistoryError, match="a label must be fraud or legitimate"):
        HistoryTables(tmp_path)


@pytest.mark.parametrize("file", ["transactions.parquet", "labels.parquet", "invitations.parquet"])
def test_times_without_a_zone_are_refused(tmp_path, file):
    made = Histories()
    made.pay("a", "b", 2, told=3)
    made.invite("a", "b", 1)
    made.write(tmp_path)
    table = pyarrow.parquet.read_table(tmp_path / file)
    column = "known_at" if file == "labels.parquet" else "occurred_at"
    place = table.column_names.index(column)
    naive = table.set_column(place, column, table[column].cast(pa.timestamp("us")))
    pyarrow.parquet.write_table(naive, tmp_path / file)
    with pytest.raises(HistoryError, match=f"{column} must be a time with a time zone"):
        HistoryTables(tmp_path)


@pytest.mark.parametrize("name", ["p2p_7d", "invite"])
def test_the_first_snapshot_is_not_before_the_first_payment(tmp_path, name):
    made = Histories()
    made.invite("old", "older", -20_000)
    for number in range(12):
        made.pay("a", "b", 60 + number)
    with HistoryTables(made.write(tmp_path)) as tables:
        assert lift.units(tables, VIEWS[name], day(72), RULES)[1] == []


def test_ids_may_be_whole_numbers(tmp_path):
    made = Histories()
    made.pay("1", "2", 2, told=3)
    made.invite("1", "3", 1)
    made.write(tmp_path)
    for file in ("transactions.parquet", "labels.parquet", "invitations.parquet"):
        table = pyarrow.parquet.read_table(tmp_path / file)
        for place, name in enumerate(table.column_names):
            if name in {"payer_id", "payee_id", "inviter_id", "invitee_id"}:
                table = table.set_column(place, name, table[name].cast(pa.int64()))
        pyarrow.parquet.write_table(table, tmp_path / file)
    with HistoryTables(tmp_path) as tables:
        assert views.snapshot(tables, VIEWS["p2p_7d"], day(5)).accounts.tolist() == ["1", "2"]
        assert {row["account"] for row in tables.told(day(1), day(5)).to_pylist()} == {"1", "2"}


def test_an_edge_of_exactly_one_window_ago_is_in_the_window_before(tmp_path):
    made = Histories()
    made.pay("a", "b", 2)
    with HistoryTables(made.write(tmp_path)) as tables:
        seen = [tables.edges(VIEWS["p2p_7d"], day(2 + 7 * number)).num_rows for number in (0, 1)]
    assert seen == [1, 0]


@pytest.mark.parametrize("text", ["yesterday", "0001-01-01", "9999-12-31", "2026-13-01", ""])
def test_a_time_that_is_none_is_refused_in_words(tmp_path, capsys, text):
    with pytest.raises(SystemExit) as ended:
        command.main([str(tmp_path), "--view", "invite", "--as-of", text, "--report", str(tmp_path / "r")])
    assert ended.value.code == 2
    assert f"{text!r} is no" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("main", "given"),
    [
        *((job, given) for job in (archived.main, spark.main) for given in (
            "--window 0", "--window -7", "--window nan", "--window 1e12", "--window week", "--baseline 0", "--page 0",
            "--page 1.5", "--links -5", "--links-page 0",
        )),
        *((links.main, given) for given in ("--first -1", "--first 0", "--first ten", f"--first {10**30}")),
        *((marks.main, given) for given in ("--every 0", f"--every {10**9}")),
    ],
)  # fmt: skip
def test_a_number_that_is_none_is_refused_in_words(tmp_path, capsys, main, given):
    option, text = given.split()
    places = {links.main: [tmp_path, "--as-of=2026-05-10"], marks.main: [tmp_path]}
    arguments = map(str, places.get(main, [tmp_path, tmp_path / "out", "--as-of=2026-05-10"]))
    with pytest.raises(SystemExit) as ended:
        main([*arguments, option, text])
    assert ended.value.code == 2
    assert f"argument {option}: {text!r} is no " in capsys.readouterr().err


def test_a_job_may_suggest_no_links_and_the_largest_numbers_are_taken():
    assert command.whole(0)("0") == 0
    assert command.whole()("1000000000") == command.MOST
    earliest = command.instant(f"{command.YEARS[0]}-01-01")
    assert (earliest - 2 * command.days(str(command.LONGEST))).year > 1


def test_a_report_that_cannot_be_written_is_refused(tmp_path, capsys):
    made = Histories()
    made.invite("a", "b", 1)
    made.write(tmp_path)
    (tmp_path / "file").write_text("")
    arguments = ["--view", "invite", "--as-of", "2026-06-12", "--report", str(tmp_path / "file" / "r")]
    assert command.main([str(tmp_path), *arguments]) == 2
    assert "file" in capsys.readouterr().err


def test_each_example_of_a_shape_or_typology_has_its_name(tmp_path):
    assert pictures.SHAPE_EXAMPLES.keys() == SHAPES.keys() - {"giant"}
    assert pictures.TYPOLOGY_EXAMPLES.keys() == TYPOLOGIES.keys() - {"none"}
    for kind, examples in (("shape", pictures.SHAPE_EXAMPLES), ("typology", pictures.TYPOLOGY_EXAMPLES)):
        for name, graph in examples.items():
            edges = graph.edges or [(0, 0)]
            made = shapes.graph(pa.table(dict(zip(("source", "target"), zip(*edges, strict=True), strict=True))))
            assert {row[kind] for row in shapes.table(made, shapes.find(made, directed=True)).to_pylist()} == {name}
    pictures.gallery(pictures.TYPOLOGY_EXAMPLES, tmp_path / "all.png")
    assert (tmp_path / "all.png").stat().st_size > 5_000


def test_a_large_component_is_drawn_in_part(tmp_path):
    graph = nx.DiGraph((f"a{number}", f"a{number // 2 + 1000}") for number in range(300))
    pictures.draw(graph, tmp_path / "part.png", directed=True)
    assert (tmp_path / "part.png").exists()
