"""Deny and allow lists through their door: entries, audit, expiry, and their effect on decisions."""

import base64
import io
import itertools
import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.integration.test_decision_api import fresh, post
from tests.support import gateway
from tests.support.stack_doors import shown

ARN = "arn:aws:sts::123456789012:assumed-role/fraud-analyst/hana"
SECOND = "arn:aws:sts::123456789012:assumed-role/fraud-analyst/jun"


def call(  # noqa: PLR0913 - the parts of a request
    door: Any, method: str, kind: str, value: str, content: Any = None, *, name: str = "deny", arn: str = ARN
) -> tuple[int, Any]:
    end = "/confirm" if method == "POST" else ""
    text = content if isinstance(content, str) else json.dumps(content)
    route, path = f"{method} /lists/{name}/{{kind}}/{{value}}{end}", f"/lists/{name}/{kind}/{value}{end}"
    return gateway.sent(door, route, path, text, authorizer=gateway.iam(arn), parameters={"kind": kind, "value": value})


def rules_of(answer: Any) -> list[str]:
    return [fault["rule"] for fault in answer["errors"]]


def test_an_entry_is_set_changed_shown_and_taken_off_with_its_trail(list_api):
    status, view = call(list_api, "PUT", "device", "lost-1", {"reason": "stolen phone"})
    assert (status, view["active"], view["entry"]["reason"]) == (200, True, "stolen phone")
    assert view["entry"]["set_by"] == ARN
    call(list_api, "PUT", "device", "lost-1", {"reason": "stolen phone"})  # the same again leaves no row
    call(list_api, "PUT", "device", "lost-1", {"reason": "stolen, case 4", "expires_at": "2099-01-01T00:00:00Z"})
    assert call(list_api, "DELETE", "device", "lost-1") == (204, None)
    assert call(list_api, "DELETE", "device", "lost-1") == (204, None)
    status, view = call(list_api, "GET", "device", "lost-1")
    assert (status, view["active"], view["entry"]) == (200, False, None)
    reasons = [(row["before"] or {}).get("reason") for row in view["history"]]
    assert reasons == [None, "stolen phone", "stolen, case 4"]


@pytest.mark.parametrize(
    ("kind", "value", "field"),
    [("account", "bad-payer", "payer_id"), ("device", "bad-device", "device_id"), ("ip", "2001:db8::5", "ip")],
)
def test_a_denied_value_declines_until_the_entry_is_gone(list_api, decision_api, kind, value, field):
    call(list_api, "PUT", kind, value, {"reason": "case 9"})
    status, answer = post(decision_api, fresh(**{field: value}))
    assert status == 200
    decision = json.loads(answer)
    assert (decision["outcome"], decision["retryable"]) == ("decline", False)
    assert "DENY_LIST" in {reason["code"] for reason in decision["reasons"]}
    call(list_api, "DELETE", kind, value)
    codes = {reason["code"] for reason in json.loads(post(decision_api, fresh(**{field: value}))[1])["reasons"]}
    assert "DENY_LIST" not in codes


def test_a_denied_network_declines_within_a_minute_and_no_longer_within_a_minute(list_api, decision_api, monkeypatch):
    for change, declined in ((("PUT", {"reason": "case 9"}), True), (("DELETE", None), False)):
        call(list_api, change[0], "ip", "2001:db8:77::/48", change[1])
        later = datetime.now(UTC) + timedelta(minutes=2 if declined else 4)
        with monkeypatch.context() as clock:
            clock.setattr("fraud.clock.source", lambda later=later: later)
            decision = json.loads(post(decision_api, fresh(ip="2001:DB8:77::5", occurred_at=later.isoformat()))[1])
            beside = json.loads(post(decision_api, fresh(ip="2001:db8:78::5", occurred_at=later.isoformat()))[1])
        assert ("DENY_LIST" in codes(decision["reasons"]), decision["degraded"]) == (declined, [])
        assert "DENY_LIST" not in codes(beside["reasons"])


