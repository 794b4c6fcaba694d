"""The routes of the API, one row each: what a route is for, what it takes, and what it can answer.

A new route is a new row, and an example of each body that is new. Which statuses API Gateway itself can answer follows
from the row: `openapi` adds them.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel, TypeAdapter

from fraud.accounts.requests import AccountView, AckRequest, ActionView, AppealRequest, HoldRequest, ReleaseHoldRequest
from fraud.cases.report import MAX_REPORTS_BYTES, ReportBatch, ReportResults, ReportView
from fraud.decisions.decision import Decision
from fraud.decisions.resolution import ChallengeAnswer, DecisionView, ResultReport
from fraud.errors import (
    AccountConflictError,
    ActionConflictError,
    CapReachedError,
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
from fraud.invitations.batch import InvitationBatch, InvitationResults
from fraud.labels.label import LabelBatch, LabelResults
from fraud.lists.entry import LISTED, AllowRequest, ConfirmRequest, DenyRequest, ListPage, ListView
from fraud.transaction import MAX_BODY_BYTES, Id, Transaction
from operations.contract import account_examples, examples
from operations.contract.examples import Example

Refusals = Mapping[type[FraudError], Example]
_ID = TypeAdapter(Id).json_schema()


class Body(NamedTuple):
    """A body: its model, examples by name, and of a request its most bytes. Without a model there is none."""

    model: type[BaseModel] | None
    examples: Mapping[str, Example] = {}
    most_bytes: int = MAX_BODY_BYTES


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
    "Reports": "Say what users report about payments, and see what became of it.",
    "Invitations": "Say who has invited whom into the app.",
    "Accounts": "Read accounts, hold them, acknowledge what was done to them, and bring appeals of users.",
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
    "POST /invitations": Operation(
        "invite",
        "Invitations",
        "Say who has invited whom",
        Body(InvitationResults, {"one of two": examples.INVITATION_RESULTS}),
        refuses({InvalidRequestError: fault("invitations", "too_long", "must have a length of at most 100")}),
        "An invitation is no payment: it moves no counter. Each is accepted or refused on its own, in the order given."
        " One that was sent before is accepted again, and counts once; of two that differ under one invitation_id the"
        " earlier one counts. After a 503 send the same request again.",
        request=Body(InvitationBatch, {"two": examples.INVITATIONS}),
    ),
    "POST /reports": Operation(
        "report",
        "Reports",
        "Say what users report about payments",
        Body(ReportResults, {"one of two": examples.REPORT_RESULTS}),
        refuses({InvalidRequestError: fault("reports", "too_long", "must have a length of at most 100")}),
        "Each report is accepted or refused on its own, in the order given, and gets a result of its own. A report that"
        " is a dispute and no deceit is answered at once by its status; every other one goes to a case. A payment"
        " that the system never decided may be reported, too: `known` is false then, so that a mistyped"
        " transaction_id is noticed. Another body under a stored report_id is a `conflict`, and alters nothing. After a"
        " 503 send the same request again: reports that were accepted stay as they are.",
        request=Body(ReportBatch, {"two": examples.REPORTS}, MAX_REPORTS_BYTES),
    ),
    "GET /reports/{report_id}": Operation(
        "getReport",
        "Reports",
        "Get what became of a report",
        Body(ReportView, {"dispute": examples.REPORT}),
        refuses({NotFoundError: {}}),
        "Without its text. Text that is no identifier names no report: the response is a 404.",
        [parameter("path", "report_id", _ID, "Upper and lower case differ.", "r-20260309-1")],
    ),
    "GET /reports": Operation(
        "findReport",
        "Reports",
        "Get the same by query, for ids that are awkward in a path",
        Body(ReportView, {"dispute": examples.REPORT}),
        refuses({InvalidRequestError: fault("id", "missing", "is required"), NotFoundError: {}}),
        "Without its text. Text that is no identifier names no report: the response is a 404.",
        [parameter("query", "id", _ID, "The report_id; upper and lower case differ.", "r-20260309-1")],
    ),
}
_LATE = {"state": {"status": "declined", "outcome_now": "decline", "by": "expiry"}}
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


def not_now(what: str, now: Example) -> Example:
    """Return the further fields of a 409 that has the state of an account, an action or an order."""
    return fault("body", "not_allowed_now", f"is not what the {what} allows now") | {what: now}


ACCOUNT_LATE = not_now("account", account_examples.ACCOUNT_NOW)
ACTION_LATE = not_now("action", account_examples.ACTION_NOW)
FULL = fault("body", "cap_reached", "would stop more accounts than the cap allows")
_AGAIN = "The same request may be sent again; another one that the state does not allow gets a 409 with the state."


def account_parameter(place: str = "path", name: str = "account_id") -> Mapping[str, Any]:
    """Return the parameter that names an account."""
    return parameter(place, name, _ID, "The account; upper and lower case differ.", account_examples.ACCOUNT_ID)


def account_routes(own: Refusals) -> dict[str, tuple[str, Operation]]:
    """Return what both APIs have of one account: its view, hold and release, each with its method, by the path's end.

    own  further errors of the API
    """
    asked = {InvalidRequestError: fault("reason", "missing", "is required"), NotFoundError: {}, **own}
    return {
        "": (
            "GET",
            Operation(
                "getAccount",
                "Accounts",
                "Get an account: its status, what stops it, its history and its facts",
                Body(AccountView, {"deactivated": account_examples.STOPPED, "held": account_examples.HELD}),
                refuses({InvalidRequestError: fault("before", "form", "must be a time"), NotFoundError: {}, **own}),
                "An account that was never stopped is `active`. Text that is no identifier names no account: the"
                " response is a 404.",
                [account_parameter(), _BEFORE],
            ),
        ),
        "/hold": (
            "POST",
            Operation(
                "holdAccount",
                "Accounts",
                "Hold an account",
                Body(AccountView, {"held": account_examples.HELD}),
                refuses({**asked, AccountConflictError: ACCOUNT_LATE, CapReachedError: FULL}),
                f"Its payments are declined until the hold ends or is released. {_AGAIN} Above the cap the response is"
                " a 429 of this system: no retry helps before the next hour or day, and an alarm tells a lead.",
                [account_parameter()],
                Body(HoldRequest, {"for a day": account_examples.HOLD}),
            ),
        ),
        "/release": (
            "POST",
            Operation(
                "releaseAccount",
                "Accounts",
                "Release an account from its hold",
                Body(AccountView, {"active": account_examples.ACTIVE}),
                refuses({**asked, AccountConflictError: ACCOUNT_LATE}),
                f"An action against the account is not ended by it. {_AGAIN}",
                [account_parameter()],
                Body(ReleaseHoldRequest, {"released": account_examples.RELEASE}),
            ),
        ),
    }


_ACCOUNT_ROUTES: Mapping[str, tuple[str, Operation]] = account_routes({}) | {
    "/actions/{action_id}/ack": (
        "POST",
        Operation(
            "acknowledgeAction",
            "Accounts",
            "Say that the app has carried an action out",
            Body(ActionView, {"acknowledged": account_examples.ACTION}),
            refuses(
                {
                    InvalidRequestError: fault("status", "missing", "is required"),
                    NotFoundError: {},
                    ActionConflictError: ACTION_LATE,
                }
            ),
            "Send the `status` of the event AccountDeactivated or AccountReinstated. Until then the event comes again"
            f" each NoticeSeconds, three times in all; then an alarm tells a person. {_AGAIN}",
            [
                account_parameter(),
                parameter("path", "action_id", _ID, "The `action_id` of the event.", account_examples.ACTION_ID),
            ],
            Body(AckRequest, {"deactivated": account_examples.ACK}),
        ),
    ),
    "/appeal": (
        "POST",
        Operation(
            "appeal",
            "Accounts",
            "Bring a user's appeal against the deactivation of the account",
            Body(ActionView, {"appealed": account_examples.APPEALED}),
            refuses(
                {
                    InvalidRequestError: fault("text", "missing", "is required"),
                    NotFoundError: {},
                    AccountConflictError: ACCOUNT_LATE,
                    ActionConflictError: ACTION_LATE,
                }
            ),
            "Within AppealWindowSeconds, once. A lead who has not caused the action reviews it; `review.told` is what"
            f" the user may be told. {_AGAIN}",
            [account_parameter()],
            Body(AppealRequest, {"a club": account_examples.APPEAL}),
        ),
    ),
}
for _end, (_method, _operation) in _ACCOUNT_ROUTES.items():
    ROUTES[f"{_method} /accounts/{{account_id}}{_end}"] = _operation
    _named = [account_parameter("query", "id"), *({**each, "in": "query"} for each in _operation.parameters[1:])]
    ROUTES[f"{_method} /accounts{_end.replace('/actions/{action_id}', '')}"] = _operation._replace(
        id=f"{_operation.id}ByQuery" if _end else "findAccount",
        summary=f"{_operation.summary}, by query",
        parameters=_named,
        refused={InvalidRequestError: fault("id", "missing", "is required"), **_operation.refused},
    )
