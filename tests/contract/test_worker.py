"""The table in memory responds as the emulated DynamoDB does, and the fold on the emulator is safe against other
writers.
"""

import base64
import itertools
import json
import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from botocore.stub import Stubber

from fraud.aws.client import AwsClient, Timeouts
from fraud.aws.queue import SqsQueue
from fraud.aws.transport import ConditionFailed, Request, Result
from fraud.counters import windows
from fraud.counters.codec import attempt_update, profile_of, watermark_attribute, watermark_update
from fraud.counters.fold import PROFILE_DAYS, WATERMARKS, Progress
from fraud.counters.layout import MERCHANT, PAYER, Key, packed
from fraud.counters.store import Tables, watermark_request
from fraud.counters.worker import PAGE, RESERVE_MS, FoldWorker, Message
from fraud.decisions.record import DecisionRecord, StoredDecision
from fraud.errors import ServiceError, UnavailableError
from fraud.outcome import Outcome
from fraud.settings import AwsIdentity
from fraud.transaction import Transaction
from local.account.emulator import Emulator
from tests.support.deployment import declared_store
from tests.support.fakes import committed, counted
from tests.support.in_memory_dynamodb import InMemoryDynamoDB
from tests.support.payments import NOON, payment, updates

DAY = 86_400
TODAY = int(NOON.timestamp()) // DAY
OUTLIVED = f"fo{TODAY - PROFILE_DAYS}"


METADATA = {"ResponseMetadata", "ConsumedCapacity", "Count", "ScannedCount"}


class Both:
    """A transport to the emulator and to the table in memory. It asserts that their responses are equal."""

    def __init__(self, emulated: AwsClient, memory: InMemoryDynamoDB) -> None:
        self.emulated = emulated
        self.memory = memory
        self.asked: set[str] = set()

    def gather(self, requests: Sequence[Request], until: float | None = None) -> list[Result]:
        self.asked |= {request.operation for request in requests}
        answers = self.memory.gather(requests, until)
        for request, remembered, emulated in zip(requests, answers, self.emulated.gather(requests, until), strict=True):
            assert plain(remembered) == plain(emulated), request
        return answers


def plain(answer: Any) -> Any:
    """Return a response without metadata of the service, binary values as in JSON.

    Lists are sorted, because sets and batches have no order.
    """
    if isinstance(answer, ConditionFailed):
        return "refused", plain(answer.item)
    if isinstance(answer, bytes):
        return base64.b64encode(answer).decode()
    if isinstance(answer, dict):
        return {name: plain(value) for name, value in answer.items() if name not in METADATA}
    if isinstance(answer, list):
        return sorted((plain(element) for element in answer), key=repr)
    return answer


class Inbox(list[Message]):
    """A queue whose messages the test can read."""

    def send(self, messages: Sequence[Message]) -> None:
        self += messages


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    keys = {"AWS_DEFAULT_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"}
    with Emulator(tmp_path_factory.mktemp("emulator") / "log") as emulator, pytest.MonkeyPatch.context() as environment:
        for name, value in {**keys, "AWS_ENDPOINT_URL": emulator.url}.items():
            environment.setenv(name, value)
        yield emulator


@pytest.fixture
def tables(emulator: Emulator, request: pytest.FixtureRequest) -> Tables:
    """Make tables for one test, like the template's."""
    variables = emulator.stack.functions[0].environment
    names = (variables[f"{name}_TABLE"] for name in ("COUNTERS", "PROFILES", "DECISIONS"))
    return Tables(*(copied(emulator.client("dynamodb"), name, f"{name}-{request.node.name[-60:]}") for name in names))


def copied(dynamodb: Any, name: str, copy: str) -> str:
    table = dynamodb.describe_table(TableName=name)["Table"]
    indexes = [
        {part: index[part] for part in ("IndexName", "KeySchema", "Projection")}
        for index in table.get("GlobalSecondaryIndexes", ())
    ]
    dynamodb.create_table(
        TableName=copy,
        AttributeDefinitions=table["AttributeDefinitions"],
        KeySchema=table["KeySchema"],
        BillingMode="PAY_PER_REQUEST",
        **({"GlobalSecondaryIndexes": indexes} if indexes else {}),
    )
    return copy


