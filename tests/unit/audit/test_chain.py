"""A chain's rows: what the hash covers, the order of rows, and where a chain is broken in itself."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud.audit.chain import START, Head, breaks, canonical, digest, link_of, number_of, place_of
from fraud.transaction import utc
from tests.support.chains import Rows

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
TEXT = st.text(max_size=4)
NUMBERS = st.integers(-(10**37), 10**37).map(str) | st.decimals(-(10**6), 10**6, places=3).map(str)
LEAVES = st.one_of(
    st.builds(lambda text: {"S": text}, TEXT),
    st.builds(lambda number: {"N": number}, NUMBERS),
    st.builds(lambda content: {"B": content}, st.binary(max_size=4)),
    st.builds(lambda flag: {"BOOL": flag}, st.booleans()),
    st.builds(lambda texts: {"SS": texts}, st.lists(TEXT, min_size=1, max_size=3, unique=True)),
    st.just({"NULL": True}),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(lambda parts: {"L": parts}, st.lists(inner, max_size=3)),
        st.builds(lambda parts: {"M": parts}, st.dictionaries(TEXT, inner, max_size=3)),
    ),
    max_leaves=6,
)
ITEMS = st.dictionaries(TEXT, VALUES, max_size=4)


def meant(value: Any) -> Any:
    """Return what DynamoDB keeps of a value: numbers as numbers, sets without order."""
    ((kind, content),) = value.items()
    match kind:
        case "N":
            return kind, Decimal(content)
        case "SS":
            return kind, frozenset(content)
        case "L":
            return kind, tuple(map(meant, content))
        case "M":
            return kind, frozenset((name, meant(each)) for name, each in content.items())
    return kind, content


@settings(max_examples=150, deadline=None)
@given(ITEMS, ITEMS)
def test_two_items_have_the_same_bytes_exactly_when_dynamodb_keeps_the_same(one: Any, other: Any):
    assert (canonical(one) == canonical(other)) == (meant({"M": one}) == meant({"M": other}))
    assert canonical(dict(reversed(one.items()))) == canonical(one)


@pytest.mark.parametrize("value", [{"N": "much"}, {"X": "unknown"}, {"S": "a", "N": "1"}, {"B": "no bytes"}])
def test_a_value_that_no_table_holds_has_no_hash_and_its_row_is_not_sound(value):
    item = Rows("account#a").add(3)[1] | {"what": value}
    with pytest.raises((TypeError, ValueError)):
        digest(item)
    assert link_of(item).sound is False


def test_the_hash_covers_every_attribute_but_itself():
    (row,) = Rows("account#a").add(1)
    for name in row:
        changed = row | {name: {"S": "other"}}
        assert (digest(changed) == digest(row)) == (name == "hash")
        assert (digest({key: value for key, value in row.items() if key != name}) == digest(row)) == (name == "hash")
    assert digest(row | {"more": {"S": ""}}) != digest(row)


def test_rows_count_from_one_and_sort_by_number_after_rows_that_are_older():
    keys = [utc(NOON), *map(place_of, (0, 1, 2, 9, 10, 11, 99, 100, 10**9))]
    assert keys == sorted(keys)
    assert [number_of(key) for key in keys] == [None, 0, 1, 2, 9, 10, 11, 99, 100, 10**9]
    assert Head("account#a").sk == place_of(1)
    assert [number_of(text) for text in ("n1", "change#000001", "n00000000001", "")] == [None] * 4


@given(st.timedeltas(timedelta(), timedelta(days=400)), st.timedeltas(timedelta(), timedelta(days=400)))
def test_a_row_is_later_than_the_one_before_whatever_the_clock_says(one: timedelta, other: timedelta):
    last, now = NOON + one, NOON + other
    at = Head("account#a", 3, START, utc(last)).next_at(now)
    assert at == utc(max(now, last + timedelta(microseconds=1)))
    assert Head("account#a").next_at(now) == utc(now)


def broken(rows: list[Any]) -> list[tuple[str, int, int]]:
    return [(each.kind, each.first, each.last) for each in breaks("account#a", sorted(map(link_of, rows)))]


def test_a_chain_as_it_was_written_is_whole():
    assert broken(Rows("account#a").add(20)) == []
    assert broken([]) == []


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 8), st.data())
def test_a_changed_a_deleted_and_a_replaced_row_are_located(number: int, data: st.DataObject):
    rows = Rows("account#a").add(number)
    n = data.draw(st.integers(1, number))
    changed = [row | {"what": {"S": "changed"}} if place_of(n) == row["sk"]["S"] else row for row in rows]
    assert broken(changed) == [("changed", n, n)]
    without = [row for row in rows if row["sk"]["S"] != place_of(n)]
    assert broken(without) == ([("missing", n, n)] if n < number else [])
    replaced = [row | {"hash": {"B": digest(row)}} for row in changed]
    assert broken(replaced) == ([("replaced", n, n)] if n < number else [])


@settings(max_examples=60, deadline=None)
@given(st.permutations(range(5)))
def test_rows_that_changed_places_are_located(order: list[int]):
    rows = Rows("account#a").add(5)
    moved = [rows[source] | {"sk": rows[place]["sk"]} for place, source in enumerate(order)]
    places = [n for _, first, last in broken(moved) for n in range(first, last + 1)]
    assert places == [place + 1 for place, source in enumerate(order) if place != source]


def test_a_first_row_that_follows_another_is_not_the_first():
    rows = Rows("account#a").add(3)
    first = rows[1] | {"sk": {"S": place_of(1)}}
    assert broken([first | {"hash": {"B": digest(first)}}]) == [("replaced", 1, 1)]
    zero = rows[0] | {"sk": {"S": place_of(0)}}
    assert broken([zero | {"hash": {"B": digest(zero)}}, *rows])[0] == ("changed", 0, 0)
