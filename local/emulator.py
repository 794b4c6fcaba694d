"""The stack of template.yaml on moto: every AWS service of the box at one address, tables made.

`Emulator` holds it while a block of code runs; `python -m local.emulator --host H --port P` until it is told to stop, and
says `ready` with its address. moto's own CloudFormation creates the resources, so conditions and references mean what they mean
on AWS; what it does not know it passes over, so what was created is compared with what was declared.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import boto3

from local.stack import REGION, Stack, Template, created, described, expand

TEMPLATE = Path(__file__).parent.parent / "template.yaml"
LOCAL = {"Stage": "local"}

KEY_ID, SECRET = "local", "local"
STACK = "fraud"


class EmulatorError(Exception):
    """The emulator did not start, or did not create what the template declares."""


class Emulator:
    """The stack of a template on moto; `url` is the endpoint of every service, `stack` what is to be hosted in front of it."""

    def __init__(
        self,
        log: Path,
        template: Path = TEMPLATE,
        parameters: Mapping[str, str] = LOCAL,
        address: tuple[str, int] = ("127.0.0.1", 0),
    ) -> None:
        self.template = template
        self.parameters = parameters
        self.address = address
        self.log = log

    def __enter__(self) -> Self:
        host, port = self.address
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "local.moto_server", host, str(port)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=os.environ | {"VALIDATE_LAMBDA_S3": "false"},  # code stays where it is: there is no bucket
                start_new_session=True,  # Ctrl-C is the parent's to handle
            )
        try:
            expanded = expand(self.template, self.parameters)  # while moto imports
            assert self._process.stdout is not None
            self.url = self._process.stdout.readline().decode().strip()
            if not self.url:
                raise EmulatorError(self.log.read_text(errors="replace")[-3000:])
            self.stack = self._create(expanded)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def client(self, service: str) -> Any:  # noqa: ANN401 - boto3 has no static types
        """A boto3 client of the emulated account."""
        return boto3.client(
            service, REGION, endpoint_url=self.url, aws_access_key_id=KEY_ID, aws_secret_access_key=SECRET
        )

    def _create(self, expanded: Template) -> Stack:
        """Let moto's CloudFormation create the stack, and check that it did: moto passes over what it does not know."""
        wanted = created(expanded)
        parameters = {"EndpointUrl": self.url, **self.parameters}
        cloudformation = self.client("cloudformation")
        cloudformation.create_stack(
            StackName=STACK,
            TemplateBody=json.dumps(wanted),
            Parameters=[
                {"ParameterKey": name, "ParameterValue": parameters[name]}
                for name in parameters.keys() & expanded["Parameters"].keys()
            ],
            Capabilities=["CAPABILITY_NAMED_IAM"],
        )
        pages = cloudformation.get_paginator("list_stack_resources").paginate(StackName=STACK)
        there = {resource["LogicalResourceId"] for page in pages for resource in page["StackResourceSummaries"]}
        if missing := {name: wanted["Resources"][name]["Type"] for name in wanted["Resources"].keys() - there}:
            raise EmulatorError(f"the emulator cannot create {missing}")
        (output,) = cloudformation.describe_stacks(StackName=STACK)["Stacks"][0]["Outputs"]
        return described(json.loads(output["OutputValue"]), self.template.parent)


def main() -> None:
    """Run the emulator until SIGTERM or Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m local.emulator", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    arguments = parser.parse_args()
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    with tempfile.TemporaryDirectory() as scratch:
        with Emulator(Path(scratch) / "emulator.log", address=(arguments.host, arguments.port)) as emulator:
            print(f"emulator ready: {emulator.url}", flush=True)
            ended.wait()


if __name__ == "__main__":
    main()
