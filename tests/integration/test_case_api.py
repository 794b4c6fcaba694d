"""The door of cases with its table, a bus and a machine: who may do what, repeats, conflicts, lists, and the log."""

import itertools
import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pytest

from fraud import assembly
from fraud.cases.case import SYSTEM, Alert, CaseEvent
from fraud.cases.evidence_store import Snapshots
from fraud.cases.report import ReportBatch
from fraud.cases.report_store import ReportStore
from fraud.cases.store import Cases
from fraud.executions import Wait
from fraud.settings import Settings
from tests.support import gateway

NO_CASE = "A" * 26
REASON = {"reason": "secret reason"}
_names = itertools.count()


class Person(NamedTuple):
    """Somebody who sends requests, in groups as API Gateway hands them on."""

    door: Any
    name: str
    groups: str

    def __call__(self, route: str, body: Any = None, case: str | None = None, **query: str) -> tuple[int, Any]:
        said, ids = gateway.jwt(self.name, self.groups), {"case_id": case} if case else {}
        path = route.split(" ")[1].replace("{case_id}", case or "")
        return gateway.sent(self.door, route, path, body, authorizer=said, parameters=ids, query=query)

    def act(self, case: str, action: str, version: int, **said: Any) -> tuple[int, Any]:
        """Do something with a case."""
        return self(f"POST /cases/{{case_id}}/{action}", {"version": version} | said, case)


@pytest.fixture
def hana(doors: Any) -> Person:
    return Person(doors["CaseApi"], "hana", "[staff analyst]")


@pytest.fixture
def jun(doors: Any) -> Person:
    return Person(doors["CaseApi"], "jun", "[analyst]")


@pytest.fixture
def mio(doors: Any) -> Person:
    return Person(doors["CaseApi"], "mio", "[analyst lead]")


@pytest.fixture(scope="module")
def cases(doors: Any) -> Cases:  # noqa: ARG001 - sets the environment
    return Cases(Settings.from_environment())


def now() -> datetime:
    return datetime.now(UTC)


def waiting(cases: Cases, kind: str = "payee", reason: str = "FAN_IN_BURST") -> str:
    """Open a case and have it wait for an analyst; return its id. It is at version 2."""
    number = next(_names)
    alert = Alert(
        transaction_id=f"api-payment-{number}",
        subject_kind=kind,
        subject_id=f"api-shop-{number}",
        occurred_at=now(),
        reason=reason,
    )
    name = cases.open(alert, now()).case_id
    cases.change(name, CaseEvent(kind="routed"), SYSTEM, now())
    return name


@pytest.mark.parametrize("groups", ["", "[]", "[analysts]", "[[lead]]", "[Analyst]", "payment-app"])
@pytest.mark.parametrize(
    "route",
    ["GET /cases", "POST /cases", "POST /cases/next", "GET /cases/{case_id}", "GET /cases/{case_id}/evidence"]
    + [f"POST /cases/{{case_id}}/{action}" for action in ("take", "notes", "verdict", "outreach/answer")],
)
def test_a_token_without_a_group_of_ours_opens_nothing(doors, route, groups):
    status, problem = Person(doors["CaseApi"], "eve", groups)(route, {}, NO_CASE)
    assert (status, problem["status"]) == (403, 403)


@pytest.mark.parametrize("name", ["", "system", "x" * 129, "a\nb"])
def test_a_token_without_a_usable_name_opens_nothing(doors, name):
    assert Person(doors["CaseApi"], name, "[lead]")("GET /cases")[0] == 403


def test_a_request_without_a_token_opens_nothing(doors):
    event = {"requestContext": {"http": {"method": "GET", "path": "/cases"}, "requestId": "r", "stage": "$default"}}
    answer = doors["CaseApi"].handler(event | {"rawPath": "/cases", "headers": {}, "version": "2.0"}, None)
    assert answer["statusCode"] == 403


def test_a_case_from_the_queue_to_its_verdict(cases, hana, capsys):
    name = waiting(cases)
    assert cases.await_token(name, Wait("secret-task-token", "analyst"))
    steps = [
        hana.act(name, "take", 2),
        hana.act(name, "notes", 3, note="secret note"),
        hana.act(name, "outreach", 4, **REASON),
        hana.act(name, "outreach/attempts", 5, note="secret call"),
        hana.act(name, "outreach/answer", 6, answer="denies", note="secret answer"),
        hana.act(name, "verdict", 7, finding="fraud", **REASON),
    ]
    assert [status for status, _ in steps] == [200] * 6
    assert [case["state"] for _, case in steps] == [
        "assigned",
        "assigned",
        "outreach",
        "outreach",
        "assigned",
        "concluding",
    ]
    status, view = hana("GET /cases/{case_id}", case=name)
    assert status == 200
    assert view["case"]["verdict"]["by"] == "hana"
    assert [change["event"]["kind"] for change in view["changes"]][2:] == [
        "taken",
        "noted",
        "outreach_asked",
        "outreach_attempted",
        "outreach_answered",
        "judged",
    ]
    assert "token" not in json.dumps(view)
    assert cases.untold(name) is None  # the door has told the execution
    log = capsys.readouterr().out
    assert f'"case_id":"{name}"' in log
    assert not re.search("secret|hana|api-shop", log)


