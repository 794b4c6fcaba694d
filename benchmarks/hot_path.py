"""Measure one decision through the whole handler, from event to response, with log and metrics, on canned servers.

DynamoDB responds after 4 ms and the model's endpoint after 5 ms. Every row runs in its own process, in five interleaved
rounds; figures are medians of the rounds. "floor" sends the bytes that "ours" sent, by bare sockets to the same server,
in the same steps and without any other work. It shows the time of the network alone. CPU time is that of all threads of
the process.
"""

import json
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from time import perf_counter, process_time
from typing import Any

from benchmarks import lives, table, workers
from benchmarks.lives import NOON, identifier
from benchmarks.servers import Servers

ROUNDS = 5
WARM_UP = 20
ALONE = 5
REQUESTS: Mapping[str, int] = {
    "ours": 200,
    "floor": 200,
    "ours tls": 100,
    "boto3 threads": 40,
    "boto3 sequential": 25,
    "pynamodb sequential with idempotency writes": 25,
}
MODULE = "benchmarks.hot_path"


def event(number: str) -> dict[str, Any]:
    """Return API Gateway's event of POST /decisions. Each number gives another payment between other parties."""
    parties = {role: identifier(f"{role}-{number}") for role in ("payer_id", "payee_id", "device_id")}
    body = lives.payment(number, NOON, **parties).canonical.decode()
    return {"version": "2.0", "routeKey": "POST /decisions", "rawPath": "/decisions", "body": body}


def rows() -> list[table.Row]:
    """Return for each row the medians over the rounds, and the targets."""
    with ExitStack() as stack:
        plain = stack.enter_context(Servers())
        tls = stack.enter_context(Servers(tls=True))
        variables = workers.environment("DecisionApi", plain.url)
        secure = workers.environment("DecisionApi", tls.url, tls.certificate)
        running = {
            name: stack.enter_context(
                workers.Worker(MODULE, name, variables=secure if name.endswith("tls") else variables)
            )
            for name in REQUESTS
        }
        servers = {name: tls if name.endswith("tls") else plain for name in REQUESTS}
        for name in (name for name in REQUESTS if name != "floor"):
            running[name].do({"round": "warm", "requests": WARM_UP})
        plain.recorded()
        running["ours"].do({"round": "recorded", "requests": 1})
        steps = [[one.decode("latin-1") for one in step] for step in plain.recorded()]
        running["floor"].do({"port": plain.port, "steps": steps})
        return _measured(running, servers)


def _measured(running: Mapping[str, workers.Worker], servers: Mapping[str, Servers]) -> list[table.Row]:
    rounds: dict[str, list[Mapping[str, float]]] = {name: [] for name in REQUESTS}
    for number in range(ROUNDS):
        for name, requests in REQUESTS.items():
            figures = running[name].do({"round": f"{number}", "requests": requests})
            rounds[name].append({**figures, **_network(running[name], servers[name], number)})
    measured = {
        name: {key: statistics.median(one[key] for one in found) for key in found[0]} for name, found in rounds.items()
    }
    return [*({"name": name, **figures} for name, figures in measured.items()), *_targets(measured)]


def _network(worker: workers.Worker, servers: Servers, number: int) -> dict[str, float]:
    """Return the sequential round trips and the calls of one decision, as the servers see them."""
    trips, calls = [], []
    for n in range(ALONE):
        servers.counts()
        worker.do({"round": f"alone-{number}-{n}", "requests": 1})
        counts = servers.counts()
        trips.append(counts.pop("round_trips"))
        calls.append(sum(counts.values()))
    return {"round_trips": statistics.median(trips), "calls": statistics.median(calls)}


def _targets(measured: Mapping[str, Mapping[str, float]]) -> Iterator[table.Row]:
    ours, floor = measured["ours"], measured["floor"]
    sequential = measured["pynamodb sequential with idempotency writes"]
    wanted = (
        ("p50 over floor", ours["p50_ms"] / floor["p50_ms"], 1.3),
        ("p99 over floor", ours["p99_ms"] / floor["p99_ms"], 1.6),
        ("cpu_ms", ours["cpu_ms"], 3.0),
        ("round trips", ours["round_trips"], 3.0),
        ("p50 over pynamodb sequential", ours["p50_ms"] / sequential["p50_ms"], 1 / 3),
    )
    for name, value, most in wanted:
        yield table.target(name, value, at_most=most)


# ---- the process of a row ------------------------------------------------------------------------------------------


def worker(name: str) -> Callable[[Any], Any]:
    """Return the function that the process of a row calls with each task that it is sent: a round of requests."""
    if name == "floor":
        return FloorJob().do
    workers.turn_clock(NOON)
    return HandlerJob(_handler(name)).do


def _handler(name: str) -> Callable[[dict[str, Any]], Mapping[str, Any]]:
    if name.startswith("ours"):
        from functions import decision_api  # noqa: PLC0415 - its environment is this process's

        return lambda event: decision_api.handler(event, None)
    from benchmarks import rivals  # noqa: PLC0415

    match name:
        case "boto3 threads":
            return rivals.boto3_handler(8)
        case "boto3 sequential":
            return rivals.boto3_handler(1)
        case _:
            return rivals.pynamodb_handler()


class HandlerJob:
    """A job that times rounds of decisions by a handler."""

    def __init__(self, handler: Callable[[dict[str, Any]], Mapping[str, Any]]) -> None:
        self._handler = handler

    def do(self, task: Mapping[str, Any]) -> dict[str, float]:
        """Decide `requests` payments and return their times in ms, and how many decisions were degraded.

        A disturbed machine is sometimes late and makes a few degraded decisions. More than a few fail an assertion.
        """
        events = [event(f"{task['round']}-{n}") for n in range(task["requests"])]
        answers: list[Mapping[str, Any]] = []
        figures = timed([partial(self._decide, one, answers) for one in events])
        degraded = sum(
            answer["statusCode"] != 200 or bool(json.loads(answer["body"])["degraded"])  # noqa: PLR2004
            for answer in answers
        )
        assert degraded < max(len(answers) / 10, 2), answers
        return {**figures, "degraded": degraded}

    def _decide(self, event: dict[str, Any], answers: list[Mapping[str, Any]]) -> None:
        answers.append(self._handler(event))


class FloorJob:
    """A job that times the floor. Its first task holds the recorded requests, the later ones are rounds."""

    def __init__(self) -> None:
        self._replay: Callable[[], None] | None = None

    def do(self, task: Mapping[str, Any]) -> dict[str, float]:
        """Connect and warm up at the first task, then time `requests` replays."""
        if self._replay is None:
            from benchmarks import rivals  # noqa: PLC0415

            steps = [[one.encode("latin-1") for one in step] for step in task["steps"]]
            self._replay = rivals.Floor(task["port"], steps).replay
            return timed([self._replay] * WARM_UP)
        return {**timed([self._replay] * task["requests"]), "degraded": 0}


def timed(calls: Sequence[Callable[[], None]]) -> dict[str, float]:
    """Run the calls one after another. Return latency percentiles and the CPU time of one call, in ms."""
    latencies = []
    cpu = process_time()
    for call in calls:
        start = perf_counter()
        call()
        latencies.append(perf_counter() - start)
    cpu = process_time() - cpu
    latencies.sort()
    return {
        "p50_ms": 1000 * statistics.median(latencies),
        "p99_ms": 1000 * latencies[min(len(latencies) - 1, int(len(latencies) * 0.99))],
        "cpu_ms": 1000 * cpu / len(calls),
    }


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        workers.work(worker(sys.argv[2]))
    else:
        table.run(rows, __doc__)
