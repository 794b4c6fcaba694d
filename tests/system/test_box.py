"""The account in a box has the tables, routes and functions of template.yaml, and ends with all its processes."""

import json
import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from local.account.boto import REGION
from local.account.emulator import Emulator, EmulatorError
from local.api.client import Client
from local.box import Box
from operations.contract.people import PEOPLE

UNKNOWN_RESOURCE = """
Transform: AWS::Serverless-2016-10-31
Parameters:
  Stage: {Type: String}
Resources:
  Known: {Type: AWS::SQS::Queue}
  Unknown: {Type: AWS::Timestream::Database}
"""
START = datetime(2026, 3, 1, 12, tzinfo=UTC)
PAYMENT = {"type": "p2p", "payer_id": "box-payer", "payee_id": "box-payee", "amount": 1200, "currency": "JPY"}


def test_tables_are_those_of_the_template(box: Box) -> None:
    dynamodb = box.client("dynamodb")
    names = set(dynamodb.list_tables()["TableNames"])
    hot = {"CountersTable", "ProfilesTable", "DecisionsTable"}
    later = {"LabelsTable", "LinksTable", "AuditTable", "PseudonymsTable", "TalliesTable", "CasesTable", "ReportsTable"}
    assert names == hot | later | {"AccountsTable", "RetrainingTable"}
    for streamed in ("DecisionsTable", "LabelsTable"):
        stream = dynamodb.describe_table(TableName=streamed)["Table"]["StreamSpecification"]
        assert stream == {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}
    (index,) = dynamodb.describe_table(TableName="CountersTable")["Table"]["GlobalSecondaryIndexes"]
    assert index["IndexName"] == "fold"


def test_functions_get_the_variables_and_the_code_of_the_template(box: Box) -> None:
    for function in box.stack.functions:
        assert function.environment["COUNTERS_TABLE"] == "CountersTable"
        assert function.environment["AWS_ENDPOINT_URL"] == box.endpoint_url
        assert function.environment["STAGE"] == "local"
        assert all(Path(part).is_dir() for part in function.path[::2])


def test_routes_are_those_of_the_template(box: Box) -> None:
    assert {route.key for route in box.stack.routes if route.api == "PeopleApi"} == set(PEOPLE)
    assert {route.key for route in box.stack.routes if route.api == "Api"} == {
        "POST /decisions",
        "GET /decisions",
        "GET /decisions/{transaction_id}",
        *(f"POST /decisions{name}/{what}" for name in ("", "/{transaction_id}") for what in ("challenge", "result")),
        "POST /labels",
        "GET /accounts",
        "GET /accounts/{account_id}",
        *(
            f"POST /accounts{name}/{what}"
            for name in ("", "/{account_id}")
            for what in ("hold", "release", "appeal", "ack" if not name else "actions/{action_id}/ack")
        ),
        "POST /invitations",
        "POST /reports",
        "GET /reports",
        "GET /reports/{report_id}",
        "GET /lists/deny/{kind}",
        "GET /lists/allow/{kind}",
        "POST /lists/allow/confirm",
        "POST /lists/allow/{kind}/{value}/confirm",
        *(
            f"{method} /lists/{name}{value}"
            for method in ("PUT", "DELETE", "GET")
            for name in ("deny", "allow")
            for value in ("", "/{kind}/{value}")
        ),
    }


def test_no_route_answers_a_stranger(box: Box) -> None:
    refused = {"Api": (403, b'{"message": "Forbidden"}'), "PeopleApi": (401, b'{"message": "Unauthorized"}')}
    for api, answered in refused.items():
        with Client(box.urls[api], Credentials("stranger", "guess")) as stranger:
            for route in (route for route in box.stack.routes if route.api == api):
                answer = stranger.request(route.method, re.sub(r"\{\w+\}", "x", route.path), b"{}")
                assert (answer.status, answer.body) == answered


