"""The rule book: the loaded policy, which finds a payment's segment, its hits, and the expressions that failed.

An expression can fail on a payment, for example by a missing optional value. The decision records its id, and the
expression has no influence on the outcome.
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
    """The policy's result for one payment.

    segment  the first segment whose expression holds
    hits     one hit for each rule that holds
    failed   ids of the expressions that could not be evaluated
    """

    segment: Segment
    hits: tuple[Hit, ...]
    failed: tuple[str, ...]


class RuleBook:
    """A loaded policy. Every expression is compiled and reads only known names."""

    def __init__(self, policy: Policy, version: str) -> None:
        self.policy = policy
        self.version = version
        self._segments = [(segment, compiled(segment)) for segment in policy.segments]
        self._rules = [(rule, compiled(rule)) for rule in policy.rules]
        # A CEL context converts every value that it is given, so it is given only values that some expression reads.
        read = set().union(*(members(entry.expression) for entry in policy.entries()))
        self._reads = {root: sorted(name for r, name in read if r == root) for root in MEMBERS}

    @classmethod
    def load(cls, text: bytes) -> Self:
        """Parse and check a policy file.

        Raises UndecidableError, which says what is wrong: a policy that is only partly valid is never used.
        """
        try:
            policy = Policy.model_validate_json(text)
        except ValidationError as error:
            faults = "; ".join(f"{fault.field}: {fault.message}" for fault in faults_of(error))
            raise UndecidableError(f"policy: {faults}") from None
        return cls(policy, f"{policy.name}-{hashlib.sha256(text).hexdigest()[:8]}")

    def judge(self, inputs: Inputs) -> PolicyResult:
        """Find the segment and every rule that holds. Never raises: an expression that fails is named in `failed`."""
        return self._judge(inputs, self._segments, self._rules)

    def judge_blind(self, transaction: Transaction, state: State | None) -> PolicyResult:
        """Judge a payment without its counters: by the expressions that read none, and by the outage policy's own hit.

        state  the profiles, if they are known; with None the result depends on the payment and the policy only
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
            except Exception:  # noqa: BLE001 - the payment is decided without an expression that fails, for any cause
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
        """Return the model's hit, with one reason for each reason code of the contributing features.

        contributions  (feature, log odds), largest first; the first feature of a code gives its contribution
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
    """Return the inputs of expressions, by root.

    An unset transaction field is null. A missing feature is absent, so an expression tests `has(features.x)`.
    """
    return {
        "transaction": transaction.__dict__,
        "counters": values,
        # CEL cannot compare with NaN: the expression would fail. It can test whether a member is there.
        "features": {name: value for name, value in zip(features.NAMES, vector, strict=True) if value == value},  # noqa: PLR0124
        "standing": standing(transaction, state),
    }


def _pick(values: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: values[name] for name in names if name in values}


def _reads_only(entry: Expression, roots: Collection[str]) -> bool:
    return all(root in roots for root, _ in members(entry.expression))
