"""A merchant at 200 payments a second in the box, while DynamoDB throttles the merchant's key.

Half of the payments come by POST /decisions, half by the stream. The functions reach the emulator through a proxy. It
refuses writes of the merchant's items above a limit, as DynamoDB does; reads pass. No payment may be lost, decided
twice, or decided without any counters. Every other counter must be exact afterwards, and the merchant's must have each
payment that is in its sample. `python -m tests.acceptance.hot_merchant` runs it at full size.
"""

import argparse
import http.client
import json
import random
import signal
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import NamedTuple, Self
from urllib.parse import urlsplit

from fraud.counters import layout
from fraud.counters.codec import item_of
from fraud.counters.keys import DECLARED
from fraud.counters.layout import MERCHANT, Item, Update, unpacked
from fraud.transaction import Transaction, utc
from local.box import Box
from local.replay import Delivery, Row, decisions, deliver, put, set_aside
from tests.acceptance.stream import overwritten, rows, variable

HOT = "hot-shop"
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
"""The turn of the hour at which half of the payments have come."""

A_SECOND = 200
PAYERS = 400
CHUNK = 60
"""Payments that are under way together: half of them on the stream, half of them in CALLERS calls at a time."""

CALLERS = 2
UNITS_A_SECOND, TRICKLE = 150, 1
"""Write units that the merchant's key gets in a second of event time, and in a second of real time: repairs go on while
the clock stands still. After the last payment it gets all that it wants.
"""

SETTLED_S = 1800
"""Seconds in which all repairs must be done: the stream of decisions makes them one after another."""

REPEATS = 50
"""About as many payments are sent again by API at the end."""


class Throttle:
    """The write units of one partition key: a bucket that is filled as time goes by, and holds one second's units.

    box    its clock is that of the key
    units  units of a second of event time
    over   nothing is refused any more
    """

    def __init__(self, pk: str, box: Box, units: float = UNITS_A_SECOND) -> None:
        self.box = box
        self.units = units
        self.over = False
        self.refused = self.passed = 0
        self._pk = pk.encode()
        self._left = units
        self._at = 0.0
        self._turn = threading.Lock()

    def concerns(self, target: str, body: bytes) -> bool:
        """Tell whether a request is a write of the key."""
        return target.endswith(".UpdateItem") and b'"%b"' % self._pk in body

    def refuses(self) -> bool:
        """Tell whether the key has no unit left now."""
        instant = self.box.clock.instant
        now = time.monotonic() * TRICKLE + (instant.timestamp() * self.units if instant else 0)
        with self._turn:
            self._left = min(self._left + max(now - self._at, 0), self.units)
            self._at = max(now, self._at)
            refused = self._left <= 0 and not self.over
            self.refused += refused
            self.passed += not refused
            return refused

    def take(self, answer: bytes) -> None:
        """Take a write's units: one for each kilobyte of the item that came back."""
        with self._turn:
            self._left -= 1 + len(answer) // 1024


