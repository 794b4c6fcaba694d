"""The interpreter of state machines in the box does what Step Functions documents."""

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from moto import mock_aws

from fraud.aws.state_machine import StateMachine
from local.workflows.interpreter import Activity, interpreting

ROLE = "arn:aws:iam::123456789012:role/machine"
FUNCTION = "arn:aws:lambda:us-east-1:123456789012:function:Work:live"
RETRY = [{"ErrorEquals": ["States.TaskFailed"], "IntervalSeconds": 60, "MaxAttempts": 2}]
TASK = {"Type": "Task", "TimeoutSeconds": 5, "Retry": RETRY, "ResultPath": None}
DEFINITION = {
    "StartAt": "Work",
    "States": {
        "Work": {
            **TASK,
            "Resource": "arn:aws:states:::lambda:invoke",
            "Parameters": {"FunctionName": FUNCTION, "Payload": {"state": "Work", "case_id.$": "$.case_id"}},
            "Next": "Wait",
        },
        "Wait": {
            **TASK,
            "Resource": "arn:aws:states:::lambda:invoke.waitForTaskToken",
            "TimeoutSeconds": 1,
            "Parameters": {"FunctionName": FUNCTION, "Payload": {"state": "Wait", "token.$": "$$.Task.Token"}},
            "Catch": [{"ErrorEquals": ["States.Timeout"], "Next": "Late"}],
            "Next": "Done",
        },
        "Late": {"Type": "Fail", "Error": "Late", "Cause": "nobody has answered"},
        "Done": {"Type": "Succeed"},
    },
}


class Account:
    """An account with one machine. `failures`: errors that the function raises, one a call; `events`: its calls."""

    def __init__(self) -> None:
        self.activity = Activity()
        self.failures: list[str] = []
        self.events: list[dict[str, Any]] = []

    def invoke(self, function: str, event: dict[str, Any]) -> tuple[Any, bool]:
        assert function == "Work"
        self.events.append(event)
        if self.failures:
            return {"errorType": self.failures.pop(), "errorMessage": ""}, True
        return {}, False

    def start(self) -> str:
        self.client = boto3.client("stepfunctions", region_name="us-east-1")
        machine = self.client.create_state_machine(name="m", definition=json.dumps(DEFINITION), roleArn=ROLE)
        self.machine = machine["stateMachineArn"]
        return str(self.again("c-1"))

    def again(self, name: str) -> str:
        started = self.client.start_execution(stateMachineArn=self.machine, name=name, input='{"case_id": "c-1"}')
        return str(started["executionArn"])

    def send(self) -> None:
        self.activity.rest(9)
        self.client.send_task_success(taskToken=self.events[-1]["token"], output="{}")

    def ended(self, execution: str) -> str:
        """Return the status of an execution once it is over."""
        self.activity.over(1, 9)
        return str(self.client.describe_execution(executionArn=execution)["status"])


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    made = Account()
    with mock_aws(), interpreting(made.invoke, 0, made.activity):
        yield made


def test_execution_passes_its_states_and_ends_when_its_token_is_sent(account: Account) -> None:
    execution = account.start()
    account.send()
    assert account.ended(execution) == "SUCCEEDED"
    assert [event["state"] for event in account.events] == ["Work", "Wait"]
    assert account.events[0]["case_id"] == "c-1"


def test_failed_task_is_tried_again_at_once(account: Account) -> None:
    account.failures = ["UnavailableError", "UnavailableError"]
    execution = account.start()
    account.send()
    assert account.ended(execution) == "SUCCEEDED"
    assert [event["state"] for event in account.events] == ["Work", "Work", "Work", "Wait"]


def test_token_is_refused_when_it_is_sent_again(account: Account) -> None:
    execution = account.start()
    account.send()
    with pytest.raises((account.client.exceptions.TaskTimedOut, account.client.exceptions.InvalidToken)):
        account.send()
    assert account.ended(execution) == "SUCCEEDED"


def test_token_that_is_never_sent_times_out_and_the_end_is_an_event_of_the_bus(account: Account) -> None:
    sqs, bus = boto3.client("sqs", region_name="us-east-1"), boto3.client("events", region_name="us-east-1")
    url = sqs.create_queue(QueueName="ends")["QueueUrl"]
    bus.put_rule(Name="ends", EventPattern='{"source": ["aws.states"], "detail": {"status": ["FAILED"]}}')
    bus.put_targets(Rule="ends", Targets=[{"Id": "q", "Arn": "arn:aws:sqs:us-east-1:123456789012:ends"}])
    execution = account.start()
    (message,) = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=9)["Messages"]
    assert account.ended(execution) == "FAILED"
    assert json.loads(message["Body"])["detail"] == {
        "executionArn": execution,
        "stateMachineArn": account.machine,
        "name": "c-1",
        "status": "FAILED",
    }


def test_machine_tells_whether_an_execution_is_over_or_missing(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    execution = account.start()
    account.send()
    assert account.ended(execution) == "SUCCEEDED"
    machine = StateMachine(account.machine)
    assert (machine.standing("c-1"), machine.standing("c-2")) == ("over", "missing")


@pytest.mark.parametrize(
    ("status", "standing"),
    [
        ("RUNNING", "runs"),
        ("PENDING_REDRIVE", "runs"),
        ("SUCCEEDED", "over"),
        ("FAILED", "over"),
        ("ABORTED", "over"),
        ("TIMED_OUT", "over"),
    ],
)
def test_execution_runs_or_is_over_in_each_of_its_states(status: str, standing: str) -> None:
    machine = StateMachine("arn:aws:states:us-east-1:123456789012:stateMachine:m")
    asked = []

    def describe(executionArn: str) -> dict[str, str]:  # noqa: N803 - AWS's name
        asked.append(executionArn)
        return {"status": status}

    machine._client = SimpleNamespace(describe_execution=describe)
    assert machine.standing("c-1") == standing
    assert asked == ["arn:aws:states:us-east-1:123456789012:execution:m:c-1"]


def test_execution_of_the_same_name_exists_already_once_it_is_over(account: Account) -> None:
    execution = account.start()
    assert account.again("c-1") == execution
    account.send()
    assert account.ended(execution) == "SUCCEEDED"
    with pytest.raises(account.client.exceptions.ExecutionAlreadyExists):
        account.again("c-1")
