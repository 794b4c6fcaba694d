"""Cases under redelivery and kills: nothing is done twice, and nothing is lost.

A day's decisions, their later changes and a report become five cases, which people and the clock bring to their
findings. Every record of the decision table's stream and every event of the bus comes three times, in random order, and
whoever is at work is killed before any of its writes: doors, the states of the machine in moto's interpreter, people's
requests, and the sweep. Cases, executions, labels, reports, decisions and events must be those of a run without this.
`python -m tests.acceptance.investigation [--seeds N]`.
"""

import argparse
import io
import json
import os
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import boto3
from botocore.client import BaseClient
from moto import mock_aws
from samtranslator.yaml_helper import yaml_parse

from fraud import assembly, packaged
from fraud.activity.store import Activity
from fraud.aws.state_machine import StateMachine
from fraud.cases.case import Actor, CaseEvent, case_id
from fraud.cases.events import Notices
from fraud.cases.evidence_store import Snapshots
from fraud.cases.intake import Intake
from fraud.cases.moves import State
from fraud.cases.report import ReportBatch
from fraud.cases.report_events import ReportReceived
from fraud.cases.report_store import ReportStore
from fraud.cases.routing import Routing
from fraud.cases.store import Cases
from fraud.cases.worker import Investigation, Parts
from fraud.counters import windows
from fraud.decisions.events import Outbox, RowChange
from fraud.decisions.record import PACKED, WAITS, Contents
from fraud.decisions.worker import Resolutions
from fraud.executions import Executions
from fraud.labels.store import LabelStore
from fraud.outcome import Outcome
from fraud.settings import Settings
from fraud.transaction import utc
from local.workflows import interpreter
from tests.support.boto_transport import BotoTransport
from tests.support.environment import ENVIRONMENT
from tests.support.payments import payment

ROOT = Path(__file__).parents[2]
RESOURCES = yaml_parse((ROOT / "template.yaml").read_text(encoding="utf-8"))["Resources"]
TABLES = ("Audit", "Cases", "Decisions", "Labels", "Profiles", "Links", "Reports")
SHAPE = ("KeySchema", "AttributeDefinitions", "GlobalSecondaryIndexes", "BillingMode")
REGION = "us-east-1"
MACHINE = f"arn:aws:states:{REGION}:123456789012:stateMachine:fraud-investigation"
WRITES = {"DeleteItem", "PutEvents", "PutItem", "PutObject", "SendTaskSuccess", "StartExecution"}
WRITES |= {"TransactWriteItems", "UpdateItem"}
TIMES = 3
"""How often every record and event comes."""

SEEDS = 30
QUIET_S = 60
NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
ANALYST = Actor("analyst-1", "analyst")


class KilledError(Exception):
    """The process was killed before a write."""


class Grim:
    """Kills whoever is about to write.

    at     numbers of the writes before which it kills, each once
    share  the part of all writes before which it kills, beside them
    """

    def __init__(self, at: Sequence[int] = (), share: float = 0.0, seed: int = 0) -> None:
        self.writes = self.kills = 0
        self.awake = False
        self._at, self._share = set(at), share
        self._rng = random.Random(seed)
        self._turn = threading.Lock()

    def meets(self, operation: str) -> None:
        """Raise KilledError if the time has come."""
        if not self.awake or operation not in WRITES:
            return
        with self._turn:
            self.writes += 1
            if self.writes in self._at or self._rng.random() < self._share:
                self.kills += 1
                raise KilledError


class Found(NamedTuple):
    """All that is left after a run, in a form that does not depend on order."""

    cases: dict[str, Any]
    executions: dict[str, str]
    labels: dict[str, Any]
    reports: dict[str, tuple[str, str | None]]
    decisions: dict[str, Any]
    events: dict[tuple[str, str], str]


class Paid(NamedTuple):
    """A decided payment of the day: its outcome, its leading reason, and the change that followed."""

    name: str
    payer: str
    payee: str
    outcome: str
    code: str
    change: str = ""


