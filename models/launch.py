"""Train a model and serve it on an endpoint from a laptop, ad hoc, by SageMaker's Python SDK.

No other file imports the SDK. The stack needs none of this: its retraining calls the service itself. Here a person
tries a dataset or hyperparameters without a stack, and takes everything down again. The SDK lives in an environment of
its own, `.launch-venv`, which `make launch` makes. Its telemetry is turned off (D-159).

    .launch-venv/bin/python -m models.launch train build/channel --role ARN --bucket NAME --set max_depth=3
    .launch-venv/bin/python -m models.launch serve s3://NAME/.../model.tar.gz --role ARN --bucket NAME --name try-1
    .launch-venv/bin/python -m models.launch remove --name try-1
"""

import argparse
import re
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]

PINS = ("common-expression-language", "google-re2", "numpy", "pydantic", "scipy", "xgboost-cpu")
"""What a training job needs beside the container's own Python."""

XGBOOST = "3.2-0"
"""Version of the framework container: the xgboost that the project pins."""

INSTANCE = "ml.m5.large"

HOURS = 2
"""Longest time of a job: an ad-hoc job that hangs must not cost a night."""

CONFIG = {"SchemaVersion": "1.0", "SageMaker": {"PythonSDK": {"Modules": {"TelemetryOptOut": True}}}}
"""The SDK's defaults: it tells nobody that it is used."""

VARIANT = "primary"
"""The name of the variant, as of the stack's own endpoint."""


# ---- what is sent ----------------------------------------------------------------------------------------------------


def pins(lock: str) -> Iterator[str]:
    r"""Yield the lines of a job's requirements.txt: the pins of PINS in a lock, without hashes.

    >>> list(pins("numpy==2.4.6 ; python_full_version < '3.12' \\\n    --hash=sha256:0\nsix==1.17.0 \\\n"))
    ["numpy==2.4.6 ; python_full_version < '3.12'"]
    """
    for line in lock.splitlines():
        name = re.match(r"[a-z0-9-]+(?===)", line)
        if name and name[0] in PINS:
            yield line.removesuffix("\\").strip()


def sources(directory: Path) -> Path:
    """Put the sources of a training job into a directory, and return it."""
    no_caches = shutil.ignore_patterns("__pycache__", "*.pyc")
    shutil.copytree(ROOT / "models", directory / "models", ignore=no_caches)
    shutil.copytree(ROOT / "layers" / "shared" / "fraud", directory / "fraud", ignore=no_caches)
    lock = (ROOT / "requirements" / "sagemaker.txt").read_text(encoding="utf-8")
    (directory / "requirements.txt").write_text("\n".join(pins(lock)) + "\n", encoding="utf-8")
    return directory


def script(directory: Path) -> Path:
    """Pack the inference script as the framework container takes it, and return the archive."""
    packed = directory / "sourcedir.tar.gz"
    with tarfile.open(packed, "w:gz") as archive:
        archive.add(ROOT / "models" / "serving" / "inference.py", "inference.py")
    return packed


def setting(text: str) -> tuple[str, str]:
    """Return name and value of a hyperparameter.

    >>> setting("max_depth=3")
    ('max_depth', '3')
    """
    name, separator, value = text.partition("=")
    if not separator or not re.fullmatch(r"[a-z_]+", name):
        raise argparse.ArgumentTypeError(f"{text!r} is no hyperparameter such as max_depth=3")
    return name, value


# ---- by the SDK ------------------------------------------------------------------------------------------------------


def session(bucket: str | None = None, boto: Any = None) -> Any:  # noqa: ANN401 - the SDK is not in this environment
    """Return a session of the SDK, without telemetry.

    bucket  where it puts sources, datasets and models
    boto    a session of boto3; by default that of the shell's credentials
    """
    from sagemaker.core.helper.session_helper import Session  # noqa: PLC0415

    return Session(boto_session=boto, default_bucket=bucket, sagemaker_config=CONFIG)


def image(of: Any) -> str:  # noqa: ANN401
    """Return the address of the framework container in the session's region."""
    from sagemaker.core import image_uris  # noqa: PLC0415

    return str(image_uris.retrieve("xgboost", of.boto_region_name, version=XGBOOST, instance_type=INSTANCE))


