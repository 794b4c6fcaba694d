"""Train the model: XGBoost on replayed payments, exported as the trees that the library walks in plain Python.

Time is never mixed. Hyperparameters, tree count, calibration and thresholds come from forward-chained folds inside the
fitted days. Labels are those known when training "happens". The test period lies after the labels' delay. In a share of
the rows that are fitted, the features of a kind are missing, as they are online when the kind's counters cannot be
read. A SageMaker training job runs this file, alone or through its toolkit (`container`). Called elsewhere, it
simulates its data and writes the packaged model.
"""

import hashlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import xgboost

from fraud import packaged
from fraud.scoring.drift import BASELINE
from fraud.scoring.trees import Trees
from models.simulation.markets import JAPAN, Market, market_of
from models.simulation.simulate import DEFAULT_START, simulate
from models.training import container, costs, figures, fitting
from models.training.baseline import baseline
from models.training.columns import STATED, Dataset
from models.training.costs import Budget, Scored, Thresholds
from models.training.export import check, describe, export, text_of
from models.training.figures import Report, report
from models.training.fitting import Calibration, Hyperparameters, Periods, Tuned
from models.training.metrics import Flags

SIMULATED_DAYS, SIMULATED_PAYERS = 83, 550
"""The simulated world. It is fitted from its first day on, when all counters are empty: a model that never saw such
days disturbs up to four times as many honest payments of a new app. The fitted days have a payday before the folds and
one in them: a model that met its first payday in a fold would look worse than it is.
"""


@dataclass(frozen=True)
class Model:
    """A fitted model: a booster whose scores are probabilities at the budget's base rate, and its files.

    held_out  the folds' payments with their scores, on which the thresholds were chosen
    baseline  what the last days of its dataset were like, as baseline.json; None without a dataset of later days
    """

    booster: xgboost.Booster
    trees: bytes
    manifest: bytes
    tuned: Tuned
    thresholds: Thresholds
    held_out: Scored
    baseline: bytes | None = None

    def loaded(self) -> Trees:
        """Return the model as the library loads it."""
        return Trees.load(self.trees, self.manifest)

    def write(self, directory: Path) -> None:
        """Write trees.json and manifest.json, which `Trees.load` reads, and baseline.json, to which drift is compared.

        Outside the layer also write the booster, model.ubj, for an endpoint.
        """
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "trees.json").write_bytes(self.trees)
        (directory / "manifest.json").write_bytes(self.manifest)
        if self.baseline is not None:
            (directory / BASELINE).write_bytes(self.baseline)
        if directory.resolve().parent != packaged.MODELS.resolve():
            self.booster.save_model(directory / "model.ubj")


