"""A replay sends every payment once in event order, retries passing failures, and finds lost and double decisions."""

import csv
import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pytest
from pyarrow import parquet

from local import payments_file
from local.api.client import Response
from local.box import Box
from local.replay import Report, in_event_order, replay
from models.datasets.table import FileError
from tests.support.payments import body

START = datetime(2026, 3, 5, 9, tzinfo=UTC)


def payments(count: int, prefix: str = "r") -> list[dict[str, Any]]:
    return [
        body(
            transaction_id=f"{prefix}-{n}",
            payer_id=f"{prefix}-{n % 3}",
            occurred_at=(START + timedelta(minutes=n)).isoformat(),
        )
        for n in range(count)
    ]


class FakeApi:
    """A fake API with one fault. It is its own connection: calling it returns itself."""

    def __init__(self, fault: str = "") -> None:
        self.fault = fault
        self.stored: dict[str, bytes] = {}
        self.seen: list[tuple[str, datetime]] = []
        self.calls = 0

    def __call__(self) -> Self:
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def request(self, method: str, path: str, sent: bytes = b"", at: datetime | None = None) -> Response:
        self.calls += 1
        if method == "GET":
            stored = self.stored.get(path.rpartition("/")[2])
            return Response(404, b"") if stored is None else Response(200, b'{"decision": %s}' % stored)  # type: ignore[arg-type]
        payment = json.loads(sent)
        assert at is not None
        self.seen.append((payment["transaction_id"], at))
        match self.fault:
            case "tired" if self.calls % 2:
                return Response(503, b"")  # type: ignore[arg-type]
            case "hangs up" if self.calls % 2:
                raise ConnectionResetError
            case "breaks":
                return Response(500, b"")  # type: ignore[arg-type]
            case "refuses":
                return Response(400, b"{}")  # type: ignore[arg-type]
        decision = json.dumps(
            {"outcome": "decline" if payment["amount"] > 1500 else "approve", "n": self.calls}
        ).encode()
        answer = decision if self.fault == "forgets" else self.stored.setdefault(payment["transaction_id"], decision)
        if self.fault == "loses":
            self.stored.clear()
        if self.fault == "overwrites":
            self.stored[payment["transaction_id"]] = b'{"outcome": "review"}'
        return Response(200, answer)  # type: ignore[arg-type]


def run(api: FakeApi, **options: Any) -> Report:
    return replay(payments(4), api, **options)  # type: ignore[arg-type]


def test_payments_are_sent_in_event_order_each_at_its_own_time() -> None:
    api = FakeApi()
    report = replay(reversed(payments(4)), api, repeats=0)  # type: ignore[arg-type]
    assert api.seen == [(f"r-{n}", START + timedelta(minutes=n)) for n in range(4)]
    assert (report.sent, report.decided, report.repeated, report.sound) == (4, 4, 0, True)


@pytest.mark.parametrize("fault", ["tired", "hangs up"])
def test_payment_is_sent_again_when_the_api_is_unavailable_or_hangs_up(fault: str) -> None:
    report = run(FakeApi(fault))
    assert (report.decided, report.failed, report.sound) == (4, 0, True)


@pytest.mark.parametrize(
    ("fault", "failed", "lost", "twice"),
    [("breaks", 4, 0, 0), ("loses", 0, 4, 4), ("forgets", 0, 4, 4), ("overwrites", 0, 0, 4)],
)
def test_fault_of_the_api_is_counted_and_makes_the_report_unsound(
    fault: str, failed: int, lost: int, twice: int
) -> None:
    report = run(FakeApi(fault))
    assert (report.failed, report.lost, report.twice, report.sound) == (failed, lost, twice, False)


def test_refusal_is_an_answer_but_no_decision() -> None:
    report = run(FakeApi("refuses"))
    assert (report.refused, report.decided, report.sound) == ({400: 4}, 0, True)


def test_labels_separate_caught_frauds_from_missed_ones() -> None:
    crowd = [one | {"amount": amount} for one, amount in zip(payments(4), (2000, 1000, 2000, 1000), strict=True)]
    labels = {"r-0": "fraud", "r-1": "fraud", "r-2": "legitimate", "r-3": "legitimate", "elsewhere": "fraud"}
    table = replay(crowd, FakeApi(), labels).table()  # type: ignore[arg-type]
    assert "1 caught, 1 missed (recall 50.0%), 1 false alarms (precision 50.0%)" in table
    assert "decline 2, approve 2" in table
    assert "p95" in table


def test_empty_report_has_a_table() -> None:
    assert "0 sent" in Report().table()


@pytest.fixture(params=["jsonl", "csv", "parquet"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / f"payments.{request.param}"
    crowd = [one | {"metadata": {"order": "7"}} for one in payments(3, f"file-{request.param}")]
    match request.param:
        case "jsonl":
            path.write_text("".join(json.dumps(one) + "\n" for one in crowd))
        case "csv":
            with path.open("w", newline="") as output:
                writer = csv.DictWriter(output, [*crowd[0], "ip"])
                writer.writeheader()
                writer.writerows(one | {"metadata": json.dumps(one["metadata"])} for one in crowd)
        case "parquet":
            at = [datetime.fromisoformat(one["occurred_at"]) for one in crowd]
            table = pa.Table.from_pylist(
                [one | {"occurred_at": t, "ip": None} for one, t in zip(crowd, at, strict=True)]
            )
            metadata = pa.array([[("order", "7")]] * 3, pa.map_(pa.string(), pa.string()))
            table = table.set_column(table.column_names.index("metadata"), "metadata", metadata)
            parquet.write_table(table, path)
    return path


def test_every_file_format_gives_the_same_payments(file: Path) -> None:
    expected = [one | {"metadata": {"order": "7"}} for one in payments(3, f"file-{file.suffix[1:]}")]
    assert payments_file.payments(file) == expected


def test_other_formats_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"\.txt"):
        payments_file.payments(tmp_path / "payments.txt")


def test_command_replays_a_file_against_a_running_box(file: Path, box: Box, tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text(f"transaction_id,label\nfile-{file.suffix[1:]}-0,legitimate\nelsewhere,fraud\n")
    keys = {"AWS_ACCESS_KEY_ID": box.credentials.access_key, "AWS_SECRET_ACCESS_KEY": box.credentials.secret_key}
    command = [sys.executable, "-m", "local.replay", file, "--via", "api", "--limit", "2", "--url", box.api_url]
    done = subprocess.run(
        [*command, "--labels", labels], env=os.environ | keys, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "2 sent, 2 decided, 0 refused, 0 failed" in done.stdout
    assert "0 caught, 0 missed" in done.stdout
    latest = in_event_order(payments_file.payments(file))[:2][-1]["occurred_at"]
    assert f"a box takes {latest}, or a later time that it had, for now" in done.stdout
    assert "1, 2 payments without label, 1 labels without payment" in done.stdout
