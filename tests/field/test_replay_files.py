"""Files as people export them: read right, or refused in one line with file, row, field and rule.

Each case names the public report that it follows.
"""

# ruff: noqa: E501 - tables of cases

import gzip
import json
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from local import payments_file, replay
from local.api.client import Response
from local.box import Box
from models.datasets import table
from models.datasets.table import FileError
from tests.support.payments import body

NOON = datetime(2026, 3, 5, 12, tzinfo=UTC)
HEADER = "transaction_id,type,payer_id,payee_id,amount,currency,occurred_at"
ROW = "t-1,p2p,a,b,1200,JPY,2026-03-05T12:00:00Z"
PAYMENT = {
    "transaction_id": "t-1", "type": "p2p", "payer_id": "a", "payee_id": "b",
    "amount": 1200, "currency": "JPY", "occurred_at": "2026-03-05T12:00:00Z",
}  # fmt: skip
PLAIN = f"{HEADER}\n{ROW}\n"


def written(directory: Path, content: str | bytes, name: str = "payments.csv") -> Path:
    path = directory / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def with_value(field: str, value: str) -> str:
    """Return a CSV file with one row, in which one field has another value; a field that is new is the last column."""
    row = PAYMENT | {field: value}
    return ",".join(row) + "\n" + ",".join(f'"{each}"' for each in row.values()) + "\n"


def same_instant(payment: dict[str, Any]) -> dict[str, Any]:
    return payment | {"occurred_at": datetime.fromisoformat(payment["occurred_at"])}


# --- read right -------------------------------------------------------------------------------------------------------

READ = {
    # what an export did: file, public report
    "a byte order mark": (b"\xef\xbb\xbf" + PLAIN.encode(), "pandas-dev/pandas#4793"),
    "UTF-16 of Excel": (PLAIN.replace(",", "\t").encode("utf-16"), "vividvilla/csvtotable#35"),
    "UTF-16 without mark": (PLAIN.encode("utf-16-le"), "jamesmishra/mysqldump-to-csv#23"),
    "big-endian UTF-16": (PLAIN.encode("utf-16-be"), "jamesmishra/mysqldump-to-csv#23"),
    "semicolons": (PLAIN.replace(",", ";").encode(), "stephenmcd/django-forms-builder#12"),
    "tabs": (PLAIN.replace(",", "\t").encode(), "SheetJS/sheetjs#2239"),
    "bars": (PLAIN.replace(",", "|").encode(), "citizenll/godot-csv-typed-importer#3"),
    "Excel's hint": (b"sep=;\r\n" + PLAIN.replace(",", ";").encode(), "asafdav/ng-csv#28"),
    "blank lines": (f"\n{HEADER}\n\n{ROW}\n\n\n".encode(), "RFC 4180, section 2"),
    "a row of delimiters": (f"{PLAIN},,,,,,\n".encode(), "RFC 4180, section 2"),
    "line ends of Windows": (PLAIN.replace("\n", "\r\n").encode(), "RFC 4180, section 2"),
    "no last line end": (PLAIN.rstrip().encode(), "RFC 4180, section 2"),
    "an index": (f",{HEADER}\n0,{ROW}\n".encode(), "pandas-dev/pandas#11968"),
    "an index that was read again": (f"Unnamed: 0,{HEADER}\n0,{ROW}\n".encode(), "pandas-dev/pandas#11968"),
    "spaces around": (PLAIN.replace(",", " , ").encode(), "sindresorhus/neat-csv#10"),
    "a header in capitals": ((HEADER.upper() + f"\n{ROW}\n").encode(), "nielsmaerten/ynab-buddy#36"),
    "everything in quotes": (with_value("type", "p2p").encode(), "RFC 4180, section 2"),
    "a trailing delimiter": (f"{HEADER},\n{ROW},\n".encode(), "RFC 4180, section 2"),
    "gzip": (gzip.compress(PLAIN.encode()), "RFC 1952"),
}


@pytest.mark.parametrize(("content", "report"), READ.values(), ids=READ)
def test_export_is_read_right(tmp_path: Path, content: bytes, report: str) -> None:
    name = "payments.csv.gz" if content.startswith(b"\x1f\x8b") else "payments.csv"
    assert payments_file.payments(written(tmp_path, content, name)) == [PAYMENT], report


