"""Stories of reports: what happened, what the user says of it, and what is known besides. All of it is data.

A story is a fraud or a dispute. Given the story, category, theme of the text and facts are independent, except where a
fact is a part of another one. So the probability of fraud that follows from all of them can be computed, and with it
the best that any triage could do on these reports.

Users err in both directions: a third of frauds come under a category of disputes, and a quarter of disputes under one
of frauds; texts are angry, vague, or missing. Facts of the payment have the order that they have in the simulator: new
pairs, new devices, and large amounts in frauds. Scores tell much less than there (a median of 0.1 against 0.0001),
because a fraud that a user has to report is one that the decision let pass.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from fraud.cases.context import FACTS

NEVER = -math.inf


class Choice(NamedTuple):
    """A distribution over a few values, by their probabilities."""

    of: Mapping[str, float] | Mapping[int, float]

    def draw(self, rng: np.random.Generator) -> str | int:
        """Draw a value."""
        values: list[Any] = list(self.of)
        shares = np.array(list(self.of.values()))
        drawn: str | int = values[int(rng.choice(len(values), p=shares / shares.sum()))]
        return drawn

    def log(self, value: str | int) -> float:
        """Return the natural logarithm of a value's probability; NEVER for a value that is not drawn."""
        share = dict(self.of).get(value, 0.0)  # type: ignore[arg-type]
        return math.log(share / sum(self.of.values())) if share else NEVER


class Around(NamedTuple):
    """A log-normal distribution: half of the values lie below the median."""

    median: float
    sigma: float

    def draw(self, rng: np.random.Generator) -> float:
        """Draw a value."""
        return float(self.median * math.exp(self.sigma * rng.standard_normal()))

    def log(self, value: float) -> float:
        """Return the log density of the value's logarithm."""
        deviation = math.log(value / self.median) / self.sigma
        return -deviation * deviation / 2 - math.log(self.sigma)


class Story(NamedTuple):
    """A kind of report.

    share              of all reports of its label
    categories         the user's choice
    themes             of the text; `none` is no text
    reporters          other people who reported the payee
    found_fraud        share of their reports that ended as fraud
    found_dispute      share of the others that ended as disputes
    earlier_disputes   reports of the same user that ended as disputes; frauds and unfounded ones alike
    pair               earlier payments to the payee
    amount             in multiples of the payer's usual amount
    hours              from payment to report
    severity           of the decision's outcome
    payee_age          in days
    payers             different payers of the payee
    """

    name: str
    share: float
    categories: Choice
    themes: Choice
    merchant: float
    reporters: Choice
    found_fraud: float
    found_dispute: float
    earlier_disputes: Choice
    earlier_frauds: Choice
    unfounded: Choice
    pair: Choice
    amount: Around
    hours: Around
    score: Around
    severity: Choice
    payee_age: Around
    payers: Around
    new_device: float

    def facts(self, rng: np.random.Generator) -> dict[str, float | None]:
        """Draw the facts, a value for each name of FACTS."""
        reporters = int(self.reporters.draw(rng))
        reports = reporters + (int(rng.binomial(reporters, 0.2)) if reporters else 0)
        frauds = int(rng.binomial(reports, self.found_fraud))
        pair, severity = int(self.pair.draw(rng)), int(self.severity.draw(rng))
        drawn: dict[str, float | None] = {
            "reporter_frauds": float(self.earlier_frauds.draw(rng)),
            "reporter_disputes": float(self.earlier_disputes.draw(rng)),
            "reporter_unfounded": float(self.unfounded.draw(rng)),
            "payee_reports": float(reports),
            "payee_reporters": float(reporters),
            "payee_frauds": float(frauds),
            "payee_disputes": float(rng.binomial(reports - frauds, self.found_dispute)),
            "pair_payments": float(pair),
            "pair_age_days": PAIR_AGE.draw(rng) if pair else 0.0,
            "amount_ratio": None if rng.random() < AMOUNT_UNKNOWN else self.amount.draw(rng),
            "hours_since": self.hours.draw(rng),
            "score": min(self.score.draw(rng), MOST_SCORE),
            "severity": float(severity),
            "reason_codes": float(rng.integers(1, 5)) if severity else 0.0,
            "payee_age_days": self.payee_age.draw(rng),
            "payee_payers": min(self.payers.draw(rng), MOST_PAYERS),
            "device_new": float(rng.random() < self.new_device),
            "merchant": float(rng.random() < self.merchant),
        }
        assert drawn.keys() == FACTS.keys()
        return drawn

    def log_likelihood(self, facts: Mapping[str, float | None]) -> float:
        """Return the log likelihood of facts, without the factors that are the same in every story."""
        said = {name: 0.0 if value is None else value for name, value in facts.items()}
        reports, frauds = int(said["payee_reports"]), int(said["payee_frauds"])
        total = self.reporters.log(int(said["payee_reporters"]))
        total += _binomial(frauds, reports, self.found_fraud)
        total += _binomial(int(said["payee_disputes"]), reports - frauds, self.found_dispute)
        total += self.earlier_disputes.log(int(said["reporter_disputes"]))
        total += self.earlier_frauds.log(int(said["reporter_frauds"]))
        total += self.unfounded.log(int(said["reporter_unfounded"]))
        total += self.pair.log(int(said["pair_payments"])) + self.severity.log(int(said["severity"]))
        total += 0.0 if facts["amount_ratio"] is None else self.amount.log(said["amount_ratio"])
        total += self.hours.log(said["hours_since"]) + self.score.log(said["score"])
        total += self.payee_age.log(said["payee_age_days"]) + self.payers.log(said["payee_payers"])
        return (
            total
            + _binomial(int(said["device_new"]), 1, self.new_device)
            + _binomial(int(said["merchant"]), 1, self.merchant)
        )


