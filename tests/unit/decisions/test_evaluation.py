"""Payments and batches are evaluated with fakes: decided, repeated, refused, and carried through failing services."""

import itertools
import json
import math
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud import assembly
from fraud.aws.http_api import problem
from fraud.aws.transport import Request, Result
from fraud.counters import layout, windows
from fraud.counters.layout import CLOSED, Item, Key
from fraud.decisions.evaluation import MODEL_SHARE, STATE_SHARE, Evaluation, Evaluator
from fraud.decisions.record import DecisionRecord, StateRead, StoredDecision
from fraud.decisions.store import contents_of
from fraud.decisions.waves import Batch
from fraud.errors import (
    ConflictingBodyError,
    FraudError,
    HotKeyError,
    InvalidRequestError,
    ServiceError,
    UnavailableError,
    UndecidedError,
)
from fraud.outcome import Outcome
from fraud.rules.policy import kind_of
from fraud.rules.rule_book import REASONS_OF_THE_MODEL
from fraud.scoring import features
from fraud.scoring.features import Vector
from fraud.scoring.score import Scoring
from fraud.transaction import MAX_AGE, Transaction, utc
from tests.support.deployment import TABLES, Deployment, declared_store
from tests.support.fakes import FixedScorer, InMemoryStore, Trouble, rule, rule_book
from tests.support.payments import NOON, SIDES_OF_TYPE, payment, updates

QUIET = FixedScorer(0.1)


def evaluator(
    *rules: dict[str, Any], scorer: FixedScorer = QUIET, store: InMemoryStore | None = None, **policy: Any
) -> Evaluator:
    return Evaluator(store or InMemoryStore(), scorer, rule_book(*rules, **policy), lambda: NOON, 10)


def answer_of(evaluation: Evaluation) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(evaluation.answer)
    return answer


def decide(*rules: dict[str, Any], scorer: FixedScorer = QUIET, **policy: Any) -> dict[str, Any]:
    """Return the answer to one payment under these rules."""
    return answer_of(evaluator(*rules, scorer=scorer, **policy).evaluate(payment()))


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
        "estimated": [],
        "recounted": False,
        "retryable": False,
        "decided_at": "2026-03-04T12:00:00Z",
    }


def test_the_record_holds_all_that_a_replay_needs():
    store = InMemoryStore()
    evaluation = evaluator(store=store).evaluate(payment())
    record = store.decisions["t-1"]
    assert (record.transaction, record.answer, record.outcome) == (payment(), evaluation.answer, Outcome.APPROVE)
    assert (record.decided_at, record.fingerprint) == (NOON, features.fingerprint())
    assert features.pack(features.vector(record.transaction, record.counters)) == record.features


@pytest.mark.parametrize(
    ("kind", "side", "level", "fields"),
    [("merchant", 1, 3, SIDES_OF_TYPE["merchant"]), ("payee", 1, 1, {}), ("payer", 0, CLOSED, {})],
)
def test_kinds_whose_items_count_a_sample_or_no_more_are_named_as_estimated(kind, side, level, fields):
    store = InMemoryStore()
    key = updates(payment(**fields))[side].key
    store.counters.items[key] = Item(level=level)
    evaluation = evaluator(store=store).evaluate(payment(**fields))
    answer = answer_of(evaluation)
    assert (answer["estimated"], answer["degraded"]) == ([kind], [])
    assert store.decisions["t-1"].counters[f"{kind}_closed"] == (level == CLOSED)
    store.trouble["t-2"] = Trouble({"pair"})
    blind = answer_of(evaluator(store=store).evaluate(payment(**fields | {"transaction_id": "t-2"})))
    assert (blind["estimated"], blind["degraded"]) == ([], ["state"])


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


def test_another_body_under_a_decided_id_conflicts_and_is_taken_back():
    store = InMemoryStore()
    asked = evaluator(store=store)
    first = asked.evaluate(payment())
    with pytest.raises(ConflictingBodyError):
        asked.evaluate(payment(amount=1201))
    assert asked.evaluate(payment()).answer == first.answer
    counted = asked.evaluate(payment(transaction_id="t-2")).answer
    assert store.decisions["t-2"].counters["payer_count_1m"] == 2
    assert counted != first.answer


class Rendezvous(FixedScorer):
    """A model that answers when all racers wait for it: then all have counted and none has committed."""

    def __init__(self, racers: int) -> None:
        super().__init__(0.6)
        self._barrier = threading.Barrier(racers, timeout=30)

    def score(self, vectors: Sequence[Vector], until: float | None = None, payers: Sequence[str] = ()) -> Scoring:
        self._barrier.wait()
        return super().score(vectors, until, payers)


def test_a_race_of_equal_requests_has_one_decision_and_one_answer():
    store = InMemoryStore()
    asked = evaluator(store=store, scorer=Rendezvous(8))
    with ThreadPoolExecutor(8) as racers:
        evaluations = list(racers.map(asked.evaluate, [payment()] * 8))
    assert len({evaluation.answer for evaluation in evaluations}) == 1
    assert sum(evaluation.decision is not None for evaluation in evaluations) == 1
    assert store.decisions["t-1"].answer == evaluations[0].answer
    follower = counters_of_next(store)
    assert follower["payer_count_1m"] == 2  # eight requests, one attempt


def counters_of_next(store: InMemoryStore) -> Any:
    """Return the counters of the payer's next payment."""
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
    assert counters_of_next(store)["payer_count_1m"] == 2


class Overtaken(InMemoryStore):
    """A store in which another process commits between our state step and our commit."""

    def __init__(self, winner: Transaction, answer: bytes) -> None:
        super().__init__()
        self.winner = StoredDecision(winner.identity, answer, winner.canonical)

    def commit(
        self, records: Sequence[DecisionRecord], until: float | None = None
    ) -> list[StoredDecision | ServiceError | None]:
        del until
        return [self.winner] * len(records)


def test_another_body_that_may_have_been_counted_stays_undecided_until_it_is_known_to_be_taken_back():
    store = InMemoryStore()
    asked = evaluator(store=store)
    asked.evaluate(payment())
    store.trouble["t-1"] = Trouble(lost={"payee"})
    with pytest.raises(UndecidedError):
        asked.evaluate(payment(amount=1201))
    assert asked.evaluate(payment()).decision is None
    store.trouble["t-1"] = Trouble(lost={"payee"}, unread=True)
    with pytest.raises(UndecidedError):
        asked.evaluate(payment(amount=1202))
    store.trouble.clear()
    for amount in (1201, 1202):
        with pytest.raises(ConflictingBodyError):
            asked.evaluate(payment(amount=amount))
    asked.evaluate(payment(transaction_id="t-2"))
    assert store.decisions["t-2"].counters["payee_count_1m"] == 2


