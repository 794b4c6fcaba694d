"""What `make acceptance` shows of the stream: the API's decisions in spite of crashes, exact counters, nothing lost.

Every function takes a world of payments, plays it through boxes of its own and prints one line of figures; the tests
call the same functions with fewer payments.
"""

import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from local import redrive
from local.box import Box
from local.replay import BATCH_SPAN, STREAM, Row, decisions, deliver, in_event_order, set_aside

FUNCTION = "TransactionStream"
BATCH = 30
REDELIVERED = 0.05
CRASHES = 3
SHUFFLED = timedelta(minutes=10)
REQUIRED = ("type", "payer_id", "amount", "currency", "occurred_at")
POLL_S = 0.005
PATIENCE_S = 60.0


class Outcome(NamedTuple):
    """What must not depend on how a payment came in: everything but times."""

    decision: str
    counters: str
    features: bytes
    fingerprint: str


@dataclass(frozen=True)
class Run:
    """What a run has left in its box: decisions, counters, and every change of a stored decision."""

    outcomes: Mapping[str, Outcome]
    recounted: frozenset[str]
    counters: Mapping[tuple[str, str], str]
    overwritten: int
    crashes: int = 0


def same_decisions(name: str, payments: Sequence[Row], seed: int = 1) -> bool:
    """The same payments by API and, redelivered and with crashes, through one shard: equal but for those in flight."""
    ordered = in_event_order(payments)
    by_api = run(ordered, _by_api)
    by_stream = run(ordered, lambda box, payments: _by_stream(box, payments, _random(seed), CRASHES))
    ids = {payment["transaction_id"] for payment in ordered}
    lost = len(ids - by_stream.outcomes.keys())
    different = {id_ for id_ in ids if by_stream.outcomes.get(id_) != by_api.outcomes.get(id_)}
    unexplained = different - by_stream.recounted
    print(
        f"{name}: {len(by_stream.outcomes)} of {len(ids)} payments decided by one shard,"
        f" {REDELIVERED:.0%} delivered twice, {by_stream.crashes} crashes; {lost} lost,"
        f" {by_stream.overwritten} decided twice, {len(unexplained)} differ from the API's, counters"
        f" {'equal' if by_stream.counters == by_api.counters else 'differ'};"
        f" recounted: {', '.join(sorted(by_stream.recounted)) or 'none'}"
    )
    crashed_enough = by_stream.crashes == CRASHES and len(by_stream.recounted) <= CRASHES
    same_counters = by_stream.counters == by_api.counters
    return crashed_enough and same_counters and not (lost or by_stream.overwritten or unexplained)


def same_counters(name: str, payments: Sequence[Row], seed: int = 2) -> bool:
    """The same payments in order, and shuffled within ten minutes with duplicates: equal counters in the end."""
    ordered, rng = in_event_order(payments), _random(seed)
    straight = run(ordered, lambda box, payments: _by_stream(box, payments, rng, 0))
    shuffled = run(_shuffled(ordered, rng), lambda box, payments: _by_stream(box, payments, rng, 0))
    keys = straight.counters.keys() | shuffled.counters.keys()
    different = sum(straight.counters.get(key) != shuffled.counters.get(key) for key in keys)
    print(f"{name}: {len(keys)} counters after {len(ordered)} payments in and out of order, {different} differ")
    return not different and len(straight.outcomes) == len(shuffled.outcomes) == len(ordered)


def nothing_lost(name: str, payments: Sequence[Row], count: int = 300, seed: int = 4) -> bool:
    """Fuzzed records: each is decided, or set aside with its reason; those that can be mended are, and then decided."""
    rng = _random(seed)
    with Box(parameters={"Currency": payments[0]["currency"]}) as box:
        box.clock.advance(max(datetime.fromisoformat(payment["occurred_at"]) for payment in payments))
        records = list(_fuzzed(payments, count, rng))
        sequences = _put(box, [record.data for record in records])
        box.settle()
        decided, aside = decisions(box), {line["sequence"]: line for line in set_aside(box)}
        lost = [
            record
            for record, sequence in zip(records, sequences, strict=True)
            if (record.payment is None) != (sequence in aside)
            or (record.payment and record.payment["transaction_id"] not in decided)
        ]
        unexplained = sum(not (line["reason"] == "conflict" or line["errors"]) for line in aside.values())
        mended, waiting = _mended(box, payments[0])
        given_up = box.client("s3").list_objects_v2(Bucket=_variable(box, "ARCHIVE_BUCKET"), Prefix="aws/")["KeyCount"]
    reasons = Counter(line["reason"] for line in aside.values())
    print(
        f"{name}: {len(records)} fuzzed records, {len(records) - len(aside)} decided or repeated,"
        f" set aside: {', '.join(f'{why} {n}' for why, n in reasons.most_common())}; {len(lost)} lost,"
        f" {unexplained} without a reason, {given_up} given up, {mended} mended and decided, {waiting} left"
    )
    return not (lost or unexplained or given_up or waiting) and mended == len(aside)


