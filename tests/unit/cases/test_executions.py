"""Executions follow the rows of their cases, and the intake finds the case of each event. All on fakes."""

import itertools
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from fraud.cases.case import SYSTEM, Actor, Alert, Case, CaseEvent, Terms, case_id
from fraud.cases.intake import NO_REASON, REPORT, SAMPLE, WINDOW, Intake
from fraud.cases.moves import ENDED, PATIENCE, State
from fraud.cases.transition import apply_event
from fraud.decisions.record import Contents
from fraud.errors import CaseConflictError, NotFoundError, ServiceError, UnavailableError
from fraud.executions import CHECK_AGAIN, ENOUGH_MS, LOOK_AGAIN, Executions, Swept
from fraud.transaction import utc

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
TERMS = Terms(timedelta(hours=4), timedelta(minutes=30))
FAILS = CaseEvent(kind="failed")
OPEN = [state for state in State if state not in ENDED]


class Table:
    """Cases in memory, as far as executions and intake ask for them.

    waits  tokens that a case has left behind
    looks  when the sweep must look again, by case
    days   the day of the first report of each subject, and when it came
    alerts  those with which a case was to be opened
    """

    def __init__(self) -> None:
        self.cases: dict[str, Case] = {}
        self.waits: dict[str, Any] = {}
        self.looks: dict[str, datetime | None] = {}
        self.broken: set[str] = set()
        self.times: dict[str, datetime] = {}
        self.days: dict[str, tuple[datetime, datetime]] = {}
        self.alerts: list[Alert] = []
        self.is_late = False

    def add(self, state: State = State.COLLECTING, name: str = "t-1", at: datetime = NOON, **fields: Any) -> Case:
        said = {"transaction_id": name, "subject_kind": "payee", "subject_id": f"of-{name}", "occurred_at": at}
        case = Case.for_alert(f"case-of-{name}", Alert(**said, reason="VELOCITY"), at, TERMS)
        self.cases[case.case_id] = case.model_copy(update={"state": state} | fields)
        self.times[case.case_id] = at
        return self.cases[case.case_id]

    def get(self, name: str) -> Case:
        if name in self.broken:
            raise UnavailableError("Broken")
        if name not in self.cases:
            raise NotFoundError
        return self.cases[name]

    followed = get

    def change(self, name: str, event: CaseEvent, actor: Actor, now: datetime, seen: int | None = None) -> Case:
        assert seen is None
        self.cases[name] = apply_event(self.get(name), event, actor, now, TERMS)
        return self.cases[name]

    def by_clock(self, name: str, event: CaseEvent, now: datetime) -> Case:
        return self.change(name, event, SYSTEM, now)

    def open(self, alert: Alert, now: datetime, day: datetime | None = None) -> Case:
        self.alerts.append(alert)
        for number in itertools.count(1):
            name = alert.case_id(day, number)
            case = self.cases.setdefault(name, Case.for_alert(name, alert, now, TERMS))
            if case.joins and not case.knows(alert):
                case = self.cases[name] = apply_event(case, CaseEvent(kind="alerted", alert=alert), SYSTEM, now, TERMS)
            if case.knows(alert):
                break
        return case

    def report_day(self, alert: Alert, now: datetime, window: timedelta) -> datetime:
        first, since = self.days.get(alert.subject, (alert.occurred_at, now))
        self.days[alert.subject] = (first, since) if now - since < window else (alert.occurred_at, now)
        return self.days[alert.subject][0]

    def of_subject(self, subject: str) -> Any:
        if self.is_late:
            return SimpleNamespace(cases=[])
        return SimpleNamespace(cases=[case for case in self.cases.values() if case.subject == subject])

    def untold(self, name: str) -> Any:
        return self.waits.get(name)

    def told(self, name: str, wait: Any) -> None:
        assert self.waits.pop(name) is wait

    def due(self, now: datetime) -> Iterator[tuple[str, datetime]]:
        return iter([(name, at) for name, at in sorted(self.times.items()) if at <= now])

    def look_again(self, case: Case, at: datetime | None) -> None:
        self.looks[case.case_id] = at


