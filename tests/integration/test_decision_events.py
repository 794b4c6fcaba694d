"""The reader of the decision table's stream: it repairs counters, and publishes one event for each new decision."""

import base64
import json
from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Any

import pytest
from botocore.stub import Stubber

from fraud.activity.links import Entity
from fraud.activity.store import Activity
from fraud.aws.client import AwsClient, Timeouts
from fraud.aws.transport import Request, Result
from fraud.counters.layout import packed
from fraud.decisions.record import stored_marks
from fraud.decisions.store import contents_of
from fraud.errors import ServiceError, UnavailableError
from fraud.marks.mark import Mark
from fraud.settings import AwsIdentity
from fraud.transaction import Transaction
from local.account.boto import KEY_ID, REGION, SECRET
from local.account.emulator import Emulator
from tests.integration.test_decision_api import fresh, post
from tests.integration.test_outbox import taken
from tests.support.activity import Decided, counted, stored
from tests.support.payments import NOON
from tests.support.stack_doors import Taken, hours_of, requested

PERSONAL = {
    "payer_name": "SECRET 花子",
    "payee_name": "SECRET",
    "ip": "203.0.113.99",
    "metadata": {"SECRET": "SECRET"},
    "device_id": "SECRET-device",
    "campaign_id": "SECRET-campaign",
}


def batch(decision_api: Any, emulator: Emulator, *payments: dict[str, Any]) -> dict[str, Any]:
    """Decide the payments, and return the Lambda event with which the decision table's stream reports them."""
    records = []
    for n, payment in enumerate(payments):
        assert post(decision_api, payment)[0] == 200
        table, key = emulator.stack.functions[0].environment["DECISIONS_TABLE"], payment["transaction_id"]
        image = emulator.client("dynamodb").get_item(TableName=table, Key={"pk": {"S": key}})["Item"]
        change = {
            "Keys": {"pk": {"S": key}},
            "NewImage": json.loads(json.dumps(image, default=lambda data: base64.b64encode(data).decode())),
            "SequenceNumber": str(100 + n),
            "StreamViewType": "NEW_AND_OLD_IMAGES",
        }
        records.append({"eventName": "INSERT", "eventSource": "aws:dynamodb", "dynamodb": change})
    return {"Records": records}


def test_every_decision_is_published_and_after_redelivery_again_under_the_same_id(
    decision_events, decision_api, emulator, published: Taken
):
    payments = [fresh(amount=900_000), *(fresh() for _ in range(11))]
    event = batch(decision_api, emulator, *payments)
    published()
    answers = [decision_events.handler(event, None) for _ in range(2)]
    assert answers == [{"batchItemFailures": []}] * 2
    told = published()
    assert {(one["source"], one["detail-type"]) for one in told} == {("fraud", "DecisionMade")}
    details = [one["detail"] for one in told]
    assert len(details) == 24
    ids = {detail["event_id"]: detail["transaction_id"] for detail in details}
    assert sorted(ids.values()) == sorted(payment["transaction_id"] for payment in payments)
    assert all(details.count(detail) == 2 for detail in details)
    (declined,) = (one for one in details[:12] if one["transaction_id"] == payments[0]["transaction_id"])
    assert (declined["outcome"], declined["amount"], declined["payer_id"]) == (
        "decline",
        900_000,
        payments[0]["payer_id"],
    )
    assert "LIMIT_AMOUNT" in declined["codes"]


