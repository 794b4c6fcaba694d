"""Standing: the parties that are denied, the codes that are silenced, and the accounts that are not active."""

import json
from datetime import timedelta
from typing import Any

import pytest

from fraud.counters.layout import State, profiles
from fraud.lists.entry import LISTED
from fraud.marks.mark import Mark
from fraud.packaged import policy
from fraud.rules.expression import members
from fraud.rules.standing import ROLES, denies, silenced, standing
from fraud.transaction import utc
from tests.support.payments import NOON, payment


def status(account: str, state: str) -> dict[str, Any]:
    return {f"account#{account}": {"status": {"state": state, "version": 4}}}


def denied(pk: str) -> dict[str, Any]:
    return {pk: {"deny": {"reason": "stolen", "expires_at": None}}}


AT_NOON: list[tuple[dict[str, Any], bool]] = [
    ({}, True),
    ({"expires_at": None}, True),
    ({"expires_at": utc(NOON + timedelta(microseconds=1))}, True),
    ({"expires_at": utc(NOON)}, False),
    ({"expires_at": "2026-03-04T12:00:00+09:00"}, False),
    ({"expires_at": "2026-03-04T21:00:01+09:00"}, True),
]
"""Ends of an entry, and whether it is in force at noon."""


@pytest.mark.parametrize(("end", "denied_at_noon"), AT_NOON)
def test_a_deny_entry_ends_by_the_payments_own_time(end, denied_at_noon):
    profile = {"deny": {"reason": "stolen"} | end}
    assert denies(profile, NOON) is denied_at_noon
    found = standing(payment(), State({}, {"account#payer-1": profile}))
    assert found["payer_denied"] is denied_at_noon
    late = payment(occurred_at=NOON - timedelta(hours=11))
    assert standing(late, State({}, {"account#payer-1": profile}))["payer_denied"]


def test_a_profile_on_no_deny_list_is_not_denied():
    assert not denies({}, NOON)
    assert not denies({"allow": {"reason": "known", "silences": ["VELOCITY"]}}, NOON)


@pytest.mark.parametrize(("end", "silenced_at_noon"), [case for case in AT_NOON if case[0].get("expires_at")])
def test_an_allow_entry_ends_by_the_payments_own_time(end, silenced_at_noon):
    entry = {"reason": "known", "silences": ["VELOCITY", "model"], "confirmed_by": "arn:aws:iam::1:user/second"}
    state = State({}, {"account#payer-1": {"allow": entry | end}})
    assert silenced(payment(), state) == ({"VELOCITY", "model"} if silenced_at_noon else set())
    assert silenced(payment(occurred_at=NOON - timedelta(hours=11)), state) == {"VELOCITY", "model"}


LATER = utc(NOON + timedelta(days=1))


@pytest.mark.parametrize(
    "allow",
    [
        "yes",
        7,
        None,
        {},
        {"silences": None, "expires_at": LATER},
        {"silences": ["VELOCITY"], "expires_at": "junk"},
        {"silences": ["VELOCITY"], "expires_at": 7},
        {"silences": ["VELOCITY"], "expires_at": None},
        {"silences": ["VELOCITY"]},
    ],
)
def test_an_allow_entry_that_cannot_be_read_or_never_ends_silences_nothing_and_hides_no_other(allow):
    other = {"silences": ["NEW_DEVICE"], "expires_at": LATER}
    profiles = {"account#payer-1": {"allow": allow}, "account#payee-1": {"allow": other}}
    assert silenced(payment(), State({}, profiles)) == {"NEW_DEVICE"}


@pytest.mark.parametrize("deny", ["yes", 7, {"expires_at": "junk"}])
def test_a_deny_entry_that_cannot_be_read_denies(deny):
    assert denies({"deny": deny}, NOON)


@pytest.mark.parametrize("held", ["hold", None, 7, {}, {"state": None}])
def test_a_status_that_cannot_be_read_is_not_active(held):
    assert standing(payment(), State({}, {"account#payer-1": {"status": held}}))["payer_status"] != "active"


def test_an_allow_entry_of_any_party_silences_its_codes():
    parties = ("account#payer-1", "account#payee-1", "device#device-1", "instrument#card-1", "ip#192.0.2.1")
    entries = {
        pk: {"allow": {"silences": [f"CODE_{n}", "ANY"], "expires_at": LATER}}
        for n, pk in enumerate((*parties, "account#payer-2"))
    }
    found = silenced(payment(instrument_id="card-1", ip="192.0.2.1"), State({}, entries))
    assert found == {"ANY", *(f"CODE_{n}" for n in range(5))}
    assert silenced(payment(), State({}, denied("account#payer-1"))) == set()


def test_without_profiles_no_party_is_denied_and_both_accounts_are_active():
    assert standing(payment(), State({}, {})) == {
        **dict.fromkeys(("payer_denied", "payee_denied", "device_denied", "instrument_denied", "ip_denied"), False),
        "payer_status": "active",
        "payee_status": "active",
        **dict.fromkeys(("payer_mark", "payee_mark"), ""),
        **dict.fromkeys(("payer_mark_lift", "payee_mark_lift"), 0.0),
    }


def test_a_mark_of_the_snapshot_in_force_stands_until_it_expires():
    day = timedelta(days=1)
    mark = Mark(7, "invite", "forked_chain", 10.9, NOON - day, NOON + day)
    held = {"account#payee-1": {"mark_a": mark._replace(snapshot=6).row, "mark_b": mark.row}}
    found = standing(payment(), State({}, held, snapshot=7))
    assert (found["payee_mark"], found["payee_mark_lift"], found["payer_mark"]) == ("invite/forked_chain", 10.9, "")
    for number, at in ((8, NOON), (0, NOON), (7, NOON + day), (7, NOON - 2 * day)):
        assert standing(payment(occurred_at=at), State({}, held, snapshot=number))["payee_mark"] == ""
    for unreadable in (
        "x",
        {},
        mark.row | {"lift": "?"},
        mark.row | {"expires_at": "?"},
        mark.row | {"snapshot": None},
    ):
        assert (
            standing(payment(), State({}, {"account#payee-1": {"mark_b": unreadable}}, snapshot=7))["payee_mark"] == ""
        )


def test_standing_knows_each_party_by_its_role():
    profiles = status("payer-1", "hold") | denied("device#device-1") | denied("instrument#card-1")
    found = standing(payment(instrument_id="card-1"), State({}, profiles))
    assert (found["payer_status"], found["payee_status"]) == ("hold", "active")
    assert (found["device_denied"], found["instrument_denied"], found["payer_denied"]) == (True, True, False)


def test_every_kind_of_a_list_has_a_role_whose_denial_the_packaged_policy_reads():
    everything = {"instrument_id": "card-1", "ip": "192.0.2.1", "device_id": "device-1", "campaign_id": "campaign-1"}
    kinds = {role: pk.partition("#")[0] for role, pk in profiles(payment(**everything)).items()}
    assert set(kinds) == set(ROLES)
    assert set(kinds.values()) == set(LISTED)
    deny_list = next(rule for rule in json.loads(policy("JPY").read_bytes())["rules"] if rule["id"] == "deny_list")
    assert {name for root, name in members(deny_list["expression"])} == {f"{role}_denied" for role in ROLES}
