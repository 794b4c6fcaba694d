"""The evidence of a case: what it says of payments, and the facts that the route follows from."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fraud import packaged
from fraud.cases.evidence import FACTS, MOST_DECISIONS, DecisionEvidence, EarlierCase, Evidence, latest, parties
from fraud.cases.routing import CAUTION, Routing
from fraud.counters import windows
from fraud.decisions.record import Contents
from fraud.decisions.resolution import AS_DECIDED, MOVES, Resolution
from fraud.errors import UndecidableError
from fraud.outcome import Outcome
from fraud.transaction import utc
from tests.support.payments import payment

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
ROUTING = Routing.load(packaged.ROUTING.read_bytes())


def decided(
    name: str = "t-1",
    outcome: str = "review",
    change: str = "",
    counters: Mapping[str, Any] | None = None,
    **fields: Any,
) -> DecisionEvidence:
    """Return the evidence of a payment that was decided and, if `change` is not empty, changed once."""
    paid = payment(transaction_id=name, **fields)
    answer = {"outcome": outcome, "score": 0.5, "reasons": []}
    values = [(counters or {}).get(name) for name in windows.NAMES]
    resolution = Resolution(Outcome(outcome), utc(NOON))
    if change:
        resolution = resolution.after(change, NOON, NOON)  # type: ignore[arg-type]
    contents = Contents(paid.canonical, json.dumps(values).encode(), json.dumps(answer).encode())
    return DecisionEvidence.of(contents, resolution)


def evidence(*decisions: DecisionEvidence, **fields: Any) -> Evidence:
    given = {
        "case_id": "A" * 26,
        "kind": "payee",
        "subject": "payee-1",
        "by_hand": False,
        "collected_at": utc(NOON),
        "alerts": len(decisions),
        "decisions": decisions,
        "accounts": (),
        "earlier": (),
        "reports": (),
        "joined_reports": 0,
    }
    return Evidence.model_validate(given | fields)


def earlier(finding: str | None) -> EarlierCase:
    return EarlierCase(case_id="B" * 26, state="closed", opened_at=utc(NOON), finding=finding)


def test_normal_of_a_payer_leaves_the_payment_itself_out():
    counters = {"payer_count_30d": 5, "payer_sum_30d": 5_000, "payer_age": 864_000, "pair_count_30d": 1}
    normal = decided(amount=3_000, counters=counters).normal
    assert (normal.payments, normal.mean_amount, normal.known_days) == (4, 500, 10)
    assert (normal.payments_to_receiver, normal.largest_amount) == (0, None)


def test_normal_of_a_payer_without_counters_is_not_known():
    assert set(decided().normal.model_dump().values()) == {None}


def test_counters_of_another_release_tell_nothing():
    paid, answer = payment(), json.dumps({"outcome": "review", "reasons": []}).encode()
    found = DecisionEvidence.of(Contents(paid.canonical, b"[1.0]", answer), Resolution(Outcome.REVIEW, utc(NOON)))
    assert found.counters == {}
    assert found.counter("payee_frauds_30d") == 0


def test_evidence_has_the_latest_decisions_latest_first():
    times = [NOON + timedelta(minutes=n) for n in range(MOST_DECISIONS + 5)]
    made = [decided(f"t-{n}", occurred_at=at) for n, at in enumerate(times)]
    kept = latest(made)
    assert [one.transaction_id for one in kept] == [f"t-{n}" for n in range(MOST_DECISIONS + 4, 4, -1)]
    assert parties(kept, "x") == (kept[0].transaction["payer_id"], kept[0].transaction["payee_id"])
    assert parties((), "x") == ("x",)


def test_evidence_survives_its_own_text():
    made = evidence(decided(), earlier=(earlier("fraud"),), reports=({"report_id": "r-1"},))
    assert Evidence.model_validate_json(made.model_dump_json()) == made


def test_frauds_of_others_are_those_that_the_payer_did_not_suffer_itself():
    counters = {"payee_frauds_30d": 3, "payer_frauds_30d": 1}
    assert evidence(decided(counters=counters)).facts["frauds_of_others"] == 2
    assert evidence(decided(counters={"payee_frauds_30d": 1, "payer_frauds_30d": 1})).facts["frauds_of_others"] == 0


def test_every_case_goes_to_an_analyst_unless_a_rule_says_otherwise():
    for made in (evidence(), evidence(decided()), evidence(decided(outcome="decline")), evidence(by_hand=True)):
        assert ROUTING.route(made.facts).route == "analyst"


def test_case_of_passed_challenges_with_nothing_else_is_closed():
    passed = decided("t-1", "challenge", "challenge_passed")
    assert ROUTING.route(evidence(passed).facts).route == "close"
    again = decided("t-2", "challenge", "challenge_passed")
    assert ROUTING.route(evidence(passed, again).facts).route == "close"


@pytest.mark.parametrize(
    "more",
    [
        {"alerts": 2},
        {"reports": ({"report_id": "r-1"},)},
        {"joined_reports": 1},
        {"earlier": (earlier("fraud"),)},
        {"by_hand": True},
    ],
)
def test_anything_beside_passed_challenges_brings_the_case_to_an_analyst(more: dict[str, Any]):
    assert ROUTING.route(evidence(decided("t-1", "challenge", "challenge_passed"), **more).facts).route == "analyst"


@pytest.mark.parametrize("change", ["challenge_failed", "expired_declined", ""])
def test_challenge_that_was_not_passed_brings_the_case_to_an_analyst(change: str):
    passed, other = decided("t-1", "challenge", "challenge_passed"), decided("t-2", "challenge", change)
    assert ROUTING.route(evidence(passed, other).facts).route == "analyst"


def test_new_review_of_a_payee_with_frauds_of_others_is_held():
    counters = {"payee_frauds_30d": 1}
    routed = ROUTING.route(evidence(decided(counters=counters)).facts)
    assert (routed.route, len(routed.reasons)) == ("hold", 1)
    released = decided(counters=counters, change="review_approved")
    assert ROUTING.route(evidence(released).facts).route == "analyst"


def rules(*expressions: tuple[str, str]) -> bytes:
    said = [
        {"id": f"rule_{n}", "expression": expression, "route": route, "text": f"rule {n}"}
        for n, (expression, route) in enumerate(expressions)
    ]
    return json.dumps({"version": "1", "rules": said}).encode()


def test_most_cautious_rule_counts():
    every = Routing.load(rules(*(("true", route) for route in CAUTION)))
    assert every.route(evidence().facts) == ("hold", ("rule 0", "rule 1", "rule 2"))
    assert Routing.load(rules(("true", "close"), ("false", "hold"))).route(evidence().facts).route == "close"


def test_rule_that_fails_leads_to_an_analyst():
    routing = Routing.load(rules(("true", "close"), ("1.0 / case.score > 0.0 && case.score == case.score", "close")))
    facts = dict(evidence().facts) | {"score": "no number"}
    routed = routing.route(facts)  # type: ignore[arg-type]
    assert routed.route == "analyst"
    assert "rule_1" in routed.reasons[1]


@pytest.mark.parametrize(
    "expression",
    [
        "case.colour > 1.0",
        "payment.amount > 1",
        "case.score",
        "case.score >",
        "[1].exists(x, x > 0)",
        "case.by_hand + 1",
    ],
)
def test_rule_that_reads_what_is_not_there_does_not_load(expression: str):
    with pytest.raises(UndecidableError, match="rule_0"):
        Routing.load(rules((expression, "close")))


def test_file_that_is_no_file_of_rules_does_not_load():
    with pytest.raises(UndecidableError, match="routing: "):
        Routing.load(b'{"version": "1", "rules": [{"id": "X"}]}')


def test_every_fact_is_a_number_or_truth_of_any_case():
    for outcome in Outcome:
        for change in ("", *MOVES[AS_DECIDED[outcome]]):
            facts = evidence(decided(outcome=outcome.value, change=change)).facts
            assert set(facts) == set(FACTS)
            assert all(isinstance(value, float | bool) for value in facts.values())
            assert facts["in_review"] == float(outcome is Outcome.REVIEW and not change)
