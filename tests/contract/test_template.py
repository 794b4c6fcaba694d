"""template.yaml is safe to deploy, and agrees with the code that it deploys."""

import json
import re
from collections.abc import Iterator, Sequence
from datetime import timedelta
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import moto.athena.models
import moto.core.serialize
import moto.dynamodb.models.dynamo_type
import moto.dynamodb.models.table
import moto.sagemaker.models
import moto.sagemaker.responses
import moto.server
import moto.stepfunctions.models
import pytest
from botocore.session import get_session
from moto.stepfunctions.parser.asl.component.common.retry import retrier_decl
from moto.stepfunctions.parser.asl.component.state.exec.state_task import lambda_eval_utils, state_task_factory
from moto.stepfunctions.parser.asl.eval.callback import callback
from moto.stepfunctions.parser.asl.parse import asl_parser
from moto.stepfunctions.parser.asl.utils import json_path
from moto.stepfunctions.parser.backend import execution

from fraud.accounts import rows as account_rows
from fraud.activity.store import Activity
from fraud.activity.suggested import SUGGESTED
from fraud.audit.store import DayIndex, DocumentRow
from fraud.aws.tables import DueIndex
from fraud.aws.transport import Request
from fraud.cases import report_store
from fraud.cases import rows as case_rows
from fraud.counters import fold
from fraud.counters.codec import KEYS, upkeep_update
from fraud.counters.layout import LEVELS, MERCHANT
from fraud.counters.sampling import Raise
from fraud.decisions.evaluation import Evaluator
from fraud.errors import ConflictingBodyError, InvalidRequestError
from fraud.graph import publishing
from fraud.labels import store
from fraud.lists import store as tables
from fraud.settings import Settings
from fraud.transaction import MAX_AGE, Transaction
from local.account import stack
from local.account.permissions import refusal
from local.account.stack import Function
from local.lambdas.environments import Environment
from local.triggers.patterns import matches
from tests.support.activity import Wire, contents
from tests.support.deployment import TABLES as HOT_TABLES
from tests.support.deployment import Deployment
from tests.support.fakes import FixedScorer, rule_book
from tests.support.payments import payment, updates

TEMPLATE = Path(__file__).parents[2] / "template.yaml"
STATEFUL = {
    "AccountsTable",
    "Archive",
    "AuditRoots",
    "AuditTable",
    "CasesTable",
    "CountersTable",
    "DataKey",
    "DecisionArchive",
    "DecisionsTable",
    "LabelsTable",
    "LinksTable",
    "ModelsBucket",
    "ProfilesTable",
    "PseudonymsTable",
    "ReportsTable",
    "RetrainingTable",
    "TalliesTable",
    "Transactions",
    "Undecidable",
}
EXPANDED = stack.expand(TEMPLATE, {})
RESOURCES = EXPANDED["Resources"]
WITH_PEOPLE = stack.present(EXPANDED, {"JwtIssuer": "https://issuer", "JwtAudience": "console"})["Resources"]
"""What there is in a stack whose people have tokens."""


QUEUES = [{"Fn::GetAtt": [name, "Arn"]} for name in ("CaseQueue", "AccountQueue", "RetrainingQueue")]
"""The queues through which the events of the bus come to the doors of cases and accounts."""

MACHINES = [{"Ref": "GraphMachine"}]
"""The machines that a schedule starts."""


def of_type(kind: str) -> dict[str, dict[str, Any]]:
    return {name: resource for name, resource in RESOURCES.items() if resource["Type"] == kind}


FUNCTIONS = of_type("AWS::Lambda::Function")
TABLES = of_type("AWS::DynamoDB::Table")
MAPPINGS = {name: mapping["Properties"] for name, mapping in of_type("AWS::Lambda::EventSourceMapping").items()}
ALARMS = {name: alarm["Properties"] for name, alarm in of_type("AWS::CloudWatch::Alarm").items()}


def plain(value: Any) -> str:
    """Resolve a variable to a parameter's default or a resource's logical id; AWS resolves the rest of it."""
    if isinstance(value, dict) and "Ref" in value:
        return str(EXPANDED["Parameters"].get(value["Ref"], {"Default": value["Ref"]})["Default"])
    if isinstance(value, dict):
        return (
            str(value["Fn::GetAtt"][0]) if "Fn::GetAtt" in value else re.sub(r"\$\{AWS::\w+\}", "x", value["Fn::Sub"])
        )
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
    Environment(function, tmp_path / "log").close()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_variables_are_exactly_the_fields_of_settings_and_the_endpoint(name: str) -> None:
    assert set(variables(name)) == {field.upper() for field in Settings.model_fields} | {"AWS_ENDPOINT_URL"}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_endpoint_variable_exists_only_when_an_endpoint_is_given(name: str) -> None:
    assert variables(name)["AWS_ENDPOINT_URL"] == {
        "Fn::If": ["HasEndpointUrl", {"Ref": "EndpointUrl"}, {"Ref": "AWS::NoValue"}]
    }
    assert EXPANDED["Parameters"]["EndpointUrl"]["Default"] == ""


def test_only_the_local_stage_may_be_given_an_endpoint() -> None:
    rule = EXPANDED["Rules"]["OnlyLocalHasAnEndpoint"]
    assert rule["RuleCondition"] == {"Fn::Not": [{"Fn::Equals": [{"Ref": "Stage"}, "local"]}]}
    assert [one["Assert"] for one in rule["Assertions"]] == [{"Fn::Equals": [{"Ref": "EndpointUrl"}, ""]}]


def test_the_stack_is_well_below_cloudformations_limits() -> None:
    """A stack takes 500 resources, 200 parameters and a template of a megabyte. What is added needs room."""
    body = len(json.dumps(EXPANDED).encode())
    assert (len(RESOURCES) <= 450, len(EXPANDED["Parameters"]) <= 150, body <= 800_000) == (True, True, True)


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
    targets = [mapping["FunctionName"] for mapping in MAPPINGS.values()]
    targets += [
        target["Arn"]
        for rule in of_type("AWS::Events::Rule").values()
        for target in rule["Properties"].get("Targets", ())
        if target["Arn"] not in [*QUEUES, *MACHINES]
    ]
    assert all(target["Ref"].endswith("Aliaslive") for target in targets)


