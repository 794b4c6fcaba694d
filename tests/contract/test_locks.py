"""The locks of requirements/: what runs in AWS has the versions with which everything is tested."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def pins(path: Path) -> set[tuple[str, str]]:
    """Return name and version of each pinned package. A package may have one version for each Python."""
    return set(re.findall(r"^([a-z0-9-]+)(?:\[[^]]*\])?==(\S+)", path.read_text(encoding="utf-8"), re.MULTILINE))


@pytest.mark.parametrize("lock", ["requirements/runtime.txt", "requirements/train.txt", "requirements/emr.txt"])
def test_what_runs_in_aws_has_the_versions_that_the_tests_run_with(lock: str):
    tested = pins(ROOT / "requirements" / "dev.txt")
    shared = {pin for pin in pins(ROOT / lock) if pin[0] in dict(tested)}
    assert len(shared) > len(pins(ROOT / lock)) / 2
    assert shared <= tested


@pytest.mark.parametrize("recipe", ["models/Dockerfile", "models/graph/Dockerfile"])
def test_an_image_of_the_jobs_has_all_that_it_copies(recipe: str):
    copied = re.findall(r"^COPY (\S+)", (ROOT / recipe).read_text(encoding="utf-8"), re.MULTILINE)
    assert {"layers/shared/fraud", "models"} <= set(copied)
    assert all((ROOT / path).exists() for path in copied)


def test_the_job_on_spark_is_where_its_image_has_it_and_runs_on_the_release_of_its_application():
    recipe = (ROOT / "models" / "graph" / "Dockerfile").read_text(encoding="utf-8")
    states = json.loads((ROOT / "statemachines" / "graph.asl.json").read_text(encoding="utf-8"))["States"]
    submit = states["AnalyseWithSpark"]["Parameters"]["JobDriver"]["SparkSubmit"]
    places = dict(re.findall(r"^COPY (\S+) (\S+)", recipe, re.MULTILINE))
    program = submit["EntryPoint"].removeprefix("local://")
    assert program.startswith(f"{places['models']}/")
    assert (ROOT / "models" / program.removeprefix(f"{places['models']}/")).exists()
    assert f"PYTHONPATH={Path(places['models']).parent} " in submit["SparkSubmitParameters"]
    release = re.findall(r"ReleaseLabel: (\S+)", (ROOT / "template.yaml").read_text(encoding="utf-8"))
    assert re.findall(r"spark/(emr-[\d.]+)", recipe) == release
