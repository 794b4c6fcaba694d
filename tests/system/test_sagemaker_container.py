"""`make sagemaker` in small, without the toolkits: a job trains a model, and two servers serve it alike."""

from pathlib import Path

from models.simulation.simulate import DEFAULT_START, simulate
from models.training.columns import Dataset
from tests.acceptance import sagemaker_container as containers

SMALL = {"most_trees": "5", "delay_days": "1", "test_days": "1", "max_bin": "64"}


def test_a_job_trains_a_model_that_every_server_serves_alike_and_broken_input_fails_with_a_reason(tmp_path: Path):
    dataset = Dataset.build(simulate(1, DEFAULT_START, 9, 60))
    dataset.save(tmp_path / "dataset")
    base = containers.job(tmp_path / "plain", tmp_path / "dataset", SMALL)
    assert containers.plain(base) == 0, (base / "log").read_text()
    ways = {"model server": containers.by_model_server, "gunicorn and flask": containers.by_gunicorn}
    assert containers.served(base / "model", dataset, ways)
    bad = containers.job(tmp_path / "bad", containers.cut(tmp_path / "dataset", tmp_path / "cut"), SMALL)
    assert containers.plain(bad) == 1
    assert "cannot be read" in (bad / "output" / "failure").read_text()
