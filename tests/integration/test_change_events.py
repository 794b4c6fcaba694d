"""Every change of a case or an action reaches the archive once, under pseudonyms, and nothing else of their tables."""

import copy
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.stub import Stubber

from fraud.archive import record, schema
from fraud.counters.keys import DECLARED
from local.sam import sample_events
from tests.integration.test_archive import Rows, rows

__all__ = ["rows"]

EVENTS = sample_events.EVENTS / "change_events"


def event(name: str) -> dict[str, Any]:
    return sample_events.load(EVENTS / f"{name}.batch.json", datetime.now(UTC))


def test_a_case_has_a_row_for_each_version_and_none_for_a_look_of_the_sweep(doors, rows: Rows):
    for _ in range(2):
        assert doors["CaseChanges"].cases(event("cases"), None) == {"batchItemFailures": []}
    found = rows(schema.CASES)
    assert len(found) == 4
    first, second = record.unique(found)
    assert first.keys() == {*schema.CASES.names, schema.PARTITION}
    assert [(each["number"], each["state"]) for each in (first, second)] == [(1, "collecting"), (2, "queued")]
    assert first["transaction"] == DECLARED.pseudonym("transaction", "sample-1").hex()
    assert first["subject"] == DECLARED.pseudonym("account", "payer-1").hex()
    assert first["case_pseudonym"] == second["case_pseudonym"]
    assert (first["day"], first["finding"], first["judged_by"]) == ("2026-03-04", None, None)
    assert not [plain for plain in ("sample-1", "payer-1") if plain in json.dumps(found)]


def test_a_verdict_is_archived_without_its_author_and_its_reason(doors, rows: Rows):
    judged = event("cases")
    image = judged["Records"][1]["dynamodb"]["NewImage"]
    said = {
        "finding": "fraud",
        "reason": "secret reason",
        "at": "2026-03-04T13:00:00Z",
        "transaction_ids": ["sample-1"],
    }
    for by, expected in (("secret-sub", "person"), ("system", "system")):
        document = json.loads(image["document"]["S"]) | {"state": "concluding", "verdict": said | {"by": by}}
        image["document"]["S"] = json.dumps(document)
        doors["CaseChanges"].cases({"Records": [copy.deepcopy(judged["Records"][1])]}, None)
        last = rows(schema.CASES)[-1]
        assert (last["finding"], last["judged_by"], last["state"]) == ("fraud", expected, "concluding")
        assert last["judged_at"] == record.microseconds(datetime(2026, 3, 4, 13, tzinfo=UTC))
        assert "secret" not in json.dumps(last)


def test_actions_and_the_slots_of_a_day_are_archived_and_those_of_an_hour_are_not(doors, rows: Rows):
    for _ in range(2):
        assert doors["AccountChanges"].accounts(event("accounts"), None) == {"batchItemFailures": []}
    actions, slots = record.unique(rows(schema.ACTIONS)), record.unique(rows(schema.INTERVENTIONS))
    assert [each.keys() for each in actions] == [{*schema.ACTIONS.names, schema.PARTITION}]
    assert (actions[0]["state"], actions[0]["cause"], actions[0]["undo"]) == ("opened", "finding", None)
    assert actions[0]["transaction"] == DECLARED.pseudonym("transaction", "sample-1").hex()
    assert [(each["number"], each["cap"], each["day"]) for each in slots] == [(3, 100, "2026-03-04")]
    assert not [plain for plain in ("jun", "payer-1", "denies") if plain in json.dumps([*actions, *slots])]


@pytest.mark.parametrize(
    ("door", "handler", "kind"), [("CaseChanges", "cases", "case"), ("AccountChanges", "accounts", "cap")]
)
def test_a_batch_comes_again_when_firehose_refuses(doors, capsys, door, handler, kind):
    with Stubber(doors[door]._deliveries[kind]._firehose) as firehose:
        firehose.add_client_error("put_record_batch", "ServiceUnavailableException")
        answer = getattr(doors[door], handler)(event(handler), None)
    assert answer == {"batchItemFailures": [{"itemIdentifier": "111"}]}
    assert '"change_events"' in capsys.readouterr().out
