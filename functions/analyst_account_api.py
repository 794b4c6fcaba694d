"""Accounts, for analysts and leads: accounts, the actions against them, and orders, under /analyst.

API Gateway checks the token, and this door the groups in it. An analyst reads; a lead puts holds on accounts and takes
them off, decides of actions above the cap, reviews appeals, and gives orders. What needs a second person is refused to
the first one. Each request may be sent again; a second, different one gets 409 with the state. After a change the
execution of the action is started or told.
"""

from typing import Any

from aws_lambda_powertools.event_handler import Response

from fraud import assembly, clock
from fraud.accounts import action as accounts
from fraud.accounts.metrics import log_account_request
from fraud.accounts.order import Order
from fraud.accounts.requests import (
    DECISIONS,
    ActionQuery,
    ActionView,
    DecideRequest,
    HoldRequest,
    OrderRequest,
    OrderView,
    ReleaseHoldRequest,
)
from fraud.aws.http_api import body_of, claims_of, request_id
from fraud.aws.metrics import log_refusal
from fraud.aws.routes import json_response, resolver
from fraud.cases.case import Actor
from fraud.cases.console import actor_of
from fraud.errors import ForbiddenError, NotFoundError, ServiceError
from fraud.lists.entry import page_before
from fraud.settings import Settings
from fraud.transaction import is_id

DOOR = "analyst_account_api"

_settings = Settings.from_environment()
_accounts = assembly.accounts(_settings)
_activity = assembly.activity(_settings)
_executions = assembly.account_executions(_settings)
app = resolver(DOOR)


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:  # noqa: ANN401 - Lambda's context has no public type
    """Handle a request of an API Gateway HTTP API, payload format 2.0."""
    return app.resolve(event, context)


@app.get("/analyst/accounts/(?s:.+)")
def show() -> Response[str]:
    """Show an account: its status, its open action, its history and its facts."""
    _person()
    name = _id("account_id")
    facts = _activity.page(name, clock.now().date())
    return json_response(_accounts.view(name, facts, _before()).model_dump_json())


@app.post("/analyst/accounts/(?s:.+)/hold")
def hold() -> Response[str]:
    """Put a hold on an account."""
    lead, name, request = _lead(), _id("account_id"), HoldRequest.parse(_body())
    _accounts.hold(name, request, lead, clock.now())
    return _changed("hold", name)


@app.post("/analyst/accounts/(?s:.+)/release")
def release() -> Response[str]:
    """Take a hold off an account."""
    lead, name, request = _lead(), _id("account_id"), ReleaseHoldRequest.parse(_body())
    _accounts.release(name, request.reason, lead, clock.now())
    return _changed("release", name)


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
    return json_response(ActionView.of(_accounts.action(_id("action_id"))).model_dump_json())


@app.post("/analyst/actions/[^/]+/(?s:.+)")
def act() -> Response[str]:
    """Carry out what a lead decides of an action."""
    lead, name = _lead(), _id("action_id")
    what = _end()
    action = _accounts.change(name, DECISIONS[what](_body()), lead, clock.now())
    _follow(action.action_id)
    log_account_request(what, "lead", action.action_id, DOOR)
    return json_response(ActionView.of(action).model_dump_json())


@app.post("/analyst/orders")
def order() -> Response[str]:
    """Give the order to deactivate accounts. Above OrderAloneMax accounts it waits for another lead."""
    lead, request = _lead(), OrderRequest.parse(_body())
    return _ordered("order", _accounts.order(request.ordered, lead, clock.now()))


@app.get("/analyst/orders/[^/]+")
def show_order() -> Response[str]:
    """Show an order and its actions."""
    _person()
    return json_response(OrderView.model_validate(_accounts.get_order(_id("order_id"))).model_dump_json())


@app.post("/analyst/orders/[^/]+/(?s:.+)")
def decide() -> Response[str]:
    """Approve an order, as another lead than the one who gave it, or cancel it."""
    lead, name, request = _lead(), _id("order_id"), DecideRequest.parse(_body())
    what = _end()
    change = _accounts.approve if what == "approve" else _accounts.cancel
    return _ordered(what, change(name, request.reason, lead, clock.now()))


def _person() -> Actor:
    """Return who sends a request. Raises ForbiddenError for a token without a group of ours."""
    return actor_of(claims_of(app.current_event.raw_event), _settings.jwt_groups_claim)


def _lead() -> accounts.Actor:
    """Return the lead who sends a request. Raises ForbiddenError for anybody else."""
    if (person := _person()).role != "lead":
        raise ForbiddenError
    return accounts.Actor(person.name, "lead")


def _end() -> str:
    """Return the last part of the route: what is done."""
    end: str = app.current_event.raw_event["routeKey"].rpartition("/")[2]
    return end


def _before() -> str | None:
    """Return the time before which changes are asked for. Raises InvalidRequestError for anything but a time."""
    before = app.current_event.query_string_parameters.get("before")
    return None if before is None else page_before(before.replace(" ", "+"))


def _body() -> str | bytes:
    return body_of(app.current_event.raw_event) or "{}"


def _id(part: str) -> str:
    """Return an id in the path. Raises NotFoundError for a text that is no identifier."""
    name = (app.current_event.path_parameters or {})[part]
    if not is_id(name):
        raise NotFoundError
    return name


def _changed(what: str, account_id: str) -> Response[str]:
    log_account_request(what, "lead", None, DOOR)
    return json_response(_accounts.view(account_id).model_dump_json())


def _ordered(what: str, order: Order) -> Response[str]:
    """Start the executions of an order's actions."""
    for action_id in filter(None, order.actions.values()):
        _follow(action_id)
    log_account_request(what, "lead", None, DOOR)
    return json_response(OrderView.model_validate(order).model_dump_json())


def _follow(action_id: str) -> None:
    """Start an action's execution, or tell it of a change. If that fails, the sweep does it a minute later."""
    try:
        _executions.follow(_accounts.action(action_id))
    except ServiceError as error:
        log_refusal(error, DOOR, request_id(app.current_event.raw_event))
