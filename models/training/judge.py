"""What a policy's rules ask for, on columns of payments.

A rule sees most numbers only through comparisons with literals, so it cannot tell most payments apart. Each expression
of the policy is judged once for each class of payments that look the same to it, by `RuleBook.judge` as online.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fraud.counters import windows
from fraud.outcome import worst
from fraud.rules.expression import members
from fraud.rules.policy import STANDARD, Policy, Rule, Segment
from fraud.rules.rule_book import RuleBook
from models.training.recorded import Coded, Payments

Flags = NDArray[np.bool_]

_TEXT = re.compile(r""""[^"]*"|'[^']*'""")
_BEFORE = r"(?:^|\(|\?|:|&&|\|\|)\s*"
_AFTER = r"(?=\s*(?:$|\)|\?|:|&&|\|\|))"
_COMPARES, _NUMBER = r"\s*(?:[<>]=?|[=!]=)\s*", r"(?P<limit>-?\d+(?:\.\d+)?|null)"


def limits(expression: str, root: str, name: str) -> NDArray[np.float64] | None:
    """Return the numbers with which an expression compares a member, ascending; None if it does more with it.

    A comparison with null is not more.

    >>> limits("counters.x > 3 && (5.5 <= counters.x || has(features.x))", "counters", "x")
    array([3. , 5.5])
    >>> limits("transaction.device_id != null", "transaction", "device_id")
    array([], dtype=float64)
    >>> limits("counters.x * 10 > 3", "counters", "x"), limits("'a' in ['a'] && counters.x > 2 - 1", "counters", "x")
    (None, None)
    """
    bare = _TEXT.sub("''", expression)
    member = rf"(?<![\w.]){root}\s*\.\s*{name}\b"
    compared = [
        each
        for form in (f"{member}{_COMPARES}{_NUMBER}", f"{_NUMBER}{_COMPARES}{member}")
        for each in re.finditer(f"{_BEFORE}{form}{_AFTER}", bare)
    ]
    asked = re.findall(rf"\bhas\s*\(\s*{member}\s*\)", bare)
    if len(compared) + len(asked) < len(re.findall(member, bare)):
        return None
    return np.unique(np.array([float(each["limit"]) for each in compared if each["limit"] != "null"]))


class Inputs(NamedTuple):
    """The inputs of expressions as columns: what `rule_book.inputs` returns for each row.

    counters  by `windows.NAMES`
    features  by `features.NAMES`; NaN where missing
    standing  that of every row, or a column of it
    """

    transaction: Payments
    counters: Mapping[str, NDArray[np.float64]]
    features: Mapping[str, NDArray[np.float32]]
    standing: Mapping[str, Any]

    def codes(self, root: str, name: str, known: NDArray[np.float64] | None) -> NDArray[np.int64] | None:
        """Return a number for each row. Rows with equal numbers look the same to an expression; None: all do.

        known  of `limits`
        """
        if root == "standing":
            held = self.standing[name]
            return np.unique(held, return_inverse=True)[1] if isinstance(held, np.ndarray) else None
        if root != "transaction":
            return _classes((self.counters if root == "counters" else self.features)[name], known)
        column = self.transaction.field(name)
        if known is None:
            return column.codes
        values = [value if isinstance(value, int) else math.nan if value is None else 0 for value in column.values]
        return _classes(np.array(values), known)[column.codes]

    def row(self, row: int, read: Sequence[tuple[str, str]]) -> dict[str, dict[str, Any]]:
        """Return the inputs of one row: the members that are read."""
        found: dict[str, dict[str, Any]] = {}
        for root, name in read:
            value = self._value(root, name, row)
            if root != "features" or value == value:  # noqa: PLR0124 - a missing one is absent
                found.setdefault(root, {})[name] = value
        return found

    def _value(self, root: str, name: str, row: int) -> Any:  # noqa: ANN401 - as many types as members
        if root == "standing":
            held = self.standing[name]
            return held[row : row + 1].tolist()[0] if isinstance(held, np.ndarray) else held
        if root == "features":
            return float(self.features[name][row])
        if root == "counters":
            value = float(self.counters[name][row])
            return value if name in REAL else int(value)
        column: Coded = self.transaction.field(name)
        return column.values[column.codes[row]]


REAL = frozenset(name for name in windows.NAMES if "_distinct_" in name or "_decayed_" in name)
"""Counters that are no integers."""


def _classes(values: NDArray[Any], known: NDArray[np.float64] | None) -> NDArray[np.int64]:
    """Return the class of each number: its place between the limits, or on one of them; NaN is a class of its own.

    >>> _classes(np.array([1.0, 3.0, 4.0, np.nan]), np.array([3.0])).tolist()
    [0, 1, 2, 3]
    """
    if known is None:
        codes: NDArray[np.int64] = np.unique(values, return_inverse=True)[1]
        return codes
    places = np.searchsorted(known, values) + np.searchsorted(known, values, "right")
    return places + np.isnan(values)


class _Alone(NamedTuple):
    """One entry of a policy: a book that holds nothing else, and what its expression reads, with the limits."""

    book: RuleBook
    reads: tuple[tuple[str, str], ...]
    limits: tuple[NDArray[np.float64] | None, ...]

    @classmethod
    def of(cls, policy: Policy, entry: Rule | Segment) -> "_Alone":
        """Return the entry of the policy by itself. A rule alone may lack the other half of a protected limit."""
        rules = [entry.model_copy(update={"protected": False})] if isinstance(entry, Rule) else []
        segments = [entry] if isinstance(entry, Segment) else []
        book = RuleBook(policy.model_copy(update={"rules": rules, "segments": segments}), "")
        reads = tuple(sorted(members(entry.expression)))
        return cls(book, reads, tuple(limits(entry.expression, *member) for member in reads))

    def holds(self, inputs: Inputs) -> Flags:
        """Tell of each row whether the entry's expression holds."""
        classes = np.zeros(len(inputs.transaction), np.int64)
        for (root, name), known in zip(self.reads, self.limits, strict=True):
            codes = inputs.codes(root, name, known)
            if codes is not None:
                classes = np.unique(classes, return_inverse=True)[1] * (codes.max() + 2) + codes + 1
        _, rows, each = np.unique(classes, return_index=True, return_inverse=True)
        found = [self.book.judge(inputs.row(row, self.reads)) for row in rows.tolist()]
        return np.array([bool(one.hits) or one.segment is not STANDARD for one in found], bool)[each]


class Asked(NamedTuple):
    """Columns of a `Dataset`."""

    segment: NDArray[Any]
    asked: Flags
    rules: NDArray[np.int8]


class Judge:
    """A rule book that judges columns as it judges their rows one by one."""

    def __init__(self, rule_book: RuleBook) -> None:
        policy = rule_book.policy
        self._segments = [(_Alone.of(policy, segment), segment) for segment in policy.segments]
        self._rules = [(_Alone.of(policy, rule), rule.outcome.severity()) for rule in policy.rules]

    def judge(self, inputs: Inputs) -> Asked:
        """Return for each row its segment, whether that asks the model, and the severity of what the rules ask for."""
        number = len(inputs.transaction)
        segment = np.full(number, STANDARD.id, np.dtypes.StringDType())
        asked = np.full(number, STANDARD.model)
        for alone, entry in reversed(self._segments):
            holds = alone.holds(inputs)
            segment[holds], asked[holds] = entry.id, entry.model
        severity = np.full(number, worst([]).severity(), np.int8)
        for alone, asks in self._rules:
            np.maximum(severity, asks, out=severity, where=alone.holds(inputs))
        return Asked(segment, asked, severity)
