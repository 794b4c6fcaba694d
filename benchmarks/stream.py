"""Payments per CPU second through the Kinesis door, and calls per payment: the whole handler on canned servers.

Batches have 100 payments of the simulator, among so many payers that two payments of one payer in a batch are rare, as
in production. The servers respond almost at once, because only CPU time and calls are measured. Model calls are calls
of the endpoint; the embedded model makes none.
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
    """Return Kinesis events. Each is handled at the time of its latest payment."""
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
    """Return the figures with their targets: medians over the batches, but the maximum of model calls."""
    tasks = batches()
    with (
        Servers(ANSWER_MS, ANSWER_MS) as servers,
        workers.Worker("benchmarks.stream", variables=workers.environment("TransactionStream", servers.url)) as worker,
    ):
        found = []
        for task in tasks:
            servers.counts()
            cpu = worker.do(task)
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
    """Run the process with the handler. It answers each batch with its CPU seconds.

    A record that fails fails an assertion.
    """
    from fraud import clock  # noqa: PLC0415 - its environment is this process's
    from functions import transaction_stream  # noqa: PLC0415

    def handle(task: Mapping[str, Any]) -> float:
        now = datetime.fromisoformat(task["now"])
        clock.source = lambda: now
        start = process_time()
        answer = transaction_stream.handler(task["event"], None)
        spent = process_time() - start
        assert answer == {"batchItemFailures": []}, answer
        return spent

    workers.work(handle)


if __name__ == "__main__":
    worker() if sys.argv[1:2] == ["--worker"] else table.run(rows, __doc__)
