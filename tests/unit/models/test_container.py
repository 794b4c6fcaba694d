"""A training job keeps SageMaker's contract: where it reads, what it writes, and how it says why it failed."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud.scoring.trees import Trees
from models.simulation.simulate import DEFAULT_START, simulate
from models.training import container
from models.training import train as training
from models.training.columns import DAYS, NEVER, STATED, Dataset

KNOWN = {"currency", *(field.name for field in fields(training.Hyperparameters))}
SMALL = {"most_trees": "3", "delay_days": "1", "test_days": "1", "max_bin": "64"}
ARGUMENTS = [f"--{name}={text}" for name, text in SMALL.items()]
SCRIPT_MODE = {
    "sagemaker_program": '"models/training/train.py"',
    "sagemaker_submit_directory": '"s3://bucket/source.tar.gz"',
    "sagemaker_job_name": '"job-7"',
    "_tuning_objective_metric": "precision",
}
FILES = ["baseline.json", "manifest.json", "model.ubj", "trees.json"]
SECRET = "payer-alice-7"


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return Dataset.build(simulate(1, DEFAULT_START, 9, 60))


@pytest.fixture(autouse=True)
def _no_container_around(monkeypatch, tmp_path):
    monkeypatch.setattr(container, "BASE", tmp_path / "opt" / "ml")
    for variable in ("SM_CHANNEL_TRAIN", "SM_MODEL_DIR", "SM_OUTPUT_DATA_DIR", "SAGEMAKER_BASE_DIR"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def base(dataset, tmp_path) -> Path:
    dataset.save(tmp_path / "ml" / "input" / "data" / "train")
    stated(tmp_path / "ml", SMALL)
    return tmp_path / "ml"


def stated(base: Path, hyperparameters: Any) -> None:
    path = base / "input" / "config" / "hyperparameters.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(hyperparameters if isinstance(hyperparameters, bytes) else json.dumps(hyperparameters).encode())


def run(base: Path, *arguments: str, main: Callable[[Sequence[str]], None] = training.main, **more: str) -> int:
    return container.run(main, KNOWN, arguments, {"SAGEMAKER_BASE_DIR": str(base), **more})


def failure(base: Path) -> str:
    """Return the reason of a job that failed and wrote no model."""
    assert not (base / "model").exists() or not list((base / "model").iterdir())
    told = (base / "output" / "failure").read_text()
    assert 0 < len(told) <= 1024
    assert "\n" not in told
    assert SECRET not in told
    return told


# --- a job that succeeds ----------------------------------------------------------------------------------------------


def test_the_entry_of_a_container_reads_and_writes_sagemakers_directories(base, tmp_path):
    stated(base, SMALL | SCRIPT_MODE)
    environment = os.environ | {"SAGEMAKER_BASE_DIR": str(base)}
    command = [sys.executable, "-m", "models.training.train", "train"]  # the word comes from SageMaker
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert sorted(path.name for path in (base / "model").iterdir()) == FILES
    assert "average precision" in (base / "output" / "data" / "evaluation.txt").read_text()
    assert not (base / "output" / "failure").exists()
    channel = str(base / "input" / "data" / "train")
    training.main([f"--train={channel}", f"--out={tmp_path / 'called'}", *ARGUMENTS])
    for name in FILES:
        assert (base / "model" / name).read_bytes() == (tmp_path / "called" / name).read_bytes()


def test_the_directory_is_the_documented_one_when_it_exists_and_no_variable_names_another(base, monkeypatch):
    monkeypatch.setattr(container, "BASE", base)
    assert container.run(training.main, KNOWN, [], {}) == 0
    assert sorted(path.name for path in (base / "model").iterdir()) == FILES


def test_hyperparameters_are_text_perhaps_as_json_and_explicit_arguments_win(base):
    seen: list[Sequence[str]] = []
    stated(base, {"seed": "7", "learning_rate": "0.20", "currency": '"JPY"', "max_bin": 64})
    assert run(base, "--seed=8", f"--out={base / 'elsewhere'}", main=seen.append) == 0
    (arguments,) = seen
    assert arguments[3:] == [
        "--seed=7",
        "--learning_rate=0.20",
        "--currency=JPY",
        "--max_bin=64",
        "--seed=8",
        f"--out={base / 'elsewhere'}",
    ]
    stated(base, SMALL | {"seed": "7"})
    assert run(base, "--seed=8", f"--out={base / 'elsewhere'}") == 0
    assert json.loads((base / "elsewhere" / "manifest.json").read_bytes())["trained"]["hyperparameters"]["seed"] == 8
    assert not (base / "model").exists()


def test_a_job_without_hyperparameters_uses_the_defaults(base):
    seen: list[Sequence[str]] = []
    (base / "input" / "config" / "hyperparameters.json").unlink()
    assert run(base, main=seen.append) == 0
    assert [argument.partition("=")[0] for argument in seen[0]] == ["--train", "--out", "--output-data"]


def test_the_toolkit_names_directories_and_hyperparameters_itself(base, monkeypatch):
    stated(base, b"not read")
    toolkit = {
        "SM_HPS": "{}",
        "SM_CHANNEL_TRAIN": str(base / "input" / "data" / "train"),
        "SM_MODEL_DIR": str(base / "given"),
        "SM_OUTPUT_DIR": str(base / "said"),
        "SM_OUTPUT_DATA_DIR": str(base / "said" / "data"),
    }
    for variable, text in toolkit.items():
        monkeypatch.setenv(variable, text)
    assert run(base, *ARGUMENTS, **toolkit) == 0
    assert sorted(path.name for path in (base / "given").iterdir()) == FILES
    assert (base / "said" / "data" / "evaluation.txt").exists()
    assert run(base, "--max_bin", "many", **toolkit) == 1
    assert (base / "said" / "failure").read_text() == "argument --max_bin: invalid int value: 'many'"
    assert run(base, "--most_tree", "4", **toolkit) == 1
    assert (base / "said" / "failure").read_text() == "unrecognized arguments: --most_tree 4"


# --- a job that fails -------------------------------------------------------------------------------------------------

BAD_HYPERPARAMETERS: dict[str, tuple[Any, str]] = {
    "unknown": ({"max_dept": "4"}, "max_dept"),
    "a part of a name": ({"most": "4"}, "most"),
    "an argument of training alone": ({"out": "elsewhere"}, "out"),
    "a command of training": ({"compare-labels": ""}, "compare-labels"),
    "an argument within a name": ({"seed=1 --out": "x"}, "--out"),
    "no name": ({"": "1"}, "''"),
    "no number": ({"max_depth": "deep"}, "max_depth"),
    "no whole number": ({"max_depth": "3.5"}, "max_depth"),
    "empty": ({"seed": ""}, "seed"),
    "not a number": ({"learning_rate": "nan"}, "learning_rate"),
    "infinite": ({"reg_lambda": "inf"}, "reg_lambda"),
    "below zero": ({"min_child_weight": "-1"}, "min_child_weight"),
    "too deep for an exact explanation": ({"max_depth": "5"}, "max_depth"),
    "no trees": ({"most_trees": "0"}, "most_trees"),
    "a share above one": ({"subsample": "1.5"}, "subsample"),
    "null": ({"seed": None}, "seed"),
    "a list": ({"seed": ["1"]}, "seed"),
    "truth": ({"seed": True}, "seed"),
    "another currency": ({"currency": "XXX"}, "currency"),
    "a list of them": (["seed"], "hyperparameters.json"),
    "half a file": (b'{"seed": ', "hyperparameters.json"),
    "no text": (b"\xff\xfe\x00", "hyperparameters.json"),
    "a long name": ({"x" * 5_000: "1"}, "xxx"),
}


@pytest.mark.parametrize("case", BAD_HYPERPARAMETERS)
def test_an_unknown_or_malformed_hyperparameter_is_refused_by_name(case, base, capsys):
    hyperparameters, name = BAD_HYPERPARAMETERS[case]
    stated(base, SMALL | hyperparameters if isinstance(hyperparameters, dict) else hyperparameters)
    assert run(base) == 1
    assert name in failure(base)
    assert failure(base) in capsys.readouterr().err


def changed(dataset: Dataset, **columns: Any) -> Callable[[Path], None]:
    return replace(dataset, **columns).save


def day_of(directory: Path) -> Path:
    return min((directory / DAYS).iterdir())


def without(column: str) -> Callable[[Path], None]:
    def write(directory: Path) -> None:
        for day in (directory / DAYS).iterdir():
            pyarrow.parquet.write_table(pyarrow.parquet.read_table(day).drop_columns(column), day)

    return write


def typed(column: str, kind: pa.DataType) -> Callable[[Path], None]:
    """Write a column as text or numbers of another kind."""

    def write(directory: Path) -> None:
        for day in (directory / DAYS).iterdir():
            table = pyarrow.parquet.read_table(day)
            text = pa.array([SECRET if kind == pa.string() else 7] * len(table), kind)
            pyarrow.parquet.write_table(table.set_column(table.schema.get_field_index(column), column, text), day)

    return write


def stating(**said: Any) -> Callable[[Path], None]:
    def write(directory: Path) -> None:
        path = directory / STATED
        path.write_text(json.dumps({n: v for n, v in (json.loads(path.read_text()) | said).items() if v is not None}))

    return write


def of_day(content: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """Change the bytes of the first day's file."""
    return lambda directory: day_of(directory).write_bytes(content(day_of(directory).read_bytes()))  # type: ignore[return-value]


