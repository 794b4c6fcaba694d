"""One door in this process on moto's tables, with an environment of its own: for tests that need no box."""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws
from samtranslator.yaml_helper import yaml_parse

from tests.support import environment, gateway

ENVIRONMENT = environment.ENVIRONMENT | {
    "LABEL_SOURCES": "backfill=loader,user_report=payment-app,analyst=fraud-analyst,chargeback=importer",
    "AWS_DEFAULT_REGION": "eu-west-1",
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
}
RESOURCES = yaml_parse(Path("template.yaml").read_text(encoding="utf-8"))["Resources"]
TABLES = {
    name.lower(): RESOURCES[f"{name}Table"]["Properties"]
    for name in ("Profiles", "Decisions", "Labels", "Audit", "Reports", "Retraining")
}
SHAPE = ("KeySchema", "AttributeDefinitions", "GlobalSecondaryIndexes", "BillingMode")


class OwnDoor:
    """A door and the tables behind it.

    module    the door's module: a copy that no `import` finds, because other tests use the stack's
    dynamodb  boto3's client of its tables
    """

    def __init__(self, name: str) -> None:
        self.dynamodb = boto3.client("dynamodb")
        for name_of_table, table in TABLES.items():
            shape = {part: table[part] for part in SHAPE if part in table}
            self.dynamodb.create_table(TableName=name_of_table, **shape)
        self.module = load(name)

    def call(  # noqa: PLR0913 - the parts of a request
        self,
        method: str,
        path: str,
        arn: str,
        content: Any = None,
        *,
        parameters: dict[str, str] | None = None,
        query: dict[str, str] | None = None,
    ) -> tuple[int, Any]:
        """Send one request, as API Gateway passes it on, and return status and body."""
        return gateway.sent(
            self.module,
            f"{method} {path}",
            path,
            content,
            authorizer=gateway.iam(arn),
            parameters=parameters,
            query=query,
        )


def load(name: str) -> Any:
    """Load a door with the present environment: a copy that no `import` finds."""
    spec = importlib.util.find_spec(f"functions.{name}")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def own_door(name: str, **variables: str) -> Iterator[OwnDoor]:
    """Load a door on empty tables, while the block lasts. `variables`: of its environment, where others are wanted."""
    with pytest.MonkeyPatch.context() as patch, mock_aws():
        patch.delenv("AWS_ENDPOINT_URL", raising=False)  # the stack's doors, in the same process, have set it
        for variable, value in {**ENVIRONMENT, **variables}.items():
            patch.setenv(variable, value)
        yield OwnDoor(name)
