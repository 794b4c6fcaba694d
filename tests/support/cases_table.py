"""The table of cases in this process, for runs that need no box."""

from collections.abc import Iterator
from contextlib import contextmanager

import boto3
import pytest
from moto import mock_aws

from fraud.settings import Settings
from tests.support.own_door import ENVIRONMENT, create_tables


@contextmanager
def cases_table() -> Iterator[Settings]:
    """Make the tables of cases and of the audit trail, empty, while the block lasts, and return their settings."""
    with pytest.MonkeyPatch.context() as patch, mock_aws():
        patch.delenv("AWS_ENDPOINT_URL", raising=False)
        for variable, value in {**ENVIRONMENT, "CASES_TABLE": "cases"}.items():
            patch.setenv(variable, value)
        create_tables(boto3.client("dynamodb"), "Cases", "Audit")
        yield Settings.from_environment()
