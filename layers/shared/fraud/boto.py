"""What every path but the hot one shares: boto3's clients with their patience, and one reading of its errors.

Queues, bus, archive and the tables that people write to are not timed by the payment app, so they talk through boto3
and PynamoDB. What the hot path imports must not import this.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from fraud import wire
from fraud.errors import ServiceError, UnavailableError

PATIENCE = Config(connect_timeout=1, read_timeout=3, retries={"mode": "standard", "total_max_attempts": 2})
"""A call that hangs must leave the function time to say so."""


def client(service: str) -> Any:  # noqa: ANN401 - boto3 has no types
    """A client of a service."""
    return boto3.client(service, config=PATIENCE)


@contextmanager
def translated(*errors: type[Exception]) -> Iterator[None]:
    """Raises ServiceError or UnavailableError in place of botocore's errors.

    errors  those of a library on top of botocore, PynamoDB, which keep what happened as their `cause`; given by whom
            it concerns, so that nobody else imports it
    """
    try:
        yield
    except (ClientError, BotoCoreError, *errors) as error:
        raise failure(getattr(error, "cause", None) or error) from error


def failure(error: Exception) -> ServiceError:
    """What an error means to a caller: worth sending again, or not. What is no service's word is the network's."""
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)  # PynamoDB's errors come without
        return wire.failure(error.response["Error"]["Code"], status)
    return UnavailableError(type(error).__name__)
