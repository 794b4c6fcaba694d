"""The table of accounts: one transaction a change, one writer wins, lists, orders, the sweep, and the audit chains."""

import itertools
import json
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from fraud.accounts.action import SYSTEM, Action, ActionEvent, Actor, Cause
from fraud.accounts.cap import key
from fraud.accounts.denial import Value
from fraud.accounts.order import Ordered
from fraud.accounts.requests import HoldRequest
from fraud.accounts.status import hold_reason
from fraud.accounts.store import SETTER
from fraud.audit.chain import place_of
from fraud.audit.roots import Stored, following, key_of
from fraud.audit.verification import verified
from fraud.cases.case import Alert, CaseEvent
from fraud.cases.store import Cases
from fraud.errors import (
    AccountConflictError,
    ActionConflictError,
    ForbiddenError,
    InvalidRequestError,
    NotFoundError,
    OrderConflictError,
)
from fraud.executions import Wait
from fraud.lists.entry import DenyRequest, ListKey
from fraud.lists.store import Lists
from fraud.transaction import utc
from tests.acceptance.accounts import APP, LEAD, NOON, OTHER, Turns, World, account
from tests.support.chains import ATTACKS, Attack

WIDE = {f"CAP_{period}_{scope}": "5000" for period in ("HOUR", "DAY") for scope in ("ALL", "EACH")}
STOLEN = HoldRequest(reason="stolen phone", until=None)
_names = itertools.count()


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with account(**WIDE) as world:
        yield world


@pytest.fixture
def name() -> str:
    return f"account-{next(_names)}"


def cause(number: int | None = None, **said: Any) -> Cause:
    of = next(_names) if number is None else number
    return Cause(**{"kind": "finding", "id": f"case-{of}", "by": "hana", "reason": "a mule"} | said)


def begun(world: World, name: str, *kinds: str, **said: Any) -> Action:
    """Return a new action after events of the system."""
    action = world.accounts.open(name, cause(**said), NOON)
    assert action is not None
    for kind in kinds:
        if kind == "slot_taken":
            action = world.accounts.take_slot(action.action_id, NOON)
        else:
            action = world.accounts.change(action.action_id, ActionEvent(kind=kind), SYSTEM, NOON)
    return action


def profile(world: World, pk: str) -> dict[str, Any]:
    found: dict[str, Any] = world.dynamodb.get_item(TableName="profiles", Key={"pk": {"S": pk}}).get("Item", {})
    return found


def status(world: World, name: str) -> str:
    said: str = profile(world, f"account#{name}")["status"]["M"]["state"]["S"]
    return said


TO_LISTED = ("slot_taken", "held", "settled", "listed")


def test_a_hold_is_in_the_profile_and_in_the_history_and_once_more_alters_nothing(world, name):
    until = NOON + timedelta(hours=1)
    request = HoldRequest(reason="stolen phone", until=until)
    held = world.accounts.hold(name, request, APP, NOON)
    assert world.accounts.hold(name, request, APP, NOON + timedelta(minutes=1)) == held
    said = profile(world, f"account#{name}")["status"]["M"]
    assert said == {"state": {"S": "held"}, "version": {"N": "1"}, "until": {"S": utc(until)}}
    with pytest.raises(AccountConflictError):
        world.accounts.hold(name, STOLEN, APP, NOON)
    world.accounts.release(name, "found", LEAD, NOON)
    view = world.accounts.view(name)
    assert (view.status, view.version, view.hold) == ("active", 2, None)
    assert [(one.what, one.by, one.reason) for one in view.history] == [
        ("held", APP.name, "stolen phone"),
        ("released", "jun", "found"),
    ]


def test_a_hold_must_end_ahead_and_the_sweep_ends_it(world, name):
    with pytest.raises(InvalidRequestError, match="until: expires_at_past"):
        world.accounts.hold(name, HoldRequest(reason="x", until=NOON), APP, NOON)
    end = NOON + timedelta(minutes=10)
    world.accounts.hold(name, HoldRequest(reason="x", until=end), APP, NOON)
    assert name not in dict(world.accounts.due_holds(NOON))
    assert dict(world.accounts.due_holds(end))[name] == end
    assert world.accounts.end_hold(name, end).state == status(world, name) == "active"
    assert name not in dict(world.accounts.due_holds(end))


