"""The story of one payment, told with fakes: what is decided, what is repeated, what is refused."""

import json
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from fraud import features
from fraud.counters import Item, updates
from fraud.decision import Outcome, Record, Stored
from fraud.errors import ConflictingBodyError, InvalidRequestError, ServiceError
from fraud.evaluation import REASONS_OF_THE_MODEL, Evaluation, Evaluator, Scoring
from fraud.features import Vector
from fraud.transaction import MAX_AGE, Transaction
from tests.fakes import FixedScorer, InMemoryStore, rule, rule_book
from tests.payments import NOON, payment

QUIET = FixedScorer(0.1)


def evaluator(
    *rules: dict[str, Any], scorer: FixedScorer = QUIET, store: InMemoryStore | None = None, **policy: Any
) -> Evaluator:
    return Evaluator(store or InMemoryStore(), scorer, rule_book(*rules, **policy), lambda: NOON, 10)


def answered(evaluation: Evaluation) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(evaluation.answer)
    return answer


def decide(*rules: dict[str, Any], scorer: FixedScorer = QUIET, **policy: Any) -> dict[str, Any]:
    """The answer to one payment under these rules."""
    return answered(evaluator(*rules, scorer=scorer, **policy).evaluate(payment()))


def test_an_answer_has_every_field_of_the_interface():
    answer = decide()
    steps = answer.pop("steps_ms")
    assert set(steps) == {"state", "model", "rules"}
    assert all(milliseconds >= 0 for milliseconds in steps.values())
    assert answer.pop("policy_version").startswith("packaged-1-")
    assert answer == {
        "transaction_id": "t-1",
        "outcome": "approve",
        "score": 0.1,
        "reasons": [],
        "suppressed": [],
        "advice": "none",
        "segment": "standard",
        "model": {"version": "fixed"},
        "degraded": [],
        "recounted": False,
        "retryable": False,
        "decided_at": "2026-03-04T12:00:00Z",
    }


def test_the_record_holds_what_a_replay_needs():
    store = InMemoryStore()
    evaluation = evaluator(store=store).evaluate(payment())
    record = store.decisions["t-1"]
    assert (record.transaction, record.answer, record.outcome) == (payment(), evaluation.answer, Outcome.APPROVE)
    assert (record.decided_at, record.fingerprint) == (NOON, features.fingerprint())
    assert features.pack(features.vector(record.transaction, record.counters)) == record.features


# --- repeats, conflicts and races -------------------------------------------------------------------------------------


def test_a_repeat_gets_the_same_bytes_and_is_decided_and_counted_once():
    store, scorer = InMemoryStore(), FixedScorer(0.6)
    asked = evaluator(store=store, scorer=scorer)
    first = asked.evaluate(payment())
    items = {key: item.buckets for key, item in store.counters.items.items()}
    repeats = [asked.evaluate(payment(occurred_at="2026-03-04T21:00:00+09:00")) for _ in range(3)]
    assert {repeat.answer for repeat in repeats} == {first.answer}
    assert first.decision is not None
    assert [repeat.decision for repeat in repeats] == [None] * 3
    assert scorer.asked == 1
    assert {key: item.buckets for key, item in store.counters.items.items()} == items


def test_another_body_under_a_decided_id_conflicts_and_counts_as_an_attempt():
    store = InMemoryStore()
    asked = evaluator(store=store)
    first = asked.evaluate(payment())
    with pytest.raises(ConflictingBodyError):
        asked.evaluate(payment(amount=1201))
    assert asked.evaluate(payment()).answer == first.answer
    counted = asked.evaluate(payment(transaction_id="t-2")).answer
    assert store.decisions["t-2"].counters["payer_count_1m"] == 3
    assert counted != first.answer


class Rendezvous(FixedScorer):
    """A model that answers when all of a race are waiting for it: then all have counted and none has committed."""

    def __init__(self, racers: int) -> None:
        super().__init__(0.6)
        self._barrier = threading.Barrier(racers, timeout=30)

    def score(self, vectors: Sequence[Vector], until: float | None = None) -> Scoring:
        self._barrier.wait()
        return super().score(vectors, until)


def test_a_race_of_equal_requests_has_one_decision_and_one_answer():
    store = InMemoryStore()
    asked = evaluator(store=store, scorer=Rendezvous(8))
    with ThreadPoolExecutor(8) as racers:
        evaluations = list(racers.map(asked.evaluate, [payment()] * 8))
    assert len({evaluation.answer for evaluation in evaluations}) == 1
    assert sum(evaluation.decision is not None for evaluation in evaluations) == 1
    assert store.decisions["t-1"].answer == evaluations[0].answer
    follower = asked_after(store)
    assert follower["payer_count_1m"] == 2  # eight requests, one attempt