@pytest.fixture
def emulated(tables: Tables) -> AwsClient:
    assert tables  # the emulator's, so it runs and the environment points to it
    return AwsClient(AwsIdentity.from_environment(), Timeouts(attempt_s=30, total_s=60))  # a busy machine is slow


def crowd(name: str, size: int) -> list[str]:
    """Return `size` payers of one slice."""
    names = (f"{name}-{n}" for n in itertools.count())
    part = Key(PAYER, f"{name}-0", 0).slice
    return list(itertools.islice((payer for payer in names if Key(PAYER, payer, 0).slice == part), size))


def some_payments(rng: random.Random) -> list[Transaction]:
    """Return thirty payments of two days, and repeats. Their parties are few, so that they share items and profiles."""
    made = []
    for n in range(30):
        kind = rng.choice(["p2p", "merchant", "cash_out"])
        made.append(
            payment(
                transaction_id=f"t-{n}",
                type=kind,
                payer_id=f"person-{rng.randrange(3)}",
                payee_id=None if kind == "cash_out" else "person-9" if kind == "p2p" else "shop",
                instrument_id="card" if kind == "cash_out" else None,
                device_id=rng.choice([None, "device-1", "device-2"]),
                amount=rng.choice([1, 10**11]),
                occurred_at=NOON + rng.random() * timedelta(hours=36),
            )
        )
    return made + made[::6]


def decided(transaction: Transaction) -> DecisionRecord:
    return DecisionRecord(
        transaction, b"{}", Outcome.APPROVE, NOON, dict.fromkeys(windows.NAMES, 0), b"features", "print"
    )


# --- the same responses ----------------------------------------------------------------------------------------------


def test_table_in_memory_responds_to_store_and_fold_as_the_emulator_does(emulated: AwsClient, tables: Tables):
    both, inbox, now = Both(emulated, InMemoryDynamoDB()), Inbox(), NOON + timedelta(minutes=15)
    store = declared_store(both, tables, 400, lambda: now)
    folding = FoldWorker(both, tables, inbox, lambda: now, few=0)
    assert folding.tick() == (0, 0, 0)
    payments = some_payments(random.Random(4))
    for transaction in payments:
        counted(store, transaction)
        committed(store, decided(transaction))
        kept = StoredDecision(transaction.identity, b"{}", transaction.canonical)
        assert store.find(transaction.transaction_id) == kept
    assert len(store.find_all({transaction.transaction_id for transaction in payments})) == 30

    keys = {update.key for transaction in payments for update in updates(transaction)}
    now += timedelta(days=2)
    assert folding.tick().slices == len({key.slice for key in keys} - {None}) == len(inbox)
    inbox.clear()
    for part in {key.slice for key in keys if key.kind is not MERCHANT} - {None}:
        folding.work({"letter": part.sk, "slice": part.number}, lambda: RESERVE_MS)
    for key in keys:
        folding.refold(key)
    for message in inbox:
        folding.work(message, lambda: RESERVE_MS)
    counted(store, payment(transaction_id="t-last", payer_id="person-1", payee_id="person-9", occurred_at=now))
    assert both.asked == {"batch_get_item", "get_item", "put_item", "query", "scan", "update_item"}


def test_table_in_memory_cuts_pages_as_the_emulator_does(emulated: AwsClient, tables: Tables):
    both = Both(emulated, InMemoryDynamoDB())
    payers = crowd("page", PAGE + 3)
    for payer in payers:
        (update,) = (one for one in updates(payment(payer_id=payer)) if one.key.kind is PAYER)
        both.gather([Request("update_item", {"TableName": tables.counters, **attempt_update(update, 0)})])
    part = update.key.slice
    assert part is not None
    both.gather(
        [Request("update_item", {"TableName": tables.profiles, **watermark_update({part: None}, Progress(TODAY - 1))})]
    )
    folding = FoldWorker(both, tables, Inbox(), lambda: NOON + timedelta(days=1, hours=1), few=0)
    assert folding.work({"letter": "d", "slice": part.number}, lambda: RESERVE_MS) == (len(payers), 1)
    both.gather([watermark_request(tables.profiles)])


# --- the fold among other writers ------------------------------------------------------------------------------------


