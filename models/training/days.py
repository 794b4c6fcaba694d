"""The days of a dataset while they are made: rows come in order of arrival, and a day is written when it is whole."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fraud.counters.layout import DAY
from models.training.columns import COLUMNS, path_of, write_day

Arrays = Mapping[str, NDArray[Any]]


class Span(NamedTuple):
    """Epoch seconds: payments in [warmup, first) only fill the counters; payments in [first, end) become rows."""

    warmup: int
    first: int
    end: int


class Rows(NamedTuple):
    """Some rows of a dataset, of any of its days.

    arrays    `columns.COLUMNS` and counters of the rows; None: there are none
    payments  that were counted since the rows before
    within    those of them in the span, rows or not
    settled   epoch day before which no payment comes any more
    """

    arrays: Arrays | None
    payments: int
    within: int
    settled: int
    currency: str


class Days:
    """Writes the days of a span that are not there yet.

    payments  that were counted
    within    those of them in the span
    currency  of all; empty before the first payment
    """

    def __init__(self, out: Path, span: Span) -> None:
        self._out = out
        self._span = span
        self._wanted: dict[int, bool] = {}
        self._open: dict[int, list[Arrays]] = {}
        self.payments = self.within = 0
        self.currency = ""

    def within_span(self, day: int) -> bool:
        """Tell whether payments of an epoch day are rows of the dataset."""
        return self._span.first <= day * DAY < self._span.end

    def wants(self, day: int) -> bool:
        """Tell whether an epoch day is to be written."""
        if day not in self._wanted:
            self._wanted[day] = self.within_span(day) and not path_of(self._out, day).exists()
        return self._wanted[day]

    def add(self, rows: Rows) -> None:
        """Add rows of days that are wanted, and write the days of which no further row can come. Raises OSError."""
        self.payments += rows.payments
        self.within += rows.within
        self.currency = rows.currency
        for day, part in _by_day(rows.arrays) if rows.arrays is not None else ():
            self._open.setdefault(day, []).append(part)
        for day in [each for each in self._open if each < rows.settled]:
            self._write(day)

    def close(self) -> None:
        """Write the days that are left: no further row comes. Raises OSError."""
        for day in list(self._open):
            self._write(day)

    def _write(self, day: int) -> None:
        """Write the rows of a day with their counters, which reasons are told of."""
        parts = self._open.pop(day)
        write_day(self._out, day, {name: np.concatenate([part[name] for part in parts]) for name in KEPT})


KEPT = (*COLUMNS, "counters")


def _by_day(arrays: Arrays) -> Iterator[tuple[int, Arrays]]:
    days = arrays["occurred_at"] // DAY
    for day in np.unique(days).tolist():
        yield day, {name: arrays[name][days == day] for name in KEPT}
