"""Payments in batches from the stream: decided as in the API, recognised as repeats, set aside, or sent again."""

import base64
import gc
import json
import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fraud.aws.transport import Request, Result
from fraud.counters import layout
from fraud.decisions.events import INLINE_BYTES
from fraud.errors import ServiceError, UnavailableError
from tests.integration.test_decision_api import JUNK, fresh, post
from tests.support.stack_doors import Context, Taken, hours_of, shown

SHARD = "shardId-000000000006"
DONE: dict[str, Any] = {"batchItemFailures": []}

Fault = Callable[[Request], ServiceError | None]


def batch(*payments: Any) -> dict[str, Any]:
    """Return a batch as Lambda hands it on: payments as JSON, other bytes as they are; sequence numbers from 0."""
    records = []
    for n, payment in enumerate(payments):
        data = payment if isinstance(payment, bytes) else json.dumps(payment).encode()
        kinesis = {"data": base64.b64encode(data).decode(), "sequenceNumber": str(n), "partitionKey": "p"}
        records.append({"eventID": f"{SHARD}:{n}", "eventName": "aws:kinesis:record", "kinesis": kinesis})
    return {"Records": records}


def failed_at(position: int) -> dict[str, Any]:
    return {"batchItemFailures": [{"itemIdentifier": str(position)}]}


