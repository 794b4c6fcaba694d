"""The payments of a HISTORY_DIR as columns, checked as `Transaction` checks them.

Columns repeat their values. So every field checks each of its different values once, and `Transaction` itself checks
one row of each shape: of a type, with the same fields set. Its rules between fields depend on the shape only.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from numpy.typing import NDArray
from pydantic import ConfigDict, TypeAdapter

from fraud.errors import FraudError
from fraud.transaction import MAX_AGE, MAX_AHEAD, Transaction
from models.datasets import history
from models.datasets.history import HistoryError

AT_ONCE = 50_000
"""Payments that are in memory at one time."""

SECOND = 1_000_000
"""Microseconds."""

_TIME = pa.timestamp("us", "UTC")


class Coded(NamedTuple):
    """A column of any values. The value of a row is `values[codes[row]]`; the last value is None, of code -1."""

    codes: NDArray[np.int64]
    values: Sequence[Any]

    def objects(self) -> NDArray[np.object_]:
        """Return the values of all rows."""
        return np.array(self.values, object)[self.codes]


@dataclass(frozen=True)
class Payments:
    """Payments in order of arrival, as columns.

    fields       by name of `Transaction`'s fields, all but occurred_at and metadata; normalised as in a Transaction
    occurred_at  microseconds since the epoch
    arrived_at   microseconds since the epoch
    """

    table: pa.Table
    fields: Mapping[str, Coded]
    occurred_at: NDArray[np.int64]
    arrived_at: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.occurred_at)

    def transaction(self, row: int) -> Transaction:
        """Return the payment of a row. Raises ValidationError or FraudError when it is none."""
        (known,) = self.table.slice(row, 1).to_pylist()
        fields = {name: value for name, value in known.items() if value is not None and name != history.ARRIVED_AT}
        if isinstance(fields.get("metadata"), list):
            fields["metadata"] = dict(fields["metadata"])
        return Transaction.model_validate(fields)

    def field(self, name: str) -> Coded:
        """Return the column of a field by its name."""
        if name != "occurred_at":
            return self.fields[name]
        times, codes = np.unique(self.occurred_at, return_inverse=True)
        return Coded(codes, [*pa.array(times).cast(_TIME).to_pylist(), None])


def batches(directory: Path, first: int, end: int) -> Iterator[Payments]:
    """Yield the payments with first <= occurred_at < end, epoch seconds: those of `history.arrivals`, in its order.

    Raises HistoryError as it does.
    """
    path = directory / history.TRANSACTIONS
    late = history.lateness(directory)
    by = history.ARRIVED_AT if late else "occurred_at"
    try:
        latest = -(2**63)
        for batch in pyarrow.parquet.ParquetFile(path).iter_batches(AT_ONCE):
            table = pa.Table.from_batches([batch])
            arrived, occurred = (_micros(table[name]) for name in (by, "occurred_at"))
            over = np.flatnonzero(arrived - late // _MICROSECOND >= end * SECOND)[:1]
            until = int(over[0]) if len(over) else len(table)
            arrived, occurred = arrived[:until], occurred[:until]
            _require_order(arrived, occurred, latest)
            inside = (occurred >= first * SECOND) & (occurred < end * SECOND)
            if inside.any():
                chosen = table.slice(0, until).filter(pa.array(inside))
                yield _checked(Payments(chosen, _fields(chosen), occurred[inside], arrived[inside]))
            if len(over):
                return
            latest = int(arrived[-1]) if len(arrived) else latest
    except (ValueError, FraudError, pa.ArrowException) as error:
        for _ in history.arrivals(directory):  # says which row is wrong
            pass
        raise HistoryError(f"{path}: cannot be read: {' '.join(str(error).split())[:200]}") from error


_MICROSECOND = MAX_AGE.resolution


def _micros(column: pa.ChunkedArray) -> NDArray[np.int64]:
    """Return times in microseconds since the epoch."""
    if column.null_count or not pa.types.is_timestamp(column.type) or column.type.tz is None:
        raise ValueError("a time is missing")
    micros: NDArray[np.int64] = column.cast(_TIME, safe=False).cast(pa.int64()).to_numpy()
    return micros


def _require_order(arrived: NDArray[np.int64], occurred: NDArray[np.int64], latest: int) -> None:
    """Raise ValueError when rows are not in order of arrival, or far from their own time."""
    delay = arrived - occurred
    in_order = (np.diff(arrived, prepend=arrived[:1]) >= 0).all() and (arrived[:1] >= latest).all()
    if not in_order or (delay < -MAX_AHEAD // _MICROSECOND).any() or (delay > MAX_AGE // _MICROSECOND).any():
        raise ValueError("rows are out of order")


def _adapter(name: str) -> TypeAdapter[list[Any]]:
    """Return the check of a field by itself, as its model has it."""
    field = Transaction.model_fields[name]
    kind = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
    return TypeAdapter(list[kind], config=ConfigDict(strict=True))  # type: ignore[valid-type]


_ADAPTERS = {name: _adapter(name) for name in Transaction.model_fields if name != "occurred_at"}


def _fields(table: pa.Table) -> dict[str, Coded]:
    """Return the columns that are no time, with each value as its field has it; raise ValidationError for a wrong one.

    A column that is no field of a transaction, and `metadata`, only tell where they have a value.
    """
    nothing = np.full(len(table), -1)
    found = {name: Coded(nothing, [None]) for name in _ADAPTERS}
    for name in table.column_names:
        column = table[name].combine_chunks()
        if name in {"occurred_at", history.ARRIVED_AT} or column.null_count == len(column):
            continue
        if name not in _ADAPTERS or name == "metadata":
            if name == "metadata":
                _ADAPTERS[name].validate_python([dict(each) for each in column.drop_null().to_pylist()])
            found[name] = Coded(np.where(column.is_null().to_numpy(zero_copy_only=False), -1, 0), ["", None])
            continue
        encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
        codes = encoded.indices.cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False)
        found[name] = Coded(codes, [*_ADAPTERS[name].validate_python(encoded.dictionary.to_pylist()), None])
    return found


def _checked(payments: Payments) -> Payments:
    """Return the payments, of which one row of each shape is a transaction. Raises ValidationError or FraudError."""
    fields = payments.fields
    shape = fields["type"].codes + 1
    payer, payee, own, other = (
        fields[name].objects() for name in ("payer_id", "payee_id", "transaction_id", "attempt_of")
    )
    parts = [payer == payee, own == other]
    parts += [np.array([value is None for value in column.values])[column.codes] for column in fields.values()]
    for part in parts:
        shape = shape * 2 + part
    for row in np.unique(shape, return_index=True)[1].tolist():
        payments.transaction(row)
    return payments
