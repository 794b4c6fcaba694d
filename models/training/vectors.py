"""Feature vectors of many payments at once, by the one definition in `fraud.scoring.features`.

The functions of the definition run as they are, on columns instead of numbers. A condition that holds for some rows
only splits the rows: the function runs on each part by itself. Functions of `math` run number by number, because
numpy's own differ in the last bit.
"""

import math
import operator
from collections.abc import Callable, Mapping
from functools import partial
from types import FunctionType, ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fraud.counters.layout import RECEIVING
from fraud.scoring import features


class _SplitError(Exception):
    """A condition holds for some of the rows only."""

    def __init__(self, holds: NDArray[np.bool_]) -> None:
        super().__init__()
        self.holds = holds


class Column:
    """Numbers of several rows, which calculate and compare like one number."""

    __slots__ = ("values",)

    def __init__(self, values: NDArray[Any]) -> None:
        self.values = values

    def __bool__(self) -> bool:
        holds = self.values.astype(bool)
        if holds.all() or not holds.any():
            return bool(holds.all())
        raise _SplitError(holds)

    def __round__(self) -> "Column":
        return Column(np.rint(self.values))

    def map(self, function: Callable[[float], float]) -> "Column":
        """Return the function of each number."""
        return Column(np.fromiter(map(function, self.values.tolist()), float, len(self.values)))


def _operator(function: Callable[[Any, Any], Any], *, swapped: bool = False) -> Callable[[Column, Any], Column]:
    def apply(self: Column, other: Any) -> Column:  # noqa: ANN401 - a column or a number
        values = other.values if isinstance(other, Column) else other
        with np.errstate(all="ignore"):
            return Column(function(values, self.values) if swapped else function(self.values, values))

    return apply


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow"):
    setattr(Column, f"__{_name}__", _operator(getattr(operator, _name)))
    setattr(Column, f"__r{_name}__", _operator(getattr(operator, _name), swapped=True))
for _name in ("lt", "le", "gt", "ge", "eq", "ne"):
    setattr(Column, f"__{_name}__", _operator(getattr(operator, _name)))


class _Math:
    """The functions of `math` for numbers and columns."""

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - as of a module
        known = getattr(math, name)
        if not callable(known):
            return known

        def apply(number: Any) -> Any:  # noqa: ANN401 - a column or a number
            return number.map(known) if isinstance(number, Column) else known(number)

        return apply


def _float(number: Any) -> Any:  # noqa: ANN401 - a column or a number
    return Column(number.values.astype(float)) if isinstance(number, Column) else float(number)


def _on_columns(function: Callable[..., Any], known: dict[int, Any]) -> Callable[..., Any]:
    """Return the function with the same code, in which `math` and `float` take columns too, as all that it calls."""
    if isinstance(function, partial):
        return partial(_on_columns(function.func, known), *function.args, **function.keywords)
    home = function.__globals__
    if id(home) not in known:
        known[id(home)] = names = dict(home)
        names["float"] = _float
        for name, value in home.items():
            if isinstance(value, ModuleType) and value is math:
                names[name] = _Math()
            elif isinstance(value, FunctionType) and value.__module__.startswith("fraud."):
                names[name] = _on_columns(value, known)
    again = FunctionType(
        function.__code__, known[id(home)], function.__name__, function.__defaults__, function.__closure__
    )
    again.__kwdefaults__ = function.__kwdefaults__
    return again


_DEFINITION: dict[int, Any] = {}
FUNCTIONS: tuple[Callable[[features.Payment], Any], ...] = tuple(
    _on_columns(function, _DEFINITION) for _, function in features.FEATURES
)


class Paid(NamedTuple):
    """The fields that features read, of transactions of one type that name the same fields."""

    type: str
    amount: Any
    counted_amount: Any
    epoch: Any
    device_id: str | None
    attempt_of: str | None


NUMBERS = ("amount", "counted_amount", "epoch")
ALIKE = ("type", "device_id", "attempt_of")


def vectors(
    paid: Mapping[str, NDArray[Any]],
    counters: Mapping[str, NDArray[np.float64]],
    lifts: NDArray[np.float64] | None = None,
) -> NDArray[np.float32]:
    """Return the features of n payments, as `features.vector` returns them one by one: n x len(features.NAMES).

    paid      columns of Paid. `device_id` and `attempt_of` are true where the payment has one
    counters  columns of `windows.NAMES`
    lifts     n rows of `features.Lifts`; None: no account is marked
    """
    if lifts is None:
        lifts = np.zeros((len(paid["epoch"]), len(features.UNMARKED)))
    found = np.empty((len(features.NAMES), len(paid["epoch"])), np.float32)
    codes = np.zeros(len(paid["epoch"]), int)
    kinds = list(RECEIVING)
    for place, kind in enumerate(kinds):
        codes[paid["type"] == kind] = place * 4
    codes += paid["device_id"].astype(int) * 2 + paid["attempt_of"]
    for code in np.unique(codes).tolist():
        (rows,) = np.nonzero(codes == code)
        said = kinds[code // 4], "device" if code & 2 else None, "first" if code & 1 else None
        for place, function in enumerate(FUNCTIONS):
            _fill(found[place], function, rows, said, paid, counters, lifts)
    return found.T.copy()


class _Read(dict[str, Column]):
    """Counters of some rows, read when they are needed."""

    def __init__(self, counters: Mapping[str, NDArray[np.float64]], rows: NDArray[np.intp]) -> None:
        super().__init__()
        self._counters, self._rows = counters, rows

    def __missing__(self, name: str) -> Column:
        return Column(self._counters[name][self._rows])


def _fill(  # noqa: PLR0913, PLR0917 - one call of a feature
    found: NDArray[np.float32],
    function: Callable[[features.Payment], Any],
    rows: NDArray[np.intp],
    said: tuple[str, str | None, str | None],
    paid: Mapping[str, NDArray[Any]],
    counters: Mapping[str, NDArray[np.float64]],
    lifts: NDArray[np.float64],
) -> None:
    """Set the feature of some rows; of each part of them by itself where a condition divides them."""
    kind, device, first = said
    numbers = {name: Column(paid[name][rows]) for name in NUMBERS}
    transaction: Any = Paid(type=kind, device_id=device, attempt_of=first, **numbers)
    try:
        of_rows: Any = features.Lifts(*map(Column, lifts[rows].T))  # type: ignore[arg-type]
        value = function(features.Payment(transaction, _Read(counters, rows), RECEIVING[kind].name, of_rows))  # type: ignore[arg-type]
    except _SplitError as error:
        for part in (rows[error.holds], rows[~error.holds]):
            _fill(found, function, part, said, paid, counters, lifts)
        return
    found[rows] = value.values if isinstance(value, Column) else value
