"""`make sam`: what would be deployed, built by SAM and run in containers by AWS's own runtime client, against the emulator.

The second opinion on the account in a box (`make up`), which hosts handlers itself: here the layers, the runtime and the
routing are SAM's. It says whether they work, not how fast. Every function runs once by `sam local invoke`, its other
sample events by one `sam local start-lambda`, and one payment goes over HTTP through `sam local start-api`.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from samtranslator.yaml_helper import yaml_parse

from local import base_image, container_engine, events
from local.background import background

ROOT = Path(__file__).parent.parent
SAM, SAM_PYTHON = ROOT / ".sam-venv/bin/sam", ROOT / ".sam-venv/bin/python"  # sam pins boto3: an environment of its own
PATIENCE_S = 120  # for one invocation, its container's start included


class Invocation(NamedTuple):
    """One invocation: what was invoked and, unless empty, what was wrong with the answer."""

    what: str
    fault: str


class Stage(NamedTuple):
    """Where the functions run: the environment of `sam`, the options of every `sam local`, a directory for logs."""

    env: dict[str, str]
    options: list[str]
    logs: Path


def main() -> int:
    """Run the round and print it, the sum in the last line; returns the exit status."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything started is ended
    template = yaml_parse((ROOT / "template.yaml").read_text(encoding="utf-8"))
    runtime = template["Globals"]["Function"]["Runtime"]
    if lacks := missing(runtime):
        print("`make sam` cannot run here, it lacks:", *lacks, sep="\n- ", file=sys.stderr)
        return 1
    functions = {
        name: resource["Properties"]["Handler"]
        for name, resource in template["Resources"].items()
        if resource["Type"] == "AWS::Serverless::Function"
    }
    done = []
    with ExitStack() as undo:
        for invocation in invocations(functions, prepared(undo, runtime)):
            done.append(invocation)
            print(f"{invocation.what:<60} {invocation.fault or 'ok'}", flush=True)
    failed = sum(bool(invocation.fault) for invocation in done)
    print(f"sam: {len(done)} invocations, {failed} failed")
    return int(failed > 0)


def missing(runtime: str) -> list[str]:
    """Return what this machine lacks for the round, in words for the person at the keyboard."""
    lacks = [] if runtime == base_image.PYTHON else [f"{runtime}, the functions' runtime (this is {base_image.PYTHON})"]
    lacks += [] if SAM.exists() else [f"{SAM}, from requirements-sam.txt"]
    lacks += [] if container_engine.find("docker") else ["the `docker` client (Debian: apt-get install docker.io)"]
    return lacks if lacks or container_engine.runs(os.environ) else container_engine.missing()


def prepared(undo: ExitStack, runtime: str) -> Stage:
    """Build, and start what the functions need: an engine that has their image, and the emulator. `undo` ends it all."""
    scratch = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="sam-")))
    env = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    env |= {"AWS_DEFAULT_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"}
    env |= {"SAM_CLI_TELEMETRY": "0", "PYTHON": str(SAM_PYTHON)}  # PYTHON builds the dependencies layer
    for command in (["validate", "--lint"], ["build"]):
        subprocess.run([SAM, *command], cwd=ROOT, env=env, check=True, stdout=sys.stderr)
    options = ["--add-host", "host.docker.internal:host-gateway"]
    if not container_engine.runs(env):
        env = undo.enter_context(container_engine.own_engine(scratch, env))
        image = f"public.ecr.aws/lambda/python:{runtime.removeprefix('python')}-x86_64"
        base_image.build(image, python=SAM_PYTHON, lock=ROOT / "requirements-runtime.txt", env=env)
        options += ["--skip-pull-image"]
    host = container_engine.address_of_bridge() or "127.0.0.1"
    port = free_port(host)
    emulator = [sys.executable, "-m", "local.emulator", "--host", host, "--port", str(port)]
    undo.enter_context(background(emulator, ready="ready", log=scratch / "emulator.log", env=env))
    env |= {"AWS_ENDPOINT_URL_STS": f"http://{host}:{port}"}  # else sam asks AWS who it is, for twelve seconds
    endpoint = f"http://host.docker.internal:{port}"
    variables = scratch / "variables.json"  # the parameter alone is not enough: sam gives up on an Fn::If with AWS::NoValue
    variables.write_text(json.dumps({"Parameters": {"AWS_ENDPOINT_URL": endpoint}}))
    options += ["--env-vars", str(variables), "--parameter-overrides", f"Stage=local EndpointUrl={endpoint}"]
    return Stage(env, options, scratch)


