"""The evidence of a case: what is known of its payments, its accounts and its past when it is collected. Pure.

It is a snapshot: an analyst judges by what stood here, however the accounts change later. `facts` are the numbers that
the rules of the route read (`routing`).
"""

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field

from fraud.activity.page import AccountPage
from fraud.cases.blindness import PAYMENT
from fraud.cases.case import Case
from fraud.counters import windows
from fraud.decisions.record import Contents
from fraud.decisions.resolution import Resolution, Status, StatusChange
from fraud.errors import NotFoundError
from fraud.outcome import Outcome
from fraud.transaction import Timestamp, Transaction

MOST_DECISIONS = 20
"""Most decisions that the evidence has: those of the latest payments of the case."""

MOST_EARLIER, MOST_REPORTS = 20, 50
"""Most earlier cases, and most reports."""


ReadDecision = Callable[[str], tuple[Contents, Resolution]]


class Normal(BaseModel):
    """What the payer usually does, by its other payments of 30 days. A value is null where it is not known.

    Amounts are in minor units.
    """

    model_config = ConfigDict(frozen=True)

    payments: float | None
    mean_amount: float | None
    largest_amount: float | None = Field(description="The largest amount of 30 days, this payment included.")
    receivers: float | None = Field(description="Different receivers of 30 days, this one included; an estimate.")
    payments_to_receiver: float | None
    known_days: float | None = Field(description="Days since the payer's first payment.")

    @classmethod
    def of(cls, payment: Transaction, counters: Mapping[str, float | None]) -> Self:
        """Return the normal of a payment's payer.

        counters  as they were when the payment was decided, the payment included
        """
        count, total, age = (counters.get(f"payer_{name}") for name in ("count_30d", "sum_30d", "age"))
        others = _less(count, 1)
        mean = (total - payment.counted_amount) / others if others and total is not None else None
        return cls(
            payments=others,
            mean_amount=mean,
            largest_amount=counters.get("payer_largest_30d"),
            receivers=counters.get("payer_distinct_30d"),
            payments_to_receiver=_less(counters.get("pair_count_30d"), 1),
            known_days=None if age is None else age / 86_400,
        )


def _less(value: float | None, one: int) -> float | None:
    return None if value is None else max(value - one, 0)


class DecisionEvidence(BaseModel):
    """A payment of the case: as it was sent, how it was decided, and what has become of it."""

    model_config = ConfigDict(frozen=True)

    transaction: Mapping[str, Any] = Field(description="The payment as it was sent.")
    decision: Mapping[str, Any] = Field(description="The answer as it was given, with score and reasons.")
    status: Status
    outcome_now: Outcome
    changes: tuple[StatusChange, ...]
    counters: Mapping[str, float | None] = Field(description="As they were when the payment was decided.")
    normal: Normal

    @classmethod
    def of(cls, contents: Contents, resolution: Resolution) -> Self:
        """Read the evidence from a decision's row. `resolution`: at the time of collecting."""
        payment = Transaction.model_validate_json(contents.transaction)
        values = json.loads(contents.counters)
        # A row of another release has other counters: their names are not known, so their values tell nothing.
        counters = dict(zip(windows.NAMES, values, strict=True)) if len(values) == len(windows.NAMES) else {}
        return cls(
            transaction=json.loads(contents.transaction),
            decision=json.loads(contents.answer),
            status=resolution.status,
            outcome_now=resolution.outcome_now,
            changes=resolution.changes,
            counters=counters,
            normal=Normal.of(payment, counters),
        )

    @property
    def transaction_id(self) -> str:
        """The payment's id."""
        return str(self.transaction["transaction_id"])

    @property
    def parties(self) -> tuple[str, ...]:
        """The accounts of the payment: its payer, and its payee if it has one."""
        return tuple(filter(None, (self.transaction["payer_id"], self.transaction.get("payee_id"))))

    @property
    def last_change(self) -> str:
        """The last change of the decision's status; `decided` if there was none."""
        return self.changes[-1].change if self.changes else "decided"

    def counter(self, name: str) -> float:
        """Return a counter's value; 0 if it is not known."""
        return self.counters.get(name) or 0.0

    @property
    def blind(self) -> "BlindPayment":
        """The payment without its decision."""
        return BlindPayment.model_validate({name: getattr(self, name) for name in PAYMENT})


class BlindPayment(BaseModel):
    """A payment of the case that is in a blind review: nothing of its decision is shown before the verdict there."""

    model_config = ConfigDict(frozen=True)

    transaction: Mapping[str, Any] = Field(description="The payment as it was sent.")
    counters: Mapping[str, float | None] = Field(description="As they were when the payment was decided.")
    normal: Normal


class EarlierCase(BaseModel):
    """An earlier case of the same subject."""

    model_config = ConfigDict(frozen=True)

    case_id: str
    state: str
    opened_at: Timestamp
    finding: str | None


