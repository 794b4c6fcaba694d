"""Triage: whether a report is about fraud, about a dispute, or unsure, with reasons in words. Pure.

The classifier weighs category, words and context. Rules, as data in CEL, only raise what it says: no rule makes a
report a dispute, so a wrong rule costs a person's time and never hides a fraud. The more serious verdict holds.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple, Self

import cel
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fraud.cases.classifier import Classifier, Score
from fraud.cases.context import FACTS, Context, told
from fraud.cases.report import CATEGORIES, ReportRequest, Triaged, TriageReason, Verdict
from fraud.errors import UndecidableError
from fraud.transaction import faults_of

SEVERITY: tuple[Verdict, ...] = ("dispute", "unsure", "fraud")
REASONS = 4
"""Most reasons that the classifier gives."""

LEAST = 0.1
"""Least log odds of a part that is told as a reason."""

FAILED = "rule_failed"
"""The code of a rule that could not be evaluated."""

MEMBERS: Mapping[str, frozenset[str]] = {
    "report": frozenset({"category", "usual", "has_text"}),
    "context": frozenset({"role", "known", "repeated", *FACTS}),
}
"""The names that a rule may read. It never sees the text."""

_MEMBER = re.compile(rf"(?<![\w.])({'|'.join(MEMBERS)})\s*\.\s*(\w+)")
_TEXT = re.compile(r""""[^"]*"|'[^']*'""")
_LOOPS = re.compile(r"\.\s*(all|exists|exists_one|map|filter|matches)\s*\(")


class TriageRule(BaseModel):
    """A rule of triage: while its expression holds, the verdict is at least this one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")
    expression: str = Field(max_length=500)
    verdict: Literal["unsure", "fraud"]
    text: str = Field(min_length=1)


class TriageRules(BaseModel):
    """The file of rules."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: str
    rules: tuple[TriageRule, ...]


class _Compiled(NamedTuple):
    rule: TriageRule
    program: cel.Program


class Triage:
    """The rules and the classifier, loaded."""

    def __init__(self, rules: TriageRules, classifier: Classifier) -> None:
        self.classifier = classifier
        self.version = f"{rules.version}-{classifier.version}"
        self._rules = [_Compiled(rule, _compiled(rule)) for rule in rules.rules]

    @classmethod
    def load(cls, rules: bytes, classifier: bytes) -> Self:
        """Parse and check both files. Raises UndecidableError, which says what is wrong."""
        try:
            parsed = TriageRules.model_validate_json(rules)
        except ValidationError as error:
            faults = "; ".join(f"{fault.field}: {fault.message}" for fault in faults_of(error))
            raise UndecidableError(f"triage: {faults}") from None
        return cls(parsed, Classifier.load(classifier))

    def judge(self, report: ReportRequest, context: Context) -> Triaged:
        """Judge a report. Never raises: a rule that fails makes the verdict unsure at least."""
        score = self.classifier.score(report.category, report.text, context.facts)
        weighed = self._weighed(score.probability)
        held = list(self._held(report, context))
        verdict = max([weighed, *(rule.verdict for rule in held)], key=SEVERITY.index)
        reasons = [TriageReason(code=rule.id, text=rule.text) for rule in held]
        reasons += _told(score, report, context, fraud=score.probability >= self.classifier.cuts.dispute)
        return Triaged(verdict=verdict, probability=round(score.probability, 6), reasons=reasons)

    def _weighed(self, probability: float) -> Verdict:
        cuts = self.classifier.cuts
        return "dispute" if probability < cuts.dispute else "fraud" if probability >= cuts.fraud else "unsure"

    def _held(self, report: ReportRequest, context: Context) -> Iterator[TriageRule]:
        """Yield the rules that hold."""
        said = {
            "category": report.category,
            "usual": CATEGORIES[report.category].usual,
            "has_text": report.text is not None,
        }
        read = cel.Context({"report": said, "context": context.readable()})
        for each in self._rules:
            try:
                held = each.program.execute(read)
            except Exception:  # noqa: BLE001 - whatever the engine raises, a person looks at the report
                words = f"The rule {each.rule.id} could not be evaluated."
                yield each.rule.model_copy(update={"id": FAILED, "verdict": "unsure", "text": words})
                continue
            if held is True:
                yield each.rule


def _told(score: Score, report: ReportRequest, context: Context, *, fraud: bool) -> Iterator[TriageReason]:
    """Yield the parts that spoke most for the verdict, in words. None of them has a part of the text.

    fraud  tell what speaks for fraud, else what speaks for a dispute
    """
    sign = 1 if fraud else -1
    strongest = sorted(score.parts, key=lambda name: -sign * score.parts[name])[:REASONS]
    for name in strongest:
        if sign * score.parts[name] >= LEAST:
            yield TriageReason(code=name, text=_words(name, report, context, "fraud" if fraud else "disputes"))


def _words(name: str, report: ReportRequest, context: Context, kind: str) -> str:
    if name == "category":
        return f"The user's category, {CATEGORIES[report.category].words}, is usual for {kind}."
    if name == "words":
        said = "The report has no words, which is" if report.text is None else "The words are as"
        return f"{said} usual for {kind}."
    fact = told(name, context.facts[name])
    return f"{fact[0].upper()}{fact[1:]}: usual for {kind}."


def _compiled(rule: TriageRule) -> cel.Program:
    """Compile an expression that reads only known names and gives true or false. Raises UndecidableError."""
    try:
        bare = _TEXT.sub("''", rule.expression)
        program = cel.compile(rule.expression)
        unknown = {f"{root}.{name}" for root, name in _MEMBER.findall(bare) if name not in MEMBERS[root]}
        unknown |= set(program.variables()) - MEMBERS.keys()
        unknown |= set(_LOOPS.findall(bare))
        if unknown:
            raise ValueError(f"unknown: {', '.join(sorted(unknown))}")
        for example in _examples():
            if not isinstance(program.execute(cel.Context(example)), bool):
                raise ValueError("the result is not true or false")  # noqa: TRY004 - one kind of error for the author
    except Exception as error:  # noqa: BLE001 - the engine raises many kinds; the author needs one
        raise UndecidableError(f"triage: {rule.id}: {error}") from None
    return program


def _examples() -> Iterator[dict[str, dict[str, Any]]]:
    """Yield inputs that an expression is tried on when it is loaded."""
    for truth, number in ((False, 0.0), (True, 1e6)):
        report = {"category": "other", "usual": "unsure", "has_text": truth}
        context = {"role": "payer", "known": truth, "repeated": truth} | dict.fromkeys(FACTS, number)
        yield {"report": report, "context": context}
