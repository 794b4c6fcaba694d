"""The route of a case: closed by itself, held at once, or handed to an analyst. Rules are data, in CEL. Pure.

Every case goes to an analyst unless a rule says otherwise, and the most cautious rule that holds counts. So a rule that
is missing or fails costs a person's time, and never closes a case.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple, Self

from fraud.cases.evidence import FACTS
from fraud.cases.rules import CompiledRules, FactRule, RuleFile

Route = Literal["close", "analyst", "hold"]
CAUTION: tuple[Route, ...] = ("close", "analyst", "hold")
"""The routes, the least cautious first."""

MEMBERS = {"case": frozenset(FACTS)}
"""The names that a rule may read."""

EXAMPLES = tuple(
    {"case": dict.fromkeys(FACTS, number) | {"by_hand": truth}} for truth, number in ((False, 0.0), (True, 1e6))
)
"""Facts that an expression is tried on when it is loaded."""


class RouteRule(FactRule):
    """A rule: while its expression holds, a case takes this route, unless another rule is more cautious."""

    route: Route


class Routed(NamedTuple):
    """The route of a case, and the rules that hold, each in words."""

    route: Route
    reasons: tuple[str, ...]


class Routing:
    """The rules, compiled."""

    def __init__(self, rules: RuleFile[RouteRule]) -> None:
        self.version = rules.version
        self._rules = CompiledRules("routing", rules.rules, MEMBERS, EXAMPLES)

    @classmethod
    def load(cls, text: bytes) -> Self:
        """Parse and check a file of rules. Raises UndecidableError, which says what is wrong."""
        return cls(RuleFile[RouteRule].parse(text, "routing"))

    def route(self, facts: Mapping[str, float | bool]) -> Routed:
        """Return the route of a case with these facts. Never raises: a rule that fails leads to an analyst."""
        held = list(self._rules.held({"case": facts}, {"route": "analyst"}))
        route: Route = max((rule.route for rule in held), key=CAUTION.index, default="analyst")
        return Routed(route, tuple(rule.text for rule in held))
