"""Examples of bodies in the documents. tests/field/test_contract.py holds each to its schema."""

from typing import Any

Example = dict[str, Any]

REQUEST_ID = "JKJaXmPLvHcESHA="
P2P: Example = {
    "transaction_id": "t-20260304-1",
    "type": "p2p",
    "payer_id": "payer-1",
    "payee_id": "payee-1",
    "amount": 4200,
    "currency": "JPY",
    "occurred_at": "2026-03-04T12:00:00Z",
}
"""The least that a payment between two people needs."""

CASH_OUT: Example = {
    "transaction_id": "t-20260304-2",
    "type": "cash_out",
    "payer_id": "payer-1",
    "instrument_id": "card-1",
    "amount": 20000,
    "currency": "JPY",
    "occurred_at": "2026-03-04T21:00:00+09:00",
    "device_id": "device-1",
    "ip": "203.0.113.7",
    "channel": "app",
    "country": "JP",
    "metadata": {"terminal": "17"},
}
REASON: Example = {
    "code": "VELOCITY",
    "text": "The payer makes more payments, or pays more, in a short time than is normal.",
    "source": "velocity_minute@1",
    "contribution": None,
    "facts": [
        {"name": "counters.payer_count_1m", "value": 7.0, "text": "7 payments of this payer within 1 minute"},
    ],
}
DECISION: Example = {
    "transaction_id": "t-20260304-1",
    "outcome": "challenge",
    "score": 0.0421,
    "reasons": [REASON],
    "suppressed": [],
    "advice": "verify_identity",
    "segment": "standard",
    "model": {"version": "embedded-3f2a9c01"},
    "degraded": [],
    "estimated": [],
    "recounted": False,
    "policy_version": "packaged-1-5d41402a",
    "retryable": True,
    "decided_at": "2026-03-04T12:00:00.120000Z",
    "steps_ms": {"state": 4.1, "model": 0.1, "rules": 0.5},
}
_DECIDED: Example = {
    "at": "2026-03-04T12:00:00.120000Z",
    "change": "decided",
    "outcome": "challenge",
    "by": "decision",
    "method": None,
}
_CHALLENGED: Example = {
    "at": "2026-03-04T12:01:30.000000Z",
    "change": "challenge_passed",
    "outcome": "approve",
    "by": "challenge",
    "method": "passkey",
}
VIEW: Example = {
    "decision": DECISION,
    "status": "pending",
    "outcome_now": "challenge",
    "due": "2026-03-04T12:10:00.120000Z",
    "result": None,
    "history": [_DECIDED],
}
PASSED: Example = {"passed": True, "method": "passkey", "at": "2026-03-04T12:01:30Z"}
SETTLED: Example = {"status": "settled", "at": "2026-03-04T12:02:00Z"}
AFTER_CHALLENGE: Example = VIEW | {
    "status": "final",
    "outcome_now": "approve",
    "due": None,
    "history": [_DECIDED, _CHALLENGED],
}
AFTER_SETTLEMENT: Example = AFTER_CHALLENGE | {
    "result": "settled",
    "history": [
        _DECIDED,
        _CHALLENGED,
        {
            "at": "2026-03-04T12:02:00.000000Z",
            "change": "settled",
            "outcome": "approve",
            "by": "payment",
            "method": None,
        },
    ],
}
LABELS: Example = {
    "labels": [
        {"transaction_id": "t-20260304-1", "label": "fraud", "reported_at": "2026-03-09T08:30:00Z"},
        {
            "transaction_id": "elsewhere-1",
            "label": "legitimate",
            "reported_at": "2026-03-09T08:30:00Z",
            "payer_id": "payer-1",
            "payee_id": None,
            "occurred_at": "2026-03-01T10:00:00Z",
        },
    ]
}
LABEL_RESULTS: Example = {
    "results": [
        {"transaction_id": "t-20260304-1", "status": "accepted", "errors": []},
        {
            "transaction_id": "elsewhere-1",
            "status": "rejected",
            "errors": [
                {
                    "field": "payer_id",
                    "rule": "contradiction",
                    "message": "must be what is stored under this transaction_id, or left out",
                }
            ],
        },
    ]
}
INVITATIONS: Example = {
    "invitations": [
        {
            "invitation_id": "i-20260304-1",
            "inviter_id": "account-1",
            "invitee_id": "account-2",
            "occurred_at": "2026-03-04T09:15:00Z",
        },
        {
            "invitation_id": "i-20260304-2",
            "inviter_id": "account-1",
            "invitee_id": "account-1",
            "occurred_at": "2026-03-04T09:20:00Z",
        },
    ]
}
INVITATION_RESULTS: Example = {
    "results": [
        {"invitation_id": "i-20260304-1", "status": "accepted", "errors": []},
        {
            "invitation_id": "i-20260304-2",
            "status": "refused",
            "errors": [{"field": "invitee_id", "rule": "invalid", "message": "must differ from inviter_id"}],
        },
    ]
}
REPORTS: Example = {
    "reports": [
        {
            "report_id": "r-20260309-1",
            "transaction_id": "t-20260304-1",
            "reporter_id": "payer-1",
            "category": "fake_shop",
            "text": "The jacket came in another size, and the shop does not take it back.",
            "reported_at": "2026-03-09T08:30:00Z",
        },
        {
            "report_id": "r-20260309-2",
            "transaction_id": "t-20260304-1",
            "reporter_id": "payer-1",
            "category": "impersonation",
            "reported_at": "2026-03-01T08:30:00Z",
        },
    ]
}
REPORT: Example = {
    "report_id": "r-20260309-1",
    "transaction_id": "t-20260304-1",
    "reporter_id": "payer-1",
    "role": "payer",
    "category": "fake_shop",
    "reported_at": "2026-03-09T08:30:00.000000Z",
    "received_at": "2026-03-09T08:30:02.000000Z",
    "known": True,
    "status": "dispute",
    "ended_at": "2026-03-09T08:30:02.000000Z",
    "triage": {
        "verdict": "dispute",
        "probability": 0.0231,
        "reasons": [{"code": "words", "text": "The words are as usual for disputes."}],
    },
}
REPORT_RESULTS: Example = {
    "results": [
        {"report_id": "r-20260309-1", "status": "accepted", "errors": [], "report": REPORT},
        {
            "report_id": "r-20260309-2",
            "status": "refused",
            "errors": [
                {"field": "category", "rule": "unknown_value", "message": "must be one of item_not_received, ..."}
            ],
            "report": None,
        },
    ]
}
DENY: Example = {"reason": "card testing, case 17", "expires_at": "2026-12-31T00:00:00Z"}
ALLOW: Example = {"reason": "verified by phone", "expires_at": "2026-03-11T00:00:00Z", "silences": ["VELOCITY"]}
CONFIRM: Example = {"set_at": "2026-03-04T12:00:00.000000Z"}
_BY = "arn:aws:sts::123456789012:assumed-role/fraud-analyst/ann"


