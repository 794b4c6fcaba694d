"""One HTTP request and its reply over one socket, with or without TLS, in steps that never block.

`client` runs many of these exchanges together. They are written by hand, because http.client takes more than twice the
CPU (figures in D-027). A reply has a stated length or comes in chunks, as DynamoDB, SageMaker and their
emulators send it. Anything else is an error.
"""

import select
import socket
import ssl
from collections.abc import Callable, Generator
from typing import NamedTuple, TypeVar, cast

CHUNK = 65_536
LONGEST_HEAD = 65_536
LONGEST_BODY = 1 << 25
"""Bytes; more than DynamoDB or SageMaker send. A reply without an end must neither hold up a payment nor fill memory.
"""
LONGEST_NUMBER = 9  # a length with so many digits is more than LONGEST_BODY

T = TypeVar("T")


class Reply(NamedTuple):
    """An HTTP reply. `head`: status line and headers as they came. `last`: the connection ends with it."""

    status: int
    head: bytes
    body: bytes
    last: bool


Exchange = Generator[int, None, Reply]
"""A request and its reply, without blocking. It yields the poll event that it waits for; its caller resumes it when the
event has come.
"""


class UnreadableAnswerError(OSError):
    """The reply is not HTTP, or is longer than it announced."""


class Tls:
    """TLS to one server. It keeps the last session, which spares the next handshake most of its work."""

    def __init__(self, context: ssl.SSLContext, name: str) -> None:
        self._context = context
        self._name = name
        self._session: ssl.SSLSession | None = None

    def wrapped(self, plain: socket.socket) -> ssl.SSLSocket:
        """Wrap a socket in TLS; the handshake is still to come."""
        return self._context.wrap_socket(
            plain, server_hostname=self._name, do_handshake_on_connect=False, session=self._session
        )

    def keep(self, connected: socket.socket) -> None:
        """Keep this connection's session for the next connection to resume."""
        self._session = cast("ssl.SSLSocket", connected).session


class Connection:
    """A connection that is opened by its first exchange."""

    def __init__(self, dialled: socket.socket, tls: Tls | None) -> None:
        self.socket = dialled
        self.used = False
        """Whether it has brought a reply before."""
        self.heard = False
        """Whether anything has come since the last request."""
        self._tls = tls

    def __del__(self) -> None:
        self.socket.close()

    def spoke(self) -> bool:
        """Tell whether the server closed the connection or sent bytes without a request.

        Such bytes would be taken for the reply to the next request.
        """
        poll = select.poll()
        poll.register(self.socket, select.POLLIN)
        return bool(poll.poll(0))

    def exchange(self, message: bytes) -> Exchange:
        """Send a request and receive its reply. Raises OSError."""
        self.heard = False
        if not self.used:
            yield from self._open()
        unsent = memoryview(message)
        while unsent:
            unsent = unsent[(yield from _done(select.POLLOUT, self.socket.send, unsent)) :]
        yield select.POLLIN  # the reply cannot be there yet
        reply = yield from self._reply()
        if self._tls is not None and not self.used:
            self._tls.keep(self.socket)  # only now: the server sends the session after the handshake
        self.used = True
        return reply

    def _open(self) -> Generator[int, None, None]:
        yield select.POLLOUT
        if error := self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(error, "not connected")  # Python makes it the subclass for this number
        if self._tls is not None:
            self.socket = encrypted = self._tls.wrapped(self.socket)
            yield from _done(select.POLLIN, encrypted.do_handshake)

    def _reply(self) -> Exchange:
        received = b""
        while (end := received.find(b"\r\n\r\n")) < 0:
            received += yield from self._bounded_more(received)
        head, body = received[: end + 2], received[end + 4 :]
        if not (head.startswith(b"HTTP/1.") and head[9:12].isdigit()):
            raise UnreadableAnswerError
        length = header(head, b"content-length")
        last = head.startswith(b"HTTP/1.0") or header(head, b"connection").lower() == b"close"
        if length.isdigit() and len(length) < LONGEST_NUMBER:
            body = yield from self._rest(body, int(length))
        elif header(head, b"transfer-encoding").lower() == b"chunked":
            body = yield from self._chunks(body)
        else:
            raise UnreadableAnswerError  # a body without a length: a broken connection could not be told from its end
        return Reply(int(head[9:12]), head, body, last)

    def _rest(self, body: bytes, length: int) -> Generator[int, None, bytes]:
        if length > LONGEST_BODY:
            raise UnreadableAnswerError
        if len(body) < length:
            parts = [body]
            missing = length - len(body)
            while missing > 0:
                parts.append((yield from self._more()))
                missing -= len(parts[-1])
            body = b"".join(parts)
        if len(body) > length:
            raise UnreadableAnswerError
        return body

    def _chunks(self, begun: bytes) -> Generator[int, None, bytes]:
        """Receive a chunked body.

        Each chunk is its size in hexadecimal, a line's end, its bytes, a line's end. A chunk of size 0 and trailers end
        it.
        """
        received, body = bytearray(begun), bytearray()
        while True:
            while (end := received.find(b"\r\n")) < 0:
                received += yield from self._bounded_more(received)
            try:
                size = int(received[:end].partition(b";")[0], 16)
            except ValueError:
                size = -1
            if not 0 <= size <= LONGEST_BODY - len(body):
                raise UnreadableAnswerError
            del received[: end + 2]
            while len(received) < size + 2:
                received += yield from self._more()
            if not size:
                while not received.startswith(b"\r\n") and b"\r\n\r\n" not in received:
                    received += yield from self._bounded_more(received)
                return bytes(body)
            body += received[:size]
            del received[: size + 2]

    def _bounded_more(self, line: bytes | bytearray) -> Generator[int, None, bytes]:
        """Receive more of a part that must be short: a head, a chunk's size, the trailers.

        Raises UnreadableAnswerError when it is longer than LONGEST_HEAD.
        """
        if len(line) > LONGEST_HEAD:
            raise UnreadableAnswerError
        return (yield from self._more())

    def _more(self) -> Generator[int, None, bytes]:
        chunk = yield from _done(select.POLLIN, self.socket.recv, CHUNK)
        if not chunk:
            raise ConnectionAbortedError
        self.heard = True
        return chunk


def _done(event: int, attempt: Callable[..., T], *arguments: object) -> Generator[int, None, T]:
    """Call a socket's method until it need not block, and return its result.

    event  the poll event to wait for, unless TLS asks for another one
    """
    while True:
        try:
            return attempt(*arguments)
        except BlockingIOError:
            yield event
        except ssl.SSLWantReadError:
            yield select.POLLIN
        except ssl.SSLWantWriteError:
            yield select.POLLOUT


def header(head: bytes, name: bytes) -> bytes:
    r"""Return the value of a header, or b"" when there is none.

    head  status line and headers; each line ends with CR LF
    name  in lower case

    >>> header(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n", b"content-length")
    b'7'
    """
    start = head.lower().find(b"\r\n%b:" % name)
    return b"" if start < 0 else head[start + len(name) + 3 : head.index(b"\r\n", start + 2)].strip()
