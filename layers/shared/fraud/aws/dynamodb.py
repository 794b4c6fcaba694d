"""DynamoDB on the hot path: build reads, complete their responses, and turn a malformed response into an error.

Every store and worker on the hot path's own client uses it. It knows keys and calls; `counters.codec` and the stores
know the rows.
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
"""Most keys of one BatchGetItem."""

READ_ATTEMPTS = 4
"""How often unprocessed keys are requested again."""

PAUSE_S = 0.01
"""Longest pause before unprocessed keys are requested again; it doubles before each further request."""


MALFORMED = (AttributeError, LookupError, RecursionError, TypeError, ValueError, struct.error, zlib.error)
"""Errors of reading a response that DynamoDB would not send, or a row that the library would not write."""

T = TypeVar("T")


def typed_key(*key: str) -> dict[str, dict[str, str]]:
    """Return a key as DynamoDB takes it: `pk`, or `pk` and `sk`.

    >>> typed_key("payer#a", "d20516")
    {'pk': {'S': 'payer#a'}, 'sk': {'S': 'd20516'}}
    """
    return {name: {"S": part} for name, part in zip(("pk", "sk"), key, strict=False)}


def split_by_call(keys: Sequence[T]) -> list[Sequence[T]]:
    """Split keys, or anything that needs one key each, into one part for each BatchGetItem that they need.

    >>> [len(part) for part in split_by_call(range(250))]
    [100, 100, 50]
    """
    return [keys[start : start + KEYS_PER_READ] for start in range(0, len(keys), KEYS_PER_READ)]


def batch_read(tables: Mapping[str, Mapping[str, Any]]) -> Request:
    """Build one BatchGetItem.

    tables  by table name: the `Keys` to read, and options such as `ConsistentRead`
    """
    return Request("batch_get_item", {"RequestItems": tables})


Rows = dict[str, list[Mapping[str, Any]]]
"""Items by table."""


def read_all(transport: Transport, answer: Response, until: float | None = None) -> Rows:
    """Return all items of a BatchGetItem. Raises what `read_some` raises, and UnavailableError when a key is left."""
    found, left = read_some(transport, answer, until)
    if left:
        raise UnavailableError("UnprocessedKeys")
    return found


def read_some(transport: Transport, answer: Response, until: float | None = None) -> tuple[Rows, Mapping[str, Any]]:
    """Return the items of a BatchGetItem, and the keys that stay unprocessed: those of a partition that is too hot.

    Unprocessed keys are requested again, with growing random pauses, and no longer when a pause could last beyond
    `until`, a reading of `time.monotonic`. They are returned as DynamoDB does, by table.

    Raises UnavailableError for a malformed response, and the error of a request.
    """
    found: Rows = {}
    for attempt in range(READ_ATTEMPTS + 1):
        with malformed_as_unavailable():
            left = optional_field(answer, "UnprocessedKeys")
            tables = optional_field(answer, "Responses") if left else required_field(answer, "Responses")
            for table, rows in tables.items():
                found.setdefault(table, []).extend(rows)
        longest = longest_pause_s(attempt, PAUSE_S)
        out_of_time = until is not None and time.monotonic() + longest >= until
        if not left or attempt == READ_ATTEMPTS or out_of_time:
            break
        time.sleep(pause_s(attempt, PAUSE_S))
        (answer,) = all_or_raise(transport.gather([batch_read(left)], until))
    return found, left


@contextlib.contextmanager
def malformed_as_unavailable() -> Iterator[None]:
    """Raise UnavailableError in place of the errors of reading a malformed response (MALFORMED).

    It is an error that passes: at another time, or from another server, the same request may get a sound response.

    >>> with malformed_as_unavailable():
    ...     {}["Attributes"]
    Traceback (most recent call last):
    fraud.errors.UnavailableError: MisshapenAnswer
    """
    try:
        yield
    except MALFORMED as error:
        raise UnavailableError("MisshapenAnswer") from error


def required_field(answer: Response, field: str) -> Any:  # noqa: ANN401 - an item, or rows by table
    """Return a field that every response of its kind has. Raises TypeError or KeyError when it is missing."""
    if isinstance(answer, ConditionFailed):
        raise TypeError(field)
    return answer[field]


def optional_field(answer: Response, field: str) -> Any:  # noqa: ANN401 - rows, or one of them
    """Return a field that a response may lack, or an empty one. A failed condition has no fields: its item is not one.

    >>> optional_field({"Item": {"pk": {"S": "a"}}}, "Item"), optional_field({}, "Item")
    ({'pk': {'S': 'a'}}, {})
    """
    return {} if isinstance(answer, ConditionFailed) else answer.get(field, {})