class Deaf(InMemoryStore):
    """A store that loses the response to a first commit, so that the second commit meets its own row."""

    def commit(
        self, records: Sequence[DecisionRecord], until: float | None = None
    ) -> list[StoredDecision | ServiceError | None]:
        super().commit(records, until)
        return super().commit(records, until)


def test_a_commit_that_meets_its_own_row_is_a_decision_and_not_a_repeat():
    store = Deaf()
    store.trouble["t-1"] = Trouble(lost={"payee"})
    evaluation = evaluator(store=store).evaluate(payment())
    assert evaluation.decision is not None
    assert evaluation.decision.degraded == ["state"]
    assert evaluation.cause is not None
    (again,) = evaluator(store=store).evaluate_all([payment()])
    assert isinstance(again, Evaluation)
    assert again.decision is None


def test_the_loser_of_a_race_answers_with_the_winners_bytes():
    assert evaluator(store=Overtaken(payment(), b"theirs")).evaluate(payment()) == Evaluation(b"theirs", None)
    with pytest.raises(ConflictingBodyError):
        evaluator(store=Overtaken(payment(amount=7), b"theirs")).evaluate(payment())


def test_an_attempt_counted_by_a_try_that_died_is_decided_and_says_so():
    store = InMemoryStore()
    store.counters.count(payment())
    evaluation = evaluator(store=store).evaluate(payment())
    assert evaluation.decision is not None
    assert answer_of(evaluation)["recounted"] is True
    assert store.decisions["t-1"].counters["payer_count_1m"] == 1


def test_an_attempt_counted_in_part_is_completed_and_says_so():
    store = InMemoryStore()
    half = updates(payment())[0]
    store.counters.items.setdefault(half.key, Item()).apply(half)
    assert answer_of(evaluator(store=store).evaluate(payment()))["recounted"] is True
    assert {store.decisions["t-1"].counters[f"{kind}_count_1m"] for kind in ("payer", "payee", "device")} == {1}


# --- too old ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("late", [MAX_AGE, MAX_AGE - timedelta(microseconds=1), timedelta(), timedelta(minutes=-5)])
def test_a_payment_within_twelve_hours_is_decided(late):
    assert evaluator().evaluate(payment(occurred_at=NOON - late)).decision is not None


def test_an_older_payment_is_refused_and_not_counted():
    store = InMemoryStore()
    with pytest.raises(InvalidRequestError) as refused:
        evaluator(store=store).evaluate(payment(occurred_at=NOON - MAX_AGE - timedelta(microseconds=1)))
    (fault,) = refused.value.faults
    assert (fault.field, fault.rule) == ("occurred_at", "occurred_at_too_old")
    assert utc(NOON) in fault.message
    assert (store.counters.items, store.decisions) == ({}, {})


def test_an_older_payment_gets_its_stored_decision_and_another_body_conflicts():
    store = InMemoryStore()
    first = evaluator(store=store).evaluate(payment())
    items = dict(store.counters.items)
    later = Evaluator(store, QUIET, rule_book(), lambda: NOON + timedelta(days=300), 10)
    assert later.evaluate(payment()) == Evaluation(first.answer, None)
    with pytest.raises(ConflictingBodyError):
        later.evaluate(payment(amount=7))
    assert store.counters.items == items


# --- segments, rules and model
# -----------------------------------------------------------------------------------------


def test_a_segment_may_skip_the_model_for_its_payments():
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


class HalfBlind(FixedScorer):
    """A model that cannot score the first of several vectors: another one scores that with its own thresholds."""

    def score(self, vectors: Sequence[Vector], until: float | None = None, payers: Sequence[str] = ()) -> Scoring:
        other = Scoring("other", {"challenge": 0.5, "review": 0.8, "decline": 0.9}, [0.6], [[]], degraded=True)
        return super().score(vectors, until, payers)._replace(apart={0: other})


def test_a_payment_that_another_model_scored_is_decided_by_that_models_thresholds_and_alone_is_degraded():
    results = evaluator(scorer=HalfBlind(0.6)).evaluate_all([payment(), payment(transaction_id="t-2")])
    answers = [answer_of(result) for result in results if isinstance(result, Evaluation)]
    assert [answer["outcome"] for answer in answers] == ["challenge", "review"]
    assert [answer["model"]["version"] for answer in answers] == ["other", "fixed"]
    assert [answer["degraded"] for answer in answers] == [["model"], []]


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
def test_the_more_severe_outcome_of_rule_and_model_wins(by_rule, score, outcome):
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
    assert codes[0] == "VELOCITY"  # seven features of about 0.85 each
    assert all(reason["text"] and reason["facts"] for reason in answer["reasons"])


@pytest.mark.parametrize(
    ("outcomes", "retryable"),
    [
        ([("challenge", True)], True),
        ([("challenge", False)], False),
        ([("decline", True), ("decline", False)], False),
        ([("decline", True), ("review", False)], True),
    ],
)
def test_a_new_id_helps_if_all_of_the_most_severe_rules_say_so(outcomes, retryable):
    rules = [rule("true", id=f"r{n}", outcome=outcome, retryable=again) for n, (outcome, again) in enumerate(outcomes)]
    assert decide(*rules)["retryable"] is retryable


def test_a_model_hit_as_severe_as_a_retryable_limit_makes_the_decision_final():
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


def test_stale_profiles_are_recorded_as_degraded_before_failed_rules():
    store = InMemoryStore()
    store.stale = True
    asked = evaluator(rule("transaction.ip.startsWith('10.')", id="broken"), store=store)
    assert answer_of(asked.evaluate(payment()))["degraded"] == ["profile", "rule:broken"]


def test_a_score_of_the_model_that_stood_in_is_recorded_as_degraded():
    store, broken = InMemoryStore(), rule("transaction.ip.startsWith('10.')", id="broken")
    store.stale = True
    answer = answer_of(evaluator(broken, store=store, scorer=FixedScorer(0.6, degraded=True)).evaluate(payment()))
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
    first = answer_of(asked.evaluate(payment()))
    second = answer_of(asked.evaluate(payment(transaction_id="t-2", occurred_at=NOON + timedelta(seconds=1))))
    assert (first["outcome"], second["outcome"]) == ("decline", "challenge")


# --- allow entries ----------------------------------------------------------------------------------------------------


def allowed(*codes: str, **entry: Any) -> dict[str, Any]:
    """Return a profile with an allow entry."""
    said = {"reason": "known", "silences": list(codes), "expires_at": utc(NOON + timedelta(days=1))}
    return {"allow": said | {"confirmed_by": "arn:aws:iam::1:user/second"} | entry}


