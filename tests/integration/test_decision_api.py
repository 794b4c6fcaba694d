"""POST and GET of decisions through the door: repeats, races, conflicts, malformed bodies, outages, and the log."""

import base64
import itertools
import json
import logging
import random
import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from fraud import assembly
from fraud.aws.transport import Request, Result
from fraud.counters.layout import packed
from fraud.errors import ServiceError, UnavailableError, UndecidedError
from fraud.transaction import Transaction
from local.account.emulator import Emulator
from tests.support.payments import body
from tests.support.stack_doors import hours_of, shown

NUMBERS = itertools.count()
NAME, IP, NOTE = "Hanako Q Zzyzx", "203.0.113.77", "zebra-metadata"


def fresh(**fields: Any) -> dict[str, Any]:
    """Return the body of a payment that occurs now, with an id, a payer and a device that no other test uses."""
    number = next(NUMBERS)
    own = {f"{name}_id": f"api-{name}-{number}" for name in ("payer", "device")}
    now = datetime.now(UTC).isoformat()
    return body(**{"transaction_id": f"api-{number}", "occurred_at": now} | own | fields)


def post(door: Any, payment: Any, **event: Any) -> tuple[int, Any]:
    text = payment if isinstance(payment, str) else json.dumps(payment)
    answer = door.handler({"routeKey": "POST /decisions", "body": text, "isBase64Encoded": False} | event, None)
    return answer["statusCode"], answer["body"]


def test_a_payment_is_decided_and_its_repeat_gets_the_same_bytes(decision_api):
    payment = fresh()
    status, first = post(decision_api, payment)
    assert status == 200
    decision = json.loads(first)
    assert decision["transaction_id"] == payment["transaction_id"]
    assert decision["recounted"] is False
    assert decision["degraded"] == []
    assert set(decision["steps_ms"]) == {"state", "model", "rules"}
    spelled = json.dumps(dict(reversed(payment.items())), indent=3)
    assert post(decision_api, spelled) == (200, first)
    assert post(decision_api, base64.b64encode(spelled.encode()).decode(), isBase64Encoded=True) == (200, first)


def test_another_body_under_a_stored_id_is_a_conflict_that_names_the_fields_and_no_value(
    decision_api, emulator: Emulator, capsys
):
    payment = fresh(amount=3_572_468, payer_name=NAME, metadata={NOTE: NOTE}, channel="app")
    _, first = post(decision_api, payment)
    capsys.readouterr()
    other = payment | {"amount": 4_681_357, "payer_name": f"{NAME} II", "ip": IP, "metadata": {NOTE: "other"}}
    del other["channel"]
    for _ in range(2):
        status, answer = post(decision_api, other)
        problem = json.loads(answer)
        assert (status, problem["status"]) == (409, 409)
        assert [(fault["field"], fault["rule"]) for fault in problem["errors"]] == [
            (field, "differs") for field in ("amount", "channel", "ip", "payer_name")
        ]
        printed = answer + "".join(capsys.readouterr())
        assert "ConflictingBodyError" in printed
        for secret in (NAME, IP, NOTE, payment["payer_id"], str(payment["amount"]), str(other["amount"])):
            assert secret not in printed
    # What was counted of the other body is taken back, and the decided payment stays as it is.
    assert hours_of(emulator, "payer", payment["payer_id"]) == [str(packed(1, payment["amount"]))]
    assert post(decision_api, payment) == (200, first)


def test_the_same_body_with_other_metadata_gets_the_stored_answer(decision_api, emulator: Emulator):
    payment = fresh(metadata={NOTE: NOTE})
    _, first = post(decision_api, payment)
    for metadata in ({NOTE: "other"}, {}, None):
        other = {name: value for name, value in (payment | {"metadata": metadata}).items() if value is not None}
        assert post(decision_api, other) == (200, first)
    assert hours_of(emulator, "payer", payment["payer_id"]) == [str(packed(1, payment["amount"]))]


