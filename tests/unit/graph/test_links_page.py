"""A page of suggested links: pseudonyms become accounts, and what was erased meanwhile falls away."""

import json
from datetime import UTC, datetime

import pytest

from fraud.activity.suggested import Common, InferredLink
from fraud.errors import UndecidableError
from fraud.graph.publishing import LinksPage, suggestions

AS_OF = datetime(2026, 3, 4, tzinfo=UTC)
DEVICE = {"kind": "device", "account": None}
NAMES = {"aa": "alice", "bb": "bob", "cc": "carol", "dd": "alice"}
"""Accounts by pseudonym. The first has two, as after the stack's id key was replaced."""


def page(*accounts, **wrong):
    rows = [
        {"account": own, "links": [{"other": other, "score": 1.5, "evidence": evidence} | wrong]}
        for own, other, *evidence in accounts
    ]
    return json.dumps({"accounts": rows}).encode()


def account(name):
    return {"kind": "account", "account": name}


def found(*accounts, names=NAMES):
    said = suggestions(LinksPage.parse(page(*accounts)), names, 7, AS_OF)
    return {own: each.links for own, each in said.items()}


def test_a_link_has_the_ids_of_accounts_and_the_kind_of_things():
    assert found(("aa", "bb", account("cc"), DEVICE)) == {
        "alice": (InferredLink("bob", 1.5, (Common("account", "carol"), Common("device", None))),)
    }


def test_an_erased_account_has_no_links_is_no_other_end_and_no_evidence():
    left = {name: each for name, each in NAMES.items() if name != "bb"}
    rows = (
        ("bb", "aa", DEVICE),
        ("aa", "bb", DEVICE),
        ("cc", "aa", account("bb"), DEVICE),
        ("dd", "cc", account("bb")),
    )
    assert found(*rows, names=left) == {"alice": (), "carol": (InferredLink("alice", 1.5, (Common("device", None),)),)}


def test_two_pseudonyms_of_an_account_are_one_account_and_never_linked_with_each_other():
    rows = (("aa", "dd", DEVICE), ("aa", "bb", DEVICE), ("dd", "cc", DEVICE))
    assert [link.other for link in found(*rows)["alice"]] == ["bob", "carol"]


def test_all_pseudonyms_of_a_page_are_asked_for_once():
    rows = (("aa", "bb", account("cc"), DEVICE), ("bb", "aa", account("cc")))
    assert LinksPage.parse(page(*rows)).pseudonyms == ["aa", "bb", "cc"]


@pytest.mark.parametrize(
    "wrong", [{"score": 0}, {"score": float("inf")}, {"other": "a/b"}, {"evidence": [{"kind": "ip", "account": None}]}]
)
def test_a_page_with_a_score_that_is_no_number_or_a_name_that_is_no_pseudonym_is_refused(wrong):
    with pytest.raises(UndecidableError, match=r"^page of links: 1 faults$"):
        LinksPage.parse(page(("aa", "bb", DEVICE), **wrong))