def _binomial(successes: int, tries: int, share: float) -> float:
    """Return the log probability of so many successes, without the coefficient, which is the same in every story."""
    return successes * math.log(share) + (tries - successes) * math.log1p(-share)


PAIR_AGE, AMOUNT_UNKNOWN, MOST_SCORE, MOST_PAYERS = Around(14, 0.8), 0.08, 0.99, 615.0

_FEW, _SOME, _MANY = (
    Choice({0: 0.62, 1: 0.20, 2: 0.10, 3: 0.05, 5: 0.03}),
    Choice({0: 0.48, 1: 0.23, 2: 0.14, 3: 0.09, 5: 0.06}),
    Choice({0: 0.35, 1: 0.25, 2: 0.18, 3: 0.12, 5: 0.10}),
)
_RARELY, _OFTEN = Choice({0: 0.88, 1: 0.09, 2: 0.02, 4: 0.01}), Choice({0: 0.76, 1: 0.15, 2: 0.06, 4: 0.03})
_VICTIM, _NO_VICTIM = Choice({0: 0.93, 1: 0.06, 2: 0.01}), Choice({0: 0.965, 1: 0.03, 2: 0.005})
_SOUND, _QUERULOUS = Choice({0: 0.96, 1: 0.035, 2: 0.005}), Choice({0: 0.90, 1: 0.08, 2: 0.02})
_STRANGERS = Choice({0: 0.80, 1: 0.13, 3: 0.05, 6: 0.02})
_NEW_SHOP = Choice({0: 0.68, 1: 0.18, 3: 0.10, 6: 0.04})
_REGULAR = Choice({0: 0.35, 1: 0.25, 3: 0.25, 6: 0.15})
_NOTICED, _LET_PASS, _QUIET = (
    Choice({0: 0.84, 1: 0.12, 2: 0.03, 3: 0.01}),
    Choice({0: 0.90, 1: 0.07, 2: 0.02, 3: 0.01}),
    Choice({0: 0.95, 1: 0.035, 2: 0.01, 3: 0.005}),
)

