"""The command that erases: it deletes the way back whatever key made it, and nothing of another account."""

import boto3
import pytest
from moto import mock_aws

from fraud.archive.record import pseudonym
from fraud.counters.codec import keys_row
from fraud.counters.keys import DECLARED, Keys
from operations import erase
from tests.support.own_door import create_tables

TABLES = ["--profiles", "profiles", "--pseudonyms", "pseudonyms", "--links", "links", "--reports", "reports"]


@pytest.fixture
def dynamodb(monkeypatch):
    for name, value in {
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_DEFAULT_REGION": "eu-west-1",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        client = boto3.client("dynamodb")
        create_tables(client, "Profiles", "Pseudonyms")
        yield client


def keep(dynamodb, keys: Keys, *accounts: str) -> None:
    dynamodb.put_item(TableName="profiles", Item=keys_row(keys))
    for account in accounts:
        item = {"pk": {"S": pseudonym(keys, "account", account)}, "id": {"S": account}}
        dynamodb.put_item(TableName="pseudonyms", Item=item)


def left(dynamodb) -> list[str]:
    return sorted(row["id"]["S"] for row in dynamodb.scan(TableName="pseudonyms")["Items"])


def test_the_row_of_one_account_is_deleted_and_no_other(dynamodb):
    keep(dynamodb, DECLARED, "alice", "alice-2")
    assert [erase.erased(dynamodb, "profiles", "pseudonyms", "alice") for _ in range(2)] == [1, 0]
    assert left(dynamodb) == ["alice-2"]


def test_rows_of_an_id_key_that_was_replaced_are_found_too(dynamodb):
    keep(dynamodb, DECLARED, "alice", "bob")
    keep(dynamodb, DECLARED.replaced(20_600, b"n" * 32), "alice", "bob")
    assert erase.erased(dynamodb, "profiles", "pseudonyms", "alice") == 2
    assert left(dynamodb) == ["bob", "bob"]


def test_a_stack_without_keys_has_nothing_to_erase(dynamodb):
    with pytest.raises(SystemExit, match="nothing erased: no keys"):
        erase.main(["alice", *TABLES])
    assert left(dynamodb) == []


def test_the_reports_of_one_account_are_deleted_and_those_about_it_stay(dynamodb):
    create_tables(dynamodb, "Reports")
    for name, reporter, payee in (("r-1", "alice", "bob"), ("r-2", "bob", "alice"), ("r-3", "alice", "carol")):
        row = {"pk": name, "reporter_id": reporter, "payee_id": payee, "reported_at": "2026-03-04T12:00:00.000000Z"}
        dynamodb.put_item(TableName="reports", Item={key: {"S": value} for key, value in row.items()})
    assert [erase.unreported(dynamodb, "reports", "alice") for _ in range(2)] == [2, 0]
    assert [row["pk"]["S"] for row in dynamodb.scan(TableName="reports")["Items"]] == ["r-2"]


def test_the_marks_of_one_account_are_removed_and_nothing_else_of_its_profile(dynamodb):
    mark = {"M": {"snapshot": {"N": "7"}}}
    for name in ("alice", "alice-2"):
        row = {"pk": {"S": f"account#{name}"}, "deny": {"M": {}}, "mark_a": mark, "mark_b": mark}
        dynamodb.put_item(TableName="profiles", Item=row)
    for name in ("alice", "alice", "nobody"):
        erase.unmarked(dynamodb, "profiles", name)
    kept = {row["pk"]["S"]: set(row) for row in dynamodb.scan(TableName="profiles")["Items"]}
    assert kept == {"account#alice": {"pk", "deny"}, "account#alice-2": {"pk", "deny", "mark_a", "mark_b"}}


@pytest.mark.parametrize("account", ["", " ", "alice ", "account#alice", "a" * 65, "alice\n", "*"])
def test_a_text_that_is_no_id_is_refused_before_anything_is_erased(dynamodb, account):
    keep(dynamodb, DECLARED, "alice")
    with pytest.raises(SystemExit, match="nothing erased: no account") as refused:
        erase.main([account, *TABLES])
    assert left(dynamodb) == ["alice"]
    assert "alice" not in str(refused.value)


@pytest.mark.parametrize("table", ["profiles", "pseudonyms"])
def test_a_table_that_does_not_exist_ends_the_command_with_a_line_and_no_id(dynamodb, table):
    keep(dynamodb, DECLARED, "alice")
    with pytest.raises(SystemExit, match=r"not everything is erased: .*ResourceNotFound") as failed:
        erase.main(["alice", *[value if value != table else "other" for value in TABLES]])
    assert "alice" not in str(failed.value)