MACHINE_LOGS = ("InvestigationMachineLogs", "DeactivationMachineLogs", "RetrainingMachineLogs", "GraphMachineLogs")


def test_every_log_group_expires_and_every_function_has_one() -> None:
    groups = of_type("AWS::Logs::LogGroup")
    assert all(group["Properties"]["RetentionInDays"] == {"Ref": "LogRetentionDays"} for group in groups.values())
    used = [function["Properties"]["LoggingConfig"]["LogGroup"]["Ref"] for function in FUNCTIONS.values()]
    assert {*used, "ApiLogs", "PeopleApiLogs", "ArchiveDeliveryLogs", *MACHINE_LOGS} == set(groups)
    assert len(used) == len(set(used))


def test_access_log_holds_no_field_that_names_a_person() -> None:
    stages = of_type("AWS::ApiGatewayV2::Stage").values()
    assert len(stages) == 2
    for each in stages:
        fields = json.loads(each["Properties"]["AccessLogSettings"]["Format"])
        assert not {"$context.identity.sourceIp", "$context.path", "$context.identity.userAgent"} & set(fields.values())


def test_state_is_counted_retained_and_protected() -> None:
    retained = {name for name, resource in RESOURCES.items() if resource.get("UpdateReplacePolicy") == "Retain"}
    state = {*TABLES, *of_type("AWS::KMS::Key"), *of_type("AWS::Kinesis::Stream"), *of_type("AWS::S3::Bucket")}
    assert retained == STATEFUL == state | {"Undecidable"}
    assert all(RESOURCES[name]["DeletionPolicy"] == "Retain" for name in STATEFUL)
    for table in (table["Properties"] for table in TABLES.values()):
        assert table["BillingMode"] == "PAY_PER_REQUEST"
        assert table["DeletionProtectionEnabled"]
        assert table["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
        assert table["SSESpecification"]["KMSMasterKeyId"] == {"Fn::GetAtt": ["DataKey", "Arn"]}


def test_everything_but_audit_trail_labels_pseudonyms_and_retrainings_can_expire() -> None:
    expiring = {name for name, table in TABLES.items() if "TimeToLiveSpecification" in table["Properties"]}
    assert expiring == set(TABLES) - {"AuditTable", "LabelsTable", "PseudonymsTable", "RetrainingTable"}
    for name in expiring:
        ttl = TABLES[name]["Properties"]["TimeToLiveSpecification"]
        assert ttl == {"AttributeName": "ttl", "Enabled": True}


def test_every_place_that_holds_payments_is_encrypted_with_the_key_of_the_stack() -> None:
    stream = RESOURCES["Transactions"]["Properties"]["StreamEncryption"]
    assert stream == {"EncryptionType": "KMS", "KeyId": {"Fn::GetAtt": ["DataKey", "Arn"]}}
    queues = of_type("AWS::SQS::Queue").values()
    assert all(queue["Properties"]["KmsMasterKeyId"] == {"Ref": "DataKey"} for queue in queues)
    for bucket in of_type("AWS::S3::Bucket").values():
        (rule,) = bucket["Properties"]["BucketEncryption"]["ServerSideEncryptionConfiguration"]
        assert rule["ServerSideEncryptionByDefault"]["KMSMasterKeyID"] == {"Fn::GetAtt": ["DataKey", "Arn"]}
    for delivery in of_type("AWS::KinesisFirehose::DeliveryStream").values():
        encryption = delivery["Properties"]["DeliveryStreamEncryptionConfigurationInput"]
        assert encryption == {"KeyType": "CUSTOMER_MANAGED_CMK", "KeyARN": {"Fn::GetAtt": ["DataKey", "Arn"]}}


@pytest.mark.parametrize(("name", "kept"), [("Archive", "DecisionRetentionDays"), ("DecisionArchive", "ArchiveDays")])
def test_bucket_is_closed_to_the_public_and_to_plain_http_and_its_objects_expire(name: str, kept: str) -> None:
    bucket = RESOURCES[name]["Properties"]
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert bucket["LifecycleConfiguration"]["Rules"][0]["ExpirationInDays"] == {"Ref": kept}
    (statement,) = RESOURCES[f"{name}Policy"]["Properties"]["PolicyDocument"]["Statement"]
    assert (statement["Effect"], statement["Action"], statement["Condition"]) == (
        "Deny",
        "s3:*",
        {"Bool": {"aws:SecureTransport": "false"}},
    )


def test_roots_of_the_audit_trail_are_under_a_lock_that_production_cannot_open() -> None:
    bucket = RESOURCES["AuditRoots"]["Properties"]
    assert bucket["ObjectLockEnabled"] is True
    assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}
    mode = {"Fn::If": ["IsProduction", "COMPLIANCE", "GOVERNANCE"]}
    rule = {"DefaultRetention": {"Mode": mode, "Days": {"Ref": "AuditRootDays"}}}
    assert bucket["ObjectLockConfiguration"] == {"ObjectLockEnabled": "Enabled", "Rule": rule}
    assert EXPANDED["Conditions"]["IsProduction"] == {"Fn::Equals": [{"Ref": "Stage"}, "prod"]}
    assert "LifecycleConfiguration" not in bucket
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    (statement,) = RESOURCES["AuditRootsPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    assert (statement["Effect"], statement["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})


def test_one_function_writes_roots_and_none_may_delete_one_or_open_the_lock() -> None:
    found = {
        name: sorted(action for one in statements_of(name) if "AuditRoots" in json.dumps(one) for action in listed(one))
        for name in FUNCTIONS
    }
    assert found.pop("WriteRoot") == ["s3:GetObject", "s3:ListBucket", "s3:PutObject"]
    assert not any(found.values())


def test_a_week_without_a_snapshot_of_marks_raises_an_alarm_while_the_lower_grade_still_lasts() -> None:
    alarm, hours = ALARMS["MarksMissing"], EXPANDED["Parameters"]["GraphHours"]
    waits = timedelta(seconds=alarm["Period"] * alarm["EvaluationPeriods"])
    assert alarm["TreatMissingData"] == "breaching"
    assert timedelta(hours=hours["MaxValue"]) < waits < timedelta(days=14)


