"""Numbers for the ids of accounts, in little memory: ids are hashed, some rows at a time, and never held together.

An id of whole numbers has a hash of its own. Two texts of 10^7 have the same hash of 64 bits with a probability of
3 in a million; `named` looks at a second hash of every id, and refuses the edges rather than join two accounts.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from numpy.typing import NDArray

Edges: TypeAlias = Any
"""Edges with `source` and `target`: a pyarrow.Table, or a pyarrow.parquet.ParquetFile."""

ENDS = ("source", "target")
AT_ONCE = 1 << 17
"""Rows that are read together."""

PARTS = 64
"""Parts into which the hashes are sorted apart: they bound the memory of the sort."""

SEED, CHECK = 0x9E3779B97F4A7C15, 0xD1B54A32D192ED03
"""Odd numbers from which the two hashes begin."""

PLAIN: Mapping[pa.DataType, pa.DataType] = {
    pa.string_view(): pa.large_string(), pa.binary_view(): pa.large_binary(), pa.null(): pa.string(),
}  # fmt: skip
"""Types that pyarrow takes no rows of, each with the one that stands for it."""

Words = NDArray[np.uint64]


def file_of(path: Path) -> pyarrow.parquet.ParquetFile:
    """Return a file of edges. Raises ValueError for one that lacks a column, or whose ids are no ids."""
    file = pyarrow.parquet.ParquetFile(path)
    if missing := set(ENDS) - set(file.schema_arrow.names):
        raise ValueError(f"{path}: no column {' and '.join(sorted(missing))}")
    if twice := [name for name in ENDS if file.schema_arrow.names.count(name) > 1]:
        raise ValueError(f"{path}: several columns {' and '.join(twice)}")
    kinds = [file.schema_arrow.field(name).type for name in ENDS]
    if kinds[0] != kinds[1]:
        raise ValueError(f"{path}: source is {kinds[0]} and target is {kinds[1]}")
    if not is_id(kind_of(file)):
        raise ValueError(f"{path}: source and target are {kinds[0]}; ids are whole numbers or texts")
    return file


def is_id(kind: pa.DataType) -> bool:
    """Whether values of a type can be ids."""
    tests = (pa.types.is_integer, pa.types.is_string, pa.types.is_large_string, pa.types.is_binary)
    return any(test(kind) for test in (*tests, pa.types.is_large_binary))


def kind_of(edges: Edges) -> pa.DataType:
    """Return the type of the ids."""
    schema = edges.schema if isinstance(edges, pa.Table) else edges.schema_arrow
    kind = schema.field("source").type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return PLAIN.get(kind, kind)


def numbered(edges: Edges) -> tuple[int, NDArray[np.int32]]:
    """Return the number of accounts, and the number of each end: those of all sources, and then of all targets.

    Accounts are numbered in the order in which they appear. Raises ValueError for an end that is missing.
    """
    rows = edges.num_rows if isinstance(edges, pa.Table) else edges.metadata.num_rows
    hashes = np.empty(2 * rows, np.uint64)
    done = 0
    for part in _ends(edges):
        if part.null_count:
            raise ValueError("an edge without source or target")
        hashes[done : done + len(part)] = hashed(part, SEED)
        done += len(part)
    first = np.empty(2 * rows, np.int32)
    parts = hashes >> np.uint64(64 - (PARTS - 1).bit_length())
    parts = parts.astype(np.uint8)
    for part in range(PARTS):
        places = np.flatnonzero(parts == part).astype(np.int32)
        _first_of_equal(hashes, places, first)
    del hashes, parts
    new = first == np.arange(2 * rows, dtype=np.int32)
    numbers = np.cumsum(new, dtype=np.int32)
    numbers -= 1
    return int(new.sum()), numbers[first]


def _first_of_equal(hashes: Words, places: NDArray[np.int32], first: NDArray[np.int32]) -> None:
    """Write to `first`, for each of these places, the first one of them that has the same hash."""
    if not len(places):
        return
    some = hashes[places]
    order = np.argsort(some)
    some, places = some[order], places[order]
    starts = np.flatnonzero(np.concatenate([[True], some[1:] != some[:-1]]))
    least = np.minimum.reduceat(places, starts)
    first[places] = np.repeat(least, np.diff(starts, append=len(places)))


def named(edges: Edges, source: NDArray[np.int32], target: NDArray[np.int32]) -> Iterator[pa.Array]:
    """Yield the ids of all accounts in the order of their numbers, some at a time.

    Raises ValueError when two different ids have the same number.
    """
    count, done, half = 0, 0, len(source)
    check = np.zeros(max(int(source.max(initial=-1)), int(target.max(initial=-1))) + 1, np.uint32)
    for part in _ends(edges):
        ends, start = (source, done) if done < half else (target, done - half)
        numbers = ends[start : start + len(part)]
        done += len(part)
        hashes = (hashed(part, CHECK) >> np.uint64(32)).astype(np.uint32)
        fresh = numbers >= count
        places = np.flatnonzero(fresh)
        _, firsts = np.unique(numbers[places], return_index=True)
        places = places[firsts]
        check[numbers[places]] = hashes[places]
        if (check[numbers] != hashes).any():
            raise ValueError("two ids have the same hash of 64 bits")
        if len(places):
            count += len(places)
            yield part.take(pa.array(places))


def _ends(edges: Edges) -> Iterator[pa.Array]:
    """Yield all sources, and then all targets, as whole numbers or texts."""
    kind = kind_of(edges)
    for name in ENDS:
        if isinstance(edges, pa.Table):
            batches = edges.select([name]).to_batches(AT_ONCE)
        else:
            batches = edges.iter_batches(AT_ONCE, columns=[name], use_threads=False)
        for batch in batches:
            yield batch.column(0).cast(kind)


def _mixed(words: Words) -> Words:
    """Return words whose every bit depends on all bits of the given one: a bijection (Steele, Lea and Flood, 2014)."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def hashed(values: pa.Array, seed: int = SEED) -> Words:
    """Return a hash of 64 bits of each id, a whole number or a text."""
    if pa.types.is_integer(values.type):
        return _mixed(values.to_numpy(zero_copy_only=False).astype(np.uint64) ^ np.uint64(seed))
    values = values.cast(pa.large_binary())
    _, offsets, data = values.buffers()
    ends = np.frombuffer(offsets, np.int64)[values.offset : values.offset + len(values) + 1] if offsets else np.zeros(1)
    letters = np.frombuffer(data, np.uint8) if data else np.zeros(0, np.uint8)
    lengths = np.diff(ends)
    hashes = np.empty(len(values), np.uint64)
    for length in np.unique(lengths).tolist():
        places = np.flatnonzero(lengths == length)
        whole = length * len(values) == ends[-1] - ends[0] and len(places) == len(values)
        if whole:
            rows = letters[ends[0] : ends[-1]].reshape(len(places), length)
        else:
            rows = letters[ends[places][:, None] + np.arange(length)]
        hashes[places] = _hash_of_rows(rows, seed)
    return hashes


def _hash_of_rows(rows: NDArray[np.uint8], seed: int) -> Words:
    """Return a hash of each row of letters. The length is mixed before the words: neither stands for the other."""
    count, length = rows.shape
    padded = np.zeros((count, -(-max(length, 1) // 8) * 8), np.uint8)
    padded[:, :length] = rows
    words = padded.view(np.uint64)
    hashes = _mixed(np.full(count, seed ^ length * CHECK % 2**64, np.uint64))
    for place in range(words.shape[1]):
        hashes = _mixed(hashes ^ words[:, place]) + np.uint64(seed)
    return hashes
