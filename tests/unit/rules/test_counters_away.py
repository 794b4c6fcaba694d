"""Counters away: judging without the counters of some kinds. Closed items: protected limits that still hold."""

import math
from collections.abc import Collection, Mapping
from typing import Any

import pytest

from fraud.counters.layout import ENTITIES, KINDS, State
from fraud.counters.windows import ABSENT, NAMES, kind_of
from fraud.errors import UndecidableError
from fraud.outcome import Outcome, worst
from fraud.packaged import policy
from fraud.rules.policy import AWAY, FLOODED
from fraud.rules.rule_book import PolicyResult, RuleBook, inputs
from fraud.rules.standing import silenceable
from fraud.scoring import features
from tests.support.fakes import rule, rule_book
from tests.support.payments import SIDES_OF_TYPE, payment

BOOK = RuleBook.load(policy("JPY").read_bytes())


def judge_without(
    book: RuleBook, away: Collection[str], counters: Mapping[str, float] = {}, **fields: Any
) -> PolicyResult | None:
    transaction = payment(**fields)
    values = ABSENT | {"pair_count_30d": 3} | counters
    vector = features.vector(transaction, features.without(values, away))
    there = {name: value for name, value in values.items() if kind_of(name) not in away}
    return book.judge_without(inputs(transaction, there, vector, State({}, {})), away, away)


def sources(policy_result: PolicyResult | None) -> list[str]:
    assert policy_result is not None
    assert policy_result.failed == ()
    return [hit.reasons[0].source for hit in policy_result.hits]


def outage(**without: Any) -> dict[str, Any]:
    return {"standard": {"policy": "decline", "without": without}}


def step(amount: int, outcome: str) -> dict[str, Any]:
    return {"amount": amount, "outcome": outcome}


ALL = dict.fromkeys(KINDS.keys() - {"payer"}, ())


# --- kinds of counters ------------------------------------------------------------------------------------------------


def test_every_counter_has_the_kind_by_which_features_leave_it_out():
    assert kind_of("device_new") == "payer"
    assert kind_of("payer_frauds_2d") is kind_of("payee_frauds_30d") is None
    for name in NAMES:
        left_out = {kind for kind in KINDS if math.isnan(features.without({name: 0}, [kind])[name])}
        assert left_out == {kind_of(name)} - {None}
    assert {kind_of(name) for name in NAMES} == {*KINDS, None}


# --- judging ----------------------------------------------------------------------------------------------------------

RULES = {
    "payer": rule("counters.payer_count_1m >= 0 && counters.device_new == 0", id="payer"),
    "device": rule("counters.device_count_1m >= 0", id="device"),
    "payee": rule("counters.payee_count_1m >= 0", id="payee"),
    "pair": rule("counters.pair_count_30d >= 0", id="pair"),
    "merchant": rule("counters.merchant_count_1m >= 0", id="merchant"),
    "instrument": rule("counters.instrument_count_1m >= 0", id="instrument"),
    "both": rule("counters.payer_count_1m >= 0 || counters.payee_count_1m >= 0", id="both"),
    "frauds": rule("counters.payee_frauds_30d >= 0 && counters.payer_frauds_30d >= 0", id="frauds"),
    "payment": rule("transaction.amount > 0 && 'counters.payee_count_1m' != ''", id="payment"),
    "standing": rule("standing.payer_status == 'active'", id="standing"),
    "feature": rule("has(features.amount_log)", id="feature"),
}


@pytest.mark.parametrize(
    ("away", "skipped"),
    [
        (["device"], {"device"}),
        (["payee"], {"payee", "both"}),
        (["pair", "merchant"], {"pair", "merchant"}),
        (list(ALL), {"device", "payee", "both", "pair", "merchant", "instrument"}),
    ],
)
def test_only_rules_that_read_no_counter_of_an_away_kind_are_judged(away, skipped):
    book = rule_book(*RULES.values(), outage=outage(**ALL))
    seen = sources(judge_without(book, away))
    assert seen == [*(f"{name}@3" for name in RULES if name not in skipped), "outage:without"]


def test_a_feature_that_reads_an_away_kind_is_missing():
    book = rule_book(rule("has(features.pair_count_30d)"), outage=outage(**ALL))
    assert sources(judge_without(book, ["pair"])) == ["outage:without"]
    assert sources(judge_without(book, ["payee"])) == ["tested@3", "outage:without"]


