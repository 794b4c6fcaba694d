"""PUT, DELETE and GET /lists/deny/{kind}/{value}: who and what must not pay or be paid, with reason and expiry."""

from datetime import datetime
from http import HTTPStatus
from typing import Any

from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response

from fraud import settings, telemetry
from fraud.errors import FraudError, problem
from fraud.settings import Settings
from fraud.tables import DenyList, DenyOrder, Listed

DOOR = "lists"

_app = APIGatewayHttpResolver()
_deny = DenyList(Settings.from_environment())


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:  # noqa: ANN401 - Lambda's context has no public type
    """API Gateway HTTP API, payload format 2.0."""
    return _app.resolve(event, context)


@_app.put("/lists/deny/<kind>/<value>")
def put(kind: str, value: str) -> Response[str]:
    """Put a value on the list or change its entry; repeating it changes nothing."""
    listed, now = Listed(kind, value), settings.clock()
    order = DenyOrder.parse(_app.current_event.decoded_body or "", now)
    _deny.put(listed, order, _caller(), _now)
    return _shown(listed)


@_app.delete("/lists/deny/<kind>/<value>")
def delete(kind: str, value: str) -> Response[str]:
    """Take a value off the list."""
    _deny.delete(Listed(kind, value), _caller(), _now)
    return Response(HTTPStatus.NO_CONTENT)


@_app.get("/lists/deny/<kind>/<value>")
def get(kind: str, value: str) -> Response[str]:
    """The entry and its history."""
    return _shown(Listed(kind, value))


@_app.exception_handler(FraudError)
def refuse(error: FraudError) -> Response[str]:
    """Every error of the library as problem+json."""
    telemetry.refused(error, error.status, DOOR)
    answer = problem(error)
    return Response(answer["statusCode"], answer["headers"].pop("content-type"), answer["body"], answer["headers"])


def _now() -> datetime:
    return settings.clock()  # looked up each time: the local box replaces it


def _shown(listed: Listed) -> Response[str]:
    return Response(HTTPStatus.OK, "application/json", _deny.view(listed, settings.clock()).model_dump_json())


def _caller() -> str:
    """The ARN that API Gateway authenticated."""
    arn: str = _app.current_event.raw_event["requestContext"]["authorizer"]["iam"]["userArn"]
    return arn
