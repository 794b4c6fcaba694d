"""Drift end to end: quiet days start no retraining, and a tactic that replaces another starts one within a day.

Two worlds are equal until one day. Then all takeovers of one of them end in parts on the thief's own cards. A model is
trained on the days before. Each later day is put into an archive and counted by the function's own queries; what the
function logs moves the template's alarms, and the template's rule picks the events that start the state machine. Then a
model is trained again with the new tactic in its dataset. `python -m tests.acceptance.drift [--payers N]`.
"""

import argparse
import contextlib
import io
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fraud.archive import schema
from fraud.counters.layout import DAY
from fraud.reporting.drift_watch import DriftWatch
from fraud.reporting.metrics import log_drift
from fraud.reporting.worker import Place, Reporting
from fraud.scoring import features
from fraud.scoring.drift import Baseline, Measure, psi
from local.account.emulator import TEMPLATE
from local.account.stack import expand
from local.triggers.alarms import Watch, alarms
from local.triggers.patterns import matches
from models.simulation.simulate import CASH_OUT_SWEEP, DEFAULT_START, replaced, simulate
from models.training import fitting
from models.training.baseline import BASELINE_DAYS, FALSE_ALARMS, QUIET_DAYS, limit
from models.training.columns import Dataset
from models.training.costs import Budget, Scored
from models.training.figures import report
from models.training.fitting import Hyperparameters
from models.training.train import Model, train
from tests.support.drifted import Athena, decision_rows, label_rows

KNOWN, QUIET, LATER = 63, 30, 33
"""Days of the model's dataset, quiet days after it, and days of the world with the new tactic after it."""

CHANGE = KNOWN + 2
"""The first day of the new tactic."""

PAYERS, CRIME = 1_200, 4.0

WORLDS, MEASURES = 200, len(features.NAMES) + 3
"""Drawn worlds of quiet days, and measures of each."""

RULE = "DriftStartsRetraining"

Floats = NDArray[np.float64]


class Seen(NamedTuple):
    """A day as the schedule saw it: what drifted, with the distance in parts of its limit; and the executions."""

    day: str
    drifted: dict[str, float]
    farthest: tuple[str, float]
    starts: int


class Caught(NamedTuple):
    """What a model catches of the new tactic, and its friction."""

    model: str
    recall: float
    recall_by_value: float
    friction: float


class Result(NamedTuple):
    """The result of a run.

    worlds    drawn worlds of 30 quiet days each, all measures
    alarmed   of these with any alarm

    payments  a day
    frauds    share of the payments that are of the new tactic, from its first day on
    quiet     days without change
    changed   days of the other world
    caught    by the model before and after training with the new tactic, in the last days of that world
    """

    worlds: int
    alarmed: int
    payments: int
    frauds: float
    quiet: list[Seen]
    changed: list[Seen]
    caught: list[Caught]

    @property
    def failures(self) -> list[str]:
        """The expectations that do not hold."""
        failed = [f"started on quiet {each.day}" for each in self.quiet if each.starts]
        if self.alarmed > FALSE_ALARMS * self.worlds:
            failed.append("more false alarms than the bound")
        before = self.changed[: CHANGE - KNOWN]
        failed += [f"started before the change, {each.day}" for each in before if each.starts]
        if self.changed[CHANGE - KNOWN].starts != 1:
            failed.append("the day of the change started no execution")
        if len(self.caught) > 1 and not self.caught[1].recall_by_value > self.caught[0].recall_by_value:
            failed.append("the new model catches no more")
        return failed

    def table(self) -> str:
        """Return the result as lines of text."""
        worst = max(self.quiet, key=lambda each: each.farthest[1])
        first, *others = self.changed[CHANGE - KNOWN :]
        drifted = ", ".join(f"{name} at {ratio:g} of its limit" for name, ratio in first.drifted.items()) or "nothing"
        later = " ".join(str(len(each.drifted)) for each in others)
        return "\n".join(
            (
                f"drawn quiet days         {self.alarmed} of {self.worlds} worlds alarm; bound {FALSE_ALARMS:.0%}",
                f"payments a day           {self.payments:,}; {self.frauds:.2%} of them of the new tactic",
                f"quiet days               {sum(each.starts for each in self.quiet)} starts in {len(self.quiet)} days",
                f"farthest of them         {worst.farthest[0]}, {worst.farthest[1]:.2f} of its limit",
                f"new tactic, first day    {first.starts} start: {drifted}",
                f"measures, days after it  {later}",
                *(
                    f"{each.model:24} recall of the new tactic {each.recall:.1%}, by value {each.recall_by_value:.1%};"
                    f" friction {each.friction:.2%}"
                    for each in self.caught
                ),
            )
        )


def run(payers: int = PAYERS, seed: int = 1, *, quiet: int = QUIET, later: int = LATER, worlds: int = WORLDS) -> Result:
    """Live both worlds, and watch their days."""
    change = (DEFAULT_START + timedelta(days=CHANGE)).date()
    told = replaced("account_takeover", CASH_OUT_SWEEP, change)
    one, other = (
        Dataset.build(simulate(seed, DEFAULT_START, KNOWN + days, payers, crime=CRIME, **more))
        for days, more in ((quiet, {}), (later, {"told": told}))
    )
    start = int(DEFAULT_START.timestamp())
    model, _ = train(one.between(start, start + KNOWN * DAY), Hyperparameters(), {})
    assert model.baseline is not None
    watch = partial(seen, baseline=Baseline.load(model.baseline), scored=partial(scores, model))
    tactic = other.between(start + CHANGE * DAY, start + (KNOWN + later) * DAY).tactic == CASH_OUT_SWEEP.name
    return Result(
        worlds=worlds,
        alarmed=alarmed(worlds),
        payments=len(one) // (KNOWN + quiet),
        frauds=float(tactic.mean()),
        quiet=list(watch(one, first=KNOWN, end=KNOWN + quiet)),
        changed=list(watch(other, first=KNOWN, end=min(KNOWN + later, CHANGE + 7))),
        caught=list(caught(other, model)) if later >= LATER else [],
    )


