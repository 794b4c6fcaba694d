"""What changed: alarms of shapes on drawn counts, and sentences on simulated networks.

`python -m tests.acceptance.graph_changed [--seeds 20] [--null 1000] [--days 30]`. Exits with 1 when a bound is missed.

1. The rarest shape doubled among 5,000 components: alarms in at least 80 of 100 seeds; quiet ones in 1 of 100 at most.
2. Groups that have three attributes at once are planted in one week of a network in which groups with any two of them
   are usual: the conjunction is named, and no other, in at least 16 of 20 seeds.
3. 30 quiet days, one window of a week each: at most one sentence. The same of all views together, from the third week
   of a young app on: at most one sentence or alarm.
"""

import argparse
import itertools
import sys
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from models.datasets import networks
from models.graph import changed, views
from models.simulation.networks import PATTERNS, Pattern, friends, relay, simulate_networks
from models.simulation.simulate import DEFAULT_START

SHARES = {"pair": 0.66, "path": 0.21, "star": 0.08, "tree": 0.02, "forked_chain": 0.02, "near_star": 0.01}
"""Shapes of the components of a quiet week; the last is the rarest."""

WINDOW, BASELINE = 5_000, 20_000
ATTRIBUTES = ("cash_out", "forked_chain", "instrument")
USUAL = (
    Pattern(name="two of three", share=0.8, ring=0, size=(7, 9), grows=relay, shared=2),
    Pattern(name="two of three", share=0.8, ring=0, size=(7, 9), grows=relay, cashes=True),
    Pattern(name="two of three", share=0.8, ring=0, size=(4, 5), grows=friends, shared=1, cashes=True),
)
PLANTED = Pattern(name="planted", share=0, ring=0, size=(7, 9), grows=relay, shared=2, cashes=True)
GROUPS_A_DAY, PLANTED_A_DAY = 60, 5
WEEK = timedelta(days=7)


def alarmed(seeds: int, times: float) -> int:
    """Return in how many seeds there is an alarm when the rarest shape is so many times as frequent."""
    found = 0
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        usual = np.array(list(SHARES.values()))
        now = usual.copy()
        now[-1] *= times
        found += bool(changed.alarms(rng.multinomial(WINDOW, now / now.sum()), rng.multinomial(BASELINE, usual)))
    return found


def sentences(seed: int, place: Path, days: int, *, planted: bool) -> list[list[changed.Sentence]]:
    """Return the sentences of each of the last `days` days of a network."""
    total = 42 + days
    network = simulate_networks(
        seed, DEFAULT_START, total, GROUPS_A_DAY * total, patterns=(*PATTERNS, *USUAL),
        extra=lambda day: [PLANTED] * PLANTED_A_DAY if planted and total - 7 <= day < total - 3 else [],
    )  # fmt: skip
    networks.write(place, network)
    told = []
    with views.HistoryTables(place) as tables:
        for day in range(days):
            end = DEFAULT_START + timedelta(days=total - day)
            window = changed.periods(tables, views.VIEWS["invite"], (end - 6 * WEEK, end - WEEK), (end - WEEK, end))
            told.append(changed.sentences(*window))
    return told


def young(seed: int, place: Path, days: int) -> int:
    """Return how many sentences and alarms all views have on quiet days, from the third week of an app on."""
    networks.write(place, simulate_networks(seed, DEFAULT_START, 14 + days, GROUPS_A_DAY * (14 + days)))
    found = 0
    with views.HistoryTables(place) as tables:
        for number, view in itertools.product(range(days), views.VIEWS.values()):
            end = DEFAULT_START + timedelta(days=15 + number)
            window, baseline = changed.periods(tables, view, (end - 5 * WEEK, end - WEEK), (end - WEEK, end))
            if len(window.accounts) and len(baseline.accounts):
                said = changed.change(window, baseline, changed.ALPHA / len(views.VIEWS))
                found += len(said.alarms) + len(said.sentences)
    return found


def main() -> int:
    """Print the figures. Return 1 when a bound is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--null", type=int, default=1_000)
    parser.add_argument("--days", type=int, default=30)
    options = parser.parse_args()
    doubled, quiet = alarmed(100, 2), alarmed(options.null, 1)
    print(f"the rarest shape doubled: {doubled} of 100 seeds alarm; quiet: {quiet} of {options.null:,}")
    named = 0
    with TemporaryDirectory() as place:
        for seed in range(options.seeds):
            (told,) = sentences(seed, Path(place) / str(seed), 1, planted=True)
            hit = bool(told) and told[0].attributes == ATTRIBUTES
            named += hit
            print(f"seed {seed}: {told[0].words if told else 'nothing'}", flush=True)
        false = sum(map(len, sentences(99, Path(place) / "quiet", options.days, planted=False)))
        early = young(98, Path(place) / "young", options.days)
    print(f"the planted conjunction is named in {named} of {options.seeds} seeds")
    print(f"{false} sentences in {options.days} quiet days; {early} of all views in the first weeks of an app")
    fine = doubled >= 80 and quiet <= options.null / 100 and named >= 0.8 * options.seeds and max(false, early) <= 1
    return int(not fine)


if __name__ == "__main__":
    sys.exit(main())