class Proxy(ThreadingHTTPServer):
    """An HTTP server before the emulator of a box, while a block of code runs."""

    daemon_threads = True
    throttle: Throttle

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        """Print nothing of a function that gave up on a response or ended."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class Handler(BaseHTTPRequestHandler):
    """One connection of a function, and one to the emulator."""

    protocol_version = "HTTP/1.1"
    server: Proxy

    def setup(self) -> None:
        super().setup()
        self._emulator = http.client.HTTPConnection(urlsplit(self.server.throttle.box.endpoint_url).netloc)

    def finish(self) -> None:
        self._emulator.close()
        super().finish()

    def log_message(self, *_: object) -> None:
        """Print nothing: a line for each request would hide the figures."""

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        throttle = self.server.throttle
        hot = throttle.concerns(self.headers.get("x-amz-target", ""), body)
        if hot and throttle.refuses():
            said = {"__type": "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException", "message": ""}
            self._answer(
                HTTPStatus.BAD_REQUEST, {"content-type": "application/x-amz-json-1.0"}, json.dumps(said).encode()
            )
            return
        headers = {name: value for name, value in self.headers.items() if name.lower() not in {"host", "expect"}}
        self._emulator.request(self.command, self.path, body, headers)
        response = self._emulator.getresponse()
        answer = response.read()
        if hot:
            throttle.take(answer)
        self._answer(response.status, dict(response.getheaders()), answer)

    do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = _pass_on  # noqa: N815 - the names that the base class looks for

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in {"connection", "content-length", "date", "server", "transfer-encoding"}:
                self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class Figures(NamedTuple):
    """The result of one run.

    by_api     payments that came by API; the others came by stream
    refused    writes of the merchant's key that were refused, and `passed` those that were not
    lost       payments without a decision, set aside, or given up by a stream
    twice      payments whose answers differ from their stored decision, and stored decisions that changed
    blind      decisions without any counters
    away       decisions without the merchant's counter
    estimated  decisions that name the merchant's counter as an estimate
    level      highest level of the merchant's items
    counted    number of payments by the merchant's items
    inexact    items of payers, pairs and devices that differ from those of every payment counted once
    missing    payments that the merchant's items should hold, and do not
    """

    payments: int
    by_api: int
    refused: int
    passed: int
    lost: int
    twice: int
    blind: int
    away: int
    estimated: int
    level: int
    counted: int
    inexact: int
    missing: int
    seconds: float

    @property
    def wrong(self) -> tuple[int, ...]:
        """The figures that must be 0."""
        return self.lost, self.twice, self.blind, self.inexact, self.missing


def payments_of(number: int, seed: int = 1) -> list[Row]:
    """Return the bodies of `number` payments to the merchant, A_SECOND a second."""
    rng = random.Random(seed)
    return [
        {
            "transaction_id": f"hot-{n}",
            "type": "merchant",
            "payer_id": f"payer-{n % PAYERS}",
            "payee_id": HOT,
            "device_id": f"device-{n % PAYERS}",
            "amount": int(rng.lognormvariate(7, 1)) + 1,
            "currency": "JPY",
            "occurred_at": utc(NOON + timedelta(seconds=(n - number / 2) / A_SECOND)),
        }
        for n in range(number)
    ]


def run(number: int, units: float = UNITS_A_SECOND) -> Figures:
    """Decide `number` payments to the merchant in a box, and return the figures.

    units  write units that the merchant's key gets in a second
    """
    payments, started = payments_of(number), time.monotonic()
    with Proxy() as proxy, Box(parameters={"Currency": "JPY", "EndpointUrl": proxy.url}) as box:
        throttle = proxy.throttle = Throttle(MERCHANT.key(HOT), box, units)
        answers = _decided(box, payments, throttle)
        return _figures(box, payments, answers, throttle, time.monotonic() - started)


def _decided(box: Box, payments: Sequence[Row], throttle: Throttle) -> list[Delivery]:
    """Have all payments decided, chunk by chunk: half by stream, half by API. Then repeat some."""
    answers: list[Delivery] = []
    local = threading.local()
    with ExitStack() as connections, ThreadPoolExecutor(CALLERS) as threads:

        def call(payment: Row) -> Delivery:
            if not hasattr(local, "client"):
                local.client = connections.enter_context(box.connect())
            return deliver(local.client, payment)

        for start in range(0, len(payments), CHUNK):
            chunk = payments[start : start + CHUNK]
            put(box, chunk[1::2])
            answers += threads.map(call, chunk[::2])
        throttle.over = True
        box.settle(SETTLED_S)
        answers += threads.map(call, payments[:: max(1, len(payments) // REPEATS)])
    return answers


def _figures(
    box: Box, payments: Sequence[Row], answers: Sequence[Delivery], throttle: Throttle, seconds: float
) -> Figures:
    stored = decisions(box)
    made = [json.loads(answer) for answer in stored.values()]
    given_up = box.client("s3").list_objects_v2(Bucket=variable(box, "ARCHIVE_BUCKET"), Prefix="aws/")["KeyCount"]
    lost = sum(payment["transaction_id"] not in stored for payment in payments)
    twice = sum(
        answer is None or answer.body.decode() != stored.get(transaction_id) for transaction_id, answer, _ in answers
    )
    degraded = Counter(part for each in made for part in each["degraded"])
    items = {(row["pk"]["S"], row["sk"]["S"]): item_of(row) for row in rows(box, "COUNTERS_TABLE")}
    hot = [item for (pk, _), item in items.items() if pk == MERCHANT.key(HOT)]
    inexact, missing = _compared(items, payments)
    return Figures(
        payments=len(payments),
        by_api=len(payments[::2]),
        refused=throttle.refused,
        passed=throttle.passed,
        lost=lost + len(set_aside(box)) + given_up,
        twice=twice + overwritten(box),
        blind=degraded["state"],
        away=degraded[f"counter:{MERCHANT.name}"],
        estimated=sum(MERCHANT.name in each["estimated"] for each in made),
        level=max(item.level for item in hot),
        counted=sum(unpacked(sum(item.buckets["h"].values()))[0] for item in hot),
        inexact=inexact,
        missing=missing,
        seconds=seconds,
    )


def _compared(items: dict[tuple[str, str], Item], payments: Sequence[Row]) -> tuple[int, int]:
    """Return how many items are not exact, and how many attempts the merchant's items lack."""
    expected: dict[tuple[str, str], list[Update]] = defaultdict(list)
    for payment in payments:
        for update in layout.updates(Transaction.model_validate(payment), DECLARED):
            expected[update.key.pk, update.key.sk].append(update)
    inexact = missing = 0
    for place, updates in expected.items():
        item, wanted = items.get(place, Item()), Item()
        if updates[0].key.kind is MERCHANT:
            missing += sum(update.leave >= item.level and not item.holds(update) for update in updates)
            continue
        for update in updates:
            assert wanted.apply(update)
        inexact += (item.buckets, item.slots, item.devices) != (wanted.buckets, wanted.slots, wanted.devices)
    return inexact, missing


def told(figures: Figures) -> str:
    """Return the figures as lines to quote."""
    off = figures.counted / figures.payments - 1
    return (
        f"{figures.payments:,} payments to one merchant, {A_SECOND} a second, {figures.by_api:,} by API and"
        f" {figures.payments - figures.by_api:,} by stream: {figures.lost} lost, {figures.twice} decided twice,"
        f" {figures.blind} blind; {figures.seconds:.0f} s\n"
        f"{figures.refused:,} of {figures.refused + figures.passed:,} writes of its key throttled: {figures.away:,}"
        f" decisions without its counter, repaired; {figures.estimated:,} by estimates, up to level {figures.level}."
        f" It counts {figures.counted:,} ({off:+.1%}); {figures.missing} missing from the sample,"
        f" {figures.inexact} other items not exact"
    )


def main() -> int:
    """Run at full size and print the figures. The exit status is 0 if they are as they must be."""
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance.hot_merchant", description=main.__doc__)
    parser.add_argument("--payments", type=int, default=3_000)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # an exception, so that the box is taken down
    figures = run(options.payments)
    print(told(figures))
    return int(any(figures.wrong) or not figures.refused)


if __name__ == "__main__":
    sys.exit(main())
