"""The policy as data: segments, rules, reason words, and what happens while counters are away. Analysts write it.

It is checked when it is loaded, and its size is bounded, so that loading it and judging a payment by it take bounded
time. `expression` is the language of its expressions; `rule_book` judges payments by it.
"""

import hashlib
import json
from collections.abc import Collection, Sequence
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from fraud.counters.layout import KINDS, PAIR, PAYER
from fraud.counters.windows import kind_of
from fraud.outcome import Outcome, worst
from fraud.rules.expression import members
from fraud.scoring import features
from fraud.transaction import Currency

MAX_BYTES = 262_144
MAX_ENTRIES = 200
MAX_EXPRESSIONS = 20_000
MAX_WORDS = 300
MAX_STEPS = 20
"""Limits of a policy: bytes of its file, segments and rules together, characters of all expressions together,
characters of one reason's words, amount steps of one list (D-069).
"""

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

    model           whether the model scores the segment's payments
    review_expires  the outcome of a review that nobody has ended in time
    """

    model: bool
    review_expires: Literal["approve", "decline"] = "decline"


STANDARD = Segment(id="standard", expression="true", model=True)
"""The segment of a payment that belongs to no segment of the policy."""

RESERVED = frozenset({"all", "none"})
"""No segment has these names: figures have them for all segments together, and for what belongs to none."""

OUTAGE = "COUNTERS_UNAVAILABLE"
"""Reason code of the outage policy's own hit when a payment is decided without any counters."""

AWAY = "COUNTER_AWAY"
"""Reason code of the outage policy's own hit when a payment is decided without the counters of some kinds."""

FLOODED = "KEY_FLOODED"
"""Reason code of the hits that stand for the rules that read the counters of a flooded key."""


class AmountStep(_Strict):
    """The outcome of amounts from `amount` on, in minor units."""

    amount: int = Field(ge=0)
    outcome: Annotated[Outcome, Field(strict=False)]


AmountSteps = Annotated[tuple[AmountStep, ...], Field(strict=False, max_length=MAX_STEPS)]


class Outage(_Strict):
    """The least outcome of a segment's payments while their counters cannot be read.

    open        approve, unless a protected rule holds
    rules_only  approve, unless a rule that reads no counters holds
    challenge   challenge everything
    decline     decline everything
    by_amount   the outcome of the last of `steps` that the amount reaches

    These hold when the payment is decided without any counters. `without` names the kinds of counters that a decision
    may do without one by one, each with its steps; no steps: approve. Without any other kind the payment is decided
    without any counters.
    """

    policy: Literal["open", "rules_only", "challenge", "decline", "by_amount"]
    steps: AmountSteps = ()
    without: dict[str, AmountSteps] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _steps_belong_to_amounts(self) -> Self:
        if bool(self.steps) != (self.policy == "by_amount"):
            raise ValueError("steps belong to by_amount, which needs some")
        for steps in (self.steps, *self.without.values()):
            amounts = [step.amount for step in steps]
            if amounts != sorted(set(amounts)):
                raise ValueError("steps must rise in amount")
        return self

    @model_validator(mode="after")
    def _may_do_without_the_kinds(self) -> Self:
        if PAYER.name in self.without:
            raise ValueError("no decision may do without the payer's counters")
        if unknown := self.without.keys() - KINDS.keys():
            raise ValueError(f"without kinds that are not counted: {', '.join(sorted(unknown))}")
        return self

    def outcome(self, amount: int) -> Outcome:
        """Return the outcome of an amount in minor units, before any rule is considered.

        >>> steps = [{"amount": 0, "outcome": "approve"}, {"amount": 50_000, "outcome": "challenge"}]
        >>> Outage(policy="by_amount", steps=steps).outcome(50_000)
        <Outcome.CHALLENGE: 'challenge'>
        """
        return Outcome(self.policy) if self.policy in ("challenge", "decline") else _reached(self.steps, amount)

    def floor(self, away: Collection[str], amount: int) -> Outcome | None:
        """Return the least outcome of an amount while the counters of these kinds are away.

        Return None when a decision may not do without one of them.

        >>> outage = Outage(policy="open", without={"pair": [], "device": [{"amount": 10, "outcome": "review"}]})
        >>> outage.floor(["pair"], 10), outage.floor(["pair", "device"], 10), outage.floor(["pair", "payee"], 10)
        (<Outcome.APPROVE: 'approve'>, <Outcome.REVIEW: 'review'>, None)
        """
        if not self.without.keys() >= set(away):
            return None
        return worst([_reached(self.without[kind], amount) for kind in away])


