"""`python -m tests.acceptance.investigation` in small: one day with everything three times, and kills before writes."""

import itertools
import json
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import partial
from types import SimpleNamespace
from typing import Any, NamedTuple, get_args

import pytest
from moto.core import DEFAULT_ACCOUNT_ID
from moto.dynamodb.models import UpdateExpressionExecutor
from moto.stepfunctions.parser.api import ExecutionStatus
from moto.stepfunctions.parser.models import stepfunctions_parser_backends

from fraud.cases.case import SYSTEM, Alert, Case, CaseEvent, Finding, case_id, sample_id
from fraud.cases.events import Notices
from fraud.cases.evidence import Evidence
from fraud.cases.evidence_store import INLINE_BYTES
from fraud.cases.moves import State
from fraud.cases.report import EarlierReport
from fraud.cases.worker import Investigation
from fraud.errors import CaseConflictError, NotFoundError, UnavailableError
from fraud.labels.label import LabelBatch
from fraud.transaction import utc
from tests.acceptance.investigation import (
    ANALYST,
    FAILED,
    FRIEND,
    MULE,
    NOON,
    QUIET_S,
    REGION,
    SHOP,
    Grim,
    Paid,
    World,
    account,
    lived,
)


def test_nothing_is_done_twice_and_nothing_is_lost_by_redelivery_and_kills() -> None:
    grim = Grim(share=0.2, seed=7)
    found = lived(grim, 7)
    assert grim.kills > 5
    findings = {name: case["verdict"] for name, case in found.cases.items()}
    named = {subject: case_id(subject, NOON) for subject in (MULE, FRIEND, SHOP, FAILED, "payer#f")}
    assert findings == {
        named[MULE]: ("fraud", "analyst-1"),
        named[FRIEND]: ("legitimate", "analyst-1"),
        named[SHOP]: ("dispute", "analyst-1"),
        named[FAILED]: ("inconclusive", "analyst-1"),
        named["payer#f"]: ("inconclusive", "system"),
    }
    assert {case["state"] for case in found.cases.values()} == {State.CLOSED}
    assert all(times == 1 for case in found.cases.values() for times in case["changes"].values())
    assert found.executions == dict.fromkeys(found.cases, "SUCCEEDED")
    assert found.labels == {
        "t-1": [("fraud", "analyst-1")],
        "t-2": [("fraud", "analyst-1")],
        "t-3": [("legitimate", "analyst-1")],
    }
    assert found.reports == {"r-1": ("fraud", named[MULE]), "r-2": ("dispute", named[SHOP])}
    assert [found.decisions[name] for name in ("t-1", "t-2", "t-3")] == [
        ["review_declined"],
        ["review_declined"],
        ["review_approved"],
    ]
    assert sum(kind == "CaseClosed" for kind, _ in found.events) == len(found.cases)
    assert sum(kind == "OutreachRequested" for kind, _ in found.events) == 1


def test_token_that_is_forgotten_takes_no_later_one_along(monkeypatch) -> None:
    """moto checks a condition and updates in two steps: between them an execution stores its next token."""
    with account(Grim(), 0, 1) as world:
        world.build()
        row = {"TableName": world.settings.cases_table, "Key": {"pk": {"S": "a"}, "sk": {"S": "case"}}}
        world.dynamodb.put_item(TableName=row["TableName"], Item=row["Key"] | {"token": {"S": "first"}})
        update, forgotten = UpdateExpressionExecutor.execute, threading.Event()

        def slow(executor: Any, *parts: Any) -> None:
            if not forgotten.is_set():  # the first of the two updates
                forgotten.set()
                time.sleep(0.2)
            update(executor, *parts)

        monkeypatch.setattr(UpdateExpressionExecutor, "execute", slow)
        names = {"ExpressionAttributeNames": {"#token": "token"}}
        first = {"ConditionExpression": "#token = :first", "ExpressionAttributeValues": {":first": {"S": "first"}}}
        forget = partial(world.dynamodb.update_item, **row, **names, **first, UpdateExpression="REMOVE #token")
        with ThreadPoolExecutor(1) as pool:
            done = pool.submit(forget)
            assert forgotten.wait(10)
            later = {"UpdateExpression": "SET #token = :later", "ExpressionAttributeValues": {":later": {"S": "later"}}}
            world.dynamodb.update_item(**row, **names, **later)
            done.result()
        assert world.dynamodb.get_item(**row)["Item"]["token"] == {"S": "later"}


