"""`make acceptance` in small: 300 payments of each world by API, every feature equal to its offline twin."""

from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from local import acceptance, handbook
from models.simulate import DEFAULT_START, simulate

PAYMENTS = 300


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A file with the handbook's columns; its own data is not part of this project."""
    rows = [
        payment.transaction
        for payment in simulate(4, DEFAULT_START, 3, 60)
        if payment.transaction["type"] == "merchant"
    ]
    columns = {
        "tx_id": list(range(len(rows))),
        "t": [n * 137 for n in range(len(rows))],
        "customer": [hash_free(row["payer_id"]) for row in rows],
        "terminal": [hash_free(row["payee_id"]) for row in rows],
        "amount": [row["amount"] / 100 for row in rows],
        "fraud": [n % 50 == 0 for n in range(len(rows))],
    }
    path = tmp_path / "handbook.parquet"
    pyarrow.parquet.write_table(pa.table(columns), path)
    return path


def hash_free(identifier: str) -> int:
    """A small number that is the same in every run."""
    return sum(map(ord, identifier)) % 40


def test_online_features_equal_offline_ones(capsys: pytest.CaptureFixture[str]):
    assert acceptance.parity("simulator", acceptance.simulated(PAYMENTS))
    assert f"{PAYMENTS} payments decided by API, 0 errors" in capsys.readouterr().out


def test_imported_payments_are_decided_alike(data: Path, capsys: pytest.CaptureFixture[str]):
    payments = [imported.payment for imported in handbook.read(data, date(2018, 4, 1), PAYMENTS)]
    assert acceptance.parity("handbook", payments)
    assert "0 feature vectors differ from offline" in capsys.readouterr().out


def test_labels_of_the_handbook_never_reach_a_payment(data: Path):
    imported = list(handbook.read(data, date(2018, 4, 1), None))
    assert {row.label for row in imported} == {"fraud", "legitimate"}
    assert not any("fraud" in row.payment or "scenario" in row.payment for row in imported)
    assert all(isinstance(row.payment["amount"], int) for row in imported)