def fit(
    known: Dataset, periods: Periods, parameters: Hyperparameters, budget: Budget, source: Mapping[str, Any]
) -> Model:
    """Search, fit, calibrate, choose thresholds, export and check a model. `source` goes into the manifest.

    known  the payments of [periods.start, periods.fitted)

    Equal arguments give equal bytes with one build of xgboost on x86_64. Raises ValueError when a fold is empty, when
    no fraud is known, or when the export does not score as xgboost does.
    """
    labels = known.labels(periods.cutoff)
    if not labels.any() or labels.all():
        which = "no payment" if not labels.any() else "every payment"
        raise ValueError(f"{which} of the fitted days is known as fraud: there is nothing to learn")
    tuned = fitting.search(known, labels, periods, parameters)
    line, frauds = _calibrate(known, labels, tuned, periods, budget)
    held_out = Scored.of(known.take(tuned.places), line.scores(tuned.margins), frauds)
    thresholds = costs.choose(held_out, budget)
    booster = fitting.calibrated(fitting.fit(known, labels, tuned), line)
    trees = export(booster).model_dump_json().encode()
    trained = {
        **source,
        "hyperparameters": asdict(tuned.parameters),
        "tried": tuned.tried,
        "trees": tuned.trees,
        "calibration": {name: round(value, 4) for name, value in line._asdict().items()},
        "payments": len(known),
        "frauds_known": int(labels.sum()),
        "frauds_of_folds": int(frauds.sum()),
        "from": _date(periods.start),
        "before": _date(periods.fitted),
        "labels_known_at": _date(periods.cutoff),
        "policy": known.policy,
        "budget": asdict(budget),
        "expected": {name: _rounded(value) for name, value in asdict(thresholds).items() if name != "by_outcome"},
        "xgboost": xgboost.__version__,
    }
    manifest = describe(trees, dict(thresholds.by_outcome), trained, known.currency)
    model = Model(booster, trees, text_of(manifest), tuned, thresholds, held_out)
    check(booster, model.loaded(), known.features[:: max(len(known) // 2_000, 1)])
    return model


def _calibrate(
    known: Dataset, labels: Flags, tuned: Tuned, periods: Periods, budget: Budget
) -> tuple[Calibration, Flags]:
    """Return the line for the base rate, and the frauds of the folds: the known ones, and a draw of the others."""
    of_folds, told = labels[tuned.places], fitting.told_by(known, periods.cutoff)[tuned.places]
    weight = None if known.weight is None else known.weight[tuned.places]
    line = Calibration.of(tuned.margins, of_folds, told, weight)
    frauds = fitting.imputed(line.scores(tuned.margins), of_folds, told, tuned.parameters.seed)
    return line.at(budget.base_rate, float(frauds.mean())), frauds


def train(
    dataset: Dataset, parameters: Hyperparameters, source: Mapping[str, Any], budget: Budget | None = None
) -> tuple[Model, Report]:
    """Fit a model to a dataset, and measure it on the test period. The manifest has the report.

    Payments without weight are in the baseline only: nobody knows whether they were fraud, but they are scored.

    Raises ValueError as `fit`, and when the dataset has too few days.
    """
    budget = budget or Budget()
    everything, dataset = dataset, dataset.weighed()
    periods = Periods.of(dataset, parameters)
    model = fit(dataset.between(periods.start, periods.fitted), periods, parameters, budget, source)
    test = dataset.between(periods.cutoff, periods.end)
    trees = model.loaded()
    measured = report(Scored.of(test, check(model.booster, trees, test.features)), trees.thresholds, budget)
    manifest = trees.manifest.model_copy(update={"metrics": asdict(measured)})
    margins = fitting.margins(model.booster, everything.features)
    scores = np.round(0.5 + 0.5 * np.tanh(margins / 2), 9)  # so that no bit depends on the machine
    compared = baseline(everything, scores, manifest.version)
    return replace(model, manifest=text_of(manifest), baseline=compared), measured


def _date(epoch: int) -> str:
    return datetime.fromtimestamp(epoch, UTC).date().isoformat()


def _rounded(value: float) -> float:
    return value if isinstance(value, bool) else round(value, 6)


def _source(
    channel: Path | None, seed: int, days: int, payers: int, market: Market | None
) -> tuple[Dataset, dict[str, Any]]:
    """Return the training channel's dataset, or a simulated one, and its source for the manifest."""
    if channel is not None:
        dataset = container.load(channel)
        if market is not None and market.currency != dataset.currency:
            raise ValueError(f"{channel} holds amounts in {dataset.currency}, not in {market.currency}")
        return dataset, {"dataset_sha256": hashlib.sha256((channel / STATED).read_bytes()).hexdigest()}
    dataset = Dataset.build(simulate(seed, DEFAULT_START, days, payers, market or JAPAN))
    return dataset, {"simulated": {"seed": seed, "days": days, "payers": payers}}


def _directory(variable: str) -> Path | None:
    return Path(os.environ[variable]) if variable in os.environ else None


def main(arguments: Sequence[str] | None = None) -> None:
    """Train on the dataset of the channel, or on a simulated one, and write the model."""
    parser = container.Parser(prog="python -m models.training.train", description=main.__doc__)
    parser.add_argument("--train", type=Path, default=_directory("SM_CHANNEL_TRAIN"), help=f"directory with {STATED}")
    parser.add_argument("--out", type=Path, default=_directory("SM_MODEL_DIR"), help="default: the packaged one")
    parser.add_argument(
        "--output-data", type=Path, default=_directory("SM_OUTPUT_DATA_DIR"), help="directory for the evaluation"
    )
    parser.add_argument("--currency", dest="market", type=market_of, help="of simulated payments; default: JPY")
    parser.add_argument("--days", type=int, default=SIMULATED_DAYS, help="days to simulate, without --train")
    parser.add_argument("--payers", type=int, default=SIMULATED_PAYERS, help="payers to simulate, without --train")
    for parameter in (*fields(Hyperparameters), *fields(Budget)):
        kind = container.hyperparameter(parameter.name, type(parameter.default))
        parser.add_argument(f"--{parameter.name}", type=kind, default=parameter.default)
    options = parser.parse_args(arguments)
    parameters = replace(
        Hyperparameters(), **{field.name: getattr(options, field.name) for field in fields(Hyperparameters)}
    )
    budget = Budget(**{limit.name: getattr(options, limit.name) for limit in fields(Budget)})
    dataset, source = _source(options.train, parameters.seed, options.days, options.payers, options.market)
    model, measured = train(dataset, parameters, source, budget)
    text = figures.describe(measured)
    if options.output_data is not None:
        options.output_data.mkdir(parents=True, exist_ok=True)
        (options.output_data / "evaluation.txt").write_text(text, encoding="utf-8")
    out = options.out or packaged.MODELS / dataset.currency
    if options.out is None:
        model.write(out)
    else:
        container.publish(model.write, out)
    sys.stdout.write(f"{json.loads(model.manifest)['version']} in {out}, tested out of time: {text}")


if __name__ == "__main__":
    known = {"currency", *(field.name for kind in (Hyperparameters, Budget) for field in fields(kind))}
    sys.exit(container.run(main, known, sys.argv[1:], os.environ))
