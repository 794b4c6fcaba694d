"""The hot path's own client: DynamoDB and SageMaker's runtime over persistent connections, scatter then gather.

One thread sends every request of a step and then takes the responses as they come, so a step costs one round trip. It
is written by hand over sockets, because CPU is the price of a decision (D-027 has the figures).
"""

import base64
import contextlib
import errno
import heapq
import itertools
import json
import math
import random
import select
import socket
import ssl
import time
import zlib
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

from pydantic_core import from_json

from fraud.aws.connection import Connection, Exchange, Reply, Socket, Tls, UnreadableAnswerError, header, tls_context
from fraud.aws.failures import service_error
from fraud.aws.resolver import Resolver
from fraud.aws.sigv4 import Signer
from fraud.aws.transport import ConditionFailed, Request, Result
from fraud.errors import HotKeyError, UnavailableError
from fraud.settings import AwsIdentity

CONNECTIONS = 32
"""Requests of one step that may be under way at the same time: a payment sends five, a fold a few dozen."""

BACKOFF_S = 0.025
"""Longest pause before the second attempt; each later one may be twice as long."""


INVOKE = "invoke_endpoint"

OF_ENDPOINT = {"ContentType": "content-type", "Accept": "accept"}
"""Fields of InvokeEndpoint that are sent as headers, by name."""


class Timeouts(NamedTuple):
    """How long a client waits.

    attempts   attempts at one request
    attempt_s  seconds for an attempt at DynamoDB, which nearly always answers at once. An endpoint computes, and an
               attempt that is cut short and sent again would make it compute twice. So an attempt at an endpoint may
               take all the time there is
    total_s    seconds for all requests of one `gather`
    """

    attempts: int = 3
    attempt_s: float = 1.0
    total_s: float = 3.5


_RESOLVER = Resolver()


class SystemPorts:
    """The clock, random pauses and the network as the client uses them. A test passes its own."""

    def now(self) -> float:
        """Return the seconds of a clock that never jumps; `until` is a reading of it."""
        return time.monotonic()

    def epoch(self) -> float:
        """Return the seconds since the epoch, for signatures: real time, even while a replay turns `clock.source`."""
        return time.time()

    def jitter(self, most: float) -> float:
        """Return a random pause of up to `most` seconds."""
        return random.uniform(0, most)  # noqa: S311 - jitter

    def wait(self, poll: select.poll, seconds: float) -> Iterable[tuple[int, int]]:
        """Return the events (descriptor, mask) of the sockets of `poll`, after at most so many seconds."""
        return poll.poll(seconds * 1000)

    def dial(self, address: tuple[str, int], attempt: int, within_s: float) -> socket.socket:
        """Return a non-blocking socket that is connecting; each attempt tries the next address of the name.

        Raises OSError, after at most `within_s` seconds and `resolver.WAIT_S`.
        """
        found = _RESOLVER.addresses(*address, within_s)
        family, _, _, _, target = found[attempt % len(found)]
        dialled = Socket(family, socket.SOCK_STREAM)
        dialled.settimeout(0)
        dialled.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        failed = dialled.connect_ex(target)
        if failed not in (0, errno.EINPROGRESS):  # the outcome is read when the socket is ready
            dialled.close()
            raise OSError(failed, "not connected")
        return dialled


class AwsClient:
    """`transport.Transport` over sockets. Threads may share one: only one of them uses a connection at a time."""

    def __init__(
        self, identity: AwsIdentity, timeouts: Timeouts | None = None, system: SystemPorts | None = None
    ) -> None:
        self.timeouts = timeouts or Timeouts()
        """The limits of every `gather` that begins from now on."""
        self._system = system or SystemPorts()
        # Reading the file of every certificate authority takes some 30 ms: once, while the function starts.
        secure = any(url.startswith("https:") for url in (identity.dynamodb_url, identity.sagemaker_url))
        context = tls_context(identity.ca_bundle) if secure else None
        self._dynamodb = _Service(identity, identity.dynamodb_url, "dynamodb", context)
        self._sagemaker = _Service(identity, identity.sagemaker_url, "sagemaker", context)

    def gather(self, requests: Sequence[Request], until: float | None = None) -> list[Result]:
        """Return results in the order of the requests: a response, or the error in its place.

        until  reading of the monotonic clock at which the client gives up; a request without a response is an
               UnavailableError then. None: after the client's own `timeouts.total_s`.

        Requests that failed with a passing error, or with their connection, are sent again. That is safe because every
        write is idempotent.
        """
        calls = [_Call(one, self._sagemaker if one.operation == INVOKE else self._dynamodb) for one in requests]
        if until is None:
            until = self._system.now() + self.timeouts.total_s
        return _Gathering(self._system, self.timeouts, until, calls).results()