def test_each_api_serves_its_own_routes_and_people_come_in_with_tokens(box: Box) -> None:
    with box.connect_person("hana", "analyst") as hana, box.connect() as system:
        assert hana.request("GET", "/cases").status == 200
        assert hana.request("GET", "/decisions/box-1").status == 404
        assert system.request("GET", "/cases").status == 404
    with box.connect_person("eve", "support") as eve:
        assert eve.request("GET", "/cases").status == 403


def test_payment_is_decided_repeated_and_found(box: Box) -> None:
    now = box.clock.instant or START
    body = json.dumps(PAYMENT | {"transaction_id": "box-1", "occurred_at": now.isoformat()}).encode()
    with box.connect() as client:
        first = client.request("POST", "/decisions", body, now)
        again = client.request("POST", "/decisions", body)
        found = client.request("GET", "/decisions/box-1")
    assert (first.status, again) == (200, first)
    assert json.loads(found.body)["decision"] == json.loads(first.body)
    assert box.client("dynamodb").get_item(TableName="DecisionsTable", Key={"pk": {"S": "box-1"}})["Item"]


def test_no_log_has_a_name_an_address_or_metadata(box: Box) -> None:
    now = box.clock.instant or START
    secrets = {
        "payer_name": "Nomura-Secret",
        "payee_name": "Sato-Secret",
        "ip": "203.0.113.77",
        "metadata": {"k": "v-Secret"},
    }
    private = PAYMENT | secrets | {"transaction_id": "box-2", "occurred_at": now.isoformat()}
    bodies = [private, private | {"amount": 7}, private | {"amount": "Secret"}, private | {"Secret": 1}]
    with box.connect() as client:
        statuses = [client.request("POST", "/decisions", json.dumps(body).encode(), now).status for body in bodies]
        statuses.append(client.request("POST", "/decisions", b'{"payer_name": "Secret', now).status)
        statuses.append(client.request("PUT", "/lists/deny/ip/203.0.113.77", b'{"reason": "x", "Secret": 1}').status)
    assert statuses == [200, 409, 400, 400, 400, 400]
    logged = "".join(log.read_text() for log in box.logs.glob("*.log"))
    assert "box-2" in logged
    assert "Secret" not in logged
    assert "203.0.113.77" not in logged


def test_value_is_put_on_the_deny_list_and_taken_off(box: Box) -> None:
    with box.connect() as client:
        put = client.request("PUT", "/lists/deny/device/box-device", b'{"reason": "stolen"}')
        assert put.status == 200
        assert client.request("DELETE", "/lists/deny/device/box-device").status == 204
        shown = json.loads(client.request("GET", "/lists/deny/device/box-device").body)
    assert (shown["active"], len(shown["history"])) == (False, 2)


def test_function_may_do_what_its_role_allows_and_nothing_else(box: Box) -> None:
    function = boto3.Session("DecisionApi", "any", region_name=REGION).client("dynamodb", endpoint_url=box.endpoint_url)
    key = {"pk": {"S": "absent"}}
    assert "Item" not in function.get_item(TableName="DecisionsTable", Key=key)
    writes: list[dict[str, Any]] = [{"Put": {"TableName": "AuditTable", "Item": key | {"sk": {"S": "x"}}}}]
    for forbidden in (
        lambda: function.delete_item(TableName="DecisionsTable", Key=key),
        lambda: function.scan(TableName="ProfilesTable"),
        lambda: function.transact_write_items(TransactItems=writes),
        lambda: function.batch_get_item(
            RequestItems={"DecisionsTable": {"Keys": [key]}, "AuditTable": {"Keys": [key]}}
        ),
    ):
        with pytest.raises(ClientError, match=r"AccessDeniedException.*not authorized to perform: dynamodb:"):
            forbidden()
    assert "DecisionApi is not authorized to perform: dynamodb:Scan" in (box.logs / "emulator.log").read_text()


