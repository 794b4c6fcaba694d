"""The door of the bus's events about accounts: findings, holds that cases ask for, and executions that have ended."""

import itertools
import json
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from fraud.accounts.action import SYSTEM as OF_ACTIONS
from fraud.accounts.action import ActionEvent, Cause
from fraud.accounts.intake import AccountIntake
from fraud.accounts.status import AccountState
from fraud.accounts.store import Accounts
from fraud.cases.case import SYSTEM, Actor, Alert, Case, CaseEvent, SubjectKind
from fraud.cases.store import Cases
from fraud.settings import Settings

LEAD = Actor("hana", "lead")
STATUS_CHANGE = "Step Functions Execution Status Change"
_names = itertools.count()


@pytest.fixture
def settings(doors: Any) -> Settings:  # noqa: ARG001 - sets the environment
    return Settings.from_environment()


@pytest.fixture
def accounts(settings: Settings) -> Accounts:
    return Accounts(settings)


@pytest.fixture
def cases(settings: Settings) -> Cases:
    return Cases(settings)


def now() -> datetime:
    return datetime.now(UTC)


def opened(cases: Cases, after: Case | None = None, kind: SubjectKind = "payee") -> Case:
    """Open a case and have it wait for an analyst. after: the case that it follows."""
    number = next(_names)
    alert = Alert(
        transaction_id=f"event-payment-{number}",
        subject_kind=kind,
        subject_id=f"event-account-{number}" if after is None else after.subject_id,
        occurred_at=now() if after is None else after.opened_at,
        reason="FAN_IN_BURST",
    )
    case = cases.open(alert, now())
    return cases.change(case.case_id, CaseEvent(kind="routed"), SYSTEM, now())


def closed(cases: Cases, finding: str) -> Case:
    """Have a case judged and concluded."""
    return judged(cases, opened(cases), finding)


def judged(cases: Cases, case: Case, finding: str, subject_is: str | None = None) -> Case:
    said = CaseEvent(kind="judged", finding=finding, subject_is=subject_is, note="secret reason")
    cases.change(case.case_id, said, LEAD, now(), seen=case.version)
    return cases.change(case.case_id, CaseEvent(kind="concluded"), SYSTEM, now())


def sent(doors: Any, kind: str, detail: dict[str, Any]) -> dict[str, Any]:
    """Hand a message to the door, and return its answer."""
    event = {"detail-type": kind, "source": "fraud", "detail": detail}
    record = {
        "messageId": "m-1",
        "receiptHandle": "h",
        "body": json.dumps(event),
        "attributes": {},
        "messageAttributes": {},
        "md5OfBody": "0",
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:us-east-1:123456789012:AccountQueue",
        "awsRegion": "us-east-1",
    }
    answer: dict[str, Any] = doors["AccountEvents"].handler({"Records": [record]}, None)
    return answer


def finding_of(case: Case, finding: str) -> dict[str, Any]:
    subject_is = None if case.verdict is None else case.verdict.subject_is
    return {"case_id": case.case_id, "finding": finding, "subject_id": case.subject_id, "subject_is": subject_is}


def test_a_finding_of_fraud_opens_one_action_however_often_it_comes(doors, cases, accounts, capsys):
    case = closed(cases, "fraud")
    for _ in range(3):
        assert sent(doors, "CaseClosed", finding_of(case, "fraud")) == {"batchItemFailures": []}
    (action,) = accounts.actions_of(case.subject_id).actions
    cause = action.cause
    assert (cause.kind, cause.id, cause.by, cause.rule) == ("finding", case.case_id, "hana", "FAN_IN_BURST")
    assert cause.transaction_ids == tuple(case.alerts)
    assert accounts.account(case.subject_id).action_id == action.action_id
    log = capsys.readouterr().out
    assert f'"action_id":"{action.action_id}"' in log
    assert "secret" not in log
    assert case.subject_id not in log


@pytest.mark.parametrize("said", [("payee", None), ("payee", "victim"), ("payer", None), ("payer", "offender")])
def test_fraud_stops_the_account_of_an_offender_and_never_that_of_a_victim(doors, cases, accounts, said):
    kind, subject_is = said
    stopped = said in {("payee", None), ("payer", "offender")}
    case = opened(cases, kind=kind)
    sent(doors, "HoldRequested", {"case_id": case.case_id, "subject_id": case.subject_id})
    assert accounts.account(case.subject_id).state is AccountState.HELD
    sent(doors, "CaseClosed", finding_of(judged(cases, case, "fraud", subject_is), "fraud"))
    account = accounts.account(case.subject_id)
    assert (account.action_id is not None) is stopped
    assert stopped or account.state is AccountState.ACTIVE


