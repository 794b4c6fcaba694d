"""The hot path's client against servers that follow a script: its requests, results, further attempts and deadlines.

The network is pairs of connected sockets, and the test sets the clock. So nothing here waits and nothing is a race.
"""

import contextlib
import gc
import itertools
import json
import select
import socket
import warnings
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud.aws.client import BACKOFF_S, CONNECTIONS, AwsClient, SystemPorts, Timeouts
from fraud.aws.connection import LONGEST_BODY, LONGEST_HEAD, Connection, Socket
from fraud.aws.failures import service_error
from fraud.aws.transport import ConditionFailed, Request, all_or_raise, binary
from fraud.errors import HotKeyError, ServiceError, UnavailableError
from fraud.settings import AwsIdentity

IDENTITY = AwsIdentity(
    region="eu-west-1",
    key_id="AKIA",
    secret="secret",
    token=None,
    dynamodb_url="http://dynamodb.test",
    sagemaker_url="http://sagemaker.test/prefix",
    ca_bundle=None,
)
GET = Request("get_item", {"TableName": "t", "Key": {"pk": {"S": "a"}}})
ASKED = Request("invoke_endpoint", {"EndpointName": "e", "Body": b""})
CLOSE = None
"""In a script: the server closes the connection."""

Steps = Sequence[bytes | float | None]
"""A server's script for one request: bytes to send, seconds to wait, CLOSE. Empty: it never answers."""


def http(status: int, body: bytes, *headers: str, version: str = "1.1") -> bytes:
    lines = [f"HTTP/{version} {status} Whatever", "Content-Type: application/x-amz-json-1.0", *headers]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


def said(fields: object, status: int = 200) -> bytes:
    return http(status, json.dumps(fields).encode())


def error(code: str, status: int = 400, **fields: object) -> bytes:
    return said({"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": "SECRET", **fields}, status)


OK = said({"Item": {"pk": {"S": "a"}}})
FOUND = {"Item": {"pk": {"S": "a"}}}
THROTTLED = error("ProvisionedThroughputExceededException")


class Received(NamedTuple):
    """A request that came to a server."""

    connection: int
    line: str
    headers: dict[str, str]
    body: bytes


class Pending(NamedTuple):
    """The steps that a server still has to take on a connection, and the time of the next one."""

    due: float
    connection: int
    steps: list[bytes | float | None]


class Servers(SystemPorts):
    """Servers that follow a script, one element for each request as it arrives. After the script every request
    succeeds.
    """

    def __init__(self, *script: Steps, refusing: int = 0) -> None:
        self.script = list(script)
        self.dialling_s = 0.0
        self.refusing = refusing
        self.clock = 1000.0
        self.requests: list[Received] = []
        self.pauses: list[float] = []
        self.open_at_pauses: list[int] = []
        self.dialled: list[tuple[tuple[str, int], int]] = []
        self.most_at_a_time = 0
        self._ends: list[socket.socket] = []
        self._unread: dict[int, bytes] = {}
        self._pending: list[Pending] = []

    def close(self) -> None:
        for end in self._ends:
            end.close()

    def now(self) -> float:
        return self.clock

    def epoch(self) -> float:
        return 1_800_000_000.0

    def jitter(self, most: float) -> float:
        self.pauses.append(most)
        self.open_at_pauses.append(self.open_connections())
        return most

    def dial(self, address: tuple[str, int], attempt: int, within_s: float) -> socket.socket:
        self.clock += min(self.dialling_s, within_s)
        self.dialled.append((address, attempt))
        if len(self.dialled) <= self.refusing:
            raise ConnectionRefusedError
        ours, theirs = socket.socketpair()
        ours.settimeout(0)
        theirs.settimeout(0)
        self._unread[len(self._ends)] = b""
        self._ends.append(theirs)
        return Socket(fileno=ours.detach())

    def pass_by(self, seconds: float) -> None:
        """Let time pass without a request."""
        self.clock += seconds
        self._serve()

    def wait(self, poll: select.poll, seconds: float) -> Iterable[tuple[int, int]]:
        until = self.clock + seconds
        while True:
            self._serve()
            if events := poll.poll(0):
                return events
            if self.clock >= until:
                return []
            self.clock = min([until, *(pending.due for pending in self._pending)])

    def open_connections(self) -> int:
        return sum(map(self._held, range(len(self._ends))))

    def _held(self, number: int) -> bool:
        """Tell whether neither end has closed a connection."""
        if number not in self._unread:
            return False
        try:
            return self._ends[number].recv(1, socket.MSG_PEEK) != b""
        except BlockingIOError:
            return True
        except ConnectionResetError:
            return False

    def _serve(self) -> None:
        for number in list(self._unread):
            with contextlib.suppress(BlockingIOError, ConnectionError):
                while chunk := self._ends[number].recv(1_000_000):
                    self._unread[number] += chunk
            while request := self._taken(number):
                self.requests.append(request)
                steps = list(self.script.pop(0)) if self.script else [OK]
                self._pending.append(Pending(self.clock, number, steps))
        self.most_at_a_time = max(self.most_at_a_time, len(self._pending))
        for pending in [one for one in self._pending if one.due <= self.clock]:
            self._pending.remove(pending)
            self._act(pending)

    def _act(self, pending: Pending) -> None:
        steps = pending.steps
        while steps:
            match steps.pop(0):
                case None:
                    del self._unread[pending.connection]
                    self._ends[pending.connection].close()
                case bytes(text):
                    with contextlib.suppress(BrokenPipeError):  # the client has given up
                        self._ends[pending.connection].send(text)
                case seconds:
                    self._pending.append(Pending(self.clock + seconds, pending.connection, steps))
                    return

    def _taken(self, number: int) -> Received | None:
        head, separator, rest = self._unread[number].partition(b"\r\n\r\n")
        line, *lines = head.decode().split("\r\n")
        headers = dict(one.split(": ", 1) for one in lines)
        if not separator or len(rest) < int(headers["content-length"]):
            return None
        length = int(headers["content-length"])
        self._unread[number] = rest[length:]
        return Received(number, line, headers, rest[:length])


