"""Evaluate a model on a history as it would have been trained and used: nothing from after a day is known on that day.

`python -m models.training.evaluate HISTORY_DIR --as-of DATE` trains on the payments of --train-days that end
--maturity-days before DATE, with the labels known by DATE, and tests on the --test-days from DATE on. Between them lie
the days whose labels are not known yet. It prints the figures, and writes the scores and a report that reads without
the code. With --champion the model of a directory decides the same payments, and the difference has an interval.
"""

import argparse
import math
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from fraud import packaged
from fraud.counters.layout import DAY
from fraud.errors import FraudError
from fraud.scoring import features
from fraud.scoring.trees import Trees
from models.datasets import history
from models.datasets.history import HistoryError
from models.training import container, train
from models.training.columns import Dataset
from models.training.costs import Budget, Thresholds
from models.training.dataset import build, holds, rule_book_of
from models.training.days import Span
from models.training.evaluation import Evaluation, as_json, compared, describe, evaluate, known_defrauded
from models.training.fitting import Hyperparameters, Periods
from models.training.metrics import Floats
from models.training.scores import score_of, subjects, write

GROUPS: Mapping[str, tuple[str, ...]] = {
    "fraud share": tuple(name for name in features.NAMES if name.startswith("payee_fraud_share")),
    "known frauds": tuple(name for name in features.NAMES if "_frauds_" in name),
    "spread": ("amount_deviation_of_payer_30d", "amount_to_payer_largest_30d"),
    "payer": tuple(name for name in features.NAMES if name.startswith("payer_") and "_frauds_" not in name),
    "receiver": tuple(name for name in features.NAMES if "counterparty" in name),
    "pair and device": tuple(name for name in features.NAMES if name.startswith(("pair_", "device_"))),
}
"""Groups of features that an evaluation can leave out, to show what they are worth."""


@dataclass(frozen=True)
class Plan:
    """The days of an evaluation, in epoch seconds.

    warmup   the first payment that fills the counters
    periods  of training and test; `cutoff` is the day of the evaluation
    """

    warmup: int
    periods: Periods

    @classmethod
    def of(cls, options: argparse.Namespace) -> "Plan":
        """Return the plan of a command. Raises HistoryError when the history has too few days."""
        directory, maturity, warmup = options.history, options.maturity_days, options.warmup_days
        train_days, test_days = options.train_days, options.test_days
        least, most, _ = history.span(directory)
        cutoff = (options.as_of.toordinal() - date(1970, 1, 1).toordinal()) * DAY
        fitted = cutoff - maturity * DAY
        start, end = fitted - train_days * DAY, cutoff + test_days * DAY
        begins, ends = int(least.timestamp()) // DAY * DAY, (int(most.timestamp()) // DAY + 1) * DAY
        if min(train_days, test_days) < 1 or min(maturity, warmup or 0) < 0:
            raise HistoryError(
                "--train-days and --test-days must be 1 or more, --maturity-days and --warmup-days 0 or more"
            )
        if start < begins or end > ends:
            raise HistoryError(
                f"{directory} has payments of {_date(begins)} to {_date(ends - DAY)},"
                f" and the evaluation needs {_date(start)} to {_date(end - DAY)}"
            )
        warm = begins if warmup is None else max(start - warmup * DAY, begins)
        return cls(warm, Periods(start, fitted, cutoff, end))

    @property
    def span(self) -> Span:
        """The span of the dataset in epoch seconds: the warm-up, then the fitted days to the last tested one."""
        return Span(self.warmup, self.periods.start, self.periods.end)


# ---- the run -------------------------------------------------------------------------------------------------------


def without(rows: Dataset, group: str | None) -> Dataset:
    """Return the rows with the features of a group of GROUPS missing (NaN) everywhere; as they are for None."""
    if group is None:
        return rows
    vectors = rows.features.copy()
    vectors[:, [features.NAMES.index(name) for name in GROUPS[group]]] = math.nan
    return replace(rows, features=vectors)


