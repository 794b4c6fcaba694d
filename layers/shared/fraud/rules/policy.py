"""The policy as data: segments, rules and reason words. Analysts write it in CEL; it is checked when it is loaded.

An expression reads `transaction`, `counters`, `features` and `standing` (account status and deny entries of all
parties). Loading refuses every expression that could fail or stall later: unknown names, functions that are not listed
here, results that are not true or false, and loops. `rule_book` judges payments by the policy.
"""

import itertools
import random
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

import cel
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from fraud.counters import windows
from fraud.errors import UndecidableError
from fraud.outcome import Outcome
from fraud.rules.standing import STANDING
from fraud.scoring import features
from fraud.transaction import Transaction

MEMBERS: dict[str, frozenset[str]] = {
    "transaction": frozenset(Transaction.model_fields) - {"metadata"},
    "counters": frozenset(windows.NAMES),
    "features": frozenset(features.NAMES),
    "standing": frozenset(STANDING),
}
"""The names that an expression may read, by their root: `counters.payer_count_1m`."""

MAX_LENGTH = 500
MAX_NESTING = 12
OPERATORS = {
    "_==_",
    "_!=_",
    "_<_",
    "_<=_",
    "_>_",
    "_>=_",
    "_&&_",
    "_||_",
    "!_",
    "-_",
    "_+_",
    "_-_",
    "_*_",
    "_/_",
    "_%_",
}
FUNCTIONS = OPERATORS | {"_?_:_", "@in", "size", "startsWith", "endsWith", "contains", "matches"}
FUNCTIONS |= {"int", "double", "string", "getHours", "getDayOfWeek"}
"""Operators and functions that an expression may call. Loops (exists, map, ...) are not among them.

The engine expands loops before it lists the functions of an expression, so calls are also looked up in the text.
"""

_LITERAL = re.compile(r""""[^"]*"|'[^']*'""")
_CALL = re.compile(r"(\w+)\s*\(")
_MEMBER = re.compile(rf"(?<![\w.])({'|'.join(MEMBERS)})\b(?:\s*\.\s*(\w+))?")

Slug = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
Code = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9_]{0,63}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


class Expression(_Strict):
    """A named CEL expression. A rule or segment applies to a payment when its expression holds."""

    id: Slug
    expression: str


class Rule(Expression):
    """When `expression` holds, the outcome is at least `outcome`.

    retryable  the cause passes with time, so a later attempt may fare better
    protected  no allow entry silences the rule: it is a deny entry, an account status or a legal limit
    """

    version: int = Field(ge=1)
    outcome: Annotated[Outcome, Field(strict=False)]
    code: Code
    retryable: bool = False
    protected: bool = False


class Segment(Expression):
    """A class of payments. A payment belongs to the first segment whose expression holds.

    model  whether the model scores the segment's payments
    """

    model: bool


STANDARD = Segment(id="standard", expression="true", model=True)
"""The segment of a payment that belongs to no segment of the policy."""

OUTAGE = "COUNTERS_UNAVAILABLE"
"""Reason code of the outage policy's own hit."""


class AmountStep(_Strict):
    """The outcome of amounts from `amount` on, in minor units."""

    amount: int = Field(ge=0)
    outcome: Annotated[Outcome, Field(strict=False)]


class Outage(_Strict):
    """The least outcome of a segment's payments while their counters cannot be read.

    open        approve, unless a protected rule holds
    rules_only  approve, unless a rule that reads no counters holds
    challenge   challenge everything
    decline     decline everything
    by_amount   the outcome of the last of `steps` that the amount reaches
    """

    policy: Literal["open", "rules_only", "challenge", "decline", "by_amount"]
    steps: tuple[AmountStep, ...] = Field((), strict=False)

    @model_validator(mode="after")
    def _steps_belong_to_amounts(self) -> Self:
        amounts = [step.amount for step in self.steps]
        if bool(amounts) != (self.policy == "by_amount"):
            raise ValueError("steps belong to by_amount, which needs some")
        if amounts != sorted(set(amounts)):
            raise ValueError("steps must rise in amount")
        return self

    def outcome(self, amount: int) -> Outcome:
        """Return the outcome of an amount in minor units, before any rule is considered.

        >>> steps = [{"amount": 0, "outcome": "approve"}, {"amount": 50_000, "outcome": "challenge"}]
        >>> Outage(policy="by_amount", steps=steps).outcome(50_000)
        <Outcome.CHALLENGE: 'challenge'>
        """
        if self.policy in ("challenge", "decline"):
            return Outcome(self.policy)
        return max(
            (step for step in self.steps if step.amount <= amount), key=lambda step: step.amount, default=APPROVED
        ).outcome


APPROVED = AmountStep(amount=0, outcome=Outcome.APPROVE)
"""The step that holds when the amount reaches no step of the policy."""


