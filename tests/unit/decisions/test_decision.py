"""Hits become one outcome, and views, events and packed rows hold the decision exactly."""

import base64
import hashlib
import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from fraud.counters.windows import NAMES
from fraud.decisions import record as packing
from fraud.decisions.decision import Decision
from fraud.decisions.events import DecisionMade
from fraud.decisions.record import PACKED, Contents, DecisionRecord
from fraud.outcome import ADVICE, Hit, Outcome, Reason, by_score, retryable, worst
from fraud.transaction import Transaction
from tests.support.payments import NOON, SIDES_OF_TYPE, payment

THRESHOLDS = {"challenge": 0.2, "review": 0.5, "decline": 0.9}
MILD_TO_SEVERE = [Outcome.APPROVE, Outcome.CHALLENGE, Outcome.REVIEW, Outcome.DECLINE]

ANSWER: dict[str, Any] = {
    "transaction_id": "t-1",
    "outcome": "review",
    "score": 0.5,
    "reasons": [{"code": "VELOCITY", "text": "Fast.", "source": "velocity_minute@1", "contribution": None}],
    "suppressed": [{"code": "NEW_DEVICE", "text": "New.", "source": "model", "contribution": 0.5}],
    "advice": "none",
    "segment": "standard",
    "model": {"version": "m-1"},
    "degraded": [],
    "estimated": ["merchant"],
    "recounted": False,
    "policy_version": "p-1",
    "retryable": False,
    "decided_at": "2026-03-04T12:00:00Z",
    "steps_ms": {"state": 4.1, "model": 0.2, "rules": 0.1},
}


def hit(outcome: Outcome, *, again: bool) -> Hit:
    return Hit(outcome, "rule", (), retryable=again)


def hit_with_codes(source: str, *codes: str, protected: bool = False) -> Hit:
    reasons = tuple(Reason(code=code, text="Words.", source=source) for code in codes)
    return Hit(Outcome.REVIEW, source, reasons, retryable=False, protected=protected)


def test_the_most_severe_outcome_wins_whatever_the_order():
    for outcomes in itertools.permutations(MILD_TO_SEVERE):
        assert worst(outcomes) is Outcome.DECLINE
        assert sorted(outcomes, key=Outcome.severity) == MILD_TO_SEVERE
    assert worst([Outcome.REVIEW, Outcome.CHALLENGE]) is Outcome.REVIEW
    assert worst([]) is Outcome.APPROVE


@pytest.mark.parametrize(
    ("score", "outcome"),
    [
        (0, "approve"),
        (0.1999, "approve"),
        (0.2, "challenge"),
        (0.4999, "challenge"),
        (0.5, "review"),
        (0.8999, "review"),
        (0.9, "decline"),
        (1, "decline"),
    ],
)
def test_a_score_decides_from_its_threshold_on(score, outcome):
    assert by_score(score, THRESHOLDS) == outcome
    assert by_score(score, dict(reversed(THRESHOLDS.items()))) == outcome


def test_a_model_without_thresholds_approves():
    assert by_score(1.0, {}) is Outcome.APPROVE


def test_every_outcome_has_advice_and_only_a_challenge_asks_the_payer_to_act():
    assert ADVICE == {"approve": "none", "challenge": "verify_identity", "review": "none", "decline": "contact_support"}
    assert set(ADVICE) == set(Outcome)


@pytest.mark.parametrize(
    ("outcomes", "again"),
    [
        ([], False),
        ([("challenge", True)], True),
        ([("challenge", False)], False),
        ([("decline", True), ("decline", True)], True),
        ([("decline", True), ("decline", False)], False),
        ([("decline", True), ("review", False)], True),
        ([("decline", False), ("challenge", True)], False),
    ],
)
def test_a_new_attempt_helps_only_if_all_of_the_most_severe_hits_say_so(outcomes, again):
    hits = [hit(Outcome(outcome), again=each) for outcome, each in outcomes]
    assert retryable(worst([one.outcome for one in hits]), hits) is again


@pytest.mark.parametrize(
    ("silences", "hit", "silenced"),
    [
        ({"VELOCITY"}, hit_with_codes("rule", "VELOCITY"), True),
        ({"NEW_DEVICE", "VELOCITY"}, hit_with_codes("rule", "VELOCITY"), True),
        ({"VELOCITY"}, hit_with_codes("rule", "NEW_DEVICE"), False),
        ({"model"}, hit_with_codes("rule", "VELOCITY"), False),
        ({"model"}, hit_with_codes("model", "VELOCITY", "NEW_DEVICE"), True),
        ({"VELOCITY"}, hit_with_codes("model", "VELOCITY"), False),
        ({"VELOCITY"}, hit_with_codes("rule", "VELOCITY", protected=True), False),
        ({"VELOCITY", "model"}, hit_with_codes("model", "VELOCITY", protected=True), False),
        (set(), hit_with_codes("rule", "VELOCITY"), False),
    ],
)
def test_a_hit_is_silenced_by_its_code_or_as_the_models_unless_it_is_protected(silences, hit, silenced):
    assert hit.silenced_by(silences) is silenced


def test_a_decision_keeps_every_field_unchanged():
    decision = Decision.model_validate_json(json.dumps(ANSWER))
    assert decision.model_dump(mode="json", exclude_unset=True) == ANSWER
    assert list(Decision.model_fields) == [*ANSWER, "hold_out"]
    assert decision.model_dump(mode="json").keys() == ANSWER.keys()


