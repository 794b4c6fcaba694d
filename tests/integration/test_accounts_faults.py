"""The cap under executions at once, actions under faults and redelivery, and a twin that was never frozen: small runs.

`python -m tests.acceptance.accounts` and `tests.acceptance.account_redelivery` do the same at length.
"""

from collections import Counter
from datetime import timedelta
from functools import partial

import pytest

from fraud.accounts import cap
from fraud.accounts.action import SYSTEM, Action, ActionEvent, Cause
from fraud.accounts.requests import HoldRequest
from fraud.errors import CapReachedError, ForbiddenError, UnavailableError
from tests.acceptance import account_redelivery
from tests.acceptance.accounts import (
    APP,
    LEAD,
    NOON,
    OTHER,
    Fault,
    Faults,
    Turns,
    World,
    account,
    changed,
    faulted,
    rule_bug,
    started,
    twins,
)

STOLEN = HoldRequest(reason="stolen phone", until=None)


def begun(world: World, n: int) -> Action:
    cause = Cause(kind="finding", id=f"case-{n}", by=f"judge-{n}", reason="a bug", rule=f"R{n % 2}")
    action = world.accounts.open(f"a-{n}", cause, NOON)
    assert action is not None
    return action


def test_the_cap_is_exact_under_fifty_executions_at_once():
    with account(CAP_HOUR_ALL="12", CAP_HOUR_EACH="7") as world:
        actions = [begun(world, n).action_id for n in range(50)]
        turns = Turns(3)
        world.pause = turns.pause
        turns.run([partial(world.accounts.take_slot, action, NOON) for action in actions], 50)
        states = [world.accounts.action(action).state for action in actions]
        assert (states.count("slotted"), states.count("queued")) == (12, 38)
        (hour,) = [row for row in world.rows("accounts") if row["pk"]["S"] == cap.key("hour", NOON)]
        assert (hour["all"]["N"], len(hour["x"]["SS"])) == ("12", 12)
        assert max(int(hour["rule_R0"]["N"]), int(hour["rule_R1"]["N"])) <= 7
        assert not world.half_way()
        later = NOON + timedelta(hours=1)
        waiting = world.accounts.waiting("queued")
        assert len(waiting.actions) + len(world.accounts.waiting("queued", waiting.cursor).actions) == 38
        one = waiting.actions[0].action_id
        with pytest.raises(ForbiddenError):
            world.accounts.change(one, ActionEvent(kind="released", reason="x"), SYSTEM, later)
        world.accounts.change(one, ActionEvent(kind="released", reason="x"), LEAD, later)
        assert world.accounts.take_slot(one, later).state == "slotted"


def test_a_hold_above_the_cap_is_refused_and_takes_no_slot():
    with account(CAP_HOUR_EACH="2") as world:
        for n in (1, 2, 1):
            world.accounts.hold(f"a-{n}", STOLEN, APP, NOON)
        with pytest.raises(CapReachedError, match="actor_arn"):
            world.accounts.hold("a-3", STOLEN, APP, NOON)
        world.accounts.hold("a-3", STOLEN, LEAD, NOON)
        assert world.accounts.account("a-4").state == "active"
        world.accounts.release("a-1", "found", APP, NOON)  # a slot is not given back
        with pytest.raises(CapReachedError):
            world.accounts.hold("a-1", STOLEN, APP, NOON + timedelta(minutes=59))
        assert world.accounts.hold("a-1", STOLEN, APP, NOON + timedelta(hours=1)).state == "held"


def test_a_queued_action_is_told_and_cancelled_by_the_clock():
    with account(CAP_HOUR_ALL="1") as world:
        first, second = started(world, "a-1"), started(world, "a-2")
        assert (first.state, second.state) == ("deactivated", "queued")
        assert world.notices.kinds()["ActionQueued"] == 1
        assert '"CapReached":1' in world.log.getvalue()
        world.now += timedelta(minutes=1)
        released = changed(world, second, ActionEvent(kind="released", reason="a finding"), LEAD)
        assert released.state == "queued"  # the hour is still full
        assert world.notices.kinds()["ActionQueued"] == 2
        world.later(timedelta(days=8))
        assert world.accounts.action(second.action_id).state == "cancelled"
        assert world.accounts.account("a-2").state == "active"


def test_a_rule_bug_stops_at_the_cap_and_a_lead_releases_the_queue_in_the_next_hour():
    bug = rule_bug(30, 24, 24, 2)
    assert (bug.hours, bug.over, bug.honest, bug.alarms) == ([20, 4], 0, 0, 4)


def test_the_sweep_tells_of_an_end_that_the_execution_could_not_tell_of():
    with account() as world:
        upheld, unheard = started(world, "a-1"), started(world, "a-2")
        for action in (upheld, unheard):
            changed(world, action, ActionEvent(kind="acknowledged", status="deactivated"), APP)
            changed(world, action, ActionEvent(kind="appealed", appeal_id="ap-1", text="not me"), APP)
        changed(world, unheard, ActionEvent(kind="overturned", reason="true"), OTHER)
        for _ in range(2):
            world.later(timedelta(minutes=16))
        world.notices.is_down = True
        changed(world, upheld, ActionEvent(kind="upheld", reason="false"), OTHER)
        with pytest.raises(UnavailableError):
            world.later(timedelta(minutes=16))
        world.machine.run()
        assert [world.accounts.action(one.action_id).state for one in (upheld, unheard)] == ["closed", "reinstated"]
        assert len(world.failed) == 2
        owed = {"AppealUpheld", "ActionUnacknowledged"}
        assert not owed & world.notices.kinds().keys()
        world.accounts.change(  # a late word of the app changes nothing of what is owed
            upheld.action_id, ActionEvent(kind="acknowledged", status="deactivated"), APP, world.now
        )
        world.notices.is_down = False
        world.later(timedelta(minutes=1))
        assert owed <= world.notices.kinds().keys()
        count = world.notices.count
        world.later(timedelta(minutes=10))
        assert world.notices.count == count


@pytest.mark.parametrize(
    ("kind", "call", "end"),
    [("after", 42, "reinstated"), ("refused", 45, "compensated")],
)
def test_an_action_is_never_half_way_whatever_fails(kind, call, end):
    found = faulted(Faults(Counter(), Counter(), 0, 0, []), Fault(kind, call), "any")
    assert (found.half_way, found.wrong) == (0, [])
    assert found.ends == {("any", kind, end): 1}
    assert found.looks > 10


def test_after_a_reinstatement_all_is_as_for_a_twin_that_was_never_frozen():
    compared = twins(8, before=6, meanwhile=5)
    assert compared.differences == 0
    assert compared.declined == 5
    tables = {name.split(" ")[0] for name in compared.others}
    assert tables == {"Accounts", "Audit", "Counters", "Decisions", "Labels", "Links", "Profiles"}
    assert {name for name in compared.others if name.startswith(("Counters", "Profiles"))} == {
        "Counters payer (rv v)",
        "Profiles account (row)",
        "Profiles device (row)",
    }


def test_what_comes_three_times_in_any_order_leaves_what_it_leaves_once():
    once, thrice = account_redelivery.lived(1), account_redelivery.lived(1, seed=1)
    assert account_redelivery.differences(once, thrice) == []
    assert thrice.messages > 3 * once.messages
