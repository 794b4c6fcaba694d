"""Payments per CPU second through the Kinesis door, and what they cost in calls: the whole handler, canned servers.

Batches of 100 payments of the simulator among so many payers that they rarely meet, as in life. The servers answer at
once: CPU and calls are the figures here. Model calls are those to the endpoint; the embedded model makes none.
"""

import base64
import json
import statistics
import sys
from collections.abc import Mapping
from datetime import datetime
from itertools import islice
from time import process_time
from typing import Any

from benchmarks import table, workers
from benchmarks.lives import TODAY
from benchmarks.servers import Servers
from models.simulation.simulate import simulate

BATCH, BATCHES, WARM_UP = 100, 8, 2
PAYERS = 20_000
ANSWER_MS = 0.5
SHARD = "shardId-000000000000"


def batches() -> list[dict[str, Any]]:
    """Kinesis events, each with the time at which it is handled: its latest payment's."""
    payments = [one.transaction for one in islice(simulate(3, TODAY, 1, PAYERS), BATCH * (BATCHES + WARM_UP))]
    made = []
    for start in range(0, len(payments), BATCH):
        chunk = payments[start : start + BATCH]
        records = [
            {
                "eventID": f"{SHARD}:{start + n}",
                "eventSource": "aws:kinesis",
                "kinesis": {
                    "data": base64.b64encode(json.dumps(payment).encode()).decode(),
                    "partitionKey": payment["payer_id"],
                    "sequenceNumber": f"{start + n}",
                },
            }
            for n, payment in enumerate(chunk)
        ]
        made.append({"event": {"Records": records}, "now": chunk[-1]["occurred_at"]})
    return made


def rows() -> list[table.Row]:
    """The medians of the batches, of model calls the most, and how the targets were met."""
    orders = batches()
    with (
        Servers(ANSWER_MS, ANSWER_MS) as servers,
        workers.Worker("benchmarks.stream", variables=workers.environment("TransactionStream", servers.url)) as worker,
    ):
        found = []
        for order in orders:
            servers.counts()
            cpu = worker.do(order)
            counts = servers.counts()
            trips = counts.pop("round_trips")
            asked = counts.get("InvokeEndpoint", 0)
            found.append((BATCH / cpu, sum(counts.values()) / BATCH, asked, trips))
    columns = list(zip(*found[WARM_UP:], strict=True))
    rate, calls, _, trips = map(statistics.median, columns)
    asked = max(columns[2])
    return [
        table.target("payments per CPU second", rate, at_least=800),
        table.target("calls per payment", calls, at_most=5.5),
        table.target(f"model calls per batch of {BATCH}", asked, at_most=1),
        {"name": "round trips per batch", "value": trips},
    ]


def worker() -> None:
    """The process with the handler: CPU seconds of each batch; none may fail or be set aside."""
    from fraud import clock  # noqa: PLC0415 - its environment is this process's
    from functions import transaction_stream  # noqa: PLC0415

    def handle(order: Mapping[str, Any]) -> float:
        now = datetime.fromisoformat(order["now"])
        clock.source = lambda: now
        start = process_time()
        answer = transaction_stream.handler(order["event"], None)
        spent = process_time() - start
        assert answer == {"batchItemFailures": []}, answer
        return spent

    workers.work(handle)


if __name__ == "__main__":
    worker() if sys.argv[1:2] == ["--worker"] else table.run(rows, __doc__)
