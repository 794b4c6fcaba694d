"""Asking DynamoDB on the hot path, and taking its answers: whole, and as they should be, or an error that says what is
wrong.

What `store` and `folding` share. How an answer's rows look is `rows`' to know.
"""

import contextlib
import struct
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from fraud.aws.failures import longest_pause_s, pause_s
from fraud.aws.transport import ConditionFailed, Request, Response, Transport, all_or_raise
from fraud.errors import UnavailableError

KEYS_PER_READ = 100
"""What BatchGetItem takes."""

READ_ATTEMPTS = 4
"""How often keys that DynamoDB left unprocessed are asked for again."""

PAUSE_S = 0.01
"""Longest pause before they are asked for the first time; it doubles before each further time."""


MALFORMED = (AttributeError, LookupError, RecursionError, TypeError, ValueError, struct.error, zlib.error)
"""What taking an answer apart may raise that is not as this one writes it, or not as DynamoDB answers."""

T = TypeVar("T")


def typed_key(*key: str) -> dict[str, dict[str, str]]:
    """A key as DynamoDB takes it: `pk`, or `pk` and `sk`."""
    return {name: {"S": part} for name, part in zip(("pk", "sk"), key, strict=False)}


def split_by_call(keys: Sequence[T]) -> list[Sequence[T]]:
    """Keys, or what has one each, in as many parts as they take calls."""
    return [keys[start : start + KEYS_PER_READ] for start in range(0, len(keys), KEYS_PER_READ)]


def batch_read(tables: Mapping[str, Mapping[str, Any]]) -> Request:
    """One BatchGetItem: by table its `Keys`, and how they are read."""
    return Request("batch_get_item", {"RequestItems": tables})


def read_all(transport: Transport, answer: Response, until: float | None = None) -> dict[str, list[Mapping[str, Any]]]:
    """All items of a BatchGetItem by table, asking again, with growing pauses, for what was left unprocessed.

    Raises UnavailableError when something is left in the end, or a pause would last beyond `until`, and for an answer
    that is none.
    """
    found: dict[str, list[Mapping[str, Any]]] = {}
    for attempt in range(READ_ATTEMPTS + 1):
        with malformed_as_unavailable():
            left = optional_field(answer, "UnprocessedKeys")
            tables = optional_field(answer, "Responses") if left else required_field(answer, "Responses")
            for table, rows in tables.items():
                found.setdefault(table, []).extend(rows)
        if not left:
            return found
        longest = longest_pause_s(attempt, PAUSE_S)
        if attempt == READ_ATTEMPTS or (until is not None and time.monotonic() + longest >= until):
            break
        time.sleep(pause_s(attempt, PAUSE_S))
        (answer,) = all_or_raise(transport.gather([batch_read(left)], until))
    raise UnavailableError("UnprocessedKeys")


@contextlib.contextmanager
def malformed_as_unavailable() -> Iterator[None]:
    """Answers are taken apart in here. Raises UnavailableError for one that is not as it should be: what this asked for
    can be had another time, or from another server.
    """
    try:
        yield
    except MALFORMED as error:
        raise UnavailableError("MisshapenAnswer") from error


def required_field(answer: Response, field: str) -> Any:  # noqa: ANN401 - an item, or rows by table
    """A field that every answer of its kind has. Raises TypeError or KeyError when it has not."""
    if isinstance(answer, ConditionFailed):
        raise TypeError(field)
    return answer[field]


def optional_field(answer: Response, field: str) -> Any:  # noqa: ANN401 - rows, or one of them
    """A field that an answer may lack, empty then. A refusal has none: its item is no field's content."""
    return {} if isinstance(answer, ConditionFailed) else answer.get(field, {})
