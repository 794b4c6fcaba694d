"""Personal data stays in the tables: the logs of functions, the events of the bus and the queue are searched for it."""

import base64
import json
import re
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from local.api.client import Client
from local.box import Box

PERSON = {"payer_name": "Secret 花子", "ip": "203.0.113.98", "metadata": {"secret-name": "secret-value"}}
IDS = {"payer_id": "secret-payer", "payee_id": "secret-payee", "device_id": "secret-device"}
NEVER = ("secret", "花子", "\\u82b1", PERSON["ip"])
"""Words that no log line and no reason may have; `secret` in upper or lower case."""

ON_THE_BUS = ("secret-name", "secret-value", "secret-device", "secret-text", "花子", "\\u82b1", PERSON["ip"])
"""Words that no event may have. Events are about the two accounts, so they have their ids and nothing else of them."""


@pytest.fixture
def box(box: Box) -> Iterator[Box]:
    """The box, with a queue that gets every event of its bus."""
    environment, sqs, bus = box.stack.functions[0].environment, box.client("sqs"), box.client("events")
    url = sqs.create_queue(QueueName="log-scan")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    name = environment["EVENT_BUS_NAME"]
    bus.put_rule(Name="log-scan", EventBusName=name, EventPattern='{"account": [{"exists": true}]}')
    bus.put_targets(Rule="log-scan", EventBusName=name, Targets=[{"Id": "log-scan", "Arn": arn}])
    yield box
    bus.remove_targets(Rule="log-scan", EventBusName=name, Ids=["log-scan"])
    bus.delete_rule(Name="log-scan", EventBusName=name)
    sqs.delete_queue(QueueUrl=url)


def messages(box: Box, url: str) -> list[Any]:
    sqs, bodies = box.client("sqs"), []
    while found := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
        bodies += [json.loads(message["Body"]) for message in found]
        for message in found:
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    return bodies


def test_nothing_personal_is_in_any_log_event_or_reason(box: Box) -> None:
    now = box.clock.instant or datetime.now(UTC)
    box.clock.advance(now)
    payment = IDS | PERSON | {"type": "p2p", "amount": 1200, "currency": "JPY", "occurred_at": now.isoformat()}

    def fresh(**fields: Any) -> dict[str, Any]:
        return payment | {"transaction_id": f"scan-{uuid.uuid4()}"} | fields

    sound, lists = fresh(), {"reason": "secret reason", "expires_at": "2099-01-01T00:00:00Z"}
    faulty = [fresh(amount="secret"), fresh(ip="secret"), fresh(metadata={"secret": 1}), fresh(secret_field="secret")]
    labels = [
        {"transaction_id": sound["transaction_id"], "label": "fraud", "reported_at": now.isoformat()},
        {"transaction_id": "scan-elsewhere", "label": "secret", "reported_at": "secret", "payer_id": "secret-payer"},
    ]
    report = {
        "report_id": f"scan-{uuid.uuid4()}",
        "transaction_id": sound["transaction_id"],
        "reporter_id": "secret-payer",
        "category": "fake_shop",
        "text": "Secret 花子 secret-text",
        "reported_at": now.isoformat(),
    }
    requests: list[tuple[str, str, Any]] = [
        *(("POST", "/decisions", body) for body in (sound, sound, sound | {"amount": 9}, *faulty, "secret")),
        ("GET", "/decisions/secret-transaction", None),
        ("POST", "/labels", {"labels": labels}),
        ("POST", "/labels", {"secret": "secret"}),
        ("POST", "/reports", {"reports": [report, report | {"text": "secret"}, report | {"category": "secret"}]}),
        ("POST", "/reports", {"secret": "secret"}),
        ("GET", f"/reports/{report['report_id']}", None),
        ("PUT", "/lists/deny/device/secret-device", lists),
        ("PUT", "/lists/allow/account/secret-payer", lists | {"silences": ["secret"]}),
        ("GET", "/lists/deny/device/secret-device", None),
        ("GET", "/lists/deny/secret/secret", None),
        ("DELETE", "/lists/deny/device/secret-device", {"reason": "secret reason"}),
    ]
    with box.connect() as client:
        answers = [
            client.request(method, path, b"" if body is None else json.dumps(body).encode(), now)
            for method, path, body in requests
        ]
    records = [json.dumps(body).encode() for body in (fresh(), sound | {"amount": 8}, *faulty)] + [b'{"secret']
    box.client("kinesis").put_records(
        StreamName="Transactions", Records=[{"Data": data, "PartitionKey": "scan"} for data in records]
    )
    box.settle()

    assert [answer.status for answer in answers[:3]] == [200, 200, 409]
    logs = "".join(path.read_text() for path in box.logs.iterdir() if path.name != "emulator.log")
    assert sound["transaction_id"] in logs
    assert not [word for word in NEVER if word in logs.lower()]

    environment = box.stack.functions[0].environment
    aside = [body for body in messages(box, environment["UNDECIDABLE_QUEUE_URL"]) if "secret" in said(body)]
    assert len(aside) == len(records) - 1
    reasons = json.dumps([{name: body[name] for name in body if name != "data"} for body in aside])
    assert not [word for word in NEVER if word in reasons.lower()]

    events = messages(box, box.client("sqs").get_queue_url(QueueName="log-scan")["QueueUrl"])
    text = json.dumps(events, ensure_ascii=False)
    assert sound["transaction_id"] in text
    assert [event["detail-type"] for event in events if report["report_id"] in json.dumps(event)] == ["ReportReceived"]
    assert not [word for word in ON_THE_BUS if word in text.lower()]


