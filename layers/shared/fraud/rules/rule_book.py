"""What the policy says of one payment: its segment, every rule that holds, and who is denied, silenced or not active.

An expression that fails on a payment (a missing optional value, say) is recorded in the decision and decides nothing.
"""

import contextlib
import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, Self

import cel
from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from fraud.counters import layout
from fraud.counters.layout import Profile, State
from fraud.errors import UndecidableError
from fraud.outcome import Hit, Outcome, Reason
from fraud.rules.policy import MEMBERS, OUTAGE, ROLES, STANDARD, Expression, Policy, Rule, Segment, compiled, members
from fraud.scoring import features
from fraud.transaction import Transaction, faults_of, instant

Inputs = Mapping[str, Mapping[str, Any]]


class PolicyResult(NamedTuple):
    """What the policy says of one payment; `failed` names the expressions that could not be evaluated."""

    segment: Segment
    hits: tuple[Hit, ...]
    failed: tuple[str, ...]


class RuleBook:
    """A loaded policy: every expression compiled, every name known."""

    def __init__(self, policy: Policy, version: str) -> None:
        self.policy = policy
        self.version = version
        self._segments = [(segment, compiled(segment)) for segment in policy.segments]
        self._rules = [(rule, compiled(rule)) for rule in policy.rules]
        # A CEL context converts all it is given, so it is given only what some expression reads.
        read = set().union(*(members(entry.expression) for entry in policy.entries()))
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

    def judge(self, inputs: Inputs) -> PolicyResult:
        """Find the segment and every rule that holds. Never raises: an expression that fails is named in `failed`."""
        return self._judge(inputs, self._segments, self._rules)

    def judge_blind(self, transaction: Transaction, state: State | None) -> PolicyResult:
        """The outage policy's ruling: `judge` of everything that reads no counters, and its own opinion as one more
        hit. Without a `state` profiles are unknown too, and the ruling a pure function of payment and policy.
        """
        known: dict[str, Mapping[str, Any]] = {"transaction": transaction.__dict__}
        if state is not None:
            known["standing"] = standing(transaction, state)
        segments = [each for each in self._segments if _reads_only(each[0], known)]
        rules = [each for each in self._rules if _reads_only(each[0], known)]
        policy_result = self._judge(known, segments, rules)
        outage = self.policy.outage[policy_result.segment.id]
        hits = [hit for hit in policy_result.hits if hit.protected or outage.policy != "open"]
        reason = Reason(code=OUTAGE, text=self.policy.reasons[OUTAGE], source=f"outage:{outage.policy}")
        hits.append(Hit(outage.outcome(transaction.amount), "outage", (reason,), retryable=True, protected=True))
        return policy_result._replace(hits=tuple(hits))

    def _judge(
        self,
        inputs: Inputs,
        segments: Iterable[tuple[Segment, cel.Program]],
        rules: Iterable[tuple[Rule, cel.Program]],
    ) -> PolicyResult:
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
        return PolicyResult(segment, hits, tuple(failed))

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
    held = {role: state.profiles.get(pk, {}) for role, pk in layout.profiles(transaction).items()}
    denied = {f"{role}_denied": denies(held.get(role, {}), transaction.occurred_at) for role in ROLES}
    status = {f"{role}_status": _status(held.get(role, {})) for role in ("payer", "payee")}
    return denied | status


def silenced(transaction: Transaction, state: State) -> frozenset[str]:
    """Rule codes (and `model`) that allow entries in force of anyone involved silence at the payment's own time.

    An entry that cannot be read, or that has no end, silences nothing.
    """
    codes: set[str] = set()
    for pk in layout.profiles(transaction).values():
        entry = state.profiles.get(pk, {}).get("allow")
        with contextlib.suppress(AttributeError, KeyError, TypeError, PydanticCustomError):
            if entry is not None and instant(entry["expires_at"]) > transaction.occurred_at:
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
        return entry is not None and (entry.get("expires_at") is None or instant(entry["expires_at"]) > at)
    except (AttributeError, PydanticCustomError):
        return True  # an entry that cannot be read was still put there to deny


def _pick(values: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: values[name] for name in names if name in values}


def _reads_only(entry: Expression, roots: Collection[str]) -> bool:
    return all(root in roots for root, _ in members(entry.expression))
