"""Examples of bodies of the API for people, as `examples` has those of the API for systems."""

from operations.contract.examples import Example

CASE_NOW: Example = {
    "state": "concluding",
    "version": 6,
    "assignee": "hana",
    "finding": "fraud",
    "judged_by": "hana",
}
_ALERT: Example = {
    "transaction_id": "t-20260304-1",
    "kind": "alert",
    "subject_kind": "payee",
    "subject_id": "payee-1",
    "occurred_at": "2026-03-04T12:00:00Z",
    "reason": "FAN_IN_BURST",
    "report_id": None,
    "tactics": None,
}
NEW_CASE: Example = {
    "case_id": "KRSXG5CTMVZWS33OGEZDGNBVGY",
    "kind": "alert",
    "subject_kind": "payee",
    "subject_id": "payee-1",
    "opened_at": "2026-03-04T12:00:01Z",
    "state": "collecting",
    "level": "analyst",
    "assignee": None,
    "lease_until": None,
    "due": "2026-03-04T16:00:01Z",
    "sla_from": "2026-03-04T12:00:01Z",
    "sla_step": 0,
    "alerts": ["t-20260304-1"],
    "reports": [],
    "reasons": ["FAN_IN_BURST"],
    "outreach": None,
    "verdict": None,
    "changed_at": "2026-03-04T12:00:01Z",
    "version": 1,
}
CASE: Example = NEW_CASE | {
    "state": "assigned",
    "assignee": "hana",
    "lease_until": "2026-03-04T12:40:00Z",
    "changed_at": "2026-03-04T12:10:00Z",
    "version": 3,
}
CASE_SUMMARY: Example = {
    "case_id": "KRSXG5CTMVZWS33OGEZDGNBVGY",
    "kind": "alert",
    "subject_kind": "payee",
    "subject_id": "payee-1",
    "state": "assigned",
    "level": "analyst",
    "assignee": "hana",
    "lease_until": "2026-03-04T12:40:00Z",
    "opened_at": "2026-03-04T12:00:01Z",
    "due": "2026-03-04T16:00:01Z",
    "reasons": ["FAN_IN_BURST"],
    "alerts": 1,
    "reports": 0,
    "finding": None,
    "version": 3,
}
CASE_CHANGE: Example = {
    "version": 1,
    "at": "2026-03-04T12:00:01Z",
    "by": "system",
    "role": "system",
    "event": {
        "kind": "alerted",
        "note": None,
        "assignee": None,
        "finding": None,
        "subject_is": None,
        "transaction_ids": None,
        "answer": None,
        "alert": _ALERT,
    },
}
OPEN_CASE: Example = {
    "transaction_id": "t-20260304-1",
    "subject_kind": "payer",
    "reason": "The payer called: the phone was stolen.",
}
LOOK: Example = {"by": "hana", "at": "2026-03-04T12:11:00Z"}
JOINED: Example = {"transaction_ids": ["t-20260304-2"], "decisions": [], "reports": []}
EVIDENCE: Example = {
    "case_id": "KRSXG5CTMVZWS33OGEZDGNBVGY",
    "kind": "payee",
    "subject": "payee-1",
    "by_hand": False,
    "collected_at": "2026-03-04T12:00:02.000000Z",
    "alerts": 1,
    "decisions": [],
    "accounts": [],
    "earlier": [],
    "reports": [],
    "joined_reports": 0,
}
EVIDENCE_VIEW: Example = {
    "evidence": EVIDENCE,
    "joined": JOINED,
    "reports": [
        {
            "report_id": "r-20260304-1",
            "transaction_id": "t-20260304-1",
            "reporter_id": "payer-1",
            "role": "payer",
            "category": "fake_shop",
            "reported_at": "2026-03-05T12:00:00Z",
            "received_at": "2026-03-05T12:00:01Z",
            "known": True,
            "status": "open",
            "ended_at": None,
            "triage": {"verdict": "fraud", "probability": 0.91, "reasons": []},
            "text": "The shop does not answer.",
        }
    ],
    "looks": [LOOK],
}
