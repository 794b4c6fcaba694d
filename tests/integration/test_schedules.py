"""The fold through its door: a tick, the messages that it queues, and their log lines."""

import json
from datetime import UTC, datetime, timedelta
from types import ModuleType
from typing import Any

import pytest

from fraud.counters.layout import Slice
from fraud.errors import ServiceError
from local.account.emulator import Emulator
from tests.support.deployment import declared_store
from tests.support.fakes import counted
from tests.support.payments import payment, updates
from tests.support.stack_doors import Context


@pytest.fixture
def schedules(doors: dict[str, ModuleType]) -> Any:
    return doors["Fold"]


@pytest.fixture
def queue(emulator: Emulator) -> Any:
    """Return a function that takes all waiting messages from the fold's queue, as records of a Lambda event."""
    sqs, url = emulator.client("sqs"), emulator.stack.functions[0].environment["FOLD_QUEUE_URL"]

    def taken() -> list[dict[str, Any]]:
        records = []
        while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            records += [{"messageId": message["MessageId"], "body": message["Body"]} for message in messages]
        return records

    taken()
    return taken


def logged(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_tick_queues_the_slices_with_work_and_their_messages_fold_it(schedules, queue, monkeypatch, capsys):
    now = datetime.now(UTC)
    monkeypatch.setattr("fraud.clock.source", lambda: now)
    schedules.tick({}, None)
    schedules.fold({"Records": queue()}, Context())
    paid = payment(type="merchant", payee_id="shop-of-the-fold", occurred_at=now)
    parts = {update.key.slice for update in updates(paid)} - {None}
    folding = schedules._folding
    monkeypatch.setattr(folding, "_few", 0)
    counted(declared_store(folding._transport, folding._tables, 400, lambda: now), paid)
    now += timedelta(hours=38)  # the hour and the day of the payment are closed now
    capsys.readouterr()
    due = schedules.tick({}, None)
    records = queue()
    assert due["slices"] == len(records)
    assert parts <= {Slice(body["letter"], body["slice"]) for body in map(json.loads, (one["body"] for one in records))}
    assert schedules.fold({"Records": records}, Context()) == {"batchItemFailures": []}
    assert schedules.tick({}, None) == {"lag_seconds": 0, "slices": 0, "folded": 0}
    first, *done, last = logged(capsys)
    assert (first["FoldSlicesBehind"], last["FoldSlicesBehind"]) == (due["slices"], 0)
    assert sum(line["FoldedItems"] for line in done) >= 3
    assert first["_aws"]["CloudWatchMetrics"][0]["Metrics"][0] == {"Name": "FoldLagSeconds", "Unit": "Seconds"}


def test_a_tick_folds_a_few_items_itself_and_queues_nothing(schedules, queue, monkeypatch):
    now = datetime.now(UTC) + timedelta(days=9)
    monkeypatch.setattr("fraud.clock.source", lambda: now)
    schedules.tick({}, None)
    folding = schedules._folding
    paid = payment(type="merchant", payee_id="shop-of-a-tick", transaction_id="of-a-tick", occurred_at=now)
    counted(declared_store(folding._transport, folding._tables, 400, lambda: now), paid)
    now += timedelta(hours=38)
    due = schedules.tick({}, None)
    assert due["folded"] >= 3
    assert due["slices"] == 0
    assert queue() == []
    assert schedules.tick({}, None) == {"lag_seconds": 0, "slices": 0, "folded": 0}


def test_a_message_that_fails_is_named_and_the_others_are_done(schedules, monkeypatch, capsys):
    folding = schedules._folding
    gone = folding._tables._replace(counters="gone")
    sound = {"messageId": "1", "body": json.dumps({"letter": "d", "slice": 1})}
    item = {"messageId": "2", "body": json.dumps({"pk": "payer#a-secret-payer", "sk": "d20000"})}
    schedules.tick({}, None)
    capsys.readouterr()
    monkeypatch.setattr(folding, "_tables", gone)
    assert schedules.fold({"Records": [sound, item]}, Context()) == {"batchItemFailures": [{"itemIdentifier": "2"}]}
    text = capsys.readouterr().out
    assert "ResourceNotFoundException" in text
    assert "a-secret-payer" not in text


@pytest.mark.parametrize(
    "body",
    ["no JSON, a-secret", "[]", "7", "{}", '{"pk": "a-secret", "sk": "d1"}', '{"pk": "payer#a", "sk": "a-secret"}'],
)
def test_a_malformed_message_fails_alone_and_the_log_does_not_quote_it(schedules, capsys, body):
    schedules.tick({}, None)
    capsys.readouterr()
    sound = json.dumps({"letter": "d", "slice": 1})
    records = [{"messageId": "1", "body": body}, {"messageId": "2", "body": sound}]
    assert schedules.fold({"Records": records}, Context()) == {"batchItemFailures": [{"itemIdentifier": "1"}]}
    refused, done = logged(capsys)
    assert (refused["Refusals"], refused["status"]) == (1, 500)
    assert "a-secret" not in str(refused)
    assert done["FoldedItems"] == 0


def test_a_tick_that_fails_logs_and_raises_so_that_it_is_sent_again(schedules, monkeypatch, capsys):
    monkeypatch.setattr(schedules._folding, "_tables", schedules._folding._tables._replace(profiles="gone"))
    with pytest.raises(ServiceError):
        schedules.tick({}, None)
    (line,) = logged(capsys)
    assert line["Error"] == "ServiceError"
