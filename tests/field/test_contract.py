"""The contract that clients are generated from, held to what users of such tools have reported.

Each test names the report or the section of a standard that it follows.
"""

import ast
import contextlib
import http.client
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import re2
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic_core._pydantic_core import list_all_errors  # the only list of them

from fraud.aws.http_api import respond
from fraud.decisions.decision import Decision
from fraud.errors import RULES, Fault, InvalidRequestError
from fraud.labels.label import LabelBatch
from fraud.lists.entry import AllowRequest, DenyRequest, ListContext, ListKey
from fraud.transaction import Transaction, TransactionContext, is_id
from local.account.clock import EventClock
from local.account.stack import Route
from local.api.authorisers import Authorisers, Issuer
from local.api.gateway import LARGEST_BODY, Gateway
from local.box import Box
from local.lambdas.environments import FunctionError
from operations.contract import examples, schemas
from operations.contract.asyncapi import asyncapi
from operations.contract.openapi import GATEWAY, openapi
from operations.contract.routes import ROUTES

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)
OPENAPI, EVENTS = openapi(), asyncapi()
OPERATIONS = {
    f"{method.upper()} {path}": operation for path, way in OPENAPI["paths"].items() for method, operation in way.items()
}
ANSWERS = [(route, status) for route, operation in OPERATIONS.items() for status in operation["responses"]]
REFUSALS = [(route, status) for route, status in ANSWERS if status >= "400"]


def errors_of(schema: Any, value: Any, document: Any = OPENAPI) -> list[str]:
    """Return what a schema of a document has against a value."""
    whole = {"allOf": [schema], "components": document["components"]}
    return [error.message for error in Draft202012Validator(whole).iter_errors(value)]


def named(name: str) -> dict[str, str]:
    return {"$ref": schemas.REF + name}


# --- 13: every status, with the bodies of both parties ---------------------------------------------------------------


@pytest.mark.parametrize(("route", "status"), REFUSALS)
def test_whoever_answers_the_schema_of_each_media_type_takes_the_body(route, status):
    """openapi-generators/openapi-python-client#1248: only the schema of the first media type is read."""
    content = OPERATIONS[route]["responses"][status]["content"]
    bodies = [example["value"] for media in content.values() for example in media["examples"].values()]
    assert bodies
    for media in content.values():
        for body in bodies:
            assert errors_of(media["schema"], body) == []
    # RFC 9457, 3: a problem has its own media type; API Gateway's message is plain JSON.
    for name, media in content.items():
        for example in media["examples"].values():
            assert ("message" in example["value"]) is (name == "application/json")


@pytest.mark.parametrize("route", OPERATIONS)
def test_every_operation_declares_what_the_gateway_itself_answers(route):
    """cortexlabs/cortex#1225, anomalyco/sst#2232: an HTTP API answers 503 with a message of its own."""
    responses = OPERATIONS[route]["responses"]
    assert {"400", "403", "429", "500", "503"} <= responses.keys()
    assert ("413" in responses) is ("requestBody" in OPERATIONS[route])
    assert {"400", "413", "404"} & responses.keys() <= {str(status) for status in GATEWAY}
    for status in ("400", "403", "429", "500", "503"):
        assert "application/json" in responses[status]["content"]


@pytest.mark.parametrize("route", OPERATIONS)
def test_a_503_says_when_to_come_back_in_a_header(route):
    """RFC 9110, 10.2.3."""
    headers = OPERATIONS[route]["responses"]["503"]["headers"]
    assert headers["Retry-After"] == {"$ref": "#/components/headers/RetryAfter"}
    assert OPENAPI["components"]["headers"]["RetryAfter"]["schema"]["type"] == "integer"


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    def invoke(name: str, event: Any, _instant: Any) -> Any:
        if name == "broken":
            raise FunctionError("timed out")
        return {"statusCode": 200, "body": json.dumps(event["requestContext"]["requestId"])}

    iam = {"type": "apiKey", "name": "Authorization", "in": "header", "x-amazon-apigateway-authtype": "awsSigv4"}
    routes = [Route("GET", "/x", "answers", None), Route("GET", "/y", "broken", None), Route("GET", "/z", "x", iam)]
    with Gateway(routes, Authorisers(Box.credentials, Issuer()), invoke, EventClock()) as serving:
        yield serving


