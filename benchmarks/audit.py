"""Bytes and request units of audit rows, of changes with and without them, and of roots: rows of `benchmarks.capacity`.

The rows are made by the product's own code. A transaction's write costs twice the units of a single one; the index has
an entry of each row, and DynamoDB bills it as a single write. A writer reads the head before, which is one row.

A step of an action is the transaction that holds an account: the rows of the action and the account, the account's
profile without counters, and the row of the chain `account#<id>`. The entries of the first rows in their own indexes
are the same with and without the chain, and are not counted.
"""

import json
import math
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from benchmarks import table
from benchmarks.metering import READ_UNIT, WRITE_UNIT, size_of
from fraud.accounts.action import Action, Cause
from fraud.accounts.moves import ActionState
from fraud.accounts.rows import ACCOUNT, ACTION, AccountRow, ActionRow, StatusProfile
from fraud.accounts.status import Account
from fraud.accounts.transactions import chain_of
from fraud.audit.chain import Head
from fraud.audit.roots import following
from fraud.audit.store import DayIndex, DocumentRow, Trail
from fraud.lists.store import AuditRow, ListEntryAttribute
from fraud.transaction import utc

AT = datetime(2026, 3, 4, 12, tzinfo=UTC)
PERSON = "arn:aws:sts::123456789012:assumed-role/fraud-analyst/hana"
CHAIN = ("at", "day", "prev", "hash")
"""The attributes that a row has because of its chain. Without one its sort key is its time."""

KEYS = ("pk", "sk", "day", "at")
ENTRIES = {"short reason": "stolen phone", "longest reason": "x" * 200}
CHAINS = (1, 1_000, 100_000)
"""Chains that change between two roots."""


class Cost(NamedTuple):
    """Bytes of a row, and the units of writing it: in the table, in the index, and of reading the head."""

    size: int
    wru: int
    index_wru: int
    rru: int


def row_of(reason: str) -> Mapping[str, Any]:
    """Return the row of a changed list entry, as DynamoDB has it."""
    entry = {"reason": reason, "set_by": PERSON, "set_at": utc(AT)}
    head = Head("deny#device#0f8fad5b-d9cb-469f-a165-70867728950e", 1, at=utc(AT))
    before, after = (ListEntryAttribute(**entry) for _ in range(2))
    row = Trail(AuditRow, "audit").row(
        head, head.next_at(AT + timedelta(days=1)), by=PERSON, before=before, after=after
    )
    return row.serialize()


def cost(item: Mapping[str, Any]) -> Cost:
    """Return the cost of a row in a transaction."""
    size = size_of(item)
    indexed = size_of(
        {name: item[name] for name in (*KEYS, *DayIndex.Meta.projection.non_key_attributes) if name in item}
    )
    return Cost(
        size,
        2 * math.ceil(size / WRITE_UNIT),
        math.ceil(indexed / WRITE_UNIT) if "day" in item else 0,
        math.ceil(size / READ_UNIT) if "hash" in item else 0,
    )


def rows() -> list[table.Row]:
    """Return the rows: changes of a list and of an action with and without chains, and roots of ever more chains."""
    return [*_changes(), *_steps(), *_roots()]


def step_of(reason: str) -> tuple[list[Mapping[str, Any]], Mapping[str, Any]]:
    """Return the items that the step of an action writes beside the row of its chain, and that row."""
    account_id = "0f8fad5b-d9cb-469f-a165-70867728950e"
    cause = Cause(
        kind="finding", id="A" * 26, by="hana", reason=reason, rule="FAN_IN_BURST", transaction_ids=("t" * 36,)
    )
    action = Action.for_cause(account_id, cause, AT).model_copy(update={"state": ActionState.HELD, "version": 3})
    account = Account(account_id=account_id, action_id=action.action_id, stopped="held", changed_at=AT, version=2)
    chain = chain_of(account_id)
    said: dict[str, Any] = {"document": action.model_dump_json(), "version": 3, "waits": ACTION, "act_at": utc(AT)}
    rows = (
        ActionRow(action.action_id, ACTION, account_id=account_id, opened_at=utc(AT), **said),
        AccountRow(chain, ACCOUNT, document=account.model_dump_json(), version=2),
        StatusProfile(chain, status=account.profile),
    )
    what = {"what": "held", "of": "action", "state": "held", "version": 3, "role": "system", "status": "held"}
    document = json.dumps(what | {"action_id": action.action_id}, sort_keys=True)
    row = Trail(DocumentRow, "audit").row(Head(chain, 2, at=utc(AT)), utc(AT), by="system", document=document)
    return [each.serialize() for each in rows], row.serialize()


def _steps() -> Iterator[table.Row]:
    items, chained = step_of(ENTRIES["short reason"])
    rows, row = [cost(item) for item in items], cost(chained)
    for what, found in (
        ("with its chain", [*rows, row]),
        ("without one", rows),
        ("the chain alone", [row]),
    ):
        total = Cost(*map(sum, zip(*found, strict=True)))
        yield {
            "name": f"step of an action, {what}",
            "bytes": total.size,
            "wru": total.wru,
            "index wru": total.index_wru,
            "head rru": total.rru,
        }


def _changes() -> Iterator[table.Row]:
    for name, reason in ENTRIES.items():
        chained = row_of(reason)
        bare = {key: value for key, value in chained.items() if key not in CHAIN} | {"sk": chained["at"]}
        for what, item in ((name, chained), (f"{name}, without a chain", bare)):
            found = cost(item)
            yield {
                "name": f"audit row, {what}",
                "bytes": found.size,
                "wru": found.wru,
                "index wru": found.index_wru,
                "head rru": found.rru,
            }


def _roots() -> Iterator[table.Row]:
    item = row_of(ENTRIES["short reason"])
    entry = size_of({name: item[name] for name in (*KEYS, "hash")})
    for number in CHAINS:
        heads = ((f"account#{n}", item["sk"]["S"], item["hash"]["B"]) for n in range(number))
        content = following(None, heads, AT).content
        yield {
            "name": f"audit root, {number:,} chains changed",
            "bytes": len(content),
            "rru": max(1, math.ceil(number * entry / READ_UNIT / 2)),
            "requests of S3": 3,
        }


if __name__ == "__main__":
    table.run(rows, __doc__)
