"""What becomes of decisions through the door and the sweep, on the emulated stack."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fraud import clock
from fraud.decisions import worker
from fraud.errors import UnavailableError
from local.account.emulator import Emulator
from tests.integration.test_decision_api import fresh, post
from tests.support.stack_doors import Context, requested, shown

CHALLENGE, RESULT = "POST /decisions/{transaction_id}/challenge", "POST /decisions/{transaction_id}/result"


@pytest.fixture
def challenged(decision_api: Any) -> Any:
    """Return a function that decides a payment with a challenge and returns its id and the answer's bytes."""

    def decide(**fields: Any) -> tuple[str, str]:
        payment = fresh(amount=120_000, payee_id=None, **fields)
        payment |= {"payee_id": f"of-{payment['payer_id']}", "device_id": f"d-{payment['payer_id']}"}
        status, answer = post(decision_api, payment)
        assert (status, json.loads(answer)["outcome"]) == (200, "challenge")
        return payment["transaction_id"], answer

    return decide


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that moves the doors' clock on."""

    def passes(duration: timedelta) -> None:
        now = datetime.now(UTC) + duration
        monkeypatch.setattr(clock, "source", lambda: now)

    return passes


def answer(*, passed: bool = True, method: str = "passkey") -> dict[str, Any]:
    return {"passed": passed, "method": method, "at": datetime.now(UTC).isoformat()}


def result(status: str) -> dict[str, Any]:
    return {"status": status, "at": datetime.now(UTC).isoformat()}


def row_of(emulator: Emulator, name: str) -> dict[str, Any]:
    table = emulator.stack.functions[0].environment["DECISIONS_TABLE"]
    row: dict[str, Any] = emulator.client("dynamodb").get_item(TableName=table, Key={"pk": {"S": name}})["Item"]
    return row


def test_a_passed_challenge_approves_and_the_repeat_of_the_payment_keeps_its_bytes(resolution_api, challenged):
    name, given = challenged()
    assert shown(name)[1]["status"] == "pending"
    status, seen = requested(resolution_api, CHALLENGE, name, answer())
    assert (status, seen["status"], seen["outcome_now"], seen["due"]) == (200, "final", "approve", None)
    assert seen["decision"] == json.loads(given)
    again = requested(resolution_api, CHALLENGE, name, answer(method="sms"))
    assert again == (200, seen)  # the same answer alters nothing
    assert requested(resolution_api, RESULT, name, result("settled"))[1]["result"] == "settled"
    assert requested(resolution_api, RESULT, name, result("reversed"))[1]["result"] == "reversed"
    assert requested(resolution_api, RESULT, name, result("settled"))[1]["result"] == "reversed"
    assert [one["change"] for one in shown(name)[1]["history"]] == [
        "decided",
        "challenge_passed",
        "settled",
        "reversed",
    ]


def test_another_answer_gets_409_with_the_state_and_alters_nothing(resolution_api, challenged):
    name, _ = challenged()
    assert requested(resolution_api, CHALLENGE, name, answer(passed=False))[1]["outcome_now"] == "decline"
    status, problem = requested(resolution_api, CHALLENGE, name, answer())
    assert (status, problem["state"]) == (409, {"status": "declined", "outcome_now": "decline", "by": "challenge"})
    assert shown(name)[1]["outcome_now"] == "decline"


def test_a_declined_payment_that_the_app_has_carried_out_is_settled(resolution_api, challenged):
    name, _ = challenged()
    requested(resolution_api, CHALLENGE, name, answer(passed=False))
    status, seen = requested(resolution_api, RESULT, name, result("settled"))
    assert (status, seen["status"], seen["outcome_now"], seen["result"]) == (200, "final", "decline", "settled")
    assert requested(resolution_api, RESULT, name, result("settled")) == (200, seen)
    assert [one["change"] for one in seen["history"]] == ["decided", "challenge_failed", "settled"]
    status, problem = requested(resolution_api, RESULT, name, result("failed"))
    assert (status, problem["state"]["status"]) == (409, "settled")