def ask(gateway: Gateway, path: str, **headers: str) -> tuple[int, Any, str | None]:
    connection = http.client.HTTPConnection("127.0.0.1", gateway.server_port, timeout=10)
    with contextlib.closing(connection):
        connection.putrequest("GET", path)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read()), answer.headers["apigw-requestid"]


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/nowhere", {}, 404),
        ("/y", {}, 500),
        ("/z", {}, 403),
        ("/x", {"content_length": "x"}, 400),
        ("/x", {"content_length": str(LARGEST_BODY + 1)}, 413),
    ],
)
def test_the_boxs_gateway_answers_as_it_is_documented(gateway: Gateway, path, headers, status):
    """cortexlabs/cortex#1225: the response's body and its apigw-requestid."""
    answered, body, request_id = ask(gateway, path, **headers)
    assert answered == status
    assert errors_of(named("GatewayMessage"), body) == []
    assert body["message"] == GATEWAY[status][0]
    assert request_id


# --- 14: schemas that generators read right --------------------------------------------------------------------------


def reached(name: str) -> set[str]:
    """Return the names of a schema and of all that it refers to."""
    found, rest = set[str](), [name]
    while rest:
        if (one := rest.pop()) not in found:
            found.add(one)
            parts = schemas.parts(OPENAPI["components"]["schemas"][one])
            rest += [part["$ref"].removeprefix(schemas.REF) for part in parts if "$ref" in part]
    return found


REQUESTS = [body.model.__name__ for one in ROUTES.values() if (body := one.request) and body.model]


@pytest.mark.parametrize("name", dict.fromkeys(REQUESTS))
def test_no_field_of_a_request_has_a_default(name):
    """openapi-ts/openapi-typescript#2012, #1741: a default is read as required."""
    for one in reached(name):
        assert not [part for part in schemas.parts(OPENAPI["components"]["schemas"][one]) if "default" in part]


@pytest.mark.parametrize("party", ["payee_id", "instrument_id"])
@pytest.mark.parametrize("value", ["other-1", None, "absent"])
@pytest.mark.parametrize("kind", ["p2p", "merchant", "cash_out", "top_up"])
def test_the_schema_and_the_door_agree_on_the_party_that_a_type_needs(kind, value, party):
    """JSON Schema 2020-12, 10.2.2 (if, then, else)."""
    body = examples.P2P | {"type": kind, party: value}
    body = {name: said for name, said in body.items() if said != "absent" and name in {*examples.P2P, party}}
    if party == "instrument_id":
        del body["payee_id"]
    assert bool(errors_of(named("Transaction"), body)) is bool(faults(Transaction, body))


@pytest.mark.parametrize(
    "part", [part for part in (*schemas.parts(OPENAPI), *schemas.parts(EVENTS)) if isinstance(part.get("pattern"), str)]
)
def test_a_pattern_needs_no_lookahead(part):
    """getkin/kin-openapi#985, santhosh-tekuri/jsonschema#31: RE2 and Go know none."""
    re2.compile(part["pattern"])


@pytest.mark.parametrize(
    "id_", ["a", ".", "..", "...", ".a", "a@b.c", "+81-90", "a/b", "a b", "", "é", "x" * 64, "x" * 65]
)
def test_the_schema_and_the_door_agree_on_identifiers(id_):
    """JSON Schema 2020-12, 6.3.3; the characters are those of UPI addresses and of E.164 numbers."""
    schema = OPENAPI["components"]["schemas"]["Transaction"]["properties"]["payer_id"]
    assert (errors_of(schema, id_) == []) is is_id(id_)


