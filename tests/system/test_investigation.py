"""From an alert to a finding in the box: real APIs, streams, bus, queue and machine; people's steps by the library.

A takeover that becomes a label and raises the next score, an honest payment that is released, a dispute that becomes no
label, and challenges that are passed, failed, and expired.
"""

import itertools
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fraud import assembly
from fraud.cases.case import Actor, Case, CaseEvent, State, case_id
from fraud.cases.evidence import Evidence
from fraud.cases.store import Cases, Snapshots
from fraud.errors import NotFoundError
from fraud.settings import Settings
from fraud.transaction import utc
from local.account.boto import KEY_ID, REGION, SECRET
from local.api.client import Client
from local.box import Box

ANALYST = Actor("analyst-1", "analyst")
CROWD = 10
"""Payers who pay one new payee within minutes: the ninth and later ones are reviewed (FAN_IN_BURST)."""

NUMBERS = itertools.count()


class Desk:
    """An analyst's desk at the box. People's steps go through the library, as the door of cases takes them."""

    def __init__(self, box: Box, client: Client) -> None:
        self.box = box
        self._client = client
        settings = Settings.from_environment()
        self._cases = Cases(settings)
        self._snapshots = Snapshots(settings)
        self._executions = assembly.case_executions(settings)
        self._bus = settings.event_bus_name
        self._labels = settings.labels_table

    # --- the payment app

    def pay(self, payer: str, payee: str, amount: int = 5_000) -> dict[str, Any]:
        """Have a payment decided, and return the decision."""
        payment = {
            "transaction_id": f"case-{next(NUMBERS)}",
            "type": "p2p",
            "payer_id": payer,
            "payee_id": payee,
            "amount": amount,
            "currency": "JPY",
            "occurred_at": utc(datetime.now(UTC)),
            "device_id": f"device-of-{payer}",
        }
        return self._said("POST", "/decisions", payment)

    def crowd(self, payee: str) -> list[dict[str, Any]]:
        """Have a crowd pay one new payee, and return the decisions that were reviewed."""
        decided = [self.pay(f"payer-{n}-of-{payee}", payee) for n in range(CROWD)]
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
        said = {"passed": passed, "method": "passkey", "at": utc(datetime.now(UTC))}
        return self._client.request("POST", f"/decisions/{name}/challenge", json.dumps(said).encode()).status

    def now(self, name: str) -> tuple[str, str]:
        """Return status and outcome of a decision as GET shows them."""
        shown = self._said("GET", f"/decisions/{name}")
        return shown["status"], shown["outcome_now"]

    def report(self, transaction: dict[str, Any], payee: str, verdict: str) -> None:
        """Put a report of a user on the bus, as triage of reports does."""
        at = utc(datetime.now(UTC))
        detail = {
            "version": "1",
            "report_id": f"report-{next(NUMBERS)}",
            "transaction_id": transaction["transaction_id"],
            "reporter_id": "a-user",
            "payer_id": "a-user",
            "payee_id": payee,
            "occurred_at": at,
            "reported_at": at,
            "category": "not_as_described",
            "verdict": verdict,
        }
        entry = {"Source": "fraud", "DetailType": "ReportReceived", "Detail": json.dumps(detail)}
        self.box.client("events").put_events(Entries=[entry | {"EventBusName": self._bus}])
        self.box.settle()

    def _said(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        answer = self._client.request(method, path, b"" if body is None else json.dumps(body).encode())
        assert answer.status == 200, answer.body
        said: dict[str, Any] = json.loads(answer.body)
        return said

    # --- the analyst

    def case(self, kind: str, subject: str) -> Case:
        return self._cases.get(case_id(f"{kind}#{subject}", datetime.now(UTC)))

    def evidence(self, case: Case) -> Evidence:
        document = self._snapshots.read(case.case_id)
        assert document is not None
        return Evidence.model_validate_json(document)

    def does(self, case: Case, kind: Any, **said: Any) -> Case:
        """Cause an event of a case, tell its execution, and wait until all is quiet."""
        event, now = CaseEvent(kind=kind, **said), datetime.now(UTC)
        changed = self._cases.change(case.case_id, event, ANALYST, now, seen=case.version)
        self._executions.follow(changed)
        self.box.settle()
        return self._cases.get(case.case_id)

    def labels(self, transaction_id: str) -> list[str]:
        row = self.box.client("dynamodb").get_item(TableName=self._labels, Key={"pk": {"S": transaction_id}})
        return [said["M"]["label"]["S"] for said in row.get("Item", {}).get("history", {"L": []})["L"]]

    def execution(self, case: Case) -> str:
        arn = self.box.stack.machines[0].replace("stateMachine", "execution") + f":{case.case_id}"
        return str(self.box.client("stepfunctions").describe_execution(executionArn=arn)["status"])


@pytest.fixture
def desk(box: Box, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    box.environments.invoke("Tick", {}, None)
    keys = {"AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_DEFAULT_REGION": REGION}
    (function,) = (one for one in box.stack.functions if one.name == "CaseEvents")
    for name, value in {**function.environment, **keys, "AWS_REGION": REGION}.items():
        monkeypatch.setenv(name, value)
    with box.connect() as client:
        yield Desk(box, client)


def test_takeover_becomes_a_label_and_raises_the_score_of_the_next_payment_to_the_payee(desk: Desk) -> None:
    payee = f"mule-{next(NUMBERS)}"
    reviewed = desk.crowd(payee)
    names = [one["transaction_id"] for one in reviewed]
    case = desk.case("payee", payee)
    assert (case.state, set(case.alerts), desk.execution(case)) == (State.QUEUED, set(names), "RUNNING")

    evidence = desk.evidence(case)
    assert {one.decision["reasons"][0]["code"] for one in evidence.decisions} == {"FAN_IN_BURST"}
    assert {page.account_id for page in evidence.accounts} == set(evidence.decisions[0].parties)
    assert any(page.links for page in evidence.accounts)

    case = desk.does(case, "taken")
    case = desk.does(case, "outreach_asked")
    assert case.state is State.OUTREACH
    case = desk.does(case, "outreach_attempted", note="called")
    case = desk.does(case, "outreach_answered", answer="denies")
    assert (case.state, desk.execution(case)) == (State.ASSIGNED, "RUNNING")
    case = desk.does(case, "judged", finding="fraud", note="the payers do not know the payee")
    assert (case.state, desk.execution(case)) == (State.CLOSED, "SUCCEEDED")

    assert {desk.now(name) for name in names} == {("final", "decline")}
    assert [desk.labels(name) for name in names] == [["fraud"]] * len(names)
    after = desk.pay(f"next-payer-of-{payee}", payee)
    assert after["score"] > max(one["score"] for one in reviewed)


def test_honest_payment_is_released(desk: Desk) -> None:
    payee = f"club-{next(NUMBERS)}"
    (first, *_) = desk.crowd(payee)
    name = first["transaction_id"]
    case = desk.does(desk.case("payee", payee), "taken")
    case = desk.does(case, "judged", finding="legitimate", note="a club collects its fees")
    assert (case.state, desk.now(name), desk.labels(name)) == (State.CLOSED, ("final", "approve"), ["legitimate"])


def test_dispute_becomes_no_label(desk: Desk) -> None:
    payee = f"shop-{next(NUMBERS)}"
    paid = desk.pay("a-user", payee)
    desk.box.settle()
    desk.report(paid, payee, "dispute")
    with pytest.raises(NotFoundError):
        desk.case("payee", payee)
    desk.report(paid, payee, "unsure")
    case = desk.case("payee", payee)
    assert (case.alerts, len(case.reports)) == ((paid["transaction_id"],), 1)
    case = desk.does(case, "taken")
    case = desk.does(case, "judged", finding="dispute", note="the goods differ from the description")
    assert (case.state, desk.labels(paid["transaction_id"])) == (State.CLOSED, [])


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
    assert (desk.now(name), case.alerts, case.state) == (("final", "decline"), (name,), State.QUEUED)


def test_challenge_that_nobody_answers_in_time_declines(desk: Desk) -> None:
    name = desk.challenged()
    past = utc(datetime.now(UTC) - timedelta(seconds=1))
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
