"""The routes of the API for people, one row each, as `routes` has those of the API for systems."""

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter

from fraud.accounts.requests import (
    ActionPage,
    ActionView,
    BackRequest,
    DecideRequest,
    OrderRequest,
    OrderView,
    ReviewRequest,
)
from fraud.cases.case import Case
from fraud.cases.console import (
    ACTIONS,
    CasePage,
    CaseQuery,
    CaseView,
    EvidenceView,
    NextCase,
    NextRequest,
    OpenRequest,
)
from fraud.errors import (
    ActionConflictError,
    CaseConflictError,
    ForbiddenError,
    InvalidRequestError,
    ModelConflictError,
    NotFoundError,
    OrderConflictError,
    RetrainingConflictError,
)
from fraud.retraining.console import ModelsView, ReasonRequest, RetrainRequest
from fraud.retraining.retraining import Retraining
from fraud.scoring.registry import Version
from fraud.transaction import Id
from operations.contract import account_examples as accounts
from operations.contract import case_examples as examples
from operations.contract import model_examples as models
from operations.contract.examples import Example
from operations.contract.routes import (
    ACTION_LATE,
    Body,
    Operation,
    account_routes,
    fault,
    not_now,
    parameter,
    refuses,
)

PEOPLE_TAGS = {
    "Cases": "Investigate cases: find them, take one, read its evidence, give a verdict.",
    "Accounts": "Read accounts and actions against them; leads hold, release, review appeals and give orders.",
    "Models": "Read which models are in use; leads have models trained, approve or reject them, and roll back.",
}

_CASE = parameter(
    "path",
    "case_id",
    {"type": "string", "pattern": "^[A-Z2-7]{26}(-[1-9][0-9]{0,4})?$"},
    "The id of a case.",
    examples.CASE["case_id"],
)
_CURSOR: Mapping[str, Any] = {
    **parameter(
        "query", "cursor", {"type": "string", "maxLength": 1_000}, "The `cursor` of the last page.", "WyJjaGFuZ2UjMSJd"
    ),
    "required": False,
}
_WORDS = {
    "level": (
        "The queue of this level; the analysts' without any list. In another list: show only this level.",
        "analyst",
    ),
    "assignee": (
        "The open cases of this person; `me` means the caller. With a subject: show only this person's.",
        "me",
    ),
    "subject_kind": ("With `subject_id`: all cases of this account. Alone: show only cases about this side.", "payee"),
    "subject_id": ("The account.", "payee-1"),
    "state": (
        "Show only cases in this state. 400 for one that the list never has: the queue has only `queued`.",
        "queued",
    ),
    "reason": ("Show only cases that have this leading reason code.", "FAN_IN_BURST"),
    "sort": ("By due time, the earliest first; of an account by opening, the latest first.", "earliest"),
    "cursor": ("The `cursor` of the last page of the same list.", "WyIyMDI2IiwiQSJd"),
}
"""What each parameter of the list says, and an example."""


def _query() -> list[Mapping[str, Any]]:
    """Return the parameters of the list, from its model."""
    found: list[Mapping[str, Any]] = []
    for name, (words, example) in _WORDS.items():
        field = CaseQuery.model_fields[name]
        schema = TypeAdapter(field.annotation).json_schema(ref_template="{model}")
        (kind,) = (one for one in schema.pop("anyOf", [schema]) if one.get("type") != "null")
        kind = schema.get("$defs", {}).get(kind.get("$ref"), kind)
        plain = {key: value for key, value in kind.items() if key not in {"title", "$defs"}}
        found.append({**parameter("query", name, plain, words, example), "required": False})
    return found


_NO_CURSOR = fault("cursor", "form", "must be the cursor of an earlier page")
_LATE: Example = {
    "errors": [{"field": "body", "rule": "not_allowed_now", "message": "is not what the case allows now"}],
    "case": examples.CASE_NOW,
}
_VERSION = fault("version", "too_small", "must be at least 1")

