"""Reports for tests: the app that sends them, the body of one, and a decision that one can be about."""

import json
from datetime import timedelta
from typing import Any

from fraud.counters import windows
from fraud.decisions.record import PACKED, Contents
from fraud.transaction import utc
from tests.support.own_door import OwnDoor
from tests.support.payments import NOON, payment

APP = "arn:aws:sts::123456789012:assumed-role/payment-app/backend"


def decide(door: OwnDoor, name: str, **fields: Any) -> None:
    """Store the decision of a payment as the hot path does: the payer's first to this payee."""
    counters = dict.fromkeys(windows.NAMES, 0.0) | {"pair_count_30d": 1.0, "payer_count_30d": 1.0}
    answer = {"outcome": "approve", "score": 0.01, "reasons": []}
    paid = payment(transaction_id=name, **fields)
    contents = Contents(paid.canonical, json.dumps(list(counters.values())).encode(), json.dumps(answer).encode())
    door.dynamodb.put_item(TableName="decisions", Item={"pk": {"S": name}, PACKED: {"B": contents.packed()}})


def said(name: str, **fields: Any) -> dict[str, Any]:
    """Return a report of POST /reports a day after the payment; a field that is given as None is left out."""
    report = {
        "report_id": name,
        "transaction_id": "t-1",
        "reporter_id": "payer-1",
        "category": "other",
        "text": "困っています",
        "reported_at": utc(NOON + timedelta(days=1)),
    } | fields
    return {field: value for field, value in report.items() if value is not None}