def decide_allowed(
    profiles: dict[str, Any], *rules: dict[str, Any], score: float = 0.1, **fields: Any
) -> tuple[dict[str, Any], InMemoryStore]:
    """Return the answer to one payment whose parties have these profiles, under these rules; and the store."""
    store = InMemoryStore()
    store.counters.profiles.update(profiles)
    scorer = FixedScorer(score, [(name, 1.0 - n / 100) for n, name in enumerate(features.NAMES)])
    return answer_of(evaluator(*rules, scorer=scorer, store=store).evaluate(payment(**fields))), store


def sources(reasons: list[dict[str, Any]]) -> list[str]:
    return [reason["source"] for reason in reasons]


def test_a_rule_that_an_allow_entry_silences_is_recorded_and_decides_nothing():
    fast = rule("true", id="fast", outcome="decline", retryable=False)
    shared = rule("true", id="shared", outcome="challenge", code="NEW_DEVICE", retryable=True)
    heard, _ = decide_allowed({}, fast, shared)
    assert (heard["outcome"], heard["advice"], heard["retryable"]) == ("decline", "contact_support", False)
    answer, store = decide_allowed({"account#payer-1": allowed("VELOCITY")}, fast, shared)
    assert (answer["outcome"], answer["advice"], answer["retryable"]) == ("challenge", "verify_identity", True)
    assert sources(answer["reasons"]) == ["shared@3"]
    assert answer["suppressed"] == [reason for reason in heard["reasons"] if reason["source"] == "fast@3"]
    assert store.decisions["t-1"].outcome == "challenge"


def test_a_payment_whose_every_hit_is_silenced_is_approved():
    answer, _ = decide_allowed({"account#payee-1": allowed("VELOCITY")}, rule("true", outcome="decline"))
    assert (answer["outcome"], answer["advice"], answer["reasons"]) == ("approve", "none", [])
    assert sources(answer["suppressed"]) == ["tested@3"]


def test_the_model_is_silenced_as_a_whole_and_by_its_own_name_only():
    answer, _ = decide_allowed({"account#payer-1": allowed("model")}, score=0.95)
    assert (answer["outcome"], answer["score"], answer["reasons"]) == ("approve", 0.95, [])
    assert sources(answer["suppressed"]) == ["model"] * REASONS_OF_THE_MODEL
    answer, _ = decide_allowed({"account#payer-1": allowed("AMOUNT_UNUSUAL")}, score=0.95)
    assert (answer["outcome"], answer["suppressed"]) == ("decline", [])


def test_an_allow_entry_never_silences_a_protected_rule_even_by_its_code():
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


def test_allow_entries_of_all_parties_silence_together():
    rules = [rule("true", id="fast"), rule("true", id="new", code="NEW_DEVICE"), rule("true", id="in", code="RETRIES")]
    profiles = {"device#device-1": allowed("VELOCITY"), "ip#192.0.2.1": allowed("NEW_DEVICE")}
    profiles |= {"account#stranger": allowed("RETRIES")}
    answer, _ = decide_allowed(profiles, *rules, ip="192.0.2.1")
    assert (sources(answer["reasons"]), sources(answer["suppressed"])) == (["in@3"], ["fast@3", "new@3"])


@pytest.mark.parametrize(("hours", "silenced"), [(-1, True), (0, False)])
def test_an_allow_entry_expires_by_the_payments_own_time(hours, silenced):
    profiles = {"account#payer-1": allowed("VELOCITY", expires_at="2026-03-04T11:00:00Z")}
    at = NOON + timedelta(hours=hours) - timedelta(microseconds=1)  # decided at noon in either case
    answer, _ = decide_allowed(profiles, rule("true", outcome="review"), occurred_at=at)
    assert (answer["outcome"] == "approve") is bool(answer["suppressed"]) is silenced


# --- while services fail ----------------------------------------------------------------------------------------------

EVERYTHING = frozenset(layout.KINDS)
TROUBLES = {
    "one update": (Trouble({"payee"}), {"payee"}),
    "one update, counted nevertheless": (Trouble({"device"}, applied=True), {"device"}),
    "every update": (Trouble(EVERYTHING), {"payer", "payee", "pair", "device"}),
    "the reads": (Trouble(unread=True), set()),
    "everything": (Trouble(EVERYTHING, unread=True), {"payer", "payee", "pair", "device"}),
    "an error that no retry mends": (Trouble({"pair"}, error=ServiceError("AccessDeniedException")), {"pair"}),
}
STEPS = [{"amount": 1000, "outcome": "challenge"}, {"amount": 2000, "outcome": "decline"}]
OUTAGES: dict[str, tuple[dict[str, Any], str]] = {
    "open": ({"policy": "open"}, "approve"),
    "rules_only": ({"policy": "rules_only"}, "review"),
    "challenge": ({"policy": "challenge"}, "review"),
    "decline": ({"policy": "decline"}, "decline"),
    "by_amount": ({"policy": "by_amount", "steps": STEPS}, "review"),
}
SEEN = rule("transaction.amount > 0", outcome="review")
UNSEEN = (
    rule("counters.payer_count_1m >= 0", id="counting", outcome="decline"),
    rule("features.amount_log > 0.0", id="measuring", outcome="decline"),
)
"""Rules that need the state, and would decline. SEEN needs no state, and asks for a review."""


def troubled(trouble: Trouble, *rules: dict[str, Any], **policy: Any) -> tuple[Evaluator, InMemoryStore, FixedScorer]:
    store, scorer = InMemoryStore(), FixedScorer(0.99)
    store.trouble["t-1"] = trouble
    return evaluator(*rules, scorer=scorer, store=store, **policy), store, scorer


@pytest.mark.parametrize("outage", OUTAGES)
@pytest.mark.parametrize("fault", TROUBLES)
def test_an_incomplete_state_is_decided_by_the_outage_policy_and_recorded_as_degraded(fault, outage):
    (trouble, lost), (policy, outcome) = TROUBLES[fault], OUTAGES[outage]
    asked, store, scorer = troubled(trouble, SEEN, *UNSEEN, outage={"standard": policy})
    evaluation = asked.evaluate(payment())
    answer = answer_of(evaluation)
    assert (answer["outcome"], answer["degraded"], answer["segment"]) == (outcome, ["state"], "standard")
    assert (scorer.asked, answer["score"], answer["model"]) == (0, None, {"version": None})
    assert set(sources(answer["reasons"])) == {f"outage:{outage}", "tested@3"} - (
        {"tested@3"} if outage == "open" else set()
    )
    assert {reason["code"] for reason in answer["reasons"]} - {"VELOCITY"} == {"COUNTERS_UNAVAILABLE"}
    assert evaluation.cause == trouble.error.code
    record = store.decisions["t-1"]
    assert (set(record.uncounted), len(record.uncounted)) == (lost, len(lost))
    assert record.counters == windows.ABSENT
    assert features.pack(features.vector(record.transaction, record.counters)) == record.features