def test_of_many_answers_at_once_one_wins(resolution_api, challenged):
    name, _ = challenged()
    answers = [answer(passed=n % 2 == 0) for n in range(8)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda one: requested(resolution_api, CHALLENGE, name, one)[0], answers))
    won = shown(name)[1]["outcome_now"] == "approve"
    assert found == [200 if (n % 2 == 0) is won else 409 for n in range(8)]
    assert len(shown(name)[1]["history"]) == 2


def test_a_challenge_that_is_due_is_declined_before_a_sweep_and_the_sweep_ends_it(
    resolution_api, challenged, time, doors, emulator
):
    names = [challenged()[0] for _ in range(3)]
    time(timedelta(minutes=10, seconds=1))
    status, problem = requested(resolution_api, CHALLENGE, names[0], answer())
    assert (status, problem["state"]) == (409, {"status": "declined", "outcome_now": "decline", "by": "expiry"})
    before = shown(names[0])[1]
    assert (before["status"], before["outcome_now"]) == ("final", "decline")
    assert "status" not in row_of(emulator, names[0])
    doors["Sweep"].sweep({}, Context())
    for name in names:
        row = row_of(emulator, name)
        assert row["status"] == {"S": "declined"}
        assert "pending" not in row
    assert shown(names[0])[1] == before
    assert doors["Sweep"].sweep({}, Context())["expired"] == 0


def test_a_sweep_that_runs_out_of_time_leaves_the_rest_to_the_next_one_and_ends_none_twice(
    challenged, time, doors, monkeypatch
):
    monkeypatch.setattr(worker, "PAGE", 2)
    names = [challenged()[0] for _ in range(7)]
    time(timedelta(minutes=10, seconds=1))
    swept = [doors["Sweep"].sweep({}, Context(remaining_ms=0))["expired"] for _ in range(3)]
    assert swept == [2, 2, 2]
    assert doors["Sweep"].sweep({}, Context()) == {"expired": 1, "lag_seconds": 1}
    assert {shown(name)[1]["outcome_now"] for name in names} == {"decline"}
    assert {len(shown(name)[1]["history"]) for name in names} == {2}


def test_a_row_that_cannot_be_read_keeps_no_other_decision_waiting(challenged, time, doors, emulator: Emulator):
    """The sweep ends all others, and fails so that people hear of it."""
    table = emulator.stack.functions[0].environment["DECISIONS_TABLE"]
    broken, (name, _) = challenged()[0], challenged()
    change = {"UpdateExpression": "SET expires_to = :no", "ExpressionAttributeValues": {":no": {"S": "never"}}}
    emulator.client("dynamodb").update_item(TableName=table, Key={"pk": {"S": broken}}, **change)
    time(timedelta(minutes=10, seconds=1))
    with pytest.raises(UnavailableError):
        doors["Sweep"].sweep({}, Context())
    assert "changes" in row_of(emulator, name)
    emulator.client("dynamodb").delete_item(TableName=table, Key={"pk": {"S": broken}})


def test_an_answer_that_comes_first_is_not_expired(resolution_api, challenged, time, doors):
    name, _ = challenged()
    requested(resolution_api, CHALLENGE, name, answer())
    time(timedelta(days=2))
    doors["Sweep"].sweep({}, Context())
    assert shown(name)[1]["outcome_now"] == "approve"


@pytest.mark.parametrize("route", [CHALLENGE, RESULT])
def test_an_unknown_decision_is_not_found_and_a_body_with_faults_names_them(resolution_api, challenged, route):
    body = answer() if route == CHALLENGE else result("failed")
    assert requested(resolution_api, route, "never-decided", body)[0] == 404
    assert requested(resolution_api, route, "a b", body)[0] == 404
    name, _ = challenged()
    status, problem = requested(resolution_api, route, name, {"at": "yesterday"})
    assert status == 400
    assert ("at", "rfc3339") in {(one["field"], one["rule"]) for one in problem["errors"]}
    assert shown(name)[1]["status"] == "pending"
