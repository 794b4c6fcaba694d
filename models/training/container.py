"""The contract of a SageMaker training container: its directories and hyperparameters, and how it says why it failed.

`run` carries out `python -m models.training.train` as the entry of a container. SageMaker's directories stand under
SAGEMAKER_BASE_DIR, or under /opt/ml:

input/config/hyperparameters.json  text by name
input/data/train                   the channel with the dataset
model                              the trained model; SageMaker keeps it as model.tar.gz
output/data                        the evaluation
output/failure                     why the job failed, in one line

The toolkit `sagemaker-training` reads the same directories, calls the script with SM_* variables, and gives it the
hyperparameters as arguments. It keeps a failure file that exists, so both ways end with the same reason (D-091).
"""

import argparse
import json
import math
import re
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from fraud.errors import FraudError
from fraud.scoring import features
from fraud.scoring.trees import MOST_BRANCHES
from fraud.transaction import UNITS
from models.datasets.history import HistoryError
from models.training.columns import COLUMNS, STATED, Dataset

BASE = Path("/opt/ml")
FAILED, STOPPED = 1, 128 + signal.SIGTERM
"""Exit codes of a job that failed, and of one that was stopped."""

LONGEST = 1024
"""Characters of a failure's reason that SageMaker shows."""

OURS = {"models", "fraud", "__main__"}
"""Packages whose messages hold no data: a library's message may quote a value of the dataset."""

LIMITS: Mapping[str, tuple[float, float]] = {
    "max_depth": (1, MOST_BRANCHES),
    "learning_rate": (1e-6, 1),
    "subsample": (1e-6, 1),
    "colsample_bynode": (1e-6, 1),
    "max_bin": (2, 2**16),
    "away_share": (0, 1),
    "most_trees": (1, 10_000),
    "test_days": (1, 10_000),
    "delay_days": (0, 10_000),
    "seed": (0, 2**31 - 1),
    "trials": (0, 10_000),
    "friction": (0, 1),
    "reviews": (0, 1),
    "precision": (0, 1),
    "base_rate": (0, 0.5),
}
"""Least and most value of a hyperparameter. Any other is finite and not below 0."""

KINDS: Mapping[str, str] = {"features": "f", "asked": "b", "rules": "i"} | dict.fromkeys(
    ("payer", "payee", "occurred_at", "known_from", "known_until", "amount"), "i"
)
"""numpy's kinds of a dataset's columns. Any other column holds text."""


class Ended(SystemExit):
    """The end of a job by its own will: the exit code, and the reason in our words."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code)
        self.reason = reason


class Parser(argparse.ArgumentParser):
    """An argument parser that takes whole names only. Its refusal is an `Ended`, which a job's failure file quotes."""

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - argparse's own
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        """Print the usage and the message, as argparse does, and raise Ended."""
        self.print_usage(sys.stderr)
        sys.stderr.write(f"{self.prog}: error: {message}\n")
        raise Ended(2, message)


