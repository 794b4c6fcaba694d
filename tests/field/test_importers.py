"""Public layouts of payment data become a HISTORY_DIR by the maps that are shipped, and replay reads it.

The rows are made after the public headers; no row is of the data itself. Each case names where its layout is public.
"""

# ruff: noqa: E501 - rows of files

import json
import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from fraud.transaction import Transaction, is_id
from local import payments_file, replay
from local.box import Box
from models.datasets import amlsim, csv, handbook, history
from models.datasets.table import FileError

PAYSIM = """step,type,amount,nameOrig,oldbalanceOrg,newbalanceOrig,nameDest,oldbalanceDest,newbalanceDest,isFraud,isFlaggedFraud
1,PAYMENT,9839.64,C1001,170136.0,160296.36,M2001,0.0,0.0,0,0
1,TRANSFER,181.0,C1002,181.0,0.0,C2002,0.0,0.0,1,0
2,CASH_OUT,0.0,C1003,181.0,0.0,C2003,21182.0,0.0,1,0
743,CASH_IN,15325.05,C1004,0.0,15325.05,C2004,0.0,0.0,0,0
743,DEBIT,5337.77,C1005,41720.0,36382.23,C2005,41898.0,40348.79,0,0
"""
IEEE = """TransactionID,isFraud,TransactionDT,TransactionAmt,ProductCD,card1,card2,card3,card4,card5,card6,addr1,addr2,P_emaildomain,V1
2990001,0,86400,68.5,W,13001,,150.0,discover,142.0,credit,315.0,87.0,,1.0
2990002,1,86469,59.005,C,4001,500.0,150.0,mastercard,117.0,debit,,,gmail.com,
"""
BANKSIM = """step,customer,age,gender,zipcodeOri,merchant,zipMerchant,category,amount,fraud
0,'C1001','4','M','28007','M2001','28007','es_transportation',4.55,0
179,'C1002','U','E','28007','M2002','28007','es_health, and more',44.26,1
"""
SPARKOV = """,trans_date_trans_time,cc_num,merchant,category,amt,first,last,gender,street,city,state,zip,lat,long,city_pop,job,dob,trans_num,unix_time,merch_lat,merch_long,is_fraud
0,2019-01-01 00:00:18,2703000000000001,"fraud_Rippin, Kub and Mann",misc_net,4.97,A,B,F,1 Street,Town,NC,28654,36.0,-81.1,3495,"Psychologist, counselling",1988-03-09,0b242abb,1325376018,36.0,-82.0,0
1,2019-01-02 01:06:37,2703000000000002,"fraud_Höfer/Söhne",grocery_pos,281.06,A,B,M,1 Street,Town,TX,78208,29.4,-98.4,1595797,Job,1960-10-28,1b242abc,1325466397,28.8,-99.8,1
"""
CREDITCARD = (
    '"Time",' + ",".join(f'"V{n}"' for n in range(1, 29)) + ',"Amount","Class"\n'
    + "0," + ",".join(["-1.35"] * 28) + ',149.62,"0"\n'
    + "172792," + ",".join(["0.5"] * 28) + ',0,"1"\n'
)  # fmt: skip
DETECTOR = """EVENT_ID,ENTITY_TYPE,ENTITY_ID,EVENT_TIMESTAMP,EVENT_LABEL,LABEL_TIMESTAMP,order_price,ip_address,customer_email,product_category
ev-1,customer,a+b@example.com,2019-11-30T13:01:01Z,legit,2019-12-30T13:01:01Z,12.50,203.0.113.7,a+b@example.com,books
ev-2,customer,c@example.com,11/30/2019 1:01:01 PM,fraud,12/30/2019,99,,c@example.com,toys
ev-3,customer,,4/10/2019 11:05,,,1,203.0.113.8,d/e@example.com,toys
"""


