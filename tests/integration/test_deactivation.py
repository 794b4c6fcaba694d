"""The steps of the machine `deactivation`, the sweep and the intake, on tables in this process."""

import itertools
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from fraud.accounts import moves
from fraud.accounts.action import SYSTEM, ActionEvent, Cause
from fraud.accounts.events import tell_end
from fraud.accounts.intake import AccountIntake
from fraud.accounts.order import Ordered
from fraud.accounts.requests import HoldRequest
from fraud.accounts.status import hold_reason
from fraud.accounts.sweep import AccountSweep
from fraud.accounts.worker import FINISH, STEPS
from fraud.cases.case import Alert, Case, CaseEvent
from fraud.cases.store import Cases
from fraud.errors import CapReachedError, ServiceError
from fraud.executions import Executions
from fraud.stepped_row import REST
from tests.acceptance.accounts import (
    APP,
    LEAD,
    NOON,
    OTHER,
    WAITS_IN_REVIEW,
    World,
    account,
    assembly_sweep,
    changed,
    started,
)

WIDE = {f"CAP_{period}_{scope}": "5000" for period in ("HOUR", "DAY") for scope in ("ALL", "EACH")}
_names = itertools.count()


@pytest.fixture(scope="module")
def everywhere() -> Iterator[World]:
    with account(**WIDE) as world:
        yield world


@pytest.fixture
def world(everywhere: World) -> World:
    everywhere.now = NOON
    everywhere.notices.said.clear()
    return everywhere


@pytest.fixture
def name() -> str:
    return f"account-{next(_names)}"


ACK = ActionEvent(kind="acknowledged", status="deactivated")
APPEAL = ActionEvent(kind="appealed", appeal_id="ap-1", text="it was not me")


def test_each_step_of_the_machine_has_a_function():
    assert {state for state, _ in STEPS} == {*moves.STEPS.values(), "Follow", "StepFailed"}


def test_an_account_goes_from_a_finding_to_its_end_and_is_told_of_each_part(world, name):
    action = changed(world, started(world, name), ACK, APP)
    world.later(timedelta(days=15))
    ended = world.accounts.action(action.action_id)
    assert (ended.state, world.accounts.account(name).state) == ("closed", "deactivated")
    assert world.notices.kinds() == {"AccountDeactivated": 1}
    assert world.machine.ready == []
    assert action.action_id not in world.machine.waiting.values()


def test_an_app_that_never_acknowledges_is_told_three_times_and_the_appeal_is_still_heard(world, name, capsys):
    action = started(world, name)
    for _ in range(3):
        world.later(timedelta(minutes=15))
    assert world.accounts.action(action.action_id).state == "appealable"
    assert world.notices.kinds() == {"AccountDeactivated": 3, "ActionUnacknowledged": 1}
    assert sorted(e.notice for e in world.notices.said.values() if type(e).__name__ == "AccountDeactivated") == [
        1,
        2,
        3,
    ]
    assert '"ActionsUnacknowledged":1' in capsys.readouterr().out
    assert changed(world, action, APPEAL, APP).state == "appealed"


def test_a_review_that_is_overdue_is_told_and_an_appeal_that_is_upheld_too(world, name, capsys):
    action = changed(world, changed(world, started(world, name), ACK, APP), APPEAL, APP)
    world.later(timedelta(days=3))
    assert world.accounts.action(action.action_id).state == "appealed"
    assert '"AppealsOverdue":1' in capsys.readouterr().out
    upheld = changed(world, action, ActionEvent(kind="upheld", reason="a mule", told="we looked"), OTHER)
    assert (upheld.state, upheld.review.told) == ("closed", "we looked")
    kinds = world.notices.kinds()
    assert [kinds[kind] for kind in ("AppealReceived", "AppealOverdue", "AppealUpheld")] == [1, 1, 1]
    assert action.action_id not in dict(world.accounts.due_ends(world.now + timedelta(minutes=2)))  # no more is owed
    assert all("it was not me" not in event.model_dump_json() for event in world.notices.said.values())