VALUES = {
    # field, text, value in the payment (None: absent), public report
    "a float": ("amount", "1200.0", 1200, "calpaterson/csvbase#11"),
    "a decimal": ("amount", "1200.00", 1200, "ONSdigital/csvcubed#362"),
    "thousands": ("amount", "1,200", 1200, "pandas-dev/pandas#4793"),
    "millions": ("amount", "1,234,567.0", 1234567, "pandas-dev/pandas#4793"),
    "spaces of France": ("amount", "1\u202f200", 1200, "Unicode CLDR, fr grouping"),
    "apostrophes of Switzerland": ("amount", "1'200", 1200, "Unicode CLDR, de_CH grouping"),
    "an exponent": ("amount", "1.2e3", 1200, "tidyverse/readr#526"),
    "an amount that the API judges": ("amount", "-5", -5, "RFC 8259, section 6"),
    "NaN": ("payee_id", "nan", None, "pandas-dev/pandas#28335"),
    "NULL of MySQL": ("payee_id", "\\N", None, "apache/hive LazySimpleSerDe"),
    "None of Python": ("ip", "None", None, "zhmcclient/zhmccli#761"),
    "NA of R": ("device_id", "NA", None, "vincentarelbundock/countrycode#261"),
    "Namibia": ("country", "NA", "NA", "datasets/country-codes#38"),
    "#N/A of Excel": ("campaign_id", "#N/A", None, "OasisLMF/OasisLMF#307"),
    "metadata in JSON": ("metadata", '{""order"": ""7"", ""n"": 7}', {"order": "7", "n": "7"}, "zemirco/json2csv#129"),
    "metadata of Python": ("metadata", "{'order': '7'}", {"order": "7"}, "archesproject/arches#6397"),
    "nested metadata": ("metadata", '{""cart"": {""n"": 1}}', {"cart": '{"n": 1}'}, "edraj/dmart#967"),
    "flat metadata": ("metadata.order", "7", {"order": "7"}, "pandas.pydata.org, json_normalize"),
    "an id like an e-mail": ("payee_id", "bob+shop@example.com", "bob+shop@example.com", "RFC 5322, section 3.4.1"),
}  # fmt: skip


@pytest.mark.parametrize(("field", "text", "value", "report"), VALUES.values(), ids=VALUES)
def test_value_is_read_right(tmp_path: Path, field: str, text: str, value: Any, report: str) -> None:
    (payment,) = payments_file.payments(written(tmp_path, with_value(field, text)))
    assert payment.get(field.partition(".")[0]) == value, report


TIMES = {
    # text of noon UTC, declared zone, public report
    "with offset": ("2026-03-05T21:00:00+09:00", None, "RFC 3339"),
    "offset without colon": ("2026-03-05T12:00:00+0000", None, "ISO 8601-1:2019, 4.3.13"),
    "basic format": ("20260305T120000Z", None, "ISO 8601-1:2019, 5.4.2.1"),
    "a space": ("2026-03-05 12:00:00+00:00", None, "django-import-export/django-import-export#283"),
    "UTC in words": ("2026-03-05 12:00:00 UTC", None, "cloud.google.com, BigQuery timestamp type"),
    "nanoseconds": ("2026-03-05T12:00:00.000000000Z", None, "apache/arrow#34614"),
    "seconds since 1970": ("1772712000", None, "questdb/questdb#876"),
    "seconds as a float": ("1772712000.0", None, "pandas-dev/pandas#20717"),
    "milliseconds": ("1772712000000", None, "mcastorina/graph-cli#44"),
    "microseconds": ("1772712000000000", None, "ocsf/ocsf-schema#955"),
    "nanoseconds since 1970": ("1772712000000000000", None, "pandas-dev/pandas#20717"),
    "naive, declared": ("2026-03-05T21:00:00", "Asia/Tokyo", "wireservice/csvkit#681"),
    "naive, an offset declared": ("2026-03-05 14:00", "+02:00", "django-import-export/django-import-export#283"),
}


@pytest.mark.parametrize(("text", "zone", "report"), TIMES.values(), ids=TIMES)
def test_time_is_read_right(tmp_path: Path, text: str, zone: str | None, report: str) -> None:
    declared = payments_file.time_zone(zone) if zone else None
    (payment,) = payments_file.payments(written(tmp_path, with_value("occurred_at", text)), declared)
    assert same_instant(payment)["occurred_at"] == NOON, report
    assert payment["occurred_at"][10] == "T"


