"""The walls between rooms hold. `lint-imports`, which `make check` runs, fails on a copy of the tree with a violation:
a forbidden import, or a module in no layer.
"""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
ROOMS = ("layers/shared/fraud", "functions", "models", "local", "operations", "benchmarks", "tests")


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


def test_the_architecture_names_the_layers_of_the_contract():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    (layers,) = (each["layers"] for each in contracts if each["name"] == LAYERS)
    (said,) = re.findall(r"`(assembly > [^`]*)`", (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8"))
    assert " ".join(said.split()) == " > ".join(layers)


LAYERS = "The library looks downwards only"
SDKS = "SDKs and the environment"
PURE = "In a package only store, rows, worker, events and metrics speak to AWS"
WORKSHOP = "The workshop stands on the pure modules"


@pytest.mark.parametrize(
    ("room", "planted", "contract"),
    [
        ("layers/shared/fraud/counters/layout.py", "import boto3", SDKS),
        ("layers/shared/fraud/labels/label.py", "import os", SDKS),
        ("layers/shared/fraud/aws/client.py", "import botocore", SDKS),
        ("layers/shared/fraud/decisions/repair.py", "import pynamodb", SDKS),
        ("layers/shared/fraud/counters/layout.py", "from fraud.decisions import decision", LAYERS),
        ("layers/shared/fraud/aws/client.py", "from fraud.counters import layout", LAYERS),
        ("layers/shared/fraud/transaction.py", "from fraud import settings", LAYERS),
        ("layers/shared/fraud/labels/label.py", "from fraud.lists import entry", LAYERS),
        ("layers/shared/fraud/decisions/events.py", "from fraud.activity import links", LAYERS),
        ("layers/shared/fraud/activity/links.py", "from fraud.labels import label", LAYERS),
        ("layers/shared/fraud/activity/links.py", "from fraud.aws import transport", PURE),
        ("layers/shared/fraud/archive/record.py", "from fraud.labels import label", LAYERS),
        ("layers/shared/fraud/decisions/decision.py", "from fraud.archive import record", LAYERS),
        ("layers/shared/fraud/archive/record.py", "from fraud.aws import boto", PURE),
        ("layers/shared/fraud/labels/label.py", "from fraud.cases import report", LAYERS),
        ("layers/shared/fraud/decisions/decision.py", "from fraud.cases import report", LAYERS),
        ("layers/shared/fraud/cases/triage.py", "from fraud.aws import transport", PURE),
        ("layers/shared/fraud/cases/triage.py", "import pynamodb", SDKS),
        ("layers/shared/fraud/cases/classifier.py", "import sklearn", SDKS),
        ("layers/shared/fraud/audit/chain.py", "from fraud.lists import entry", LAYERS),
        ("layers/shared/fraud/reporting/kpis.py", "from fraud.retraining import gate", LAYERS),
        ("layers/shared/fraud/retraining/gate.py", "from fraud.aws import boto", PURE),
        ("layers/shared/fraud/decisions/decision.py", "from fraud.audit import chain", LAYERS),
        ("layers/shared/fraud/audit/roots.py", "from fraud.aws import boto", PURE),
        ("layers/shared/fraud/audit/verification.py", "import boto3", SDKS),
        ("layers/shared/fraud/extra.py", "", LAYERS),
        ("layers/shared/fraud/extra.py", "import boto3", SDKS),
        ("layers/shared/fraud/counters/layout.py", "from fraud.counters import windows", "No package has a cycle"),
        ("layers/shared/fraud/counters/windows.py", "from fraud.aws import transport", PURE),
        ("layers/shared/fraud/decisions/evaluation.py", "from fraud.aws import client", PURE),
        ("layers/shared/fraud/errors.py", "from models.simulation import draws", "The library knows nothing above it"),
        ("functions/list_api.py", "import boto3", "Doors go through fraud"),
        ("functions/list_api.py", "from functions import decision_api", "No door imports another"),
        ("models/simulation/simulate.py", "from fraud.decisions import store", WORKSHOP),
        ("models/simulation/simulate.py", "from fraud.cases import report_store", WORKSHOP),
        ("models/simulation/simulate.py", "import boto3", WORKSHOP),
        ("local/box.py", "import tests.support.payments", "Tests and benchmarks are imported by each other only"),
        ("operations/redrive.py", "import benchmarks.table", "Tests and benchmarks are imported by each other only"),
    ],
)
def test_a_planted_violation_breaks_its_contract(tree: Path, room: str, planted: str, contract: str):
    with (tree / room).open("a") as file:
        file.write(f"\n{planted}\n")
    result = lint(tree)
    assert result.returncode != 0
    assert re.search(rf"^{contract}.* BROKEN\b", result.stdout, re.MULTILINE), result.stdout


def test_the_tree_as_it_is_breaks_no_contract(tree: Path):
    result = lint(tree)
    assert result.returncode == 0, result.stdout
