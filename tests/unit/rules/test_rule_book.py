"""The rule book: policies that are refused, packaged rules on both sides of their limits, expressions that fail."""

import json
import time
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud.counters.layout import State
from fraud.counters.windows import ABSENT
from fraud.errors import UndecidableError
from fraud.outcome import Outcome
from fraud.packaged import policy
from fraud.rules.conclusion import conclude
from fraud.rules.expression import MAX_LENGTH, MAX_NESTING, MEMBERS
from fraud.rules.facts import Subject
from fraud.rules.policy import MAX_WORDS, OUTAGE, Outage
from fraud.rules.rule_book import REASONS_OF_THE_MODEL, PolicyResult, RuleBook, inputs
from fraud.rules.standing import STANDING, silenceable, standing
from fraud.scoring import features
from fraud.scoring.features import vector
from fraud.transaction import Transaction
from tests.support.fakes import rule, rule_book
from tests.support.payments import SIDES_OF_TYPE, payment

TEXT = policy("JPY").read_bytes()
PACKAGED: dict[str, Any] = json.loads(TEXT)
BOOK = RuleBook.load(TEXT)
RULES = {rule["id"]: rule for rule in PACKAGED["rules"]}

FIRST = {
    **{f"{kind}_{name}": 1 for kind in ("payer", "payee", "device", "instrument") for name in ("count_1m", "count_1h")},
    **{f"{kind}_{name}": 1.0 for kind in ("payer", "payee", "device") for name in ("distinct_2h", "distinct_24h")},
    "pair_count_30d": 1,
}
"""Counters of a quiet payment: the first one of all its parties."""


def judge(
    book: RuleBook, transaction: Transaction, counters: Mapping[str, float], profiles: Mapping[str, Any]
) -> PolicyResult:
    values = ABSENT | FIRST | counters
    return book.judge(inputs(transaction, values, vector(transaction, values), State({}, dict(profiles))))


# --- the packaged policy ----------------------------------------------------------------------------------------------


class Example(NamedTuple):
    fires: bool
    fields: Mapping[str, Any]
    counters: Mapping[str, float]
    profiles: Mapping[str, Any]


def yes(counters: Mapping[str, float] = {}, profiles: Mapping[str, Any] = {}, **fields: Any) -> Example:
    return Example(fires=True, fields=fields, counters=counters, profiles=profiles)


def no(counters: Mapping[str, float] = {}, profiles: Mapping[str, Any] = {}, **fields: Any) -> Example:
    return Example(fires=False, fields=fields, counters=counters, profiles=profiles)


def status(account: str, state: str) -> dict[str, Any]:
    return {f"account#{account}": {"status": {"state": state, "version": 4}}}


def denied(pk: str) -> dict[str, Any]:
    return {pk: {"deny": {"reason": "stolen", "expires_at": None}}}


CASH_OUT, TOP_UP, MERCHANT = (SIDES_OF_TYPE[kind] for kind in ("cash_out", "top_up", "merchant"))
NEW_DEVICE = {"device_new": 1, "payer_age": 86_401}