def test_an_action_that_was_closed_is_taken_back_by_another_execution(world, name):
    action = changed(world, started(world, name), ACK, APP)
    world.later(timedelta(days=15))
    back = changed(world, action, ActionEvent(kind="ordered_back", reason="a mistake"), OTHER)
    assert (back.state, back.execution) == ("corrected", f"{action.action_id}-2")
    done = changed(world, back, ActionEvent(kind="acknowledged", status="active"), APP)
    assert (done.state, world.accounts.account(name).state) == ("reinstated", "active")


def test_a_reinstatement_that_is_never_acknowledged_ends_and_is_told(world, name):
    action = changed(world, started(world, name), ACK, APP)
    changed(world, action, ActionEvent(kind="ordered_back", reason="a mistake"), OTHER)
    for _ in range(3):
        world.later(timedelta(minutes=15))
    assert world.accounts.action(action.action_id).state == "reinstated"
    assert world.notices.kinds()["ActionUnacknowledged"] == 1


def test_payments_that_wait_in_review_are_declined_and_void_and_nothing_else_changes(world, name, capsys):
    world.pay(transaction_id=f"a-{name}", payer_id=name, device_id=f"of-{name}", amount=100)
    waits = world.pay(transaction_id=f"r-{name}", payer_id=name, device_id=f"of-{name}", amount=WAITS_IN_REVIEW)
    assert waits["outcome"] == "review"
    action = started(world, name)
    ends = [world.decisions.read(f"{each}-{name}")[1].status for each in "ra"]
    assert ends == ["declined", "approved"]
    changed(world, changed(world, action, ACK, APP), ActionEvent(kind="ordered_back", reason="x"), OTHER)
    assert '"AttemptsNotVoid":1' in capsys.readouterr().out  # the stream's reader has not come to it yet
    world.streamed(f"r-{name}")
    capsys.readouterr()
    assert world.hot.not_void([]) == []
    changed(world, action, ActionEvent(kind="acknowledged", status="active"), APP)
    late = started(world, name, id="another")
    changed(world, changed(world, late, ACK, APP), ActionEvent(kind="ordered_back", reason="x"), OTHER)
    assert "AttemptsNotVoid" not in capsys.readouterr().out


def test_a_repeated_state_and_one_that_comes_too_late_do_nothing_and_say_what_is_next(world, name):
    action = started(world, name)
    for state in ("TakeSlot", "Hold", "SettlePayments", "DenyInstruments", "Deactivate", "RemoveEntries", "Follow"):
        answer = world.deactivation.run({"state": state, "version": 1, "action_id": action.action_id})
        assert answer["next"] == "Notify"
        assert answer["timeout_seconds"] > timedelta(days=30).total_seconds()
    assert world.accounts.action(action.action_id) == action
    world.machine.waiting["late"] = "an execution that was overtaken"
    world.deactivation.run({"state": "AwaitAppeal", "version": 1, "action_id": action.action_id, "token": "late"})
    assert "late" not in world.machine.waiting  # it is told at once
    with pytest.raises(KeyError):
        world.deactivation.run({"state": "Hold", "version": 2, "action_id": action.action_id})


def test_a_step_that_fails_after_the_deactivation_was_told_fails_the_execution_and_undoes_nothing(world, name):
    action = changed(world, started(world, name), ACK, APP)
    failed = {"state": "StepFailed", "version": 1, "action_id": action.action_id, "step": "AwaitAppeal"}
    with pytest.raises(ServiceError, match="StepFailed"):
        world.deactivation.run(failed)
    assert world.accounts.action(action.action_id).state == "appealable"


def test_a_failed_step_is_undone_told_and_may_be_said_again(world, name, capsys):
    action = started(world, name)
    failed = {"state": "StepFailed", "version": 1, "action_id": action.action_id, "step": "Notify"}
    assert world.deactivation.run(failed)["next"] == world.deactivation.run(failed)["next"] == "RemoveEntries"
    world.executions.follow(world.accounts.action(action.action_id))
    world.machine.run()
    assert (world.accounts.action(action.action_id).state, world.accounts.account(name).state) == (
        "compensated",
        "active",
    )
    (event,) = [each for each in world.notices.said.values() if type(each).__name__ == "ActionFailed"]
    assert (event.step, event.account_id) == ("Notify", name)
    assert '"ActionsCompensated":1' in capsys.readouterr().out
    assert world.deactivation.run(failed | {"state": "Follow"})["next"] == FINISH