def test_leap_second_is_the_end_of_the_second_before(tmp_path: Path) -> None:
    (payment,) = payments_file.payments(written(tmp_path, with_value("occurred_at", "2016-12-31T23:59:60Z")))
    assert payment["occurred_at"] == "2016-12-31T23:59:59.999999+00:00"


def test_ids_that_pandas_made_floats_are_whole_again(tmp_path: Path) -> None:
    """After pandas-dev/pandas#20717: a column of ids that has a gap is written as decimal numbers."""
    rows = ["1.0,p2p,7,8.0,5,JPY,2026-03-05T12:00:00Z", "2.0,cash_out,8,,5,JPY,2026-03-05T12:00:00Z"]
    first, second = payments_file.payments(written(tmp_path, "\n".join([HEADER, *rows])))
    assert (first["transaction_id"], first["payer_id"], first["payee_id"], second["payer_id"]) == ("1", "7", "8", "8")
    kept = written(tmp_path, f"{HEADER}\n1.0,p2p,v1.0,v2.0,5,JPY,2026-03-05T12:00:00Z\n")
    assert payments_file.payments(kept)[0]["payer_id"] == "v1.0"


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", None])
def test_name_in_an_old_encoding_is_read_right(tmp_path: Path, encoding: str | None) -> None:
    """After mirador/nhanes#7, akadan47/dbf2csv#8: exports of Windows are not UTF-8."""
    path = written(tmp_path, with_value("payer_name", "José Muñoz").encode("latin-1"))
    assert payments_file.payments(path, encoding=encoding)[0]["payer_name"] == "José Muñoz"


def test_declared_encoding_is_used(tmp_path: Path) -> None:
    """After turicas/rows#247."""
    path = written(tmp_path, with_value("payer_name", "花子").encode("shift_jis"))
    assert payments_file.payments(path, encoding="shift_jis")[0]["payer_name"] == "花子"


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (json.dumps(PAYMENT) + "\n\n", "payments.jsonl"),
        ("\ufeff" + json.dumps(PAYMENT), "payments.ndjson"),
        (json.dumps([PAYMENT], indent=1), "payments.json"),
        (json.dumps([PAYMENT]), "payments.jsonl"),
        (json.dumps(PAYMENT | {"amount": "1,200", "payee_id": "b", "ip": None, "device_id": ""}), "payments.jsonl"),
        (json.dumps(PAYMENT | {"amount": 1200.0, "country": float("nan")}), "payments.jsonl"),
        (json.dumps(PAYMENT), "payments.JSONL"),
    ],
    ids=["blank line", "mark", "array", "array in lines", "text and null", "float and NaN", "capitals"],
)
def test_json_is_read_right(tmp_path: Path, content: str, name: str) -> None:
    """After RFC 8259 and jsonlines.org; NaN is what Python's json writes."""
    assert payments_file.payments(written(tmp_path, content, name)) == [PAYMENT]


def test_numbers_as_ids_are_text(tmp_path: Path) -> None:
    """After qiita-spots/qiita#643."""
    path = written(tmp_path, json.dumps(PAYMENT | {"payer_id": 7, "payee_id": 8.0}), "payments.jsonl")
    assert [payments_file.payments(path)[0][name] for name in ("payer_id", "payee_id")] == ["7", "8"]


