"""Permissions of a function's role on DynamoDB: the emulator refuses all others, so a policy too narrow shows here.

Pure: a request, the statements of the role, and why they do not cover it. Of IAM it knows what this template uses:
statements that allow, by action and resource; one with a condition is taken to allow nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

Statement = Mapping[str, Any]

PARTS = {"Put": "PutItem", "Update": "UpdateItem", "Delete": "DeleteItem", "ConditionCheck": "ConditionCheckItem"}
"""A transaction needs the permission of each request in it."""


def refusal(operation: str, request: Mapping[str, Any], granted: Sequence[Statement], tables: str) -> str | None:
    """Why DynamoDB would deny a request, None if it would not; `tables` is what the ARNs of all tables begin with.

    >>> granted = [{"Effect": "Allow", "Action": ["dynamodb:GetItem"], "Resource": "arn:table/mine"}]
    >>> refusal("GetItem", {"TableName": "mine"}, granted, "arn:table/")
    >>> refusal("Query", {"TableName": "mine", "IndexName": "fold"}, granted, "arn:table/")
    'not authorized to perform: dynamodb:Query on resource: arn:table/mine/index/fold'
    """
    for action, table in _needs(operation, request):
        if not any(_grants(statement, f"dynamodb:{action}", tables + table) for statement in granted):
            return f"not authorized to perform: dynamodb:{action} on resource: {tables}{table}"
    return None


def _needs(operation: str, request: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Each action with the table, or index, that a request wants it on."""
    match operation:
        case "BatchGetItem" | "BatchWriteItem":
            yield from ((operation, table) for table in request["RequestItems"])
        case "TransactGetItems":
            yield from (("GetItem", item["Get"]["TableName"]) for item in request["TransactItems"])
        case "TransactWriteItems":
            parts = (part for item in request["TransactItems"] for part in item.items())
            yield from ((PARTS[name], part["TableName"]) for name, part in parts)
        case _:
            index = f"/index/{request['IndexName']}" if "IndexName" in request else ""
            yield operation, request.get("TableName", "*") + index


def _grants(statement: Statement, action: str, resource: str) -> bool:
    allows = statement["Effect"] == "Allow" and "Condition" not in statement
    return allows and _names(statement["Action"], action) and _names(statement["Resource"], resource)


def _names(patterns: str | Sequence[str], name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in ([patterns] if isinstance(patterns, str) else patterns))