def test_each_step_is_one_transaction_with_its_audit_row(world, name):
    action = begun(world, name)
    steps = {
        "slot_taken": lambda: world.accounts.take_slot(action.action_id, NOON),
        "held": None,
        "settled": None,
        "entry_added": lambda: world.accounts.deny(action.action_id, Value("device", f"of-{name}"), NOON),
        "listed": None,
        "deactivated": None,
    }
    for kind, step in steps.items():
        world.calls.clear()
        world.awake = True
        (step or partial(world.accounts.change, action.action_id, ActionEvent(kind=kind), SYSTEM, NOON))()
        world.awake = False
        writes = [operation for _, operation in world.calls if operation not in {"GetItem", "Query", "BatchGetItem"}]
        assert writes == ["TransactWriteItems"], kind
    assert [one.what for one in world.accounts.view(name).history] == ["opened", *steps]
    assert status(world, name) == "deactivated"


def test_the_same_finding_gives_one_action_and_an_account_has_one_at_a_time(world, name):
    action = begun(world, name, number=1)
    assert world.accounts.open(name, cause(number=1), NOON + timedelta(hours=1)) == action
    assert world.accounts.open(name, cause(number=2), NOON) is None
    world.accounts.change(action.action_id, ActionEvent(kind="cancelled", reason="no"), LEAD, NOON)
    assert world.accounts.account(name).action_id is None
    assert world.accounts.open(name, cause(number=2), NOON).state == "opened"


@pytest.mark.parametrize("seed", range(3))
def test_of_two_leads_at_once_one_wins(world, name, seed):
    action = begun(world, name, *TO_LISTED, "deactivated")
    world.accounts.change(action.action_id, ActionEvent(kind="appealed", appeal_id="a", text="not me"), APP, NOON)
    said: dict[str, str] = {}

    def review(kind: str, actor: Actor) -> None:
        try:
            after = world.accounts.change(action.action_id, ActionEvent(kind=kind, reason="x"), actor, NOON)
            said[kind] = after.review.by
        except ActionConflictError as error:
            said[kind] = f"lost to {error.now['action'].reviewed_by}"

    turns = Turns(seed)
    world.pause = turns.pause
    turns.run([partial(review, "upheld", OTHER), partial(review, "overturned", Actor("rin", "lead"))], 2)
    winner = world.accounts.action(action.action_id).review.by
    assert sorted(said.values()) == sorted([winner, f"lost to {winner}"])
    assert not world.half_way()


def test_of_two_findings_at_once_one_opens_the_action(world, name):
    found: list[Action | None] = []
    turns = Turns(1)
    world.pause = turns.pause
    turns.run([lambda: found.append(world.accounts.open(name, cause(), NOON)) for _ in range(2)], 2)
    assert sorted(one is None for one in found) == [False, True]


def test_an_entry_is_taken_off_only_while_it_is_the_actions_own(world, name):
    lists, own, changed = Lists(world.settings), Value("device", f"own-{name}"), Value("device", f"changed-{name}")
    others = ListKey("deny", "instrument", f"others-{name}")
    lists.put(others, DenyRequest(reason="theft"), "analyst", lambda: NOON)
    action = begun(world, name, "slot_taken", "held", "settled")
    for value in (own, changed, own, Value("instrument", others.value)):
        action = world.accounts.deny(action.action_id, value, NOON)
    assert [one.value for one in action.entries] == [own.value, changed.value]
    set_by = SETTER.format(action_id=action.action_id)
    assert profile(world, f"device#{own.value}")["deny"]["M"]["set_by"] == {"S": set_by}
    lists.put(ListKey("deny", *changed), DenyRequest(reason="a ring"), "analyst", lambda: NOON)
    world.accounts.change(action.action_id, ActionEvent(kind="failed", step="x"), SYSTEM, NOON)
    for entry in (*action.entries, *action.entries):
        action = world.accounts.remove_entry(action.action_id, entry, NOON)
    assert action.entries == ()
    assert "deny" not in profile(world, f"device#{own.value}")
    assert profile(world, f"device#{changed.value}")["deny"]["M"]["set_by"] == {"S": "analyst"}
    assert profile(world, others.profile)["deny"]["M"]["reason"] == {"S": "theft"}


