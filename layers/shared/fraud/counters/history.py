"""Folded history: the days of an entity in its profile, a merchant's latest hours, and its first and last hour.

A profile has one attribute for each side, named by `Kind.side`. Every decision reads it. Therefore it is deflated, to
be small, and its numbers are stored in columns, to be summed up quickly: a window is a slice of the columns.
"""

import functools
import operator
import struct
import zlib
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import NamedTuple, Self

from fraud.counters.layout import ENTITIES, SQUARES, packed, unpacked, unpacked_spread

SIDES: frozenset[str] = frozenset(kind.side for kind in ENTITIES)
"""Names of the attributes that hold a FoldedHistory."""

_HALF = 64
_LOW = (1 << _HALF) - 1
_PLAIN, _SIZED = 1, 2
"""Layouts: with and without the spreads and size classes of the days, which only a side whose kind counts them has."""
_HEAD = struct.Struct(">BIIHH")
"""Layout, first, last, number of days, number of hours."""


class Bucket(NamedTuple):
    """The counts of one hour or day.

    total    count and sum, packed as by `layout.packed`
    slots    bitmap of the counterparties' slots
    devices  bitmap of the devices' slots
    spread   sums of log sizes and of their squares, as of `layout.spread_of`
    sizes    bitmap of the size classes
    """

    total: int = 0
    slots: int = 0
    devices: int = 0
    spread: int = 0
    sizes: int = 0


class Series(NamedTuple):
    """Buckets of hours or days in columns of equal length, ordered by number.

    numbers  the hours' or days' numbers since the epoch, ascending, each once

    In all methods a window is a range of such numbers.
    """

    numbers: tuple[int, ...] = ()
    totals: tuple[int, ...] = ()
    slot_bitmaps: tuple[int, ...] = ()
    device_bitmaps: tuple[int, ...] = ()
    spreads: tuple[int, ...] = ()
    size_bitmaps: tuple[int, ...] = ()

    @classmethod
    def of(cls, buckets: Mapping[int, Bucket]) -> Self:
        """Build a series from buckets by number.

        >>> Series.of({7: Bucket(1), 4: Bucket(10)}).totals
        (10, 1)
        """
        return cls(*zip(*[(number, *buckets[number]) for number in sorted(buckets)], strict=True))

    def buckets(self) -> dict[int, Bucket]:
        """Return all buckets by number."""
        return {number: Bucket(*bucket) for number, *bucket in zip(*self, strict=True)}

    def put(self, number: int, bucket: Bucket, kept: int) -> Self:
        """Return the series with a bucket added, in place of any bucket with the same number.

        kept  buckets with a number of `number - kept` or less are dropped

        >>> Series.of({4: Bucket(10), 7: Bucket(1)}).put(7, Bucket(2), kept=3).buckets()
        {7: Bucket(total=2, slots=0, devices=0, spread=0, sizes=0)}
        """
        first, place = bisect_left(self.numbers, number - kept + 1), self._slice(range(number, number + 1))
        columns = zip(self, (number, *bucket), strict=True)
        return type(self)(*[(*column[first : place.start], value, *column[place.stop :]) for column, value in columns])

    def bucket(self, window: range) -> Bucket:
        """Return the sum of the buckets in the window as one bucket."""
        return Bucket(
            self.total(window), self.slots(window), self.devices(window), self.spread(window), self.sizes(window)
        )

    def total(self, window: range) -> int:
        """Return the packed count and sum of the buckets in the window.

        >>> Series.of({4: Bucket(10), 7: Bucket(1)}).total(range(5, 8))
        1
        """
        return sum(self.totals[self._slice(window)])

    def window(self, window: range) -> Iterator[tuple[int, int, int]]:
        """Yield number, packed total and slots of each bucket in the window."""
        part = self._slice(window)
        return zip(self.numbers[part], self.totals[part], self.slot_bitmaps[part], strict=True)

    def slots(self, window: range) -> int:
        """Return the union of the counterparties' slots in the window, as a bitmap."""
        return union(self.slot_bitmaps[self._slice(window)])

    def devices(self, window: range) -> int:
        """Return the union of the devices' slots in the window, as a bitmap."""
        return union(self.device_bitmaps[self._slice(window)])

    def spread(self, window: range) -> int:
        """Return the sum of the spreads in the window."""
        return sum(self.spreads[self._slice(window)])

    def sizes(self, window: range) -> int:
        """Return the union of the size classes in the window, as a bitmap."""
        return union(self.size_bitmaps[self._slice(window)])

    def _slice(self, window: range) -> slice:
        """Return where the window's buckets are in the columns."""
        return slice(bisect_left(self.numbers, window.start), bisect_left(self.numbers, window.stop))