def test_the_same_change_once_more_is_answered_and_a_second_verdict_gets_the_winner(cases, hana, mio):
    name = waiting(cases)
    assert hana.act(name, "take", 2) == hana.act(name, "take", 2)
    won = hana.act(name, "verdict", 3, finding="legitimate", **REASON)
    assert won == hana.act(name, "verdict", 3, finding="legitimate", **REASON)
    status, problem = mio.act(name, "verdict", 3, finding="fraud", **REASON)
    assert status == 409
    assert problem["case"] == {
        "state": "concluding",
        "version": 4,
        "assignee": "hana",
        "finding": "legitimate",
        "judged_by": "hana",
    }
    assert mio.act(name, "verdict", 4, finding="fraud", **REASON)[0] == 409


def test_what_is_the_assignees_is_nobody_elses_and_a_lead_may_judge(cases, hana, jun, mio):
    name = waiting(cases)
    hana.act(name, "take", 2)
    assert jun.act(name, "verdict", 3, finding="fraud", **REASON)[0] == 409
    assert jun.act(name, "release", 3, **REASON)[0] == 409
    assert jun.act(name, "notes", 3, note="seen it before")[0] == 200
    assert mio.act(name, "reassign", 4, assignee="jun", **REASON)[1]["assignee"] == "jun"
    assert jun.act(name, "escalate", 5, **REASON)[1]["level"] == "lead"
    assert hana.act(name, "take", 6)[0] == 403
    assert mio.act(name, "verdict", 6, finding="dispute", **REASON)[1]["verdict"]["by"] == "mio"


@pytest.mark.parametrize(
    ("action", "body", "field"),
    [
        ("take", {}, "version"),
        ("take", {"version": "2"}, "version"),
        ("take", {"version": 2, "note": "x"}, "note"),
        ("notes", {"version": 2, "note": "  "}, "note"),
        ("notes", {"version": 2, "note": "x" * 2_001}, "note"),
        ("verdict", {"version": 2, "finding": "guilty", "reason": "x"}, "finding"),
        ("verdict", {"version": 2, "finding": "fraud"}, "reason"),
        ("verdict", {"version": 2, "finding": "fraud", "reason": "x", "transaction_ids": []}, "transaction_ids"),
        ("verdict", {"version": 2, "finding": "fraud", "reason": "x", "subject_is": "thief"}, "subject_is"),
        ("verdict", {"version": 2, "finding": "dispute", "reason": "x", "subject_is": "victim"}, "subject_is"),
        ("reassign", {"version": 2, "assignee": "", "reason": "x"}, "assignee"),
        ("outreach/answer", {"version": 2, "answer": "maybe"}, "answer"),
    ],
)
def test_a_faulty_body_is_told_field_by_field(mio, action, body, field):
    status, problem = mio(f"POST /cases/{{case_id}}/{action}", body, NO_CASE)
    assert (status, [fault["field"] for fault in problem["errors"]]) == (400, [field])


def test_a_verdict_on_a_payment_of_another_case_is_refused(cases, mio):
    said = {"finding": "fraud", "transaction_ids": ["elsewhere"], **REASON}
    status, problem = mio.act(waiting(cases), "verdict", 2, **said)
    assert (status, problem["errors"][0]["field"]) == (400, "transaction_ids")


@pytest.mark.parametrize("name", ["A" * 26, "A" * 26 + "-2", "next", "a" * 26, "A" * 3_000])
def test_a_case_that_is_not_there_is_not_found(hana, name):
    assert hana("GET /cases/{case_id}", case=name)[0] == 404
    assert hana("GET /cases/{case_id}/evidence", case=name)[0] == 404
    assert hana.act(name, "notes", 1, note="x")[0] == 404