class Evidence(BaseModel):
    """All that was known of a case when it was collected."""

    model_config = ConfigDict(frozen=True)

    case_id: str
    kind: str = Field(description="`payee` or `payer`: the side that the case is about.")
    subject: str = Field(description="The account that the case is about.")
    by_hand: bool = Field(description="Whether a person has opened the case.")
    collected_at: Timestamp
    alerts: int = Field(description="Payments of the case, whether they are among `decisions` or not.")
    decisions: tuple[DecisionEvidence, ...] = Field(description="Of the latest payments, the latest first.")
    accounts: tuple[AccountPage, ...] = Field(description="Pages of both accounts of the latest payment.")
    earlier: tuple[EarlierCase, ...] = Field(description="Earlier cases of the subject, the latest first.")
    reports: tuple[Mapping[str, Any], ...] = Field(description="Reports about the subject, the latest first.")
    joined_reports: int = Field(description="Reports that opened or joined the case.")

    @property
    def facts(self) -> Mapping[str, float | bool]:
        """The facts that the rules of the route read; FACTS says what each means."""
        return {name: read(self) for name, read in FACTS.items()}


def latest(decisions: Iterable[DecisionEvidence]) -> tuple[DecisionEvidence, ...]:
    """Return the decisions that the evidence has: those of the latest payments, the latest first."""
    return tuple(sorted(decisions, key=lambda one: one.transaction["occurred_at"], reverse=True)[:MOST_DECISIONS])


def decided(read: ReadDecision, transaction_ids: Iterable[str], now: datetime) -> Iterator[DecisionEvidence]:
    """Yield the evidence of payments as it is now; that of a payment which was not decided here is left out.

    read  reads what a decision was made of, and its state. Raises NotFoundError
    """
    for transaction_id in transaction_ids:
        with suppress(NotFoundError):
            contents, resolution = read(transaction_id)
            yield DecisionEvidence.of(contents, resolution.at(now))


class Joined(BaseModel):
    """The alerts and reports that have joined a case since its evidence was collected."""

    model_config = ConfigDict(frozen=True)

    transaction_ids: tuple[str, ...] = Field(description="Payments that the evidence does not know, the latest last.")
    decisions: tuple[DecisionEvidence | BlindPayment, ...] = Field(
        description=f"Decisions of the {MOST_DECISIONS} that joined last, as they are now; the latest payment first."
    )
    reports: tuple[str, ...] = Field(description="Reports by their ids.")

    @classmethod
    def of(cls, document: str, case: Case, read: ReadDecision, now: datetime) -> Self:
        """Read what has joined a case since a snapshot. Alerts and reports only join, so the later ones are new."""
        known = json.loads(document)
        alerts = case.alerts[known["alerts"] :]
        decisions = latest(decided(read, alerts[-MOST_DECISIONS:], now))
        return cls(transaction_ids=alerts, decisions=decisions, reports=case.reports[known["joined_reports"] :])

    def without(self, hidden: Collection[str]) -> Self:
        """Return the same without the decisions on hidden payments."""
        decisions = tuple(
            each.blind if isinstance(each, DecisionEvidence) and each.transaction_id in hidden else each
            for each in self.decisions
        )
        return self.model_copy(update={"decisions": decisions})


def parties(decisions: Sequence[DecisionEvidence], subject: str) -> tuple[str, ...]:
    """Return the accounts whose pages the evidence has: those of the latest payment, else the subject alone."""
    return decisions[0].parties if decisions else (subject,)


def _changed(change: str) -> Any:  # noqa: ANN401 - a function of an evidence
    return lambda evidence: float(sum(one.last_change == change for one in evidence.decisions))


def _frauds_of_others(evidence: Evidence) -> float:
    """Return the most confirmed frauds of 30 days that the payee of a payment has from other payers."""
    found = (max(one.counter("payee_frauds_30d") - one.counter("payer_frauds_30d"), 0) for one in evidence.decisions)
    return max(found, default=0.0)


FACTS: Mapping[str, Any] = {
    "payments": lambda evidence: float(evidence.alerts),
    "decided": lambda evidence: float(len(evidence.decisions)),
    "in_review": lambda evidence: float(sum(one.status is Status.IN_REVIEW for one in evidence.decisions)),
    "passed": _changed("challenge_passed"),
    "failed": _changed("challenge_failed"),
    "score": lambda evidence: max((one.decision.get("score") or 0.0 for one in evidence.decisions), default=0.0),
    "frauds_of_others": _frauds_of_others,
    "payer_frauds": lambda evidence: max((one.counter("payer_frauds_30d") for one in evidence.decisions), default=0.0),
    "reports": lambda evidence: float(max(len(evidence.reports), evidence.joined_reports)),
    "earlier": lambda evidence: float(len(evidence.earlier)),
    "earlier_frauds": lambda evidence: float(sum(one.finding == "fraud" for one in evidence.earlier)),
    "by_hand": lambda evidence: evidence.by_hand,
}
"""The facts by name.

payments          payments of the case
decided           those whose decisions the evidence has
in_review         of these, the ones that wait in review
passed, failed    of these, the ones whose last change is a challenge that was passed or failed
score             the highest score of a decision
frauds_of_others  confirmed frauds of 30 days against a payee by other payers than the payment's
payer_frauds      confirmed frauds of 30 days of a payer
reports           reports about the subject
earlier           earlier cases of the subject; earlier_frauds: those that were found to be fraud
by_hand           whether a person has opened the case
"""
