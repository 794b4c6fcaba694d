"""The language of a policy's expressions: the part of CEL in which no expression can stall or read an unknown name.

An expression reads `transaction`, `counters`, `features` and `standing` (account status and deny entries of all
parties). `compiled` refuses what could fail or stall later: unknown names, functions that are not listed here, results
that are not true or false, loops, and lists anywhere but after `in`. `matches` runs on RE2 (D-069).
"""

import itertools
import random
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

import cel

from fraud.counters import windows
from fraud.errors import UndecidableError
from fraud.rules.standing import STANDING
from fraud.scoring import features
from fraud.transaction import MAX_AMOUNT, Transaction

MEMBERS: dict[str, frozenset[str]] = {
    "transaction": frozenset(Transaction.model_fields) - {"metadata"},
    "counters": frozenset(windows.NAMES),
    "features": frozenset(features.NAMES),
    "standing": frozenset(STANDING),
}
"""The names that an expression may read, by their root: `counters.payer_count_1m`."""

MAX_LENGTH = 500
MAX_NESTING = 12

PATTERN_SIZE = 1_000
"""Most RE2 instructions of all calls of `matches` in a policy. A search takes at most time in proportion to them."""

PATTERN_MEMORY = 262_144
"""Bytes that RE2 may use for one pattern, the states that it keeps between searches included."""

OPERATORS = {
    "_==_",
    "_!=_",
    "_<_",
    "_<=_",
    "_>_",
    "_>=_",
    "_&&_",
    "_||_",
    "!_",
    "-_",
    "_+_",
    "_-_",
    "_*_",
    "_/_",
    "_%_",
}
FUNCTIONS = OPERATORS | {"_?_:_", "@in", "size", "startsWith", "endsWith", "contains", "matches"}
FUNCTIONS |= {"int", "double", "string", "getHours", "getDayOfWeek"}
"""Operators and functions that an expression may call. Loops (exists, map, ...) are not among them.

The engine expands loops before it lists the functions of an expression, so calls are also looked up in the text.
"""

FOUND = "found"
"""The name by which a compiled expression calls `Patterns.found`. No expression may use it, as it is not in FUNCTIONS.

A function of ours could not take the engine's own name: the engine calls its own `matches` all the same.
"""

_TEXT = r""""[^"]*"|'[^']*'"""
_LITERAL = re.compile(_TEXT)
_CALL = re.compile(r"(\w+)\s*\(")
_MEMBER = re.compile(rf"(?<![\w.])({'|'.join(MEMBERS)})\b(?:\s*\.\s*(\w+))?")
_LIST = re.compile(r"\bin[\s(]*\[")
_MATCHES = re.compile(
    rf"{_TEXT}|\b(?P<field>transaction\s*\.\s*(?P<name>\w+))\s*\.\s*matches\s*\(\s*(?P<pattern>{_TEXT})\s*\)"
)


class Patterns:
    """The regular expressions of one policy, compiled by RE2 when the policy is loaded.

    RE2 searches in time that is linear in the text, and in bounded memory, whatever the pattern is.
    """

    def __init__(self) -> None:
        self._compiled: dict[str, Any] = {}
        self._size = 0

    def add(self, pattern: str) -> None:
        """Compile the pattern of one call. Raises ValueError when it is no pattern or the policy's become too large.

        >>> patterns = Patterns()
        >>> patterns.add("(?i)casino|lottery")
        >>> patterns.found("Grand Casino", "(?i)casino|lottery")
        True
        >>> patterns.add("casino(")
        Traceback (most recent call last):
        ValueError: pattern 'casino(': missing ): casino(
        """
        import re2  # noqa: PLC0415 - loading it takes 4 ms of CPU, which a policy without patterns does not pay

        options = re2.Options()
        options.max_mem = PATTERN_MEMORY
        options.never_capture = True
        options.log_errors = False
        try:
            found = self._compiled[pattern] = re2.compile(pattern, options)
        except re2.error as error:
            raise ValueError(f"pattern {pattern!r}: {error.args[0].decode(errors='replace')}") from None
        # A search also runs backwards, to find where a match begins. Asking for the size compiles that program too.
        self._size += max(found.programsize, found.reverseprogramsize)
        if self._size > PATTERN_SIZE:
            raise ValueError(f"pattern {pattern!r}: the policy's patterns take more than {PATTERN_SIZE} instructions")

    def found(self, text: str, pattern: str) -> bool:
        """Tell whether a pattern that was added is found anywhere in the text."""
        return self._compiled[pattern].search(text) is not None

    def functions(self) -> dict[str, Callable[[str, str], bool]]:
        """Return the functions that a CEL context needs to execute the expressions of the policy."""
        return {FOUND: self.found} if self._compiled else {}


