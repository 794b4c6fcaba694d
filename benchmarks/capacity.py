"""Request units and dollars of a decision, term by term, for entities with different rates of payments.

Every payment runs through the product's own evaluation on a metered DynamoDB in memory. Its entities have a month of
folded history, and payments of yesterday and today that were counted one by one. The payer's side (payer, device, pair,
decision) is metered on one payer with many payees. The receiver's side is metered on one receiver with many payers.
Both have the rate of the row. The fold's work for one closed period is metered too and divided by the payments in it.
Prices are list prices of us-east-1 in USD.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from benchmarks import activity, audit, lives, marks, resolutions, table
from benchmarks.lives import DEVICE_ID, PAYEE_ID, PAYER_ID, TODAY
from benchmarks.metering import TABLES, WRITE_UNIT, MeteredStack, Term
from fraud.archive import schema
from fraud.archive.record import line
from fraud.archive.store import packed, row_of
from fraud.counters import fold
from fraud.counters.codec import KEYS
from fraud.counters.keys import DECLARED
from fraud.counters.layout import DAY, DEVICE, MERCHANT, PAYEE, PAYER, Kind
from fraud.decisions.events import RowChange
from fraud.decisions.store import contents_of
from fraud.transaction import Transaction
from local import archive

PRICES: Mapping[str, tuple[float, str, str]] = {
    "WRU": (0.625e-6, "write request unit", "DynamoDB on-demand, since 2024-11-01"),
    "RRU": (0.125e-6, "read request unit", "DynamoDB on-demand, since 2024-11-01"),
    "HTTP API": (1.00e-6, "request of up to 512 KB", "API Gateway, first 300 million a month, read 2025-11"),
    "Lambda request": (0.20e-6, "request", "Lambda, read 2025-11"),
    "Lambda GB-s": (0.0000166667, "GB-second on x86", "Lambda, read 2025-11"),
    "bus": (1.00e-6, "custom event of up to 64 KB", "EventBridge, read 2025-11"),
    "logs": (0.50e-9, "byte ingested", "CloudWatch Logs, read 2025-11"),
    "Kinesis in": (0.08e-9, "byte written, records rounded up to 1 KB", "Kinesis on-demand, read 2025-11"),
    "Kinesis out": (0.04e-9, "byte read", "Kinesis on-demand, read 2025-11"),
    "storage": (0.25e-9, "byte and month", "DynamoDB standard table class, read 2025-11"),
    "Firehose in": (
        0.029e-9,
        "byte put, records rounded up to 5 KB",
        "Firehose Direct PUT, first 500 TB, read 2025-11",
    ),
    "Firehose Parquet": (0.018e-9, "byte converted", "Firehose format conversion, read 2025-11"),
    "Firehose by day": (0.020e-9, "byte partitioned", "Firehose dynamic partitioning, without its 0.07 an hour of JQ"),
    "S3": (0.023e-9, "byte and month", "S3 Standard, read 2025-11"),
    "S3 cool": (0.004e-9, "byte and month", "S3 Glacier Instant Retrieval, read 2025-11"),
    "Athena": (5e-12, "byte scanned", "Athena, read 2025-11"),
}
"""Price in USD, its unit, and its source with the date.

Lambda's reads of a table's stream and deletions by TTL are free.
"""

MEMORY_GB = 1769 / 1024
DECISION_MS = 12
"""Billed duration of a decision with the embedded model: two DynamoDB steps of 4-5 ms, and the CPU. See hot_path."""
EVENTS_BATCH, EVENTS_MS = 100, 150
"""Records in a batch of decision_events, and its duration: counting, archiving, and a PutEvents call."""
PUBLISHED = 0.03
"""Share of decisions that are published: 2 % that are no approval, and PublishedShare (1 %) of the others."""
PACKED_BYTES = 5 * 1024
"""Firehose bills a record by whole 5 KB. A batch is one record, so what it rounds up is shared by all of its rows."""
TALLY_BYTES = 4_000
"""Bytes of a minute's tallies: some 80 names of policy, rule, segment and outcome."""
LOG_BYTES = 1_100
"""Log bytes of a decision: our line (about 650), Lambda's START, END and REPORT (300), the API's access log (150)."""

RATES = (3, 20, 300, 5_000)
SAMPLES = 24

ITEM_OVERHEAD = 100
"""Bytes that DynamoDB adds to every stored item."""


