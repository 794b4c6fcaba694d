"""POST /labels: user reports, analysts' findings and chargebacks, up to 100 in one request.

The source of a label is not the caller's to say: it is bound to the caller's role. Every label is answered on its own;
when a service fails in between, the whole request is refused and may be sent again, because what was accepted is
unchanged by it.
"""

from typing import Any

from fraud import settings, telemetry
from fraud.errors import FraudError, problem
from fraud.label_store import LabelStore
from fraud.labels import LabelBatch, LabelResults
from fraud.settings import Settings
from fraud.transaction import body_of

DOOR = "labels"
Event = dict[str, Any]

_settings = Settings.from_environment()
_labels = LabelStore(_settings)


def handler(event: Event, _context: object) -> dict[str, Any]:
    """API Gateway HTTP API, payload format 2.0."""
    try:
        results = label(event)
    except FraudError as error:
        telemetry.refused(error, error.status, DOOR)
        return problem(error)
    return {"statusCode": 200, "headers": {"content-type": "application/json"}, "body": results.model_dump_json()}


def label(event: Event) -> LabelResults:
    """Accept the labels in the body in the name of the caller's source."""
    now = settings.clock()
    caller = event["requestContext"]["authorizer"]["iam"]["userArn"]
    source = _settings.label_sources.of(caller)
    answer = _labels.accept(LabelBatch.parse(body_of(event), now), source, caller, now)
    telemetry.labelled(answer.results, source, DOOR)
    return answer