def imported(
    directory: Path, text: str, name: str, suffix: str = "csv"
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Import a file by a map. Return the rows of transactions, without absent fields, and of labels."""
    path = directory / f"data.{suffix}"
    path.write_text(text, encoding="utf-8")
    history.write(directory / "out", csv.read(path, csv.load(name)))
    return rows(directory / "out")


def rows(directory: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    payments, labels = (
        parquet.read_table(directory / name).to_pylist() for name in (history.TRANSACTIONS, history.LABELS)
    )
    return [{name: value for name, value in row.items() if value is not None} for row in payments], labels


LAYOUTS = {
    # map: rows, number of payments and frauds, fields of the second payment, public header
    "paysim": (PAYSIM, 5, 2, {
        "transaction_id": "paysim-2", "type": "p2p", "payer_id": "C1002", "payee_id": "C2002", "amount": 181,
        "currency": "JPY", "occurred_at": datetime(2026, 1, 1, tzinfo=UTC), "device_id": "device-C1002", "channel": "app",
    }, "kaggle.com/datasets/ealaxi/paysim1"),
    "ieee-cis": (IEEE, 2, 1, {
        "transaction_id": "2990002", "type": "merchant", "payer_id": "card-4001-500.0-150.0-117.0-", "payee_id": "product-C",
        "amount": 5901, "currency": "USD", "occurred_at": datetime(2017, 12, 2, 0, 1, 9, tzinfo=UTC), "channel": "web",
    }, "kaggle.com/competitions/ieee-fraud-detection"),
    "banksim": (BANKSIM, 2, 1, {
        "transaction_id": "banksim-2", "type": "merchant", "payer_id": "C1002", "payee_id": "M2002", "amount": 4426,
        "currency": "EUR", "occurred_at": datetime(2026, 6, 29, tzinfo=UTC), "device_id": "device-C1002", "channel": "app",
    }, "kaggle.com/datasets/ealaxi/banksim1"),
    "sparkov": (SPARKOV, 2, 1, {
        "transaction_id": "1b242abc", "type": "merchant", "payer_id": "card-2703000000000002", "amount": 28106,
        "payee_id": "fraud_H~c3b6fer~2fS~c3b6hne", "currency": "USD", "occurred_at": datetime(2019, 1, 2, 1, 6, 37, tzinfo=UTC),
        "device_id": "device-2703000000000002", "channel": "app",
    }, "kaggle.com/datasets/kartik2112/fraud-detection"),
    "creditcard": (CREDITCARD, 2, 1, {
        "transaction_id": "creditcard-2", "type": "merchant", "payer_id": "payer-2", "payee_id": "all-merchants", "amount": 1,
        "currency": "EUR", "occurred_at": datetime(2013, 9, 2, 23, 59, 52, tzinfo=UTC), "channel": "web",
    }, "kaggle.com/datasets/mlg-ulb/creditcardfraud"),
    "amazon-fraud-detector": (DETECTOR, 3, 1, {
        "transaction_id": "ev-1", "type": "merchant", "payer_id": "a+b@example.com", "payee_id": "books", "amount": 1250,
        "currency": "USD", "occurred_at": datetime(2019, 11, 30, 13, 1, 1, tzinfo=UTC), "ip": "203.0.113.7", "channel": "web",
    }, "docs.aws.amazon.com/frauddetector/latest/ug/create-csv.html"),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
def test_layout_is_read_by_its_map(tmp_path: Path, name: str) -> None:
    text, count, frauds, second, source = LAYOUTS[name]
    payments, labels = imported(tmp_path, text, name)
    assert (len(payments), payments[1], source in csv.load(name).source) == (count, second, True)
    assert sum(label["label"] == "fraud" for label in labels) == frauds
    assert [payment["occurred_at"] for payment in payments] == sorted(payment["occurred_at"] for payment in payments)
    for payment in payments:
        Transaction.model_validate(payment)


def test_every_shipped_map_is_tried() -> None:
    assert {path.stem for path in csv.MAPS.iterdir()} == LAYOUTS.keys()


def test_labels_stand_beside_the_payments_with_parties_and_times(tmp_path: Path) -> None:
    payments, labels = imported(tmp_path, PAYSIM, "paysim")
    assert "label" not in {name for payment in payments for name in payment}
    assert labels[1] == {
        "transaction_id": "paysim-2", "payer_id": "C1002", "payee_id": "C2002", "occurred_at": datetime(2026, 1, 1, tzinfo=UTC),
        "label": "fraud", "source": "chargeback", "reported_at": datetime(2026, 1, 8, tzinfo=UTC), "known_at": datetime(2026, 1, 8, tzinfo=UTC), "tactic": None,
    }  # fmt: skip
    out, *_ = [payment for payment in payments if payment["type"] == "cash_out"]
    assert (out["instrument_id"], "payee_id" in out, out["amount"]) == ("C2003", False, 1)


def test_label_keeps_the_time_that_the_file_tells_and_a_row_without_label_has_none(tmp_path: Path) -> None:
    payments, labels = imported(tmp_path, DETECTOR, "amazon-fraud-detector")
    assert {label["transaction_id"]: label["reported_at"] for label in labels} == {
        "ev-1": datetime(2019, 12, 30, 13, 1, 1, tzinfo=UTC),
        "ev-2": datetime(2019, 12, 30, tzinfo=UTC),
    }
    assert payments[0]["payer_id"] == "d~2fe@example.com"


@pytest.mark.parametrize(
    "text", [PAYSIM.replace("TRANSFER", "transfer"), PAYSIM.replace("\n1,TRANSFER,181.0", "\n1,TRANSFER,-5")]
)
def test_row_that_breaks_a_rule_ends_in_one_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(FileError, match=r"data.csv, row 2 \(line 3\), (type: unknown_value|amount: is negative)"):
        imported(tmp_path, text, "paysim")


@pytest.mark.parametrize(
    ("text", "name", "said"),
    [
        (PAYSIM.replace("isFraud", "label"), "paysim", "has no column isFraud, which the map names"),
        (PAYSIM.replace(",1,0\n", ",yes,0\n"), "paysim", "label: 'yes' is none of the map's words 1, 0"),
        (SPARKOV.replace("2703000000000001", "2.29116E+15"), "sparkov", "payer_id: was rounded by a spreadsheet"),
        (PAYSIM.replace("C1002", "2.29116E+15"), "paysim", "payer_id: was rounded by a spreadsheet"),
        (PAYSIM.replace("\n743", "\n9e20"), "paysim", "occurred_at: is outside the calendar"),
        (PAYSIM.replace("\n743", "\n"), "paysim", "occurred_at: is missing"),
        (PAYSIM, "nosim", "no such map; shipped ones are amazon-fraud-detector, banksim"),
    ],
)
def test_other_faults_end_in_one_line(tmp_path: Path, text: str, name: str, said: str) -> None:
    with pytest.raises(FileError, match=re.escape(said)):
        imported(tmp_path, text, name)


def test_spreadsheet_copy_and_json_and_parquet_are_read_too(tmp_path: Path) -> None:
    """After the copies of fraudTest.csv that went through a spreadsheet: 21/06/2020 12:14."""
    payments, _ = imported(tmp_path, SPARKOV.replace("2019-01-02 01:06:37", "21/06/2020 12:14"), "sparkov")
    assert payments[1]["occurred_at"] == datetime(2020, 6, 21, 12, 14, tzinfo=UTC)
    row = {"step": 1, "type": "TRANSFER", "amount": 181.5, "nameOrig": "C1", "nameDest": "C2", "isFraud": 0}
    (payment,), _ = imported(tmp_path, json.dumps(row), "paysim", "jsonl")
    assert payment["amount"] == 182
    parquet.write_table(pa.Table.from_pylist([row]), tmp_path / "data.parquet")
    history.write(tmp_path / "again", csv.read(tmp_path / "data.parquet", csv.load("paysim")))
    assert rows(tmp_path / "again")[0] == [payment]


OWN = {
    "source": "made for this test", "currency": "JPY", "digits": 0, "amount": "{yen}",
    "payment": {"transaction_id": "own-{#}", "type": "p2p", "payer_id": "{from}", "payee_id": "{to}", "occurred_at": "{at}", "campaign_id": "{none}"},
    "truth": {"label": "{bad}", "words": {"yes": "fraud", "no": "legitimate"}, "delay_days": 1, "source": "report"},
}  # fmt: skip


def test_map_of_your_own_is_json_or_toml(tmp_path: Path) -> None:
    own = tmp_path / "own.json"
    own.write_text(json.dumps(OWN))
    text = 'from;to;yen;at;bad\nA 1;"é";1200.0;2026-03-05T21:00:00+09:00;yes\n'
    (payment,), (label,) = imported(tmp_path, text, str(own))
    assert (payment["payer_id"], payment["payee_id"], payment["amount"]) == ("A~201", "~c3a9", 1200)
    assert (label["source"], label["reported_at"] - label["occurred_at"]) == ("report", timedelta(days=1))


@pytest.mark.parametrize(
    "change", [{"currency": "XXX"}, {"digits": -1}, {"unknown": 1}, {"truth": {"label": "{x}"}}, {"amount": None}]
)
def test_faulty_map_ends_in_one_line(tmp_path: Path, change: dict[str, Any]) -> None:
    own = tmp_path / "own.json"
    own.write_text(json.dumps(OWN | change))
    with pytest.raises(FileError, match=r"own\.json: \S+: \w+"):
        csv.load(str(own))
    own.write_text("{half")
    with pytest.raises(FileError, match="cannot be read"):
        csv.load(str(own))


@given(st.text(min_size=1))
def test_any_text_becomes_an_id(text: str) -> None:
    assert is_id(csv.escaped(text))
    if is_id(text):
        assert csv.escaped(text) == text


@given(st.decimals(min_value=0, max_value=10**12, places=4), st.integers(0, 4))
def test_amounts_are_rounded_by_half_a_minor_unit_at_most(amount: Any, digits: int) -> None:
    assert abs(csv.minor(str(amount), digits) - amount * 10**digits) <= (1 if amount * 10**digits < 1 else 0.5)


# --- the commands -----------------------------------------------------------------------------------------------------


def run(monkeypatch: pytest.MonkeyPatch, module: Any, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["importer", *map(str, arguments)])
    status: int = module.main()
    return status


def test_command_imports_and_replay_reads_the_history_with_its_labels(tmp_path: Path, monkeypatch, capsys) -> None:
    path = tmp_path / "paysim.csv"
    path.write_text(PAYSIM)
    out = tmp_path / "history"
    assert run(monkeypatch, csv, path, "--map", "paysim", out) == 0
    assert "5 payments in JPY (3 legitimate, 2 fraud)" in capsys.readouterr().out
    assert [payment["amount"] for payment in payments_file.payments(out)][:2] == [9840, 181]
    with Box() as box:  # of its own: the clock of the tests' box may have passed the history
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", box.credentials.access_key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", box.credentials.secret_key)
        assert run(monkeypatch, replay, out, "--via", "api", "--url", box.api_url) == 0
    text = capsys.readouterr().out
    assert "5 sent, 5 decided, 0 refused, 0 failed" in text
    assert "labels         5, 0 payments without label, 0 labels without payment" in text


def test_command_without_a_file_or_a_map_ends_in_one_line(tmp_path: Path, monkeypatch, capsys) -> None:
    for arguments in (
        (tmp_path / "gone.csv", "--map", "paysim"),
        (tmp_path, "--map", "nosim"),
        (tmp_path, "--map", "x.toml"),
    ):
        assert run(monkeypatch, csv, *arguments, tmp_path / "out") == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_handbook_becomes_a_history(tmp_path: Path, monkeypatch, capsys) -> None:
    """After the Fraud Detection Handbook, chapter 3: a label is known a week after its payment."""
    data = {
        "tx_id": [0, 1],
        "t": [86_400, 31],
        "customer": [596, 70_000],
        "terminal": [3156, 2],
        "amount": [57.16, 0.0],
        "fraud": [1, 0],
    }
    parquet.write_table(pa.table(data), tmp_path / "handbook.parquet")
    assert run(monkeypatch, handbook, tmp_path / "handbook.parquet", tmp_path / "out", "--label-delay-days", "2") == 0
    (first, second), labels = rows(tmp_path / "out")
    assert (first["transaction_id"], first["amount"], first["ip"]) == ("handbook-1", 1, "10.1.17.112")
    assert second["occurred_at"] == datetime(2018, 4, 2, tzinfo=UTC)
    assert [(label["label"], label["known_at"].day) for label in labels] == [("legitimate", 3), ("fraud", 4)]
    parquet.write_table(pa.table({"t": [1]}), tmp_path / "other.parquet")
    capsys.readouterr()
    for other in ("other.parquet", "gone.parquet"):
        assert run(monkeypatch, handbook, tmp_path / other, tmp_path / "out") == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_amlsim_becomes_a_history(tmp_path: Path, monkeypatch, capsys) -> None:
    """After IBM/AMLSim: accounts are labelled, and a step is a day."""
    transfers = [
        ("one", 1, 2, 10.5, 3),
        ("one", 2, 1, 10.5, 4),
        ("one", 1, 3, 7.0, 3),
        ("one", 3, 3, 1.0, 3),
        ("two", 1, 2, 1.0, 3),
    ]
    names = ("dataset", "sender", "receiver", "amount", "day")
    parquet.write_table(
        pa.Table.from_pylist([dict(zip(names, each, strict=True)) for each in transfers]), tmp_path / "t.parquet"
    )
    accounts = {"nodeid": [1, 2, 3], "isFraud": [1, 1, 0], "init_balance": [1.0] * 3, "fraudStep": [3, -1, -1]}
    parquet.write_table(pa.table(accounts), tmp_path / "amlsim_one_accounts.parquet")
    parquet.write_table(pa.table(accounts), tmp_path / "accounts.parquet")
    assert (
        run(monkeypatch, amlsim, tmp_path / "t.parquet", tmp_path / "amlsim_one_accounts.parquet", tmp_path / "out")
        == 0
    )
    payments, labels = rows(tmp_path / "out")
    assert [(payment["payer_id"], payment["payee_id"], payment["amount"]) for payment in payments] == [
        ("account-1", "account-2", 1050), ("account-1", "account-3", 700), ("account-2", "account-1", 1050),
    ]  # fmt: skip
    assert [label["label"] for label in labels] == ["fraud", "legitimate", "legitimate"]
    assert [payment["occurred_at"] for payment in payments[:2]] == [
        datetime(2026, 1, 4, hour, tzinfo=UTC) for hour in (0, 8)
    ]
    capsys.readouterr()
    for pair in (("t.parquet", "accounts.parquet"), ("t.parquet", "gone.parquet"), ("accounts.parquet", "t.parquet")):
        assert run(monkeypatch, amlsim, *(tmp_path / name for name in pair), tmp_path / "out") == 2
        assert capsys.readouterr().err.count("\n") == 1
