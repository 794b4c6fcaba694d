"""The machine `graph` in a box with the real job: published, a job that dies, refused by its gate, a case, links."""

import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from fraud.activity.store import suggestions_of
from fraud.activity.suggested import SUGGESTED, Suggestions
from fraud.counters.codec import profile_of
from fraud.marks.mark import Mark, mark_of
from fraud.marks.pointer import MarksPointer
from fraud.transaction import utc
from local import simulated_graph
from local.account.boto import session
from local.box import Box
from local.case_told import Desk
from models.simulation.networks import PATTERNS, Network, simulate_networks
from models.simulation.simulate import DEFAULT_START
from operations.erase import unlinked
from tests.support.histories import by_time, to_a_friend

DAYS = 64
PLAN = {
    "views": ["invite", "shared_instrument"],
    "history_days": DAYS,
    "page": 200,
    "gate": {"marked": [0.0, 0.5], "factor": 2.0},
}
"""Few people: so many are marked that the limits of a large app would refuse them."""

OF = {each.name: each for each in PATTERNS}
COUPLES = replace(OF["couple"], share=100, ring=0.0)
CHAINS = replace(OF["relay_chain"], share=5, ring=0.95, size=(7, 8))
"""Chains that fork are rings nearly always, and there are enough of them for a bound."""

RUNS = itertools.count()


class Stage:
    """A box with the archive of a network, at the end of its days."""

    def __init__(self, box: Box) -> None:
        self.box = box
        self.now = DEFAULT_START + timedelta(days=DAYS)
        box.clock.advance(self.now)
        box.settle(60)
        self._dynamodb, self._s3 = box.client("dynamodb"), box.client("s3")
        self.archive()
        self._told: list[dict[str, Any]] = []
        bus, (name,) = box.client("events"), {rule.bus for rule in box.stack.rules} - {"default"}
        self._bus = box.client("sqs").create_queue(QueueName="graph-told")["QueueUrl"]
        bus.put_rule(Name="graph-told", EventBusName=name, EventPattern='{"source": ["fraud"]}')
        arn = "arn:aws:sqs:us-east-1:123456789012:graph-told"
        bus.put_targets(Rule="graph-told", EventBusName=name, Targets=[{"Id": "graph-told", "Arn": arn}])
        (self._machine,) = (arn for arn in box.stack.machines if arn.endswith("graph"))

    def archive(self, new_chains: int = 0) -> None:
        """Put the archive of a network into the place of the one before. `new_chains`: a day, in the last week."""
        found = simulate_networks(
            3,
            DEFAULT_START,
            DAYS,
            1_500,
            patterns=(COUPLES, CHAINS),
            extra=lambda day: [CHAINS] * new_chains if day >= DAYS - 7 else (),
        )
        few = [each for place, each in enumerate(found.payments) if each.label == "fraud" or place % 10 == 0]
        own, other, friend = (each.accounts[0] for each in found.groups[:3])
        self.friends = (own, other)
        self.network = found._replace(payments=by_time([*few, *to_a_friend(own, other, friend, at=DAYS - 5)]))
        simulated_graph.put(self._s3, self._dynamodb, "PseudonymsTable", self.network)

    def run(self) -> str:
        """Execute the machine once, on the next hour, and return its last state."""
        self.now += timedelta(hours=1)
        self.box.clock.advance(self.now)
        self.box.settle(60)
        machine = self.box.client("stepfunctions")
        begun = machine.start_execution(stateMachineArn=self._machine, name=f"run-{next(RUNS)}")
        self.box.settle(120)
        events = machine.get_execution_history(executionArn=begun["executionArn"], maxResults=1000)["events"]
        return [each["stateEnteredEventDetails"]["name"] for each in events if "stateEnteredEventDetails" in each][-1]

    def pay(self, payer: str) -> None:
        """Have an account pay somebody, so that it has a decision."""
        with self.box.connect() as app:
            Desk(app, self.now).post(
                "/decisions",
                transaction_id="paid-1",
                type="p2p",
                payer_id=payer,
                payee_id="somebody",
                amount=100,
                currency="JPY",
                occurred_at=utc(self.now),
            )
        self.box.settle(60)

    def told(self, kind: str) -> list[dict[str, Any]]:
        """Return the events of a kind that the bus has had, in their order."""
        queue = self.box.client("sqs")
        while messages := queue.receive_message(QueueUrl=self._bus, MaxNumberOfMessages=10).get("Messages"):
            for each in messages:
                self._told.append(json.loads(each["Body"]))
                queue.delete_message(QueueUrl=self._bus, ReceiptHandle=each["ReceiptHandle"])
        return [each["detail"] for each in self._told if each["detail-type"] == kind]

    def suggested(self) -> dict[str, Suggestions]:
        """Return the links that are suggested, by account."""
        items = self._dynamodb.scan(TableName="LinksTable")["Items"]
        rows = [each for each in items if each["pk"]["S"] == SUGGESTED]
        return {each["sk"]["S"]: found for each in rows if (found := suggestions_of(each))}

    def page(self, account: str) -> Any:
        """Return what an analyst sees of an account."""
        with self.box.connect_person("hana", "analyst") as people:
            return Desk(people, self.now).get(f"/analyst/accounts/{account}")["facts"]

    def cases(self, account: str) -> list[list[str]]:
        """Return the reasons of the cases about an account."""
        items = self._dynamodb.scan(TableName="CasesTable")["Items"]
        found = [each for each in items if each.get("subject", {}).get("S") == f"payer#{account}"]
        return [json.loads(each["document"]["S"])["reasons"] for each in found]

    def pointer(self) -> MarksPointer:
        """Read the pointer."""
        item = self._dynamodb.get_item(TableName="ProfilesTable", Key={"pk": {"S": "marks"}}).get("Item")
        return MarksPointer.model_validate_json(item["pointer"]["S"]) if item else MarksPointer()

    def marked(self) -> dict[str, Mark]:
        """Return the marks of the people's accounts, as a payment of now would see them."""
        snapshot, found = self.pointer().snapshot, {}
        pages = self._dynamodb.get_paginator("scan").paginate(TableName="ProfilesTable")
        for item in (each for page in pages for each in page["Items"]):
            mark = mark_of(profile_of(item), snapshot, self.now)
            if mark is not None:
                found[item["pk"]["S"].removeprefix("account#")] = mark
        return found


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with Box(parameters={"GraphPlan": json.dumps(PLAN)}) as box:
        yield Stage(box)


