"""The hot path's client sends what botocore sends and works over TLS, and the function that decides loads no SDK."""

import base64
import ipaddress
import json
import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple, Self

import boto3
import botocore.auth
import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.config import Config
from botocore.retries.standard import ThrottledRetryableChecker, TransientRetryableChecker
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fraud.aws.client import AwsClient, SystemPorts, Timeouts
from fraud.aws.connection import Socket, tls_context
from fraud.aws.failures import PASSING, service_error
from fraud.aws.sigv4 import Signer
from fraud.aws.transport import ConditionFailed, Request, Result
from fraud.counters.codec import attempt_update
from fraud.errors import ServiceError, UnavailableError
from fraud.settings import AwsIdentity
from local.account.boto import REGION
from local.account.emulator import Emulator
from tests.support.boto_transport import BotoTransport
from tests.support.payments import NOON, payment, updates

LAMBDA = {
    "AWS_REGION": "eu-west-1",
    "AWS_DEFAULT_REGION": "eu-west-1",
    "AWS_ACCESS_KEY_ID": "AKIA",
    "AWS_SECRET_ACCESS_KEY": "secret",
}
KEY = {"pk": {"S": "payer#花子"}, "sk": {"S": "d1"}}

REQUESTS = [
    Request("update_item", {"TableName": "counters", **attempt_update(updates(payment())[0], 0)}),
    Request("batch_get_item", {"RequestItems": {"counters": {"Keys": [KEY], "ProjectionExpression": "pk, sk"}}}),
    Request("put_item", {"TableName": "decisions", "Item": KEY | {"features": {"B": bytes(range(256))}}}),
    Request("get_item", {"TableName": "decisions", "Key": KEY, "ConsistentRead": True}),
    Request("query", {"TableName": "counters", "KeyConditionExpression": "pk = :pk"}),
    Request(
        "invoke_endpoint",
        {
            "EndpointName": "fraud-model",
            "Body": b'{"rows":[[1.0,null]]}',
            "ContentType": "application/json",
            "Accept": "application/json",
        },
    ),
]

NOT_SIGNED = {"amz-sdk-invocation-id", "amz-sdk-request", "content-length", "user-agent", "x-amz-user-agent"}
"""Headers in which botocore describes itself and its attempts, and headers that its HTTP client adds."""


class Sent(NamedTuple):
    """A request as it would go out."""

    line: str
    headers: dict[str, str]
    body: bytes


