"""Labels as sources really send them: years of them at once, with dates only, about an account's payment to itself.

Each case follows the public report that it names.
"""

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud.counters.codec import profile_of
from fraud.counters.layout import State
from fraud.counters.windows import measure
from fraud.decisions.record import PACKED, Contents
from fraud.labels.label import Parties
from fraud.transaction import MAX_AMOUNT, utc
from tests.support.own_door import OwnDoor, own_door
from tests.support.payments import NOON, payment

FIRST_DECISION = NOON - timedelta(days=20)
A_DAY, A_YEAR = timedelta(days=1), timedelta(days=365)
ROLES = {"backfill": "loader", "user_report": "payment-app", "analyst": "fraud-analyst", "chargeback": "importer"}
NUMBERS = itertools.count()


class Labels:
    """The door of the labels."""

    def __init__(self, door: OwnDoor) -> None:
        self.door = door

    def post(self, *labels: dict[str, Any], source: str = "chargeback") -> tuple[int, Any]:
        arn = f"arn:aws:sts::123456789012:assumed-role/{ROLES[source]}/session"
        return self.door.call("POST", "/labels", arn, {"labels": labels})

    def one(self, source: str = "chargeback", **fields: Any) -> tuple[str, list[tuple[str, str]]]:
        """Send one label; return its status and its faults."""
        status, answer = self.post(said(**fields), source=source)
        assert status == 200
        (result,) = answer["results"]
        return result["status"], [(fault["field"], fault["rule"]) for fault in result["errors"]]

    def frauds(self, account: str) -> dict[str, int]:
        row = self.door.dynamodb.get_item(TableName="profiles", Key={"pk": {"S": f"account#{account}"}})
        return {name: n for name, n in profile_of(row.get("Item", {})).items() if name != "pk" and n}

    def kept(self, transaction_id: str) -> list[dict[str, Any]]:
        row = self.door.dynamodb.get_item(TableName="labels", Key={"pk": {"S": transaction_id}})["Item"]
        return [dict(profile_of(each["M"])) for each in row["history"]["L"]]

    def decide(self, **fields: Any) -> str:
        paid = payment(**{"transaction_id": f"decided-{next(NUMBERS)}"} | fields)
        packed = Contents(paid.canonical, b"[]", b"{}").packed()
        self.door.dynamodb.put_item(
            TableName="decisions", Item={"pk": {"S": paid.transaction_id}, PACKED: {"B": packed}}
        )
        return paid.transaction_id


def said(**fields: Any) -> dict[str, Any]:
    parties = {"payer_id": "payer-1", "payee_id": "payee-1", "occurred_at": utc(NOON - A_YEAR)}
    label = {"transaction_id": f"t-{next(NUMBERS)}", "label": "fraud", "reported_at": utc(NOON - A_YEAR + A_DAY)}
    given_times = {name: utc(value) if isinstance(value, datetime) else value for name, value in fields.items()}
    return {name: value for name, value in (label | parties | given_times).items() if value != "left out"}


def day_of(when: datetime) -> int:
    return (when - datetime(1970, 1, 1, tzinfo=UTC)).days


@pytest.fixture
def labels(monkeypatch: pytest.MonkeyPatch) -> Iterator[Labels]:
    monkeypatch.setattr("fraud.clock.source", lambda: NOON)
    with own_door("label_api") as door:
        yield Labels(door)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[Labels]:
    """Return the door while a load is open."""
    monkeypatch.setattr("fraud.clock.source", lambda: NOON)
    with own_door("label_api", BACKFILL_BEFORE=utc(FIRST_DECISION)) as door:
        yield Labels(door)


# --- line 6: labels of the time before the stack ----------------------------------------------------------------------
def seen_by_rules(labels: Labels, account: str) -> float | None:
    """Return the frauds of 30 days that a payment to the account has among its counters now."""
    row = labels.door.dynamodb.get_item(TableName="profiles", Key={"pk": {"S": f"account#{account}"}})
    state = State({}, {f"account#{account}": profile_of(row.get("Item", {}))})
    return measure(payment(payee_id=account, occurred_at=NOON), state)["payee_frauds_30d"]


def test_chargebacks_of_last_year_that_are_loaded_today_leave_no_payee_as_just_caught(opened):
    """feast-dev/feast#6615: a backfill is known since it happened, not since it was written."""
    months = [NOON - A_YEAR + n * timedelta(days=29) for n in range(12)]
    load = [said(occurred_at=at, reported_at=at + A_DAY, payee_id="old") for at in months]
    assert {result["status"] for result in opened.post(*load, source="backfill")[1]["results"]} == {"accepted"}
    assert opened.frauds("old") == {f"fi{day_of(at + A_DAY)}": 1 for at in months}
    assert seen_by_rules(opened, "old") == 0
    opened.post(*(label | {"payee_id": "new", "transaction_id": f"again-{n}"} for n, label in enumerate(load)))
    assert seen_by_rules(opened, "new") == 12  # as any other source still does
    assert {result["status"] for result in opened.post(*load, source="backfill")[1]["results"]} == {"unchanged"}