DAY = (
    Paid("t-1", "a", "mule", "review", "FAN_IN_BURST"),
    Paid("t-2", "b", "mule", "review", "FAN_IN_BURST"),
    Paid("t-3", "c", "friend", "review", "VELOCITY"),
    Paid("t-4", "d", "shop", "approve", ""),
    Paid("t-5", "e", "other", "challenge", "NEW_DEVICE", "challenge_failed"),
    Paid("t-6", "f", "other", "challenge", "NEW_DEVICE", "challenge_passed"),
)
REPORTS = (("r-1", "t-1", "a"), ("r-2", "t-4", "d"))
MULE, FRIEND, SHOP, FAILED = "payee#mule", "payer#c", "payee#shop", "payer#e"
PEOPLE: dict[str, Sequence[dict[str, Any]]] = {
    MULE: (
        {"kind": "taken"},
        {"kind": "outreach_asked"},
        {"kind": "outreach_attempted", "note": "called"},
        {"kind": "outreach_answered", "answer": "denies"},
        {"kind": "judged", "finding": "fraud", "note": "denied"},
    ),
    FRIEND: ({"kind": "taken"}, {"kind": "judged", "finding": "legitimate", "note": "a friend"}),
    SHOP: ({"kind": "taken"}, {"kind": "judged", "finding": "dispute", "note": "not as described"}),
    FAILED: ({"kind": "taken"}, {"kind": "judged", "finding": "inconclusive", "note": "cannot tell"}),
}
"""What people do in the case of each subject."""