def alarmed(worlds: int, seed: int = 17) -> int:
    """Return how many drawn worlds have any alarm on their quiet days.

    A day's payments are draws, whose shares differ from day to day, and bursts, so that no day is like another.
    """
    rng = np.random.default_rng(seed)
    return sum(any(_has_alarm(rng) for _ in range(MEASURES)) for _ in range(worlds))


def _has_alarm(rng: np.random.Generator) -> bool:
    days = [drawn_day(rng) for _ in range(BASELINE_DAYS + QUIET)]
    known, whole = days[:BASELINE_DAYS], np.sum(days[:BASELINE_DAYS], axis=0)
    chance = FALSE_ALARMS / QUIET_DAYS / MEASURES
    one = Measure(edges=(1, 2, 3, 4), counts=tuple(whole.tolist()), daily=1_000, limit=limit(known, chance))
    return any(psi(day, one.counts) > one.psi_limit(sum(day)) for day in days[BASELINE_DAYS:])


def drawn_day(rng: np.random.Generator, daily: int = 1_000) -> list[int]:
    """Return the counts of a day by bin: single payments, and three bursts."""
    shares = np.array([0.5, 0.3, 0.15, 0.045, 0.005]) * rng.lognormal(0, 0.15, 5)
    counts = rng.multinomial(daily, shares / shares.sum())
    for place, length in zip(rng.integers(0, 5, 3), rng.geometric(0.1, 3), strict=True):
        counts[place] += length
    return [*counts.tolist(), 0]


def seen(
    world: Dataset, baseline: Baseline, scored: Callable[[Dataset], Floats], first: int, end: int
) -> Iterator[Seen]:
    """Watch days of a world, one after another, as the schedule does.

    scored  returns the scores of payments
    """
    athena = Athena()
    watching = DriftWatch(Reporting(Place("w", "d", "b"), {}, lambda: athena, lambda: athena), lambda: baseline)
    expanded = expand(TEMPLATE, {})
    watch = Watch([each for each in alarms(expanded) if each.metrics == {"DriftRatio"}])
    pattern = _resolved(expanded["Resources"][RULE]["Properties"]["EventPattern"])
    begin = int(DEFAULT_START.timestamp())
    for number in range(first, end):
        opening = begin + number * DAY
        rows, day = world.between(opening, opening + DAY), datetime.fromtimestamp(opening, UTC).date()
        athena.add(schema.DECISIONS, decision_rows(rows, scored(rows), baseline.model))
        athena.add(schema.LABELS, label_rows(world, opening, opening + DAY))
        log = _logged(watching, day)
        events = watch.period(log, datetime.fromtimestamp(opening + DAY, UTC))
        lines = [json.loads(line) for line in log if "DriftRatio" in line]
        farthest = max(lines, key=lambda line: line["DriftRatio"])
        yield Seen(
            str(day),
            {name: ratio for line in lines for name, ratio in line["drifted"].items()},
            (farthest["farthest"], farthest["DriftRatio"]),
            sum(matches(pattern, event) for event in events),
        )


def _logged(watching: DriftWatch, day: date) -> list[str]:
    """Return what the function logs of a day."""
    drifts = watching.of(day)
    watching.write(day, drifts)
    with contextlib.redirect_stdout(io.StringIO()) as log:
        log_drift(drifts, day)
    return log.getvalue().splitlines()


def _resolved(node: Any) -> Any:
    """Return a pattern with the name of each alarm, which is its logical id in the box."""
    match node:
        case {"Ref": name}:
            return name
        case dict():
            return {name: _resolved(value) for name, value in node.items()}
        case list():
            return [_resolved(value) for value in node]
    return node


def scores(model: Model, rows: Dataset) -> Floats:
    """Return the probabilities of fraud of payments."""
    found: Floats = 0.5 + 0.5 * np.tanh(fitting.margins(model.booster, rows.features) / 2)
    return found


def caught(world: Dataset, before: Model) -> Iterator[Caught]:
    """Train again on all days, and compare both models on the last days, which neither was fitted to."""
    after, _ = train(world, Hyperparameters(), {})
    end = (int(world.occurred_at.max()) // DAY + 1) * DAY
    test = world.between(end - Hyperparameters().test_days * DAY, end)
    for name, model in (("before", before), ("after", after)):
        measured = report(Scored.of(test, scores(model, test)), model.loaded().thresholds, Budget())
        (row,) = (
            each for each in measured.catches if (each.outcome, each.tactic) == ("challenge", CASH_OUT_SWEEP.name)
        )
        yield Caught(name, row.recall, row.recall_by_value, measured.friction)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the result. Return 1 if an expectation does not hold, else 0."""
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance.drift", description=__doc__)
    parser.add_argument("--payers", type=int, default=PAYERS)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args(arguments)
    result = run(asked.payers, asked.seed)
    print(result.table())
    print(*result.failures, sep="\n", end="\n" if result.failures else "")
    return bool(result.failures)


if __name__ == "__main__":
    sys.exit(main())
