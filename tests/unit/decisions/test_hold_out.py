"""The hold-out lets a share of small declines through and says so; without it decisions are byte for byte the same."""

import json
from typing import Any

import pytest

from fraud import assembly
from fraud.archive.record import decision_row
from fraud.counters.keys import DECLARED
from fraud.decisions.evaluation import Evaluator
from fraud.decisions.hold_out import MOST_UNITS, HoldOut
from fraud.decisions.record import Contents, DecisionRecord
from fraud.errors import UndecidableError
from fraud.settings import Settings
from fraud.transaction import UNITS, utc
from tests.support.deployment import Deployment
from tests.support.fakes import FixedScorer, InMemoryStore, Trouble, rule, rule_book
from tests.support.own_door import ENVIRONMENT
from tests.support.payments import NOON, payment

DECLINE = rule("transaction.amount > 0", outcome="decline")
ALL = HoldOut(1.0, 5_000, lambda: DECLARED)


def answers(hold_out: HoldOut | None, *rules: dict[str, Any], number: int = 1, **fields: Any) -> list[dict[str, Any]]:
    asked = Evaluator(
        InMemoryStore(), FixedScorer(0.1), rule_book(*rules), lambda: NOON, 10, lambda: 0.0, hold_out=hold_out
    )
    some = (payment(transaction_id=f"t-{n}", payer_id=f"p-{n}", **fields) for n in range(number))
    return [json.loads(asked.evaluate(one).answer) for one in some]


def test_a_small_decline_goes_through_with_the_chance_and_the_reasons_in_its_answer():
    (answer,) = answers(ALL, DECLINE, amount=5_000)
    assert (answer["outcome"], answer["advice"], answer["hold_out"], answer["retryable"]) == (
        "approve",
        "none",
        1.0,
        False,
    )
    assert [reason["source"] for reason in answer["reasons"]]


def test_about_the_share_of_payers_goes_through_and_every_other_says_that_it_might_have():
    found = answers(HoldOut(0.2, 5_000, lambda: DECLARED), DECLINE, number=400, amount=100)
    assert 50 < sum(answer["outcome"] == "approve" for answer in found) < 110
    assert all(answer["hold_out"] == 0.2 for answer in found)


def test_another_try_on_the_same_day_does_not_draw_again():
    held = HoldOut(0.5, 5_000, lambda: DECLARED)
    for payer in ("a", "b", "c", "d"):
        tries = [payment(transaction_id=f"{payer}-{n}", payer_id=payer, payee_id=f"x-{n}") for n in range(20)]
        assert len({held._draws(one) for one in tries}) == 1


@pytest.mark.parametrize(
    ("rules", "fields"),
    [
        ([DECLINE], {"amount": 5_001}),
        ([rule("transaction.amount > 0", outcome="decline", protected=True)], {"amount": 100}),
        ([DECLINE, rule("transaction.amount > 1", id="other", outcome="review", protected=True)], {"amount": 100}),
        ([rule("transaction.amount > 0", outcome="review")], {"amount": 100}),
        ([], {"amount": 100}),
    ],
)
def test_nothing_else_goes_through_and_says_nothing(rules, fields):
    with_it, without = (answers(held, *rules, **fields) for held in (ALL, None))
    assert with_it == without
    assert "hold_out" not in with_it[0]


def test_a_decision_without_all_of_its_parts_lets_nothing_through():
    store = InMemoryStore()
    store.trouble["t-1"] = Trouble({"pair"})
    asked = Evaluator(store, FixedScorer(0.1), rule_book(DECLINE), lambda: NOON, 10, hold_out=ALL)
    answer = json.loads(asked.evaluate(payment(amount=100)).answer)
    assert (answer["degraded"] != [], "hold_out" in answer) == (True, False)


def test_a_model_that_stood_in_for_another_lets_nothing_through():
    asked = Evaluator(
        InMemoryStore(), FixedScorer(0.1, degraded=True), rule_book(DECLINE), lambda: NOON, 10, hold_out=ALL
    )
    answer = json.loads(asked.evaluate(payment(amount=100)).answer)
    assert (answer["degraded"], "hold_out" in answer) == (["model"], False)


def test_off_means_the_same_bytes():
    found = []
    for more in ({}, {"hold_out": HoldOut.of(0.0, 5_000, "JPY", lambda: DECLARED)}, {"hold_out": None}):
        asked = Evaluator(InMemoryStore(), FixedScorer(0.1), rule_book(DECLINE), lambda: NOON, 10, lambda: 0.0, **more)
        found.append([asked.evaluate(payment(transaction_id=f"t-{n}", amount=n + 1)).answer for n in range(20)])
    assert found[0] == found[1] == found[2]
    assert b"hold_out" not in b"".join(found[0])


def test_the_cap_is_bounded_by_the_currency_and_either_zero_turns_it_off():
    most = MOST_UNITS * UNITS["JPY"]
    assert HoldOut.of(0.1, most, "JPY", lambda: DECLARED)
    assert HoldOut.of(0.0, most, "JPY", lambda: DECLARED) is HoldOut.of(0.1, 0, "JPY", lambda: DECLARED) is None
    with pytest.raises(UndecidableError, match="HOLD_OUT_MOST"):
        HoldOut.of(0.1, most + 1, "JPY", lambda: DECLARED)


def test_the_parameters_of_the_stack_make_it_with_the_keys_of_the_store():
    deployment, settings = Deployment(), Settings.from_environment(ENVIRONMENT)
    deployment.fold_all()
    store = deployment.store
    assert assembly._hold_out(settings, store) is None
    held = assembly._hold_out(settings.model_copy(update={"hold_out_share": 0.1, "hold_out_most": 1_500}), store)
    assert (held.share, held.most, held.keys()) == (0.1, 1_500, DECLARED)
    always = held._replace(share=1.0)
    asked = Evaluator(store, FixedScorer(0.1), rule_book(DECLINE), lambda: NOON, 10, hold_out=always)
    some = [payment(transaction_id=f"t-{n}", amount=amount) for n, amount in enumerate((1_500, 1_501))]
    answers = [asked.evaluate(one).answer for one in some]
    assert [json.loads(answer)["outcome"] for answer in answers] == ["approve", "decline"]
    assert asked.evaluate(some[0]).answer == answers[0]


def archived(record: DecisionRecord) -> dict[str, Any]:
    of = {"snapshot": record.features, "fingerprint": record.fingerprint}
    return decision_row(DECLARED, Contents.of(record), utc(record.decided_at), **of)


def test_the_archive_has_the_chance_of_a_would_be_decline_and_null_of_any_other_payment():
    store = InMemoryStore()
    asked = Evaluator(store, FixedScorer(0.1), rule_book(DECLINE), lambda: NOON, 10, hold_out=ALL._replace(share=0.5))
    for n in range(8):
        asked.evaluate(payment(transaction_id=f"t-{n}", payer_id=f"p-{n}", amount=4_999 + n % 3))
    rows = [archived(record) for record in store.decisions.values()]
    assert {(row["amount"] > 5_000, row["hold_out"]) for row in rows} == {(False, 0.5), (True, None)}
    assert {row["outcome"] for row in rows if row["hold_out"]} == {"approve", "decline"}
