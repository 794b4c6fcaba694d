"""What nobody could decide is read into lines to mend, and sent again; nothing leaves the queue by being read."""

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from local import redrive
from local.box import Box

GOOD = {"transaction_id": "redriven-1", "payer_id": "p"}


class Account:
    """A queue, a bucket and a stream of the box, apart from those of its stack."""

    def __init__(self, box: Box, name: str) -> None:
        self.sqs, self.s3, self.kinesis = box.client("sqs"), box.client("s3"), box.client("kinesis")
        self.queue: str = self.sqs.create_queue(QueueName=f"redrive-{name}")["QueueUrl"]
        self.archive = self.stream = f"redrive-{name}"
        self.s3.create_bucket(Bucket=self.archive)
        self.kinesis.create_stream(StreamName=self.stream, ShardCount=1)

    def set_aside(self, data: bytes, *, archived: bool = False) -> None:
        message: dict[str, Any] = {"reason": "invalid", "errors": [], "shard": "s", "sequence": "7"}
        if archived:
            self.s3.put_object(Bucket=self.archive, Key="undecidable/s/7", Body=data)
            message["archive_key"] = "undecidable/s/7"
        else:
            message["data"] = base64.b64encode(data).decode()
        self.sqs.send_message(QueueUrl=self.queue, MessageBody=json.dumps(message))

    def read(self) -> list[redrive.Line]:
        return list(redrive.read(self.sqs, self.s3, self.queue, self.archive))

    def send(self, lines: list[redrive.Line]) -> redrive.Sent:
        return redrive.send(self.sqs, self.kinesis, self.queue, self.stream, lines)

    @property
    def streamed(self) -> list[Any]:
        iterator = self.kinesis.get_shard_iterator(
            StreamName=self.stream, ShardId="shardId-000000000000", ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        return [json.loads(record["Data"]) for record in self.kinesis.get_records(ShardIterator=iterator)["Records"]]

    @property
    def kept(self) -> int:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        attributes = self.sqs.get_queue_attributes(QueueUrl=self.queue, AttributeNames=names)["Attributes"]
        return sum(map(int, attributes.values()))


@pytest.fixture
def account(box: Box, request: pytest.FixtureRequest) -> Account:
    return Account(box, str(abs(hash(request.node.name))))


@pytest.mark.parametrize("archived", [False, True])
def test_payment_is_read_to_be_mended_and_stays_until_it_is_sent(account: Account, archived: object) -> None:
    account.set_aside(json.dumps(GOOD | {"amount": -1}).encode(), archived=bool(archived))
    (line,) = account.read()
    assert (line["reason"], line["sequence"], line["payment"]) == ("invalid", "7", GOOD | {"amount": -1})
    assert (account.read(), account.kept) == ([], 1)
    assert account.send([line | {"payment": GOOD}]) == redrive.Sent(1, 0, 0)
    assert (account.streamed, account.kept) == ([GOOD], 0)


def test_what_is_no_payment_is_sent_only_once_it_is_made_one(account: Account) -> None:
    account.set_aside(b"\xffnonsense")
    (line,) = account.read()
    assert account.send([line]) == redrive.Sent(0, 0, 1)
    assert (account.streamed, account.kept) == ([], 1)
    assert account.send([line | {"payment": None}]) == redrive.Sent(0, 1, 0)
    assert (account.streamed, account.kept) == ([], 0)


def test_commands_read_and_send(box: Box, account: Account, tmp_path: Path) -> None:
    account.set_aside(json.dumps(GOOD).encode())
    credentials = box.credentials
    variables = os.environ | {
        "AWS_ACCESS_KEY_ID": credentials.access_key,
        "AWS_SECRET_ACCESS_KEY": credentials.secret_key,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": box.endpoint_url,
    }

    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", "local.redrive", *arguments, "--queue", account.queue]
        return subprocess.run(command, env=variables, check=True, capture_output=True, text=True, timeout=60).stdout

    file = str(tmp_path / "lines.jsonl")
    assert run("read", file, "--archive", account.archive).startswith("1 messages in")
    assert run("send", file, "--stream", account.stream) == "1 sent, 0 dropped, 0 left\n"
    assert account.streamed == [GOOD]
