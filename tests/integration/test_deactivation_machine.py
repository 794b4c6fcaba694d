"""Every state of the deactivation, and every Retry, Catch and Choice branch, is visited in the interpreter.

The functions of the states are stand-ins that fail on demand. tests/system runs the machine with the real ones.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.machine_walk import FOR_GOOD, Definition, Machine, walking

DEACTIVATION = Definition("deactivation")
ACTION = {"action_id": "action"}
STEPS = sorted(DEACTIVATION.tasks.keys() - {"Follow", "StepFailed"})
WHOLE = ["TakeSlot", "AwaitRelease", "TakeSlot", "Hold", "SettlePayments", "DenyInstruments", "Deactivate", "Notify"]
UNDONE = ["AwaitAppeal", "AwaitReview", "RemoveEntries", "RestoreStatus", "CorrectLabels", "Notify", "Finish"]


class Said:
    """What the functions answer: the steps in `next`, one a call, then Finish. `failed`: what StepFailed has heard."""

    def __init__(self) -> None:
        self.next: list[str] = []
        self.failed: list[str] = []

    def __call__(self, event: dict[str, Any]) -> Any:
        assert (event["version"], event["action_id"]) == (1, "action")
        assert event.keys() - {"token", "step"} == {"state", "version", "action_id"}
        if event["state"] == "StepFailed":
            self.failed.append(event["step"])
            return {}
        if "token" in event:  # the answer of a state that waits reaches nobody; Follow says what is next
            return {}
        return {"next": self.next.pop(0) if self.next else "Finish", "timeout_seconds": 1}


@pytest.fixture
def said() -> Said:
    return Said()


@pytest.fixture
def machine(said: Said) -> Iterator[Machine]:
    with walking(DEACTIVATION, said) as running:
        yield running


def test_every_state_and_every_branch_is_visited(
    machine: Machine, said: Said, capsys: pytest.CaptureFixture[str]
) -> None:
    said.next = WHOLE + UNDONE
    assert machine.run(ACTION) == "Finish"
    for step in STEPS:
        for failures in (1, FOR_GOOD):
            said.next = [step]
            machine.functions.failures[step] = failures
            assert machine.run(ACTION) == "Finish", (step, failures)
            machine.functions.failures.clear()
    assert said.failed == STEPS
    for step in DEACTIVATION.tokens:
        said.next, machine.functions.silent = [step], True
        assert machine.run(ACTION) == "Finish", step
    for state, failures, last in [
        ("Follow", 1, "Finish"),
        ("Follow", FOR_GOOD, "Failed"),
        ("StepFailed", 1, "Finish"),
        ("StepFailed", FOR_GOOD, "Failed"),
    ]:
        said.next = ["Hold"]
        machine.functions.failures.update(
            {state: failures, "Hold": FOR_GOOD} if state == "StepFailed" else {state: failures}
        )
        assert machine.run(ACTION) == last, (state, failures)
        machine.functions.failures.clear()
    said.next = ["AStepOfALaterRelease"]
    assert machine.run(ACTION) == "Failed"
    with capsys.disabled():
        print(f"\ndeactivation: {machine.figures()}")  # noqa: T201 - the figures are what the test is for
    assert machine.unvisited() == (set(), set())
    assert said.failed == [*STEPS, "Hold"]


def test_an_execution_goes_on_wherever_its_action_stands(machine: Machine, said: Said) -> None:
    for number in range(len(UNDONE)):
        said.next = UNDONE[number:]
        assert machine.run(ACTION) == "Finish"
        assert said.next == []
