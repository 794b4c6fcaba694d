"""The transaction, a payment as the app sends it: the JSON format and the domain model in one.

A `Transaction` exists only if it meets every rule. The hash of its canonical form (sorted keys, UTC, unset fields left
out) is its identity. Idempotency rests on it: equal identity means the same attempt, even if the JSON is spelled
differently.
"""

import contextlib
import hashlib
import ipaddress
import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Annotated, Any, Literal, NamedTuple, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_serializer,
    field_validator,
)
from pydantic_core import PydanticCustomError

from fraud import iso
from fraud.errors import Fault, InvalidRequestError, UndecidableError

MAX_AHEAD = timedelta(minutes=5)
"""How far a payment's own time may lie ahead of our clock: clocks differ."""

MAX_AGE = timedelta(hours=12)
"""How late a payment may arrive and still be counted: the counters of a day are closed after that."""

MAX_BODY_BYTES = 65_536
"""Most bytes of a request body that holds no texts of users: more than any valid one needs. It bounds the work and the
response for an invalid one.
"""

_RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:[0-5]\d)", re.ASCII)
_LEAP_SECOND = re.compile(r"(:\d\d):60(\.\d+)?(?=[Z+-])")


NOTHING: Mapping[str, frozenset[str]] = {}


class TransactionContext(NamedTuple):
    """The context that a transaction is validated against.

    currency      of the stack
    now           the present (aware, UTC)
    placeholders  values that mean "none", in lower case, by field; the policy has them
    """

    currency: str
    now: datetime
    placeholders: Mapping[str, frozenset[str]] = NOTHING


def absent(value: Any, info: ValidationInfo) -> Any:  # noqa: ANN401 - whatever JSON has in place of an optional field
    """Return None for text that means that an optional field is absent: spaces only, or a placeholder of the policy."""
    if isinstance(value, str):
        meant = value.strip().lower()
        context = info.context
        if not meant:
            return None
        if isinstance(context, TransactionContext) and meant in context.placeholders.get(info.field_name or "", ()):
            return None
    return value


def instant(value: object) -> datetime:
    """Parse an RFC 3339 time with an offset, and convert it to UTC.

    >>> instant("2026-01-02T03:04:05+09:00").isoformat()
    '2026-01-01T18:04:05+00:00'

    A leap second is the last microsecond of the second before it, because no calendar of ours has it.

    >>> instant("2016-12-31T23:59:60Z").isoformat()
    '2016-12-31T23:59:59.999999+00:00'

    Raises PydanticCustomError `rfc3339` for anything else, a number included: an epoch has no agreed unit.
    """
    if isinstance(value, str) and _RFC3339.fullmatch(value.upper()):
        try:
            return datetime.fromisoformat(_LEAP_SECOND.sub(r"\1:59.999999", value.upper())).astimezone(UTC)
        except (ValueError, OverflowError):
            pass  # no such date, or its UTC time is outside the calendar: the same fault as for a malformed time
    elif isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC)
    raise PydanticCustomError("rfc3339", "must be an RFC 3339 time with an offset, such as 2026-01-02T03:04:05Z")


_DECORATED = re.compile(r'(?:for=)?"?(?:\[([^\]]*)\](?::\d{1,5})?|([^:\[\]]*):\d{1,5}|([^\[\]]*))"?', re.IGNORECASE)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_TRANSLATED = ipaddress.IPv6Network("::ffff:0:0:0/96")


def address(value: str) -> str:
    """Return an IP address in its canonical spelling, without what may surround it; an IPv4 address in IPv6 as IPv4.

    So a deny entry for an address applies to every spelling of it. Around an address may stand spaces, quotes,
    brackets, a port, a zone, and the `for=` of RFC 7239. Inside IPv6 an IPv4 address is mapped (RFC 4291), translated
    (RFC 7915) or behind the well-known prefix of NAT64 (RFC 6052).

    >>> address("2001:DB8:0::1"), address("::ffff:192.0.2.1"), address("64:ff9b::c000:201"), address(" 192.0.2.1:443")
    ('2001:db8::1', '192.0.2.1', '192.0.2.1', '192.0.2.1')
    >>> address('for="[2001:db8::1]:4711"'), address("fe80::1%eth0")
    ('2001:db8::1', 'fe80::1')

    Raises PydanticCustomError `ip_address` for anything else, a list of addresses included.
    """
    decorated = _DECORATED.fullmatch(value.strip())
    bare = next((part for part in decorated.groups() if part is not None), "") if decorated else ""
    with contextlib.suppress(ValueError):
        return str(_unwrapped(ipaddress.ip_address(bare.strip().partition("%")[0])))
    raise PydanticCustomError("ip_address", "must be one IPv4 or IPv6 address")