@pytest.mark.parametrize("document", [OPENAPI, EVENTS], ids=["openapi", "events"])
def test_a_document_stands_by_itself(document):
    """asyncapi/bundler#152, swagger-api/apidom#1534: references to parts that are not in the document."""
    for part in schemas.parts(document):
        if isinstance(reference := part.get("$ref"), str):
            place = document
            for name in reference.removeprefix("#/").split("/"):
                place = place[name]


@pytest.mark.parametrize("document", [OPENAPI, EVENTS], ids=["openapi", "events"])
def test_no_description_has_anything_of_python(document):
    """fastapi/fastapi#1358: docstrings for developers in the document for callers."""
    for part in schemas.parts(document):
        said = part.get("description", "")
        if isinstance(said, str):
            assert not re.search(r">>>|\bNone\b|\bself\b|InvalidRequestError|<Outcome", said), said
            assert "\n" not in said.replace("\n\n", ""), said


@pytest.mark.parametrize("document", [OPENAPI, EVENTS], ids=["openapi", "events"])
def test_a_field_has_one_type_wherever_it_stands(document):
    """RFC 3339 times and closed lists are said as such, not as any text."""
    for name, schema in document["components"]["schemas"].items():
        for field, said in schema.get("properties", {}).items():
            kinds = [one for one in said.get("anyOf", [said]) if one.get("type") != "null"]
            if field == "at" or field.endswith("_at"):
                assert [one.get("format") for one in kinds] == ["date-time"], (name, field)
            if field in {"outcome", "outcome_now"}:
                assert kinds[0].get("$ref") == schemas.REF + "Outcome" or len(kinds[0]["enum"]) == 4, (name, field)
            if field in {"code", "codes", "segment"}:
                assert "x-extensible-enum" in kinds[0].get("items", kinds[0]), (name, field)


# --- 15: names of rules ----------------------------------------------------------------------------------------------

PYTHON = re.compile(
    r"\b(instance|dict|dictionary|tuple|None|str|bytearray|class|python|Input should|valid (string|integer))\b"
)
CONTEXTS: dict[Any, Any] = {
    Transaction: TransactionContext("JPY", NOW),
    LabelBatch: NOW + timedelta(days=7),
    DenyRequest: ListContext(NOW, frozenset({"VELOCITY"}), timedelta(days=90)),
    AllowRequest: ListContext(NOW, frozenset({"VELOCITY"}), timedelta(days=90)),
}


def faults(model: Any, body: Any) -> list[Fault]:
    """Return the faults of a body; those of single labels, too."""
    text = body if isinstance(body, str | bytes) else json.dumps(body)
    try:
        parsed = model.parse(text, CONTEXTS[model])
    except InvalidRequestError as error:
        return list(error.faults)
    return [fault for one in getattr(parsed, "labels", ()) for fault in getattr(one, "errors", ())]


