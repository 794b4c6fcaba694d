"""Redrive: put payments that were not decided back on the stream, mended by a person or as the mapping gave them up.

`read` holds every message of the queue of undecidable records for twelve hours and writes it as a line of a file;
`send` puts each line's `payment` on the stream and then deletes its messages. A line whose payment is null is deleted
only, one whose payment is text stays. `archived` puts the records of batches that the mapping gave up on the stream
again, as they were. All three may be run again after a crash: what is sent twice is decided once.
"""

import argparse
import base64
import json
import sys
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NamedTuple

import boto3
from botocore.exceptions import BotoCoreError, ClientError

HELD_S = 12 * 3600
"""The longest that SQS lets a message be held: as long as its receipt handle must last."""

MESSAGES_PER_CALL = 10

WAIT_S = 1
"""Only a call that waits asks all of a queue's servers: without it an empty answer need not mean an empty queue."""

KEY_LENGTH = 256
"""Characters of a partition key, at most."""

GIVEN_UP = "aws/lambda/"
"""Where Lambda puts what a mapping gave up."""

FAILURES = (BotoCoreError, ClientError, KeyError, RecursionError, TypeError, ValueError)
"""Errors of one record, line or object that must not stop the others."""

Line = dict[str, Any]


class Sent(NamedTuple):
    """The result of sending: lines of a file, or of the archive records that were sent and objects that were left."""

    sent: int
    dropped: int
    left: int


def read(
    sqs: Any,  # noqa: ANN401 - boto3 has no types
    s3: Any,  # noqa: ANN401
    queue: str,
    archive: str,
    wait_s: int = WAIT_S,
) -> Generator[Line, None, None]:
    """Yield every record of the queue as a line: reason, place in the stream, and the payment (text unless it is an
    object).

    A batch that was repeated whole leaves two messages of one record: they are one line, `repeats` holds the further
    receipts. Messages whose lines were not taken, because this was closed or failed, become visible at once.

    wait_s  how long to wait for the last answer, the empty one; 0 is for an emulator, which has one server
    """
    held: set[str] = set()
    try:
        lines: dict[tuple[str, str], Line] = {}
        for message in _messages(sqs, queue, wait_s, held):
            line = _told(message)
            first = lines.setdefault(_place(line), line)
            if first is not line:
                first.setdefault("repeats", []).append(line["receipt_handle"])
        for line in lines.values():
            yield _with_payment(s3, archive, line)
            held.difference_update(_handles(line))
    finally:
        for handle in held:
            with suppress(*FAILURES):
                sqs.change_message_visibility(QueueUrl=queue, ReceiptHandle=handle, VisibilityTimeout=0)


def send(  # noqa: PLR0913, PLR0917 - what it takes from, what it puts to
    sqs: Any,  # noqa: ANN401
    kinesis: Any,  # noqa: ANN401
    queue: str,
    stream: str,
    lines: Iterable[Line | bytes],
    s3: Any,  # noqa: ANN401
) -> Sent:
    """Put each mended payment on the stream, then delete its messages; says on stderr why a line is left.

    lines  parsed, or the bytes of a file's; blank ones are skipped
    s3     to delete large records from the archive too
    """
    sent = dropped = left = 0
    for number, given in enumerate(lines, start=1):
        if isinstance(given, bytes) and not given.strip():
            continue
        try:
            line: Line = json.loads(given) if isinstance(given, bytes) else given
            payment, handles = line["payment"], _handles(line)
            if isinstance(payment, dict):
                key = _key(payment.get("payer_id") or line["sequence"])
                kinesis.put_record(StreamName=stream, PartitionKey=key, Data=json.dumps(payment).encode())
            elif payment is not None:
                raise TypeError("payment is neither an object nor null")
            for handle in handles:
                sqs.delete_message(QueueUrl=queue, ReceiptHandle=handle)
            if "archived" in line:
                s3.delete_object(**line["archived"])
        except FAILURES as error:
            left += 1
            _say(f"line {number}", error)
        else:
            sent += payment is not None
            dropped += payment is None
    return Sent(sent, dropped, left)


def send_archived(s3: Any, kinesis: Any, archive: str, stream: str) -> Sent:  # noqa: ANN401
    """Put the records of every batch of payments that was given up on the stream, then delete its object."""
    sent = left = 0
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=archive, Prefix=GIVEN_UP)
    for entry in (entry for page in pages for entry in page.get("Contents", ())):
        place = {"Bucket": archive, "Key": entry["Key"]}
        try:
            told = json.loads(s3.get_object(**place)["Body"].read())
            if "KinesisBatchInfo" not in told:
                continue  # decisions that were not published
            records = [record["kinesis"] for record in json.loads(told["payload"])["Records"]]
            for record in records:  # one by one: of several sent together some may be taken, in any order
                data = base64.b64decode(record["data"])
                kinesis.put_record(StreamName=stream, PartitionKey=record["partitionKey"], Data=data)
            s3.delete_object(**place)
        except FAILURES as error:
            left += 1
            _say(entry["Key"], error)
        else:
            sent += len(records)
    return Sent(sent, 0, left)


def _messages(sqs: Any, queue: str, wait_s: int, held: set[str]) -> Iterator[dict[str, Any]]:  # noqa: ANN401
    """Every message of the queue; the receipts of all that came are in `held`, whatever becomes of them."""
    while messages := sqs.receive_message(
        QueueUrl=queue, MaxNumberOfMessages=MESSAGES_PER_CALL, VisibilityTimeout=HELD_S, WaitTimeSeconds=wait_s
    ).get("Messages"):
        held.update(message["ReceiptHandle"] for message in messages)
        yield from messages


