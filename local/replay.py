"""Replay the payments of a file in event order and report the results: `python -m local.replay FILE --via api|kinesis`.

FILE has the fields of POST /decisions as columns (README.md), or is a HISTORY_DIR of models.datasets. Payments are sent
on the box's event clock: by API each one at its own time, by stream in batches of a few hours. Afterwards every
decision is read, and a sample of the payments is sent again. A payment is lost if it has no stored decision and was
neither refused nor set aside. A payment was decided twice if its stored decision differs from its response, or if a
second delivery changes a byte of either. Another body under a decided id is a conflict. The exit status is 0 if every
payment was decided once, 1 if not, and 2 if a file cannot be read.
"""

import argparse
import http.client
import json
import random
import signal
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar, cast
from urllib.parse import quote, urlsplit

import botocore.session
from botocore.exceptions import BotoCoreError
from tqdm import tqdm

from fraud.decisions.record import PACKED
from fraud.decisions.store import contents_of
from fraud.errors import UndecidableError
from local import payments_file
from local.account.boto import REGION
from local.api.client import Client, Response
from local.box import Box
from models.datasets.table import SUFFIXES, FileError
from operations.redrive import Line, partition_key, read

Row = dict[str, Any]
T = TypeVar("T")

TRANSIENT = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
ATTEMPTS = 7
BACKOFF_S = 0.1
"""A payment is sent at most ATTEMPTS times. The pauses between are random, below 0.1, 0.2, ... 3.2 s."""


BATCH, BATCH_SPAN = 500, timedelta(hours=6)
"""The most records of one PutRecords, and the longest time between the first and the last payment of a batch.

The clock shows the time of the last payment, and a payment that is twelve hours older would be too old to be decided.
"""

STREAM = "Transactions"


class Delivery(NamedTuple):
    """The delivery of one payment: its response, None if the API was not reached, and the seconds of all attempts."""

    transaction_id: str
    answer: Response | None
    seconds: float


@dataclass
class Report:
    """The result of a replay.

    refused  payments that were refused or set aside, by the fields and rules that they broke
    failed   payments, first or sent again, with a response from 500 on, or without any
    lost, twice, repeated  payments without a decision, decided twice, and sent again
    seconds  the seconds of each delivery
    """

    sent: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    refused: Counter[int | str] = field(default_factory=Counter)
    failed: int = 0
    lost: int = 0
    twice: int = 0
    repeated: int = 0
    verdicts: Counter[tuple[str, bool]] = field(default_factory=Counter)
    """Number of payments by label, and by whether the outcome is anything but approve."""
    seconds: list[float] = field(default_factory=list)

    @property
    def decided(self) -> int:
        """The number of payments that got a decision."""
        return self.outcomes.total()

    @property
    def sound(self) -> bool:
        """Tell whether every payment got a response, and the same one each time."""
        return not (self.failed or self.lost or self.twice)

    def __add__(self, other: Self) -> Self:
        """Return the report of two replays as one."""
        mine, others = vars(self), vars(other)
        return type(self)(**{name: mine[name] + others[name] for name in mine})

    def table(self) -> str:
        """Return the report as text, one line for each heading."""
        refused = self.refused.total()
        lines = {
            "payments": f"{self.sent:,} sent, {self.decided:,} decided, {refused:,} refused, {self.failed:,} failed",
            "outcomes": ", ".join(f"{outcome} {count:,}" for outcome, count in self.outcomes.most_common()),
            "refused": "; ".join(f"{count:,} for {why}" for why, count in self.refused.most_common()),
            "frauds": self._frauds(),
            "friction": self._friction(),
            "latency": self._latency(),
            "lost": f"{self.lost:,}",
            "decided twice": f"{self.twice:,} (all compared with what is stored, {self.repeated:,} delivered again)",
        }
        return "\n".join(f"{name:<14} {words}" for name, words in lines.items() if words)

    def _frauds(self) -> str:
        caught, missed, alarms = (
            self.verdicts[key] for key in (("fraud", True), ("fraud", False), ("legitimate", True))
        )
        if not self.verdicts:
            return ""
        recall, precision = (f"{caught / of:.1%}" if of else "-" for of in (caught + missed, caught + alarms))
        return (
            f"{caught:,} caught, {missed:,} missed (recall {recall}), {alarms:,} false alarms (precision {precision})"
        )

    def _friction(self) -> str:
        """Say how many honest payments were challenged, reviewed or declined, by rule or model."""
        disturbed, let_through = (self.verdicts["legitimate", objected] for objected in (True, False))
        honest = disturbed + let_through
        return f"{disturbed:,} of {honest:,} honest payments not approved ({disturbed / honest:.2%})" if honest else ""

    def _latency(self) -> str:
        if len(self.seconds) < 2:  # noqa: PLR2004 - quantiles need two
            return ""
        cuts = statistics.quantiles(self.seconds, n=100, method="inclusive")
        return ", ".join(f"p{percent} {cuts[percent - 1] * 1000:.1f} ms" for percent in (50, 95, 99))


