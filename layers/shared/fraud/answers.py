"""Asking DynamoDB, and taking its answers: whole, and as they should be, or an error that says what is wrong.

For `store` and `folding` alike. How an answer's rows look is `rows`' to know.
"""

import contextlib
import struct
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from fraud.errors import UnavailableError
from fraud.wire import Answer, Refused, Request, Result, answered

READ_ATTEMPTS = 4
"""How often keys that DynamoDB left unprocessed are asked for again."""

PAUSE_S = 0.01
"""Before they are asked for the first time; twice as long before each further time."""

MISSHAPEN = (AttributeError, LookupError, TypeError, ValueError, struct.error, zlib.error)
"""What taking an answer apart may raise that is not as this one writes it, or not as DynamoDB answers."""


class Transport(Protocol):
    """Sends requests together and gathers their answers."""

    def gather(self, requests: Sequence[Request], until: float | None = None) -> list[Result]:
        """Answers in the order of the requests, and an error in the place of each that cannot be had.

        until  reading of `time.monotonic` after which it waits no longer; None: as long as its own patience lasts.
        """


@contextlib.contextmanager
def understood() -> Iterator[None]:
    """Answers are taken apart in here. Raises UnavailableError for one that is not as it should be: what this asked for
    can be had another time, or from another server.
    """
    try:
        yield
    except MISSHAPEN as error:
        raise UnavailableError("MisshapenAnswer") from error


def completed(transport: Transport, answer: Answer, until: float | None = None) -> dict[str, list[Mapping[str, Any]]]:
    """All items of a BatchGetItem by table, asking again, with growing pauses, for what was left unprocessed.

    Raises UnavailableError when something is left in the end, or a pause would last beyond `until`, and for an answer
    that is none.
    """
    found: dict[str, list[Mapping[str, Any]]] = {}
    for attempt in range(READ_ATTEMPTS + 1):
        with understood():
            left = attributes_of(answer, "UnprocessedKeys")
            tables = attributes_of(answer, "Responses") if left else promised(answer, "Responses")
            for table, rows in tables.items():
                found.setdefault(table, []).extend(rows)
        if not left:
            return found
        pause = PAUSE_S * 2**attempt
        if attempt == READ_ATTEMPTS or (until is not None and time.monotonic() + pause >= until):
            break
        time.sleep(pause)
        (answer,) = answered(transport.gather([Request("batch_get_item", {"RequestItems": left})], until))
    raise UnavailableError("UnprocessedKeys")


def promised(answer: Answer, field: str) -> Any:  # noqa: ANN401 - an item, or rows by table
    """A field that every answer of its kind has. Raises TypeError or KeyError when it has not."""
    if isinstance(answer, Refused):
        raise TypeError(field)
    return answer[field]


def attributes_of(answer: Answer, field: str = "Attributes") -> Any:  # noqa: ANN401 - rows, or one of them
    """A field of an answer, empty where it has none; of a refused condition, the item that was there."""
    return answer.item if isinstance(answer, Refused) else answer.get(field, {})
