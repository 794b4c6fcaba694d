"""Counters and features of each payment from the tables of the SQL program, as `windows` and `features` have them."""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fraud.counters.layout import CLASSES, DAY, PAIR, PAYER, SCALES, Kind, least_of_class
from fraud.counters.windows import (
    ABSENT,
    DISTINCT,
    IDLE_CAP,
    MATURE_SIDES,
    MATURE_WINDOWS,
    MATURITY_DAYS,
    NAMES,
    OF_KIND,
    PAIR_WINDOWS,
)
from models.training import measures, sql
from models.training.vectors import vectors

Columns = Mapping[str, NDArray[Any]]

_DISTINCTS = np.array(DISTINCT)
_PLACES = {name: place for place, name in enumerate(NAMES)}


def counters(read: Callable[[str], Columns], payments: Columns, unit: int) -> NDArray[np.float64]:
    """Return every counter of each payment, as `windows.measure` returns them: len(NAMES) rows, a column a payment.

    read      returns the columns of a table of `sql.RESULTS` for these payments, in any order
    payments  columns n, e and kind of payments with consecutive numbers, in order
    unit      of the currency, in minor units
    """
    values = np.repeat(np.array([[ABSENT[name]] for name in NAMES], float), len(payments["n"]), axis=1)
    places = _Places(int(payments["n"][0]), values)
    for part, kinds in measures.ITEMS.items():
        columns = read(f"{part}_counted")
        closed = read(f"{part}_closed")
        for place, kind in enumerate(kinds):
            of_kind, closed_of_kind = (_of_kind(each, payments, place, len(kinds)) for each in (columns, closed))
            epoch = payments["e"][of_kind["n"] - places.first]
            put = partial(places.put, rows=of_kind["n"])
            (_put_pair if kind is PAIR else partial(_put_entity, kind))(of_kind, epoch, put)
            if kind is PAYER:
                _put_sizes(of_kind, unit, put)
            if kind in MATURE_SIDES:
                _put_mature(of_kind, put)
            if kind in OF_KIND:
                places.put(OF_KIND[kind].closed, 1, closed_of_kind["n"])
    columns = read("payer_device_counted")
    places.put("device_new", columns["uses"] == 1, columns["n"])
    for part, named in sql.FRAUDS.items():
        columns = read(f"{part}_known")
        for name in named:
            places.put(name, columns[name], columns["n"])
    return values


class _Places(NamedTuple):
    """Counters of payments with consecutive numbers from `first` on."""

    first: int
    values: NDArray[np.float64]

    def put(self, name: str, column: NDArray[Any] | float, rows: NDArray[np.int64]) -> None:
        """Set one counter of the payments with these numbers."""
        self.values[_PLACES[name], rows - self.first] = column


def _of_kind(columns: Columns, payments: Columns, place: int, kinds: int) -> Columns:
    """Return the rows of one of several kinds of receivers."""
    if kinds == 1:
        return columns
    chosen = payments["kind"][columns["n"] - payments["n"][0]] == place
    return {name: column[chosen] for name, column in columns.items()}


def _put_pair(columns: Columns, epoch: NDArray[np.int64], put: Callable[..., None]) -> None:
    """Put what `windows._measure_pair` sets."""
    for window in PAIR_WINDOWS:
        for what in ("count", "sum"):
            put(f"pair_{what}_{window}", columns[f"{what}_{window}"])
    put("pair_age_days", epoch // DAY - columns["first_day"])


def _put_entity(kind: Kind, columns: Columns, epoch: NDArray[np.int64], put: Callable[..., None]) -> None:
    """Put what `windows._measure_entity` sets."""
    names = OF_KIND[kind]
    for name in (name for pair in names.totals for name in pair):
        put(name, columns[name.removeprefix(f"{kind.name}_")])
    for name in names.distinct:
        put(name, _DISTINCTS[_filled(columns, name.rpartition("_")[2])])
    put(names.decayed, _decayed(columns["own_hour"], columns["whole"], columns["fraction"]))
    start, width = epoch // kind.period * kind.period, SCALES["s"]

    def seen(second: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the start of the bucket as the kind's items tell it: of 10 seconds in the payment's own item."""
        return np.where(second < start, second // 3600 * 3600, second // width * width)

    put(names.age, epoch - seen(columns["first_seen"]))
    last = columns["last_seen"]
    put(names.idle, np.where(last < 0, IDLE_CAP, np.minimum(epoch - seen(last), IDLE_CAP)))


def _put_sizes(columns: Columns, unit: int, put: Callable[..., None]) -> None:
    """Put what `windows._measure_sizes` sets."""
    for measured in ("log_sum_30d", "log_squares_30d"):
        put(f"payer_{measured}", columns[measured])
    least = np.array([0, *(least_of_class(number, unit) for number in range(CLASSES))])
    put("payer_largest_30d", least[columns["largest_30d"] + 1])


def _put_mature(columns: Columns, put: Callable[..., None]) -> None:
    """Put the payments of mature days."""

    def since(days: int) -> NDArray[np.int64]:
        return columns[f"count_{days}d"]

    for window, length in MATURE_WINDOWS.items():
        put(f"payee_mature_count_{window}", since(MATURITY_DAYS + length) - since(MATURITY_DAYS))


def _filled(columns: Columns, window: str) -> NDArray[np.int64]:
    """Return the number of bits of a window's bitmap."""
    parts = [column for name, column in columns.items() if name.startswith(f"filled_{window}_")]
    return np.sum(parts, axis=0, dtype=np.int64)


def _decayed(own: NDArray[np.int64], whole: NDArray[np.int64], fraction: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return own + whole + fraction / FRACTION, rounded once, as `math.fsum` rounds."""
    sums = (own + whole).astype(float)
    (rows,) = np.nonzero(fraction)
    half = 1 << 28
    parts = ((own + whole)[rows], fraction[rows] // half, fraction[rows] % half)
    exact = zip(*(part.tolist() for part in parts), strict=True)
    sums[rows] = [math.fsum((units, large / half, small / sql.FRACTION)) for units, large, small in exact]
    return sums


class Block(NamedTuple):
    """Counters (a row for each of NAMES) and feature vectors of payments with consecutive numbers."""

    counters: NDArray[np.float64]
    vectors: NDArray[np.float32]


def block(read: Callable[[str], Columns], unit: int, lifts: NDArray[np.float64] | None = None) -> Block:
    """Return counters and vectors of payments with consecutive numbers.

    read   returns the columns of a table for these payments, in any order
    unit   of the currency, in minor units
    lifts  of the marks that stood, a row of `features.Lifts` for each payment in order; None: no account is marked
    """
    paid = read("(SELECT n, e, kind, type, paid, amount, device IS NOT NULL AS device, attempt_of FROM payments)")
    order = np.argsort(paid["n"])
    paid = {name: column[order] for name, column in paid.items()}
    values = counters(read, paid, unit)
    columns = {
        "type": paid["type"], "amount": paid["paid"], "counted_amount": paid["amount"], "epoch": paid["e"],
        "device_id": paid["device"].astype(bool), "attempt_of": paid["attempt_of"].astype(bool),
    }  # fmt: skip
    return Block(values, vectors(columns, dict(zip(NAMES, values, strict=True)), lifts))
