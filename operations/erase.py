"""Erase: delete the way back from an account's pseudonym to its id, with the credentials and region of the shell.

The archive keeps the account's rows, under a pseudonym from which no table leads back any more. docs/archive.md says
what erasure does in each place, and what it cannot do: a person with both the stack's id key and the id can still
compute the pseudonym. Run it a day after the account's last payment: a decision that is made later, or that the stream
brings again within a day, writes the row again. The command may be repeated. It prints no id.
"""

import argparse
import sys
from collections.abc import Iterator
from typing import Any

import boto3

from fraud.archive.record import pseudonym
from fraud.counters.codec import KEYS, keys_of, profile_of


def erased(dynamodb: Any, profiles: str, pseudonyms: str, account: str) -> int:  # noqa: ANN401 - boto3 has no types
    """Delete the account's rows from the table of pseudonyms, and return how many there were.

    dynamodb    boto3's client
    profiles    name of the profiles table, which holds the key
    pseudonyms  name of the table of pseudonyms

    A row that was made with an id key which was replaced since cannot be computed any more: then the table is scanned.
    Raises KeyError when the stack has no keys.
    """
    row = dynamodb.get_item(TableName=profiles, Key={"pk": {"S": KEYS}}, ConsistentRead=True)["Item"]
    keys = keys_of(profile_of(row))
    names = {pseudonym(keys, "account", account)}
    if keys.ids_since:
        names |= set(_scanned(dynamodb, pseudonyms, account))
    answers = (
        dynamodb.delete_item(TableName=pseudonyms, Key={"pk": {"S": name}}, ReturnValues="ALL_OLD") for name in names
    )
    return sum("Attributes" in answer for answer in answers)


def _scanned(dynamodb: Any, pseudonyms: str, account: str) -> Iterator[str]:  # noqa: ANN401 - boto3 has no types
    """Yield the keys of all rows of an account, whatever key made them."""
    pages = dynamodb.get_paginator("scan").paginate(
        TableName=pseudonyms,
        ConsistentRead=True,
        FilterExpression="id = :id",
        ExpressionAttributeValues={":id": {"S": account}},
    )
    yield from (row["pk"]["S"] for page in pages for row in page["Items"])


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m operations.erase", description=__doc__)
    parser.add_argument("account", help="id of the account: payer_id or payee_id")
    parser.add_argument("--profiles", required=True, help="name of the profiles table: the output ProfilesTableName")
    parser.add_argument("--pseudonyms", required=True, help="name of its table: the output PseudonymsTableName")
    asked = parser.parse_args(arguments)
    try:
        number = erased(boto3.client("dynamodb"), asked.profiles, asked.pseudonyms, asked.account)
    except KeyError:
        sys.exit("the stack has no keys yet, so it has no pseudonyms")
    print(f"rows deleted: {number}")


if __name__ == "__main__":
    main()