COLUMNS = {
    # column, values, what the payment has, public report
    "timestamps with a zone": ("occurred_at", pa.array([NOON], pa.timestamp("us", "Europe/Berlin")), NOON.isoformat(), "apache/parquet-format LogicalTypes, TIMESTAMP"),
    "nanoseconds": ("occurred_at", pa.array([1772712000123456789], pa.timestamp("ns", "UTC")), "2026-03-05T12:00:00.123456+00:00", "apache/arrow#34614"),
    "epochs": ("occurred_at", pa.array([1772712000000]), NOON.isoformat(), "ocsf/ocsf-schema#955"),
    "decimals": ("amount", pa.array([Decimal("1200.00")]), 1200, "apache/parquet-format LogicalTypes, DECIMAL"),
    "floats": ("amount", pa.array([1200.0]), 1200, "pandas-dev/pandas#20717"),
    "a dictionary": ("type", pa.array(["p2p"]).dictionary_encode(), "p2p", "arrow.apache.org, DictionaryArray"),
    "NaN": ("payee_id", pa.array([float("nan")]), None, "pandas-dev/pandas#28335"),
    "null": ("payee_id", pa.nulls(1), None, "apache/parquet-format, Nulls"),
    "numbers as ids": ("payer_id", pa.array([7.0]), "7", "pandas-dev/pandas#20717"),
    "bytes": ("payer_id", pa.array([b"a"], pa.binary()), "a", "apache/parquet-format LogicalTypes, STRING"),
    "a struct": ("metadata", pa.array([{"order": "7", "none": None}]), {"order": "7"}, "apache/parquet-format LogicalTypes, Nested Types"),
    "a map": ("metadata", pa.array([[("order", "7")]], pa.map_(pa.string(), pa.string())), {"order": "7"}, "apache/parquet-format LogicalTypes, MAP"),
}  # fmt: skip


@pytest.mark.parametrize(("column", "values", "value", "report"), COLUMNS.values(), ids=COLUMNS)
def test_parquet_is_read_right(tmp_path: Path, column: str, values: pa.Array, value: Any, report: str) -> None:
    columns = {name: pa.array([each]) for name, each in PAYMENT.items()} | {"__index_level_0__": pa.array([0])}
    parquet.write_table(pa.table(columns | {column: values}), tmp_path / "payments.parquet")
    (payment,) = payments_file.payments(tmp_path / "payments.parquet")
    assert payment.get(column) == value, report