@pytest.mark.parametrize(
    ("occurred_at", "reported_at", "known_at"),
    [
        pytest.param(NOON - A_YEAR, NOON - A_YEAR + A_DAY, NOON - A_YEAR + A_DAY, id="feast-dev/feast#6615"),
        pytest.param(
            FIRST_DECISION - 2 * A_DAY, FIRST_DECISION - A_DAY, FIRST_DECISION - A_DAY, id="featureform/featureform#481"
        ),
        pytest.param(FIRST_DECISION - A_DAY, FIRST_DECISION, NOON, id="som-shahlab/femr#111: at the very time"),
        pytest.param(FIRST_DECISION - A_DAY, NOON - A_DAY, NOON, id="aildnont/HIFIS-model#2: a report of later"),
        pytest.param(FIRST_DECISION, FIRST_DECISION + A_DAY, NOON, id="feast-dev/feast#6038: a payment of later"),
        pytest.param(NOON - A_DAY, NOON, NOON, id="a label of today"),
    ],
)
def test_a_backfilled_label_is_dated_back_only_if_nothing_was_decided_before_its_report(
    opened, occurred_at, reported_at, known_at
):
    label = said(occurred_at=occurred_at, reported_at=reported_at)
    assert opened.post(label, source="backfill")[1]["results"][0]["status"] == "accepted"
    (kept,) = opened.kept(label["transaction_id"])
    assert (kept["known_at"], kept["source"]) == (utc(known_at), "backfill")
    assert opened.frauds("payee-1") == {f"fi{day_of(known_at)}": 1}


def test_a_payment_that_was_decided_here_is_never_dated_back(opened):
    """som-shahlab/femr#111: its decision was made without the label, whatever the parameter says."""
    decided = opened.decide(occurred_at=NOON - A_YEAR)
    label = said(transaction_id=decided, occurred_at=NOON - A_YEAR, reported_at=NOON - A_YEAR + A_DAY)
    assert opened.post(label, source="backfill")[1]["results"][0]["status"] == "accepted"
    assert opened.kept(decided)[0]["known_at"] == utc(NOON)


def test_a_correction_takes_a_backfilled_fraud_off_its_own_day(opened):
    label = said()
    opened.post(label, source="backfill")
    opened.post(label | {"label": "legitimate", "reported_at": utc(NOON)}, source="analyst")
    assert opened.frauds("payee-1") == opened.frauds("payer-1") == {}


def test_the_source_is_closed_unless_the_parameter_opens_it(labels):
    label = said()
    assert labels.post(label, source="backfill")[0] == 403
    assert labels.frauds("payee-1") == {}
    assert labels.post(label)[1]["results"][0]["status"] == "accepted"


@pytest.mark.parametrize("source", ["user_report", "analyst", "chargeback"])
def test_no_other_source_dates_a_label_back_while_a_load_is_open(opened, source):
    label = said()
    opened.post(label, source=source)
    assert opened.kept(label["transaction_id"])[0]["known_at"] == utc(NOON)


TIMES = st.integers(-400, 400).map(lambda hours: NOON + timedelta(hours=hours))


@given(TIMES, TIMES, TIMES, st.booleans())
def test_no_label_is_ever_known_before_a_decision_that_was_made_without_it(occurred_at, reported_at, first, decided):
    """A decision without the label can have been made from `first` until now: there no label may be known."""
    parties = Parties("a", "b", occurred_at, "p2p" if decided else None)
    known_at = parties.known_at(reported_at, NOON, first)
    assert known_at <= NOON
    assert known_at == NOON or known_at == reported_at < first
    assert known_at == NOON or (occurred_at < first and not decided)
    assert parties.known_at(reported_at, NOON, None) == NOON


