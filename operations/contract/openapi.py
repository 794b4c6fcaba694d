"""The OpenAPI 3.1 documents of the two APIs, from the rows in `routes` and `people`.

Two parties answer: the functions of this system with problem details (RFC 9457), and API Gateway with `message`. Where
both can answer with one status, both media types stand there with the schema of both bodies: some generated clients
read the schema of the first media type only, whatever was sent (D-078).
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, NamedTuple

from pydantic import BaseModel

from fraud.errors import FraudError, Problem
from operations.contract import examples, schemas
from operations.contract.people import PEOPLE, PEOPLE_TAGS
from operations.contract.routes import ROUTES, TAGS, Body, Operation

Document = dict[str, Any]

ALWAYS = {
    400: ("Bad Request", "The request cannot be read."),
    404: ("Not Found", "No route has this path."),
    413: ("Request Entity Too Large", "The body has more bytes than API Gateway or Lambda takes."),
    429: ("Too Many Requests", "Throttled: send the same request again after a pause."),
    500: ("Internal Server Error", "The function failed."),
    503: ("Service Unavailable", "The function did not answer in time, or none was free: send the same request again."),
}
GATEWAY = ALWAYS | {403: ("Forbidden", "The signature or the caller's permission is missing or wrong.")}
PEOPLE_GATEWAY = ALWAYS | {401: ("Unauthorized", "The token is missing, wrong, expired, or made for another audience.")}
"""What API Gateway itself answers on each API: the message, and its meaning."""

WORDS = {
    200: "Done",
    204: "Done; there is no body",
    400: "The request is invalid; every faulty field is named with the rule that it breaks",
    401: "No valid token",
    403: "The caller may not do this",
    404: "Nothing is stored under this name",
    409: "Another body was decided under this transaction_id, or the present state does not allow the change",
    413: "The body is too large",
    429: "Throttled before the function ran: try again after a pause from 100 ms, doubling, with full jitter",
    500: "A fault of this system: a retry may not help",
    503: "Send the same request again after Retry-After seconds; without that header, as after a 429",
}
JSON, PROBLEM_JSON = "application/json", "application/problem+json"
_EITHER = {
    "description": "A problem of this system, or a message of API Gateway. The content type tells them apart.",
    "anyOf": [{"$ref": f"{schemas.REF}Problem"}, {"$ref": f"{schemas.REF}GatewayMessage"}],
}
_MESSAGE = {
    "type": "object",
    "description": "The response of API Gateway when it answers in place of this system.",
    "properties": {"message": {"type": "string", "examples": ["Forbidden"]}},
    "required": ["message"],
}
_HEADERS = {
    "RequestId": {
        "description": "API Gateway's id of the request. Name it when you ask about a response.",
        "schema": {"type": "string"},
        "example": examples.REQUEST_ID,
    },
    "RetryAfter": {
        "description": "Seconds to wait before the same request is sent again. API Gateway's own 503 has none.",
        "schema": {"type": "integer", "minimum": 0},
        "example": 1,
    },
}


def _servers(api: str, port: int) -> list[Document]:
    """Return the addresses of an API: of a deployed stack, and of the box."""
    return [
        {
            "url": "https://{api}.execute-api.{region}.amazonaws.com",
            "description": "A deployed stack",
            "variables": {
                "api": {"default": api, "description": "Id of the HTTP API"},
                "region": {"default": "ap-northeast-1", "description": "AWS region"},
            },
        },
        {"url": f"http://127.0.0.1:{port}", "description": "The account in a box (`make up`)"},
    ]


_SIGV4 = {
    "type": "apiKey",
    "name": "Authorization",
    "in": "header",
    "description": "AWS Signature Version 4, service `execute-api`. The caller's role needs `execute-api:Invoke`.",
    "x-amazon-apigateway-authtype": "awsSigv4",
}


_JWT = {
    "type": "http",
    "scheme": "bearer",
    "bearerFormat": "JWT",
    "description": "A token of the stack's issuer (JwtIssuer, JwtAudience). Its groups must have `analyst` or `lead`.",
}


class Api(NamedTuple):
    """An API: its routes, who lets callers in, and what API Gateway answers by itself."""

    title: str
    description: str
    routes: Mapping[str, Operation]
    tags: Mapping[str, str]
    servers: list[Document]
    scheme: tuple[str, Document]
    gateway: Mapping[int, tuple[str, str]]


SYSTEMS = Api(
    "Serverless fraud",
    "Fraud decisions for a payment app. Retries and versions: docs/integration.md.",
    ROUTES,
    TAGS,
    _servers("a1b2c3d4e5", 8080),
    ("sigv4", _SIGV4),
    GATEWAY,
)
FOR_PEOPLE = Api(
    "Serverless fraud: cases and accounts",
    "For analysts and leads. What follows from a decision: docs/cases.md; from a finding of fraud: docs/accounts.md.",
    PEOPLE,
    PEOPLE_TAGS,
    _servers("f6g7h8i9j0", 8081),
    ("token", _JWT),
    PEOPLE_GATEWAY,
)


def openapi(api: Api = SYSTEMS) -> Document:
    """Return the OpenAPI 3.1 document of an API as plain data.

    >>> list(openapi()["paths"])[:2]
    ['/decisions', '/decisions/{transaction_id}']
    """
    paths: dict[str, Document] = {}
    for route, operation in api.routes.items():
        method, path = route.split(" ")
        paths.setdefault(path, {})[method.lower()] = _operation(path, operation, api.gateway)
    scheme, definition = api.scheme
    return {
        "openapi": "3.1.0",
        "info": {"title": api.title, "version": "1.0.0", "description": api.description},
        "servers": api.servers,
        "tags": [{"name": name, "description": said} for name, said in api.tags.items()],
        "security": [{scheme: []}],
        "paths": paths,
        "components": {
            "schemas": _schemas(api.routes),
            "headers": _HEADERS,
            "securitySchemes": {scheme: definition},
        },
    }


def people() -> Document:
    """Return the document of the API for people."""
    return openapi(FOR_PEOPLE)


def _schemas(routes: Mapping[str, Operation]) -> dict[str, Document]:
    requests = {one.request.model for one in routes.values() if one.request and one.request.model}
    answers = {one.answer.model for one in routes.values() if one.answer.model} | {Problem}
    generated = schemas.of(_sorted(requests), _sorted(answers))
    return dict(sorted((generated | {"GatewayMessage": _MESSAGE, "ErrorBody": _EITHER}).items()))


def _sorted(models: set[type[BaseModel]]) -> list[type[BaseModel]]:
    return sorted(models, key=lambda model: model.__name__)


def _operation(path: str, says: Operation, gateway: Mapping[int, tuple[str, str]]) -> Document:
    operation: Document = {"operationId": says.id, "tags": [says.tag], "summary": says.summary}
    operation["description"] = says.description or says.summary + "."
    if says.parameters:
        operation["parameters"] = [dict(parameter) for parameter in says.parameters]
    if says.request:
        operation["requestBody"] = {
            "required": True,
            "description": f"At most {says.request.most_bytes:,} bytes of UTF-8; a name stands once in an object.",
            "content": {JSON: _content(says.request)},
        }
    success = HTTPStatus.OK if says.answer.model else HTTPStatus.NO_CONTENT
    answers: dict[int, Document] = {
        success: _answer(success, {JSON: _content(says.answer)} if says.answer.model else {})
    }
    own: dict[int, dict[type[FraudError], Document]] = {}
    for error, more in says.refused.items():
        own.setdefault(error.status, {})[error] = examples.problem(error.status, error.title, **more)
    by_gateway = _of_the_gateway(path, says, gateway)
    for status in sorted(own.keys() | by_gateway.keys()):
        answers[status] = _refusal(status, own.get(status, {}), by_gateway.get(status))
    operation["responses"] = {str(int(status)): answer for status, answer in answers.items()}
    return operation


def _of_the_gateway(
    path: str, says: Operation, gateway: Mapping[int, tuple[str, str]]
) -> Mapping[int, tuple[str, str]]:
    """Return what API Gateway itself can answer on this route."""
    never = ({413} if says.request is None else set()) | (set() if "{" in path else {404})
    return {status: said for status, said in gateway.items() if status not in never}


def _refusal(status: int, own: dict[type[FraudError], Document], said: tuple[str, str] | None) -> Document:
    """Return the response of a status that this system (`own`), API Gateway (`said`) or both can answer."""
    schema = "ErrorBody" if own and said else "Problem" if own else "GatewayMessage"
    content: Document = {}
    if own:
        named = {error.__name__.removesuffix("Error"): {"value": value} for error, value in own.items()}
        content[PROBLEM_JSON] = {"schema": {"$ref": schemas.REF + schema}, "examples": named}
    if said:
        message, meaning = said
        example = {"summary": meaning, "value": {"message": message}}
        content[JSON] = {"schema": {"$ref": schemas.REF + schema}, "examples": {"ApiGateway": example}}
    answer = _answer(status, content)
    if own and status == HTTPStatus.TOO_MANY_REQUESTS:
        answer["description"] += ". A problem of this system instead: the cap is reached, and no retry helps now"
    return answer


def _answer(status: int, content: Document) -> Document:
    headers = {"Apigw-Requestid": {"$ref": "#/components/headers/RequestId"}}
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = {"$ref": "#/components/headers/RetryAfter"}
    body = {"content": content} if content else {}
    return {"description": WORDS[status], "headers": headers, **body}


def _content(body: Body) -> Document:
    assert body.model is not None
    return {
        "schema": {"$ref": f"{schemas.REF}{body.model.__name__}"},
        "examples": {name: {"value": value} for name, value in body.examples.items()},
    }
