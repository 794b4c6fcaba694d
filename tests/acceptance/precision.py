"""Intervals of precision and recall beside populations whose truth is known: `python -m tests.acceptance.precision`.

Days: each has some hundred declined payments, of which an unknown part are frauds, and a quarter is drawn and reviewed.
The interval of each day's precision is compared with the truth of that day, and its width with that of Clopper and
Pearson for the same reviews.

Months: frauds and honest payments lie in four strata, the declined ones and three of scores, at base rates of one in a
thousand, in ten thousand and in a million. Some are drawn by each stratum's share, one in twenty of these is never
judged, and the interval of the month's recall is compared with its truth. Printed, too, is how many approved payments
must be reviewed for a recall within ten points, and what is said of fewer.

Payments are drawn by the product's own function (`fraud.decisions.sampling`) from their ids: of the days all, of the
months all frauds, and in the first months every payment. How many honest ones of the other months are drawn follows
the binomial distribution of the same share: a hundred million ids a month would take hours.

Exits 1 unless the intervals of precision cover in 92 to 99 % of the days and are at most 1.1 times as wide as Clopper
and Pearson's, and those of recall cover in at least 94 % of the months of each base rate.
"""

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from fraud.counters.keys import DECLARED
from fraud.decisions.sampling import Sampling, Stratum
from fraud.reporting.intervals import clopper_pearson
from fraud.reporting.precision import TOLERANCE, Estimate, Plan, Reviews, precision, recall, reviews_needed

DAYS, MONTHS, EXACT_MONTHS = 200, 200, 3
LEAST_DAYS, MOST_DAYS, LEAST_MONTHS, MOST_WIDTH = 0.92, 0.99, 0.94, 1.1
UNJUDGED = 0.05
DAY = Sampling.parse("approve=0,decline=0.25")

Random = np.random.Generator


class World(NamedTuple):
    """Months of one base rate: its strata, and of each the payments and frauds that a month has on average."""

    name: str
    sampling: Sampling
    payments: Sequence[int]
    frauds: Sequence[int]


def _world(name: str, shares: str, payments: Sequence[int], frauds: Sequence[int]) -> World:
    return World(name, Sampling.parse(shares), payments, frauds)


WORLDS = (
    _world(
        "1 in 1,000",
        "approve=0.04,approve:0.005=0.32,approve:0.05=1,decline=0.5",
        (899_000, 90_000, 10_000, 1_000),
        (20, 60, 170, 750),
    ),
    _world(
        "1 in 10,000",
        "approve=0.03,approve:0.005=0.24,approve:0.05=1,decline=0.5",
        (9_590_000, 400_000, 9_000, 1_000),
        (20, 60, 170, 750),
    ),
    _world(
        "1 in 1,000,000",
        "approve=0.0001,approve:0.005=0.01,approve:0.05=1,decline=1",
        (99_490_000, 500_000, 10_000, 150),
        (2, 5, 18, 75),
    ),
)
"""Strata in the order of the sampling: approved by rising scores, then declined."""


class Judged(NamedTuple):
    """A day or a month: its estimate beside the truth. `beside`: the interval of Clopper and Pearson, for a day."""

    estimate: Estimate
    truth: float
    widths: float | None = None

    @property
    def is_covered(self) -> bool:
        """Whether the interval has the truth."""
        return self.estimate.interval is not None and self.estimate.interval.covers(self.truth)


def drawn(stratum: Stratum, prefix: str, number: int) -> int:
    """Return how many of so many payments the product draws."""
    return sum(stratum.draws(DECLARED, f"{prefix}-{n}") for n in range(number))


def reviewed(rng: Random, stratum: Stratum, prefix: str, numbers: tuple[int, int], *, exact: bool) -> Reviews:
    """Draw payments of a stratum, and judge them but for a few. `numbers`: of its payments, and of the frauds."""
    payments, frauds = numbers
    caught = drawn(stratum, f"{prefix}-fraud", frauds)
    honest = payments - frauds
    innocent = drawn(stratum, f"{prefix}-honest", honest) if exact else int(rng.binomial(honest, stratum.share))
    judged = [int(rng.binomial(each, 1 - UNJUDGED)) for each in (caught, innocent)]
    return Reviews(stratum.name, payments, caught + innocent, *judged)


