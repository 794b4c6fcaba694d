"""Ad-hoc training and serving without AWS: the SDK's real requests, answered before they leave the process.

A session of boto3 answers each request itself. botocore checks each against the service's model first, so a request of
a wrong shape fails here. The sources that the job would get are unpacked, and must be able to start training.
Needs the SDK: `make sagemaker` runs it in .launch-venv. A package of the SDK's is named `tests`, so it runs as a file.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import boto3
import requests
from botocore.awsrequest import AWSResponse

from models import launch

ROLE, BUCKET, NAME = "arn:aws:iam::123456789012:role/try", "fraud-try-bucket", "try-1"

ARN = "arn:aws:sagemaker:eu-west-1:123456789012"

ANSWERS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "CreateTrainingJob": lambda said: {"TrainingJobArn": f"{ARN}:training-job/{said['TrainingJobName']}"},
    "DescribeTrainingJob": lambda said: {
        "TrainingJobName": said["TrainingJobName"],
        "TrainingJobArn": f"{ARN}:training-job/{said['TrainingJobName']}",
        "TrainingJobStatus": "Completed",
        "SecondaryStatus": "Completed",
    },
    "CreateModel": lambda said: {"ModelArn": f"{ARN}:model/{said['ModelName']}"},
    "DescribeModel": lambda said: {"ModelName": said["ModelName"], "ModelArn": f"{ARN}:model/{said['ModelName']}"},
    "CreateEndpointConfig": lambda said: {"EndpointConfigArn": f"{ARN}:endpoint-config/{said['EndpointConfigName']}"},
    "DescribeEndpointConfig": lambda said: {
        "EndpointConfigName": said["EndpointConfigName"],
        "EndpointConfigArn": f"{ARN}:endpoint-config/{said['EndpointConfigName']}",
        "ProductionVariants": [],
    },
    "CreateEndpoint": lambda said: {"EndpointArn": f"{ARN}:endpoint/{said['EndpointName']}"},
    "DescribeEndpoint": lambda said: {
        "EndpointName": said["EndpointName"],
        "EndpointArn": f"{ARN}:endpoint/{said['EndpointName']}",
        "EndpointConfigName": said["EndpointName"],
        "EndpointStatus": "InService",
    },
    "DeleteEndpoint": lambda _: {},
    "DeleteEndpointConfig": lambda _: {},
    "DeleteModel": lambda _: {},
}

BUCKETS = (
    f"<ListAllMyBucketsResult><Buckets><Bucket><Name>{BUCKET}</Name><CreationDate>2026-01-01T00:00:00Z</CreationDate>"
    "</Bucket></Buckets></ListAllMyBucketsResult>"
).encode()

DENIED = b"<ErrorResponse><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>"


class Body:
    """The body of an answer, as urllib3 has it."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def stream(self, **_options: Any) -> list[bytes]:
        return [self._content]


class Asked(NamedTuple):
    """What the SDK asked for: operations of SageMaker with their bodies, and objects by key."""

    operations: list[tuple[str, dict[str, Any]]]
    objects: dict[str, bytes]

    def of(self, operation: str) -> dict[str, Any]:
        """Return the body of the only request of an operation."""
        (body,) = (body for name, body in self.operations if name == operation)
        return body


def answered() -> tuple[boto3.Session, Asked]:
    """Return a session whose requests are answered here, and what it is asked."""
    own = boto3.Session("AKIDEXAMPLE", "secret", region_name="eu-west-1")
    asked = Asked([], {})

    def answer(request: Any, **_event: Any) -> AWSResponse:
        target = request.headers.get("X-Amz-Target", b"")
        name = (target.decode() if isinstance(target, bytes) else target).rpartition(".")[2]
        body = request.body or b""
        if name:
            said = json.loads(body)
            asked.operations.append((name, said))
            return AWSResponse(request.url, 200, {}, Body(json.dumps(ANSWERS[name](said)).encode()))
        if request.method == "PUT":
            asked.objects[urlsplit(request.url).path.lstrip("/")] = body if isinstance(body, bytes) else body.read()
        if request.method == "POST":  # the SDK asks IAM what the role may do; a laptop may not ask
            return AWSResponse(request.url, 403, {}, Body(DENIED))
        content = BUCKETS if request.method == "GET" else b""
        return AWSResponse(request.url, 200, {"ETag": '"0"', "Content-Length": str(len(content))}, Body(content))

    own.events.register("before-send", answer)
    return own, asked


