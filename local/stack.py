"""template.yaml as the box needs it: one expansion by SAM's own translator, read three ways.

The resources that the emulator creates; the functions that `local.environments` runs; the routes that `local.gateway`
serves. This is the box's only knowledge of them: there is no second list. Intrinsic functions are left in place for the
emulator's CloudFormation, which resolves them against what it has really created.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator
from samtranslator.yaml_helper import yaml_parse

Template = dict[str, Any]

REGION = "us-east-1"

CODE = {"AWS::Serverless::Function": "CodeUri", "AWS::Serverless::LayerVersion": "ContentUri"}
"""Where a resource names a directory beside the template: `sam package` would upload it and put an s3 address there."""

BUCKET = "s3://template/"

PLAYED = frozenset(
    {
        "AWS::ApiGatewayV2::Api",
        "AWS::ApiGatewayV2::Stage",
        "AWS::Events::Rule",
        "AWS::Lambda::Alias",
        "AWS::Lambda::EventInvokeConfig",
        "AWS::Lambda::EventSourceMapping",
        "AWS::Lambda::Permission",
    }
)
"""What the box plays itself, by type: the gateway is the API and its stage, the pump is mappings and rules, the host
runs the one version there is.
"""

UNPLAYED = frozenset({"AWS::CloudWatch::Alarm", "AWS::S3::BucketPolicy", "AWS::SNS::TopicPolicy"})
"""What the box is without: it watches no metric, and asks nobody for permission behind the API."""

NAMED = {
    "AWS::DynamoDB::Table": "TableName",
    "AWS::Kinesis::Stream": "Name",
    "AWS::Lambda::Function": "FunctionName",
    "AWS::SQS::Queue": "QueueName",
}
"""A resource without a name of its own is called by its logical id, which is also what `sam local` makes of `!Ref`."""

METHODS = frozenset({"get", "put", "post", "delete", "patch", "head", "options", "x-amazon-apigateway-any-method"})


class UnsupportedError(Exception):
    """The template declares what the box cannot play; it says so rather than leave it out."""


@dataclass(frozen=True)
class Function:
    """A function as its runtime sees it: handler, timeout in s, memory in MB, variables, directories to import from."""

    name: str
    handler: str
    timeout: float
    memory: int
    environment: Mapping[str, str]
    path: tuple[str, ...]


@dataclass(frozen=True)
class Route:
    """A route of the HTTP API: `authorizer` is its security scheme as OpenAPI has it, None for an open route."""

    method: str
    path: str
    function: str
    authorizer: Mapping[str, Any] | None
    scopes: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The route key, as API Gateway writes it."""
        return f"{self.method} {self.path}"


@dataclass(frozen=True)
class Stack:
    """Everything that serves requests, intrinsics resolved."""

    functions: tuple[Function, ...]
    routes: tuple[Route, ...]


def expand(template: Path, parameters: Mapping[str, str]) -> Template:
    """Expand a SAM template to plain CloudFormation, its directories as keys of an imaginary bucket."""
    declared = yaml_parse(template.read_text(encoding="utf-8"))
    for section in (*declared["Resources"].values(), *_globals(declared)):
        if (name := CODE.get(section["Type"])) and name in section["Properties"]:
            section["Properties"][name] = BUCKET + section["Properties"][name]
    translator = Translator({}, Parser(), boto_session=boto3.Session(region_name=REGION))
    expanded: Template = json.loads(json.dumps(translator.translate(declared, dict(parameters))))
    return expanded


def _globals(declared: Template) -> Iterator[Template]:
    """Globals in the shape of resources: `Function` stands for the properties of every AWS::Serverless::Function."""
    for kind, properties in declared.get("Globals", {}).items():
        yield {"Type": f"AWS::Serverless::{kind}", "Properties": properties}


def created(expanded: Template) -> Template:
    """The part of the template that the emulator creates, with one output that describes the rest, for `described`."""
    resources = {}
    for name, resource in expanded["Resources"].items():
        if resource["Type"] not in PLAYED | UNPLAYED:
            own = {NAMED[resource["Type"]]: name} if resource["Type"] in NAMED else {}
            resources[name] = resource | {"Properties": own | resource.get("Properties", {})}
    serving = {"functions": list(_functions(expanded)), "routes": list(_routes(expanded))}
    return expanded | {"Resources": resources, "Outputs": {"Serving": {"Value": {"Fn::ToJsonString": serving}}}}


def described(serving: Template, directory: Path) -> Stack:
    """Read back the output of `created`; code paths are relative to the template's `directory`."""
    functions = (
        Function(
            name=function["name"],
            handler=function["handler"],
            timeout=float(function["timeout"]),
            memory=int(function["memory"]),
            environment={name: str(value) for name, value in function["environment"].items()},
            path=tuple(str((directory / key).resolve()) for key in function["path"]),
        )
        for function in serving["functions"]
    )
    routes = (
        Route(route["method"], route["path"], route["function"], route.get("authorizer"), tuple(route["scopes"]))
        for route in serving["routes"]
    )
    return Stack(tuple(functions), tuple(routes))


def _functions(expanded: Template) -> Iterator[Template]:
    resources = expanded["Resources"]
    for name, resource in resources.items():
        if resource["Type"] == "AWS::Lambda::Function":
            properties = resource["Properties"]
            layers = [resources[layer["Ref"]]["Properties"]["Content"] for layer in properties.get("Layers", [])]
            yield {
                "name": name,
                "handler": properties["Handler"],
                "timeout": properties.get("Timeout", 3),
                "memory": properties.get("MemorySize", 128),
                "environment": properties.get("Environment", {}).get("Variables", {}),
                "path": [content["S3Key"] for content in (properties["Code"], *layers)],
            }


def _routes(expanded: Template) -> Iterator[Template]:
    for resource in expanded["Resources"].values():
        if resource["Type"] == "AWS::ApiGatewayV2::Api":
            body = resource["Properties"]["Body"]
            schemes = body.get("components", {}).get("securitySchemes", {})
            for path, operations in body["paths"].items():
                for method in sorted(METHODS & operations.keys()):
                    operation = operations[method]
                    ((scheme, scopes),) = operation.get("security", [{"NONE": []}])[0].items()
                    yield {
                        "method": "ANY" if method.startswith("x-") else method.upper(),
                        "path": path,
                        "function": _function_behind(
                            operation["x-amazon-apigateway-integration"], expanded["Resources"]
                        ),
                        "authorizer": None if scheme == "NONE" else schemes[scheme],
                        "scopes": scopes,
                    }


def _function_behind(integration: Template, resources: Template) -> str:
    """Logical id of the function that an integration invokes, through its alias if it has one."""
    if integration.get("payloadFormatVersion") != "2.0":
        raise UnsupportedError(f"payload format {integration.get('payloadFormatVersion')!r}")
    named = re.search(r"functions/\$\{(\w+)(?:\.Arn)?\}", integration["uri"]["Fn::Sub"])
    if named is None:
        raise UnsupportedError(f"integration {integration['uri']}")
    target = resources[named[1]]
    alias = target["Type"] == "AWS::Lambda::Alias"
    function: str = target["Properties"]["FunctionName"]["Ref"] if alias else named[1]
    return function
