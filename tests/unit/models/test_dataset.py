"""Training data equal the inputs of decisions at the same time, and no label is known before its report."""

from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud.counters.in_memory import InMemoryCounters
from fraud.counters.layout import DAY
from fraud.counters.windows import measure
from fraud.scoring import features
from fraud.transaction import NEEDS_PAYEE, Transaction
from models.simulation.simulate import DEFAULT_START, Labelled, simulate
from models.training import dataset
from models.training.dataset import Dataset, replay


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
                day = int(report.reported_at.timestamp()) // DAY
                counters.learn(fraud.payer_id, "fo", day, 1)
                if fraud.type in NEEDS_PAYEE and fraud.payee_id is not None:
                    counters.learn(fraud.payee_id, "fi", day, 1)
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
    assert not labels[built.reported_at > cutoff].any()
    assert (labels == built.fraud)[built.reported_at <= cutoff].all()


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


def test_a_stored_dataset_is_read_back_unchanged(built, tmp_path):
    built.save(tmp_path / "train")
    read = Dataset.load(tmp_path / "train")
    for column in fields(Dataset):
        np.testing.assert_array_equal(getattr(read, column.name), getattr(built, column.name))


def test_a_dataset_of_other_features_is_refused(built, tmp_path):
    built.save(tmp_path)
    with np.load(tmp_path / dataset.FILE) as stored:
        np.savez(tmp_path / dataset.FILE, **{**stored, "fingerprint": np.array("0" * 16)})
    with pytest.raises(ValueError, match="other features"):
        Dataset.load(tmp_path)


def test_the_command_writes_a_training_channel(tmp_path, capsys):
    dataset.main(["--seed", "3", "--days", "1", "--payers", "60", "--out", str(tmp_path)])
    assert len(Dataset.load(tmp_path)) == len(list(simulate(3, DEFAULT_START, 1, 60)))
    assert "payments" in capsys.readouterr().out
