"""Exceptions of the library, and the HTTP response to each (RFC 9457, problem details).

A fault names a field and the rule that it broke, never the value: people who must not see the value may read responses
and logs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, Field
from pydantic.json_schema import SkipJsonSchema

RULES: dict[str, str] = {
    "missing": "a required field is absent",
    "unknown_field": "the object has no such field",
    "repeated": "a name stands twice in one object",
    "wrong_type": "the value has another JSON type",
    "unknown_value": "the value is not one of those that are listed",
    "too_small": "the number is below the least",
    "too_large": "the number is above the largest, or the body has too many bytes",
    "too_short": "the text or list is too short",
    "too_long": "the text or list is too long",
    "json_invalid": "the body is not JSON",
    "surrogate": "the text has half of a surrogate pair, which stands for no character",
    "identifier": "the text is not an identifier",
    "ip_address": "the text is not one IP address",
    "rfc3339": "the text is not a time with an offset",
    "country": "the text is not a code of ISO 3166-1 alpha-2",
    "currency": "the text is not a code of ISO 4217",
    "currency_not_supported": "the stack has another currency",
    "occurred_at_ahead": "the payment's time is more than 5 minutes ahead",
    "occurred_at_too_old": "the payment's time is more than 12 hours back",
    "same_as_payer": "the payee is the payer",
    "same_as_transaction_id": "a payment is called another attempt of itself",
    "differs": "another body is decided under this transaction_id, and this field differs",
    "reported_at_ahead": "the time of the label or report is more than 5 minutes ahead",
    "unknown_transaction": "nothing is stored under this transaction_id, so the label must name this party",
    "contradiction": "something else is stored under this transaction_id",
    "too_many_labels": "the payment keeps as many labels of this source as it can",
    "expires_at_past": "the time does not lie ahead",
    "expires_at_too_late": "the time lies further ahead than an allow entry may last",
    "not_silenceable": "no allow entry silences this code",
    "not_pending": "the entry waits for no second person",
    "changed": "the entry is not the one that was shown",
    "cap_reached": "as many accounts are stopped in this hour or day as the cap allows",
    "not_allowed_now": "the present state, which the response names, does not allow the change",
    "at_ahead": "the time is more than 5 minutes ahead",
    "before_decision": "the time lies before the decision",
    "network": "the text is not a network of addresses, or the list takes none",
    "host_bits_set": "the text is an address inside a network",
    "too_wide": "the network holds more addresses than an entry may",
    "too_many_networks": "as many networks are denied as the list holds",
    "before_payment": "the time of the label or report lies before its payment",
    "form": "the text has another form",
    "invalid": "any other rule",
}
"""The names of all rules that a fault can name, with their meaning. A name never changes its meaning (D-077)."""

_OBJECT, _ARRAY = ("wrong_type", "must be an object"), ("wrong_type", "must be an array")
_SHORT, _LONG = (
    ("too_short", "must have a length of at least {min_length}"),
    ("too_long", "must have a length of at most {max_length}"),
)
_INTEGER, _NUMBER = ("wrong_type", "must be an integer"), ("wrong_type", "must be a number")
_TEXT, _LISTED = ("wrong_type", "must be a string"), ("unknown_value", "must be {expected}")

VALIDATED: dict[str, tuple[str, str]] = {
    "missing": ("missing", "is required"),
    "extra_forbidden": ("unknown_field", "is not a field of this object"),
    "json_invalid": ("json_invalid", "must be JSON: {error}"),
    "recursion_loop": ("json_invalid", "must not be nested so deeply"),
    "model_type": _OBJECT,
    "dict_type": _OBJECT,
    "list_type": _ARRAY,
    "string_type": _TEXT,
    "string_unicode": ("json_invalid", "must be UTF-8"),
    "string_too_short": _SHORT,
    "string_too_long": _LONG,
    "too_short": _SHORT,
    "too_long": _LONG,
    "int_type": _INTEGER,
    "int_from_float": _INTEGER,
    "int_parsing": _INTEGER,
    "int_parsing_size": ("too_large", "has too many digits"),
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "bool_type": ("wrong_type", "must be true or false"),
    "greater_than": ("too_small", "must be more than {gt}"),
    "greater_than_equal": ("too_small", "must be at least {ge}"),
    "less_than": ("too_large", "must be less than {lt}"),
    "less_than_equal": ("too_large", "must be at most {le}"),
    "string_pattern_mismatch": ("form", "must have the form {pattern}"),
    "value_error": ("invalid", "{error}"),
    "literal_error": _LISTED,
    "enum": _LISTED,
}
"""The rule and the message for each kind of error of the library that validates bodies, pydantic."""


@dataclass(frozen=True)
class Fault:
    """One broken rule, without the value that broke it."""

    field: Annotated[str, Field(description="Dotted path; `body` for the whole body.", examples=["amount"])]
    rule: Annotated[
        str,
        Field(
            description=" ".join(("A name that keeps its meaning:", "; ".join(f"`{n}`: {m}" for n, m in RULES.items())))
            + ".",
            json_schema_extra={"enum": list(RULES)},
        ),
    ]
    message: Annotated[str, Field(description="For developers; its words may change.", examples=["must be at least 1"])]

    @classmethod
    def validated(cls, field: str, kind: str, context: Mapping[str, Any]) -> "Fault":
        """Return the fault of an error of pydantic. A kind that VALIDATED does not have breaks the rule `invalid`.

        context  the values that fill in the message: bounds and allowed values, never the value itself

        >>> Fault.validated("amount", "greater_than_equal", {"ge": 1})
        Fault(field='amount', rule='too_small', message='must be at least 1')
        >>> Fault.validated("amount", "decimal_max_digits", {})
        Fault(field='amount', rule='invalid', message='is not valid')
        """
        rule, message = VALIDATED.get(kind, ("invalid", "is not valid"))
        return cls(field, rule, message.format_map(context))


class Fallback(BaseModel):
    """The outcome that a caller may follow for a payment whose decision may not be stored.

    The decision may be stored all the same. Then the same request, sent again, is answered with the stored decision.
    """

    outcome: Annotated[str, Field(json_schema_extra={"enum": ["approve", "challenge", "review", "decline"]})]
    policy_version: str


class StateNow(BaseModel):
    """The state of a decision that a refused change met."""

    status: str = Field(
        description="`challenged` and `in_review` wait; `approved` and `declined` wait for the payment's result:"
        " `settled`, `failed` or `reversed`.",
        examples=["declined"],
    )
    outcome_now: Annotated[str, Field(json_schema_extra={"enum": ["approve", "challenge", "review", "decline"]})]
    by: str = Field(
        description="What brought the state about: `decision`, `challenge`, `review`, `expiry` or `payment`. `expiry`:"
        " the change came when the decision had been due already.",
        examples=["expiry"],
    )


class CaseNow(BaseModel):
    """The state of a case that a refused change met."""

    state: str = Field(description="As in the case itself.", examples=["concluding"])
    version: int
    assignee: str | None = Field(description="Who has the case; null for nobody.")
    finding: str | None = Field(description="The verdict's finding; null before there is one.")
    judged_by: str | None = Field(description="Who gave the verdict.")


class AccountNow(BaseModel):
    """The status of an account that a refused change met."""

    status: str = Field(description="`active`, `held` or `deactivated`.", examples=["held"])
    version: int
    action_id: str | None = Field(description="The action that holds or keeps the account; null for none.")


class ActionNow(BaseModel):
    """The state of an action that a refused change met."""

    action_id: str
    state: str = Field(description="As in the action itself.", examples=["appealed"])
    version: int
    reviewed_by: str | None = Field(description="Who has reviewed the appeal; null for nobody.")


class OrderNow(BaseModel):
    """The state of an order that a refused change met."""

    order_id: str
    state: str = Field(description="`pending`, `approved`, `cancelled` or `done`.", examples=["approved"])
    decided_by: str | None = Field(description="Who has approved or cancelled it; null for nobody.")


class ModelsNow(BaseModel):
    """The models that a refused change met."""

    champion: str = Field(description="The version of the model that decides; `packaged` for the packaged one.")
    challenger: str | None = Field(description="The version of the model that is tried beside it; null for none.")
    canary_share: float = Field(description="The share of the payers whom the challenger decides.")
    revision: int


class RetrainingNow(BaseModel):
    """The state of a retraining that a refused change met."""

    retraining_id: str
    state: str = Field(description="As in the retraining itself.", examples=["expired"])
    version: int
    decided_by: str | None = Field(description="Who has approved or rejected its model; null for nobody.")


def _unsaid(value: object) -> bool:
    return value is None


class Problem(BaseModel):
    """The response to a request that failed (RFC 9457): every faulty field and rule at once, never a value."""

    type: str = "about:blank"
    title: str = Field(description="For people; its words may change.")
    status: int = Field(description="The HTTP status.")
    errors: list[Fault] = Field([], description="One for each rule that a field breaks.")
    request_id: str | SkipJsonSchema[None] = Field(
        None, exclude_if=_unsaid, description="The request's id: the same as in the header Apigw-Requestid."
    )
    fallback: Fallback | SkipJsonSchema[None] = Field(
        None, exclude_if=_unsaid, description="Only in a 503 of POST /decisions."
    )
    state: StateNow | SkipJsonSchema[None] = Field(
        None, exclude_if=_unsaid, description="Only in a 409 of a change that the decision's state does not allow."
    )
    case: CaseNow | SkipJsonSchema[None] = Field(
        None, exclude_if=_unsaid, description="Only in a 409 of a change that the case does not allow."
    )
    account: AccountNow | SkipJsonSchema[None] = Field(
        None, exclude_if=_unsaid, description="Only in a 409 of a change that the account does not allow."
    )
    action: ActionNow | SkipJsonSchema[None] = Field(
        None, exclude_if=_unsaid, description="Only in a 409 of a change that the action does not allow."
    )
    order: OrderNow | SkipJsonSchema[None] = Field(
        None, exclude_if=_unsaid, description="Only in a 409 of a change that the order does not allow."
    )
    models: ModelsNow | SkipJsonSchema[None] = Field(
        None, exclude_if=_unsaid, description="Only in a 409 of a change that the models in use do not allow."
    )
    retraining: RetrainingNow | SkipJsonSchema[None] = Field(
        None, exclude_if=_unsaid, description="Only in a 409 of a change that the retraining does not allow."
    )


class FraudError(Exception):
    """Root of all exceptions that the library raises on purpose. `status` and `title` are those of the response."""

    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"
    faults: tuple[Fault, ...] = ()
    fallback: Fallback | None = None
    now: Mapping[str, Any] = MappingProxyType({})


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


class ConflictError(FraudError):
    """The state of a row does not allow the change: somebody else was faster, or it has gone on.

    now  the row's state as it is, under the name that it has in the response
    """

    status = 409
    subject: ClassVar[str]

    def __init__(self, state: str, /, **now: BaseModel) -> None:
        super().__init__(state)
        self.faults = (Fault("body", "not_allowed_now", f"is not what the {self.subject} allows now"),)
        self.now = now


class ResolvedError(ConflictError):
    """The decision's state does not allow the change: another answer came first, or the decision had expired."""

    title = "The decision is in a state that does not allow this"
    subject = "decision's state"

    def __init__(self, now: StateNow) -> None:
        super().__init__(now.status, state=now)