EXAMPLES: dict[str, list[Example]] = {
    "account_not_active": [
        yes(profiles=status("payer-1", "hold")),
        yes(profiles=status("payee-1", "deactivated")),
        no(profiles=status("payer-1", "active") | status("payee-1", "active")),
        no(profiles=status("payer-2", "hold")),
    ],
    "deny_list": [
        yes(profiles=denied("account#payer-1")),
        yes(profiles=denied("account#payee-1")),
        yes(profiles=denied("device#device-1")),
        yes(profiles=denied("instrument#card-1"), instrument_id="card-1"),
        yes(profiles=denied("ip#2001:db8::1"), ip="2001:DB8::1"),
        no(profiles=denied("account#device-1") | denied("device#payer-1") | denied("ip#2001:db8::1")),
    ],
    "limit_p2p": [yes(amount=500_001), no(amount=500_000), no(amount=500_001, **MERCHANT)],
    "limit_merchant": [yes(amount=1_000_001, **MERCHANT), no(amount=1_000_000, **MERCHANT)],
    "limit_cash_out": [yes(amount=500_001, **CASH_OUT), no(amount=500_000, **CASH_OUT)],
    "limit_top_up": [yes(amount=500_001, **TOP_UP), no(amount=500_000, **TOP_UP), no(amount=500_001, **MERCHANT)],
    "limit_payer_day": [
        yes({"payer_sum_24h": 2_000_001}),
        no({"payer_sum_24h": 2_000_000}),
        yes({"payer_sum_24h": 2_900_001, "payer_void_24h": 900_000}),
        no({"payer_sum_24h": 2_900_000, "payer_void_24h": 900_000}),
    ],
    "limit_instrument_day": [
        yes({"instrument_sum_24h": 1_000_001, "payer_void_24h": 1_000_001}, **CASH_OUT),
        yes({"instrument_count_24h": 21}, **TOP_UP),
        no({"instrument_sum_24h": 1_000_000, "instrument_count_24h": 20}, **TOP_UP),
    ],
    "limit_attempts": [
        yes({"payer_closed": 1, "payer_void_24h": 10**6}),
        no({"device_closed": 1, "payee_closed": 1, "merchant_closed": 1}),
    ],
    "limit_attempts_instrument": [yes({"instrument_closed": 1}, **CASH_OUT), no({"payer_closed": 0}, **CASH_OUT)],
    "velocity_minute": [yes({"payer_count_1m": 7}), no({"payer_count_1m": 6})],
    "velocity_hour": [
        yes({"payer_count_1h": 21}),
        yes({"payer_distinct_2h": 12.01}),
        no({"payer_count_1h": 20, "payer_distinct_2h": 12.0}),
    ],
    "new_payee_high_amount": [
        yes(amount=100_000),
        no(amount=99_999),
        no({"pair_count_30d": 2}, amount=100_000),
        no(amount=100_000, **MERCHANT),
    ],
    "new_payee_new_device": [
        yes(NEW_DEVICE, amount=30_000),
        no(NEW_DEVICE, amount=29_999),
        no(NEW_DEVICE | {"device_new": 0}, amount=30_000),
        no(NEW_DEVICE | {"payer_age": 86_400}, amount=30_000),
        no(NEW_DEVICE | {"pair_count_30d": 2}, amount=30_000),
    ],
    "fan_in_burst": [
        yes({"payee_distinct_2h": 8.01, "payee_age": 259_199}),
        no({"payee_distinct_2h": 8.0, "payee_age": 259_199}),
        no({"payee_distinct_2h": 8.01, "payee_age": 259_200}),
    ],
    "payee_confirmed_fraud": [
        yes({"payee_frauds_30d": 4, "payee_count_30d": 13}),
        no({"payee_frauds_30d": 4, "payee_count_30d": 14}),
        no({"payee_frauds_30d": 3, "payee_count_30d": 3, "payer_frauds_30d": 5}),
        no({"payee_frauds_30d": 4, "payee_count_30d": 13}, **MERCHANT),
        no({"payee_frauds_30d": 4, "payee_count_30d": 13}, **CASH_OUT | {"payee_id": "payee-1"}),
    ],
    "device_shared": [yes({"device_distinct_2h": 7.01}), no({"device_distinct_2h": 7.0}), no(device_id=None)],
    "device_burst": [yes({"device_count_1m": 9}), no({"device_count_1m": 8})],
}

PROTECTED = {"account_not_active", "deny_list", *(name for name in EXAMPLES if name.startswith("limit_"))}


@pytest.mark.parametrize(
    ("name", "example"), [(name, example) for name, examples in EXAMPLES.items() for example in examples]
)
def test_a_packaged_rule_fires_on_one_side_of_its_limit_only(name, example):
    policy_result = judge(BOOK, payment(**example.fields), example.counters, example.profiles)
    hits = {hit.reasons[0].source: hit for hit in policy_result.hits}
    source = f"{name}@{RULES[name]['version']}"
    assert (source in hits) is example.fires
    assert policy_result.failed == ()
    if example.fires:
        (reason,) = hits[source].reasons
        assert (reason.code, reason.text) == (RULES[name]["code"], PACKAGED["reasons"][RULES[name]["code"]])
        assert hits[source].outcome == RULES[name]["outcome"]
        assert hits[source].retryable is RULES[name].get("retryable", False)
        assert hits[source].protected is (name in PROTECTED)


