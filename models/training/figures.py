"""Figures of a model at its thresholds: what is caught, what it costs, and whom it troubles. Pure.

An outcome counts as it would be decided: the more severe of what rules and model ask for. Frauds are weighted to the
base rate wherever frauds and honest payments are added up.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fraud.outcome import Outcome
from fraud.scoring.trees import OUTCOMES
from models.training.away import AWAY
from models.training.costs import Budget, Scored, friction, outcomes, total_cost, weights
from models.training.metrics import Flags, Floats, average_precision, recall_at, roc_auc

SILENT: dict[str, float] = dict.fromkeys(OUTCOMES, math.inf)
"""Thresholds of a model that never asks for anything: the rules alone decide."""

MISSING: dict[str, tuple[str, ...]] = {"nothing": ()} | AWAY
"""Kinds whose counters are missing in an evaluation, by what the table calls them. The first row misses nothing."""


@dataclass(frozen=True)
class Catch:
    """The frauds of one tactic (or of `all`) that get one outcome or a more severe one.

    False alerts belong to no tactic. So the precision of a tactic counts all false alerts, but only its own frauds. It
    is the precision if this were the only tactic.
    """

    outcome: str
    threshold: float
    tactic: str
    frauds: int
    caught: int
    recall: float
    recall_by_value: float
    precision: float


@dataclass(frozen=True)
class Report:
    """The figures of a model on payments whose truth is known. Costs are minor units per 1,000 payments.

    friction           share of honest payments that are not approved, by rule or model; `friction_of_rules` without the
                       model
    reviews, declines  shares of all payments
    """

    payments: int
    frauds: int
    average_precision: float
    roc_auc: float
    recall_at_1_percent: float
    friction: float
    friction_of_rules: float
    reviews: float
    declines: float
    cost: float
    cost_of_rules: float
    cost_of_approving_all: float
    catches: tuple[Catch, ...]


def report(scored: Scored, thresholds: Mapping[str, float], budget: Budget) -> Report:
    """Return all figures of scored payments at these thresholds: shares to four digits, costs per 1,000 payments."""
    weight = weights(scored.fraud, budget.base_rate)
    made = outcomes(scored, thresholds)
    unruled = Scored(**{**vars(scored), "rules": np.zeros_like(scored.rules)})
    return Report(
        payments=len(scored),
        frauds=int(scored.fraud.sum()),
        average_precision=_four(average_precision(scored.score, scored.fraud)),
        roc_auc=_four(roc_auc(scored.score, scored.fraud)),
        recall_at_1_percent=_four(recall_at(0.01, scored.score, scored.fraud)),
        friction=_four(friction(scored, thresholds)),
        friction_of_rules=_four(friction(scored, SILENT)),
        reviews=part(weight[made == Outcome.REVIEW.severity()].sum(), weight.sum()),
        declines=part(weight[made == Outcome.DECLINE.severity()].sum(), weight.sum()),
        cost=_per_thousand(total_cost(scored, thresholds, weight), weight),
        cost_of_rules=_per_thousand(total_cost(scored, SILENT, weight), weight),
        cost_of_approving_all=_per_thousand(total_cost(unruled, SILENT, weight), weight),
        catches=tuple(_catches(scored, thresholds, weight)),
    )


def _catches(scored: Scored, thresholds: Mapping[str, float], weight: Floats) -> Iterator[Catch]:
    made = outcomes(scored, thresholds)
    tactics = sorted({str(name) for name in scored.tactic[scored.fraud]} - {""})
    for outcome in OUTCOMES:
        alert = made >= Outcome(outcome).severity()
        false = weight[alert & ~scored.fraud].sum()
        for tactic in ("all", *tactics):
            mine: Flags = scored.fraud if tactic == "all" else scored.fraud & (scored.tactic == tactic)
            caught = alert & mine
            yield Catch(
                outcome=outcome,
                threshold=thresholds[outcome],
                tactic=tactic,
                frauds=int(mine.sum()),
                caught=int(caught.sum()),
                recall=part(caught.sum(), mine.sum()),
                recall_by_value=part(scored.amount[caught].sum(), scored.amount[mine].sum()),
                precision=part(weight[caught].sum(), weight[caught].sum() + false),
            )


def part(share: Any, whole: Any) -> float:  # noqa: ANN401 - numbers of python and numpy
    """Return `share / whole` to four digits, or NaN if the whole is 0."""
    return _four(float(share / whole)) if whole else math.nan


def _four(value: float) -> float:
    return round(value, 4)


def _per_thousand(cost: float, weight: Floats) -> float:
    return round(1000 * cost / float(weight.sum()))


# ---- cost of the pre-filter and of missing counters ----------------------------------------------------------------


@dataclass(frozen=True)
class Prefilter:
    """The recall of one outcome with and without the pre-filter.

    Without it the model scores every payment; with it the rules alone decide the skipped payments.
    """

    outcome: str
    skipped: float
    frauds_skipped: int
    recall: float
    recall_with_prefilter: float
    loss: float


def prefilter_cost(scored: Scored, thresholds: Mapping[str, float]) -> list[Prefilter]:
    """Return for each outcome the recall that is lost because the model is not asked about some payments."""
    every = Scored(**{**vars(scored), "asked": np.ones(len(scored), np.bool_)})
    found = []
    for outcome in OUTCOMES:
        severity = Outcome(outcome).severity()
        always, filtered = (
            part((outcomes(each, thresholds)[scored.fraud] >= severity).sum(), scored.fraud.sum())
            for each in (every, scored)
        )
        share, frauds = part((~scored.asked).sum(), len(scored)), int((scored.fraud & ~scored.asked).sum())
        found.append(Prefilter(outcome, share, frauds, always, filtered, _four(always - filtered)))
    return found


@dataclass(frozen=True)
class Loss:
    """The quality of a model while the counters of some kinds are missing.

    `loss` is average precision that is lost against nothing missing. `cost` is minor units per 1,000 payments.
    """

    missing: str
    average_precision: float
    loss: float
    friction: float
    cost: float


def losses(scored: Mapping[str, Scored], thresholds: Mapping[str, float], budget: Budget) -> list[Loss]:
    """Return a row for each of MISSING from the same payments, scored without the counters of these kinds."""
    found: list[Loss] = []
    for name in MISSING:
        each = scored[name]
        precision = _four(average_precision(each.score, each.fraud))
        whole = found[0].average_precision if found else precision
        weight = weights(each.fraud, budget.base_rate)
        cost = _per_thousand(total_cost(each, thresholds, weight), weight)
        found.append(Loss(name, precision, _four(whole - precision), _four(friction(each, thresholds)), cost))
    return found


# ---- text ----------------------------------------------------------------------------------------------------------


def table(rows: Sequence[Any]) -> str:
    """Return rows of one dataclass as a text table with a column for each field.

    >>> print(table([Prefilter("review", 0.25, 1_000, 0.9, 0.8, 0.1)]), end="")
    outcome  skipped  frauds skipped  recall  recall with prefilter   loss
     review    0.250           1,000   0.900                  0.800  0.100
    """
    names = [name.replace("_", " ") for name in vars(rows[0])]
    cells = [names, *([_cell(value) for value in vars(row).values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ("  ".join(map(str.rjust, row, widths)).rstrip() for row in cells)
    return "\n".join(lines) + "\n"


def _cell(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}" if isinstance(value, float) else str(value)


def describe(measured: Report) -> str:
    """Return the report as text for people."""
    return (
        f"{measured.payments:,} payments, {measured.frauds:,} of them fraud;"
        f" average precision {measured.average_precision:.3f}, ROC AUC {measured.roc_auc:.3f},"
        f" recall at 1 % false alarms {measured.recall_at_1_percent:.3f};"
        f" friction {measured.friction:.2%} of honest payments (rules alone {measured.friction_of_rules:.2%});"
        f" reviews {measured.reviews:.2%}, declines {measured.declines:.2%} of all payments;"
        f" cost per 1,000 payments {measured.cost:,.0f} (rules alone: {measured.cost_of_rules:,.0f},"
        f" approving all: {measured.cost_of_approving_all:,.0f})\n" + table(measured.catches)
    )
