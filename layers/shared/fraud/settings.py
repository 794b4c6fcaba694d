"""The stack's parameters and the credentials for AWS, parsed from the environment once.

template.yaml sets every variable of `Settings`; a contract test compares the two. No other module reads `os.environ`.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from fraud.errors import UndecidableError
from fraud.transaction import Currency, Instant, OrNone, faults_of

Table = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{3,255}$")]


Delivery = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
"""The name of a Firehose stream."""

Machine = Annotated[str, StringConstraints(pattern=r"^arn:.+:stateMachine:[A-Za-z0-9_-]{1,80}$")]

MOST_CAP = 5_000
"""The largest cap on interventions: the names of that many fit into one item, which has at most 400 KB."""

LOCAL = "local"
"""The stage of a stack on an emulator."""


class Settings(BaseModel):
    """The stack's parameters as the functions see them; field `x_y` is the variable `X_Y`."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    stage: str
    currency: Currency
    scorer: Literal["embedded", "endpoint"]
    model_endpoint: Annotated[str, StringConstraints(pattern=r"^[a-z0-9](-?[a-z0-9]){0,62}$")]
    counters_table: Table
    profiles_table: Table
    decisions_table: Table
    audit_table: Table
    audit_roots_bucket: str
    labels_table: Table
    links_table: Table
    pseudonyms_table: Table
    tallies_table: Table
    cases_table: Table
    investigation_machine: Machine
    case_last_resort_seconds: int = Field(ge=1)
    outreach_seconds: int = Field(ge=1)
    outreach_hours: Annotated[str, StringConstraints(min_length=1)]
    outreach_attempts: int = Field(ge=1)
    reports_table: Table
    label_sources: Annotated[str, StringConstraints(min_length=1)]
    backfill_before: OrNone[Instant]
    allow_max_days: int = Field(ge=1)
    archive_bucket: str
    undecidable_queue_url: str
    fold_queue_url: str
    event_bus_name: str
    decision_delivery: Delivery
    resolution_delivery: Delivery
    label_delivery: Delivery
    report_delivery: Delivery
    case_delivery: Delivery
    action_delivery: Delivery
    intervention_delivery: Delivery
    invitation_delivery: Delivery
    decision_archive_bucket: str
    archive_database: str
    kpi_workgroup: str
    kpi_days: int = Field(ge=1, le=400)
    published_share: float = Field(ge=0, le=1)
    sample_shares: Annotated[str, StringConstraints(min_length=1)]
    hold_out_share: float = Field(ge=0, le=0.2)
    hold_out_most: int = Field(ge=0)
    decision_retention_days: int = Field(ge=1)
    activity_retention_days: int = Field(ge=35)
    report_retention_days: int = Field(ge=1)
    timeline_approved: bool
    deadline_ms: int = Field(ge=50)
    challenge_seconds: int = Field(ge=1)
    review_seconds: int = Field(ge=1)
    case_sla_seconds: int = Field(ge=1)
    case_lease_seconds: int = Field(ge=1)
    case_retention_days: int = Field(ge=1)
    jwt_groups_claim: str = Field(min_length=1)
    accounts_table: Table
    deactivation_machine: Machine
    cap_hour_all: int = Field(ge=1, le=MOST_CAP)
    cap_hour_each: int = Field(ge=1, le=MOST_CAP)
    cap_day_all: int = Field(ge=1, le=MOST_CAP)
    cap_day_each: int = Field(ge=1, le=MOST_CAP)
    order_alone_max: int = Field(ge=1)
    action_queue_seconds: int = Field(ge=1)
    notice_seconds: int = Field(ge=1)
    appeal_window_seconds: int = Field(ge=1)
    appeal_review_seconds: int = Field(ge=1)
    account_retention_days: int = Field(ge=1)
    retraining_table: Table
    retraining_machine: Machine
    retraining_image: str
    retraining_plan: Annotated[str, StringConstraints(min_length=2)]
    graph_machine: Machine
    graph_plan: Annotated[str, StringConstraints(min_length=2)]
    models_bucket: str
    model_package_group: Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}$")]
    approval_seconds: int = Field(ge=1)
    shadow_seconds: int = Field(ge=1)
    canary_seconds: int = Field(ge=1)
    canary_share: float = Field(gt=0, le=0.5)
    deployment_poll_seconds: int = Field(ge=1)
    deployment_alarms: Annotated[str, StringConstraints(min_length=1)]

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """Parse the settings from environment variables.

        Raises UndecidableError, which names every variable that is missing or wrong, without its value.
        """
        known = {name: environment[name.upper()] for name in cls.model_fields if name.upper() in environment}
        try:
            return cls.model_validate(known)
        except ValidationError as error:
            faults = "; ".join(f"{fault.field.upper()}: {fault.message}" for fault in faults_of(error))
            raise UndecidableError(f"environment: {faults}") from None


@dataclass(frozen=True)
class AwsIdentity:
    """The credentials for AWS, the region, and the services' addresses, from variables that Lambda itself sets.

    Lambda sets the credentials when it starts an environment, and never changes them. The addresses follow the same
    variables as in botocore, so the hot path's client and boto3 use the same emulator.
    """

    region: str
    key_id: str
    secret: str = field(repr=False)
    token: str | None = field(repr=False)
    dynamodb_url: str
    sagemaker_url: str
    ca_bundle: str | None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """Parse the identity from environment variables.

        Raises UndecidableError, which names every variable that is missing.

        >>> AwsIdentity.from_environment({"AWS_REGION": "eu-west-1"})
        Traceback (most recent call last):
        fraud.errors.UndecidableError: environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY: missing
        """
        region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or ""
        required = {
            "AWS_REGION": region,
            "AWS_ACCESS_KEY_ID": environment.get("AWS_ACCESS_KEY_ID"),
            "AWS_SECRET_ACCESS_KEY": environment.get("AWS_SECRET_ACCESS_KEY"),
        }
        if missing := [name for name, value in required.items() if not value]:
            raise UndecidableError(f"environment: {', '.join(missing)}: missing")
        domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"

        def address(service: str, host: str) -> str:
            given = environment.get(f"AWS_ENDPOINT_URL_{service}") or environment.get("AWS_ENDPOINT_URL")
            return given or f"https://{host}.{region}.{domain}"

        return cls(
            region=region,
            key_id=environment["AWS_ACCESS_KEY_ID"],
            secret=environment["AWS_SECRET_ACCESS_KEY"],
            token=environment.get("AWS_SESSION_TOKEN") or None,
            dynamodb_url=address("DYNAMODB", "dynamodb"),
            sagemaker_url=address("SAGEMAKER_RUNTIME", "runtime.sagemaker"),
            ca_bundle=environment.get("AWS_CA_BUNDLE") or None,
        )


@cache
def stage() -> str:
    """Return the stage's name. Metrics carry it: without it they would mix with those of another stack in the account.

    It is LOCAL when the environment names no stage.
    """
    return os.environ.get("STAGE", LOCAL)
