"""POST /invitations: which account has brought which into the app, up to 100 in one request.

Each invitation has a result of its own. When a service fails on the way, the whole request is refused and may be sent
again: an invitation that comes twice is archived twice, and its readers keep one.
"""

from typing import Any

from aws_lambda_powertools.event_handler import Response

from fraud import assembly, clock
from fraud.aws.http_api import body_of
from fraud.aws.routes import json_response, resolver
from fraud.invitations.batch import InvitationBatch
from fraud.invitations.metrics import log_invitations
from fraud.settings import Settings

DOOR = "invitation_api"

_archive = assembly.invitation_archive(Settings.from_environment())
app = resolver(DOOR)


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:  # noqa: ANN401 - Lambda's context has no public type
    """Handle a request of an API Gateway HTTP API, payload format 2.0."""
    return app.resolve(event, context)


@app.post("/invitations")
def invite() -> Response[str]:
    """Archive the invitations in the body."""
    now = clock.now()
    batch = InvitationBatch.parse(body_of(app.current_event.raw_event), now)
    _archive.keep(batch.accepted, now)
    answer = batch.answer
    faults = [fault for each in answer.results for fault in each.errors]
    log_invitations(len(batch.accepted), len(answer.results) - len(batch.accepted), faults, DOOR)
    return json_response(answer.model_dump_json())
