"""Facts say what is true of the value at hand, in words and numbers, for every name that a reason may rest on."""

import math
import re
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud.counters.layout import KINDS, Item, State
from fraud.counters.windows import ABSENT, DISTINCT, IDLE_CAP, NAMES, kind_of
from fraud.outcome import Fact
from fraud.rules.expression import MEMBERS
from fraud.rules.facts import COUNTERS, FEATURES, MOST_FACTS, OTHERS, Subject, facts, told
from fraud.rules.standing import STANDING
from fraud.scoring import features
from fraud.transaction import Transaction
from tests.support.payments import SIDES_OF_TYPE, payment, updates

WITHOUT_WORDS = {
    f"transaction.{field}"
    for field in set(Transaction.model_fields) - {"metadata", "amount", "occurred_at", "attempt_of", "device_id"}
}
"""Fields that could name a person, and fields of which the rule itself says all."""

EVERY_NAME = sorted(
    {f"features.{name}" for name in FEATURES} | {f"counters.{name}" for name in COUNTERS} | OTHERS.keys()
)
FIRST = {f"{kind}_count_30d": 1 for kind in KINDS}
"""Counters of a payment that is the first one of all its parties."""


def subject(
    counters: Mapping[str, float] = {}, away: tuple[str, ...] = (), profiles: Mapping[str, Any] = {}, **fields: Any
) -> Subject:
    transaction = payment(**fields)
    values = ABSENT | FIRST | counters
    return Subject(transaction, values, features.vector(transaction, values), State({}, dict(profiles)), away)


def said(name: str, *arguments: Any, **fields: Any) -> str | None:
    fact = told(name, subject(*arguments, **fields))
    return None if fact is None else fact.text


# --- every name has words ---------------------------------------------------------------------------------------------


def test_every_feature_and_every_counter_has_words():
    assert set(FEATURES) == set(features.NAMES)
    assert set(COUNTERS) == set(NAMES)


def test_every_other_name_that_an_expression_may_read_has_words_or_is_listed_as_having_none():
    others = {f"{root}.{name}" for root in ("transaction", "standing") for name in MEMBERS[root]}
    assert others - OTHERS.keys() == WITHOUT_WORDS
    assert {f"standing.{name}" for name in STANDING} <= OTHERS.keys()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_that_is_missing_or_flooded_has_words(kind):
    assert said(f"counter:{kind}") == f"counters of the {kind} could not be written or read in time"
    assert said(f"flooded:{kind}") == f"more attempts name this {kind} than can be counted"


# --- the words are true of the value ----------------------------------------------------------------------------------

CASH_OUT, TOP_UP, MERCHANT = (SIDES_OF_TYPE[kind] for kind in ("cash_out", "top_up", "merchant"))

