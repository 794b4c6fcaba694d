"""Redrive: put payments that were not decided back on the stream, mended by a person or as the mapping gave them up.

`read` hides every message of the queue of undecidable records for twelve hours and writes it as a line of a file.
`send` puts each line's `payment` on the stream and then deletes the line's messages. If the payment is a list, each of
its payments is sent. If the payment is null, it only deletes the messages; if the payment is text or a list with text,
it leaves the line. `archived` puts the records of batches that the
mapping gave up back on the stream, unchanged. All three may be run again after a crash: a payment that is sent twice is
decided once.
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

from fraud.decisions import stream_record
from fraud.errors import InvalidRequestError

HELD_S = 12 * 3600
"""Seconds for which a message is hidden: the longest that SQS allows. Its receipt handle must last until it is sent."""

MESSAGES_PER_CALL = 10

WAIT_S = 1
"""Seconds that a call waits for messages.

Only a call that waits asks all servers of a queue. Without a wait, an empty response need not mean an empty queue.
"""

KEY_LENGTH = 256
"""The most characters of a partition key."""

GIVEN_UP = "aws/lambda/"
"""The prefix of the objects that Lambda writes for the batches that a mapping gave up."""

FAILURES = (BotoCoreError, ClientError, KeyError, RecursionError, TypeError, ValueError)
"""Errors of one record, line or object that must not stop the others."""

Line = dict[str, Any]
Place = tuple[str, str, str]


class Sent(NamedTuple):
    """The result of sending: the numbers of payments that were sent, and of lines that were dropped and left.

    Of the archive, the records that were sent and the objects that were left are counted.
    """

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
    """Yield every record of the queue as a line: its reason, its place in the stream, and its payment.

    The payment is a list if the record holds several payments, and text if it is no JSON object. A batch that was
    repeated as a whole leaves two messages of one record: they become one line, and `repeats` holds the further
    receipts. If this generator is closed or fails, the
    messages whose lines were not taken become visible at once.

    wait_s  seconds to wait for the last response, which is empty; 0 is for an emulator, which has one server
    """
    held: set[str] = set()
    try:
        lines: dict[Place, Line] = {}
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


def send(  # noqa: PLR0913, PLR0917 - three services and the places in them
    sqs: Any,  # noqa: ANN401
    kinesis: Any,  # noqa: ANN401
    queue: str,
    stream: str,
    lines: Iterable[Line | bytes],
    s3: Any,  # noqa: ANN401
) -> Sent:
    """Put each mended payment on the stream, then delete its messages. Prints to stderr why a line is left.

    lines  parsed lines, or the bytes of a file's lines; blank ones are skipped
    s3     client that deletes large records from the archive, too
    """
    sent = dropped = left = 0
    for number, given in enumerate(lines, start=1):
        if isinstance(given, bytes) and not given.strip():
            continue
        try:
            line: Line = json.loads(given) if isinstance(given, bytes) else given
            payments, handles = _to_send(line["payment"]), _handles(line)
            for payment in payments:
                key = partition_key(payment.get("payer_id") or line["sequence"])
                kinesis.put_record(StreamName=stream, PartitionKey=key, Data=json.dumps(payment).encode())
            for handle in handles:
                sqs.delete_message(QueueUrl=queue, ReceiptHandle=handle)
            if "archived" in line:
                s3.delete_object(**line["archived"])
        except FAILURES as error:
            left += 1
            _say(f"line {number}", error)
        else:
            sent += len(payments)
            dropped += not payments
    return Sent(sent, dropped, left)


def send_archived(s3: Any, kinesis: Any, archive: str, stream: str) -> Sent:  # noqa: ANN401
    """Put the records of every batch of payments that a mapping gave up on the stream, then delete its object."""
    sent = left = 0
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=archive, Prefix=GIVEN_UP)
    for entry in (entry for page in pages for entry in page.get("Contents", ())):
        place = {"Bucket": archive, "Key": entry["Key"]}
        try:
            told = json.loads(s3.get_object(**place)["Body"].read())
            if "KinesisBatchInfo" not in told:
                continue  # a batch of decisions that were not published
            records = [record["kinesis"] for record in json.loads(told["payload"])["Records"]]
            for record in records:  # one by one: PutRecords may take some of its records, in any order
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
    """Yield every message of the queue. The receipts of all received messages are added to `held`, in any case."""
    while messages := sqs.receive_message(
        QueueUrl=queue, MaxNumberOfMessages=MESSAGES_PER_CALL, VisibilityTimeout=HELD_S, WaitTimeSeconds=wait_s
    ).get("Messages"):
        held.update(message["ReceiptHandle"] for message in messages)
        yield from messages


def _told(message: dict[str, Any]) -> Line:
    """Return a message as a line. A message of another format becomes a line with the message as its record."""
    body = message["Body"]
    try:
        told = json.loads(body)
        _place(told)
    except FAILURES:
        data = base64.b64encode(body.encode()).decode()
        told = {"reason": "unreadable", "errors": [], "shard": "", "sequence": message["MessageId"], "data": data}
    return {**told, "receipt_handle": message["ReceiptHandle"]}


def _with_payment(s3: Any, archive: str, line: Line) -> Line:  # noqa: ANN401
    """Return the line with its payment in place of the record's data or archive key.

    If the record cannot be read, the payment is text that says why.
    """
    told = dict(line)
    data, key = told.pop("data", None), told.pop("archive_key", None)
    if key is not None:
        told["archived"] = {"Bucket": archive, "Key": key}
    try:
        record = base64.b64decode(data) if key is None else s3.get_object(**told["archived"])["Body"].read()
    except FAILURES as error:
        return told | {"payment": f"no record: {error}"}
    return told | {"payment": _payment(record)}


def _to_send(payment: Any) -> list[Line]:  # noqa: ANN401 - any JSON
    """Return the payments of a line. Raises TypeError when one is text, because no person has mended it.

    >>> _to_send({"amount": 1}), _to_send([{"amount": 1}, {"amount": 2}]), _to_send(None)
    ([{'amount': 1}], [{'amount': 1}, {'amount': 2}], [])
    """
    if payment is None:
        return []
    payments = _as_list(payment)
    if not payments or not all(isinstance(each, dict) for each in payments):
        raise TypeError("payment is neither an object, nor a list of objects, nor null")
    return payments


def _as_list(payment: Any) -> list[Any]:  # noqa: ANN401
    return payment if isinstance(payment, list) else [payment]


def _payment(record: bytes) -> Line | str | list[Line | str]:
    r"""Return the payment of a record to edit, or a list of them; text stands for one that is no object.

    `null` is text as well: in a line it would mean that a person dropped the payment.

    >>> _payment(b'{"amount": -1}'), _payment(b"null"), _payment(b'{"amount": 1}\n{"amount": 2}')
    ({'amount': -1}, 'null', [{'amount': 1}, {'amount': 2}])
    """
    try:
        parts = stream_record.payments(record)
    except InvalidRequestError:
        parts = [record]
    return _object(parts[0]) if len(parts) == 1 else [*map(_object, parts)]


def _object(part: bytes) -> Line | str:
    """Return a part of a record as an object, or as text, in base64 if need be."""
    try:
        payment = json.loads(part)
        json.loads(json.dumps([[payment]]))  # two levels deeper, as it may be in a line
    except (RecursionError, ValueError):
        payment = None
    if isinstance(payment, dict):
        return payment
    try:
        return part.decode()
    except UnicodeDecodeError:
        return f"base64,{base64.b64encode(part).decode()}"


def partition_key(value: Any) -> str:  # noqa: ANN401 - any JSON may be in place of a payer's id
    """Return a partition key that the stream accepts. A valid payer's id is returned unchanged.

    >>> partition_key("payer-1"), len(partition_key("p" * 300))
    ('payer-1', 256)
    """
    return str(value)[:KEY_LENGTH].encode(errors="replace").decode()


def _place(line: Line) -> Place:
    """Return the place of a line's payment in the stream. Messages with the same place are about one payment."""
    return str(line["shard"]), str(line["sequence"]), str(line.get("position", ""))


