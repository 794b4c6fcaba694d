"""POST /reports and GET /reports on moto's tables: each report has one row and one answer, however often it comes."""

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from fraud import clock
from fraud.cases.report import MAX_REPORTS, MAX_TEXT, ReportBatch
from fraud.cases.report_events import ReportReceived
from fraud.transaction import utc
from tests.support.own_door import OwnDoor, own_door
from tests.support.payments import NOON
from tests.support.reports import APP, decide, said

LATER = NOON + timedelta(days=2)


@pytest.fixture(scope="module")
def loaded() -> Iterator[OwnDoor]:
    with pytest.MonkeyPatch.context() as patch, own_door("report_api") as found:
        patch.setattr(clock, "source", lambda: LATER)
        decide(found, "t-1")
        yield found


@pytest.fixture
def door(loaded: OwnDoor) -> OwnDoor:
    """The door, without a report."""
    for row in rows(loaded):
        loaded.dynamodb.delete_item(TableName="reports", Key={"pk": row["pk"]})
    return loaded


def posted(door: OwnDoor, *reports: Any) -> list[Any]:
    status, body = door.call("POST", "/reports", APP, {"reports": reports})
    assert status == 200
    results: list[Any] = body["results"]
    return results


def statuses(door: OwnDoor, *reports: Any) -> list[str]:
    return [result["status"] for result in posted(door, *reports)]


def shown(door: OwnDoor, name: str) -> tuple[int, Any]:
    return door.call("GET", f"/reports/{name}", APP, parameters={"report_id": name})


def rows(door: OwnDoor) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = door.dynamodb.scan(TableName="reports")["Items"]
    return found


def test_a_report_is_stored_once_and_a_repeat_finds_it(door):
    first, again = posted(door, said("r-1"), said("r-1"))
    assert (first["status"], again["status"]) == ("accepted", "duplicate")
    assert first["report"] == again["report"] == shown(door, "r-1")[1]
    assert statuses(door, said("r-1")) == ["duplicate"]
    (row,) = rows(door)
    assert (row["text"]["S"], row["payee_id"]["S"], row["role"]["S"]) == ("困っています", "payee-1", "payer")
    assert int(row["ttl"]["N"]) == LATER.timestamp() + 400 * 86_400


@pytest.mark.parametrize(
    "change",
    [
        {"text": "別の話"},
        {"text": None},
        {"category": "fake_shop"},
        {"reporter_id": "payer-2"},
        {"transaction_id": "t-2"},
        {"reported_at": utc(NOON + timedelta(days=1, seconds=1))},
    ],
    ids=lambda change: next(iter(change)),
)
def test_another_report_under_a_stored_id_is_a_conflict_that_shows_the_state_and_alters_nothing(door, change):
    before = posted(door, said("r-1"))[0]["report"]
    (result,) = posted(door, said("r-1", **change))
    assert (result["status"], result["report"]) == ("conflict", before)
    assert len(rows(door)) == 1
    assert rows(door)[0]["text"]["S"] == "困っています"


def test_the_same_instant_in_another_zone_is_the_same_report(door):
    assert statuses(door, said("r-1", reported_at="2026-03-05T12:00:00Z")) == ["accepted"]
    assert statuses(door, said("r-1", reported_at="2026-03-05T21:00:00+09:00", text="困っています")) == ["duplicate"]


