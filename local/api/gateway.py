"""API Gateway on one machine: serves the template's routes over HTTP, enforces authorisers and invokes functions.

One header is the box's own: `x-event-clock: <RFC 3339>` moves the event clock forward before the request is handled. It
is removed from the event. Everything else works as in an HTTP API.
"""

import base64
import os
import re
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any, NamedTuple, cast
from urllib.parse import unquote

from local.account.clock import EventClock
from local.account.stack import Route
from local.api.authorisers import Authoriser, Authorisers, RefusedError
from local.api.http_event import Request, Response, event, message, response
from local.lambdas.environments import FunctionError
from local.loopback import LoopbackServer

CLOCK_HEADER = "x-event-clock"
REQUEST_ID = "apigw-requestid"
"""The header by which an HTTP API names a request in every response, its own included."""

LARGEST_BODY = 10 * 2**20
"""The largest body, in bytes: HTTP APIs accept 10 MB."""

Invoke = Callable[[str, Any, datetime | None], Any]


class Entrance(NamedTuple):
    """A route that is ready to match: `pattern` matches its path, with one group for each of `variables`."""

    route: Route
    pattern: re.Pattern[str]
    variables: Sequence[str]
    authoriser: Authoriser | None

    def leads(self, request: Request) -> bool:
        """Tell whether the route serves the request's method and path."""
        return self.route.method in (request.method, "ANY") and self.pattern.fullmatch(request.path) is not None

    def parameters(self, request: Request) -> dict[str, str]:
        """Return the path's variables, decoded."""
        found = self.pattern.fullmatch(request.path)
        return dict(zip(self.variables, map(unquote, found.groups()), strict=True)) if found else {}


class Gateway(LoopbackServer):
    """An HTTP server that serves `routes` at `url` while the block lasts."""

    def __init__(
        self, routes: Sequence[Route], authorisers: Authorisers, invoke: Invoke, clock: EventClock, port: int = 0
    ) -> None:
        super().__init__(Exchange, port)
        self._entrances = sorted((_entrance(route, authorisers) for route in routes), key=_greediness)
        self._invoke = invoke
        self._clock = clock

    def answer(self, request: Request) -> Response:
        """Return the response to a request: find its route, authorise the caller, set the clock, invoke the function.

        A step that fails ends the request with a response of the gateway's own.
        """
        entrance = next((entrance for entrance in self._entrances if entrance.leads(request)), None)
        if entrance is None:
            return message(HTTPStatus.NOT_FOUND, "Not Found")
        route, authoriser = entrance.route, entrance.authoriser
        try:
            caller = authoriser.identify(request, route.scopes) if authoriser else None
            self._set_clock(request)
        except RefusedError as refused:
            return refused.response
        except (ValueError, OverflowError):
            return message(HTTPStatus.BAD_REQUEST, f"{CLOCK_HEADER} is not an RFC 3339 time with an offset")
        instant = self._clock.instant
        try:
            parameters = entrance.parameters(request)
            handed = event(request, route.key, parameters, caller, instant or datetime.now(UTC))
            return response(self._invoke(route.function, handed, instant))
        except (FunctionError, ValueError) as error:
            print(f"{route.key}: {error}", file=sys.stderr)
            return message(HTTPStatus.INTERNAL_SERVER_ERROR, "Internal Server Error")

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - socketserver's
        """Print the error, unless the caller has hung up."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    def _set_clock(self, request: Request) -> None:
        """Move the clock to the time in the request's clock header, and remove the header.

        Raises ValueError or OverflowError for anything but a time with a UTC offset.
        """
        if said := request.headers.get(CLOCK_HEADER):
            instant = datetime.fromisoformat(said)
            if instant.tzinfo is None:
                raise ValueError(said)
            self._clock.advance(instant.astimezone(UTC))
            del request.headers[CLOCK_HEADER]


class Exchange(BaseHTTPRequestHandler):
    """One kept-alive connection: reads requests and writes the gateway's responses."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # a response leaves in one segment,
    disable_nagle_algorithm = True  # and at once: 1 ms instead of 48 ms

    def exchange(self) -> None:
        """Read one request and send its response. A request that cannot be read ends the connection."""
        self.request_id = base64.b64encode(os.urandom(11)).decode()
        length = self.headers.get("content-length", "0")
        if not length.isdecimal() or self.headers.get("transfer-encoding"):
            self.close_connection = True
            return self.send(message(HTTPStatus.BAD_REQUEST, "Bad Request"))
        if int(length) > LARGEST_BODY:
            self.close_connection = True
            return self.send(message(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "Request Entity Too Large"))
        body = self.rfile.read(int(length))
        request = Request(self.command, self.path, self.headers, body, self.client_address[0], self.request_id)
        return self.send(cast("Gateway", self.server).answer(request))

    do_GET = do_PUT = do_POST = do_DELETE = do_PATCH = do_HEAD = do_OPTIONS = exchange  # noqa: N815 - http.server's names

    def send(self, answer: Response) -> None:
        """Write a response."""
        self.send_response_only(answer.status)
        own = ("content-length", str(len(answer.body))), (REQUEST_ID, self.request_id)
        for name, value in (*answer.headers, *own):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body if self.command != "HEAD" else b"")


def _entrance(route: Route, authorisers: Authorisers) -> Entrance:
    """Return a route that is ready to match. `{name}` in its path matches one segment, `{name+}` the rest."""
    parts = re.split(r"\{([\w.-]+\+?)\}", route.path)
    pattern = "".join(
        re.escape(part) if index % 2 == 0 else "(.+)" if part.endswith("+") else "([^/]+)"
        for index, part in enumerate(parts)
    )
    return Entrance(route, re.compile(pattern), [name.rstrip("+") for name in parts[1::2]], authorisers.of(route))


def _greediness(entrance: Entrance) -> tuple[bool, int, bool]:
    """Return a sort key that puts the most specific route first.

    That is a route without a greedy variable, then the one with fewest variables, then one with a method of its own.
    """
    return "+}" in entrance.route.path, len(entrance.variables), entrance.route.method == "ANY"