class Policy(_Strict):
    """One policy file. Every code in `rules` and `feature_reasons` must have its words in `reasons`."""

    name: str
    reasons: dict[Code, Annotated[str, StringConstraints(min_length=1)]]
    feature_reasons: dict[str, Code]
    outage: dict[Slug, Outage]
    segments: tuple[Segment, ...] = Field(strict=False)
    rules: tuple[Rule, ...] = Field(strict=False)

    def entries(self) -> tuple[Segment | Rule, ...]:
        """Return all segments and rules: everything that has an expression."""
        return (*self.segments, *self.rules)

    @model_validator(mode="after")
    def _refers_to_what_exists(self) -> Self:
        codes = {*(rule.code for rule in self.rules), *self.feature_reasons.values(), OUTAGE}
        ids = [entry.id for entry in self.entries()]
        for wrong, words in (
            (codes - self.reasons.keys(), "codes without words"),
            (
                self.feature_reasons.keys() ^ set(features.NAMES),
                "features without a reason, or reasons without a feature",
            ),
            ({id_ for id_ in ids if ids.count(id_) > 1}, "ids used twice"),
            (
                self.outage.keys() ^ {STANDARD.id, *(segment.id for segment in self.segments)},
                "segments without an outage policy, or outage policies without a segment",
            ),
        ):
            if wrong:
                raise ValueError(f"{words}: {', '.join(sorted(wrong))}")
        return self


def compiled(entry: Expression) -> cel.Program:
    """Parse and check an expression. Raises UndecidableError with its id and with what is wrong.

    >>> compiled(Expression(id="large", expression="transaction.amonut > 1000"))
    Traceback (most recent call last):
    fraud.errors.UndecidableError: large: unknown: transaction.amonut
    """
    try:
        _check_bounds(entry.expression)
        program = cel.compile(entry.expression)
        read = members(entry.expression)
        _check_names(read, {*program.functions(), *_CALL.findall(_bare(entry.expression))}, program.variables())
        for sample in _samples(read):
            if not isinstance(program.execute(cel.Context(sample)), bool):
                raise ValueError("the result is not true or false")  # noqa: TRY004 - one kind of error for the author
    except Exception as error:  # noqa: BLE001 - the engine raises many kinds; the author needs one
        raise UndecidableError(f"{entry.id}: {error}") from None
    return program


def members(expression: str) -> set[tuple[str, str]]:
    """Return (root, member) for every name that an expression reads. The member of a root that stands alone is empty.

    >>> sorted(members("counters.payer_count_1m > 3 && transaction.payer_id != 'counters.other'"))
    [('counters', 'payer_count_1m'), ('transaction', 'payer_id')]
    """
    return set(_MEMBER.findall(_bare(expression)))


def _bare(expression: str) -> str:
    """Return the expression with every string literal emptied, so that only code is left."""
    return _LITERAL.sub("''", expression)


def _check_bounds(expression: str) -> None:
    depths = itertools.accumulate((char in "([") - (char in ")]") for char in _bare(expression))
    if len(expression) > MAX_LENGTH:
        raise ValueError(f"longer than {MAX_LENGTH} characters")
    if any(sign in expression for sign in ("\\", "'''", '"""')) or "//" in _bare(expression):
        raise ValueError("backslashes, triple quotes and comments would hide names from the checks")
    if max(depths, default=0) > MAX_NESTING:
        raise ValueError(f"nested deeper than {MAX_NESTING}")


def _check_names(read: set[tuple[str, str]], calls: set[str], variables: Iterable[str]) -> None:
    unknown = {f"{root}.{name}" for root, name in read if name not in MEMBERS[root]}
    unknown |= {name for name in variables if name not in MEMBERS}
    unknown |= calls - FUNCTIONS - {"has", "in"}
    if unknown:
        raise ValueError(f"unknown: {', '.join(sorted(unknown))}")


def _samples(read: Iterable[tuple[str, str]]) -> Iterable[dict[str, dict[str, Any]]]:
    """Yield sample inputs for an expression: for every transaction type, numbers that are low, high and mixed.

    The expression must be true or false for each sample.
    """
    rng = random.Random(0)  # noqa: S311 - examples, not secrets
    for kind, busy in itertools.product(("p2p", "merchant", "cash_out", "top_up"), (0, 1, 10**9, None, None, None)):
        sample: dict[str, dict[str, Any]] = {root: {} for root in MEMBERS}
        for root, name in sorted(read):
            number = rng.choice((0, 1, 10**9)) if busy is None else busy
            sample[root][name] = _example(root, name, kind, number)
        yield sample


def _example(root: str, name: str, kind: str, number: int) -> Any:  # noqa: ANN401 - as many types as members
    if root == "transaction":
        known = {"type": kind, "amount": number, "currency": "JPY", "occurred_at": datetime(2026, 1, 1, tzinfo=UTC)}
        return known.get(name, "x")
    if root == "standing":
        return "active" if name.endswith("_status") else bool(number)
    return float(number) if root == "features" or _is_real(name) else number


def _is_real(counter: str) -> bool:
    return "_distinct_" in counter or "_decayed_" in counter
