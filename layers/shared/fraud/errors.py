"""Exceptions of the library, and the HTTP response to each (RFC 9457, problem details).

A fault names a field and the rule that it broke, never the value: people who must not see the value may read responses
and logs.
"""

from dataclasses import dataclass
from typing import ClassVar

from pydantic import BaseModel


@dataclass(frozen=True)
class Fault:
    """One broken rule: `field` is a dotted path (`body` for the whole), `rule` a stable name, `message` for people."""

    field: str
    rule: str
    message: str


class Fallback(BaseModel):
    """The outcome that a caller may follow for a payment whose decision may not be stored.

    The decision may be stored all the same. Then the same request, sent again, is answered with the stored decision.
    """

    outcome: str
    policy_version: str


class Problem(BaseModel):
    """The response to a request that failed (RFC 9457): every faulty field and rule at once, never a value."""

    type: str = "about:blank"
    title: str
    status: int
    errors: list[Fault] = []
    fallback: Fallback | None = None


class FraudError(Exception):
    """Root of all exceptions that the library raises on purpose. `status` and `title` are those of the response."""

    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"
    faults: tuple[Fault, ...] = ()
    fallback: Fallback | None = None


class InvalidRequestError(FraudError):
    """The request breaks one or more rules; `faults` lists all of them. Retrying the same bytes cannot help.

    >>> str(InvalidRequestError((Fault("amount", "missing", "is required"),)))
    'amount: missing'
    """

    status = 400
    title = "The request breaks one or more rules"

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        super().__init__(", ".join(f"{fault.field}: {fault.rule}" for fault in faults))
        self.faults = faults


class ForbiddenError(FraudError):
    """The caller is known but not allowed. Another request cannot help; the caller needs another role."""

    status = 403
    title = "Not allowed to this caller"


class NotFoundError(FraudError):
    """Nothing is stored under this name."""

    status = 404
    title = "Not found"


class ConflictingBodyError(FraudError):
    """A different body is already decided under this transaction id. A new attempt needs an id of its own.

    faults  one for each field that differs, without values
    """

    status = 409
    title = "Another body is decided under this transaction_id"

    def __init__(self, faults: tuple[Fault, ...] = ()) -> None:
        super().__init__(", ".join(fault.field for fault in faults))
        self.faults = faults


class ServiceError(FraudError):
    """A service refused a request of the library: permissions, names or the request are wrong. A retry cannot help.

    code  the service's own error code, or one of the library's where the service gave none (docs/runbook.md lists
          them); it holds no part of the request
    """

    title = "A service refused what this one asked of it"

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class UnavailableError(ServiceError):
    """A service that the request needs does not respond. Nothing is lost: the same request may be sent again."""

    status = 503
    title = "Temporarily unavailable; send the same request again"


class HotKeyError(UnavailableError):
    """A table refuses requests for this key, because the key gets more of them than DynamoDB takes for one."""

    title = "Too many requests for one of its keys; send the same request again"


class UndecidedError(UnavailableError):
    """No decision could be stored in time. `fallback` is the outage policy's outcome, from the payment alone."""

    title = "Not decided; send the same request again, or follow the fallback"

    def __init__(self, code: str, fallback: Fallback) -> None:
        super().__init__(code)
        self.fallback = fallback


class UndecidableError(FraudError):
    """A policy, model or setting cannot be loaded. The function must not start with it."""
