"""The objects of retrainings in S3: what jobs read and have written, and the registered models.

A model lies under the SHA-256 of its manifest: `models/<sha256>/trees.json`, `manifest.json`, `model.ubj`,
`evaluation.json`, and `model.tar.gz` for a container. Nothing is unpacked or executed here, and an object that is there
stays as it is.
"""

import hashlib
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

from fraud.archive.schema import PARTITION
from fraud.aws.boto import client, translate_errors
from fraud.errors import UndecidableError
from fraud.retraining.jobs import Place

LONGEST = 20_000_000
"""Most bytes of a file that is read: a booster has a few hundred thousand."""


class Artefacts:
    """The objects. Methods raise ServiceError, UnavailableError among them."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def read(self, key: str) -> bytes:
        """Read an object of the bucket of models. Raises UndecidableError for one that is too long."""
        with translate_errors():
            found = self._s3.get_object(Bucket=self._place.models, Key=key)
            if found["ContentLength"] > LONGEST:
                raise UndecidableError(f"{key.rpartition('/')[2]}: too long")
            content: bytes = found["Body"].read()
        return content

    def checked(self, folder: str, sums: Mapping[str, str]) -> dict[str, bytes]:
        """Read files by name, and check them against their SHA-256. Raises UndecidableError, which names the file."""
        found = {name: self.read(f"{folder}/{name}") for name in sums}
        for name, content in found.items():
            if hashlib.sha256(content).hexdigest() != sums[name]:
                raise UndecidableError(f"{name}: not the file that was evaluated")
        return found

    def write(self, key: str, content: bytes) -> None:
        """Write an object to the bucket of models, in place of any other of that key."""
        with translate_errors():
            self._s3.put_object(Bucket=self._place.models, Key=key, Body=content, ChecksumAlgorithm="SHA256")

    def archived(self, table: str) -> Iterator[tuple[str, str]]:
        """Yield day (`YYYY-MM-DD`) and key of each object of a table of the archive."""
        prefix = f"{table}/{PARTITION}="
        with translate_errors():
            pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._place.archive, Prefix=prefix)
            for found in (each for page in pages for each in page.get("Contents", ())):
                yield found["Key"].removeprefix(prefix).partition("/")[0], found["Key"]

    @cached_property
    def _s3(self) -> Any:  # noqa: ANN401 - boto3 has no types
        return client("s3")


class Packages:
    """The model packages of SageMaker's registry: a catalogue for people. The row of the retraining is the truth."""

    def __init__(self, group: str, image: str) -> None:
        self._group = group
        self._image = image

    def register(self, name: str, data_url: str, evaluation_url: str, said: Mapping[str, str]) -> str:
        """Register a model that waits for approval, and return the ARN of its package. Once more is the same one.

        name      the same for the same model: SageMaker's token
        data_url  the model's model.tar.gz
        """
        with translate_errors():
            made = self._sagemaker.create_model_package(
                ModelPackageGroupName=self._group,
                ClientToken=name,
                ModelApprovalStatus="PendingManualApproval",
                InferenceSpecification={
                    "Containers": [{"Image": self._image, "ModelDataUrl": data_url}],
                    "SupportedContentTypes": ["application/json"],
                    "SupportedResponseMIMETypes": ["application/json"],
                },
                ModelMetrics={
                    "ModelQuality": {"Statistics": {"ContentType": "application/json", "S3Uri": evaluation_url}}
                },
                CustomerMetadataProperties=dict(said),
            )
        arn: str = made["ModelPackageArn"]
        return arn

    def decide(self, package: str, *, approved: bool, reason: str) -> None:
        """Note in the registry what a lead has decided."""
        with translate_errors():
            self._sagemaker.update_model_package(
                ModelPackageArn=package,
                ModelApprovalStatus="Approved" if approved else "Rejected",
                ApprovalDescription=reason[:1024],
            )

    @cached_property
    def _sagemaker(self) -> Any:  # noqa: ANN401 - boto3 has no types
        return client("sagemaker")