def waiting_case(world: World, subject: str) -> Case:
    """Return a case whose execution waits for an analyst, a day's sweeps before it is due."""
    said = {"transaction_id": "t-1", "subject_kind": "payee", "subject_id": subject, "reason": "VELOCITY"}
    case = world.cases.open(Alert(**said, occurred_at=NOON), NOON)
    world.executions.start(case)
    world.activity.rest(QUIET_S)
    case = world.cases.get(case.case_id)
    assert case.state is State.QUEUED
    return case


def test_sweep_finds_cases_whose_execution_is_gone() -> None:
    with account(Grim(), 0, 1) as world:
        world.build()
        stopped_case_fails_and_is_told(world)
        case_of_a_deleted_execution_goes_on(world)


def stopped_case_fails_and_is_told(desk: World) -> None:
    case = waiting_case(desk, "stopped")
    machine = stepfunctions_parser_backends[DEFAULT_ACCOUNT_ID][REGION].state_machines[0]
    (execution,) = (each for each in machine.executions if each.name == case.case_id)
    execution.exec_status = ExecutionStatus.ABORTED  # and nobody tells of its end
    for minutes in (61, 62):
        desk.sweep(NOON + timedelta(minutes=minutes))
    assert desk.cases.get(case.case_id).state is State.FAILED
    said = [event["detail"]["case_id"] for event in desk.published() if event["detail-type"] == "CaseFailed"]
    assert said == [case.case_id]


def case_of_a_deleted_execution_goes_on(desk: World) -> None:
    case = waiting_case(desk, "deleted")
    machine = stepfunctions_parser_backends[DEFAULT_ACCOUNT_ID][REGION].state_machines[0]
    machine.executions = [each for each in machine.executions if each.name != case.case_id]
    judged = case
    for said in ({"kind": "taken"}, JUDGED):
        judged = desk.cases.change(case.case_id, CaseEvent(**said), ANALYST, NOON, seen=judged.version)
        desk.executions.follow(judged)
    assert desk.cases.get(case.case_id).state is State.CONCLUDING
    for minutes in (61, 62):
        desk.sweep(NOON + timedelta(minutes=minutes))
        desk.activity.rest(QUIET_S)
    assert desk.cases.get(case.case_id).state is State.CLOSED


# --- single states, on one account


class Reports:
    """Users' reports: which findings they got. `silent`: nobody has reported anything."""

    def __init__(self) -> None:
        self.ended: list[tuple[str, str, str]] = []
        self.silent = False

    def about(self, payee_id: str, since: datetime) -> list[Any]:
        assert since < NOON
        if self.silent:
            return []
        return [EarlierReport(f"r-about-{payee_id}", "t-1", "a", NOON, "open")]

    def without_texts(self, report_ids: Sequence[str]) -> list[Any]:
        """Return the reports that are there; `r-<transaction_id>` is about that payment."""
        return [Report(each, each.removeprefix("r-")) for each in report_ids if each != "gone"]

    def end(self, report_id: str, finding: str, by: str, now: datetime) -> None:
        assert now == NOON
        if report_id == "gone":
            raise NotFoundError
        self.ended.append((report_id, finding, by))


class Report(NamedTuple):
    report_id: str
    transaction_id: str


class Bench:
    """One state at a time, on the tables of an account. `at` is the clock of the states."""

    def __init__(self, world: World) -> None:
        self.world, self.cases, self.reports, self.at = world, world.cases, Reports(), NOON
        parts = world.investigation._parts._replace(reports=self.reports, clock=lambda: self.at)
        self._states = Investigation(parts)
        self._numbers = itertools.count()

    def opened(self, *events: dict[str, Any], **fields: Any) -> Case:
        """Open a case about a subject of its own, and cause events of an analyst or the system in it."""
        subject = f"subject-{next(self._numbers)}"
        said = {"transaction_id": "t-1", "subject_kind": "payee", "subject_id": subject, "reason": "FAN_IN_BURST"}
        case = self.cases.open(Alert(**said | {"occurred_at": NOON} | fields), NOON)
        for event in events:
            actor = SYSTEM if event["kind"] in {"routed", "alerted"} else ANALYST
            case = self.cases.change(case.case_id, CaseEvent(**event), actor, NOON)
        return case

    def run(self, state: str, case: Case, **more: Any) -> dict[str, Any]:
        return self._states.run({"state": state, "version": 1, "case_id": case.case_id, **more})

    def labels(self, transaction_id: str) -> list[tuple[str, str]]:
        row = self.world.dynamodb.get_item(TableName="labels", Key={"pk": {"S": transaction_id}}).get("Item", {})
        return [(said["M"]["label"]["S"], said["M"]["source"]["S"]) for said in row.get("history", {"L": []})["L"]]

    def events(self, kind: str) -> list[dict[str, Any]]:
        return [event["detail"] for event in self.world.published() if event["detail-type"] == kind]


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with account(Grim(), 0, 1) as world:
        world.build()
        yield Bench(world)


