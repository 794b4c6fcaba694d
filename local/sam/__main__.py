"""`make sam`: build with SAM what would be deployed, and run it in containers with AWS's own runtime client.

It is a second opinion on the box (`make up`), which hosts handlers itself: here layers, runtime and routing are SAM's,
and the other AWS services are the emulator's. It tells whether they work, not how fast they are. Every function runs
once by `sam local invoke`; its other sample events go to one `sam local start-lambda`; and one payment goes over HTTP,
through `sam local start-api`.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path
from socket import create_server
from typing import NamedTuple
from urllib.parse import urlsplit

from samtranslator.yaml_helper import yaml_parse

from local.account.background import background
from local.account.boto import KEY_ID, REGION, SECRET
from local.account.emulator import TEMPLATE, Emulator
from local.account.stack import Function
from local.sam import base_image, container_engine, sample_events

ROOT = TEMPLATE.parent
# A virtual environment of its own, because sam pins boto3.
SAM, SAM_PYTHON = (str(ROOT / ".sam-venv" / "bin" / name) for name in ("sam", "python"))
PATIENCE_S = 120  # seconds for one response, the start of its container included
HOST = "host.docker.internal"  # the name of this machine in containers


class Invocation(NamedTuple):
    """One invocation: `what` was invoked, and the `fault` of its answer; empty if there is none."""

    what: str
    fault: str


class Stage(NamedTuple):
    """The surroundings in which functions run: `sam`'s environment, the options of every `sam local`, and logs."""

    env: dict[str, str]
    options: list[str]
    logs: Path


