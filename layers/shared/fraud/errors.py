"""What can be wrong with a request, as exceptions that carry everything the caller needs to mend it.

Every fault names a field and the rule it broke, never the value: answers and logs may be read by people who must not see it.
"""

from typing import NamedTuple


class Fault(NamedTuple):
    """One broken rule: `field` is a dotted path (`body` for the whole), `rule` a stable name, `message` words for a developer."""

    field: str
    rule: str
    message: str


class FraudError(Exception):
    """Root of what this library raises on purpose."""


class InvalidRequestError(FraudError):
    """The request breaks one or more rules; `faults` lists every one of them. Retrying the same bytes cannot help."""

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        super().__init__(", ".join(f"{fault.field}: {fault.rule}" for fault in faults))
        self.faults = faults


class ConflictingBodyError(FraudError):
    """A different body is already decided under this transaction id."""


class UndecidableError(FraudError):
    """A rule book, model or setting cannot be loaded: the function must not start with it."""
