"""Events and responses of API Gateway's HTTP API, payload format 2.0, for the scoring door; `routes` has all others."""

import base64
from collections.abc import Callable
from typing import Any

from fraud.aws.metrics import log_refusal
from fraud.errors import FraudError, Problem, UnavailableError

Event = dict[str, Any]
Response = dict[str, Any]


def body_of(event: Event) -> str | bytes:
    """Return the body as the caller sent it.

    >>> body_of({"body": "e30=", "isBase64Encoded": True})
    b'{}'
    """
    body = event.get("body") or ""
    return base64.b64decode(body) if event.get("isBase64Encoded") else body


def caller_arn(event: Event) -> str:
    """Return the caller's ARN, as API Gateway authenticated it. Raises KeyError for a route without IAM.

    >>> caller_arn({"requestContext": {"authorizer": {"iam": {"userArn": "arn:aws:iam::1:user/a"}}}})
    'arn:aws:iam::1:user/a'
    """
    arn: str = event["requestContext"]["authorizer"]["iam"]["userArn"]
    return arn


def claims_of(event: Event) -> dict[str, Any]:
    """Return the claims of the caller's token, as API Gateway has checked them; none for a route without a token.

    >>> claims_of({"requestContext": {"authorizer": {"jwt": {"claims": {"sub": "hana"}, "scopes": None}}}})
    {'sub': 'hana'}
    >>> claims_of({"requestContext": {"authorizer": {"iam": {"userArn": "arn:aws:iam::1:user/a"}}}})
    {}
    """
    claims: dict[str, Any] = event["requestContext"].get("authorizer", {}).get("jwt", {}).get("claims", {})
    return claims


def request_id(event: Event) -> str | None:
    """Return the id of the request: API Gateway sends it with each response, as the header Apigw-Requestid.

    >>> request_id({"requestContext": {"requestId": "JKJaXmPLvHcESHA="}})
    'JKJaXmPLvHcESHA='
    """
    id_: str | None = event.get("requestContext", {}).get("requestId")
    return id_


def respond(door: str, ask: Callable[[], str | None], id_: str | None = None) -> Response:
    """Respond with the JSON that `ask` returns, or 204 for None. A FraudError is logged and responded to as a problem.

    door  name of the door in the log
    id_   of the request; log line and problem name it
    """
    try:
        body = ask()
    except FraudError as error:
        log_refusal(error, door, id_)
        return problem(error, id_)
    if body is None:
        return {"statusCode": 204}
    return {"statusCode": 200, "headers": {"content-type": "application/json"}, "body": body}


def problem(error: FraudError, id_: str | None = None) -> Response:
    """Return the response to an error (RFC 9457, application/problem+json). `id_` is the request's.

    >>> problem(FraudError())["statusCode"]
    500
    """
    body = Problem(
        title=error.title,
        status=error.status,
        errors=list(error.faults),
        request_id=id_,
        fallback=error.fallback,
        **error.now,
    )
    headers = {"content-type": "application/problem+json"}
    if isinstance(error, UnavailableError):
        headers["retry-after"] = "1"
    return {"statusCode": error.status, "headers": headers, "body": body.model_dump_json()}
