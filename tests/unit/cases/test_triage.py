"""Triage: rules only raise what the classifier says, reasons hold no part of the text, and a broken file is refused."""

import json
from datetime import timedelta
from typing import Any

import pytest

from fraud import packaged
from fraud.cases.context import FACTS, Context, ReportedPayment, context_of
from fraud.cases.report import CATEGORIES, MAX_REPORTS, MAX_TEXT, EarlierReport, ReportBatch, ReportRequest
from fraud.cases.rules import FAILED
from fraud.cases.triage import SEVERITY, Triage
from fraud.counters import windows
from fraud.errors import UndecidableError
from fraud.outcome import Outcome
from models.triage.generate import reports, texts
from tests.support.payments import NOON, payment
from tests.support.reports import said

RULES, NUMBERS = packaged.TRIAGE_RULES.read_bytes(), packaged.CLASSIFIER.read_bytes()
TRIAGE = Triage.load(RULES, NUMBERS)
CALM: dict[str, float | None] = dict.fromkeys(FACTS, 0.0) | {"payee_payers": 500.0, "payee_age_days": 300.0}


def report(**fields: Any) -> ReportRequest:
    return ReportRequest.model_validate_json(json.dumps(said("r-1", **fields)))


def context(facts: dict[str, float | None] | None = None, **fields: Any) -> Context:
    known = {"role": "payer", "known": True, "repeated": False} | fields
    return Context(facts=CALM | (facts or {}), **known)


@pytest.mark.parametrize(
    ("rule", "seen", "unseen"),
    [
        ("payment_not_known", context(known=False), context()),
        ("not_the_payer", context(role="payee"), context()),
        ("reported_again", context(repeated=True), context()),
        ("payee_found_fraudulent", context({"payee_frauds": 1.0}), context({"payee_disputes": 9.0})),
        ("many_reporters", context({"payee_reporters": 5.0, "payee_payers": 49.0}), context({"payee_reporters": 5.0})),
        ("declined_as_fraud", context({"severity": 2.0}), context({"severity": 1.0})),
    ],
)
def test_each_rule_holds_on_one_side_of_its_limit_and_raises_the_verdict(rule, seen, unseen):
    assert rule in {each["id"] for each in json.loads(RULES)["rules"]}
    judged, other = (TRIAGE.judge(report(), one) for one in (seen, unseen))
    assert rule in {reason.code for reason in judged.reasons}
    assert rule not in {reason.code for reason in other.reasons}
    assert judged.verdict != "dispute"


def test_every_packaged_rule_is_in_the_test_above():
    mark = test_each_rule_holds_on_one_side_of_its_limit_and_raises_the_verdict.pytestmark[0]
    assert {row[0] for row in mark.args[1]} == {each["id"] for each in json.loads(RULES)["rules"]}


def test_no_rule_makes_a_verdict_milder_than_the_classifier_does():
    without = Triage.load(b'{"version": "1", "rules": []}', NUMBERS)
    for each in reports(8, 150, texts("test")):
        asked = (report(category=each.category, text=each.text), context(dict(each.facts)))
        verdicts = [triage.judge(*asked).verdict for triage in (without, TRIAGE)]
        assert SEVERITY.index(verdicts[0]) <= SEVERITY.index(verdicts[1])


def test_a_rule_that_fails_sends_the_report_to_a_person_and_is_named():
    rules = json.dumps({"version": "1", "rules": [rule("report.has_text")]}).encode()
    judged = Triage.load(rules, NUMBERS)
    judged._rules._rules = [(each, _Failing()) for each, _ in judged._rules._rules]
    answer = judged.judge(report(), context())
    assert answer.verdict != "dispute"
    assert answer.reasons[0].code == FAILED


class _Failing:
    def execute(self, _context: object) -> object:
        raise RuntimeError


def rule(expression: str) -> dict[str, str]:
    return {"id": "tried", "expression": expression, "verdict": "unsure", "text": "words"}