def test_a_conflict_that_cannot_be_taken_back_gets_503_and_then_409(
    decision_api, emulator: Emulator, faulty, monkeypatch
):
    payment = fresh()
    assert post(decision_api, payment)[0] == 200
    faulty(THROTTLED, taking_back=True)
    assert post(decision_api, payment | {"amount": 7})[0] == 503
    assert hours_of(emulator, "payer", payment["payer_id"]) == [str(packed(2, payment["amount"] + 7))]
    monkeypatch.undo()
    assert post(decision_api, payment | {"amount": 7})[0] == 409
    assert hours_of(emulator, "payer", payment["payer_id"]) == [str(packed(1, payment["amount"]))]


def test_eight_equal_requests_at_once_get_one_decision(decision_api, emulator: Emulator):
    payment = fresh()
    with ThreadPoolExecutor(8) as threads:
        answers = set(threads.map(lambda _: post(decision_api, payment), range(8)))
    assert len(answers) == 1
    (status, _), *_ = answers
    assert status == 200
    table = emulator.stack.functions[0].environment["COUNTERS_TABLE"]
    items = emulator.client("dynamodb").query(
        TableName=table,
        KeyConditionExpression="pk = :pk",
        ExpressionAttributeValues={":pk": {"S": f"payer#{payment['payer_id']}"}},
    )["Items"]
    hours = [value["N"] for item in items for name, value in item.items() if name[0] == "h"]
    assert hours == [str(packed(1, payment["amount"]))]


def test_a_decision_is_shown_as_it_was_given(decision_api):
    payment = fresh(amount=900_000)
    _, given = post(decision_api, payment)
    status, seen = shown(payment["transaction_id"])
    assert status == 200
    assert seen["decision"] == json.loads(given)
    assert seen["outcome_now"] == seen["decision"]["outcome"] == "decline"
    assert seen["status"] == "final"
    assert [change["outcome"] for change in seen["history"]] == ["decline"]


@pytest.mark.usefixtures("doors")
def test_an_unknown_decision_is_not_found():
    assert shown("api-never")[0] == 404


def test_a_late_payment_is_refused_but_a_late_repeat_is_answered(decision_api, monkeypatch):
    payment = fresh()
    _, first = post(decision_api, payment)
    later = datetime.now(UTC) + timedelta(hours=13)
    monkeypatch.setattr("fraud.clock.source", lambda: later)  # the box sets its clock in the same way
    assert post(decision_api, payment) == (200, first)
    status, answer = post(decision_api, payment | {"transaction_id": "api-late"})
    assert status == 400
    assert [fault["rule"] for fault in json.loads(answer)["errors"]] == ["occurred_at_too_old"]


def test_another_currency_and_every_other_fault_are_named_at_once(decision_api):
    status, answer = post(decision_api, fresh(currency="USD", amount=0, payee_id="a b", colour="red"))
    assert status == 400
    rules = {fault["field"]: fault["rule"] for fault in json.loads(answer)["errors"]}
    assert rules["currency"] == "currency_not_supported"
    assert rules.keys() == {"currency", "amount", "payee_id", "colour"}


JUNK: list[Any] = [True, -1, 1.5, 10**30, "x" * 200, "\u0000", "ﬁ", [], [[]], {"a": {}}]
"""Values that are valid in no field of a payment, except in metadata and names."""


def test_300_malformed_bodies_are_each_refused_with_their_fields(decision_api):
    rng = random.Random(5)
    for n in range(300):
        payment = fresh(ip="198.51.100.7", channel="app", country="JP", attempt_of="api-first")
        spoiled = set(rng.sample(sorted(payment), rng.randint(1, 4)))
        for name in spoiled:
            payment[name] = rng.choice(JUNK)
        text = json.dumps(payment)
        broken = n % 6 == 0
        status, answer = post(decision_api, text[: rng.randrange(len(text))] if broken else text)
        assert status == 400, answer
        fields = {fault["field"].partition(".")[0] for fault in json.loads(answer)["errors"]}
        assert fields == ({"body"} if broken else spoiled | fields & {"payee_id"})