def test_the_sweep_starts_what_was_never_started_and_an_order_that_a_dead_call_has_left(world, name):
    cause = Cause(kind="finding", id=f"case-of-{name}", by="hana", reason="a mule")
    action = world.accounts.open(name, cause, NOON)
    opens, world.accounts.open = world.accounts.open, lambda *_: (_ for _ in ()).throw(KeyError)
    with pytest.raises(KeyError):
        world.accounts.order(Ordered(f"o-{name}", (f"{name}-2",), "mules"), LEAD, NOON)
    world.accounts.open = opens
    world.later(timedelta(minutes=1))
    states = [world.accounts.account(each).state for each in (name, f"{name}-2")]
    assert states == ["deactivated", "deactivated"]
    assert world.accounts.action(action.action_id).state == "deactivated"


@pytest.mark.parametrize("standing", ["over", "missing"])
def test_the_sweep_goes_on_with_an_action_whose_execution_is_gone_and_whose_end_nobody_has_told(world, name, standing):
    action = changed(world, started(world, name), ACK, APP)
    world.machine.gone[action.action_id] = standing
    world.machine.waiting.clear()
    intake = AccountIntake(world.accounts, Cases(world.settings), world.decisions, world.executions, lambda: None)
    tell = partial(tell_end, world.notices.publish, door="schedules")
    sweep = AccountSweep(world.accounts, Executions(world.accounts, world.machine, intake.ended), tell)
    for _ in range(2):
        world.now += REST
        sweep.sweep(world.now, lambda: 600_000)
        world.machine.run()
    assert world.accounts.action(action.action_id).run == (2 if standing == "over" else 1)
    assert world.accounts.action(action.action_id).state == "appealable"
    (waits,) = world.machine.waiting.values()
    assert waits == (f"{action.action_id}-2" if standing == "over" else action.action_id)


def test_what_two_mules_share_is_denied_with_the_second_one(world, name):
    for n in (1, 2):
        world.pay(transaction_id=f"{name}-{n}", payer_id=f"{name}-{n}", device_id=f"farm-{name}", amount=100)
    first, second = started(world, f"{name}-1"), started(world, f"{name}-2")
    assert (first.entries, [one.value for one in second.entries]) == ((), [f"farm-{name}"])


def test_a_sweep_without_time_leaves_the_rest_and_a_failure_comes_after_the_others(world, name):
    request = HoldRequest(reason="x", until=NOON + timedelta(minutes=1))
    world.accounts.hold(name, request, APP, NOON)
    late = NOON + timedelta(minutes=2)
    assert assembly_sweep(world).sweep(late, lambda: 0).rows == 0
    broken = SimpleNamespace(sweep=lambda *_: (_ for _ in ()).throw(ServiceError("Broken")))
    sweep = assembly_sweep(world)
    sweep._executions = broken
    with pytest.raises(ServiceError, match="Broken"):
        sweep.sweep(late, lambda: 60_000)
    assert world.accounts.account(name).state == "active"


# ---- the intake ------------------------------------------------------------------------------------------------------


class Bench:
    """The intake with its cases. `reached`: how often the cap kept a hold away."""

    def __init__(self, world: World) -> None:
        self.world, self.reached = world, 0
        self.cases = Cases(world.settings)
        self.intake = AccountIntake(world.accounts, self.cases, world.decisions, world.executions, self._reach)

    def _reach(self) -> None:
        self.reached += 1

    def case(self, name: str, finding: str | None = None, reason: str = "a mule") -> Case:
        """Return a case about an account, closed with a finding if there is one."""
        said = {"subject_kind": "payer", "subject_id": name, "occurred_at": NOON, "reason": "VELOCITY"}
        case = self.cases.open(Alert(transaction_id=f"t-{name}", **said), NOON)
        if finding is not None:
            said = {"subject_is": "offender"} if finding == "fraud" else {}
            judged = CaseEvent(kind="triaged", finding=finding, note=reason, **said)
            self.cases.change(case.case_id, judged, SYSTEM, NOON)
            self.cases.change(case.case_id, CaseEvent(kind="concluded"), SYSTEM, NOON)
        return self.cases.get(case.case_id)

    def take(self, kind: str, case: Case, **detail: Any) -> Any:
        if case.verdict is not None:
            detail |= {"subject_is": case.verdict.subject_is}
        return self.intake.take({"detail-type": kind, "detail": {"case_id": case.case_id, **detail}}, NOON)