@pytest.mark.parametrize("error", list_all_errors(), ids=lambda error: error["type"])
def test_no_error_of_the_validator_shows_through(error):
    """pydantic/pydantic#162, getsentry/sentry#46566: names and words of a Python library in an API's responses."""
    context = (error["example_context"] or {}) | ({"error": "must rise"} if error["type"] == "value_error" else {})
    fault = Fault.validated("field", error["type"], context)
    assert fault.rule in RULES
    assert not PYTHON.search(fault.message), fault.message
    assert fault.rule != error["type"] or fault.rule in {"missing", "too_short", "too_long", "json_invalid"}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(["", " ", "a b"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
GOOD: dict[Any, Any] = {
    Transaction: examples.CASH_OUT | {"payee_id": "b", "payer_name": "c", "campaign_id": "d", "attempt_of": "e"},
    LabelBatch: examples.LABELS,
    DenyRequest: examples.DENY,
    AllowRequest: examples.ALLOW,
}


@pytest.mark.parametrize("model", GOOD)
@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_body_gets_a_rule_that_is_not_listed(model, data):
    """schemathesis' idea: break a good body in any place with any JSON, and read the answer as a client would."""
    body = json.loads(json.dumps(GOOD[model]))
    place = body["labels"][0] if model is LabelBatch and data.draw(st.booleans()) else body
    for name in data.draw(st.lists(st.sampled_from([*place, "more"]), min_size=1, max_size=3)):
        place[name] = data.draw(JSON)
    text = json.dumps(body)
    text = text[: data.draw(st.integers(0, len(text)))] if data.draw(st.integers(0, 9)) == 0 else text
    for fault in faults(model, text):
        assert fault.rule in RULES
        assert not PYTHON.search(fault.message), fault
        assert errors_of(named("Fault"), vars(fault)) == []


@pytest.mark.parametrize(
    ("model", "body", "field", "rule"),
    [
        (LabelBatch, {"labels": [7]}, "body", "wrong_type"),
        (LabelBatch, {"labels": [examples.LABELS["labels"][0] | {"label": "1"}]}, "label", "unknown_value"),
        (LabelBatch, {"labels": []}, "labels", "too_short"),
        (Transaction, "[]", "body", "wrong_type"),
        (Transaction, b"\xff", "body", "json_invalid"),
        (Transaction, examples.P2P | {"amount": "4200"}, "amount", "wrong_type"),
        (Transaction, examples.P2P | {"amount": 42.5}, "amount", "wrong_type"),
        (Transaction, examples.P2P | {"amount": 0}, "amount", "too_small"),
        (Transaction, examples.P2P | {"amount": 10**16}, "amount", "too_large"),
        (Transaction, '{"amount": 1' + "0" * 4000 + "}", "amount", "too_large"),
        (Transaction, examples.P2P | {"type": "P2P"}, "type", "unknown_value"),
        (Transaction, examples.P2P | {"payee_name": "x" * 141}, "payee_name", "too_long"),
        (DenyRequest, {"reason": ""}, "reason", "too_short"),
        (AllowRequest, examples.ALLOW | {"silences": "VELOCITY"}, "silences", "wrong_type"),
    ],
)
def test_a_fault_has_our_name_for_the_rule(model, body, field, rule):
    """pydantic/pydantic#162: what a client may rely on is a name, not the words."""
    found = faults(model, body)
    assert (field, rule) in {(fault.field, fault.rule) for fault in found}
    assert all(fault.rule in RULES and not PYTHON.search(fault.message) for fault in found)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (("ip", "300.1.1.1"), ("ip", "300.1.1.1")),
        (("account", "a/b"), ("payee_id", "a/b")),
        (("colour", "red"), ("channel", "red")),
    ],
)
def test_a_rule_has_one_name_in_a_path_and_in_a_body(path, body):
    """RFC 9457, 3.1: what a program branches on must not depend on the place."""
    with pytest.raises(InvalidRequestError) as refused:
        ListKey("deny", *path)
    (in_path,) = refused.value.faults
    (in_body,) = faults(Transaction, examples.P2P | dict([body]))
    assert in_path.rule == in_body.rule


