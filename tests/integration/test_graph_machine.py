"""Every state of the machine `graph`, and every Retry, Catch and Choice branch, is visited in the interpreter.

The function of the states and the jobs are stand-ins that fail on demand; tests/system/test_graph.py runs the real
ones. The request of a Spark job, which no box can play, is held against the service's own description.
"""

import json
from collections.abc import Iterator
from typing import Any

import boto3
import numpy as np
import pytest
from botocore.stub import Stubber

from fraud import packaged
from fraud.graph import publishing
from fraud.graph.publishing import Plan
from fraud.marks.pointer import SETTLES
from fraud.retraining.jobs import Place
from fraud.transaction import instant
from tests.support.machine_walk import FOR_GOOD, REGION, Definition, Machine, walking

GRAPH = Definition("graph")
PLAN = Plan.load(packaged.GRAPH_PLAN.read_bytes())
PLACE = Place("models", "archive")
WHOLE = ["Export", "Analyse", "Gate", "Publish", "Publish", "Flip", "Suggest", "Notify", "Published"]
"""What the function answers, in the sequence of its calls; `Tell` follows the job by itself."""

SPOKEN = ["Begin", "Export", "Tell", "Gate", "Publish", "Flip", "Suggest"]
"""The steps whose failure ends in Keep."""


class Said:
    """What the function answers: the steps in `next`, one a call, then Kept. It hears of failures in `kept`."""

    def __init__(self) -> None:
        self.next: list[str] = []
        self.kept: list[str] = []
        self.heard: list[str] = []

    def __call__(self, event: dict[str, Any]) -> Any:
        assert event["version"] == (2 if event["state"] in {"Flip", "Keep"} else 1)
        assert event["run_id"].startswith("execution-")
        assert event.keys() - {"step"} == {"state", "version", "run_id", "run"}
        assert event["run"] == ({} if not self.heard else {"page": len(self.heard)})
        self.heard.append(event["state"])
        if event["state"] == "Keep":
            self.kept.append(event["step"])
        step = self.next.pop(0) if self.next else "Kept"
        job = None
        if step in GRAPH.jobs:
            job = publishing.job("run", instant("2026-06-01T00:00:00Z"), PLACE, PLAN) | {"name": step}
        return {"next": step, "run": {"page": len(self.heard)}, "job": job, "timeout_seconds": 10}


@pytest.fixture
def said() -> Said:
    return Said()


@pytest.fixture
def machine(said: Said) -> Iterator[Machine]:
    with walking(GRAPH, said) as running:
        yield running


def run(machine: Machine, said: Said, steps: list[str]) -> str:
    """Execute the machine with these answers, and return its last state."""
    said.next, said.heard = list(steps), []
    said.kept.clear()
    return machine.run({})


def until(step: str) -> list[str]:
    """Return the answers that lead to a step."""
    if step == "Tell":
        return WHOLE[: WHOLE.index("Analyse") + 1]
    return [] if step == "Begin" else WHOLE[: WHOLE.index(step) + 1]


