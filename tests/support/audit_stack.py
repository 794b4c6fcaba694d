"""The audit trail on moto, in this process: the table of the template, a bucket under lock, and a writer of changes.

`Ledger` stands for any package that has a change and its audit row in one transaction.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import boto3
from moto import mock_aws
from pynamodb.attributes import NumberAttribute, UnicodeAttribute
from pynamodb.exceptions import PynamoDBException
from pynamodb.transactions import TransactWrite

from fraud.audit.roots import Root
from fraud.audit.store import ChainedRow, Roots, Trail
from fraud.aws import tables
from fraud.aws.boto import retry_conflicts
from fraud.settings import Settings
from operations import audit
from tests.support.own_door import ENVIRONMENT, SHAPE, TABLES

BUCKET = ENVIRONMENT["AUDIT_ROOTS_BUCKET"]
VARIABLES = {**ENVIRONMENT, "AWS_REGION": "eu-west-1"}


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
    """Table, bucket and ledger, with what tests do to them."""

    def __init__(self) -> None:
        self.dynamodb = boto3.client("dynamodb")
        self.s3 = boto3.client("s3")
        for name in ("audit", "profiles"):
            shape = {part: TABLES[name][part] for part in SHAPE if part in TABLES[name]}
            self.dynamodb.create_table(TableName=name, **shape)
        where = {"LocationConstraint": "eu-west-1"}
        self.s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration=where, ObjectLockEnabledForBucket=True)
        lock = {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 30}}}
        self.s3.put_object_lock_configuration(Bucket=BUCKET, ObjectLockConfiguration=lock)
        self.ledger = Ledger("audit", "profiles")
        self.roots = Roots("audit", BUCKET)

    def write_root(self, until: datetime) -> Root | None:
        return self.roots.write(until)

    def verify(self, chain: str | None = None) -> Any:
        return audit.verify(self.dynamodb, self.s3, "audit", BUCKET, chain)

    def items(self) -> list[Any]:
        return list(audit._items(self.dynamodb, "audit", None))

    def put_back(self, items: list[Any]) -> None:
        """Make these the rows of the table, as an administrator of the account could."""
        for item in self.items():
            self.dynamodb.delete_item(TableName="audit", Key={"pk": item["pk"], "sk": item["sk"]})
        for item in items:
            self.dynamodb.put_item(TableName="audit", Item=item)


@contextmanager
def audit_stack() -> Iterator[AuditStack]:
    """Make an empty audit trail on moto, while the block lasts."""
    before = {name: os.environ.get(name) for name in (*VARIABLES, "AWS_ENDPOINT_URL")}
    os.environ.pop("AWS_ENDPOINT_URL", None)
    os.environ.update(VARIABLES)
    try:
        with mock_aws():
            assert Settings.from_environment().audit_table == "audit"
            yield AuditStack()
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
