"""The box's jobs of SageMaker: processes with time limits, whose inputs and outputs are S3's."""

import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from local.sagemaker.jobs import ProcessJobs
from local.workflows.jobs import JobRefusedError

COPY = "import sys, pathlib; [a, b] = map(pathlib.Path, sys.argv[1:]); (b / 'copy').write_bytes((a / 'x').read_bytes())"


class S3:
    """S3 in memory, as far as jobs use it."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {"in/x": b"content"}

    def get_object(self, Bucket: str, Key: str) -> dict[str, Any]:  # noqa: N803 - boto3's names
        assert Bucket == "bucket"
        return {"Body": io.BytesIO(self.objects[Key])}

    def put_object(self, Bucket: str, Key: str, Body: bytes) -> None:  # noqa: N803
        assert Bucket == "bucket"
        self.objects[Key] = Body

    def get_paginator(self, _name: str) -> Any:
        return self

    def paginate(self, Bucket: str, Prefix: str) -> list[dict[str, Any]]:  # noqa: N803
        assert Bucket == "bucket"
        return [{"Contents": [{"Key": key} for key in self.objects if key.startswith(Prefix)]}]


@pytest.fixture
def s3() -> S3:
    return S3()


@pytest.fixture
def jobs(s3: S3, tmp_path: Path) -> Iterator[ProcessJobs]:
    made = ProcessJobs(tmp_path)
    made.s3 = lambda: s3
    yield made
    made.end()


def request(name: str, *code: str, seconds: int = 60) -> dict[str, Any]:
    """Return the request of a processing job that runs code."""
    return {
        "ProcessingJobName": name,
        "AppSpecification": {
            "ContainerEntrypoint": ["python3", "-S", "-c", *code],
            "ContainerArguments": ["/opt/ml/processing/in", "/opt/ml/processing/out"],
        },
        "ProcessingInputs": [
            {"S3Input": {"S3Uri": "s3://bucket/in/", "S3DataType": "S3Prefix", "LocalPath": "/opt/ml/processing/in"}}
        ],
        "ProcessingOutputConfig": {
            "Outputs": [{"S3Output": {"S3Uri": "s3://bucket/out/", "LocalPath": "/opt/ml/processing/out"}}]
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": seconds},
    }


def ended(jobs: ProcessJobs, asked: dict[str, Any]) -> Any:
    """Start a job, and return what is said of it when it is over."""
    name = jobs.start("createProcessingJob", asked)
    limit = time.monotonic() + 60
    while (found := jobs.ended("createProcessingJob", name)) is None:
        assert time.monotonic() < limit
        time.sleep(0.01)
    return found


def test_a_job_reads_its_inputs_and_its_outputs_are_kept(jobs, s3):
    assert ended(jobs, request("one", COPY))["Status"] == "Completed"
    assert s3.objects["out/copy"] == b"content"


def test_a_job_that_fails_says_why_and_keeps_nothing(jobs, s3):
    found = ended(jobs, request("one", f"{COPY}; sys.exit('no such luck')"))
    assert (found["Status"], found["FailureReason"].strip()) == ("Failed", "no such luck")
    assert set(s3.objects) == {"in/x"}
    assert "a program" in ended(jobs, request("two", COPY) | _entry("a program"))["FailureReason"]


def _entry(program: str) -> dict[str, Any]:
    return {"AppSpecification": {"ContainerEntrypoint": [program]}}


def test_a_job_is_stopped_at_its_time_limit(jobs):
    assert ended(jobs, request("one", "import time; time.sleep(60)", seconds=0))["Status"] == "Stopped"


def test_a_job_whose_name_is_among_the_faults_is_killed_once(jobs, tmp_path):
    (tmp_path / "kill-one").touch()
    assert ended(jobs, request("job-one", "import time; time.sleep(60)"))["Status"] == "Failed"
    assert ended(jobs, request("job-one-again", COPY))["Status"] == "Completed"


def test_a_name_is_used_once(jobs):
    ended(jobs, request("one", COPY))
    with pytest.raises(JobRefusedError, match="ResourceInUse"):
        jobs.start("createProcessingJob", request("one", COPY))