ENDED = "Step Functions Execution Status Change"
TAKEN = ({"kind": "routed"}, {"kind": "taken"})
ASKED = (*TAKEN, {"kind": "outreach_asked"})
JUDGED = {"kind": "judged", "finding": "fraud", "note": "x"}


def alert_of(case: Case, transaction_id: str, **fields: Any) -> Alert:
    """Return another alert of the case's subject and day."""
    said = {"transaction_id": transaction_id, "subject_kind": case.subject_kind, "subject_id": case.subject_id}
    return Alert(**said | {"occurred_at": NOON, "reason": "X"} | fields)


def test_evidence_is_collected_once_and_has_the_reports(bench: Bench) -> None:
    case = bench.opened()
    bench.run("CollectEvidence", case)
    snapshots = bench.world.investigation._parts.snapshots
    first = snapshots.read(case.case_id)
    bench.at = NOON + timedelta(hours=1)
    bench.run("CollectEvidence", case)
    bench.at = NOON
    assert snapshots.read(case.case_id) == first
    evidence = Evidence.model_validate_json(first or "")
    assert [one.transaction_id for one in evidence.decisions] == ["t-1"]
    assert [report["report_id"] for report in evidence.reports] == [f"r-about-{case.subject_id}"]


def test_evidence_of_a_payment_that_was_not_decided_here_is_the_subject_alone(bench: Bench) -> None:
    case = bench.opened(transaction_id="unknown", reason="BY_HAND")
    bench.run("CollectEvidence", case)
    evidence = Evidence.model_validate_json(bench.world.investigation._parts.snapshots.read(case.case_id) or "")
    assert (evidence.decisions, evidence.by_hand) == ((), True)
    assert [page.account_id for page in evidence.accounts] == [case.subject_id]


def test_long_evidence_is_an_object_of_the_archive(bench: Bench) -> None:
    snapshots, name = bench.world.investigation._parts.snapshots, bench.opened().case_id
    snapshots.keep(name, "é" * INLINE_BYTES)
    snapshots.keep(name, "another")
    assert snapshots.read(name) == "é" * INLINE_BYTES


def test_long_evidence_has_no_end_before_its_case(bench: Bench) -> None:
    snapshots, name = bench.world.investigation._parts.snapshots, bench.opened(*TAKEN).case_id
    snapshots.keep(name, "x" * (INLINE_BYTES + 1))
    place = {"Bucket": snapshots._bucket, "Key": f"cases/{name}/evidence.json"}
    assert snapshots._s3.get_object_tagging(**place)["TagSet"] == []
    bench.cases.change(name, CaseEvent(kind="failed"), SYSTEM, NOON)
    assert snapshots._s3.get_object_tagging(**place)["TagSet"] == [{"Key": "case", "Value": "ended"}]
    assert snapshots.read(name) == "x" * (INLINE_BYTES + 1)


def test_payers_of_alerts_that_joined_later_are_asked_too(bench: Bench) -> None:
    case = bench.opened()
    bench.run("CollectEvidence", case)
    late = {"transaction_id": "t-3", "subject_kind": "payee", "subject_id": case.subject_id, "reason": "FAN_IN_BURST"}
    bench.cases.change(case.case_id, CaseEvent(kind="alerted", alert=Alert(**late, occurred_at=NOON)), SYSTEM, NOON)
    for kind in ("routed", "taken", "outreach_asked"):
        bench.cases.change(case.case_id, CaseEvent(kind=kind), SYSTEM if kind == "routed" else ANALYST, NOON)
    bench.run("AskPayer", case, token="token-joined")
    asked = bench.events("OutreachRequested")[-1]
    assert asked["case_id"] == case.case_id
    assert len(asked["payer_ids"]) == 2