def day(seed: int) -> Judged:
    """Return a day's precision."""
    rng = np.random.default_rng((7, seed))
    declined = int(rng.poisson(400)) + 1
    frauds = int(rng.binomial(declined, rng.uniform(0.3, 0.95)))
    found = reviewed(rng, DAY.strata[-1], f"day-{seed}", (declined, frauds), exact=True)
    estimate = precision([found])
    if estimate.interval is None:
        return Judged(estimate, frauds / declined)
    beside = clopper_pearson(found.frauds, found.reviewed)
    return Judged(estimate, frauds / declined, estimate.interval.half_width / beside.half_width)


def month(world: World, seed: int, *, exact: bool = False) -> Judged:
    """Return a month's recall."""
    rng = np.random.default_rng((11, seed))
    found: dict[str, Reviews] = {}
    frauds = [int(rng.poisson(mean)) for mean in world.frauds]
    for stratum, payments, some in zip(world.sampling.strata, world.payments, frauds, strict=True):
        prefix = f"{world.name}-{seed}-{stratum.name}"
        found[stratum.name] = reviewed(rng, stratum, prefix, (payments, some), exact=exact)
    *approved, declined = found.values()
    return Judged(recall([declined], approved), frauds[-1] / sum(frauds) if sum(frauds) else 0.0)


def needed(world: World) -> tuple[int | None, Mapping[float, str]]:
    """Return how many approved payments must be reviewed, and what is said of parts of them, if all is as expected."""
    *plans, declined = (
        Plan(payments, frauds / payments, stratum.share)
        for stratum, payments, frauds in zip(world.sampling.strata, world.payments, world.frauds, strict=True)
    )
    caught = declined.stratum(1.0)
    number = reviews_needed([caught], plans)
    if number is None:
        return None, {}

    def said(part: float) -> str:
        low, high = 0.0, 1 / min(each.weight for each in plans)
        while high - low > 1e-6 * high:
            middle = (low + high) / 2
            low, high = (low, middle) if sum(each.drawn(middle) for each in plans) > part * number else (middle, high)
        return recall([caught], [each.stratum(high) for each in plans]).words

    return number, {part: said(part) for part in (0.25, 0.5, 0.9, 1.1, 2.0)}


def share(judged: Sequence[Judged]) -> float:
    """Return the share of intervals that have the truth."""
    return sum(each.is_covered for each in judged) / len(judged)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run days and months, print the figures, and return 0 if they are as they must be."""
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance.precision", description=__doc__)
    parser.add_argument("--days", type=int, default=DAYS)
    parser.add_argument("--months", type=int, default=MONTHS)
    parser.add_argument("--exact-months", type=int, default=EXACT_MONTHS, help="in which every payment is drawn by id")
    options = parser.parse_args(arguments)
    started = time.monotonic()
    days = [day(seed) for seed in range(options.days)]
    widths = [each.widths for each in days if each.widths is not None]
    print(f"precision: {share(days):.1%} of {len(days)} days covered")
    print(f"           {np.mean(widths):.2f} times Clopper and Pearson's width, at most {max(widths):.2f}")
    sound = LEAST_DAYS <= share(days) <= MOST_DAYS and max(widths) <= MOST_WIDTH
    for world in WORLDS:
        exact = options.exact_months if world is WORLDS[0] else 0
        months = [month(world, seed, exact=seed < exact) for seed in range(options.months)]
        told = [each for each in months if each.estimate.value is not None]
        print(f"recall, {world.name}: {share(months):.1%} of {len(months)} months covered,")
        reviews = np.mean([each.estimate.reviewed for each in months])
        halves = [each.estimate.interval.half_width for each in months if each.estimate.interval is not None]
        print(f"    after {reviews:,.0f} reviews; {np.mean(halves):.3f} to both sides on average; determinable in")
        print(f"    {len(told)} months, of which {share(told):.1%} are covered" if told else "    no month")
        sound &= share(months) >= LEAST_MONTHS
        number, parts = needed(world)
        print(f"    for +-{TOLERANCE:.0%} {number:,} approved payments must be reviewed" if number else "    no plan")
        for part, words in parts.items():
            print(f"        {part:4.0%} of them: {words}")
    print(f"{time.monotonic() - started:.0f} s")
    return int(not sound)


if __name__ == "__main__":
    sys.exit(main())
