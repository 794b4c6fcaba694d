"""Train the model: XGBoost on replayed payments, exported as the trees that the library walks in plain Python.

Time is never mixed. The tree count and the thresholds come from forward-chained folds inside the fitted days. Labels
are those known when training "happens". The test period lies after the labels' delay. In a share of the rows that are
fitted, the features of a kind are missing, as they are online when the kind's counters cannot be read. A SageMaker
training job runs this file, alone or through its toolkit (`container`). Called elsewhere, it simulates its data and
writes the packaged model.
"""

import hashlib
import json
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean
from types import SimpleNamespace
from typing import Any

import numpy as np
import xgboost
from numpy.typing import NDArray

from fraud import packaged
from fraud.counters.layout import DAY
from fraud.scoring import features
from fraud.scoring.trees import Forest, Manifest, Trees, version
from fraud.transaction import UNITS
from models.simulation.markets import JAPAN, Market, market_of
from models.simulation.simulate import DEFAULT_START, simulate
from models.training import container, evaluate
from models.training.away import COLUMNS, dropped
from models.training.dataset import FILE, Dataset
from models.training.evaluate import Report, Scored

SIMULATED_DAYS, SIMULATED_PAYERS = 45, 800
FOLDS = 4
SHARES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2)  # values of `away_share` to compare
TRIALS = 25  # models of each share: equal ones but for the seed differ by .01 of average precision
PARITY = 1e-6  # most difference in probability between the walked trees and xgboost

Labels = NDArray[np.bool_]


@dataclass(frozen=True)
class Hyperparameters:
    """Hyperparameters of training.

    There are no class weights, so that scores stay probabilities. `max_bin` is high: fine bins find odd amounts.
    `away_share` is the share of fitted rows that lose the features of a kind, for each of `away.AWAY` (D-071).
    """

    max_depth: int = 4
    learning_rate: float = 0.08
    min_child_weight: float = 5.0
    reg_lambda: float = 5.0
    subsample: float = 0.7
    colsample_bynode: float = 0.3
    max_bin: int = 4096
    away_share: float = 0.1
    most_trees: int = 200
    delay_days: int = 7  # between the last fitted payment and training: the time in which labels arrive
    test_days: int = 7
    seed: int = 1

    def booster(self) -> dict[str, Any]:
        """Return the parameters of xgboost: its own hyperparameters, and the fixed ones."""
        ours = {"away_share", "most_trees", "delay_days", "test_days"}
        own = {name: value for name, value in asdict(self).items() if name not in ours}
        # One thread and no GPU: sums are then added in the same order every time.
        return own | {"objective": "binary:logistic", "tree_method": "hist", "device": "cpu", "nthread": 1}


