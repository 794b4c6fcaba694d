"""PUT, DELETE and GET /lists/{deny,allow}/{kind}/{value}: the deny list, and the allow list that silences rules.

Every entry has a reason and may expire. Every change writes an audit row. An allow entry never silences a deny entry,
an account's status or a legal limit.
"""

from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.event_handler import Response

from fraud import assembly, clock
from fraud.aws.http_api import body_of, caller_arn
from fraud.aws.routes import empty_response, json_response, resolver
from fraud.lists.entry import REQUESTS, ListContext, ListKey
from fraud.lists.store import Lists
from fraud.settings import Settings

DOOR = "list_api"

_lists = Lists(Settings.from_environment())
_silenceable = assembly.silenceable()
_logger = Logger(service=DOOR)
app = resolver(DOOR)


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:  # noqa: ANN401 - Lambda's context has no public type
    """Handle a request of an API Gateway HTTP API, payload format 2.0."""
    return app.resolve(event, context)


@app.put("/lists/<name>/(?s:.+)")
def put(name: str) -> Response[str]:
    """Put a value on the list, or change its entry. A repeated request changes nothing."""
    key, event = _key(name), app.current_event.raw_event
    request = REQUESTS[name].parse(body_of(event), ListContext(clock.now(), _silenceable))
    _lists.put(key, request, caller_arn(event), clock.now)
    _log("put", key)
    return _shown(key)


@app.delete("/lists/<name>/(?s:.+)")
def delete(name: str) -> Response[str]:
    """Take a value off the list."""
    key = _key(name)
    _lists.delete(key, caller_arn(app.current_event.raw_event), clock.now)
    _log("deleted", key)
    return empty_response()


@app.get("/lists/<name>/(?s:.+)")
def get(name: str) -> Response[str]:
    """Show the entry and its history."""
    return _shown(_key(name))


def _key(name: str) -> ListKey:
    """Return the key in API Gateway's own path parameters. The path would not do: a decoded value may hold a slash."""
    parameters = app.current_event.path_parameters
    return ListKey(name, parameters["kind"], parameters["value"])


def _shown(key: ListKey) -> Response[str]:
    return json_response(_lists.view(key, clock.now()).model_dump_json())


def _log(change: str, key: ListKey) -> None:
    """Log that an entry changed. Its author, value and reason are in the audit trail, never in the log."""
    request_id = app.current_event.request_context.request_id
    _logger.info("list entry %s", change, extra={"list": key.list_name, "kind": key.kind, "request_id": request_id})