class CaseConflictError(ConflictError):
    """The case does not allow the change: somebody else has changed it, or has given the verdict."""

    title = "The case is in a state that does not allow this"
    subject = "case"

    def __init__(self, now: CaseNow) -> None:
        super().__init__(now.state, case=now)


class AccountConflictError(ConflictError):
    """The account does not allow the change: it is in another state, or an action has it."""

    title = "The account is in a state that does not allow this"
    subject = "account"

    def __init__(self, now: AccountNow) -> None:
        super().__init__(now.status, account=now)


class ActionConflictError(ConflictError):
    """The action does not allow the change: somebody else was faster, or it has gone on."""

    title = "The action is in a state that does not allow this"
    subject = "action"

    def __init__(self, now: ActionNow) -> None:
        super().__init__(now.state, action=now)


class OrderConflictError(ConflictError):
    """The order does not allow the change: it was decided on, or another order has the same id."""

    title = "The order is in a state that does not allow this"
    subject = "order"

    def __init__(self, now: OrderNow) -> None:
        super().__init__(now.state, order=now)


class ModelConflictError(ConflictError):
    """The pointer does not allow the change: another model is the champion or the challenger."""

    title = "The models in use do not allow this"
    subject = "pointer"

    def __init__(self, now: ModelsNow) -> None:
        super().__init__(now.champion, models=now)


class RetrainingConflictError(ConflictError):
    """The retraining does not allow the change: somebody else was faster, or it has gone on."""

    title = "The retraining is in a state that does not allow this"
    subject = "retraining"

    def __init__(self, now: RetrainingNow) -> None:
        super().__init__(now.state, retraining=now)


class CapReachedError(FraudError):
    """The cap on interventions is reached: no further account is stopped before the next hour or day.

    scopes  the scopes of the cap that are full
    """

    status = 429
    title = "The cap on interventions is reached"

    def __init__(self, scopes: tuple[str, ...]) -> None:
        super().__init__(", ".join(scopes))
        self.faults = (Fault("body", "cap_reached", "would stop more accounts than the cap allows"),)


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
