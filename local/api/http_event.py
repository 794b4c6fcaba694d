"""Events and responses of an HTTP API: payload format 2.0, as API Gateway's guide defines it.

Pure functions turn a request into an event, and a handler's result into a response. The guide does not mention two
things that are seen on AWS: the path arrives decoded, and a body is text only when its content type says so.
"""

import base64
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.message import Message
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, unquote

ACCOUNT_ID = "123456789012"
API_ID = "box"

TEXT = re.compile(r"text/.*|application/(json|javascript|xml|([\w.-]+\+)?(json|xml))")
"""Content types whose body is text in an event. Any other body is base64, also that of a form and one without a type.
"""


@dataclass(frozen=True)
class Request:
    """An HTTP request as it was received. `target` is the path, still percent-encoded, and the query.

    id  the gateway's, which is in the event and, as a header, in the response
    """

    method: str
    target: str
    headers: Message
    body: bytes
    source_ip: str
    id: str

    @property
    def path(self) -> str:
        """The path, still percent-encoded."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        """The query, still percent-encoded; empty when there is none."""
        return self.target.partition("?")[2]


@dataclass(frozen=True)
class Response:
    """An HTTP response."""

    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes


def message(status: HTTPStatus, words: str, *headers: tuple[str, str]) -> Response:
    """Return a response of the gateway's own.

    >>> message(HTTPStatus.NOT_FOUND, "Not Found").body
    b'{"message": "Not Found"}'
    """
    return Response(status, (("content-type", "application/json"), *headers), json.dumps({"message": words}).encode())


def event(
    request: Request, route_key: str, parameters: Mapping[str, str], authorizer: Mapping[str, Any] | None, now: datetime
) -> dict[str, Any]:
    """Return the event of payload format 2.0. `authorizer` describes the caller; None on an open route."""
    fields = {name.lower() for name in request.headers}
    headers = {name: ",".join(request.headers.get_all(name, [])) for name in sorted(fields - {"cookie"})}
    body, encoded = _body(request.body, headers.get("content-type", ""))
    cookies = request.headers.get_all("cookie", [])
    query = _joined(parse_qsl(request.query, keep_blank_values=True))
    optional = {
        "cookies": [cookie.strip() for header in cookies for cookie in header.split(";")],
        "queryStringParameters": query,
        "pathParameters": dict(parameters),
        "body": body,
    }
    context = _context(request, route_key, headers, now)
    if authorizer:
        context["authorizer"] = authorizer
    return {
        "version": "2.0",
        "routeKey": route_key,
        "rawPath": unquote(request.path),
        "rawQueryString": request.query,
        "headers": headers,
        "requestContext": context,
        "isBase64Encoded": encoded,
        **{name: value for name, value in optional.items() if value},
    }


def response(answer: Any) -> Response:  # noqa: ANN401 - JSON
    """Return a handler's result as an HTTP response. A result without a status is the body of a 200.

    Raises ValueError for a malformed result.

    >>> response({"decided": True}).body
    b'{"decided": true}'
    >>> response({"statusCode": 201, "body": "done"}).status
    201
    """
    if not (isinstance(answer, dict) and "statusCode" in answer):
        return Response(200, (("content-type", "application/json"),), json.dumps(answer).encode())
    body = "" if answer.get("body") is None else answer["body"]
    if not isinstance(body, str):
        raise ValueError(f"body is {type(body).__name__}, not a string")  # noqa: TRY004 - one error for all malformed answers
    headers = {name.lower(): str(value) for name, value in (answer.get("headers") or {}).items()}
    headers.setdefault("content-type", "text/plain;charset=utf-8")
    cookies = [("set-cookie", cookie) for cookie in answer.get("cookies") or []]
    content = base64.b64decode(body) if answer.get("isBase64Encoded") else body.encode()
    return Response(int(answer["statusCode"]), (*headers.items(), *cookies), content)


def _context(request: Request, route_key: str, headers: Mapping[str, str], now: datetime) -> dict[str, Any]:
    return {
        "accountId": ACCOUNT_ID,
        "apiId": API_ID,
        "domainName": headers.get("host", ""),
        "domainPrefix": API_ID,
        "http": {
            "method": request.method,
            "path": unquote(request.path),
            "protocol": "HTTP/1.1",
            "sourceIp": request.source_ip,
            "userAgent": headers.get("user-agent", ""),
        },
        "requestId": request.id,
        "routeKey": route_key,
        "stage": "$default",
        "time": now.strftime("%d/%b/%Y:%H:%M:%S +0000"),
        "timeEpoch": int(now.timestamp() * 1000),
    }


def _body(body: bytes, content_type: str) -> tuple[str, bool]:
    if not body or TEXT.fullmatch(content_type.partition(";")[0].strip().lower()):
        try:
            return body.decode(), False
        except UnicodeDecodeError:
            pass
    return base64.b64encode(body).decode(), True


def _joined(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return query parameters by name. The values of a repeated name are joined by commas."""
    values: dict[str, str] = {}
    for name, value in pairs:
        values[name] = f"{values[name]},{value}" if name in values else value
    return values