TOLD = {
    "account_not_active": ["the payer's account is not active", "amount 1,200 JPY"],
    "deny_list": ["the payer is on the deny list", "amount 1,200 JPY"],
    "limit_p2p": ["amount 500,001 JPY"],
    "limit_merchant": ["amount 1,000,001 JPY"],
    "limit_cash_out": ["amount 500,001 JPY"],
    "limit_top_up": ["amount 500,001 JPY"],
    "limit_payer_day": ["payments of this payer within 24 hours come to 2,000,001 JPY"],
    "limit_instrument_day": ["payments with this instrument within 24 hours come to 1,000,001 JPY"],
    "limit_attempts": ["more than 3,000 payments of this payer in a day (UTC)"],
    "limit_attempts_instrument": ["more than 3,000 payments with this instrument in a day (UTC)"],
    "velocity_minute": ["7 payments of this payer within 1 minute"],
    "velocity_hour": [
        "21 payments of this payer within 1 hour",
        "1 receiver of this payer within 2 hours",
    ],
    "new_payee_high_amount": ["amount 100,000 JPY", "this payer's first payment to this receiver in 30 days"],
    "new_payee_new_device": [
        "amount 30,000 JPY",
        "this payer's first payment to this receiver in 30 days",
        "this payer's first payment with this device in 30 days",
        "first known payment of this payer 24 hours ago",
    ],
    "fan_in_burst": [
        "8 payers of this receiver within 2 hours",
        "first known payment to this receiver 2 days ago",
    ],
    "payee_confirmed_fraud": [
        "4 payments to this receiver became known as fraud within 30 days",
        "13 payments to this receiver within 30 days",
    ],
    "device_shared": ["7 accounts on this device within 2 hours"],
    "device_burst": ["9 payments with this device within 1 minute"],
}
"""The facts of each packaged rule, on the first of its EXAMPLES."""


@pytest.mark.parametrize("name", RULES)
def test_a_packaged_rule_tells_the_numbers_that_its_expression_reads(name):
    example = EXAMPLES[name][0]
    transaction, values = payment(**example.fields), ABSENT | FIRST | example.counters
    features_of, state = vector(transaction, values), State({}, dict(example.profiles))
    hits = {hit.reasons[0].source: hit for hit in judge(BOOK, transaction, example.counters, example.profiles).hits}
    hit = hits[f"{name}@{RULES[name]['version']}"]
    (reason,) = conclude([hit], Subject(transaction, values, features_of, state)).reasons
    assert [fact.text for fact in reason.facts] == TOLD[name]


def test_deny_entries_account_status_and_limits_are_protected_and_the_rest_may_be_silenced():
    assert {name for name, one in RULES.items() if one.get("protected")} == PROTECTED
    assert silenceable(PACKAGED["rules"]) == {
        "model",
        *("VELOCITY", "NEW_PAYEE_HIGH_AMOUNT", "NEW_DEVICE", "FAN_IN_BURST", "CONFIRMED_FRAUD", "CARD_TESTING"),
    }


def test_a_code_that_one_protected_rule_shares_is_not_silenceable():
    book = rule_book(rule("true"), rule("true", id="second", protected=True), rule("true", id="third", code="RETRIES"))
    assert silenceable([rule.model_dump() for rule in book.policy.rules]) == {"model", "RETRIES"}


def test_every_packaged_rule_has_examples_of_both_kinds():
    assert {name: {example.fires for example in examples} for name, examples in EXAMPLES.items()} == {
        name: {True, False} for name in RULES
    }


@pytest.mark.parametrize("kind", SIDES_OF_TYPE)
@pytest.mark.parametrize("device", ["device-1", None])
def test_no_rule_holds_or_fails_for_a_quiet_payment_of_any_type(kind, device):
    policy_result = judge(BOOK, payment(**SIDES_OF_TYPE[kind], device_id=device), {}, {})
    assert (policy_result.hits, policy_result.failed, policy_result.segment.id) == ((), (), "standard")
    assert policy_result.segment.model


KNOWN = {"pair_count_30d": 3, "pair_age_days": 2, "device_new": 0, "payer_count_1h": 3, "device_count_1h": 3}


@pytest.mark.parametrize(
    ("counters", "fields", "small"),
    [
        (KNOWN, {"amount": 3000}, True),
        (KNOWN, {"amount": 3000} | MERCHANT, True),
        (KNOWN, {"amount": 3001}, False),
        (KNOWN, {"amount": 3000} | TOP_UP, False),
        (KNOWN | {"pair_age_days": 1}, {}, False),
        (KNOWN | {"device_count_1h": 4}, {}, False),
        (KNOWN | {"pair_count_30d": 2}, {}, False),
        (KNOWN | {"device_new": 1}, {}, False),
        (KNOWN | {"payer_count_1h": 4}, {}, False),
    ],
)
def test_small_repeated_payments_to_a_known_payee_skip_the_model(counters, fields, small):
    segment = judge(BOOK, payment(**fields), counters, {}).segment
    assert (segment.id, segment.model) == (("small_repeat", False) if small else ("standard", True))