@pytest.fixture
def serving():
    with contextlib.ExitStack() as stack:

        def made(*script: Steps, refusing: int = 0, timeouts: Timeouts | None = None) -> tuple[AwsClient, Servers]:
            servers = Servers(*script, refusing=refusing)
            stack.callback(servers.close)
            return AwsClient(IDENTITY, timeouts, servers), servers

        yield made


def codes(results: Iterable[Any]) -> list[str | None]:
    return [result.code if isinstance(result, ServiceError) else None for result in results]


# --- requests --------------------------------------------------------------------------------------------------------


def test_a_dynamodb_request_is_json_with_its_operation_in_a_header(serving):
    client, servers = serving()
    assert client.gather(
        [Request("batch_get_item", {"RequestItems": {"t": {"Keys": [{"pk": {"B": b"\0\xff"}}]}}})]
    ) == [FOUND]
    (request,) = servers.requests
    assert request.line == "POST / HTTP/1.1"
    assert request.headers["host"] == "dynamodb.test"
    assert request.headers["content-type"] == "application/x-amz-json-1.0"
    assert request.headers["x-amz-target"] == "DynamoDB_20120810.BatchGetItem"
    assert json.loads(request.body) == {"RequestItems": {"t": {"Keys": [{"pk": {"B": "AP8="}}]}}}
    assert servers.dialled == [(("dynamodb.test", 80), 0)]


def test_an_endpoint_gets_its_body_unchanged_and_its_reply_stays_bytes(serving):
    client, servers = serving([http(200, b"\x00[0.5]")])
    payload = {
        "EndpointName": "a b/ü",
        "Body": b"\xff\x00raw",
        "ContentType": "application/json",
        "Accept": "application/json",
    }
    assert client.gather([Request("invoke_endpoint", payload)]) == [
        {"Body": b"\x00[0.5]", "ContentType": "application/x-amz-json-1.0"}
    ]
    (request,) = servers.requests
    assert request.line == "POST /prefix/endpoints/a%20b%2F%C3%BC/invocations HTTP/1.1"
    assert request.body == b"\xff\x00raw"
    assert request.headers["accept"] == "application/json"
    assert "/eu-west-1/sagemaker/aws4_request" in request.headers["authorization"]
    assert "x-amz-target" not in request.headers


def test_an_endpoints_reply_that_is_longer_than_announced_is_not_used(serving):
    client, servers = serving([http(200, b"[0.5]") + b"[0.7]"], [http(200, b"[0.6]")])
    (answer,) = client.gather([ASKED])
    assert answer["Body"] == b"[0.6]"
    assert len(servers.requests) == 2


def test_the_session_token_is_sent_and_signed(serving):
    _, servers = serving()
    client = AwsClient(replace(IDENTITY, token="of-the-session"), None, servers)
    client.gather([GET])
    headers = servers.requests[0].headers
    assert headers["x-amz-security-token"] == "of-the-session"
    assert "x-amz-date;x-amz-security-token;x-amz-target," in headers["authorization"]


def test_a_value_that_json_does_not_know_raises_a_type_error(serving):
    client, _ = serving()
    with pytest.raises(TypeError, match="set"):
        client.gather([Request("get_item", {"TableName": {"a"}})])


TYPED = st.recursive(
    st.fixed_dictionaries({"S": st.text()})
    | st.fixed_dictionaries({"N": st.integers().map(str)})
    | st.fixed_dictionaries({"B": st.binary()})
    | st.fixed_dictionaries({"BS": st.lists(st.binary(), max_size=3)})
    | st.fixed_dictionaries({"BOOL": st.booleans()}),
    lambda values: (
        st.fixed_dictionaries({"L": st.lists(values, max_size=3)})
        | st.fixed_dictionaries({"M": st.dictionaries(st.text(), values, max_size=3)})
    ),
    max_leaves=8,
)


def decoded(value: Any) -> Any:
    """Return a typed value from JSON with its binary contents as bytes."""
    ((kind, content),) = value.items()
    match kind:
        case "B":
            return {"B": binary(content)}
        case "BS":
            return {"BS": [binary(one) for one in content]}
        case "L":
            return {"L": [decoded(one) for one in content]}
        case "M":
            return {"M": {name: decoded(one) for name, one in content.items()}}
        case _:
            return value


