"""The audit trail on its table and its bucket: writers at once, roots under lock, verification, the lists' trail."""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from pynamodb.exceptions import TransactWriteError
from pynamodb.transactions import TransactWrite

from fraud.audit.chain import place_of
from fraud.audit.roots import OVERLAP, PREFIX, key_of
from fraud.audit.store import Roots
from fraud.aws import tables
from fraud.errors import ServiceError
from fraud.transaction import utc
from operations import audit
from tests.integration.test_list_api import call
from tests.support.audit_stack import BUCKET, HOUR, MINUTE, AuditStack, Balance, Ledger, audit_stack

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
EVENT = json.loads(Path("events/audit_roots/write_root.regularly.json").read_text(encoding="utf-8"))


@pytest.fixture
def stack():
    with audit_stack() as running:
        yield running


def numbers(stack: AuditStack, chain: str) -> list[str]:
    return [item["sk"]["S"] for item in stack.items() if item["pk"]["S"] == chain]


# --- rows -------------------------------------------------------------------------------------------------------------
def test_writers_on_one_chain_at_once_lose_no_row_and_never_fork_it(doors, emulator):
    table, profiles = (doors["ListApi"]._settings.model_dump()[name] for name in ("audit_table", "profiles_table"))
    writers, each = 4, 5
    ledgers = [Ledger(table, profiles) for _ in range(writers)]

    def write(n: int) -> int:
        return sum(ledgers[n].add("contested", 1, NOON, by=f"writer-{n}") for _ in range(each))

    with ThreadPoolExecutor(writers) as threads:
        retried = sum(threads.map(write, range(writers)))
    dynamodb, s3 = emulator.client("dynamodb"), emulator.client("s3")
    rows = list(audit._items(dynamodb, table, "account#contested"))
    assert [row["sk"]["S"] for row in rows] == [place_of(n) for n in range(1, writers * each + 1)]
    assert [row["balance"]["N"] for row in rows] == [str(n) for n in range(1, writers * each + 1)]
    assert sorted(row["by"]["S"] for row in rows) == sorted(f"writer-{n}" for n in range(writers) for _ in range(each))
    report = audit.verify(dynamodb, s3, table, bucket_of(emulator), "account#contested")
    assert report.discrepancies == []
    assert retried > 0


def bucket_of(emulator: Any) -> str:
    bucket: str = emulator.stack.functions[0].environment["AUDIT_ROOTS_BUCKET"]
    return bucket


def test_a_slower_writer_changes_nothing_until_it_has_read_the_head_anew(stack):
    trail = stack.ledger.trail
    head = trail.head("account#a")
    slow = trail.row(head, head.next_at(NOON), by="slow", balance=-1)
    assert stack.ledger.add("a", 5, NOON) == 0
    transaction = TransactWrite(connection=tables.connection())
    transaction.update(stack.ledger.balances("account#a"), actions=[Balance.balance.set(-1)])
    trail.add(transaction, slow)
    with pytest.raises(TransactWriteError):
        transaction._commit()
    assert [item["balance"]["N"] for item in stack.items()] == ["5"]
    assert stack.ledger.balances.get("account#a").balance == 5
    head = trail.head("account#a")
    with TransactWrite(connection=tables.connection()) as transaction:
        trail.add(transaction, trail.row(head, head.next_at(NOON), by="slow", balance=-1))
    assert stack.verify().discrepancies == []
    assert numbers(stack, "account#a") == [place_of(1), place_of(2)]


def test_rows_are_later_than_the_one_before_and_pages_show_each_once(stack):
    for n in range(7):
        stack.ledger.add("a", 1, NOON - n * MINUTE)
    old = {"pk": {"S": "account#a"}, "sk": {"S": utc(NOON - HOUR)}, "by": {"S": "old"}, "balance": {"N": "0"}}
    stack.dynamodb.put_item(TableName="audit", Item=old)
    latest = list(stack.ledger.trail.latest("account#a", None, 20))
    assert [row.balance for row in latest] == [7, 6, 5, 4, 3, 2, 1, 0]
    assert [row.at for row in latest] == sorted({row.at for row in latest}, reverse=True)
    shown, before = [], None
    while page := list(stack.ledger.trail.latest("account#a", before, 3)):
        shown += [row.balance for row in page]
        before = page[-1].at
    assert shown == [7, 6, 5, 4, 3, 2, 1, 0]


