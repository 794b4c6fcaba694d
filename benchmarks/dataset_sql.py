"""Count a history by SQL in DuckDB and by the replay in the same run, on one CPU, and compare every value.

`counted` is the SQL program alone; `ready` adds reading the history, counters and feature vectors. Both worlds are
measured: simulated histories of growing size, and a HISTORY_DIR of any other world (--history). A share of the payments
arrives up to 12 hours late. The replay counts the first --beside payments, and differences are those of all their
counters and features. What the rules ask for takes the same time in both, and is left out.
"""

import argparse
import json
import math
import resource
import subprocess
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
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
from models.simulation.simulate import DEFAULT_START, simulate
from models.training.days import Span
from models.training.engines import Counted, DuckDb
from models.training.replay import Replay
from models.training.rows import labelled

SIZES = (10**5, 10**6)
DAYS = 45
PER_PAYER = 75
"""Payments of a payer in DAYS."""
LATE = 0.02
BESIDE = 20_000
TARGET = 50_000
EVER = 2**33
MEMORY = "4GB"


class Measured(NamedTuple):
    """Figures of one history."""

    payments: int
    counted: float
    ready: float
    replay: float
    differences: int
    estimated: int
    peak_mib: float


def measured(directory: Path, beside: int) -> Measured:
    """Count a history by both, and compare."""
    start = process_time()
    with DuckDb(MEMORY) as engine:
        counted = Counted(engine, directory, 0, EVER)
        in_sql = process_time() - start - engine.seconds["stage"]
        unit = UNITS[next(history.payments(directory)).currency]
        blocks = counted.blocks(unit)
        kept = []
        for place, block in enumerate(blocks):
            if place * len(block.vectors) < beside:
                kept.append(block)
        ready = process_time() - start
    run = Replay()
    known = labelled(directory, history.findings(directory), run, Span(0, 0, EVER))
    first = list(islice(known, beside))
    start = process_time()
    rows = [run.row(payment, payment.arrived_at) for payment in first]
    replay = process_time() - start
    values = np.concatenate([block.counters for block in kept], axis=1)[:, : len(rows)]
    vectors = np.concatenate([block.vectors for block in kept])[: len(rows)]
    expected = np.array([[row.counters[name] for name in NAMES] for row in rows]).T
    features = np.array([row.vector for row in rows], np.float32)
    differences = int((values != expected).sum()) + int(
        ((vectors != features) & ~(np.isnan(vectors) & np.isnan(features))).sum()
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Measured(
        counted.number,
        counted.number / in_sql,
        counted.number / ready,
        len(rows) / replay,
        differences,
        counted.estimated,
        peak,
    )


def simulated(directory: Path, payments: int, late: float) -> Path:
    """Write a simulated history of about so many payments, of which a share arrives late."""
    payers = math.ceil(payments / PER_PAYER)
    history.write(directory, history.of(simulate(1, DEFAULT_START, DAYS, payers)))
    return arrived(directory, late)


def arrived(directory: Path, late: float) -> Path:
    """Put a history into order of arrival: a share of it up to MAX_AGE late."""
    path = directory / history.TRANSACTIONS
    known = pyarrow.parquet.read_table(path)
    rng = np.random.default_rng(1)
    delay = np.where(rng.random(len(known)) < late, rng.integers(0, int(MAX_AGE.total_seconds()), len(known)), 0)
    at = pc.add(known["occurred_at"].cast(pa.int64()), pa.array(delay.astype(np.int64) * 1_000_000))
    known = known.append_column(history.ARRIVED_AT, at.cast(pa.timestamp("us", "UTC")))
    order = np.argsort(at.to_numpy(), kind="stable")
    pyarrow.parquet.write_table(known.take(pa.array(order)), path)
    return directory


def rows(sizes: Sequence[int] = SIZES, worlds: Sequence[Path] = (), beside: int = BESIDE) -> list[table.Row]:
    """Return the figures of each history, and the target of the largest."""
    with TemporaryDirectory() as place:
        found = [
            *((f"simulated, {size:.0e}{late}", _in_a_process(path, beside))
              for size in sizes
              for late, path in _histories(Path(place), size)),
            *((str(path), _in_a_process(path, beside)) for path in worlds),
        ]  # fmt: skip
    return [
        *({"name": name, **figures._asdict()} for name, figures in found),
        *(table.target(f"payments per CPU second in SQL: {name}", figures.counted, at_least=TARGET)
          for name, figures in found),
        *(table.target(f"differences: {name}", figures.differences, at_most=0) for name, figures in found),
    ]  # fmt: skip


def _histories(place: Path, size: int) -> Iterator[tuple[str, Path]]:
    for name, late in (("", 0.0), (f", {LATE:.0%} late", LATE)):
        directory = place / f"{size}-{late}"
        if late:
            yield name, simulated(directory, size, late)
        else:
            history.write(directory, history.of(simulate(1, DEFAULT_START, DAYS, math.ceil(size / PER_PAYER))))
            yield name, directory


def _in_a_process(directory: Path, beside: int) -> Measured:
    """Measure in a process of its own, so that its peak of memory is this history's."""
    command = [sys.executable, "-m", "benchmarks.dataset_sql", "--only", str(directory), "--beside", str(beside)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return Measured(*json.loads(done.stdout))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, add_help=False)
    parser.add_argument("--sizes", type=float, nargs="*", default=SIZES, help="payments of the simulated histories")
    parser.add_argument("--history", type=Path, nargs="*", default=(), help="HISTORY_DIRs of other worlds")
    parser.add_argument("--beside", type=float, default=BESIDE, help="payments that the replay counts, too")
    parser.add_argument("--only", type=Path, help=argparse.SUPPRESS)
    options, others = parser.parse_known_args()
    if options.only:
        print(json.dumps(measured(options.only, int(options.beside))))
    else:
        sizes = [int(size) for size in options.sizes]
        table.run(lambda: rows(sizes, options.history, int(options.beside)), __doc__, others)
