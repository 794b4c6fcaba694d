"""What becomes of a decision: GET /decisions/{transaction_id}, POST .../challenge and POST .../result.

The same with `?id=` instead of the path, for ids that are awkward in one. The app says how the payer's challenge ended
and what became of the payment; each answer may be sent again. A second, different one gets 409 with the state.
"""

from typing import Any

from aws_lambda_powertools.event_handler import Response

from fraud import assembly, clock
from fraud.aws.http_api import body_of
from fraud.aws.routes import id_asked, json_response, resolver
from fraud.decisions.metrics import log_resolution
from fraud.decisions.resolution import ChallengeAnswer, ResultReport, view
from fraud.decisions.worker import Known
from fraud.settings import Settings

DOOR = "resolution_api"

_resolutions = assembly.resolutions(Settings.from_environment())
app = resolver(DOOR)


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:  # noqa: ANN401 - Lambda's context has no public type
    """Handle a request of an API Gateway HTTP API, payload format 2.0."""
    return app.resolve(event, context)


@app.get("/decisions")
@app.get("/decisions/(?s:.+)")
def show() -> Response[str]:
    """Show a decision as it was given, its status now and its history."""
    return _shown(_resolutions.find(id_asked(app, "transaction_id")))


@app.post("/decisions/challenge")
@app.post("/decisions/(?s:.+)/challenge")
def challenge() -> Response[str]:
    """Take how the payer's challenge ended."""
    return _changed(ChallengeAnswer)


@app.post("/decisions/result")
@app.post("/decisions/(?s:.+)/result")
def result() -> Response[str]:
    """Take what became of the payment."""
    return _changed(ResultReport)


def _changed(model: type[ChallengeAnswer | ResultReport]) -> Response[str]:
    name = id_asked(app, "transaction_id")
    request = model.parse(body_of(app.current_event.raw_event), clock.now())
    method = request.method if isinstance(request, ChallengeAnswer) else None
    known = _resolutions.change(name, request.change, request.at, method)
    if known.changed:
        log_resolution(request.change, DOOR)
    return _shown(known)


def _shown(known: Known) -> Response[str]:
    return json_response(view(known.answer, known.resolution, clock.now()).decode())
