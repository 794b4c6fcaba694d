"""Payments for tests: a valid body in which a test replaces the fields it is about, and crowds of random payments."""

import json
import random
from datetime import UTC, datetime, timedelta
from typing import Any

from fraud.counters import layout
from fraud.counters.keys import DECLARED
from fraud.counters.layout import Update
from fraud.transaction import MAX_AGE, MAX_AHEAD, Transaction, utc

NOON = datetime(2026, 3, 4, 12, 0, 0, tzinfo=UTC)

TYPES = ("p2p",) * 6 + ("merchant",) * 3 + ("cash_out", "top_up")
SIDES_OF_TYPE: dict[str, dict[str, str | None]] = {
    "p2p": {"type": "p2p", "payee_id": "payee-1"},
    "merchant": {"type": "merchant", "payee_id": "payee-1"},
    "cash_out": {"type": "cash_out", "payee_id": None, "instrument_id": "instrument-1"},
    "top_up": {"type": "top_up", "payee_id": None, "instrument_id": "instrument-1"},
}
"""The fields of `body` to replace for each type of payment."""


def body(**fields: Any) -> dict[str, Any]:
    """Return the body of POST /decisions as a dictionary. A field that is given as None is left out.

    >>> body(amount=7)["amount"], "device_id" in body(device_id=None)
    (7, False)
    """
    payment = {
        "transaction_id": "t-1",
        "type": "p2p",
        "payer_id": "payer-1",
        "payee_id": "payee-1",
        "amount": 1200,
        "currency": "JPY",
        "occurred_at": "2026-03-04T12:00:00Z",
        "device_id": "device-1",
    }
    return {name: value for name, value in (payment | fields).items() if value is not None}


def payment(**fields: Any) -> Transaction:
    """Return a parsed payment; `occurred_at` may be a datetime."""
    return Transaction.model_validate_json(json.dumps(body(**fields), default=utc))


def updates(transaction: Transaction) -> tuple[Update, ...]:
    """Return the updates of a payment by the declared keys."""
    return layout.updates(transaction, DECLARED)


def slot_of(value: str, kind: str = "account") -> int:
    """Return the slot of an id by the declared keys."""
    return DECLARED.slot(kind, value)


def crowd_payment(rng: random.Random, moment: datetime, number: int, people: int = 40) -> Transaction:
    """Draw one payment among `people`. Low numbers occur most, so a few items are busy and many are nearly empty."""

    def one_of(name: str, count: int) -> str:
        return f"{name}-{int(count * rng.random() ** 2)}"

    kind = rng.choice(TYPES)
    payer = one_of("person", people)
    payee = one_of("person", people) if kind == "p2p" else one_of("shop", 5)
    while payee == payer:
        payee = one_of("person", people)
    return Transaction(
        transaction_id=f"t-{number}",
        type=kind,  # type: ignore[arg-type]
        payer_id=payer,
        payee_id=payee if kind in {"p2p", "merchant"} else None,
        instrument_id=one_of("card", 6) if kind in {"cash_out", "top_up"} else None,
        amount=min(10**11, int(rng.lognormvariate(8, 2)) + 1),
        currency="JPY",
        occurred_at=moment,
        device_id=one_of("device", people) if rng.random() < 0.8 else None,
    )


def arrivals(rng: random.Random, rounds: int, size: int, start: datetime = NOON) -> list[list[Transaction]]:
    """Draw payments in the sequence in which they arrive: `rounds` of `size` payments, five hours apart.

    In a round they are from 12 hours late to 5 minutes ahead. A third of them are seconds from another payment, some
    are exactly on these limits, and every tenth repeats a payment that is still young enough to be counted.
    """
    known: list[Transaction] = []
    arriving = []
    for n in range(rounds):
        now = start + n * timedelta(hours=5)
        young = [one for one in known if one.occurred_at >= now - MAX_AGE]
        this_round = []
        for number in range(n * size, (n + 1) * size):
            if young and rng.random() < 0.1:
                this_round.append(rng.choice(young))
                continue
            at = now + MAX_AHEAD - rng.random() * (MAX_AGE + MAX_AHEAD)
            if young and rng.random() < 1 / 3:
                near = rng.choice(young).occurred_at + timedelta(seconds=rng.uniform(-20, 20))
                at = min(max(near, now - MAX_AGE), now + MAX_AHEAD)
            elif rng.random() < 0.02:
                at = rng.choice((now - MAX_AGE, now + MAX_AHEAD, now.replace(hour=0)))
                at = max(at, now - MAX_AGE)
            this_round.append(crowd_payment(rng, at, number))
            young.append(this_round[-1])
        known += this_round
        arriving.append(this_round)
    return arriving
