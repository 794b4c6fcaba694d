"""Request units of links and timelines, a payment: rows of `benchmarks.capacity`.

The product's own store writes decided payments of one payer over three weeks, in memory and metered; the last week
is billed, so every kind of write that a week brings is in it. A payer pays the same people in turn, from one device. A
stream's records are dealt to environments in turn, each of which remembers only what it has written itself.
"""

import json
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from benchmarks import lives, table
from benchmarks.lives import TODAY
from benchmarks.metering import LINKS, TABLES, Metered
from fraud.activity.store import NEIGHBOURS, Activity
from fraud.activity.timeline import MOST
from fraud.decisions.record import Contents
from fraud.outcome import Outcome
from fraud.transaction import Transaction
from models.simulation.simulate import DEFAULT_START, simulate

DAYS, BILLED = 21, 7
"""Days of a payer's life here, and how many of the last ones are billed."""

STOPPED = 0.02
"""Share of decisions that are not approved."""

LIVES = ((3, 2), (20, 1), (20, 4), (20, 20), (100, 20))
"""Payments a day, and the number of people whom the payer pays in turn."""

TARGET = (20, 4)
SHARDS = (1, 8)
PEOPLE = 100
"""Payers of the simulated world."""


class Price(NamedTuple):
    """Units of one payment: writes by kind of item, and reads."""

    wru: Mapping[str, float]
    rru: float

    @property
    def total(self) -> float:
        """Write units of all kinds."""
        return sum(self.wru.values())


def price(payments: Iterable[Transaction], billed_from: datetime, *, shards: int = 1, approved: bool = True) -> Price:
    """Return the units of a payment, of those from a time on.

    shards    environments among which the payments are dealt, in turn
    approved  whether timelines list approved payments
    """
    meter = Metered()
    how = {"retention_days": 400, "approved": approved}
    environments = [Activity(meter, LINKS, TABLES.profiles, **how) for _ in range(shards)]  # type: ignore[arg-type]
    rng, wru, rru, count = random.Random(1), defaultdict[str, float](float), 0.0, 0
    for n, payment in enumerate(payments):
        meter.terms = []
        environments[n % shards].remember([_decided(payment, stopped=rng.random() < STOPPED)])
        if payment.occurred_at >= billed_from:
            count += 1
            rru += sum(term.rru for term in meter.terms)
            for term in meter.terms:
                wru[term.name.removeprefix("write ")] += term.wru
    return Price({kind: units / count for kind, units in wru.items() if units}, rru / count)


def _decided(payment: Transaction, *, stopped: bool) -> Contents:
    outcome, reasons = (Outcome.REVIEW, [{"code": "VELOCITY"}]) if stopped else (Outcome.APPROVE, [])
    return Contents(payment.canonical, b"[]", json.dumps({"outcome": outcome, "reasons": reasons}).encode())


def life(a_day: int, people: int) -> Iterator[Transaction]:
    """Yield the payments of DAYS days up to today, of one payer to the same people in turn."""
    for day in range(DAYS):
        midnight = TODAY - timedelta(days=DAYS - day)
        for n, at in enumerate(lives.moments(midnight, timedelta(days=1), a_day, f"activity {day}")):
            yield lives.payment(f"{day} {n}", at, payee_id=lives.other(n % people))


def _simulated(people: int) -> Iterator[Transaction]:
    """Yield the payments of DAYS simulated days."""
    for row in simulate(1, DEFAULT_START, DAYS, people):
        yield Transaction.model_validate_json(json.dumps(row.transaction))


def rows(people: int = PEOPLE, lived: Iterable[tuple[int, int]] = LIVES) -> list[table.Row]:
    """Return the rows: units by kind of item for each life, for simulated people, and the targets.

    people  payers of the simulated world
    lived   as LIVES; TARGET must be among them
    """
    found = []
    at: dict[tuple[tuple[int, int], int, bool], Price] = {}
    for a_day, to in lived:
        for shards in SHARDS if (a_day, to) == TARGET else SHARDS[:1]:
            for approved in (True, False):
                cost = price(life(a_day, to), TODAY - timedelta(days=BILLED), shards=shards, approved=approved)
                at[(a_day, to), shards, approved] = cost
                found.append(_row(f"links and timeline: {_name(a_day, to, shards, approved)}", cost))
    billed = DEFAULT_START + timedelta(days=DAYS - BILLED)
    for approved in (True, False):
        name = f"links and timeline: {people} simulated people" + ("" if approved else ", without approved")
        found.append(_row(name, price(_simulated(people), billed, approved=approved)))
    wanted = [(shards, *each) for shards in SHARDS for each in ((True, 1.6), (False, 0.6))]
    targets = [
        table.target(
            f"links and timeline, wru: {_name(*TARGET, shards, approved)}",
            at[TARGET, shards, approved].total,
            at_most=most,
        )
        for shards, approved, most in wanted
    ]
    return found + targets


def _name(a_day: int, to: int, shards: int, approved: bool) -> str:  # noqa: FBT001 - a key of the figures
    return f"p2p, {a_day} a day to {to}, shards {shards}" + ("" if approved else ", without approved")


def _row(name: str, cost: Price) -> table.Row:
    kinds = {kind: cost.wru.get(kind, 0.0) for kind in ("link", NEIGHBOURS, *MOST)}
    return {"name": name, **kinds, "wru": cost.total, "rru": cost.rru}


if __name__ == "__main__":
    table.run(rows, __doc__)