# --- line 7: labels that cannot be true -------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("occurred_at", "reported_at", "faults"),
    [
        pytest.param("2026-03-01T15:00:00Z", "2026-03-01T00:00:00Z", True, id="okfde/froide#1061: the day's start"),
        pytest.param("2026-03-01T15:00:00Z", "2026-03-01T12:00:00Z", True, id="okfde/froide#1061: noon"),
        pytest.param("2026-03-01T15:00:00Z", "2025-03-02T15:00:00Z", True, id="a year too early"),
        pytest.param("2026-03-01T15:00:00Z", "2026-03-01T14:59:59.999999Z", True, id="a microsecond too early"),
        pytest.param("2026-03-01T15:00:00Z", "2026-03-01T15:00:00Z", False, id="at once"),
        pytest.param("2026-03-01T15:00:00Z", "2026-03-01T23:59:59Z", False, id="openapi: the day's last second"),
        pytest.param("2026-03-02T00:30:00+09:00", "2026-03-02T23:59:59+09:00", False, id="openapi: of its own zone"),
        pytest.param("2026-03-02T00:30:00+09:00", "2026-03-01T09:00:00Z", True, id="AgileVentures#483: another zone"),
    ],
)
@pytest.mark.parametrize("decided", [True, False])
def test_a_label_dated_before_its_payment_is_refused(labels, decided, occurred_at, reported_at, faults):
    parties = {"occurred_at": occurred_at}
    if decided:
        transaction_id = labels.decide(occurred_at=occurred_at)
        parties = {
            "transaction_id": transaction_id,
            **dict.fromkeys(("payer_id", "payee_id", "occurred_at"), "left out"),
        }
    found = labels.one(**parties, reported_at=reported_at)
    assert found == (("rejected", [("reported_at", "before_payment")]) if faults else ("accepted", []))
    assert bool(labels.frauds("payee-1")) is not faults


@pytest.mark.parametrize(
    "account",
    [
        pytest.param("payer-1", id="rage/cyber-security-base-19#27"),
        pytest.param("a@upi", id="mojaloop/project#465"),
        pytest.param("+81-90-1234-5678", id="filecoin-project/lotus#1861"),
    ],
)
def test_a_payment_of_an_account_to_itself_is_refused(labels, account):
    refused = "rejected", [("payee_id", "same_as_payer")]
    assert labels.one(payer_id=account, payee_id=account) == refused
    assert labels.frauds(account) == {}
    assert labels.one(payer_id=account, payee_id=None) == ("accepted", [])


@pytest.mark.parametrize(
    ("reason_code", "amount"),
    [
        pytest.param("10.4", 1_200, id="Visa: balanced/balanced-api#746"),
        pytest.param("4837", 1, id="Mastercard: Rebilly/RebillyAPI#282"),
        pytest.param("UA12", None, id="Discover: Rebilly/RebillyAPI#282"),
        pytest.param("MS03", 3_507, id="SEPA: mollie/api-documentation#729"),
        pytest.param("11.3", 20_000, id="juspay/hyperswitch#8830"),
        pytest.param("R10", MAX_AMOUNT, id="ACH"),
        pytest.param("DEFECTIVE_OR_NOT_AS_DESCRIBED", 7, id="Google e-wallets PaymentDisputeReasonCode"),
        pytest.param(None, 500, id="a part of it: docs.stripe.com/api/disputes/object"),
    ],
)
def test_a_chargebacks_reason_code_and_amount_are_kept(labels, reason_code, amount):
    label = said(reason_code=reason_code, amount=amount)
    assert labels.post(label)[1]["results"][0]["status"] == "accepted"
    (kept,) = labels.kept(label["transaction_id"])
    assert (kept.get("code"), kept.get("amount")) == (reason_code, amount)
    assert labels.post(label)[1]["results"][0]["status"] == "unchanged"
    other = label | {"amount": 999}
    assert labels.post(other)[1]["results"][0]["status"] == "accepted"  # kept too, and still one fraud
    assert labels.frauds("payee-1") == {f"fi{day_of(NOON)}": 1}


@pytest.mark.parametrize(
    ("fields", "faults"),
    [
        pytest.param({"reason_code": 4837}, [("reason_code", "wrong_type")], id="Rebilly/RebillyAPI#282: a number"),
        pytest.param({"reason_code": "4" * 33}, [("reason_code", "form")], id="vykhrystiuk: length"),
        pytest.param({"reason_code": "Hanako says: not mine!"}, [("reason_code", "form")], id="free text"),
        pytest.param({"amount": 0}, [("amount", "too_small")], id="nothing charged back"),
        pytest.param({"amount": -3_507}, [("amount", "too_small")], id="mollie/api-documentation#729: -35.07"),
        pytest.param(
            {"amount": "10000"}, [("amount", "wrong_type")], id="juspay/hyperswitch#8830: an amount in quotes"
        ),
        pytest.param({"amount": MAX_AMOUNT + 1}, [("amount", "too_large")], id="beyond any payment"),
    ],
)
def test_a_reason_code_or_an_amount_out_of_bounds_is_refused(labels, fields, faults):
    assert labels.one(**fields) == ("rejected", faults)


def test_an_empty_reason_code_is_none(labels):
    assert labels.one(reason_code=" ") == ("accepted", [])
