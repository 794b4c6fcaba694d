"""A dataset from the archive is the one of a replay, and a check names what differs."""

import json
import random
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from fraud.archive import schema
from fraud.archive.record import pseudonym, resolution_rows
from fraud.counters.keys import DECLARED
from fraud.decisions.record import Contents
from fraud.decisions.resolution import MOVES, Resolution, StatusChange
from fraud.outcome import Outcome
from fraud.scoring import features
from fraud.transaction import Transaction, utc
from local import archive
from local import simulated_archive as made
from models.datasets.history import HistoryError
from models.simulation.simulate import DEFAULT_START, Labelled, simulate
from models.training import archived
from models.training.columns import Dataset

SAME = ("features", "occurred_at", "known_from", "known_until", "amount", "segment", "asked", "rules")


@pytest.fixture(scope="module")
def payments() -> list[Labelled]:
    return list(simulate(3, DEFAULT_START, 3, 60, crime=20))


@pytest.fixture(scope="module")
def whole(payments, tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("archive")
    made.write(directory, payments)
    return directory


@pytest.fixture
def directory(whole, tmp_path) -> Path:
    """Return a copy of the archive, for a test that changes it."""
    return Path(shutil.copytree(whole, tmp_path / "archive"))


def changed(directory: Path, change) -> None:
    """Change the rows of the first day's decisions in place."""
    path = min((directory / "decisions").rglob("*.parquet"))
    table = pyarrow.parquet.ParquetFile(path).read()
    pyarrow.parquet.write_table(pa.Table.from_pylist(change(table.to_pylist()), table.schema), path)


def changed_all(directory: Path, table: str, change) -> None:
    """Change the rows of a table in place."""
    for path in (directory / table).rglob("*.parquet"):
        known = pyarrow.parquet.ParquetFile(path).read()
        pyarrow.parquet.write_table(pa.Table.from_pylist(change(known.to_pylist()), known.schema), path)


def frauds_only(directory: Path) -> None:
    """Take all labels away that do not say fraud: nobody says of an honest payment that it is one."""
    changed_all(directory, "labels", lambda rows: [row for row in rows if row["label"] == "fraud"])


def test_the_dataset_of_an_archive_is_that_of_a_replay(payments, whole):
    expected, found = Dataset.build(payments), archived.dataset(whole)
    assert found.fraud.any()
    for name in SAME:
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)
    assert (found.currency, found.policy) == (expected.currency, expected.policy)
    for name in ("payer", "payee"):  # other numbers, but the same accounts
        _, one = np.unique(getattr(found, name), return_inverse=True)
        _, other = np.unique(getattr(expected, name), return_inverse=True)
        assert len(set(zip(one.tolist(), other.tolist(), strict=True))) == one.max() + 1 == other.max() + 1


def test_copies_of_a_row_change_nothing(payments, directory):
    changed(directory, lambda rows: rows * 3)
    assert len(archived.dataset(directory)) == len(payments)
    assert archived.check(directory, 10_000).rows == len(payments)


