"""A role's statements cover a request to DynamoDB only when they name every action on every table in it."""

from typing import Any

import pytest

from local.account.permissions import refusal

TABLES = "arn:aws:dynamodb:us-east-1:123456789012:table/"
GRANTED = [
    {"Effect": "Allow", "Action": "dynamodb:GetItem", "Resource": f"{TABLES}a"},
    {"Effect": "Allow", "Action": ["dynamodb:BatchGetItem", "dynamodb:Up*"], "Resource": [f"{TABLES}a", f"{TABLES}b"]},
    {"Effect": "Allow", "Action": "dynamodb:Query", "Resource": f"{TABLES}a/index/*"},
    {"Effect": "Allow", "Action": "dynamodb:Scan", "Resource": f"{TABLES}a", "Condition": {"Bool": {"x": "y"}}},
    {
        "Effect": "Allow",
        "Action": ["dynamodb:PutItem", "dynamodb:DeleteItem"],
        "Resource": f"{TABLES}b",
        "Condition": {"ForAllValues:StringEquals": {"dynamodb:LeadingKeys": ["keys"]}},
    },
    {"Effect": "Deny", "Action": "dynamodb:DeleteItem", "Resource": f"{TABLES}a"},
]
A, B, C = ({"TableName": name} for name in "abc")
KEYS, OTHER = ({"Item": {"pk": {"S": pk}}} for pk in ("keys", "account#keys"))


@pytest.mark.parametrize(
    ("operation", "request_"),
    [
        ("GetItem", A),
        ("UpdateItem", B),
        ("BatchGetItem", {"RequestItems": {"a": {}, "b": {}}}),
        ("PutItem", B | KEYS),
        ("DeleteItem", B | {"Key": KEYS["Item"]}),
        ("Query", A | {"IndexName": "fold"}),
        ("TransactGetItems", {"TransactItems": [{"Get": A}]}),
        ("TransactWriteItems", {"TransactItems": [{"Update": A}, {"Update": B}]}),
    ],
)
def test_request_that_the_statements_cover_is_not_refused(operation: str, request_: dict[str, Any]) -> None:
    assert refusal(operation, request_, GRANTED, TABLES) is None


@pytest.mark.parametrize(
    ("operation", "request_", "missing"),
    [
        ("GetItem", B, "GetItem on resource: {}b"),
        ("PutItem", A, "PutItem on resource: {}a"),
        ("PutItem", A | KEYS, "PutItem on resource: {}a"),
        ("PutItem", B | OTHER, "PutItem on resource: {}b"),
        ("DeleteItem", B | {"Key": OTHER["Item"]}, "DeleteItem on resource: {}b"),
        ("BatchGetItem", {"RequestItems": {"a": {}, "c": {}}}, "BatchGetItem on resource: {}c"),
        ("Query", A, "Query on resource: {}a"),
        ("Scan", A, "Scan on resource: {}a"),
        ("DeleteItem", A, "DeleteItem on resource: {}a"),
        ("TransactGetItems", {"TransactItems": [{"Get": A}, {"Get": C}]}, "GetItem on resource: {}c"),
        ("TransactWriteItems", {"TransactItems": [{"Update": A}, {"Put": B}]}, "PutItem on resource: {}b"),
        ("ListTables", {}, "ListTables on resource: {}*"),
    ],
)
def test_refusal_names_what_is_missing(operation: str, request_: dict[str, Any], missing: str) -> None:
    expected = f"not authorized to perform: dynamodb:{missing.format(TABLES)}"
    assert refusal(operation, request_, GRANTED, TABLES) == expected
