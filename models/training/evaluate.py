"""Evaluate a model on a history as it would have been trained and used: nothing from after a day is known on that day.

`python -m models.training.evaluate HISTORY_DIR --as-of DATE` trains on the payments of --train-days that end
--maturity-days before DATE, with the labels known by DATE, and tests on the --test-days from DATE on. Between them lie
the days whose labels are not known yet. It prints the figures, and writes the scores and a report that reads without
the code. With --champion the model of a directory decides the same payments, and the difference has an interval.
"""

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from fraud.counters.layout import DAY, State
from fraud.counters.windows import NAMES as COUNTERS
from fraud.errors import FraudError
from fraud.outcome import Outcome, by_score
from fraud.rules.conclusion import conclude_history
from fraud.rules.facts import Subject
from fraud.rules.rule_book import RuleBook
from fraud.scoring import features
from fraud.scoring.trees import Trees
from models.datasets import history
from models.datasets.history import HistoryError
from models.training import container, costs, figures, train
from models.training.batch import Prevented, daily, immediate
from models.training.columns import DAYS, Dataset, path_of
from models.training.costs import Budget, Scored, effective, outcomes, weights
from models.training.dataset import Span, build, rule_book_of
from models.training.fitting import Hyperparameters, Periods
from models.training.metrics import (
    Band,
    Flags,
    Floats,
    average_precision,
    bands,
    interval,
    precision_at,
    recall_at,
    roc_auc,
)

GROUPS: Mapping[str, tuple[str, ...]] = {
    "fraud share": tuple(name for name in features.NAMES if name.startswith("payee_fraud_share")),
    "known frauds": tuple(name for name in features.NAMES if "_frauds_" in name),
    "spread": ("amount_deviation_of_payer_30d", "amount_to_payer_largest_30d"),
    "payer": tuple(name for name in features.NAMES if name.startswith("payer_") and "_frauds_" not in name),
    "receiver": tuple(name for name in features.NAMES if "counterparty" in name),
    "pair and device": tuple(name for name in features.NAMES if name.startswith(("pair_", "device_"))),
}
"""Groups of features that an evaluation can leave out, to show what they are worth."""

PAYERS_A_DAY = 100
"""Payers that a team looks at in a day: precision is measured among so many."""

BAND_FRAUDS = 30
"""Least frauds of a band of scores in the calibration table."""


@dataclass(frozen=True)
class Plan:
    """The days of an evaluation, in epoch seconds.

    warmup   the first payment that fills the counters
    periods  of training and test; `cutoff` is the day of the evaluation
    """

    warmup: int
    periods: Periods

    @classmethod
    def of(
        cls, directory: Path, as_of: date, train_days: int, test_days: int, maturity: int, warmup: int | None
    ) -> "Plan":
        """Return the plan; warmup None is all of the history. Raises HistoryError when it has too few days."""
        least, most, _ = history.span(directory)
        cutoff = (as_of.toordinal() - date(1970, 1, 1).toordinal()) * DAY
        fitted = cutoff - maturity * DAY
        start, end = fitted - train_days * DAY, cutoff + test_days * DAY
        begins, ends = int(least.timestamp()) // DAY * DAY, (int(most.timestamp()) // DAY + 1) * DAY
        if min(train_days, test_days) < 1 or maturity < 0:
            raise HistoryError("--train-days and --test-days must be 1 or more, --maturity-days 0 or more")
        if start < begins or end > ends:
            raise HistoryError(
                f"{directory} has payments of {_date(begins)} to {_date(ends - DAY)},"
                f" and the evaluation needs {_date(start)} to {_date(end - DAY)}"
            )
        warm = begins if warmup is None else max(start - warmup * DAY, begins)
        return cls(warm, Periods(start, fitted, cutoff, end))

    @property
    def span(self) -> Span:
        """The span of the dataset."""
        return Span(self.warmup, self.periods.start, self.periods.end)