class FoldedHistory(NamedTuple):
    """The folded history of one side of an entity.

    first, last  starts of the first and of the last hour with a payment, in epoch seconds; 0: no payment yet
    days         folded days
    hours        latest folded hours; empty for an entity whose items span a day
    """

    first: int = 0
    last: int = 0
    days: Series = Series()
    hours: Series = Series()

    def packed(self) -> bytes:
        """Return the attribute's value: deflated bytes, which `unpacked` reads.

        >>> history = FoldedHistory(3600, 7200, Series.of({0: Bucket(1)}))
        >>> FoldedHistory.unpacked(history.packed()) == history
        True
        """
        layout = _SIZED if any(self.days.size_bitmaps) or any(self.days.spreads) else _PLAIN
        parts = [_HEAD.pack(layout, self.first, self.last, len(self.days.numbers), len(self.hours.numbers))]
        parts += [_layout(len(one.numbers)).pack(*_columns(one)) for one in (self.days, self.hours)]
        if layout == _SIZED:
            parts.append(_sized_layout(len(self.days.numbers)).pack(*_size_columns(self.days)))
        return zlib.compress(b"".join(parts), wbits=-zlib.MAX_WBITS)

    @classmethod
    def unpacked(cls, value: bytes) -> Self:
        """Read an attribute's value.

        Raises zlib.error, struct.error or ValueError for bytes that `packed` has not written, or that have another
        layout.
        """
        content = zlib.decompress(value, wbits=-zlib.MAX_WBITS)
        layout, first, last, days, hours = _HEAD.unpack_from(content)
        if layout not in {_PLAIN, _SIZED}:
            raise ValueError(f"a folded history of layout {layout}")
        beyond = _HEAD.size + _layout(days).size
        end = beyond + _layout(hours).size
        sizes = content[end:] if layout == _SIZED else None
        series = _series(days, content[_HEAD.size : beyond], sizes)
        return cls(first, last, series, _series(hours, content[beyond : end if layout == _SIZED else None]))


NO_HISTORY = FoldedHistory()
"""The folded history of a side of which no period is folded."""


def union(bits: Iterable[int]) -> int:
    """Return the union of bitmaps.

    >>> bin(union([0b001, 0b100]))
    '0b101'
    """
    return functools.reduce(operator.or_, bits, 0)


@functools.lru_cache(128)
def _layout(length: int) -> struct.Struct:
    """Return the binary layout of a series of `length` buckets.

    It has one column after another: numbers, counts, sums, and each bitmap in two halves of 64 bits.
    """
    return struct.Struct(f">{length}I{6 * length}Q")


@functools.lru_cache(128)
def _sized_layout(length: int) -> struct.Struct:
    """Return the binary layout of the sizes of `length` buckets: sums of log sizes, of their squares, and classes."""
    return struct.Struct(f">{2 * length}Q{length}I")


def _size_columns(series: Series) -> Iterator[int]:
    """Return the sizes of a series in the order of `_sized_layout`."""
    sums = [unpacked_spread(spread) for spread in series.spreads]
    return chain((sizes for sizes, _ in sums), (squares for _, squares in sums), series.size_bitmaps)


def _columns(series: Series) -> Iterator[int]:
    """Return the numbers of a series in the order of `_layout`."""
    return chain(*zip(*map(_split, *series[:4]), strict=True))


def _split(number: int, total: int, slots: int, devices: int) -> tuple[int, ...]:
    """Return one bucket as integers of at most 64 bits: number, count, sum, and two halves of each bitmap."""
    return number, *unpacked(total), slots >> _HALF, slots & _LOW, devices >> _HALF, devices & _LOW


def _series(length: int, content: bytes, sized: bytes | None = None) -> Series:
    """Read a series of `length` buckets. Raises struct.error when the bytes are too few or too many.

    sized  the part that holds the buckets' sizes; None: it is not there, and they are 0
    """
    flat = _layout(length).unpack(content)
    numbers, counts, sums, *halves = (flat[column * length : (column + 1) * length] for column in range(7))
    slots, devices = (
        tuple([high << _HALF | low for high, low in zip(*bitmaps, strict=True)]) for bitmaps in (halves[:2], halves[2:])
    )
    columns = (0,) * 3 * length if sized is None else _sized_layout(length).unpack(sized)
    logs, squares, sizes = (columns[start * length : (start + 1) * length] for start in range(3))
    spreads = tuple([each * SQUARES + log for log, each in zip(logs, squares, strict=True)])
    return Series(numbers, tuple(map(packed, counts, sums)), slots, devices, spreads, sizes)