def _unwrapped(parsed: ipaddress.IPv4Address | ipaddress.IPv6Address) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return the IPv4 address that an IPv6 address stands for, or the address itself."""
    if isinstance(parsed, ipaddress.IPv4Address):
        return parsed
    if parsed in _NAT64 or parsed in _TRANSLATED:
        return ipaddress.IPv4Address(parsed.packed[-4:])
    return parsed.ipv4_mapped or parsed


M = TypeVar("M", bound=BaseModel)

ID_SCHEMA: dict[str, Any] = {
    "type": "string",
    "pattern": "^[A-Za-z0-9._:@+=~!$-]{1,64}$",
    "not": {"enum": [".", ".."]},
    "description": "Upper and lower case differ.",
    "examples": ["payer-1"],
}
"""JSON Schema of an identifier. Its pattern has no lookahead, because readers of schemas in Go and Rust know none."""

_ID = re.compile(r"(?!\.\.?$)[A-Za-z0-9._:@+=~!$-]{1,64}", re.ASCII)


def identifier(value: str) -> str:
    """Return an identifier unchanged. Upper and lower case differ.

    Raises PydanticCustomError `identifier` for other characters: `/ # | % ?` would break routes and keys.
    """
    if _ID.fullmatch(value) is None:
        raise PydanticCustomError(
            "identifier",
            "must have 1 to 64 of the characters A-Z a-z 0-9 . _ : @ + = ~ ! $ - and not be . or ..; "
            "write other text as base64url, or each other character as ~ and the hex digits of its bytes",
        )
    return value


Id = Annotated[str, AfterValidator(identifier), WithJsonSchema(ID_SCHEMA)]
Currency = Annotated[
    str, AfterValidator(iso.currency), WithJsonSchema({"type": "string", "pattern": "^[A-Z]{3}$", "examples": ["JPY"]})
]
Country = Annotated[
    str, AfterValidator(iso.country), WithJsonSchema({"type": "string", "pattern": "^[A-Z]{2}$", "examples": ["JP"]})
]
Instant = Annotated[
    datetime, BeforeValidator(instant), WithJsonSchema({"type": "string", "format": "date-time"}, mode="validation")
]


def not_ahead(rule: str) -> AfterValidator:
    """Refuse a time more than MAX_AHEAD after the present, if the present is the context of the validation.

    rule  the rule that such a time breaks
    """

    def check(value: datetime, info: ValidationInfo) -> datetime:
        if isinstance(info.context, datetime) and value - info.context > MAX_AHEAD:
            raise PydanticCustomError(rule, "must be at most 5 minutes ahead of {now}", {"now": utc(info.context)})
        return value

    return AfterValidator(check)


Timestamp = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]
"""A time of ours in a response or event: text that `utc` wrote."""

Name = Annotated[str, StringConstraints(min_length=1, max_length=140)]
TransactionType = Literal["p2p", "merchant", "cash_out", "top_up"]

_OF_UNIT: dict[int, str] = {
    1_000: "BMD BND BSD CAD CHF EUR FKP GBP GIP ISK JPY KYD PAB SGD SHP USD VUV XPF",
    2_000: "AUD AWG AZN BAM BBD BZD DJF FJD GEL KWD NZD TOP WST XCD XCG",
    5_000: "AED BHD BOB BRL BYN DKK ILS KMF MYR OMR PEN PGK PLN QAR RON SAR TMT TTD XAF XOF",
    10_000: "BWP CLP CNY GHS GTQ HKD JOD KRW MAD MOP NOK SBD SCR SEK SVC TJS",
    20_000: "BIF CUP CZK ERN HNL LSL MDL MVR MXN NAD RWF SLE STN SZL TND TWD ZAR ZMW ZWG",
    50_000: "AFN DOP EGP INR LYD MKD MRU MUR MZN NIO PHP SRD THB TRY UAH UGX UYU",
    100_000: "ALL BDT BTN CVE DZD GMD GNF HTG KES KGS NPR PYG RSD RUB",
    200_000: "ETB GYD JMD LKR LRD PKR VED VES VND YER",
    500_000: "AMD CRC HUF KZT SDG SOS",
    1_000_000: "AOA ARS KPW",
    2_000_000: "CDF MMK MWK NGN TZS",
    5_000_000: "COP KHR MGA MNT SSP",
    10_000_000: "IDR IQD SYP UZS",
    20_000_000: "LAK",
    100_000_000: "LBP",
    1_000_000_000: "IRR",
}
UNITS: dict[str, int] = {currency: unit for unit, currencies in _OF_UNIT.items() for currency in currencies.split()}
"""The unit of each currency: roughly ten US dollars of 2026, in minor units, rounded to 1, 2 or 5 times a power of ten.