FRAUDS: tuple[Story, ...] = (
    Story(
        "account_takeover", 0.25,
        Choice({"unknown_payment": 0.40, "account_taken_over": 0.40, "price_or_refund": 0.08,
                "sent_to_wrong_person": 0.04, "other": 0.08}),
        Choice({"account": 0.55, "unknown": 0.20, "vague": 0.08, "none": 0.17}),
        merchant=0.15, reporters=_FEW, found_fraud=0.25, found_dispute=0.10,
        earlier_disputes=_RARELY, earlier_frauds=_VICTIM, unfounded=_SOUND, pair=_STRANGERS,
        amount=Around(3.5, 1.0), hours=Around(14, 1.4), score=Around(0.012, 1.7), severity=_NOTICED,
        payee_age=Around(25, 1.5), payers=Around(8, 1.4), new_device=0.55,
    ),
    Story(
        "impersonation", 0.20,
        Choice({"impersonation": 0.45, "asked_to_pay_to_receive": 0.08, "sent_to_wrong_person": 0.22,
                "price_or_refund": 0.13, "other": 0.12}),
        Choice({"impersonation": 0.62, "vague": 0.12, "price": 0.06, "wrong": 0.03, "none": 0.17}),
        merchant=0.08, reporters=_FEW, found_fraud=0.25, found_dispute=0.10,
        earlier_disputes=_RARELY, earlier_frauds=_VICTIM, unfounded=_SOUND, pair=_STRANGERS,
        amount=Around(3.5, 1.0), hours=Around(20, 1.4), score=Around(0.006, 1.7), severity=_LET_PASS,
        payee_age=Around(18, 1.5), payers=Around(7, 1.3), new_device=0.05,
    ),
    Story(
        "fake_shop", 0.25,
        Choice({"fake_shop": 0.30, "item_not_received": 0.38, "not_as_described": 0.14, "price_or_refund": 0.12,
                "other": 0.06}),
        Choice({"shop": 0.38, "missing": 0.25, "described": 0.06, "price": 0.06, "vague": 0.07, "none": 0.18}),
        merchant=0.50, reporters=_MANY, found_fraud=0.2, found_dispute=0.20,
        earlier_disputes=_RARELY, earlier_frauds=_VICTIM, unfounded=_SOUND, pair=_STRANGERS,
        amount=Around(2.0, 0.9), hours=Around(170, 1.0), score=Around(0.004, 1.6), severity=_LET_PASS,
        payee_age=Around(18, 1.3), payers=Around(20, 1.3), new_device=0.05,
    ),
    Story(
        "investment_or_romance", 0.15,
        Choice({"investment_or_romance_scam": 0.50, "price_or_refund": 0.22, "item_not_received": 0.10,
                "sent_to_wrong_person": 0.05, "other": 0.13}),
        Choice({"investment": 0.62, "vague": 0.10, "price": 0.08, "none": 0.20}),
        merchant=0.06, reporters=_SOME, found_fraud=0.25, found_dispute=0.10,
        earlier_disputes=_RARELY, earlier_frauds=_VICTIM, unfounded=_SOUND, pair=_REGULAR,
        amount=Around(4.5, 1.0), hours=Around(200, 1.3), score=Around(0.007, 1.6), severity=_LET_PASS,
        payee_age=Around(30, 1.3), payers=Around(10, 1.2), new_device=0.03,
    ),
    Story(
        "advance_fee", 0.15,
        Choice({"asked_to_pay_to_receive": 0.45, "impersonation": 0.10, "item_not_received": 0.20,
                "price_or_refund": 0.13, "other": 0.12}),
        Choice({"advance": 0.60, "missing": 0.08, "vague": 0.12, "none": 0.20}),
        merchant=0.08, reporters=_SOME, found_fraud=0.25, found_dispute=0.10,
        earlier_disputes=_RARELY, earlier_frauds=_VICTIM, unfounded=_SOUND, pair=_STRANGERS,
        amount=Around(1.8, 1.0), hours=Around(45, 1.2), score=Around(0.004, 1.6), severity=_LET_PASS,
        payee_age=Around(18, 1.4), payers=Around(12, 1.3), new_device=0.04,
    ),
)  # fmt: skip
DISPUTES: tuple[Story, ...] = (
    Story(
        "late_delivery", 0.30,
        Choice({"item_not_received": 0.62, "fake_shop": 0.20, "price_or_refund": 0.08, "other": 0.10}),
        Choice({"late": 0.52, "missing": 0.20, "shop": 0.05, "vague": 0.05, "none": 0.18}),
        merchant=0.75, reporters=_SOME, found_fraud=0.015, found_dispute=0.55,
        earlier_disputes=_OFTEN, earlier_frauds=_NO_VICTIM, unfounded=_QUERULOUS, pair=_NEW_SHOP,
        amount=Around(1.4, 0.9), hours=Around(190, 0.9), score=Around(0.0008, 1.6), severity=_QUIET,
        payee_age=Around(150, 1.3), payers=Around(70, 1.5), new_device=0.04,
    ),
    Story(
        "not_as_described", 0.20,
        Choice({"not_as_described": 0.60, "fake_shop": 0.22, "service_quality": 0.05, "price_or_refund": 0.05,
                "other": 0.08}),
        Choice({"described": 0.62, "shop": 0.08, "vague": 0.08, "none": 0.22}),
        merchant=0.70, reporters=_SOME, found_fraud=0.015, found_dispute=0.55,
        earlier_disputes=_OFTEN, earlier_frauds=_NO_VICTIM, unfounded=_QUERULOUS, pair=_NEW_SHOP,
        amount=Around(1.4, 0.9), hours=Around(120, 0.9), score=Around(0.0008, 1.6), severity=_QUIET,
        payee_age=Around(150, 1.3), payers=Around(60, 1.5), new_device=0.04,
    ),
    Story(
        "bad_service", 0.15,
        Choice({"service_quality": 0.60, "price_or_refund": 0.15, "fake_shop": 0.10, "unknown_payment": 0.05,
                "other": 0.10}),
        Choice({"service": 0.65, "price": 0.10, "vague": 0.05, "none": 0.20}),
        merchant=0.72, reporters=_FEW, found_fraud=0.015, found_dispute=0.55,
        earlier_disputes=_OFTEN, earlier_frauds=_NO_VICTIM, unfounded=_QUERULOUS, pair=_REGULAR,
        amount=Around(1.2, 0.9), hours=Around(30, 1.2), score=Around(0.0007, 1.6), severity=_QUIET,
        payee_age=Around(160, 1.3), payers=Around(80, 1.5), new_device=0.04,
    ),
    Story(
        "refund", 0.20,
        Choice({"price_or_refund": 0.60, "unknown_payment": 0.15, "fake_shop": 0.08, "other": 0.17}),
        Choice({"price": 0.60, "vague": 0.15, "shop": 0.05, "none": 0.20}),
        merchant=0.75, reporters=_FEW, found_fraud=0.015, found_dispute=0.55,
        earlier_disputes=_OFTEN, earlier_frauds=_NO_VICTIM, unfounded=_QUERULOUS, pair=_REGULAR,
        amount=Around(1.3, 0.9), hours=Around(150, 1.2), score=Around(0.0007, 1.6), severity=_QUIET,
        payee_age=Around(160, 1.3), payers=Around(80, 1.5), new_device=0.04,
    ),
    Story(
        "wrong_person", 0.08,
        Choice({"sent_to_wrong_person": 0.65, "unknown_payment": 0.10, "asked_to_pay_to_receive": 0.07,
                "other": 0.18}),
        Choice({"wrong": 0.70, "vague": 0.12, "none": 0.18}),
        merchant=0.10, reporters=_FEW, found_fraud=0.015, found_dispute=0.40,
        earlier_disputes=_OFTEN, earlier_frauds=_NO_VICTIM, unfounded=_SOUND, pair=_STRANGERS,
        amount=Around(1.3, 1.0), hours=Around(2.5, 1.3), score=Around(0.0012, 1.6), severity=_QUIET,
        payee_age=Around(140, 1.4), payers=Around(7, 1.0), new_device=0.03,
    ),
    Story(
        "forgotten", 0.07,
        Choice({"unknown_payment": 0.60, "account_taken_over": 0.20, "price_or_refund": 0.10, "other": 0.10}),
        Choice({"unknown": 0.55, "account": 0.12, "vague": 0.13, "none": 0.20}),
        merchant=0.80, reporters=_FEW, found_fraud=0.015, found_dispute=0.55,
        earlier_disputes=_OFTEN, earlier_frauds=_NO_VICTIM, unfounded=_QUERULOUS, pair=_REGULAR,
        amount=Around(0.7, 0.9), hours=Around(280, 1.2), score=Around(0.0005, 1.6), severity=_QUIET,
        payee_age=Around(180, 1.3), payers=Around(110, 1.5), new_device=0.04,
    ),
)  # fmt: skip