@given(st.dictionaries(st.text(), TYPED, max_size=4))
def test_every_payload_is_sent_and_read_back_unchanged(item):
    servers = Servers()
    client = AwsClient(IDENTITY, None, servers)
    try:
        client.gather([Request("put_item", {"TableName": "t", "Item": item})])
        body = json.loads(servers.requests[0].body)
        servers.script = [[said({"Attributes": body["Item"]})]]
        (answer,) = client.gather([GET])
    finally:
        servers.close()
    assert {name: decoded(value) for name, value in answer["Attributes"].items()} == item


def test_binary_values_are_read_from_base64_and_from_bytes():
    assert binary("AP8=") == binary(b"\x00\xff") == b"\x00\xff"


def test_a_large_payload_is_sent_in_the_pieces_that_the_server_takes(serving):
    client, servers = serving()
    item = {"pk": {"S": "x" * 3_000_000}}
    assert client.gather([Request("put_item", {"TableName": "t", "Item": item})] * 2) == [FOUND] * 2
    assert [json.loads(request.body)["Item"] for request in servers.requests] == [item] * 2


# --- replies ---------------------------------------------------------------------------------------------------------


def test_results_have_the_order_of_the_requests_however_they_arrive(serving):
    client, servers = serving(*([0.01 * (5 - n), said({"n": n})] for n in range(5)))
    assert client.gather([GET] * 5) == [{"n": n} for n in range(5)]
    assert servers.most_at_a_time == 5
    assert servers.clock == pytest.approx(1000.05)


def test_a_connection_is_used_again(serving):
    client, servers = serving()
    for _ in range(3):
        client.gather([GET] * 2)
    assert len(servers.dialled) == 2
    assert {request.connection for request in servers.requests} == {0, 1}


def test_each_service_has_connections_of_its_own(serving):
    client, servers = serving()
    client.gather([GET, ASKED])
    client.gather([GET])
    assert [address for address, _ in servers.dialled] == [("dynamodb.test", 80), ("sagemaker.test", 80)]


def test_requests_beyond_the_connections_are_sent_as_replies_arrive(serving):
    client, servers = serving(*([0.1, OK] for _ in range(CONNECTIONS)))
    assert client.gather([GET] * 100) == [FOUND] * 100
    assert servers.most_at_a_time == CONNECTIONS == len(servers.dialled)


@pytest.mark.parametrize("cut", range(0, len(OK), 7))
def test_a_reply_in_two_pieces_is_one_reply(serving, cut):
    client, servers = serving([OK[:cut], 0.01, OK[cut:]])
    assert client.gather([GET]) == [FOUND]
    assert len(servers.requests) == 1


BODY = OK.partition(b"\r\n\r\n")[2]
CHUNKED = b"".join(
    (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"5\r\n%b\r\n" % BODY[:5],
        b"%X;name=value\r\n%b\r\n" % (len(BODY) - 5, BODY[5:]),
        b"0\r\nTrailer: of no use\r\n\r\n",
    )
)


@pytest.mark.parametrize("cut", range(0, len(CHUNKED), 5))
def test_a_chunked_reply_is_put_together_and_its_connection_kept(serving, cut):
    client, servers = serving([CHUNKED[:cut], 0.01, CHUNKED[cut:]])
    assert client.gather([GET]) == client.gather([GET]) == [FOUND]
    assert (len(servers.requests), len(servers.dialled)) == (2, 1)


@pytest.mark.parametrize("last", [http(200, b"{}", "Connection: Close"), http(200, b"{}", version="1.0")])
def test_a_connection_that_ends_with_its_reply_is_not_used_again(serving, last):
    client, servers = serving([last])
    assert client.gather([GET]) == [{}]
    assert client.gather([GET]) == [FOUND]
    assert len(servers.dialled) == 2


def test_a_failed_condition_is_a_response_with_the_stored_item(serving):
    there = {"pk": {"S": "a"}}
    client, servers = serving(
        [error("ConditionalCheckFailedException", Item=there)], [error("ConditionalCheckFailedException")]
    )
    assert client.gather([GET]) == [ConditionFailed(there)]
    assert client.gather([GET]) == [ConditionFailed({})]
    assert len(servers.requests) == 2


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (error("ValidationException"), "ValidationException"),
        (error("ResourceNotFoundException"), "ResourceNotFoundException"),
        (http(424, b'{"Message":"SECRET"}', "x-amzn-ErrorType: ModelError:http://internal/"), "ModelError"),
        (http(403, b"<html>SECRET</html>"), "403"),
        (http(400, b"[]"), "400"),
        (http(400, b'{"__type": 5}'), "5"),
    ],
)
def test_an_error_that_no_retry_mends_is_returned_at_once_with_the_services_own_code(serving, answer, code):
    client, servers = serving([answer], [OK])
    bad, good = client.gather([GET] * 2)
    assert (type(bad), bad.code, good) == (ServiceError, code, FOUND)
    assert "SECRET" not in str(bad)
    assert len(servers.requests) == 2
    assert len(servers.dialled) == 2
    client.gather([GET] * 2)
    assert len(servers.dialled) == 2  # an error leaves its connection as good as before


