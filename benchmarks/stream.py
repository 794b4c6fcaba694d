"""Payments per CPU second through the Kinesis door, and calls per payment: the whole handler on canned servers.

Batches have 100 payments of the simulator, among so many payers that two payments of one payer in a batch are rare, as
in production. In further rows, half or all of them go to one merchant, which is so busy that its items are sampled. The
servers respond almost at once, because only CPU time and calls are measured. Model calls are calls of the endpoint; the
embedded model makes none.

`state steps` are counted on tables in memory, which refuse updates as DynamoDB does: the steps in which a batch of 100
payers to one merchant is counted, by an environment that knows nothing of the merchant, and by one that does.
"""

import base64
import json
import random
import statistics
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import islice
from time import process_time
from typing import Any

from benchmarks import lives, servers, table, workers
from benchmarks.child import Child
from benchmarks.lives import NOON, TODAY, identifier
from benchmarks.metering import TABLES
from fraud import assembly
from fraud.aws.transport import Request, Result
from fraud.counters.codec import EARLIER, upkeep_update
from fraud.counters.in_memory import InMemoryCounters
from fraud.counters.layout import MERCHANT, SLOTS, Item, Key
from fraud.counters.sampling import Raise
from fraud.decisions.evaluation import Evaluation, Evaluator
from fraud.scoring import scorer
from models.simulation.simulate import simulate
from tests.support.deployment import declared_store
from tests.support.in_memory_dynamodb import InMemoryDynamoDB

BATCH, BATCHES, WARM_UP = 100, 8, 2
PAYERS = 20_000
ANSWER_MS = 0.5
SHARD = "shardId-000000000000"
SHARES = (0, 0.5, 1)
"""Shares of the payments to one merchant."""

HOT = identifier("hot merchant")
HOT_AN_HOUR = 6_000
"""Payments of the merchant in each of the hours of which the servers have items."""

LEVEL = 4
"""Level of the item for which state steps are counted: one attempt in 16 is in its sample."""


def batches(share: float) -> list[dict[str, Any]]:
    """Return Kinesis events. Each is handled at the time of its latest payment.

    share  of the payments to the hot merchant
    """
    payments = [one.transaction for one in islice(simulate(3, TODAY, 1, PAYERS), BATCH * (BATCHES + WARM_UP))]
    made = []
    for start in range(0, len(payments), BATCH):
        chunk = [_paid_to_hot(one) if n < share * BATCH else one for n, one in enumerate(payments[start:][:BATCH])]
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


def _paid_to_hot(payment: Mapping[str, Any]) -> dict[str, Any]:
    return {**payment, "type": "merchant", "payee_id": HOT}


def rows() -> list[table.Row]:
    """Return the figures with their targets: medians over the batches, but the maximum of model calls."""
    found: list[table.Row] = []
    for share in SHARES:
        rate, calls, asked, trips = measured(share)
        if share == 0:
            found += [
                table.target("payments per CPU second", rate, at_least=800),
                table.target("calls per payment", calls, at_most=5.5),
                table.target(f"model calls per batch of {BATCH}", asked, at_most=1),
                {"name": "round trips per batch", "value": trips},
            ]
        found.append({"name": f"{share:.0%} to one merchant", "payments_per_cpu_s": rate, "round_trips": trips})
    steps = state_steps()
    for environment, number in zip(("that knows nothing of it", "that has met it"), steps, strict=True):
        found.append(table.target(f"state steps to a sampled merchant, environment {environment}", number, at_most=4))
    return found


def measured(share: float) -> tuple[float, float, float, float]:
    """Return payments per CPU second, calls per payment, model calls per batch at most, and round trips per batch."""
    with (
        HotServers() as canned,
        workers.Worker("benchmarks.stream", variables=workers.environment("TransactionStream", canned.url)) as worker,
    ):
        found: list[tuple[float, float, int, int]] = []
        for task in batches(share):
            canned.counts()
            cpu = worker.do(task)
            counts = canned.counts()
            trips = counts.pop("round_trips")
            found.append((BATCH / cpu, sum(counts.values()) / BATCH, counts.get("InvokeEndpoint", 0), trips))
    columns = list(zip(*found[WARM_UP:], strict=True))
    rate, calls, _, trips = map(statistics.median, columns)
    return rate, calls, max(columns[2]), trips


# ---- the servers ---------------------------------------------------------------------------------------------------


class HotServers(Child):
    """`benchmarks.servers` in a process of this module, which also has the items of a hot merchant."""

    def __init__(self) -> None:
        super().__init__("benchmarks.stream", "--servers", f"{ANSWER_MS}", f"{ANSWER_MS}")
        self.url = f"http://127.0.0.1:{int(self.hear())}"

    def counts(self) -> dict[str, int]:
        """Return the number of requests by operation, and `round_trips`, since the last question."""
        counted: dict[str, int] = json.loads(self.ask("counts"))
        return counted