def test_the_segment_is_the_first_that_can_be_judged():
    segments = [
        {"id": "by_device", "expression": "counters.device_count_1m >= 0", "model": False},
        {"id": "by_payer", "expression": "counters.payer_count_1m >= 0", "model": True},
    ]
    policies = {name: {"policy": "open", "without": ALL} for name in ("standard", "by_device", "by_payer")}
    book = rule_book(segments=segments, outage=policies)
    for away, found in ((["device"], "by_payer"), (["pair"], "by_device")):
        policy_result = judge_without(book, away)
        assert policy_result is not None
        assert policy_result.segment.id == found


def test_a_segment_that_may_not_do_without_one_of_the_kinds_is_passed_over():
    segments = [{"id": "large", "expression": "transaction.amount >= 5000", "model": True}]
    policies = {
        "standard": outage(pair=[], device=[])["standard"],
        "large": {"policy": "open", "without": {"pair": []}},
    }
    book = rule_book(segments=segments, outage=policies)
    assert judge_without(book, ["pair", "device"]) is not None
    assert judge_without(book, ["pair", "payee"]) is None
    assert judge_without(book, ["payer"]) is None
    for away, segment in ((["device"], "standard"), (["pair"], "large")):
        policy_result = judge_without(book, away, amount=5000)
        assert policy_result is not None
        assert policy_result.segment.id == segment
    assert judge_without(rule_book(), ["pair"]) is None


def test_a_rule_that_fails_is_named_and_decides_nothing():
    policy_result = judge_without(rule_book(rule("transaction.ip.startsWith('10.')"), outage=outage(pair=[])), ["pair"])
    assert policy_result is not None
    assert (policy_result.failed, [hit.source for hit in policy_result.hits]) == (("tested",), ["outage"])


@pytest.mark.parametrize(
    ("amount", "away", "outcome"),
    [
        (9, ["pair"], "approve"),
        (10, ["pair"], "decline"),
        (99, ["pair"], "decline"),
        (100, ["pair"], "review"),  # a larger amount may have the milder outcome
        (10**11, ["device"], "approve"),
        (9, ["device", "payee"], "challenge"),
        (10, ["payee", "device", "pair"], "decline"),
        (100, ["pair", "payee"], "review"),
    ],
)
def test_the_least_outcome_is_the_most_severe_of_the_last_steps_that_the_amount_reaches(amount, away, outcome):
    without = outage(pair=[step(10, "decline"), step(100, "review")], device=[], payee=[step(0, "challenge")])
    policy_result = judge_without(rule_book(outage=without), away, amount=amount)
    assert policy_result is not None
    (hit,) = policy_result.hits
    assert (hit.outcome, hit.source, hit.retryable, hit.protected) == (outcome, "outage", True, True)
    (reason,) = hit.reasons
    assert (reason.code, reason.source) == (AWAY, "outage:without")
    assert reason.text == BOOK.policy.reasons[AWAY]


@pytest.mark.parametrize(
    ("without", "why"),
    [
        ({"payer": []}, "no decision may do without the payer's counters"),
        ({"account": [], "payees": []}, "without kinds that are not counted: account, payees"),
        ({"pair": [step(10, "review"), step(9, "review")]}, "steps must rise in amount"),
        ({"pair": [step(10, "review"), step(10, "review")]}, "steps must rise in amount"),
        ({"pair": [step(-1, "review")]}, "outage.standard.without.pair.0.amount: "),
        ({"pair": [step(1, "ask")]}, "outage.standard.without.pair.0.outcome: "),
        ({"pair": [step(n, "review") for n in range(21)]}, "outage.standard.without.pair: "),
        (["pair"], "outage.standard.without: "),
    ],
)
def test_a_wrong_list_of_kinds_is_refused(without, why):
    with pytest.raises(UndecidableError, match=r"^policy: outage\.standard") as refused:
        rule_book(outage={"standard": {"policy": "open", "without": without}})
    assert why in str(refused.value)


def test_the_words_for_a_counter_away_are_required_and_no_allow_entry_may_name_them():
    with pytest.raises(UndecidableError, match=f"codes without words: {AWAY}"):
        rule_book(reasons={code: words for code, words in BOOK.policy.reasons.items() if code != AWAY})
    assert AWAY not in silenceable([each.model_dump() for each in BOOK.policy.rules])


# --- flooded keys -----------------------------------------------------------------------------------------------------


def of_flood(policy_result: PolicyResult | None) -> list[tuple[str, str]]:
    assert policy_result is not None
    return [(hit.outcome, hit.reasons[0].code) for hit in policy_result.hits if hit.reasons[0].code != AWAY]


