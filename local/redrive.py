"""Payments that no retry can decide, out of their queue into a file to mend, and from the file back to the stream.

`python -m local.redrive read FILE.jsonl --queue URL --archive BUCKET` holds every message for twelve hours and writes
it as a line; `python -m local.redrive send FILE.jsonl --queue URL --stream NAME` puts each line's `payment` on the
stream and then deletes its message. A line whose payment is null is deleted only, one whose payment is no object stays
in the queue. What was sent twice by a crash in between is decided once.
"""

import argparse
import base64
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import boto3

HELD_S = 12 * 3600
"""The longest that SQS lets a message be held: as long as its receipt handle must last."""

MESSAGES_PER_CALL = 10

Line = dict[str, Any]


class Sent(NamedTuple):
    """What became of the lines of a file."""

    sent: int
    dropped: int
    left: int


def read(sqs: Any, s3: Any, queue: str, archive: str, held_s: int = HELD_S) -> Iterator[Line]:  # noqa: ANN401 - boto3 has no types
    """Every message of the queue as a line: why, where it stood, and the payment, parsed where it can be."""
    while messages := sqs.receive_message(
        QueueUrl=queue, MaxNumberOfMessages=MESSAGES_PER_CALL, VisibilityTimeout=held_s
    ).get("Messages"):
        for message in messages:
            told = json.loads(message["Body"])
            if key := told.pop("archive_key", None):
                data = s3.get_object(Bucket=archive, Key=key)["Body"].read()
            else:
                data = base64.b64decode(told.pop("data"))
            yield told | {"receipt_handle": message["ReceiptHandle"], "payment": _payment(data)}


def send(sqs: Any, kinesis: Any, queue: str, stream: str, lines: Iterable[Line]) -> Sent:  # noqa: ANN401
    """Put each mended payment on the stream, then delete its message."""
    sent = dropped = left = 0
    for line in lines:
        payment = line["payment"]
        if isinstance(payment, dict):
            key = str(payment.get("payer_id") or line["sequence"])
            kinesis.put_record(StreamName=stream, PartitionKey=key, Data=json.dumps(payment).encode())
            sent += 1
        elif payment is None:
            dropped += 1
        else:
            left += 1
            continue
        sqs.delete_message(QueueUrl=queue, ReceiptHandle=line["receipt_handle"])
    return Sent(sent, dropped, left)


def _payment(data: bytes) -> Any:  # noqa: ANN401 - whatever was on the stream
    try:
        return json.loads(data)
    except ValueError:
        return data.decode(errors="replace")


def main() -> int:
    """Read the queue into a file, or send a file; the exit status says whether nothing was left."""
    parser = argparse.ArgumentParser(prog="python -m local.redrive", description=__doc__)
    parser.add_argument("verb", choices=("read", "send"))
    parser.add_argument("file", type=Path, metavar="FILE.jsonl")
    parser.add_argument("--queue", required=True, help="the stack's output UndecidableQueueUrl")
    parser.add_argument("--archive", help="to read: the stack's output ArchiveBucketName")
    parser.add_argument("--stream", help="to send: the stack's output TransactionsStreamName")
    options = parser.parse_args()
    sqs = boto3.client("sqs")
    if options.verb == "read":
        if options.archive is None:
            parser.error("read needs --archive")
        with options.file.open("x", encoding="utf-8") as file:
            count = sum(
                print(json.dumps(line), file=file) is None
                for line in read(sqs, boto3.client("s3"), options.queue, options.archive)
            )
        print(f"{count} messages in {options.file}, held for {HELD_S // 3600} hours")
        return 0
    if options.stream is None:
        parser.error("send needs --stream")
    with options.file.open(encoding="utf-8") as file:
        result = send(sqs, boto3.client("kinesis"), options.queue, options.stream, map(json.loads, file))
    print(f"{result.sent} sent, {result.dropped} dropped, {result.left} left")
    return int(result.left > 0)


if __name__ == "__main__":
    sys.exit(main())
