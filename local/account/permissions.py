"""Permissions of a function's role on DynamoDB. The emulator refuses other requests, so a too narrow policy shows up.

Pure functions tell why the statements of a role do not cover a request. Of IAM they know what this template uses:
statements that allow, by action and resource, and the conditions on the partition keys of the items that are named, and
on the operation that encloses a write. A statement with any other condition is taken to allow nothing.
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
    for action, table, keys in _needs(operation, request):
        enclosing = operation if action != operation else ""
        if not any(
            _grants(statement, f"dynamodb:{action}", tables + table)
            and _holds(statement.get("Condition", {}), keys, enclosing)
            for statement in granted
        ):
            return f"not authorized to perform: dynamodb:{action} on resource: {tables}{table}"
    return None


def _needs(operation: str, request: Mapping[str, Any]) -> Iterator[tuple[str, str, list[str]]]:
    """Yield each action that a request needs: the table or index on which it needs it, and the partition keys."""
    match operation:
        case "BatchGetItem":
            for table, asked in request["RequestItems"].items():
                yield operation, table, [key["pk"]["S"] for key in asked.get("Keys", ())]
        case "BatchWriteItem":
            yield from ((operation, table, []) for table in request["RequestItems"])
        case "TransactGetItems":
            yield from (("GetItem", item["Get"]["TableName"], _keys(item["Get"])) for item in request["TransactItems"])
        case "TransactWriteItems":
            parts = (part for item in request["TransactItems"] for part in item.items())
            yield from ((PARTS[name], part["TableName"], _keys(part)) for name, part in parts)
        case _:
            index = f"/index/{request['IndexName']}" if "IndexName" in request else ""
            yield operation, request.get("TableName", "*") + index, _keys(request)


def _keys(request: Mapping[str, Any]) -> list[str]:
    """Return the partition key of the item that a request names; nothing for a request that names none."""
    named = request.get("Key") or request.get("Item") or {}
    return [named["pk"]["S"]] if "pk" in named else []


def _holds(condition: Mapping[str, Any], keys: Sequence[str], enclosing: str) -> bool:
    """Tell whether a statement's condition holds. An unknown one, and one on the keys of a request without, does not.

    >>> own = {"ForAllValues:StringLike": {"dynamodb:LeadingKeys": ["account#*"]}}
    >>> [_holds(own, keys, "") for keys in (["account#a"], ["account#a", "keys"], [])]
    [True, False, False]
    >>> together = own | {"ForAnyValue:StringEquals": {"dynamodb:EnclosingOperation": ["TransactWriteItems"]}}
    >>> [_holds(together, ["account#a"], enclosing) for enclosing in ("TransactWriteItems", "")]
    [True, False]
    """
    return all(_is_met(operator, operands, keys, enclosing) for operator, operands in condition.items())


def _is_met(operator: str, operands: Mapping[str, Any], keys: Sequence[str], enclosing: str) -> bool:
    match operator, operands:
        case "ForAllValues:StringEquals", {"dynamodb:LeadingKeys": wanted}:
            return bool(keys) and set(keys) <= set(wanted)
        case "ForAllValues:StringLike", {"dynamodb:LeadingKeys": wanted}:
            return bool(keys) and all(_names(wanted, key) for key in keys)
        case "ForAnyValue:StringEquals", {"dynamodb:EnclosingOperation": wanted}:
            return enclosing in wanted
    return False


def _grants(statement: Statement, action: str, resource: str) -> bool:
    """Tell whether a statement allows an action on a table, if its condition holds."""
    return (
        statement["Effect"] == "Allow"
        and _names(statement["Action"], action)
        and _names(statement["Resource"], resource)
    )


def _names(patterns: str | Sequence[str], name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in ([patterns] if isinstance(patterns, str) else patterns))
