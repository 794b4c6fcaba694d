"""A payment model on reports as they come, and one on reports that triage has separated.

In each simulated world victims report frauds as the simulator says, and users dispute honest payments to some payees:
two of five reports are disputes. Their texts have the sentences `test`, and their context is the payment's own counters
and score. In one arm every report is a label fraud. In the other one a report that the shipped triage takes for a
dispute is none, and a person looks at the others and errs in one of ANALYST_ERRS. Both models are trained and measured
as models are, each with its own labels in its counters, and by the truth. `tests.acceptance.triage` runs it.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import NamedTuple

import numpy as np

from fraud import assembly, packaged
from fraud.cases.context import ReportedPayment, context_of
from fraud.cases.report import EarlierReport, ReportRequest
from fraud.cases.triage import Triage
from fraud.outcome import by_score
from fraud.scoring.trees import Trees
from fraud.transaction import instant
from models.simulation.simulate import DEFAULT_START, Labelled, simulate
from models.training.columns import Columns, Dataset, packaged_rule_book
from models.training.costs import Budget
from models.training.fitting import Hyperparameters, Periods
from models.training.metrics import average_precision
from models.training.replay import replay
from models.training.scores import score_of
from models.training.train import fit
from models.triage.generate import DISPUTE_SHARE, LANGUAGES, texts, written
from models.triage.stories import DISPUTES, FRAUDS, Story

DAYS, PAYERS, CRIME = 32, 220, 6.0
RECALLS = (0.5, 0.6, 0.7, 0.8)
DISLIKED = 0.15
"""Share of payees whose payers dispute payments."""

ANALYST_ERRS = 20
"""A person who looks at a report errs in one of so many."""

TOLD_AS: Mapping[str, Sequence[str]] = {
    "account_takeover": ("account_takeover",),
    "takeover_fan_out": ("account_takeover",),
    "scam_payee": ("impersonation", "fake_shop", "investment_or_romance", "advance_fee"),
    "mule_fan_in": ("impersonation", "fake_shop", "advance_fee"),
}
"""The stories as which a tactic is reported. Other tactics are found by chargebacks and analysts."""


class World(NamedTuple):
    """Figures of one world: precision at RECALLS and average precision of both models, and what triage did.

    answered  share of disputes that triage took for disputes
    kept      share of reported frauds that it did not
    """

    seed: int
    raw: Sequence[float]
    separated: Sequence[float]
    precision: tuple[float, float]
    frauds: int
    disputes: int
    answered: float
    kept: float


class _Reported(NamedTuple):
    """A report that a user will make."""

    at: datetime
    transaction_id: str
    story: Story


def world(seed: int, days: int = DAYS, payers: int = PAYERS) -> World:
    """Simulate a world, and train and measure both models in it."""
    payments = list(simulate(700 + seed, DEFAULT_START, days, payers, crime=CRIME))
    truth = np.array([each.label == "fraud" for each in payments])
    rng = np.random.default_rng(seed)
    reported = sorted(_reports(payments, rng))
    disputed = {each.transaction_id for each in reported if each.story in DISPUTES}
    when = {each.transaction_id: each.at for each in reported}
    labelled = [_called_fraud(each, when) if _id(each) in disputed else each for each in payments]
    rows, decided = _replayed(labelled, set(when))
    answered = _answered(reported, decided, rng)
    found = _found(reported, disputed, answered, rng)
    own = [_as_found(each, when, found) if _id(each) in when else each for each in payments]
    raw, separated = (_scores(each, truth, seed) for each in (rows, _replayed(own, set())[0]))
    victims = [each for each in reported if each.transaction_id not in disputed]
    return World(
        seed,
        _precisions(*raw),
        _precisions(*separated),
        (average_precision(*raw), average_precision(*separated)),
        int(raw[1].sum()),
        len(disputed),
        len(answered & disputed) / len(disputed),
        1 - sum(each.transaction_id in answered for each in victims) / len(victims),
    )


def _id(payment: Labelled) -> str:
    return str(payment.transaction["transaction_id"])


def _called_fraud(payment: Labelled, when: Mapping[str, datetime]) -> Labelled:
    return replace(payment, label="fraud", reported_at=when[_id(payment)], source="report")


def _found(reported: Sequence[_Reported], disputed: set[str], answered: set[str], rng: np.random.Generator) -> set[str]:
    """Return the reported payments that become labels `fraud`: by a person's finding, which is wrong now and then."""
    looked_at = [each.transaction_id for each in reported if each.transaction_id not in answered]
    return {name for name in looked_at if (name not in disputed) != (rng.integers(ANALYST_ERRS) == 0)}


def _as_found(payment: Labelled, when: Mapping[str, datetime], found: set[str]) -> Labelled:
    return _called_fraud(payment, when) if _id(payment) in found else replace(payment, label="legitimate")


