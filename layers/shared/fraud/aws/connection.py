"""One HTTP request and its reply over one socket, with or without TLS, in steps that never block.

`client` runs many of these exchanges together. They are written by hand, because http.client takes more than twice the
CPU (figures in D-027). A reply has a stated length or comes in chunks, as DynamoDB, SageMaker and their
emulators send it. Anything else is an error (D-068).
"""

import contextlib
import re
import select
import socket
import ssl
from collections.abc import Generator
from dataclasses import dataclass
from typing import NamedTuple

CHUNK = 65_536
"""Most bytes to receive before the caller may look at the clock."""
LONGEST_HEAD = 65_536
LONGEST_BODY = 1 << 25
"""Bytes; more than DynamoDB or SageMaker send. A reply without an end must neither hold up a payment nor fill memory.
"""
_NAME, _TEXT = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++", rb"[\t\x20-\x7e\x80-\xff]*+"
HEAD = re.compile(
    rb"""
    http/1\.(?P<minor>[01])\ (?!204|304)(?P<status>[2-5][0-9]{2})(?:\ TEXT)?\r\n
    (?:
        (?: content-length:[\t ]*+(?P<length>[0-9]{1,8})[\t ]*+
          | transfer-encoding:[\t ]*+chunked[\t ]*+
          | (?P<close>connection:[\t ]*+close[\t ]*+)
          | (?!content-length:|transfer-encoding:)NAME:TEXT
        )\r\n
    )*
    \r\n
    """.replace(b"NAME", _NAME).replace(b"TEXT", _TEXT),
    re.VERBOSE,
)
"""A head in lower case. Status 1xx, 204 and 304 have no body, whatever the length says; neither service sends them."""
CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]++)(?:;%b)?\r\n" % _TEXT)
TRAILERS = re.compile(rb"\r\n(?:%b:%b\r\n)*\r\n" % (_NAME, _TEXT))


class Reply(NamedTuple):
    """An HTTP reply. `head`: status line and headers as they came. `last`: the connection ends with it."""

    status: int
    head: bytes
    body: bytes
    last: bool


Exchange = Generator[int, None, Reply]
"""A request and its reply, without blocking. It yields the poll event that it waits for; its caller resumes it when the
event has come. It yields before it receives up to CHUNK bytes and after each chunk of a body, so a server that never
pauses does not hold its caller.
"""


class UnreadableAnswerError(OSError):
    """The reply is not HTTP to the letter, or has more bytes than it announced."""


@dataclass
class Tls:
    """TLS to one server. It keeps the last session, which spares the next handshake most of its work."""

    context: ssl.SSLContext
    name: str
    session: ssl.SSLSession | None = None


def tls_context(ca_bundle: str | None) -> ssl.SSLContext:
    """Make a client's context.

    ca_bundle  file of the authorities to trust; None: the system's, which takes some 30 ms to read
    """
    context = ssl.create_default_context(cafile=ca_bundle)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION  # nothing is sent between a request and its reply
    context.hostname_checks_common_name = False  # RFC 9525: only subjectAltName names a server
    return context


class TlsStream:
    """The TLS of one connection, between bytes in memory.

    On a socket, OpenSSL would read for as long as bytes come that are no content, such as messages of the handshake.
    """

    def __init__(self, server: Tls) -> None:
        self.complete = True
        """Whether the bytes received last end with content: no part of a record and no message of TLS follows."""
        self._server = server
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = server.context.wrap_bio(
            self._incoming, self._outgoing, server_hostname=server.name, session=server.session
        )

    def shake_hands(self, received: bytes) -> bytes | None:
        """Go on with the handshake. Return what to send before more is received, or None when it is done."""
        self._incoming.write(received)
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return self._outgoing.read()
        return None

    def encrypt(self, content: bytes) -> bytes:
        """Return the bytes to send for a content. The first ones end the handshake."""
        unsent = memoryview(content)
        while unsent:
            unsent = unsent[self._tls.write(unsent) :]
        return self._outgoing.read()

    def decrypt(self, received: bytes) -> bytes:
        """Return the content that is complete. Raises ConnectionAbortedError when the server has ended TLS instead."""
        self._incoming.write(received)
        self.complete = False
        parts: list[bytes] = []
        try:
            while self._incoming.pending:
                part = self._tls.read(CHUNK)
                if not part and not parts:
                    raise ConnectionAbortedError
                if not part:
                    break
                parts.append(part)
            else:
                self.complete = True
        except ssl.SSLWantReadError:
            pass  # in the middle of a record, or after a message of TLS
        return b"".join(parts)

    def keep_session(self) -> None:
        """Keep the session for the next connection to resume."""
        self._server.session = self._tls.session


class Socket(socket.socket):
    """A socket that its last reference closes, without a ResourceWarning.

    The finalizer of the base class warns, and an owner with a finalizer that closes the socket does not prevent that:
    the objects of a cycle are finalized in any order. An error makes such a cycle, with the frame that keeps it.
    """

    def __del__(self) -> None:
        if self.fileno() >= 0:  # not one that could not be made
            with contextlib.suppress(OSError):  # of a descriptor that somebody else has closed
                self.close()


