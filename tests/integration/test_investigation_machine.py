"""Every state of the investigation, and every Retry, Catch and Choice branch, is visited in the interpreter.

The functions of the states are stand-ins that fail on demand. tests/system runs the machine with the real ones.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from local.workflows.interpreter import Activity, interpreting

TEXT = (Path(__file__).parents[2] / "statemachines" / "investigation.asl.json").read_text(encoding="utf-8")
STATES: Mapping[str, Any] = json.loads(TEXT)["States"]
TASKS = {name: state for name, state in STATES.items() if state["Type"] == "Task"}
TOKENS = {name for name, state in TASKS.items() if state["Resource"].endswith(".waitForTaskToken")}
FOR_GOOD = 99

Branch = tuple[str, str, str]
"""A branch of a state: its name, `retry`, `catch` or `choice`, and which one."""


def branches() -> set[Branch]:
    """Return every branch of the definition."""
    found: set[Branch] = set()
    for name, state in STATES.items():
        found |= {(name, "retry", each["ErrorEquals"][0]) for each in state.get("Retry", ())}
        found |= {(name, "catch", each["ErrorEquals"][0]) for each in state.get("Catch", ())}
        found |= {(name, "choice", each["StringEquals"]) for each in state.get("Choices", ())}
        found |= {(name, "choice", "default")} if "Default" in state else set()
    return found


class Functions:
    """Stand-ins for the functions of the states.

    failures  how often each state still fails
    route     what Triage says
    waits     what Follow says, one a call; then that the case waits for nobody
    silent    whether tokens are never sent
    """

    def __init__(self) -> None:
        self.failures: Counter[str] = Counter()
        self.route = "analyst"
        self.waits: list[str] = []
        self.silent = False

    def __call__(self, function: str, event: dict[str, Any]) -> tuple[Any, bool]:
        assert (function, event["version"], event["case_id"]) == ("Investigation", 1, "case")
        state = event["state"]
        if self.failures[state] > 0:
            self.failures[state] -= 1
            return {"errorType": "UnavailableError", "errorMessage": ""}, True
        if state == "Triage":
            return {"route": self.route, "reasons": []}, False
        if state == "Follow":
            return {"waits_for": self.waits.pop(0) if self.waits else "nobody", "timeout_seconds": 1}, False
        if state in TOKENS and not self.silent:
            output = json.dumps({"case_id": "case", "version": 2})
            boto3.client("stepfunctions", region_name="us-east-1").send_task_success(
                taskToken=event["token"], output=output
            )
        return {}, False


class Machine:
    """The machine in an account of its own, and what its executions have visited."""

    def __init__(self, functions: Functions, activity: Activity) -> None:
        self.functions = functions
        self.visited: set[str] = set()
        self.taken: set[Branch] = set()
        self._activity = activity
        self._client = boto3.client("stepfunctions", region_name="us-east-1")
        arn = "arn:aws:lambda:us-east-1:123456789012:function:Investigation:live"
        text = TEXT.replace("${Partition}", "aws").replace("${InvestigationFunction}", arn)
        role = "arn:aws:iam::123456789012:role/machine"
        made = self._client.create_state_machine(name="investigation", definition=text, roleArn=role)
        self._arn = made["stateMachineArn"]
        self._number = 0

    def run(self) -> str:
        """Execute the machine once, and return the last state."""
        self._number += 1
        started = self._client.start_execution(
            stateMachineArn=self._arn, name=f"case-{self._number}", input=json.dumps({"case_id": "case"})
        )
        execution = started["executionArn"]
        self._activity.over(self._number, 30)
        events = self._client.get_execution_history(executionArn=execution)["events"]
        return self._learn(events)

    def _learn(self, events: Sequence[Mapping[str, Any]]) -> str:
        """Take down the states and branches of a history."""
        state, failed = "", ""
        for event in events:
            entered = event.get("stateEnteredEventDetails", {}).get("name")
            if entered:
                self.taken |= set(self._left(state, failed, entered)) if state else set()
                self.visited.add(entered)
                state, failed = entered, ""
            elif event["type"] in {"TaskFailed", "TaskTimedOut"}:
                failed = "States.Timeout" if event["type"] == "TaskTimedOut" else "States.TaskFailed"
            elif event["type"] == "TaskScheduled" and failed:
                self.taken.add((state, "retry", STATES[state]["Retry"][0]["ErrorEquals"][0]))
                failed = ""
        return state

    def _left(self, state: str, failed: str, target: str) -> Iterator[Branch]:
        """Yield the branch by which an execution has left a state."""
        said = STATES[state]
        if said["Type"] == "Choice":
            rules = [each for each in said["Choices"] if each["Next"] == target]
            yield state, "choice", rules[0]["StringEquals"] if rules else "default"
        elif failed:
            catch = next(each for each in said["Catch"] if {failed, "States.ALL"} & {*each["ErrorEquals"]})
            assert catch["Next"] == target
            yield state, "catch", catch["ErrorEquals"][0]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    functions, activity = Functions(), Activity()
    with mock_aws(), interpreting(functions, 0, activity):
        yield Machine(functions, activity)


def on_the_way_to(state: str, functions: Functions) -> None:
    """Make the case take a way that leads through a state."""
    functions.route = "hold" if state == "RequestHold" else "analyst"
    functions.waits = {"AskPayer": ["payer"], "NotReached": ["payer"]}.get(state, ["analyst"])
    functions.silent = state in {"NotReached", "TimedOut"}
    if state == "MarkFailed":
        functions.failures["CollectEvidence"] = FOR_GOOD


def test_every_state_and_every_branch_is_visited(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    functions = machine.functions
    functions.waits = ["analyst", "payer", "analyst"]
    assert machine.run() == "Closed"
    for functions.route in ("close", "hold"):
        assert machine.run() == "Closed"
    for state in TASKS:
        for failures, last in ((1, "Closed"), (FOR_GOOD, "Failed")):
            on_the_way_to(state, functions)
            functions.failures[state] = failures
            assert machine.run() == ("Failed" if state == "MarkFailed" else last), (state, failures)
            functions.failures.clear()
    wanted = branches()
    with capsys.disabled():
        figures = f"states {len(machine.visited)}/{len(STATES)}, branches {len(machine.taken & wanted)}/{len(wanted)}"
        print(f"\ninvestigation: {figures}")  # noqa: T201 - the figures are what the test is for
    assert machine.visited == set(STATES)
    assert wanted - machine.taken == set()
