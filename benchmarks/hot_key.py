"""The hottest keys: 5,000 payments to one receiver in an hour, and a plan for receivers that are paid all day.

The product's own store counts the hours on a metered DynamoDB in memory: in one shard, in as many shards as the fold
would choose afterwards, and in eight shards. The result is compared with the counters in memory. The plan is arithmetic
on the same item sizes, for a receiver that is paid at a steady rate, on a day before it is in the shard table and on a
day after. `met` says that the item stays within DynamoDB's 400 KB, and that its key at the end of the period stays
within 800 write units a second, of the 1,000 that a key may have. `read_units_per_s` are read units of the counters
table: these payments' reads of the receiver's live items.
"""

import math
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from benchmarks import lives, table
from benchmarks.lives import MEAN_AMOUNT, NOON, PAYEE_ID
from benchmarks.metering import TABLES, MeteredStack, Term, read_units, size_of, write_units
from fraud.counters import sharding
from fraud.counters.codec import SHARDS, profile_of
from fraud.counters.in_memory import InMemoryCounters
from fraud.counters.layout import (
    DAY,
    MERCHANT,
    PAYEE,
    SCALES,
    SLOTS,
    TOKEN_BYTES,
    Item,
    Kind,
    ShardSchedule,
    packed,
    updates,
)
from fraud.counters.windows import measure
from fraud.transaction import Transaction

PAYMENTS = 5_000
HOUR = timedelta(hours=1)
BY_HAND = 8
TYPES: Mapping[str, Kind] = {"p2p": PAYEE, "merchant": MERCHANT}
RATES: Mapping[str, float] = {"1 a second": 1, "5,000 an hour": 5_000 / 3600, "10 a second": 10, "100 a second": 100}
MOST_WU = 800
LARGEST = 400 * 1024


def steps(stack: MeteredStack, entity: str) -> ShardSchedule:
    """Return the schedule of an entity in the shard table, empty if it has none."""
    found: ShardSchedule = profile_of(stack.meter.database.tables[TABLES.profiles].get((SHARDS,), {})).get(entity, ())
    return found


def payments(type_: str, count: int) -> Iterator[Transaction]:
    """Yield `count` payments within an hour from many payers to one receiver."""
    for n, occurred_at in enumerate(lives.moments(NOON, HOUR, count, type_)):
        yield lives.payment(f"{type_} {n}", occurred_at, type=type_, payer_id=lives.other(n), device_id=None)


def hour(type_: str, number: int, count: int = PAYMENTS) -> tuple[dict[str, Any], int]:
    """Count an hour's payments to a receiver that is split into `number` shards.

    Return the row, and the number of shards that the fold chooses afterwards.
    """
    stack, kind, memory = MeteredStack(NOON - timedelta(days=sharding.AHEAD_DAYS)), TYPES[type_], InMemoryCounters()
    entity = kind.key(PAYEE_ID)
    stack.tell({"split": entity, "shards": number})
    terms: list[list[Term]] = []
    for payment in payments(type_, count):
        stack.now = payment.occurred_at
        stack.meter.terms = []
        (state_read,) = stack.store.count([payment])
        state = memory.count(payment)
        terms.append([term for term in stack.meter.terms if term.name.split()[1] == "counter"])
    values = measure(payment, state_read.state)
    of_key = [[term for term in each if term.pk.startswith(entity)] for each in terms]
    written = [max(term.wru for term in each if term.name.startswith("write")) for each in of_key]
    per_second = count / HOUR.total_seconds() / number * written[-1]
    key = updates(payment)[1].key
    stack.now = datetime.fromtimestamp((key.day + 2) * DAY, tz=NOON.tzinfo)
    stack.tell({"pk": key.pk, "sk": key.sk})
    of_fold = max([then for _, then in steps(stack, entity)], default=1) if number == 1 else number
    row = {
        "name": f"hour: {count:,} {type_}",
        "n": number,
        "counted": int(values[f"{kind.name}_count_1h"]),
        "as_in_memory": table.yes(values == measure(payment, state)),
        "largest_bytes": max(term.size for each in of_key for term in each),
        "payment_wru": sum(term.wru for each in terms for term in each) / count,
        "payment_wru_last": sum(term.wru for term in terms[-1]),
        "key_wru": sum(written) / count,
        "key_wru_last": written[-1],
        "receiver_rru_last": sum(term.rru for term in of_key[-1]),
        "key_wu_per_s": per_second,
        "met": table.yes(per_second <= MOST_WU),
    }
    return row, of_fold


