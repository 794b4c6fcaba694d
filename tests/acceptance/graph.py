"""Lift of shapes: its intervals on simulated worlds, on AMLSim's worlds, and on the simulator's networks.

`python -m tests.acceptance.graph [--amlsim DIR] [--worlds 200] [--groups 32000]`. DIR has
amlsim_20K_transactions.parquet and amlsim_20K_<world>_accounts.parquet. Exits with 1 when a bound is missed. Beside
AMLSim's lift of a burst stands the lift against those alone who were paid in the same two days: it is smaller, because
to be paid at all says something already. The lift that is asked for is the mean of four times of snapshots.
"""

import argparse
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np

from models.datasets import amlsim, history, networks
from models.graph import lift, views
from models.graph.lift import Units
from models.simulation.networks import PATTERNS, simulate_networks
from models.simulation.simulate import DEFAULT_START

INTRA = 0.5
"""Correlation of two accounts of one component."""

COVERS = (0.92, 0.995)
AMLSIM = ("fanin200", "cycle200", "fanin200cycle200")
BURST, MERPAY = 8.0, 10.0
VIEW = views.VIEWS["burst_2d"]
PHASES = [timedelta(days=VIEW.days or 0) / 4 * number for number in range(4)]
"""What is added to the time of AMLSim's snapshots: a lift should not hang on the hour of the day."""


class Cover(NamedTuple):
    """How often intervals hold the true lift, and half their width beside that of one who knows all variances."""

    share: float
    half: float
    oracle: float


def world(rng: np.random.Generator, components: int, rate: float, others: int, base: float) -> tuple[Units, float]:
    """Return a world of one shape among others, and its true lift."""
    sizes = rng.integers(3, 12, components + others)
    rates = np.repeat([rate, base], [components, others])
    total = 1 / INTRA - 1
    of_component = rng.beta(rates * total, (1 - rates) * total)
    kind = np.repeat([0, 1], [components, others])
    share = sizes[:components].sum() / sizes.sum()
    return Units(kind, sizes, rng.binomial(sizes, of_component)), rate / (share * rate + (1 - share) * base)


def covered(worlds: int, components: int, rate: float, others: int = 2_000, base: float = 0.02) -> Cover:
    """Return how the printed intervals do on worlds whose lift is known."""
    rng = np.random.default_rng(1)
    inside, halves, errors = 0, [], []
    for _ in range(worlds):
        units, true = world(rng, components, rate, others, base)
        chosen = units.kind == 0
        low, high = lift.interval(units, chosen, 0.05)
        inside += low <= true <= high
        halves.append((high - low) / 2)
        estimate = units.frauds[chosen].sum() / units.accounts[chosen].sum()
        errors.append(estimate / (units.frauds.sum() / units.accounts.sum()) - true)
    return Cover(inside / worlds, float(np.mean(halves)), 1.96 * float(np.std(errors)))


def of_bursts(tables: views.HistoryTables, view: views.View, as_of: datetime) -> lift.Lift:
    """Return the lift of a burst's payees."""
    rules = lift.policy()
    rows = lift.lifts(lift.units(tables, view, as_of, rules)[0], rules, directed=True)
    return next(row for row in rows if row.shape == "star")


def on_amlsim(place: Path, name: str, directory: Path) -> bool:
    """Print what AMLSim's world shows. Return whether the giant warns, and only the lift of a burst is found."""
    transactions, accounts = place / "amlsim_20K_transactions.parquet", place / f"amlsim_20K_{name}_accounts.parquet"
    history.write(directory, history.of(amlsim.read(transactions, accounts)))
    rules = lift.policy()
    with views.HistoryTables(directory) as tables:
        as_of = tables.span()[1] + timedelta(days=8)
        giant = views.snapshot(tables, views.VIEWS["market_30d"], as_of - timedelta(days=8))
        static = lift.lifts(lift.units(tables, views.VIEWS["market_30d"], as_of, rules)[0], rules, directed=False)
        bursts = [of_bursts(tables, VIEW, as_of + phase) for phase in PHASES]
        of_window = of_bursts(tables, VIEW._replace(base=None), as_of)
    claimed = [row.shape for row in static if rules.grade(row.bound)]
    print(
        f"{name}: {giant.giant_share:.0%} of accounts are one component; static shapes with a mark: {claimed or 'none'}"
    )
    burst, mean = bursts[0], float(np.mean([each.lift for each in bursts]))
    met = burst.low is not None and mean >= BURST
    print(
        f"  burst: lift {burst.lift:.1f} ({burst.low:.1f} to {burst.high:.1f}) of {burst.components} payees; with"
        f" snapshots at other hours {', '.join(f'{each.lift:.1f}' for each in bursts[1:])}, in the mean {mean:.1f};"
        f" asked: {BURST:.0f}, {'met' if met else 'missed'}"
    )
    print(f"  against payees of the same days: {of_window.lift:.1f} ({of_window.low:.1f} to {of_window.high:.1f})")
    return bool(views.warnings(giant)) and not claimed and met


def on_networks(groups: int, directory: Path, seed: int = 1) -> bool:
    """Print the shapes of the simulator's invitations. Return whether a rare shape's bound reaches MERPAY."""
    print("declared:", ", ".join(f"{each.name} {each.ring:.1%}" for each in PATTERNS))
    networks.write(directory, simulate_networks(seed, DEFAULT_START, 120, groups))
    rules, as_of = lift.policy(), datetime(2026, 6, 20, tzinfo=UTC)
    with views.HistoryTables(directory) as tables:
        found, _ = lift.units(tables, views.VIEWS["invite"], as_of, rules)
    rows = [row for row in lift.lifts(found, rules, directed=True) if row.bound is not None]
    for row in rows:
        print(
            f"  {row.shape}, {row.typology or 'any'}: {row.components / len(found.kind):.1%} of components,"
            f" rate {row.rate:.1%}, lift {row.lift:.1f} ({row.low:.1f} to {row.high:.1f}), bound {row.bound:.1f}"
        )
    best, scary = rows[0], max(row.lift for row in rows if (row.shape, row.typology) == ("star", None))
    print(f"Merpay's finding: {best.shape}, bound {best.bound:.1f}; the influencers' star: lift {scary:.1f}")
    return (best.bound or 0) >= MERPAY and best.components / len(found.kind) <= 0.05


def main() -> int:
    """Print all figures. Return 1 when a bound is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--amlsim", type=Path)
    parser.add_argument("--worlds", type=int, default=200)
    parser.add_argument("--groups", type=int, default=32_000)
    options = parser.parse_args()
    fine = True
    for components, rate in ((30, 0.3), (100, 0.3), (300, 0.1), (100, 0.02)):
        cover = covered(options.worlds, components, rate)
        good = COVERS[0] <= cover.share <= COVERS[1]
        fine &= good
        print(
            f"{components} components at {rate:.0%}: {cover.share:.1%} of {options.worlds} intervals hold the lift,"
            f" half width {cover.half:.2f}, oracle's {cover.oracle:.2f}: {'met' if good else 'missed'}"
        )
    with TemporaryDirectory() as place:
        fine &= on_networks(options.groups, Path(place) / "networks")
        for name in AMLSIM if options.amlsim else ():
            fine &= on_amlsim(options.amlsim, name, Path(place) / name)
    return int(not fine)


if __name__ == "__main__":
    sys.exit(main())