def hyperparameter(name: str, kind: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return the argparse type of a hyperparameter, which parses its text and holds a number to its limits.

    >>> hyperparameter("max_depth", int)("3")
    3
    >>> hyperparameter("learning_rate", float)("nan")
    Traceback (most recent call last):
    argparse.ArgumentTypeError: nan is not between 1e-06 and 1
    """
    least, most = LIMITS.get(name, (0, math.inf))

    def parsed(text: str) -> Any:  # noqa: ANN401 - of the given kind
        value = kind(text)
        if isinstance(value, int | float) and not (least <= value <= most and math.isfinite(value)):
            raise argparse.ArgumentTypeError(f"{value} is not between {least} and {most}")
        return value

    parsed.__name__ = getattr(kind, "__name__", "")  # argparse names it when the text is no such number
    return parsed


def run(
    main: Callable[[Sequence[str]], None],
    known: Collection[str],
    arguments: Sequence[str],
    environment: Mapping[str, str],
) -> int:
    """Run training as a job of SageMaker, or simply run it where there is no job. Return the exit code.

    Explicit arguments win over the job's directories and hyperparameters. A job never raises: its failure file says why
    it failed. When SageMaker ends it with SIGTERM, the model's directory stays as it was, or the model is whole.

    main   training, called with arguments
    known  names of hyperparameters
    """
    base = _base(environment)
    output = environment.get("SM_OUTPUT_DIR") or (base and base / "output")
    if output is None:
        main(arguments)
        return 0
    try:
        with _stoppable():
            of_the_job = [] if base is None else list(_arguments(base, known, environment))
            called_as = (
                1 if base is not None and arguments[:1] == ["train"] else 0
            )  # SageMaker's: docker run IMAGE train
            main([*of_the_job, *arguments[called_as:]])
    except Exception as error:  # noqa: BLE001 - the failure file reports it
        return _failed(error, FAILED, Path(output))
    except SystemExit as ended:
        if ended.code:
            return _failed(ended, STOPPED if ended.code == STOPPED else FAILED, Path(output))
    return 0


def _base(environment: Mapping[str, str]) -> Path | None:
    if "SAGEMAKER_BASE_DIR" in environment:
        return Path(environment["SAGEMAKER_BASE_DIR"])
    return BASE if (BASE / "input").is_dir() else None  # a container that only serves has no input


def _arguments(base: Path, known: Collection[str], environment: Mapping[str, str]) -> Iterator[str]:
    """Yield what the job's directories say, as arguments of training, except what the toolkit says itself."""
    for variable, option, directory in (
        ("SM_CHANNEL_TRAIN", "train", base / "input" / "data" / "train"),
        ("SM_MODEL_DIR", "out", base / "model"),
        ("SM_OUTPUT_DATA_DIR", "output-data", base / "output" / "data"),
    ):
        if variable not in environment:
            yield f"--{option}={directory}"
    if "SM_HPS" not in environment:
        yield from (f"--{name}={text}" for name, text in hyperparameters(base, known).items())


def hyperparameters(base: Path, known: Collection[str]) -> dict[str, str]:
    """Read the hyperparameters of a job. Those of script mode are left out.

    Raises ValueError, which names the hyperparameter, for an unknown one, and for a value that is no text or number.
    """
    path = base / "input" / "config" / "hyperparameters.json"
    if not path.exists():
        return {}
    try:
        stated = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        raise ValueError(f"{path.name} is not JSON") from None
    if not isinstance(stated, dict):
        raise ValueError(f"{path.name} is not an object")  # noqa: TRY004 - as every other fault of the file
    own = {name: value for name, value in stated.items() if not re.match("sagemaker_|_tuning_|default_user_", name)}
    for name, value in own.items():
        if name not in known:
            raise ValueError(f"hyperparameter {name!a}: unknown, not one of {', '.join(sorted(known))}")
        if type(value) not in {str, int, float}:
            raise ValueError(f"hyperparameter {name}: its value is not text")
    return {name: _plain(value) for name, value in own.items()}


def _plain(value: str | float) -> str:
    """Return the text of a value. SageMaker's SDK sends text as JSON, in quotes, and the toolkit takes them off.

    >>> _plain('"JPY"'), _plain("0.10"), _plain(3)
    ('JPY', '0.10', '3')
    """
    try:
        inner = json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        inner = None
    return inner if isinstance(inner, str) else str(value)


def load(channel: Path) -> Dataset:
    """Read and check the dataset of a channel. Raises ValueError, which quotes no value, when it cannot be fitted."""
    if not (channel / STATED).exists():
        raise ValueError(f"the channel {channel.name} has no {STATED}")
    try:
        dataset = Dataset.load(channel, unweighed=True)
    except HistoryError as error:  # of a job the channel's name says more than the container's directories
        raise ValueError(str(error).replace(str(channel), f"the channel {channel.name}")) from error
    except Exception as error:
        raise ValueError(f"the channel {channel.name} cannot be read: {type(error).__name__}") from error
    _check(dataset)
    return dataset


def _check(dataset: Dataset) -> None:
    """Raise ValueError, which quotes no value, when no model can be fitted to the dataset."""
    columns = {name: getattr(dataset, name) for name in COLUMNS}
    for name, column in columns.items():
        if column.dtype.kind not in KINDS.get(name, "T") or column.ndim != 1 + (name == "features"):
            raise ValueError(f"dataset: the column {name} is not of its kind")
    if dataset.features.shape[1] != len(features.NAMES) or np.isinf(dataset.features).any():
        raise ValueError(f"dataset: a row is not of {len(features.NAMES)} finite or missing features")
    if dataset.currency not in UNITS:
        raise ValueError("dataset: its currency is unknown")
    if len(set(dataset.fraud.tolist())) < 2:  # noqa: PLR2004 - honest and fraud
        raise ValueError("dataset: its payments are all honest, or all fraud")


def publish(write: Callable[[Path], None], directory: Path) -> None:
    """Let `write` write files aside, then move them into `directory`: all of them, or none when it fails.

    manifest.json comes last: without it there is no model. A SIGTERM during the moves comes too late to stop the job.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".writing-", dir=directory) as aside:
        write(Path(aside))
        with _handling(signal.SIG_IGN):
            for path in sorted(Path(aside).iterdir(), key=lambda path: path.name == "manifest.json"):
                path.replace(directory / path.name)


@contextmanager
def _handling(handler: Any) -> Iterator[None]:  # noqa: ANN401 - signal's own
    """Handle SIGTERM so while the block lasts. Only the main thread can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _stoppable() -> Iterator[None]:
    """Let SIGTERM end the job. A container's first process ignores it unless it handles it."""

    def stop(*_: object) -> NoReturn:
        raise Ended(STOPPED, "stopped by SIGTERM before the model was written")

    with _handling(stop):
        yield


def _failed(error: BaseException, code: int, output: Path) -> int:
    """Report why the job failed, in the log and in the failure file, and return the exit code."""
    told = reason(error)
    way = [] if isinstance(error, SystemExit) else traceback.format_tb(error.__traceback__)
    sys.stderr.write("".join([*way, f"{type(error).__name__}: {told}\n"]))
    output.mkdir(parents=True, exist_ok=True)
    (output / "failure").write_text(told, encoding="utf-8")
    return code


def reason(error: BaseException) -> str:
    """Return the reason of a failure: one line of our own words, which holds no value of the dataset."""
    words = error.reason if isinstance(error, Ended) else str(error)
    if isinstance(error, SystemExit):
        pass
    elif isinstance(error, OSError):
        words = f"{error.strerror or type(error).__name__}: {Path(str(error.filename or '')).name}"
    elif not _is_ours(error):
        places = [(frame, line) for frame, line in _frames(error) if _package(frame) in OURS]
        frame, line = places[-1]  # there is one: `run` is ours
        words = f"{type(error).__name__} at {Path(frame.f_code.co_filename).name}, line {line}; see the job's log"
    return " ".join(words.split())[:LONGEST]


def _is_ours(error: BaseException) -> bool:
    """Tell whether our own code raised the error with a message of its own."""
    frames = list(_frames(error))
    return (type(error) is ValueError or isinstance(error, FraudError | HistoryError)) and _package(
        frames[-1][0]
    ) in OURS


def _frames(error: BaseException) -> Iterator[tuple[Any, int]]:
    return traceback.walk_tb(error.__traceback__)


def _package(frame: Any) -> str:  # noqa: ANN401 - a frame
    return str(frame.f_globals.get("__name__")).partition(".")[0]
