"""Convert payments of the Fraud Detection Handbook's simulation to a HISTORY_DIR.

`python -m models.datasets.handbook FILE OUT_DIR [--label-delay-days 7] [--from 2018-04-25] [--limit 2000]`

The data has a customer, a terminal, seconds since 2018-04-01 and an amount. It has no device, so every payer gets one
device, which tells nothing about the label. The label of a payment goes to the labels only, not into the payment.
"""

import argparse
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from fraud.iso import DIGITS
from models.datasets import history
from models.simulation.simulate import Labelled

EPOCH = datetime(2018, 4, 1, tzinfo=UTC)
"""The time from which the data counts its seconds."""

KNOWN_AFTER = timedelta(days=7)
"""Delay that the handbook assumes between a payment and the day on which its label is known."""

COLUMNS = ["tx_id", "t", "customer", "terminal", "amount", "fraud"]
CURRENCY = "JPY"
"""The data names no currency. Its hundredths are taken for yen, which are amounts as the packaged policy means them."""

CENTS = 100


def read(  # noqa: PLR0913, PLR0917 - a file, and what is read of it
    path: Path,
    first: date,
    limit: int | None,
    end: datetime | None = None,
    known_after: timedelta = KNOWN_AFTER,
    currency: str = CURRENCY,
) -> Iterator[Labelled]:
    """Yield at most `limit` payments in event order, from midnight UTC of `first` until before `end`."""
    chosen = pc.field("t") >= _seconds(datetime.combine(first, time(), UTC))
    if end is not None:
        chosen &= pc.field("t") < _seconds(end)
    table = pyarrow.parquet.read_table(path, columns=COLUMNS, filters=chosen).sort_by([("t", "ascending")])
    for batch in table.slice(0, limit).to_batches(history.AT_ONCE):
        for row in batch.to_pylist():
            known_at = EPOCH + timedelta(seconds=int(row["t"])) + known_after
            payment = _payment(row, currency)
            yield Labelled(payment, "fraud" if row["fraud"] else "legitimate", None, known_at, "chargeback")


def _seconds(instant: datetime) -> int:
    return int((instant - EPOCH).total_seconds())


def _payment(row: dict[str, Any], currency: str) -> dict[str, Any]:
    customer = int(row["customer"])
    return {
        "transaction_id": f"handbook-{row['tx_id']}",
        "type": "merchant",
        "payer_id": f"customer-{customer}",
        "payee_id": f"terminal-{row['terminal']}",
        "amount": max(round(row["amount"] * CENTS), 1),
        "currency": currency,
        "occurred_at": (EPOCH + timedelta(seconds=int(row["t"]))).isoformat(),
        "device_id": f"device-{customer}",
        "ip": f"10.{customer >> 16 & 255}.{customer >> 8 & 255}.{customer & 255}",
        "channel": "app",
    }


def main() -> int:
    """Write the HISTORY_DIR, and print the number of payments. Return 2 if the file cannot be read."""
    parser = argparse.ArgumentParser(prog="python -m models.datasets.handbook", description=__doc__)
    parser.add_argument("file", type=Path, metavar="FILE.parquet")
    parser.add_argument("out", type=Path, metavar="OUT_DIR")
    parser.add_argument("--label-delay-days", type=float, default=KNOWN_AFTER.days)
    parser.add_argument("--from", dest="first", type=date.fromisoformat, default=EPOCH.date())
    parser.add_argument("--limit", type=int)
    parser.add_argument("--currency", choices=sorted(DIGITS), metavar="CODE", default=CURRENCY)
    options = parser.parse_args()
    delay = timedelta(days=options.label_delay_days)
    try:
        labelled = read(options.file, options.first, options.limit, known_after=delay, currency=options.currency)
        counts = history.write(options.out, history.of(labelled))
    except (OSError, pa.ArrowException) as error:
        print(f"{options.file}: cannot be read: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print(history.told(options.out, counts, options.currency))
    return 0


if __name__ == "__main__":
    sys.exit(main())
