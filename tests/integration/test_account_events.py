"""The door of the bus's events about accounts: findings, holds that cases ask for, and executions that have ended."""

import itertools
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from fraud.accounts.status import AccountState
from fraud.accounts.store import Accounts
from fraud.cases.case import SYSTEM, Actor, Alert, Case, CaseEvent
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


def opened(cases: Cases) -> Case:
    """Open a case about a payee and have it wait for an analyst."""
    number = next(_names)
    alert = Alert(
        transaction_id=f"event-payment-{number}",
        subject_kind="payee",
        subject_id=f"event-account-{number}",
        occurred_at=now(),
        reason="FAN_IN_BURST",
    )
    case = cases.open(alert, now())
    return cases.change(case.case_id, CaseEvent(kind="routed"), SYSTEM, now())


def closed(cases: Cases, finding: str) -> Case:
    """Have a case judged and concluded."""
    case = opened(cases)
    judged = CaseEvent(kind="judged", finding=finding, note="secret reason")
    cases.change(case.case_id, judged, LEAD, now(), seen=case.version)
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
    return {"case_id": case.case_id, "finding": finding, "subject_id": case.subject_id}


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


@pytest.mark.parametrize("finding", ["legitimate", "dispute", "inconclusive"])
def test_any_other_finding_opens_none_and_ends_the_hold_that_the_case_has_asked_for(doors, cases, accounts, finding):
    case = opened(cases)
    sent(doors, "HoldRequested", {"case_id": case.case_id, "subject_id": case.subject_id})
    assert accounts.account(case.subject_id).state is AccountState.HELD
    sent(doors, "CaseClosed", finding_of(case, finding))
    account = accounts.account(case.subject_id)
    assert (account.state, account.action_id) == (AccountState.ACTIVE, None)


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