def test_a_segments_own_outage_policy_applies_if_its_expression_needs_no_counters():
    segments = [
        {"id": "counted", "expression": "counters.payer_count_1m >= 0", "model": True},
        {"id": "shops", "expression": "transaction.type == 'merchant'", "model": False},
    ]
    outage = {"standard": {"policy": "challenge"}, "counted": {"policy": "open"}, "shops": {"policy": "decline"}}
    asked, _, _ = troubled(Trouble({"payer"}), segments=segments, outage=outage)
    answer = answer_of(asked.evaluate(payment()))
    assert (answer["segment"], answer["outcome"]) == ("standard", "challenge")
    asked, _, _ = troubled(Trouble({"payer"}), segments=segments, outage=outage)
    answer = answer_of(asked.evaluate(payment(type="merchant")))
    assert (answer["segment"], answer["outcome"]) == ("shops", "decline")


@pytest.mark.parametrize("outage", OUTAGES)
def test_a_limit_and_a_deny_entry_that_was_read_decline_under_every_policy(outage):
    rules = (
        rule("transaction.amount >= 1200", id="limit", outcome="decline", code="LIMIT_AMOUNT", protected=True),
        rule("standing.payee_denied", id="denied", outcome="decline", code="DENY_LIST", protected=True),
    )
    for fields, trouble, codes in (
        ({"amount": 1200}, Trouble(unread=True), {"LIMIT_AMOUNT"}),
        ({"amount": 1199}, Trouble(EVERYTHING), {"DENY_LIST"}),
        ({"amount": 1200}, Trouble({"payer"}), {"LIMIT_AMOUNT", "DENY_LIST"}),
    ):
        asked, store, _ = troubled(trouble, *rules, outage={"standard": OUTAGES[outage][0]})
        store.counters.profiles["account#payee-1"] = {"deny": {"reason": "mule", "expires_at": None}}
        answer = answer_of(asked.evaluate(payment(**fields)))
        assert answer["outcome"] == "decline"
        assert {reason["code"] for reason in answer["reasons"]} == codes | {"COUNTERS_UNAVAILABLE"}


def test_profiles_that_were_not_read_neither_deny_nor_allow():
    denied = rule("standing.payee_denied", outcome="decline", code="DENY_LIST", protected=True)
    active = rule("standing.payee_status == 'active'", id="active", outcome="decline")
    asked, store, _ = troubled(Trouble(unread=True), denied, active, SEEN | {"id": "seen"})
    store.counters.profiles["account#payee-1"] = {"deny": {"reason": "mule", "expires_at": None}}
    store.counters.profiles["account#payer-1"] = allowed("VELOCITY")
    answer = answer_of(asked.evaluate(payment()))
    assert (answer["outcome"], answer["suppressed"]) == ("review", [])


def test_an_allow_entry_that_was_read_silences_rules_but_never_the_outage_policy():
    outage = {"standard": {"policy": "challenge"}}
    asked, store, _ = troubled(Trouble({"payer"}), SEEN, outage=outage)
    store.counters.profiles["account#payer-1"] = allowed("VELOCITY", "COUNTERS_UNAVAILABLE", "model")
    answer = answer_of(asked.evaluate(payment()))
    assert (answer["outcome"], sources(answer["suppressed"])) == ("challenge", ["tested@3"])


@pytest.mark.parametrize(("outage", "retryable"), [("open", False), ("challenge", True), ("decline", True)])
def test_an_outage_policy_that_does_not_approve_leaves_the_payment_retryable(outage, retryable):
    asked, _, _ = troubled(Trouble({"payer"}), outage={"standard": {"policy": outage}})
    assert answer_of(asked.evaluate(payment()))["retryable"] is retryable


def test_a_stored_decision_is_repeated_even_if_the_updates_fail():
    store = InMemoryStore()
    asked = evaluator(store=store)
    first = asked.evaluate(payment())
    store.trouble["t-1"] = Trouble(EVERYTHING)
    assert asked.evaluate(payment()) == Evaluation(first.answer, None)


def test_a_stored_decision_that_could_not_be_read_is_found_by_the_commit():
    store = InMemoryStore()
    asked = evaluator(store=store)
    first = asked.evaluate(payment())
    store.trouble["t-1"] = Trouble(unread=True)
    evaluation = asked.evaluate(payment())
    assert (evaluation.answer, evaluation.decision) == (first.answer, None)
    with pytest.raises(ConflictingBodyError):
        asked.evaluate(payment(amount=7))


@pytest.mark.parametrize("error", [UnavailableError("ThrottlingException"), ServiceError("AccessDeniedException")])
@pytest.mark.parametrize("lost", [(), {"payer"}, EVERYTHING])
def test_without_a_commit_the_caller_gets_a_fallback_and_the_next_try_decides(error, lost):
    asked, store, _ = troubled(Trouble(lost, uncommitted=True, error=error), SEEN, *UNSEEN)
    with pytest.raises(UndecidedError) as refused:
        asked.evaluate(payment())
    answer = problem(refused.value)
    assert (answer["statusCode"], answer["headers"]["retry-after"], refused.value.code) == (503, "1", error.code)
    assert json.loads(answer["body"])["fallback"] == {"outcome": "review", "policy_version": asked.rule_book.version}
    assert store.decisions == {}
    del store.trouble["t-1"]
    decision = asked.evaluate(payment()).decision
    assert decision is not None
    assert (decision.outcome, decision.degraded, decision.recounted) == ("decline", [], lost != EVERYTHING)
    assert store.decisions["t-1"].counters["payer_count_1m"] == 1


def test_a_commit_that_happened_although_it_failed_is_found_by_the_next_try():
    asked, store, _ = troubled(Trouble(uncommitted=True, applied=True))
    with pytest.raises(UndecidedError):
        asked.evaluate(payment())
    del store.trouble["t-1"]
    assert asked.evaluate(payment()) == Evaluation(store.decisions["t-1"].answer, None)


# --- while single counters are away -----------------------------------------------------------------------------------

WITHOUT = {"payee": [], "pair": [], "device": [{"amount": 1000, "outcome": "review"}]}
"""Kinds that a decision may do without: a device's counters only with a review from 1,000 on."""


def without(lost: Collection[str], *rules: dict[str, Any], score: float = 0.1) -> tuple[Evaluator, InMemoryStore]:
    """Return an evaluator and its store, which loses these counters of payment t-1."""
    store = InMemoryStore()
    store.trouble["t-1"] = Trouble(lost)
    outage = {"standard": {"policy": "decline", "without": WITHOUT}}
    return evaluator(*rules, store=store, scorer=FixedScorer(score), outage=outage), store