def _told(message: dict[str, Any]) -> Line:
    """Read a message as a line; a message that is not ours is a record itself."""
    body = message["Body"]
    try:
        told = json.loads(body)
        _place(told)
    except FAILURES:
        data = base64.b64encode(body.encode()).decode()
        told = {"reason": "unreadable", "errors": [], "shard": "", "sequence": message["MessageId"], "data": data}
    return {**told, "receipt_handle": message["ReceiptHandle"]}


def _with_payment(s3: Any, archive: str, line: Line) -> Line:  # noqa: ANN401
    """The line with its record in place of where that is kept, or with what stood in the way as text."""
    told = dict(line)
    data, key = told.pop("data", None), told.pop("archive_key", None)
    if key is not None:
        told["archived"] = {"Bucket": archive, "Key": key}
    try:
        record = base64.b64decode(data) if key is None else s3.get_object(**told["archived"])["Body"].read()
    except FAILURES as error:
        return told | {"payment": f"no record: {error}"}
    return told | {"payment": _payment(record)}


def _payment(record: bytes) -> Line | str:
    """Return an object to edit, anything else as text: also `null`, which would mean that a person dropped it."""
    try:
        payment = json.loads(record)
        json.loads(json.dumps([payment]))  # as deep as it will stand in a line
    except (RecursionError, ValueError):
        payment = None
    if isinstance(payment, dict):
        return payment
    try:
        return record.decode()
    except UnicodeDecodeError:
        return f"base64,{base64.b64encode(record).decode()}"


def _key(value: Any) -> str:  # noqa: ANN401 - what stands where a payer's id belongs
    """A partition key that the stream takes; of a payer's id that is valid, the id itself."""
    return str(value)[:KEY_LENGTH].encode(errors="replace").decode()


def _place(line: Line) -> tuple[str, str]:
    """Return the key by which two messages are of one record."""
    return str(line["shard"]), str(line["sequence"])


def _handles(line: Line) -> list[str]:
    return [line["receipt_handle"], *line.get("repeats", ())]


def _say(where: str, error: Exception) -> None:
    print(f"{where}: {type(error).__name__}: {error}", file=sys.stderr)


def _add(file: Path, lines: Iterable[Line]) -> int:
    """Write lines to a file that may have some already; returns how many came. Exits if what it has is no line.

    A record that is in the file keeps its payment there if it was mended. What came before an error is written.
    """
    kept: dict[tuple[str, str], Line] = {}
    if file.exists():
        try:
            with file.open("rb") as old:
                kept = {_place(line): line for line in map(json.loads, filter(bytes.strip, old))}
        except FAILURES as error:
            raise SystemExit(f"{file} has a line that cannot be read: mend it, or name another file") from error
    whole = file.with_name(f"{file.name}.part")
    whole.touch(mode=0o600)  # fails, if it must, before anything is received; what comes is personal data
    count = 0
    try:
        for line in lines:
            place = _place(line)
            kept[place] = _again(kept[place], line) if place in kept else line
            count += 1
    finally:
        whole.write_text("".join(f"{json.dumps(line)}\n" for line in kept.values()), encoding="utf-8")
        whole.replace(file)
    return count


def _again(old: Line, new: Line) -> Line:
    """A record that was read before: both lines' receipts, for the older may be of a message that is still held."""
    mended = not isinstance(old.get("payment", ""), str)
    repeats = [handle for handle in (*_handles(old), *_handles(new)[1:]) if handle != new["receipt_handle"]]
    return new | {"repeats": repeats} | ({"payment": old["payment"]} if mended else {})


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m operations.redrive", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    reading = verbs.add_parser("read", help="the queue into a file, or what is new in the queue into the same file")
    sending = verbs.add_parser("send", help="the file to the stream")
    archived = verbs.add_parser("archived", help="batches that were given up to the stream")
    for verb in (reading, sending):
        verb.add_argument("file", type=Path, metavar="FILE.jsonl")
        verb.add_argument("--queue", required=True, help="the stack's output UndecidableQueueUrl")
    for verb in (reading, archived):
        verb.add_argument("--archive", required=True, help="the stack's output ArchiveBucketName")
    for verb in (sending, archived):
        verb.add_argument("--stream", required=True, help="the stack's output TransactionsStreamName")
    return parser.parse_args()


def main() -> int:
    """Read the queue into a file, or send a file or the archive; the exit status says whether nothing was left."""
    options = _options()
    s3 = boto3.client("s3")
    if options.verb == "read":
        with closing(read(boto3.client("sqs"), s3, options.queue, options.archive)) as lines:
            count = _add(options.file, lines)
        print(f"{count} records read into {options.file}, held for {HELD_S // 3600} hours")
        return 0
    kinesis = boto3.client("kinesis")
    if options.verb == "send":
        with options.file.open("rb") as file:
            result = send(boto3.client("sqs"), kinesis, options.queue, options.stream, file, s3)
    else:
        result = send_archived(s3, kinesis, options.archive, options.stream)
    print(f"{result.sent} sent, {result.dropped} dropped, {result.left} left")
    return int(result.left > 0)


if __name__ == "__main__":
    sys.exit(main())