def sent_by_botocore(request: Request, token: str | None, monkeypatch: pytest.MonkeyPatch) -> Sent:
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda: NOON)
    service = "sagemaker-runtime" if request.operation == "invoke_endpoint" else "dynamodb"
    client = boto3.client(
        service,
        LAMBDA["AWS_REGION"],
        aws_access_key_id=LAMBDA["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=LAMBDA["AWS_SECRET_ACCESS_KEY"],
        aws_session_token=token,
        config=Config(retries={"total_max_attempts": 1}, ignore_configured_endpoint_urls=True),
    )
    taken: list[AWSPreparedRequest] = []

    class Raw:
        def stream(self, *_: object, **__: object) -> Iterator[bytes]:
            return iter([b"{}"])

    def take(request: AWSPreparedRequest, **_: object) -> AWSResponse:
        taken.append(request)
        return AWSResponse(request.url, 200, {}, Raw())

    client.meta.events.register("before-send", take)
    getattr(client, request.operation)(**request.payload)
    (theirs,) = taken
    headers = {
        name.lower(): value.decode() if isinstance(value, bytes) else str(value)
        for name, value in theirs.headers.items()
    }
    host, _, path = theirs.url.removeprefix("https://").partition("/")
    headers["host"] = host  # their HTTP client adds it; it is signed
    body = theirs.body if isinstance(theirs.body, bytes) else theirs.body.encode()
    return Sent(f"{theirs.method} /{path} HTTP/1.1", headers, body)


def sent_by_us(request: Request, token: str | None) -> Sent:
    client = AwsClient(AwsIdentity.from_environment(LAMBDA | ({} if token is None else {"AWS_SESSION_TOKEN": token})))
    host = client._sagemaker if request.operation == "invoke_endpoint" else client._dynamodb
    head, _, body = host.message(request, NOON.timestamp()).partition(b"\r\n\r\n")
    line, *lines = head.decode().split("\r\n")
    return Sent(line, dict(one.split(": ", 1) for one in lines), body)


def parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body


@pytest.mark.parametrize("token", [None, "of-the-session"])
@pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: request.operation)
def test_our_request_equals_botocores(request_: Request, token: str | None, monkeypatch: pytest.MonkeyPatch):
    theirs, ours = sent_by_botocore(request_, token, monkeypatch), sent_by_us(request_, token)
    assert ours.line == theirs.line
    assert parsed(ours.body) == parsed(theirs.body)
    signed = {name: value for name, value in theirs.headers.items() if name not in NOT_SIGNED}
    assert ours.headers.keys() == signed.keys() | {"accept-encoding", "content-length"}
    for name in signed.keys() - {"authorization"}:
        assert ours.headers[name] == signed[name], name
    assert (
        ours.headers["authorization"].partition("Signature=")[0] == signed["authorization"].partition("Signature=")[0]
    )
    # JSON may be written in more than one way, so their signature is compared over their bytes.
    region = LAMBDA["AWS_REGION"]
    service = "sagemaker" if request_.operation == "invoke_endpoint" else "dynamodb"
    signer = Signer(LAMBDA["AWS_ACCESS_KEY_ID"], LAMBDA["AWS_SECRET_ACCESS_KEY"], token, region, service)
    given = {name: value for name, value in signed.items() if name != "authorization"}
    path = theirs.line.split(" ")[1]
    assert signer.sign("POST", path, given, theirs.body, NOON.timestamp()) == signed


# --- the same results ------------------------------------------------------------------------------------------------


def plain(result: Result) -> object:
    """Return a result without the differences between the clients: boto3 returns bytes, and metadata of the reply."""
    if isinstance(result, ServiceError):
        return type(result), result.code
    said = result._asdict() if isinstance(result, ConditionFailed) else {**result}
    said.pop("ResponseMetadata", None)
    return type(result), json.loads(json.dumps(said, default=lambda value: base64.b64encode(value).decode()))