def test_case_that_got_another_alert_since_is_not_closed_by_itself(bench: Bench) -> None:
    bench.reports.silent = True
    alone, case = bench.opened(transaction_id="t-6"), bench.opened(transaction_id="t-6")
    for each in (alone, case):
        bench.run("CollectEvidence", each)
    bench.reports.silent = False
    assert [bench.run("Triage", alone) for _ in range(2)] == [{"route": "close"}] * 2
    assert bench.cases.get(alone.case_id).state is State.CONCLUDING
    bench.cases.open(alert_of(case, "t-1"), NOON)
    assert bench.run("Triage", case) == {"route": "analyst"}
    assert bench.cases.get(case.case_id).state is State.QUEUED


def test_blind_case_goes_to_an_analyst_and_its_finding_is_a_label_that_alters_no_payment(bench: Bench) -> None:
    """Alerts of these payments would be closed by triage, and released or declined by the finding."""
    bench.reports.silent = True
    for name in ("t-6", "t-5"):
        case = bench.opened(transaction_id=name, kind="sample")
        assert case.case_id == sample_id(name)
        bench.run("CollectEvidence", case)
        assert [bench.run("Triage", case) for _ in range(2)] == [{"route": "analyst"}] * 2
        before = bench.world.decisions.read(name)[1]
        bench.cases.change(case.case_id, CaseEvent(kind="taken"), ANALYST, NOON)
        bench.cases.change(case.case_id, CaseEvent(**JUDGED), ANALYST, NOON)
        for state in ("ResolvePayments", "WriteLabels", "CloseCase"):
            bench.run(state, case)
        assert bench.world.decisions.read(name)[1] == before
        assert bench.labels(name)[-1] == ("fraud", "analyst")
    bench.reports.silent = False


def test_hold_is_asked_for_with_reasons_and_the_case_goes_to_an_analyst(bench: Bench) -> None:
    case = bench.opened()
    bench.run("CollectEvidence", case)
    for _ in range(2):
        bench.run("RequestHold", case)
    first, second = bench.events("HoldRequested")
    assert first == second
    assert (first["subject_id"], first["transaction_ids"]) == (case.subject_id, ["t-1"])


def test_follow_says_whom_the_case_waits_for_and_for_how_long(bench: Bench) -> None:
    assert bench.run("Follow", bench.opened(*TAKEN)) == {"waits_for": "analyst", "timeout_seconds": 14 * 86_400}
    assert bench.run("Follow", bench.opened(*ASKED)) == {"waits_for": "payer", "timeout_seconds": 2 * 86_400}
    bench.at = NOON + timedelta(days=3)
    assert bench.run("Follow", bench.opened(*ASKED)) == {"waits_for": "payer", "timeout_seconds": 1}
    bench.at = NOON
    assert bench.run("Follow", bench.opened(*TAKEN, JUDGED))["waits_for"] == "nobody"


def test_token_of_a_wait_that_is_over_is_sent_at_once_and_not_kept(bench: Bench) -> None:
    case = bench.opened(*TAKEN, JUDGED)
    bench.run("AwaitAnalyst", case, token="nobody waits for it")
    assert bench.cases.untold(case.case_id) is None
    waiting = bench.opened(*TAKEN)
    bench.run("AwaitAnalyst", waiting, token="secret")
    bench.cases.change(waiting.case_id, CaseEvent(**JUDGED), ANALYST, NOON)
    wait = bench.cases.untold(waiting.case_id)
    assert wait is not None
    assert wait.token == "secret"


def test_payer_is_asked_once_for_each_outreach(bench: Bench) -> None:
    case = bench.opened(*ASKED, subject_kind="payer")
    for token in ("first", "second"):
        bench.run("AskPayer", case, token=token)
    first, second = bench.events("OutreachRequested")
    assert first == second
    assert (first["payer_ids"], first["due"]) == ([case.subject_id], utc(NOON + timedelta(days=2)))
    assert (first["not_before"], first["attempts"], first["attempts_allowed"]) == (utc(NOON), 0, 3)