class HotAnswers(servers.Answers):
    """Canned responses, with the items of the hot merchant's present hour and of an hour before."""

    def __init__(self) -> None:
        super().__init__()
        self._hot = [servers.typed(row) for row in hot_rows()]

    def __call__(self, operation: str, payload: Mapping[str, Any]) -> bytes:
        """Return the body of the response to a request."""
        if operation == "GetItem":
            return b'{"Item": %b}' % self._row(payload["Key"], today=True)
        return super().__call__(operation, payload)

    def _row(self, key: Mapping[str, Any], *, today: bool) -> bytes:
        if key["pk"]["S"] == MERCHANT.key(HOT):
            return b"{%b,%b}" % (json.dumps(key)[1:-1].encode(), self._hot[not today])
        return super()._row(key, today=today)


def hot_rows() -> list[dict[str, Any]]:
    """Return the item of the hot merchant's present hour, and as much of the item of the hour before as is read."""
    counters, rng = InMemoryCounters(), random.Random(3)
    for hour in (11, 12):
        for n in range(HOT_AN_HOUR):
            at = TODAY + timedelta(hours=hour, seconds=3600 * n / HOT_AN_HOUR)
            paid = {"payer_id": identifier(f"payer-{rng.randrange(PAYERS)}"), "payee_id": HOT, "type": "merchant"}
            counters.count(lives.payment(f"{hour}-{n}", at, device_id=None, **paid))
    hours = NOON.timestamp() // MERCHANT.period
    now, before = (_row_of(counters.items[Key(MERCHANT, HOT, int(hours) - age)]) for age in (0, 1))
    return [now, {name: value for name, value in before.items() if name in EARLIER}]


def _row_of(item: Item) -> dict[str, Any]:
    """Return the attributes of an item as DynamoDB stores them, but its keys."""
    numbers = {f"{scale}{number}": total for scale, each in item.buckets.items() for number, total in each.items()}
    slots = [str(hour * SLOTS + n) for hour, bits in item.slots.items() for n in range(SLOTS) if bits >> n & 1]
    return {
        **{name: {"N": str(total)} for name, total in numbers.items()},
        **{name: {"BS": sorted(tokens)} for name, tokens in item.tokens.items()},
        "d": {"NS": slots},
        "l": {"N": str(item.level)},
    }


def serve() -> None:
    """Run the process behind `HotServers`."""
    servers.Answers = HotAnswers  # type: ignore[misc]
    del sys.argv[1]
    servers.main()


# ---- the worker ----------------------------------------------------------------------------------------------------


class Context:
    """Lambda's context, as far as the handler reads it."""

    @staticmethod
    def get_remaining_time_in_millis() -> int:
        """Return a minute."""
        return 60_000


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
        answer = transaction_stream.handler(task["event"], Context())
        spent = process_time() - start
        assert answer == {"batchItemFailures": []}, answer
        return spent

    workers.work(handle)


# ---- state steps ---------------------------------------------------------------------------------------------------


class Counting:
    """A `fraud.aws.transport.Transport` to tables in memory, which counts the steps in which attempts are counted."""

    def __init__(self) -> None:
        self.tables = InMemoryDynamoDB()
        self.steps = 0

    def gather(self, requests: Sequence[Request], until: float | None = None) -> list[Result]:
        """Carry the requests out."""
        operations = {request.operation for request in requests}
        self.steps += "put_item" not in operations and bool(operations & {"update_item", "get_item"})
        return self.tables.gather(requests, until)


def state_steps() -> tuple[int, int]:
    """Return the state steps of a batch of payers to a merchant whose item is sampled, and those of a second batch."""
    transport, book = Counting(), assembly.rule_book("JPY")
    store = declared_store(transport, TABLES, 400, lambda: NOON, exact=book.exact)
    evaluator = Evaluator(store, scorer.embedded("JPY"), book, lambda: NOON, 60)
    key = Key(MERCHANT, HOT, int(NOON.timestamp()) // MERCHANT.period)
    evaluator.evaluate_all([_payment_to_hot("first")])
    change = {"TableName": TABLES.counters, **upkeep_update(Raise(key, 0, LEVEL))}
    transport.gather([Request("update_item", change)])
    found = []
    for number in (1, 2):
        transport.steps = 0
        results = evaluator.evaluate_all([_payment_to_hot(f"{number}-{n}") for n in range(BATCH)])
        assert all(isinstance(result, Evaluation) for result in results), results
        found.append(transport.steps)
    return found[0], found[1]


def _payment_to_hot(number: str) -> Any:  # noqa: ANN401 - a Transaction
    fields = {"payer_id": identifier(f"payer-{number}"), "device_id": identifier(f"device-{number}")}
    return lives.payment(number, NOON, type="merchant", payee_id=HOT, **fields)


if __name__ == "__main__":
    match sys.argv[1:2]:
        case ["--worker"]:
            worker()
        case ["--servers"]:
            serve()
        case _:
            table.run(rows, __doc__)
