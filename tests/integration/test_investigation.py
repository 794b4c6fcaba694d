"""`python -m tests.acceptance.investigation` in small: one day with everything three times, and kills before writes."""

from fraud.cases.case import State, case_id
from tests.acceptance.investigation import FAILED, FRIEND, MULE, NOON, SHOP, Grim, lived


def test_nothing_is_done_twice_and_nothing_is_lost_by_redelivery_and_kills() -> None:
    grim = Grim(share=0.2, seed=7)
    found = lived(grim, 7)
    assert grim.kills > 5
    findings = {name: case["verdict"] for name, case in found.cases.items()}
    named = {subject: case_id(subject, NOON) for subject in (MULE, FRIEND, SHOP, FAILED, "payer#f")}
    assert findings == {
        named[MULE]: ("fraud", "analyst-1"),
        named[FRIEND]: ("legitimate", "analyst-1"),
        named[SHOP]: ("dispute", "analyst-1"),
        named[FAILED]: ("inconclusive", "analyst-1"),
        named["payer#f"]: ("inconclusive", "system"),
    }
    assert {case["state"] for case in found.cases.values()} == {State.CLOSED}
    assert all(times == 1 for case in found.cases.values() for times in case["changes"].values())
    assert found.executions == dict.fromkeys(found.cases, "SUCCEEDED")
    assert found.labels == {
        "t-1": [("fraud", "analyst-1")],
        "t-2": [("fraud", "analyst-1")],
        "t-3": [("legitimate", "analyst-1")],
    }
    assert [found.decisions[name] for name in ("t-1", "t-2", "t-3")] == [
        ["review_declined"],
        ["review_declined"],
        ["review_approved"],
    ]
    assert sum(kind == "CaseClosed" for kind, _ in found.events) == len(found.cases)
    assert sum(kind == "OutreachRequested" for kind, _ in found.events) == 1
