"""The doors of accounts with their table, a bus and a machine: who may do what, repeats, conflicts, and the log."""

import itertools
import re
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pytest

from fraud.accounts import cap
from fraud.accounts.action import SYSTEM, Action, ActionEvent, Actor, Cause
from fraud.accounts.store import Accounts
from fraud.executions import Wait
from fraud.settings import Settings
from tests.support import gateway

APP = "arn:aws:sts::123456789012:assumed-role/secret-app/backend"
REASON = {"reason": "secret reason"}
NO_ACTION = "A" * 26
_names = itertools.count()


class Party(NamedTuple):
    """Somebody who sends requests to a door: the app, or a person in groups."""

    door: Any
    name: str
    groups: str | None = None

    def __call__(self, route: str, body: Any = None, query: Any = None, **ids: str) -> tuple[int, Any]:
        _, path = route.split(" ")
        said = gateway.iam(self.name) if self.groups is None else gateway.jwt(self.name, self.groups)
        concrete = path.format(**ids) if ids else path
        return gateway.sent(self.door, route, concrete, body, authorizer=said, parameters=ids, query=query)

    def act(self, action: Action, what: str, **said: Any) -> tuple[int, Any]:
        return self(f"POST /analyst/actions/{{action_id}}/{what}", said, action_id=action.action_id)


@pytest.fixture
def app(doors: Any) -> Party:
    return Party(doors["AccountApi"], APP)


@pytest.fixture
def hana(doors: Any) -> Party:
    return Party(doors["AnalystAccountApi"], "hana", "[staff analyst]")


@pytest.fixture
def mio(doors: Any) -> Party:
    return Party(doors["AnalystAccountApi"], "mio", "[lead]")


@pytest.fixture
def ren(doors: Any) -> Party:
    return Party(doors["AnalystAccountApi"], "ren", "[analyst lead]")


@pytest.fixture
def accounts(doors: Any) -> Accounts:  # noqa: ARG001 - sets the environment
    return Accounts(Settings.from_environment())


def now() -> datetime:
    return datetime.now(UTC)


def account() -> str:
    return f"api-account-{next(_names)}"


def opened_by(accounts: Accounts, lead: str) -> Action:
    """Open an action against an account, because of a lead's order."""
    name = account()
    action = accounts.open(name, Cause(kind="order", id=name, by=lead, reason="a mule"), now())
    assert action is not None
    return action


def deactivated(accounts: Accounts, lead: str) -> Action:
    """Lead an action to the deactivation of its account, by the store."""
    action = opened_by(accounts, lead)
    for kind in ("slot_taken", "held", "settled", "listed", "deactivated"):
        action = accounts.change(action.action_id, ActionEvent(kind=kind), SYSTEM, now())
    return action


def queued(accounts: Accounts, lead: str) -> Action:
    """Have an action meet the cap."""
    action = opened_by(accounts, lead)
    return accounts.change(action.action_id, ActionEvent(kind="cap_reached"), SYSTEM, now())


def test_a_hold_is_put_shown_and_released_by_either_api(app, mio, hana):
    name = account()
    until = (now() + timedelta(days=1)).isoformat()
    held = app("POST /accounts/{account_id}/hold", REASON | {"until": until}, account_id=name)
    assert held == app("POST /accounts/{account_id}/hold", REASON | {"until": until}, account_id=name)
    assert (held[0], held[1]["status"], held[1]["version"], held[1]["hold"]["by"]) == (200, "held", 1, APP)
    status, problem = mio("POST /analyst/accounts/{account_id}/hold", REASON, account_id=name)
    assert (status, problem["account"]) == (409, {"status": "held", "version": 1, "action_id": None})
    released = mio("POST /analyst/accounts/{account_id}/release", REASON, account_id=name)
    assert (released[0], released[1]["status"]) == (200, "active")
    for seen in (
        app("GET /accounts/{account_id}", account_id=name),
        hana("GET /analyst/accounts/{account_id}", account_id=name),
    ):
        assert [change["what"] for change in seen[1]["history"]] == ["held", "released"]
        assert (seen[1]["facts"]["account_id"], seen[1]["facts"]["status"]["version"]) == (name, 2)
    assert seen == hana("GET /analyst/accounts/{account_id}", account_id=name)


def test_an_appeal_that_comes_again_after_its_end_is_no_appeal_against_the_next_action(app, accounts):
    action = deactivated(accounts, "hana")
    appeal, said = "POST /accounts/{account_id}/appeal", {"appeal_id": "ap-1", "text": "not me"}
    assert app(appeal, said, account_id=action.account_id)[0] == 200
    for event, actor in (
        (ActionEvent(kind="overturned", reason="true"), Actor("mio", "lead")),
        *((ActionEvent(kind=kind), SYSTEM) for kind in ("unlisted", "restored", "corrected")),
        (ActionEvent(kind="acknowledged", status="active"), Actor(APP, "app")),
    ):
        accounts.change(action.action_id, event, actor, now())
    assert app(appeal, said | {"appeal_id": "ap-2"}, account_id=action.account_id)[0] == 409
    following = accounts.open(action.account_id, Cause(kind="order", id="o-2", by="hana", reason="again"), now())
    for kind in ("slot_taken", "held", "settled", "listed", "deactivated"):
        accounts.change(following.action_id, ActionEvent(kind=kind), SYSTEM, now())
    status, again = app(appeal, said, account_id=action.account_id)
    assert (status, again["action_id"], again["state"]) == (200, action.action_id, "reinstated")
    assert accounts.action(following.action_id).appeal is None
    assert app(appeal, said | {"text": "nor my brother"}, account_id=action.account_id)[0] == 409
    status, other = app(appeal, said | {"appeal_id": "ap-2"}, account_id=action.account_id)
    assert (status, other["action_id"], other["state"]) == (200, following.action_id, "appealed")


