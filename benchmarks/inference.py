"""Measure the box's model server against gunicorn and flask, both around models/serving/inference.py.

Both serve the packaged model in one process each, and both are asked by the same client over one connection that is
kept alive. Every row of a request reaches the lowest threshold, so every answer has its reasons, which are the larger
part of the work. Each request goes to one server and then to the other, so that a busy machine disturbs both; figures
are medians of the rounds. Both must give the same answers.
"""

import json
import statistics
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from pathlib import Path
from time import perf_counter
from urllib.parse import urlsplit

import numpy as np

from benchmarks import table
from benchmarks.flask_container import Gunicorn
from fraud.scoring import features, scorer
from local.sagemaker import model_server
from local.sagemaker.endpoint import ModelServer

CURRENCY = "JPY"
ROUNDS = 7
REQUESTS: Mapping[int, int] = {1: 150, 64: 15}
"""Requests of a round, by rows of a request."""

OURS, RIVAL = "model server", "gunicorn and flask"


def bodies(rows: int, number: int) -> list[bytes]:
    """Return the bodies of requests whose rows all reach the lowest threshold.

    The rows mix values of the features' probes, column by column, and some are missing.
    """
    rng = np.random.default_rng(rows)
    probed = np.array(list(features.probed()), np.float32)
    model = scorer.embedded(CURRENCY)
    found: list[list[float | None]] = []
    while len(found) < rows * number:
        mixed = rng.permuted(probed, axis=0)
        mixed[rng.random(mixed.shape) < 0.1] = np.nan  # noqa: PLR2004 - a tenth
        vectors = list(map(tuple, mixed.tolist()))
        explained = zip(vectors, model.score(vectors).contributions, strict=True)
        found += [[None if x != x else x for x in vector] for vector, raised in explained if raised]  # noqa: PLR0124
    fingerprint = features.fingerprint()
    batches = [found[n * rows : (n + 1) * rows] for n in range(number)]
    return [json.dumps({"fingerprint": fingerprint, "rows": batch}).encode() for batch in batches]


class Client:
    """One connection to a server of scores."""

    def __init__(self, url: str) -> None:
        self._connection = HTTPConnection(urlsplit(url).netloc, timeout=30)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def ask(self, body: bytes) -> bytes:
        """Send a request and return the body of its response."""
        self._connection.request("POST", "/invocations", body, {"content-type": "application/json"})
        response = self._connection.getresponse()
        answer = response.read()
        assert response.status == 200, answer  # noqa: PLR2004 - OK
        return answer

    def seconds(self, body: bytes) -> float:
        """Send a request and return the seconds until its response was read."""
        start = perf_counter()
        self.ask(body)
        return perf_counter() - start


def rows() -> list[table.Row]:
    """Return for each server and batch size the medians over the rounds, and the targets."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="benchmark-")))
        model_server.write(directory, CURRENCY)
        servers = {
            OURS: stack.enter_context(ModelServer(directory / "log", currency=CURRENCY)).url,
            RIVAL: stack.enter_context(Gunicorn(directory)).url,
        }
        clients = {name: stack.enter_context(closing(Client(url))) for name, url in servers.items()}
        return measured(clients, REQUESTS, ROUNDS)


def measured(clients: Mapping[str, Client], requests: Mapping[int, int], rounds: int) -> list[table.Row]:
    """Measure the servers and compare their answers."""
    found: dict[tuple[str, int], list[dict[str, float]]] = {}
    for size, number in requests.items():
        asked = bodies(size, number)
        ours, rival = [[json.loads(clients[name].ask(body)) for body in asked] for name in (OURS, RIVAL)]
        assert ours == rival
        assert all(answer["contributions"] and all(answer["contributions"]) for answer in ours)
        for _ in range(rounds):
            times = [{name: client.seconds(body) for name, client in clients.items()} for body in asked]
            for name in clients:
                took = [each[name] for each in times]
                figures = {"rows_per_s": size * number / sum(took), "p50_ms": statistics.median(took) * 1e3}
                found.setdefault((name, size), []).append(figures)
    medians = {
        key: {figure: statistics.median(one[figure] for one in figures) for figure in figures[0]}
        for key, figures in found.items()
    }
    return [
        *(
            {"name": f"{name}, {size} row{'s' * (size > 1)} a request", **figures}
            for (name, size), figures in medians.items()
        ),
        *(_target(medians, size) for size in requests),
    ]


def _target(medians: Mapping[tuple[str, int], Mapping[str, float]], size: int) -> table.Row:
    over = medians[OURS, size]["rows_per_s"] / medians[RIVAL, size]["rows_per_s"]
    return table.target(f"rows per second over {RIVAL}, {_words(size)}", over, at_least=1)


def _words(size: int) -> str:
    return f"{size} row{'s' * (size > 1)} a request"


if __name__ == "__main__":
    table.run(rows, __doc__)
