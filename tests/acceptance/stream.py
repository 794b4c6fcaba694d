"""Play a scenario through a box by one door, and collect its traces; `tests.acceptance.doors` compares the doors.

By the API each payment comes at its own time. By the stream all payments come through one shard, some records twice, in
event order or shuffled, and the consumer crashes in between. Broken records have a run of their own.
"""

import json
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any, NamedTuple

from fraud.counters.windows import NAMES, VOID
from fraud.decisions.record import PACKED
from fraud.decisions.store import contents_of
from local.api.client import Client
from local.box import Box
from local.replay import (
    BATCH_SPAN,
    STREAM,
    Report,
    Row,
    decisions,
    deliver,
    look_up,
    report,
    set_aside,
)
from operations import redrive
from tests.acceptance.worlds import Confirmed, Opening, Scenario, occurred_at

FUNCTION = "TransactionStream"
BATCH = 30
REDELIVERED = 0.05
SHUFFLED = timedelta(minutes=10)
REPEATS = 50
"""About as many payments, evenly spread, are delivered to the API again when all are decided."""

REQUIRED = ("type", "payer_id", "amount", "currency", "occurred_at")

POLL_S = 0.005
WAIT_S = 60.0

VOID_COLUMN = re.compile(r"v\d+|rv")


class Outcome(NamedTuple):
    """The part of a decision that must not depend on the door or on retries.

    That is all but times, `recounted`, and the counter of void money: challenges expire when a sweep comes.
    """

    decision: str
    counters: str
    features: bytes
    fingerprint: str


@dataclass(frozen=True)
class Left:
    """The traces of a run in its box.

    outcomes     the stored decision of each payment
    recounted    payments whose decision says so
    degraded     number of degraded decisions
    counters     items and profiles by key, with their folded history
    overwritten  number of changes of decisions after they were stored
    """

    outcomes: Mapping[str, Outcome]
    recounted: frozenset[str]
    degraded: int
    counters: Mapping[tuple[str, str], str]
    overwritten: int


InFlight = list[frozenset[str]]
"""For each crash the ids of the batch that was in flight."""


