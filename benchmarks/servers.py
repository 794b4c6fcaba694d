"""Canned AWS in a process of its own: DynamoDB and the SageMaker runtime, with realistic responses after a set time.

Its items are made by the product at the start, at noon, for entities with a month of folded history and 20 payments a
day. `Servers` starts the process, `python -m benchmarks.servers`, and asks it; the process ends with its standard
input. It counts requests by operation, and round trips. A round trip begins when a request comes and no earlier one is
unanswered.
"""

import argparse
import asyncio
import base64
import contextlib
import datetime as dt
import ipaddress
import json
import selectors
import ssl
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks import lives
from benchmarks.child import Child
from benchmarks.lives import DEVICE_ID, NOON, PAYEE_ID, PAYER_ID, TODAY, identifier
from benchmarks.metering import TABLES, Metered
from fraud.aws.connection import header
from fraud.counters import fold
from fraud.counters.codec import watermark_attribute
from fraud.counters.layout import DEVICE, PAYEE, PAYER
from fraud.packaged import model as packaged_model
from tests.support.deployment import declared_store

PER_DAY = 20
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.0\r\nContent-Length: %d\r\n\r\n"


class Servers(Child):
    """The process and its pipe. `counts` and `recorded` tell of the requests since the last question of either."""

    def __init__(self, dynamodb_ms: float = 4, endpoint_ms: float = 5, *, tls: bool = False) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="benchmark-")
        self.certificate = certificate(Path(self._directory.name)) if tls else None
        arguments = [f"{dynamodb_ms}", f"{endpoint_ms}", *([str(self.certificate)] if self.certificate else [])]
        super().__init__("benchmarks.servers", *arguments)
        self.port = int(self.hear())
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        super().__exit__(kind, error, at)
        self._directory.cleanup()

    def counts(self) -> dict[str, int]:
        """Return the number of requests by operation, and `round_trips`."""
        counted: dict[str, int] = json.loads(self.ask("counts"))
        return counted

    def recorded(self) -> list[list[bytes]]:
        """Return the bytes of each request, by round trip."""
        return [[base64.b64decode(one) for one in step] for step in json.loads(self.ask("recorded"))]


def certificate(directory: Path) -> Path:
    """Write a key and a self-signed certificate for 127.0.0.1 to one PEM file, and return its path.

    The server uses both; the client uses the certificate as its CA.
    """
    from cryptography import x509  # noqa: PLC0415 - only TLS needs it
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "canned")])
    now = dt.datetime.now(dt.UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=5))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = directory / "canned.pem"
    path.write_bytes(private + made.public_bytes(pem))
    return path


# ---- the process ---------------------------------------------------------------------------------------------------


@dataclass
class Ledger:
    """The requests that came: counts by operation, bytes by round trip, and the number of unanswered ones."""

    counts: Counter[str] = field(default_factory=Counter)
    steps: list[list[bytes]] = field(default_factory=list)
    unanswered: int = 0

    def arrived(self, operation: str, request: bytes) -> None:
        """Note a request. It belongs to the current round trip while another is unanswered, else it begins the next."""
        if self.unanswered == 0:
            self.counts["round_trips"] += 1
            self.steps.append([])
        self.unanswered += 1
        self.counts[operation] += 1
        self.steps[-1].append(request)

    def told(self, question: str) -> str:
        """Return the answer to a question of `Servers`, which is "counts" or "recorded", and forget all requests."""
        answer = json.dumps(
            self.counts
            if question == "counts"
            else [[base64.b64encode(one).decode() for one in step] for step in self.steps]
        )
        self.counts, self.steps = Counter(), []
        return answer


Canned = Callable[[str, Mapping[str, Any]], bytes]


class Connection(asyncio.Protocol):
    """One connection that is kept alive. A client sends its next request only when it has the response."""

    def __init__(self, ledger: Ledger, canned: Canned, seconds: tuple[float, float]) -> None:
        self._ledger = ledger
        self._canned = canned
        self._dynamodb_s, self._endpoint_s = seconds
        self._received = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Collect a request. When it is whole, make its response and send it after the set time."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        head += b"\r\n"
        if not found or len(body) < int(header(head, b"content-length") or 0):
            return
        request, self._received = self._received, b""
        target = header(head, b"x-amz-target").decode()
        operation = target.partition(".")[2] or "InvokeEndpoint"
        self._ledger.arrived(operation, request)
        answer = self._canned(operation, json.loads(body))
        due = now + (self._dynamodb_s if target else self._endpoint_s)
        loop.call_at(due, self._answer, HEAD % len(answer) + answer)

    def _answer(self, answer: bytes) -> None:
        self._ledger.unanswered -= 1
        self._transport.write(answer)


