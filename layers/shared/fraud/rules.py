"""The policy as data: segments, rules and reason words, written by analysts in CEL, checked when loaded.

An expression reads `transaction`, `counters`, `features` and `standing` (status and deny lists of everyone involved).
Loading refuses what could fail or stall later: unknown names, foreign functions, results that are not true or false,
loops. What still fails at run time (a missing optional value, say) is recorded in the decision and decides nothing.
"""

import contextlib
import hashlib
import itertools
import random
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, NamedTuple, Self

import cel
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from fraud import counters, features, windows
from fraud.counters import Profile, State
from fraud.decision import Hit, Outcome, Reason
from fraud.errors import UndecidableError
from fraud.transaction import Transaction, faults_of, instant

ROLES = ("payer", "payee", "device", "instrument", "ip")
STANDING: tuple[str, ...] = (*(f"{role}_denied" for role in ROLES), "payer_status", "payee_status")

MEMBERS: dict[str, frozenset[str]] = {
    "transaction": frozenset(Transaction.model_fields) - {"metadata"},
    "counters": frozenset(windows.NAMES),
    "features": frozenset(features.NAMES),
    "standing": frozenset(STANDING),
}
"""Everything that an expression may read, by root."""

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
"""Operators and functions that an expression may call. Loops (exists, map, ...) are not among them: the engine expands
them before it names the functions, so calls are looked up in the text too.
"""

_LITERAL = re.compile(r""""[^"]*"|'[^']*'""")
_CALL = re.compile(r"(\w+)\s*\(")
_MEMBER = re.compile(rf"(?<![\w.])({'|'.join(MEMBERS)})\b(?:\s*\.\s*(\w+))?")

Slug = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
Code = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9_]{0,63}$")]
Inputs = Mapping[str, Mapping[str, Any]]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


class _Entry(_Strict):
    id: Slug
    expression: str


class Rule(_Entry):
    """When `expression` holds, the outcome is at least `outcome`.

    `retryable`: the cause passes with time. `protected`: a deny entry, a status or a legal limit, which no allow entry
    silences.
    """

    version: int = Field(ge=1)
    outcome: Annotated[Outcome, Field(strict=False)]
    code: Code
    retryable: bool = False
    protected: bool = False


class Segment(_Entry):
    """A class of payments, the first whose expression holds; `model` false spares its payments the model."""

    model: bool


STANDARD = Segment(id="standard", expression="true", model=True)
"""The segment of a payment that no declared one takes."""

OUTAGE = "COUNTERS_UNAVAILABLE"
"""Reason code of what the outage policy decides."""


class Step(_Strict):
    """From this many minor units on, this outcome."""

    amount: int = Field(ge=0)
    outcome: Annotated[Outcome, Field(strict=False)]


class Outage(_Strict):
    """What a segment's payments get while their counters cannot be read, at least.

    `open` approves but for protected rules, `rules_only` but for all rules that read no counters; `challenge` and
    `decline` say so of everything, `by_amount` says for each amount the outcome of the last of its `steps` reached.
    """

    policy: Literal["open", "rules_only", "challenge", "decline", "by_amount"]
    steps: tuple[Step, ...] = Field((), strict=False)

    @model_validator(mode="after")
    def _steps_belong_to_amounts(self) -> Self:
        amounts = [step.amount for step in self.steps]
        if bool(amounts) != (self.policy == "by_amount"):
            raise ValueError("steps belong to by_amount, which needs some")
        if amounts != sorted(set(amounts)):
            raise ValueError("steps must rise in amount")
        return self

    def outcome(self, amount: int) -> Outcome:
        """The outcome of an amount in minor units, before any rule.

        >>> steps = [{"amount": 0, "outcome": "approve"}, {"amount": 50_000, "outcome": "challenge"}]
        >>> Outage(policy="by_amount", steps=steps).outcome(50_000)
        <Outcome.CHALLENGE: 'challenge'>
        """
        if self.policy in ("challenge", "decline"):
            return Outcome(self.policy)
        return max(
            (step for step in self.steps if step.amount <= amount), key=lambda step: step.amount, default=APPROVED
        ).outcome


APPROVED = Step(amount=0, outcome=Outcome.APPROVE)


class Policy(_Strict):
    """One policy file. Codes in `rules` and `feature_reasons` must have words in `reasons`."""

    name: str
    reasons: dict[Code, Annotated[str, StringConstraints(min_length=1)]]
    feature_reasons: dict[str, Code]
    outage: dict[Slug, Outage]
    segments: tuple[Segment, ...] = Field(strict=False)
    rules: tuple[Rule, ...] = Field(strict=False)

    def entries(self) -> tuple[Segment | Rule, ...]:
        """Everything with an expression."""
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