class _Service:
    """One service: its address, the bytes of a request to it, and the connections that are free."""

    def __init__(self, identity: AwsIdentity, url: str, service: str, context: ssl.SSLContext | None) -> None:
        parts = urlsplit(url)
        secure, name = parts.scheme == "https", parts.hostname or ""
        self.free: list[Connection] = []
        self._tls = Tls(context, name) if secure and context is not None else None
        self._address = name, parts.port or (443 if secure else 80)
        self._host = parts.netloc.rpartition("@")[2]
        self._prefix = parts.path.rstrip("/")
        self._signer = Signer(identity.key_id, identity.secret, identity.token, identity.region, service)

    def message(self, request: Request, at: float) -> bytes:
        """Return the bytes of a request, signed at `at`, seconds since the epoch."""
        if request.operation == INVOKE:
            path = f"{self._prefix}/endpoints/{quote(request.payload['EndpointName'], safe='')}/invocations"
            body: bytes = request.payload["Body"]
            headers = {
                OF_ENDPOINT[field]: value
                for field, value in request.payload.items()
                if field not in ("EndpointName", "Body")
            }
        else:
            path = f"{self._prefix}/"
            body = _encode(request.payload).encode()
            headers = {"content-type": "application/x-amz-json-1.0", "x-amz-target": _target(request.operation)}
        headers["host"] = self._host
        signed = self._signer.sign("POST", path, headers, body, at)
        lines = "".join([f"{name}: {value}\r\n" for name, value in signed.items()])
        head = f"POST {path} HTTP/1.1\r\n{lines}accept-encoding: identity\r\ncontent-length: {len(body)}\r\n\r\n"
        return head.encode() + body

    def connection(self, system: SystemPorts, attempt: int, within_s: float, *, fresh: bool) -> Connection:
        """Return a free connection, or a new one. Raises OSError when the server cannot be dialled."""
        if not fresh:
            with contextlib.suppress(IndexError):  # no check beforehand: another thread may take the last one
                while (kept := self.free.pop()).spoke():
                    kept.socket.close()
                return kept
        return Connection(system.dial(self._address, attempt, within_s), self._tls)


class _Call:
    """One request under way: its attempt, its connection, and when that attempt is given up."""

    def __init__(self, request: Request, service: _Service) -> None:
        self.request = request
        self.service = service
        self.attempt = 0
        self.gives_up = 0.0
        self.result: Result | None = None
        self.hot: HotKeyError | None = None  # what an earlier attempt was told, which a later deadline must not hide
        self.connection: Connection
        self.exchange: Exchange


