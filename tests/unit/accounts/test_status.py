"""The status of an account: a hold and an action stop it, independently of each other."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud.accounts.status import Account, AccountEvent, Hold, hold_reason
from fraud.counters.layout import State
from fraud.errors import AccountConflictError
from fraud.rules.standing import standing
from fraud.transaction import utc
from tests.support.payments import payment

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
HOLD = Hold(reason="stolen phone", until=None, by="app", at=NOON)
HANAKO = Account(account_id="hanako")


def after(account: Account, *kinds: str, at: datetime = NOON, **said: object) -> Account:
    for kind in kinds:
        fields = {"hold": HOLD} if kind == "held" else {"action_id": "A"}
        if kind == "released":
            fields = {"reason": "found"}
        account = account.after(AccountEvent(kind=kind, **(fields | said)), at)
    return account


def test_an_account_is_held_and_released_and_each_again_alters_nothing():
    held = after(HANAKO, "held")
    assert (held.state, held.version) == ("held", 1)
    later = HOLD.model_copy(update={"at": NOON + timedelta(hours=1)})
    assert after(held, "held", hold=later) is held
    released = after(held, "released")
    assert released.state == "active"
    assert after(released, "released") is released


def test_a_different_hold_or_release_is_refused_with_the_state():
    held = after(HANAKO, "held")
    with pytest.raises(AccountConflictError) as refused:
        after(held, "held", hold=HOLD.model_copy(update={"reason": "another"}))
    assert (refused.value.now["account"].status, refused.value.now["account"].version) == ("held", 1)
    with pytest.raises(AccountConflictError):
        after(after(held, "released"), "released", reason="another")
    with pytest.raises(AccountConflictError):
        after(HANAKO, "released")


def test_a_hold_that_was_there_before_an_action_is_there_after_it():
    held = after(HANAKO, "held")
    stopped = after(held, "opened", "frozen", "deactivated")
    assert stopped.state == "deactivated"
    back = after(stopped, "restored", "ended")
    assert (back.state, back.hold, back.action_id) == ("held", HOLD, None)


def test_nobody_holds_or_releases_an_account_that_an_action_has_stopped():
    stopped = after(after(HANAKO, "held"), "opened", "frozen")
    for kind, said in (("held", {"hold": HOLD.model_copy(update={"by": "jun"})}), ("released", {"reason": "x"})):
        with pytest.raises(AccountConflictError):
            after(stopped, kind, **said)


def test_an_action_that_waits_above_the_cap_keeps_nobody_from_a_hold():
    assert after(HANAKO, "opened", "held", "released").state == "active"


def test_one_action_has_an_account():
    one = after(HANAKO, "opened")
    with pytest.raises(AccountConflictError):
        after(one, "opened", action_id="B")
    for kind in ("frozen", "deactivated"):
        with pytest.raises(AccountConflictError):
            after(one, kind, action_id="B")
    assert after(one, "restored", "ended", action_id="B") is one


def test_a_hold_of_the_system_ends_with_the_reinstatement_of_the_same_case_only():
    system = HOLD.model_copy(update={"by": "system", "reason": hold_reason("A")})
    stopped = after(HANAKO, "held", hold=system)
    stopped = after(stopped, "opened", "frozen")
    assert after(stopped, "restored", case_id="A").hold is None
    assert after(stopped, "restored", case_id="A-2").hold is None  # it has followed the case
    assert after(stopped, "restored", case_id="B").hold == system
    assert after(stopped, "restored").hold == system  # a compensation: the case is as it was before


def test_a_hold_of_the_system_ends_with_its_case_whatever_stops_the_account():
    system = HOLD.model_copy(update={"by": "system", "reason": hold_reason("A")})
    for kinds in (("opened",), ("opened", "frozen"), ("opened", "frozen", "deactivated")):
        stopped = after(after(HANAKO, "held", hold=system), *kinds)
        ended = after(stopped, "case_ended", case_id="A")
        assert (ended.hold, ended.stopped) == (None, stopped.stopped)
        assert after(ended, "case_ended", case_id="A") is ended
        assert after(stopped, "case_ended", case_id="B") is stopped
    of_the_app = after(HANAKO, "held", hold=HOLD.model_copy(update={"reason": hold_reason("A")}))
    assert after(of_the_app, "case_ended", case_id="A") is of_the_app


def test_a_hold_that_is_over_makes_way_for_another_one_before_the_sweep():
    end = NOON + timedelta(hours=1)
    over = after(HANAKO, "held", hold=HOLD.model_copy(update={"until": end}))
    with pytest.raises(AccountConflictError):
        after(over, "held", at=end - timedelta(microseconds=1))
    assert after(over, "held", at=end).hold == HOLD


def test_a_hold_is_over_at_its_end_with_or_without_a_sweep():
    end = NOON + timedelta(hours=1)
    held = after(HANAKO, "held", hold=HOLD.model_copy(update={"until": end}))
    assert (held.next_look(), held.profile) == (end, {"state": "held", "version": 1, "until": utc(end)})
    assert after(held, "hold_ended", at=end - timedelta(seconds=1)) is held
    assert after(held, "hold_ended", at=end).state == "active"
    for minutes, status in ((59, "held"), (60, "active"), (61, "active")):
        paid = payment(payer_id="hanako", occurred_at=NOON + timedelta(minutes=minutes))
        state = State({}, {"account#hanako": {"status": held.profile}})
        assert standing(paid, state)["payer_status"] == status


@pytest.mark.parametrize("until", ["nonsense", 5, ["x"], {}])
def test_a_hold_whose_end_cannot_be_read_holds(until):
    state = State({}, {"account#payer-1": {"status": {"state": "held", "until": until}}})
    assert standing(payment(), state)["payer_status"] == "held"


def test_an_end_of_a_deactivation_counts_for_nothing():
    state = State({}, {"account#payer-1": {"status": {"state": "deactivated", "until": "2020-01-01T00:00:00Z"}}})
    assert standing(payment(), state)["payer_status"] == "deactivated"


KINDS = ("held", "released", "hold_ended", "case_ended", "opened", "frozen", "deactivated", "restored", "ended")


@settings(max_examples=200)
@given(st.lists(st.tuples(st.sampled_from(KINDS), st.sampled_from("AB")), max_size=20))
def test_whatever_comes_the_state_follows_from_hold_and_action(events):
    account = HANAKO
    for kind, action in events:
        try:
            changed = after(account, kind, **({"action_id": action} if kind in KINDS[4:] else {}))
        except AccountConflictError:
            continue
        assert changed is account or changed.version == account.version + 1
        account = changed
        assert account.stopped is None or account.action_id is not None
        assert (account.state == "active") == (account.stopped is None and account.hold is None)
