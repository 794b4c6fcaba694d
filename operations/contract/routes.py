"""The routes of the API, one row each: what a route is for, what it takes, and what it can answer.

A new route is a new row, and an example of each body that is new. Which statuses API Gateway itself can answer follows
from the row: `openapi` adds them.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel, TypeAdapter

from fraud.decisions.decision import Decision
from fraud.decisions.resolution import ChallengeAnswer, DecisionView, ResultReport
from fraud.errors import (
    ConflictingBodyError,
    ForbiddenError,
    FraudError,
    InvalidRequestError,
    NotFoundError,
    ResolvedError,
    ServiceError,
    UnavailableError,
    UndecidedError,
)
from fraud.labels.label import LabelBatch, LabelResults
from fraud.lists.entry import LISTED, AllowRequest, ConfirmRequest, DenyRequest, ListPage, ListView
from fraud.transaction import Id, Transaction
from operations.contract import examples
from operations.contract.examples import Example

Refusals = Mapping[type[FraudError], Example]
_ID = TypeAdapter(Id).json_schema()


class Body(NamedTuple):
    """A body: its model, and examples by name. Without a model there is none."""

    model: type[BaseModel] | None
    examples: Mapping[str, Example] = {}


class Operation(NamedTuple):
    """A route.

    id       operationId: the name of the function that generators of clients make
    tag      a key of TAGS
    answer   the body of success
    refused  the errors of this system that the route can answer, each with an example's further fields
    """

    id: str
    tag: str
    summary: str
    answer: Body
    refused: Refusals
    description: str = ""
    parameters: Sequence[Mapping[str, Any]] = ()
    request: Body | None = None


TAGS = {
    "Decisions": "Decide payments, look decisions up, and say what becomes of them.",
    "Labels": "Say which payments were fraud.",
    "Lists": "Deny values, or let them pass rules for a time.",
}


def fault(field: str, rule: str, message: str) -> Example:
    """Return the further fields of a problem with one fault."""
    return {"errors": [{"field": field, "rule": rule, "message": message}]}


def parameter(place: str, name: str, schema: Mapping[str, Any], description: str, example: str) -> Mapping[str, Any]:
    """Return a parameter that is required. `place`: path or query."""
    return {
        "name": name,
        "in": place,
        "required": True,
        "description": description,
        "schema": {key: value for key, value in schema.items() if key not in {"description", "examples"}},
        "example": example,
    }


def refuses(own: Refusals) -> Refusals:
    """Return a route's own errors, and those that every route can answer."""
    return {**own, ServiceError: {}, UnavailableError: {}}


_VALUE = (
    "An identifier as in a payment, or for the kind `ip` one address in any spelling; percent-encoded. On the deny list"
    " also a network, such as 203.0.113.0/24 or 2001:db8:1:2::/64: all its addresses are denied within a minute."
)


_KIND = parameter("path", "kind", {"type": "string", "enum": list(LISTED)}, "What the value is.", "device")


def _listed(place: str) -> list[Mapping[str, Any]]:
    """Return the parameters that name a value on a list, in the path or in the query."""
    return [
        {**_KIND, "in": place},
        parameter(place, "value", {"type": "string", "minLength": 1}, _VALUE, "device-1"),
    ]


_BEFORE: Mapping[str, Any] = {
    **parameter(
        "query",
        "before",
        {"type": "string", "format": "date-time"},
        "The `earlier` of the last response, to get the changes before those.",
        "2026-03-04T12:00:00.000000Z",
    ),
    "required": False,
}

_AFTER: Mapping[str, Any] = {
    **parameter(
        "query",
        "after",
        {"type": "string", "minLength": 1},
        "The `next` of the last response, to get the entries after those.",
        "device-1",
    ),
    "required": False,
}

