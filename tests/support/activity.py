"""Activity in tests: a wire with kills and rivals, and links and timelines by plain counting over all payments."""

import json
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from functools import partial
from typing import TYPE_CHECKING, Any

from fraud.activity.links import MOST_NEIGHBOURS
from fraud.activity.store import NEIGHBOURS, link_of, neighbours_of, timeline_of
from fraud.activity.timeline import APPROVED, MOST, STOPPED
from fraud.aws.transport import Request, Result
from fraud.decisions.record import Contents
from fraud.transaction import Transaction
from tests.support.in_memory_dynamodb import InMemoryDynamoDB, key_of

if TYPE_CHECKING:
    from fraud.errors import ServiceError

Decided = tuple[Transaction, str, str]
"""A payment, its outcome, and the code of its first reason."""

ENDS = (("payee_id", "payee", "account", "payer"), ("device_id", "device", "device", "account"))
ENDS += (("instrument_id", "instrument", "instrument", "account"), ("ip", "ip", "ip", "account"))
"""Field, role, kind of the other end, and the payer's role there."""


def contents(payment: Transaction, outcome: str, code: str = "") -> Contents:
    """Return the packed part of a decision's row, as far as activity reads it."""
    answer = {"outcome": outcome, "reasons": [{"code": code}] if code else []}
    return Contents(payment.canonical, b"[]", json.dumps(answer).encode())


WEEKS = 28
"""How far back a list of neighbours looks where links are kept for 400 days."""


def counted(decided: Iterable[Decided], *, approved: bool = True) -> dict[tuple[str, str], Any]:
    """Count links, neighbours and timelines over all decided payments, by pk and sk. Links are kept for 400 days."""
    days: dict[tuple[str, str], set[date]] = defaultdict(set)
    timelines: dict[str, list[Any]] = defaultdict(list)
    for payment, outcome, code in decided:
        payer = f"account#{payment.payer_id}"
        for field, role, kind, back in ENDS:
            if value := getattr(payment, field):
                days[payer, f"{role}#{value}"].add(payment.occurred_at.date())
                days[f"{kind}#{value}", f"{back}#{payment.payer_id}"].add(payment.occurred_at.date())
        timelines[payer].append((payment.epoch, payment.transaction_id, outcome, payment.type, payment.amount, code))
    found: dict[tuple[str, str], Any] = {}
    lists: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for (pk, name), met in days.items():
        first, last = min(met), max(met)
        bits = {day.day for day in met if (day.year, day.month) == (last.year, last.month)}
        found[pk, name] = (first, last, sum(1 << day - 1 for day in bits))
        lists[pk].append(((last - date(1970, 1, 1)).days // 7, name))
    for pk, listed in lists.items():
        near = [one for one in listed if one[0] >= max(listed)[0] - WEEKS]
        found[pk, NEIGHBOURS] = tuple(sorted(near, reverse=True)[:MOST_NEIGHBOURS])
    for pk, entries in timelines.items():
        ordered = sorted(set(entries))
        for part, kept, listed in ((STOPPED, 50, True), (APPROVED, 20, approved)):
            if own := [entry for entry in ordered if listed and (entry[2] == "approve") == (part == APPROVED)]:
                found[pk, part] = tuple(own[-kept:])
    return found


def stored(rows: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], Any]:
    """Return all items of the table `links` in the form of `counted`."""
    readers = {NEIGHBOURS: neighbours_of, **{part: partial(timeline_of, part) for part in MOST}}
    return {(row["pk"]["S"], row["sk"]["S"]): readers.get(row["sk"]["S"], link_of)(row) for row in rows}


class KilledError(Exception):
    """The function was killed."""


class Wire:
    """A transport to a table in memory.

    requests   all requests, in their order
    kill       the writes that are still carried out before the function is killed; None: it is not
    broken     the error of writes on partition keys
    meanwhile  called once before the first write, as another environment that writes in between
    stale      reads find a table of before
    rng        requests of one step are carried out in a random order: a kill may leave any of them undone
    """

    def __init__(self, table: InMemoryDynamoDB | None = None) -> None:
        self.table = table or InMemoryDynamoDB()
        self.requests: list[Request] = []
        self.kill: int | None = None
        self.broken: dict[str, ServiceError] = {}
        self.meanwhile: Callable[[], None] = lambda: None
        self.stale: InMemoryDynamoDB | None = None
        self.rng = random.Random(0)

    def gather(self, requests: Sequence[Request], until: float | None = None) -> list[Result]:
        del until  # nothing here takes time
        order = self.rng.sample(range(len(requests)), len(requests))
        results = {n: self._result(requests[n]) for n in order}
        return [results[n] for n in range(len(requests))]

    def _result(self, request: Request) -> Result:
        self.requests.append(request)
        if request.operation in {"batch_get_item", "query"}:
            return (self.stale or self.table).gather([request])[0]
        self.meanwhile, meanwhile = lambda: None, self.meanwhile
        meanwhile()
        if self.kill == 0:
            raise KilledError
        self.kill = None if self.kill is None else self.kill - 1
        return self.broken.get(key_of(request.payload["Key"])[0]) or self.table.gather([request])[0]

    @property
    def writes(self) -> list[Request]:
        return [request for request in self.requests if request.operation == "update_item"]

    def items(self) -> dict[tuple[str, str], Any]:
        return stored(self.table.tables["links"].values())