@pytest.mark.parametrize(
    ("change", "field", "rule"),
    [
        ({"category": "unheard_of"}, "category", "unknown_value"),
        ({"category": None}, "category", "missing"),
        ({"text": "字" * (MAX_TEXT + 1)}, "text", "too_long"),
        ({"text": "half of a face: \ud83d"}, "text", "surrogate"),
        ({"category": "\ude00"}, "category", "surrogate"),
        ({"reporter_id": "a b"}, "reporter_id", "identifier"),
        ({"reported_at": utc(LATER + timedelta(minutes=6))}, "reported_at", "reported_at_ahead"),
        ({"reported_at": utc(NOON - timedelta(minutes=6))}, "reported_at", "before_payment"),
        ({"amount": 3}, "amount", "unknown_field"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_faulty_report_is_refused_alone_and_the_fault_names_field_and_rule(door, change, field, rule):
    refused, accepted = posted(door, said("r-1", **change), said("r-2"))
    assert (refused["report_id"], refused["status"], refused["report"]) == ("r-1", "refused", None)
    assert [(fault["field"], fault["rule"]) for fault in refused["errors"]] == [(field, rule)]
    assert accepted["status"] == "accepted"
    assert [row["pk"]["S"] for row in rows(door)] == ["r-2"]


def test_a_report_without_a_readable_id_is_refused_without_one(door):
    results = posted(door, said("r 1"), "nonsense", {}, said("r\ud83d"), "\ud83d")
    assert [(one["report_id"], one["status"]) for one in results] == [(None, "refused")] * 5


def test_empty_text_counts_as_none(door):
    assert statuses(door, said("r-1", text="  ")) == ["accepted"]
    assert statuses(door, said("r-1", text=None)) == ["duplicate"]
    assert "text" not in rows(door)[0]


def test_a_hundred_reports_are_one_request_and_one_more_is_too_many(door):
    assert set(statuses(door, *[said(f"r-{n}", text="長い話" * 600) for n in range(20)])) == {"accepted"}
    status, body = door.call("POST", "/reports", APP, {"reports": [said(f"s-{n}") for n in range(MAX_REPORTS + 1)]})
    assert (status, body["errors"][0]["rule"]) == (400, "too_long")


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00Z", "0001-06-01T00:00:00Z", "1600-02-29T00:00:00Z"])
def test_a_report_of_any_time_of_the_calendar_is_heard_and_keeps_no_other_from_it(door, at):
    """Of a payment that is not known nothing bounds the time: what lies a year before must not leave the calendar."""
    assert statuses(door, said("r-1", transaction_id="never", reported_at=at), said("r-2")) == ["accepted"] * 2


def test_a_payment_that_was_never_decided_is_heard_and_goes_to_a_person(door):
    (result,) = posted(door, said("r-1", transaction_id="t-unheard-of"))
    report = result["report"]
    assert (result["status"], report["known"], report["status"]) == ("accepted", False, "open")
    assert report["triage"]["verdict"] == "unsure"
    assert report["triage"]["reasons"][0]["code"] == "payment_not_known"
    assert "payee_id" not in rows(door)[0]


@pytest.mark.parametrize(("reporter", "role"), [("payer-1", "payer"), ("payee-1", "payee"), ("stranger", "other")])
def test_only_a_payers_report_can_be_answered_without_a_person(door, reporter, role):
    (result,) = posted(door, said("r-1", reporter_id=reporter))
    assert result["report"]["role"] == role
    told = {reason["code"] for reason in result["report"]["triage"]["reasons"]}
    assert ("not_the_payer" in told) == (role != "payer")


def test_a_user_who_reports_a_payment_again_reaches_a_person(door):
    posted(door, said("r-1"))
    (second,) = posted(door, said("r-2"))
    assert "reported_again" in {reason["code"] for reason in second["report"]["triage"]["reasons"]}
    assert second["report"]["status"] == "open"


def test_a_finding_ends_a_report_and_is_seen_by_the_next_one_about_the_payee(door):
    decide(door, "t-2", payer_id="payer-2")
    posted(door, said("r-1"))
    store = door.module._reports
    for _ in range(2):
        store.end("r-1", "fraud", "case-1", LATER)
    assert shown(door, "r-1")[1]["status"] == "fraud"
    (result,) = posted(door, said("r-2", transaction_id="t-2", reporter_id="payer-2"))
    assert result["report"]["triage"]["verdict"] == "fraud"
    assert "payee_found_fraudulent" in {reason["code"] for reason in result["report"]["triage"]["reasons"]}
    assert [one.report_id for one in store.about("payee-1", NOON)] == ["r-2", "r-1"]
    store.end("r-1", "legitimate", "case-1-2", LATER)  # reopened and judged anew
    assert shown(door, "r-1")[1]["status"] == "legitimate"


def test_an_unheard_of_report_is_a_404_and_a_query_without_an_id_a_400(door):
    assert shown(door, "r-9")[0] == 404
    assert door.call("GET", "/reports", APP)[0] == 400
    posted(door, said("r~1+a"))
    assert door.call("GET", "/reports", APP, query={"id": "r~1 a"})[1]["report_id"] == "r~1+a"


def test_the_text_is_in_its_row_and_in_no_answer_log_or_event(door, capfd):
    posted(door, said("r-1", text="secret 花子"), said("r-2", text="secret 花子", category="secret"))
    answers = json.dumps([*posted(door, said("r-1", text="secret 別")), shown(door, "r-1")])
    events = ReportReceived.of(door.module._reports.find("r-1")).model_dump_json()
    assert "secret" in rows(door)[0]["text"]["S"]
    log = capfd.readouterr().out
    assert '"ReportsAccepted":1' in log
    assert not [text for text in (answers, events, log) if "secret" in text.lower() or "花子" in text or "82b1" in text]


def test_rows_for_events_are_read_without_texts_and_without_those_that_are_gone(door):
    posted(door, said("r-1"), said("r-2"))
    found = door.module._reports.without_texts(["r-2", "r-9", "r-1", "r-1"])
    assert sorted(row.report_id for row in found) == ["r-1", "r-2"]
    assert {row.text for row in found} == {None}
    assert {ReportReceived.of(row).payee_id for row in found} == {"payee-1"}


class Meanwhile:
    """Triage during which another request stores a report."""

    def __init__(self, door: OwnDoor, other: dict[str, Any]) -> None:
        self.door, self.other = door, other
        self.version = door.module._triage.version

    def judge(self, report: Any, context: Any) -> Any:
        if self.other:
            other, self.other = self.other, {}
            assert statuses(self.door, other) == ["accepted"]
        return self.door.module._triage.judge(report, context)


@pytest.mark.parametrize(("text", "status"), [("困っています", "duplicate"), ("別の話", "conflict")])
def test_of_two_requests_at_once_one_stores_the_report_and_the_other_sees_it(door, text, status):
    batch = ReportBatch.parse(json.dumps({"reports": [said("r-1")]}), LATER)
    (result,) = door.module._reports.accept(batch, Meanwhile(door, said("r-1", text=text)), LATER).results
    assert (result.status, result.report.report_id) == (status, "r-1")
    assert [row["text"]["S"] for row in rows(door)] == [text]
