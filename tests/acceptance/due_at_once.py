"""10^5 decisions that are due at once: the sweep ends them in pages, goes on where it stopped, and ends none twice.

`python -m tests.acceptance.due_at_once` lets sweeps of limited time run until nothing is due. The index lags behind the
table, so rows are listed again that have ended already; a rival sweep comes between reading a page and ending it; and
some updates are carried out although their answer is lost. Every change of a row is counted where it is made. Exits 1
unless each decision has ended exactly once, as it had to, in no fewer sweeps than their time allows.
"""

import argparse
import random
import sys
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from fraud.aws.transport import ConditionFailed, Request, Response, Result
from fraud.decisions.record import WAITING
from fraud.decisions.worker import INDEX, PAGE, Resolutions
from fraud.errors import UnavailableError
from fraud.transaction import utc
from tests.support.in_memory_dynamodb import InMemoryDynamoDB, Item, Payload, key_of

DECISIONS, SEED = 100_000, 14
PAGES_OF_A_SWEEP = 120
"""Pages for which the time of one sweep is enough, so that it has to be gone on with."""

LAG = 150
"""Updates of the table that the index does not have yet."""

LOST, RIVALS, RIVAL_PAGES = 0.002, 0.05, 3
"""Share of updates whose answer is lost, and of pages at which a rival sweep comes; it ends so many pages."""

TABLE = "decisions"
NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)


class Pending(InMemoryDynamoDB):
    """The decisions' table with its index `pending`, which lags. `ended` counts the changes of each row."""

    def __init__(self, number: int, seed: int) -> None:
        super().__init__()
        self.ended: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self.rival: Resolutions | None = None
        self._rng = random.Random(seed)
        self._stale: dict[str, Item] = {}  # rows that the index still has as they were, the oldest first
        self._gone: set[str] = set()
        for n in range(number):
            due = NOW - timedelta(seconds=self._rng.randrange(1, 60))
            name = f"t-{n:06}"
            self.tables[TABLE][name,] = {
                "pk": {"S": name},
                "outcome": {"S": "challenge"},
                "decided_at": {"S": utc(due - timedelta(minutes=10))},
                "due": {"S": utc(due)},
                "expires_to": {"S": "decline"},
                "pending": {"S": WAITING},
            }
        self.listed = sorted((row["due"]["S"], pk) for (pk,), row in self.tables[TABLE].items())

    def gather(self, requests: Sequence[Request], until: float | None = None) -> list[Result]:
        updates = any(operation == "update_item" for operation, _ in requests)
        if updates and self.rival is not None and self._rng.random() < RIVALS:
            rival, self.rival = self.rival, None  # one at a time
            try:
                self.counts["by rivals"] += rival.sweep(self.time_for(RIVAL_PAGES)).expired
            except UnavailableError:
                self.counts["rivals that failed"] += 1
            self.rival = rival
        return super().gather(requests, until)

    def time_for(self, pages: int) -> Callable[[], int]:
        """Return a clock of a sweep that has time for so many pages from now on."""
        last = self.counts["pages"] + pages
        return lambda: 60_000 if self.counts["pages"] < last else 0

    def query(self, payload: Payload) -> Response:
        """Return a page of the index as it was LAG updates ago."""
        assert (payload["IndexName"], payload["TableName"], payload["Limit"]) == (INDEX, TABLE, PAGE)
        self.counts["pages"] += 1
        start, last = payload.get("ExclusiveStartKey"), payload["ExpressionAttributeValues"][":now"]["S"]
        place = bisect_right(self.listed, (start["due"]["S"], start["pk"]["S"])) if start else 0
        found: list[tuple[str, str]] = []
        while place < len(self.listed) and len(found) < PAGE and self.listed[place][0] <= last:
            if self.listed[place][1] not in self._gone:
                found.append(self.listed[place])
            place += 1
        rows = [self._stale.get(pk) or self.tables[TABLE][pk,] for _, pk in found]
        more = place < len(self.listed) and self.listed[place][0] <= last
        end = {"pk": {"S": found[-1][1]}, "due": {"S": found[-1][0]}} if found else None
        return {"Items": rows, **({"LastEvaluatedKey": end} if more and end else {})}

    def update_item(self, payload: Payload) -> Response:
        (name,) = key_of(payload["Key"])
        before = self.tables[TABLE][name,]
        answer = super().update_item(payload)
        if isinstance(answer, ConditionFailed):
            self.counts["refused"] += 1
            return answer
        self.ended[name] += 1
        self._stale[name] = before
        if len(self._stale) > LAG:
            oldest = next(iter(self._stale))
            del self._stale[oldest]
            self._gone.add(oldest)
        if self._rng.random() < LOST:
            self.counts["lost"] += 1
            return UnavailableError("Lost")
        return answer


class Run(NamedTuple):
    """What has happened: how often each decision ended, how the sweeps went, and what remains."""

    ended: Counter[str]
    counts: Counter[str]
    left: int
    statuses: Counter[str]
    seconds: float


def lived(number: int, seed: int = SEED, pages: int = PAGES_OF_A_SWEEP) -> Run:
    """Let sweeps run until one finds nothing to end."""
    table = Pending(number, seed)
    resolutions, table.rival = (Resolutions(table, TABLE, lambda: NOW) for _ in range(2))
    started = time.monotonic()
    while True:
        before = sum(table.ended.values())
        table.counts["sweeps"] += 1
        try:
            resolutions.sweep(table.time_for(pages))
        except UnavailableError:
            table.counts["sweeps that failed"] += 1
        if sum(table.ended.values()) == before or max(table.ended.values()) > 1:
            break
    rows = table.tables[TABLE].values()
    return Run(
        table.ended,
        table.counts,
        sum("pending" in row for row in rows),
        Counter(row["status"]["S"] for row in rows if "status" in row),
        time.monotonic() - started,
    )


def judge(run: Run, number: int, pages: int = PAGES_OF_A_SWEEP) -> bool:
    """Print the figures, and tell whether each decision has ended once."""
    twice = sum(times > 1 for times in run.ended.values())
    said = ", ".join(f"{count:,} {name}" for name, count in sorted(run.counts.items()))
    print(f"{number:,} decisions due at once: {len(run.ended):,} ended, {twice} twice, {run.left} left; {said}")
    print(f"{run.seconds:.1f} s")
    needed = number // (PAGE * pages) + 1
    sound = len(run.ended) == number and not twice and not run.left and run.statuses == Counter(declined=number)
    return sound and run.counts["sweeps"] >= needed and run.counts["by rivals"] > 0 and run.counts["refused"] > 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it, print the figures, and return 0 if each decision has ended exactly once."""
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance.due_at_once", description=__doc__)
    parser.add_argument("--decisions", type=int, default=DECISIONS)
    options = parser.parse_args(arguments)
    return int(not judge(lived(options.decisions), options.decisions))


if __name__ == "__main__":
    sys.exit(main())
