"""The outbox: undecidable records in their queue, large ones in the archive, and events on the bus."""

import base64
import json
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError
from botocore.stub import Stubber
from pydantic import BaseModel

from fraud.decisions.events import EVENTS_PER_CALL, INLINE_BYTES, MOST_ERRORS, Outbox, Undecidable
from fraud.errors import Fault, ServiceError, UnavailableError
from fraud.settings import Settings
from local.account.emulator import Emulator
from tests.support.stack_doors import Taken

LONGEST_MESSAGE = 262_144
FAULTS = (Fault("amount", "missing", "SECRET"), Fault("body", "too_large", "SECRET"))


class Noted(BaseModel):
    """An event."""

    number: int


@pytest.fixture
def settings(emulator: Emulator, doors: dict[str, ModuleType]) -> Settings:
    assert doors  # the environment of the emulator
    return Settings.from_environment(emulator.stack.functions[0].environment)


@pytest.fixture
def outbox(settings: Settings) -> Outbox:
    return Outbox(settings)


def record(data: bytes, sequence: str = "77") -> Undecidable:
    return Undecidable("invalid", FAULTS, data, "shardId-000000000003", sequence)


def test_a_message_about_thousands_of_faults_holds_only_the_first_of_them(outbox, undecidable: Taken):
    faults = tuple(Fault(f"field{n}", "extra_forbidden", "") for n in range(7_600))
    outbox.set_aside(record(b"x" * INLINE_BYTES)._replace(faults=faults))
    (message,) = undecidable()
    assert len(message["errors"]) == MOST_ERRORS
    assert len(json.dumps(message)) < LONGEST_MESSAGE


def notes(count: int) -> list[Noted]:
    return [Noted(number=n) for n in range(count)]


# --- records ----------------------------------------------------------------------------------------------------------


def test_a_record_is_kept_with_its_reason_its_place_in_the_stream_and_its_exact_bytes(outbox, undecidable: Taken):
    data = b"\xff\x00{not json"
    outbox.set_aside(record(data))
    (message,) = undecidable()
    assert base64.b64decode(message.pop("data")) == data
    assert message == {
        "reason": "invalid",
        "errors": [{"field": "amount", "rule": "missing"}, {"field": "body", "rule": "too_large"}],
        "shard": "shardId-000000000003",
        "sequence": "77",
    }


def test_a_large_record_goes_to_the_archive_and_its_message_points_there(
    outbox, undecidable: Taken, emulator: Emulator, settings: Settings
):
    data = bytes(range(256)) * 4096  # a megabyte, as much as the stream takes
    for _ in range(2):  # sent again, it has the same key in the archive
        outbox.set_aside(record(data, "78"))
    first, again = undecidable()
    assert first == again
    assert "data" not in first
    assert first["archive_key"] == "undecidable/shardId-000000000003/78"
    s3 = emulator.client("s3")
    assert s3.get_object(Bucket=settings.archive_bucket, Key=first["archive_key"])["Body"].read() == data
    keys = [entry["Key"] for entry in s3.list_objects_v2(Bucket=settings.archive_bucket)["Contents"]]
    assert keys.count(first["archive_key"]) == 1


def test_the_largest_record_that_goes_into_a_message_fits(outbox, undecidable: Taken, emulator: Emulator, settings):
    faults = tuple(Fault("f" * 64, "unknown_field", "") for _ in range(150))
    outbox.set_aside(record(bytes(INLINE_BYTES))._replace(faults=faults))
    (message,) = undecidable()
    assert len(base64.b64decode(message["data"])) == INLINE_BYTES
    assert len(json.dumps(message)) <= LONGEST_MESSAGE
    outbox.set_aside(record(bytes(INLINE_BYTES + 1), "79"))
    (message,) = undecidable()
    listed = emulator.client("s3").list_objects_v2(Bucket=settings.archive_bucket, Prefix=message["archive_key"])
    assert [entry["Size"] for entry in listed["Contents"]] == [INLINE_BYTES + 1]


def test_a_missing_queue_or_archive_is_an_error_and_no_message_points_to_nothing(settings, undecidable: Taken):
    gone = settings.model_copy(update={"undecidable_queue_url": f"{settings.undecidable_queue_url}-gone"})
    with pytest.raises(ServiceError, match="NonExistentQueue"):
        Outbox(gone).set_aside(record(b"x"))
    gone = settings.model_copy(update={"archive_bucket": "gone"})
    with pytest.raises(ServiceError, match="NoSuchBucket"):
        Outbox(gone).set_aside(record(bytes(INLINE_BYTES + 1)))
    assert undecidable() == []


# --- events -----------------------------------------------------------------------------------------------------------


def test_events_are_published_in_as_many_calls_as_needed(outbox, published: Taken):
    assert outbox.publish(notes(2 * EVENTS_PER_CALL + 5)) == []
    events = published()
    assert sorted(event["detail"]["number"] for event in events) == list(range(25))
    assert {(event["source"], event["detail-type"]) for event in events} == {("fraud", "Noted")}


def test_publishing_no_events_makes_no_call(outbox):
    with Stubber(outbox._events):
        assert outbox.publish([]) == []


@pytest.fixture
def bus(outbox: Outbox) -> Iterator[Stubber]:
    """Return a stub that responds in place of EventBridge."""
    with Stubber(outbox._events) as stubber:
        yield stubber
        stubber.assert_no_pending_responses()


def taken(count: int, *refused: int) -> dict[str, Any]:
    """Return the response of PutEvents when the bus refused some of the events of a call."""
    entries = [{"ErrorCode": "ThrottlingException"} if n in refused else {"EventId": str(n)} for n in range(count)]
    return {"FailedEntryCount": len(refused), "Entries": entries}


def test_the_positions_of_refused_events_are_returned(outbox, bus: Stubber):
    for answer in (taken(10), taken(10, 0, 7), taken(3, 2)):
        bus.add_response("put_events", answer)
    assert outbox.publish(notes(23)) == [10, 17, 22]


@pytest.mark.parametrize(
    ("code", "status", "error"),
    [
        ("InternalException", 500, UnavailableError),
        ("ThrottlingException", 400, UnavailableError),
        ("AccessDeniedException", 400, ServiceError),
    ],
)
def test_a_bus_that_refuses_the_call_raises_its_code(outbox, bus: Stubber, code, status, error):
    bus.add_response("put_events", taken(10))
    bus.add_client_error("put_events", code, http_status_code=status)
    with pytest.raises(error, match=code) as refused:
        outbox.publish(notes(11))
    assert type(refused.value) is error


def test_a_bus_out_of_reach_makes_the_outbox_unavailable(outbox):
    def unreachable(**_: object) -> None:
        raise EndpointConnectionError(endpoint_url="https://events")

    outbox._events.meta.events.register("before-send.events.PutEvents", unreachable)
    with pytest.raises(UnavailableError, match="EndpointConnectionError"):
        outbox.publish(notes(1))
