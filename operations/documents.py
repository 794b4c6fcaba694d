"""Generate docs/openapi.yaml and docs/events.yaml from the models.

`python -m operations.documents` writes them; `--check` compares them with the committed ones. Schemas come from
pydantic, so that the documents cannot differ from the code. Only the routes and their descriptions are written here,
and a contract test compares the routes with template.yaml.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import models_json_schema

from fraud.decisions.decision import Decision, DecisionView
from fraud.decisions.events import SOURCE, DecisionMade
from fraud.errors import Problem
from fraud.labels.label import LabelBatch, LabelResults
from fraud.lists.entry import LISTED, AllowRequest, DenyRequest, ListView
from fraud.transaction import Id, Transaction

DOCS = Path(__file__).parent.parent / "docs"
_REF = "#/components/schemas/"
_ID = TypeAdapter(Id).json_schema() | {"description": "Upper and lower case differ."}
_LISTED = [
    {"name": "kind", "in": "path", "required": True, "schema": {"enum": list(LISTED)}},
    {"name": "value", "in": "path", "required": True, "schema": {"type": "string"}},
]

ROUTES: dict[str, dict[str, Any]] = {
    "POST /decisions": {
        "summary": "Decide a payment, or repeat its decision",
        "description": "The same body under the same id gets the stored bytes again, and nothing is counted twice;"
        " `metadata` may differ. Another body under a decided id gets a 409 that names the fields that differ, and is"
        " not counted. A payer or an instrument with more than 3,000 attempts in a day (UTC) is counted no more: its"
        " payments are declined with LIMIT_ATTEMPTS until the day ends. The"
        " response comes within the stack's deadline; its `degraded` names the parts that were missing. If no decision"
        " could be stored, the response is a 503 with a `fallback` that may be followed; the same request may be sent"
        " again.",
        "request": Transaction,
        "answers": {200: Decision, 400: Problem, 409: Problem, 429: None, 503: Problem},
    },
    "GET /decisions/{transaction_id}": {
        "summary": "Get a decision as it was given, and its status now",
        "parameters": [{"name": "transaction_id", "in": "path", "required": True, "schema": _ID}],
        "answers": {200: DecisionView, 404: Problem, 429: None, 503: Problem},
    },
    "GET /decisions": {
        "summary": "Get the same by query, for ids that are awkward in a path",
        "parameters": [{"name": "id", "in": "query", "required": True, "schema": _ID}],
        "answers": {200: DecisionView, 400: Problem, 404: Problem, 429: None, 503: Problem},
    },
    "POST /labels": {
        "summary": "Say which payments were fraud and which were not",
        "description": "The caller's role determines the source of the labels. Each label is accepted or refused on its"
        " own, in the order given. After a 503 send the same request again: labels that were accepted stay unchanged.",
        "request": LabelBatch,
        "answers": {200: LabelResults, 400: Problem, 403: Problem, 429: None, 503: Problem},
    },
}
for _list, _request in (("deny", DenyRequest), ("allow", AllowRequest)):
    _path = f"/lists/{_list}/{{kind}}/{{value}}"
    ROUTES[f"PUT {_path}"] = {
        "summary": f"Put a value on the {_list} list, or change its entry",
        "parameters": _LISTED,
        "request": _request,
        "answers": {200: ListView, 400: Problem, 429: None, 503: Problem},
    }
    ROUTES[f"DELETE {_path}"] = {
        "summary": f"Take a value off the {_list} list",
        "parameters": _LISTED,
        "answers": {204: None, 400: Problem, 429: None, 503: Problem},
    }
    ROUTES[f"GET {_path}"] = {
        "summary": f"Get the entry of a value on the {_list} list, and all its changes",
        "parameters": _LISTED,
        "answers": {200: ListView, 400: Problem, 404: Problem, 429: None, 503: Problem},
    }
WORDS = {
    200: "Done",
    204: "Done; there is no body",
    400: "The request is invalid; every faulty field is named with the rule that it breaks",
    403: "The caller's role may not do this",
    404: "Nothing is stored under this name",
    409: "Another body was decided under this transaction_id; the fields that differ are named, without values",
    429: "Throttled before the function ran: try again after a pause from 100 ms, doubling, with full jitter",
    503: "Send the same request again after Retry-After seconds; without that header, as after a 429",
}


def openapi() -> dict[str, Any]:
    """Return the OpenAPI 3.1 document as plain data.

    >>> list(openapi()["paths"])[:2]
    ['/decisions', '/decisions/{transaction_id}']
    """
    modes: list[tuple[type[BaseModel], Any]] = [
        (model, "validation") for model in (Transaction, DenyRequest, AllowRequest, LabelBatch)
    ]
    modes += [(model, "serialization") for model in (Decision, DecisionView, LabelResults, ListView, Problem)]
    _, schemas = models_json_schema(modes, ref_template=_REF + "{model}")
    paths: dict[str, dict[str, Any]] = {}
    for route, says in ROUTES.items():
        method, path = route.split(" ")
        paths.setdefault(path, {})[method.lower()] = _operation(says)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Serverless fraud", "version": "1", "description": "Fraud decisions for a payment app."},
        "security": [{"sigv4": []}],
        "paths": paths,
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {
                "sigv4": {"type": "apiKey", "name": "Authorization", "in": "header", "description": "AWS IAM, SigV4."}
            },
        },
    }


def _operation(says: dict[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {name: says[name] for name in ("summary", "description", "parameters") if name in says}
    if "request" in says:
        operation["requestBody"] = {"required": True, "content": _content("application/json", says["request"])}
    operation["responses"] = {str(status): _answer(status, model) for status, model in says["answers"].items()}
    return operation


def _answer(status: int, model: type[BaseModel] | None) -> dict[str, Any]:
    if model is None:
        return {"description": WORDS[status]}
    media = "application/problem+json" if model is Problem else "application/json"
    return {"description": WORDS[status], "content": _content(media, model)}


def _content(media: str, model: type[BaseModel]) -> dict[str, Any]:
    return {media: {"schema": {"$ref": f"{_REF}{model.__name__}"}}}


def events() -> dict[str, Any]:
    """Return the events of the bus as plain data: the JSON Schema of the details by detail-type."""
    return {
        "source": SOURCE,
        "delivery": "At least once; drop an event_id that was seen. No name, address or metadata is in any event.",
        "events": {"DecisionMade": DecisionMade.model_json_schema(mode="serialization")},
    }


DOCUMENTS: dict[str, Callable[[], dict[str, Any]]] = {"openapi.yaml": openapi, "events.yaml": events}


def text(name: str) -> str:
    """Return the text of a document as it is committed."""
    head = "# Generated by `python -m operations.documents`; do not edit.\n"
    return head + yaml.safe_dump(DOCUMENTS[name](), sort_keys=False, width=120, allow_unicode=True)


def main() -> int:
    """Write the documents, or compare them with the committed ones."""
    parser = argparse.ArgumentParser(prog="python -m operations.documents", description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail if a committed document differs")
    check = parser.parse_args().check
    stale = [name for name in DOCUMENTS if not (DOCS / name).exists() or (DOCS / name).read_text() != text(name)]
    for name in stale:
        if check:
            print(f"docs/{name} is not what the models say: run python -m operations.documents", file=sys.stderr)
        else:
            (DOCS / name).write_text(text(name))
    return int(check and bool(stale))


if __name__ == "__main__":
    raise SystemExit(main())