def list_page(entry: Example) -> Example:
    """Return a page with one device, the only one on its list."""
    listed = {"value": "device-1", "active": True, "pending": False, "entry": _shown(entry)}
    return {"kind": "device", "entries": [listed], "next": None}


def list_view(entry: Example) -> Example:
    """Return the view of one device after one change."""
    shown = _shown(entry)
    change = {"at": "2026-03-04T12:00:00.000000Z", "by": _BY, "before": None, "after": shown}
    view = {"kind": "device", "value": "device-1", "active": True, "pending": False, "entry": shown}
    return view | {"history": [change], "earlier": None}


def _shown(entry: Example) -> Example:
    """Return an entry of one person as it is shown."""
    by = {"set_by": _BY, "set_at": "2026-03-04T12:00:00.000000Z", "confirmed_by": None, "confirmed_at": None}
    return {"silences": None} | entry | by


def problem(status: int, title: str, **more: Any) -> Example:  # noqa: ANN401 - JSON
    """Return a problem of this system."""
    return {"type": "about:blank", "title": title, "status": status, "errors": [], "request_id": REQUEST_ID} | more


EVENT: Example = {
    "version": "1",
    "event_id": "0f343b0931126a20f133d67c2b018a3b",
    "transaction_id": "t-20260304-1",
    "type": "p2p",
    "payer_id": "payer-1",
    "payee_id": "payee-1",
    "amount": 4200,
    "currency": "JPY",
    "occurred_at": "2026-03-04T12:00:00.000000Z",
    "decided_at": "2026-03-04T12:00:00.120000Z",
    "outcome": "challenge",
    "score": 0.0421,
    "codes": ["VELOCITY"],
    "segment": "standard",
    "degraded": [],
    "estimated": [],
    "recounted": False,
    "model_version": "embedded-3f2a9c01",
    "policy_version": "packaged-1-5d41402a",
}