def test_the_version_names_the_policy_and_is_that_of_what_it_says_however_it_is_spelled():
    assert BOOK.version.startswith(f"{PACKAGED['name']}-")
    spellings = (
        TEXT.replace(b"\n", b"\r\n"),
        json.dumps(PACKAGED).encode(),
        json.dumps(PACKAGED, sort_keys=True).encode(),
    )
    for text in spellings:
        assert RuleBook.load(text).version == BOOK.version
    for change in (b'"amount": 30000', b"payer_count_1m > 6", b"Confirmed fraud is on record"):
        assert (
            RuleBook.load(TEXT.replace(change, change + b" " if b"fraud" in change else change + b"1")).version
            != BOOK.version
        )


# --- policies that are refused ----------------------------------------------------------------------------------------

LOOP = "[0,1,2,3,4,5,6,7,8,9].map({}, {})"
STALL = "1"
for letter in "abcdefg":
    STALL = LOOP.format(letter, STALL)

REFUSED = {
    "": "parse",
    "transaction.amount >": "parse",
    "(transaction.amount > 1": "parse",
    "amount > 1": "unknown: amount",
    "payment.amount > 1": "unknown: payment",
    "transaction.amonut > 1": "unknown: transaction.amonut",
    "transaction.metadata == null": "unknown: transaction.metadata",
    "transaction.canonical == ''": "unknown: transaction.canonical",
    "counters.payer_count_2h > 1": "unknown: counters.payer_count_2h",
    "features.nope > 1.0": "unknown: features.nope",
    "has(features.nope)": "unknown: features.nope",
    "standing.ip_status == 'hold'": "unknown: standing.ip_status",
    "counters['payer_count_1m'] > 1": "unknown: ",
    "(counters).payer_count_1m > 1": "unknown: counters.",
    ".counters.payer_count_1m > 1": "unknown: .counters",
    "true || counters.nope > 1": "unknown: counters.nope",
    "transaction.type == 'x' && counters.nope > 1": "unknown: counters.nope",
    "transaction.amount": "not true or false",
    "standing.payer_status": "not true or false",
    "'true'": "not true or false",
    "null": "not true or false",
    "transaction.type == 'p2p' ? true : 1": "not true or false",
    "transaction.amount > '1'": "overload",
    "transaction.type > 1": "overload",
    "counters.payer_count_1m + 'x' == 'x'": "overload",
    "features.amount_log.startsWith('x')": "undefined",
    "transaction.amount / counters.payer_count_1h > 2": "division by zero",
    "transaction.amount % 0 == 1": "zero",
    "transaction.type == 'top_up' && 1 / 0 == 1": "zero",
    "[1].exists(x, x > 0)": "unknown: ",
    "[1].all(x, x > 0)": "unknown: ",
    "[1].exists_one(x, true)": "unknown: ",
    "[1].filter(x, true).size() > 0": "unknown: filter",
    "[1].map(x, 1).size() > 0": "unknown: map",
    "[1] . map\n(x, 1).size() > 0": "unknown: map",
    f"{STALL}.size() > 0": "unknown: map",
    "[transaction.amount].map(transaction, 1).size() > 0": "unknown: ",
    "timestamp('2026-01-01T00:00:00Z') < transaction.occurred_at": "unknown: timestamp",
    "duration('1s') == duration('1s')": "unknown: duration",
    "max(1, 2) == 2": "unknown: max",
    "__import__('os') == 1": "unknown: __import__",
    "transaction.payer_id == r'\\' && counters.nope > 1 || transaction.payer_id == r'\\'": "backslashes",
    "'''a'b''' == counters.nope || 'x' == 'x'": "triple quotes",
    "true // it's\n && counters.nope > 1 // it's": "comments",
    "true" + " " * (MAX_LENGTH - 3): "longer than 500",
    "(" * (MAX_NESTING + 1) + "true" + ")" * (MAX_NESTING + 1): "nested deeper than 12",
    "[" * 13 + "]" * 13 + " == []": "nested deeper than 12",
    "[1] == [1]": "a list stands directly after `in`",
    "1 in [1] + [1]": "a list stands directly after `in`",
    "1 in ([1] + [1])": "a list stands directly after `in`",
    "1 in [1, [1] == [2] ? 1 : 2]": "a list stands directly after `in`",
    "1 in [1][0]": "unknown: _[_]",
    "transaction.type == 'in [' || [1] == [1]": "a list stands directly after `in`",
    "transaction.type[0] == 'p'": "unknown: _[_]",
    "'p2p' in {'p2p': 1}": "there are no maps",
}