_ACTIONS: Mapping[str, tuple[str, str, str, Example]] = {
    "take": ("takeCase", "Take a case that waits", "The caller has it until the lease ends.", {}),
    "release": ("releaseCase", "Give a case back to the queue", "", {"reason": "not enough time today"}),
    "reassign": ("reassignCase", "Give a case to another analyst", "", {"assignee": "jun", "reason": "knows the shop"}),
    "escalate": ("escalateCase", "Have a lead look at a case", "", {"reason": "the merchant is a large one"}),
    "notes": ("addNote", "Add a note to a case", "In any state.", {"note": "the shop was opened yesterday"}),
    "outreach": ("askPayer", "Have the payer asked", "", {"reason": "only the payer knows"}),
    "outreach/attempts": ("recordAttempt", "Record that the payer was tried", "", {"note": "called, nobody answered"}),
    "outreach/answer": ("recordAnswer", "Record what the payer said", "", {"answer": "denies"}),
    "verdict": (
        "judgeCase",
        "Give the verdict",
        "`fraud` and `legitimate` become labels, the others none. Of two verdicts at once one wins.",
        {"finding": "fraud", "reason": "the payer denies the payments"},
    ),
}
"""For the end of each route of an action: its operationId, its words, and the example of its body."""

_AGAIN = (
    "The body names the version of the case that was seen. The same request may be sent again; if the case was changed"
    " since, the response is a 409 with the case as it is."
)

PEOPLE: dict[str, Operation] = {
    "GET /cases": Operation(
        "listCases",
        "Cases",
        "Get a page of the queue, of a person's cases, or of an account's",
        Body(CasePage, {"one": {"cases": [examples.CASE_SUMMARY], "cursor": None}}),
        refuses({ForbiddenError: {}, InvalidRequestError: _NO_CURSOR}),
        "At most one list may be named. `state` and `reason` filter each page, so a page may be short or empty while"
        " there are more.",
        _query(),
    ),
    "POST /cases": Operation(
        "openCase",
        "Cases",
        "Open a case by hand",
        Body(Case, {"new": examples.NEW_CASE}),
        refuses(
            {
                ForbiddenError: {},
                InvalidRequestError: fault("subject_kind", "contradiction", "is not a party of this payment"),
                NotFoundError: {},
            }
        ),
        "The payment joins the case of its account and day, or opens one. A case that has ended is opened again under"
        " another id.",
        request=Body(OpenRequest, {"payer": examples.OPEN_CASE}),
    ),
    "POST /cases/next": Operation(
        "nextCase",
        "Cases",
        "Take the case that is due first",
        Body(NextCase, {"one": {"case": examples.CASE}, "none": {"case": None}}),
        refuses({ForbiddenError: {}, InvalidRequestError: fault("request_id", "identifier", "must be an identifier")}),
        "A lead gets the cases that were escalated first. Of two people at once each gets another case.",
        request=Body(NextRequest, {"repeatable": {"request_id": "r-17"}}),
    ),
    "GET /cases/{case_id}": Operation(
        "getCase",
        "Cases",
        "Get a case and a page of its changes",
        Body(CaseView, {"assigned": {"case": examples.CASE, "changes": [examples.CASE_CHANGE], "cursor": None}}),
        refuses(
            {
                ForbiddenError: {},
                InvalidRequestError: _NO_CURSOR,
                NotFoundError: {},
            }
        ),
        "",
        [_CASE, _CURSOR],
    ),
    "GET /cases/{case_id}/evidence": Operation(
        "getEvidence",
        "Cases",
        "Get the evidence of a case",
        Body(
            EvidenceView,
            {"short": examples.EVIDENCE_VIEW},
        ),
        refuses({ForbiddenError: {}, NotFoundError: {}}),
        "A snapshot of the time at which it was collected, and beside it what has joined since and the case's"
        " reports with their texts: that is read anew. Who looks at it is recorded. A 404 before it is collected.",
        [_CASE],
    ),
    **{
        f"POST /cases/{{case_id}}/{action}": Operation(
            id_,
            "Cases",
            summary,
            Body(Case, {"after": examples.CASE}),
            refuses({ForbiddenError: {}, InvalidRequestError: _VERSION, NotFoundError: {}, CaseConflictError: _LATE}),
            f"{said} {_AGAIN}".strip(),
            [_CASE],
            Body(ACTIONS[action], {"seen": {"version": 2} | example}),
        )
        for action, (id_, summary, said, example) in _ACTIONS.items()
    },
}

