"""POST /labels: user reports, analysts' findings and chargebacks, up to 100 in one request.

A caller cannot choose the source of a label: the source is bound to the caller's role. Every label has a result of its
own. When a service fails on the way, the whole request is refused. It may be sent again, because labels that were
already accepted stay unchanged. The source `backfill` loads labels of the time before the stack's first decision.
"""

from typing import Any

from aws_lambda_powertools.event_handler import Response

from fraud import assembly, clock
from fraud.aws.http_api import body_of, caller_arn
from fraud.aws.routes import json_response, resolver
from fraud.labels.label import LabelBatch
from fraud.labels.metrics import log_labels
from fraud.labels.store import LabelStore
from fraud.settings import Settings

DOOR = "label_api"

_settings = Settings.from_environment()
_sources = assembly.label_sources(_settings)
_labels = LabelStore(_settings, _sources.ranking)
app = resolver(DOOR)


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:  # noqa: ANN401 - Lambda's context has no public type
    """Handle a request of an API Gateway HTTP API, payload format 2.0."""
    return app.resolve(event, context)


@app.post("/labels")
def label() -> Response[str]:
    """Accept the labels in the body as labels of the caller's source."""
    now, event = clock.now(), app.current_event.raw_event
    by = caller_arn(event)
    source = _sources.of(by)
    batch = LabelBatch.parse(body_of(event), now)
    answer = _labels.accept(batch, source, by, now, _sources.dates_back_to(source))
    log_labels(answer.results, source, DOOR)
    return json_response(answer.model_dump_json())