Sampling keeps larger amounts longer (D-072), and COUNT_CAP is in units. So a currency without a unit cannot be counted.
"""

COUNT_CAP = 10_000
"""The most units that one payment adds to a counter, so that one absurd attempt cannot drown a month of amounts.

Units and cap are fixed for the life of a stack, like its currency: they are part of the features' fingerprint.
"""

NEEDS_PAYEE: frozenset[str] = frozenset({"p2p", "merchant"})
"""Types whose counterparty is the payee; the others move money between an account and an instrument."""


MAX_AMOUNT = 10**15
"""The largest amount, in minor units. JSON's readers keep it exact, and it is a billion dollars in IRR and IDR."""

_OPEN = {"additionalProperties": True}  # JSON Schema's default, but some linters' default is False
_COUNTERPARTY: dict[str, Any] = {
    "if": {"properties": {"type": {"enum": sorted(NEEDS_PAYEE)}}, "required": ["type"], **_OPEN},
    "then": {"properties": {"payee_id": {"type": "string"}}, "required": ["payee_id"], **_OPEN},
    "else": {"properties": {"instrument_id": {"type": "string"}}, "required": ["instrument_id"], **_OPEN},
}
"""The rule of `Transaction.counterparty` in JSON Schema."""

V = TypeVar("V")
OrNone = Annotated[V | None, BeforeValidator(absent)]
"""A field that may be absent: empty text and placeholders of the policy count as absent, too."""


