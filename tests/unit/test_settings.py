"""The environment is parsed once, and every fault in it is named."""

from datetime import UTC, datetime

import pytest

from fraud.errors import UndecidableError
from fraud.settings import AwsIdentity, Settings
from tests.support.environment import ENVIRONMENT


def test_the_environment_is_parsed_into_types():
    parsed = Settings.from_environment(ENVIRONMENT | {"PATH": "/bin"})
    assert (parsed.currency, parsed.decision_retention_days, parsed.backfill_before) == ("JPY", 400, None)
    opened = Settings.from_environment(ENVIRONMENT | {"BACKFILL_BEFORE": "2026-03-04T00:00:00+09:00"})
    assert opened.backfill_before == datetime(2026, 3, 3, 15, tzinfo=UTC)


@pytest.mark.parametrize("name", ENVIRONMENT)
def test_every_missing_variable_is_named(name):
    with pytest.raises(UndecidableError, match=f"environment: {name}: "):
        Settings.from_environment({key: value for key, value in ENVIRONMENT.items() if key != name})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CURRENCY", "yen"),
        ("SCORER", "SECRET"),
        ("MODEL_ENDPOINT", "SECRET"),
        ("MODEL_ENDPOINT", "a/../b"),
        ("COUNTERS_TABLE", "a b"),
        ("AUDIT_TABLE", "x"),
        ("LABELS_TABLE", ""),
        ("LINKS_TABLE", ""),
        ("INVESTIGATION_MACHINE", "investigation"),
        ("INVESTIGATION_MACHINE", "arn:aws:states:eu-west-1:123456789012:stateMachine:fraud-investigation:live"),
        ("CASE_LAST_RESORT_SECONDS", "0"),
        ("OUTREACH_SECONDS", "SECRET"),
        ("OUTREACH_HOURS", ""),
        ("OUTREACH_ATTEMPTS", "0"),
        ("LABEL_SOURCES", ""),
        ("BACKFILL_BEFORE", "SECRET"),
        ("BACKFILL_BEFORE", "2026-03-04"),
        ("ALLOW_MAX_DAYS", "0"),
        ("DECISION_DELIVERY", "a b"),
        ("PUBLISHED_SHARE", "1.01"),
        ("PUBLISHED_SHARE", "SECRET"),
        ("DECISION_RETENTION_DAYS", "0"),
        ("CHALLENGE_SECONDS", "0"),
        ("REVIEW_SECONDS", "-1"),
        ("DECISION_RETENTION_DAYS", "SECRET"),
        ("ACTIVITY_RETENTION_DAYS", "34"),
        ("TIMELINE_APPROVED", "SECRET"),
    ],
)
def test_every_wrong_variable_is_named_without_its_value(name, value):
    with pytest.raises(UndecidableError, match=f"environment: {name}: ") as refused:
        Settings.from_environment(ENVIRONMENT | {name: value})
    assert "SECRET" not in str(refused.value)


def test_all_faults_are_named_at_once():
    with pytest.raises(UndecidableError) as refused:
        Settings.from_environment({})
    assert all(name in str(refused.value) for name in ENVIRONMENT)


def test_the_variables_are_those_of_the_settings():
    assert {name.lower() for name in ENVIRONMENT} == set(Settings.model_fields)


LAMBDA = {"AWS_REGION": "eu-west-1", "AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": "SECRET"}


def test_the_identity_is_the_one_that_lambda_sets_with_the_services_of_its_region():
    identity = AwsIdentity.from_environment(LAMBDA | {"AWS_SESSION_TOKEN": "TOKEN", "AWS_CA_BUNDLE": "/ca.pem"})
    assert (identity.region, identity.key_id) == ("eu-west-1", "AKIA")
    assert (identity.secret, identity.token) == ("SECRET", "TOKEN")
    assert identity.dynamodb_url == "https://dynamodb.eu-west-1.amazonaws.com"
    assert identity.sagemaker_url == "https://runtime.sagemaker.eu-west-1.amazonaws.com"
    assert identity.ca_bundle == "/ca.pem"
    assert "SECRET" not in repr(identity)
    assert "TOKEN" not in repr(identity)
    china = AwsIdentity.from_environment(LAMBDA | {"AWS_REGION": "", "AWS_DEFAULT_REGION": "cn-north-1"})
    assert china.dynamodb_url == "https://dynamodb.cn-north-1.amazonaws.com.cn"
    assert (china.token, china.ca_bundle) == (None, None)


def test_an_endpoint_given_for_a_service_precedes_the_one_for_all():
    identity = AwsIdentity.from_environment(
        LAMBDA | {"AWS_ENDPOINT_URL": "http://all:1", "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": "http://models:2"}
    )
    assert (identity.dynamodb_url, identity.sagemaker_url) == ("http://all:1", "http://models:2")
    identity = AwsIdentity.from_environment(LAMBDA | {"AWS_ENDPOINT_URL_DYNAMODB": "http://tables:3"})
    assert (identity.dynamodb_url, identity.sagemaker_url) == (
        "http://tables:3",
        "https://runtime.sagemaker.eu-west-1.amazonaws.com",
    )


def test_missing_credentials_and_a_missing_region_are_named():
    with pytest.raises(UndecidableError, match="AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY: missing"):
        AwsIdentity.from_environment({})