# --- refused in one line ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def box() -> Iterator[Box]:
    """A box of its own: the clock of the tests' box may have passed these payments."""
    with Box() as running:
        yield running


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Run the command in this process. Return its exit status and what it printed."""

    def run(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["replay", *map(str, arguments)])
        try:
            status = replay.main()
        except SystemExit as error:
            status = int(error.code or 0)
        printed = capsys.readouterr()
        return status, printed.out if status < 2 else printed.err

    return run


REFUSED = {
    # file, what the line says beside the file's name, public report
    "nothing": ("", ["is empty"], "pandas-dev/pandas, EmptyDataError"),
    "no rows": (HEADER + "\n", ["has no rows"], "pandas-dev/pandas, EmptyDataError"),
    "a missing column": ("id,amount\n1,2\n", ["no column transaction_id, type, payer_id, currency, occurred_at", "it has id, amount"], "wligithub/tax-tool#7"),
    "no header": (f"{ROW}\n{ROW}\n", ["no column transaction_id"], "pandas.pydata.org, read_csv header"),
    "a column of its own": (with_value("is_fraud", "0"), ["column 'is_fraud'", "POST /decisions"], "pandas-dev/pandas#11968"),
    "a column twice": (f"{HEADER},amount\n{ROW},5\n", ["column 'amount' twice"], "RFC 4180, section 2"),
    "too many cells": (f"{HEADER}\n{ROW.replace('1200', '1,200')}\n", ["row 1 (line 2)", "8 cells", "header has 7"], "RFC 4180, section 2"),
    "too few cells": (f"{PLAIN}t-2,p2p\n", ["row 2 (line 3)", "2 cells"], "RFC 4180, section 2"),
    "an open quote": (f'{HEADER}\n"{ROW}\n', ["cannot be read"], "RFC 4180, section 2"),
    "an amount in words": (with_value("amount", "many"), ["row 1 (line 2), amount: is no number"], "RFC 8259, section 6"),
    "major units": (with_value("amount", "12.50"), ["row 1 (line 2), amount: is not whole", "minor units"], "ISO 4217"),
    "a decimal comma": (with_value("amount", "1,20"), ["row 1 (line 2), amount: is no number"], "zimmerman-team/IATI.cloud#1622"),
    "an unclear comma": (with_value("amount", "1,200").replace('","', '";"').replace("d,t", "d;t").replace(",", ";", 6).replace("1;200", "1,200"), ["amount: has a comma"], "SheetJS/sheetjs#2239"),
    "an infinite amount": (with_value("amount", "inf"), ["amount: is no number"], "RFC 8259, section 6"),
    "a naive time": (with_value("occurred_at", "2026-03-05 12:00:00"), ["row 1 (line 2), occurred_at: has no offset", "--time-zone"], "wireservice/csvkit#681"),
    "an American time": (with_value("occurred_at", "3/5/2026 12:00"), ["occurred_at: is no time of RFC 3339"], "docs.aws.amazon.com, frauddetector"),
    "a number of hours": (with_value("occurred_at", "743"), ["occurred_at: is a number, but no time since 1970"], "crate/crate#4246"),
    "no time": (with_value("occurred_at", ""), ["row 1 (line 2), occurred_at: is missing"], "pandas-dev/pandas#28335"),
    "no id": (with_value("transaction_id", "NaN"), ["row 1 (line 2), transaction_id: is missing"], "pandas-dev/pandas#28335"),
    "an id of a spreadsheet": (with_value("payer_id", "2.29116E+15"), ["payer_id: was rounded by a spreadsheet"], "support.microsoft.com, long numbers"),
    "metadata that is none": (with_value("metadata", "order 7"), ["metadata: is no JSON object"], "zemirco/json2csv#129"),
    "two currencies": (f"{PLAIN}{ROW.replace('JPY', 'EUR')}\n", ["has payments in EUR, JPY", "one currency"], "ISO 4217"),
    "an unknown currency": (PLAIN.replace("JPY", "yen"), ["has the currency 'yen'", "ISO 4217"], "ISO 4217"),
    "no currency": (PLAIN.replace("JPY", ""), ["has the currency 'none'", "ISO 4217"], "ISO 4217"),
    "a workbook": (b"PK\x03\x04rest", ["an Excel workbook", "save it as CSV"], "williballenthin/python-evtx#93"),
    "an old workbook": (b"\xd0\xcf\x11\xe0rest", ["an Excel workbook"], "williballenthin/python-evtx#93"),
    "half of gzip": (gzip.compress(PLAIN.encode())[:40], ["cannot be read"], "RFC 1952"),
    "zero bytes": (b"\0" * 50, ["payments.csv: "], "python/cpython, csv line contains NUL"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "said", "report"), REFUSED.values(), ids=REFUSED)
def test_file_that_cannot_be_read_ends_in_one_line(run, tmp_path: Path, content, said: list[str], report: str) -> None:
    status, line = run(written(tmp_path, content), "--via", "api")
    assert (status, line.count("\n")) == (2, 1), report
    assert line.startswith(str(tmp_path / "payments.csv"))
    for words in said:
        assert words in line


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("payments.txt", PLAIN, "'.txt'"),
        ("payments", PLAIN, "''"),
        ("payments.parquet", PLAIN, "cannot be read"),
        ("payments.jsonl", '{"transaction_id": "t-1"\n', "row 1 (line 1): is no JSON object"),
        ("payments.jsonl", "\n[1]\n".replace("[1]", "1"), "row 1 (line 2): is no JSON object"),
        ("payments.json", "[1]", "row 1: is no JSON object"),
        ("payments.jsonl", "[" * 10_000, "cannot be read"),
        ("payments.jsonl", json.dumps(PAYMENT) + "\n" + json.dumps(PAYMENT | {"amount": [5]}), "row 2 (line 2), amount: is no number"),
        ("payments.jsonl", json.dumps(PAYMENT | {"occurred_at": True}), "occurred_at: is no time"),
    ],
)  # fmt: skip
def test_other_file_that_cannot_be_read_ends_in_one_line(
    run, tmp_path: Path, name: str, content: str, said: str
) -> None:
    status, line = run(written(tmp_path, content, name), "--via", "api")
    assert (status, line.count("\n"), said in line) == (2, 1, True), line


def test_file_that_is_not_there_or_is_a_folder_ends_in_one_line(run, tmp_path: Path) -> None:
    for path in (tmp_path / "gone.csv", tmp_path, tmp_path / "folder.csv"):
        if path.suffix == ".csv" and path.stem == "folder":
            path.mkdir()
        status, line = run(path, "--via", "kinesis")
        assert (status, line.count("\n")) == (2, 1), line


@given(st.binary(max_size=400), st.sampled_from(table.SUFFIXES), st.sampled_from([b"", PLAIN.encode(), b"PAR1", b"[{"]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_bytes_end_in_a_traceback(tmp_path: Path, content: bytes, suffix: str, start: bytes) -> None:
    path = written(tmp_path, start + content, f"payments{suffix}")
    said = ""
    try:
        payments_file.payments(path)
    except FileError as error:
        said = str(error)
    assert "\n" not in said


# --- labels -----------------------------------------------------------------------------------------------------------


def labels(directory: Path, text: str, words: dict[str, str] | None = None, **options: Any) -> payments_file.Labels:
    known = [PAYMENT, PAYMENT | {"transaction_id": "t-2"}, PAYMENT | {"transaction_id": "t-3"}]
    return payments_file.labels(written(directory, text, "labels.csv"), known, words, **options)


def test_rows_without_label_and_labels_without_row_are_counted(tmp_path: Path) -> None:
    found = labels(tmp_path, "transaction_id,label\nt-1,fraud\nt-3,\nelsewhere,legitimate\nt-9,NaN\n")
    assert found == ({"t-1": "fraud", "elsewhere": "legitimate"}, 2, 1)
    assert str(found) == "1, 2 payments without label, 1 labels without payment"


@pytest.mark.parametrize(
    ("words", "declared"),
    [
        (("1", "0"), "1=fraud,0=legitimate"),
        (("1.0", "0.0"), "1=fraud,0=legitimate"),
        (("True", "False"), "true=fraud,false=legitimate"),
        (("fraud", "legit"), "legit=legitimate"),
        (("FRAUD", " Legitimate "), None),
    ],
)
def test_declared_words_are_labels(tmp_path: Path, words: tuple[str, str], declared: str | None) -> None:
    """After microsoft/responsible-ai-toolbox#903, HazyResearch/metal#47: the positive label is declared, not guessed."""
    text = "transaction_id,label\n" + "".join(f"t-{n},{word}\n" for n, word in enumerate(words, 1))
    found = labels(tmp_path, text, payments_file.declared_words(declared) if declared else None)
    assert found.known == {"t-1": "fraud", "t-2": "legitimate"}