class Ruling(NamedTuple):
    """What the policy says of one payment; `failed` names the expressions that could not be evaluated."""

    segment: Segment
    hits: tuple[Hit, ...]
    failed: tuple[str, ...]


class RuleBook:
    """A loaded policy: every expression compiled, every name known."""

    def __init__(self, policy: Policy, version: str) -> None:
        self.policy = policy
        self.version = version
        self._segments = [(segment, _compile(segment.id, segment.expression)) for segment in policy.segments]
        self._rules = [(rule, _compile(rule.id, rule.expression)) for rule in policy.rules]
        # A CEL context converts all it is given, so it is given only what some expression reads.
        read = set().union(*(_members(entry.expression) for entry in policy.entries()))
        self._reads = {root: sorted(name for r, name in read if r == root) for root in MEMBERS}

    @classmethod
    def load(cls, text: bytes) -> Self:
        """Parse and check a policy file. Raises UndecidableError with what is wrong; nothing half valid is ever
        used.
        """
        try:
            policy = Policy.model_validate_json(text)
        except ValidationError as error:
            faults = "; ".join(f"{fault.field}: {fault.message}" for fault in faults_of(error))
            raise UndecidableError(f"policy: {faults}") from None
        return cls(policy, f"{policy.name}-{hashlib.sha256(text).hexdigest()[:8]}")

    @property
    def silenceable(self) -> frozenset[str]:
        """What an allow entry may name: codes that no protected rule uses, and `model`."""
        protected = {rule.code for rule in self.policy.rules if rule.protected}
        return frozenset({"model", *(rule.code for rule in self.policy.rules)} - protected)

    def judge(self, inputs: Inputs) -> Ruling:
        """Find the segment and every rule that holds. Never raises: an expression that fails is named in `failed`."""
        return self._judge(inputs, self._segments, self._rules)

    def judge_blind(self, transaction: Transaction, state: State | None) -> Ruling:
        """The outage policy's ruling: `judge` of everything that reads no counters, and its own opinion as one more
        hit. Without a `state` profiles are unknown too, and the ruling a pure function of payment and policy.
        """
        known: dict[str, Mapping[str, Any]] = {"transaction": transaction.__dict__}
        if state is not None:
            known["standing"] = standing(transaction, state)
        segments = [each for each in self._segments if _reads_only(each[0], known)]
        rules = [each for each in self._rules if _reads_only(each[0], known)]
        ruling = self._judge(known, segments, rules)
        outage = self.policy.outage[ruling.segment.id]
        hits = [hit for hit in ruling.hits if hit.protected or outage.policy != "open"]
        reason = Reason(code=OUTAGE, text=self.policy.reasons[OUTAGE], source=f"outage:{outage.policy}")
        hits.append(Hit(outage.outcome(transaction.amount), "outage", (reason,), retryable=True, protected=True))
        return ruling._replace(hits=tuple(hits))

    def _judge(
        self,
        inputs: Inputs,
        segments: Iterable[tuple[Segment, cel.Program]],
        rules: Iterable[tuple[Rule, cel.Program]],
    ) -> Ruling:
        read = {root: _pick(inputs[root], names) for root, names in self._reads.items() if root in inputs}
        context = cel.Context(read)
        failed: list[str] = []

        def holds(entry: Rule | Segment, program: cel.Program) -> bool:
            try:
                held = program.execute(context)
            except Exception:  # noqa: BLE001 - whatever an expression does wrong, the payment is decided without it
                held = None
            if not isinstance(held, bool):
                failed.append(entry.id)
            return held is True

        segment = next((segment for segment, program in segments if holds(segment, program)), STANDARD)
        hits = tuple(self._hit(rule) for rule, program in rules if holds(rule, program))
        return Ruling(segment, hits, tuple(failed))

    def _hit(self, rule: Rule) -> Hit:
        reason = Reason(code=rule.code, text=self.policy.reasons[rule.code], source=f"{rule.id}@{rule.version}")
        return Hit(rule.outcome, "rule", (reason,), rule.retryable, rule.protected)

    def explain(self, outcome: Outcome, contributions: Iterable[tuple[str, float]]) -> Hit:
        """The model's opinion: its features' contributions (log odds, largest first) in words, one reason per code."""
        reasons: dict[str, Reason] = {}
        for feature, contribution in contributions:
            code = self.policy.feature_reasons[feature]
            words = self.policy.reasons[code]
            reasons.setdefault(code, Reason(code=code, text=words, source="model", contribution=round(contribution, 4)))
        return Hit(outcome, "model", tuple(reasons.values()), retryable=False)


def inputs(
    transaction: Transaction, values: Mapping[str, float], vector: Sequence[float], state: State
) -> dict[str, Mapping[str, Any]]:
    """What expressions read. Unset transaction fields are null; a missing feature is absent, so ask
    `has(features.x)`.
    """
    return {
        "transaction": transaction.__dict__,
        "counters": values,
        # NaN is no number in CEL: comparing with it fails, while an absent member can be asked for.
        "features": {name: value for name, value in zip(features.NAMES, vector, strict=True) if value == value},  # noqa: PLR0124
        "standing": standing(transaction, state),
    }