def test_an_expired_entry_denies_nothing(list_api, decision_api, monkeypatch):
    soon = datetime.now(UTC) + timedelta(minutes=1)
    call(list_api, "PUT", "account", "expiring", {"reason": "short", "expires_at": soon.isoformat()})
    before = json.loads(post(decision_api, fresh(payer_id="expiring"))[1])
    assert "DENY_LIST" in {reason["code"] for reason in before["reasons"]}
    after = json.loads(
        post(decision_api, fresh(payer_id="expiring", occurred_at=(soon + timedelta(minutes=1)).isoformat()))[1]
    )
    assert "DENY_LIST" not in {reason["code"] for reason in after["reasons"]}
    later = soon + timedelta(minutes=2)
    monkeypatch.setattr("fraud.clock.source", lambda: later)
    assert call(list_api, "GET", "account", "expiring")[1]["active"] is False


def test_analysts_who_write_at_once_lose_no_change(list_api):
    with ThreadPoolExecutor(4) as threads:
        statuses = threads.map(
            lambda n: call(list_api, "PUT", "account", "contested", {"reason": f"case {n}"})[0], range(4)
        )
        assert list(statuses) == [200] * 4
    history = call(list_api, "GET", "account", "contested")[1]["history"]
    assert sorted(row["after"]["reason"] for row in history) == [f"case {n}" for n in range(4)]
    assert [row["before"] for row in history[1:]] == [row["after"] for row in history[:-1]]


# --- allow ------------------------------------------------------------------------------------------------------------


IN_A_MONTH = (datetime.now(UTC) + timedelta(days=30)).isoformat()


def allow(door: Any, kind: str, value: str, *silences: str, **content: Any) -> tuple[int, Any]:
    """Put a value on the allow list; a second person confirms the entry if it silences the model."""
    said = {"reason": "known", "silences": silences, "expires_at": IN_A_MONTH} | content
    status, view = call(door, "PUT", kind, value, said, name="allow")
    if status == 200 and view["pending"]:
        return call(door, "POST", kind, value, {"set_at": view["entry"]["set_at"]}, name="allow", arn=SECOND)
    return status, view


def pay(door: Any, **fields: Any) -> Any:
    """Return the decision on a high amount to a new payee, which a rule challenges."""
    payment = fresh(amount=200_000, **fields)
    status, answer = post(door, payment | {"payee_id": f"new-{payment['transaction_id']}"})
    assert status == 200
    return json.loads(answer)


def codes(reasons: Any) -> set[str]:
    return {reason["code"] for reason in reasons}


CHALLENGED = "NEW_PAYEE_HIGH_AMOUNT"


def test_an_allow_entry_is_set_changed_shown_and_taken_off_with_its_trail(list_api):
    status, view = allow(list_api, "account", "corporate", "VELOCITY", "NEW_DEVICE", "VELOCITY")
    assert (status, view["active"], view["entry"]["silences"]) == (200, True, ["NEW_DEVICE", "VELOCITY"])
    allow(list_api, "account", "corporate", "NEW_DEVICE", "VELOCITY")  # the same in another order leaves no row
    allow(list_api, "account", "corporate", "model")
    assert call(list_api, "DELETE", "account", "corporate", name="allow") == (204, None)
    status, view = call(list_api, "GET", "account", "corporate", name="allow")
    assert (status, view["active"], view["entry"]) == (200, False, None)
    said = [row["after"] and row["after"]["silences"] for row in view["history"]]
    assert said == [["NEW_DEVICE", "VELOCITY"], ["model"], ["model"], None]
    assert [row["by"] for row in view["history"]] == [ARN, ARN, SECOND, ARN]


@pytest.mark.parametrize(
    ("kind", "value", "field"),
    [("account", "good-payer", "payer_id"), ("device", "good-device", "device_id"), ("ip", "2001:db8::6", "ip")],
)
def test_a_silenced_reason_is_recorded_and_decides_nothing_until_the_entry_is_gone(
    list_api, decision_api, kind, value, field
):
    unsilenced = pay(decision_api, **{field: value})
    assert CHALLENGED in codes(unsilenced["reasons"])
    assert unsilenced["suppressed"] == []
    allow(list_api, kind, value, CHALLENGED)
    silenced = pay(decision_api, **{field: value})
    assert CHALLENGED in codes(silenced["suppressed"])
    assert CHALLENGED not in codes(silenced["reasons"])
    call(list_api, "DELETE", kind, value, name="allow")
    assert CHALLENGED in codes(pay(decision_api, **{field: value})["reasons"])


