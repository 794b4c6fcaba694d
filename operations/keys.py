"""Keys: change the secret keys of a stack, with the credentials and the region of the shell.

`rotate` adds a token key that holds from the day after tomorrow on; do it as often as your rules for keys ask.
`replace` draws another id key, for an emergency only: somebody has read the item, and can choose ids that share a slot.
For 30 days distinct counts then mix slots of both keys, and every decision says `degraded: ["slots"]`. Neither command
prints a key. Both may be run again after a crash; a change that another person made meanwhile is not overwritten.
"""

import argparse
import secrets
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import boto3

from fraud.counters.codec import KEYS, keys_of, keys_row, profile_of
from fraud.counters.keys import KEY_BYTES, Keys
from fraud.counters.layout import DAY

Change = Callable[[Keys, int, bytes], Keys]

CHANGES: dict[str, Change] = {"rotate": Keys.rotated, "replace": Keys.replaced}


def changed(dynamodb: Any, profiles: str, change: Change, today: int) -> Keys:  # noqa: ANN401 - boto3 has no types
    """Change the stack's keys, and return them.

    dynamodb  boto3's client
    profiles  name of the profiles table
    today     epoch day

    Raises KeyError when the stack has no keys yet, and the client's ConditionalCheckFailedException when another person
    changed them meanwhile.
    """
    row = dynamodb.get_item(TableName=profiles, Key={"pk": {"S": KEYS}}, ConsistentRead=True)["Item"]
    after = change(keys_of(profile_of(row)), today, secrets.token_bytes(KEY_BYTES))
    dynamodb.put_item(
        TableName=profiles,
        Item=keys_row(after),
        ConditionExpression="ids = :ids AND tokens = :tokens",
        ExpressionAttributeValues={":ids": row["ids"], ":tokens": row["tokens"]},
    )
    return after


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="operations.keys", description=__doc__)
    parser.add_argument("change", choices=CHANGES)
    parser.add_argument("--profiles", required=True, help="name of the profiles table: the output ProfilesTableName")
    asked = parser.parse_args(arguments)
    today = int(datetime.now(UTC).timestamp()) // DAY
    try:
        keys = changed(boto3.client("dynamodb"), asked.profiles, CHANGES[asked.change], today)
    except KeyError:
        sys.exit("the stack has no keys yet: its first environment makes them")
    starts = [str(datetime.fromtimestamp(start * DAY, UTC).date()) for start, _ in keys.tokens]
    print(f"token keys from {', '.join(starts)}; id key {'replaced' if keys.ids_since else 'never replaced'}")


if __name__ == "__main__":
    main()
