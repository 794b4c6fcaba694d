"""The endpoint's deployments, carried out on SageMaker: a step a call, so that a state machine can ask again."""

from collections.abc import Callable, Mapping
from typing import Any

from fraud.aws.boto import client, translate_errors
from fraud.errors import ServiceError
from fraud.scoring.deployment import (
    DEPLOYED,
    Fleet,
    Stage,
    create_endpoint_config,
    create_model,
    fleet_like,
    name_of,
    stage_of,
    update_endpoint,
)
from fraud.scoring.registry import ModelPointer, ModelVersion

UNKNOWN = "ValidationException"
"""SageMaker's code for a name that it does not know."""


class EndpointDeployment:
    """Makes an endpoint serve the champion of a pointer."""

    def __init__(self, fleet: Fleet, packaged: str, archive_of: Callable[[ModelVersion], str]) -> None:
        """Build it.

        fleet       endpoint and alarms; the rest is what the endpoint has when a deployment begins
        packaged    version of the packaged model: the endpoint's first configuration is named after it
        archive_of  returns the `s3://` URL of a model's archive
        """
        self._fleet = fleet
        self._packaged = packaged
        self._archive_of = archive_of
        self._sagemaker = client("sagemaker")

    def ensure(self, pointer: ModelPointer, *, known: bool = False) -> bool:
        """Begin the deployment of the champion, if the endpoint serves another model. Tell whether it serves this one.

        known  the endpoint goes back to a model that has served before: an alarm, which may be why, does not stop it,
               and a deployment of it that has failed is begun again

        To be called again until it does. Raises ServiceError: `DeploymentTakenBack` when an alarm or a failure has
        brought the endpoint back to what it served before, unless the model is known, and `EndpointBroken` when it
        serves nothing.
        """
        version = self._packaged if pointer.champion is None else pointer.champion.version
        with translate_errors():
            described = self._sagemaker.describe_endpoint(EndpointName=self._fleet.endpoint)
            stage = stage_of(described, self._fleet, version)
            if stage is Stage.BROKEN:
                raise ServiceError("EndpointBroken")
            if stage is Stage.ELSEWHERE:
                self._begin(described, version, pointer, known=known)
        return stage is Stage.SERVING

    def _begin(self, described: Mapping[str, Any], version: str, pointer: ModelPointer, *, known: bool) -> None:
        """Begin a deployment, once. The tag comes after it: a tag alone would say that it was reverted."""
        endpoint = described["EndpointArn"]
        # The revision tells a new deployment of a version from one that was reverted. A known model is begun again:
        # no alarm can have had it reverted, so the cause was a lack of instances or the like, and it must serve.
        tag = {"Key": DEPLOYED, "Value": f"{version} {pointer.revision}"}
        if not known and tag in self._sagemaker.list_tags(ResourceArn=endpoint)["Tags"]:
            raise ServiceError("DeploymentTakenBack")
        fleet = self._fleet_now(described["EndpointConfigName"])
        fleet = fleet._replace(alarms=()) if known else fleet
        if pointer.champion is not None and not self._has_config(version):
            url = self._archive_of(pointer.champion)
            if not self._has_model(version):
                self._sagemaker.create_model(**create_model(fleet, version, url))
            self._sagemaker.create_endpoint_config(**create_endpoint_config(fleet, version))
        self._sagemaker.update_endpoint(**update_endpoint(fleet, version))
        self._sagemaker.add_tags(ResourceArn=endpoint, Tags=[tag])

    def _fleet_now(self, config: str) -> Fleet:
        described = self._sagemaker.describe_endpoint_config(EndpointConfigName=config)
        (variant,) = described["ProductionVariants"]
        model = self._sagemaker.describe_model(ModelName=variant["ModelName"])
        return fleet_like(self._fleet, described, model)

    def _has_config(self, version: str) -> bool:
        describe = self._sagemaker.describe_endpoint_config
        return _known(lambda: describe(EndpointConfigName=name_of(self._fleet, version)))

    def _has_model(self, version: str) -> bool:
        return _known(lambda: self._sagemaker.describe_model(ModelName=name_of(self._fleet, version)))


def _known(describe: Callable[[], object]) -> bool:
    """Tell whether SageMaker knows what is described. Raises ServiceError for any other refusal."""
    try:
        with translate_errors():
            describe()
    except ServiceError as error:
        if error.code != UNKNOWN:
            raise
        return False
    return True
