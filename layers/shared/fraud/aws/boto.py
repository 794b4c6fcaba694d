"""boto3 and PynamoDB off the hot path: clients with time limits, translated errors, and retries of lost races.

Queues, bus, archive and the tables that people write to are not timed by the payment app, so they talk through boto3
and PynamoDB. Nothing that the hot path imports may import this: boto3's first client costs 250 ms of CPU.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from fraud.aws.failures import ATTEMPTS, CONNECT_S, READ_S, pause_s, service_error
from fraud.errors import ServiceError, UnavailableError

TIMEOUTS = Config(
    connect_timeout=CONNECT_S, read_timeout=READ_S, retries={"mode": "standard", "total_max_attempts": ATTEMPTS}
)

CONFLICTS = 12
"""How often a change that met another writer is tried, each time with a new read. In each round at least one writer
succeeds.
"""

CONFLICT_PAUSE_S, LONGEST_CONFLICT_PAUSE_S = 0.02, 0.3

T = TypeVar("T")


def client(service: str) -> Any:  # noqa: ANN401 - boto3 has no types
    """Make a boto3 client of a service, with the slow path's time limits."""
    return boto3.client(service, config=TIMEOUTS)


@contextmanager
def translate_errors(*errors: type[Exception]) -> Iterator[None]:
    """Raise ServiceError or UnavailableError in place of botocore's errors.

    errors  error classes of a library on top of botocore (PynamoDB); their `cause` is botocore's error. The caller
            passes them, so that a caller without PynamoDB does not import it.
    """
    try:
        yield
    except (ClientError, BotoCoreError, *errors) as error:
        raise service_error_of(getattr(error, "cause", None) or error) from error


def retry_conflicts(change: Callable[[int], T], *errors: type[Exception]) -> T:
    """Return the result of a conditional change; read and try again while another writer was faster.

    change  reads and writes; its argument is the number of attempts before this one
    errors  as in `translate_errors`; an error with `cancellation_reasons` means that another writer was faster

    Raises UnavailableError when another writer was faster every time, and the errors of `translate_errors`.
    """
    for attempt in range(CONFLICTS):
        with translate_errors(*errors):
            try:
                return change(attempt)
            except errors as error:
                if not getattr(error, "cancellation_reasons", ()):
                    raise
        time.sleep(pause_s(attempt, CONFLICT_PAUSE_S, LONGEST_CONFLICT_PAUSE_S))
    raise UnavailableError("TransactionConflict")


def service_error_of(error: Exception) -> ServiceError:
    """Translate one of botocore's errors. An error without a service's response came from the network, so it passes.

    >>> service_error_of(ClientError({"Error": {"Code": "AccessDeniedException"}}, "GetItem"))
    ServiceError('AccessDeniedException')
    """
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)  # PynamoDB's errors come without
        return service_error(error.response["Error"]["Code"], status)
    return UnavailableError(type(error).__name__)
