"""The modules that each door loads: a committed list, because every module is paid for in each cold start.

`python -m tests.contract.test_doors` writes the list anew; the change then shows in the diff.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.environment import ENVIRONMENT
from tests.unit.test_settings import LAMBDA

ROOT = Path(__file__).parents[2]
LIST = Path(__file__).with_name("modules.json")
DOORS = sorted(path.stem for path in (ROOT / "functions").glob("*.py") if path.stem != "__init__")
SDKS = ("aws_lambda_powertools", "boto3", "botocore", "cel", "http.client", "pydantic", "pynamodb", "urllib3")
"""Packages of others that a door loads by decision only, and a slow part of the standard library."""


def loaded_by(door: str) -> list[str]:
    """Return the modules of `fraud` and the packages of SDKS in a process that has imported one door."""
    program = f"import sys, functions.{door}; print(*sys.modules)"
    no_server = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_DEFAULT_REGION": LAMBDA["AWS_REGION"]}
    environment = {**ENVIRONMENT, **LAMBDA, **no_server, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    return sorted({name for name in loaded if name.startswith("fraud.")} | (loaded & set(SDKS)))


@pytest.mark.parametrize("door", DOORS)
def test_a_door_loads_the_modules_in_the_list_and_no_others(door):
    assert loaded_by(door) == json.loads(LIST.read_text())[door]


def test_the_list_names_every_door_and_no_other():
    assert sorted(json.loads(LIST.read_text())) == DOORS


def test_the_door_that_decides_loads_no_sdk():
    assert not {"boto3", "botocore", "pynamodb", "aws_lambda_powertools", "http.client", "urllib3"} & set(
        loaded_by("decision_api")
    )


@pytest.mark.parametrize("door", ["label_api", "list_api"])
def test_the_doors_beside_the_scoring_path_load_neither_its_client_nor_its_rules(door):
    assert not {"fraud.aws.client", "fraud.rules.rule_book", "fraud.decisions.evaluation"} & set(loaded_by(door))


if __name__ == "__main__":
    LIST.write_text(json.dumps({door: loaded_by(door) for door in DOORS}, indent=1) + "\n")
