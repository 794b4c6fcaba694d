"""Live the simulated months without and with the system: `python -m models.experiment --seeds 10 --report DIR`.

Prints the table beside PhonePe's published figures, and the ablation. DIR gets index.html with plots, experiment.json,
and `lives/`, from which a run that was killed goes on. The same command writes the same bytes.
"""

import argparse
import hashlib
import json
import math
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from fraud import packaged
from models.experiment import measures, report
from models.experiment.life import live, warm_up
from models.experiment.parameters import CONDITIONS, Parameters
from models.experiment.tally import Tally
from models.experiment.world import MARKET, plan

LIVES = "lives"
ROOT = Path(__file__).parents[2]
LIBRARY = ("accounts", "activity", "cases", "counters", "decisions", "labels", "marks", "rules", "scoring")
READ = (
    "models/*",
    *(f"models/{name}/**/*" for name in ("datasets", "experiment", "simulation", "training", "triage")),
    "layers/shared/fraud/*",
    *(f"layers/shared/fraud/{name}/**/*" for name in LIBRARY),
)
"""The source that a life depends on, as patterns: one that was lived by other source is lived again."""

PRESENTS = frozenset({"__main__.py", "measures.py", "report.py", "figures.py", "evaluation.py", "evaluate.py"})
"""Files in them on which no life depends."""

SIMPLE = (int, float)
"""Types of parameters that the command line takes."""

TIMES = frozenset({"crime", "past_crime"})
"""Parameters of at most 1 by default that are no shares: how many times as often as in the simulator."""


def state(parameters: Parameters) -> str:
    """Return a digest of the parameters and of all source that a life depends on."""
    digest = hashlib.sha256(json.dumps(parameters.stated(), sort_keys=True).encode())
    for path in sources():
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def sources() -> list[Path]:
    """Return the files that a life depends on, in the same order everywhere."""
    found = (path for pattern in READ for path in ROOT.glob(pattern))
    return sorted(path for path in found if path.suffix in {".py", ".json"} and path.name not in PRESENTS)


def lived(seed: int, parameters: Parameters, directory: Path, known: str) -> int:
    """Live every condition of a seed that `directory` does not hold, and write each when it has ended."""
    missing = [name for name in CONDITIONS if _read(directory, seed, name, known) is None]
    if not missing:
        return seed
    planned = plan(seed, parameters)
    warm = warm_up(planned, parameters) if any(CONDITIONS[name].decides for name in missing) else None
    for name in missing:
        tally = live(planned, parameters, CONDITIONS[name], warm)
        path = _path(directory, seed, name)
        partial = path.with_suffix(".part")
        partial.write_text(_json({"state": known, "tally": tally.stated()}), encoding="utf-8")
        partial.replace(path)
    return seed


def _path(directory: Path, seed: int, condition: str) -> Path:
    return directory / f"{seed:03d}-{condition.replace(' ', '-')}.json"


def _read(directory: Path, seed: int, condition: str, known: str) -> Tally | None:
    """Return a life that was lived with the same parameters and source; None for any other."""
    try:
        said = json.loads(_path(directory, seed, condition).read_bytes())
        return Tally.of(said["tally"]) if said["state"] == known else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _json(said: Any) -> str:  # noqa: ANN401 - JSON
    return json.dumps(said, indent=1, sort_keys=True) + "\n"


def run(seeds: Sequence[int], parameters: Parameters, directory: Path, jobs: int) -> measures.Lives:
    """Live all seeds, `jobs` at a time, and return the tallies."""
    lives, known = directory / LIVES, state(parameters)
    lives.mkdir(parents=True, exist_ok=True)
    if jobs == 1:
        for seed in seeds:
            print(f"seed {lived(seed, parameters, lives, known)} lived", file=sys.stderr, flush=True)
    else:
        with ProcessPoolExecutor(jobs) as pool:
            for done in as_completed([pool.submit(lived, seed, parameters, lives, known) for seed in seeds]):
                print(f"seed {done.result()} lived", file=sys.stderr, flush=True)
    return {name: [one for seed in seeds for one in _one(lives, seed, name, known)] for name in CONDITIONS}


def _one(directory: Path, seed: int, condition: str, known: str) -> Iterator[Tally]:
    found = _read(directory, seed, condition, known)
    assert found is not None, f"{_path(directory, seed, condition)} was written by a run of other source"
    yield found


def _impossible(name: str, value: float) -> str | None:
    """Return what a parameter must be if it is not; None for a value that it may have.

    >>> _impossible("days", 0), _impossible("misses", 0.0), _impossible("misses", 2.0)
    ('must be at least 1', None, 'must be a share from 0 to 1')
    >>> _impossible("crime", float("nan"))
    'must be a number above 0'
    """
    default = getattr(Parameters(), name)
    if isinstance(default, int):
        return None if value >= 1 else "must be at least 1"
    if default > 1 or name in TIMES:
        return None if 0 < value < math.inf else "must be a number above 0"
    return None if 0 <= value <= 1 else "must be a share from 0 to 1"


def main(arguments: Sequence[str] | None = None) -> None:
    """Live the months, print the tables and write the report."""
    parser = argparse.ArgumentParser(prog="python -m models.experiment", description=__doc__)
    parser.add_argument("--seeds", type=int, default=10, help="seeds 1 to this; default: %(default)s")
    parser.add_argument("--report", type=Path, required=True, metavar="DIR")
    parser.add_argument("--jobs", type=int, default=2, help="seeds at a time; default: %(default)s")
    group = parser.add_argument_group("parameters", "each changes one, for trials; the report says all of them")
    for each in fields(Parameters):
        if type(each.default) in SIMPLE:
            name = f"--{each.name.replace('_', '-')}"
            group.add_argument(name, type=type(each.default), default=each.default, metavar="N")
    options = parser.parse_args(arguments)
    if options.seeds < 1 or options.jobs < 1:
        parser.error("--seeds and --jobs need at least 1")
    changed = {each.name: getattr(options, each.name) for each in fields(Parameters) if type(each.default) in SIMPLE}
    for name, value in changed.items():
        if fault := _impossible(name, value):
            parser.error(f"--{name.replace('_', '-')} {value} {fault}")
    try:
        (options.report / LIVES).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"--report {options.report} is no directory that can be written: {error.strerror}")
    parameters = replace(Parameters(), **changed)
    packaged.require(MARKET.currency)
    lives = run(range(1, options.seeds + 1), parameters, options.report, options.jobs)
    rows, ablated = measures.table(lives), measures.ablation(lives)
    report.write(options.report, parameters, lives, rows, ablated)
    (options.report / "experiment.json").write_text(
        _json(report.stated(parameters, lives, rows, ablated)), encoding="utf-8"
    )
    sys.stdout.write(measures.text(rows, ablated, lives))


if __name__ == "__main__":
    main()
