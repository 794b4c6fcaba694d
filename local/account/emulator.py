"""The stack of template.yaml on moto: every AWS service of the box at one address, with its tables created.

`Emulator` runs it while a block of code runs. `python -m local.account.emulator --host H --port P` runs it until it is
told to stop, and prints `ready` with its address. moto's own CloudFormation creates the resources, so conditions and
references mean the same as on AWS. It skips resources that it does not know, so `Emulator` compares the created
resources with the declared ones.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from subprocess import PIPE, Popen
from types import MappingProxyType, TracebackType
from typing import Any, Self

from local.account import boto
from local.account.boto import KEY_ID
from local.account.stack import (
    Stack,
    Template,
    created,
    deliveries,
    described,
    expand,
    package_groups,
    present,
    workgroups,
)
from local.delivered import DELIVERED

TEMPLATE = Path(__file__).parents[2] / "template.yaml"
STACK = "fraud"
DEFAULTS: Mapping[str, str] = MappingProxyType({})
ROLES = (
    f"backfill=label-backfill,user_report=payment-app,user_report={KEY_ID},analyst=fraud-analyst,"
    "chargeback=chargeback-importer"
)
"""Label sources of the box and their roles: those of the template's default, and the box's one key for user reports."""

ISSUER, AUDIENCE = "https://issuer.box.example/", "console"
"""Issuer and audience of the tokens that the box signs for its analyst and its lead."""

KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "COVERAGE_PROCESS_START")
"""The user's variables that moto's process gets: none of them changes what it does."""

DEADLINE_MS = "9000"
"""The stack's deadline in the box: the emulator takes a hundred times as long as DynamoDB."""


class EmulatorError(Exception):
    """The emulator did not start, or did not create what the template declares."""


