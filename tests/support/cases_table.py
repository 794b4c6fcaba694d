"""The table of cases in this process, for runs that need no box."""

from collections.abc import Iterator
from contextlib import contextmanager

import boto3
import pytest
from moto import mock_aws

from fraud.settings import Settings
from tests.support.own_door import ENVIRONMENT, RESOURCES, SHAPE

TABLE = "cases"


@contextmanager
def cases_table() -> Iterator[Settings]:
    """Make the tables of cases and of the audit trail, empty, while the block lasts, and return their settings."""
    with pytest.MonkeyPatch.context() as patch, mock_aws():
        patch.delenv("AWS_ENDPOINT_URL", raising=False)
        for variable, value in {**ENVIRONMENT, "CASES_TABLE": TABLE}.items():
            patch.setenv(variable, value)
        for name, resource in ((TABLE, "CasesTable"), (ENVIRONMENT["AUDIT_TABLE"], "AuditTable")):
            declared = RESOURCES[resource]["Properties"]
            shape = {part: declared[part] for part in SHAPE if part in declared}
            boto3.client("dynamodb").create_table(TableName=name, **shape)
        yield Settings.from_environment()
