"""A blind review in the box: two payments are drawn, wait for an analyst, and are judged; nothing else follows.

The box draws every payment and publishes no approved one, so only the draw brings these to the analyst.
"""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from fraud.cases.case import sample_id
from fraud.transaction import utc
from local.box import Box
from local.case_told import Desk

SHARES = {"SampleShares": "approve=1,decline=1", "PublishedShare": "0"}
AMOUNTS = {"approve": 1_000, "decline": 900_000}


@pytest.fixture(scope="module")
def drawing() -> Iterator[Box]:
    with Box(parameters=SHARES) as box:
        box.environments.invoke("Tick", {}, None)
        yield box


@pytest.mark.slow  # a box of its own
def test_drawn_payments_are_judged_blind_and_nothing_follows_but_labels(drawing: Box) -> None:
    now = drawing.clock.instant or datetime.now(UTC)
    with drawing.connect() as client, drawing.connect_person("hana", "analyst") as person:
        app, hana = Desk(client, now), Desk(person, now)
        for outcome, amount in AMOUNTS.items():
            payment = {"transaction_id": f"blind-{outcome}", "type": "p2p", "payer_id": f"blind-payer-{outcome}"}
            payment |= {"payee_id": "blind-payee", "currency": "JPY", "occurred_at": utc(now)}
            assert app.post("/decisions", **payment, amount=amount)["outcome"] == outcome
        drawing.settle()
        waiting = hana.get("/cases")["cases"]
        assert {case["case_id"] for case in waiting} == {sample_id(f"blind-{outcome}") for outcome in AMOUNTS}
        assert {(case["kind"], case["state"], case["reasons"][0]) for case in waiting} == {
            ("sample", "queued", "SAMPLE")
        }
        for number in range(len(AMOUNTS)):
            case = hana.post("/cases/next", request_id=f"r-{number}")["case"]
            path = f"/cases/{case['case_id']}"
            (seen,) = hana.get(f"{path}/evidence")["evidence"]["decisions"]
            assert seen.keys() == {"transaction", "counters", "normal"}
            hana.post(f"{path}/verdict", version=case["version"], finding="fraud", reason="a mule")
        drawing.settle()
        for outcome in AMOUNTS:
            assert hana.get(f"/cases/{sample_id(f'blind-{outcome}')}")["case"]["state"] == "closed"
            view = app.get(f"/decisions/blind-{outcome}")
            assert (view["decision"]["outcome"], len(view["history"])) == (outcome, 1)
            account = app.get(f"/accounts/blind-payer-{outcome}")
            assert (account["status"], account["action"]) == ("active", None)
