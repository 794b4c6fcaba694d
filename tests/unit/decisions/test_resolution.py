"""The machine of a decision's later history: every state and change, deadlines, repeats, and the view of it."""

import itertools
import json
from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud.decisions.record import WAITS
from fraud.decisions.resolution import (
    AS_DECIDED,
    MOVES,
    ChallengeAnswer,
    Change,
    Changes,
    DecisionView,
    Resolution,
    ResultReport,
    Status,
    view,
)
from fraud.errors import InvalidRequestError, ResolvedError
from fraud.outcome import PENDING, Outcome
from fraud.transaction import utc

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
SOON = NOON + timedelta(minutes=1)
EXPIRIES = ("expired_approved", "expired_declined")
OF_PEOPLE = [change for change in get_args(Change) if change not in EXPIRIES]
RESULTS = ("settled", "failed", "reversed")


def decided(outcome: Outcome, review_expires: Outcome = Outcome.DECLINE) -> Resolution:
    return Resolution(outcome, utc(NOON), WAITS.deadline(outcome, NOON, review_expires))


def test_every_state_is_reached_from_a_decision_and_no_other():
    reached = set(AS_DECIDED.values())
    for _ in Status:
        reached |= {after for status in reached for after in MOVES[status].values()}
    assert reached == set(Status) == set(MOVES)
    assert {change for moves in MOVES.values() for change in moves} == set(get_args(Change))


@pytest.mark.parametrize("outcome", Outcome)
def test_all_sequences_of_changes_up_to_six_end_where_the_machine_says(outcome):
    walked = 0
    for length in range(7):
        for changes in itertools.product(OF_PEOPLE, repeat=length):
            if any(one in changes[:n] for n, one in enumerate(changes)):
                continue  # a repeat alters nothing, as the property below says
            status, allowed, resolution = AS_DECIDED[outcome], True, decided(outcome)
            for change in changes:
                if change not in MOVES[status]:
                    with pytest.raises(ResolvedError) as refused:
                        resolution.after(change, SOON, SOON)
                    assert refused.value.now["state"].status == status
                    allowed = False
                    break
                resolution, status = resolution.after(change, SOON, SOON), MOVES[status][change]
                assert resolution.status is status
            walked += allowed
    assert walked == {"approve": 5, "challenge": 15, "review": 15, "decline": 5}[outcome]


@given(
    outcome=st.sampled_from(Outcome),
    review_expires=st.sampled_from([Outcome.APPROVE, Outcome.DECLINE]),
    asked=st.lists(
        st.tuples(st.sampled_from(OF_PEOPLE), st.integers(-400, 3 * 86_400), st.integers(0, 2 * 86_400)), max_size=8
    ),
)
def test_whatever_is_asked_nothing_accepted_is_lost_and_no_due_decision_is_answered(outcome, review_expires, asked):
    now, resolution = NOON, decided(outcome, review_expires)
    for change, at, passes in asked:
        now += timedelta(seconds=passes)
        before = resolution
        try:
            resolution = resolution.after(change, NOON + timedelta(seconds=at), now)
        except InvalidRequestError:
            assert at < -300
            continue
        except ResolvedError:
            assert change not in MOVES[before.at(now).status]
            continue
        assert resolution.changes[: len(before.changes)] == before.changes
        assert resolution.after(change, now, now) is resolution  # the same again, whenever
        assert resolution.at(now) == resolution
        assert Changes.validate_json(Changes.dump_json(resolution.changes)) == resolution.changes
        if resolution is not before:
            late = before.deadline is not None and before.pending and now >= before.deadline.due
            assert [one.change in EXPIRIES for one in resolution.changes[len(before.changes) :]] == [True] * late + [
                False
            ]
    assert len({one.change for one in resolution.changes}) == len(resolution.changes)
    assert resolution.outcome_now not in PENDING or resolution.pending


@pytest.mark.parametrize(
    ("outcome", "expires", "wait", "change"),
    [
        (Outcome.CHALLENGE, Outcome.APPROVE, timedelta(minutes=10), "expired_declined"),
        (Outcome.REVIEW, Outcome.APPROVE, timedelta(hours=24), "expired_approved"),
        (Outcome.REVIEW, Outcome.DECLINE, timedelta(hours=24), "expired_declined"),
    ],
)
def test_a_decision_expires_at_its_due_time_and_not_before(outcome, expires, wait, change):
    waiting = decided(outcome, expires)
    assert waiting.at(NOON + wait - timedelta(microseconds=1)).pending
    ended = waiting.at(NOON + wait)
    assert [(one.change, one.at, one.by) for one in ended.changes] == [(change, utc(NOON + wait), "expiry")]
    assert ended.at(NOON + 2 * wait) is ended


@pytest.mark.parametrize("outcome", [Outcome.APPROVE, Outcome.DECLINE])
def test_a_final_decision_is_never_due(outcome):
    assert decided(outcome).deadline is None
    assert decided(outcome).at(NOON + timedelta(days=900)).changes == ()


def test_a_challenge_that_is_passed_too_late_is_refused_with_the_state():
    with pytest.raises(ResolvedError) as refused:
        decided(Outcome.CHALLENGE).after("challenge_passed", SOON, NOON + timedelta(minutes=10))
    assert refused.value.now["state"].model_dump() == {"status": "declined", "outcome_now": "decline", "by": "expiry"}


