"""Undecidable records are read as lines, mended and sent again; reading removes no message from the queue."""

import base64
import json
import os
import subprocess
import sys
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from local.box import Box
from operations import redrive

GOOD = {"transaction_id": "redriven-1", "payer_id": "p"}
NUMBERS = count(1)


class Account:
    """A queue, a bucket and a stream in the box, separate from those of its stack."""

    def __init__(self, box: Box, name: str) -> None:
        self.sqs, self.s3, self.kinesis = box.client("sqs"), box.client("s3"), box.client("kinesis")
        self.queue: str = self.sqs.create_queue(QueueName=f"redrive-{name}")["QueueUrl"]
        self.archive = self.stream = f"redrive-{name}"
        self.s3.create_bucket(Bucket=self.archive)
        self.kinesis.create_stream(StreamName=self.stream, ShardCount=1)

    def set_aside(self, data: bytes, *, archived: bool = False, sequence: str = "7") -> None:
        message: dict[str, Any] = {"reason": "invalid", "errors": [], "shard": "s", "sequence": sequence}
        if archived:
            self.s3.put_object(Bucket=self.archive, Key=f"undecidable/s/{sequence}", Body=data)
            message["archive_key"] = f"undecidable/s/{sequence}"
        else:
            message["data"] = base64.b64encode(data).decode()
        self.sqs.send_message(QueueUrl=self.queue, MessageBody=json.dumps(message))

    def give_up(self, key: str, info: str, records: list[dict[str, Any]]) -> None:
        told = {"version": "1.0", info: {"shardId": "s"}, "payload": json.dumps({"Records": records})}
        self.s3.put_object(Bucket=self.archive, Key=f"aws/lambda/{key}", Body=json.dumps(told).encode())

    def read(self) -> list[redrive.Line]:
        return list(redrive.read(self.sqs, self.s3, self.queue, self.archive, wait_s=0))

    def send(self, lines: list[redrive.Line | bytes]) -> redrive.Sent:
        return redrive.send(self.sqs, self.kinesis, self.queue, self.stream, lines, self.s3)

    @property
    def records(self) -> list[tuple[str, bytes]]:
        iterator = self.kinesis.get_shard_iterator(
            StreamName=self.stream, ShardId="shardId-000000000000", ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        records = self.kinesis.get_records(ShardIterator=iterator)["Records"]
        return [(record["PartitionKey"], record["Data"]) for record in records]

    @property
    def streamed(self) -> list[Any]:
        return [json.loads(data) for _, data in self.records]

    @property
    def visible(self) -> int:
        return self._count("ApproximateNumberOfMessages")

    @property
    def kept(self) -> int:
        return self.visible + self._count("ApproximateNumberOfMessagesNotVisible")

    @property
    def archived(self) -> list[str]:
        return [entry["Key"] for entry in self.s3.list_objects_v2(Bucket=self.archive).get("Contents", [])]

    def _count(self, name: str) -> int:
        return int(self.sqs.get_queue_attributes(QueueUrl=self.queue, AttributeNames=[name])["Attributes"][name])


class Sparse:
    """An SQS client whose calls without a wait ask only a few of the queue's servers, and those have no message."""

    def __init__(self, sqs: Any) -> None:
        self._sqs = sqs

    def receive_message(self, **parameters: Any) -> Any:
        return self._sqs.receive_message(**parameters) if parameters.get("WaitTimeSeconds") else {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sqs, name)


@pytest.fixture
def account(box: Box) -> Account:
    return Account(box, str(next(NUMBERS)))


def run(box: Box, *arguments: str, status: int = 0) -> str:
    credentials = box.credentials
    variables = os.environ | {
        "AWS_ACCESS_KEY_ID": credentials.access_key,
        "AWS_SECRET_ACCESS_KEY": credentials.secret_key,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": box.endpoint_url,
    }
    command = [sys.executable, "-m", "operations.redrive", *arguments]
    done = subprocess.run(command, env=variables, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == status, done.stderr
    return done.stdout


@pytest.mark.parametrize("archived", [False, True])
def test_payment_is_read_to_be_mended_and_stays_until_it_is_sent(account: Account, archived: object) -> None:
    account.set_aside(json.dumps(GOOD | {"amount": -1}).encode(), archived=bool(archived))
    (line,) = account.read()
    assert (line["reason"], line["sequence"], line["payment"]) == ("invalid", "7", GOOD | {"amount": -1})
    assert (account.read(), account.kept) == ([], 1)
    assert account.send([line | {"payment": GOOD}]) == redrive.Sent(1, 0, 0)
    assert (account.streamed, account.kept, account.archived) == ([GOOD], 0, [])


def test_record_that_is_no_payment_is_left_until_a_person_drops_it(account: Account) -> None:
    account.set_aside(b"\xffnonsense", archived=True)
    (line,) = account.read()
    assert account.send([line]) == redrive.Sent(0, 0, 1)
    assert (account.streamed, account.kept, len(account.archived)) == ([], 1, 1)
    assert account.send([line | {"payment": None}]) == redrive.Sent(0, 1, 0)
    assert (account.streamed, account.kept, account.archived) == ([], 0, [])


@pytest.mark.parametrize(
    "data",
    [b"[" * 30000, b'{"a":' * 30000 + b"1" + b"}" * 30000, b'{"a":' * 950 + b"1" + b"}" * 950, b"\xff\x00", b"", b"{"],
    ids=["nested", "nested object", "nested a little", "no text", "empty", "half"],
)
def test_no_record_stops_the_others_of_its_call(account: Account, data: bytes) -> None:
    account.set_aside(data, sequence="1")
    account.set_aside(json.dumps(GOOD).encode(), sequence="2")
    broken, sound = sorted(json.loads(json.dumps(account.read())), key=lambda line: line["sequence"])
    assert sound["payment"] == GOOD
    match broken["payment"]:
        case str(text) if text.startswith("base64,"):
            assert base64.b64decode(text.removeprefix("base64,")) == data
        case str(text):
            assert text.encode() == data
        case payment:
            assert payment == json.loads(data)


@pytest.mark.parametrize("data", [b"null", b"[]", b'"text"', b"1"])
def test_record_that_is_no_object_is_text_and_is_not_dropped_unedited(account: Account, data: bytes) -> None:
    account.set_aside(data)
    (line,) = account.read()
    assert line["payment"] == data.decode()
    assert account.send([line]) == redrive.Sent(0, 0, 1)
    assert account.kept == 1


def test_message_that_is_not_ours_is_a_line_too(account: Account) -> None:
    account.sqs.send_message(QueueUrl=account.queue, MessageBody="hello")
    (line,) = account.read()
    assert (line["reason"], line["payment"]) == ("unreadable", "hello")


def test_record_gone_from_the_archive_is_a_line_that_says_so(account: Account) -> None:
    account.set_aside(json.dumps(GOOD).encode(), archived=True, sequence="1")
    account.set_aside(json.dumps(GOOD).encode(), sequence="2")
    account.s3.delete_object(Bucket=account.archive, Key="undecidable/s/1")
    gone, sound = sorted(account.read(), key=lambda line: line["sequence"])
    assert sound["payment"] == GOOD
    assert "NoSuchKey" in gone["payment"]
    assert account.send([gone | {"payment": None}]) == redrive.Sent(0, 1, 0)


def test_record_with_two_messages_is_one_line_and_both_are_kept_or_deleted(account: Account) -> None:
    for _ in range(2):
        account.set_aside(json.dumps(GOOD).encode(), archived=True)
    (line,) = account.read()
    assert account.send([line | {"payment": "not yet"}]) == redrive.Sent(0, 0, 1)
    assert account.kept == 2
    assert account.send([line]) == redrive.Sent(1, 0, 0)
    assert (account.streamed, account.kept) == ([GOOD], 0)


def test_queue_is_empty_only_when_a_call_that_waits_gets_no_message(account: Account) -> None:
    account.set_aside(json.dumps(GOOD).encode())
    assert len([*redrive.read(Sparse(account.sqs), account.s3, account.queue, account.archive)]) == 1


def test_messages_whose_lines_were_not_taken_can_be_read_at_once(account: Account) -> None:
    for number in range(3):
        account.set_aside(json.dumps(GOOD).encode(), sequence=str(number))
    lines = redrive.read(account.sqs, account.s3, account.queue, account.archive, wait_s=0)
    next(lines)
    assert account.visible == 0
    next(lines)
    lines.close()
    assert (account.visible, account.kept) == (2, 3)


def test_line_that_cannot_be_sent_is_left_with_its_reason_and_the_others_are_sent(
    account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(3):
        account.set_aside(json.dumps(GOOD).encode(), sequence=str(number))
    first, second, third = account.read()
    foreign, text = first | {"receipt_handle": "foreign"}, second | {"payment": "text"}
    lines = [foreign, b"{half\n", b"\n", {"payment": {}}, text, '{"payment": "円"}\n'.encode("cp932")]
    assert account.send([*lines, b"  \n", json.dumps(third).encode()]) == redrive.Sent(1, 0, 5)
    assert (account.streamed, account.kept) == ([GOOD, GOOD], 2)
    reasons = [line for line in capsys.readouterr().err.splitlines() if line.startswith("line ")]
    assert [reason.partition(":")[0] for reason in reasons] == ["line 1", "line 2", "line 4", "line 5", "line 6"]


@pytest.mark.parametrize(("payer", "key"), [("p" * 300, "p" * 256), ("\ud800", "?"), ({"p": 1}, "{'p': 1}"), ("", "7")])
def test_any_payer_id_makes_a_partition_key(account: Account, payer: object, key: str) -> None:
    payment = json.dumps(GOOD | {"payer_id": payer}).encode()
    account.set_aside(payment)
    assert account.send([*account.read()]) == redrive.Sent(1, 0, 0)
    assert account.records == [(key, payment)]


def test_batches_that_were_given_up_are_sent_unchanged_and_deleted_from_the_archive(account: Account) -> None:
    data = [b'{"n": 1}', b"\xff", b"[" * 30000]
    records = [{"kinesis": {"partitionKey": f"p{n}", "data": base64.b64encode(one).decode()}} for n, one in
               enumerate(data)]  # fmt: skip
    account.give_up("a/s/1", "KinesisBatchInfo", records[:2])
    account.give_up("a/s/2", "KinesisBatchInfo", [{}])
    account.give_up("a/s/3", "KinesisBatchInfo", records[2:])
    account.give_up("b/s/1", "DDBStreamBatchInfo", [{}])
    account.s3.put_object(Bucket=account.archive, Key="undecidable/s/7", Body=b"")
    result = redrive.send_archived(account.s3, account.kinesis, account.archive, account.stream)
    assert result == redrive.Sent(3, 0, 1)
    assert account.records == [(f"p{n}", one) for n, one in enumerate(data)]
    assert account.archived == ["aws/lambda/a/s/2", "aws/lambda/b/s/1", "undecidable/s/7"]


def test_commands_read_send_and_send_archived(box: Box, account: Account, tmp_path: Path) -> None:
    file = tmp_path / "lines.jsonl"
    queue, archive, stream = ["--queue", account.queue], ["--archive", account.archive], ["--stream", account.stream]
    account.set_aside(json.dumps(GOOD).encode(), sequence="1")
    assert run(box, "read", str(file), *queue, *archive).startswith("1 records read")
    mended = GOOD | {"amount": 1}
    file.write_text(json.dumps(json.loads(file.read_text()) | {"payment": mended}) + "\n\n")
    account.set_aside(json.dumps(GOOD).encode(), sequence="1")
    account.set_aside(b"nonsense", sequence="2")
    assert run(box, "read", str(file), *queue, *archive).startswith("2 records read")
    assert run(box, "send", str(file), *queue, *stream, status=1) == "1 sent, 0 dropped, 1 left\n"
    assert (account.streamed, account.kept) == ([mended], 1)
    account.give_up("a/s/1", "KinesisBatchInfo", [{"kinesis": {"partitionKey": "p", "data": "e30="}}])
    assert run(box, "archived", *archive, *stream) == "1 sent, 0 dropped, 0 left\n"
    assert account.streamed == [mended, {}]


def test_no_message_is_received_when_the_file_cannot_take_it(box: Box, account: Account, tmp_path: Path) -> None:
    broken = tmp_path / "lines.jsonl"
    broken.write_text("{half\n")
    account.set_aside(json.dumps(GOOD).encode())
    for file in (broken, tmp_path / "nowhere" / "lines.jsonl"):
        run(box, "read", str(file), "--queue", account.queue, "--archive", account.archive, status=1)
    assert (account.visible, broken.read_text()) == (1, "{half\n")