def invocations(functions: dict[str, str], stage: Stage) -> Iterator[Invocation]:
    """Invoke every function of `functions` (logical id: handler) with each of its sample events, then the API."""
    cases = {name: events.of_handler(handler) for name, handler in functions.items()}
    for function, (first, *_) in cases.items():
        yield invoked_once(function, first, stage)
    with served("start-lambda", stage) as url:
        for function, (_, *others) in cases.items():
            for path in others:
                _, answer = request("POST", f"{url}/2015-03-31/functions/{function}/invocations", sample(path))
                yield Invocation(f"start-lambda {function} {path.name}", fault(path, answer))
    with served("start-api", stage) as url:
        yield from one_payment(url)


def invoked_once(function: str, path: Path, stage: Stage) -> Invocation:
    command = [SAM, "local", "invoke", function, "--event", "-", *stage.options]
    done = subprocess.run(
        command, input=sample(path), cwd=ROOT, env=stage.env, capture_output=True, timeout=PATIENCE_S, check=False
    )
    found = fault(path, done.stdout)
    return Invocation(f"invoke {function} {path.name}", f"{found}\n{done.stderr.decode()}" if found else "")


@contextmanager
def served(command: str, stage: Stage) -> Iterator[str]:
    """Run `sam local <command>` while the block lasts; yields its URL."""
    port, log = free_port("127.0.0.1"), stage.logs / f"{command}.log"
    server = [SAM, "local", command, "--port", str(port), "--warm-containers", "EAGER", "--no-watch", *stage.options]
    with background(server, ready="Running on http", log=log, env=stage.env, cwd=ROOT):
        yield f"http://127.0.0.1:{port}"


def one_payment(url: str) -> Iterator[Invocation]:
    """Have a payment decided over HTTP, ask again with the same bytes, then read it: the three answers must agree."""
    decide = next(path for path in events.of_handler("decision_api.handler") if not events.announced_fault(path))
    payment = json.loads(json.loads(sample(decide))["body"]) | {"transaction_id": "decided-by-start-api"}
    body = json.dumps(payment).encode()
    status, decision = request("POST", f"{url}/decisions", body)
    yield Invocation("start-api POST /decisions", "" if status == 200 else f"{status} {decision!r}")
    repeated = request("POST", f"{url}/decisions", body)
    yield Invocation("start-api POST /decisions again", "" if repeated == (status, decision) else f"{repeated} not {decision!r}")
    status, recalled = request("GET", f"{url}/decisions/{payment['transaction_id']}")
    agree = status == 200 and json.loads(recalled)["decision"] == json.loads(decision)
    yield Invocation("start-api GET /decisions/{transaction_id}", "" if agree else f"{status} {recalled!r}")


def sample(path: Path) -> bytes:
    return json.dumps(events.load(path, datetime.now(UTC))).encode()


def fault(path: Path, answer: bytes) -> str:
    """Tell what is wrong with a handler's `answer` to the event in `path`; empty when nothing is.

    A handler's exception shows only in the answer: neither sam's exit status nor a header tells. An answer
    without a status is a success, as it is for the API.
    """
    try:
        parsed: Any = json.loads(answer)
    except ValueError:
        return f"no JSON: {answer!r}"
    if isinstance(parsed, dict) and "errorType" not in parsed and events.answered_as_named(path, parsed.get("statusCode", 200)):
        return ""
    return f"unexpected: {parsed}"


def request(method: str, url: str, body: bytes | None = None) -> tuple[int, bytes]:
    """Send one request; returns status and body, whatever the status."""
    outgoing = urllib.request.Request(url, body, {"Content-Type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(outgoing, timeout=PATIENCE_S) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as refusal:
        return refusal.code, refusal.read()


def free_port(host: str) -> int:
    with socket.create_server((host, 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


if __name__ == "__main__":
    sys.exit(main())
