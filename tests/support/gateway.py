"""Requests to a door with a router, as API Gateway passes them on."""

import json
from collections.abc import Mapping
from typing import Any


def sent(  # noqa: PLR0913 - the parts of a request
    door: Any,
    route: str,
    path: str,
    content: object = None,
    *,
    authorizer: Mapping[str, Any] | None = None,
    parameters: Mapping[str, str] | None = None,
    query: Mapping[str, str] | None = None,
) -> tuple[int, Any]:
    """Send a request of a route, such as `GET /reports/{report_id}`, by its path; return status and body.

    content  of the body: a text stays as it is, anything else is sent as JSON; None: no body
    """
    context = {
        "http": {"method": route.split(maxsplit=1)[0], "path": path},
        "requestId": "request-1",
        "stage": "$default",
    }
    event = {
        "version": "2.0",
        "routeKey": route,
        "rawPath": path,
        "rawQueryString": "",
        "headers": {"authorization": "Bearer secret-token"},
        "requestContext": context if authorizer is None else context | {"authorizer": authorizer},
        "pathParameters": parameters or None,
        "queryStringParameters": query or None,
        "body": content if content is None or isinstance(content, str) else json.dumps(content),
        "isBase64Encoded": False,
    }
    answer = door.handler(event, None)
    return answer["statusCode"], json.loads(answer["body"]) if answer.get("body") else None


def iam(arn: str) -> dict[str, Any]:
    """Return what the authoriser says of a role."""
    return {"iam": {"userArn": arn}}


def jwt(sub: str, groups: str) -> dict[str, Any]:
    """Return what the authoriser says of a person with a token. groups: such as `[staff analyst]`."""
    return {"jwt": {"claims": {"sub": sub, "cognito:groups": groups}, "scopes": None}}
