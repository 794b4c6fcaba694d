"""POST /labels: user reports, analysts' findings and chargebacks, up to 100 in one request.

The source of a label is not the caller's to say: it is bound to the caller's role. Every label is answered on its own;
when a service fails in between, the whole request is refused and may be sent again, because what was accepted is
unchanged by it.
"""

from fraud import clock
from fraud.aws.http_api import Event, Response, body_of, caller_arn, respond
from fraud.labels.label import LabelBatch, LabelResults
from fraud.labels.metrics import log_labels
from fraud.labels.store import LabelStore
from fraud.settings import Settings

DOOR = "label_api"

_settings = Settings.from_environment()
_labels = LabelStore(_settings)


def handler(event: Event, _context: object) -> Response:
    """API Gateway HTTP API, payload format 2.0."""
    return respond(DOOR, lambda: label(event).model_dump_json())


def label(event: Event) -> LabelResults:
    """Accept the labels in the body in the name of the caller's source."""
    now = clock.now()
    by = caller_arn(event)
    source = _settings.label_sources.of(by)
    answer = _labels.accept(LabelBatch.parse(body_of(event), now), source, by, now)
    log_labels(answer.results, source, DOOR)
    return answer