@pytest.mark.parametrize(("expression", "why"), REFUSED.items())
def test_an_expression_that_could_fail_or_stall_is_refused_when_loaded(expression, why):
    started = time.perf_counter()
    with pytest.raises(UndecidableError, match=r"^tested: ") as refused:
        rule_book(rule(expression))
    assert why.lower() in str(refused.value).lower()
    assert time.perf_counter() - started < 2


def test_a_segments_expression_is_checked_like_a_rules():
    with pytest.raises(UndecidableError, match=r"^small: unknown: counters\.nope"):
        rule_book(segments=[{"id": "small", "expression": "counters.nope > 1", "model": False}])


ACCEPTED = (
    "true" + " " * (MAX_LENGTH - 4),
    "(" * MAX_NESTING + "true" + ")" * MAX_NESTING,
    "counters . payer_count_1m\n>= 1",
    "transaction.amount > 1.5 && counters.payer_distinct_2h > 1 && counters.payer_count_1h >= 1.0",
    "transaction.country in ['JP', 'KR'] || transaction.payer_id in(['x']) || transaction.amount in[1, 2]",
    "transaction.payer_name != '[{1}]' && !(transaction.type in ['[', ']'])",
    "transaction.payer_id.matches('^x[0-9]*$') && transaction.payer_name.contains('counters.nope > 1 // \"')",
    "transaction.occurred_at.getHours() < 6 || transaction.occurred_at.getDayOfWeek() == 0",
    "transaction.device_id == null || size(transaction.device_id) > 3",
    "has(features.device_new) && features.device_new == 1.0 ? double(transaction.amount) > 2.0 : !standing.ip_denied",
)


@pytest.mark.parametrize("expression", ACCEPTED)
def test_expressions_that_analysts_need_are_accepted(expression):
    assert rule_book(rule(expression)).policy.rules[0].expression == expression


def without(mapping: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in mapping.items() if key != name}


def by_amount(*steps: Mapping[str, Any]) -> dict[str, Any]:
    return {"policy": "by_amount", "steps": steps}