def test_all_or_raise_raises_the_first_error():
    assert all_or_raise([{"a": 1}, ConditionFailed({})]) == [{"a": 1}, ConditionFailed({})]
    with pytest.raises(ServiceError, match="first"):
        all_or_raise([{}, ServiceError("first"), UnavailableError("second")])


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("ThrottlingException", 400, UnavailableError),
        ("Throttling", 400, UnavailableError),
        ("RequestThrottled", 403, UnavailableError),
        ("TransactionConflictException", 400, UnavailableError),
        ("ReplicatedWriteConflictException", 409, UnavailableError),
        ("Anything", 503, UnavailableError),
        ("Anything", 429, UnavailableError),
        ("AccessDeniedException", 400, ServiceError),
        ("ExpiredTokenException", 403, ServiceError),
    ],
)
def test_only_errors_that_pass_are_sent_again(code, status, kind):
    assert type(service_error(code, status)) is kind


OF_KEY, OF_TABLE = "TableWriteKeyRangeThroughputExceeded", "TableWriteMaxOnDemandThroughputExceeded"


@pytest.mark.parametrize(
    ("code", "reasons", "kind"),
    [
        ("ProvisionedThroughputExceededException", [{"reason": OF_KEY, "resource": "SECRET"}], HotKeyError),
        ("ThrottlingException", [{"reason": OF_TABLE}, {"reason": OF_KEY}], HotKeyError),
        ("ProvisionedThroughputExceededException", [], HotKeyError),
        ("ProvisionedThroughputExceededException", None, HotKeyError),
        ("ProvisionedThroughputExceededException", [{"reason": OF_TABLE}], UnavailableError),
        ("ThrottlingException", [{"reason": OF_TABLE}], UnavailableError),
        ("ThrottlingException", [], UnavailableError),
        ("ThrottlingException", [None, 1, {}, {"reason": None}, {"reason": {}}], UnavailableError),
        ("ThrottlingException", {"reason": OF_KEY}, UnavailableError),
    ],
)
def test_a_throttled_key_is_told_from_a_throttled_table(serving, code, reasons, kind):
    client, _ = serving(*[[error(code, ThrottlingReasons=reasons)]] * 3)
    (failed,) = client.gather([GET])
    assert (type(failed), failed.code) == (kind, code)


# --- replies that are not HTTP to the letter -------------------------------------------------------------------------


LENGTH, IN_CHUNKS = f"Content-Length: {len(BODY)}", "Transfer-Encoding: chunked"


def reply(*lines: str, body: bytes = BODY, status: str = "HTTP/1.1 200 OK") -> bytes:
    return "\r\n".join([status, *lines, "", ""]).encode("latin-1") + body


def in_chunks(rest: bytes) -> bytes:
    return reply(IN_CHUNKS, body=rest)


def sized(size: bytes) -> bytes:
    return in_chunks(b"%b\r\n%b\r\n0\r\n\r\n" % (size, BODY))


SIZE = b"%x" % len(BODY)
WELL_FORMED = [
    reply(LENGTH, status="HTTP/1.1 200"),
    reply(f"CONTENT-LENGTH:\t00{len(BODY)} \t"),
    reply("Empty:", "Name.of~any_kind!: caf\xe9 \x80 :;,\t", LENGTH),
    reply("transfer-encoding:Chunked", body=b"%b;name=value; other\r\n%b\r\n000\r\n\r\n" % (SIZE.upper(), BODY)),
    sized(b"000" + SIZE),
    in_chunks(b"%b\r\n%b\r\n0;last\r\nA: 1\r\nB:\r\n\r\n" % (SIZE, BODY)),
]
LENGTHS = [f"{len(BODY):+}", f"{len(BODY)}, {len(BODY)}", f"{len(BODY)};", f"{len(BODY)}.0", hex(len(BODY)), f"2_{7}"]
MALFORMED = [
    # two lengths, or none that counts
    reply(LENGTH, LENGTH),
    reply(LENGTH, "X: y", "content-length: 5"),
    reply(LENGTH, "Content-Length:"),
    reply(LENGTH, IN_CHUNKS),
    reply(IN_CHUNKS, LENGTH, body=CHUNKED.partition(b"\r\n\r\n")[2]),
    reply(IN_CHUNKS, IN_CHUNKS, body=CHUNKED.partition(b"\r\n\r\n")[2]),
    *(reply(f"Content-Length: {length}") for length in ["", "-0", "1 0", "\xb2", *LENGTHS]),
    *(
        reply(f"Transfer-Encoding: {coding}", body=CHUNKED.partition(b"\r\n\r\n")[2])
        for coding in [
            "",
            "identity",
            "gzip, chunked",
            "chunked, chunked",
            "chunked,",
            "xchunked",
            "chunked;q=1",
            '"chunked"',
        ]
    ),
    reply(IN_CHUNKS, body=CHUNKED.partition(b"\r\n\r\n")[2], status="HTTP/1.0 200 OK"),
    # the status line
    *(
        reply(LENGTH, status=line)
        for line in [
            "HTTP/1.1 200OK",
            "HTTP/1.1  200 OK",
            "HTTP/1.1\t200 OK",
            "HTTP/1.1 2000 OK",
            "HTTP/1.1 20 OK",
            "HTTP/1.1 +20 OK",
            "HTTP/1.1 \xb200 OK",
            "HTTP/1.1 200 O\x00K",
            "HTTP/1.1 200 O\rK",
            "HTTP/2 200 OK",
            "HTTP/1.10 200 OK",
            "HTTP/1. 200 OK",
            "http/1.1 200 OK",
            "ICY 200 OK",
            " HTTP/1.1 200 OK",
            "\r\nHTTP/1.1 200 OK",
            *(f"HTTP/1.1 {status} Whatever" for status in (100, 101, 103, 199, 204, 304, "000", 600, 999)),
        ]
    ),
    reply(status="HTTP/1.1 100 Continue", body=OK),
    # header lines
    *(
        reply(line, LENGTH)
        for line in [
            "no colon",
            ": no name",
            "Name : x",
            "Na me: x",
            " folded: x",
            "X: y\r\n folded",
            "X: y\r\n\tfolded",
            "N\xe4me: x",
            "X(: y",
            *(f"X: a{chr(control)}b" for control in [*range(9), 10, 11, 12, 13, *range(14, 32), 127]),
            "X\0: y",
        ]
    ),
    reply(f"Content-Length : {len(BODY)}"),
    reply(f"X: y\n{LENGTH}"),
    reply(LENGTH).replace(b"\r\n", b"\n") + b"\r\n\r\n",
    reply("X: " + "y" * LONGEST_HEAD, LENGTH),
    # chunks
    *(
        sized(size)
        for size in [
            b"+" + SIZE,
            b"-" + SIZE,
            b"0x" + SIZE,
            b"0_" + SIZE,
            b" " + SIZE,
            SIZE + b" ",
            SIZE + b"\t;x",
            SIZE + b"h",
            SIZE + b";x\ny",
            SIZE + b";x\0",
            b"",
            b";x",
            b"\r\n" + SIZE,
        ]
    ),
    in_chunks(b"%b\n%b\r\n0\r\n\r\n" % (SIZE, BODY)),
    in_chunks(b"%b\r\n%bXX0\r\n\r\n" % (SIZE, BODY)),
    in_chunks(b"%b\r\n%b\n\n0\r\n\r\n" % (SIZE, BODY)),
    in_chunks(b"%b\r\n%b 0\r\n\r\n" % (SIZE, BODY)),
    in_chunks(b"%b\r\n%b\r\n-0\r\n\r\n" % (SIZE, BODY)),
    *(
        in_chunks(b"%b\r\n%b\r\n0\r\n%b\r\n\r\n" % (SIZE, BODY, trailer))
        for trailer in [b"no colon", b" folded: x", b"Name : x", b"X: a\0b", b"X: a\nb"]
    ),
    in_chunks(b"%b\r\n%b\r\n0\r\nX: %b\r\n\r\n" % (SIZE, BODY, b"y" * LONGEST_HEAD)),
    # more than was asked for
    reply(LENGTH) + b"\r\n",
    in_chunks(b"%b\r\n%b\r\n0\r\n\r\n\r\n" % (SIZE, BODY)),
    CHUNKED + OK,
]