class Connection:
    """A connection that is opened by its first exchange."""

    def __init__(self, dialled: socket.socket, tls: Tls | None) -> None:
        self.socket = dialled
        self.used = False
        """Whether it has brought a reply before."""
        self.heard = False
        """Whether anything has come since the last request."""
        self._tls = None if tls is None else TlsStream(tls)

    def spoke(self) -> bool:
        """Tell whether the server closed the connection or sent bytes without a request.

        Such bytes would be taken for the reply to the next request.
        """
        poll = select.poll()
        poll.register(self.socket, select.POLLIN)
        return bool(poll.poll(0)) or not (self._tls is None or self._tls.complete)

    def exchange(self, message: bytes) -> Exchange:
        """Send a request and receive its reply. Raises OSError."""
        self.heard = False
        if not self.used:
            yield from self._open()
        yield from self._send(message if self._tls is None else self._tls.encrypt(message))
        reply = yield from self._reply()
        if self._tls is not None and not self.used:
            self._tls.keep_session()  # only now: the server sends the session after the handshake
        self.used = True
        return reply

    def _open(self) -> Generator[int, None, None]:
        yield select.POLLOUT
        if error := self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(error, "not connected")  # Python makes it the subclass for this number
        if self._tls is not None:
            received = b""
            while (unsent := self._tls.shake_hands(received)) is not None:
                yield from self._send(unsent)
                yield select.POLLIN
                received = self._receive()
        elif self.spoke():
            raise UnreadableAnswerError

    def _send(self, message: bytes) -> Generator[int, None, None]:
        unsent = memoryview(message)
        while unsent:
            try:
                unsent = unsent[self.socket.send(unsent) :]
            except BlockingIOError:
                yield select.POLLOUT

    def _reply(self) -> Exchange:
        received = bytearray()
        head = yield from self._through(received, b"\r\n\r\n")
        low = head.lower()
        lengths = low.count(b"\r\ncontent-length:") + low.count(b"\r\ntransfer-encoding:")
        parsed = HEAD.fullmatch(low) if lengths == 1 and head.startswith(b"HTTP/") else None
        if not parsed:
            raise UnreadableAnswerError  # without a length, a broken connection could not be told from the end
        minor, status, length, close = parsed.groups()
        if length:
            body = yield from self._first(received, int(length))
        elif minor == b"1":
            body = yield from self._chunks(received)
        else:
            raise UnreadableAnswerError
        if received:
            raise UnreadableAnswerError
        return Reply(int(status), head, body, close is not None or minor == b"0")

    def _chunks(self, received: bytearray) -> Generator[int, None, bytes]:
        """Receive a chunked body.

        Each chunk is its size in hexadecimal, a line's end, its bytes, a line's end. A chunk of size 0 and trailers end
        it.
        """
        body = bytearray()
        while True:
            line = CHUNK_SIZE.fullmatch((yield from self._through(received, b"\r\n")))
            if not line:
                raise UnreadableAnswerError
            size = int(line[1], 16)
            if not size:
                break
            body += yield from self._first(received, size, LONGEST_BODY - len(body))
            if (yield from self._first(received, 2)) != b"\r\n":
                raise UnreadableAnswerError
            yield select.POLLOUT  # comes at once
        received[:0] = b"\r\n"  # so that no trailers end as some do
        if not TRAILERS.fullmatch((yield from self._through(received, b"\r\n\r\n"))):
            raise UnreadableAnswerError
        return bytes(body)

    def _through(self, received: bytearray, end: bytes) -> Generator[int, None, bytes]:
        """Receive until `end` has come; remove it and the bytes before it from `received` and return them.

        Raises UnreadableAnswerError when they are more than LONGEST_HEAD: a head, a chunk's size, trailers are short.
        """
        start = 0
        while (found := received.find(end, start, LONGEST_HEAD)) < 0:
            start = max(len(received) - len(end) + 1, 0)
            if len(received) > LONGEST_HEAD:
                raise UnreadableAnswerError
            received += yield from self._more()
        return _removed(received, found + len(end))

    def _first(self, received: bytearray, size: int, most: int = LONGEST_BODY) -> Generator[int, None, bytes]:
        """Receive until there are `size` bytes; remove them from `received` and return them."""
        if size > most:
            raise UnreadableAnswerError
        while len(received) < size:
            received += yield from self._more()
        return _removed(received, size)

    def _more(self) -> Generator[int, None, bytes]:
        """Receive some content."""
        content = b""
        while not content:
            yield select.POLLIN
            received = self._receive()
            content = received if self._tls is None else self._tls.decrypt(received)
        self.heard = True
        return content

    def _receive(self) -> bytes:
        """Return up to CHUNK bytes that have come, or none if poll was wrong."""
        try:
            received = self.socket.recv(CHUNK)
        except BlockingIOError:
            return b""
        if not received:
            raise ConnectionAbortedError
        return received


def _removed(received: bytearray, size: int) -> bytes:
    """Remove the first `size` bytes and return them."""
    if size == len(received):  # a reply's body as a rule, so it is copied once
        removed = bytes(received)
        received.clear()
    else:
        removed = bytes(received[:size])
        del received[:size]
    return removed


def header(head: bytes, name: bytes) -> bytes:
    r"""Return the value of a header, or b"" when there is none.

    head  status line and headers; each line ends with CR LF
    name  in lower case

    >>> header(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n", b"content-length")
    b'7'
    """
    start = head.lower().find(b"\r\n%b:" % name)
    return b"" if start < 0 else head[start + len(name) + 3 : head.index(b"\r\n", start + 2)].strip()