def test_no_log_line_names_a_person(decision_api, capsys, caplog):
    caplog.set_level(logging.DEBUG, "fraud")
    personal = {"payer_name": NAME, "payee_name": NAME, "ip": IP, "metadata": {NOTE: NOTE}}
    payment = fresh(**personal)
    assert post(decision_api, payment)[0] == 200
    post(decision_api, payment)
    post(decision_api, payment | {"amount": 5})
    post(decision_api, payment | {"amount": NOTE, "ip": NAME, "metadata": {NOTE: 1}, NOTE: NOTE})
    post(decision_api, json.dumps(payment)[:-1])
    printed = "".join(capsys.readouterr()) + caplog.text
    assert payment["transaction_id"] in printed
    for secret in (NAME, IP, NOTE, payment["payer_id"], payment["payee_id"]):
        assert secret not in printed


class Faulty:
    """The store's transport, in which requests of some operations get an error.

    operations   all operations when none is named
    applied      the requests are carried out all the same
    taking_back  only requests that take an attempt back get it
    """

    def __init__(
        self, transport: Any, error: ServiceError, *operations: str, applied: bool = False, taking_back: bool = False
    ) -> None:
        self._transport = transport
        self._error = error
        self._operations = operations
        self._applied = applied
        self._taking_back = taking_back

    def _fails(self, request: Request) -> bool:
        if self._taking_back:
            return "DELETE" in request.payload.get("UpdateExpression", "")
        return not self._operations or request.operation in self._operations

    def gather(self, requests: Sequence[Request], until: float | None = None) -> list[Result]:
        fails = list(map(self._fails, requests))
        sent = [request for request, failing in zip(requests, fails, strict=True) if self._applied or not failing]
        results = iter(self._transport.gather(sent, until))
        answers = [next(results) if self._applied or not failing else self._error for failing in fails]
        return [self._error if failing else answer for answer, failing in zip(answers, fails, strict=True)]


def test_the_first_payment_does_not_repeat_the_work_of_init(decision_api, monkeypatch):
    evaluator = assembly.evaluator(decision_api._settings)
    store, steps = evaluator.store, []
    send = store._transport.gather
    counting = SimpleNamespace(gather=lambda requests, until=None: steps.append(len(requests)) or send(requests, until))
    monkeypatch.setattr(store, "_transport", counting)
    monkeypatch.setattr(decision_api, "_evaluator", evaluator)
    assert post(decision_api, fresh())[0] == 200
    assert steps == [5, 1]


