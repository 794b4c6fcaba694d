"""Every new report becomes one event on the bus, and what the bus did not take comes again."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.support.own_door import OwnDoor, load, own_door
from tests.support.reports import APP, decide, said


class Bus:
    """The bus: keeps its entries, and refuses the next ones as `faults` says."""

    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = []
        self.faults: list[str] = []

    def put_events(self, Entries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803 - boto3's name
        fault = self.faults.pop(0) if self.faults else None
        if fault == "away":
            raise ClientError({"Error": {"Code": "InternalException"}}, "PutEvents")
        taken = Entries[:-1] if fault == "one refused" else Entries
        self.entries += taken
        return {"Entries": [{} if entry in taken else {"ErrorCode": "ThrottlingException"} for entry in Entries]}


@pytest.fixture(scope="module")
def door() -> Iterator[OwnDoor]:
    with own_door("report_api") as found:
        yield found


@pytest.fixture
def reader(door: OwnDoor) -> Any:
    assert door.dynamodb
    module = load("report_events")
    module._outbox._events = Bus()
    return module


def batch(*names: str) -> dict[str, Any]:
    records = [
        {"eventName": "INSERT", "dynamodb": {"Keys": {"pk": {"S": name}}, "SequenceNumber": str(n)}}
        for n, name in enumerate(names)
    ]
    return {"Records": records}


def test_each_report_is_one_event_without_its_text_and_a_repeat_has_the_same_event_id(door, reader):
    decide(door, "t-1", occurred_at="2026-03-04T12:00:00Z")
    reports = [said("r-1"), said("r-2", transaction_id="t-9")]
    door.call("POST", "/reports", APP, {"reports": reports})
    for _ in range(2):
        assert reader.handler(batch("r-1", "r-2", "r-gone"), None) == {"batchItemFailures": []}
    bus = reader._outbox._events
    assert {entry["DetailType"] for entry in bus.entries} == {"ReportReceived"}
    details = [json.loads(entry["Detail"]) for entry in bus.entries]
    assert len(details) == 4
    by_id = {detail["report_id"]: detail for detail in details}
    assert len({detail["event_id"] for detail in details}) == 2
    assert (by_id["r-1"]["payee_id"], by_id["r-2"]["payee_id"]) == ("payee-1", None)
    assert not any("困" in entry["Detail"] or "\\u56f0" in entry["Detail"] for entry in bus.entries)


@pytest.mark.parametrize("fault", ["away", "one refused"])
def test_a_batch_that_the_bus_did_not_take_comes_again(door, reader, fault):
    door.call("POST", "/reports", APP, {"reports": [said("r-1", transaction_id="t-9"), said("r-2")]})
    reader._outbox._events.faults = [fault]
    assert reader.handler(batch("r-1", "r-2"), None) == {"batchItemFailures": [{"itemIdentifier": "0"}]}
    assert reader.handler(batch("r-1", "r-2"), None) == {"batchItemFailures": []}
    entries = reader._outbox._events.entries
    assert {json.loads(entry["Detail"])["report_id"] for entry in entries} == {"r-1", "r-2"}
