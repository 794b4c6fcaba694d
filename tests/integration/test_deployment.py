"""The endpoint's deployments: the requests against SageMaker's own shapes, and the real model server switched over."""

import io
import json
import threading
import urllib.request
from typing import Any

import boto3
import pytest
from botocore.stub import ANY, Stubber
from moto import mock_aws

from fraud.errors import ServiceError, UndecidableError
from fraud.scoring import features
from fraud.scoring.deployment import DEPLOYED, PRIMARY, Fleet, Stage, name_of, stage_of, update_endpoint
from fraud.scoring.registry import ModelPointer
from fraud.scoring.worker import EndpointDeployment
from local.sagemaker import deployments, model_server
from local.sagemaker.endpoint import begin
from models.serving import inference
from tests.support.audit_stack import VARIABLES, variables
from tests.support.registered import moved, named, promoted

PACKAGED = "embedded-packaged"
ROLE, IMAGE = "arn:aws:iam::123456789012:role/models", "1.dkr.ecr.eu-west-1.amazonaws.com/sagemaker-xgboost:3.2-0"
FLEET = Fleet("fraud-model", ("ModelAway", "CanaryDiffers"))
MODEL = moved(0.5, 8)
POINTER = promoted(MODEL)
NAME = f"fraud-model-{named(MODEL).version}"
ARN = "arn:aws:sagemaker:eu-west-1:123456789012:endpoint/fraud-model"
URL = "s3://artefacts/model.tar.gz"


def described(config: str, status: str = "InService") -> dict[str, Any]:
    return {
        "EndpointName": "fraud-model",
        "EndpointArn": ARN,
        "EndpointConfigName": config,
        "EndpointStatus": status,
        "CreationTime": 0,
        "LastModifiedTime": 0,
    }


@pytest.fixture
def deployment():
    with variables(AWS_ENDPOINT_URL=None, **VARIABLES):
        yield EndpointDeployment(FLEET, PACKAGED, lambda _: URL)


@pytest.fixture
def stubber(deployment):
    with Stubber(deployment._sagemaker) as stubbed:
        yield stubbed
        stubbed.assert_no_pending_responses()


CONFIG = {
    "EndpointConfigName": NAME,
    "EndpointConfigArn": ARN,
    "ProductionVariants": [
        {"VariantName": PRIMARY, "ModelName": "now", "InstanceType": "ml.m5.large", "InitialInstanceCount": 2}
    ],
    "CreationTime": 0,
}
MODEL_NOW = {
    "ModelName": "now",
    "ModelArn": "arn:aws:sagemaker:eu-west-1:1:model/long-enough",
    "ExecutionRoleArn": ROLE,
    "PrimaryContainer": {"Image": IMAGE},
    "CreationTime": 0,
}


def as_it_is(stubber: Stubber) -> None:
    """Answer what the endpoint serves now: its role, image and instances are those of the next model, too."""
    stubber.add_response("describe_endpoint_config", CONFIG, {"EndpointConfigName": f"fraud-model-{PACKAGED}"})
    stubber.add_response("describe_model", MODEL_NOW, {"ModelName": "now"})


# --- request shapes ---------------------------------------------------------------------------------------------------
def test_a_deployment_makes_model_and_configuration_and_begins_with_a_canary_that_alarms_take_back(deployment, stubber):
    stubber.add_response("describe_endpoint", described(f"fraud-model-{PACKAGED}"), {"EndpointName": "fraud-model"})
    stubber.add_response("list_tags", {"Tags": []}, {"ResourceArn": ARN})
    as_it_is(stubber)
    stubber.add_client_error("describe_endpoint_config", "ValidationException")
    stubber.add_client_error("describe_model", "ValidationException")
    model = {
        "ModelName": NAME,
        "ExecutionRoleArn": ROLE,
        "EnableNetworkIsolation": True,
        "PrimaryContainer": {"Image": IMAGE, "ModelDataUrl": URL, "Environment": ANY},
    }
    stubber.add_response("create_model", {"ModelArn": "arn:aws:sagemaker:eu-west-1:1:model/long-enough"}, model)
    variant = {
        "VariantName": PRIMARY,
        "ModelName": NAME,
        "InstanceType": "ml.m5.large",
        "InitialInstanceCount": 2,
        "InitialVariantWeight": 1.0,
    }
    config = {"EndpointConfigName": NAME, "ProductionVariants": [variant]}
    stubber.add_response("create_endpoint_config", {"EndpointConfigArn": ARN}, config)
    routing = {
        "Type": "CANARY",
        "CanarySize": {"Type": "CAPACITY_PERCENT", "Value": 10},
        "WaitIntervalInSeconds": 600,
    }
    update = {
        "EndpointName": "fraud-model",
        "EndpointConfigName": NAME,
        "DeploymentConfig": {
            "BlueGreenUpdatePolicy": {
                "TrafficRoutingConfiguration": routing,
                "MaximumExecutionTimeoutInSeconds": 4_200,
            },
            "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": "ModelAway"}, {"AlarmName": "CanaryDiffers"}]},
        },
    }
    stubber.add_response("update_endpoint", {"EndpointArn": ARN}, update)
    tag = {"Key": DEPLOYED, "Value": f"{named(MODEL).version} {POINTER.revision}"}
    stubber.add_response("add_tags", {"Tags": [tag]}, {"ResourceArn": ARN, "Tags": [tag]})
    stubber.add_response("describe_endpoint", described(f"fraud-model-{PACKAGED}", "Updating"))
    stubber.add_response("describe_endpoint", described(NAME))
    assert [deployment.ensure(POINTER) for _ in range(3)] == [False, False, True]