@pytest.mark.parametrize("good", WELL_FORMED)
def test_whatever_http_allows_in_a_reply_is_read(serving, good):
    client, servers = serving([good])
    assert client.gather([GET]) == [FOUND]
    assert len(servers.requests) == 1


@pytest.mark.parametrize("bad", MALFORMED, ids=lambda bad: str(bad[:90]))
def test_a_reply_that_is_not_http_to_the_letter_is_no_response(serving, bad):
    client, _ = serving([bad, CLOSE], timeouts=Timeouts(attempts=1))
    (result,) = client.gather([GET])
    assert (type(result), result.code) == (UnavailableError, "UnreadableAnswerError")


def test_a_reply_that_comes_before_its_request_is_no_response(serving, monkeypatch):
    client, servers = serving(timeouts=Timeouts(attempts=1))
    dial = servers.dial

    def greeted(*arguments):
        dialled = dial(*arguments)
        servers._ends[-1].send(OK)
        return dialled

    monkeypatch.setattr(servers, "dial", greeted)
    assert codes(client.gather([GET])) == ["UnreadableAnswerError"]
    assert servers.requests == []


@st.composite
def changed(draw, good: bytes, contents: Sequence[bytes]) -> bytes:
    """Return a reply with one byte of its framing changed, left out or added. Its contents and its status stay."""
    framing = set(range(len(good))) - set(range(9, 12))
    for content in contents:
        framing -= set(range(good.index(content), good.index(content) + len(content)))
    at = draw(st.sampled_from(sorted(framing)))
    added = draw(st.binary(max_size=1) | st.sampled_from([b"\r", b"\n", b" ", b":", b";", b",", b"0", b"1", b"f"]))
    return good[:at] + added + good[at + draw(st.integers(0, 1)) :]


SCORES = b'[0.5]\r\n0\r\n\r\n{"Content-Length: 5"}'


@given(st.data(), st.sampled_from(["length", "chunks"]), st.booleans())
def test_a_byte_changed_in_the_framing_of_a_reply_never_brings_another_body(data, kind, endpoint):
    body = SCORES if endpoint else BODY
    contents = [body] if kind == "length" else [body[:5], body[5:]]
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(content), content) for content in contents)
    good = http(200, body, "X: y") if kind == "length" else in_chunks(chunks + b"0\r\nTrailer: x\r\n\r\n")
    bad = data.draw(changed(good, contents))
    # A shortened body of an endpoint could not be told from a reply in time and bytes that are late.
    cut = len(bad) if endpoint else data.draw(st.integers(0, len(bad)))
    servers = Servers([bad[:cut], 0.01, bad[cut:], 0.01, CLOSE])
    try:
        (result,) = AwsClient(IDENTITY, Timeouts(attempts=1), servers).gather([ASKED if endpoint else GET])
    finally:
        servers.close()
    right = isinstance(result, dict) and (result["Body"] == body if endpoint else result == FOUND)
    assert right or type(result) is UnavailableError