UNKNOWN = {
    "0 and 1": (
        "transaction_id,label\nt-1,fraud\nt-2,1\n",
        ["row 2 (line 3), label: '1'", "neither fraud nor legitimate"],
    ),
    "true": ("transaction_id,label\nt-1,true\n", ["row 1 (line 2), label: 'true'", "--label-words"]),
    "another word": ("transaction_id,label\nt-1,genuine\n", ["'genuine' is neither"]),
    "no column": ("transaction_id,is_fraud\nt-1,1\n", ["no column label", "it has transaction_id, is_fraud"]),
    "no id": ("transaction_id,label\n,fraud\n", ["transaction_id: is missing"]),
    "two labels": ("transaction_id,label\nt-1,fraud\nt-1,legitimate\n", ["row 2 (line 3), label: contradicts"]),
    "other payments": ("transaction_id,label\nx-1,fraud\n", ["none of its 1 labels belongs to a payment"]),
    "a naive time": ("transaction_id,label,reported_at\nt-1,fraud,2026-03-05 12:00\n", ["reported_at: has no offset"]),
}


@pytest.mark.parametrize(("text", "said"), UNKNOWN.values(), ids=UNKNOWN)
def test_labels_that_cannot_be_read_end_in_one_line(run, tmp_path: Path, text: str, said: list[str]) -> None:
    """After scikit-learn/scikit-learn#2094 and tigergraph/graph-ml-notebooks#4: no label must turn into a false figure."""
    file = written(tmp_path, PLAIN)
    status, line = run(file, "--via", "api", "--labels", written(tmp_path, text, "labels.csv"))
    assert (status, line.count("\n")) == (2, 1)
    for words in said:
        assert words in line


def test_label_that_was_reported_last_holds(tmp_path: Path) -> None:
    rows = [
        "t-1,legitimate,2026-03-09T00:00:00Z",
        "t-1,fraud,2026-03-08T00:00:00Z",
        "t-2,fraud,2026-03-08",
        "t-2,fraud,",
    ]
    text = "\n".join(["transaction_id,label,reported_at", *rows])
    found = labels(tmp_path, text, zone=UTC)
    assert found.known == {"t-1": "legitimate", "t-2": "fraud"}


