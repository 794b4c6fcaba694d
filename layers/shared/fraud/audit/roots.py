"""Roots: from time to time one object names the heads of all chains that have changed, and the root before it. Pure.

A root names each chain by its id, a hash of the name, because an object under lock cannot be erased. It names only the
chains with rows since the root before, so its cost follows the changes and not the table. An old head is proved by the
last root that names its chain: the hash of a row covers all rows before it, and each root covers the roots before it.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple, Self

from fraud.audit.chain import Discrepancy, number_of
from fraud.transaction import instant, utc

OVERLAP = timedelta(minutes=10)
"""A root looks back so far before the one before it: rows that were written late, or came late into the index."""

LAST = 10**9 - 1
"""The number of the last root that has a key."""

PREFIX = "roots/"


def id_of(chain: str) -> str:
    """Return the id of a chain: the first half of a SHA-256 of its name, as hexadecimal digits.

    >>> id_of("account#a-1")
    '2c38f8c0d1a93b6195ca4f6be9c06e65'
    """
    return hashlib.sha256(b"audit chain 1\n" + chain.encode()).hexdigest()[:32]


def key_of(n: int) -> str:
    """Return the key of root n. A later root has a lower key, so the newest comes first in a listing.

    >>> key_of(1), root_number(key_of(1))
    ('roots/999999998.json', 1)
    """
    return f"{PREFIX}{LAST - n:09}.json"


def root_number(key: str) -> int:
    """Return the number of the root with a key. Raises ValueError for a key that no root has."""
    n = LAST - int(key.removeprefix(PREFIX).removesuffix(".json"))
    if n < 1 or key_of(n) != key:
        raise ValueError(key)
    return n


class Anchor(NamedTuple):
    """A root's entry for a chain: its id, the number of its rows, and the hash of the last one (hexadecimal)."""

    chain: str
    n: int
    hash: str


class Root(NamedTuple):
    """One root.

    n         roots count from 1
    until     when it was written; it names all heads of rows written up to OVERLAP before
    previous  SHA-256 of the root before it, in hexadecimal digits; None for the first one
    anchors   sorted by their chain
    """

    n: int
    until: str
    previous: str | None
    anchors: tuple[Anchor, ...]

    @property
    def content(self) -> bytes:
        """The root's bytes in S3: JSON."""
        return json.dumps(self._asdict(), separators=(",", ":")).encode()

    @classmethod
    def parse(cls, content: bytes) -> Self:
        """Parse the bytes of a root. Raises ValueError for any others."""
        try:
            said = json.loads(content)
            anchors = tuple(Anchor(str(chain), int(n), str(head)) for chain, n, head in said["anchors"])
            root = cls(int(said["n"]), utc(instant(said["until"])), said["previous"], anchors)
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise ValueError("no root") from error
        if root.content != content or not isinstance(root.previous, str | None):
            raise ValueError("no root as it is written")
        return root

    @property
    def since(self) -> datetime:
        """From when on the next root looks for rows."""
        return instant(self.until) - OVERLAP


def following(last: bytes | None, rows: Iterable[tuple[str, str, bytes]], until: datetime) -> Root:
    """Return the root after `last` (its bytes; None: there is none yet).

    rows  name of the chain, sort key and hash of each row since; a chain's highest row is its head
    """
    heads: dict[str, Anchor] = {}
    for chain, sk, own in rows:
        n = number_of(sk)
        if n is not None and (chain not in heads or heads[chain].n < n):
            heads[chain] = Anchor(id_of(chain), n, own.hex())
    before = None if last is None else Root.parse(last)
    return Root(
        n=1 if before is None else before.n + 1,
        until=utc(until),
        previous=None if last is None else hashlib.sha256(last).hexdigest(),
        anchors=tuple(sorted(heads.values())),
    )


class Stored(NamedTuple):
    """A root as the bucket has it: the bytes of its first version, and whether that is the only one and not hidden."""

    content: bytes
    alone: bool


class Rooted(NamedTuple):
    """All roots, checked: the anchors of each chain by its id, in order; the time of the last root; what was found."""

    anchors: Mapping[str, Sequence[Anchor]]
    until: str | None
    discrepancies: Sequence[Discrepancy]
    number: int = 0

    @property
    def complete_until(self) -> str:
        """The time up to which every row must be named by some root; empty without a root."""
        return "" if self.until is None else utc(instant(self.until) - OVERLAP)


def checked(stored: Mapping[str, Stored]) -> Rooted:
    """Check the roots of a bucket, by key. A root that cannot be read has no anchors."""
    anchors: dict[str, list[Anchor]] = {}
    roots, discrepancies = _numbered(stored)
    until, before = None, None
    for n in range(1, max(roots, default=0) + 1):
        if n not in roots:
            discrepancies.append(Discrepancy("root_missing", key_of(n), n, n))
            before = None
            continue
        content, alone = roots[n]
        if not alone:
            discrepancies.append(Discrepancy("root_repeated", key_of(n), n, n))
        root = _readable(content, n)
        if root is None:
            discrepancies.append(Discrepancy("root_changed", key_of(n), n, n))
        else:
            if (n == 1) != (root.previous is None) or before not in {None, root.previous}:
                discrepancies.append(Discrepancy("root_changed", key_of(max(n - 1, 1)), max(n - 1, 1), max(n - 1, 1)))
            until = max(until or "", root.until)
            for each in root.anchors:
                anchors.setdefault(each.chain, []).append(each)
        before = hashlib.sha256(content).hexdigest()
    return Rooted(anchors, until, list(dict.fromkeys(discrepancies)), len(roots))


def _numbered(stored: Mapping[str, Stored]) -> tuple[dict[int, Stored], list[Discrepancy]]:
    """Return the roots by number, and a discrepancy for each object whose key no root has."""
    roots: dict[int, Stored] = {}
    discrepancies: list[Discrepancy] = []
    for key, each in stored.items():
        try:
            roots[root_number(key)] = each
        except ValueError:
            discrepancies.append(Discrepancy("root_foreign", key, 0, 0))
    return roots, discrepancies


def _readable(content: bytes, n: int) -> Root | None:
    try:
        root = Root.parse(content)
    except ValueError:
        return None
    return root if root.n == n else None
