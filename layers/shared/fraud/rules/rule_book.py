"""The rule book: the loaded policy, which finds a payment's segment, its hits, and the expressions that failed.

An expression can fail on a payment, for example by a missing optional value. The decision records its id, and the
expression has no influence on the outcome.
"""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, Self, TypeVar

import cel

from fraud.counters.layout import State
from fraud.counters.sampling import EXACT
from fraud.counters.windows import kind_of
from fraud.errors import UndecidableError
from fraud.outcome import Hit, Outcome, Reason, worst
from fraud.rules.expression import MEMBERS, Patterns, compiled, examples, in_order, members
from fraud.rules.policy import AWAY, FLOODED, MAX_BYTES, OUTAGE, STANDARD, Policy, Rule, Segment
from fraud.rules.standing import standing
from fraud.scoring import features
from fraud.transaction import Transaction, load_part

Inputs = Mapping[str, Mapping[str, Any]]

REASONS_OF_THE_MODEL = 4
"""Most reason codes that the model may give: an analyst reads the strongest few, not thirty."""

LEAST_SHARE = 0.1
"""Least contribution of a feature that its reason tells of, as a share of the largest one of the same reason."""


class PolicyResult(NamedTuple):
    """The policy's result for one payment.

    segment  the first segment whose expression holds
    hits     one hit for each rule that holds
    failed   ids of the expressions that could not be evaluated
    """

    segment: Segment
    hits: tuple[Hit, ...]
    failed: tuple[str, ...]


R = TypeVar("R", Rule, Segment)


class _Compiled(NamedTuple, Generic[R]):
    """A rule or segment with its program, and the roots and the kinds of counters that it reads.

    about     all names that it reads, in their order
    kinds     of the counters that it reads itself
    of_flood  those, and the kinds of the counters that its features read
    """

    entry: R
    program: cel.Program
    roots: frozenset[str]
    about: tuple[str, ...]
    kinds: frozenset[str | None]
    of_flood: frozenset[str | None]


