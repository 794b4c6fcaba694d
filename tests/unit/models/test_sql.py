"""The SQL program counts what the replay counts: late payments, equal times, labels at any time, crowds."""

import random
import shutil
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from fraud.counters import sampling, windows
from fraud.counters.layout import DAY
from fraud.counters.windows import NAMES
from fraud.scoring import features
from fraud.transaction import MAX_AGE, UNITS, Transaction
from models.datasets import history
from models.datasets.history import HistoryError, Known
from models.simulation.simulate import DEFAULT_START, simulate
from models.training import dataset, measures, sql
from models.training.days import Span
from models.training.engines import Counted, DuckDb
from models.training.replay import Replay, Row
from models.training.rows import labelled
from tests.support import payments as made
from tests.support.folders import NAMES as FOLDERS

EVER = 2**33


def arrived(directory: Path, lateness: Sequence[timedelta]) -> Path:
    """Put the history into order of arrival, each payment so much later than it occurred."""
    path = directory / history.TRANSACTIONS
    table = pyarrow.parquet.read_table(path)
    late = pa.array([int(each.total_seconds() * 1e6) for each in lateness], pa.int64())
    at = pa.compute.add(table["occurred_at"].cast(pa.int64()), late).cast(pa.timestamp("us", "UTC"))
    table = table.append_column(history.ARRIVED_AT, at).append_column("#", pa.array(range(len(table))))
    table = table.sort_by([(history.ARRIVED_AT, "ascending"), ("#", "ascending")]).drop_columns("#")
    pyarrow.parquet.write_table(table, path)
    return directory


def replayed(directory: Path) -> tuple[list[Row], list[bool]]:
    """Return the rows, and whether a counter of each was an estimate when it was measured."""
    run = Replay()
    known = labelled(directory, history.findings(directory), run, Span(0, 0, EVER))
    rows, estimated = [], []
    for payment in known:
        rows.append(run.row(payment, payment.arrived_at))
        estimated.append(bool(rows[-1].state.estimated))
    return rows, estimated


def assert_equal(directory: Path) -> tuple[int, int]:
    """Compare every counter and feature of payments that online does not sample. Return rows and sampled rows."""
    rows, estimated = replayed(directory)
    with DuckDb() as engine:
        counted = Counted(engine, directory, 0, EVER)
        (block,) = counted.blocks(UNITS["JPY"])
        sampled = engine.rows(f"({sql.ESTIMATED})", 1, len(rows))["n"] - 1
    assert counted.number == len(rows)
    same = np.setdiff1d(np.arange(len(rows)), sampled)
    assert not [place for place in same if estimated[place]]
    values = np.array([[row.counters[name] for name in NAMES] for row in rows])
    closed = [name.endswith("_closed") for name in NAMES]
    np.testing.assert_array_equal(block.counters[closed], values.T[closed])
    differing = [NAMES[place] for place in np.flatnonzero((values != block.counters.T)[same].any(axis=0))]
    assert differing == []
    vectors = np.array([row.vector for row in rows], np.float32)
    for place, name in enumerate(features.NAMES):
        np.testing.assert_array_equal(block.vectors[same, place], vectors[same, place], err_msg=name)
    return len(rows), len(sampled)


def crowd(seed: int, number: int, days: int, people: int) -> list[tuple[Transaction, Known | None]]:
    """Draw payments of few people, many at the same second or bucket, some labelled at any time."""
    rng = random.Random(seed)
    moments = sorted(rng.choice((rng.randrange(days * DAY), rng.randrange(days) * DAY + 43_200)) for _ in range(number))
    drawn = []
    for n, second in enumerate(moments):
        payment = made.crowd_payment(rng, made.NOON + timedelta(seconds=second), n, people)
        known = payment.occurred_at + timedelta(seconds=rng.choice((0, 60, rng.randrange(40 * DAY))))
        label = Known(rng.choice(("fraud", "fraud", "legitimate")), "analyst", known)
        drawn.append((payment, label if n % 4 == 0 else None))
    return drawn


