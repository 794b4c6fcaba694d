"""DynamoDB's charges: item sizes and request units by the documented rules, request by request.

`Metered` is a `fraud.aws.transport.Transport` over the in-memory DynamoDB. So the product's own code makes the requests
and the items, and a changed layout changes the figures without a change here. The rules are in the Amazon DynamoDB
Developer Guide, "Item sizes and formats" and "Read and write operations", read 2025-11.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

from fraud import assembly
from fraud.aws.transport import Request, Result
from fraud.counters.store import Tables
from fraud.counters.worker import FoldWorker, Message
from fraud.decisions.evaluation import Evaluator
from fraud.scoring import scorer
from tests.support.deployment import declared_store
from tests.support.in_memory_dynamodb import FOLD, InMemoryDynamoDB, key_of

WRITE_UNIT = 1024
READ_UNIT = 4096
TABLES = Tables("counters", "profiles", "decisions")
LINKS = "links"
INDEXES = (FOLD, "pending")
"""Hash keys of the sparse indexes. Only items that have one of these attributes are in its index."""


class Term(NamedTuple):
    """One charge: its name, the partition key, the request units, and the size of the item in bytes."""

    name: str
    pk: str
    wru: float
    rru: float
    size: int


def size_of(item: Mapping[str, Any]) -> int:
    """Return the bytes of an item: its names and values.

    >>> size_of({"pk": {"S": "payer#1"}, "n": {"N": "100"}})
    12
    """
    return sum(len(name.encode()) + _value(value) for name, value in item.items())


def _value(value: Mapping[str, Any]) -> int:
    """Return the bytes of a value. No rule for sets is published: they are taken to cost as much as lists."""
    ((kind, content),) = value.items()
    match kind:
        case "N":
            size = _number(content)
        case "S":
            size = len(content.encode())
        case "B":
            size = len(content)
        case "L":
            size = 3 + sum(1 + _value(element) for element in content)
        case "M":
            size = 3 + sum(1 + len(name.encode()) + _value(element) for name, element in content.items())
        case "BS":  # a fast path: tokens come by the thousand
            size = 3 + len(content) + sum(map(len, content))
        case "NS" | "SS":
            size = 3 + sum(1 + _value({kind[0]: element}) for element in content)
        case _:
            size = 1  # BOOL, NULL
    return size


@lru_cache(100_000)
def _number(text: str) -> int:
    """Return the bytes of a number: one for two significant digits, one more, and another one for a sign."""
    digits = text.lstrip("-").replace(".", "").strip("0")
    return (len(digits) + 1) // 2 + 1 + text.startswith("-")


def write_units(before: int, after: int) -> int:
    """Return the units of a write: the larger of the item's sizes before and after, in whole KB, at least 1.

    >>> write_units(0, 1), write_units(1_024, 10), write_units(10, 1_025)
    (1, 1, 2)
    """
    return max(1, -(-max(before, after) // WRITE_UNIT))


def read_units(size: int, *, consistent: bool) -> float:
    """Return the units of a read of one item: whole 4 KB pages, half as much when the read is not consistent.

    A projection does not make it cheaper. An item that does not exist costs one page.

    >>> read_units(0, consistent=True), read_units(4_097, consistent=True), read_units(4_097, consistent=False)
    (1, 2, 1.0)
    """
    return max(1, -(-size // READ_UNIT)) * (1 if consistent else 0.5)


class Metered:
    """A transport that carries requests out in memory and, while `on`, keeps a Term for each item it touches.

    calls  requests that were carried out

    While it is not `on`, it only writes, and only items whose partition key `follows` accepts. Payments that are not
    measured are then counted quickly.
    """

    def __init__(self) -> None:
        self.database = InMemoryDynamoDB()
        self.on = True
        self.calls = 0
        self.terms: list[Term] = []
        self.follows: Callable[[str], bool] = lambda _: True

    def gather(self, requests: Sequence[Request], until: float | None = None) -> list[Result]:
        """Carry the requests out, one after another."""
        del until  # nothing here takes time
        self.calls += len(requests)
        return [self._carry_out(request) if self.on else self._follow(request) for request in requests]

    def _follow(self, request: Request) -> Result:
        operation, payload = request
        if operation == "update_item" and self.follows(key_of(payload["Key"])[0]):
            self.database.gather([Request(operation, {**payload, "ReturnValues": "NONE"})])
        return {"Responses": {}} if operation == "batch_get_item" else {"Attributes": payload.get("Key", {})}

    def _carry_out(self, request: Request) -> Result:
        operation, payload = request
        if operation == "batch_get_item":
            for table, wanted in payload["RequestItems"].items():
                for key in wanted["Keys"]:
                    self._read(table, key_of(key), consistent=wanted.get("ConsistentRead", False))
        elif operation == "get_item":
            self._read(payload["TableName"], key_of(payload["Key"]), consistent=payload.get("ConsistentRead", False))
        if operation not in {"update_item", "put_item"}:
            return self.database.gather([request])[0]
        table, key = payload["TableName"], key_of(payload.get("Item") or payload["Key"])
        before = self.database.tables[table].get(key, {})
        (answer,) = self.database.gather([request])
        self._write(table, key, before)
        return answer

    def _read(self, table: str, key: tuple[str, ...], *, consistent: bool) -> None:
        item = self.database.tables[table].get(key)
        size = 0 if item is None else size_of(item)
        name = f"read {_name(table, key)}{' (none)' if item is None else ''}"
        self.terms.append(Term(name, key[0], 0, read_units(size, consistent=consistent), size))

    def _write(self, table: str, key: tuple[str, ...], before: Mapping[str, Any]) -> None:
        after = self.database.tables[table][key]
        sizes = size_of(before), size_of(after)
        self.terms.append(Term(f"write {_name(table, key)}", key[0], write_units(*sizes), 0, sizes[1]))
        # An index's entry is small and never changes: one unit when an item enters the index, and one when it leaves.
        for index in INDEXES:
            if (index in after) != (index in before):
                self.terms.append(Term(f"index {_name(table, key)}", key[0], 1, 0, 0))


def _name(table: str, key: tuple[str, ...]) -> str:
    if table == LINKS:
        return "link" if "#" in key[1] else key[1]
    return "decision" if table == TABLES.decisions else f"{table[:-1]} {key[0].partition('#')[0]}"


class MeteredStack:
    """The product on a metered DynamoDB. Its clock shows `now` and does not move."""

    def __init__(self, now: datetime) -> None:
        self.now = now
        self.meter = Metered()
        self.store = declared_store(self.meter, TABLES, 400, self.clock)
        self.evaluator = Evaluator(self.store, scorer.embedded("JPY"), assembly.rule_book("JPY"), self.clock, 10)
        self.folding = FoldWorker(self.meter, TABLES, self, self.clock)

    def clock(self) -> datetime:
        """Return the time to which `now` was set."""
        return self.now

    def send(self, messages: Sequence[Message]) -> None:
        """Drop the messages (`fraud.counters.worker.Queue`): the fold worker gets its messages by `tell` only."""

    def tell(self, message: Message) -> None:
        """Give the fold worker a message, with a minute to work."""
        self.folding.work(message, lambda: 60_000)