def train(  # noqa: PLR0913 - a job
    of: Any,  # noqa: ANN401
    dataset: Path,
    role: str,
    hyperparameters: Mapping[str, str],
    *,
    instance: str = INSTANCE,
    key: str | None = None,
    wait: bool = True,
) -> str:
    """Train on a dataset in a directory. Return where the model goes: model.tar.gz on S3.

    key  KMS key of the model; without one S3 encrypts it with its own
    """
    from sagemaker.core.shapes import OutputDataConfig, StoppingCondition  # noqa: PLC0415
    from sagemaker.core.training.configs import Compute, InputData, SourceCode  # noqa: PLC0415
    from sagemaker.train import ModelTrainer  # noqa: PLC0415

    arguments = [text for name, value in hyperparameters.items() for text in (f"--{name}", value)]
    with tempfile.TemporaryDirectory() as aside:
        trainer = ModelTrainer(
            sagemaker_session=of,
            role=role,
            base_job_name="fraud-try",
            training_image=image(of),
            source_code=SourceCode(
                source_dir=str(sources(Path(aside) / "source")),
                requirements="requirements.txt",
                command="python -m models.training.train",
                args=arguments,
            ),
            compute=Compute(instance_type=instance, instance_count=1, volume_size_in_gb=30, kms_key_id=key)
            if key
            else Compute(instance_type=instance, instance_count=1, volume_size_in_gb=30),
            stopping_condition=StoppingCondition(max_runtime_in_seconds=HOURS * 3600),
            output_data_config=OutputDataConfig(
                s3_output_path=f"s3://{of.default_bucket()}/fraud-try", **({"kms_key_id": key} if key else {})
            ),
        )
        trainer.train([InputData(channel_name="train", data_source=str(dataset))], wait=wait, logs=wait)
    job = trainer._latest_training_job  # noqa: SLF001 - the SDK offers no other way to it
    return f"s3://{of.default_bucket()}/fraud-try/{job.training_job_name}/output/model.tar.gz"


def serve(of: Any, model: str, role: str, name: str, *, instance: str = INSTANCE, wait: bool = True) -> None:  # noqa: ANN401, PLR0913
    """Serve a model on an endpoint of this name. What of it exists already ends it with the service's error."""
    from sagemaker.core.resources import Endpoint, EndpointConfig, Model  # noqa: PLC0415
    from sagemaker.core.shapes import ContainerDefinition, ProductionVariant  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as aside:
        code = of.upload_data(str(script(Path(aside))), bucket=of.default_bucket(), key_prefix=f"fraud-try/{name}")
    container = ContainerDefinition(
        image=image(of),
        model_data_url=model,
        environment={"SAGEMAKER_PROGRAM": "inference.py", "SAGEMAKER_SUBMIT_DIRECTORY": code},
    )
    variant = ProductionVariant(variant_name=VARIANT, model_name=name, initial_instance_count=1, instance_type=instance)
    boto = of.boto_session
    Model.create(model_name=name, primary_container=container, execution_role_arn=role, session=boto)
    EndpointConfig.create(endpoint_config_name=name, production_variants=[variant], session=boto)
    endpoint = Endpoint.create(endpoint_name=name, endpoint_config_name=name, session=boto)
    if wait:
        endpoint.wait_for_status("InService")


def remove(of: Any, name: str) -> None:  # noqa: ANN401
    """Delete an endpoint with its configuration and its model. What is gone already is left out."""
    client = of.sagemaker_client
    deletions = (
        (client.delete_endpoint, "EndpointName"),
        (client.delete_endpoint_config, "EndpointConfigName"),
        (client.delete_model, "ModelName"),
    )
    for delete, field in deletions:
        try:
            delete(**{field: name})
        except client.exceptions.ClientError as error:
            if "Could not find" not in str(error):
                raise


# ---- the command -----------------------------------------------------------------------------------------------------


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m models.launch", description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    training = commands.add_parser("train", help="train on a dataset, and print where the model is")
    training.add_argument("dataset", type=Path, metavar="DATASET")
    training.add_argument("--set", type=setting, action="append", default=[], metavar="NAME=VALUE")
    training.add_argument("--key", help="KMS key of volume and model")
    serving = commands.add_parser("serve", help="serve a model on an endpoint")
    serving.add_argument("model", metavar="S3_URI")
    for command in (training, serving):
        command.add_argument("--role", required=True, help="ARN of the role that SageMaker takes")
        command.add_argument("--bucket", required=True)
        command.add_argument("--instance", default=INSTANCE)
        command.add_argument("--no-wait", action="store_true")
    for command in (serving, commands.add_parser("remove", help="delete an endpoint, its configuration and model")):
        command.add_argument("--name", required=True)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None, boto: Any = None) -> int:  # noqa: ANN401
    """Train, serve or remove, as the command says."""
    asked = _options(arguments)
    if asked.command == "train" and not (asked.dataset / "dataset.json").exists():
        print(f"{asked.dataset} holds no dataset: python -m models.training.dataset writes one", file=sys.stderr)
        return 2
    of = session(getattr(asked, "bucket", None), boto)
    match asked.command:
        case "train":
            wait = not asked.no_wait
            some = {"instance": asked.instance, "key": asked.key, "wait": wait}
            print(train(of, asked.dataset, asked.role, dict(asked.set), **some))
        case "serve":
            serve(of, asked.model, asked.role, asked.name, instance=asked.instance, wait=not asked.no_wait)
            print(f"{asked.name} serves it; take it down: python -m models.launch remove --name {asked.name}")
        case "remove":
            remove(of, asked.name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
