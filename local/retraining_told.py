"""A retraining told in words: what began it, what the gate says of the model, and how it ends.

A lead asks for it. The archive is that of a small simulated world, which the box's Firehose cannot deliver as Parquet,
and the jobs are the real ones. So little data is no reason to replace the packaged model, and the gate says why.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, time, timedelta
from textwrap import shorten
from typing import Any

from local import simulated_archive
from local.box import Box
from local.case_told import LEAD, Desk
from models.simulation.markets import Market
from models.simulation.simulate import simulate

DAYS, PAYERS, CRIME, MATURITY, SEED = 14, 60, 20, 4, 5
DAY = timedelta(days=1)
PLAN: Mapping[str, Any] = {
    "history_days": DAYS,
    "maturity_days": MATURITY,
    "check": 20,
    "hyperparameters": {"test_days": "4", "delay_days": "2", "most_trees": "20", "friction": "0.05", "reviews": "0.05"},
}
PARAMETERS = {"RetrainingPlan": json.dumps(PLAN)}
"""Parameters of a box in which so little data is enough to train on."""

PATIENCE_S = 300
ENDS: Mapping[str, str] = {
    "champion": "promoted: it decides now",
    "refused": "refused: the model before it goes on deciding",
    "registered": "waits for a lead to approve it",
}


def tell(box: Box, market: Market, now: datetime) -> Iterator[str]:
    """Yield the three lines of a retraining. `now`: the time of the box's clock."""
    midnight = datetime.combine(now.astimezone(UTC).date(), time(), UTC)
    payments = list(simulate(SEED, midnight - (DAYS - 1 + MATURITY) * DAY, DAYS, PAYERS, market, crime=CRIME))
    simulated_archive.put(box.client("s3"), payments, market.currency)
    with box.connect_person(LEAD, "lead") as people:
        desk = Desk(people, now)
        name = desk.post("/models", request_id="demo", reason="a new tactic")["retraining_id"]
        box.settle(PATIENCE_S)
        yield from lines(next(one for one in desk.get("/models")["retrainings"] if one["retraining_id"] == name))


def lines(row: Mapping[str, Any]) -> Iterator[str]:
    """Yield a retraining in three lines, as `GET /models` shows it.

    >>> checks = [{"check": "frauds", "passed": True, "said": ""}, {"check": "drift", "passed": False, "said": "9"}]
    >>> cause = {"by": "mio", "reason": "a new tactic"}
    >>> row = {"opened_at": "2026-03-13T12:00:00Z", "cause": cause, "state": "refused", "failed_step": None}
    >>> for line in lines(row | {"gate": {"checks": checks}}):
    ...     print(line)
    2026-03-13T12:00:00Z  begun by mio: a new tactic
        the gate fails it by drift (9); frauds passed
        refused: the model before it goes on deciding
    """
    yield f"{row['opened_at']}  begun by {row['cause']['by']}: {row['cause']['reason']}"
    yield f"    {_judged(row['gate']['checks'] if row['gate'] else ())}"
    step = f", at the step {row['failed_step']}" if row["failed_step"] else ""
    yield f"    {ENDS.get(row['state'], row['state'])}{step}"


def is_judged(told: Sequence[str]) -> bool:
    """Tell whether the gate has said something of the model of a retraining that was told."""
    return any(line.strip().startswith("the gate") for line in told)


def _judged(checks: Sequence[Mapping[str, Any]]) -> str:
    if not checks:
        return "it did not come to the gate"
    passed = ", ".join(check["check"] for check in checks if check["passed"])
    failed = "; ".join(f"{check['check']} ({shorten(check['said'], 72)})" for check in checks if not check["passed"])
    return f"the gate fails it by {failed}; {passed or 'nothing'} passed" if failed else f"the gate passes it: {passed}"
