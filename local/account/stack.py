"""template.yaml as the box needs it: expanded once, by SAM's own translator, and read in four ways.

The expansion gives the resources that the emulator creates, the functions that `local.lambdas.environments` runs, the
routes that `local.api.gateway` serves, and the mappings and rules that `local.triggers.pump` drives. The box has no
second list of them. Intrinsic functions stay in place: the emulator's CloudFormation resolves them against the
resources that it has really created.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator
from samtranslator.yaml_helper import yaml_parse

from local.account import boto

Template = dict[str, Any]

CODE = {
    "AWS::Serverless::Function": "CodeUri",
    "AWS::Serverless::LayerVersion": "ContentUri",
    "AWS::Serverless::StateMachine": "DefinitionUri",
}
"""The property in which a type of resource names its code, a path relative to the template.

`sam package` would upload it and put an S3 address in its place.
"""

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
"""Types of resources that the box plays itself. The gateway is the API and its stage, the pump is the mappings and
rules, and the host runs the only version of each function.
"""

UNPLAYED = frozenset(
    {
        "AWS::Athena::NamedQuery",
        "AWS::Athena::WorkGroup",
        "AWS::CloudWatch::Alarm",
        "AWS::EMRServerless::Application",
        "AWS::Glue::Database",
        "AWS::Glue::Table",
        "AWS::Logs::LogStream",
        "AWS::S3::BucketPolicy",
        "AWS::SageMaker::ModelPackageGroup",
        "AWS::SNS::TopicPolicy",
        "AWS::SQS::QueuePolicy",
    }
)
"""Types of resources that the box leaves out. It enforces no policy of a bucket, queue or topic, writes no log of a
service, and has no Glue and no Spark. `local.triggers.alarms` watches metrics. The emulator makes workgroups by
itself, and `local.account.athena` runs their queries over the tables of the archive's schema. So does it make groups
of model packages.
"""

MACHINE = "AWS::StepFunctions::StateMachine"

DELIVERY = "AWS::KinesisFirehose::DeliveryStream"
"""The type of resources that the emulator makes by themselves: moto's CloudFormation does not know it."""

NAMED = {
    "AWS::DynamoDB::Table": "TableName",
    "AWS::Kinesis::Stream": "Name",
    "AWS::Lambda::Function": "FunctionName",
    "AWS::SQS::Queue": "QueueName",
    "AWS::StepFunctions::StateMachine": "StateMachineName",
}
"""The property with a resource's name, by type of resource.

A resource without a name gets its logical id. `sam local` resolves `!Ref` to the logical id, too.
"""

ABSENT = {"Ref": "AWS::NoValue"}
"""What stands in a template for a property that is left out."""

METHODS = frozenset({"get", "put", "post", "delete", "patch", "head", "options", "x-amazon-apigateway-any-method"})


class UnsupportedError(Exception):
    """The template declares something that the box cannot play. The box fails rather than leave it out."""


@dataclass(frozen=True)
class Function:
    """A Lambda function: handler, timeout in seconds, memory in MB, variables, and directories to import from."""

    name: str
    handler: str
    timeout: float
    memory: int
    environment: Mapping[str, str]
    path: tuple[str, ...]


@dataclass(frozen=True)
class Route:
    """A route of an HTTP API. `authorizer` is its OpenAPI security scheme; None for an open route.

    api  the logical id of its API
    """

    method: str
    path: str
    function: str
    authorizer: Mapping[str, Any] | None
    scopes: tuple[str, ...] = ()
    api: str = "Api"

    @property
    def key(self) -> str:
        """The route key, as API Gateway writes it.

        >>> Route("POST", "/decisions", "DecisionApi", None).key
        'POST /decisions'
        """
        return f"{self.method} {self.path}"


@dataclass(frozen=True)
class EventMapping:
    """An event source mapping of Lambda. As in CloudFormation, times are in seconds and -1 means no limit."""

    function: str
    source: str
    start: str = "TRIM_HORIZON"
    batch_size: int = 100
    window: float = 0
    patterns: tuple[Mapping[str, Any], ...] = ()
    reports: bool = False
    bisects: bool = False
    retries: int = -1
    maximum_age: float = -1
    on_failure: str | None = None

    @property
    def service(self) -> str:
        """The source's service, as its ARN names it: kinesis, dynamodb or sqs."""
        return self.source.split(":")[2]


