"""The endpoint's deployments as requests to SageMaker: one variant, and a canary that is reverted for alarms. Pure.

A version has one model and one configuration, both named after it. So each request may be repeated: what exists already
is what it asks for. `worker.EndpointDeployment` sends the requests (D-155).
"""

import gzip
import io
import tarfile
import zlib
from collections.abc import Collection, Mapping
from enum import StrEnum
from types import MappingProxyType
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

OF_MODEL, OF_CONFIG = ("VpcConfig",), ("KmsKeyId", "DataCaptureConfig")
"""What the next model and configuration take over from those that are served, as SageMaker names it."""

DEPLOYED = "fraud:deployed"
"""The tag of the endpoint that says which deployment was begun last."""


class Fleet(NamedTuple):
    """What an endpoint is made of.

    endpoint   its name
    alarms     names of the alarms for which SageMaker reverts a deployment; none: it goes on whatever is raised
    role       ARN of the role that its containers have
    image      of the container
    instance   type of its instances
    instances  their number: a canary needs two, because it is a part of them
    canary     share of the instances that serve the new model first
    wait_s     seconds for which they do
    of_model   what its model has beside container and role: its network
    of_config  what its configuration has beside the variant: its key, the capture of data
    """

    endpoint: str
    alarms: tuple[str, ...] = ()
    role: str = ""
    image: str = ""
    instance: str = ""
    instances: int = 1
    canary: float = 0.1
    wait_s: int = 600
    of_model: Mapping[str, Any] = MappingProxyType({})
    of_config: Mapping[str, Any] = MappingProxyType({})


class Stage(StrEnum):
    """How far a deployment is."""

    CHANGING = "changing"
    SERVING = "serving"
    ELSEWHERE = "elsewhere"
    BROKEN = "broken"


def archive_of(manifest: bytes, booster: bytes, script: bytes) -> bytes:
    """Return the ARCHIVE of a model with the inference script of its container. Equal parts make equal bytes."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in (("manifest.json", manifest), ("model.ubj", booster), ("code/inference.py", script)):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return gzip.compress(packed.getvalue(), mtime=0)


def files_of(archive: bytes, names: Collection[str]) -> dict[str, bytes]:
    """Return the files of an archive that have these names. Raises ValueError for a damaged archive.

    Links are no files. Nothing is unpacked: `tarfile` can do that safely only from Python 3.11.4 on. The whole archive
    is decompressed first, because its checksum is at its end.
    """
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(gzip.decompress(archive)), mode="r:") as packed:
            for member in packed:
                name = member.name.removeprefix("./")
                if name in names and member.isfile() and (content := packed.extractfile(member)) is not None:
                    found[name] = content.read()
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise ValueError(f"a damaged archive: {error}") from error
    return found


def fleet_like(now: Fleet, described_config: Mapping[str, Any], described_model: Mapping[str, Any]) -> Fleet:
    """Return the fleet of what the endpoint serves now, as SageMaker describes it."""
    (variant,) = described_config["ProductionVariants"]
    return now._replace(
        role=described_model["ExecutionRoleArn"],
        image=described_model["PrimaryContainer"]["Image"],
        instance=variant["InstanceType"],
        instances=variant["InitialInstanceCount"],
        of_model={name: described_model[name] for name in OF_MODEL if described_model.get(name)},
        of_config={name: described_config[name] for name in OF_CONFIG if described_config.get(name)},
    )


def name_of(fleet: Fleet, version: str) -> str:
    """Return the name of a version's model, and of its configuration.

    >>> name_of(Fleet("fraud-model"), "embedded-3f2a9c01")
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
        **fleet.of_model,
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
    return {**fleet.of_config, "EndpointConfigName": name_of(fleet, version), "ProductionVariants": [variant]}


def update_endpoint(fleet: Fleet, version: str) -> dict[str, Any]:
    """Return the request that lets the endpoint serve a version: first its canary, and none if an alarm is raised.

    Without alarms nothing is waited for: it goes back to a model that is known.
    """
    wait = fleet.wait_s if fleet.alarms else 0
    routing: dict[str, Any] = {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": wait}
    if fleet.alarms and fleet.instances > 1:
        size = {"Type": "CAPACITY_PERCENT", "Value": round(fleet.canary * 100)}
        routing |= {"Type": "CANARY", "CanarySize": size}
    policy = {"TrafficRoutingConfiguration": routing, "MaximumExecutionTimeoutInSeconds": SLOWEST + fleet.wait_s}
    deployment: dict[str, Any] = {"BlueGreenUpdatePolicy": policy}
    if fleet.alarms:  # SageMaker takes no empty list
        deployment["AutoRollbackConfiguration"] = {"Alarms": [{"AlarmName": alarm} for alarm in fleet.alarms]}
    return {
        "EndpointName": fleet.endpoint,
        "EndpointConfigName": name_of(fleet, version),
        "RetainAllVariantProperties": True,  # the number of instances, which autoscaling may have changed
        "DeploymentConfig": deployment,
    }


CHANGING = frozenset({"Creating", "Updating", "SystemUpdating", "RollingBack"})


def stage_of(described: Mapping[str, Any], fleet: Fleet, version: str) -> Stage:
    """Return how far the endpoint is on its way to a version, by the answer of DescribeEndpoint.

    >>> serving = {"EndpointStatus": "InService", "EndpointConfigName": "fraud-model-v2"}
    >>> stage_of(serving, Fleet("fraud-model"), "v2").value
    'serving'
    """
    status = described["EndpointStatus"]
    if status in CHANGING:
        return Stage.CHANGING
    if status != "InService":
        return Stage.BROKEN
    return Stage.SERVING if described["EndpointConfigName"] == name_of(fleet, version) else Stage.ELSEWHERE
