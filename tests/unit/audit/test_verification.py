"""Roots and verification: every attack on protected rows is located, and what no root protects is named."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud.audit.chain import KINDS, Discrepancy
from fraud.audit.roots import OVERLAP, Anchor, Root, Stored, checked, following, id_of, key_of, root_number
from fraud.audit.verification import Verification, verified
from fraud.transaction import utc
from tests.support.chains import ATTACKS, NOON, Attack, Chain, Rows

A, B = "account#a", "account#b"
HOUR = timedelta(hours=1)


def rooted(*moments: Iterable[Chain]) -> dict[str, Stored]:
    """Return roots, an hour apart, each of the chains as they were at a moment."""
    stored: dict[str, Stored] = {}
    for n, chains in enumerate(moments, 1):
        rows = [(row["pk"]["S"], row["sk"]["S"], row["hash"]["B"]) for chain in chains for row in chain]
        last = stored[key_of(n - 1)].content if n > 1 else None
        stored[key_of(n)] = Stored(following(last, rows, NOON + (n + 1) * HOUR).content, alone=True)
    return stored


def kinds(report: Verification) -> set[str]:
    return {each.kind for each in report.discrepancies}


def test_a_trail_as_it_was_written_has_no_discrepancy_and_is_protected_up_to_the_last_root():
    a, b = Rows(A), Rows(B)
    stored = rooted([a.add(3), b.add(2)], [a.add(2)])
    report = verified([*a.rows, *b.rows], stored)
    assert report == Verification(2, 7, 2, utc(NOON + 3 * HOUR), [], [])
    a.add(2, NOON + 4 * HOUR)
    later = verified([*b.rows, *reversed(a.rows)], stored)
    assert (later.discrepancies, later.unprotected) == ([], [(A, 2, 6)])


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_every_attack_is_located_whatever_the_roots_between(attack: Attack, data: st.DataObject):
    number = data.draw(st.integers(4, 9))
    a, b = Rows(A), Rows(B)
    cuts = data.draw(st.lists(st.integers(1, number - 1), max_size=3, unique=True).map(sorted))
    moments = []
    for n in range(1, number + 1):
        whole = [a.add(), b.add()]
        if n in cuts or n == number:
            moments.append(whole)
    stored = rooted(*moments)
    attacked = attack.done(a.add(0), b.add(0), data.draw(st.integers(2, number // 2)))
    report = verified([*attacked[0], *attacked[1]], stored)
    assert kinds(report) >= attack.kinds or kinds(report) >= {"cut", "unproved"}
    assert kinds(report) <= attack.kinds | {"cut", "unproved", "unrooted"}
    wheres = {each.where for each in report.discrepancies}
    assert wheres <= {A, B, "account#forged", f"chain {id_of(A)}"}


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 9), st.data())
def test_a_rewritten_chain_is_located_between_two_roots(number: int, data: st.DataObject):
    chain = Rows(A)
    stored = rooted(*[[chain.add()] for _ in range(number)])
    n = data.draw(st.integers(1, number - 1))
    attack = next(each for each in ATTACKS if each.name == "rewrite: from one row on")
    report = verified(attack.done(chain.add(0), [], n)[0], stored)
    assert report.discrepancies == [Discrepancy("rewritten", A, n, n)]


def test_a_chain_that_is_rewritten_after_the_last_root_is_not_seen_but_named():
    chain = Rows(A)
    stored = rooted([chain.add(2)])
    chain.add(3, NOON + 5 * HOUR)
    attack = next(each for each in ATTACKS if each.name == "rewrite: from one row on")
    report = verified(attack.done(chain.add(0), [], 3)[0], stored)
    assert (report.discrepancies, report.unprotected) == ([], [(A, 3, 3)])


def test_rows_below_a_changed_row_are_unproved_unless_an_older_root_names_them():
    chain = Rows(A)
    stored = rooted([chain.add(2)], [chain.add(4)])
    changed = next(each for each in ATTACKS if each.name == "flip: a field of one row").done(chain.add(0), [], 5)[0]
    found = [each[:1] + each[2:] for each in verified(changed, stored).discrepancies]
    assert found == [("changed", 5, 5), ("unproved", 3, 4)]
    gap = [row for row in chain.rows if row["sk"]["S"] != "n0000000005"]
    assert [each[:1] + each[2:] for each in verified(gap, stored).discrepancies] == [
        ("missing", 5, 5),
        ("unproved", 3, 4),
    ]


def test_without_a_root_everything_is_unprotected_and_broken_chains_are_still_found():
    rows = Rows(A).add(3)
    report = verified(rows, {})
    assert (report.discrepancies, report.unprotected, report.until) == ([], [(A, 3, 1)], None)
    assert kinds(verified(rows[1:], {})) == {"missing"}


def test_rows_that_are_older_than_the_chain_are_named_as_unprotected():
    chain = Rows(A)
    old = {"pk": {"S": A}, "sk": {"S": utc(NOON)}, "by": {"S": "someone"}}
    stored = rooted([chain.add(2)])
    report = verified([old, *chain.rows], stored)
    assert (report.discrepancies, report.unprotected) == ([], [(A, 1, None)])


def test_one_chain_alone_is_verified_also_when_nothing_of_it_is_left():
    a, b = Rows(A), Rows(B)
    stored = rooted([a.add(2), b.add(2)])
    assert verified(a.rows, stored, A).discrepancies == []
    assert verified([], stored, A).discrepancies == [Discrepancy("gone", A, 1, 2)]
    assert verified([], stored, "account#other").discrepancies == []


# --- roots ------------------------------------------------------------------------------------------------------------
def test_a_root_names_the_highest_row_of_each_chain_and_the_root_before():
    rows = [(A, "n0000000002", b"b"), (A, "n0000000001", b"a"), (B, "n0000000001", b"c"), (B, utc(NOON), b"")]
    first = following(None, rows, NOON)
    assert first.previous is None
    assert first.anchors == tuple(sorted([Anchor(id_of(A), 2, b"b".hex()), Anchor(id_of(B), 1, b"c".hex())]))
    second = following(first.content, [], NOON + HOUR)
    assert (second.n, second.anchors) == (2, ())
    assert second.previous == hashlib.sha256(first.content).hexdigest()
    assert second.since == NOON + HOUR - OVERLAP
    assert A not in first.content.decode()


@given(st.integers(1, 10**9 - 1), st.integers(1, 10**9 - 1))
def test_the_newest_root_comes_first_in_a_listing(one: int, other: int):
    assert root_number(key_of(one)) == one
    assert (key_of(one) < key_of(other)) == (one > other)


def stored_three() -> dict[str, Stored]:
    chain = Rows(A)
    return rooted(*[[chain.add()] for _ in range(3)])


def content(said: Any, **changes: Any) -> bytes:
    return json.dumps(json.loads(said) | changes, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    ("n", "change", "found"),
    [
        (2, None, [("root_missing", 2)]),
        (3, lambda root: root._replace(alone=False), [("root_repeated", 3)]),
        (2, lambda root: root._replace(content=b"no JSON"), [("root_changed", 2)]),
        (2, lambda root: root._replace(content=root.content + b" "), [("root_changed", 2)]),
        (2, lambda root: root._replace(content=content(root.content, anchors=[])), [("root_changed", 2)]),
        (2, lambda root: root._replace(content=content(root.content, n=3)), [("root_changed", 2)]),
        (2, lambda root: root._replace(content=content(root.content, previous=7)), [("root_changed", 2)]),
        (2, lambda root: root._replace(content=b"[" * 100_000), [("root_changed", 2)]),
        (3, lambda root: root._replace(content=content(root.content, previous="00")), [("root_changed", 2)]),
        (1, lambda root: root._replace(content=content(root.content, previous="00")), [("root_changed", 1)]),
    ],
)
def test_a_root_that_is_missing_changed_or_written_again_is_located(n, change, found):
    stored = stored_three()
    if change is None:
        del stored[key_of(n)]
    else:
        stored[key_of(n)] = change(stored[key_of(n)])
    result = checked(stored)
    assert [(each.kind, each.first) for each in result.discrepancies] == found
    assert all(str(each) for each in result.discrepancies)


def test_a_root_that_is_gone_takes_no_protection_from_what_later_roots_name():
    chain = Rows(A)
    stored = rooted(*[[chain.add()] for _ in range(3)])
    del stored[key_of(1)]
    report = verified(chain.rows, stored)
    assert (kinds(report), report.unprotected) == ({"root_missing"}, [])


@pytest.mark.parametrize("key", ["roots/000.json", "roots/other.json", "roots/1000000000.json", "roots/999999999.json"])
def test_an_object_beside_the_roots_is_named(key):
    stored = stored_three() | {key: Stored(b"", alone=True)}
    assert checked(stored).discrepancies == [Discrepancy("root_foreign", key, 0, 0)]
    assert checked(stored).number == 3


def test_every_kind_of_discrepancy_has_words():
    said: Sequence[str] = [str(Discrepancy(kind, A, 1, 2)) for kind in KINDS]
    assert len(set(said)) == len(KINDS)
    assert str(Discrepancy("cut", A, 3, 4)) == "account#a 3 to 4: cut off the end of the chain; a root names them"


def test_a_time_is_one_that_dynamodb_sorts():
    root = Root(1, utc(datetime.fromisoformat("2026-03-04T21:00:00+09:00")), None, ())
    assert Root.parse(root.content).until == utc(NOON)
