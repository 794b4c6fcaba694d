"""template.yaml keeps its promises, and agrees with the code that it deploys."""

import json
from pathlib import Path
from typing import Any

import moto.core.serialize
import moto.dynamodb.models.dynamo_type
import moto.server
import pytest
from botocore.session import get_session

from fraud import tables
from fraud.settings import Settings
from local import stack
from local.environments import Environment
from local.stack import Function

TEMPLATE = Path(__file__).parents[2] / "template.yaml"
STATEFUL = {"CountersTable", "ProfilesTable", "DecisionsTable", "AuditTable", "TablesKey"}
EXPANDED = stack.expand(TEMPLATE, {})
RESOURCES = EXPANDED["Resources"]


def of_type(kind: str) -> dict[str, dict[str, Any]]:
    return {name: resource for name, resource in RESOURCES.items() if resource["Type"] == kind}


FUNCTIONS = of_type("AWS::Lambda::Function")
TABLES = of_type("AWS::DynamoDB::Table")


def plain(value: Any) -> str:
    """What a parameter's default or a resource's logical id makes of a variable; AWS makes the rest of it."""
    if isinstance(value, dict) and "Ref" in value:
        return str(EXPANDED["Parameters"].get(value["Ref"], {"Default": value["Ref"]})["Default"])
    return str(value)


def variables(function: str) -> dict[str, Any]:
    declared: dict[str, Any] = FUNCTIONS[function]["Properties"]["Environment"]["Variables"]
    return declared


@pytest.mark.parametrize("name", FUNCTIONS)
def test_handler_imports_in_an_environment_of_its_own(name: str, tmp_path: Path) -> None:
    properties = FUNCTIONS[name]["Properties"]
    environment = {key: plain(value) for key, value in variables(name).items() if key != "AWS_ENDPOINT_URL"}
    layers = [RESOURCES[layer["Ref"]]["Properties"]["Content"]["S3Key"] for layer in properties["Layers"]]
    path = tuple(str(TEMPLATE.parent / part) for part in (properties["Code"]["S3Key"], *layers))
    function = Function(name, properties["Handler"], 10, 1769, environment, path)
    Environment(function, {"AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none"}, tmp_path / "log").close()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_variables_are_exactly_the_fields_of_settings(name: str) -> None:
    assert set(variables(name)) == {field.upper() for field in Settings.model_fields}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_endpoint_exists_only_when_it_is_given(name: str) -> None:
    assert variables(name)["AWS_ENDPOINT_URL"] == {
        "Fn::If": ["HasEndpointUrl", {"Ref": "EndpointUrl"}, {"Ref": "AWS::NoValue"}]
    }
    assert EXPANDED["Parameters"]["EndpointUrl"]["Default"] == ""


def test_only_the_local_stage_may_be_given_an_endpoint() -> None:
    rule = EXPANDED["Rules"]["OnlyLocalHasAnEndpoint"]
    assert rule["RuleCondition"] == {"Fn::Not": [{"Fn::Equals": [{"Ref": "Stage"}, "local"]}]}
    assert [one["Assert"] for one in rule["Assertions"]] == [{"Fn::Equals": [{"Ref": "EndpointUrl"}, ""]}]


def test_change_of_a_layer_alone_publishes_a_new_version_of_every_function(tmp_path: Path) -> None:
    changed = tmp_path / "template.yaml"
    changed.write_text(TEMPLATE.read_text().replace("layers/shared", "layers/changed"))

    def versions(template: Path) -> set[str]:
        resources = stack.expand(template, {})["Resources"]
        return {name for name, resource in resources.items() if resource["Type"] == "AWS::Lambda::Version"}

    assert len(versions(TEMPLATE)) == len(FUNCTIONS)
    assert not versions(TEMPLATE) & versions(changed)


def test_every_function_is_called_through_its_published_alias() -> None:
    aliases = [alias["Properties"] for alias in of_type("AWS::Lambda::Alias").values()]
    assert {(alias["FunctionName"]["Ref"], alias["Name"]) for alias in aliases} == {
        (name, "live") for name in FUNCTIONS
    }
    for api in of_type("AWS::ApiGatewayV2::Api").values():
        assert json.dumps(api).count("functions/${") == json.dumps(api).count("Aliaslive}/invocations")


def test_every_log_group_expires_and_every_function_has_one() -> None:
    groups = of_type("AWS::Logs::LogGroup")
    assert all(group["Properties"]["RetentionInDays"] == {"Ref": "LogRetentionDays"} for group in groups.values())
    used = [function["Properties"]["LoggingConfig"]["LogGroup"]["Ref"] for function in FUNCTIONS.values()]
    assert {*used, "ApiLogs"} == set(groups)
    assert len(used) == len(set(used))