def test_a_marked_account_is_told_to_the_bus_and_counted_without_its_id(
    decision_events, decision_api, emulator, published: Taken, capsys
):
    event = batch(decision_api, emulator, fresh(), fresh())
    image = event["Records"][1]["dynamodb"]["NewImage"]
    image["marks"] = stored_marks({"payer": Mark(7, "invite", "forked_chain", 10.9, NOON, NOON + timedelta(days=1))})
    published()
    capsys.readouterr()
    answers = [decision_events.handler(event, None) for _ in range(2)]
    assert answers == [{"batchItemFailures": []}] * 2
    told = [one["detail"] for one in published() if one["detail-type"] == "MarkedAccountPaid"]
    payment, _, _ = contents_of(image)
    paid = json.loads(payment)
    assert told[0] == told[1]
    assert (told[0]["account_id"], told[0]["role"], told[0]["shape"]) == (paid["payer_id"], "payer", "forked_chain")
    out = capsys.readouterr().out
    lines = [json.loads(line) for line in out.splitlines() if "MarkedPayments" in line]
    assert [(line["View"], line["Role"], line["MarkedPayments"]) for line in lines] == [("invite", "payer", 1)] * 2
    assert paid["payer_id"] not in out


def test_no_name_address_or_metadata_is_published_or_logged(decision_events, decision_api, emulator, published, capsys):
    event = batch(decision_api, emulator, fresh(**PERSONAL))
    decision_events.handler(event, None)
    (told,) = published()
    said = json.dumps(told, ensure_ascii=False) + "".join(capsys.readouterr())
    (image,) = (record["dynamodb"]["NewImage"] for record in event["Records"])
    assert "SECRET" in contents_of(image).transaction.decode()
    assert "SECRET" not in said
    assert PERSONAL["ip"] not in said


@pytest.mark.parametrize(("refused", "failed"), [((), []), ((3,), ["103"]), ((1, 3), ["101"])])
def test_a_batch_restarts_where_the_bus_first_refused(decision_events, decision_api, emulator, refused, failed):
    event = batch(decision_api, emulator, *(fresh() for _ in range(5)))
    with Stubber(decision_events._outbox._events) as bus:
        bus.add_response("put_events", taken(5, *refused))
        answer = decision_events.handler(event, None)
    assert answer == {"batchItemFailures": [{"itemIdentifier": sequence} for sequence in failed]}


@pytest.mark.parametrize(
    ("code", "status"), [("InternalException", 500), ("ThrottlingException", 400), ("AccessDeniedException", 400)]
)
def test_a_batch_restarts_at_its_first_record_when_the_bus_refuses_a_call(
    decision_events, decision_api, emulator, code, status
):
    event = batch(decision_api, emulator, *(fresh() for _ in range(12)))
    with Stubber(decision_events._outbox._events) as bus:
        bus.add_response("put_events", taken(10))
        bus.add_client_error("put_events", code, http_status_code=status)
        answer = decision_events.handler(event, None)
    assert answer == {"batchItemFailures": [{"itemIdentifier": "100"}]}


