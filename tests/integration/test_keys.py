"""The commands that change a stack's keys, on the emulator."""

import boto3
import pytest
from moto import mock_aws

from fraud.counters.codec import KEYS, keys_of, keys_row, profile_of
from fraud.counters.keys import KEPT_DAYS, Keys
from operations.keys import CHANGES, changed

TODAY = 20516
TABLE = "profiles"


@pytest.fixture
def dynamodb(monkeypatch):
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)  # the doors, in the same process, have set it
    with mock_aws():
        client = boto3.client("dynamodb", region_name="eu-west-1")
        client.create_table(
            TableName=TABLE,
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        yield client


def stored(dynamodb):
    return keys_of(profile_of(dynamodb.get_item(TableName=TABLE, Key={"pk": {"S": KEYS}})["Item"]))


def test_a_rotation_begins_the_day_after_tomorrow_and_forgets_outlived_keys(dynamodb):
    first = Keys.drawn()
    dynamodb.put_item(TableName=TABLE, Item=keys_row(first))
    keys = changed(dynamodb, TABLE, CHANGES["rotate"], TODAY)
    assert keys == stored(dynamodb)
    assert [start for start, _ in keys.tokens] == [0, TODAY + 2]
    assert (keys.ids, keys.tokens[0]) == (first.ids, first.tokens[0])
    later = changed(dynamodb, TABLE, CHANGES["rotate"], TODAY + 2 + KEPT_DAYS)
    assert [start for start, _ in later.tokens] == [TODAY + 2, TODAY + 4 + KEPT_DAYS]


def test_a_replaced_id_key_distorts_distinct_counts_for_thirty_days(dynamodb):
    first = Keys.drawn()
    dynamodb.put_item(TableName=TABLE, Item=keys_row(first))
    keys = changed(dynamodb, TABLE, CHANGES["replace"], TODAY)
    assert keys == stored(dynamodb)
    assert keys.ids != first.ids
    assert keys.tokens == first.tokens
    assert [keys.distorts(day) for day in (TODAY - 2, TODAY - 1, TODAY + 29, TODAY + 30)] == [False, True, True, False]


def test_a_change_of_another_person_meanwhile_is_not_overwritten(dynamodb):
    dynamodb.put_item(TableName=TABLE, Item=keys_row(Keys.drawn()))
    theirs = Keys.drawn()

    def rotate_too_late(keys, today, key):
        dynamodb.put_item(TableName=TABLE, Item=keys_row(theirs))
        return keys.rotated(today, key)

    with pytest.raises(dynamodb.exceptions.ConditionalCheckFailedException):
        changed(dynamodb, TABLE, rotate_too_late, TODAY)
    assert stored(dynamodb) == theirs


def test_a_stack_without_keys_has_none_to_change(dynamodb):
    with pytest.raises(KeyError):
        changed(dynamodb, TABLE, CHANGES["rotate"], TODAY)