def _handles(line: Line) -> list[str]:
    return [line["receipt_handle"], *line.get("repeats", ())]


def _say(where: str, error: Exception) -> None:
    print(f"{where}: {type(error).__name__}: {error}", file=sys.stderr)


def _add(file: Path, lines: Iterable[Line]) -> int:
    """Add lines to a file, which may be new, and return their number. Exits if the file has a line that is no line.

    A record that is already in the file keeps its payment if that was mended. After an error, the lines that came
    before it are written.
    """
    kept: dict[Place, Line] = {}
    if file.exists():
        try:
            with file.open("rb") as old:
                kept = {_place(line): line for line in map(json.loads, filter(bytes.strip, old))}
        except FAILURES as error:
            raise SystemExit(f"{file} has a line that cannot be read: mend it, or name another file") from error
    whole = file.with_name(f"{file.name}.part")
    whole.touch(mode=0o600)  # may fail, so before any message is received; payments are personal data
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
    """Return the line of a record that was read before, with the receipts of both lines.

    The older receipt is kept because its message may still be hidden.
    """
    mended = not any(isinstance(each, str) for each in _as_list(old.get("payment", "")))
    repeats = [handle for handle in (*_handles(old), *_handles(new)[1:]) if handle != new["receipt_handle"]]
    return new | {"repeats": repeats} | ({"payment": old["payment"]} if mended else {})


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m operations.redrive", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    reading = verbs.add_parser("read", help="write the queue's records to a file, or add new ones to it")
    sending = verbs.add_parser("send", help="put the payments of a file on the stream")
    archived = verbs.add_parser("archived", help="put the batches that a mapping gave up on the stream")
    for verb in (reading, sending):
        verb.add_argument("file", type=Path, metavar="FILE.jsonl")
        verb.add_argument("--queue", required=True, help="the stack's output UndecidableQueueUrl")
    for verb in (reading, archived):
        verb.add_argument("--archive", required=True, help="the stack's output ArchiveBucketName")
    for verb in (sending, archived):
        verb.add_argument("--stream", required=True, help="the stack's output TransactionsStreamName")
    return parser.parse_args()


def main() -> int:
    """Read the queue into a file, or send a file or the archive. Return 1 if anything was left, else 0."""
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
