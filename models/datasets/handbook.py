"""Convert payments of the Fraud Detection Handbook's simulation to files that `local.replay` reads.

`python -m models.datasets.handbook DATA.parquet --from 2018-04-25 --limit 2000 --out payments.jsonl --labels
labels.jsonl`

The data has a customer, a terminal, seconds since 2018-04-01 and an amount. It has no device, so every payer gets one
device, which tells nothing about the label. The label of a payment goes to the labels file only, not into the payment.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet

from models.simulation.simulate import Labelled

EPOCH = datetime(2018, 4, 1, tzinfo=UTC)
"""The time from which the data counts its seconds."""

KNOWN_AFTER = timedelta(days=7)
"""Delay that the handbook assumes between a payment and the day on which its label is known."""

CURRENCY = "EUR"
CENTS = 100


def read(path: Path, first: date, limit: int | None, end: datetime | None = None) -> Iterator[Labelled]:
    """Yield at most `limit` payments in event order, from midnight UTC of `first` until before `end`."""
    chosen = pc.field("t") >= _seconds(datetime.combine(first, time(), UTC))
    if end is not None:
        chosen &= pc.field("t") < _seconds(end)
    table = pyarrow.parquet.read_table(path, filters=chosen).sort_by([("t", "ascending")])
    for row in table.slice(0, limit).to_pylist():
        known_at = EPOCH + timedelta(seconds=int(row["t"])) + KNOWN_AFTER
        yield Labelled(_payment(row), "fraud" if row["fraud"] else "legitimate", None, known_at, "chargeback")


def _seconds(instant: datetime) -> int:
    return int((instant - EPOCH).total_seconds())


def _payment(row: dict[str, Any]) -> dict[str, Any]:
    customer = int(row["customer"])
    return {
        "transaction_id": f"handbook-{row['tx_id']}",
        "type": "merchant",
        "payer_id": f"customer-{customer}",
        "payee_id": f"terminal-{row['terminal']}",
        "amount": max(round(row["amount"] * CENTS), 1),
        "currency": CURRENCY,
        "occurred_at": (EPOCH + timedelta(seconds=int(row["t"]))).isoformat(),
        "device_id": f"device-{customer}",
        "ip": f"10.{customer >> 16 & 255}.{customer >> 8 & 255}.{customer & 255}",
        "channel": "app",
    }


def main() -> int:
    """Write payments and labels as JSON lines to two files."""
    parser = argparse.ArgumentParser(prog="python -m models.datasets.handbook", description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--from", dest="first", type=date.fromisoformat, default=EPOCH.date())
    parser.add_argument("--limit", type=int)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--labels", type=Path, required=True)
    options = parser.parse_args()
    with options.out.open("w") as payments, options.labels.open("w") as labels:
        for each in read(options.data, options.first, options.limit):
            print(json.dumps(each.transaction), file=payments)
            transaction_id, reported_at = each.transaction["transaction_id"], each.reported_at.isoformat()
            known = {"transaction_id": transaction_id, "label": each.label, "reported_at": reported_at}
            print(json.dumps(known), file=labels)
    return 0


if __name__ == "__main__":
    sys.exit(main())
