"""Permissions of a function's role on DynamoDB. The emulator refuses other requests, so a too narrow policy shows up.

Pure functions tell why the statements of a role do not cover a request. Of IAM they know what this template uses:
statements that allow, by action and resource, and the conditions on the partition key of an item that is put, and on
the operation that encloses a write. A statement with any other condition is taken to allow nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

Statement = Mapping[str, Any]

PARTS = {"Put": "PutItem", "Update": "UpdateItem", "Delete": "DeleteItem", "ConditionCheck": "ConditionCheckItem"}
"""The permission for each request in a TransactWriteItems: a transaction needs those of all its requests."""


def refusal(operation: str, request: Mapping[str, Any], granted: Sequence[Statement], tables: str) -> str | None:
    """Return why DynamoDB would deny a request, or None if it would allow it.

    tables  the text with which the ARNs of all tables begin

    >>> granted = [{"Effect": "Allow", "Action": ["dynamodb:GetItem"], "Resource": "arn:table/mine"}]
    >>> refusal("GetItem", {"TableName": "mine"}, granted, "arn:table/")
    >>> refusal("Query", {"TableName": "mine", "IndexName": "fold"}, granted, "arn:table/")
    'not authorized to perform: dynamodb:Query on resource: arn:table/mine/index/fold'
    """
    key = request.get("Item", {}).get("pk", {}).get("S", "")
    for action, table in _needs(operation, request):
        met = [
            {"ForAllValues:StringEquals": {"dynamodb:LeadingKeys": [key]}},
            {"ForAnyValue:StringEquals": {"dynamodb:EnclosingOperation": [operation if action != operation else ""]}},
        ]
        if not any(_grants(statement, f"dynamodb:{action}", tables + table, met) for statement in granted):
            return f"not authorized to perform: dynamodb:{action} on resource: {tables}{table}"
    return None


def _needs(operation: str, request: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield each action that a request needs, with the table or index on which it needs it."""
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


def _grants(statement: Statement, action: str, resource: str, met: Sequence[Mapping[str, Any]]) -> bool:
    """Tell whether a statement allows an action on a table. `met`: the conditions that the request meets."""
    allows = statement["Effect"] == "Allow" and statement.get("Condition", met[0]) in met
    return allows and _names(statement["Action"], action) and _names(statement["Resource"], resource)


def _names(patterns: str | Sequence[str], name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in ([patterns] if isinstance(patterns, str) else patterns))