def test_outreach_of_the_night_waits_for_the_morning_and_its_time_counts_from_there(bench: Bench) -> None:
    night, morning = NOON + timedelta(hours=10), NOON + timedelta(hours=21)  # 22:00 and 9:00 of the stack's clock
    case = bench.opened(*TAKEN, subject_kind="payer")
    for kind, at in (("outreach_asked", NOON), ("outreach_attempted", NOON), ("outreach_attempted", NOON)):
        bench.cases.change(case.case_id, CaseEvent(kind=kind), ANALYST, at)
    bench.cases.change(case.case_id, CaseEvent(kind="outreach_answered", answer="not_reached"), ANALYST, night)
    bench.cases.change(case.case_id, CaseEvent(kind="outreach_asked"), ANALYST, night)
    bench.events("OutreachRequested")
    bench.at = night
    followed = bench.run("Follow", case)
    bench.run("AskPayer", case, token="secret")
    bench.at = NOON
    (asked,) = bench.events("OutreachRequested")
    assert (asked["not_before"], asked["due"]) == (utc(morning), utc(morning + timedelta(days=2)))
    assert (asked["attempts"], asked["attempts_allowed"]) == (2, 3)
    assert followed == {"waits_for": "payer", "timeout_seconds": (11 + 48) * 3600}
    bench.at = morning + timedelta(days=2, seconds=-2)
    bench.run("NotReached", case)
    assert bench.cases.get(case.case_id).state is State.OUTREACH
    bench.at = morning + timedelta(days=2)
    bench.run("NotReached", case)
    bench.at = NOON
    assert bench.cases.get(case.case_id).state is State.ASSIGNED


def test_payers_of_payments_that_joined_late_are_asked_too(bench: Bench) -> None:
    case = bench.opened()
    bench.run("CollectEvidence", case)
    for name in ("t-2", "unknown"):
        bench.cases.open(alert_of(case, name), NOON)
    for said in ({"kind": "routed"}, *ASKED[1:]):
        bench.cases.change(case.case_id, CaseEvent(**said), SYSTEM if said["kind"] == "routed" else ANALYST, NOON)
    bench.events("OutreachRequested")
    bench.run("AskPayer", case, token="secret")
    (asked,) = bench.events("OutreachRequested")
    assert asked["payer_ids"] == ["b", "a"]


def test_payer_counts_as_not_reached_only_when_the_time_is_over(bench: Bench) -> None:
    case = bench.opened(*ASKED)
    bench.run("NotReached", case)
    assert bench.cases.get(case.case_id).state is State.OUTREACH
    bench.at = NOON + timedelta(days=2)
    for _ in range(2):
        bench.run("NotReached", case)
    bench.at = NOON
    reached = bench.cases.get(case.case_id)
    assert (reached.state, reached.outreach and reached.outreach.answer) == (State.ASSIGNED, "not_reached")


def test_last_resort_closes_a_case_that_waits_for_an_analyst_and_no_other(bench: Bench) -> None:
    asked, judged, waiting = bench.opened(*ASKED), bench.opened(*TAKEN, JUDGED), bench.opened(*TAKEN)
    for case in (asked, judged, waiting):
        bench.run("TimedOut", case)
    assert bench.cases.get(asked.case_id).state is State.OUTREACH
    assert bench.cases.get(judged.case_id) == judged
    verdict = bench.cases.get(waiting.case_id).verdict
    assert verdict is not None
    assert (verdict.finding, verdict.by) == ("inconclusive", "system")


@pytest.mark.parametrize("state", ["ResolvePayments", "WriteLabels", "CloseCase"])
def test_nothing_follows_before_there_is_a_verdict(bench: Bench, state: str) -> None:
    with pytest.raises(CaseConflictError):
        bench.run(state, bench.opened(*TAKEN))


def test_finding_about_payments_that_were_not_decided_here_gives_no_label_and_stops_nothing(bench: Bench) -> None:
    case = bench.opened(*TAKEN, JUDGED, transaction_id="unknown")
    for state in ("ResolvePayments", "WriteLabels", "CloseCase"):
        assert bench.run(state, case) == {}
    assert bench.cases.get(case.case_id).state is State.CLOSED


def test_label_is_never_dated_before_its_payment(bench: Bench) -> None:
    ahead = NOON + timedelta(minutes=4)
    bench.world.store(Paid("t-ahead", "a", "b", "review", "X"), ahead)
    case = bench.opened(*TAKEN, JUDGED, transaction_id="t-ahead")
    bench.run("WriteLabels", case)
    row = bench.world.dynamodb.get_item(TableName="labels", Key={"pk": {"S": "t-ahead"}})["Item"]
    assert [said["M"]["reported_at"]["S"] for said in row["history"]["L"]] == [utc(ahead)]


def test_reports_of_a_case_get_its_finding(bench: Bench) -> None:
    bench.reports.ended.clear()
    case = bench.opened(*TAKEN, JUDGED, report_id="r-t-1")
    gone = bench.opened(*TAKEN, JUDGED, report_id="gone")
    for each in (case, gone):
        bench.run("CloseCase", each)
    assert bench.reports.ended == [("r-t-1", "fraud", case.case_id)]


