"""Amounts mean nothing without their currency: stacks, boxes, models and files of another one, and a policy in rupees.

Each case follows the public report or rule that it names.
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from samtranslator.yaml_helper import yaml_parse

from fraud import packaged
from fraud.assembly import rule_book
from fraud.counters.layout import State
from fraud.counters.windows import ABSENT
from fraud.errors import UndecidableError
from fraud.outcome import Outcome, worst
from fraud.rules.rule_book import inputs
from fraud.scoring import features, scorer
from fraud.transaction import Transaction, TransactionContext
from local import __main__ as up
from local.box import Box
from models.simulation.markets import INDIA, MARKETS
from models.simulation.simulate import DEFAULT_START, simulate
from models.training import train as training
from models.training.columns import Dataset
from models.training.costs import costs
from tests.support.own_door import own_door
from tests.support.payments import NOON, body

RUPEE, LAKH = 100, 10_000_000  # in paise
RUPEES = rule_book("INR")


def judged(amount: int, type_: str = "p2p", **counters: float) -> tuple[Outcome, set[str]]:
    """Return the outcome and the codes of the rules for a payment in rupees of a known payer, without a score."""
    fields: dict[str, Any] = {"currency": "INR", "amount": amount, "type": type_}
    if type_ in {"cash_out", "top_up"}:
        fields |= {"payee_id": None, "instrument_id": "bank-1"}
    transaction = Transaction.model_validate(body(**fields), context=TransactionContext("INR", NOON))
    values = dict(ABSENT) | {"payer_age": 10**7, "pair_count_30d": 4, "payer_sum_24h": amount, "payer_count_24h": 1}
    values |= counters
    result = RUPEES.judge(inputs(transaction, values, features.vector(transaction, values), State({}, {})))
    return worst([hit.outcome for hit in result.hits]), {hit.reasons[0].code for hit in result.hits}


# --- another currency is refused --------------------------------------------------------------------------------------

REPORTS = {
    "EUR": "cartalyst/stripe#59",
    "KRW": "InvoicePlane/InvoicePlane#1677",
    "VND": "calcom/cal.diy#30038",
    "BHD": "SolidInvoice/SolidInvoice#2598",
    "USD": "Simplero/Roadmap#227",
    "CLP": "Charitable/Charitable#761",
}
OTHERS = [currency for currency in REPORTS if currency not in packaged.currencies()]


@pytest.mark.parametrize("currency", OTHERS)
def test_a_stack_of_a_currency_without_policy_does_not_start_and_says_what_to_do(currency):
    with (
        pytest.raises(UndecidableError, match=f"policies/{currency}.json, train its model"),
        own_door("list_api", CURRENCY=currency),
    ):
        pass
    for load in (rule_book, scorer.embedded):
        with pytest.raises(
            UndecidableError,
            match=f"no policy and model for amounts in {currency}, only for {', '.join(packaged.currencies())}",
        ):
            load(currency)


@pytest.mark.parametrize("currency", OTHERS)
def test_a_box_of_a_currency_without_policy_is_refused_before_it_starts(currency):
    with pytest.raises(UndecidableError, match=f"amounts in {currency}"):
        Box(parameters={"Currency": currency})


@pytest.mark.parametrize("currency", packaged.currencies())
def test_what_is_packaged_declares_its_currency(currency):
    assert rule_book(currency).policy.currency == currency
    assert scorer.embedded(currency).currency == currency
    assert currency not in MARKETS or MARKETS[currency].currency == currency


@pytest.mark.parametrize(("part", "load"), [("policy", rule_book), ("model", scorer.embedded)])
def test_a_policy_or_model_under_the_name_of_another_currency_is_refused(part, load, tmp_path, monkeypatch):
    """mtotschnig/MyExpenses#1700, cknow/laravel-money#2: amounts that kept their number and changed their currency."""
    shutil.copyfile(packaged.POLICIES / "JPY.json", tmp_path / "INR.json")
    shutil.copytree(packaged.MODELS / "JPY", tmp_path / "INR")
    monkeypatch.setattr(packaged, "POLICIES", tmp_path)
    monkeypatch.setattr(packaged, "MODELS", tmp_path)
    with pytest.raises(UndecidableError, match=f"^{part}: its amounts are in JPY, and this stack decides in INR$"):
        load("INR")


@pytest.mark.parametrize("currency", OTHERS)
def test_make_up_refuses_in_one_line(currency, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["local", "--port", "0", "--currency", currency])
    assert up.main() == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"models.training.train --currency {currency}" in said


@pytest.mark.parametrize("currency", OTHERS)
def test_training_on_a_market_that_is_not_simulated_says_what_to_do(currency, capsys):
    with pytest.raises(SystemExit):
        training.main(["--currency", currency])
    assert "add a row to MARKETS in models/simulation/markets.py" in capsys.readouterr().err