def test_an_entry_that_ended_long_ago_is_replaced_and_one_that_late_payments_may_meet_is_not(world, name):
    lists = Lists(world.settings)
    for value, hours in (("old", 13), ("late", 11)):
        end = NOON - timedelta(hours=hours)
        request = DenyRequest(reason="theft", expires_at=end)
        lists.put(ListKey("deny", "device", f"{value}-{name}"), request, "analyst", lambda: NOON)
    action = begun(world, name, "slot_taken", "held", "settled")
    for value in ("old", "late"):
        action = world.accounts.deny(action.action_id, Value("device", f"{value}-{name}"), NOON)
    assert [one.value for one in action.entries] == [f"old-{name}"]


def test_a_hold_that_was_there_before_is_there_after_a_compensation(world, name):
    world.accounts.hold(name, STOLEN, APP, NOON)
    action = begun(world, name, *TO_LISTED)
    with pytest.raises(AccountConflictError) as refused:
        world.accounts.release(name, "found", APP, NOON)
    assert refused.value.now["account"].action_id == action.action_id
    for event in (ActionEvent(kind="failed", step="x"), *(ActionEvent(kind=k) for k in ("unlisted", "restored"))):
        world.accounts.change(action.action_id, event, SYSTEM, NOON)
    assert status(world, name) == "held"
    world.accounts.change(action.action_id, ActionEvent(kind="compensated"), SYSTEM, NOON)
    found = world.accounts.account(name)
    assert (found.state, found.hold.reason, found.action_id) == ("held", "stolen phone", None)


@pytest.mark.parametrize(("kind", "actor", "left"), [("cancelled", LEAD, "active"), ("queue_ended", SYSTEM, "held")])
def test_what_a_lead_cancels_takes_the_hold_of_its_case_with_it(world, name, kind, actor, left):
    request = HoldRequest(reason=hold_reason(f"of-{name}"), until=None)
    world.accounts.hold(name, request, SYSTEM, NOON)
    action = begun(world, name, "cap_reached", id=f"of-{name}")
    late = NOON + timedelta(days=8)
    world.accounts.change(action.action_id, ActionEvent(kind=kind, reason="a bug"), actor, late)
    found = world.accounts.account(name)
    assert (found.state, found.action_id, status(world, name)) == (left, None, left)


def test_a_lead_whose_name_has_brackets_is_bounded_by_the_cap_as_others_are(world, name):
    for number, who in enumerate(("idp[7]", "idp]", "idp[x")):
        assert world.accounts.hold(f"{name}-{number}", STOLEN, Actor(who, "lead"), NOON).state == "held"
    hour = world.dynamodb.get_item(TableName="accounts", Key={"pk": {"S": key("hour", NOON)}, "sk": {"S": "cap"}})
    assert hour["Item"]["actor_idp(7)"] == {"N": "1"}


def test_an_order_of_many_needs_another_lead_and_a_dead_call_is_finished_by_the_sweep(world, name):
    few = world.accounts.order(Ordered(f"few-{name}", (f"{name}-1", f"{name}-2"), "mules"), LEAD, NOON)
    assert few.state == "done"
    assert world.accounts.action(few.actions[f"{name}-1"]).cause.by == "jun"
    asked = Ordered(f"many-{name}", tuple(f"{name}-{n}" for n in range(2, 7)), "mules")
    many = world.accounts.order(asked, LEAD, NOON)
    assert (many.state, many.actions) == ("pending", {})
    assert world.accounts.order(asked, LEAD, NOON) == many
    with pytest.raises(OrderConflictError):
        world.accounts.order(asked._replace(reason="another"), LEAD, NOON)
    with pytest.raises(ForbiddenError):
        world.accounts.approve(asked.order_id, "mine", LEAD, NOON)
    opens = world.accounts.open
    world.accounts.open = lambda *_: (_ for _ in ()).throw(KeyError)  # the call dies
    with pytest.raises(KeyError):
        world.accounts.approve(asked.order_id, "checked", OTHER, NOON)
    world.accounts.open = opens
    assert world.accounts.get_order(asked.order_id).state == "approved"
    assert asked.order_id in dict(world.accounts.due_orders(NOON + timedelta(minutes=1)))
    done = world.accounts.carry_out(asked.order_id, NOON)
    assert (done.state, done.decided_by, done.actions[f"{name}-2"]) == ("done", "mio", None)  # the first order has it
    assert world.accounts.approve(asked.order_id, "checked", OTHER, NOON) == done
    with pytest.raises(OrderConflictError):
        world.accounts.cancel(asked.order_id, "no", OTHER, NOON)
    with pytest.raises(NotFoundError):
        world.accounts.get_order("unknown")