def asked_after(store: InMemoryStore) -> Any:
    """The counters that the next payment of the same payer sees."""
    evaluator(store=store).evaluate(payment(transaction_id="next"))
    return store.decisions["next"].counters


def test_a_race_of_different_bodies_has_one_winner_and_conflicts():
    store = InMemoryStore()
    asked = evaluator(store=store, scorer=Rendezvous(4))

    def outcome(transaction: Transaction) -> str:
        try:
            return "decided" if asked.evaluate(transaction).decision else "repeated"
        except ConflictingBodyError:
            return "conflict"

    with ThreadPoolExecutor(4) as racers:
        outcomes = list(racers.map(outcome, [payment(amount=amount) for amount in (1, 2, 3, 4)]))
    assert sorted(outcomes) == ["conflict"] * 3 + ["decided"]
    assert asked_after(store)["payer_count_1m"] == 5


class Overtaken(InMemoryStore):
    """Somebody else commits between our state step and our commit."""

    def __init__(self, winner: Transaction, answer: bytes) -> None:
        super().__init__()
        self.winner = Stored(winner.identity, answer)

    def commit(self, records: Sequence[Record], until: float | None = None) -> list[Stored | ServiceError | None]:
        del until
        return [self.winner] * len(records)


def test_the_loser_of_a_race_answers_with_the_winners_bytes():
    assert evaluator(store=Overtaken(payment(), b"theirs")).evaluate(payment()) == (b"theirs", None)
    with pytest.raises(ConflictingBodyError):
        evaluator(store=Overtaken(payment(amount=7), b"theirs")).evaluate(payment())


def test_an_attempt_counted_by_a_try_that_died_is_decided_and_says_so():
    store = InMemoryStore()
    store.counters.count(payment())
    evaluation = evaluator(store=store).evaluate(payment())
    assert evaluation.decision is not None
    assert answered(evaluation)["recounted"] is True
    assert store.decisions["t-1"].counters["payer_count_1m"] == 1


def test_an_attempt_counted_in_part_is_completed_and_says_so():
    store = InMemoryStore()
    half = updates(payment())[0]
    store.counters.items.setdefault(half.key, Item()).apply(half)
    assert answered(evaluator(store=store).evaluate(payment()))["recounted"] is True
    assert {store.decisions["t-1"].counters[f"{kind}_count_1m"] for kind in ("payer", "payee", "device")} == {1}


# --- too old ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("late", [MAX_AGE, MAX_AGE - timedelta(microseconds=1), timedelta(), timedelta(minutes=-5)])
def test_a_payment_within_twelve_hours_is_decided(late):
    assert evaluator().evaluate(payment(occurred_at=NOON - late)).decision is not None


def test_an_older_payment_is_refused_and_not_counted():
    store = InMemoryStore()
    with pytest.raises(InvalidRequestError) as refused:
        evaluator(store=store).evaluate(payment(occurred_at=NOON - MAX_AGE - timedelta(microseconds=1)))
    assert [(fault.field, fault.rule) for fault in refused.value.faults] == [("occurred_at", "occurred_at_too_old")]
    assert (store.counters.items, store.decisions) == ({}, {})


def test_an_older_payment_gets_its_stored_decision_and_another_body_conflicts():
    store = InMemoryStore()
    first = evaluator(store=store).evaluate(payment())
    items = dict(store.counters.items)
    later = Evaluator(store, QUIET, rule_book(), lambda: NOON + timedelta(days=300), 10)
    assert later.evaluate(payment()) == (first.answer, None)
    with pytest.raises(ConflictingBodyError):
        later.evaluate(payment(amount=7))
    assert store.counters.items == items


# --- what decides -----------------------------------------------------------------------------------------------------


def test_a_segment_may_spare_its_payments_the_model():
    scorer = FixedScorer(0.99)
    segments = [{"id": "trusted", "expression": "transaction.amount < 2000", "model": False}]
    answer = decide(scorer=scorer, segments=segments)
    assert (answer["segment"], answer["score"], answer["outcome"], scorer.asked) == ("trusted", None, "approve", 0)
    assert answer["model"] == {"version": None}


def test_rules_decide_also_where_the_model_is_skipped():
    segments = [{"id": "trusted", "expression": "true", "model": False}]
    answer = decide(rule("true", outcome="decline"), segments=segments)
    assert (answer["outcome"], answer["score"]) == ("decline", None)


@pytest.mark.parametrize(
    ("score", "outcome", "advice"),
    [
        (0.19, "approve", "none"),
        (0.2, "challenge", "verify_identity"),
        (0.5, "review", "none"),
        (0.9, "decline", "contact_support"),
    ],
)
def test_the_score_decides_by_the_models_own_thresholds(score, outcome, advice):
    answer = decide(scorer=FixedScorer(score))
    assert (answer["score"], answer["outcome"], answer["advice"]) == (score, outcome, advice)
    assert len(answer["reasons"]) == (0 if outcome == "approve" else 1)
    assert answer["retryable"] is False