def tried(directory: Path) -> list[str]:
    """Launch a job and an endpoint, and return what is wrong."""
    wrong: list[str] = []

    def expect(holds: bool, said: str) -> None:  # noqa: FBT001
        if not holds:
            wrong.append(said)

    (directory / "channel").mkdir()
    (directory / "channel" / "dataset.json").write_text("{}")
    boto, asked = answered()
    job = ["train", str(directory / "channel"), "--role", ROLE, "--bucket", BUCKET]
    expect(launch.main([*job, "--set", "max_depth=3", "--no-wait"], boto) == 0, "training did not end well")
    sent = asked.of("CreateTrainingJob")
    expect("xgboost:3.2-0" in sent["AlgorithmSpecification"]["TrainingImage"], "another image")
    expect(sent["RoleArn"] == ROLE, "another role")
    expect(sent["StoppingCondition"]["MaxRuntimeInSeconds"] == launch.HOURS * 3600, "a job without end")
    expect(sent["ResourceConfig"]["InstanceCount"] == 1, "more than one instance")
    channels = {each["ChannelName"] for each in sent["InputDataConfig"]}
    expect({"train", "code"} <= channels, f"channels {channels}")
    scripts = [text for key, text in asked.objects.items() if key.endswith("sm_train.sh")]
    expect(any(b"models.training.train" in each and b"--max_depth 3" in each for each in scripts), "another command")
    expect(any(key.endswith("dataset.json") for key in asked.objects), "no dataset was sent")
    expect(any(key.endswith("fraud/scoring/features.py") for key in asked.objects), "no sources were sent")
    model = f"s3://{BUCKET}/fraud-try/job/output/model.tar.gz"
    serve = ["serve", model, "--role", ROLE, "--bucket", BUCKET, "--name", NAME]
    expect(launch.main(serve, boto) == 0, "serving did not end well")
    container = asked.of("CreateModel")["PrimaryContainer"]
    expect(container["ModelDataUrl"] == model, "another model")
    key = container["Environment"]["SAGEMAKER_SUBMIT_DIRECTORY"].removeprefix(f"s3://{BUCKET}/")
    expect(any(key in each for each in asked.objects), "the script was not sent where the model looks for it")
    (variant,) = asked.of("CreateEndpointConfig")["ProductionVariants"]
    expect((variant["VariantName"], variant["ModelName"]) == ("primary", NAME), "another variant")
    expect(asked.of("CreateEndpoint")["EndpointConfigName"] == NAME, "another configuration")
    expect(launch.main(["remove", "--name", NAME], boto) == 0, "removing did not end well")
    gone = [name for name, _ in asked.operations if name.startswith("Delete")]
    expect(gone == ["DeleteEndpoint", "DeleteEndpointConfig", "DeleteModel"], f"removed {gone}")
    return wrong


def starts(directory: Path) -> bool:
    """Tell whether the sources of a job are complete: the project's own Python starts training with them alone."""
    place = launch.sources(directory / "source")
    python = launch.ROOT / ".venv" / "bin" / "python"
    command = [str(python), "-m", "models.training.train", "--help"]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(place), "PYTHONDONTWRITEBYTECODE": "1"}
    ended = subprocess.run(command, cwd=place, env=environment, capture_output=True, timeout=120, check=False)
    return ended.returncode == 0 and b"--max_depth" in ended.stdout


def main() -> int:
    """Print what is wrong. Return 1 if anything is, else 0."""
    told: list[str] = []

    def telling(_session: Any, method: str, url: str, **_more: Any) -> Any:
        told.append(f"{method} {url}")
        raise ConnectionError(url)

    requests.sessions.Session.request = telling  # type: ignore[method-assign] # the SDK's telemetry uses it
    with tempfile.TemporaryDirectory() as directory:
        wrong = tried(Path(directory))
        for thread in (each for each in threading.enumerate() if each.name == "sagemaker-telemetry"):
            thread.join()
        if not starts(Path(directory)):
            wrong.append("the sources of a job do not start")
    wrong += [f"telemetry: {url}" for url in told]
    print("\n".join(wrong) or "launch: a job and an endpoint as they should be, nothing told to anybody else")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