def test_a_chain_begins_after_rows_that_are_older_than_it(stack):
    ahead = NOON + HOUR
    old = {"pk": {"S": "account#a"}, "sk": {"S": utc(ahead)}, "by": {"S": "old"}}
    stack.dynamodb.put_item(TableName="audit", Item=old)
    stack.ledger.add("a", 1, NOON)
    (row,) = (item for item in stack.items() if "hash" in item)
    assert (row["sk"]["S"], row["at"]["S"]) == (place_of(1), utc(ahead + timedelta(microseconds=1)))
    assert stack.verify().unprotected == [("account#a", 1, 1), ("account#a", 1, None)]


# --- roots ------------------------------------------------------------------------------------------------------------
def test_roots_follow_one_another_and_name_each_changed_chain_once(stack):
    for account in ("a", "b", "b"):
        stack.ledger.add(account, 1, NOON)
    first = stack.write_root(NOON + HOUR)
    stack.ledger.add("a", 1, NOON + HOUR + MINUTE)
    second = stack.write_root(NOON + 2 * HOUR)
    third = stack.write_root(NOON + 3 * HOUR)
    assert [sorted(each.n for each in root.anchors) for root in (first, second, third)] == [[1, 2], [2], []]
    assert [root.n for root in (first, second, third)] == [1, 2, 3]
    report = stack.verify()
    assert (report.roots, report.discrepancies, report.unprotected) == (3, [], [])


def test_an_event_that_comes_twice_or_late_writes_one_root(stack):
    assert stack.write_root(NOON).n == 1
    assert stack.write_root(NOON) is None
    assert stack.write_root(NOON - HOUR) is None
    assert stack.verify().roots == 1


def test_of_two_calls_that_write_a_root_at_once_one_wins(stack):
    other = Roots("audit", BUCKET)
    newest = other._newest
    other._newest = lambda: (newest(), stack.write_root(NOON))[0]  # the other one writes between read and write
    assert other.write(NOON + MINUTE) is None
    assert stack.verify().roots == 1
    assert stack.verify().discrepancies == []


@pytest.mark.parametrize("late", [timedelta(), OVERLAP - MINUTE])
def test_a_row_that_came_late_into_the_index_is_named_by_the_next_root(stack, late):
    midnight = datetime(2026, 3, 5, tzinfo=UTC)
    stack.write_root(midnight + OVERLAP / 2)
    stack.ledger.add("late", 1, midnight + OVERLAP / 2 - late)
    stack.write_root(midnight + HOUR)
    assert (stack.verify().discrepancies, stack.verify().unprotected) == ([], [])


def test_a_row_later_than_that_is_named_as_a_discrepancy(stack):
    stack.write_root(NOON)
    stack.ledger.add("late", 1, NOON - OVERLAP - MINUTE)
    stack.write_root(NOON + HOUR)
    assert [each.kind for each in stack.verify().discrepancies] == ["unrooted"]


def test_roots_make_up_for_days_without_one(stack):
    stack.write_root(NOON)
    for day in range(3):
        stack.ledger.add(f"{day}", 1, NOON + timedelta(days=day, minutes=1))
    assert len(stack.write_root(NOON + timedelta(days=3)).anchors) == 3
    assert stack.verify().unprotected == []


def test_a_root_can_neither_be_deleted_nor_hidden_nor_written_over_without_a_trace(stack):
    stack.ledger.add("a", 1, NOON)
    stack.write_root(NOON + HOUR)
    (version,) = stack.s3.list_object_versions(Bucket=BUCKET, Prefix=PREFIX)["Versions"]
    with pytest.raises(ClientError, match="AccessDenied"):
        stack.s3.delete_object(
            Bucket=BUCKET, Key=version["Key"], VersionId=version["VersionId"], BypassGovernanceRetention=True
        )
    stack.s3.delete_object(Bucket=BUCKET, Key=version["Key"])
    assert [each.kind for each in stack.verify().discrepancies] == ["root_repeated"]
    assert stack.write_root(NOON + 2 * HOUR).n == 1  # the writer sees no root; the first version still counts
    report = stack.verify()
    assert ([each.kind for each in report.discrepancies], report.until) == (["root_repeated"], utc(NOON + HOUR))


