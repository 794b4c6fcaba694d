"""Models, for leads: GET /models, POST /models, and what is decided of one model, under /models/{version}.

API Gateway checks the token, and this door the groups in it. An analyst reads; a lead has a model trained again,
approves or rejects the one that waits, and rolls the champion back in one call. Each request may be sent again; a
second, different one gets 409 with the state. After a change the execution of the retraining is started or told.
"""

from typing import Any

from aws_lambda_powertools.event_handler import Response

from fraud import assembly, clock
from fraud.aws.http_api import body_of, claims_of, request_id
from fraud.aws.metrics import log_refusal
from fraud.aws.routes import json_response, resolver
from fraud.errors import ForbiddenError, NotFoundError, ServiceError
from fraud.person import Person, person_of
from fraud.retraining.console import ModelsView, ReasonRequest, RetrainRequest
from fraud.retraining.metrics import log_model_request
from fraud.retraining.retraining import Actor, Retraining, RetrainingEvent
from fraud.scoring.store import Registry
from fraud.settings import Settings

DOOR = "model_api"

_settings = Settings.from_environment()
_retrainings, _registry = assembly.retrainings(_settings), Registry(_settings)
_executions = assembly.retraining_executions(_settings)
app = resolver(DOOR)


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:  # noqa: ANN401 - Lambda's context has no public type
    """Handle a request of an API Gateway HTTP API, payload format 2.0."""
    return app.resolve(event, context)


@app.get("/models")
def show() -> Response[str]:
    """Show the models in use, and a page of the retrainings with their gates' reports."""
    _person()
    page = _retrainings.history((app.current_event.query_string_parameters or {}).get("cursor"))
    return json_response(ModelsView.of(_registry.read(), page.retrainings, page.cursor).model_dump_json())


@app.post("/models")
def retrain() -> Response[str]:
    """Have a model trained again."""
    lead = _lead()
    cause = RetrainRequest.parse(_body()).cause(lead.name)
    return _changed(_retrainings.open(cause, lead, clock.now()), "retrain")


@app.post("/models/[^/]+/rollback")
def roll_back() -> Response[str]:
    """Bring back the champion before this one, or end the trial of a challenger."""
    lead, reason = _lead(), ReasonRequest.parse(_body()).reason
    return _changed(_retrainings.roll_back(_version(), reason, lead, clock.now()), "rollback")


@app.post("/models/[^/]+/(?s:.+)")
def decide() -> Response[str]:
    """Approve or reject the model that waits."""
    lead, action = _lead(), app.current_event.raw_event["routeKey"].rpartition("/")[2]
    if action not in _DECISIONS:
        raise NotFoundError
    event = RetrainingEvent(kind=_DECISIONS[action], reason=ReasonRequest.parse(_body()).reason)
    row = _retrainings.of_model(_version())
    return _changed(_retrainings.change(row.retraining_id, event, lead, clock.now()), action)


_DECISIONS = {"approve": "approved", "reject": "rejected"}


def _person() -> Person:
    """Return who calls. Raises ForbiddenError for a token without a group of ours."""
    return person_of(claims_of(app.current_event.raw_event), _settings.jwt_groups_claim)


def _lead() -> Actor:
    """Return the lead who calls. Raises ForbiddenError for anybody else."""
    name, role = _person()
    if role != "lead":
        raise ForbiddenError
    return Actor(name, "lead")


def _version() -> str:
    return (app.current_event.path_parameters or {})["version"]


def _body() -> str | bytes:
    return body_of(app.current_event.raw_event) or "{}"


def _changed(row: Retraining, action: str) -> Response[str]:
    """Start the execution of a changed retraining, or tell it of the change, and show the retraining.

    If the execution cannot be told, the sweep does it a minute later.
    """
    try:
        _executions.follow(row)
    except ServiceError as error:
        log_refusal(error, DOOR, request_id(app.current_event.raw_event))
    log_model_request(action, row.retraining_id, DOOR)
    return json_response(row.model_dump_json())
