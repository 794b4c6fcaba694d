"""The queries that count a day's histograms in the archive, by the bins of a baseline. Pure, in the SQL of `kpis`.

A column counts the values below an edge, so a query has one comparison for each edge, and differences give the bins.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from itertools import pairwise
from typing import NamedTuple

from fraud.scoring import features
from fraud.scoring.drift import LABEL_DELAY, LABEL_VOLUME, SCORE, Baseline, Counts, Measure

HOUR = 3_600_000_000
"""Microseconds."""

MOST_OTHERS = 0.01
"""Share of scores by other models from which on a day's scores are not compared: they tell of the models."""

PAYMENTS, OTHERS, LABELS = "payments", "others", "labels"

Row = Mapping[str, int]
"""The numbers of a day by column; empty for a day that the query has no row of."""


class Days(NamedTuple):
    """The first and the last day that are counted."""

    first: date
    last: date


def of_payments(baseline: Baseline, days: Days) -> str:
    """Return the query of features and scores: a row for each day with payments. Copies of a row count once."""
    by_others = _sum(f"model_version <> '{baseline.model}'")
    columns = [f"count(*) AS {PAYMENTS}", f"{by_others} AS {OTHERS}"]
    for name, measure in _of_payments(baseline):
        value = SCORE if name == SCORE else f"features[{features.NAMES.index(name) + 1}]"
        columns += _columns(name, value, measure)
    return (
        "WITH decided AS (\n"
        "  SELECT day, score, features, model_version,\n"
        "    row_number() OVER (PARTITION BY transaction ORDER BY decided_at, event_id) AS place\n"
        "  FROM decisions\n"
        f"  WHERE day BETWEEN '{days.first}' AND '{days.last}' AND fingerprint = '{baseline.fingerprint}'\n"
        f")\n{_summed('decided', columns)}"
    )


def of_labels(baseline: Baseline, days: Days) -> str:
    """Return the query of labels: a row for each day on which payments became known as fraud."""
    columns = [f"count(*) AS {LABELS}"]
    if (measure := baseline.measures.get(LABEL_DELAY)) is not None:
        columns += _columns(LABEL_DELAY, f"CAST(known_at - occurred_at AS double) / {HOUR}", measure)
    return (
        "WITH known AS (\n"
        "  SELECT day, occurred_at, known_at, row_number() OVER (PARTITION BY transaction ORDER BY number) AS place\n"
        "  FROM labels\n"
        f"  WHERE day BETWEEN '{days.first}' AND '{days.last}' AND counts\n"
        f")\n{_summed('known', columns)}"
    )


def counted(baseline: Baseline, payments: Row, labels: Row) -> dict[str, Counts]:
    """Return the histograms of a day, of the numbers that the queries have counted."""
    found: dict[str, Counts] = {
        name: _counts(name, measure, payments, payments.get(PAYMENTS, 0)) for name, measure in _of_payments(baseline)
    }
    if payments.get(OTHERS, 0) > MOST_OTHERS * payments.get(PAYMENTS, 0):
        found.pop(SCORE, None)
    if (measure := baseline.measures.get(LABEL_DELAY)) is not None:
        found[LABEL_DELAY] = _counts(LABEL_DELAY, measure, labels, labels.get(LABELS, 0))
    found[LABEL_VOLUME] = [payments.get(PAYMENTS, 0), labels.get(LABELS, 0), 0]
    return found


def _of_payments(baseline: Baseline) -> Iterator[tuple[str, Measure]]:
    return ((name, one) for name, one in baseline.measures.items() if name not in {LABEL_DELAY, LABEL_VOLUME})


def _columns(name: str, value: str, measure: Measure) -> Iterator[str]:
    """Yield the columns of a measure: the missing values, and the values below each edge."""
    conditions = {"missing": f"{value} IS NULL"}
    conditions |= {str(place): f"{value} < {edge:.16E}" for place, edge in enumerate(measure.edges)}
    yield from (f"{_sum(condition)} AS {name}_{part}" for part, condition in conditions.items())


def _summed(rows: str, columns: Iterable[str]) -> str:
    listed = ",\n  ".join(["day", *columns])
    return f"SELECT {listed}\nFROM {rows}\nWHERE place = 1\nGROUP BY day\nORDER BY day\n"


def _sum(condition: str) -> str:
    return f"sum(CASE WHEN {condition} THEN 1 ELSE 0 END)"


def _counts(name: str, measure: Measure, row: Row, total: int) -> list[int]:
    """Return the counts by bin of the numbers below each edge.

    >>> one = Measure(edges=(0.5, 1.5), counts=(5, 5, 5, 5), daily=20, limit=1)
    >>> _counts("x", one, {"x_missing": 2, "x_0": 3, "x_1": 7}, 10)
    [3, 4, 1, 2]
    """
    missing = row.get(f"{name}_missing", 0)
    below = [0, *(row.get(f"{name}_{place}", 0) for place in range(len(measure.edges))), total - missing]
    return [*(upper - lower for lower, upper in pairwise(below)), missing]
