"""A retraining of a stack with an endpoint: its steps on a real model server, which moto's SageMaker switches over."""

import io
import itertools
import json
import tarfile
import threading
import urllib.request
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest

from fraud import assembly
from fraud.retraining.retraining import SYSTEM, RetrainingEvent
from fraud.retraining.worker import packaged_model
from fraud.scoring import features
from fraud.scoring.deployment import ARCHIVE, archive_of
from fraud.settings import Settings
from local.sagemaker import deployments, model_server
from local.sagemaker.endpoint import begin
from models.serving import inference
from tests.integration.test_retraining import BETTER, DAY, MIO, World, account
from tests.support.environment import ENVIRONMENT

__all__ = ["account"]

SETTINGS = Settings.from_environment(ENVIRONMENT | {"SCORER": "endpoint"})
FIRST = packaged_model("JPY")[0].version
LOOK_S = 200
"""Seconds that pass from one look at the endpoint to the next."""


class Served:
    """A world of retrainings with an endpoint before a real model server."""

    def __init__(self, world: World, serving: model_server.Serving, booster: bytes) -> None:
        self.world, self._serving = world, serving
        deployments.played(serving.url, 1.0, itertools.count(0, LOOK_S).__next__)
        self._sagemaker = boto3.client("sagemaker")
        begin(self._sagemaker, SETTINGS.model_endpoint, FIRST)
        self.deployment = assembly.retraining_steps(SETTINGS)._parts.deployment
        world.reset(self.deployment)
        world.sweep._is_served = assembly.retraining_sweep(SETTINGS)._is_served
        world.booster = booster

    def config(self) -> str:
        described = self._sagemaker.describe_endpoint(EndpointName=SETTINGS.model_endpoint)
        assert described["EndpointStatus"] == "InService"
        return str(described["EndpointConfigName"])

    def answer(self) -> dict[str, Any]:
        """Return the endpoint's answer for some payments."""
        rows = list(map(list, itertools.islice(features.probed(), 20)))
        body = json.dumps({"fingerprint": features.fingerprint(), "rows": rows}).replace("NaN", "null").encode()
        asked = urllib.request.Request(  # noqa: S310 - our own server
            f"{self._serving.url}/invocations", body, {"content-type": inference.JSON}
        )
        with urllib.request.urlopen(asked, timeout=10) as answered:  # noqa: S310
            found: dict[str, Any] = json.load(answered)
        return found

    def alarm(self, state: str) -> None:
        how = {"Namespace": "n", "MetricName": "m", "Period": 60, "EvaluationPeriods": 1, "Statistic": "Sum"}
        how |= {"ComparisonOperator": "GreaterThanThreshold", "Threshold": 1}
        cloudwatch = boto3.client("cloudwatch")
        cloudwatch.put_metric_alarm(AlarmName="ModelAway", **how)
        cloudwatch.set_alarm_state(AlarmName="ModelAway", StateValue=state, StateReason="test")


@pytest.fixture(scope="module")
def boosted(tmp_path_factory: pytest.TempPathFactory) -> tuple[inference.Model, bytes]:
    """Load the packaged model, and make the booster of the better one."""
    first, better = (tmp_path_factory.mktemp(name) for name in ("first", "better"))
    model_server.write(first, "JPY")
    model_server.write_files(better, *BETTER)
    return inference.model_fn(str(first)), (better / "model.ubj").read_bytes()


@pytest.fixture
def served(account: World, boosted: tuple[inference.Model, bytes]) -> Iterator[Served]:
    serving = model_server.Serving(boosted[0])
    threading.Thread(target=serving.serve_forever, daemon=True).start()
    with deployments.unplayed():
        yield Served(account, serving, boosted[1])
    sagemaker = boto3.client("sagemaker")
    sagemaker.delete_endpoint(EndpointName=SETTINGS.model_endpoint)
    for config in sagemaker.list_endpoint_configs()["EndpointConfigs"]:
        sagemaker.delete_endpoint_config(EndpointConfigName=config["EndpointConfigName"])
    for model in sagemaker.list_models()["Models"]:
        sagemaker.delete_model(ModelName=model["ModelName"])
    serving.shutdown()
    serving.server_close()


def tried(served: Served) -> Any:
    """Return a retraining whose model has its canary."""
    return served.world.later(served.world.decide(served.world.begin(), "approved"), 2 * DAY)


def test_a_promotion_has_the_endpoint_serve_the_model_first_and_a_rollback_the_one_before(served):
    before, world = served.answer(), served.world
    row = tried(served)
    assert (row.state, served.config(), served.answer()) == ("canary", f"{SETTINGS.model_endpoint}-{FIRST}", before)
    row = world.later(row, DAY)
    assert (row.state, world.registry.read().champion) == ("champion", row.model)
    assert served.config() == f"{SETTINGS.model_endpoint}-{row.model.version}"
    assert served.answer()["version"] == row.model.version
    assert served.answer()["scores"] != before["scores"]
    served.alarm("ALARM")  # what a lead goes back for, and no reason to stay
    world.table.roll_back(row.model.version, "complaints", MIO, world.now)
    world.later(row, timedelta(minutes=2))
    assert "ModelTakenBack" not in world.bus.of(row)
    served.config()  # SageMaker needs a while
    world.later(row, timedelta(minutes=1))
    assert world.bus.of(row)[-1] == "ModelTakenBack"
    assert (served.config(), served.answer()) == (f"{SETTINGS.model_endpoint}-{FIRST}", before)


def test_the_archive_of_a_registered_model_is_what_a_container_loads(served):
    row = served.world.begin()
    archive = served.world.artefacts.read(f"{row.model.key}/{ARCHIVE}")
    with tarfile.open(fileobj=io.BytesIO(archive)) as packed:
        files = {name: packed.extractfile(name).read() for name in packed.getnames()}
    script = Path(inference.__file__).read_bytes()
    assert files == {
        "manifest.json": BETTER.manifest,
        "model.ubj": served.world.booster,
        "code/inference.py": script,
    }
    assert archive == archive_of(BETTER.manifest, served.world.booster, script)
    assert model_server.loaded(archive).described["version"] == row.model.version


def test_an_alarm_takes_the_promotion_back_to_exactly_what_was_served(served):
    before, config = served.answer(), served.config()
    row = tried(served)
    served.alarm("ALARM")
    row = served.world.later(row, DAY)
    assert (row.state, row.failed_step, row.model.version != FIRST) == ("restored", "Promote", True)
    pointer = served.world.registry.read()
    assert (pointer.champion, pointer.challenger, pointer.canary_share) == (None, None, 0.0)
    assert (served.config(), served.answer()) == (config, before)


def test_a_model_that_serves_already_is_taken_back_although_an_alarm_is_raised(served):
    before, config, world = served.answer(), served.config(), served.world
    row = tried(served)
    served.alarm("OK")
    promoted = world.registry.read().promote(row.model.version)
    assert [served.deployment.ensure(promoted) for _ in range(6)][-1]
    assert served.answer()["version"] == row.model.version
    served.alarm("ALARM")
    alarmed = RetrainingEvent(kind="alarmed", reason="ModelAway")
    world.executions.follow(world.table.change(row.retraining_id, alarmed, SYSTEM, world.now))
    row = world.later(world.ran(row), DAY)
    assert (row.state, served.config(), served.answer()) == ("restored", config, before)