def test_a_space_in_a_path_is_no_plus_sign(app):
    assert app("POST /accounts/{account_id}/hold", REASON, account_id="somebody else")[0] == 404
    assert app("GET /accounts/{account_id}", account_id="somebody else")[0] == 404


def test_an_id_that_is_awkward_in_a_path_stands_in_the_query(app):
    name = f"{account()}+x"
    spelled = name.replace("+", " ")  # as API Gateway decodes a plus sign of a query
    assert app("POST /accounts/hold", REASON, {"id": spelled})[1]["account_id"] == name
    assert app("GET /accounts", None, {"id": spelled})[1]["status"] == "held"
    assert app("POST /accounts/release", REASON, {"id": spelled})[1]["status"] == "active"
    assert app("POST /accounts/appeal", {"appeal_id": "a", "text": "x"}, {"id": spelled})[0] == 409
    assert app("POST /accounts/ack", {"status": "active"}, {"id": spelled, "action_id": NO_ACTION})[0] == 404
    assert [fault["field"] for fault in app("GET /accounts")[1]["errors"]] == ["id"]
    assert [one["field"] for one in app("POST /accounts/ack", {}, {"id": "a"})[1]["errors"]] == ["action_id"]


def test_the_app_acknowledges_and_appeals_and_another_lead_reviews(accounts, app, mio, ren, capsys):
    action = deactivated(accounts, "mio")
    ids = {"account_id": action.account_id, "action_id": action.action_id}
    assert accounts.await_token(action.action_id, Wait("secret-task-token", "deactivated-1"))
    ack = "POST /accounts/{account_id}/actions/{action_id}/ack"
    assert app(ack, {"status": "active"}, **ids)[0] == 409
    assert app(ack, {"status": "deactivated"}, **ids | {"account_id": "somebody-else"})[0] == 404
    first, again = (app(ack, {"status": "deactivated"}, **ids) for _ in range(2))
    assert (first, first[1]["state"]) == (again, "appealable")
    assert accounts.untold(action.action_id) is None  # the door has told the execution

    said = {"appeal_id": "appeal-1", "text": "secret text of the appeal"}
    appeal = "POST /accounts/{account_id}/appeal"
    brought = app(appeal, said, account_id=action.account_id)
    assert brought == app(appeal, said, account_id=action.account_id)
    status, problem = app(appeal, said | {"text": "another"}, account_id=action.account_id)
    assert (status, problem["action"]["state"]) == (409, "appealed")
    assert ren("GET /analyst/actions", None, {"state": "appealed"})[1]["actions"]
    assert mio.act(action, "review", decision="uphold", **REASON)[0] == 403
    review = {"decision": "uphold", "told": "secret words for the user", **REASON}
    upheld = ren.act(action, "review", **review)
    assert (upheld[1]["state"], upheld[1]["review"]["by"]) == ("closed", "ren")
    assert upheld == ren.act(action, "review", **review)
    assert ren.act(action, "review", **review | {"decision": "overturn"})[1]["action"]["reviewed_by"] == "ren"
    assert ren.act(action, "reinstate", **REASON)[1]["state"] == "undoing"
    log = capsys.readouterr().out
    assert f'"action_id":"{action.action_id}"' in log
    assert not re.search("secret|mio|ren|api-account", log)


def test_an_action_above_the_cap_is_released_or_cancelled_by_a_lead(accounts, hana, mio):
    action, other = queued(accounts, "mio"), queued(accounts, "mio")
    listed = hana("GET /analyst/actions", None, {"state": "queued"})[1]["actions"]
    assert {action.action_id, other.action_id} <= {one["action_id"] for one in listed}
    released = mio.act(action, "release", **REASON)
    assert (released[1]["state"], released[1]["queue_decision"]["by"]) == ("opened", "mio")
    assert mio.act(other, "cancel", **REASON)[1]["state"] == "cancelled"
    assert mio.act(other, "release", **REASON)[0] == 409
    assert hana("GET /analyst/actions/{action_id}", action_id=other.action_id)[1]["state"] == "cancelled"