@pytest.mark.parametrize("wrong", [{"score": 1.01}, {"score": -0.01}, {"outcome": "maybe"}, {"advice": "run"}])
def test_a_decision_with_an_impossible_value_is_refused(wrong):
    with pytest.raises(ValidationError):
        Decision.model_validate_json(json.dumps(ANSWER | wrong))


# --- the event --------------------------------------------------------------------------------------------------------

PERSONAL = {
    "payer_name": "SECRET 花子",
    "payee_name": "SECRET",
    "ip": "192.0.2.9",
    "metadata": {"SECRET": "SECRET"},
    "campaign_id": "SECRET-campaign",
    "device_id": "SECRET-device",
    "instrument_id": "SECRET-instrument",
}


DECIDED_AT = "2026-03-04T12:00:00.000000Z"


def contents(transaction: Transaction, **answer: Any) -> Contents:
    """Return the packed part of a stored decision."""
    said = ANSWER | {"transaction_id": transaction.transaction_id} | answer
    return Contents(transaction.canonical, b"[]", json.dumps(said).encode())


def test_an_event_holds_the_payment_and_its_decision():
    assert DecisionMade.of(contents(payment(**PERSONAL)), DECIDED_AT).model_dump(mode="json", exclude={"event_id"}) == {
        "version": "1",
        "transaction_id": "t-1",
        "type": "p2p",
        "payer_id": "payer-1",
        "payee_id": "payee-1",
        "amount": 1200,
        "currency": "JPY",
        "occurred_at": "2026-03-04T12:00:00.000000Z",
        "decided_at": "2026-03-04T12:00:00Z",
        "outcome": "review",
        "score": 0.5,
        "codes": ["VELOCITY"],
        "segment": "standard",
        "degraded": [],
        "estimated": ["merchant"],
        "recounted": False,
        "model_version": "m-1",
        "policy_version": "p-1",
    }


@pytest.mark.parametrize("kind", SIDES_OF_TYPE)
def test_no_name_address_or_metadata_is_in_an_event(kind):
    said = DecisionMade.of(contents(payment(**PERSONAL | SIDES_OF_TYPE[kind])), DECIDED_AT).model_dump_json()
    assert "SECRET" not in said
    assert "192.0.2.9" not in said


def test_an_event_has_neither_score_nor_payee_where_the_payment_has_none():
    made = DecisionMade.of(contents(payment(**SIDES_OF_TYPE["cash_out"]), score=None, reasons=[]), DECIDED_AT)
    assert (made.payee_id, made.score, made.codes) == (None, None, [])


def test_an_event_keeps_its_identity_however_often_its_decision_is_published():
    first, again = (DecisionMade.of(contents(payment()), DECIDED_AT) for _ in range(2))
    assert first == again
    assert len(first.event_id) == 32
    # The first decision expired, and its id was decided again.
    anew = DecisionMade.of(contents(payment()), "2027-06-04T12:00:00.000000Z")
    other = DecisionMade.of(contents(payment(transaction_id="t-2")), DECIDED_AT)
    assert len({first.event_id, anew.event_id, other.event_id}) == 3


# --- packed rows
# -------------------------------------------------------------------------------------------------------


KEPT = (
    "fZRPC8IwDMW/ymNnN7rpyZOgFQTRy5ioiIh4EPxzcOJp39002drMDWGHLGuTNu+3p4jI3Bz+ai5xnPZrb4axGeVpNjaGnkTcZ9cm"
    "gkMuoMDgkJMd6UpJtxDp0xiyEkFoeCtAozToxgMEqeH/LkSFXa6ni3zrlothIZqfXmXC+2uvAml7e57JMY736+NdXibcs21SYOs6"
    "uG0KI91rZTfHmS0WU6u7rS6fn2a1M3YaOOFc/QZL1FwigAlFZlNoDMUmJWlgFX0MXGJ/4PF4MiGkocMmZWTcikq/WHOJPjR2fFQP"
    "KjypcKiG45okcy2EVnpLq+oL"
)


@given(st.sampled_from([*SIDES_OF_TYPE]), st.binary(max_size=2000), st.text("éx花\n", max_size=200))
def test_a_packed_row_unpacks_to_exactly_its_bytes(kind, answer, name):
    transaction = payment(**SIDES_OF_TYPE[kind], payer_name=f"n{name[:100]}", metadata={"note": name})
    values = dict.fromkeys(NAMES, 1.5)
    record = DecisionRecord(transaction, answer, Outcome.APPROVE, NOON, values, b"", "f")
    opened = Contents.unpacked(Contents.of(record).packed())
    assert (opened.transaction, opened.answer) == (transaction.canonical, answer)
    assert dict(zip(NAMES, json.loads(opened.counters), strict=True)) == values


def test_stored_rows_stay_readable():
    """KEPT was packed when the attribute got its name. A changed dictionary needs another name."""
    kept, answer = base64.b64decode(KEPT), {name: said for name, said in ANSWER.items() if name != "estimated"}
    then = Contents(payment().canonical, b"[]", json.dumps(answer).encode())
    assert hashlib.sha256(packing._DICTIONARY).hexdigest().startswith("fe9a84d7b77cc2cc")
    assert PACKED == "z1"
    assert Contents.unpacked(kept) == then
    assert len(kept) < len(b"".join(then)) / 2
