"""The AsyncAPI 3 document of the events on the bus."""

from typing import Any

from pydantic import BaseModel

from fraud.accounts.events import (
    AccountDeactivated,
    AccountReinstated,
    ActionFailed,
    ActionQueued,
    ActionUnacknowledged,
    AppealOverdue,
    AppealReceived,
    AppealUpheld,
)
from fraud.cases.events import CaseClosed, CaseFailed, HoldRequested, OutreachRequested
from fraud.cases.report_events import ReportReceived
from fraud.decisions.events import SOURCE, DecisionMade, DecisionResolved, MarkedAccountPaid, PaymentSampled
from fraud.graph.events import MarksKept, MarksPublished, TacticsChanged
from fraud.retraining.events import ModelAwaitsApproval, ModelPromoted, ModelTakenBack, RetrainingEnded
from operations.contract import account_examples, examples, graph_examples, model_examples, schemas

EVENTS: tuple[tuple[type[BaseModel], str, str, str, dict[str, Any]], ...] = (
    (
        DecisionMade,
        "A payment was decided",
        (
            "Sent for each new decision that is no approval, by API or by stream, and for the share PublishedShare of"
            " the approved ones; never for a repeat. The table of tallies counts all decisions."
        ),
        "challenge",
        examples.EVENT,
    ),
    (
        PaymentSampled,
        "A payment is drawn for a blind review",
        (
            "Sent for the shares of approved and declined payments that SampleShares names, whatever PublishedShare is."
            " It does not tell which of the two a payment is."
        ),
        "drawn",
        examples.SAMPLED,
    ),
    (
        MarkedAccountPaid,
        "A marked account pays or is paid",
        (
            "Sent when a payment was decided and one of its accounts had a mark in force then: one event for each such"
            " account, whatever the outcome and PublishedShare are. A mark by itself decides nothing."
        ),
        "payee in a forked chain of invitations",
        examples.MARKED,
    ),
    (
        DecisionResolved,
        "What became of a decision",
        (
            "Sent for each change after the decision: a challenge or a review has ended or expired, or the"
            " payment was settled, failed or was reversed."
        ),
        "challenge passed",
        examples.CHANGE,
    ),
    (
        HoldRequested,
        "An account should be held",
        "Sent when the rules of the route ask for it, before an analyst has looked at the case.",
        "receiver known for fraud",
        examples.HOLD,
    ),
    (
        OutreachRequested,
        "The payer should be asked",
        (
            "Sent when an analyst asks for it. The app contacts no payer before `not_before`, and none more often"
            " than `attempts_allowed` about one case. An analyst records each attempt and the answer."
        ),
        "asked",
        examples.OUTREACH,
    ),
    (
        CaseClosed,
        "A case has ended",
        "Sent when all that follows from the finding is done: payments are released or declined, labels are written.",
        "fraud",
        examples.CLOSED,
    ),
    (
        CaseFailed,
        "The execution of a case has failed",
        "Sent when a step failed for good. A lead opens the case again.",
        "failed",
        examples.CASE_FAILED,
    ),
    (
        ReportReceived,
        "A user reported a payment",
        (
            "Sent for each stored report, without its text; never for a repeat. A report that triage takes for a"
            " dispute is sent, too: its verdict says so."
        ),
        "impersonation",
        examples.REPORTED,
    ),
    (
        AccountDeactivated,
        "An account is deactivated",
        (
            "Sent for the app, which closes the account, tells the user and acknowledges it. Until then it comes again,"
            " with the next `notice`, each NoticeSeconds, three times in all."
        ),
        "first notice",
        account_examples.EVENT_DEACTIVATED,
    ),
    (
        AccountReinstated,
        "A deactivation is taken back",
        "As AccountDeactivated: the app opens the account again and acknowledges it.",
        "first notice",
        account_examples.EVENT_REINSTATED,
    ),
    (
        ActionQueued,
        "An action waits above the cap",
        "Sent when the cap on interventions has stopped an action. A lead releases or cancels it.",
        "above the cap of the hour",
        account_examples.EVENT_QUEUED,
    ),
    (
        ActionUnacknowledged,
        "The app has not acknowledged a change of an account",
        "Sent after the last notice. An alarm fires, too.",
        "deactivated",
        account_examples.EVENT_UNACKNOWLEDGED,
    ),
    (
        ActionFailed,
        "An action has failed",
        "Sent when a step failed for good and all that the action had done is undone.",
        "undone",
        account_examples.EVENT_FAILED,
    ),
    (
        AppealReceived,
        "A user has appealed",
        "Sent without the text of the appeal, which GET /analyst/actions/{action_id} shows.",
        "received",
        account_examples.EVENT_APPEAL,
    ),
    (
        AppealOverdue,
        "An appeal was not reviewed in time",
        "Sent AppealReviewSeconds after the appeal. The appeal goes on waiting, and an alarm fires.",
        "overdue",
        account_examples.EVENT_OVERDUE,
    ),
    (
        AppealUpheld,
        "A deactivation stands after an appeal",
        "Sent after the review. GET /accounts/{account_id} shows what the user may be told.",
        "upheld",
        account_examples.EVENT_OVERDUE,
    ),
    (
        ModelAwaitsApproval,
        "A model waits for approval",
        "Sent when a model has passed the gate. A lead approves or rejects it.",
        "waits",
        model_examples.AWAITS,
    ),
    (
        ModelPromoted,
        "A model is the champion",
        "Sent when a model was promoted after its shadow and its canary.",
        "promoted",
        model_examples.PROMOTED,
    ),
    (
        ModelTakenBack,
        "A model was withdrawn or rolled back",
        "Sent when a model that was tried, or was the champion, decides no more.",
        "by an alarm",
        model_examples.TAKEN_BACK,
    ),
    (
        RetrainingEnded,
        "A retraining has ended without a model",
        "Sent when a retraining was skipped or has failed, when gate or lead refused its model, or nobody approved it.",
        "refused by the gate",
        model_examples.ENDED,
    ),
    (
        MarksPublished,
        "A snapshot of marks has come into force",
        "Sent once for each run of the graph that has published its snapshot.",
        "published",
        graph_examples.PUBLISHED,
    ),
    (
        MarksKept,
        "A run of the graph has ended without a new snapshot",
        "Sent when the gate refused the snapshot, a step failed, or another run was at work. The marks before it hold.",
        "refused by the gate",
        graph_examples.KEPT,
    ),
    (
        TacticsChanged,
        "Accounts of a kind have multiplied",
        (
            "Sent for each sentence of a run of the graph, and for each shape that has become more frequent, before any"
            " label exists, whatever the gate of the run says of marks. A sentence names up to 100 of its accounts; the"
            " report of the run has them all, under pseudonyms. A shape names none."
        ),
        "relay chains",
        graph_examples.CHANGED,
    ),
)
"""Each event: its model, a title, when it is sent, and an example with its name."""