def test_an_order_of_many_accounts_needs_another_lead(accounts, hana, mio, ren):
    names = [account() for _ in range(4)]
    said = {"order_id": f"order-{names[0]}", "account_ids": names, **REASON}
    order, approve = "POST /analyst/orders", "POST /analyst/orders/{order_id}/approve"
    pending = mio(order, said)
    assert (pending, pending[1]["state"]) == (mio(order, said), "pending")
    assert mio(order, said | {"account_ids": names[:1]})[1]["order"]["state"] == "pending"
    assert mio(approve, REASON, order_id=said["order_id"])[0] == 403
    done = ren(approve, REASON, order_id=said["order_id"])
    assert (done[1]["state"], done[1]["decided_by"]) == ("done", "ren")
    assert done == ren(approve, REASON, order_id=said["order_id"])
    assert done == hana("GET /analyst/orders/{order_id}", order_id=said["order_id"])
    assert {accounts.action(name).account_id for name in done[1]["actions"].values()} == set(names)
    assert ren("POST /analyst/orders/{order_id}/cancel", REASON, order_id=said["order_id"])[0] == 409


LEADS = [
    ("POST /analyst/accounts/{account_id}/hold", {"account_id": "a"}),
    ("POST /analyst/accounts/{account_id}/release", {"account_id": "a"}),
    ("POST /analyst/orders", {}),
    ("POST /analyst/orders/{order_id}/approve", {"order_id": "o"}),
    *((f"POST /analyst/actions/{{action_id}}/{end}", {"action_id": NO_ACTION}) for end in ("release", "review")),
]


@pytest.mark.parametrize(("route", "ids"), LEADS)
def test_what_a_lead_may_do_an_analyst_may_not(hana, route, ids):
    assert hana(route, {}, **ids)[0] == 403


@pytest.mark.parametrize("groups", ["", "[]", "[Lead]", "payment-app"])
def test_a_token_without_a_group_of_ours_opens_nothing(doors, groups):
    eve = Party(doors["AnalystAccountApi"], "eve", groups)
    assert eve("GET /analyst/accounts/{account_id}", account_id="a")[0] == 403
    assert eve("GET /analyst/actions", None, {"state": "queued"})[0] == 403
    assert eve("POST /analyst/orders", {})[0] == 403


@pytest.mark.parametrize(
    ("route", "body", "field"),
    [
        ("POST /accounts/{account_id}/hold", {}, "reason"),
        ("POST /accounts/{account_id}/hold", {"reason": "  "}, "reason"),
        ("POST /accounts/{account_id}/hold", {"reason": "x", "until": "2020-01-01T00:00:00Z"}, "until"),
        ("POST /accounts/{account_id}/hold", {"reason": "x", "by": "me"}, "by"),
        ("POST /accounts/{account_id}/release", {"reason": "x" * 501}, "reason"),
        ("POST /accounts/{account_id}/appeal", {"appeal_id": "a", "text": "x" * 2_001}, "text"),
        ("POST /accounts/{account_id}/appeal", {"text": "x"}, "appeal_id"),
    ],
)
def test_a_faulty_body_is_told_field_by_field(app, route, body, field):
    status, problem = app(route, body, account_id="nobody")
    assert (status, [fault["field"] for fault in problem["errors"]]) == (400, [field])


@pytest.mark.parametrize(
    ("query", "field"), [({}, "state"), ({"state": "open"}, "state"), ({"state": "queued", "cursor": "x"}, "cursor")]
)
def test_a_faulty_query_is_told_by_parameter(hana, query, field):
    status, problem = hana("GET /analyst/actions", None, query)
    assert (status, [fault["field"] for fault in problem["errors"]]) == (400, [field])


def test_what_is_not_there_is_not_found(app, hana, mio):
    assert app("GET /accounts/{account_id}", account_id="a/b")[0] == 404
    assert hana("GET /analyst/accounts/{account_id}", account_id="a b")[0] == 404
    assert hana("GET /analyst/actions/{action_id}", action_id=NO_ACTION)[0] == 404
    assert hana("GET /analyst/orders/{order_id}", order_id="never-given")[0] == 404
    assert mio("POST /analyst/actions/{action_id}/erase", REASON, action_id=NO_ACTION)[0] == 404
    assert app("GET /accounts/{account_id}", None, {"before": "yesterday"}, account_id="a")[0] == 400


def test_a_hold_above_the_cap_is_refused_and_an_alarm_fires(emulator, accounts, doors, capsys):
    name, table = f"hasty-{next(_names)}", Settings.from_environment().accounts_table
    (_, scope), full = cap.scopes(name), {"N": "5000"}
    for hour in (now(), now() + timedelta(hours=1)):  # the hour may end before the request
        row = {"pk": {"S": cap.key("hour", hour)}, "sk": {"S": "cap"}}
        change = {"UpdateExpression": "SET #scope = :full", "ExpressionAttributeNames": {"#scope": scope}}
        emulator.client("dynamodb").update_item(
            TableName=table, Key=row, ExpressionAttributeValues={":full": full}, **change
        )
    answer = Party(doors["AccountApi"], name)("POST /accounts/{account_id}/hold", REASON, account_id=account())
    status, problem = answer
    assert (status, [fault["rule"] for fault in problem["errors"]]) == (429, ["cap_reached"])
    assert '"CapReached":1' in capsys.readouterr().out
    assert accounts.account(account()).state == "active"
