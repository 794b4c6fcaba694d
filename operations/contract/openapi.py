"""The OpenAPI 3.1 document of the API, from the rows in `routes`.

Two parties answer: the functions of this system with problem details (RFC 9457), and API Gateway with `message`. Where
both can answer with one status, both media types stand there with the schema of both bodies: some generated clients
read the schema of the first media type only, whatever was sent (D-078).
"""

from http import HTTPStatus
from typing import Any

from pydantic import BaseModel

from fraud.errors import FraudError, Problem
from operations.contract import examples, schemas
from operations.contract.routes import ROUTES, TAGS, Body, Operation

Document = dict[str, Any]

GATEWAY = {
    400: ("Bad Request", "The request cannot be read."),
    403: ("Forbidden", "The signature or the caller's permission is missing or wrong."),
    404: ("Not Found", "No route has this path."),
    413: ("Request Entity Too Large", "The body has more bytes than API Gateway or Lambda takes."),
    429: ("Too Many Requests", "Throttled: send the same request again after a pause."),
    500: ("Internal Server Error", "The function failed."),
    503: ("Service Unavailable", "The function did not answer in time, or none was free: send the same request again."),
}
"""What API Gateway itself answers: the message, and its meaning."""

WORDS = {
    200: "Done",
    204: "Done; there is no body",
    400: "The request is invalid; every faulty field is named with the rule that it breaks",
    403: "The caller may not do this",
    404: "Nothing is stored under this name",
    409: "Another body was decided under this transaction_id, or the decision's state does not allow the change",
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
_SERVERS = [
    {
        "url": "https://{api}.execute-api.{region}.amazonaws.com",
        "description": "A deployed stack",
        "variables": {
            "api": {"default": "a1b2c3d4e5", "description": "Id of the HTTP API"},
            "region": {"default": "ap-northeast-1", "description": "AWS region"},
        },
    },
    {"url": "http://127.0.0.1:8080", "description": "The account in a box (`make up`)"},
]
_SIGV4 = {
    "type": "apiKey",
    "name": "Authorization",
    "in": "header",
    "description": "AWS Signature Version 4, service `execute-api`. The caller's role needs `execute-api:Invoke`.",
    "x-amazon-apigateway-authtype": "awsSigv4",
}


def openapi() -> Document:
    """Return the OpenAPI 3.1 document as plain data.

    >>> list(openapi()["paths"])[:2]
    ['/decisions', '/decisions/{transaction_id}']
    """
    paths: dict[str, Document] = {}
    for route, operation in ROUTES.items():
        method, path = route.split(" ")
        paths.setdefault(path, {})[method.lower()] = _operation(path, operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Serverless fraud",
            "version": "1.0.0",
            "description": "Fraud decisions for a payment app. Retries and versions: docs/integration.md.",
        },
        "servers": _SERVERS,
        "tags": [{"name": name, "description": said} for name, said in TAGS.items()],
        "security": [{"sigv4": []}],
        "paths": paths,
        "components": {
            "schemas": _schemas(),
            "headers": _HEADERS,
            "securitySchemes": {"sigv4": _SIGV4},
        },
    }


def _schemas() -> dict[str, Document]:
    requests = {one.request.model for one in ROUTES.values() if one.request and one.request.model}
    answers = {one.answer.model for one in ROUTES.values() if one.answer.model} | {Problem}
    generated = schemas.of(_sorted(requests), _sorted(answers))
    return dict(sorted((generated | {"GatewayMessage": _MESSAGE, "ErrorBody": _EITHER}).items()))


def _sorted(models: set[type[BaseModel]]) -> list[type[BaseModel]]:
    return sorted(models, key=lambda model: model.__name__)


def _operation(path: str, says: Operation) -> Document:
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
    for status in sorted(own.keys() | _of_the_gateway(path, says)):
        answers[status] = _refusal(status, own.get(status, {}), both=status in _of_the_gateway(path, says))
    operation["responses"] = {str(int(status)): answer for status, answer in answers.items()}
    return operation


def _of_the_gateway(path: str, says: Operation) -> set[int]:
    """Return the statuses that API Gateway itself can answer on this route."""
    return GATEWAY.keys() - ({413} if says.request is None else set()) - (set() if "{" in path else {404})


def _refusal(status: int, own: dict[type[FraudError], Document], *, both: bool) -> Document:
    """Return the response of a status that this system (`own`), API Gateway or both can answer."""
    schema = "ErrorBody" if own and both else "Problem" if own else "GatewayMessage"
    content: Document = {}
    if own:
        named = {error.__name__.removesuffix("Error"): {"value": value} for error, value in own.items()}
        content[PROBLEM_JSON] = {"schema": {"$ref": schemas.REF + schema}, "examples": named}
    if both:
        message, meaning = GATEWAY[status]
        said = {"summary": meaning, "value": {"message": message}}
        content[JSON] = {"schema": {"$ref": schemas.REF + schema}, "examples": {"ApiGateway": said}}
    return _answer(status, content)


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