ROUTES: dict[str, Operation] = {
    "POST /decisions": Operation(
        "decide",
        "Decisions",
        "Decide a payment, or repeat its decision",
        Body(Decision, {"challenge": examples.DECISION}),
        refuses(
            {
                InvalidRequestError: fault("amount", "too_small", "must be at least 1"),
                ConflictingBodyError: fault("amount", "differs", "differs from the decided body"),
                UndecidedError: {"fallback": {"outcome": "challenge", "policy_version": "packaged-1-5d41402a"}},
            }
        ),
        "The same body under the same id gets the stored bytes again, and nothing is counted twice;"
        " `metadata` may differ. Another body under a decided id gets a 409 that names the fields that differ, and is"
        " not counted. A payer or an instrument with more than 3,000 attempts in a day (UTC) is counted no more: its"
        " payments are declined with LIMIT_ATTEMPTS until the day ends. The"
        " response comes within the stack's deadline; its `degraded` names the parts that were missing. If no decision"
        " could be stored, the response is a 503 with a `fallback` that may be followed; the same request may be sent"
        " again.",
        request=Body(Transaction, {"p2p": examples.P2P, "cash_out": examples.CASH_OUT}),
    ),
    "GET /decisions/{transaction_id}": Operation(
        "getDecision",
        "Decisions",
        "Get a decision as it was given, and its status now",
        Body(DecisionView, {"pending": examples.VIEW}),
        refuses({NotFoundError: {}}),
        "Text that is no identifier names no decision: the response is a 404.",
        [parameter("path", "transaction_id", _ID, "Upper and lower case differ.", "t-20260304-1")],
    ),
    "GET /decisions": Operation(
        "findDecision",
        "Decisions",
        "Get the same by query, for ids that are awkward in a path",
        Body(DecisionView, {"pending": examples.VIEW}),
        refuses({InvalidRequestError: fault("id", "missing", "is required"), NotFoundError: {}}),
        "Text that is no identifier names no decision: the response is a 404.",
        [parameter("query", "id", _ID, "The transaction_id; upper and lower case differ.", "t-20260304-1")],
    ),
    "POST /labels": Operation(
        "label",
        "Labels",
        "Say which payments were fraud and which were not",
        Body(LabelResults, {"one of two": examples.LABEL_RESULTS}),
        refuses(
            {
                InvalidRequestError: fault("labels", "too_long", "must have a length of at most 100"),
                ForbiddenError: {},
            }
        ),
        "The caller's role determines the source of the labels. Each label is accepted or refused on its"
        " own, in the order given. The source `backfill` is for labels of the time before the stack's first decision:"
        " they count from when they were reported; outside of such a load it gets a 403. After a 503 send the same"
        " request again: labels that were accepted stay unchanged.",
        request=Body(LabelBatch, {"two": examples.LABELS}),
    ),
}
_LATE = {"state": {"status": "declined", "outcome_now": "decline"}}
_AHEAD = fault("at", "at_ahead", "must not be more than 5 minutes ahead")
for _place, _path in (("path", "/decisions/{transaction_id}"), ("query", "/decisions")):
    _id, _how = ("", "") if _place == "path" else ("ByQuery", ", by query")
    _name = "transaction_id" if _place == "path" else "id"
    _named = [parameter(_place, _name, _ID, "The transaction_id; upper and lower case differ.", "t-20260304-1")]
    _refused = refuses({InvalidRequestError: _AHEAD, NotFoundError: {}, ResolvedError: _LATE})
    ROUTES[f"POST {_path}/challenge"] = Operation(
        f"answerChallenge{_id}",
        "Decisions",
        f"Say how the payer's challenge ended{_how}",
        Body(DecisionView, {"passed": examples.AFTER_CHALLENGE}),
        _refused,
        "A passed challenge approves the payment, a failed one declines it. The same answer may be sent again; another"
        " one, or one for a decision that is `due`, gets a 409 with the state as it is.",
        _named,
        Body(ChallengeAnswer, {"passed": examples.PASSED}),
    )
    ROUTES[f"POST {_path}/result"] = Operation(
        f"reportResult{_id}",
        "Decisions",
        f"Say what became of the payment{_how}",
        Body(DecisionView, {"settled": examples.AFTER_SETTLEMENT}),
        _refused,
        "An approved payment is settled, fails, or is reversed, and a settled one may be reversed later. A payment that"
        " fails while its decision is pending is over. The same report may be sent again; one that the state does not"
        " allow gets a 409 with the state as it is.",
        _named,
        Body(ResultReport, {"settled": examples.SETTLED}),
    )
_kind = fault("kind", "unknown_value", f"must be one of {', '.join(LISTED)}")
_past = fault("expires_at", "expires_at_past", "must lie ahead")
for _list, _request, _example in (("deny", DenyRequest, examples.DENY), ("allow", AllowRequest, examples.ALLOW)):
    _name, _view = _list.capitalize(), Body(ListView, {"device": examples.list_view(_example)})
    for _place, _path in (("path", f"/lists/{_list}/{{kind}}/{{value}}"), ("query", f"/lists/{_list}")):
        _id, _how = ("", "") if _place == "path" else ("ByQuery", ", by query")
        ROUTES[f"PUT {_path}"] = Operation(
            f"put{_name}Entry{_id}",
            "Lists",
            f"Put a value on the {_list} list, or change its entry{_how}",
            _view,
            refuses({InvalidRequestError: _past}),
            "A repeated request changes nothing.",
            _listed(_place),
            Body(_request, {"device": _example}),
        )
        ROUTES[f"DELETE {_path}"] = Operation(
            f"delete{_name}Entry{_id}",
            "Lists",
            f"Take a value off the {_list} list{_how}",
            Body(None),
            refuses({InvalidRequestError: _kind}),
            "A value that is not on the list may be taken off, too.",
            _listed(_place),
        )
        ROUTES[f"GET {_path}"] = Operation(
            f"get{_name}Entry{_id}",
            "Lists",
            f"Get the entry of a value on the {_list} list, and a page of its changes{_how}",
            _view,
            refuses({InvalidRequestError: _kind, NotFoundError: {}}),
            "",
            [*_listed(_place), _BEFORE],
        )
    ROUTES[f"GET /lists/{_list}/{{kind}}"] = Operation(
        f"list{_name}Entries",
        "Lists",
        f"Get the values of a kind on the {_list} list, a page at a time",
        Body(ListPage, {"one device": examples.list_page(_example)}),
        refuses({InvalidRequestError: _kind}),
        "Expired and pending entries are among them.",
        [_KIND, _AFTER],
    )
for _place, _path in (("path", "/lists/allow/{kind}/{value}/confirm"), ("query", "/lists/allow/confirm")):
    ROUTES[f"POST {_path}"] = Operation(
        "confirmAllowEntry" if _place == "path" else "confirmAllowEntryByQuery",
        "Lists",
        "Confirm an allow entry that silences the model" + ("" if _place == "path" else ", by query"),
        Body(ListView, {"device": examples.list_view(examples.ALLOW)}),
        refuses({InvalidRequestError: _kind, ForbiddenError: {}, NotFoundError: {}}),
        "Only another caller than the one who set the entry may confirm it: until then it is pending and silences"
        " nothing. Whoever changes a confirmed entry makes it pending again.",
        _listed(_place),
        Body(ConfirmRequest, {"as it was shown": examples.CONFIRM}),
    )