def test_a_payment_with_every_reason_silenced_is_approved_and_shown_with_them(list_api, decision_api):
    allow(list_api, "account", "trusted", *sorted(list_api._silenceable))
    payment = fresh(payer_id="trusted", amount=200_000)
    decision = json.loads(post(decision_api, payment)[1])
    assert (decision["outcome"], decision["reasons"]) == ("approve", [])
    assert CHALLENGED in codes(decision["suppressed"])
    assert shown(payment["transaction_id"])[1]["decision"] == decision


def test_no_allow_entry_silences_a_deny_entry_or_a_limit(list_api, decision_api):
    allow(list_api, "account", "both", *sorted(list_api._silenceable))
    call(list_api, "PUT", "account", "both", {"reason": "case 9"})
    decision = json.loads(post(decision_api, fresh(payer_id="both", amount=600_000))[1])
    assert (decision["outcome"], decision["advice"]) == ("decline", "contact_support")
    assert codes(decision["reasons"]) == {"DENY_LIST", "LIMIT_AMOUNT"}
    assert CHALLENGED in codes(decision["suppressed"])
    call(list_api, "DELETE", "account", "both")
    assert call(list_api, "GET", "account", "both", name="allow")[1]["active"] is True


def test_an_allow_entry_ends_by_the_payments_own_time(list_api, decision_api, monkeypatch):
    end = datetime.now(UTC) + timedelta(minutes=2)
    allow(list_api, "account", "for-a-while", CHALLENGED, expires_at=end.isoformat())
    later = end + timedelta(minutes=4)
    monkeypatch.setattr("fraud.clock.source", lambda: later)
    for when, silenced in ((end - timedelta(seconds=1), True), (end, False), (later, False)):
        decision = pay(decision_api, payer_id="for-a-while", occurred_at=when.isoformat())
        assert (CHALLENGED in codes(decision["suppressed"])) is silenced
        assert (CHALLENGED in codes(decision["reasons"])) is not silenced
    assert call(list_api, "GET", "account", "for-a-while", name="allow")[1]["active"] is False


@pytest.mark.parametrize(
    ("content", "rules"),
    [
        ({"silences": ["DENY_LIST"]}, ["not_silenceable"]),
        ({"silences": ["VELOCITY", "LIMIT_AMOUNT"]}, ["not_silenceable"]),
        ({"silences": ["ACCOUNT_NOT_ACTIVE"]}, ["not_silenceable"]),
        ({"silences": ["NO_SUCH_CODE"]}, ["not_silenceable"]),
        ({"silences": ["AMOUNT_UNUSUAL"]}, ["not_silenceable"]),  # the model's words, silenced by `model` only
        ({"silences": ["velocity"]}, ["not_silenceable"]),
        ({"silences": []}, ["too_short"]),
        ({"silences": ["VELOCITY"] * 21}, ["too_long"]),
        ({"silences": "VELOCITY"}, ["wrong_type"]),
        ({"silences": [7]}, ["wrong_type"]),
        ({}, ["missing"]),
        ({"silences": ["VELOCITY"], "expires_at": "2020-01-01T00:00:00Z"}, ["expires_at_past"]),
        ({"silences": ["VELOCITY"], "expires_at": "2099-01-01T00:00:00Z"}, ["expires_at_too_late"]),
        ({"silences": ["VELOCITY"], "expires_at": None}, ["rfc3339"]),
        ({"silences": ["VELOCITY"], "colour": "red", "reason": ""}, ["unknown_field", "too_short"]),
    ],
)
def test_a_faulty_allow_request_is_refused_and_changes_nothing(list_api, content, rules):
    said = {"reason": "x", "expires_at": IN_A_MONTH} | content
    status, answer = call(list_api, "PUT", "account", "faulty", said, name="allow")
    assert status == 400
    assert sorted(rules_of(answer)) == sorted(rules)
    assert call(list_api, "GET", "account", "faulty", name="allow")[0] == 404


