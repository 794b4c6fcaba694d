"""The one reader of the decision table's stream: what follows from a decision hangs here, not on the caller's time.

It publishes DecisionMade for each new decision. Redelivery publishes the same event_id again; consumers drop it.
"""

from typing import Any

from fraud import telemetry
from fraud.decision import DecisionMade
from fraud.errors import ServiceError
from fraud.outbox import Event, Outbox
from fraud.settings import Settings

DOOR = "decision_events"

_outbox = Outbox(Settings.from_environment())


def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """DynamoDB stream mapping with ReportBatchItemFailures, filtered to new decisions by template.yaml."""
    records = [record["dynamodb"] for record in event["Records"]]
    made = [Event("DecisionMade", DecisionMade.of(_strings(record["NewImage"]))) for record in records]
    try:
        refused = _outbox.publish(made)
    except ServiceError as error:
        telemetry.refused(error, error.status, DOOR)
        refused = [0]
    # A stream restarts from the lowest failed record, so naming that one is enough; what follows is published again.
    return {"batchItemFailures": [{"itemIdentifier": records[n]["SequenceNumber"]} for n in refused[:1]]}


def _strings(image: dict[str, dict[str, Any]]) -> dict[str, str]:
    return {name: value["S"] for name, value in image.items() if "S" in value}
