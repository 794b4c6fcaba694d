"""The walls between rooms hold: a forbidden import, planted in a copy, fails `lint-imports`, which `make check`
runs.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
ROOMS = ("layers/shared/fraud", "functions", "models", "local", "benchmarks")


def lint(tree: Path) -> subprocess.CompletedProcess[str]:
    command = Path(sys.executable).with_name("lint-imports")
    paths = os.pathsep.join((str(tree / "layers" / "shared"), str(tree)))
    environment = os.environ | {"PYTHONPATH": paths}
    return subprocess.run(
        [command, "--no-cache"], cwd=tree, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for room in ROOMS:
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("room", "planted", "contract"),
    [
        ("layers/shared/fraud/counters.py", "import boto3", "The pure floor knows no AWS"),
        ("layers/shared/fraud/counters.py", "from fraud import decision", "The pure floor looks downwards only"),
        ("functions/list_api.py", "from functions import decision_api", "No door imports another"),
        ("models/simulate.py", "from fraud import store", "The workshop stands on the pure floor"),
    ],
)
def test_a_planted_import_breaks_its_contract(tree: Path, room: str, planted: str, contract: str):
    path = tree / room
    path.write_text(f"{path.read_text()}\n{planted}\n")
    result = lint(tree)
    assert result.returncode != 0
    assert f"{contract}" in result.stdout
    assert "BROKEN" in result.stdout


def test_the_tree_as_it_is_breaks_none(tree: Path):
    result = lint(tree)
    assert result.returncode == 0, result.stdout