def _envelope(name: str) -> dict[str, Any]:
    return {
        "type": "object",
        "description": "An event of EventBridge. Its own fields are those that readers use; AWS documents the others.",
        "properties": {
            "source": {"type": "string", "const": SOURCE},
            "detail-type": {"type": "string", "const": name},
            "time": {"type": "string", "format": "date-time"},
            "detail": {"$ref": f"{schemas.REF}{name}"},
        },
        "required": ["source", "detail-type", "detail"],
    }


def _message(name: str, title: str, case: str, detail: dict[str, Any]) -> dict[str, Any]:
    payload = {"source": SOURCE, "detail-type": name, "time": "2026-03-04T12:00:00Z", "detail": detail}
    return {
        "name": name,
        "title": title,
        "contentType": "application/json",
        "payload": _envelope(name),
        "examples": [{"name": case, "payload": payload}],
    }


def _bus() -> dict[str, Any]:
    return {
        "address": "events",
        "title": "The stack's event bus (Amazon EventBridge)",
        "description": "At least once, in no order: drop an event_id that was seen. No name, address or"
        " metadata is in any event. The bus is the resource Events of template.yaml.",
        "messages": {model.__name__: {"$ref": f"#/components/messages/{model.__name__}"} for model, *_ in EVENTS},
    }


def _sent(name: str, title: str, when: str) -> dict[str, Any]:
    return {
        "action": "send",
        "summary": f"{title}.",
        "description": when,
        "channel": {"$ref": "#/channels/bus"},
        "messages": [{"$ref": f"#/channels/bus/messages/{name}"}],
    }


def asyncapi() -> dict[str, Any]:
    """Return the events of the bus as plain data.

    >>> sorted(asyncapi()["channels"]["bus"]["messages"])[:3]
    ['AccountDeactivated', 'AccountReinstated', 'ActionFailed']
    """
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Serverless fraud: events",
            "version": "1.0.0",
            "description": "The events that the system publishes. A reader ignores fields that it does not know.",
            "tags": [{"name": "Decisions", "description": "What was decided, and what users reported."}],
        },
        "defaultContentType": "application/json",
        "servers": {
            "eventbridge": {
                "host": "events.{region}.amazonaws.com",
                "protocol": "https",
                "description": "Amazon EventBridge. A rule on the bus sends the events to a reader's own target.",
                "variables": {"region": {"default": "ap-northeast-1", "description": "AWS region"}},
            }
        },
        "channels": {"bus": _bus()},
        "operations": {
            f"publish{model.__name__}": _sent(model.__name__, title, when) for model, title, when, *_ in EVENTS
        },
        "components": {
            "messages": {
                model.__name__: _message(model.__name__, title, case, example)
                for model, title, _, case, example in EVENTS
            },
            "schemas": schemas.of([], [model for model, *_ in EVENTS]),
        },
    }