def test_init_succeeds_although_dynamodb_does_not_respond(decision_api, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setattr(assembly, "INIT_S", 0.1)
        evaluator = assembly.evaluator(decision_api._settings)
        with pytest.raises(UndecidedError):
            evaluator.evaluate(Transaction.model_validate_json(json.dumps(fresh())))
    assert evaluator.store._transport.timeouts.attempt_s < evaluator.deadline_s


THROTTLED, FORBIDDEN = UnavailableError("ThrottlingException"), ServiceError("AccessDeniedException")


@pytest.fixture
def faulty(decision_api: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    store = decision_api._evaluator.store

    def install(*of: Any, **named: Any) -> None:
        monkeypatch.setattr(store, "_transport", Faulty(store._transport, *of, **named))

    return install


def logged(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize("error", [THROTTLED, FORBIDDEN], ids=["throttled", "forbidden"])
@pytest.mark.parametrize("operations", [(), ("put_item",)], ids=["everything", "the commit"])
@pytest.mark.parametrize(("amount", "outcome"), [(1200, "approve"), (30_000, "challenge"), (300_000, "decline")])
def test_a_decision_that_cannot_be_stored_gets_503_with_a_fallback_and_the_retry_decides(  # noqa: PLR0913, PLR0917 - fixtures and parameters
    decision_api, faulty, monkeypatch, capsys, error, operations, amount, outcome
):
    faulty(error, *operations)
    payment = fresh(amount=amount)
    answers = [decision_api.handler({"routeKey": "POST /decisions", "body": json.dumps(payment)}, None) for _ in "12"]
    assert answers[0] == answers[1]
    assert answers[0]["statusCode"] == 503
    assert answers[0]["headers"] == {"content-type": "application/problem+json", "retry-after": "1"}
    fallback = {"outcome": outcome, "policy_version": decision_api._evaluator.rule_book.version}
    problem = json.loads(answers[0]["body"])
    assert (problem["status"], problem["fallback"]) == (503, fallback)
    line = logged(capsys)[-1]
    assert (line["Error"], line["code"]) == ("UndecidedError", error.code)
    monkeypatch.undo()
    assert shown(payment["transaction_id"])[0] == 404
    status, answer = post(decision_api, payment)
    assert (status, json.loads(answer)["degraded"]) == (200, [])
    assert json.loads(answer)["recounted"] is bool(operations)


def test_a_retry_gets_the_decision_that_was_stored_although_its_commit_failed(decision_api, faulty, monkeypatch):
    payment = fresh()
    faulty(THROTTLED, "put_item", applied=True)
    assert post(decision_api, payment)[0] == 503
    monkeypatch.undo()
    status, answer = post(decision_api, payment)
    assert status == 200
    assert shown(payment["transaction_id"])[1]["decision"] == json.loads(answer)


@pytest.mark.parametrize("error", [THROTTLED, FORBIDDEN], ids=["throttled", "forbidden"])
@pytest.mark.parametrize("operation", ["update_item", "batch_get_item"])
def test_when_the_state_fails_the_outage_policy_decides_and_the_log_has_the_cause(  # noqa: PLR0913, PLR0917 - fixtures and parameters
    decision_api, faulty, monkeypatch, capsys, error, operation
):
    faulty(error, operation)
    payment = fresh(amount=30_000)
    status, answer = post(decision_api, payment)
    decision = json.loads(answer)
    assert (status, decision["outcome"], decision["score"]) == (200, "challenge", None)
    assert "state" in decision["degraded"]
    assert [reason["code"] for reason in decision["reasons"]] == ["COUNTERS_UNAVAILABLE"]
    lines = logged(capsys)
    assert [line["cause"] for line in lines if line.get("Part") == "state"] == [error.code]
    monkeypatch.undo()
    assert post(decision_api, payment) == (200, answer)  # the stored decision stays


def test_a_missing_table_gets_503_and_the_log_has_the_cause(decision_api, monkeypatch, capsys):
    gone = decision_api._evaluator.store._tables._replace(decisions="gone")
    monkeypatch.setattr(decision_api._evaluator.store, "_tables", gone)
    status, answer = post(decision_api, fresh())
    assert (status, json.loads(answer)["fallback"]["outcome"]) == (503, "approve")
    assert logged(capsys)[-1]["code"] == "ResourceNotFoundException"


@pytest.mark.parametrize("transaction_id", ["a b", "x" * 3000, "ünïcode", ""])
def test_a_value_that_cannot_be_an_id_is_not_found(transaction_id):
    assert shown(transaction_id)[0] == 404


@pytest.mark.parametrize(
    ("kind", "field"), [("cash_out", "instrument_id"), ("top_up", "instrument_id"), ("merchant", "payee_id")]
)
def test_every_type_needs_its_counterparty(decision_api, kind, field):
    status, answer = post(decision_api, fresh(type=kind, payee_id=None))
    assert status == 400
    assert [fault["field"] for fault in json.loads(answer)["errors"]] == [field]
    complete = fresh(type=kind, payee_id=None) | {field: "other-1"}
    assert post(decision_api, complete)[0] == 200