@pytest.mark.parametrize(
    ("lost", "outcome"),
    [({"payee"}, "approve"), ({"pair", "payee"}, "approve"), ({"device"}, "review"), ({"payee", "device"}, "review")],
)
def test_a_payment_is_decided_without_single_counters_by_model_and_rules(lost, outcome):
    asked, store = without(lost)
    evaluation = asked.evaluate(payment())
    answer, record = answer_of(evaluation), store.decisions["t-1"]
    assert (answer["outcome"], answer["score"]) == (outcome, 0.1)
    assert sorted(answer["degraded"]) == sorted(f"counter:{kind}" for kind in lost)
    assert [reason["code"] for reason in answer["reasons"]] == ["COUNTER_AWAY"]
    assert evaluation.cause == "ThrottlingException"
    assert set(record.uncounted) == lost
    missing = {name for name, value in record.counters.items() if math.isnan(value)}
    assert missing == {name for name in windows.NAMES if kind_of(name) in lost}
    assert record.counters["payer_count_1m"] == 1
    assert features.pack(features.vector(record.transaction, record.counters)) == record.features


@pytest.mark.parametrize("lost", [{"payer"}, {"payer", "payee"}])
def test_without_a_counter_that_a_decision_needs_the_payment_is_decided_blind(lost):
    asked, store = without(lost)
    answer = answer_of(asked.evaluate(payment()))
    assert (answer["outcome"], answer["degraded"], answer["score"]) == ("decline", ["state"], None)
    assert store.decisions["t-1"].counters == windows.ABSENT


FLOOD = HotKeyError("ThrottlingException")
MISSING = {
    "away": (
        Trouble({"payee", "pair"}),
        {"COUNTER_AWAY": ["payee could not be written or read", "pair could not be written or read"]},
    ),
    "too much is away": (
        Trouble({"payer", "pair"}),
        {"COUNTERS_UNAVAILABLE": ["payer could not be written or read", "pair could not be written or read"]},
    ),
    "nothing was read": (Trouble(unread=True), {"COUNTERS_UNAVAILABLE": ["no counters could be read"]}),
    "a flood": (
        Trouble({"payee"}, error=FLOOD),
        {"COUNTER_AWAY": ["payee could not be written or read"], "KEY_FLOODED": ["more attempts name this payee"]},
    ),
}


@pytest.mark.parametrize("case", MISSING)
def test_a_reason_of_an_outage_says_which_counters_are_missing_and_the_amount(case):
    trouble, expected = MISSING[case]
    reading = rule("counters.payee_count_1m > 8", outcome="challenge")
    asked, _, _ = troubled(trouble, reading, outage={"standard": {"policy": "decline", "without": WITHOUT}})
    reasons = answer_of(asked.evaluate(payment()))["reasons"]
    told = {
        reason["code"]: [fact["text"] for fact in reason["facts"]] for reason in reasons if reason["source"] != "model"
    }
    assert told.keys() == expected.keys()
    for code, parts in expected.items():
        assert [part in text for part, text in zip([*parts, "amount 1,200 JPY"], told[code], strict=True)] == [True] * (
            len(parts) + 1
        )


def test_rules_that_read_no_missing_counter_and_the_model_still_decide():
    known = rule("counters.payer_count_1m == 1", id="known", outcome="challenge")
    unknown = rule("counters.payee_count_1m >= 0", id="unknown", outcome="decline")
    asked, _ = without({"payee"}, known, unknown)
    assert answer_of(asked.evaluate(payment()))["outcome"] == "challenge"
    asked, _ = without({"payee"}, known, score=0.95)
    answer = answer_of(asked.evaluate(payment()))
    assert (answer["outcome"], answer["degraded"]) == ("decline", ["counter:payee"])


def test_an_allow_entry_does_not_silence_the_least_outcome_while_a_counter_is_away():
    asked, store = without({"device"}, rule("true", outcome="challenge"))
    store.counters.profiles["account#payer-1"] = allowed("VELOCITY", "COUNTER_AWAY", "model")
    answer = answer_of(asked.evaluate(payment()))
    assert (answer["outcome"], sources(answer["suppressed"])) == ("review", ["tested@3"])


def test_an_item_that_could_be_read_although_it_could_not_be_updated_is_no_missing_value():
    deployed = Deployment()
    deployed.folding.tick()
    deployed.pay(transaction_id="before")

    def throttled(requests: Sequence[Request]) -> list[Result]:
        return [
            UnavailableError("ThrottlingException")
            if request.operation == "update_item" and request.payload["Key"]["pk"]["S"] == "payee#payee-1"
            else deployed.gather([request])[0]
            for request in requests
        ]

    outage = {"standard": {"policy": "decline", "without": WITHOUT}}
    store = declared_store(Sending(throttled), TABLES, 400, deployed.clock)
    second = rule("counters.payee_count_1m == 2", outcome="challenge")
    asked = Evaluator(store, QUIET, rule_book(second, outage=outage), deployed.clock, 10)
    decision = asked.evaluate(payment()).decision
    assert decision is not None
    assert (decision.outcome, decision.degraded) == ("challenge", ["counter:payee"])
    (by_rule,) = (reason for reason in decision.reasons if reason.source == "tested@3")
    assert [fact.name for fact in by_rule.facts] == ["transaction.amount"]  # its counter may lack this payment
    row = deployed.table.tables[TABLES.decisions]["t-1",]
    values = dict(zip(windows.NAMES, json.loads(contents_of(row).counters), strict=True))
    assert (values["payee_count_1m"], values["payer_count_1m"]) == (2, 2)
    assert row["uncounted"] == {"S": "payee"}


def test_a_flooded_key_costs_the_outcome_of_the_rules_that_read_it_also_when_the_decision_is_blind():
    hidden = rule("counters.payee_count_1m > 8", id="hidden", outcome="challenge")
    of_payer = rule("counters.payer_count_1m > 8", id="of_payer", outcome="review")
    for lost, code, outcome in (
        ({"payee"}, HotKeyError, "challenge"),
        ({"payee"}, UnavailableError, "approve"),
        ({"payer"}, HotKeyError, "review"),
        ({"payer"}, UnavailableError, "approve"),
    ):
        store = InMemoryStore()
        store.trouble["t-1"] = Trouble(lost, error=code("ThrottlingException"))
        outages = {"standard": {"policy": "open", "without": {"payee": []}}}
        asked = Evaluator(store, QUIET, rule_book(hidden, of_payer, outage=outages), lambda: NOON, 10)
        assert answer_of(asked.evaluate(payment()))["outcome"] == outcome


