"""Accounts, for analysts and leads: accounts, the actions against them, and orders, under /analyst.

API Gateway checks the token, and this door the groups in it. An analyst reads; a lead puts holds on accounts and takes
them off, decides of actions above the cap, reviews appeals, and gives orders. What needs a second person is refused to
the first one. Each request may be sent again; a second, different one gets 409 with the state. After a change the
execution of the action is started or told.
"""

from typing import Any

from aws_lambda_powertools.event_handler import Response

from fraud import assembly, clock
from fraud.accounts.action import Actor
from fraud.accounts.console import ChangeContext, change_of
from fraud.accounts.metrics import log_account_request, log_cap_reached
from fraud.accounts.requests import ActionQuery, ActionView, OrderView
from fraud.aws.http_api import body_of, claims_of, request_id
from fraud.aws.metrics import log_refusal
from fraud.aws.routes import json_response, resolver
from fraud.cases.store import Cases
from fraud.errors import CapReachedError, ForbiddenError, NotFoundError, ServiceError
from fraud.person import Person, person_of
from fraud.settings import Settings
from fraud.transaction import is_id

DOOR = "analyst_account_api"

_settings = Settings.from_environment()
_accounts = assembly.accounts(_settings)
_activity, _cases = assembly.activity(_settings), Cases(_settings)
_executions = assembly.account_executions(_settings)
app = resolver(DOOR)


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:  # noqa: ANN401 - Lambda's context has no public type
    """Handle a request of an API Gateway HTTP API, payload format 2.0."""
    return app.resolve(event, context)


@app.get("/analyst/accounts/(?s:.+)")
def show() -> Response[str]:
    """Show an account: its status, its open action, its history and its facts, without payments in a blind review."""
    _person()
    name, before = _ids()["account_id"], app.current_event.query_string_parameters.get("before")
    facts = _activity.page(name, clock.now())
    facts = facts.without(_cases.blind(each.transaction_id for each in facts.recent))
    return json_response(_accounts.view(name, facts, before and before.replace(" ", "+")).model_dump_json())


@app.get("/analyst/actions")
def show_waiting() -> Response[str]:
    """Show a page of the actions that wait for a person: above the cap, or with an appeal."""
    _person()
    asked = ActionQuery.parse(app.current_event.query_string_parameters)
    return json_response(_accounts.waiting(asked.state, asked.cursor).model_dump_json())


@app.get("/analyst/actions/[^/]+")
def show_action() -> Response[str]:
    """Show an action."""
    _person()
    return json_response(ActionView.of(_accounts.action(_ids()["action_id"])).model_dump_json())


@app.get("/analyst/orders/[^/]+")
def show_order() -> Response[str]:
    """Show an order and its actions."""
    _person()
    return json_response(OrderView.model_validate(_accounts.get_order(_ids()["order_id"])).model_dump_json())


@app.post("/analyst/(?s:.+)")
def change() -> Response[str]:
    """Carry out what a lead asks for."""
    event, (name, role) = app.current_event.raw_event, _person()
    if role != "lead":
        raise ForbiddenError
    what, carry_out = change_of(event["routeKey"])
    asked = ChangeContext(Actor(name, "lead"), _ids(), clock.now())
    try:
        done = carry_out(_accounts, asked, body_of(event) or "{}")
    except CapReachedError:
        log_cap_reached("hold", DOOR)
        raise
    for action_id in done.actions:
        _follow(action_id)
    log_account_request(what, "lead", done.actions[0] if done.actions else None, DOOR)
    return json_response(done.view.model_dump_json())


def _person() -> Person:
    """Return who calls. Raises ForbiddenError for a token without a group of ours."""
    return person_of(claims_of(app.current_event.raw_event), _settings.jwt_groups_claim)


def _ids() -> dict[str, str]:
    """Return the ids in the path. Raises NotFoundError for a text that is no identifier."""
    found = app.current_event.path_parameters or {}
    if not all(map(is_id, found.values())):
        raise NotFoundError
    return found


def _follow(action_id: str) -> None:
    """Start an action's execution, or tell it of a change. If that fails, the sweep does it a minute later."""
    try:
        _executions.follow(_accounts.action(action_id))
    except ServiceError as error:
        log_refusal(error, DOOR, request_id(app.current_event.raw_event))
