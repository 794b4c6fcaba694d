"""The evaluation job: both models on the same payments, and nothing of a model but its files."""

import io
import json
import tarfile
from argparse import Namespace
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from fraud.retraining.gate import Evaluation
from fraud.retraining.jobs import MODEL_FILES as REGISTERED
from fraud.scoring.registry import Artefact
from fraud.scoring.trees import Trees
from models.simulation.simulate import DEFAULT_START, simulate
from models.training import challenge
from models.training.challenge import ARCHIVE, MODEL_FILES, evaluation, run, stability, unpacked
from models.training.columns import Dataset
from models.training.costs import Budget
from tests.support.registered import moved

TRAINED = {
    "from": "2026-03-01",
    "before": "2026-03-03",
    "labels_known_at": "2026-03-04",
    "budget": asdict(Budget()),
}


def model(trees: int, **trained: str) -> Artefact:
    """Return a model of the first trees of the packaged one, with a manifest that says how it was trained."""
    few = moved(0.0, few=trees)
    return few._replace(manifest=json.dumps(json.loads(few.manifest) | {"trained": TRAINED | trained}).encode())


CHALLENGER, CHAMPION = model(30), model(2)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return Dataset.build(simulate(3, DEFAULT_START, 6, 60, crime=40))


def test_a_job_registers_the_files_that_the_library_knows():
    assert MODEL_FILES == REGISTERED


def test_both_models_are_compared_on_the_payments_after_the_training(dataset):
    found = evaluation(dataset, Trees.load(*CHALLENGER), Trees.load(*CHAMPION))
    days = dataset.occurred_at // 86_400
    assert found["payments"] == int((days >= days.min() + 3).sum())
    assert found["gain"]["low"] <= found["gain"]["value"] <= found["gain"]["high"]
    same = evaluation(dataset, Trees.load(*CHAMPION), Trees.load(*CHAMPION))
    assert set(same["gain"].values()) == set(same["saved"].values()) == {0.0}
    assert (same["friction"], same["frauds"]) == (same["friction_of_champion"], found["frauds"])


def test_a_challenger_without_payments_to_test_on_is_refused(dataset):
    late = model(2, labels_known_at="2026-04-01")
    with pytest.raises(ValueError, match="no payment is left"):
        evaluation(dataset, Trees.load(*late), Trees.load(*CHAMPION))


def packed(directory: Path, files: dict[str, bytes]) -> Path:
    """Write files as SageMaker keeps a model, and return the directory."""
    directory.mkdir()
    with tarfile.open(directory / ARCHIVE, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return directory


FILES = dict(zip(MODEL_FILES, (*CHALLENGER, b"booster", b"{}"), strict=True))


def test_of_an_archive_only_the_files_of_a_model_are_taken(tmp_path):
    source = packed(tmp_path / "model", FILES | {"code/inference.py": b"import os", "../outside": b"x"})
    unpacked(source, tmp_path / "out")
    assert {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*")} == set(FILES)
    assert not (tmp_path / "outside").exists()


@pytest.mark.parametrize("damage", [
    lambda whole: whole[:-20], lambda whole: whole[:300], lambda whole: b"x" + whole,
    lambda whole: whole[:150] + bytes([whole[150] ^ 1]) + whole[151:],
])  # fmt: skip
def test_a_damaged_archive_is_refused(tmp_path, damage):
    source = packed(tmp_path / "model", FILES)
    (source / ARCHIVE).write_bytes(damage((source / ARCHIVE).read_bytes()))
    with pytest.raises(ValueError, match="damaged"):
        unpacked(source, tmp_path / "out")


@pytest.mark.parametrize("missing", MODEL_FILES)
def test_a_model_without_one_of_its_files_is_refused(tmp_path, missing):
    source = packed(tmp_path / "model", {name: each for name, each in FILES.items() if name != missing})
    with pytest.raises(ValueError, match=missing):
        unpacked(source, tmp_path / "out")


def test_a_whole_job_writes_what_the_gate_reads(dataset, tmp_path):
    dataset.save(tmp_path / "dataset")
    champion = tmp_path / "champion"
    champion.mkdir()
    for name, content in zip(MODEL_FILES, CHAMPION, strict=False):
        (champion / name).write_bytes(content)
    asked = Namespace(
        dataset=tmp_path / "dataset", model=packed(tmp_path / "model", FILES), champion=champion, out=tmp_path / "out"
    )
    run(asked)
    written = (tmp_path / "out" / "evaluation.json").read_bytes()
    found = Evaluation.parse(written)
    assert set(found.files) == set(MODEL_FILES)
    assert found.model == json.loads(CHALLENGER.manifest)["version"]


def test_a_job_that_cannot_be_done_says_why_and_fails(tmp_path, capsys):
    arguments = [str(tmp_path / name) for name in ("dataset", "model", "champion", "out")]
    assert challenge.main(arguments) == 2
    assert "model has no trees.json" in capsys.readouterr().err


def test_missing_values_are_a_bin_of_their_own():
    there = np.arange(100, dtype=np.float32)
    gone = np.full(100, np.nan, np.float32)
    assert stability(there, there) == 0
    assert stability(there, gone) > 1
    assert stability(gone, gone) == 0
