"""The audit trail on moto, in this process: the table of the template, a bucket under lock, and a writer of changes.

`Ledger` stands for any package that has a change and its audit row in one transaction.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import boto3
import pytest
from moto import mock_aws
from pynamodb.attributes import NumberAttribute, UnicodeAttribute
from pynamodb.exceptions import PynamoDBException
from pynamodb.transactions import TransactWrite

from fraud.audit.roots import Root
from fraud.audit.store import ChainedRow, Roots, Trail
from fraud.aws import tables
from fraud.aws.boto import retry_conflicts
from local.account.boto import KEY_ID, REGION, SECRET
from operations import audit
from tests.support.own_door import ENVIRONMENT, create_tables

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
BUCKET = ENVIRONMENT["AUDIT_ROOTS_BUCKET"]
VARIABLES = {
    **ENVIRONMENT,
    "AWS_REGION": "eu-west-1",
    "FOLD_QUEUE_URL": "https://sqs.example/fold",
}
"""Variables of a door, with those that Settings checks."""


class LedgerRow(ChainedRow):
    """A row about an account's balance."""

    balance = NumberAttribute()
    reason = UnicodeAttribute(null=True)


class Balance(tables.Row):
    """The thing that changes."""

    pk = UnicodeAttribute(hash_key=True)
    balance = NumberAttribute(default=0)


class Ledger:
    """Accounts whose balance is changed by an amount, each change with its row in the chain `account#<id>`."""

    def __init__(self, table: str, profiles: str) -> None:
        self.trail = Trail(LedgerRow, table)
        self.balances = tables.bound(Balance, profiles)
        self._connection = tables.connection()

    def add(self, account: str, amount: int, now: datetime, by: str = "someone") -> int:
        """Change a balance; return how often it was tried in vain, because another writer was faster."""

        def change(attempt: int) -> int:
            head = self.trail.head(f"account#{account}")
            before = next((row.balance for row in self.trail.latest(head.chain, None, 1)), None) or 0
            row = self.trail.row(head, head.next_at(now), by=by, balance=before + amount)
            with TransactWrite(connection=self._connection) as transaction:
                key = self.balances(f"account#{account}")
                transaction.update(key, actions=[Balance.balance.set(before + amount)])
                self.trail.add(transaction, row)
            return attempt

        return retry_conflicts(change, PynamoDBException)


class AuditStack:
    """Table, bucket and ledger, with what tests do to them. `known`: discrepancies that a test expects from now on."""

    def __init__(self) -> None:
        self.dynamodb = boto3.client("dynamodb")
        self.s3 = boto3.client("s3")
        create_tables(self.dynamodb, "Audit", "Profiles")
        where = {"LocationConstraint": "eu-west-1"}
        self.s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration=where, ObjectLockEnabledForBucket=True)
        lock = {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 30}}}
        self.s3.put_object_lock_configuration(Bucket=BUCKET, ObjectLockConfiguration=lock)
        self.known: set[Any] = set()
        self.ledger = Ledger("audit", "profiles")
        self.roots = Roots("audit", BUCKET)

    def write_root(self, until: datetime) -> Root | None:
        return self.roots.write(until)

    def verify(self, chain: str | None = None) -> Any:
        return audit.verify(self.dynamodb, self.s3, "audit", BUCKET, chain)

    def items(self) -> list[Any]:
        return list(audit._items(self.dynamodb, "audit", None))

    @contextmanager
    def changed(self, before: list[Any], after: list[Any]) -> Iterator[None]:
        """Put other rows in place of some, as an administrator of the account could, while the block lasts."""
        self._put_instead(before, after)
        yield
        self._put_instead(after, before)

    def _put_instead(self, before: list[Any], after: list[Any]) -> None:
        for item in before:
            self.dynamodb.delete_item(TableName="audit", Key={"pk": item["pk"], "sk": item["sk"]})
        for item in after:
            self.dynamodb.put_item(TableName="audit", Item=item)


@contextmanager
def variables(**values: str | None) -> Iterator[None]:
    """Set variables of the environment, or remove those that are None, while the block lasts."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in values.items():
            if value is None:
                patch.delenv(name, raising=False)
            else:
                patch.setenv(name, value)
        yield


@contextmanager
def emulated(url: str) -> Iterator[None]:
    """Let PynamoDB and boto3 speak to an emulator, while the block lasts."""
    keys = {"AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_DEFAULT_REGION": REGION}
    with variables(AWS_ENDPOINT_URL=url, **keys):
        yield


@contextmanager
def audit_stack() -> Iterator[AuditStack]:
    """Make an empty audit trail on moto, while the block lasts."""
    with variables(AWS_ENDPOINT_URL=None, **VARIABLES), mock_aws():
        yield AuditStack()
