"""Every report is archived, every new one becomes one event on the bus, and what was not taken comes again."""

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError

from fraud.archive import schema
from fraud.counters.keys import DECLARED
from fraud.transaction import instant
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


class Firehose:
    """The stream of the archive: keeps its rows, and refuses the next calls as `faults` says."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.faults: list[str] = []

    def put_record_batch(self, DeliveryStreamName: str, Records: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: ARG002, N803
        if self.faults and self.faults.pop(0):
            raise ClientError({"Error": {"Code": "ServiceUnavailableException"}}, "PutRecordBatch")
        self.rows += [json.loads(line) for record in Records for line in record["Data"].splitlines()]
        return {"RequestResponses": [{"RecordId": "1"} for _ in Records]}


class Stack:
    """The stack with the declared keys: in this process the hot path's client has no DynamoDB."""

    keys = DECLARED

    def prepare(self, now: datetime) -> None:
        assert now.tzinfo is not None


@pytest.fixture
def reader(door: OwnDoor) -> Any:
    assert door.dynamodb
    module = load("report_events")
    module._outbox._events = Bus()
    module._delivery._firehose = Firehose()
    module._stack = Stack()
    return module


def batch(*names: str, event: str = "INSERT") -> dict[str, Any]:
    records = [
        {"eventName": event, "dynamodb": {"Keys": {"pk": {"S": name}}, "SequenceNumber": str(n)}}
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


def test_a_report_is_archived_with_each_of_its_states_and_published_once(door, reader):
    decide(door, "t-1", occurred_at="2026-03-04T12:00:00Z")
    door.call("POST", "/reports", APP, {"reports": [said("r-3", category="account_taken_over")]})
    for _ in range(2):
        reader.handler(batch("r-3"), None)
    open_, again = reader._delivery._firehose.rows
    assert open_ == again
    assert open_.keys() == {*schema.REPORTS.names, schema.PARTITION}
    reader._reports.end("r-3", "fraud", "case-1", instant("2026-03-06T08:00:00Z"))
    reader.handler(batch("r-3", event="MODIFY"), None)
    ended = reader._delivery._firehose.rows[-1]
    assert (open_["status"], ended["status"], ended["day"]) == ("open", "fraud", "2026-03-06")
    assert open_["event_id"] != ended["event_id"]
    assert open_["report"] == ended["report"]
    assert ended["changed_at"] > open_["changed_at"] or open_["received_at"] == open_["changed_at"]
    assert len(reader._outbox._events.entries) == 2  # for the new report, twice
    text = json.dumps(reader._delivery._firehose.rows)
    assert not [plain for plain in ("r-3", "t-1", "payer-1", "payee-1", "困", "case-1") if f'"{plain}"' in text]


def test_a_batch_that_the_archive_did_not_take_comes_again(door, reader):
    door.call("POST", "/reports", APP, {"reports": [said("r-4", transaction_id="t-9")]})
    reader._delivery._firehose.faults = ["away"]
    assert reader.handler(batch("r-4"), None) == {"batchItemFailures": [{"itemIdentifier": "0"}]}
    assert reader.handler(batch("r-4"), None) == {"batchItemFailures": []}
    assert len(reader._delivery._firehose.rows) == 1