def hours(type_: str) -> Iterator[table.Row]:
    """Yield the rows of the hour: unsplit, as the fold would split it afterwards, and split by hand."""
    row, of_fold = hour(type_, 1)
    yield row | {"name": f"{row['name']}, unsplit{', as the fold leaves it' * (of_fold == 1)}"}
    for number, who in {of_fold: "by the fold", BY_HAND: "by hand"}.items():
        if number > 1:
            row, _ = hour(type_, number)
            yield row | {"name": f"{row['name']}, split {who}"}


def item_bytes(kind: Kind, rate: float, seconds: float) -> float:
    """Return the bytes of an item that has been written `rate` times a second for `seconds`."""
    writes = rate * seconds
    item: dict[str, Any] = {
        "pk": {"S": f"{kind.key(PAYEE_ID)}#1"},
        "sk": {"S": f"{kind.sk}20500"},
        "ttl": {"N": "1" * 10},
    }
    for scale in kind.scales:
        filled = _filled(math.ceil(seconds / SCALES[scale]), writes)
        each = writes / max(filled, 1)
        value = {"N": str(packed(math.ceil(each), math.ceil(each * MEAN_AMOUNT)))}
        item |= {f"{scale}{round(n * seconds / max(filled, 1) / SCALES[scale])}": value for n in range(filled)}
    clock_hours = math.ceil(seconds / 3600)
    slots = [hour * SLOTS + slot for hour in range(clock_hours) for slot in range(_filled(SLOTS, writes / clock_hours))]
    item["d"] = {"NS": [str(slot) for slot in slots]}
    one, two = (size_of({"r": {"BS": [bytes(TOKEN_BYTES)] * n}}) for n in (1, 2))
    return size_of(item) + one + (writes - 1) * (two - one)


def _filled(places: int, thrown: float) -> int:
    """Return how many places are filled when payments spread evenly over them: as many as possible."""
    return min(places, round(thrown))


def plan(kind: Kind, name: str, rate: float) -> Iterator[table.Row]:
    """Yield two rows of a receiver that is paid at a steady rate: the day before it is split, and a day after."""
    per_hour = round(rate * 3600)
    full = dict.fromkeys(range(kind.period // 3600), (1 << SLOTS) - 1)
    item = Item(slots=full)
    item.buckets["h"] = dict.fromkeys(full, packed(per_hour, per_hour * MEAN_AMOUNT))
    for day, number in (("unsplit, day one", 1), ("split", sharding.shards_wanted(item))):
        share = rate / number
        size = item_bytes(kind, share, kind.period)
        written = min(size, LARGEST)  # DynamoDB refuses an update beyond it
        per_second = share * write_units(0, math.ceil(written))
        pages = read_units(math.ceil(written), consistent=True)
        read = (number - 1) * pages + (kind.live - 1) * number * pages / 2
        yield {
            "name": f"plan: {kind.name}, {name}, {day}",
            "n": number,
            "item_bytes": round(size),
            "key_wru": write_units(0, math.ceil(written)),
            "key_wu_per_s": per_second,
            "s_to_64_kb": _until(kind, share, lambda size: size > sharding.LARGE),
            "s_to_800_wu": _until(kind, share, lambda size, share=share: share * size / 1024 > MOST_WU),
            "s_to_400_kb": _until(kind, share, lambda size: size > LARGEST),
            "receiver_rru": read,
            "read_units_per_s": read * rate,
            "met": table.yes(per_second <= MOST_WU and size <= LARGEST),
        }


def _until(kind: Kind, rate: float, reached: Any) -> int | None:  # noqa: ANN401 - a predicate on bytes
    """Return the first second of a period at whose end the item's size meets `reached`, or None."""
    low, high = 0, kind.period
    if not reached(item_bytes(kind, rate, high)):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(item_bytes(kind, rate, middle)) else (middle, high)
    return high


def rows() -> list[table.Row]:
    """Return the rows of the hours, then those of the plan."""
    counted = [row for type_ in TYPES for row in hours(type_)]
    return [
        *counted,
        *(row for kind in TYPES.values() for name, rate in RATES.items() for row in plan(kind, name, rate)),
    ]


if __name__ == "__main__":
    table.run(rows, __doc__)
