"""Every state of the investigation, and every Retry, Catch and Choice branch, is visited in the interpreter.

The functions of the states are stand-ins that fail on demand. tests/system runs the machine with the real ones.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.machine_walk import FOR_GOOD, Definition, Machine, walking

INVESTIGATION = Definition("investigation")
CASE = {"case_id": "case"}


class Said:
    """What the functions answer.

    route  what Triage says
    waits  what Follow says, one a call; then that the case waits for nobody
    """

    def __init__(self) -> None:
        self.route = "analyst"
        self.waits: list[str] = []

    def __call__(self, event: dict[str, Any]) -> Any:
        assert (event["version"], event["case_id"]) == (1, "case")
        if event["state"] == "Triage":
            return {"route": self.route, "reasons": []}
        if event["state"] == "Follow":
            return {"waits_for": self.waits.pop(0) if self.waits else "nobody", "timeout_seconds": 1}
        return {}


@pytest.fixture
def said() -> Said:
    return Said()


@pytest.fixture
def machine(said: Said) -> Iterator[Machine]:
    with walking(INVESTIGATION, said) as running:
        yield running


def on_the_way_to(state: str, machine: Machine, said: Said) -> None:
    """Make the case take a way that leads through a state."""
    said.route = "hold" if state == "RequestHold" else "analyst"
    said.waits = {"AskPayer": ["payer"], "NotReached": ["payer"]}.get(state, ["analyst"])
    machine.functions.silent = state in {"NotReached", "TimedOut"}
    if state == "MarkFailed":
        machine.functions.failures["CollectEvidence"] = FOR_GOOD


def test_every_state_and_every_branch_is_visited(
    machine: Machine, said: Said, capsys: pytest.CaptureFixture[str]
) -> None:
    said.waits = ["analyst", "payer", "analyst"]
    assert machine.run(CASE) == "Closed"
    for said.route in ("close", "hold"):
        assert machine.run(CASE) == "Closed"
    for state in INVESTIGATION.tasks:
        for failures, last in ((1, "Closed"), (FOR_GOOD, "Failed")):
            on_the_way_to(state, machine, said)
            machine.functions.failures[state] = failures
            assert machine.run(CASE) == ("Failed" if state == "MarkFailed" else last), (state, failures)
            machine.functions.failures.clear()
    with capsys.disabled():
        print(f"\ninvestigation: {machine.figures()}")  # noqa: T201 - the figures are what the test is for
    assert machine.unvisited() == (set(), set())
