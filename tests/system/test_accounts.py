"""From a finding to its end in the box: both APIs, bus, queue, machine and sweep are the real ones.

A mule that is deactivated until the appeal window closes, an innocent who gets a way back, an app that never
acknowledges, and an order that needs two people. Waiting times are over when the sweep is told a later time.
"""

import itertools
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fraud.transaction import utc
from local.box import Box
from local.case_told import Desk

JUDGE, REVIEWER = "mio", "ren"
NUMBERS = itertools.count()
NOTICE, WINDOW = timedelta(minutes=15), timedelta(days=14)
SECOND = timedelta(seconds=1)


class Office:
    """The payment app, a lead who judges, and a lead who reviews, at the box."""

    def __init__(self, box: Box, app: Desk, judge: Desk, reviewer: Desk) -> None:
        self.box, self.app, self.judge, self.reviewer = box, app, judge, reviewer
        self.number = next(NUMBERS)

    @property
    def time(self) -> datetime:
        """The time of the box, whose clock other tests may have set."""
        return self.box.clock.instant or datetime.now(UTC)

    def pay(self, payer: str, payee: str, device: str) -> dict[str, Any]:
        """Have a payment decided, and return the decision."""
        decided: dict[str, Any] = self.app.post(
            "/decisions",
            transaction_id=f"account-{next(NUMBERS)}",
            type="p2p",
            payer_id=payer,
            payee_id=payee,
            amount=1_000,
            currency="JPY",
            occurred_at=utc(self.time),
            device_id=device,
        )
        return decided

    def found(self, account: str) -> dict[str, Any]:
        """Have a case about an account as payer end as fraud, and return the action that follows."""
        paid = self.pay(account, f"payee-{self.number}", f"device-of-{account}")
        self.box.settle()
        name = paid["transaction_id"]
        case = self.judge.post("/cases", transaction_id=name, subject_kind="payer", reason="a call from the police")
        self.box.settle()
        path = f"/cases/{case['case_id']}"
        version = self.judge.get(path)["case"]["version"]
        self.judge.post(f"{path}/verdict", version=version, finding="fraud", subject_is="offender", reason="a mule")
        self.box.settle()
        action: dict[str, Any] = self.seen(account)["action"]
        return action

    def seen(self, account: str) -> dict[str, Any]:
        """Return what the app sees of an account."""
        shown: dict[str, Any] = self.app.get(f"/accounts/{account}")
        return shown

    def action(self, action: dict[str, Any]) -> dict[str, Any]:
        shown: dict[str, Any] = self.judge.get(f"/analyst/actions/{action['action_id']}")
        return shown

    def acknowledge(self, action: dict[str, Any], status: str) -> None:
        self.app.post(f"/accounts/{action['account_id']}/actions/{action['action_id']}/ack", status=status)
        self.box.settle()

    def sweep(self, at: datetime) -> None:
        """Let the sweep look at what is due at a time, and wait until all is quiet."""
        self.box.environments.invoke("AccountSweep", {}, at)
        self.box.settle()

    def execution(self, action: dict[str, Any]) -> str:
        (machine,) = (arn for arn in self.box.stack.machines if arn.endswith("-deactivation"))
        arn = machine.replace("stateMachine", "execution") + f":{action['action_id']}"
        return str(self.box.client("stepfunctions").describe_execution(executionArn=arn)["status"])

    def labels(self, transaction_id: str) -> list[str]:
        table = self.box.stack.functions[0].environment["LABELS_TABLE"]
        row = self.box.client("dynamodb").get_item(TableName=table, Key={"pk": {"S": transaction_id}})["Item"]
        return [said["M"]["label"]["S"] for said in row["history"]["L"]]

    def logged(self, metric: str, action: dict[str, Any]) -> bool:
        """Tell whether the log of the steps has a metric of an action."""
        lines = [line for path in self.box.logs.iterdir() for line in path.read_text(errors="replace").splitlines()]
        return any(f'"{metric}":1' in line and action["action_id"] in line for line in lines)


@pytest.fixture
def office(box: Box) -> Iterator[Office]:
    box.environments.invoke("Tick", {}, None)
    now = box.clock.instant or datetime.now(UTC)
    with (
        box.connect() as app,
        box.connect_person(JUDGE, "lead") as judge,
        box.connect_person(REVIEWER, "lead") as reviewer,
    ):
        yield Office(box, Desk(app, now), Desk(judge, now), Desk(reviewer, now))