@pytest.mark.parametrize(
    ("by_rule", "score", "outcome"),
    [
        ("challenge", 0.6, "review"),
        ("decline", 0.6, "decline"),
        ("review", 0.95, "decline"),
        ("challenge", 0.0, "challenge"),
        ("approve", 0.3, "challenge"),
    ],
)
def test_the_most_severe_opinion_wins(by_rule, score, outcome):
    assert decide(rule("true", outcome=by_rule), scorer=FixedScorer(score))["outcome"] == outcome


def test_reasons_stand_in_order_of_severity_and_the_model_gives_its_strongest_four():
    contributions = [(name, 1.0 - n / 100) for n, name in enumerate(features.NAMES)]
    answer = decide(
        rule("true", id="mild", outcome="challenge"),
        rule("true", id="severe", outcome="decline", code="DENY_LIST"),
        rule("true", id="second", outcome="decline", code="LIMIT_AMOUNT"),
        rule("false", id="silent", outcome="decline"),
        scorer=FixedScorer(0.6, contributions),
    )
    sources = [reason["source"] for reason in answer["reasons"]]
    assert sources == ["severe@3", "second@3", *["model"] * REASONS_OF_THE_MODEL, "mild@3"]
    codes = [reason["code"] for reason in answer["reasons"] if reason["source"] == "model"]
    assert len(set(codes)) == REASONS_OF_THE_MODEL
    assert codes[0] == "AMOUNT_UNUSUAL"
    assert all(reason["text"] for reason in answer["reasons"])


@pytest.mark.parametrize(
    ("opinions", "retryable"),
    [
        ([("challenge", True)], True),
        ([("challenge", False)], False),
        ([("decline", True), ("decline", False)], False),
        ([("decline", True), ("review", False)], True),
    ],
)
def test_a_new_id_helps_if_every_severest_rule_says_so(opinions, retryable):
    rules = [rule("true", id=f"r{n}", outcome=outcome, retryable=again) for n, (outcome, again) in enumerate(opinions)]
    assert decide(*rules)["retryable"] is retryable


def test_a_model_as_severe_as_a_passing_limit_makes_it_final():
    limit = rule("true", outcome="decline", retryable=True)
    assert decide(limit, scorer=FixedScorer(0.6))["retryable"] is True
    assert decide(limit, scorer=FixedScorer(0.95))["retryable"] is False


def test_a_failing_rule_is_recorded_and_decides_nothing():
    broken = rule("transaction.ip.startsWith('10.')", id="broken", outcome="decline")
    segments = [{"id": "unclear", "expression": "transaction.country.size() == 2", "model": False}]
    answer = decide(broken, rule("true", outcome="challenge"), segments=segments)
    assert answer["degraded"] == ["rule:unclear", "rule:broken"]
    assert (answer["outcome"], answer["segment"], answer["score"]) == ("challenge", "standard", 0.1)
    assert [reason["source"] for reason in answer["reasons"]] == ["tested@3"]


def test_counters_from_profiles_that_are_behind_are_recorded_before_what_failed():
    store = InMemoryStore()
    store.stale = True
    asked = evaluator(rule("transaction.ip.startsWith('10.')", id="broken"), store=store)
    assert answered(asked.evaluate(payment()))["degraded"] == ["profile", "rule:broken"]


def test_an_opinion_of_the_model_that_stood_in_is_recorded_as_such():
    store, broken = InMemoryStore(), rule("transaction.ip.startsWith('10.')", id="broken")
    store.stale = True
    answer = answered(evaluator(broken, store=store, scorer=FixedScorer(0.6, degraded=True)).evaluate(payment()))
    assert answer["degraded"] == ["profile", "model", "rule:broken"]
    assert (answer["outcome"], answer["model"]) == ("review", {"version": "fixed"})


def test_rules_see_the_state_that_was_counted():
    store = InMemoryStore()
    store.counters.profiles["account#payee-1"] = {"deny": {"reason": "mule", "expires_at": "2026-03-04T12:00:01Z"}}
    rules = (
        rule("standing.payee_denied", id="denied", outcome="decline"),
        rule("counters.payer_count_1m > 1", id="second", outcome="challenge"),
    )
    asked = evaluator(*rules, store=store)
    first = answered(asked.evaluate(payment()))
    second = answered(asked.evaluate(payment(transaction_id="t-2", occurred_at=NOON + timedelta(seconds=1))))
    assert (first["outcome"], second["outcome"]) == ("decline", "challenge")


# --- what is silenced -------------------------------------------------------------------------------------------------


