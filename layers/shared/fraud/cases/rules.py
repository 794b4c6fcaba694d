"""Rules of triage and of routing, as data: each is an expression in CEL over facts. Pure.

An expression is checked and tried when its file is loaded. One that fails later counts as one that holds, with a
cautious result, so that a person looks.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Generic, Self, TypeVar

import cel
from pydantic import BaseModel, ConfigDict, Field

from fraud.errors import UndecidableError
from fraud.transaction import load_part

FAILED = "rule_failed"
"""The id of a rule that could not be evaluated."""

Facts = Mapping[str, Mapping[str, Any]]
"""What an expression reads: values by name, under the name of their group."""

_TEXT = re.compile(r""""[^"]*"|'[^']*'""")
_LOOPS = re.compile(r"\.\s*(all|exists|exists_one|map|filter|matches)\s*\(")


class FactRule(BaseModel):
    """A rule: its `text` says in words what it means that the expression holds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")
    expression: str = Field(max_length=500)
    text: str = Field(min_length=1)


R = TypeVar("R", bound=FactRule)


class RuleFile(BaseModel, Generic[R]):
    """A file of rules."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: str
    rules: tuple[R, ...]

    @classmethod
    def parse(cls, text: bytes, kind: str) -> Self:
        """Parse a file. Raises UndecidableError, which says what is wrong. kind: names the file in the error."""
        return load_part(cls, text, kind)


class CompiledRules(Generic[R]):
    """Rules, compiled. Raises UndecidableError for an expression that reads what is not there, or gives no truth.

    kind      names the rules in the error
    members   the names that an expression may read, by group
    examples  facts that each expression is tried on
    """

    def __init__(
        self, kind: str, rules: Sequence[R], members: Mapping[str, AbstractSet[str]], examples: Sequence[Facts]
    ) -> None:
        self._rules: list[tuple[R, cel.Program]] = []
        for rule in rules:
            try:
                self._rules.append((rule, _compiled(rule.expression, members, examples)))
            except Exception as error:  # noqa: BLE001 - the engine raises many kinds; the author needs one
                raise UndecidableError(f"{kind}: {rule.id}: {error}") from None

    def held(self, facts: Facts, cautious: Mapping[str, str]) -> Iterator[R]:
        """Yield the rules that hold. Never raises.

        cautious  fields of a rule in place of its own when it could not be evaluated
        """
        read = cel.Context({group: dict(values) for group, values in facts.items()})
        for rule, program in self._rules:
            try:
                held = program.execute(read)
            except Exception:  # noqa: BLE001 - whatever the engine raises, a person looks
                text = f"The rule {rule.id} could not be evaluated."
                yield rule.model_copy(update={"id": FAILED, "text": text, **cautious})
                continue
            if held is True:
                yield rule


def _compiled(expression: str, members: Mapping[str, AbstractSet[str]], examples: Sequence[Facts]) -> cel.Program:
    bare = _TEXT.sub("''", expression)
    program = cel.compile(expression)
    read = re.findall(rf"(?<![\w.])({'|'.join(members)})\s*\.\s*(\w+)", bare)
    unknown = {f"{group}.{name}" for group, name in read if name not in members[group]}
    unknown |= set(program.variables()) - members.keys()
    unknown |= set(_LOOPS.findall(bare))
    if unknown:
        raise ValueError(f"unknown: {', '.join(sorted(unknown))}")
    for example in examples:
        if not isinstance(program.execute(cel.Context(dict(example))), bool):
            raise ValueError("the result is not true or false")  # noqa: TRY004 - one kind of error for the author
    return program