def compiled(name: str, expression: str, patterns: Patterns) -> cel.Program:
    """Parse and check an expression. Add its patterns to those of the policy.

    Raises UndecidableError with the name of the expression and with what is wrong.

    >>> compiled("large", "transaction.amonut > 1000", Patterns())
    Traceback (most recent call last):
    fraud.errors.UndecidableError: large: unknown: transaction.amonut
    """
    try:
        _check_bounds(expression)
        program = cel.compile(expression)
        read = members(expression)
        _check_names(read, {*program.functions(), *_CALL.findall(_bare(expression))}, program.variables())
        _check_lists(expression)
        if "matches" in program.functions():
            program = _on_re2(expression, patterns)
        for sample in examples(read, (0, 1, MAX_AMOUNT, None, None, None)):
            if not isinstance(program.execute(cel.Context(sample, patterns.functions())), bool):
                raise ValueError("the result is not true or false")  # noqa: TRY004 - one kind of error for the author
    except Exception as error:  # noqa: BLE001 - the engine raises many kinds; the author needs one
        raise UndecidableError(f"{name}: {error}") from None
    return program


def members(expression: str) -> set[tuple[str, str]]:
    """Return (root, member) for every name that an expression reads. The member of a root that stands alone is empty.

    >>> sorted(members("counters.payer_count_1m > 3 && transaction.payer_id != 'counters.other'"))
    [('counters', 'payer_count_1m'), ('transaction', 'payer_id')]
    """
    return set(_MEMBER.findall(_bare(expression)))


def in_order(expression: str) -> tuple[str, ...]:
    """Return the names that an expression reads as they stand in it, each once.

    >>> in_order("transaction.amount > 3 && counters.payer_count_1m > 3 && transaction.amount < 9")
    ('transaction.amount', 'counters.payer_count_1m')
    """
    return tuple(dict.fromkeys(f"{root}.{name}" for root, name in _MEMBER.findall(_bare(expression))))


def _bare(expression: str) -> str:
    """Return the expression with every string literal emptied, so that only code is left."""
    return _LITERAL.sub("''", expression)


def _check_bounds(expression: str) -> None:
    depths = itertools.accumulate((char in "([") - (char in ")]") for char in _bare(expression))
    if len(expression) > MAX_LENGTH:
        raise ValueError(f"longer than {MAX_LENGTH} characters")
    if any(sign in expression for sign in ("\\", "'''", '"""')) or "//" in _bare(expression):
        raise ValueError("backslashes, triple quotes and comments would hide names from the checks")
    if max(depths, default=0) > MAX_NESTING:
        raise ValueError(f"nested deeper than {MAX_NESTING}")


def _check_names(read: set[tuple[str, str]], calls: set[str], variables: Iterable[str]) -> None:
    unknown = {f"{root}.{name}" for root, name in read if name not in MEMBERS[root]}
    unknown |= {name for name in variables if name not in MEMBERS}
    unknown |= calls - FUNCTIONS - {"has", "in"}
    if unknown:
        raise ValueError(f"unknown: {', '.join(sorted(unknown))}")


def _check_lists(expression: str) -> None:
    """Refuse lists that could be added to each other: the engine copies both, so a sum of n lists costs n * n."""
    bare = _bare(expression)
    if "[" in _LIST.sub("", bare) or "{" in bare:
        raise ValueError("a list stands directly after `in`, and there are no maps")


def _on_re2(expression: str, patterns: Patterns) -> cel.Program:
    """Compile an expression so that each call of `matches` is a call of `patterns.found`.

    Raises ValueError when a call is left: the engine's own `matches` compiles its pattern for every payment.
    """

    def search(call: re.Match[str]) -> str:
        field, pattern = call["field"], call["pattern"]
        if pattern is None:
            return call[0]
        if not isinstance(_example("transaction", call["name"], "p2p", 1), str):
            raise ValueError(f"matches searches text, which transaction.{call['name']} is not")  # noqa: TRY004
        patterns.add(pattern[1:-1])
        # A field that is null fails in the engine's startsWith. The engine would log an error of our function.
        return f"({field}.startsWith('') ? {field}.{FOUND}({pattern}) : false)"

    program = cel.compile(_MATCHES.sub(search, expression))
    if "matches" in program.functions():
        raise ValueError("matches searches a field for one text literal: transaction.payer_name.matches('...')")
    return program


def examples(read: Iterable[tuple[str, str]], numbers: Iterable[int | None]) -> Iterator[dict[str, dict[str, Any]]]:
    """Yield example inputs for an expression that reads these names: for every transaction type and every number.

    numbers  what each number of an example is; None: low, high and mixed ones
    """
    rng = random.Random(0)  # noqa: S311 - examples, not secrets
    for kind, busy in itertools.product(("p2p", "merchant", "cash_out", "top_up"), numbers):
        sample: dict[str, dict[str, Any]] = {root: {} for root in MEMBERS}
        for root, name in sorted(read):
            number = rng.choice((0, 1, MAX_AMOUNT)) if busy is None else busy
            sample[root][name] = _example(root, name, kind, number)
        yield sample


def _example(root: str, name: str, kind: str, number: int) -> Any:  # noqa: ANN401 - as many types as members
    if root == "transaction":
        known = {"type": kind, "amount": number, "currency": "JPY", "occurred_at": datetime(2026, 1, 1, tzinfo=UTC)}
        return known.get(name, "x")
    if root == "standing":
        return _standing_example(name, number)
    return float(number) if root == "features" or _is_real(name) else number


def _standing_example(name: str, number: int) -> str | float | bool:
    if name.endswith("_lift"):
        return float(number)
    return {"status": "active", "mark": "x"}.get(name.rpartition("_")[2], bool(number))


def _is_real(counter: str) -> bool:
    return "_distinct_" in counter or "_decayed_" in counter
