"""The store and the fold in memory, for tests that need no AWS. The test controls the clock and the queue."""

from collections.abc import Callable, Sequence
from typing import Any

from fraud.aws.transport import Request, Result, Transport
from fraud.counters.codec import profile_of, watermark_attribute
from fraud.counters.fold import WATERMARKS, Progress, WorkResult
from fraud.counters.keys import DECLARED
from fraud.counters.layout import Slice
from fraud.counters.store import Tables
from fraud.counters.worker import FEW, RESERVE_MS, FoldWorker, Message
from fraud.decisions.store import DynamoStore
from fraud.transaction import Transaction
from tests.support.fakes import counted
from tests.support.in_memory_dynamodb import InMemoryDynamoDB
from tests.support.payments import NOON, payment

TABLES = Tables("counters", "profiles", "decisions")


def declared_store(
    transport: Transport, tables: Tables, retention_days: int, clock: Callable[[], Any], **how: Any
) -> DynamoStore:
    """Return a store with the declared keys, whose counters are those in memory."""
    return DynamoStore(transport, tables, retention_days, clock, **{"first_keys": lambda: DECLARED} | how)


def endless() -> int:
    """Return the milliseconds that a worker has left: always enough."""
    return 10 * RESERVE_MS


class Deployment:
    """A store and two fold workers on the same tables. `now` is their clock, `messages` their queue.

    meanwhile  called with requests before they are sent; a test changes the table or stops the worker in it
    another    a second worker, whose requests go to the table without a call of `meanwhile`
    few        the most items that a tick folds by itself
    """

    def __init__(self, page: int = 1000, few: int = FEW) -> None:
        self.now = NOON
        self.requests: list[Request] = []
        self.messages: list[Message] = []
        self.meanwhile: Callable[[Sequence[Request]], None] = lambda _: None
        self.table = InMemoryDynamoDB(page)
        self.store = declared_store(self, TABLES, 400, self.clock)
        self.folding = FoldWorker(self, TABLES, self, self.clock, few)
        self.another = FoldWorker(self.table, TABLES, self, self.clock, few)

    def clock(self) -> Any:
        return self.now

    def gather(self, requests: Sequence[Request], until: float | None = None) -> list[Result]:
        self.requests += requests
        self.meanwhile(requests)
        return self.table.gather(requests, until)

    def send(self, messages: Sequence[Message]) -> None:
        self.messages += messages

    def pay(self, **fields: Any) -> Transaction:
        paid = payment(**{"occurred_at": self.now} | fields)
        counted(self.store, paid)
        return paid

    def fold(self, message: Message, remaining_ms: Callable[[], int] = endless) -> WorkResult:
        return self.folding.work(message, remaining_ms)

    def fold_all(self) -> None:
        """Run a tick, and then the worker until the queue is empty."""
        self.folding.tick()
        self.work()

    def work(self) -> None:
        while self.messages:
            self.fold(self.messages.pop(0))

    def profile(self, pk: str) -> dict[str, Any]:
        return dict(profile_of(self.table.tables[TABLES.profiles].get((pk,), {})))

    def watermark(self, part: Slice) -> Progress | None:
        progress = self.profile(WATERMARKS[part.sk]).get(watermark_attribute(part))
        return None if progress is None else Progress(*progress)