def test_a_check_of_what_was_decided_one_after_another_finds_no_difference(payments, whole):
    checked = archived.check(whole, 10_000)
    assert checked == (len(payments), len(payments), 0, {}, 0.0)
    assert archived.check(whole, 50).compared == len(payments[:: len(payments) // 50])


def test_a_check_names_what_differs(directory):
    def spoilt(rows):
        first, second = rows[0]["features"], rows[1]["features"]
        first[features.NAMES.index("is_merchant")] += 2
        second[features.NAMES.index("is_merchant")] = None
        return rows

    changed(directory, spoilt)
    checked = archived.check(directory, 10_000)
    assert (checked.differing, checked.features, checked.largest) == (2, {"is_merchant": 2}, float("inf"))
    assert "is_merchant (2)" in checked.told()


def test_marks_are_taken_as_they_were_met_because_an_archive_does_not_say_who_was_marked(directory):
    def met(rows):
        for row in rows[::5]:
            row["features"][features.NAMES.index("payer_mark_lift")] = 7.5
        return rows

    changed(directory, met)
    checked = archived.check(directory, 10_000)
    assert checked.differing == 0
    column = archived.dataset(directory).features[:, features.NAMES.index("payer_mark_lift")]
    assert set(column.tolist()) == {0.0, 7.5}


def test_features_of_other_code_are_refused_by_name(directory):
    changed(directory, lambda rows: [row | {"fingerprint": "of-old"} for row in rows])
    with pytest.raises(HistoryError, match=r"features of other code \(of-old\)"):
        archived.dataset(directory)


def test_amounts_in_two_currencies_are_refused(directory):
    changed(directory, lambda rows: [rows[0] | {"currency": "INR"}, *rows[1:]])
    with pytest.raises(HistoryError, match="INR and JPY"):
        archived.dataset(directory)


def test_an_archive_without_decisions_or_with_a_damaged_file_is_refused(directory, tmp_path):
    with pytest.raises(HistoryError, match="no decisions"):
        archived.dataset(tmp_path / "nothing")
    min((directory / "decisions").rglob("*.parquet")).write_bytes(b"PAR1")
    with pytest.raises(HistoryError, match="cannot be read"):
        archived.dataset(directory)


def test_an_archive_without_labels_knows_no_fraud(directory):
    shutil.rmtree(directory / schema.LABELS.name)
    assert not archived.dataset(directory).fraud.any()


def resolved(payments: list[Labelled], outcomes: dict[str, str], rng: random.Random) -> dict[str, Resolution]:
    """Draw what became of decisions, by the pseudonym of the transaction: any changes that their states allow."""
    found = {}
    for each in payments:
        payment = Transaction.model_validate(each.transaction)
        name = str(pseudonym(DECLARED, "transaction", payment.transaction_id))
        state = Resolution(Outcome(outcomes[name]), utc(payment.occurred_at))
        for _ in range(rng.randrange(4)):
            if moves := MOVES[state.status]:
                change = rng.choice([*moves])
                made_ = StatusChange(at=utc(payment.occurred_at), change=change, outcome=Outcome.APPROVE, by="payment")
                state = state._replace(changes=(*state.changes, made_))
        found[name] = state
    return found


@settings(max_examples=10, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(st.randoms(use_true_random=False))
def test_payments_that_moved_no_money_in_the_end_and_have_no_label_are_left_out(payments, whole, tmp_path_factory, rng):
    directory = Path(shutil.copytree(whole, tmp_path_factory.mktemp("resolved") / "archive"))
    frauds_only(directory)
    with archive.database(directory) as found:
        outcomes = dict(found.execute("SELECT transaction, outcome FROM decisions").fetchall())
        labelled = {name for (name,) in found.execute("SELECT transaction FROM labels").fetchall()}
    states = resolved(payments, outcomes, rng)
    contents = {
        pseudonym(DECLARED, "transaction", each.transaction["transaction_id"]): Contents(
            Transaction.model_validate(each.transaction).canonical, b"[]", b"{}"
        )
        for each in payments
    }
    changes = [row for name, state in states.items() for row in resolution_rows(DECLARED, contents[name], state, 0)]
    rows = [*changes, *changes[::2]]
    rng.shuffle(rows)
    archive.write(directory, schema.RESOLUTIONS, rows)
    built = archived.dataset(directory)
    weighed, left = archived.told(directory, built)
    kept = weighed.weighed()
    assert len(weighed) == len(built)
    ends = {name: state.status.value for name, state in states.items()}
    assert archived.became(directory, built).tolist() == [ends[name] for name in built.transaction_id.tolist()]
    wanted = {name for name, end in ends.items() if name in labelled or end in {"approved", "settled"}}
    assert set(kept.transaction_id.tolist()) == wanted
    assert left == Counter(end for name, end in ends.items() if name not in wanted)


def test_a_fraud_that_was_declined_is_kept_and_an_honest_payment_of_which_nobody_told_is_not(directory):
    frauds_only(directory)
    changed_all(directory, "decisions", lambda rows: [row | {"outcome": "decline"} for row in rows])
    built = archived.dataset(directory)
    weighed, left = archived.told(directory, built)
    kept = weighed.weighed()
    assert kept.fraud.all()
    assert kept.fraud.sum() == built.fraud.sum() > 0
    assert left == {"declined": len(built) - len(kept)}


def test_an_archive_of_which_nothing_is_known_is_refused(directory):
    changed_all(directory, "decisions", lambda rows: [row | {"outcome": "decline"} for row in rows])
    shutil.rmtree(directory / schema.LABELS.name)
    with pytest.raises(HistoryError, match="no payment has moved money"):
        archived.told(directory, archived.dataset(directory))


def test_a_payment_of_the_hold_out_stands_for_its_like_and_those_that_were_declined_for_none(directory):
    held = iter(range(10**9))
    shares = {0: ("approve", 0.25), 1: ("decline", 0.25)}

    def some(rows):
        return [row | dict(zip(("outcome", "hold_out"), shares.get(next(held) % 7, ("approve", None)), strict=True))
                for row in rows]  # fmt: skip

    changed_all(directory, "decisions", some)
    built = archived.dataset(directory)
    weighed, _ = archived.told(directory, built)
    assert sorted(set(weighed.weight.tolist())) == [0.0, 1.0, 4.0]
    chosen = [float(weight) for weight in weighed.weight]
    rows = archived._read(directory, schema.DECISIONS).to_pylist()
    expected = {row["transaction"]: {("approve", 0.25): 4.0, ("decline", 0.25): 0.0}.get(
        (row["outcome"], row["hold_out"]), 1.0) for row in rows}  # fmt: skip
    assert chosen == [expected[name] for name in weighed.transaction_id.tolist()]
    weighed.save(directory / "out")
    read = Dataset.load(directory / "out")
    assert len(Dataset.load(directory / "out", unweighed=True)) == len(built) > len(read)
    assert read.weight.tolist() == [weight for weight in chosen if weight]


def test_the_command_leaves_out_what_nobody_told_of_and_says_how_many(payments, directory, tmp_path, capsys):
    frauds_only(directory)
    changed(directory, lambda rows: [row | {"outcome": "decline"} for row in rows])
    assert archived.main([str(directory), str(tmp_path / "out"), "--check", "0"]) == 0
    said = capsys.readouterr().out
    left = len(payments) - len(Dataset.load(tmp_path / "out"))
    assert f"{left:,} rows left out, which moved no money and have no label: " in said
    assert " declined" in said
    assert archived.main([str(directory), str(tmp_path / "all"), "--check", "0", "--all"]) == 0
    assert "left out" not in capsys.readouterr().out
    assert len(Dataset.load(tmp_path / "all")) == len(payments) > len(payments) - left


def test_the_command_writes_a_dataset_that_training_reads(payments, whole, tmp_path, capsys):
    assert archived.main([str(whole), str(tmp_path / "out"), "--check", "100"]) == 0
    said = capsys.readouterr().out
    assert f"{len(payments):,} rows" in said
    assert "0 of" in said
    assert len(Dataset.load(tmp_path / "out")) == len(payments)
    assert json.loads((tmp_path / "out" / "dataset.json").read_text())["currency"] == "JPY"
    assert archived.main([str(tmp_path / "none"), str(tmp_path / "out2")]) == 2
    assert "no decisions" in capsys.readouterr().err
