"""The schedule's function on the emulated Athena: what it counts, writes and logs, and what a query that fails does."""

import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow.parquet
import pytest
from botocore.exceptions import ClientError

from fraud.archive import record, schema
from fraud.errors import ServiceError
from fraud.reporting.kpis import ALL, KPIS
from local.account.emulator import Emulator
from local.delivered import DELIVERED
from operations import kpis as command
from tests.integration.test_archive import Rows, bucket_of, rows

__all__ = ["rows"]

NOW = datetime(2026, 3, 5, 1, tzinfo=UTC)
DAY = "2026-03-04"


@pytest.fixture
def archived(emulator: Emulator, rows: Rows, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put ten decisions of a day into the archive, of which two are frauds; the clock shows the night after it."""
    assert rows
    monkeypatch.setattr("fraud.clock.source", lambda: NOW)
    some = {
        schema.DECISIONS: [
            {"transaction": str(n), "segment": "o'hara" if n % 2 else "standard", "outcome": "approve", "amount": 100}
            for n in range(10)
        ],
        schema.LABELS: [{"transaction": str(n), "number": 0, "counts": True} for n in (1, 2)],
    }
    s3, bucket = emulator.client("s3"), bucket_of(emulator)
    for table, given in some.items():
        filled = [dict.fromkeys(table.names) | {"day": DAY, "event_id": str(n)} | each for n, each in enumerate(given)]
        s3.put_object(Bucket=bucket, Key=f"{DELIVERED}/{table.name}/x", Body=b"".join(map(record.line, filled)))
    yield
    for found in s3.list_objects_v2(Bucket=bucket).get("Contents", ()):
        s3.delete_object(Bucket=bucket, Key=found["Key"])


def objects(emulator: Emulator) -> dict[str, bytes]:
    s3, bucket = emulator.client("s3"), bucket_of(emulator)
    found = s3.list_objects_v2(Bucket=bucket, Prefix="kpis/").get("Contents", ())
    return {each["Key"]: s3.get_object(Bucket=bucket, Key=each["Key"])["Body"].read() for each in found}


@pytest.mark.usefixtures("archived")
def test_a_day_is_written_as_json_and_parquet_once_however_often_it_is_counted(doors, emulator, capsys):
    for _ in range(2):
        capsys.readouterr()
        told = doors["Kpis"].kpis({}, None)
    assert told == {"days": 35, "figures": 3 * 12 + len(KPIS) - 12}
    found = objects(emulator)
    assert sorted(key for key in found if key.endswith(".json")) == [f"kpis/{DAY}.json"]
    (parquet,) = (content for key, content in found.items() if key.endswith(".parquet"))
    said = json.loads(found[f"kpis/{DAY}.json"])
    table = pyarrow.parquet.read_table(io.BytesIO(parquet)).to_pylist()
    assert [{name: each[name] for name in each if name != "day"} for each in said["kpis"]] == table
    rate = next(each for each in said["kpis"] if (each["segment"], each["kpi"]) == (ALL, "fraud_rate"))
    assert (rate["numerator"], rate["denominator"], rate["value"], rate["high"]) == (2, 10, 2e6, None)
    assert {each["segment"] for each in said["kpis"]} == {ALL, "standard", "o'hara"}


@pytest.mark.usefixtures("archived")
def test_the_metrics_are_those_of_yesterday_or_of_the_day_that_has_just_matured(doors, capsys, monkeypatch):
    at_once = [kpi.name for kpi in KPIS if kpi.is_early or not kpi.matures_days]
    for days, published in ((0, at_once), (30, [kpi.name for kpi in KPIS if kpi.name not in at_once])):
        monkeypatch.setattr("fraud.clock.source", lambda days=days: NOW + timedelta(days=days))
        capsys.readouterr()
        doors["Kpis"].kpis({}, None)
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        values = {line["Kpi"]: line["KpiValue"] for line in lines if "Kpi" in line}
        assert ("fraud_rate" in values) is (days == 30)
        assert values.keys() <= set(published)
        assert (lines[-1]["KpisCounted"], lines[-1]["KpisOutOfBounds"], lines[-1]["kpis"]) == (len(published), 0, [])
    assert values["fraud_rate"] == 2e6
    assert "dispute_share" not in values


@pytest.mark.usefixtures("archived")
def test_a_query_that_fails_raises_and_writes_nothing(doors, emulator, monkeypatch, capsys):
    monkeypatch.setattr(doors["Kpis"]._reporting, "_nano_usd", {"p2p": "no number", "other": 1})
    with pytest.raises(ServiceError, match="QueryFailed"):
        doors["Kpis"].kpis({}, None)
    assert objects(emulator) == {}
    assert '"QueryFailed"' in capsys.readouterr().out


def test_a_day_without_anything_leaves_no_object_and_counts_nothing(doors, emulator, rows: Rows, monkeypatch, capsys):
    assert rows(schema.DECISIONS) == []
    monkeypatch.setattr("fraud.clock.source", lambda: NOW)
    assert doors["Kpis"].kpis({}, None) == {"days": 35, "figures": 0}
    assert objects(emulator) == {}
    assert json.loads(capsys.readouterr().out)["KpisCounted"] == 0


@pytest.mark.usefixtures("archived")
def test_the_command_prints_a_table_json_and_a_page_with_plots(doors, emulator, capsys, tmp_path):
    assert doors
    asked = ["--from", "2026-03-03", "--to", DAY, "--box", emulator.url]
    assert command.main(asked) == 0
    assert "2026-03-04, segment all" in (told := capsys.readouterr().out)
    assert "not determinable" in told
    assert command.main([*asked, "--json", "--report", str(tmp_path / "page")]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert {each["day"] for each in figures} == {DAY}
    page = (tmp_path / "page" / "index.html").read_text(encoding="utf-8")
    assert "o&#39;hara" in page
    assert (tmp_path / "page" / "fraud_rate.png").stat().st_size > 1_000
    assert command.main([*asked, "--segment", "nobody"]) == 1
    assert "o'hara, standard" in capsys.readouterr().err


@pytest.mark.usefixtures("archived")
def test_the_command_says_what_blind_reviews_tell_and_how_many_more_recall_needs(doors, emulator, capsys):
    assert doors
    asked = ["--from", DAY, "--to", DAY, "--box", emulator.url]
    assert command.main(asked) == 0
    assert "blind reviews" not in capsys.readouterr().out
    drawn = [("decline@1", "fraud")] * 6 + [("decline@1", "dispute")] * 2 + [("approve@0.5", "legitimate")] * 4
    rows = {
        schema.DECISIONS: [
            {"transaction": f"s-{n}", "stratum": name, "sample": name} for n, (name, _) in enumerate(drawn)
        ]
        + [{"transaction": f"not-{n}", "stratum": "approve@0.5"} for n in range(40)],
        schema.CASES: [
            {"transaction": f"s-{n}", "kind": "sample", "finding": finding, "number": 3}
            for n, (_, finding) in enumerate(drawn)
        ],
    }
    s3, bucket = emulator.client("s3"), bucket_of(emulator)
    for table, given in rows.items():
        filled = [dict.fromkeys(table.names) | {"day": DAY, "event_id": f"s{n}"} | each for n, each in enumerate(given)]
        s3.put_object(Bucket=bucket, Key=f"{DELIVERED}/{table.name}/y", Body=b"".join(map(record.line, filled)) * 2)
    assert command.main(asked) == 0
    told = [line.split() for line in capsys.readouterr().out.partition("blind reviews")[2].splitlines()]
    assert told[1][:7] == ["precision", "of", "declines", "75.0", "%", "(75.0", "%"]
    assert told[2][:3] == ["recall", "not", "determinable"]
    assert told[3][-4:] == ["review", "35", "approved", "payments"]


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        (["--from", "yesterday", "--to", DAY], "'yesterday' is no day such as 2026-03-04"),
        (["--from", "20260304", "--to", DAY], "'20260304' is no day such as 2026-03-04"),
        (["--from", "2026-02-30", "--to", DAY], "'2026-02-30' is no day such as 2026-03-04"),
        (["--from", DAY, "--to", "2026-03-03"], "--from 2026-03-04 is after --to 2026-03-03"),
        (["--from", "2020-01-01", "--to", DAY], "at most 400 days apart"),
        (["--from", DAY], "required: --to"),
        (["--from", DAY, "--to", DAY, "--workgroup", "x"], "--workgroup needs --database"),
        (["--from", DAY, "--to", DAY, "--report", __file__], "is no directory"),
        (["--from", DAY, "--to", DAY, "--report", f"{__file__}/page"], "is no directory"),
        (["--from", DAY, "--to", "2026-03-06"], "--to 2026-03-06 is after today, 2026-03-05 (UTC)"),
    ],
)
def test_a_wrong_argument_is_named_with_what_would_be_right(more, fault, capsys, monkeypatch):
    monkeypatch.setattr("fraud.clock.source", lambda: NOW)
    place = [] if "--workgroup" in more else ["--box", "http://127.0.0.1:9"]
    with pytest.raises(SystemExit) as ended:
        command.main([*more, *place])
    assert ended.value.code == 2
    assert fault in capsys.readouterr().err


def test_a_place_that_does_not_answer_is_named_in_one_line(monkeypatch):
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")

    def refusing(_service: str) -> Any:
        raise ClientError({"Error": {"Code": "AccessDeniedException"}}, "StartQueryExecution")

    monkeypatch.setattr(command.boto3, "client", lambda service, **_: refusing(service))
    with pytest.raises(SystemExit, match="no KPIs: Athena refused a query: AccessDeniedException"):
        command.main(["--from", DAY, "--to", DAY, "--workgroup", "w", "--database", "d"])
