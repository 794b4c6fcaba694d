"""Every state of the retraining, and every Retry, Catch and Choice branch, is visited in the interpreter.

The functions of the states and the jobs of SageMaker are stand-ins that fail on demand. `tests.acceptance.retraining`
runs the machine with the real ones.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.machine_walk import FOR_GOOD, Definition, Machine, walking

RETRAINING = Definition("retraining")
ROW = {"retraining_id": "retraining"}
STEPS = sorted(RETRAINING.tasks.keys() - RETRAINING.jobs - {"Follow", "StepFailed", "JobEnded", "JobFailed"})
WHOLE = ["Begin", "Export", "BuildDataset", "Train", "Evaluate", "Gate", "Register", "AwaitApproval"]
TRIED = ["StartShadow", "Pause", "StartShadow", "AwaitShadow", "JudgeShadow", "StartCanary", "AwaitCanary", "Promote"]
BACK = ["Restore", "Finish"]
JOB = {
    "seconds": 60,
    "arguments": [],
    "inputs": [],
    "outputs": [],
    "hyperparameters": {},
    "output": "s3://models/retraining",
}


class Said:
    """What the functions answer: the steps in `next`, one a call, then Finish.

    failed  what StepFailed has heard; ended what JobEnded and JobFailed have heard
    """

    def __init__(self) -> None:
        self.next: list[str] = []
        self.failed: list[str] = []
        self.ended: list[tuple[str, str]] = []
        self.seconds = 10

    def __call__(self, event: dict[str, Any]) -> Any:
        assert (event["version"], event["retraining_id"]) == (1, "retraining")
        assert event.keys() - {"token", "step", "job"} == {"state", "version", "retraining_id"}
        if event["state"] == "StepFailed":
            self.failed.append(event["step"])
        if event["state"] in {"JobEnded", "JobFailed"}:
            self.ended.append((event["state"], event["job"]))
        if "token" in event:  # the answer of a state that waits reaches nobody; Follow says what is next
            return {}
        step = self.next.pop(0) if self.next else "Finish"
        job = {"id": step, "name": step, **JOB} if step in RETRAINING.jobs else None
        return {"next": step, "timeout_seconds": self.seconds if step in RETRAINING.tasks else 0, "job": job}


@pytest.fixture
def said() -> Said:
    return Said()


@pytest.fixture
def machine(said: Said) -> Iterator[Machine]:
    with walking(RETRAINING, said) as running:
        yield running


def test_every_state_and_every_branch_is_visited(
    machine: Machine, said: Said, capsys: pytest.CaptureFixture[str]
) -> None:
    said.next = WHOLE + TRIED + BACK
    assert machine.run(ROW) == "Finish"
    assert said.ended == [("JobEnded", job) for job in ("BuildDataset", "Train", "Evaluate")]
    for step in STEPS:
        for failures in (1, FOR_GOOD):
            said.next = [step]
            machine.functions.failures[step] = failures
            assert machine.run(ROW) == "Finish", (step, failures)
            machine.functions.failures.clear()
    assert said.failed == STEPS
    for job in sorted(RETRAINING.jobs):
        said.next, said.ended, machine.jobs.refusals[job] = [job], [], 1
        assert machine.run(ROW) == "Finish"
        said.next, machine.jobs.failures[job] = [job, job], 1
        assert machine.run(ROW) == "Finish"
        said.next, machine.jobs.refusals[job] = [job], FOR_GOOD
        assert machine.run(ROW) == "Finish"
        assert said.ended == [(state, job) for state in ("JobEnded", "JobFailed", "JobEnded", "JobFailed")]
        machine.jobs.refusals.clear()
    for step in RETRAINING.tokens:
        said.next, said.seconds, machine.functions.silent = [step], 1, True
        assert machine.run(ROW) == "Finish", step
        machine.functions.silent = False
    said.failed.clear()
    for state, failures, last, heard in [
        ("Follow", 1, "Finish", []),
        ("Follow", FOR_GOOD, "Failed", []),
        ("StepFailed", 1, "Finish", ["Gate"]),
        ("StepFailed", FOR_GOOD, "Failed", []),
        ("JobEnded", 1, "Finish", []),
        ("JobEnded", FOR_GOOD, "Finish", ["Train"]),
        ("JobFailed", 1, "Finish", []),
        ("JobFailed", FOR_GOOD, "Finish", ["Train"]),
    ]:
        said.failed.clear()
        said.next = ["Train" if state.startswith("Job") else "Gate"]
        machine.jobs.failures["Train"] = int(state == "JobFailed")
        machine.functions.failures.update({state: failures} | ({"Gate": FOR_GOOD} if state == "StepFailed" else {}))
        assert machine.run(ROW) == last, (state, failures)
        assert said.failed == heard, (state, failures)
        machine.functions.failures.clear()
    said.next = ["AStepOfALaterRelease"]
    assert machine.run(ROW) == "Failed"
    with capsys.disabled():
        print(f"\nretraining: {machine.figures()}")  # noqa: T201 - the figures are what the test is for
    assert machine.unvisited() == (set(), set())


def test_an_execution_goes_on_wherever_its_retraining_stands(machine: Machine, said: Said) -> None:
    for number in range(len(TRIED)):
        said.next = [*TRIED[number:], "Finish"]
        assert machine.run(ROW) == "Finish"
        assert said.next == []


def test_a_job_runs_in_an_isolated_network_under_a_time_limit(machine: Machine, said: Said) -> None:
    said.next = ["BuildDataset", "Train", "Evaluate", "Finish"]
    machine.run(ROW)
    dataset, training, evaluation = machine.jobs.requests
    assert [each["StoppingCondition"] for each in machine.jobs.requests] == [{"MaxRuntimeInSeconds": 60}] * 3
    assert training["EnableNetworkIsolation"]
    assert dataset["NetworkConfig"] == evaluation["NetworkConfig"] == {"EnableNetworkIsolation": True}