def test_a_root_that_cannot_be_read_stops_the_writer_loudly(stack):
    stack.s3.put_object(Bucket=BUCKET, Key=key_of(7), Body=b"forged")
    with pytest.raises(ServiceError, match="UnreadableRoot"):
        stack.write_root(NOON)
    stack.roots = Roots("audit", "no-such-bucket")
    with pytest.raises(ServiceError, match="NoSuchBucket"):
        stack.write_root(NOON)


def test_a_refused_write_of_a_root_is_an_error_and_not_another_writers_root(stack):
    stack.roots._newest = lambda: None
    stack.roots._bucket = "gone-meanwhile"
    with pytest.raises(ServiceError, match="NoSuchBucket"):
        stack.write_root(NOON)


# --- the door, the command, the lists ---------------------------------------------------------------------------------
def test_the_schedule_writes_a_root_of_the_lists_changes_and_says_so(doors, emulator, capsys):
    call(doors["ListApi"], "PUT", "device", "rooted-1", {"reason": "stolen"})
    call(doors["ListApi"], "DELETE", "device", "rooted-1")
    capsys.readouterr()
    later = EVENT | {"time": (datetime.now(UTC) + MINUTE).isoformat(timespec="seconds")}
    root = doors["WriteRoot"].write_root(later, None)["root"]
    line = json.loads(capsys.readouterr().out)
    assert root > 0
    assert (line["Door"], line["RootsWritten"], line["root"]) == ("audit_roots", 1, root)
    assert line["RootedChains"] >= 1
    assert doors["WriteRoot"].write_root(later, None) == {"root": 0}
    assert json.loads(capsys.readouterr().out)["RootsWritten"] == 0
    dynamodb, s3 = emulator.client("dynamodb"), emulator.client("s3")
    report = audit.verify(dynamodb, s3, "AuditTable", bucket_of(emulator), "deny#device#rooted-1")
    assert (report.rows, report.discrepancies, report.unprotected) == (2, [], [])
    assert report.roots == root
    lock = s3.get_object_lock_configuration(Bucket=bucket_of(emulator))["ObjectLockConfiguration"]
    assert lock["Rule"]["DefaultRetention"].items() >= {"Mode": "GOVERNANCE", "Days": 1096}.items()


def test_a_root_that_fails_is_logged_and_raised_so_that_the_event_comes_again(doors, monkeypatch, capsys):
    monkeypatch.setattr(doors["WriteRoot"]._roots, "_bucket", "gone")
    with pytest.raises(ServiceError):
        doors["WriteRoot"].write_root(EVENT, None)
    assert json.loads(capsys.readouterr().out)["code"] == "NoSuchBucket"


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["audit", "verify", *arguments])
    return audit.main()


def test_the_command_prints_what_it_found_and_what_is_unprotected(stack, monkeypatch, capsys):
    for account in ("a", "a", "b"):
        stack.ledger.add(account, 1, NOON)
    stack.write_root(NOON + HOUR)
    stack.ledger.add("b", 1, NOON + 2 * HOUR)
    stack.dynamodb.put_item(
        TableName="audit", Item={"pk": {"S": "deny#ip#::1"}, "sk": {"S": utc(NOON)}, "by": {"S": "x"}}
    )
    place = ("--table", "audit", "--roots", BUCKET)
    assert run(monkeypatch, *place) == 0
    said = capsys.readouterr().out
    assert "4 rows in 2 chains; 1 roots, the last one of 2026-03-04T13:00:00.000000Z" in said
    assert "account#b: 1 rows, from 2 on" in said
    assert "deny#ip#::1: 1 rows\n" in said
    key = {"pk": {"S": "account#a"}, "sk": {"S": place_of(2)}}
    stack.dynamodb.delete_item(TableName="audit", Key=key)
    assert run(monkeypatch, *place) == 1
    assert "account#a 2: cut off the end" in capsys.readouterr().out
    assert run(monkeypatch, *place, "--chain", "account#b") == 0
    assert "2 rows in 1 chains" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        run(monkeypatch, "--table", "audit")


def test_the_command_finds_the_trail_of_the_box(doors, emulator, monkeypatch, capsys):
    call(doors["ListApi"], "PUT", "device", "boxed-1", {"reason": "stolen"})
    capsys.readouterr()
    assert run(monkeypatch, "--box", emulator.url, "--chain", "deny#device#boxed-1") == 0
    assert "1 rows in 1 chains" in capsys.readouterr().out
