"""Examples of bodies about accounts, for both APIs, and of the events of accounts on the bus."""

from operations.contract.examples import Example

ACCOUNT_ID, ACTION_ID, CASE_ID = "payee-1", "MFRGGZDFMZTWQ2LKNNWG23TPOA", "KRSXG5CTMVZWS33OGEZDGNBVGY"
APP = "arn:aws:sts::123456789012:assumed-role/payment-app/app"

HOLD: Example = {"reason": "a new device has changed the password", "until": "2026-03-05T12:00:00Z"}
RELEASE: Example = {"reason": "the user has proved who he is"}
ACK: Example = {"status": "deactivated"}
APPEAL: Example = {"appeal_id": "appeal-1", "text": "These are the fees of my chess club."}
DECIDE: Example = {"reason": "looked at by hand: these are mules"}
REVIEW: Example = {"decision": "overturn", "reason": "the club exists", "told": "We have looked at it again."}
BACK: Example = {"reason": "the rule that led here was wrong", "told": "Your account was closed by mistake."}
ORDER: Example = {"order_id": "order-1", "account_ids": ["payee-1", "payee-2"], "reason": "mules of one recruiter"}

_CAUSE: Example = {
    "kind": "finding",
    "id": CASE_ID,
    "by": "hana",
    "reason": "the payers deny the payments",
    "rule": "FAN_IN_BURST",
    "model_version": "embedded-3f2a9c01",
    "transaction_ids": ["t-20260304-1"],
}
ACTION: Example = {
    "action_id": ACTION_ID,
    "account_id": ACCOUNT_ID,
    "cause": _CAUSE,
    "opened_at": "2026-03-04T13:00:00Z",
    "state": "appealable",
    "undo": None,
    "entries": [{"kind": "device", "value": "device-1", "set_at": "2026-03-04T13:00:02.000000Z"}],
    "notices": 0,
    "acknowledged": ["deactivated"],
    "appeal": None,
    "review": None,
    "queue_decision": None,
    "failed_step": None,
    "due": "2026-03-18T13:00:09Z",
    "changed_at": "2026-03-04T13:00:09Z",
    "version": 9,
}
APPEALED: Example = ACTION | {
    "state": "appealed",
    "appeal": APPEAL | {"at": "2026-03-06T09:00:00Z"},
    "due": "2026-03-09T09:00:00Z",
    "changed_at": "2026-03-06T09:00:00Z",
    "version": 10,
}
OVERTURNED: Example = APPEALED | {
    "state": "undoing",
    "undo": "reinstatement",
    "review": {
        "decision": "overturned",
        "reason": REVIEW["reason"],
        "told": REVIEW["told"],
        "by": "mio",
        "at": "2026-03-06T10:00:00Z",
    },
    "due": None,
    "changed_at": "2026-03-06T10:00:00Z",
    "version": 11,
}
QUEUED: Example = ACTION | {
    "state": "queued",
    "entries": [],
    "acknowledged": [],
    "due": "2026-03-11T13:00:01Z",
    "changed_at": "2026-03-04T13:00:01Z",
    "version": 2,
}
RELEASED: Example = QUEUED | {
    "state": "opened",
    "queue_decision": DECIDE | {"decision": "released", "by": "mio", "at": "2026-03-04T14:00:00Z"},
    "due": None,
    "changed_at": "2026-03-04T14:00:00Z",
    "version": 3,
}
_HELD: Example = {
    "at": "2026-03-04T12:00:00Z",
    "by": APP,
    "role": "app",
    "what": "held",
    "of": "account",
    "state": "held",
    "version": 1,
    "action_id": None,
    "reason": HOLD["reason"],
}
HELD: Example = {
    "account_id": ACCOUNT_ID,
    "status": "held",
    "version": 1,
    "until": HOLD["until"],
    "hold": HOLD | {"by": APP, "at": "2026-03-04T12:00:00Z"},
    "action": None,
    "history": [_HELD],
    "earlier": None,
    "facts": None,
}
ACTIVE: Example = HELD | {
    "status": "active",
    "version": 2,
    "until": None,
    "hold": None,
    "history": [
        _HELD,
        _HELD
        | {
            "at": "2026-03-04T12:30:00Z",
            "what": "released",
            "state": "active",
            "version": 2,
            "reason": RELEASE["reason"],
        },
    ],
}
STOPPED: Example = HELD | {
    "status": "deactivated",
    "version": 4,
    "until": None,
    "hold": None,
    "action": ACTION,
    "facts": {
        "account_id": ACCOUNT_ID,
        "status": {"state": "deactivated", "version": 4},
        "marked": None,
        "deny": None,
        "allow": None,
        "recent": [],
        "links": [],
        "inferred": [
            {
                "account_id": "payee-2",
                "score": 2.352935,
                "evidence": [{"kind": "account", "value": "payer-1"}, {"kind": "device", "value": None}],
                "as_of": "2026-03-04T00:00:00Z",
            },
        ],
    },
}
PENDING: Example = ORDER | {
    "by": "mio",
    "ordered_at": "2026-03-04T15:00:00Z",
    "state": "pending",
    "decided_by": None,
    "decision_reason": None,
    "actions": {},
    "version": 1,
}
DONE: Example = PENDING | {
    "state": "done",
    "decided_by": "ren",
    "decision_reason": DECIDE["reason"],
    "actions": {"payee-1": ACTION_ID, "payee-2": None},
    "version": 3,
}
ACCOUNT_NOW: Example = {"status": "held", "version": 1, "action_id": None}
ACTION_NOW: Example = {"action_id": ACTION_ID, "state": "closed", "version": 11, "reviewed_by": "mio"}
ORDER_NOW: Example = {"order_id": "order-1", "state": "cancelled", "decided_by": "ren"}

_EVENT: Example = {
    "version": "1",
    "event_id": "0f343b0931126a20f133d67c2b018a3b",
    "action_id": ACTION_ID,
    "account_id": ACCOUNT_ID,
    "cause": "finding",
    "cause_id": CASE_ID,
    "at": "2026-03-04T13:00:05.000000Z",
}
EVENT_DEACTIVATED: Example = _EVENT | {"status": "deactivated", "notice": 1}
EVENT_REINSTATED: Example = _EVENT | {"status": "active", "notice": 1}
EVENT_QUEUED: Example = _EVENT | {"due": "2026-03-11T13:00:01.000000Z"}
EVENT_UNACKNOWLEDGED: Example = _EVENT | {"status": "deactivated"}
EVENT_FAILED: Example = _EVENT | {"step": "DenyInstruments", "undo": "compensation"}
EVENT_APPEAL: Example = _EVENT | {"appeal_id": "appeal-1", "due": "2026-03-09T09:00:00.000000Z"}
EVENT_OVERDUE: Example = _EVENT | {"appeal_id": "appeal-1"}
