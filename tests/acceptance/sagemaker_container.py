"""Train and serve a model as the containers of SageMaker do, as plain processes and through their toolkits.

`python -m tests.acceptance.sagemaker_container` trains the same dataset twice: as the entry of a container, and by the
`train` command of the toolkit `sagemaker-training`. Trees, metrics and evaluation must be equal. Broken input must end
both with the same failure file and exit code. Then the model is served by the box's model server, by gunicorn and flask
as a framework container wires them, and by the handler of the toolkit `sagemaker-inference`. All must give the same
answers, and their scores must be those of the embedded model. `make sagemaker` sets the toolkits up.
"""

import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.flask_container import Gunicorn
from fraud.scoring.trees import Trees
from local.sagemaker.model_server import Serving
from models.serving import inference
from models.simulation.simulate import DEFAULT_START, simulate
from models.training.columns import Dataset

ROOT = Path(__file__).parents[2]
TOOLKITS = ROOT / ".sagemaker-venv" / "bin"
TIMEOUT_S = 300
"""Seconds that a training job may take. The toolkit looks its hosts up for a quarter of an hour."""

DAYS, PAYERS = 12, 200
HYPERPARAMETERS = {"most_trees": "25", "delay_days": "2", "test_days": "2", "max_bin": "256", "currency": '"JPY"'}
FILES = ("manifest.json", "trees.json", "baseline.json", "model.ubj")
PARITY = 1e-6

Train = Callable[[Path], int]
Answer = tuple[int, str]


class Request(NamedTuple):
    """A body and its content type."""

    body: bytes
    content_type: str = inference.JSON


# --- training ---------------------------------------------------------------------------------------------------------


def job(base: Path, dataset: Path | None, hyperparameters: Mapping[str, str]) -> Path:
    """Lay out the directories of a training job as SageMaker does, and return them. None leaves the channel empty."""
    for directory in ("input/config", "input/data/train", "model", "output"):
        (base / directory).mkdir(parents=True)
    if dataset is not None:
        shutil.copytree(dataset, base / "input" / "data" / "train", dirs_exist_ok=True)
    script_mode = {"sagemaker_program": '"models/training/train.py"', "sagemaker_job_name": '"job-7"'}
    for name, stated in (
        ("hyperparameters", {**hyperparameters, **script_mode}),
        ("resourceconfig", {"current_host": "localhost", "hosts": ["localhost"]}),  # a name that every machine knows
        ("inputdataconfig", {"train": {"TrainingInputMode": "File"}}),
    ):
        (base / "input" / "config" / f"{name}.json").write_text(json.dumps(stated), encoding="utf-8")
    return base


def plain(base: Path) -> int:
    """Run training as the entry of a container, and return its exit code."""
    return _ran([sys.executable, "-m", "models.training.train", "train"], {"SAGEMAKER_BASE_DIR": str(base)}, base)


def through_toolkit(base: Path) -> int:
    """Run training by the toolkit's command, on a copy of the sources, and return its exit code."""
    source = base.parent / f"{base.name}-source"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "models", source / "models", ignore=ignored)
    shutil.copytree(ROOT / "layers" / "shared" / "fraud", source / "fraud", ignore=ignored)
    stated = json.loads((base / "input" / "config" / "hyperparameters.json").read_bytes())
    stated["sagemaker_submit_directory"] = json.dumps(str(source))
    (base / "input" / "config" / "hyperparameters.json").write_text(json.dumps(stated), encoding="utf-8")
    variables = {
        "SAGEMAKER_BASE_DIR": str(base),
        "SAGEMAKER_PROGRAM": "models/training/train.py",
        "SAGEMAKER_SUBMIT_DIRECTORY": str(source),
    }
    return _ran([str(TOOLKITS / "train")], variables, base)