SAMPLED: Example = {
    "version": "1",
    "event_id": "c1a9e07f6d2b4835a0f94e6b17d3c852",
    "transaction_id": "t-20260304-1",
    **{
        name: EVENT[name]
        for name in ("type", "payer_id", "payee_id", "amount", "currency", "occurred_at", "decided_at")
    },
}

MARKED: Example = SAMPLED | {
    "event_id": "5d0c2f9e8b7a41639c58d2e17f604ab3",
    "outcome": "challenge",
    "role": "payee",
    "account_id": EVENT["payee_id"],
    "view": "invite",
    "shape": "forked_chain",
    "lift": 10.9,
    "snapshot": 7,
}

CHANGE: Example = {
    "version": "1",
    "event_id": "7b1e43a9c0d2f5886a4c1d90e2b37f15",
    "transaction_id": "t-20260304-1",
    **{
        name: EVENT[name]
        for name in ("type", "payer_id", "payee_id", "amount", "currency", "occurred_at", "decided_at")
    },
    "at": "2026-03-04T12:01:30.000000Z",
    "change": "challenge_passed",
    "outcome": "challenge",
    "outcome_now": "approve",
}

_CASE: Example = {
    "version": "1",
    "case_id": "VHX3ZP6CVQ6QYJ6CW3XMZ2Q7AA",
    "subject_kind": "payee",
    "subject_id": "payee-1",
    "transaction_ids": ["t-20260304-1"],
}

HOLD: Example = _CASE | {
    "event_id": "2f1c0a9b8d7e6f5a4b3c2d1e0f9a8b7c",
    "at": "2026-03-04T12:00:01.000000Z",
    "reasons": ["A payment waits in review whose receiver has confirmed fraud by other payers within 30 days."],
}

OUTREACH: Example = _CASE | {
    "event_id": "9a8b7c6d5e4f3a2b1c0d9e8f7a6b5c4d",
    "at": "2026-03-04T13:10:00.000000Z",
    "payer_ids": ["payer-1"],
    "not_before": "2026-03-05T00:00:00.000000Z",
    "due": "2026-03-07T00:00:00.000000Z",
    "attempts": 0,
    "attempts_allowed": 3,
}

CLOSED: Example = _CASE | {
    "event_id": "1d2c3b4a5f6e7d8c9b0a1f2e3d4c5b6a",
    "at": "2026-03-04T14:00:00.000000Z",
    "finding": "fraud",
    "subject_is": "offender",
    "judged_ids": _CASE["transaction_ids"],
    "report_ids": [],
    "opened_at": "2026-03-04T12:00:01.000000Z",
}

CASE_FAILED: Example = _CASE | {
    "event_id": "6f5e4d3c2b1a0f9e8d7c6b5a4f3e2d1c",
    "at": "2026-03-04T12:20:00.000000Z",
}

REPORTED: Example = {
    "version": "1",
    "event_id": "5b1fd0cc4f2d2a5f4c1d0f7d2b3f7a90",
    "report_id": "r-20260309-3",
    "transaction_id": "t-20260304-1",
    "reporter_id": "payer-1",
    "role": "payer",
    "payer_id": "payer-1",
    "payee_id": "payee-1",
    "occurred_at": "2026-03-04T12:00:00.000000Z",
    "reported_at": "2026-03-09T08:30:00.000000Z",
    "received_at": "2026-03-09T08:30:02.000000Z",
    "category": "impersonation",
    "verdict": "fraud",
    "probability": 0.9712,
}
