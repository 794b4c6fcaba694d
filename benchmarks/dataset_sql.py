"""Count histories by SQL in DuckDB and by the replay in the same run, on one CPU, and compare every value.

Histories are simulated in growing size and of each currency, or a HISTORY_DIR of any other world (--history). Each is
measured on time, and with a share of its payments up to 12 hours late. What the rules ask for is left out.
"""

import argparse
import json
import math
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, product
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from benchmarks import table
from fraud.counters.windows import NAMES
from fraud.transaction import MAX_AGE, UNITS
from models.datasets import history
from models.simulation.markets import market_of
from models.simulation.simulate import DEFAULT_START, simulate
from models.training.counted import Block
from models.training.days import Span
from models.training.engines import Counted, DuckDb
from models.training.replay import Replay
from models.training.rows import labelled

SIZES = (10**5, 10**6)
CURRENCIES = ("JPY", "INR")
DAYS = 45
PER_PAYER = 75
"""Payments of a payer in DAYS."""
LATE = 0.02
BESIDE = 20_000
TARGET = 50_000
EVER = 2**33
MEMORY = "4GB"


class Measured(NamedTuple):
    """Figures of one history: payments per CPU second of the process with all its threads, unless said otherwise.

    counted      the SQL program alone
    ready        with reading the history, and the counters and features of all payments
    replay       the replay
    compared     payments that the replay counted, too
    differences  values of their counters and features that differ
    estimated    payments with a counter that online may estimate
    memory       limit of DuckDB's memory
    peak_mib     most memory of the process, before the replay
    """

    payments: int
    counted: float
    ready: float
    replay: float
    compared: int
    differences: int
    estimated: int
    memory: str
    peak_mib: float


def measured(directory: Path, beside: int) -> Measured:
    """Count a history by both, and compare."""
    start = process_time()
    with DuckDb(MEMORY) as engine:
        counted = Counted(engine, directory, 0, EVER)
        in_sql = process_time() - start - engine.seconds["stage"]
        unit = UNITS[next(history.payments(directory)).currency]
        for _ in counted.blocks(unit):
            pass
        ready = process_time() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        compared, differences, replay = compare(directory, counted.blocks(unit), beside)
    return Measured(
        counted.number,
        counted.number / in_sql,
        counted.number / ready,
        compared / replay,
        compared,
        differences,
        counted.estimated,
        MEMORY,
        peak,
    )


def compare(directory: Path, blocks: Iterable[Block], beside: int) -> tuple[int, int, float]:
    """Replay the first payments of a history beside blocks of all.

    Return the number of payments, the number of values that differ, and the CPU seconds of the replay.
    """
    run = Replay()
    known = labelled(directory, history.findings(directory), run, Span(0, 0, EVER))
    number = differences = 0
    seconds = 0.0
    for block in blocks:
        payments = list(islice(known, min(len(block.vectors), beside - number)))
        if not payments:
            break
        start = process_time()
        rows = [run.row(payment, payment.arrived_at) for payment in payments]
        seconds += process_time() - start
        counters = np.array([[row.counters[name] for name in NAMES] for row in rows])
        features = np.array([row.vector for row in rows], np.float32)
        for ours, theirs in ((block.counters.T, counters), (block.vectors, features)):
            same = (ours[: len(rows)] == theirs) | (np.isnan(ours[: len(rows)]) & np.isnan(theirs))
            differences += int((~same).sum())
        number += len(rows)
    return number, differences, seconds


def arrived(directory: Path, late: float, to: Path) -> Path:
    """Copy a history in order of arrival: a share of it up to MAX_AGE late."""
    known = pyarrow.parquet.read_table(directory / history.TRANSACTIONS)
    rng = np.random.default_rng(1)
    delay = np.where(rng.random(len(known)) < late, rng.integers(0, int(MAX_AGE.total_seconds()), len(known)), 0)
    at = pc.add(known["occurred_at"].cast(pa.int64()), pa.array(delay.astype(np.int64) * 1_000_000))
    known = known.append_column(history.ARRIVED_AT, at.cast(pa.timestamp("us", "UTC")))
    order = np.argsort(at.to_numpy(), kind="stable")
    to.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(known.take(pa.array(order)), to / history.TRANSACTIONS)
    shutil.copy(directory / history.LABELS, to)
    return to


def rows(
    sizes: Sequence[int] = SIZES,
    currencies: Sequence[str] = CURRENCIES,
    worlds: Sequence[Path] = (),
    beside: int = BESIDE,
) -> list[table.Row]:
    """Return the figures of each history, and their targets."""
    with TemporaryDirectory() as place:
        histories = _histories(Path(place), sizes, currencies, worlds)
        found = [(name, _in_a_process(path, beside)) for name, path in histories]
    return [
        *({"name": name, **figures._asdict()} for name, figures in found),
        *(table.target(f"payments per CPU second in SQL: {name}", figures.counted, at_least=TARGET)
          for name, figures in found),
        *(table.target(f"differences: {name}", figures.differences, at_most=0) for name, figures in found),
    ]  # fmt: skip


def _histories(
    place: Path, sizes: Sequence[int], currencies: Sequence[str], worlds: Sequence[Path]
) -> Iterator[tuple[str, Path]]:
    """Yield each history by its name: on time, and then with late payments. A simulated one is made and removed."""
    for world in worlds:
        yield str(world), world
        yield f"{world}, {LATE:.0%} late", arrived(world, LATE, place / "late")
    for size, currency in product(sizes, currencies):
        payers = math.ceil(size / PER_PAYER)
        history.write(place / "on_time", history.of(simulate(1, DEFAULT_START, DAYS, payers, market_of(currency))))
        yield f"{currency}, {size:.0e}", place / "on_time"
        yield f"{currency}, {size:.0e}, {LATE:.0%} late", arrived(place / "on_time", LATE, place / "late")


def _in_a_process(directory: Path, beside: int) -> Measured:
    """Measure in a process of its own, so that its peak of memory is this history's."""
    command = [sys.executable, "-m", "benchmarks.dataset_sql", "--only", str(directory), "--beside", str(beside)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return Measured(*json.loads(done.stdout))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, add_help=False)
    parser.add_argument("--sizes", type=float, nargs="*", default=SIZES, help="payments of the simulated histories")
    parser.add_argument("--currency", nargs="*", default=CURRENCIES, help="of the simulated histories")
    parser.add_argument("--history", type=Path, nargs="*", default=(), help="HISTORY_DIRs of other worlds")
    parser.add_argument("--beside", type=float, default=BESIDE, help="payments that the replay counts, too")
    parser.add_argument("--only", type=Path, help=argparse.SUPPRESS)
    options, others = parser.parse_known_args()
    if options.only:
        print(json.dumps(measured(options.only, int(options.beside))))
    else:
        sizes = [int(size) for size in options.sizes]
        table.run(lambda: rows(sizes, options.currency, options.history, int(options.beside)), __doc__, others)
