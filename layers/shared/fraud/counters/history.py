"""The folded history of an entity in its profile: its days, a merchant's latest hours, when it was first and last seen.

It is one attribute for each side of an account, named by `Kind.side`. Every decision reads it, so it is deflated to be
small, and its numbers lie in columns to be summed up quickly: a window is a slice of them.
"""

import functools
import operator
import struct
import zlib
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import NamedTuple, Self

from fraud.counters.layout import ENTITIES, packed, unpacked

SIDES: frozenset[str] = frozenset(kind.side for kind in ENTITIES)
"""Names of the attributes that hold a FoldedHistory."""

_HALF = 64
_LOW = (1 << _HALF) - 1
_LAYOUT = 1
_HEAD = struct.Struct(">BIIHH")


class Bucket(NamedTuple):
    """One hour or day: count and sum as `layout.packed`, slots of counterparties and of devices as bitmaps."""

    total: int = 0
    slots: int = 0
    devices: int = 0


class Series(NamedTuple):
    """Buckets by column, ordered by number: the hour's or day's number since the epoch."""

    numbers: tuple[int, ...] = ()
    totals: tuple[int, ...] = ()
    slot_bitmaps: tuple[int, ...] = ()
    device_bitmaps: tuple[int, ...] = ()

    @classmethod
    def of(cls, buckets: Mapping[int, Bucket]) -> Self:
        """Build a series of buckets by number."""
        return cls(*zip(*[(number, *buckets[number]) for number in sorted(buckets)], strict=True))

    def buckets(self) -> dict[int, Bucket]:
        """Return all buckets by number."""
        return {number: Bucket(*bucket) for number, *bucket in zip(*self, strict=True)}

    def put(self, number: int, bucket: Bucket, kept: int) -> Self:
        """Put a bucket in place of any with its number; drop those more than `kept` numbers older."""
        first, place = bisect_left(self.numbers, number - kept + 1), self._slice(range(number, number + 1))
        columns = zip(self, (number, *bucket), strict=True)
        return type(self)(*[(*column[first : place.start], value, *column[place.stop :]) for column, value in columns])

    def bucket(self, window: range) -> Bucket:
        """Sum up the buckets whose numbers are in the window as one."""
        return Bucket(self.total(window), self.slots(window), self.devices(window))

    def total(self, window: range) -> int:
        """Return packed count and sum of the buckets whose numbers are in the window.

        >>> Series.of({4: Bucket(10), 7: Bucket(1)}).total(range(5, 8))
        1
        """
        return sum(self.totals[self._slice(window)])

    def slots(self, window: range) -> int:
        """Return the union of the counterparties' slots in the window."""
        return union(self.slot_bitmaps[self._slice(window)])

    def devices(self, window: range) -> int:
        """Return the union of the devices' slots in the window."""
        return union(self.device_bitmaps[self._slice(window)])

    def _slice(self, window: range) -> slice:
        return slice(bisect_left(self.numbers, window.start), bisect_left(self.numbers, window.stop))


class FoldedHistory(NamedTuple):
    """The folded history of one side of an entity.

    first, last  epoch seconds of the first and the last hour with a payment; 0: none yet
    hours        empty for an entity whose items span a day
    """

    first: int = 0
    last: int = 0
    days: Series = Series()
    hours: Series = Series()

    def packed(self) -> bytes:
        """Return the attribute's value."""
        parts = [_HEAD.pack(_LAYOUT, self.first, self.last, len(self.days.numbers), len(self.hours.numbers))]
        parts += [_layout(len(one.numbers)).pack(*_columns(one)) for one in (self.days, self.hours)]
        return zlib.compress(b"".join(parts), wbits=-zlib.MAX_WBITS)

    @classmethod
    def unpacked(cls, value: bytes) -> Self:
        """Read an attribute. Raises zlib.error, struct.error or ValueError for what `packed` has not written."""
        content = zlib.decompress(value, wbits=-zlib.MAX_WBITS)
        layout, first, last, days, hours = _HEAD.unpack_from(content)
        if layout != _LAYOUT:
            raise ValueError(f"a folded history of layout {layout}")
        beyond = _HEAD.size + _layout(days).size
        return cls(first, last, _series(days, content[_HEAD.size : beyond]), _series(hours, content[beyond:]))


NO_HISTORY = FoldedHistory()


def union(bits: Iterable[int]) -> int:
    """Return the union of bitmaps.

    >>> bin(union([0b001, 0b100]))
    '0b101'
    """
    return functools.reduce(operator.or_, bits, 0)


@functools.lru_cache(128)
def _layout(length: int) -> struct.Struct:
    """Lay out a series of `length` buckets, column by column: numbers, counts, sums, each bitmap in two halves."""
    return struct.Struct(f">{length}I{6 * length}Q")


def _columns(series: Series) -> Iterator[int]:
    return chain(*zip(*map(_split, *series), strict=True))


def _split(number: int, total: int, slots: int, devices: int) -> tuple[int, ...]:
    return number, *unpacked(total), slots >> _HALF, slots & _LOW, devices >> _HALF, devices & _LOW


def _series(length: int, content: bytes) -> Series:
    flat = _layout(length).unpack(content)
    numbers, counts, sums, *halves = (flat[column * length : (column + 1) * length] for column in range(7))
    slots, devices = (
        tuple([high << _HALF | low for high, low in zip(*bitmaps, strict=True)]) for bitmaps in (halves[:2], halves[2:])
    )
    return Series(numbers, tuple(map(packed, counts, sums)), slots, devices)