class _Gathering:
    """The calls of one step, from the first byte sent to the last byte received."""

    def __init__(self, system: SystemPorts, timeouts: Timeouts, until: float, calls: Sequence[_Call]) -> None:
        self._system = system
        self._timeouts = timeouts
        self._until = until
        self._calls = calls
        self._numbers = itertools.count()
        # A heap of (due time, number, call). The numbers tell equal times apart, and make this list a heap already.
        self._waiting = [(0.0, next(self._numbers), call) for call in calls]
        self._flying: dict[int, _Call] = {}  # the calls under way, by the descriptor of their socket
        self._poll = select.poll()

    def results(self) -> list[Result]:
        """Send all requests and take all responses, until it is time to give up."""
        try:
            while self._waiting or self._flying:
                now = self._system.now()
                if now >= self._until:
                    break
                self._send_due(now)
                if self._flying or self._waiting:
                    events = self._system.wait(self._poll, max(self._next_due() - self._system.now(), 0))
                    for descriptor, _ in events:
                        self._advance(descriptor)
                    self._expire()
        finally:
            for descriptor in list(self._flying):
                self._drop(descriptor)
        late = UnavailableError("DeadlineExceeded")
        return [call.hot or late if call.result is None else call.result for call in self._calls]

    def _next_due(self) -> float:
        """Return the next time at which something is due even if no event comes."""
        times = [call.gives_up for call in self._flying.values()]
        if self._waiting and len(self._flying) < CONNECTIONS:
            times.append(self._waiting[0][0])
        return min(*times, self._until)

    def _send_due(self, now: float) -> None:
        """Send every call that is due, each as soon as its bytes are made: the others are answered meanwhile."""
        while self._waiting and self._waiting[0][0] <= now and len(self._flying) < CONNECTIONS:
            _, _, call = heapq.heappop(self._waiting)
            self._send(call, fresh=call.attempt > 0)

    def _send(self, call: _Call, *, fresh: bool) -> None:
        message = call.service.message(call.request, self._system.epoch())
        now = self._system.now()
        call.gives_up = now + (math.inf if call.request.operation == INVOKE else self._timeouts.attempt_s)
        try:
            call.connection = call.service.connection(self._system, call.attempt, self._until - now, fresh=fresh)
        except OSError as error:
            self._failed(call, UnavailableError(type(error).__name__))
            return
        call.exchange = call.connection.exchange(message)
        descriptor = call.connection.socket.fileno()
        self._flying[descriptor] = call
        self._poll.register(descriptor, 0)
        self._advance(descriptor)

    def _advance(self, descriptor: int) -> None:
        """Let a call's exchange go on until it has to wait again."""
        call = self._flying[descriptor]
        try:
            self._poll.modify(descriptor, next(call.exchange))
        except StopIteration as done:
            self._land(descriptor)
            self._take(call, done.value)
        except OSError as error:
            self._drop(descriptor)
            if call.connection.used and not call.connection.heard:
                self._send(call, fresh=True)  # the server closed it while it was idle: no attempt failed
            else:
                self._failed(call, UnavailableError(type(error).__name__))

    def _take(self, call: _Call, reply: Reply) -> None:
        if reply.last:
            call.connection.socket.close()
        else:
            call.service.free.append(call.connection)
        result = _result(call.request.operation, reply)
        if isinstance(result, UnavailableError):
            self._failed(call, result)
        else:
            call.result = result

    def _failed(self, call: _Call, error: UnavailableError) -> None:
        """Queue the call for another attempt after a pause, if attempts and time are left."""
        if isinstance(error, HotKeyError):
            call.hot = error
        due = self._system.now() + self._system.jitter(BACKOFF_S * 2**call.attempt)
        call.attempt += 1
        if call.attempt < self._timeouts.attempts and due < self._until:
            heapq.heappush(self._waiting, (due, next(self._numbers), call))
        else:
            call.result = call.hot or error

    def _expire(self) -> None:
        """Give up every attempt whose time is over."""
        now = self._system.now()
        if now >= self._until:  # the whole step is over; `results` returns that as the error of each open call
            return
        for descriptor, call in list(self._flying.items()):
            if call.gives_up <= now:
                self._drop(descriptor)
                self._failed(call, UnavailableError(TimeoutError.__name__))

    def _drop(self, descriptor: int) -> None:
        """Give up an attempt and close its connection, because its late response may still arrive there."""
        self._land(descriptor).connection.socket.close()

    def _land(self, descriptor: int) -> _Call:
        """Stop watching a call's connection and return the call."""
        self._poll.unregister(descriptor)
        return self._flying.pop(descriptor)


def _result(operation: str, reply: Reply) -> Result:
    """Read an HTTP reply as the result of an operation."""
    checksum = header(reply.head, b"x-amz-crc32")  # DynamoDB's, of the body; a microsecond
    if checksum and checksum != b"%d" % zlib.crc32(reply.body):
        return UnavailableError("ChecksumMismatch")
    said: Any = None
    if operation != INVOKE or reply.status != HTTPStatus.OK:
        with contextlib.suppress(ValueError):
            said = from_json(reply.body)
    if reply.status == HTTPStatus.OK:
        if operation == INVOKE:
            return {"Body": reply.body, "ContentType": header(reply.head, b"content-type").decode("latin-1")}
        return said if isinstance(said, dict) else UnavailableError(UnreadableAnswerError.__name__)
    fault = said if isinstance(said, dict) else {}
    word = header(reply.head, b"x-amzn-errortype").decode("latin-1") or str(fault.get("__type", reply.status))
    code = word.partition(":")[0].rpartition("#")[2]
    if code == "ConditionalCheckFailedException":
        return ConditionFailed(fault.get("Item", {}))
    return service_error(code, reply.status, _throttling_reasons(fault))


def _throttling_reasons(fault: Mapping[str, Any]) -> list[str]:
    """Return why DynamoDB throttled a request, if it says so in a form that we know."""
    listed = fault.get("ThrottlingReasons")
    named = [each.get("reason") for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    return [reason for reason in named if isinstance(reason, str)]


@lru_cache(maxsize=32)
def _target(operation: str) -> str:
    """Return the service's name of an operation: `update_item` is UpdateItem."""
    return f"DynamoDB_20120810.{operation.title().replace('_', '')}"


def _base64(value: bytes) -> str:
    if not isinstance(value, bytes):
        raise TypeError(type(value).__name__)
    return base64.b64encode(value).decode()


_encode = json.JSONEncoder(separators=(",", ":"), default=_base64).encode