def test_lists_of_actions_go_on_where_a_page_ends(world, name):
    made = []
    for _ in range(21):
        action = begun(world, name)
        made.append(action.action_id)
        world.accounts.change(action.action_id, ActionEvent(kind="cancelled", reason="x"), LEAD, NOON)
    page = world.accounts.actions_of(name)
    rest = world.accounts.actions_of(name, page.cursor)
    assert sorted(one.action_id for one in [*page.actions, *rest.actions]) == sorted(made)
    assert rest.cursor is None
    with pytest.raises(InvalidRequestError):
        world.accounts.actions_of(name, "nonsense")


def test_a_long_history_is_read_in_pages(world, name):
    world.accounts.hold(name, STOLEN, APP, NOON)
    (first,) = [row for row in world.rows("audit") if row["pk"]["S"] == f"account#{name}"]
    for n in range(2, 103):
        at = {"S": utc(NOON + timedelta(minutes=n))}
        world.dynamodb.put_item(TableName="audit", Item=first | {"sk": {"S": place_of(n)}, "at": at})
    view = world.accounts.view(name)
    assert (len(view.history), view.history[-1].at) == (100, NOON + timedelta(minutes=102))
    earlier = world.accounts.view(name, before=utc(view.earlier))
    assert [one.at for one in earlier.history] == [NOON, NOON + timedelta(minutes=2)]
    assert earlier.earlier is None
    with pytest.raises(InvalidRequestError, match="before: rfc3339"):
        world.accounts.view(name, before="yesterday")


def test_a_token_is_kept_only_while_the_action_waits_for_it_and_nowhere_else(world, name):
    action = begun(world, name, *TO_LISTED, "deactivated")
    wait = Wait("secret-token", "deactivated-1")
    assert not world.accounts.await_token(action.action_id, Wait("secret-token", "appealable"))
    assert world.accounts.await_token(action.action_id, wait)
    assert world.accounts.untold(action.action_id) is None
    world.accounts.change(action.action_id, ActionEvent(kind="acknowledged", status="deactivated"), APP, NOON)
    assert world.accounts.untold(action.action_id) == wait
    said = world.accounts.view(name).model_dump_json() + json.dumps(
        [row["document"] for row in world.rows("audit") if "document" in row]
    )
    assert "secret-token" not in said
    world.accounts.told(action.action_id, wait)
    assert world.accounts.untold(action.action_id) is None


def test_the_text_of_an_appeal_is_not_in_the_audit_trail(world, name):
    action = begun(world, name, *TO_LISTED, "deactivated")
    event = ActionEvent(kind="appealed", appeal_id="ap-1", text="my sister Yui has my phone")
    world.accounts.change(action.action_id, event, APP, NOON)
    rows = [row["document"]["S"] for row in world.rows("audit") if row["pk"]["S"] == f"account#{name}"]
    assert "Yui" not in "".join(rows)
    assert "text_sha256" in rows[-1]
    assert [one.action_id for one in world.accounts.waiting("appealed").actions if one.account_id == name]


def test_an_appeal_keeps_its_place_among_those_that_wait_whatever_comes(world, name):
    waiting = []
    for minutes in range(2):
        action = begun(world, f"{name}-{minutes}", *TO_LISTED, "deactivated")
        event = ActionEvent(kind="appealed", appeal_id="ap-1", text="not me")
        at = NOON + timedelta(minutes=minutes)
        waiting.append(world.accounts.change(action.action_id, event, APP, at).action_id)
    late = NOON + timedelta(days=4)
    for event, actor in (
        (ActionEvent(kind="acknowledged", status="deactivated"), APP),
        (ActionEvent(kind="resumed", run=1), SYSTEM),
        (ActionEvent(kind="overdue"), SYSTEM),
    ):
        world.accounts.change(waiting[0], event, actor, late)
        found = [one.action_id for one in world.accounts.waiting("appealed").actions if one.action_id in waiting]
        assert found == waiting