def logged(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


class Interrupted:
    """The store's transport, in which requests may fail.

    before  returns an error for a request that must not be sent, else None
    after   returns an error in place of the response to a request that was sent, else None
    """

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self.requests: list[Request] = []
        self.before: Fault = lambda _: None
        self.after: Fault = lambda _: None

    def gather(self, requests: Sequence[Request], until: float | None = None) -> list[Result]:
        self.requests += requests
        errors = [self.before(request) for request in requests]
        sent = [request for request, error in zip(requests, errors, strict=True) if error is None]
        results = iter(self._transport.gather(sent, until))
        answers = [error or next(results) for error in errors]
        return [self.after(request) or answer for request, answer in zip(requests, answers, strict=True)]


def of(payment: dict[str, Any], operation: str) -> Fault:
    """Return a fault that throttles one operation of a payment: its commit, or the updates of its payer."""
    names = {f"payer#{payment['payer_id']}", payment["transaction_id"]}

    def fault(request: Request) -> ServiceError | None:
        key = request.payload.get("Item") or request.payload.get("Key") or {"pk": {"S": ""}}
        fails = request.operation == operation and key["pk"]["S"] in names
        return UnavailableError("ThrottlingException") if fails else None

    return fault


def stranger() -> dict[str, Any]:
    """Return a payment that shares no party and no device with any other payment."""
    payment = fresh()
    return payment | {"payee_id": f"of-{payment['payer_id']}", "device_id": f"d-{payment['payer_id']}"}


def status_of(*payments: dict[str, Any]) -> list[int]:
    return [shown(payment["transaction_id"])[0] for payment in payments]


@pytest.fixture
def transport(transaction_stream: Any, monkeypatch: pytest.MonkeyPatch) -> Interrupted:
    store = transaction_stream._evaluator.store
    interrupted = Interrupted(store._transport)
    monkeypatch.setattr(store, "_transport", interrupted)
    return interrupted


def packed(*payments: dict[str, Any]) -> list[str]:
    return [str(layout.packed(len(payments), sum(payment["amount"] for payment in payments)))]


# --- decided ----------------------------------------------------------------------------------------------------------


def test_every_payment_of_a_batch_is_decided_and_its_repeat_by_api_gets_the_same_bytes(
    transaction_stream, decision_api, undecidable: Taken, capsys
):
    payments = [fresh(), fresh(type="merchant", amount=700), fresh(amount=900_000)]
    assert transaction_stream.handler(batch(*payments), Context()) == DONE
    lines = logged(capsys)
    assert [(line["Door"], line["transaction_id"]) for line in lines] == [
        ("transaction_stream", payment["transaction_id"]) for payment in payments
    ]
    for payment, line in zip(payments, lines, strict=True):
        status, answer = post(decision_api, payment)
        assert status == 200
        decision = json.loads(answer)
        assert (decision["outcome"], decision["score"]) == (line["Outcome"], line["score"])
        assert decision["recounted"] is False
        assert shown(payment["transaction_id"])[1]["decision"] == decision
    assert undecidable() == []


def test_repeats_are_recognised_in_one_read_and_not_counted(
    transaction_stream, decision_api, emulator, transport: Interrupted, capsys
):
    by_api, by_stream = fresh(), fresh()
    answers = [post(decision_api, by_api)[1]]
    assert transaction_stream.handler(batch(by_stream), Context()) == DONE
    answers.append(json.dumps(shown(by_stream["transaction_id"])[1]["decision"]))
    transport.requests.clear()
    capsys.readouterr()
    assert transaction_stream.handler(batch(by_api, by_stream, by_api), Context()) == DONE
    (read,) = transport.requests
    assert read.operation == "batch_get_item"
    assert [line["Outcome"] for line in logged(capsys)] == ["repeat"] * 3
    for payment, answer in zip((by_api, by_stream), answers, strict=True):
        assert hours_of(emulator, "payer", payment["payer_id"]) == packed(payment)
        assert shown(payment["transaction_id"])[1]["decision"] == json.loads(answer)


def test_a_payment_twice_in_one_batch_is_decided_and_counted_once(transaction_stream, emulator, capsys):
    payment = fresh()
    assert transaction_stream.handler(batch(payment, payment), Context()) == DONE
    assert gc.isenabled()
    assert [line["Outcome"] == "repeat" for line in logged(capsys)] == [False, True]
    assert hours_of(emulator, "payer", payment["payer_id"]) == packed(payment)


def test_a_late_repeat_is_recognised(transaction_stream, monkeypatch, capsys, undecidable: Taken):
    payment = fresh()
    transaction_stream.handler(batch(payment), Context())
    later = datetime.now(UTC) + timedelta(days=2)
    monkeypatch.setattr("fraud.clock.source", lambda: later)
    capsys.readouterr()
    assert transaction_stream.handler(batch(payment), Context()) == DONE
    assert [line["Outcome"] for line in logged(capsys)] == ["repeat"]
    assert undecidable() == []


# --- set aside --------------------------------------------------------------------------------------------------------


def test_a_record_that_no_retry_can_decide_is_set_aside_with_its_reason_and_the_rest_is_decided(
    transaction_stream, decision_api, emulator, undecidable: Taken, capsys
):
    known, good, last = fresh(), fresh(), fresh()
    post(decision_api, known)
    old = fresh(occurred_at=(datetime.now(UTC) - timedelta(hours=13)).isoformat())
    records = [
        known | {"amount": 7},
        b"{not json",
        b"\xff\xfe",
        good,
        fresh(currency="USD", amount=0),
        old,
        good | {"amount": 7},
        last,
    ]
    capsys.readouterr()
    assert transaction_stream.handler(batch(*records), Context()) == DONE
    messages = {int(message["sequence"]): message for message in undecidable()}
    told = {
        n: (message["reason"], [(error["field"], error["rule"]) for error in message["errors"]])
        for n, message in messages.items()
    }
    assert told == {
        0: ("conflict", [("amount", "differs")]),
        1: ("invalid", [("body", "json_invalid")]),
        2: ("invalid", [("body", "json_invalid")]),
        4: ("invalid", [("amount", "too_small"), ("currency", "currency_not_supported")]),
        5: ("invalid", [("occurred_at", "occurred_at_too_old")]),
        6: ("conflict", [("amount", "differs")]),
    }
    assert {message["shard"] for message in messages.values()} == {SHARD}
    for n, message in messages.items():
        data = records[n] if isinstance(records[n], bytes) else json.dumps(records[n]).encode()  # type: ignore[arg-type]
        assert base64.b64decode(message["data"]) == data
    assert [line.get("transaction_id") or line["Error"] for line in logged(capsys)] == [
        "ConflictingBodyError",
        "InvalidRequestError",
        "InvalidRequestError",
        good["transaction_id"],
        "InvalidRequestError",
        "InvalidRequestError",
        "ConflictingBodyError",
        last["transaction_id"],
    ]
    # The id was decided already, so the other body changed no counter.
    assert hours_of(emulator, "payer", known["payer_id"]) == packed(known)


def test_a_record_larger_than_a_message_goes_to_the_archive(transaction_stream, emulator, undecidable: Taken):
    data = b'{"transaction_id":"' + b"x" * INLINE_BYTES + b'"}'
    assert transaction_stream.handler(batch(data), Context()) == DONE
    (message,) = undecidable()
    assert (message["reason"], message["errors"]) == ("invalid", [{"field": "body", "rule": "too_large"}])
    bucket = emulator.stack.functions[0].environment["ARCHIVE_BUCKET"]
    found = emulator.client("s3").get_object(Bucket=bucket, Key=message["archive_key"])
    assert found["Body"].read() == data


def fuzzed(rng: random.Random, payment: dict[str, Any]) -> bytes:
    """Return a payment that is spoiled in up to three fields, cut or overwritten, and sometimes left whole."""
    for name in rng.sample(sorted(payment), rng.choice((0, 0, 0, 1, 1, 2, 3))):
        payment[name] = rng.choice(JUNK)
    data = bytearray(json.dumps(payment).encode())
    chance = rng.random()
    if chance < 0.1:
        del data[rng.randrange(len(data)) :]
    elif chance < 0.2:
        data[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(data)


def test_300_fuzzed_records_are_each_decided_or_set_aside(transaction_stream, decision_api, undecidable: Taken, capsys):
    rng = random.Random(7)
    records = [fuzzed(rng, fresh()) for _ in range(300)]
    for start in range(0, 300, 100):
        assert transaction_stream.handler(batch(*records[start : start + 100]), Context()) == DONE
    capsys.readouterr()
    messages = undecidable()
    kept = {base64.b64decode(message["data"]): message for message in messages}  # two records may be cut to one text
    assert all(message["reason"] == "invalid" and message["errors"] for message in kept.values())
    decided = [data for data in records if data not in kept]
    assert len(decided) + len(messages) == 300
    assert min(len(decided), len(kept)) > 75
    assert {shown(json.loads(data)["transaction_id"])[0] for data in decided} == {200}
    assert {post(decision_api, data.decode(errors="replace"))[0] for data in list(kept)[:40]} == {400}


def test_no_name_address_or_metadata_is_in_a_log_line_or_in_the_reason_of_a_message(
    transaction_stream, undecidable: Taken, capsys
):
    personal = {"payer_name": "SECRET 花子", "ip": "203.0.113.98", "metadata": {"SECRET": "SECRET"}}
    payment = fresh(**personal)
    faulty = [fresh(**personal, amount="SECRET"), fresh(**personal | {"ip": "SECRET", "metadata": {"SECRET": 1}})]
    assert transaction_stream.handler(batch(payment, payment | {"amount": 8}, *faulty, b'{"SECRET'), Context()) == DONE
    messages = undecidable()
    assert sorted(error["field"] for error in messages[2]["errors"]) == ["ip", "metadata"]
    assert len(messages) == 4
    for message in messages:
        del message["data"]
    said = json.dumps(messages) + "".join(capsys.readouterr())
    assert payment["transaction_id"] in said
    for secret in ("SECRET", "花子", personal["ip"], payment["payer_id"]):
        assert secret not in said


# --- sent again -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("committed", [False, True])
def test_a_batch_restarts_at_the_record_that_failed_and_nothing_is_lost_or_doubled(
    transaction_stream, emulator, transport: Interrupted, committed
):
    payments = [fresh() for _ in range(5)]  # all to one payee
    setattr(transport, "after" if committed else "before", of(payments[2], "put_item"))
    assert transaction_stream.handler(batch(*payments), Context()) == failed_at(2)
    assert status_of(*payments) == [200, 200, 200 if committed else 404, 404, 404]
    setattr(transport, "after" if committed else "before", lambda _: None)
    assert transaction_stream.handler(batch(*payments), Context()) == DONE
    for n, payment in enumerate(payments):
        decision = shown(payment["transaction_id"])[1]["decision"]
        assert decision["recounted"] is (n > 2 or (n == 2 and not committed))
        assert hours_of(emulator, "payer", payment["payer_id"]) == packed(payment)


def test_a_record_whose_counting_fails_delays_later_records_that_share_a_party_with_it(
    transaction_stream, emulator, transport: Interrupted, capsys
):
    ahead, failing, behind, other = fresh(), fresh(), fresh(), stranger()
    transport.before = of(failing, "update_item")
    assert transaction_stream.handler(batch(ahead, failing, behind, other), Context()) == failed_at(1)
    told = [line.get("transaction_id") or line["code"] for line in logged(capsys)]
    assert told == [ahead["transaction_id"], "ThrottlingException", other["transaction_id"]]
    assert status_of(ahead, failing, behind, other) == [200, 404, 404, 200]
    transport.before = lambda _: None
    capsys.readouterr()
    assert transaction_stream.handler(batch(ahead, failing, behind, other), Context()) == DONE
    again = [line.get("transaction_id", line["Outcome"]) for line in logged(capsys)]
    assert again == ["repeat", failing["transaction_id"], behind["transaction_id"], "repeat"]
    for payment in (ahead, failing, behind, other):
        decision = shown(payment["transaction_id"])[1]["decision"]
        assert decision["recounted"] is (payment is failing)
        assert decision["degraded"] == []
        assert hours_of(emulator, "payer", payment["payer_id"]) == packed(payment)


def test_of_several_failed_records_the_first_is_reported(transaction_stream, transport: Interrupted):
    payments = [stranger() for _ in range(5)]
    faults = [of(payments[3], "put_item"), of(payments[1], "put_item"), of(payments[4], "update_item")]
    transport.before = lambda request: next(filter(None, (fault(request) for fault in faults)), None)
    assert transaction_stream.handler(batch(*payments), Context()) == failed_at(1)


def test_a_poison_record_is_set_aside_when_the_batch_reaches_it_and_blocks_no_other(
    transaction_stream, transport: Interrupted, undecidable: Taken
):
    first, last, other = fresh(), fresh(), stranger()
    records = batch(b"{", first, b"{", last, first | {"amount": 7}, other)
    transport.before = of(first, "put_item")
    assert transaction_stream.handler(records, Context()) == failed_at(1)
    assert status_of(first, last, other) == [404, 404, 200]
    assert [message["sequence"] for message in undecidable()] == ["0"]
    transport.before = lambda _: None
    records["Records"] = records["Records"][1:]
    assert transaction_stream.handler(records, Context()) == DONE
    assert status_of(first, last) == [200, 200]
    reasons = {message["sequence"]: message["reason"] for message in undecidable()}
    assert reasons == {"2": "invalid", "4": "conflict"}


def test_repeated_new_and_invalid_records_of_one_id_are_told_apart(
    transaction_stream, decision_api, emulator, undecidable: Taken, capsys
):
    known, new = fresh(), fresh()
    _, first = post(decision_api, known)
    capsys.readouterr()
    records = [known | {"amount": 7}, known, new, known | {"amount": 0}, new | {"amount": 7}, new, known]
    assert transaction_stream.handler(batch(*records), Context()) == DONE
    reasons = {message["sequence"]: message["reason"] for message in undecidable()}
    assert reasons == {"0": "conflict", "3": "invalid", "4": "conflict"}
    told = [line.get("transaction_id") or line.get("Outcome") or line["Error"] for line in logged(capsys)]
    conflict, invalid = "ConflictingBodyError", "InvalidRequestError"
    assert told == [conflict, "repeat", new["transaction_id"], invalid, conflict, "repeat", "repeat"]
    assert post(decision_api, known) == (200, first)
    assert hours_of(emulator, "payer", known["payer_id"]) == packed(known)
    # The id was undecided when the batch was read, so the other body was counted, and taken back as it is in the API.
    assert hours_of(emulator, "payer", new["payer_id"]) == packed(new)


def test_a_batch_that_runs_out_of_time_decides_what_it_has_counted_and_reports_the_first_that_it_has_not(
    transaction_stream, emulator, capsys
):
    payments = [fresh() for _ in range(4)]  # all to one payee: none may overtake another
    other = stranger()
    records = batch(*payments, other)
    assert transaction_stream.handler(records, Context(remaining_ms=0)) == failed_at(1)
    told = [line.get("transaction_id") or line["code"] for line in logged(capsys)]
    assert told == [payments[0]["transaction_id"], "OutOfTime", other["transaction_id"]]
    assert status_of(*payments, other) == [200, 404, 404, 404, 200]
    for payment in payments[1:]:
        assert hours_of(emulator, "payer", payment["payer_id"]) == []
    records["Records"] = records["Records"][1:]
    assert transaction_stream.handler(records, Context(remaining_ms=0)) == failed_at(2)  # each time it gets on
    assert transaction_stream.handler(records, Context()) == DONE
    for payment in (*payments, other):
        decision = shown(payment["transaction_id"])[1]["decision"]
        assert (decision["recounted"], decision["degraded"]) == (False, [])
        assert hours_of(emulator, "payer", payment["payer_id"]) == packed(payment)


@pytest.mark.parametrize("error", [UnavailableError("InternalServerError"), ServiceError("AccessDeniedException")])
def test_a_batch_restarts_at_its_first_record_when_stored_decisions_cannot_be_read(
    transaction_stream, transport: Interrupted, undecidable: Taken, capsys, error
):
    transport.before = lambda _: error
    assert transaction_stream.handler(batch(b"{", fresh()), Context()) == failed_at(0)
    (line,) = logged(capsys)
    assert (line["Error"], line["code"], line["Door"]) == (type(error).__name__, error.code, "transaction_stream")
    assert undecidable() == []


def test_a_batch_restarts_at_the_record_that_could_not_be_set_aside(
    transaction_stream, monkeypatch, undecidable: Taken
):
    outbox = transaction_stream._outbox
    away = outbox._settings.model_copy(update={"undecidable_queue_url": "https://sqs.invalid/gone"})
    first, last = fresh(), fresh()
    with monkeypatch.context() as gone:
        gone.setattr(outbox, "_settings", away)
        assert transaction_stream.handler(batch(first, b"{", last), Context()) == failed_at(1)
    assert transaction_stream.handler(batch(first, b"{", last), Context()) == DONE
    assert [message["sequence"] for message in undecidable()] == ["1"]
    assert status_of(first, last) == [200, 200]