def allowed(*codes: str, **entry: Any) -> dict[str, Any]:
    """A profile that allows."""
    return {"allow": {"reason": "known", "silences": list(codes), "expires_at": None} | entry}


def decide_allowed(
    profiles: dict[str, Any], *rules: dict[str, Any], score: float = 0.1, **fields: Any
) -> tuple[dict[str, Any], InMemoryStore]:
    """The answer to one payment under these rules, of whose parties some are allowed; and the store."""
    store = InMemoryStore()
    store.counters.profiles.update(profiles)
    scorer = FixedScorer(score, [(name, 1.0 - n / 100) for n, name in enumerate(features.NAMES)])
    return answered(evaluator(*rules, scorer=scorer, store=store).evaluate(payment(**fields))), store


def sources(reasons: list[dict[str, Any]]) -> list[str]:
    return [reason["source"] for reason in reasons]


def test_what_an_allow_entry_silences_is_recorded_and_decides_nothing():
    fast = rule("true", id="fast", outcome="decline", retryable=False)
    shared = rule("true", id="shared", outcome="challenge", code="NEW_DEVICE", retryable=True)
    heard, _ = decide_allowed({}, fast, shared)
    assert (heard["outcome"], heard["advice"], heard["retryable"]) == ("decline", "contact_support", False)
    answer, store = decide_allowed({"account#payer-1": allowed("VELOCITY")}, fast, shared)
    assert (answer["outcome"], answer["advice"], answer["retryable"]) == ("challenge", "verify_identity", True)
    assert sources(answer["reasons"]) == ["shared@3"]
    assert answer["suppressed"] == [reason for reason in heard["reasons"] if reason["source"] == "fast@3"]
    assert store.decisions["t-1"].outcome == "challenge"


def test_silenced_by_every_opinion_a_payment_is_approved():
    answer, _ = decide_allowed({"account#payee-1": allowed("VELOCITY")}, rule("true", outcome="decline"))
    assert (answer["outcome"], answer["advice"], answer["reasons"]) == ("approve", "none", [])
    assert sources(answer["suppressed"]) == ["tested@3"]


def test_the_model_is_silenced_as_a_whole_and_by_its_own_name_only():
    answer, _ = decide_allowed({"account#payer-1": allowed("model")}, score=0.95)
    assert (answer["outcome"], answer["score"], answer["reasons"]) == ("approve", 0.95, [])
    assert sources(answer["suppressed"]) == ["model"] * REASONS_OF_THE_MODEL
    answer, _ = decide_allowed({"account#payer-1": allowed("AMOUNT_UNUSUAL")}, score=0.95)
    assert (answer["outcome"], answer["suppressed"]) == ("decline", [])


def test_an_entry_never_silences_what_is_protected_even_by_name():
    rules = [
        rule("true", id="denied", outcome="decline", code="DENY_LIST", protected=True),
        rule("true", id="limit", outcome="decline", code="LIMIT_AMOUNT", protected=True),
        rule("true", id="inactive", outcome="decline", code="ACCOUNT_NOT_ACTIVE", protected=True),
        rule("true", id="fast", outcome="decline"),
    ]
    everything = allowed("DENY_LIST", "LIMIT_AMOUNT", "ACCOUNT_NOT_ACTIVE", "VELOCITY", "model")
    answer, _ = decide_allowed({"account#payer-1": everything}, *rules, score=0.95)
    assert answer["outcome"] == "decline"
    assert sources(answer["reasons"]) == ["denied@3", "limit@3", "inactive@3"]
    assert {*sources(answer["suppressed"])} == {"fast@3", "model"}


def test_entries_of_everyone_involved_silence_together():
    rules = [rule("true", id="fast"), rule("true", id="new", code="NEW_DEVICE"), rule("true", id="in", code="RETRIES")]
    profiles = {"device#device-1": allowed("VELOCITY"), "ip#192.0.2.1": allowed("NEW_DEVICE")}
    profiles |= {"account#somebody": allowed("RETRIES")}
    answer, _ = decide_allowed(profiles, *rules, ip="192.0.2.1")
    assert (sources(answer["reasons"]), sources(answer["suppressed"])) == (["in@3"], ["fast@3", "new@3"])


@pytest.mark.parametrize(("hours", "silenced"), [(-1, True), (0, False)])
def test_an_entry_ends_by_the_payments_own_time(hours, silenced):
    profiles = {"account#payer-1": allowed("VELOCITY", expires_at="2026-03-04T11:00:00Z")}
    at = NOON + timedelta(hours=hours) - timedelta(microseconds=1)  # decided at noon in either case
    answer, _ = decide_allowed(profiles, rule("true", outcome="review"), occurred_at=at)
    assert (answer["outcome"] == "approve") is bool(answer["suppressed"]) is silenced