class Answers:
    """The canned responses (`Canned`). For each kind of item, every entity gets the same one."""

    def __init__(self) -> None:
        tables = lived()
        latest = {pk: sk for pk, sk in sorted(tables[TABLES.counters])}  # noqa: C416 - keeps the last sort key of each
        self._items = {
            (pk.partition("#")[0], "today" if latest[pk] == sk else "earlier"): typed(item)
            for (pk, sk), item in tables[TABLES.counters].items()
        }
        self._items |= {("instrument", age): self._items["payee", age] for age in ("today", "earlier")}
        self._profiles = {pk.partition("#")[0]: typed(item) for (pk,), item in tables[TABLES.profiles].items()}
        today = int(TODAY.timestamp())
        self._watermarks = typed(
            {
                watermark_attribute(part): {"L": [{"N": str(today // fold.PERIODS["h"])}, {"S": ""}]}
                for part in fold.SLICES[: len(fold.SLICES) // len(fold.PERIODS)]
            }
        )
        model = json.loads((packaged_model("JPY") / "manifest.json").read_bytes())
        self._model = {name: model[name] for name in ("version", "currency", "fingerprint", "thresholds")}

    def __call__(self, operation: str, payload: Mapping[str, Any]) -> bytes:
        """Return the body of the response to a request."""
        match operation:
            case "InvokeEndpoint":
                rows = len(payload["rows"])
                answer = {**self._model, "scores": [0.01] * rows, "contributions": [[]] * rows}
                return json.dumps(answer).encode()
            case "UpdateItem" if payload.get("ReturnValues") == "ALL_NEW":
                return b'{"Attributes": %b}' % self._row(payload["Key"], today=True)
            case "BatchGetItem":
                found = {
                    table: [row for key in wanted["Keys"] if (row := self._row(key, today=False))]
                    for table, wanted in payload["RequestItems"].items()
                }
                tables = b",".join(b'"%b":[%b]' % (table.encode(), b",".join(rows)) for table, rows in found.items())
                return b'{"Responses":{%b},"UnprocessedKeys":{}}' % tables
            case _:
                return b"{}"

    def _row(self, key: Mapping[str, Any], *, today: bool) -> bytes:
        """Return the item as JSON: its key and the canned attributes. Return no bytes when there is no item."""
        pk, sk = key["pk"]["S"], key.get("sk", {}).get("S")
        kind = pk.partition("#")[0]
        if sk is not None:
            attributes = self._items.get((kind, "today" if today else "earlier"), b"")
        elif pk in fold.WATERMARKS.values():
            attributes = self._watermarks
        else:
            attributes = self._profiles.get(kind, b"") if "#" in pk else b""
        return b"{%b,%b}" % (json.dumps(key)[1:-1].encode(), attributes) if attributes else b""


def lived() -> Mapping[str, Mapping[tuple[str, ...], Mapping[str, Any]]]:
    """Return the tables of one payer, device, payee and merchant.

    They hold a month of folded history, yesterday's items, and those of half of today.
    """
    meter = Metered()
    meter.on = False
    counting = declared_store(meter, TABLES, 400, lambda: NOON)
    for kind, entity in (
        (PAYER, PAYEE_ID),
        (PAYEE, PAYEE_ID),
        (DEVICE, DEVICE_ID),
    ):  # an account pays and is paid
        lives.folded_past(meter, TABLES, kind, entity, PER_DAY)
    for midnight, span in ((TODAY - dt.timedelta(days=1), 24), (TODAY, 12)):
        payments = PER_DAY * span // 24
        for n, occurred_at in enumerate(lives.moments(midnight, dt.timedelta(hours=span), payments, f"{midnight}")):
            other = identifier(f"other-{n}")
            received: dict[str, str | None] = {"payer_id": other, "device_id": None}
            each = ({"payee_id": other}, received, received | {"type": "merchant"})
            for side, fields in enumerate(each if n else ({},)):  # payer and payee meet once a day
                counting.count([lives.payment(f"{midnight}-{n}-{side}", occurred_at, **fields)])
    kept = {PAYER_ID, PAYEE_ID, DEVICE_ID, f"{PAYER_ID}|{PAYEE_ID}"}
    return {
        table: {key: item for key, item in rows.items() if key[0].partition("#")[2] in kept}
        for table, rows in meter.database.tables.items()
    }


def typed(item: Mapping[str, Any]) -> bytes:
    """Return the attributes of an item as JSON without pk, sk and braces. Binary values are in base64."""
    content = {name: value for name, value in item.items() if name not in {"pk", "sk"}}
    return json.dumps(content, default=lambda binary: base64.b64encode(binary).decode()).encode()[1:-1]


async def serve(dynamodb_ms: float, endpoint_ms: float, pem: Path | None) -> None:
    """Serve until standard input ends. The first printed line is the port, further ones answer questions."""
    ledger, canned, seconds = Ledger(), Answers(), (dynamodb_ms / 1000, endpoint_ms / 1000)
    context = None
    if pem is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(pem)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(ledger, canned, seconds), "127.0.0.1", 0, ssl=context)
    print(server.sockets[0].getsockname()[1], flush=True)
    ended = asyncio.Event()

    def asked() -> None:
        line = sys.stdin.readline()
        if line:
            print(ledger.told(line.strip()), flush=True)
        else:
            ended.set()

    loop.add_reader(sys.stdin, asked)
    await ended.wait()
    server.close()


def main() -> None:
    """Run the process behind `Servers`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.servers", description=main.__doc__)
    parser.add_argument("dynamodb_ms", type=float)
    parser.add_argument("endpoint_ms", type=float)
    parser.add_argument("pem", type=Path, nargs="?")
    options = parser.parse_args()
    # select() waits to the microsecond; epoll, the loop's default, rounds up to milliseconds.
    with contextlib.suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=_loop) as runner:
        runner.run(serve(options.dynamodb_ms, options.endpoint_ms, options.pem))


def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


if __name__ == "__main__":
    main()