def test_a_deployment_that_was_taken_back_is_not_begun_again_and_a_later_one_of_the_version_is(deployment, stubber):
    tag = {"Key": DEPLOYED, "Value": f"{named(MODEL).version} {POINTER.revision}"}
    stubber.add_response("describe_endpoint", described(f"fraud-model-{PACKAGED}"))
    stubber.add_response("list_tags", {"Tags": [tag]})
    with pytest.raises(ServiceError, match="DeploymentTakenBack"):
        deployment.ensure(POINTER)
    stubber.add_response("describe_endpoint", described(f"fraud-model-{PACKAGED}"))
    assert deployment.ensure(ModelPointer())
    stubber.add_response("describe_endpoint", described(f"fraud-model-{PACKAGED}"))
    stubber.add_response("list_tags", {"Tags": [tag]})
    as_it_is(stubber)
    stubber.add_response("describe_endpoint_config", CONFIG)
    stubber.add_response("update_endpoint", {"EndpointArn": ARN})
    stubber.add_response("add_tags", {})
    later = POINTER.roll_back(named(MODEL).version).begin_shadow(named(MODEL)).promote(named(MODEL).version)
    assert not deployment.ensure(later)


def test_a_deployment_of_a_known_model_that_has_failed_is_begun_again(deployment, stubber):
    back = POINTER.roll_back(named(MODEL).version)
    tag = {"Key": DEPLOYED, "Value": f"{PACKAGED} {back.revision}"}
    for _ in range(2):  # the first time there were too few instances
        stubber.add_response("describe_endpoint", described(NAME))
        stubber.add_response("describe_endpoint_config", CONFIG, {"EndpointConfigName": NAME})
        stubber.add_response("describe_model", MODEL_NOW)
        stubber.add_response("update_endpoint", {"EndpointArn": ARN})
        stubber.add_response("add_tags", {}, {"ResourceArn": ARN, "Tags": [tag]})
    assert [deployment.ensure(back, known=True) for _ in range(2)] == [False, False]


def test_an_endpoint_that_serves_nothing_and_a_refusal_end_the_step(deployment, stubber):
    stubber.add_response("describe_endpoint", described(NAME, "Failed"))
    with pytest.raises(ServiceError, match="EndpointBroken"):
        deployment.ensure(POINTER)
    stubber.add_response("describe_endpoint", described(f"fraud-model-{PACKAGED}"))
    stubber.add_response("list_tags", {"Tags": []})
    as_it_is(stubber)
    stubber.add_client_error("describe_endpoint_config", "AccessDeniedException")
    with pytest.raises(ServiceError, match="AccessDenied"):
        deployment.ensure(POINTER)


@pytest.mark.parametrize("status", ["Creating", "Updating", "SystemUpdating", "RollingBack"])
def test_an_endpoint_on_its_way_is_changing_whatever_its_configuration(status):
    assert stage_of(described(NAME, status), FLEET, named(MODEL).version) is Stage.CHANGING


def test_a_deployment_without_alarms_waits_for_nothing_and_its_request_is_one_of_sagemakers(deployment, stubber):
    asked = update_endpoint(FLEET._replace(instances=2, alarms=()), "v1")
    routing = asked["DeploymentConfig"]["BlueGreenUpdatePolicy"]["TrafficRoutingConfiguration"]
    assert routing == {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 0}
    stubber.add_response("update_endpoint", {"EndpointArn": ARN}, asked)
    deployment._sagemaker.update_endpoint(**asked)