def test_the_next_case_is_the_same_for_the_same_request_and_another_for_another_person(cases, hana, jun):
    names = {waiting(cases) for _ in range(3)}
    request = {"request_id": f"next-{next(_names)}"}
    first, again = (hana("POST /cases/next", request) for _ in range(2))
    assert first == again
    other = jun("POST /cases/next", request)[1]["case"]
    assert first[1]["case"]["assignee"] == "hana"
    assert other["case_id"] != first[1]["case"]["case_id"]
    mine = hana("GET /cases", assignee="me", sort="latest")[1]["cases"]
    assert first[1]["case"]["case_id"] in {case["case_id"] for case in mine}
    assert names
    more = hana("POST /cases/next", {})[1]["case"]
    assert more is None or more["case_id"] != first[1]["case"]["case_id"]


def test_lists_are_by_level_assignee_or_subject_and_filtered(cases, hana):
    name = waiting(cases, reason="MULE_RING")
    case = cases.get(name)
    status, page = hana("GET /cases", subject_kind="payee", subject_id=case.subject_id)
    assert status == 200
    (shown,) = page["cases"]
    assert (shown["case_id"], shown["alerts"], shown["finding"]) == (name, 1, None)
    assert hana("GET /cases", subject_kind="payee", subject_id=case.subject_id, state="closed")[1]["cases"] == []
    found, cursor = [], {}
    while True:
        page = hana("GET /cases", level="analyst", reason="MULE_RING", **cursor)[1]
        found += [case["case_id"] for case in page["cases"]]
        if page["cursor"] is None:
            break
        cursor = {"cursor": page["cursor"]}
    assert name in found
    latest = hana("GET /cases", sort="latest")[1]["cases"]
    assert [case["due"] for case in latest] == sorted((case["due"] for case in latest), reverse=True)


def test_filters_leave_cases_of_a_list_out_and_may_stand_together(cases, hana):
    name = waiting(cases, reason="RING_OF_FILTERS")
    case = cases.get(name)
    subject = {"subject_kind": case.subject_kind, "subject_id": case.subject_id}

    def shows(**query: str) -> bool:
        found, cursor = [], {}
        while True:
            page = hana("GET /cases", **query, **cursor)[1]
            found += [one["case_id"] for one in page["cases"]]
            if page["cursor"] is None:
                return name in found
            cursor = {"cursor": page["cursor"]}

    queue = [shows(), shows(state="queued"), shows(subject_kind="payee"), shows(subject_kind="payer")]
    assert queue == [True, True, True, False]
    assert [shows(**subject, level=level) for level in ("analyst", "lead")] == [True, False]
    hana("POST /cases/{case_id}/take", {"version": case.version}, case=name)
    assert not shows()
    mine = [shows(assignee="me", **more) for more in ({}, {"state": "assigned"}, {"state": "outreach"}, subject)]
    assert mine == [True, True, False, True]
    assert [shows(assignee="jun", **subject), shows(assignee="me", level="lead")] == [False, False]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"colour": "red"}, "colour"),
        ({"level": "boss"}, "level"),
        ({"sort": "due"}, "sort"),
        ({"state": "open"}, "state"),
        ({"subject_id": "a"}, "subject_kind"),
        ({"state": "assigned"}, "state"),
        ({"level": "lead", "state": "closed"}, "state"),
        ({"assignee": "me", "state": "queued"}, "state"),
        ({"cursor": "nonsense"}, "cursor"),
        ({"assignee": ""}, "assignee"),
    ],
)
def test_a_faulty_query_is_told_by_parameter(hana, query, field):
    status, problem = hana("GET /cases", **query)
    assert (status, [fault["field"] for fault in problem["errors"]]) == (400, [field])


def test_evidence_is_shown_with_everybody_who_has_looked_at_it(cases, hana, jun):
    name = waiting(cases)
    assert hana("GET /cases/{case_id}/evidence", case=name)[0] == 404
    Snapshots(Settings.from_environment()).keep(name, '{"alerts": 1, "joined_reports": 0, "n": 1.50}')
    hana("GET /cases/{case_id}/evidence", case=name)
    status, view = jun("GET /cases/{case_id}/evidence", case=name)
    assert (status, view["evidence"]) == (200, {"alerts": 1, "joined_reports": 0, "n": 1.5})
    assert view["joined"] == {"transaction_ids": [], "decisions": [], "reports": []}
    assert {look["by"] for look in view["looks"]} == {"hana", "jun"}
    again = jun("GET /cases/{case_id}/evidence", case=name)[1]["looks"]
    assert len(again) <= 3  # one a minute and person


