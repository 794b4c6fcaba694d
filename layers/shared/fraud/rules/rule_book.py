"""The loaded policy, and its result for one payment: the segment, every rule that holds, every expression that failed.

An expression that fails on a payment (a missing optional value, say) is recorded in the decision and decides nothing.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Self

import cel
from pydantic import ValidationError

from fraud.counters.layout import State
from fraud.errors import UndecidableError
from fraud.outcome import Hit, Outcome, Reason
from fraud.rules.policy import MEMBERS, OUTAGE, STANDARD, Expression, Policy, Rule, Segment, compiled, members
from fraud.rules.standing import standing
from fraud.scoring import features
from fraud.transaction import Transaction, faults_of

Inputs = Mapping[str, Mapping[str, Any]]


class PolicyResult(NamedTuple):
    """The policy's result for one payment. `failed`: ids of the expressions that could not be evaluated."""

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

    def judge(self, inputs: Inputs) -> PolicyResult:
        """Find the segment and every rule that holds. Never raises: `failed` names an expression that fails."""
        return self._judge(inputs, self._segments, self._rules)

    def judge_blind(self, transaction: Transaction, state: State | None) -> PolicyResult:
        """Judge without counters: by all expressions that read none, and with the outage policy's own hit.

        state  for the profiles; None: those are unknown too, and the result is a pure function of payment and policy
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
        """Return the model's hit, its contributions in words, one reason for each code.

        contributions  (feature, log odds), largest first
        """
        reasons: dict[str, Reason] = {}
        for feature, contribution in contributions:
            code = self.policy.feature_reasons[feature]
            words = self.policy.reasons[code]
            reasons.setdefault(code, Reason(code=code, text=words, source="model", contribution=round(contribution, 4)))
        return Hit(outcome, "model", tuple(reasons.values()), retryable=False)


def inputs(
    transaction: Transaction, values: Mapping[str, float], vector: Sequence[float], state: State
) -> dict[str, Mapping[str, Any]]:
    """Return the inputs of expressions. An unset transaction field is null; a missing feature is absent, so an
    expression asks `has(features.x)`.
    """
    return {
        "transaction": transaction.__dict__,
        "counters": values,
        # NaN is no number in CEL: comparing with it fails, while an absent member can be asked for.
        "features": {name: value for name, value in zip(features.NAMES, vector, strict=True) if value == value},  # noqa: PLR0124
        "standing": standing(transaction, state),
    }


def _pick(values: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: values[name] for name in names if name in values}


def _reads_only(entry: Expression, roots: Collection[str]) -> bool:
    return all(root in roots for root, _ in members(entry.expression))
