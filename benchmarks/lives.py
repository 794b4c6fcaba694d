"""Entities with a folded history, and payments of entities at a steady rate.

The history is built item by item in the coarse shape that a fold reads. The product's own functions fold and write it,
so the profiles are those that the fold would have left. A million payments thus take no longer than a thousand. Only
days before yesterday are made here; the payments of yesterday and today are counted one by one.
"""

import random
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta

from fraud.aws.transport import Request, Transport
from fraud.counters import codec, fold
from fraud.counters.history import NO_HISTORY
from fraud.counters.layout import DAY, PAYER, SCALES, SLOTS, Item, Key, Kind, packed
from fraud.counters.store import Tables
from fraud.transaction import Transaction

TODAY = datetime(2026, 3, 4, tzinfo=UTC)
NOON = TODAY + timedelta(hours=12)
DEVICES = 2
MEAN_AMOUNT = 2_500
CROWD = 200
"""Most different counterparties of an entity in a day."""


def folded_past(transport: Transport, tables: Tables, kind: Kind, entity: str, per_day: int) -> None:
    """Write an entity's profile with a folded history of `per_day` payments a day, up to the day before yesterday."""
    rng = random.Random(f"{kind.name}#{entity}#{per_day}")
    history = NO_HISTORY
    profile: codec.StoredRow = {}
    today = int(TODAY.timestamp()) // DAY
    for day in range(today - fold.PROFILE_DAYS - 2, today - 1):
        items = _day(rng, kind, day, per_day)
        for period in sorted(items):
            history = fold.folded(kind, period, items, history)
            change = codec.fold_update(Key(kind, entity, period), profile, history)
            transport.gather([Request("update_item", {"TableName": tables.profiles, **change})])
            profile = {kind.side: change["ExpressionAttributeValues"][":after"]}


def _day(rng: random.Random, kind: Kind, day: int, payments: int) -> Mapping[int, Item]:
    """Return one day's items, by period, as a fold reads them: hours, slots of counterparties, slots of devices."""
    items: dict[int, Item] = {}
    hours = sorted(rng.sample(range(24), min(payments, 24)))
    for n, hour in enumerate(hours):
        count = payments // len(hours) + (n < payments % len(hours))
        period, second = divmod(day * DAY + hour * 3600, kind.period)
        item = items.setdefault(period, Item())
        index = second // SCALES["h"]
        item.buckets["h"][index] = packed(count, int(count * MEAN_AMOUNT * rng.uniform(0.5, 1.5)))
        item.slots[index] = sum({1 << rng.randrange(SLOTS) for _ in range(min(count, 1000))})
        if kind is PAYER:
            item.devices |= dict.fromkeys(range(DEVICES), 1)
    return items


def moments(start: datetime, span: timedelta, count: int, seed: str) -> Iterator[datetime]:
    """Yield `count` sorted times, one at random in each of `count` equal parts of the span.

    >>> [time.hour // 6 for time in moments(TODAY, timedelta(days=1), 4, "any")]
    [0, 1, 2, 3]
    """
    rng = random.Random(seed)
    for n in range(count):
        yield start + span * ((n + rng.random()) / count)


def payment(number: str, occurred_at: datetime, **fields: str | None) -> Transaction:
    """Return a p2p payment from PAYER_ID to PAYEE_ID on DEVICE_ID. `fields` replace fields, or remove them if None."""
    rng = random.Random(number)
    parties = {"type": "p2p", "payer_id": PAYER_ID, "payee_id": PAYEE_ID, "device_id": DEVICE_ID, "channel": "app"}
    return Transaction.model_validate(
        {
            **{name: value for name, value in (parties | fields).items() if value is not None},
            "transaction_id": identifier(f"transaction-{number}"),
            "amount": rng.randrange(100, 2 * MEAN_AMOUNT),
            "currency": "JPY",
            "occurred_at": occurred_at,
        }
    )


def identifier(name: str) -> str:
    """Return an id of 36 characters, as in production, because item sizes depend on the length of ids.

    >>> len(identifier("payer"))
    36
    """
    bits = f"{random.Random(name).getrandbits(128):032x}"
    return "-".join((bits[:8], bits[8:12], bits[12:16], bits[16:20], bits[20:]))


def other(n: int) -> str:
    """Return the id of the counterparty of payment number `n`: CROWD different ones in turn."""
    return identifier(f"other-{n % CROWD}")


PAYER_ID, PAYEE_ID, DEVICE_ID = map(identifier, ("payer", "payee", "device"))
