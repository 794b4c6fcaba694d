"""The way from the interpreter, in moto's process, to the functions of the box: HTTP on loopback.

`Channel` serves it in the box's process. `through` makes the interpreter's end of it.
"""

import json
from collections.abc import Callable
from http import HTTPStatus
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler
from typing import Any, cast
from urllib.parse import urlsplit

from local.loopback import LoopbackServer

Invoked = tuple[Any, bool]
"""The result of a function, and whether it is an error: then an object with errorType and errorMessage."""

Invoke = Callable[[str, Any], Invoked]

ANSWER_S = 120
"""Seconds for one invocation, the start of an environment included."""


class Channel(LoopbackServer):
    """A server at `url` that invokes functions while the block lasts. `invoke` is set before anything is sent."""

    invoke: Invoke

    def __init__(self) -> None:
        super().__init__(_Invocation)


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
