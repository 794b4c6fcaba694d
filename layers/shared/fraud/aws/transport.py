"""Requests to AWS and their results as values, and `Transport`, which sends several together.

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
    """The write's condition did not hold. `item`: the stored item, if the request asked for it."""

    item: Mapping[str, Any]


Response = Mapping[str, Any] | ConditionFailed
"""A service's answer: fields by name, binary values in base64 as in JSON; of an endpoint, its `Body` in bytes."""

Result = Response | ServiceError
"""One request's response, or the error in its place."""


def all_or_raise(results: Iterable[Result]) -> list[Response]:
    """Return the responses when every request has one. Raises the first error among the results.

    A failed condition is a response, not an error.

    >>> all_or_raise([{"Item": {}}, ConditionFailed({"pk": {"S": "a"}})])
    [{'Item': {}}, ConditionFailed(item={'pk': {'S': 'a'}})]
    """
    responses: list[Response] = []
    for result in results:
        if isinstance(result, ServiceError):
            raise result
        responses.append(result)
    return responses


def binary(content: bytes | str) -> bytes:
    """Return the bytes of a binary value: base64 text from JSON, or bytes from a transport that decodes.

    >>> binary("aGk="), binary(b"hi")
    (b'hi', b'hi')
    """
    return base64.b64decode(content) if isinstance(content, str) else bytes(memoryview(content))


class Transport(Protocol):
    """Sends requests together and gathers their results."""

    def gather(self, requests: Sequence[Request], until: float | None = None) -> list[Result]:
        """Return results in the order of the requests: a response, or the error in its place.

        until  reading of `time.monotonic` after which the transport waits no longer; None: the transport's own limit
        """
