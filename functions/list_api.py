"""PUT, DELETE and GET /lists/{deny,allow}/{kind}/{value}: who must not pay, and whom which rules leave in peace.

Every entry has a reason and may expire; every change leaves an audit row. An allow entry never silences a deny entry,
an account's status or a legal limit.
"""

from datetime import datetime
from http import HTTPStatus
from typing import Any

from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response

from fraud import assembly, settings, telemetry
from fraud.errors import FraudError, problem
from fraud.settings import Settings
from fraud.tables import ORDERS, Listed, Lists, Moment

DOOR = "lists"

_app = APIGatewayHttpResolver()
_lists = Lists(Settings.from_environment())
_silenceable = assembly.rule_book().silenceable


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:  # noqa: ANN401 - Lambda's context has no public type
    """API Gateway HTTP API, payload format 2.0."""
    return _app.resolve(event, context)


@_app.put("/lists/<name>/<kind>/<value>")
def put(name: str, kind: str, value: str) -> Response[str]:
    """Put a value on the list or change its entry; repeating it changes nothing."""
    listed, now = Listed(name, kind, value), settings.clock()
    order = ORDERS[name].parse(_app.current_event.decoded_body or "", Moment(now, _silenceable))
    _lists.put(listed, order, _caller(), _now)
    return _shown(listed)


@_app.delete("/lists/<name>/<kind>/<value>")
def delete(name: str, kind: str, value: str) -> Response[str]:
    """Take a value off the list."""
    _lists.delete(Listed(name, kind, value), _caller(), _now)
    return Response(HTTPStatus.NO_CONTENT)


@_app.get("/lists/<name>/<kind>/<value>")
def get(name: str, kind: str, value: str) -> Response[str]:
    """The entry and its history."""
    return _shown(Listed(name, kind, value))


@_app.exception_handler(FraudError)
def refuse(error: FraudError) -> Response[str]:
    """Every error of the library as problem+json."""
    telemetry.refused(error, error.status, DOOR)
    answer = problem(error)
    return Response(answer["statusCode"], answer["headers"].pop("content-type"), answer["body"], answer["headers"])


def _now() -> datetime:
    return settings.clock()  # looked up each time: the local box replaces it


def _shown(listed: Listed) -> Response[str]:
    return Response(HTTPStatus.OK, "application/json", _lists.view(listed, settings.clock()).model_dump_json())


def _caller() -> str:
    """The ARN that API Gateway authenticated."""
    arn: str = _app.current_event.raw_event["requestContext"]["authorizer"]["iam"]["userArn"]
    return arn
