"""Chains of audit rows in memory, and the attacks on them, for tests of the audit trail.

`ATTACKS` changes the rows of two chains as somebody could who may write to the table and knows how rows are hashed.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from fraud.audit.chain import START, digest, place_of
from fraud.transaction import utc

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
Item = dict[str, Any]
Chain = list[Item]


class Rows:
    """A chain: `add` writes rows a minute apart, and returns all of them."""

    def __init__(self, name: str, start: datetime = NOON) -> None:
        self.name = name
        self.rows: Chain = []
        self._start = start

    def add(self, number: int = 1, at: datetime | None = None) -> Chain:
        """Write more rows, and return copies of all."""
        for _ in range(number):
            n = len(self.rows) + 1
            when = utc(at or self._start + timedelta(minutes=n))
            row: Item = {
                "pk": {"S": self.name},
                "sk": {"S": place_of(n)},
                "at": {"S": when},
                "day": {"S": when[:10]},
                "by": {"S": f"person-{n}"},
                "what": {"S": f"change {n} of {self.name}"},
                "prev": {"B": self.rows[-1]["hash"]["B"] if self.rows else START},
            }
            self.rows.append(row | {"hash": {"B": digest(row)}})
        return [dict(row) for row in self.rows]


def sealed(rows: Chain) -> Chain:
    """Return rows whose hashes are made anew from the first one on: a chain that is whole in itself."""
    done: Chain = []
    for row in rows:
        own = row | {"prev": {"B": done[-1]["hash"]["B"] if done else START}}
        done.append(own | {"hash": {"B": digest(own)}})
    return done


def named(rows: Chain, name: str) -> Chain:
    """Return the rows under another chain's name, each in its place."""
    return [row | {"pk": {"S": name}} for row in rows]


def placed(rows: Chain) -> Chain:
    """Return the rows with the keys of places 1, 2, 3 and so on."""
    return [row | {"sk": {"S": place_of(n)}} for n, row in enumerate(rows, 1)]


def flipped(rows: Chain, n: int) -> Chain:
    """Return the rows with another author in row n."""
    return [row | {"by": {"S": "nobody"}} if row["sk"]["S"] == place_of(n) else row for row in rows]


def without(rows: Chain, n: int) -> Chain:
    """Return the rows without row n."""
    return [row for row in rows if row["sk"]["S"] != place_of(n)]


class Attack(NamedTuple):
    """What is done to the chains a and b; `n` is a row's number, at most half of the chain's."""

    name: str
    done: Callable[[Chain, Chain, int], tuple[Chain, Chain]]
    kinds: frozenset[str]


def _swapped(a: Chain, b: Chain) -> tuple[Chain, Chain]:
    return named(b, a[0]["pk"]["S"]), named(a, b[0]["pk"]["S"])


def _rehashed(rows: Chain, n: int) -> Chain:
    """Return the rows with row n changed and its hash made anew, and no other."""
    changed = flipped(rows, n)
    return [row | {"hash": {"B": digest(row)}} if row["sk"]["S"] == place_of(n) else row for row in changed]


def _reordered(rows: Chain, n: int) -> Chain:
    return placed([*rows[: n - 1], rows[n], rows[n - 1], *rows[n + 1 :]])


ATTACKS = (
    Attack("flip: a field of one row", lambda a, b, n: (flipped(a, n), b), frozenset({"changed"})),
    Attack("flip: a row with its own hash", lambda a, b, n: (_rehashed(a, n), b), frozenset({"replaced"})),
    Attack(
        "flip: the hash alone", lambda a, b, n: ([*a[:-1], a[-1] | {"hash": {"B": START}}], b), frozenset({"changed"})
    ),
    Attack("delete: one row", lambda a, b, n: (without(a, n), b), frozenset({"missing"})),
    Attack("delete: the first row", lambda a, b, n: (a[1:], b), frozenset({"missing"})),
    Attack(
        "delete: one row, the rest written anew",
        lambda a, b, n: (sealed(placed(without(a, n))), b),
        frozenset({"rewritten"}),
    ),
    Attack("delete: the whole chain", lambda a, b, n: ([], b), frozenset({"gone"})),
    Attack("truncate: the last row", lambda a, b, n: (a[:-1], b), frozenset({"cut"})),
    Attack("truncate: half of the chain", lambda a, b, n: (a[:n], b), frozenset({"cut"})),
    Attack("reorder: two rows", lambda a, b, n: (_reordered(a, n), b), frozenset({"changed"})),
    Attack(
        "reorder: two rows, the rest written anew",
        lambda a, b, n: (sealed(_reordered(a, n)), b),
        frozenset({"rewritten"}),
    ),
    Attack("rewrite: from one row on", lambda a, b, n: (sealed(flipped(a, n)), b), frozenset({"rewritten"})),
    Attack("rewrite: the whole chain", lambda a, b, n: (sealed(flipped(a, 1)), b), frozenset({"rewritten"})),
    Attack(
        "rewrite: the whole chain, shorter",
        lambda a, b, n: (sealed(flipped(a, 1))[:n], b),
        frozenset({"rewritten", "cut"}),
    ),
    Attack("swap: two accounts' chains", lambda a, b, n: _swapped(a, b), frozenset({"changed"})),
    Attack(
        "swap: two accounts' chains, written anew",
        lambda a, b, n: tuple(map(sealed, _swapped(a, b))),  # type: ignore[arg-type,return-value]
        frozenset({"rewritten"}),
    ),
    Attack(
        "add: a chain with an earlier date",
        lambda a, b, n: (a, [*b, *Rows("account#forged").add(n)]),
        frozenset({"unrooted"}),
    ),
    Attack("add: a row at the end with an earlier date", lambda a, b, n: (_longer(a), b), frozenset({"unrooted"})),
)


def _longer(rows: Chain) -> Chain:
    more = [*rows, rows[-1] | {"sk": {"S": place_of(len(rows) + 1)}, "by": {"S": "nobody"}}]
    return sealed(more)
