"""PUT, DELETE and GET /lists/{deny,allow}/{kind}/{value}: the deny list, and the allow list that silences rules.

The same with `?kind=&value=` instead of the path, for values that are awkward in one. GET .../{kind} shows all values
of a kind, and POST .../confirm confirms entries that silence the model. Every entry has a reason and may expire. Every
change writes an audit row. An allow entry never silences a deny entry, an account's status or a legal limit.
"""

from datetime import timedelta
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.event_handler import Response

from fraud import assembly, clock
from fraud.aws.http_api import body_of, caller_arn
from fraud.aws.routes import empty_response, json_response, resolver
from fraud.errors import Fault, InvalidRequestError
from fraud.lists.entry import REQUESTS, ConfirmRequest, ListContext, ListKey, kind_of, page_after, page_before
from fraud.lists.store import Lists
from fraud.settings import Settings

DOOR = "list_api"

_settings = Settings.from_environment()
_lists = Lists(_settings)
_silenceable = assembly.silenceable(_settings.currency)
_longest = timedelta(days=_settings.allow_max_days)
_logger = Logger(service=DOOR)
app = resolver(DOOR)


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:  # noqa: ANN401 - Lambda's context has no public type
    """Handle a request of an API Gateway HTTP API, payload format 2.0."""
    return app.resolve(event, context)


@app.put("/lists/<name>")
@app.put("/lists/<name>/(?s:.+)")
def put(name: str) -> Response[str]:
    """Put a value on the list, or change its entry. A repeated request changes nothing."""
    key, event = _key(name), app.current_event.raw_event
    request = REQUESTS[name].parse(body_of(event), ListContext(clock.now(), _silenceable, _longest))
    _lists.put(key, request, caller_arn(event), clock.now)
    _log("put", key)
    return _shown(key)


@app.post("/lists/allow/(?s:.+)")
def confirm() -> Response[str]:
    """Confirm the entry of a value on the allow list, as a second person."""
    key, event = _key("allow"), app.current_event.raw_event
    _lists.confirm(key, ConfirmRequest.parse(body_of(event)), caller_arn(event), clock.now)
    _log("confirmed", key)
    return _shown(key)


@app.delete("/lists/<name>")
@app.delete("/lists/<name>/(?s:.+)")
def delete(name: str) -> Response[str]:
    """Take a value off the list."""
    key = _key(name)
    _lists.delete(key, caller_arn(app.current_event.raw_event), clock.now)
    _log("deleted", key)
    return empty_response()


@app.get("/lists/<name>")
@app.get("/lists/<name>/[^/]+/(?s:.+)")
def get(name: str) -> Response[str]:
    """Show the entry and a page of its history: the latest changes, or those before the time in `?before=`."""
    before = app.current_event.query_string_parameters.get("before")
    return _shown(_key(name), None if before is None else page_before(before.replace(" ", "+")))


@app.get("/lists/<name>/[^/]+")
def show_list(name: str) -> Response[str]:
    """Show a page of the values of one kind on the list: the first ones, or those after the value in `?after=`."""
    event = app.current_event
    kind = kind_of((event.path_parameters or {})["kind"])
    query = event.query_string_parameters
    if unknown := sorted(query.keys() - {"after"}):
        raise InvalidRequestError(tuple(Fault(name[:64], "unknown_field", "is no parameter") for name in unknown))
    after = page_after(kind, query.get("after", "").replace(" ", "+"))
    return json_response(_lists.page(name, kind, clock.now(), after).model_dump_json())


def _key(name: str) -> ListKey:
    """Return the key in API Gateway's own path parameters, or in the query where the path has none.

    The path itself would not do: a decoded value may hold a slash. A plus sign in a query means a space, which no value
    has. Raises InvalidRequestError for a query without kind or value.
    """
    event = app.current_event
    parts = event.path_parameters or {
        part: text.replace(" ", "+") for part, text in event.query_string_parameters.items()
    }
    if missing := [Fault(part, "missing", "is required") for part in ("kind", "value") if part not in parts]:
        raise InvalidRequestError(tuple(missing))
    return ListKey(name, parts["kind"], parts["value"])


def _shown(key: ListKey, before: str | None = None) -> Response[str]:
    return json_response(_lists.view(key, clock.now(), before).model_dump_json())


def _log(change: str, key: ListKey) -> None:
    """Log that an entry changed. Its author, value and reason are in the audit trail, never in the log."""
    request_id = app.current_event.request_context.request_id
    _logger.info("list entry %s", change, extra={"list": key.list_name, "kind": key.kind, "request_id": request_id})