SAID: dict[str, list[tuple[str | None, dict[str, float], dict[str, Any]]]] = {
    "features.amount_log": [("amount 1,200 JPY", {}, {})],
    "features.amount_to_payer_normal_30d": [
        (
            "amount 1,200 JPY, 14 x this payer's usual of 30 days (85 JPY)",
            {"payer_count_30d": 3, "payer_sum_30d": 1370},
            {},
        ),
        (
            "amount 1,200 JPY, 0.5 x this payer's usual of 30 days (2,400 JPY)",
            {"payer_count_30d": 2, "payer_sum_30d": 3600},
            {},
        ),
        ("no other payment of this payer within 30 days", {}, {}),
        (None, {"payer_count_30d": math.nan}, {}),
    ],
    "features.amount_to_counterparty_normal_30d": [
        (
            "amount 2 x the usual payment to this merchant of 30 days (600 JPY)",
            {"merchant_count_30d": 2, "merchant_sum_30d": 1800},
            MERCHANT,
        ),
        ("no other payment with this instrument within 30 days", {}, CASH_OUT),
    ],
    "features.amount_share_of_payer_24h": [
        ("all of what this payer paid within 24 hours", {"payer_sum_24h": 1200}, {}),
        ("1 in 4 of what this payer paid within 24 hours", {"payer_sum_24h": 4800}, {}),
        ("60 % of what this payer paid within 24 hours", {"payer_sum_24h": 2000}, {}),
        (None, {"payer_sum_24h": 1000}, {}),
        (None, {}, {}),
    ],
    "features.is_merchant": [
        ("payment between users of 1,200 JPY", {}, {}),
        ("payment to a merchant of 1,200 JPY", {}, MERCHANT),
    ],
    "features.is_cash_out": [("cash-out of 1,200 JPY", {}, CASH_OUT), ("top-up of 1,200 JPY", {}, TOP_UP)],
    "features.is_retry": [
        ("first attempt to pay 1,200 JPY", {}, {}),
        ("another attempt to pay 1,200 JPY", {}, {"attempt_of": "t-0"}),
    ],
    "features.time_of_day_sin": [("paid at 03:07 UTC", {}, {"occurred_at": "2026-03-04T12:07:59+09:00"})],
    "features.payer_count_24h_share_of_30d": [
        (
            "3 of 8 payments of this payer within 30 days came in the last 24 hours",
            {"payer_count_24h": 3, "payer_count_30d": 8},
            {},
        ),
        (
            "1 of 1 payment of this payer within 30 days came in the last 24 hours",
            {"payer_count_24h": 1, "payer_count_30d": 1},
            {},
        ),
    ],
    "features.counterparty_mean_24h_log": [
        (
            "payments to this receiver within 24 hours average 500 JPY",
            {"payee_sum_24h": 1500, "payee_count_24h": 3},
            {},
        ),
        (None, {}, {}),
    ],
    "features.device_new": [
        ("this payer's first payment with this device in 30 days", {"device_new": 1}, {}),
        (None, {"device_new": 0}, {}),
        ("payment of 1,200 JPY without a device", {}, {"device_id": None}),
        ("about 51 accounts on this device within 30 days", {"device_new": 1, "device_distinct_30d": 50.6}, {}),
    ],
    "features.counterparty_distinct_2h": [
        ("9 payers of this receiver within 2 hours", {"payee_distinct_2h": DISTINCT[9]}, {}),
        ("9 payers of this merchant within 2 hours", {"merchant_distinct_2h": DISTINCT[9]}, MERCHANT),
    ],
    "counters.payer_count_1m": [
        ("7 payments of this payer within 1 minute", {"payer_count_1m": 7}, {}),
        ("no other payment of this payer within 1 minute", {"payer_count_1m": 1}, {}),
        (None, {"payer_count_1m": 0}, {}),
        (None, {"payer_count_1m": math.nan}, {}),
    ],
    "counters.payer_sum_24h": [
        ("payments of this payer within 24 hours come to 2,100,000 JPY", {"payer_sum_24h": 2_100_000}, {}),
        (
            "payments of this payer within 24 hours come to at least 10,000,000 JPY",
            {"payer_sum_24h": 10_000_000},
            {"amount": 10**15},
        ),
    ],
    "counters.payer_void_24h": [
        (
            "payments of this payer within 24 hours that moved no money come to 900,000 JPY",
            {"payer_void_24h": 900_000},
            {},
        ),
        (None, {"payer_void_24h": 0}, {}),
    ],
    "counters.instrument_count_24h": [
        ("21 payments with this instrument within 24 hours", {"instrument_count_24h": 21}, TOP_UP),
        (None, {"instrument_count_24h": 0}, {}),
        (None, {"instrument_count_24h": 3}, {}),
    ],
    "counters.payer_distinct_2h": [
        ("1 receiver of this payer within 2 hours", {"payer_distinct_2h": DISTINCT[1]}, {}),
        ("about 23 receivers of this payer within 2 hours", {"payer_distinct_2h": DISTINCT[21]}, {}),
        ("615 or more receivers of this payer within 2 hours", {"payer_distinct_2h": DISTINCT[-1]}, {}),
    ],
    "counters.payer_decayed_sum_6h": [
        (
            "payments of this payer, halved every 6 hours, come to about 1,201 JPY",
            {"payer_decayed_sum_6h": 1200.7},
            {},
        )
    ],
    "counters.payee_age": [
        ("first known payment to this receiver 3 days ago", {"payee_age": 3 * 86_400 + 5}, {}),
        ("no payment to this receiver is known from before the last minute", {"payee_age": 9}, {}),
    ],
    "counters.payer_idle": [
        ("last payment of this payer 12 days before this one", {"payer_idle": 12 * 86_400}, {}),
        ("no other payment of this payer for 30 days or more", {"payer_idle": IDLE_CAP}, {}),
    ],
    "counters.payer_closed": [
        ("more than 3,000 payments of this payer in a day (UTC)", {"payer_closed": 1}, {}),
        (None, {"payer_closed": 0}, {}),
    ],
    "counters.pair_count_30d": [
        ("this payer's first payment to this receiver in 30 days", {"pair_count_30d": 1}, {}),
        ("this payer's first payment with this instrument in 30 days", {"pair_count_30d": 1}, CASH_OUT),
        ("4 payments of this payer to this receiver within 30 days", {"pair_count_30d": 4}, {}),
    ],
    "counters.pair_age_days": [
        ("no payment of this payer to this receiver on an earlier day of the last 30", {}, {}),
        ("first payment of this payer to this receiver at least 1 day ago", {"pair_age_days": 1}, {}),
    ],
    "counters.payee_frauds_7d": [
        ("3 payments to this receiver became known as fraud within 7 days", {"payee_frauds_7d": 3}, {}),
        ("no payment to this receiver became known as fraud within 7 days", {}, {}),
        (None, {}, CASH_OUT),
    ],
    "counters.payer_frauds_30d": [
        ("1 payment of this payer became known as fraud within 30 days", {"payer_frauds_30d": 1}, CASH_OUT)
    ],
    "transaction.amount": [
        ("amount 600,000 JPY", {}, {"amount": 600_000}),
        (
            "amount 1,200 JPY, 2 x this payer's usual of 30 days (600 JPY)",
            {"payer_count_30d": 2, "payer_sum_30d": 1800},
            {},
        ),
        ("amount 2,100.05 INR", {}, {"amount": 210_005, "currency": "INR"}),
    ],
    "transaction.device_id": [(None, {}, {})],
    "transaction.payee_id": [(None, {}, {})],
    "standing.payer_status": [(None, {}, {})],
    "standing.payer_mark": [(None, {}, {})],
    "state": [("no counters could be read in time", {}, {})],
}