FINE = rule("true")
STEP: dict[str, Any] = {"amount": 10, "outcome": "review"}
SMALL = {"id": "small", "expression": "transaction.amount < 10", "model": False}
WRONG_POLICIES: dict[str, tuple[dict[str, Any], str]] = {
    "no name": ({"name": None}, "name: "),
    "unknown field": ({"rulez": []}, "rulez: "),
    "missing words": ({"rules": [FINE | {"code": "NO_WORDS"}]}, "codes without words: NO_WORDS"),
    "empty words": ({"reasons": PACKAGED["reasons"] | {"VELOCITY": ""}}, "reasons.VELOCITY: "),
    "long words": ({"reasons": PACKAGED["reasons"] | {"VELOCITY": "x" * (MAX_WORDS + 1)}}, "reasons.VELOCITY: "),
    "words of a bad code": ({"reasons": PACKAGED["reasons"] | {"velocity": "x"}}, "reasons.velocity"),
    "unknown feature": (
        {"feature_reasons": PACKAGED["feature_reasons"] | {"nope": "VELOCITY"}},
        "reasons without a feature: nope",
    ),
    "feature without a reason": ({"feature_reasons": without(PACKAGED["feature_reasons"], "is_retry")}, ": is_retry"),
    "feature reason without words": (
        {"reasons": without(PACKAGED["reasons"], "RETRIES")},
        "codes without words: RETRIES",
    ),
    "rule used twice": ({"rules": [FINE, FINE]}, "ids used twice: tested"),
    "rule and segment of one id": (
        {"rules": [FINE], "segments": [{"id": "tested", "expression": "true", "model": True}]},
        "ids used twice: tested",
    ),
    "segment of a name that figures use": (
        {"segments": [{"id": "all", "expression": "true", "model": True}]},
        "segments with a name that figures use: all",
    ),
    "bad id": ({"rules": [FINE | {"id": "Tested"}]}, "rules.0.id: "),
    "bad outcome": ({"rules": [FINE | {"outcome": "refuse"}]}, "rules.0.outcome: "),
    "bad code": ({"rules": [FINE | {"code": "velocity"}]}, "rules.0.code: "),
    "version zero": ({"rules": [FINE | {"version": 0}]}, "rules.0.version: "),
    "version as text": ({"rules": [FINE | {"version": "1"}]}, "rules.0.version: "),
    "protected as text": ({"rules": [FINE | {"protected": "yes"}]}, "rules.0.protected: "),
    "retryable as text": ({"rules": [FINE | {"retryable": "yes"}]}, "rules.0.retryable: "),
    "expression as number": ({"rules": [FINE | {"expression": 1}]}, "rules.0.expression: "),
    "rule without code": ({"rules": [without(FINE, "code")]}, "rules.0.code: "),
    "rule with a typo": ({"rules": [FINE | {"ouctome": "review"}]}, "rules.0.ouctome: "),
    **{
        f"outage {name}": ({"outage": {"standard": outage}}, f"outage.standard{why}")
        for name, outage, why in (
            ("without a policy", {}, ".policy: "),
            ("of no known policy", {"policy": "close"}, ".policy: "),
            ("by amount without steps", {"policy": "by_amount"}, ": steps belong to by_amount"),
            ("with empty steps", {"policy": "by_amount", "steps": []}, ": steps belong to by_amount"),
            ("with steps it has no use for", {"policy": "open", "steps": [STEP]}, ": steps belong"),
            ("with falling steps", by_amount(STEP, STEP | {"amount": 9}), ": steps must rise"),
            ("with equal steps", by_amount(STEP, STEP), ": steps must rise"),
            ("below zero", by_amount(STEP | {"amount": -1}), ".steps.0.amount: "),
            ("by part of a unit", by_amount(STEP | {"amount": 1.5}), ".steps.0.amount: "),
            ("of no known outcome", by_amount(STEP | {"outcome": "ask"}), ".steps.0.outcome: "),
            ("with a typo", {"policy": "open", "step": []}, ".step: "),
        )
    },
    "no outage policy": ({"outage": {}}, "segments without an outage policy"),
    "segment without an outage policy": (
        {"segments": [SMALL], "outage": {"standard": {"policy": "open"}}},
        "or outage policies without a segment: small",
    ),
    "outage policy without a segment": (
        {"outage": {"standard": {"policy": "open"}, "gone": {"policy": "open"}}},
        "or outage policies without a segment: gone",
    ),
    "outage without words": (
        {"reasons": without(PACKAGED["reasons"], "COUNTERS_UNAVAILABLE")},
        "codes without words: COUNTERS_UNAVAILABLE",
    ),
    "segment without model": ({"segments": [{"id": "small", "expression": "true"}]}, "segments.0.model: "),
}


@pytest.mark.parametrize("name", WRONG_POLICIES)
def test_an_inconsistent_policy_is_refused(name):
    changes, why = WRONG_POLICIES[name]
    with pytest.raises(UndecidableError, match=r"^policy: ") as refused:
        rule_book(**changes)
    assert why in str(refused.value)


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b"\xff", b"null"])
def test_a_text_that_is_no_policy_is_refused(text):
    with pytest.raises(UndecidableError, match=r"^policy: "):
        RuleBook.load(text)


def test_expressions_may_read_everything_but_metadata():
    assert MEMBERS["transaction"] == set(Transaction.model_fields) - {"metadata"}
    assert MEMBERS["features"] == set(features.NAMES)
    assert MEMBERS["standing"] == set(STANDING) == set(standing(payment(), State({}, {})))


# --- judging ----------------------------------------------------------------------------------------------------------

FAILING = {
    "null": "transaction.device_id.startsWith('x')",
    "missing feature": "features.device_new == 1.0",
    "overflow": "transaction.amount == 100000000000 ? transaction.amount + 9223372036854775807 > 0 : true",
    "division": "1 / (transaction.amount - 100000000000) == 0",
    "no truth value": "transaction.amount == 100000000000 ? 1 : true",
    "type": "transaction.amount == 100000000000 ? transaction.amount > 'x' : true",
}


