"""What moto lacks of SageMaker's endpoints: UpdateEndpoint with a canary, played with the box's real model server.

A deployment goes on when somebody describes the endpoint, as a state machine does while it waits: the new model serves
its canary until the wait is over, and then everybody. A raised alarm, or a model that does not load, takes it back.
moto's own DescribeEndpoint, CreateModel and CreateEndpointConfig stay. `played` puts it into moto.
"""

import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from moto.backends import get_backend
from moto.core import DEFAULT_ACCOUNT_ID
from moto.core.responses import ActionResult
from moto.sagemaker.exceptions import ValidationError
from moto.sagemaker.models import FakeEndpoint, SageMakerModelBackend
from moto.sagemaker.responses import SageMakerResponse

from local.sagemaker.endpoint import MODELS, PACKAGED

TIMEOUT_S = 20


class Deploying(NamedTuple):
    """A deployment on its way. `ends_at`: reading of the monotonic clock at which its canary is over."""

    config: str
    alarms: tuple[str, ...]
    ends_at: float


describe = SageMakerModelBackend.describe_endpoint
"""moto's own, which `Deployments.describe` calls."""


class Deployments:
    """The deployments of all endpoints of the box.

    server  address of the model server
    pace    part of a canary's wait that passes in the box
    """

    def __init__(self, server: str, pace: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._server = server
        self._pace = pace
        self._monotonic = monotonic
        self._deploying: dict[str, Deploying] = {}

    def update(self, backend: SageMakerModelBackend, asked: dict[str, Any]) -> dict[str, str]:
        """Begin a deployment, as UpdateEndpoint does."""
        endpoint = backend.endpoints.get(asked["EndpointName"])
        if endpoint is None or asked["EndpointConfigName"] not in backend.endpoint_configs:
            raise ValidationError(message="Could not find endpoint or configuration.")
        if endpoint.endpoint_status != "InService":
            raise ValidationError(message=f"Cannot update in-progress endpoint {endpoint.arn}.")
        told = asked.get("DeploymentConfig", {})
        routing = told.get("BlueGreenUpdatePolicy", {}).get("TrafficRoutingConfiguration", {})
        alarms = told.get("AutoRollbackConfiguration", {}).get("Alarms", ())
        percent = routing.get("CanarySize", {}).get("Value", 100)
        endpoint.failure_reason = self._sent(backend, asked["EndpointConfigName"], percent)
        if endpoint.failure_reason is None:
            endpoint.endpoint_status = "Updating"
            ends_at = self._monotonic() + routing.get("WaitIntervalInSeconds", 0) * self._pace
            names = tuple(alarm["AlarmName"] for alarm in alarms)
            self._deploying[endpoint.endpoint_name] = Deploying(asked["EndpointConfigName"], names, ends_at)
        return {"EndpointArn": endpoint.arn}

    def describe(self, backend: SageMakerModelBackend, name: str) -> dict[str, Any]:
        """Let a deployment go on, and describe the endpoint."""
        deploying = self._deploying.get(name)
        if deploying is not None:
            endpoint: FakeEndpoint = backend.endpoints[name]
            if raised := self._raised(backend, deploying.alarms):
                self._post("back", b"")
                endpoint.endpoint_status, endpoint.failure_reason = "InService", f"alarm {raised}"
                del self._deploying[name]
            elif self._monotonic() >= deploying.ends_at:
                self._post("100", b"")
                endpoint.endpoint_status, endpoint.endpoint_config_name = "InService", deploying.config
                del self._deploying[name]
        described: dict[str, Any] = describe(backend, name)
        return described

    def _sent(self, backend: SageMakerModelBackend, config: str, percent: int) -> str | None:
        """Have the model server load the configuration's model. Return why it does not, if so."""
        (variant,) = backend.describe_endpoint_config(config)["ProductionVariants"]
        model = backend.describe_model(variant["ModelName"]).response_object
        url = model["PrimaryContainer"].get("ModelDataUrl")
        return self._post(str(percent), PACKAGED if url is None else _object(url))

    def _post(self, what: str, content: bytes) -> str | None:
        request = urllib.request.Request(f"{self._server}{MODELS}/{what}", content, method="POST")  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S):  # noqa: S310 - our own server
                return None
        except urllib.error.URLError as error:
            return f"The primary container did not pass the ping health check: {error}"

    def _raised(self, backend: SageMakerModelBackend, names: tuple[str, ...]) -> str | None:
        """Return the name of an alarm of a deployment that is raised."""
        alarms = get_backend("cloudwatch")[DEFAULT_ACCOUNT_ID][backend.region_name].alarms
        return next((name for name in names if name in alarms and alarms[name].state_value == "ALARM"), None)


def _object(url: str) -> bytes:
    """Return an object of moto's S3. `url`: `s3://bucket/key`."""
    parts = urlsplit(url)
    content: bytes = get_backend("s3")[DEFAULT_ACCOUNT_ID]["aws"].get_object(parts.netloc, parts.path[1:]).value
    return content


def played(server: str, pace: float, monotonic: Callable[[], float] = time.monotonic) -> None:
    """Put UpdateEndpoint into moto, for endpoints behind the model server at this address."""
    deployments = Deployments(server, pace, monotonic)

    def update_endpoint(response: SageMakerResponse) -> ActionResult:
        names = ("EndpointName", "EndpointConfigName", "DeploymentConfig")
        asked = {name: value for name in names if (value := response._get_param(name)) is not None}  # noqa: SLF001
        return ActionResult(deployments.update(response.sagemaker_backend, asked))

    def describe_endpoint(backend: SageMakerModelBackend, endpoint_name: str) -> dict[str, Any]:
        return deployments.describe(backend, endpoint_name)

    SageMakerResponse.update_endpoint = update_endpoint
    SageMakerModelBackend.describe_endpoint = describe_endpoint


@contextmanager
def unplayed() -> Iterator[None]:
    """Leave moto as it was, after the block."""
    yield
    if hasattr(SageMakerResponse, "update_endpoint"):
        del SageMakerResponse.update_endpoint
    SageMakerModelBackend.describe_endpoint = describe
