"""What folds leave of an entity in its profile: its days, a merchant's latest hours, when it was first and last seen.

One attribute for each side of an account, named by its `Kind.side`. It is read with every decision, so it is small:
records of fixed width, deflated, because most bits of most bitmaps repeat.
"""

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Self

from fraud.counters import ENTITIES

SIDES: frozenset[str] = frozenset(kind.side for kind in ENTITIES)
"""Names of the attributes that hold a Past."""

_HEAD = struct.Struct(">IIHH")
_WIDTH = 16
_RECORD = struct.Struct(f">I{_WIDTH}s{_WIDTH}s{_WIDTH}s")


class Bucket(NamedTuple):
    """One hour or day: count and sum as `counters.packed`, slots of counterparties and of devices as bitmaps."""

    total: int = 0
    slots: int = 0
    devices: int = 0


@dataclass(frozen=True, slots=True)
class Past:
    """One side of an entity, folded.

    first, last  epoch seconds of the first and the last hour with a payment; 0: none yet
    days, hours  by their number since the epoch; an entity whose items span a day has no hours
    """

    first: int = 0
    last: int = 0
    days: Mapping[int, Bucket] = field(default_factory=dict)
    hours: Mapping[int, Bucket] = field(default_factory=dict)

    def packed(self) -> bytes:
        """The attribute's value."""
        parts = [_HEAD.pack(self.first, self.last, len(self.days), len(self.hours))]
        parts += [_record(number, bucket) for buckets in (self.days, self.hours) for number, bucket in buckets.items()]
        return zlib.compress(b"".join(parts), wbits=-zlib.MAX_WBITS)

    @classmethod
    def unpacked(cls, value: bytes) -> Self:
        """Read an attribute. Raises zlib.error or struct.error for what `packed` has not written."""
        content = zlib.decompress(value, wbits=-zlib.MAX_WBITS)
        first, last, days, hours = _HEAD.unpack_from(content)
        integer = int.from_bytes
        buckets = [
            (number, Bucket(integer(total), integer(slots), integer(devices)))
            for number, total, slots, devices in _RECORD.iter_unpack(content[_HEAD.size :])
        ]
        if len(buckets) != days + hours:
            raise struct.error("a past has another number of records than it says")
        return cls(first, last, dict(buckets[:days]), dict(buckets[days:]))


NOTHING = Past()


def _record(number: int, bucket: Bucket) -> bytes:
    return _RECORD.pack(number, *(value.to_bytes(_WIDTH) for value in bucket))
