"""Payments for tests: a valid body with whatever a test cares about put over it."""

import json
from datetime import UTC, datetime
from typing import Any

from fraud.transaction import Transaction

NOON = datetime(2026, 3, 4, 12, 0, 0, tzinfo=UTC)


def body(**fields: Any) -> dict[str, Any]:
    """The JSON of POST /decisions as a dictionary; a field given as None is left out."""
    payment = {
        "transaction_id": "t-1",
        "type": "p2p",
        "payer_id": "payer-1",
        "payee_id": "payee-1",
        "amount": 1200,
        "currency": "JPY",
        "occurred_at": "2026-03-04T12:00:00Z",
        "device_id": "device-1",
    }
    return {name: value for name, value in (payment | fields).items() if value is not None}


def payment(**fields: Any) -> Transaction:
    """A parsed payment."""
    return Transaction.model_validate_json(json.dumps(body(**fields), default=str))
