"""Measure a cold start without the runtime: import and first decision in new processes, with compiled bytecode.

The product's door is compared with `benchmarks.naive`, which imports boto3, PynamoDB and Powertools with its tracer.
Both decide the same payment against a canned server. CPU time decides the duration: a Lambda of 512 MB has 0.29 of a
core.
"""

import importlib.util
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import table, workers
from benchmarks.child import ROOT
from benchmarks.hot_path import event
from benchmarks.servers import Servers

RUNS = 5
DOORS = {"ours": "functions.decision_api", "naive": "benchmarks.naive"}
FIRST_DECISION = Path(__file__).with_name("first_decision.py")


def rows() -> list[table.Row]:
    """Return the medians of each door, their ratio, and the target. The first run of each only compiles bytecode."""
    runs: dict[str, list[Mapping[str, Any]]] = {name: [] for name in DOORS}
    with Servers(0, 0) as servers, tempfile.TemporaryDirectory(prefix="layer-") as layer:
        _as_in_the_layer(Path(layer))
        variables = workers.environment("DecisionApi", servers.url)
        variables["PYTHONPATH"] = f"{layer}:{ROOT}:{variables['PYTHONPATH']}"
        for number in range(RUNS + 1):
            for name, door in DOORS.items():
                runs[name].append(_run(door, json.dumps(event(f"{number}")), variables))
    keys = ("import_cpu_ms", "first_decision_cpu_ms", "cpu_ms", "modules")
    measured = {
        name: {key: statistics.median(run[key] for run in found[1:]) for key in keys} for name, found in runs.items()
    }
    ratio = {key: measured["ours"][key] / measured["naive"][key] for key in keys}
    ours = runs["ours"][-1]["known"]
    return [
        *({"name": name, **figures} for name, figures in measured.items()),
        {"name": "ours / naive", **ratio},
        table.target("cpu_ms ours / naive", ratio["cpu_ms"], at_most=1 / 3),
        {"name": "imported by ours, of boto3 botocore pynamodb aws_xray_sdk", "modules": " ".join(ours) or "none"},
    ]


def _as_in_the_layer(directory: Path) -> None:
    """Copy CEL without its command line into a directory, for both doors, as layers/dependencies/Makefile does."""
    found = importlib.util.find_spec("cel")
    assert found is not None
    assert found.origin is not None
    shutil.copytree(
        Path(found.origin).parent, directory / "cel", ignore=shutil.ignore_patterns("cli.py", "__pycache__")
    )
    (directory / "cel" / "__init__.py").write_text("from .cel import *\n", encoding="utf-8")


def _run(door: str, body: str, variables: Mapping[str, str]) -> Mapping[str, Any]:
    done = subprocess.run(
        [sys.executable, str(FIRST_DECISION), door],
        input=body,
        text=True,
        capture_output=True,
        check=False,
        env=variables,
    )
    assert done.returncode == 0, done.stderr
    figures: Mapping[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


if __name__ == "__main__":
    table.run(rows, __doc__)