class Emulator:
    """An emulated AWS account while the block lasts.

    url         the endpoint of every AWS service
    stack       the template's functions, routes, mappings and rules, which the box runs in front of the emulator
    expanded    the template as plain CloudFormation, without what its conditions leave out
    log         file for moto's errors
    parameters  values of the template's parameters
    address     host and port; port 0 is any free one
    channel     where functions can be invoked (`local.workflows.channel`). Without it no state machine is executed
    models      where models are served (`local.sagemaker.model_server`). Without it no endpoint can be updated

    Entering raises EmulatorError.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - an account and what plays beside it
        self,
        log: Path,
        template: Path = TEMPLATE,
        parameters: Mapping[str, str] = DEFAULTS,
        address: tuple[str, int] = ("127.0.0.1", 0),
        channel: str = "",
        models: str = "",
    ) -> None:
        self._log = log
        self._template = template
        self._parameters = parameters
        self._address = address
        self._channel = channel
        self._models = models

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            server = undo.enter_context(self._server())
            expanded = expand(self._template, self._parameters)  # while moto starts
            assert server.stdout is not None
            self.url = server.stdout.readline().decode().strip()
            if not self.url:
                raise EmulatorError(self._log.read_text(errors="replace")[-3000:])
            self.expanded = present(expanded, self._given(expanded.get("Parameters", {})))
            self.stack = self._create(expanded)
            self._undo = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._undo.__exit__(kind, error, trace)

    def client(self, service: str) -> Any:  # noqa: ANN401 - boto3 has no static types
        """Return a boto3 client of the emulated account."""
        return boto.client(service, self.url)

    def _server(self) -> Popen[bytes]:
        """Start moto in a process that ends when its input pipe closes.

        It gets a session of its own, because its parent handles Ctrl-C.
        """
        host, port = self._address
        variables = {name: os.environ[name] for name in KEPT if name in os.environ}
        variables |= {"VALIDATE_LAMBDA_S3": "false"}  # there is no bucket with the functions' code
        with self._log.open("wb") as errors:
            return Popen(
                [
                    sys.executable,
                    "-m",
                    "local.account.moto_server",
                    host,
                    str(port),
                    self._channel,
                    self._models,
                    str(self._log.parent),
                ],
                stdin=PIPE,
                stdout=PIPE,
                stderr=errors,
                env=variables,
                start_new_session=True,
            )

    def _create(self, expanded: Template) -> Stack:
        """Create the stack with moto's CloudFormation. Raises EmulatorError when a resource was not created."""
        given = self._given(expanded.get("Parameters", {}))
        wanted = created(present(expanded, given), self._template.parent)
        cloudformation = self.client("cloudformation")
        cloudformation.create_stack(
            StackName=STACK,
            TemplateBody=json.dumps(wanted),
            Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in given.items()],
            Capabilities=["CAPABILITY_NAMED_IAM"],
        )
        pages = cloudformation.get_paginator("list_stack_resources").paginate(StackName=STACK)
        listed = [resource for page in pages for resource in page["StackResourceSummaries"]]
        there = {resource["LogicalResourceId"]: resource["PhysicalResourceId"] for resource in listed}
        if missing := {name: wanted["Resources"][name]["Type"] for name in wanted["Resources"].keys() - there.keys()}:
            raise EmulatorError(f"the emulator cannot create {missing}")
        for name, (bucket, folder) in deliveries(expanded).items():
            self._deliver(name, there[bucket], folder)
        for name in package_groups(expanded):
            self.client("sagemaker").create_model_package_group(ModelPackageGroupName=name)
        for name in workgroups(expanded):
            self.client("athena").create_work_group(Name=name, Configuration={})
        (output,) = cloudformation.describe_stacks(StackName=STACK)["Stacks"][0]["Outputs"]
        serving = json.loads(output["OutputValue"])
        for name, lock in serving["locks"].items():
            self._lock(there[name], lock)
        return described(serving, self._template.parent)

    def _lock(self, bucket: str, lock: Template) -> None:
        """Put the objects of a bucket under lock. moto's CloudFormation makes it without."""
        retention = lock["Rule"]["DefaultRetention"]
        s3 = self.client("s3")
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        s3.put_object_lock_configuration(
            Bucket=bucket,
            ObjectLockConfiguration=lock | {"Rule": {"DefaultRetention": retention | {"Days": int(retention["Days"])}}},
        )

    def _deliver(self, name: str, bucket: str, folder: str) -> None:
        """Create a Firehose stream. moto's Firehose neither partitions nor converts: it delivers raw JSON."""
        self.client("firehose").create_delivery_stream(
            DeliveryStreamName=name,
            ExtendedS3DestinationConfiguration={
                "BucketARN": f"arn:aws:s3:::{bucket}",
                "RoleARN": "arn:aws:iam::123456789012:role/box",
                "Prefix": f"{DELIVERED}/{folder}/",
            },
        )

    def _given(self, declared: Template) -> dict[str, str]:
        """Return the stack's parameters: the caller's, and those of the box that the template declares.

        A list is always given, its default too: moto makes a list only of a value that is given.

        Raises EmulatorError when the caller gives a parameter that the template does not declare.
        """
        if unknown := self._parameters.keys() - declared.keys():
            raise EmulatorError(f"the template has no parameter {', '.join(unknown)}")
        local = {
            "Stage": "local",
            "EndpointUrl": self.url,
            "LabelSources": ROLES,
            "DeadlineMs": DEADLINE_MS,
            "PublishedShare": "1",  # a reader of the box's bus sees every decision
            "JwtIssuer": ISSUER,
            "JwtAudience": AUDIENCE,
        }
        lists = {name: said["Default"] for name, said in declared.items() if said["Type"] == "CommaDelimitedList"}
        return lists | {name: value for name, value in local.items() if name in declared} | dict(self._parameters)


def main() -> None:
    """Run the emulator until SIGTERM or Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m local.account.emulator", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    arguments = parser.parse_args()
    ended = told_to_end()
    with (
        tempfile.TemporaryDirectory() as scratch,
        Emulator(Path(scratch) / "log", address=(arguments.host, arguments.port)) as emulator,
    ):
        print(f"emulator ready: {emulator.url}", flush=True)
        ended.wait()


def told_to_end() -> threading.Event:
    """Return an event that SIGTERM and Ctrl-C set. From now on they do not end the process themselves."""
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    return ended


if __name__ == "__main__":
    main()