class World:
    """One account with the doors of cases, as their library parts. It lasts as long as `account`."""

    def __init__(self, grim: Grim, rng: random.Random, times: int) -> None:
        self.grim, self.rng, self.times = grim, rng, times
        self.activity = interpreter.Activity()
        self.settings = settings = Settings.from_environment(ENVIRONMENT | VARIABLES)
        transport = BotoTransport()
        self.cases = Cases(settings)
        machine = StateMachine(MACHINE)
        self.executions = Executions(self.cases, machine)
        self.decisions = Resolutions(transport, settings.decisions_table, lambda: NOON)
        self.outbox, self.reports = Outbox(settings), ReportStore(settings)
        self.intake = Intake(self.cases, self.decisions, self.executions, Notices(self.outbox).failed)
        self._swept = Executions(self.cases, machine, self.intake.ended)
        self.investigation = Investigation(
            Parts(
                cases=self.cases,
                snapshots=Snapshots(settings),
                executions=self.executions,
                decisions=self.decisions,
                activity=Activity(
                    transport, settings.links_table, settings.profiles_table, retention_days=400, approved=True
                ),
                labels=LabelStore(settings, ("user_report", "analyst")),
                notices=Notices(self.outbox),
                routing=Routing.load(packaged.ROUTING.read_bytes()),
                last_resort=timedelta(days=14),
                outreach=assembly.outreach_terms(settings),
                clock=lambda: NOON,
                reports=self.reports,
            )
        )
        self.dynamodb = transport.client

    # --- the account

    def build(self) -> None:
        """Create tables, bus, queue and machine, and store the day's decisions."""
        for name in TABLES:
            table = RESOURCES[f"{name}Table"]["Properties"]
            self.dynamodb.create_table(TableName=name.lower(), **{part: table[part] for part in SHAPE if part in table})
        boto3.client("s3").create_bucket(Bucket=self.settings.archive_bucket)
        self._sqs, bus = boto3.client("sqs"), boto3.client("events")
        self._queue = self._sqs.create_queue(QueueName="all")["QueueUrl"]
        bus.create_event_bus(Name=self.settings.event_bus_name)
        for name in (self.settings.event_bus_name, "default"):
            bus.put_rule(Name="all", EventBusName=name, EventPattern='{"account": [{"exists": true}]}')
            target = {"Id": "all", "Arn": f"arn:aws:sqs:{REGION}:123456789012:all"}
            bus.put_targets(Rule="all", EventBusName=name, Targets=[target])
        text = (ROOT / "statemachines" / "investigation.asl.json").read_text(encoding="utf-8")
        text = text.replace("${Partition}", "aws").replace("${InvestigationFunction}", "Investigation")
        self._states = boto3.client("stepfunctions")
        role = "arn:aws:iam::123456789012:role/machine"
        self._states.create_state_machine(name="fraud-investigation", definition=text, roleArn=role)
        self.records = [record for paid in DAY for record in self._decide(paid)]
        triage, said = assembly.triage(), [_report(*each) for each in REPORTS]
        self.reports.accept(ReportBatch.parse(json.dumps({"reports": said}), NOON), triage, NOON)

    def _decide(self, paid: Paid) -> Iterator[dict[str, Any]]:
        """Store a decision and the change that followed. Yield the records of the stream."""
        item = self.store(paid, NOON)
        yield {"eventName": "INSERT", "dynamodb": {"NewImage": item, "SequenceNumber": "1"}}
        if paid.change:
            self.decisions.change(paid.name, paid.change, NOON)  # type: ignore[arg-type]
            images = {"OldImage": item, "NewImage": self._row(paid.name), "SequenceNumber": "2"}
            yield {"eventName": "MODIFY", "dynamodb": images}

    def store(self, paid: Paid, occurred_at: datetime) -> dict[str, Any]:
        """Store a decision, and return its row."""
        sent = payment(transaction_id=paid.name, payer_id=paid.payer, payee_id=paid.payee, occurred_at=occurred_at)
        answer = {
            "outcome": paid.outcome,
            "score": 0.5,
            "reasons": [{"code": paid.code, "text": paid.code, "source": paid.code}] if paid.code else [],
            "segment": "standard",
            "degraded": [],
            "estimated": [],
            "recounted": False,
            "model": {"version": "m"},
            "policy_version": "p",
            "decided_at": utc(NOON),
        }
        counters = json.dumps([0.0 for _ in windows.NAMES]).encode()
        contents = Contents(sent.canonical, counters, json.dumps(answer).encode())
        item: dict[str, Any] = {"pk": {"S": paid.name}, PACKED: {"B": contents.packed()}}
        item |= {"outcome": {"S": paid.outcome}, "decided_at": {"S": utc(NOON)}}
        if deadline := WAITS.deadline(Outcome(paid.outcome), NOON, Outcome.DECLINE):
            item |= {"due": {"S": utc(deadline.due)}, "expires_to": {"S": deadline.then}, "pending": {"S": "1"}}
        self.dynamodb.put_item(TableName=self.settings.decisions_table, Item=item)
        return item

    def _reported(self, report_id: str, *_: str) -> dict[str, Any]:
        """Return the event of a stored report, as report_events publishes it."""
        (row,) = self.reports.without_texts([report_id])
        return {"detail-type": "ReportReceived", "detail": ReportReceived.of(row).model_dump(mode="json")}

    def _row(self, name: str) -> dict[str, Any]:
        key = {"pk": {"S": name}}
        row: dict[str, Any] = self.dynamodb.get_item(TableName=self.settings.decisions_table, Key=key)["Item"]
        return row

    # --- deliveries

    def invoke(self, function: str, event: Any) -> tuple[Any, bool]:
        """Carry out a state of the machine, as the function would."""
        assert function == "Investigation"
        try:
            return self.investigation.run(event), False
        except Exception as error:  # noqa: BLE001 - as Lambda's runtime
            return {"errorType": type(error).__name__, "errorMessage": ""}, True

    def publish(self, record: dict[str, Any]) -> None:
        """Do what decision_events does with a record of the stream."""
        assert not self.outbox.publish(RowChange.of(record).events(1))

    def take(self, event: dict[str, Any]) -> None:
        """Do what case_events does with an event, if a rule of the template would send it."""
        if wanted(event):
            self.intake.take(event, NOON)

    def published(self) -> list[dict[str, Any]]:
        """Return the events that have come to the bus since the last call."""
        found = []
        while messages := self._sqs.receive_message(QueueUrl=self._queue, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                found.append(json.loads(message["Body"]))
                self._sqs.delete_message(QueueUrl=self._queue, ReceiptHandle=message["ReceiptHandle"])
        return found

    # --- the day

    def run(self) -> Found:
        """Live through the day."""
        self.build()
        self.grim.awake = True
        self._seen: dict[tuple[str, str], str] = {}
        work = [self._task(self.publish, record) for record in self.records for _ in range(self.times)]
        work += [self._task(self.take, self._reported(*each)) for each in REPORTS for _ in range(self.times)]
        # Each event comes once before people look at its case; its copies come at any time.
        later = self._work_off(work)
        people = {subject: list(steps) for subject, steps in PEOPLE.items()}
        while later or any(people.values()):
            subject = self.rng.choice([subject for subject, steps in people.items() if steps] or [""])
            if subject and (not later or self.rng.random() < 0.5):
                self._until_done(self._person(subject, people[subject].pop(0)))
            else:
                self._until_done(later.pop(self.rng.randrange(len(later))))
            later += self._copies()
        for late in (2, 8, 14):
            self._until_done(lambda late=late: self.sweep(NOON + timedelta(minutes=late)))
            for task in self._copies():
                self._until_done(task)
        self.grim.awake = False
        return self._found()

    def _task(self, do: Callable[[Any], None], what: Any) -> Callable[[], None]:
        return lambda: do(what)

    def _work_off(self, work: list[Callable[[], None]]) -> list[Callable[[], None]]:
        """Do tasks in random order, and the first copy of each event that they publish. Return the other copies."""
        later = []
        while work:
            self._until_done(work.pop(self.rng.randrange(len(work))))
            for event in self._news():
                first, *others = [self._task(self.take, event)] * self.times
                work.append(first)
                later += others
        return later

    def _copies(self) -> list[Callable[[], None]]:
        return [self._task(self.take, event) for event in self._news() for _ in range(self.times)]

    def _news(self) -> Iterator[dict[str, Any]]:
        """Yield new events of the bus, and note them down. A repeat must say the same."""
        for event in self.published():
            detail = event["detail"]
            key = event["detail-type"], detail.get("event_id") or detail["name"]
            if key not in self._seen:
                self._seen[key] = detail.get("finding") or detail.get("change") or detail.get("status") or ""
                yield event

    def _until_done(self, task: Callable[[], None]) -> None:
        """Do a task again until it is not killed, then wait until all executions are at rest."""
        while True:
            try:
                task()
            except KilledError:
                continue
            finally:
                self.activity.rest(QUIET_S)
            return

    def _person(self, subject: str, said: dict[str, Any]) -> Callable[[], None]:
        """Return a person's request to the door of cases: a change of the case as it was seen, sent again as it is."""
        event, seen = CaseEvent(**said), self.cases.get(case_id(subject, NOON))

        def request() -> None:
            changed = self.cases.change(seen.case_id, event, ANALYST, NOON, seen=seen.version)
            self.executions.follow(changed)

        return request

    def sweep(self, now: datetime) -> None:
        """Look at the cases that are due."""
        self._swept.sweep(now, lambda: 60_000)

    # --- what is left

    def _found(self) -> Found:
        scanned = self.dynamodb.scan(TableName=self.settings.cases_table)["Items"]
        names = sorted({item["pk"]["S"] for item in scanned if item["sk"]["S"] == "case"})
        executions = self._states.list_executions(stateMachineArn=MACHINE)["executions"]
        return Found(
            cases={name: self._case(name) for name in names},
            executions={one["name"]: one["status"] for one in executions},
            labels={
                item["pk"]["S"]: [(said["M"]["label"]["S"], said["M"]["by"]["S"]) for said in item["history"]["L"]]
                for item in self.dynamodb.scan(TableName=self.settings.labels_table)["Items"]
            },
            reports={
                row.report_id: (row.status, row.ended_by)
                for row in self.reports.without_texts([each[0] for each in REPORTS])
            },
            decisions={
                paid.name: [
                    each["change"] for each in json.loads(self._row(paid.name).get("changes", {"S": "[]"})["S"])
                ]
                for paid in DAY
            },
            events=self._seen,
        )

    def _case(self, name: str) -> Any:
        case, (changes, _) = self.cases.get(name), self.cases.changes(name)
        assert case.state in {State.CLOSED, State.FAILED}, case
        return {
            "state": case.state,
            "alerts": sorted(case.alerts),
            "reports": sorted(case.reports),
            "verdict": case.verdict and (case.verdict.finding, case.verdict.by),
            "outreach": case.outreach and (case.outreach.attempts, case.outreach.answer),
            # A report brings its payment along: which of the two came first shows in the number of `alerted`.
            "changes": Counter(change.event.kind for change in changes if change.event.kind != "alerted"),
        }


VARIABLES = {
    **{f"{name.upper()}_TABLE": name.lower() for name in TABLES},
    "EVENT_BUS_NAME": "events",
    "ARCHIVE_BUCKET": "archive-of-cases",
    "INVESTIGATION_MACHINE": MACHINE,
}


def wanted(event: dict[str, Any]) -> bool:
    """Tell whether a rule of the template sends an event to the cases; of challenges, both kinds are sent here."""
    detail = event["detail"]
    match event["detail-type"]:
        case "DecisionMade":
            return detail["outcome"] == "review" or detail["transaction_id"] == "t-6"
        case "DecisionResolved":
            return bool(detail["change"] == "challenge_failed")
        case "ReportReceived":
            return True
        case "Step Functions Execution Status Change":
            return detail["status"] != "SUCCEEDED"
    return False


def _report(report_id: str, transaction_id: str, payer: str) -> dict[str, Any]:
    said = {"report_id": report_id, "transaction_id": transaction_id, "reporter_id": payer}
    return said | {"category": "fake_shop", "reported_at": utc(NOON)}


@contextmanager
def without_endpoint() -> Iterator[None]:
    """Leave the doors of a stack in the same process aside, which have set an endpoint for all services."""
    with patch.dict("os.environ"):
        os.environ.pop("AWS_ENDPOINT_URL", None)
        yield


@contextmanager
def account(grim: Grim, seed: int, times: int) -> Iterator[World]:
    """Yield an account whose writes meet `grim`, with the interpreter of its machine.

    Requests to DynamoDB take turns, as in the box (D-008): executions run in threads of their own, and moto loses an
    update when two of them change one item at once. A token that is lost so leaves its case waiting for ever.
    """
    call, turn = BaseClient._make_api_call, threading.Lock()

    def met(client: Any, operation: str, parameters: Any) -> Any:
        grim.meets(operation)
        with turn if client.meta.service_model.service_name == "dynamodb" else nullcontext():
            return call(client, operation, parameters)

    keys = {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": REGION,
        "STAGE": "local",
    }
    # An emulator that other tests have started is not this account.
    others = {name: value for name, value in os.environ.items() if not name.startswith("AWS_ENDPOINT_URL")}
    with (
        patch.dict("os.environ", others | keys, clear=True),
        mock_aws(),
        patch.object(BaseClient, "_make_api_call", met),
    ):
        world = World(grim, random.Random(seed), times)
        with interpreter.interpreting(world.invoke, 0.0, world.activity):
            yield world


def lived(grim: Grim, seed: int = 0, times: int = TIMES) -> Found:
    """Live through the day once."""
    with redirect_stdout(io.StringIO()), account(grim, seed, times) as world:  # the metrics of the doors
        return world.run()


def differences(wanted_: Found, found: Found) -> list[str]:
    """Return what differs, in words."""
    return [
        f"{part}: {name}: {getattr(wanted_, part).get(name)} became {getattr(found, part).get(name)}"
        for part in Found._fields
        for name in sorted({*getattr(wanted_, part), *getattr(found, part)}, key=str)
        if getattr(wanted_, part).get(name) != getattr(found, part).get(name)
    ]


def main() -> int:
    """Kill before every write of a day, then at random; print the figures, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance.investigation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    seeds = parser.parse_args().seeds
    started, quiet = time.monotonic(), Grim()
    undisturbed = lived(quiet, times=1)
    runs = [Grim(at=[n]) for n in range(1, quiet.writes + 1)]
    runs += [Grim(share=0.15, seed=seed) for seed in range(seeds)]
    wrong = 0
    for seed, grim in enumerate(runs):
        found = differences(undisturbed, lived(grim, seed))
        wrong += bool(found)
        for line in found:
            print(f"run {seed}: {line}")
    kills = sum(grim.kills for grim in runs)
    print(
        f"investigation: {len(undisturbed.cases)} cases, {len(undisturbed.executions)} executions,"
        f" {len(undisturbed.labels)} labels, {len(undisturbed.events)} events, {quiet.writes} writes;"
        f" {len(runs)} runs with everything {TIMES} times, {kills} kills: {wrong} runs differ"
        f" ({time.monotonic() - started:.0f} s)"
    )
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
