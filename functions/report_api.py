"""POST /reports: what users report about payments, up to 100 in one request. GET /reports/{report_id} shows one.

The same with `?id=` instead of the path, for ids that are awkward in one. Each report has a result of its own. When a
service fails on the way, the whole request is refused and may be sent again: stored reports stay as they are.
"""

from typing import Any

from aws_lambda_powertools.event_handler import Response

from fraud import assembly, clock
from fraud.aws.http_api import body_of
from fraud.aws.routes import json_response, resolver
from fraud.cases.report import ReportBatch
from fraud.cases.report_metrics import log_reports
from fraud.cases.report_store import ReportStore
from fraud.errors import Fault, InvalidRequestError, NotFoundError
from fraud.settings import Settings
from fraud.transaction import is_id

DOOR = "report_api"

_reports = ReportStore(Settings.from_environment())
_triage = assembly.triage()
app = resolver(DOOR)


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:  # noqa: ANN401 - Lambda's context has no public type
    """Handle a request of an API Gateway HTTP API, payload format 2.0."""
    return app.resolve(event, context)


@app.post("/reports")
def report() -> Response[str]:
    """Store the reports in the body, and say what triage makes of each."""
    now = clock.now()
    batch = ReportBatch.parse(body_of(app.current_event.raw_event), now)
    answer = _reports.accept(batch, _triage, now)
    log_reports(answer.results, DOOR)
    return json_response(answer.model_dump_json())


@app.get("/reports")
@app.get("/reports/(?s:.+)")
def show() -> Response[str]:
    """Show the state of a report, without its text."""
    event = app.current_event
    name = (event.path_parameters or {}).get("report_id")
    if name is None:
        asked = event.query_string_parameters.get("id")
        if asked is None:
            raise InvalidRequestError((Fault("id", "missing", "is required"),))
        name = asked.replace(" ", "+")  # a query's plus sign means a space, which no id has
    if not is_id(name):
        raise NotFoundError
    return json_response(_reports.show(name).model_dump_json())
