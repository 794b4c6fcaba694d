"""Payments that are drawn for a blind review: no page of a person tells the decision before the verdict.

A small and a large payment are drawn, of which one is approved and the other one declined. Every page must look the
same for both, and have no word of the decision, until the verdict is written.
"""

import itertools
import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from fraud.cases.case import sample_id
from fraud.decisions.sampling import Sampling
from tests.integration.test_account_api import Party
from tests.integration.test_case_api import Person
from tests.integration.test_decision_api import fresh
from tests.integration.test_decision_events import batch
from tests.support.stack_doors import Taken

KEYS = {
    "decision",
    "outcome",
    "outcome_now",
    "score",
    "codes",
    "code",
    "contribution",
    "suppressed",
    "stratum",
    "sample",
}
WORDS = {"approve", "approved", "decline", "declined", "LIMIT_AMOUNT"}
"""Names and words of a decision. No page has any of them before the verdict."""

LOOKED_AT = {
    "/cases",
    "/cases/{case_id}",
    "/cases/{case_id}/evidence",
    "/analyst/accounts/{account_id}",
}
NO_PAYMENT = {"/analyst/actions", "/analyst/actions/{action_id}", "/analyst/orders/{order_id}", "/models"}
"""Pages of actions, orders and models: they may have ids of payments, and no decision."""

PEOPLE = Path(__file__).parents[2] / "docs" / "people.yaml"
QUEUE = {"receiptHandle": "h", "attributes": {}, "messageAttributes": {}, "md5OfBody": "0", "eventSource": "aws:sqs"}
QUEUE |= {"eventSourceARN": "arn:aws:sqs:us-east-1:123456789012:CaseQueue", "awsRegion": "us-east-1"}
_numbers = itertools.count()


class Drawn(NamedTuple):
    """A payment that was drawn, its blind case, and a case that somebody opened for it by hand."""

    payment: dict[str, Any]
    case: str
    by_hand: str
    outcome: str


@pytest.fixture(scope="module")
def hana(doors: Any) -> Person:
    return Person(doors["CaseApi"], "hana", "[analyst]")


@pytest.fixture(scope="module")
def reader(doors: Any) -> Party:
    return Party(doors["AnalystAccountApi"], "hana", "[analyst]")


@pytest.fixture
def drawn(  # noqa: PLR0913, PLR0917 - fixtures
    decision_events: Any, doors: Any, emulator: Any, hana: Person, published: Taken, monkeypatch: pytest.MonkeyPatch
) -> tuple[Drawn, ...]:
    """Draw an approved and a declined payment, and collect the evidence of their cases."""
    monkeypatch.setattr(decision_events._archive, "_sampling", Sampling.parse("approve=1,decline=1"))
    settings = decision_events._settings.model_copy(update={"published_share": 0.0})
    monkeypatch.setattr(decision_events, "_settings", settings)
    payments = [fresh(amount=amount, payee_id=f"blind-payee-{next(_numbers)}") for amount in (1_000, 900_000)]
    event = batch(doors["DecisionApi"], emulator, *payments)
    published()
    assert decision_events.handler(event, None) == {"batchItemFailures": []}
    told = [one for one in published() if one["detail-type"] == "PaymentSampled"]
    assert [one["detail"]["transaction_id"] for one in told] == [each["transaction_id"] for each in payments]
    assert not telling([one["detail"] for one in told])
    for _ in range(2):
        records = [{"messageId": str(n), "body": json.dumps(one)} | QUEUE for n, one in enumerate(told)]
        assert doors["CaseEvents"].handler({"Records": records}, None) == {"batchItemFailures": []}
    return tuple(
        opened(doors, hana, each, outcome) for each, outcome in zip(payments, ("approve", "decline"), strict=True)
    )


def opened(doors: Any, hana: Person, payment: dict[str, Any], outcome: str) -> Drawn:
    body = {"transaction_id": payment["transaction_id"], "subject_kind": "payer", "reason": "I doubt it"}
    status, by_hand = hana("POST /cases", body)
    assert status == 200
    one = Drawn(payment, sample_id(payment["transaction_id"]), by_hand["case_id"], outcome)
    for name in (one.case, one.by_hand):
        run(doors, "CollectEvidence", name)
        assert run(doors, "Triage", name) == {"route": "analyst"}
    return one


def run(doors: Any, state: str, name: str) -> Any:
    return doors["Investigation"].handler({"state": state, "version": 1, "case_id": name}, None)