def test_an_allow_entry_must_have_an_end_and_a_deny_entry_need_not(list_api):
    content = {"reason": "x", "silences": ["VELOCITY"]}
    status, answer = call(list_api, "PUT", "account", "for-ever", content, name="allow")
    assert (status, [(fault["field"], fault["rule"]) for fault in answer["errors"]]) == (
        400,
        [("expires_at", "missing")],
    )
    assert call(list_api, "GET", "account", "for-ever", name="allow")[0] == 404
    assert call(list_api, "PUT", "account", "for-ever", {"reason": "x"})[0] == 200
    call(list_api, "DELETE", "account", "for-ever")


@pytest.mark.parametrize(("kind", "field"), [("account", "payee_id"), ("instrument", "instrument_id")])
def test_an_allow_entry_works_for_any_party_of_a_payment(list_api, decision_api, kind, field):
    value = f"listed-{field}"
    allow(list_api, kind, value, CHALLENGED)
    decision = json.loads(post(decision_api, fresh(amount=200_000, **{field: value}))[1])
    assert CHALLENGED in codes(decision["suppressed"])
    call(list_api, "DELETE", kind, value, name="allow")


def test_a_deny_request_cannot_name_codes_to_silence(list_api):
    status, answer = call(list_api, "PUT", "account", "a", {"reason": "x", "silences": ["VELOCITY"]})
    assert (status, rules_of(answer)) == (400, ["unknown_field"])


# --- faults -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "value", "content", "rules"),
    [
        ("colour", "red", {"reason": "x"}, ["unknown_value"]),
        ("ip", "300.1.1.1", {"reason": "x"}, ["ip_address"]),
        ("account", "a b", {"reason": "x"}, ["identifier"]),
        ("account", "a", {}, ["missing"]),
        ("account", "a", "", ["json_invalid"]),
        (
            "account",
            "a",
            {"reason": "", "expires_at": "yesterday", "why": 1},
            ["too_short", "rfc3339", "unknown_field"],
        ),
        ("account", "a", {"reason": "x", "expires_at": "2020-01-01T00:00:00Z"}, ["expires_at_past"]),
    ],
)
def test_a_faulty_request_is_refused_with_every_rule(list_api, kind, value, content, rules):
    status, answer = call(list_api, "PUT", kind, value, content)
    assert status == 400
    assert sorted(rules_of(answer)) == sorted(rules)


def test_a_value_that_was_never_on_the_list_is_not_found(list_api):
    assert call(list_api, "GET", "account", "innocent")[0] == 404


def test_a_missing_table_gets_500_and_a_service_out_of_reach_503(list_api, monkeypatch):
    from fraud.aws import tables  # noqa: PLC0415 - imported with its environment set
    from fraud.lists.store import Profile  # noqa: PLC0415

    with monkeypatch.context() as gone:
        gone.setattr(list_api._lists, "_profiles", tables.bound(Profile, "gone"))
        assert call(list_api, "PUT", "account", "a", {"reason": "x"})[0] == 500
    out_of_reach = tables.bound(Profile, "profiles")
    out_of_reach.Meta.host = "http://127.0.0.1:9"
    monkeypatch.setattr(list_api._lists, "_profiles", out_of_reach)
    assert call(list_api, "PUT", "account", "a", {"reason": "x"})[0] == 503


def test_a_service_that_fails_between_read_and_write_gets_503(list_api, monkeypatch):
    from fraud.aws import tables  # noqa: PLC0415 - imported with its environment set

    call(list_api, "PUT", "account", "half-way", {"reason": "before"})
    with monkeypatch.context() as away:
        away.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        away.setattr(list_api._lists, "_connection", tables.connection())
        assert call(list_api, "PUT", "account", "half-way", {"reason": "after"})[0] == 503
    view = call(list_api, "GET", "account", "half-way")[1]
    assert (view["entry"]["reason"], len(view["history"])) == ("before", 1)


