"""Worker processes: each row of a benchmark runs in its own process, as a Lambda does, and waits for its turn.

A worker's environment has the variables that the template gives its function, and none of this process except its
paths. The worker gets one task at a time as a line of JSON and answers with a line of JSON. The handlers' output is
their log; it is written to the null device.
"""

import contextlib
import json
import os
import re
import sys
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any

from samtranslator.yaml_helper import yaml_parse

from benchmarks.child import ROOT, Child

TEMPLATE = ROOT / "template.yaml"
FAKE = {
    "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
    "AWS_SESSION_TOKEN": "IQoJb3JpZ2luX2VjE" * 40,  # a token of Lambda has about 700 characters, and all are signed
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}


def environment(function: str, url: str, ca_bundle: Path | None = None) -> dict[str, str]:
    """Return the environment of a function of the template. A reference becomes a parameter's default, or its name.

    The endpoint scores if the template allows that. DynamoDB and the endpoint are both at `url`.
    """
    template = yaml_parse(TEMPLATE.read_text(encoding="utf-8"))
    parameters = {name: str(one.get("Default", name)) for name, one in template["Parameters"].items()}
    declared = {
        **template["Globals"]["Function"]["Environment"]["Variables"],
        **template["Resources"][function]["Properties"].get("Environment", {}).get("Variables", {}),
    }
    variables = {name: _resolved(value, parameters) for name, value in declared.items()}
    if "endpoint" in template["Parameters"]["Scorer"]["AllowedValues"]:
        variables["SCORER"] = "endpoint"
    return {
        **variables,
        **FAKE,
        "AWS_ENDPOINT_URL": url,
        **({"AWS_CA_BUNDLE": str(ca_bundle)} if ca_bundle else {}),
        "AWS_LAMBDA_FUNCTION_NAME": function,
        "STAGE": "local",
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        "PATH": os.environ.get("PATH", ""),
    }


def _resolved(value: Any, parameters: Mapping[str, str]) -> str:  # noqa: ANN401 - YAML
    if not isinstance(value, dict):
        return str(value)
    ((intrinsic, content),) = value.items()
    if intrinsic == "Fn::If":
        return _resolved(content[2], parameters)
    if intrinsic == "Fn::Sub":
        return re.sub(r"\$\{(?:AWS::)?(\w+)[^}]*\}", lambda found: parameters.get(found[1], found[1]), str(content))
    name = content[0] if isinstance(content, list) else str(content).partition(".")[0]
    return parameters.get(name, name)


class Worker(Child):
    """A worker process: `python -m MODULE --worker ARGUMENTS`, for a module of this package."""

    def __init__(self, module: str, *arguments: str, variables: Mapping[str, str]) -> None:
        super().__init__(module, "--worker", *arguments, variables=variables)

    def do(self, task: Any) -> Any:  # noqa: ANN401 - JSON
        """Send one task and wait for its result. Raises RuntimeError when the process has ended."""
        return json.loads(self.ask(json.dumps(task)))


def work(job: Callable[[Any], Any]) -> None:
    """Run the worker's side: call `job` with each task until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    with Path(os.devnull).open("w", encoding="utf-8") as log, contextlib.redirect_stdout(log):
        for line in sys.stdin:
            print(json.dumps(job(json.loads(line))), file=answers, flush=True)


def turn_clock(instant: datetime) -> None:
    """Start the doors' clock at `instant`, for which the canned responses were made. It runs on from there."""
    from fraud import clock  # noqa: PLC0415 - a worker that does not use the product must not load it

    started = monotonic()
    clock.source = lambda: instant + timedelta(seconds=monotonic() - started)
