"""The doors in this process, on the emulated stack, with the environment variables of the template."""

import importlib
import json
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any
from urllib.parse import quote

import pytest

from local.account.boto import KEY_ID, REGION, SECRET
from local.account.emulator import Emulator
from tests.support import gateway


class Context:
    """The part of Lambda's context that a handler reads. `remaining_ms`: milliseconds until the function's timeout."""

    def __init__(self, remaining_ms: int = 60_000) -> None:
        self._remaining_ms = remaining_ms

    def get_remaining_time_in_millis(self) -> int:
        return self._remaining_ms


UNCAPPED = dict.fromkeys(("CapHourAll", "CapHourEach", "CapDayEach"), "5000")
"""Parameters of an account that many tests share: they hold more accounts in an hour than one app may."""


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with Emulator(tmp_path_factory.mktemp("integration") / "emulator.log", parameters=UNCAPPED) as running:
        yield running


@pytest.fixture(scope="session")
def doors(emulator: Emulator) -> Iterator[dict[str, ModuleType]]:
    """Import every door once, by the name of its function in the template, and let the fold's schedule fire once."""
    keys = {"AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_DEFAULT_REGION": REGION}
    with pytest.MonkeyPatch.context() as environment:
        for function in emulator.stack.functions:
            for name, value in {**function.environment, **keys}.items():
                environment.setenv(name, value)
        doors = {
            function.name: importlib.import_module(f"functions.{function.handler.split('.')[0]}")
            for function in emulator.stack.functions
        }
        doors["Tick"].tick({}, None)
        yield doors


@pytest.fixture
def decision_api(doors: dict[str, ModuleType]) -> Any:
    return doors["DecisionApi"]


@pytest.fixture
def resolution_api(doors: dict[str, ModuleType]) -> Any:
    return doors["ResolutionApi"]


@pytest.fixture
def list_api(doors: dict[str, ModuleType]) -> Any:
    return doors["ListApi"]


@pytest.fixture
def transaction_stream(doors: dict[str, ModuleType]) -> Any:
    return doors["TransactionStream"]


@pytest.fixture
def decision_events(doors: dict[str, ModuleType]) -> Any:
    return doors["DecisionEvents"]


def requested(door: Any, route: str, transaction_id: str, body: object = None) -> tuple[int, Any]:
    """Send a request about a decision to a door with a router; return status and body."""
    path = route.split(" ")[1].replace("{transaction_id}", quote(transaction_id, safe=""))
    return gateway.sent(door, route, path, body, parameters={"transaction_id": transaction_id})


def shown(transaction_id: str) -> tuple[int, Any]:
    """Return status and body of GET /decisions/{transaction_id}. The fixture `doors` must have imported the doors."""
    door = importlib.import_module("functions.resolution_api")
    return requested(door, "GET /decisions/{transaction_id}", transaction_id)


def hours_of(emulator: Emulator, kind: str, id_: str) -> list[str]:
    """Return the hour buckets of an entity, each packed into one number."""
    items = emulator.client("dynamodb").query(
        TableName=emulator.stack.functions[0].environment["COUNTERS_TABLE"],
        KeyConditionExpression="pk = :pk",
        ExpressionAttributeValues={":pk": {"S": f"{kind}#{id_}"}},
    )["Items"]
    return [value["N"] for item in items for name, value in item.items() if name[0] == "h"]


Taken = Callable[[], list[Any]]


def taken_from(emulator: Emulator, url: str) -> Taken:
    """Return a function that takes all waiting messages from a queue. The queue is emptied first."""
    sqs = emulator.client("sqs")

    def taken() -> list[Any]:
        bodies = []
        while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            bodies += [json.loads(message["Body"]) for message in messages]
        return bodies

    taken()
    return taken


@pytest.fixture
def undecidable(emulator: Emulator) -> Taken:
    """Take the records that were set aside."""
    return taken_from(emulator, emulator.stack.functions[0].environment["UNDECIDABLE_QUEUE_URL"])


@pytest.fixture
def published(emulator: Emulator) -> Taken:
    """Take the events of the bus, from a queue that receives every event."""
    sqs, bus = emulator.client("sqs"), emulator.client("events")
    name = emulator.stack.functions[0].environment["EVENT_BUS_NAME"]
    url = sqs.create_queue(QueueName="everything")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    bus.put_rule(Name="everything", EventBusName=name, EventPattern='{"account": [{"exists": true}]}')
    bus.put_targets(Rule="everything", EventBusName=name, Targets=[{"Id": "everything", "Arn": arn}])
    return taken_from(emulator, url)
