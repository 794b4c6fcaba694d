"""Accounts, for the payment app: GET /accounts/{account_id}, POST .../hold, .../release, .../appeal, and .../ack.

The same with `?id=` instead of the path, for ids that are awkward in one. The app puts holds on accounts after its own
security events, says that it has carried an action out, and brings the appeals of its users. Each request may be sent
again; a second, different one gets 409 with the state. After a change the waiting execution is told.
"""

from typing import Any

from aws_lambda_powertools.event_handler import Response

from fraud import assembly, clock
from fraud.accounts.action import Action, Actor
from fraud.accounts.metrics import log_account_request
from fraud.accounts.requests import AckRequest, ActionView, AppealRequest, HoldRequest, ReleaseHoldRequest
from fraud.aws.http_api import body_of, caller_arn, request_id
from fraud.aws.metrics import log_refusal
from fraud.aws.routes import json_response, resolver
from fraud.errors import AccountConflictError, Fault, InvalidRequestError, NotFoundError, ServiceError
from fraud.lists.entry import page_before
from fraud.settings import Settings
from fraud.transaction import is_id

DOOR = "account_api"

_settings = Settings.from_environment()
_accounts = assembly.accounts(_settings)
_activity = assembly.activity(_settings)
_executions = assembly.account_executions(_settings)
app = resolver(DOOR)


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:  # noqa: ANN401 - Lambda's context has no public type
    """Handle a request of an API Gateway HTTP API, payload format 2.0."""
    return app.resolve(event, context)


@app.get("/accounts")
@app.get("/accounts/(?s:.+)")
def show() -> Response[str]:
    """Show an account: its status, its open action, its history and its facts."""
    name = _id("account_id")
    facts = _activity.page(name, clock.now().date())
    return json_response(_accounts.view(name, facts, _before()).model_dump_json())


@app.post("/accounts/hold")
@app.post("/accounts/(?s:.+)/hold")
def hold() -> Response[str]:
    """Put a hold on an account."""
    name, request = _id("account_id"), HoldRequest.parse(_body())
    _accounts.hold(name, request, _actor(), clock.now())
    return _changed("hold", name)


@app.post("/accounts/release")
@app.post("/accounts/(?s:.+)/release")
def release() -> Response[str]:
    """Take a hold off an account."""
    name, request = _id("account_id"), ReleaseHoldRequest.parse(_body())
    _accounts.release(name, request.reason, _actor(), clock.now())
    return _changed("release", name)


@app.post("/accounts/ack")
@app.post("/accounts/(?s:.+)/actions/(?s:.+)/ack")
def acknowledge() -> Response[str]:
    """Take the app's word that it has carried an action out."""
    account_id, action_id, request = _id("account_id"), _id("action_id"), AckRequest.parse(_body())
    if _accounts.action(action_id).account_id != account_id:
        raise NotFoundError
    return _acted("ack", _accounts.change(action_id, request.event, _actor(), clock.now()))


@app.post("/accounts/appeal")
@app.post("/accounts/(?s:.+)/appeal")
def appeal() -> Response[str]:
    """Take the appeal of an account's user against the action that keeps it stopped."""
    name, request = _id("account_id"), AppealRequest.parse(_body())
    account = _accounts.account(name)
    if account.action_id is None:
        raise AccountConflictError(account.now)
    return _acted("appeal", _accounts.change(account.action_id, request.event, _actor(), clock.now()))


def _actor() -> Actor:
    return Actor(caller_arn(app.current_event.raw_event), "app")


def _before() -> str | None:
    """Return the time before which changes are asked for. Raises InvalidRequestError for anything but a time."""
    before = app.current_event.query_string_parameters.get("before")
    return None if before is None else page_before(before.replace(" ", "+"))


def _body() -> str | bytes:
    return body_of(app.current_event.raw_event) or "{}"


def _id(part: str) -> str:
    """Return an id in API Gateway's own path parameters, or in the query where the path has none.

    Raises InvalidRequestError for a query without it, and NotFoundError for a text that is no identifier.
    """
    event, asked = app.current_event, "id" if part == "account_id" else part
    name = (event.path_parameters or {}).get(part) or event.query_string_parameters.get(asked)
    if name is None:
        raise InvalidRequestError((Fault(asked, "missing", "is required"),))
    name = name.replace(" ", "+")  # a query's plus sign means a space, which no id has
    if not is_id(name):
        raise NotFoundError
    return name


def _changed(what: str, account_id: str) -> Response[str]:
    log_account_request(what, "app", None, DOOR)
    return json_response(_accounts.view(account_id).model_dump_json())


def _acted(what: str, action: Action) -> Response[str]:
    """Tell the execution of an action that was changed. If that fails, the sweep does it a minute later."""
    try:
        _executions.follow(action)
    except ServiceError as error:
        log_refusal(error, DOOR, request_id(app.current_event.raw_event))
    log_account_request(what, "app", action.action_id, DOOR)
    return json_response(ActionView.of(action).model_dump_json())
