"""The route of a case: closed by itself, held at once, or handed to an analyst. Rules are data, in CEL. Pure.

Every case goes to an analyst unless a rule says otherwise, and the most cautious rule that holds counts. So a rule that
is missing or fails costs a person's time, and never closes a case.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple, Self

import cel
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fraud.cases.evidence import FACTS
from fraud.errors import UndecidableError
from fraud.transaction import faults_of

Route = Literal["close", "analyst", "hold"]
CAUTION: tuple[Route, ...] = ("close", "analyst", "hold")
"""The routes, the least cautious first."""

FAILED = "rule_failed"

_MEMBER = re.compile(r"(?<![\w.])case\s*\.\s*(\w+)")
_LOOPS = re.compile(r"\.\s*(all|exists|exists_one|map|filter|matches)\s*\(")


class RouteRule(BaseModel):
    """A rule: while its expression holds, a case takes this route, unless another rule is more cautious."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")
    expression: str = Field(max_length=500)
    route: Route
    text: str = Field(min_length=1)


class RouteRules(BaseModel):
    """The file of rules."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: str
    rules: tuple[RouteRule, ...]


class Routed(NamedTuple):
    """The route of a case, and the rules that hold, each in words."""

    route: Route
    reasons: tuple[str, ...]


class Routing:
    """The rules, compiled."""

    def __init__(self, rules: RouteRules) -> None:
        self.version = rules.version
        self._rules = [(rule, _compiled(rule)) for rule in rules.rules]

    @classmethod
    def load(cls, text: bytes) -> Self:
        """Parse and check a file of rules. Raises UndecidableError, which says what is wrong."""
        try:
            return cls(RouteRules.model_validate_json(text))
        except ValidationError as error:
            faults = "; ".join(f"{fault.field}: {fault.message}" for fault in faults_of(error))
            raise UndecidableError(f"routing: {faults}") from None

    def route(self, facts: Mapping[str, float | bool]) -> Routed:
        """Return the route of a case with these facts. Never raises: a rule that fails leads to an analyst."""
        held = list(self._held(facts))
        route: Route = max((rule.route for rule in held), key=CAUTION.index, default="analyst")
        return Routed(route, tuple(rule.text for rule in held))

    def _held(self, facts: Mapping[str, float | bool]) -> Iterator[RouteRule]:
        read = cel.Context({"case": dict(facts)})
        for rule, program in self._rules:
            try:
                held = program.execute(read)
            except Exception:  # noqa: BLE001 - whatever the engine raises, a person looks at the case
                text = f"The rule {rule.id} could not be evaluated."
                yield rule.model_copy(update={"id": FAILED, "route": "analyst", "text": text})
                continue
            if held is True:
                yield rule


def _compiled(rule: RouteRule) -> cel.Program:
    """Compile an expression that reads only known facts and gives true or false. Raises UndecidableError."""
    try:
        program = cel.compile(rule.expression)
        unknown = {f"case.{name}" for name in _MEMBER.findall(rule.expression) if name not in FACTS}
        unknown |= {*program.variables()} - {"case"} | {*_LOOPS.findall(rule.expression)}
        if unknown:
            raise ValueError(f"unknown: {', '.join(sorted(unknown))}")
        for example in _examples():
            if not isinstance(program.execute(cel.Context({"case": example})), bool):
                raise ValueError("the result is not true or false")  # noqa: TRY004 - one kind of error for the author
    except Exception as error:  # noqa: BLE001 - the engine raises many kinds; the author needs one
        raise UndecidableError(f"routing: {rule.id}: {error}") from None
    return program


def _examples() -> Iterator[dict[str, Any]]:
    """Yield facts that an expression is tried on when it is loaded."""
    for truth, number in ((False, 0.0), (True, 1e6)):
        yield dict.fromkeys(FACTS, number) | {"by_hand": truth}
