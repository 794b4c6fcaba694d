"""Examples of bodies about models and retrainings, and of their events on the bus."""

from operations.contract.examples import Example

RETRAINING_ID, VERSION, CHAMPION = "5b0f1c6d2e9a47f08c31", "embedded-2c743b6306d6", "embedded-136adff39c13"
_DIGEST = "9cc6b225eba18ea7955d33edba18718d39eb2a009b38cf2ed69f77de9dfdf647"

RETRAIN: Example = {"request_id": "retrain-1", "reason": "a new tactic with gift cards"}
REASON: Example = {"reason": "the gain is on the tactic that we miss"}
_CHECKS: list[Example] = [
    {"check": "gain", "passed": True, "said": "average precision +0.0212 (+0.0041 to +0.0390), its lower end above 0"},
    {"check": "friction", "passed": True, "said": "0.91% of at most 1.00%"},
]
REQUESTED: Example = {
    "retraining_id": RETRAINING_ID,
    "cause": {
        "kind": "lead",
        "id": "retrain-1",
        "by": "mio",
        "reason": "a new tactic with gift cards",
        "not_inferior": None,
    },
    "opened_at": "2026-03-04T13:00:00Z",
    "state": "requested",
    "champion": None,
    "champion_sha256": None,
    "tries": 1,
    "jobs": {},
    "gate": None,
    "shadow_since": None,
    "shadow_gate": None,
    "model": None,
    "package": None,
    "decision": None,
    "rollback": None,
    "failed_step": None,
    "alarm": None,
    "run": 1,
    "due": None,
    "rests_until": None,
    "since": "2026-03-04T13:00:00Z",
    "changed_at": "2026-03-04T13:00:00Z",
    "version": 1,
}
REGISTERED: Example = REQUESTED | {
    "state": "registered",
    "champion": CHAMPION,
    "champion_sha256": _DIGEST,
    "jobs": {
        "built": f"{RETRAINING_ID}-built-1-1",
        "trained": f"{RETRAINING_ID}-trained-1-1",
        "evaluated": f"{RETRAINING_ID}-evaluated-1-1",
    },
    "gate": {"policy": "1", "checks": _CHECKS},
    "model": {
        "version": VERSION,
        "key": f"models/{_DIGEST}",
        "trees_sha256": "be1325696728fc414c4eb099eb04437df59e9a2303161e84b42f01c4d38b778d",
        "manifest_sha256": _DIGEST,
    },
    "package": "arn:aws:sagemaker:us-east-1:123456789012:model-package/fraud-models/1",
    "due": "2026-03-11T14:00:00Z",
    "since": "2026-03-04T14:00:00Z",
    "changed_at": "2026-03-04T14:00:00Z",
    "version": 8,
}
_DECIDED: Example = {"decision": "approved", "reason": REASON["reason"], "by": "mio", "at": "2026-03-05T09:00:00Z"}
_LATER: Example = {"since": "2026-03-05T09:00:00Z", "changed_at": "2026-03-05T09:00:00Z", "due": None, "version": 9}
APPROVED: Example = REGISTERED | _LATER | {"state": "approved", "decision": _DECIDED}
REJECTED: Example = REGISTERED | _LATER | {"state": "rejected", "decision": _DECIDED | {"decision": "rejected"}}
ROLLED_BACK: Example = APPROVED | {
    "state": "rolled_back",
    "rollback": _DECIDED | {"decision": "rolled_back", "at": "2026-03-09T09:00:00Z"},
    "since": "2026-03-09T09:00:00Z",
    "changed_at": "2026-03-09T09:00:00Z",
    "version": 16,
}
MODELS: Example = {
    "champion": CHAMPION,
    "previous": None,
    "challenger": VERSION,
    "canary_share": 0.0,
    "revision": 3,
    "retrainings": [APPROVED | {"state": "shadow", "shadow_since": "2026-03-05T09:00:10Z", "version": 10}],
    "cursor": None,
}
RETRAINING_NOW: Example = {
    "retraining_id": RETRAINING_ID,
    "state": "expired",
    "version": 9,
    "decided_by": None,
}
MODELS_NOW: Example = {"champion": CHAMPION, "challenger": None, "canary_share": 0.0, "revision": 7}

_EVENT: Example = {
    "version": "1",
    "event_id": "0f343b0931126a20f133d67c2b018a3b",
    "retraining_id": RETRAINING_ID,
    "cause": "lead",
    "model": VERSION,
    "champion": CHAMPION,
    "at": "2026-03-04T14:00:00Z",
}
AWAITS: Example = _EVENT | {"due": "2026-03-11T14:00:00Z"}
PROMOTED: Example = dict(_EVENT)
TAKEN_BACK: Example = _EVENT | {"why": "alarm"}
ENDED: Example = _EVENT | {"model": None, "state": "refused", "failed_checks": ["gain"], "step": None}