def _ran(command: Sequence[str], variables: Mapping[str, str], base: Path) -> int:
    """Run a command in an environment without other variables of SageMaker or Python, and return its exit code."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith(("SM_", "SAGEMAKER_", "PYTHON"))}
    with (base / "log").open("wb") as log:
        return subprocess.run(
            command, env=kept | variables, cwd=ROOT, stdout=log, stderr=log, check=False, timeout=TIMEOUT_S
        ).returncode


def same_models(bases: Sequence[Path]) -> bool:
    """Print the metrics of the trained models, and tell whether files, metrics and evaluations are equal."""
    files = [[(base / "model" / name).read_bytes() for name in FILES] for base in bases]
    evaluations = [(base / "output" / "data" / "evaluation.txt").read_text() for base in bases]
    manifests = [json.loads(manifest) for manifest, *_ in files]
    for base, manifest in zip(bases, manifests, strict=True):
        precision = manifest["metrics"].get("average_precision")
        print(f"trained, {base.name}: {manifest['version']}, average precision {precision}")
    return all(each == files[0] for each in files) and len(set(evaluations)) == 1


def cut(dataset: Path, to: Path) -> Path:
    """Return a copy of a dataset whose first day is cut in half."""
    shutil.copytree(dataset, to)
    day = min((to / "days").iterdir())
    day.write_bytes(day.read_bytes()[: day.stat().st_size // 2])
    return to


def broken(dataset: Path) -> dict[str, tuple[Path | None, Mapping[str, str]]]:
    """Return jobs that must fail: by name, dataset and hyperparameters."""
    return {
        "no dataset": (None, HYPERPARAMETERS),
        "a dataset that is cut": (cut(dataset, dataset.parent / "cut"), HYPERPARAMETERS),
        "a malformed hyperparameter": (dataset, HYPERPARAMETERS | {"max_bin": "many"}),
        "a hyperparameter beyond its limit": (dataset, HYPERPARAMETERS | {"max_depth": "9"}),
        "too few days": (dataset, HYPERPARAMETERS | {"delay_days": "9"}),
    }


def failed(directory: Path, dataset: Path, ways: Mapping[str, Train]) -> bool:
    """Run the broken jobs in each way, and print the reasons.

    Return True if each job ends with exit code 1, without a model, and all ways with the same short failure file.
    """
    sound = True
    for case, (given, hyperparameters) in broken(dataset).items():
        reasons = set()
        for name, train in ways.items():
            base = job(directory / f"{case}, {name}".replace(" ", "-"), given, hyperparameters)
            code = train(base)
            reasons.add((base / "output" / "failure").read_text() if (base / "output" / "failure").exists() else "")
            sound &= code == 1 and not list((base / "model").iterdir())
        sound &= len(reasons) == 1 and all(0 < len(reason) <= 1024 for reason in reasons)
        print(f"failed, {case}: {' | '.join(sorted(reasons))}")
    return sound


# --- serving ----------------------------------------------------------------------------------------------------------


def requests(dataset: Dataset, manifest: Mapping[str, Any]) -> list[Request]:
    """Return requests of every kind: good rows, rows that cannot be scored, and bodies that are refused."""
    rows = [[None if x != x else x for x in row] for row in dataset.features[:100].tolist()]  # noqa: PLR0124 - NaN
    question = {"fingerprint": manifest["fingerprint"], "rows": rows}
    mixed = [rows[0], rows[1][1:], ["1", *rows[2][1:]], [1e39, *rows[3][1:]], None, rows[4]]
    return [
        Request(json.dumps(question).encode()),
        Request(json.dumps(question | {"rows": mixed}).encode()),
        Request(json.dumps(question | {"rows": []}).encode()),
        Request(json.dumps(question | {"fingerprint": "0" * 16}).encode()),
        Request(json.dumps(question).encode()[:-7]),
        Request(b"[]"),
        Request(b""),
        Request(b"1,2\n", "text/csv"),
    ]


def ask(url: str, asked: Sequence[Request]) -> list[Answer]:
    """Return the answers of a server to /ping and then to /invocations."""
    with urllib.request.urlopen(f"{url}/ping", timeout=60) as ping:  # noqa: S310 - our own server
        found: list[Answer] = [(ping.status, ping.read().decode())]
    for body, content_type in asked:
        sent = urllib.request.Request(f"{url}/invocations", body, {"content-type": content_type})  # noqa: S310
        with urllib.request.urlopen(sent, timeout=60) as response:  # noqa: S310
            found.append((response.status, response.read().decode()))
    return found


@contextmanager
def model_server(model: Path) -> Iterator[str]:
    """Serve the model by the box's model server, and yield its address."""
    with Serving(inference.model_fn(str(model))) as serving:
        yield serving.url


