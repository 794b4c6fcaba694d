"""Training sees exactly what a decision would have seen, and no label before it was reported."""

from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud import features
from fraud.memory import InMemoryCounters
from fraud.transaction import Transaction
from fraud.windows import measure
from models import dataset
from models.dataset import Dataset, replay
from models.simulate import DEFAULT_START, Labelled, simulate


@pytest.fixture(scope="module")
def payments() -> list[Labelled]:
    """Five days, in order of arrival: every seventh payment comes twelve hours late."""
    late = timedelta(hours=12).total_seconds()
    lived = list(simulate(3, DEFAULT_START, 5, 60))
    arrival = {id(p): epoch(p) + (late if n % 7 == 0 else 0) for n, p in enumerate(lived)}
    return sorted(lived, key=lambda payment: arrival[id(payment)])


@pytest.fixture(scope="module")
def built(payments) -> Dataset:
    return Dataset.build(payments)


def epoch(payment: Labelled) -> float:
    return datetime.fromisoformat(payment.transaction["occurred_at"]).timestamp()


def test_vectors_are_those_of_a_decision_although_old_items_are_forgotten(payments, built):
    counters = InMemoryCounters()
    for payment, vector in zip(payments, built.features, strict=True):
        transaction = Transaction.model_validate(payment.transaction)
        decided = features.vector(transaction, measure(transaction, counters.count(transaction)))
        assert features.pack(decided) == vector.tobytes()


def test_items_that_no_payment_reads_any_more_are_forgotten(payments):
    *_, (_, row) = replay(payments)
    day = row.transaction.epoch // 86_400
    counters = InMemoryCounters()
    for payment in payments:
        counters.count(Transaction.model_validate(payment.transaction))
    everything = len(counters.items)
    dataset._forget(counters, day * 86_400)
    assert everything > len(counters.items) > 0
    assert min(key.period for key in counters.items if key.kind.name == "payer") == day - 2


def test_columns_say_what_the_payments_said(payments, built):
    assert len(built) == len(payments)
    assert built.amount.tolist() == [payment.transaction["amount"] for payment in payments]
    assert built.occurred_at.tolist() == [int(epoch(payment)) for payment in payments]
    assert built.fraud.tolist() == [payment.label == "fraud" for payment in payments]
    assert built.tactic.tolist() == [payment.tactic or "" for payment in payments]
    assert built.fraud.any()


@given(st.integers(-(10**6), 10**7))
@settings(deadline=None)
def test_no_label_is_seen_before_it_was_reported_and_every_one_after(built, seconds):
    cutoff = int(DEFAULT_START.timestamp()) + seconds
    labels = built.labels(cutoff)
    assert not labels[built.reported_at > cutoff].any()
    assert (labels == built.fraud)[built.reported_at <= cutoff].all()


def test_a_report_within_a_second_is_known_from_the_next_whole_one(payments):
    reported = datetime(2026, 3, 4, 5, 6, 7, 1_000, tzinfo=UTC)
    one = Dataset.build([replace(payments[0], label="fraud", tactic="x", reported_at=reported)])
    second = int(reported.timestamp())
    assert [bool(one.labels(cutoff)[0]) for cutoff in (second, second + 1)] == [False, True]


def test_a_period_holds_its_start_and_not_its_end(built):
    start, end = built.occurred_at[100], built.occurred_at[200]
    part = built.between(start, end)
    assert part.occurred_at.min() == start
    assert part.occurred_at.max() < end
    assert len(part) + len(built.between(0, start)) + len(built.between(end, 2**40)) == len(built)


def test_a_stored_dataset_is_read_back_whole(built, tmp_path):
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