@cache
def names_in_code() -> set[str]:
    """Return the names of rules that the library's and the doors' code writes as literals."""
    found = set()
    for path in (*(ROOT / "layers/shared/fraud").rglob("*.py"), *(ROOT / "functions").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                place = {"PydanticCustomError": 0, "Fault": 1}.get(node.func.id)
                if place is not None and isinstance(said := node.args[place], ast.Constant):
                    found.add(said.value)
    return found


def test_every_rule_in_the_code_is_listed_and_every_listed_one_is_used():
    """The list in openapi.yaml is whole."""
    from_pydantic = {
        Fault.validated("", error["type"], error["example_context"] or {}).rule for error in list_all_errors()
    }
    ahead = {"occurred_at_ahead", "reported_at_ahead"}
    assert names_in_code() <= RULES.keys()
    assert names_in_code() | from_pydantic | ahead == RULES.keys()
    fault = OPENAPI["components"]["schemas"]["Fault"]["properties"]["rule"]
    assert fault["enum"] == list(RULES)


# --- 16: examples, names, ids ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("route", OPERATIONS)
def test_every_body_has_examples_that_its_schema_takes(route):
    """OpenAPI 3.1, 4.8.14 (Media Type Object): an example matches its schema."""
    operation = OPERATIONS[route]
    bodies = [operation["requestBody"]] if "requestBody" in operation else []
    for status, answer in operation["responses"].items():
        assert ("content" in answer) is (status != "204")
        bodies.append(answer)
    for body in bodies:
        for media in body.get("content", {}).values():
            assert media["examples"]
            for example in media["examples"].values():
                assert errors_of(media["schema"], example["value"]) == []
    for parameter in operation.get("parameters", []):
        assert errors_of(parameter["schema"], parameter["example"]) == []


@pytest.mark.parametrize("model", GOOD)
def test_every_example_of_a_request_is_accepted(model):
    """OpenAPI 3.1, 4.8.14: what is shown works when it is pasted."""
    shown = [one.request.examples for one in ROUTES.values() if one.request and one.request.model is model]
    for example in (value for those in shown for value in those.values()):
        assert faults(model, example) == []


def test_the_example_of_a_decision_is_a_decision():
    """OpenAPI 3.1, 4.8.14."""
    assert Decision.model_validate_json(json.dumps(examples.DECISION)).model_dump(mode="json") == examples.DECISION


def test_every_event_has_an_example_that_its_schema_takes():
    """AsyncAPI 3.0, Message Example Object."""
    for message in EVENTS["components"]["messages"].values():
        for example in message["examples"]:
            assert errors_of(message["payload"], example["payload"], EVENTS) == []
            assert errors_of(message["payload"], example["payload"] | {"detail": {}}, EVENTS)


def test_operations_have_names_tags_and_a_signature_that_tools_know():
    """OpenAPI 3.1, 4.8.10 (operationId) and the extension by which API Gateway and its tools know SigV4."""
    names = [operation["operationId"] for operation in OPERATIONS.values()]
    assert len(set(names)) == len(names)
    tags = {tag["name"] for tag in OPENAPI["tags"]}
    assert {tag for operation in OPERATIONS.values() for tag in operation["tags"]} == tags
    assert OPENAPI["components"]["securitySchemes"]["sigv4"]["x-amazon-apigateway-authtype"] == "awsSigv4"
    assert OPENAPI["servers"]


@pytest.mark.parametrize("id_", ["JKJaXmPLvHcESHA=", None])
def test_a_problem_and_its_log_line_name_the_request(id_, capsys):
    """cortexlabs/cortex#1225, aws/aws-lambda-java-libs#230: the id that the gateway sends as a header."""

    def refuse() -> str:
        raise InvalidRequestError((Fault("amount", "missing", "is required"),))

    body = json.loads(respond("decision_api", refuse, id_)["body"])
    line = json.loads(capsys.readouterr().out)
    assert body.get("request_id") == line.get("request_id") == id_
    assert errors_of(named("Problem"), body) == []


def test_every_answer_of_the_boxs_gateway_names_its_request(gateway: Gateway):
    """cortexlabs/cortex#1225: the header and the event have one id, and each request another."""
    first, second = (ask(gateway, "/x") for _ in range(2))
    assert first[1] == first[2]
    assert second[1] == second[2] != first[2]


@pytest.mark.parametrize("answer", ANSWERS)
def test_every_documented_answer_has_the_id_of_its_request(answer):
    """cortexlabs/cortex#1225."""
    route, status = answer
    assert "Apigw-Requestid" in OPERATIONS[route]["responses"][status]["headers"]