def by_model_server(model: Path, asked: Sequence[Request]) -> list[Answer]:
    """Return the answers of the box's model server."""
    with model_server(model) as url:
        return ask(url, asked)


def by_gunicorn(model: Path, asked: Sequence[Request]) -> list[Answer]:
    """Return the answers of gunicorn and flask."""
    with Gunicorn(model) as gunicorn:
        return ask(gunicorn.url, asked)


def by_toolkit(model: Path, asked: Sequence[Request]) -> list[Answer]:
    """Return the answers of the toolkit's handler, after one for /ping: its server in Java is not installed."""
    (model / "code").mkdir(exist_ok=True)
    shutil.copy(inference.__file__, model / "code" / "inference.py")
    lines = [
        json.dumps({"body": base64.b64encode(body).decode(), "content_type": content_type})
        for body, content_type in asked
    ]
    handler = Path(__file__).with_name("sagemaker_handler.py")
    done = subprocess.run(
        [TOOLKITS / "python", handler, model],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(model / "code")},
        input="\n".join(lines),
        capture_output=True,
        text=True,
        check=True,
        timeout=TIMEOUT_S,
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    return [(200, ""), *((answer["status"], answer["body"]) for answer in answers)]


def served(model: Path, dataset: Dataset, ways: Mapping[str, Callable[..., list[Answer]]]) -> bool:
    """Ask the model in each way, and print what was answered.

    Return True if every answer is a 200, all ways answer the same, rows are null where they cannot be scored, and all
    other scores are those of the embedded model.
    """
    trees = Trees.load(*((model / name).read_bytes() for name in ("trees.json", "manifest.json")))
    asked = requests(dataset, json.loads((model / "manifest.json").read_bytes()))
    answers = {name: answer(model, asked) for name, answer in ways.items()}
    first = next(iter(answers.values()))
    scores, mixed = (json.loads(text)["scores"] for _, text in first[1:3])
    embedded = [trees.score(tuple(row)) for row in dataset.features[: len(scores)].tolist()]
    difference = max(abs(one - other) for one, other in zip(scores, embedded, strict=True))
    for name, found in answers.items():
        print(f"served, {name}: {len(found)} answers, statuses {sorted({status for status, _ in found})}")
    print(f"served: {len(scores)} scores differ from the embedded model's by {difference:.1e} at most; {mixed}")
    refused = [json.loads(text)["refused"] for _, text in first[3:]]
    return (
        all(found == first for found in answers.values())
        and {status for status, _ in first} == {200}
        and difference <= PARITY
        and [score is None for score in mixed] == [False, True, True, True, True, False]
        and refused == ["rows", "fingerprint", "json", "rows", "json", "content_type"]
    )


def main() -> int:
    """Run, and print the figures. Return 0 if all is equal."""
    if not (TOOLKITS / "train").exists():
        print("the toolkits are not installed: make sagemaker")
        return 1
    dataset = Dataset.build(simulate(5, DEFAULT_START, DAYS, PAYERS))
    with tempfile.TemporaryDirectory(prefix="sagemaker-") as name:
        directory = Path(name)
        saved = directory / "dataset"
        dataset.save(saved)
        ways: Mapping[str, Train] = {"plain": plain, "toolkit": through_toolkit}
        bases = [job(directory / way, saved, HYPERPARAMETERS) for way in ways]
        codes = [train(base) for train, base in zip(ways.values(), bases, strict=True)]
        if any(codes):
            print(f"training ended with {codes}:\n" + "\n".join((base / "log").read_text()[-2000:] for base in bases))
            return 1
        answering = {"model server": by_model_server, "gunicorn and flask": by_gunicorn, "toolkit": by_toolkit}
        checks = {
            "both trainings write the same model": same_models(bases),
            "both trainings refuse broken input for the same reason": failed(directory, saved, ways),
            "all servers give the same answers": served(bases[0] / "model", dataset, answering),
        }
    for words, sound in checks.items():
        print(f"{words}: {'yes' if sound else 'NO'}")
    return int(not all(checks.values()))


if __name__ == "__main__":
    sys.exit(main())
