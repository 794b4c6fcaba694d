"""PUT, DELETE and GET /lists/{deny,allow}/{kind}/{value}: who must not pay, and whom which rules leave in peace.

Every entry has a reason and may expire; every change leaves an audit row. An allow entry never silences a deny entry,
an account's status or a legal limit.
"""

from collections.abc import Callable

from aws_lambda_powertools.utilities.data_classes import APIGatewayProxyEventV2

from fraud import assembly, clock
from fraud.aws.http_api import Event, Response, body_of, caller_arn, respond
from fraud.lists.store import REQUESTS, ListContext, ListKey, Lists
from fraud.settings import Settings

DOOR = "list_api"

_lists = Lists(Settings.from_environment())
_silenceable = assembly.rule_book().silenceable


def handler(event: Event, _context: object) -> Response:
    """API Gateway HTTP API, payload format 2.0."""
    method, path = event["routeKey"].split(" ")
    return respond(DOOR, lambda: METHODS[method](path.split("/")[2], APIGatewayProxyEventV2(event)))


def put(name: str, event: APIGatewayProxyEventV2) -> str:
    """Put a value on the list or change its entry; repeating it changes nothing."""
    listed = _listed(name, event)
    order = REQUESTS[name].parse(body_of(event.raw_event), ListContext(clock.now(), _silenceable))
    _lists.put(listed, order, caller_arn(event.raw_event), clock.now)
    return _shown(listed)


def delete(name: str, event: APIGatewayProxyEventV2) -> None:
    """Take a value off the list."""
    _lists.delete(_listed(name, event), caller_arn(event.raw_event), clock.now)


def get(name: str, event: APIGatewayProxyEventV2) -> str:
    """The entry and its history."""
    return _shown(_listed(name, event))


METHODS: dict[str, Callable[[str, APIGatewayProxyEventV2], str | None]] = {"PUT": put, "DELETE": delete, "GET": get}


def _listed(name: str, event: APIGatewayProxyEventV2) -> ListKey:
    return ListKey(name, event.path_parameters["kind"], event.path_parameters["value"])


def _shown(listed: ListKey) -> str:
    return _lists.view(listed, clock.now()).model_dump_json()