@dataclass(frozen=True)
class Figure:
    """A figure with its 95 % interval, with the payer as the unit."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Evaluation:
    """The result of one evaluation.

    model             version
    ranking           figures of the ranking, frauds as they are in the data
    without_known     average precision without the payers that are known as defrauded before the day (the handbook's
                      rule)
    report            the decisions at the model's thresholds
    calibration       bands of scores
    segments          alerts, frauds and friction by segment of the policy
    hindsight         the thresholds that would have cost least, and their cost per 1,000 payments
    alternatives      cost per 1,000 payments of other ways to set a threshold
    prevented         what the model prevents in real time, and scored once a day
    effective         effective number of test payments after weighting to the base rate
    """

    model: str
    currency: str
    policy: str
    days: Mapping[str, Any]
    ranking: Mapping[str, Figure]
    without_known: float
    precision_at_100: float
    report: figures.Report
    thresholds: Mapping[str, float]
    calibration: Sequence[Band]
    segments: Sequence["Segment"]
    hindsight: Mapping[str, Any]
    alternatives: Mapping[str, float]
    prevented: Sequence[Prevented]
    effective: float
    champion: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Segment:
    """One segment of the policy: shares are of its payments, friction of its honest ones."""

    segment: str
    payments: int
    frauds: int
    alerts: float
    friction: float
    recall: float


def evaluate(
    test: Dataset, score: Floats, thresholds: Mapping[str, float], budget: Budget, *, seed: int
) -> dict[str, Any]:
    """Return the figures of scored test payments, as arguments of Evaluation."""
    scored = Scored.of(test, score)
    weight = weights(scored.fraud, budget.base_rate)
    chosen = costs.choose(scored, budget, hindsight=True)
    per_thousand = 1000 / float(weight.sum())
    f1 = costs.best_f1(scored, weight)
    others = {
        f"{name} at {words}": _single(outcome, cut)
        for words, cut in (("0.5", 0.5), ("best F1", f1))
        for name, outcome in (("challenge", "challenge"), ("decline", "decline"))
    }
    known = known_defrauded(test)
    ones = np.ones(len(test))
    ranked: dict[str, Any] = {
        "average_precision": lambda w: average_precision(score, test.fraud, w),
        "roc_auc": lambda w: roc_auc(score, test.fraud, w),
        "recall_at_1_percent": lambda w: recall_at(0.01, score, test.fraud, w),
        "recall_at_0.1_percent": lambda w: recall_at(0.001, score, test.fraud, w),
        "recall_by_value": lambda w: _share(
            w * test.amount * (outcomes(scored, thresholds) > 0), w * test.amount, test.fraud
        ),
        "friction": lambda w: _share(w * (outcomes(scored, thresholds) > 0), w, ~test.fraud),
        "alert_rate": lambda w: float((w * (outcomes(scored, thresholds) > 0)).sum() / max(w.sum(), 1e-300)),
    }
    return {
        "ranking": {
            name: Figure(figure(ones), *interval(figure, test.payer, ones, seed)) for name, figure in ranked.items()
        },
        "without_known": average_precision(score[~known], test.fraud[~known]),
        "precision_at_100": precision_at(PAYERS_A_DAY, score, test.fraud, test.payer, test.occurred_at // DAY),
        "report": figures.report(scored, thresholds, budget),
        "thresholds": dict(thresholds),
        "calibration": bands(score, test.fraud, weight, BAND_FRAUDS),
        "segments": list(_segments(test, outcomes(scored, thresholds))),
        "hindsight": {
            "thresholds": dict(chosen.by_outcome),
            "friction": chosen.friction,
            "cost": costs.total_cost(scored, chosen.by_outcome, weight) * per_thousand,
        },
        "alternatives": {name: costs.total_cost(scored, cuts, weight) * per_thousand for name, cuts in others.items()},
        "prevented": [
            immediate(scored, thresholds),
            daily(scored, thresholds, test.occurred_at, test.payee),
        ],
        "effective": effective(weight),
    }


def _single(outcome: str, cut: float) -> dict[str, float]:
    """Return thresholds that know one outcome only."""
    order = ("challenge", "review", "decline")
    later = order[order.index(outcome) + 1 :]
    return {name: 1.0 if name in later else cut for name in order}


def _share(part: Floats, whole: Floats, among: Flags) -> float:
    total = float(whole[among].sum())
    return float(part[among].sum()) / total if total else math.nan


def known_defrauded(rows: Dataset) -> Flags:
    """Tell which payments come from a payer of whom an earlier fraud was known before the day began.

    The handbook leaves these payers out of its test: their cards would be blocked.
    """
    first: dict[int, int] = {}
    for payer, since in zip(rows.payer[rows.fraud].tolist(), rows.known_from[rows.fraud].tolist(), strict=True):
        first[payer] = min(first.get(payer, since), since)
    since = np.array([first.get(payer, 2**62) for payer in rows.payer.tolist()])
    known: Flags = since <= rows.occurred_at // DAY * DAY
    return known


def _segments(test: Dataset, made: Any) -> Iterator[Segment]:  # noqa: ANN401 - an array
    for name in sorted({str(each) for each in test.segment}):
        mine = test.segment == name
        frauds = test.fraud & mine
        yield Segment(
            name,
            int(mine.sum()),
            int(frauds.sum()),
            figures.part((made[mine] > 0).sum(), mine.sum()),
            figures.part((made[mine & ~test.fraud] > 0).sum(), (mine & ~test.fraud).sum()),
            figures.part((made[frauds] > 0).sum(), frauds.sum()),
        )


# ---- scores with reasons -------------------------------------------------------------------------------------------


def write_scores(
    path: Path, directory: Path, dataset: Path, trees: Trees, rule_book: RuleBook, test: Dataset, score: Floats
) -> None:
    """Write transaction_id, score, outcome and reasons of every test payment, also of those that the model is not asked.

    The reasons are JSON, as in the response of POST /decisions; an approved payment has none.
    """
    scores = dict(zip(test.transaction_id.tolist(), score.tolist(), strict=True))
    rows = []
    for subject in _subjects(directory, dataset, test):
        value = scores[subject.transaction.transaction_id]
        by_model = by_score(value, trees.thresholds)
        contributions = trees.explain(tuple(subject.vector)) if by_model is not Outcome.APPROVE else ()
        concluded = conclude_history(rule_book, subject, by_model, contributions)
        reasons = [reason.model_dump(mode="json") for reason in concluded.reasons]
        rows.append((subject.transaction.transaction_id, value, str(concluded.outcome), json.dumps(reasons)))
    columns = zip(*rows, strict=True)
    table = pa.table(dict(zip(("transaction_id", "score", "outcome", "reasons"), map(list, columns), strict=True)))
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(table, path)


def _subjects(directory: Path, dataset: Path, test: Dataset) -> Iterator[Subject]:
    """Yield the test payments as their reasons are told, day by day."""
    for day in np.unique(test.occurred_at // DAY).tolist():
        table = pyarrow.parquet.read_table(path_of(dataset, day), columns=["transaction_id", "counters", "features"])
        measured = zip(
            table["transaction_id"].to_pylist(),
            table["counters"].to_pylist(),
            table["features"].to_pylist(),
            strict=True,
        )
        first, end = (datetime.fromtimestamp(at * DAY, UTC) for at in (day, day + 1))
        for transaction, (name, counters, vector) in zip(
            history.payments(directory, first, end), measured, strict=True
        ):
            assert transaction.transaction_id == name
            values = dict(zip(COUNTERS, counters, strict=True))
            yield Subject(transaction, values, tuple(vector), State({}, {}))


# ---- champion and challenger ---------------------------------------------------------------------------------------


def compared(
    champion: Trees, test: Dataset, score: Floats, budget: Budget, mine: Mapping[str, float], seed: int
) -> dict[str, Any]:
    """Return the champion's figures on the same payments, and the challenger's gain with its paired interval."""
    theirs = score_of(champion, test)
    ones = np.ones(len(test))
    ours, other = Scored.of(test, score), Scored.of(test, theirs)
    weight = weights(test.fraud, budget.base_rate)

    def gain(w: Floats) -> float:
        return average_precision(score, test.fraud, w) - average_precision(theirs, test.fraud, w)

    def saved(w: Floats) -> float:
        costs_of = (
            costs.total_cost(one, cuts, weight * w) for one, cuts in ((other, champion.thresholds), (ours, mine))
        )
        before, after = costs_of
        return 1000 * (before - after) / float((weight * w).sum())

    return {
        "model": champion.version,
        "report": asdict(figures.report(other, champion.thresholds, budget)),
        "gain_in_average_precision": asdict(Figure(gain(ones), *interval(gain, test.payer, ones, seed))),
        "saved_per_1000_payments": asdict(Figure(saved(ones), *interval(saved, test.payer, ones, seed))),
    }


def score_of(trees: Trees, rows: Dataset) -> Floats:
    """Return the scores of the walked trees."""
    return np.array([trees.score(tuple(vector)) for vector in rows.features.tolist()])


# ---- the run -------------------------------------------------------------------------------------------------------


def without(rows: Dataset, group: str | None) -> Dataset:
    """Return the rows with a group of features missing everywhere."""
    if group is None:
        return rows
    vectors = rows.features.copy()
    vectors[:, [features.NAMES.index(name) for name in GROUPS[group]]] = math.nan
    return replace(rows, features=vectors)


def run(options: argparse.Namespace, dataset: Path) -> tuple[Evaluation, Dataset, Floats]:
    """Carry an evaluation out; `dataset` is the directory of its dataset. Raises HistoryError or ValueError."""
    plan = Plan.of(
        options.history,
        options.as_of,
        options.train_days,
        options.test_days,
        options.maturity_days,
        options.warmup_days,
    )
    rule_book = rule_book_of(options.history, options.policy)
    if not (dataset / DAYS).exists() or not options.dataset:
        build(options.history, dataset, plan.span, rule_book, labels=not options.without_labels, quiet=options.json)
    periods = plan.periods
    rows = without(Dataset.load(dataset, periods.start // DAY, periods.end // DAY), options.without)
    parameters = Hyperparameters(trials=options.trials, search_seconds=options.search_seconds, seed=options.seed)
    budget = Budget(**{limit.name: getattr(options, limit.name) for limit in fields(Budget)})
    known, test = rows.between(periods.start, periods.fitted), rows.between(periods.cutoff, periods.end)
    model = train.fit(known, periods, parameters, budget, {"history": options.history.name})
    trees = model.loaded()
    score = score_of(trees, test)
    champion = None
    if options.champion is not None:
        stored = options.champion
        current = Trees.load((stored / "trees.json").read_bytes(), (stored / "manifest.json").read_bytes())
        champion = compared(current, test, score, budget, trees.thresholds, options.seed)
    if options.scores is not None:
        write_scores(options.scores, options.history, dataset, trees, rule_book, test, score)
    if options.model is not None:
        model.write(options.model)
    days = {
        "as_of": str(options.as_of),
        "trained_from": _date(periods.start),
        "trained_before": _date(periods.fitted),
        "tested_before": _date(periods.end),
        "warmup_days": (periods.start - plan.warmup) // DAY,
        "base_rate": budget.base_rate,
        "expected_friction": model.thresholds.friction,
        "expected_friction_bound": model.thresholds.friction_bound,
        "within_budget": model.thresholds.within,
    }
    found = evaluate(test, score, trees.thresholds, budget, seed=options.seed)
    evaluation = Evaluation(
        model=trees.version, currency=rows.currency, policy=rows.policy, days=days, champion=champion, **found
    )
    return evaluation, test, score


def describe(evaluation: Evaluation) -> str:
    """Return the evaluation as text for people."""
    days = evaluation.days
    lines = [
        f"{evaluation.model}: trained on {days['trained_from']} to before {days['trained_before']},"
        f" {days['warmup_days']} days of warm-up; tested from {days['as_of']} to before {days['tested_before']}",
        f"frauds weighted to {days['base_rate']:.2%} of payments: worth {evaluation.effective:,.0f} payments"
        if days["base_rate"]
        else "frauds as they are in the data",
        *(
            f"{name.replace('_', ' '):>22} {figure.value:.4f}  ({figure.low:.4f} to {figure.high:.4f})"
            for name, figure in evaluation.ranking.items()
        ),
        f"{'precision@100 payers':>22} {evaluation.precision_at_100:.4f}",
        f"{'without known payers':>22} {evaluation.without_known:.4f}  average precision",
        f"{'best in hindsight':>22} {evaluation.hindsight['cost']:,.0f} per 1,000 payments",
        *(f"{name:>22} {cost:,.0f} per 1,000 payments" for name, cost in evaluation.alternatives.items()),
        "",
        figures.describe(evaluation.report),
        figures.table(evaluation.segments),
        figures.table(evaluation.prevented),
        figures.table([SimpleBand(*band) for band in evaluation.calibration]) if evaluation.calibration else "",
    ]
    if evaluation.champion is not None:
        gain, saved = (evaluation.champion[name] for name in ("gain_in_average_precision", "saved_per_1000_payments"))
        lines.append(
            f"against {evaluation.champion['model']}: average precision {gain['value']:+.4f}"
            f" ({gain['low']:+.4f} to {gain['high']:+.4f}), saves {saved['value']:,.0f}"
            f" ({saved['low']:,.0f} to {saved['high']:,.0f}) per 1,000 payments"
        )
    return "\n".join(lines)


@dataclass(frozen=True)
class SimpleBand:
    """A band of scores as a row of a table."""

    least: float
    most: float
    payments: int
    frauds: int
    expected: float
    observed: float
    ratio: float


def as_json(evaluation: Evaluation) -> str:
    """Return the evaluation as JSON; a figure that does not exist is null."""
    found = asdict(evaluation) | {"calibration": [band._asdict() for band in evaluation.calibration]}
    return json.dumps(_plain(found), indent=1)


def _plain(value: Any) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _date(epoch: int) -> str:
    return datetime.fromtimestamp(epoch, UTC).date().isoformat()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m models.training.evaluate", description=main.__doc__)
    parser.add_argument("history", type=Path, metavar="HISTORY_DIR")
    parser.add_argument("--as-of", type=date.fromisoformat, required=True, metavar="DATE", help="the day of training")
    for name in ("train", "test", "maturity"):
        parser.add_argument(f"--{name}-days", type=int, default=7, metavar="N", help="default: %(default)s")
    parser.add_argument("--warmup-days", type=int, metavar="N", help="default: all days before the training days")
    parser.add_argument("--scores", type=Path, metavar="FILE.parquet", help="write score, outcome and reasons")
    parser.add_argument("--report", type=Path, metavar="DIR", help="write index.html and its plots")
    parser.add_argument("--model", type=Path, metavar="DIR", help="write the model")
    parser.add_argument("--champion", type=Path, metavar="DIR", help="a model to compare with on the same payments")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--dataset", type=Path, metavar="DIR", help="keep the dataset here, or use it from here")
    parser.add_argument("--policy", type=Path, help="default: the packaged one of the history's currency")
    parser.add_argument("--without", choices=sorted(GROUPS), help="leave a group of features out")
    parser.add_argument("--without-labels", action="store_true", help="let no label change a counter")
    parser.add_argument("--trials", type=int, default=0, help="hyperparameters to try beside the default ones")
    parser.add_argument("--search-seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=1)
    for limit in fields(Budget):
        kind = container.hyperparameter(limit.name, type(limit.default))
        parser.add_argument(f"--{limit.name.replace('_', '-')}", type=kind, default=limit.default)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Train and test a model on a history as of a day, and print its worth and what it costs in friction."""
    options = _parser().parse_args(arguments)
    with ExitStack() as stack:
        dataset = options.dataset or Path(stack.enter_context(tempfile.TemporaryDirectory())) / "dataset"
        try:
            evaluation, test, score = run(options, dataset)
        except (ValueError, FraudError, OSError) as error:
            print(error, file=sys.stderr)
            return 2
        if options.report is not None:
            from models.training.report import write  # noqa: PLC0415 - plots take a second to load

            write(options.report, evaluation, test, score)
        print(as_json(evaluation) if options.json else describe(evaluation))
    return 0


if __name__ == "__main__":
    sys.exit(main())