_ACTION = parameter(
    "path", "action_id", {"type": "string", "pattern": "^[A-Z2-7]{26}$"}, "The id of an action.", accounts.ACTION_ID
)
_ORDER = parameter("path", "order_id", TypeAdapter(Id).json_schema(), "The id of an order.", "order-1")
_NO_REASON = fault("reason", "missing", "is required")
_REPEATABLE = "By a lead. The same request may be sent again; a second, different one gets a 409 with the state."

PEOPLE |= {
    f"{method} /analyst/accounts/{{account_id}}{end}": operation
    for end, (method, operation) in account_routes({ForbiddenError: {}}).items()
}
PEOPLE["GET /analyst/actions"] = Operation(
    "listActions",
    "Accounts",
    "Get a page of the actions that wait for a lead",
    Body(ActionPage, {"one": {"actions": [accounts.QUEUED], "cursor": None}}),
    refuses({ForbiddenError: {}, InvalidRequestError: fault("state", "missing", "is required")}),
    "Those above the cap (`queued`), or those with an appeal (`appealed`), the longest waiting first.",
    [
        parameter(
            "query", "state", {"type": "string", "enum": ["queued", "appealed"]}, "What they wait for.", "queued"
        ),
        _CURSOR,
    ],
)
PEOPLE["GET /analyst/actions/{action_id}"] = Operation(
    "getAction",
    "Accounts",
    "Get an action",
    Body(ActionView, {"appealed": accounts.APPEALED}),
    refuses({ForbiddenError: {}, NotFoundError: {}}),
    "With the appeal and its review.",
    [_ACTION],
)
for _end, _id, _summary, _said, _after, _request in (
    (
        "release",
        "releaseAction",
        "Release an action that waits above the cap",
        "It tries to take a slot again: in this hour or day there must be one.",
        accounts.RELEASED,
        Body(DecideRequest, {"looked at": accounts.DECIDE}),
    ),
    (
        "cancel",
        "cancelAction",
        "Cancel an action that waits above the cap",
        "The account stays as it is.",
        accounts.QUEUED | {"state": "cancelled", "due": None},
        Body(DecideRequest, {"looked at": accounts.DECIDE}),
    ),
    (
        "review",
        "reviewAppeal",
        "Uphold or overturn a deactivation after an appeal",
        "Only a lead who has not caused the action may review it.",
        accounts.OVERTURNED,
        Body(ReviewRequest, {"overturned": accounts.REVIEW}),
    ),
    (
        "reinstate",
        "reinstateAccount",
        "Take a deactivation back without an appeal",
        "Only a lead who has not caused the action may take it back.",
        accounts.OVERTURNED,
        Body(BackRequest, {"by mistake": accounts.BACK}),
    ),
):
    PEOPLE[f"POST /analyst/actions/{{action_id}}/{_end}"] = Operation(
        _id,
        "Accounts",
        _summary,
        Body(ActionView, {"after": _after}),
        refuses(
            {
                ForbiddenError: {},
                InvalidRequestError: _NO_REASON,
                NotFoundError: {},
                ActionConflictError: ACTION_LATE,
            }
        ),
        f"{_said} {_REPEATABLE}",
        [_ACTION],
        _request,
    )