@pytest.mark.parametrize("finding", ["legitimate", "dispute", "inconclusive"])
def test_any_other_finding_opens_none_and_ends_the_hold_that_the_case_has_asked_for(doors, cases, accounts, finding):
    case = opened(cases)
    sent(doors, "HoldRequested", {"case_id": case.case_id, "subject_id": case.subject_id})
    assert accounts.account(case.subject_id).state is AccountState.HELD
    sent(doors, "CaseClosed", finding_of(case, finding))
    account = accounts.account(case.subject_id)
    assert (account.state, account.action_id) == (AccountState.ACTIVE, None)


def test_the_hold_of_a_case_ends_with_it_while_an_order_has_stopped_the_account(doors, cases, accounts):
    case = opened(cases)
    sent(doors, "HoldRequested", {"case_id": case.case_id})
    cause = Cause(kind="order", id=case.case_id, by="jun", reason="a mule")
    action = accounts.open(case.subject_id, cause, now())
    for kind in ("slot_taken", "held"):
        accounts.change(action.action_id, ActionEvent(kind=kind), OF_ACTIONS, now())
    sent(doors, "CaseClosed", finding_of(judged(cases, case, "legitimate"), "legitimate"))
    account = accounts.account(case.subject_id)
    assert (account.state, account.hold) == (AccountState.HELD, None)
    for event in (ActionEvent(kind="failed", step="x"), *(ActionEvent(kind=k) for k in ("unlisted", "restored"))):
        accounts.change(action.action_id, event, OF_ACTIONS, now())
    assert accounts.account(case.subject_id).state is AccountState.ACTIVE


def test_the_hold_of_a_case_that_has_failed_ends_with_the_case_that_follows_it(doors, cases, accounts):
    case = opened(cases)
    sent(doors, "HoldRequested", {"case_id": case.case_id})
    cases.change(case.case_id, CaseEvent(kind="failed"), SYSTEM, now())
    following = opened(cases, case)
    assert following.case_id == f"{case.case_id}-2"
    judged(cases, following, "legitimate")
    sent(doors, "CaseClosed", finding_of(following, "legitimate"))
    assert accounts.account(case.subject_id).state is AccountState.ACTIVE


def test_the_hold_of_a_case_that_is_full_stays_when_the_case_that_follows_it_ends(cases, accounts):
    case = opened(cases)
    following = case.model_copy(update={"case_id": f"{case.case_id}-2"})
    read = SimpleNamespace(get={one.case_id: one for one in (case, following)}.__getitem__)
    intake = AccountIntake(accounts, read, None, None, lambda: None)
    intake.take({"detail-type": "HoldRequested", "detail": {"case_id": case.case_id}}, now())
    intake.take({"detail-type": "CaseClosed", "detail": finding_of(following, "legitimate")}, now())
    assert accounts.account(case.subject_id).state is AccountState.HELD


def test_a_hold_that_was_asked_for_while_its_case_ended_does_not_stay(cases, accounts):
    case = opened(cases)
    reads = [case, judged(cases, case, "legitimate")]
    read = SimpleNamespace(get=lambda _: reads.pop(0) if len(reads) > 1 else reads[0])
    intake = AccountIntake(accounts, read, None, None, lambda: None)
    intake.take({"detail-type": "HoldRequested", "detail": {"case_id": case.case_id}}, now())
    assert accounts.account(case.subject_id).state is AccountState.ACTIVE


def test_a_hold_that_comes_after_the_end_of_its_case_is_not_put(doors, cases, accounts):
    case = closed(cases, "legitimate")
    assert sent(doors, "HoldRequested", {"case_id": case.case_id}) == {"batchItemFailures": []}
    assert accounts.account(case.subject_id).state is AccountState.ACTIVE


def test_an_execution_that_ended_before_its_action_is_followed_by_another_one(doors, cases, accounts):
    case = closed(cases, "fraud")
    sent(doors, "CaseClosed", finding_of(case, "fraud"))
    name = accounts.actions_of(case.subject_id).actions[0].action_id
    for _ in range(2):
        sent(doors, STATUS_CHANGE, {"name": name, "status": "FAILED"})
    assert accounts.action(name).execution == f"{name}-2"
    sent(doors, STATUS_CHANGE, {"name": f"{name}-2", "status": "TIMED_OUT"})
    assert accounts.action(name).execution == f"{name}-3"


def test_a_message_that_cannot_be_handled_comes_again_and_its_text_is_not_logged(doors, capsys):
    answer = sent(doors, "CaseClosed", {"case_id": "A" * 26, "finding": "fraud", "subject_id": "secret-account"})
    assert answer == {"batchItemFailures": [{"itemIdentifier": "m-1"}]}
    assert "secret" not in capsys.readouterr().out
