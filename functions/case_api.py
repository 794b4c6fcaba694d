"""Cases, for analysts and leads: GET and POST /cases, POST /cases/next, and what is done with one case.

API Gateway checks the token, and this door the groups in it: no one else gets an answer about a case. A change names
the version of the case that the person has seen, and may be sent again; a second, different one gets 409 with the case
as it is, and of two verdicts the later one with the winner. After a change the waiting execution is told.
"""

from typing import Any

from aws_lambda_powertools.event_handler import Response

from fraud import assembly, clock
from fraud.aws.http_api import body_of, claims_of, request_id
from fraud.aws.metrics import log_refusal
from fraud.aws.routes import json_response, resolver
from fraud.cases import console
from fraud.cases.blindness import mentioned, shown
from fraud.cases.case import Actor, Case, is_case_id
from fraud.cases.evidence import MOST_REPORTS, Joined
from fraud.cases.evidence_store import Snapshots
from fraud.cases.metrics import log_case_request
from fraud.cases.report_store import ReportStore
from fraud.cases.store import Cases
from fraud.errors import NotFoundError, ServiceError
from fraud.person import person_of
from fraud.settings import Settings

DOOR = "case_api"

_settings = Settings.from_environment()
_cases, _snapshots = Cases(_settings), Snapshots(_settings)
_decisions, _reports = assembly.resolutions(_settings), ReportStore(_settings)
_executions = assembly.case_executions(_settings)
app = resolver(DOOR)


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:  # noqa: ANN401 - Lambda's context has no public type
    """Handle a request of an API Gateway HTTP API, payload format 2.0."""
    return app.resolve(event, context)


@app.get("/cases")
def show_list() -> Response[str]:
    """Show a page of a list: the cases of a subject, those of an assignee, or the queue of a level."""
    actor = _actor()
    asked = console.CaseQuery.parse(app.current_event.query_string_parameters, actor.name)
    page = _cases.listed(asked)
    return json_response(console.CasePage.of(page.cases, page.cursor, asked).model_dump_json())


@app.post("/cases")
def open_by_hand() -> Response[str]:
    """Open a case for a payment, or let the payment join the case of its subject and day."""
    actor, request = _actor(), console.OpenRequest.parse(_body())
    alert = request.alert(_cases.payment(request.transaction_id))
    return _changed(_cases.open(alert, clock.now(), actor, request.reason), "opened", actor)


@app.post("/cases/next")
def take_next() -> Response[str]:
    """Give the caller the case that is due first, with a lease."""
    actor, request = _actor(), console.NextRequest.parse(_body())
    case = _cases.take_next(actor, clock.now(), request.request_id)
    log_case_request("next", actor.role, None if case is None else case.case_id, DOOR)
    return json_response(console.NextCase(case=case).model_dump_json())


@app.get("/cases/[^/]+/evidence")
def show_evidence() -> Response[str]:
    """Show the evidence of a case, what has joined it since, and its reports, and record who has looked at it."""
    actor, name, now = _actor(), _name(), clock.now()
    document = _snapshots.read(name)
    if document is None:
        raise NotFoundError
    case, looks = _cases.look(name, actor, now)
    joined = Joined.of(document, case, _decisions.read, now)
    reports = _reports.with_texts(case.reports[-MOST_REPORTS:])
    told = {*mentioned(document), *joined.transaction_ids, *(each.transaction_id for each in reports)}
    hidden = _cases.blind(told)
    seen = shown(document, hidden, is_blind=case.is_blind)
    reports = [each.without(hidden) for each in reports]
    return json_response(console.evidence_view(seen, joined.without(hidden), reports, looks))


@app.get("/cases/[^/]+")
def show() -> Response[str]:
    """Show a case and a page of its changes."""
    _actor()
    name = _name()
    case = _cases.get(name)
    changes, cursor = _cases.changes(name, app.current_event.query_string_parameters.get("cursor"))
    return json_response(console.CaseView(case=case, changes=changes, cursor=cursor).model_dump_json())


@app.post("/cases/[^/]+/(?s:.+)")
def act() -> Response[str]:
    """Carry out what a person does with a case."""
    actor, name = _actor(), _name()
    action = app.current_event.raw_event["routeKey"].partition("{case_id}/")[2]
    if action not in console.ACTIONS:
        raise NotFoundError
    request = console.ACTIONS[action].parse(_body())
    return _changed(_cases.change(name, request.event, actor, clock.now(), seen=request.version), action, actor)


def _actor() -> Actor:
    return Actor(*person_of(claims_of(app.current_event.raw_event), _settings.jwt_groups_claim))


def _name() -> str:
    """Return the id in the path. Raises NotFoundError for a text that no case has as its id."""
    name = (app.current_event.path_parameters or {})["case_id"]
    if not is_case_id(name):
        raise NotFoundError
    return name


def _body() -> str | bytes:
    return body_of(app.current_event.raw_event) or "{}"


def _changed(case: Case, action: str, actor: Actor) -> Response[str]:
    """Start the execution of a changed case, or tell it of the change, and show the case.

    If the execution cannot be told, the sweep does it a minute later.
    """
    try:
        _executions.follow(case)
    except ServiceError as error:
        log_refusal(error, DOOR, request_id(app.current_event.raw_event))
    log_case_request(action, actor.role, case.case_id, DOOR)
    return json_response(case.model_dump_json())