@pytest.mark.parametrize(
    ("score", "outcome"), [(0.39, "challenge"), (0.41, "review"), (0.142, "approve"), (0.144, "challenge")]
)
def test_the_models_odds_count_half_as_much_again_while_a_key_is_flooded(score, outcome):
    store = InMemoryStore()
    store.trouble["t-1"] = Trouble({"payee"}, error=HotKeyError("ThrottlingException"))
    outages = {"standard": {"policy": "open", "without": {"payee": []}}}
    answer = answer_of(evaluator(store=store, scorer=FixedScorer(score), outage=outages).evaluate(payment()))
    assert (answer["outcome"], answer["score"]) == (outcome, score)


class Sending:
    """A transport that sends requests by a function."""

    def __init__(self, send: Callable[[Sequence[Request]], list[Result]]) -> None:
        self._send = send

    def gather(self, requests: Sequence[Request], until: float | None = None) -> list[Result]:
        del until
        return self._send(requests)


def test_in_a_batch_a_payment_without_a_dispensable_counter_is_decided_and_holds_up_no_other():
    asked, store = without({"payee"})
    results = asked.evaluate_all([payment(), payment(transaction_id="t-2")])
    assert [answer_of(each)["degraded"] for each in results if isinstance(each, Evaluation)] == [["counter:payee"], []]
    assert store.decisions["t-1"].uncounted == ("payee",)
    asked, store = without({"payer"})
    results = asked.evaluate_all([payment(), payment(transaction_id="t-2")])
    assert [isinstance(each, UnavailableError) for each in results] == [True, True]
    assert store.decisions == {}


# --- fallbacks and deadlines ------------------------------------------------------------------------------------------

FIELDS = st.fixed_dictionaries(
    {
        "type": st.sampled_from(sorted(SIDES_OF_TYPE)),
        "amount": st.integers(1, 10**11) | st.integers(29_998, 30_001) | st.integers(299_998, 300_001),
        "device_id": st.none() | st.just("device-1"),
        "ip": st.none() | st.just("192.0.2.1"),
    }
)


def payment_of(fields: dict[str, Any]) -> Transaction:
    return payment(**SIDES_OF_TYPE[fields["type"]] | fields)


@given(FIELDS, st.booleans())
def test_a_fallback_depends_only_on_the_payment_and_the_policy(fields, counted):
    book = assembly.rule_book("JPY")
    transaction = payment_of(fields)
    banned = {"deny": {"expires_at": None}, "status": {"state": "held"}}
    policy_result = book.judge_blind(transaction, None)
    expected = max((hit.outcome for hit in policy_result.hits), key=Outcome.severity)
    for trouble in (Trouble(EVERYTHING, unread=True, uncommitted=True), Trouble(uncommitted=True)):
        store = InMemoryStore()
        store.trouble["t-1"] = trouble
        store.counters.profiles.update({pk: dict(banned) for pk in layout.profiles(transaction).values()})
        if counted:
            store.counters.count(transaction)
        asked = Evaluator(store, FixedScorer(0.99), book, lambda: NOON, 10)
        with pytest.raises(UndecidedError) as refused:
            asked.evaluate(transaction)
        assert refused.value.fallback == asked.fallback(transaction)
        assert refused.value.fallback.model_dump() == {"outcome": expected, "policy_version": book.version}


def test_every_step_is_given_its_share_of_the_deadline():
    store, scorer = InMemoryStore(), FixedScorer(0.1)
    ticks = itertools.count(1000, 0.01)
    asked = Evaluator(store, scorer, rule_book(), lambda: NOON, 0.4, lambda: next(ticks))
    asked.evaluate(payment())
    assert store.asked == [("count", ["t-1"], 1000 + 0.4 * STATE_SHARE), ("commit", ["t-1"], 1000 + 0.4)]
    assert scorer.until == 1000 + 0.4 * MODEL_SHARE
    assert 0 < STATE_SHARE < MODEL_SHARE < 1


def test_a_payment_too_old_is_looked_up_within_the_deadline_and_is_undecided_when_that_fails():
    store = InMemoryStore()
    old = payment(occurred_at=NOON - timedelta(days=1))
    asked = Evaluator(store, QUIET, rule_book(), lambda: NOON, 0.4, lambda: 1000)
    with pytest.raises(InvalidRequestError):
        asked.evaluate(old)
    assert store.asked == [("find", ["t-1"], 1000.4)]
    store.trouble["t-1"] = Trouble(unread=True)
    with pytest.raises(UndecidedError) as refused:
        asked.evaluate(old)
    assert refused.value.fallback == asked.fallback(old)


def test_a_batch_has_no_deadline():
    store, scorer = InMemoryStore(), FixedScorer(0.1)
    evaluator(store=store, scorer=scorer).evaluate_all([payment()])
    assert [until for _, _, until in store.asked] == [None, None, None]
    assert scorer.until is None


# --- batches ----------------------------------------------------------------------------------------------------------

PAYMENTS = st.fixed_dictionaries(
    {
        "transaction_id": st.integers(0, 12).map("t-{}".format),
        "type": st.sampled_from(sorted(SIDES_OF_TYPE)),
        "payer_id": st.integers(0, 5).map("person-{}".format),
        "amount": st.sampled_from([1, 2, 50_000]),
        "occurred_at": st.sampled_from([0, 1, 90, 4000, 43_200, 86_000]).map(lambda s: NOON - timedelta(seconds=s)),
        "device_id": st.none() | st.integers(0, 5).map("device-{}".format),
    }
)


def sent(fields: dict[str, Any], other: int) -> Transaction:
    if fields["occurred_at"] < NOON - MAX_AGE:  # a batch refuses an old payment before it sees a conflict of ids
        fields = fields | {"transaction_id": f"old-{fields['transaction_id']}"}
    party = {name: f"person-{other + 6}" for name, value in SIDES_OF_TYPE[fields["type"]].items() if value}
    return payment(**{"payee_id": None} | fields | party | {"type": fields["type"]})


BATCHES = st.lists(st.builds(sent, PAYMENTS, st.integers(0, 5)), max_size=14)


def shares(one: Transaction, other: Transaction) -> bool:
    """Tell whether the sequence of two payments matters: they update or read items of one entity, or have one id."""

    def things(transaction: Transaction) -> set[object]:
        return {transaction.transaction_id, *((update.key.kind, update.key.entity) for update in updates(transaction))}

    return not things(one).isdisjoint(things(other))


def waves_of(transactions: Sequence[Transaction]) -> list[list[int]]:
    batch: Batch[Evaluation] = Batch()
    for n, transaction in enumerate(transactions):
        batch.add(n, transaction, is_known=True)
    while batch.waits:
        batch.deal(lambda _: ())
    return batch.waves