def test_one_instance_has_no_canary_and_a_name_that_is_too_long_is_refused():
    update = update_endpoint(FLEET._replace(instances=1), "v1")["DeploymentConfig"]["BlueGreenUpdatePolicy"]
    assert update["TrafficRoutingConfiguration"]["Type"] == "ALL_AT_ONCE"
    with pytest.raises(UndecidableError, match="endpoint"):
        name_of(FLEET._replace(endpoint="e" * 50), "embedded-3f2a9c01e5b7")


# --- the box's endpoint -----------------------------------------------------------------------------------------------
class Box:
    """moto in this process with UpdateEndpoint played on a real model server. `now`: its clock."""

    def __init__(self, serving: model_server.Serving) -> None:
        self.now = 0.0
        self.serving = serving
        deployments.played(serving.url, 1.0, lambda: self.now)
        s3 = boto3.client("s3")
        s3.create_bucket(Bucket="artefacts", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        s3.put_object(Bucket="artefacts", Key="model.tar.gz", Body=model_server.archive_of(*MODEL))
        begin(boto3.client("sagemaker"), "fraud-model", PACKAGED)
        self.deployment = EndpointDeployment(FLEET, PACKAGED, lambda _: URL)

    def versions(self, calls: int) -> list[str]:
        """Return the versions that answered so many calls."""
        asked = json.dumps({"fingerprint": features.fingerprint(), "rows": [list(next(iter(features.probed())))]})
        body = asked.replace("NaN", "null").encode()
        return [self._version(body) for _ in range(calls)]

    def _version(self, body: bytes) -> str:
        headers = {"content-type": inference.JSON}
        request = urllib.request.Request(f"{self.serving.url}/invocations", body, headers)  # noqa: S310
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - our own server
            return str(json.load(answer)["version"])

    def alarm(self, state: str) -> None:
        cloudwatch = boto3.client("cloudwatch")
        how = {"Namespace": "n", "MetricName": "m", "Period": 60, "EvaluationPeriods": 1, "Statistic": "Sum"}
        cloudwatch.put_metric_alarm(
            AlarmName="CanaryDiffers", ComparisonOperator="GreaterThanThreshold", Threshold=1, **how
        )
        cloudwatch.set_alarm_state(AlarmName="CanaryDiffers", StateValue=state, StateReason="test")


@pytest.fixture
def box(tmp_path):
    model_server.write(tmp_path, "JPY")
    serving = model_server.Serving(inference.model_fn(str(tmp_path)))
    threading.Thread(target=serving.serve_forever, daemon=True).start()
    with variables(AWS_ENDPOINT_URL=None, **VARIABLES), mock_aws(), deployments.unplayed():
        yield Box(serving)
    serving.shutdown()
    serving.server_close()


def test_the_model_server_serves_the_canary_first_and_then_everybody(box):
    old, new = box.versions(1)[0], named(MODEL).version
    assert not box.deployment.ensure(POINTER)
    assert box.versions(100).count(new) == 10
    assert not box.deployment.ensure(POINTER)
    box.now += FLEET.wait_s
    assert box.deployment.ensure(POINTER)
    assert set(box.versions(20)) == {new}
    assert not box.deployment.ensure(ModelPointer())
    box.now += FLEET.wait_s
    assert box.deployment.ensure(ModelPointer())
    assert set(box.versions(20)) == {old}


def test_a_raised_alarm_takes_the_canary_back_and_every_answer_is_that_of_before(box):
    old = box.versions(1)[0]
    box.deployment.ensure(POINTER)
    box.alarm("ALARM")
    with pytest.raises(ServiceError, match="DeploymentTakenBack"):
        box.deployment.ensure(POINTER)
    assert set(box.versions(100)) == {old}
    assert box.deployment.ensure(ModelPointer())
    (config,) = {boto3.client("sagemaker").describe_endpoint(EndpointName="fraud-model")["EndpointConfigName"]}
    assert config == f"fraud-model-{PACKAGED}"


def test_an_archive_that_does_not_load_never_gets_a_call(box):
    old = box.versions(1)[0]
    boto3.client("s3").put_object(Bucket="artefacts", Key="model.tar.gz", Body=io.BytesIO(b"no archive"))
    box.deployment.ensure(POINTER)
    with pytest.raises(ServiceError, match="DeploymentTakenBack"):
        box.deployment.ensure(POINTER)
    assert set(box.versions(20)) == {old}
