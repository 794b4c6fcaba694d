"""The locks of requirements/: what runs in AWS has the versions with which everything is tested."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def pins(path: Path) -> set[tuple[str, str]]:
    """Return name and version of each pinned package. A package may have one version for each Python."""
    return set(re.findall(r"^([a-z0-9-]+)(?:\[[^]]*\])?==(\S+)", path.read_text(encoding="utf-8"), re.MULTILINE))


@pytest.mark.parametrize("lock", ["requirements/runtime.txt", "requirements/train.txt"])
def test_what_runs_in_aws_has_the_versions_that_the_tests_run_with(lock: str):
    tested = pins(ROOT / "requirements" / "dev.txt")
    shared = {pin for pin in pins(ROOT / lock) if pin[0] in dict(tested)}
    assert len(shared) > len(pins(ROOT / lock)) / 2
    assert shared <= tested


def test_the_image_of_the_jobs_has_all_that_it_copies():
    copied = re.findall(r"^COPY (\S+)", (ROOT / "models" / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    assert {"layers/shared/fraud", "models"} <= set(copied)
    assert all((ROOT / path).exists() for path in copied)
