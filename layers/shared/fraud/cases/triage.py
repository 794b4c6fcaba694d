"""Triage: whether a report is about fraud, about a dispute, or unsure, with reasons in words. Pure.

The classifier weighs category, words and context. Rules, as data in CEL, only raise what it says: no rule makes a
report a dispute, so a wrong rule costs a person's time and never hides a fraud. The more serious verdict holds.
"""

from collections.abc import Iterator, Mapping
from typing import Literal, Self

from fraud.cases.classifier import Classifier, Score
from fraud.cases.context import FACTS, Context, told
from fraud.cases.report import CATEGORIES, ReportRequest, Triaged, TriageReason, Verdict
from fraud.cases.rules import CompiledRules, FactRule, RuleFile

SEVERITY: tuple[Verdict, ...] = ("dispute", "unsure", "fraud")
REASONS = 4
"""Most reasons that the classifier gives."""

LEAST = 0.1
"""Least log odds of a part that is told as a reason."""

MEMBERS: Mapping[str, frozenset[str]] = {
    "report": frozenset({"category", "usual", "has_text"}),
    "context": frozenset({"role", "known", "repeated", *FACTS}),
}
"""The names that a rule may read. It never sees the text."""

EXAMPLES = tuple(
    {
        "report": {"category": "other", "usual": "unsure", "has_text": truth},
        "context": {"role": "payer", "known": truth, "repeated": truth} | dict.fromkeys(FACTS, number),
    }
    for truth, number in ((False, 0.0), (True, 1e6))
)
"""Facts that an expression is tried on when it is loaded."""


class TriageRule(FactRule):
    """A rule of triage: while its expression holds, the verdict is at least this one."""

    verdict: Literal["unsure", "fraud"]


class Triage:
    """The rules and the classifier, loaded."""

    def __init__(self, rules: RuleFile[TriageRule], classifier: Classifier) -> None:
        self.classifier = classifier
        self.version = f"{rules.version}-{classifier.version}"
        self._rules = CompiledRules("triage", rules.rules, MEMBERS, EXAMPLES)

    @classmethod
    def load(cls, rules: bytes, classifier: bytes) -> Self:
        """Parse and check both files. Raises UndecidableError, which says what is wrong."""
        return cls(RuleFile[TriageRule].parse(rules, "triage"), Classifier.load(classifier))

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
        """Yield the rules that hold. One that fails makes the verdict unsure."""
        said = {
            "category": report.category,
            "usual": CATEGORIES[report.category].usual,
            "has_text": report.text is not None,
        }
        return self._rules.held({"report": said, "context": context.readable()}, {"verdict": "unsure"})


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