class Transaction(BaseModel):
    """One attempt to pay. `amount` is in integer minor units of `currency`; `occurred_at` is the payment's own time."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, hide_input_in_errors=True, json_schema_extra=_COUNTERPARTY
    )

    transaction_id: Id = Field(description="The idempotency key. Upper and lower case differ.")
    type: TransactionType = Field(description="p2p and merchant pay a payee; cash_out and top_up use an instrument.")
    payer_id: Id
    instrument_id: OrNone[Id] = Field(None, validate_default=True, description="Required for cash_out and top_up.")
    payee_id: OrNone[Id] = Field(
        None, validate_default=True, description="Required for p2p and merchant, and then not the payer_id."
    )
    amount: int = Field(
        ge=1,
        le=MAX_AMOUNT,
        description="Minor units of the currency, as ISO 4217 has them: 100 is 1.00 USD or 100 JPY. Written without a"
        " point or an exponent: 1200.0 is refused, because it may mean major units.",
    )
    currency: Currency = Field(description="ISO 4217; must be the stack's, whose limits and model are amounts of it.")
    occurred_at: Instant = Field(
        description="RFC 3339 with an offset; at most 5 minutes ahead, and for a new payment at most 12 hours back."
    )
    device_id: OrNone[Id] = Field(
        None, description="Empty text, and placeholders that mean no device, count as absent."
    )
    ip: OrNone[Annotated[str, AfterValidator(address)]] = Field(
        None, description="One address; spaces, quotes, brackets, a port and a zone around it are cut off."
    )
    channel: OrNone[Literal["app", "web", "qr", "api"]] = None
    campaign_id: OrNone[Id] = None
    payer_name: OrNone[Name] = None
    payee_name: OrNone[Name] = None
    country: OrNone[Country] = Field(None, description="ISO 3166-1 alpha-2, in upper case; XK for Kosovo.")
    attempt_of: OrNone[Id] = Field(
        None, description="The transaction_id of the first try of the same intent; not this payment's own."
    )
    metadata: (
        Annotated[
            dict[
                Annotated[str, StringConstraints(min_length=1, max_length=64)],
                Annotated[str, StringConstraints(max_length=256)],
            ],
            Field(max_length=20),
        ]
        | None
    ) = Field(None, description="Stored with the decision, not used.")

    @classmethod
    def parse(cls, body: str | bytes, context: TransactionContext) -> Self:
        """Parse a request body. Raises InvalidRequestError with every fault at once.

        >>> body = {"transaction_id": "t-1", "type": "p2p", "payer_id": "a", "payee_id": "b", "amount": 0}
        >>> Transaction.parse(json.dumps(body), TransactionContext("JPY", datetime(2026, 3, 4, tzinfo=UTC)))
        Traceback (most recent call last):
        fraud.errors.InvalidRequestError: amount: too_small, currency: missing, occurred_at: missing
        """
        return parse_body(cls, body, context)

    @field_validator("payee_id", "instrument_id")
    @classmethod
    def _counterparty_is_there(cls, value: str | None, info: ValidationInfo) -> str | None:
        kind, payer = info.data.get("type"), info.data.get("payer_id")
        if kind is None:  # the type itself is faulty and reported, so the counterparty cannot be checked
            return value
        if (info.field_name == "payee_id") == (kind in NEEDS_PAYEE):
            if value is None:
                raise PydanticCustomError("missing", "is required for this type")
            if value == payer and info.field_name == "payee_id":
                raise PydanticCustomError("same_as_payer", "must differ from payer_id")
        return value

    @field_validator("attempt_of")
    @classmethod
    def _is_another_attempt(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and value == info.data.get("transaction_id"):
            raise PydanticCustomError("same_as_transaction_id", "must name an earlier transaction")
        return value

    @field_validator("currency")
    @classmethod
    def _is_the_stacks(cls, value: str, info: ValidationInfo) -> str:
        if isinstance(info.context, TransactionContext) and value != info.context.currency:
            raise PydanticCustomError(
                "currency_not_supported", "must be {own}, the currency of this system", {"own": info.context.currency}
            )
        return value

    @field_validator("occurred_at")
    @classmethod
    def _is_not_ahead(cls, value: datetime, info: ValidationInfo) -> datetime:
        if isinstance(info.context, TransactionContext) and value - info.context.now > MAX_AHEAD:
            raise PydanticCustomError(
                "occurred_at_ahead", "must be at most 5 minutes ahead of {now}", {"now": utc(info.context.now)}
            )
        return value

    @field_serializer("occurred_at")
    def _utc(self, value: datetime) -> str:
        return utc(value)

    @cached_property
    def canonical(self) -> bytes:
        """The canonical JSON: sorted keys, UTC, unset fields left out."""
        return _canonical(self.model_dump(exclude_none=True))

    @cached_property
    def identity(self) -> bytes:
        """SHA-256 of the canonical form without `metadata`, by which nothing is decided; 32 bytes."""
        if self.metadata is None:
            return hashlib.sha256(self.canonical).digest()
        return hashlib.sha256(_canonical(self.model_dump(exclude_none=True, exclude={"metadata"}))).digest()

    @cached_property
    def epoch(self) -> int:
        """Whole seconds of `occurred_at` since 1970-01-01 UTC."""
        return math.floor(self.occurred_at.timestamp())

    @property
    def unit(self) -> int:
        """The unit of the currency, in minor units."""
        return UNITS[self.currency]

    @property
    def counted_amount(self) -> int:
        """The amount as counters see it, in minor units: at most COUNT_CAP units."""
        return min(self.amount, COUNT_CAP * self.unit)

    @property
    def counterparty(self) -> str:
        """The other side of the payment: the payee, or for cash_out and top_up the instrument."""
        other = self.payee_id if self.type in NEEDS_PAYEE else self.instrument_id
        assert other is not None  # noqa: S101 - the validators above guarantee it
        return other


def _canonical(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()


def utc(value: datetime) -> str:
    """Format an aware time as RFC 3339 in UTC, always with microseconds, so that one instant has one spelling.

    >>> utc(datetime(2026, 1, 2, tzinfo=UTC))
    '2026-01-02T00:00:00.000000Z'
    """
    return value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def is_id(value: str) -> bool:
    """Tell whether a value can be an identifier.

    >>> is_id("t-1"), is_id("t 1")
    (True, False)
    """
    return _ID.fullmatch(value) is not None


def parse_body(model: type[M], body: str | bytes, context: object, most_bytes: int = MAX_BODY_BYTES) -> M:
    """Parse a request body as a model, in pydantic's JSON mode. Raises InvalidRequestError with every fault at once.

    context     passed to the model's validators, such as a TransactionContext
    most_bytes  a longer body is refused unread

    >>> parse_body(Transaction, "[]", None)
    Traceback (most recent call last):
    fraud.errors.InvalidRequestError: body: wrong_type
    """
    size = len(body.encode(errors="surrogatepass")) if isinstance(body, str) else len(body)
    if size > most_bytes:
        raise InvalidRequestError((Fault("body", "too_large", f"must be at most {most_bytes} bytes"),))
    if repeated := _repeated_name(body):
        raise InvalidRequestError((Fault(repeated[:64], "repeated", "stands twice in one object"),))
    try:
        return model.model_validate_json(body, context=context)
    except ValidationError as error:
        faults = faults_of(error)
    if faults[0].rule == "json_invalid" and (marked := _marked(body)) is not None:
        try:
            return model.model_validate_json(marked, context=context)
        except ValidationError as error:
            faults = faults_of(error)
    raise InvalidRequestError(faults)


def load_part(model: type[M], content: str | bytes, part: str) -> M:
    """Parse a part of the stack, such as a policy, in pydantic's JSON mode.

    part  names it in the UndecidableError that is raised with every fault at once

    >>> load_part(Transaction, "[]", "example")
    Traceback (most recent call last):
    fraud.errors.UndecidableError: example: body: must be an object
    """
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        faults = "; ".join(f"{fault.field}: {fault.message}" for fault in faults_of(error))
        raise UndecidableError(f"{part}: {faults}") from None


_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"(\s*:)?', re.DOTALL)
_HALF = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)
_LITERAL_HALF = re.compile("[\ud800-\udfff]")
_MARK, _MARKED_NAME = [{"half of a surrogate pair": None}], "half of a surrogate pair " * 3


def _marked(body: str | bytes) -> str | None:
    r"""Return a JSON text with a mark in place of each text that has half of a surrogate pair; None if there is none.

    JSON may spell such a half, but it stands for no character: pydantic refuses all of the body for it. No field allows
    the mark, so only what has it is refused. A name becomes one that no object has, and too long for one of metadata.

    >>> _marked(r'{"a": "\ud83d", "b": "\ud83d\ude00", "c": "\\ud83d"}')
    '{"a": [{"half of a surrogate pair": null}], "b": "\\ud83d\\ude00", "c": "\\\\ud83d"}'
    """
    try:
        text = body if isinstance(body, str) else body.decode()
    except UnicodeDecodeError:
        return None
    text = _LITERAL_HALF.sub(lambda half: f"\\u{ord(half[0]):04x}", text)

    def marked(string: re.Match[str]) -> str:
        if not any(half[1] for half in _HALF.finditer(string[1])):
            return string[0]
        return json.dumps(_MARK) if string[2] is None else f"{json.dumps(_MARKED_NAME)}:"

    found = _STRING.sub(marked, text)
    return None if found == text else found


class _RepeatedError(Exception):
    """An object of a JSON text has two equal names."""


def _named_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    named = dict(pairs)
    if len(named) < len(pairs):
        names = [name for name, _ in pairs]
        raise _RepeatedError(next(name for name in names if names.count(name) > 1))
    return named


def _repeated_name(body: str | bytes) -> str | None:
    """Return a name that stands twice in one object of a JSON text. Readers disagree on which of its values counts.

    >>> _repeated_name('{"amount": 1, "metadata": {"a": "", "a": ""}}'), _repeated_name("no JSON")
    ('a', None)
    """
    try:
        json.loads(body, object_pairs_hook=_named_once)
    except _RepeatedError as error:
        return str(error)
    except (ValueError, RecursionError):
        pass  # no JSON: the model says so
    return None


def faults_of(error: ValidationError) -> tuple[Fault, ...]:
    """Return every fault of a validation error, without values. Each part of a field's path is cut to 64 characters."""

    def fault(detail: Any) -> Fault:  # noqa: ANN401 - pydantic's ErrorDetails, a TypedDict
        field = ".".join(str(part)[:64] for part in detail["loc"]) or "body"
        if detail["input"] == _MARK:
            return Fault(field, "surrogate", "must be Unicode text: it has half of a surrogate pair")
        if "url" not in detail:  # an error that a validator of ours raised: only pydantic's own have an address
            return Fault(field, detail["type"], detail["msg"])
        return Fault.validated(field, detail["type"], detail.get("ctx", {}))

    return tuple(map(fault, error.errors()))