def test_every_state_and_every_branch_is_visited(
    machine: Machine, said: Said, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(machine, said, WHOLE) == "Published"
    assert said.heard == ["Begin", "Export", "Tell", "Gate", "Publish", "Publish", "Flip", "Suggest", "Notify"]
    for step in SPOKEN:
        machine.functions.failures[step] = 1
        assert run(machine, said, WHOLE) == "Published", step
        machine.functions.failures[step] = FOR_GOOD
        assert run(machine, said, until(step)) == "Kept", step
        assert said.kept == [step]
        machine.functions.failures.clear()
    for job in sorted(GRAPH.jobs):
        way = ["Export", job, *WHOLE[2:]]
        assert run(machine, said, way) == "Published"
        machine.jobs.refusals[job] = 1
        assert run(machine, said, way) == "Published"
        machine.jobs.refusals[job] = FOR_GOOD
        assert run(machine, said, ["Export", job]) == "Kept"
        assert said.kept == [job]
        machine.jobs.refusals.clear()
        machine.jobs.failures[job] = FOR_GOOD
        assert run(machine, said, ["Export", job]) == "Kept"
        assert said.kept == [job]
        machine.jobs.failures.clear()
    for step, way, failures, last in [
        ("Notify", WHOLE, 1, "Published"),
        ("Notify", WHOLE, FOR_GOOD, "Failed"),
        ("Keep", ["Export", "Keep"], 1, "Kept"),
        ("Keep", ["Export", "Keep"], FOR_GOOD, "Failed"),
        ("Gate", ["AStepOfALaterRelease"], 0, "Failed"),
    ]:
        machine.functions.failures[step] = failures
        assert run(machine, said, way) == last, (step, failures)
        machine.functions.failures.clear()
    with capsys.disabled():
        print(f"\ngraph: {machine.figures()}")  # noqa: T201 - the figures are what the test is for
    assert machine.unvisited() == (set(), set())


def test_a_run_that_failed_after_its_snapshot_came_into_force_tells_of_it(machine: Machine, said: Said) -> None:
    for step in ("Flip", "Suggest"):
        machine.functions.failures[step] = FOR_GOOD
        assert run(machine, said, [*until(step), "Notify", "Published"]) == "Published"
        assert said.heard[-2:] == ["Keep", "Notify"]
        assert said.kept == [step]
        machine.functions.failures.clear()


def test_a_run_that_begins_at_a_flip_is_tried_again_until_the_side_is_free():
    (retry,) = json.loads(GRAPH.text)["States"]["Begin"]["Retry"]
    longest = [
        min(retry["IntervalSeconds"] * retry["BackoffRate"] ** number, retry["MaxDelaySeconds"])
        for number in range(retry["MaxAttempts"])
    ]
    waits = np.random.default_rng(1).uniform(0, longest, (10_000, len(longest))).sum(axis=1)  # the jitter is full
    assert np.mean(waits > SETTLES.total_seconds()) > 0.99


def test_a_job_runs_in_an_isolated_network_under_a_time_limit(machine: Machine, said: Said) -> None:
    run(machine, said, WHOLE)
    (job,) = machine.jobs.requests
    assert job["NetworkConfig"] == {"EnableNetworkIsolation": True}
    assert job["StoppingCondition"] == {"MaxRuntimeInSeconds": PLAN.seconds}


REQUESTS = {
    "AnalyseWithSpark": ("emr-serverless", "start_job_run", {"applicationId": "a", "jobRunId": "j", "arn": "a" * 60}),
    "Analyse": ("sagemaker", "create_processing_job", {"ProcessingJobArn": "arn:aws:sagemaker:job"}),
}
"""The request that each job is to its service, with an answer of it."""


@pytest.mark.parametrize("step", REQUESTS)
def test_the_request_of_a_job_is_one_that_its_service_takes(machine: Machine, said: Said, step: str) -> None:
    service, operation, answer = REQUESTS[step]
    run(machine, said, ["Export", step])
    (request,) = machine.jobs.requests
    sent = _deployed(request if service == "sagemaker" else _lowered(request))
    client = boto3.client(service, region_name=REGION)
    with Stubber(client) as stub:
        stub.add_response(operation, answer, sent)
        getattr(client, operation)(**sent)
    assert (sent.get("clientToken") or sent["ProcessingJobName"]) == step


def _deployed(request: Any) -> Any:
    """Return a request with ids in the place of the template's substitutions."""
    ids = {
        "${JobsRole}": "arn:aws:iam::123456789012:role/jobs",
        "${SparkApplication}": "00f1abcdefghij0k",
        "${Image}": "image",
        "${Instance}": "ml.m5.xlarge",
    }
    text = json.dumps(request)
    for name, found in ids.items():
        text = text.replace(name, found)
    return json.loads(text)


def _lowered(node: Any) -> Any:
    """Return a request with the service's own names: Step Functions begins them with a capital letter."""
    if isinstance(node, dict):
        return {name[0].lower() + name[1:]: _lowered(value) for name, value in node.items()}
    return [_lowered(each) for each in node] if isinstance(node, list) else node