# --- trying again ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad",
    [
        [THROTTLED],
        [error("InternalServerError", 500)],
        [http(502, b"<html>")],
        [CLOSE],
        [OK[:10], CLOSE],
        [OK[:-1], CLOSE],
        [CHUNKED[:-1], CLOSE],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nno number\r\n"],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n"],
        [b"HTTP/1.1 200 OK\r\nContent-Length: %b\r\n\r\n" % (b"9" * 5000)],
        [b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (LONGEST_BODY + 1)],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % (LONGEST_BODY + 1)],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n%x\r\n" % LONGEST_BODY],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * (LONGEST_HEAD + 1)],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"x" * (LONGEST_HEAD + 1)],
        [http(408, b""), CLOSE],
        [http(503, b"[" * 100_000)],
        [b"SMTP ready\r\n\r\n"],
        [b"HTTP/1.1 200 OK\r\n\r\n{}"],
        [b"x" * (LONGEST_HEAD + 1)],
        [OK + b"more"],
        [http(200, b"not json")],
        [http(200, b"[]")],
        [],
    ],
)
def test_only_a_request_with_a_passing_error_is_sent_again_after_a_pause(serving, bad):
    client, servers = serving(bad)
    assert client.gather([GET] * 2) == [FOUND] * 2
    assert len(servers.requests) == 3
    assert servers.pauses == [BACKOFF_S]
    assert servers.clock == pytest.approx(1000 + BACKOFF_S + (0 if bad else Timeouts().attempt_s))
    assert [attempt for _, attempt in servers.dialled] == [0, 0, 1]


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        ([THROTTLED], "ProvisionedThroughputExceededException"),
        ([http(500, b"")], "500"),
        ([CLOSE], "ConnectionAbortedError"),
        ([b"?\r\n\r\n"], "UnreadableAnswerError"),
        ([http(200, b"?")], "UnreadableAnswerError"),
        ([http(200, b'{"Item": {}}', "x-amz-crc32: 7")], "ChecksumMismatch"),
        ([http(400, b"{}", "X-Amz-Crc32: 02745614147")], "ChecksumMismatch"),
        ([], "TimeoutError"),
    ],
)
def test_after_three_attempts_with_growing_pauses_the_last_error_is_the_result(serving, bad, code):
    client, servers = serving(bad, bad, bad)
    (result,) = client.gather([GET])
    assert (isinstance(result, UnavailableError), result.code) == (True, code)
    assert len(servers.requests) == 3
    assert servers.pauses[:2] == [BACKOFF_S, 2 * BACKOFF_S]


def test_a_body_that_agrees_with_its_checksum_is_accepted(serving):
    body = b'{"Item": {}}'
    client, servers = serving([http(200, body, f"x-amz-crc32: {zlib.crc32(body)}")])
    assert client.gather([GET]) == [{"Item": {}}]
    assert len(servers.requests) == 1


@pytest.mark.parametrize("bad", [[], [b"SMTP ready\r\n\r\n"], [http(503, b"", "Connection: close")]])
def test_a_connection_that_is_given_up_is_closed_before_the_pause(serving, bad):
    client, servers = serving([OK], bad)
    client.gather([GET])
    client.gather([GET])
    assert servers.open_at_pauses == [0]


def test_a_connection_that_brought_an_error_is_kept_over_the_pause(serving):
    client, servers = serving([THROTTLED])
    client.gather([GET])
    assert servers.open_at_pauses == [1]


def test_a_connection_refused_is_dialled_again_at_the_next_address(serving):
    client, servers = serving(refusing=2)
    assert client.gather([GET]) == [FOUND]
    assert [attempt for _, attempt in servers.dialled] == [0, 1, 2]
    client, servers = serving(refusing=3)
    assert codes(client.gather([GET])) == ["ConnectionRefusedError"]


def test_a_port_without_a_server_refuses():
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        identity = replace(IDENTITY, dynamodb_url=f"http://127.0.0.1:{unheard.getsockname()[1]}")
        assert codes(AwsClient(identity, Timeouts(attempts=1)).gather([GET] * 2)) == ["ConnectionRefusedError"] * 2


def test_an_address_that_cannot_be_dialled_is_an_error_at_once():
    with pytest.raises(OSError, match="not connected"):
        SystemPorts().dial(("255.255.255.255", 80), 0, 1.0)


def test_a_connection_closed_while_it_lay_idle_is_replaced_at_once(serving):
    client, servers = serving([OK, CLOSE], [OK, CLOSE])
    client.gather([GET] * 2)
    assert client.gather([GET] * 2) == [FOUND] * 2
    assert servers.pauses == []
    assert servers.clock == 1000
    assert [attempt for _, attempt in servers.dialled] == [0] * 4


@pytest.mark.parametrize("unasked", [said({"Item": {"pk": {"S": "unasked"}}}), b"x"])
def test_bytes_without_a_request_are_no_response(serving, unasked):
    client, servers = serving([OK, 1.0, unasked])
    client.gather([GET])
    servers.pass_by(1.0)
    assert client.gather([GET]) == [FOUND]
    assert servers.pauses == []
    assert len(servers.dialled) == 2


