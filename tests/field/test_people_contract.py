"""The document of the API for people, held to what users of tools that read such documents have reported.

Each test names the report or the section of a standard that it follows; tests/field/test_contract.py has the API for
systems.
"""

import json
import re
from typing import Any

import pytest
import re2
from jsonschema import Draft202012Validator

from fraud.accounts import requests as accounts
from fraud.cases.console import ACTIONS, NextRequest, OpenRequest
from fraud.retraining import console as models
from operations.contract import schemas
from operations.contract.openapi import PEOPLE_GATEWAY, people
from operations.contract.people import PEOPLE

DOCUMENT = people()
OPERATIONS = {
    f"{method.upper()} {path}": operation
    for path, way in DOCUMENT["paths"].items()
    for method, operation in way.items()
}
BODIES = {one.request.model: one.request.examples for one in PEOPLE.values() if one.request}


def errors_of(schema: Any, value: Any) -> list[str]:
    """Return what a schema of the document has against a value."""
    whole = {"allOf": [schema], "components": DOCUMENT["components"]}
    return [error.message for error in Draft202012Validator(whole).iter_errors(value)]


@pytest.mark.parametrize("route", OPERATIONS)
def test_every_example_is_what_its_schema_takes(route):
    """OpenAPI 3.1, 4.8.14; openapi-generators/openapi-python-client#1248: each schema takes each body."""
    operation = OPERATIONS[route]
    for body in (operation.get("requestBody", {}), *operation["responses"].values()):
        media = body.get("content", {}).values()
        shown = [example["value"] for one in media for example in one["examples"].values()]
        assert all(errors_of(one["schema"], value) == [] for one in media for value in shown)
    for parameter in operation.get("parameters", []):
        assert errors_of(parameter["schema"], parameter["example"]) == []


@pytest.mark.parametrize("route", OPERATIONS)
def test_every_operation_declares_what_the_gateway_itself_answers(route):
    """cortexlabs/cortex#1225: API Gateway answers in place of the function, and a token that is not valid gets 401."""
    responses = OPERATIONS[route]["responses"]
    assert {"200", "400", "401", "403", "429", "500", "503"} <= responses.keys()
    assert ("413" in responses) is ("requestBody" in OPERATIONS[route])
    for status, (message, _) in PEOPLE_GATEWAY.items():
        if answer := responses.get(str(status), {}).get("content", {}).get("application/json"):
            assert answer["examples"]["ApiGateway"]["value"] == {"message": message}
    assert list(responses["401"]["content"]) == ["application/json"]
    assert list(responses["403"]["content"]) == ["application/problem+json"]


@pytest.mark.parametrize("model", BODIES, ids=lambda model: model.__name__)
def test_every_example_of_a_request_is_accepted(model):
    """OpenAPI 3.1, 4.8.14: what is shown works when it is pasted."""
    assert BODIES[model]
    for example in BODIES[model].values():
        assert model.parse(json.dumps(example)).model_dump(exclude_none=True, mode="json") == example


def test_every_request_of_the_door_is_in_the_document():
    """OpenAPI 3.1, 4.8.8: a route that is not in the document is not found by any client."""
    of_accounts = {accounts.HoldRequest, accounts.ReleaseHoldRequest, accounts.OrderRequest}
    of_actions = {accounts.DecideRequest, accounts.ReviewRequest, accounts.BackRequest}
    assert set(BODIES) == {*ACTIONS.values(), NextRequest, OpenRequest} | of_accounts | of_actions | {
        models.ReasonRequest,
        models.RetrainRequest,
    }


def test_the_document_stands_by_itself_and_has_nothing_of_python():
    """asyncapi/bundler#152, fastapi/fastapi#1358."""
    for part in schemas.parts(DOCUMENT):
        if isinstance(reference := part.get("$ref"), str):
            place: Any = DOCUMENT
            for name in reference.removeprefix("#/").split("/"):
                place = place[name]
        if isinstance(said := part.get("description"), str):
            assert not re.search(r">>>|\bNone\b|\bself\b|Error\b", said), said
        if isinstance(pattern := part.get("pattern"), str):
            re2.compile(pattern)


def test_no_response_is_closed_and_no_request_has_a_default():
    """openapi-ts/openapi-typescript#2012; RFC 9413: a response may get fields with the next release."""
    asked = {name for name in DOCUMENT["components"]["schemas"] if name.endswith("Request")}
    for name, schema in DOCUMENT["components"]["schemas"].items():
        closed = [part for part in schemas.parts(schema) if part.get("additionalProperties") is False]
        assert bool(closed) is (name in asked), name
        assert not [part for part in schemas.parts(schema) if "default" in part], name


def test_no_schema_has_a_token():
    """A task token is a secret: it is in the case's row and nowhere else."""
    names = {name for part in schemas.parts(DOCUMENT) for name in part.get("properties", {})}
    assert not {name for name in names if "token" in name or "wait" in name}


def test_every_route_needs_a_token_and_operations_have_names_of_their_own():
    """OpenAPI 3.1, 4.8.10 and 4.8.27."""
    assert DOCUMENT["security"] == [{"token": []}]
    assert not [operation for operation in OPERATIONS.values() if "security" in operation]
    assert len({operation["operationId"] for operation in OPERATIONS.values()}) == len(OPERATIONS)
