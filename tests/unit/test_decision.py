"""How opinions become one outcome, and what an answer says around it."""

import itertools
import json
from typing import Any

import pytest
from pydantic import ValidationError

from fraud.decision import (
    ADVICE,
    PENDING,
    Decision,
    DecisionView,
    Hit,
    Outcome,
    Stored,
    by_score,
    retryable,
    view,
    worst,
)

THRESHOLDS = {"challenge": 0.2, "review": 0.5, "decline": 0.9}
MILD_TO_SEVERE = [Outcome.APPROVE, Outcome.CHALLENGE, Outcome.REVIEW, Outcome.DECLINE]

ANSWER: dict[str, Any] = {
    "transaction_id": "t-1",
    "outcome": "review",
    "score": 0.5,
    "reasons": [{"code": "VELOCITY", "text": "Fast.", "source": "velocity_minute@1", "contribution": None}],
    "advice": "none",
    "segment": "standard",
    "model": {"version": "m-1"},
    "degraded": [],
    "recounted": False,
    "policy_version": "p-1",
    "retryable": False,
    "decided_at": "2026-03-04T12:00:00Z",
    "steps_ms": {"state": 4.1, "model": 0.2, "rules": 0.1},
}


def hit(outcome: Outcome, *, again: bool) -> Hit:
    return Hit(outcome, "rule", (), retryable=again)


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
    ("opinions", "again"),
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
def test_a_new_attempt_helps_only_if_all_of_the_most_severe_say_so(opinions, again):
    hits = [hit(Outcome(outcome), again=each) for outcome, each in opinions]
    assert retryable(worst([one.outcome for one in hits]), hits) is again


@pytest.mark.parametrize("outcome", Outcome)
def test_a_view_holds_the_stored_bytes_unchanged(outcome):
    answer = json.dumps(ANSWER | {"outcome": outcome}, indent=3).encode()
    seen = view(Stored(bytes(32), answer))
    assert answer in seen
    shown = json.loads(seen)
    pending = outcome in {Outcome.CHALLENGE, Outcome.REVIEW}
    assert pending is (outcome in PENDING)
    assert shown == {
        "decision": ANSWER | {"outcome": outcome},
        "status": "pending" if pending else "final",
        "outcome_now": outcome,
        "history": [{"at": ANSWER["decided_at"], "outcome": outcome, "by": "decision"}],
    }
    assert DecisionView.model_validate_json(seen).outcome_now is outcome


def test_a_decision_keeps_what_it_was_given():
    decision = Decision.model_validate_json(json.dumps(ANSWER))
    assert decision.model_dump(mode="json", exclude_unset=True) == ANSWER
    assert list(Decision.model_fields) == list(ANSWER)


@pytest.mark.parametrize("wrong", [{"score": 1.01}, {"score": -0.01}, {"outcome": "maybe"}, {"advice": "run"}])
def test_a_decision_that_cannot_be_is_not_made(wrong):
    with pytest.raises(ValidationError):
        Decision.model_validate_json(json.dumps(ANSWER | wrong))
