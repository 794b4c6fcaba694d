"""PUT, DELETE and GET /lists/deny/{kind}/{value}: who and what must not pay or be paid, with reason and expiry."""

from datetime import datetime
from typing import Any

from aws_lambda_powertools.utilities.data_classes import APIGatewayProxyEventV2

from fraud import settings, telemetry
from fraud.errors import FraudError, problem
from fraud.settings import Settings
from fraud.tables import DenyList, DenyOrder, Listed
from fraud.transaction import body_of

DOOR = "lists"

_deny = DenyList(Settings.from_environment())


def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """API Gateway HTTP API, payload format 2.0."""
    try:
        return ROUTES[event["routeKey"].partition(" ")[0]](APIGatewayProxyEventV2(event))
    except FraudError as error:
        telemetry.refused(error, error.status, DOOR)
        return problem(error)


def put(event: APIGatewayProxyEventV2) -> dict[str, Any]:
    """Put a value on the list or change its entry; repeating it changes nothing."""
    listed = _listed(event)
    _deny.put(listed, DenyOrder.parse(body_of(event.raw_event), _now()), _caller(event), _now)
    return _shown(listed)


def delete(event: APIGatewayProxyEventV2) -> dict[str, Any]:
    """Take a value off the list."""
    _deny.delete(_listed(event), _caller(event), _now)
    return {"statusCode": 204}


def get(event: APIGatewayProxyEventV2) -> dict[str, Any]:
    """The entry and its history."""
    return _shown(_listed(event))


ROUTES = {"PUT": put, "DELETE": delete, "GET": get}


def _listed(event: APIGatewayProxyEventV2) -> Listed:
    return Listed(event.path_parameters["kind"], event.path_parameters["value"])


def _shown(listed: Listed) -> dict[str, Any]:
    view = _deny.view(listed, _now())
    return {"statusCode": 200, "headers": {"content-type": "application/json"}, "body": view.model_dump_json()}


def _now() -> datetime:
    return settings.clock()  # looked up each time: the local box replaces it


def _caller(event: APIGatewayProxyEventV2) -> str:
    """The ARN that API Gateway authenticated."""
    arn: str = event.raw_event["requestContext"]["authorizer"]["iam"]["userArn"]
    return arn