def test_a_connection_that_breaks_within_a_reply_is_not_taken_for_an_idle_one(serving):
    client, servers = serving([OK], [OK[:5], CLOSE])
    client.gather([GET])
    assert client.gather([GET]) == [FOUND]
    assert servers.pauses == [BACKOFF_S]


def test_the_resend_of_an_idle_connection_leaves_three_attempts(serving):
    client, servers = serving([OK], [CLOSE], [THROTTLED], [THROTTLED])
    client.gather([GET])
    assert client.gather([GET]) == [FOUND]
    assert len(servers.requests) == 5


# --- giving up -------------------------------------------------------------------------------------------------------


def test_replies_in_time_are_kept_and_the_other_requests_are_given_up(serving):
    client, servers = serving([0.02, OK], [], [0.03, OK], [0.04, OK])
    results = client.gather([GET] * 4, until=1000.035)
    assert codes(results) == [None, "DeadlineExceeded", None, "DeadlineExceeded"]
    assert results[0] == results[2] == FOUND
    assert all(type(result) is UnavailableError for result in results[1::2])
    assert servers.clock == pytest.approx(1000.035)


def test_an_attempt_that_ends_at_the_deadline_is_reported_as_the_deadline(serving):
    client, _ = serving([], timeouts=Timeouts(attempt_s=0.5))
    assert codes(client.gather([GET], until=1000.5)) == ["DeadlineExceeded"]


def test_a_deadline_does_not_hide_that_a_key_is_hot(serving):
    client, _ = serving([0.02, THROTTLED])
    (result,) = client.gather([GET], until=1000.025)
    assert (type(result), result.code) == (HotKeyError, "ProvisionedThroughputExceededException")
    client, _ = serving([THROTTLED], [], [], timeouts=Timeouts(attempt_s=0.1))
    assert [type(each) for each in client.gather([GET])] == [HotKeyError]


def test_a_late_response_is_no_response_to_a_later_request(serving):
    client, _ = serving([0.05, said({"late": True})])
    client.gather([GET], until=1000.01)
    assert client.gather([GET]) == [FOUND]


def test_nothing_is_sent_when_it_is_too_late_already(serving):
    client, servers = serving()
    assert codes(client.gather([GET] * 2, until=1000.0)) == ["DeadlineExceeded"] * 2
    assert servers.dialled == []


def test_an_attempt_that_would_start_too_late_is_not_waited_for(serving):
    client, servers = serving([THROTTLED])
    assert codes(client.gather([GET], until=1000 + BACKOFF_S)) == ["ProvisionedThroughputExceededException"]
    assert servers.clock == 1000


def test_an_endpoint_may_use_all_the_time_for_one_reply_and_is_not_asked_twice(serving):
    client, servers = serving([0.9, OK], [1.1, OK], timeouts=Timeouts(attempt_s=0.25, total_s=1.0))
    (answer,) = client.gather([ASKED])
    assert answer["Body"].startswith(b"{")
    assert codes(client.gather([ASKED])) == ["DeadlineExceeded"]
    assert len(servers.requests) == 2


def test_requests_that_still_wait_for_a_connection_are_given_up_too(serving):
    client, servers = serving(*([] for _ in range(CONNECTIONS)))
    assert codes(client.gather([GET] * 40, until=1000.2)) == ["DeadlineExceeded"] * 40
    assert len(servers.requests) == CONNECTIONS


@pytest.mark.parametrize("dialling_s", [0.1, 0.5])
def test_time_spent_dialling_does_not_extend_the_deadline(serving, dialling_s):
    client, servers = serving([])
    servers.dialling_s = dialling_s
    assert codes(client.gather([GET], until=1000.25)) == ["DeadlineExceeded"]
    assert servers.clock == pytest.approx(1000.25)


def test_timeouts_may_change_between_two_steps(serving):
    client, servers = serving([], [], timeouts=Timeouts(attempts=1, attempt_s=0.5))
    assert codes(client.gather([GET])) == ["TimeoutError"]
    client.timeouts = Timeouts(attempts=1, attempt_s=0.25)
    assert codes(client.gather([GET])) == ["TimeoutError"]
    assert servers.clock == pytest.approx(1000.75)


def test_without_a_deadline_the_clients_own_timeouts_hold(serving):
    client, servers = serving(*([] for _ in range(9)), timeouts=Timeouts(attempts=9, attempt_s=0.4, total_s=1.0))
    assert codes(client.gather([GET])) == ["DeadlineExceeded"]
    assert servers.clock == pytest.approx(1001)


def test_no_requests_have_no_results(serving):
    client, servers = serving()
    assert client.gather([]) == []
    assert servers.dialled == []


def test_a_client_that_a_cycle_held_closes_its_connections_and_warns_of_nothing(serving):
    gc.collect()  # what other tests left
    client, servers = serving()
    client.gather([Request("get_item", {})])
    cycle: list[Any] = [client]
    cycle.append(cycle)
    del client, cycle
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        gc.collect()
    assert warned == []
    assert servers.open_connections() == 0


# --- servers that never pause ----------------------------------------------------------------------------------------