@pytest.mark.parametrize(
    ("flooded", "outcomes"),
    [
        (["device"], ["review"]),
        (["payee"], ["decline"]),
        (["pair"], []),
        (["pair", "device"], ["review"]),
        (["device", "payee"], ["decline"]),
        ([], []),
    ],
)
def test_a_flooded_key_costs_the_worst_outcome_of_the_rules_that_read_its_counters(flooded, outcomes):
    rules = [
        rule("counters.device_count_1m > 8", id="first", outcome="challenge"),
        rule("counters.device_count_1h > 8 && counters.payer_count_1m > 99", id="second", outcome="review"),
        rule("has(features.counterparty_age_log) && features.counterparty_age_log < 0.0", id="third"),
        rule("transaction.amount < 0 || counters.payee_frauds_30d > 3", id="fourth", outcome="decline"),
    ]
    rules[2]["outcome"] = "decline"
    book = rule_book(*rules, outage=outage(**ALL))
    transaction, none = payment(), State({}, {})
    given = inputs(transaction, ABSENT, features.vector(transaction, ABSENT), none)
    seen = [(outcome, FLOODED) for outcome in outcomes]
    assert of_flood(book.judge_without(given, flooded or ["pair"], (), flooded)) == seen
    assert of_flood(book.judge_blind(transaction, none, flooded))[1:] == seen
    assert of_flood(book.judge_blind(transaction, None, flooded))[1:] == seen


@pytest.mark.parametrize(
    ("kind", "outcomes"),
    [
        ("payer", ["decline"]),
        ("device", ["decline"]),
        ("instrument", ["decline"]),
        ("payee", ["review"]),
        ("pair", ["challenge"]),
        ("merchant", []),
    ],
)
def test_what_a_flooded_key_costs_by_the_packaged_policy(kind, outcomes):
    hits = [hit for hit in BOOK.judge_blind(payment(amount=1), None, [kind]).hits if hit.outcome != "approve"]
    assert [hit.outcome for hit in hits] == outcomes
    assert all(hit.protected and hit.retryable and hit.source == "outage" for hit in hits)


def test_the_kinds_behind_each_feature_are_those_without_which_it_is_missing():
    assert {name for name in features.NAMES if features.kinds_of(name) == {"payer"}} == {
        *(name for name in features.NAMES if name.startswith("payer_") and not {"frauds", "mark"} & {*name.split("_")}),
        "amount_to_payer_normal_30d",
        "amount_deviation_of_payer_30d",
        "amount_to_payer_largest_30d",
        "amount_share_of_payer_24h",
        "device_new",
    }
    assert features.kinds_of("amount_to_counterparty_normal_30d") == {"payee", "merchant", "instrument"}
    assert features.kinds_of("payee_frauds_2d") == features.kinds_of("payee_fraud_share_7d") == frozenset()


# --- the packaged policy ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("away", "kind", "amount", "outcome"),
    [
        (["merchant"], "merchant", 900_000, "approve"),
        (["pair"], "p2p", 400_000, "approve"),
        (["device"], "p2p", 29_999, "approve"),
        (["device"], "merchant", 30_000, "challenge"),
        (["payee"], "p2p", 29_999, "approve"),
        (["payee"], "p2p", 30_000, "challenge"),
        (["instrument"], "cash_out", 1, "challenge"),
        (["instrument"], "top_up", 1, "challenge"),
        (["pair", "merchant"], "merchant", 900_000, "approve"),
        (["pair", "payee", "device"], "p2p", 30_000, "challenge"),
        (["payer"], "p2p", 1, None),
        (["payer", "pair"], "p2p", 1, None),
    ],
)
def test_the_packaged_policy_does_without_any_kind_but_the_payers(away, kind, amount, outcome):
    policy_result = judge_without(BOOK, away, amount=amount, **SIDES_OF_TYPE[kind])
    found = policy_result and worst([hit.outcome for hit in policy_result.hits])
    assert found == outcome
    assert policy_result is None or (policy_result.segment.id, policy_result.failed) == ("standard", ())


def test_a_small_repeated_payment_stays_in_its_segment_without_its_receiver():
    known = {"pair_count_30d": 3, "pair_age_days": 2, "payer_count_1h": 3, "device_count_1h": 3}
    for away, kind in (("payee", "p2p"), ("merchant", "merchant")):
        policy_result = judge_without(BOOK, [away], known, amount=3000, **SIDES_OF_TYPE[kind])
        assert policy_result is not None
        assert (policy_result.segment.id, [hit.outcome for hit in policy_result.hits]) == ("small_repeat", ["approve"])


def test_the_packaged_limits_hold_while_other_kinds_are_away():
    for counters, code in (({"payer_sum_24h": 2_000_001}, "LIMIT_PAYER_DAY"), ({"payer_count_1m": 7}, "VELOCITY")):
        policy_result = judge_without(BOOK, ["pair", "device", "payee"], counters)
        assert policy_result is not None
        assert code in {reason.code for hit in policy_result.hits for reason in hit.reasons}


