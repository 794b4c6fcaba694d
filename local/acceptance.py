"""`make acceptance`: what CI shows with hundreds of payments, with thousands; every line printed is a figure to quote.

`HANDBOOK=path/to/handbook.parquet make acceptance` adds the payments of the Fraud Detection Handbook's simulation,
which are not part of this project.
"""

import argparse
import signal
import sys
from collections.abc import Iterable, Sequence
from datetime import date
from itertools import islice
from pathlib import Path
from typing import Any

from fraud import features
from fraud.memory import InMemoryCounters
from fraud.transaction import Transaction
from fraud.windows import measure
from local import handbook
from local.box import Box
from local.replay import Report, in_event_order, replay
from models.simulate import DEFAULT_START, simulate

Payment = dict[str, Any]
HANDBOOK_DAY = date(2018, 4, 25)


def simulated(limit: int) -> list[Payment]:
    """Payments of the simulator, in event order."""
    return [payment.transaction for payment in islice(simulate(3, DEFAULT_START, 14, 300), limit)]


def from_handbook(path: Path, limit: int) -> list[Payment]:
    """Payments of the handbook's data, in event order."""
    return [imported.payment for imported in handbook.read(path, HANDBOOK_DAY, limit)]


def by_api(payments: Sequence[Payment]) -> tuple[Report, dict[str, bytes]]:
    """Send payments through the API of a box, each twice; the report, and the feature snapshot of every decision."""
    with Box(parameters={"Currency": payments[0]["currency"]}) as box:
        report = replay(payments, box.connect)
        tables = box.client("dynamodb")
        pages = tables.get_paginator("scan").paginate(
            TableName=box.stack.functions[0].environment["DECISIONS_TABLE"], ProjectionExpression="pk, features"
        )
        return report, {row["pk"]["S"]: row["features"]["B"] for page in pages for row in page["Items"]}


def offline(payments: Iterable[Payment]) -> dict[str, bytes]:
    """The same snapshots as training computes them: counters in memory, no network."""
    counters = InMemoryCounters()
    snapshots = {}
    for payment in payments:
        transaction = Transaction.model_validate(payment)
        values = measure(transaction, counters.count(transaction))
        snapshots[transaction.transaction_id] = features.pack(features.vector(transaction, values))
    return snapshots


def parity(name: str, payments: Sequence[Payment]) -> bool:
    """Decide by API and compare every feature with its offline twin, bit for bit."""
    ordered = in_event_order(payments)
    report, online = by_api(ordered)
    expected = offline(ordered)
    different = sum(online.get(id_) != snapshot for id_, snapshot in expected.items())
    errors = report.failed + report.refused.total()
    print(
        f"{name}: {report.decided} payments decided by API, {errors} errors, {report.lost} lost,"
        f" {report.twice} decided twice; {different} feature vectors differ from offline"
    )
    return report.sound and not errors and not different and len(online) == len(expected)


def main() -> int:
    """Run everything; the exit status says whether all figures are as they must be."""
    parser = argparse.ArgumentParser(prog="python -m local.acceptance", description=__doc__)
    parser.add_argument("--payments", type=int, default=2_000)
    parser.add_argument("--handbook", type=Path)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the box is taken down
    worlds = {"simulator": simulated(options.payments)}
    if options.handbook is not None:
        worlds["handbook"] = from_handbook(options.handbook, options.payments)
    sound = [parity(name, payments) for name, payments in worlds.items()]
    return int(not all(sound))


if __name__ == "__main__":
    sys.exit(main())