def test_a_change_that_conflicts_every_time_gives_up_and_loses_nothing(list_api, emulator, monkeypatch):
    table = emulator.stack.functions[0].environment["PROFILES_TABLE"]
    dynamodb, writes = emulator.client("dynamodb"), itertools.count()

    def meanwhile() -> datetime:
        """Change the entry when the door calls its clock: after it has read the entry, and before it writes."""
        entry = {"reason": str(next(writes)), "set_by": "other-writer", "set_at": "2026-03-04T12:00:00.000000Z"}
        dynamodb.update_item(
            TableName=table,
            Key={"pk": {"S": "account#busy"}},
            UpdateExpression="SET deny = :entry",
            ExpressionAttributeValues={":entry": {"M": {name: {"S": value} for name, value in entry.items()}}},
        )
        return datetime.now(UTC)

    with monkeypatch.context() as busy:
        busy.setattr("fraud.clock.source", meanwhile)
        assert call(list_api, "PUT", "account", "busy", {"reason": "mine"})[0] == 503
    found = dynamodb.get_item(TableName=table, Key={"pk": {"S": "account#busy"}})["Item"]["deny"]["M"]
    assert int(found["reason"]["S"]) == next(writes) - 1 > 5
    assert call(list_api, "GET", "account", "busy")[0] == 404  # a change that was not made has no row in the trail


@pytest.mark.parametrize("body", ["//8=", base64.b64encode(b"x" * 70_000).decode()])
def test_a_body_that_is_no_text_or_too_large_is_refused(list_api, body):
    event = {
        "version": "2.0",
        "routeKey": "PUT /lists/deny/{kind}/{value}",
        "rawPath": "/lists/deny/account/a",
        "pathParameters": {"kind": "account", "value": "a"},
        "requestContext": {"http": {"method": "PUT"}, "stage": "$default", "authorizer": {"iam": {"userArn": ARN}}},
        "body": body,
        "isBase64Encoded": True,
    }
    assert list_api.handler(event, None)["statusCode"] == 400


@pytest.mark.parametrize("value", ["a\n", "a/b", "10.0.0.0/8", "a?b", 'a"b', "\x00", "ÿ"])
def test_a_value_that_no_payment_can_carry_is_refused(list_api, value):
    status, answer = call(list_api, "PUT", "account", value, {"reason": "x"})
    assert (status, rules_of(answer)) == (400, ["identifier"])


@pytest.mark.parametrize(
    "profile",
    [
        {"status": {"S": "hold"}},
        {"status": {"NULL": True}},
        {"deny": {"S": "yes"}},
        {"deny": {"M": {"expires_at": {"S": "junk"}}}},
        {"o20000": {"N": "1.5"}, "deny": {"M": {"reason": {"S": "x"}}}},
    ],
)
def test_a_profile_that_cannot_be_read_declines_and_is_no_error(decision_api, emulator, profile):
    payment = fresh()
    table = emulator.stack.functions[0].environment["PROFILES_TABLE"]
    item = {"pk": {"S": f"account#{payment['payer_id']}"}, **profile}
    emulator.client("dynamodb").put_item(TableName=table, Item=item)
    status, answer = post(decision_api, payment)
    assert (status, json.loads(answer)["outcome"]) == (200, "decline")


def test_an_entry_whose_end_cannot_be_read_is_shown_as_active(list_api, emulator):
    call(list_api, "PUT", "account", "damaged", {"reason": "stolen"})
    table = emulator.stack.functions[0].environment["PROFILES_TABLE"]
    emulator.client("dynamodb").update_item(
        TableName=table,
        Key={"pk": {"S": "account#damaged"}},
        UpdateExpression="SET deny.expires_at = :junk",
        ExpressionAttributeValues={":junk": {"S": "junk"}},
    )
    status, view = call(list_api, "GET", "account", "damaged")
    assert (status, view["active"], view["entry"]["expires_at"]) == (200, True, "junk")


def test_a_change_is_logged_with_its_request_and_without_value_reason_or_caller(list_api, monkeypatch):
    log = io.StringIO()
    monkeypatch.setattr(list_api._logger.registered_handler, "stream", log)
    call(list_api, "PUT", "device", "secret-device", {"reason": "secret reason"})
    call(list_api, "DELETE", "device", "secret-device")
    call(list_api, "GET", "device", "secret-device")
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    assert [line["message"] for line in lines] == ["list entry put", "list entry deleted"]
    assert [(line["list"], line["kind"], line["request_id"]) for line in lines] == [("deny", "device", "request-1")] * 2
    assert "secret" not in str(lines)
    assert "hana" not in str(lines)