def replay(
    payments: Iterable[Row],
    connect: Callable[[], Client],
    labels: Mapping[str, str] | None = None,
    concurrency: int = 1,
    repeats: int = 200,
) -> Report:
    """Send payments in event order, read every decision, and send about `repeats` of the payments again.

    labels       `fraud` or `legitimate` by transaction id
    concurrency  payments in flight. With more than one, neighbours overtake each other: event order needs 1
    repeats      about how many payments are sent again; they are evenly spread
    """
    ordered = in_event_order(payments)
    local = threading.local()
    with ExitStack() as connections, ThreadPoolExecutor(concurrency) as threads:

        def client() -> Client:
            if not hasattr(local, "client"):
                local.client = connections.enter_context(connect())
            return cast("Client", local.client)

        def each(what: str, do: Callable[[Client, Row], T], payments: Sequence[Row]) -> list[T]:
            done = threads.map(lambda payment: do(client(), payment), payments)
            return list(tqdm(done, what, total=len(payments), unit=" payments"))

        first = each("decide", deliver, ordered)
        stored = each("look up", look_up, ordered)
        places = range(0, len(ordered), max(1, len(ordered) // repeats)) if repeats else ()
        repeated = each("repeat", deliver, [ordered[place] for place in places])
        again = {
            delivery.transaction_id: delivery.answer
            for place, delivery in zip(places, repeated, strict=True)
            if (answer := first[place].answer) is not None and answer.status == HTTPStatus.OK
        }
    return report(first, stored, again, labels or {})


def deliver(client: Client, payment: Row) -> Delivery:
    """Send one payment to POST /decisions, again while the API throttles, is unavailable or cannot be reached."""
    body, at, started = (
        json.dumps(payment).encode(),
        datetime.fromisoformat(payment["occurred_at"]),
        time.perf_counter(),
    )
    answer = None
    for attempt in range(ATTEMPTS):
        try:
            answer = client.request("POST", "/decisions", body, at)
        except (OSError, http.client.HTTPException):
            answer = None
        if answer is not None and answer.status not in TRANSIENT:
            break
        time.sleep(random.uniform(0, BACKOFF_S * 2**attempt))  # noqa: S311 - jitter
    return Delivery(payment["transaction_id"], answer, time.perf_counter() - started)


def look_up(client: Client, payment: Row) -> Any:  # noqa: ANN401 - JSON
    """Return the stored decision of a payment; None when there is none."""
    answer = client.request("GET", f"/decisions/{quote(payment['transaction_id'], safe='', errors='replace')}")
    return json.loads(answer.body)["decision"] if answer.status == HTTPStatus.OK else None


def report(
    first: Sequence[Delivery],
    stored: Sequence[Any],
    again: Mapping[str, Response | None],
    labels: Mapping[str, str],
) -> Report:
    """Return the report of a replay: compare each response with the stored decision, and with the second response.

    first   the first deliveries
    stored  the stored decisions in the same sequence, None for a payment that has none
    again   the second responses of the payments that were sent again, by transaction id
    labels  `fraud` or `legitimate` by transaction id
    """
    result = Report(sent=len(first), repeated=len(again), seconds=[delivery.seconds for delivery in first])
    for (transaction_id, answer, _), kept in zip(first, stored, strict=True):
        if answer is None or answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            result.failed += 1
            continue
        if answer.status != HTTPStatus.OK:
            result.refused[_why(answer)] += 1
            continue
        decision = json.loads(answer.body)
        result.outcomes[decision["outcome"]] += 1
        result.lost += kept is None
        second = again.get(transaction_id, answer)
        if second is None or second.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            result.failed += 1
            second = answer
        result.twice += kept not in (None, decision) or second != answer
        if label := labels.get(transaction_id):
            result.verdicts[label, decision["outcome"] != "approve"] += 1
    return result


def _why(answer: Response) -> str | int:
    """Return the fields and rules that a refused payment broke, or the status of an answer that names none.

    >>> _why(Response(HTTPStatus.BAD_REQUEST, b'{"errors": [{"field": "amount", "rule": "missing"}]}'))
    'amount: missing'
    """
    try:
        return told_of(answer.status == HTTPStatus.CONFLICT, json.loads(answer.body)["errors"]) or answer.status
    except (KeyError, TypeError, ValueError):
        return answer.status


def told_of(is_conflict: object, errors: Iterable[Mapping[str, str]]) -> str:
    """Return faults as text, which is the same for the API and the stream.

    >>> told_of(True, [{"field": "amount", "rule": "differs"}])
    'conflict (amount: differs)'
    """
    faults = ", ".join(f"{error['field']}: {error['rule']}" for error in errors)
    return f"conflict ({faults})" if is_conflict else faults


def replay_by_stream(
    payments: Iterable[Row], box: Box, labels: Mapping[str, str] | None = None, repeats: int = 200
) -> Report:
    """Put payments on the box's stream in event order, then about `repeats` of them, evenly spread, once more.

    Raises TimeoutError when the stream is not drained in time.
    """
    ordered = in_event_order(payments)
    for batch in tqdm(list(batches(ordered)), "decide", unit=" batches"):
        box.clock.advance(datetime.fromisoformat(batch[-1]["occurred_at"]))
        put(box, batch)
        box.settle()
    stored = decisions(box)
    put(box, sample := ordered[:: max(1, len(ordered) // repeats)] if repeats else [])
    box.settle()
    after = decisions(box)
    aside = {_body(line["payment"]): told_of(line["reason"] == "conflict", line["errors"]) for line in set_aside(box)}
    result = Report(sent=len(ordered), repeated=len(sample))
    for payment in ordered:
        transaction_id = payment["transaction_id"]
        if why := aside.get(_body(payment)):
            result.refused[why] += 1
        elif transaction_id in stored:
            outcome = json.loads(stored[transaction_id])["outcome"]
            result.outcomes[outcome] += 1
            result.twice += stored[transaction_id] != after[transaction_id]
            if label := (labels or {}).get(transaction_id):
                result.verdicts[label, outcome != "approve"] += 1
        else:
            result.lost += 1
    return result


def _body(payment: Any) -> str:  # noqa: ANN401 - JSON
    """Return a payment as text that is the same for equal payments: several bodies may have one transaction id."""
    return json.dumps(payment, sort_keys=True)


def batches(ordered: Sequence[Row]) -> Iterator[list[Row]]:
    """Yield payments that are in event order in batches that fit one time of the clock: see BATCH and BATCH_SPAN.

    >>> payments = [{"occurred_at": f"2026-03-01T{hour}:00:00Z"} for hour in (10, 11, 18)]
    >>> [len(batch) for batch in batches(payments)]
    [2, 1]
    """
    batch: list[Row] = []
    for payment in ordered:
        at = datetime.fromisoformat(payment["occurred_at"])
        if batch and (len(batch) == BATCH or at - datetime.fromisoformat(batch[0]["occurred_at"]) > BATCH_SPAN):
            yield batch
            batch = []
        batch.append(payment)
    if batch:
        yield batch


def put(box: Box, payments: Sequence[Row]) -> None:
    """Put payments on the box's stream as a producer does, keyed by payer."""
    kinesis = box.client("kinesis")
    for start in range(0, len(payments), BATCH):
        records = [
            {
                "Data": json.dumps(payment).encode(),
                "PartitionKey": partition_key(payment.get("payer_id") or payment["transaction_id"]),
            }
            for payment in payments[start : start + BATCH]
        ]
        answer = kinesis.put_records(StreamName=STREAM, Records=records)
        assert not answer["FailedRecordCount"], answer


def set_aside(box: Box) -> list[Line]:
    """Return the records in the queue of undecidable records, and leave them there."""
    environment, sqs = box.stack.functions[0].environment, box.client("sqs")
    queue = environment["UNDECIDABLE_QUEUE_URL"]
    lines = list(read(sqs, box.client("s3"), queue, environment["ARCHIVE_BUCKET"], wait_s=0))
    for handle in (handle for line in lines for handle in (line["receipt_handle"], *line.get("repeats", ()))):
        sqs.change_message_visibility(QueueUrl=queue, ReceiptHandle=handle, VisibilityTimeout=0)
    return lines


def decisions(box: Box) -> dict[str, str]:
    """Return the stored response of every payment, as JSON text by transaction id."""
    table = box.stack.functions[0].environment["DECISIONS_TABLE"]
    pages = box.client("dynamodb").get_paginator("scan").paginate(TableName=table, ProjectionExpression=f"pk, {PACKED}")
    return {row["pk"]["S"]: contents_of(row).answer.decode() for page in pages for row in page["Items"]}


def in_event_order(payments: Iterable[Row]) -> list[Row]:
    """Return payments sorted by the time at which they occurred. Times are not compared as text: offsets may differ.

    >>> noon, morning = {"occurred_at": "2026-03-01T12:00:00Z"}, {"occurred_at": "2026-03-01T13:00:00+09:00"}
    >>> in_event_order([noon, morning]) == [morning, noon]
    True
    """
    return sorted(payments, key=lambda payment: datetime.fromisoformat(payment["occurred_at"]))


def main() -> int:
    """Replay a file against `--url` or a new box. Return 0 if the report is sound and nothing was refused."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # an exception, so that the box is taken down
    labels = None
    try:
        everything = in_event_order(payments_file.payments(options.file, options.time_zone, options.encoding))
        if options.labels:
            labels = payments_file.labels(
                options.labels, everything, options.label_words, options.time_zone, options.encoding
            )
        payments, known = everything[: options.limit], labels.known if labels else None
        with ExitStack() as undo:
            connect = caller_of(options.url) if options.url else None
            currency = next(str(payment["currency"]) for payment in everything if "currency" in payment)
            if connect is not None:
                _agree(connect, options.url, currency)
                result = replay(payments, connect, known, options.concurrency)
            else:
                box = undo.enter_context(Box(parameters={"Currency": currency}))
                by_api = options.via == "api"
                result = (
                    replay(payments, box.connect, known, options.concurrency)
                    if by_api
                    else replay_by_stream(payments, box, known)
                )
    except FileError as error:
        print(error, file=sys.stderr)
        return 2
    except UndecidableError as error:
        print(f"{options.file}: {error}, or import the data again with --currency JPY", file=sys.stderr)
        return 2
    print(result.table())
    if labels:
        print(f"{'labels':<14} {labels}")
    if options.url:
        latest = payments[-1]["occurred_at"]
        told = f"a box takes {latest}, or a later time that it had, for now until it is started again"
        print(f"{'clock':<14} {told}")
    return int(not result.sound or result.refused.total() > 0)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m local.replay", description=__doc__)
    parser.add_argument("file", type=Path, metavar="FILE|HISTORY_DIR", help=", ".join(SUFFIXES))
    parser.add_argument("--via", choices=("api", "kinesis"), required=True)
    parser.add_argument("--limit", type=_count, help="only the first N payments in event order")
    parser.add_argument("--labels", type=Path, help="file with transaction_id and label; default: that of HISTORY_DIR")
    parser.add_argument(
        "--label-words",
        type=payments_file.declared_words,
        metavar="WORD=LABEL,...",
        help="such as 1=fraud,0=legitimate",
    )
    parser.add_argument("--time-zone", type=payments_file.time_zone, help="of times without offset: UTC, Asia/Tokyo")
    parser.add_argument("--encoding", type=payments_file.encoding_name, help="of text; by default it is found out")
    parser.add_argument("--url", help="a running API; requests are signed with the environment's AWS credentials")
    parser.add_argument(
        "--concurrency", type=_count, default=1, help="API calls in flight; above 1 neighbours may swap"
    )
    options = parser.parse_args()
    if options.url and options.via == "kinesis":
        parser.error("--via kinesis replays into a box of its own, on whose clock the past is the present")
    if options.labels is None and payments_file.has_labels(options.file):
        options.labels = options.file
    return options


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a number from 1 on, not {text!r}")
    return int(text)


def _agree(connect: Callable[[], Client], url: str, currency: str) -> None:
    """Raise FileError if the API decides another currency, or cannot be reached.

    The request lacks all but the currency, so it is refused with every fault, and counts nothing.
    """
    try:
        with connect() as client:
            answer = client.request("POST", "/decisions", json.dumps({"currency": currency}).encode())
    except (OSError, http.client.HTTPException) as error:
        raise FileError(f"{url}: cannot be reached: {error}") from error
    if b"currency_not_supported" in answer.body:
        raise FileError(
            f"{url}: decides another currency than {currency}, which the file has: replay to a stack in {currency}"
        )


def caller_of(url: str) -> Callable[[], Client]:
    """Return a function that connects to `url` with the credentials and the region that boto3 would use.

    Raises FileError for a URL that cannot be one, and without credentials.
    """
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address:
        raise FileError(f"{url}: is no address such as http://127.0.0.1:8080")
    try:
        session = botocore.session.get_session()
        credentials, region = session.get_credentials(), session.get_config_variable("region") or REGION
    except BotoCoreError as error:
        raise FileError(f"{url}: no AWS credentials: {error}") from error
    if credentials is None:
        raise FileError(f"{url}: no AWS credentials: export AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    return lambda: Client(url, credentials, region)


if __name__ == "__main__":
    sys.exit(main())
