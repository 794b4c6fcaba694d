"""Fitting: folds in order of time, a small search over hyperparameters, the tree count, and calibration.

Time is never mixed. Everything that is chosen is chosen on forward-chained folds inside the fitted days: each fold is
scored by a booster that was fitted to the payments before it. Labels are those known when training "happens".
"""

import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import xgboost
from numpy.typing import NDArray

from fraud.counters.layout import DAY
from models.training.away import dropped
from models.training.columns import Dataset
from models.training.metrics import Flags, Floats

FOLDS = 4
PRIOR_FRAUDS = 10
"""Frauds that count for margins as they are, beside those that calibration is fitted to."""

LEAST_SLOPE, LEAST_TOLD = 0.05, 0.05
"""A line never turns the ranking around, and no age is taken to know less than one fraud in twenty."""

STEPS = 50
"""Most steps of Newton's method: calibration needs about ten."""


@dataclass(frozen=True)
class Hyperparameters:
    """Hyperparameters of training.

    There are no class weights: class weighting costs precision and calibration. `max_bin` is high: fine bins find odd
    amounts. `away_share` is the share of fitted rows that lose the features of a kind, for each of `away.AWAY` (D-071).
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
    trials: int = 0  # hyperparameters that are drawn and tried, beside the given ones
    search_seconds: float = 600.0  # no further trial begins after this time
    seed: int = 1

    def booster(self) -> dict[str, Any]:
        """Return the parameters of xgboost: its own hyperparameters, and the fixed ones."""
        ours = {"away_share", "most_trees", "delay_days", "test_days", "trials", "search_seconds"}
        own = {name: value for name, value in asdict(self).items() if name not in ours}
        # One thread and no GPU: sums are then added in the same order every time.
        return own | {"objective": "binary:logistic", "tree_method": "hist", "device": "cpu", "nthread": 1}

    def drawn(self, rng: np.random.Generator) -> "Hyperparameters":
        """Return hyperparameters drawn from the search space; all others stay."""
        return replace(
            self,
            max_depth=int(rng.integers(3, 5)),
            learning_rate=round(float(np.exp(rng.uniform(np.log(0.03), np.log(0.15)))), 4),
            min_child_weight=round(float(np.exp(rng.uniform(np.log(1), np.log(20)))), 2),
            reg_lambda=round(float(np.exp(rng.uniform(np.log(1), np.log(20)))), 2),
            subsample=round(float(rng.uniform(0.5, 1.0)), 2),
            colsample_bynode=round(float(rng.uniform(0.15, 0.8)), 2),
        )


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
        periods = cls(start, cutoff - parameters.delay_days * DAY, cutoff, end)
        if periods.fitted - start <= FOLDS * DAY:
            raise ValueError(f"{(end - start) // DAY} days leave no more than {FOLDS} to fit")
        return periods

    def folds(self) -> Iterator[tuple[int, int]]:
        """Yield start and end of each validation period: equal runs of whole days, the last ends with the fitted days.

        >>> periods = Periods(0, 14 * DAY, 21 * DAY, 28 * DAY)
        >>> [(start // DAY, end // DAY) for start, end in periods.folds()]
        [(10, 11), (11, 12), (12, 13), (13, 14)]
        """
        length = max((self.fitted - self.start) // DAY // (FOLDS + 5), 1) * DAY
        for behind in range(FOLDS, 0, -1):
            yield self.fitted - behind * length, self.fitted - (behind - 1) * length


class Tuned(NamedTuple):
    """Hyperparameters and their result on the folds.

    trees     the tree count with the least log loss
    loss      log loss per payment with that count
    places    places of the folds' payments in the fitted payments
    margins   their log odds, by a booster that did not see them
    tried     the number of hyperparameters that were tried
    """

    parameters: Hyperparameters
    trees: int
    loss: float
    places: NDArray[np.intp]
    margins: Floats
    tried: int = 1


def search(known: Dataset, labels: Flags, periods: Periods, parameters: Hyperparameters) -> Tuned:
    """Return the best of the given hyperparameters and of `trials` drawn ones: the least log loss on the folds.

    Equal arguments give equal results unless the time runs out; `tried` says how many were tried.
    """
    deadline = time.monotonic() + parameters.search_seconds
    rng = np.random.default_rng(parameters.seed)
    best = tune(known, labels, periods, parameters)
    tried = 1
    for _ in range(parameters.trials):
        if time.monotonic() >= deadline:
            break
        drawn = tune(known, labels, periods, parameters.drawn(rng))
        tried += 1
        best = min(best, drawn, key=lambda tuned: tuned.loss)
    return best._replace(tried=tried)


def tune(known: Dataset, labels: Flags, periods: Periods, parameters: Hyperparameters) -> Tuned:
    """Return the tree count with the least log loss over the folds, and the folds' margins with that count.

    Each fold is scored by a booster that is fitted to all payments before the fold. All labels are those known at the
    cut-off. No features are taken from the folds themselves: what is chosen is for payments with all counters.
    """
    folds, boosters, losses = [], [], []
    columns = varying(known.features)
    weights = np.ones(len(known)) if known.weight is None else known.weight
    for start, end in periods.folds():
        before = known.occurred_at < start
        fold = np.flatnonzero((known.occurred_at >= start) & (known.occurred_at < end))
        if not before.any() or not len(fold):
            raise ValueError(
                f"a fold has no payments, or none before it: {(periods.fitted - periods.start) // DAY} training days,"
                f" of which at least {FOLDS + 1} need payments"
            )
        history: dict[str, dict[str, list[float]]] = {}
        booster = xgboost.train(
            parameters.booster() | {"eval_metric": "logloss"},
            lossy(known.take(before), labels[before], parameters, columns),
            parameters.most_trees,
            evals=[(matrix(known.features[fold][:, columns], labels[fold], weights[fold]), "fold")],
            evals_result=history,
            verbose_eval=False,
        )
        folds.append(fold)
        boosters.append(booster)
        losses.append(np.array(history["fold"]["logloss"]) * weights[fold].sum())
    total = np.sum(losses, axis=0)
    count = int(np.argmin(total)) + 1
    places = np.concatenate(folds)
    margins = [
        booster.predict(
            matrix(known.features[fold][:, columns], labels[fold]), iteration_range=(0, count), output_margin=True
        )
        for booster, fold in zip(boosters, folds, strict=True)
    ]
    loss = float(total[count - 1]) / float(weights[places].sum())
    return Tuned(parameters, count, loss, places, np.concatenate(margins).astype(np.float64))


def fit(known: Dataset, labels: Flags, tuned: Tuned) -> xgboost.Booster:
    """Fit a booster to all payments with the tuned hyperparameters and tree count. `labels`: True for a fraud."""
    columns = varying(known.features)
    rows = lossy(known, labels, tuned.parameters, columns)
    return widened(xgboost.train(tuned.parameters.booster(), rows, tuned.trees), columns, known.features.shape[1])


class Calibration(NamedTuple):
    """A line in log odds (Platt 1999): slope * margin + intercept is the log odds of fraud where it was fitted."""

    slope: float
    intercept: float

    @classmethod
    def of(cls, margins: Floats, known: Flags, told: Floats, weight: Floats | None = None) -> "Calibration":
        """Fit the line to payments that the boosters did not see.

        known   what is known as fraud
        told    the chance that a fraud of the payment's age is known by now, in (0, 1]
        weight  how many payments each stands for; None: one

        A fraud is known with that chance, so the likelihood is that of told * chance (Elkan and Noto 2008). The slope
        has a penalty for its distance from 1 that counts like PRIOR_FRAUDS more frauds, so that a handful of them
        cannot turn the scores around.
        """
        spread = float(np.var(margins[known])) if known.any() else 1.0
        stands = np.ones(len(margins)) if weight is None else weight
        start = np.array([1.0, 0.0])
        ridge = np.array([PRIOR_FRAUDS * max(spread, 1e-3), 1e-6])
        rows = np.column_stack([margins, np.ones(len(margins))])
        line = start.copy()
        for _ in range(STEPS):
            chance = 0.5 + 0.5 * np.tanh(rows @ line / 2)
            slope = chance * (1 - chance)
            seen = np.clip(told * chance, 1e-12, 1 - 1e-12)
            # Fisher scoring: the expected curvature is positive wherever the line is.
            gradient = rows.T @ ((seen - known) / (seen * (1 - seen)) * told * slope * stands) + ridge * (line - start)
            curvature = (rows.T * ((told * slope) ** 2 / (seen * (1 - seen)) * stands)) @ rows + np.diag(ridge)
            step = np.linalg.solve(curvature, gradient)
            line -= step * min(1.0, 2.0 / max(np.abs(step).max(), 1e-300))
            if np.abs(step).max() < 1e-10:  # noqa: PLR2004 - no further digit changes
                break
        if line[0] >= LEAST_SLOPE:
            return cls(float(line[0]), float(line[1]))
        return cls(LEAST_SLOPE, _intercept(LEAST_SLOPE * margins, float(known.sum()), told))

    def scores(self, margins: Floats) -> Floats:
        """Return the probability of fraud, in [0, 1], for each margin (log odds of a booster)."""
        calibrated: Floats = 0.5 + 0.5 * np.tanh((self.slope * margins + self.intercept) / 2)
        return calibrated

    def at(self, base_rate: float, share: float) -> "Calibration":
        """Return the line for payments of which `base_rate` are frauds, while `share` were where it was fitted.

        >>> Calibration(1.0, 0.0).at(0.5, 0.2).intercept == math.log(4)
        True
        """
        if not 0 < base_rate < 1 or not 0 < share < 1:
            return self
        moved = math.log(base_rate / (1 - base_rate)) - math.log(share / (1 - share))
        return self._replace(intercept=self.intercept + moved)


def _intercept(odds: Floats, known: float, told: Floats) -> float:
    """Return what is added to log odds so that as many frauds are expected to be known as are known, by bisection."""
    low, high = -60.0, 60.0
    for _ in range(80):
        middle = (low + high) / 2
        expected = float((told * (0.5 + 0.5 * np.tanh((odds + middle) / 2))).sum())
        low, high = (middle, high) if expected < known else (low, middle)
    return (low + high) / 2


def told_by(rows: Dataset, cutoff: int) -> Floats:
    """Return for each payment the chance that a fraud of its age is known by `cutoff` (epoch seconds), in (0, 1].

    The delays of frauds that are known by then are truncated: a late report is known of an old payment only. Their
    distribution is the product-limit estimate in reversed time (Lagakos, Barraj and De Gruttola 1988). Beyond the
    oldest payment nothing can be known of the delays: they are taken to end there.
    """
    known = rows.labels(cutoff)
    ages = cutoff - rows.occurred_at
    delays, oldest = (rows.known_from - rows.occurred_at)[known], ages[known]
    times = np.unique(delays)
    if not len(times):
        return np.ones(len(rows))
    at_risk = np.array([((delays <= time) & (oldest >= time)).sum() for time in times.tolist()])
    events = np.array([(delays == time).sum() for time in times.tolist()])
    kept = np.where(at_risk > 1, 1 - events / np.maximum(at_risk, 1), 1.0)  # of a single delay nothing follows
    shares = np.append(np.cumprod(kept[::-1])[::-1][1:], 1.0)  # of delays up to each time
    places = np.searchsorted(times, ages, side="right") - 1
    told: Floats = np.where(places < 0, shares[0], shares[np.maximum(places, 0)])
    return np.maximum(told, LEAST_TOLD)


def imputed(scores: Floats, known: Flags, told: Floats, seed: int) -> Flags:
    """Return what is known as fraud, and a draw of the frauds that are not known yet.

    An unknown payment is a fraud with the chance score * (1 - told) / (1 - score * told), by Bayes' rule. Without the
    draw, late reports would stand as honest payments with high scores, and weigh a hundred times as much as a fraud.
    """
    chance = scores * (1 - told) / np.maximum(1 - scores * told, 1e-12)
    drawn: Flags = known | (np.random.default_rng(seed).random(len(scores)) < chance)
    return drawn


def calibrated(booster: xgboost.Booster, line: Calibration) -> xgboost.Booster:
    """Return a booster whose margin is the line of the given one's. Leaves and base score change, splits do not."""
    stored = json.loads(booster.save_raw("json"))
    learner = stored["learner"]
    (prior,) = json.loads(learner["learner_model_param"]["base_score"])
    odds = line.slope * np.log(prior / (1 - prior)) + line.intercept
    learner["learner_model_param"]["base_score"] = f"[{float(np.float32(1 / (1 + np.exp(-odds))))!r}]"
    for tree in learner["gradient_booster"]["model"]["trees"]:
        tree["split_conditions"] = [
            float(np.float32(value * line.slope)) if left == -1 else value
            for value, left in zip(tree["split_conditions"], tree["left_children"], strict=True)
        ]
        tree["base_weights"] = [float(np.float32(value * line.slope)) for value in tree["base_weights"]]
    return xgboost.Booster(model_file=bytearray(json.dumps(stored).encode()))


def varying(features: NDArray[np.float32]) -> NDArray[np.intp]:
    """Return the places of the features that are not the same in all rows.

    Each node looks at a share of the features. One that says nothing yet would take the place of another one (D-188).

    >>> varying(np.array([[1, 0, math.nan], [2, 0, math.nan]], np.float32)).tolist()
    [0]
    """
    first = features[:1]
    same = (features == first) | (np.isnan(features) & np.isnan(first))
    return np.flatnonzero(~same.all(axis=0))


def widened(booster: xgboost.Booster, columns: NDArray[np.intp], width: int) -> xgboost.Booster:
    """Return a booster of some columns as one of rows of all `width` columns."""
    stored = json.loads(booster.save_raw("json"))
    learner = stored["learner"]
    learner["learner_model_param"]["num_feature"] = str(width)
    for tree in learner["gradient_booster"]["model"]["trees"]:
        tree["tree_param"]["num_feature"] = str(width)
        tree["split_indices"] = [
            place if left == -1 else int(columns[place])
            for place, left in zip(tree["split_indices"], tree["left_children"], strict=True)
        ]
    return xgboost.Booster(model_file=bytearray(json.dumps(stored).encode()))


def lossy(rows: Dataset, labels: Flags, parameters: Hyperparameters, columns: NDArray[np.intp]) -> xgboost.DMatrix:
    """Return columns of the rows as they are fitted: the features of each kind are missing in a share of them."""
    features = dropped(rows.features, parameters.away_share, parameters.seed)[:, columns]
    return matrix(features, labels, rows.weight)


def matrix(features: NDArray[np.float32], labels: Flags, weights: Floats | None = None) -> xgboost.DMatrix:
    """Return rows and labels as xgboost takes them.

    features  rows x features, NaN where missing
    labels    True for fraud, one for each row
    weights   one for each row; None: all equal
    """
    return xgboost.DMatrix(features, labels, weight=weights, nthread=1)


def margins(booster: xgboost.Booster, rows: Sequence[Any] | NDArray[np.float32]) -> Floats:
    """Return the log odds of fraud, one for each row of features."""
    found: Floats = booster.inplace_predict(rows, predict_type="margin").astype(np.float64)
    return found