@pytest.mark.parametrize("why", FAILING)
def test_an_expression_that_fails_at_run_time_is_named_and_decides_nothing(why):
    segments = [
        {"id": "broken", "expression": FAILING[why], "model": False},
        {"id": "others", "expression": "true", "model": True},
    ]
    book = rule_book(rule(FAILING[why]), rule("true", id="other"), segments=segments)
    policy_result = judge(book, payment(device_id=None, amount=10**11), {}, {})
    assert policy_result.failed == ("broken", "tested")
    assert policy_result.segment.id == "others"
    assert [hit.reasons[0].source for hit in policy_result.hits] == ["other@3"]


def test_the_first_segment_that_holds_is_taken():
    segments = [
        {"id": name, "expression": when, "model": True} for name, when in (("a", "false"), ("b", "true"), ("c", "true"))
    ]
    assert judge(rule_book(segments=segments), payment(), {}, {}).segment.id == "b"


def test_an_expression_reads_the_payment_its_counters_features_and_standing():
    sees = (
        "transaction.amount == 1200 && counters.pair_count_30d == 1 && features.is_merchant == 0.0"
        " && !standing.payer_denied && transaction.ip == null && !has(features.amount_to_payer_normal_30d)"
        " && transaction.occurred_at.getHours() == 12"
    )
    assert len(judge(rule_book(rule(sees)), payment(), {}, {}).hits) == 1


def test_a_model_gives_one_reason_for_each_code_with_the_sum_of_its_features():
    hit = BOOK.explain(
        Outcome.REVIEW,
        [
            ("amount_log", 1.23456),
            ("payer_count_1m", 0.9),
            ("payer_idle_log", 0.8),
            ("payer_count_1h", 0.5),
            ("amount_share_of_payer_24h", 0.05),
            ("payer_age_log", -0.8),
            ("amount_to_payer_normal_30d", -1.0),
        ],
    )
    assert (hit.outcome, hit.source, hit.retryable) == ("review", "model", False)
    assert [(reason.code, reason.source, reason.contribution) for reason in hit.reasons] == [
        ("VELOCITY", "model", 1.4),
        ("AMOUNT_UNUSUAL", "model", 0.2846),
    ]
    assert {reason.text for reason in hit.reasons} <= set(PACKAGED["reasons"].values())
    assert hit.about == {
        "VELOCITY": ["features.payer_count_1m", "features.payer_count_1h"],
        "AMOUNT_UNUSUAL": ["features.amount_log"],
    }


@given(
    st.dictionaries(st.sampled_from(features.NAMES), st.floats(-3, 3, allow_subnormal=False).filter(bool), min_size=1)
)
def test_the_sums_of_a_models_reasons_are_those_of_their_codes_and_no_hit_is_without_a_reason(by_feature):
    ordered = sorted(by_feature.items(), key=lambda item: -item[1])
    hit = BOOK.explain(Outcome.REVIEW, ordered)
    sums: dict[str, float] = defaultdict(float)
    for name, by in ordered:
        sums[PACKAGED["feature_reasons"][name]] += by
    given_ = {reason.code: reason.contribution or 0.0 for reason in hit.reasons}
    assert 1 <= len(given_) <= REASONS_OF_THE_MODEL
    assert list(given_.values()) == sorted(given_.values(), reverse=True)
    for code, contribution in given_.items():
        assert contribution == pytest.approx(sums[code], abs=6e-5)
        assert contribution > 0 or len(given_) == 1
    left_out = [total for code, total in sums.items() if code not in given_]
    assert all(total <= min(given_.values()) + 1e-4 for total in left_out)
    assert len(given_) == REASONS_OF_THE_MODEL or all(total < 1e-4 for total in left_out)


def test_every_feature_has_a_reason():
    for name in features.NAMES:
        (reason,) = BOOK.explain(Outcome.DECLINE, [(name, 1.0)]).reasons
        assert reason.code == PACKAGED["feature_reasons"][name]


# --- judging without the counters -------------------------------------------------------------------------------------

ROOTS = {
    "transaction": rule("transaction.amount > 0", id="by_payment"),
    "nothing": rule("true", id="by_nothing"),
    "standing": rule("standing.payee_denied || standing.payer_status == 'active'", id="by_standing"),
    "counters": rule("counters.payer_count_1m >= 0", id="by_counters"),
    "features": rule("features.amount_log > 0.0", id="by_features"),
    "several": rule("transaction.amount > 0 && counters.payer_count_1m >= 0", id="by_several"),
    "in words": rule("transaction.amount > 0 && 'counters.payer_count_1m' != ''", id="by_words"),
}