@dataclass(frozen=True)
class Periods:
    """The periods of training, in epoch seconds.

    Payments in [start, fitted) are fitted to the labels known at `cutoff`. Payments in [cutoff, end) are the test.
    """

    start: int
    fitted: int
    cutoff: int
    end: int

    @classmethod
    def of(cls, dataset: Dataset, parameters: Hyperparameters) -> "Periods":
        """Return the periods of a dataset in whole days: the fitted days, then the delay, then the test.

        Raises ValueError when too few days are left to fit for FOLDS folds.
        """
        start = int(dataset.occurred_at.min()) // DAY * DAY
        end = (int(dataset.occurred_at.max()) // DAY + 1) * DAY
        cutoff = end - parameters.test_days * DAY
        fitted = cutoff - parameters.delay_days * DAY
        if fitted - start <= FOLDS * DAY:
            raise ValueError(f"{(end - start) // DAY} days leave no more than {FOLDS} to fit")
        return cls(start, fitted, cutoff, end)

    def folds(self) -> Iterator[tuple[int, int]]:
        """Yield start and end of each validation period: equal runs of whole days, the last ends with the fitted days.

        >>> periods = Periods(0, 14 * DAY, 21 * DAY, 28 * DAY)
        >>> [(start // DAY, end // DAY) for start, end in periods.folds()]
        [(6, 8), (8, 10), (10, 12), (12, 14)]
        """
        length = max((self.fitted - self.start) // DAY // (FOLDS + 3), 1) * DAY
        for behind in range(FOLDS, 0, -1):
            yield self.fitted - behind * length, self.fitted - (behind - 1) * length


@dataclass(frozen=True)
class Trained:
    """A booster, its export as the two packaged files, and its report on the test period."""

    booster: xgboost.Booster
    trees: bytes
    manifest: bytes
    report: Report

    def write(self, directory: Path) -> None:
        """Write trees.json and manifest.json, which `Trees.load` reads.

        Outside the layer also write the booster, model.ubj, for an endpoint.
        """
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "trees.json").write_bytes(self.trees)
        (directory / "manifest.json").write_bytes(self.manifest)
        if directory.resolve().parent != packaged.MODELS.resolve():
            self.booster.save_model(directory / "model.ubj")


def train(dataset: Dataset, parameters: Hyperparameters, source: Mapping[str, Any]) -> Trained:
    """Tune, fit, export, check and measure a model. `source` goes into the manifest.

    Equal arguments give equal bytes with one build of xgboost on x86_64. Raises ValueError when the dataset has too few
    days, or when the export does not score as xgboost does.
    """
    periods = Periods.of(dataset, parameters)
    known = dataset.between(periods.start, periods.fitted)
    labels = known.labels(periods.cutoff)
    count, held_out = tune(known, labels, periods, parameters)
    booster = xgboost.train(parameters.booster(), _lossy(known, labels, parameters), count)
    trees = export(booster).model_dump_json().encode()
    trained = {
        **source,
        "hyperparameters": asdict(parameters),
        "trees": count,
        "payments": len(known),
        "frauds_known": int(labels.sum()),
        "from": _date(periods.start),
        "before": _date(periods.fitted),
        "labels_known_at": _date(periods.cutoff),
        "xgboost": xgboost.__version__,
    }
    manifest = describe(trees, evaluate.cheapest(held_out), trained, dataset.currency)
    test = dataset.between(periods.cutoff, periods.end)
    scores = check(booster, Trees.load(trees, _text(manifest)), test)
    report = evaluate.report(
        Scored(scores, test.amount, test.fraud, test.tactic, UNITS[dataset.currency]), manifest.thresholds
    )
    return Trained(booster, trees, _text(manifest.model_copy(update={"metrics": asdict(report)})), report)


def tune(known: Dataset, labels: Labels, periods: Periods, parameters: Hyperparameters) -> tuple[int, Scored]:
    """Return the tree count with the least log loss over the folds, and the folds' payments scored with that count.

    Each fold is scored by a booster that is fitted to all payments before the fold. All labels are those known at the
    cut-off. No features are taken from the folds themselves: count and thresholds are for payments with all counters.
    """
    folds, boosters, losses = [], [], []
    for start, end in periods.folds():
        before = known.occurred_at < start
        fold = np.flatnonzero((known.occurred_at >= start) & (known.occurred_at < end))
        history: dict[str, dict[str, list[float]]] = {}
        booster = xgboost.train(
            parameters.booster() | {"eval_metric": "logloss"},
            _lossy(known.take(before), labels[before], parameters),
            parameters.most_trees,
            evals=[(_matrix(known.take(fold), labels[fold]), "fold")],
            evals_result=history,
            verbose_eval=False,
        )
        folds.append(fold)
        boosters.append(booster)
        losses.append(np.array(history["fold"]["logloss"]) * len(fold))
    count = int(np.argmin(np.sum(losses, axis=0))) + 1
    places = np.concatenate(folds)
    scores = [
        booster.predict(_matrix(known.take(fold), labels[fold]), iteration_range=(0, count))
        for booster, fold in zip(boosters, folds, strict=True)
    ]
    held_out = known.take(places)
    return count, Scored(
        np.concatenate(scores).astype(np.float64),
        held_out.amount,
        labels[places],
        held_out.tactic,
        UNITS[known.currency],
    )


def export(booster: xgboost.Booster) -> Forest:
    """Return the booster's trees as columns in pre-order.

    Numbers are kept as xgboost writes them: the shortest text of a float32.
    """
    learner = json.loads(booster.save_raw("json"))["learner"]
    (prior,) = json.loads(learner["learner_model_param"]["base_score"])
    columns: dict[str, list[Any]] = {name: [] for name in Forest.model_fields if name != "base"}
    for tree in learner["gradient_booster"]["model"]["trees"]:
        columns["roots"].append(len(columns["right"]))
        _export(tree, 0, columns)
    return Forest(base=math.log(prior / (1 - prior)), **columns)


def _export(tree: Mapping[str, list[Any]], node: int, columns: dict[str, list[Any]]) -> None:
    place, left, right = len(columns["right"]), tree["left_children"][node], tree["right_children"][node]
    leaf = left == -1
    columns["feature"].append(0 if leaf else tree["split_indices"][node])
    columns["value"].append(tree["split_conditions"][node])
    columns["right"].append(0)
    columns["missing_left"].append(0 if leaf else tree["default_left"][node])
    columns["cover"].append(tree["sum_hessian"][node])
    if not leaf:
        _export(tree, left, columns)
        columns["right"][place] = len(columns["right"])
        _export(tree, right, columns)


def describe(trees: bytes, thresholds: dict[str, float], trained: Mapping[str, Any], currency: str) -> Manifest:
    """Return the manifest of an export. Its metrics stay empty until the model is measured."""
    sha256 = hashlib.sha256(trees).hexdigest()
    return Manifest(
        version=version(sha256, thresholds),
        currency=currency,
        fingerprint=features.fingerprint(),
        features=features.NAMES,
        sha256=sha256,
        thresholds=thresholds,
        trained=dict(trained),
        metrics={},
    )


def check(booster: xgboost.Booster, trees: Trees, rows: Dataset) -> NDArray[np.float64]:
    """Return the scores of the walked trees, one for each row.

    Raises ValueError when a score differs from xgboost's by more than PARITY: such an export must not be written.
    """
    walked = np.array([trees.score(tuple(vector)) for vector in rows.features.tolist()])
    difference = np.abs(walked - booster.inplace_predict(rows.features)).max(initial=0)
    if difference > PARITY:
        raise ValueError(f"the exported trees differ from xgboost by {difference:.1e}")
    return walked


def _lossy(rows: Dataset, labels: Labels, parameters: Hyperparameters) -> xgboost.DMatrix:
    """Return the rows as they are fitted: the features of each kind are missing in a share of them."""
    kept = dropped(rows.features, parameters.away_share, parameters.seed)
    return _matrix(replace(rows, features=kept), labels)


def _matrix(rows: Dataset, labels: Labels) -> xgboost.DMatrix:
    return xgboost.DMatrix(rows.features, labels, nthread=1)


def _text(manifest: Manifest) -> bytes:
    return manifest.model_dump_json(indent=1).encode() + b"\n"


def _date(epoch: int) -> str:
    return datetime.fromtimestamp(epoch, UTC).date().isoformat()


def _source(channel: Path | None, seed: int, days: int, payers: int, market: Market) -> tuple[Dataset, dict[str, Any]]:
    """Return the training channel's dataset, or a simulated one, and its source for the manifest."""
    if channel is not None:
        dataset = container.load(channel)
        if market is not None and market.currency != dataset.currency:
            raise ValueError(f"{channel / FILE} holds amounts in {dataset.currency}, not in {market.currency}")
        return dataset, {"dataset_sha256": hashlib.sha256((channel / FILE).read_bytes()).hexdigest()}
    dataset = Dataset.build(simulate(seed, DEFAULT_START, days, payers, market or JAPAN))
    return dataset, {"simulated": {"seed": seed, "days": days, "payers": payers}}


def compare_labels(parameters: Hyperparameters, days: int, payers: int, market: Market | None) -> str:
    """Return two lines of text: the average precision of a model with fraud labels in its counters, and of one without.

    Both are measured out of time, in the test period.
    """
    lines = []
    for words, labels in (("with labels", True), ("without labels", False)):
        dataset = Dataset.build(simulate(parameters.seed, DEFAULT_START, days, payers, market or JAPAN), labels=labels)
        lines.append(f"average precision {words}: {train(dataset, parameters, {}).report.average_precision:.3f}\n")
    return "".join(lines)


def compare_shares(parameters: Hyperparameters, dataset: Dataset, unseen: Dataset, trials: int) -> str:
    """Return two tables as text: average precision and cost by `away_share` (rows) and by what is missing (columns).

    unseen  the payments that the models are measured on
    trials  number of models of each share, with different seeds. The tables hold their means
    """
    precision, cost = [], []
    for share in SHARES:
        found = []
        for seed in range(parameters.seed, parameters.seed + trials):
            model = train(dataset, replace(parameters, away_share=share, seed=seed), {})
            thresholds = json.loads(model.manifest)["thresholds"]
            found.append(evaluate.losses(_without_each(model.booster, unseen), thresholds))
        means = {
            name: (mean(loss.average_precision for loss in row), round(mean(loss.cost for loss in row)))
            for name, row in zip(evaluate.MISSING, zip(*found, strict=True), strict=True)
        }
        precision.append(SimpleNamespace(share=share, **{name: each for name, (each, _) in means.items()}))
        cost.append(SimpleNamespace(share=share, **{name: each for name, (_, each) in means.items()}))
    return (
        f"average precision by share and by what is missing:\n{evaluate.table(precision)}"
        f"\ncost per 1,000 payments:\n{evaluate.table(cost)}"
    )


def _without_each(booster: xgboost.Booster, rows: Dataset) -> dict[str, Scored]:
    """Return the rows, scored once for each of MISSING."""
    scored = {}
    for name in evaluate.MISSING:
        vectors = rows.features.copy()
        vectors[:, COLUMNS.get(name, [])] = math.nan
        scores = booster.inplace_predict(vectors).astype(np.float64)
        scored[name] = Scored(scores, rows.amount, rows.fraud, rows.tactic, UNITS[rows.currency])
    return scored


def _directory(variable: str) -> Path | None:
    return Path(os.environ[variable]) if variable in os.environ else None


def main(arguments: Sequence[str] | None = None) -> None:
    """Train on the dataset of the channel, or on a simulated one, and write the model."""
    parser = container.Parser(prog="python -m models.training.train", description=main.__doc__)
    parser.add_argument("--train", type=Path, default=_directory("SM_CHANNEL_TRAIN"), help=f"directory with {FILE}")
    parser.add_argument("--out", type=Path, default=_directory("SM_MODEL_DIR"), help="default: the packaged one")
    parser.add_argument(
        "--output-data", type=Path, default=_directory("SM_OUTPUT_DATA_DIR"), help="directory for the evaluation"
    )
    parser.add_argument("--currency", dest="market", type=market_of, help="of simulated payments; default: JPY")
    parser.add_argument("--days", type=int, default=SIMULATED_DAYS, help="days to simulate, without --train")
    parser.add_argument("--payers", type=int, default=SIMULATED_PAYERS, help="payers to simulate, without --train")
    parser.add_argument(
        "--compare-labels", action="store_true", help="print the precision with and without labels, write nothing"
    )
    parser.add_argument(
        "--compare-shares",
        type=Path,
        metavar="DIRECTORY",
        help=f"print the quality by --away_share on the {FILE} of other payments in this directory, write nothing",
    )
    parser.add_argument("--trials", type=int, default=TRIALS, help="models of each share, with --compare-shares")
    for parameter in fields(Hyperparameters):
        kind = container.hyperparameter(parameter.name, type(parameter.default))
        parser.add_argument(f"--{parameter.name}", type=kind, default=parameter.default)
    options = parser.parse_args(arguments)
    parameters = replace(
        Hyperparameters(), **{field.name: getattr(options, field.name) for field in fields(Hyperparameters)}
    )
    if options.compare_labels:
        sys.stdout.write(compare_labels(parameters, options.days, options.payers, options.market))
        return
    dataset, source = _source(options.train, parameters.seed, options.days, options.payers, options.market)
    if options.compare_shares is not None:
        unseen = Dataset.load(options.compare_shares)
        sys.stdout.write(compare_shares(parameters, dataset, unseen, options.trials))
        return
    trained = train(dataset, parameters, source)
    text = evaluate.describe(trained.report)
    if options.output_data is not None:
        options.output_data.mkdir(parents=True, exist_ok=True)
        (options.output_data / "evaluation.txt").write_text(text, encoding="utf-8")
    out = options.out or packaged.MODELS / dataset.currency
    if options.out is None:
        trained.write(out)
    else:
        container.publish(trained.write, out)
    sys.stdout.write(f"{json.loads(trained.manifest)['version']} in {out}, tested out of time: {text}")


if __name__ == "__main__":
    known = {"currency", *(field.name for field in fields(Hyperparameters))}
    sys.exit(container.run(main, known, sys.argv[1:], os.environ))
