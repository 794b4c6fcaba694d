"""Scores of the payments of a history, with outcome and reasons as a decision would have them."""

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from fraud.counters.layout import DAY, State
from fraud.counters.windows import NAMES as COUNTERS
from fraud.outcome import Outcome, by_score
from fraud.rules.conclusion import conclude_history
from fraud.rules.facts import Subject
from fraud.rules.rule_book import RuleBook
from fraud.scoring.trees import Trees
from models.datasets import history
from models.training.columns import Dataset, path_of
from models.training.metrics import Floats


def score_of(trees: Trees, rows: Dataset) -> Floats:
    """Return the probability of fraud of each row, in [0, 1], by the trees as the functions walk them."""
    return np.array([trees.score(tuple(vector)) for vector in rows.features.tolist()])


def write(path: Path, rows: Iterable[Subject], score: Floats, trees: Trees, rule_book: RuleBook) -> None:
    """Write transaction_id, score, outcome and reasons of each payment, also of one that the model is not asked about.

    rows   the payments, in the order of their scores

    The reasons are JSON, as in the response of POST /decisions; an approved payment has none.
    """
    found = []
    for subject, value in zip(rows, score.tolist(), strict=True):
        by_model = by_score(value, trees.thresholds)
        contributions = trees.explain(tuple(subject.vector)) if by_model is not Outcome.APPROVE else ()
        concluded = conclude_history(rule_book, subject, by_model, contributions)
        reasons = [reason.model_dump(mode="json") for reason in concluded.reasons]
        found.append((subject.transaction.transaction_id, value, str(concluded.outcome), json.dumps(reasons)))
    columns = map(list, zip(*found, strict=True))
    table = pa.table(dict(zip(("transaction_id", "score", "outcome", "reasons"), columns, strict=True)))
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(table, path)


def subjects(directory: Path, dataset: Path, test: Dataset) -> Iterator[Subject]:
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