@pytest.mark.parametrize("finding", get_args(Finding))
def test_report_about_a_payment_that_the_verdict_is_not_about_gets_no_finding(bench: Bench, finding: str) -> None:
    bench.reports.ended.clear()
    case = bench.opened({"kind": "routed"}, report_id="r-t-1")
    bench.cases.open(alert_of(case, "t-4", report_id="r-t-4"), NOON)
    for said in ({"kind": "taken"}, JUDGED | {"finding": finding, "transaction_ids": ("t-1",)}):
        bench.cases.change(case.case_id, CaseEvent(**said), ANALYST, NOON)
    bench.events("CaseClosed")
    bench.run("CloseCase", case)
    assert bench.reports.ended == [("r-t-1", finding, case.case_id), ("r-t-4", "inconclusive", case.case_id)]
    (told,) = bench.events("CaseClosed")
    assert (told["judged_ids"], told["transaction_ids"]) == (["t-1"], ["t-1", "t-4"])


@pytest.mark.parametrize("source", ["analyst", "user_report"])
def test_dispute_takes_a_label_fraud_back_once_and_gives_none_otherwise(bench: Bench, source: str) -> None:
    name = f"t-disputed-{source}"
    bench.world.store(Paid(name, "a", "b", "approve", "X"), NOON - timedelta(hours=1))
    case = bench.opened(*TAKEN, JUDGED | {"finding": "dispute"}, transaction_id=name)
    bench.run("WriteLabels", case)
    assert bench.labels(name) == []
    said = {"transaction_id": name, "label": "fraud", "reported_at": utc(NOON - timedelta(minutes=1))}
    batch = LabelBatch.parse(json.dumps({"labels": [said]}), NOON)
    bench.world.investigation._parts.labels.accept(batch, source, "somebody", NOON)
    for _ in range(2):
        bench.run("WriteLabels", case)
    assert bench.labels(name) == [("fraud", source), ("legitimate", "analyst")]


def test_a_closed_case_is_measured_by_its_finding_and_an_outreach_by_its_answer(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    tried, answered = {"kind": "outreach_attempted", "note": "x"}, {"kind": "outreach_answered", "answer": "denies"}
    case = bench.opened(*ASKED, tried, tried, answered, JUDGED)
    capsys.readouterr()
    bench.run("CloseCase", case)
    closed, asked = map(json.loads, capsys.readouterr().out.splitlines())
    assert (closed["Finding"], closed["CasesClosed"], closed["VerdictSeconds"]) == ("fraud", 1, 0)
    assert (asked["Answer"], asked["Outreaches"], asked["OutreachAttempts"]) == ("denies", 1, 2)


def test_case_that_waits_already_is_not_closed_by_rules_of_a_later_release(bench: Bench) -> None:
    bench.reports.silent = True
    case = bench.opened(transaction_id="t-6")
    bench.run("CollectEvidence", case)
    bench.reports.silent = False
    bench.cases.change(case.case_id, CaseEvent(kind="routed"), SYSTEM, NOON)
    assert bench.run("Triage", case) == {"route": "analyst"}


def test_case_that_cannot_go_on_fails_and_is_told_once(bench: Bench) -> None:
    case = bench.opened(*TAKEN)
    for _ in range(2):
        assert bench.run("MarkFailed", case) == {}
    first, second = bench.events("CaseFailed")
    assert first == second
    bench.cases.change(case.case_id, CaseEvent(kind="noted", note="why?"), ANALYST, NOON + timedelta(minutes=1))
    bench.world.intake.take({"detail-type": ENDED, "detail": {"name": case.case_id}}, NOON)
    assert [event["event_id"] for event in bench.events("CaseFailed")] == [first["event_id"]]
    closed = bench.opened(*TAKEN, JUDGED)
    bench.run("CloseCase", closed)
    bench.run("MarkFailed", closed)
    bench.run("MarkFailed", closed.model_copy(update={"case_id": "A" * 26}))
    assert bench.events("CaseFailed") == []
    assert bench.cases.get(closed.case_id).state is State.CLOSED


def test_event_that_the_bus_does_not_take_is_tried_again_by_the_machine() -> None:
    refusing: Any = SimpleNamespace(publish=lambda _: [0])
    event: Any = SimpleNamespace()
    with pytest.raises(UnavailableError, match="PutEvents"):
        Notices(refusing).publish(event)


def test_input_that_no_definition_ever_sent_is_refused(bench: Bench) -> None:
    with pytest.raises(KeyError):
        bench.run("Unheard", bench.opened())