def test_the_log_says_why_a_batch_restarts(decision_events, decision_api, emulator, capsys):
    event = batch(decision_api, emulator, fresh())
    capsys.readouterr()
    with Stubber(decision_events._outbox._events) as bus:
        bus.add_client_error("put_events", "AccessDeniedException")
        decision_events.handler(event, None)
    (line,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert (line["Error"], line["code"], line["Door"]) == ("ServiceError", "AccessDeniedException", "decision_events")


# --- counted again ----------------------------------------------------------------------------------------------------


class Losing:
    """The store's transport, in which some requests about items are lost.

    applied     only their responses are lost
    operations  the operations that are lost: the updates, and the looks at an item after them
    prefixes    beginnings of their partition keys
    """

    def __init__(
        self,
        transport: Any,
        *,
        applied: bool,
        error: ServiceError | None = None,
        operations: Collection[str] = ("update_item", "get_item"),
        prefixes: tuple[str, ...] = ("payee#", "pair#"),
    ) -> None:
        self._transport = transport
        self._applied = applied
        self._error = error or UnavailableError("DeadlineExceeded")
        self._operations = operations
        self._prefixes = prefixes

    def gather(self, requests: Sequence[Request], until: float | None = None) -> list[Result]:
        lost = [
            request.operation in self._operations and request.payload["Key"]["pk"]["S"].startswith(self._prefixes)
            for request in requests
        ]
        sent = [request for request, away in zip(requests, lost, strict=True) if self._applied or not away]
        results = iter(self._transport.gather(sent, until))
        answers = [next(results) if self._applied or not away else None for away in lost]
        return [self._error if away else answer for answer, away in zip(answers, lost, strict=True)]


@pytest.mark.parametrize("applied", [False, True])
def test_unacknowledged_updates_are_sent_until_they_are_acknowledged_and_counted_once(  # noqa: PLR0913, PLR0917 - fixtures and parameters
    decision_events, decision_api, emulator, published, monkeypatch, capsys, applied
):
    payment = fresh() | {"payee_id": f"lost-{applied}"}
    once = [str(packed(1, payment["amount"]))]
    deciding, repairing = decision_api._evaluator.store, decision_events._store
    with monkeypatch.context() as outage:
        outage.setattr(deciding, "_transport", Losing(deciding._transport, applied=applied))
        event = batch(decision_api, emulator, payment)
    row = event["Records"][0]["dynamodb"]["NewImage"]
    assert row["uncounted"]["S"].split() == ["payee", "pair"]
    assert hours_of(emulator, "payee", payment["payee_id"]) == (once if applied else [])
    published()
    with monkeypatch.context() as outage:
        outage.setattr(repairing, "_transport", Losing(repairing._transport, applied=applied))
        assert decision_events.handler(event, None) == {"batchItemFailures": [{"itemIdentifier": "100"}]}
    assert published() == []  # the event is published only after the counters are right
    capsys.readouterr()
    for _ in range(2):
        assert decision_events.handler(event, None) == {"batchItemFailures": []}
    assert hours_of(emulator, "payee", payment["payee_id"]) == once
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["CountedAgain"] for line in lines] == [2, 2]
    assert [told["detail"]["degraded"] for told in published()] == [["counter:payee", "counter:pair"]] * 2


def test_an_update_whose_response_is_lost_is_acknowledged_by_the_item(decision_api, emulator, monkeypatch):
    payment = fresh() | {"payee_id": "heard-later"}
    store = decision_api._evaluator.store
    with monkeypatch.context() as outage:
        losing = Losing(store._transport, applied=True, operations=["update_item"])
        outage.setattr(store, "_transport", losing)
        status, answer = post(decision_api, payment)
    decision = json.loads(answer)
    assert (status, decision["degraded"], decision["recounted"]) == (200, [], True)
    table, key = emulator.stack.functions[0].environment["DECISIONS_TABLE"], payment["transaction_id"]
    assert "uncounted" not in emulator.client("dynamodb").get_item(TableName=table, Key={"pk": {"S": key}})["Item"]
    assert hours_of(emulator, "payee", payment["payee_id"]) == [str(packed(1, payment["amount"]))]


