"""PUT, DELETE and GET /lists/{deny,allow}/{kind}/{value}: who must not pay, and whom which rules leave in peace.

Every entry has a reason and may expire; every change leaves an audit row. An allow entry never silences a deny entry,
an account's status or a legal limit.
"""

from datetime import datetime
from typing import Any

from aws_lambda_powertools.utilities.data_classes import APIGatewayProxyEventV2

from fraud import assembly, settings, telemetry
from fraud.errors import FraudError, problem
from fraud.settings import Settings
from fraud.tables import ORDERS, Listed, Lists, Moment
from fraud.transaction import body_of

DOOR = "lists"

_lists = Lists(Settings.from_environment())
_silenceable = assembly.rule_book().silenceable


def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """API Gateway HTTP API, payload format 2.0."""
    method, path = event["routeKey"].split(" ")
    try:
        return METHODS[method](path.split("/")[2], APIGatewayProxyEventV2(event))
    except FraudError as error:
        telemetry.refused(error, error.status, DOOR)
        return problem(error)


def put(name: str, event: APIGatewayProxyEventV2) -> dict[str, Any]:
    """Put a value on the list or change its entry; repeating it changes nothing."""
    listed = _listed(name, event)
    order = ORDERS[name].parse(body_of(event.raw_event), Moment(_now(), _silenceable))
    _lists.put(listed, order, _caller(event), _now)
    return _shown(listed)


def delete(name: str, event: APIGatewayProxyEventV2) -> dict[str, Any]:
    """Take a value off the list."""
    _lists.delete(_listed(name, event), _caller(event), _now)
    return {"statusCode": 204}


def get(name: str, event: APIGatewayProxyEventV2) -> dict[str, Any]:
    """The entry and its history."""
    return _shown(_listed(name, event))


METHODS = {"PUT": put, "DELETE": delete, "GET": get}


def _listed(name: str, event: APIGatewayProxyEventV2) -> Listed:
    return Listed(name, event.path_parameters["kind"], event.path_parameters["value"])


def _shown(listed: Listed) -> dict[str, Any]:
    view = _lists.view(listed, _now())
    return {"statusCode": 200, "headers": {"content-type": "application/json"}, "body": view.model_dump_json()}


def _now() -> datetime:
    return settings.clock()  # looked up each time: the local box replaces it


def _caller(event: APIGatewayProxyEventV2) -> str:
    """The ARN that API Gateway authenticated."""
    arn: str = event.raw_event["requestContext"]["authorizer"]["iam"]["userArn"]
    return arn
