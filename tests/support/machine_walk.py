"""State machines in the interpreter, with stand-ins for their functions, and which states and branches were visited."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from local.workflows.interpreter import Activity, interpreting
from local.workflows.jobs import JobRefusedError

DEFINITIONS = Path(__file__).parents[2] / "statemachines"
REGION = "us-east-1"
FOR_GOOD = 99

TASK_FAILED = "States.TaskFailed"

NAMES = {"createProcessingJob": "ProcessingJobName", "createTrainingJob": "TrainingJobName", "startJobRun": "Name"}
"""Where the request of each job has its name."""

Branch = tuple[str, str, str]
"""A branch of a state: its name, `retry`, `catch` or `choice`, and which one."""


class Definition:
    """A definition in statemachines/: its states, those that are tasks, and those that wait for a token."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.text = (DEFINITIONS / f"{name}.asl.json").read_text(encoding="utf-8")
        self.states: Mapping[str, Any] = json.loads(self.text)["States"]
        self.tasks = {each: state for each, state in self.states.items() if state["Type"] == "Task"}
        self.tokens = {each for each, state in self.tasks.items() if state["Resource"].endswith(".waitForTaskToken")}
        self.jobs = {each for each, state in self.tasks.items() if state["Resource"].endswith(".sync")}

    def branches(self) -> set[Branch]:
        """Return every branch of the definition."""
        found: set[Branch] = set()
        for name, state in self.states.items():
            found |= {(name, "retry", each["ErrorEquals"][0]) for each in state.get("Retry", ())}
            found |= {(name, "catch", each["ErrorEquals"][0]) for each in state.get("Catch", ())}
            found |= {(name, "choice", each["StringEquals"]) for each in state.get("Choices", ())}
            found |= {(name, "choice", "default")} if "Default" in state else set()
        return found


class Functions:
    """Stand-ins for the functions of the states.

    failures  how often each state still fails
    silent    whether tokens are never sent
    answers   returns the answer of a state; what else it has to say of an event, it may assert
    """

    def __init__(self, definition: Definition, answers: Callable[[dict[str, Any]], Any]) -> None:
        self.failures: Counter[str] = Counter()
        self.silent = False
        self._tokens = definition.tokens
        self._answers = answers

    def __call__(self, _function: str, event: dict[str, Any]) -> tuple[Any, bool]:
        state = event["state"]
        if self.failures[state] > 0:
            self.failures[state] -= 1
            return {"errorType": "UnavailableError", "errorMessage": ""}, True
        if state in self._tokens and not self.silent:
            client = boto3.client("stepfunctions", region_name=REGION)
            client.send_task_success(taskToken=event["token"], output=json.dumps({"version": 2}))
        return self._answers(event), False


class StandInJobs:
    """Stand-ins for the jobs of SageMaker: each is over at once, and its name says which state has started it.

    refusals  how often each state's job is still refused
    failures  how often each state's job still fails
    """

    def __init__(self) -> None:
        self.refusals: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.requests: list[Mapping[str, Any]] = []

    def start(self, api: str, request: Mapping[str, Any]) -> str:
        name = str(request[NAMES[api]])
        if self.refusals[name] > 0:
            self.refusals[name] -= 1
            raise JobRefusedError("ThrottlingException")
        self.requests.append(request)
        return name

    def ended(self, _api: str, name: str) -> Mapping[str, Any]:
        self.failures[name] -= 1
        return {"Status": "Failed" if self.failures[name] >= 0 else "Completed"}


class Machine:
    """A machine in an account of its own, and what its executions have visited."""

    def __init__(self, definition: Definition, functions: Functions, activity: Activity, jobs: StandInJobs) -> None:
        self.definition = definition
        self.functions = functions
        self.jobs = jobs
        self.visited: set[str] = set()
        self.taken: set[Branch] = set()
        self._activity = activity
        self._client = boto3.client("stepfunctions", region_name=REGION)
        function = f"{definition.name.capitalize()}Function"
        arn = f"arn:aws:lambda:{REGION}:123456789012:function:{definition.name.capitalize()}:live"
        text = definition.text.replace("${Partition}", "aws").replace(f"${{{function}}}", arn)
        role = "arn:aws:iam::123456789012:role/machine"
        made = self._client.create_state_machine(name=definition.name, definition=text, roleArn=role)
        self._arn = made["stateMachineArn"]
        self._number = 0

    def run(self, payload: Mapping[str, Any]) -> str:
        """Execute the machine once, and return the last state."""
        self._number += 1
        started = self._client.start_execution(
            stateMachineArn=self._arn, name=f"execution-{self._number}", input=json.dumps(payload)
        )
        self._activity.over(self._number, 30)
        events = self._client.get_execution_history(executionArn=started["executionArn"])["events"]
        return self._learn(events)

    def unvisited(self) -> tuple[set[str], set[Branch]]:
        """Return the states and branches that no execution has visited."""
        return set(self.definition.states) - self.visited, self.definition.branches() - self.taken

    def figures(self) -> str:
        """Return how many states and branches were visited, in words."""
        states, branches = self.unvisited()
        known, ways = len(self.definition.states), len(self.definition.branches())
        return f"states {known - len(states)}/{known}, branches {ways - len(branches)}/{ways}"

    def _learn(self, events: Sequence[Mapping[str, Any]]) -> str:
        """Take down the states and branches of a history."""
        states = self.definition.states
        state, failed = "", ""
        for event in events:
            entered = event.get("stateEnteredEventDetails", {}).get("name")
            if entered:
                self.taken |= set(self._left(state, failed, entered)) if state else set()
                self.visited.add(entered)
                state, failed = entered, ""
            elif event["type"] == "TaskTimedOut":
                failed = "States.Timeout"
            elif event["type"] == "TaskFailed":
                failed = event["taskFailedEventDetails"]["error"] if state in self.definition.jobs else TASK_FAILED
            elif event["type"] == "TaskScheduled" and failed:
                self.taken.add((state, "retry", states[state]["Retry"][0]["ErrorEquals"][0]))
                failed = ""
        return state

    def _left(self, state: str, failed: str, target: str) -> Iterator[Branch]:
        """Yield the branch by which an execution has left a state."""
        said = self.definition.states[state]
        if said["Type"] == "Choice":
            rules = [each for each in said["Choices"] if each["Next"] == target]
            yield state, "choice", rules[0]["StringEquals"] if rules else "default"
        elif failed:
            catch = next(each for each in said["Catch"] if {failed, "States.ALL"} & {*each["ErrorEquals"]})
            assert catch["Next"] == target
            yield state, "catch", catch["ErrorEquals"][0]


@contextmanager
def walking(definition: Definition, answers: Callable[[dict[str, Any]], Any]) -> Iterator[Machine]:
    """Run a machine in an account of its own while the block lasts."""
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("AWS_ENDPOINT_URL", raising=False)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            environment.setenv(name, "test")
        functions, activity = Functions(definition, answers), Activity()
        jobs = StandInJobs()
        with mock_aws(), interpreting(functions, 0, activity, jobs):
            yield Machine(definition, functions, activity, jobs)