def test_a_kind_is_dispensable_if_it_is_not_exact_and_the_standard_segment_may_do_without_it():
    assert BOOK.dispensable == {"merchant", "payee", "device"}
    assert rule_book().dispensable == frozenset()
    policies = {"standard": outage(payee=[], device=[], pair=[])["standard"]}
    assert rule_book(outage=policies).dispensable == {"payee", "device"}
    limit = protected("counters.payee_count_1m > 9 || counters.payee_closed == 1")
    assert rule_book(limit, outage=policies).dispensable == {"device"}


def test_a_small_repeated_payment_keeps_its_limits_whatever_single_counter_does_not_have_it():
    known = {"pair_count_30d": 3, "pair_age_days": 2, "payer_count_1h": 3, "device_count_1h": 3}
    transaction = payment(amount=3000)
    values = ABSENT | known | {"payer_sum_24h": 2_000_001}
    given = inputs(transaction, values, features.vector(transaction, values), State({}, {}))
    for away in ("device", "pair", "payee"):  # not acknowledged, but read
        policy_result = BOOK.judge_without(given, [away], ())
        assert policy_result is not None
        assert Outcome.DECLINE in [hit.outcome for hit in policy_result.hits]
        assert policy_result.segment.id == ("small_repeat" if away == "payee" else "standard")


# --- closed items -----------------------------------------------------------------------------------------------------


def protected(expression: str, **fields: Any) -> dict[str, Any]:
    return rule(expression, protected=True, **fields)


def test_kinds_whose_counters_a_protected_rule_reads_are_exact():
    always = {"payer", "pair", "instrument"}
    assert BOOK.exact == rule_book().exact == always
    assert rule_book(rule("counters.device_count_1m > 9")).exact == always
    assert rule_book(protected("counters.payee_frauds_30d > 9")).exact == always
    limit = protected("counters.device_count_1m > 9 || counters.device_closed == 1")
    assert rule_book(limit).exact == always | {"device"}
    assert rule_book(limit, protected("counters.merchant_closed == 1", id="shop")).exact == {
        *always,
        "device",
        "merchant",
    }


@pytest.mark.parametrize("kind", [kind.name for kind in ENTITIES])
def test_a_protected_limit_on_a_kind_needs_a_protected_rule_on_its_closed_items(kind):
    limit = protected(f"counters.{kind}_sum_24h > 9 && counters.{kind}_age > 9")
    closed = f"counters.{kind}_closed == 1"
    why = f"limits counters that stand still once the {kind}'s item is closed"
    for rules in (
        [limit],
        [limit, rule(closed, id="closed")],
        [limit, protected(f"'{closed}' == ''", id="closed")],
        [limit, protected(f"counters.{kind}_closed == 7", id="closed")],
        [limit | {"outcome": "decline"}, protected(closed, id="closed", outcome="challenge")],
        [protected(f"counters.{kind}_sum_24h > 9 && {closed}")],
    ):
        with pytest.raises(UndecidableError, match=why):
            rule_book(*rules)
    assert rule_book(limit, protected(closed, id="closed"))
    assert rule_book(protected(f"counters.{kind}_sum_24h > 9 || {closed}"))
    assert rule_book(protected(closed))
    with pytest.raises(UndecidableError, match="no rule can tell that a pair is closed"):
        rule_book(protected(f"counters.pair_sum_30d > 9 || {closed}"))
    assert rule_book(rule(f"counters.{kind}_sum_24h > 9"))


def test_a_new_device_is_counted_by_the_payers_item():
    with pytest.raises(UndecidableError, match="limits counters that stand still once the payer's item is closed"):
        rule_book(protected("counters.device_new == 1"), protected("counters.device_closed == 1", id="closed"))
    assert rule_book(protected("counters.device_new == 1 || counters.payer_closed == 1"))


def test_a_protected_rule_must_not_read_features():
    with pytest.raises(UndecidableError, match=r"must not read features, .*: features\.amount_log$"):
        rule_book(protected("features.amount_log > 1.0"))


def test_a_closed_payer_or_instrument_is_declined_until_the_day_ends():
    for counters, fields in (({"payer_closed": 1}, {}), ({"instrument_closed": 1}, SIDES_OF_TYPE["top_up"])):
        transaction = payment(**fields)
        vector = features.vector(transaction, ABSENT)
        hits = BOOK.judge(inputs(transaction, ABSENT | counters, vector, State({}, {}))).hits
        (hit,) = [each for each in hits if each.reasons[0].code == "LIMIT_ATTEMPTS"]
        assert (hit.outcome, hit.retryable, hit.protected) == (Outcome.DECLINE, True, True)