@dataclass(frozen=True)
class Rule:
    """A rule of EventBridge: either a schedule's expression, or a bus and the pattern of the wanted events.

    functions, queues, machines  its targets: names of functions, and ARNs of queues and of state machines
    """

    functions: tuple[str, ...]
    queues: tuple[str, ...] = ()
    machines: tuple[str, ...] = ()
    schedule: str | None = None
    bus: str = "default"
    pattern: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Stack:
    """The parts of the template that serve requests and events. Intrinsic functions are resolved.

    machines  ARNs of the state machines
    """

    functions: tuple[Function, ...]
    routes: tuple[Route, ...]
    mappings: tuple[EventMapping, ...]
    rules: tuple[Rule, ...]
    machines: tuple[str, ...] = ()


def expand(template: Path, parameters: Mapping[str, str]) -> Template:
    """Expand a SAM template to plain CloudFormation. Its code directories become keys of an imaginary bucket."""
    declared = yaml_parse(template.read_text(encoding="utf-8"))
    for section in (*declared["Resources"].values(), *_globals(declared)):
        if (name := CODE.get(section["Type"])) and name in section["Properties"]:
            section["Properties"][name] = BUCKET + section["Properties"][name]
    translator = Translator({}, Parser(), boto_session=boto.session())
    expanded: Template = json.loads(json.dumps(translator.translate(declared, dict(parameters))))
    return expanded


def _globals(declared: Template) -> Iterator[Template]:
    """Yield the template's Globals in the form of resources, so that `expand` treats both alike.

    `Function` in Globals holds properties of every AWS::Serverless::Function.
    """
    for kind, properties in declared.get("Globals", {}).items():
        yield {"Type": f"AWS::Serverless::{kind}", "Properties": properties}


def present(expanded: Template, given: Mapping[str, str]) -> Template:
    """Return the part of the template that exists with these parameters: its conditions are decided.

    given  values of parameters; for any other parameter its default counts
    """
    parameters = expanded.get("Parameters", {})
    values = {name: str(given.get(name, declared.get("Default", ""))) for name, declared in parameters.items()}
    conditions = _Conditions(values, expanded.get("Conditions", {}))
    return {key: value for key, value in expanded.items() if key != "Conditions"} | {
        section: {
            name: conditions.decided({key: value for key, value in one.items() if key != "Condition"})
            for name, one in expanded.get(section, {}).items()
            if "Condition" not in one or conditions.holds(one["Condition"])
        }
        for section in ("Resources", "Outputs")
    }


@dataclass(frozen=True)
class _Conditions:
    """The conditions of a template, with the values of its parameters."""

    values: Mapping[str, str]
    declared: Mapping[str, Any]

    def holds(self, condition: Any) -> bool:  # noqa: ANN401 - JSON
        """Tell whether a condition holds. Raises UnsupportedError for a function that the box does not know."""
        match condition:
            case str() | {"Condition": str()}:
                return self.holds(self.declared[condition if isinstance(condition, str) else condition["Condition"]])
            case {"Fn::Equals": [one, other]}:
                return self._text(one) == self._text(other)
            case {"Fn::Not": [inner]}:
                return not self.holds(inner)
            case {"Fn::And": [*inner]}:
                return all(map(self.holds, inner))
            case {"Fn::Or": [*inner]}:
                return any(map(self.holds, inner))
        raise UnsupportedError(f"condition {condition}")

    def decided(self, node: Any) -> Any:  # noqa: ANN401 - JSON
        """Return a part of the template with the chosen branch of each `Fn::If`."""
        match node:
            case {"Fn::If": [name, then, otherwise]}:
                return self.decided(then if self.holds(name) else otherwise)
            case dict():
                parts = ((key, self.decided(value)) for key, value in node.items())
                return {key: value for key, value in parts if value != ABSENT}
            case list():
                return [value for value in map(self.decided, node) if value != ABSENT]
        return node

    def _text(self, operand: Any) -> str:  # noqa: ANN401 - JSON
        return self.values[operand["Ref"]] if isinstance(operand, dict) else str(operand)


