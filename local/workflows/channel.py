"""The way from the interpreter, in moto's process, to the functions of the box: HTTP on loopback.

`Channel` serves it in the box's process. `through` makes the interpreter's end of it.
"""

import json
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self, cast
from urllib.parse import urlsplit

Invoked = tuple[Any, bool]
"""The result of a function, and whether it is an error: then an object with errorType and errorMessage."""

Invoke = Callable[[str, Any], Invoked]

ANSWER_S = 120
"""Seconds for one invocation, the start of an environment included."""


class Channel(ThreadingHTTPServer):
    """A server at `url` that invokes functions while the block lasts. `invoke` is set before anything is sent."""

    daemon_threads = True
    invoke: Invoke

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Invocation)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()


class _Invocation(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        """Invoke the function that the path names with the event in the body."""
        event = json.loads(self.rfile.read(int(self.headers["content-length"])))
        body = json.dumps(cast("Channel", self.server).invoke(self.path[1:], event)).encode()
        self.send_response_only(HTTPStatus.OK)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def through(url: str) -> Invoke:
    """Return the function by which the interpreter invokes functions at a channel's address."""
    address = urlsplit(url).netloc

    def invoke(function: str, event: Any) -> Invoked:  # noqa: ANN401 - JSON
        connection = HTTPConnection(address, timeout=ANSWER_S)
        try:
            connection.request("POST", f"/{function}", json.dumps(event))
            answer, failed = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        return answer, failed

    return invoke
