"""SageMaker's training and processing jobs in the box: processes that run the project's own scripts.

moto keeps a job and calls it completed at once. Here it runs: its inputs are copied from S3 into the directories of a
container, under a directory of its own instead of /opt/ml; the entry point runs with this interpreter, under the job's
time limit; and its outputs are copied back. So a script sees what it sees on AWS, except for the image, the instance
and the isolated network. A file `kill-<part of a name>` in the directory of faults kills the next job of such a name.
"""

import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from local.workflows.jobs import JobRefusedError

ROOT = Path(__file__).parents[2]
CONTAINER = "/opt/ml"
NAMES = {"createProcessingJob": "ProcessingJobName", "createTrainingJob": "TrainingJobName"}
TAIL = 1_000
"""Characters of a failure's reason."""

LOOK_S = 0.05


class ProcessJobs:
    """The jobs, as processes on this machine.

    faults  directory of faults; None: there are none
    s3      makes a client of S3
    """

    s3: Callable[[], Any]

    def __init__(self, faults: Path | None = None) -> None:
        self._faults = faults
        self._found: dict[str, Mapping[str, Any] | None] = {}
        self._running: set[subprocess.Popen[bytes]] = set()

    def start(self, api: str, request: Mapping[str, Any]) -> str:
        """Start a job in the background, and return its name."""
        if api not in NAMES:
            raise JobRefusedError(f"the box has no service with {api}")
        name = str(request[NAMES[api]])
        if name in self._found:
            raise JobRefusedError(f"ResourceInUse: {name}")
        self._found[name] = None
        threading.Thread(target=self._carry_out, args=(api, name, request), daemon=True).start()
        return name

    def ended(self, api: str, name: str) -> Mapping[str, Any] | None:
        """Return the description of a job that is over; None while it runs."""
        del api
        return self._found[name]

    def end(self) -> None:
        """Kill all jobs that still run."""
        for process in tuple(self._running):
            process.kill()

    def _carry_out(self, api: str, name: str, request: Mapping[str, Any]) -> None:
        with tempfile.TemporaryDirectory(prefix="job-") as scratch:
            run = self._processing if api == "createProcessingJob" else self._training
            try:
                status, reason = run(Path(scratch), name, request)
            except Exception as error:  # noqa: BLE001 - whatever it is, the job has failed of it
                status, reason = "Failed", f"{type(error).__name__}: {error}"
        if reason:
            print(f"job {name}: {status}: {reason}", file=sys.stderr, flush=True)
        self._found[name] = {NAMES[api]: name, "Status": status, "FailureReason": reason[-TAIL:]}

    # ---- the two kinds -------------------------------------------------------------------------------------------

    def _processing(self, scratch: Path, name: str, request: Mapping[str, Any]) -> tuple[str, str]:
        for each in request.get("ProcessingInputs", ()):
            source = each["S3Input"]
            self._download(source["S3Uri"], source["S3DataType"], _inside(scratch, source["LocalPath"]))
        outputs = [each["S3Output"] for each in request["ProcessingOutputConfig"]["Outputs"]]
        for each in outputs:
            _inside(scratch, each["LocalPath"]).mkdir(parents=True, exist_ok=True)
        container = request["AppSpecification"]
        arguments = [
            str(_inside(scratch, each)) if each.startswith(CONTAINER) else each
            for each in container.get("ContainerArguments", ())
        ]
        done = self._run(name, [*container["ContainerEntrypoint"], *arguments], {}, request)
        if done[0] == "Completed":
            for each in outputs:
                self._upload(_inside(scratch, each["LocalPath"]), each["S3Uri"])
        return done

    def _training(self, scratch: Path, name: str, request: Mapping[str, Any]) -> tuple[str, str]:
        config = scratch / "input" / "config"
        config.mkdir(parents=True)
        (config / "hyperparameters.json").write_text(json.dumps(request.get("HyperParameters", {})))
        for channel in request["InputDataConfig"]:
            source = channel["DataSource"]["S3DataSource"]
            self._download(source["S3Uri"], source["S3DataType"], scratch / "input" / "data" / channel["ChannelName"])
        entry = request["AlgorithmSpecification"]["ContainerEntrypoint"]
        done = self._run(name, entry, {"SAGEMAKER_BASE_DIR": str(scratch)}, request)
        if done[0] == "Completed":
            packed = io.BytesIO()
            with tarfile.open(fileobj=packed, mode="w:gz") as archive:
                for path in sorted((scratch / "model").iterdir()):
                    archive.add(path, path.name)
            bucket, key = _address(request["OutputDataConfig"]["S3OutputPath"])
            self._s3.put_object(Bucket=bucket, Key=f"{key}/{name}/output/model.tar.gz", Body=packed.getvalue())
            return done
        failure = scratch / "output" / "failure"
        return done[0], failure.read_text() if failure.exists() else done[1]

    def _run(
        self, name: str, command: Sequence[str], variables: Mapping[str, str], request: Mapping[str, Any]
    ) -> tuple[str, str]:
        """Run the entry point, and return the job's status and why it has failed."""
        python, *arguments = command
        if python != "python3":
            raise ValueError(f"an entry point that is no Python: {python}")
        kept = {each: os.environ[each] for each in ("PATH", "HOME", "LANG", "TMPDIR") if each in os.environ}
        limit = time.monotonic() + int(request["StoppingCondition"]["MaxRuntimeInSeconds"])
        with tempfile.TemporaryFile() as said:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=ROOT,
                env={**kept, "OMP_NUM_THREADS": "1", **variables},
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
            )
            self._running.add(process)
            status = ""
            while process.poll() is None:
                if self._is_to_die(name):
                    process.kill()
                elif time.monotonic() > limit:
                    status = "Stopped"
                    process.kill()
                time.sleep(LOOK_S)
            self._running.discard(process)
            said.seek(0)
            text = said.read().decode(errors="replace")
        if process.returncode == 0:
            return "Completed", ""
        return status or "Failed", text[-TAIL:] or f"exit code {process.returncode}"

    def _is_to_die(self, name: str) -> bool:
        for path in self._faults.glob("kill-*") if self._faults is not None else ():
            if path.name.removeprefix("kill-") in name:
                path.unlink(missing_ok=True)
                return True
        return False

    # ---- S3 ------------------------------------------------------------------------------------------------------

    def _download(self, uri: str, kind: str, target: Path) -> None:
        """Copy what an input names: all objects under a prefix, or those of a manifest."""
        target.mkdir(parents=True, exist_ok=True)
        bucket, key = _address(uri)
        if kind == "ManifestFile":
            (root, *keys) = json.loads(self._s3.get_object(Bucket=bucket, Key=key)["Body"].read())
            bucket, prefix = _address(root["prefix"])
            found: Iterator[tuple[str, str]] = ((f"{prefix}{each}", each) for each in keys)
        else:
            pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=key)
            names = [each["Key"] for page in pages for each in page.get("Contents", ())]
            if not names:
                raise ValueError(f"no object under {uri}")
            found = ((each, each.removeprefix(key).lstrip("/")) for each in names)
        for each, place in found:
            path = target / place
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self._s3.get_object(Bucket=bucket, Key=each)["Body"].read())

    def _upload(self, source: Path, uri: str) -> None:
        bucket, key = _address(uri)
        for path in sorted(each for each in source.rglob("*") if each.is_file()):
            place = f"{key.rstrip('/')}/{path.relative_to(source).as_posix()}"
            self._s3.put_object(Bucket=bucket, Key=place, Body=path.read_bytes())

    @property
    def _s3(self) -> Any:  # noqa: ANN401 - boto3 has no types
        return self.s3()


def _inside(scratch: Path, path: str) -> Path:
    """Return the place of a container's path in the box.

    >>> _inside(Path("/tmp/job"), "/opt/ml/processing/dataset").as_posix()
    '/tmp/job/processing/dataset'
    """
    return scratch / path.removeprefix(CONTAINER).lstrip("/")


def _address(uri: str) -> tuple[str, str]:
    """Return bucket and key of an address.

    >>> _address("s3://bucket/a/b")
    ('bucket', 'a/b')
    """
    parts = urlsplit(uri)
    return parts.netloc, parts.path.lstrip("/")
