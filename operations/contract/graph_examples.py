"""Examples of the events of the machine `graph`."""

from operations.contract.examples import Example

_EVENT: Example = {
    "version": "1",
    "event_id": "0f343b0931126a20f133d67c2b018a3b",
    "run_id": "6f1c1d0e-5f5c-4b7e-9a53-1d2a2f1f4a10",
    "as_of": "2026-06-01T00:00:00.000000Z",
}
PUBLISHED: Example = _EVENT | {
    "snapshot": 12,
    "accounts": 4_180_000,
    "marked": 9_206,
    "erased": 3,
    "views": {"invite": 6_010, "p2p_7d": 3_199},
}
KEPT: Example = _EVENT | {
    "why": "gate",
    "step": None,
    "failed_checks": [
        "shapes: invite/forked_chain: 120 components, now 640 by more than a factor of 3 since the published snapshot"
    ],
    "in_force": 11,
}
CHANGED: Example = _EVENT | {
    "view": "invite",
    "kind": "accounts",
    "sentence": "accounts younger than 7 days that sit in relay chains that fork: 96 in the window, 4 expected",
    "accounts": 96,
    "expected": 4.2,
    "rate": 0.012,
    "counterfactual": 0.0005,
    "window_from": "2026-05-25T00:00:00.000000Z",
    "account_ids": ["acct-81", "acct-82", "acct-97"],
    "account_id": "acct-81",
    "transaction_id": "txn-20260530-0007",
    "occurred_at": "2026-05-30T18:04:11.000000Z",
    "case": True,
}