def test_no_update_is_lost_when_many_threads_update_one_item(box: Box) -> None:
    def add(number: int) -> None:
        dynamodb.update_item(
            TableName="CountersTable",
            Key={"pk": {"S": "meeting"}, "sk": {"S": "point"}},
            UpdateExpression="ADD payments :one, tokens :token",
            ExpressionAttributeValues={":one": {"N": "1"}, ":token": {"BS": [number.to_bytes(2)]}},
        )

    dynamodb = box.client("dynamodb")
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(add, range(200)))
    item = dynamodb.get_item(TableName="CountersTable", Key={"pk": {"S": "meeting"}, "sk": {"S": "point"}})["Item"]
    assert (item["payments"]["N"], len(item["tokens"]["BS"])) == ("200", 200)


def test_every_type_of_value_is_read_as_it_was_written(box: Box) -> None:
    scalars: dict[str, Any] = {
        "s": {"S": ""},
        "n": {"N": "1.5"},
        "b": {"B": b"\x00"},
        "t": {"BOOL": False},
        "0": {"NULL": True},
    }
    sets = {"ss": {"SS": ["a"]}, "ns": {"NS": ["1"]}, "bs": {"BS": [b"\xff"]}}
    nested = {"l": {"L": [*scalars.values(), {"M": scalars}]}, "m": {"M": {**scalars, **sets}}, "empty": {"L": []}}
    item = {"pk": {"S": "types"}, **scalars, **sets, **nested}
    dynamodb = box.client("dynamodb")
    dynamodb.put_item(TableName="ProfilesTable", Item=item)
    key = {"pk": {"S": "types"}}
    assert dynamodb.get_item(TableName="ProfilesTable", Key=key)["Item"] == item
    assert dynamodb.batch_get_item(RequestItems={"ProfilesTable": {"Keys": [key]}})["Responses"]["ProfilesTable"] == [
        item
    ]
    assert dynamodb.delete_item(TableName="ProfilesTable", Key=key, ReturnValues="ALL_OLD")["Attributes"] == item


def test_error_names_a_resource_that_the_emulator_cannot_create(tmp_path: Path) -> None:
    template = tmp_path / "template.yaml"
    template.write_text(UNKNOWN_RESOURCE)
    with (
        pytest.raises(EmulatorError, match=r"Unknown.*AWS::Timestream::Database"),
        Emulator(tmp_path / "log", template),
    ):
        pass


@contextmanager
def running(scratch: Path, *command: str) -> Iterator[subprocess.Popen[str]]:
    variables = os.environ | {"TMPDIR": str(scratch)}  # a killed process leaves its files
    with subprocess.Popen(
        [sys.executable, "-m", *command], env=variables, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_all_processes_end_when_the_box_is_stopped_or_killed(end: signal.Signals, tmp_path: Path) -> None:
    with running(tmp_path, "local", "--port", "0") as up:
        assert up.stdout is not None
        printed = "".join(iter(up.stdout.readline, "up: end it with Ctrl-C\n"))
        said = re.search(r"API +(?P<url>\S+)[^$]*KEY_ID=(?P<key>\S+) \S+ACCESS_KEY=(?P<secret>\S+)", printed)
        assert said is not None
        with Client(said["url"], Credentials(said["key"], said["secret"])) as client:
            assert client.request("GET", "/decisions/none").status == 404
        children = Path(f"/proc/{up.pid}/task/{up.pid}/children").read_text().split()
        watched = [os.pidfd_open(int(child)) for child in children]
        up.send_signal(end)
        assert up.wait(30) == (-end if end == signal.SIGKILL else 0)
    assert len(children) >= 1
    assert end == signal.SIGKILL or not list(tmp_path.iterdir())
    for descriptor in watched:
        assert select.select([descriptor], [], [], 30)[0], "a child outlived its parent"
        os.close(descriptor)


def test_emulator_alone_says_when_it_is_ready(tmp_path: Path) -> None:
    with running(tmp_path, "local.account.emulator", "--host", "127.0.0.1", "--port", "0") as emulator:
        assert emulator.stdout is not None
        assert emulator.stdout.readline().startswith("emulator ready: http://127.0.0.1:")
        emulator.terminate()
        assert emulator.wait(30) == 0
