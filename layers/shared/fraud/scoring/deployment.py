"""The endpoint's deployments as requests to SageMaker: one variant, and a canary that alarms take back. Pure.

A version has one model and one configuration, both named after it. So each request may be repeated: what exists already
is what it asks for. `worker.EndpointDeployment` sends the requests (D-155).
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NamedTuple

from fraud.errors import UndecidableError

PRIMARY = "primary"
"""The name of the one production variant: a deployment with a canary needs the same names before and after."""

ARCHIVE = "model.tar.gz"
"""The file of an artefact's folder that a container loads: booster, manifest, and the inference script under `code`."""

LONGEST = 63
"""Most characters of a name on SageMaker."""

SLOWEST = 3_600
"""Seconds after which SageMaker gives a deployment up: the canary's wait and the start of two fleets fit in."""

DEPLOYED = "fraud:deployed"
"""The tag of the endpoint that says which deployment was begun last."""


class Fleet(NamedTuple):
    """What an endpoint is made of.

    endpoint   its name
    role       ARN of the role that its containers have
    image      of the container
    instance   type of its instances
    instances  their number: a canary needs two, because it is a part of them
    alarms     names of the alarms that take a deployment back
    canary     share of the instances that serve the new model first
    wait_s     seconds for which they do
    """

    endpoint: str
    role: str
    image: str
    instance: str
    instances: int
    alarms: tuple[str, ...]
    canary: float = 0.1
    wait_s: int = 600


class Stage(StrEnum):
    """How far a deployment is."""

    CHANGING = "changing"
    SERVING = "serving"
    ELSEWHERE = "elsewhere"
    BROKEN = "broken"


def name_of(fleet: Fleet, version: str) -> str:
    """Return the name of a version's model, and of its configuration.

    >>> name_of(Fleet("fraud-model", "", "", "", 2, ()), "embedded-3f2a9c01")
    'fraud-model-embedded-3f2a9c01'

    Raises UndecidableError for a name that SageMaker would not take: the endpoint's is too long.
    """
    name = f"{fleet.endpoint}-{version}"
    if len(name) > LONGEST:
        raise UndecidableError(f"endpoint: its name and a version have more than {LONGEST} characters")
    return name


def create_model(fleet: Fleet, version: str, archive_url: str) -> dict[str, Any]:
    """Return the request that makes a version's model.

    archive_url  `s3://` URL of its ARCHIVE
    """
    return {
        "ModelName": name_of(fleet, version),
        "ExecutionRoleArn": fleet.role,
        "EnableNetworkIsolation": True,
        "PrimaryContainer": {
            "Image": fleet.image,
            "ModelDataUrl": archive_url,
            "Environment": {
                "SAGEMAKER_PROGRAM": "inference.py",
                "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code",
            },
        },
    }


def create_endpoint_config(fleet: Fleet, version: str) -> dict[str, Any]:
    """Return the request that makes a version's configuration."""
    variant = {
        "VariantName": PRIMARY,
        "ModelName": name_of(fleet, version),
        "InstanceType": fleet.instance,
        "InitialInstanceCount": fleet.instances,
        "InitialVariantWeight": 1.0,
    }
    return {"EndpointConfigName": name_of(fleet, version), "ProductionVariants": [variant]}


def update_endpoint(fleet: Fleet, version: str) -> dict[str, Any]:
    """Return the request that lets the endpoint serve a version: first its canary, and none if an alarm is raised."""
    routing: dict[str, Any] = {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": fleet.wait_s}
    if fleet.instances > 1:
        size = {"Type": "CAPACITY_PERCENT", "Value": round(fleet.canary * 100)}
        routing |= {"Type": "CANARY", "CanarySize": size}
    return {
        "EndpointName": fleet.endpoint,
        "EndpointConfigName": name_of(fleet, version),
        "DeploymentConfig": {
            "BlueGreenUpdatePolicy": {
                "TrafficRoutingConfiguration": routing,
                "MaximumExecutionTimeoutInSeconds": SLOWEST + fleet.wait_s,
            },
            "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": alarm} for alarm in fleet.alarms]},
        },
    }


CHANGING = frozenset({"Creating", "Updating", "SystemUpdating", "RollingBack"})


def stage_of(described: Mapping[str, Any], fleet: Fleet, version: str) -> Stage:
    """Return how far the endpoint is on its way to a version, by the answer of DescribeEndpoint.

    >>> fleet = Fleet("fraud-model", "", "", "", 2, ())
    >>> stage_of({"EndpointStatus": "InService", "EndpointConfigName": "fraud-model-v2"}, fleet, "v2").value
    'serving'
    """
    status = described["EndpointStatus"]
    if status in CHANGING:
        return Stage.CHANGING
    if status != "InService":
        return Stage.BROKEN
    return Stage.SERVING if described["EndpointConfigName"] == name_of(fleet, version) else Stage.ELSEWHERE
