"""A chain of audit rows: each row holds the hash of the one before it. Pure.

A row is a DynamoDB item as boto3 has it: `pk` is the chain's name, `sk` the row's number in the chain, `prev` the hash
of the row before it, `hash` its own. The hash covers every attribute but itself, the keys included. So a row that is
changed, or put in another place, no longer has its hash; and a row that is replaced together with its hash is no longer
the one that the next row names.
"""

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Context, Decimal, InvalidOperation
from typing import Any, NamedTuple

from fraud.transaction import utc

Item = Mapping[str, Mapping[str, Any]]
"""An item of DynamoDB: each attribute's value by the name of its type."""

START = bytes(32)
"""The hash before the first row."""

FORM = b"audit row 1\n"
"""The first bytes that are hashed: a hash of another kind, or of a later form, is never equal by construction."""

_PLACE = re.compile(r"n(\d{10})")
_EXACT = Context(prec=40)
"""DynamoDB keeps 38 digits."""


class Head(NamedTuple):
    """The end of a chain: its name, the number of its rows, and hash and time of the last one.

    at  None for an empty chain; the last time of rows that are older than the chain, if there are any

    >>> Head("deny#ip#192.0.2.1").sk
    'n0000000001'
    """

    chain: str
    n: int = 0
    hash: bytes = START
    at: str | None = None

    @property
    def sk(self) -> str:
        """The sort key of the next row. Two writers who read the same head write the same key, so one of them fails."""
        return place_of(self.n + 1)

    def next_at(self, now: datetime) -> str:
        """Return the time of the next row: later than that of the last one, also when clocks differ."""
        if self.at is None:
            return utc(now)
        return max(utc(now), utc(datetime.fromisoformat(self.at) + timedelta(microseconds=1)))


def place_of(n: int) -> str:
    """Return the sort key of row n; rows count from 1. Keys that are times sort before it."""
    return f"n{n:010}"


def number_of(sk: str) -> int | None:
    """Return the number of the row with a sort key, or None for a row of no chain.

    >>> number_of("n0000000012"), number_of("2026-03-04T12:00:00.000000Z")
    (12, None)
    """
    found = _PLACE.fullmatch(sk)
    return int(found[1]) if found else None


def digest(item: Item) -> bytes:
    """Return the hash that a row must have: SHA-256 of FORM and the canonical bytes of all attributes but `hash`.

    Raises ValueError or TypeError for what DynamoDB cannot hold.
    """
    return hashlib.sha256(FORM + canonical({name: value for name, value in item.items() if name != "hash"})).digest()


def canonical(item: Item) -> bytes:
    """Return the one spelling of an item: JSON with sorted names, base64 for bytes, numbers without needless digits.

    Sets are sorted, because DynamoDB does not keep their order. Different items have different bytes.

    >>> canonical({"b": {"NS": ["2.0", "1"]}, "a": {"B": b"xy"}})
    b'{"a":{"B":"eHk="},"b":{"NS":["1","2"]}}'
    """
    plain = {name: _plain(value) for name, value in item.items()}
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _plain(value: Mapping[str, Any]) -> dict[str, Any]:
    ((kind, content),) = value.items()
    match kind:
        case "B":
            said: Any = base64.b64encode(content).decode()
        case "N":
            said = _number(content)
        case "SS":
            said = sorted(content)
        case "NS":
            said = sorted(_number(each) for each in content)
        case "BS":
            said = sorted(base64.b64encode(each).decode() for each in content)
        case "L":
            said = [_plain(each) for each in content]
        case "M":
            said = {name: _plain(each) for name, each in content.items()}
        case "S" | "BOOL" | "NULL":
            said = content
        case _:
            raise ValueError(kind)
    return {kind: said}


def _number(text: str) -> str:
    """Return the one spelling of a number.

    >>> _number("100"), _number("1E+2"), _number("1.50"), _number("-0")
    ('1E+2', '1E+2', '1.5', '0')
    """
    try:
        number = Decimal(text).normalize(_EXACT)
    except InvalidOperation:
        raise ValueError(text) from None
    return str(number) if number else "0"


class ChainLink(NamedTuple):
    """A row as far as its chain goes: number, time, hashes, and whether its hash is that of its content."""

    n: int
    at: str
    previous: bytes
    hash: bytes
    sound: bool


def link_of(item: Item) -> ChainLink | None:
    """Return the link of a row, or None for a row of no chain. A row that cannot be read is not sound."""
    n = number_of(item["sk"]["S"])
    if n is None:
        return None
    own, previous = (bytes(item.get(name, {}).get("B", b"")) for name in ("hash", "prev"))
    try:
        sound = digest(item) == own
    except (TypeError, ValueError):
        sound = False
    return ChainLink(n, item.get("at", {}).get("S", ""), previous, own, sound)


class Discrepancy(NamedTuple):
    """A place at which the trail is not as it was written.

    kind   a name of KINDS
    where  the chain's name, or its id where no row is left that names it; the root's key
    first  number of the first row or root that is affected, and `last` that of the last one
    """

    kind: str
    where: str
    first: int
    last: int

    def __str__(self) -> str:
        """Return the discrepancy in words."""
        rows = f"{self.first}" if self.first == self.last else f"{self.first} to {self.last}"
        return f"{self.where} {rows}: {KINDS[self.kind]}"


KINDS = {
    "changed": "not what was written in this place: content or hash was changed, or rows or chains changed places",
    "missing": "deleted",
    "replaced": "not the row that the next row follows: it was replaced together with its hash",
    "cut": "cut off the end of the chain; a root names them",
    "gone": "the whole chain is gone; a root names its rows",
    "rewritten": "not the rows that a root names: the chain was written anew from one of them on",
    "unproved": "a root covers them only through rows that are not as they were: they may have been written anew",
    "unrooted": "older than the last root, by their time, but no root names them: added later, or forged",
    "root_missing": "root is missing",
    "root_changed": "root cannot be read, or is not the one that the next root follows",
    "root_foreign": "object has the key of no root: it may keep new roots from being written",
    "root_repeated": "root was hidden or written again; the first version counts",
}
"""What a discrepancy means, by its kind."""


def breaks(chain: str, links: Sequence[ChainLink]) -> list[Discrepancy]:
    """Return where a chain is broken in itself. `links` are in the order of their numbers."""
    discrepancies: list[Discrepancy] = []
    wanted, previous = 1, START
    known = True  # the link before is there, and sound
    for link in links:
        if link.n > wanted:
            discrepancies.append(Discrepancy("missing", chain, wanted, link.n - 1))
            known = False
        if not link.sound or link.n < wanted:
            discrepancies.append(Discrepancy("changed", chain, link.n, link.n))
        elif known and link.previous != previous:
            discrepancies.append(Discrepancy("replaced", chain, max(link.n - 1, 1), max(link.n - 1, 1)))
        wanted, previous, known = link.n + 1, link.hash, link.sound
    return joined(discrepancies)


def joined(discrepancies: Iterable[Discrepancy]) -> list[Discrepancy]:
    """Return the discrepancies, with those of one kind about adjacent rows as one."""
    done: list[Discrepancy] = []
    for each in discrepancies:
        if done and (done[-1].kind, done[-1].where, done[-1].last + 1) == (each.kind, each.where, each.first):
            done[-1] = done[-1]._replace(last=each.last)
        else:
            done.append(each)
    return done