def test_access_log_holds_nothing_that_names_a_person() -> None:
    (api_stage,) = of_type("AWS::ApiGatewayV2::Stage").values()
    fields = json.loads(api_stage["Properties"]["AccessLogSettings"]["Format"])
    assert not {"$context.identity.sourceIp", "$context.path", "$context.identity.userAgent"} & set(fields.values())


def test_state_is_counted_retained_and_protected() -> None:
    retained = {name for name, resource in RESOURCES.items() if resource.get("UpdateReplacePolicy") == "Retain"}
    assert retained == STATEFUL == {*TABLES, *of_type("AWS::KMS::Key")}
    assert all(RESOURCES[name]["DeletionPolicy"] == "Retain" for name in STATEFUL)
    for table in (table["Properties"] for table in TABLES.values()):
        assert table["BillingMode"] == "PAY_PER_REQUEST"
        assert table["DeletionProtectionEnabled"]
        assert table["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
        assert table["SSESpecification"]["KMSMasterKeyId"] == {"Fn::GetAtt": ["TablesKey", "Arn"]}


def test_everything_but_the_audit_trail_can_expire() -> None:
    expiring = {name for name, table in TABLES.items() if "TimeToLiveSpecification" in table["Properties"]}
    assert expiring == set(TABLES) - {"AuditTable"}
    for name in expiring:
        ttl = TABLES[name]["Properties"]["TimeToLiveSpecification"]
        assert ttl == {"AttributeName": "ttl", "Enabled": True}


def test_no_policy_of_ours_reaches_beyond_named_resources() -> None:
    policies = [policy["Properties"]["PolicyDocument"] for policy in of_type("AWS::IAM::ManagedPolicy").values()]
    for role in (role["Properties"] for role in of_type("AWS::IAM::Role").values()):
        policies += [policy["PolicyDocument"] for policy in role["Policies"]]
        borrowed = [arn for arn in role["ManagedPolicyArns"] if not isinstance(arn, dict)]
        assert borrowed == ["arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"]
    statements = [statement for policy in policies for statement in policy["Statement"]]
    assert len(statements) > len(FUNCTIONS)
    assert "*" not in json.dumps([statement["Resource"] for statement in statements])
    assert not [statement for statement in statements if statement["Action"] in ("*", "dynamodb:*", ["dynamodb:*"])]


def test_every_route_has_an_authoriser() -> None:
    apis = of_type("AWS::ApiGatewayV2::Api").values()
    operations = [
        operation for api in apis for path in api["Properties"]["Body"]["paths"].values() for operation in path.values()
    ]
    assert len(operations) == 5
    assert all(operation["security"] == [{"AWS_IAM": []}] for operation in operations)


@pytest.mark.parametrize(
    ("model", "table"), [(tables.Profile, "ProfilesTable"), (tables.AuditRow, "AuditTable")], ids=["profile", "audit"]
)
def test_pynamodb_models_have_the_keys_of_their_table(model: Any, table: str) -> None:
    declared = {key["KeyType"]: key["AttributeName"] for key in TABLES[table]["Properties"]["KeySchema"]}
    attributes = model.get_attributes().values()
    modelled = {
        "HASH": [a.attr_name for a in attributes if a.is_hash_key],
        "RANGE": [a.attr_name for a in attributes if a.is_range_key],
    }
    assert {kind: [name] for kind, name in declared.items()} == {
        kind: names for kind, names in modelled.items() if names
    }


def test_fold_index_holds_keys_only() -> None:
    (index,) = TABLES["CountersTable"]["Properties"]["GlobalSecondaryIndexes"]
    assert index["Projection"] == {"ProjectionType": "KEYS_ONLY"}
    assert [key["AttributeName"] for key in index["KeySchema"]] == ["fold", "pk"]


def test_moto_still_has_every_private_symbol_that_the_box_uses() -> None:
    assert moto.core.serialize.SERVICE_SPECIFIC_SERIALIZERS
    assert moto.core.serialize.JSONSerializer._serialize_type_structure
    assert moto.dynamodb.models.dynamo_type.DynamoType({"S": "x"}).type == "S"
    assert moto.server.DomainDispatcherApplication
    assert moto.server.MotoRequestHandler
    assert moto.server.create_backend_app


def test_dynamodbs_ten_types_are_the_ten_that_the_emulator_writes() -> None:
    shape = get_session().get_service_model("dynamodb").shape_for("AttributeValue")
    assert set(shape.members) == {"S", "N", "B", "SS", "NS", "BS", "M", "L", "NULL", "BOOL"}