def pages(one: Drawn, hana: Person, reader: Party) -> dict[str, Any]:
    """Return every page that shows a blind case or its payment, as a person sees it now."""
    subject = {"subject_kind": "payer", "subject_id": one.payment["payer_id"]}
    shown = {
        "list": hana("GET /cases", **subject),
        "case": hana("GET /cases/{case_id}", case=one.case),
        "evidence": hana("GET /cases/{case_id}/evidence", case=one.case),
        "case by hand": hana("GET /cases/{case_id}", case=one.by_hand),
        "evidence by hand": hana("GET /cases/{case_id}/evidence", case=one.by_hand),
        "payer": reader("GET /analyst/accounts/{account_id}", account_id=one.payment["payer_id"]),
        "payee": reader("GET /analyst/accounts/{account_id}", account_id=one.payment["payee_id"]),
    }
    assert {status for status, _ in shown.values()} == {200}
    return {name: body for name, (_, body) in shown.items()}


def shape(value: Any) -> Any:
    """Return a page without its values: the names, how many entries each list has, and the types."""
    if isinstance(value, dict):
        return {name: shape(each) for name, each in value.items()}
    if isinstance(value, list):
        return [shape(each) for each in value]
    return value is None or type(value).__name__.replace("int", "float")


def telling(value: Any) -> set[str]:
    """Return the names and words of a decision on a page, and any reason but those that every such case has."""
    if isinstance(value, dict):
        found = KEYS & value.keys() | {each for name in ("reasons", "reason") for each in reasons(value.get(name))}
        return found.union(*map(telling, value.values()))
    if isinstance(value, list):
        return set().union(*map(telling, value))
    return {value} & WORDS if isinstance(value, str) else set()


def reasons(said: Any) -> set[str]:
    return set(map(str, said if isinstance(said, list) else filter(None, [said]))) - {"SAMPLE", "BY_HAND"}


def test_every_page_of_a_person_that_shows_a_payment_is_looked_at_here():
    routes = yaml.safe_load(PEOPLE.read_text(encoding="utf-8"))["paths"]
    assert {path for path, methods in routes.items() if "get" in methods} == LOOKED_AT | NO_PAYMENT


def test_no_page_tells_the_decision_before_the_verdict_and_all_do_after_it(drawn, hana, reader):
    before = [pages(one, hana, reader) for one in drawn]
    assert [telling(page) for page in before] == [set(), set()]
    for name, approved in before[0].items():
        assert shape(approved) == shape(before[1][name]), name
    for one in drawn:
        acted = [hana.act(one.case, "take", 2), hana.act(one.case, "notes", 3, note="A mule pays like this.")]
        assert [status for status, _ in acted] == [200, 200]
        assert not telling([body for _, body in acted])
        assert hana.act(one.case, "outreach", 4, reason="ask")[0] == 409
        assert hana.act(one.case, "verdict", 4, finding="fraud", reason="a mule")[0] == 200
    for one in drawn:
        after = pages(one, hana, reader)
        for name in ("evidence", "evidence by hand"):
            (decision,) = after[name]["evidence"]["decisions"]
            assert decision["decision"]["outcome"] == one.outcome
        recent = [(each["transaction_id"], each["outcome"]) for each in after["payer"]["facts"]["recent"]]
        assert ((one.payment["transaction_id"], "decline") in recent) is (one.outcome == "decline")


def test_a_verdict_on_an_approved_payment_is_a_label_and_alters_neither_payment_nor_account(drawn, doors, hana, reader):
    for one in drawn:
        hana.act(one.case, "take", 2)
        assert hana.act(one.case, "verdict", 3, finding="fraud", reason="a mule")[0] == 200
        for state in ("ResolvePayments", "WriteLabels", "CloseCase"):
            run(doors, state, one.case)
        contents, resolution = doors["Investigation"]._investigation._parts.decisions.read(
            one.payment["transaction_id"]
        )
        assert (json.loads(contents.answer)["outcome"], resolution.changes) == (one.outcome, ())
        history = doors["Investigation"]._investigation._parts.labels.holding(one.payment["transaction_id"])
        assert history == "fraud"
        detail = {"case_id": one.case, "finding": "fraud", "subject_id": one.payment["payer_id"]}
        body = json.dumps({"detail-type": "CaseClosed", "source": "fraud", "detail": detail})
        doors["AccountEvents"].handler({"Records": [{"messageId": "m", "body": body} | QUEUE]}, None)
        account = reader("GET /analyst/accounts/{account_id}", account_id=one.payment["payer_id"])[1]
        assert (account["status"], account["action"], account["history"]) == ("active", None, [])
