"""Failures of services: whether the same request may be sent again, how long to wait, and when to give up.

The hot path's client, boto3 and PynamoDB read errors here, so a failure that passes is the same failure on every path.
The slow path's time limits and every pause of the library are here too.
"""

import math
import random
from collections.abc import Collection
from http import HTTPStatus

from fraud.errors import HotKeyError, ServiceError, UnavailableError

CONNECT_S, READ_S, ATTEMPTS = 1, 3, 2
"""Time limits of a slow-path call: seconds to connect, seconds to read, attempts in all. A call that hangs must leave
the function time to report it.
"""

PASSING = frozenset(
    {
        # of DynamoDB and SageMaker's runtime
        "InternalDependencyException",
        "InternalFailure",
        "InternalServerError",
        "ModelNotReadyException",
        "ReplicatedWriteConflictException",
        "ServiceUnavailable",
        "TransactionConflictException",
        # of any service, as botocore's "standard" retries know them
        "BandwidthLimitExceeded",
        "EC2ThrottledException",
        "LimitExceededException",
        "PriorRequestNotComplete",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "RequestTimeout",
        "RequestTimeoutException",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
        "TransactionInProgressException",
    }
)
"""Error codes that pass: the same request may succeed a little later."""

PASSING_STATUSES = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS})
"""HTTP statuses that pass. Some servers send the first one on an idle connection before they close it."""


HOT_KEY, OF_A_KEY = "ProvisionedThroughputExceededException", "KeyRangeThroughputExceeded"
"""The code of a throttled key, and the end of DynamoDB's `ThrottlingReasons` that are about a key and not about the
whole table or account (DynamoDB API Reference, ThrottlingReason). Emulators give no reasons.
"""


def service_error(code: str, status: int, reasons: Collection[str] = ()) -> ServiceError:
    """Translate a service's error: UnavailableError when the same request may be sent again, else ServiceError.

    code     the service's own code of the error
    status   of the HTTP reply; 0 when it is not known
    reasons  why DynamoDB throttled the request, if it did and says so

    >>> type(service_error("ThrottlingException", 400)).__name__, type(service_error("AccessDenied", 403)).__name__
    ('UnavailableError', 'ServiceError')
    >>> type(service_error("ThrottlingException", 400, ["TableWriteKeyRangeThroughputExceeded"])).__name__
    'HotKeyError'
    """
    if any(reason.endswith(OF_A_KEY) for reason in reasons) or (code == HOT_KEY and not reasons):
        return HotKeyError(code)
    passes = code in PASSING or status in PASSING_STATUSES or status >= HTTPStatus.INTERNAL_SERVER_ERROR
    return UnavailableError(code) if passes else ServiceError(code)


def longest_pause_s(attempt: int, first_s: float, most_s: float = math.inf) -> float:
    """Return the most seconds of a pause after an attempt: `first_s` after attempt 0, doubled after each later one.

    >>> [longest_pause_s(attempt, 0.02, 0.1) for attempt in range(4)]
    [0.02, 0.04, 0.08, 0.1]
    """
    return min(first_s * 2.0**attempt, most_s)


def pause_s(attempt: int, first_s: float, most_s: float = math.inf) -> float:
    """Return a random pause of up to `longest_pause_s` seconds: callers that failed together must not return together.

    Full jitter: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """
    return random.uniform(0, longest_pause_s(attempt, first_s, most_s))  # noqa: S311 - jitter