def _random(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 - examples, not secrets


def run(payments: Sequence[Row], play: Callable[[Box, Sequence[Row]], int]) -> Run:
    """Play payments through a box of their own; `play` returns how often it crashed the consumer."""
    with Box(parameters={"Currency": payments[0]["currency"]}) as box:
        crashes = play(box, payments)
        box.settle()
        rows = {row["pk"]["S"]: row for row in _rows(box, "DECISIONS_TABLE")}
        recounted = {id_ for id_, row in rows.items() if json.loads(row["answer"]["S"])["recounted"]}
        counters = {(row["pk"]["S"], row["sk"]["S"]): _content(row) for row in _rows(box, "COUNTERS_TABLE")}
        outcomes = {id_: _outcome(row) for id_, row in rows.items()}
        return Run(outcomes, frozenset(recounted), counters, _overwritten(box), crashes)


def _by_api(box: Box, payments: Sequence[Row]) -> int:
    with box.connect() as client:
        for payment in payments:
            deliver(client, payment)
    return 0


def _by_stream(box: Box, payments: Sequence[Row], rng: random.Random, crashes: int) -> int:
    """Put batches on the shard, some records twice, and crash the consumer in the middle of `crashes` of them."""
    done = 0
    for batch in _batches(payments):
        box.clock.advance(max(datetime.fromisoformat(payment["occurred_at"]) for payment in batch))
        delivered = [payment for payment in batch for _ in range(1 + (rng.random() < REDELIVERED))]
        decided = _count(box)
        _put(box, [json.dumps(payment).encode() for payment in delivered])
        if done < crashes and len(batch) > 2:  # noqa: PLR2004 - there is a middle
            done += _crashed(box, decided + rng.randint(1, len(batch) // 2))
        box.settle()
    return done


def _crashed(box: Box, decided: int) -> int:
    """End the consumer once so many payments are decided; 0 when it was faster."""
    deadline = time.monotonic() + PATIENCE_S
    while _count(box) < decided:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{FUNCTION} decides nothing")
        time.sleep(POLL_S)
    return box.environments.crash(FUNCTION)


def _batches(payments: Sequence[Row]) -> Iterator[list[Row]]:
    """Payments as they come, in batches within which one instant of the clock is late enough and not too late."""
    batch: list[Row] = []
    for payment in payments:
        times = [datetime.fromisoformat(one["occurred_at"]) for one in (*batch, payment)]
        if batch and (len(batch) == BATCH or max(times) - min(times) > BATCH_SPAN):
            yield batch
            batch = []
        batch.append(payment)
    if batch:
        yield batch


def _shuffled(ordered: Sequence[Row], rng: random.Random) -> list[Row]:
    """Each payment at most ten minutes away from its place."""

    def place(payment: Row) -> float:
        return datetime.fromisoformat(payment["occurred_at"]).timestamp() + rng.uniform(0, SHUFFLED.total_seconds())

    return sorted(ordered, key=place)


def _put(box: Box, records: Sequence[bytes]) -> list[str]:
    """Put records on the one shard; their sequence numbers."""
    kinesis, sequences = box.client("kinesis"), []
    for start in range(0, len(records), BATCH):
        entries = [{"Data": data, "PartitionKey": "one"} for data in records[start : start + BATCH]]
        answer = kinesis.put_records(StreamName=STREAM, Records=entries)
        sequences += [record["SequenceNumber"] for record in answer["Records"]]
    return sequences


class Fuzzed(NamedTuple):
    """A record, and the payment that it must decide; None when nobody can decide it."""

    data: bytes
    payment: Row | None


def _fuzzed(payments: Sequence[Row], count: int, rng: random.Random) -> Iterator[Fuzzed]:
    """Records of which about two thirds are broken, each in one of the ways below."""
    breaks: list[Callable[[Row], bytes]] = [
        lambda payment: json.dumps(payment)[: rng.randrange(1, 40)].encode(),
        lambda _: rng.randbytes(rng.randrange(1, 60)),
        lambda _: rng.choice([b"null", b"[]", b"1", b'""', b" "]),
        lambda payment: _json(payment | {rng.choice(REQUIRED): rng.choice([None, [], {}, -1, "\u0000", True])}),
        lambda payment: _json({name: payment[name] for name in payment if name != "transaction_id"}),
        lambda payment: _json(payment | {"currency": "XXX"}),
        lambda payment: _json(payment | {"unknown_field": 1}),
        lambda payment: _json(payment | {"metadata": {str(n): "x" * 5000 for n in range(60)}}),
        lambda payment: _json(payment | {"occurred_at": "2001-01-01T00:00:00Z"}),
        lambda payment: _json(payment | {"occurred_at": "2101-01-01T00:00:00Z"}),
    ]
    known: list[Row] = []
    for number in range(count):
        payment = payments[number % len(payments)] | {"transaction_id": f"fuzzed-{number}"}
        match rng.randrange(3):
            case 0:
                known.append(payment)
                yield Fuzzed(_json(payment), payment)
            case 1 if known and rng.random() < 0.2:  # noqa: PLR2004 - some
                yield Fuzzed(_json(rng.choice(known) | {"amount": 424242}), None)
            case _:
                yield Fuzzed(rng.choice(breaks)(payment), None)


def _json(payment: Row) -> bytes:
    return json.dumps(payment).encode()


def _mended(box: Box, example: Row) -> tuple[int, int]:
    """Take what was set aside out, put a payment in order in the place of each, send them; decided, and still there."""
    sqs, queue = box.client("sqs"), _variable(box, "UNDECIDABLE_QUEUE_URL")
    lines = list(redrive.read(sqs, box.client("s3"), queue, _variable(box, "ARCHIVE_BUCKET")))
    mended = [line | {"payment": example | {"transaction_id": f"mended-{number}"}} for number, line in enumerate(lines)]
    redrive.send(sqs, box.client("kinesis"), queue, STREAM, mended)
    box.settle()
    return sum(id_.startswith("mended-") for id_ in decisions(box)), len(set_aside(box))


def _variable(box: Box, name: str) -> str:
    return box.stack.functions[0].environment[name]


def _rows(box: Box, table: str) -> Iterator[dict[str, Any]]:
    for page in box.client("dynamodb").get_paginator("scan").paginate(TableName=_variable(box, table)):
        yield from page["Items"]


def _count(box: Box) -> int:
    table = box.client("dynamodb").describe_table(TableName=_variable(box, "DECISIONS_TABLE"))["Table"]
    count: int = table["ItemCount"]
    return count


def _overwritten(box: Box) -> int:
    """Changes of a decision after it was stored, as the table's own stream tells."""
    streams, dynamodb = box.client("dynamodbstreams"), box.client("dynamodb")
    arn = dynamodb.describe_table(TableName=_variable(box, "DECISIONS_TABLE"))["Table"]["LatestStreamArn"]
    (shard,) = streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]
    iterator = streams.get_shard_iterator(StreamArn=arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON")
    answer = streams.get_records(ShardIterator=iterator["ShardIterator"])
    changed = 0
    while answer["Records"]:
        changed += sum(record["eventName"] != "INSERT" for record in answer["Records"])
        answer = streams.get_records(ShardIterator=answer["NextShardIterator"])
    return changed


def _outcome(row: Mapping[str, Any]) -> Outcome:
    answer = json.loads(row["answer"]["S"])
    decision = {name: value for name, value in answer.items() if name not in {"decided_at", "steps_ms", "recounted"}}
    return Outcome(
        json.dumps(decision, sort_keys=True), row["counters"]["S"], bytes(row["features"]["B"]), row["fingerprint"]["S"]
    )


def _content(row: Mapping[str, Any]) -> str:
    """An item as text, elements of its sets in order."""
    return json.dumps(
        {
            name: {kind: sorted(value) if kind in {"NS", "BS"} else value}
            for name, of in row.items()
            for kind, value in of.items()
        },
        default=bytes.hex,
        sort_keys=True,
    )
