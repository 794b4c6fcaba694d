"""What every path but the hot one shares: boto3's clients with their patience, and one reading of its errors.

Queues, bus, archive and the tables that people write to are not timed by the payment app, so they talk through boto3
and PynamoDB. What the hot path imports must not import this.
"""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from fraud.aws import client as wire
from fraud.errors import ServiceError, UnavailableError

TIMEOUTS = Config(connect_timeout=1, read_timeout=3, retries={"mode": "standard", "total_max_attempts": 2})
"""A call that hangs must leave the function time to say so."""

ATTEMPTS = 12
"""How often a change that met another one is read and tried again: each round lets at least one of them pass."""

T = TypeVar("T")


def client(service: str) -> Any:  # noqa: ANN401 - boto3 has no types
    """A client of a service."""
    return boto3.client(service, config=TIMEOUTS)


@contextmanager
def translate_errors(*errors: type[Exception]) -> Iterator[None]:
    """Raises ServiceError or UnavailableError in place of botocore's errors.

    errors  those of a library on top of botocore, PynamoDB, which keep what happened as their `cause`; given by whom
            it concerns, so that nobody else imports it
    """
    try:
        yield
    except (ClientError, BotoCoreError, *errors) as error:
        raise service_error_of(getattr(error, "cause", None) or error) from error


def retry_conflicts(change: Callable[[int], T], *errors: type[Exception]) -> T:
    """What comes of a change that is written only if nobody else wrote since it was read, done again when somebody did.

    change  reads and writes; it is told how often it was done before
    errors  as in `translate_errors`; one with `cancellation_reasons` was another writer

    Raises UnavailableError when it met another writer each time.
    """
    for attempt in range(ATTEMPTS):
        with translate_errors(*errors):
            try:
                return change(attempt)
            except errors as error:
                if not getattr(error, "cancellation_reasons", ()):
                    raise
        time.sleep(random.uniform(0, min(0.02 * 2**attempt, 0.3)))  # noqa: S311 - jitter
    raise UnavailableError("TransactionConflict")


def service_error_of(error: Exception) -> ServiceError:
    """What an error means to a caller: worth sending again, or not. What is no service's word is the network's."""
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)  # PynamoDB's errors come without
        return wire.service_error(error.response["Error"]["Code"], status)
    return UnavailableError(type(error).__name__)
