"""The secret keys of a stack: tokens of attempts, pseudonyms of ids, and the slots of distinct counts. Pure.

Without the keys nobody can choose two bodies with one token, or ids that share a slot (D-073). The keys are one item of
the profiles table, `store` makes it. A payment uses the token key of its own day, so a duplicate meets its own token
however late it comes. The id key never changes: pseudonyms and slots are kept for a month and more.
"""

import hashlib
import secrets
from typing import NamedTuple, Self

from fraud.counters.layout import HORIZON_DAYS, SLOTS

KEY_BYTES = 32
MAC_BYTES = 10
"""Bytes of the keyed hash of an attempt: 6 are its token, 4 draw the level at which it leaves a sample."""

PSEUDONYM_BYTES = 16

AHEAD_DAYS = 2
"""Days from a rotation to the first day of the new key: a reader whose keys are hours old has it by then."""

KEPT_DAYS = 40
"""Days that a token key is kept after its last day: longer than any item of a pair counts, or a repair comes."""


class Keys(NamedTuple):
    """The keys of a stack.

    ids        key of pseudonyms and slots
    tokens     (epoch day from which it is used, key), in ascending order
    ids_since  epoch day on which the id key was replaced in an emergency; 0: never
    """

    ids: bytes
    tokens: tuple[tuple[int, bytes], ...]
    ids_since: int = 0

    @classmethod
    def drawn(cls) -> Self:
        """Draw the first keys of a stack."""
        return cls(secrets.token_bytes(KEY_BYTES), ((0, secrets.token_bytes(KEY_BYTES)),))

    @property
    def secrets(self) -> frozenset[bytes]:
        """All keys, without their roles."""
        return frozenset((self.ids, *(key for _, key in self.tokens)))

    def mac(self, identity: bytes, day: int) -> bytes:
        """Return the keyed hash of an attempt: MAC_BYTES bytes of keyed BLAKE2b (RFC 7693) of its identity.

        day  epoch day of the payment; the last key that begins on it or before it is used

        >>> keys = Keys(b"i" * 32, ((0, b"a" * 32), (20518, b"b" * 32)))
        >>> keys.mac(b"body", 20517) == keys.mac(b"body", 0) != keys.mac(b"body", 20518)
        True
        """
        key = self.tokens[0][1]
        for start, later in self.tokens[1:]:
            key = later if start <= day else key
        return hashlib.blake2b(identity, key=key, digest_size=MAC_BYTES).digest()

    def pseudonym(self, kind: str, value: str) -> bytes:
        """Return the pseudonym of an id: PSEUDONYM_BYTES bytes that tell accounts apart and name none.

        kind  kind of the profile: account, device or instrument
        """
        return hashlib.blake2b(f"{kind}#{value}".encode(), key=self.ids, digest_size=PSEUDONYM_BYTES).digest()

    def slot(self, kind: str, value: str) -> int:
        """Return the slot of an id in the bitmaps of distinct counts, in [0, SLOTS).

        >>> 0 <= DECLARED.slot("account", "alice") < SLOTS
        True
        """
        return int.from_bytes(self.pseudonym(kind, value)) % SLOTS

    def draw(self, kind: str, value: str) -> float:
        """Return the number of an id, in [0, 1), as if drawn evenly: the id is drawn if it is below the share.

        kind  what is drawn for: none that a profile or the archive has

        >>> DECLARED.draw("sample", "t-1") == DECLARED.draw("sample", "t-1") != DECLARED.draw("canary", "t-1")
        True
        """
        return int.from_bytes(self.pseudonym(kind, value)[:6]) / 2**48

    def distorts(self, day: int) -> bool:
        """Tell whether distinct counts of this epoch day mix slots of two id keys."""
        return -1 <= day - self.ids_since < HORIZON_DAYS  # a payment of the day before may come after the replacement

    def rotated(self, today: int, key: bytes) -> Self:
        """Return the keys with a new token key from the day after tomorrow on, and without outlived ones.

        >>> keys = Keys(b"i" * 32, ((0, b"a" * 32),)).rotated(20516, b"b" * 32)
        >>> [start for start, _ in keys.tokens], [start for start, _ in keys.rotated(20560, b"c" * 32).tokens]
        ([0, 20518], [20518, 20562])
        """
        ends = [*(start for start, _ in self.tokens[1:]), today + AHEAD_DAYS]
        kept = [token for token, end in zip(self.tokens, ends, strict=True) if today - end < KEPT_DAYS]
        return self._replace(tokens=(*(token for token in kept if token[0] < today + AHEAD_DAYS), (ends[-1], key)))

    def replaced(self, today: int, key: bytes) -> Self:
        """Return the keys with another id key, for an emergency: distinct counts are distorted for HORIZON_DAYS."""
        return self._replace(ids=key, ids_since=today)


DECLARED = Keys(b"declared, not secret: ids       ", ((0, b"declared, not secret: tokens    "),))
"""The keys of training, of the box and of tests. A deployed stack refuses them: everybody knows them."""
