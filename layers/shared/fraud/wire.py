"""The transport of the hot path: send these DynamoDB requests together, gather their answers.

Here with boto3 in threads. A refused condition is an answer like any other, because the store expects it; what cannot
be answered after bounded retries becomes UnavailableError, and repeating the request is safe because every write is
idempotent.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Any, NamedTuple

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from fraud.errors import ServiceError, UnavailableError

PARALLEL = 8
"""Requests of one state step: up to four updates and a read, with room for the read's second half."""


class Request(NamedTuple):
    """One DynamoDB call: operation as in boto3 (`update_item`), payload with typed attribute values."""

    operation: str
    payload: Mapping[str, Any]


class Refused(NamedTuple):
    """The condition did not hold; `item` is what was there, if the request asked for it."""

    item: Mapping[str, Any]


PASSING = frozenset(
    {
        "InternalServerError",
        "LimitExceededException",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "ServiceUnavailable",
        "ThrottlingException",
        "TransactionConflictException",
    }
)
"""Errors that are gone when the same request comes a little later."""

Answer = Mapping[str, Any] | Refused


class BotoTransport:
    """boto3's client in as many threads as a step has requests; waits `patience` seconds for each answer."""

    def __init__(self, patience: float = 1) -> None:
        config = Config(
            connect_timeout=0.5,
            read_timeout=patience,
            max_pool_connections=PARALLEL,
            retries={"mode": "standard", "total_max_attempts": 3},
        )
        self._client = boto3.client("dynamodb", config=config)
        self._threads = ThreadPoolExecutor(PARALLEL)

    def gather(self, requests: Sequence[Request]) -> list[Answer]:
        """Answers in the order of the requests. Raises UnavailableError if one of them cannot be had."""
        if len(requests) == 1:
            return [self._send(requests[0])]
        return list(self._threads.map(self._send, requests))

    def _send(self, request: Request) -> Answer:
        try:
            return getattr(self._client, request.operation)(**request.payload)  # type: ignore[no-any-return]
        except ClientError as error:
            if error.response["Error"]["Code"] == "ConditionalCheckFailedException":
                return Refused(error.response.get("Item", {}))
            raise failure(error) from error
        except BotoCoreError as error:
            raise UnavailableError(type(error).__name__) from error


def failure(error: ClientError) -> ServiceError:
    """What an error of the service means to a caller: worth sending again, or not."""
    code = error.response["Error"]["Code"]
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)  # PynamoDB's errors come without
    passes = code in PASSING or status >= HTTPStatus.INTERNAL_SERVER_ERROR
    return UnavailableError(code) if passes else ServiceError(code)
