"""What a life knows of its payments: the rows of training, the labels as they become known, and the models from both.

The model is trained by `models.training.train.fit`, on rows as they were decided, with the labels of that day. A
payment that moved no money and of which nobody said anything is left out (D-119).
"""

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from fraud.counters.in_memory import InMemoryCounters
from fraud.counters.layout import DAY
from fraud.counters.windows import NAMES as COUNTERS
from fraud.labels.label import Label, LabelHistory, LabelValue, Parties
from fraud.outcome import worst
from fraud.rules.rule_book import PolicyResult
from fraud.scoring import features
from fraud.scoring.features import Vector
from fraud.scoring.score import Scoring
from fraud.scoring.trees import Trees
from fraud.transaction import Transaction
from models.experiment.parameters import Parameters
from models.experiment.world import MARKET
from models.simulation.simulate import simulate
from models.training.columns import COLUMNS, Dataset, account_number, known_as_fraud
from models.training.costs import Budget
from models.training.fitting import Hyperparameters, Periods
from models.training.replay import RANKING
from models.training.train import fit

PAST_SEED = 1_000
"""What the seed of a kept history has more than that of its months: other people."""


class Embedded:
    """The trees as the evaluator's scorer."""

    def __init__(self, trees: Trees) -> None:
        self.trees = trees
        self._lowest = min(trees.thresholds.values())

    def score(self, vectors: Sequence[Vector], until: float | None = None, payers: Sequence[str] = ()) -> Scoring:
        """Score vectors, with contributions from the lowest threshold on."""
        del until, payers
        scores = [self.trees.score(vector) for vector in vectors]
        told = [
            self.trees.explain(vector) if score >= self._lowest else ()
            for vector, score in zip(vectors, scores, strict=True)
        ]
        return Scoring(self.trees.version, self.trees.thresholds, scores, told)


class Memory:
    """The rows of one life in order of time, and the labels of its payments."""

    def __init__(self, policy: str) -> None:
        self.labels: dict[str, LabelHistory] = {}
        self.place: dict[str, int] = {}
        self.stopped: set[str] = set()
        self._policy = policy
        self._vectors, self._counters, self._numbers = array("f"), array("d"), array("q")
        self._texts: list[tuple[str, str]] = []

    def __len__(self) -> int:
        return len(self._texts)

    def add(
        self, transaction: Transaction, values: Mapping[str, float], vector: bytes, policy_result: PolicyResult
    ) -> None:
        """Keep the row of a payment. vector: as `features.pack` returns it."""
        self.place[transaction.transaction_id] = len(self._texts)
        self._vectors.frombytes(vector)
        self._counters.extend([values[name] for name in COUNTERS])
        severity = worst([hit.outcome for hit in policy_result.hits]).severity()
        payer, payee = account_number(transaction.payer_id), account_number(transaction.counterparty)
        self._numbers.extend(
            (payer, payee, transaction.epoch, transaction.amount, int(policy_result.segment.model), severity)
        )
        self._texts.append((transaction.transaction_id, policy_result.segment.id))

    def counters(self, transaction_id: str) -> dict[str, float | None]:
        """Return the counters with which a payment was decided."""
        start = self.place[transaction_id] * len(COUNTERS)
        values = self._counters[start : start + len(COUNTERS)]
        return {name: None if value != value else value for name, value in zip(COUNTERS, values, strict=True)}  # noqa: PLR0124

    def label(  # noqa: PLR0913, PLR0917 - what a label says
        self,
        counters: InMemoryCounters,
        transaction: Transaction,
        value: LabelValue,
        source: str,
        reported_at: datetime,
        now: datetime,
    ) -> None:
        """Accept a label as POST /labels does: the counters learn what changes by it."""
        name = transaction.transaction_id
        history = self.labels.get(name) or LabelHistory(Parties.of(transaction))
        label = Label(value, max(reported_at, transaction.occurred_at), source, now, source)
        self.labels[name], moves = history.accept(label, RANKING)
        for move in moves:
            counters.learn(*move)

    def dataset(self) -> Dataset:
        """Return all rows but those that moved no money and have no label."""
        payer, payee, occurred_at, amount, asked, severity = np.array(self._numbers, np.int64).reshape(-1, 6).T.copy()
        known = [
            known_as_fraud(self.labels[name].labels) if name in self.labels else _UNKNOWN for name, _ in self._texts
        ]
        names, segments, tactics = (_texts(each) for each in (*zip(*self._texts, strict=True), [""] * len(self._texts)))
        rows = Dataset(
            features=np.array(self._vectors, np.float32).reshape(-1, len(features.NAMES)),
            transaction_id=names,
            payer=payer,
            payee=payee,
            occurred_at=occurred_at,
            known_from=np.array([since for since, _ in known], np.int64),
            known_until=np.array([until for _, until in known], np.int64),
            amount=amount,
            tactic=tactics,
            segment=segments,
            asked=asked.astype(np.bool_),
            rules=severity.astype(np.int8),
            currency=MARKET.currency,
            policy=self._policy,
        )
        kept = [name in self.labels or name not in self.stopped for name, _ in self._texts]
        return rows.take(np.array(kept, np.bool_))


_UNKNOWN = known_as_fraud(())


def _texts(values: Sequence[str]) -> Any:  # noqa: ANN401 - numpy does not type arrays of texts
    return np.array(values, np.dtypes.StringDType())


def kept_history(seed: int, parameters: Parameters) -> Dataset:
    """Return the app's history before the experiment: other people, with all the frauds that an app keeps."""
    start = parameters.begins - timedelta(days=parameters.past_days)
    payments = simulate(
        seed + PAST_SEED, start, parameters.past_days, parameters.past_payers, MARKET, crime=parameters.past_crime
    )
    return Dataset.build(payments)


def train(history: Dataset, own: Dataset, now: datetime, seed: int) -> Trees | None:
    """Train a model on the history and the life's own rows, with what is known by now; None if that cannot be done."""
    columns: dict[str, Any] = {name: np.concatenate([getattr(history, name), getattr(own, name)]) for name in COLUMNS}
    both = replace(history, **columns)
    rows = both.take(np.argsort(both.occurred_at, kind="stable"))
    parameters, cutoff = Hyperparameters(seed=seed), int(now.timestamp())
    start, fitted = int(rows.occurred_at.min()) // DAY * DAY, cutoff - parameters.delay_days * DAY
    periods = Periods(start, fitted, cutoff, cutoff)
    try:
        return fit(rows.between(start, fitted), periods, parameters, Budget(), {"months": seed}).loaded()
    except ValueError:  # a fold is empty, or no fraud is known: the old model stays
        return None
