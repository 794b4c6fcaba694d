"""The cap's scopes and periods, and orders of one lead or two."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from fraud.accounts import cap
from fraud.accounts.action import SYSTEM, Actor
from fraud.accounts.cap import Caps
from fraud.accounts.order import Order, Ordered, OrderState
from fraud.accounts.requests import OrderRequest
from fraud.errors import ForbiddenError, InvalidRequestError, OrderConflictError

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
JUN, MIO = Actor("jun", "lead"), Actor("mio", "lead")


def test_all_sessions_of_a_role_are_one_actor():
    role = "arn:aws:sts::123456789012:assumed-role/team/payment-app"
    assert cap.scopes(f"{role}/one") == cap.scopes(f"{role}/two") == ("all", f"actor_{role}")
    assert cap.scopes("arn:aws:iam::123456789012:user/app")[1] == "actor_arn:aws:iam::123456789012:user/app"


def test_hour_and_day_are_those_of_utc():
    tokyo = datetime(2026, 3, 5, 8, tzinfo=timezone(timedelta(hours=9)))
    assert (cap.key("hour", tokyo), cap.key("day", tokyo)) == ("cap#2026-03-04T23", "cap#2026-03-04")


def test_one_scope_that_is_full_is_enough():
    wanted = cap.scopes("jun", "FAN_IN_BURST", "m-1")
    assert cap.full({"all": 4, "rule_FAN_IN_BURST": 2}, wanted, Caps(5, 3)) == ()
    assert cap.full({"all": 5, "model_m-1": 3}, wanted, Caps(5, 3)) == ("all", "model_m-1")


def given(accounts: int, actor: Actor = JUN) -> Order:
    names = tuple(f"a-{n}" for n in range(accounts))
    return Order.given(Ordered("o-1", names, "mules"), actor, NOON, 3)


def test_a_few_accounts_need_one_lead_and_more_need_two():
    assert given(3).state is OrderState.APPROVED
    pending = given(4)
    assert (pending.state, pending.next_look()) == (OrderState.PENDING, None)
    with pytest.raises(ForbiddenError):
        pending.approved(JUN, "mine", NOON)
    approved = pending.approved(MIO, "checked", NOON)
    assert (approved.state, approved.decided_by) == (OrderState.APPROVED, "mio")
    assert approved.approved(MIO, "checked", NOON) is approved
    for decide in (approved.cancelled, approved.approved):
        with pytest.raises(OrderConflictError):
            decide(JUN if decide == approved.cancelled else Actor("rin", "lead"), "no", NOON)


def test_only_leads_give_and_decide_on_orders():
    for actor in (SYSTEM, Actor("app", "app"), Actor("hana", "analyst")):
        with pytest.raises(ForbiddenError):
            given(1, actor)
        with pytest.raises(ForbiddenError):
            given(4).approved(actor, "x", NOON)


def test_an_order_is_done_once_its_actions_are_there_and_a_cancelled_one_never():
    done = given(1).done({"a-0": "A"}, NOON)
    assert (done.state, done.actions, done.next_look()) == (OrderState.DONE, {"a-0": "A"}, None)
    assert done.done({}, NOON) is done
    cancelled = given(4).cancelled(JUN, "a mistake", NOON)
    assert cancelled.done({"a-0": "A"}, NOON) is cancelled
    assert cancelled.cancelled(JUN, "a mistake", NOON) is cancelled


def test_an_order_names_each_account_once_and_at_most_a_hundred():
    assert OrderRequest.parse('{"order_id": "o", "account_ids": ["a", "b", "a"], "reason": "x"}').account_ids == (
        "a",
        "b",
    )
    names = ",".join(f'"a-{n}"' for n in range(101))
    with pytest.raises(InvalidRequestError, match="account_ids: too_long"):
        OrderRequest.parse(f'{{"order_id": "o", "account_ids": [{names}], "reason": "x"}}')
