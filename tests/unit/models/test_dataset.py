"""Training data equal the inputs of decisions at the same time, and no label is known before its report."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud import packaged
from fraud.counters.in_memory import InMemoryCounters
from fraud.counters.layout import DAY
from fraud.counters.windows import NAMES as COUNTERS
from fraud.counters.windows import measure
from fraud.labels.label import Label, Parties
from fraud.outcome import worst
from fraud.rules import rule_book as rules
from fraud.rules.rule_book import RuleBook
from fraud.scoring import features
from fraud.transaction import Transaction
from models.datasets import history
from models.datasets.history import HistoryError
from models.simulation.simulate import DEFAULT_START, Labelled, simulate
from models.training import dataset
from models.training.columns import COLUMNS, NEVER, STATED, Dataset, known_as_fraud
from models.training.replay import replay
from tests.support import payments as made


@pytest.fixture(scope="module")
def payments() -> list[Labelled]:
    """Five days with many frauds, in order of arrival: every seventh payment arrives twelve hours late."""
    late = timedelta(hours=12).total_seconds()
    simulated = list(simulate(3, DEFAULT_START, 5, 60, crime=10))
    arrival = {id(p): epoch(p) + (late if n % 7 == 0 else 0) for n, p in enumerate(simulated)}
    return sorted(simulated, key=lambda payment: arrival[id(payment)])


@pytest.fixture(scope="module")
def built(payments) -> Dataset:
    return Dataset.build(payments)


def epoch(payment: Labelled) -> float:
    return datetime.fromisoformat(payment.transaction["occurred_at"]).timestamp()


def decided(payments: Sequence[Labelled], *, labels: bool) -> Iterator[bytes]:
    """Yield the feature snapshots that decisions store when every fraud is labelled at the time of its report."""
    counters = InMemoryCounters()
    reports = sorted((p for p in payments if labels and p.label == "fraud"), key=lambda p: p.reported_at)
    arrived: set[str] = set()
    for payment in payments:
        transaction = Transaction.model_validate(payment.transaction)
        for report in [one for one in reports if one.reported_at <= transaction.occurred_at]:
            fraud = Transaction.model_validate(report.transaction)
            if fraud.transaction_id in arrived:
                for move in Parties.of(fraud).moves(int(report.reported_at.timestamp()) // DAY, 1):
                    counters.learn(*move)
                reports.remove(report)
        arrived.add(transaction.transaction_id)
        yield features.pack(features.vector(transaction, measure(transaction, counters.count(transaction))))


def test_vectors_equal_those_of_decisions_that_know_the_frauds_reported_by_then(payments, built):
    assert list(decided(payments, labels=True)) == [vector.tobytes() for vector in built.features]
    frauds = built.features[:, [name.startswith("payee_frauds") for name in features.NAMES]]
    assert (frauds.max(axis=1) > 0).sum() > 20


def test_without_labels_every_fraud_counter_is_zero(payments):
    rows = [row for _, row in replay(payments, labels=False)]
    assert [features.pack(row.vector) for row in rows] == list(decided(payments, labels=False))
    assert not any(row.counters[name] for row in rows for name in row.counters if "_frauds_" in name)


def test_columns_hold_the_values_of_the_payments(payments, built):
    assert len(built) == len(payments)
    assert built.amount.tolist() == [payment.transaction["amount"] for payment in payments]
    assert built.occurred_at.tolist() == [int(epoch(payment)) for payment in payments]
    assert built.fraud.tolist() == [payment.label == "fraud" for payment in payments]
    assert built.tactic.tolist() == [payment.tactic or "" for payment in payments]
    assert built.fraud.any()


@given(st.integers(-(10**6), 10**7))
@settings(deadline=None)
def test_a_label_is_known_from_its_report_on_and_not_before(built, seconds):
    cutoff = int(DEFAULT_START.timestamp()) + seconds
    labels = built.labels(cutoff)
    assert not labels[built.known_from > cutoff].any()
    assert (labels == built.fraud)[built.known_from <= cutoff].all()


def test_a_report_within_a_second_is_known_from_the_next_whole_second(payments):
    reported = datetime(2026, 3, 4, 5, 6, 7, 1_000, tzinfo=UTC)
    one = Dataset.build([replace(payments[0], label="fraud", tactic="x", reported_at=reported)])
    second = int(reported.timestamp())
    assert [bool(one.labels(cutoff)[0]) for cutoff in (second, second + 1)] == [False, True]


def test_a_period_includes_its_start_and_excludes_its_end(built):
    start, end = built.occurred_at[100], built.occurred_at[200]
    part = built.between(start, end)
    assert part.occurred_at.min() == start
    assert part.occurred_at.max() < end
    assert len(part) + len(built.between(0, start)) + len(built.between(end, 2**40)) == len(built)


def test_the_rules_judge_each_payment_as_a_decision_does(payments, built):
    rule_book = RuleBook.load(packaged.policy("JPY").read_bytes())
    judged = [rule_book.judge(rules.inputs(*row)) for _, row in replay(payments)]
    assert built.rules.tolist() == [worst([hit.outcome for hit in one.hits]).severity() for one in judged]
    assert built.asked.tolist() == [one.segment.model for one in judged]
    assert built.segment.tolist() == [one.segment.id for one in judged]
    assert len({*built.rules.tolist()}) > 1
    assert built.policy == rule_book.version


def test_payers_are_told_apart_and_not_named(payments, built):
    names = [payment.transaction["payer_id"] for payment in payments]
    assert len({*zip(names, built.payer.tolist(), strict=True)}) == len({*names}) == len({*built.payer.tolist()})


# --- files ------------------------------------------------------------------------------------------------------------
def test_a_stored_dataset_is_read_back_unchanged(built, tmp_path):
    built.save(tmp_path / "train")
    read = Dataset.load(tmp_path / "train")
    for column in fields(Dataset):
        ours, theirs = (getattr(one, column.name) for one in (read, by_day(built)))
        np.testing.assert_array_equal(ours, theirs)


def by_day(built: Dataset) -> Dataset:
    """Return the rows sorted by day: late arrivals stand in the file of their own day."""
    return built.take(np.argsort(built.occurred_at // DAY, kind="stable"))


def test_a_dataset_of_other_features_is_refused(built, tmp_path):
    built.save(tmp_path / "train")
    stated = tmp_path / "train" / STATED
    stated.write_text(stated.read_text().replace(features.fingerprint(), "0" * 16))
    with pytest.raises(HistoryError, match="other features"):
        Dataset.load(tmp_path / "train")


@pytest.mark.parametrize("damage", ["nothing there", "not json", "half a day", "unfinished"])
def test_a_damaged_dataset_is_one_line_that_names_the_place(built, tmp_path, damage):
    place = tmp_path / "train"
    if damage != "nothing there":
        built.save(place)
    if damage == "not json":
        (place / STATED).write_text("{")
    if damage == "half a day":
        day = next((place / "days").iterdir())
        day.write_bytes(day.read_bytes()[:100])
    if damage == "unfinished":
        (place / STATED).write_text((place / STATED).read_text().replace("true", "false", 1))
    with pytest.raises(HistoryError) as error:
        Dataset.load(place)
    assert str(place) in str(error.value)
    assert "\n" not in str(error.value)


# --- labels over time -------------------------------------------------------------------------------------------------
def label(value: str, hours: int, source: str = "analyst") -> Label:
    at = DEFAULT_START + timedelta(hours=hours)
    return Label(value, at, source, at, source)


@given(st.lists(st.tuples(st.sampled_from(["fraud", "legitimate"]), st.integers(0, 50)), max_size=6, unique=True))
def test_a_payment_counts_as_fraud_between_the_first_report_and_the_last_correction(said):
    labels = [label(value, hours) for value, hours in sorted(said, key=lambda one: one[1])]
    since, until = known_as_fraud(labels)
    first = min((one.known_at for one in labels if one.label == "fraud"), default=None)
    start = int(DEFAULT_START.timestamp())
    assert since == (NEVER if first is None else int(first.timestamp()))
    assert (until == NEVER) == (not labels or first is None or latest(labels).label == "fraud")
    assert until == NEVER or since <= until <= start + 50 * 3600


def latest(labels: Sequence[Label]) -> Label:
    return max(reversed(labels), key=lambda one: one.reported_at)


# --- a HISTORY_DIR ----------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> Path:
    """A HISTORY_DIR of seven days with many frauds."""
    directory = tmp_path_factory.mktemp("recorded")
    history.write(directory, history.of(simulate(3, DEFAULT_START, 7, 60, crime=10)))
    return directory


def test_the_dataset_of_a_history_is_that_of_its_payments_in_memory(recorded, tmp_path, capsys):
    assert dataset.main([str(recorded), str(tmp_path / "out")]) == 0
    read, expected = Dataset.load(tmp_path / "out"), Dataset.build(simulate(3, DEFAULT_START, 7, 60, crime=10))
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(read, name), getattr(expected, name))
    assert (read.currency, read.policy) == (expected.currency, expected.policy)
    assert f"{len(read):,} rows; 0 days of warm-up" in capsys.readouterr().out
    table = pyarrow.parquet.read_table(tmp_path / "out" / "days" / "2026-03-02.parquet")
    every = replay(simulate(3, DEFAULT_START, 7, 60, crime=10))
    rows = [row for payment, row in every if payment.transaction["occurred_at"].startswith("2026-03-02")]
    assert table["counters"].to_pylist() == [[row.counters[name] for name in COUNTERS] for row in rows]


def test_labels_of_payments_that_are_not_in_the_history_are_told(recorded, tmp_path, capsys):
    directory = tmp_path / "history"
    shutil.copytree(recorded, directory)
    labels = pyarrow.parquet.read_table(directory / history.LABELS)
    names = [f"gone-{n}" if n < 3 else name for n, name in enumerate(labels["transaction_id"].to_pylist())]
    labels = labels.set_column(labels.column_names.index("transaction_id"), "transaction_id", pa.array(names))
    pyarrow.parquet.write_table(labels, directory / history.LABELS)
    assert dataset.main([str(directory), str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.endswith("\n3 labels name no payment of the history\n")


def test_days_before_the_first_only_fill_the_counters(recorded, tmp_path):
    days = ["--from", "2026-03-04", "--to", "2026-03-06"]
    assert dataset.main([str(recorded), str(tmp_path / "all"), *days]) == 0
    assert dataset.main([str(recorded), str(tmp_path / "one"), *days, "--warmup-days", "1"]) == 0
    whole, cold = Dataset.load(tmp_path / "all"), Dataset.load(tmp_path / "one")
    start = int(DEFAULT_START.timestamp())
    expected = Dataset.build(simulate(3, DEFAULT_START, 7, 60, crime=10)).between(start + 3 * DAY, start + 5 * DAY)
    np.testing.assert_array_equal(whole.features, expected.features)
    assert cold.transaction_id.tolist() == whole.transaction_id.tolist()
    age = features.NAMES.index("payer_age_log")
    assert (cold.features[:, age] <= whole.features[:, age]).all()
    assert (cold.features[:, age] < whole.features[:, age]).any()


def test_an_interrupted_run_goes_on_at_the_missing_day(recorded, tmp_path):
    whole, rest = tmp_path / "whole", tmp_path / "rest"
    dataset.main([str(recorded), str(whole)])
    dataset.main([str(recorded), str(rest)])
    for day in sorted((rest / "days").iterdir())[3:]:
        day.unlink()
    kept = sorted((rest / "days").iterdir())
    times = [day.stat().st_mtime_ns for day in kept]
    with pytest.raises(HistoryError, match="2026-03-04"):
        Dataset.load(rest)
    assert dataset.main([str(recorded), str(rest)]) == 0
    assert [day.stat().st_mtime_ns for day in kept] == times
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(Dataset.load(rest), name), getattr(Dataset.load(whole), name))


def test_a_directory_of_another_dataset_is_left_alone(recorded, tmp_path, capsys):
    assert dataset.main([str(recorded), str(tmp_path / "out"), "--to", "2026-03-03"]) == 0
    assert dataset.main([str(recorded), str(tmp_path / "out")]) == 2
    assert "another history, span, policy or code" in capsys.readouterr().err
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    assert dataset.main([str(recorded), str(tmp_path / "other")]) == 2
    assert "other files" in capsys.readouterr().err


def rewritten(recorded: Path, to: Path, change) -> Path:
    """Return a copy of the history with its payments changed, as rows of a table."""
    to.mkdir()
    shutil.copy(recorded / history.LABELS, to)
    table = pyarrow.parquet.read_table(recorded / history.TRANSACTIONS)
    pyarrow.parquet.write_table(change(table), to / history.TRANSACTIONS)
    return to


def with_amount(table: pa.Table, amount: int) -> pa.Table:
    amounts = table["amount"].to_pylist()
    amounts[4] = amount
    return table.set_column(table.schema.get_field_index("amount"), "amount", pa.array(amounts))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda table: table.take(pa.array([5, *range(5)])), "row 2: occurred_at is before that of the row above"),
        (lambda table: with_amount(table, 0), "row 5: amount:"),
        (lambda table: table.drop_columns("payer_id"), "row 1: payer_id:"),
        (lambda table: table.slice(0, 0), "has no payments"),
        (lambda table: table.rename_columns([f"{n}s" for n in table.column_names]), "occurred_at"),
    ],
)
def test_a_history_that_cannot_be_read_is_one_line_and_exit_2(recorded, tmp_path, capsys, change, said):
    broken = rewritten(recorded, tmp_path / "broken", change)
    assert dataset.main([str(broken), str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert history.TRANSACTIONS in line


def relabelled(recorded: Path, to: Path, change) -> Path:
    """Return a copy of the history with its labels changed, as rows of a table."""
    to.mkdir()
    shutil.copy(recorded / history.TRANSACTIONS, to)
    pyarrow.parquet.write_table(change(pyarrow.parquet.read_table(recorded / history.LABELS)), to / history.LABELS)
    return to


def with_label(table: pa.Table, name: str, value: object) -> pa.Table:
    """Return the table with another value in the third row of a column."""
    values = table[name].to_pylist()
    values[2] = value
    return table.set_column(table.schema.get_field_index(name), name, pa.array(values, table.schema.field(name).type))


NEEDED = ("label", "transaction_id", "known_at", "payer_id", "source", "reported_at")
"""Columns of labels.parquet of which no value may be missing."""


def retyped(table: pa.Table, name: str, kind: pa.DataType) -> pa.Table:
    return table.set_column(table.schema.get_field_index(name), name, table[name].cast(kind))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda table: with_label(table, "label", "FRAUD"), "row 3 of 8"),
        (lambda table: with_label(table, "label", "chargeback"), "label must be fraud or legitimate"),
        *(
            (lambda table, n=n: with_label(table, n, None), f"{n} is missing")
            for n in ("label", "transaction_id", "known_at")
        ),
        *(
            (lambda table, n=n: with_label(table, n, None), f"{n} is missing")
            for n in ("payer_id", "source", "reported_at")
        ),
        (
            lambda table: with_label(table, "known_at", datetime(2020, 1, 1, tzinfo=UTC)),
            "known_at lies before occurred_at",
        ),
        (lambda table: table.drop_columns("reported_at"), "lacks the columns reported_at"),
        (lambda table: retyped(table, "known_at", pa.timestamp("us")), "known_at must be a time with a time zone"),
        (lambda table: retyped(table, "known_at", pa.string()), "known_at must be a time with a time zone"),
    ],
)
def test_a_label_that_cannot_be_used_is_one_line_and_exit_2(recorded, tmp_path, capsys, change, said):
    broken = relabelled(recorded, tmp_path / "broken", change)
    assert dataset.main([str(broken), str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert len(line) < 400


@pytest.mark.parametrize(
    "change",
    [
        lambda table: table.drop_columns("known_at"),
        lambda table: table.drop_columns("tactic"),
        lambda table: retyped(table, "known_at", pa.timestamp("ns", "Asia/Tokyo")),
        lambda table: table.take(pa.array(range(len(table) - 1, -1, -1))),
    ],
    ids=["without known_at", "without tactic", "nanoseconds elsewhere", "backwards"],
)
def test_labels_of_other_shapes_say_the_same(recorded, tmp_path, change):
    assert dataset.main([str(relabelled(recorded, tmp_path / "other", change)), str(tmp_path / "out")]) == 0
    expected = Dataset.build(simulate(3, DEFAULT_START, 7, 60, crime=10))
    np.testing.assert_array_equal(Dataset.load(tmp_path / "out").features, expected.features)


def twice(table: pa.Table) -> pa.Table:
    return table.take(pa.array([0, 1, 1, *range(2, len(table))]))


def in_rupees_later(table: pa.Table) -> pa.Table:
    half = len(table) // 2
    codes = pa.array(["JPY"] * half + ["INR"] * (len(table) - half))
    return table.set_column(table.schema.get_field_index("currency"), "currency", codes)


@pytest.mark.parametrize(
    ("change", "said"), [(twice, "stands twice"), (in_rupees_later, "amounts in JPY and INR: one is needed")]
)
def test_a_payment_twice_and_a_second_currency_are_refused(recorded, tmp_path, capsys, change, said):
    assert dataset.main([str(rewritten(recorded, tmp_path / "broken", change)), str(tmp_path / "out")]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("content", ["[]", "{", "7"])
def test_a_damaged_description_of_a_dataset_is_one_line(recorded, tmp_path, capsys, content):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / STATED).write_text(content)
    assert dataset.main([str(recorded), str(tmp_path / "out")]) == 2
    assert "is damaged" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert dataset.main([str(recorded), str(tmp_path / "file")]) == 2


def test_missing_files_and_empty_spans_are_one_line_and_exit_2(recorded, tmp_path, capsys):
    nowhere = [str(tmp_path / "nowhere"), str(tmp_path / "out")]
    assert dataset.main(nowhere) == 2
    assert dataset.main([str(recorded), str(tmp_path / "out"), "--from", "2026-03-05", "--to", "2026-03-05"]) == 2
    assert dataset.main([str(recorded), str(tmp_path / "late"), "--from", "2027-03-05", "--to", "2027-03-09"]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 3
    assert "must be before --to" in errors[1]
    assert "no payments between" in errors[2]


def test_counters_that_are_forgotten_day_by_day_measure_the_same(payments):
    rows = {p.transaction["transaction_id"]: row.counters for p, row in replay(payments)}
    counters, forgetful = InMemoryCounters(), InMemoryCounters()
    for n, payment in enumerate(payments):
        transaction = Transaction.model_validate(payment.transaction)
        if n % 50 == 0:
            forgetful.forget(transaction.epoch // DAY)
        kept, forgot = (measure(transaction, each.count(transaction)) for each in (counters, forgetful))
        assert kept == forgot
    assert len(rows) == len(payments)


def test_memory_grows_with_entities_and_not_with_payments():
    counters = InMemoryCounters()
    for day in range(80):
        for n in range(4):
            at = made.NOON + timedelta(days=day)
            paid = made.payment(transaction_id=f"t-{day}-{n}", payer_id=f"payer-{n}", occurred_at=at)
            counters.count(paid)
        counters.forget(paid.epoch // DAY)
        if day == 75:
            most = len(counters.items)
    assert len(counters.items) <= most + 4
