"""The conclusion from all hits of a payment: the outcome, and its reasons with their facts.

Every door concludes here, and so does an evaluation on a history: equal hits give equal reasons. Pure.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from fraud.outcome import Hit, Outcome, Reason, retryable, worst
from fraud.rules.facts import Subject, facts
from fraud.rules.rule_book import RuleBook, inputs
from fraud.rules.standing import silenced


class Conclusion(NamedTuple):
    """The outcome of the most severe hit, and the reasons of all hits.

    suppressed  reasons of the hits that an allow entry silences: they do not decide
    """

    outcome: Outcome
    reasons: list[Reason]
    suppressed: list[Reason]
    retryable: bool


def conclude(hits: Sequence[Hit], subject: Subject) -> Conclusion:
    """Return the conclusion from the hits of rules, outage policy and model: the worst outcome that is not silenced.

    Without a hit the payment is approved. The hits that allow entries silence are told as suppressed.
    """
    if not hits:  # most payments: they have nothing to explain
        return Conclusion(Outcome.APPROVE, [], [], retryable=False)
    allowed = silenced(subject.transaction, subject.state)
    deciding = [hit for hit in hits if not hit.silenced_by(allowed)]
    outcome = worst([hit.outcome for hit in deciding])
    return Conclusion(
        outcome,
        _reasons(deciding, subject),
        _reasons([hit for hit in hits if hit.silenced_by(allowed)], subject),
        retryable(outcome, deciding),
    )


def conclude_history(
    rule_book: RuleBook, subject: Subject, by_model: Outcome, contributions: Iterable[tuple[str, float]]
) -> Conclusion:
    """Judge a payment of a history by the rules, and conclude as a door does that had all its counters.

    by_model       outcome of the model's score. It counts only where the segment asks the model, as at a door
    contributions  as for `RuleBook.explain`; they are read only if `by_model` is not approve
    """
    result = rule_book.judge(inputs(subject.transaction, subject.counters, subject.vector, subject.state))
    is_hit = result.segment.model and by_model is not Outcome.APPROVE
    return conclude((*result.hits, *([rule_book.explain(by_model, contributions)] if is_hit else [])), subject)


def _reasons(hits: Sequence[Hit], subject: Subject) -> list[Reason]:
    """Return the reasons with their facts, those of the most severe hits first."""
    ordered = sorted(hits, key=lambda hit: -hit.outcome.severity())
    return [
        reason.model_copy(update={"facts": facts(hit.about.get(reason.code, ()), subject)})
        for hit in ordered
        for reason in hit.reasons
    ]
