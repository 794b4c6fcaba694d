"""Erase: delete an account's links, also suggested ones, its timeline, reports and marks, and the way back to its id.

It works with the credentials and region of the shell. The archive keeps the account's rows, under a pseudonym from
which no table leads back any more. docs/archive.md says what erasure does in each place, and what it cannot do: a
person with both the stack's id key and the id can still compute the pseudonym. Run it a day after the account's last
payment: a decision that is made later, or that the stream brings again within a day, writes row and links again. The
command may be repeated, and after an error it must be. It prints no id.
"""

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

import boto3

from fraud.activity.links import Entity
from fraud.activity.store import Activity
from fraud.archive.record import pseudonym
from fraud.aws.boto import translate_errors
from fraud.aws.client import AwsClient
from fraud.counters.codec import KEYS, keys_of, profile_of
from fraud.errors import ServiceError
from fraud.marks.mark import SIDES
from fraud.settings import AwsIdentity
from fraud.transaction import is_id


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


def unlinked(links: str, profiles: str, account: str, session: boto3.Session) -> None:
    """Delete links, timeline and suggested links of an account, wherever they name it. Raises ServiceError.

    links, profiles  names of the tables
    """
    credentials = session.get_credentials()
    if credentials is None:
        sys.exit("no credentials for AWS: log in first")
    own = credentials.get_frozen_credentials()
    variables = {
        "AWS_REGION": session.region_name or "",
        "AWS_ACCESS_KEY_ID": own.access_key,
        "AWS_SECRET_ACCESS_KEY": own.secret_key,
        "AWS_SESSION_TOKEN": own.token or "",
    }
    transport = AwsClient(AwsIdentity.from_environment(os.environ | variables))
    Activity(transport, links, profiles, retention_days=1, approved=True).erase(Entity("account", account))


def unreported(dynamodb: Any, reports: str, account: str) -> int:  # noqa: ANN401 - boto3 has no types
    """Delete the reports that an account made, with their texts. Return how many there were.

    dynamodb  boto3's client
    reports   name of the reports table

    A text that another user wrote about the account is that user's own.
    """
    pages = dynamodb.get_paginator("query").paginate(
        TableName=reports,
        IndexName="reporter",
        KeyConditionExpression="reporter_id = :id",
        ExpressionAttributeValues={":id": {"S": account}},
    )
    number = 0
    for page in pages:
        for row in page["Items"]:
            dynamodb.delete_item(TableName=reports, Key={"pk": row["pk"]})
        number += len(page["Items"])
    return number


def unmarked(dynamodb: Any, profiles: str, account: str) -> None:  # noqa: ANN401 - boto3 has no types
    """Remove the marks of an account from its profile, if it has one. Nothing else of the profile changes.

    No later snapshot marks it: a publish finds an account by the row of its pseudonym only.
    """
    with contextlib.suppress(dynamodb.exceptions.ConditionalCheckFailedException):
        dynamodb.update_item(
            TableName=profiles,
            Key={"pk": {"S": f"account#{account}"}},
            UpdateExpression="REMOVE " + ", ".join(SIDES.values()),
            ConditionExpression="attribute_exists(pk)",
        )


def _scanned(dynamodb: Any, pseudonyms: str, account: str) -> Iterator[str]:  # noqa: ANN401 - boto3 has no types
    """Yield the keys of all rows of an account, whatever key made them."""
    pages = dynamodb.get_paginator("scan").paginate(
        TableName=pseudonyms,
        ConsistentRead=True,
        FilterExpression="id = :id",
        ExpressionAttributeValues={":id": {"S": account}},
    )
    yield from (row["pk"]["S"] for page in pages for row in page["Items"])


def _numbered(asked: argparse.Namespace) -> int:
    """Return how many rows of pseudonyms were deleted. Exit if the profiles table holds no keys."""
    try:
        return erased(boto3.client("dynamodb"), asked.profiles, asked.pseudonyms, asked.account)
    except KeyError:
        sys.exit("nothing erased: no keys in this table of profiles, so no pseudonyms were made with them")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m operations.erase", description=__doc__)
    parser.add_argument("account", help="id of the account: payer_id or payee_id")
    parser.add_argument("--profiles", required=True, help="name of the profiles table: the output ProfilesTableName")
    parser.add_argument("--pseudonyms", required=True, help="name of its table: the output PseudonymsTableName")
    parser.add_argument("--links", required=True, help="name of the table of links: the output LinksTableName")
    parser.add_argument("--reports", required=True, help="name of the table of reports: the output ReportsTableName")
    asked = parser.parse_args(arguments)
    if not is_id(asked.account):
        sys.exit("nothing erased: no account can have this id")
    try:
        with translate_errors():
            number = _numbered(asked)
            unlinked(asked.links, asked.profiles, asked.account, boto3.Session())
            unmarked(boto3.client("dynamodb"), asked.profiles, asked.account)
            reports = unreported(boto3.client("dynamodb"), asked.reports, asked.account)
    except ServiceError as error:
        sys.exit(f"not everything is erased: {error}. End the cause, and run the command again")
    print(f"links, timeline and marks deleted; rows of pseudonyms deleted: {number}; reports deleted: {reports}")


if __name__ == "__main__":
    main()