@pytest.mark.parametrize(("name", "example"), [(name, each) for name, examples in SAID.items() for each in examples])
def test_a_fact_says_what_is_true_of_the_value(name, example):
    text, counters, fields = example
    assert said(name, counters, **fields) == text


@pytest.mark.parametrize(
    ("role", "pk", "who"),
    [
        ("payer", "account#payer-1", "payer"),
        ("payee", "account#payee-1", "payee"),
        ("device", "device#device-1", "device"),
        ("ip", "ip#192.0.2.1", "IP address"),
    ],
)
def test_a_deny_entry_says_who_is_listed(role, pk, who):
    profiles = {pk: {"deny": {"reason": "stolen", "expires_at": None}}}
    assert said(f"standing.{role}_denied", profiles=profiles, ip="192.0.2.1") == f"the {who} is on the deny list"
    assert said(f"standing.{role}_denied", ip="192.0.2.1") is None


def test_an_account_that_is_not_active_is_said():
    profiles = {"account#payee-1": {"status": {"state": "hold"}}}
    assert said("standing.payee_status", profiles=profiles) == "the payee's account is not active"


def test_a_value_is_the_one_that_was_judged_by():
    told_of = subject({"payer_count_30d": 3, "payer_sum_30d": 1370})
    assert told("features.amount_to_payer_normal_30d", told_of) == Fact(
        name="features.amount_to_payer_normal_30d",
        value=14.1176,
        text="amount 1,200 JPY, 14 x this payer's usual of 30 days (85 JPY)",
    )
    alone = told("features.amount_to_payer_normal_30d", subject())
    assert alone is not None
    assert alone.value is None
    idle = told("features.payer_idle_log", subject({"payer_idle": 7200}))
    assert idle == Fact(
        name="counters.payer_idle", value=7200, text="last payment of this payer 2 hours before this one"
    )