@pytest.mark.parametrize(
    "arguments",
    [["--time-zone", "Nowhere"], ["--time-zone", "../etc"], ["--encoding", "klingon"], ["--label-words", "1"], ["--label-words", "1=bad"],
     ["--limit", "0"], ["--concurrency", "-1"], ["--via", "post"]],
)  # fmt: skip
def test_wrong_option_is_refused(run, tmp_path: Path, arguments: list[str]) -> None:
    status, text = run(written(tmp_path, PLAIN), "--via", "api", *arguments)
    assert (status, "Traceback" in text) == (2, False)


# --- the table --------------------------------------------------------------------------------------------------------


def crowd(prefix: str) -> list[dict[str, Any]]:
    """Return payments of which one is faulty, and one has the id of another with another body."""
    at = [(NOON + timedelta(minutes=n)).isoformat() for n in range(5)]
    payments = [body(transaction_id=f"{prefix}-{n}", payer_id=f"{prefix}-{n % 3}", occurred_at=at[n]) for n in range(5)]
    payments[2] |= {"amount": 0}
    payments[4] |= {"transaction_id": f"{prefix}-1", "amount": 7}
    return payments


def test_refused_rows_and_conflicts_stand_in_the_table_of_the_api(box: Box, run, tmp_path: Path, monkeypatch) -> None:
    """After stripe/stripe-python, IdempotencyError: the same key with another body is a conflict, not a second payment."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", box.credentials.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", box.credentials.secret_key)
    file = written(tmp_path, "".join(json.dumps(each) + "\n" for each in crowd("told")), "payments.jsonl")
    status, text = run(file, "--via", "api", "--url", box.api_url)
    assert status == 1
    assert "5 sent, 3 decided, 2 refused, 0 failed" in text
    assert "1 for amount: too_small" in text
    assert "1 for conflict (amount: differs, occurred_at: differs)" in text
    assert "decided twice  0" in text


def test_conflicts_stand_in_the_table_of_the_stream(box: Box) -> None:
    report = replay.replay_by_stream(crowd("streamed"), box)
    assert report.refused == {"amount: too_small": 1, "conflict (amount: differs, occurred_at: differs)": 1}
    assert (report.decided, report.lost, report.twice) == (3, 0, 0)


def test_rows_that_no_service_takes_as_they_are_are_refused_and_not_lost(box: Box) -> None:
    """After RFC 8259, section 8.2: text may hold half a character, and be longer than a key."""
    odd = [
        crowd("odd")[0] | {"transaction_id": f"odd-{n}", "payer_id": payer}
        for n, payer in enumerate(["\ud800", "p" * 300, ""])
    ]
    missing = {name: value for name, value in crowd("odd")[1].items() if name != "payer_id"}
    half = crowd("odd")[3] | {"transaction_id": "\ud800"}
    for report in (
        replay.replay_by_stream([*odd, missing, half], box),
        replay.replay([*odd, missing, half], box.connect),
    ):
        assert (report.refused.total(), report.decided, report.lost, report.failed) == (5, 0, 0, 0)


def test_ids_with_signs_are_looked_up(box: Box) -> None:
    payment = crowd("signs")[0] | {"transaction_id": "a@b+c=d~e!f$g"}
    report = replay.replay([payment], box.connect)
    assert (report.decided, report.lost) == (1, 0)


def test_file_in_another_currency_than_the_stacks_is_refused(box: Box, run, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", box.credentials.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", box.credentials.secret_key)
    status, line = run(written(tmp_path, PLAIN.replace("JPY", "EUR")), "--via", "api", "--url", box.api_url)
    assert (status, line.count("\n")) == (2, 1)
    assert "decides another currency than EUR" in line


@pytest.mark.parametrize("via", ["api", "kinesis"])
@pytest.mark.parametrize("currency", ["GIP", "FKP"])
def test_a_file_in_a_currency_without_policy_is_refused_with_what_to_do(run, tmp_path, via, currency):
    """cartalyst/stripe#59, InvoicePlane/InvoicePlane#1677: amounts that are read in another currency's units."""
    file = written(tmp_path, PLAIN.replace("JPY", currency))
    status, line = run(file, "--via", via)
    assert status == 2
    assert line.startswith(f"{file}: no policy and model for amounts in {currency}, only for ")
    assert line.rstrip().endswith("or import the data again with --currency JPY")