class Life(NamedTuple):
    """The rate of an entity: `payments` within `span` of each day, beginning at midnight plus `start`.

    No payments come in the rest of the day.
    """

    name: str
    payments: int
    start: timedelta = timedelta()
    span: timedelta = timedelta(days=1)

    def moments(self, midnight: datetime, who: str) -> Iterator[datetime]:
        """Yield the times of one day's payments. `who` is a part of the random seed."""
        return lives.moments(midnight + self.start, self.span, self.payments, f"{who} {midnight}")


LIVES = (
    *(Life(f"{rate:,} a day", rate) for rate in RATES),
    Life("5,000 in one hour", 5_000, timedelta(hours=12), timedelta(hours=1)),
)


class Side(NamedTuple):
    """One side of a payment: its kinds of counters, and the entity of each.

    Terms whose name has a word of `every` belong to this side for any entity.
    """

    name: str
    kinds: Mapping[Kind, str]
    every: tuple[str, ...]

    def payment(self, number: str, n: int, occurred_at: datetime) -> Transaction:
        """Return payment `n` of this side's entity, with one of its many counterparties."""
        other = lives.other(n)
        if self.name == "payer":
            return lives.payment(number, occurred_at, payee_id=other)
        return lives.payment(number, occurred_at, type=self.name, payer_id=other, device_id=None)

    def concerns(self, term: Term) -> bool:
        """Tell whether a term belongs to this side, by its entity or by its name."""
        return self.follows(term.pk) or any(word in term.name for word in self.every)

    def follows(self, pk: str) -> bool:
        """Tell whether an item with this partition key belongs to an entity of the side, or to one of its pairs."""
        kind, _, entity = pk.partition("#")
        return entity in self.kinds.values() or (kind in self.every and self.kinds.get(PAYER, "-") in entity)


SIDES = {
    "payer": Side("payer", {PAYER: PAYER_ID, DEVICE: DEVICE_ID}, ("pair", "decision")),
    "p2p": Side("p2p", {PAYEE: PAYEE_ID}, ()),
    "merchant": Side("merchant", {MERCHANT: PAYEE_ID}, ()),
}


class Bill(NamedTuple):
    """The cost of a payment by term: write units, read units, and the bytes of the largest item."""

    wru: dict[str, float]
    rru: dict[str, float]
    largest: dict[str, int]