BAD_DATASETS: dict[str, tuple[Callable[[Dataset], Callable[[Path], None]], str]] = {
    "missing": (lambda _: lambda directory: (directory / STATED).unlink(), "has no dataset.json"),
    "without a day": (lambda _: lambda directory: day_of(directory).unlink(), "lacks 2026-03-01"),
    "empty": (lambda _: of_day(lambda _: b""), "cannot be read"),
    "text": (lambda _: of_day(lambda _: SECRET.encode()), "cannot be read"),
    "cut": (lambda _: of_day(lambda text: text[:5_000]), "cannot be read"),
    "not json": (lambda _: lambda directory: (directory / STATED).write_text(SECRET), "cannot be read"),
    "no object": (lambda _: lambda directory: (directory / STATED).write_text("[7]"), "cannot be read"),
    "without a column": (lambda _: without("amount"), "cannot be read"),
    "without a fingerprint": (lambda _: stating(fingerprint=None), "other features"),
    "without its days": (lambda _: stating(days=None), "cannot be read"),
    "unfinished": (lambda _: stating(finished=False), "not finished"),
    "text in a column": (lambda _: typed("amount", pa.string()), "the column amount"),
    "text in features": (lambda _: typed("features", pa.string()), "cannot be read"),
    "a number for each row of features": (lambda _: typed("features", pa.float32()), "cannot be read"),
    "an infinite feature": (lambda dataset: changed(dataset, features=dataset.features + np.float32(np.inf)), "finite"),
    "another currency": (lambda _: stating(currency=SECRET), "currency"),
    "no currency": (lambda _: stating(currency=None), "cannot be read"),
    "no fraud": (lambda dataset: changed(dataset, known_from=np.full(len(dataset), NEVER)), "honest"),
    "too few days": (
        lambda dataset: lambda directory: (shutil.rmtree(directory), dataset.take(np.arange(100)).save(directory)),
        "days leave no more than",
    ),
}


