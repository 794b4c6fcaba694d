"""Log lines are metrics that CloudWatch can read, and hold no personal data."""

import json
from typing import Any

import pytest

from fraud import settings
from fraud.aws.metrics import log_refusal
from fraud.counters.fold import TickResult, WorkResult
from fraud.counters.layout import LEVELS, Item
from fraud.counters.metrics import log_fold, log_tick
from fraud.decisions.evaluation import Evaluation, Evaluator
from fraud.decisions.metrics import log_evaluation
from fraud.errors import Fault, InvalidRequestError, UnavailableError
from fraud.labels.label import LabelResult
from fraud.labels.metrics import log_labels
from fraud.packaged import policy
from fraud.rules.rule_book import RuleBook
from tests.support.fakes import FixedScorer, InMemoryStore, Trouble
from tests.support.payments import NOON, payment, updates

PERSONAL = {
    "payer_id": "SECRET-payer",
    "payee_id": "SECRET-payee",
    "device_id": "SECRET-device",
    "instrument_id": "SECRET-instrument",
    "payer_name": "SECRET 花子",
    "payee_name": "SECRET 太郎",
    "ip": "203.0.113.77",
    "metadata": {"SECRET": "SECRET"},
    "campaign_id": "SECRET-campaign",
}


def line(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """Return the one line that was written."""
    written = capsys.readouterr()
    assert written.err == ""
    assert written.out.count("\n") == 1
    assert "SECRET" not in written.out
    assert "203.0.113.77" not in written.out
    parsed: dict[str, Any] = json.loads(written.out)
    return parsed


def metrics(parsed: dict[str, Any]) -> dict[str, tuple[str, float]]:
    """Return (unit, value) by metric, as CloudWatch extracts them from a line."""
    (definition,) = parsed["_aws"]["CloudWatchMetrics"]
    assert definition["Namespace"] == f"Fraud/{settings.stage()}"
    assert all(isinstance(parsed[name], str) for (*names,) in definition["Dimensions"] for name in names)
    assert parsed["_aws"]["Timestamp"] > 1_700_000_000_000
    return {metric["Name"]: (metric["Unit"], parsed[metric["Name"]]) for metric in definition["Metrics"]}


def test_a_decision_is_one_line_without_personal_data(capsys):
    evaluator = Evaluator(
        InMemoryStore(), FixedScorer(0.6), RuleBook.load(policy("JPY").read_bytes()), lambda: NOON, 10
    )
    log_evaluation(evaluator.evaluate(payment(**PERSONAL)), "api")
    parsed = line(capsys)
    assert {name: unit for name, (unit, _) in metrics(parsed).items()} == {
        "Decisions": "Count",
        "DegradedDecisions": "Count",
        "StateMs": "Milliseconds",
        "ModelMs": "Milliseconds",
        "RulesMs": "Milliseconds",
    }
    assert parsed["_aws"]["CloudWatchMetrics"][0]["Dimensions"] == [["Outcome", "Door"], ["Door"]]
    assert (parsed["Outcome"], parsed["Door"], parsed["transaction_id"]) == ("review", "api", "t-1")
    assert (parsed["score"], parsed["codes"], parsed["model"]) == (0.6, ["AMOUNT_UNUSUAL"], "fixed")


def test_a_decision_on_a_sampled_item_names_its_kind_and_is_not_degraded(capsys):
    store, paid = InMemoryStore(), payment(**PERSONAL)
    store.counters.items[updates(paid)[1].key] = Item(level=LEVELS - 1)
    evaluator = Evaluator(store, FixedScorer(0.1), RuleBook.load(policy("JPY").read_bytes()), lambda: NOON, 10)
    log_evaluation(evaluator.evaluate(paid), "stream")
    parsed = line(capsys)
    assert metrics(parsed)["DegradedDecisions"] == ("Count", 0)
    assert (parsed["estimated"], parsed["degraded"]) == (["payee"], [])


@pytest.mark.parametrize(
    ("lost", "part", "degraded"),
    [(["payee", "device"], "counter", ["counter:device", "counter:payee"]), (["payer"], "state", ["state"])],
)
def test_a_decision_without_counters_says_which_and_a_line_before_it_has_the_cause(capsys, lost, part, degraded):
    store, paid = InMemoryStore(), payment(**PERSONAL)
    store.trouble[paid.transaction_id] = Trouble(lost=lost, error=UnavailableError("DeadlineExceeded"))
    evaluator = Evaluator(store, FixedScorer(0.1), RuleBook.load(policy("JPY").read_bytes()), lambda: NOON, 10)
    log_evaluation(evaluator.evaluate(paid), "stream")
    written = capsys.readouterr().out
    assert "SECRET" not in written
    cause, decision = map(json.loads, written.splitlines())
    assert (cause["Part"], cause["cause"]) == (part, "DeadlineExceeded")
    assert metrics(decision)["DegradedDecisions"] == ("Count", 1)
    assert decision["degraded"] == degraded


def test_a_repeat_is_counted_as_a_repeat(capsys):
    log_evaluation(Evaluation(b'{"SECRET":"SECRET"}', None), "stream")
    parsed = line(capsys)
    assert metrics(parsed) == {"Decisions": ("Count", 1)}
    assert parsed["_aws"]["CloudWatchMetrics"][0]["Dimensions"] == [["Outcome", "Door"]]
    assert (parsed["Outcome"], parsed["Door"]) == ("repeat", "stream")


def test_a_refusal_is_logged_by_its_class_and_not_by_its_text(capsys):
    error = InvalidRequestError((Fault("SECRET", "unknown_field", "SECRET"),))
    log_refusal(error, "api")
    parsed = line(capsys)
    assert metrics(parsed) == {"Refusals": ("Count", 1)}
    assert (parsed["Error"], parsed["status"], parsed["rules"]) == ("InvalidRequestError", 400, ["unknown_field"])
    assert "code" not in parsed


def test_a_refusal_is_logged_with_the_services_own_code(capsys):
    log_refusal(UnavailableError("ThrottlingException"), "stream")
    parsed = line(capsys)
    assert (parsed["Error"], parsed["code"], parsed["Door"]) == ("UnavailableError", "ThrottlingException", "stream")
    assert parsed["status"] == 503
    assert "rules" not in parsed


def test_an_error_that_is_not_the_librarys_is_logged_as_an_internal_one(capsys):
    log_refusal(KeyError("SECRET"), "fold")
    parsed = line(capsys)
    assert (parsed["Error"], parsed["status"]) == ("KeyError", 500)
    assert not {"code", "rules"} & parsed.keys()


def test_labels_are_counted_by_their_result_and_faults_logged_by_their_rule(capsys):
    fault = Fault("payer_id", "contradiction", "SECRET")
    accepted, rejected = (
        LabelResult(transaction_id="SECRET", status=status, errors=errors)
        for status, errors in (("accepted", []), ("rejected", [fault, fault]))
    )
    log_labels([accepted, rejected, accepted], "analyst", "labels")
    parsed = line(capsys)
    assert metrics(parsed) == {"Accepted": ("Count", 2), "Unchanged": ("Count", 0), "Rejected": ("Count", 1)}
    assert (parsed["Source"], parsed["Door"], parsed["rules"]) == ("analyst", "labels", ["contradiction"])


def test_the_fold_logs_its_lag_and_its_work(capsys):
    log_tick(TickResult(lag_seconds=0, slices=0, folded=3))
    assert metrics(line(capsys)) == {
        "FoldLagSeconds": ("Seconds", 0),
        "FoldSlicesBehind": ("Count", 0),
        "FoldedItems": ("Count", 3),
    }
    log_fold(WorkResult(items=7, periods=2))
    assert metrics(line(capsys)) == {"FoldedItems": ("Count", 7), "FoldedPeriods": ("Count", 2)}