@pytest.mark.parametrize(
    "expression",
    [
        "report.text == 'x'",
        "context.payee_naem > 1.0",
        "transaction.amount > 1",
        "context.payee_frauds",
        "context.payee_frauds >",
        "[1, 2].exists(x, x > 1)",
    ],
)
def test_a_rule_that_could_not_be_evaluated_is_refused_when_it_is_loaded(expression):
    with pytest.raises(UndecidableError, match="triage: tried: "):
        Triage.load(json.dumps({"version": "1", "rules": [rule(expression)]}).encode(), NUMBERS)


def test_no_rule_may_make_a_report_a_dispute():
    milder = rule("true") | {"verdict": "dispute"}
    with pytest.raises(UndecidableError, match=r"rules\.0\.verdict"):
        Triage.load(json.dumps({"version": "1", "rules": [milder]}).encode(), NUMBERS)


def test_reasons_hold_no_part_of_the_text_and_say_each_fact_in_words():
    for category in CATEGORIES:
        judged = TRIAGE.judge(report(category=category, text="花子 hanako 090-1234"), context())
        assert judged.reasons
        words = " ".join(reason.text for reason in judged.reasons)
        assert not [part for part in ("花子", "hanako", "1234") if part in words]
        assert "{" not in words
    unknown = TRIAGE.judge(report(text=None), context(dict.fromkeys(FACTS), known=False, role="other"))
    assert unknown.verdict != "dispute"


# ---- the context ---------------------------------------------------------------------------------------------------


def paid(**counters: float | None) -> ReportedPayment:
    values = dict.fromkeys(windows.NAMES, 0.0) | counters
    return ReportedPayment(payment(amount=3_000), Outcome.CHALLENGE, 0.25, ("VELOCITY",), values)


def earlier(name: str, reporter: str, status: str, transaction: str = "t-0") -> EarlierReport:
    return EarlierReport(name, transaction, reporter, NOON, status)


def test_the_context_counts_what_others_reported_and_what_the_reporter_did():
    own = [
        earlier("r-8", "payer-1", "dispute"),
        earlier("r-9", "payer-1", "fraud", "t-1"),
        earlier("r-1", "payer-1", "open"),
    ]
    others = [earlier("r-2", "b", "fraud"), earlier("r-3", "b", "open"), earlier("r-4", "c", "dispute"), *own]
    counters = {"pair_count_30d": 3.0, "payer_count_30d": 5.0, "payer_sum_30d": 7_000.0, "payee_age": 172_800.0}
    found = context_of(report(), paid(**counters), own, others)
    assert (found.role, found.known, found.repeated) == ("payer", True, True)
    facts = found.facts
    assert (facts["payee_reports"], facts["payee_reporters"], facts["payee_frauds"]) == (3, 2, 1)
    assert (facts["reporter_disputes"], facts["reporter_frauds"]) == (1, 1)
    assert (facts["pair_payments"], facts["amount_ratio"], facts["payee_age_days"]) == (2.0, 3.0, 2.0)
    assert (facts["hours_since"], facts["severity"], facts["reason_codes"]) == (24.0, 1, 1)
    assert facts.keys() == FACTS.keys()


def test_what_is_not_known_is_none_and_never_a_fault():
    found = context_of(report(), None, [], [])
    assert (found.role, found.known, found.facts["score"], found.facts["hours_since"]) == ("other", False, None, None)
    lost = context_of(report(), paid(pair_count_30d=None, payee_age=None, payer_sum_30d=None), [], [])
    assert (lost.facts["pair_payments"], lost.facts["payee_age_days"], lost.facts["amount_ratio"]) == (None, None, None)
    older = paid()._replace(counters={})
    assert TRIAGE.judge(report(), context_of(report(), older, [], [])).probability > 0


def test_a_body_of_a_hundred_longest_texts_in_escapes_is_taken():
    text = "\U0001f600" * MAX_TEXT
    body = json.dumps({"reports": [said(f"r-{n}", text=text) for n in range(MAX_REPORTS)]})
    assert len(body) > 2_400_000
    batch = ReportBatch.parse(body, NOON + timedelta(days=2))
    assert all(isinstance(each, ReportRequest) and each.text == text for each in batch.reports)
