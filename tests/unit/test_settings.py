"""The environment is parsed once, and every fault in it is named."""

from datetime import UTC, datetime

import pytest

from fraud.errors import UndecidableError
from fraud.settings import AwsIdentity, Settings

ENVIRONMENT = {
    "STAGE": "local",
    "CURRENCY": "JPY",
    "SCORER": "embedded",
    "MODEL_ENDPOINT": "fraud-model",
    "COUNTERS_TABLE": "counters",
    "PROFILES_TABLE": "profiles",
    "DECISIONS_TABLE": "decisions",
    "AUDIT_TABLE": "audit",
    "AUDIT_ROOTS_BUCKET": "audit-roots",
    "LABELS_TABLE": "labels",
    "LINKS_TABLE": "links",
    "PSEUDONYMS_TABLE": "pseudonyms",
    "TALLIES_TABLE": "tallies",
    "INVESTIGATION_MACHINE": "arn:aws:states:eu-west-1:123456789012:stateMachine:fraud-investigation",
    "DEACTIVATION_MACHINE": "arn:aws:states:eu-west-1:123456789012:stateMachine:fraud-deactivation",
    "ACCOUNTS_TABLE": "fraud-accounts",
    "CAP_HOUR_ALL": "20",
    "CAP_HOUR_EACH": "10",
    "CAP_DAY_ALL": "100",
    "CAP_DAY_EACH": "40",
    "ORDER_ALONE_MAX": "3",
    "ACTION_QUEUE_SECONDS": "604800",
    "NOTICE_SECONDS": "900",
    "APPEAL_WINDOW_SECONDS": "1209600",
    "APPEAL_REVIEW_SECONDS": "259200",
    "ACCOUNT_RETENTION_DAYS": "730",
    "RETRAINING_TABLE": "retraining",
    "RETRAINING_MACHINE": "arn:aws:states:eu-west-1:123456789012:stateMachine:fraud-retraining",
    "RETRAINING_IMAGE": "",
    "RETRAINING_PLAN": "{}",
    "GRAPH_MACHINE": "arn:aws:states:eu-west-1:123456789012:stateMachine:fraud-graph",
    "GRAPH_PLAN": "{}",
    "MODELS_BUCKET": "models",
    "MODEL_PACKAGE_GROUP": "fraud-models",
    "APPROVAL_SECONDS": "604800",
    "SHADOW_SECONDS": "172800",
    "CANARY_SECONDS": "86400",
    "CANARY_SHARE": "0.05",
    "DEPLOYMENT_POLL_SECONDS": "30",
    "DEPLOYMENT_ALARMS": "ModelAway,CanaryDiffers",
    "CASE_LAST_RESORT_SECONDS": "1209600",
    "OUTREACH_SECONDS": "172800",
    "OUTREACH_HOURS": "9-21+00:00",
    "OUTREACH_ATTEMPTS": "3",
    "REPORTS_TABLE": "reports",
    "LABEL_SOURCES": "user_report=payment-app,analyst=fraud-analyst,analyst=head-of-fraud",
    "BACKFILL_BEFORE": "",
    "ALLOW_MAX_DAYS": "90",
    "ARCHIVE_BUCKET": "archive",
    "UNDECIDABLE_QUEUE_URL": "https://sqs.eu-west-1.amazonaws.com/123456789012/undecidable",
    "FOLD_QUEUE_URL": "https://sqs.eu-west-1.amazonaws.com/123456789012/fold",
    "EVENT_BUS_NAME": "events",
    "DECISION_DELIVERY": "decisions",
    "RESOLUTION_DELIVERY": "resolutions",
    "INVITATION_DELIVERY": "invitations",
    "LABEL_DELIVERY": "labels",
    "REPORT_DELIVERY": "reports",
    "CASE_DELIVERY": "cases",
    "ACTION_DELIVERY": "actions",
    "INTERVENTION_DELIVERY": "interventions",
    "DECISION_ARCHIVE_BUCKET": "decision-archive",
    "ARCHIVE_DATABASE": "fraud_archive",
    "KPI_WORKGROUP": "fraud-kpis",
    "KPI_DAYS": "35",
    "PUBLISHED_SHARE": "0.01",
    "SAMPLE_SHARES": "approve=0,decline=0",
    "HOLD_OUT_SHARE": "0",
    "HOLD_OUT_MOST": "0",
    "DECISION_RETENTION_DAYS": "400",
    "ACTIVITY_RETENTION_DAYS": "400",
    "REPORT_RETENTION_DAYS": "400",
    "TIMELINE_APPROVED": "true",
    "DEADLINE_MS": "250",
    "CHALLENGE_SECONDS": "600",
    "CASES_TABLE": "fraud-cases",
    "CASE_SLA_SECONDS": "14400",
    "CASE_LEASE_SECONDS": "1800",
    "CASE_RETENTION_DAYS": "400",
    "JWT_GROUPS_CLAIM": "cognito:groups",
    "REVIEW_SECONDS": "86400",
}


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