def _reports(payments: Sequence[Labelled], rng: np.random.Generator) -> Iterator[_Reported]:
    """Yield the reports of all victims, and so many disputes that they have their share of all reports."""
    victims = [each for each in payments if each.tactic in TOLD_AS]
    for each in victims:
        names = TOLD_AS[str(each.tactic)]
        name = names[int(rng.integers(len(names)))]
        yield _Reported(each.reported_at, _id(each), next(story for story in FRAUDS if story.name == name))
    honest = [each for each in payments if each.label == "legitimate" and "payee_id" in each.transaction]
    payees = sorted({str(each.transaction["payee_id"]) for each in honest})
    disliked = set(rng.choice(payees, max(int(len(payees) * DISLIKED), 5), replace=False).tolist())
    open_to = [each for each in honest if each.transaction["payee_id"] in disliked]
    number = min(round(len(victims) * DISPUTE_SHARE / (1 - DISPUTE_SHARE)), len(open_to))
    shares = np.array([story.share for story in DISPUTES])
    for place in rng.choice(len(open_to), number, replace=False).tolist():
        story = DISPUTES[int(rng.choice(len(DISPUTES), p=shares / shares.sum()))]
        paid_at = instant(open_to[place].transaction["occurred_at"])
        yield _Reported(paid_at + timedelta(hours=story.hours.draw(rng)), _id(open_to[place]), story)


def _replayed(payments: Sequence[Labelled], wanted: set[str]) -> tuple[Dataset, dict[str, ReportedPayment]]:
    """Replay payments with their labels. Return the dataset, and the wanted payments as triage sees them."""
    directory = packaged.model("JPY")
    trees = Trees.load((directory / "trees.json").read_bytes(), (directory / "manifest.json").read_bytes())
    columns, decided = Columns(packaged_rule_book("JPY")), {}
    for payment, row in replay(payments):
        columns.add(payment, row)
        if row.transaction.transaction_id in wanted:
            score = trees.score(row.vector)
            outcome = by_score(score, trees.thresholds)
            paid = ReportedPayment(row.transaction, outcome, score, (), row.counters)
            decided[row.transaction.transaction_id] = paid
    return Dataset(**columns.arrays()), decided


def _answered(
    reported: Sequence[_Reported], decided: Mapping[str, ReportedPayment], rng: np.random.Generator
) -> set[str]:
    """Return the payments whose report triage takes for a dispute, in the order in which the reports come."""
    triage, answered = assembly.triage(), set()
    by_reporter: dict[str, list[EarlierReport]] = defaultdict(list)
    by_payee: dict[str, list[EarlierReport]] = defaultdict(list)
    for number, each in enumerate(reported):
        payment = decided[each.transaction_id]
        payer, payee = payment.transaction.payer_id, payment.transaction.counterparty
        verdict = _verdict(triage, each, payment, (by_reporter[payer], by_payee[payee]), rng)
        status = "dispute" if verdict == "dispute" else "open"
        earlier = EarlierReport(f"r-{number}", each.transaction_id, payer, each.at, status)
        by_reporter[payer].append(earlier)
        by_payee[payee].append(earlier)
        answered |= {each.transaction_id} if verdict == "dispute" else set()
    return answered


def _verdict(
    triage: Triage,
    reported: _Reported,
    payment: ReportedPayment,
    earlier: tuple[list[EarlierReport], list[EarlierReport]],
    rng: np.random.Generator,
) -> str:
    theme = str(reported.story.themes.draw(rng))
    language = texts("test")[str(LANGUAGES.draw(rng))]
    report = ReportRequest(
        report_id="r",
        transaction_id=reported.transaction_id,
        reporter_id=payment.transaction.payer_id,
        category=str(reported.story.categories.draw(rng)),
        text=None if theme == "none" else written(rng, language, theme),
        reported_at=reported.at,
    )
    return triage.judge(report, context_of(report, payment, *earlier)).verdict


def _scores(rows: Dataset, truth: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Train on a world's labels. Return the scores of its last week, and the truth of that week."""
    parameters = Hyperparameters(seed=seed, most_trees=80)
    periods = Periods.of(rows, parameters)
    model = fit(rows.between(periods.start, periods.fitted), periods, parameters, Budget(), {"seed": seed})
    tested = (rows.occurred_at >= periods.cutoff) & (rows.occurred_at < periods.end)
    return score_of(model.loaded(), rows.take(tested)), truth[tested]


def _precisions(score: np.ndarray, fraud: np.ndarray) -> list[float]:
    """Return the precision at each of RECALLS: the frauds among all payments that must be flagged to reach it."""
    order = np.argsort(-score, kind="stable")
    caught = np.cumsum(fraud[order])
    flagged = [int(np.searchsorted(caught, recall * fraud.sum())) + 1 for recall in RECALLS]
    return [float(caught[number - 1] / number) for number in flagged]


def judge(worlds: Sequence[World], wins: float = 0.8) -> bool:
    """Print the figures, and tell whether the model on separated labels is more precise in enough of the worlds."""
    print("payment model: precision at recall " + ", ".join(map(str, RECALLS)) + ", and average precision")
    better = 0
    for one in worlds:
        won = float(np.mean(one.separated)) > float(np.mean(one.raw))
        better += won
        raw, own = (" ".join(f"{each:.3f}" for each in side) for side in (one.raw, one.separated))
        print(
            f"{one.seed:4}  raw {raw} ({one.precision[0]:.3f})  separated {own} ({one.precision[1]:.3f})"
            f"  {'better' if won else 'worse'}; {one.frauds} frauds tested, {one.disputes} disputes,"
            f" {one.answered:.0%} of them answered, {one.kept:.0%} of reported frauds kept"
        )
    print(f"better on separated labels in {better} of {len(worlds)} worlds")
    return better >= wins * len(worlds)