def test_what_has_ended_expires_and_what_keeps_an_account_deactivated_does_not(world, name):
    action = begun(world, name, *TO_LISTED, "deactivated")
    world.accounts.change(action.action_id, ActionEvent(kind="acknowledged", status="deactivated"), APP, NOON)
    late = NOON + timedelta(days=15)
    closed = world.accounts.by_clock(action.action_id, ActionEvent(kind="window_ended"), late)
    row = {"pk": {"S": action.action_id}, "sk": {"S": "action"}}
    item = world.dynamodb.get_item(TableName="accounts", Key=row)["Item"]
    assert (closed.state, "ttl" in item, "act_at" in item) == ("closed", False, False)
    cancelled = begun(world, f"{name}-2")
    world.accounts.change(cancelled.action_id, ActionEvent(kind="cancelled", reason="x"), LEAD, NOON)
    item = world.dynamodb.get_item(TableName="accounts", Key=row | {"pk": {"S": cancelled.action_id}})["Item"]
    assert int(item["ttl"]["N"]) == int(NOON.timestamp()) + 730 * 86_400


# ---- the audit chains ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chains(world: World) -> dict[str, list[Any]]:
    """The chains of two accounts and two cases, each of eight rows."""
    for name in ("one", "two"):
        action = begun(world, name, *TO_LISTED, "deactivated")
        for event, actor in (
            (ActionEvent(kind="acknowledged", status="deactivated"), APP),
            (ActionEvent(kind="ordered_back", reason="a mistake"), OTHER),
        ):
            world.accounts.change(action.action_id, event, actor, NOON)
    cases, people = Cases(world.settings), ("hana", "jun", "rin", "mio", "ken", "aya")
    for n in (1, 2):
        said = {"subject_kind": "payer", "subject_id": f"subject-{n}", "occurred_at": NOON, "reason": "VELOCITY"}
        case = cases.open(Alert(transaction_id=f"t-{n}", **said), NOON)
        cases.change(case.case_id, CaseEvent(kind="routed"), SYSTEM, NOON)
        for each in people:
            cases.change(case.case_id, CaseEvent(kind="noted", note=f"{each} was here"), Actor(each, "lead"), NOON)
    found: dict[str, list[Any]] = {}
    for row in world.rows("audit"):
        found.setdefault(row["pk"]["S"], []).append(row)
    return {
        chain: sorted(rows, key=lambda row: row["sk"]["S"])
        for chain, rows in found.items()
        if chain in {"account#one", "account#two"} or chain.startswith("case#")
    }


def test_every_change_of_a_case_is_a_row_of_its_chain_without_its_note(chains):
    rows = next(rows for chain, rows in chains.items() if chain.startswith("case#"))
    said = [json.loads(row["document"]["S"]) for row in rows]
    assert [(one["what"], one["version"]) for one in said][:3] == [("alerted", 1), ("routed", 2), ("noted", 3)]
    assert all(
        "was here" not in row["document"]["S"] and len(one["record_sha256"]) == 64
        for row, one in zip(rows, said, strict=True)
    )


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
@pytest.mark.parametrize("kind", ["account", "case"])
def test_every_attack_on_a_chain_of_accounts_or_cases_is_located(chains, kind: str, attack: Attack):
    one, two = (rows for chain, rows in sorted(chains.items()) if chain.startswith(f"{kind}#"))
    assert len(one) == len(two) == 8
    rows = [(row["pk"]["S"], row["sk"]["S"], row["hash"]["B"]) for row in (*one, *two)]
    stored = {key_of(1): Stored(following(None, rows, NOON + timedelta(hours=1)).content, alone=True)}
    assert verified([*one, *two], stored).discrepancies == []
    attacked = attack.done([dict(row) for row in one], [dict(row) for row in two], 3)
    found = {each.kind for each in verified([*attacked[0], *attacked[1]], stored).discrepancies}
    assert found >= attack.kinds or found >= {"cut", "unproved"}  # a shorter chain that was written anew