@pytest.mark.parametrize("case", BAD_DATASETS)
def test_a_dataset_that_cannot_be_fitted_is_refused_in_words_that_quote_no_value_of_it(case, dataset, base, capsys):
    write, words = BAD_DATASETS[case]
    write(dataset)(base / "input" / "data" / "train")
    assert run(base) == 1
    assert words in failure(base)
    assert SECRET not in capsys.readouterr().err


def test_the_message_of_a_library_is_not_quoted_but_its_place_is_named(base, capsys):
    def main(_: Sequence[str]) -> None:
        float(SECRET)

    assert run(base, main=main) == 1
    assert failure(base).startswith("ValueError at container.py, line ")
    assert SECRET not in capsys.readouterr().err


def test_a_full_disk_leaves_no_half_of_a_model(base):
    def write(directory: Path) -> None:
        (directory / "trees.json").write_bytes(b"{}")
        raise OSError(28, "No space left on device", str(directory / "model.ubj"))

    assert run(base, main=lambda _: container.publish(write, base / "model")) == 1
    assert failure(base) == "No space left on device: model.ubj"


def test_a_stopped_job_leaves_no_half_of_a_model_and_says_so(base):
    def write(directory: Path) -> None:
        (directory / "trees.json").write_bytes(b"{}")
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    assert run(base, main=lambda _: container.publish(write, base / "model")) == 143
    assert "SIGTERM" in failure(base)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_stop_that_comes_while_the_model_is_moved_in_comes_too_late(base):
    moves: list[str] = []

    def stop_at_the_first_move(event: str, _: object) -> None:  # a hook stays for ever, and does nothing afterwards
        if event == "os.rename" and not moves:
            moves.append(event)
            os.kill(os.getpid(), signal.SIGTERM)

    def write(directory: Path) -> None:
        for name in FILES:
            (directory / name).write_bytes(name.encode())

    sys.addaudithook(stop_at_the_first_move)
    assert run(base, main=lambda _: container.publish(write, base / "model")) == 0
    assert moves
    assert sorted(path.name for path in (base / "model").iterdir()) == FILES
    assert not (base / "output").exists()


def test_a_model_is_published_whole_with_its_manifest_last(tmp_path, dataset):
    model, _ = training.train(
        dataset, training.Hyperparameters(most_trees=2, delay_days=1, test_days=1, max_bin=16), {}
    )
    container.publish(model.write, tmp_path / "model")
    container.publish(model.write, tmp_path / "model")
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == FILES
    Trees.load(*((tmp_path / "model" / name).read_bytes() for name in ("trees.json", "manifest.json")))


def test_elsewhere_than_in_a_job_training_simply_runs_and_its_errors_are_pythons(tmp_path):
    def main(arguments: Sequence[str]) -> None:
        raise ValueError(*arguments)

    with pytest.raises(ValueError, match="as given"):
        container.run(main, KNOWN, ["as given"], {})
    assert list(tmp_path.iterdir()) == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)
NAMES = st.sampled_from([*sorted(KNOWN), *SCRIPT_MODE]) | st.text(max_size=8)


@given(st.dictionaries(NAMES, JSON, max_size=3).map(lambda drawn: json.dumps(drawn).encode()) | st.binary(max_size=30))
def test_no_hyperparameters_make_a_job_raise_or_end_without_a_reason(tmp_path_factory, text):
    base = tmp_path_factory.mktemp("job")
    stated(base, text)
    code = run(base)
    assert code == 1  # there is no channel
    assert failure(base)