@pytest.mark.parametrize("error", [UnavailableError("ThrottlingException"), ServiceError("AccessDeniedException")])
def test_a_batch_restarts_at_a_decision_whose_updates_are_refused_for_whatever_cause(  # noqa: PLR0913, PLR0917 - fixtures and parameters
    decision_events, decision_api, emulator, published, monkeypatch, capsys, error
):
    deciding, repairing = decision_api._evaluator.store, decision_events._store
    event = batch(decision_api, emulator, fresh())
    with monkeypatch.context() as outage:
        outage.setattr(deciding, "_transport", Losing(deciding._transport, applied=False, error=error))
        event["Records"] += batch(decision_api, emulator, fresh())["Records"]
    event["Records"][1]["dynamodb"]["SequenceNumber"] = "101"
    published()
    capsys.readouterr()
    with monkeypatch.context() as outage:
        outage.setattr(repairing, "_transport", Losing(repairing._transport, applied=False, error=error))
        assert decision_events.handler(event, None) == {"batchItemFailures": [{"itemIdentifier": "101"}]}
    (line,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert (line["Error"], line["code"]) == (type(error).__name__, error.code)
    assert len(published()) == 1


def test_decisions_before_the_first_incomplete_one_are_published_because_they_do_not_come_again(
    decision_events, decision_api, emulator, published, monkeypatch
):
    payments = [fresh() for _ in range(4)]
    deciding, repairing = decision_api._evaluator.store, decision_events._store
    event = batch(decision_api, emulator, *payments[:2])
    with monkeypatch.context() as outage:
        outage.setattr(deciding, "_transport", Losing(deciding._transport, applied=False))
        event["Records"] += batch(decision_api, emulator, *payments[2:])["Records"]
    for n, record in enumerate(event["Records"]):
        record["dynamodb"]["SequenceNumber"] = str(100 + n)
    published()
    with monkeypatch.context() as outage:
        outage.setattr(repairing, "_transport", Losing(repairing._transport, applied=False))
        assert decision_events.handler(event, None) == {"batchItemFailures": [{"itemIdentifier": "102"}]}
    names = [payment["transaction_id"] for payment in payments]
    assert [told["detail"]["transaction_id"] for told in published()] == names[:2]
    assert decision_events.handler({"Records": event["Records"][2:]}, None) == {"batchItemFailures": []}
    assert [told["detail"]["transaction_id"] for told in published()] == names[2:]


# --- void -------------------------------------------------------------------------------------------------------------


def voids_of(emulator: Emulator, payer: str) -> dict[str, str]:
    """Return the money of a payer's void attempts by attribute."""
    items = emulator.client("dynamodb").query(
        TableName=emulator.stack.functions[0].environment["COUNTERS_TABLE"],
        KeyConditionExpression="pk = :pk",
        ExpressionAttributeValues={":pk": {"S": f"payer#{payer}"}},
    )["Items"]
    return {name: value["N"] for item in items for name, value in item.items() if name[0] == "v"}


def changed(emulator: Emulator, event: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the record with which the stream tells of the last change of a decision."""
    (old,) = (one for one in event["Records"] if one["dynamodb"]["Keys"]["pk"]["S"] == name)
    table = emulator.stack.functions[0].environment["DECISIONS_TABLE"]
    image = emulator.client("dynamodb").get_item(TableName=table, Key={"pk": {"S": name}})["Item"]
    images = {
        "OldImage": old["dynamodb"]["NewImage"],
        "NewImage": json.loads(json.dumps(image, default=lambda data: base64.b64encode(data).decode())),
    }
    change = {"Keys": {"pk": {"S": name}}, **images, "SequenceNumber": "200", "StreamViewType": "NEW_AND_OLD_IMAGES"}
    return {"eventName": "MODIFY", "eventSource": "aws:dynamodb", "dynamodb": change}


def test_declined_and_failed_attempts_are_void_once_and_approved_ones_are_not(
    decision_events, decision_api, resolution_api, emulator
):
    declined, failed, approved = fresh(amount=600_000), fresh(), fresh()
    event = batch(decision_api, emulator, declined, failed, approved)
    result = {"status": "failed", "at": failed["occurred_at"]}
    for payment in (declined, failed):
        path = "POST /decisions/{transaction_id}/result"
        assert requested(resolution_api, path, payment["transaction_id"], result)[0] == 200
    records = [*event["Records"], *(changed(emulator, event, one["transaction_id"]) for one in (declined, failed))]
    for _ in range(3):
        assert decision_events.handler({"Records": records}, None) == {"batchItemFailures": []}
    for payment, money in ((declined, ["600000"]), (failed, [str(failed["amount"])]), (approved, [])):
        assert list(voids_of(emulator, payment["payer_id"]).values()) == money
        assert hours_of(emulator, "payer", payment["payer_id"]) == [str(packed(1, payment["amount"]))]


def test_a_declined_attempt_that_was_settled_is_not_void_even_when_its_records_come_in_the_wrong_order(
    decision_events, decision_api, resolution_api, emulator
):
    declined = fresh(amount=600_000)
    event = batch(decision_api, emulator, declined)
    assert decision_events.handler(event, None) == {"batchItemFailures": []}
    assert list(voids_of(emulator, declined["payer_id"]).values()) == ["600000"]
    for result, money in (("settled", "0"), ("reversed", "600000")):
        said = {"status": result, "at": declined["occurred_at"]}
        path = "POST /decisions/{transaction_id}/result"
        assert requested(resolution_api, path, declined["transaction_id"], said)[0] == 200
        later = changed(emulator, event, declined["transaction_id"])
        for _ in range(2):
            assert decision_events.handler({"Records": [later, *event["Records"]]}, None) == {"batchItemFailures": []}
        assert list(voids_of(emulator, declined["payer_id"]).values()) == [money]


@pytest.mark.parametrize("error", [UnavailableError("ThrottlingException"), ServiceError("AccessDeniedException")])
def test_a_batch_restarts_at_an_attempt_that_cannot_be_voided_and_what_is_before_it_is_done(  # noqa: PLR0913, PLR0917 - fixtures and parameters
    decision_events, decision_api, emulator, published, monkeypatch, capsys, error
):
    payments = [fresh(amount=600_000), fresh(), fresh(amount=600_000, payer_id=f"unlucky-{error.code}"), fresh()]
    event = batch(decision_api, emulator, *payments)
    published()
    store = decision_events._store
    with monkeypatch.context() as outage:
        losing = Losing(store._transport, applied=False, error=error, prefixes=("payer#unlucky",))
        outage.setattr(store, "_transport", losing)
        capsys.readouterr()
        assert decision_events.handler(event, None) == {"batchItemFailures": [{"itemIdentifier": "102"}]}
    (line,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert (line["Error"], line["code"], line["Door"]) == (type(error).__name__, error.code, "decision_events")
    names = [payment["transaction_id"] for payment in payments]
    assert [told["detail"]["transaction_id"] for told in published()] == names[:2]
    assert voids_of(emulator, f"unlucky-{error.code}") == {}
    assert decision_events.handler({"Records": event["Records"][2:]}, None) == {"batchItemFailures": []}
    assert list(voids_of(emulator, f"unlucky-{error.code}").values()) == ["600000"]


def test_an_attempt_whose_count_was_lost_is_counted_first_and_void_then(
    decision_events, decision_api, emulator, monkeypatch
):
    payment = fresh(amount=600_000)
    deciding = decision_api._evaluator.store
    with monkeypatch.context() as outage:
        losing = Losing(deciding._transport, applied=False, prefixes=("payer#",))
        outage.setattr(deciding, "_transport", losing)
        event = batch(decision_api, emulator, payment)
    assert "payer" in event["Records"][0]["dynamodb"]["NewImage"]["uncounted"]["S"]
    for _ in range(2):
        assert decision_events.handler(event, None) == {"batchItemFailures": []}
    assert hours_of(emulator, "payer", payment["payer_id"]) == [str(packed(1, 600_000))]
    assert list(voids_of(emulator, payment["payer_id"]).values()) == ["600000"]


# --- links and timelines ----------------------------------------------------------------------------------------------


def items_of(emulator: Emulator) -> dict[tuple[str, str], Any]:
    """Return every item of the table `links`."""
    table = emulator.stack.functions[0].environment["LINKS_TABLE"]
    pages = emulator.client("dynamodb").get_paginator("scan").paginate(TableName=table)
    return stored(row for page in pages for row in page["Items"])


def decided(event: dict[str, Any]) -> list[Decided]:
    """Return what an event tells: each payment with its outcome and the code of its first reason."""
    found = []
    for record in event["Records"]:
        contents = contents_of(record["dynamodb"]["NewImage"])
        answer = json.loads(contents.answer)
        code = next((reason["code"] for reason in answer["reasons"]), "")
        found.append((Transaction.model_validate_json(contents.transaction), answer["outcome"], code))
    return found


def test_links_and_timelines_are_those_of_plain_counting_after_every_redelivery(
    decision_events, decision_api, emulator, capsys
):
    people = [
        {"payer_id": f"linked-{n % 2}", "payee_id": "linked-shop", "device_id": "linked-shared", "ip": "203.0.113.7"}
        for n in range(5)
    ]
    event = batch(decision_api, emulator, *(fresh(**each) for each in people), fresh(**people[0], amount=900_000))
    for _ in range(3):
        assert decision_events.handler(event, None) == {"batchItemFailures": []}
    expected = counted(decided(event))
    assert expected == {place: item for place, item in items_of(emulator).items() if place in expected}
    assert "linked-" not in "".join(capsys.readouterr())
    page = decision_events._activity.page("linked-0", decided(event)[0][0].occurred_at)
    assert (page.recent[0].outcome, page.recent[0].amount) == ("decline", 900_000)
    assert {("device", "linked-shared"), ("ip", "203.0.113.7")} < {(view.role, view.value) for view in page.links}
    (shared,) = (view for view in page.links if view.value == "linked-shared")
    assert shared.beyond == ["account#linked-1"]


def test_a_batch_restarts_at_the_first_decision_whose_links_are_refused(  # noqa: PLR0913, PLR0917 - fixtures
    decision_events, decision_api, emulator, published, monkeypatch, capsys
):
    event = batch(
        decision_api, emulator, *(fresh(payer_id=f"refused-{n}", payee_id="refused", device_id=None) for n in range(3))
    )
    published()
    capsys.readouterr()
    with monkeypatch.context() as outage:
        broken = Refusing(decision_events._activity._transport, "account#refused-1")
        outage.setattr(decision_events._activity, "_transport", broken)
        assert decision_events.handler(event, None) == {"batchItemFailures": [{"itemIdentifier": "101"}]}
    (line,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert (line["Error"], line["code"], line["Door"]) == ("UnavailableError", "ThrottlingException", "decision_events")
    assert [told["detail"]["payer_id"] for told in published()] == ["refused-0"]
    assert decision_events.handler({"Records": event["Records"][1:]}, None) == {"batchItemFailures": []}
    expected = counted(decided(event))
    assert expected == {place: item for place, item in items_of(emulator).items() if place in expected}


class Refusing:
    """A transport that refuses writes of one partition key."""

    def __init__(self, transport: Any, pk: str) -> None:
        self._transport, self._pk = transport, pk

    def gather(self, requests: Sequence[Request], until: float | None = None) -> list[Result]:
        refused = [request.payload.get("Key", {}).get("pk", {}).get("S") == self._pk for request in requests]
        sent = [request for request, away in zip(requests, refused, strict=True) if not away]
        results = iter(self._transport.gather(sent, until))
        return [UnavailableError("ThrottlingException") if away else next(results) for away in refused]


def test_erasure_on_the_emulator_leaves_nothing_of_an_account(decision_events, decision_api, emulator):
    fields = {"payee_id": "erased-shop", "device_id": "erased-device"}
    event = batch(decision_api, emulator, *(fresh(payer_id=f"erased-{n}", **fields) for n in range(2)))
    decision_events.handler(event, None)
    owner = {"AWS_REGION": REGION, "AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET}
    identity = AwsIdentity.from_environment(owner | {"AWS_ENDPOINT_URL": emulator.url})
    client = AwsClient(identity, Timeouts(attempt_s=30, total_s=60))
    names = (emulator.stack.functions[0].environment[f"{name}_TABLE"] for name in ("LINKS", "PROFILES"))
    Activity(client, *names, retention_days=400, approved=True).erase(Entity("account", "erased-0"))
    left = items_of(emulator)
    assert "erased-0" not in repr(left)
    assert ("account#erased-1", "payee#erased-shop") in left
    assert left["account#erased-shop", "others"] == (
        left["device#erased-device", "others"][0]._replace(name="payer#erased-1"),
    )
