"""Marks as they stood: a dataset has the mark that a payment would have met, by any engine, and none from later."""

import json
import random
import shutil
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from fraud import packaged
from fraud.counters.layout import State
from fraud.marks.mark import Mark
from fraud.scoring import features
from models.datasets import history
from models.datasets.history import HistoryError
from models.graph.marks import SCHEMA
from models.simulation.simulate import DEFAULT_START, simulate
from models.training import dataset, marked
from models.training.columns import Dataset
from models.training.replay import Replay
from tests.support.histories import day
from tests.support.payments import payment

LIFTS = ["payer_mark_lift", "payee_mark_lift"]
PLACES = [features.NAMES.index(name) for name in LIFTS]
RULE = {
    "id": "marked", "version": 1, "code": "ACCOUNT_MARKED", "outcome": "review",
    "expression": "standing.payer_mark == 'invite/star' && standing.payer_mark_lift >= 5.0",
}  # fmt: skip


def rows_of(rng: random.Random, accounts: list[str], times: list[datetime]) -> list[dict[str, object]]:
    """Return marks of random accounts for random times, and one snapshot that marks nobody."""
    rows: list[dict[str, object]] = []
    for number, at in enumerate(times, 1):
        if number == 3:
            rows.append({"as_of": at, "expires_at": at, "snapshot": number})
            continue
        for account in rng.sample(accounts, len(accounts) // 2):
            shape, lift = rng.choice(["star", "tree"]), rng.choice([3.25, 5.5, 11.0])
            ends = at + timedelta(hours=rng.choice([5, 30, 500]))
            rows.append(
                {"account": account, "view": "invite", "shape": shape, "lift": lift, "as_of": at, "expires_at": ends,
                 "snapshot": number}
            )  # fmt: skip
    return rows


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> Path:
    """Four days, of which every seventh payment arrives late, with marks of half of the accounts."""
    directory = tmp_path_factory.mktemp("marked")
    history.write(directory, history.of(simulate(3, DEFAULT_START, 4, 40, crime=10)))
    path = directory / history.TRANSACTIONS
    table = pyarrow.parquet.read_table(path)
    late = pa.array([timedelta(hours=6 * (n % 7 == 0)) for n in range(len(table))], pa.duration("us"))
    table = table.append_column(history.ARRIVED_AT, pa.compute.add(table["occurred_at"], late))
    table = table.sort_by([(history.ARRIVED_AT, "ascending"), ("transaction_id", "ascending")])
    pyarrow.parquet.write_table(table, path)
    accounts = sorted({name for side in ("payer_id", "payee_id") for name in table[side].to_pylist() if name})
    on_time = [row for row in table.to_pylist() if row["occurred_at"] == row[history.ARRIVED_AT]]
    paid = on_time[len(on_time) // 2]
    own = paid["occurred_at"]  # a payment at the very time of a snapshot, which marks its payer
    times = [DEFAULT_START + timedelta(hours=hours) for hours in (1, 20, 50)]
    times = sorted([*times, own, own + timedelta(hours=9)])
    drawn = rows_of(random.Random(5), [name for name in accounts if name != paid["payer_id"]], times)
    drawn.append(drawn[-1] | {"account": paid["payer_id"], "as_of": own, "snapshot": times.index(own) + 1})
    rows = pa.Table.from_pylist(drawn, SCHEMA)
    pyarrow.parquet.write_table(rows, directory / history.MARKS)
    return directory


def expected(directory: Path) -> list[tuple[float, float]]:
    """Return the lifts of each payment, by the words of the module."""
    rows = pyarrow.parquet.read_table(directory / history.MARKS).to_pylist()
    found = []
    for paid in pyarrow.parquet.read_table(directory / history.TRANSACTIONS).to_pylist():
        last = max((row["snapshot"] for row in rows if row["as_of"] < paid[history.ARRIVED_AT]), default=0)
        held = {
            row["account"]: row["lift"]
            for row in rows
            if row["snapshot"] == last and row["as_of"] <= paid["occurred_at"] < row["expires_at"] and row["account"]
        }
        found.append((held.get(paid["payer_id"], 0.0), held.get(paid["payee_id"], 0.0)))
    return found


def test_both_engines_find_the_mark_that_stood_and_write_the_same_files(recorded, tmp_path):
    policy = json.loads(packaged.policy("JPY").read_bytes())
    (tmp_path / "policy.json").write_text(json.dumps(policy | {"rules": [*policy["rules"], RULE]}))
    built = {}
    for engine in ("replay", "sql"):
        out = tmp_path / engine
        arguments = [str(recorded), str(out), "--engine", engine, "--policy", str(tmp_path / "policy.json")]
        assert dataset.main(arguments) == 0
        built[engine] = {path.name: path.read_bytes() for path in sorted(out.rglob("*.*")) if path.is_file()}
    assert built["replay"] == built["sql"]
    found = Dataset.load(tmp_path / "sql")
    names = pyarrow.parquet.read_table(recorded / history.TRANSACTIONS)["transaction_id"].to_pylist()
    lifts = dict(zip(names, expected(recorded), strict=True))
    assert [lifts[name] for name in found.transaction_id.tolist()] == [*map(tuple, found.features[:, PLACES].tolist())]
    marked_ones = [each for each in lifts.values() if each[0]]
    assert 0.1 * len(lifts) < len(marked_ones) < 0.9 * len(lifts)
    assert (found.rules > 0).sum() > len(lifts) / 50  # some are marked, and the rule hits


def test_later_snapshots_change_no_earlier_row(recorded, tmp_path):
    rows = pyarrow.parquet.read_table(recorded / history.MARKS)
    shutil.copy(recorded / history.TRANSACTIONS, tmp_path)
    shutil.copy(recorded / history.LABELS, tmp_path)
    pyarrow.parquet.write_table(rows.filter(pa.compute.field("snapshot") < 5), tmp_path / history.MARKS)
    before = expected(tmp_path)
    changed = [place for place, (one, two) in enumerate(zip(before, expected(recorded), strict=True)) if one != two]
    last = rows.filter(pa.compute.field("snapshot") == 5)["as_of"][0].as_py()
    arrived = pyarrow.parquet.read_table(recorded / history.TRANSACTIONS)[history.ARRIVED_AT].to_pylist()
    assert changed
    assert all(arrived[place] > last for place in changed)


def test_a_payment_at_the_very_time_of_a_snapshot_is_in_it_and_not_marked_by_it():
    mark = Mark(1, "invite", "star", 7.5, day(1), day(9))
    run = Replay(marks=[marked.Published(1, day(1), {"payer-1": mark})])

    class Paid:
        labels = ()
        tactic = None

        def __init__(self, number: int, at: float) -> None:
            self.transaction = payment(transaction_id=f"t-{number}", occurred_at=day(at))

    lifts = [dict(zip(features.NAMES, run.row(Paid(n, at)).vector, strict=True)) for n, at in enumerate((1, 1.001, 9))]
    assert [each["payer_mark_lift"] for each in lifts] == [0, 7.5, 0]
    assert [each["payee_mark_lift"] for each in lifts] == [0, 0, 0]


def test_a_decision_has_the_lifts_of_the_snapshot_that_the_stack_believes():
    mark = Mark(3, "invite", "star", 7.5, day(1), day(9))
    paid = payment(occurred_at=day(2))
    profiles = {"account#payee-1": {"mark_b": mark.row}}
    assert features.lifts_of(paid, State({}, profiles, snapshot=3)) == features.Lifts(0, 7.5)
    assert features.lifts_of(paid, State({}, profiles, snapshot=4)) == features.UNMARKED
    assert features.lifts_of(paid, State({}, profiles)) == features.UNMARKED


@pytest.mark.parametrize("broken", ["no column", "no table", "two times", "order"])
def test_marks_that_are_none_are_refused(broken, tmp_path):
    row = {"account": "a", "view": "v", "shape": "star", "lift": 3.0, "as_of": day(1), "expires_at": day(2)}
    rows = [row | {"snapshot": 1}, row | {"snapshot": 2, "as_of": day(3)}]
    path = tmp_path / history.MARKS
    if broken == "no table":
        path.write_bytes(b"none")
    else:
        if broken == "two times":
            rows[1]["snapshot"] = 1
        if broken == "order":
            rows[1]["as_of"] = day(0)
        table = pa.Table.from_pylist(rows, SCHEMA)
        pyarrow.parquet.write_table(table.drop_columns("lift") if broken == "no column" else table, path)
    with pytest.raises(HistoryError, match=history.MARKS):
        marked.read(tmp_path)


def test_a_history_without_marks_has_none(tmp_path):
    assert marked.read(tmp_path) == []
