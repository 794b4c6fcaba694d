"""`python -m tests.acceptance.shadow` in small, and what a decision's row and log say beside a challenger."""

import json

import pytest

from fraud.decisions.metrics import log_evaluation
from fraud.decisions.record import read_beside
from fraud.scoring.registry import ModelPointer
from tests.acceptance.shadow import START, Environment, compared, in_memory
from tests.support.deployment import TABLES
from tests.support.in_memory_dynamodb import InMemoryDynamoDB
from tests.support.payments import payment
from tests.support.registered import moved, named, pointed, published

CHALLENGER = moved(0.7, 8)


def test_a_challenger_changes_no_decision_and_its_score_is_kept():
    found = compared(60, CHALLENGER)
    assert found.changed == 0
    assert found.recorded == found.scored > 30


def test_every_environment_decides_by_a_new_champion_within_a_minute():
    followed = in_memory()
    assert followed.sound
    assert followed.old > 10


@pytest.mark.parametrize(("share", "variant"), [(0.0, "champion"), (0.5, "champion"), (0.5, "challenger")])
def test_row_and_log_say_which_model_decided_and_what_the_other_one_said(share, variant, capsys):
    table = InMemoryDynamoDB()
    published(table, CHALLENGER)
    pointer = ModelPointer().begin_shadow(named(CHALLENGER))
    pointed(table, pointer.begin_canary(named(CHALLENGER).version, share))
    environment = Environment(table)
    for number in range(20):
        body = payment(transaction_id=f"t-{number}", payer_id=f"p-{number}", occurred_at=START)
        evaluation = environment.evaluator.evaluate(body)
        if evaluation.variant == variant:
            break
    assert evaluation.variant == variant
    assert evaluation.decision is not None
    own, (other, score) = (
        evaluation.decision.model.version,
        read_beside(table.tables[TABLES.decisions][body.transaction_id,]["beside"]),
    )
    assert (own == named(CHALLENGER).version) == (variant == "challenger")
    assert (other == named(CHALLENGER).version) == (variant == "champion")
    assert score != evaluation.decision.score
    assert b"beside" not in evaluation.answer
    capsys.readouterr()
    log_evaluation(evaluation, "decision_api")
    _, line = map(json.loads, capsys.readouterr().out.splitlines())
    assert (line["Variant"], line["Decisions"]) == (variant, 1)
    assert line["Stopped"] == (evaluation.decision.outcome != "approve")