@given(BATCHES)
def test_payments_of_a_wave_share_nothing_keep_their_order_and_come_as_early_as_they_can(batch):
    waves = waves_of(batch)
    assert sorted(n for wave in waves for n in wave) == list(range(len(batch)))
    assert all(wave == sorted(wave) for wave in waves)
    for wave in waves:
        assert not any(shares(batch[m], batch[n]) for m, n in itertools.combinations(wave, 2))
    place = {n: number for number, wave in enumerate(waves) for n in wave}
    for n in range(len(batch)):
        ahead = [place[m] for m in range(n) if shares(batch[m], batch[n])]
        assert place[n] == max(ahead, default=-1) + 1


class Weighing(FixedScorer):
    """A model that gives each vector a score of its own."""

    def score(self, vectors: Sequence[Vector], until: float | None = None, payers: Sequence[str] = ()) -> Scoring:
        scoring = super().score(vectors, until, payers)
        return scoring._replace(scores=[math.fsum(x for x in vector if x == x) * 0.37 % 1 for vector in vectors])  # noqa: PLR0124


def comparable(result: Evaluation | FraudError) -> Any:
    """Return the result of a payment without the times of its steps."""
    if isinstance(result, FraudError):
        return type(result), result.faults
    return {**answer_of(result), "steps_ms": None}, result.decision is None


def is_known(transaction: Transaction, known: Mapping[str, StoredDecision]) -> bool:
    """Tell whether this body is decided, and not only another one of its id."""
    stored = known.get(transaction.transaction_id)
    return stored is not None and stored.identity == transaction.identity


def one_by_one(
    asked: Evaluator, batch: Sequence[Transaction], known: Mapping[str, StoredDecision]
) -> list[Evaluation | FraudError]:
    """Return the results of `evaluate` for one payment after another; repeat the decisions in `known`."""
    results: list[Evaluation | FraudError] = []
    for transaction in batch:
        try:
            if is_known(transaction, known):
                results.append(Evaluation.repeated(transaction, known[transaction.transaction_id]))
            else:
                results.append(asked.evaluate(transaction))
        except FraudError as error:
            results.append(error)
    return results


def contents(store: InMemoryStore) -> dict[Key, Any]:
    """Return what was counted, by item. Slots are left out: those of an attempt that was taken back stay."""
    items = {
        key: (item.buckets, item.devices, {name: tokens for name, tokens in item.tokens.items() if tokens})
        for key, item in store.counters.items.items()
    }
    return {key: counted for key, counted in items.items() if counted[0] != Item().buckets}


def one_body_an_id(batch: Sequence[Transaction], known: Mapping[str, StoredDecision]) -> list[Transaction]:
    """Leave out payments whose id has another body earlier in the batch, unless the id is decided already."""
    bodies: dict[str, bytes] = {}
    for each in batch:
        bodies.setdefault(each.transaction_id, each.identity)
    return [each for each in batch if each.transaction_id in known or bodies[each.transaction_id] == each.identity]


@given(BATCHES, st.lists(st.integers(0, 20)))
def test_a_batch_has_the_results_of_its_payments_one_after_another(batch, before):
    together, single = InMemoryStore(), InMemoryStore()
    scorer = Weighing(0)
    policy = {"segments": [{"id": "small", "expression": "transaction.amount == 1", "model": False}]}
    rules = [rule("counters.payer_count_1h > 2", outcome="challenge"), UNSEEN[1] | {"outcome": "approve"}]
    asked = evaluator(*rules, scorer=scorer, store=together, **policy)
    reference = evaluator(*rules, scorer=Weighing(0), store=single, **policy)
    for n in before:  # some are decided already, and must be recognised
        if n < len(batch):
            one_by_one(asked, [batch[n]], {})
            one_by_one(reference, [batch[n]], {})
    known = single.find_all({transaction.transaction_id for transaction in batch})
    batch = one_body_an_id(batch, known)
    scorer.asked, together.asked = 0, []
    results = asked.evaluate_all(batch)
    assert list(map(comparable, results)) == list(map(comparable, one_by_one(reference, batch, known)))
    assert contents(together) == contents(single)
    assert together.decisions.keys() == single.decisions.keys()
    for transaction_id, record in together.decisions.items():
        expected = single.decisions[transaction_id]
        assert record._replace(answer=b"") == expected._replace(answer=b"")
    assert scorer.asked <= 1
    new = [each for each in batch if not is_known(each, known) and each.occurred_at >= NOON - MAX_AGE]
    assert sum(step == "count" for step, _, _ in together.asked) == len(waves_of(new))


def test_a_batch_that_shares_nothing_takes_one_look_up_one_count_one_scoring_and_one_commit():
    store, scorer = InMemoryStore(), FixedScorer(0.1)
    batch = [
        payment(transaction_id=f"t-{n}", payer_id=f"a-{n}", payee_id=f"b-{n}", device_id=f"c-{n}") for n in range(100)
    ]
    results = evaluator(store=store, scorer=scorer).evaluate_all(batch)
    assert [(step, len(ids)) for step, ids, _ in store.asked] == [("find_all", 100), ("count", 100), ("commit", 100)]
    assert scorer.asked == 1
    assert [answer_of(each)["transaction_id"] for each in results if isinstance(each, Evaluation)] == [
        each.transaction_id for each in batch
    ]


def test_an_id_twice_in_a_batch_has_one_decision_and_another_body_conflicts():
    store = InMemoryStore()
    first, again, other = evaluator(store=store).evaluate_all([payment(), payment(), payment(amount=7)])
    assert isinstance(first, Evaluation)
    assert again == Evaluation(first.answer, None)
    assert isinstance(other, ConflictingBodyError)
    assert list(store.decisions) == ["t-1"]
    assert counters_of_next(store)["payer_count_1m"] == 2


class Outrun(InMemoryStore):
    """A store in which another process decides between the look-up and the count."""

    def find_all(self, transaction_ids: Collection[str]) -> dict[str, StoredDecision]:
        super().find_all(transaction_ids)
        return {}


def test_a_payment_decided_while_a_batch_begins_is_repeated_or_conflicts():
    store = Outrun()
    first = evaluator(store=store).evaluate(payment())
    repeat, other = evaluator(store=store).evaluate_all([payment(), payment(amount=1201)])
    assert repeat == Evaluation(first.answer, None)
    assert isinstance(other, ConflictingBodyError)
    assert [ids for step, ids, _ in store.asked if step == "commit"] == [["t-1"]]  # the batch commits none
    assert counters_of_next(store)["payer_count_1m"] == 2