def main() -> int:
    """Run all invocations and print each, with the totals in the last line. Return the exit status."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # an exception, so that all is undone
    runtime: str = yaml_parse(TEMPLATE.read_text(encoding="utf-8"))["Globals"]["Function"]["Runtime"]
    if lacks := missing(runtime):
        print("`make sam` cannot run here, it lacks", *lacks, sep="\n- ", file=sys.stderr)
        return 1
    done = []
    with ExitStack() as undo:
        for invocation in invocations(*prepared(runtime, undo)):
            print(f"{invocation.what:<70} {invocation.fault or 'ok'}", flush=True)
            done.append(invocation)
    failed = sum(1 for invocation in done if invocation.fault)
    print(f"sam: {len(done)} invocations, {failed} failed")
    return 1 if failed else 0


def missing(runtime: str) -> list[str]:
    """Return what this machine lacks for `make sam`, in words for the user."""
    lacks = [] if runtime == base_image.PYTHON else [f"{runtime}, the functions' runtime (this is {base_image.PYTHON})"]
    lacks += [] if Path(SAM).exists() else [f"{SAM}, from requirements/sam.txt"]
    if not shutil.which("docker"):
        return [*lacks, "`docker` (Debian: apt-get install docker.io)"]
    return lacks if container_engine.runs(os.environ) else [*lacks, *container_engine.missing()]


def prepared(runtime: str, undo: ExitStack) -> tuple[tuple[Function, ...], Stage]:
    """Build the functions, and start the emulator and, if none runs, a container engine. `undo` ends both.

    Returns the functions, and the stage on which they run.
    """
    scratch = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="sam-")))
    env = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    env |= {"AWS_DEFAULT_REGION": REGION, "AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET}
    env |= {"SAM_CLI_TELEMETRY": "0", "PYTHON": SAM_PYTHON}  # PYTHON is for the dependencies layer
    run([SAM, "validate", "--lint"], env)
    run([SAM, "build"], env)
    options = [f"--add-host={HOST}:host-gateway"]
    if not container_engine.runs(env):
        env = undo.enter_context(container_engine.own_engine(scratch, env))
        image = f"public.ecr.aws/lambda/python:{runtime.removeprefix('python')}-x86_64"
        base_image.build(image, python=Path(SAM_PYTHON), lock=ROOT / "requirements" / "runtime.txt", env=env)
        options += ["--skip-pull-image"]
    address = (container_engine.bridge_address() or "127.0.0.1", 0)
    emulator = undo.enter_context(Emulator(scratch / "emulator.log", address=address))
    env |= {"AWS_ENDPOINT_URL_STS": emulator.url}  # else sam asks AWS for its identity, for twelve seconds
    endpoint = {"AWS_ENDPOINT_URL": f"http://{HOST}:{urlsplit(emulator.url).port}"}
    # The variables come from the emulator's CloudFormation, because sam cannot resolve an Fn::If with AWS::NoValue.
    variables = {function.name: {**function.environment, **endpoint} for function in emulator.stack.functions}
    (scratch / "variables.json").write_text(json.dumps(variables), encoding="utf-8")
    return emulator.stack.functions, Stage(env, [*options, f"--env-vars={scratch}/variables.json"], scratch)


def run(command: list[str], env: dict[str, str]) -> None:
    """Run one step of the preparation. If it fails, print its output and exit."""
    done = subprocess.run(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        sys.exit(f"{done.stdout.decode()}\n{' '.join(command)} failed")


def invocations(functions: tuple[Function, ...], stage: Stage) -> Iterator[Invocation]:
    """Invoke every function with each of its sample events, then the API; yield each invocation."""
    cases = {function.name: sample_events.of_handler(function.handler) for function in functions}
    for function, (first, *_) in cases.items():
        yield invoke(function, first, stage)
    with served("start-lambda", stage) as port:
        for function, (_, *others) in cases.items():
            for path in others:
                _, answer = request(port, "POST", f"/2015-03-31/functions/{function}/invocations", sample(path))
                yield Invocation(f"start-lambda {function} {path.name}", fault(path, answer))
    with served("start-api", stage) as port:
        yield from one_payment(port)


def invoke(function: str, path: Path, stage: Stage) -> Invocation:
    """Run a function once, in a container of its own, by `sam local invoke`."""
    command = [SAM, "local", "invoke", function, "--event=-", *stage.options]
    done = subprocess.run(
        command, input=sample(path), cwd=ROOT, env=stage.env, capture_output=True, timeout=PATIENCE_S, check=False
    )
    found = fault(path, done.stdout)
    return Invocation(f"invoke {function} {path.name}", f"{found}\n{done.stderr.decode()}" if found else "")


@contextmanager
def served(command: str, stage: Stage) -> Iterator[int]:
    """Run `sam local <command>` with warm containers while the block lasts. Yields its port on loopback."""
    with create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    server = [SAM, "local", command, f"--port={port}", "--warm-containers=EAGER", "--no-watch", *stage.options]
    with background(server, ready="Running on http", log=stage.logs / f"{command}.log", env=stage.env, cwd=ROOT):
        yield port


def one_payment(port: int) -> Iterator[Invocation]:
    """Send a payment over HTTP, send the same bytes again, then read its decision: the three answers must agree."""
    decide = sample_events.of_handler("decision_api.handler")[0]
    payment = json.loads(json.loads(sample(decide))["body"]) | {"transaction_id": "decided-by-start-api"}
    body = json.dumps(payment).encode()
    status, decision = request(port, "POST", "/decisions", body)
    decided = status == HTTPStatus.OK and json.loads(decision).get("transaction_id") == payment["transaction_id"]
    yield Invocation("start-api POST /decisions", "" if decided else f"{status} {decision!r}")
    again = request(port, "POST", "/decisions", body)
    yield Invocation("start-api POST /decisions, again", "" if again == (status, decision) else f"other: {again}")
    status, read = request(port, "GET", f"/decisions/{payment['transaction_id']}")
    agrees = status == HTTPStatus.OK and json.loads(read).get("decision") == json.loads(decision)
    yield Invocation("start-api GET /decisions/{transaction_id}", "" if agrees else f"{status} {read!r}")


def sample(path: Path) -> bytes:
    """Return the sample event in `path` as JSON, as it would be sent now."""
    return json.dumps(sample_events.load(path, datetime.now(UTC))).encode()


def fault(path: Path, answer: bytes) -> str:
    """Return what is wrong with a handler's `answer` to the event in `path`; empty when nothing is.

    A handler's exception shows only in the answer, neither in sam's exit status nor in a header.
    """
    try:
        as_announced = sample_events.answered_as_announced(path, json.loads(answer))
    except ValueError:
        as_announced = False
    return "" if as_announced else answer.decode(errors="replace") or "no answer"


def request(port: int, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    """Send one request to a server on loopback. Return status and body."""
    connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(main())