class Endless(Socket):
    """The client's end of a connection whose server answers with bytes that never end and never pause.

    Each receipt takes a millisecond of the servers' clock.
    """

    def answer(self, servers: Servers, peer: socket.socket, begin: bytes, again: Iterable[bytes]) -> None:
        self._servers, self._peer, self._begin, self._again = servers, peer, begin, itertools.cycle(again)

    def send(self, message: Any, *_: object) -> int:
        self._peer.send(b"!")  # so that poll sees bytes from now on
        return len(message)

    def recv(self, *_: object) -> bytes:
        self._servers.clock += 0.001
        assert self._servers.clock < 1005, "the client does not look at the clock"
        begin, self._begin = self._begin, b""
        return begin or next(self._again)


def endless(begin: bytes, again: Iterable[bytes]) -> type[Servers]:
    class EndlessServers(Servers):
        def dial(self, address: tuple[str, int], attempt: int, within_s: float) -> socket.socket:
            ours = Endless(fileno=super().dial(address, attempt, within_s).detach())
            ours.settimeout(0)
            ours.answer(self, self._ends[-1], begin, again)
            return ours

        def _serve(self) -> None:
            """Leave the requests unread."""

    return EndlessServers


ENDLESS = {
    "body": (reply(f"Content-Length: {LONGEST_BODY}", body=b""), [b"x"]),
    "body in chunks": (in_chunks(b""), [b"1\r\nx\r\n"]),
    "chunk": (in_chunks(b"%x\r\n" % LONGEST_BODY), [b"x"]),
    "head, byte by byte": (b"", [b"H"]),
    "headers, byte by byte": (reply(body=b"")[:-2], [b"a", b":", b"\r", b"\n"]),
    "chunk extension, byte by byte": (in_chunks(b"1;"), [b"x"]),
    "trailers, byte by byte": (in_chunks(b"0\r\n"), [b"a", b":", b"\r", b"\n"]),
}
HELLO_REQUEST = b"\x16\x03\x03\x00\x04\x00\x00\x00\x00"
"""A record of TLS with the message that clients ignore during a handshake (RFC 5246, 7.4.1.1)."""


@pytest.mark.parametrize(("begin", "again"), ENDLESS.values(), ids=ENDLESS)
@pytest.mark.parametrize("request_", [GET, ASKED], ids=lambda request: request.operation)
def test_a_server_that_never_pauses_holds_no_step_beyond_its_deadline(request_, begin, again):
    servers = endless(begin, again)()
    client = AwsClient(IDENTITY, Timeouts(attempt_s=0.05), servers)
    assert codes(client.gather([request_] * 2, until=1000.125)) == ["DeadlineExceeded"] * 2
    servers.close()
    assert servers.clock < 1000.13


def test_a_handshake_that_never_ends_holds_no_step_beyond_its_deadline():
    servers = endless(HELLO_REQUEST, [HELLO_REQUEST * 7000])()
    client = AwsClient(replace(IDENTITY, dynamodb_url="https://dynamodb.test"), None, servers)
    assert codes(client.gather([GET], until=1000.125)) == ["DeadlineExceeded"]
    servers.close()
    assert servers.clock < 1000.13


def test_an_attempt_at_a_server_that_never_pauses_is_given_up_in_its_time():
    servers = endless(*ENDLESS["body"])()
    client = AwsClient(IDENTITY, Timeouts(attempts=2, attempt_s=0.05), servers)
    assert codes(client.gather([GET])) == ["TimeoutError"]
    servers.close()
    assert len(servers.dialled) == 2
    assert servers.clock < 1000.13 + BACKOFF_S


@pytest.mark.parametrize(
    ("begin", "again"),
    [
        (reply(body=b"")[:-2], b"a:b\r\n"),
        (b"", b"x"),
        (b"", reply(status="HTTP/1.1 100 Continue", body=b"")),
        (in_chunks(b"0\r\n"), b"a:b\r\n"),
        (in_chunks(b"1;"), b"x"),
    ],
)
def test_a_head_or_a_line_without_end_is_given_up_when_it_is_too_long(begin, again):
    servers = endless(begin, [again])()
    client = AwsClient(IDENTITY, Timeouts(attempts=1, attempt_s=1000, total_s=1000), servers)
    servers.clock -= 1000
    assert codes(client.gather([GET])) == ["UnreadableAnswerError"]
    servers.close()
    assert servers.clock < 0.001 * (LONGEST_HEAD + 10)


@pytest.fixture
def asked():
    """Return an exchange whose request is sent, and the server's end of its connection."""
    ours, theirs = socket.socketpair()
    ours.settimeout(0)
    exchange = Connection(ours, None).exchange(b"?")
    assert [next(exchange), next(exchange)] == [select.POLLOUT, select.POLLIN]
    with ours, theirs:
        yield exchange, theirs


def test_the_caller_may_look_at_the_clock_between_any_two_chunks(asked):
    exchange, theirs = asked
    theirs.send(in_chunks(b"1\r\nx\r\n" * 100 + b"0\r\n\r\n"))
    assert len(list(exchange)) == 100


def test_an_exchange_that_is_resumed_too_early_waits_on(asked):
    exchange, theirs = asked
    assert next(exchange) == select.POLLIN
    theirs.send(OK)
    with pytest.raises(StopIteration) as done:
        next(exchange)
    assert done.value.value.body == BODY
