"""Measure the speed of a replay: in-memory counters, windows and features over 45 simulated days, on one CPU.

Training and backtests depend on it. Simulation and parsing are not timed. --profile prints where the time goes.
"""

import argparse
import cProfile
import pstats
from collections.abc import Sequence
from datetime import UTC, datetime
from time import process_time

from benchmarks import table
from fraud.counters.in_memory import InMemoryCounters
from fraud.counters.windows import measure
from fraud.scoring import features
from fraud.transaction import Transaction
from models.simulation.simulate import simulate

START = datetime(2026, 3, 1, tzinfo=UTC)
DAYS, PAYERS, SEED = 45, 120, 4
TOP = 12
TARGET = 5_000


def history() -> list[Transaction]:
    """Return the simulated payments, parsed, in event order."""
    return [Transaction.model_validate(one.transaction) for one in simulate(SEED, START, DAYS, PAYERS)]


def replay(payments: Sequence[Transaction]) -> float:
    """Count the payments, measure their counters and compute their features. Return the CPU seconds."""
    counters = InMemoryCounters()
    start = process_time()
    for payment in payments:
        features.vector(payment, measure(payment, counters.count(payment)))
    return process_time() - start


def rows() -> list[table.Row]:
    """Return the number of payments, and the payments per CPU second with their target."""
    payments = history()
    rate = len(payments) / replay(payments)
    name = f"{DAYS} days of {PAYERS} payers"
    return [
        {"name": name, "payments": len(payments)},
        table.target("payments per CPU second", rate, at_least=TARGET),
    ]


def profile() -> None:
    """Print the functions in which a replay spends its time."""
    payments = history()
    profiler = cProfile.Profile()
    profiler.runcall(replay, payments)
    pstats.Stats(profiler).sort_stats("tottime").print_stats(TOP)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, add_help=False)
    parser.add_argument("--profile", action="store_true", help="print where the time goes instead")
    options, others = parser.parse_known_args()
    profile() if options.profile else table.run(rows, __doc__, others)