def created(expanded: Template, directory: Path) -> Template:
    """Return the part of the template that the emulator creates.

    directory  the template's; definitions of state machines are read from it

    Its one output describes the functions, routes, mappings, rules and machines, which `described` reads, and the locks
    of buckets, which moto's CloudFormation leaves out.
    """
    resources, stand_ins = {}, {}
    for name, resource in expanded["Resources"].items():
        if resource["Type"] in PLAYED | UNPLAYED | {DELIVERY}:
            stand_ins[name] = {"Type": "String", "Default": name}  # other resources may name it by `Ref`
        else:
            own = {NAMED[resource["Type"]]: name} if resource["Type"] in NAMED else {}
            properties = own | resource.get("Properties", {})
            if resource["Type"] == MACHINE:
                properties = _defined(properties, directory, expanded["Resources"])
            resources[name] = resource | {"Properties": properties}
    serving = {
        "functions": list(_functions(expanded)),
        "routes": list(_routes(expanded)),
        "mappings": list(_mappings(expanded)),
        "rules": list(_rules(expanded)),
        "machines": [{"Ref": name} for name, one in resources.items() if one["Type"] == MACHINE],
        "locks": {
            name: resource["Properties"]["ObjectLockConfiguration"]
            for name, resource in expanded["Resources"].items()
            if "ObjectLockConfiguration" in resource.get("Properties", {})
        },
    }
    return expanded | {
        "Parameters": expanded.get("Parameters", {}) | stand_ins,
        "Resources": resources,
        "Outputs": {"Serving": {"Value": {"Fn::ToJsonString": serving}}},
    }


def deliveries(expanded: Template) -> dict[str, tuple[str, str]]:
    """Return the Firehose streams by logical id: the logical id of the bucket, and the folder in which its rows go."""
    found = {}
    for name, resource in expanded["Resources"].items():
        if resource["Type"] == DELIVERY:
            destination = resource["Properties"]["ExtendedS3DestinationConfiguration"]
            found[name] = destination["BucketARN"]["Fn::GetAtt"][0], destination["Prefix"].partition("/")[0]
    return found


def workgroups(expanded: Template) -> list[str]:
    """Return the logical ids of Athena's workgroups: moto's CloudFormation does not know them."""
    return [name for name, resource in expanded["Resources"].items() if resource["Type"] == "AWS::Athena::WorkGroup"]


def package_groups(expanded: Template) -> list[str]:
    """Return the names of SageMaker's groups of model packages: moto's CloudFormation does not know them."""
    return [
        resource["Properties"]["ModelPackageGroupName"]["Fn::Sub"].replace("${AWS::StackName}", "fraud")
        for resource in expanded["Resources"].values()
        if resource["Type"] == "AWS::SageMaker::ModelPackageGroup"
    ]


def described(serving: Template, directory: Path) -> Stack:
    """Return the stack that the output of `created` describes.

    directory  the template's; code paths in the output are relative to it
    """
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
        Route(
            route["method"],
            route["path"],
            route["function"],
            route.get("authorizer"),
            tuple(route["scopes"]),
            route["api"],
        )
        for route in serving["routes"]
    )
    return Stack(
        tuple(functions),
        tuple(routes),
        tuple(_mapping(properties) for properties in serving["mappings"]),
        tuple(
            Rule(**rule | {part: tuple(rule[part]) for part in ("functions", "queues", "machines")})
            for rule in serving["rules"]
        ),
        tuple(serving["machines"]),
    )


def _mapping(properties: Template) -> EventMapping:
    """Return an event source mapping. Raises UnsupportedError for a property that the box cannot play."""
    said = dict(properties)
    for measured_elsewhere in ("MetricsConfig", "ScalingConfig"):
        said.pop(measured_elsewhere, None)
    service = said["EventSourceArn"].split(":")[2]
    mapping = EventMapping(
        function=said.pop("FunctionName"),
        source=said.pop("EventSourceArn"),
        start=said.pop("StartingPosition", "TRIM_HORIZON"),
        batch_size=int(said.pop("BatchSize", 10 if service == "sqs" else 100)),
        window=float(said.pop("MaximumBatchingWindowInSeconds", 0)),
        patterns=tuple(json.loads(one["Pattern"]) for one in said.pop("FilterCriteria", {}).get("Filters", [])),
        reports="ReportBatchItemFailures" in said.pop("FunctionResponseTypes", []),
        bisects=_true(said.pop("BisectBatchOnFunctionError", False)),
        retries=int(said.pop("MaximumRetryAttempts", -1)),
        maximum_age=float(said.pop("MaximumRecordAgeInSeconds", -1)),
        on_failure=said.pop("DestinationConfig", {}).get("OnFailure", {}).get("Destination"),
    )
    if said:
        raise UnsupportedError(f"event source mapping of {mapping.function}: {said}")
    return mapping