def test_the_job_of_the_graph_may_make_its_own_tables_anew_and_delete_nothing_else() -> None:
    (policy,) = RESOURCES["GraphJobsRole"]["Properties"]["Policies"]
    deletes = [one for one in policy["PolicyDocument"]["Statement"] if "s3:DeleteObject" in listed(one)]
    (place,) = [one["Resource"]["Fn::Sub"].removeprefix("${ModelsBucket.Arn}/") for one in deletes]
    own = f"{publishing.folder('run-1')}/{publishing.OUTPUT}"
    assert fnmatch(f"{own}/tables/edges/part-0.parquet", place)
    assert not any(fnmatch(key, place) for key in (f"{own}/{publishing.REPORT}", f"{own}/pages/0.json"))
    assert not fnmatch(publishing.PUBLISHED, place)


def listed(statement: dict[str, Any]) -> list[str]:
    return [statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"]


def test_a_missing_root_raises_an_alarm_within_three_hours_whatever_the_time_between_roots() -> None:
    alarm, minutes = ALARMS["RootsMissing"], EXPANDED["Parameters"]["AuditRootMinutes"]
    assert minutes["MaxValue"] * 60 <= alarm["Period"]
    assert (alarm["TreatMissingData"], alarm["Period"] * alarm["EvaluationPeriods"]) == ("breaching", 7200)


def test_undecidable_records_are_kept_for_fourteen_days() -> None:
    assert RESOURCES["Undecidable"]["Properties"]["MessageRetentionPeriod"] == 14 * 24 * 3600


TABLE_STREAMS = ("DecisionMapping", "LabelMapping", "ReportMapping", "CaseChangeMapping", "AccountChangeMapping")
"""The mappings of the streams of tables."""


@pytest.mark.parametrize("name", ["TransactionMapping", *TABLE_STREAMS])
def test_stream_mapping_loses_no_record_and_is_blocked_by_none(name: str) -> None:
    mapping = MAPPINGS[name]
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert mapping["BisectBatchOnFunctionError"]
    assert 0 < mapping["MaximumRetryAttempts"] < 1000
    assert 0 < mapping["MaximumRecordAgeInSeconds"] < MAX_AGE.total_seconds() or name != "TransactionMapping"
    assert mapping["DestinationConfig"] == {"OnFailure": {"Destination": {"Fn::GetAtt": ["Archive", "Arn"]}}}
    assert mapping["StartingPosition"] == "TRIM_HORIZON"
    assert mapping["BatchSize"] <= 100  # keys of one BatchGetItem


READS = {
    "kinesis": {"DescribeStream", "DescribeStreamSummary", "GetRecords", "GetShardIterator", "ListShards"},
    "dynamodb": {"DescribeStream", "GetRecords", "GetShardIterator", "ListStreams"},
    "sqs": {"ChangeMessageVisibility", "DeleteMessage", "GetQueueAttributes", "ReceiveMessage"},
}
"""Actions that Lambda needs of a function's role before it makes a mapping, by the source's service."""


@pytest.mark.parametrize(
    ("function", "service"),
    [
        ("TransactionStream", "kinesis"),
        ("DecisionEvents", "dynamodb"),
        ("LabelEvents", "dynamodb"),
        ("ReportEvents", "dynamodb"),
        ("CaseChanges", "dynamodb"),
        ("AccountChanges", "dynamodb"),
        ("Fold", "sqs"),
        ("CaseEvents", "sqs"),
        ("AccountEvents", "sqs"),
    ],
)
def test_role_may_read_the_source_of_its_mapping(function: str, service: str) -> None:
    (policy,) = RESOURCES[f"{function}Role"]["Properties"]["Policies"]
    granted = {
        action
        for statement in policy["PolicyDocument"]["Statement"]
        for action in ([statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"])
    }
    assert {f"{service}:{action}" for action in READS[service]} <= granted


def rights(function: str) -> list[dict[str, Any]]:
    """Return the statements of a role about the tables, their ARNs as `arn:table/<name>`."""

    def named(resource: Any) -> Any:
        if isinstance(resource, list):
            return [named(each) for each in resource]
        text = resource.get("Fn::Sub") or "${" + ".".join(resource.get("Fn::GetAtt", ["-"])) + "}"
        for name in (*HOT_TABLES, "pseudonyms"):
            text = text.replace(f"${{{name.title()}Table.Arn}}", f"arn:table/{name}")
        return text

    policies = [policy["PolicyDocument"] for policy in RESOURCES[f"{function}Role"]["Properties"]["Policies"]]
    granted = [statement for policy in policies for statement in policy["Statement"]]
    return [one | {"Resource": named(one["Resource"])} for one in granted]


def refused(function: str, requests: Sequence[Request]) -> set[str]:
    operations = ((request.operation.title().replace("_", ""), request.payload) for request in requests)
    reasons = (refusal(name, payload, rights(function), "arn:table/") for name, payload in operations)
    return {reason for reason in reasons if reason}


def sent(requests: Sequence[Request]) -> set[tuple[str, str]]:
    """Return the actions that requests need, each with the table or index on which it is needed."""
    return {
        (request.operation.title().replace("_", ""), place)
        for request in requests
        for place in request.payload.get("RequestItems", [place_of(request.payload)])
    }


def place_of(payload: Any) -> str:
    return "/index/".join(payload[name] for name in ("TableName", "IndexName") if name in payload)


def granted(function: str) -> set[tuple[str, str]]:
    """Return the actions that a role allows on the hot tables, each with the table or index on which it allows it."""

    def listed(value: Any) -> list[str]:
        return [value] if isinstance(value, str) else value

    return {
        (action.removeprefix("dynamodb:"), resource.removeprefix("arn:table/"))
        for statement in rights(function)
        for action in listed(statement["Action"])
        for resource in listed(statement["Resource"])
        if action.startswith("dynamodb:") and resource.partition("/")[2].partition("/")[0] in HOT_TABLES
        if "/stream/" not in resource
    }


def test_tick_and_worker_may_send_every_request_of_the_fold_and_no_other() -> None:
    by_tick, by_worker = Deployment(), Deployment(few=0)
    for deployed in (by_tick, by_worker):
        deployed.folding.tick()
        deployed.pay(type="merchant", payee_id="shop")
        deployed.now += timedelta(hours=38)
    by_tick.requests.clear()
    by_tick.folding.tick()
    assert sent(by_tick.requests) == granted("Tick")
    assert refused("Tick", by_tick.requests) == set()
    by_worker.folding.tick()
    by_worker.requests.clear()
    by_worker.work()
    assert sent(by_worker.requests) == granted("Fold")
    assert refused("Fold", by_worker.requests) == set()


def rising(deployed: Deployment) -> Iterator[Transaction]:
    """Yield payments to one payee, whose item gets a higher level after the first.

    The first payment finds no keys and makes them, the second does not know the level, and the third looks at the item.
    """
    for n in range(3):
        paid = payment(transaction_id=f"t-{n}", payer_id=f"payer-{n}", occurred_at=deployed.now)
        yield paid
        change = upkeep_update(Raise(updates(paid)[1].key, 0, LEVELS - 1))
        deployed.table.update_item({"TableName": HOT_TABLES.counters, **change})


@pytest.mark.parametrize("function", ["DecisionApi", "TransactionStream"])
def test_a_function_that_decides_may_send_every_request_of_a_decision_and_no_other(function: str) -> None:
    deployed = Deployment()
    evaluator = Evaluator(deployed.store, FixedScorer(0.1), rule_book(), deployed.clock, 10)
    for paid in rising(deployed):
        another_body = payment(
            transaction_id=paid.transaction_id, payer_id=paid.payer_id, occurred_at=deployed.now, amount=7
        )
        if function == "TransactionStream":
            assert isinstance(evaluator.evaluate_all([paid, another_body])[1], ConflictingBodyError)
            continue
        evaluator.evaluate(paid)
        with pytest.raises(ConflictingBodyError):
            evaluator.evaluate(another_body)
    if function == "DecisionApi":
        with pytest.raises(InvalidRequestError):
            evaluator.evaluate(payment(transaction_id="t-late", occurred_at=deployed.now - timedelta(hours=13)))
    assert sent(deployed.requests) == granted(function)
    assert refused(function, deployed.requests) == set()


def test_the_function_that_repairs_may_send_every_request_of_counting_again_and_no_other() -> None:
    deployed = Deployment()
    requests: list[Request] = []
    for paid in rising(deployed):
        deployed.requests.clear()
        deployed.store.count_again(paid, ["payer", "payee", "pair"])
        requests += deployed.requests
        deployed.store.count([paid])  # learns the level; a repair looks at an item by itself when its update fails
    assert sent(requests) == granted("DecisionEvents")
    assert refused("DecisionEvents", requests) == set()


def test_the_function_that_writes_links_may_read_and_update_them_and_no_other_function_may() -> None:
    table = {"Fn::GetAtt": ["LinksTable", "Arn"]}
    wire = Wire()
    Activity(wire, "links", "profiles", retention_days=400, approved=True).remember([contents(payment(), "decline")])
    needed = {request.operation.title().replace("_", "") for request in wire.requests}
    found = {name: [one for one in statements_of(name) if "LinksTable" in json.dumps(one)] for name in FUNCTIONS}
    (statement,) = found.pop("DecisionEvents")
    assert statement == {
        "Effect": "Allow",
        "Action": [f"dynamodb:{name}" for name in sorted(needed)],
        "Resource": table,
    }
    reads = {"Effect": "Allow", "Action": "dynamodb:BatchGetItem", "Resource": table}
    suggests = reads | {
        "Action": "dynamodb:UpdateItem",
        "Condition": {"ForAllValues:StringEquals": {"dynamodb:LeadingKeys": [SUGGESTED]}},
    }
    for name in (
        "Investigation",
        "Deactivation",
        "AccountApi",
        "AnalystAccountApi",
        "Graph",
    ):  # they read pages of accounts
        *writes, read = reversed(found.pop(name))
        assert read == reads, name
        assert writes == ([suggests] if name == "Graph" else []), name
    assert not any(found.values())


def statements_of(function: str) -> list[dict[str, Any]]:
    policies = RESOURCES[f"{function}Role"]["Properties"]["Policies"]
    return [statement for policy in policies for statement in policy["PolicyDocument"]["Statement"]]


COUNTING = ("DecisionApi", "TransactionStream", "DecisionEvents")
"""The functions that count, by the stack's keys."""
ARCHIVING = {"DecisionEvents", "LabelEvents", "ReportEvents", "CaseChanges", "AccountChanges", "InvitationApi"}
COUNTING = {"DecisionApi", "TransactionStream"} | ARCHIVING
"""The functions that count or make pseudonyms, by the stack's keys."""


@pytest.mark.parametrize("function", FUNCTIONS)
def test_only_functions_that_use_the_keys_may_put_the_keys_of_the_stack_and_no_other_profile(function: str) -> None:
    def put(pk: str) -> Request:
        return Request("put_item", {"TableName": HOT_TABLES.profiles, "Item": {"pk": {"S": pk}}})

    denied = {"not authorized to perform: dynamodb:PutItem on resource: arn:table/profiles"}
    assert refused(function, [put(KEYS)]) == (set() if function in COUNTING else denied)
    for pk in ("account#keys", "fold#d", f"{KEYS}#", ""):
        assert refused(function, [put(pk)]) == denied
    conditions = [
        one["Condition"]
        for one in rights(function)
        if (one["Action"], one["Resource"]) == ("dynamodb:PutItem", "arn:table/profiles") and "Condition" in one
    ]
    only_keys = {"ForAllValues:StringEquals": {"dynamodb:LeadingKeys": [KEYS]}}
    assert conditions == [only_keys] * (function in COUNTING)


OF_ACCOUNTS = ("AccountApi", "AnalystAccountApi", "AccountEvents", "Deactivation", "AccountSweep")
OF_MODELS = ("ModelApi", "RetrainingEvents", "Retraining", "RetrainingSweep")
AUDITED = {"ListApi", "CaseApi", "CaseEvents", "Investigation", "CaseSweep", *OF_ACCOUNTS, *OF_MODELS}
"""The functions that change what has an audit trail: lists, cases, accounts, models."""


@pytest.mark.parametrize("function", FUNCTIONS)
def test_audit_rows_are_put_by_listed_functions_in_transactions_and_never_changed_or_deleted(
    function: str,
) -> None:
    on_audit = [one for one in rights(function) if "${AuditTable" in json.dumps(one["Resource"])]
    if function == "WriteRoot":  # it reads the index of all chains, and no row
        (statement,) = on_audit
        assert statement["Action"] == ["dynamodb:Query", "dynamodb:Scan"]
        assert statement["Resource"] == "${AuditTable.Arn}/index/days"
        return
    assert all(one["Effect"] == "Allow" and isinstance(one["Action"], str) for one in on_audit)
    together = {"ForAnyValue:StringEquals": {"dynamodb:EnclosingOperation": ["TransactWriteItems"]}}
    allowed = {one["Action"]: one.get("Condition") for one in on_audit}
    assert allowed == ({"dynamodb:Query": None, "dynamodb:PutItem": together} if function in AUDITED else {})
    granted = [one | {"Resource": "arn:table/audit"} for one in on_audit]
    row = {"TableName": "audit", "Item": {"pk": {"S": "deny#ip#192.0.2.1"}, "sk": {"S": "2026-03-04T12:00:00Z"}}}
    key = {"TableName": "audit", "Key": row["Item"]}
    writes = {
        "PutItem": row,
        "UpdateItem": key,
        "DeleteItem": key,
        "BatchWriteItem": {"RequestItems": {"audit": [{"DeleteRequest": {"Key": row["Item"]}}]}},
        "TransactWriteItems": {"TransactItems": [{"Delete": key}]},
        "ExecuteStatement": {"Statement": 'DELETE FROM "audit"'},
    }
    assert all(refusal(operation, request, granted, "arn:table/") for operation, request in writes.items())
    put = refusal("TransactWriteItems", {"TransactItems": [{"Put": row}]}, granted, "arn:table/")
    assert (put is None) == (function in AUDITED)


@pytest.mark.parametrize(
    ("event", "image", "wanted"),
    [
        ("INSERT", {}, True),
        ("MODIFY", {"status": {"S": "declined"}}, True),
        ("MODIFY", {"outcome": {"S": "approve"}}, False),
        ("REMOVE", {}, False),
    ],
)
def test_only_new_decisions_and_rows_with_a_status_become_events(event: str, image: dict[str, Any], wanted: bool):  # noqa: FBT001
    patterns = [json.loads(each["Pattern"]) for each in MAPPINGS["DecisionMapping"]["FilterCriteria"]["Filters"]]
    record = {"eventName": event, "dynamodb": {"NewImage": image}}
    assert any(matches(pattern, record) for pattern in patterns) == wanted
    for table in ("DecisionsTable", "LabelsTable"):
        assert TABLES[table]["Properties"]["StreamSpecification"] == {"StreamViewType": "NEW_AND_OLD_IMAGES"}


def test_queue_of_a_function_hides_a_message_for_six_of_its_timeouts_and_has_a_dead_letter_queue() -> None:
    queue, mapping = RESOURCES["FoldQueue"]["Properties"], MAPPINGS["FoldMapping"]
    assert queue["VisibilityTimeout"] == 6 * FUNCTIONS["Fold"]["Properties"]["Timeout"]
    assert queue["RedrivePolicy"]["deadLetterTargetArn"] == {"Fn::GetAtt": ["FoldFailures", "Arn"]}
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]


def test_every_asynchronous_function_leaves_its_failures_in_a_queue_with_an_alarm() -> None:
    scheduled = {
        resource["Properties"]["Targets"][0]["Arn"]["Ref"].removesuffix("Aliaslive")
        for resource in RESOURCES.values()
        if resource["Type"] == "AWS::Events::Rule"
        and "ScheduleExpression" in resource["Properties"]
        and resource["Properties"]["Targets"][0]["Arn"] not in [*QUEUES, *MACHINES]
    }
    configs = {
        resource["Properties"]["FunctionName"]["Ref"]: resource["Properties"]["DestinationConfig"]["OnFailure"]
        for resource in RESOURCES.values()
        if resource["Type"] == "AWS::Lambda::EventInvokeConfig"
    }
    failures = {name: each["Destination"]["Fn::GetAtt"][0] for name, each in configs.items()}
    of_their_own = {
        "CaseSweep": "CaseFailures",
        "AccountSweep": "AccountFailures",
        "RetrainingSweep": "RetrainingFailures",
    }
    assert failures == dict.fromkeys(["Tick", "Sweep", "WriteRoot", "Kpis", "Drift"], "FoldFailures") | of_their_own
    assert failures.keys() == scheduled


def test_every_rule_may_send_to_its_queues() -> None:
    policies = [policy["Properties"]["PolicyDocument"] for policy in of_type("AWS::SQS::QueuePolicy").values()]
    allowed = {
        (json.dumps(source), json.dumps(queue))
        for policy in policies
        for one in policy["Statement"]
        if one["Effect"] == "Allow"
        for sources in [one.get("Condition", {}).get("ArnEquals", {}).get("aws:SourceArn", ())]
        for source in (sources if isinstance(sources, list) else [sources])
        for queue in (one["Resource"] if isinstance(one["Resource"], list) else [one["Resource"]])
    }
    for name, rule in of_type("AWS::Events::Rule").items():
        for target in rule["Properties"].get("Targets", ()):
            for queue in (target["Arn"], target.get("DeadLetterConfig", {}).get("Arn")):
                if queue is not None and "Fn::GetAtt" in queue:
                    assert (json.dumps({"Fn::GetAtt": [name, "Arn"]}), json.dumps(queue)) in allowed, (name, queue)


def test_alarm_of_fold_lag_is_raised_before_decisions_are_degraded() -> None:
    margin = (MERCHANT.live + 1) * MERCHANT.period - fold.LAG
    lags = ALARMS["FoldLags"]
    assert lags["Threshold"] + lags["Period"] * lags["EvaluationPeriods"] < margin
    assert lags["TreatMissingData"] == "breaching"


def test_every_alarm_notifies_and_every_failure_queue_and_mapping_has_one() -> None:
    assert all(alarm["AlarmActions"] == [{"Ref": "Alarms"}] for alarm in ALARMS.values())
    watched = {alarm["MetricName"] for alarm in ALARMS.values() if "MetricName" in alarm}
    assert watched >= {"IteratorAge", "ApproximateNumberOfMessagesVisible", "FoldLagSeconds"}
    dead_ends = [
        dimension["Value"]["Fn::GetAtt"][0]
        for alarm in ALARMS.values()
        if alarm.get("MetricName") == "ApproximateNumberOfMessagesVisible"
        for dimension in alarm["Dimensions"]
    ]
    assert set(dead_ends) == {"Undecidable", "FoldFailures", "CaseFailures", "AccountFailures", "RetrainingFailures"}
    given_up = [
        alarm for alarm in ALARMS.values() if alarm.get("MetricName") == "OnFailureDestinationDeliveredEventCount"
    ]
    streams = {"TransactionMapping", *TABLE_STREAMS}
    assert {alarm["Dimensions"][0]["Value"]["Ref"] for alarm in given_up} == streams
    assert all(MAPPINGS[name]["MetricsConfig"] == {"Metrics": ["EventCount"]} for name in streams)


FAILING = (
    "FunctionsFail",
    "CaseFunctionsFail",
    "AccountFunctionsFail",
    "PeopleFunctionsFail",
    "AuditFunctionsFail",
    "ReportingFunctionsFail",
    "RetrainingFunctionsFail",
    "GraphFunctionsFail",
)


def test_alarms_of_failing_functions_know_every_function_and_have_no_more_metrics_than_an_alarm_takes() -> None:
    queries = [[each for each in ALARMS[name]["Metrics"] if "MetricStat" in each] for name in FAILING]
    metrics = [query["MetricStat"]["Metric"] for each in queries for query in each]
    assert {metric["Dimensions"][0]["Value"]["Ref"] for metric in metrics} == set(FUNCTIONS)
    assert max(map(len, queries)) <= 10


def statements() -> list[dict[str, Any]]:
    """Return every statement of every policy in the template."""
    policies = [policy["Properties"]["PolicyDocument"] for policy in of_type("AWS::IAM::ManagedPolicy").values()]
    for role in of_type("AWS::IAM::Role").values():
        policies += [policy["PolicyDocument"] for policy in role["Properties"]["Policies"]]
    return [statement for policy in policies for statement in policy["Statement"]]


KEY_READERS = {"DecisionApi", "TransactionStream", "Tick", "Fold", "Deactivation"} | ARCHIVING
"""The functions whose roles may read the stack's secret keys: those that count or make pseudonyms, the fold, which
reads them in one request with its watermarks, and the steps of an action, which look for the tokens of attempts. A
person who joins this list can compute the pseudonym of an id.
"""

PSEUDONYM_READERS = {"Graph"}
"""The functions whose roles may read an account's id by its pseudonym: the publication of marks. The case API will."""

READING = ("GetItem", "BatchGetItem", "TransactGetItems", "Query", "Scan", "UpdateItem", "DeleteItem", "PartiQLSelect")
"""Operations that may return an item: an update or a deletion can return the item as it was."""


def reading(operation: str, table: str, pk: str) -> dict[str, Any]:
    """Return a request that would read one item."""
    key = {"pk": {"S": pk}}
    match operation:
        case "BatchGetItem":
            return {"RequestItems": {table: {"Keys": [key]}}}
        case "TransactGetItems":
            return {"TransactItems": [{"Get": {"TableName": table, "Key": key}}]}
        case "Query" | "Scan" | "PartiQLSelect":
            return {"TableName": table}
    return {"TableName": table, "Key": key}


def test_the_functions_that_may_read_the_keys_and_the_pseudonyms_are_a_committed_list() -> None:
    def readers(table: str, pk: str) -> set[str]:
        return {
            name
            for name in FUNCTIONS
            for operation in READING
            if refusal(operation, reading(operation, table, pk), rights(name), "arn:table/") is None
        }

    assert readers("profiles", KEYS) == KEY_READERS
    assert readers("pseudonyms", "a") == PSEUDONYM_READERS
    policies = json.dumps([policy["Properties"] for policy in of_type("AWS::IAM::ManagedPolicy").values()])
    assert not {"ProfilesTable", "PseudonymsTable"} & {name for name in TABLES if name in policies}


OWN_PARTS = (
    "${Archive.Arn}/",
    "${AuditRoots.Arn}/",
    "${DecisionArchive.Arn}/",
    "${DecisionsTable.Arn}/stream/",
    "${LabelsTable.Arn}/stream/",
    "${ReportsTable.Arn}/stream/",
    ":execution:${InvestigationMachine.Name}:",
    ":execution:${DeactivationMachine.Name}:",
    "${CasesTable.Arn}/stream/",
    "${AccountsTable.Arn}/stream/",
    ":execution:${RetrainingMachine.Name}:",
    "${ModelsBucket.Arn}/",
    ":processing-job/retraining-",
    ":training-job/retraining-",
    ":model-package/${AWS::StackName}-models/",
    ":execution:${AWS::StackName}-graph:",
    ":processing-job/graph-",
    "/applications/${GraphSpark}/jobruns/",
    ":repository/",  # the image of the jobs, which may be another account's
    ":log-group:/aws/sagemaker/",
)


FREE = (["execute-api:Invoke"], ["ecr:GetAuthorizationToken"])
"""Actions whose resource is a part of a route, or that know no resource."""


def test_no_policy_reaches_beyond_named_resources() -> None:
    assert len(statements()) > len(FUNCTIONS)
    for statement in statements():
        actions, resources = (
            value if isinstance(value, list) else [value] for value in (statement["Action"], statement["Resource"])
        )
        assert not [action for action in actions if action == "*" or action.endswith(":*")]
        for resource in map(json.dumps, resources):  # a wildcard may stand for objects, streams and parts of a route
            ours = any(place in resource for place in OWN_PARTS)
            logs = all(action.startswith("logs:") for action in actions)  # delivery of logs knows no resource
            assert "*" not in resource or ours or logs or actions in FREE


def test_only_functions_that_decide_may_invoke_the_models_endpoint() -> None:
    askers = {}
    for name, role in of_type("AWS::IAM::Role").items():
        for statement in (
            s for policy in role["Properties"]["Policies"] for s in policy["PolicyDocument"]["Statement"]
        ):
            if "InvokeEndpoint" in json.dumps(statement["Action"]):
                askers[name] = (statement["Action"], statement["Resource"]["Fn::Sub"])
    arn = "arn:${AWS::Partition}:sagemaker:${AWS::Region}:${AWS::AccountId}:endpoint/${ModelEndpoint}"
    assert askers == dict.fromkeys(["DecisionApiRole", "TransactionStreamRole"], ("sagemaker:InvokeEndpoint", arn))


def test_models_are_deployed_only_by_a_stack_with_an_endpoint_and_only_to_it() -> None:
    given = RESOURCES["DeployModels"]
    assert given["Condition"] == "DeploysToEndpoint"
    chosen = {"Fn::Equals": [{"Ref": "Scorer"}, "endpoint"]}
    named = {"Fn::Not": [{"Fn::Equals": [{"Ref": "ModelEndpointRole"}, ""]}]}
    assert EXPANDED["Conditions"]["DeploysToEndpoint"] == {"Fn::And": [chosen, named]}
    assert EXPANDED["Rules"]["AnEndpointHasARole"]["Assertions"][0]["Assert"] == named
    assert given["Properties"]["Roles"] == [{"Ref": "RetrainingRole"}, {"Ref": "RetrainingSweepRole"}]
    asked = set()
    for statement in given["Properties"]["PolicyDocument"]["Statement"]:
        actions, places = statement["Action"], json.dumps(statement["Resource"])
        asked |= {actions} if isinstance(actions, str) else set(actions)
        assert "sagemaker" not in json.dumps(actions) or places.count("/${ModelEndpoint}") == places.count("arn:")
    used = ("describe_endpoint", "describe_endpoint_config", "describe_model", "create_model", "create_endpoint_config")
    used += ("update_endpoint", "list_tags", "add_tags")
    operations = {f"sagemaker:{name.title().replace('_', '')}" for name in used}
    assert asked == operations | {"iam:PassRole", "cloudwatch:DescribeAlarms"}


def test_no_function_has_a_managed_policy_but_the_one_for_logs() -> None:
    for role in (RESOURCES[f"{name}Role"]["Properties"] for name in FUNCTIONS):
        borrowed = [arn for arn in role["ManagedPolicyArns"] if not isinstance(arn, dict)]
        assert borrowed == ["arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"]


def operations() -> dict[str, dict[str, Any]]:
    """Return the operations of the API for systems by route key."""
    return operations_of("Api")


def operations_of(api: str) -> dict[str, dict[str, Any]]:
    return {
        f"{method.upper()} {path}": operation
        for path, methods in WITH_PEOPLE[api]["Properties"]["Body"]["paths"].items()
        for method, operation in methods.items()
    }


def test_every_route_has_an_authoriser() -> None:
    assert len(operations()) == 38
    assert all(operation["security"] == [{"AWS_IAM": []}] for operation in operations().values())


def test_every_route_for_people_needs_a_token_and_without_an_issuer_there_is_none() -> None:
    assert {name for name, one in RESOURCES.items() if one["Type"] == "AWS::ApiGatewayV2::Api"} == {"Api", "PeopleApi"}
    assert len(operations_of("PeopleApi")) == 32
    assert all(one["security"] == [{"People": []}] for one in operations_of("PeopleApi").values())
    (scheme,) = WITH_PEOPLE["PeopleApi"]["Properties"]["Body"]["components"]["securitySchemes"].values()
    declared = scheme["x-amazon-apigateway-authorizer"]
    assert declared["type"] == "jwt"
    assert declared["identitySource"] == "$request.header.Authorization"
    assert declared["jwtConfiguration"] == {"issuer": {"Ref": "JwtIssuer"}, "audience": {"Ref": "JwtAudience"}}
    absent = RESOURCES.keys() - stack.present(EXPANDED, {})["Resources"].keys()
    assert {
        "PeopleApi",
        "CaseApi",
        "AnalystAccountApi",
        "CaseApiRole",
        "PeopleApiFails",
        "PeopleFunctionsFail",
    } <= absent
    assert {name for name, one in RESOURCES.items() if one.get("Condition")} == absent
    assert EXPANDED["Parameters"]["JwtIssuer"]["Default"] == ""
    assert EXPANDED["Conditions"]["HasIssuer"] == {"Fn::Not": [{"Fn::Equals": [{"Ref": "JwtIssuer"}, ""]}]}


def test_no_resource_without_a_condition_refers_to_one_with_it() -> None:
    there = stack.present(EXPANDED, {})
    absent = RESOURCES.keys() - there["Resources"].keys()
    said = json.dumps([there["Resources"], there["Outputs"]])
    assert not [name for name in absent if re.search(rf'"{name}"|\$\{{{name}[.}}]', said)]


def test_an_issuer_needs_an_audience() -> None:
    rule = EXPANDED["Rules"]["AnIssuerHasAnAudience"]
    assert rule["RuleCondition"] == {"Fn::Not": [{"Fn::Equals": [{"Ref": "JwtIssuer"}, ""]}]}


COVERED = {
    "POST/decisions/challenge",
    "POST/decisions/result",
    *(f"POST/accounts/{change}" for change in ("hold", "release", "ack", "appeal")),
}
"""Routes that another one of their caller's allowances covers: POST/decisions/* and POST/accounts/*."""


def test_every_route_and_nothing_else_is_allowed_to_exactly_one_caller() -> None:
    stage = "arn:${AWS::Partition}:execute-api:${AWS::Region}:${AWS::AccountId}:${Api}/$default/"
    callers: dict[str, list[str]] = {}
    for name, policy in of_type("AWS::IAM::ManagedPolicy").items():
        for statement in policy["Properties"]["PolicyDocument"]["Statement"]:
            if statement["Action"] == "execute-api:Invoke":
                resources = (
                    statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]]
                )
                callers[name] = [resource["Fn::Sub"].removeprefix(stage) for resource in resources]
    allowed = [route for routes in callers.values() for route in routes]
    parts = [route.replace(" /", "/").partition("{") for route in operations()]
    assert sorted(allowed) == sorted({before + ("*" if brace else "") for before, brace, _ in parts} - COVERED)
    assert set(callers) == {"MayActOnAccounts", "MayDecide", "MayInvite", "MayLabel", "MayList", "MayReport"}