@given(st.integers(0, 10**6), st.sampled_from([0, 0.02, 0.3]), st.sampled_from([3, 45]))
@settings(max_examples=5, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
def test_sql_counts_what_the_replay_counts(tmp_path_factory, seed, share, days):
    directory = tmp_path_factory.mktemp("crowd")
    drawn = crowd(seed, 250, days, 6)
    history.write(directory, drawn)
    rng = random.Random(seed)
    lateness = [MAX_AGE * rng.choice((rng.random(), 1)) if rng.random() < share else timedelta() for _ in drawn]
    assert_equal(arrived(directory, lateness) if share else directory)


@given(FOLDERS)
@settings(max_examples=40, deadline=None)
def test_a_history_is_read_whatever_its_folder_is_named(tmp_path_factory, name):
    directory = tmp_path_factory.mktemp("histories") / name
    drawn = crowd(1, 20, 3, 6)
    history.write(directory, drawn)
    with DuckDb() as engine:
        assert engine.stage(directory, 0, EVER, labels=True) == len(drawn)
        staged = engine.rows("payments", 1, len(drawn))
    assert sorted(staged["amount"].tolist()) == sorted(payment.amount for payment, _ in drawn)


def test_rows_of_a_crowded_receiver_are_counted_and_all_others_are_equal(tmp_path):
    burst = [made.payment(transaction_id=f"b-{n}", payer_id=f"payer-{n % 7}") for n in range(sampling.BURST + 20)]
    rows, sampled = assert_equal(beside_others(tmp_path, burst))
    assert 18 <= sampled < rows - sampling.BURST + 1


OVER = 5
"""Payments beyond a cap."""


@pytest.mark.parametrize(
    ("cap", "apart", "fields"),
    [
        pytest.param(sampling.CAPS["d"], 60, {"device_id": "one"}, id="a payee's and a device's day"),
        pytest.param(sampling.CAPS["h"], 2, {"type": "merchant"}, id="a merchant's hour"),
        pytest.param(sampling.CLOSE, 20, {"type": "cash_out", "payer_id": "one", "instrument_id": "card"}, id="closed"),
    ],
)
def test_rows_above_a_cap_are_counted_and_all_others_are_equal(tmp_path, cap, apart, fields):
    start = made.NOON.replace(hour=0)
    crowd_of_one = [
        made.payment(**{
            "transaction_id": f"c-{n}", "payer_id": f"payer-{n % 7}", "payee_id": "shop",
            "occurred_at": start + timedelta(seconds=n * apart), "device_id": None, **fields,
        })
        for n in range(cap + 1 + OVER)
    ]  # fmt: skip
    rows, sampled = assert_equal(beside_others(tmp_path, crowd_of_one))
    assert OVER <= sampled < rows - cap + 1


@pytest.mark.parametrize(
    ("counter", "fields"),
    [
        ("payer_closed", {"payer_id": "one"}),
        ("instrument_closed", {"type": "cash_out", "payee_id": None, "instrument_id": "card"}),
    ],
)
def test_an_item_is_closed_from_its_cap_on_in_order_of_arrival_and_the_next_day_is_open(tmp_path, counter, fields):
    """One in eleven payments is twelve hours late, so that some arrive a day later and find their own day closed."""
    start = made.NOON.replace(hour=0)
    number = sampling.CLOSE + 40
    seconds = [n * 20 for n in range(number)] + [DAY + n * 3_600 for n in range(20)]
    drawn = [
        made.payment(**{
            "transaction_id": f"c-{n}", "payer_id": f"payer-{n % 7}", "payee_id": f"payee-{n % 50}", "device_id": None,
            "occurred_at": start + timedelta(seconds=second), **fields,
        })
        for n, second in enumerate(seconds)
    ]  # fmt: skip
    history.write(tmp_path, [(payment, None) for payment in drawn])
    directory = arrived(tmp_path, [MAX_AGE if n % 11 == 0 else timedelta() for n in range(len(drawn))])
    rows, _ = replayed(directory)
    with DuckDb() as engine:
        (block,) = Counted(engine, directory, 0, EVER).blocks(UNITS["JPY"])
    held: Counter[int] = Counter()
    expected = []
    for row in rows:
        day = row.transaction.epoch // DAY
        held[day] += 1
        expected.append(held[day] > sampling.CLOSE + 1)
    first, last = expected.index(True), len(expected) - expected[::-1].index(True)
    assert 20 < sum(expected) < last - first  # payments of the open day lie between those of the closed one
    assert [bool(row.counters[counter]) for row in rows] == expected
    assert block.counters[NAMES.index(counter)].tolist() == expected
    others = [place for place, name in enumerate(NAMES) if name.endswith("_closed") and name != counter]
    assert not block.counters[others].any()


def beside_others(directory: Path, payments: Sequence[Transaction]) -> Path:
    """Write payments and, after them, some of other people."""
    end = max(payment.occurred_at for payment in payments)
    later = [payment for payment, _ in crowd(1, 40, 3, 6) if payment.occurred_at > end]
    history.write(directory, [(payment, None) for payment in [*payments, *later]])
    return directory


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("recorded")
    history.write(directory, history.of(simulate(3, DEFAULT_START, 4, 40, crime=10)))
    number = len(pyarrow.parquet.read_table(directory / history.TRANSACTIONS))
    return arrived(directory, [timedelta(hours=12) if n % 7 == 0 else timedelta() for n in range(number)])


def test_both_engines_write_the_same_files(recorded, tmp_path):
    span = ["--from", "2026-03-02", "--to", "2026-03-04"]
    for engine in ("replay", "sql"):
        assert dataset.main([str(recorded), str(tmp_path / engine), "--engine", engine, *span]) == 0
    files = sorted(path.relative_to(tmp_path / "sql") for path in (tmp_path / "sql").rglob("*.*"))
    assert [file.name for file in files] == ["dataset.json", "2026-03-02.parquet", "2026-03-03.parquet"]
    assert all((tmp_path / "sql" / file).read_bytes() == (tmp_path / "replay" / file).read_bytes() for file in files)


def test_a_payment_too_late_to_be_counted_is_one_line(recorded, tmp_path, capsys):
    table = pyarrow.parquet.read_table(recorded / history.TRANSACTIONS)
    late = pa.compute.add(table[history.ARRIVED_AT], pa.scalar(timedelta(hours=1)))
    place = table.schema.get_field_index(history.ARRIVED_AT)
    pyarrow.parquet.write_table(table.set_column(place, history.ARRIVED_AT, late), tmp_path / history.TRANSACTIONS)
    shutil.copy(recorded / history.LABELS, tmp_path)
    with pytest.raises(HistoryError, match="arrived_at must lie at most 12:00:00 after occurred_at"):
        list(history.payments(tmp_path))
    assert dataset.main([str(tmp_path), str(tmp_path / "out"), "--engine", "sql"]) == 2
    assert "arrived_at must lie" in capsys.readouterr().err


def with_column(table: pa.Table, name: str, value: object, kind: pa.DataType | None = None) -> pa.Table:
    """Return the table with another value in the second row of a column."""
    values = table[name].to_pylist() if name in table.column_names else [None] * len(table)
    values[1] = value
    column = pa.array(values, kind or (table.schema.field(name).type if name in table.column_names else None))
    return (table.drop_columns(name) if name in table.column_names else table).append_column(name, column)


BROKEN = {
    "twice": lambda table: table.take(pa.array([0, 1, 1])),
    "no amount": lambda table: with_column(table, "amount", 0),
    "an amount that is no integer": lambda table: with_column(table, "amount", 1.5, pa.float64()),
    "no payer": lambda table: with_column(table, "payer_id", None),
    "an id of other characters": lambda table: with_column(table, "payer_id", "a/b"),
    "spaces around an id": lambda table: with_column(table, "device_id", " device "),
    "no payee": lambda table: with_column(table, "payee_id", " "),
    "the payer as payee": lambda table: with_column(table, "payee_id", table["payer_id"][1].as_py()),
    "its own attempt": lambda table: with_column(table, "attempt_of", table["transaction_id"][1].as_py()),
    "no address": lambda table: with_column(table, "ip", "300.1.1.1"),
    "another channel": lambda table: with_column(table, "channel", "fax"),
    "another type": lambda table: with_column(table, "type", "gift"),
    "another currency": lambda table: with_column(table, "currency", "INR"),
    "no currency": lambda table: with_column(table, "currency", "YEN"),
    "another field": lambda table: with_column(table, "colour", "red"),
    "too much metadata": lambda table: with_column(table, "metadata", [("", "x")]),
    "no time": lambda table: with_column(table, "occurred_at", None),
    "an earlier time": lambda table: with_column(table, "occurred_at", made.NOON - timedelta(days=1)),
    "no time zone": lambda table: with_column(table, "occurred_at", made.NOON.replace(tzinfo=None), pa.timestamp("us")),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_history_that_is_broken_is_refused_by_both_engines_in_the_same_words(tmp_path, capsys, name):
    history.write(tmp_path, [(made.payment(transaction_id=f"t-{n}"), None) for n in range(2)])
    path = tmp_path / history.TRANSACTIONS
    pyarrow.parquet.write_table(BROKEN[name](pyarrow.parquet.read_table(path)), path)
    said = []
    for engine in ("replay", "sql"):
        assert dataset.main([str(tmp_path), str(tmp_path / engine), "--engine", engine]) == 2
        said.append(capsys.readouterr().err)
    assert said[0] == said[1]
    assert said[0].count("\n") == 1


def test_values_that_mean_the_same_give_the_same_dataset(recorded, tmp_path):
    table = pyarrow.parquet.read_table(recorded / history.TRANSACTIONS)
    other = table.set_column(0, "transaction_id", table["transaction_id"].cast(pa.large_string()))
    for name in ("type", "payer_id"):
        other = other.set_column(other.column_names.index(name), name, other[name].dictionary_encode())
    place = other.column_names.index("occurred_at")
    other = other.set_column(place, "occurred_at", other["occurred_at"].cast(pa.timestamp("ns", "Asia/Tokyo")))
    other = with_column(with_column(other, "ip", "::ffff:192.0.2.1"), "device_id", "  ")
    other = with_column(other, "metadata", [("app", "1")])
    shutil.copy(recorded / history.LABELS, tmp_path)
    pyarrow.parquet.write_table(other, tmp_path / history.TRANSACTIONS)
    for engine in ("replay", "sql"):
        assert dataset.main([str(tmp_path), str(tmp_path / engine), "--engine", engine]) == 0
    days = [path.name for path in (tmp_path / "sql" / "days").iterdir()]
    assert len(days) == 4
    assert all(
        (tmp_path / "sql/days" / day).read_bytes() == (tmp_path / "replay/days" / day).read_bytes() for day in days
    )


def test_the_program_has_every_window_of_the_definition():
    shape = measures.Shape.of(measures.SPARK, late=True, payments=10, amount=10)
    text = " ".join(query for _, query in sql.Program(measures.SPARK, shape).tables())
    for window in (*windows.WINDOWS, *windows.DAY_WINDOWS, *windows.PAIR_WINDOWS):
        assert f"count_{window}" in text
    for days in windows.PAIR_WINDOWS.values():
        assert f"RANGE BETWEEN {days - 1} PRECEDING AND 1 PRECEDING" in text
    for days in windows.DAY_WINDOWS.values():
        assert f"RANGE BETWEEN {days - 1} PRECEDING AND {measures.SETTLED} PRECEDING" in text