def test_payments_decided_before_are_found_in_one_read_and_neither_counted_nor_waited_for():
    store = InMemoryStore()
    first = evaluator(store=store).evaluate(payment())
    items, later = contents(store), NOON + timedelta(days=1)
    batch = [payment(), payment(amount=7), payment(transaction_id="t-2"), payment()]
    store.asked.clear()
    results = Evaluator(store, QUIET, rule_book(), lambda: later, 10).evaluate_all(batch)
    assert [results[0], results[3]] == [Evaluation(first.answer, None)] * 2
    assert isinstance(results[1], ConflictingBodyError)
    assert isinstance(results[2], InvalidRequestError)
    assert [(fault.field, fault.rule) for fault in results[2].faults] == [("occurred_at", "occurred_at_too_old")]
    assert store.asked == [("find_all", ["t-1", "t-2"], None)]
    assert contents(store) == items
    store.asked.clear()
    evaluator(store=store).evaluate_all([payment(), payment(transaction_id="t-2"), payment()])  # while it is young
    assert [(step, ids) for step, ids, _ in store.asked[1:]] == [("count", ["t-2"]), ("commit", ["t-2"])]


def test_a_record_that_cannot_be_parsed_keeps_its_place_and_holds_up_no_other():
    store, broken = InMemoryStore(), InvalidRequestError(())
    first, second, third = evaluator(store=store).evaluate_all([broken, payment(), broken])
    assert (first, third) == (broken, broken)
    assert isinstance(second, Evaluation)
    assert evaluator(store=store).evaluate_all([broken]) == [broken]
    assert evaluator(store=store).evaluate_all([]) == []


THROTTLED = UnavailableError("ThrottlingException")


class Forgetful(InMemoryStore):
    """A store whose decisions cannot be looked up."""

    def find_all(self, transaction_ids: Collection[str]) -> dict[str, StoredDecision]:
        super().find_all(transaction_ids)
        raise THROTTLED


def test_all_payments_fail_and_none_is_counted_while_stored_decisions_cannot_be_looked_up():
    store = Forgetful()
    old = payment(transaction_id="t-2", occurred_at=NOON - timedelta(days=1))
    assert evaluator(store=store).evaluate_all([InvalidRequestError(()), payment(), old]) == [THROTTLED] * 3
    assert [step for step, _, _ in store.asked] == ["find_all"]
    assert store.counters.items == {}


KINDS_LOST = st.sampled_from(sorted(EVERYTHING)).map(lambda kind: frozenset({kind})) | st.just(EVERYTHING)
HAPPENING = st.builds(
    Trouble,
    lost=st.just(frozenset()) | KINDS_LOST,
    applied=st.booleans(),
    unread=st.booleans(),
    uncommitted=st.booleans(),
    error=st.sampled_from([ServiceError("AccessDeniedException"), ServiceError("ValidationException")]),
)


def fails_with(trouble: Trouble | None, transaction: Transaction) -> bool:
    if trouble is None or transaction.occurred_at < NOON - MAX_AGE:
        return False
    lost = any(update.key.kind.name in trouble.lost for update in updates(transaction))
    return lost or trouble.unread or trouble.uncommitted


def counted_once(store: InMemoryStore) -> None:
    """Assert that the counters hold every decided attempt once, and no other."""
    expected = InMemoryStore()
    for record in store.decisions.values():
        expected.counters.count(record.transaction)
    assert contents(store) == contents(expected)


class Mindful(InMemoryStore):
    """A store that also takes back what an earlier try counted, as the real one does unless the item is sampled."""

    def count(self, transactions: Sequence[Transaction], until: float | None = None) -> list[StateRead]:
        return [
            state_read._replace(
                revocable=tuple((each, 0) for each in updates(transaction) if each.key not in state_read.uncounted)
            )
            for transaction, state_read in zip(transactions, super().count(transactions, until), strict=True)
        ]


@given(BATCHES, st.dictionaries(st.integers(0, 13), HAPPENING, max_size=3))
def test_a_failed_payment_fails_later_ones_that_share_with_it_and_no_others(batch, places):
    batch = one_body_an_id(batch, {})
    store = Mindful()
    troubles = {batch[n].transaction_id: trouble for n, trouble in places.items() if n < len(batch)}
    store.trouble.update(troubles)
    asked = evaluator(store=store, scorer=Weighing(0))
    results = asked.evaluate_all(batch)
    failed: list[int] = []
    for n, transaction in enumerate(batch):
        new = transaction.occurred_at >= NOON - MAX_AGE
        behind = any(shares(batch[m], transaction) for m in failed)
        if fails_with(troubles.get(transaction.transaction_id), transaction) or (behind and new):
            failed.append(n)
    assert [n for n, result in enumerate(results) if isinstance(result, ServiceError)] == failed
    store.trouble.clear()
    rest = batch[failed[0] :] if failed else []
    tokened = {
        update.token
        for transaction in rest
        for update in updates(transaction)
        if update.key in store.counters.items
        and update.token in store.counters.items[update.key].tokens.get(update.tokens, ())
    }
    again = asked.evaluate_all(rest)
    assert not any(isinstance(result, ServiceError) for result in again)
    for transaction, result in zip(rest, again, strict=True):
        if isinstance(result, Evaluation) and result.decision is not None:
            assert result.decision.recounted is (updates(transaction)[0].token in tokened)
            assert result.decision.degraded == []
    counted_once(store)


def test_a_failed_payment_does_not_hold_up_earlier_ones():
    store = InMemoryStore()
    store.trouble["t-2"] = Trouble({"payer"})
    batch = [payment(transaction_id=f"t-{n}") for n in (1, 2, 3)]
    first, *others = evaluator(store=store).evaluate_all(batch)
    assert isinstance(first, Evaluation)
    assert [error.code for error in others if isinstance(error, ServiceError)] == ["ThrottlingException"] * 2
    assert list(store.decisions) == ["t-1"]
    counted = [ids for step, ids, _ in store.asked if step == "count" and ids]
    assert counted == [["t-1"], ["t-2"]]  # the third is not even counted


def test_a_payment_that_fails_behind_another_holds_up_later_ones_too():
    store = InMemoryStore()
    chain = [
        payment(transaction_id="t-0", payer_id="a", payee_id="b", device_id="c"),
        payment(transaction_id="t-1", payer_id="d", payee_id="e", device_id="c"),
        payment(transaction_id="t-2", payer_id="f", payee_id="e", device_id="g"),
    ]
    store.trouble["t-0"] = Trouble({"payer"})
    assert [shares(chain[0], chain[1]), shares(chain[1], chain[2]), shares(chain[0], chain[2])] == [True, True, False]
    results = evaluator(store=store).evaluate_all(chain)
    assert [isinstance(result, ServiceError) for result in results] == [True] * 3