def said(body: dict[str, Any]) -> str:
    return base64.b64decode(body["data"]).decode()


def test_no_note_reason_name_or_token_of_a_case_is_in_any_log_event_or_answer(box: Box) -> None:
    """A person's words are in the case only; the tokens of people and of waiting executions are secrets."""
    now = box.clock.instant or datetime.now(UTC)
    payment = IDS | PERSON | {"type": "p2p", "amount": 1200, "currency": "JPY", "occurred_at": now.isoformat()}
    decided = payment | {"transaction_id": f"scan-{uuid.uuid4()}"}
    with box.connect() as client:
        assert client.request("POST", "/decisions", json.dumps(decided).encode(), now).status == 200
    person = box.token("secret-analyst", "lead")
    answers: list[str] = []

    with Client(box.people_url, person) as client:

        def sent(path: str, body: Any = None) -> Any:
            content = b"" if body is None else json.dumps(body).encode()
            answer = client.request("GET" if body is None else "POST", path, content)
            answers.append(answer.body.decode())
            assert answer.status == 200, answer
            return json.loads(answer.body)

        asked = {"transaction_id": decided["transaction_id"], "subject_kind": "payer", "reason": "secret suspicion"}
        name = sent("/cases", asked)["case_id"]
        box.settle()
        waiting = token_of(box, name)
        version = sent(f"/cases/{name}")["case"]["version"]
        version = sent(f"/cases/{name}/take", {"version": version})["version"]
        sent(f"/cases/{name}/evidence")
        version = sent(f"/cases/{name}/notes", {"version": version, "note": "secret note"})["version"]
        refused = client.request("POST", f"/cases/{name}/notes", b'{"version": 1, "note": "secret", "secret": 1}')
        assert refused.status == 400
        sent(f"/cases/{name}/verdict", {"version": version, "finding": "dispute", "reason": "secret reason"})
    box.settle()

    logs = "".join(path.read_text() for path in box.logs.iterdir() if path.name != "emulator.log")
    assert name in logs
    assert not [word for word in NEVER if word in logs.lower()]
    events = messages(box, box.client("sqs").get_queue_url(QueueName="log-scan")["QueueUrl"])
    of_cases = json.dumps([event for event in events if "case_id" in event["detail"]])
    assert name in of_cases
    assert not [words for words in ("secret-analyst", "secret note", "secret reason", "suspicion") if words in of_cases]
    for said_by_us in (logs, of_cases, *answers):
        assert waiting not in said_by_us
        assert person not in said_by_us


def test_no_reason_appeal_name_or_token_of_an_account_is_in_any_log_or_event(box: Box) -> None:
    """An account's id is on the bus for the app; what people say of it is in its rows and nowhere else."""
    tokens = box.token("secret-lead", "lead"), box.token("secret-other-lead", "lead")
    account, order = f"scan-account-{uuid.uuid4()}", f"scan-{uuid.uuid4()}"
    now = box.clock.instant or datetime.now(UTC)

    def sent(client: Client, path: str, body: Any = None) -> Any:
        content = b"" if body is None else json.dumps(body).encode()
        answer = client.request("GET" if body is None else "POST", path, content, now)
        assert answer.status == 200, answer
        return json.loads(answer.body)

    with box.connect() as app, Client(box.people_url, tokens[0]) as lead, Client(box.people_url, tokens[1]) as other:
        sent(app, f"/accounts/{account}/hold", {"reason": "secret suspicion of the app"})
        sent(app, f"/accounts/{account}/release", {"reason": "secret relief"})
        said = {"order_id": order, "account_ids": [account], "reason": "secret reason"}
        name = sent(lead, "/analyst/orders", said)["actions"][account]
        box.settle()
        waiting = token_of(box, name, "ACCOUNTS_TABLE", "action")
        sent(app, f"/accounts/{account}/actions/{name}/ack", {"status": "deactivated"})
        sent(app, f"/accounts/{account}/appeal", {"appeal_id": "appeal-1", "text": "Secret 花子 secret-text"})
        box.settle()
        refused = app.request("POST", f"/accounts/{account}/appeal", b'{"appeal_id": "secret", "secret": 1}', now)
        assert refused.status == 400
        review = {"decision": "overturn", "reason": "secret finding", "told": "secret apology"}
        sent(other, f"/analyst/actions/{name}/review", review)
        box.settle()
        assert "secret apology" in json.dumps(sent(app, f"/accounts/{account}"))

    logs = "".join(path.read_text() for path in box.logs.iterdir() if path.name != "emulator.log")
    assert name in logs
    assert account not in logs
    assert not [word for word in NEVER if word in logs.lower()]
    events = messages(box, box.client("sqs").get_queue_url(QueueName="log-scan")["QueueUrl"])
    of_actions = json.dumps([one for one in events if name in json.dumps(one)], ensure_ascii=False)
    assert {"AccountDeactivated", "AppealReceived", "AccountReinstated"} <= set(re.findall(r"\w+", of_actions))
    assert not re.search("secret|花子", of_actions.lower())
    for said_by_us in (logs, of_actions):
        assert not [token for token in (*tokens, waiting) if token in said_by_us]


def token_of(box: Box, name: str, table: str = "CASES_TABLE", sk: str = "case") -> str:
    """Return the token of the execution that waits for a row."""
    table = box.stack.functions[0].environment[table]
    key = {"pk": {"S": name}, "sk": {"S": sk}}
    token: str = box.client("dynamodb").get_item(TableName=table, Key=key)["Item"]["token"]["S"]
    return token