def assert_suggested(stage: Stage) -> None:
    """Two accounts that have paid the same one are on each other's page with their evidence, until one is erased."""
    own, other = stage.friends
    found = stage.suggested()[own].links
    shown = stage.page(own)["inferred"]
    assert [(each["account_id"], each["score"]) for each in shown] == [(each.other, each.score) for each in found]
    assert all(each["evidence"] for each in shown)
    assert other in {each["account_id"] for each in shown}
    assert own in {each["account_id"] for each in stage.page(other)["inferred"]}
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ENDPOINT_URL", stage.box.endpoint_url)
        unlinked("LinksTable", "ProfilesTable", own, session())
    assert own not in repr(stage.suggested())
    assert own not in {each["account_id"] for each in stage.page(other)["inferred"]}


def in_chains(network: Network) -> set[str]:
    return {account for group in network.groups if group.pattern.name == "relay_chain" for account in group.accounts}


@pytest.mark.slow
def test_a_snapshot_is_published_and_outlives_what_fails_or_is_refused_after_it(stage: Stage) -> None:
    assert stage.run() == "Published"
    marked = stage.marked()
    assert stage.pointer().snapshot == 1
    assert len(marked) > PLAN["page"]
    assert {mark.name for mark in marked.values()} == {"invite/forked_chain"}
    assert marked.keys() <= in_chains(stage.network)
    assert_suggested(stage)
    (stage.box.logs / "kill-graph").touch()
    assert stage.run() == "Kept"
    stage.archive(new_chains=25)
    assert stage.run() == "Kept"
    assert [(each["why"], each["step"]) for each in stage.told("MarksKept")] == [("failed", "Analyse"), ("gate", None)]
    assert stage.marked() == marked
    changed, *_ = stage.told("TacticsChanged")
    assert "relay chains that fork" in changed["sentence"]
    assert not changed["case"]  # none of the accounts has paid in this box
    stage.pay(changed["account_id"])
    assert stage.run() == "Kept"
    (again,) = [each for each in stage.told("TacticsChanged") if each["case"]]
    assert again == changed | {
        name: again[name] for name in ("event_id", "run_id", "transaction_id", "occurred_at", "case")
    }
    assert again["transaction_id"] == "paid-1"
    assert stage.cases(changed["account_id"]) == [["TACTICS_CHANGED"]]
    assert changed["account_id"] in changed["account_ids"]
    assert len(changed["account_ids"]) == min(changed["accounts"], 100)
