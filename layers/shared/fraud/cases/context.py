"""The context of a report: what is known of its reporter, its payee, their payments and the decision. Pure.

Triage reads nothing else beside category and words. FACTS says each fact in words, so that a person can see why triage
said what it said. A fact that is not known is None.
"""

import json
import math
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, NamedTuple, Self

from fraud.cases.report import EarlierReport, ReportRequest, Role
from fraud.counters import windows
from fraud.counters.layout import RECEIVING
from fraud.decisions.record import Contents
from fraud.outcome import Outcome
from fraud.transaction import Transaction

HOUR = timedelta(hours=1)

FACTS: Mapping[str, str | tuple[str, str]] = {
    "reporter_frauds": "{:g} earlier reports of the reporter ended as fraud",
    "reporter_disputes": "{:g} earlier reports of the reporter ended as disputes",
    "reporter_unfounded": "{:g} earlier reports of the reporter were unfounded",
    "payee_reports": "{:g} other reports about the payee within 30 days",
    "payee_reporters": "{:g} other people reported the payee within 30 days",
    "payee_frauds": "{:g} reports about the payee ended as fraud within 30 days",
    "payee_disputes": "{:g} reports about the payee ended as disputes within 30 days",
    "pair_payments": "{:g} earlier payments of the payer to the payee within 30 days",
    "pair_age_days": "the payer first paid the payee {:g} days before the payment",
    "amount_ratio": "the amount is {:.2g} times the payer's usual one",
    "hours_since": "the report came {:.0f} hours after the payment",
    "score": "the payment's fraud score was {:.3f}",
    "severity": "the payment's outcome was of severity {:g} of 3",
    "reason_codes": "the decision had {:g} reasons",
    "payee_age_days": "the payee's first payment lay {:.0f} days before",
    "payee_payers": "{:.0f} different payers paid the payee within 30 days",
    "device_new": ("the payer had used the device before", "the payer's device was new"),
    "merchant": ("the payee is no merchant", "the payee is a merchant"),
}
"""The facts that the classifier weighs, in words with their value: two sentences for a fact that is false or true."""


def told(name: str, value: float | None) -> str:
    """Return a fact in words.

    >>> told("payee_reporters", 3.0), told("merchant", 0.0), told("amount_ratio", None)
    ('3 other people reported the payee within 30 days', 'the payee is no merchant', 'not known: amount ratio')
    """
    words = FACTS[name]
    if value is None:
        return f"not known: {name.replace('_', ' ')}"
    return words.format(value) if isinstance(words, str) else words[value > 0]


class ReportedPayment(NamedTuple):
    """A decided payment as a report about it needs it.

    counters  as they were when it was decided, the payment included; a value that was missing is None
    codes     of the decision's reasons
    """

    transaction: Transaction
    outcome: Outcome
    score: float | None
    codes: tuple[str, ...]
    counters: Mapping[str, float | None]

    @classmethod
    def of(cls, contents: Contents) -> Self:
        """Read a payment from the packed part of its decision's row."""
        transaction = Transaction.model_validate_json(contents.transaction)
        answer, values = json.loads(contents.answer), json.loads(contents.counters)
        # A row of another release has other counters: their names are not known, so their values tell nothing.
        counters = dict(zip(windows.NAMES, values, strict=True)) if len(values) == len(windows.NAMES) else {}
        codes = tuple(reason["code"] for reason in answer.get("reasons", ()))
        return cls(transaction, Outcome(answer["outcome"]), answer.get("score"), codes, counters)

    def role(self, account: str) -> Role:
        """Return the part of an account in the payment."""
        if account == self.transaction.payer_id:
            return "payer"
        return "payee" if account == self.transaction.payee_id else "other"


class Context(NamedTuple):
    """The facts around a report when it comes.

    known     whether a decision is stored for the payment
    repeated  whether the reporter reported this payment before
    facts     a value for each name of FACTS, None where it is not known
    """

    role: Role
    known: bool
    repeated: bool
    facts: Mapping[str, float | None]

    def readable(self) -> dict[str, Any]:
        """Return what rules read as `context`: a fact that is not known is 0."""
        return {
            "role": self.role,
            "known": self.known,
            "repeated": self.repeated,
            **{name: float(value or 0) for name, value in self.facts.items()},
        }


def context_of(
    report: ReportRequest,
    payment: ReportedPayment | None,
    of_reporter: Iterable[EarlierReport],
    of_payee: Iterable[EarlierReport],
) -> Context:
    """Return the context of a report.

    of_reporter  stored reports of the same reporter
    of_payee     stored reports about the payment's payee, by anybody
    """
    own = [each for each in of_reporter if each.report_id != report.report_id]
    others = [each for each in of_payee if each.reporter_id != report.reporter_id]
    facts: dict[str, float | None] = dict.fromkeys(FACTS)
    facts |= {
        "reporter_frauds": _ended(own, "fraud"),
        "reporter_disputes": _ended(own, "dispute"),
        "reporter_unfounded": _ended(own, "legitimate"),
        "payee_reports": len(others),
        "payee_reporters": len({each.reporter_id for each in others}),
        "payee_frauds": _ended(others, "fraud"),
        "payee_disputes": _ended(others, "dispute"),
    }
    if payment is not None:
        facts |= _of_payment(payment)
        facts["hours_since"] = max((report.reported_at - payment.transaction.occurred_at) / HOUR, 0.0)
    role: Role = "other" if payment is None else payment.role(report.reporter_id)
    repeated = any(each.transaction_id == report.transaction_id for each in own)
    return Context(role, payment is not None, repeated, facts)


def _ended(reports: Iterable[EarlierReport], status: str) -> int:
    return sum(each.status == status for each in reports)


def _of_payment(payment: ReportedPayment) -> dict[str, float | None]:
    """Return the facts about a payment. Its counters include the payment itself, which is taken off."""
    receiver = RECEIVING[payment.transaction.type].name
    counters = payment.counters

    def days(name: str) -> float | None:
        age = counters.get(name)
        return None if age is None else age / 86_400

    before, spent = _less_one(counters.get("payer_count_30d")), counters.get("payer_sum_30d")
    counted = payment.transaction.counted_amount
    return {
        "pair_payments": _less_one(counters.get("pair_count_30d")),
        "pair_age_days": counters.get("pair_age_days"),
        "amount_ratio": counted * before / (spent - counted) if before and spent and spent > counted else None,
        "score": payment.score,
        "severity": payment.outcome.severity(),
        "reason_codes": len(payment.codes),
        "payee_age_days": days(f"{receiver}_age"),
        "payee_payers": counters.get(f"{receiver}_distinct_30d"),
        "device_new": counters.get("device_new"),
        "merchant": float(receiver == "merchant"),
    }


def _less_one(count: float | None) -> float | None:
    """Return a count without the payment itself.

    >>> _less_one(3.0), _less_one(0.0), _less_one(None)
    (2.0, 0.0, None)
    """
    return None if count is None or math.isnan(count) else max(count - 1, 0.0)