def test_a_model_names_the_currency_of_the_dataset_it_was_trained_on(tmp_path):
    Dataset.build(simulate(1, DEFAULT_START, 9, 60, INDIA)).save(tmp_path / "train")
    small = ["--most_trees=3", "--delay_days=1", "--test_days=1"]
    training.main(["--train", str(tmp_path / "train"), "--out", str(tmp_path), *small])
    assert json.loads((tmp_path / "manifest.json").read_bytes())["currency"] == "INR"


def test_costs_are_of_the_size_of_the_currency():
    fraud, amount = np.array([True, False]), np.array([1_000, 1_000])
    assert (costs(fraud, amount * 50, 50_000) == costs(fraud, amount, 1_000) * 50).all()


def test_limits_of_law_are_protected_in_each_policy():
    protected = {
        currency: {rule.id for rule in rule_book(currency).policy.rules if rule.protected}
        for currency in packaged.currencies()
    }
    assert protected["INR"] == protected["JPY"]


def test_cloudformation_takes_exactly_the_packaged_currencies():
    template = yaml_parse(Path("template.yaml").read_text(encoding="utf-8"))
    assert sorted(template["Parameters"]["Currency"]["AllowedValues"]) == packaged.currencies()


# --- rupees -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("type_", ["p2p", "merchant", "cash_out", "top_up"])
@pytest.mark.parametrize("amount", [120 * RUPEE, 5_000 * RUPEE + 1, 5_000 * RUPEE, 999_900])
def test_everyday_payments_in_rupees_are_approved(amount, type_):
    assert judged(amount, type_) == (Outcome.APPROVE, set())


@pytest.mark.parametrize(
    ("report", "type_", "amount", "counters", "code"),
    [
        ("NPCI: 1 lakh for one payment to a person", "p2p", LAKH + 1, {}, "LIMIT_AMOUNT"),
        ("NPCI, September 2025: 5 lakh to a verified merchant", "merchant", 5 * LAKH + 1, {}, "LIMIT_AMOUNT"),
        ("NPCI: 10 lakh in 24 hours", "merchant", RUPEE, {"payer_sum_24h": 10 * LAKH + 1}, "LIMIT_PAYER_DAY"),
    ],
)
def test_limits_of_upi_decline(report, type_, amount, counters, code):
    outcome, codes = judged(amount, type_, **counters)
    assert outcome is Outcome.DECLINE, report
    assert code in codes


@pytest.mark.parametrize("counters", [{"payer_sum_24h": LAKH + 1}, {"payer_count_24h": 21}])
def test_a_day_beyond_upis_limits_to_people_is_challenged_because_its_shopping_counts_too(counters):
    """NPCI: 1 lakh and 20 payments in 24 hours to people. No counter is by type, so ₹95,001 of it may be shopping."""
    assert judged(5_000 * RUPEE + 1, **counters) == (Outcome.CHALLENGE, {"UPI_DAY"})


@pytest.mark.parametrize(
    ("type_", "amount", "counters"),
    [
        ("p2p", LAKH, {"pair_count_30d": 4}),
        ("merchant", RUPEE, {"payer_sum_24h": LAKH + 1}),
        ("merchant", RUPEE, {"payer_count_24h": 21}),
        ("p2p", RUPEE, {"payer_count_24h": 20}),
    ],
)
def test_what_is_within_the_limits_of_upi_is_not_declined(type_, amount, counters):
    assert judged(amount, type_, **counters) == (Outcome.APPROVE, set())


@pytest.mark.parametrize(
    ("type_", "counters"),
    [
        ("merchant", {"payer_sum_24h": 11 * LAKH, "payer_void_24h": 2 * LAKH}),
        ("p2p", {"payer_sum_24h": 2 * LAKH, "payer_void_24h": LAKH}),
        ("p2p", {"payer_sum_24h": 9_000 * RUPEE, "payer_void_24h": 4_000 * RUPEE, "payer_age": 3_600}),
    ],
)
def test_payments_that_moved_no_money_use_up_no_limit_on_money(type_, counters):
    assert judged(RUPEE, type_, **counters) == (Outcome.APPROVE, set())


def test_payments_that_moved_no_money_count_as_attempts():
    assert judged(RUPEE, payer_count_24h=21, payer_void_24h=LAKH)[1] == {"UPI_DAY"}


@pytest.mark.parametrize(
    ("spent", "age", "codes"),
    [(5_000, 3_600, set()), (5_001, 3_600, {"NEW_USER_AMOUNT"}), (5_001, 86_400, set())],
)
def test_a_new_user_is_challenged_above_five_thousand_rupees_in_the_first_day(spent, age, codes):
    """NPCI: 5,000 rupees in the first 24 hours. Not declined: to a new stack everybody is new."""
    assert judged(RUPEE, payer_age=age, payer_sum_24h=spent * RUPEE)[1] == codes
