"""Real time against a daily batch: what the same model prevents when it scores each payment, and when once a day.

In real time an alert stops its payment. In a batch the payments of a day are scored at midnight UTC: alerts come too
late for their own payments, and the receivers of the alerts are held from then on. An alert is a score that reaches the
lowest threshold, where the model is asked. Rules take no part. Both count from the second day on: before the first one
a batch has had no night. Pure.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fraud.counters.layout import DAY
from models.training.costs import Scored
from models.training.metrics import Flags


@dataclass(frozen=True)
class Prevented:
    """Prevented frauds of one way of scoring: shares are of all frauds, of their value, and of all honest payments."""

    way: str
    frauds: int
    share_of_frauds: float
    value: int
    share_of_value: float
    honest_stopped: float


def immediate(scored: Scored, thresholds: Mapping[str, float], occurred_at: NDArray[np.int64]) -> Prevented:
    """Return what is prevented when each payment is scored as it comes.

    occurred_at  epoch seconds
    """
    return _prevented("real time", scored, _alerts(scored, thresholds), occurred_at)


def daily(
    scored: Scored, thresholds: Mapping[str, float], occurred_at: NDArray[np.int64], payee: NDArray[np.int64]
) -> Prevented:
    """Return what is prevented when the payments of a day are scored at its end.

    occurred_at  epoch seconds
    payee        a number for each receiver
    """
    alert = _alerts(scored, thresholds)
    held: set[int] = set()
    stopped = np.zeros(len(scored), np.bool_)
    for day in np.unique(occurred_at // DAY).tolist():
        today = np.flatnonzero(occurred_at // DAY == day)
        stopped[today] = [receiver in held for receiver in payee[today].tolist()]
        held.update(payee[today][alert[today]].tolist())
    return _prevented("once a day", scored, stopped, occurred_at)


def _alerts(scored: Scored, thresholds: Mapping[str, float]) -> Flags:
    alerts: Flags = scored.asked & (scored.score >= min(thresholds.values()))
    return alerts


def _prevented(way: str, every: Scored, stopped: Flags, occurred_at: NDArray[np.int64]) -> Prevented:
    days = occurred_at // DAY
    later = days > days.min() if len(days) else days.astype(np.bool_)
    scored, stopped = every.take(later), stopped[later]
    caught, honest = scored.fraud & stopped, ~scored.fraud
    lost, value = int(scored.amount[scored.fraud].sum()), int(scored.amount[caught].sum())
    frauds, others = int(scored.fraud.sum()), int(honest.sum())
    return Prevented(
        way=way,
        frauds=int(caught.sum()),
        share_of_frauds=round(int(caught.sum()) / max(frauds, 1), 4),
        value=value,
        share_of_value=round(value / lost, 4) if lost else 0.0,
        honest_stopped=round(int((stopped & honest).sum()) / max(others, 1), 4),
    )