class RuleBook:
    """A loaded policy. Every expression is compiled and reads only known names.

    exact        names of the kinds that are never sampled: those of `sampling.EXACT`, and those whose counters a
                 protected rule reads
    dispensable  names of the other kinds that every decision may do without
    meaning_none values that mean "none", by field
    """

    def __init__(self, policy: Policy, version: str) -> None:
        self.policy = policy
        self.version = version
        self.exact = EXACT | policy.protected_kinds()
        self.meaning_none = policy.meaning_none()
        self._patterns = Patterns()
        self._segments = [_compiled(segment, self._patterns) for segment in policy.segments]
        self._rules = [_compiled(rule, self._patterns) for rule in policy.rules]
        self.dispensable = frozenset(policy.outage[STANDARD.id].without) - self.exact
        self._check_closed()
        # A CEL context converts every value that it is given, so it is given only values that some expression reads.
        read = set().union(*(members(entry.expression) for entry in policy.entries()))
        self._reads = {root: sorted(name for r, name in read if r == root) for root in MEMBERS}

    @classmethod
    def load(cls, text: bytes) -> Self:
        """Parse and check a policy file.

        Raises UndecidableError, which says what is wrong: a policy that is only partly valid is never used.
        """
        if len(text) > MAX_BYTES:
            raise UndecidableError(f"policy: larger than {MAX_BYTES} bytes")
        policy = load_part(Policy, text, "policy")
        return cls(policy, f"{policy.name}-{policy.digest()}")

    def _check_closed(self) -> None:
        """Check that on a closed item, whose counters stand still, protected rules have the outcome of its limits.

        Raises UndecidableError otherwise: whoever makes too many attempts would undo a limit on them.
        """
        for kind in sorted(self.policy.protected_kinds()):
            limits = [each for each in self._rules if each.entry.protected and kind in each.kinds]
            hits = [each.entry.outcome for each in limits if self._holds_on_closed(each, f"{kind}_closed")]
            if worst(hits).severity() < worst([each.entry.outcome for each in limits]).severity():
                raise UndecidableError(
                    f"policy: {limits[0].entry.id} limits counters that stand still once the {kind}'s item is closed: a"
                    f" protected rule must have the same outcome when counters.{kind}_closed == 1 and all others are 0"
                )

    def _holds_on_closed(self, each: _Compiled[Rule], closed: str) -> bool:
        """Tell whether a rule holds for some type of payment when its only counter above 0 is that of a closed item."""
        for example in examples(members(each.entry.expression), (0,)):
            example["counters"] |= {closed: 1} if closed in example["counters"] else {}
            if each.program.execute(cel.Context(example, self._patterns.functions())):
                return True
        return False

    def judge(self, inputs: Inputs) -> PolicyResult:
        """Find the segment and every rule that holds. Never raises: an expression that fails is named in `failed`."""
        return self._judge(inputs, lambda _: True)

    def judge_without(
        self, inputs: Inputs, away: Collection[str], unread: Collection[str], flooded: Collection[str] = ()
    ) -> PolicyResult | None:
        """Judge a payment that some counters do not have. The outage policy's own hit says the least outcome.

        A segment that may not do without one of the kinds is passed over, as one that cannot be judged. Return None
        when the standard segment may not either; the payment is then judged blind.

        inputs  as for `judge`
        away    names of the kinds whose counters do not have the payment, at least one
        unread  names of those that could not be read either: expressions that read counters of theirs are left out
        flooded names of those whose key gets more requests than DynamoDB takes
        """

        def is_judged(each: _Compiled[Any]) -> bool:
            outage = self.policy.outage.get(each.entry.id)  # of a segment; a rule has none
            return (outage is None or outage.without.keys() >= set(away)) and each.kinds.isdisjoint(unread)

        policy_result = self._judge(inputs, is_judged)
        floor = self.policy.outage[policy_result.segment.id].floor(away, inputs["transaction"]["amount"])
        if floor is None:
            return None
        away_hit = self._outage_hit(floor, AWAY, "without", [f"counter:{kind}" for kind in away])
        hits = (*policy_result.hits, away_hit, *self._of_flood(flooded))
        return policy_result._replace(hits=hits)

    def judge_blind(
        self, transaction: Transaction, state: State | None, flooded: Collection[str] = (), away: Collection[str] = ()
    ) -> PolicyResult:
        """Judge a payment without its counters: by the expressions that read none, and by the outage policy's own hit.

        state    the profiles, if they are known; with None the result depends on the payment and the policy only
        flooded  as for `judge_without`
        away     as for `judge_without`; empty when nothing could be read
        """
        known: dict[str, Mapping[str, Any]] = {"transaction": transaction.__dict__}
        if state is not None:
            known["standing"] = standing(transaction, state)
        policy_result = self._judge(known, lambda each: each.roots <= known.keys())
        outage = self.policy.outage[policy_result.segment.id]
        hits = [hit for hit in policy_result.hits if hit.protected or outage.policy != "open"]
        missing = [f"counter:{kind}" for kind in away] or ["state"]
        hits.append(self._outage_hit(outage.outcome(transaction.amount), OUTAGE, outage.policy, missing))
        return policy_result._replace(hits=(*hits, *self._of_flood(flooded)))

    def _of_flood(self, flooded: Collection[str]) -> tuple[Hit, ...]:
        """Return a hit with the worst outcome of all rules that read the counters of flooded keys; none without a rule.

        The counters lack attempts, so each of the rules might hold if it saw them: a flood must not buy that.
        """
        outcomes = [each.entry.outcome for each in self._rules if not each.of_flood.isdisjoint(flooded)]
        about = [f"flooded:{kind}" for kind in sorted(flooded)]
        return (self._outage_hit(worst(outcomes), FLOODED, "flooded", about),) if outcomes else ()

    def _judge(self, inputs: Inputs, is_judged: Callable[[_Compiled[Any]], bool]) -> PolicyResult:
        """Judge by the segments and rules for which `is_judged` holds."""
        read = {root: _pick(inputs[root], names) for root, names in self._reads.items() if root in inputs}
        context = cel.Context(read, self._patterns.functions())
        failed: list[str] = []

        def holds(each: _Compiled[Any]) -> bool:
            try:
                held = each.program.execute(context)
            except Exception:  # noqa: BLE001 - the payment is decided without an expression that fails, for any cause
                held = None
            if not isinstance(held, bool):
                failed.append(each.entry.id)
            return held is True

        segment = next((each.entry for each in self._segments if is_judged(each) and holds(each)), STANDARD)
        hits = tuple([self._hit(each) for each in self._rules if is_judged(each) and holds(each)])
        return PolicyResult(segment, hits, tuple(failed))

    def _hit(self, each: _Compiled[Rule]) -> Hit:
        rule = each.entry
        reason = Reason(code=rule.code, text=self.policy.reasons[rule.code], source=f"{rule.id}@{rule.version}")
        return Hit(rule.outcome, "rule", (reason,), rule.retryable, rule.protected, {rule.code: each.about})

    def _outage_hit(self, outcome: Outcome, code: str, source: str, about: Sequence[str]) -> Hit:
        reason = Reason(code=code, text=self.policy.reasons[code], source=f"outage:{source}")
        return Hit(outcome, "outage", (reason,), retryable=True, protected=True, about={code: about})

    def explain(self, outcome: Outcome, contributions: Iterable[tuple[str, float]]) -> Hit:
        """Return the model's hit: the strongest codes whose features together raised the score, largest first.

        contributions  (feature, log odds) of every feature that raised or lowered the score, largest first

        A code's contribution is the sum over its features: the score's margin stays the sum of all codes (D-092). If no
        sum is positive, the largest one is the only reason: no hit is without one.
        """
        groups: dict[str, list[tuple[str, float]]] = {}
        for feature, by in contributions:
            groups.setdefault(self.policy.feature_reasons[feature], []).append((feature, by))
        sums = {code: round(math.fsum([by for _, by in group]), 4) for code, group in groups.items()}
        ordered = sorted(sums, key=lambda code: (-sums[code], code))
        codes = [code for code in ordered[:REASONS_OF_THE_MODEL] if sums[code] > 0] or ordered[:1]
        reasons = tuple([self._by_model(code, sums[code]) for code in codes])
        about = {code: _telling(groups[code]) for code in codes}
        return Hit(outcome, "model", reasons, retryable=False, about=about)

    def _by_model(self, code: str, contribution: float) -> Reason:
        return Reason(code=code, text=self.policy.reasons[code], source="model", contribution=contribution)


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


def _telling(group: Sequence[tuple[str, float]]) -> list[str]:
    """Return the names of a code's features that raised the score, without those of little weight beside the first.

    >>> _telling([("amount_log", 1.0), ("is_retry", 0.09), ("is_top_up", -0.5)]), _telling([("is_retry", -0.1)])
    (['features.amount_log'], ['features.is_retry'])
    """
    least = group[0][1] * LEAST_SHARE
    return [f"features.{name}" for n, (name, by) in enumerate(group) if n == 0 or by > max(least, 0)]


def _pick(values: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: values[name] for name in names if name in values}


def _compiled(entry: R, patterns: Patterns) -> _Compiled[R]:
    read = members(entry.expression)
    program = compiled(entry.id, entry.expression, patterns)
    kinds = frozenset(kind_of(name) for root, name in read if root == "counters")
    by_features = [features.kinds_of(name) for root, name in read if root == "features"]
    roots = frozenset(root for root, _ in read)
    return _Compiled(entry, program, roots, in_order(entry.expression), kinds, kinds.union(*by_features))