def test_a_mule_is_held_deactivated_acknowledged_and_closed_when_the_window_is_over(office: Office) -> None:
    account = f"mule-{office.number}"
    action = office.found(account)
    assert (action["state"], action["notices"], office.execution(action)) == ("deactivated", 1, "RUNNING")
    seen = office.seen(account)
    steps = [change["what"] for change in seen["history"]]
    assert steps == ["opened", "slot_taken", "held", "settled", "entry_added", "listed", "deactivated"]
    assert [one["value"] for one in action["entries"]] == [f"device-of-{account}"]
    declined = office.pay(account, f"friend-{office.number}", f"another-device-of-{account}")
    assert (seen["status"], declined["outcome"]) == ("deactivated", "decline")

    office.acknowledge(action, "deactivated")
    assert office.action(action)["state"] == "appealable"
    office.sweep(office.time + WINDOW - timedelta(minutes=1))
    assert office.action(action)["state"] == "appealable"
    office.sweep(office.time + WINDOW + timedelta(minutes=1))
    assert (office.action(action)["state"], office.execution(action)) == ("closed", "SUCCEEDED")
    assert office.seen(account)["status"] == "deactivated"


def test_an_innocent_gets_back_what_the_action_took(office: Office) -> None:
    account = f"innocent-{office.number}"
    device = f"device-of-{account}"
    held = office.app.post(f"/accounts/{account}/hold", reason="a new device")
    assert (held["status"], office.pay(account, "a-friend", device)["outcome"]) == ("held", "decline")
    office.app.post(f"/accounts/{account}/release", reason="it is the user's own")
    action = office.found(account)
    office.acknowledge(action, "deactivated")
    office.app.post(f"/accounts/{account}/appeal", appeal_id="appeal-1", text="It was me who paid.")
    office.box.settle()
    waiting = office.reviewer.get("/analyst/actions?state=appealed")["actions"]
    assert action["action_id"] in {one["action_id"] for one in waiting}
    with pytest.raises(RuntimeError, match="403"):  # nobody reviews his or her own finding
        office.judge.post(f"/analyst/actions/{action['action_id']}/review", decision="uphold", reason="I was right")
    said = {"decision": "overturn", "reason": "the payee is a sister", "told": "We are sorry."}
    office.reviewer.post(f"/analyst/actions/{action['action_id']}/review", **said)
    office.box.settle()
    after = office.action(action)
    assert (after["state"], after["entries"], after["notices"]) == ("corrected", [], 1)
    office.acknowledge(action, "active")
    assert (office.action(action)["state"], office.execution(action)) == ("reinstated", "SUCCEEDED")
    seen = office.seen(account)
    assert (seen["status"], seen["hold"], seen["action"]) == ("active", None, None)
    assert office.labels(action["cause"]["transaction_ids"][0]) == ["fraud", "legitimate"]
    assert office.pay(account, "a-friend", device)["outcome"] != "decline"


def test_an_app_that_never_acknowledges_is_told_three_times_and_then_an_alarm_fires(office: Office) -> None:
    action = office.found(f"unheard-{office.number}")
    told = []
    for number in range(1, 4):
        assert not office.logged("ActionsUnacknowledged", action)
        office.sweep(office.time + number * (NOTICE + SECOND))
        told.append((office.action(action)["state"], office.action(action)["notices"]))
    assert told == [("deactivated", 2), ("deactivated", 3), ("appealable", 0)]
    assert office.logged("ActionsUnacknowledged", action)
    office.acknowledge(action, "deactivated")
    assert office.action(action)["acknowledged"] == ["deactivated"]


def test_an_order_of_four_accounts_waits_for_another_lead(office: Office) -> None:
    accounts = [f"ordered-{office.number}-{n}" for n in range(4)]
    said = {"order_id": f"order-{office.number}", "account_ids": accounts, "reason": "mules of one recruiter"}
    assert office.judge.post("/analyst/orders", **said)["state"] == "pending"
    path = f"/analyst/orders/{said['order_id']}"
    with pytest.raises(RuntimeError, match="403"):
        office.judge.post(f"{path}/approve", reason="mules")
    assert office.reviewer.post(f"{path}/cancel", reason="one of them is a shop")["state"] == "cancelled"
    assert {office.seen(account)["status"] for account in accounts} == {"active"}
    one = office.judge.post(
        "/analyst/orders", order_id=f"{said['order_id']}-1", account_ids=accounts[:1], reason="a mule"
    )
    office.box.settle()
    assert (one["state"], office.seen(accounts[0])["status"]) == ("done", "deactivated")
    assert json.dumps(office.seen(accounts[0])["history"]).count(JUDGE) >= 1
