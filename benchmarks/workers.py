"""Each row of a benchmark runs in a process of its own, as a Lambda does, and waits for its turn.

A worker has the variables that the template gives its function and nothing of this process's. It is told one JSON line
at a time and answers with one. What handlers print is written, to the null device, as the log it is.
"""

import contextlib
import json
import os
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
    "AWS_SESSION_TOKEN": "IQoJb3JpZ2luX2VjE" * 40,  # Lambda's have some 700 characters, and all are signed
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}


def environment(function: str, url: str, ca_bundle: Path | None = None) -> dict[str, str]:
    """The variables of a function of the template; a reference stands for a parameter's default or its own name.

    The model is asked at its endpoint where the template allows that, and DynamoDB and the endpoint answer at `url`.
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
    name = content[0] if isinstance(content, list) else str(content).partition(".")[0]
    return parameters.get(name, name)


class Worker(Child):
    """A module of this package as a process: `python -m MODULE --worker ARGUMENTS`."""

    def __init__(self, module: str, *arguments: str, variables: Mapping[str, str]) -> None:
        super().__init__(module, "--worker", *arguments, variables=variables)

    def do(self, order: Any) -> Any:  # noqa: ANN401 - JSON
        """Tell it one order and wait for what it answers. Raises RuntimeError when it has ended."""
        return json.loads(self.ask(json.dumps(order)))


def work(job: Callable[[Any], Any]) -> None:
    """The worker's side: do each order until there are no more."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    with Path(os.devnull).open("w", encoding="utf-8") as log, contextlib.redirect_stdout(log):
        for line in sys.stdin:
            print(json.dumps(job(json.loads(line))), file=answers, flush=True)


def turn_clock(instant: datetime) -> None:
    """The doors' clock starts at `instant` and goes on from there: what is canned was made for it."""
    from fraud import clock  # noqa: PLC0415 - a worker without the product must not load it

    started = monotonic()
    clock.source = lambda: instant + timedelta(seconds=monotonic() - started)