_ORDER_LATE = not_now("order", accounts.ORDER_NOW)
PEOPLE["POST /analyst/orders"] = Operation(
    "orderDeactivation",
    "Accounts",
    "Order that accounts be deactivated",
    Body(OrderView, {"waits": accounts.PENDING}),
    refuses(
        {
            ForbiddenError: {},
            InvalidRequestError: fault("account_ids", "too_long", "must have a length of at most 100"),
            OrderConflictError: _ORDER_LATE,
        }
    ),
    "Up to OrderAloneMax accounts: their actions are opened at once. More: the order waits until another lead approves"
    f" it. Each account takes a slot of the cap. {_REPEATABLE}",
    request=Body(OrderRequest, {"two": accounts.ORDER}),
)
PEOPLE["GET /analyst/orders/{order_id}"] = Operation(
    "getOrder",
    "Accounts",
    "Get an order and its actions",
    Body(OrderView, {"done": accounts.DONE}),
    refuses({ForbiddenError: {}, NotFoundError: {}}),
    "An account that another action had already has none of this order.",
    [_ORDER],
)
for _end, _id, _summary, _said, _after in (
    ("approve", "approveOrder", "Approve an order that waits", "Another lead than the one who gave it.", accounts.DONE),
    (
        "cancel",
        "cancelOrder",
        "Cancel an order that waits",
        "Any lead.",
        accounts.DONE | {"state": "cancelled", "actions": {}},
    ),
):
    PEOPLE[f"POST /analyst/orders/{{order_id}}/{_end}"] = Operation(
        _id,
        "Accounts",
        _summary,
        Body(OrderView, {"after": _after}),
        refuses(
            {ForbiddenError: {}, InvalidRequestError: _NO_REASON, NotFoundError: {}, OrderConflictError: _ORDER_LATE}
        ),
        f"{_said} {_REPEATABLE}",
        [_ORDER],
        Body(DecideRequest, {"looked at": accounts.DECIDE}),
    )

_VERSION_OF = parameter(
    "path", "version", TypeAdapter(Version).json_schema(), "The version of a model.", models.VERSION
)
_RETRAINING_LATE = not_now("retraining", models.RETRAINING_NOW)

PEOPLE["GET /models"] = Operation(
    "listModels",
    "Models",
    "Get the models in use and a page of the retrainings",
    Body(ModelsView, {"in shadow": models.MODELS}),
    refuses({ForbiddenError: {}, InvalidRequestError: _NO_CURSOR}),
    "The latest retraining first, each with the reports of its gates.",
    [_CURSOR],
)
PEOPLE["POST /models"] = Operation(
    "retrainModel",
    "Models",
    "Have a model trained again",
    Body(Retraining, {"new": models.REQUESTED}),
    refuses({ForbiddenError: {}, InvalidRequestError: _NO_REASON, RetrainingConflictError: _RETRAINING_LATE}),
    f"While another retraining is at work this one ends as `skipped`. Another one under the same request_id is"
    f" refused. {_REPEATABLE}",
    request=Body(RetrainRequest, {"a new tactic": models.RETRAIN}),
)
for _end, _id, _summary, _said, _after in (
    ("approve", "approveModel", "Approve a model that waits", "It is tried beside the champion.", models.APPROVED),
    ("reject", "rejectModel", "Reject a model that waits", "The champion stays.", models.REJECTED),
):
    PEOPLE[f"POST /models/{{version}}/{_end}"] = Operation(
        _id,
        "Models",
        _summary,
        Body(Retraining, {"after": _after}),
        refuses(
            {
                ForbiddenError: {},
                InvalidRequestError: _NO_REASON,
                NotFoundError: {},
                RetrainingConflictError: _RETRAINING_LATE,
            }
        ),
        f"{_said} {_REPEATABLE}",
        [_VERSION_OF],
        Body(ReasonRequest, {"looked at": models.REASON}),
    )
PEOPLE["POST /models/{version}/rollback"] = Operation(
    "rollBackModel",
    "Models",
    "Bring back the champion before this one, or end the trial of a challenger",
    Body(Retraining, {"after": models.ROLLED_BACK}),
    refuses(
        {
            ForbiddenError: {},
            InvalidRequestError: _NO_REASON,
            NotFoundError: {},
            ModelConflictError: not_now("models", models.MODELS_NOW),
            RetrainingConflictError: _RETRAINING_LATE,
        }
    ),
    "In one call: every environment follows within a minute. A model that is tried is withdrawn with it. The version is"
    " that of the champion that is left, or that of an approved model whose trial is to end: then the champion stays."
    f" {_REPEATABLE}",
    [_VERSION_OF],
    Body(ReasonRequest, {"looked at": models.REASON}),
)