def run(options: argparse.Namespace, dataset: Path) -> tuple[Evaluation, Dataset, Floats]:
    """Carry an evaluation out; `dataset` is the directory of its dataset.

    Return the evaluation, the test payments and their scores. Raises HistoryError, ValueError, FraudError or OSError.
    """
    plan = Plan.of(options)
    rule_book = rule_book_of(options.history, options.policy)
    labels = not options.without_labels
    if not holds(dataset, options.history, plan.span, rule_book, labels=labels):
        build(options.history, dataset, plan.span, rule_book, labels=labels, quiet=options.json)
    periods = plan.periods
    rows = without(Dataset.load(dataset, periods.start // DAY, periods.end // DAY), options.without)
    parameters = Hyperparameters(trials=options.trials, search_seconds=options.search_seconds, seed=options.seed)
    budget = Budget(**{limit.name: getattr(options, limit.name) for limit in fields(Budget)})
    known, test = rows.between(periods.start, periods.fitted), rows.between(periods.cutoff, periods.end)
    model = train.fit(known, periods, parameters, budget, {"history": options.history.name})
    trees = model.loaded()
    score = score_of(trees, test)
    if options.scores is not None:
        write(options.scores, subjects(options.history, dataset, test), score, trees, rule_book)
    if options.model is not None:
        model.write(options.model)
    is_known = known_defrauded(rows)[rows.occurred_at >= periods.cutoff]
    found = evaluate(test, score, trees.thresholds, budget, is_known, seed=options.seed)
    if options.champion is not None:
        champion = _champion(options.champion, rows.currency)
        found["champion"] = compared(champion, test, score, budget, trees.thresholds, options.seed)
    days = _stated(plan, budget, model.thresholds)
    return Evaluation(trees.version, rows.currency, rows.policy, days, **found), test, score


def _champion(directory: Path, currency: str) -> Trees:
    """Load a model to compare with. Raises UndecidableError for a damaged one, or one of another currency."""
    trees = Trees.load((directory / "trees.json").read_bytes(), (directory / "manifest.json").read_bytes())
    packaged.agree("champion", trees.currency, currency)
    return trees


def _stated(plan: Plan, budget: Budget, thresholds: Thresholds) -> dict[str, Any]:
    """Return what an evaluation says of its days, its budget, and what was expected of its thresholds."""
    return {
        "as_of": _date(plan.periods.cutoff),
        "trained_from": _date(plan.periods.start),
        "trained_before": _date(plan.periods.fitted),
        "tested_before": _date(plan.periods.end),
        "warmup_days": (plan.periods.start - plan.warmup) // DAY,
        "base_rate": budget.base_rate,
        "friction_budget": budget.friction,
        "reviews_budget": budget.reviews,
        "rules_friction": thresholds.rules_friction,
        "expected_reviews": thresholds.reviews,
        "expected_friction": thresholds.friction,
        "expected_friction_bound": thresholds.friction_bound,
        "within_budget": thresholds.within,
    }


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
    search = [each for each in fields(Hyperparameters) if each.name in {"trials", "search_seconds", "seed"}]
    for number in (*search, *fields(Budget)):
        kind = container.hyperparameter(number.name, type(number.default))
        parser.add_argument(f"--{number.name.replace('_', '-')}", type=kind, default=number.default)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Train and test a model on a history as of a day, and print its worth and what it costs in friction."""
    options = _parser().parse_args(arguments)
    with ExitStack() as stack:
        dataset = options.dataset or Path(stack.enter_context(tempfile.TemporaryDirectory())) / "dataset"
        try:
            evaluation, test, score = run(options, dataset)
            if options.report is not None:
                from models.training import report  # noqa: PLC0415 - plots take a second to load

                report.write(options.report, evaluation, test, score)
        except (ValueError, FraudError, OSError) as error:
            print(" ".join(str(error).split()), file=sys.stderr)
            return 2
        print(as_json(evaluation) if options.json else describe(evaluation))
    return 0


if __name__ == "__main__":
    sys.exit(main())