def test_a_result_of_an_expired_review_keeps_the_expiry():
    released = decided(Outcome.REVIEW, Outcome.APPROVE).after("settled", SOON, NOON + timedelta(days=2))
    assert [one.change for one in released.changes] == ["expired_approved", "settled"]


@pytest.mark.parametrize("outcome", Outcome)
@pytest.mark.parametrize("result", RESULTS)
def test_a_result_is_accepted_whatever_was_decided(outcome, result):
    """The app timed out, and has decided by itself: the result tells what has happened."""
    known = decided(outcome).after(result, SOON, SOON)
    assert (known.status, known.pending, known.at(NOON + timedelta(days=2))) == (result, False, known)
    assert known.outcome_now is (Outcome.APPROVE if outcome is Outcome.APPROVE else Outcome.DECLINE)
    shown = json.loads(view(b"{}", known, SOON))
    assert (shown["status"], shown["result"], shown["outcome_now"]) == ("final", result, known.outcome_now)
    assert [one["change"] for one in shown["history"]] == ["decided", result]


@pytest.mark.parametrize("outcome", [Outcome.CHALLENGE, Outcome.REVIEW])
def test_a_settled_payment_is_neither_challenged_nor_reviewed_any_more(outcome):
    settled = decided(outcome).after("settled", SOON, SOON)
    for change in set(MOVES[AS_DECIDED[outcome]]) - set(RESULTS):
        with pytest.raises(ResolvedError) as refused:
            settled.after(change, SOON, SOON)
        assert refused.value.now["state"].model_dump() == {
            "status": "settled",
            "outcome_now": "decline",
            "by": "payment",
        }


def test_a_payment_that_fails_while_it_waits_may_not_be_carried_out():
    over = decided(Outcome.REVIEW).after("failed", SOON, SOON)
    assert (over.outcome_now, over.pending) == (Outcome.DECLINE, False)
    assert decided(Outcome.APPROVE).after("failed", SOON, SOON).outcome_now is Outcome.APPROVE


@pytest.mark.parametrize("outcome", Outcome)
def test_a_view_holds_the_stored_bytes_unchanged_and_the_state_at_that_time(outcome):
    answer = json.dumps({"transaction_id": "t-1", "outcome": outcome, "decided_at": utc(NOON)}, indent=3).encode()
    seen = view(answer, decided(outcome), SOON)
    assert answer in seen
    shown = json.loads(seen)
    pending = outcome in PENDING
    due = {Outcome.CHALLENGE: utc(NOON + WAITS.challenge), Outcome.REVIEW: utc(NOON + WAITS.review)}.get(outcome)
    first = {"at": utc(NOON), "change": "decided", "outcome": outcome, "by": "decision", "method": None}
    assert shown == {
        "decision": json.loads(answer),
        "status": "pending" if pending else "final",
        "outcome_now": outcome,
        "due": due,
        "result": None,
        "history": [first],
    }
    assert shown.keys() == DecisionView.model_fields.keys()


def test_a_view_after_a_settled_challenge_shows_all_of_it():
    passed = decided(Outcome.CHALLENGE).after("challenge_passed", SOON, SOON, "passkey")
    shown = json.loads(view(b"{}", passed.after("settled", SOON, SOON), SOON))
    assert (shown["status"], shown["outcome_now"], shown["due"], shown["result"]) == (
        "final",
        "approve",
        None,
        "settled",
    )
    assert [(one["change"], one["by"], one["method"]) for one in shown["history"]] == [
        ("decided", "decision", None),
        ("challenge_passed", "challenge", "passkey"),
        ("settled", "payment", None),
    ]


@pytest.mark.parametrize(
    ("model", "body", "faults"),
    [
        (ChallengeAnswer, {}, {"passed: missing", "method: missing", "at: missing"}),
        (ChallengeAnswer, {"passed": "yes", "method": "sms", "at": utc(NOON)}, {"passed: wrong_type"}),
        (ChallengeAnswer, {"passed": True, "method": "Her phone", "at": utc(NOON)}, {"method: form"}),
        (ChallengeAnswer, {"passed": True, "method": "sms", "at": "noon"}, {"at: rfc3339"}),
        (ChallengeAnswer, {"passed": True, "method": "sms", "at": utc(NOON), "by": "me"}, {"by: unknown_field"}),
        (ResultReport, {"status": "paid", "at": utc(NOON)}, {"status: unknown_value"}),
        (ResultReport, {"status": "settled", "at": utc(NOON + timedelta(minutes=5, seconds=1))}, {"at: at_ahead"}),
    ],
)
def test_a_body_with_faults_is_refused_with_all_of_them(model, body, faults):
    with pytest.raises(InvalidRequestError) as refused:
        model.parse(json.dumps(body), NOON)
    assert set(str(refused.value).split(", ")) == faults


def test_a_change_that_lies_before_the_decision_is_refused_unless_clocks_explain_it():
    waiting = decided(Outcome.CHALLENGE)
    assert waiting.after("challenge_passed", NOON - timedelta(minutes=5), SOON).changes
    with pytest.raises(InvalidRequestError, match="at: before_decision"):
        waiting.after("challenge_passed", NOON - timedelta(minutes=5, seconds=1), SOON)
