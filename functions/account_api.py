"""Accounts, for the payment app: GET /accounts/{account_id}, POST .../hold, .../release, .../appeal, and .../ack.

The same with `?id=` instead of the path, for ids that are awkward in one. The app puts holds on accounts after its own
security events, says that it has carried an action out, and brings the appeals of its users. Each request may be sent
again; a second, different one gets 409 with the state. After a change the waiting execution is told.
"""

from typing import Any

from aws_lambda_powertools.event_handler import Response

from fraud import assembly, clock
from fraud.accounts.action import Actor
from fraud.accounts.console import ChangeContext, change_of
from fraud.accounts.metrics import log_account_request, log_cap_reached
from fraud.aws.http_api import body_of, caller_arn, request_id
from fraud.aws.metrics import log_refusal
from fraud.aws.routes import id_asked, json_response, resolver
from fraud.errors import CapReachedError, ServiceError
from fraud.settings import Settings

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
    name, before = id_asked(app, "account_id"), app.current_event.query_string_parameters.get("before")
    facts = _activity.page(name, clock.now())
    return json_response(_accounts.view(name, facts, before and before.replace(" ", "+")).model_dump_json())


@app.post("/accounts/(?s:.+)")
def change() -> Response[str]:
    """Carry out what the app asks for: a hold, a release, an acknowledgement, or an appeal."""
    event = app.current_event.raw_event
    what, carry_out = change_of(event["routeKey"])
    ids = {"account_id": id_asked(app, "account_id")}
    if what.endswith("ack"):
        ids["action_id"] = id_asked(app, "action_id", "action_id")
    asked = ChangeContext(Actor(caller_arn(event), "app"), ids, clock.now())
    try:
        done = carry_out(_accounts, asked, body_of(event) or "{}")
    except CapReachedError:
        log_cap_reached("hold", DOOR)
        raise
    for action_id in done.actions:
        _follow(action_id)
    log_account_request(what, "app", done.actions[0] if done.actions else None, DOOR)
    return json_response(done.view.model_dump_json())


def _follow(action_id: str) -> None:
    """Tell an action's execution of a change. If that fails, the sweep does it a minute later."""
    try:
        _executions.follow(_accounts.action(action_id))
    except ServiceError as error:
        log_refusal(error, DOOR, request_id(app.current_event.raw_event))