def test_eight_workers_and_a_writer_of_labels_leave_profiles_that_agree_with_the_items(
    emulated: AwsClient, emulator: Emulator, tables: Tables
):
    """All of them write the same profiles. A label adds to the attribute that the fold removes at the same time."""
    client, payers = emulator.client("dynamodb"), crowd("label", 12)
    for payer in payers:
        (update,) = (one for one in updates(payment(payer_id=payer)) if one.key.kind is PAYER)
        emulated.gather([Request("update_item", {"TableName": tables.counters, **attempt_update(update, 0)})])
    part = update.key.slice
    assert part is not None
    emulated.gather(
        [Request("update_item", {"TableName": tables.profiles, **watermark_update({part: None}, Progress(TODAY - 1))})]
    )
    folding = FoldWorker(emulated, tables, Inbox(), lambda: NOON + timedelta(days=1, hours=1))
    for payer in payers:
        learnt = {"ExpressionAttributeValues": {":one": {"N": "1"}}, "UpdateExpression": f"ADD {OUTLIVED} :one"}
        client.update_item(TableName=tables.profiles, Key={"pk": {"S": f"account#{payer}"}}, **learnt)

    def label(payer: str) -> None:
        moves = {
            "UpdateExpression": f"ADD fo{TODAY} :one, {OUTLIVED} :one",
            "ExpressionAttributeValues": {":one": {"N": "1"}},
        }
        key = {"TableName": tables.profiles, "Key": {"pk": {"S": f"account#{payer}"}}}
        client.transact_write_items(TransactItems=[{"Update": key | moves}])

    with ThreadPoolExecutor(8) as threads:
        message = {"letter": "d", "slice": part.number}
        slices = [threads.submit(folding.work, message, lambda: RESERVE_MS) for _ in range(4)]
        items = [
            threads.submit(folding.work, {"pk": f"payer#{payer}", "sk": f"d{TODAY}"}, lambda: RESERVE_MS)
            for payer in payers
        ]
        labels = [threads.submit(label, payer) for payer in payers]
        for future in (*slices, *items, *labels):
            future.result()
    for payer in payers:
        row = client.get_item(TableName=tables.profiles, Key={"pk": {"S": f"account#{payer}"}}, ConsistentRead=True)
        profile = profile_of(row["Item"])
        assert (profile["o"].days.buckets()[TODAY].total, profile[f"fo{TODAY}"]) == (packed(1, 1200), 1)
        assert profile.get(OUTLIVED, 0) in {0, 1}  # the label's own, if it came last
    row = client.get_item(TableName=tables.profiles, Key={"pk": {"S": WATERMARKS["d"]}}, ConsistentRead=True)
    assert profile_of(row["Item"])[watermark_attribute(part)] == [TODAY, ""]


# --- the queue -------------------------------------------------------------------------------------------------------


def test_queue_takes_any_number_of_messages_and_hands_them_back(emulator: Emulator):
    sqs = emulator.client("sqs")
    url = sqs.create_queue(QueueName="fold")["QueueUrl"]
    sent: list[Message] = [{"letter": "d", "slice": number} for number in range(23)]
    SqsQueue(url).send(sent)
    received = []
    while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
        received += [json.loads(message["Body"]) for message in messages]
    assert sorted(message["slice"] for message in received) == list(range(23))


def test_queue_that_does_not_take_all_messages_raises_its_error(emulator: Emulator, monkeypatch: pytest.MonkeyPatch):
    messages = [{"letter": "d", "slice": 1}]
    with pytest.raises(ServiceError, match="NonExistentQueue"):
        SqsQueue(f"{emulator.url}/123456789012/none").send(messages)
    partial = SqsQueue(f"{emulator.url}/123456789012/fold")
    failed = {"Id": "0", "SenderFault": False, "Code": "InternalError"}
    stub = Stubber(partial._client)
    stub.add_response("send_message_batch", {"Successful": [], "Failed": [failed]})
    with stub, pytest.raises(UnavailableError, match="InternalError"):
        partial.send(messages)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(UnavailableError, match="EndpointConnectionError"):
        SqsQueue("http://127.0.0.1:9/123456789012/fold").send(messages)
