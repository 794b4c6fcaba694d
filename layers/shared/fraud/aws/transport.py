"""Requests to AWS and their results as values, and `Transport`, which sends some together.

`client.AwsClient` is the transport in production. A store or a worker is given one and knows no other; a test gives it
a table in memory.
"""

import base64
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from fraud.errors import ServiceError


class Request(NamedTuple):
    """One call: operation as in boto3 (`update_item`, `invoke_endpoint`), payload as there, values with their types."""

    operation: str
    payload: Mapping[str, Any]


class ConditionFailed(NamedTuple):
    """The condition did not hold; `item` is what was there, if the request asked for it."""

    item: Mapping[str, Any]


Response = Mapping[str, Any] | ConditionFailed
"""What the service answered, with binary values in base64 as JSON has them; of an endpoint, its `Body` in bytes."""


Result = Response | ServiceError


def all_or_raise(results: Iterable[Result]) -> list[Response]:
    """The answers, for who can do nothing without all of them. Raises the first error among them."""
    answers: list[Response] = []
    for result in results:
        if isinstance(result, ServiceError):
            raise result
        answers.append(result)
    return answers


def binary(content: bytes | str) -> bytes:
    """The content of a binary value: in base64 from JSON, as it is from whoever else may answer."""
    return base64.b64decode(content) if isinstance(content, str) else bytes(memoryview(content))


class Transport(Protocol):
    """Sends requests together and gathers their answers."""

    def gather(self, requests: Sequence[Request], until: float | None = None) -> list[Result]:
        """Answers in the order of the requests, and an error in the place of each that cannot be had.

        until  reading of `time.monotonic` after which it waits no longer; None: as long as its own patience lasts.
        """
