"""Event patterns: the language in which EventBridge rules and Lambda's filter criteria say which events they want.

A pattern is the shape of an event with a list of alternatives at each leaf: values, or operators such as
`{"prefix": "a"}`. Every field of the pattern must match; fields that the pattern does not name are ignored.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from local.account.stack import UnsupportedError

Pattern = Mapping[str, Any]

ABSENT = object()

COMPARISONS: Mapping[str, Callable[[float, float], bool]] = {
    "=": lambda value, bound: value == bound,
    "<": lambda value, bound: value < bound,
    "<=": lambda value, bound: value <= bound,
    ">": lambda value, bound: value > bound,
    ">=": lambda value, bound: value >= bound,
}


def matches(pattern: Pattern, event: Any) -> bool:  # noqa: ANN401 - JSON
    """Tell whether an event matches a pattern. Raises UnsupportedError for an operator that the box does not know.

    >>> matches({"eventName": ["INSERT"], "n": [{"numeric": [">", 3]}]}, {"eventName": "INSERT", "n": 4, "more": 1})
    True
    """
    return all(_field(name, wanted, event) for name, wanted in pattern.items())


def _field(name: str, wanted: Any, event: Any) -> bool:  # noqa: ANN401
    if name == "$or":
        return any(matches(alternative, event) for alternative in wanted)
    value = event.get(name, ABSENT) if isinstance(event, Mapping) else ABSENT
    if isinstance(wanted, Mapping):
        values = value if isinstance(value, list) else [value]
        return any(matches(wanted, {} if one is ABSENT else one) for one in values)
    values = value if isinstance(value, list) else [value]
    return any(_leaf(alternative, one) for alternative in wanted for one in values)


def _leaf(wanted: Any, value: Any) -> bool:  # noqa: ANN401
    if not isinstance(wanted, Mapping):
        return type(wanted) is type(value) and bool(wanted == value)
    ((operator, operand),) = wanted.items()
    match operator:
        case "exists":
            return (value is not ABSENT) is operand
        case "anything-but":
            unwanted = operand if isinstance(operand, list) else [operand]
            return value is not ABSENT and not any(_leaf(one, value) for one in unwanted)
        case "prefix" | "suffix" | "equals-ignore-case":
            return isinstance(value, str) and _text(operator, operand, value)
        case "numeric":
            return isinstance(value, int | float) and not isinstance(value, bool) and _within(operand, value)
    raise UnsupportedError(f"event pattern with {operator!r}")


def _text(operator: str, operand: str, value: str) -> bool:
    if operator == "equals-ignore-case":
        return value.casefold() == operand.casefold()
    return value.startswith(operand) if operator == "prefix" else value.endswith(operand)


def _within(bounds: Sequence[Any], value: float) -> bool:
    return all(COMPARISONS[sign](value, bound) for sign, bound in zip(bounds[::2], bounds[1::2], strict=True))
