"""What the jobs of a retraining read, run and write: the parts of their requests that differ from job to job. Pure.

The definition of the machine has the rest: images, roles and instances. A job knows nothing of the stack but its
directories and arguments, so the box runs the same scripts in the same directories.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fraud.archive import schema
from fraud.errors import UndecidableError
from fraud.retraining.moves import RetrainingState
from fraud.retraining.retraining import Retraining
from fraud.scoring.drift import BASELINE

PROCESSING = "/opt/ml/processing"
"""The directory of a processing job in its container."""

MODEL_FILES = ("trees.json", "manifest.json", "model.ubj", BASELINE)
"""The files of a model. Nothing else is registered, and none of them is code."""

EVALUATION = "evaluation.json"

TABLES = (schema.DECISIONS, schema.RESOLUTIONS, schema.LABELS)
"""The tables of the archive of which a dataset is made."""

EXTRA_S = 900
"""Seconds beyond a job's own time limit for which the machine waits: an instance must be found and started."""


class Plan(BaseModel):
    """How models are trained again, from `retraining/plan.json`.

    history_days     days of decisions in a dataset
    maturity_days    days from its last day to the retraining, in which the labels of its payments come
    check            decisions of the dataset whose stored features are compared with a replay
    seconds          time limit of each job, by the state of the machine that runs it
    hyperparameters  of training, where they differ from the defaults of `models.training`
    gate             limits of the gate, by part, where they differ from `retraining/gate.json`
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str
    history_days: int = Field(ge=14, le=400)
    maturity_days: int = Field(ge=1, le=60)
    check: int = Field(ge=0)
    seconds: Mapping[str, int]
    hyperparameters: Mapping[str, str]
    gate: Mapping[str, Mapping[str, Any]] = {}

    @classmethod
    def load(cls, content: bytes, given: str = "{}") -> Self:
        """Read the plan. `given`: JSON with the stack's own values of its fields. Raises UndecidableError."""
        try:
            own = json.loads(given)
            plan = json.loads(content)
            both = plan["hyperparameters"] | own.get("hyperparameters", {})
            return cls.model_validate(plan | own | {"hyperparameters": both})
        except (ValueError, TypeError, AttributeError, ValidationError) as error:
            raise UndecidableError(f"retraining plan: {type(error).__name__}") from None


class Place(NamedTuple):
    """The buckets: that of models and retrainings, and that of the archive."""

    models: str
    archive: str

    def of(self, key: str) -> str:
        """Return the address of a key in the bucket of models."""
        return f"s3://{self.models}/{key}"


def name_of(job: str, place: Place) -> str:
    """Return the name of a job in SageMaker: names are one stack's own, because an account may have several stacks.

    >>> len(name_of("5b0f1c6d2e9a47f08c31-evaluated-5-2", Place("models", "archive"))) <= 63
    True
    """
    return f"retraining-{hashlib.sha256(place.models.encode()).hexdigest()[:6]}-{job}"


def folder(row: Retraining) -> str:
    """Return the key of a retraining's folder in the bucket of models."""
    return f"retraining/{row.retraining_id}"


def output(row: Retraining, kind: str, place: Place) -> str:
    """Return the key of the folder to which a job has written. Raises KeyError if `row.jobs` has no event `kind`."""
    return f"{folder(row)}/{name_of(row.jobs[kind], place)}"


def days(now: datetime, plan: Plan) -> tuple[date, date]:
    """Return the first and the last day of a dataset, in UTC and both included.

    The last one lies `maturity_days` before `now`, so the labels of its payments have had time to come.
    """
    last = now.date() - timedelta(days=plan.maturity_days)
    return last - timedelta(days=plan.history_days - 1), last


def is_read(table: str, day: str, first: date, last: date) -> bool:
    """Whether a dataset reads a day of a table: labels and changes of its payments come on later days, too.

    >>> first, last = date(2026, 3, 1), date(2026, 3, 30)
    >>> [is_read(table, "2026-03-31", first, last) for table in ("decisions", "labels")]
    [False, True]
    """
    return f"{first}" <= day and (table != schema.DECISIONS.name or day <= f"{last}")


def manifest(bucket: str, keys: Iterable[str]) -> bytes:
    """Return the list of objects that a job reads, in SageMaker's form: so a retried job reads the same ones.

    >>> manifest("archive", ["labels/day=2026-03-01/a.parquet"])
    b'[{"prefix": "s3://archive/"}, "labels/day=2026-03-01/a.parquet"]'
    """
    return json.dumps([{"prefix": f"s3://{bucket}/"}, *sorted(keys)]).encode()


def job_of(row: Retraining, place: Place, plan: Plan) -> dict[str, Any] | None:
    """Return the parts of the request of the job that comes next; None when the next step is no job."""
    if row.step is None or row.job is None:
        return None
    return {
        "id": row.job,
        "name": name_of(row.job, place),
        "seconds": plan.seconds[row.step],
        **_JOBS[row.state](row, place, plan),
    }


def _dataset(row: Retraining, place: Place, plan: Plan) -> dict[str, Any]:
    source = {"S3Uri": place.of(f"{folder(row)}/archive.manifest"), "S3DataType": "ManifestFile"}
    return {
        "arguments": [f"{PROCESSING}/archive", f"{PROCESSING}/dataset", f"--check={plan.check}"],
        "inputs": [_input("archive", **source)],
        "outputs": [_output(row, place, "dataset")],
    }


def _training(row: Retraining, place: Place, plan: Plan) -> dict[str, Any]:
    source = {
        "S3DataType": "S3Prefix",
        "S3Uri": place.of(f"{output(row, 'built', place)}/dataset/"),
        "S3DataDistributionType": "FullyReplicated",
    }
    return {
        "hyperparameters": dict(plan.hyperparameters),
        "inputs": [{"ChannelName": "train", "DataSource": {"S3DataSource": source}}],
        "output": place.of(folder(row)),
    }


def _evaluation(row: Retraining, place: Place, _plan: Plan) -> dict[str, Any]:
    places = {
        "dataset": f"{output(row, 'built', place)}/dataset/",
        "model": f"{output(row, 'trained', place)}/output/",
        "champion": f"{folder(row)}/champion/",
    }
    return {
        "arguments": [f"{PROCESSING}/{name}" for name in (*places, "evaluation")],
        "inputs": [_input(name, S3Uri=place.of(key), S3DataType="S3Prefix") for name, key in places.items()],
        "outputs": [_output(row, place, "evaluation")],
    }


def _input(name: str, **source: str) -> dict[str, Any]:
    local = {"LocalPath": f"{PROCESSING}/{name}", "S3InputMode": "File"}
    return {"InputName": name, "S3Input": {**source, **local}}


def _output(row: Retraining, place: Place, name: str) -> dict[str, Any]:
    uri = place.of(f"{folder(row)}/{name_of(row.job or '', place)}/{name}/")
    return {
        "OutputName": name,
        "S3Output": {"S3Uri": uri, "LocalPath": f"{PROCESSING}/{name}", "S3UploadMode": "EndOfJob"},
    }


_JOBS: Mapping[RetrainingState, Callable[[Retraining, Place, Plan], dict[str, Any]]] = {
    RetrainingState.EXPORTED: _dataset,
    RetrainingState.BUILT: _training,
    RetrainingState.TRAINED: _evaluation,
}