def test_counters_of_a_sampled_item_are_said_with_about():
    transaction = payment()
    state = State({updates(transaction)[1].key: Item(level=3)}, {})
    values = (
        ABSENT
        | FIRST
        | {"payee_count_1h": 1, "payee_count_24h": 80, "payee_sum_24h": 9_000, "payee_distinct_2h": 3, "payee_age": 400}
    )
    about = Subject(transaction, values, features.vector(transaction, values), state)
    names = ("count_1h", "count_24h", "sum_24h", "distinct_2h", "age")
    assert [fact.text for name in names if (fact := told(f"counters.payee_{name}", about))] == [
        "about 1 payment to this receiver within 1 hour",
        "about 80 payments to this receiver within 24 hours",
        "payments to this receiver within 24 hours come to about 9,000 JPY",
        "about 3 payers of this receiver within 2 hours",
        "first known payment to this receiver 6 minutes ago",
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_told_of_counters_that_do_not_have_the_payment(kind):
    counters = dict.fromkeys(NAMES, 7.0) | {"device_distinct_30d": 3.0, "payer_sum_30d": 9_000.0}
    told_of = {fact.name for name in EVERY_NAME if (fact := told(name, subject(counters)))}
    missing = subject(counters, away=(kind,))
    left = {fact.name for name in EVERY_NAME if (fact := told(name, missing))}
    gone = {f"counters.{name}" for name in NAMES if kind_of(name) == kind}
    gone |= {f"features.{name}" for name in features.NAMES if kind in features.kinds_of(name)}
    assert left == told_of - gone
    assert ("usual" in facts(["transaction.amount"], missing)[0].text) is (kind != "payer")


# --- the facts of a reason --------------------------------------------------------------------------------------------


def test_a_reason_has_few_facts_each_once_in_their_order():
    names = [f"counters.payer_count_{window}" for window in ("1h", "1m", "1h", "24h", "7d", "30d")]
    counters = {f"payer_count_{window}": 2 for window in ("1m", "1h", "24h", "7d", "30d")}
    found = facts(["features.payer_count_1h", *names], subject(counters))
    assert [fact.name for fact in found] == [f"counters.payer_count_{window}" for window in ("1h", "1m", "24h", "7d")]
    assert len(found) == MOST_FACTS


@pytest.mark.parametrize(
    "names", [[], ["standing.payee_denied"], ["transaction.payer_name"], ["counters.payee_count_1h"]]
)
def test_a_reason_without_a_number_says_the_amount(names):
    profiles = {"account#payee-1": {"deny": {"reason": "stolen", "expires_at": None}}}
    found = facts(names, subject(profiles=profiles))
    assert found[-1] == Fact(name="transaction.amount", value=1200, text="amount 1,200 JPY")


ILL_FORMED = re.compile(
    r"\bnan\b|\binf\b|None|[{}]|  |^\s|\s$|(?<![\d,.])1 (payments|payers|receivers|accounts|days|hours|minutes)\b"
    r"|(?<![\d,.])(0|[2-9]|\d\d+) (payment|payer|receiver|account|day|hour|minute)\b|-\d"
)
NUMBERS = (0, 1, 2, 9, 20.2, 21, 615.0, 59, 60, 7_199, 86_400, IDLE_CAP, 10**6, 10**10, 10**24, math.nan)
SECRETS = {
    "payer_id": "secret-1",
    "ip": "192.0.2.77",
    "payer_name": "secret-2",
    "payee_name": "secret-3",
    "campaign_id": "secret-4",
    "attempt_of": "secret-5",
    "country": "KP",
    "channel": "qr",
}


@given(
    st.randoms(use_true_random=False),
    st.sampled_from(sorted(SIDES_OF_TYPE)),
    st.sampled_from([None, "secret-6"]),
    st.tuples(st.sets(st.sampled_from(sorted(KINDS)), max_size=2), st.sets(st.integers(0, 3))),
    st.sampled_from([1, 1_200, 10**15]),
)
@settings(deadline=None)
def test_every_sentence_is_well_formed_and_names_nobody_whatever_the_counters_are(rng, kind, device, missing, amount):
    away, sampled = missing
    sides = {name: value and f"secret-{name}" for name, value in SIDES_OF_TYPE[kind].items() if name != "type"}
    transaction = payment(type=kind, device_id=device, amount=amount, **SECRETS, **sides)
    counters = {name: rng.choice(NUMBERS) for name in NAMES}
    items = {each.key: Item(level=2) for n, each in enumerate(updates(transaction)) if n in sampled}
    vector = features.vector(transaction, counters)
    told_of = Subject(transaction, counters, vector, State(items, {}), tuple(away))
    for name in EVERY_NAME:
        for fact in facts([name], told_of):
            assert not ILL_FORMED.search(fact.text), fact
            assert "secret" not in fact.text + fact.name
            assert fact.value is None or math.isfinite(fact.value)
        assert any(re.search(r"\d", fact.text) for fact in facts([name], told_of))
