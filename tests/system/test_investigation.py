"""From an alert to a finding in the box: both APIs, streams, bus, queue and machine are the real ones.

A takeover that becomes a label and raises the next score, an honest payment that is released, a dispute that becomes no
label, and challenges that are passed, failed, and expired.
"""

import itertools
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any

import pytest

from fraud.cases.case import case_id
from fraud.cases.evidence import Evidence
from fraud.errors import NotFoundError
from fraud.transaction import utc
from local.api.client import Client
from local.box import Box

CROWD = 10
"""Payers who pay one new payee within minutes: the ninth and later ones are reviewed (FAN_IN_BURST)."""

NUMBERS = itertools.count()


class Desk:
    """The payment app at the box, and an analyst at the API for people."""

    def __init__(self, box: Box, app: Client, people: Client) -> None:
        self.box = box
        self._app, self._people = app, people
        variables = box.stack.functions[0].environment
        self._labels = variables["LABELS_TABLE"]
        self._days: dict[str, datetime] = {}

    @property
    def time(self) -> datetime:
        """The time of the box, whose clock other tests may have set."""
        return self.box.clock.instant or datetime.now(UTC)

    # --- the payment app

    def pay(self, payer: str, payee: str, amount: int = 5_000, at: datetime | None = None) -> dict[str, Any]:
        """Have a payment decided, and return the decision. The first payment with an account says the day of its case.

        at  the payment's own time; now without it
        """
        at = at or self.time
        for subject in (f"payer#{payer}", f"payee#{payee}"):
            self._days.setdefault(subject, at)
        payment = {
            "transaction_id": f"case-{next(NUMBERS)}",
            "type": "p2p",
            "payer_id": payer,
            "payee_id": payee,
            "amount": amount,
            "currency": "JPY",
            "occurred_at": utc(at),
            "device_id": f"device-of-{payer}",
        }
        return self._said("POST", "/decisions", payment)

    def crowd(self, payee: str) -> list[dict[str, Any]]:
        """Have a crowd pay one new payee, all at one time, and return the decisions that were reviewed."""
        at = self.time
        decided = [self.pay(f"payer-{n}-of-{payee}", payee, at=at) for n in range(CROWD)]
        reviewed = [one for one in decided if one["outcome"] == "review"]
        assert reviewed
        self.box.settle()
        return reviewed

    def challenged(self) -> str:
        """Have a payment decided that is challenged, and return its id."""
        number = next(NUMBERS)
        decided = self.pay(f"payer-{number}", f"payee-{number}", 120_000)
        assert decided["outcome"] == "challenge"
        return str(decided["transaction_id"])

    def answer(self, name: str, *, passed: bool) -> int:
        said = {"passed": passed, "method": "passkey", "at": utc(self.time)}
        return self._app.request("POST", f"/decisions/{name}/challenge", json.dumps(said).encode()).status

    def now(self, name: str) -> tuple[str, str]:
        """Return status and outcome of a decision as GET shows them."""
        shown = self._said("GET", f"/decisions/{name}")
        return shown["status"], shown["outcome_now"]

    def report(self, transaction: dict[str, Any], category: str, text: str) -> str:
        """Say what a user reports about a payment, and return the verdict of triage."""
        report = {
            "report_id": f"report-{next(NUMBERS)}",
            "transaction_id": transaction["transaction_id"],
            "reporter_id": "a-user",
            "category": category,
            "text": text,
            "reported_at": utc(self.time),
        }
        (answer,) = self._said("POST", "/reports", {"reports": [report]})["results"]
        self.box.settle()
        assert answer["status"] == "accepted"
        return str(answer["report"]["triage"]["verdict"])

    def _said(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        return said(self._app, method, path, body)

    # --- the analyst

    def case(self, kind: str, subject: str) -> dict[str, Any]:
        """Return the case of a subject and the day of its first payment, which midnight may have ended by now."""
        return self.seen(case_id(f"{kind}#{subject}", self._days[f"{kind}#{subject}"]))

    def seen(self, name: str) -> dict[str, Any]:
        shown: dict[str, Any] = said(self._people, "GET", f"/cases/{name}")["case"]
        return shown

    def evidence(self, case: dict[str, Any]) -> Evidence:
        return Evidence.model_validate(said(self._people, "GET", f"/cases/{case['case_id']}/evidence")["evidence"])

    def does(self, case: dict[str, Any], action: str, **more: Any) -> dict[str, Any]:
        """Do something with a case as it was seen, and wait until all is quiet. Return the case as it is then."""
        said(self._people, "POST", f"/cases/{case['case_id']}/{action}", {"version": case["version"], **more})
        self.box.settle()
        return self.seen(case["case_id"])

    def labels(self, transaction_id: str) -> list[str]:
        row = self.box.client("dynamodb").get_item(TableName=self._labels, Key={"pk": {"S": transaction_id}})
        return [said["M"]["label"]["S"] for said in row.get("Item", {}).get("history", {"L": []})["L"]]

    def execution(self, case: dict[str, Any]) -> str:
        (machine,) = (arn for arn in self.box.stack.machines if arn.endswith("-investigation"))
        arn = machine.replace("stateMachine", "execution") + f":{case['case_id']}"
        return str(self.box.client("stepfunctions").describe_execution(executionArn=arn)["status"])


def said(client: Client, method: str, path: str, body: Any = None) -> dict[str, Any]:
    """Send a request that succeeds, and return the body of the response."""
    response = client.request(method, path, b"" if body is None else json.dumps(body).encode())
    if response.status == HTTPStatus.NOT_FOUND:
        raise NotFoundError
    assert response.status == HTTPStatus.OK, response.body
    found: dict[str, Any] = json.loads(response.body)
    return found


@pytest.fixture
def desk(box: Box) -> Iterator[Desk]:
    box.environments.invoke("Tick", {}, None)
    with box.connect() as app, box.connect_person("analyst-1", "analyst") as people:
        yield Desk(box, app, people)


def test_takeover_becomes_a_label_and_raises_the_score_of_the_next_payment_to_the_payee(desk: Desk) -> None:
    payee = f"mule-of-a-case-{next(NUMBERS)}"
    reviewed = desk.crowd(payee)
    names = [one["transaction_id"] for one in reviewed]
    case = desk.case("payee", payee)
    assert (case["state"], set(case["alerts"]), desk.execution(case)) == ("queued", set(names), "RUNNING")

    evidence = desk.evidence(case)
    assert {one.decision["reasons"][0]["code"] for one in evidence.decisions} == {"FAN_IN_BURST"}
    assert {page.account_id for page in evidence.accounts} == set(evidence.decisions[0].parties)
    assert any(page.links for page in evidence.accounts)

    case = desk.does(case, "take")
    case = desk.does(case, "outreach", reason="ask the payers")
    assert case["state"] == "outreach"
    case = desk.does(case, "outreach/attempts", note="called")
    case = desk.does(case, "outreach/answer", answer="denies")
    assert (case["state"], desk.execution(case)) == ("assigned", "RUNNING")
    case = desk.does(case, "verdict", finding="fraud", reason="the payers do not know the payee")
    assert (case["state"], desk.execution(case)) == ("closed", "SUCCEEDED")

    assert {desk.now(name) for name in names} == {("final", "decline")}
    assert [desk.labels(name) for name in names] == [["fraud"]] * len(names)
    after = desk.pay(f"next-payer-of-{payee}", payee)
    assert after["score"] > max(one["score"] for one in reviewed)


def test_honest_payment_is_released(desk: Desk) -> None:
    payee = f"club-{next(NUMBERS)}"
    (first, *_) = desk.crowd(payee)
    name = first["transaction_id"]
    case = desk.does(desk.case("payee", payee), "take")
    case = desk.does(case, "verdict", finding="legitimate", reason="a club collects its fees")
    assert (case["state"], desk.now(name), desk.labels(name)) == ("closed", ("final", "approve"), ["legitimate"])


def test_dispute_becomes_no_label(desk: Desk) -> None:
    payee = f"shop-{next(NUMBERS)}"
    paid = desk.pay("a-user", payee)
    desk.box.settle()
    verdict = desk.report(paid, "not_as_described", "The bag is smaller than in the picture. I want my money back.")
    if verdict == "dispute":  # answered at once; a second report says more
        with pytest.raises(NotFoundError):
            desk.case("payee", payee)
        verdict = desk.report(paid, "fake_shop", "The shop does not answer, and the bag is not what I ordered.")
    assert verdict != "dispute"
    case = desk.case("payee", payee)
    assert (case["alerts"], len(case["reports"])) == ([paid["transaction_id"]], 1)
    case = desk.does(case, "take")
    case = desk.does(case, "verdict", finding="dispute", reason="the goods differ from the description")
    assert (case["state"], desk.labels(paid["transaction_id"])) == ("closed", [])


def test_passed_challenge_approves_and_opens_no_case(desk: Desk) -> None:
    name = desk.challenged()
    assert desk.answer(name, passed=True) == 200
    desk.box.settle()
    assert desk.now(name) == ("final", "approve")


def test_failed_challenge_declines_and_opens_a_case(desk: Desk) -> None:
    number = next(NUMBERS)
    decided = desk.pay(f"failed-{number}", f"payee-of-failed-{number}", 120_000)
    name = decided["transaction_id"]
    assert desk.answer(name, passed=False) == 200
    desk.box.settle()
    case = desk.case("payer", f"failed-{number}")
    assert (desk.now(name), case["alerts"], case["state"]) == (("final", "decline"), [name], "queued")


def test_challenge_that_nobody_answers_in_time_declines(desk: Desk) -> None:
    name = desk.challenged()
    past = utc(desk.time - timedelta(seconds=1))
    desk.box.client("dynamodb").update_item(  # its ten minutes are over
        TableName="DecisionsTable",
        Key={"pk": {"S": name}},
        UpdateExpression="SET due = :past",
        ExpressionAttributeValues={":past": {"S": past}},
    )
    assert desk.now(name) == ("final", "decline")
    assert desk.answer(name, passed=True) == 409
    desk.box.environments.invoke("Sweep", {}, None)
    desk.box.settle()
    assert desk.now(name) == ("final", "decline")