def test_api_that_is_not_there_ends_in_one_line(run, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "local")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "local")
    status, line = run(written(tmp_path, PLAIN), "--via", "api", "--url", "http://127.0.0.1:1")
    assert (status, line.count("\n"), "cannot be reached" in line) == (2, 1, True)


# --- found by trying to break it --------------------------------------------------------------------------------------


def test_a_file_whose_first_payment_lacks_the_currency_has_that_of_the_others(run, tmp_path):
    """GoogleCloudPlatform/bigquery exports leave null fields out of JSON lines."""
    rows = [{name: PAYMENT[name] for name in PAYMENT if name != "currency"}, PAYMENT | {"transaction_id": "t-2"}]
    text = "".join(json.dumps(row | {"amount": 7}) + "\n" for row in rows)
    status, table = run(written(tmp_path, text, "payments.jsonl"), "--via", "api")
    assert status == 1
    assert "1 for currency: missing" in table


@pytest.mark.parametrize("url", ["127.0.0.1:8080", "localhost", "ftp://127.0.0.1", "http://127.0.0.1:99999", "http://"])
def test_an_address_that_is_none_is_one_line(run, tmp_path, url):
    status, line = run(written(tmp_path, PLAIN), "--via", "api", "--url", url)
    assert (status, line) == (2, f"{url}: is no address such as http://127.0.0.1:8080\n")


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"AWS_PROFILE": "nobody"}, "could not be found"),
        ({"AWS_EC2_METADATA_DISABLED": "true"}, "export AWS_ACCESS_KEY_ID"),
    ],
)
def test_missing_credentials_are_one_line(run, tmp_path, monkeypatch, variables, said):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    empty = {"AWS_CONFIG_FILE": str(tmp_path / "none"), "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none")}
    for name, value in (empty | variables).items():
        monkeypatch.setenv(name, value)
    status, line = run(written(tmp_path, PLAIN), "--via", "api", "--url", "http://127.0.0.1:9")
    assert (status, line.count("\n")) == (2, 1)
    assert said in line


@pytest.mark.parametrize(
    "spelling",
    ["2026-03-01T12:00:00+0900", "2026-03-01T03:00Z", "2026-03-01T12:00:00,0+09:00", "2026-W09-7T03:00:00Z"],
)
def test_times_that_python_reads_and_the_api_does_not_take_are_rewritten(spelling):
    paid = payments_file.payment_of(PAYMENT | {"occurred_at": spelling})
    assert paid["occurred_at"] == "2026-03-01T03:00:00+00:00"


def test_values_of_parquet_that_json_lacks_become_text():
    paid = payments_file.payment_of(
        PAYMENT | {"metadata.due": date(2026, 3, 1), "payer_name": Decimal("7.5"), "device_id": b"phone"}
    )
    assert json.loads(json.dumps(paid))["metadata"] == {"due": '"2026-03-01"'}
    assert (paid["payer_name"], paid["device_id"]) == ("7.5", "phone")


def test_an_id_of_which_a_float_kept_only_the_first_digits_is_refused():
    with pytest.raises(FileError, match="only the first digits"):
        payments_file.payment_of(PAYMENT | {"payer_id": 1.2e19})


def test_two_columns_that_differ_in_case_only_are_refused(run, tmp_path):
    text = f"{HEADER},Amount\n{ROW},7\n"
    status, line = run(written(tmp_path, text), "--via", "api")
    assert status == 2
    assert "has the column 'amount' twice" in line


def test_a_word_of_a_label_that_is_declared_twice_is_refused(run, tmp_path):
    status, line = run(written(tmp_path, PLAIN), "--via", "api", "--label-words", "1=fraud,1=legitimate")
    assert status == 2
    assert "declares a word twice" in line


@pytest.mark.parametrize(
    ("second", "twice", "failed"),
    [(Response(500, b"{}"), 0, 1), (None, 0, 1), (Response(200, b'{"outcome": "decline"}'), 1, 0)],
)
def test_a_repeat_that_fails_is_no_second_decision(second, twice, failed):
    first = Response(200, b'{"outcome": "approve"}')
    result = replay.report([replay.Delivery("t-1", first, 0.1)], [{"outcome": "approve"}], {"t-1": second}, {})
    assert (result.twice, result.failed) == (twice, failed)