def test_our_client_and_boto3_get_the_same_results_from_an_emulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with Emulator(tmp_path / "log") as emulator:
        place = {"AWS_ENDPOINT_URL": emulator.url, "AWS_REGION": REGION, "AWS_DEFAULT_REGION": REGION}
        for name, value in (LAMBDA | place).items():
            monkeypatch.setenv(name, value)
        client, boto = AwsClient(AwsIdentity.from_environment()), BotoTransport()
        counters = emulator.stack.functions[0].environment["COUNTERS_TABLE"]
        update, other = updates(payment())[:2]
        key = {"pk": {"S": other.key.pk}, "sk": {"S": other.key.sk}}
        item = key | {"b": {"B": bytes(range(256))}, "l": {"L": [{"NULL": True}, {"BOOL": False}, {"S": "花"}]}}
        put = {"TableName": counters, "Item": item, "ConditionExpression": "attribute_not_exists(pk)"}
        writes = [
            Request("update_item", {"TableName": counters, **attempt_update(update, 0)}),
            Request("put_item", {**put, "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}),
        ]
        assert not any(isinstance(result, ServiceError | ConditionFailed) for result in client.gather(writes))
        again = [
            *writes,  # refused now
            Request("put_item", put),
            Request("get_item", {"TableName": counters, "Key": key}),
            Request("get_item", {"TableName": counters, "Key": {**key, "sk": {"S": "none"}}}),
            Request("batch_get_item", {"RequestItems": {counters: {"Keys": [key]}}}),
            Request("query", {"TableName": counters, "IndexName": "fold", "KeyConditionExpression": "nonsense"}),
            Request("get_item", {"TableName": "no-such-table", "Key": key}),
        ]
        ours, theirs = client.gather(again), boto.gather(again)
    assert [plain(result) for result in ours] == [plain(result) for result in theirs]
    assert [isinstance(result, ConditionFailed) for result in ours[:3]] == [True] * 3
    assert [isinstance(result, ServiceError) for result in ours[3:]] == [False] * 3 + [True] * 2


# --- TLS -------------------------------------------------------------------------------------------------------------


def signed(folder: Path, common_name: str, *names: x509.GeneralName) -> tuple[Path, Path]:
    """Return the paths of a new self-signed certificate and of its key. `names`: its subjectAltName."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    )
    if names:
        made = made.add_extension(x509.SubjectAlternativeName(names), critical=False)
    (folder / "cert.pem").write_bytes(made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    plain = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "key.pem").write_bytes(plain)
    return folder / "cert.pem", folder / "key.pem"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return the paths of a self-signed certificate of 127.0.0.1 and dynamodb.test, and of its key."""
    names = x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("dynamodb.test")
    return signed(tmp_path_factory.mktemp("certificate"), "local", *names)


class TlsServer:
    """Answers every request with `size` bytes, over one connection after the other. Each ends after two replies."""

    def __init__(self, certificate: tuple[Path, Path], size: int) -> None:
        self.resumed: list[bool | None] = []
        self._answer = b'{"Item":{"pk":{"S":"%b"}}}' % (b"x" * size)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(*certificate)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                accepted, _ = self._listener.accept()
                with suppress(OSError), self._context.wrap_socket(accepted, server_side=True) as connection:
                    self.resumed.append(connection.session_reused)
                    for _ in range(2):
                        connection.recv(100_000)
                        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(self._answer)
                        connection.sendall(head + self._answer)


GET = Request("get_item", {"TableName": "t", "Key": KEY})


def test_large_replies_come_over_tls_and_the_next_connection_resumes_the_session(certificate: tuple[Path, Path]):
    size = 300_000
    with TlsServer(certificate, size) as server:
        at = {"AWS_ENDPOINT_URL": server.url, "AWS_CA_BUNDLE": str(certificate[0])}
        client = AwsClient(AwsIdentity.from_environment(LAMBDA | at))
        for _ in range(5):
            (answer,) = client.gather([GET])
            assert isinstance(answer, Mapping)
            assert len(answer["Item"]["pk"]["S"]) == size
        del client
    assert server.resumed == [False, True, True]


def test_a_server_without_a_trusted_certificate_gets_no_request(certificate: tuple[Path, Path]):
    with TlsServer(certificate, 1) as server:
        (result,) = AwsClient(AwsIdentity.from_environment(LAMBDA | {"AWS_ENDPOINT_URL": server.url})).gather([GET])
    assert str(result) == "SSLCertVerificationError"
    assert server.resumed == []


Flight = Callable[[ssl.SSLObject, ssl.MemoryBIO], bytes]


class TlsPairs(SystemPorts):
    """A TLS server at the other ends of socket pairs; no time passes but in `wait`.

    It answers each request with the next of `flights`. A flight gets the server's TLS and what that has to send, and
    returns the bytes to send at once.
    """

    def __init__(self, certificate: tuple[Path, Path], *flights: Flight) -> None:
        self.clock = 0.0
        self.dialled: list[tuple[socket.socket, ssl.MemoryBIO, ssl.MemoryBIO, ssl.SSLObject]] = []
        self._flights = list(flights)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(*certificate)

    def close(self) -> None:
        for end, *_ in self.dialled:
            end.close()

    def now(self) -> float:
        return self.clock

    def dial(self, *_: object) -> socket.socket:
        ours, theirs = socket.socketpair()
        ours.settimeout(0)
        theirs.settimeout(0)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = self._context.wrap_bio(incoming, outgoing, server_side=True)
        self.dialled.append((theirs, incoming, outgoing, tls))
        return Socket(fileno=ours.detach())

    def wait(self, poll: select.poll, *_: object) -> Iterable[tuple[int, int]]:
        self.clock += 0.01
        for end, incoming, outgoing, tls in self.dialled:
            with suppress(BlockingIOError):
                incoming.write(end.recv(100_000))
            with suppress(ssl.SSLWantReadError):
                tls.do_handshake()
                if tls.read(100_000):
                    end.sendall(self._flights.pop(0)(tls, outgoing))
            with suppress(BrokenPipeError):
                end.sendall(outgoing.read())
        return poll.poll(0)


HTTP_OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b"


def reply(name: str) -> Flight:
    """Return the flight of a reply with an item of this name."""

    def flight(tls: ssl.SSLObject, outgoing: ssl.MemoryBIO) -> bytes:
        body = b'{"Item":"%b"}' % name.encode()
        tls.write(HTTP_OK % (len(body), body))
        return outgoing.read()

    return flight


def ended(tls: ssl.SSLObject, outgoing: ssl.MemoryBIO) -> bytes:
    with suppress(ssl.SSLWantReadError):
        tls.unwrap()
    return outgoing.read()


def then(*flights: Flight, without: int = 0) -> Flight:
    """Return several flights in one, `without` its last bytes."""
    return lambda tls, outgoing: b"".join(flight(tls, outgoing) for flight in flights)[: -without or None]


@pytest.fixture
def over_tls():
    with ExitStack() as stack:

        def made(certificate: tuple[Path, Path], *flights: Flight) -> tuple[AwsClient, TlsPairs]:
            server = TlsPairs(certificate, *flights)
            stack.callback(server.close)
            at = {"AWS_ENDPOINT_URL": "https://dynamodb.test", "AWS_CA_BUNDLE": str(certificate[0])}
            return AwsClient(AwsIdentity.from_environment(LAMBDA | at), Timeouts(attempts=1), server), server

        yield made


@pytest.mark.parametrize(
    ("first", "connections"),
    [
        (reply("a"), 1),
        (then(reply("a"), ended), 2),
        (then(reply("a"), reply("unasked"), without=1), 2),
        (then(reply("a"), reply("unasked"), without=76), 2),
    ],
)
def test_a_tls_connection_is_used_again_only_if_nothing_came_after_the_reply(certificate, over_tls, first, connections):
    client, server = over_tls(certificate, first, reply("b"))
    assert client.gather([GET]) == [{"Item": "a"}]
    assert client.gather([GET]) == [{"Item": "b"}]
    assert len(server.dialled) == connections


@pytest.mark.parametrize(
    ("bad", "code"), [(then(reply("a"), reply("unasked")), "UnreadableAnswerError"), (ended, "ConnectionAbortedError")]
)
def test_over_tls_too_a_reply_has_neither_more_bytes_nor_fewer(certificate, over_tls, bad, code):
    client, _ = over_tls(certificate, bad)
    assert [str(result) for result in client.gather([GET])] == [code]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["dynamodb.test"], "{'Item': 'a'}"),
        (["other.test"], "SSLCertVerificationError"),
        ([], "SSLCertVerificationError"),
    ],
)
def test_a_server_is_known_by_its_alternative_names_and_not_by_its_common_name(tmp_path, over_tls, names, expected):
    client, _ = over_tls(signed(tmp_path, "dynamodb.test", *map(x509.DNSName, names)), reply("a"))
    assert [str(result) for result in client.gather([GET])] == [expected]


def test_no_tls_before_1_2_and_no_second_handshake_is_accepted():
    context = tls_context(None)
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_RENEGOTIATION


# --- the same errors pass --------------------------------------------------------------------------------------------


def test_what_botocore_sends_again_passes():
    theirs = ThrottledRetryableChecker._THROTTLED_ERROR_CODES + TransientRetryableChecker._TRANSIENT_ERROR_CODES
    assert set(theirs) <= PASSING
    assert all(
        isinstance(service_error("Anything", status), UnavailableError)
        for status in TransientRetryableChecker._TRANSIENT_STATUS_CODES
    )
