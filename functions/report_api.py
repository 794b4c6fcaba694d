"""POST /reports: what users report about payments, up to 100 in one request. GET /reports/{report_id} shows one.

The same with `?id=` instead of the path, for ids that are awkward in one. Each report has a result of its own. When a
service fails on the way, the whole request is refused and may be sent again: stored reports stay as they are.
"""

from typing import Any

from aws_lambda_powertools.event_handler import Response

from fraud import assembly, clock
from fraud.aws.http_api import body_of
from fraud.aws.routes import id_asked, json_response, resolver
from fraud.cases.report import ReportBatch
from fraud.cases.report_metrics import log_reports
from fraud.cases.report_store import ReportStore
from fraud.settings import Settings

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
    return json_response(_reports.show(id_asked(app, "report_id")).model_dump_json())
