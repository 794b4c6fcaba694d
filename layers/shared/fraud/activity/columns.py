"""Short tables in one attribute: columns as JSON, the first as differences, deflated. Pure.

A table of ids and times takes half the bytes of its rows as JSON, so the items of this package take one write unit.
"""

import json
import zlib
from collections.abc import Sequence
from itertools import accumulate
from typing import Any


def packed(rows: Sequence[tuple[Any, ...]]) -> bytes:
    """Pack rows of JSON's values, at least one, each with a whole number in front.

    >>> unpacked(packed([(20516, "t-1"), (20518, "t-2")]))
    [(20516, 't-1'), (20518, 't-2')]
    """
    numbers, *columns = zip(*rows, strict=True)
    steps = [number - before for number, before in zip(numbers, [0, *numbers], strict=False)]
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return deflate.compress(json.dumps([steps, *columns], separators=(",", ":")).encode()) + deflate.flush()


def unpacked(content: bytes) -> list[tuple[Any, ...]]:
    """Read the rows that `packed` was given. Raises zlib.error or ValueError for other bytes."""
    steps, *columns = json.loads(zlib.decompress(content, wbits=-zlib.MAX_WBITS))
    return list(zip(accumulate(steps), *columns, strict=True))