def _true(value: bool | str) -> bool:  # noqa: FBT001 - as CloudFormation hands it on
    return str(value).lower() == "true"


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
    for name, resource in expanded["Resources"].items():
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
                        "api": name,
                    }


def _function_behind(integration: Template, resources: Template) -> str:
    """Return the logical id of the function that an integration invokes, through its alias if it has one.

    Raises UnsupportedError for another payload format than 2.0, or a target that is no function.
    """
    if integration.get("payloadFormatVersion") != "2.0":
        raise UnsupportedError(f"payload format {integration.get('payloadFormatVersion')!r}")
    named = re.search(r"functions/\$\{(\w+)(?:\.Arn)?\}", integration["uri"]["Fn::Sub"])
    if named is None:
        raise UnsupportedError(f"integration {integration['uri']}")
    return _function_of(named[1], resources)


def _mappings(expanded: Template) -> Iterator[Template]:
    resources = expanded["Resources"]
    for resource in resources.values():
        if resource["Type"] == "AWS::Lambda::EventSourceMapping":
            properties = resource["Properties"]
            if _true(properties.get("Enabled", True)):
                said = {name: value for name, value in properties.items() if name != "Enabled"}
                yield said | {"FunctionName": _function_named(properties["FunctionName"], resources)}


def _rules(expanded: Template) -> Iterator[Template]:
    resources = expanded["Resources"]
    for resource in resources.values():
        if resource["Type"] == "AWS::Events::Rule" and resource["Properties"].get("State") != "DISABLED":
            properties = resource["Properties"]
            targets = [target["Arn"] for target in properties.get("Targets", ())]
            queues = [target for target in targets if _is_queue(target, resources)]
            machines = [target for target in targets if _is_machine(target, resources)]
            others = [target for target in targets if target not in [*queues, *machines]]
            yield {
                "functions": [_function_named(target, resources) for target in others],
                "queues": queues,
                "machines": machines,
                "schedule": properties.get("ScheduleExpression"),
                "bus": properties.get("EventBusName", "default"),
                "pattern": properties.get("EventPattern"),
            }


def _is_queue(reference: Template, resources: Template) -> bool:
    match reference:
        case {"Fn::GetAtt": [name, "Arn"]} if name in resources:
            return bool(resources[name]["Type"] == "AWS::SQS::Queue")
    return False


def _is_machine(reference: Template, resources: Template) -> bool:
    match reference:
        case {"Ref": name} if name in resources:
            return bool(resources[name]["Type"] == MACHINE)
    return False


def _defined(properties: Template, directory: Path, resources: Template) -> Template:
    """Return the properties of a state machine with its definition in the template, because moto reads no S3 address.

    The machine invokes functions themselves, because the emulator has no aliases.
    """
    said = dict(properties)
    text = (directory / said.pop("DefinitionS3Location")["Key"]).read_text(encoding="utf-8")
    aliases = {name for name, resource in resources.items() if resource["Type"] == "AWS::Lambda::Alias"}
    substitutions = {
        name: {"Ref": _function_of(value["Ref"], resources)} if value.get("Ref") in aliases else value
        for name, value in said.pop("DefinitionSubstitutions", {}).items()
    }
    parts = re.split(r"\$\{(\w+)\}", text)  # moto's Fn::Sub would make one dollar sign of the two in `$$.Task.Token`
    joined = [substitutions[part] if n % 2 else part for n, part in enumerate(parts)]
    return said | {"DefinitionString": {"Fn::Join": ["", joined]}}


def _function_named(reference: Template, resources: Template) -> str:
    """Return the logical id of the function that `Ref` or `Fn::GetAtt` names. Raises UnsupportedError for others."""
    match reference:
        case {"Ref": name} | {"Fn::GetAtt": [name, "Arn"]} if name in resources:
            return _function_of(name, resources)
    raise UnsupportedError(f"a target that is no function of the template: {reference}")


def _function_of(name: str, resources: Template) -> str:
    target = resources[name]
    alias = target["Type"] == "AWS::Lambda::Alias"
    function: str = target["Properties"]["FunctionName"]["Ref"] if alias else name
    return function