class Machine:
    """A machine that notes what is asked of it. `broken`: it does not respond."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.sent: list[tuple[str, Any]] = []
        self.broken = False
        self.standings: dict[str, str] = {}

    def standing(self, name: str) -> str:
        return self.standings.get(name, "runs")

    def start(self, name: str, payload: Mapping[str, Any]) -> None:
        assert payload == {"case_id": name}
        self.started.append(name)

    def send(self, token: str, payload: Mapping[str, Any]) -> None:
        if self.broken:
            raise UnavailableError("Broken")
        self.sent.append((token, dict(payload)))


@pytest.fixture
def table() -> Table:
    return Table()


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def executions(table: Table, machine: Machine) -> Executions:
    return Executions(table, machine, lambda case, now: table.change(case.case_id, FAILS, SYSTEM, now))


def plenty() -> int:
    return 10 * ENOUGH_MS


def test_execution_is_started_while_evidence_is_collected_and_never_later(executions, table, machine):
    for state in State:
        executions.follow(table.add(state, state.value))
    assert machine.started == ["case-of-collecting"]


def test_token_that_a_case_has_left_behind_is_sent_with_id_and_version_only(executions, table, machine):
    case = table.add(State.CONCLUDING, version=7)
    table.waits[case.case_id] = SimpleNamespace(token="secret", waits_for="analyst")
    executions.follow(case)
    assert machine.sent == [("secret", {"case_id": case.case_id, "version": 7})]
    assert table.waits == {}
    executions.follow(case)
    assert len(machine.sent) == 1


def test_token_stays_when_the_machine_does_not_respond(executions, table, machine):
    case = table.add(State.CONCLUDING)
    table.waits[case.case_id] = SimpleNamespace(token="secret", waits_for="analyst")
    machine.broken = True
    with pytest.raises(UnavailableError):
        executions.tell(case)
    assert table.waits


def test_sweep_does_what_the_clock_causes_and_says_how_late_it_is(executions, table, machine):
    case = table.add(State.QUEUED)
    swept = executions.sweep(NOON + timedelta(hours=4), plenty)
    assert swept == Swept(1, 4 * 3600)
    assert (table.get(case.case_id).level, table.get(case.case_id).sla_step) == ("lead", 2)
    assert (machine.started, machine.sent, table.looks) == ([], [], {})


def test_sweep_starts_an_execution_that_was_not_started_and_looks_again(executions, table, machine):
    case, now = table.add(), NOON + timedelta(minutes=2)
    assert executions.sweep(now, plenty) == Swept(1, 120)
    assert (machine.started, table.looks) == ([case.case_id], {case.case_id: now + LOOK_AGAIN})


def test_sweep_tells_an_execution_that_was_not_told(executions, table, machine):
    case = table.add(State.CONCLUDING)
    table.waits[case.case_id] = SimpleNamespace(token="secret", waits_for="analyst")
    executions.sweep(NOON + timedelta(minutes=2), plenty)
    assert [token for token, _ in machine.sent] == ["secret"]


def test_sweep_tells_of_an_answer_of_the_payer_and_then_looks_when_the_lease_ends(executions, table, machine):
    case = table.add(State.ASSIGNED, assignee="hana", lease_until=NOON + TERMS.lease)
    table.waits[case.case_id] = SimpleNamespace(token="secret", waits_for="payer")
    executions.sweep(NOON + timedelta(minutes=1), plenty)
    assert [token for token, _ in machine.sent] == ["secret"]
    assert table.looks == {case.case_id: NOON + TERMS.lease}


@pytest.mark.parametrize("state", OPEN)
def test_sweep_ends_an_open_case_whose_execution_is_over_and_whose_end_nobody_has_told(
    executions, table, machine, state
):
    case = table.add(state)
    machine.standings[case.case_id] = "over"
    for _ in range(2):
        executions.sweep(NOON + timedelta(minutes=2), plenty)
    assert (table.get(case.case_id).state, table.get(case.case_id).version) == (State.FAILED, 2)
    assert set(machine.started) <= ({case.case_id} if state is State.COLLECTING else set())


@pytest.mark.parametrize("state", OPEN)
def test_sweep_starts_an_execution_that_does_not_exist_and_the_row_stays_as_it_is(executions, table, machine, state):
    case = table.add(state)
    machine.standings[case.case_id] = "missing"
    executions.sweep(NOON + timedelta(minutes=2), plenty)
    assert (set(machine.started), table.get(case.case_id)) == ({case.case_id}, case)
    assert table.looks[case.case_id] is not None


@pytest.mark.parametrize("state", sorted(ENDED))
def test_sweep_asks_nothing_about_the_execution_of_a_case_that_has_ended(executions, table, machine, state):
    case = table.add(state)
    machine.standings[case.case_id] = "over"
    executions.sweep(NOON + timedelta(minutes=2), plenty)
    assert (machine.started, table.get(case.case_id)) == ([], case)


def test_sweep_leaves_a_case_alone_that_its_execution_closed_in_the_meantime(executions, table, machine):
    """The row was read before its execution closed it, and the machine is asked after that."""
    case = table.add(State.CONCLUDING)

    def closes(name: str) -> str:
        table.cases[name] = case.model_copy(update={"state": State.CLOSED})
        return "over"

    machine.standing = closes
    executions.sweep(NOON + timedelta(minutes=2), plenty)
    assert table.get(case.case_id).state is State.CLOSED


@pytest.mark.parametrize("state", OPEN)
def test_open_case_is_looked_at_again_and_again_for_as_long_as_it_is_open(executions, table, state):
    case, now = table.add(state, sla_step=3), NOON
    for _ in range(5):
        executions.sweep(now, plenty)
        look = table.looks.get(case.case_id) or case.next_look()
        assert now < look <= now + CHECK_AGAIN
        now = look


def test_executions_without_a_word_about_ends_ask_the_machine_nothing(table, machine):
    case = table.add(State.QUEUED)
    machine.standings[case.case_id] = "over"
    Executions(table, machine).sweep(NOON + timedelta(minutes=2), plenty)
    assert table.get(case.case_id) == case


def test_sweep_goes_on_after_a_failure_and_raises_it_at_the_end(executions, table, machine):
    broken, other = table.add(name="a"), table.add(name="b")
    table.broken.add(broken.case_id)
    with pytest.raises(ServiceError, match="Broken"):
        executions.sweep(NOON + timedelta(minutes=2), plenty)
    assert machine.started == [other.case_id]


def test_sweep_goes_on_after_a_case_that_is_gone(executions, table, machine):
    """The index may still list a case whose row was deleted."""
    gone, other = table.add(name="a"), table.add(name="b")
    del table.cases[gone.case_id]
    assert executions.sweep(NOON + timedelta(minutes=2), plenty).rows == 1
    assert machine.started == [other.case_id]


def test_sweep_leaves_the_rest_to_the_next_one_when_its_time_is_over(executions, table, machine):
    for name in "abc":
        table.add(name=name)
    left = iter([ENOUGH_MS, ENOUGH_MS, ENOUGH_MS - 1])
    assert executions.sweep(NOON + timedelta(minutes=2), lambda: next(left)).rows == 2
    assert len(machine.started) == 2


def test_sweep_gives_way_to_a_person_who_was_faster(executions, table):
    case = table.add(State.ASSIGNED, assignee="hana", lease_until=NOON + timedelta(minutes=30))

    def overtaken(name: str, *_: Any) -> Case:
        table.cases[name] = case.model_copy(update={"state": State.CLOSED})
        raise CaseConflictError(case.now)

    table.by_clock = overtaken
    assert executions.sweep(NOON + timedelta(hours=2), plenty).rows == 1
    assert table.get(case.case_id).state is State.CLOSED


# --- the intake


class Decisions:
    def read(self, _: str) -> tuple[Contents, Any]:
        answer = {"reasons": [{"code": "FAN_IN_BURST"}]}
        return Contents(b"{}", b"[]", json.dumps(answer).encode()), None


@pytest.fixture
def failed() -> list[str]:
    return []


@pytest.fixture
def intake(executions, table, failed) -> Intake:
    return Intake(table, Decisions(), executions, lambda case: failed.append(case.case_id))


def payment(**fields: Any) -> dict[str, Any]:
    said = {"transaction_id": "t-1", "payer_id": "a", "payee_id": "b", "occurred_at": utc(NOON), "codes": ["VELOCITY"]}
    return said | fields


def report(**fields: Any) -> dict[str, Any]:
    said = {"report_id": "r-1", "transaction_id": "t-1", "reporter_id": "a", "payer_id": "a", "payee_id": "b"}
    return {
        "detail-type": "ReportReceived",
        "detail": said | {"occurred_at": utc(NOON), "reported_at": utc(NOON)} | fields,
    }


def made(**fields: Any) -> dict[str, Any]:
    return {"detail-type": "DecisionMade", "detail": payment(**fields)}


def test_decision_opens_a_case_of_the_side_that_its_first_reason_tells_of_and_starts_it(intake, machine):
    assert intake.take(made(), NOON).subject == "payer#a"
    assert intake.take(made(codes=["FAN_IN_BURST", "VELOCITY"]), NOON).subject == "payee#b"
    assert intake.take(made(codes=["FAN_IN_BURST"], payee_id=None), NOON).subject == "payer#a"
    assert intake.take(made(payer_id="c", codes=[]), NOON).reasons == (NO_REASON,)
    assert len(set(machine.started)) == 3


def sampled(**fields: Any) -> dict[str, Any]:
    said = {name: value for name, value in payment(**fields).items() if name != "codes"}
    return {"detail-type": "PaymentSampled", "detail": said}


def test_payment_that_is_drawn_has_a_case_of_its_own_about_its_payer(intake, table, machine):
    alerted = intake.take(made(), NOON)
    drawn = [intake.take(sampled(), NOON) for _ in range(2)]
    other = intake.take(sampled(transaction_id="t-2"), NOON)
    assert len({alerted.case_id, drawn[0].case_id, other.case_id}) == len(table.cases) == 3
    assert drawn[0] == drawn[1]
    assert (other.kind, other.subject, other.reasons, other.alerts) == ("sample", "payer#a", (SAMPLE,), ("t-2",))
    assert other.due - NOON == PATIENCE["sample"] * TERMS.sla
    assert set(machine.started) == set(table.cases)


def test_no_alert_and_no_report_joins_the_case_of_a_payment_that_was_drawn(intake, table):
    drawn = intake.take(sampled(), NOON)
    assert intake.take(made(), NOON).case_id != drawn.case_id
    assert intake.take(report(payee_id=None), NOON).case_id != drawn.case_id
    assert table.get(drawn.case_id) == drawn


def test_change_of_a_decision_opens_a_case_by_the_reasons_of_the_decision(intake):
    resolved = {"detail-type": "DecisionResolved", "detail": payment(change="challenge_failed")}
    assert intake.take(resolved, NOON).subject == "payee#b"


def test_report_is_about_the_payee_or_else_the_payer_or_else_the_reporter(intake):
    assert intake.take(report(), NOON).subject == "payee#b"
    assert intake.take(report(payee_id=None), NOON).subject == "payer#a"
    unknown = intake.take(report(payee_id=None, payer_id=None, reporter_id="z", occurred_at=None), NOON)
    assert (unknown.subject, unknown.reasons, unknown.reports) == ("payer#z", (REPORT,), ("r-1",))


def test_reports_on_one_payee_within_the_window_join_one_case(intake):
    first = intake.take(report(), NOON)
    later = NOON + WINDOW - timedelta(minutes=1)
    joined = intake.take(report(report_id="r-2", transaction_id="t-2", occurred_at=utc(later)), later)
    assert (joined.case_id, joined.reports) == (first.case_id, ("r-1", "r-2"))
    after = NOON + WINDOW
    other = intake.take(report(report_id="r-3", transaction_id="t-3", occurred_at=utc(after)), after)
    assert other.case_id != first.case_id


def test_reports_at_once_about_payments_of_many_days_join_one_case(intake, table):
    """The index by subject lags: each report is taken before the case of any other one is in it."""
    table.is_late = True
    days = [NOON - timedelta(days=number) for number in range(5)]
    said = [report(report_id=f"r-{n}", transaction_id=f"t-{n}", occurred_at=utc(day)) for n, day in enumerate(days)]
    found = {intake.take(each, NOON).case_id for each in (*said, *said)}
    assert found == {case_id("payee#b", NOON)}
    assert table.get(found.pop()).reports == tuple(f"r-{n}" for n in range(5))
    assert len(table.cases) == 1


def test_report_that_comes_again_finds_its_case_even_when_that_is_closed(intake, table):
    first = intake.take(report(), NOON)
    table.cases[first.case_id] = first.model_copy(update={"state": State.CLOSED})
    assert intake.take(report(), NOON).case_id == first.case_id
    later = NOON + timedelta(days=1)
    other = intake.take(report(report_id="r-2", transaction_id="t-2", occurred_at=utc(later)), later)
    assert other.case_id != first.case_id


def test_report_whose_case_is_closed_meanwhile_opens_another_one(intake, table):
    first = intake.take(report(), NOON)

    def closed(*_: Any) -> Case:
        table.cases[first.case_id] = first.model_copy(update={"state": State.CLOSED})
        raise CaseConflictError(first.now)

    table.change = closed
    later = NOON + timedelta(days=1)
    other = intake.take(report(report_id="r-2", transaction_id="t-2", occurred_at=utc(later)), later)
    assert other.case_id != first.case_id


def ended(name: str) -> dict[str, Any]:
    return {"detail-type": "Step Functions Execution Status Change", "detail": {"name": name, "status": "FAILED"}}


def test_end_of_an_execution_marks_its_case_as_failed_and_is_told(intake, table, failed):
    case = table.add(State.QUEUED)
    assert intake.take(ended(case.case_id), NOON).state is State.FAILED
    assert failed == [case.case_id]


def test_lost_end_of_an_execution_is_told_before_its_case_fails(intake, table, failed):
    """Whoever dies in between leaves the case open, so the next sweep does both."""
    case, changes = table.add(State.QUEUED), table.change

    def dies(*_: Any) -> Case:
        raise UnavailableError("Killed")

    table.change = dies
    with pytest.raises(UnavailableError):
        intake.ended(case, NOON)
    assert (failed, table.get(case.case_id)) == ([case.case_id], case)
    table.change = changes
    intake.ended(case, NOON)
    assert table.get(case.case_id).state is State.FAILED


def test_end_of_an_execution_without_a_case_is_nothing(intake, failed):
    assert intake.take(ended("other"), NOON) is None
    assert failed == []


def test_event_that_no_rule_sends_is_an_error(intake):
    with pytest.raises(KeyError):
        intake.take({"detail-type": "CaseClosed", "detail": {}}, NOON)


def test_accounts_that_have_multiplied_are_named_in_the_alert_of_the_case_of_one_of_them(intake, table):
    said = {"transaction_id": "t-1", "account_id": "a", "occurred_at": utc(NOON)}
    said |= {"sentence": "accounts that invite others", "accounts": 250}
    for detail, named in ((said | {"account_ids": ["a", "b"]}, ("a", "b")), (said | {"transaction_id": "t-2"}, ())):
        case = intake.take({"detail-type": "TacticsChanged", "detail": detail}, NOON)
        assert (case.subject, case.reasons) == ("payer#a", ("TACTICS_CHANGED",))
        tactics = table.alerts[-1].tactics
        assert (tactics.sentence, tactics.accounts) == ("accounts that invite others", 250)
        assert tactics.account_ids == named
