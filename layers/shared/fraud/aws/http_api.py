"""What API Gateway hands over and wants back: an HTTP API's event and answer, payload format 2.0."""

import base64
from collections.abc import Callable
from typing import Any

from fraud.aws.metrics import log_refusal
from fraud.errors import FraudError, Problem, UnavailableError

Event = dict[str, Any]
Response = dict[str, Any]


def body_of(event: Event) -> str | bytes:
    """The body as the caller sent it."""
    body = event.get("body") or ""
    return base64.b64decode(body) if event.get("isBase64Encoded") else body


def caller_arn(event: Event) -> str:
    """The ARN that API Gateway authenticated."""
    arn: str = event["requestContext"]["authorizer"]["iam"]["userArn"]
    return arn


def respond(door: str, ask: Callable[[], str | None]) -> Response:
    """The JSON that `ask` returns as an answer, 204 for none; or why it was refused, which is logged too."""
    try:
        body = ask()
    except FraudError as error:
        log_refusal(error, door)
        return problem(error)
    if body is None:
        return {"statusCode": 204}
    return {"statusCode": 200, "headers": {"content-type": "application/json"}, "body": body}


def problem(error: FraudError) -> Response:
    """The error as an answer (RFC 9457, application/problem+json).

    >>> problem(FraudError())["statusCode"]
    500
    """
    body = Problem(title=error.title, status=error.status, errors=list(error.faults), fallback=error.fallback)
    headers = {"content-type": "application/problem+json"}
    if isinstance(error, UnavailableError):
        headers["retry-after"] = "1"
    return {"statusCode": error.status, "headers": headers, "body": body.model_dump_json(exclude_none=True)}