def live(stack: MeteredStack, side: Side, life: Life, midnight: datetime, samples: int) -> list[list[Term]]:
    """Play one day of a side's payments, each at its own time.

    Return the terms of `samples` payments, evenly spread over the day. The others are only counted.
    """
    chosen = {n * life.payments // samples for n in range(samples)} if samples else set()
    found = []
    for n, occurred_at in enumerate(life.moments(midnight, side.name)):
        stack.now = occurred_at
        payment = side.payment(f"{side.name} {midnight} {n}", n, occurred_at)
        stack.meter.on = n in chosen
        if n not in chosen:
            stack.store.count([payment])
            continue
        stack.meter.terms = []
        stack.evaluator.evaluate(payment)
        found.append(stack.meter.terms)
    stack.meter.on = True
    return found


def folded(stack: MeteredStack, kind: Kind, entity: str) -> list[Term]:
    """Fold yesterday's items and return the terms, in the sequence of the requests."""
    stack.meter.terms = []
    stack.now = TODAY + timedelta(days=1, hours=13)
    per_day = DAY // kind.period
    yesterday = int(TODAY.timestamp()) // DAY - 1
    table = stack.meter.database.tables[TABLES.counters]
    for period in range(yesterday * per_day, (yesterday + 1) * per_day):
        if (kind.key(entity), f"{kind.sk}{period}") in table:
            stack.tell({"pk": kind.key(entity), "sk": f"{kind.sk}{period}"})
    return stack.meter.terms


def bill(side: Side, life: Life) -> Bill:
    """Return the cost of a payment on this side, by term."""
    stack = MeteredStack(TODAY)
    stack.meter.on, stack.meter.follows = False, side.follows
    for kind, entity in side.kinds.items():
        lives.folded_past(stack.meter, TABLES, kind, entity, life.payments)
    live(stack, side, life, TODAY - timedelta(days=1), 0)
    samples = live(stack, side, life, TODAY, min(life.payments, SAMPLES))
    made = Bill(defaultdict(float), defaultdict(float), defaultdict(int))
    for term in (term for sample in samples for term in sample if side.concerns(term)):
        _add(made, term.name, term, len(samples))
    # Only the first write of a period writes the index. Samples would include it by chance, so it is computed below.
    for name in [name for name in made.wru if name.startswith("index")]:
        del made.wru[name], made.rru[name], made.largest[name]
    for kind, entity in side.kinds.items():
        terms = folded(stack, kind, entity)
        periods = sum(term.name.startswith("write profile") for term in terms)
        made.wru[f"index counter {kind.name}"] = periods / life.payments
        for term in terms:
            _add(made, f"fold {kind.name}: {term.name}", term, life.payments)
    return made


def _add(made: Bill, name: str, term: Term, payments: int) -> None:
    made.wru[name] += term.wru / payments
    made.rru[name] += term.rru / payments
    made.largest[name] = max(made.largest[name], term.size)


def rows() -> list[table.Row]:
    """Return the rows: terms by rate, sums and dollars by type, costs beside them, prices, and targets.

    The targets are those at 20 payments a day.
    """
    bills = {life: {name: bill(side, life) for name, side in SIDES.items()} for life in LIVES}
    sums: list[dict[str, Any]] = []
    for kind in ("p2p", "merchant"):
        for life in LIVES:
            made = [bills[life]["payer"], bills[life][kind]]
            wru, rru = (sum(sum(getattr(one, unit).values()) for one in made) for unit in ("wru", "rru"))
            cost = sum(usd(wru, rru).values())
            sums.append({"name": f"{kind}, {life.name}", "wru": wru, "rru": rru, "usd_per_million": cost})
    at = {row["name"]: row for row in sums}
    dollars = [
        {"name": f"usd per million: {part}", "p2p, 20 a day": value, "merchant, 20 a day": other}
        for (part, value), other in zip(
            usd(at["p2p, 20 a day"]["wru"], at["p2p, 20 a day"]["rru"]).items(),
            usd(at["merchant, 20 a day"]["wru"], at["merchant, 20 a day"]["rru"]).values(),
            strict=True,
        )
    ]
    return [
        *_terms(bills),
        *sums,
        *dollars,
        *_asides(),
        *_beside(activity.rows()),
        *_beside(resolutions.rows()),
        *_beside(marks.rows()),
        *audit.rows(),
        *_prices(),
        *_targets(at),
    ]


def nano_usd() -> dict[str, int]:
    """Return the list price of a decision at 20 payments a day by type of payment, in nano-dollars.

    `other` is for cash_out and top_up, whose receiving side has the items of p2p.
    """
    life = LIVES[RATES.index(20)]
    bills = {name: bill(side, life) for name, side in SIDES.items()}
    priced = {}
    for kind in ("p2p", "merchant"):
        made = [bills["payer"], bills[kind]]
        wru, rru = (sum(sum(getattr(one, unit).values()) for one in made) for unit in ("wru", "rru"))
        priced[kind] = round(1_000 * sum(usd(wru, rru).values()))
    return priced | {"other": priced["p2p"]}


def _terms(bills: Mapping[Life, Mapping[str, Bill]]) -> Iterator[table.Row]:
    """Yield one row for each term: units per payment and bytes of the largest item, for each rate."""
    for unit in ("wru", "rru"):
        for side in SIDES:
            names = dict.fromkeys(
                name for made in bills.values() for name in getattr(made[side], unit) if getattr(made[side], unit)[name]
            )
            for name in sorted(names, key=lambda name: name.startswith("fold")):
                amounts = {life.name: getattr(made[side], unit).get(name, 0.0) for life, made in bills.items()}
                sizes = [made[side].largest.get(name, 0) for made in bills.values()]
                yield {"name": f"{unit} {side}: {name}", **amounts, "item_bytes": "/".join(map(str, sizes))}


def usd(wru: float, rru: float) -> dict[str, float]:
    """Return the variable USD of a million decisions by the API, part by part, without the endpoint.

    `wru` and `rru` are write and read request units of one decision.

    >>> round(usd(wru=6, rru=4)["DynamoDB writes"], 2)
    3.75
    """
    price = {name: amount for name, (amount, _, _) in PRICES.items()}
    per_decision = {
        "DynamoDB writes": wru * price["WRU"],
        "DynamoDB reads": rru * price["RRU"],
        "HTTP API": price["HTTP API"],
        "decision_api requests": price["Lambda request"],
        f"decision_api {DECISION_MS} ms at {MEMORY_GB:.2f} GB": DECISION_MS / 1000 * MEMORY_GB * price["Lambda GB-s"],
        "logs": LOG_BYTES * price["logs"],
        "decision stream to Lambda": 0.0,
        "decision_events": (price["Lambda request"] + EVENTS_MS / 1000 * MEMORY_GB * price["Lambda GB-s"])
        / EVENTS_BATCH,
        f"event bus, {PUBLISHED:.0%} published": PUBLISHED * price["bus"],
        "tallies": math.ceil(TALLY_BYTES / WRITE_UNIT) / EVENTS_BATCH * price["WRU"],
        f"archive, {archived().row:,.0f} bytes a row": archived().put
        * (price["Firehose in"] + price["Firehose Parquet"] + price["Firehose by day"]),
    }
    return {part: 1e6 * amount for part, amount in per_decision.items()}


class ArchivedBytes(NamedTuple):
    """Bytes of an archived decision: its line of JSON, its share of a Firehose record, and its part of Parquet."""

    row: float
    put: float
    parquet: float


@cache
def archived() -> ArchivedBytes:
    """Measure the archive's row of a p2p payment at 20 a day: a batch of them, as the product makes and packs it."""
    stack, side, life = MeteredStack(TODAY), SIDES["payer"], LIVES[RATES.index(20)]
    for kind, entity in side.kinds.items():
        lives.folded_past(stack.meter, TABLES, kind, entity, life.payments)
    for day in range(EVENTS_BATCH // life.payments):
        live(stack, side, life, TODAY + timedelta(days=day), life.payments)
    decided = stack.meter.database.tables[TABLES.decisions].values()
    rows = [row_of(DECLARED, RowChange(str(n), row, None, contents_of(row))) for n, row in enumerate(decided)]
    records = packed([line(row) for row in rows])
    put = sum(math.ceil(len(record) / PACKED_BYTES) * PACKED_BYTES for record in records)
    with TemporaryDirectory() as scratch:
        archive.write(Path(scratch), schema.DECISIONS, rows)
        parquet = sum(path.stat().st_size for path in Path(scratch).rglob("*.parquet"))
    return ArchivedBytes(sum(map(len, records)) / len(rows), put / len(rows), parquet / len(rows))


def _asides() -> list[table.Row]:
    """Return costs that the sums leave out: watermarks and keys, the stream instead of the API, storage, archive."""
    stack = MeteredStack(TODAY)
    stack.folding.tick()
    stack.meter.terms = []
    stack.evaluator.evaluate(lives.payment("watermarks", TODAY))
    standing = sum(term.rru for term in stack.meter.terms if term.pk in {*fold.WATERMARKS.values(), KEYS})
    stored = max(term.size for term in stack.meter.terms if term.name == "write decision")
    price = {name: amount for name, (amount, _, _) in PRICES.items()}
    kinesis = 1e6 * 1024 * (price["Kinesis in"] + price["Kinesis out"])
    kept = 1e6 * (stored + ITEM_OVERHEAD) * price["storage"]
    return [
        {"name": "aside: rru for watermarks and keys, a minute and environment", "value": standing},
        {"name": "aside: usd per million records by Kinesis, instead of the HTTP API", "value": kinesis},
        {"name": f"aside: usd per million decisions of {stored:,} bytes and month that they are kept", "value": kept},
        {"name": "aside: usd per million approved decisions, if all are published", "value": 1e6 * price["bus"]},
        {"name": "aside: usd per million accounts whose pseudonyms are written", "value": 1e6 * price["WRU"]},
        *(
            {
                "name": f"aside: usd per million archived decisions {name}, {archived().parquet:,.0f} bytes of Parquet",
                "value": 1e6 * archived().parquet * price[rate],
            }
            for name, rate in (
                ("and month in S3", "S3"),
                ("and month once they are cool", "S3 cool"),
                ("that a query reads whole", "Athena"),
            )
        ),
    ]


def _beside(rows: Iterable[table.Row]) -> Iterator[table.Row]:
    """Yield rows with the dollars of their units. They are no part of the sums above."""
    for row in rows:
        cost = {part: 1e6 * row[part.lower()] * PRICES[part][0] for part in ("WRU", "RRU") if part.lower() in row}
        yield {**row, "usd_per_million": sum(cost.values())} if cost else row


def _prices() -> list[table.Row]:
    return [
        {"name": f"price: {name}, a {what} ({source})", "usd": amount}
        for name, (amount, what, source) in PRICES.items()
    ]


def _targets(at: Mapping[str, Mapping[str, Any]]) -> list[table.Row]:
    p2p, merchant = at["p2p, 20 a day"], at["merchant, 20 a day"]
    wanted = (
        ("p2p wru", p2p["wru"], 6.6),
        ("p2p rru", p2p["rru"], 6.0),
        ("merchant rru", merchant["rru"], 13.0),
        ("p2p usd per million", p2p["usd_per_million"], 7.0),
    )
    return [table.target(f"{name} at 20 a day", value, at_most=most) for name, value, most in wanted]


if __name__ == "__main__":
    table.run(rows, __doc__)
