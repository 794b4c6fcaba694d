"""The table of cases: opening and joining, changes at once, the lists, the token, and what the sweep finds."""

import itertools
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fraud.cases.case import MOST_ALERTS, MOST_NOTE, SYSTEM, Actor, Alert, CaseEvent, Verdict
from fraud.cases.evidence_store import Snapshots
from fraud.cases.moves import State
from fraud.cases.store import CASES_PER_PAGE, Cases
from fraud.errors import CaseConflictError, InvalidRequestError, NotFoundError, ServiceError
from fraud.executions import CHECK_AGAIN, Wait
from fraud.settings import Settings

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
HANA, JUN, LEAD = Actor("hana", "analyst"), Actor("jun", "analyst"), Actor("mio", "lead")
VERDICT = CaseEvent(kind="judged", finding="fraud", note="the payer denies it")
_names = itertools.count()


@pytest.fixture(scope="module")
def cases(doors: Any) -> Cases:  # noqa: ARG001 - sets the environment
    return Cases(Settings.from_environment())


def alert(subject: str | None = None, name: str | None = None, **fields: Any) -> Alert:
    number = next(_names)
    said = {
        "transaction_id": name or f"payment-{number}",
        "subject_kind": "payee",
        "subject_id": subject or f"shop-{number}",
        "occurred_at": NOON,
        "reason": "FAN_IN_BURST",
    }
    return Alert(**said | fields)


def routed(cases: Cases, **fields: Any) -> str:
    case = cases.open(alert(**fields), NOON)
    cases.change(case.case_id, CaseEvent(kind="routed"), SYSTEM, NOON)
    return case.case_id


def test_alerts_of_a_subject_and_day_join_one_case_however_often_they_come(cases):
    first, second = alert("shop-a"), alert("shop-a", report_id="r-1")
    opened = cases.open(first, NOON)
    for one in (first, second, second, first):
        cases.open(one, NOON)
    case = cases.get(opened.case_id)
    assert (case.alerts, case.reports) == ((first.transaction_id, second.transaction_id), ("r-1",))
    assert case.version == 2
    assert [change.event.alert for change in cases.changes(case.case_id)[0]] == [first, second]
    another_day = cases.open(alert("shop-a", occurred_at=NOON + timedelta(days=1)), NOON)
    assert another_day.case_id != case.case_id


def test_an_alert_after_the_end_opens_another_case(cases):
    name = routed(cases, subject="shop-b")
    cases.change(name, CaseEvent(kind="timed_out", note="nobody came"), SYSTEM, NOON)
    cases.change(name, CaseEvent(kind="concluded"), SYSTEM, NOON)
    late = alert("shop-b")
    assert cases.open(late, NOON).case_id == f"{name}-2" == cases.open(late, NOON).case_id


