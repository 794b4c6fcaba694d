"""The second market in the box: its demo's first payments by API and by stream, decided by its own policy and model."""

import json

import pytest

from fraud import packaged
from fraud.assembly import rule_book
from local.box import Box
from local.replay import decisions, replay, replay_by_stream
from models.simulation.markets import INDIA
from models.simulation.simulate import demo

LIMITS = {"LIMIT_AMOUNT", "LIMIT_PAYER_DAY", "LIMIT_INSTRUMENT_DAY"}
PAYMENTS = [each.transaction for each in demo(INDIA)[:80]]


@pytest.fixture(scope="module")
def rupees():
    with Box(parameters={"Currency": "INR"}) as box:
        yield box


def test_payments_in_rupees_are_decided_by_the_policy_and_the_model_in_rupees(rupees: Box) -> None:
    report = replay(PAYMENTS[:40], rupees.connect, repeats=10)
    report += replay_by_stream(PAYMENTS[40:], rupees, repeats=10)
    assert (report.decided, report.sound, report.refused.total()) == (80, True, 0)
    decided = [json.loads(answer) for answer in decisions(rupees).values()]
    assert {each["policy_version"] for each in decided} == {rule_book("INR").version}
    model = json.loads((packaged.model("INR") / "manifest.json").read_bytes())["version"]
    assert {each["model"]["version"] for each in decided} - {None} == {model}
    assert not [each for each in decided if {reason["code"] for reason in each["reasons"]} & LIMITS]


def test_yen_are_refused_by_a_stack_in_rupees(rupees: Box) -> None:
    with rupees.connect() as client:
        answer = client.request("POST", "/decisions", json.dumps(PAYMENTS[0] | {"currency": "JPY"}).encode())
    assert answer.status == 400
    assert [fault["rule"] for fault in json.loads(answer.body)["errors"]] == ["currency_not_supported"]