def by_api(scenario: Scenario, opening: Opening) -> tuple[Report, Left]:
    """Deliver every payment by API at its own time, and at the end some of them again."""
    with _opened(scenario, opening) as box, box.connect() as client:
        first = []
        for step in scenario.steps():
            if isinstance(step, Confirmed):
                _tell(client, step)
            else:
                first.append(deliver(client, step))
        stored = [look_up(client, payment) for payment in scenario.payments]
        sample = scenario.payments[:: max(1, len(scenario.payments) // REPEATS)]
        again = {delivery.transaction_id: delivery.answer for delivery in (deliver(client, row) for row in sample)}
        return report(first, stored, again, {}), _left(box)


def by_stream(scenario: Scenario, opening: Opening, crashes: int = 0, seed: int = 1) -> tuple[InFlight, Left]:
    """Deliver the payments in order through one shard, some twice, and kill the consumer within `crashes` batches.

    Return also the payments in flight at each crash.
    """
    with _opened(scenario, opening) as box:
        return _played(box, scenario.steps(), _random(seed), crashes), _left(box)


def shuffled(scenario: Scenario, opening: Opening, seed: int = 2) -> Left:
    """Deliver the payments through one shard, some twice, each up to ten minutes later than it occurred."""
    rng = _random(seed)

    def place(payment: Row) -> datetime:
        return occurred_at(payment) + rng.random() * SHUFFLED

    with _opened(scenario, opening) as box:
        _played(box, scenario.steps(place), rng, 0)
        return _left(box)


def nothing_lost(scenario: Scenario, count: int, seed: int = 4) -> bool:
    """Deliver fuzzed records, and tell whether each is decided or set aside with a reason.

    Records that were set aside are mended and sent again, and must then be decided.
    """
    rng, payments = _random(seed), scenario.payments[:count]
    with Box(parameters={"Currency": payments[0]["currency"]}) as box:
        box.clock.advance(max(map(occurred_at, payments)))
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
        given_up = box.client("s3").list_objects_v2(Bucket=variable(box, "ARCHIVE_BUCKET"), Prefix="aws/")["KeyCount"]
    reasons = Counter(line["reason"] for line in aside.values())
    print(
        f"{scenario.name}: {len(records)} fuzzed records, {len(records) - len(aside)} decided or repeated,"
        f" set aside: {', '.join(f'{why} {n}' for why, n in reasons.most_common())}; {len(lost)} lost,"
        f" {unexplained} without a reason, {given_up} given up, {mended} mended and decided, {waiting} left",
        flush=True,
    )
    return not (lost or unexplained or given_up or waiting) and mended == len(aside)


def _random(seed: int) -> random.Random:
    return random.Random(seed)


@contextmanager
def _opened(scenario: Scenario, opening: Opening) -> Iterator[Box]:
    """Start a box without cases: they hold accounts, at another moment of each run."""
    with Box(parameters={"Currency": scenario.payments[0]["currency"], "CaseOutcomes": "none"}) as box:
        opening.write(box)
        yield box


def _left(box: Box) -> Left:
    box.settle()
    decided = {row["pk"]["S"]: row for row in rows(box, "DECISIONS_TABLE")}
    answers = {id_: json.loads(contents_of(row).answer) for id_, row in decided.items()}
    counters = (*rows(box, "COUNTERS_TABLE"), *rows(box, "PROFILES_TABLE"))
    return Left(
        outcomes={id_: _outcome(row) for id_, row in decided.items()},
        recounted=frozenset(id_ for id_, answer in answers.items() if answer["recounted"]),
        degraded=sum(bool(answer["degraded"]) for answer in answers.values()),
        counters={(row["pk"]["S"], row.get("sk", {"S": ""})["S"]): _content(row) for row in counters},
        overwritten=overwritten(box),
    )


def _tell(client: Client, news: Confirmed) -> None:
    answer = client.request("POST", "/labels", json.dumps({"labels": [news.order]}).encode(), news.at)
    results = json.loads(answer.body)["results"] if answer.status == HTTPStatus.OK else []
    # Unchanged: the emulator was so slow that PynamoDB sent the request again, after the first had been accepted.
    if [result["status"] for result in results] not in (["accepted"], ["unchanged"]):
        raise RuntimeError(f"label {news.order['transaction_id']}: {answer.status} {answer.body.decode()}")


def _played(box: Box, steps: Sequence[Row | Confirmed], rng: random.Random, crashes: int) -> InFlight:
    """Put batches on the shard, some records twice, and crash the consumer in the middle of `crashes` of them."""
    in_flight: InFlight = []
    batches = list(_batches(steps))
    for number, batch in enumerate(batches):
        if isinstance(batch, Confirmed):
            with box.connect() as client:
                _tell(client, batch)
            continue
        box.clock.advance(max(map(occurred_at, batch)))
        delivered = [payment for payment in batch for _ in range(1 + (rng.random() < REDELIVERED))]
        decided = _count(box)
        _put(box, [json.dumps(payment).encode() for payment in delivered])
        due = len(in_flight) < crashes and number >= len(in_flight) * len(batches) // crashes
        if due and len(batch) > 2 and _crashed(box, decided + rng.randint(1, len(batch) // 2)):
            in_flight.append(frozenset(payment["transaction_id"] for payment in batch))
        box.settle()
    return in_flight


def _crashed(box: Box, decided: int) -> int:
    """Kill the consumer when `decided` payments are decided. Return 0 when the consumer was faster.

    Raises TimeoutError when so many are not decided within WAIT_S.
    """
    deadline = time.monotonic() + WAIT_S
    while _count(box) < decided:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{FUNCTION} decides nothing")
        time.sleep(POLL_S)
    return box.environments.crash(FUNCTION)


def _batches(steps: Sequence[Row | Confirmed]) -> Iterator[list[Row] | Confirmed]:
    """Yield payments in batches, and labels between them.

    The payments of a batch lie so close together in time that one instant of the clock suits them all.
    """
    batch: list[Row] = []
    for step in steps:
        if isinstance(step, Confirmed):
            if batch:
                yield batch
            yield step
            batch = []
            continue
        times = [occurred_at(payment) for payment in (*batch, step)]
        if batch and (len(batch) == BATCH or max(times) - min(times) > BATCH_SPAN):
            yield batch
            batch = []
        batch.append(step)
    if batch:
        yield batch


def _put(box: Box, records: Sequence[bytes]) -> list[str]:
    """Put records on the one shard and return their sequence numbers."""
    kinesis, sequences = box.client("kinesis"), []
    for start in range(0, len(records), BATCH):
        entries = [{"Data": data, "PartitionKey": "one"} for data in records[start : start + BATCH]]
        answer = kinesis.put_records(StreamName=STREAM, Records=entries)
        sequences += [record["SequenceNumber"] for record in answer["Records"]]
    return sequences


class Fuzzed(NamedTuple):
    """A record, and the payment in it that must be decided, or None when the record cannot be decided."""

    data: bytes
    payment: Row | None


def _fuzzed(payments: Sequence[Row], count: int, rng: random.Random) -> Iterator[Fuzzed]:
    """Yield `count` records. About two thirds are broken, each in one of the ways below."""
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
            case 1 if known and rng.random() < 0.2:
                yield Fuzzed(_json(rng.choice(known) | {"amount": 424242}), None)
            case _:
                yield Fuzzed(rng.choice(breaks)(payment), None)


def _json(payment: Row) -> bytes:
    return json.dumps(payment).encode()


def _mended(box: Box, example: Row) -> tuple[int, int]:
    """Replace the payment of each record that was set aside by a valid one, and send the records again.

    Return the number of mended payments decided, and the number of records still set aside.
    """
    sqs, queue = box.client("sqs"), variable(box, "UNDECIDABLE_QUEUE_URL")
    lines = list(redrive.read(sqs, box.client("s3"), queue, variable(box, "ARCHIVE_BUCKET"), wait_s=0))
    mended = [line | {"payment": example | {"transaction_id": f"mended-{number}"}} for number, line in enumerate(lines)]
    redrive.send(sqs, box.client("kinesis"), queue, STREAM, mended, box.client("s3"))
    box.settle()
    return sum(id_.startswith("mended-") for id_ in decisions(box)), len(set_aside(box))


def variable(box: Box, name: str) -> str:
    """Return a variable that all functions of the box have."""
    return box.stack.functions[0].environment[name]


def rows(box: Box, table: str) -> Iterator[dict[str, Any]]:
    """Yield every row of the table that a variable names."""
    for page in box.client("dynamodb").get_paginator("scan").paginate(TableName=variable(box, table)):
        yield from page["Items"]


def _count(box: Box) -> int:
    table = box.client("dynamodb").describe_table(TableName=variable(box, "DECISIONS_TABLE"))["Table"]
    count: int = table["ItemCount"]
    return count


def overwritten(box: Box) -> int:
    """Return how often a stored decision was replaced, by the table's own stream. A new status replaces none."""
    streams, dynamodb = box.client("dynamodbstreams"), box.client("dynamodb")
    arn = dynamodb.describe_table(TableName=variable(box, "DECISIONS_TABLE"))["Table"]["LatestStreamArn"]
    (shard,) = streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]
    iterator = streams.get_shard_iterator(StreamArn=arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON")
    answer = streams.get_records(ShardIterator=iterator["ShardIterator"])
    changed = 0
    while answer["Records"]:
        changes = [record["dynamodb"] for record in answer["Records"] if record["eventName"] != "INSERT"]
        changed += sum(change["OldImage"][PACKED] != change.get("NewImage", {}).get(PACKED) for change in changes)
        answer = streams.get_records(ShardIterator=answer["NextShardIterator"])
    return changed


def _outcome(row: Mapping[str, Any]) -> Outcome:
    contents = contents_of(row)
    answer = json.loads(contents.answer)
    decision = {name: value for name, value in answer.items() if name not in {"decided_at", "steps_ms", "recounted"}}
    counters = {**dict(zip(NAMES, json.loads(contents.counters), strict=True)), VOID: None}
    return Outcome(
        json.dumps(decision, sort_keys=True),
        json.dumps(list(counters.values())),
        bytes(row["features"]["B"]),
        row["fingerprint"]["S"],
    )


def _content(row: Mapping[str, Any]) -> str:
    """Return an item as text, with the elements of its sets sorted.

    Without what is void: challenges expire when a sweep comes, and a run may end before or after one.
    """
    return json.dumps(
        {
            name: {kind: sorted(value) if kind in {"NS", "BS"} else value}
            for name, of in row.items()
            if not VOID_COLUMN.fullmatch(name)
            for kind, value in of.items()
        },
        default=bytes.hex,
        sort_keys=True,
    )