def standing(transaction: Transaction, state: State) -> dict[str, Any]:
    """Who is denied and whose account is not active, at the payment's own time."""
    held = {role: state.profiles.get(pk, {}) for role, pk in counters.profiles(transaction).items()}
    denied = {f"{role}_denied": denies(held.get(role, {}), transaction.occurred_at) for role in ROLES}
    status = {f"{role}_status": _status(held.get(role, {})) for role in ("payer", "payee")}
    return denied | status


def silenced(transaction: Transaction, state: State) -> frozenset[str]:
    """Rule codes (and `model`) that allow entries in force of anyone involved silence at the payment's own time.

    An entry that cannot be read silences nothing.
    """
    codes: set[str] = set()
    for pk in counters.profiles(transaction).values():
        entry = state.profiles.get(pk, {}).get("allow")
        with contextlib.suppress(AttributeError, KeyError, TypeError, PydanticCustomError):
            if entry is not None and _in_force(entry, transaction.occurred_at):
                codes.update(entry["silences"])
    return frozenset(codes)


def _status(profile: Profile) -> str:
    """An account's state; whoever wrote something else than a state meant no good, so it counts as not active."""
    held = profile.get("status", {"state": "active"})
    return str(held.get("state")) if isinstance(held, Mapping) else "unreadable"


def denies(profile: Profile, at: datetime) -> bool:
    """Whether a profile carries a deny entry in force at `at`: one that never expires, or not yet."""
    entry = profile.get("deny")
    try:
        return entry is not None and _in_force(entry, at)
    except (AttributeError, PydanticCustomError):
        return True  # an entry that cannot be read was still put there to deny


def _in_force(entry: Mapping[str, Any], at: datetime) -> bool:
    return entry.get("expires_at") is None or instant(entry["expires_at"]) > at


def _pick(values: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: values[name] for name in names if name in values}


def _members(expression: str) -> set[tuple[str, str]]:
    """(root, member) for every read; the member is empty where a root stands alone."""
    return set(_MEMBER.findall(_bare(expression)))


def _reads_only(entry: _Entry, roots: Collection[str]) -> bool:
    return all(root in roots for root, _ in _members(entry.expression))


def _bare(expression: str) -> str:
    """The expression with every string empty: what is left is code."""
    return _LITERAL.sub("''", expression)


def _compile(id_: str, expression: str) -> cel.Program:
    """Parse and check one expression. Raises UndecidableError naming the entry and what is wrong with it."""
    try:
        _check_bounds(expression)
        program = cel.compile(expression)
        members = _members(expression)
        _check_names(members, {*program.functions(), *_CALL.findall(_bare(expression))}, program.variables())
        for sample in _samples(members):
            if not isinstance(program.execute(cel.Context(sample)), bool):
                raise ValueError("the result is not true or false")  # noqa: TRY004 - one kind of error for the author
    except Exception as error:  # noqa: BLE001 - the engine raises many kinds; the author needs one
        raise UndecidableError(f"{id_}: {error}") from None
    return program


def _check_bounds(expression: str) -> None:
    depths = itertools.accumulate((char in "([") - (char in ")]") for char in _bare(expression))
    if len(expression) > MAX_LENGTH:
        raise ValueError(f"longer than {MAX_LENGTH} characters")
    if any(sign in expression for sign in ("\\", "'''", '"""')) or "//" in _bare(expression):
        raise ValueError("backslashes, triple quotes and comments would hide names from the checks")
    if max(depths, default=0) > MAX_NESTING:
        raise ValueError(f"nested deeper than {MAX_NESTING}")


def _check_names(members: set[tuple[str, str]], calls: set[str], variables: Iterable[str]) -> None:
    unknown = {f"{root}.{name}" for root, name in members if name not in MEMBERS[root]}
    unknown |= {name for name in variables if name not in MEMBERS}
    unknown |= calls - FUNCTIONS - {"has", "in"}
    if unknown:
        raise ValueError(f"unknown: {', '.join(sorted(unknown))}")


def _samples(members: Iterable[tuple[str, str]]) -> Iterable[dict[str, dict[str, Any]]]:
    """What the expression reads, for every transaction type with quiet, busy and mixed values: its types must hold
    in all.
    """
    rng = random.Random(0)  # noqa: S311 - examples, not secrets
    for kind, busy in itertools.product(("p2p", "merchant", "cash_out", "top_up"), (0, 1, 10**9, None, None, None)):
        sample: dict[str, dict[str, Any]] = {root: {} for root in MEMBERS}
        for root, name in sorted(members):
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