@pytest.fixture
def bench(world: World) -> Bench:
    return Bench(world)


def test_a_finding_of_fraud_opens_one_action_with_its_cause_however_often_it_comes(bench, world, name):
    world.pay(transaction_id=f"t-{name}", payer_id=name, device_id=f"of-{name}", amount=100)
    case = bench.case(name, "fraud", "x" * 600)
    first = bench.take("CaseClosed", case, finding="fraud")
    assert bench.take("CaseClosed", case, finding="fraud").action_id == first.action_id
    cause = first.cause
    assert (cause.id, cause.by, cause.rule, len(cause.reason)) == (case.case_id, "system", "VELOCITY", 500)
    assert cause.transaction_ids == (f"t-{name}",)
    assert cause.model_version is not None
    assert world.machine.started.count(first.action_id) == 1


def test_a_payment_that_was_not_decided_here_has_no_model(bench, name):
    assert bench.take("CaseClosed", bench.case(name, "fraud"), finding="fraud").cause.model_version is None


def test_the_systems_hold_ends_with_a_case_that_finds_no_fraud(bench, name):
    case = bench.case(name)
    held = bench.take("HoldRequested", case)
    assert (held.state, held.hold.reason, held.hold.by) == ("held", hold_reason(case.case_id), "system")
    case = bench.case(name, "legitimate")
    assert bench.take("CaseClosed", case, finding="legitimate").state == "active"
    assert bench.take("CaseClosed", case, finding="legitimate") is None
    assert bench.take("HoldRequested", case) is None  # it came late


def test_a_hold_of_somebody_else_stays_whatever_a_case_finds(bench, world, name):
    world.accounts.hold(name, HoldRequest(reason="stolen phone"), APP, NOON)
    case = bench.case(name)
    assert bench.take("HoldRequested", case) is None
    assert bench.take("CaseClosed", bench.case(name, "legitimate"), finding="legitimate") is None
    assert world.accounts.account(name).hold.by == APP.name


def test_the_systems_hold_ends_with_a_reinstatement_after_the_same_case(bench, world, name):
    case = bench.case(name)
    bench.take("HoldRequested", case)
    action = bench.take("CaseClosed", bench.case(name, "fraud"), finding="fraud")
    world.machine.run()
    changed(world, action, ACK, APP)
    changed(world, action, ActionEvent(kind="ordered_back", reason="a mistake"), LEAD)
    assert world.accounts.account(name).state == "active"


def test_a_hold_above_the_cap_is_counted_and_not_put_on(bench, name):
    def full(*_: Any) -> None:
        raise CapReachedError(("all",))

    bench.intake._accounts = SimpleNamespace(hold=full)
    assert bench.take("HoldRequested", bench.case(name)) is None
    assert bench.reached == 1


def test_an_execution_that_has_failed_is_followed_by_another_one_after_five_minutes(bench, world, name):
    action = started(world, name)
    event = {"detail-type": "Step Functions Execution Status Change", "detail": {"name": action.action_id}}
    resumed = bench.intake.take(event, NOON)
    assert bench.intake.take(event, NOON) == resumed
    world.later(timedelta(minutes=4))
    assert f"{action.action_id}-2" not in world.machine.started
    world.later(timedelta(minutes=1))
    assert world.machine.started.count(f"{action.action_id}-2") == 1
    unknown = {"detail-type": event["detail-type"], "detail": {"name": "unknown"}}
    assert bench.intake.take(unknown, NOON) is None
    with pytest.raises(KeyError):
        bench.intake.take({"detail-type": "DecisionMade", "detail": {}}, NOON)
