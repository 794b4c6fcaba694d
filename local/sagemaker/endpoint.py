"""The box's model endpoint. It is a process of its own, so that it can be killed and no other process loads xgboost."""

import sys
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any, Literal, Self

from fraud.scoring.deployment import Fleet, create_endpoint_config, name_of

MODELS = "/box/models"
"""Path of a server to which a deployment goes: `/box/models/<percent>`, or `/box/models/back`."""

PACKAGED = b"packaged"
"""What a deployment sends in place of an archive: the packaged model, which has none."""

Fault = Literal["slow", "garbled", "foreign", "failing", "dead"]
"""The fault of every response.

slow     it comes late
garbled  only its first half comes
foreign  it comes from a model with other features
failing  it is the error that follows when the container raises
dead     there is none: the connection is cut
"""


def begin(sagemaker: Any, endpoint: str, version: str) -> None:  # noqa: ANN401 - boto3 has no static types
    """Make the endpoint that serves the packaged model, as the first deployment of a stack does.

    Its model has no archive: the model server has the packaged one already.
    """
    fleet = Fleet(endpoint, "arn:aws:iam::123456789012:role/models", "image", "ml.m5.large", 2, ())
    name = name_of(fleet, version)
    sagemaker.create_model(ModelName=name, ExecutionRoleArn=fleet.role, PrimaryContainer={"Image": fleet.image})
    sagemaker.create_endpoint_config(**create_endpoint_config(fleet, version))
    sagemaker.create_endpoint(EndpointName=endpoint, EndpointConfigName=name)


class EndpointError(Exception):
    """The server ended before it was ready. The message ends with its last error output."""


class ModelServer:
    """The endpoint while the block lasts.

    url       address of SageMaker's runtime
    log       file for the server's error output
    fault     the fault of every response
    currency  the one whose packaged model is served

    Entering raises EndpointError.
    """

    def __init__(self, log: Path, fault: Fault | None = None, currency: str = "JPY") -> None:
        self._currency = currency
        self._log = log
        self._fault = fault

    def __enter__(self) -> Self:
        with self._log.open("wb") as errors:
            self._process = Popen(
                [sys.executable, "-m", "local.sagemaker.model_server", self._currency, *filter(None, [self._fault])],
                stdin=PIPE,
                stdout=PIPE,
                stderr=errors,
                start_new_session=True,  # the parent handles Ctrl-C
            )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().decode().strip()
        if not self.url:
            self.__exit__()
            raise EndpointError(self._log.read_text(errors="replace")[-3000:])
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()  # the server ends with its input
        self._process.wait()
        self._process.stdout.close()

    def kill(self) -> None:
        """Kill the server at once, as when its machine fails."""
        self._process.kill()
        self._process.wait()