def blind(book: RuleBook, state: State | None = None, **fields: Any) -> list[str]:
    policy_result = book.judge_blind(payment(**fields), state)
    assert policy_result.failed == ()
    return [hit.reasons[0].source for hit in policy_result.hits]


def test_only_rules_that_read_no_counters_are_judged_without_them():
    book = rule_book(*ROOTS.values())
    seen = ["by_payment@3", "by_nothing@3", "by_words@3", "outage:rules_only"]
    assert blind(book) == seen
    assert sorted(blind(book, State({}, {}))) == sorted([*seen, "by_standing@3"])


def test_an_open_policy_judges_by_protected_rules_only():
    protected = [
        each | {"id": f"{each['id']}_too", "protected": True} for name, each in ROOTS.items() if name != "features"
    ]
    closed = rule("counters.payer_closed == 1", id="closed", protected=True)
    book = rule_book(*ROOTS.values(), *protected, closed, outage={"standard": {"policy": "open"}})
    assert blind(book) == ["by_payment_too@3", "by_nothing_too@3", "by_words_too@3", "outage:open"]
    assert "by_standing_too@3" in blind(book, State({}, {}))


def test_a_known_deny_entry_is_judged_without_counters():
    book = rule_book(rule("standing.payee_denied", protected=True), outage={"standard": {"policy": "open"}})
    denied = State({}, {"account#payee-1": {"deny": {"reason": "mule", "expires_at": None}}})
    assert blind(book, denied) == ["tested@3", "outage:open"]
    assert blind(book, State({}, {})) == blind(book) == ["outage:open"]


def test_without_counters_a_segment_that_reads_them_is_skipped():
    counted = {"id": "counted", "expression": "counters.payer_count_1m >= 0", "model": True}
    known = {"id": "known", "expression": "standing.payer_status == 'active'", "model": True}
    book = rule_book(segments=[counted, known, SMALL | {"expression": "transaction.amount < 5000"}])
    assert book.judge_blind(payment(), None).segment.id == "small"
    assert book.judge_blind(payment(amount=5000), None).segment.id == "standard"
    assert book.judge_blind(payment(), State({}, {})).segment.id == "known"


def test_an_expression_that_fails_without_counters_is_named_and_decides_nothing():
    policy_result = rule_book(rule("transaction.ip.startsWith('10.')")).judge_blind(payment(), None)
    assert (policy_result.failed, [hit.source for hit in policy_result.hits]) == (("tested",), ["outage"])


def test_the_outage_policys_own_hit_is_retryable_and_cannot_be_silenced():
    (hit,) = rule_book(outage={"standard": {"policy": "decline"}}).judge_blind(payment(), None).hits
    assert (hit.outcome, hit.retryable, hit.protected) == (Outcome.DECLINE, True, True)
    assert (hit.reasons[0].code, hit.reasons[0].text) == (OUTAGE, PACKAGED["reasons"][OUTAGE])
    assert OUTAGE not in silenceable(PACKAGED["rules"])


@pytest.mark.parametrize(
    ("amount", "outcome"),
    [(1, "approve"), (9, "approve"), (10, "review"), (99, "review"), (100, "challenge"), (10**11, "challenge")],
)
def test_the_last_step_that_the_amount_reaches_decides(amount, outcome):
    steps = by_amount(STEP, {"amount": 100, "outcome": "challenge"})  # a larger amount may have the milder outcome
    (hit,) = rule_book(outage={"standard": steps}).judge_blind(payment(amount=amount), None).hits
    assert hit.outcome == outcome


@pytest.mark.parametrize(
    ("policy", "outcome"),
    [("open", "approve"), ("rules_only", "approve"), ("challenge", "challenge"), ("decline", "decline")],
)
def test_other_outage_policies_have_one_outcome_for_every_amount(policy, outcome):
    assert {Outage(policy=policy).outcome(amount) for amount in (0, 1, 10**11)} == {outcome}


@pytest.mark.parametrize(
    ("amount", "outcome"),
    [(29_999, "approve"), (30_000, "challenge"), (299_999, "challenge"), (300_000, "decline")],
)
def test_in_an_outage_the_packaged_policy_is_stricter_for_larger_amounts(amount, outcome):
    hits = BOOK.judge_blind(payment(amount=amount), None).hits
    assert max((hit.outcome for hit in hits), key=Outcome.severity) == outcome
    assert {hit.protected for hit in hits} == {True}