def test_of_many_at_once_nothing_is_lost_and_one_verdict_wins(cases):
    alerts = [alert("shop-c") for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        opened = list(pool.map(lambda one: cases.open(one, NOON), alerts))
    name = opened[0].case_id
    assert set(cases.get(name).alerts) == {one.transaction_id for one in alerts}
    cases.change(name, CaseEvent(kind="routed"), SYSTEM, NOON)
    seen = cases.change(name, CaseEvent(kind="taken"), HANA, NOON).version

    def judge(actor: Actor) -> str:
        try:
            return cases.change(name, VERDICT, actor, NOON, seen=seen).verdict.by
        except CaseConflictError as error:
            return f"lost to {error.now['case'].judged_by}"

    with ThreadPoolExecutor(2) as pool:
        said = sorted(pool.map(judge, (HANA, LEAD)))
    winner = cases.get(name).verdict.by
    assert said == sorted([winner, f"lost to {winner}"])


def test_the_same_request_once_more_is_answered_and_a_different_one_is_refused(cases):
    name = routed(cases)
    taken = cases.change(name, CaseEvent(kind="taken"), HANA, NOON, seen=2)
    assert cases.change(name, CaseEvent(kind="taken"), HANA, NOON, seen=2) == taken
    note = CaseEvent(kind="noted", note="calls the shop")
    noted = cases.change(name, note, HANA, NOON, seen=3)
    assert cases.change(name, note, HANA, NOON, seen=3).version == noted.version == 4
    with pytest.raises(CaseConflictError):
        cases.change(name, CaseEvent(kind="noted", note="another"), HANA, NOON, seen=3)


def test_a_verdict_is_about_payments_of_the_case(cases):
    name = routed(cases)
    cases.change(name, CaseEvent(kind="taken"), HANA, NOON)
    with pytest.raises(InvalidRequestError):
        cases.change(name, VERDICT.model_copy(update={"transaction_ids": ("another",)}), HANA, NOON)


def test_lists_hold_what_waits_and_two_people_get_two_cases(cases):
    mine = {routed(cases) for _ in range(3)}
    taken = [cases.take_next(who, NOON) for who in (HANA, JUN)]
    assert taken[0].case_id != taken[1].case_id
    assert taken[0].case_id in {case.case_id for case in cases.assigned("hana").cases}
    waiting = {case.case_id for case in cases.queue("analyst").cases}
    assert not waiting & {case.case_id for case in taken}
    assert mine - {case.case_id for case in taken} <= waiting
    of_subject = cases.of_subject(taken[0].subject)
    assert [case.case_id for case in of_subject.cases] == [taken[0].case_id]
    assert of_subject.cursor is None
    with pytest.raises(InvalidRequestError):
        cases.queue("analyst", cursor="nonsense")


def test_pages_go_on_where_the_last_ended(cases):
    days = [NOON - timedelta(days=n) for n in range(CASES_PER_PAGE + 2)]
    names = {routed(cases, subject="shop-many", occurred_at=day) for day in days}
    found, cursor = [], None
    while True:
        page = cases.of_subject("payee#shop-many", cursor)
        found += [case.case_id for case in page.cases]
        if (cursor := page.cursor) is None:
            break
    assert len(found) == len(days)
    assert set(found) == names


def test_a_token_is_kept_only_while_the_case_waits_for_it(cases):
    name = routed(cases)
    wait = Wait("token-1", "analyst")
    assert cases.await_token(name, wait)
    assert cases.untold(name) is None
    cases.change(name, CaseEvent(kind="taken"), HANA, NOON)
    cases.change(name, VERDICT, HANA, NOON)
    assert cases.untold(name) == wait
    assert not cases.await_token(name, Wait("token-2", "analyst"))
    cases.told(name, Wait("token-0", "analyst"))  # an earlier token
    assert cases.untold(name) == wait
    cases.told(name, wait)
    assert cases.untold(name) is None


def test_the_first_report_of_a_window_names_the_day_for_all_reports_of_it(cases):
    """Each report is about a payment of another day, and all come at once."""
    window, number = timedelta(days=7), next(_names)
    alerts = [alert(f"shop-of-reports-{number}", occurred_at=NOON - timedelta(days=n)) for n in range(6)]
    with ThreadPoolExecutor(6) as pool:
        days = set(pool.map(lambda one: cases.report_day(one, NOON, window), alerts))
    assert len(days) == 1
    names = {cases.open(one, NOON, day=cases.report_day(one, NOON, window)).case_id for one in alerts}
    assert len(names) == 1
    assert len(cases.get(names.pop()).alerts) == 6
    last = NOON + window
    assert cases.report_day(alerts[0], last - timedelta(seconds=1), window) in days
    assert cases.report_day(alerts[5], last, window) == alerts[5].occurred_at


def test_a_token_is_in_the_row_of_its_case_and_in_no_index(cases, emulator):
    """Who may read a list of cases must not be able to send executions on."""
    name = routed(cases)
    assert cases.await_token(name, Wait("secret-token", "analyst"))
    dynamodb, table = emulator.client("dynamodb"), Settings.from_environment().cases_table
    indexes = dynamodb.describe_table(TableName=table)["Table"]["GlobalSecondaryIndexes"]
    assert len(indexes) == 4
    for index in indexes:
        rows = dynamodb.scan(TableName=table, IndexName=index["IndexName"])["Items"]
        assert "secret-token" not in str(rows)
        assert index["IndexName"] == "assignee" or name in {row["pk"]["S"] for row in rows}


def test_a_second_outreach_is_another_wait_than_the_first(cases):
    """The execution may not have been told of the first answer when the payer is to be asked again."""
    name = routed(cases)
    asked = CaseEvent(kind="outreach_asked", note="only the payer knows")
    answered = CaseEvent(kind="outreach_answered", answer="not_reached")
    cases.change(name, CaseEvent(kind="taken"), HANA, NOON)
    cases.change(name, asked, HANA, NOON)
    first = cases.get(name).wait
    assert cases.await_token(name, Wait("token-1", first))
    assert cases.untold(name) is None
    cases.change(name, answered, HANA, NOON + timedelta(minutes=1))
    cases.change(name, asked, HANA, NOON + timedelta(minutes=2))
    wait = cases.untold(name)
    assert wait is not None
    assert wait.token == "token-1"
    cases.told(name, wait)
    assert not cases.await_token(name, Wait("token-2", first))
    assert cases.await_token(name, Wait("token-2", cases.get(name).wait))
    assert cases.untold(name) is None


def test_a_case_takes_no_more_reports_than_its_row_can_hold(cases):
    """Reports about one payment are alerts of one payment: neither may grow without an end."""
    first = cases.open(alert("shop-of-many", "paid-once", report_id="r-0"), NOON)
    full = first.model_copy(update={"reports": tuple(f"r-{n}" for n in range(MOST_ALERTS))})
    assert not full.joins
    assert full.knows(alert("shop-of-many", "paid-once", report_id="r-1"))
    longest = tuple(f"{n:064}" for n in range(MOST_ALERTS))
    said = {"transaction_ids": longest, "finding": "fraud", "reason": "\u00e9" * MOST_NOTE, "by": "x" * 128, "at": NOON}
    row = full.model_copy(update={"alerts": longest, "reports": longest, "verdict": Verdict.model_validate(said)})
    assert len(row.model_dump_json().encode()) < 400_000 / 2


def test_a_request_of_one_person_is_never_that_of_another(cases):
    """A name may hold the sign that parts the key, as an id of a request may not."""
    for _ in range(2):
        routed(cases)
    sharp, plain = Actor("hana#a", "lead"), Actor("hana", "lead")
    first = cases.take_next(sharp, NOON, "b")
    second = cases.take_next(plain, NOON, "a#b")
    assert first is not None
    assert second is not None
    assert (first.assignee, second.assignee) == ("hana#a", "hana")


def test_a_case_that_another_release_has_written_is_a_fault_of_the_service(cases, emulator):
    name = routed(cases, subject="shop-of-tomorrow")
    update = {"UpdateExpression": "SET document = :new", "ExpressionAttributeValues": {":new": {"S": '{"form": 2}'}}}
    key = {"pk": {"S": name}, "sk": {"S": "case"}}
    emulator.client("dynamodb").update_item(TableName=Settings.from_environment().cases_table, Key=key, **update)
    try:
        for read in (lambda: cases.get(name), lambda: cases.of_subject("payee#shop-of-tomorrow")):
            with pytest.raises(ServiceError, match="MisshapenAnswer"):
                read()
    finally:
        emulator.client("dynamodb").delete_item(TableName=Settings.from_environment().cases_table, Key=key)


@pytest.mark.parametrize("waits", [True, False])
def test_the_sweep_looks_a_minute_after_the_payer_has_answered(cases, waits):
    """The execution may not have been told: the door tells it after the write, and may die in between."""
    name = routed(cases)
    for kind in ("taken", "outreach_asked"):
        cases.change(name, CaseEvent(kind=kind), HANA, NOON)
    if waits:
        assert cases.await_token(name, Wait("token-1", cases.get(name).wait))
    answered = NOON + timedelta(hours=1)
    cases.change(name, CaseEvent(kind="outreach_answered", answer="denies"), HANA, answered)
    assert dict(cases.due(answered + timedelta(minutes=1)))[name] == answered + timedelta(minutes=1)
    noted = answered + timedelta(seconds=30)
    cases.change(name, CaseEvent(kind="noted", note="calls again"), HANA, noted)
    soon = dict(cases.due(noted + timedelta(minutes=1)))
    assert (name in soon) is waits  # with nothing to tell, the lease is next


def test_no_row_of_a_case_expires_before_the_case(cases):
    name = routed(cases)
    cases.change(name, CaseEvent(kind="taken"), HANA, NOON)
    cases.look(name, HANA, NOON)
    Snapshots(Settings.from_environment()).keep(name, "{}")
    assert {row.ttl for row in rows(cases, name)} == {None}
    years = NOON + timedelta(days=900)
    cases.change(name, VERDICT, HANA, years)
    cases.change(name, CaseEvent(kind="concluded"), SYSTEM, years)
    end = int(years.timestamp()) + cases._kept_s
    assert {row.ttl for row in rows(cases, name)} == {end}
    later = years + timedelta(days=30)
    cases.look(name, JUN, later)
    cases.change(name, CaseEvent(kind="noted", note="asked again"), JUN, later)
    ends = {row.sk: row.ttl for row in rows(cases, name)}
    assert ends.pop("case") == end
    assert min(ends.values()) == end
    assert max(ends.values()) == end + 30 * 86_400


def test_an_end_that_died_before_its_rows_is_made_up_for(cases):
    name = routed(cases)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cases, "_limit", lambda _: None)
        cases.change(name, CaseEvent(kind="failed"), SYSTEM, NOON)
    assert None in {row.ttl for row in rows(cases, name)}
    cases.change(name, CaseEvent(kind="failed"), SYSTEM, NOON)
    assert {row.ttl for row in rows(cases, name)} == {int(NOON.timestamp()) + cases._kept_s}


def rows(cases: Cases, name: str) -> list[Any]:
    return list(cases._parts.query(name))


def test_the_sweep_finds_what_is_due(cases):
    name = routed(cases)
    checked = NOON + CHECK_AGAIN
    assert name not in dict(cases.due(checked - timedelta(seconds=1)))
    assert dict(cases.due(checked))[name] == checked
    cases.look_again(cases.get(name), None)
    assert name not in dict(cases.due(checked + timedelta(days=9)))
    assert cases.get(name).state is State.QUEUED
    with pytest.raises(NotFoundError):
        cases.get("NOTHING")