def test_alerts_that_join_after_the_evidence_are_shown_with_their_decisions_as_they_are(doors, cases, hana):
    name = waiting(cases)
    case = cases.get(name)
    Snapshots(Settings.from_environment()).keep(name, '{"alerts": 1, "joined_reports": 0}')
    decided, unknown = (f"joined-{next(_names)}" for _ in range(2))
    payment = {
        "transaction_id": decided,
        "type": "p2p",
        "payer_id": f"joined-payer-{next(_names)}",
        "payee_id": case.subject_id,
        "amount": 1_200,
        "currency": "JPY",
        "occurred_at": now().isoformat(),
    }
    event = {"body": json.dumps(payment), "requestContext": {"requestId": "r"}}
    assert doors["DecisionApi"].handler(event, None)["statusCode"] == 200
    for transaction_id, report_id in ((decided, None), (unknown, "r-joined")):
        said = {"transaction_id": transaction_id, "report_id": report_id, "reason": "FAN_IN_BURST"}
        of = {"subject_kind": "payee", "subject_id": case.subject_id, "occurred_at": case.opened_at}
        cases.open(Alert(**said | of), now())
    status, view = hana("GET /cases/{case_id}/evidence", case=name)
    assert status == 200
    assert view["joined"]["transaction_ids"] == [decided, unknown]
    assert [each["transaction"]["transaction_id"] for each in view["joined"]["decisions"]] == [decided]
    assert view["joined"]["decisions"][0]["status"] == "approved"
    assert view["joined"]["reports"] == ["r-joined"]


def decide(doors: Any, **fields: Any) -> dict[str, Any]:
    """Have a payment decided, and return it."""
    payment = {
        "transaction_id": f"by-hand-{next(_names)}",
        "type": "p2p",
        "payer_id": f"by-hand-payer-{next(_names)}",
        "payee_id": "by-hand-payee",
        "amount": 1_200,
        "currency": "JPY",
        "occurred_at": now().isoformat(),
    } | fields
    event = {"body": json.dumps(payment), "requestContext": {"requestId": "r"}}
    assert doors["DecisionApi"].handler(event, None)["statusCode"] == 200
    return payment


def test_the_reports_of_a_case_are_shown_with_the_users_own_words(doors, cases, hana, capsys):
    name = waiting(cases)
    case, payment, settings = cases.get(name), decide(doors), Settings.from_environment()
    Snapshots(settings).keep(name, json.dumps({"alerts": len(case.alerts), "joined_reports": 0}))
    report = {"report_id": f"of-{name}", "transaction_id": payment["transaction_id"], "reporter_id": "a-user"}
    report |= {"category": "fake_shop", "text": "secret words", "reported_at": now().isoformat()}
    batch = ReportBatch.parse(json.dumps({"reports": [report]}), now())
    ReportStore(settings).accept(batch, assembly.triage(), now())
    for report_id in (report["report_id"], "gone"):
        said = {"transaction_id": payment["transaction_id"], "report_id": report_id, "reason": "REPORT"}
        said |= {"subject_kind": case.subject_kind, "subject_id": case.subject_id, "occurred_at": now()}
        cases.change(name, CaseEvent(kind="alerted", alert=Alert(**said)), SYSTEM, now())
    capsys.readouterr()
    status, view = hana("GET /cases/{case_id}/evidence", case=name)
    assert status == 200
    (shown,) = view["reports"]
    assert (shown["report_id"], shown["text"], shown["category"]) == (report["report_id"], "secret words", "fake_shop")
    assert "secret words" not in capsys.readouterr().out


def test_a_case_is_opened_by_hand_for_a_decided_payment_and_again_after_its_end(doors, cases, hana, mio):
    payment = decide(doors)
    body = {"transaction_id": payment["transaction_id"], "subject_kind": "payer", "reason": "the payer called"}
    status, case = hana("POST /cases", body)
    assert (status, case["state"], case["reasons"], case["subject_id"]) == (
        200,
        "collecting",
        ["BY_HAND"],
        payment["payer_id"],
    )
    assert hana("POST /cases", body) == (status, case)
    (change,) = hana("GET /cases/{case_id}", case=case["case_id"])[1]["changes"]
    assert (change["by"], change["event"]["note"]) == ("hana", "the payer called")
    cases.change(case["case_id"], CaseEvent(kind="failed"), SYSTEM, now())
    again = mio("POST /cases", body)[1]
    assert again["case_id"] == f"{case['case_id']}-2"
    assert mio("POST /cases", body)[1] == again
    assert hana("POST /cases", body | {"transaction_id": "nothing-here"})[0] == 404


def test_an_unknown_route_is_not_found(hana):
    assert hana.act(NO_CASE, "erase", 2)[0] == 404


def test_a_case_waits_no_longer_than_its_lease(cases, hana):
    name = waiting(cases)
    lease = datetime.fromisoformat(hana.act(name, "take", 2)[1]["lease_until"])
    assert timedelta(minutes=29) < lease - now() <= timedelta(minutes=30)