def _reached(steps: Sequence[AmountStep], amount: int) -> Outcome:
    """Return the outcome of the last step that the amount reaches; approve when it reaches none."""
    reached = [step.outcome for step in steps if step.amount <= amount]
    return reached[-1] if reached else Outcome.APPROVE


class Placeholder(_Strict):
    """A value that means "none" in a field of a payment: the field counts as absent.

    source  where the value is documented
    """

    field: Literal["device_id", "ip"]
    value: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    source: Annotated[str, StringConstraints(min_length=1, max_length=MAX_WORDS)]


class Policy(_Strict):
    """One policy file. Every code in `rules` and `feature_reasons` must have its words in `reasons`.

    currency  ISO 4217; all amounts are its minor units. A stack of another currency refuses the policy
    """

    name: str
    currency: Currency
    reasons: dict[Code, Annotated[str, StringConstraints(min_length=1, max_length=MAX_WORDS)]]
    feature_reasons: dict[str, Code]
    outage: dict[Slug, Outage]
    placeholders: tuple[Placeholder, ...] = Field((), strict=False, max_length=MAX_ENTRIES)
    segments: tuple[Segment, ...] = Field(strict=False, max_length=MAX_ENTRIES)
    rules: tuple[Rule, ...] = Field(strict=False, max_length=MAX_ENTRIES)

    def entries(self) -> tuple[Segment | Rule, ...]:
        """Return all segments and rules: everything that has an expression."""
        return (*self.segments, *self.rules)

    def digest(self) -> str:
        """Return 8 hex digits: a hash of what the policy says, however its file is spelled."""
        said = json.dumps(self.model_dump(mode="json", exclude_defaults=True), sort_keys=True)
        return hashlib.sha256(said.encode()).hexdigest()[:8]

    def meaning_none(self) -> dict[str, frozenset[str]]:
        """Return the values that mean "none", in lower case, by field."""
        fields = {each.field for each in self.placeholders}
        return {
            name: frozenset(each.value.lower() for each in self.placeholders if each.field == name) for name in fields
        }

    def protected_kinds(self) -> frozenset[str]:
        """Return the names of the kinds whose counters a protected rule reads."""
        kinds = {kind_of(name) for root, name in self._read_by_protected() if root == "counters"}
        return frozenset(kind for kind in kinds if kind is not None)

    def _read_by_protected(self) -> set[tuple[str, str]]:
        return set().union(*(members(rule.expression) for rule in self.rules if rule.protected))

    @model_validator(mode="after")
    def _is_not_too_large(self) -> Self:
        if len(self.entries()) > MAX_ENTRIES:
            raise ValueError(f"more than {MAX_ENTRIES} segments and rules")
        if sum(len(entry.expression) for entry in self.entries()) > MAX_EXPRESSIONS:
            raise ValueError(f"expressions of more than {MAX_EXPRESSIONS} characters together")
        return self

    @model_validator(mode="after")
    def _refers_to_what_exists(self) -> Self:
        codes = {*(rule.code for rule in self.rules), *self.feature_reasons.values(), OUTAGE, AWAY, FLOODED}
        ids = [entry.id for entry in self.entries()]
        for wrong, words in (
            (codes - self.reasons.keys(), "codes without words"),
            (
                self.feature_reasons.keys() ^ set(features.NAMES),
                "features without a reason, or reasons without a feature",
            ),
            ({id_ for id_ in ids if ids.count(id_) > 1}, "ids used twice"),
            (RESERVED & {segment.id for segment in self.segments}, "segments with a name that figures use"),
            (
                self.outage.keys() ^ {STANDARD.id, *(segment.id for segment in self.segments)},
                "segments without an outage policy, or outage policies without a segment",
            ),
        ):
            if wrong:
                raise ValueError(f"{words}: {', '.join(sorted(wrong))}")
        return self

    @model_validator(mode="after")
    def _protected_rules_read_what_is_exact(self) -> Self:
        """Refuse a limit that reads estimates, or a kind of whose closed items no rule can tell (D-070)."""
        read = self._read_by_protected()
        estimated = sorted(f"features.{name}" for root, name in read if root == "features")
        if estimated:
            raise ValueError(f"a protected rule must not read features, which may be estimated: {', '.join(estimated)}")
        if PAIR.name in self.protected_kinds():
            raise ValueError("a protected rule must not read counters of pairs: no rule can tell that a pair is closed")
        return self