def test_the_policy_of_each_caller_is_an_output() -> None:
    callers = [name for name in of_type("AWS::IAM::ManagedPolicy") if name.startswith("May")]
    found = {name: output["Value"] for name, output in EXPANDED["Outputs"].items() if name.startswith("May")}
    assert found == {f"{name}PolicyArn": {"Ref": name} for name in callers}


@pytest.mark.parametrize(
    ("model", "table"),
    [
        (tables.Profile, "ProfilesTable"),
        (tables.AuditRow, "AuditTable"),
        (store.LabelRow, "LabelsTable"),
        (store.AccountProfile, "ProfilesTable"),
        (store.DecidedRow, "DecisionsTable"),
        (case_rows.CaseRow, "CasesTable"),
        (case_rows.ChangeRow, "CasesTable"),
        (report_store.ReportRow, "ReportsTable"),
        (case_rows.PaymentRow, "DecisionsTable"),
        (account_rows.AccountRow, "AccountsTable"),
        (account_rows.ActionRow, "AccountsTable"),
        (account_rows.OrderRow, "AccountsTable"),
        (account_rows.CapRow, "AccountsTable"),
        (account_rows.StatusProfile, "ProfilesTable"),
        (DocumentRow, "AuditTable"),
    ],
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


def test_indexes_of_accounts_are_those_of_their_models() -> None:
    declared = {index["IndexName"]: index for index in TABLES["AccountsTable"]["Properties"]["GlobalSecondaryIndexes"]}
    models = (account_rows.AccountIndex, account_rows.WaitingIndex, DueIndex)
    modelled = {model.Meta.index_name: {name for name, each in vars(model).items() if is_key(each)} for model in models}
    assert modelled == {name: {key["AttributeName"] for key in one["KeySchema"]} for name, one in declared.items()}


def is_key(attribute: Any) -> bool:
    return getattr(attribute, "is_hash_key", False) or getattr(attribute, "is_range_key", False)


STATUS_WRITERS = {"AccountApi", "AnalystAccountApi", "AccountEvents", "AccountSweep"}
"""The functions that write nothing of a profile but an account's status, and only in the account's own transaction."""


@pytest.mark.parametrize("function", sorted(STATUS_WRITERS))
def test_a_function_of_accounts_writes_a_status_only_together_with_the_account(function: str) -> None:
    def update(pk: str) -> dict[str, Any]:
        return {"TableName": HOT_TABLES.profiles, "Key": {"pk": {"S": pk}}}

    def refused_in_transaction(pk: str) -> bool:
        request = {"TransactItems": [{"Update": update(pk)}]}
        return refusal("TransactWriteItems", request, rights(function), "arn:table/") is not None

    assert not refused_in_transaction("account#hanako")
    assert refused_in_transaction(KEYS)
    assert refused_in_transaction("device#d")
    assert refusal("UpdateItem", update("account#hanako"), rights(function), "arn:table/") is not None


def test_indexes_of_reports_hold_what_their_models_say_and_no_text() -> None:
    declared = {index["IndexName"]: index for index in TABLES["ReportsTable"]["Properties"]["GlobalSecondaryIndexes"]}
    for model in (report_store.PayeeIndex, report_store.ReporterIndex):
        index = declared.pop(model.Meta.index_name)
        held = index["Projection"]["NonKeyAttributes"]
        assert held == model.Meta.projection.non_key_attributes
        assert not {"text", "reasons"} & set(held)
    assert declared == {}
    assert TABLES["ReportsTable"]["Properties"]["StreamSpecification"] == {"StreamViewType": "KEYS_ONLY"}


def test_index_of_the_audit_trail_is_the_one_of_its_model() -> None:
    (index,) = TABLES["AuditTable"]["Properties"]["GlobalSecondaryIndexes"]
    assert index["IndexName"] == DayIndex.Meta.index_name
    assert [key["AttributeName"] for key in index["KeySchema"]] == ["day", "at"]
    assert index["Projection"]["NonKeyAttributes"] == DayIndex.Meta.projection.non_key_attributes


def test_fold_index_holds_keys_only() -> None:
    (index,) = TABLES["CountersTable"]["Properties"]["GlobalSecondaryIndexes"]
    assert index["Projection"] == {"ProjectionType": "KEYS_ONLY"}
    assert [key["AttributeName"] for key in index["KeySchema"]] == ["fold", "pk"]


def test_moto_still_has_every_private_symbol_that_the_box_uses() -> None:
    assert moto.athena.models.AthenaBackend.start_query_execution
    assert moto.athena.models.Execution("SELECT 1", "", {}, None, None)._transitions
    assert moto.core.serialize.SERVICE_SPECIFIC_SERIALIZERS
    assert moto.core.serialize.JSONSerializer._serialize_type_structure
    assert moto.dynamodb.models.dynamo_type.DynamoType({"S": "x"}).type == "S"
    assert moto.dynamodb.models.dynamo_type.Item({"S": "x"}, None, {}).attrs == {}
    assert moto.dynamodb.models.dynamo_type.Item.project
    assert moto.dynamodb.models.table.Table.all_items
    assert moto.server.DomainDispatcherApplication
    assert moto.server.MotoRequestHandler
    assert moto.server.create_backend_app
    assert lambda_eval_utils._invoke_lambda_function
    assert retrier_decl.time.sleep
    assert callback.CallbackEndpoint.wait
    assert callback.CallbackPoolManager.notify
    assert execution.BaseExecutionWorkerCommunication.terminated
    assert asl_parser.AmazonStateLanguageParser.parse
    assert json_path.parse
    assert state_task_factory.state_task_service_for("sagemaker")._eval_sync
    assert state_task_factory.state_task_service_for("sagemaker")._build_sync_resolver
    assert moto.stepfunctions.models.stepfunctions_backends is not None
    assert moto.sagemaker.models.SageMakerModelBackend.describe_endpoint
    assert moto.sagemaker.responses.SageMakerResponse._get_param
    assert not hasattr(moto.sagemaker.responses.SageMakerResponse, "update_endpoint")  # the box plays it


def test_dynamodbs_ten_types_are_the_ten_that_the_emulator_writes() -> None:
    shape = get_session().get_service_model("dynamodb").shape_for("AttributeValue")
    assert set(shape.members) == {"S", "N", "B", "SS", "NS", "BS", "M", "L", "NULL", "BOOL"}
